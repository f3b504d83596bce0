//! Each profile, proved by trying: every declared user, every kind of object, every action, over a real login.

use super::support::{LAGER_QUOTED, MySqlServer, declare, execute};
use aurora_restore_database::mysql_quote::quote_identifier;
use aurora_restore_database::{Passwords, SetupReport, look, make, setup_users};
use aurora_restore_domain::roles::Desired;

/// (key, user, password), in the order of the columns below.
const USERS: [(&str, &str, &str); 3] = [
    ("application_user", "app_user", "declared app"),
    ("readonly_user", "O'Brien `the\\ reader\"; --", "declared 'reader\""),
    ("devops_user", "devops", "declared devops"),
];

const YES: bool = true;
const NO: bool = false;

/// What is tried with each object, `{o}` being a database and the beginning of a name; and who of application, reader and
/// devops user may. Nobody owns anything in MySQL: who made an object makes no difference, and that is tried too.
const OBJECTS: [(&str, &str, [bool; 3]); 39] = [
    ("table: select", "SELECT * FROM {o}_table", [YES, YES, YES]),
    ("table: insert", "INSERT INTO {o}_table VALUES (1, 1)", [YES, NO, YES]),
    ("table: insert one column", "INSERT INTO {o}_table (x) VALUES (1)", [YES, NO, YES]),
    ("table: replace", "REPLACE INTO {o}_table VALUES (1, 1)", [YES, NO, YES]),
    ("table: update", "UPDATE {o}_table SET x = 2", [YES, NO, YES]),
    ("table: update one column", "UPDATE {o}_table SET y = 2", [YES, NO, YES]),
    ("table: delete", "DELETE FROM {o}_table", [YES, NO, YES]),
    ("table: lock", "LOCK TABLES {o}_table WRITE", [YES, NO, YES]),
    ("table: load into", "INSERT INTO {o}_table SELECT x, y FROM {o}_table", [YES, NO, YES]),
    ("table: truncate", "TRUNCATE {o}_table", [NO, NO, YES]),
    ("table: alter", "ALTER TABLE {o}_table ADD COLUMN z int", [NO, NO, YES]),
    ("table: rename", "RENAME TABLE {o}_table TO {o}_other", [NO, NO, YES]),
    ("table: index", "CREATE INDEX more ON {o}_table (x)", [NO, NO, YES]),
    (
        "table: trigger",
        "CREATE TRIGGER {o}_trigger BEFORE INSERT ON {o}_table FOR EACH ROW SET NEW.x = 1",
        [NO, NO, YES],
    ),
    ("table: reference", "CREATE TABLE {o}_child (x int, FOREIGN KEY (x) REFERENCES {o}_table (x))", [NO, NO, YES]),
    ("table: hand on", "GRANT SELECT ON {o}_table TO partner@'%'", [NO, NO, NO]),
    ("table: drop", "DROP TABLE {o}_table", [NO, NO, YES]),
    ("table: write to a file", "SELECT * FROM {o}_table INTO OUTFILE 'x'", [NO, NO, NO]),
    ("view: select", "SELECT * FROM {o}_view", [YES, YES, YES]),
    ("view: show", "SHOW CREATE VIEW {o}_view", [YES, YES, YES]),
    ("view: insert", "INSERT INTO {o}_view VALUES (1, 1)", [YES, NO, YES]),
    ("view: update", "UPDATE {o}_view SET x = 2", [YES, NO, YES]),
    ("view: delete", "DELETE FROM {o}_view", [YES, NO, YES]),
    ("view: replace", "CREATE OR REPLACE VIEW {o}_view AS SELECT 1 AS x", [NO, NO, YES]),
    ("view: drop", "DROP VIEW {o}_view", [NO, NO, YES]),
    ("partitioned: insert", "INSERT INTO {o}_parted VALUES (1)", [YES, NO, YES]),
    ("partitioned: drop one", "ALTER TABLE {o}_parted DROP PARTITION a", [NO, NO, YES]),
    ("sequence: next", "SELECT NEXTVAL({o}_sequence)", [YES, NO, YES]),
    ("sequence: set", "SELECT SETVAL({o}_sequence, 70)", [YES, NO, YES]),
    ("sequence: drop", "DROP SEQUENCE {o}_sequence", [NO, NO, YES]),
    ("function: execute", "SELECT {o}_function()", [YES, NO, YES]),
    ("function: alter", "ALTER FUNCTION {o}_function COMMENT 'mine'", [NO, NO, YES]),
    ("function: drop", "DROP FUNCTION {o}_function", [NO, NO, YES]),
    ("procedure: call", "CALL {o}_procedure()", [YES, NO, YES]),
    ("procedure: drop", "DROP PROCEDURE {o}_procedure", [NO, NO, YES]),
    ("procedure: hand on", "GRANT EXECUTE ON PROCEDURE {o}_procedure TO partner@'%'", [NO, NO, NO]),
    ("event: alter", "ALTER EVENT {o}_event DISABLE", [NO, NO, YES]),
    ("event: drop", "DROP EVENT {o}_event", [NO, NO, YES]),
    ("trigger: drop", "DROP TRIGGER {o}_old_trigger", [NO, NO, YES]),
];

