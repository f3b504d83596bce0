//! Restore, or take the cluster that this operation has restored already.

use crate::cloud::Cluster;
use crate::failure::{ErrorName, Failure};
use crate::ids::OperationId;
use crate::sabotage::Sabotage;

/// What to do about the cluster.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// It is there and ours.
    Adopt,
    /// `RestoreDBClusterFromSnapshot`.
    Restore,
    /// The name is taken.
    Refuse(Failure),
}

/// Decides by what stands under the target's name. A restore never goes into an existing cluster.
pub fn decide(existing: Option<&Cluster>, operation_id: &OperationId) -> Decision {
    match existing {
        None => Decision::Restore,
        Some(cluster) if cluster.belongs_to(operation_id) || Sabotage::AlreadyExistsIsDone.is_on() => Decision::Adopt,
        Some(cluster) => Decision::Refuse(
            Failure::new(
                ErrorName::ResourceConflict,
                format!(
                    "a cluster {} exists ({}) and is not tagged as restored by operation {operation_id}",
                    cluster.id, cluster.status
                ),
            )
            .next("find out who made it in the meantime; delete or rename it, then start a new operation"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;

    #[test]
    fn a_cluster_is_adopted_by_tag_alone() {
        let id = fixtures::operation_id();
        assert_eq!(decide(None, &id), Decision::Restore);
        assert_eq!(decide(Some(&fixtures::restored()), &id), Decision::Adopt);
        assert!(matches!(decide(Some(&fixtures::cluster("staging")), &id), Decision::Refuse(_)));
    }
}
