//! Masking: scripts of the team's own, each in one transaction, each exactly once.
//!
//! Before a script runs, a mark with the number of its transaction is committed into a table of a schema of ours; that it
//! has run is written into the mark by the script's own transaction. So a later try knows, however the earlier one ended:
//! a mark that says done has run, one whose transaction was rolled back has not, and one whose transaction was committed
//! without saying so belongs to a script that ended its transaction itself and has stayed in part. [`forget_masked`] removes
//! the schema.

use crate::connect::{Purpose, Session};
use crate::error::{DatabaseError, is_transient};
use crate::server::Server;
use futures_util::StreamExt;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// How long a script may take: a Lambda ends after 15 minutes.
const SCRIPT_MINUTES: u64 = 12;
/// Held while a script runs, so that two functions wait for each other: the bytes of "masking!".
const ADVISORY_LOCK: i64 = i64::from_be_bytes(*b"masking!");
/// Nobody should hold a lock: users are locked out. Rows that a policy would hide from the master are an error.
const SETTINGS: &str =
    "SET statement_timeout = '12min'; SET lock_timeout = '30s'; SET row_security = off; BEGIN READ WRITE";
/// Where the marks are.
const PREPARE_MARKS: &str = "CREATE SCHEMA IF NOT EXISTS aurora_restore_masking; \
    CREATE TABLE IF NOT EXISTS aurora_restore_masking.marks (operation_id text, name text, sha256 text NOT NULL, \
    transaction bigint NOT NULL, done boolean NOT NULL, spoiled boolean NOT NULL, PRIMARY KEY (operation_id, name))";
const MARKS_ARE_OURS: &str = "SELECT n.nspowner = r.oid AND c.relowner = r.oid \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles r \
    WHERE c.oid = 'aurora_restore_masking.marks'::regclass AND r.rolname = current_user";

/// A script's transaction.
struct Attempt {
    transaction: i64,
    pid: i32,
    /// Statements that have ended.
    ended: AtomicU64,
}

impl Attempt {
    /// The statement that is running, counted from 1.
    fn at(&self) -> u64 {
        self.ended.load(Ordering::Relaxed) + 1
    }
}

/// How many statements a script has, or how the attempt to run it failed.
type Ran = Result<u64, DatabaseError>;

/// Runs `script` for the operation unless its mark says that it has run. Answers how many statements it has; `None` when
/// it has run before.
///
/// # Errors
/// `Script` with the statement's number and SQLSTATE, in which case nothing of it stays and it can run again;
/// `ScriptSpoiled` when part of it has stayed, or when what has run is not what is there now.
pub async fn mask(server: &Server, operation_id: &str, script: &MaskScript) -> Result<Option<u64>, DatabaseError> {
    let session = Session::open(&server.endpoint, &script.database, &server.master, &server.trust, Purpose::Use);
    let mut session = session.await?;
    let attempt = begin(&mut session.connection, script).await?;
    if has_run(server, operation_id, script, &attempt).await? {
        session.close().await;
        return Ok(None);
    }
    let limit = Duration::from_secs(SCRIPT_MINUTES * 60);
    let ran = tokio::time::timeout(limit, run(&mut session.connection, operation_id, script, &attempt)).await;
    let ran = ran.unwrap_or_else(|_| {
        let why = format!("the script did not end within {SCRIPT_MINUTES} minutes; split it");
        Err(DatabaseError::Script { name: script.name.clone(), statement: attempt.at(), why })
    });
    match ran {
        Ok(statements) => {
            session.close().await;
            Ok(Some(statements))
        }
        Err(error) => {
            // A transaction that failed answers nothing any more; one that the script ended itself does.
            let answers = tokio::time::timeout(Duration::from_secs(1), current(&mut session.connection));
            let ended = matches!(answers.await, Ok(Ok(another)) if another != attempt.transaction);
            drop(session);
            Err(aftermath(server, operation_id, script, &attempt, ended, error).await)
        }
    }
}

