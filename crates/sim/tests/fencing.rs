//! An execution that takes another's place, and the telling of a failure, hindered at every call.
//!
//! Optimised, every call is met; without optimisation (about twenty times slower) a sample.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use aurora_restore_sim::time::SECOND;
use aurora_restore_sim::{CallFault, Chaos, Machine, Plan, Report, Scenario, Second, Setup, simulate};

const FAULTS: [CallFault; 5] =
    [CallFault::KillBefore, CallFault::KillAfter, CallFault::TimeoutAfter, CallFault::FailAfter, CallFault::Fail(3)];

fn logged(setup: &Setup) -> Report {
    let report = simulate(&Machine::shipped().unwrap(), &Setup { logs: true, ..setup.clone() });
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    report
}

/// The number of the first call of this name in a run in which nothing goes wrong.
fn first(name: &str) -> u32 {
    let log = logged(&Setup::quick(Scenario::Happy)).log;
    u32::try_from(log.iter().position(|(_, known, _)| known == name).unwrap()).unwrap() + 1
}

/// Simulates what `setup` makes of each of `numbers` and each fault; none may break a promise.
fn each(numbers: impl Iterator<Item = u32>, setup: impl Fn(u32, CallFault) -> Setup) {
    let machine = Machine::shipped().unwrap();
    let step = if cfg!(debug_assertions) { 7 } else { 1 };
    let mut wrong = Vec::new();
    for number in numbers.step_by(step) {
        for fault in FAULTS {
            let report = simulate(&machine, &setup(number, fault));
            assert!(!report.applied.is_empty(), "nothing met call {number}");
            let met = report.applied.last().map(|met| format!("{} of {}, {:?}", met.name, met.step, met.fault));
            wrong.extend(report.violations.first().map(|what| format!("{}: {what}", met.unwrap_or_default())));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Stopped right before the call of this name; another operation (or the same in another execution) comes after it.
fn stopped_at(name: &str, same_operation: bool, fault: Option<(u32, CallFault)>) -> Setup {
    let mut setup = Setup::quick(Scenario::Happy);
    setup.plan.chaos.insert(first(name), Chaos::StopExecution);
    setup.second = Some(Second { delay_us: 60 * SECOND, same_operation, after_stop: true, fault });
    setup
}

/// Every call of the preflight that takes the lock over.
fn hindered(name: &str, same_operation: bool) {
    let calm = stopped_at(name, same_operation, None);
    let report = logged(&calm);
    assert_eq!(report.takeovers, 1, "the lock of the stopped one is taken over");
    let last = report.log.iter().rposition(|(step, _, _)| step == "preflight").unwrap();
    let begin = report.log[..=last].iter().rposition(|(step, _, _)| step != "preflight").unwrap();
    let calls = u32::try_from(last - begin).unwrap();
    each(1..=calls, |number, fault| Setup {
        second: calm.second.map(|second| Second { fault: Some((number, fault)), ..second }),
        ..calm.clone()
    });
}

#[test]
fn another_operation_takes_over_before_the_deletion() {
    hindered("rds:CopyDBClusterSnapshot", false);
}

#[test]
fn another_operation_takes_over_during_the_deletion() {
    hindered("rds:DeleteDBInstance", false);
}

#[test]
fn another_execution_takes_its_operation_over() {
    hindered("rds:DeleteDBInstance", true);
}

/// Protection was turned off, the deletion is denied: each call of notify fails in each way.
#[test]
fn a_failure_whose_telling_fails_is_told_as_it_is() {
    let mut denied = Setup::quick(Scenario::Happy);
    denied.plan.named.insert(("rds:DeleteDBInstance", 1), CallFault::Deny);
    let log = logged(&Setup { again: false, ..denied.clone() }).log;
    let of_notify = (1..).zip(&log).filter(|(_, (step, _, _))| step == "notify").map(|(number, _)| number);
    let numbers: Vec<u32> = of_notify.collect();
    assert!(numbers.len() > 8, "{}", numbers.len());
    each(numbers.into_iter(), |number, fault| {
        let plan = Plan { named: denied.plan.named.clone(), ..Plan::call(number, fault) };
        Setup { plan, ..denied.clone() }
    });
}

/// The same, when the message does not go out several times: no attempt says that protection is off.
#[test]
fn a_message_that_does_not_go_out_changes_nothing_about_what_it_says() {
    for times in 1..=6 {
        let mut setup = Setup::quick(Scenario::Happy);
        setup.plan.named.insert(("rds:DeleteDBInstance", 1), CallFault::Deny);
        setup.plan.named.extend((1..=times).map(|number| (("sns:Publish", number), CallFault::Fail(1))));
        let report = simulate(&Machine::shipped().unwrap(), &setup);
        assert!(report.violations.is_empty(), "{times}: {:?}", report.violations);
        assert_eq!(report.outcome(), "AccessDenied");
    }
}
