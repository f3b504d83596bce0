//! `users`: what declared users may do, and where, and how they log in.

use super::fields::Fields;
use crate::engine::Engine;
use crate::roles::{Access, Authentication, Grant, Limits, ObjectKind, Privilege, Profile, Scope};
use std::collections::{BTreeMap, BTreeSet};

const PROFILES: &str = "'read-write', 'read-only', 'devops' or 'custom'";
/// Most users, grants of one, and names in a list: more are a mistake, or belong into groups of schemas.
const USERS_MAX: usize = 50;
const GRANTS_MAX: usize = 50;
const NAMES_MAX: usize = 100;

/// What rights are granted on, as a request says it.
const KINDS: [(&str, ObjectKind); 5] = [
    ("databases", ObjectKind::Database),
    ("schemas", ObjectKind::Schema),
    ("tables", ObjectKind::Table),
    ("sequences", ObjectKind::Sequence),
    ("routines", ObjectKind::Routine),
];

pub(super) fn read(fields: &mut Fields<'_>) -> BTreeMap<String, Access> {
    let known = ["profile", "login", "databases", "schemas", "grants"];
    let users = fields.objects_by_key("users", &known).unwrap_or_default();
    if users.len() > USERS_MAX {
        fields.problem("users", &format!("{} users", users.len()), &format!("at most {USERS_MAX} users"));
    }
    let mut all = BTreeMap::new();
    for (key, mut user) in users {
        if key.is_empty() || key.len() > 64 || key.chars().any(char::is_control) {
            fields.problem(
                "users",
                &format!("'{}'", key.escape_debug()),
                "keys of the application secret, 1 to 64 bytes",
            );
        }
        if let Some(access) = access(&key, &mut user) {
            all.insert(key, access);
        }
        fields.absorb(user);
    }
    all
}

fn access(key: &str, user: &mut Fields<'_>) -> Option<Access> {
    let profile = profile(key, user);
    let limits = Limits { databases: databases(user), schemas: schemas(user) };
    let grants = grants(user, profile, &limits);
    let login = login(user);
    Some(Access { profile: profile?, login, grants, limits })
}

fn login(user: &mut Fields<'_>) -> Authentication {
    match user.text("login").as_deref() {
        None | Some("password") => Authentication::Password,
        Some("iam") => Authentication::Iam,
        Some(other) => {
            user.problem("login", other, "'password' or 'iam'");
            Authentication::Password
        }
    }
}

/// A key of the contract says what its user may do to whoever reads the secret; a request that said something else
/// would make it lie.
fn profile(key: &str, user: &mut Fields<'_>) -> Option<Profile> {
    let contract = Profile::for_key(key).ok();
    let Some(text) = user.text("profile") else {
        if contract.is_none() {
            user.problem_if_absent("profile", PROFILES);
        }
        return contract;
    };
    let asked = Profile::parse(&text);
    match (contract, asked) {
        (_, None) => user.problem("profile", &text, PROFILES),
        (Some(contract), Some(asked)) if contract != asked => {
            let takes =
                format!("'{}', which {key} stands for; declare a key of its own for other rights", contract.as_str());
            user.problem("profile", &text, &takes);
        }
        (_, Some(_)) => {}
    }
    asked
}

fn grants(user: &mut Fields<'_>, profile: Option<Profile>, limits: &Limits) -> Vec<Grant> {
    const TAKES: &str = "what a custom user may, as [{\"on\": \"tables\", \"privileges\": [\"select\"]}]";
    let is_custom = profile == Some(Profile::Custom);
    let Some(items) = user.objects("grants", &["on", "schemas", "databases", "tables", "privileges"]) else {
        if is_custom {
            user.problem_if_absent("grants", TAKES);
        }
        return vec![];
    };
    if !is_custom && profile.is_some() {
        user.problem("grants", &format!("{} entries", items.len()), "nothing but with profile 'custom'");
    } else if items.is_empty() || items.len() > GRANTS_MAX {
        user.problem("grants", &format!("{} entries", items.len()), &format!("1 to {GRANTS_MAX} entries: {TAKES}"));
    }
    let mut all = vec![];
    for mut item in items {
        all.extend(grant(&mut item, limits));
        user.absorb(item);
    }
    all
}

