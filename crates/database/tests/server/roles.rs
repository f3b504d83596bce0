//! A restored production, made as declared, and proved by trying.

use crate::production::{LAGER, WEIRD};
use crate::support::{MASTER, TestServer, declare, execute, name};
use aurora_restore_database::{SetupReport, apply, observe, setup_users};
use aurora_restore_domain::roles::{Desired, RoleName, describe, diff};

fn declared() -> (Desired, aurora_restore_database::Passwords) {
    declare(
        &[
            ("application_user", "app_user", "declared app"),
            ("readonly_user", "O'Brien \"the\\ reader\"; --", "declared 'reader\""),
            ("devops_user", "devops", "declared devops"),
        ],
        &["partner"],
    )
}

const APP: (&str, &str) = ("app_user", "declared app");
const READER: (&str, &str) = ("O'Brien \"the\\ reader\"; --", "declared 'reader\"");

async fn set_up(server: &TestServer) -> SetupReport {
    let (desired, passwords) = declared();
    setup_users(&server.server(), &desired, &passwords).await.unwrap()
}

#[tokio::test]
async fn a_restored_production_becomes_as_declared_and_stays_so() {
    let server = TestServer::start(&[]).await;
    server.run("postgres", "CREATE DATABASE archive ALLOW_CONNECTIONS false").await;
    let report = set_up(&server).await;

    assert_eq!(report.databases, [LAGER, "postgres", "shop"]);
    let declared: Vec<_> =
        report.declared.iter().map(|user| (user.key.as_str(), user.created, user.password_set)).collect();
    assert_eq!(
        declared,
        [("application_user", false, true), ("devops_user", true, true), ("readonly_user", true, true)]
    );
    assert_eq!(report.locked, ["prod_admin", "prod_report"]);
    assert_eq!(report.left, ["partner"]);
    for change in [
        "lock the inherited login prod_admin",
        "remove prod_admin from rds_superuser",
        "remove app_user from shop_owner",
        "make app_user NOCREATEROLE",
        "set the password of app_user",
        "create the role devops",
        "make master a member of shop_owner",
        "make devops a member of pg_monitor",
        "grant SELECT on all tables in schema sales to O'Brien \"the\\ reader\"; -- (database shop)",
        "grant USAGE, SELECT, UPDATE on each sequence that Keeper's makes later to app_user (database shop)",
    ] {
        assert!(report.changes.iter().any(|made| made == change), "{change} is not among {:#?}", report.changes);
    }
    assert!(
        report.notes.contains(&"database archive was left out: it refuses connections".to_owned()),
        "{:#?}",
        report.notes
    );
    let unreachable =
        "app_user lacks INSERT on all tables in schema sales of database shop, as far as rdsadmin owns it";
    assert!(report.notes.contains(&unreachable.to_owned()), "{:#?}", report.notes);

    let again = set_up(&server).await;
    assert_eq!(again.changes, [""; 0]);
    assert_eq!((again.locked, again.left, again.notes), (report.locked, report.left, report.notes));
    assert!(again.declared.iter().all(|user| !user.created && !user.password_set));
}

/// What a statement should come to.
const DONE: Result<(), &str> = Ok(());
const DENIED: Result<(), &str> = Err("42501");

async fn attempt(server: &TestServer, (user, password): (&str, &str), cases: &[(&str, Result<(), &str>)]) {
    for database in ["shop", LAGER] {
        let mut session = server.session(user, password, database).await.unwrap();
        for (sql, expected) in cases {
            let result = execute(&mut session, &sql.replace("WEIRD", WEIRD)).await;
            assert_eq!(result.as_ref().copied().map_err(String::as_str), *expected, "{user} in {database}: {sql}");
        }
    }
}