/// What is tried in each database `{d}`, and what takes it away again.
const PLACES: [(&str, &str, &str, [bool; 3]); 8] = [
    ("create a table", "CREATE TABLE {d}.mine (x int)", "DROP TABLE IF EXISTS {d}.mine", [NO, NO, YES]),
    ("create a view", "CREATE VIEW {d}.mine AS SELECT 1", "DROP VIEW IF EXISTS {d}.mine", [NO, NO, YES]),
    (
        "create a function",
        "CREATE FUNCTION {d}.mine() RETURNS int RETURN 1",
        "DROP FUNCTION IF EXISTS {d}.mine",
        [NO, NO, YES],
    ),
    (
        "create an event",
        "CREATE EVENT {d}.mine ON SCHEDULE EVERY 1 DAY DO SELECT 1",
        "DROP EVENT IF EXISTS {d}.mine",
        [NO, NO, YES],
    ),
    (
        "act as somebody else",
        "CREATE DEFINER = admin@'%' PROCEDURE {d}.mine() SELECT 1",
        "DROP PROCEDURE IF EXISTS {d}.mine",
        [NO, NO, NO],
    ),
    ("create a temporary table", "CREATE TEMPORARY TABLE {d}.brief (x int)", "DO 1", [YES, NO, YES]),
    ("alter", "ALTER DATABASE {d} COMMENT 'mine'", "ALTER DATABASE {d} COMMENT ''", [NO, NO, YES]),
    ("hand on", "GRANT SELECT ON {d}.* TO partner@'%'", "DO 1", [NO, NO, NO]),
];

/// What is tried with the server.
const SERVER: [(&str, &str, [bool; 3]); 15] = [
    ("create a database", "CREATE DATABASE mine", [NO, NO, NO]),
    ("read a database made later", "SELECT * FROM myXshop.t", [NO, NO, NO]),
    ("create a user", "CREATE USER mine@'%'", [NO, NO, NO]),
    ("change a user", "ALTER USER partner@'%' IDENTIFIED BY 'x'", [NO, NO, NO]),
    ("read passwords", "SELECT authentication_string FROM mysql.user", [NO, NO, NO]),
    ("write passwords", "UPDATE mysql.global_priv SET Priv = '{}'", [NO, NO, NO]),
    ("take on a role", "SET ROLE rds_superuser_role", [NO, NO, NO]),
    ("take on a harmless role", "SET ROLE reading", [NO, NO, NO]),
    ("change a setting", "SET GLOBAL general_log = ON", [NO, NO, NO]),
    ("reload", "FLUSH PRIVILEGES", [NO, NO, NO]),
    ("shut down", "SHUTDOWN", [NO, NO, NO]),
    ("see what all sessions do", "SHOW ENGINE INNODB STATUS", [NO, NO, YES]),
    ("see the position of the log", "SHOW MASTER STATUS", [NO, NO, YES]),
    ("statistics", "SELECT * FROM performance_schema.threads LIMIT 1", [NO, NO, YES]),
    ("change statistics", "UPDATE performance_schema.setup_consumers SET enabled = 'NO'", [NO, NO, NO]),
];

