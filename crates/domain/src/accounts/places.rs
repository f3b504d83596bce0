//! Databases and tables that the declaration names.

use super::Observed;
use crate::roles::{DeclaredUser, Desired, Grant};

/// What is named and is not there, in the words of a request; empty when all is. As for PostgreSQL: a name that nothing
/// answers to is most likely mistyped. A table has to be in one of its grant's databases, not in each.
pub fn missing_places(desired: &Desired, observed: &Observed) -> Vec<String> {
    desired.declared().iter().flat_map(|user| of_user(user, observed)).collect()
}

fn of_user(user: &DeclaredUser, observed: &Observed) -> Vec<String> {
    let key = &user.key;
    let mut fields = vec![(format!("users.{key}.databases"), &user.limits.databases)];
    for (position, grant) in user.grants.iter().enumerate() {
        fields.push((format!("users.{key}.grants[{position}].databases"), &grant.databases));
    }
    let takes = observed.databases.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut problems = vec![];
    for (field, scope) in fields {
        let missing = scope.names().into_iter().flatten().filter(|name| !observed.databases.contains(*name));
        problems.extend(missing.map(|name| format!("{field}: got '{name}'; takes databases that are there: {takes}")));
    }
    // A table may be in the database that is missing.
    if problems.is_empty() {
        for (position, grant) in user.grants.iter().enumerate() {
            let field = format!("users.{key}.grants[{position}].tables");
            let missing =
                grant.tables.names().into_iter().flatten().filter(|name| !is_there(name, user, grant, observed));
            problems.extend(
                missing.map(|name| format!("{field}: got '{name}'; takes tables that one of its databases has")),
            );
        }
    }
    problems
}

fn is_there(table: &str, user: &DeclaredUser, grant: &Grant, observed: &Observed) -> bool {
    let covers = |database: &str| user.is_let_into(database) && grant.databases.covers(database);
    observed.named_tables.iter().any(|(database, name)| name == table && covers(database))
}
