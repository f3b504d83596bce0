//! What goes wrong, and when: planned before a simulation begins, so that it can be repeated.

use crate::cloud::wire::{Call, Fault};
use crate::cloud::{Invocation, World};
use crate::time::SECOND;
use aurora_restore_domain::failure::ErrorName;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A fault of one call, by the number of its HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    /// The service asks to slow down, for so many attempts; the SDK makes three.
    Throttle(u8),
    /// The service fails, for so many attempts. Nothing was done.
    Fail(u8),
    /// The service denies access. Nothing was done.
    Deny,
    /// Another writer was at the same item (DynamoDB only; elsewhere as [`CallFault::Fail`]).
    Conflict,
    /// No answer, and nothing was done.
    TimeoutBefore,
    /// No answer, but it was done.
    TimeoutAfter,
    /// Done, but the answer says that the service failed.
    FailAfter,
    /// The function is killed before the call has an effect.
    KillBefore,
    /// The function is killed after the call had its effect.
    KillAfter,
    /// At its next look at RDS the function is frozen for minutes, and its execution is stopped meanwhile: an execution
    /// that was thought dead comes back.
    Zombie,
}

/// A fault of one invocation, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationFault {
    /// Lambda refuses; the function does not run.
    Refused,
    /// The function runs to its end, but its answer is lost.
    AnswerLost,
    /// It runs twice, one after the other; the second's answer counts.
    TwiceInTurn,
    /// It runs twice at once; the first's answer counts.
    TwiceAtOnce,
}

/// What somebody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chaos {
    /// Disables the key of the target Region.
    DisableKey,
    /// Deletes the copy.
    DeleteCopy,
    /// Deletes the target cluster with its instances, whosever it is.
    DeleteTarget,
    /// Makes a cluster of the target's name, if there is none.
    TakeName,
    /// Turns the target's deletion protection on.
    Protect,
    /// Deletes an instance of the target.
    DeleteInstance,
    /// Stops the execution.
    StopExecution,
}

/// All that goes wrong in one simulation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By number of the call.
    pub calls: BTreeMap<u32, CallFault>,
    /// By what is called, and the how manieth time.
    pub named: BTreeMap<(&'static str, u32), CallFault>,
    /// By number of the invocation.
    pub invocations: BTreeMap<u32, InvocationFault>,
    /// Just before the call of this number.
    pub chaos: BTreeMap<u32, Chaos>,
}

impl Plan {
    /// One fault of one call.
    pub fn call(number: u32, fault: CallFault) -> Self {
        Self { calls: BTreeMap::from([(number, fault)]), ..Self::default() }
    }

    /// One fault of one invocation.
    pub fn invocation(number: u32, fault: InvocationFault) -> Self {
        Self { invocations: BTreeMap::from([(number, fault)]), ..Self::default() }
    }

    /// Draws a call that is denied while it changes something, and what becomes of the telling of it: two faults that
    /// numbers alone bring together once in thousands of seeds.
    pub fn draw_denial(&mut self, rng: &mut fastrand::Rng) {
        let taking = ["rds:DeleteDBInstance", "rds:DeleteDBCluster"];
        let other = ["rds:CopyDBClusterSnapshot", "rds:RestoreDBClusterFromSnapshot", "rds:CreateDBInstance"];
        let name = if rng.bool() { taking[rng.usize(0..taking.len())] } else { other[rng.usize(0..other.len())] };
        self.named.insert((name, rng.u32(1..=2)), CallFault::Deny);
        let faults = [
            CallFault::Throttle(1),
            CallFault::Fail(1),
            CallFault::TimeoutBefore,
            CallFault::TimeoutAfter,
            CallFault::KillBefore,
            CallFault::KillAfter,
        ];
        for number in 1..=rng.u32(0..=2) {
            self.named.insert(("sns:Publish", number), faults[rng.usize(0..faults.len())]);
        }
    }

