//! What must never happen to the target's name while clusters are swapped.

use super::{Invariant, LOOK_US, managed, of_operation};
use crate::cloud::World;
use crate::cloud::model::{Cluster, Instance, Region};
use crate::scenario::Scenario;

fn place(world: &World) -> Option<&Region> {
    world.regions.get(&world.scene.target_region)
}

fn is_swap(world: &World) -> bool {
    world.scene.scenario == Scenario::Swap
}

/// Names that a swap may use beside the target's.
fn is_beside(world: &World, id: &str, kind: &str) -> bool {
    id.strip_prefix(&world.scene.target_id).is_some_and(|rest| rest.starts_with(&format!("-{kind}-")))
}

/// Whether a cluster may be restored under this name.
pub(super) fn may_be_restored_as(world: &World, id: &str) -> bool {
    if is_swap(world) { is_beside(world, id, "new") } else { id == world.scene.target_id }
}

/// Whether a cluster may be deleted under this name.
pub(super) fn may_be_deleted_as(world: &World, id: &str) -> bool {
    if is_swap(world) { is_beside(world, id, "old") } else { id == world.scene.target_id }
}

/// Whether a change of this cluster can be noticed by those who work with the target.
pub(super) fn is_the_targets(world: &World, cluster: &Cluster) -> bool {
    !is_swap(world) || !is_beside(world, &cluster.id, "new")
}

/// The cluster of this operation, wherever it is.
fn restored<'w>(world: &'w World, operation_id: &str) -> Option<&'w Cluster> {
    place(world)?.clusters.values().find(|cluster| of_operation(&cluster.tags, operation_id))
}

/// Whether everything of a cluster is up.
fn is_up(world: &World, cluster: &Cluster) -> bool {
    let status =
        |member: &String| place(world).and_then(|place| place.instances.get(member)).map(|i| i.status.as_str());
    // A master password that is set once more keeps nobody out.
    ["available", "resetting-master-credentials"].contains(&cluster.status.as_str())
        && !cluster.members.is_empty()
        && cluster.members.iter().all(|member| status(member) == Some("available"))
}

/// Somebody has just changed what nobody can know yet.
fn just_now(world: &World) -> bool {
    world.tampered_at_us.is_some_and(|at_us| world.time.now_us() < at_us + LOOK_US)
}

/// A new name for a cluster.
pub(super) fn judge_cluster(world: &mut World, cluster: &Cluster, to: &str, operation_id: &str) {
    let id = cluster.id.clone();
    let target = world.scene.target_id.clone();
    let is_own = of_operation(&cluster.tags, operation_id);
    let is_a_name = |name: &str, kind: &str| name == target || is_beside(world, name, kind);
    let kind = if is_own { "new" } else { "old" };
    if !is_swap(world) || !managed(&cluster.tags) || !is_a_name(&id, kind) || !is_a_name(to, kind) {
        world.violated(Invariant::NotOurs, format!("cluster {id} is renamed to {to}"));
    }
    // The target's name is given away only for one that can serve at once.
    if id == target && !is_own {
        let ready = restored(world, operation_id).is_some_and(|restored| is_up(world, restored));
        if !ready && !just_now(world) {
            let what = format!("{id} is renamed to {to}, and nothing is ready to serve in its place");
            world.violated(Invariant::NameGivenAway, what);
        }
    }
    // Once it has answered there, people work with it.
    if id == target && is_own && has_answered(world, operation_id) && !world.tampered {
        let what = format!("{id} is renamed to {to}, although somebody could log in to it there");
        world.violated(Invariant::NameGivenAway, what);
    }
}

/// A new name for an instance.
pub(super) fn judge_instance(
    world: &mut World,
    instance: &Instance,
    cluster: Option<&Cluster>,
    to: &str,
    operation_id: &str,
) {
    let target = world.scene.target_id.clone();
    let ours = cluster.is_some_and(|cluster| managed(&cluster.tags));
    let of_former = cluster.is_some_and(|cluster| !of_operation(&cluster.tags, operation_id));
    if !is_swap(world) || !ours || !to.starts_with(&format!("{target}-")) {
        world.violated(Invariant::NotOurs, format!("instance {} is renamed to {to}", instance.id));
    }
    let ready = restored(world, operation_id).is_some_and(|restored| is_up(world, restored));
    let is_away = is_beside(world, to, "old");
    if of_former && is_away && !ready && !just_now(world) {
        let what = format!("instance {} gives its name up, and nothing is ready to serve in its place", instance.id);
        world.violated(Invariant::NameGivenAway, what);
    }
}

/// Whether somebody could log in to this operation's cluster under the target's name.
fn has_answered(world: &World, operation_id: &str) -> bool {
    let target = &world.scene.target_id;
    restored(world, operation_id).is_some_and(|restored| world.answered.contains(&(restored.serial, target.clone())))
}

/// One move towards the end of the former cluster: only after somebody could log in to its successor under the target's
/// name, and while that is still there.
pub(super) fn judge_retirement(world: &mut World, name: &str, cluster: &Cluster, operation_id: &str) {
    let target = &world.scene.target_id;
    let serves = place(world).and_then(|place| place.clusters.get(target));
    let serves = serves.is_some_and(|serving| of_operation(&serving.tags, operation_id));
    if (!serves || !has_answered(world, operation_id)) && !just_now(world) {
        let what = format!("{name} on cluster {}: nobody could log in to its successor as {target}", cluster.id);
        world.violated(Invariant::RetiredEarly, what);
    }
}

/// Whether whoever asks for the target's name finds a cluster that is up.
fn target_serves(world: &World) -> bool {
    let Some(cluster) = place(world).and_then(|place| place.clusters.get(&world.scene.target_id)) else { return false };
    // The former one may be an earlier night's.
    let is_former = world.scene.target_before.as_ref().is_some_and(|before| before.serial == cluster.serial);
    let is_dead = cluster.tags.contains_key("aurora-restore:operation") && !is_former && !world.pace.swapped_answers;
    is_up(world, cluster) && !is_dead
}

/// After a failure the target's name answers, or people are told that it may not; and what they are told of names is so.
pub(super) fn judge_failure(world: &mut World, arn: &str) {
    if !is_swap(world) || world.tampered {
        return;
    }
    let of_this = world.published.iter().filter(|message| message.execution_arn == arn);
    let told: String = of_this.map(|message| message.text.as_str()).collect();
    let target = world.scene.target_id.clone();
    if !target_serves(world) && !told.contains(&format!("{target} may not answer")) {
        world.violated(Invariant::NameGivenAway, format!("{arn} failed, {target} does not answer, and nobody says so"));
    }
    let is_former = |world: &World| {
        let cluster = place(world).and_then(|place| place.clusters.get(&target));
        let before = world.scene.target_before.as_ref();
        cluster.zip(before).is_some_and(|(now, before)| (now.serial, &now.members) == (before.serial, &before.members))
    };
    if told.contains(&format!("{target} is the former one again")) && !is_former(world) {
        world
            .violated(Invariant::Disagree, format!("{arn}: told that {target} is the former one again, but it is not"));
    }
}
