//! RDS of every Region: what AWS does, refuses and takes its time for. `tests/local/rds.py` lists the same rules.

use super::model::{Cluster, Due, Instance, Snapshot};
use super::rds_xml as xml;
use super::rename;
use super::wire::{Call, Fault, Reply, Xml, fault};
use super::{Effect, Kind, World};
use crate::time::SECOND;
use std::collections::{BTreeMap, BTreeSet};

/// Copies in progress per destination Region and account.
const COPY_SLOTS: usize = 5;
/// Manual cluster snapshots per Region.
const MANUAL_SNAPSHOTS: usize = 100;
/// Where many restores are made at once, somebody has had the limit raised.
const MANUAL_SNAPSHOTS_OF_A_CROWD: usize = 1000;
/// The one engine.
pub const ENGINE: &str = "aurora-postgresql";

/// Answers a call.
pub(super) fn answer(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    match call.action.as_str() {
        "DescribeDBClusters" => describe_clusters(world, call),
        "DescribeDBInstances" => describe_instances(world, call),
        "DescribeDBClusterSnapshots" => describe_snapshots(world, call),
        "DescribeDBSubnetGroups" => {
            let name = need(call, "DBSubnetGroupName")?;
            let Some(vpc_id) = world.region(call).subnet_groups.get(name) else {
                return fault("DBSubnetGroupNotFoundFault", format!("DB subnet group {name} does not exist."));
            };
            let mut xml = Xml::default();
            xml.wrap("DBSubnetGroups", |xml| {
                xml.wrap("DBSubnetGroup", |xml| {
                    xml.leaf("DBSubnetGroupName", name).leaf("SubnetGroupStatus", "Complete").leaf("VpcId", vpc_id);
                });
            });
            Ok(Reply::new(xml.0, "exists"))
        }
        "DescribeOrderableDBInstanceOptions" => {
            let class = need(call, "DBInstanceClass")?;
            let is_offered = world.region(call).orderable_classes.contains(class);
            let mut xml = Xml::default();
            xml.wrap("OrderableDBInstanceOptions", |xml| {
                if is_offered {
                    xml.wrap("OrderableDBInstanceOption", |xml| {
                        xml.leaf("DBInstanceClass", class);
                    });
                }
            });
            Ok(Reply::new(xml.0, if is_offered { "offered" } else { "not offered" }))
        }
        "DescribeGlobalClusters" => Ok(xml::global_clusters(&world.region(call).global_clusters)),
        "DescribeAccountAttributes" => {
            let region = world.region(call);
            let others = [("DBClusters", region.clusters.len()), ("DBInstances", region.instances.len())];
            Ok(xml::quotas(manual_snapshots(world, call), snapshots_limit(world), others))
        }
        "CopyDBClusterSnapshot" => copy_snapshot(world, call),
        "DeleteDBClusterSnapshot" => delete_snapshot(world, call),
        "AddTagsToResource" => add_tags(world, call),
        "RestoreDBClusterFromSnapshot" => restore(world, call),
        "ModifyDBCluster" => modify_cluster(world, call),
        "ModifyDBInstance" => rename::instance(world, call),
        "DeleteDBCluster" => delete_cluster(world, call),
        "CreateDBInstance" => create_instance(world, call),
        "DeleteDBInstance" => delete_instance(world, call),
        action => fault("InvalidAction", format!("the simulated RDS has no {action}")),
    }
}

pub(super) fn need<'c>(call: &'c Call, name: &str) -> Result<&'c str, Fault> {
    match call.form.get(name) {
        Some(value) => Ok(value),
        None => fault("MissingParameter", format!("The request must contain the parameter {name}")),
    }
}

pub(super) fn check_name(name: &str, parameter: &str) -> Result<(), Fault> {
    let legal = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !name.ends_with('-')
        && !name.contains("--");
    match legal {
        true => Ok(()),
        false => fault("InvalidParameterValue", format!("The parameter {parameter} is not a valid identifier.")),
    }
}

