//! Gives the target's name to the restored cluster: the former one's names away, the new one's in, until its users can
//! log in there; or all of it back. The state machine repeats it meanwhile.

use crate::database;
use crate::follow::{Answer, follow, planned};
use crate::removal;
use crate::restored;
use aurora_restore_core::domain::cloud::{Cluster, Instance};
use aurora_restore_core::domain::decide::swap_cluster::{Decision, Facts, Renames, Seen, decide, failure};
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::guards::Refusal;
use aurora_restore_core::domain::operation::Operation;
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::plan::{Plan, SwapPlan};
use aurora_restore_core::domain::request::Request;
use aurora_restore_core::domain::sabotage::Sabotage;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::swap::{Renaming, SwapState};
use aurora_restore_core::domain::{human_duration, timestamp, wait};
use aurora_restore_core::{Context, StepError};
use aurora_restore_database::{Checks, DatabaseError, ErrorClass, Verdict};
use serde_json::{Value, json};

/// Handles one invocation.
///
/// # Errors
/// `RefusedUnsafe` and `ResourceFailed` before the first rename; `SwapFailed` when the names were rolled back, or could not
/// be; `ResourceConflict` for a restore that is not verified; `DeadlineExceeded`, and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

/// What does not change in a swap.
struct Swap {
    request: Request,
    plan: Plan,
    names: SwapPlan,
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    let Some(names) = plan.swap.clone() else {
        return Ok(Answer::skipped("the former cluster was deleted first"));
    };
    if !operation.verification.as_ref().is_some_and(|verification| verification.passed) {
        let what = format!("the restored cluster of operation {} is not verified", operation.operation_id);
        return Err(Failure::new(ErrorName::ResourceConflict, what).next("run verify-restore first").into());
    }
    operation.swap.get_or_insert_default();
    let swap = Swap { request, plan, names };
    // Boxed, as the logins below: futures within futures are more than the compiler lays out.
    match Box::pin(go_on(context, operation, &swap)).await {
        Err(error) if ends_the_way_forth(operation, &error) => {
            turn_back(context, operation, format!("{}: {}", error.name(), error.failure.what)).await
        }
        answer => answer,
    }
}

async fn go_on(context: &Context, operation: &mut Operation, swap: &Swap) -> Result<Answer, StepError> {
    let seen = observe(context, operation, swap).await?;
    note(context, operation, swap, &seen).await?;
    let refusals = guards(context, operation, swap, &seen).await?;
    match decided(context, operation, swap, &seen, &refusals) {
        Decision::Wait(progress) => Ok(waiting(context, operation, progress)),
        Decision::Refuse(failure) | Decision::Fail(failure) => Err(failure.into()),
        Decision::TurnBack(why) => turn_back(context, operation, why).await,
        Decision::TryLogin => try_login(context, operation, swap).await,
        Decision::RolledBack => rolled_back(context, operation, swap).await,
        Decision::Rename(renames) => rename(context, operation, &renames).await,
    }
}

fn state(operation: &mut Operation) -> &mut SwapState {
    operation.swap.get_or_insert_default()
}

/// The answer that decides: everything that the decision asks for is taken from the operation as it is.
fn decided(context: &Context, operation: &Operation, swap: &Swap, seen: &Seen, refusals: &[Refusal]) -> Decision {
    with_facts(context, operation, swap, refusals, |facts| decide(seen, facts))
}

fn with_facts<T>(
    context: &Context,
    operation: &Operation,
    swap: &Swap,
    refusals: &[Refusal],
    ask: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    let (now, nothing) = (context.clock.now(), SwapState::default());
    ask(&Facts {
        operation_id: &operation.operation_id,
        target: &swap.request.target_cluster_id,
        plan: &swap.plan,
        names: &swap.names,
        state: operation.swap.as_ref().unwrap_or(&nothing),
        refusals,
        answer_within_seconds: swap.request.swap.unwrap_or_default().answer_within_seconds(),
        retiring: operation.replaced.is_some(),
        elapsed_seconds: operation.seconds_in(Step::SwapCluster, now),
        now,
    })
}

async fn observe(context: &Context, operation: &Operation, swap: &Swap) -> Result<Seen, StepError> {
    let rds = &context.rds;
    let ids = [&swap.request.target_cluster_id, &swap.names.scratch_id, &swap.names.retired_id];
    let clusters = rds.clusters(&ids).await?;
    let [target, scratch, retired] = ids.map(|id| clusters.iter().find(|cluster| cluster.id == id.as_str()).cloned());
    let mut seen = Seen { target, scratch, retired, ..Seen::default() };
    let (restored, former) =
        with_facts(context, operation, swap, &[], |facts| (seen.restored(facts).cloned(), seen.former(facts).cloned()));
    let both: Vec<&str> = restored.iter().chain(&former).map(|cluster| cluster.id.as_str()).collect();
    if !both.is_empty() {
        let instances = rds.instances_of_any(&both).await?;
        let of = |cluster: Option<&Cluster>| -> Vec<Instance> {
            let is_its = |instance: &&Instance| cluster.is_some_and(|cluster| belongs(instance, cluster, &both));
            instances.iter().filter(is_its).cloned().collect()
        };
        (seen.restored_instances, seen.former_instances) = (of(restored.as_ref()), of(former.as_ref()));
    }
    Ok(seen)
}

