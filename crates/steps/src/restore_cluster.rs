//! Restores the cluster from the snapshot, or takes the one that this operation restored already. The cluster only:
//! check-restore makes its instances.

use crate::follow::{Answer, follow, planned, tags, with_key_advice};
use crate::ground;
use crate::restored;
use aurora_restore_core::domain::cloud::Cluster;
use aurora_restore_core::domain::decide::restore_cluster::{Decision, decide};
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::guards::{Blueprint, Refusal, as_failure, usable_snapshot};
use aurora_restore_core::domain::kms;
use aurora_restore_core::domain::naming::Kind;
use aurora_restore_core::domain::operation::{ClusterState, Operation};
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::swap::SwapState;
use aurora_restore_core::{Context, StepError};
use serde_json::{Value, json};

/// Handles one invocation.
///
/// # Errors
/// `ResourceConflict` when the name is taken, `ResourceFailed` when the snapshot is not usable, and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    let snapshot_id = operation.copy.as_ref().map(|copy| copy.snapshot_id.clone()).ok_or_else(|| {
        Failure::new(
            ErrorName::ResourceConflict,
            format!("operation {} has no snapshot to restore from", operation.operation_id),
        )
        .next("run copy-snapshot and check-copy first")
    })?;
    let (id, existing) = restored::find(context, operation, &request, &plan).await?;
    let id = &id;
    match decide(existing.as_ref(), &operation.operation_id) {
        Decision::Refuse(failure) => Err(failure.into()),
        Decision::Adopt => {
            operation.cluster.get_or_insert_with(|| state(existing.as_ref()));
            Ok(Answer::done(json!({ "cluster_id": id, "adopted": true })))
        }
        Decision::Restore => {
            restored::is_not_just_renamed(context, operation)?;
            let snapshot = context.rds.snapshot(&snapshot_id).await?;
            usable_snapshot(&plan, snapshot.as_ref(), &operation.operation_id)?;
            let (doubts, key) = ground::doubts(context, &plan).await?;
            if let Some(failure) = key {
                return Err(failure.into());
            }
            if let Some(failure) = refused(&doubts) {
                return Err(failure.into());
            }
            // What is known and masked is another cluster's data. Forgotten before the call, whose answer may be lost.
            let had_cluster = operation.cluster.take().is_some();
            let had_masked = operation.masking.take().is_some();
            operation.swap = operation.swap.take().map(SwapState::for_another);
            if had_cluster || had_masked {
                context.store.save(operation, context.clock.now()).await?;
            }
            let tags = tags(operation, &plan, Kind::Cluster);
            let detail = json!({ "snapshot_id": snapshot_id, "settings": plan.settings });
            let call = context.rds.restore_cluster(id, &snapshot_id, &plan.snapshot.engine, &plan.settings, &tags);
            let restored =
                context.mutate(operation, "rds:RestoreDBClusterFromSnapshot", id.as_str(), detail, call).await;
            restored.map_err(|error| match &Blueprint::of(&plan).kms_key_id {
                Some(key) => {
                    let key = kms::Key { id: key, region: request.target_region.as_str() };
                    with_key_advice(error, || kms::of_restore(key))
                }
                None => error,
            })?;
            operation.cluster = Some(state(None));
            Ok(Answer::done(json!({ "cluster_id": id, "adopted": false })))
        }
    }
}

/// What left is says the operation: the target may be gone already.
fn refused(doubts: &[Refusal]) -> Option<Failure> {
    let mut failure = as_failure(ErrorName::RefusedUnsafe, "refused to restore: ", doubts, "")?;
    failure.left_behind = None;
    Some(failure)
}

fn state(seen: Option<&Cluster>) -> ClusterState {
    ClusterState {
        arn: seen.map(|cluster| cluster.arn.clone()).unwrap_or_default(),
        status: seen.map_or("creating".into(), |cluster| cluster.status.clone()),
        ..ClusterState::default()
    }
}
