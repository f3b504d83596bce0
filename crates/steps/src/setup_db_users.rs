//! Masks the data if asked to; then makes the declared users so and locks inherited logins, until an observation finds
//! nothing left to do.

use crate::database::{self, Database, Opened};
use crate::follow::{Answer, follow, planned};
use crate::mask::mask;
use aurora_restore_core::aws::Called;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::operation::{DeclaredState, Operation, UsersState};
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::roles::Authentication;
use aurora_restore_core::domain::shorten;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::{Context, StepError};
use aurora_restore_database::{Changes, Passwords, Seen, SetupReport};
use serde_json::{Value, json};

/// A database that was closed to the master needs a second round; the third only finds nothing.
const ROUNDS_AT_MOST: usize = 4;

/// Sentences about changes that an item keeps: DynamoDB takes 400 KB, and a database can have thousands of schemas.
pub(crate) const CHANGES_MAX: usize = 500;

/// Handles one invocation.
///
/// # Errors
/// `DatabaseUnreachable`, `DatabaseRejected`, `SecretInvalid`, `InvalidRequest` (scripts, users).
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, _) = planned(operation)?;
    let opened = database::open(context, operation, &request).await?;
    // Boxed: futures within futures, and with it they are more than the compiler lays out.
    if let Some(masking) = &request.masking
        && let Some(answer) = Box::pin(mask(context, operation, masking, &opened)).await?
    {
        return Ok(answer);
    }
    let Opened { server, desired, passwords, .. } = opened;
    let endpoint = server.endpoint().to_string();

    let mut done = Changes::none(server.engine());
    for _ in 0..ROUNDS_AT_MOST {
        let seen =
            server.look(&desired, &passwords).await.map_err(|error| database::failed("look at the roles", error))?;
        let missing = seen.missing_places(&desired);
        if !missing.is_empty() {
            return Err(Failure::new(ErrorName::InvalidRequest, missing.join("; "))
                .next("mend 'users', then start again under the same operation_id")
                .into());
        }
        if has_former_sessions(operation) {
            end_former_sessions(context, operation, &server, &seen).await?;
        }
        let changes = seen.changes(&desired);
        if changes.is_empty() {
            let report = seen.report(&desired, &done);
            let answer = Answer::done(json!({ "changes": report.changes.len(), "locked": report.locked }));
            operation.users = Some(state(report));
            return Ok(answer);
        }
        let call = async {
            let applied = server.make(&changes, &passwords).await;
            applied
                .map(|()| Called { value: (), request_id: None })
                .map_err(|error| database::failed("change the roles", error))
        };
        context
            .mutate(
                operation,
                "database:ChangeRoles",
                &endpoint,
                json!(shorten(&changes.describe(), CHANGES_MAX)),
                call,
            )
            .await?;
        done.extend(changes);
    }
    Err(Failure::new(
        ErrorName::DatabaseRejected,
        format!("the roles are still not as declared after {ROUNDS_AT_MOST} rounds of changes"),
    )
    .next("look at the last changes in the audit trail: something in the database undoes them")
    .into())
}

/// Whether the master may be in with production's password, which it had until its reset. Once for a restored cluster: later
/// sessions are of people with the new one.
pub(crate) fn has_former_sessions(operation: &Operation) -> bool {
    operation.cluster.as_ref().is_some_and(|state| !state.former_sessions_ended)
}

pub(crate) fn former_sessions_ended(operation: &mut Operation) {
    if let Some(state) = &mut operation.cluster {
        state.former_sessions_ended = true;
    }
}

async fn end_former_sessions(
    context: &Context,
    operation: &mut Operation,
    server: &Database,
    seen: &Seen,
) -> Result<(), StepError> {
    let changes = seen.ending_of_the_masters_sessions();
    if !changes.is_empty() {
        let call = async {
            let made = server.make(&changes, &Passwords::default()).await;
            made.map(|()| Called { value: (), request_id: None })
                .map_err(|error| database::failed("end the master's former sessions", error))
        };
        let endpoint = server.endpoint().to_string();
        context.mutate(operation, "database:EndSessions", &endpoint, json!(changes.describe()), call).await?;
    }
    former_sessions_ended(operation);
    Ok(())
}

fn state(report: SetupReport) -> UsersState {
    UsersState {
        databases: report.databases,
        declared: report
            .declared
            .into_iter()
            .map(|user| DeclaredState {
                key: user.key,
                role: user.role.to_string(),
                profile: user.profile.as_str().to_owned(),
                limited: !user.limits.is_none(),
                iam: user.login == Authentication::Iam,
            })
            .collect(),
        locked: shorten(&report.locked, CHANGES_MAX),
        left: shorten(&report.left, CHANGES_MAX),
        changes: shorten(&report.changes, CHANGES_MAX),
        notes: shorten(&report.notes, CHANGES_MAX),
    }
}
