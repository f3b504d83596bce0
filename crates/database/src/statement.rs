//! Each change as SQL.

mod grants;
mod rights;

use crate::error::DatabaseError;
use crate::quote::{quote_identifier, quote_literal};
use aurora_restore_domain::roles::{ObjectKind, Privilege, RoleChange, RoleName, ServerVersion};
use grants::grant;
pub(crate) use grants::statements;
use rights::{option_only, revoke};
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
        // Whatever password is set afterwards, by the role itself too, is as good as none. A date that every client can read.
        RoleChange::RemovePassword { role } => {
            format!("ALTER ROLE {} PASSWORD NULL VALID UNTIL 'epoch'", quote(role)?)
        }
        RoleChange::ActFor { role, .. } => {
            format!("GRANT {} TO CURRENT_USER{}", quote(role)?, with_all(version))
        }
        RoleChange::CreateRole { role } => format!("CREATE ROLE {} LOGIN", quote(role)?),
        RoleChange::SetAttributes { role, attributes } => {
            let attributes: Vec<_> = attributes.iter().map(|attribute| attribute.as_sql()).collect();
            format!("ALTER ROLE {} {}", quote(role)?, attributes.join(" "))
        }
        RoleChange::GrantMembership { role, member } => {
            format!("GRANT {} TO {}{}", quote(role)?, quote(member)?, with_all(version))
        }
        RoleChange::Revoke { target, role, extent, privileges, .. } => {
            revoke(target, role.as_ref(), *extent, privileges, version)?
        }
        RoleChange::RevokeDefault { owner, schema, kind, role, extent, privileges, .. } => {
            let (owner, role, privileges) = (quote(owner)?, quote(role)?, list(privileges));
            let (within, option) = (in_schema(schema.as_deref())?, option_only(*extent));
            let kind = default_kind(*kind)?;
            let what = format!("{option}{privileges} ON {kind} FROM {role}");
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}{within} REVOKE {what} CASCADE")
        }
        RoleChange::Grant { target, role, privileges, .. } => grant(target, role, privileges, version)?,
        RoleChange::GrantDefault { owner, schema, kind, role, privileges, .. } => {
            let (owner, role, privileges) = (quote(owner)?, quote(role)?, list(privileges));
            let (within, kind) = (in_schema(schema.as_deref())?, default_kind(*kind)?);
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}{within} GRANT {privileges} ON {kind} TO {role}")
        }
    }))
}

/// Since PostgreSQL 16 a membership may be without its rights; the words are unknown to older servers.
fn with_all(version: ServerVersion) -> &'static str {
    if version.major() >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" }
}

fn in_schema(schema: Option<&str>) -> Result<String, DatabaseError> {
    Ok(match schema {
        Some(schema) => format!(" IN SCHEMA {}", quote_identifier(schema)?),
        None => String::new(),
    })
}

fn quote(role: &RoleName) -> Result<String, DatabaseError> {
    quote_identifier(role.as_str())
}

pub(super) fn list(privileges: &BTreeSet<Privilege>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use aurora_restore_domain::roles::{Attribute, Extent, GrantTarget};

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
        let remove = RoleChange::RemovePassword { role: role("a\"b") };
        assert_eq!(sql(remove, 15), "ALTER ROLE \"a\"\"b\" PASSWORD NULL VALID UNTIL 'epoch'");
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
        let wanted = "(VALUES (''a \"b\"'', ''USAGE'', ''\"app\"''))";
        assert!(made.contains(wanted) && made.contains("''GRANT %s ON SCHEMA %s TO %s''"), "{made}");
        let made = sql(grant(GrantTarget::Tables("it's".into()), Privilege::Select), 15);
        assert!(made.contains("(VALUES (''it''''s'', ''SELECT'', ''\"app\"''))"), "{made}");
        let later = |schema: Option<&str>, kind, privilege| RoleChange::GrantDefault {
            database: "shop".into(),
            owner: role("owner"),
            schema: schema.map(str::to_owned),
            kind,
            role: role("app"),
            privileges: BTreeSet::from([privilege]),
        };
        let made = "ALTER DEFAULT PRIVILEGES FOR ROLE \"owner\" GRANT USAGE ON SCHEMAS TO \"app\"";
        assert_eq!(sql(later(None, ObjectKind::Schema, Privilege::Usage), 15), made);
        let made = "ALTER DEFAULT PRIVILEGES FOR ROLE \"owner\" IN SCHEMA \"a\"\"b\" GRANT SELECT ON TABLES TO \"app\"";
        assert_eq!(sql(later(Some("a\"b"), ObjectKind::Table, Privilege::Select), 15), made);
    }

    #[test]
    fn revokes() {
        let revoke = |target, role, extent| RoleChange::Revoke {
            database: "shop".into(),
            target,
            role,
            extent,
            privileges: BTreeSet::from([Privilege::Update, Privilege::Truncate]),
        };
        let made = sql(revoke(GrantTarget::Tables("it's".into()), Some(role("o'\"b")), Extent::Right), 15);
        for part in ["nspname = ''it''''s''", "rolname = ''o''''\"b''", "IN (''UPDATE'', ''TRUNCATE'')"] {
            assert!(made.contains(part), "{part}: {made}");
        }
        let made = sql(revoke(GrantTarget::Schema("public".into()), None, Extent::Right), 15);
        assert!(made.contains("a.grantee = 0 ") && made.contains("''PUBLIC''"), "{made}");
        let made = sql(revoke(GrantTarget::Database, Some(role("app")), Extent::GrantOption), 15);
        assert!(
            made.contains("AND a.is_grantable") && made.contains("REVOKE GRANT OPTION FOR %s ON DATABASE"),
            "{made}"
        );
        let later = |schema: Option<&str>, extent| RoleChange::RevokeDefault {
            database: "shop".into(),
            owner: role("owner"),
            schema: schema.map(str::to_owned),
            kind: ObjectKind::Table,
            role: role("app"),
            extent,
            privileges: BTreeSet::from([Privilege::Truncate]),
        };
        assert_eq!(
            sql(later(None, Extent::Right), 15),
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"owner\" REVOKE TRUNCATE ON TABLES FROM \"app\" CASCADE"
        );
        assert_eq!(
            sql(later(Some("a\"b"), Extent::GrantOption), 15),
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"owner\" IN SCHEMA \"a\"\"b\" \
             REVOKE GRANT OPTION FOR TRUNCATE ON TABLES FROM \"app\" CASCADE"
        );
    }
}
