//! One database: whose it is, which rights of the declared users are missing and which are too much.

use super::{Listed, role_name, unexpected};
use crate::connect::Session;
use crate::error::DatabaseError;
use crate::server::Server;
use aurora_restore_domain::roles::{
    DeclaredUser, Desired, Extent, GrantTarget, MissingDefault, MissingRight, ObjectKind, ObservedDatabase, Privilege,
    RoleName, SurplusDefault, SurplusRight,
};
use sqlx::postgres::PgConnection;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a database is asked for: the declared users' rights in it, side by side as the queries take them.
struct Wanted {
    roles: Vec<String>,
    kinds: Vec<String>,
    privileges: Vec<String>,
    /// `None` is every schema.
    schemas: Vec<Option<String>>,
    /// Every declared user, also one that has no right here.
    declared: Vec<String>,
    /// Who makes objects besides those who own some already.
    makers: Vec<RoleName>,
    /// Every schema that the declaration names.
    named_schemas: Vec<String>,
}

impl Wanted {
    fn of(desired: &Desired, database: &str) -> Self {
        let named: BTreeSet<&String> = desired.declared().iter().flat_map(DeclaredUser::named_schemas).collect();
        let let_in = || desired.declared().iter().filter(|user| user.is_let_into(database));
        let mut wanted = Self {
            roles: vec![],
            kinds: vec![],
            privileges: vec![],
            schemas: vec![],
            declared: desired.declared().iter().map(|user| user.role.to_string()).collect(),
            makers: let_in().filter(|user| user.makes_objects()).map(|user| user.role.clone()).collect(),
            named_schemas: named.into_iter().cloned().collect(),
        };
        for (user, kind) in let_in().flat_map(|user| ObjectKind::ALL.map(|kind| (user, kind))) {
            for (privilege, scope) in user.rights(kind) {
                match scope.names() {
                    None => wanted.push(user, kind, privilege, None),
                    Some(names) => names.iter().for_each(|name| wanted.push(user, kind, privilege, Some(name))),
                }
            }
        }
        wanted
    }

    fn push(&mut self, user: &DeclaredUser, kind: ObjectKind, privilege: Privilege, schema: Option<&String>) {
        self.roles.push(user.role.to_string());
        self.kinds.push(kind.as_str().to_owned());
        self.privileges.push(privilege.as_str().to_owned());
        self.schemas.push(schema.cloned());
    }
}

pub(super) async fn observe_database(
    server: Arc<Server>,
    desired: Arc<Desired>,
    listed: Listed,
) -> Result<ObservedDatabase, DatabaseError> {
    let mut seen = ObservedDatabase {
        name: listed.name,
        reachable: listed.reachable,
        owners: BTreeSet::from([role_name(listed.owner)?]),
        schemas: BTreeSet::new(),
        missing: vec![],
        missing_defaults: vec![],
        surplus: vec![],
        surplus_defaults: vec![],
    };
    if !seen.reachable {
        return Ok(seen);
    }
    let wanted = Wanted::of(&desired, &seen.name);
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
    let owners: Vec<(String, String)> = sqlx::query_as(include_str!("../sql/owners.sql"))
        .bind(&wanted.named_schemas)
        .fetch_all(&mut *connection)
        .await?;
    for (what, name) in owners {
        match what.as_str() {
            "schema" => drop(seen.schemas.insert(name)),
            _ => drop(seen.owners.insert(role_name(name)?)),
        }
    }
    let rights: Vec<(String, String, String, String, String)> =
        sqlx::query_as(include_str!("../sql/missing_rights.sql"))
            .bind(&wanted.roles)
            .bind(&wanted.kinds)
            .bind(&wanted.privileges)
            .bind(&wanted.schemas)
            .fetch_all(&mut *connection)
            .await?;
    for (role, kind, schema, privilege, owner) in rights {
        let (role, owner) = (role_name(role)?, role_name(owner)?);
        let target = GrantTarget::new(object_kind(&kind)?, schema);
        seen.missing.push(MissingRight { role, target, privilege: privilege_of(&privilege)?, owner });
    }
    let makers: BTreeSet<&RoleName> = seen.owners.iter().chain(&wanted.makers).chain([master]).collect();
    let makers: Vec<&str> = makers.into_iter().map(RoleName::as_str).collect();
    let defaults: Vec<(String, Option<String>, String, String, String)> =
        sqlx::query_as(include_str!("../sql/missing_defaults.sql"))
            .bind(&makers)
            .bind(&wanted.roles)
            .bind(&wanted.kinds)
            .bind(&wanted.privileges)
            .bind(&wanted.schemas)
            .fetch_all(&mut *connection)
            .await?;
    for (owner, schema, role, kind, privilege) in defaults {
        let (owner, role) = (role_name(owner)?, role_name(role)?);
        let (kind, privilege) = (object_kind(&kind)?, privilege_of(&privilege)?);
        seen.missing_defaults.push(MissingDefault { owner, schema, role, kind, privilege });
    }
    look_for_surplus(connection, wanted, seen).await
}

async fn look_for_surplus(
    connection: &mut PgConnection,
    wanted: &Wanted,
    seen: &mut ObservedDatabase,
) -> Result<(), Failure> {
    let rights: Vec<(Option<String>, String, String, String, String, String)> =
        sqlx::query_as(include_str!("../sql/surplus_rights.sql"))
            .bind(&wanted.roles)
            .bind(&wanted.kinds)
            .bind(&wanted.privileges)
            .bind(&wanted.schemas)
            .bind(&wanted.declared)
            .fetch_all(&mut *connection)
            .await?;
    for (role, kind, schema, privilege, extent, grantor) in rights {
        let (role, grantor) = (role.map(role_name).transpose()?, role_name(grantor)?);
        let target = GrantTarget::new(object_kind(&kind)?, schema);
        let (privilege, extent) = (privilege_of(&privilege)?, extent_of(&extent)?);
        seen.surplus.push(SurplusRight { role, target, privilege, extent, grantor });
    }
    let defaults: Vec<(String, Option<String>, String, String, String, String)> =
        sqlx::query_as(include_str!("../sql/surplus_defaults.sql"))
            .bind(&wanted.roles)
            .bind(&wanted.kinds)
            .bind(&wanted.privileges)
            .bind(&wanted.schemas)
            .bind(&wanted.declared)
            .fetch_all(connection)
            .await?;
    for (owner, schema, role, kind, privilege, extent) in defaults {
        let (owner, role, kind) = (role_name(owner)?, role_name(role)?, object_kind(&kind)?);
        let (privilege, extent) = (privilege_of(&privilege)?, extent_of(&extent)?);
        seen.surplus_defaults.push(SurplusDefault { owner, schema, role, kind, privilege, extent });
    }
    Ok(())
}

fn object_kind(text: &str) -> Result<ObjectKind, DatabaseError> {
    ObjectKind::parse(text).ok_or_else(|| unexpected(format!("an object of kind {text}")))
}

fn privilege_of(text: &str) -> Result<Privilege, DatabaseError> {
    Privilege::parse(text).ok_or_else(|| unexpected(format!("the right {text}")))
}

fn extent_of(text: &str) -> Result<Extent, DatabaseError> {
    Extent::parse(text).ok_or_else(|| unexpected(format!("a right to the extent {text}")))
}
