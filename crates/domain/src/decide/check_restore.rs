//! The next move towards a cluster that people can log in to.

use crate::cloud::{Cluster, Instance};
use crate::failure::{ErrorName, Failure};
use crate::ids::OperationId;
use crate::phase::{Phase, Waiting};
use crate::plan::{Plan, PlannedInstance};
use crate::sabotage::Sabotage;
use crate::status::{Class, cluster as cluster_class, instance as instance_class};
use crate::wait;

/// The next move.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// RDS is at it.
    Wait(Waiting),
    /// `CreateDBInstance` for each: the cluster has no reachable endpoint without one.
    CreateInstances(Vec<PlannedInstance>),
    /// Set the master password to the secret's value, or let RDS make one: the restored cluster has production's.
    ResetMasterPassword,
    /// Turn deletion protection on: an execution that was stopped may have had the last word on it.
    Protect,
    /// Everything RDS can tell says ready; only a login proves it.
    TryLogin,
    /// It will never be.
    Fail(Failure),
}

/// Whether the cluster itself is done, so that [`decide`] goes by its instances, which otherwise need not be looked at.
pub fn has_settled(cluster: &Cluster) -> bool {
    cluster_class(&cluster.status) == Class::Settled
}

/// The master password as this operation knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Password {
    /// RDS makes it, instead of ours being set.
    pub is_managed: bool,
    /// It was set, or RDS was asked.
    pub is_reset: bool,
}

