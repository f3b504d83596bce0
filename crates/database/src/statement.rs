//! Each change as SQL.

use crate::error::DatabaseError;
use crate::quote::{quote_identifier, quote_literal};
use aurora_restore_domain::roles::{GrantTarget, ObjectKind, Privilege, RoleChange, RoleName, ServerVersion};
use std::collections::BTreeSet;

/// The statement that makes `change`, or `None` for those that are more than a statement: passwords and sessions.
pub(crate) fn statement(change: &RoleChange, version: ServerVersion) -> Result<Option<String>, DatabaseError> {
    Ok(Some(match change {
        RoleChange::SetPassword { .. } | RoleChange::EndSessions { .. } => return Ok(None),
        RoleChange::LockLogin { role, comment } => {
            let (role, comment) = (quote(role)?, quote_literal(comment)?);
            format!("ALTER ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS {comment}")
        }
        RoleChange::RevokeMembership { role, member, grantor } => {
            let (role, member) = (quote(role)?, quote(member)?);
            match grantor {
                Some(grantor) => format!("REVOKE {role} FROM {member} GRANTED BY {} CASCADE", quote(grantor)?),
                None => format!("REVOKE {role} FROM {member}"),
            }
        }
        RoleChange::CreateRole { role } => format!("CREATE ROLE {} LOGIN", quote(role)?),
        RoleChange::SetAttributes { role, attributes } => {
            let attributes: Vec<_> = attributes.iter().map(|attribute| attribute.as_sql()).collect();
            format!("ALTER ROLE {} {}", quote(role)?, attributes.join(" "))
        }
        RoleChange::GrantMembership { role, member } => {
            // Since PostgreSQL 16 a membership may be without its rights; the words are unknown to older servers.
            let with = if version.major() >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
            format!("GRANT {} TO {}{with}", quote(role)?, quote(member)?)
        }
        RoleChange::Grant { database, target, role, privileges } => grant(database, target, role, privileges)?,
        RoleChange::GrantDefault { owner, kind, role, privileges, .. } => {
            let (owner, role, privileges) = (quote(owner)?, quote(role)?, list(privileges));
            let kind = default_kind(*kind)?;
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {privileges} ON {kind} TO {role}")
        }
    }))
}

fn quote(role: &RoleName) -> Result<String, DatabaseError> {
    quote_identifier(role.as_str())
}

fn list(privileges: &BTreeSet<Privilege>) -> String {
    privileges.iter().map(|privilege| privilege.as_str()).collect::<Vec<_>>().join(", ")
}

fn default_kind(kind: ObjectKind) -> Result<&'static str, DatabaseError> {
    match kind {
        ObjectKind::Schema => Ok("SCHEMAS"),
        ObjectKind::Table => Ok("TABLES"),
        ObjectKind::Sequence => Ok("SEQUENCES"),
        ObjectKind::Routine => Ok("ROUTINES"),
        ObjectKind::Database => {
            Err(DatabaseError::Unsupported { what: "there are no default privileges on databases".into() })
        }
    }
}

fn grant(
    database: &str,
    target: &GrantTarget,
    role: &RoleName,
    privileges: &BTreeSet<Privilege>,
) -> Result<String, DatabaseError> {
    let (quoted, rights) = (quote(role)?, list(privileges));
    let on_each = |source: Source, schema: &str| grant_on_each(&source, schema, &rights, role);
    match target {
        GrantTarget::Database => Ok(format!("GRANT {rights} ON DATABASE {} TO {quoted}", quote_identifier(database)?)),
        GrantTarget::Schema(schema) => {
            Ok(format!("GRANT {rights} ON SCHEMA {} TO {quoted}", quote_identifier(schema)?))
        }
        GrantTarget::Tables(schema) => on_each(TABLES, schema),
        GrantTarget::Sequences(schema) => on_each(SEQUENCES, schema),
        GrantTarget::Routines(schema) => on_each(ROUTINES, schema),
    }
}

/// Where the objects of one kind are listed.
struct Source {
    keyword: &'static str,
    catalog: &'static str,
    schema: &'static str,
    owner: &'static str,
    name: &'static str,
    only: &'static str,
}

const TABLES: Source = Source {
    keyword: "TABLE",
    catalog: "pg_class",
    schema: "relnamespace",
    owner: "relowner",
    name: "regclass",
    only: "o.relkind IN ('r', 'p', 'v', 'm', 'f')",
};
const SEQUENCES: Source = Source { keyword: "SEQUENCE", only: "o.relkind = 'S'", ..TABLES };
const ROUTINES: Source = Source {
    keyword: "ROUTINE",
    catalog: "pg_proc",
    schema: "pronamespace",
    owner: "proowner",
    name: "regprocedure",
    only: "true",
};

