//! One execution's walk through the definition, as Step Functions makes it.

use super::{Catcher, Machine, Retrier, Rule, State, Task, Timeout};
use crate::time::{SECOND, Time};
use serde_json::{Map, Value, json};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// An execution about to run.
#[derive(Debug, Clone)]
pub struct Execution {
    /// `$$.Execution.Id`
    pub arn: String,
    /// `$$.Execution.Name`
    pub name: String,
    /// `$$.Execution.Input`
    pub input: Value,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// In a `Succeed` state.
    Succeeded,
    /// In a `Fail` state.
    Failed {
        /// `Error`
        error: String,
        /// `Cause`
        cause: String,
    },
    /// By the machine's `TimeoutSeconds`.
    TimedOut,
    /// Stopped by a person.
    Aborted,
    /// The walker met something that Step Functions calls `States.Runtime`.
    Broken(String),
}

/// An error of a task: name and cause.
pub type TaskError = (String, String);

/// What a walk needs of the world.
pub trait Host {
    /// Invokes a function; an error is what Lambda or the function says.
    fn invoke<'h>(
        &'h self,
        function: &'h str,
        payload: Value,
    ) -> Pin<Box<dyn Future<Output = Result<Value, TaskError>> + 'h>>;
    /// A random share of one, for jitter.
    fn share(&self) -> f64;
    /// Told once at each state, also at a choice.
    fn entered(&self, state: &str);
    /// Told what a person should read of a state: each attempt of a task, what it waits for.
    fn told(&self, state: &str, detail: &str);
    /// How long a wait takes that should take `asked` seconds, in microseconds.
    fn wait_us(&self, _state: &str, asked: u64) -> u64 {
        asked * SECOND
    }
    /// Whether events may end a wait.
    fn takes_events(&self) -> bool;
    /// A token for a task that waits for one.
    fn task_token(&self) -> String;
    /// Waits until somebody answers with the token, if there is one, or this moment; answers whether somebody did. Events
    /// are delivered meanwhile.
    fn answered<'h>(&'h self, token: Option<&'h str>, until_us: u64) -> Pin<Box<dyn Future<Output = bool> + 'h>>;
    /// Whether a person has stopped the execution.
    fn is_stopped(&self) -> bool;
    /// The time.
    fn time(&self) -> &Time;
}

/// Walks to the end. Answers how it ended and how many events its history has, about.
pub async fn walk(machine: &Machine, host: &impl Host, execution: &Execution) -> (Ended, u64) {
    let mut events = 2;
    let timeout = host.time().sleep_us(machine.timeout_seconds * SECOND);
    let ended = {
        let mut steps = pin!(states(machine, host, execution, &mut events));
        let mut timeout = pin!(timeout);
        poll_fn(|context| {
            if host.is_stopped() {
                return Poll::Ready(Ended::Aborted);
            }
            if let Poll::Ready(ended) = steps.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            timeout.as_mut().poll(context).map(|()| Ended::TimedOut)
        })
        .await
    };
    (ended, events)
}

async fn states(machine: &Machine, host: &impl Host, execution: &Execution, events: &mut u64) -> Ended {
    let mut name = machine.start_at.clone();
    let mut input = execution.input.clone();
    loop {
        let Some(state) = machine.states.get(&name) else { return Ended::Broken(format!("there is no state {name}")) };
        *events += 2;
        host.entered(&name);
        let field = |field: &str| input.get(field);
        match state {
            State::Succeed => {
                host.told(&name, "");
                return Ended::Succeeded;
            }
            State::Fail { error_path, cause_path } => {
                let text = |path: &str| field(path).and_then(Value::as_str).map(str::to_owned);
                let (Some(error), Some(cause)) = (text(error_path), text(cause_path)) else {
                    return Ended::Broken(format!("{name}: {error_path} or {cause_path} is not there"));
                };
                host.told(&name, &error);
                return Ended::Failed { error, cause };
            }
            State::Pass { result, next } => {
                host.told(&name, "");
                input = result.clone();
                name.clone_from(next);
            }
            State::Wait { seconds_path, next } => {
                let Some(seconds) = field(seconds_path).and_then(Value::as_u64) else {
                    return Ended::Broken(format!("{name}: {seconds_path} is no number of seconds"));
                };
                let wait_us = host.wait_us(&name, seconds);
                host.told(&name, &format!("{} s", wait_us / SECOND));
                pause(host, wait_us).await;
                name.clone_from(next);
            }
            State::Choice { choices, default } => {
                let holds = |rule: &Rule| match rule {
                    Rule::Equals(variable, text) => field(variable).and_then(Value::as_str) == Some(text),
                    Rule::HasEntry(list) => field(list).and_then(|list| list.get(0)).is_some(),
                };
                let chosen = choices.iter().find(|choice| choice.rules.iter().all(holds));
                match chosen.map(|choice| &choice.next).or(default.as_ref()) {
                    Some(next) => name.clone_from(next),
                    None => return Ended::Broken(format!("{name}: no choice matches")),
                }
            }
            State::Task(task) => match perform(task, &name, host, execution, &input, events).await {
                Ok((next, output)) => {
                    name = next;
                    input = output;
                }
                Err(ended) => return ended,
            },
        }
    }
}

