//! What has to hold before the target may be deleted. Each guard gives a reason, never a bool; all are evaluated and
//! reported together, by preflight and again by delete-cluster right before it acts.

mod restoring;

pub use restoring::{Blueprint, Ground, SecurityGroup, against_restoring, parameter_group_family, unusable_key};

use crate::cloud::{Cluster, Snapshot};
use crate::failure::{ErrorName, Failure};
use crate::ids::{ClusterId, OperationId, SnapshotId};
use crate::operation::Replaced;
use crate::plan::{CopyPlan, Plan};
use crate::sabotage::Sabotage;
use crate::status;
use crate::wait::VISIBLE_SECONDS;
use crate::{Instant, parse_timestamp, seconds_between};

/// Why the target may not be deleted, and what a person can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A fragment that names the object.
    pub reason: String,
    /// What would lift it.
    pub remedy: String,
}

fn refuse(reason: String, remedy: impl Into<String>) -> Option<Refusal> {
    Some(Refusal { reason, remedy: remedy.into() })
}

/// What the guards look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The cluster that would be deleted.
    pub target: &'a Cluster,
    /// ARN of the source cluster.
    pub source_arn: &'a str,
    /// The name that the permission must repeat: the target's, whatever the cluster is called by now.
    pub target_id: &'a ClusterId,
    /// The request's permission to replace a cluster without our tag.
    pub replace_unmanaged: Option<&'a ClusterId>,
    /// The global cluster that the target is a member of.
    pub global_cluster: Option<&'a str>,
    /// Name of the final snapshot to be made; `None` when declined.
    pub final_snapshot_id: Option<&'a SnapshotId>,
    /// Whether a snapshot of that name exists already.
    pub final_snapshot_exists: bool,
}

/// Every reason against deleting the target.
pub fn against_deleting(facts: &Facts<'_>) -> Vec<Refusal> {
    [ownership, not_the_source, not_global, not_replicating, not_stopped, final_snapshot_free]
        .into_iter()
        .filter_map(|guard| guard(facts))
        .collect()
}

/// Every reason against giving the target's name to another cluster, and deleting it then.
pub fn against_swapping(facts: &Facts<'_>) -> Vec<Refusal> {
    let mut refusals = against_deleting(facts);
    refusals.extend(renamable(facts));
    refusals
}

fn renamable(facts: &Facts<'_>) -> Option<Refusal> {
    let Cluster { id, status, .. } = facts.target;
    match status::cluster(status) {
        status::Class::Failed => refuse(
            format!("cluster {id} is {status} and cannot be renamed"),
            "nothing is lost by replacing it with \"replacement\": \"delete_first\"",
        ),
        status::Class::Settled | status::Class::InProgress | status::Class::Deleting | status::Class::Unknown => None,
    }
}

fn ownership(facts: &Facts<'_>) -> Option<Refusal> {
    let id = &facts.target.id;
    if Sabotage::SkipTagCheck.is_on()
        || facts.target.is_managed()
        || facts.replace_unmanaged.is_some_and(|permitted| permitted == facts.target_id)
    {
        return None;
    }
    refuse(
        format!("cluster {id} is not tagged aurora-restore:managed=true, so it was not made by this tool"),
        format!(
            "name another target, or repeat its id in the request (\"replace_unmanaged\": \"{}\") to have it deleted",
            facts.target_id
        ),
    )
}

fn not_the_source(facts: &Facts<'_>) -> Option<Refusal> {
    if facts.target.arn != facts.source_arn {
        return None;
    }
    refuse(format!("cluster {} is the source of this restore", facts.target.id), "name another target")
}

fn not_global(facts: &Facts<'_>) -> Option<Refusal> {
    let global = facts.global_cluster?;
    refuse(
        format!("cluster {} is a member of the global cluster {global}", facts.target.id),
        "remove it from the global cluster first, if it really is to be replaced",
    )
}

fn not_replicating(facts: &Facts<'_>) -> Option<Refusal> {
    let Cluster { id, replication_source, read_replicas, .. } = facts.target;
    if let Some(source) = replication_source {
        return refuse(format!("cluster {id} is a replica of {source}"), "promote it or name another target");
    }
    if let Some(replica) = read_replicas.first() {
        return refuse(format!("cluster {id} is replicated by {replica}"), "promote or delete the replica first");
    }
    None
}

