//! Starts the copy of the snapshot into the target Region, or takes the one that this operation started already.

use crate::follow::{Answer, follow, planned, tags, with_key_advice};
use aurora_restore_core::domain::decide::copy_snapshot::{Decision, decide};
use aurora_restore_core::domain::failure::ErrorName;
use aurora_restore_core::domain::kms;
use aurora_restore_core::domain::naming::{Kind, TAG_TARGET};
use aurora_restore_core::domain::operation::{CopyState, Operation};
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::plan::CopyPlan;
use aurora_restore_core::domain::request::SnapshotSelector;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::wait;
use aurora_restore_core::{Context, StepError};
use serde_json::{Value, json};

/// Handles one invocation.
///
/// # Errors
/// `ResourceConflict` when the copy's name is taken, and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    let existing = match &plan.copy {
        CopyPlan::SameRegion => None,
        CopyPlan::Copy { copy_id, .. } => context.rds.snapshot(copy_id.as_str()).await?,
    };
    match decide(&plan, existing.as_ref(), &operation.operation_id) {
        Decision::Refuse(failure) => Err(failure.into()),
        Decision::Skip => {
            // A snapshot of another account is known here by its ARN only.
            let snapshot_id = match &request.snapshot {
                SnapshotSelector::Arn(arn) => arn.clone(),
                SnapshotSelector::Latest { .. } | SnapshotSelector::Id(_) => plan.snapshot.id.clone(),
            };
            operation.copy = Some(CopyState {
                snapshot_id,
                arn: plan.snapshot.arn.clone(),
                status: "available".into(),
                made_by_us: false,
                percent_progress: None,
            });
            Ok(Answer::skipped("source and target Region are the same"))
        }
        Decision::Adopt => {
            let copy = existing.as_ref().map(|copy| (copy.id.as_str(), copy.arn.as_str(), copy.status.as_str()));
            let (id, arn, status) = copy.unwrap_or_default();
            operation.copy = Some(made(id, arn, status));
            Ok(Answer::done(json!({ "copy_id": id, "adopted": true })))
        }
        Decision::Start { copy_id, kms_key_id } => {
            let mut tags = tags(operation, &plan, Kind::Copy);
            tags.insert(TAG_TARGET.to_owned(), request.target_cluster_id.to_string());
            let source = plan.snapshot.arn.as_str();
            let detail = json!({ "source": source, "kms_key_id": kms_key_id });
            let call = context.rds.copy_snapshot(source, copy_id, kms_key_id, &tags);
            let copied = context.mutate(operation, "rds:CopyDBClusterSnapshot", copy_id.as_str(), detail, call).await;
            if let Err(error) = &copied
                && error.name() == ErrorName::QuotaExceeded
                && !is_full(context.rds.quotas().await?.manual_snapshots)
            {
                return Ok(no_slot(context, operation));
            }
            copied.map_err(|error| {
                let read = plan
                    .snapshot
                    .kms_key_id
                    .as_deref()
                    .map(|id| kms::Key { id, region: request.source_region.as_str() });
                let write = kms_key_id.map(|id| kms::Key { id, region: request.target_region.as_str() });
                with_key_advice(error, || kms::of_copy(read, write))
            })?;
            operation.copy = Some(made(copy_id.as_str(), "", "copying"));
            Ok(Answer::done(json!({ "copy_id": copy_id, "adopted": false })))
        }
    }
}

/// Whether no further snapshot may exist, which waiting does not change: RDS refuses a copy too many in progress and a
/// snapshot too many with the same code.
fn is_full(quota: Option<(i64, i64)>) -> bool {
    quota.is_some_and(|(used, limit)| used >= limit)
}

fn no_slot(context: &Context, operation: &Operation) -> Answer {
    let tries = operation.timings.get(Step::CopySnapshot.as_str()).map_or(0, |timing| timing.invocations);
    let elapsed_seconds = operation.seconds_in(Step::CopySnapshot, context.clock.now());
    let seconds = wait::slot_seconds(elapsed_seconds, &format!("{} {tries}", operation.operation_id));
    Answer::waiting(
        seconds,
        "RDS takes no further copy into the Region now: it makes five at a time, whosever they are".into(),
    )
}

fn made(id: &str, arn: &str, status: &str) -> CopyState {
    CopyState {
        snapshot_id: id.into(),
        arn: arn.into(),
        status: status.into(),
        made_by_us: true,
        percent_progress: None,
    }
}