/// Begins the transaction in which the script will run.
async fn begin(connection: &mut PgConnection, script: &MaskScript) -> Result<Attempt, DatabaseError> {
    let failed = |error| DatabaseError::of_statement(format!("begin script {}", script.name), error);
    sqlx::raw_sql(SETTINGS).execute(&mut *connection).await.map_err(failed)?;
    let lock = sqlx::query("SELECT pg_catalog.pg_advisory_xact_lock($1)").bind(ADVISORY_LOCK);
    lock.execute(&mut *connection).await.map_err(failed)?;
    let transaction = current(connection).await.map_err(failed)?;
    let pid = sqlx::query_scalar("SELECT pg_catalog.pg_backend_pid()").fetch_one(connection).await.map_err(failed)?;
    Ok(Attempt { transaction, pid, ended: AtomicU64::new(0) })
}

async fn current(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_catalog.txid_current()").fetch_one(connection).await
}

/// Looks at the script's mark; if it may run, leaves one with the number of its transaction.
async fn has_run(
    server: &Server,
    operation_id: &str,
    script: &MaskScript,
    attempt: &Attempt,
) -> Result<bool, DatabaseError> {
    let failed = |error| DatabaseError::of_statement(format!("mark script {}", script.name), error);
    let mut session = server.session(&script.database).await?;
    let connection = &mut session.connection;
    sqlx::raw_sql(PREPARE_MARKS).execute(&mut *connection).await.map_err(failed)?;
    let ours: bool = sqlx::query_scalar(MARKS_ARE_OURS).fetch_one(&mut *connection).await.map_err(failed)?;
    if !ours {
        let what = "schema aurora_restore_masking belongs to somebody else; masking keeps its marks there".to_owned();
        return Err(DatabaseError::Unsupported { what });
    }
    const MARK: &str = "SELECT sha256, done, spoiled, txid_status(transaction) FROM aurora_restore_masking.marks \
        WHERE operation_id = $1 AND name = $2";
    let mark: Option<(String, bool, bool, Option<String>)> = sqlx::query_as(MARK)
        .bind(operation_id)
        .bind(&script.name)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let spoiled = |why: &str| DatabaseError::ScriptSpoiled { name: script.name.clone(), why: why.into() };
    match mark {
        Some((sha256, true, _, _)) if sha256 == script.sha256 => return Ok(true),
        Some((_, true, _, _)) => return Err(spoiled("has run with another text")),
        Some((_, false, false, Some(status))) if status == "aborted" => {}
        Some(_) => return Err(spoiled("ended its transaction itself in an earlier try: part of it has stayed")),
        None => {}
    }
    const LEAVE: &str = "INSERT INTO aurora_restore_masking.marks VALUES ($1, $2, $3, $4, false, false) \
        ON CONFLICT (operation_id, name) DO UPDATE SET sha256 = excluded.sha256, transaction = excluded.transaction";
    let leave = sqlx::query(LEAVE).bind(operation_id).bind(&script.name).bind(&script.sha256).bind(attempt.transaction);
    leave.execute(&mut *connection).await.map_err(failed)?;
    session.close().await;
    Ok(false)
}

async fn run(connection: &mut PgConnection, operation_id: &str, script: &MaskScript, attempt: &Attempt) -> Ran {
    let statements = run_statements(connection, script, attempt).await?;
    let failed = |error| DatabaseError::of_statement(format!("mark script {} as done", script.name), error);
    if current(connection).await.ok() != Some(attempt.transaction) {
        let why = "ended its transaction itself: part of it has stayed".into();
        return Err(DatabaseError::ScriptSpoiled { name: script.name.clone(), why });
    }
    // The script may have gone on as another role, or among its own functions.
    let back = sqlx::raw_sql("RESET ROLE; SET LOCAL search_path = pg_catalog").execute(&mut *connection);
    back.await.map_err(failed)?;
    const DONE: &str = "UPDATE aurora_restore_masking.marks SET done = true WHERE operation_id = $1 AND name = $2";
    let done = sqlx::query(DONE).bind(operation_id).bind(&script.name).execute(&mut *connection).await;
    if done.map_err(failed)?.rows_affected() != 1 {
        let why = "it removed the mark that it is running".into();
        return Err(DatabaseError::Script { name: script.name.clone(), statement: statements, why });
    }
    let committed = sqlx::raw_sql("COMMIT").execute(connection).await;
    // What is checked at the end only, for instance deferred constraints.
    committed.map_err(|error| refused(script, statements, error))?;
    Ok(statements)
}

