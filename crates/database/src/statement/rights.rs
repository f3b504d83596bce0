//! Rights on objects: granted and revoked by the server itself, one object after the other.
//!
//! Who grants or revokes acts as the owner, or as any role whose rights it has and that may hand on the right: the
//! server picks the first that it finds, and a `REVOKE` that picked another role than the one that granted does nothing,
//! without a word. `GRANTED BY` (since PostgreSQL 14) takes nobody but the current user. So where there is a choice, the
//! master becomes the right role for one statement.

use crate::error::DatabaseError;
use crate::quote::quote_literal;
use aurora_restore_domain::roles::{Extent, GrantTarget, Privilege, RoleName, ServerVersion};
use std::collections::BTreeSet;

/// Nothing if a right goes as a whole.
pub(super) fn option_only(extent: Extent) -> &'static str {
    match extent {
        Extent::Right | Extent::Columns => "",
        Extent::GrantOption => "GRANT OPTION FOR ",
    }
}

/// Takes back what the master, or a role that it acts for, granted on the objects of others.
///
/// Somebody who granted a right in a schema that it may not enter any more cannot take it back: then the owner takes
/// its grant option, and with it what was handed on.
pub(super) fn revoke(
    target: &GrantTarget,
    role: Option<&RoleName>,
    extent: Extent,
    privileges: &BTreeSet<Privilege>,
    version: ServerVersion,
) -> Result<String, DatabaseError> {
    let (source, within) = Source::of(target);
    let Source { keyword, catalog, schema, owner, acl, name, .. } = source;
    let only = format!("{} AND {}", source.within(&quote_literal(within)?), source.only());
    let (grantee, from) = match role {
        Some(role) => {
            let name = quote_literal(role.as_str())?;
            (format!("(SELECT r.oid FROM pg_roles r WHERE r.rolname = {name})"), format!("quote_ident({name})"))
        }
        None => ("0".to_owned(), "'PUBLIC'".to_owned()),
    };
    let (columns, acl, all_acls, right) = match extent {
        Extent::Columns => (
            "JOIN pg_attribute c ON c.attrelid = o.oid AND NOT c.attisdropped",
            "c.attacl".to_owned(),
            format!("o.{acl} || c.attacl"),
            "format('%s (%I)', a.privilege_type, c.attname)",
        ),
        Extent::Right | Extent::GrantOption => ("", format!("o.{acl}"), format!("o.{acl}"), "a.privilege_type"),
    };
    let shut_out = match schema {
        Some(schema) => format!("a.grantor <> o.{owner} AND NOT has_schema_privilege(a.grantor, o.{schema}, 'USAGE')"),
        None => "false".to_owned(),
    };
    let types = privileges.iter().map(|privilege| quote_literal(privilege.as_str())).collect::<Result<Vec<_>, _>>()?;
    let option = option_only(extent);
    let body = format!(
        "DECLARE item record; BEGIN \
         FOR item IN SELECT {name} AS object, pg_get_userbyid(a.grantor)::text AS grantor, {shut_out} AS shut_out, \
         CASE WHEN {shut_out} THEN pg_get_userbyid(o.{owner})::text \
         WHEN a.grantor <> o.{owner} OR {rivals} THEN pg_get_userbyid(a.grantor)::text END AS actor, \
         string_agg(DISTINCT {right}, ', ') AS rights \
         FROM {catalog} o {columns} CROSS JOIN LATERAL aclexplode({acl}) a \
         WHERE {only} AND a.grantee = {grantee} AND a.grantee <> o.{owner} \
         AND a.privilege_type IN ({types}) {handed_on} AND {in_reach} \
         GROUP BY 1, 2, 3, 4 \
         LOOP IF item.shut_out THEN {through_owner} ELSE {directly} END IF; END LOOP; END",
        rivals = rivals(owner, &all_acls),
        types = types.join(", "),
        handed_on = if option.is_empty() { "" } else { "AND a.is_grantable" },
        in_reach = in_reach("a.grantor", version),
        through_owner = act(&format!(
            "format('REVOKE GRANT OPTION FOR %s ON {keyword} %s FROM %I CASCADE', \
             item.rights, item.object, item.grantor)"
        )),
        directly = act(&format!(
            "format('REVOKE {option}%s ON {keyword} %s FROM %s CASCADE', item.rights, item.object, {from})"
        )),
    );
    Ok(format!("DO {}", quote_literal(&body)?))
}

