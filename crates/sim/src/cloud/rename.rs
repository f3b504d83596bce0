//! New names for clusters and instances, as RDS gives them: after a while, with the thing away meanwhile.

use super::model::{Cluster, Due, Instance};
use super::rds::{check_name, need};
use super::rds_xml as xml;
use super::wire::{Call, Fault, Reply, fault};
use super::{Effect, Kind, World};

/// `ModifyDBCluster` with `NewDBClusterIdentifier`, for a cluster that is available.
pub(super) fn cluster(world: &mut World, call: &Call, cluster: &Cluster) -> Result<Reply, Fault> {
    let to = need(call, "NewDBClusterIdentifier")?.to_owned();
    check_name(&to, "NewDBClusterIdentifier")?;
    if cluster.status != "available" {
        return fault("InvalidDBClusterStateFault", format!("DB cluster {} is {}", cluster.id, cluster.status));
    }
    if world.region_mut(&call.region).clusters.contains_key(&to) {
        return fault("DBClusterAlreadyExistsFault", "DB Cluster already exists");
    }
    world.effect(call, &Effect::RenameCluster { cluster, to: &to });
    for id in [&cluster.id, &to] {
        world.hide(&call.region, Kind::Cluster, id);
    }
    let (from, serial) = (cluster.id.clone(), cluster.serial);
    if let Some(now) = world.region_mut(&call.region).clusters.get_mut(&from) {
        now.status = "renaming".into();
    }
    // Which name it bears meanwhile is not documented.
    if world.rng.bool() {
        move_cluster(world, &call.region, &from, &to);
    }
    world.later(world.pace.rename_us, Due::ClusterRenamed, &call.region, &from, serial, &to);
    let now = Cluster { status: "renaming".into(), ..cluster.clone() };
    Ok(xml::cluster(&now, world))
}

/// Moves it to its new name, unless somebody has that by now.
fn move_cluster(world: &mut World, region: &str, from: &str, to: &str) {
    let arn = world.arn(region, "cluster", to);
    let place = world.region_mut(region);
    if place.clusters.contains_key(to) {
        return;
    }
    let Some(mut cluster) = place.clusters.remove(from) else { return };
    for instance in place.instances.values_mut().filter(|instance| instance.cluster_id == from) {
        instance.cluster_id = to.to_owned();
    }
    (cluster.id, cluster.arn) = (to.to_owned(), arn);
    place.clusters.insert(to.to_owned(), cluster);
}

/// It is done.
pub(super) fn cluster_done(world: &mut World, region: &str, from: &str, serial: u64, to: &str) {
    if world.cluster_mut(region, from, serial).is_some_and(|cluster| cluster.status == "renaming") {
        move_cluster(world, region, from, to);
    }
    for id in [to, from] {
        if let Some(cluster) = world.cluster_mut(region, id, serial).filter(|cluster| cluster.status == "renaming") {
            cluster.status = "available".into();
            world.note(&format!("cluster {from} is renamed to {id}"));
            world.tell_event(region, "cluster", id);
        }
    }
}

/// What the cluster of this serial is called by now.
pub(super) fn name_of(world: &World, region: &str, serial: u64) -> Option<String> {
    let clusters = world.regions.get(region)?.clusters.values();
    clusters.into_iter().find(|cluster| cluster.serial == serial).map(|cluster| cluster.id.clone())
}

/// `ModifyDBInstance` with `NewDBInstanceIdentifier`.
pub(super) fn instance(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let (id, to) = (need(call, "DBInstanceIdentifier")?.to_owned(), need(call, "NewDBInstanceIdentifier")?.to_owned());
    check_name(&to, "NewDBInstanceIdentifier")?;
    let place = world.region_mut(&call.region);
    let Some(instance) = place.instances.get(&id).cloned() else {
        return Err(Fault { status: 404, code: "DBInstanceNotFound", message: format!("DBInstance {id} not found.") });
    };
    if instance.status != "available" {
        return fault("InvalidDBInstanceState", format!("Database instance {id} is not in available state."));
    }
    if place.instances.contains_key(&to) {
        return fault("DBInstanceAlreadyExists", "DB Instance already exists");
    }
    let cluster = place.clusters.get(&instance.cluster_id).cloned();
    world.effect(call, &Effect::RenameInstance { instance: &instance, cluster: cluster.as_ref(), to: &to });
    for name in [&id, &to] {
        world.hide(&call.region, Kind::Instance, name);
    }
    world.hide(&call.region, Kind::Cluster, &instance.cluster_id);
    let now = Instance { status: "renaming".into(), id: to.clone(), ..instance };
    let place = world.region_mut(&call.region);
    place.instances.remove(&id);
    place.instances.insert(to.clone(), now.clone());
    if let Some(cluster) = place.clusters.get_mut(&now.cluster_id) {
        cluster.members.iter_mut().filter(|member| **member == id).for_each(|member| member.clone_from(&to));
    }
    world.later(world.pace.rename_us, Due::InstanceRenamed, &call.region, &to, now.serial, "");
    Ok(xml::instance(&now))
}

/// It has restarted under its new name.
pub(super) fn instance_done(world: &mut World, region: &str, id: &str, serial: u64) {
    let found = world.region_mut(region).instances.get_mut(id).filter(|instance| instance.serial == serial);
    if let Some(instance) = found.filter(|instance| instance.status == "renaming") {
        instance.status = "available".into();
        world.note(&format!("instance {id} is available under this name"));
    }
}
