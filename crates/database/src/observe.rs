//! Seeing who may do what. The number of queries depends on the number of databases, never on that of tables.

mod rights;

use crate::connect::{Login, Session, try_login};
use crate::error::{DatabaseError, ErrorClass};
use crate::server::{Passwords, Server, side_by_side};
use aurora_restore_domain::roles::{
    Attributes, Desired, IAM_ROLE, Membership, Observed, ObservedRole, RoleName, ServerVersion,
};
use rights::observe_database;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The oldest server that is worked on: `pg_namespace` defaults, `ON ROUTINES` and the catalogs used here exist.
const OLDEST_MAJOR: u32 = 13;

/// Looks at the whole server. Tries each declared user's password by logging in with it.
pub async fn observe(server: &Server, desired: &Desired, passwords: &Passwords) -> Result<Observed, DatabaseError> {
    let mut session = server.session(&server.database).await?;
    let mut observed = observe_roles(server, &mut session).await?;
    check_tokens(desired, &observed)?;
    let databases = list_databases(&mut session).await?;
    session.close().await;

    for (role, works) in try_passwords(server, desired, passwords, &observed).await? {
        if let Some(role) = observed.roles.get_mut(&role) {
            role.login_works = Some(works);
        }
    }
    let (refusing, databases): (Vec<_>, Vec<_>) = databases.into_iter().partition(|database| !database.open);
    let note = |database: Listed| format!("database {} was left out: it refuses connections", database.name);
    observed.notes = refusing.into_iter().map(note).collect();

    let (server, desired) = (Arc::new(server.clone()), Arc::new(desired.clone()));
    observed.databases =
        side_by_side(databases, |database| observe_database(Arc::clone(&server), Arc::clone(&desired), database))
            .await?;
    Ok(observed)
}

/// The server's version, roles and memberships; no databases.
pub(crate) async fn observe_roles(server: &Server, session: &mut Session) -> Result<Observed, DatabaseError> {
    let failed = |error| DatabaseError::of_statement("list its roles", error);
    let (version,): (i32,) = sqlx::query_as("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut session.connection)
        .await
        .map_err(failed)?;
    let version = ServerVersion(version.unsigned_abs());
    if version.major() < OLDEST_MAJOR {
        let what = format!("PostgreSQL {} is too old; {OLDEST_MAJOR} or later is needed", version.major());
        return Err(DatabaseError::Unsupported { what });
    }
    let roles: Vec<RoleRow> =
        sqlx::query_as(include_str!("sql/roles.sql")).fetch_all(&mut session.connection).await.map_err(failed)?;
    let memberships: Vec<(String, String, Option<String>)> =
        sqlx::query_as(include_str!("sql/memberships.sql")).fetch_all(&mut session.connection).await.map_err(failed)?;
    let memberships = memberships.into_iter().map(|(role, member, grantor)| {
        let grantor = grantor.map(role_name).transpose()?;
        Ok(Membership { role: role_name(role)?, member: role_name(member)?, grantor })
    });
    Ok(Observed {
        version,
        master: server.master.role.clone(),
        roles: roles.into_iter().map(|RoleRow(name, role)| Ok((role_name(name)?, role))).collect::<Result<_, _>>()?,
        memberships: memberships.collect::<Result<BTreeSet<_>, DatabaseError>>()?,
        databases: vec![],
        notes: vec![],
    })
}

/// Whether the server can let in who is to log in with tokens.
fn check_tokens(desired: &Desired, observed: &Observed) -> Result<(), DatabaseError> {
    let users: Vec<String> = desired.token_users().map(|user| user.key.clone()).collect();
    let knows_tokens = observed.roles.keys().any(|role| role.as_str() == IAM_ROLE);
    match users.is_empty() || knows_tokens {
        true => Ok(()),
        false => Err(DatabaseError::NoTokens { lacks: "role rds_iam", users }),
    }
}

/// Which declared passwords log in. A refusal is an observation; every other failure is an error.
async fn try_passwords(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
    observed: &Observed,
) -> Result<BTreeMap<RoleName, bool>, DatabaseError> {
    let mut tries = vec![];
    for user in desired.declared().iter().filter(|user| !user.takes_tokens()) {
        let credentials = passwords.credentials(&user.role)?;
        let can_try = |role: &ObservedRole| role.attributes.login && role.attributes.connection_limit != 0;
        if observed.role(&user.role).is_some_and(can_try) {
            tries.push(credentials);
        }
    }
    let server = Arc::new(server.clone());
    let results = side_by_side(tries, |credentials| {
        let server = Arc::clone(&server);
        async move {
            let login = try_login(&server.endpoint, &server.database, &credentials, &server.trust).await;
            Ok((credentials.role, password_works(login)?))
        }
    });
    Ok(results.await?.into_iter().collect())
}

fn password_works(login: Result<Login, DatabaseError>) -> Result<bool, DatabaseError> {
    match login {
        Ok(_) => Ok(true),
        Err(error) if error.class() == ErrorClass::LoginRefused => Ok(false),
        // The password is checked before the right to connect to this database is.
        Err(error) if error.sqlstate() == Some("42501") => Ok(true),
        Err(error) => Err(error),
    }
}

/// A database, before it is looked into.
pub(crate) struct Listed {
    pub(crate) name: String,
    owner: String,
    open: bool,
    pub(crate) reachable: bool,
}

pub(crate) async fn list_databases(session: &mut Session) -> Result<Vec<Listed>, DatabaseError> {
    let rows: Vec<(String, String, bool, bool)> = sqlx::query_as(include_str!("sql/databases.sql"))
        .fetch_all(&mut session.connection)
        .await
        .map_err(|error| DatabaseError::of_statement("list its databases", error))?;
    Ok(rows.into_iter().map(|(name, owner, open, reachable)| Listed { name, owner, open, reachable }).collect())
}

impl Listed {
    /// Whether the master can connect at all.
    pub(crate) fn is_usable(&self) -> bool {
        self.open && self.reachable
    }
}

/// A row of `roles.sql`.
struct RoleRow(String, ObservedRole);

impl FromRow<'_, PgRow> for RoleRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let attributes = Attributes {
            login: row.try_get("rolcanlogin")?,
            superuser: row.try_get("rolsuper")?,
            create_role: row.try_get("rolcreaterole")?,
            create_database: row.try_get("rolcreatedb")?,
            replication: row.try_get("rolreplication")?,
            bypass_row_security: row.try_get("rolbypassrls")?,
            inherit: row.try_get("rolinherit")?,
            connection_limit: row.try_get("rolconnlimit")?,
            expires: row.try_get("expires")?,
            never_by_password: row.try_get("never_by_password")?,
        };
        let role = ObservedRole {
            attributes,
            comment: row.try_get("comment")?,
            has_sessions: row.try_get("has_sessions")?,
            master_acts_as: row.try_get("master_acts_as")?,
            master_may_grant: row.try_get("master_may_grant")?,
            holds_something: row.try_get("holds_something")?,
            login_works: None,
        };
        Ok(Self(row.try_get("rolname")?, role))
    }
}

fn role_name(text: String) -> Result<RoleName, DatabaseError> {
    RoleName::try_from(text).map_err(|error| unexpected(format!("a role's name that {error}")))
}

fn unexpected(what: String) -> DatabaseError {
    DatabaseError::Unsupported { what: format!("the database server's catalogs hold {what}") }
}
