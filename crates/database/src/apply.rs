//! Carrying out what was decided.

use crate::connect::Session;
use crate::error::DatabaseError;
use crate::password::set_passwords;
use crate::server::{Passwords, Server, side_by_side};
use crate::statement::{statement, statements};
use aurora_restore_domain::roles::{RoleChange, RoleName, ServerVersion};
use sqlx::postgres::{PgConnection, PgTransaction};
use sqlx::{AssertSqlSafe, Connection};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Held while roles or rights are changed, so that two runs wait for each other: the bytes of "aurorest".
const ADVISORY_LOCK: i64 = i64::from_be_bytes(*b"aurorest");

/// Makes every change: those of the whole server in one transaction, then those of each database in one transaction
/// each. Repeating it, after a failure too, does no harm.
pub async fn apply(server: &Server, changes: &[RoleChange], passwords: &Passwords) -> Result<(), DatabaseError> {
    let mut databases: BTreeMap<&str, Vec<RoleChange>> = BTreeMap::new();
    let mut whole = vec![];
    for change in changes {
        match change.database() {
            Some(database) => databases.entry(database).or_default().push(change.clone()),
            None => whole.push(change),
        }
    }
    if !whole.is_empty() {
        let mut session = server.session(&server.database).await?;
        change_server(&mut session, &whole, passwords).await?;
        session.close().await;
    }
    let server = Arc::new(server.clone());
    side_by_side(databases, |(database, changes)| change_database(Arc::clone(&server), database.to_owned(), changes))
        .await
        .map(drop)
}

async fn change_server(
    session: &mut Session,
    changes: &[&RoleChange],
    passwords: &Passwords,
) -> Result<(), DatabaseError> {
    let version = version(&mut session.connection).await?;
    let mut transaction = begin(session).await?;
    let mut credentials = vec![];
    for change in changes {
        if let Some(sql) = statement(change, version)? {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut *transaction)
                .await
                .map_err(|error| DatabaseError::of_statement(change.to_string(), error))?;
        } else if let RoleChange::SetPassword { role } = change {
            credentials.push(passwords.credentials(role)?);
        }
    }
    set_passwords(&mut transaction, version, &credentials).await?;
    let committed = transaction.commit().await;
    committed.map_err(|error| DatabaseError::of_statement("commit the changes of roles", error))?;
    for change in changes {
        if let RoleChange::EndSessions { role } = change {
            end_sessions(&mut session.connection, version, role).await?;
        }
    }
    Ok(())
}

async fn change_database(server: Arc<Server>, name: String, changes: Vec<RoleChange>) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::of_statement(format!("change the rights in database {name}"), error);
    let mut session = server.session(&name).await?;
    let version = version(&mut session.connection).await?;
    let statements = statements(&changes, version)?;
    let mut transaction = begin(&mut session).await?;
    // One round trip for all of them; they are one transaction anyway.
    sqlx::raw_sql(AssertSqlSafe(statements.join(";\n"))).execute(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    session.close().await;
    Ok(())
}

async fn begin(session: &mut Session) -> Result<PgTransaction<'_>, DatabaseError> {
    let failed = |error| DatabaseError::of_statement("begin its changes while another run may be at it", error);
    let mut transaction = session.connection.begin().await.map_err(failed)?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ADVISORY_LOCK);
    lock.execute(&mut *transaction).await.map_err(failed)?;
    Ok(transaction)
}

async fn version(connection: &mut PgConnection) -> Result<ServerVersion, DatabaseError> {
    let version: (i32,) = sqlx::query_as("SELECT current_setting('server_version_num')::int")
        .fetch_one(connection)
        .await
        .map_err(|error| DatabaseError::of_statement("tell its version", error))?;
    Ok(ServerVersion(version.0.unsigned_abs()))
}

/// Ends the sessions of a login, but our own, and waits for their end where the server can (since 14).
async fn end_sessions(
    connection: &mut PgConnection,
    version: ServerVersion,
    role: &RoleName,
) -> Result<(), DatabaseError> {
    const END: &str =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()";
    const END_AND_WAIT: &str = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
        WHERE usename = $1 AND pid <> pg_backend_pid()";
    let query = if version.major() >= 14 { END_AND_WAIT } else { END };
    sqlx::query(query)
        .bind(role.as_str())
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| DatabaseError::of_statement(format!("end the sessions of {role}"), error))
}
