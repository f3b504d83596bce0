//! The next move towards a target that is gone. The machine repeats the step until it is.

use crate::cloud::{Cluster, Instance};
use crate::failure::{ErrorName, Failure};
use crate::guards::{self, Refusal};
use crate::ids::OperationId;
use crate::phase::{Phase, Waiting};
use crate::sabotage::Sabotage;
use crate::status::{Class, cluster as cluster_class, instance as instance_class};

/// The next move. Each is made right after the observation that it rests on.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// There was never a cluster of this name, or it is gone.
    Gone,
    /// The cluster of this name is the one that this operation restored.
    AlreadyRestored,
    /// Remember its settings, then allow its deletion.
    TurnOffProtection,
    /// Delete these instances: readers, or when only it is left, the writer.
    DeleteInstances(Vec<String>),
    /// Delete the cluster.
    DeleteCluster,
    /// RDS is at it.
    Wait(Waiting),
    /// A guard refuses.
    Refuse(Failure),
}

/// What the step knows besides the cluster.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The operation that asks.
    pub operation_id: &'a OperationId,
    /// What the cluster is to the operation: `the target`, or after a swap `the former cluster`.
    pub what: &'a str,
    /// What the guards say, see [`guards::against_deleting`].
    pub refusals: &'a [Refusal],
    /// What is wrong with the snapshot or the key that the restore will use, see [`guards::usable_snapshot`] and
    /// [`guards::unusable_key`].
    pub unusable: Option<&'a Failure>,
    /// Whether this operation has recorded the cluster as the one it replaces, so that a refusal can say what was
    /// touched.
    pub begun: bool,
    /// Whether this operation has called `DeleteDBCluster`.
    pub deletion_called: bool,
    /// Whether the final snapshot exists; after `deletion_called` it is that call's.
    pub final_snapshot_exists: bool,
}

