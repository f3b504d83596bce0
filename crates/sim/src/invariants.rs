//! What must never happen, whatever goes wrong: judged at every change and at the end.

use crate::cloud::model::{Cluster, Item, Published, Snapshot};
use crate::cloud::wire::Call;
use crate::cloud::{Effect, World};
use crate::scenario::{AUDIT, STATE, Scenario};
use crate::time::at;
use aurora_restore_domain::cloud::Tags;
use aurora_restore_domain::roles::RoleChange;
use std::collections::BTreeSet;
use std::fmt;

/// A promise of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Nothing that is not ours is ever changed.
    NotOurs,
    /// The target is deleted only with an available copy of this operation.
    DeletedWithoutCopy,
    /// The target's name is given away only for a restored cluster that is ready, and answers, or is said not to, after a
    /// failure.
    NameGivenAway,
    /// The former cluster of a swap goes only after somebody could log in to its successor under the target's name.
    RetiredEarly,
    /// Only the operation that has the lock changes anything.
    Unlocked,
    /// Protection never ends off on a cluster that lives.
    ProtectionOff,
    /// At most one copy, one cluster, one of each instance per operation.
    MadeTwice,
    /// Every execution ends, in `Succeed` or `Fail`, within Step Functions' limits.
    NeverEnds,
    /// `Succeed` only if the database answers as declared.
    FalseSuccess,
    /// `Fail` has a named reason.
    UnnamedFailure,
    /// Every outcome is told.
    NotTold,
    /// The lock is released at the end.
    LockKept,
    /// One notification per outcome; a second only after a kill, and it says so.
    ToldTwice,
    /// State, notification and cloud say the same.
    Disagree,
    /// What people are told of the deletion protection is so at that moment.
    ProtectionMistold,
    /// A failure of the telling is not told in the place of what failed.
    FailedStepMistold,
    /// Each lock that was taken over has its record, once, by the time that the taker's execution ends.
    TakeoverUnrecorded,
    /// An operation whose lock was taken over is not left running when its execution is over.
    LeftRunning,
    /// A mutating call has its begun record before it.
    Unaudited,
    /// The audit trail is one unbroken chain.
    AuditBroken,
    /// A begun record without its end is closed by the next run.
    OrphanKept,
    /// Once the fault is gone, running again ends in success.
    NotAgain,
    /// What passes by itself does not fail a run: throttling, lost answers, killed functions.
    Fragile,
    /// Nobody but the master gets in while data is to be masked, and each script has run once when others do.
    Unmasked,
    /// No secret is seen anywhere.
    Secret,
    /// Something that this simulation does not know: a call, a construct, a panic.
    Strange,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// When, in microseconds.
    pub at_us: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} (at {})", self.invariant, self.what, aurora_restore_domain::timestamp(at(self.at_us)))
    }
}

/// A lock that changed hands while it was held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The operation that had it.
    pub former: String,
    /// The operation that took it, and its execution.
    pub by: (String, String),
}

fn managed(tags: &Tags) -> bool {
    tags.get("aurora-restore:managed").is_some_and(|value| value == "true")
}

fn of_operation(tags: &Tags, operation_id: &str) -> bool {
    managed(tags) && tags.get("aurora-restore:operation").is_some_and(|value| value == operation_id)
}

fn is_copy(tags: &Tags) -> bool {
    managed(tags) && tags.get("aurora-restore:kind").is_some_and(|value| value == "copy")
}

