//! Users with limits, and users with rights of their own, proved by trying: every kind of object, every action, within and
//! outside of what they are to have, over a real login.

use super::matrix::{Tried, deviations_of, make_objects};
use super::support::{LAGER, LAGER_QUOTED, MASTER, MySqlServer, execute};
use crate::support::name;
use aurora_restore_database::{Checks, DatabaseError, Passwords, SetupReport, Verdict, look, setup_users, verify};
use aurora_restore_domain::roles::{
    Access, DeclaredUser, Desired, Grant, InheritedLogins, Limits, ObjectKind, Privilege, Profile, Scope,
};
use secrecy::SecretString;
use std::collections::BTreeSet;

const PASSWORD: &str = "declared for all of them";
/// Key, user, password.
const USERS: [(&str, &str, &str); 3] =
    [("reporting", "reporting", PASSWORD), ("loader", "load`er", PASSWORD), ("keeper", "keeper", PASSWORD)];
const SETS: [(&str, &str); 4] =
    [("my_shop", "old"), (LAGER_QUOTED, "old"), ("my_shop", "later"), (LAGER_QUOTED, "later")];
/// A database that is made after the users; gone before they are set up again, which would cover it.
const LATER: [&str; 2] = ["CREATE DATABASE myXshop", "CREATE TABLE myXshop.t (x int)"];

fn scope(names: &[&str]) -> Scope {
    match names {
        [] => Scope::ALL,
        names => Scope::only(names.iter().map(|name| (*name).to_owned())),
    }
}

fn grant(on: ObjectKind, databases: &[&str], tables: &[&str], privileges: &[Privilege]) -> Grant {
    let privileges = privileges.iter().copied().collect();
    Grant { on, schemas: Scope::ALL, databases: scope(databases), tables: scope(tables), privileges }
}

fn user(position: usize, profile: Profile, databases: &[&str], grants: Vec<Grant>) -> DeclaredUser {
    let limits = Limits { databases: scope(databases), schemas: Scope::ALL };
    DeclaredUser::new(
        USERS[position].0,
        USERS[position].1,
        Access { profile, login: Default::default(), grants, limits },
    )
    .unwrap()
}

/// A reader of one database; one that adds rows to a table and a view there, calls its routines and reads the other one; one
/// that changes, empties and locks everywhere.
fn users() -> Vec<DeclaredUser> {
    use Privilege::{Alter, CreateTemporaryTables, Drop, Execute, Insert, LockTables, Select, Update};
    let loads = vec![
        grant(ObjectKind::Table, &["my_shop"], &["old_table", "old_view"], &[Select, Insert]),
        grant(ObjectKind::Routine, &["my_shop"], &[], &[Execute]),
        grant(ObjectKind::Table, &[LAGER], &[], &[Select]),
    ];
    let keeps = vec![
        grant(ObjectKind::Database, &[], &[], &[LockTables, CreateTemporaryTables]),
        grant(ObjectKind::Table, &[], &[], &[Select, Update, Drop, Alter]),
    ];
    vec![
        user(0, Profile::ReadOnly, &["my_shop"], vec![]),
        user(1, Profile::Custom, &["my_shop", LAGER], loads),
        user(2, Profile::Custom, &[], keeps),
    ]
}

/// What each of [`USERS`] may with objects of a name, by hand: what the server is held against.
fn rights(user: usize, database: &str, object: &str) -> &'static [&'static str] {
    match (user, database, object) {
        (0, "my_shop", _) => &["select", "show view"],
        (1, "my_shop", "old_table" | "old_view") => &["select", "insert", "execute"],
        (1, "my_shop", _) => &["execute"],
        (1, LAGER_QUOTED, _) => &["select"],
        (2, "my_shop" | LAGER_QUOTED, _) => &["select", "update", "drop", "alter", "lock", "temporary"],
        _ => &[],
    }
}

/// The rights that an attempt takes, all of them; `never` is held by nobody.
fn takes(what: &str) -> &'static [&'static str] {
    match what {
        "table: select" | "view: select" => &["select"],
        "table: insert" | "table: insert one column" | "view: insert" | "partitioned: insert" => &["insert"],
        "table: replace" => &["insert", "delete"],
        "table: update" | "table: update one column" | "view: update" => &["update"],
        "table: delete" | "view: delete" => &["delete"],
        "table: lock" => &["lock", "select"],
        "table: load into" => &["insert", "select"],
        "table: truncate" | "table: drop" | "view: drop" | "sequence: drop" => &["drop"],
        "table: alter" | "alter" => &["alter"],
        "partitioned: drop one" => &["alter", "drop"],
        "view: show" => &["select", "show view"],
        "function: execute" | "procedure: call" => &["execute"],
        "create a temporary table" => &["temporary"],
        _ => &["never"],
    }
}

