//! Who may log in to the restored database and what they may do there, as desired state.
//!
//! `aurora-restore-database` observes a server, [`diff`] says what is missing and what is too much, and each
//! [`RoleChange`] is carried out. A second observation after that yields no change. Nothing here does I/O, and no value
//! here holds a password.

mod access;
mod change;
mod desired;
mod diff;
mod fit;
mod name;
mod observed;
mod places;
mod profile;

pub use access::{Access, Authentication, Grant, Limits, Scope};
pub use change::{Attribute, Extent, GrantTarget, RoleChange, describe};
pub use desired::{DeclaredUser, Desired, InheritedLogins, RolesError};
pub(crate) use diff::declared_no_more;
pub use diff::{closing, diff, inherited_logins, locked_logins, notes};
pub use fit::unfit;
pub use name::{IAM_ROLE, NameError, RoleName};
pub use observed::{
    Attributes, LOCKED, Membership, MissingDefault, MissingRight, Observed, ObservedDatabase, ObservedRole,
    ServerVersion, SurplusDefault, SurplusRight,
};
pub use places::missing_places;
pub use profile::{ObjectKind, Privilege, Profile};