    /// Draws a plan for a run of about `calls` calls.
    pub fn draw(rng: &mut fastrand::Rng, calls: u32) -> Self {
        let mut plan = Self::default();
        let count = [0, 1, 1, 1, 2, 2, 3, 5][rng.usize(0..8)];
        for _ in 0..count {
            let fault = match rng.u8(0..14) {
                0 => CallFault::Throttle(1),
                1 | 2 => CallFault::Throttle(3),
                3 => CallFault::Fail(rng.u8(1..=3)),
                4 => CallFault::Deny,
                5 => CallFault::Conflict,
                6 => CallFault::TimeoutBefore,
                7 | 8 => CallFault::TimeoutAfter,
                9 => CallFault::FailAfter,
                10 | 11 => CallFault::KillBefore,
                _ => CallFault::KillAfter,
            };
            plan.calls.insert(rng.u32(1..=calls), fault);
        }
        if rng.u8(0..4) == 0 {
            let faults = [
                InvocationFault::Refused,
                InvocationFault::AnswerLost,
                InvocationFault::TwiceInTurn,
                InvocationFault::TwiceAtOnce,
            ];
            for _ in 0..rng.u8(1..=3) {
                plan.invocations.insert(rng.u32(1..=calls / 6), faults[rng.usize(0..faults.len())]);
            }
        }
        if rng.u8(0..20) == 0 {
            plan.calls.insert(rng.u32(1..=calls * 2 / 3), CallFault::Zombie);
        }
        if rng.u8(0..4) == 0 {
            let deeds = [
                Chaos::DisableKey,
                Chaos::DeleteCopy,
                Chaos::DeleteTarget,
                Chaos::TakeName,
                Chaos::Protect,
                Chaos::DeleteInstance,
                Chaos::StopExecution,
            ];
            plan.chaos.insert(rng.u32(1..=calls), deeds[rng.usize(0..deeds.len())]);
        }
        plan
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = Vec::new();
        told.extend(self.calls.iter().map(|(number, fault)| format!("call {number} {fault:?}")));
        told.extend(self.named.iter().map(|((name, number), fault)| format!("{name} no. {number} {fault:?}")));
        told.extend(self.invocations.iter().map(|(number, fault)| format!("invocation {number} {fault:?}")));
        told.extend(self.chaos.iter().map(|(number, deed)| format!("somebody at call {number} {deed:?}")));
        f.write_str(if told.is_empty() { "none" } else { "" })?;
        f.write_str(&told.join(", "))
    }
}

/// A fault that was injected.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Number of the call.
    pub call: u32,
    /// Who called.
    pub step: String,
    /// `service:Action`
    pub name: String,
    /// What it was about.
    pub resource: String,
    /// The fault.
    pub fault: CallFault,
}

/// A fault that meets the next attempts of the same call too.
#[derive(Debug, Clone)]
pub struct Sticky {
    invocation: u32,
    name: String,
    fault: CallFault,
    left: u8,
}

/// How a call arrives.
#[derive(Debug)]
pub enum Arrival {
    /// It takes effect; then, with a fault, its answer is lost in that way.
    Arrived(Option<CallFault>),
    /// It is refused and has no effect.
    Refused(Fault),
    /// Nobody ever answers.
    Lost,
}

