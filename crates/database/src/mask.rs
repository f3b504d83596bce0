//! Masking: scripts of the team's own, each in one transaction, each exactly once.
//!
//! The first thing in a script's transaction is a mark, in a table of a schema of ours, and the last is that the mark says
//! done. So the next try knows, however this one ended: no mark, the transaction was rolled back; a mark that says done,
//! the script has run; one that does not, the script ended its transaction itself and has stayed in part.
//! [`forget_masked`] removes the schema. On MySQL it is done as `mysql::mask` says.

use crate::connect::Purpose;
use crate::error::{DatabaseError, is_transient, sqlstate_of};
use crate::mysql;
use crate::server::Server;
use aurora_restore_domain::engine::Engine;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
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
const SCRIPT_LIMIT: Duration = Duration::from_secs(12 * 60);
/// Nobody should hold a lock: users are locked out. Rows that a policy would hide from the master are an error.
const SETTINGS: &str = "SET statement_timeout = '12min'; SET lock_timeout = '30s'; SET row_security = off";
/// Where the marks are; made one after the other, under a lock whose number is the bytes of "masking!".
const PREPARE_MARKS: &str = "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(7881707728042616609); CREATE SCHEMA IF NOT EXISTS aurora_restore_masking; \
    CREATE TABLE IF NOT EXISTS aurora_restore_masking.marks (operation_id text, name text, sha256 text NOT NULL, \
    done boolean NOT NULL, PRIMARY KEY (operation_id, name)); COMMIT";
const MARKS_ARE_OURS: &str = "SELECT n.nspowner = r.oid AND c.relowner = r.oid \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, pg_catalog.pg_roles r \
    WHERE c.oid = 'aurora_restore_masking.marks'::regclass AND r.rolname = current_user";
const LEAVE_MARK: &str =
    "INSERT INTO aurora_restore_masking.marks VALUES ($1, $2, $3, false) ON CONFLICT (operation_id, name) DO NOTHING";

/// A script, for one operation, and how far it is.
struct Attempt<'a> {
    operation_id: &'a str,
    script: &'a MaskScript,
    /// Statements that have ended.
    ended: AtomicU64,
}

/// Runs `script` for the operation unless its mark says that it has run. Answers how many statements it has; `None` when
/// it has run before.
///
/// # Errors
/// `Script` with the statement's number and SQLSTATE, in which case nothing of it stays and it can run again;
/// `ScriptSpoiled` when part of it has stayed, or when what has run is not what is there now.
pub async fn mask(server: &Server, operation_id: &str, script: &MaskScript) -> Result<Option<u64>, DatabaseError> {
    mask_within(server, operation_id, script, SCRIPT_LIMIT).await
}

/// The same with another limit of time.
///
/// # Errors
/// As [`mask`].
pub async fn mask_within(
    server: &Server,
    operation_id: &str,
    script: &MaskScript,
    limit: Duration,
) -> Result<Option<u64>, DatabaseError> {
    if server.engine == Engine::MySql {
        return mysql::mask(server, operation_id, script, limit).await;
    }
    let mut session = server.session_for(&script.database, Purpose::Use).await?;
    let attempt = Attempt { operation_id, script, ended: AtomicU64::new(0) };
    let ran = tokio::time::timeout(limit, attempt.run(&mut session.connection)).await;
    match ran {
        Ok(ran) => {
            session.close().await;
            ran
        }
        // Its transaction goes with the connection; until the server sees that, the next try waits for the mark's lock.
        Err(_) => {
            let why = too_long(limit);
            Err(DatabaseError::Script { name: script.name.clone(), statement: attempt.at(), why })
        }
    }
}

