//! What a declared user may do: the table of rights per profile.

use super::desired::RolesError;
use crate::engine::Engine;
use serde::{Deserialize, Serialize};

/// What a declared user is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// An application: all rows, all sequences, all functions, no change of the schema.
    ReadWrite,
    /// Reports and people: reads tables, views and sequences. No `nextval`: that writes.
    ReadOnly,
    /// Maintenance: what an application may, changes of the schema, and a look at everybody's sessions.
    Devops,
    /// Only the rights that are named for the one user, see [`Grant`](super::Grant).
    Custom,
}

/// A kind of object that rights are granted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A database as a whole.
    Database,
    /// A schema.
    Schema,
    /// Tables, partitioned and foreign tables, views, materialized views.
    Table,
    /// Sequences, those of serial and identity columns included.
    Sequence,
    /// Functions, procedures, aggregates.
    Routine,
}

/// One right, as its engine names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Privilege {
    Connect,
    Usage,
    Create,
    Select,
    Insert,
    Update,
    Delete,
    Execute,
    Truncate,
    References,
    Trigger,
    Maintain,
    Temporary,
    Alter,
    #[serde(rename = "ALTER ROUTINE")]
    AlterRoutine,
    #[serde(rename = "CREATE ROUTINE")]
    CreateRoutine,
    #[serde(rename = "CREATE TEMPORARY TABLES")]
    CreateTemporaryTables,
    #[serde(rename = "CREATE VIEW")]
    CreateView,
    Drop,
    Event,
    Index,
    #[serde(rename = "LOCK TABLES")]
    LockTables,
    #[serde(rename = "SHOW VIEW")]
    ShowView,
}

impl ObjectKind {
    /// Every kind, in the order in which rights are granted.
    pub const ALL: [Self; 5] = [Self::Database, Self::Schema, Self::Table, Self::Sequence, Self::Routine];