fn grant(item: &mut Fields<'_>, limits: &Limits) -> Option<Grant> {
    let kinds = KINDS.map(|(name, _)| format!("'{name}'")).join(", ");
    item.problem_if_absent("on", &kinds);
    let on = item.text("on").and_then(|text| {
        let kind = KINDS.into_iter().find(|(name, _)| *name == text).map(|(_, kind)| kind);
        if kind.is_none() {
            item.problem("on", &text, &kinds);
        }
        kind
    });
    let (schemas, databases) = (schemas(item), databases(item));
    // Which of these an engine has is held against it once it is known: `roles::unfit`.
    let tables = scope(item, "tables", |_| false);
    if on.is_some_and(|kind| kind != ObjectKind::Table) && item.has("tables") {
        item.problem("tables", "a list", "nothing but with 'tables'");
    }
    if on == Some(ObjectKind::Database) && item.has("schemas") {
        item.problem("schemas", "a list", "nothing with 'databases', which are no part of a schema");
    }
    for (field, names, limit) in [("schemas", &schemas, &limits.schemas), ("databases", &databases, &limits.databases)]
    {
        for name in names.names().into_iter().flatten().filter(|name| !limit.covers(name)) {
            item.problem(field, name, &format!("{field} that the user's own '{field}' hold"));
        }
    }
    let privileges = privileges(item, on?);
    Some(Grant { on: on?, schemas, databases, tables, privileges })
}

fn privileges(item: &mut Fields<'_>, kind: ObjectKind) -> BTreeSet<Privilege> {
    let name = |privilege: &Privilege| format!("'{}'", privilege.as_str().to_lowercase());
    let of_mysql = kind.privileges_of(Engine::MySql).iter().filter(|privilege| !kind.privileges().contains(privilege));
    let of_kind: Vec<Privilege> = kind.privileges().iter().chain(of_mysql).copied().collect();
    let takes = of_kind.iter().map(name).collect::<Vec<_>>().join(", ");
    item.problem_if_absent("privileges", &takes);
    let texts = item.texts("privileges");
    if texts.as_ref().is_some_and(Vec::is_empty) {
        item.problem("privileges", "[]", &takes);
    }
    let mut all = BTreeSet::new();
    for text in texts.unwrap_or_default() {
        let known = Privilege::parse(&text.to_uppercase()).filter(|privilege| of_kind.contains(privilege));
        if known.is_none() {
            item.problem("privileges", &text, &takes);
        }
        all.extend(known);
    }
    all
}

fn databases(fields: &mut Fields<'_>) -> Scope {
    scope(fields, "databases", |name| ["rdsadmin", "template0", "template1"].contains(&name))
}

fn schemas(fields: &mut Fields<'_>) -> Scope {
    scope(fields, "schemas", |name| name.starts_with("pg_") || name == "information_schema")
}

