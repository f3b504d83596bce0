//! Closes the operation, tells the outcome once, releases the lock.
//!
//! In this order: the outcome is recorded, the lock released, then it is published, then that is recorded. A failure
//! to publish fails the step, so that the execution does not end green with nobody told; a function killed between
//! publishing and recording publishes once more, and says that it is a repeat.

use crate::follow::{Answer, conclude};
use crate::preflight::Envelope;
use aurora_restore_core::domain::audit::Record;
use aurora_restore_core::domain::cloud::Cluster;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::guards::needs_protection_again;
use aurora_restore_core::domain::ids::OperationId;
use aurora_restore_core::domain::naming;
use aurora_restore_core::domain::notification::{Message, compose};
use aurora_restore_core::domain::operation::{self, FailedStep, NotificationState, Operation, Status};
use aurora_restore_core::domain::outcome::{Outcome, StepOutput};
use aurora_restore_core::domain::request::{Replacement, parse, target_of};
use aurora_restore_core::domain::sabotage::Sabotage;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::timestamp;
use aurora_restore_core::metrics::Unit;
use aurora_restore_core::{Context, StepError};
use serde_json::{Value, json};

/// Invocations after which protection that cannot be turned on again is told instead of tried.
const PROTECTION_ATTEMPTS: u64 = 6;

/// Handles one invocation: `{"operation_id": "…"}` after success, or the failure path's
/// `{"request": {…}, "execution_arn": "…", "execution_name": "…", "error": {"Error": "…", "Cause": "…"}}`.
///
/// # Errors
/// `ResourceConflict` for an operation that is not finished, and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    context.audit.forget_end();
    let envelope = Envelope::of(&input);
    let asked = input.get("operation_id").and_then(Value::as_str).map(OperationId::try_from);
    let operation_id = match asked {
        Some(Ok(id)) => id,
        Some(Err(error)) => return Err(invalid(format!("operation_id: {error}"))),
        None => operation::operation_id(envelope.request, envelope.execution_name).map_err(invalid)?,
    };
    let execution_arn = input.get("execution_arn").and_then(Value::as_str);
    let now = context.clock.now();
    let known = context.store.find(&operation_id).await?;
    let error = input.get("error").map(CaughtError::of);

    let mut operation = match (known, &error) {
        (Some(known), Some(error)) if known.execution_arn.as_deref() != execution_arn => {
            return tell_of_refusal(context, step, &known, execution_arn, error, &envelope).await;
        }
        (Some(known), _) => known,
        // Preflight could not even read the request.
        (None, Some(_)) => {
            let mut operation = Operation::new(operation_id, execution_arn.map(str::to_owned), now);
            describe(&mut operation, context, &envelope);
            context.store.create(&operation).await?;
            operation
        }
        (None, None) => context.store.load(&operation_id).await?,
    };
    // What the outcome rests on is decided before the step is noted as begun, which changes `step`.
    let failed = error.map(|error| error.at(&operation));
    if let Some(failed) = &failed {
        operation.error = Some(failed.clone());
    }
    operation.begin_step(step, now);
    let answer = work(context, &mut operation, failed).await;
    conclude(context, step, operation, answer).await
}

fn invalid(what: String) -> StepError {
    Failure::new(ErrorName::InvalidRequest, what).left("nothing was touched").into()
}

/// What the state machine's Catch hands over.
struct CaughtError {
    name: String,
    message: String,
}

impl CaughtError {
    /// `Cause` is the Lambda error's JSON for our own errors, free text for those of Step Functions.
    fn of(error: &Value) -> Self {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let cause = text("Cause");
        let message = serde_json::from_str::<Value>(cause)
            .ok()
            .and_then(|cause| Some(cause.get("errorMessage")?.as_str()?.to_owned()))
            .unwrap_or_else(|| cause.to_owned());
        Self { name: text("Error").to_owned(), message }
    }

    /// The failed step: as the step itself recorded it, else the one that was under way, or should have begun.
    fn at(self, operation: &Operation) -> FailedStep {
        match &operation.error {
            Some(recorded) if recorded.name == self.name => recorded.clone(),
            _ => FailedStep { step: operation.step_under_way(), name: self.name, message: self.message },
        }
    }
}

/// Fills in what the request says, where it can be read.
fn describe(operation: &mut Operation, context: &Context, envelope: &Envelope<'_>) {
    if let Some((region, cluster)) = target_of(envelope.request, &context.config.defaults) {
        operation.target = Some(operation::place(&region, &cluster));
    }
    if let Ok(request) = parse(envelope.request, &context.config.defaults) {
        operation.source = Some(operation::place(&request.source_region, &request.source_cluster_id));
        operation.request = Some(request);
    }
}

