//! Looking at the restored data as its users will: log in, read, ask.

use crate::checks::Checks;
use crate::connect::{Credentials, Purpose, Session, try_login};
use crate::error::{DatabaseError, ErrorClass};
use crate::mysql;
use crate::observe::{list_databases, observe_roles};
use crate::server::{Passwords, Server};
use aurora_restore_domain::engine::Engine;
use aurora_restore_domain::roles::{DeclaredUser, Desired, InheritedLogins, Scope, inherited_logins};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection};
use std::time::Instant;

/// Passed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Verdict {
    Passed,
    Failed,
}

/// What a check came to. Holds no data of the database but a check's own boolean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Which check.
    pub name: String,
    /// Passed or not.
    pub verdict: Verdict,
    /// What was seen: a boolean, a table that could be read, logins that are still open.
    pub value: Option<String>,
    /// Why it failed, or what to know although it passed.
    pub reason: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
}

/// Runs every check and answers all results. A check that fails is a result; only a server that cannot be reached, or
/// does not let the master in, is an error.
pub async fn verify(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
    checks: &Checks,
) -> Result<Vec<CheckResult>, DatabaseError> {
    match server.engine {
        Engine::PostgreSql => verify_postgresql(server, desired, passwords, checks).await,
        Engine::MySql => mysql::verify(server, desired, passwords, checks).await,
    }
}

async fn verify_postgresql(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
    checks: &Checks,
) -> Result<Vec<CheckResult>, DatabaseError> {
    let mut session = server.session(&server.database).await?;
    let databases = list_databases(&mut session).await?;
    let databases: Vec<String> = databases.into_iter().filter(|db| db.is_usable()).map(|db| db.name).collect();
    let mut results = vec![check_inherited(server, desired, &mut session).await?];
    session.close().await;
    for user in desired.declared() {
        let credentials = passwords.credentials(&user.role)?;
        results.push(check_login(server, user, &credentials, &databases).await?);
        results.push(check_read(server, user, &credentials, &databases).await?);
        if !user.writes() {
            results.push(check_no_write(server, user, &credentials, &databases).await?);
        }
    }
    for check in checks.all() {
        let started = Instant::now();
        let finding = match check.find(server).await {
            Ok(finding) => finding,
            Err(error) => finding_of(error)?,
        };
        results.push(finding.named(check.name(), started));
    }
    Ok(results)
}

/// What a check found, before it is timed and named.
pub(crate) struct Finding {
    pub(crate) passed: bool,
    pub(crate) value: Option<String>,
    pub(crate) reason: Option<String>,
}

impl Finding {
    pub(crate) fn passed(value: impl Into<String>) -> Self {
        Self { passed: true, value: Some(value.into()), reason: None }
    }

    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self { passed: false, value: None, reason: Some(reason.into()) }
    }

    pub(crate) fn named(self, name: String, started: Instant) -> CheckResult {
        let verdict = if self.passed { Verdict::Passed } else { Verdict::Failed };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        CheckResult { name, verdict, value: self.value, reason: self.reason, duration_ms }
    }
}

/// A failure of a check as its finding, in words that hold no data: the server's message might.
pub(crate) fn finding_of(error: DatabaseError) -> Result<Finding, DatabaseError> {
    match error.class() {
        ErrorClass::Unreachable => Err(error),
        ErrorClass::LoginRefused | ErrorClass::Rejected | ErrorClass::Invalid => Ok(Finding::failed(error.to_string())),
    }
}

/// The same of a login, with what to look at when a token is refused.
pub(crate) fn finding_of_login(user: &DeclaredUser, error: DatabaseError) -> Result<Finding, DatabaseError> {
    let by_token = user.takes_tokens() && error.class() == ErrorClass::LoginRefused;
    let mut finding = finding_of(error)?;
    if let Some(reason) = finding.reason.as_mut().filter(|_| by_token) {
        reason.push_str(
            "; it logs in with an IAM token, which takes rds-db:connect for this user in the role of verify-restore",
        );
    }
    Ok(finding)
}

async fn check_inherited(
    server: &Server,
    desired: &Desired,
    session: &mut Session,
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let observed = observe_roles(server, session).await?;
    let open: Vec<String> = inherited_logins(desired, &observed).map(ToString::to_string).collect();
    Ok(judge_inherited(&open, desired).named("inherited logins".into(), started))
}

/// Whether inherited logins that can still log in are as wanted.
pub(crate) fn judge_inherited(open: &[String], desired: &Desired) -> Finding {
    match (open.is_empty(), desired.inherited()) {
        (true, _) => Finding::passed("none can log in"),
        (false, InheritedLogins::Lock) => {
            Finding { value: Some(open.join(", ")), ..Finding::failed("logins of the source can still log in") }
        }
        (false, InheritedLogins::Report | InheritedLogins::Keep) => {
            Finding { reason: Some("left as they are, as requested".into()), ..Finding::passed(open.join(", ")) }
        }
    }
}

/// Into the master's database if the user may be there, else into the first of its own.
async fn check_login(
    server: &Server,
    user: &DeclaredUser,
    credentials: &Credentials,
    databases: &[String],
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let named = |finding: Finding| finding.named(format!("login of {}", user.key), started);
    let mut places = [&server.database].into_iter().chain(databases);
    let Some(database) = places.find(|database| user.is_let_into(database)) else {
        return Ok(named(Finding::failed("none of its databases can be connected to")));
    };
    let finding = match try_login(&server.endpoint, database, credentials, &server.trust).await {
        Ok(login) if login.current_user == user.role.as_str() => Finding::passed(login.current_user),
        Ok(login) => Finding::failed(format!("the server takes it for {}", login.current_user)),
        Err(error) => finding_of_login(user, error)?,
    };
    Ok(named(finding))
}

