//! Removes the cluster that is replaced: remembers its settings, turns protection off, deletes readers, the writer,
//! then the cluster with a final snapshot. The state machine repeats it until the cluster is gone. With a swap it only
//! asks the guards, so that a swap that cannot end is refused before hours are spent on it.

use crate::follow::{Answer, follow, planned};
use crate::removal::{self, Removal, Whose, next_move, observe};
use aurora_restore_core::domain::decide::delete_cluster::Decision;
use aurora_restore_core::domain::operation::Operation;
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::{Context, StepError};
use serde_json::Value;

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
    let removal = Removal { id: request.target_cluster_id.clone(), what: Whose::Target };
    if plan.swap.is_none() {
        return removal::work(context, operation, &removal).await;
    }
    let (target, instances) = observe(context, &removal.id).await?;
    match next_move(context, operation, &removal, &request, &plan, target.as_ref(), &instances).await? {
        Decision::Refuse(failure) => Err(failure.into()),
        Decision::Gone => Ok(Answer::skipped("there is no cluster of this name")),
        Decision::AlreadyRestored => Ok(Answer::skipped("the cluster of this name is the restored one")),
        Decision::TurnOffProtection | Decision::DeleteInstances(_) | Decision::DeleteCluster | Decision::Wait(_) => {
            Ok(Answer::skipped("the cluster of this name serves until the swap"))
        }
    }
}
