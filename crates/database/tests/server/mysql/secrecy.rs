//! No password and no hash is written down, by the server or by us.

use super::support::{MASTER, MySqlServer, declare};
use aurora_restore_database::{Changes, make, setup_users};
use aurora_restore_domain::accounts::{Account, AccountChange};

#[tokio::test]
async fn the_server_writes_no_secret_down() {
    let server = MySqlServer::start(&[
        "--general-log",
        "--general-log-file=general.log",
        "--slow-query-log",
        "--slow-query-log-file=slow.log",
        "--long-query-time=0",
        "--performance-schema=ON",
        "--performance-schema-consumer-events-statements-history-long=ON",
    ])
    .await;
    // Neither MySQL 8 nor MariaDB hides a hash in the general log: the master must be allowed to keep out of it.
    server.run(&["GRANT SUPER ON *.* TO admin@'%'"]).await;
    let secrets = ["first secret", "second 'secret", "third \"secret\\"];
    let users = [
        ("application_user", "app_user", secrets[0]),
        ("readonly_user", "reader", secrets[1]),
        ("devops_user", "devops", secrets[2]),
    ];
    let (desired, passwords) = declare(&users, &[]);
    let report = setup_users(&server.server(), &desired, &passwords).await.unwrap();
    assert!(report.changes.contains(&"set the password of app_user@localhost".to_owned()), "{:?}", report.changes);
    // A user that is not there: the server refuses, in words that are withheld.
    let ghost = AccountChange::SetPassword { account: Account::everywhere("ghost") };
    let (_, password) = declare(&[("devops_user", "ghost", "ghost's secret")], &[]);
    let error = make(&server.server(), &Changes::MySql(vec![ghost]), &password).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("HY000, MySQL error 1396"), "{error:?}");

    let hashes = server
        .texts("SELECT authentication_string FROM mysql.user WHERE User IN ('app_user', 'reader', 'devops')")
        .await;
    assert!(hashes.len() == 4 && hashes.iter().all(|hash| hash.starts_with('*')), "{hashes:?}");
    let log = server.file("general.log");
    assert!(log.contains("mysql.columns_priv"), "the log must show statements: {log}");
    for (place, text) in [
        ("general log", log),
        ("slow log", server.file("slow.log")),
        ("error log", server.log()),
        ("report", format!("{report:?}")),
        ("error", format!("{error} {error:?}")),
        ("types", format!("{passwords:?} {:?}", server.server())),
    ] {
        let hashes = hashes.iter().map(String::as_str);
        for secret in secrets.into_iter().chain(["ghost's secret", MASTER.1]).chain(hashes) {
            assert!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
    for (_, user, password) in users {
        assert!(server.session((user, password)).await.is_ok(), "{user}");
    }
}

#[tokio::test]
async fn where_the_master_may_not_be_silent_it_is_told_and_only_hashes_show() {
    let server = MySqlServer::start(&["--general-log", "--general-log-file=general.log"]).await;
    let (desired, passwords) = declare(&[("application_user", "app_user", "first secret")], &[]);
    let report = setup_users(&server.server(), &desired, &passwords).await.unwrap();
    let told = "the general log is on and the master may not keep out of it: it shows hashes of passwords that are set";
    assert_eq!(report.notes, [told]);
    let log = server.file("general.log");
    assert!(log.contains("IDENTIFIED VIA") && !log.contains("first secret"), "{log}");
}

#[tokio::test]
async fn passwords_of_every_script_log_in() {
    let server = MySqlServer::start(&[]).await;
    for password in ["plain", "with space", "ümläut", "日本語 🔑", &"long ".repeat(50), "'\"\\%$`"] {
        let (desired, passwords) = declare(&[("application_user", "app_user", password)], &[]);
        let report = setup_users(&server.server(), &desired, &passwords).await.unwrap();
        assert!(report.declared[0].password_set);
        assert!(server.session(("app_user", password)).await.is_ok(), "{password}");
        let again = setup_users(&server.server(), &desired, &passwords).await.unwrap();
        assert_eq!(again.changes, [""; 0]);
    }
}
