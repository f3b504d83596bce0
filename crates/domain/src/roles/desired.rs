//! What the operator wants: the declared users and what becomes of everybody else's logins.

use super::{NameError, Profile, RoleName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A user that must be able to log in after the restore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeclaredUser {
    /// Its key in the application secret, for instance `readonly_user`.
    pub key: String,
    /// The role.
    pub role: RoleName,
    /// What it may do.
    pub profile: Profile,
}

impl DeclaredUser {
    /// A user as the application secret declares it: the key decides the profile.
    pub fn from_secret(key: &str, username: &str) -> Result<Self, RolesError> {
        let profile = Profile::for_key(key)?;
        let role = RoleName::try_from(username).map_err(|source| RolesError::Name { key: key.to_owned(), source })?;
        Ok(Self { key: key.to_owned(), role, profile })
    }
}

/// What becomes of logins that came with the snapshot and that nobody declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InheritedLogins {
    /// They can no longer log in, their sessions end, their memberships in powerful roles are removed.
    #[default]
    Lock,
    /// They stay as they are and are named in the report.
    Report,
    /// They stay as they are.
    Keep,
}

/// Why a declaration of users makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolesError {
    /// A key of the application secret that stands for no profile.
    #[error("key {key} of the application secret is not known; known are application_user, readonly_user, devops_user")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A user name that no role can have.
    #[error("the username of {key} {source}")]
    Name {
        /// The user's key.
        key: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Two users, one role: one of the two passwords would not work.
    #[error("{first} and {second} both declare the role {role}; each user needs its own")]
    SameRole {
        /// One key.
        first: String,
        /// The other key.
        second: String,
        /// The role that both name.
        role: RoleName,
    },
    /// The master's role and rights are the server's, not ours to narrow.
    #[error("{key} declares the role {role}, which is the master user; declare another role")]
    IsMaster {
        /// The user's key.
        key: String,
        /// The master.
        role: RoleName,
    },
    /// A name that PostgreSQL or RDS keeps for itself.
    #[error("{key} declares the role {role}, a name that the server keeps for itself (pg_…, rds…, public, none)")]
    Reserved {
        /// The user's key.
        key: String,
        /// The role.
        role: RoleName,
    },
    /// A legal role that cannot log in with a password: SCRAM separates its fields by commas and refuses control
    /// characters, and our client does not escape them.
    #[error("{key} declares the role {:?}, whose name has a comma or a control character and could not log in", .role.as_str())]
    CannotLogIn {
        /// The user's key.
        key: String,
        /// The role.
        role: RoleName,
    },
}

/// The wanted state of one server, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    declared: Vec<DeclaredUser>,
    inherited: InheritedLogins,
    keep_logins: BTreeSet<RoleName>,
}

impl Desired {
    /// Checks a declaration against itself and against the master's name.
    pub fn new(
        master: &RoleName,
        mut declared: Vec<DeclaredUser>,
        inherited: InheritedLogins,
        keep_logins: BTreeSet<RoleName>,
    ) -> Result<Self, RolesError> {
        declared.sort();
        let mut keys: BTreeMap<&RoleName, &str> = BTreeMap::new();
        for DeclaredUser { key, role, .. } in &declared {
            let (key, role) = (key.clone(), role.clone());
            if role == *master {
                return Err(RolesError::IsMaster { key, role });
            }
            if role.is_servers_own() || ["public", "none"].contains(&role.as_str()) {
                return Err(RolesError::Reserved { key, role });
            }
            if role.as_str().contains(|c: char| c == ',' || c.is_control()) {
                return Err(RolesError::CannotLogIn { key, role });
            }
        }
        for user in &declared {
            if let Some(first) = keys.insert(&user.role, &user.key) {
                let (second, role) = (user.key.clone(), user.role.clone());
                return Err(RolesError::SameRole { first: first.to_owned(), second, role });
            }
        }
        Ok(Self { declared, inherited, keep_logins })
    }

    /// The declared users, ordered by key.
    pub fn declared(&self) -> &[DeclaredUser] {
        &self.declared
    }

    /// What becomes of inherited logins.
    pub fn inherited(&self) -> InheritedLogins {
        self.inherited
    }

    /// Inherited logins that stay as they are.
    pub fn keep_logins(&self) -> &BTreeSet<RoleName> {
        &self.keep_logins
    }

    /// Whether `role` is declared.
    pub fn declares(&self, role: &RoleName) -> bool {
        self.declared.iter().any(|user| user.role == *role)
    }

    /// Whether a declared user is there to read and must not write by any path.
    pub fn has_readers(&self) -> bool {
        self.declared.iter().any(|user| user.profile == Profile::ReadOnly)
    }

    /// The declared users who make objects of their own.
    pub fn object_makers(&self) -> impl Iterator<Item = &RoleName> {
        self.declared.iter().filter(|user| user.profile.makes_objects()).map(|user| &user.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(users: &[(&str, &str)]) -> Result<(), String> {
        let master = RoleName::try_from("master").map_err(|error| error.to_string())?;
        let users = users.iter().map(|(key, name)| DeclaredUser::from_secret(key, name)).collect::<Result<_, _>>();
        let made = users.and_then(|users| Desired::new(&master, users, InheritedLogins::Lock, BTreeSet::new()));
        made.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_declaration_that_makes_sense() {
        assert_eq!(
            check(&[("readonly_user", "report"), ("application_user", "shop; DROP"), ("devops_user", "op")]),
            Ok(())
        );
    }

    #[test]
    fn what_is_refused_and_in_which_words() {
        let cases = [
            (
                vec![("readonly_user", "app"), ("application_user", "app")],
                "application_user and readonly_user both declare the role app; each user needs its own",
            ),
            (
                vec![("devops_user", "master")],
                "devops_user declares the role master, which is the master user; declare another role",
            ),
            (
                vec![("devops_user", "rds_superuser")],
                "devops_user declares the role rds_superuser, a name that the server keeps for itself (pg_…, rds…, public, none)",
            ),
            (
                vec![("devops_user", "a,b")],
                "devops_user declares the role \"a,b\", whose name has a comma or a control character and could not log in",
            ),
            (vec![("devops_user", "")], "the username of devops_user is empty; a role's name takes 1 to 63 bytes"),
            (
                vec![("root_user", "x")],
                "key root_user of the application secret is not known; known are application_user, readonly_user, devops_user",
            ),
        ];
        for (users, message) in cases {
            assert_eq!(check(&users), Err(message.to_owned()));
        }
    }
}
