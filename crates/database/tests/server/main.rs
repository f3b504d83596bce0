//! Against a real PostgreSQL, which each test starts for itself: see `support`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod front;
mod login;
mod mask;
mod matrix;
mod production;
mod quoting;
mod roles;
mod secrecy;
mod support;
mod surplus;
mod verify;
