//! Masking scripts on a real server.

use crate::support::{MASTER, TestServer, declare, name};
use aurora_restore_database::{
    DatabaseError, ErrorClass, MaskScript, apply, forget_masked, mask, observe, setup_users, try_login,
};
use aurora_restore_domain::roles::{RoleChange, closing, describe, diff};
use std::collections::BTreeSet;
use std::time::Duration;

const OPERATION: &str = "nightly-1";

fn script(name: &str, sql: &str) -> MaskScript {
    let sum = sql.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    MaskScript { name: name.into(), database: "shop".into(), sha256: format!("{sum:064x}"), sql: sql.into() }
}

async fn run(server: &TestServer, name: &str, sql: &str) -> Result<Option<u64>, DatabaseError> {
    mask(&server.server(), OPERATION, &script(name, sql)).await
}

async fn totals(server: &TestServer) -> String {
    server.text("shop", "SELECT string_agg(total::text, ',' ORDER BY id) FROM sales.orders").await
}

/// A server whose master may change what owners own, as after the first round of changes.
async fn ready() -> TestServer {
    let server = TestServer::start(&[]).await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "a")], &[]);
    let observed = observe(&server.server(), &desired, &passwords).await.unwrap();
    apply(&server.server(), &diff(&desired, &observed), &passwords).await.unwrap();
    server
}

#[tokio::test]
async fn a_script_runs_once_and_wholly() {
    let server = ready().await;
    let double = "UPDATE sales.orders SET total = total * 2; SELECT 1; -- the end";
    assert_eq!(run(&server, "1.sql", double).await.unwrap(), Some(2));
    assert_eq!(run(&server, "1.sql", double).await.unwrap(), None, "it carries a mark");
    assert_eq!(totals(&server).await, "2,4,6");
    // Its name has run: with another text it is neither run again nor taken as done.
    let changed = run(&server, "1.sql", "UPDATE sales.orders SET total = 0").await.unwrap_err();
    assert_eq!(changed.to_string(), "script 1.sql has run with another text");
    assert_eq!(totals(&server).await, "2,4,6");
    // A snapshot of this database may be restored by another operation.
    assert_eq!(mask(&server.server(), "nightly-2", &script("1.sql", double)).await.unwrap(), Some(2));
    assert_eq!(totals(&server).await, "4,8,12");
    let databases = BTreeSet::from(["shop".to_owned()]);
    for _ in 0..2 {
        forget_masked(&server.server(), &databases).await.unwrap();
    }
    let left = "SELECT count(*)::text FROM pg_namespace WHERE nspname LIKE 'aurora%'";
    assert_eq!(server.text("shop", left).await, "0", "nothing of ours stays");
}

#[tokio::test]
async fn a_script_that_fails_leaves_nothing() {
    let server = ready().await;
    let cases = [
        ("UPDATE sales.orders SET total = 0; UPDATE sales.orders SET nothing = 1; SELECT 1", "statement 2", "42703"),
        ("UPDATE sales.orders SET total = 0; SELEC", "statement 1", "42601"),
        ("SELECT 'secret data'::int", "statement 1", "22P02"),
        ("UPDATE sales.rds_internal SET x = 0", "statement 1", "42501"),
        (
            "UPDATE sales.orders SET total = 0; DELETE FROM aurora_restore_masking.marks",
            "statement 2",
            "removed the mark",
        ),
    ];
    for (sql, statement, why) in cases {
        // The second try finds the mark of the first.
        for _ in 0..2 {
            let error = run(&server, "app/2.sql", sql).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Rejected);
            let error = error.to_string();
            for word in ["script app/2.sql", statement, why] {
                assert!(error.contains(word), "{word} in {error}");
            }
            assert!(!error.contains("secret data"), "{error}");
            assert_eq!(totals(&server).await, "1,2,3", "{sql}");
        }
    }
    assert_eq!(
        run(&server, "app/2.sql", "UPDATE sales.orders SET total = 9").await.unwrap(),
        Some(1),
        "mended, it runs"
    );
    assert_eq!(totals(&server).await, "9,9,9");
}

#[tokio::test]
async fn a_script_that_commits_by_itself_is_never_run_again() {
    let cases = [
        (
            "UPDATE sales.orders SET total = total * 2; COMMIT; SELECT no FROM sales.orders",
            "2,4,6",
            "statement 3 failed",
        ),
        ("UPDATE sales.orders SET total = total * 2; COMMIT; SELECT 1", "2,4,6", "part of it has stayed"),
        (
            "UPDATE sales.orders SET total = total * 2; COMMIT; BEGIN; SELECT no FROM sales.orders",
            "2,4,6",
            "statement 4",
        ),
        ("UPDATE sales.orders SET total = total * 2; COMMIT; BEGIN", "2,4,6", "part of it has stayed"),
        ("UPDATE sales.orders SET total = 0; ROLLBACK; SELECT 2", "1,2,3", "ended its transaction itself"),
    ];
    let server = ready().await;
    for (position, (sql, left, words)) in cases.into_iter().enumerate() {
        server.run("shop", "UPDATE sales.orders SET total = id").await;
        let name = &format!("app/{position}.sql");
        let error = run(&server, name, sql).await.unwrap_err();
        assert!(matches!(error, DatabaseError::ScriptSpoiled { .. }) && error.to_string().contains(words), "{error}");
        assert_eq!(totals(&server).await, left, "{sql}");
        // Neither counted as run, nor run on top of itself, whatever its text is by now.
        for sql in [sql, "UPDATE sales.orders SET total = 0"] {
            let again = run(&server, name, sql).await.unwrap_err().to_string();
            assert!(again.contains("in an earlier try: part of it has stayed"), "{again}");
            assert_eq!(totals(&server).await, left, "{sql}");
        }
    }
}

