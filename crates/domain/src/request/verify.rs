//! `verify`: what is checked of the restored data.

use super::fields::Fields;
use serde::{Deserialize, Serialize};

/// Checks of the restored database, besides the login of every declared user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// The team's own SQL.
    pub checks: Vec<SqlCheck>,
    /// How new the data is.
    #[serde(default)]
    pub freshness: Vec<Freshness>,
    /// How much there is.
    #[serde(default)]
    pub row_counts: Vec<RowCount>,
    /// What shape it has.
    #[serde(default)]
    pub schemas: Vec<SchemaHash>,
}

/// A query that must return exactly one row with `true`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlCheck {
    /// What the check is called in state, audit and notification.
    pub name: String,
    /// Database to ask; the master's own when not given.
    pub database: Option<String>,
    /// One query; run in a read-only transaction.
    pub query: String,
}

/// The newest value of a column must not be older than so many hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// Database to ask; the master's own when not given.
    pub database: Option<String>,
    /// `schema.table`, or `table` of schema `public`.
    pub table: String,
    /// A column that holds times.
    pub column: String,
    /// Hours.
    pub max_age_hours: u32,
}

/// A table must have at least and at most so many rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCount {
    /// Database to ask; the master's own when not given.
    pub database: Option<String>,
    /// `schema.table`, or `table` of schema `public`.
    pub table: String,
    /// At least.
    pub min: Option<u64>,
    /// At most.
    pub max: Option<u64>,
}

/// The shape of a database must be the expected one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaHash {
    /// Database to look at; the master's own when not given.
    pub database: Option<String>,
    /// 64 hexadecimal digits, as an earlier run told them; `None` only has them told.
    pub sha256: Option<String>,
}

/// Most rows that a bound may name: more than any table has.
const ROWS_MAX: i64 = 1_000_000_000_000;
/// Most hours that data may be old: ten years.
const HOURS_MAX: i64 = 87_600;

pub(super) fn read(fields: &mut Fields<'_>) -> Verify {
    let known = ["checks", "freshness", "row_counts", "schemas"];
    let Some(mut object) = fields.object("verify", &known) else { return Verify::default() };
    let verify = Verify {
        checks: checks(&mut object),
        freshness: freshness(&mut object),
        row_counts: row_counts(&mut object),
        schemas: schemas(&mut object),
    };
    fields.absorb(object);
    verify
}

fn checks(object: &mut Fields<'_>) -> Vec<SqlCheck> {
    let mut checks = Vec::new();
    for mut item in object.objects("checks", &["name", "database", "query"]).unwrap_or_default() {
        item.problem_if_absent("name", "what the check is called");
        item.problem_if_absent("query", "a query that returns one row with true");
        checks.push(SqlCheck {
            name: item.text("name").unwrap_or_default(),
            database: item.text("database"),
            query: item.text("query").unwrap_or_default(),
        });
        object.absorb(item);
    }
    checks
}

fn freshness(object: &mut Fields<'_>) -> Vec<Freshness> {
    let mut all = Vec::new();
    let known = ["database", "table", "column", "max_age_hours"];
    for mut item in object.objects("freshness", &known).unwrap_or_default() {
        item.problem_if_absent("column", "a column of times");
        item.problem_if_absent("max_age_hours", "how old the newest row may be, in hours");
        let hours = item.whole("max_age_hours", 1, HOURS_MAX).and_then(|hours| u32::try_from(hours).ok());
        all.push(Freshness {
            database: item.text("database"),
            table: table(&mut item),
            column: item.text("column").unwrap_or_default(),
            max_age_hours: hours.unwrap_or_default(),
        });
        object.absorb(item);
    }
    all
}

fn row_counts(object: &mut Fields<'_>) -> Vec<RowCount> {
    let mut all = Vec::new();
    for mut item in object.objects("row_counts", &["database", "table", "min", "max"]).unwrap_or_default() {
        if !item.has("min") && !item.has("max") {
            item.problem_missing("min", "how many rows there are at least, or max, or both");
        }
        let rows = |value: Option<i64>| value.map(i64::unsigned_abs);
        let (min, max) = (rows(item.whole("min", 0, ROWS_MAX)), rows(item.whole("max", 0, ROWS_MAX)));
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            item.problem("min", &min.to_string(), &format!("at most max ({max})"));
        }
        all.push(RowCount { database: item.text("database"), table: table(&mut item), min, max });
        object.absorb(item);
    }
    all
}

fn schemas(object: &mut Fields<'_>) -> Vec<SchemaHash> {
    let mut all = Vec::new();
    for mut item in object.objects("schemas", &["database", "sha256"]).unwrap_or_default() {
        let sha256 = item.text("sha256");
        let is_hash = |text: &String| text.len() == 64 && text.chars().all(|digit| digit.is_ascii_hexdigit());
        if let Some(text) = sha256.as_ref().filter(|text| !is_hash(text)) {
            item.problem("sha256", text, "64 hexadecimal digits, as the check of an earlier run told them");
        }
        all.push(SchemaHash { database: item.text("database"), sha256 });
        object.absorb(item);
    }
    all
}

fn table(item: &mut Fields<'_>) -> String {
    item.problem_if_absent("table", "a table, as schema.table");
    item.text("table").unwrap_or_default()
}
