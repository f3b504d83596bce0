//! Quoting, as the server understands it.

use crate::support::TestServer;
use aurora_restore_database::quote::{quote_identifier, quote_literal};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::{AssertSqlSafe, Column, Row};

#[tokio::test]
async fn what_is_quoted_comes_back_the_same() {
    let server = TestServer::shared().await;
    let mut session = server.superuser("postgres").await;
    let hostile = [
        "'",
        "\"",
        "\\",
        "\\'",
        "'; --",
        "\"; DROP TABLE x; --",
        "$$",
        "select",
        "a b",
        "é'\\\"",
        "\n\t",
        "%s%I",
        "E'",
    ];
    let mut runner = TestRunner::deterministic();
    let generated = "[^\\x00]{1,15}|['\"\\\\$; a]{1,15}";
    let generated = (0..300).map(|_| generated.new_tree(&mut runner).unwrap().current());
    let texts: Vec<String> = hostile.into_iter().map(str::to_owned).chain(generated).collect();
    for conforming in ["on", "off"] {
        let setting = format!("SET standard_conforming_strings = {conforming}; SET escape_string_warning = off");
        if sqlx::raw_sql(AssertSqlSafe(setting)).execute(&mut session).await.is_err() {
            continue; // PostgreSQL 19 and later know `on` only.
        }
        for text in &texts {
            let (literal, identifier) = (quote_literal(text).unwrap(), quote_identifier(text).unwrap());
            let query = AssertSqlSafe(format!("SELECT{literal}::text AS{identifier}"));
            let row = sqlx::raw_sql(query).fetch_one(&mut session).await.unwrap();
            assert_eq!(row.get::<String, _>(0), *text);
            assert_eq!(row.columns()[0].name(), text.as_str());
        }
    }
}
