//! What a declared user may do: the table of rights per profile.

use super::{Names, Observed, Privilege, Right, Scope};
use crate::roles::Profile;
use std::collections::BTreeSet;

/// Databases that are the server's own.
pub const SYSTEM_DATABASES: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Reads, and sees how views are made, which `EXPLAIN` and dumps need. No `EXECUTE`: what a routine does is not known.
const READ: [&str; 2] = ["SELECT", "SHOW VIEW"];
/// All rows, all routines, tables of the session's own.
const WRITE: [&str; 6] = ["INSERT", "UPDATE", "DELETE", "EXECUTE", "CREATE TEMPORARY TABLES", "LOCK TABLES"];
/// Changes of the schema. MySQL knows no owners: who may create in a database, alter and drop there are separate rights
/// that hold for everybody's objects; a maintenance without them is none. `DROP` covers the database as a whole.
const SCHEMA: [&str; 9] =
    ["CREATE", "ALTER", "DROP", "INDEX", "REFERENCES", "CREATE VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT"];
const TRIGGER: [&str; 1] = ["TRIGGER"];

/// On the whole server, for devops: see and end sessions. As a list of names for each right, since MariaDB has others;
/// the first that the master may hand on is taken.
const SERVER: [&[&str]; 3] =
    [&["PROCESS"], &["REPLICATION CLIENT", "BINLOG MONITOR"], &["CONNECTION_ADMIN", "CONNECTION ADMIN"]];

/// In databases of the server's own, for devops: statistics.
const STATISTICS: [(&str, &[&str]); 2] = [("performance_schema", &["SELECT"]), ("sys", &["SELECT", "EXECUTE"])];

/// Every right that an account of a user with this profile is to hold, and what it lacks because the master may not
/// hand it on.
pub fn wanted(profile: Profile, observed: &Observed) -> (BTreeSet<Right>, Vec<&'static str>) {
    let mut rights = BTreeSet::new();
    for database in &observed.databases {
        let lists: &[&[&str]] = match profile {
            // Refused before: see `check`.
            Profile::Custom => &[],
            Profile::ReadOnly => &[&READ],
            Profile::ReadWrite => &[&READ, &WRITE],
            Profile::Devops => &[&READ, &WRITE, &SCHEMA, &TRIGGER],
        };
        rights
            .extend(lists.iter().flat_map(|list| list.iter()).filter_map(|right| on(database, right, observed.names)));
    }
    if profile != Profile::Devops {
        return (rights, vec![]);
    }
    let mut lacking = vec![];
    let may_grant = |name: &str| Privilege::parse(name).filter(|privilege| observed.grantable.contains(privilege));
    for names in SERVER {
        match names.iter().find_map(|name| may_grant(name)) {
            Some(privilege) => drop(rights.insert(Right { scope: Scope::Server, privilege })),
            None => lacking.extend(names.first()),
        }
    }
    for (database, names) in STATISTICS {
        if observed.system_databases.contains(database) {
            rights.extend(
                names
                    .iter()
                    .filter(|name| may_grant(name).is_some())
                    .filter_map(|right| on(database, right, observed.names)),
            );
        }
    }
    (rights, lacking)
}

fn on(database: &str, right: &str, names: Names) -> Option<Right> {
    Some(Right { scope: Scope::Database(names.of(database)), privilege: Privilege::parse(right)? })
}