fn may(user: usize, tried: &Tried<'_>) -> bool {
    let object = tried.what.split(':').next().unwrap();
    let held = rights(user, tried.database, &format!("{}_{object}", tried.time));
    takes(tried.what).iter().all(|right| held.contains(right))
}

async fn deviations(server: &MySqlServer, sets: &[(&str, &str)]) -> Vec<String> {
    deviations_of(server, sets, &USERS, may).await
}

fn desired(users: Vec<DeclaredUser>) -> (Desired, Passwords) {
    let passwords = users.iter().map(|user| (user.role.clone(), SecretString::from(PASSWORD))).collect();
    let kept = BTreeSet::from([name("partner")]);
    (Desired::new(&name(MASTER.0), users, InheritedLogins::Lock, kept).unwrap(), passwords)
}

async fn set_up_as(server: &MySqlServer, users: Vec<DeclaredUser>) -> Result<SetupReport, DatabaseError> {
    let (desired, passwords) = desired(users);
    setup_users(&server.server(), &desired, &passwords).await
}

async fn set_up(server: &MySqlServer) -> SetupReport {
    set_up_as(server, users()).await.unwrap()
}

/// Rights given by hand, within the limits and outside. None to write to `mysql`, with which the attempts would end there.
async fn give_too_much(server: &MySqlServer) {
    for user in ["reporting@'%'", "`load``er`@'%'", "keeper@'%'"] {
        for sql in [
            "GRANT SELECT, DROP, EXECUTE, EVENT ON *.* TO {u} WITH GRANT OPTION",
            "GRANT SELECT, INSERT, DELETE ON `my\\_s%`.* TO {u}",
            "GRANT SELECT, INSERT, UPDATE, DROP ON {lager}.* TO {u} WITH GRANT OPTION",
            "GRANT SELECT, DELETE, DROP ON my_shop.later_table TO {u} WITH GRANT OPTION",
            "GRANT UPDATE, TRIGGER ON my_shop.old_table TO {u} WITH GRANT OPTION",
            "GRANT UPDATE (x) ON my_shop.old_view TO {u}",
            "GRANT ALTER ROUTINE ON FUNCTION my_shop.old_function TO {u}",
            "GRANT reading TO {u}",
        ] {
            server.run(&[&sql.replace("{u}", user).replace("{lager}", LAGER_QUOTED)]).await;
        }
    }
}

#[tokio::test]
async fn limited_and_custom_users_may_what_they_are_to_and_nothing_else() {
    let server = MySqlServer::start(&["--performance-schema=ON"]).await;
    for set in &SETS[..2] {
        make_objects(&server, *set).await;
    }
    let report = set_up(&server).await;
    for change in [
        "grant SELECT, SHOW VIEW on database my\\_shop to reporting@%",
        "grant INSERT, SELECT on table my_shop.old_view to load`er@%",
        "grant EXECUTE on database my\\_shop to load`er@%",
    ] {
        assert!(report.changes.iter().any(|made| made == change), "{change} is not among {:#?}", report.changes);
    }
    server.run(&LATER).await;
    for set in &SETS[2..] {
        make_objects(&server, *set).await;
    }
    assert_eq!(deviations(&server, &SETS).await, [""; 0]);
    server.run(&["DROP DATABASE myXshop"]).await;
    assert_eq!(set_up(&server).await.changes, [""; 0]);

    give_too_much(&server).await;
    server.run(&LATER).await;
    let surplus = deviations(&server, &SETS[1..2]).await;
    server.run(&["DROP DATABASE myXshop"]).await;
    assert!(
        surplus.len() > 30 && surplus.iter().all(|way| way.ends_with("allowed")),
        "{}: {surplus:#?}",
        surplus.len()
    );
    assert!(!set_up(&server).await.changes.is_empty());
    assert_eq!(set_up(&server).await.changes, [""; 0]);
    server.run(&LATER).await;
    assert_eq!(deviations(&server, &SETS).await, [""; 0]);
}

#[tokio::test]
async fn limits_that_are_declared_later_take_away_and_lifted_give_back() {
    let server = MySqlServer::start(&[]).await;
    let of = |databases: &[&str]| vec![user(0, Profile::ReadWrite, databases, vec![])];
    let write = async |database: &str| {
        let mut session = server.session(("reporting", PASSWORD)).await.unwrap();
        execute(&mut session, &format!("UPDATE {database}.orders SET total = 1")).await
    };
    let refused = Err("1142".to_owned());
    for (databases, elsewhere) in [(&[][..], Ok(())), (&["my_shop"], refused), (&[], Ok(()))] {
        set_up_as(&server, of(databases)).await.unwrap();
        assert_eq!((write("my_shop").await, write(LAGER_QUOTED).await), (Ok(()), elsewhere), "{databases:?}");
        assert_eq!(set_up_as(&server, of(databases)).await.unwrap().changes, [""; 0]);
    }
}