/// An execution that was refused because the operation is another's: it is told, and that operation stays as it is.
async fn tell_of_refusal(
    context: &Context,
    step: Step,
    known: &Operation,
    execution_arn: Option<&str>,
    error: &CaughtError,
    envelope: &Envelope<'_>,
) -> Result<StepOutput, StepError> {
    let now = context.clock.now();
    let mut refused = Operation::new(known.operation_id.clone(), execution_arn.map(str::to_owned), now);
    describe(&mut refused, context, envelope);
    refused.step = step;
    refused.status = Status::Failed;
    refused.finished_at = Some(timestamp(now));
    refused.error =
        Some(FailedStep { step: Step::Preflight, name: error.name.clone(), message: error.message.clone() });
    // It may have driven the operation, failed, and been about to tell that when this one took over: then what stands is
    // what the operation has come to.
    let former = known.former.iter().rev().find(|former| former.execution_arn.as_deref() == execution_arn);
    if former.is_some() {
        refused.plan.clone_from(&known.plan);
        refused.copy.clone_from(&known.copy);
        refused.replaced.clone_from(&known.replaced);
        refused.cluster.clone_from(&known.cluster);
    }
    if let Some(failed) = former.and_then(|former| former.error.as_ref()).filter(|failed| failed.name == error.name) {
        refused.error = Some(failed.clone());
    }
    let told_there = former.and_then(|former| former.notification.as_ref());
    let is_told_there = told_there.is_some_and(|told| told.published_at.is_some());
    // Into a trail of its own: the other execution's is being written.
    let trail = Operation { operation_id: own_trail(known, envelope), ..refused.clone() };
    // That trail is all that is kept of a refusal: it tells whether it was told before.
    let last = context.audit.last(&trail.operation_id).await?;
    let told = last.as_ref().map(|record| &record.entry).filter(|entry| entry.action == "sns:Publish");
    let is_told = is_told_there || told.is_some_and(|entry| entry.outcome.as_deref() == Some("ok"));
    if !is_told {
        if told.is_some() || told_there.is_some() {
            publish(context, &refused, &trail, Some(Status::Failed)).await?;
        } else {
            publish_first(context, &refused, &trail, last.as_ref()).await?;
        }
        measure(context, &refused, &Value::Null);
    }
    Ok(StepOutput {
        operation_id: known.operation_id.clone(),
        step,
        outcome: Outcome::Done,
        wait_seconds: None,
        progress: None,
        waits_for: vec![],
        replacement: Replacement::default(),
        detail: json!({ "told": "the execution was refused; the operation is another execution's" }),
    })
}

/// The audit trail of an execution that was refused: its name, which is not the operation's.
fn own_trail(known: &Operation, envelope: &Envelope<'_>) -> OperationId {
    let name = envelope.execution_name.and_then(|name| OperationId::try_from(name).ok());
    match name {
        Some(name) if name != known.operation_id => name,
        _ => naming::refused_id(&known.operation_id),
    }
}

async fn work(context: &Context, operation: &mut Operation, failed: Option<FailedStep>) -> Result<Answer, StepError> {
    let outcome = outcome(operation, failed.as_ref())?;
    // An earlier message of this operation that may have been published.
    let earlier = operation.notification.clone();
    let is_repeat = earlier.as_ref().is_some_and(|earlier| earlier.outcome == outcome);
    if is_repeat && earlier.as_ref().is_some_and(|earlier| earlier.published_at.is_some()) {
        return Ok(Answer::skipped("the outcome was told already"));
    }
    let told = earlier.map(|earlier| earlier.outcome);
    let mut failed = failed;
    // What an earlier attempt did about the protection was recorded with the outcome, before it released the lock; without
    // the lock nothing can be changed any more.
    if outcome == Status::Failed
        && (!is_repeat || Sabotage::ProtectWithoutLock.is_on())
        && let Some(note) = protect_again(context, operation).await?
        && let Some(failed) = &mut failed
    {
        failed.message = format!("{} {note}", failed.message);
    }
    close(context, operation, outcome, failed, is_repeat).await?;
    if told != Some(operation.status) {
        // Before it is told: what repeats a message that did not go out counts nothing twice, and nothing is lost.
        measure(context, operation, &compose(operation, &context.config.environment, told, context.clock.now()).json);
    }
    context.store.release_lock(operation).await?;
    let message_id = publish(context, operation, operation, told).await?;
    if let Some(notification) = &mut operation.notification {
        notification.published_at = Some(timestamp(context.clock.now()));
        notification.message_id = Some(message_id.clone());
    }
    Ok(Answer::done(json!({ "status": outcome, "message_id": message_id })))
}

