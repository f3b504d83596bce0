//! Each profile, proved by trying: every declared user, every kind of object, every action, over a real login.

use crate::production::WEIRD;
use crate::support::{MASTER, TestServer, declare, execute};
use aurora_restore_database::quote::quote_identifier;
use aurora_restore_database::{Passwords, SetupReport, apply, observe, setup_users};
use aurora_restore_domain::roles::{Desired, describe, diff};

/// (key, role, password), in the order of the columns below.
const USERS: [(&str, &str, &str); 3] = [
    ("application_user", "app_user", "declared app"),
    ("readonly_user", "O'Brien \"the\\ reader\"; --", "declared 'reader\""),
    ("devops_user", "devops", "declared devops"),
];

/// Who makes objects, and where. Before the first setup there is no devops user.
const MAKERS: [(&str, &str); 4] =
    [("shop_owner", "sales"), ("\"Keeper's\"", WEIRD), (MASTER, "public"), ("devops", "sales")];
const OLD_MAKERS: usize = 3;

const YES: bool = true;
const NO: bool = false;

/// What is tried with each object, `{o}` being a schema and the beginning of a name, `{s}` a schema made by the same
/// maker; and who of application, reader and devops user may. Who made them may do everything with them.
pub(crate) const OBJECTS: [(&str, &str, [bool; 3]); 42] = [
    ("table: select", "SELECT * FROM {o}_table", [YES, YES, YES]),
    ("table: insert", "INSERT INTO {o}_table VALUES (1)", [YES, NO, YES]),
    ("table: insert one column", "INSERT INTO {o}_table (x) VALUES (1)", [YES, NO, YES]),
    ("table: update", "UPDATE {o}_table SET x = 2", [YES, NO, YES]),
    ("table: delete", "DELETE FROM {o}_table", [YES, NO, YES]),
    ("table: lock", "LOCK TABLE {o}_table IN SHARE MODE", [YES, NO, YES]),
    ("table: truncate", "TRUNCATE {o}_table", [NO, NO, NO]),
    ("table: alter", "ALTER TABLE {o}_table ADD COLUMN z int", [NO, NO, NO]),
    ("table: index", "CREATE INDEX ON {o}_table (x)", [NO, NO, NO]),
    (
        "table: trigger",
        "CREATE TRIGGER t BEFORE UPDATE ON {o}_table FOR EACH ROW \
         EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        [NO, NO, NO],
    ),
    ("table: reference", "SELECT 1 / has_any_column_privilege($${o}_table$$, 'REFERENCES')::int", [NO, NO, NO]),
    ("table: hand on", "SELECT 1 / has_table_privilege($${o}_table$$, 'SELECT WITH GRANT OPTION')::int", [NO, NO, NO]),
    ("table: drop", "DROP TABLE {o}_table CASCADE", [NO, NO, NO]),
    ("view: select", "SELECT * FROM {o}_view", [YES, YES, YES]),
    ("view: insert", "INSERT INTO {o}_view VALUES (1)", [YES, NO, YES]),
    ("view: update", "UPDATE {o}_view SET x = 2", [YES, NO, YES]),
    ("view: delete", "DELETE FROM {o}_view", [YES, NO, YES]),
    ("view: alter", "ALTER VIEW {o}_view RENAME COLUMN x TO z", [NO, NO, NO]),
    ("view: drop", "DROP VIEW {o}_view", [NO, NO, NO]),
    ("partitioned: select", "SELECT * FROM {o}_parted", [YES, YES, YES]),
    ("partitioned: insert", "INSERT INTO {o}_parted VALUES (1)", [YES, NO, YES]),
    ("partitioned: update", "UPDATE {o}_parted SET x = 1", [YES, NO, YES]),
    ("partitioned: delete", "DELETE FROM {o}_parted", [YES, NO, YES]),
    ("partitioned: select one", "SELECT * FROM {o}_part", [YES, YES, YES]),
    ("partitioned: insert into one", "INSERT INTO {o}_part VALUES (1)", [YES, NO, YES]),
    ("partitioned: truncate", "TRUNCATE {o}_parted", [NO, NO, NO]),
    ("partitioned: detach", "ALTER TABLE {o}_parted DETACH PARTITION {o}_part", [NO, NO, NO]),
    ("partitioned: drop", "DROP TABLE {o}_parted", [NO, NO, NO]),
    ("sequence: select", "SELECT last_value FROM {o}_sequence", [YES, YES, YES]),
    ("sequence: nextval", "SELECT nextval($${o}_sequence$$)", [YES, NO, YES]),
    ("sequence: setval", "SELECT setval($${o}_sequence$$, 7)", [YES, NO, YES]),
    ("sequence: alter", "ALTER SEQUENCE {o}_sequence INCREMENT 2", [NO, NO, NO]),
    ("sequence: drop", "DROP SEQUENCE {o}_sequence", [NO, NO, NO]),
    ("function: execute", "SELECT {o}_function()", [YES, NO, YES]),
    ("function: execute what everybody may", "SELECT {o}_open()", [YES, YES, YES]),
    ("function: replace", "CREATE OR REPLACE FUNCTION {o}_open() RETURNS int LANGUAGE sql AS 'SELECT 2'", [NO, NO, NO]),
    ("function: alter", "ALTER FUNCTION {o}_function() COST 2", [NO, NO, NO]),
    ("function: drop", "DROP FUNCTION {o}_function()", [NO, NO, NO]),
    ("its schema: select", "SELECT * FROM {s}.inside", [YES, YES, YES]),
    ("its schema: insert", "INSERT INTO {s}.inside VALUES (1)", [YES, NO, YES]),
    ("its schema: create a table", "CREATE TABLE {s}.mine (x int)", [NO, NO, YES]),
    ("its schema: drop", "DROP SCHEMA {s} CASCADE", [NO, NO, NO]),
];

