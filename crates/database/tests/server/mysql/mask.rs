//! Masking scripts on a real server that commits each change of a schema at once.

use super::support::{MASTER, MySqlServer, declare, execute};
use aurora_restore_database::{
    DatabaseError, ErrorClass, MaskScript, forget_masked, look, make, mask, mask_within, setup_users,
};
use std::collections::BTreeSet;
use std::time::Duration;

const OPERATION: &str = "nightly-1";
const DOUBLE: &str = "UPDATE my_shop.orders SET total = total * 2";

fn script(name: &str, sql: &str) -> MaskScript {
    let sum = sql.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    MaskScript { name: name.into(), database: "my_shop".into(), sha256: format!("{sum:064x}"), sql: sql.into() }
}

async fn run(server: &MySqlServer, name: &str, sql: &str) -> Result<Option<u64>, DatabaseError> {
    mask(&server.server(), OPERATION, &script(name, sql)).await
}

async fn totals(server: &MySqlServer) -> String {
    server.texts("SELECT group_concat(round(total) ORDER BY id) FROM my_shop.orders").await.remove(0)
}

/// As production has them.
async fn reset(server: &MySqlServer) {
    server
        .run(&[
            "CREATE OR REPLACE TABLE my_shop.orders (id int AUTO_INCREMENT PRIMARY KEY, total decimal(9,2))",
            "INSERT INTO my_shop.orders (total) VALUES (1), (2), (3)",
        ])
        .await;
}

fn is_spoiled(error: &DatabaseError, words: &str) {
    assert!(
        matches!(error, DatabaseError::ScriptSpoiled { .. }) && error.to_string().contains(words),
        "{words:?}: {error}"
    );
    assert_eq!(error.class(), ErrorClass::Rejected);
}

async fn never_again(server: &MySqlServer, name: &str) {
    let before = totals(server).await;
    // Whatever its text is by now.
    for sql in [DOUBLE, "SELECT 1"] {
        is_spoiled(&run(server, name, sql).await.unwrap_err(), "was begun in an earlier try and did not end");
    }
    assert_eq!(totals(server).await, before);
}

#[tokio::test]
async fn a_script_runs_once_and_wholly() {
    let server = MySqlServer::start(&[]).await;
    let double = "UPDATE orders SET total = total * 2; SELECT id FROM orders";
    assert_eq!(run(&server, "1.sql", double).await.unwrap(), Some(2));
    assert_eq!(run(&server, "1.sql", double).await.unwrap(), None, "it carries a mark");
    assert_eq!(totals(&server).await, "2,4,6");
    is_spoiled(&run(&server, "1.sql", "UPDATE orders SET total = 0").await.unwrap_err(), "has run with another text");
    assert_eq!(totals(&server).await, "2,4,6");
    // Names are bytes. A snapshot of this database may be restored by another operation.
    assert_eq!(run(&server, "1.SQL", double).await.unwrap(), Some(2));
    assert_eq!(mask(&server.server(), "nightly-2", &script("1.sql", double)).await.unwrap(), Some(2));
    assert_eq!(totals(&server).await, "8,16,24");
    for _ in 0..2 {
        forget_masked(&server.server(), &BTreeSet::from(["my_shop".to_owned()])).await.unwrap();
    }
    assert_eq!(server.texts("SHOW DATABASES LIKE 'aurora%'").await, [""; 0], "nothing of ours stays");
}

