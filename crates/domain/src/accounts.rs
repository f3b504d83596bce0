//! Who may log in to a restored MySQL server and what they may do there, as desired state: `roles` for the other engine.
//!
//! MySQL's model is another one: a login is an account, `user@host`, and each host is a login of its own; nobody owns
//! objects; a right on a database covers what is made in it later; names of databases in grants are patterns; statements
//! about accounts commit at once, so that a run that was cut short is mended by the next one and not taken back.
//!
//! What is declared ([`Desired`](crate::roles::Desired)) is the same for both. A declared user stands for every account of
//! its user name: where production had `app@10.%`, the server would take that one for clients from there, whatever
//! `app@%` may do. So each of them gets the declared password and the profile's rights, and `user@%` is made if missing.

mod account;
mod change;
mod desired;
mod diff;
mod observed;
mod places;
mod profile;
mod right;

pub use account::Account;
pub use change::{AccountAttribute, AccountChange, describe};
pub use desired::check;
pub use diff::{closing, diff, inherited_logins, kept_logins, locked_logins, notes};
pub use observed::{Flavor, Membership, Observed, ObservedAccount};
pub use places::missing_places;
pub use profile::{SYSTEM_DATABASES, reads, wanted, writes};
pub use right::{Names, Privilege, Right, RoutineKind, Scope};
