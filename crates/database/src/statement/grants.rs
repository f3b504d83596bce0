//! Rights on the objects in schemas: many changes in few statements, each of which looks at a catalog once.
//!
//! A server of 40 schemas with three users has hundreds of such changes for each database. One statement for each would
//! search the whole catalog hundreds of times, and rewrite each table's entry for each user.

use super::rights::{Source, act, in_reach, rivals};
use super::{list, quote, statement};
use crate::error::DatabaseError;
use crate::quote::quote_literal;
use aurora_restore_domain::roles::{GrantTarget, Privilege, RoleChange, RoleName, ServerVersion};
use std::collections::{BTreeMap, BTreeSet};

/// The statements that make `changes` of one database, in their order; grants on objects of one kind that follow each other
/// are one. Who is acted for is not any more at the end.
pub(crate) fn statements(changes: &[RoleChange], version: ServerVersion) -> Result<Vec<String>, DatabaseError> {
    let mut statements = vec![];
    let mut gathered: Option<Grants> = None;
    for change in changes {
        if let RoleChange::Grant { target, role, privileges, .. } = change {
            let (source, schema) = Source::of(target);
            if gathered.as_ref().is_some_and(|grants| grants.source != source) {
                statements.extend(gathered.take().map(|grants| grants.sql(version)).transpose()?);
            }
            let grants = gathered.get_or_insert(Grants { source, wanted: BTreeMap::new() });
            grants.wanted.entry((schema, privileges)).or_default().push(role);
        } else {
            statements.extend(gathered.take().map(|grants| grants.sql(version)).transpose()?);
            statements.extend(statement(change, version)?);
        }
    }
    statements.extend(gathered.map(|grants| grants.sql(version)).transpose()?);
    for change in changes {
        if let RoleChange::ActFor { role, .. } = change {
            statements.push(format!("REVOKE {} FROM CURRENT_USER", quote(role)?));
        }
    }
    Ok(statements)
}

/// One grant alone.
pub(super) fn grant(
    target: &GrantTarget,
    role: &RoleName,
    privileges: &BTreeSet<Privilege>,
    version: ServerVersion,
) -> Result<String, DatabaseError> {
    let (source, schema) = Source::of(target);
    Grants { source, wanted: BTreeMap::from([((schema, privileges), vec![role])]) }.sql(version)
}

/// Grants on the objects of one kind.
struct Grants<'a> {
    source: Source,
    /// Who gets these rights on the objects of this schema, which is empty for a database.
    wanted: BTreeMap<(&'a str, &'a BTreeSet<Privilege>), Vec<&'a RoleName>>,
}

impl Grants<'_> {
    /// `GRANT … ON ALL TABLES IN SCHEMA` fails as a whole at the first table that the master may not grant on, and gives
    /// away what extensions keep for themselves. So the server lists those that it may.
    fn sql(self, version: ServerVersion) -> Result<String, DatabaseError> {
        let Source { keyword, catalog, owner, acl, name, .. } = self.source;
        let mut wanted = vec![];
        for ((schema, privileges), roles) in self.wanted {
            let roles = roles.into_iter().map(quote).collect::<Result<Vec<_>, _>>()?;
            let (schema, roles) = (quote_literal(schema)?, quote_literal(&roles.join(", "))?);
            wanted.push(format!("({schema}, {}, {roles})", quote_literal(&list(privileges))?));
        }
        let body = format!(
            "DECLARE item record; BEGIN \
             FOR item IN SELECT w.rights, w.roles, CASE WHEN {rivals} THEN pg_get_userbyid(o.{owner})::text END AS actor, \
             string_agg({name}, ', ') AS objects \
             FROM (VALUES {wanted}) AS w (schema, rights, roles) JOIN {catalog} o ON {within} \
             WHERE {only} AND {in_reach} GROUP BY w.schema, 1, 2, 3 \
             LOOP {act} END LOOP; END",
            rivals = rivals(owner, &format!("o.{acl}")),
            wanted = wanted.join(", "),
            within = self.source.within("w.schema::name"),
            only = self.source.only(),
            in_reach = in_reach(&format!("o.{owner}"), version),
            act = act(&format!("format('GRANT %s ON {keyword} %s TO %s', item.rights, item.objects, item.roles)")),
        );
        Ok(format!("DO {}", quote_literal(&body)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(target: GrantTarget, role: &str, privilege: Privilege) -> RoleChange {
        let (role, privileges) = (RoleName::try_from(role).unwrap(), BTreeSet::from([privilege]));
        RoleChange::Grant { database: "shop".into(), target, role, privileges }
    }

    #[test]
    fn few_statements_in_order() {
        let tables = |schema: &str| GrantTarget::Tables(schema.into());
        let changes = [
            grant(GrantTarget::Schema("a".into()), "app", Privilege::Usage),
            grant(tables("a"), "app", Privilege::Select),
            grant(tables("a"), "o'\"b", Privilege::Select),
            grant(tables("b"), "app", Privilege::Insert),
            grant(GrantTarget::Sequences("a".into()), "app", Privilege::Usage),
        ];
        let made = statements(&changes, ServerVersion(150_000)).unwrap();
        assert_eq!(made.len(), 3, "{made:?}");
        assert!(made[0].contains("(''a'', ''USAGE'', ''\"app\"'')") && made[0].contains("ON SCHEMA"), "{}", made[0]);
        let wanted = "(''a'', ''SELECT'', ''\"app\", \"o''''\"\"b\"''), (''b'', ''INSERT'', ''\"app\"'')";
        assert!(made[1].contains(wanted) && made[1].contains("ON TABLE"), "{}", made[1]);
        assert!(made[2].contains("(''a'', ''USAGE'', ''\"app\"'')") && made[2].contains("ON SEQUENCE"), "{}", made[2]);
    }

    #[test]
    fn who_is_acted_for_is_so_for_as_long_as_the_changes_take() {
        let tables = grant(GrantTarget::Tables("a".into()), "app", Privilege::Select);
        let act = RoleChange::ActFor { database: "shop".into(), role: RoleName::try_from("o\"w").unwrap() };
        let made = statements(&[act.clone(), tables.clone()], ServerVersion(150_000)).unwrap();
        assert_eq!(made.len(), 3, "{made:?}");
        assert_eq!(
            (made[0].as_str(), made[2].as_str()),
            ("GRANT \"o\"\"w\" TO CURRENT_USER", "REVOKE \"o\"\"w\" FROM CURRENT_USER")
        );
        let made = statements(&[act, tables], ServerVersion(160_000)).unwrap();
        assert_eq!(made[0], "GRANT \"o\"\"w\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE");
    }

    #[test]
    fn other_changes_keep_their_place() {
        let tables = |schema: &str| grant(GrantTarget::Tables(schema.into()), "app", Privilege::Select);
        let between = RoleChange::CreateRole { role: RoleName::try_from("b").unwrap() };
        let made = statements(&[tables("a"), between, tables("b")], ServerVersion(150_000)).unwrap();
        assert_eq!(made.len(), 3, "{made:?}");
        assert_eq!(made[1], "CREATE ROLE \"b\" LOGIN");
    }
}
