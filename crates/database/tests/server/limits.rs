//! Users with limits, and users with rights of their own, proved by trying: every kind of object, every action, within and
//! outside of what they are to have, over a real login.

use crate::matrix::{OBJECTS, PLACES, make_objects_in, names};
use crate::production::{LAGER, WEIRD};
use crate::support::{MASTER, TestServer, execute, grant, name, requested};
use aurora_restore_database::{DatabaseError, Passwords, SetupReport, setup_users};
use aurora_restore_domain::roles::{DeclaredUser, Desired, InheritedLogins, ObjectKind, Privilege, Profile};
use secrecy::SecretString;
use std::collections::BTreeSet;

const WEIRD_NAME: &str = "we\"ird 'schema";
const PASSWORD: &str = "declared for all of them";
const USERS: [&str; 3] = ["reporting", "loader", "keeper"];

/// Who makes objects, and where; `devops` and `keeper` once they are set up.
const MAKERS: [(&str, &str); 5] =
    [("shop_owner", "sales"), ("\"Keeper's\"", WEIRD), (MASTER, "public"), ("devops", "sales"), ("keeper", "public")];
const OLD_MAKERS: usize = 3;

/// A reader of two schemas of one database; one that adds rows in one schema and draws numbers everywhere; one that
/// empties tables and makes its own, in two schemas of every database.
fn users() -> Vec<DeclaredUser> {
    use Privilege::{Create, Execute, Insert, Select, Truncate, Update, Usage};
    let loads =
        vec![grant(ObjectKind::Table, &["sales"], &[Select, Insert]), grant(ObjectKind::Sequence, &[], &[Usage])];
    let keeps = vec![
        grant(ObjectKind::Table, &[], &[Select, Update, Truncate]),
        grant(ObjectKind::Routine, &[], &[Execute]),
        grant(ObjectKind::Schema, &["public"], &[Create]),
    ];
    vec![
        DeclaredUser::from_secret("application_user", "app_user").unwrap(),
        DeclaredUser::from_secret("devops_user", "devops").unwrap(),
        requested("reporting", "reporting", Profile::ReadOnly, [&["shop"], &["sales", "public"]], vec![]),
        requested("loader", "loader", Profile::Custom, [&["shop"], &[]], loads),
        requested("keeper", "keeper", Profile::Custom, [&[], &[WEIRD_NAME, "public"]], keeps),
    ]
}

/// What each of [`USERS`] may in a schema, by hand: the table that the server is held against.
fn rights(user: &str, database: &str, schema: &str) -> &'static [&'static str] {
    match (user, database, schema) {
        ("reporting", "shop", "sales" | "public") => &["use", "table select", "sequence select"],
        ("loader", "shop", "sales") => &["use", "table select", "table insert", "sequence usage"],
        ("loader", "shop", _) => &["use", "sequence usage"],
        ("keeper", _, "public") => &["use", "table select", "table update", "table truncate", "execute", "create"],
        ("keeper", _, WEIRD) => &["use", "table select", "table update", "table truncate", "execute"],
        // Everybody may look into it.
        (_, _, "public") => &["use"],
        _ => &[],
    }
}

/// The rights of which an attempt takes one, besides that to look into the schema; none are enough for what only an
/// owner may.
fn takes(what: &str) -> &'static [&'static str] {
    let (object, action) = what.split_once(": ").unwrap();
    match (object, action) {
        ("table" | "view" | "partitioned", "select" | "select one") | ("its schema", "select") => &["table select"],
        ("table" | "view" | "partitioned", "insert" | "insert one column" | "insert into one")
        | ("its schema", "insert") => &["table insert"],
        ("table" | "view" | "partitioned", "update") => &["table update"],
        ("table", "lock") => &["table update", "table truncate"],
        ("table" | "partitioned", "truncate") => &["table truncate"],
        ("sequence", "select") => &["sequence select"],
        ("sequence", "nextval") => &["sequence usage"],
        ("function", "execute") => &["execute"],
        ("function", "execute what everybody may") => &["use"],
        ("its schema", "create a table") => &["create"],
        ("schema", action) if action.starts_with("create") => &["create"],
        _ => &[],
    }
}

fn desired(users: Vec<DeclaredUser>) -> (Desired, Passwords) {
    let passwords = users.iter().map(|user| (user.role.clone(), SecretString::from(PASSWORD))).collect();
    let kept = BTreeSet::from([name("partner")]);
    (Desired::new(&name(MASTER), users, InheritedLogins::Lock, kept).unwrap(), passwords)
}

async fn set_up_as(server: &TestServer, users: Vec<DeclaredUser>) -> Result<SetupReport, DatabaseError> {
    let (desired, passwords) = desired(users);
    setup_users(&server.server(), &desired, &passwords).await
}

