//! What every step after preflight does around its own work: load the operation, check that it may act, record the
//! outcome.

use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::ids::OperationId;
use aurora_restore_core::domain::naming::{Kind, TAG_KIND, TAG_MANAGED, TAG_OPERATION, TAG_SOURCE};
use aurora_restore_core::domain::notification::left_behind;
use aurora_restore_core::domain::operation::{FailedStep, Operation, Status};
use aurora_restore_core::domain::outcome::{Outcome, StepOutput};
use aurora_restore_core::domain::phase::Waiting;
use aurora_restore_core::domain::plan::Plan;
use aurora_restore_core::domain::request::Request;
use aurora_restore_core::domain::sabotage::Sabotage;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::{Instant, human_duration, wait};
use aurora_restore_core::metrics::Unit;
use aurora_restore_core::{Context, StepError};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Input of a step after preflight.
#[derive(Debug, Deserialize)]
struct Input {
    operation_id: OperationId,
    /// Added by the state machine; absent when a person invokes the step.
    #[serde(default)]
    execution_arn: Option<String>,
}

/// How a step's own work ended.
pub(crate) struct Answer {
    outcome: Outcome,
    wait_seconds: Option<u64>,
    waiting: Option<Waiting>,
    progress: Option<String>,
    detail: Value,
}

impl Answer {
    pub(crate) fn done(detail: Value) -> Self {
        Self { outcome: Outcome::Done, wait_seconds: None, waiting: None, progress: None, detail }
    }

    pub(crate) fn skipped(why: &str) -> Self {
        Self::skipped_with(json!({ "reason": why }))
    }

    pub(crate) fn skipped_with(detail: Value) -> Self {
        Self { outcome: Outcome::Skipped, ..Self::done(detail) }
    }

    /// Again after so many seconds.
    pub(crate) fn waiting(seconds: u64, progress: String) -> Self {
        let progress = Some(progress);
        Self { outcome: Outcome::Waiting, wait_seconds: Some(seconds), progress, ..Self::done(Value::Null) }
    }

    /// Again when RDS is about to be done, see [`wait::seconds`].
    pub(crate) fn waiting_for(waiting: Waiting) -> Self {
        let progress = Some(waiting.progress.clone());
        Self { outcome: Outcome::Waiting, waiting: Some(waiting), progress, ..Self::done(Value::Null) }
    }
}

/// Runs `work` for the operation that `input` names.
///
/// # Errors
/// `InvalidRequest` for an input without a known operation, `ResourceConflict` for an operation that has ended,
/// `TargetLocked` for one that another execution drives, `DeadlineExceeded`, and whatever `work` ends with.
pub(crate) async fn follow(
    context: &Context,
    step: Step,
    input: Value,
    work: impl AsyncFn(&Context, &mut Operation) -> Result<Answer, StepError>,
) -> Result<StepOutput, StepError> {
    let input: Input = serde_json::from_value(input).map_err(|error| {
        Failure::new(
            ErrorName::InvalidRequest,
            format!("the input of {step} is wrong: {error}; takes {{\"operation_id\": \"…\"}}"),
        )
        .left("nothing was touched")
    })?;
    context.rds.admit(step.rds_calls()).await?;
    context.audit.forget_end();
    let mut operation = context.store.load(&input.operation_id).await?;
    may_act(&operation, input.execution_arn.as_deref())?;
    // Everything that it writes or changes is conditional on the lock; without one there is nothing to do at all.
    if operation.fence.is_none() {
        context.store.check_lock(&operation).await?;
    }
    if operation.begin_step(step, context.clock.now()) {
        context.store.save(&mut operation, context.clock.now()).await?;
    }
    let answer = match work(context, &mut operation).await {
        Ok(answer) => in_time(context, step, &operation, answer),
        Err(error) => Err(error),
    };
    conclude(context, step, operation, answer).await
}

/// Records how `step` ended, and answers it.
pub(crate) async fn conclude(
    context: &Context,
    step: Step,
    mut operation: Operation,
    answer: Result<Answer, StepError>,
) -> Result<StepOutput, StepError> {
    let operation_id = operation.operation_id.clone();
    let replacement = operation.request.as_ref().map(Request::replacement).unwrap_or_default();
    match answer {
        Ok(answer) => {
            let now = context.clock.now();
            let most_seconds = context.config.max_wait_seconds.unwrap_or(u64::MAX);
            let (wait_seconds, waits_for) = wait(&mut operation, &answer, most_seconds, now);
            operation.end_step(step, answer.outcome, now);
            // Notify's own success does not undo the failure that it told.
            if step != Step::Notify {
                operation.error = None;
            }
            let saved = context.store.save(&mut operation, context.clock.now()).await;
            saved.map_err(|error| with_what_is_left(error, &operation))?;
            let now = context.clock.now();
            let dimensions = [("Step", step.as_str()), ("Outcome", answer.outcome.as_str())];
            context.metrics.tell(&dimensions, &[("StepSeconds", Unit::Seconds, operation.seconds_in(step, now))], now);
            let progress = answer.progress.as_deref().unwrap_or_default();
            tracing::info!(%operation_id, %step, outcome = ?answer.outcome, wait_seconds, "{step}: {:?} {progress}", answer.outcome);
            Ok(StepOutput {
                operation_id,
                step,
                outcome: answer.outcome,
                wait_seconds,
                progress: answer.progress,
                waits_for,
                replacement,
                detail: answer.detail,
            })
        }
        Err(error) => {
            let error = with_what_is_left(error, &operation);
            let message = error.to_string();
            // What ended the operation is what is told, not that the telling of it failed once.
            let is_known = step == Step::Notify && operation.error.is_some() && !Sabotage::ForgetFailedStep.is_on();
            if !is_known {
                operation.error = Some(FailedStep { step, name: error.name().to_string(), message });
            }
            // The step's own error is the one to tell; that it could not be recorded is in the log, and the state
            // machine's failure path brings the error along.
            if let Err(unrecorded) = context.store.save(&mut operation, context.clock.now()).await {
                tracing::error!(%operation_id, %step, "the failure could not be recorded: {unrecorded}");
            }
            Err(error)
        }
    }
}

