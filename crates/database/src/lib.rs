//! The restored database itself: log in over verified TLS, see who may do what, make it as declared, check it.
//!
//! Observe ([`observe()`]), decide (`aurora_restore_domain::roles::diff`), act ([`apply()`]), observe again. Every function
//! here tries once: the state machine repeats. PostgreSQL 13 to 18 and MySQL 8; the master is not a superuser, as on RDS.
//! What is behind an endpoint is said by [`Server::engine`]; [`look()`] and [`make()`] are the same for both.
//!
//! A session's connection is one of our own, to which sqlx comes by `relay`: its own would leave Nagle's algorithm on.
//!
//! No password reaches the server in clear: `scram` makes the verifier that the server stores, and `password` hands
//! it over in a way that neither the server's log nor `pg_stat_statements` (at its default) shows.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod apply;
mod checks;
mod connect;
mod error;
mod mask;
mod mysql;
mod observe;
mod password;
pub mod quote;
mod relay;
mod scram;
mod server;
mod setup;
mod statement;
mod verify;

pub use apply::apply;
pub use checks::{Checks, FreshnessCheck, RowCountCheck, SchemaCheck, SqlCheck, Table};
pub use connect::{Credentials, Endpoint, Login, Trust, try_login};
pub use error::{DatabaseError, ErrorClass};
pub use mask::{MaskScript, forget_masked, mask, mask_within};
pub use mysql::quote as mysql_quote;
pub use observe::observe;
pub use scram::scram_verifier;
pub use server::{Passwords, Server};
pub use setup::{Changes, DeclaredReport, Seen, SetupReport, look, make, setup_users};
pub use verify::{CheckResult, Verdict, verify};