/// Judges a change that is about to be made.
pub fn judge(world: &mut World, call: &Call, effect: &Effect<'_>) {
    if world.scene.is_crowd {
        return;
    }
    let Some(caller) = world.caller() else {
        return world.violated(Invariant::Strange, format!("nobody calls {}", call.name()));
    };
    let (operation_id, execution_arn) = (caller.operation_id.clone(), caller.execution_arn.clone());
    let name = call.name();
    if call.service == "rds" && call.region != world.scene.target_region {
        world.violated(Invariant::NotOurs, format!("{name} in {}", call.region));
    }
    // A refused execution tells of itself, in a trail of its own.
    let of_refusal = matches!(effect, Effect::Publish)
        && world.tables.get(AUDIT).is_some_and(|table| {
            let trails: BTreeSet<&str> = table.items.keys().map(|(trail, _)| trail.as_str()).collect();
            let is_own = |trail: &&str| trail.starts_with("refused-") || execution_arn.ends_with(*trail);
            trails.into_iter().filter(is_own).any(|trail| has_begun_record(world, trail, &name))
        });
    // Before masking, roles are changed under another name.
    let closes =
        matches!(effect, Effect::ChangeRoles { .. }) && has_begun_record(world, &operation_id, "database:LockLogins");
    if !has_begun_record(world, &operation_id, &name) && !of_refusal && !closes {
        world.violated(Invariant::Unaudited, format!("{name} {} of {operation_id}", call.resource()));
    }
    let may = holds_lock(world, &operation_id, &execution_arn) || held_lock(world, &operation_id, &execution_arn);
    if !matches!(effect, Effect::Publish) && !may {
        world.violated(Invariant::Unlocked, format!("{name} by {execution_arn} without the lock"));
    }
    let of_target = match effect {
        Effect::Restore { cluster, .. } | Effect::Modify { cluster, .. } => swap::is_the_targets(world, cluster),
        Effect::DeleteCluster { .. }
        | Effect::DeleteInstance { .. }
        | Effect::RenameCluster { .. }
        | Effect::RenameInstance { .. } => true,
        Effect::MakeCopy { .. }
        | Effect::DeleteSnapshot { .. }
        | Effect::Tag { .. }
        | Effect::CreateInstance { .. }
        | Effect::ChangeRoles { .. }
        | Effect::Mask { .. }
        | Effect::Publish => false,
    };
    if of_target {
        world.touched.insert(execution_arn.clone());
    }
    match effect {
        Effect::MakeCopy { id, tags } => {
            if !of_operation(tags, &operation_id) || !is_copy(tags) {
                world.violated(Invariant::NotOurs, format!("copy {id} is made without our tags"));
            }
            once(world, &operation_id, "copy");
        }
        Effect::DeleteSnapshot { snapshot } => judge_deleted_snapshot(world, snapshot, &operation_id),
        Effect::Tag { arn, tags } => {
            if !managed(tags) {
                world.violated(Invariant::NotOurs, format!("{arn} is tagged, but is not ours"));
            }
        }
        Effect::Restore { cluster, snapshot } => {
            let from_source =
                world.scene.scenario == Scenario::SameRegion && snapshot.cluster_id == world.scene.source_id;
            if !from_source && !of_operation(&snapshot.tags, &operation_id) {
                world.violated(Invariant::NotOurs, format!("restored from {}, which is another's", snapshot.id));
            }
            if !swap::may_be_restored_as(world, &cluster.id) || !of_operation(&cluster.tags, &operation_id) {
                world.violated(Invariant::NotOurs, format!("cluster {} is restored without our tags", cluster.id));
            }
            once(world, &operation_id, "cluster");
        }
        Effect::Modify { cluster, protect, password } => {
            if *protect == Some(false) {
                judge_removal(world, &name, cluster, &operation_id);
            }
            if (*password || *protect == Some(true)) && !managed(&cluster.tags) {
                world.violated(Invariant::NotOurs, format!("{name} of {}", cluster.id));
            }
            if *password && !of_operation(&cluster.tags, &operation_id) {
                world.violated(Invariant::NotOurs, format!("the password of {}, which is another's", cluster.id));
            }
        }
        Effect::DeleteCluster { cluster, final_snapshot } => {
            judge_removal(world, &name, cluster, &operation_id);
            // Of a restore that failed no snapshot can be made.
            let is_wreck = cluster.status != "available" && cluster.tags.contains_key("aurora-restore:operation");
            if final_snapshot.is_none() && world.scene.scenario != Scenario::NoFinalSnapshot && !is_wreck {
                world.violated(
                    Invariant::NotOurs,
                    format!("cluster {} is deleted without a final snapshot", cluster.id),
                );
            }
        }
        Effect::RenameCluster { cluster, to } => swap::judge_cluster(world, cluster, to, &operation_id),
        Effect::RenameInstance { instance, cluster, to } => {
            swap::judge_instance(world, instance, *cluster, to, &operation_id);
        }
        Effect::DeleteInstance { instance, cluster } => match cluster {
            Some(cluster) => judge_removal(world, &name, cluster, &operation_id),
            None => world.violated(Invariant::NotOurs, format!("instance {} has no cluster", instance.id)),
        },
        Effect::CreateInstance { cluster, id } => {
            if !of_operation(&cluster.tags, &operation_id) {
                world.violated(Invariant::NotOurs, format!("instance {id} is made in another's cluster"));
            }
            once(world, &operation_id, &format!("instance {id}"));
        }
        Effect::ChangeRoles { cluster, changes } => {
            if !of_operation(&cluster.tags, &operation_id) {
                world.violated(Invariant::NotOurs, format!("the roles of {}, which is another's", cluster.id));
            }
            let lets_in = changes.iter().any(|change| matches!(change, RoleChange::SetPassword { .. }));
            if lets_in && cluster.masked != world.scene.scripts {
                let what = format!("users are let in to {}, which was masked by {:?}", cluster.id, cluster.masked);
                world.violated(Invariant::Unmasked, what);
            }
        }
        Effect::Mask { cluster } => {
            if !of_operation(&cluster.tags, &operation_id) {
                world.violated(Invariant::NotOurs, format!("{} is masked, which is another's", cluster.id));
            }
            if let Some(stranger) = cluster.roles.strangers(&[]).first() {
                world.violated(Invariant::Unmasked, format!("{stranger} can log in while {} is masked", cluster.id));
            }
        }
        Effect::Publish => {}
    }
}