/// Whose an instance is, of those asked for. While a cluster's name moves, it may still bear its former one: then the
/// cluster says it.
fn belongs(instance: &Instance, cluster: &Cluster, asked: &[&str]) -> bool {
    match instance.cluster_id.as_deref().filter(|id| asked.contains(id)) {
        Some(id) => id == cluster.id,
        None => cluster.members.iter().any(|member| member.id == instance.id),
    }
}

/// Takes what was seen into the operation; it is saved before the next rename, or with the answer.
async fn note(context: &Context, operation: &mut Operation, swap: &Swap, seen: &Seen) -> Result<(), StepError> {
    let (restored, former) =
        with_facts(context, operation, swap, &[], |facts| (seen.restored(facts).cloned(), seen.former(facts).cloned()));
    restored::record(operation, restored.as_ref(), &swap.plan, swap.request.managed_master.is_some())?;
    let state = state(operation);
    state.restored_as = restored.as_ref().map(|cluster| cluster.id.clone());
    if let Some(cluster) = restored {
        state.restored_resource_id = Some(cluster.resource_id);
    }
    match former {
        Some(former) => {
            if let (None, Some(host), Some(port)) = (&state.begun_at, &former.endpoint, former.port) {
                state.former_addresses = database::addresses(context, host, port).await;
            }
            state.name_instances(&former, &swap.names);
            state.former_as = Some(former.id);
        }
        // It was there when names were first changed: that it is not visible is told as it is.
        None if state.begun_at.is_some() && state.former_as.is_some() => {}
        None => state.former_as = None,
    }
    Ok(())
}

/// What stands against it, as long as nothing was renamed.
async fn guards(context: &Context, operation: &Operation, swap: &Swap, seen: &Seen) -> Result<Vec<Refusal>, StepError> {
    let is_begun = operation.swap.as_ref().is_some_and(|state| state.begun_at.is_some());
    let Some(target) = seen.target.as_ref().filter(|target| !is_begun && !target.belongs_to(&operation.operation_id))
    else {
        return Ok(vec![]);
    };
    let final_snapshot_exists = match &swap.plan.final_snapshot_id {
        Some(id) => context.rds.snapshot(id.as_str()).await?.is_some(),
        None => false,
    };
    removal::guard(context, &swap.request, &swap.plan, target, final_snapshot_exists, operation.replaced.is_some())
        .await
}

/// Asks for new names. The operation is saved first, as a claim: of two functions at work, the one that read it earlier
/// ends there, and does not act on what the other has changed.
async fn rename(context: &Context, operation: &mut Operation, renames: &Renames) -> Result<Answer, StepError> {
    let now = context.clock.now();
    state(operation).ask(renames.to_string(), renames.cluster().cloned(), now);
    // What the renames before this one took is known, however often these have to be asked for.
    operation.end_phases(now);
    context.store.save(operation, now).await?;
    let asked = match renames {
        Renames::Cluster(renaming) => rename_cluster(context, operation, renaming).await,
        Renames::Instances(all) => rename_instances(context, operation, all).await,
    };
    if asked.is_err() {
        // Refused: there is nothing that would only have to become visible.
        state(operation).asked = None;
    }
    asked?;
    Ok(waiting(context, operation, format!("RDS was asked to {renames}")))
}

/// After the renames that were asked for last. Whatever else RDS is at has no length that is worth remembering: a backup,
/// what was refused, the turn to the way back.
fn waiting(context: &Context, operation: &Operation, progress: String) -> Answer {
    let asked = operation.swap.as_ref().and_then(|state| state.asked.as_ref());
    match asked {
        Some(asked) => Answer::waiting_for(asked.waiting(progress)),
        None => {
            let elapsed_seconds = operation.seconds_in(Step::SwapCluster, context.clock.now());
            Answer::waiting(wait::change_seconds(elapsed_seconds), progress)
        }
    }
}

async fn rename_cluster(
    context: &Context,
    operation: &Operation,
    Renaming { from, to }: &Renaming,
) -> Result<(), StepError> {
    let call = context.rds.rename_cluster(from, to);
    context.mutate(operation, "rds:ModifyDBCluster", from, json!({ "new_db_cluster_identifier": to }), call).await
}

async fn rename_instances(context: &Context, operation: &Operation, all: &[Renaming]) -> Result<(), StepError> {
    for Renaming { from, to } in all {
        let call = context.rds.rename_instance(from, to);
        let detail = json!({ "new_db_instance_identifier": to });
        context.mutate(operation, "rds:ModifyDBInstance", from, detail, call).await?;
    }
    Ok(())
}

