//! What a server was seen to hold, as far as [`diff`](super::diff) needs it.

use super::{Extent, GrantTarget, IAM_ROLE, ObjectKind, Privilege, RoleName};
use std::collections::{BTreeMap, BTreeSet};

/// The mark in a locked login's comment: a second run, or a person, sees by whom it was locked.
pub const LOCKED: &str = "locked by aurora-restore";

/// PostgreSQL's `server_version_num`, for instance 150018.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// The major version, for instance 15.
    pub fn major(self) -> u32 {
        self.0 / 10_000
    }
}

/// One server, seen by its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The server's version.
    pub version: ServerVersion,
    /// Who looked.
    pub master: RoleName,
    /// Every role.
    pub roles: BTreeMap<RoleName, ObservedRole>,
    /// Every membership.
    pub memberships: BTreeSet<Membership>,
    /// Every database but the server's own.
    pub databases: Vec<ObservedDatabase>,
    /// What could not be looked at and why.
    pub notes: Vec<String>,
}

/// What a role may do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Attributes {
    pub login: bool,
    pub superuser: bool,
    pub create_role: bool,
    pub create_database: bool,
    pub replication: bool,
    pub bypass_row_security: bool,
    pub inherit: bool,
    /// Sessions at a time; -1 is no limit.
    pub connection_limit: i32,
    /// Whether the password has a date after which it does not work.
    pub expires: bool,
    /// Whether that date is the epoch, or before it: no password works, whoever sets one. Whether there is a password, only a
    /// superuser can see.
    pub never_by_password: bool,
}

impl Attributes {
    /// Whether one of these opens more than rights on objects.
    pub fn is_powerful(self) -> bool {
        self.superuser || self.create_role || self.create_database || self.replication || self.bypass_row_security
    }
}

/// One role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRole {
    /// What it may do by itself.
    pub attributes: Attributes,
    /// Its comment.
    pub comment: Option<String>,
    /// Whether somebody is connected as this role.
    pub has_sessions: bool,
    /// Whether the master has this role's rights.
    pub master_acts_as: bool,
    /// Whether the master may make others members of this role.
    pub master_may_grant: bool,
    /// Whether it owns something or was granted something, in any database or on the server.
    pub holds_something: bool,
    /// For declared users: whether the declared password logs in. `None` for everybody else.
    pub login_works: Option<bool>,
}

/// `member` is a member of `role`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// The role whose rights are had.
    pub role: RoleName,
    /// Who has them.
    pub member: RoleName,
    /// By whom, where the server tells them apart (PostgreSQL 16 and later); a revoke must name it.
    pub grantor: Option<RoleName>,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedDatabase {
    /// Its name.
    pub name: String,
    /// Whether the master may connect. If not, only `owners` is filled, with the database's owner.
    pub reachable: bool,
    /// Who owns the database or anything in its schemas.
    pub owners: BTreeSet<RoleName>,
    /// Those of the schemas named in the declaration that it has.
    pub schemas: BTreeSet<String>,
    /// Rights of declared users that are missing.
    pub missing: Vec<MissingRight>,
    /// Rights of declared users that objects made later would lack.
    pub missing_defaults: Vec<MissingDefault>,
    /// Rights of declared users that are too much, and those of everybody that let a reader write.
    pub surplus: Vec<SurplusRight>,
    /// Rights of declared users that objects made later would give and that are too much.
    pub surplus_defaults: Vec<SurplusDefault>,
}

/// A right that a declared user lacks on at least one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingRight {
    /// Who lacks it.
    pub role: RoleName,
    /// On what.
    pub target: GrantTarget,
    /// Which.
    pub privilege: Privilege,
    /// Who owns the objects it is missing on.
    pub owner: RoleName,
}

/// A right that a declared user would lack on what `owner` makes later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingDefault {
    /// Who makes the objects.
    pub owner: RoleName,
    /// In which schema; `None` is any.
    pub schema: Option<String>,
    /// Who lacks the right.
    pub role: RoleName,
    /// On objects of which kind.
    pub kind: ObjectKind,
    /// Which.
    pub privilege: Privilege,
}

/// A right that somebody holds on at least one object of others and that is not in the profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SurplusRight {
    /// The declared user who holds it; `None` is everybody (`PUBLIC`).
    pub role: Option<RoleName>,
    /// On what.
    pub target: GrantTarget,
    /// Which.
    pub privilege: Privilege,
    /// How much of it.
    pub extent: Extent,
    /// By whom it was granted, who alone can take it back.
    pub grantor: RoleName,
}

/// A right that a declared user would get on what `owner` makes later and that is not in the profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SurplusDefault {
    /// Who makes the objects.
    pub owner: RoleName,
    /// In which schema; `None` is any.
    pub schema: Option<String>,
    /// Who gets the right.
    pub role: RoleName,
    /// On objects of which kind.
    pub kind: ObjectKind,
    /// Which.
    pub privilege: Privilege,
    /// How much of it.
    pub extent: Extent,
}

/// Whether `role` is, over any number of `memberships`, a member of [`IAM_ROLE`].
pub(super) fn takes_tokens(role: &RoleName, memberships: &BTreeSet<Membership>) -> bool {
    let (mut seen, mut next) = (BTreeSet::from([role]), vec![role]);
    while let Some(role) = next.pop() {
        if role.as_str() == IAM_ROLE {
            return true;
        }
        let held = memberships.iter().filter(|membership| membership.member == *role);
        next.extend(held.map(|membership| &membership.role).filter(|role| seen.insert(role)));
    }
    false
}

impl Observed {
    /// Whether the master can never act for `role`: the server's own roles and superusers.
    pub fn is_out_of_reach(&self, role: &RoleName) -> bool {
        role.is_servers_own() || (*role != self.master && self.role(role).is_some_and(|role| role.attributes.superuser))
    }

    /// Whether the master acts for `role` or can become able to.
    pub fn is_in_reach(&self, role: &RoleName) -> bool {
        !self.is_out_of_reach(role) || self.acts_as(role)
    }

    /// Whether the master has the rights of `role` by now.
    pub fn acts_as(&self, role: &RoleName) -> bool {
        *role == self.master || self.role(role).is_some_and(|role| role.master_acts_as)
    }

    /// Whether the master cannot connect to `database`, and no change of ours will let it.
    pub fn is_closed(&self, database: &ObservedDatabase) -> bool {
        let is_of_no_use = |owner| self.is_out_of_reach(owner) || self.acts_as(owner) || self.takes_tokens(owner);
        !database.reachable && database.owners.iter().all(is_of_no_use)
    }

    /// Whether RDS takes tokens from `role`, and from everybody who becomes a member of it, and no password.
    pub fn takes_tokens(&self, role: &RoleName) -> bool {
        takes_tokens(role, &self.memberships)
    }

    /// The role of that name.
    pub fn role(&self, name: &RoleName) -> Option<&ObservedRole> {
        self.roles.get(name)
    }

    /// The memberships that `member` holds itself.
    pub fn memberships_of<'a>(&'a self, member: &'a RoleName) -> impl Iterator<Item = &'a Membership> {
        self.memberships.iter().filter(move |membership| membership.member == *member)
    }

    /// Whether `role` owns something, as far as was seen.
    pub fn owns_something(&self, role: &RoleName) -> bool {
        self.databases.iter().any(|database| database.owners.contains(role))
    }
}