/// Its function is gone in the middle of it: whether it had committed by itself or not is known to the next try.
#[tokio::test]
async fn killed_in_the_middle() {
    let server = ready().await;
    for (before, after_kill) in [("", true), ("COMMIT; ", false)] {
        let sql = format!("UPDATE sales.orders SET total = total * 2; {before}SELECT pg_sleep(60)");
        let (other, text) = (server.server(), sql.clone());
        let task =
            tokio::spawn(async move { mask(&other, OPERATION, &script(&format!("{after_kill}.sql"), &text)).await });
        let sleeping = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while server.text("shop", sleeping).await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        task.abort();
        let end =
            "SELECT count(pg_terminate_backend(pid, 5000))::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        server.text("shop", end).await;
        let next = run(&server, &format!("{after_kill}.sql"), "UPDATE sales.orders SET total = total * 10").await;
        match after_kill {
            true => assert_eq!(next.unwrap(), Some(1), "the transaction was rolled back"),
            false => assert!(next.unwrap_err().to_string().contains("in an earlier try")),
        }
    }
    assert_eq!(totals(&server).await, "20,40,60");
}

/// Two functions at work on one script: the second waits, and finds it done.
#[tokio::test]
async fn two_at_once_run_it_once() {
    let server = ready().await;
    let double = "UPDATE sales.orders SET total = total * 2; SELECT pg_sleep(0.5)";
    let (one, two) = tokio::join!(run(&server, "1.sql", double), run(&server, "1.sql", double));
    let mut both = [one.unwrap(), two.unwrap()];
    both.sort();
    assert_eq!(both, [None, Some(2)]);
    assert_eq!(totals(&server).await, "2,4,6");
}

#[tokio::test]
async fn what_a_script_may_do_to_its_session() {
    let server = ready().await;
    server.run("shop", "GRANT ALL ON SCHEMA public TO PUBLIC").await;
    let cases = [
        // Goes on as the owner, among its own functions.
        "SET ROLE shop_owner; UPDATE sales.orders SET total = total + 1",
        "SET search_path = public; CREATE FUNCTION public.txid_current() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'; \
         SET search_path = public, pg_catalog",
        "SAVEPOINT here; UPDATE sales.orders SET total = 0; ROLLBACK TO here",
        "SET default_transaction_read_only = on; SET statement_timeout = 0",
    ];
    for (position, sql) in cases.iter().enumerate() {
        let result = run(&server, &format!("{position}.sql"), sql).await;
        assert!(matches!(result, Ok(Some(_))), "{sql}: {result:?}");
    }
    assert_eq!(totals(&server).await, "2,3,4");
}

/// A policy that hides rows from the master would leave them unmasked.
#[tokio::test]
async fn rows_hidden_by_a_policy_are_an_error() {
    let server = ready().await;
    server
        .run("shop", "ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY few ON sales.orders USING (id = 1)")
        .await;
    let error = run(&server, "1.sql", "UPDATE sales.orders SET total = 0").await.unwrap_err().to_string();
    assert!(error.contains("42501"), "{error}");
}

#[tokio::test]
async fn marks_of_somebody_else_are_refused() {
    let server = ready().await;
    server
        .run("shop", "CREATE SCHEMA aurora_restore_masking; GRANT ALL ON SCHEMA aurora_restore_masking TO PUBLIC")
        .await;
    let error = run(&server, "1.sql", "UPDATE sales.orders SET total = 0").await.unwrap_err().to_string();
    assert!(error.contains("schema aurora_restore_masking belongs to somebody else"), "{error}");
    assert_eq!(totals(&server).await, "1,2,3");
}

#[tokio::test]
async fn users_are_out_until_they_are_set_up() {
    let server = ready().await;
    let (desired, passwords) =
        declare(&[("application_user", "app_user", "a"), ("readonly_user", "nobody_yet", "b")], &[]);
    let user = passwords.credentials(&name("app_user")).unwrap();
    let login = || async { try_login(&server.endpoint(), "shop", &user, &server.trust()).await };
    login().await.unwrap();
    // A session that outlives the lock: its function was killed before it could end it.
    let mut session = server.session("app_user", "a", "shop").await.unwrap();
    // And one of the master from before its password was reset.
    let mut masters = server.session(MASTER, crate::support::MASTER_PASSWORD, "shop").await.unwrap();
    let end = [RoleChange::EndSessions { role: name(MASTER) }];
    apply(&server.server(), &end, &passwords).await.unwrap();
    assert!(crate::support::execute(&mut masters, "SELECT 1").await.is_err(), "all but the one that ends them");
    server.run("shop", "ALTER ROLE app_user NOLOGIN").await;
    let observed = observe(&server.server(), &desired, &passwords).await.unwrap();
    let changes = closing(&desired, &observed);
    assert_eq!(describe(&changes), ["end the sessions of app_user"]);
    server.run("shop", "ALTER ROLE app_user LOGIN").await;
    let observed = observe(&server.server(), &desired, &passwords).await.unwrap();
    let changes = closing(&desired, &observed);
    assert_eq!(describe(&changes), ["end the sessions of app_user", "make app_user NOLOGIN"]);
    apply(&server.server(), &changes, &passwords).await.unwrap();
    login().await.unwrap_err();
    assert!(crate::support::execute(&mut session, "SELECT 1").await.is_err(), "its session has ended");
    let observed = observe(&server.server(), &desired, &passwords).await.unwrap();
    assert_eq!(describe(&closing(&desired, &observed)), [""; 0], "closed");
    assert!(observed.role(&name(MASTER)).is_some_and(|master| master.attributes.login));
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    login().await.unwrap();
}
