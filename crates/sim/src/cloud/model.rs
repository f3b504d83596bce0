//! What the simulated cloud holds.

use crate::cloud::roles::Roles;
use aurora_restore_domain::cloud::Tags;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An item of a DynamoDB table, in DynamoDB's JSON.
pub type Item = serde_json::Map<String, Value>;

/// A table: items by partition and sort key.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Names of partition and sort key.
    pub keys: Vec<&'static str>,
    /// Items by their keys; numbers are padded so that they sort.
    pub items: BTreeMap<(String, String), Item>,
}

/// RDS and KMS of one Region.
#[derive(Debug, Clone, Default)]
pub struct Region {
    /// By identifier.
    pub clusters: BTreeMap<String, Cluster>,
    /// By identifier.
    pub instances: BTreeMap<String, Instance>,
    /// By identifier.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Key ARN to state.
    pub keys: BTreeMap<String, String>,
    /// Names, and the VPC of each.
    pub subnet_groups: BTreeMap<String, String>,
    /// Ids, and the VPC of each.
    pub security_groups: BTreeMap<String, String>,
    /// Classes that can be ordered.
    pub orderable_classes: BTreeSet<String>,
    /// Global cluster to ARNs of its members.
    pub global_clusters: BTreeMap<String, Vec<String>>,
}

/// An Aurora cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Tells one cluster from a later one of the same name.
    pub serial: u64,
    /// `DBClusterIdentifier`
    pub id: String,
    /// `DBClusterArn`
    pub arn: String,
    /// `Status`
    pub status: String,
    /// `EngineVersion`
    pub engine_version: String,
    /// `Port`
    pub port: u16,
    /// `DeletionProtection`
    pub protected: bool,
    /// `KmsKeyId`; none when not encrypted.
    pub key: Option<String>,
    /// `DBSubnetGroup`
    pub subnet_group: String,
    /// `VpcSecurityGroups`
    pub security_groups: Vec<String>,
    /// `DBClusterParameterGroup`
    pub parameter_group: String,
    /// `ServerlessV2ScalingConfiguration`
    pub serverless: Option<(String, String)>,
    /// Instance identifiers, writer first.
    pub members: Vec<String>,
    /// Whether a new master password waits to be applied.
    pub password_pending: bool,
    /// Whether final snapshots take over its tags.
    pub copies_tags: bool,
    /// `TagList`
    pub tags: Tags,
    /// What it holds.
    pub roles: Roles,
    /// Masking scripts that were carried out on its data, in their order.
    pub masked: Vec<String>,
    /// Marks of scripts that have run: operation and name.
    pub marks: BTreeSet<(String, String)>,
    /// From when on it lets anybody in, in microseconds.
    pub accepts_from_us: u64,
}

/// An instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Tells one instance from a later one of the same name.
    pub serial: u64,
    /// `DBInstanceIdentifier`
    pub id: String,
    /// `DBClusterIdentifier`
    pub cluster_id: String,
    /// `DBInstanceStatus`
    pub status: String,
    /// `DBInstanceClass`
    pub class: String,
    /// `PromotionTier`
    pub tier: Option<String>,
    /// `TagList`
    pub tags: Tags,
}

/// A cluster snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Tells one snapshot from a later one of the same name.
    pub serial: u64,
    /// `DBClusterSnapshotIdentifier`
    pub id: String,
    /// `DBClusterSnapshotArn`
    pub arn: String,
    /// `DBClusterIdentifier`
    pub cluster_id: String,
    /// `Status`
    pub status: String,
    /// Whether RDS made it by itself.
    pub automated: bool,
    /// `SnapshotCreateTime`, microseconds since the start; may be before it.
    pub created_us: i64,
    /// `KmsKeyId`; none when not encrypted.
    pub key: Option<String>,
    /// `EngineVersion`
    pub engine_version: String,
    /// When its making began and how long it takes, in microseconds.
    pub making_us: (u64, u64),
    /// `TagList`
    pub tags: Tags,
    /// What it holds.
    pub roles: Roles,
}

/// A message that was published.
#[derive(Debug, Clone)]
pub struct Published {
    /// When, in microseconds.
    pub at_us: u64,
    /// Attribute `status`.
    pub status: String,
    /// The operation that it is about.
    pub operation_id: String,
    /// The execution that published it.
    pub execution_arn: String,
    /// Whether its text says that it is a repeat.
    pub says_repeat: bool,
    /// For people.
    pub text: String,
}

/// Something that happens by itself at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A snapshot becomes available (or fails).
    SnapshotDone,
    /// A restored cluster becomes available (or fails).
    ClusterRestored,
    /// An instance becomes available (or fails).
    InstanceReady,
    /// An instance is gone.
    InstanceGone,
    /// A cluster is gone, if its instances are.
    ClusterGone,
    /// The master password is being changed.
    PasswordBegins,
    /// The master password is changed.
    PasswordDone,
    /// A cluster that was being modified settles.
    Settled,
    /// A cluster has its new name.
    ClusterRenamed,
    /// An instance has restarted under its new name.
    InstanceRenamed,
}

/// How long things take, in microseconds, and how they end.
#[derive(Debug, Clone)]
pub struct Pace {
    /// A copy, once it has a slot.
    pub copy_us: u64,
    /// A final snapshot.
    pub final_snapshot_us: u64,
    /// A restore until the cluster is available.
    pub restore_us: u64,
    /// An instance until it is available.
    pub instance_us: u64,
    /// An instance or a cluster until it is gone.
    pub delete_us: u64,
    /// A new master password until it is in force.
    pub password_us: u64,
    /// A new name of a cluster or an instance.
    pub rename_us: u64,
    /// Whether a restored cluster lets anybody in under the target's name that was another's before.
    pub swapped_answers: bool,
    /// An available cluster until it lets anybody in.
    pub accepts_us: u64,
    /// A change until describe shows it.
    pub visible_us: u64,
    /// The longest that a call takes on its way.
    pub latency_us: u64,
    /// Status that the next copy ends in.
    pub copy_ends: &'static str,
    /// Status that the next restore ends in.
    pub restore_ends: &'static str,
    /// Status that the next instance ends in.
    pub instance_ends: &'static str,
    /// Copies of other teams that occupy slots of the target Region, with the moment that each ends.
    pub others_copy_until_us: Vec<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        const MINUTE: u64 = 60 * crate::time::SECOND;
        Self {
            copy_us: 22 * MINUTE,
            final_snapshot_us: 3 * MINUTE,
            restore_us: 9 * MINUTE,
            instance_us: 8 * MINUTE,
            delete_us: 4 * MINUTE,
            password_us: MINUTE / 2,
            rename_us: MINUTE / 2,
            swapped_answers: true,
            accepts_us: 0,
            visible_us: 0,
            latency_us: 40_000,
            copy_ends: "available",
            restore_ends: "available",
            instance_ends: "available",
            others_copy_until_us: vec![],
        }
    }
}
