//! The database engines that can be restored.

use std::fmt;

/// What speaks behind a restored cluster's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `aurora-postgresql`
    PostgreSql,
    /// `aurora-mysql`
    MySql,
}

impl Engine {
    /// Both.
    pub const ALL: [Self; 2] = [Self::PostgreSql, Self::MySql];

    /// The engine as RDS names it; `None` for one that is not worked on.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == name)
    }

    /// RDS's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PostgreSql => "aurora-postgresql",
            Self::MySql => "aurora-mysql",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_by_rds_names_and_no_others() {
        assert_eq!(Engine::of("aurora-mysql"), Some(Engine::MySql));
        assert_eq!(Engine::of("aurora-postgresql"), Some(Engine::PostgreSql));
        for other in ["aurora", "mysql", "aurora-postgresql-x", ""] {
            assert_eq!(Engine::of(other), None);
        }
    }
}
