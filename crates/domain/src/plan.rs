//! What preflight found and decided, recorded before anything is touched. Later steps read it and leave no choice
//! to themselves.

use crate::cloud::{Cluster, Instance};
use crate::ids::{ClusterId, InstanceId, OperationId, SnapshotId};
use crate::naming::TAG_PREFIX;
use crate::operation::{Operation, Replaced, Status};
use crate::phase::{Expected, Phase, known_phases};
use crate::request::{InstanceSpec, RequestedSettings, ServerlessV2};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The recorded plan of one operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The snapshot of the source that is restored.
    pub snapshot: SnapshotRef,
    /// ARN of the source cluster, also if it no longer exists.
    pub source_cluster_arn: String,
    /// How the snapshot gets into the target Region.
    pub copy: CopyPlan,
    /// The cluster that will be deleted; `None` when the name is free.
    pub replaces: Option<Replaces>,
    /// The names beside the target's, when the restored cluster is swapped in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapPlan>,
    /// Name of its final snapshot; `None` when declined or nothing is replaced.
    pub final_snapshot_id: Option<SnapshotId>,
    /// Settings of the restored cluster.
    pub settings: ClusterSettings,
    /// Its instances, writer first.
    pub instances: Vec<PlannedInstance>,
    /// Tags for everything made, besides our own: those of the cluster being replaced, under the request's.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How long RDS took when the same source was restored before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "known_phases")]
    pub expected: BTreeMap<Phase, Expected>,
    /// What a person reads: one sentence per thing that will happen.
    pub summary: Vec<String>,
}

impl Plan {
    /// Name under which the cluster is restored.
    pub fn made_as<'p>(&'p self, target: &'p ClusterId) -> &'p ClusterId {
        self.swap.as_ref().map_or(target, |swap| &swap.scratch_id)
    }

    /// Name under which the former cluster is deleted.
    pub fn deleted_as<'p>(&'p self, target: &'p ClusterId) -> &'p ClusterId {
        self.swap.as_ref().map_or(target, |swap| &swap.retired_id)
    }

    /// The instances as they are named in the cluster `name`: that of the swap, or the target.
    pub fn instances_in(&self, name: &str) -> Vec<PlannedInstance> {
        let is_scratch = self.swap.as_ref().is_some_and(|swap| swap.scratch_id.as_str() == name);
        let named = |planned: &PlannedInstance| match &planned.scratch_id {
            Some(scratch_id) if is_scratch => PlannedInstance { id: scratch_id.clone(), ..planned.clone() },
            Some(_) | None => planned.clone(),
        };
        self.instances.iter().map(named).collect()
    }
}

/// The names beside the target's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapPlan {
    /// The restored cluster's, until it takes the target's.
    pub scratch_id: ClusterId,
    /// The former cluster's, once it has given its name away.
    pub retired_id: ClusterId,
}

/// The cluster that will be deleted, as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaces {
    /// ARN; the same for whatever bears the name.
    pub arn: String,
    /// `DbClusterResourceId`; this very cluster's.
    pub resource_id: String,
}

/// The snapshot to restore, as found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// Identifier, `rds:…` for automated ones.
    pub id: String,
    /// ARN in the source Region.
    pub arn: String,
    /// RFC 3339; the recovery point.
    pub created_at: Option<String>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key that it is encrypted with, in the source Region.
    #[serde(default)]
    pub kms_key_id: Option<String>,
    /// `aurora-postgresql` or `aurora-mysql`.
    pub engine: String,
    /// Engine version at the time of the snapshot.
    pub engine_version: String,
    /// GiB.
    pub allocated_storage_gib: Option<i32>,
}

/// How the snapshot gets into the target Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyPlan {
    /// Source and target Region are the same: the snapshot is restored where it is.
    SameRegion,
    /// It is copied.
    Copy {
        /// Name of the copy.
        copy_id: SnapshotId,
        /// Key of the target Region; given if and only if the snapshot is encrypted.
        kms_key_id: Option<String>,
    },
}

/// An instance to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedInstance {
    /// Its name.
    pub id: InstanceId,
    /// Its name until its cluster takes the target's name in a swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch_id: Option<InstanceId>,
    /// Its class and tier.
    #[serde(rename = "spec")]
    pub spec: InstanceSpec,
}

impl PlannedInstance {
    /// Whether this is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.id.as_str() == name || self.scratch_id.as_ref().is_some_and(|id| id.as_str() == name)
    }
}

/// Settings of a cluster: what a restore needs, and what is remembered of a cluster before it is deleted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// `DBSubnetGroupName`
    pub db_subnet_group_name: Option<String>,
    /// `VpcSecurityGroupIds`
    pub vpc_security_group_ids: Vec<String>,
    /// `DBClusterParameterGroupName`; `None` takes the engine's default group.
    pub db_cluster_parameter_group_name: Option<String>,
    /// `Port`
    pub port: Option<u16>,
    /// `EngineVersion`; `None` takes the snapshot's.
    pub engine_version: Option<String>,
    /// `KmsKeyId` of the restore call; `None` keeps the key of the snapshot that is restored.
    pub kms_key_id: Option<String>,
    /// `ServerlessV2ScalingConfiguration`
    pub serverless_v2: Option<ServerlessV2>,
    /// `DeletionProtection`
    pub deletion_protection: bool,
    /// `EnableIAMDatabaseAuthentication`
    pub enable_iam_database_authentication: bool,
    /// `EnableCloudwatchLogsExports`
    pub cloudwatch_logs_exports: Vec<String>,
    /// `StorageType`; only what is not Aurora's default.
    pub storage_type: Option<String>,
}

