//! Deletes the former cluster of a swap once its grace period is over, under the name that the swap gave it, with all the
//! guards and the final snapshot of a deletion that comes first.

use crate::follow::{Answer, follow, planned};
use crate::removal::{self, Removal, Whose};
use aurora_restore_core::domain::decide::retire_cluster::grace_left_seconds;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::operation::Operation;
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::{Context, StepError};
use serde_json::Value;

/// Handles one invocation.
///
/// # Errors
/// `ResourceConflict` when nobody has logged in to the restored cluster under the target's name yet, `RefusedUnsafe` by a
/// guard, `DeadlineExceeded`, and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    let (Some(names), Some(swap)) = (&plan.swap, request.swap) else {
        return Ok(Answer::skipped("the former cluster was deleted first"));
    };
    let now = context.clock.now();
    let left = grace_left_seconds(operation.swap.as_ref(), swap.grace_seconds(), now).ok_or_else(|| {
        Failure::new(ErrorName::ResourceConflict, format!("operation {} has swapped nothing", operation.operation_id))
            .next("run swap-cluster first")
    })?;
    if plan.replaces.is_none() {
        return Ok(Answer::skipped("there was no cluster of this name"));
    }
    if left > 0 {
        let progress =
            format!("cluster {} stays for its grace period of {} min", names.retired_id, swap.grace_period_minutes);
        return Ok(Answer::waiting(left, progress));
    }
    let removal = Removal { id: names.retired_id.clone(), what: Whose::Former };
    removal::work(context, operation, &removal).await
}