/// Decides what becomes of a call.
pub fn arrive(world: &mut World, call: &Call, caller: Option<&Arc<Invocation>>) -> Arrival {
    world.calls += 1;
    let number = world.calls;
    if let Some(deed) = world.plan.chaos.get(&number).copied() {
        crate::chaos::act(world, deed);
    }
    crate::chaos::take_name_in_time(world, caller);
    if call.action.starts_with("DescribeDB") && std::mem::take(&mut world.zombie_wanted) {
        crate::chaos::freeze(world, caller);
    }
    let (step, invocation) =
        caller.map_or(("?".to_owned(), 0), |caller| (caller.function.as_str().to_owned(), caller.number));
    let name = call.name();
    if world.scene.keeps_log {
        world.log.push((step.clone(), name.clone(), call.resource()));
        if call.service == "rds" {
            let second = world.time.now_us() / SECOND;
            *world.tempo.entry((call.region.clone(), second)).or_default() += 1;
        }
    }
    let named = named_fault(world, &name);
    let known = world.sticky.iter_mut().find(|known| known.invocation == invocation && known.name == name);
    let (fault, is_first) = match known.filter(|known| known.left > 0) {
        Some(known) => {
            known.left -= 1;
            (Some(known.fault), false)
        }
        None => (world.plan.calls.get(&number).copied().or(named), true),
    };
    let Some(fault) = fault else { return Arrival::Arrived(None) };
    if fault == CallFault::Zombie {
        world.zombie_wanted = true;
        return Arrival::Arrived(None);
    }
    let times = match fault {
        CallFault::Throttle(times) | CallFault::Fail(times) => times,
        CallFault::Deny
        | CallFault::Conflict
        | CallFault::TimeoutBefore
        | CallFault::TimeoutAfter
        | CallFault::FailAfter
        | CallFault::KillBefore
        | CallFault::KillAfter
        | CallFault::Zombie => 1,
    };
    if times > 1 && is_first {
        world.sticky.push(Sticky { invocation, name: name.clone(), fault, left: times - 1 });
    }
    let resource = call.resource();
    world.line(&step, &format!("{name} {resource}   ** {fault:?}"));
    world.applied.push(Applied { call: number, step, name, resource, fault });
    match fault {
        CallFault::Throttle(_) => refused(throttle_code(call), 400, "Rate exceeded"),
        CallFault::Fail(_) => refused(failure_code(call), 500, "We encountered an internal error"),
        CallFault::Deny => refused(denial_code(call), 400, "User is not authorized to perform this action"),
        CallFault::Conflict if call.action == "TransactWriteItems" => {
            refused("TransactionCanceledException", 400, "Transaction cancelled [None, TransactionConflict]")
        }
        CallFault::Conflict if call.service == "dynamodb" => {
            refused("TransactionConflictException", 400, "Transaction is ongoing for the item")
        }
        CallFault::Conflict => refused(failure_code(call), 500, "We encountered an internal error"),
        CallFault::TimeoutBefore => Arrival::Lost,
        CallFault::KillBefore => {
            if let Some(caller) = caller {
                caller.killed.store(true, Ordering::Relaxed);
            }
            Arrival::Lost
        }
        CallFault::TimeoutAfter | CallFault::FailAfter | CallFault::KillAfter => Arrival::Arrived(Some(fault)),
        CallFault::Zombie => Arrival::Arrived(None),
    }
}

/// The fault planned for this call by its name; counts it.
fn named_fault(world: &mut World, name: &str) -> Option<CallFault> {
    let known = world.plan.named.keys().find(|(known, _)| *known == name)?.0;
    let number = world.named_calls.entry(known).or_default();
    *number += 1;
    world.plan.named.get(&(known, *number)).copied()
}

fn refused(code: &'static str, status: u16, message: &str) -> Arrival {
    Arrival::Refused(Fault { status, code, message: message.to_owned() })
}

fn throttle_code(call: &Call) -> &'static str {
    match call.service {
        "dynamodb" => "ProvisionedThroughputExceededException",
        "rds" | "sns" => "Throttling",
        _ => "ThrottlingException",
    }
}

fn failure_code(call: &Call) -> &'static str {
    match call.service {
        "dynamodb" => "InternalServerError",
        "kms" => "KMSInternalException",
        "secretsmanager" => "InternalServiceError",
        "sns" => "InternalError",
        _ => "InternalFailure",
    }
}

fn denial_code(call: &Call) -> &'static str {
    match call.service {
        "rds" => "AccessDenied",
        "sns" => "AuthorizationError",
        _ => "AccessDeniedException",
    }
}

/// Whether an error's name is one that the product or the platform gives on purpose.
pub fn is_named(error: &str) -> bool {
    ErrorName::ALL.iter().any(|name| name.to_string() == error)
        || error == "States.Timeout"
        || error.starts_with("Lambda.")
        || error == "Runtime.ExitError"
        || error == "Sandbox.Timedout"
}
