//! What the operator wants: the declared users and what becomes of everybody else's logins.

use super::{
    Access, Authentication, Grant, GrantTarget, Limits, NameError, ObjectKind, Privilege, Profile, RoleName, Scope,
};
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
    /// How it logs in.
    #[serde(default)]
    pub login: Authentication,
    /// Its rights, if its profile is [`Profile::Custom`].
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// Where it may do it.
    #[serde(default)]
    pub limits: Limits,
}

impl DeclaredUser {
    /// A user as the application secret declares it: the key decides the profile.
    pub fn from_secret(key: &str, username: &str) -> Result<Self, RolesError> {
        let (profile, login) = (Profile::for_key(key)?, Authentication::Password);
        let access = Access { profile, login, grants: vec![], limits: Limits::default() };
        Self::new(key, username, access)
    }

    /// A user that may do what a request says.
    pub fn new(key: &str, username: &str, access: Access) -> Result<Self, RolesError> {
        let role = RoleName::try_from(username).map_err(|source| RolesError::Name { key: key.to_owned(), source })?;
        let Access { profile, login, grants, limits } = access;
        Ok(Self { key: key.to_owned(), role, profile, login, grants, limits })
    }

    /// The rights on objects of `kind`, now and later, each with the schemas that it is for; in no database but those
    /// of [`DeclaredUser::is_let_into`].
    ///
    /// To what a custom user names, two are added, without which the others could not be used: `CONNECT`, and `USAGE`
    /// on the schemas that it has some right in.
    pub fn rights(&self, kind: ObjectKind) -> BTreeMap<Privilege, Scope> {
        let schemas = &self.limits.schemas;
        let limit = |scope: &Scope| if kind == ObjectKind::Database { Scope::ALL } else { scope.or_limit(schemas) };
        let mut all: Vec<(Privilege, Scope)> =
            self.profile.rights(kind).iter().map(|privilege| (*privilege, limit(&Scope::ALL))).collect();
        if kind == ObjectKind::Database {
            all.push((Privilege::Connect, Scope::ALL));
        }
        for grant in &self.grants {
            if grant.on == kind {
                all.extend(grant.privileges.iter().map(|privilege| (*privilege, limit(&grant.schemas))));
            }
            if kind == ObjectKind::Schema && grant.on != ObjectKind::Database {
                all.push((Privilege::Usage, limit(&grant.schemas)));
            }
        }
        let mut rights: BTreeMap<Privilege, Scope> = BTreeMap::new();
        for (privilege, scope) in all {
            let scope = rights.get(&privilege).map_or(scope.clone(), |known| scope.or(known));
            rights.insert(privilege, scope);
        }
        rights
    }

    /// Whether it has rights in `database`.
    pub fn is_let_into(&self, database: &str) -> bool {
        self.limits.databases.covers(database)
    }

    /// Whether it is to have a right on `target` in `database`.
    pub fn may(&self, privilege: Privilege, target: &GrantTarget, database: &str) -> bool {
        let rights = self.rights(target.kind());
        let covers = |scope: &Scope| target.schema().is_none_or(|schema| scope.covers(schema));
        self.is_let_into(database) && rights.get(&privilege).is_some_and(covers)
    }

    /// Where it may read tables; `None` is nowhere.
    pub fn reads(&self) -> Option<Scope> {
        self.rights(ObjectKind::Table).remove(&Privilege::Select)
    }

    /// Whether some right of its own lets it change something.
    pub fn writes(&self) -> bool {
        ObjectKind::ALL.iter().any(|kind| self.rights(*kind).keys().any(|privilege| privilege.writes(*kind)))
    }

    /// Whether it makes objects of its own, which the other users must reach too.
    pub fn makes_objects(&self) -> bool {
        let may_create = |kind| self.rights(kind).contains_key(&Privilege::Create);
        may_create(ObjectKind::Schema) || may_create(ObjectKind::Database)
    }

    /// Whether it has less than its profile gives everywhere, or what it has is its own: what everybody may is more.
    pub fn is_narrow(&self) -> bool {
        self.profile == Profile::Custom || !self.limits.is_none()
    }

    /// Whether it logs in with tokens, and with no password.
    pub fn takes_tokens(&self) -> bool {
        self.login == Authentication::Iam
    }

    /// Every schema that was named for it.
    pub fn named_schemas(&self) -> BTreeSet<&String> {
        let scopes = self.grants.iter().map(|grant| &grant.schemas).chain([&self.limits.schemas]);
        scopes.filter_map(Scope::names).flatten().collect()
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
    #[error(
        "key {key} of the application secret is not known; known are application_user, readonly_user, devops_user and \
         those that the request names under users"
    )]
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
    closed: BTreeSet<String>,
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
        match Self::problems(master, &declared).into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(Self { declared, inherited, keep_logins, closed: BTreeSet::new() }),
        }
    }

    /// The same, where these logins were locked before masking, as declared ones.
    pub fn after_closing(self, closed: BTreeSet<String>) -> Self {
        Self { closed, ..self }
    }

    /// Everything that speaks against a declaration.
    pub fn problems(master: &RoleName, declared: &[DeclaredUser]) -> Vec<RolesError> {
        let mut problems = vec![];
        let mut keys: BTreeMap<&RoleName, &str> = BTreeMap::new();
        for DeclaredUser { key, role, .. } in declared {
            let (key, role) = (key.clone(), role.clone());
            if role == *master {
                problems.push(RolesError::IsMaster { key, role });
            } else if role.is_servers_own() || ["public", "none"].contains(&role.as_str()) {
                problems.push(RolesError::Reserved { key, role });
            } else if role.as_str().contains(|c: char| c == ',' || c.is_control()) {
                problems.push(RolesError::CannotLogIn { key, role });
            }
        }
        for user in declared {
            if let Some(first) = keys.insert(&user.role, &user.key) {
                let (second, role) = (user.key.clone(), user.role.clone());
                problems.push(RolesError::SameRole { first: first.to_owned(), second, role });
            }
        }
        problems
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

    /// Whether a login of this name was locked before masking because it was declared then.
    pub fn was_closed(&self, name: &str) -> bool {
        self.closed.contains(name)
    }

    /// Whether `role` is declared.
    pub fn declares(&self, role: &RoleName) -> bool {
        self.declared.iter().any(|user| user.role == *role)
    }

    /// Whether a declared user is there to read and must not write by any path.
    pub fn has_readers(&self) -> bool {
        self.declared.iter().any(|user| !user.writes())
    }

    /// Whether a declared user must not have what everybody may, anywhere: one that reads only, or that is limited.
    pub fn has_narrow(&self) -> bool {
        self.declared.iter().any(|user| user.is_narrow() || !user.writes())
    }

    /// The declared users who log in with tokens.
    pub fn token_users(&self) -> impl Iterator<Item = &DeclaredUser> {
        self.declared.iter().filter(|user| user.takes_tokens())
    }

    /// The declared users who make objects of their own.
    pub fn object_makers(&self) -> impl Iterator<Item = &RoleName> {
        self.declared.iter().filter(|user| user.makes_objects()).map(|user| &user.role)
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
                "key root_user of the application secret is not known; known are application_user, readonly_user, devops_user and those that the request names under users",
            ),
        ];
        for (users, message) in cases {
            assert_eq!(check(&users), Err(message.to_owned()));
        }
    }
}
