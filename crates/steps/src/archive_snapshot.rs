//! Tags the copy as archived and removes old copies of ours by retention. Touches only copies that this tool made.

use crate::follow::{Answer, follow, planned};
use aurora_restore_core::domain::decide::archive_snapshot::decide;
use aurora_restore_core::domain::failure::ErrorName;
use aurora_restore_core::domain::naming::TAG_ARCHIVED;
use aurora_restore_core::domain::operation::Operation;
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::plan::CopyPlan;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::timestamp;
use aurora_restore_core::{Context, StepError};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Handles one invocation.
///
/// # Errors
/// What AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    if !request.archive_snapshot {
        return Ok(Answer::skipped("archive_snapshot is false"));
    }
    if plan.copy == CopyPlan::SameRegion {
        return Ok(Answer::skipped("no copy was made: source and target Region are the same"));
    }
    // A copy keeps the id of the cluster that its source was taken of.
    let now = context.clock.now();
    let snapshots = context.rds.snapshots_of(&request.source_cluster_id).await?;
    let decision = decide(
        &snapshots,
        &plan.source_cluster_arn,
        &request.target_cluster_id,
        &operation.operation_id,
        request.retention,
        now,
    );

    if let Some(copy) = decision.archive.as_ref().filter(|copy| !copy.tags.contains_key(TAG_ARCHIVED)) {
        let day: String = timestamp(now).chars().take(10).collect();
        let tags = BTreeMap::from([(TAG_ARCHIVED.to_owned(), day)]);
        let call = context.rds.add_tags(&copy.arn, &tags);
        context.mutate(operation, "rds:AddTagsToResource", &copy.id, json!(tags), call).await?;
    }
    // Kept up to date copy by copy, so that a repeat knows what is gone already.
    let archived = decision.archive.as_ref().map(|copy| copy.id.clone());
    let mut archive = operation.archive.take().unwrap_or_default();
    (archive.archived, archive.kept, archive.failed) = (archived, decision.keep, vec![]);
    for copy in &decision.remove {
        let detail = json!({ "retention": request.retention, "created_at": copy.created_at.map(timestamp) });
        let call = context.rds.delete_snapshot(&copy.id);
        match context.mutate(operation, "rds:DeleteDBClusterSnapshot", &copy.id, detail, call).await {
            Ok(()) => archive.removed.push(copy.id.clone()),
            Err(error) if error.name().is_transient() || error.name() == ErrorName::TargetLocked => {
                operation.archive = Some(archive);
                return Err(error);
            }
            // The restore is good and verified: an old copy that stays is told with its success.
            Err(error) => archive.failed.push(error.to_string()),
        }
    }
    let answer = Answer::done(json!(archive));
    operation.archive = Some(archive);
    Ok(answer)
}
