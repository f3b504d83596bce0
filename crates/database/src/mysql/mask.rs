//! Masking on MySQL. What a mark means, and when it is committed first, is in `aurora_restore_domain::decide::mask_mysql`.
//!
//! The whole script is one message, which the server takes apart: it alone knows where a routine ends. A named lock keeps a
//! second function from judging a script that another is still at, also when that one has committed its mark.

use super::apply::end_session;
use super::flavor::script_settings;
use super::observe::open;
use super::quote::{quote_identifier, quote_text};
use super::session::{Session, unexpected};
use crate::error::DatabaseError;
use crate::mask::{MaskScript, Ran, too_long, until_all_ended};
use crate::server::Server;
use aurora_restore_domain::decide::mask_mysql::{Decision, Mark, decide, marked_first, refusal};
use sqlx::AssertSqlSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Held by the session of a script until it ends, however it ends.
const LOCK: &str = "SELECT get_lock('aurora-restore-masking', 10)";
/// Where the marks are: names as bytes, which no collation takes for each other.
const MAKE_MARKS: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS aurora_restore_masking",
    "CREATE TABLE IF NOT EXISTS aurora_restore_masking.marks (operation_id varbinary(100), name varbinary(1024), \
     sha256 varbinary(64) NOT NULL, done tinyint NOT NULL, PRIMARY KEY (operation_id, name)) \
     ENGINE = InnoDB, COMMENT = 'masking scripts of aurora-restore'",
];
/// The longest name that a mark holds. A server that is not strict would cut it off.
const NAME_BYTES_MAX: usize = 1024;
/// One table, and it is ours. Nobody owns anything in MySQL, so this goes by what it looks like.
const MARKS_ARE_OURS: &str = "SELECT (SELECT count(*) FROM information_schema.tables WHERE table_schema = 'aurora_restore_masking') = 1 \
    AND (SELECT count(*) FROM information_schema.tables WHERE table_schema = 'aurora_restore_masking' AND table_name = 'marks' \
    AND table_type = 'BASE TABLE' AND engine = 'InnoDB' AND table_comment = 'masking scripts of aurora-restore') = 1 \
    AND (SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = 'aurora_restore_masking') = 0";
/// A table that takes no change back. Of any database: a script may reach all of them.
const FIXED_TABLE: &str = "SELECT concat('table ', table_schema, '.', table_name, ' of engine ', coalesce(engine, 'unknown')) \
    FROM information_schema.tables WHERE table_type = 'BASE TABLE' \
    AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') \
    AND coalesce(engine, '') NOT IN (SELECT engine FROM information_schema.engines WHERE transactions = 'YES') LIMIT 1";
/// What commits within the script begins another transaction, which the mark that says done is in.
const BEGIN: [&str; 2] = ["SET SESSION autocommit = 0", "START TRANSACTION READ WRITE"];
/// How much longer the server may work at a statement than we wait for the script.
const GRACE_SECONDS: u64 = 10;
/// How long a session that was told to end is waited for.
const END_ATTEMPTS: u32 = 50;
const END_PAUSE: Duration = Duration::from_millis(200);

/// How a script ended that never runs again; follows its name.
const LOST: &str = "lost the mark that it is running: a part of it may have stayed";

/// A script, for one operation, and how far it is.
struct Attempt<'a> {
    operation_id: &'a str,
    script: &'a MaskScript,
    /// The server's number of the session that runs it; 0 before there is one.
    session_id: AtomicU64,
    /// Statements that have ended. One that answers several times counts as often.
    ended: AtomicU64,
}

/// As [`crate::mask`].
pub(crate) async fn mask(
    server: &Server,
    operation_id: &str,
    script: &MaskScript,
    limit: Duration,
) -> Result<Option<u64>, DatabaseError> {
    if script.name.len() > NAME_BYTES_MAX {
        return Err(DatabaseError::Invalid { what: format!("the path of script {} is too long", script.name) });
    }
    if let Some(why) = refusal(&script.sql) {
        return Err(DatabaseError::Invalid { what: format!("script {}, {why}", script.name) });
    }
    if script.database.is_empty() {
        let what = format!("script {} is in no folder, and the master's secret names no database for it", script.name);
        return Err(DatabaseError::Invalid { what });
    }
    let mut session = open(server).await?;
    let attempt = Attempt { operation_id, script, session_id: AtomicU64::new(0), ended: AtomicU64::new(0) };
    match tokio::time::timeout(limit, attempt.run(&mut session, limit)).await {
        Ok(ran) => {
            session.close().await;
            ran
        }
        // The server would go on without us, to the script's end.
        Err(_) => {
            drop(session);
            Err(attempt.end(server, limit).await)
        }
    }
}

