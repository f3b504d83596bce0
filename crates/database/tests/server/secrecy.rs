//! No password and no verifier is written down, by the server or by us.

use crate::support::{MASTER_PASSWORD, TestServer, credentials, declare, name};
use aurora_restore_database::{ErrorClass, apply, setup_users, try_login};
use aurora_restore_domain::roles::RoleChange;

const SETTINGS: [&str; 6] = [
    "shared_preload_libraries=pg_stat_statements",
    "log_statement=all",
    "log_min_duration_statement=0",
    "log_min_error_statement=debug5",
    "log_error_verbosity=verbose",
    "log_parameter_max_length_on_error=-1",
];

#[tokio::test]
async fn the_server_writes_no_secret_down() {
    let server = TestServer::start(&SETTINGS).await;
    server.run("postgres", "CREATE EXTENSION pg_stat_statements").await;
    let secrets = ["first secret", "second 'secret", "third \"secret\\"];
    let users = [
        ("application_user", "app_user", secrets[0]),
        ("readonly_user", "reader", secrets[1]),
        ("devops_user", "devops", secrets[2]),
    ];
    let (desired, passwords) = declare(&users, &[]);
    let seeded = server.log().len();
    let report = setup_users(&server.server(), &desired, &passwords).await.unwrap();
    // A role that is gone by then: the server refuses, in words that are safe.
    let ghost = [(name("ghost"), secrecy::SecretString::from("ghost's secret"))].into_iter().collect();
    let error = apply(&server.server(), &[RoleChange::SetPassword { role: name("ghost") }], &ghost).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42704"), "{error:?}");

    let mut session = server.superuser("postgres").await;
    let statements: Vec<(String,)> =
        sqlx::query_as("SELECT query FROM pg_stat_statements").fetch_all(&mut session).await.unwrap();
    let statements: Vec<String> =
        statements.into_iter().map(|(query,)| query).filter(|query| !query.contains("production ")).collect();
    let log = server.log().split_off(seeded);
    assert!(log.contains("aurora_restore_passwords"), "the log must show that passwords were set");
    for (place, text) in [
        ("server log", log),
        ("pg_stat_statements", statements.join("\n")),
        ("report", format!("{report:?}")),
        ("error", format!("{error} {error:?}")),
        ("types", format!("{passwords:?} {:?}", server.server())),
    ] {
        for secret in secrets.iter().chain(&["SCRAM-SHA-256$", "ghost's secret", MASTER_PASSWORD]) {
            assert!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
    for (_, role, password) in users {
        let login = try_login(&server.endpoint(), "postgres", &credentials(role, password), &server.trust()).await;
        assert!(login.is_ok(), "{login:?}");
    }
}

/// Letters that SASLprep changes: the client prepares the password too, so ours must be prepared the same way.
#[tokio::test]
async fn passwords_of_every_script_log_in() {
    let server = TestServer::shared().await;
    for password in
        ["plain", "with space", "ümläut", "\u{2168} \u{aa}", "日本語", "a\u{a0}b", &"long ".repeat(200), "'\"\\%$"]
    {
        let (_, passwords) = declare(&[("application_user", "app_user", password)], &[]);
        apply(&server.server(), &[RoleChange::SetPassword { role: name("app_user") }], &passwords).await.unwrap();
        assert!(server.session("app_user", password, "shop").await.is_ok(), "{password}");
    }
    for password in ["bell\u{7}", "bell 🔑"] {
        let (desired, passwords) = declare(&[("application_user", "app_user", password)], &[]);
        let error = setup_users(&server.server(), &desired, &passwords).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid);
        assert!(!format!("{error:?}").contains("bell"), "{error:?}");
    }
}
