//! Carrying out what was decided.

use crate::connect::Session;
use crate::error::{DatabaseError, ErrorClass};
use crate::password::set_passwords;
use crate::quote::quote_identifier;
use crate::server::{Passwords, Server, side_by_side};
use crate::statement::{statement, statements};
use aurora_restore_domain::roles::{RoleChange, RoleName, ServerVersion};
use aurora_restore_domain::shorten;
use sqlx::postgres::{PgConnection, PgTransaction};
use sqlx::{AssertSqlSafe, Connection};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Held while roles or rights are changed, so that two runs wait for each other: the bytes of "aurorest".
const ADVISORY_LOCK: i64 = i64::from_be_bytes(*b"aurorest");

/// Memberships that an error names: a server may have hundreds of owners.
const BEGUN_TOLD_MAX: usize = 20;

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
        // Boxed: the compiler lays out futures within futures to a certain depth only.
        Box::pin(prove_master(server, &mut session, &whole)).await?;
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

/// Where memberships have begun, looks whether the master can still log in, and ends them if not.
///
/// RDS takes no password from a member of `rds_iam`, over any number of memberships, and that the master has become one
/// shows at its next login. Domain's `diff` makes none of which it is known; what else leads there, a role of the source that
/// the master is a member of and that a user belongs to, is found here, while somebody can still mend it.
async fn prove_master(server: &Server, session: &mut Session, changes: &[&RoleChange]) -> Result<(), DatabaseError> {
    let mut begun = vec![];
    let mut ends = vec![];
    for change in changes {
        if let RoleChange::GrantMembership { role, member } = change {
            begun.push(change.to_string());
            ends.push(format!(
                "REVOKE {} FROM {}",
                quote_identifier(role.as_str())?,
                quote_identifier(member.as_str())?
            ));
        }
    }
    if begun.is_empty() {
        return Ok(());
    }
    let Err(error) = server.try_master().await else { return Ok(()) };
    tracing::warn!(changes = begun.len(), "the master cannot log in after memberships began: they are ended again");
    let taken_back = sqlx::raw_sql(AssertSqlSafe(ends.join("; "))).execute(&mut session.connection).await;
    taken_back.map_err(|error| DatabaseError::of_statement("take back memberships that shut the master out", error))?;
    Err(match error.class() {
        ErrorClass::LoginRefused => {
            let (master, changes) = (server.master.role.clone(), shorten(&begun, BEGUN_TOLD_MAX));
            DatabaseError::ShutOut { master, changes, source: Box::new(error) }
        }
        ErrorClass::Unreachable | ErrorClass::Rejected | ErrorClass::Invalid => error,
    })
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