fn manual_snapshots(world: &World, call: &Call) -> usize {
    world.region(call).snapshots.values().filter(|snapshot| !snapshot.automated).count()
}

fn snapshots_limit(world: &World) -> usize {
    if world.scene.is_crowd { MANUAL_SNAPSHOTS_OF_A_CROWD } else { MANUAL_SNAPSHOTS }
}

fn describe_clusters(world: &World, call: &Call) -> Result<Reply, Fault> {
    let Some(id) = call.form.get("DBClusterIdentifier") else {
        let ids = filtered_by_cluster(call)?;
        let clusters: Vec<Cluster> = ids.iter().filter_map(|id| world.shown_cluster(&call.region, id)).collect();
        return Ok(xml::clusters(&clusters, world));
    };
    match world.shown_cluster(&call.region, id) {
        Some(cluster) => Ok(xml::clusters(&[cluster], world)),
        None => {
            Err(Fault { status: 404, code: "DBClusterNotFoundFault", message: format!("DBCluster {id} not found.") })
        }
    }
}

fn filtered_by_cluster(call: &Call) -> Result<Vec<&str>, Fault> {
    if call.form.get("Filters.Filter.1.Name") != Some("db-cluster-id") {
        return fault("InvalidParameterValue", "the simulated RDS knows the filter db-cluster-id only");
    }
    Ok((1..).map_while(|number| call.form.get(&format!("Filters.Filter.1.Values.Value.{number}"))).collect())
}

fn describe_instances(world: &World, call: &Call) -> Result<Reply, Fault> {
    if let Some(id) = call.form.get("DBInstanceIdentifier") {
        return match world.shown_instances(&call.region).into_iter().find(|instance| instance.id == id) {
            Some(instance) => Ok(xml::instances(&[instance])),
            None => {
                Err(Fault { status: 404, code: "DBInstanceNotFound", message: format!("DBInstance {id} not found.") })
            }
        };
    }
    let clusters = filtered_by_cluster(call)?;
    let mut instances = world.shown_instances(&call.region);
    instances.retain(|instance| clusters.contains(&instance.cluster_id.as_str()));
    Ok(xml::instances(&instances))
}

fn describe_snapshots(world: &World, call: &Call) -> Result<Reply, Fault> {
    let mut snapshots = world.shown_snapshots(&call.region);
    if let Some(id) = call.form.get("DBClusterSnapshotIdentifier") {
        snapshots.retain(|snapshot| snapshot.id == id || snapshot.arn == id);
        if snapshots.is_empty() {
            return Err(Fault {
                status: 404,
                code: "DBClusterSnapshotNotFoundFault",
                message: format!("DBClusterSnapshot {id} not found."),
            });
        }
    }
    if let Some(cluster) = call.form.get("DBClusterIdentifier") {
        snapshots.retain(|snapshot| snapshot.cluster_id == cluster);
    }
    Ok(xml::snapshots(&snapshots, world.time.now_us()))
}

/// The key, by ARN, key id or alias, when it can be used.
fn usable_key(world: &World, region: &str, id: &str) -> Result<String, Fault> {
    let found = world.key(region, id).filter(|(_, state)| state == "Enabled");
    match found {
        Some((arn, _)) => Ok(arn),
        None => fault(
            "KMSKeyNotAccessibleFault",
            format!(
                "The specified KMS key [{id}] does not exist, is not enabled or you do not have permissions to access it."
            ),
        ),
    }
}