/// Decides by the cluster and its instances as they stand.
pub fn decide(
    plan: &Plan,
    cluster: Option<&Cluster>,
    instances: &[Instance],
    operation_id: &OperationId,
    password: Password,
    elapsed_seconds: u64,
) -> Decision {
    let fail = |what: String| {
        Decision::Fail(
            Failure::new(ErrorName::ResourceFailed, what)
                .next("look at the RDS events of the cluster, mend the cause, then start a new operation: it replaces what is there"),
        )
    };
    let Some(cluster) = cluster else {
        if elapsed_seconds < wait::VISIBLE_SECONDS {
            let progress = "the restored cluster is not visible yet".to_owned();
            return Decision::Wait(Waiting::of(Phase::Change, progress));
        }
        return fail("the restored cluster is gone: someone deleted it".into());
    };
    let id = &cluster.id;
    if !cluster.belongs_to(operation_id) {
        return fail(format!(
            "cluster {id} is not tagged as restored by operation {operation_id}: someone replaced it"
        ));
    }
    // Once the password is being reset, whatever the cluster is at belongs to that.
    let phase = if password.is_reset { Phase::MasterPassword } else { Phase::Restore };
    let wait = |phase, progress: String| Decision::Wait(Waiting::of(phase, progress).for_cluster(id));
    match cluster_class(&cluster.status) {
        Class::Failed => return fail(format!("cluster {id} is {}", cluster.status)),
        Class::Deleting => return fail(format!("cluster {id} is being deleted by someone else")),
        Class::InProgress | Class::Unknown => return wait(phase, format!("cluster {id} is {}", cluster.status)),
        Class::Settled if cluster.status == "stopped" => return fail(format!("cluster {id} was stopped")),
        Class::Settled => {}
    }

    // By the names that they have here, or by those that they had before a swap that stopped half-way.
    let wanted = plan.instances_in(id);
    let found = |named: &PlannedInstance| {
        let exact = instances.iter().find(|instance| instance.id == named.id.as_str());
        exact.or_else(|| {
            let planned = plan.instances.iter().find(|planned| planned.is_called(named.id.as_str()))?;
            instances.iter().find(|instance| planned.is_called(&instance.id))
        })
    };
    let missing: Vec<_> = wanted.iter().filter(|named| found(named).is_none()).cloned().collect();
    if !missing.is_empty() {
        return Decision::CreateInstances(missing);
    }
    for instance in wanted.iter().filter_map(found) {
        let name = &instance.id;
        if instance.cluster_id.as_deref() != Some(id) || !instance.belongs_to(operation_id) {
            return Decision::Fail(
                Failure::new(
                    ErrorName::ResourceConflict,
                    format!("an instance {name} exists and was not made by operation {operation_id} for cluster {id}"),
                )
                .next("find out whose it is; delete or rename it, then start again under the same operation_id"),
            );
        }
        match instance_class(&instance.status) {
            Class::Failed => return fail(format!("instance {name} is {}", instance.status)),
            Class::Deleting => return fail(format!("instance {name} is being deleted by someone else")),
            Class::InProgress | Class::Unknown => {
                let progress = format!("instance {name} is {}", instance.status);
                let names = wanted.iter().map(|planned| planned.id.as_str());
                return Decision::Wait(Waiting::of(Phase::Instances, progress).for_instances(names));
            }
            Class::Settled if instance.status == "stopped" => return fail(format!("instance {name} was stopped")),
            Class::Settled => {}
        }
    }
    let secret = cluster.master_user_secret.as_ref().filter(|_| password.is_managed);
    // Asked twice, RDS would say that it manages it already.
    if !password.is_reset && secret.is_none() && !Sabotage::SkipPasswordReset.is_on() {
        return Decision::ResetMasterPassword;
    }
    if password.is_managed {
        let status = secret.map_or("not visible yet", |secret| secret.status.as_str());
        match status {
            "active" => {}
            "impaired" => return fail(format!("RDS's secret for the master user of cluster {id} is impaired")),
            _ => {
                let progress = format!("RDS's secret for the master user of cluster {id} is {status}");
                return wait(Phase::MasterPassword, progress);
            }
        }
    }
    if cluster.has_pending_master_password {
        let progress = format!("the master password of cluster {id} is pending");
        return wait(Phase::MasterPassword, progress);
    }
    if plan.settings.deletion_protection && !cluster.deletion_protection {
        return Decision::Protect;
    }
    Decision::TryLogin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::MasterUserSecret;
    use crate::decide::fixtures;

    fn next(cluster: Option<&Cluster>, instances: &[Instance], is_reset: bool) -> Decision {
        let password = Password { is_managed: false, is_reset };
        decide(&fixtures::plan(), cluster, instances, &fixtures::operation_id(), password, 0)
    }

    #[test]
    fn protection_is_as_planned() {
        let instances = [fixtures::instance("staging-1"), fixtures::instance("staging-2")];
        let open = Cluster { deletion_protection: false, ..fixtures::restored() };
        let mut plan = fixtures::plan();
        let next = |plan: &Plan| {
            let password = Password { is_managed: false, is_reset: true };
            decide(plan, Some(&open), &instances, &fixtures::operation_id(), password, 0)
        };
        plan.settings.deletion_protection = true;
        assert_eq!(next(&plan), Decision::Protect);
        plan.settings.deletion_protection = false;
        assert_eq!(next(&plan), Decision::TryLogin);
    }

    #[test]
    fn a_password_that_rds_makes() {
        let instances = [fixtures::instance("staging-1"), fixtures::instance("staging-2")];
        let next = |status: Option<&str>, is_reset| {
            let secret = |status: &str| MasterUserSecret { arn: "arn".into(), status: status.into() };
            let cluster = Cluster { master_user_secret: status.map(secret), ..fixtures::restored() };
            let password = Password { is_managed: true, is_reset };
            decide(&fixtures::plan(), Some(&cluster), &instances, &fixtures::operation_id(), password, 0)
        };
        assert_eq!(next(None, false), Decision::ResetMasterPassword);
        for status in [None, Some("creating"), Some("rotating"), Some("something new")] {
            assert!(matches!(next(status, true), Decision::Wait(_)), "{status:?}");
        }
        assert!(matches!(next(Some("creating"), false), Decision::Wait(_)), "asked by an earlier try");
        assert_eq!(next(Some("active"), true), Decision::TryLogin);
        assert!(matches!(next(Some("impaired"), true), Decision::Fail(failure) if failure.what.contains("impaired")));
    }

    #[test]
    fn cluster_instances_password_login_in_this_order() {
        let mut cluster = fixtures::restored();
        cluster.status = "creating".into();
        assert!(matches!(next(Some(&cluster), &[], false), Decision::Wait(_)));
        cluster.status = "available".into();
        assert!(matches!(next(Some(&cluster), &[], false), Decision::CreateInstances(list) if list.len() == 2));
        let mut instances = vec![fixtures::instance("staging-1")];
        assert!(
            matches!(next(Some(&cluster), &instances, false), Decision::CreateInstances(list) if list[0].id.as_str() == "staging-2")
        );
        instances.push(Instance { status: "creating".into(), ..fixtures::instance("staging-2") });
        assert!(
            matches!(next(Some(&cluster), &instances, false), Decision::Wait(waiting) if waiting.progress.contains("staging-2"))
        );
        instances[1].status = "available".into();
        assert_eq!(next(Some(&cluster), &instances, false), Decision::ResetMasterPassword);
        cluster.has_pending_master_password = true;
        assert!(matches!(next(Some(&cluster), &instances, true), Decision::Wait(_)));
        cluster.has_pending_master_password = false;
        assert_eq!(next(Some(&cluster), &instances, true), Decision::TryLogin);
    }

    #[test]
    fn instances_are_known_by_both_their_names() {
        let plan = fixtures::plan_of_swap();
        let scratch = plan.swap.as_ref().unwrap().scratch_id.to_string();
        let beside = Cluster { id: scratch.clone(), ..fixtures::restored() };
        let password = Password { is_managed: false, is_reset: true };
        let next =
            |instances: &[Instance]| decide(&plan, Some(&beside), instances, &fixtures::operation_id(), password, 0);
        let named = |id: String| Instance { cluster_id: Some(scratch.clone()), ..fixtures::instance(&id) };
        let decision = next(&[named(format!("{scratch}-2"))]);
        let Decision::CreateInstances(missing) = decision else { panic!("{decision:?}") };
        assert_eq!(missing.iter().map(|i| i.id.to_string()).collect::<Vec<_>>(), [format!("{scratch}-1")]);
        // A swap that stopped after it had renamed one of them.
        assert_eq!(next(&[named("staging-1".into()), named(format!("{scratch}-2"))]), Decision::TryLogin);
        // The former cluster's is not taken for ours.
        let formers = Instance { cluster_id: Some("staging".into()), ..fixtures::instance("staging-1") };
        assert!(matches!(next(&[formers, named(format!("{scratch}-2"))]), Decision::Fail(_)));
    }

    #[test]
    fn failed_states_end_at_once_and_are_named() {
        for status in ["incompatible-restore", "inaccessible-encryption-credentials", "failed", "deleting", "stopped"] {
            let cluster = Cluster { status: status.into(), ..fixtures::restored() };
            assert!(matches!(next(Some(&cluster), &[], false), Decision::Fail(_)), "{status}");
        }
        let failed = Instance { status: "incompatible-network".into(), ..fixtures::instance("staging-1") };
        let instances = [failed, fixtures::instance("staging-2")];
        assert!(
            matches!(next(Some(&fixtures::restored()), &instances, false), Decision::Fail(failure) if failure.what.contains("incompatible-network"))
        );
        assert!(matches!(next(None, &[], false), Decision::Wait(_)), "just made, not visible yet");
        let password = Password { is_managed: false, is_reset: false };
        let late = decide(&fixtures::plan(), None, &[], &fixtures::operation_id(), password, wait::VISIBLE_SECONDS);
        assert!(matches!(late, Decision::Fail(_)));
        assert!(matches!(next(Some(&fixtures::cluster("staging")), &[], false), Decision::Fail(_)));
    }
}