/// `GRANT … ON ALL TABLES IN SCHEMA` fails as a whole at the first table that the master may not grant on, and gives
/// away what extensions keep for themselves. So the server goes through those that it may.
fn grant_on_each(source: &Source, schema: &str, rights: &str, role: &RoleName) -> Result<String, DatabaseError> {
    let Source { keyword, catalog, schema: schema_column, owner, name, only } = source;
    let body = format!(
        "DECLARE item text; BEGIN \
         FOR item IN SELECT o.oid::{name}::text FROM {catalog} o JOIN pg_namespace n ON n.oid = o.{schema_column} \
         WHERE n.nspname = {schema} AND {only} AND pg_has_role(o.{owner}, 'USAGE') \
         AND NOT EXISTS (SELECT FROM pg_depend e \
         WHERE e.classid = '{catalog}'::regclass AND e.objid = o.oid AND e.deptype = 'e') \
         LOOP EXECUTE format('GRANT {rights} ON {keyword} %s TO %I', item, {role}); END LOOP; END",
        schema = quote_literal(schema)?,
        role = quote_literal(role.as_str())?,
    );
    Ok(format!("DO {}", quote_literal(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aurora_restore_domain::roles::Attribute;

    fn sql(change: RoleChange, major: u32) -> String {
        statement(&change, ServerVersion(major * 10_000)).unwrap().unwrap_or_default()
    }

    fn role(text: &str) -> RoleName {
        RoleName::try_from(text).unwrap()
    }

    #[test]
    fn changes_of_roles() {
        let lock = RoleChange::LockLogin { role: role("o'\"b"), comment: "it's locked".into() };
        assert_eq!(sql(lock, 15), "ALTER ROLE \"o'\"\"b\" NOLOGIN; COMMENT ON ROLE \"o'\"\"b\" IS 'it''s locked'");
        assert_eq!(sql(RoleChange::CreateRole { role: role("app") }, 15), "CREATE ROLE \"app\" LOGIN");
        let attributes = BTreeSet::from([Attribute::NoCreateRole, Attribute::Login]);
        let set = RoleChange::SetAttributes { role: role("app"), attributes };
        assert_eq!(sql(set, 15), "ALTER ROLE \"app\" LOGIN NOCREATEROLE");
        assert_eq!(sql(RoleChange::SetPassword { role: role("app") }, 15), "");
    }

    #[test]
    fn memberships_by_version() {
        let begin = RoleChange::GrantMembership { role: role("owner"), member: role("master") };
        assert_eq!(sql(begin.clone(), 15), "GRANT \"owner\" TO \"master\"");
        assert_eq!(sql(begin, 16), "GRANT \"owner\" TO \"master\" WITH INHERIT TRUE, SET TRUE");
        let end = |grantor| RoleChange::RevokeMembership { role: role("owner"), member: role("app"), grantor };
        assert_eq!(sql(end(None), 15), "REVOKE \"owner\" FROM \"app\"");
        assert_eq!(sql(end(Some(role("x"))), 16), "REVOKE \"owner\" FROM \"app\" GRANTED BY \"x\" CASCADE");
    }

    #[test]
    fn grants() {
        let grant = |target, privilege| RoleChange::Grant {
            database: "shop".into(),
            target,
            role: role("app"),
            privileges: BTreeSet::from([privilege]),
        };
        let made = sql(grant(GrantTarget::Schema("a \"b\"".into()), Privilege::Usage), 15);
        assert_eq!(made, "GRANT USAGE ON SCHEMA \"a \"\"b\"\"\" TO \"app\"");
        let made = sql(grant(GrantTarget::Tables("it's".into()), Privilege::Select), 15);
        assert!(
            made.starts_with("DO 'DECLARE item text; BEGIN FOR item IN SELECT o.oid::regclass::text FROM pg_class o")
        );
        assert!(made.contains("n.nspname = ''it''''s''"), "{made}");
        let later = RoleChange::GrantDefault {
            database: "shop".into(),
            owner: role("owner"),
            kind: ObjectKind::Schema,
            role: role("app"),
            privileges: BTreeSet::from([Privilege::Usage]),
        };
        let made = "ALTER DEFAULT PRIVILEGES FOR ROLE \"owner\" GRANT USAGE ON SCHEMAS TO \"app\"";
        assert_eq!(sql(later, 15), made);
    }
}