fn copy_snapshot(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let source_arn = need(call, "SourceDBClusterSnapshotIdentifier")?.to_owned();
    let id = need(call, "TargetDBClusterSnapshotIdentifier")?.to_owned();
    check_name(&id, "TargetDBClusterSnapshotIdentifier")?;
    let source_region = source_arn.split(':').nth(3).unwrap_or(&call.region).to_owned();
    let source = world.regions.get(&source_region).and_then(|region| {
        region.snapshots.values().find(|snapshot| snapshot.arn == source_arn || snapshot.id == source_arn).cloned()
    });
    let Some(source) = source else {
        return fault("DBClusterSnapshotNotFoundFault", format!("DBClusterSnapshot {source_arn} not found."));
    };
    if world.region(call).snapshots.contains_key(&id) {
        return fault(
            "DBClusterSnapshotAlreadyExistsFault",
            format!("Cannot create the cluster snapshot because one with the identifier {id} already exists."),
        );
    }
    if source.status != "available" {
        return fault(
            "InvalidDBClusterSnapshotStateFault",
            format!("The source snapshot is in {} state, but expected it to be available.", source.status),
        );
    }
    let key = match (&source.key, call.form.get("KmsKeyId")) {
        (None, None) => None,
        (None, Some(_)) => {
            return fault(
                "InvalidParameterCombination",
                "KmsKeyId cannot be specified when the source DB cluster snapshot is not encrypted.",
            );
        }
        (Some(own), None) => return usable_key(world, &call.region, own).map(|_| Reply::new(String::new(), "")),
        (Some(_), Some(key)) => Some(usable_key(world, &call.region, key)?),
    };
    let now = world.time.now_us();
    let others = world.pace.others_copy_until_us.iter().filter(|until| **until > now).count();
    let copying = world.region(call).snapshots.values().filter(|snapshot| snapshot.status == "copying").count();
    if copying + others >= COPY_SLOTS {
        return fault(
            "SnapshotQuotaExceeded",
            format!("Cannot have more than {COPY_SLOTS} cluster snapshot copies in progress to one Region."),
        );
    }
    if manual_snapshots(world, call) >= snapshots_limit(world) {
        return fault("SnapshotQuotaExceeded", "Cannot create more than 100 manual snapshots.");
    }
    world.most_copies = world.most_copies.max(copying + others + 1);
    world.effect(call, &Effect::MakeCopy { id: &id, tags: &call.form.tags() });
    let duration = world.pace.copy_us;
    let copy = Snapshot {
        serial: world.serial(),
        arn: world.arn(&call.region, "cluster-snapshot", &id),
        id: id.clone(),
        cluster_id: source.cluster_id.clone(),
        status: "copying".into(),
        automated: false,
        created_us: i64::try_from(now).unwrap_or(i64::MAX),
        key,
        engine_version: source.engine_version.clone(),
        making_us: (now, duration),
        tags: call.form.tags(),
        roles: source.roles,
    };
    let ends = std::mem::replace(&mut world.pace.copy_ends, "available");
    world.hide(&call.region, Kind::Snapshot, &id);
    world.later(duration, Due::SnapshotDone, &call.region, &id, copy.serial, ends);
    let reply = xml::snapshot(&copy, now);
    world.region_mut(&call.region).snapshots.insert(id, copy);
    Ok(reply)
}

fn delete_snapshot(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let id = need(call, "DBClusterSnapshotIdentifier")?.to_owned();
    let Some(snapshot) = world.region(call).snapshots.get(&id).cloned() else {
        return fault("DBClusterSnapshotNotFoundFault", format!("DBClusterSnapshot {id} not found."));
    };
    if snapshot.automated {
        return fault("InvalidDBClusterSnapshotStateFault", "Automated snapshots cannot be deleted.");
    }
    if snapshot.status == "deleting" {
        return fault("InvalidDBClusterSnapshotStateFault", format!("snapshot {id} is deleting"));
    }
    world.effect(call, &Effect::DeleteSnapshot { snapshot: &snapshot });
    world.hide(&call.region, Kind::Snapshot, &id);
    world.region_mut(&call.region).snapshots.remove(&id);
    Ok(xml::snapshot(&snapshot, world.time.now_us()))
}

