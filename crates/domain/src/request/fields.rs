//! Reads a JSON object field by field, collecting problems instead of stopping at the first.
//!
//! serde stops at the first problem and names it by line and column; a person who starts an execution in the console
//! wants to see all of them at once, by field.

use crate::ids::IdError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, for instance `retention.copies`.
    pub field: String,
    /// The value it had; empty when it was not given.
    pub got: String,
    /// What is accepted there.
    pub takes: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, got, takes } = self;
        match got.as_str() {
            "" => write!(f, "{field}: needs {takes}"),
            got => write!(f, "{field}: got {got}; takes {takes}"),
        }
    }
}

const VALUE_SHOWN: usize = 100;

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

pub(super) struct Fields<'a> {
    path: String,
    object: Option<&'a Map<String, Value>>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// The fields of the request itself; anything but an object, and any field not in `known`, is a problem.
    pub(super) fn new(value: &'a Value, known: &[&str]) -> Self {
        Self::at(String::new(), value, known)
    }

    fn at(path: String, value: &'a Value, known: &[&str]) -> Self {
        let mut fields = Self { path, object: value.as_object(), problems: Vec::new() };
        match fields.object {
            None => {
                let field = if fields.path.is_empty() { "the request" } else { fields.path.as_str() }.to_owned();
                fields.problems.push(Problem { field, got: shown(value), takes: "a JSON object".into() });
            }
            Some(object) => {
                for (key, value) in object.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
                    let takes = match nearest(key, known) {
                        Some(near) => format!("no such field; did you mean '{near}'?"),
                        None => format!("no such field; the fields are {}", known.join(", ")),
                    };
                    fields.problem(key, &shown(value), &takes);
                }
            }
        }
        fields
    }

    fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// JSON null counts as "not given", as it does for AWS.
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.object?.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub(super) fn problem(&mut self, name: &str, got: &str, takes: &str) {
        let got = if got.is_empty() { "\"\"" } else { got }.to_owned();
        self.problems.push(Problem { field: self.name(name), got, takes: takes.into() });
    }

    pub(super) fn problem_missing(&mut self, name: &str, needs: &str) {
        self.problems.push(Problem { field: self.name(name), got: String::new(), takes: needs.into() });
    }

    pub(super) fn problem_if_absent(&mut self, name: &str, needs: &str) {
        if !self.has(name) {
            self.problem_missing(name, needs);
        }
    }

    fn typed<T>(&mut self, name: &str, takes: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.value(name)?;
        let read = read(value);
        if read.is_none() {
            self.problem(name, &shown(value), takes);
        }
        read
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.typed(name, "a text that is not empty", |value| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        })
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn number(&mut self, name: &str) -> Option<f64> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(super) fn whole(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        self.typed(name, &format!("a whole number from {least} to {most}"), |value| {
            value.as_i64().filter(|number| (least..=most).contains(number))
        })
    }

    pub(super) fn id<T: for<'t> TryFrom<&'t str, Error = IdError>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        match T::try_from(text.as_str()) {
            Ok(id) => Some(id),
            Err(error) => {
                self.problem(name, &format!("'{text}'"), &error.to_string());
                None
            }
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        self.typed(name, "a list of texts", |value| {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        })
    }

    pub(super) fn text_map(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        self.typed(name, "an object of texts", |value| {
            value.as_object()?.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        })
    }

    /// A nested object; give it back with [`Fields::absorb`].
    pub(super) fn object(&mut self, name: &str, known: &[&str]) -> Option<Fields<'a>> {
        let value = self.value(name)?;
        Some(Fields::at(self.name(name), value, known))
    }

    /// Nested objects by their keys, which may be any; give each back with [`Fields::absorb`].
    pub(super) fn objects_by_key(&mut self, name: &str, known: &[&str]) -> Option<Vec<(String, Fields<'a>)>> {
        let items = self.typed(name, "an object of objects", Value::as_object)?;
        let path = self.name(name);
        let nested =
            |(key, item): (&String, &'a Value)| (key.clone(), Fields::at(format!("{path}.{key}"), item, known));
        Some(items.iter().map(nested).collect())
    }

    /// A list of nested objects; give each back with [`Fields::absorb`].
    pub(super) fn objects(&mut self, name: &str, known: &[&str]) -> Option<Vec<Fields<'a>>> {
        let items = self.typed(name, "a list of objects", Value::as_array)?;
        let path = self.name(name);
        Some(
            items.iter().enumerate().map(|(index, item)| Fields::at(format!("{path}[{index}]"), item, known)).collect(),
        )
    }

    pub(super) fn absorb(&mut self, nested: Fields<'a>) {
        self.problems.extend(nested.problems);
    }

    pub(super) fn finish(self) -> Result<(), Vec<Problem>> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems) }
    }
}

/// The known field that a mistyped one most likely meant: same letters but for case, `-` and `_`, or one edit away.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let wanted = plain(key);
    let close = |name: &&&str| {
        let name = plain(name);
        name == wanted || edits(&name, &wanted) <= 2
    };
    known.iter().find(|name| plain(name) == wanted).or_else(|| known.iter().find(close)).copied()
}

/// Levenshtein distance; field names are short.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
