//! Masking: before the declared users can log in, the team's scripts run on the restored data, one after the other, each
//! once. Longer than one invocation: the step answers `waiting` between two scripts.

use crate::database::{self, Opened};
use crate::follow::Answer;
use crate::setup_db_users::{CHANGES_MAX, former_sessions_ended, has_former_sessions};
use aurora_restore_core::aws::{Called, s3::Object};
use aurora_restore_core::domain::decide::mask::{Decision, Script, database_of, decide};
use aurora_restore_core::domain::decide::mask_mysql::refusal;
use aurora_restore_core::domain::engine::Engine;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::operation::{MaskedScript, Operation};
use aurora_restore_core::domain::request::{Masking, Request, Scripts};
use aurora_restore_core::domain::sabotage::Sabotage;
use aurora_restore_core::domain::{Instant, seconds_between, sha256_hex, shorten, timestamp};
use aurora_restore_core::{Context, StepError};
use aurora_restore_database::{DatabaseError, MaskScript};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// After so many seconds no further script begins: a Lambda ends after 15 minutes, and a script may take 12.
const BEGIN_WITHIN_SECONDS: u64 = 120;
/// The most scripts, and the most of their text together: what a function of 128 MB holds with ease.
const SCRIPTS_MAX: usize = 200;
const MIB: u64 = 1024 * 1024;
const SCRIPTS_BYTES_MAX: u64 = 16 * MIB;
/// Somebody who logs in between a look and the lock shows in the next look.
const ROUNDS_AT_MOST: usize = 5;

/// Runs what is left to run. Answers what to say when that takes another invocation; `None` when all scripts have run.
pub(crate) async fn mask(
    context: &Context,
    operation: &mut Operation,
    masking: &Masking,
    opened: &Opened,
) -> Result<Option<Answer>, StepError> {
    let began = context.clock.now();
    let scripts = scripts(context, masking, &opened.master_database).await?;
    if opened.server.engine() == Engine::MySql
        && let Some(problem) = unfit_for_mysql(&scripts).into_iter().next()
    {
        return Err(invalid(problem));
    }
    let known = |script: &MaskScript| Script {
        name: script.name.clone(),
        sha256: script.sha256.clone(),
        database: script.database.clone(),
    };
    let known: Vec<Script> = scripts.iter().map(known).collect();
    let state = operation.masking.get_or_insert_default();
    if matches!(decide(&known, &state.scripts), Decision::Run(_)) {
        // Also for scripts that were added after an earlier execution had set the users up.
        state.done = false;
        close(context, operation, opened).await?;
    }
    let mut ran = 0;
    loop {
        let state = operation.masking.get_or_insert_default();
        match decide(&known, &state.scripts) {
            Decision::Refuse(failure) => return Err(failure.into()),
            Decision::Done => break,
            Decision::Run(position) if ran > 0 && is_late(began, context.clock.now()) => {
                let progress = format!("{position} of {} masking scripts have run", scripts.len());
                return Ok(Some(Answer::waiting(1, progress)));
            }
            Decision::Run(position) => {
                if let Some(script) = scripts.get(position) {
                    run(context, operation, opened, script).await?;
                }
                ran += 1;
            }
        }
    }
    if let Some(state) = operation.masking.as_mut().filter(|state| !state.done) {
        state.done = true;
        context.store.save(operation, context.clock.now()).await?;
    }
    let databases: BTreeSet<String> = scripts.iter().map(|script| script.database.clone()).collect();
    let forgotten = opened.server.forget_masked(&databases).await;
    forgotten.map_err(|error| database::failed("clean up after masking", error))?;
    Ok(None)
}

fn is_late(began: Instant, now: Instant) -> bool {
    seconds_between(began, now) > BEGIN_WITHIN_SECONDS
}

