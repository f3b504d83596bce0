//! The decision table: a server in a few words, and the changes that it takes.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::{
    Extent, GrantTarget, MissingDefault, MissingRight, ObjectKind, ObservedDatabase, ObservedRole, Privilege,
    ServerVersion, SurplusDefault, SurplusRight, describe,
};
use super::*;

mod limits;
mod surplus;
mod tokens;

fn name(text: &str) -> RoleName {
    RoleName::try_from(text).unwrap()
}

fn attributes(words: &str) -> Attributes {
    let has = |word: &str| words.split(' ').any(|other| other == word);
    Attributes {
        login: has("login"),
        superuser: has("superuser"),
        create_role: has("createrole"),
        create_database: has("createdb"),
        replication: has("replication"),
        bypass_row_security: has("bypassrls"),
        inherit: !has("noinherit"),
        connection_limit: if has("limit0") { 0 } else { -1 },
        expires: has("expires") || has("never"),
        never_by_password: has("never"),
    }
}

/// A server with a master, RDS's own roles, and `roles` as (name, words). The words are attributes, `works` (the
/// declared password logs in), `sessions`, `mine` (the master acts as it), `holds` (it has rights), `foreign`
/// (the master may not grant it) and `marked` (locked by us).
fn server(roles: &[(&str, &str)], memberships: &[(&str, &str)]) -> Observed {
    let own = [
        ("master", "login createrole createdb"),
        ("rdsadmin", "login superuser"),
        ("rds_superuser", ""),
        ("pg_monitor", ""),
        ("pg_signal_backend", ""),
    ];
    let role = |words: &str| ObservedRole {
        attributes: attributes(words),
        comment: words.contains("marked").then(|| LOCKED.to_owned()),
        has_sessions: words.contains("sessions"),
        master_acts_as: words.contains("mine"),
        master_may_grant: !words.contains("foreign"),
        holds_something: words.contains("holds"),
        login_works: Some(words.contains("works")),
    };
    Observed {
        version: ServerVersion(150_018),
        master: name("master"),
        roles: own.iter().chain(roles).map(|(role_name, words)| (name(role_name), role(words))).collect(),
        memberships: memberships
            .iter()
            .map(|(role, member)| Membership { role: name(role), member: name(member), grantor: None })
            .collect(),
        databases: vec![],
        notes: vec![],
    }
}

fn declared(users: &[(&str, &str)]) -> Desired {
    let users = users.iter().map(|(key, role)| DeclaredUser::from_secret(key, role).unwrap()).collect();
    Desired::new(&name("master"), users, InheritedLogins::Lock, BTreeSet::from([name("kept")])).unwrap()
}

fn database(owners: &[&str]) -> ObservedDatabase {
    ObservedDatabase {
        name: "shop".into(),
        reachable: true,
        owners: owners.iter().map(|owner| name(owner)).collect(),
        schemas: BTreeSet::new(),
        missing: vec![],
        missing_defaults: vec![],
        surplus: vec![],
        surplus_defaults: vec![],
    }
}

fn open_schema(grantor: &str) -> SurplusRight {
    SurplusRight {
        role: None,
        target: GrantTarget::Schema("public".into()),
        privilege: Privilege::Create,
        extent: Extent::Right,
        grantor: name(grantor),
    }
}

fn words(desired: &Desired, observed: &Observed) -> Vec<String> {
    describe(&diff(desired, observed))
}

#[test]
fn who_was_locked_as_a_declared_user_and_is_one_no_more_is_told() {
    let roles = [("app", ""), ("team", ""), ("ops", ""), ("partner", "login")];
    let seen = server(&roles, &[("rds_superuser", "app")]);
    let closed = ["app", "ops", "partner"].map(str::to_owned);
    let desired = declared(&[("readonly_user", "ops")]).after_closing(closed.into());
    assert_eq!(locked_logins(&desired, &seen).collect::<Vec<_>>(), [&name("app")]);
    let note = "app was declared before masking, which locked it, and is declared no more: it stays locked";
    assert!(notes(&desired, &seen).iter().any(|told| told == note), "{:?}", notes(&desired, &seen));
    let changes = describe(&closing(&desired, &seen));
    assert_eq!(changes, ["lock the inherited login partner", "remove app from rds_superuser"]);
}

