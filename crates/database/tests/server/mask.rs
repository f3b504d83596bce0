//! Masking scripts on a real server.

use crate::support::{TestServer, declare};
use aurora_restore_database::{MaskScript, apply, forget_masked, lock_out, mask, observe, setup_users, try_login};
use aurora_restore_domain::roles::diff;
use std::collections::BTreeSet;

fn script(name: &str, sql: &str) -> MaskScript {
    let sha256 = format!("{:064x}", sql.len());
    MaskScript { name: name.into(), database: "shop".into(), sha256, sql: sql.into() }
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
    let double = script("1.sql", "UPDATE sales.orders SET total = total * 2; SELECT 1; -- the end");
    assert_eq!(mask(&server.server(), &double).await.unwrap(), Some(2));
    assert_eq!(mask(&server.server(), &double).await.unwrap(), None, "it carries a mark");
    assert_eq!(totals(&server).await, "2,4,6");
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
        ("UPDATE sales.orders SET total = 0; ROLLBACK; SELECT 2", "statement 3", "ends its transaction itself"),
        ("UPDATE sales.rds_internal SET x = 0", "statement 1", "42501"),
    ];
    for (sql, statement, why) in cases {
        let error = mask(&server.server(), &script("app/2.sql", sql)).await.unwrap_err().to_string();
        for word in ["script app/2.sql", statement, why] {
            assert!(error.contains(word), "{word} in {error}");
        }
        assert!(!error.contains("secret data"), "{error}");
        assert_eq!(totals(&server).await, "1,2,3", "{sql}");
    }
    // Mended, it runs.
    assert_eq!(
        mask(&server.server(), &script("app/2.sql", "UPDATE sales.orders SET total = 9")).await.unwrap(),
        Some(1)
    );
    assert_eq!(totals(&server).await, "9,9,9");
}

#[tokio::test]
async fn users_are_out_until_they_are_set_up() {
    let server = ready().await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "a")], &[]);
    let user = passwords.credentials(&desired.declared()[0].role).unwrap();
    let login = || async { try_login(&server.endpoint(), "shop", &user, &server.trust()).await };
    login().await.unwrap();
    let roles = [user.role.clone(), crate::support::name("nobody_yet")];
    lock_out(&server.server(), &roles).await.unwrap();
    login().await.unwrap_err();
    setup_users(&server.server(), &desired, &passwords).await.unwrap();
    login().await.unwrap();
}
