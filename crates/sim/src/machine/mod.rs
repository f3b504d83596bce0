//! The shipped state machine: its definition, read strictly, and the walk through it.

mod walk;

pub use walk::{Ended, Execution, Host, TaskError, walk};

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A definition in the subset that the product uses.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `StartAt`
    pub start_at: String,
    /// `TimeoutSeconds`
    pub timeout_seconds: u64,
    /// By name.
    pub states: BTreeMap<String, State>,
}

/// One state.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // Amazon States Language's own terms
pub enum State {
    Task(Box<Task>),
    Choice { choices: Vec<Branch>, default: Option<String> },
    Wait { seconds_path: String, next: String },
    Pass { result: Value, next: String },
    Succeed,
    Fail { error_path: String, cause_path: String },
}

/// A task of `lambda:invoke`.
#[derive(Debug, Clone)]
pub struct Task {
    /// The function, as the substitution names it: `CopySnapshot`.
    pub function: String,
    /// `Payload`, a template.
    pub payload: Value,
    /// Whether the output is the function's answer (`OutputPath` of `$.Payload`) or the input (`ResultPath` of null).
    pub keeps_input: bool,
    /// `TimeoutSeconds`
    pub timeout: Timeout,
    /// Whether it waits for somebody to answer with its token, after the function has.
    pub waits_for_token: bool,
    /// `Retry`
    pub retriers: Vec<Retrier>,
    /// `Catch`
    pub catchers: Vec<Catcher>,
    /// `Next`
    pub next: String,
}

/// How long a task may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timeout {
    /// `TimeoutSeconds`
    Seconds(u64),
    /// `TimeoutSecondsPath`: a top-level field.
    Path(String),
}

/// One of `Choices`.
#[derive(Debug, Clone)]
pub struct Branch {
    /// The rule, or all of `And`.
    pub rules: Vec<Rule>,
    /// `Next`
    pub next: String,
}

/// A rule that compares one variable.
#[derive(Debug, Clone)]
pub enum Rule {
    /// `StringEquals`: a top-level field and what it is.
    Equals(String, String),
    /// `IsPresent` of the first entry of a top-level list.
    HasEntry(String),
}

/// One of `Retry`.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Retrier {
    pub errors: Vec<String>,
    pub interval_seconds: f64,
    pub max_attempts: u64,
    pub backoff_rate: f64,
    pub max_delay_seconds: f64,
    pub full_jitter: bool,
}

/// One of `Catch`.
#[derive(Debug, Clone)]
pub struct Catcher {
    /// `ErrorEquals`
    pub errors: Vec<String>,
    /// `ResultPath`: a top-level field, or the whole of the input.
    pub field: Option<String>,
    /// `Next`
    pub next: String,
}

/// An object whose every field must be asked for.
struct Reader<'v> {
    place: String,
    fields: Map<String, Value>,
    #[allow(dead_code)]
    whole: &'v Value,
}

