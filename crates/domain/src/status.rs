//! Every RDS status belongs to exactly one class (Aurora guide, "Viewing DB cluster status" and "DB instance
//! status"); an unknown one counts as progress until the step's deadline and is reported by name.

/// What a status means for the one who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing is going on.
    Settled,
    /// Something is going on that ends by itself.
    InProgress,
    /// AWS gave up; waiting longer changes nothing.
    Failed,
    /// Being deleted: progress for who deletes, failure for who restores.
    Deleting,
    /// Not in our tables.
    Unknown,
}

const CLUSTER_SETTLED: &[&str] = &["available", "stopped"];
const CLUSTER_FAILED: &[&str] = &[
    "cloning-failed",
    "failed",
    "inaccessible-encryption-credentials",
    "inaccessible-encryption-credentials-recoverable",
    "incompatible-network",
    "incompatible-parameters",
    "incompatible-restore",
    "migration-failed",
    "restore-error",
];
const CLUSTER_IN_PROGRESS: &[&str] = &[
    "backing-up",
    "backtracking",
    "creating",
    "failing-over",
    "maintenance",
    "migrating",
    "modifying",
    "preparing-data-migration",
    "promoting",
    "rebooting",
    "renaming",
    "resetting-master-credentials",
    "starting",
    "stopping",
    "storage-optimization",
    "update-iam-db-auth",
    "upgrading",
];

const INSTANCE_SETTLED: &[&str] = &["available", "stopped"];
const INSTANCE_FAILED: &[&str] = &[
    "failed",
    "inaccessible-encryption-credentials",
    "inaccessible-encryption-credentials-recoverable",
    "incompatible-create",
    "incompatible-network",
    "incompatible-option-group",
    "incompatible-parameters",
    "incompatible-restore",
    "insufficient-capacity",
    "restore-error",
    "storage-full",
];
const INSTANCE_IN_PROGRESS: &[&str] = &[
    "backing-up",
    "creating",
    "maintenance",
    "modifying",
    "moving-to-vpc",
    "rebooting",
    "renaming",
    "resetting-master-credentials",
    "starting",
    "stopping",
    "storage-optimization",
    "upgrading",
];

fn class(status: &str, settled: &[&str], failed: &[&str], in_progress: &[&str]) -> Class {
    match status {
        "deleting" => Class::Deleting,
        _ if settled.contains(&status) => Class::Settled,
        _ if failed.contains(&status) => Class::Failed,
        // `configuring-enhanced-monitoring`, `configuring-iam-database-auth`, `configuring-log-exports`, …
        _ if in_progress.contains(&status) || status.starts_with("configuring-") => Class::InProgress,
        _ => Class::Unknown,
    }
}

/// Class of a cluster's `Status`.
pub fn cluster(status: &str) -> Class {
    class(status, CLUSTER_SETTLED, CLUSTER_FAILED, CLUSTER_IN_PROGRESS)
}

/// Class of an instance's `DBInstanceStatus`.
pub fn instance(status: &str) -> Class {
    class(status, INSTANCE_SETTLED, INSTANCE_FAILED, INSTANCE_IN_PROGRESS)
}

/// Class of a cluster snapshot's `Status`.
pub fn snapshot(status: &str) -> Class {
    class(status, &["available"], &["failed"], &["creating", "copying"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_is_in_two_tables() {
        for tables in [
            [CLUSTER_SETTLED, CLUSTER_FAILED, CLUSTER_IN_PROGRESS],
            [INSTANCE_SETTLED, INSTANCE_FAILED, INSTANCE_IN_PROGRESS],
        ] {
            let mut all: Vec<_> = tables.concat();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }

    #[test]
    fn failed_ends_at_once_and_unknown_is_named() {
        assert_eq!(cluster("incompatible-restore"), Class::Failed);
        assert_eq!(cluster("inaccessible-encryption-credentials-recoverable"), Class::Failed);
        assert_eq!(cluster("configuring-iam-database-auth"), Class::InProgress);
        assert_eq!(cluster("contemplating"), Class::Unknown);
        assert_eq!(cluster("deleting"), Class::Deleting);
        assert_eq!(instance("insufficient-capacity"), Class::Failed);
        assert_eq!(snapshot("copying"), Class::InProgress);
        assert_eq!(snapshot("failed"), Class::Failed);
    }
}