/// Whether an error is one that waiting does not cure, and the names can go back.
fn ends_the_way_forth(operation: &Operation, error: &StepError) -> bool {
    let name = error.name();
    let is_ours = matches!(name, ErrorName::SwapFailed | ErrorName::TargetLocked) || name.is_transient();
    let state = operation.swap.as_ref();
    let is_going_forth = state.is_some_and(|state| state.begun_at.is_some() && state.back.is_none());
    !is_ours && is_going_forth && state.is_some_and(SwapState::may_go_back) && operation.replaced.is_none()
}

async fn turn_back(context: &Context, operation: &mut Operation, why: String) -> Result<Answer, StepError> {
    let now = context.clock.now();
    let progress = format!("names go back: {why}");
    state(operation).turn_back(why, now);
    state(operation).asked = None;
    context.store.save(operation, now).await?;
    Ok(Answer::waiting(wait::change_seconds(0), progress))
}

async fn try_login(context: &Context, operation: &mut Operation, swap: &Swap) -> Result<Answer, StepError> {
    let now = context.clock.now();
    let unanswered = match Sabotage::BelieveInSwap.is_on() {
        true => None,
        false => Box::pin(unanswered(context, operation, &swap.request)).await?,
    };
    if let Some(why) = unanswered {
        let asked = operation.swap.as_ref().and_then(|state| state.asked.as_ref());
        let since = SwapState::since(asked.map(|asked| &asked.at), now);
        let progress = format!("cluster {} has its name, but {why}", swap.request.target_cluster_id);
        state(operation).unanswered = Some(why);
        return Ok(Answer::waiting(wait::change_seconds(since.unwrap_or_default()), progress));
    }
    let now = context.clock.now();
    let state = state(operation);
    state.answered_at.get_or_insert_with(|| timestamp(now));
    (state.unanswered, state.asked) = (None, None);
    let (former, begun_at) = (state.former_as.clone(), state.begun_at.clone());
    // Where nobody served, nobody was kept from working.
    operation.is_up_again(begun_at.filter(|_| former.is_some()).as_deref(), now);
    let target = swap.request.target_cluster_id.as_str();
    let detail = json!({ "cluster_id": target, "former": former, "downtime_seconds": operation.downtime_seconds });
    context.record_event(operation, "aurora-restore:Swapped", target, detail.clone()).await?;
    Ok(Answer::done(detail))
}

/// Why the master or a declared user cannot log in at the endpoint that RDS tells for the target's name; `None` when all
/// of them can.
async fn unanswered(context: &Context, operation: &Operation, request: &Request) -> Result<Option<String>, StepError> {
    let mut opened = database::open(context, operation, request).await?;
    let endpoint = opened.server.endpoint();
    let addresses = database::addresses(context, &endpoint.host, endpoint.port).await;
    if operation.swap.as_ref().is_some_and(|state| state.leads_to_former(&addresses)) {
        return Ok(Some(format!("its endpoint {} still leads to the former cluster's address", endpoint.host)));
    }
    opened.sign_tokens(context).await?;
    if let Err(error) = opened.server.try_master().await {
        return not_yet(error);
    }
    match opened.server.verify(&opened.desired, &opened.passwords, &Checks::default()).await {
        Err(error) => not_yet(error),
        Ok(results) => {
            let failed = results.iter().filter(|result| result.verdict != Verdict::Passed);
            let failed: Vec<&str> = failed.map(|result| result.name.as_str()).collect();
            Ok((!failed.is_empty()).then(|| format!("{} failed", failed.join(", "))))
        }
    }
}

/// A cluster that was just renamed may not let anybody in yet; what it rejects, it will reject again.
fn not_yet(error: DatabaseError) -> Result<Option<String>, StepError> {
    match error.class() {
        ErrorClass::Unreachable | ErrorClass::LoginRefused => Ok(Some(error.to_string())),
        ErrorClass::Rejected | ErrorClass::Invalid => Err(database::failed("log in under the target's name", error)),
    }
}

/// All names are as before: told as the failure that it is.
async fn rolled_back(context: &Context, operation: &mut Operation, swap: &Swap) -> Result<Answer, StepError> {
    let now = context.clock.now();
    let target = swap.request.target_cluster_id.as_str();
    let state = state(operation);
    let why = state.back.as_ref().map(|back| back.why.clone()).unwrap_or_default();
    let away = SwapState::since(state.begun_at.as_ref(), now).unwrap_or_default();
    state.asked = None;
    if state.rolled_back_at.is_none() {
        state.rolled_back_at = Some(timestamp(now));
        context.record_event(operation, "aurora-restore:RolledBack", target, json!({ "why": why })).await?;
    }
    let scratch = &swap.names.scratch_id;
    let why = format!("{why}; the names were rolled back, {} after the first rename", human_duration(away));
    let failure = with_facts(context, operation, swap, &[], |facts| failure(facts, &why));
    let next = format!(
        "look why nobody could log in to {scratch}; then start again under the same operation_id, which tries again with it, or delete it and start a new operation"
    );
    Err(failure.next(next).into())
}