impl Attempt<'_> {
    /// The statement that is running, counted from 1.
    fn at(&self) -> u64 {
        self.ended.load(Ordering::Relaxed) + 1
    }

    fn what(&self) -> String {
        format!("mark script {}", self.script.name)
    }

    fn spoiled(&self, why: &str) -> DatabaseError {
        DatabaseError::ScriptSpoiled { name: self.script.name.clone(), why: why.to_owned() }
    }

    async fn run(&self, session: &mut Session, limit: Duration) -> Result<Option<u64>, DatabaseError> {
        let first = match self.prepare(session, limit).await? {
            Prepared::HasRun => return Ok(None),
            Prepared::MarkedFirst(why) => Some(why),
            Prepared::Marked => None,
        };
        let ran = match self.run_statements(session).await {
            Ok(statements) => self.finish(session, statements).await,
            Err(error) => Err(error),
        };
        match ran {
            Ok(statements) => Ok(Some(statements)),
            Err(error) => Err(self.aftermath(session, error, first).await),
        }
    }

    /// Everything up to the script: settings, lock, marks, what an earlier try left, our own mark.
    async fn prepare(&self, session: &mut Session, limit: Duration) -> Result<Prepared, DatabaseError> {
        let (what, database) = (self.what(), &self.script.database);
        session.run(&format!("open database {database}"), format!("USE {}", quote_identifier(database)?)).await?;
        session.run(&what, script_settings(session.flavor, limit.as_secs() + GRACE_SECONDS)).await?;
        let id = single(session, &what, "SELECT connection_id()").await?;
        let id: u64 = id.parse().map_err(|_| unexpected(format!("a session of number {id:?}")))?;
        self.session_id.store(id, Ordering::Relaxed);
        if single(session, &what, LOCK).await? != "1" {
            return Err(DatabaseError::Busy { what: "another masking script is still running".into() });
        }
        for make in MAKE_MARKS {
            session.run(&what, make).await?;
        }
        if single(session, &what, MARKS_ARE_OURS).await? != "1" {
            let what =
                "database aurora_restore_masking belongs to somebody else; masking keeps its marks there".to_owned();
            return Err(DatabaseError::Unsupported { what });
        }
        match decide(self.mark(session).await?.as_ref(), &self.script.sha256) {
            Decision::Run => {}
            Decision::HasRun => return Ok(Prepared::HasRun),
            Decision::Spoiled(why) => return Err(self.spoiled(why)),
        }
        let fixed = session.rows(&what, FIXED_TABLE).await?.first().map(|row| row.text(0)).transpose()?;
        for begin in BEGIN {
            session.run(&what, begin).await?;
        }
        let [operation, name] = self.key();
        let sha256 = quote_text(&self.script.sha256);
        let leave = format!("INSERT INTO aurora_restore_masking.marks VALUES ({operation}, {name}, {sha256}, 0)");
        session.run(&what, leave).await?;
        match marked_first(&self.script.sql, fixed.as_deref()) {
            Some(why) => session.run(&what, "COMMIT").await.map(|()| Prepared::MarkedFirst(why)),
            None => Ok(Prepared::Marked),
        }
    }

    fn key(&self) -> [String; 2] {
        [quote_text(self.operation_id), quote_text(&self.script.name)]
    }

    async fn mark(&self, session: &mut Session) -> Result<Option<Mark>, DatabaseError> {
        let [operation, name] = self.key();
        let query = format!(
            "SELECT sha256, done FROM aurora_restore_masking.marks WHERE operation_id = {operation} AND name = {name}"
        );
        let rows = session.rows(&self.what(), query).await?;
        let mark = rows.first().map(|row| Ok(Mark { sha256: row.text(0)?, done: row.flag(1) }));
        mark.transpose()
    }

    /// The mark says done, and all that is not committed yet is.
    async fn finish(&self, session: &mut Session, statements: u64) -> Result<u64, DatabaseError> {
        let what = self.what();
        // The script may have locked tables, ours not among them; where it has not, this does nothing.
        session.run(&what, "UNLOCK TABLES").await?;
        let [operation, name] = self.key();
        let done = format!(
            "UPDATE aurora_restore_masking.marks SET done = 1 WHERE operation_id = {operation} AND name = {name}"
        );
        let marked = sqlx::raw_sql(AssertSqlSafe(done)).execute(&mut session.connection).await;
        let marked = marked.map_err(|error| DatabaseError::of_statement(&what, error))?;
        if marked.rows_affected() != 1 {
            return Err(self.spoiled(LOST));
        }
        session.run(&what, "COMMIT").await?;
        Ok(statements)
    }

    /// What to say of a script that failed: whether its mark is there says whether something of it has stayed.
    async fn aftermath(&self, session: &mut Session, error: DatabaseError, first: Option<String>) -> DatabaseError {
        // In this order: to unlock tables commits, where the script had locked some.
        for sql in ["ROLLBACK", "UNLOCK TABLES"] {
            if session.run(&self.what(), sql).await.is_err() {
                // The connection is gone. The next try reads the mark.
                return error;
            }
        }
        self.judge(session, error, first).await
    }

    async fn judge(&self, session: &mut Session, error: DatabaseError, first: Option<String>) -> DatabaseError {
        let failed = if let DatabaseError::Script { statement, why, .. } = &error {
            format!("failed at statement {statement}: {why}")
        } else {
            format!("failed: {error}")
        };
        let stayed = match first {
            Some(why) => format!("a part of it may have stayed: {why}"),
            None => "what it had committed has stayed".to_owned(),
        };
        let is_lost = matches!(&error, DatabaseError::ScriptSpoiled { why, .. } if why == LOST);
        match self.mark(session).await {
            Ok(Some(mark)) if !mark.done && !is_lost => self.spoiled(&format!("{failed}; {stayed}")),
            Ok(None) if !is_lost => error,
            Ok(None) => self.mark_anew(session).await,
            // Its commit was told to have failed, and has not; or the next try reads the mark.
            Ok(Some(_)) | Err(_) => error,
        }
    }

    /// Nobody can say what of a script has stayed that lost its mark: it never runs on top of that.
    async fn mark_anew(&self, session: &mut Session) -> DatabaseError {
        let [operation, name] = self.key();
        let sha256 = quote_text(&self.script.sha256);
        let leave = format!("INSERT INTO aurora_restore_masking.marks VALUES ({operation}, {name}, {sha256}, 0)");
        for sql in [leave.as_str(), "COMMIT"] {
            if let Err(error) = session.run(&self.what(), sql).await {
                return error;
            }
        }
        self.spoiled(LOST)
    }

    /// Ends the session of a script that takes too long, and says what has become of it.
    async fn end(&self, server: &Server, limit: Duration) -> DatabaseError {
        let why = too_long(limit);
        let error = DatabaseError::Script { name: self.script.name.clone(), statement: self.at(), why };
        let id = self.session_id.load(Ordering::Relaxed);
        if id == 0 {
            return DatabaseError::Busy { what: format!("script {} could not begin", self.script.name) };
        }
        match self.end_and_look(server, id).await {
            Ok(None) => error,
            Ok(Some(_)) => self.spoiled(&format!(
                "failed at statement {}: {}; a part of it has stayed",
                self.at(),
                too_long(limit)
            )),
            // It may be at work still, or not have come to its end: the next try waits for its lock and reads the mark.
            Err(further) => {
                tracing::warn!(error = %further, "a masking script that takes too long could not be ended");
                error
            }
        }
    }

    /// The mark once the session is gone, and its transaction with it.
    async fn end_and_look(&self, server: &Server, id: u64) -> Result<Option<Mark>, DatabaseError> {
        let what = format!("end script {}", self.script.name);
        let mut session = open(server).await?;
        end_session(&mut session, &what, id).await?;
        let query = format!("SELECT count(*) FROM information_schema.processlist WHERE id = {id}");
        for _ in 0..END_ATTEMPTS {
            if single(&mut session, &what, &query).await? == "0" {
                let mark = self.mark(&mut session).await;
                session.close().await;
                return mark;
            }
            tokio::time::sleep(END_PAUSE).await;
        }
        Err(DatabaseError::Busy { what: format!("script {} does not end", self.script.name) })
    }

    async fn run_statements(&self, session: &mut Session) -> Ran {
        let results = sqlx::raw_sql(AssertSqlSafe(self.script.sql.clone())).fetch_many(&mut session.connection);
        until_all_ended(self.script, &self.ended, results).await
    }
}

/// How a script stands before it begins.
enum Prepared {
    HasRun,
    /// Its mark is in its transaction.
    Marked,
    /// Its mark is committed, and why.
    MarkedFirst(String),
}

/// The one text that a query answers.
async fn single(session: &mut Session, what: &str, query: &str) -> Result<String, DatabaseError> {
    session.rows(what, query).await?.first().map_or_else(|| Ok(String::new()), |row| row.text(0))
}

/// Removes the marks: all scripts have run and that is recorded elsewhere. What is not ours stays.
pub(crate) async fn forget_masked(server: &Server) -> Result<(), DatabaseError> {
    const WHAT: &str = "clean up after masking";
    let mut session = open(server).await?;
    if single(&mut session, WHAT, MARKS_ARE_OURS).await? == "1" {
        session.run(WHAT, "DROP DATABASE aurora_restore_masking").await?;
    }
    session.close().await;
    Ok(())
}