/// A stopped cluster can neither be modified nor given a final snapshot.
fn not_stopped(facts: &Facts<'_>) -> Option<Refusal> {
    if !matches!(facts.target.status.as_str(), "stopped" | "stopping") {
        return None;
    }
    refuse(format!("cluster {} is {}", facts.target.id, facts.target.status), "start it, or delete it by hand")
}

fn final_snapshot_free(facts: &Facts<'_>) -> Option<Refusal> {
    let name = facts.final_snapshot_id.filter(|_| facts.final_snapshot_exists)?;
    refuse(
        format!("the final snapshot of cluster {} cannot be made: a snapshot {name} exists already", facts.target.id),
        "delete or rename that snapshot, or start again with a new operation_id",
    )
}

/// The refusals as one failure that `begins` so; `None` when there are none.
pub fn as_failure(name: ErrorName, begins: &str, refusals: &[Refusal], untouched: &str) -> Option<Failure> {
    if refusals.is_empty() {
        return None;
    }
    let join = |texts: Vec<&str>| texts.join("; ");
    let reasons = join(refusals.iter().map(|refusal| refusal.reason.as_str()).collect());
    let remedies = join(refusals.iter().map(|refusal| refusal.remedy.as_str()).collect());
    Some(Failure::new(name, format!("{begins}{reasons}")).left(untouched).next(remedies))
}

/// Whether deletion protection has to be turned on again: this operation turned it off and stopped before the cluster
/// was gone. A describe that says "on" is not believed until the call is old enough to be seen in it, unless this
/// operation has turned it on since; turning on what is on changes nothing.
pub fn needs_protection_again(replaced: &Replaced, target: Option<&Cluster>, now: Instant) -> bool {
    let Some(off_at) = replaced.protection_off_at.as_deref().and_then(parse_timestamp) else { return false };
    let known_on = replaced.protected_again && !Sabotage::ProtectWithoutLock.is_on();
    target.is_some_and(|target| {
        target.resource_id == replaced.resource_id
            && replaced.settings.deletion_protection
            && (!target.deletion_protection || (!known_on && seconds_between(off_at, now) < VISIBLE_SECONDS))
            && status::cluster(&target.status) != status::Class::Deleting
    })
}

