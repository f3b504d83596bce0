//! Every step repeated, every call failed, a kill before and after every call: over every scenario.
//!
//! Optimised, every call is met; without optimisation (about twenty times slower) a sample.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

use aurora_restore_sim::{CallFault, Ended, InvocationFault, Machine, Plan, Report, Scenario, Setup, simulate};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The run in which nothing goes wrong, with every call.
fn baseline(machine: &Machine, scenario: Scenario) -> Report {
    let mut setup = Setup::quick(scenario);
    setup.logs = true;
    let report = simulate(machine, &setup);
    let wanted = if scenario.can_succeed() { "Succeeded" } else { "RefusedUnsafe" };
    assert_eq!(report.outcome(), wanted, "{scenario:?}");
    assert!(report.violations.is_empty(), "{scenario:?}: {:?}", report.violations);
    report
}

/// Runs the plan of every number, and collects what `judge` has against any.
fn each(
    scenario: Scenario,
    count: u32,
    plan: impl Fn(u32) -> Plan + Sync,
    judge: impl Fn(u32, &Report) -> Option<String> + Sync,
) {
    let machine = Machine::shipped().unwrap();
    let step = if cfg!(debug_assertions) { 7 } else { 1 };
    let numbers: Vec<u32> = (1..=count).step_by(step).collect();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut setup = Setup::quick(scenario);
                    setup.plan = plan(*number);
                    let report = simulate(&machine, &setup);
                    let broken = report.violations.first().map(ToString::to_string);
                    if let Some(what) = broken.or_else(|| judge(*number, &report)) {
                        wrong.lock().unwrap().push(format!("{scenario:?}, {}: {what}", setup.plan));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), numbers.len(), wrong[..wrong.len().min(12)].join("\n"));
}

/// As without the fault: well, or refused for the same reason.
fn must_end_as(base: &Report, report: &Report) -> Option<String> {
    (report.outcome() != base.outcome()).then(|| format!("ended as {}", report.outcome()))
}

/// A fault of every call that the machine's own retries heal.
fn heals(scenario: Scenario, fault: CallFault) {
    let base = baseline(&Machine::shipped().unwrap(), scenario);
    each(
        scenario,
        base.calls,
        |number| Plan::call(number, fault),
        |number, report| {
            let (step, name, resource) = &base.log[number as usize - 1];
            let Some(met) = report.applied.first() else {
                return Some(format!("nothing failed, not {name} of {step}"));
            };
            if (&met.step, &met.name, &met.resource) != (step, name, resource) {
                return Some(format!(
                    "met {} {} of {}, not {name} {resource} of {step}",
                    met.name, met.resource, met.step
                ));
            }
            must_end_as(&base, report).map(|what| format!("{what} after {name} {resource} of {step}"))
        },
    );
}

fn repeats(scenario: Scenario, fault: InvocationFault) {
    let base = baseline(&Machine::shipped().unwrap(), scenario);
    let judge = |_, report: &Report| must_end_as(&base, report);
    each(scenario, base.invocations, |number| Plan::invocation(number, fault), judge);
}

macro_rules! over_scenarios {
    ($($name:ident => $driver:ident($($fault:tt)*);)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn happy() {
                $driver(Scenario::Happy, $($fault)*);
            }

            #[test]
            fn same_region() {
                $driver(Scenario::SameRegion, $($fault)*);
            }

            #[test]
            fn unencrypted() {
                $driver(Scenario::Unencrypted, $($fault)*);
            }

            #[test]
            fn no_target() {
                $driver(Scenario::NoTarget, $($fault)*);
            }

            #[test]
            fn second_run() {
                $driver(Scenario::SecondRun, $($fault)*);
            }

            #[test]
            fn serverless() {
                $driver(Scenario::Serverless, $($fault)*);
            }

            #[test]
            fn no_final_snapshot() {
                $driver(Scenario::NoFinalSnapshot, $($fault)*);
            }

            #[test]
            fn plan_only() {
                $driver(Scenario::PlanOnly, $($fault)*);
            }

            #[test]
            fn not_ours() {
                $driver(Scenario::NotOurs, $($fault)*);
            }

            #[test]
            fn slots_taken() {
                $driver(Scenario::SlotsTaken, $($fault)*);
            }

            #[test]
            fn masked() {
                $driver(Scenario::Masked, $($fault)*);
            }

            #[test]
            fn swap() {
                $driver(Scenario::Swap, $($fault)*);
            }
        }
    )*};
}

over_scenarios! {
    every_call_throttled => heals(CallFault::Throttle(3));
    every_call_failed => heals(CallFault::Fail(3));
    every_answer_lost => heals(CallFault::TimeoutAfter);
    every_answer_an_error => heals(CallFault::FailAfter);
    killed_before_every_call => heals(CallFault::KillBefore);
    killed_after_every_call => heals(CallFault::KillAfter);
    every_call_denied => denied();
    every_step_repeated => repeats(InvocationFault::TwiceInTurn);
    every_step_twice_at_once => repeats(InvocationFault::TwiceAtOnce);
    every_step_unanswered => repeats(InvocationFault::AnswerLost);
    every_step_refused => repeats(InvocationFault::Refused);
}

/// A call that is denied ends the execution with that name, and the reason names the call.
fn denied(scenario: Scenario) {
    let base = baseline(&Machine::shipped().unwrap(), scenario);
    each(
        scenario,
        base.calls,
        |number| Plan::call(number, CallFault::Deny),
        |number, report| {
            let (step, name, _) = &base.log[number as usize - 1];
            // The database is no service that denies: it does not answer, and the step is repeated. And without wake, waits
            // end by their time.
            if name.starts_with("database:") || step == "wake" {
                return must_end_as(&base, report);
            }
            // What fails already fails with its own reason: that it could not be written down or told hides nothing.
            let fails_already = match scenario {
                Scenario::NotOurs => step == "notify" || name.starts_with("dynamodb:"),
                Scenario::SlotsTaken => step == "copy-snapshot" && name.starts_with("dynamodb:"),
                _ => false,
            };
            if fails_already && must_end_as(&base, report).is_none() {
                return None;
            }
            // Names that had begun to change go back, and what was denied is why.
            let goes_back = |error: &str| step == "swap-cluster" && error == "SwapFailed";
            match &report.verdicts.first()?.ended {
                Ended::Failed { error, cause }
                    if (error == "AccessDenied" || goes_back(error)) && cause.contains(name.as_str()) =>
                {
                    None
                }
                ended => Some(format!("{step} was denied {name}, and the execution ended as {ended:?}")),
            }
        },
    );
}
