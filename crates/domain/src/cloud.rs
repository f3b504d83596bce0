//! What was observed in AWS, as plain values with AWS's own terms. The edges in `aurora-restore-core` make them.

use crate::naming::{Kind, TAG_KIND, TAG_MANAGED, TAG_OPERATION};
use crate::{Instant, ids::OperationId};
use std::collections::BTreeMap;

/// Tags of a resource.
pub type Tags = BTreeMap<String, String>;

/// A secret of RDS's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterUserSecret {
    /// `SecretArn`
    pub arn: String,
    /// `SecretStatus`: `creating`, `active`, `rotating` or `impaired`.
    pub status: String,
}

/// A cluster as `DescribeDBClusters` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// `DBClusterIdentifier`
    pub id: String,
    /// `DBClusterArn`
    pub arn: String,
    /// `Status`, see [`crate::status`].
    pub status: String,
    /// `Engine`
    pub engine: String,
    /// `EngineVersion`
    pub engine_version: String,
    /// `Endpoint`, the writer's.
    pub endpoint: Option<String>,
    /// `Port`
    pub port: Option<u16>,
    /// `MasterUsername`
    pub master_username: Option<String>,
    /// `DatabaseName`
    pub database_name: Option<String>,
    /// `DeletionProtection`
    pub deletion_protection: bool,
    /// `StorageEncrypted`
    pub storage_encrypted: bool,
    /// `KmsKeyId`, an ARN.
    pub kms_key_id: Option<String>,
    /// `DBSubnetGroup`, a name.
    pub db_subnet_group_name: Option<String>,
    /// Ids of `VpcSecurityGroups`.
    pub vpc_security_group_ids: Vec<String>,
    /// `DBClusterParameterGroup`, a name.
    pub db_cluster_parameter_group_name: Option<String>,
    /// `IAMDatabaseAuthenticationEnabled`
    pub iam_database_authentication: bool,
    /// `EnabledCloudwatchLogsExports`
    pub cloudwatch_logs_exports: Vec<String>,
    /// `StorageType`, for instance `aurora-iopt1`.
    pub storage_type: Option<String>,
    /// `ServerlessV2ScalingConfiguration`: minimum and maximum ACU.
    pub serverless_v2: Option<(f64, f64)>,
    /// `DBClusterMembers`
    pub members: Vec<Member>,
    /// Whether `PendingModifiedValues` holds a master password.
    pub has_pending_master_password: bool,
    /// `MasterUserSecret`: where RDS keeps a master password that it manages.
    pub master_user_secret: Option<MasterUserSecret>,
    /// `DbClusterResourceId`: differs between two clusters that had the same name, and so the same ARN, in turn.
    pub resource_id: String,
    /// `ReplicationSourceIdentifier`: the cluster is a replica of this one.
    pub replication_source: Option<String>,
    /// `ReadReplicaIdentifiers`: clusters that replicate from this one.
    pub read_replicas: Vec<String>,
    /// `TagList`
    pub tags: Tags,
}

impl Cluster {
    /// Tagged as made by this tool.
    pub fn is_managed(&self) -> bool {
        is_managed(&self.tags)
    }

    /// A restore that ended before anyone could write to it: no final snapshot can be made of it, and there is nothing in
    /// it that its own source snapshot does not have.
    pub fn never_came_up(&self) -> bool {
        matches!(self.status.as_str(), "incompatible-restore" | "restore-error")
    }

    /// Tagged as made by this operation.
    pub fn belongs_to(&self, operation_id: &OperationId) -> bool {
        belongs_to(&self.tags, operation_id)
    }
}

/// One of a cluster's `DBClusterMembers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `DBInstanceIdentifier`
    pub id: String,
    /// `IsClusterWriter`
    pub is_writer: bool,
    /// `PromotionTier`
    pub promotion_tier: Option<u8>,
}

/// An instance as `DescribeDBInstances` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `DBInstanceIdentifier`
    pub id: String,
    /// `DBInstanceStatus`, see [`crate::status`].
    pub status: String,
    /// `DBInstanceClass`
    pub class: String,
    /// `PromotionTier`
    pub promotion_tier: Option<u8>,
    /// `DBClusterIdentifier`
    pub cluster_id: Option<String>,
    /// `TagList`
    pub tags: Tags,
}

impl Instance {
    /// Tagged as made by this operation.
    pub fn belongs_to(&self, operation_id: &OperationId) -> bool {
        belongs_to(&self.tags, operation_id)
    }
}

/// A cluster snapshot as `DescribeDBClusterSnapshots` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// `DBClusterSnapshotIdentifier`
    pub id: String,
    /// `DBClusterSnapshotArn`
    pub arn: String,
    /// `DBClusterIdentifier`
    pub cluster_id: String,
    /// `Status`
    pub status: String,
    /// `PercentProgress`; stays at 0 while a copy is queued.
    pub percent_progress: Option<u8>,
    /// `SnapshotCreateTime`
    pub created_at: Option<Instant>,
    /// `StorageEncrypted`
    pub encrypted: bool,
    /// `KmsKeyId`
    pub kms_key_id: Option<String>,
    /// `Engine`
    pub engine: String,
    /// `EngineVersion`
    pub engine_version: String,
    /// `MasterUsername`
    pub master_username: Option<String>,
    /// `AllocatedStorage`, in GiB.
    pub allocated_storage_gib: Option<i32>,
    /// `TagList`
    pub tags: Tags,
}

impl Snapshot {
    /// Tagged as a copy made by this tool. A final snapshot that inherited its cluster's tags is none.
    pub fn is_our_copy(&self) -> bool {
        is_managed(&self.tags) && self.tags.get(TAG_KIND).is_some_and(|kind| kind == Kind::Copy.as_str())
    }

    /// Tagged as made by this operation.
    pub fn belongs_to(&self, operation_id: &OperationId) -> bool {
        belongs_to(&self.tags, operation_id)
    }
}

/// A KMS key as `DescribeKey` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its ARN, whatever name it was asked by.
    pub arn: String,
    /// `KeyState`: `Enabled`, `Disabled`, `PendingDeletion`, …
    pub state: String,
}

/// The account's limits in a Region: what is used, and the most; `None` when AWS does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// `ManualClusterSnapshots`
    pub manual_snapshots: Option<(i64, i64)>,
    /// `DBClusters`
    pub clusters: Option<(i64, i64)>,
    /// `DBInstances`
    pub instances: Option<(i64, i64)>,
}

fn is_managed(tags: &Tags) -> bool {
    tags.get(TAG_MANAGED).is_some_and(|value| value == "true")
}

fn belongs_to(tags: &Tags, operation_id: &OperationId) -> bool {
    tags.get(TAG_OPERATION).is_some_and(|value| value == operation_id.as_str())
}