#[tokio::test]
async fn a_script_that_fails_leaves_nothing() {
    let server = MySqlServer::start(&[]).await;
    let cases = [
        (
            "UPDATE orders SET total = 0; UPDATE orders SET nothing = 1; SELECT 1",
            "statement 2",
            "42S22, MySQL error 1054",
        ),
        ("UPDATE orders SET total = 0; SELEC", "statement 2", "42000, MySQL error 1064"),
        ("SIGNAL SQLSTATE '45001' SET MESSAGE_TEXT = 'secret data'", "statement 1", "45001, MySQL error 1644"),
        (
            "UPDATE orders SET total = 0; UPDATE mysql.roles_mapping SET Admin_option = 'Y'; SELECT nothing",
            "statement 3",
            "1054",
        ),
        ("UPDATE orders SET total = 0; CREATE TEMPORARY TABLE t (x int); SELECT nothing FROM t", "statement 3", "1054"),
    ];
    for (sql, statement, why) in cases {
        for _ in 0..2 {
            let error = run(&server, "app/2.sql", sql).await.unwrap_err();
            assert!(matches!(error, DatabaseError::Script { .. }), "{error}");
            assert_eq!(error.class(), ErrorClass::Rejected);
            for word in ["script app/2.sql", statement, why] {
                assert!(error.to_string().contains(word), "{word} in {error}");
            }
            assert!(!format!("{error} {error:?}").contains("secret data"), "{error:?}");
            assert_eq!(totals(&server).await, "1,2,3", "{sql}");
        }
    }
    // Somebody's lock: the step is repeated, and nothing of the script has stayed.
    let mut other = server.superuser().await;
    execute(&mut other, "START TRANSACTION").await.unwrap();
    execute(&mut other, "UPDATE my_shop.orders SET total = 7 WHERE id = 3").await.unwrap();
    let waits =
        "SET innodb_lock_wait_timeout = 1; UPDATE orders SET total = 0 WHERE id < 3; UPDATE orders SET total = 0";
    let error = run(&server, "app/2.sql", waits).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unreachable, "{error}");
    execute(&mut other, "ROLLBACK").await.unwrap();
    assert_eq!(totals(&server).await, "1,2,3");
    assert_eq!(run(&server, "app/2.sql", "UPDATE orders SET total = 9").await.unwrap(), Some(1), "mended, it runs");
    assert_eq!(totals(&server).await, "9,9,9");
}

#[tokio::test]
async fn a_script_that_commits_in_between_runs_once() {
    let server = MySqlServer::start(&[]).await;
    server.run(&["CREATE TABLE my_shop.trail (x int)", "INSERT INTO my_shop.trail VALUES (1)"]).await;
    let cases = [
        (
            "UPDATE orders SET total = total * 2; ALTER TABLE orders ADD COLUMN note text; UPDATE orders SET note = 'x'",
            "2,4,6",
        ),
        ("TRUNCATE trail; UPDATE orders SET total = total * 2", "2,4,6"),
        // The server knows where a routine ends.
        (
            "CREATE PROCEDURE mask_them() BEGIN UPDATE orders SET total = total * 2; COMMIT; END; CALL mask_them(); CALL mask_them()",
            "4,8,12",
        ),
        ("UPDATE orders SET total = 0; ROLLBACK; UPDATE orders SET total = total * 2", "2,4,6"),
        (
            "UPDATE orders SET total = total * 2; COMMIT; START TRANSACTION; UPDATE orders SET total = total + 1",
            "3,5,7",
        ),
        ("LOCK TABLES orders WRITE; UPDATE orders SET total = total * 2", "2,4,6"),
        ("SET autocommit = 1; UPDATE orders SET total = total * 2", "2,4,6"),
        ("ANALYZE TABLE orders; UPDATE orders SET total = total * 2; -- the end", "2,4,6"),
    ];
    for (position, (sql, left)) in cases.into_iter().enumerate() {
        reset(&server).await;
        let name = &format!("app/{position}.sql");
        let first = run(&server, name, sql).await;
        assert!(matches!(first, Ok(Some(_))), "{sql}: {first:?}");
        assert_eq!(totals(&server).await, left, "{sql}");
        assert_eq!(run(&server, name, sql).await.unwrap(), None, "{sql}");
        assert_eq!(totals(&server).await, left, "{sql}");
    }
}

