//! Names of everything a restore makes. They follow from the operation id alone, before the first call, so that a
//! repeated step finds what it made and a second operation cannot collide with it.

use crate::ids::{ClusterId, InstanceId, OperationId, SnapshotId};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Tag: the operation that made the resource. Adoption goes by this tag, never by the name alone.
pub const TAG_OPERATION: &str = "aurora-restore:operation";
/// Tag: `true` on everything this tool made and may therefore replace or remove.
pub const TAG_MANAGED: &str = "aurora-restore:managed";
/// Tag: ARN of the source cluster.
pub const TAG_SOURCE: &str = "aurora-restore:source";
/// Tag: what the resource is to us, see [`Kind`]. A final snapshot inherits its cluster's tags, so `managed` alone
/// would make it look like one of our copies.
pub const TAG_KIND: &str = "aurora-restore:kind";
/// Tag: the cluster that a copy was made for. Its name may not tell: long ones are cut.
pub const TAG_TARGET: &str = "aurora-restore:target";
/// Tag: day (UTC) on which a copy was archived, which is when its restore had been verified.
pub const TAG_ARCHIVED: &str = "aurora-restore:archived";
/// Prefix of the tags that are ours; a request cannot set them.
pub const TAG_PREFIX: &str = "aurora-restore:";

/// Room for the instance suffix: a target cluster's id may be this long.
pub const TARGET_CLUSTER_ID_MAX: usize = 60;

/// With a swap it may be this long: names beside it are made by adding to it and are never cut, so that the functions'
/// rights can go by how they begin.
pub const SWAP_TARGET_CLUSTER_ID_MAX: usize = 45;

/// Value of [`TAG_KIND`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A snapshot copied into the target Region.
    Copy,
    /// A restored cluster.
    Cluster,
    /// An instance of a restored cluster.
    Instance,
}

impl Kind {
    /// The tag's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Cluster => "cluster",
            Self::Instance => "instance",
        }
    }
}

const SHORT_LENGTH: usize = 10;

/// First ten hex digits of the operation id's SHA-256.
pub fn short(operation_id: &OperationId) -> String {
    let mut digest = hex::encode(Sha256::digest(operation_id.as_str().as_bytes()));
    digest.truncate(SHORT_LENGTH);
    digest
}

/// Name of this operation's copy: `<target>-copy-<short>`.
pub fn copy_id(target: &ClusterId, operation_id: &OperationId) -> SnapshotId {
    suffixed(target, &format!("copy-{}", short(operation_id)))
}

/// Whether a copy of ours was made for `target`, by its tag, or by its name if an earlier version made it: several may
/// restore the same source.
pub fn is_copy_for(target: &ClusterId, id: &str, tags: &BTreeMap<String, String>) -> bool {
    tags.get(TAG_TARGET).map_or_else(|| is_named_for(target, id), |made_for| made_for == target.as_str())
}

