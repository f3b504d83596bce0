//! Looks at the restored data as its users will: every declared user logs in and reads, inherited logins are closed,
//! the team's own queries hold. Any check that fails fails the restore.

use crate::database::{self, Opened};
use crate::follow::{Answer, follow, planned};
use aurora_restore_core::domain::engine::Engine;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::operation::{CheckState, Operation, Verification};
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::request::Verify;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::{Context, StepError};
use aurora_restore_database::{
    CheckResult, Checks, FreshnessCheck, RowCountCheck, SchemaCheck, SqlCheck, Table, Verdict,
};
use serde_json::{Value, json};

/// Handles one invocation.
///
/// # Errors
/// `VerificationFailed` with the checks that failed, `DatabaseUnreachable`, `SecretInvalid`.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, _) = planned(operation)?;
    let mut opened = database::open(context, operation, &request).await?;
    opened.sign_tokens(context).await?;
    let Opened { server, desired, passwords, master_database } = opened;
    let checks = checks(&request.verify, &master_database, server.engine());

    let results = server
        .verify(&desired, &passwords, &checks)
        .await
        .map_err(|error| database::failed("run the checks", error))?;
    let checks: Vec<CheckState> = results.into_iter().map(state).collect();
    let failed: Vec<String> =
        checks.iter().filter(|check| !check.passed).map(|check| format!("{} ({})", check.name, check.value)).collect();
    let name = operation.restored_name().unwrap_or_else(|| request.target_cluster_id.to_string());
    let verification = Verification { passed: failed.is_empty(), checks };
    context.record_event(operation, "aurora-restore:Verified", &name, json!(verification)).await?;
    let count = verification.checks.len();
    operation.verification = Some(verification);
    if failed.is_empty() {
        return Ok(Answer::done(json!({ "checks": count })));
    }
    Err(Failure::new(
        ErrorName::VerificationFailed,
        format!("{} of {count} checks of cluster {} failed: {}", failed.len(), name, failed.join("; ")),
    )
    .next("look at the data; the restored cluster stays for that; start again under the same operation_id when it is mended")
    .into())
}

/// What the request asks for, in the master's own database where it names none.
fn checks(verify: &Verify, master_database: &str, engine: Engine) -> Checks {
    let database = |name: &Option<String>| name.clone().unwrap_or_else(|| master_database.to_owned());
    let table = |text: &str, name: &Option<String>| match engine {
        Engine::PostgreSql => Table::parse(text),
        Engine::MySql => Table::in_database(text, &database(name)),
    };
    Checks {
        queries: verify
            .checks
            .iter()
            .map(|check| SqlCheck {
                name: check.name.clone(),
                database: database(&check.database),
                query: check.query.clone(),
            })
            .collect(),
        freshness: verify
            .freshness
            .iter()
            .map(|check| FreshnessCheck {
                database: database(&check.database),
                table: table(&check.table, &check.database),
                column: check.column.clone(),
                max_age_hours: check.max_age_hours,
            })
            .collect(),
        row_counts: verify
            .row_counts
            .iter()
            .map(|check| RowCountCheck {
                database: database(&check.database),
                table: table(&check.table, &check.database),
                min: check.min,
                max: check.max,
            })
            .collect(),
        schemas: verify
            .schemas
            .iter()
            .map(|check| SchemaCheck { database: database(&check.database), sha256: check.sha256.clone() })
            .collect(),
    }
}

fn state(result: CheckResult) -> CheckState {
    let value = [result.value, result.reason].into_iter().flatten().collect::<Vec<_>>().join("; ");
    CheckState { name: result.name, passed: result.verdict == Verdict::Passed, value, duration_ms: result.duration_ms }
}
