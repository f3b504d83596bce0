//! Rights and where they hold.

use super::Account;
use std::fmt;

/// A right as MySQL names it in `GRANT`: `SELECT`, `CREATE TEMPORARY TABLES`, `CONNECTION_ADMIN`. There are new ones with
/// each version, so the list is open; what is not made of capital letters is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Privilege(String);

impl Privilege {
    /// A right by its name in any case; `None` if that cannot be one, so that it can stand in a statement as it is.
    pub fn parse(name: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_' || c == ' ';
        let name = name.trim().to_ascii_uppercase();
        (name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(legal)).then_some(Self(name))
    }

    /// That rights at this place may be handed on. MySQL has one of these per place, not per right.
    pub fn grant_option() -> Self {
        Self("GRANT OPTION".to_owned())
    }

    /// The key words of SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a dynamic one, whose grant option is its own: only these have an underscore in their names.
    pub fn is_dynamic(&self) -> bool {
        self.0.contains('_')
    }

    /// Whether it opens more than what is in databases of users. `USAGE` and what only looks are not among these.
    pub fn is_powerful(&self) -> bool {
        const HARMLESS: [&str; 8] = [
            "USAGE",
            "PROCESS",
            "REPLICATION CLIENT",
            "BINLOG MONITOR",
            "SHOW DATABASES",
            "SHOW VIEW",
            "SHOW_ROUTINE",
            "SLAVE MONITOR",
        ];
        !HARMLESS.contains(&self.as_str())
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A function or a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum RoutineKind {
    Function,
    Procedure,
}

impl RoutineKind {
    /// The key word of SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Function => "FUNCTION",
            Self::Procedure => "PROCEDURE",
        }
    }
}

/// Where a right holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere: `*.*`.
    Server,
    /// In databases that match a pattern, as the server keeps it; see [`Names`].
    Database(String),
    /// On a table or view.
    Table {
        /// Its database.
        database: String,
        /// Its name.
        table: String,
    },
    /// On a column.
    Column {
        /// The table's database.
        database: String,
        /// The table.
        table: String,
        /// Its name.
        column: String,
    },
    /// On a routine.
    Routine {
        /// Its database.
        database: String,
        /// Which of the two.
        kind: RoutineKind,
        /// Its name.
        name: String,
    },
    /// `PROXY`: to be taken for another account.
    Proxy(Account),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the whole server"),
            Self::Database(pattern) => write!(f, "database {pattern}"),
            Self::Table { database, table } => write!(f, "table {database}.{table}"),
            Self::Column { database, table, column } => write!(f, "column {database}.{table}.{column}"),
            Self::Routine { database, kind, name } => {
                write!(f, "{} {database}.{name}", kind.as_str().to_ascii_lowercase())
            }
            Self::Proxy(account) => write!(f, "account {account}"),
        }
    }
}

/// A right and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Where.
    pub scope: Scope,
    /// Which.
    pub privilege: Privilege,
}

/// How a server reads the names of databases in grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// As patterns: `_` and `%` stand for others unless a backslash is before them. MySQL's default, and MariaDB's only way.
    Patterns,
    /// As they are, backslashes too: MySQL with `partial_revokes` on.
    Literal,
}

impl Names {
    /// The name of a database as a grant on this database and no other takes it.
    pub fn of(self, database: &str) -> String {
        match self {
            Self::Literal => database.to_owned(),
            Self::Patterns => database
                .chars()
                .flat_map(|c| matches!(c, '_' | '%' | '\\').then_some('\\').into_iter().chain([c]))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_can_be_a_privilege() {
        assert_eq!(Privilege::parse("Create temporary tables ").unwrap().as_str(), "CREATE TEMPORARY TABLES");
        assert!(Privilege::parse("CONNECTION_ADMIN").unwrap().is_dynamic());
        for other in ["", "SELECT; DROP USER x", "a'b", "(x)", "_X", "ÜBER"] {
            assert_eq!(Privilege::parse(other), None, "{other}");
        }
    }

    #[test]
    fn database_names_in_grants() {
        assert_eq!(Names::Patterns.of("my_shop%\\"), "my\\_shop\\%\\\\");
        assert_eq!(Names::Literal.of("my_shop%\\"), "my_shop%\\");
    }

    /// How MySQL matches a pattern, in its simplest form.
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['\\', c, rest @ ..] => text.first() == Some(c) && matches(rest, &text[1..]),
            ['%', rest @ ..] => (0..=text.len()).any(|from| matches(rest, &text[from..])),
            ['_', rest @ ..] => !text.is_empty() && matches(rest, &text[1..]),
            [c, rest @ ..] => text.first() == Some(c) && matches(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_one_database(name in "[ab_%\\\\]{1,8}", other in "[ab_%\\\\]{1,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let pattern = chars(&Names::Patterns.of(&name));
            prop_assert!(matches(&pattern, &chars(&name)));
            prop_assert_eq!(matches(&pattern, &chars(&other)), name == other);
        }
    }
}
