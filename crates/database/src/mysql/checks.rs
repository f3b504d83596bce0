//! The team's checks of the data, as MySQL answers them. Each runs as the master in a read-only transaction with a time limit.

use super::observe::open;
use super::quote::{quote_identifier, quote_text};
use super::session::{MySqlValues, Session};
use crate::checks::{
    Check, FreshnessCheck, RowCountCheck, SchemaCheck, SqlCheck, Table, add_line, judge_age, judge_count, judge_schema,
    limit_of,
};
use crate::error::DatabaseError;
use crate::server::Server;
use crate::verify::Finding;
use sha2::{Digest, Sha256};

const WHAT: &str = "answer the query";

/// Looks. What the server refuses to answer is an error; what it answers is a finding.
pub(super) async fn find(check: &Check<'_>, server: &Server) -> Result<Finding, DatabaseError> {
    let mut session = open(server).await?;
    let finding = async {
        let database = check.database();
        if database.is_empty() {
            return Ok(Finding::failed("it names no database, and the master's secret names none to take instead"));
        }
        let what = format!("open database {database} for {}", server.master.role);
        session.run(&what, format!("USE {}", quote_identifier(database)?)).await?;
        session.run(WHAT, "START TRANSACTION READ ONLY").await?;
        let finding = match check {
            Check::Query(check) => query(&mut session, check).await?,
            Check::Freshness(check) => freshness(&mut session, check).await?,
            Check::RowCount(check) => row_count(&mut session, check).await?,
            Check::Schema(check) => schema(&mut session, check).await?,
        };
        session.run(WHAT, "ROLLBACK").await?;
        Ok(finding)
    };
    let finding = finding.await;
    session.close().await;
    finding
}

/// One query and no more of it than it takes to see that there are too many rows. As a table in another query, so that it
/// can be nothing else: the end of a line ends a comment of its own.
async fn query(session: &mut Session, check: &SqlCheck) -> Result<Finding, DatabaseError> {
    let query = check.query.trim().trim_end_matches(';');
    let sql = format!("SELECT * FROM (\n{query}\n) AS aurora_restore_check LIMIT 2");
    // Prepared, so that it is one statement; from a variable, since MySQL takes no text here that is written in digits.
    session.run(WHAT, format!("SET @aurora_restore_check = {}", quote_text(&sql))).await?;
    session.run(WHAT, "PREPARE aurora_restore_check FROM @aurora_restore_check").await?;
    let rows = session.rows(WHAT, "EXECUTE aurora_restore_check").await?;
    Ok(match rows.as_slice() {
        [row] if row.len() != 1 => {
            Finding::failed("the query answered more than one column; it must answer one boolean")
        }
        [row] if row.is_null(0) => Finding::failed("the query answered null"),
        [row] => match row.bytes(0) {
            b"1" => Finding::passed("true"),
            b"0" => Finding { value: Some("false".into()), ..Finding::failed("the query answered false") },
            _ => Finding::failed("the query answered a value that is neither 1 nor 0, MySQL's true and false"),
        },
        [] => Finding::failed("the query answered no row; it must answer one boolean"),
        _ => Finding::failed("the query answered more than one row; it must answer one boolean"),
    })
}

async fn freshness(session: &mut Session, check: &FreshnessCheck) -> Result<Finding, DatabaseError> {
    // The session is in UTC: sqlx sets it so. A column without a zone is taken as UTC, which is Aurora's default.
    let (table, column) = (quoted(&check.table)?, quote_identifier(&check.column)?);
    // A date is ten characters, a time more.
    let query = format!(
        "SELECT timestampdiff(SECOND, max({column}), utc_timestamp()), char_length(max({column})) = 10 FROM {table}"
    );
    let what = format!("tell the newest {} of {}", check.column, check.table);
    let rows = session.rows(&what, query).await?;
    let (age, is_date) = match rows.first() {
        Some(row) if !row.is_null(0) => (row.text(0)?.parse::<f64>().ok(), row.text(1)? == "1"),
        Some(_) | None => (None, false),
    };
    Ok(judge_age(age, is_date, check.max_age_hours))
}

async fn row_count(session: &mut Session, check: &RowCountCheck) -> Result<Finding, DatabaseError> {
    let limit = limit_of(check);
    let query = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {limit}) AS seen", quoted(&check.table)?);
    let rows = session.rows(&format!("count the rows of {}", check.table), query).await?;
    let count = rows.first().map_or_else(|| Ok(String::new()), |row| row.text(0))?;
    Ok(judge_count(count.parse().unwrap_or(0), check))
}

async fn schema(session: &mut Session, check: &SchemaCheck) -> Result<Finding, DatabaseError> {
    let mut lines = vec![];
    for query in include_str!("../sql/mysql_schema.sql").split(";\n").filter(|query| !query.trim().is_empty()) {
        lines.extend(session.map_rows("tell the schema", query, schema_line).await?);
    }
    // By bytes, whatever collation the server's catalogs have.
    lines.sort_unstable();
    let mut digest = Sha256::new();
    lines.iter().for_each(|line| add_line(&mut digest, line));
    Ok(judge_schema(digest, check))
}

/// Values are texts of any kind: their lengths keep two of them from reading as one.
fn schema_line(row: MySqlValues) -> Result<String, DatabaseError> {
    let values = (0..row.len()).map(|column| row.text(column).map(|text| format!("{}:{text}", text.len())));
    Ok(values.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn quoted(table: &Table) -> Result<String, DatabaseError> {
    Ok(format!("{}.{}", quote_identifier(&table.schema)?, quote_identifier(&table.name)?))
}