fn add_tags(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let arn = need(call, "ResourceName")?.to_owned();
    let tags = call.form.tags();
    let region = world.region(call);
    let snapshot = region.snapshots.values().find(|snapshot| snapshot.arn == arn).cloned();
    let cluster = region.clusters.values().find(|cluster| cluster.arn == arn).cloned();
    match (snapshot, cluster) {
        (Some(snapshot), _) => {
            world.effect(call, &Effect::Tag { arn: &arn, tags: &snapshot.tags });
            world.hide(&call.region, Kind::Snapshot, &snapshot.id);
            if let Some(snapshot) = world.region_mut(&call.region).snapshots.get_mut(&snapshot.id) {
                snapshot.tags.extend(tags);
            }
        }
        (None, Some(cluster)) => {
            world.effect(call, &Effect::Tag { arn: &arn, tags: &cluster.tags });
            if let Some(cluster) = world.region_mut(&call.region).clusters.get_mut(&cluster.id) {
                cluster.tags.extend(tags);
            }
        }
        (None, None) => return fault("InvalidParameterValue", format!("there is no {arn}")),
    }
    Ok(Reply::new(String::new(), "tagged"))
}

fn restore(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let id = need(call, "DBClusterIdentifier")?.to_owned();
    let wanted = need(call, "SnapshotIdentifier")?.to_owned();
    check_name(&id, "DBClusterIdentifier")?;
    let region = world.region(call);
    if region.clusters.contains_key(&id) {
        return fault("DBClusterAlreadyExistsFault", "DB Cluster already exists");
    }
    let found = region.snapshots.values().find(|snapshot| snapshot.id == wanted || snapshot.arn == wanted);
    let Some(snapshot) = found.cloned() else {
        return fault("DBClusterSnapshotNotFoundFault", format!("DBClusterSnapshot {wanted} not found."));
    };
    if snapshot.status != "available" {
        return fault(
            "InvalidDBClusterSnapshotStateFault",
            format!("The snapshot is in {} state, but expected it to be available.", snapshot.status),
        );
    }
    if need(call, "Engine")? != ENGINE {
        return fault("InvalidParameterCombination", format!("The snapshot's engine is {ENGINE}."));
    }
    let subnet_group = call.form.get("DBSubnetGroupName").unwrap_or("default").to_owned();
    if !region.subnet_groups.contains_key(&subnet_group) {
        return fault("DBSubnetGroupNotFoundFault", format!("DB subnet group {subnet_group} does not exist."));
    }
    let key = match (call.form.get("KmsKeyId"), &snapshot.key) {
        (Some(key), _) => Some(usable_key(world, &call.region, key)?),
        (None, Some(key)) => Some(usable_key(world, &call.region, key)?),
        (None, None) => None,
    };
    let scaling = |name: &str| call.form.get(&format!("ServerlessV2ScalingConfiguration.{name}")).map(str::to_owned);
    let cluster = Cluster {
        serial: world.serial(),
        arn: world.arn(&call.region, "cluster", &id),
        id: id.clone(),
        status: "creating".into(),
        engine_version: call.form.get("EngineVersion").unwrap_or(&snapshot.engine_version).to_owned(),
        port: call.form.get("Port").and_then(|port| port.parse().ok()).unwrap_or(5432),
        protected: call.form.flag("DeletionProtection"),
        key,
        subnet_group,
        security_groups: call.form.list("VpcSecurityGroupIds.VpcSecurityGroupId"),
        parameter_group: call
            .form
            .get("DBClusterParameterGroupName")
            .unwrap_or("default.aurora-postgresql16")
            .to_owned(),
        serverless: scaling("MinCapacity").zip(scaling("MaxCapacity")),
        members: vec![],
        password_pending: false,
        copies_tags: call.form.flag("CopyTagsToSnapshot"),
        tags: call.form.tags(),
        roles: snapshot.roles.clone(),
        masked: vec![],
        marks: BTreeSet::new(),
        accepts_from_us: 0,
    };
    world.effect(call, &Effect::Restore { cluster: &cluster, snapshot: &snapshot });
    world.hide(&call.region, Kind::Cluster, &id);
    let ends = std::mem::replace(&mut world.pace.restore_ends, "available");
    world.later(world.pace.restore_us, Due::ClusterRestored, &call.region, &id, cluster.serial, ends);
    let reply = xml::cluster(&cluster, world);
    world.region_mut(&call.region).clusters.insert(id, cluster);
    Ok(reply)
}

