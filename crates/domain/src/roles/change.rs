//! One change of the server, small enough to be described in one line and repeated without harm.

use super::{ObjectKind, Privilege, RoleName};
use std::collections::BTreeSet;
use std::fmt;

/// What rights are granted on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantTarget {
    /// The database itself.
    Database,
    /// A schema itself.
    Schema(String),
    /// All tables and views of a schema.
    Tables(String),
    /// All sequences of a schema.
    Sequences(String),
    /// All routines of a schema.
    Routines(String),
}

impl GrantTarget {
    /// The target for objects of `kind` in `schema`, which is ignored for a database.
    pub fn new(kind: ObjectKind, schema: String) -> Self {
        match kind {
            ObjectKind::Database => Self::Database,
            ObjectKind::Schema => Self::Schema(schema),
            ObjectKind::Table => Self::Tables(schema),
            ObjectKind::Sequence => Self::Sequences(schema),
            ObjectKind::Routine => Self::Routines(schema),
        }
    }
}

impl GrantTarget {
    /// The kind of the objects.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Database => ObjectKind::Database,
            Self::Schema(_) => ObjectKind::Schema,
            Self::Tables(_) => ObjectKind::Table,
            Self::Sequences(_) => ObjectKind::Sequence,
            Self::Routines(_) => ObjectKind::Routine,
        }
    }

    /// The schema that they are in, or that it is; `None` for a database.
    pub fn schema(&self) -> Option<&str> {
        match self {
            Self::Database => None,
            Self::Schema(schema) | Self::Tables(schema) | Self::Sequences(schema) | Self::Routines(schema) => {
                Some(schema)
            }
        }
    }
}

/// How much of a right that somebody holds is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The right itself.
    Right,
    /// The right on single columns.
    Columns,
    /// Not the right, but that it may be handed on.
    GrantOption,
}

impl Extent {
    /// Every extent.
    pub const ALL: [Self; 3] = [Self::Right, Self::Columns, Self::GrantOption];

    /// The extent as queries name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Columns => "columns",
            Self::GrantOption => "grant option",
        }
    }

    /// Reads what [`Extent::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extent| extent.as_str() == text)
    }

    /// What is held, in words: `UPDATE on …`, `UPDATE on single columns of …`, `the grant option of UPDATE on …`.
    pub(super) fn of(self, rights: &str, target: impl fmt::Display) -> String {
        match self {
            Self::Right => format!("{rights} on {target}"),
            Self::Columns => format!("{rights} on single columns of {target}"),
            Self::GrantOption => format!("the grant option of {rights} on {target}"),
        }
    }
}

/// A change of one attribute of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Attribute {
    Login,
    NoLogin,
    Inherit,
    NoSuperuser,
    NoCreateRole,
    NoCreateDatabase,
    NoReplication,
    NoBypassRowSecurity,
    /// Lifts a limit of 0 sessions.
    NoConnectionLimit,
    /// Lifts the date after which the password does not work.
    NoExpiry,
}

impl Attribute {
    /// The option of `ALTER ROLE`.
    pub fn as_sql(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::NoLogin => "NOLOGIN",
            Self::Inherit => "INHERIT",
            Self::NoSuperuser => "NOSUPERUSER",
            Self::NoCreateRole => "NOCREATEROLE",
            Self::NoCreateDatabase => "NOCREATEDB",
            Self::NoReplication => "NOREPLICATION",
            Self::NoBypassRowSecurity => "NOBYPASSRLS",
            Self::NoConnectionLimit => "CONNECTION LIMIT -1",
            Self::NoExpiry => "VALID UNTIL 'infinity'",
        }
    }
}

