//! Databases and schemas that the declaration names.

use super::{DeclaredUser, Desired, Observed};

/// What is named and is not there, or lets nobody in, in the words of a request; empty when all is.
///
/// A name that nothing answers to is most likely mistyped, and with nothing said somebody would believe that a user can
/// work who has no place to. A schema has to be in one of the user's databases, not in each. Where the master cannot look
/// yet, nothing is said; observe again.
pub fn missing_places(desired: &Desired, observed: &Observed) -> Vec<String> {
    let of_user = |user| {
        let databases = databases(user, observed);
        // A schema may be in the database that is missing.
        if databases.is_empty() { schemas(user, observed) } else { databases }
    };
    desired.declared().iter().flat_map(of_user).collect()
}

fn databases(user: &DeclaredUser, observed: &Observed) -> Vec<String> {
    let takes: Vec<&str> =
        observed.databases.iter().filter(|seen| !observed.is_closed(seen)).map(|seen| seen.name.as_str()).collect();
    let named = user.limits.databases.names().into_iter().flatten();
    named
        .filter(|name| !takes.contains(&name.as_str()))
        .map(|name| {
            let (key, takes) = (&user.key, takes.join(", "));
            format!("users.{key}.databases: got '{name}'; takes databases that can be connected to: {takes}")
        })
        .collect()
}

fn schemas(user: &DeclaredUser, observed: &Observed) -> Vec<String> {
    let mine = || observed.databases.iter().filter(|seen| user.is_let_into(&seen.name));
    if mine().any(|seen| !seen.reachable && !observed.is_closed(seen)) {
        return vec![];
    }
    let missing = user.named_schemas().into_iter().filter(|name| !mine().any(|seen| seen.schemas.contains(*name)));
    missing
        .map(|name| format!("users.{}: got the schema '{name}'; takes schemas that one of its databases has", user.key))
        .collect()
}
