//! DynamoDB's condition and update expressions, as far as the product writes them. Anything else is an error.

use super::lean;
use super::model::Item;
use serde_json::Value;
use std::borrow::Cow;

/// Placeholders of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    body: &'a Value,
}

impl<'a> Names<'a> {
    /// Those of a request's body.
    pub(super) fn of(body: &'a Value) -> Self {
        Self { body }
    }

    /// The parts of a path: `#last.hash`.
    fn path<'n>(&self, word: &'n str) -> Result<Vec<&'n str>, String>
    where
        'a: 'n,
    {
        let part = |part: &'n str| match part.starts_with('#') {
            true => self.body["ExpressionAttributeNames"][part].as_str().ok_or(format!("{part} has no name")),
            false => Ok(part),
        };
        word.split('.').map(part).collect()
    }

    fn value(&self, word: &str) -> Result<&'a Value, String> {
        self.body["ExpressionAttributeValues"].get(word).ok_or(format!("{word} has no value"))
    }
}

/// `a = :b`, `(`, `)`, `,` as single words.
fn words(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '(' | ')' | ',' | '+' => spaced.extend([' ', c, ' ']),
            c => spaced.push(c),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// Whether a condition holds for an item.
pub(super) fn holds(text: &str, names: &Names<'_>, item: &Item) -> Result<bool, String> {
    let words = words(text);
    let mut reader = Reader { words: &words, at: 0, names, item };
    let value = reader.either()?;
    match reader.at == words.len() {
        true => Ok(value),
        false => Err(format!("'{}' is not understood in '{text}'", words[reader.at])),
    }
}

struct Reader<'a> {
    words: &'a [String],
    at: usize,
    names: &'a Names<'a>,
    item: &'a Item,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<&'a str, String> {
        let word = self.words.get(self.at).ok_or("the expression ends too early")?;
        self.at += 1;
        Ok(word)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is = self.words.get(self.at).is_some_and(|word| word == wanted);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("'{wanted}' is missing")) }
    }

    fn either(&mut self) -> Result<bool, String> {
        let mut value = self.both()?;
        while self.take("OR") {
            value |= self.both()?;
        }
        Ok(value)
    }

    fn both(&mut self) -> Result<bool, String> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Ok(value)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("NOT") {
            return Ok(!self.one()?);
        }
        if self.take("(") {
            let value = self.either()?;
            self.expect(")")?;
            return Ok(value);
        }
        let word = self.next()?;
        if word == "attribute_exists" || word == "attribute_not_exists" {
            self.expect("(")?;
            let path = self.names.path(self.next()?)?;
            self.expect(")")?;
            return Ok(find(self.item, &path).is_some() == (word == "attribute_exists"));
        }
        let left = find(self.item, &self.names.path(word)?);
        let operator = self.next()?;
        let right = self.names.value(self.next()?)?;
        let left = left.as_deref();
        let order = left.and_then(|left| compare(left, right));
        match operator {
            "=" => Ok(left == Some(right)),
            "<>" => Ok(left != Some(right)),
            "<" => Ok(order.is_some_and(|order| order.is_lt())),
            "<=" => Ok(order.is_some_and(|order| order.is_le())),
            ">" => Ok(order.is_some_and(|order| order.is_gt())),
            ">=" => Ok(order.is_some_and(|order| order.is_ge())),
            other => Err(format!("operator '{other}' is not known here")),
        }
    }
}

/// What stands at a path.
fn find<'i>(item: &'i Item, path: &[&str]) -> Option<Cow<'i, Value>> {
    let (first, rest) = path.split_first()?;
    let top = item.get(*first)?;
    let Some((part, rest)) = rest.split_first() else { return Some(Cow::Borrowed(top)) };
    let inside = lean::inside(top.get("M")?);
    rest.iter().try_fold(inside.get(*part)?, |value, part| value.get("M")?.get(*part)).cloned().map(Cow::Owned)
}

/// The one part of a path that an update may name.
fn top<'p>(path: &[&'p str]) -> Result<&'p str, String> {
    match path {
        [one] => Ok(one),
        _ => Err("an update of a part of an attribute is more than this cloud knows".into()),
    }
}

fn compare(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    let number = |value: &Value| value.get("N")?.as_str()?.parse::<f64>().ok();
    let text = |value: &Value| value.get("S")?.as_str().map(str::to_owned);
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => Some(text(left)?.cmp(&text(right)?)),
    }
}

/// Carries out `SET a = :b, c = :d REMOVE e`.
pub(super) fn update(text: &str, names: &Names<'_>, item: &mut Item) -> Result<(), String> {
    let words = words(text);
    let (mut at, mut clause) = (0, "");
    while at < words.len() {
        let word = words[at].as_str();
        match word {
            "SET" | "REMOVE" => {
                clause = word;
                at += 1;
            }
            "," => at += 1,
            word if clause == "REMOVE" => {
                item.remove(top(&names.path(word)?)?);
                at += 1;
            }
            word if clause == "SET" => {
                let path = top(&names.path(word)?)?.to_owned();
                let [equals, value] = words.get(at + 1..at + 3).unwrap_or_default() else {
                    return Err(format!("'{text}' ends too early"));
                };
                if equals != "=" || words.get(at + 3).is_some_and(|word| word == "+" || word == "(") {
                    return Err(format!("'{text}' is more than this cloud knows"));
                }
                item.insert(path, names.value(value)?.clone());
                at += 3;
            }
            word => return Err(format!("'{word}' is not known here")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item() -> Item {
        json!({ "owner": { "S": "me" }, "fence": { "N": "3" } }).as_object().unwrap().clone()
    }

    fn check(expression: &str) -> Result<bool, String> {
        let body = json!({
            "ExpressionAttributeNames": { "#o": "owner" },
            "ExpressionAttributeValues": { ":o": { "S": "me" }, ":f": { "N": "3" }, ":g": { "N": "10" } },
        });
        holds(expression, &Names::of(&body), &item())
    }

    #[test]
    fn conditions_as_dynamodb_reads_them() {
        assert_eq!(check("#o = :o AND fence = :f"), Ok(true));
        assert_eq!(check("attribute_not_exists(operation_id)"), Ok(true));
        assert_eq!(check("NOT attribute_exists(fence) OR fence < :g"), Ok(true));
        assert_eq!(check("#o = :o AND (fence = :g OR fence > :g)"), Ok(false));
        assert!(check("begins_with(owner, :o)").is_err());
        assert!(check("fence = :nothing").is_err());
    }

    #[test]
    fn updates_as_dynamodb_makes_them() {
        let body = json!({ "ExpressionAttributeNames": { "#o": "owner" }, "ExpressionAttributeValues": { ":f": { "N": "4" } } });
        let mut changed = item();
        update("SET fence = :f, other = :f REMOVE #o", &Names::of(&body), &mut changed).unwrap();
        assert_eq!(serde_json::Value::Object(changed), json!({ "fence": { "N": "4" }, "other": { "N": "4" } }));
        assert!(update("SET fence = fence + :f", &Names::of(&body), &mut item()).is_err());
    }
}
