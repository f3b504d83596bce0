//! What a declared user may do: the table of rights per profile.

use super::{Names, Observed, Privilege, Right, Scope};
use crate::roles::{DeclaredUser, Grant, Profile};
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

/// Every right that an account of this user is to hold, and what it lacks because the master may not hand it on.
pub fn wanted(user: &DeclaredUser, observed: &Observed) -> (BTreeSet<Right>, Vec<&'static str>) {
    let mut rights = BTreeSet::new();
    for database in observed.databases.iter().filter(|database| user.is_let_into(database)) {
        let lists: &[&[&str]] = match user.profile {
            Profile::Custom => &[],
            Profile::ReadOnly => &[&READ],
            Profile::ReadWrite => &[&READ, &WRITE],
            Profile::Devops => &[&READ, &WRITE, &SCHEMA, &TRIGGER],
        };
        rights
            .extend(lists.iter().flat_map(|list| list.iter()).filter_map(|right| on(database, right, observed.names)));
        for grant in user.grants.iter().filter(|grant| grant.databases.covers(database)) {
            rights.extend(granted(grant, database, observed));
        }
    }
    if user.profile != Profile::Devops {
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

/// What a custom user is to have in a database: on all of it, or on the tables that are named and there.
fn granted(grant: &Grant, database: &str, observed: &Observed) -> Vec<Right> {
    let privileges = || grant.privileges.iter().filter_map(|privilege| Privilege::parse(privilege.as_str()));
    let Some(tables) = grant.tables.names() else {
        let scope = Scope::Database(observed.names.of(database));
        return privileges().map(|privilege| Right { scope: scope.clone(), privilege }).collect();
    };
    let there = tables.iter().filter(|table| observed.named_tables.contains(&(database.to_owned(), (*table).clone())));
    let scopes = there.map(|table| Scope::Table { database: database.to_owned(), table: table.clone() });
    scopes.flat_map(|scope| privileges().map(move |privilege| Right { scope: scope.clone(), privilege })).collect()
}

/// Where the user may read: databases as a whole, and single tables, each after its database.
pub fn reads(user: &DeclaredUser, observed: &Observed) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let (mut databases, mut tables) = (BTreeSet::new(), BTreeSet::new());
    for Right { scope, .. } in wanted(user, observed).0.into_iter().filter(|right| right.privilege.as_str() == "SELECT")
    {
        match scope {
            Scope::Database(pattern) => {
                databases.extend(observed.databases.iter().find(|name| observed.names.of(name) == pattern).cloned())
            }
            Scope::Table { database, table } => drop(tables.insert((database, table))),
            Scope::Server | Scope::Column { .. } | Scope::Routine { .. } | Scope::Proxy(_) => {}
        }
    }
    (databases, tables)
}

/// Whether some right of the user's own lets it change something. What a routine does is not known.
pub fn writes(user: &DeclaredUser) -> bool {
    match user.profile {
        Profile::ReadWrite | Profile::Devops => true,
        Profile::ReadOnly => false,
        Profile::Custom => {
            user.grants.iter().any(|grant| grant.privileges.iter().any(|privilege| privilege.writes(grant.on)))
        }
    }
}

fn on(database: &str, right: &str, names: Names) -> Option<Right> {
    Some(Right { scope: Scope::Database(names.of(database)), privilege: Privilege::parse(right)? })
}
