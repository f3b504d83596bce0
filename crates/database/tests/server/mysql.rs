//! MySQL's side, against MariaDB: MySQL 8 itself cannot be had from the registries that the tests install from. What is
//! MySQL 8's alone is in `eight`, against a script that answers as the manual says, and in the unit tests of
//! `mysql::flavor`, `mysql::statement` and `mysql::hash`.

mod eight;
mod limits;
mod login;
mod mask;
mod matrix;
mod quoting;
mod secrecy;
mod support;
mod tokens;
mod users;
mod verify;
