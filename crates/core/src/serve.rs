//! Serves a step's invocations on Lambda: what every `main` calls.

use crate::clock::Clock;
use crate::config::{Config, Env};
use crate::context::Context;
use crate::error::StepError;
use crate::metrics::Unit;
use aurora_restore_domain::outcome::StepOutput;
use aurora_restore_domain::step::Step;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Runs the Lambda runtime with `step`'s handler until the process is stopped. The clients are built before the first
/// invocation, while Lambda gives full CPU.
///
/// # Errors
/// The runtime's own.
pub async fn serve<F>(step: Step, run: F) -> Result<(), lambda_runtime::Error>
where
    F: AsyncFn(&Context, Step, Value) -> Result<StepOutput, StepError>,
{
    // Boxed: futures within futures are more than the compiler lays out.
    serve_function(step.as_str(), async |context: &Context, input| Box::pin(run(context, step, input)).await).await
}

/// The same for a function that is no step; `name` is what logs and figures call it.
///
/// # Errors
/// The runtime's own.
pub async fn serve_function<F, T>(name: &'static str, run: F) -> Result<(), lambda_runtime::Error>
where
    F: AsyncFn(&Context, Value) -> Result<T, StepError>,
    T: Serialize,
{
    let env = Env::real();
    init_logs(&env);
    // A function that cannot start tells nobody why; one that answers every invocation with the reason does.
    let context = Config::from_env(&env).and_then(|config| Context::new(config, Clock::system(), &env));
    let (context, run) = (&context, &run);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let context = context.as_ref().map_err(|failure| StepError::from(failure.clone()))?;
        let operation_id = operation_of(&event.payload);
        run(context, event.payload).await.inspect_err(|error| {
            let dimensions = [("Step", name), ("Reason", &error.name().to_string())];
            context.metrics.tell(&dimensions, &[("Failures", Unit::Count, 1)], context.clock.now());
            tracing::error!(operation_id, step = name, error_name = %error.name(), "{name} failed: {error}");
        })
    }))
    .await
}

/// The operation that an input names, else the execution; for the log.
fn operation_of(input: &Value) -> String {
    let names = [input.get("operation_id"), input.pointer("/request/operation_id"), input.get("execution_name")];
    names.into_iter().flatten().find_map(Value::as_str).unwrap_or_default().to_owned()
}

/// JSON lines on standard output. Only our own records below `warn`: the SDK's debug records show request bodies.
fn init_logs(env: &Env) {
    let level = match env.get("LOG_LEVEL").map(|level| level.to_ascii_lowercase()).as_deref() {
        Some("error") => LevelFilter::ERROR,
        Some("warn") => LevelFilter::WARN,
        Some("debug") => LevelFilter::DEBUG,
        Some("trace") => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    };
    let ours = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        // It repeats every error that a step has logged already.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
        // Warnings that a script or a trigger raises hold whatever it puts there.
        .with_target("sqlx", LevelFilter::OFF)
        .with_target("aurora_restore", level);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_ansi(false);
    // A second initialisation in one process happens in tests only and changes nothing.
    let _ = tracing_subscriber::registry().with(lines).with(ours).try_init();
}
