//! Masking: before the declared users can log in, the team's scripts run on the restored data, one after the other, each
//! once. Longer than one invocation: the step answers `waiting` between two scripts.

use crate::database::{self, Opened};
use crate::follow::Answer;
use aurora_restore_core::aws::Called;
use aurora_restore_core::domain::decide::mask::{Decision, Script, database_of, decide};
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::operation::{MaskedScript, Operation};
use aurora_restore_core::domain::request::{Masking, Scripts};
use aurora_restore_core::domain::roles::{DeclaredUser, RoleChange, RoleName, describe, diff};
use aurora_restore_core::domain::{Instant, seconds_between, sha256_hex, timestamp};
use aurora_restore_core::{Context, StepError};
use aurora_restore_database::MaskScript;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// After so many seconds no further script begins: a Lambda ends after 15 minutes, and a statement may take 12.
const BEGIN_WITHIN_SECONDS: u64 = 120;
/// The largest script, and the most of them: what a function of 128 MB holds with ease.
const SCRIPT_BYTES_MAX: usize = 1024 * 1024;
const SCRIPTS_MAX: usize = 200;

/// Runs what is left to run. Answers what to say when that takes another invocation; `None` when all scripts have run.
pub(crate) async fn mask(
    context: &Context,
    operation: &mut Operation,
    masking: &Masking,
    opened: &Opened,
) -> Result<Option<Answer>, StepError> {
    let began = context.clock.now();
    let scripts = scripts(context, masking, &opened.master_database).await?;
    let known: Vec<Script> =
        scripts.iter().map(|script| Script { name: script.name.clone(), sha256: script.sha256.clone() }).collect();
    let state = operation.masking.get_or_insert_default();
    if matches!(decide(&known, &state.scripts), Decision::Run(_)) {
        // Also for scripts that were added after an earlier execution had set the users up.
        state.done = false;
        close(context, operation, opened).await?;
    }
    loop {
        let state = operation.masking.get_or_insert_default();
        match decide(&known, &state.scripts) {
            Decision::Refuse(failure) => return Err(failure.into()),
            Decision::Done => break,
            Decision::Run(position) if is_late(began, context.clock.now()) => {
                let progress = format!("{position} of {} masking scripts have run", scripts.len());
                return Ok(Some(Answer::waiting(1, progress)));
            }
            Decision::Run(position) => {
                if let Some(script) = scripts.get(position) {
                    run(context, operation, opened, script).await?;
                }
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

/// Nobody but the master gets in while data is as it was in production: inherited logins are locked as they will be
/// anyway, the declared users until they are set up. The master becomes a member of the owners, to change their tables.
async fn close(context: &Context, operation: &Operation, opened: &Opened) -> Result<(), StepError> {
    let Opened { server, desired, passwords, .. } = opened;
    let observed =
        server.observe(desired, passwords).await.map_err(|error| database::failed("look at the roles", error))?;
    let is_closing = |change: &RoleChange| {
        matches!(change, RoleChange::LockLogin { .. } | RoleChange::EndSessions { .. })
            || matches!(change, RoleChange::RevokeMembership { member, .. } if !desired.declares(member))
            || matches!(change, RoleChange::GrantMembership { role, member } if *member == observed.master && observed.role(role).is_some())
    };
    let changes: Vec<RoleChange> = diff(desired, &observed).into_iter().filter(is_closing).collect();
    let can_log_in = |user: &&DeclaredUser| observed.role(&user.role).is_some_and(|role| role.attributes.login);
    let open: Vec<RoleName> = desired.declared().iter().filter(can_log_in).map(|user| user.role.clone()).collect();
    if changes.is_empty() && open.is_empty() {
        return Ok(());
    }
    let mut words = describe(&changes);
    words.extend(open.iter().map(|role| format!("lock out {role} until it is set up")));
    let call = async {
        let closed = async {
            server.apply(&changes, passwords).await?;
            server.lock_out(&open).await
        };
        let closed = closed.await;
        closed
            .map(|()| Called { value: (), request_id: None })
            .map_err(|error| database::failed("lock the logins before masking", error))
    };
    let endpoint = server.endpoint().to_string();
    context.mutate(operation, "database:LockLogins", &endpoint, json!(words), call).await
}

async fn run(
    context: &Context,
    operation: &mut Operation,
    opened: &Opened,
    script: &MaskScript,
) -> Result<(), StepError> {
    let call = async {
        let masked = opened.server.mask(script).await;
        masked.map(|value| Called { value, request_id: None }).map_err(|error| {
            let mut error = database::failed("mask the data", error);
            error.failure.next = Some(
                "mend the script, then start again under the same operation_id; until then only the master can log in"
                    .into(),
            );
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
    let invalid = |what: String| {
        StepError::from(
            Failure::new(ErrorName::InvalidRequest, format!("masking.scripts: {what}"))
                .next("mend what is there, then start again under the same operation_id"),
        )
    };
    let mut names = match place {
        Scripts::S3 { bucket, prefix } => {
            let (keys, more) = context.s3.keys(bucket, prefix).await?;
            if more {
                return Err(invalid(format!("{place} holds more than {SCRIPTS_MAX} objects")));
            }
            keys.into_iter().filter_map(|key| key.strip_prefix(prefix.as_str()).map(str::to_owned)).collect()
        }
        Scripts::Folder(path) => names_below(Path::new(path)).map_err(|error| invalid(format!("{place}: {error}")))?,
    };
    names.retain(|name| name.ends_with(".sql"));
    names.sort();
    // Nothing to mask, although it was asked for, is a mistake and not a success.
    if names.is_empty() {
        return Err(invalid(format!("{place} holds no .sql file")));
    }
    if names.len() > SCRIPTS_MAX {
        return Err(invalid(format!("{place} holds {} scripts; takes at most {SCRIPTS_MAX}", names.len())));
    }
    let mut scripts = Vec::new();
    for name in names {
        let bytes = match place {
            Scripts::S3 { bucket, prefix } => context.s3.object(bucket, &format!("{prefix}{name}")).await?,
            Scripts::Folder(path) => {
                std::fs::read(Path::new(path).join(&name)).map_err(|error| invalid(format!("{name}: {error}")))?
            }
        };
        if bytes.len() > SCRIPT_BYTES_MAX {
            return Err(invalid(format!("{name} is larger than 1 MiB; split it")));
        }
        let sha256 = sha256_hex(&bytes);
        let sql = String::from_utf8(bytes).map_err(|_| invalid(format!("{name} is not UTF-8")))?;
        let database = database_of(&name, master_database).to_owned();
        scripts.push(MaskScript { name, database, sha256, sql });
    }
    Ok(scripts)
}

/// Paths of the files below `folder` and its folders, relative to it.
fn names_below(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => names.extend(path.strip_prefix(folder).ok().map(|name| name.to_string_lossy().into_owned())),
            }
        }
    }
    Ok(names)
}