#[tokio::test]
async fn a_place_that_is_not_there_is_refused_before_anything_changes() {
    let server = MySqlServer::start(&[]).await;
    let orders =
        |databases: &[&str], table: &str| vec![grant(ObjectKind::Table, databases, &[table], &[Privilege::Select])];
    for (user, told) in [
        (
            user(0, Profile::ReadOnly, &["My_Shop"], vec![]),
            "users.reporting.databases: got 'My_Shop'; takes databases that are there: Lager_1 `Süd' 5%, my_shop",
        ),
        (
            user(1, Profile::Custom, &[], orders(&["shop"], "orders")),
            "users.loader.grants[0].databases: got 'shop'; takes databases that are there: Lager_1 `Süd' 5%, my_shop",
        ),
        (
            user(1, Profile::Custom, &["my_shop"], orders(&[], "Orders")),
            "users.loader.grants[0].tables: got 'Orders'; takes tables that one of its databases has",
        ),
    ] {
        assert_eq!(set_up_as(&server, vec![user]).await.unwrap_err().to_string(), told);
    }
    let made = "SELECT count(*) FROM mysql.user WHERE User IN ('reporting', 'load`er')";
    assert_eq!(server.texts(made).await, ["0"]);
}

#[tokio::test]
async fn what_they_may_is_verified() {
    let server = MySqlServer::start(&[]).await;
    let caller = grant(ObjectKind::Routine, &[], &[], &[Privilege::Execute]);
    let reader = grant(ObjectKind::Table, &[], &["orders"], &[Privilege::Select]);
    let all = || {
        vec![
            user(0, Profile::ReadOnly, &["my_shop"], vec![]),
            user(1, Profile::Custom, &[], vec![caller.clone()]),
            user(2, Profile::Custom, &["my_shop"], vec![reader.clone()]),
        ]
    };
    set_up_as(&server, all()).await.unwrap();
    let (desired, passwords) = desired(all());
    let check = async || verify(&server.server(), &desired, &passwords, &Checks::default()).await.unwrap();
    let results = check().await;
    let words = |found: &str| {
        let result = results.iter().find(|result| result.name == found).unwrap();
        assert_eq!(result.verdict, Verdict::Passed, "{result:?}");
        result.value.clone().unwrap()
    };
    assert_eq!(words("read of reporting"), "orders in database my_shop");
    assert_eq!(
        (words("read of loader"), words("read of keeper")),
        ("nothing to read".into(), words("read of reporting"))
    );
    for user in ["reporting", "loader", "keeper"] {
        assert_eq!(words(&format!("no write of {user}")), "refused in 2 databases");
    }
    // Beyond its limits, too, and where it may not even read.
    server.run(&[&format!("GRANT DELETE ON {LAGER_QUOTED}.orders TO reporting@'%'")]).await;
    let results = check().await;
    let wrote = results.iter().find(|result| result.name == "no write of reporting").unwrap();
    assert_eq!(wrote.verdict, Verdict::Failed);
    assert_eq!(wrote.value.as_deref(), Some("orders in database Lager_1 `Süd' 5%"));
}

/// Limits cost no statement more, named tables one.
#[tokio::test]
async fn the_work_does_not_grow_with_limits() {
    let server = MySqlServer::start(&["--general-log", "--general-log-file=general.log"]).await;
    let statements = || server.file("general.log").lines().filter(|line| line.contains(" Query\t")).count();
    let mut counts = vec![];
    let select = |tables: &[&str]| vec![grant(ObjectKind::Table, &[], tables, &[Privilege::Select])];
    for user in [
        user(0, Profile::ReadOnly, &[], vec![]),
        user(0, Profile::ReadOnly, &["my_shop"], vec![]),
        user(0, Profile::Custom, &[LAGER, "my_shop"], select(&[])),
        user(0, Profile::Custom, &[], select(&["orders"])),
    ] {
        set_up_as(&server, vec![user.clone()]).await.unwrap();
        let before = statements();
        let (desired, passwords) = desired(vec![user]);
        assert!(look(&server.server(), &desired, &passwords).await.unwrap().changes(&desired).is_empty());
        counts.push(statements() - before);
    }
    assert!(counts[0] > 5 && counts == [counts[0], counts[0], counts[0], counts[0] + 1], "{counts:?}");
}
