//! Users with limits and users with rights of their own.

use super::super::super::{Access, Authentication, Grant, Limits, Profile, Scope, missing_places};
use super::*;

fn only(names: &[&str]) -> Scope {
    Scope::only(names.iter().map(|name| (*name).to_owned()))
}

fn user(key: &str, profile: Profile, limits: Limits, grants: Vec<Grant>) -> DeclaredUser {
    DeclaredUser::new(key, key, Access { profile, login: Authentication::Password, grants, limits }).unwrap()
}

fn grant_on(on: ObjectKind, schemas: Scope) -> Grant {
    Grant { on, schemas, databases: Scope::ALL, tables: Scope::ALL, privileges: BTreeSet::new() }
}

fn limited(profile: Profile, databases: Scope, schemas: Scope) -> DeclaredUser {
    user("limited", profile, Limits { databases, schemas }, vec![])
}

fn loader(schemas: Scope) -> DeclaredUser {
    let grant = |on, schemas, privileges: &[Privilege]| Grant {
        privileges: privileges.iter().copied().collect(),
        ..grant_on(on, schemas)
    };
    let grants = vec![
        grant(ObjectKind::Table, only(&["staging"]), &[Privilege::Select, Privilege::Insert]),
        grant(ObjectKind::Table, only(&["log"]), &[Privilege::Insert]),
        grant(ObjectKind::Database, Scope::ALL, &[Privilege::Temporary]),
    ];
    user("loader", Profile::Custom, Limits { databases: Scope::ALL, schemas }, grants)
}

fn desired(users: &[&DeclaredUser]) -> Desired {
    let users = users.iter().map(|user| (*user).clone()).collect();
    Desired::new(&name("master"), users, InheritedLogins::Lock, BTreeSet::new()).unwrap()
}

#[test]
fn a_custom_user_has_what_it_names_and_what_that_takes() {
    let rights = |user: &DeclaredUser, kind| user.rights(kind).into_iter().collect::<Vec<_>>();
    let user = loader(Scope::ALL);
    let all = |privilege| (privilege, Scope::ALL);
    assert_eq!(rights(&user, ObjectKind::Database), [all(Privilege::Connect), all(Privilege::Temporary)]);
    assert_eq!(rights(&user, ObjectKind::Schema), [(Privilege::Usage, only(&["log", "staging"]))]);
    assert_eq!(
        rights(&user, ObjectKind::Table),
        [(Privilege::Select, only(&["staging"])), (Privilege::Insert, only(&["log", "staging"]))]
    );
    assert_eq!(rights(&user, ObjectKind::Routine), []);
    assert_eq!(user.reads(), Some(only(&["staging"])));
    assert!(user.writes() && !user.makes_objects() && user.is_narrow());
    let usage = Grant { privileges: BTreeSet::from([Privilege::Execute]), ..grant_on(ObjectKind::Routine, Scope::ALL) };
    let caller = self::user("c", Profile::Custom, Limits { schemas: only(&["a"]), ..Limits::default() }, vec![usage]);
    assert_eq!(rights(&caller, ObjectKind::Routine), [(Privilege::Execute, only(&["a"]))], "its own limit");
    assert_eq!(rights(&caller, ObjectKind::Schema), [(Privilege::Usage, only(&["a"]))]);
    assert!(!caller.writes() && caller.reads().is_none());
    let create =
        Grant { privileges: BTreeSet::from([Privilege::Create]), ..grant_on(ObjectKind::Database, Scope::ALL) };
    assert!(self::user("m", Profile::Custom, Limits::default(), vec![create]).makes_objects());
}

#[test]
fn a_profile_with_limits_ends_at_them() {
    let user = limited(Profile::ReadOnly, only(&["shop"]), only(&["public"]));
    let tables = |schema: &str| GrantTarget::Tables(schema.into());
    assert!(user.may(Privilege::Select, &tables("public"), "shop"));
    assert!(
        !user.may(Privilege::Select, &tables("sales"), "shop") && !user.may(Privilege::Select, &tables("public"), "x")
    );
    assert!(user.may(Privilege::Connect, &GrantTarget::Database, "shop"));
    assert!(!user.may(Privilege::Connect, &GrantTarget::Database, "x"));
    assert!(!user.may(Privilege::Insert, &tables("public"), "shop"));
    assert!(user.is_narrow() && !limited(Profile::Devops, Scope::ALL, Scope::ALL).is_narrow());
}