async fn set_up(server: &TestServer) -> SetupReport {
    set_up_as(server, users()).await.unwrap()
}

async fn make_objects(server: &TestServer, time: &str, makers: usize) {
    // There the schema is its owner's.
    server.run(LAGER, &format!("GRANT CREATE ON SCHEMA public TO {MASTER}")).await;
    for database in ["shop", LAGER] {
        make_objects_in(server, database, time, &MAKERS[..makers]).await;
    }
}

/// Where the server does not do as the tables say, after trying everything; nothing that was tried stays.
async fn deviations(server: &TestServer, times: &[(&str, usize)]) -> Vec<String> {
    let mut found = vec![];
    for (database, user) in ["shop", LAGER].into_iter().flat_map(|database| USERS.map(|user| (database, user))) {
        let mut attempts = vec![];
        for (time, makers) in times {
            for (maker, (role, schema)) in MAKERS.iter().enumerate().take(*makers) {
                let (o, s) = names(time, &MAKERS, maker);
                for (what, sql, _) in OBJECTS {
                    let place = if what.starts_with("its schema") { s.as_str() } else { *schema };
                    let held = rights(user, database, place);
                    let may = held.contains(&"use") && takes(what).iter().any(|right| held.contains(right));
                    let sql = sql.replace("{o}", &o).replace("{s}", &s);
                    attempts.push((format!("{what} ({o})"), sql, may || *role == user));
                }
            }
        }
        for schema in ["sales", WEIRD, "public"] {
            for (what, sql, _) in PLACES {
                let held = rights(user, database, schema);
                // What everybody may, too.
                let may = takes(what).iter().any(|right| held.contains(right)) || what.contains("temporary");
                attempts.push((format!("{what} ({schema})"), sql.replace("{s}", schema), may));
            }
        }
        let mut session = server.session(user, PASSWORD, database).await.unwrap();
        for (what, sql, may) in attempts {
            let did = match execute(&mut session, &format!("ROLLBACK; BEGIN; {sql}"))
                .await
                .as_ref()
                .map_err(String::as_str)
            {
                Ok(()) => true,
                // What only asks for a right divides by zero without it.
                Err("42501" | "22012") => false,
                Err(other) => panic!("{user} in {database}: {what}: {other}"),
            };
            if did != may {
                found.push(format!("{user} in {database}: {what}: {}", if did { "allowed" } else { "refused" }));
            }
        }
        execute(&mut session, "ROLLBACK").await.unwrap();
    }
    found
}

/// Rights given by hand, within the limits and outside.
async fn give_too_much(server: &TestServer) {
    let users = USERS.join(", ");
    for (database, quoted) in [("shop", "shop".to_owned()), (LAGER, format!("\"{}\"", LAGER.replace('"', "\"\"")))] {
        let mut sql = vec![format!("GRANT ALL ON DATABASE {quoted} TO {users} WITH GRANT OPTION")];
        for schema in ["sales", WEIRD, "public", "later_2"] {
            sql.push(format!("GRANT ALL ON SCHEMA {schema} TO {users} WITH GRANT OPTION"));
            for kind in ["TABLES", "SEQUENCES", "ROUTINES"] {
                sql.push(format!("GRANT ALL ON ALL {kind} IN SCHEMA {schema} TO {users} WITH GRANT OPTION"));
            }
        }
        for (owner, within) in [
            ("shop_owner", ""),
            ("shop_owner", " IN SCHEMA sales"),
            ("\"Keeper's\"", &format!(" IN SCHEMA {WEIRD}")),
            (MASTER, ""),
            (MASTER, " IN SCHEMA public"),
            ("devops", ""),
        ] {
            for kind in ["TABLES", "SEQUENCES", "ROUTINES"] {
                sql.push(format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner}{within} GRANT ALL ON {kind} TO {users}"));
            }
        }
        sql.push(format!("ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner GRANT ALL ON SCHEMAS TO {users}"));
        sql.push("GRANT CREATE ON SCHEMA public, sales TO PUBLIC".to_owned());
        server.run(database, &sql.join("; ")).await;
    }
}

