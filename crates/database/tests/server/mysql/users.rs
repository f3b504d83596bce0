//! A restored production, made as declared, and proved by trying.

use super::support::{LAGER, MASTER, MySqlServer, declare, execute};
use crate::support::name;
use aurora_restore_database::{Passwords, SetupReport, look, make, setup_users};
use aurora_restore_domain::roles::{Desired, InheritedLogins};

fn declared() -> (Desired, Passwords) {
    declare(
        &[
            ("application_user", "app_user", "declared app"),
            ("readonly_user", "O'Brien `the\\ reader\"; --", "declared 'reader\""),
            ("devops_user", "devops", "declared devops"),
        ],
        &["partner"],
    )
}

async fn set_up(server: &MySqlServer) -> SetupReport {
    let (desired, passwords) = declared();
    setup_users(&server.server(), &desired, &passwords).await.unwrap()
}

#[tokio::test]
async fn production_becomes_as_declared() {
    let server = MySqlServer::start(&[]).await;
    let report = set_up(&server).await;
    assert_eq!(report.databases, [LAGER, "my_shop"]);
    assert_eq!(report.locked, ["prod_admin@%", "prod_report@127.0.0.1", "prod_report@localhost"]);
    assert_eq!(report.left, ["partner@%"]);
    assert_eq!(report.notes, [""; 0]);
    for change in [
        "lock the inherited login prod_report@localhost",
        "revoke the role rds_superuser_role from prod_admin@%",
        "create the user app_user@%",
        "set the password of app_user@localhost",
        "create the user O'Brien `the\\ reader\"; --@%",
        "grant SELECT, SHOW VIEW on database Lager\\_1 `Süd' 5\\% to O'Brien `the\\ reader\"; --@%",
        // DELETE HISTORY is among them, which the master does not hold.
        "revoke all rights from app_user@localhost",
        "grant BINLOG MONITOR, CONNECTION ADMIN, PROCESS on the whole server to devops@%",
    ] {
        assert!(report.changes.iter().any(|made| made == change), "{change} is not among {:#?}", report.changes);
    }
    // A role without power over the server is no reason to touch a locked login.
    assert!(!report.changes.iter().any(|change| change.contains("role reading")), "{:#?}", report.changes);
    let told: Vec<_> =
        report.declared.iter().map(|user| (user.key.as_str(), user.created, user.password_set)).collect();
    assert_eq!(told, [("application_user", true, true), ("devops_user", true, true), ("readonly_user", true, true)]);

    // Production's logins are closed, AWS's and those to be kept are not.
    for (user, password) in
        [("app_user", "production app"), ("prod_admin", "production admin"), ("prod_report", "production report")]
    {
        assert!(server.session((user, password)).await.is_err(), "{user}");
    }
    for user in [
        MASTER,
        ("partner", "partner"),
        ("rdsrepladmin", "aws"),
        ("app_user", "declared app"),
        ("devops", "declared devops"),
    ] {
        assert!(server.session(user).await.is_ok(), "{user:?}");
    }

    // The second run has nothing to do.
    let again = set_up(&server).await;
    assert_eq!(again.changes, [""; 0]);
    assert_eq!((again.locked, again.left, again.notes), (report.locked, report.left, report.notes));
    assert!(again.declared.iter().all(|user| !user.created && !user.password_set));
}

#[tokio::test]
async fn sessions_of_locked_logins_end() {
    let server = MySqlServer::start(&[]).await;
    let mut admin = server.session(("prod_admin", "production admin")).await.unwrap();
    let mut partner = server.session(("partner", "partner")).await.unwrap();
    let report = set_up(&server).await;
    assert!(report.changes.contains(&"end the sessions of prod_admin".to_owned()), "{:#?}", report.changes);
    assert!(execute(&mut admin, "SELECT 1").await.is_err());
    assert_eq!(execute(&mut partner, "SELECT 1").await, Ok(()));
}

#[tokio::test]
async fn half_of_the_work_is_finished_by_the_next_run_and_nothing_twice() {
    let server = MySqlServer::start(&[]).await;
    let (desired, passwords) = declared();
    let master = server.server();
    let first = look(&master, &desired, &passwords).await.unwrap().changes(&desired);
    let count = first.describe().len();
    // Every cut is safe: a declared login is let in last, and by then it has its password and its rights.
    let aurora_restore_database::Changes::MySql(all) = first else { panic!("another engine") };
    let half = aurora_restore_database::Changes::MySql(all[..count / 2].to_vec());
    make(&master, &half, &passwords).await.unwrap();
    let rest = look(&master, &desired, &passwords).await.unwrap().changes(&desired);
    assert_eq!(rest.describe().len(), count - count / 2, "{:#?}", rest.describe());
    make(&master, &rest, &passwords).await.unwrap();
    make(&master, &rest, &passwords).await.unwrap();
    assert!(look(&master, &desired, &passwords).await.unwrap().changes(&desired).is_empty());
}

