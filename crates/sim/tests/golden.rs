//! Eight scenarios as a person reads them. `UPDATE_GOLDEN=1 cargo test -p aurora-restore-sim --test golden` writes them
//! anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use aurora_restore_sim::transcript::in_short;
use aurora_restore_sim::{CallFault, Machine, Plan, Scenario, Second, Setup, simulate};
use std::fs;
use std::path::Path;

/// Calls take no time, so that the transcript changes only where what happens changes.
fn calm(scenario: Scenario) -> Setup {
    let mut setup = Setup::calm(scenario);
    setup.pace.latency_us = 0;
    setup.shows_messages = true;
    setup.records = true;
    setup.again = false;
    setup
}

/// The call that comes `after` the first one of this name, counted from 1.
fn call(setup: &Setup, name: &str, after: u32) -> u32 {
    let logged = Setup { logs: true, records: false, ..setup.clone() };
    let report = simulate(&Machine::shipped().unwrap(), &logged);
    let position = report.log.iter().position(|(_, known, _)| known == name).unwrap();
    u32::try_from(position).unwrap() + 1 + after
}

fn check(name: &str, title: &str, setup: &Setup) {
    let report = simulate(&Machine::shipped().unwrap(), setup);
    let mut text = format!("{title}\nFaults: {}.\n\n", setup.plan);
    for line in in_short(&report.lines) {
        text.push_str(&line.brief());
        text.push('\n');
    }
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name).with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (new, old))) = text.lines().zip(golden.lines()).enumerate().find(|(_, (new, old))| new != old)
    {
        panic!("{} differs at line {}:\n  is  {new}\n  was {old}", path.display(), number + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{}", path.display());
}

#[test]
fn happy() {
    check(
        "happy",
        "An encrypted snapshot of another Region replaces a protected cluster with two instances.",
        &calm(Scenario::Happy),
    );
}

#[test]
fn same_region() {
    check("same-region", "Source and target are in one Region: nothing is copied.", &calm(Scenario::SameRegion));
}

#[test]
fn second_run() {
    check("second-run", "A restore over what an earlier restore made.", &calm(Scenario::SecondRun));
}

#[test]
fn swap() {
    check("swap", "Restored beside the living target; names swapped; the former deleted later.", &calm(Scenario::Swap));
}

#[test]
fn swap_rolled_back() {
    let mut setup = calm(Scenario::Swap);
    setup.pace.swapped_answers = false;
    let title =
        "Verified beside the target, and silent under its name: the names go back, and the former cluster serves.";
    check("swap-rolled-back", title, &setup);
}

#[test]
fn copy_fails() {
    let mut setup = calm(Scenario::Happy);
    setup.pace.copy_ends = "failed";
    check("copy-fails", "The copy fails half-way: nothing was deleted, and everybody is told.", &setup);
}

#[test]
fn killed_between_call_and_record() {
    let mut setup = calm(Scenario::Happy);
    let number = call(&setup, "rds:RestoreDBClusterFromSnapshot", 0);
    setup.plan = Plan::call(number, CallFault::KillAfter);
    check(
        "killed-between-call-and-record",
        "A function is killed after it restored the cluster and before it could write that down.",
        &setup,
    );
}

#[test]
fn two_executions_one_target() {
    let mut setup = calm(Scenario::Happy);
    setup.second = Some(Second { delay_us: 600_000_000, ..Second::default() });
    check("two-executions", "A second execution wants the same target: one works, one is refused by name.", &setup);
}