/// Decides by the cluster and its instances as they stand.
pub fn decide(target: Option<&Cluster>, instances: &[Instance], facts: &Facts<'_>) -> Decision {
    let Some(target) = target else { return Decision::Gone };
    if target.belongs_to(facts.operation_id) {
        return Decision::AlreadyRestored;
    }
    let id = &target.id;
    let deletion = |progress: String| Decision::Wait(Waiting::of(Phase::Deletion, progress).for_cluster(id));
    let settling = |progress: String| Decision::Wait(Waiting::of(Phase::Settling, progress));
    if facts.deletion_called && facts.final_snapshot_exists {
        return deletion(format!("cluster {id} is {}, its final snapshot is being made", target.status));
    }
    // Once RDS deletes it, a guard could only refuse what cannot be undone, for instance because the final snapshot
    // now exists.
    if cluster_class(&target.status) == Class::Deleting {
        return deletion(format!("cluster {id} is deleting"));
    }
    let left = if facts.begun {
        format!(
            "cluster {id} still exists; its instances or its deletion protection may have been removed by this operation"
        )
    } else {
        format!("cluster {id} was not touched")
    };
    let begins = format!("refused to delete {}: ", facts.what);
    if let Some(failure) = guards::as_failure(ErrorName::RefusedUnsafe, &begins, facts.refusals, &left) {
        return Decision::Refuse(failure);
    }
    if let Some(failure) = facts.unusable {
        return Decision::Refuse(failure.clone().left(left));
    }
    match cluster_class(&target.status) {
        Class::InProgress | Class::Unknown => return settling(format!("cluster {id} is {}", target.status)),
        // A cluster that RDS gave up on can still be deleted.
        Class::Settled | Class::Failed | Class::Deleting => {}
    }
    let busy = |known: &&Instance| matches!(instance_class(&known.status), Class::InProgress | Class::Unknown);
    if let Some(instance) = instances.iter().find(busy) {
        return settling(format!("instance {} is {}", instance.id, instance.status));
    }
    if target.deletion_protection {
        return Decision::TurnOffProtection;
    }

    let is_deleting = |instance: &&str| {
        instances.iter().any(|known| known.id == **instance && instance_class(&known.status) == Class::Deleting)
    };
    let (writers, readers): (Vec<_>, Vec<_>) = target.members.iter().partition(|member| member.is_writer);
    for members in [readers, writers] {
        let ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
        let left: Vec<String> = ids.iter().filter(|id| !is_deleting(id)).map(|id| id.to_string()).collect();
        if !left.is_empty() && !Sabotage::IgnoreMembers.is_on() {
            return Decision::DeleteInstances(left);
        }
    }
    Decision::DeleteCluster
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures::{self, cluster, instance};

    fn with(target: &Cluster, refusals: &[Refusal], unusable: Option<&Failure>) -> Decision {
        let operation_id = &fixtures::operation_id();
        decide(
            Some(target),
            &[],
            &Facts {
                operation_id,
                what: "the target",
                refusals,
                unusable,
                begun: false,
                deletion_called: false,
                final_snapshot_exists: false,
            },
        )
    }

    fn next(target: Option<&Cluster>, instances: &[Instance]) -> Decision {
        let operation_id = &fixtures::operation_id();
        let facts = Facts {
            operation_id,
            what: "the target",
            refusals: &[],
            unusable: None,
            begun: false,
            deletion_called: false,
            final_snapshot_exists: false,
        };
        decide(target, instances, &facts)
    }

    #[test]
    fn protection_readers_writer_cluster_in_this_order() {
        let mut target = cluster("staging");
        let mut instances = vec![instance("staging-1"), instance("staging-2")];
        assert_eq!(next(Some(&target), &instances), Decision::TurnOffProtection);
        target.deletion_protection = false;
        assert_eq!(next(Some(&target), &instances), Decision::DeleteInstances(vec!["staging-2".into()]));
        instances[1].status = "deleting".into();
        assert_eq!(next(Some(&target), &instances), Decision::DeleteInstances(vec!["staging-1".into()]));
        instances[0].status = "deleting".into();
        assert_eq!(next(Some(&target), &instances), Decision::DeleteCluster);
        target.status = "deleting".into();
        assert!(matches!(next(Some(&target), &[]), Decision::Wait(_)));
        assert_eq!(next(None, &[]), Decision::Gone);
    }

    #[test]
    fn a_cluster_at_work_is_waited_for() {
        for status in ["modifying", "backing-up", "never-heard-of"] {
            let target = Cluster { status: status.into(), ..cluster("staging") };
            assert!(matches!(next(Some(&target), &[]), Decision::Wait(waiting) if waiting.progress.contains(status)));
        }
    }

    #[test]
    fn what_this_operation_restored_is_not_deleted_again() {
        assert_eq!(next(Some(&fixtures::restored()), &[]), Decision::AlreadyRestored);
    }

    #[test]
    fn a_refusal_comes_before_any_move_but_not_against_a_deletion_under_way() {
        let refusals = [Refusal { reason: "no".into(), remedy: "never".into() }];
        let mut target = cluster("staging");
        assert!(
            matches!(with(&target, &refusals, None), Decision::Refuse(failure) if failure.to_string().contains("was not touched"))
        );
        target.status = "deleting".into();
        assert!(matches!(with(&target, &refusals, None), Decision::Wait(_)));
    }

    #[test]
    fn nothing_is_deleted_without_a_snapshot_to_restore() {
        let gone = Failure::new(crate::failure::ErrorName::ResourceFailed, "snapshot copy is gone");
        assert!(
            matches!(with(&cluster("staging"), &[], Some(&gone)), Decision::Refuse(failure) if failure.what == gone.what)
        );
    }

    #[test]
    fn a_busy_instance_is_waited_for_before_anything_is_taken_away() {
        let busy = Instance { status: "modifying".into(), ..instance("staging-2") };
        let decision = next(Some(&cluster("staging")), &[instance("staging-1"), busy]);
        assert!(matches!(decision, Decision::Wait(waiting) if waiting.progress.contains("staging-2")));
    }

    #[test]
    fn our_own_deletion_is_not_refused_because_its_final_snapshot_exists() {
        let refusals = [Refusal { reason: "a snapshot of that name exists".into(), remedy: "none".into() }];
        let facts = Facts {
            operation_id: &fixtures::operation_id(),
            what: "the target",
            refusals: &refusals,
            unusable: None,
            begun: true,
            deletion_called: true,
            final_snapshot_exists: true,
        };
        let target = Cluster { status: "backing-up".into(), ..cluster("staging") };
        assert!(matches!(decide(Some(&target), &[], &facts), Decision::Wait(_)));
    }
}
