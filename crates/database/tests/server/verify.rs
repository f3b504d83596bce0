//! The checks, on data that is right and on data that is not.

use crate::production::LAGER;
use crate::support::{MASTER, TestServer, declare, grant, name, requested};
use aurora_restore_database::{
    CheckResult, Checks, FreshnessCheck, Passwords, RowCountCheck, SchemaCheck, SqlCheck, Table, Verdict, setup_users,
    verify,
};
use aurora_restore_domain::roles::{Desired, InheritedLogins, ObjectKind, Privilege, Profile};
use secrecy::SecretString;
use std::collections::BTreeSet;

fn check(name: &str, query: &str) -> SqlCheck {
    SqlCheck { name: name.into(), database: "shop".into(), query: query.into() }
}

fn in_short(results: &[CheckResult]) -> Vec<(&str, bool, &str)> {
    let text = |result: &CheckResult| result.reason.is_some();
    results
        .iter()
        .map(|result| {
            let words = if text(result) { result.reason.as_deref() } else { result.value.as_deref() };
            (result.name.as_str(), result.verdict == Verdict::Passed, words.unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn every_check_answers() {
    let server = TestServer::start(&[]).await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "a"), ("readonly_user", "reader", "r")], &[]);
    let before = verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    assert_eq!(before[0].verdict, Verdict::Failed);
    assert_eq!(before[0].value.as_deref(), Some("partner, prod_admin, prod_report"));
    assert_eq!(before[1].verdict, Verdict::Failed);
    assert!(
        before[1]
            .reason
            .as_deref()
            .is_some_and(|reason| reason.ends_with("refused the login of app_user (SQLSTATE 28P01)"))
    );

    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let checks = [
        check("orders arrived", "SELECT count(*) = 3 FROM sales.orders;"),
        check("no orders", "SELECT count(*) = 0 FROM sales.orders"),
        check("a number", "SELECT 1"),
        check("too many", "SELECT true FROM generate_series(1, 1000000)"),
        check("too wide", "SELECT true, true"),
        check("nothing", "SELECT true WHERE false"),
        check("null", "SELECT NULL::boolean"),
        check("a write", "WITH gone AS (DELETE FROM public.settings RETURNING 1) SELECT true FROM gone"),
        check("two statements", "SELECT true; DELETE FROM public.settings"),
        check("a hidden write", "SELECT nextval('public.settings_id_seq') > 0"),
        check("a mistake", "SELECT 'secret data'::int = 1"),
        SqlCheck { database: "missing".into(), ..check("no database", "SELECT true") },
    ];
    let results =
        verify(&server.server(), &desired, &passwords, &Checks { queries: checks.to_vec(), ..Checks::default() })
            .await
            .unwrap();
    assert_eq!(
        in_short(&results),
        [
            ("inherited logins", true, "none can log in"),
            ("login of application_user", true, "app_user"),
            ("read of application_user", true, "public.settings in database Lager \"Süd\" it's"),
            ("login of readonly_user", true, "reader"),
            ("read of readonly_user", true, "public.settings in database Lager \"Süd\" it's"),
            ("no write of readonly_user", true, "refused in 2 databases"),
            ("orders arrived", true, "true"),
            ("no orders", false, "the query answered false"),
            ("a number", false, "the query answered a value of type INT4, not boolean"),
            ("too many", false, "the query answered more than one row; it must answer one boolean"),
            ("too wide", false, "the query answered more than one column; it must answer one boolean"),
            ("nothing", false, "the query answered no row; it must answer one boolean"),
            ("null", false, "the query answered null"),
            ("a write", false, "the database server refused to answer the query (SQLSTATE 0A000)"),
            ("two statements", false, "the database server refused to answer the query (SQLSTATE 42601)"),
            ("a hidden write", false, "the database server refused to answer the query (SQLSTATE 25006)"),
            ("a mistake", false, "the database server refused to answer the query (SQLSTATE 22P02)"),
            ("no database", false, "the database server refused to open database missing for master (SQLSTATE 3D000)"),
        ]
    );
    assert!(!format!("{results:?}").contains("secret data"));
}

#[tokio::test]
async fn data_is_judged_by_age_count_and_shape() {
    let server = TestServer::start(&[]).await;
    server
        .run(
            "shop",
            "SET ROLE shop_owner; CREATE TABLE sales.events (at timestamptz, day date, local timestamp);
             INSERT INTO sales.events SELECT t, t::date, t AT TIME ZONE 'UTC' FROM (SELECT now() - interval '90 minutes' AS t) x;
             CREATE TABLE sales.bookings AS SELECT now() + interval '5 days' AS at, current_date + 1 AS day, current_date + 2 AS later;
             CREATE TABLE sales.\"Odd \"\"name\" (at timestamptz)",
        )
        .await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "a")], &[]);
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let fresh = |table: &str, column: &str, max_age_hours| FreshnessCheck {
        database: "shop".into(),
        table: Table::parse(table),
        column: column.into(),
        max_age_hours,
    };
    let rows = |table: &str, min, max| RowCountCheck { database: "shop".into(), table: Table::parse(table), min, max };
    let schema = |sha256: Option<&str>| SchemaCheck { database: "shop".into(), sha256: sha256.map(str::to_owned) };
    let checks = Checks {
        freshness: vec![
            fresh("sales.events", "at", 2),
            fresh("sales.events", "local", 2),
            fresh("sales.events", "at", 1),
            fresh("sales.Odd \"name", "at", 1),
            fresh("sales.events", "missing", 1),
            fresh("sales.bookings", "at", 1),
            fresh("sales.bookings", "later", 1),
            fresh("sales.bookings", "day", 1),
        ],
        row_counts: vec![
            rows("sales.orders", Some(3), Some(3)),
            rows("sales.orders", Some(2), None),
            rows("sales.orders", Some(4), None),
            rows("sales.orders", None, Some(2)),
            rows("sales.none", Some(1), None),
        ],
        schemas: vec![schema(None), schema(Some(&"0".repeat(64)))],
        ..Checks::default()
    };
    const AHEAD: &str = "it lies in the future, and tells no age";
    let results = verify(&server.server(), &desired, &passwords, &checks).await.unwrap();
    let data = &results[3..];
    let told: Vec<_> = data[..13]
        .iter()
        .map(|r| (r.verdict == Verdict::Passed, r.value.as_deref(), r.reason.as_deref()))
        // What depends on the time of day.
        .map(|(passed, value, why)| {
            (passed, if why == Some(AHEAD) || value == Some("newest is 0.0 h old") { None } else { value }, why)
        })
        .collect();
    let refused = |words| (false, None, Some(words));
    assert_eq!(
        told,
        [
            (true, Some("newest is 1.5 h old"), None),
            (true, Some("newest is 1.5 h old"), None),
            (false, Some("newest is 1.5 h old"), Some("older than 1 h")),
            refused("the table is empty"),
            refused("the database server refused to tell the newest missing of sales.events (SQLSTATE 42703)"),
            (false, None, Some(AHEAD)),
            (false, None, Some(AHEAD)),
            (true, None, None),
            (true, Some("3"), None),
            (true, Some("at least 2"), None),
            (false, Some("3"), Some("fewer than 4")),
            (false, Some("at least 3"), Some("more than 2")),
            refused("the database server refused to count the rows of sales.none (SQLSTATE 42P01)"),
        ]
    );
    assert_eq!(
        (data[0].name.as_str(), data[8].name.as_str()),
        ("freshness of sales.events.at", "rows of sales.orders")
    );

    // What was told is what the next run may expect, until the shape changes; rights and owners are no part of it.
    let seen = data[13].value.clone().unwrap();
    assert_eq!((data[13].verdict, data[14].verdict), (Verdict::Passed, Verdict::Failed));
    let expected = Checks { schemas: vec![schema(Some(&seen))], ..Checks::default() };
    server.run("shop", "GRANT ALL ON sales.events TO PUBLIC; ALTER TABLE sales.events OWNER TO app_user").await;
    let again = verify(&server.server(), &desired, &passwords, &expected).await.unwrap();
    assert_eq!(again.last().unwrap().verdict, Verdict::Passed);
    server.run("shop", "ALTER TABLE sales.events ADD COLUMN more int").await;
    let changed = verify(&server.server(), &desired, &passwords, &expected).await.unwrap();
    assert_eq!(changed.last().unwrap().verdict, Verdict::Failed);
}

