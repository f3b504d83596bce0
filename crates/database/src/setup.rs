//! Observe, decide, act, until nothing is left to do: the same for both engines.

use crate::apply::apply;
use crate::error::DatabaseError;
use crate::mysql;
use crate::observe::observe;
use crate::server::{Passwords, Server};
use aurora_restore_domain::accounts::{self, Account, AccountChange};
use aurora_restore_domain::engine::Engine;
use aurora_restore_domain::roles::{
    Attribute, Authentication, Desired, Limits, Observed, Profile, RoleChange, RoleName, closing, describe, diff,
    inherited_logins, locked_logins, missing_places, notes,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A database that was closed to the master needs a second round, see [`diff`]; the third only finds nothing.
const MAX_ROUNDS: usize = 3;

/// What was done and how the server is now. No password is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupReport {
    /// The databases that were looked into.
    pub databases: Vec<String>,
    /// The declared users, all able to log in; with a token, once IAM lets them.
    pub declared: Vec<DeclaredReport>,
    /// Logins that this tool locked, in this run or before; MySQL's as `user@host`.
    pub locked: Vec<String>,
    /// Inherited logins that can still log in, because the request wants it so.
    pub left: Vec<String>,
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
    /// How it logs in.
    #[serde(default)]
    pub login: Authentication,
    /// Where it may do it.
    #[serde(default)]
    pub limits: Limits,
    /// Whether the role was made now; otherwise it came with the snapshot or an earlier run.
    pub created: bool,
    /// Whether its password was set now; otherwise the declared one worked.
    pub password_set: bool,
}

/// A server as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Seen {
    PostgreSql(Observed),
    MySql(accounts::Observed),
}

/// What must be done to a server, in the order of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Changes {
    PostgreSql(Vec<RoleChange>),
    MySql(Vec<AccountChange>),
}

impl Changes {
    /// No changes of a server of this engine.
    pub fn none(engine: Engine) -> Self {
        match engine {
            Engine::PostgreSql => Self::PostgreSql(vec![]),
            Engine::MySql => Self::MySql(vec![]),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::PostgreSql(changes) => changes.is_empty(),
            Self::MySql(changes) => changes.is_empty(),
        }
    }

    /// The changes in words, one line each, no password among them.
    pub fn describe(&self) -> Vec<String> {
        match self {
            Self::PostgreSql(changes) => describe(changes),
            Self::MySql(changes) => accounts::describe(changes),
        }
    }

    /// Takes in further changes of the same server; those of another engine are none of it.
    pub fn extend(&mut self, further: Self) {
        match (self, further) {
            (Self::PostgreSql(changes), Self::PostgreSql(further)) => changes.extend(further),
            (Self::MySql(changes), Self::MySql(further)) => changes.extend(further),
            (Self::PostgreSql(_), Self::MySql(_)) | (Self::MySql(_), Self::PostgreSql(_)) => {}
        }
    }

    /// The declared logins that these lock until they are set up.
    pub fn closed(&self) -> BTreeSet<String> {
        let mut closed = BTreeSet::new();
        match self {
            Self::PostgreSql(changes) => changes.iter().for_each(|change| {
                if let RoleChange::SetAttributes { role, attributes } = change
                    && attributes.contains(&Attribute::NoLogin)
                {
                    closed.insert(role.to_string());
                }
            }),
            Self::MySql(changes) => changes.iter().for_each(|change| {
                if let AccountChange::Close { account } = change {
                    closed.insert(account.to_string());
                }
            }),
        }
        closed
    }

    fn creates(&self, role: &RoleName) -> bool {
        match self {
            Self::PostgreSql(changes) => changes.contains(&RoleChange::CreateRole { role: role.clone() }),
            Self::MySql(changes) => {
                let made = Account::everywhere(role.as_str());
                changes.iter().any(|change| matches!(change, AccountChange::Create { account, .. } if *account == made))
            }
        }
    }

    fn sets_password(&self, role: &RoleName) -> bool {
        match self {
            Self::PostgreSql(changes) => changes.contains(&RoleChange::SetPassword { role: role.clone() }),
            Self::MySql(changes) => changes.iter().any(|change| match change {
                AccountChange::Create { account, login: Authentication::Password }
                | AccountChange::SetPassword { account } => account.user == role.as_str(),
                AccountChange::Create { login: Authentication::Iam, .. }
                | AccountChange::TakeTokens { .. }
                | AccountChange::Lock { .. }
                | AccountChange::Close { .. }
                | AccountChange::RevokeRole { .. }
                | AccountChange::EndSessions { .. }
                | AccountChange::DiscardFormerPassword { .. }
                | AccountChange::RevokeAll { .. }
                | AccountChange::Revoke { .. }
                | AccountChange::Grant { .. }
                | AccountChange::SetAttributes { .. } => false,
            }),
        }
    }
}

