//! Holds the shipped state machine against the code that it runs and against its README: a name that one of them
//! does not know is found here, not in a night.
#![allow(clippy::unwrap_used, reason = "tests")]

use aurora_restore_core::domain::failure::ErrorName;
use aurora_restore_core::domain::outcome::Outcome;
use aurora_restore_core::domain::request::Replacement;
use aurora_restore_core::domain::step::Step;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const DEFINITION: &str = include_str!("../../../statemachine/restore.asl.json");
const README: &str = include_str!("../../../statemachine/README.md");

/// Errors of Step Functions and Lambda that a repeat can cure.
const SERVICE_ERRORS: [&str; 12] = [
    "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.EC2ThrottledException",
    "Lambda.ENILimitReachedException",
    "Lambda.SubnetIPAddressLimitReachedException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
];

fn definition() -> Value {
    serde_json::from_str(DEFINITION).unwrap()
}

fn states(definition: &Value) -> &Map<String, Value> {
    definition["States"].as_object().unwrap()
}

fn of_type<'d>(definition: &'d Value, kind: &'static str) -> impl Iterator<Item = (&'d String, &'d Value)> {
    states(definition).iter().filter(move |(_, state)| state["Type"] == kind)
}

/// Tasks that run a step.
fn tasks(definition: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of_type(definition, "Task").filter(|(_, task)| task["Resource"] == "arn:aws:states:::lambda:invoke")
}

fn pascal(step: Step) -> String {
    step.as_str().split('-').map(|part| format!("{}{}", part[..1].to_uppercase(), &part[1..])).collect()
}

#[test]
fn every_state_says_why_it_is_there() {
    let definition = definition();
    for (name, state) in states(&definition) {
        assert!(state["Comment"].as_str().is_some_and(|comment| comment.len() > 20), "{name}");
    }
}

#[test]
fn every_step_is_a_state_of_its_name() {
    let definition = definition();
    for step in Step::ALL {
        let function = format!("${{{}FunctionArn}}", pascal(step));
        assert_eq!(states(&definition)[&pascal(step)]["Parameters"]["FunctionName"], function, "{step}");
    }
    let known: BTreeSet<String> = Step::ALL.iter().map(|step| format!("${{{}FunctionArn}}", pascal(*step))).collect();
    for (name, task) in tasks(&definition) {
        assert!(known.contains(task["Parameters"]["FunctionName"].as_str().unwrap()), "{name}");
    }
}

#[test]
fn every_step_is_told_operation_and_execution() {
    let definition = definition();
    for (name, task) in tasks(&definition) {
        let payload = &task["Parameters"]["Payload"];
        assert_eq!(payload["execution_arn.$"], "$$.Execution.Id", "{name}");
        assert!(
            payload["operation_id.$"] == "$.operation_id" || payload["execution_name.$"] == "$$.Execution.Name",
            "{name}"
        );
    }
}

#[test]
fn transient_errors_are_retried_and_no_others() {
    let definition = definition();
    let transient: BTreeSet<String> =
        ErrorName::ALL.into_iter().filter(|name| name.is_transient()).map(|name| name.to_string()).collect();
    let service: BTreeSet<String> = SERVICE_ERRORS.iter().map(|name| (*name).to_owned()).collect();
    for (name, task) in tasks(&definition) {
        let mut retried = BTreeSet::new();
        for retry in task["Retry"].as_array().unwrap() {
            assert_eq!(retry["JitterStrategy"], "FULL", "{name}");
            assert!(retry["MaxDelaySeconds"].as_u64().is_some_and(|seconds| seconds <= 900), "{name}");
            assert!(retry["MaxAttempts"].as_u64().is_some_and(|attempts| (1..=99).contains(&attempts)), "{name}");
            retried.extend(
                retry["ErrorEquals"].as_array().unwrap().iter().map(|error| error.as_str().unwrap().to_owned()),
            );
        }
        let mut wanted = &transient | &service;
        // The failure path is the last one who can tell anybody: it tries again whatever the error, a missing right too.
        if name == "NotifyFailure" {
            wanted.insert("States.ALL".into());
        }
        assert_eq!(retried, wanted, "{name}");
    }
}