/// What is tried in each schema of production and with the database.
pub(crate) const PLACES: [(&str, &str, [bool; 3]); 10] = [
    ("schema: create a table", "CREATE TABLE {s}.mine (x int)", [NO, NO, YES]),
    ("schema: create a view", "CREATE VIEW {s}.mine AS SELECT 1", [NO, NO, YES]),
    ("schema: create a sequence", "CREATE SEQUENCE {s}.mine", [NO, NO, YES]),
    ("schema: create a function", "CREATE FUNCTION {s}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", [NO, NO, YES]),
    ("schema: create a type", "CREATE TYPE {s}.mine AS (x int)", [NO, NO, YES]),
    ("schema: alter", "COMMENT ON SCHEMA {s} IS 'mine'", [NO, NO, NO]),
    ("schema: drop", "DROP SCHEMA {s} CASCADE", [NO, NO, NO]),
    ("database: create a schema", "CREATE SCHEMA mine", [NO, NO, NO]),
    ("database: create a temporary table", "CREATE TEMPORARY TABLE mine (x int)", [YES, YES, YES]),
    ("server: become an owner", "SET ROLE shop_owner", [NO, NO, NO]),
];

fn declared() -> (Desired, Passwords) {
    declare(&USERS, &["partner"])
}

async fn set_up(server: &TestServer) -> SetupReport {
    let (desired, passwords) = declared();
    setup_users(&server.server(), &desired, &passwords).await.unwrap()
}

/// The objects of a maker that were made at one `time`: the beginning of their names, and a schema.
pub(crate) fn names(time: &str, makers: &[(&str, &str)], maker: usize) -> (String, String) {
    (format!("{}.{time}_{maker}", makers[maker].1), format!("{time}_{maker}"))
}

async fn make_objects(server: &TestServer, time: &str, makers: usize) {
    make_objects_in(server, "shop", time, &MAKERS[..makers]).await;
}

/// One object of each kind, by each maker.
pub(crate) async fn make_objects_in(server: &TestServer, database: &str, time: &str, makers: &[(&str, &str)]) {
    for (maker, (role, _)) in makers.iter().enumerate() {
        let (o, s) = names(time, makers, maker);
        let sql = format!(
            "CREATE SCHEMA {s} AUTHORIZATION {role}; SET ROLE {role};
             CREATE TABLE {s}.inside (x int);
             CREATE TABLE {o}_table (x int, y int); CREATE VIEW {o}_view AS SELECT x, y FROM {o}_table;
             CREATE TABLE {o}_parted (x int) PARTITION BY RANGE (x);
             CREATE TABLE {o}_part PARTITION OF {o}_parted FOR VALUES FROM (0) TO (9);
             CREATE SEQUENCE {o}_sequence;
             CREATE FUNCTION {o}_open() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION {o}_function() RETURNS int LANGUAGE sql AS 'SELECT 1';
             REVOKE EXECUTE ON FUNCTION {o}_function() FROM PUBLIC"
        );
        server.run(database, &sql).await;
    }
}

