//! Names of roles, as PostgreSQL keeps them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text cannot be the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No text at all.
    #[error("is empty; a role's name takes 1 to 63 bytes")]
    Empty,
    /// PostgreSQL would cut it off without a word.
    #[error("is {bytes} bytes long; a role's name takes 1 to 63 bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// PostgreSQL's texts end at a NUL.
    #[error("holds a NUL character, which no name may")]
    Nul,
}

/// RDS's role whose members, over any number of memberships, log in with IAM tokens and no longer with passwords.
pub const IAM_ROLE: &str = "rds_iam";

/// The name of a role: 1 to 63 bytes, no NUL. Everything else is legal and is quoted where it meets SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleName(String);

impl RoleName {
    /// The name as text, not quoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a role of the server or of RDS and not one of people: `pg_…`, `rds…`.
    ///
    /// RDS keeps both prefixes for itself. Such roles are never locked, changed or written for; see
    /// [`RoleName::is_known_to_rds`] for those that AWS documents.
    pub fn is_servers_own(&self) -> bool {
        self.0.starts_with("pg_") || self.0.starts_with("rds")
    }

    /// Whether AWS documents this role. A login that [`RoleName::is_servers_own`] only by its prefix deserves a note.
    pub fn is_known_to_rds(&self) -> bool {
        const LOGINS: [&str; 6] =
            ["rdsadmin", "rdsrepladmin", "rdsproxyadmin", "rdstopmgr", "rdswriteforwarduser", "rdsaurora"];
        self.0.starts_with("pg_") || self.0.starts_with("rds_") || LOGINS.contains(&self.0.as_str())
    }
}

impl TryFrom<String> for RoleName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        match text.len() {
            0 => Err(NameError::Empty),
            _ if text.contains('\0') => Err(NameError::Nul),
            bytes if bytes > 63 => Err(NameError::TooLong { bytes }),
            _ => Ok(Self(text)),
        }
    }
}

impl TryFrom<&str> for RoleName {
    type Error = NameError;
    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<RoleName> for String {
    fn from(name: RoleName) -> String {
        name.0
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_postgresql_keeps_whole() {
        for good in ["a", "app_user", "O'Brien \"the\\ DBA\"; --", "ünïcödé", &"x".repeat(63)] {
            assert_eq!(RoleName::try_from(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        assert_eq!(RoleName::try_from(""), Err(NameError::Empty));
        assert_eq!(RoleName::try_from("a\0b"), Err(NameError::Nul));
        assert_eq!(RoleName::try_from("ü".repeat(32)), Err(NameError::TooLong { bytes: 64 }));
    }

    #[test]
    fn knows_the_servers_own_roles() {
        let is = |name: &str| RoleName::try_from(name).map(|name| (name.is_servers_own(), name.is_known_to_rds()));
        assert_eq!(is("rdsadmin"), Ok((true, true)));
        assert_eq!(is("rds_superuser"), Ok((true, true)));
        assert_eq!(is("pg_monitor"), Ok((true, true)));
        assert_eq!(is("rdsreports"), Ok((true, false)));
        assert_eq!(is("reports"), Ok((false, false)));
        assert_eq!(is("pgbouncer"), Ok((false, false)));
    }
}
