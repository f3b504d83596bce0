//! Accounts, as MySQL keeps them.

use std::fmt;

/// A login or a role: a user name from a host. Names are case-sensitive, hosts are not and are kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// The user name; empty for the anonymous user.
    pub user: String,
    /// The host or pattern of hosts; empty for MariaDB's roles.
    pub host: String,
}

impl Account {
    /// An account as a server told it.
    pub fn new(user: impl Into<String>, host: impl Into<String>) -> Self {
        Self { user: user.into(), host: host.into() }
    }

    /// `user` from everywhere.
    pub fn everywhere(user: impl Into<String>) -> Self {
        Self::new(user, "%")
    }

    /// Whether this is an account of the server or of AWS and not one of people: `mysql.…` and MariaDB's `mariadb.sys`,
    /// `rds…`, and the roles `AWS_…` of Aurora MySQL 3 (`AWS_LAMBDA_ACCESS`, `AWS_LOAD_S3_ACCESS` and others).
    pub fn is_servers_own(&self) -> bool {
        const PREFIXES: [&str; 4] = ["mysql.", "mariadb.", "rds", "aws_"];
        let user = self.user.to_ascii_lowercase();
        PREFIXES.iter().any(|prefix| user.starts_with(prefix))
    }

    /// Whether AWS documents this login or it is the server's; its roles are locked and cannot log in. A login that [`Account::is_servers_own`] only by its
    /// prefix deserves a note.
    pub fn is_known(&self) -> bool {
        const LOGINS: [&str; 9] = [
            "rdsadmin",
            "rdsrepladmin",
            "rdsproxyadmin",
            "rdstopmgr",
            "rdswriteforwarduser",
            "mysql.sys",
            "mysql.session",
            "mysql.infoschema",
            "mariadb.sys",
        ];
        LOGINS.contains(&self.user.to_ascii_lowercase().as_str())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_str() {
            "" => f.write_str(&self.user),
            host => write!(f, "{}@{host}", self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_servers_own() {
        let is = |user: &str| (Account::everywhere(user).is_servers_own(), Account::everywhere(user).is_known());
        for own in ["rdsadmin", "mysql.sys", "mysql.infoschema", "mariadb.sys"] {
            assert_eq!(is(own), (true, true), "{own}");
        }
        // AWS's roles among them cannot log in; what can, of a name that only looks so, is told.
        for looks in ["rdsreports", "rds_superuser_role", "AWS_LAMBDA_ACCESS", "aws_etl", "mysql.backup"] {
            assert_eq!(is(looks), (true, false), "{looks}");
        }
        for other in ["mysql", "app", "", "awsome", "MySQLer"] {
            assert_eq!(is(other), (false, false), "{other}");
        }
    }

    #[test]
    fn told_as_user_at_host() {
        assert_eq!(Account::new("app", "10.%").to_string(), "app@10.%");
        assert_eq!(Account::new("team", "").to_string(), "team");
    }
}