/// The longest between a look and the call that rests on it.
const LOOK_US: u64 = 1_000_000;

/// One move towards the end of a cluster.
fn judge_removal(world: &mut World, name: &str, cluster: &Cluster, operation_id: &str) {
    let id = &cluster.id;
    if !swap::may_be_deleted_as(world, id) || !managed(&cluster.tags) {
        world.violated(Invariant::NotOurs, format!("{name} on cluster {id}, which is not ours"));
    }
    if of_operation(&cluster.tags, operation_id) {
        world.violated(Invariant::NotOurs, format!("{name} on cluster {id}, which this operation restored"));
    }
    if world.scene.scenario == Scenario::Swap {
        swap::judge_retirement(world, name, cluster, operation_id);
    }
    let scene = &world.scene;
    let usable = |snapshot: &&Snapshot| {
        snapshot.status == "available"
            && if scene.scenario == Scenario::SameRegion {
                snapshot.cluster_id == scene.source_id
            } else {
                of_operation(&snapshot.tags, operation_id) && is_copy(&snapshot.tags)
            }
    };
    let has_copy =
        world.regions.get(&scene.target_region).is_some_and(|region| region.snapshots.values().any(|s| usable(&s)));
    // Between the last look and the call nobody can know.
    let just_now = world.tampered_at_us.is_some_and(|at_us| world.time.now_us() < at_us + LOOK_US);
    if !has_copy && !just_now {
        world.violated(Invariant::DeletedWithoutCopy, format!("{name} on cluster {id}"));
    }
}

fn judge_deleted_snapshot(world: &mut World, snapshot: &Snapshot, operation_id: &str) {
    let id = &snapshot.id;
    if !is_copy(&snapshot.tags) || of_operation(&snapshot.tags, operation_id) {
        world.violated(Invariant::NotOurs, format!("snapshot {id} is deleted"));
    }
    let left = world.regions.get(&world.scene.target_region).is_some_and(|region| {
        let others = region.snapshots.values().filter(|other| other.id != *id);
        others.filter(|other| is_copy(&other.tags) && other.status == "available").count() > 0
    });
    if !left {
        world.violated(Invariant::NotOurs, format!("snapshot {id}, the last copy, is deleted"));
    }
}