fn cluster_of<'w>(world: &'w World, call: &Call) -> Result<&'w Cluster, Fault> {
    let id = need(call, "DBClusterIdentifier")?;
    match world.region(call).clusters.get(id) {
        Some(cluster) => Ok(cluster),
        None => {
            Err(Fault { status: 404, code: "DBClusterNotFoundFault", message: format!("DBCluster {id} not found.") })
        }
    }
}

fn modify_cluster(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let cluster = cluster_of(world, call)?.clone();
    let id = cluster.id.clone();
    if call.form.get("NewDBClusterIdentifier").is_some() {
        return rename::cluster(world, call, &cluster);
    }
    // Whether AWS lets the protection of a failed cluster be turned off is unverified; otherwise it could never go.
    let only_protection = call.form.get("MasterUserPassword").is_none();
    let is_failed = cluster.status.starts_with("in") && only_protection;
    if cluster.status != "available" && !is_failed {
        return fault(
            "InvalidDBClusterStateFault",
            format!("DB cluster {id} is in {} state but expected it to be available.", cluster.status),
        );
    }
    let protect = call.form.get("DeletionProtection").map(|value| value == "true");
    let password = call.form.get("MasterUserPassword").map(str::to_owned);
    world.effect(call, &Effect::Modify { cluster: &cluster, protect, password: password.is_some() });
    world.hide(&call.region, Kind::Cluster, &id);
    if let Some(password) = password {
        let serial = cluster.serial;
        world.later(2 * SECOND, Due::PasswordBegins, &call.region, &id, serial, "");
        world.later(world.pace.password_us.max(4 * SECOND), Due::PasswordDone, &call.region, &id, serial, &password);
    }
    let Some(now) = world.region_mut(&call.region).clusters.get_mut(&id) else {
        return fault("InternalFailure", "the cluster vanished");
    };
    now.password_pending |= call.form.get("MasterUserPassword").is_some();
    now.protected = protect.unwrap_or(now.protected);
    let now = now.clone();
    Ok(xml::cluster(&now, world))
}

fn delete_cluster(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let cluster = cluster_of(world, call)?.clone();
    let id = cluster.id.clone();
    let (skip, last) = (call.form.flag("SkipFinalSnapshot"), call.form.get("FinalDBSnapshotIdentifier"));
    if skip == last.is_some() {
        return fault(
            "InvalidParameterCombination",
            "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified, and only then.",
        );
    }
    if cluster.protected {
        return fault(
            "InvalidParameterCombination",
            "Cannot delete protected Cluster, please disable deletion protection and try again.",
        );
    }
    let region = world.region(call);
    let global = region.global_clusters.values().flatten().any(|member| *member == cluster.arn);
    let alive = cluster
        .members
        .iter()
        .any(|member| region.instances.get(member).is_some_and(|instance| instance.status != "deleting"));
    if alive || global || cluster.status == "deleting" {
        return fault(
            "InvalidDBClusterStateFault",
            "Cluster cannot be deleted, it still contains DB instances in non-deleting state, is in a global cluster or is being deleted.",
        );
    }
    if let Some(name) = last {
        check_name(name, "FinalDBSnapshotIdentifier")?;
        if region.snapshots.contains_key(name) {
            return fault("DBClusterSnapshotAlreadyExistsFault", format!("a snapshot {name} already exists."));
        }
    }
    world.effect(call, &Effect::DeleteCluster { cluster: &cluster, final_snapshot: last });
    world.hide(&call.region, Kind::Cluster, &id);
    let mut takes = world.pace.delete_us;
    if let Some(name) = last {
        let (now, duration) = (world.time.now_us(), world.pace.final_snapshot_us);
        let snapshot = Snapshot {
            serial: world.serial(),
            arn: world.arn(&call.region, "cluster-snapshot", name),
            id: name.to_owned(),
            cluster_id: id.clone(),
            status: "creating".into(),
            automated: false,
            created_us: i64::try_from(now).unwrap_or(i64::MAX),
            key: cluster.key.clone(),
            engine_version: cluster.engine_version.clone(),
            making_us: (now, duration),
            tags: if cluster.copies_tags { cluster.tags.clone() } else { BTreeMap::new() },
            roles: cluster.roles.clone(),
        };
        takes = takes.max(duration + SECOND);
        world.later(duration, Due::SnapshotDone, &call.region, name, snapshot.serial, "available");
        world.region_mut(&call.region).snapshots.insert(name.to_owned(), snapshot);
    }
    world.later(takes, Due::ClusterGone, &call.region, &id, cluster.serial, "");
    let Some(now) = world.region_mut(&call.region).clusters.get_mut(&id) else {
        return fault("InternalFailure", "the cluster vanished");
    };
    now.status = "deleting".into();
    let now = now.clone();
    Ok(xml::cluster(&now, world))
}

