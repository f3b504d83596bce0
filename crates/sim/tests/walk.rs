//! The order of states, scenario by scenario, as the walker goes through the shipped definition. The whole-flow tests
//! compare every execution of the emulator's interpreter with the same file. `UPDATE_GOLDEN=1 cargo test -p
//! aurora-restore-sim --test walk` writes it anew.
#![allow(clippy::unwrap_used, reason = "tests")]

use aurora_restore_sim::{CallFault, Machine, Plan, Scenario, Second, Setup, simulate};
use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/states.json");
const LOOPS: [(&str, &str); 7] = [
    ("CopySnapshot", "IsCopyStarted"),
    ("CheckCopy", "IsCopyAvailable"),
    ("DeleteCluster", "IsClusterGone"),
    ("CheckRestore", "IsClusterReady"),
    ("SetupDbUsers", "AreUsersSetUp"),
    ("SwapCluster", "IsSwapped"),
    ("RetireCluster", "IsClusterRetired"),
];

/// Each poll loop told once: how often it turns is the cloud's affair.
fn without_repeats(states: &[String]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for state in states {
        if !state.starts_with("WaitFor") {
            told.push(state.clone());
            continue;
        }
        let choice = told.pop().unwrap();
        let task = told.pop().unwrap();
        assert!(LOOPS.contains(&(task.as_str(), choice.as_str())), "{task}, {choice}, {state} is no poll loop");
    }
    told
}

fn walked(machine: &Machine, setup: &Setup) -> BTreeMap<String, Vec<String>> {
    let report = simulate(machine, setup);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    report.states.iter().map(|(name, states)| (name.clone(), without_repeats(states))).collect()
}

/// The scenario with the first call of each step denied for good, by state.
fn failing(machine: &Machine, scenario: Scenario) -> Vec<(String, Vec<String>)> {
    let calm = Setup { again: false, logs: true, ..Setup::calm(scenario) };
    let log = simulate(machine, &calm).log;
    let mut failing = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, (step, _, _)) in log.iter().enumerate().filter(|(_, (step, _, _))| step != "?" && step != "wake") {
        if seen.contains(&step.as_str()) {
            continue;
        }
        seen.push(step);
        let plan = Plan::call(u32::try_from(index).unwrap() + 1, CallFault::Deny);
        let states = walked(machine, &Setup { plan, again: false, ..Setup::calm(scenario) }).remove("run-1").unwrap();
        let failed = states.iter().rev().find(|state| !["Failed", "NotifyFailure"].contains(&state.as_str())).unwrap();
        failing.push((format!("fails in {failed}"), states));
    }
    failing
}

#[test]
fn the_walker_goes_the_way_of_the_emulator() {
    let machine = Machine::shipped().unwrap();
    let mut all: BTreeMap<String, Vec<String>> = failing(&machine, Scenario::Happy).into_iter().collect();
    assert_eq!(all.len(), 10, "one for each step: {:?}", all.keys());
    let of_a_swap = failing(&machine, Scenario::Swap);
    all.extend(
        of_a_swap.into_iter().filter(|(name, _)| ["SwapCluster", "RetireCluster"].iter().any(|s| name.ends_with(s))),
    );
    assert_eq!(all.len(), 12, "and for each of a swap: {:?}", all.keys());
    for scenario in Scenario::ALL {
        let states = walked(&machine, &Setup { again: false, ..Setup::calm(scenario) }).remove("run-1").unwrap();
        all.insert(format!("{scenario:?}"), states);
    }
    let second = Some(Second { delay_us: 1_000_000, ..Second::default() });
    let both = walked(&machine, &Setup { second, again: false, ..Setup::calm(Scenario::Happy) });
    all.extend(both.into_iter().map(|(name, states)| (format!("two at once: {name}"), states)));

    let text = serde_json::to_string_pretty(&all).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let known = std::fs::read_to_string(Path::new(FILE)).unwrap();
    assert_eq!(text, known, "the walker goes another way than {FILE} says");
}
