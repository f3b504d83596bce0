//! Carrying out what was decided. Every statement about accounts commits at once: the order is what keeps a run that is cut
//! short safe, see [`AccountChange`].

use super::flavor::identified;
use super::hash::Scheme;
use super::observe::open;
use super::quote::{quote_account, quote_text};
use super::session::Session;
use super::statement::statement;
use super::{flavor, session};
use crate::error::{DatabaseError, mysql_number};
use crate::server::{Passwords, Server};
use aurora_restore_domain::accounts::{Account, AccountChange, Flavor};
use aurora_restore_domain::roles::{Authentication, RoleName};
use std::time::Duration;

/// Held while accounts are changed, so that two runs wait for each other.
const LOCK: &str = "SELECT get_lock('aurora-restore', 10)";
/// How long sessions may take to end.
const END_ATTEMPTS: u32 = 50;
const END_PAUSE: Duration = Duration::from_millis(100);

/// What a `REVOKE` meets when there is nothing to revoke: on the server or a database, on a table, on a routine; a role.
const NOTHING_TO_REVOKE: [u16; 5] = [1141, 1147, 1403, 1962, 3530];
/// No such session: it has ended by itself.
const NO_SUCH_THREAD: u16 = 1094;
/// A session of somebody else's that only others may end; a right is lacking.
const NOT_OURS_TO_END: [u16; 2] = [1095, 1227];

/// Makes every change, in order. Repeating it, after a failure too, does no harm.
pub(crate) async fn apply(
    server: &Server,
    changes: &[AccountChange],
    passwords: &Passwords,
) -> Result<(), DatabaseError> {
    let mut session = open(server).await?;
    let held = session.rows("wait for another run to end", LOCK).await?;
    if !held.first().is_some_and(|row| row.flag(0)) {
        return Err(DatabaseError::Busy { what: "another run is changing the accounts".into() });
    }
    if changes.iter().any(sets_password) {
        silence(&mut session).await;
    }
    for change in changes {
        make(&mut session, change, passwords).await?;
    }
    session.close().await;
    Ok(())
}

async fn make(session: &mut Session, change: &AccountChange, passwords: &Passwords) -> Result<(), DatabaseError> {
    if let Some(sql) = statement(change, session.flavor)? {
        let done = session.run(&change.to_string(), sql).await;
        let is_revoke = matches!(change, AccountChange::Revoke { .. } | AccountChange::RevokeRole { .. });
        return match done {
            Err(error) if is_revoke && mysql_number_of(&error).is_some_and(|n| NOTHING_TO_REVOKE.contains(&n)) => {
                Ok(())
            }
            done => done,
        };
    }
    match change {
        AccountChange::Create { account, login: Authentication::Password } => {
            set_password(session, "CREATE USER IF NOT EXISTS", change, account, passwords).await
        }
        AccountChange::SetPassword { account } => set_password(session, "ALTER USER", change, account, passwords).await,
        AccountChange::EndSessions { user } => end_sessions(session, user).await,
        AccountChange::Create { login: Authentication::Iam, .. }
        | AccountChange::TakeTokens { .. }
        | AccountChange::Lock { .. }
        | AccountChange::Close { .. }
        | AccountChange::RevokeRole { .. }
        | AccountChange::DiscardFormerPassword { .. }
        | AccountChange::RevokeAll { .. }
        | AccountChange::Revoke { .. }
        | AccountChange::Grant { .. }
        | AccountChange::SetAttributes { .. } => Ok(()),
    }
}

fn sets_password(change: &AccountChange) -> bool {
    matches!(change, AccountChange::Create { login: Authentication::Password, .. } | AccountChange::SetPassword { .. })
}

/// Keeps the session's statements out of the general and the slow log, where the master may. Both would show a hash:
/// MySQL 8 hides what follows `IDENTIFIED BY` and not what follows `AS`. Where it may not, `observe` tells so. The binary log
/// keeps the hash, which replicas need, and so does the statement history of `performance_schema`.
async fn silence(session: &mut Session) {
    for setting in
        ["SET SESSION sql_log_off = ON", "SET SESSION slow_query_log = OFF", "SET SESSION long_query_time = 3600"]
    {
        // Not every server knows each of them, nor may every master set them.
        if session.run("be silent", setting).await.is_err() {
            tracing::debug!(setting, "the server does not let the session be silent");
        }
    }
}

/// The server gets what it is to keep, never the password; and what it says about a statement with a hash is not passed on.
async fn set_password(
    session: &mut Session,
    verb: &str,
    change: &AccountChange,
    account: &Account,
    passwords: &Passwords,
) -> Result<(), DatabaseError> {
    let role = RoleName::try_from(account.user.as_str())
        .map_err(|error| session::unexpected(format!("a declared user whose name {error}")))?;
    let scheme: Scheme = flavor::scheme_of(session.flavor);
    let kept = scheme.hash(&passwords.credentials(&role)?.password)?;
    let sql = format!("{verb} {} {}", quote_account(account)?, identified(session.flavor, &kept));
    session.run(&change.to_string(), sql).await.map_err(DatabaseError::without_words)
}

/// Ends the sessions of a user that is locked by now, and waits for their end. On RDS the master may end those of others
/// with `mysql.rds_kill`; `KILL` takes a right that not every master has.
async fn end_sessions(session: &mut Session, user: &str) -> Result<(), DatabaseError> {
    let what = format!("end the sessions of {user}");
    let query = format!(
        "SELECT id FROM information_schema.processlist WHERE user = {} AND id <> connection_id()",
        quote_text(user)
    );
    for _ in 0..END_ATTEMPTS {
        let rows = session.rows(&what, query.as_str()).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let text = row.text(0)?;
            let id: u64 = text.parse().map_err(|_| session::unexpected(format!("a session of number {text:?}")))?;
            end_session(session, &what, id).await?;
        }
        tokio::time::sleep(END_PAUSE).await;
    }
    Err(DatabaseError::Busy { what: format!("the sessions of {user} do not end") })
}

/// Tells a session to end, which takes a moment; one that is gone by itself is no error.
pub(super) async fn end_session(session: &mut Session, what: &str, id: u64) -> Result<(), DatabaseError> {
    let number = |done: &Result<(), DatabaseError>| done.as_ref().err().and_then(mysql_number_of);
    let mut done = session.run(what, format!("KILL {id}")).await;
    if session.flavor == Flavor::MySql8 && number(&done).is_some_and(|n| NOT_OURS_TO_END.contains(&n)) {
        done = session.run(what, format!("CALL mysql.rds_kill({id})")).await;
    }
    if number(&done) == Some(NO_SUCH_THREAD) { Ok(()) } else { done }
}

fn mysql_number_of(error: &DatabaseError) -> Option<u16> {
    error.sqlstate().and_then(mysql_number)
}