/// Nobody but the master gets in while data is as it was in production.
async fn close(context: &Context, operation: &mut Operation, opened: &Opened) -> Result<(), StepError> {
    let Opened { server, desired, passwords, .. } = opened;
    let endpoint = server.endpoint().to_string();
    for round in 0..ROUNDS_AT_MOST {
        let seen =
            server.look(desired, passwords).await.map_err(|error| database::failed("look at the roles", error))?;
        let mut changes = seen.closing(desired);
        if has_former_sessions(operation) {
            changes.extend(seen.ending_of_the_masters_sessions());
        }
        // Remembered before it is done, for an execution whose request declares them no more. And a claim, as before each
        // script: a late function locks nobody out whom another has set up meanwhile.
        let closed = &mut operation.masking.get_or_insert_default().closed;
        let known = closed.len();
        closed.extend(changes.closed());
        if round == 0 || closed.len() > known {
            context.store.save(operation, context.clock.now()).await?;
        }
        if changes.is_empty() || Sabotage::MaskWhileOpen.is_on() {
            former_sessions_ended(operation);
            return Ok(());
        }
        let call = async {
            let closed = server.make(&changes, passwords).await;
            closed
                .map(|()| Called { value: (), request_id: None })
                .map_err(|error| database::failed("lock the logins before masking", error))
        };
        let words = shorten(&changes.describe(), CHANGES_MAX);
        context.mutate(operation, "database:LockLogins", &endpoint, json!(words), call).await?;
        former_sessions_ended(operation);
    }
    Err(Failure::new(
        ErrorName::DatabaseRejected,
        format!(
            "somebody but the master is still in after {ROUNDS_AT_MOST} rounds of locking logins; nothing was masked"
        ),
    )
    .next("look at the last changes in the audit trail: something lets them in again")
    .into())
}

async fn run(
    context: &Context,
    operation: &mut Operation,
    opened: &Opened,
    script: &MaskScript,
) -> Result<(), StepError> {
    // A claim: of two functions at work on one operation, the one that read it earlier ends here.
    context.store.save(operation, context.clock.now()).await?;
    let call = async {
        let masked = opened.server.mask(operation.operation_id.as_str(), script).await;
        masked.map(|value| Called { value, request_id: None }).map_err(|error| {
            let is_spoiled = matches!(error, DatabaseError::ScriptSpoiled { .. });
            let again = match (is_spoiled, opened.server.engine()) {
                (true, Engine::PostgreSql) => {
                    "start a new operation, which restores the data as it was (a script leaves BEGIN, COMMIT and ROLLBACK to us)"
                }
                (true, Engine::MySql) => {
                    "start a new operation, which restores the data as it was (what commits by itself, as each change of a schema does, is best in a file of its own)"
                }
                (false, Engine::PostgreSql | Engine::MySql) => "start again under the same operation_id",
            };
            let mut error = database::failed("mask the data", error);
            error.failure.next = Some(format!("mend the script, then {again}; until then only the master can log in"));
            error
        })
    };
    let detail = json!({ "database": script.database, "sha256": script.sha256 });
    let statements = context.mutate(operation, "database:Mask", &script.name, detail, call).await?;
    operation.masking.get_or_insert_default().scripts.push(MaskedScript {
        name: script.name.clone(),
        sha256: script.sha256.clone(),
        database: script.database.clone(),
        statements,
        finished_at: timestamp(context.clock.now()),
    });
    context.store.save(operation, context.clock.now()).await
}

/// Whether the scripts can run, as far as can be told before there is a cluster.
///
/// Answers what stands against them if it is a MySQL that is restored, which is not known yet.
///
/// # Errors
/// As [`scripts`].
pub(crate) async fn preflight(
    context: &Context,
    request: &Request,
    masking: &Masking,
    master_database: Option<&str>,
) -> Result<Vec<String>, StepError> {
    let scripts = scripts(context, masking, master_database.unwrap_or_default()).await?;
    let nowhere = scripts.iter().find(|script| script.database.is_empty());
    match (nowhere, &request.managed_master) {
        (Some(script), Some(_)) => Err(Failure::new(
            ErrorName::InvalidRequest,
            format!(
                "masking.scripts: {} is in no folder, and RDS's secret for a managed master password names no database for it; takes DATABASE/{}",
                script.name, script.name
            ),
        )
        .into()),
        (Some(_) | None, _) => {
            Ok(unfit_for_mysql(&scripts).into_iter().map(|problem| format!("masking.scripts: {problem}")).collect())
        }
    }
}

