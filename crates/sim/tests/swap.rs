//! A swap whose restored cluster does not answer under the target's name: hindered at every call on its way back.
//!
//! Optimised, every call is met; without optimisation (about twenty times slower) a sample.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use aurora_restore_domain::phase::Phase;
use aurora_restore_sim::{CallFault, Chaos, Machine, Plan, Report, Scenario, Setup, simulate};
use std::sync::Mutex;

/// Everything is quick, and nobody is let in under the target's name.
fn silent() -> Setup {
    let mut setup = Setup::quick(Scenario::Swap);
    setup.pace.swapped_answers = false;
    setup
}

fn run(setup: &Setup) -> Report {
    simulate(&Machine::shipped().unwrap(), setup)
}

/// The calls of swap-cluster, by number, from the first look at the names that go back on.
fn calls_on_the_way_back(setup: &Setup) -> Vec<(u32, String)> {
    let report = run(&Setup { logs: true, again: false, ..setup.clone() });
    assert_eq!(report.outcome(), "SwapFailed");
    let numbered = (1..).zip(report.log);
    let of_swap: Vec<_> = numbered.filter(|(_, (step, _, _))| step == "swap-cluster").collect();
    // The last rename forth gives the target's name to the restored cluster; what comes after goes back, or waits.
    let is_forth = |name: &str, resource: &str| name == "rds:ModifyDBCluster" && resource.contains("-new-");
    let forth = of_swap.iter().position(|(_, (_, name, resource))| is_forth(name, resource)).unwrap();
    of_swap[forth..].iter().rev().take(120).map(|(number, (_, name, _))| (*number, name.clone())).collect()
}

#[test]
fn the_way_back_is_gone_whatever_fails() {
    let calls = calls_on_the_way_back(&silent());
    assert!(calls.iter().filter(|(_, name)| name.starts_with("rds:ModifyDB")).count() >= 6, "{calls:?}");
    let faults = [CallFault::KillBefore, CallFault::KillAfter, CallFault::TimeoutAfter, CallFault::FailAfter];
    let step = if cfg!(debug_assertions) { 23 } else { 1 };
    let wrong = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for fault in faults {
            let (calls, wrong) = (&calls, &wrong);
            scope.spawn(move || {
                for (number, name) in calls.iter().step_by(step) {
                    let report = run(&Setup { plan: Plan::call(*number, fault), ..silent() });
                    let broken = report.violations.first().map(ToString::to_string);
                    let ended = (report.outcome() != "SwapFailed").then(|| format!("ended as {}", report.outcome()));
                    let what = broken.or(ended).map(|what| format!("{name} {fault:?}: {what}"));
                    wrong.lock().unwrap().extend(what);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Denied on the way back, names stay where they are: that is told, and the next execution puts them right.
#[test]
fn a_way_back_that_is_denied_is_told() {
    let step = if cfg!(debug_assertions) { 23 } else { 1 };
    for (number, name) in calls_on_the_way_back(&silent()).into_iter().step_by(step) {
        let report = run(&Setup { plan: Plan::call(number, CallFault::Deny), ..silent() });
        assert!(report.violations.is_empty(), "{name}: {:?}", report.violations);
    }
}

/// While the target's name is free for a moment, somebody takes it.
#[test]
fn a_name_that_somebody_takes_in_between() {
    let mut answers = silent();
    answers.pace.swapped_answers = true;
    for (setup, deed) in [(silent(), Chaos::TakeName), (answers, Chaos::TakeName), (silent(), Chaos::DeleteTarget)] {
        let first = calls_on_the_way_back(&silent()).into_iter().map(|(number, _)| number).min().unwrap();
        for number in [first - 60, first - 10, first, first + 20] {
            let mut plan = Plan::default();
            plan.chaos.insert(number, deed);
            let report = run(&Setup { plan, ..setup.clone() });
            assert!(report.violations.is_empty(), "{deed:?} at {number}: {:?}", report.violations);
        }
    }
}

/// What the instances' names took is remembered as it was, however often RDS refuses the cluster's name after them.
#[test]
fn a_rename_that_is_refused_for_a_while_does_not_count_for_the_one_before() {
    let calm = Setup { logs: true, again: false, ..Setup::quick(Scenario::Swap) };
    let usual = run(&calm);
    let changes = usual.log.iter().filter(|(_, name, _)| name == "rds:ModifyDBCluster");
    let first_rename = (1..).zip(changes).find(|(_, (step, _, _))| step == "swap-cluster").unwrap().0;
    let mut plan = Plan::default();
    // Six invocations, each with all attempts of the SDK.
    for number in first_rename..first_rename + 6 {
        plan.named.insert(("rds:ModifyDBCluster", number), CallFault::Fail(3));
    }
    let refused = run(&Setup { plan, ..calm });
    assert_eq!((usual.outcome(), refused.outcome()), ("Succeeded".into(), "Succeeded".into()));
    let away = |report: &Report| report.downtime_seconds.unwrap();
    assert!(away(&refused) >= away(&usual) + 10, "{} {}", away(&refused), away(&usual));
    let instances = |report: &Report| report.phase_seconds[&Phase::InstanceRename];
    assert!(instances(&refused) <= instances(&usual) + 2, "{} {}", instances(&refused), instances(&usual));
}
