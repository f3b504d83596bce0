//! MySQL: the same work as for PostgreSQL, in another server's words.
//!
//! Aurora MySQL 3 is MySQL 8.0. What differs in MariaDB, which the tests run against, is in `Flavor` and told side by side;
//! MySQL 8's own branches are tested on what they write and read, not on a server.

mod apply;
mod checks;
mod flavor;
mod hash;
mod mask;
mod observe;
pub mod quote;
mod session;
mod statement;
mod verify;

pub(crate) use apply::apply;
pub(crate) use mask::{forget_masked, mask};
pub(crate) use observe::observe;
pub(crate) use session::try_login;
pub(crate) use verify::verify;
