//! One cluster's way out, by safe moves: settings remembered, protection off, readers, the writer, then the cluster with a
//! final snapshot. delete-cluster goes it before a restore, retire-cluster after a swap.

use crate::follow::{Answer, planned};
use crate::ground;
use aurora_restore_core::domain::cloud::{Cluster, Instance};
use aurora_restore_core::domain::decide::delete_cluster::{Decision, Facts, decide};
use aurora_restore_core::domain::decide::retire_cluster::against_retiring;
use aurora_restore_core::domain::guards::{self, Refusal, against_deleting, against_swapping, usable_snapshot};
use aurora_restore_core::domain::ids::ClusterId;
use aurora_restore_core::domain::operation::{Operation, Replaced};
use aurora_restore_core::domain::phase::{Phase, Waiting};
use aurora_restore_core::domain::plan::{Plan, instances_of, settings_of};
use aurora_restore_core::domain::request::Request;
use aurora_restore_core::domain::status::{Class, cluster as cluster_class};
use aurora_restore_core::domain::timestamp;
use aurora_restore_core::{Context, StepError};
use serde_json::json;

/// Moves in one invocation: protection, readers, writer, cluster, and a last look.
const MOVES_AT_MOST: usize = 5;

/// The cluster that goes.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    /// Its name by now.
    pub(crate) id: ClusterId,
    /// What it is to the operation.
    pub(crate) what: Whose,
}

/// What a cluster is to the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It has the name that the restore needs.
    Target,
    /// It gave its name away in a swap.
    Former,
}

impl Whose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Target => "the target",
            Self::Former => "the former cluster",
        }
    }
}

/// Makes the next moves, as many as an invocation may.
///
/// # Errors
/// `RefusedUnsafe` by a guard, `ResourceFailed` when the snapshot to restore from is not usable, and what AWS says.
pub(crate) async fn work(context: &Context, operation: &mut Operation, removal: &Removal) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    let mut last = None;
    for _ in 0..MOVES_AT_MOST {
        // Each move rests on an observation of its own: the one before has changed the world.
        let (target, instances) = observe(context, &removal.id).await?;
        let decision = next_move(context, operation, removal, &request, &plan, target.as_ref(), &instances).await?;
        if last.as_ref() == Some(&decision) {
            // RDS has not shown the effect of the last call yet.
            let progress = format!("waiting for RDS to show {decision:?}");
            return Ok(Answer::waiting_for(Waiting::of(Phase::Change, progress)));
        }
        match &decision {
            Decision::Gone => return gone(operation),
            Decision::AlreadyRestored => return Ok(Answer::skipped("the cluster of this name is the restored one")),
            Decision::Wait(waiting) => return Ok(Answer::waiting_for(waiting.clone())),
            Decision::Refuse(failure) => return Err(failure.clone().into()),
            Decision::TurnOffProtection | Decision::DeleteInstances(_) | Decision::DeleteCluster => {
                if let Some(target) = &target {
                    remember(context, operation, &plan, target, &instances).await?;
                }
                act(context, operation, &removal.id, &plan, &decision).await?;
            }
        }
        last = Some(decision);
    }
    let id = removal.id.as_str();
    Ok(Answer::waiting_for(Waiting::of(Phase::Deletion, format!("cluster {id} is being deleted")).for_cluster(id)))
}

/// The cluster and its instances.
pub(crate) async fn observe(context: &Context, id: &ClusterId) -> Result<(Option<Cluster>, Vec<Instance>), StepError> {
    let target = context.rds.cluster(id).await?;
    let instances = match &target {
        Some(target) if !is_going(target) => context.rds.instances_of(id).await?,
        Some(_) | None => vec![],
    };
    Ok((target, instances))
}

/// Whether RDS deletes it: nothing is left to decide or to guard.
fn is_going(target: &Cluster) -> bool {
    cluster_class(&target.status) == Class::Deleting
}

/// Looks at everything that the guards ask for, every time: the world moves between two moves.
pub(crate) async fn next_move(
    context: &Context,
    operation: &Operation,
    removal: &Removal,
    request: &Request,
    plan: &Plan,
    target: Option<&Cluster>,
    instances: &[Instance],
) -> Result<Decision, StepError> {
    let mut refusals = Vec::new();
    let (mut unusable, mut final_snapshot_exists) = (None, false);
    let replaced = operation.replaced.as_ref();
    // Of this very cluster: another one of its name may have been made since.
    let deletion_called = replaced.zip(target).is_some_and(|(replaced, target)| {
        replaced.deletion_called_at.is_some() && replaced.resource_id == target.resource_id
    });
    let guarded = |target: &&Cluster| !target.belongs_to(&operation.operation_id) && !is_going(target);
    if let Some(target) = target.filter(guarded) {
        final_snapshot_exists = match &plan.final_snapshot_id {
            Some(id) => context.rds.snapshot(id.as_str()).await?.is_some(),
            None => false,
        };
        refusals = guard(context, request, plan, target, final_snapshot_exists, replaced.is_some()).await?;
        if removal.what == Whose::Former {
            let serving = context.rds.cluster(&request.target_cluster_id).await?;
            let (id, swap) = (&request.target_cluster_id, operation.swap.as_ref());
            refusals.extend(against_retiring(id, serving.as_ref(), swap, &operation.operation_id));
        }
        let wanted = operation.copy.as_ref().map_or(plan.snapshot.id.as_str(), |copy| copy.snapshot_id.as_str());
        let snapshot = context.rds.snapshot(wanted).await?;
        unusable = usable_snapshot(plan, snapshot.as_ref(), &operation.operation_id).err();
        // A cluster that could not be put back is not taken away; after a swap it has been.
        if replaced.is_none() && removal.what == Whose::Target {
            let (doubts, key) = ground::doubts(context, plan).await?;
            refusals.extend(doubts);
            unusable = unusable.or(key);
        }
    }
    let facts = Facts {
        operation_id: &operation.operation_id,
        what: removal.what.as_str(),
        refusals: &refusals,
        unusable: unusable.as_ref(),
        begun: replaced.is_some(),
        deletion_called,
        final_snapshot_exists,
    };
    Ok(decide(target, instances, &facts))
}

