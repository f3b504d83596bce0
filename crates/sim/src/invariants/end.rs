//! What must hold when an execution has ended, and when everything has.

use super::swap;
use super::{Invariant, Takeover, holds_lock, state, text, trail};
use crate::cloud::model::{Cluster, Item, Published};
use crate::cloud::{World, lean};
use crate::faults::{CallFault, InvocationFault, is_named};
use crate::machine::Ended;
use crate::scenario::{Scenario, sacred};
use aurora_restore_domain::audit::{Record, first_break};
use aurora_restore_domain::roles::RoleName;
use aurora_restore_domain::step::Step;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An execution that has ended.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Its ARN.
    pub arn: String,
    /// The operation that it drove.
    pub operation_id: String,
    /// How it ended.
    pub ended: Ended,
    /// Events in its history.
    pub events: u64,
    /// When it ended, in microseconds.
    pub ended_us: u64,
    /// When it began, in virtual microseconds.
    pub began_us: u64,
}

/// Judges an execution right after its end.
pub fn of_execution(world: &mut World, verdict: &Verdict) {
    if world.scene.is_crowd {
        return;
    }
    world.tick();
    let Verdict { arn, operation_id, ended, events, .. } = verdict;
    if *events > 25_000 {
        world.violated(Invariant::NeverEnds, format!("{events} events in the history of {arn}"));
    }
    match ended {
        Ended::Succeeded => succeeded(world, verdict),
        Ended::Failed { error, .. } => {
            if !is_named(error) {
                world.violated(Invariant::UnnamedFailure, format!("{arn} failed with '{error}'"));
            }
            if error == "TargetLocked" && world.touched.contains(arn) && !world.tampered {
                let what = format!("{arn} lost its lock while it was at work");
                world.violated(Invariant::Unlocked, what);
            }
            told(world, verdict, &["FAILED"]);
            swap::judge_failure(world, arn);
            released(world, verdict);
        }
        Ended::Aborted => {}
        Ended::TimedOut => world.violated(Invariant::NeverEnds, format!("{arn} ran into the machine's timeout")),
        Ended::Broken(why) => world.violated(Invariant::Strange, format!("{arn}: {why}")),
    }
    honest(world, verdict);
    failed_step(world, verdict);
    taken_over(world, verdict);
    if let Some(item) = state(world, operation_id)
        && text(item, "execution_arn") == arn
    {
        let status = text(item, "status").to_owned();
        let agrees = match ended {
            Ended::Succeeded => ["succeeded", "planned"].contains(&status.as_str()),
            Ended::Failed { .. } => status == "failed",
            Ended::Aborted | Ended::TimedOut | Ended::Broken(_) => true,
        };
        if !agrees {
            world.violated(Invariant::Disagree, format!("{arn} ended as {ended:?}, but its state says {status}"));
        }
    }
}

fn succeeded(world: &mut World, verdict: &Verdict) {
    if world.scene.scenario.restores() {
        told(world, verdict, &["SUCCEEDED"]);
        masked(world, verdict);
        if !world.tampered
            && let Err(why) = as_declared(world, &verdict.operation_id)
        {
            world.violated(Invariant::FalseSuccess, why);
        }
    } else {
        told(world, verdict, &["PLANNED"]);
    }
    released(world, verdict);
}

/// Whatever somebody else did meanwhile: what this operation restored and says to be good is masked.
fn masked(world: &mut World, verdict: &Verdict) {
    let (Some(region), id) = (world.regions.get(&world.scene.target_region), &world.scene.target_id) else { return };
    let restored = region.clusters.get(id).filter(|cluster| super::of_operation(&cluster.tags, &verdict.operation_id));
    if let Some(masked) = restored.map(|cluster| &cluster.masked).filter(|masked| **masked != world.scene.scripts) {
        let what = format!("{} succeeded with {id} masked by {masked:?}", verdict.arn);
        world.violated(Invariant::Unmasked, what);
    }
}