fn once(world: &mut World, operation_id: &str, what: &str) {
    world.ever_made.insert((operation_id.to_owned(), what.to_owned()));
    let count = world.made.entry((operation_id.to_owned(), what.to_owned())).or_default();
    *count += 1;
    if *count > 1 && !world.tampered {
        world.violated(Invariant::MadeTwice, format!("{what} of operation {operation_id}"));
    }
}

/// Judges what people are about to be told.
pub fn judge_message(world: &mut World, message: &Published) {
    if world.scene.is_crowd {
        return;
    }
    let scene = &world.scene;
    let place = world.regions.get(&scene.target_region);
    let is_replaced = |cluster: &&Cluster| swap::may_be_deleted_as(world, &cluster.id);
    let Some(target) = place.and_then(|place| place.clusters.values().find(is_replaced)) else { return };
    let id = target.id.clone();
    if target.protected && message.text.contains("could NOT be turned on again") {
        let what = format!("{}: told that cluster {id} is not protected, but it is", message.execution_arn);
        world.violated(Invariant::ProtectionMistold, what);
    } else if !target.protected && message.text.contains("it is protected again") {
        // The lock is released before the message goes out: another execution may be at work by now.
        let others = holder(world).is_some_and(|(_, execution)| execution != message.execution_arn);
        if !others {
            let what = format!("{}: told that cluster {id} is protected again, but it is not", message.execution_arn);
            world.violated(Invariant::ProtectionMistold, what);
        }
    }
}

fn text<'i>(item: &'i Item, name: &str) -> &'i str {
    let value = item.get(name);
    value.and_then(|value| value.get("S").or_else(|| value.get("N"))?.as_str()).unwrap_or_default()
}

/// An operation's audit records, oldest first.
pub fn trail<'w>(world: &'w World, operation_id: &str) -> Vec<&'w Item> {
    let table = world.tables.get(AUDIT);
    let from = (operation_id.to_owned(), String::new());
    let records = table.into_iter().flat_map(|table| table.items.range(from.clone()..));
    records.take_while(|((of, _), _)| of == operation_id).map(|(_, item)| item).collect()
}

fn has_begun_record(world: &World, operation_id: &str, action: &str) -> bool {
    let (mut begun, mut finished) = (0, 0);
    for item in trail(world, operation_id).into_iter().filter(|item| text(item, "action") == action) {
        match text(item, "phase") {
            "begun" => begun += 1,
            // Somebody at work at the same time took it for dead.
            "finished" if text(item, "outcome") != "unknown" => finished += 1,
            _ => {}
        }
    }
    begun > finished
}

fn state<'w>(world: &'w World, key: &str) -> Option<&'w Item> {
    world.tables.get(STATE)?.items.get(&(key.to_owned(), String::new()))
}

fn lock(world: &World) -> Option<&Item> {
    state(world, &format!("lock#{}#{}", world.scene.target_region, world.scene.target_id))
}

/// The operation and the execution that hold the lock.
pub fn holder(world: &World) -> Option<(String, String)> {
    let lock = lock(world)?;
    let held = lock.get("held").and_then(|held| held.get("BOOL")).is_some_and(|held| held == true);
    held.then(|| (text(lock, "owner").to_owned(), text(lock, "owner_execution_arn").to_owned()))
}

/// Whether they held it until just now: between its last look at the lock and a call nobody can know.
fn held_lock(world: &World, operation_id: &str, execution_arn: &str) -> bool {
    world.lock_lost.as_ref().is_some_and(|((operation, execution), at_us)| {
        operation == operation_id && execution == execution_arn && world.time.now_us() < at_us + LOOK_US
    })
}

fn holds_lock(world: &World, operation_id: &str, execution_arn: &str) -> bool {
    holder(world).is_some_and(|(operation, execution)| operation == operation_id && execution == execution_arn)
}

mod end;
mod swap;
pub use end::{Verdict, at_the_end, of_execution};
