//! The team's checks of the data: its own queries, how new it is, how much there is, what shape it has. Each runs as the
//! master in a read-only transaction with a time limit, and answers no row of data.

use crate::connect::{Purpose, Session};
use crate::error::DatabaseError;
use crate::quote::quote_identifier;
use crate::server::Server;
use crate::verify::Finding;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo};

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

/// What to check besides the declared users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// The team's own queries.
    pub queries: Vec<SqlCheck>,
    /// How new the data is.
    pub freshness: Vec<FreshnessCheck>,
    /// How much there is.
    pub row_counts: Vec<RowCountCheck>,
    /// What shape it has.
    pub schemas: Vec<SchemaCheck>,
}

/// The newest value of a column must not be older than so many hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshnessCheck {
    /// Where the table is.
    pub database: String,
    /// The table.
    pub table: Table,
    /// A column of type `timestamptz`, `timestamp` (taken as UTC) or `date`.
    pub column: String,
    /// Hours.
    pub max_age_hours: u32,
}

/// A table must have at least and at most so many rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCountCheck {
    /// Where the table is.
    pub database: String,
    /// The table.
    pub table: Table,
    /// At least.
    pub min: Option<u64>,
    /// At most.
    pub max: Option<u64>,
}

/// The shape of a database must be the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaCheck {
    /// Which database.
    pub database: String,
    /// SHA-256 in hexadecimal digits, as an earlier run told it; `None` only tells it.
    pub sha256: Option<String>,
}

/// A time in the future by less is an application's clock, or a local time with its summer; a date may be that of a place
/// where the day has begun.
const AHEAD_AT_MOST_SECONDS: f64 = 3660.0;
const DATE_AHEAD_AT_MOST_SECONDS: f64 = 86_400.0;

/// A table by schema and name, unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl Table {
    /// `schema.table`, or `table` of schema `public`.
    pub fn parse(text: &str) -> Self {
        let (schema, name) = text.split_once('.').unwrap_or(("public", text));
        Self { schema: schema.to_owned(), name: name.to_owned() }
    }

    /// For MySQL, where a schema is a database: `database.table`, or `table` of `database`.
    pub fn in_database(text: &str, database: &str) -> Self {
        let (schema, name) = text.split_once('.').unwrap_or((database, text));
        Self { schema: schema.to_owned(), name: name.to_owned() }
    }

    fn quoted(&self) -> Result<String, DatabaseError> {
        Ok(format!("{}.{}", quote_identifier(&self.schema)?, quote_identifier(&self.name)?))
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A check, whatever it looks at.
pub(crate) enum Check<'a> {
    Query(&'a SqlCheck),
    Freshness(&'a FreshnessCheck),
    RowCount(&'a RowCountCheck),
    Schema(&'a SchemaCheck),
}

impl Checks {
    /// All of them, in the order of reports.
    pub(crate) fn all(&self) -> impl Iterator<Item = Check<'_>> {
        let queries = self.queries.iter().map(Check::Query);
        let freshness = self.freshness.iter().map(Check::Freshness);
        let row_counts = self.row_counts.iter().map(Check::RowCount);
        queries.chain(freshness).chain(row_counts).chain(self.schemas.iter().map(Check::Schema))
    }
}

impl Check<'_> {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Query(check) => check.name.clone(),
            Self::Freshness(check) => format!("freshness of {}.{}", check.table, check.column),
            Self::RowCount(check) => format!("rows of {}", check.table),
            Self::Schema(check) => format!("schema of {}", check.database),
        }
    }

    pub(crate) fn database(&self) -> &str {
        match self {
            Self::Query(check) => &check.database,
            Self::Freshness(check) => &check.database,
            Self::RowCount(check) => &check.database,
            Self::Schema(check) => &check.database,
        }
    }

    /// Looks. What the server refuses to answer is an error; what it answers is a finding.
    pub(crate) async fn find(&self, server: &Server) -> Result<Finding, DatabaseError> {
        // The team's statements meet the database's own surroundings, ours only the server's.
        let purpose = if matches!(self, Self::Query(_)) { Purpose::Use } else { Purpose::Manage };
        let session = Session::open(&server.endpoint, self.database(), &server.master, &server.trust, purpose);
        let mut session = session.await?;
        let failed = |error| DatabaseError::of_statement("answer the query", error);
        let finding = async {
            let mut transaction = session.connection.begin_with("BEGIN READ ONLY").await.map_err(failed)?;
            let finding = match self {
                Self::Query(check) => query(&mut transaction, check).await.map_err(failed)?,
                Self::Freshness(check) => freshness(&mut transaction, check).await?,
                Self::RowCount(check) => row_count(&mut transaction, check).await?,
                Self::Schema(check) => schema(&mut transaction, check).await.map_err(failed)?,
            };
            transaction.rollback().await.map_err(failed)?;
            Ok(finding)
        };
        let finding = finding.await;
        session.close().await;
        finding
    }
}

