//! Ends a wait of the state machine when RDS tells that something has happened to what is waited for. No step: it looks at
//! nothing and changes nothing but how soon the next look is. Without it the wait ends by its time.
//!
//! The state machine hands it the token of each such wait, and EventBridge the events of RDS. An event that is lost or late
//! costs time; one that is doubled, or about something else, a call.

use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::ids::OperationId;
use aurora_restore_core::domain::phase::resource_of;
use aurora_restore_core::{Context, StepError};
use serde::Deserialize;
use serde_json::{Value, json};

/// A wait that begins, as the state machine tells it.
#[derive(Debug, Deserialize)]
struct Begun {
    operation_id: OperationId,
    task_token: String,
    waits_for: Vec<String>,
    wait_seconds: u64,
}

/// An event of RDS, as EventBridge brings it: what of it is used.
#[derive(Debug, Deserialize)]
struct Event {
    detail: Detail,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Detail {
    source_arn: String,
    #[serde(default, rename = "EventID")]
    event_id: String,
}

/// Handles one invocation: a wait that begins, or an event.
///
/// # Errors
/// `InvalidRequest` for an input that is neither, and what AWS says.
pub async fn run(context: &Context, input: Value) -> Result<Value, StepError> {
    match input.get("task_token") {
        Some(_) => keep(context, read(input)?).await,
        None => wake(context, read(input)?).await,
    }
}

fn read<T: for<'de> Deserialize<'de>>(input: Value) -> Result<T, Failure> {
    serde_json::from_value(input).map_err(|error| {
        let takes = "takes an event of RDS, or operation_id, task_token, waits_for and wait_seconds of a wait";
        Failure::new(ErrorName::InvalidRequest, format!("the input of wake is wrong: {error}; {takes}"))
            .left("nothing was touched")
    })
}

async fn keep(context: &Context, begun: Begun) -> Result<Value, StepError> {
    let now = context.clock.now();
    for resource in &begun.waits_for {
        let operation = begun.operation_id.as_str();
        context.store.keep_wait(resource, operation, &begun.task_token, begun.wait_seconds, now).await?;
    }
    Ok(json!({ "waits_for": begun.waits_for }))
}

async fn wake(context: &Context, Event { detail }: Event) -> Result<Value, StepError> {
    let Detail { source_arn, event_id } = detail;
    let wait = match resource_of(&source_arn) {
        Some(resource) => context.store.wait_for(resource).await?,
        None => None,
    };
    let Some(wait) = wait.filter(|wait| !wait.is_over(context.clock.now())) else {
        return Ok(json!({ "woken": false }));
    };
    context.pause(wait.seconds_too_early(context.clock.now())).await;
    let woken = context.executions().wake(&wait.task_token).await?;
    let operation_id = wait.waiting_operation;
    tracing::info!(%operation_id, source_arn, event_id, woken, "event {event_id} of {source_arn}");
    Ok(json!({ "operation_id": operation_id, "woken": woken }))
}
