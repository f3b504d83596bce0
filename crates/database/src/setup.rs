//! Observe, decide, act, until nothing is left to do.

use crate::apply::apply;
use crate::error::DatabaseError;
use crate::observe::observe;
use crate::server::{Passwords, Server};
use aurora_restore_domain::roles::{
    Desired, Observed, Profile, RoleChange, RoleName, describe, diff, inherited_logins, locked_logins, notes,
};
use serde::{Deserialize, Serialize};

/// A database that was closed to the master needs a second round, see [`diff`]; the third only finds nothing.
const MAX_ROUNDS: usize = 3;

/// What was done and how the server is now. No password is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupReport {
    /// The databases that were looked into.
    pub databases: Vec<String>,
    /// The declared users, all able to log in.
    pub declared: Vec<DeclaredReport>,
    /// Logins that this tool locked, in this run or before.
    pub locked: Vec<RoleName>,
    /// Inherited logins that can still log in, because the request wants it so.
    pub left: Vec<RoleName>,
    /// Every change made, in words.
    pub changes: Vec<String>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// A declared user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredReport {
    /// Its key in the application secret.
    pub key: String,
    /// Its role.
    pub role: RoleName,
    /// What it may do.
    pub profile: Profile,
    /// Whether the role was made now; otherwise it came with the snapshot or an earlier run.
    pub created: bool,
    /// Whether its password was set now; otherwise the declared one worked.
    pub password_set: bool,
}

/// Makes the server as declared and proves it by a last observation.
pub async fn setup_users(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
) -> Result<SetupReport, DatabaseError> {
    let mut done = vec![];
    for _ in 0..MAX_ROUNDS {
        let observed = observe(server, desired, passwords).await?;
        let changes = diff(desired, &observed);
        if changes.is_empty() {
            return Ok(report(desired, &observed, &done));
        }
        apply(server, &changes, passwords).await?;
        done.extend(changes);
    }
    let left = diff(desired, &observe(server, desired, passwords).await?);
    Err(DatabaseError::Incomplete { changes: describe(&left) })
}

/// The report of a server that is as declared, after `done`.
pub fn report(desired: &Desired, observed: &Observed, done: &[RoleChange]) -> SetupReport {
    let declared = desired.declared().iter().map(|user| DeclaredReport {
        key: user.key.clone(),
        role: user.role.clone(),
        profile: user.profile,
        created: done.contains(&RoleChange::CreateRole { role: user.role.clone() }),
        password_set: done.contains(&RoleChange::SetPassword { role: user.role.clone() }),
    });
    let reachable = observed.databases.iter().filter(|database| database.reachable);
    let kept =
        desired.keep_logins().iter().filter(|name| observed.role(name).is_some_and(|role| role.attributes.login));
    SetupReport {
        databases: reachable.map(|database| database.name.clone()).collect(),
        declared: declared.collect(),
        locked: locked_logins(desired, observed).cloned().collect(),
        left: inherited_logins(desired, observed).chain(kept).cloned().collect(),
        changes: describe(done),
        notes: notes(desired, observed),
    }
}
