//! Where the restored cluster is: under the target's name, or beside it as long as a swap has not let it in.

use aurora_restore_core::domain::cloud::Cluster;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::ids::ClusterId;
use aurora_restore_core::domain::operation::{ClusterState, Operation};
use aurora_restore_core::domain::plan::Plan;
use aurora_restore_core::domain::request::Request;
use aurora_restore_core::domain::swap::SwapState;
use aurora_restore_core::domain::wait::VISIBLE_SECONDS;
use aurora_restore_core::{Context, StepError};

/// Its name, and what stands under it. An earlier execution of the operation may have swapped it in; that it would is
/// written down before the first rename.
///
/// # Errors
/// What AWS says.
pub(crate) async fn find(
    context: &Context,
    operation: &Operation,
    request: &Request,
    plan: &Plan,
) -> Result<(ClusterId, Option<Cluster>), StepError> {
    let target = &request.target_cluster_id;
    if operation.swap.as_ref().is_some_and(|swap| swap.begun_at.is_some()) {
        let swapped = context.rds.cluster(target).await?;
        if let Some(cluster) = swapped.filter(|cluster| cluster.belongs_to(&operation.operation_id)) {
            return Ok((target.clone(), Some(cluster)));
        }
    }
    let made_as = plan.made_as(target);
    Ok((made_as.clone(), context.rds.cluster(made_as).await?))
}

/// What is not found just after a rename may only not be visible: restored again, there would be two.
///
/// # Errors
/// `StateConflict`: the step is repeated, and looks again.
pub(crate) fn is_not_just_renamed(context: &Context, operation: &Operation) -> Result<(), Failure> {
    let asked = operation.swap.as_ref().and_then(|swap| swap.asked.as_ref());
    match SwapState::since(asked.map(|asked| &asked.at), context.clock.now()) {
        Some(ago) if ago < VISIBLE_SECONDS => Err(Failure::new(
            ErrorName::StateConflict,
            "the restored cluster is not visible; it may have been renamed a moment ago",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Takes what was seen into the operation.
///
/// # Errors
/// `ResourceConflict` when it has restored none.
pub(crate) fn record<'o>(
    operation: &'o mut Operation,
    seen: Option<&Cluster>,
    plan: &Plan,
    is_managed: bool,
) -> Result<&'o mut ClusterState, Failure> {
    let id = operation.operation_id.clone();
    let state = operation.cluster.as_mut().ok_or_else(|| {
        Failure::new(ErrorName::ResourceConflict, format!("operation {id} has restored no cluster"))
            .next("run restore-cluster first")
    })?;
    if let Some(cluster) = seen {
        state.arn.clone_from(&cluster.arn);
        state.status.clone_from(&cluster.status);
        state.endpoint.clone_from(&cluster.endpoint);
        state.port = cluster.port;
        let secret = cluster.master_user_secret.as_ref().filter(|_| is_managed);
        state.master_user_secret_arn = secret.map(|secret| secret.arn.clone());
        state.instances = plan.instances_in(&cluster.id).iter().map(|instance| instance.id.to_string()).collect();
    }
    Ok(state)
}
