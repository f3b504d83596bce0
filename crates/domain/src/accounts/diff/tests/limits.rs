//! Users with limits and users with rights of their own.

use super::super::super::{missing_places, reads, writes};
use super::*;
use crate::roles::{Access, Grant, Limits, ObjectKind, Privilege as Declared, Profile, Scope as Names};

fn only(names: &[&str]) -> Names {
    Names::only(names.iter().map(|name| (*name).to_owned()))
}

fn user(profile: Profile, databases: Names, grants: Vec<Grant>) -> DeclaredUser {
    let limits = Limits { databases, schemas: Names::ALL };
    DeclaredUser::new("x", "x", Access { profile, login: Default::default(), grants, limits }).unwrap()
}

fn grant(on: ObjectKind, databases: Names, tables: Names, privileges: &[Declared]) -> Grant {
    Grant { on, schemas: Names::ALL, databases, tables, privileges: privileges.iter().copied().collect() }
}

/// Two databases; `orders` is in both, `log` in one.
fn two_databases() -> Observed {
    let mut seen = server(&[("x", "declared")], &[]);
    seen.databases.insert("archive".into());
    seen.grantable.extend(privileges(&["SHOW VIEW", "LOCK TABLES"]));
    let tables = [("my_shop", "orders"), ("archive", "orders"), ("archive", "log")];
    seen.named_tables = tables.into_iter().map(|(database, table)| (database.into(), table.into())).collect();
    seen
}

fn changes(user: DeclaredUser, seen: &Observed) -> Vec<String> {
    words(&desired(vec![user]), seen)
}

fn desired(users: Vec<DeclaredUser>) -> Desired {
    Desired::new(&RoleName::try_from("admin").unwrap(), users, InheritedLogins::Lock, BTreeSet::new()).unwrap()
}

#[test]
fn a_profile_with_a_limit_ends_at_it() {
    let reader = || user(Profile::ReadOnly, only(&["archive"]), vec![]);
    let mut seen = two_databases();
    assert_eq!(changes(reader(), &seen), ["grant SELECT, SHOW VIEW on database archive to x@%"]);
    // Declared later: what it has elsewhere goes. Lifted: it comes back.
    seen.rights.insert(account("x"), wanted(&user(Profile::ReadOnly, Names::ALL, vec![]), &seen).0);
    assert_eq!(changes(reader(), &seen), ["revoke SELECT, SHOW VIEW on database my\\_shop from x@%"]);
    seen.rights.insert(account("x"), wanted(&reader(), &seen).0);
    assert_eq!(changes(reader(), &seen), [""; 0]);
    assert_eq!(
        changes(user(Profile::ReadOnly, Names::ALL, vec![]), &seen),
        ["grant SELECT, SHOW VIEW on database my\\_shop to x@%"]
    );
}

fn loader() -> DeclaredUser {
    use Declared::{Execute, Insert, LockTables, Select};
    let grants = vec![
        grant(ObjectKind::Table, Names::ALL, only(&["orders"]), &[Select, Insert]),
        grant(ObjectKind::Table, only(&["archive"]), only(&["log"]), &[Insert]),
        grant(ObjectKind::Database, only(&["archive"]), Names::ALL, &[LockTables]),
        grant(ObjectKind::Routine, Names::ALL, Names::ALL, &[Execute]),
    ];
    user(Profile::Custom, Names::ALL, grants)
}

#[test]
fn a_custom_user_has_what_it_names_and_nothing_else() {
    let mut seen = two_databases();
    let made = [
        "grant EXECUTE, LOCK TABLES on database archive to x@%",
        "grant EXECUTE on database my\\_shop to x@%",
        "grant INSERT on table archive.log to x@%",
        "grant INSERT, SELECT on table archive.orders to x@%",
        "grant INSERT, SELECT on table my_shop.orders to x@%",
    ];
    assert_eq!(changes(loader(), &seen), made);
    let held = wanted(&loader(), &seen).0;
    seen.rights.insert(account("x"), held.clone());
    assert_eq!(changes(loader(), &seen), [""; 0]);
    let right = |scope: Scope, privilege: &str| Right { scope, privilege: Privilege::parse(privilege).unwrap() };
    let table = |table: &str| Scope::Table { database: "archive".into(), table: table.into() };
    seen.rights.get_mut(&account("x")).unwrap().extend([
        right(Scope::Database("archive".into()), "SELECT"),
        right(table("log"), "SELECT"),
        right(table("other"), "INSERT"),
        right(Scope::Server, "SELECT"),
    ]);
    assert_eq!(
        changes(loader(), &seen),
        [
            "revoke SELECT on the whole server from x@%",
            "revoke SELECT on database archive from x@%",
            "revoke SELECT on table archive.log from x@%",
            "revoke INSERT on table archive.other from x@%",
        ]
    );
    // Its user's limit is the grants' too.
    let limited = DeclaredUser { limits: Limits { databases: only(&["my_shop"]), ..Limits::default() }, ..loader() };
    assert_eq!(
        changes(limited, &two_databases()),
        ["grant EXECUTE on database my\\_shop to x@%", "grant INSERT, SELECT on table my_shop.orders to x@%"]
    );
}

#[test]
fn what_a_user_reads_and_whether_it_writes() {
    let seen = two_databases();
    let (databases, tables) = reads(&loader(), &seen);
    let of = |database: &str| (database.to_owned(), "orders".to_owned());
    assert_eq!((databases, tables), (BTreeSet::new(), BTreeSet::from([of("archive"), of("my_shop")])));
    let reader = user(Profile::ReadOnly, only(&["my_shop"]), vec![]);
    assert_eq!(reads(&reader, &seen), (BTreeSet::from(["my_shop".to_owned()]), BTreeSet::new()));
    let caller =
        |right| user(Profile::Custom, Names::ALL, vec![grant(ObjectKind::Database, Names::ALL, Names::ALL, &[right])]);
    assert_eq!(reads(&caller(Declared::Execute), &seen), (BTreeSet::new(), BTreeSet::new()));
    assert!(writes(&loader()) && !writes(&reader) && !writes(&caller(Declared::Execute)));
    assert!([Declared::Drop, Declared::Event, Declared::CreateView].iter().all(|right| writes(&caller(*right))));
}

#[test]
fn a_place_that_is_not_there_is_named() {
    let seen = two_databases();
    let missing = |user| missing_places(&desired(vec![user]), &seen);
    assert_eq!(missing(loader()), [""; 0]);
    assert_eq!(
        missing(user(Profile::ReadOnly, only(&["My_Shop", "archive"]), vec![])),
        ["users.x.databases: got 'My_Shop'; takes databases that are there: archive, my_shop"]
    );
    let of = |database: &str, table: &str| {
        vec![grant(ObjectKind::Table, only(&[database]), only(&[table]), &[Declared::Select])]
    };
    assert_eq!(
        missing(user(Profile::Custom, Names::ALL, of("archived", "log"))),
        ["users.x.grants[0].databases: got 'archived'; takes databases that are there: archive, my_shop"]
    );
    assert_eq!(
        missing(user(Profile::Custom, Names::ALL, of("my_shop", "log"))),
        ["users.x.grants[0].tables: got 'log'; takes tables that one of its databases has"]
    );
}