impl Attempt<'_> {
    /// The statement that is running, counted from 1.
    fn at(&self) -> u64 {
        self.ended.load(Ordering::Relaxed) + 1
    }

    fn spoiled(&self, why: &str) -> DatabaseError {
        DatabaseError::ScriptSpoiled { name: self.script.name.clone(), why: why.to_owned() }
    }

    fn failed(&self, error: sqlx::Error) -> DatabaseError {
        DatabaseError::of_statement(format!("mark script {}", self.script.name), error)
    }

    async fn run(&self, connection: &mut PgConnection) -> Result<Option<u64>, DatabaseError> {
        let failed = |error| self.failed(error);
        for prepare in [SETTINGS, PREPARE_MARKS] {
            sqlx::raw_sql(prepare).execute(&mut *connection).await.map_err(failed)?;
        }
        let ours: bool = sqlx::query_scalar(MARKS_ARE_OURS).fetch_one(&mut *connection).await.map_err(failed)?;
        if !ours {
            let what =
                "schema aurora_restore_masking belongs to somebody else; masking keeps its marks there".to_owned();
            return Err(DatabaseError::Unsupported { what });
        }
        sqlx::raw_sql("BEGIN READ WRITE").execute(&mut *connection).await.map_err(failed)?;
        // Waits for another function that is at this script, as long as for any lock.
        if !self.leave_mark(connection).await? {
            return self.has_run(connection).await.map(|()| None);
        }
        let transaction = current(connection).await.map_err(failed)?;
        let ran = self.run_statements(connection).await;
        match (ran, current(connection).await) {
            (Ok(statements), Ok(now)) if now == transaction => self.finish(connection, statements).await.map(Some),
            // A transaction that failed answers nothing any more; one that the script ended itself does.
            (ran, now) => Err(self.aftermath(connection, ran, now.is_ok_and(|now| now != transaction)).await),
        }
    }

    /// Answers `false` when there is one already.
    async fn leave_mark(&self, connection: &mut PgConnection) -> Result<bool, DatabaseError> {
        let leave = sqlx::query(LEAVE_MARK).bind(self.operation_id).bind(&self.script.name).bind(&self.script.sha256);
        let left = leave.execute(connection).await.map_err(|error| self.failed(error))?;
        Ok(left.rows_affected() == 1)
    }

    /// The checksum in the mark that is there, and whether it says done.
    async fn mark(&self, connection: &mut PgConnection) -> Result<Option<(String, bool)>, DatabaseError> {
        const MARK: &str =
            "SELECT sha256, done FROM aurora_restore_masking.marks WHERE operation_id = $1 AND name = $2";
        let mark = sqlx::query_as(MARK).bind(self.operation_id).bind(&self.script.name).fetch_optional(connection);
        mark.await.map_err(|error| self.failed(error))
    }

    /// What the mark of an earlier try says.
    async fn has_run(&self, connection: &mut PgConnection) -> Result<(), DatabaseError> {
        match self.mark(connection).await? {
            Some((sha256, true)) if sha256 == self.script.sha256 => Ok(()),
            Some((_, true)) => Err(self.spoiled("has run with another text")),
            _ => Err(self.spoiled("ended its transaction itself in an earlier try: part of it has stayed")),
        }
    }

    /// The mark says done, and all of it is committed.
    async fn finish(&self, connection: &mut PgConnection, statements: u64) -> Result<u64, DatabaseError> {
        let failed = |error| self.failed(error);
        // The script may have gone on as another role, or among its own functions.
        let back = sqlx::raw_sql("RESET ROLE; SET LOCAL search_path = pg_catalog").execute(&mut *connection);
        back.await.map_err(failed)?;
        const DONE: &str = "UPDATE aurora_restore_masking.marks SET done = true WHERE operation_id = $1 AND name = $2";
        let done = sqlx::query(DONE).bind(self.operation_id).bind(&self.script.name).execute(&mut *connection).await;
        if done.map_err(failed)?.rows_affected() != 1 {
            let why = "it removed the mark that it is running".into();
            return Err(DatabaseError::Script { name: self.script.name.clone(), statement: statements, why });
        }
        let committed = sqlx::raw_sql("COMMIT").execute(connection).await;
        // What is checked at the end only, for instance deferred constraints.
        committed.map_err(|error| refused(self.script, statements, error))?;
        Ok(statements)
    }

    /// What to say of a script that failed or ended its transaction itself. The latter never runs on top of what it left:
    /// its mark stays, also if it took the mark along.
    async fn aftermath(&self, connection: &mut PgConnection, ran: Ran, ended: bool) -> DatabaseError {
        if let Err(lost) = sqlx::raw_sql("ROLLBACK; RESET ROLE").execute(&mut *connection).await {
            return ran.err().unwrap_or_else(|| self.failed(lost));
        }
        let stays = match ended {
            true => self.leave_mark(connection).await.map(|_| true),
            false => self.mark(connection).await.map(|mark| mark.is_some()),
        };
        let why = "ended its transaction itself: part of it has stayed";
        match (stays, ran) {
            (Ok(true), Err(DatabaseError::Script { statement, why: failure, .. })) => {
                self.spoiled(&format!("{why}, and statement {statement} failed: {failure}"))
            }
            (Ok(true), _) => self.spoiled(why),
            // The next try reads the mark.
            (Ok(false) | Err(_), Err(error)) | (Err(error), Ok(_)) => error,
            (Ok(false), Ok(_)) => self.spoiled(why),
        }
    }

    /// All of them in one message, as `psql -c` sends them; the server tells the end of each.
    async fn run_statements(&self, connection: &mut PgConnection) -> Ran {
        let results = sqlx::raw_sql(AssertSqlSafe(self.script.sql.clone())).fetch_many(connection);
        until_all_ended(self.script, &self.ended, results).await
    }
}

/// How many statements a script has, or how it failed.
pub(crate) type Ran = Result<u64, DatabaseError>;

/// Counts in `ended` each statement whose end the server tells.
pub(crate) async fn until_all_ended<E, R>(
    script: &MaskScript,
    ended: &AtomicU64,
    mut results: BoxStream<'_, Result<sqlx::Either<E, R>, sqlx::Error>>,
) -> Ran {
    while let Some(result) = results.next().await {
        match result {
            Ok(sqlx::Either::Left(_)) => drop(ended.fetch_add(1, Ordering::Relaxed)),
            Ok(sqlx::Either::Right(_)) => {}
            Err(error) => return Err(refused(script, ended.load(Ordering::Relaxed) + 1, error)),
        }
    }
    Ok(ended.load(Ordering::Relaxed))
}

/// The number of the transaction that is open.
async fn current(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_catalog.txid_current()").fetch_one(connection).await
}

pub(crate) fn too_long(limit: Duration) -> String {
    format!("the script did not end within {} s; split it", limit.as_secs())
}

/// The server's own words may hold data.
fn refused(script: &MaskScript, statement: u64, error: sqlx::Error) -> DatabaseError {
    match sqlstate_of(&error) {
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
    if server.engine == Engine::MySql {
        return mysql::forget_masked(server).await;
    }
    for database in databases {
        let mut session = server.session(database).await?;
        let drop = "DROP SCHEMA IF EXISTS aurora_restore_masking CASCADE";
        let dropped = sqlx::raw_sql(drop).execute(&mut session.connection).await;
        dropped.map_err(|error| DatabaseError::of_statement(format!("clean up in database {database}"), error))?;
        session.close().await;
    }
    Ok(())
}