/// Whether people find what was declared.
fn as_declared(world: &World, operation_id: &str) -> Result<(), String> {
    let scene = &world.scene;
    let region = world.regions.get(&scene.target_region).ok_or("no Region")?;
    let cluster = region.clusters.get(&scene.target_id).ok_or("there is no cluster")?;
    if !super::of_operation(&cluster.tags, operation_id) {
        return Err(format!("cluster {} is not tagged as restored by {operation_id}", cluster.id));
    }
    if cluster.status != "available" || cluster.password_pending {
        return Err(format!(
            "cluster {} is {} (password pending: {})",
            cluster.id, cluster.status, cluster.password_pending
        ));
    }
    if cluster.members.is_empty() {
        return Err("it has no instances".into());
    }
    for member in &cluster.members {
        let status = region.instances.get(member).map_or("gone", |instance| instance.status.as_str());
        if status != "available" {
            return Err(format!("instance {member} is {status}"));
        }
    }
    let lets_in =
        |role: &str, password: &str| RoleName::try_from(role).is_ok_and(|role| cluster.roles.lets_in(&role, password));
    if !lets_in("master", &scene.master_password) {
        return Err("the master's password is not the secret's".into());
    }
    if let Some((role, _)) = scene.declared.iter().find(|(role, password)| !lets_in(role, password)) {
        return Err(format!("{role} cannot log in"));
    }
    let declared: Vec<&str> = scene.declared.iter().map(|(role, _)| role.as_str()).collect();
    match cluster.roles.strangers(&declared).first() {
        Some(stranger) => Err(format!("{stranger} of production can still log in")),
        None => Ok(()),
    }
}

/// Notify was denied a call after it had told the success: then the failure is told after it.
fn notify_was_denied(world: &World) -> bool {
    world.applied.iter().any(|applied| applied.step == "notify" && applied.fault == CallFault::Deny)
}

fn told(world: &mut World, verdict: &Verdict, wanted: &[&str]) {
    let of_this = world.published.iter().filter(|message| message.execution_arn == verdict.arn);
    let messages: Vec<(String, bool)> = of_this.map(|message| (message.status.clone(), message.says_repeat)).collect();
    let arn = &verdict.arn;
    if messages.is_empty() {
        world.violated(Invariant::NotTold, format!("the end of {arn}"));
    }
    if let Some((status, _)) = messages.iter().find(|(status, _)| !wanted.contains(&status.as_str())) {
        let excused = ["SUCCEEDED", "PLANNED"].contains(&status.as_str()) && notify_was_denied(world);
        if !excused {
            world.violated(Invariant::Disagree, format!("{arn} ended as {:?}, but {status} was told", verdict.ended));
        }
    }
    if messages.len() > 1 {
        let silent = messages.iter().filter(|(_, says_repeat)| !says_repeat).count();
        let cause = world.applied.iter().any(|applied| applied.step == "notify") || !world.plan.invocations.is_empty();
        if silent > 1 || !cause {
            let faults: Vec<String> = world
                .applied
                .iter()
                .filter(|a| a.step == "notify")
                .map(|a| format!("{} {:?}", a.name, a.fault))
                .collect();
            let doubled = world.plan.invocations.values().any(|fault| *fault == InvocationFault::TwiceAtOnce);
            world.violated(
                Invariant::ToldTwice,
                format!(
                    "the end of {arn}: {} times, {silent} without saying that it is a repeat ({}{})",
                    messages.len(),
                    faults.join(", "),
                    if doubled { " twice at once" } else { "" }
                ),
            );
        }
    }
}

fn released(world: &mut World, verdict: &Verdict) {
    if holds_lock(world, &verdict.operation_id, &verdict.arn) {
        world.violated(Invariant::LockKept, format!("{} ended and still has the lock", verdict.arn));
    }
}