fn create_instance(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let id = need(call, "DBInstanceIdentifier")?.to_owned();
    check_name(&id, "DBInstanceIdentifier")?;
    let cluster = cluster_of(world, call)?.clone();
    if world.region(call).instances.contains_key(&id) {
        return fault("DBInstanceAlreadyExists", "DB Instance already exists");
    }
    if cluster.status != "available" {
        return fault(
            "InvalidDBClusterStateFault",
            format!("DB cluster {} is in {} state but expected it to be available.", cluster.id, cluster.status),
        );
    }
    let class = need(call, "DBInstanceClass")?.to_owned();
    if class == "db.serverless" && cluster.serverless.is_none() {
        return fault(
            "InvalidParameterValue",
            "Set the Serverless v2 scaling configuration on the parent DB cluster first.",
        );
    }
    let instance = Instance {
        serial: world.serial(),
        id: id.clone(),
        cluster_id: cluster.id.clone(),
        status: "creating".into(),
        class,
        tier: call.form.get("PromotionTier").map(str::to_owned),
        tags: call.form.tags(),
    };
    world.effect(call, &Effect::CreateInstance { cluster: &cluster, id: &id });
    world.hide(&call.region, Kind::Instance, &id);
    let ends = std::mem::replace(&mut world.pace.instance_ends, "available");
    world.later(world.pace.instance_us, Due::InstanceReady, &call.region, &id, instance.serial, ends);
    let reply = xml::instance(&instance);
    let region = world.region_mut(&call.region);
    region.instances.insert(id.clone(), instance);
    if let Some(cluster) = region.clusters.get_mut(&cluster.id) {
        cluster.members.push(id);
    }
    Ok(reply)
}

fn delete_instance(world: &mut World, call: &Call) -> Result<Reply, Fault> {
    let id = need(call, "DBInstanceIdentifier")?.to_owned();
    let Some(instance) = world.region(call).instances.get(&id).cloned() else {
        return Err(Fault { status: 404, code: "DBInstanceNotFound", message: format!("DBInstance {id} not found.") });
    };
    if instance.status == "deleting" {
        return fault("InvalidDBInstanceState", format!("Instance {id} is already being deleted."));
    }
    if call.form.get("FinalDBSnapshotIdentifier").is_some() {
        return fault(
            "InvalidParameterCombination",
            "FinalDBSnapshotIdentifier can not be specified when deleting a cluster instance.",
        );
    }
    let cluster = world.region(call).clusters.get(&instance.cluster_id).cloned();
    world.effect(call, &Effect::DeleteInstance { instance: &instance, cluster: cluster.as_ref() });
    world.hide(&call.region, Kind::Instance, &id);
    world.later(world.pace.delete_us, Due::InstanceGone, &call.region, &id, instance.serial, "");
    let Some(now) = world.region_mut(&call.region).instances.get_mut(&id) else {
        return fault("InternalFailure", "the instance vanished");
    };
    now.status = "deleting".into();
    let now = now.clone();
    Ok(xml::instance(&now))
}

