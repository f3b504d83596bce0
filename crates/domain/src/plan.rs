//! What preflight found and decided, recorded before anything is touched. Later steps read it and leave no choice
//! to themselves.

use crate::cloud::{Cluster, Instance};
use crate::ids::{InstanceId, SnapshotId};
use crate::naming::TAG_PREFIX;
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
    pub replaces: Option<String>,
    /// Name of its final snapshot; `None` when declined or nothing is replaced.
    pub final_snapshot_id: Option<SnapshotId>,
    /// Settings of the restored cluster.
    pub settings: ClusterSettings,
    /// Its instances, writer first.
    pub instances: Vec<PlannedInstance>,
    /// Tags for everything made, besides our own: those of the cluster being replaced, under the request's.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What a person reads: one sentence per thing that will happen.
    pub summary: Vec<String>,
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
    /// Its class and tier.
    #[serde(rename = "spec")]
    pub spec: InstanceSpec,
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

/// The tags of what is made, besides our own: those of the cluster being replaced, so that cost allocation and policies
/// by tag go on, under the request's. AWS's own cannot be set.
pub fn merge_tags(requested: &BTreeMap<String, String>, replaced: Option<&Cluster>) -> BTreeMap<String, String> {
    let kept = replaced.into_iter().flat_map(|cluster| cluster.tags.iter());
    let kept = kept.filter(|(key, _)| !key.starts_with("aws:") && !key.starts_with(TAG_PREFIX));
    kept.chain(requested).map(|(key, value)| (key.clone(), value.clone())).collect()
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