/// What ended it is told, whatever befell the telling; and who failed, also when it might not even read the state.
fn failed_step(world: &mut World, verdict: &Verdict) {
    let name = verdict.arn.rsplit(':').next().unwrap_or_default();
    let states = world.states.get(name).map(Vec::as_slice).unwrap_or_default();
    let failed = states.iter().position(|state| state == "NotifyFailure").and_then(|at| states.get(at.checked_sub(1)?));
    let Some(failed) = failed.filter(|state| *state != "Notify").map(|state| kebab(state)) else { return };
    let of_this = |message: &&Published| message.execution_arn == verdict.arn && message.status == "FAILED";
    let told = world.published.iter().filter(of_this).flat_map(|message| message.text.lines());
    let told: Vec<String> = told.filter_map(|line| line.strip_prefix("Failed step  ")).map(str::to_owned).collect();
    // Whoever was killed may have been done before: only a step that was denied is known not to be.
    let denied =
        world.applied.iter().all(|applied| applied.fault == CallFault::Deny) && world.plan.invocations.is_empty();
    let is_step = Step::ALL.iter().any(|step| step.as_str() == failed);
    let wrong = told.into_iter().find(|step| step == "notify" || denied && is_step && *step != failed);
    if let Some(step) = wrong {
        let what = format!("{}: told that {step} failed, but {failed} did", verdict.arn);
        world.violated(Invariant::FailedStepMistold, what);
    }
}

/// `CheckCopy` as `check-copy`.
fn kebab(state: &str) -> String {
    let mut name = String::with_capacity(state.len() + 3);
    for c in state.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// What it took over is written down, and closed.
fn taken_over(world: &mut World, verdict: &Verdict) {
    let mine = |takeover: &&Takeover| takeover.by.0 == verdict.operation_id;
    let taken = world.takeovers.iter().filter(mine).count();
    let records = trail(world, &verdict.operation_id);
    let recorded = records.iter().filter(|item| text(item, "action") == "aurora-restore:LockTakenOver").count();
    if taken != recorded {
        let what = format!("{} took a lock over {taken} times, and recorded {recorded}", verdict.operation_id);
        world.violated(Invariant::TakeoverUnrecorded, what);
    }
    let formers: Vec<String> = world.takeovers.iter().filter(mine).map(|takeover| takeover.former.clone()).collect();
    for former in formers.into_iter().filter(|former| *former != verdict.operation_id) {
        let left = state(world, &former).is_some_and(|item| {
            let driver = world.executions.get(text(item, "execution_arn"));
            text(item, "status") == "running" && driver.is_none_or(|status| status != "RUNNING")
        });
        if left {
            let what = format!("operation {former}, whose lock {} took over", verdict.operation_id);
            world.violated(Invariant::LeftRunning, what);
        }
    }
}

/// What was told about the target is true.
fn honest(world: &mut World, verdict: &Verdict) {
    let untouched = format!("target cluster {} was not touched", world.scene.target_id);
    let claimed =
        world.published.iter().any(|message| message.execution_arn == verdict.arn && message.text.contains(&untouched));
    let restored = format!("restored cluster {} (", world.scene.target_id);
    let claims_restored =
        world.published.iter().any(|message| message.execution_arn == verdict.arn && message.text.contains(&restored));
    if claims_restored && !world.ever_made.contains(&(verdict.operation_id.clone(), "cluster".to_owned())) {
        let what = format!("{}: told of a restored cluster, but none was restored", verdict.arn);
        world.violated(Invariant::Disagree, what);
    }
    if claimed && world.touched.contains(&verdict.arn) {
        world.violated(
            Invariant::Disagree,
            format!("{}: told that the target was not touched, but it was", verdict.arn),
        );
    }
}

/// Judges the world when everything has ended. `last` when nothing runs any more: what is open now stays open.
pub fn at_the_end(world: &mut World, verdicts: &[Verdict], last: bool) {
    world.tick();
    let now = sacred(world);
    let changed: Vec<String> = world
        .scene
        .sacred
        .iter()
        .filter(|(arn, looks)| now.get(*arn) != Some(looks))
        .map(|(arn, _)| arn.clone())
        .collect();
    for arn in changed {
        world.violated(Invariant::NotOurs, format!("{arn} is not as it was"));
    }
    // Who stops an execution by hand takes its cleaning up away too; the next one does it.
    let stopped = |verdict: &Verdict| verdict.ended == Ended::Aborted;
    let is_left = if last { verdicts.last().is_some_and(stopped) } else { verdicts.iter().any(stopped) };
    if !is_left {
        protection(world);
    }
    let ends: BTreeMap<&str, &Ended> = verdicts.iter().map(|v| (v.operation_id.as_str(), &v.ended)).collect();
    for (operation_id, ended) in ends {
        // Who was stopped by a person has had no chance to close what it began.
        audit(world, operation_id, last && *ended != Ended::Aborted);
    }
}

fn protection(world: &mut World) {
    let scene = &world.scene;
    let Some(region) = world.regions.get(&scene.target_region) else { return };
    let matters = |cluster: &&Cluster| cluster.id == scene.target_id || swap::may_be_deleted_as(world, &cluster.id);
    let clusters: Vec<Cluster> = region.clusters.values().filter(matters).cloned().collect();
    clusters.iter().for_each(|cluster| protected(world, cluster));
}

fn protected(world: &mut World, cluster: &Cluster) {
    if cluster.status != "deleting" && !cluster.protected {
        let whose = if super::managed(&cluster.tags) { "ours" } else { "somebody's" };
        world.violated(Invariant::ProtectionOff, format!("cluster {} ({whose}, {})", cluster.id, cluster.status));
    }
}

/// DynamoDB's JSON as plain JSON.
fn plain(item: &Item) -> Map<String, Value> {
    item.iter().map(|(name, value)| (name.clone(), plain_value(value))).collect()
}

fn plain_value(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|value| value.iter().next()) else { return Value::Null };
    match kind.as_str() {
        "N" => inner.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null),
        "M" | "L" => nested(&lean::inside(inner)),
        "NULL" => Value::Null,
        _ => inner.clone(),
    }
}

