//! What somebody else does to the world half-way, outside of the product's sight.

use crate::cloud::model::Due;
use crate::cloud::{Function, Invocation, World};
use crate::faults::Chaos;
use crate::scenario::Scenario;
use crate::time::SECOND;
use aurora_restore_domain::step::Step;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Gives back what somebody deleted, where its name is still free.
pub(crate) fn give_back(world: &mut World) {
    let Some((mut cluster, mut instances)) = world.taken.take() else { return };
    // Whatever was under way when it was taken is over.
    cluster.status = "available".into();
    instances.iter_mut().for_each(|instance| instance.status = "available".into());
    let region = world.scene.target_region.clone();
    let place = world.region_mut(&region);
    if place.clusters.contains_key(&cluster.id) {
        return;
    }
    place.instances.extend(instances.into_iter().map(|instance| (instance.id.clone(), instance)));
    place.clusters.insert(cluster.id.clone(), cluster);
}

/// Somebody who wants the target's name takes it right before it is restored.
pub(crate) fn take_name_in_time(world: &mut World, caller: Option<&Arc<Invocation>>) {
    // With a swap it is free for a moment only.
    let is_swap = world.scene.scenario == Scenario::Swap;
    let step = if is_swap { Step::SwapCluster } else { Step::RestoreCluster };
    let (region, target) = (world.scene.target_region.clone(), world.scene.target_id.clone());
    let is_free = !is_swap || !world.region_mut(&region).clusters.contains_key(&target);
    if world.name_wanted && is_free && caller.is_some_and(|caller| caller.function == Function::Step(step)) {
        act(world, Chaos::TakeName);
    }
}

/// The function freezes for some minutes, and its execution is stopped.
pub(crate) fn freeze(world: &mut World, caller: Option<&Arc<Invocation>>) {
    let Some(caller) = caller else { return };
    let minutes = world.rng.u64(1..=9);
    world.line(caller.function.as_str(), &format!("   ** frozen for {minutes} min"));
    caller.frozen_until_us.store(world.time.now_us() + minutes * 60 * SECOND, Ordering::Relaxed);
    world.executions.insert(caller.execution_arn.clone(), "ABORTED".into());
    world.tampered = true;
    world.tampered_at_us = Some(world.time.now_us());
}

/// Does it.
pub(crate) fn act(world: &mut World, deed: Chaos) {
    let region = world.scene.target_region.clone();
    let target = world.scene.target_id.clone();
    world.line("somebody", &format!("{deed:?}"));
    match deed {
        Chaos::DisableKey => {
            for state in world.region_mut(&region).keys.values_mut() {
                *state = "Disabled".into();
            }
        }
        Chaos::DeleteCopy => {
            let ours =
                |tags: &BTreeMap<String, String>| tags.get("aurora-restore:kind").is_some_and(|kind| kind == "copy");
            let before = world.region_mut(&region).snapshots.len();
            world.region_mut(&region).snapshots.retain(|_, snapshot| !ours(&snapshot.tags));
            if world.region_mut(&region).snapshots.len() == before {
                return;
            }
        }
        Chaos::DeleteTarget => {
            let found = world.region_mut(&region);
            // What RDS is deleting already is gone for good: nobody can bring it back later.
            if found.clusters.get(&target).is_some_and(|cluster| cluster.status == "deleting") {
                return;
            }
            let Some(cluster) = found.clusters.remove(&target) else { return };
            let instances = found.instances.extract_if(.., |_, instance| instance.cluster_id == target);
            world.taken = Some((cluster, instances.map(|(_, instance)| instance).collect()));
        }
        // Taken when it hurts: see below.
        Chaos::TakeName if !world.name_wanted => {
            world.name_wanted = true;
            return;
        }
        Chaos::TakeName => {
            world.name_wanted = false;
            if world.region_mut(&region).clusters.contains_key(&target) {
                return;
            }
            let Some(mut cluster) = world.scene.somebodys_cluster.clone() else { return };
            cluster.serial = world.serial();
            cluster.arn = world.arn(&region, "cluster", &target);
            cluster.id.clone_from(&target);
            world.region_mut(&region).clusters.insert(target, cluster);
        }
        Chaos::Protect => match world.region_mut(&region).clusters.get_mut(&target) {
            Some(cluster) if cluster.status == "available" => cluster.protected = true,
            _ => return,
        },
        Chaos::DeleteInstance => {
            let duration = world.pace.delete_us;
            let found = world
                .region_mut(&region)
                .instances
                .values_mut()
                .find(|instance| instance.cluster_id == target && instance.status != "deleting");
            let Some(instance) = found else { return };
            instance.status = "deleting".into();
            let (id, serial) = (instance.id.clone(), instance.serial);
            world.later(duration, Due::InstanceGone, &region, &id, serial, "");
        }
        Chaos::StopExecution => {
            let running = world.executions.values_mut().find(|status| *status == "RUNNING");
            match running {
                Some(status) => *status = "ABORTED".into(),
                None => return,
            }
        }
    }
    world.tampered = true;
    world.tampered_at_us = Some(world.time.now_us());
}