/// A real read with the user's own rights: of the first table in the first database that has one for it. Where there are
/// tables, and it may read none of them, it has not what its profile promises.
async fn check_read(
    server: &Server,
    user: &DeclaredUser,
    credentials: &Credentials,
    databases: &[String],
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let named = |finding: Finding| finding.named(format!("read of {}", user.key), started);
    let Some(scope) = user.reads() else {
        let reason = Some("it has no right to read tables".into());
        return Ok(named(Finding { reason, ..Finding::passed("nothing to read") }));
    };
    let mut finding =
        Finding { reason: Some("no database has a table that it may read".into()), ..Finding::passed("SELECT 1") };
    for database in databases.iter().filter(|database| user.is_let_into(database)) {
        match read_a_table(server, credentials, database, &scope).await {
            Ok(Read::Did(table)) => finding = Finding::passed(format!("{table} in database {database}")),
            Ok(Read::Refused(table)) => {
                finding =
                    Finding::failed(format!("it may read no table, for instance not {table} in database {database}"));
                continue;
            }
            Ok(Read::NoTable) => continue,
            Err(error) => finding = finding_of(error)?,
        }
        break;
    }
    Ok(named(finding))
}

/// A table for this session's user: in the schemas of `scope`, first what it can read, and nothing else if `readable`.
async fn find_a_table(session: &mut Session, scope: &Scope, readable: bool) -> Result<Option<String>, sqlx::Error> {
    let schemas: Option<Vec<&str>> = scope.names().map(|names| names.iter().map(String::as_str).collect());
    let table: Option<(String,)> = sqlx::query_as(include_str!("sql/table_for.sql"))
        .bind(schemas)
        .bind(readable)
        .fetch_optional(&mut session.connection)
        .await?;
    Ok(table.map(|(table,)| table))
}

enum Read {
    Did(String),
    Refused(String),
    NoTable,
}

async fn read_a_table(
    server: &Server,
    credentials: &Credentials,
    database: &str,
    scope: &Scope,
) -> Result<Read, DatabaseError> {
    let failed =
        |error| DatabaseError::of_statement(format!("read in database {database} as {}", credentials.role), error);
    let mut session = Session::open(&server.endpoint, database, credentials, &server.trust, Purpose::Use).await?;
    let read = match find_a_table(&mut session, scope, true).await.map_err(failed)? {
        Some(table) => {
            // The server quoted the name.
            let query = AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {table})"));
            sqlx::query(query).fetch_one(&mut session.connection).await.map_err(failed)?;
            Read::Did(table)
        }
        None => find_a_table(&mut session, scope, false).await.map_err(failed)?.map_or(Read::NoTable, Read::Refused),
    };
    session.close().await;
    Ok(read)
}

/// Its rights are those of its profile; this tries one of them where it counts: a deletion of no row, which the server
/// refuses before it looks for rows, in a transaction that is taken back whatever it answers.
async fn check_no_write(
    server: &Server,
    user: &DeclaredUser,
    credentials: &Credentials,
    databases: &[String],
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let mut refused = 0;
    let mut finding = None;
    for database in databases {
        match write_to_a_table(server, credentials, database).await {
            Ok(None) => {}
            Ok(Some(Wrote::Refused)) => refused += 1,
            Ok(Some(Wrote::Did(table))) => {
                let value = Some(format!("{table} in database {database}"));
                finding = Some(Finding { value, ..Finding::failed("a write was let through") });
            }
            Err(error) => finding = Some(finding_of(error)?),
        }
        if finding.is_some() {
            break;
        }
    }
    let finding = finding.unwrap_or_else(|| Finding::passed(format!("refused in {refused} databases")));
    Ok(finding.named(format!("no write of {}", user.key), started))
}

enum Wrote {
    Refused,
    Did(String),
}

/// SQLSTATE of "permission denied".
const NOT_PERMITTED: &str = "42501";

async fn write_to_a_table(
    server: &Server,
    credentials: &Credentials,
    database: &str,
) -> Result<Option<Wrote>, DatabaseError> {
    let failed =
        |error| DatabaseError::of_statement(format!("write in database {database} as {}", credentials.role), error);
    let session = Session::open(&server.endpoint, database, credentials, &server.trust, Purpose::Use).await;
    let mut session = match session {
        Ok(session) => session,
        // Not let in at all: no write either.
        Err(error) if error.sqlstate() == Some(NOT_PERMITTED) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Wherever it is, also beyond its limits, and also what it may not even read.
    let table = find_a_table(&mut session, &Scope::ALL, false).await.map_err(failed)?;
    let mut wrote = None;
    if let Some(table) = table {
        let mut transaction = session.connection.begin_with("BEGIN READ WRITE").await.map_err(failed)?;
        // The server quoted the name.
        let tried = sqlx::raw_sql(AssertSqlSafe(format!("DELETE FROM {table} WHERE false"))).execute(&mut *transaction);
        wrote = Some(match tried.await {
            Ok(_) => Wrote::Did(table),
            Err(error) if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some(NOT_PERMITTED)) => {
                Wrote::Refused
            }
            Err(error) => return Err(failed(error)),
        });
        transaction.rollback().await.map_err(failed)?;
    }
    session.close().await;
    Ok(wrote)
}