#[test]
fn every_error_takes_the_one_failure_path_and_ends_in_fail() {
    let definition = definition();
    for (name, task) in tasks(&definition) {
        let next = if name == "NotifyFailure" { "Failed" } else { "NotifyFailure" };
        let caught = task["Catch"].as_array().unwrap();
        assert_eq!(
            (caught.len(), &caught[0]["ErrorEquals"][0], &caught[0]["Next"]),
            (1, &"States.ALL".into(), &next.into()),
            "{name}"
        );
        assert!(task["TimeoutSeconds"].as_u64().is_some_and(|seconds| seconds <= 900), "{name}");
    }
    let (failure, failed) = (&definition["States"]["NotifyFailure"], &definition["States"]["Failed"]);
    assert_eq!((&failure["Next"], &failure["ResultPath"]), (&"Failed".into(), &Value::Null));
    assert_eq!((&failed["Type"], &failed["ErrorPath"]), (&"Fail".into(), &"$.Error".into()));
    let ends: Vec<_> = of_type(&definition, "Succeed").map(|(name, _)| name).collect();
    assert_eq!(ends, ["Succeeded"]);
}

#[test]
fn a_choice_compares_the_outcome_and_takes_nothing_unknown_for_done() {
    let definition = definition();
    let word = |outcome: Outcome| serde_json::to_value(outcome).unwrap();
    for (name, choice) in of_type(&definition, "Choice") {
        assert_eq!(choice["Default"], "RecordUnknownOutcome", "{name}");
        let mut known = BTreeSet::new();
        // The other word that every step answers: how the target is replaced.
        if name == "IsSwapPlanned" {
            let rules = choice["Choices"].as_array().unwrap();
            assert!(rules.iter().all(|rule| rule["Variable"] == "$.replacement"));
            let words: BTreeSet<_> = rules.iter().map(|rule| rule["StringEquals"].as_str().unwrap()).collect();
            let known = [Replacement::DeleteFirst, Replacement::Swap].map(|word| serde_json::to_value(word).unwrap());
            assert_eq!(words, known.iter().map(|word| word.as_str().unwrap()).collect());
            continue;
        }
        let rules = choice["Choices"].as_array().unwrap();
        for (position, rule) in rules.iter().enumerate() {
            if let Some(all) = rule.get("And") {
                // Where events may tell the end, their wait comes first; else the one by time.
                let [outcome, waits_for] = all.as_array().unwrap().as_slice() else { panic!("{name}") };
                assert_eq!(waits_for, &json!({ "Variable": "$.waits_for[0]", "IsPresent": true }), "{name}");
                let by_time = &rules[position + 1];
                assert_eq!(outcome, &json!({ "Variable": "$.outcome", "StringEquals": by_time["StringEquals"] }));
                assert_eq!(rule["Next"], format!("{}Event", by_time["Next"].as_str().unwrap()), "{name}");
                continue;
            }
            assert_eq!(rule["Variable"], "$.outcome", "{name}");
            known.insert(rule["StringEquals"].as_str().unwrap().to_owned());
        }
        let mut wanted = BTreeSet::from(["done", "skipped", "waiting"].map(str::to_owned));
        if name == "ChoosePath" {
            wanted.remove("waiting");
        }
        assert_eq!(known, wanted, "{name}");
    }
    assert_eq!(
        (word(Outcome::Done), word(Outcome::Skipped), word(Outcome::Waiting)),
        ("done".into(), "skipped".into(), "waiting".into())
    );
    assert_eq!(definition["States"]["RecordUnknownOutcome"]["Next"], "NotifyFailure");
}