#[tokio::test]
async fn a_script_that_fails_after_a_commit_is_never_run_again() {
    let server = MySqlServer::start(&[]).await;
    server
        .run(&[
            "CREATE TABLE my_shop.trail (x int)",
            "CREATE PROCEDURE my_shop.half() BEGIN UPDATE orders SET total = total * 2; COMMIT; SELECT nothing; END",
            "CREATE PROCEDURE my_shop.back() BEGIN ROLLBACK; UPDATE orders SET total = total * 2; COMMIT; SELECT nothing; END",
        ])
        .await;
    let committed = "what it had committed has stayed";
    let cases = [
        (
            "UPDATE orders SET total = total * 2; ALTER TABLE orders ADD COLUMN note text; SELECT nothing",
            "2,4,6",
            "failed at statement 3",
        ),
        (
            "UPDATE orders SET total = total * 2; TRUNCATE trail; UPDATE orders SET total = 0; SELECT nothing",
            "2,4,6",
            committed,
        ),
        ("UPDATE orders SET total = total * 2; DROP TABLE no_such", "2,4,6", committed),
        ("UPDATE orders SET total = total * 2; COMMIT; SELECT nothing", "2,4,6", committed),
        ("UPDATE orders SET total = total * 2; START TRANSACTION; SELECT nothing", "2,4,6", committed),
        ("SET autocommit = 1; UPDATE orders SET total = total * 2; SELECT nothing", "2,4,6", committed),
        ("LOCK TABLES orders WRITE; UPDATE orders SET total = total * 2; SELECT nothing", "1,2,3", committed),
        ("GRANT SELECT ON my_shop.* TO partner@'%'; UPDATE orders SET total = 0; SELECT nothing", "1,2,3", committed),
        // These take their mark back, so it was committed before.
        (
            "UPDATE orders SET total = 0; ROLLBACK; UPDATE orders SET total = total * 2; COMMIT; SELECT nothing",
            "2,4,6",
            "the word ROLLBACK",
        ),
        ("CALL half()", "2,4,6", "the word CALL"),
        ("CALL back()", "2,4,6", "the word CALL"),
        (
            "EXECUTE IMMEDIATE concat('ROLL', 'BACK'); UPDATE orders SET total = total * 2; COMMIT; SELECT nothing",
            "2,4,6",
            "the word EXECUTE",
        ),
        (
            "UPDATE orders SET total = total * 2; SET SESSION TRANSACTION READ ONLY; TRUNCATE trail; SELECT 1",
            "2,4,6",
            committed,
        ),
    ];
    for (position, (sql, left, words)) in cases.into_iter().enumerate() {
        reset(&server).await;
        let name = &format!("app/{position}.sql");
        is_spoiled(&run(&server, name, sql).await.unwrap_err(), words);
        assert_eq!(totals(&server).await, left, "{sql}");
        never_again(&server, name).await;
    }
}

/// However that came: what has stayed cannot be known.
#[tokio::test]
async fn a_script_that_lost_its_mark_is_never_run_again() {
    let server = MySqlServer::start(&[]).await;
    server
        .run(&["CREATE PROCEDURE my_shop.slowly() BEGIN UPDATE orders SET total = total * 2; DO sleep(1); END"])
        .await;
    let removes = async {
        sleeping(&server).await;
        server.run(&["DELETE FROM aurora_restore_masking.marks"]).await;
    };
    let (ran, ()) = tokio::join!(run(&server, "1.sql", "CALL slowly()"), removes);
    is_spoiled(&ran.unwrap_err(), "lost the mark that it is running");
    never_again(&server, "1.sql").await;
}

/// A table that takes nothing back, anywhere: a script may reach it.
#[tokio::test]
async fn where_a_table_takes_nothing_back_a_failure_is_final() {
    let server = MySqlServer::start(&[]).await;
    let half = "UPDATE orders SET total = 0; UPDATE `Lager_1 ``Süd' 5%`.trail SET x = 2; SELECT nothing";
    server.run(&["CREATE TABLE `Lager_1 ``Süd' 5%`.trail (x int) ENGINE = InnoDB"]).await;
    server.run(&["INSERT INTO `Lager_1 ``Süd' 5%`.trail VALUES (1)"]).await;
    let error = run(&server, "1.sql", half).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Script { .. }), "{error}");
    for engine in ["MyISAM", "Aria", "MEMORY"] {
        server.run(&[&format!("ALTER TABLE `Lager_1 ``Süd' 5%`.trail ENGINE = {engine}")]).await;
        let error = run(&server, &format!("{engine}.sql"), half).await.unwrap_err();
        is_spoiled(&error, &format!("table Lager_1 `Süd' 5%.trail of engine {engine} takes no change back"));
        assert_eq!(totals(&server).await, "1,2,3");
        never_again(&server, &format!("{engine}.sql")).await;
    }
    assert_eq!(server.texts("SELECT x FROM `Lager_1 ``Süd' 5%`.trail").await, ["2"]);
    assert_eq!(run(&server, "2.sql", DOUBLE).await.unwrap(), Some(1), "one that works is done");
}