/// What a MySQL could not run of them, and why.
fn unfit_for_mysql(scripts: &[MaskScript]) -> Vec<String> {
    let of_script = |MaskScript { name, database, sql, .. }: &MaskScript| {
        let nowhere = database.is_empty().then(|| {
            format!("{name} is in no folder, and the master's secret names no database for it; takes DATABASE/{name}")
        });
        nowhere.into_iter().chain(refusal(sql).map(|why| format!("{name}, {why}")))
    };
    scripts.iter().flat_map(of_script).collect()
}

fn invalid(what: String) -> StepError {
    Failure::new(ErrorName::InvalidRequest, format!("masking.scripts: {what}"))
        .next("mend what is there, then start again under the same operation_id")
        .into()
}

/// Every script, in the order of their names.
///
/// # Errors
/// `InvalidRequest` when there is none, or one that cannot be run; else what S3 says.
pub(crate) async fn scripts(
    context: &Context,
    masking: &Masking,
    master_database: &str,
) -> Result<Vec<MaskScript>, StepError> {
    let place = &masking.scripts;
    let mut found: Vec<(String, u64)> = match place {
        Scripts::S3 { bucket, prefix } => {
            let (objects, more) = context.s3.objects(bucket, prefix).await?;
            if more {
                return Err(invalid(format!("{place} holds more than 1,000 objects")));
            }
            let below = |object: Object| Some((object.key.strip_prefix(prefix.as_str())?.to_owned(), object.size));
            objects.into_iter().filter_map(below).collect()
        }
        Scripts::Folder(path) => files_below(Path::new(path)).map_err(|error| invalid(format!("{place}: {error}")))?,
    };
    found.retain(|(name, _)| name.ends_with(".sql"));
    found.sort();
    // Nothing to mask, although it was asked for, is a mistake and not a success.
    if found.is_empty() {
        return Err(invalid(format!("{place} holds no .sql file")));
    }
    if found.len() > SCRIPTS_MAX {
        return Err(invalid(format!("{place} holds {} scripts; takes at most {SCRIPTS_MAX}", found.len())));
    }
    let bytes = found.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
    if bytes > SCRIPTS_BYTES_MAX {
        let (bytes, most) = (bytes.div_ceil(MIB), SCRIPTS_BYTES_MAX / MIB);
        return Err(invalid(format!("{place} holds scripts of {bytes} MiB; takes at most {most}")));
    }
    let mut scripts = Vec::new();
    for (name, _) in found {
        let bytes = match place {
            Scripts::S3 { bucket, prefix } => context.s3.object(bucket, &format!("{prefix}{name}")).await?,
            Scripts::Folder(path) => {
                std::fs::read(Path::new(path).join(&name)).map_err(|error| invalid(format!("{name}: {error}")))?
            }
        };
        let sha256 = sha256_hex(&bytes);
        let sql = String::from_utf8(bytes).map_err(|_| invalid(format!("{name} is not UTF-8")))?;
        let database = database_of(&name, master_database).to_owned();
        scripts.push(MaskScript { name, database, sha256, sql });
    }
    Ok(scripts)
}

/// Paths of the files below `folder` and its folders, relative to it, and their bytes.
fn files_below(folder: &Path) -> std::io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            let (path, about) = (entry.path(), entry.metadata()?);
            match path.is_dir() {
                true => folders.push(path),
                false => files.extend(
                    path.strip_prefix(folder).ok().map(|name| (name.to_string_lossy().into_owned(), about.len())),
                ),
            }
        }
    }
    Ok(files)
}