/// The snapshot that the restore will use must be there before anything is deleted: this operation's copy, or, within
/// one Region, the source's own snapshot.
///
/// # Errors
/// `ResourceFailed` with what is wrong with it.
pub fn usable_snapshot<'s>(
    plan: &Plan,
    snapshot: Option<&'s Snapshot>,
    operation_id: &OperationId,
) -> Result<&'s Snapshot, Failure> {
    let wanted = match &plan.copy {
        CopyPlan::SameRegion => plan.snapshot.id.as_str(),
        CopyPlan::Copy { copy_id, .. } => copy_id.as_str(),
    };
    let fail = |why: String| {
        Err(Failure::new(ErrorName::ResourceFailed, format!("snapshot {wanted} {why}")).next("start a new operation"))
    };
    let Some(snapshot) = snapshot else {
        return fail("is gone, so nothing could be restored from it".into());
    };
    if matches!(plan.copy, CopyPlan::Copy { .. }) && !snapshot.belongs_to(operation_id) {
        return fail(format!("does not belong to operation {operation_id} by its tag"));
    }
    match status::snapshot(&snapshot.status) {
        status::Class::Settled => Ok(snapshot),
        status::Class::InProgress if Sabotage::DeleteBeforeCopyIsThere.is_on() => Ok(snapshot),
        status::Class::InProgress | status::Class::Failed | status::Class::Deleting | status::Class::Unknown => {
            fail(format!("is {}, not available", snapshot.status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures::{self, cluster};

    static TARGET: std::sync::LazyLock<ClusterId> = std::sync::LazyLock::new(fixtures::target);

    fn facts(target: &Cluster) -> Facts<'_> {
        Facts {
            target,
            target_id: &TARGET,
            source_arn: fixtures::SOURCE_ARN,
            replace_unmanaged: None,
            global_cluster: None,
            final_snapshot_id: None,
            final_snapshot_exists: false,
        }
    }

    #[test]
    fn ours_by_tag_may_go() {
        assert_eq!(against_deleting(&facts(&cluster("staging"))), []);
    }

    #[test]
    fn all_reasons_are_reported_together() {
        let mut target = cluster("staging");
        target.tags.clear();
        target.arn = fixtures::SOURCE_ARN.into();
        target.read_replicas = vec!["replica-1".into()];
        target.status = "stopped".into();
        let name = SnapshotId::try_from("staging-final-1").unwrap();
        let facts = Facts {
            global_cluster: Some("world"),
            final_snapshot_id: Some(&name),
            final_snapshot_exists: true,
            ..facts(&target)
        };
        let refusals = against_deleting(&facts);
        assert_eq!(refusals.len(), 6, "{refusals:?}");
        let failure = as_failure(ErrorName::RefusedUnsafe, "refused: ", &refusals, "nothing was touched").unwrap();
        assert_eq!(failure.name, ErrorName::RefusedUnsafe);
        for words in ["aurora-restore:managed", "is the source", "world", "replica-1", "stopped", "staging-final-1"] {
            assert!(failure.to_string().contains(words), "{words} in {failure}");
        }
    }

    #[test]
    fn an_unmanaged_cluster_goes_only_by_its_own_name() {
        let mut target = cluster("staging");
        target.tags.clear();
        let (own, other) = (ClusterId::try_from("staging").unwrap(), ClusterId::try_from("other").unwrap());
        assert_eq!(against_deleting(&Facts { replace_unmanaged: Some(&own), ..facts(&target) }), []);
        assert_eq!(against_deleting(&Facts { replace_unmanaged: Some(&other), ..facts(&target) }).len(), 1);
    }

    #[test]
    fn what_cannot_be_renamed_is_not_swapped() {
        let wreck = Cluster { status: "incompatible-restore".into(), ..cluster("staging") };
        assert_eq!(against_deleting(&facts(&wreck)), []);
        assert!(against_swapping(&facts(&wreck))[0].remedy.contains("delete_first"));
        assert_eq!(against_swapping(&facts(&cluster("staging"))), []);
    }

    #[test]
    fn protection_goes_on_again_on_the_cluster_that_had_it_and_lives() {
        let now = time::macros::datetime!(2026-11-21 12:00 UTC);
        let mut target = Cluster { deletion_protection: false, ..cluster("staging") };
        let mut replaced = fixtures::replaced();
        assert!(needs_protection_again(&replaced, Some(&target), now));
        assert!(!needs_protection_again(&replaced, None, now));
        assert!(!needs_protection_again(&replaced, Some(&cluster("staging")), now), "it is on");
        replaced.protection_off_at = Some("2026-11-21T11:59:59.000Z".into());
        assert!(
            needs_protection_again(&replaced, Some(&cluster("staging")), now),
            "a look that may be older than the call"
        );
        replaced.protected_again = true;
        assert!(!needs_protection_again(&replaced, Some(&cluster("staging")), now), "turned on again since");
        assert!(needs_protection_again(&replaced, Some(&target), now), "somebody has turned it off since");
        replaced.protected_again = false;
        target.status = "deleting".into();
        assert!(!needs_protection_again(&replaced, Some(&target), now), "too late");
        target.status = "available".into();
        replaced.settings.deletion_protection = false;
        assert!(!needs_protection_again(&replaced, Some(&target), now), "it was off before");
        replaced.settings.deletion_protection = true;
        target.resource_id = "cluster-ANOTHER".into();
        assert!(!needs_protection_again(&replaced, Some(&target), now), "another cluster of that name");
        replaced.protection_off_at = None;
        assert!(!needs_protection_again(&replaced, Some(&cluster("staging")), now), "not turned off by us");
    }

    #[test]
    fn nothing_is_deleted_for_a_copy_that_is_not_there() {
        let plan = fixtures::plan();
        let operation_id = fixtures::operation_id();
        let mut copy = fixtures::copy();
        assert!(usable_snapshot(&plan, Some(&copy), &operation_id).is_ok());
        assert!(usable_snapshot(&plan, None, &operation_id).is_err());
        copy.status = "copying".into();
        assert!(usable_snapshot(&plan, Some(&copy), &operation_id).unwrap_err().to_string().contains("copying"));
        let mut foreign = fixtures::copy();
        foreign.tags.clear();
        assert!(usable_snapshot(&plan, Some(&foreign), &operation_id).is_err());
    }
}