#[test]
fn waits_are_the_steps_to_decide_and_bounded_twice() {
    let definition = definition();
    for (name, wait) in of_type(&definition, "Wait") {
        assert_eq!(wait["SecondsPath"], "$.wait_seconds", "{name}");
    }
    // The copy is looked at by CheckCopy; CopySnapshot's bound is the same time, not another one.
    let steps = Step::ALL.into_iter().filter(|step| *step != Step::CopySnapshot);
    let all: u64 = steps.map(Step::deadline_seconds).sum();
    // And the waits for a quota, in the worst case of four steps that can meet one: the cluster is deleted first or last.
    let quota = 4 * 60 * 900;
    let whole = definition["TimeoutSeconds"].as_u64().unwrap();
    assert!(
        whole > all + quota,
        "the machine's bound ({whole} s) comes after the steps' own ({all} s), which can tell why"
    );
}

/// An event may end a wait, time always does: whatever becomes of the token, the next look comes when the step said.
#[test]
fn a_wait_for_an_event_is_a_wait_by_time_too() {
    let definition = definition();
    let mut found = 0;
    for (name, wait) in
        of_type(&definition, "Task").filter(|(_, task)| task["Resource"] != "arn:aws:states:::lambda:invoke")
    {
        found += 1;
        assert_eq!(wait["Resource"], "arn:aws:states:::lambda:invoke.waitForTaskToken", "{name}");
        assert_eq!(wait["Parameters"]["FunctionName"], "${WakeFunctionArn}", "{name}");
        let payload = &wait["Parameters"]["Payload"];
        assert_eq!(payload["task_token.$"], "$$.Task.Token", "{name}");
        for field in ["operation_id", "waits_for", "wait_seconds"] {
            assert_eq!(payload[format!("{field}.$")], format!("$.{field}"), "{name}");
        }
        assert_eq!(
            (&wait["TimeoutSecondsPath"], &wait["ResultPath"]),
            (&"$.wait_seconds".into(), &Value::Null),
            "{name}"
        );
        assert!(wait.get("Retry").is_none(), "{name}: what cannot be registered is waited for by time");
        let [timeout, other] = wait["Catch"].as_array().unwrap().as_slice() else { panic!("{name}") };
        assert_eq!((&timeout["ErrorEquals"][0], &timeout["Next"]), (&"States.Timeout".into(), &wait["Next"]), "{name}");
        let by_time = &definition["States"][other["Next"].as_str().unwrap()];
        assert_eq!((&other["ErrorEquals"][0], &by_time["Type"]), (&"States.ALL".into(), &"Wait".into()), "{name}");
        assert_eq!(by_time["Next"], wait["Next"], "{name}");
        // The look that follows needs the operation, which the input keeps.
        assert!([timeout, other].iter().all(|rule| rule["ResultPath"] == "$.wait_ended"), "{name}");
    }
    assert_eq!(found, 4, "deletion, restore, swap and retirement");
}

#[test]
fn everything_is_reachable_and_leads_on() {
    let definition = definition();
    let states = states(&definition);
    let mut reached = BTreeSet::from([definition["StartAt"].as_str().unwrap()]);
    loop {
        let targets: Vec<&str> = reached.iter().flat_map(|name| targets(&states[*name])).collect();
        let before = reached.len();
        reached.extend(targets);
        if reached.len() == before {
            break;
        }
    }
    assert_eq!(reached, states.keys().map(String::as_str).collect());
}

fn targets(state: &Value) -> Vec<&str> {
    let nested = ["Choices", "Catch"].into_iter().flat_map(|list| state[list].as_array().into_iter().flatten());
    let mut all: Vec<_> = nested.filter_map(|rule| rule["Next"].as_str()).collect();
    all.extend(state["Next"].as_str());
    all.extend(state["Default"].as_str());
    all
}

#[test]
fn it_stays_within_what_the_local_interpreter_can_do() {
    for construct in ["JSONata", "QueryLanguage", "Assign", "startExecution", "aws-sdk:", "].", "StartTime"] {
        assert!(!DEFINITION.contains(construct), "{construct}");
    }
}

#[test]
fn the_readme_lists_every_state_and_every_error() {
    let definition = definition();
    for name in states(&definition).keys() {
        assert!(README.contains(&format!("| `{name}`")), "the table of states lacks {name}");
    }
    for name in ErrorName::ALL {
        assert!(README.contains(&format!("`{name}`")), "the README lacks {name}");
    }
}