/// Every guard of the cluster that is replaced, whatever it is called by now.
pub(crate) async fn guard(
    context: &Context,
    request: &Request,
    plan: &Plan,
    target: &Cluster,
    final_snapshot_exists: bool,
    begun: bool,
) -> Result<Vec<Refusal>, StepError> {
    let global_cluster = context.rds.global_cluster_of(&target.arn).await?;
    // While it has the target's name, a swap will have to take it away.
    let is_to_be_renamed = plan.swap.is_some() && target.id == request.target_cluster_id.as_str();
    let against = if is_to_be_renamed { against_swapping } else { against_deleting };
    let mut refusals = against(&guards::Facts {
        target,
        target_id: &request.target_cluster_id,
        source_arn: &plan.source_cluster_arn,
        replace_unmanaged: request.replace_unmanaged.as_ref(),
        global_cluster: global_cluster.as_deref(),
        final_snapshot_id: plan.final_snapshot_id.as_ref(),
        final_snapshot_exists,
    });
    if plan.replaces.as_ref().map(|replaces| &replaces.resource_id) != Some(&target.resource_id) {
        refusals.push(Refusal {
            reason: format!(
                "cluster {} ({}) is not the one that was there when the restore was planned",
                target.id, target.resource_id
            ),
            remedy: "start a new operation, which looks at it first".into(),
        });
    }
    // Found out before its instances are gone, not by the call that should make the snapshot.
    if !begun
        && plan.final_snapshot_id.is_some()
        && !final_snapshot_exists
        && let Some((used, limit)) = context.rds.quotas().await?.manual_snapshots
        && used >= limit
    {
        refusals.push(Refusal {
            reason: format!(
                "no final snapshot of cluster {} can be made: {used} of {limit} manual cluster snapshots exist",
                target.id
            ),
            remedy: "delete old snapshots or have the limit raised".into(),
        });
    }
    Ok(refusals)
}

/// Writes down what a restore by hand would need, before the first call that takes something away.
async fn remember(
    context: &Context,
    operation: &mut Operation,
    plan: &Plan,
    target: &Cluster,
    instances: &[Instance],
) -> Result<(), StepError> {
    if operation.replaced.is_some() {
        return Ok(());
    }
    operation.replaced = Some(Replaced {
        arn: target.arn.clone(),
        engine: target.engine.clone(),
        engine_version: target.engine_version.clone(),
        settings: settings_of(target),
        instances: instances_of(target, instances),
        tags: target.tags.clone(),
        final_snapshot_id: plan.final_snapshot_id.as_ref().map(ToString::to_string),
        gone: false,
        resource_id: target.resource_id.clone(),
        protection_off_at: None,
        down_since: None,
        deletion_called_at: None,
        protected_again: false,
    });
    context.store.save(operation, context.clock.now()).await
}

async fn act(
    context: &Context,
    operation: &mut Operation,
    id: &ClusterId,
    plan: &Plan,
    decision: &Decision,
) -> Result<(), StepError> {
    match decision {
        Decision::TurnOffProtection => {
            if let Some(replaced) = &mut operation.replaced {
                replaced.protection_off_at = Some(timestamp(context.clock.now()));
                replaced.protected_again = false;
                context.store.save(operation, context.clock.now()).await?;
            }
            let detail = json!({ "deletion_protection": false });
            let call = context.rds.set_deletion_protection(id, false);
            context.mutate(operation, "rds:ModifyDBCluster", id.as_str(), detail, call).await
        }
        Decision::DeleteInstances(instances) => {
            is_down(context, operation);
            for instance in instances {
                let call = context.rds.delete_instance(instance);
                context.mutate(operation, "rds:DeleteDBInstance", instance, json!({ "cluster": id }), call).await?;
            }
            Ok(())
        }
        Decision::DeleteCluster => {
            is_down(context, operation);
            if let Some(replaced) = &mut operation.replaced {
                replaced.deletion_called_at = Some(timestamp(context.clock.now()));
                context.store.save(operation, context.clock.now()).await?;
            }
            let detail = json!({ "final_snapshot_id": plan.final_snapshot_id });
            let call = context.rds.delete_cluster(id, plan.final_snapshot_id.as_ref());
            context.mutate(operation, "rds:DeleteDBCluster", id.as_str(), detail, call).await
        }
        Decision::Gone | Decision::AlreadyRestored | Decision::Wait(_) | Decision::Refuse(_) => Ok(()),
    }
}

/// Notes that nobody can work any more. It is saved with what comes next: a write of its own would be one more that can fail
/// between guards and call, and the next invocation notes it seconds later.
fn is_down(context: &Context, operation: &mut Operation) {
    if let Some(replaced) = &mut operation.replaced {
        replaced.down_since.get_or_insert_with(|| timestamp(context.clock.now()));
    }
}

fn gone(operation: &mut Operation) -> Result<Answer, StepError> {
    match &mut operation.replaced {
        Some(replaced) => {
            replaced.gone = true;
            Ok(Answer::done(json!({ "final_snapshot_id": replaced.final_snapshot_id })))
        }
        None => Ok(Answer::skipped("there is no cluster of this name")),
    }
}
