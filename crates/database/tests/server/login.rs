//! Who gets in, who does not, and whom we believe.

use crate::front::SSL_REQUEST;
use crate::support::{MASTER, MASTER_PASSWORD, SUPERUSER, SUPERUSER_PASSWORD, TestServer, credentials, other_trust};
use aurora_restore_database::{DatabaseError, Endpoint, ErrorClass, Login, Trust, try_login};
use std::io::{Read, Write};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_login_over_verified_tls() {
    let server = TestServer::shared().await;
    let rdsadmin = credentials(SUPERUSER, SUPERUSER_PASSWORD);
    let login = try_login(&server.endpoint(), "postgres", &rdsadmin, &server.trust()).await.unwrap();
    assert_eq!(login.tls, server.knows_tls());
    assert_eq!(login.current_user, SUPERUSER);
    assert!(login.server_version.split('.').next().unwrap().parse::<u32>().unwrap() >= 13, "{login:?}");
}

/// Else the server would note a connection that broke.
#[tokio::test]
async fn a_login_ends_with_a_goodbye() {
    let server = TestServer::start(&["log_min_messages=debug1", "log_disconnections=on"]).await;
    login_as_master(&server.endpoint(), &server.trust()).await.unwrap();
    let disconnection = lines_of_log(&server, "disconnection: session time", 1).await;
    assert!(disconnection[0].contains("user=master"), "{disconnection:?}");
    assert!(!server.log().contains("unexpected EOF on client connection"), "{}", server.log());
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
    if server.knows_tls() {
        let told = lines_of_log(server, "could not accept SSL connection:", 2).await;
        assert!(told.iter().all(|why| why.contains("alert")), "it is told why: {told:?}");
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

/// The lines of its log with such words, once there are so many.
async fn lines_of_log(server: &TestServer, words: &str, count: usize) -> Vec<String> {
    for _ in 0..50 {
        let lines: Vec<_> = server.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect();
        if lines.len() >= count {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not {count} times {words:?}: {}", server.log())
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (host, why) in
        [("localhost", "Connection refused"), ("no-such-host.invalid", "failed to lookup address information")]
    {
        let endpoint = Endpoint { host: host.into(), port: closed };
        let error = login_as_master(&endpoint, &other_trust()).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unreachable);
        assert_eq!(error.to_string(), format!("the database server at {host}:{closed} cannot be reached"));
        let why = format!("error communicating with database: {why}");
        assert!(cause(&error).starts_with(&why), "{error:?}");
    }
}

async fn login_as_master(endpoint: &Endpoint, trust: &Trust) -> Result<Login, DatabaseError> {
    try_login(endpoint, "postgres", &credentials(MASTER, MASTER_PASSWORD), trust).await
}

fn cause(error: &DatabaseError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

/// Why a login fails that a server meets so, which `takes` some bytes of it and closes; worth another try.
async fn met_by(takes: impl AsyncFnOnce(TcpStream) -> usize) -> String {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { host: "localhost".into(), port: server.local_addr().unwrap().port() };
    let trust = other_trust();
    let taken = async { takes(server.accept().await.unwrap().0).await };
    let (login, _) = tokio::join!(login_as_master(&endpoint, &trust), taken);
    let error = login.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unreachable, "{error:?}");
    cause(&error)
}

/// sqlx itself sees its local socket end, and would take that for an answer.
#[tokio::test]
async fn a_connection_that_is_reset_is_worth_another_try() {
    // What was not read makes the end a reset.
    let why = met_by(async |client| client.peek(&mut [0]).await.unwrap()).await;
    assert!(why.starts_with("error communicating with database: Connection reset by peer"), "{why}");
}

/// As a server that restarts closes it.
#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_worth_another_try() {
    let why = met_by(async |mut client| client.read_exact(&mut [0; 8]).await.unwrap()).await;
    assert!(why.ends_with("the server closed the connection without an answer"), "{why}");
}

#[tokio::test]
async fn nothing_is_left_of_a_login_that_is_given_up() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { host: "localhost".into(), port: silent.local_addr().unwrap().port() };
    let trust = other_trust();
    let login = tokio::time::timeout(Duration::from_millis(200), login_as_master(&endpoint, &trust));
    let (login, accepted) = tokio::join!(login, silent.accept());
    assert!(login.is_err(), "it waits for an answer");
    let mut sent = Vec::new();
    accepted.unwrap().0.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent, SSL_REQUEST, "and has said nothing else");
    assert_eq!(tasks(), before);
}

#[tokio::test]
async fn a_path_is_no_host() {
    let endpoint = Endpoint { host: "/tmp".into(), port: 5432 };
    let error =
        try_login(&endpoint, "postgres", &credentials(MASTER, MASTER_PASSWORD), &other_trust()).await.unwrap_err();
    assert_eq!(error.to_string(), "\"/tmp\" is not the name of a database server");
}