#[tokio::test]
async fn limited_and_custom_users_may_what_they_are_to_and_nothing_else() {
    let server = TestServer::start(&[]).await;
    make_objects(&server, "old", OLD_MAKERS).await;
    let report = set_up(&server).await;
    for note in [
        "everybody may connect to database postgres, loader, reporting too: that cannot be taken from one role"
            .to_owned(),
        format!("everybody may connect to database {LAGER}, loader, reporting too: that cannot be taken from one role"),
    ] {
        assert!(report.notes.contains(&note), "{note} is not among {:#?}", report.notes);
    }
    make_objects(&server, "later", MAKERS.len()).await;
    let all = [("old", OLD_MAKERS), ("later", MAKERS.len()), ("last", MAKERS.len())];
    assert_eq!(deviations(&server, &all[..2]).await, [""; 0]);
    assert_eq!(set_up(&server).await.changes, [""; 0]);
    assert_eq!(deviations(&server, &all[..2]).await, [""; 0]);

    give_too_much(&server).await;
    let surplus = deviations(&server, &all[..2]).await;
    assert!(
        surplus.len() > 300 && surplus.iter().all(|way| way.ends_with("allowed")),
        "{}: {surplus:#?}",
        surplus.len()
    );
    assert!(!set_up(&server).await.changes.is_empty());
    assert_eq!(set_up(&server).await.changes, [""; 0]);
    make_objects(&server, "last", MAKERS.len()).await;
    assert_eq!(deviations(&server, &all).await, [""; 0]);
    assert_eq!(set_up(&server).await.changes, [""; 0]);
}

#[tokio::test]
async fn limits_that_are_declared_later_take_away_and_lifted_give_back() {
    let server = TestServer::start(&[]).await;
    make_objects(&server, "old", OLD_MAKERS).await;
    let everywhere = || {
        let mut users = users();
        users[2] = requested("reporting", "reporting", Profile::ReadOnly, [&[], &[]], vec![]);
        users
    };
    set_up_as(&server, everywhere()).await.unwrap();
    let read = async |database: &str, table: &str| {
        let mut session = server.session("reporting", PASSWORD, database).await.unwrap();
        execute(&mut session, &format!("SELECT * FROM {table}")).await
    };
    let weird = format!("{WEIRD}.old_1_table");
    assert_eq!((read("shop", &weird).await, read(LAGER, "sales.orders").await), (Ok(()), Ok(())));

    let told = set_up(&server).await.changes;
    for change in [
        "revoke USAGE on schema we\"ird 'schema from reporting (database shop)",
        "revoke SELECT on each table that shop_owner makes later from reporting (database shop)",
        "grant SELECT on each table that shop_owner makes later in schema sales to reporting (database shop)",
    ] {
        assert!(told.iter().any(|made| made == change), "{change} is not among {told:#?}");
    }
    assert_eq!(set_up(&server).await.changes, [""; 0]);
    make_objects(&server, "later", MAKERS.len()).await;
    assert_eq!(deviations(&server, &[("old", OLD_MAKERS), ("later", MAKERS.len())]).await, [""; 0]);

    set_up_as(&server, everywhere()).await.unwrap();
    assert_eq!((read("shop", &weird).await, read(LAGER, "sales.orders").await), (Ok(()), Ok(())));
    assert_eq!(set_up_as(&server, everywhere()).await.unwrap().changes, [""; 0]);
}

#[tokio::test]
async fn a_place_that_is_not_there_is_refused_before_anything_changes() {
    let server = TestServer::start(&[]).await;
    let users = vec![
        requested("caller", "caller", Profile::ReadOnly, [&["Shop", "shop"], &[]], vec![]),
        requested("reporting", "reporting", Profile::ReadOnly, [&["shop"], &["slaes", "sales"]], vec![]),
        requested(
            "loader",
            "loader",
            Profile::Custom,
            [&["postgres"], &[]],
            vec![grant(ObjectKind::Table, &["sales"], &[Privilege::Insert])],
        ),
    ];
    let told = set_up_as(&server, users).await.unwrap_err().to_string();
    assert_eq!(
        told,
        format!(
            "users.caller.databases: got 'Shop'; takes databases that can be connected to: {LAGER}, postgres, shop; \
             users.loader: got the schema 'sales'; takes schemas that one of its databases has; \
             users.reporting: got the schema 'slaes'; takes schemas that one of its databases has"
        )
    );
    assert_eq!(
        server.text("postgres", "SELECT count(*)::text FROM pg_roles WHERE rolname IN ('reporting', 'loader')").await,
        "0"
    );
}

/// Limits cost no round trip more.
#[tokio::test]
async fn the_work_does_not_grow_with_limits() {
    let server = TestServer::start(&["log_statement=all", "log_line_prefix=%a "]).await;
    let ours = |line: &&str| line.starts_with("aurora-restore ") && line.contains("LOG:  ");
    let statements = || server.log().lines().filter(ours).count();
    let mut counts = vec![];
    for schemas in [&[][..], &["sales"], &["sales", "public", WEIRD_NAME]] {
        let users = || vec![requested("reporting", "reporting", Profile::ReadWrite, [&[], schemas], vec![])];
        set_up_as(&server, users()).await.unwrap();
        let before = statements();
        assert_eq!(set_up_as(&server, users()).await.unwrap().changes, [""; 0]);
        counts.push(statements() - before);
    }
    assert!(counts[0] > 5 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}