/// Turns the deletion protection that this operation turned off on again, if it stops before the cluster is gone.
/// Answers what to tell when that is not to be had.
///
/// # Errors
/// One that the state machine repeats the step for: but not for ever, since the failure itself must be told.
async fn protect_again(context: &Context, operation: &mut Operation) -> Result<Option<String>, StepError> {
    if Sabotage::LeaveUnprotected.is_on() {
        return Ok(None);
    }
    let Some(((request, plan), replaced)) = operation.planned().ok().zip(operation.replaced.as_ref()) else {
        return Ok(None);
    };
    if replaced.gone {
        return Ok(None);
    }
    let id = plan.deleted_as(&request.target_cluster_id).clone();
    let protected = async {
        let target = context.rds.cluster(&id).await?;
        if !needs_protection_again(replaced, target.as_ref(), context.clock.now()) {
            let is_it = |target: &Cluster| target.deletion_protection && target.resource_id == replaced.resource_id;
            return Ok(target.as_ref().is_some_and(is_it));
        }
        let call = context.rds.set_deletion_protection(&id, true);
        let detail = json!({ "deletion_protection": true });
        context.mutate(operation, "rds:ModifyDBCluster", id.as_str(), detail, call).await.map(|()| true)
    };
    let protected: Result<bool, StepError> = protected.await;
    let attempts = operation.timings.get(Step::Notify.as_str()).map_or(0, |timing| timing.invocations);
    match protected {
        Ok(on) => {
            if let Some(replaced) = &mut operation.replaced {
                replaced.protected_again = on;
            }
            Ok(None)
        }
        // Also what looks final: a right that is just being granted takes a minute to hold everywhere.
        Err(mut error) if attempts < PROTECTION_ATTEMPTS => {
            if !error.name().is_transient() {
                error.failure.what = format!("{}: {}", error.name(), error.failure.what);
                error.failure.name = ErrorName::ServiceUnavailable;
            }
            Err(error)
        }
        Err(error) => Ok(Some(format!("Deletion protection of cluster {id} could NOT be turned on again: {error}"))),
    }
}

/// The outcome to tell. A restore is a success only if its verification passed, whoever asks.
fn outcome(operation: &Operation, failed: Option<&FailedStep>) -> Result<Status, Failure> {
    if failed.is_some() {
        if Sabotage::FailureLooksLikeSuccess.is_on() {
            return Ok(Status::Succeeded);
        }
        return Ok(Status::Failed);
    }
    let plan_only = operation.request.as_ref().is_some_and(|request| request.plan_only);
    match (plan_only, &operation.plan, &operation.verification) {
        (true, Some(_), _) => Ok(Status::Planned),
        (false, Some(_), Some(verification)) if verification.passed => Ok(Status::Succeeded),
        _ if operation.status != Status::Running => Ok(operation.status),
        _ => Err(Failure::new(
            ErrorName::ResourceConflict,
            format!("operation {} is not finished: verify-restore has not passed", operation.operation_id),
        )
        .next("run the steps that are missing, or give notify the error that ended it")),
    }
}

/// Records the outcome and that it is about to be told.
async fn close(
    context: &Context,
    operation: &mut Operation,
    outcome: Status,
    failed: Option<FailedStep>,
    is_repeat: bool,
) -> Result<(), StepError> {
    let now = timestamp(context.clock.now());
    operation.status = outcome;
    if failed.is_some() {
        operation.error = failed;
    }
    if !is_repeat {
        operation.finished_at = Some(now.clone());
        operation.notification =
            Some(NotificationState { begun_at: now, published_at: None, message_id: None, outcome });
        let target = operation.target.clone().unwrap_or_else(|| "-".into());
        let detail = json!({ "status": outcome, "error": operation.error });
        context.record_event(operation, "aurora-restore:Closed", &target, detail).await?;
    }
    if Sabotage::PublishBeforeRecording.is_on() {
        return Ok(());
    }
    context.store.save(operation, context.clock.now()).await
}

async fn publish(
    context: &Context,
    operation: &Operation,
    trail: &Operation,
    told: Option<Status>,
) -> Result<String, StepError> {
    let (topic, message, detail) = message(context, operation, told);
    let call = context.topic().publish(topic, &context.config.environment, &message);
    context.audited(trail, "sns:Publish", topic, detail, call).await
}

/// Tells what nobody told, as far as the end of the trail (`last`) shows. There is no state item of the refused execution
/// whose version would let only one of two functions tell it.
async fn publish_first(
    context: &Context,
    operation: &Operation,
    trail: &Operation,
    last: Option<&Record>,
) -> Result<String, StepError> {
    let (topic, message, detail) = message(context, operation, None);
    let call = context.topic().publish(topic, &context.config.environment, &message);
    context.audited_after(trail, last, "sns:Publish", topic, detail, call).await
}

fn message<'a>(context: &'a Context, operation: &Operation, told: Option<Status>) -> (&'a str, Message, Value) {
    let message = compose(operation, &context.config.environment, told, context.clock.now());
    let detail = json!({ "status": message.status, "subject": message.subject, "told_before": told });
    (&context.config.topic_arn, message, detail)
}

/// The outcome as figures, once; how long a recovery took and how old its data is, for those that succeeded.
fn measure(context: &Context, operation: &Operation, told: &Value) {
    let now = context.clock.now();
    let outcome = [("Outcome", operation.status.as_str())];
    context.metrics.tell(&outcome, &[("Restores", Unit::Count, 1)], now);
    if operation.status == Status::Succeeded {
        let figure = |name, field: &str| Some((name, Unit::Seconds, told.get(field)?.as_u64()?));
        let figures: Vec<_> = [
            figure("RecoveryTimeSeconds", "recovery_time_seconds"),
            figure("RecoveryPointAgeSeconds", "recovery_point_age_seconds"),
            figure("DowntimeSeconds", "downtime_seconds"),
        ]
        .into_iter()
        .flatten()
        .collect();
        context.metrics.tell(&[], &figures, now);
    }
}
