//! Rights that are too much: what else becomes of them.

use crate::support::{SUPERUSER, TestServer, declare, execute};
use aurora_restore_database::{SetupReport, setup_users};

const READER: (&str, &str) = ("reader", "declared reader");

async fn set_up(server: &TestServer) -> SetupReport {
    let users = [("application_user", "app_user", "declared app"), ("readonly_user", READER.0, READER.1)];
    let (desired, passwords) = declare(&users, &["partner"]);
    setup_users(&server.server(), &desired, &passwords).await.unwrap()
}

/// What `role` holds on a table, in the server's own words.
async fn acl(server: &TestServer, table: &str) -> String {
    let mut session = server.superuser("shop").await;
    let query = "SELECT coalesce(relacl::text, '') FROM pg_class WHERE oid = $1::regclass";
    sqlx::query_scalar(query).bind(table).fetch_one(&mut session).await.unwrap()
}

#[tokio::test]
async fn others_keep_what_is_theirs() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    server
        .run(
            "shop",
            "GRANT SELECT, TRUNCATE ON sales.orders TO partner WITH GRANT OPTION;
             GRANT USAGE ON SCHEMA sales TO partner;
             GRANT DELETE ON sales.orders TO reader WITH GRANT OPTION;
             SET ROLE reader; GRANT DELETE ON sales.orders TO partner;
             SET ROLE partner; GRANT TRUNCATE ON sales.orders TO reader, prod_report",
        )
        .await;
    let report = set_up(&server).await;
    assert_eq!(
        report.changes,
        [
            "make master a member of partner",
            "revoke DELETE, TRUNCATE on all tables in schema sales from reader (database shop)",
        ]
    );
    let acl = acl(&server, "sales.orders").await;
    // partner's own stays, with its grant option, and what it gave to others; what the reader handed on is gone.
    for held in ["partner=r*D*/shop_owner", "prod_report=D/partner", "reader=r/shop_owner"] {
        assert!(acl.contains(held), "{held}: {acl}");
    }
    assert!(!acl.contains("/reader") && !acl.contains("reader=D"), "{acl}");
}

#[tokio::test]
async fn the_owner_grants_even_if_the_master_could_in_another_name() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    // The master gets the rights of partner, who may hand on what the reader lacks. Since PostgreSQL 16 it is a member by
    // having made it, without its rights, which a grant that does not name them leaves so.
    let with = if server.major().await >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    server.run("shop", &format!("GRANT partner TO master{with}")).await;
    server
        .run(
            "shop",
            "REVOKE SELECT ON sales.orders FROM reader; REVOKE USAGE ON SCHEMA sales FROM reader;
             GRANT USAGE ON SCHEMA sales TO partner WITH GRANT OPTION;
             GRANT SELECT, UPDATE ON sales.orders TO partner WITH GRANT OPTION;
             GRANT UPDATE ON sales.orders TO reader WITH GRANT OPTION;
             SET ROLE partner; GRANT UPDATE ON sales.orders TO reader",
        )
        .await;
    assert_eq!(
        set_up(&server).await.changes,
        [
            "revoke UPDATE on all tables in schema sales from reader (database shop)",
            "grant USAGE on schema sales to reader (database shop)",
            "grant SELECT on all tables in schema sales to reader (database shop)",
        ]
    );
    let acl = acl(&server, "sales.orders").await;
    assert!(acl.contains("reader=r/shop_owner") && !acl.contains("reader=w"), "{acl}");
}

#[tokio::test]
async fn who_granted_may_be_shut_out_by_now() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    server
        .run(
            "shop",
            "GRANT UPDATE ON sales.orders TO partner WITH GRANT OPTION; GRANT USAGE ON SCHEMA sales TO partner;
             SET ROLE partner; GRANT UPDATE ON sales.orders TO reader; RESET ROLE;
             REVOKE USAGE ON SCHEMA sales FROM partner",
        )
        .await;
    let told =
        ["make master a member of partner", "revoke UPDATE on all tables in schema sales from reader (database shop)"];
    assert_eq!(set_up(&server).await.changes, told);
    let acl = acl(&server, "sales.orders").await;
    assert!(acl.contains("partner=w/shop_owner") && !acl.contains("reader=w"), "{acl}");
}

#[tokio::test]
async fn a_handed_on_right_of_the_profile_outlives_who_handed_it_on() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    server
        .run(
            "shop",
            "REVOKE SELECT ON sales.orders FROM reader; GRANT SELECT ON sales.orders TO app_user WITH GRANT OPTION;
             SET ROLE app_user; GRANT SELECT ON sales.orders TO reader",
        )
        .await;
    assert_eq!(
        set_up(&server).await.changes,
        [
            "revoke the grant option of SELECT on all tables in schema sales from app_user (database shop)",
            "grant SELECT on all tables in schema sales to reader (database shop)",
        ]
    );
    let mut session = server.session(READER.0, READER.1, "shop").await.unwrap();
    assert_eq!(execute(&mut session, "SELECT * FROM sales.orders").await, Ok(()));
}

