//! Looking at the restored data as its users will: log in, read, ask.

use crate::connect::{Credentials, Purpose, Session, try_login};
use crate::error::{DatabaseError, ErrorClass};
use crate::observe::{list_databases, observe_roles};
use crate::server::{Passwords, Server};
use aurora_restore_domain::roles::{DeclaredUser, Desired, InheritedLogins, RoleName, inherited_logins};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo};
use std::time::Instant;

/// A check of the team's own: a query that must answer exactly one boolean, true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlCheck {
    /// Its name in reports.
    pub name: String,
    /// Where it runs.
    pub database: String,
    /// One statement. It runs as the master in a read-only transaction with a time limit.
    pub query: String,
}

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
    checks: &[SqlCheck],
) -> Result<Vec<CheckResult>, DatabaseError> {
    let mut session = server.session(&server.database).await?;
    let databases = list_databases(&mut session).await?;
    let databases: Vec<String> = databases.into_iter().filter(|db| db.is_usable()).map(|db| db.name).collect();
    let mut results = vec![check_inherited(server, desired, &mut session).await?];
    session.close().await;
    for user in desired.declared() {
        let credentials = passwords.credentials(&user.role)?;
        results.push(check_login(server, user, &credentials).await?);
        results.push(check_read(server, user, &credentials, &databases).await?);
    }
    for check in checks {
        results.push(check_sql(server, check).await?);
    }
    Ok(results)
}

/// What a check found, before it is timed and named.
struct Finding {
    passed: bool,
    value: Option<String>,
    reason: Option<String>,
}

impl Finding {
    fn passed(value: impl Into<String>) -> Self {
        Self { passed: true, value: Some(value.into()), reason: None }
    }

    fn failed(reason: impl Into<String>) -> Self {
        Self { passed: false, value: None, reason: Some(reason.into()) }
    }

    fn named(self, name: String, started: Instant) -> CheckResult {
        let verdict = if self.passed { Verdict::Passed } else { Verdict::Failed };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        CheckResult { name, verdict, value: self.value, reason: self.reason, duration_ms }
    }
}

/// A failure of a check as its finding, in words that hold no data: the server's message might.
fn finding_of(error: DatabaseError) -> Result<Finding, DatabaseError> {
    match error.class() {
        ErrorClass::Unreachable => Err(error),
        ErrorClass::LoginRefused | ErrorClass::Rejected | ErrorClass::Invalid => Ok(Finding::failed(error.to_string())),
    }
}

async fn check_inherited(
    server: &Server,
    desired: &Desired,
    session: &mut Session,
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let observed = observe_roles(server, session).await?;
    let open: Vec<&str> = inherited_logins(desired, &observed).map(RoleName::as_str).collect();
    let finding = match (open.is_empty(), desired.inherited()) {
        (true, _) => Finding::passed("none can log in"),
        (false, InheritedLogins::Lock) => {
            Finding { value: Some(open.join(", ")), ..Finding::failed("logins of the source can still log in") }
        }
        (false, InheritedLogins::Report | InheritedLogins::Keep) => {
            Finding { reason: Some("left as they are, as requested".into()), ..Finding::passed(open.join(", ")) }
        }
    };
    Ok(finding.named("inherited logins".into(), started))
}

async fn check_login(
    server: &Server,
    user: &DeclaredUser,
    credentials: &Credentials,
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let finding = match try_login(&server.endpoint, &server.database, credentials, &server.trust).await {
        Ok(login) if login.current_user == user.role.as_str() => Finding::passed(login.current_user),
        Ok(login) => Finding::failed(format!("the server takes it for {}", login.current_user)),
        Err(error) => finding_of(error)?,
    };
    Ok(finding.named(format!("login of {}", user.key), started))
}

/// A real read with the user's own rights: of the first table in the first database that has one for it.
async fn check_read(
    server: &Server,
    user: &DeclaredUser,
    credentials: &Credentials,
    databases: &[String],
) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let mut finding =
        Finding { reason: Some("no database has a table that it may read".into()), ..Finding::passed("SELECT 1") };
    for database in databases {
        match read_a_table(server, credentials, database).await {
            Ok(Some(table)) => finding = Finding::passed(format!("{table} in database {database}")),
            Ok(None) => continue,
            Err(error) => finding = finding_of(error)?,
        }
        break;
    }
    Ok(finding.named(format!("read of {}", user.key), started))
}

async fn read_a_table(
    server: &Server,
    credentials: &Credentials,
    database: &str,
) -> Result<Option<String>, DatabaseError> {
    let failed =
        |error| DatabaseError::of_statement(format!("read in database {database} as {}", credentials.role), error);
    let mut session = Session::open(&server.endpoint, database, credentials, &server.trust, Purpose::Use).await?;
    let table: Option<(String,)> = sqlx::query_as(include_str!("sql/readable_table.sql"))
        .fetch_optional(&mut session.connection)
        .await
        .map_err(failed)?;
    if let Some((table,)) = &table {
        // The server quoted the name.
        let query = AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {table})"));
        sqlx::query(query).fetch_one(&mut session.connection).await.map_err(failed)?;
    }
    session.close().await;
    Ok(table.map(|(table,)| table))
}

async fn check_sql(server: &Server, check: &SqlCheck) -> Result<CheckResult, DatabaseError> {
    let started = Instant::now();
    let session = Session::open(&server.endpoint, &check.database, &server.master, &server.trust, Purpose::Use).await;
    let finding = match session {
        Ok(mut session) => {
            let finding = ask(&mut session.connection, check).await;
            session.close().await;
            match finding {
                Ok(finding) => finding,
                Err(error) => finding_of(DatabaseError::of_statement("answer the query", error))?,
            }
        }
        Err(error) => finding_of(error)?,
    };
    Ok(finding.named(check.name.clone(), started))
}

async fn ask(connection: &mut PgConnection, check: &SqlCheck) -> Result<Finding, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
    // Prepared, so that it is one statement: `COMMIT; DELETE …` is refused. Limited, so that no more than it takes to
    // see that there are too many rows is kept.
    let rows = first_rows(&mut transaction, &check.query).await?;
    transaction.rollback().await?;
    Ok(match rows.as_slice() {
        [row] => judge(row)?,
        [] => Finding::failed("the query answered no row; it must answer one boolean"),
        _ => Finding::failed("the query answered more than one row; it must answer one boolean"),
    })
}

/// At most two rows, through a cursor, so that a query that answers the whole table costs no memory.
async fn first_rows(connection: &mut PgConnection, query: &str) -> Result<Vec<PgRow>, sqlx::Error> {
    let query = query.trim().trim_end_matches(';');
    let declare = AssertSqlSafe(format!("DECLARE aurora_restore_check NO SCROLL CURSOR FOR {query}"));
    sqlx::query(declare).persistent(false).execute(&mut *connection).await?;
    sqlx::query("FETCH FORWARD 2 FROM aurora_restore_check").persistent(false).fetch_all(connection).await
}

fn judge(row: &PgRow) -> Result<Finding, sqlx::Error> {
    let [column] = row.columns() else {
        return Ok(Finding::failed("the query answered more than one column; it must answer one boolean"));
    };
    if column.type_info().name() != "BOOL" {
        return Ok(Finding::failed(format!(
            "the query answered a value of type {}, not boolean",
            column.type_info().name()
        )));
    }
    Ok(match row.try_get::<Option<bool>, _>(0)? {
        Some(true) => Finding::passed("true"),
        Some(false) => Finding { value: Some("false".into()), ..Finding::failed("the query answered false") },
        None => Finding::failed("the query answered null"),
    })
}
