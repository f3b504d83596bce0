//! The checks, on data that is right and on data that is not.

use super::support::{LAGER, MySqlServer, declare};
use aurora_restore_database::{
    CheckResult, Checks, FreshnessCheck, RowCountCheck, SchemaCheck, SqlCheck, Table, Verdict, setup_users, verify,
};

fn check(name: &str, query: &str) -> SqlCheck {
    SqlCheck { name: name.into(), database: "my_shop".into(), query: query.into() }
}

fn in_short(results: &[CheckResult]) -> Vec<(&str, bool, &str)> {
    let words =
        |result: &CheckResult| result.reason.clone().or(result.value.clone()).unwrap_or_default().leak() as &str;
    results.iter().map(|result| (result.name.as_str(), result.verdict == Verdict::Passed, words(result))).collect()
}

#[tokio::test]
async fn every_check_answers() {
    let server = MySqlServer::start(&[]).await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "a"), ("readonly_user", "reader", "r")], &[]);
    let before = verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    assert_eq!(before[0].verdict, Verdict::Failed);
    let open = "partner@%, prod_admin@%, prod_report@127.0.0.1, prod_report@localhost";
    assert_eq!(before[0].value.as_deref(), Some(open));
    assert_eq!(before[1].verdict, Verdict::Failed);
    let refused = "refused the login of app_user (SQLSTATE 28000, MySQL error 1045)";
    assert!(before[1].reason.as_deref().is_some_and(|reason| reason.ends_with(refused)), "{before:?}");

    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let checks = [
        check("orders arrived", "SELECT count(*) = 3 FROM orders;"),
        check("in another database", "SELECT count(*) = 3 FROM `Lager_1 ``Süd' 5%`.orders -- a comment"),
        check("no orders", "SELECT count(*) = 0 FROM orders"),
        check("a number", "SELECT 2"),
        check("too many", "SELECT true FROM orders"),
        check("too wide", "SELECT true AS a, true AS b"),
        check("nothing", "SELECT true FROM orders WHERE false"),
        check("null", "SELECT NULL = 1"),
        check("a write", "DELETE FROM orders"),
        check("two statements", "SELECT true) AS x; DELETE FROM orders; SELECT * FROM (SELECT 1"),
        check("a hidden write", "SELECT 1 = nextval(numbers)"),
        check("a mistake", "SELECT no_such_column FROM orders"),
        SqlCheck { database: "missing".into(), ..check("no database", "SELECT true") },
        SqlCheck { database: String::new(), ..check("none named", "SELECT true") },
    ];
    server.run(&["CREATE SEQUENCE my_shop.numbers"]).await;
    let checks = Checks { queries: checks.to_vec(), ..Checks::default() };
    let results = verify(&server.server(), &desired, &passwords, &checks).await.unwrap();
    let refused =
        |number: &str| format!("the database server refused to answer the query (SQLSTATE {number})").leak() as &str;
    assert_eq!(
        in_short(&results),
        [
            ("inherited logins", true, "none can log in"),
            ("login of application_user", true, "app_user@localhost"),
            ("read of application_user", true, "orders in database Lager_1 `Süd' 5%"),
            ("login of readonly_user", true, "reader@%"),
            ("read of readonly_user", true, "orders in database Lager_1 `Süd' 5%"),
            ("no write of readonly_user", true, "refused in 2 databases"),
            ("orders arrived", true, "true"),
            ("in another database", true, "true"),
            ("no orders", false, "the query answered false"),
            ("a number", false, "the query answered a value that is neither 1 nor 0, MySQL's true and false"),
            ("too many", false, "the query answered more than one row; it must answer one boolean"),
            ("too wide", false, "the query answered more than one column; it must answer one boolean"),
            ("nothing", false, "the query answered no row; it must answer one boolean"),
            ("null", false, "the query answered null"),
            ("a write", false, refused("42000, MySQL error 1064")),
            ("two statements", false, refused("42000, MySQL error 1064")),
            ("a hidden write", false, refused("25006, MySQL error 1792")),
            ("a mistake", false, refused("42S22, MySQL error 1054")),
            (
                "no database",
                false,
                "the database server refused to open database missing for admin (SQLSTATE 42000, MySQL error 1049)"
            ),
            ("none named", false, "it names no database, and the master's secret names none to take instead"),
        ]
    );
    assert_eq!(server.texts("SELECT count(*) FROM my_shop.orders").await, ["3"]);
}