fn scope(fields: &mut Fields<'_>, field: &str, is_systems: impl Fn(&str) -> bool) -> Scope {
    let Some(names) = fields.texts(field) else { return Scope::ALL };
    if names.is_empty() || names.len() > NAMES_MAX {
        let takes = format!("1 to {NAMES_MAX} names, or no such field for all of them");
        fields.problem(field, &format!("{} names", names.len()), &takes);
    }
    for name in &names {
        if name.is_empty() || name.len() > 63 || name.contains('\0') {
            fields.problem(field, &format!("'{}'", name.escape_debug()), "names of 1 to 63 bytes, without NUL");
        } else if is_systems(name) {
            fields.problem(field, name, "names of your own; the system's are nobody's to use");
        }
    }
    Scope::only(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read_users(users: Value) -> Result<BTreeMap<String, Access>, String> {
        let input = json!({ "users": users });
        let mut fields = Fields::new(&input, &["users"]);
        let users = read(&mut fields);
        let words =
            |problems: Vec<crate::request::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        fields.finish().map(|()| users).map_err(|problems| words(problems).join("\n"))
    }

    fn only(names: &[&str]) -> Scope {
        Scope::only(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn users_with_limits_and_grants() {
        let users = read_users(json!({
            "reporting": {"profile": "read-only", "databases": ["app"], "schemas": ["public", "reports"]},
            "loader": {"profile": "custom", "grants": [
                {"on": "tables", "schemas": ["staging"], "privileges": ["select", "INSERT"]},
                {"on": "sequences", "privileges": ["usage"]},
            ]},
            "application_user": {"databases": ["app"]},
            "readonly_user": {"profile": "read-only", "login": "iam"},
            "devops_user": {"login": "password"},
        }))
        .unwrap();
        let limits = Limits { databases: only(&["app"]), schemas: only(&["public", "reports"]) };
        let login = Authentication::Password;
        assert_eq!(users["reporting"], Access { profile: Profile::ReadOnly, login, grants: vec![], limits });
        let loader = &users["loader"];
        assert_eq!((loader.profile, loader.limits.is_none(), loader.grants.len()), (Profile::Custom, true, 2));
        let first = Grant {
            on: ObjectKind::Table,
            schemas: only(&["staging"]),
            databases: Scope::ALL,
            tables: Scope::ALL,
            privileges: BTreeSet::from([Privilege::Select, Privilege::Insert]),
        };
        assert_eq!(loader.grants[0], first);
        assert!(loader.grants[1].schemas.is_all());
        let keeper = read_users(json!({"keeper": {"profile": "custom", "databases": ["shop", "log"], "grants": [
            {"on": "tables", "databases": ["shop"], "tables": ["orders"], "privileges": ["select", "show view"]},
            {"on": "databases", "privileges": ["LOCK TABLES"]},
        ]}}))
        .unwrap()
        .remove("keeper")
        .unwrap();
        assert_eq!((&keeper.grants[0].databases, &keeper.grants[0].tables), (&only(&["shop"]), &only(&["orders"])));
        assert_eq!(keeper.grants[1].privileges, BTreeSet::from([Privilege::LockTables]));
        let app = Access {
            profile: Profile::ReadWrite,
            login,
            grants: vec![],
            limits: Limits { databases: only(&["app"]), schemas: Scope::ALL },
        };
        assert_eq!(users["application_user"], app);
        let (reader, devops) = (&users["readonly_user"], &users["devops_user"]);
        assert_eq!((reader.profile, reader.login), (Profile::ReadOnly, Authentication::Iam));
        assert_eq!((devops.profile, devops.login), (Profile::Devops, Authentication::Password));
        assert_eq!(read_users(Value::Null), Ok(BTreeMap::new()));
    }

    #[test]
    fn every_problem_is_named_with_its_user_and_field() {
        let grants = |grants: Value| json!({"x": {"profile": "custom", "grants": grants}});
        for (users, wanted) in [
            (json!([]), "users: got []; takes an object of objects"),
            (json!({"x": null}), "users.x: got null; takes a JSON object"),
            (json!({"": {"profile": "devops"}}), "users: got ''; takes keys of the application secret"),
            (json!({"x": {}}), "users.x.profile: needs 'read-write', 'read-only', 'devops' or 'custom'"),
            (json!({"x": {"profile": "superuser"}}), "users.x.profile: got superuser; takes 'read-write'"),
            (
                json!({"x": {"profile": "devops", "login": "token"}}),
                "users.x.login: got token; takes 'password' or 'iam'",
            ),
            (json!({"x": {"profile": "devops", "login": true}}), "users.x.login: got true; takes a text"),
            (
                json!({"x": {"profil": "devops"}}),
                "users.x.profil: got \"devops\"; takes no such field; did you mean 'profile'?",
            ),
            (
                json!({"readonly_user": {"profile": "read-write"}}),
                "users.readonly_user.profile: got read-write; takes 'read-only', which readonly_user stands for",
            ),
            (
                json!({"x": {"profile": "devops", "databases": []}}),
                "users.x.databases: got 0 names; takes 1 to 100 names",
            ),
            (
                json!({"x": {"profile": "devops", "databases": "app"}}),
                "users.x.databases: got \"app\"; takes a list of texts",
            ),
            (
                json!({"x": {"profile": "devops", "databases": ["rdsadmin"]}}),
                "users.x.databases: got rdsadmin; takes names of your own",
            ),
            (json!({"x": {"profile": "devops", "schemas": ["pg_catalog"]}}), "users.x.schemas: got pg_catalog"),
            (
                json!({"x": {"profile": "devops", "schemas": ["a\u{0}"]}}),
                "users.x.schemas: got 'a\\0'; takes names of 1 to 63 bytes",
            ),
            (
                json!({"x": {"profile": "devops", "grants": []}}),
                "users.x.grants: got 0 entries; takes nothing but with profile 'custom'",
            ),
            (json!({"x": {"profile": "custom"}}), "users.x.grants: needs what a custom user may"),
            (grants(json!([])), "users.x.grants: got 0 entries; takes 1 to 50"),
            (grants(json!([{"privileges": ["select"]}])), "users.x.grants[0].on: needs 'databases', 'schemas'"),
            (grants(json!([{"on": "roles", "privileges": ["select"]}])), "users.x.grants[0].on: got roles"),
            (grants(json!([{"on": "tables"}])), "users.x.grants[0].privileges: needs 'select', 'insert'"),
            (grants(json!([{"on": "tables", "privileges": []}])), "users.x.grants[0].privileges: got []"),
            (
                grants(json!([{"on": "tables", "privileges": ["superuser"]}])),
                "users.x.grants[0].privileges: got superuser",
            ),
            (grants(json!([{"on": "tables", "privileges": ["all"]}])), "users.x.grants[0].privileges: got all"),
            (
                grants(json!([{"on": "routines", "privileges": ["select"]}])),
                "users.x.grants[0].privileges: got select; takes 'execute'",
            ),
            (
                grants(json!([{"on": "databases", "schemas": ["a"], "privileges": ["temporary"]}])),
                "users.x.grants[0].schemas: got a list; takes nothing with 'databases'",
            ),
            (
                json!({"x": {"profile": "custom", "schemas": ["a"], "grants": [{"on": "tables", "schemas": ["b"], "privileges": ["select"]}]}}),
                "users.x.grants[0].schemas: got b; takes schemas that the user's own 'schemas' hold",
            ),
            (
                json!({"x": {"profile": "custom", "databases": ["a"], "grants": [{"on": "tables", "databases": ["b"], "privileges": ["select"]}]}}),
                "users.x.grants[0].databases: got b; takes databases that the user's own 'databases' hold",
            ),
            (
                grants(json!([{"on": "routines", "tables": ["t"], "privileges": ["execute"]}])),
                "users.x.grants[0].tables: got a list; takes nothing but with 'tables'",
            ),
        ] {
            let told = read_users(users.clone()).unwrap_err();
            assert!(told.contains(wanted), "{users}: {wanted:?} is missing in\n{told}");
        }
        let both = read_users(json!({"a": {}, "b": {"profile": "custom", "grants": [{"on": "x"}]}})).unwrap_err();
        assert_eq!(both.lines().count(), 2, "{both}");
        let many: serde_json::Map<String, Value> =
            (0..51).map(|n| (n.to_string(), json!({"profile": "devops"}))).collect();
        assert!(read_users(Value::Object(many)).unwrap_err().contains("users: got 51 users; takes at most 50"));
    }
}