/// Where the server does not do as the tables say, after trying everything; nothing that was tried stays.
async fn deviations(server: &TestServer, times: &[(&str, usize)]) -> Vec<String> {
    let mut attempts = vec![];
    for (time, makers) in times {
        for (maker, (role, _)) in MAKERS.iter().enumerate().take(*makers) {
            let (o, s) = names(time, &MAKERS, maker);
            for (what, sql, may) in OBJECTS {
                let may = [0, 1, 2].map(|user| may[user] || USERS[user].1 == *role);
                attempts.push((format!("{what} ({o})"), sql.replace("{o}", &o).replace("{s}", &s), may));
            }
        }
    }
    for schema in ["sales", WEIRD, "public"] {
        for (what, sql, may) in PLACES {
            attempts.push((format!("{what} ({schema})"), sql.replace("{s}", schema), may));
        }
    }
    let mut found = vec![];
    for (user, (key, role, password)) in USERS.iter().enumerate() {
        let mut session = server.session(role, password, "shop").await.unwrap();
        for (what, sql, may) in &attempts {
            let result = execute(&mut session, &format!("ROLLBACK; BEGIN; {sql}")).await;
            let did = match result.as_ref().map_err(String::as_str) {
                Ok(()) => YES,
                // What only asks for a right divides by zero without it.
                Err("42501" | "22012") => NO,
                Err(other) => panic!("{key}: {what}: {other}"),
            };
            if did != may[user] {
                found.push(format!("{key}: {what}: {}", if did { "allowed" } else { "refused" }));
            }
        }
        execute(&mut session, "ROLLBACK").await.unwrap();
    }
    found
}

#[tokio::test]
async fn every_profile_may_what_the_table_says_and_nothing_else() {
    let server = TestServer::start(&[]).await;
    make_objects(&server, "old", OLD_MAKERS).await;
    set_up(&server).await;
    make_objects(&server, "later", MAKERS.len()).await;
    let all = [("old", OLD_MAKERS), ("later", MAKERS.len())];
    assert_eq!(deviations(&server, &all).await, [""; 0]);
    assert_eq!(set_up(&server).await.changes, [""; 0]);
    assert_eq!(deviations(&server, &all).await, [""; 0]);
}

/// Rights given by hand, in every way there is.
async fn give_too_much(server: &TestServer) {
    let reader = quote_identifier(USERS[1].1).unwrap();
    let users = format!("app_user, {reader}, devops");
    let everything = |schema: &str| {
        format!(
            "GRANT ALL ON SCHEMA {schema} TO {users} WITH GRANT OPTION;
             GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {users} WITH GRANT OPTION;
             GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {users} WITH GRANT OPTION;
             GRANT ALL ON ALL ROUTINES IN SCHEMA {schema} TO {users} WITH GRANT OPTION;"
        )
    };
    let defaults = |owner: &str, within: &str| {
        ["TABLES", "SEQUENCES", "ROUTINES"].map(|kind| {
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}{within} GRANT ALL ON {kind} TO {reader}, app_user;")
        })
    };
    let (admin, as_master) = match server.major().await {
        16.. => ("GRANT pg_write_all_data TO master WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", "SET ROLE master;"),
        _ => ("SELECT", ""),
    };
    for sql in [
        // Memberships. Since PostgreSQL 16 the master ends a membership that it gave, no other.
        "SET ROLE master; CREATE ROLE writers; CREATE ROLE upper; GRANT writers TO upper; RESET ROLE",
        admin,
        &format!("SET ROLE master; GRANT upper, \"Keeper's\" TO {reader}; GRANT shop_owner TO app_user; RESET ROLE"),
        &format!("{as_master} GRANT pg_write_all_data TO {reader}; RESET ROLE"),
        "GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA sales TO writers",
        &everything("sales"),
        &everything(WEIRD),
        &everything("later_2"),
        &format!("GRANT ALL ON DATABASE shop TO {users} WITH GRANT OPTION"),
        // Single columns, and what was handed on: by a declared user, by a kept one, and over both.
        &format!("GRANT ALL (x) ON public.later_2_table TO {users}; GRANT UPDATE (x) ON {WEIRD}.old_1_view TO {users}"),
        &format!("GRANT SELECT (x) ON sales.later_0_view TO {reader} WITH GRANT OPTION"),
        "GRANT USAGE ON SCHEMA sales TO partner; GRANT TRUNCATE ON sales.old_0_table TO partner WITH GRANT OPTION",
        &format!("SET ROLE partner; GRANT TRUNCATE ON sales.old_0_table TO {reader} WITH GRANT OPTION; RESET ROLE"),
        &format!("SET ROLE {reader}; GRANT INSERT ON sales.old_0_table TO partner WITH GRANT OPTION; RESET ROLE"),
        "SET ROLE partner; GRANT INSERT ON sales.old_0_table TO devops, app_user; RESET ROLE",
        // What is made later, in one schema and in all, by those who own something and by one who does not yet.
        &defaults("shop_owner", "").concat(),
        &defaults("shop_owner", " IN SCHEMA sales").concat(),
        &defaults("partner", " IN SCHEMA sales").concat(),
        &defaults(MASTER, "").concat(),
        &format!("ALTER DEFAULT PRIVILEGES FOR ROLE devops GRANT ALL ON SCHEMAS TO {reader} WITH GRANT OPTION"),
        // Everybody.
        "GRANT CREATE ON SCHEMA public, sales TO PUBLIC",
    ] {
        server.run("shop", sql).await;
    }
}