/// The settings of `cluster`, as they are.
pub fn settings_of(cluster: &Cluster) -> ClusterSettings {
    ClusterSettings {
        db_subnet_group_name: cluster.db_subnet_group_name.clone(),
        vpc_security_group_ids: cluster.vpc_security_group_ids.clone(),
        // The default group of an engine version must not be carried to another version.
        db_cluster_parameter_group_name: cluster
            .db_cluster_parameter_group_name
            .clone()
            .filter(|name| !name.starts_with("default.")),
        port: cluster.port,
        engine_version: Some(cluster.engine_version.clone()),
        kms_key_id: cluster.kms_key_id.clone().filter(|_| cluster.storage_encrypted),
        serverless_v2: cluster.serverless_v2.map(|(min_acu, max_acu)| ServerlessV2 { min_acu, max_acu }),
        deletion_protection: cluster.deletion_protection,
        enable_iam_database_authentication: cluster.iam_database_authentication,
        cloudwatch_logs_exports: cluster.cloudwatch_logs_exports.clone(),
        storage_type: cluster.storage_type.clone().filter(|kind| kind.starts_with("aurora-")),
    }
}

/// The instances of a cluster as specs, the writer first.
pub fn instances_of(cluster: &Cluster, instances: &[Instance]) -> Vec<InstanceSpec> {
    let mut members: Vec<_> = cluster.members.iter().collect();
    members.sort_by_key(|member| (!member.is_writer, member.promotion_tier, member.id.clone()));
    members
        .iter()
        .filter_map(|member| {
            let instance = instances.iter().find(|instance| instance.id == member.id)?;
            Some(InstanceSpec {
                db_instance_class: instance.class.clone(),
                promotion_tier: member.promotion_tier.or(instance.promotion_tier),
            })
        })
        .collect()
}

/// What settings come from that a request does not give: the cluster being replaced, or, where an earlier operation
/// deleted it and did not put another in its place, what that operation remembered of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Base {
    /// Its settings; `None` when there is nothing to take them from.
    pub settings: Option<ClusterSettings>,
    /// Its instances, writer first.
    pub instances: Vec<InstanceSpec>,
    /// Its tags without AWS's and ours.
    pub tags: BTreeMap<String, String>,
    /// The earlier operation, where something of it was used.
    pub remembered_by: Option<OperationId>,
}

/// What an earlier operation knows of the cluster that bore the target's name.
struct Memory<'a> {
    of: &'a OperationId,
    settings: &'a ClusterSettings,
    instances: Vec<InstanceSpec>,
    tags: &'a BTreeMap<String, String>,
    /// Whether it had begun to take that cluster away, which includes its protection.
    began: bool,
}

impl<'a> Memory<'a> {
    /// What it remembered of the cluster before it began to delete it; else, when that had gone by other hands, what it
    /// had planned to put in its place.
    fn of(operation: &'a Operation) -> Option<Self> {
        let of = &operation.operation_id;
        if let Some(Replaced { settings, instances, tags, .. }) = &operation.replaced {
            return Some(Self { of, settings, instances: instances.clone(), tags, began: true });
        }
        let plan = operation.plan.as_ref().filter(|_| operation.status != Status::Planned)?;
        let Plan { settings, instances, tags, replaces, .. } = plan;
        (replaces.is_some() || operation.cluster.is_some()).then(|| {
            let instances = instances.iter().map(|planned| planned.spec.clone()).collect();
            Self { of, settings, instances, tags, began: false }
        })
    }
}

/// What to take settings from: `target` as it stands, completed by what the latest of `earlier` operations on it, newest
/// first, knew of it before it failed. One night that fails between deletion and restore must not leave the next with
/// nothing to go by.
pub fn base(target: Option<&Cluster>, instances: &[Instance], earlier: &[Operation]) -> Base {
    let unfinished = earlier.iter().take_while(|operation| operation.status != Status::Succeeded);
    let known: Vec<_> = unfinished.filter_map(Memory::of).collect();
    let mut base = Base::default();
    if let Some(target) = target {
        base.settings = Some(settings_of(target));
        base.instances = instances_of(target, instances);
        base.tags.clone_from(&target.tags);
    }
    match (&mut base.settings, known.first()) {
        (None, Some(former)) => {
            base.settings = Some(former.settings.clone());
            base.tags.clone_from(former.tags);
            base.remembered_by = Some(former.of.clone());
        }
        // Turned off by that operation, which then stopped.
        (Some(settings), Some(former)) if former.began => {
            settings.deletion_protection |= former.settings.deletion_protection;
        }
        _ => {}
    }
    // What the latest replaced may itself have been half-made and without instances: then those of the one before.
    let with_instances = known.iter().find(|former| !former.instances.is_empty());
    if let Some(former) = with_instances.filter(|_| base.instances.is_empty()) {
        base.instances.clone_from(&former.instances);
        base.remembered_by = Some(former.of.clone());
    }
    base.tags.retain(|key, _| !key.starts_with("aws:") && !key.starts_with(TAG_PREFIX));
    base
}

