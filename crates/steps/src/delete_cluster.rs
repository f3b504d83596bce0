//! Removes the cluster that is replaced: remembers its settings, turns protection off, deletes readers, the writer,
//! then the cluster with a final snapshot. The state machine repeats it until the cluster is gone.

use crate::follow::{Answer, follow, planned};
use crate::ground;
use aurora_restore_core::domain::cloud::{Cluster, Instance};
use aurora_restore_core::domain::decide::delete_cluster::{Decision, Facts, decide};
use aurora_restore_core::domain::guards::{self, Refusal, against_deleting, usable_snapshot};
use aurora_restore_core::domain::operation::{Operation, Replaced};
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::phase::{Phase, Waiting};
use aurora_restore_core::domain::plan::{Plan, instances_of, settings_of};
use aurora_restore_core::domain::request::Request;
use aurora_restore_core::domain::status::{Class, cluster as cluster_class};
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::timestamp;
use aurora_restore_core::{Context, StepError};
use serde_json::{Value, json};

/// Moves in one invocation: protection, readers, writer, cluster, and a last look.
const MOVES_AT_MOST: usize = 5;

/// Handles one invocation.
///
/// # Errors
/// `RefusedUnsafe` by a guard, `ResourceFailed` when the snapshot to restore from is not usable, `DeadlineExceeded`,
/// and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    let mut last = None;
    for _ in 0..MOVES_AT_MOST {
        // Each move rests on an observation of its own: the one before has changed the world.
        let (target, instances) = observe(context, &request).await?;
        let decision = next_move(context, operation, &request, &plan, target.as_ref(), &instances).await?;
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
                act(context, operation, &request, &plan, &decision).await?;
            }
        }
        last = Some(decision);
    }
    let id = request.target_cluster_id.as_str();
    Ok(Answer::waiting_for(Waiting::of(Phase::Deletion, format!("cluster {id} is being deleted")).for_cluster(id)))
}

async fn observe(context: &Context, request: &Request) -> Result<(Option<Cluster>, Vec<Instance>), StepError> {
    let target = context.rds.cluster(&request.target_cluster_id).await?;
    let instances = match &target {
        Some(target) if !is_going(target) => context.rds.instances_of(&request.target_cluster_id).await?,
        Some(_) | None => vec![],
    };
    Ok((target, instances))
}

/// Whether RDS deletes it: nothing is left to decide or to guard.
fn is_going(target: &Cluster) -> bool {
    cluster_class(&target.status) == Class::Deleting
}

/// Looks at everything that the guards ask for, every time: the world moves between two moves.
async fn next_move(
    context: &Context,
    operation: &Operation,
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
        let wanted = operation.copy.as_ref().map_or(plan.snapshot.id.as_str(), |copy| copy.snapshot_id.as_str());
        let snapshot = context.rds.snapshot(wanted).await?;
        unusable = usable_snapshot(plan, snapshot.as_ref(), &operation.operation_id).err();
        // A cluster that could not be put back is not taken away.
        if replaced.is_none() {
            let (doubts, key) = ground::doubts(context, plan).await?;
            refusals.extend(doubts);
            unusable = unusable.or(key);
        }
    }
    let facts = Facts {
        operation_id: &operation.operation_id,
        refusals: &refusals,
        unusable: unusable.as_ref(),
        begun: replaced.is_some(),
        deletion_called,
        final_snapshot_exists,
    };
    Ok(decide(target, instances, &facts))
}

async fn guard(
    context: &Context,
    request: &Request,
    plan: &Plan,
    target: &Cluster,
    final_snapshot_exists: bool,
    begun: bool,
) -> Result<Vec<Refusal>, StepError> {
    let global_cluster = context.rds.global_cluster_of(&target.arn).await?;
    let mut refusals = against_deleting(&guards::Facts {
        target,
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
        && let Some((used, limit)) = context.rds.manual_snapshot_quota().await?
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
        deletion_called_at: None,
        protected_again: false,
    });
    context.store.save(operation, context.clock.now()).await
}

async fn act(
    context: &Context,
    operation: &mut Operation,
    request: &Request,
    plan: &Plan,
    decision: &Decision,
) -> Result<(), StepError> {
    let id = &request.target_cluster_id;
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
            for instance in instances {
                let call = context.rds.delete_instance(instance);
                context.mutate(operation, "rds:DeleteDBInstance", instance, json!({ "cluster": id }), call).await?;
            }
            Ok(())
        }
        Decision::DeleteCluster => {
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

fn gone(operation: &mut Operation) -> Result<Answer, StepError> {
    match &mut operation.replaced {
        Some(replaced) => {
            replaced.gone = true;
            Ok(Answer::done(json!({ "final_snapshot_id": replaced.final_snapshot_id })))
        }
        None => Ok(Answer::skipped("there is no cluster of this name")),
    }
}
