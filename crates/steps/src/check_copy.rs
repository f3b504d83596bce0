//! Looks whether the copy is available. Changes nothing.

use crate::follow::{Answer, follow, planned};
use aurora_restore_core::domain::decide::check_copy::{Decision, decide};
use aurora_restore_core::domain::operation::Operation;
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::plan::CopyPlan;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::{Context, StepError};
use serde_json::{Value, json};

/// Handles one invocation.
///
/// # Errors
/// `ResourceFailed` when the copy failed or is gone, `DeadlineExceeded`, and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (_, plan) = planned(operation)?;
    let copy = match &plan.copy {
        CopyPlan::SameRegion => None,
        CopyPlan::Copy { copy_id, .. } => context.rds.snapshot(copy_id.as_str()).await?,
    };
    if let (Some(state), Some(seen)) = (&mut operation.copy, &copy) {
        state.arn.clone_from(&seen.arn);
        state.status.clone_from(&seen.status);
        state.percent_progress = seen.percent_progress;
    }
    let elapsed_seconds = operation.seconds_in(Step::CheckCopy, context.clock.now());
    match decide(&plan, copy.as_ref(), elapsed_seconds) {
        Decision::Skip => Ok(Answer::skipped("source and target Region are the same")),
        Decision::Done => Ok(Answer::done(json!({ "copy": operation.copy }))),
        Decision::Wait(waiting) => Ok(Answer::waiting_for(waiting)),
        Decision::Fail(failure) => Err(failure.into()),
    }
}