impl Seen {
    /// What makes the server as declared; nothing when it is.
    pub fn changes(&self, desired: &Desired) -> Changes {
        match self {
            Self::PostgreSql(observed) => Changes::PostgreSql(diff(desired, observed)),
            Self::MySql(observed) => Changes::MySql(accounts::diff(desired, observed)),
        }
    }

    /// What locks everybody out but the master and the logins that stay as they are; nothing when nobody else can be in.
    pub fn closing(&self, desired: &Desired) -> Changes {
        match self {
            Self::PostgreSql(observed) => Changes::PostgreSql(closing(desired, observed)),
            Self::MySql(observed) => Changes::MySql(accounts::closing(desired, observed)),
        }
    }

    /// What ends the master's sessions but our own; nothing when it has none.
    pub fn ending_of_the_masters_sessions(&self) -> Changes {
        match self {
            Self::PostgreSql(observed) => {
                let seen = observed.role(&observed.master).is_some_and(|role| role.has_sessions);
                let role = observed.master.clone();
                Changes::PostgreSql(seen.then_some(RoleChange::EndSessions { role }).into_iter().collect())
            }
            Self::MySql(observed) => {
                let seen = observed.accounts.get(&observed.master).is_some_and(|account| account.has_sessions);
                let user = observed.master.user.clone();
                Changes::MySql(seen.then_some(AccountChange::EndSessions { user }).into_iter().collect())
            }
        }
    }

    /// Databases, schemas and tables that are named for a user and are not there, one sentence each.
    pub fn missing_places(&self, desired: &Desired) -> Vec<String> {
        match self {
            Self::PostgreSql(observed) => missing_places(desired, observed),
            Self::MySql(observed) => accounts::missing_places(desired, observed),
        }
    }

    /// The report of a server that is as declared, after `done`.
    pub fn report(&self, desired: &Desired, done: &Changes) -> SetupReport {
        let declared = desired.declared().iter().map(|user| DeclaredReport {
            key: user.key.clone(),
            role: user.role.clone(),
            profile: user.profile,
            login: user.login,
            limits: user.limits.clone(),
            created: done.creates(&user.role),
            password_set: done.sets_password(&user.role),
        });
        let (databases, locked, left, notes) = match self {
            Self::PostgreSql(observed) => of_postgresql(desired, observed),
            Self::MySql(observed) => of_mysql(desired, observed),
        };
        SetupReport { databases, declared: declared.collect(), locked, left, changes: done.describe(), notes }
    }
}

type Parts = (Vec<String>, Vec<String>, Vec<String>, Vec<String>);

fn of_postgresql(desired: &Desired, observed: &Observed) -> Parts {
    let reachable = observed.databases.iter().filter(|database| database.reachable);
    let kept =
        desired.keep_logins().iter().filter(|name| observed.role(name).is_some_and(|role| role.attributes.login));
    (
        reachable.map(|database| database.name.clone()).collect(),
        locked_logins(desired, observed).map(ToString::to_string).collect(),
        inherited_logins(desired, observed).chain(kept).map(ToString::to_string).collect(),
        notes(desired, observed),
    )
}

fn of_mysql(desired: &Desired, observed: &accounts::Observed) -> Parts {
    let words = |accounts: Vec<&Account>| accounts.into_iter().map(ToString::to_string).collect();
    let left = accounts::inherited_logins(desired, observed).chain(accounts::kept_logins(desired, observed));
    (
        observed.databases.iter().cloned().collect(),
        words(accounts::locked_logins(desired, observed).collect()),
        words(left.collect()),
        accounts::notes(desired, observed),
    )
}

/// Looks at the whole server.
pub async fn look(server: &Server, desired: &Desired, passwords: &Passwords) -> Result<Seen, DatabaseError> {
    Ok(match server.engine {
        Engine::PostgreSql => Seen::PostgreSql(observe(server, desired, passwords).await?),
        Engine::MySql => Seen::MySql(mysql::observe(server, desired, passwords).await?),
    })
}

/// Makes every change. Repeating it, after a failure too, does no harm.
pub async fn make(server: &Server, changes: &Changes, passwords: &Passwords) -> Result<(), DatabaseError> {
    match changes {
        Changes::PostgreSql(changes) => apply(server, changes, passwords).await,
        Changes::MySql(changes) => mysql::apply(server, changes, passwords).await,
    }
}

/// Makes the server as declared and proves it by a last observation.
pub async fn setup_users(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
) -> Result<SetupReport, DatabaseError> {
    let mut done = Changes::none(server.engine);
    for _ in 0..MAX_ROUNDS {
        let seen = look(server, desired, passwords).await?;
        let missing = seen.missing_places(desired);
        if !missing.is_empty() {
            return Err(DatabaseError::Invalid { what: missing.join("; ") });
        }
        let changes = seen.changes(desired);
        if changes.is_empty() {
            return Ok(seen.report(desired, &done));
        }
        make(server, &changes, passwords).await?;
        done.extend(changes);
    }
    let left = look(server, desired, passwords).await?.changes(desired);
    Err(DatabaseError::Incomplete { changes: left.describe() })
}