/// One change. The order of the variants is the order of the work: first everybody else's logins are closed, then the
/// declared roles are made and narrowed, then given or relieved of their passwords, and last their rights: what is too much goes
/// before what is missing comes, since a right that goes takes along what was handed on by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleChange {
    /// An inherited login can no longer log in.
    LockLogin {
        /// The login.
        role: RoleName,
        /// Its comment afterwards: what it was and [`LOCKED`](super::LOCKED).
        comment: String,
    },
    /// A membership ends.
    RevokeMembership {
        /// The role whose rights are lost.
        role: RoleName,
        /// Who loses them.
        member: RoleName,
        /// Who granted it, where the server needs to be told.
        grantor: Option<RoleName>,
    },
    /// Sessions of a locked login end.
    EndSessions {
        /// The login.
        role: RoleName,
    },
    /// A declared role is made, without a password.
    CreateRole {
        /// The role.
        role: RoleName,
    },
    /// A declared role that exists is given the attributes of an ordinary login.
    SetAttributes {
        /// The role.
        role: RoleName,
        /// What changes.
        attributes: BTreeSet<Attribute>,
    },
    /// A declared role gets the declared password, which is kept elsewhere.
    SetPassword {
        /// The role.
        role: RoleName,
    },
    /// A declared role loses its password and can have none that works: it logs in with tokens.
    RemovePassword {
        /// The role.
        role: RoleName,
    },
    /// A membership begins.
    GrantMembership {
        /// The role whose rights are had.
        role: RoleName,
        /// Who gets them.
        member: RoleName,
    },
    /// The master becomes a member of a role for no longer than the transaction in which it changes this database: from a
    /// member of a role that logs in with tokens RDS takes no password.
    ActFor {
        /// The database.
        database: String,
        /// The role.
        role: RoleName,
    },
    /// Rights on what exists end.
    Revoke {
        /// The database.
        database: String,
        /// On what.
        target: GrantTarget,
        /// Who loses them; `None` is everybody (`PUBLIC`).
        role: Option<RoleName>,
        /// How much of them.
        extent: Extent,
        /// Which rights.
        privileges: BTreeSet<Privilege>,
    },
    /// A declared user no longer gets rights on what `owner` makes later.
    RevokeDefault {
        /// The database.
        database: String,
        /// Who makes the objects.
        owner: RoleName,
        /// In which schema; `None` is any.
        schema: Option<String>,
        /// On objects of which kind.
        kind: ObjectKind,
        /// From whom.
        role: RoleName,
        /// How much of them.
        extent: Extent,
        /// Which rights.
        privileges: BTreeSet<Privilege>,
    },
    /// A declared user gets rights on what exists.
    Grant {
        /// The database.
        database: String,
        /// On what.
        target: GrantTarget,
        /// To whom.
        role: RoleName,
        /// Which rights.
        privileges: BTreeSet<Privilege>,
    },
    /// A declared user gets rights on what `owner` makes later.
    GrantDefault {
        /// The database.
        database: String,
        /// Who makes the objects.
        owner: RoleName,
        /// In which schema; `None` is any.
        schema: Option<String>,
        /// On objects of which kind.
        kind: ObjectKind,
        /// To whom.
        role: RoleName,
        /// Which rights.
        privileges: BTreeSet<Privilege>,
    },
}

impl RoleChange {
    /// The database that the change is made in; `None` for changes of the whole server.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::ActFor { database, .. }
            | Self::Revoke { database, .. }
            | Self::RevokeDefault { database, .. }
            | Self::Grant { database, .. }
            | Self::GrantDefault { database, .. } => Some(database),
            Self::LockLogin { .. }
            | Self::RevokeMembership { .. }
            | Self::EndSessions { .. }
            | Self::CreateRole { .. }
            | Self::SetAttributes { .. }
            | Self::SetPassword { .. }
            | Self::RemovePassword { .. }
            | Self::GrantMembership { .. } => None,
        }
    }
}

fn rights(privileges: &BTreeSet<Privilege>) -> String {
    list(privileges.iter().map(|privilege| privilege.as_str()))
}

/// `each table that owner makes later in schema public`
fn later(owner: &RoleName, schema: Option<&str>, kind: ObjectKind) -> String {
    let within = schema.map(|schema| format!(" in schema {schema}")).unwrap_or_default();
    format!("each {} that {owner} makes later{within}", kind.as_str())
}

/// Rights as a list: `SELECT, INSERT`.
fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for GrantTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database => f.write_str("the database"),
            Self::Schema(schema) => write!(f, "schema {schema}"),
            Self::Tables(schema) => write!(f, "all tables in schema {schema}"),
            Self::Sequences(schema) => write!(f, "all sequences in schema {schema}"),
            Self::Routines(schema) => write!(f, "all routines in schema {schema}"),
        }
    }
}

impl fmt::Display for RoleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockLogin { role, .. } => write!(f, "lock the inherited login {role}"),
            Self::RevokeMembership { role, member, .. } => write!(f, "remove {member} from {role}"),
            Self::EndSessions { role } => write!(f, "end the sessions of {role}"),
            Self::CreateRole { role } => write!(f, "create the role {role}"),
            Self::SetAttributes { role, attributes } => {
                write!(f, "make {role} {}", list(attributes.iter().map(|attribute| attribute.as_sql())))
            }
            Self::SetPassword { role } => write!(f, "set the password of {role}"),
            Self::RemovePassword { role } => write!(f, "remove the password of {role}"),
            Self::ActFor { database, role } => write!(f, "act for {role} in one transaction (database {database})"),
            Self::GrantMembership { role, member } => write!(f, "make {member} a member of {role}"),
            Self::Revoke { database, target, role, extent, privileges } => {
                let held = extent.of(&rights(privileges), target);
                let role = role.as_ref().map_or("everybody", RoleName::as_str);
                write!(f, "revoke {held} from {role} (database {database})")
            }
            Self::RevokeDefault { database, owner, schema, kind, role, extent, privileges } => {
                let target = later(owner, schema.as_deref(), *kind);
                write!(f, "revoke {} from {role} (database {database})", extent.of(&rights(privileges), target))
            }
            Self::Grant { database, target, role, privileges } => {
                let rights = rights(privileges);
                write!(f, "grant {rights} on {target} to {role} (database {database})")
            }
            Self::GrantDefault { database, owner, schema, kind, role, privileges } => {
                let (rights, target) = (rights(privileges), later(owner, schema.as_deref(), *kind));
                write!(f, "grant {rights} on {target} to {role} (database {database})")
            }
        }
    }
}

/// The changes in words, one line each, no password among them: for the state, the audit trail and people.
pub fn describe(changes: &[RoleChange]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}