#[tokio::test]
async fn what_is_out_of_reach_or_everybodys_is_told() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    server
        .run(
            "shop",
            &format!(
                "GRANT INSERT, SELECT (x) ON sales.rds_internal TO reader;
                 ALTER DEFAULT PRIVILEGES FOR ROLE {SUPERUSER} GRANT DELETE ON TABLES TO reader;
                 CREATE SCHEMA theirs; GRANT CREATE ON SCHEMA theirs TO PUBLIC;
                 GRANT INSERT ON sales.orders TO PUBLIC; GRANT UPDATE (x) ON sales.rds_internal TO PUBLIC"
            ),
        )
        .await;
    let report = set_up(&server).await;
    assert!(report.changes.iter().all(|change| !change.starts_with("revoke")), "{:#?}", report.changes);
    for note in [
        "reader holds INSERT on all tables in schema sales of database shop beyond its profile, as far as rdsadmin \
         granted it",
        "reader holds SELECT on single columns of all tables in schema sales of database shop beyond its profile, as \
         far as rdsadmin granted it",
        "reader gets DELETE on each table that rdsadmin makes later in database shop, beyond its profile",
        "everybody may create objects in schema theirs of database shop",
        "everybody has INSERT on all tables in schema sales of database shop, read-only users too",
        "everybody has UPDATE on single columns of all tables in schema sales of database shop, read-only users too",
    ] {
        assert!(report.notes.iter().any(|told| told == note), "{note} is not among {:#?}", report.notes);
    }
    assert_eq!(set_up(&server).await.changes, [""; 0]);
}

#[tokio::test]
async fn an_owner_keeps_its_rights_and_a_mere_mark_its_members() {
    let server = TestServer::start(&[]).await;
    server
        .run(
            "shop",
            "CREATE ROLE mark; GRANT mark TO app_user; CREATE TABLE sales.own (x int);
             ALTER TABLE sales.own OWNER TO app_user; GRANT ALL ON sales.own TO app_user",
        )
        .await;
    let report = set_up(&server).await;
    let owns = "app_user is read-write but owns objects in database shop, which it may change or drop";
    assert!(report.notes.iter().any(|note| note == owns), "{:#?}", report.notes);
    let mut session = server.session("app_user", "declared app", "shop").await.unwrap();
    assert_eq!(execute(&mut session, "TRUNCATE sales.own; SET ROLE mark").await, Ok(()));
    assert_eq!(set_up(&server).await.changes, [""; 0]);
}

#[tokio::test]
async fn what_belongs_to_an_extension_is_left_to_it() {
    let server = TestServer::start(&[]).await;
    set_up(&server).await;
    server
        .run(
            "shop",
            "CREATE TABLE sales.member (x int); ALTER EXTENSION plpgsql ADD TABLE sales.member;
             GRANT INSERT, UPDATE (x) ON sales.member TO reader WITH GRANT OPTION;
             ALTER EXTENSION plpgsql ADD FUNCTION sales.answer(); GRANT EXECUTE ON FUNCTION sales.answer() TO reader",
        )
        .await;
    let report = set_up(&server).await;
    assert_eq!(report.changes, [""; 0]);
    assert!(!report.notes.iter().any(|note| note.contains("beyond its profile")), "{:#?}", report.notes);
}

#[tokio::test]
async fn the_work_does_not_grow_with_what_is_too_much() {
    let server = TestServer::start(&["log_statement=all", "log_line_prefix=%a "]).await;
    let ours = |line: &&str| line.starts_with("aurora-restore ") && line.contains("LOG:  ");
    let statements = |server: &TestServer| server.log().lines().filter(ours).count();
    set_up(&server).await;
    let mut counts = vec![];
    for tables in ["generate_series(1, 1)", "generate_series(2, 200)"] {
        let make = format!(
            "SET ROLE shop_owner; DO $$ DECLARE i int; BEGIN FOR i IN SELECT {tables} LOOP
             EXECUTE format('CREATE TABLE sales.t%s (x int)', i);
             EXECUTE format('GRANT TRUNCATE, INSERT (x) ON sales.t%s TO reader, app_user', i); END LOOP; END $$"
        );
        server.run("shop", &make).await;
        let before = statements(&server);
        assert_eq!(set_up(&server).await.changes.len(), 4);
        counts.push(statements(&server) - before);
    }
    assert_eq!(counts[0], counts[1]);
}