#[tokio::test]
async fn what_was_undone_by_hand_is_mended() {
    let server = MySqlServer::start(&[]).await;
    set_up(&server).await;
    server
        .run(&[
            "ALTER USER app_user@'%' IDENTIFIED BY 'other' PASSWORD EXPIRE",
            "ALTER USER app_user@'%' ACCOUNT LOCK",
            "ALTER USER app_user@localhost REQUIRE X509",
            "ALTER USER prod_report@localhost ACCOUNT UNLOCK",
            "ALTER USER devops@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('declared devops') OR mysql_native_password USING PASSWORD('other')",
            "REVOKE INSERT ON `my\\_shop`.* FROM app_user@'%'",
        ])
        .await;
    let report = set_up(&server).await;
    assert_eq!(
        report.changes,
        [
            "lock the inherited login prod_report@localhost",
            "set the password of app_user@%",
            "set the password of devops@%",
            "grant INSERT on database my\\_shop to app_user@%",
            "make app_user@% PASSWORD EXPIRE NEVER, ACCOUNT UNLOCK",
            "make app_user@localhost REQUIRE SSL",
        ]
    );
}

#[tokio::test]
async fn report_and_keep_lock_nobody() {
    let server = MySqlServer::start(&[]).await;
    for inherited in [InheritedLogins::Report, InheritedLogins::Keep] {
        let desired = Desired::new(&name(MASTER.0), vec![], inherited, [name("prod_report@localhost")].into()).unwrap();
        let report = setup_users(&server.server(), &desired, &Passwords::default()).await.unwrap();
        assert_eq!(report.changes, [""; 0]);
        assert!(report.left.contains(&"prod_admin@%".to_owned()), "{:?}", report.left);
        assert_eq!(report.notes.len(), if inherited == InheritedLogins::Report { 4 } else { 0 }, "{:?}", report.notes);
    }
    // One account of a user is kept, the other is locked.
    let desired =
        Desired::new(&name(MASTER.0), vec![], InheritedLogins::Lock, [name("prod_report@localhost")].into()).unwrap();
    let report = setup_users(&server.server(), &desired, &Passwords::default()).await.unwrap();
    assert_eq!(report.left, ["prod_report@localhost"]);
    assert!(report.locked.contains(&"prod_report@127.0.0.1".to_owned()), "{:?}", report.locked);
    assert!(server.session(("prod_report", "production report")).await.is_ok());
}

#[tokio::test]
async fn an_account_that_the_master_may_not_touch_is_named() {
    let server = MySqlServer::start(&[]).await;
    server.run(&["REVOKE CREATE USER, UPDATE ON *.* FROM admin@'%'"]).await;
    let (desired, passwords) = declared();
    let error = setup_users(&server.server(), &desired, &passwords).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database server refused to lock the inherited login prod_admin@% (SQLSTATE 42000, MySQL error 1227)"
    );
}

#[tokio::test]
async fn what_is_for_postgresql_is_refused_by_name() {
    let server = MySqlServer::start(&[]).await;
    let (desired, passwords) = declared();
    let error = aurora_restore_database::observe(&server.server(), &desired, &passwords).await.unwrap_err();
    assert!(error.to_string().ends_with("is a MySQL, and this is done on PostgreSQL only"), "{error}");
}

#[tokio::test]
async fn two_runs_wait_for_each_other() {
    let server = MySqlServer::start(&[]).await;
    let mut other = server.superuser().await;
    execute(&mut other, "SELECT get_lock('aurora-restore', 0)").await.unwrap();
    let (desired, passwords) = declared();
    let error = setup_users(&server.server(), &desired, &passwords).await.unwrap_err();
    assert_eq!(error.to_string(), "the database server is busy: another run is changing the accounts");
    assert_eq!(error.class(), aurora_restore_database::ErrorClass::Unreachable);
}

#[tokio::test]
async fn the_work_does_not_grow_with_the_tables() {
    let server = MySqlServer::start(&["--general-log", "--general-log-file=general.log"]).await;
    let statements =
        |server: &MySqlServer| server.file("general.log").lines().filter(|line| line.contains(" Query\t")).count();
    set_up(&server).await;
    let before = statements(&server);
    set_up(&server).await;
    let few = statements(&server) - before;
    assert!((10..40).contains(&few), "{few}");
    for table in 0..100 {
        server.run(&[&format!("CREATE TABLE my_shop.t{table} (x int)")]).await;
    }
    server.run(&["CREATE USER `more`@'%' ACCOUNT LOCK", "GRANT SELECT ON my_shop.orders TO `more`@'%'"]).await;
    let before = statements(&server);
    set_up(&server).await;
    assert_eq!(statements(&server) - before, few);
}