fn nested(inside: &Value) -> Value {
    let plain = |value: &Value| match value.as_object().and_then(|value| value.iter().next()) {
        Some((kind, inner)) if kind == "M" || kind == "L" => nested(inner),
        _ => plain_value(value),
    };
    match inside.as_object() {
        Some(map) => map.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        None => inside.as_array().into_iter().flatten().map(plain).collect(),
    }
}

fn audit(world: &mut World, operation_id: &str, last: bool) {
    let mut records = Vec::new();
    for item in trail(world, operation_id) {
        match serde_json::from_value::<Record>(Value::Object(plain(item))) {
            Ok(record) => records.push(record),
            Err(error) => {
                return world
                    .violated(Invariant::AuditBroken, format!("a record of {operation_id} is unreadable: {error}"));
            }
        }
    }
    if let Some((index, why)) = first_break(&records) {
        world.violated(Invariant::AuditBroken, format!("record {index} of {operation_id}: {why}"));
    }
    if !last {
        return;
    }
    let mut open: Vec<(String, String)> = Vec::new();
    for record in &records {
        let of = (record.entry.action.clone(), record.entry.resource.clone());
        match record.entry.phase {
            aurora_restore_domain::audit::Phase::Begun => open.push(of),
            aurora_restore_domain::audit::Phase::Finished => {
                if let Some(position) = open.iter().position(|known| *known == of) {
                    open.remove(position);
                }
            }
            aurora_restore_domain::audit::Phase::Event => {}
        }
    }
    if let Some((action, resource)) = open.first()
        && world.scene.scenario != Scenario::PlanOnly
    {
        world.violated(Invariant::OrphanKept, format!("{action} {resource} of {operation_id}"));
    }
}
