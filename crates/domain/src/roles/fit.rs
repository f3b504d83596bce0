//! What a request says of users, held against the engine that is restored: nobody knows it when the request is read.

use super::{Access, Grant, ObjectKind, Scope};
use crate::accounts::SYSTEM_DATABASES;
use crate::engine::Engine;
use std::collections::BTreeMap;

/// Everything that makes no sense for users of this engine, by field.
pub fn unfit(users: &BTreeMap<String, Access>, engine: Engine) -> Vec<String> {
    users.iter().flat_map(|(key, access)| of_user(&format!("users.{key}"), access, engine)).collect()
}

fn of_user(user: &str, access: &Access, engine: Engine) -> Vec<String> {
    let mut problems = vec![];
    if engine == Engine::MySql {
        problems.extend(named(user, "schemas", &access.limits.schemas, SCHEMAS_OF_MYSQL));
        problems.extend(systems(user, &access.limits.databases));
    }
    for (position, grant) in access.grants.iter().enumerate() {
        let field = format!("{user}.grants[{position}]");
        match engine {
            Engine::PostgreSql => {
                let databases = "nothing for Aurora PostgreSQL, where the user's own 'databases' say so";
                problems.extend(named(&field, "databases", &grant.databases, databases));
                let tables = "nothing for Aurora PostgreSQL, where a right is one on all tables of a schema";
                problems.extend(named(&field, "tables", &grant.tables, tables));
            }
            Engine::MySql => {
                problems.extend(named(&field, "schemas", &grant.schemas, SCHEMAS_OF_MYSQL));
                problems.extend(systems(&field, &grant.databases));
            }
        }
        problems.extend(of_rights(&field, grant, engine));
    }
    problems
}

const SCHEMAS_OF_MYSQL: &str = "nothing for Aurora MySQL, whose schemas are its databases; name them in 'databases'";

fn named(path: &str, field: &str, scope: &Scope, takes: &str) -> Option<String> {
    let names = scope.names()?.iter().cloned().collect::<Vec<_>>().join(", ");
    Some(format!("{path}.{field}: got {names}; takes {takes}"))
}

fn systems(path: &str, scope: &Scope) -> Vec<String> {
    let names = scope.names().into_iter().flatten().filter(|name| SYSTEM_DATABASES.contains(&name.as_str()));
    names.map(|name| format!("{path}.databases: got {name}; takes names of your own")).collect()
}

fn of_rights(field: &str, grant: &Grant, engine: Engine) -> Vec<String> {
    let of_kind = grant.on.privileges_of(engine);
    let quoted = |names: Vec<String>| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if of_kind.is_empty() {
        let kinds = ObjectKind::ALL.into_iter().filter(|kind| !kind.privileges_of(engine).is_empty());
        let kinds = quoted(kinds.map(|kind| format!("{}s", kind.as_str())).collect());
        return vec![format!(
            "{field}.on: got {}s; takes {kinds} for {engine}",
            grant.on.as_str(),
            engine = words(engine)
        )];
    }
    let takes = quoted(of_kind.iter().map(|privilege| privilege.as_str().to_lowercase()).collect());
    let unknown = grant.privileges.iter().filter(|privilege| !of_kind.contains(privilege));
    unknown
        .map(|privilege| {
            let got = privilege.as_str().to_lowercase();
            format!("{field}.privileges: got {got}; takes {takes} on {}s of {}", grant.on.as_str(), words(engine))
        })
        .collect()
}

fn words(engine: Engine) -> &'static str {
    match engine {
        Engine::PostgreSql => "Aurora PostgreSQL",
        Engine::MySql => "Aurora MySQL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::{Authentication, Limits, Privilege, Profile};
    use std::collections::BTreeSet;

    fn only(name: &str) -> Scope {
        Scope::only([name.to_owned()])
    }

    fn grant(on: ObjectKind, privilege: Privilege) -> Grant {
        let all = || Scope::ALL;
        Grant { on, schemas: all(), databases: all(), tables: all(), privileges: BTreeSet::from([privilege]) }
    }

    fn told(limits: Limits, grant: Grant, engine: Engine) -> String {
        let access = Access { profile: Profile::Custom, login: Authentication::Password, grants: vec![grant], limits };
        unfit(&BTreeMap::from([("x".to_owned(), access)]), engine).join("\n")
    }

    #[test]
    fn tokens_are_for_both() {
        let (login, limits) = (Authentication::Iam, Limits::default());
        let by_token = Access { profile: Profile::ReadOnly, login, grants: vec![], limits };
        let of = |engine| unfit(&BTreeMap::from([("x".to_owned(), by_token.clone())]), engine);
        assert_eq!(Engine::ALL.map(of), [[""; 0]; 2]);
    }

    #[test]
    fn what_each_engine_takes() {
        let select = || grant(ObjectKind::Table, Privilege::Select);
        let named = || Grant { databases: only("shop"), tables: only("orders"), ..select() };
        let none = Limits::default;
        let databases = |name| Limits { databases: only(name), ..none() };
        let schemas = || Limits { schemas: only("a"), ..none() };
        use Engine::{MySql, PostgreSql};
        for (limits, grant, engine, words) in [
            (databases("shop"), named(), MySql, ""),
            (databases("shop"), Grant { schemas: only("a"), ..select() }, PostgreSql, ""),
            (schemas(), select(), PostgreSql, ""),
            (none(), grant(ObjectKind::Database, Privilege::LockTables), MySql, ""),
            (none(), grant(ObjectKind::Routine, Privilege::Execute), MySql, ""),
            (none(), named(), PostgreSql, "users.x.grants[0].databases: got shop; takes nothing for Aurora PostgreSQL"),
            (none(), named(), PostgreSql, "users.x.grants[0].tables: got orders; takes nothing for Aurora PostgreSQL"),
            (
                schemas(),
                select(),
                MySql,
                "users.x.schemas: got a; takes nothing for Aurora MySQL, whose schemas are its databases",
            ),
            (
                none(),
                Grant { schemas: only("a"), ..select() },
                MySql,
                "users.x.grants[0].schemas: got a; takes nothing",
            ),
            (databases("mysql"), select(), MySql, "users.x.databases: got mysql; takes names of your own"),
            (none(), Grant { databases: only("sys"), ..select() }, MySql, "users.x.grants[0].databases: got sys"),
            (
                none(),
                grant(ObjectKind::Sequence, Privilege::Usage),
                MySql,
                "users.x.grants[0].on: got sequences; takes 'databases', 'tables', 'routines' for Aurora MySQL",
            ),
            (
                none(),
                grant(ObjectKind::Table, Privilege::Truncate),
                MySql,
                "users.x.grants[0].privileges: got truncate; takes 'select', 'insert', 'update', 'delete', 'create', 'alter', ",
            ),
            (
                none(),
                grant(ObjectKind::Routine, Privilege::AlterRoutine),
                PostgreSql,
                "users.x.grants[0].privileges: got alter routine; takes 'execute' on routines of Aurora PostgreSQL",
            ),
        ] {
            let told = told(limits, grant, engine);
            assert!(told.contains(words) && told.is_empty() == words.is_empty(), "{words:?} is missing in {told:?}");
        }
    }
}
