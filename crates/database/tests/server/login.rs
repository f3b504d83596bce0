//! Who gets in, who does not, and whom we believe.

use crate::support::{MASTER, MASTER_PASSWORD, SUPERUSER, SUPERUSER_PASSWORD, TestServer, credentials, other_trust};
use aurora_restore_database::{DatabaseError, Endpoint, ErrorClass, try_login};
use std::io::{Read, Write};

#[tokio::test]
async fn a_login_over_verified_tls() {
    let server = TestServer::shared().await;
    let rdsadmin = credentials(SUPERUSER, SUPERUSER_PASSWORD);
    let login = try_login(&server.endpoint(), "postgres", &rdsadmin, &server.trust()).await.unwrap();
    assert_eq!(login.tls, server.knows_tls());
    assert_eq!(login.current_user, SUPERUSER);
    assert!(login.server_version.split('.').next().unwrap().parse::<u32>().unwrap() >= 13, "{login:?}");
}

#[tokio::test]
async fn each_refusal_has_its_own_error() {
    let server = TestServer::shared().await;
    server
        .run(
            "postgres",
            "CREATE ROLE locked NOLOGIN PASSWORD 'right'; CREATE ROLE single LOGIN PASSWORD 'right' CONNECTION LIMIT 0",
        )
        .await;
    server.run("postgres", "CREATE DATABASE closed").await;
    server
        .run("postgres", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC; CREATE ROLE outsider LOGIN PASSWORD 'right'")
        .await;
    let (endpoint, trust) = (server.endpoint(), server.trust());
    let cases = [
        (SUPERUSER, "wrong", "postgres", "28P01", ErrorClass::LoginRefused),
        ("nobody", "wrong", "postgres", "28P01", ErrorClass::LoginRefused),
        ("locked", "right", "postgres", "28000", ErrorClass::LoginRefused),
        ("single", "right", "postgres", "53300", ErrorClass::Unreachable),
        ("outsider", "right", "closed", "42501", ErrorClass::Rejected),
        (SUPERUSER, SUPERUSER_PASSWORD, "missing", "3D000", ErrorClass::Rejected),
    ];
    for (role, password, database, sqlstate, class) in cases {
        let error = try_login(&endpoint, database, &credentials(role, password), &trust).await.unwrap_err();
        assert_eq!((error.sqlstate(), error.class()), (Some(sqlstate), class), "{error:?}");
        assert!(!format!("{error} {error:?}").contains(password));
    }
    let error = try_login(&endpoint, "postgres", &credentials(SUPERUSER, "wrong"), &trust).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::LoginRefused { role, .. } if role.as_str() == SUPERUSER));
    assert!(error.to_string().ends_with("refused the login of rdsadmin (SQLSTATE 28P01)"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_prove_itself_gets_no_password() {
    let server = TestServer::shared().await;
    let rdsadmin = credentials(SUPERUSER, SUPERUSER_PASSWORD);
    let by_address = Endpoint { host: "127.0.0.1".into(), ..server.endpoint() };
    for (endpoint, trust) in [(server.endpoint(), other_trust()), (by_address, server.trust())] {
        let error = try_login(&endpoint, "postgres", &rdsadmin, &trust).await.unwrap_err();
        assert!(matches!(error, DatabaseError::TlsRefused { .. }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Invalid);
    }
    // A server without TLS answers the request for it with one letter.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint { port: plain.local_addr().unwrap().port(), ..server.endpoint() };
    let answer = std::thread::spawn(move || {
        let (mut client, _) = plain.accept().unwrap();
        client.read_exact(&mut [0; 8]).unwrap();
        client.write_all(b"N").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap()
    });
    let error = try_login(&endpoint, "postgres", &rdsadmin, &server.trust()).await.unwrap_err();
    assert!(matches!(error, DatabaseError::TlsRefused { .. }), "{error:?}");
    assert_eq!(answer.join().unwrap(), 0, "nothing is sent to a server without TLS");
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for host in ["localhost", "no-such-host.invalid"] {
        let endpoint = Endpoint { host: host.into(), port: closed };
        let error =
            try_login(&endpoint, "postgres", &credentials(MASTER, MASTER_PASSWORD), &other_trust()).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Unreachable { .. }), "{error:?}");
        assert_eq!(error.class(), ErrorClass::Unreachable);
    }
}

#[tokio::test]
async fn a_path_is_no_host() {
    let endpoint = Endpoint { host: "/tmp".into(), port: 5432 };
    let error =
        try_login(&endpoint, "postgres", &credentials(MASTER, MASTER_PASSWORD), &other_trust()).await.unwrap_err();
    assert_eq!(error.to_string(), "\"/tmp\" is not the name of a database server");
}
