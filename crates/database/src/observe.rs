//! Seeing who may do what. The number of queries depends on the number of databases, never on that of tables.

use crate::connect::{Login, Session, try_login};
use crate::error::{DatabaseError, ErrorClass};
use crate::server::{Passwords, Server, side_by_side};
use aurora_restore_domain::roles::{
    Attributes, Desired, GrantTarget, Membership, MissingDefault, MissingRight, ObjectKind, Observed, ObservedDatabase,
    ObservedRole, Privilege, RoleName, ServerVersion,
};
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

    let (server, wanted) = (Arc::new(server.clone()), Arc::new(Wanted::of(desired)));
    observed.databases =
        side_by_side(databases, |database| observe_database(Arc::clone(&server), Arc::clone(&wanted), database))
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

/// Which declared passwords log in. A refusal is an observation; every other failure is an error.
async fn try_passwords(
    server: &Server,
    desired: &Desired,
    passwords: &Passwords,
    observed: &Observed,
) -> Result<BTreeMap<RoleName, bool>, DatabaseError> {
    let mut tries = vec![];
    for user in desired.declared() {
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

/// What every database is asked for: the declared users' rights, side by side as the queries take them.
struct Wanted {
    roles: Vec<String>,
    kinds: Vec<String>,
    privileges: Vec<String>,
    /// Who makes objects besides those who own some already.
    makers: Vec<RoleName>,
}

impl Wanted {
    fn of(desired: &Desired) -> Self {
        let makers = desired.object_makers().cloned().collect();
        let mut wanted = Self { roles: vec![], kinds: vec![], privileges: vec![], makers };
        for user in desired.declared() {
            for kind in ObjectKind::ALL {
                for privilege in user.profile.rights(kind) {
                    wanted.roles.push(user.role.to_string());
                    wanted.kinds.push(kind.as_str().to_owned());
                    wanted.privileges.push(privilege.as_str().to_owned());
                }
            }
        }
        wanted
    }
}

async fn observe_database(
    server: Arc<Server>,
    wanted: Arc<Wanted>,
    listed: Listed,
) -> Result<ObservedDatabase, DatabaseError> {
    let mut seen = ObservedDatabase {
        name: listed.name,
        reachable: listed.reachable,
        owners: BTreeSet::from([role_name(listed.owner)?]),
        missing: vec![],
        missing_defaults: vec![],
        open_schemas: vec![],
    };
    if !seen.reachable {
        return Ok(seen);
    }
    let mut session = server.session(&seen.name).await?;
    let what = format!("tell the rights in database {}", seen.name);
    look_into(&mut session, &server.master.role, &wanted, &mut seen).await.map_err(|failure| match failure {
        Failure::Statement(error) => DatabaseError::of_statement(what, error),
        Failure::Other(error) => error,
    })?;
    session.close().await;
    Ok(seen)
}

/// A statement that failed, still to be told what it was for; or something that knows by itself.
enum Failure {
    Statement(sqlx::Error),
    Other(DatabaseError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Statement(error)
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::Other(error)
    }
}

async fn look_into(
    session: &mut Session,
    master: &RoleName,
    wanted: &Wanted,
    seen: &mut ObservedDatabase,
) -> Result<(), Failure> {
    let connection = &mut session.connection;
    let owners: Vec<(String,)> = sqlx::query_as(include_str!("sql/owners.sql")).fetch_all(&mut *connection).await?;
    for (owner,) in owners {
        seen.owners.insert(role_name(owner)?);
    }
    let rights: Vec<(String, String, String, String, String)> = sqlx::query_as(include_str!("sql/missing_rights.sql"))
        .bind(&wanted.roles)
        .bind(&wanted.kinds)
        .bind(&wanted.privileges)
        .fetch_all(&mut *connection)
        .await?;
    for (role, kind, schema, privilege, owner) in rights {
        let (role, owner) = (role_name(role)?, role_name(owner)?);
        let target = GrantTarget::new(object_kind(&kind)?, schema);
        seen.missing.push(MissingRight { role, target, privilege: privilege_of(&privilege)?, owner });
    }
    let makers: BTreeSet<&RoleName> = seen.owners.iter().chain(&wanted.makers).chain([master]).collect();
    let makers: Vec<&str> = makers.into_iter().map(RoleName::as_str).collect();
    let defaults: Vec<(String, String, String, String)> = sqlx::query_as(include_str!("sql/missing_defaults.sql"))
        .bind(&makers)
        .bind(&wanted.roles)
        .bind(&wanted.kinds)
        .bind(&wanted.privileges)
        .fetch_all(&mut *connection)
        .await?;
    for (owner, role, kind, privilege) in defaults {
        let (owner, role) = (role_name(owner)?, role_name(role)?);
        let (kind, privilege) = (object_kind(&kind)?, privilege_of(&privilege)?);
        seen.missing_defaults.push(MissingDefault { owner, role, kind, privilege });
    }
    let open: Vec<(String,)> = sqlx::query_as(include_str!("sql/open_schemas.sql")).fetch_all(connection).await?;
    seen.open_schemas = open.into_iter().map(|(schema,)| schema).collect();
    Ok(())
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
        };
        let role = ObservedRole {
            attributes,
            comment: row.try_get("comment")?,
            has_sessions: row.try_get("has_sessions")?,
            master_acts_as: row.try_get("master_acts_as")?,
            master_may_grant: row.try_get("master_may_grant")?,
            login_works: None,
        };
        Ok(Self(row.try_get("rolname")?, role))
    }
}

fn role_name(text: String) -> Result<RoleName, DatabaseError> {
    RoleName::try_from(text).map_err(|error| unexpected(format!("a role's name that {error}")))
}

fn object_kind(text: &str) -> Result<ObjectKind, DatabaseError> {
    ObjectKind::parse(text).ok_or_else(|| unexpected(format!("an object of kind {text}")))
}

fn privilege_of(text: &str) -> Result<Privilege, DatabaseError> {
    Privilege::parse(text).ok_or_else(|| unexpected(format!("the right {text}")))
}

fn unexpected(what: String) -> DatabaseError {
    DatabaseError::Unsupported { what: format!("the database server's catalogs hold {what}") }
}
