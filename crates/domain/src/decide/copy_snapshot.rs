//! Start the copy, or take the one that this operation has started already.

use crate::cloud::Snapshot;
use crate::failure::{ErrorName, Failure};
use crate::ids::{OperationId, SnapshotId};
use crate::plan::{CopyPlan, Plan};

/// What to do about the copy.
#[derive(Debug, PartialEq)]
pub enum Decision<'p> {
    /// Source and target Region are the same.
    Skip,
    /// It is there and ours; its status is check-copy's business.
    Adopt,
    /// `CopyDBClusterSnapshot` in the target Region.
    Start {
        /// Name of the copy.
        copy_id: &'p SnapshotId,
        /// Given if and only if the source is encrypted.
        kms_key_id: Option<&'p str>,
    },
    /// The name is taken.
    Refuse(Failure),
}

/// Decides by what stands under the copy's name in the target Region.
pub fn decide<'p>(plan: &'p Plan, existing: Option<&Snapshot>, operation_id: &OperationId) -> Decision<'p> {
    let CopyPlan::Copy { copy_id, kms_key_id } = &plan.copy else { return Decision::Skip };
    match existing {
        None => Decision::Start { copy_id, kms_key_id: kms_key_id.as_deref() },
        Some(snapshot) if snapshot.belongs_to(operation_id) => Decision::Adopt,
        Some(_) => Decision::Refuse(
            Failure::new(
                ErrorName::ResourceConflict,
                format!("a snapshot {copy_id} exists in the target Region and is not tagged as a copy of operation {operation_id}"),
            )
            .left("nothing was touched")
            .next("delete or rename that snapshot, or start again with a new operation_id"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;

    #[test]
    fn the_copy_is_started_once() {
        let (mut plan, id, copy) = (fixtures::plan(), fixtures::operation_id(), fixtures::copy());
        assert!(matches!(decide(&plan, None, &id), Decision::Start { kms_key_id: Some("key-1"), .. }));
        assert_eq!(decide(&plan, Some(&copy), &id), Decision::Adopt);
        let foreign = Snapshot { tags: Default::default(), ..copy };
        assert!(
            matches!(decide(&plan, Some(&foreign), &id), Decision::Refuse(failure) if failure.name == ErrorName::ResourceConflict)
        );
        plan.copy = CopyPlan::SameRegion;
        assert_eq!(decide(&plan, None, &id), Decision::Skip);
    }
}