/// Executes a statement as `item.actor`, if there is one.
pub(super) fn act(statement: &str) -> String {
    format!(
        "PERFORM set_config('role', coalesce(item.actor, 'none'), true); EXECUTE {statement}; \
         PERFORM set_config('role', 'none', true);"
    )
}

/// Whether the master has, besides the owner's, the rights of a role that may hand on some right on `o`.
pub(super) fn rivals(owner: &str, acl: &str) -> String {
    format!(
        "EXISTS (SELECT FROM aclexplode({acl}) h \
         WHERE h.is_grantable AND h.grantee <> o.{owner} AND pg_has_role(h.grantee, 'USAGE'))"
    )
}

/// Whether the master has the rights of a role and may become it, which are two things since PostgreSQL 16.
pub(super) fn in_reach(role: &str, version: ServerVersion) -> String {
    let become_it = if version.major() >= 16 { format!(" AND pg_has_role({role}, 'SET')") } else { String::new() };
    format!("pg_has_role({role}, 'USAGE'){become_it}")
}

/// Where the objects of one kind are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) keyword: &'static str,
    pub(super) catalog: &'static str,
    /// The column with its schema, if it is in one.
    schema: Option<&'static str>,
    /// The column by which a schema has its objects, for a schema itself its own.
    namespace: Option<&'static str>,
    pub(super) owner: &'static str,
    pub(super) acl: &'static str,
    /// How a statement names the object `o`.
    pub(super) name: &'static str,
    only: &'static str,
}

impl Source {
    /// The source of a target's objects, and the schema: for a database none.
    pub(super) fn of(target: &GrantTarget) -> (Self, &str) {
        match target {
            GrantTarget::Database => (DATABASES, ""),
            GrantTarget::Schema(schema) => (SCHEMAS, schema),
            GrantTarget::Tables(schema) => (TABLES, schema),
            GrantTarget::Sequences(schema) => (SEQUENCES, schema),
            GrantTarget::Routines(schema) => (ROUTINES, schema),
        }
    }

    /// Whether an object, `o`, is of the schema that `schema` names.
    pub(super) fn within(&self, schema: &str) -> String {
        let Some(column) = self.namespace else { return "true".to_owned() };
        format!("o.{column} = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = {schema})")
    }

    /// Whether an object, `o`, is of this kind and no extension's.
    pub(super) fn only(&self) -> String {
        let Self { catalog, only, .. } = self;
        format!(
            "{only} AND NOT EXISTS (SELECT FROM pg_depend e \
             WHERE e.classid = '{catalog}'::regclass AND e.objid = o.oid AND e.deptype = 'e')"
        )
    }
}

const TABLES: Source = Source {
    keyword: "TABLE",
    catalog: "pg_class",
    schema: Some("relnamespace"),
    namespace: Some("relnamespace"),
    owner: "relowner",
    acl: "relacl",
    name: "o.oid::regclass::text",
    only: "o.relkind IN ('r', 'p', 'v', 'm', 'f')",
};
const SEQUENCES: Source = Source { keyword: "SEQUENCE", only: "o.relkind = 'S'", ..TABLES };
const ROUTINES: Source = Source {
    keyword: "ROUTINE",
    catalog: "pg_proc",
    schema: Some("pronamespace"),
    namespace: Some("pronamespace"),
    owner: "proowner",
    acl: "proacl",
    name: "o.oid::regprocedure::text",
    only: "true",
};

const SCHEMAS: Source = Source {
    keyword: "SCHEMA",
    catalog: "pg_namespace",
    schema: None,
    namespace: Some("oid"),
    owner: "nspowner",
    acl: "nspacl",
    name: "quote_ident(o.nspname)",
    only: "true",
};
const DATABASES: Source = Source {
    keyword: "DATABASE",
    catalog: "pg_database",
    schema: None,
    namespace: None,
    owner: "datdba",
    acl: "datacl",
    name: "quote_ident(o.datname)",
    only: "o.datname = current_database()",
};