#[tokio::test]
async fn each_profile_can_do_its_work_and_no_more() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    let no_ddl = [
        ("CREATE TABLE public.mine (x int)", DENIED),
        ("CREATE TABLE sales.mine (x int)", DENIED),
        ("CREATE SCHEMA mine", DENIED),
        ("ALTER TABLE sales.orders ADD COLUMN y int", DENIED),
        ("DROP TABLE sales.orders", DENIED),
        ("TRUNCATE sales.orders", DENIED),
        ("CREATE ROLE friend", DENIED),
        ("SET ROLE shop_owner", DENIED),
        ("SET ROLE master", DENIED),
    ];
    let reads = [
        ("SELECT * FROM public.settings", DONE),
        ("SELECT * FROM sales.orders", DONE),
        ("SELECT * FROM sales.big_orders", DONE),
        ("SELECT * FROM sales.totals", DONE),
        ("SELECT last_value FROM sales.invoice", DONE),
        ("SELECT * FROM WEIRD.\"odd \"\"table\"", DONE),
    ];
    let writes = |expected| {
        [
            ("INSERT INTO public.settings (value) VALUES ('x')", expected),
            ("INSERT INTO sales.orders (total) VALUES (5)", expected),
            ("UPDATE sales.orders SET total = 6 WHERE total = 5", expected),
            ("DELETE FROM sales.orders WHERE total = 6", expected),
            ("INSERT INTO WEIRD.\"odd \"\"table\" VALUES (1)", expected),
            ("SELECT nextval('sales.invoice')", expected),
            ("SELECT sales.answer()", expected),
        ]
    };
    attempt(&server, APP, &[&reads[..], &writes(DONE), &no_ddl].concat()).await;
    attempt(&server, READER, &[&reads[..], &writes(DENIED), &no_ddl].concat()).await;
    let devops =
        [("CREATE TABLE sales.later (x int)", DONE), ("DROP TABLE sales.orders", DENIED), ("CREATE ROLE x", DENIED)];
    attempt(&server, ("devops", "declared devops"), &[&reads[..], &writes(DONE), &devops].concat()).await;
    // What devops made is there for the others.
    attempt(&server, APP, &[("INSERT INTO sales.later VALUES (1)", DONE)]).await;
    attempt(&server, READER, &[("SELECT * FROM sales.later", DONE), ("DELETE FROM sales.later", DENIED)]).await;
}

#[tokio::test]
async fn what_any_owner_makes_later_is_covered() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    let owners = [("shop_owner", "sales"), ("\"Keeper's\"", WEIRD), (MASTER, "public")];
    for (owner, schema) in owners {
        for database in ["shop", LAGER] {
            server
                .run(
                    database,
                    &format!(
                        "GRANT CREATE ON SCHEMA public TO {owner}; SET ROLE {owner};
                         CREATE TABLE {schema}.later (x int); CREATE SEQUENCE {schema}.later_id;
                         CREATE FUNCTION {schema}.later() RETURNS int LANGUAGE sql AS 'SELECT 1'"
                    ),
                )
                .await;
        }
        let select = format!("SELECT * FROM {schema}.later");
        let insert = format!("INSERT INTO {schema}.later VALUES (1)");
        let next = format!("SELECT nextval($${schema}.later_id$$)");
        let call = format!("SELECT {schema}.later()");
        attempt(&server, READER, &[(&select, DONE), (&insert, DENIED), (&next, DENIED)]).await;
        attempt(&server, APP, &[(&select, DONE), (&insert, DONE), (&next, DONE), (&call, DONE)]).await;
    }
    assert_eq!(set_up(&server).await.changes, [""; 0]);
}

#[tokio::test]
async fn inherited_logins_are_out() {
    let server = TestServer::start(&[]).await;
    let mut open = server.session("prod_admin", "production admin", "shop").await.unwrap();
    execute(&mut open, "SELECT 1").await.unwrap();
    set_up(&server).await;
    assert!(execute(&mut open, "SELECT 1").await.is_err(), "the session must have ended");
    for (user, password) in
        [("prod_admin", "production admin"), ("prod_report", "production report"), ("app_user", "production app")]
    {
        assert!(server.session(user, password, "shop").await.is_err(), "{user} must not get in");
    }
    assert!(server.session("partner", "partner", "shop").await.is_ok(), "partner is to be kept");
    assert!(server.session("app_user", "declared app", "shop").await.is_ok());
    let mut session = server.superuser("postgres").await;
    let comment: (String,) = sqlx::query_as("SELECT shobj_description('prod_report'::regrole, 'pg_authid')")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(comment.0, "nightly report; locked by aurora-restore");
}

