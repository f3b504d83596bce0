//! Logs in so many times as the functions do, and in turn as sqlx connects by itself, and prints what a login takes in
//! milliseconds, as a line of JSON: for `make bench-db`.
//!
//! `MASTER_PASSWORD=… logins postgres|mysql HOST PORT CA_FILE MASTER TIMES`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the benchmark")]

use aurora_restore_database::{Credentials, Endpoint, Server, Trust};
use aurora_restore_domain::engine::Engine;
use aurora_restore_domain::roles::RoleName;
use secrecy::SecretString;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

const USAGE: &str = "usage: MASTER_PASSWORD=... logins postgres|mysql HOST PORT CA_FILE MASTER TIMES";

// One thread, as in a Lambda function.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, host, port, ca_file, master, times] = arguments.as_slice() else { return Err(USAGE.into()) };
    let password = std::env::var("MASTER_PASSWORD").map_err(|_| USAGE)?;
    let server = Server {
        engine: if engine == "mysql" { Engine::MySql } else { Engine::PostgreSql },
        endpoint: Endpoint { host: host.clone(), port: port.parse()? },
        database: "postgres".to_owned(),
        master: Credentials::by_password(RoleName::try_from(master.as_str())?, SecretString::from(password.as_str())),
        trust: Trust::from_file(Path::new(ca_file))?,
    };
    let (mut ours, mut sqlxs) = (Vec::new(), Vec::new());
    for _ in 0..times.parse()? {
        let began = Instant::now();
        server.try_master().await?;
        ours.push(began.elapsed());
        let began = Instant::now();
        by_itself(&server, &password, ca_file).await?;
        sqlxs.push(began.elapsed());
    }
    let median = |times: &mut Vec<std::time::Duration>| {
        times.sort();
        times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    println!("{{\"ours_ms\": {:.1}, \"sqlx_ms\": {:.1}}}", median(&mut ours), median(&mut sqlxs));
    Ok(())
}

/// The same login and as many questions, without what this crate does besides.
async fn by_itself(server: &Server, password: &str, ca_file: &str) -> Result<(), sqlx::Error> {
    let Endpoint { host, port } = &server.endpoint;
    let user = server.master.role.as_str();
    match server.engine {
        Engine::PostgreSql => {
            let options =
                PgConnectOptions::new_without_pgpass().host(host).port(*port).username(user).password(password);
            let options = options.database(&server.database).ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(ca_file);
            let mut connection = options.connect().await?;
            sqlx::query("SELECT current_user").fetch_one(&mut connection).await?;
            connection.close().await
        }
        Engine::MySql => {
            let options = MySqlConnectOptions::new().host(host).port(*port).username(user).password(password);
            let mut connection = options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(ca_file).connect().await?;
            for _ in 0..4 {
                sqlx::raw_sql("SELECT current_user()").fetch_one(&mut connection).await?;
            }
            connection.close().await
        }
    }
}