const SLEEPING: &str = "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'";

async fn sleeping(server: &MySqlServer) -> String {
    loop {
        if let Some(id) = server.texts(SLEEPING).await.into_iter().next() {
            return id;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Its function is gone in the middle of it: whether something had been committed or not is known to the next try.
#[tokio::test]
async fn killed_in_the_middle() {
    let server = MySqlServer::start(&[]).await;
    server
        .run(&[
            "CREATE PROCEDURE my_shop.back() BEGIN ROLLBACK; UPDATE orders SET total = 5; COMMIT; DO sleep(60); END",
        ])
        .await;
    for (name, rest, is_gone) in [
        ("plain.sql", "DO sleep(60)", true),
        ("ddl.sql", "ALTER TABLE orders ADD COLUMN note text; DO sleep(60)", false),
        ("call.sql", "CALL back()", false),
    ] {
        reset(&server).await;
        let (other, script) = (server.server(), script(name, &format!("{DOUBLE}; {rest}")));
        let task = tokio::spawn(async move { mask(&other, OPERATION, &script).await });
        let id = sleeping(&server).await;
        task.abort();
        // It may have seen that nobody listens any more.
        let mut other = server.superuser().await;
        let killed = execute(&mut other, &format!("KILL {id}")).await;
        assert!(killed.is_ok() || killed == Err("1094".to_owned()), "{killed:?}");
        let next = run(&server, name, "UPDATE my_shop.orders SET total = total * 10").await;
        match is_gone {
            true => {
                assert_eq!((next.unwrap(), totals(&server).await.as_str()), (Some(1), "10,20,30"), "it was rolled back")
            }
            false => is_spoiled(&next.unwrap_err(), "in an earlier try"),
        }
    }
}

/// The server may go on with a script whose function is gone: the next try waits, and neither judges nor runs.
#[tokio::test]
async fn while_a_script_runs_no_other_begins() {
    let server = MySqlServer::start(&[]).await;
    let mut other = server.superuser().await;
    execute(&mut other, "SELECT get_lock('aurora-restore-masking', 0)").await.unwrap();
    let error = run(&server, "1.sql", DOUBLE).await.unwrap_err();
    assert_eq!(error.to_string(), "the database server is busy: another masking script is still running");
    assert_eq!((error.class(), totals(&server).await.as_str()), (ErrorClass::Unreachable, "1,2,3"));
}

/// Its connection breaks: the step is repeated, and the next try knows.
#[tokio::test]
async fn a_connection_that_breaks_is_worth_another_try() {
    let server = MySqlServer::start(&[]).await;
    for (name, rest, is_gone) in
        [("plain.sql", "", true), ("ddl.sql", "ALTER TABLE orders ADD COLUMN note text; ", false)]
    {
        reset(&server).await;
        let sql = format!("{DOUBLE}; {rest}DO sleep(60)");
        let ends = async { server.run(&[&format!("KILL {}", sleeping(&server).await)]).await };
        let (broken, ()) = tokio::join!(run(&server, name, &sql), ends);
        assert_eq!(broken.unwrap_err().class(), ErrorClass::Unreachable);
        match is_gone {
            true => assert_eq!(run(&server, name, DOUBLE).await.unwrap(), Some(1)),
            false => never_again(&server, name).await,
        }
        assert_eq!(totals(&server).await, "2,4,6");
    }
}

#[tokio::test]
async fn a_script_that_takes_too_long_is_ended() {
    let server = MySqlServer::start(&[]).await;
    let within = async |name: &str, sql: &str| {
        mask_within(&server.server(), OPERATION, &script(name, sql), Duration::from_secs(1)).await.unwrap_err()
    };
    let error = within("1.sql", &format!("{DOUBLE}; DO sleep(60)")).await;
    assert_eq!(error.to_string(), "script 1.sql failed at statement 2: the script did not end within 1 s; split it");
    assert_eq!(server.texts(SLEEPING).await, [""; 0], "the server does not go on with it");
    assert_eq!(run(&server, "1.sql", DOUBLE).await.unwrap(), Some(1), "it was rolled back");
    assert_eq!(totals(&server).await, "2,4,6");
    let error = within("2.sql", &format!("{DOUBLE}; ALTER TABLE orders ADD COLUMN note text; DO sleep(60)")).await;
    is_spoiled(&error, "failed at statement 3: the script did not end within 1 s; split it; a part of it has stayed");
    never_again(&server, "2.sql").await;
}

/// Two functions at work on one script: the second waits, and finds it done, also when the first commits in between.
#[tokio::test]
async fn two_at_once_run_it_once() {
    let server = MySqlServer::start(&[]).await;
    for (name, rest) in [("plain.sql", ""), ("ddl.sql", "ALTER TABLE orders ADD COLUMN note text; ")] {
        reset(&server).await;
        let double = format!("{DOUBLE}; {rest}DO sleep(0.5)");
        let (one, two) = tokio::join!(run(&server, name, &double), run(&server, name, &double));
        let mut both = [one.unwrap().is_some(), two.unwrap().is_some()];
        both.sort_unstable();
        assert_eq!(both, [false, true]);
        assert_eq!(totals(&server).await, "2,4,6");
    }
}

#[tokio::test]
async fn what_a_script_may_do_to_its_session() {
    let server = MySqlServer::start(&[]).await;
    let cases = [
        "USE `Lager_1 ``Süd' 5%`; UPDATE orders SET total = 5; UPDATE my_shop.orders SET total = total + 1",
        "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,ORACLE'; UPDATE \"orders\" SET total = total + 1",
        "SET SESSION TRANSACTION READ ONLY; UPDATE orders SET total = total + 1",
        "SAVEPOINT here; UPDATE orders SET total = 0; ROLLBACK TO here; UPDATE orders SET total = total + 1",
        "SET NAMES latin1, max_statement_time = 0; UPDATE orders SET total = total + 1",
        "CREATE TEMPORARY TABLE t AS SELECT id FROM orders; UPDATE orders SET total = total + 1 WHERE id IN (SELECT id FROM t)",
        "DO RELEASE_ALL_LOCKS(); UPDATE orders SET total = total + 1",
        "FLUSH TABLES orders WITH READ LOCK; UNLOCK TABLES; UPDATE orders SET total = total + 1",
    ];
    for (position, sql) in cases.iter().enumerate() {
        let result = run(&server, &format!("{position}.sql"), sql).await;
        assert!(matches!(result, Ok(Some(_))), "{sql}: {result:?}");
    }
    assert_eq!(totals(&server).await, "9,10,11");
}

#[tokio::test]
async fn where_it_cannot_run_is_told() {
    let server = MySqlServer::start(&[]).await;
    for (database, words) in [
        ("", "script 1.sql is in no folder, and the master's secret names no database for it"),
        ("missing", "refused to open database missing (SQLSTATE 42000, MySQL error 1049)"),
    ] {
        let script = MaskScript { database: database.into(), ..script("1.sql", "SELECT 1") };
        let error = mask(&server.server(), OPERATION, &script).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for sql in [
        "UPDATE orders SET total = 0;\nDELIMITER //",
        "UPDATE orders SET total = 0; DROP DATABASE Aurora_Restore_Masking",
    ] {
        let error = run(&server, "1.sql", sql).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid, "{error}");
    }
    assert_eq!(totals(&server).await, "1,2,3");
    // Marks of somebody else are neither believed nor removed.
    for foreign in [
        "CREATE TABLE aurora_restore_masking.mine (x int)",
        "CREATE VIEW aurora_restore_masking.marks AS SELECT 1",
        "CREATE TABLE aurora_restore_masking.marks (operation_id int)",
    ] {
        server.run(&["CREATE OR REPLACE DATABASE aurora_restore_masking", foreign]).await;
        let error = run(&server, "1.sql", DOUBLE).await.unwrap_err().to_string();
        assert_eq!(error, "database aurora_restore_masking belongs to somebody else; masking keeps its marks there");
        forget_masked(&server.server(), &BTreeSet::new()).await.unwrap();
        assert_eq!(server.texts("SHOW DATABASES LIKE 'aurora%'").await.len(), 1);
    }
    assert_eq!(totals(&server).await, "1,2,3");
}

#[tokio::test]
async fn users_are_out_until_they_are_set_up() {
    let server = MySqlServer::start(&[]).await;
    let (desired, passwords) =
        declare(&[("application_user", "app_user", "a"), ("readonly_user", "nobody_yet", "b")], &["partner"]);
    let users = [("application_user", "app_user", "a")];
    let (first, _) = declare(&users, &["partner", "prod_report"]);
    setup_users(&server.server(), &first, &passwords).await.unwrap();
    let mut session = server.session(("app_user", "a")).await.unwrap();
    let mut production = server.session(("prod_report", "production report")).await.unwrap();
    let mut partner = server.session(("partner", "partner")).await.unwrap();
    // One of the master from before its password was reset, perhaps.
    let mut masters = server.session(MASTER).await.unwrap();
    let seen = look(&server.server(), &desired, &passwords).await.unwrap();
    let mut changes = seen.closing(&desired);
    assert_eq!(
        changes.describe(),
        [
            "lock the inherited login prod_report@127.0.0.1",
            "lock the inherited login prod_report@localhost",
            "lock app_user@% until it is set up",
            "lock app_user@localhost until it is set up",
            "end the sessions of app_user",
            "end the sessions of prod_report",
        ]
    );
    changes.extend(seen.ending_of_the_masters_sessions());
    assert_eq!(changes.describe().last().unwrap(), "end the sessions of admin");
    make(&server.server(), &changes, &passwords).await.unwrap();
    for session in [&mut session, &mut production, &mut masters] {
        assert!(execute(session, "SELECT 1").await.is_err(), "its session has ended");
    }
    assert_eq!(execute(&mut partner, "SELECT 1").await, Ok(()), "it is kept");
    for user in [("app_user", "a"), ("prod_report", "production report")] {
        assert!(server.session(user).await.is_err(), "{user:?}");
    }
    let seen = look(&server.server(), &desired, &passwords).await.unwrap();
    assert!(seen.closing(&desired).is_empty() && seen.ending_of_the_masters_sessions().is_empty());

    // Somebody who came in between the look and the lock shows in the next look.
    server.run(&["ALTER USER app_user@localhost ACCOUNT UNLOCK"]).await;
    let mut late = server.session(("app_user", "a")).await.unwrap();
    server.run(&["ALTER USER app_user@localhost ACCOUNT LOCK"]).await;
    let changes = look(&server.server(), &desired, &passwords).await.unwrap().closing(&desired);
    assert_eq!(changes.describe(), ["end the sessions of app_user"]);
    make(&server.server(), &changes, &passwords).await.unwrap();
    assert!(execute(&mut late, "SELECT 1").await.is_err());

    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    server.session(("app_user", "a")).await.unwrap();
}

/// What a script does shows in no error, and its text nowhere but on the server.
#[tokio::test]
async fn no_script_is_shown() {
    let script = script("1.sql", "UPDATE customers SET email = 'somebody@example.org'");
    assert_eq!(format!("{script:?}"), "MaskScript(1.sql in my_shop, 51 bytes)");
    let server = MySqlServer::start(&[]).await;
    let error = mask(&server.server(), OPERATION, &script).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("example.org"), "{error:?}");
}