#[tokio::test]
async fn data_is_judged_by_age_count_and_shape() {
    let server = MySqlServer::start(&["--default-time-zone=+05:00"]).await;
    server
        .run(&[
            "CREATE TABLE my_shop.events (at timestamp NULL, local datetime(3), day date)",
            "SET time_zone = '+00:00'",
            "INSERT INTO my_shop.events SELECT t, t, t FROM (SELECT utc_timestamp() - INTERVAL 90 MINUTE AS t) x",
            "CREATE TABLE my_shop.`Odd ``name` (at timestamp NULL)",
        ])
        .await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "a")], &[]);
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let table = |text: &str| Table::in_database(text, "my_shop");
    let fresh = |name: &str, column: &str, max_age_hours| FreshnessCheck {
        database: "my_shop".into(),
        table: table(name),
        column: column.into(),
        max_age_hours,
    };
    let rows = |name: &str, min, max| RowCountCheck { database: "my_shop".into(), table: table(name), min, max };
    let schema = |database: &str, sha256: Option<&str>| SchemaCheck {
        database: database.into(),
        sha256: sha256.map(str::to_owned),
    };
    let checks = Checks {
        freshness: vec![
            fresh("events", "at", 2),
            fresh("my_shop.events", "local", 2),
            fresh("events", "at", 1),
            fresh("Odd `name", "at", 1),
            fresh("events", "missing", 1),
        ],
        row_counts: vec![
            rows("orders", Some(3), Some(3)),
            rows("orders", Some(2), None),
            rows("orders", Some(4), None),
            rows("orders", None, Some(2)),
            rows("none", Some(1), None),
        ],
        schemas: vec![schema("my_shop", None), schema("my_shop", Some(&"0".repeat(64))), schema(LAGER, None)],
        ..Checks::default()
    };
    let results = verify(&server.server(), &desired, &passwords, &checks).await.unwrap();
    let data = &results[3..];
    let told: Vec<_> =
        data[..10].iter().map(|r| (r.verdict == Verdict::Passed, r.value.as_deref(), r.reason.as_deref())).collect();
    let refused = |words| (false, None, Some(words));
    assert_eq!(
        told,
        [
            (true, Some("newest is 1.5 h old"), None),
            (true, Some("newest is 1.5 h old"), None),
            (false, Some("newest is 1.5 h old"), Some("older than 1 h")),
            refused("the table is empty"),
            refused(
                "the database server refused to tell the newest missing of my_shop.events (SQLSTATE 42S22, MySQL error 1054)"
            ),
            (true, Some("3"), None),
            (true, Some("at least 2"), None),
            (false, Some("3"), Some("fewer than 4")),
            (false, Some("at least 3"), Some("more than 2")),
            refused("the database server refused to count the rows of my_shop.none (SQLSTATE 42S02, MySQL error 1146)"),
        ]
    );

    // What was told is what the next run may expect, until the shape changes; rights and rows are no part of it.
    let seen = data[10].value.clone().unwrap();
    assert_eq!((data[10].verdict, data[11].verdict), (Verdict::Passed, Verdict::Failed));
    assert_ne!(data[12].value.as_deref(), Some(seen.as_str()));
    let expected = Checks { schemas: vec![schema("my_shop", Some(&seen))], ..Checks::default() };
    let mut verdicts = vec![];
    for change in [
        "INSERT INTO my_shop.orders (total) VALUES (4)",
        "CREATE TABLE my_shop.more (x int)",
        "DROP TABLE my_shop.more",
        "ALTER TABLE my_shop.events MODIFY day date NOT NULL",
    ] {
        server.run(&[change]).await;
        let again = verify(&server.server(), &desired, &passwords, &expected).await.unwrap();
        verdicts.push(again.last().unwrap().verdict == Verdict::Passed);
    }
    assert_eq!(verdicts, [true, false, true, false]);
}

#[tokio::test]
async fn a_read_only_user_that_writes_is_found() {
    let server = MySqlServer::start(&[]).await;
    let (desired, passwords) = declare(&[("readonly_user", "reader", "r")], &[]);
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    server.run(&["GRANT DELETE ON my_shop.orders TO reader@'%'"]).await;
    let results = verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    let result = results.iter().find(|result| result.name == "no write of readonly_user").unwrap();
    assert_eq!((result.verdict, result.value.as_deref()), (Verdict::Failed, Some("orders in database my_shop")));
}

#[tokio::test]
async fn a_user_that_may_read_none_of_the_tables_fails() {
    let server = MySqlServer::start(&[]).await;
    let (desired, passwords) = declare(&[("readonly_user", "reader", "r")], &[]);
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    server.run(&["REVOKE ALL PRIVILEGES, GRANT OPTION FROM reader@`%`"]).await;
    let results = verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    let read = results.iter().find(|result| result.name == "read of readonly_user").unwrap();
    assert_eq!(read.verdict, Verdict::Failed, "{read:?}");
    let reason = read.reason.as_deref().unwrap();
    assert!(reason.starts_with("it may read no table, for instance not "), "{reason}");
}