#[tokio::test]
async fn every_step_can_be_taken_alone_and_repeated() {
    let server = TestServer::start(&[]).await;
    let (desired, passwords) = declared();
    let master = server.server();
    let first = diff(&desired, &observe(&master, &desired, &passwords).await.unwrap());
    assert!(!first.is_empty());
    // Half of the work, as after a crash: the rest is seen, and nothing twice.
    let half: Vec<_> = first.iter().filter(|change| change.database() != Some("shop")).cloned().collect();
    apply(&master, &half, &passwords).await.unwrap();
    let second = diff(&desired, &observe(&master, &desired, &passwords).await.unwrap());
    assert!(second.iter().all(|change| change.database() == Some("shop")), "{:#?}", describe(&second));
    // And twice does no harm: a role made meanwhile is the one exception, which observing again mends.
    apply(&master, &second, &passwords).await.unwrap();
    apply(&master, &second, &passwords).await.unwrap();
    assert_eq!(describe(&diff(&desired, &observe(&master, &desired, &passwords).await.unwrap())), [""; 0]);
}

#[tokio::test]
async fn what_was_undone_by_hand_is_mended() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    server
        .run(
            "postgres",
            "ALTER ROLE app_user NOLOGIN PASSWORD 'other' VALID UNTIL '2001-01-01'; ALTER ROLE prod_report LOGIN",
        )
        .await;
    server.run("shop", "REVOKE INSERT ON sales.orders FROM app_user").await;
    let report = set_up(&server).await;
    assert_eq!(
        report.changes,
        [
            "lock the inherited login prod_report",
            "make app_user LOGIN, VALID UNTIL 'infinity'",
            "set the password of app_user",
            "grant INSERT on all tables in schema sales to app_user (database shop)",
        ]
    );
}

#[tokio::test]
async fn a_database_closed_to_the_master_is_opened_through_its_owner() {
    let server = TestServer::start(&[]).await;
    server.run("postgres", "REVOKE ALL ON DATABASE \"Lager \"\"Süd\"\" it's\" FROM PUBLIC").await;
    let report = set_up(&server).await;
    assert_eq!(report.databases, [LAGER, "postgres", "shop"]);
    attempt(&server, READER, &[("SELECT * FROM sales.orders", DONE)]).await;
    assert_eq!(set_up(&server).await.changes, [""; 0]);
}

#[tokio::test]
async fn the_work_does_not_grow_with_the_tables() {
    let server = TestServer::start(&["log_statement=all", "log_line_prefix=%a "]).await;
    let statements = |server: &TestServer| {
        server.log().lines().filter(|line| line.starts_with("aurora-restore ") && line.contains("LOG:  ")).count()
    };
    set_up(&server).await;
    let before = statements(&server);
    set_up(&server).await;
    let few = statements(&server) - before;
    server.run("shop", "SET ROLE shop_owner; DO $$ BEGIN FOR i IN 1..200 LOOP EXECUTE format('CREATE TABLE sales.t%s (x int)', i); END LOOP; END $$").await;
    let before = statements(&server);
    set_up(&server).await;
    assert_eq!(statements(&server) - before, few);
}

#[tokio::test]
async fn a_role_that_the_master_may_not_touch_is_named() {
    let server = TestServer::start(&[]).await;
    server.run("postgres", "CREATE ROLE untouchable LOGIN SUPERUSER PASSWORD 'x'").await;
    let (desired, passwords) = declared();
    let error = setup_users(&server.server(), &desired, &passwords).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database server refused to lock the inherited login untouchable (SQLSTATE 42501)"
    );
    let made: RoleName = name("devops");
    let seen = observe(&server.server(), &desired, &passwords).await.unwrap();
    assert!(seen.role(&made).is_none(), "nothing of the transaction remains");
}