impl<'v> Reader<'v> {
    fn of(place: impl Into<String>, value: &'v Value) -> Result<Self, String> {
        let place = place.into();
        match value.as_object() {
            Some(fields) => {
                let mut fields = fields.clone();
                fields.remove("Comment");
                Ok(Self { place, fields, whole: value })
            }
            None => Err(format!("{place}: takes an object")),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    fn need(&mut self, name: &str) -> Result<Value, String> {
        self.take(name).ok_or(format!("{}: needs {name}", self.place))
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        let value = self.need(name)?;
        value.as_str().map(str::to_owned).ok_or(format!("{}: {name} takes a text", self.place))
    }

    fn number(&mut self, name: &str) -> Result<f64, String> {
        let value = self.need(name)?;
        value.as_f64().ok_or(format!("{}: {name} takes a number", self.place))
    }

    fn whole_number(&mut self, name: &str) -> Result<u64, String> {
        let value = self.need(name)?;
        value.as_u64().ok_or(format!("{}: {name} takes a whole number", self.place))
    }

    fn list(&mut self, name: &str) -> Result<Vec<Value>, String> {
        match self.take(name) {
            None => Ok(vec![]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(format!("{}: {name} takes a list", self.place)),
        }
    }

    fn only(&mut self, name: &str, wanted: &Value) -> Result<(), String> {
        match self.take(name) {
            Some(value) if value == *wanted => Ok(()),
            other => Err(format!("{}: {name} is {other:?}; the walker knows {wanted} only", self.place)),
        }
    }

    fn end<T>(self, value: T) -> Result<T, String> {
        match self.fields.keys().next() {
            None => Ok(value),
            Some(unknown) => Err(format!("{}: the walker does not know {unknown}", self.place)),
        }
    }
}

impl Machine {
    /// Reads a definition.
    ///
    /// # Errors
    /// The first construct that the walker does not know.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut reader = Reader::of("the definition", &value)?;
        let (start_at, timeout_seconds) = (reader.text("StartAt")?, reader.whole_number("TimeoutSeconds")?);
        let states = reader.need("States")?;
        let mut read = BTreeMap::new();
        for (name, state) in states.as_object().into_iter().flatten() {
            read.insert(name.clone(), state_of(name, state)?);
        }
        let machine = reader.end(Self { start_at, timeout_seconds, states: read })?;
        let targets = machine.states.values().flat_map(State::targets).chain([machine.start_at.as_str()]);
        match targets.into_iter().find(|target| !machine.states.contains_key(*target)) {
            None => Ok(machine.clone()),
            Some(missing) => Err(format!("there is no state {missing}")),
        }
    }

    /// The one that is shipped.
    ///
    /// # Errors
    /// As [`Machine::read`].
    pub fn shipped() -> Result<Self, String> {
        Self::read(include_str!("../../../../statemachine/restore.asl.json"))
    }
}

impl State {
    fn targets(&self) -> Vec<&str> {
        match self {
            Self::Task(task) => {
                task.catchers.iter().map(|catcher| catcher.next.as_str()).chain([task.next.as_str()]).collect()
            }
            Self::Choice { choices, default } => {
                choices.iter().map(|choice| choice.next.as_str()).chain(default.as_deref()).collect()
            }
            Self::Wait { next, .. } | Self::Pass { next, .. } => vec![next],
            Self::Succeed | Self::Fail { .. } => vec![],
        }
    }
}

fn state_of(name: &str, value: &Value) -> Result<State, String> {
    let mut reader = Reader::of(format!("state {name}"), value)?;
    let state = match reader.text("Type")?.as_str() {
        "Task" => State::Task(Box::new(task_of(&mut reader)?)),
        "Choice" => {
            let mut choices = Vec::new();
            for choice in reader.list("Choices")? {
                let mut branch = Reader::of(format!("a choice of {name}"), &choice)?;
                let next = branch.text("Next")?;
                let rules = match branch.take("And") {
                    None => vec![rule_of(&mut branch)?],
                    Some(all) => {
                        let all = all.as_array().filter(|all| !all.is_empty()).cloned();
                        let all = all.ok_or_else(|| format!("a choice of {name}: And takes rules"))?;
                        let read = |rule| Reader::of(format!("a choice of {name}"), rule).and_then(whole_rule_of);
                        all.iter().map(read).collect::<Result<_, _>>()?
                    }
                };
                choices.push(branch.end(Branch { rules, next })?);
            }
            let default = reader.take("Default").and_then(|name| name.as_str().map(str::to_owned));
            State::Choice { choices, default }
        }
        "Wait" => State::Wait { seconds_path: path(&reader.text("SecondsPath")?)?, next: reader.text("Next")? },
        "Pass" => State::Pass { result: reader.need("Result")?, next: reader.text("Next")? },
        "Succeed" => State::Succeed,
        "Fail" => {
            State::Fail { error_path: path(&reader.text("ErrorPath")?)?, cause_path: path(&reader.text("CausePath")?)? }
        }
        other => return Err(format!("state {name}: the walker does not know the type {other}")),
    };
    reader.end(state)
}

fn whole_rule_of(mut reader: Reader<'_>) -> Result<Rule, String> {
    let rule = rule_of(&mut reader)?;
    reader.end(rule)
}

fn rule_of(reader: &mut Reader<'_>) -> Result<Rule, String> {
    let variable = reader.text("Variable")?;
    match (variable.strip_suffix("[0]"), reader.take("IsPresent")) {
        (Some(list), Some(Value::Bool(true))) => Ok(Rule::HasEntry(path(list)?)),
        (None, None) => Ok(Rule::Equals(path(&variable)?, reader.text("StringEquals")?)),
        (_, test) => Err(format!("{}: the walker does not know IsPresent {test:?} of {variable}", reader.place)),
    }
}

fn task_of(reader: &mut Reader<'_>) -> Result<Task, String> {
    let waits_for_token = match reader.text("Resource")?.as_str() {
        "arn:aws:states:::lambda:invoke" => false,
        "arn:aws:states:::lambda:invoke.waitForTaskToken" => true,
        other => return Err(format!("{}: the walker does not know Resource {other}", reader.place)),
    };
    let parameters = reader.need("Parameters")?;
    let mut inner = Reader::of(format!("{}: Parameters", reader.place), &parameters)?;
    let function = inner.text("FunctionName")?;
    let function = function.strip_prefix("${").and_then(|name| name.strip_suffix("FunctionArn}"));
    let function = function.ok_or(format!("{}: FunctionName is no substitution", reader.place))?.to_owned();
    let payload = inner.need("Payload")?;
    inner.end(())?;
    let keeps_input = match reader.take("OutputPath") {
        Some(path) if path == "$.Payload" => false,
        None => {
            reader.only("ResultPath", &Value::Null)?;
            true
        }
        Some(other) => return Err(format!("{}: the walker does not know OutputPath {other}", reader.place)),
    };
    let mut retriers = Vec::new();
    for value in reader.list("Retry")? {
        retriers.push(retrier_of(&reader.place, &value)?);
    }
    let mut catchers = Vec::new();
    for value in reader.list("Catch")? {
        let mut catcher = Reader::of(format!("{}: Catch", reader.place), &value)?;
        let field = match catcher.take("ResultPath") {
            None => None,
            Some(path_text) => Some(path(path_text.as_str().unwrap_or_default())?),
        };
        let read = Catcher { errors: errors(&mut catcher)?, field, next: catcher.text("Next")? };
        catchers.push(catcher.end(read)?);
    }
    let timeout = match reader.take("TimeoutSecondsPath") {
        Some(field) => Timeout::Path(path(field.as_str().unwrap_or_default())?),
        None => Timeout::Seconds(reader.whole_number("TimeoutSeconds")?),
    };
    let next = reader.text("Next")?;
    Ok(Task { function, payload, keeps_input, timeout, waits_for_token, retriers, catchers, next })
}

fn retrier_of(place: &str, value: &Value) -> Result<Retrier, String> {
    let mut reader = Reader::of(format!("{place}: Retry"), value)?;
    let read = Retrier {
        errors: errors(&mut reader)?,
        interval_seconds: reader.number("IntervalSeconds")?,
        max_attempts: reader.whole_number("MaxAttempts")?,
        backoff_rate: reader.number("BackoffRate")?,
        max_delay_seconds: reader.number("MaxDelaySeconds")?,
        full_jitter: match reader.take("JitterStrategy") {
            Some(strategy) if strategy == "FULL" => true,
            None => false,
            Some(other) => return Err(format!("{place}: the walker does not know JitterStrategy {other}")),
        },
    };
    reader.end(read)
}

fn errors(reader: &mut Reader<'_>) -> Result<Vec<String>, String> {
    let names: Vec<String> =
        reader.list("ErrorEquals")?.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    if names.is_empty() { Err(format!("{}: ErrorEquals is empty", reader.place)) } else { Ok(names) }
}

/// `$.field` as `field`; the walker needs no deeper ones.
fn path(text: &str) -> Result<String, String> {
    match text.strip_prefix("$.").filter(|rest| !rest.contains(['.', '[', '*'])) {
        Some(field) => Ok(field.to_owned()),
        None => Err(format!("the walker does not know the path '{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_definition_is_read() {
        let machine = Machine::shipped().unwrap();
        assert_eq!(machine.start_at, "Preflight");
        assert!(matches!(machine.states["Failed"], State::Fail { .. }));
    }

    #[test]
    fn what_the_walker_does_not_know_is_an_error() {
        let shipped = include_str!("../../../../statemachine/restore.asl.json");
        for (from, to, word) in [
            ("\"Type\": \"Succeed\"", "\"Type\": \"Parallel\"", "Parallel"),
            ("\"StringEquals\": \"done\"", "\"IsPresent\": true", "IsPresent"),
            ("\"IsPresent\": true", "\"IsPresent\": false", "IsPresent"),
            ("\"SecondsPath\": \"$.wait_seconds\"", "\"SecondsPath\": \"$.a[0].b\"", "$.a[0].b"),
            ("\"JitterStrategy\": \"FULL\"", "\"JitterStrategy\": \"HALF\"", "HALF"),
            ("\"StartAt\": \"Preflight\"", "\"StartAt\": \"Nowhere\"", "Nowhere"),
            ("\"OutputPath\": \"$.Payload\"", "\"OutputPath\": \"$\"", "OutputPath"),
        ] {
            assert!(shipped.contains(from), "{from}");
            let error = Machine::read(&shipped.replace(from, to)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