#[test]
fn what_is_made_later_is_granted_by_schema() {
    let desired = desired(&[&limited(Profile::ReadOnly, Scope::ALL, only(&["a", "b"]))]);
    let mut seen = server(&[("limited", "login works"), ("owner", "mine")], &[]);
    let later = |schema: &str| MissingDefault {
        owner: name("owner"),
        schema: Some(schema.into()),
        role: name("limited"),
        kind: ObjectKind::Table,
        privilege: Privilege::Select,
    };
    seen.databases = vec![ObservedDatabase { missing_defaults: vec![later("a"), later("b")], ..database(&["owner"]) }];
    assert_eq!(
        words(&desired, &seen),
        [
            "grant SELECT on each table that owner makes later in schema a to limited (database shop)",
            "grant SELECT on each table that owner makes later in schema b to limited (database shop)",
        ]
    );
}

#[test]
fn what_everybody_may_beyond_a_limit_is_said() {
    let everybody = |target: GrantTarget, privilege| SurplusRight {
        role: None,
        target,
        privilege,
        extent: Extent::Right,
        grantor: name("owner"),
    };
    let sales = || GrantTarget::Tables("sales".into());
    let mut seen = server(
        &[("limited", "login works"), ("loader", "login works"), ("app", "login works"), ("owner", "mine")],
        &[],
    );
    seen.databases = vec![ObservedDatabase {
        surplus: vec![
            everybody(GrantTarget::Database, Privilege::Connect),
            everybody(sales(), Privilege::Select),
            everybody(GrantTarget::Tables("public".into()), Privilege::Select),
            everybody(sales(), Privilege::Insert),
            everybody(GrantTarget::Schema("sales".into()), Privilege::Create),
        ],
        ..database(&["owner"])
    }];
    let close = "revoke CREATE on schema sales from everybody (database shop)";
    let connect = "everybody may connect to database shop, limited too: that cannot be taken from one role";
    let others = desired(&[&limited(Profile::ReadWrite, only(&["other"]), Scope::ALL), &loader(Scope::ALL)]);
    assert_eq!(words(&others, &seen), ["lock the inherited login app", close]);
    assert_eq!(
        notes(&others, &seen),
        [
            "everybody has INSERT on all tables in schema sales of database shop, limited, loader too",
            "everybody has SELECT on all tables in schema public of database shop, limited, loader too",
            "everybody has SELECT on all tables in schema sales of database shop, limited, loader too",
            connect,
        ]
    );
    let here = desired(&[&limited(Profile::ReadOnly, only(&["shop"]), only(&["public"]))]);
    assert_eq!(
        notes(&here, &seen),
        [
            "everybody has INSERT on all tables in schema sales of database shop, read-only users too",
            "everybody has SELECT on all tables in schema sales of database shop, limited too",
        ]
    );
    let app = declared(&[("application_user", "app")]);
    assert!(!notes(&app, &seen).iter().any(|note| note.contains("connect") || note.contains("SELECT")));
}

#[test]
fn who_is_limited_away_and_owns_something_is_told() {
    let mut seen = server(&[("limited", "login works mine")], &[]);
    seen.databases = vec![database(&["limited"])];
    let told = |databases| notes(&desired(&[&limited(Profile::Devops, databases, Scope::ALL)]), &seen);
    let owns = "limited is limited to other databases but owns objects in database shop, which it may change or drop";
    assert!(told(only(&["other"])).iter().any(|note| note == owns));
    assert!(!told(only(&["shop"])).iter().any(|note| note == owns));
}

#[test]
fn places_that_are_named_and_not_there() {
    let mut seen = server(&[], &[]);
    let with = |name: &str, schemas: &[&str]| ObservedDatabase {
        name: name.into(),
        schemas: schemas.iter().map(|schema| (*schema).to_owned()).collect(),
        ..database(&["owner"])
    };
    seen.databases = vec![with("shop", &["public", "sales"]), with("stock", &["public"])];
    let told = |databases, schemas, seen: &Observed| {
        missing_places(&desired(&[&limited(Profile::ReadOnly, databases, schemas)]), seen)
    };
    assert_eq!(told(Scope::ALL, only(&["sales", "public"]), &seen), [""; 0], "in one of them is enough");
    let no_shop = "users.limited.databases: got 'Shop'; takes databases that can be connected to: shop, stock";
    assert_eq!(told(only(&["stock", "Shop"]), only(&["sales"]), &seen), [no_shop]);
    let no_sales = "users.limited: got the schema 'sales'; takes schemas that one of its databases has";
    assert_eq!(told(only(&["stock"]), only(&["sales", "public"]), &seen), [no_sales]);
    let custom = desired(&[&loader(Scope::ALL)]);
    assert_eq!(missing_places(&custom, &seen).len(), 2, "log and staging");
    // What the master cannot look into yet is judged when it can; what it never will is not there.
    let close = |owner: &str| {
        let mut seen = seen.clone();
        seen.databases[0] = ObservedDatabase { reachable: false, ..database(&[owner]) };
        seen
    };
    assert_eq!(told(only(&["shop"]), only(&["sales"]), &close("owner")), [""; 0]);
    assert_eq!(told(only(&["shop"]), only(&["sales"]), &close("rdsadmin")).len(), 1);
}
