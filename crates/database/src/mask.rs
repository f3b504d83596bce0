//! Masking: scripts of the team's own, each in one transaction, each exactly once.
//!
//! That a script has run is written in the same transaction, into a table of a schema of ours: a function that is killed
//! after the commit and before it could tell anybody does not run it twice. [`forget_masked`] removes the schema.

use crate::connect::{Purpose, Session};
use crate::error::{DatabaseError, is_transient};
use crate::quote::{quote_identifier, quote_literal};
use crate::server::Server;
use aurora_restore_domain::roles::RoleName;
use futures_util::StreamExt;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use std::collections::BTreeSet;

/// A script. Its text is shown nowhere: it may hold what it is there to hide.
#[derive(Clone)]
pub struct MaskScript {
    /// Its name in reports.
    pub name: String,
    /// Where it runs.
    pub database: String,
    /// SHA-256 of its text, in hexadecimal digits.
    pub sha256: String,
    /// Its statements.
    pub sql: String,
}

impl std::fmt::Debug for MaskScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MaskScript({} in {}, {} bytes)", self.name, self.database, self.sql.len())
    }
}

/// How long one statement may take: a Lambda ends after 15 minutes.
const STATEMENT_TIMEOUT: &str = "12min";
/// How long one waits for somebody's lock. Nobody should have any: users are locked out.
const LOCK_TIMEOUT: &str = "30s";
/// Where the marks are.
const SCHEMA: &str = "aurora_restore_masking";

/// Locks these roles out until they are set up: none can log in, no session of theirs goes on.
pub async fn lock_out(server: &Server, roles: &[RoleName]) -> Result<(), DatabaseError> {
    let mut session = server.session(&server.database).await?;
    for role in roles {
        let failed = |error| DatabaseError::of_statement(format!("lock out {role}"), error);
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(role.as_str())
            .fetch_one(&mut session.connection)
            .await
            .map_err(failed)?;
        if exists {
            let lock = format!("ALTER ROLE {} NOLOGIN", quote_identifier(role.as_str())?);
            sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut session.connection).await.map_err(failed)?;
            sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1")
                .bind(role.as_str())
                .execute(&mut session.connection)
                .await
                .map_err(failed)?;
        }
    }
    session.close().await;
    Ok(())
}

/// Runs `script` unless its mark says that it has run. Answers how many statements it has; `None` when it has run before.
///
/// # Errors
/// `Script` with the statement's number and SQLSTATE, in which case nothing of it stays.
pub async fn mask(server: &Server, script: &MaskScript) -> Result<Option<u64>, DatabaseError> {
    let session = Session::open(&server.endpoint, &script.database, &server.master, &server.trust, Purpose::Use);
    let mut session = session.await?;
    let result = run(&mut session.connection, script).await;
    session.close().await;
    result
}

async fn run(connection: &mut PgConnection, script: &MaskScript) -> Result<Option<u64>, DatabaseError> {
    let failed = |error| DatabaseError::of_statement(format!("prepare for script {}", script.name), error);
    let prepare = format!(
        "SET statement_timeout = '{STATEMENT_TIMEOUT}'; SET lock_timeout = '{LOCK_TIMEOUT}'; BEGIN; \
         CREATE SCHEMA IF NOT EXISTS {SCHEMA}; \
         CREATE TABLE IF NOT EXISTS {SCHEMA}.done (sha256 text, name text, transaction text, PRIMARY KEY (sha256, name))"
    );
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *connection).await.map_err(failed)?;
    let mark = format!(
        "INSERT INTO {SCHEMA}.done VALUES ({}, {}, pg_current_xact_id()::text) ON CONFLICT DO NOTHING",
        quote_literal(&script.sha256)?,
        quote_literal(&script.name)?
    );
    let marked = sqlx::raw_sql(AssertSqlSafe(mark)).execute(&mut *connection).await.map_err(failed)?;
    if marked.rows_affected() == 0 {
        return Ok(None);
    }
    let transaction = current(connection).await.map_err(failed)?;
    let statements = run_statements(connection, script).await?;
    // A script that commits or rolls back by itself has left the transaction that is its all or nothing.
    if current(connection).await.ok().as_deref() != Some(transaction.as_str()) {
        return Err(DatabaseError::Script {
            name: script.name.clone(),
            statement: statements,
            why: "it ends its transaction itself: what ran before that may have stayed".into(),
        });
    }
    let committed = sqlx::raw_sql("COMMIT").execute(connection).await;
    // What is checked at the end only, for instance deferred constraints.
    committed.map_err(|error| refused(script, statements, error))?;
    Ok(Some(statements))
}

async fn current(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(connection).await
}

/// All of them in one message, as `psql -c` sends them; the server tells the end of each.
async fn run_statements(connection: &mut PgConnection, script: &MaskScript) -> Result<u64, DatabaseError> {
    let mut done = 0;
    let mut results = sqlx::raw_sql(AssertSqlSafe(script.sql.clone())).fetch_many(connection);
    while let Some(result) = results.next().await {
        match result {
            Ok(sqlx::Either::Left(_)) => done += 1,
            Ok(sqlx::Either::Right(_)) => {}
            Err(error) => return Err(refused(script, done + 1, error)),
        }
    }
    Ok(done)
}

/// The server's own words may hold data.
fn refused(script: &MaskScript, statement: u64, error: sqlx::Error) -> DatabaseError {
    match error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned()) {
        // Somebody's lock, a restart: the step is repeated, and nothing of the script has stayed.
        Some(code) if is_transient(&code) => {
            DatabaseError::of_statement(format!("run statement {statement} of script {}", script.name), error)
        }
        Some(code) => DatabaseError::Script {
            name: script.name.clone(),
            statement,
            why: format!("the database server refused it (SQLSTATE {code})"),
        },
        None => DatabaseError::of_statement(format!("run statement {statement} of script {}", script.name), error),
    }
}

/// Removes the marks from these databases: all scripts have run and that is recorded elsewhere.
pub async fn forget_masked(server: &Server, databases: &BTreeSet<String>) -> Result<(), DatabaseError> {
    for database in databases {
        let mut session = server.session(database).await?;
        let drop = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE");
        let dropped = sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut session.connection).await;
        dropped.map_err(|error| DatabaseError::of_statement(format!("clean up in database {database}"), error))?;
        session.close().await;
    }
    Ok(())
}
