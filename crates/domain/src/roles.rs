//! Who may log in to the restored database and what they may do there, as desired state.
//!
//! `aurora-restore-database` observes a server, [`diff`] says what is missing and what is too much, and each
//! [`RoleChange`] is carried out. A second observation after that yields no change. Nothing here does I/O, and no value
//! here holds a password.

mod change;
mod desired;
mod diff;
mod name;
mod observed;
mod profile;

pub use change::{Attribute, Extent, GrantTarget, RoleChange, describe};
pub use desired::{DeclaredUser, Desired, InheritedLogins, RolesError};
pub use diff::{closing, diff, inherited_logins, locked_logins, notes};
pub use name::{NameError, RoleName};
pub use observed::{
    Attributes, LOCKED, Membership, MissingDefault, MissingRight, Observed, ObservedDatabase, ObservedRole,
    ServerVersion, SurplusDefault, SurplusRight,
};
pub use profile::{ObjectKind, Privilege, Profile};