#[test]
fn a_server_as_declared_needs_nothing() {
    let desired = declared(&[("application_user", "app"), ("devops_user", "ops")]);
    let seen = server(
        &[("app", "login works"), ("ops", "login works mine"), ("kept", "login"), ("group", "")],
        &[("pg_monitor", "ops"), ("pg_signal_backend", "ops"), ("group", "app")],
    );
    assert_eq!(words(&desired, &seen), [""; 0]);
    assert_eq!(notes(&desired, &seen), [""; 0]);
}

#[test]
fn declared_users_are_made_or_adopted() {
    let app = declared(&[("application_user", "app")]);
    let cases: [(&str, &[&str]); 6] = [
        ("", &["make app LOGIN", "set the password of app"]),
        ("login works", &[]),
        ("login", &["set the password of app"]),
        (
            "login works createrole createdb replication bypassrls noinherit",
            &["make app INHERIT, NOCREATEROLE, NOCREATEDB, NOREPLICATION, NOBYPASSRLS"],
        ),
        ("login works limit0", &["make app CONNECTION LIMIT -1"]),
        ("login expires", &["make app VALID UNTIL 'infinity'", "set the password of app"]),
    ];
    for (seen, changes) in cases {
        assert_eq!(words(&app, &server(&[("app", seen)], &[])), changes, "{seen}");
    }
    assert_eq!(words(&app, &server(&[], &[])), ["create the role app", "set the password of app"]);
}

#[test]
fn devops_gets_the_servers_roles_where_they_can_be_granted() {
    let desired = declared(&[("devops_user", "ops")]);
    let mut seen = server(&[("ops", "login works mine")], &[]);
    assert_eq!(words(&desired, &seen), ["make ops a member of pg_monitor", "make ops a member of pg_signal_backend"]);
    seen.roles.get_mut(&name("pg_signal_backend")).unwrap().master_may_grant = false;
    assert_eq!(words(&desired, &seen), ["make ops a member of pg_monitor"]);
    assert_eq!(notes(&desired, &seen), ["ops is not a member of pg_signal_backend: the master may not grant it"]);
}

#[test]
fn an_adopted_user_loses_every_way_to_power() {
    let app = declared(&[("application_user", "app")]);
    let seen = |membership| {
        let roles = [("app", "login works"), ("team", ""), ("owner", "mine"), ("boss", "createrole"), ("reader", "")];
        let chain = [("team", "reader"), ("owner", "team")];
        let mut seen = server(&roles, &[&chain[..], &[(membership, "app")]].concat());
        seen.databases = vec![database(&["owner"])];
        words(&app, &seen)
    };
    for power in ["rds_superuser", "pg_monitor", "master", "boss", "owner", "team", "reader"] {
        assert_eq!(seen(power), [format!("remove app from {power}")]);
    }
}

#[test]
fn inherited_logins_are_closed() {
    let desired = declared(&[("application_user", "app")]);
    let seen = server(
        &[
            ("app", "login works"),
            ("kept", "login sessions"),
            ("report", "login"),
            ("root", "login sessions"),
            ("group", "sessions"),
        ],
        &[("rds_superuser", "root"), ("group", "root"), ("rds_superuser", "kept")],
    );
    assert_eq!(
        words(&desired, &seen),
        [
            "lock the inherited login report",
            "lock the inherited login root",
            "remove root from rds_superuser",
            "end the sessions of root",
        ]
    );
    assert_eq!(inherited_logins(&desired, &seen).map(RoleName::as_str).collect::<Vec<_>>(), ["report", "root"]);
}