#[tokio::test]
async fn what_was_given_by_hand_is_gone_after_the_next_run() {
    let server = TestServer::start(&[]).await;
    make_objects(&server, "old", OLD_MAKERS).await;
    // Before the setup makes it a member of each owner, the master hands on a right in its own name.
    let handed = "GRANT TRUNCATE ON sales.old_0_table TO master WITH GRANT OPTION;
                  SET ROLE master; GRANT TRUNCATE ON sales.old_0_table TO app_user";
    server.run("shop", &format!("GRANT USAGE ON SCHEMA sales TO master; {handed}")).await;
    set_up(&server).await;
    make_objects(&server, "later", MAKERS.len()).await;
    let all = [("old", OLD_MAKERS), ("later", MAKERS.len()), ("last", MAKERS.len())];
    assert_eq!(deviations(&server, &all[..2]).await, [""; 0]);

    give_too_much(&server).await;
    let surplus = deviations(&server, &all[..2]).await;
    assert!(
        surplus.len() > 200 && surplus.iter().all(|way| way.ends_with("allowed")),
        "{}: {surplus:#?}",
        surplus.len()
    );

    // One round is enough, and what was done is told.
    let (desired, passwords) = declared();
    let changes = diff(&desired, &observe(&server.server(), &desired, &passwords).await.unwrap());
    let told = describe(&changes);
    // PostgreSQL 17 came with one right more.
    let later = if server.major().await >= 17 { ", MAINTAIN" } else { "" };
    for change in [
        "remove app_user from shop_owner",
        "remove O'Brien \"the\\ reader\"; -- from upper",
        "make master a member of partner",
        "revoke CREATE, TEMPORARY on the database from app_user (database shop)",
        "revoke CREATE on schema public from everybody (database shop)",
        "revoke TRUNCATE, REFERENCES, TRIGGER{later} on all tables in schema sales from devops (database shop)",
        "revoke the grant option of SELECT on all tables in schema sales from O'Brien \"the\\ reader\"; -- (database \
         shop)",
        "revoke INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER{later} on each table that partner makes later in schema \
         sales from O'Brien \"the\\ reader\"; -- (database shop)",
    ] {
        let change = &change.replace("{later}", later);
        assert!(told.contains(change), "{change} is not among {told:#?}");
    }
    apply(&server.server(), &changes, &passwords).await.unwrap();
    assert_eq!(set_up(&server).await.changes, [""; 0]);

    make_objects(&server, "last", MAKERS.len()).await;
    assert_eq!(deviations(&server, &all).await, [""; 0]);
    assert_eq!(set_up(&server).await.changes, [""; 0]);
}