/// The tags of what is made, besides our own: those of the cluster being replaced, so that cost allocation and policies
/// by tag go on, under the request's.
pub fn merge_tags(requested: &BTreeMap<String, String>, base: &Base) -> BTreeMap<String, String> {
    base.tags.iter().chain(requested).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The settings of the cluster to make: the request's, else those of the cluster being replaced. `kms_key_id` is left
/// to preflight, which knows the snapshot.
pub fn merge(requested: &RequestedSettings, replaced: Option<&ClusterSettings>) -> ClusterSettings {
    let old = replaced.cloned().unwrap_or_else(|| ClusterSettings {
        // Nothing is known of the cluster's use: the careful default.
        deletion_protection: true,
        ..ClusterSettings::default()
    });
    ClusterSettings {
        db_subnet_group_name: requested.db_subnet_group_name.clone().or(old.db_subnet_group_name),
        vpc_security_group_ids: requested.vpc_security_group_ids.clone().unwrap_or(old.vpc_security_group_ids),
        db_cluster_parameter_group_name: requested
            .db_cluster_parameter_group_name
            .clone()
            .or(old.db_cluster_parameter_group_name),
        port: requested.port.or(old.port),
        // A restore can go up from the snapshot's version, never down: an older target must not hold it back.
        engine_version: requested.engine_version.clone(),
        kms_key_id: None,
        serverless_v2: requested.serverless_v2.or(old.serverless_v2),
        deletion_protection: requested.deletion_protection.unwrap_or(old.deletion_protection),
        enable_iam_database_authentication: requested
            .enable_iam_database_authentication
            .unwrap_or(old.enable_iam_database_authentication),
        cloudwatch_logs_exports: old.cloudwatch_logs_exports,
        storage_type: old.storage_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;
    use time::macros::datetime;

    fn failed(id: &str, replaced: bool) -> Operation {
        let mut operation = Operation::new(id.try_into().unwrap(), None, datetime!(2026-11-20 00:00 UTC));
        operation.status = Status::Failed;
        operation.replaced = replaced.then(|| crate::operation::Replaced {
            instances: vec![InstanceSpec { db_instance_class: "db.r6g.large".into(), promotion_tier: None }],
            gone: true,
            ..fixtures::replaced()
        });
        operation
    }

    #[test]
    fn a_night_that_failed_after_the_deletion_leaves_what_it_remembered() {
        let earlier = [failed("invalid", false), failed("half-way", true)];
        let base = base(None, &[], &earlier);
        assert_eq!(base.settings.unwrap().db_subnet_group_name.as_deref(), Some("staging-subnets"));
        assert_eq!((base.instances.len(), base.remembered_by.unwrap().as_str()), (1, "half-way"));
    }

    #[test]
    fn a_half_made_cluster_is_completed() {
        let half_made = Cluster { members: vec![], deletion_protection: false, ..fixtures::cluster("staging") };
        let base = base(Some(&half_made), &[], &[failed("half-way", true)]);
        assert_eq!(base.instances.len(), 1);
        assert!(base.settings.unwrap().deletion_protection, "it was on before that operation turned it off");
    }

    #[test]
    fn instances_come_from_the_last_operation_that_saw_any() {
        // The second night replaced what the first had left half-made, a cluster without instances, and failed, too.
        let mut second = failed("second-night", true);
        second.replaced.as_mut().unwrap().instances.clear();
        let base = base(None, &[], &[second, failed("first-night", true)]);
        assert_eq!((base.instances.len(), base.remembered_by.unwrap().as_str()), (1, "first-night"));
    }

    #[test]
    fn a_target_that_others_deleted_leaves_what_was_planned_in_its_place() {
        let mut planned = failed("planned", false);
        planned.plan = Some(fixtures::plan());
        let base = base(None, &[], std::slice::from_ref(&planned));
        assert_eq!(base.instances.len(), fixtures::plan().instances.len());
        assert_eq!(base.remembered_by.unwrap().as_str(), "planned");
        assert_eq!(base.settings, Some(fixtures::plan().settings));

        planned.status = Status::Planned;
        let base = super::base(None, &[], &[planned]);
        assert_eq!(base, Base::default(), "a plan that nobody meant to carry out");
    }

    #[test]
    fn what_was_restored_since_goes_first() {
        let mut succeeded = failed("good", false);
        succeeded.status = Status::Succeeded;
        assert_eq!(base(None, &[], &[succeeded, failed("long-ago", true)]), Base::default());
    }
}