/// How long until the next look, and whose events may end that sooner; notes what is waited for.
fn wait(operation: &mut Operation, answer: &Answer, most_seconds: u64, now: Instant) -> (Option<u64>, Vec<String>) {
    let at_most = |seconds: u64| seconds.min(most_seconds).max(1);
    let Some(waiting) = &answer.waiting else {
        operation.end_phases(now);
        return (answer.wait_seconds.map(at_most), vec![]);
    };
    let elapsed_seconds = operation.note_phase(waiting.phase, now);
    let expected = operation.expected(waiting.phase);
    let usual = wait::seconds(waiting.phase, elapsed_seconds, waiting.percent, expected);
    let seconds = at_most(usual);
    operation.note_wait(waiting.phase, seconds, now);
    // As long as it usually is: where `most_seconds` shortens all waits, events are to end them all the same.
    (Some(seconds), if wait::may_be_ended(usual) { waiting.waits_for.clone() } else { vec![] })
}

/// The error, with what is left behind where it does not say so itself.
fn with_what_is_left(mut error: StepError, operation: &Operation) -> StepError {
    error.failure.left_behind.get_or_insert_with(|| left_behind(operation).join("; "));
    error
}

/// A refusal of KMS, with what to do about it: RDS does not name the key.
pub(crate) fn with_key_advice(mut error: StepError, advice: impl FnOnce() -> String) -> StepError {
    if error.name() == ErrorName::KmsKeyUnusable {
        error.failure.next = Some(advice());
    }
    error
}

fn may_act(operation: &Operation, execution_arn: Option<&str>) -> Result<(), Failure> {
    let id = &operation.operation_id;
    if operation.status != Status::Running {
        return Err(Failure::new(
            ErrorName::ResourceConflict,
            format!("operation {id} has {}", operation.status.as_str()),
        )
        .left("nothing was touched by this step")
        .next("start it again with preflight (a failed one goes on where it stopped), or start a new one"));
    }
    // A person may try a step; another execution may not.
    if execution_arn.is_some() && execution_arn != operation.execution_arn.as_deref() {
        let driver = operation.execution_arn.as_deref().unwrap_or("a person, step by step");
        return Err(Failure::new(ErrorName::TargetLocked, format!("operation {id} is driven by {driver}"))
            .left("nothing was touched by this step"));
    }
    Ok(())
}

fn in_time(context: &Context, step: Step, operation: &Operation, answer: Answer) -> Result<Answer, StepError> {
    let elapsed = operation.seconds_in(step, context.clock.now());
    if answer.outcome != Outcome::Waiting || elapsed <= step.deadline_seconds() {
        return Ok(answer);
    }
    let progress = answer.progress.as_deref().unwrap_or("no progress known");
    Err(Failure::new(
        ErrorName::DeadlineExceeded,
        format!(
            "{step} is not done after {} (its limit is {}): {progress}",
            human_duration(elapsed),
            human_duration(step.deadline_seconds())
        ),
    )
    .next("look at the RDS events of the resource; when it has moved on, start again under the same operation_id")
    .into())
}

/// Request and plan, owned, so that the operation can be changed beside them.
pub(crate) fn planned(operation: &Operation) -> Result<(Request, Plan), Failure> {
    operation.planned().map(|(request, plan)| (request.clone(), plan.clone()))
}

/// The tags of a resource that this operation makes.
pub(crate) fn tags(operation: &Operation, plan: &Plan, kind: Kind) -> BTreeMap<String, String> {
    let mut tags = plan.tags.clone();
    for (key, value) in [
        (TAG_MANAGED, "true"),
        (TAG_OPERATION, operation.operation_id.as_str()),
        (TAG_SOURCE, plan.source_cluster_arn.as_str()),
        (TAG_KIND, kind.as_str()),
    ] {
        tags.insert(key.to_owned(), value.to_owned());
    }
    tags
}