/// Lets happen what is due.
pub(super) fn happen(world: &mut World, due: Due, region: &str, id: &str, serial: u64, text: &str) {
    match due {
        Due::SnapshotDone => {
            let key_lost = world.regions.get(region).and_then(|region| {
                let key = region.snapshots.get(id)?.key.as_ref()?;
                Some(region.keys.get(key).is_none_or(|state| state != "Enabled"))
            });
            let status = if key_lost == Some(true) { "failed" } else { text };
            if let Some(snapshot) = world.region_mut(region).snapshots.get_mut(id).filter(|s| s.serial == serial) {
                snapshot.status = status.into();
                world.note(&format!("snapshot {id} is {status}"));
            }
        }
        Due::ClusterRestored => {
            let accepts = world.time.now_us() + world.pace.accepts_us;
            if let Some(cluster) = world.cluster_mut(region, id, serial).filter(|cluster| cluster.status == "creating")
            {
                cluster.status = text.into();
                cluster.accepts_from_us = accepts;
                world.note(&format!("cluster {id} is {text}"));
                world.tell_event(region, "cluster", id);
            }
        }
        Due::InstanceReady => {
            let found = world.region_mut(region).instances.get_mut(id).filter(|instance| instance.serial == serial);
            if let Some(instance) = found.filter(|instance| instance.status == "creating") {
                instance.status = text.into();
                world.note(&format!("instance {id} is {text}"));
                world.tell_event(region, "db", id);
            }
        }
        Due::InstanceGone => {
            let place = world.region_mut(region);
            if place.instances.get(id).is_some_and(|instance| instance.serial == serial) {
                place.instances.remove(id);
                for cluster in place.clusters.values_mut() {
                    cluster.members.retain(|member| member != id);
                }
                world.note(&format!("instance {id} is gone"));
                world.tell_event(region, "db", id);
            }
        }
        Due::ClusterGone => {
            let members = world.cluster_mut(region, id, serial).map(|cluster| cluster.members.len());
            match members {
                None => {}
                Some(0) => {
                    world.region_mut(region).clusters.remove(id);
                    world.note(&format!("cluster {id} is gone"));
                    world.tell_event(region, "cluster", id);
                }
                Some(_) => world.later(5 * SECOND, due, region, id, serial, text),
            }
        }
        Due::PasswordBegins => {
            if let Some(cluster) = world.cluster_mut(region, id, serial).filter(|cluster| cluster.status == "available")
            {
                cluster.status = "resetting-master-credentials".into();
            }
        }
        Due::PasswordDone => {
            let named = rename::name_of(world, region, serial).unwrap_or_else(|| id.to_owned());
            let id = named.as_str();
            if let Some(cluster) = world.cluster_mut(region, id, serial) {
                cluster.roles.set_master_password(text);
                cluster.password_pending = false;
                if cluster.status == "resetting-master-credentials" {
                    cluster.status = "available".into();
                }
                world.note(&format!("the master password of cluster {id} is changed"));
                world.tell_event(region, "cluster", id);
            }
        }
        Due::ClusterRenamed => rename::cluster_done(world, region, id, serial, text),
        Due::InstanceRenamed => rename::instance_done(world, region, id, serial),
        Due::Settled => {
            if let Some(cluster) = world.cluster_mut(region, id, serial).filter(|cluster| cluster.status == "modifying")
            {
                cluster.status = "available".into();
            }
        }
    }
}