async fn query(connection: &mut PgConnection, check: &SqlCheck) -> Result<Finding, sqlx::Error> {
    // Prepared, so that it is one statement: `COMMIT; DELETE …` is refused. Limited, so that no more than it takes to
    // see that there are too many rows is kept.
    let rows = first_rows(connection, &check.query).await?;
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

async fn freshness(connection: &mut PgConnection, check: &FreshnessCheck) -> Result<Finding, DatabaseError> {
    let (table, column) = (check.table.quoted()?, quote_identifier(&check.column)?);
    // A time without a zone is the server's own, which is UTC on Aurora; said here so that it is on every server.
    let failed =
        |error| DatabaseError::of_statement(format!("tell the newest {} of {}", check.column, check.table), error);
    sqlx::raw_sql("SET LOCAL TIME ZONE 'UTC'").execute(&mut *connection).await.map_err(failed)?;
    let query = format!(
        "SELECT extract(epoch FROM clock_timestamp() - max({column})::timestamptz)::float8, pg_typeof(max({column})) = 'date'::regtype FROM {table}"
    );
    let (age, is_date): (Option<f64>, bool) =
        sqlx::query_as(AssertSqlSafe(query)).persistent(false).fetch_one(connection).await.map_err(failed)?;
    Ok(judge_age(age, is_date, check.max_age_hours))
}

/// Whether the newest value, a date or a time, which is `age` seconds old, is new enough; `None` is a table without any.
pub(crate) fn judge_age(age: Option<f64>, is_date: bool, max_age_hours: u32) -> Finding {
    let Some(age) = age else { return Finding::failed("the table is empty") };
    if age < -(if is_date { DATE_AHEAD_AT_MOST_SECONDS } else { AHEAD_AT_MOST_SECONDS }) {
        let value = format!("newest is {} ahead", hours(-age));
        return Finding { value: Some(value), ..Finding::failed("it lies in the future, and tells no age") };
    }
    let value = format!("newest is {} old", hours(age.max(0.0)));
    match age <= f64::from(max_age_hours) * 3600.0 {
        true => Finding::passed(value),
        false => Finding { value: Some(value), ..Finding::failed(format!("older than {max_age_hours} h")) },
    }
}

/// `3.2 h`
fn hours(seconds: f64) -> String {
    format!("{:.1} h", seconds / 3600.0)
}

async fn row_count(connection: &mut PgConnection, check: &RowCountCheck) -> Result<Finding, DatabaseError> {
    let table = check.table.quoted()?;
    let limit = limit_of(check);
    let query = format!("SELECT count(*) FROM (SELECT FROM {table} LIMIT $1) AS rows");
    let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(query))
        .bind(limit)
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(|error| DatabaseError::of_statement(format!("count the rows of {}", check.table), error))?;
    Ok(judge_count(count.unsigned_abs(), check))
}

/// How many rows are counted: no more than it takes to know. A table of billions is not counted to see that it has a
/// thousand.
pub(crate) fn limit_of(check: &RowCountCheck) -> i64 {
    let enough = check.max.map_or(check.min.unwrap_or(0), |max| max.saturating_add(1));
    i64::try_from(enough).unwrap_or(i64::MAX)
}

/// Whether so many rows, counted up to the limit, are as many as wanted.
pub(crate) fn judge_count(count: u64, check: &RowCountCheck) -> Finding {
    let value =
        if i64::try_from(count) == Ok(limit_of(check)) { format!("at least {count}") } else { count.to_string() };
    match (check.min, check.max) {
        (Some(min), _) if count < min => Finding { value: Some(value), ..Finding::failed(format!("fewer than {min}")) },
        (_, Some(max)) if count > max => Finding { value: Some(value), ..Finding::failed(format!("more than {max}")) },
        _ => Finding::passed(value),
    }
}

async fn schema(connection: &mut PgConnection, check: &SchemaCheck) -> Result<Finding, sqlx::Error> {
    // Line by line: a schema may be larger than a function's memory.
    let mut lines = sqlx::query_as::<_, (String,)>(include_str!("sql/schema.sql")).fetch(connection);
    let mut digest = Sha256::new();
    while let Some((line,)) = lines.try_next().await? {
        add_line(&mut digest, &line);
    }
    Ok(judge_schema(digest, check))
}

/// A schema is told in lines.
pub(crate) fn add_line(digest: &mut Sha256, line: &str) {
    digest.update(line.as_bytes());
    digest.update(b"\n");
}

/// Whether a schema is the expected one.
pub(crate) fn judge_schema(digest: Sha256, check: &SchemaCheck) -> Finding {
    let seen: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    match &check.sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&seen) => {
            Finding { value: Some(seen), ..Finding::failed(format!("another schema than {expected}")) }
        }
        _ => Finding::passed(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schemas_digest_is_what_requests_name() {
        let mut digest = Sha256::new();
        ["one", "two"].into_iter().for_each(|line| add_line(&mut digest, line));
        let sha256 = Some("c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8".to_owned());
        let check = SchemaCheck { database: "app".into(), sha256 };
        assert!(judge_schema(digest, &check).passed);
        assert!(!judge_schema(Sha256::new(), &check).passed);
    }

    #[test]
    fn tables_by_name() {
        let table = Table::parse("Sales Archive.Orders \"old\"");
        assert_eq!(table.quoted().unwrap(), "\"Sales Archive\".\"Orders \"\"old\"\"\"");
        assert_eq!(Table::parse("orders").to_string(), "public.orders");
        assert_eq!(Table::in_database("orders", "shop").to_string(), "shop.orders");
        assert_eq!(Table::in_database("old.orders", "shop").to_string(), "old.orders");
    }
}