/// All of them in one message, as `psql -c` sends them; the server tells the end of each.
async fn run_statements(connection: &mut PgConnection, script: &MaskScript, attempt: &Attempt) -> Ran {
    let mut results = sqlx::raw_sql(AssertSqlSafe(script.sql.clone())).fetch_many(connection);
    while let Some(result) = results.next().await {
        match result {
            Ok(sqlx::Either::Left(_)) => drop(attempt.ended.fetch_add(1, Ordering::Relaxed)),
            Ok(sqlx::Either::Right(_)) => {}
            Err(error) => return Err(refused(script, attempt.at(), error)),
        }
    }
    Ok(attempt.ended.load(Ordering::Relaxed))
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

/// What became of a script that failed with `error`: one that ended its transaction itself is marked as spoiled, so that
/// it does not run on top of its own half. When the server does not tell, the next try will ask again.
async fn aftermath(
    server: &Server,
    operation_id: &str,
    script: &MaskScript,
    attempt: &Attempt,
    ended: bool,
    error: DatabaseError,
) -> DatabaseError {
    match spoil(server, operation_id, script, attempt, ended).await {
        Ok(true) => {
            let why = "ended its transaction itself: part of it has stayed".to_owned();
            let why = match &error {
                DatabaseError::Script { statement, why: failure, .. } => {
                    format!("{why}, and statement {statement} failed: {failure}")
                }
                _ => why,
            };
            DatabaseError::ScriptSpoiled { name: script.name.clone(), why }
        }
        Ok(false) | Err(_) => error,
    }
}

/// Whether part of the script has stayed; then that is written into its mark.
async fn spoil(
    server: &Server,
    operation_id: &str,
    script: &MaskScript,
    attempt: &Attempt,
    ended: bool,
) -> Result<bool, DatabaseError> {
    let failed = |error| DatabaseError::of_statement(format!("look at what script {} left", script.name), error);
    let mut session = server.session(&script.database).await?;
    // One that ran out of time is at it still.
    let stop =
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND usename = current_user");
    let stop = stop.bind(attempt.pid).execute(&mut session.connection);
    stop.await.map_err(failed)?;
    const SPOIL: &str = "UPDATE aurora_restore_masking.marks SET spoiled = true WHERE operation_id = $1 AND name = $2 \
        AND transaction = $3 AND NOT done AND ($4 OR txid_status(transaction) = 'committed')";
    let spoil = sqlx::query(SPOIL).bind(operation_id).bind(&script.name).bind(attempt.transaction).bind(ended);
    let spoiled = spoil.execute(&mut session.connection).await.map_err(failed)?;
    session.close().await;
    Ok(spoiled.rows_affected() == 1)
}

/// Removes the marks from these databases: all scripts have run and that is recorded elsewhere.
pub async fn forget_masked(server: &Server, databases: &BTreeSet<String>) -> Result<(), DatabaseError> {
    for database in databases {
        let mut session = server.session(database).await?;
        let drop = "DROP SCHEMA IF EXISTS aurora_restore_masking CASCADE";
        let dropped = sqlx::raw_sql(drop).execute(&mut session.connection).await;
        dropped.map_err(|error| DatabaseError::of_statement(format!("clean up in database {database}"), error))?;
        session.close().await;
    }
    Ok(())
}
