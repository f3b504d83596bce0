//! Quoting, as the server understands it.

use super::support::{MySqlServer, execute};
use aurora_restore_database::mysql_quote::{quote_account, quote_identifier, quote_text};
use aurora_restore_domain::accounts::{Account, Names};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::{AssertSqlSafe, Column, Row};

const HOSTILE: [&str; 14] = [
    "'",
    "\"",
    "`",
    "\\",
    "\\'",
    "'; -- ",
    "`; DROP DATABASE my_shop; -- ",
    "``",
    "select",
    "a b",
    "é'\\\"`",
    "\n\t",
    "%s_",
    "@",
];

fn generated(pattern: &'static str, count: usize) -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let generated = (0..count).map(|_| pattern.new_tree(&mut runner).unwrap().current());
    HOSTILE.into_iter().map(str::to_owned).chain(generated).filter(|text| !text.ends_with(' ')).collect()
}

#[tokio::test]
async fn what_is_quoted_comes_back_the_same() {
    let server = MySqlServer::start(&[]).await;
    let mut session = server.superuser().await;
    for mode in ["", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT"] {
        execute(&mut session, &format!("SET sql_mode = '{mode}'")).await.unwrap();
        // Names are of the basic plane: identifiers cannot hold others.
        for text in generated("[\\x01-\\u{d7ff}]{1,15}|['\"`\\\\; a]{1,15}", 300) {
            let query = format!("SELECT {} AS {}", quote_text(&text), quote_identifier(&format!("x{text}x")).unwrap());
            let row = sqlx::raw_sql(AssertSqlSafe(query)).fetch_one(&mut session).await.unwrap();
            assert_eq!(row.get_unchecked::<String, _>(0), text);
            // The server cuts white space off the ends of such a name, so it has none there.
            assert_eq!(row.columns()[0].name(), format!("x{text}x"));
        }
    }
}

#[tokio::test]
async fn accounts_and_databases_with_hostile_names_are_the_ones_meant() {
    let server = MySqlServer::start(&[]).await;
    let mut session = server.superuser().await;
    for (count, user) in generated("[\\x01-\\u{d7ff}]{1,9}|['\"`\\\\; a@]{1,9}", 40).into_iter().enumerate() {
        let account = Account::new(user.as_str(), format!("10.{count}.%"));
        let quoted = quote_account(&account).unwrap();
        execute(&mut session, &format!("CREATE USER {quoted}"))
            .await
            .unwrap_or_else(|error| panic!("{error}: {quoted}"));
        let host = quote_text(&account.host);
        let row = sqlx::raw_sql(AssertSqlSafe(format!("SELECT User FROM mysql.user WHERE Host = {host}")))
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert_eq!(row.get_unchecked::<String, _>(0), user);
    }
    // A grant on one database and not on another that its name would match.
    execute(&mut session, "CREATE USER reader@'%' IDENTIFIED BY 'r'").await.unwrap();
    for (database, other) in [("a_b", "axb"), ("a%c", "axxc"), ("a\\_d", "a\\xd"), ("e`'_f", "e`'xf")] {
        for name in [database, other] {
            let name = quote_identifier(name).unwrap();
            execute(&mut session, &format!("CREATE DATABASE {name}")).await.unwrap_or_else(|e| panic!("{e}: {name}"));
            execute(&mut session, &format!("CREATE TABLE {name}.t (x int)")).await.unwrap();
        }
        let pattern = quote_identifier(&Names::Patterns.of(database)).unwrap();
        execute(&mut session, &format!("GRANT SELECT ON {pattern}.* TO reader@'%'")).await.unwrap();
        let mut reader = server.session(("reader", "r")).await.unwrap();
        let mut read = async |name: &str| {
            execute(&mut reader, &format!("SELECT * FROM {}.t", quote_identifier(name).unwrap())).await
        };
        assert_eq!(read(database).await, Ok(()), "{database}");
        assert_eq!(read(other).await, Err("1142".into()), "{other}");
    }
}
