//! Figures for CloudWatch in its embedded metric format: a line of JSON on standard output, of which CloudWatch Logs makes
//! metrics. No call, no right, no wait.
//!
//! Every dimension is bounded (environment, step, outcome, reason): an operation's id would make a metric for each night.

use aurora_restore_domain::Instant;
use aurora_restore_domain::step::Step;
use serde_json::{Map, Value, json};
use std::io::Write;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
}

/// Where figures go; [`Metrics::off`] in simulations and tests.
#[derive(Debug, Clone)]
pub struct Metrics(Option<Labels>);

#[derive(Debug, Clone)]
struct Labels {
    namespace: String,
    environment: String,
}

impl Metrics {
    /// Nowhere.
    pub fn off() -> Self {
        Self(None)
    }

    /// Onto standard output. The namespace is the deployment's name: the function's, without its step.
    pub fn of(function: &str, environment: &str) -> Self {
        let names = Step::ALL.iter().map(|step| step.as_str()).chain(["wake"]);
        let namespace = names.into_iter().find_map(|name| function.strip_suffix(name)?.strip_suffix('-'));
        let namespace = namespace.unwrap_or("aurora-restore").to_owned();
        Self(Some(Labels { namespace, environment: environment.to_owned() }))
    }

    /// Tells `figures` with these dimensions besides the environment. A figure that cannot be told fails nothing.
    pub fn tell(&self, dimensions: &[(&str, &str)], figures: &[(&str, Unit, u64)], now: Instant) {
        if let Some(labels) = &self.0 {
            let _ = writeln!(std::io::stdout().lock(), "{}", labels.line(dimensions, figures, now));
        }
    }
}

impl Labels {
    fn line(&self, dimensions: &[(&str, &str)], figures: &[(&str, Unit, u64)], now: Instant) -> Value {
        let names: Vec<&str> = ["Environment"].into_iter().chain(dimensions.iter().map(|(name, _)| *name)).collect();
        let metrics: Vec<Value> =
            figures.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": format!("{unit:?}") })).collect();
        let mut line = Map::new();
        line.insert(
            "_aws".into(),
            json!({
                "Timestamp": now.unix_timestamp() * 1000 + i64::from(now.millisecond()),
                "CloudWatchMetrics": [{ "Namespace": self.namespace, "Dimensions": [names], "Metrics": metrics }],
            }),
        );
        line.insert("Environment".into(), self.environment.as_str().into());
        line.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        line.extend(figures.iter().map(|(name, _, value)| ((*name).to_owned(), Value::from(*value))));
        Value::Object(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let Metrics(Some(labels)) = Metrics::of("aurora-restore-dev-check-copy", "dev") else { panic!("is on") };
        let line = labels.line(
            &[("Step", "check-copy"), ("Outcome", "waiting")],
            &[("StepSeconds", Unit::Seconds, 75)],
            datetime!(2026-11-21 02:00:00.250 UTC),
        );
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 1_795_226_400_250_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "aurora-restore-dev",
                        "Dimensions": [["Environment", "Step", "Outcome"]],
                        "Metrics": [{ "Name": "StepSeconds", "Unit": "Seconds" }],
                    }],
                },
                "Environment": "dev", "Step": "check-copy", "Outcome": "waiting", "StepSeconds": 75,
            })
        );
    }

    #[test]
    fn a_function_without_a_prefix_has_the_usual_namespace() {
        let Metrics(labels) = Metrics::of("check-copy", "dev");
        assert_eq!(labels.unwrap().namespace, "aurora-restore");
    }
}
