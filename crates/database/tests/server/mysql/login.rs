//! Who gets in, who does not, and whom we believe.

use super::support::{MASTER, MySqlServer};
use crate::support::{credentials, other_trust};
use aurora_restore_database::{DatabaseError, Endpoint, ErrorClass, Server};

fn as_user(server: &Server, user: &str, password: &str) -> Server {
    Server { master: credentials(user, password), ..server.clone() }
}

#[tokio::test]
async fn a_login_over_verified_tls_and_none_without() {
    let server = MySqlServer::start(&[]).await;
    let login = server.server().try_master().await.unwrap();
    assert!(login.tls);
    assert_eq!(login.current_user, "admin@%");
    assert!(login.server_version.contains("MariaDB"), "{login:?}");

    // Each refusal has its own error.
    server
        .run(&[
            "CREATE USER locked@'%' IDENTIFIED BY 'right' ACCOUNT LOCK",
            "CREATE USER elsewhere@'10.9.8.7' IDENTIFIED BY 'right'",
            "CREATE USER old@'%' IDENTIFIED BY 'right' PASSWORD EXPIRE",
            "CREATE USER certified@'%' IDENTIFIED BY 'right' REQUIRE X509",
            "CREATE USER single@'%' IDENTIFIED BY 'right' WITH MAX_USER_CONNECTIONS 1",
        ])
        .await;
    let _only = server.session(("single", "right")).await.unwrap();
    let cases = [
        (MASTER.0, "wrong", "28000, MySQL error 1045", ErrorClass::LoginRefused),
        ("nobody", "wrong", "28000, MySQL error 1045", ErrorClass::LoginRefused),
        ("locked", "right", "HY000, MySQL error 4151", ErrorClass::LoginRefused),
        ("elsewhere", "right", "28000, MySQL error 1045", ErrorClass::LoginRefused),
        ("old", "right", "HY000, MySQL error 1820", ErrorClass::LoginRefused),
        ("certified", "right", "28000, MySQL error 1045", ErrorClass::LoginRefused),
        ("single", "right", "42000, MySQL error 1226", ErrorClass::Unreachable),
    ];
    for (user, password, sqlstate, class) in cases {
        let error = as_user(&server.server(), user, password).try_master().await.unwrap_err();
        let seen = if let DatabaseError::Unreachable { source, .. } = &error {
            let refused = source.as_database_error().unwrap().downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
            format!("{}, MySQL error {}", refused.code().unwrap(), refused.number())
        } else {
            error.sqlstate().unwrap().to_owned()
        };
        assert_eq!((seen.as_str(), error.class()), (sqlstate, class), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(password));
    }
    let error = as_user(&server.server(), "locked", "right").try_master().await.unwrap_err();
    assert!(error.to_string().ends_with("refused the login of locked (SQLSTATE HY000, MySQL error 4151)"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_prove_itself_gets_no_password() {
    let server = MySqlServer::start(&[]).await;
    let by_address = Endpoint { host: "127.0.0.1".into(), ..server.endpoint() };
    for (endpoint, trust) in [(server.endpoint(), other_trust()), (by_address, server.trust())] {
        let error = Server { endpoint, trust, ..server.server() }.try_master().await.unwrap_err();
        assert!(matches!(error, DatabaseError::TlsRefused { .. }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Invalid);
    }
    // A server without TLS: nothing is tried on it.
    let plain = MySqlServer::start(&["--require-secure-transport=OFF", "--skip-ssl"]).await;
    let error = plain.server().try_master().await.unwrap_err();
    assert!(matches!(error, DatabaseError::TlsRefused { .. }), "{error:?}");
    let tried = plain
        .texts_without_tls(
            "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'ACCESS_DENIED_ERRORS'",
        )
        .await;
    assert_eq!(tried, ["0"]);
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let server = MySqlServer::start(&[]).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for host in ["localhost", "no-such-host.invalid"] {
        let endpoint = Endpoint { host: host.into(), port: closed };
        let error = Server { endpoint, ..server.server() }.try_master().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unreachable, "{error:?}");
    }
}
