//! What a server was seen to hold, as far as [`diff`](super::diff()) needs it.

use super::{Account, Names, Privilege, Right};
use crate::roles::RoleName;
use std::collections::{BTreeMap, BTreeSet};

/// Whose MySQL it is: the two tell and take some things in different words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL 8 and what is made of it, as Aurora MySQL 3 is.
    MySql8,
    /// MariaDB 10.4 and later: for tests, Amazon Aurora has none.
    MariaDb,
}

/// One server, seen by its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Whose it is.
    pub flavor: Flavor,
    /// Its version, for instance `8.0.39`.
    pub version: String,
    /// How it reads names of databases in grants.
    pub names: Names,
    /// Who looked.
    pub master: Account,
    /// Every account, roles among them.
    pub accounts: BTreeMap<Account, ObservedAccount>,
    /// Every role that an account was granted.
    pub memberships: BTreeSet<Membership>,
    /// Roles that everybody has without being granted them, as the server's setting has them.
    pub mandatory_roles: Option<String>,
    /// Every database but the server's own.
    pub databases: BTreeSet<String>,
    /// Those of the server's own databases that are there.
    pub system_databases: BTreeSet<String>,
    /// Tables and views of the names that the declaration has, each after its database.
    pub named_tables: BTreeSet<(String, String)>,
    /// What the accounts of declared users hold.
    pub rights: BTreeMap<Account, BTreeSet<Right>>,
    /// What the master may hand on, on the whole server.
    pub grantable: BTreeSet<Privilege>,
    /// What could not be looked at and why, and what everybody may.
    pub notes: Vec<String>,
}

/// One account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedAccount {
    /// Whether it is a role that cannot log in at all. MySQL 8 does not tell these from locked accounts.
    pub is_role: bool,
    /// Whether it cannot log in.
    pub is_locked: bool,
    /// Whether this tool locked it, where the server can keep such a mark.
    pub is_marked: bool,
    /// Whether its password has expired or will.
    pub expires: bool,
    /// Whether it must show a certificate of its own, which no declared user has.
    pub needs_certificate: bool,
    /// Whether it must use TLS.
    pub needs_tls: bool,
    /// Whether it logs in with IAM tokens, and so with no password.
    pub takes_tokens: bool,
    /// Whether a second, former password works too.
    pub has_former_password: bool,
    /// Whether somebody is connected under its user name. The server does not tell by which of the name's accounts.
    pub has_sessions: bool,
    /// Rights on the whole server.
    pub server_rights: BTreeSet<Privilege>,
    /// For accounts of declared users with a password: whether the declared password is what the server keeps.
    pub password_is_declared: Option<bool>,
}

/// `member` was granted `role`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// The role.
    pub role: Account,
    /// Who has it.
    pub member: Account,
}

impl Observed {
    /// The accounts of a declared user: every one of its name, and the one from everywhere, also while that is missing.
    pub fn accounts_of(&self, role: &RoleName) -> BTreeSet<Account> {
        let named = self.accounts.iter().filter(|(account, seen)| account.user == role.as_str() && !seen.is_role);
        named.map(|(account, _)| account.clone()).chain([Account::everywhere(role.as_str())]).collect()
    }
}