fn is_named_for(target: &ClusterId, id: &str) -> bool {
    let (room, word) = (63 - "copy-".len() - SHORT_LENGTH - 1, "-copy-");
    let stem: String = target.as_str().chars().take(room).collect();
    let rest = id.strip_prefix(stem.trim_end_matches('-')).and_then(|rest| rest.strip_prefix(word));
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// Name of the final snapshot of the cluster that this operation replaces: `<target>-final-<short>`.
pub fn final_snapshot_id(target: &ClusterId, operation_id: &OperationId) -> SnapshotId {
    suffixed(target, &format!("final-{}", short(operation_id)))
}

/// Name of the restored cluster's instance number `ordinal`, from 1; 1 is the writer.
pub fn instance_id(target: &ClusterId, ordinal: usize) -> InstanceId {
    legal(InstanceId::try_from(format!("{target}-{ordinal}")))
}

/// Name under which a swap restores beside the living target: `<target>-new-<short>`.
pub fn scratch_id(target: &ClusterId, operation_id: &OperationId) -> ClusterId {
    legal(ClusterId::try_from(format!("{target}-new-{}", short(operation_id))))
}

/// Name that the former cluster gets in a swap: `<target>-old-<short>`.
pub fn retired_id(target: &ClusterId, operation_id: &OperationId) -> ClusterId {
    legal(ClusterId::try_from(format!("{target}-old-{}", short(operation_id))))
}

/// Where the refusal of an execution that has no name of its own is recorded.
pub fn refused_id(operation_id: &OperationId) -> OperationId {
    legal(OperationId::try_from(format!("refused-{}", short(operation_id))))
}

fn suffixed(target: &ClusterId, suffix: &str) -> SnapshotId {
    let room = 63 - suffix.len() - 1;
    let stem: String = target.as_str().chars().take(room).collect();
    legal(SnapshotId::try_from(format!("{}-{suffix}", stem.trim_end_matches('-'))))
}

/// A stem that is a legal id, cut at a character and freed of hyphens at its end, stays legal with our suffixes; the
/// property test below holds this to it.
#[allow(clippy::expect_used)]
fn legal<T, E: std::fmt::Debug>(id: Result<T, E>) -> T {
    id.expect("names made from legal ids are legal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_from_target_and_operation() {
        let target = ClusterId::try_from("staging").unwrap();
        let one = OperationId::try_from("nightly-2026-11-21").unwrap();
        for name in ["staging", "staging-copy", &"a".repeat(60), &format!("{}-b", "a".repeat(46))] {
            let of = ClusterId::try_from(name).unwrap();
            let untagged = BTreeMap::new();
            assert!(is_copy_for(&of, copy_id(&of, &one).as_str(), &untagged), "{name}");
            assert_eq!(is_copy_for(&target, copy_id(&of, &one).as_str(), &untagged), of == target, "{name}");
        }
        // Names that are cut are the same; the tag is not cut.
        let long = ["a", "b"].map(|end| ClusterId::try_from(format!("{}-{end}", "a".repeat(55))).unwrap());
        let copy = copy_id(&long[0], &one);
        assert_eq!(copy, copy_id(&long[1], &one));
        let tags = BTreeMap::from([(TAG_TARGET.to_owned(), long[0].to_string())]);
        assert_eq!(long.each_ref().map(|target| is_copy_for(target, copy.as_str(), &tags)), [true, false]);
        let two = OperationId::try_from("nightly-2026-11-22").unwrap();
        assert_eq!(copy_id(&target, &one), copy_id(&target, &one));
        assert_ne!(copy_id(&target, &one), copy_id(&target, &two));
        assert!(copy_id(&target, &one).as_str().starts_with("staging-copy-"));
        assert!(final_snapshot_id(&target, &one).as_str().starts_with("staging-final-"));
        assert_eq!(instance_id(&target, 1).as_str(), "staging-1");
    }

    proptest! {
        #[test]
        fn every_name_is_legal(target in "[a-z](-?[a-z0-9]){0,59}", operation in "[A-Za-z0-9._:-]{1,80}") {
            prop_assume!(target.len() <= TARGET_CLUSTER_ID_MAX);
            let target = ClusterId::try_from(target).unwrap();
            let operation = OperationId::try_from(operation).unwrap();
            for name in [copy_id(&target, &operation), final_snapshot_id(&target, &operation)] {
                prop_assert_eq!(SnapshotId::try_from(name.as_str()).unwrap(), name);
            }
            for ordinal in [1, 15] {
                prop_assert!(instance_id(&target, ordinal).as_str().len() <= 63);
                if target.as_str().len() <= SWAP_TARGET_CLUSTER_ID_MAX {
                    for cluster in [scratch_id(&target, &operation), retired_id(&target, &operation)] {
                        prop_assert!(instance_id(&cluster, ordinal).as_str().starts_with(target.as_str()));
                    }
                }
            }
        }
    }
}