#[test]
fn a_lock_that_was_cut_short_is_finished() {
    let desired = declared(&[]);
    let seen = server(&[("root", "marked sessions")], &[("rds_superuser", "root")]);
    assert_eq!(words(&desired, &seen), ["remove root from rds_superuser", "end the sessions of root"]);
    assert_eq!(locked_logins(&desired, &seen).collect::<Vec<_>>(), [&name("root")]);
}

#[test]
fn a_comment_survives_the_lock() {
    let mut seen = server(&[("root", "login")], &[]);
    seen.roles.get_mut(&name("root")).unwrap().comment = Some("nightly job".into());
    let comment = "nightly job; locked by aurora-restore".to_owned();
    assert_eq!(diff(&declared(&[]), &seen), [RoleChange::LockLogin { role: name("root"), comment }]);
}

#[test]
fn report_and_keep_close_nothing() {
    let seen = server(&[("root", "login sessions"), ("rdsreports", "login")], &[]);
    let with = |inherited| Desired::new(&name("master"), vec![], inherited, BTreeSet::new()).unwrap();
    let left = "login rdsreports was left alone: names that begin with rds are the server's own";
    assert_eq!(words(&with(InheritedLogins::Report), &seen), [""; 0]);
    assert_eq!(notes(&with(InheritedLogins::Report), &seen), ["inherited login root can still log in", left]);
    assert_eq!(words(&with(InheritedLogins::Keep), &seen), [""; 0]);
    assert_eq!(notes(&with(InheritedLogins::Keep), &seen), [left]);
}

#[test]
fn missing_rights_are_granted_together_after_the_master_can_act_for_the_owner() {
    let desired = declared(&[("application_user", "app")]);
    let mut seen = server(&[("app", "login works"), ("owner", "")], &[]);
    let right = |privilege, owner: &str| MissingRight {
        role: name("app"),
        target: GrantTarget::Tables("public".into()),
        privilege,
        owner: name(owner),
    };
    let later = |owner: &str| MissingDefault {
        owner: name(owner),
        schema: None,
        role: name("app"),
        kind: ObjectKind::Table,
        privilege: Privilege::Select,
    };
    let mut shop = database(&["master", "owner", "rdsadmin"]);
    shop.missing = vec![
        right(Privilege::Update, "owner"),
        right(Privilege::Select, "owner"),
        right(Privilege::Select, "rdsadmin"),
    ];
    shop.missing_defaults = vec![later("owner"), later("rdsadmin")];
    seen.databases = vec![shop];
    assert_eq!(
        words(&desired, &seen),
        [
            "make master a member of owner",
            "grant SELECT, UPDATE on all tables in schema public to app (database shop)",
            "grant SELECT on each table that owner makes later to app (database shop)",
        ]
    );
    assert_eq!(
        notes(&desired, &seen),
        ["app lacks SELECT on all tables in schema public of database shop, as far as rdsadmin owns it"]
    );
}

#[test]
fn a_closed_database_is_opened_through_its_owner_or_noted() {
    let desired = declared(&[]);
    let mut seen = server(&[("owner", "")], &[]);
    seen.databases = vec![ObservedDatabase { reachable: false, ..database(&["owner"]) }];
    assert_eq!(words(&desired, &seen), ["make master a member of owner"]);
    seen.databases = vec![ObservedDatabase { reachable: false, ..database(&["rdsadmin"]) }];
    assert_eq!(words(&desired, &seen), [""; 0]);
    assert_eq!(notes(&desired, &seen), ["database shop was left out: the master may not connect to it"]);
}

#[test]
fn what_stays_wide_open_is_said() {
    let desired = declared(&[("application_user", "app")]);
    let mut seen = server(&[("app", "login works mine")], &[]);
    let mut shop = database(&["app"]);
    shop.surplus = vec![open_schema("app")];
    seen.databases = vec![shop];
    assert_eq!(
        notes(&desired, &seen),
        [
            "app is read-write but owns objects in database shop, which it may change or drop",
            "everybody may create objects in schema public of database shop",
        ]
    );
}