#[tokio::test]
async fn a_read_only_user_that_writes_is_found() {
    let server = TestServer::start(&[]).await;
    let (desired, passwords) = declare(&[("readonly_user", "reader", "r")], &[]);
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let no_write = |results: &[CheckResult]| {
        let result = results.iter().find(|result| result.name == "no write of readonly_user").unwrap();
        (result.verdict, result.value.clone().unwrap())
    };
    let results = verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    assert_eq!(no_write(&results), (Verdict::Passed, "refused in 2 databases".into()));
    server.run("shop", "GRANT DELETE ON public.settings TO reader").await;
    let results = verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    assert_eq!(no_write(&results), (Verdict::Failed, "public.settings in database shop".into()));
}

#[tokio::test]
async fn limited_and_custom_users_are_tried_where_they_may_be() {
    let server = TestServer::start(&[]).await;
    server.run("postgres", "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC").await;
    let counts = vec![grant(ObjectKind::Sequence, &["sales"], &[Privilege::Usage])];
    let calls = vec![grant(ObjectKind::Routine, &[], &[Privilege::Execute])];
    let adds = vec![grant(ObjectKind::Table, &["sales"], &[Privilege::Insert, Privilege::Select])];
    let users = vec![
        requested("adder", "adder", Profile::Custom, [&["shop"], &[]], adds),
        requested("caller", "caller", Profile::Custom, [&[], &["sales"]], calls),
        requested("counter", "counter", Profile::Custom, [&["shop"], &[]], counts),
        requested("reporting", "reporting", Profile::ReadOnly, [&["shop"], &["sales"]], vec![]),
    ];
    let passwords: Passwords = users.iter().map(|user| (user.role.clone(), SecretString::from("p"))).collect();
    let desired = Desired::new(&name(MASTER), users, InheritedLogins::Lock, BTreeSet::new()).unwrap();
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let run = async || verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    let table = "sales.orders in database shop";
    assert_eq!(
        in_short(&run().await),
        [
            ("inherited logins", true, "none can log in"),
            ("login of adder", true, "adder"),
            ("read of adder", true, table),
            ("login of caller", true, "caller"),
            ("read of caller", true, "it has no right to read tables"),
            ("no write of caller", true, "refused in 2 databases"),
            ("login of counter", true, "counter"),
            ("read of counter", true, "it has no right to read tables"),
            ("login of reporting", true, "reporting"),
            ("read of reporting", true, table),
            ("no write of reporting", true, "refused in 2 databases"),
        ]
    );
    // Beyond its limits, and what it cannot read.
    server
        .run(LAGER, "GRANT USAGE ON SCHEMA sales TO reporting; GRANT DELETE, SELECT ON sales.orders TO reporting")
        .await;
    server.run("shop", "GRANT DELETE ON public.settings TO caller").await;
    server
        .run(
            "postgres",
            "REVOKE CONNECT ON DATABASE shop FROM PUBLIC, reporting; GRANT CONNECT ON DATABASE shop TO caller",
        )
        .await;
    let results = run().await;
    let of = |name: &str| {
        let result = results.iter().find(|result| result.name == name).unwrap();
        (result.verdict, result.value.clone().or(result.reason.clone()).unwrap())
    };
    let refused = "the database server refused to open database shop for reporting (SQLSTATE 42501)";
    assert_eq!(of("no write of reporting"), (Verdict::Failed, format!("sales.orders in database {LAGER}")));
    assert_eq!(of("no write of caller"), (Verdict::Failed, "public.settings in database shop".into()));
    assert_eq!(of("read of reporting"), (Verdict::Failed, refused.into()));
    assert_eq!(of("login of reporting").0, Verdict::Failed);
}

#[tokio::test]
async fn a_user_that_may_read_none_of_the_tables_fails() {
    let server = TestServer::start(&[]).await;
    let (desired, passwords) = declare(&[("readonly_user", "reader", "r")], &[]);
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    for database in ["shop", LAGER] {
        server
            .run(
                database,
                "DO $$ DECLARE s name; BEGIN FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' LOOP \
                 EXECUTE format('REVOKE SELECT ON ALL TABLES IN SCHEMA %I FROM reader, PUBLIC', s); END LOOP; END $$",
            )
            .await;
    }
    let results = verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    let read = results.iter().find(|result| result.name == "read of readonly_user").unwrap();
    assert_eq!(read.verdict, Verdict::Failed, "{read:?}");
    let reason = read.reason.as_deref().unwrap();
    assert!(reason.starts_with("it may read no table, for instance not "), "{reason}");
}
