//! Against a real PostgreSQL and a real MariaDB, which each test starts for itself: see `support` and `mysql::support`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod front;
mod limits;
mod login;
mod mask;
mod matrix;
mod mysql;
mod production;
mod quoting;
mod roles;
mod secrecy;
mod support;
mod surplus;
mod tokens;
mod verify;