/// Old objects and later ones, in two databases, and those that the devops user made.
const SETS: [(&str, &str); 5] = [
    ("my_shop", "old"),
    (LAGER_QUOTED, "old"),
    ("my_shop", "later"),
    (LAGER_QUOTED, "later"),
    ("my_shop", "made_by_devops"),
];

fn declared() -> (Desired, Passwords) {
    declare(&USERS, &["partner"])
}

async fn set_up(server: &MySqlServer) -> SetupReport {
    let (desired, passwords) = declared();
    setup_users(&server.server(), &desired, &passwords).await.unwrap()
}

/// One object of each kind, anew.
pub(super) async fn make_objects(server: &MySqlServer, (database, time): (&str, &str)) {
    let user = if time == "made_by_devops" { (USERS[2].1, USERS[2].2) } else { super::support::SUPERUSER };
    let mut session = server.session(user).await.unwrap();
    let o = format!("{database}.{time}");
    for sql in [
        "DROP TABLE IF EXISTS {o}_child, {o}_table, {o}_other, {o}_parted",
        "CREATE TABLE {o}_table (x int, y int, KEY (x))",
        "CREATE TRIGGER {o}_old_trigger BEFORE DELETE ON {o}_table FOR EACH ROW SET @x = 1",
        "CREATE OR REPLACE VIEW {o}_view AS SELECT x, y FROM {o}_table",
        "CREATE TABLE {o}_parted (x int) PARTITION BY RANGE (x) (PARTITION a VALUES LESS THAN (9), PARTITION b VALUES LESS THAN (99))",
        "CREATE OR REPLACE SEQUENCE {o}_sequence",
        "CREATE OR REPLACE FUNCTION {o}_function() RETURNS int RETURN 1",
        "CREATE OR REPLACE PROCEDURE {o}_procedure() SELECT 1",
        "CREATE OR REPLACE EVENT {o}_event ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    ] {
        let sql = sql.replace("{o}", &o);
        execute(&mut session, &sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
}

/// Refused: a database, a table, a column, a routine; a right on the server; a role; nothing to hand on.
const REFUSED: [&str; 9] = ["1044", "1045", "1142", "1143", "1227", "1370", "1410", "1959", "1961"];

/// What is tried, the statement, what takes it back, whether it is allowed, and the objects that it may spoil.
type Attempt<'a> = (String, String, Option<String>, bool, Option<(&'a str, &'a str)>);

/// One thing to try: in the words of the tables, where, and who of the three users of the contract may.
pub(super) struct Tried<'a> {
    pub(super) what: &'a str,
    pub(super) database: &'a str,
    /// Objects of which time; empty for the database or the server as a whole.
    pub(super) time: &'a str,
    by_profile: [bool; 3],
}

/// Where the server does not do as the tables say, after trying everything; what was done is undone.
async fn deviations(server: &MySqlServer, sets: &[(&str, &str)]) -> Vec<String> {
    deviations_of(server, sets, &USERS, |user, tried| tried.by_profile[user]).await
}

/// The same for `users`, of whom `may` says what they may.
pub(super) async fn deviations_of(
    server: &MySqlServer,
    sets: &[(&str, &str)],
    users: &[(&str, &str, &str)],
    may: impl Fn(usize, &Tried<'_>) -> bool,
) -> Vec<String> {
    let mut found = vec![];
    let mut admin = server.superuser().await;
    for (user, (key, name, password)) in users.iter().enumerate() {
        let may = |what, database, time, by_profile| may(user, &Tried { what, database, time, by_profile });
        let mut attempts: Vec<Attempt<'_>> = vec![];
        for set in sets {
            let o = format!("{}.{}", set.0, set.1);
            for (what, sql, by_profile) in OBJECTS {
                let may = may(what, set.0, set.1, by_profile);
                attempts.push((format!("{what} ({o})"), sql.replace("{o}", &o), None, may, Some(*set)));
            }
        }
        for database in ["my_shop", LAGER_QUOTED] {
            for (what, sql, undo, by_profile) in PLACES {
                let may = may(what, database, "", by_profile);
                let (sql, undo) = (sql.replace("{d}", database), undo.replace("{d}", database));
                attempts.push((format!("{what} ({database})"), sql, Some(undo), may, None));
            }
        }
        for (what, sql, by_profile) in SERVER {
            attempts.push((what.to_owned(), sql.to_owned(), None, may(what, "", "", by_profile), None));
        }
        let mut session = server.session((name, password)).await.unwrap();
        for (what, sql, undo, may, set) in attempts {
            let did = match execute(&mut session, &sql).await.as_ref().map_err(String::as_str) {
                Ok(()) => YES,
                Err(error) if REFUSED.contains(&error) => NO,
                Err(other) => panic!("{key}: {what}: {other}: {sql}"),
            };
            execute(&mut session, "UNLOCK TABLES").await.unwrap();
            if did != may {
                found.push(format!("{key}: {what}: {}", if did { "allowed" } else { "refused" }));
            }
            if let Some(undo) = undo {
                execute(&mut admin, &undo).await.unwrap_or_else(|error| panic!("{error}: {undo}"));
            }
            let changes = ["DROP", "ALTER", "RENAME", "CREATE", "TRUNCATE", "GRANT"];
            if let Some(set) = set.filter(|_| did && changes.iter().any(|word| sql.starts_with(word))) {
                // A trigger or a child that was made goes with its table.
                make_objects(server, set).await;
            }
        }
    }
    // What was handed on by a mistake must not stay for the next look.
    for database in ["my_shop", LAGER_QUOTED] {
        execute(&mut admin, &format!("GRANT USAGE ON {database}.* TO partner@'%'")).await.unwrap();
    }
    found
}

#[tokio::test]
async fn every_profile_may_what_the_table_says_and_nothing_else() {
    let server = MySqlServer::start(&["--performance-schema=ON"]).await;
    for set in &SETS[..2] {
        make_objects(&server, *set).await;
    }
    set_up(&server).await;
    server.run(&["CREATE DATABASE myXshop", "CREATE TABLE myXshop.t (x int)"]).await;
    for set in &SETS[2..] {
        make_objects(&server, *set).await;
    }
    assert_eq!(deviations(&server, &SETS).await, [""; 0]);
    server.run(&["DROP DATABASE myXshop"]).await;
    assert_eq!(set_up(&server).await.changes, [""; 0]);
    server.run(&["CREATE DATABASE myXshop", "CREATE TABLE myXshop.t (x int)"]).await;
    assert_eq!(deviations(&server, &SETS).await, [""; 0]);
}

/// Rights given by hand, in every way there is, to every declared user and to the application's second account.
async fn give_too_much(server: &MySqlServer) {
    let reader = format!("{}@'%'", quote_identifier(USERS[1].1).unwrap());
    let places = [
        // What the master holds too, which is taken away right by right.
        "GRANT SELECT, INSERT, DROP, CREATE USER, EVENT ON *.* TO {u} WITH GRANT OPTION",
        "GRANT INSERT, CREATE ON `my%`.* TO {u} WITH GRANT OPTION",
        "GRANT UPDATE ON my_shop.* TO {u}",
        "GRANT EVENT, ALTER ROUTINE ON `my\\_shop`.* TO {u} WITH GRANT OPTION",
        "GRANT SELECT, DROP, TRIGGER ON {lager}.old_table TO {u} WITH GRANT OPTION",
        "GRANT SELECT (x), INSERT (x), UPDATE (y), REFERENCES (x) ON my_shop.old_table TO {u}",
        "GRANT EXECUTE, ALTER ROUTINE ON FUNCTION my_shop.old_function TO {u} WITH GRANT OPTION",
        "GRANT EXECUTE ON PROCEDURE my_shop.later_procedure TO {u}",
        "GRANT PROXY ON partner@'%' TO {u} WITH GRANT OPTION",
        "GRANT rds_superuser_role TO {u} WITH ADMIN OPTION",
        "GRANT reading TO {u}",
        "SET DEFAULT ROLE rds_superuser_role FOR {u}",
    ];
    // What it does not hold, or not there.
    let more = [
        "GRANT ALL ON *.* TO {u} WITH GRANT OPTION",
        "GRANT ALL ON mysql.* TO {u}",
        "GRANT ALL ON my_shop.later_table TO {u}",
    ];
    for user in ["app_user@'%'", "app_user@localhost", &reader, "devops@'%'"] {
        let more = if user.ends_with("localhost") || user.starts_with("devops") { &more[..] } else { &[] };
        for sql in places.iter().chain(more) {
            server.run(&[&sql.replace("{u}", user).replace("{lager}", LAGER_QUOTED)]).await;
        }
    }
}

#[tokio::test]
async fn what_was_given_by_hand_is_gone_after_the_next_run() {
    let server = MySqlServer::start(&["--performance-schema=ON"]).await;
    for set in &SETS[..2] {
        make_objects(&server, *set).await;
    }
    set_up(&server).await;
    for set in &SETS[2..] {
        make_objects(&server, *set).await;
    }
    give_too_much(&server).await;
    // The reader may everything now: a few of the ways, as a test of the test.
    let mut reader = server.session((USERS[1].1, USERS[1].2)).await.unwrap();
    for sql in
        ["DELETE FROM my_shop.old_table", "CREATE USER x@'%'", "DROP USER x@'%'", "GRANT SELECT ON *.* TO partner@'%'"]
    {
        assert_eq!(execute(&mut reader, sql).await, Ok(()), "{sql}");
    }
    drop(reader);
    server.run(&["REVOKE SELECT ON *.* FROM partner@'%'"]).await;

    // One round is enough, and what was done is told.
    let (desired, passwords) = declared();
    let changes = look(&server.server(), &desired, &passwords).await.unwrap().changes(&desired);
    let told = changes.describe();
    for change in [
        "revoke the role rds_superuser_role from app_user@localhost",
        "revoke the role reading from devops@%",
        "revoke all rights from app_user@localhost",
        "revoke all rights from devops@%",
        "revoke PROXY on account partner@% from devops@%",
        "revoke PROXY on account partner@% from O'Brien `the\\ reader\"; --@%",
        "revoke CREATE USER, DROP, EVENT, GRANT OPTION, INSERT, SELECT on the whole server from app_user@%",
        "revoke CREATE, GRANT OPTION, INSERT on database my% from app_user@%",
        "revoke UPDATE on database my_shop from app_user@%",
        "revoke ALTER ROUTINE, EVENT, GRANT OPTION on database my\\_shop from app_user@%",
        "revoke DROP, GRANT OPTION, SELECT, TRIGGER on table Lager_1 `Süd' 5%.old_table from app_user@%",
        "revoke INSERT, REFERENCES, SELECT on column my_shop.old_table.x from app_user@%",
        "revoke UPDATE on column my_shop.old_table.y from app_user@%",
        "revoke ALTER ROUTINE, EXECUTE, GRANT OPTION on function my_shop.old_function from app_user@%",
        "revoke EXECUTE on procedure my_shop.later_procedure from app_user@%",
    ] {
        assert!(told.iter().any(|made| made == change), "{change} is not among {told:#?}");
    }
    make(&server.server(), &changes, &passwords).await.unwrap();
    assert_eq!(set_up(&server).await.changes, [""; 0]);
    server.run(&["CREATE DATABASE myXshop", "CREATE TABLE myXshop.t (x int)"]).await;
    assert_eq!(deviations(&server, &SETS).await, [""; 0]);
}
