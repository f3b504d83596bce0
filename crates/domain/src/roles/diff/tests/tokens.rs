//! Users who log in with IAM tokens.

use super::super::super::{Access, Limits, Profile};
use super::*;

fn by_token(key: &str, profile: Profile) -> DeclaredUser {
    let access = Access { profile, login: Authentication::Iam, grants: vec![], limits: Limits::default() };
    DeclaredUser::new(key, key, access).unwrap()
}

fn desired(users: &[DeclaredUser]) -> Desired {
    let kept = BTreeSet::from([name("kept")]);
    Desired::new(&name("master"), users.to_vec(), InheritedLogins::Lock, kept).unwrap()
}

fn server_of_rds(roles: &[(&str, &str)], memberships: &[(&str, &str)]) -> Observed {
    server(&[&[("rds_iam", "")][..], roles].concat(), memberships)
}

fn missing_default(owner: &str) -> MissingDefault {
    MissingDefault {
        owner: name(owner),
        schema: None,
        role: name("app"),
        kind: ObjectKind::Table,
        privilege: Privilege::Select,
    }
}

#[test]
fn a_user_without_a_password_that_could_come_back() {
    let app = desired(&[by_token("app", Profile::ReadWrite)]);
    assert_eq!(
        words(&app, &server_of_rds(&[], &[])),
        ["create the role app", "remove the password of app", "make app a member of rds_iam"]
    );
    // Production's, which may have a password that only a superuser can see.
    for (seen, changes) in [
        ("login", &["remove the password of app"][..]),
        ("login expires", &["remove the password of app"]),
        ("never noinherit", &["make app LOGIN, INHERIT"]),
        ("login never", &[]),
    ] {
        assert_eq!(words(&app, &server_of_rds(&[("app", seen)], &[("rds_iam", "app")])), changes, "{seen}");
    }
    // Other ways to power are closed as for every user, and a way round is no membership of its own.
    let roles = [("app", "login never"), ("team", "holds")];
    assert_eq!(
        words(&app, &server_of_rds(&roles, &[("rds_superuser", "app"), ("team", "app"), ("rds_iam", "team")])),
        ["remove app from rds_superuser", "remove app from team", "make app a member of rds_iam"]
    );
    // If the master may not grant it, the server shall say so.
    let mut foreign = server_of_rds(&[("app", "login never")], &[]);
    foreign.roles.get_mut(&name("rds_iam")).unwrap().master_may_grant = false;
    assert_eq!(words(&app, &foreign), ["make app a member of rds_iam"]);
}

#[test]
fn a_user_with_a_password_loses_the_membership_that_would_have_it_refused() {
    let app = declared(&[("application_user", "app")]);
    let roles = [("app", "login never"), ("team", "")];
    for memberships in [&[("rds_iam", "app")][..], &[("team", "app"), ("rds_iam", "team")]] {
        let (from, _) = memberships[0];
        assert_eq!(
            words(&app, &server_of_rds(&roles, memberships)),
            [&format!("remove app from {from}"), "make app VALID UNTIL 'infinity'", "set the password of app"]
        );
    }
}

/// RDS takes no password from a member of a member of `rds_iam`: a master that became one would be shut out.
#[test]
fn the_master_never_becomes_a_member_of_who_takes_tokens() {
    let desired = desired(&[by_token("ops", Profile::Devops)]);
    let memberships = [
        ("rds_iam", "ops"),
        ("pg_monitor", "ops"),
        ("pg_signal_backend", "ops"),
        ("rds_iam", "kept"),
        ("kept", "group"),
    ];
    let roles = [("ops", "login never"), ("kept", "login"), ("group", ""), ("owner", "")];
    let mut seen = server_of_rds(&roles, &memberships);
    assert_eq!(words(&desired, &seen), [""; 0], "nothing to do in its name");
    // What they own and make is changed in their names all the same, in one transaction.
    let mut shop = database(&["ops", "kept", "group", "owner"]);
    shop.missing_defaults = vec![missing_default("ops")];
    let stock = ObservedDatabase { name: "stock".into(), ..database(&["ops"]) };
    seen.databases = vec![shop, stock];
    assert_eq!(
        words(&desired, &seen),
        [
            "make master a member of owner",
            "act for group in one transaction (database shop)",
            "act for kept in one transaction (database shop)",
            "act for ops in one transaction (database shop)",
            "grant SELECT on each table that ops makes later to app (database shop)",
        ]
    );
    // Locked, an owner takes no tokens any more.
    let locked = Desired::new(&name("master"), vec![], InheritedLogins::Lock, BTreeSet::new()).unwrap();
    let mut seen = server_of_rds(&[("left", "login")], &[("rds_iam", "left")]);
    seen.databases = vec![database(&["left"])];
    assert_eq!(
        words(&locked, &seen),
        ["lock the inherited login left", "remove left from rds_iam", "make master a member of left"]
    );
}

#[test]
fn a_membership_of_the_master_ends_before_the_user_takes_tokens() {
    let desired = desired(&[by_token("app", Profile::ReadWrite)]);
    let mut seen = server_of_rds(&[("app", "login mine works")], &[("app", "master")]);
    let expected = ["remove master from app", "remove the password of app", "make app a member of rds_iam"];
    assert_eq!(words(&desired, &seen), expected);
    // PostgreSQL 16: one's own grant ends, that of the bootstrap superuser, who notes who made a role, cannot.
    let by = |grantor: &str| Membership { role: name("app"), member: name("master"), grantor: Some(name(grantor)) };
    seen.memberships = BTreeSet::from([by("master"), by("rdsadmin")]);
    assert_eq!(words(&desired, &seen), expected);
}

#[test]
fn a_database_whose_owner_takes_tokens_stays_closed_to_the_master() {
    let desired = desired(&[by_token("app", Profile::ReadWrite)]);
    let mut seen = server_of_rds(&[("app", "login never")], &[("rds_iam", "app")]);
    seen.databases = vec![ObservedDatabase { reachable: false, ..database(&["app"]) }];
    assert_eq!(words(&desired, &seen), [""; 0]);
    assert!(
        notes(&desired, &seen).contains(&"database shop was left out: the master may not connect to it".to_owned()),
        "{:#?}",
        notes(&desired, &seen)
    );
}
