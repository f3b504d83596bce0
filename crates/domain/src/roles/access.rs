//! What a declared user may do besides its profile's rights everywhere: explicit rights, and where it all ends.

use super::{ObjectKind, Privilege, Profile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How a declared user proves who it is. RDS takes one of the two from a user, never both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// With the password of the application secret.
    #[default]
    Password,
    /// With a token that IAM signs (IAM database authentication). It has no password.
    Iam,
}

/// What a request says of one declared user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// What it is for.
    pub profile: Profile,
    /// How it logs in.
    #[serde(default)]
    pub login: Authentication,
    /// Its rights, with [`Profile::Custom`]; with every other profile none.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// Where it has them.
    #[serde(default)]
    pub limits: Limits,
}

/// Rights on objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// On what.
    pub on: ObjectKind,
    /// In which schemas; ignored for databases. PostgreSQL only.
    #[serde(default)]
    pub schemas: Scope,
    /// In which of the user's databases. MySQL only.
    #[serde(default)]
    pub databases: Scope,
    /// On which tables and views. MySQL only.
    #[serde(default)]
    pub tables: Scope,
    /// Which rights.
    pub privileges: BTreeSet<Privilege>,
}

/// Where a declared user has rights. Elsewhere it has nothing of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Limits {
    /// In which databases.
    #[serde(default)]
    pub databases: Scope,
    /// In which schemas of them.
    #[serde(default)]
    pub schemas: Scope,
}

impl Limits {
    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        self.databases.is_all() && self.schemas.is_all()
    }
}

/// Names of databases, schemas or tables, or all but the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope(Option<BTreeSet<String>>);

impl Scope {
    /// All but the system's.
    pub const ALL: Self = Self(None);

    /// Those of these names.
    pub fn only(names: impl IntoIterator<Item = String>) -> Self {
        Self(Some(names.into_iter().collect()))
    }

    /// The names; `None` is all.
    pub fn names(&self) -> Option<&BTreeSet<String>> {
        self.0.as_ref()
    }

    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `name` is one of them.
    pub fn covers(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(name))
    }

    /// What either covers.
    pub fn or(self, other: &Self) -> Self {
        match (self.0, &other.0) {
            (Some(names), Some(others)) => Self::only(names.into_iter().chain(others.iter().cloned())),
            (None, _) | (_, None) => Self::ALL,
        }
    }

    /// This, or where it names nothing, `limit`.
    pub fn or_limit(&self, limit: &Self) -> Self {
        if self.is_all() { limit.clone() } else { self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(names: &[&str]) -> Scope {
        Scope::only(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn scopes_cover_what_they_name() {
        assert!(Scope::ALL.covers("a") && only(&["a"]).covers("a") && !only(&["a"]).covers("b"));
        assert_eq!(only(&["a"]).or(&only(&["b"])), only(&["b", "a"]));
        assert_eq!((only(&["a"]).or(&Scope::ALL), Scope::ALL.or(&only(&["a"]))), (Scope::ALL, Scope::ALL));
        assert_eq!(
            (Scope::ALL.or_limit(&only(&["a"])), only(&["b"]).or_limit(&Scope::ALL)),
            (only(&["a"]), only(&["b"]))
        );
    }
}