/// Runs a task to its next state and output.
async fn perform(
    task: &Task,
    name: &str,
    host: &impl Host,
    execution: &Execution,
    input: &Value,
    events: &mut u64,
) -> Result<(String, Value), Ended> {
    let mut attempts = vec![0; task.retriers.len()];
    loop {
        let broken = |error| Ended::Broken(format!("{name}: {error}"));
        let seconds = task.timeout.seconds(input).map_err(broken)?;
        let result = if task.waits_for_token {
            wait_for_token(task, name, host, execution, input, seconds, events).await.map_err(broken)?
        } else {
            let payload = fill(&task.payload, input, execution, None).map_err(broken)?;
            host.told(name, "");
            *events += 3;
            in_time(task, host, payload, host.time().now_us() + seconds * SECOND).await
        };
        let (error, cause) = match result {
            Ok(answer) if task.keeps_input => {
                let _ = answer;
                return Ok((task.next.clone(), input.clone()));
            }
            Ok(answer) => return Ok((task.next.clone(), answer)),
            Err(error) => error,
        };
        let retrier = task.retriers.iter().position(|retrier| matches(&retrier.errors, &error));
        if let Some(position) = retrier.filter(|position| attempts[*position] < task.retriers[*position].max_attempts) {
            let delay_us = delay_us(&task.retriers[position], attempts[position], host.share());
            attempts[position] += 1;
            host.told(name, &format!("{error}; retry {} in {} s", attempts[position], delay_us / SECOND));
            pause(host, delay_us).await;
            continue;
        }
        return match task.catchers.iter().find(|catcher| matches(&catcher.errors, &error)) {
            Some(Catcher { field, next, .. }) => {
                let caught = json!({ "Error": error, "Cause": cause });
                let output = match field {
                    None => caught,
                    Some(field) => {
                        let mut output = input.clone();
                        output.as_object_mut().map(|output| output.insert(field.clone(), caught));
                        output
                    }
                };
                Ok((next.clone(), output))
            }
            None => Err(Ended::Failed { error, cause }),
        };
    }
}

/// Lets time go by. Events are delivered meanwhile.
async fn pause(host: &impl Host, pause_us: u64) {
    if host.takes_events() {
        host.answered(None, host.time().now_us() + pause_us).await;
    } else {
        host.time().sleep_us(pause_us).await;
    }
}

/// Hands the token out, and waits for its answer until the task's time is up.
async fn wait_for_token(
    task: &Task,
    name: &str,
    host: &impl Host,
    execution: &Execution,
    input: &Value,
    seconds: u64,
    events: &mut u64,
) -> Result<Result<Value, TaskError>, String> {
    let wait_us = host.wait_us(name, seconds);
    host.told(name, &format!("{} s", wait_us / SECOND));
    let timed_out = Err(("States.Timeout".to_owned(), String::new()));
    if !host.takes_events() {
        host.time().sleep_us(wait_us).await;
        return Ok(timed_out);
    }
    *events += 4;
    let until_us = host.time().now_us() + wait_us;
    let token = host.task_token();
    let payload = fill(&task.payload, input, execution, Some(&token))?;
    if let Err(error) = in_time(task, host, payload, until_us).await {
        return Ok(Err(error));
    }
    let is_answered = host.answered(Some(&token), until_us).await;
    Ok(if is_answered { Ok(json!({})) } else { timed_out })
}

impl Timeout {
    fn seconds(&self, input: &Value) -> Result<u64, String> {
        match self {
            Self::Seconds(seconds) => Ok(*seconds),
            Self::Path(field) => match input.get(field).and_then(Value::as_u64) {
                Some(seconds @ 1..) => Ok(seconds),
                _ => Err(format!("{field} is no number of seconds above 0")),
            },
        }
    }
}

async fn in_time(task: &Task, host: &impl Host, payload: Value, until_us: u64) -> Result<Value, TaskError> {
    let mut work = host.invoke(&task.function, payload);
    let mut timeout = pin!(host.time().sleep_us(until_us.saturating_sub(host.time().now_us())));
    poll_fn(|context| {
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        timeout.as_mut().poll(context).map(|()| Err(("States.Timeout".to_owned(), String::new())))
    })
    .await
}

fn matches(errors: &[String], error: &str) -> bool {
    errors.iter().any(|name| name == error || name == "States.ALL")
}

fn delay_us(retrier: &Retrier, attempts: u64, share: f64) -> u64 {
    let exponent = i32::try_from(attempts).unwrap_or(i32::MAX);
    let most = (retrier.interval_seconds * retrier.backoff_rate.powi(exponent)).min(retrier.max_delay_seconds);
    let seconds = if retrier.full_jitter { most * share } else { most };
    std::time::Duration::try_from_secs_f64(seconds).map_or(0, |delay| u64::try_from(delay.as_micros()).unwrap_or(0))
}

/// A template with its paths filled in.
fn fill(template: &Value, input: &Value, execution: &Execution, token: Option<&str>) -> Result<Value, String> {
    let Some(fields) = template.as_object() else { return Ok(template.clone()) };
    let mut filled = Map::new();
    for (name, value) in fields {
        match name.strip_suffix(".$") {
            None => drop(filled.insert(name.clone(), fill(value, input, execution, token)?)),
            Some(name) => {
                let value = match value.as_str().unwrap_or_default() {
                    "$" => input.clone(),
                    "$$.Execution.Input" => execution.input.clone(),
                    "$$.Execution.Id" => execution.arn.clone().into(),
                    "$$.Execution.Name" => execution.name.clone().into(),
                    "$$.Task.Token" => token.ok_or("only a task that waits for its token has one")?.into(),
                    path => {
                        let field = super::path(path)?;
                        input.get(&field).cloned().ok_or(format!("there is no {path} in the input"))?
                    }
                };
                filled.insert(name.to_owned(), value);
            }
        }
    }
    Ok(Value::Object(filled))
}