    /// The kind as queries name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Schema => "schema",
            Self::Table => "table",
            Self::Sequence => "sequence",
            Self::Routine => "routine",
        }
    }

    /// Every right that PostgreSQL knows on objects of this kind.
    pub fn privileges(self) -> &'static [Privilege] {
        use Privilege::{
            Connect, Create, Delete, Execute, Insert, Maintain, References, Select, Temporary, Trigger, Truncate,
            Update, Usage,
        };
        match self {
            Self::Database => &[Connect, Create, Temporary],
            Self::Schema => &[Usage, Create],
            Self::Table => &[Select, Insert, Update, Delete, Truncate, References, Trigger, Maintain],
            Self::Sequence => &[Usage, Select, Update],
            Self::Routine => &[Execute],
        }
    }

    /// Every right that can be declared on objects of this kind. MySQL's schemas are its databases, and sequences it has none;
    /// a right on a database there is one on all that is in it.
    pub fn privileges_of(self, engine: Engine) -> &'static [Privilege] {
        use Privilege::{
            Alter, AlterRoutine, Create, CreateRoutine, CreateTemporaryTables, CreateView, Delete, Drop, Event,
            Execute, Index, Insert, LockTables, References, Select, ShowView, Trigger, Update,
        };
        match (engine, self) {
            (Engine::PostgreSql, kind) => kind.privileges(),
            (Engine::MySql, Self::Database) => &[
                Select,
                Insert,
                Update,
                Delete,
                Execute,
                Create,
                Alter,
                Drop,
                Index,
                References,
                Trigger,
                CreateView,
                ShowView,
                CreateRoutine,
                AlterRoutine,
                CreateTemporaryTables,
                LockTables,
                Event,
            ],
            (Engine::MySql, Self::Table) => {
                &[Select, Insert, Update, Delete, Create, Alter, Drop, Index, References, Trigger, CreateView, ShowView]
            }
            (Engine::MySql, Self::Routine) => &[Execute, AlterRoutine],
            (Engine::MySql, Self::Schema | Self::Sequence) => &[],
        }
    }

    /// Reads what [`ObjectKind::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Privilege {
    /// Every right that PostgreSQL knows on these kinds of objects. Those from `TRUNCATE` on are in no profile.
    pub const ALL: [Self; 13] = [
        Self::Connect,
        Self::Usage,
        Self::Create,
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Execute,
        Self::Truncate,
        Self::References,
        Self::Trigger,
        Self::Maintain,
        Self::Temporary,
    ];

    /// Those that MySQL alone knows.
    pub const OF_MYSQL: [Self; 10] = [
        Self::Alter,
        Self::AlterRoutine,
        Self::CreateRoutine,
        Self::CreateTemporaryTables,
        Self::CreateView,
        Self::Drop,
        Self::Event,
        Self::Index,
        Self::LockTables,
        Self::ShowView,
    ];

    /// The key word of SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Usage => "USAGE",
            Self::Create => "CREATE",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Execute => "EXECUTE",
            Self::Truncate => "TRUNCATE",
            Self::References => "REFERENCES",
            Self::Trigger => "TRIGGER",
            Self::Maintain => "MAINTAIN",
            Self::Temporary => "TEMPORARY",
            Self::Alter => "ALTER",
            Self::AlterRoutine => "ALTER ROUTINE",
            Self::CreateRoutine => "CREATE ROUTINE",
            Self::CreateTemporaryTables => "CREATE TEMPORARY TABLES",
            Self::CreateView => "CREATE VIEW",
            Self::Drop => "DROP",
            Self::Event => "EVENT",
            Self::Index => "INDEX",
            Self::LockTables => "LOCK TABLES",
            Self::ShowView => "SHOW VIEW",
        }
    }

    /// Whether it lets somebody change something on objects of `kind`. What a routine does is not known.
    pub fn writes(self, kind: ObjectKind) -> bool {
        match self {
            Self::Create | Self::Insert | Self::Update | Self::Delete | Self::Truncate | Self::Trigger => true,
            Self::Alter
            | Self::AlterRoutine
            | Self::CreateRoutine
            | Self::CreateView
            | Self::Drop
            | Self::Event
            | Self::Index => true,
            Self::Usage => kind == ObjectKind::Sequence,
            Self::Connect | Self::Select | Self::Execute | Self::References | Self::Maintain | Self::Temporary => false,
            Self::CreateTemporaryTables | Self::LockTables | Self::ShowView => false,
        }
    }

    /// Reads what [`Privilege::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::OF_MYSQL).find(|privilege| privilege.as_str() == text)
    }
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 4] = [Self::ReadWrite, Self::ReadOnly, Self::Devops, Self::Custom];

    /// The profile of a key of the application secret. A key that is not known is refused: guessing a profile is
    /// guessing rights.
    pub fn for_key(key: &str) -> Result<Self, RolesError> {
        match key {
            "application_user" => Ok(Self::ReadWrite),
            "readonly_user" => Ok(Self::ReadOnly),
            "devops_user" => Ok(Self::Devops),
            _ => Err(RolesError::UnknownKey { key: key.to_owned() }),
        }
    }

    /// The profile's name, as in requests and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Devops => "devops",
            Self::Custom => "custom",
        }
    }

    /// Reads what [`Profile::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text)
    }

    /// The rights on objects of `kind`, now and later; of a custom user, which has its own, none.
    pub fn rights(self, kind: ObjectKind) -> &'static [Privilege] {
        use Privilege::{Connect, Create, Delete, Execute, Insert, Select, Update, Usage};
        match (kind, self) {
            (ObjectKind::Database, Self::ReadWrite | Self::ReadOnly | Self::Devops) => &[Connect],
            (ObjectKind::Schema, Self::ReadWrite | Self::ReadOnly) => &[Usage],
            (ObjectKind::Schema, Self::Devops) => &[Usage, Create],
            (ObjectKind::Table, Self::ReadOnly) => &[Select],
            (ObjectKind::Table, Self::ReadWrite | Self::Devops) => &[Select, Insert, Update, Delete],
            (ObjectKind::Sequence, Self::ReadOnly) => &[Select],
            (ObjectKind::Sequence, Self::ReadWrite | Self::Devops) => &[Usage, Select, Update],
            (ObjectKind::Routine, Self::ReadOnly) => &[],
            (ObjectKind::Routine, Self::ReadWrite | Self::Devops) => &[Execute],
            (
                ObjectKind::Database
                | ObjectKind::Schema
                | ObjectKind::Table
                | ObjectKind::Sequence
                | ObjectKind::Routine,
                Self::Custom,
            ) => &[],
        }
    }

    /// The predefined roles that come with the profile, where the master may grant them.
    pub fn predefined_roles(self) -> &'static [&'static str] {
        match self {
            Self::ReadWrite | Self::ReadOnly | Self::Custom => &[],
            Self::Devops => &["pg_monitor", "pg_signal_backend"],
        }
    }

    /// Whether users of this profile make objects of their own, which the other users must reach too.
    pub fn makes_objects(self) -> bool {
        self.rights(ObjectKind::Schema).contains(&Privilege::Create)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_per_key_and_no_guess() {
        assert_eq!(Profile::for_key("application_user"), Ok(Profile::ReadWrite));
        assert_eq!(Profile::for_key("readonly_user"), Ok(Profile::ReadOnly));
        assert_eq!(Profile::for_key("devops_user"), Ok(Profile::Devops));
        assert_eq!(Profile::for_key("owner"), Err(RolesError::UnknownKey { key: "owner".into() }));
    }

    #[test]
    fn read_only_reads_and_nothing_else() {
        let rights: Vec<_> = ObjectKind::ALL
            .iter()
            .flat_map(|kind| Profile::ReadOnly.rights(*kind).iter().map(|p| p.as_str()))
            .collect();
        assert_eq!(rights, ["CONNECT", "USAGE", "SELECT", "SELECT"]);
        assert!(!Profile::ReadOnly.rights(ObjectKind::Sequence).contains(&Privilege::Usage));
    }

    #[test]
    fn only_devops_changes_schemas() {
        assert!(Profile::Devops.makes_objects());
        assert!(!Profile::ReadWrite.makes_objects() && !Profile::ReadOnly.makes_objects());
    }

    #[test]
    fn every_right_of_a_profile_is_one_of_its_kind() {
        for (profile, kind) in Profile::ALL.iter().flat_map(|profile| ObjectKind::ALL.map(|kind| (profile, kind))) {
            assert!(profile.rights(kind).iter().all(|right| kind.privileges().contains(right)), "{profile:?} {kind:?}");
        }
        let writes = |profile: Profile| ObjectKind::ALL.iter().any(|k| profile.rights(*k).iter().any(|r| r.writes(*k)));
        assert_eq!(Profile::ALL.map(writes), [true, false, true, false]);
    }

    #[test]
    fn names_come_back() {
        assert!(ObjectKind::ALL.iter().all(|kind| ObjectKind::parse(kind.as_str()) == Some(*kind)));
        for right in Privilege::ALL.into_iter().chain(Privilege::OF_MYSQL) {
            assert_eq!(Privilege::parse(right.as_str()), Some(right));
            assert_eq!(serde_json::to_value(right).ok(), Some(right.as_str().into()));
        }
        assert!(Profile::ALL.iter().all(|profile| Profile::parse(profile.as_str()) == Some(*profile)));
        assert_eq!(serde_json::to_string(&Profile::ReadWrite).ok().as_deref(), Some("\"read-write\""));
    }
}
