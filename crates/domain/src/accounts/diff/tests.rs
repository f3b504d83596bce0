//! The decision table: a server in a few words, and the changes that it takes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod limits;
mod tokens;

use super::super::{Names, RoutineKind, describe};
use super::*;
use crate::roles::RoleName;

fn account(text: &str) -> Account {
    match text.split_once('@') {
        Some((user, host)) => Account::new(user, host),
        None => Account::everywhere(text),
    }
}

fn privileges(names: &[&str]) -> BTreeSet<Privilege> {
    names.iter().map(|name| Privilege::parse(name).unwrap()).collect()
}

/// A server with the master, AWS's own accounts, and `accounts` as (account, words). The words are attributes, `declared`
/// (the declared password is set), `tokens` (it takes them), `tls` (it must use it), `former` (a second password works), `power` (it may create users) and `role`.
fn server(accounts: &[(&str, &str)], memberships: &[(&str, &str)]) -> Observed {
    let own = [
        ("admin", ""),
        ("rdsadmin@localhost", ""),
        ("mysql.sys@localhost", "locked"),
        ("rds_superuser_role", "locked"),
        ("AWS_LAMBDA_ACCESS", "locked"),
    ];
    let seen = |words: &str| ObservedAccount {
        is_role: words.contains("role"),
        is_locked: words.contains("locked"),
        is_marked: words.contains("marked"),
        expires: words.contains("expires"),
        needs_certificate: words.contains("certificate"),
        needs_tls: words.contains("tls") || words.contains("certificate"),
        takes_tokens: words.contains("tokens"),
        has_former_password: words.contains("former"),
        has_sessions: words.contains("sessions"),
        server_rights: if words.contains("power") { privileges(&["CREATE USER"]) } else { BTreeSet::new() },
        password_is_declared: Some(words.contains("declared")),
    };
    let databases: BTreeSet<String> = BTreeSet::from(["my_shop".to_owned()]);
    Observed {
        flavor: Flavor::MySql8,
        version: "8.0.39".into(),
        names: Names::Patterns,
        master: account("admin"),
        accounts: own.iter().chain(accounts).map(|(name, words)| (account(name), seen(words))).collect(),
        memberships: memberships
            .iter()
            .map(|(role, member)| Membership { role: account(role), member: account(member) })
            .collect(),
        mandatory_roles: None,
        databases,
        system_databases: BTreeSet::from(["performance_schema".to_owned(), "sys".to_owned()]),
        named_tables: BTreeSet::new(),
        rights: BTreeMap::new(),
        grantable: privileges(&[
            "PROCESS",
            "REPLICATION CLIENT",
            "CONNECTION_ADMIN",
            "SELECT",
            "INSERT",
            "UPDATE",
            "DELETE",
            "EXECUTE",
        ]),
        notes: vec![],
    }
}

fn declared(users: &[(&str, &str)], inherited: InheritedLogins, kept: &[&str]) -> Desired {
    let users = users.iter().map(|(key, role)| DeclaredUser::from_secret(key, role).unwrap()).collect();
    let name = |text: &&str| RoleName::try_from(*text).unwrap();
    Desired::new(&name(&"admin"), users, inherited, kept.iter().map(name).collect()).unwrap()
}

fn only(users: &[(&str, &str)]) -> Desired {
    declared(users, InheritedLogins::Lock, &["kept"])
}

/// Gives every declared account what its profile has.
fn as_wanted(desired: &Desired, mut observed: Observed) -> Observed {
    for user in desired.declared() {
        for account in observed.accounts_of(&user.role) {
            let rights = wanted(user, &observed).0;
            observed.rights.insert(account, rights);
        }
    }
    observed
}

fn words(desired: &Desired, observed: &Observed) -> Vec<String> {
    describe(&diff(desired, observed))
}

#[test]
fn a_server_as_declared_needs_nothing() {
    let desired = only(&[("application_user", "app"), ("devops_user", "ops")]);
    let seen =
        server(&[("app", "declared"), ("app@10.%", "declared"), ("ops", "declared"), ("kept@h", "sessions")], &[]);
    let seen = as_wanted(&desired, seen);
    assert_eq!(words(&desired, &seen), [""; 0]);
    assert_eq!(notes(&desired, &seen), [""; 0]);
}

#[test]
fn declared_users_are_made_with_their_rights() {
    let made = |key| words(&only(&[(key, "app")]), &server(&[], &[]));
    assert_eq!(
        made("application_user"),
        [
            "create the user app@%",
            "grant CREATE TEMPORARY TABLES, DELETE, EXECUTE, INSERT, LOCK TABLES, SELECT, SHOW VIEW, UPDATE on database \
             my\\_shop to app@%",
        ]
    );
    assert_eq!(
        made("readonly_user"),
        ["create the user app@%", "grant SELECT, SHOW VIEW on database my\\_shop to app@%"]
    );
    assert_eq!(
        made("devops_user"),
        [
            "create the user app@%",
            "grant CONNECTION_ADMIN, PROCESS, REPLICATION CLIENT on the whole server to app@%",
            "grant ALTER, ALTER ROUTINE, CREATE, CREATE ROUTINE, CREATE TEMPORARY TABLES, CREATE VIEW, DELETE, DROP, EVENT, \
             EXECUTE, INDEX, INSERT, LOCK TABLES, REFERENCES, SELECT, SHOW VIEW, TRIGGER, UPDATE on database my\\_shop to \
             app@%",
            "grant SELECT on database performance\\_schema to app@%",
            "grant EXECUTE, SELECT on database sys to app@%",
        ]
    );
}

#[test]
fn with_partial_revokes_names_are_what_they_are() {
    let mut seen = server(&[], &[]);
    seen.names = Names::Literal;
    assert_eq!(
        words(&only(&[("readonly_user", "app")]), &seen)[1],
        "grant SELECT, SHOW VIEW on database my_shop to app@%"
    );
}

#[test]
fn every_account_of_a_declared_name_is_made_so() {
    let desired = only(&[("application_user", "app")]);
    let seen = server(&[("app@10.%", "former locked"), ("App", "")], &[("rds_superuser_role", "app@10.%")]);
    let mut seen = as_wanted(&desired, seen);
    assert_eq!(
        words(&desired, &seen),
        [
            // Names are case-sensitive: another login.
            "lock the inherited login App@%",
            "revoke the role rds_superuser_role@% from app@10.%",
            "create the user app@%",
            "set the password of app@10.%",
            "discard the former password of app@10.%",
            "make app@10.% ACCOUNT UNLOCK",
        ]
    );
    seen = as_wanted(&desired, server(&[("app", "declared expires certificate")], &[]));
    assert_eq!(words(&desired, &seen), ["make app@% REQUIRE SSL, PASSWORD EXPIRE NEVER"]);
}

#[test]
fn what_is_too_much_goes() {
    let desired = only(&[("readonly_user", "app")]);
    let mut seen = as_wanted(&desired, server(&[("app", "declared")], &[("team", "app")]));
    let right = |scope: Scope, privilege: &str| Right { scope, privilege: Privilege::parse(privilege).unwrap() };
    let table = |table: &str| Scope::Table { database: "my_shop".into(), table: table.into() };
    seen.rights.get_mut(&account("app")).unwrap().extend([
        right(Scope::Server, "SELECT"),
        right(Scope::Server, "GRANT OPTION"),
        right(Scope::Database("my%".into()), "INSERT"),
        right(Scope::Database("my\\_shop".into()), "DELETE"),
        right(table("orders"), "SELECT"),
        right(Scope::Column { database: "my_shop".into(), table: "orders".into(), column: "id".into() }, "UPDATE"),
        right(Scope::Routine { database: "my_shop".into(), kind: RoutineKind::Function, name: "f".into() }, "EXECUTE"),
        right(Scope::Proxy(account("admin")), "PROXY"),
    ]);
    assert_eq!(
        words(&desired, &seen),
        [
            "revoke the role team@% from app@%",
            "revoke GRANT OPTION, SELECT on the whole server from app@%",
            "revoke INSERT on database my% from app@%",
            "revoke DELETE on database my\\_shop from app@%",
            "revoke SELECT on table my_shop.orders from app@%",
            "revoke UPDATE on column my_shop.orders.id from app@%",
            "revoke EXECUTE on function my_shop.f from app@%",
            "revoke PROXY on account admin@% from app@%",
        ]
    );
}

#[test]
fn what_the_master_may_not_take_away_one_by_one_goes_with_all_the_rest() {
    let desired = only(&[("readonly_user", "app")]);
    let right = |scope: Scope, privilege: &str| Right { scope, privilege: Privilege::parse(privilege).unwrap() };
    let mysql = Scope::Table { database: "mysql".into(), table: "user".into() };
    for held in [right(Scope::Server, "SUPER"), right(mysql, "SELECT"), right(Scope::Database("x".into()), "EVENT")] {
        let mut seen = as_wanted(&desired, server(&[("app", "declared")], &[]));
        let proxy = right(Scope::Proxy(account("admin")), "PROXY");
        seen.rights.get_mut(&account("app")).unwrap().extend([held, proxy]);
        let made = words(&desired, &seen);
        assert_eq!(
            made,
            [
                "revoke all rights from app@%",
                "revoke PROXY on account admin@% from app@%",
                "grant SELECT, SHOW VIEW on database my\\_shop to app@%",
            ]
        );
    }
}

#[test]
fn inherited_logins_are_closed_each_account_for_itself() {
    let desired = declared(&[], InheritedLogins::Lock, &["kept", "batch@10.1.%"]);
    let seen = server(
        &[
            ("kept@a", "sessions"),
            ("kept@b", ""),
            ("batch@10.1.%", "sessions"),
            ("batch@10.2.%", "sessions"),
            ("root", "sessions"),
            ("@localhost", ""),
            ("boss", "power locked"),
            ("team", "locked"),
        ],
        &[("team", "root"), ("boss", "team"), ("rds_superuser_role", "kept@a"), ("AWS_LAMBDA_ACCESS", "batch@10.2.%")],
    );
    assert_eq!(
        words(&desired, &seen),
        [
            "lock the inherited login @localhost",
            "lock the inherited login batch@10.2.%",
            "lock the inherited login root@%",
            "revoke the role AWS_LAMBDA_ACCESS@% from batch@10.2.%",
            "revoke the role team@% from root@%",
            "end the sessions of batch",
            "end the sessions of root",
        ]
    );
}

#[test]
fn a_lock_that_was_cut_short_is_finished_and_a_shared_name_is_left_alone() {
    let seen = server(
        &[("root", "locked marked sessions"), ("batch@10.2.%", "locked marked sessions"), ("batch@10.1.%", "sessions")],
        &[("rds_superuser_role", "root")],
    );
    let desired = declared(&[], InheritedLogins::Lock, &["batch@10.1.%"]);
    assert_eq!(
        words(&desired, &seen),
        ["revoke the role rds_superuser_role@% from root@%", "end the sessions of root"]
    );
    let locked: Vec<_> = locked_logins(&desired, &seen).map(ToString::to_string).collect();
    assert_eq!(locked, ["batch@10.2.%", "root@%"]);
}

#[test]
fn before_masking_nobody_is_in_but_the_master_and_who_is_kept() {
    let desired = declared(&[("application_user", "app")], InheritedLogins::Lock, &["kept"]);
    let words =
        |accounts: &[(&str, &str)]| describe(&closing(&desired, &server(accounts, &[("rds_superuser_role", "root")])));
    let open =
        [("app", "declared"), ("app@10.%", ""), ("kept", "sessions"), ("root", "sessions"), ("rdsreports", "sessions")];
    assert_eq!(
        words(&open),
        [
            "lock the inherited login root@%",
            "lock app@% until it is set up",
            "lock app@10.% until it is set up",
            "revoke the role rds_superuser_role@% from root@%",
            "end the sessions of app",
            "end the sessions of root",
        ]
    );
    // A function that was killed between the lock and the sessions' end.
    assert_eq!(words(&[("app", "locked sessions"), ("app@10.%", "locked")]), ["end the sessions of app"]);
    // One account of a name that is still open lets everybody of that name in.
    assert_eq!(
        words(&[("app", "locked"), ("app@10.%", "")]),
        ["lock app@10.% until it is set up", "end the sessions of app"]
    );
    assert_eq!(words(&[("app", "locked"), ("kept", "sessions")]), [""; 0], "closed");
    // What is left open is left open now, too.
    for inherited in [InheritedLogins::Report, InheritedLogins::Keep] {
        assert!(closing(&declared(&[], inherited, &[]), &server(&open, &[])).is_empty());
    }
    // Setting up lets them in, after their password and rights are set.
    let seen = as_wanted(&desired, server(&[("app", "locked")], &[]));
    assert_eq!(describe(&diff(&desired, &seen)), ["set the password of app@%", "make app@% ACCOUNT UNLOCK"]);
}

#[test]
fn who_was_locked_as_a_declared_user_and_is_one_no_more_is_told() {
    let seen = server(
        &[("app@10.%", "locked"), ("app", ""), ("team", "locked"), ("ops", "locked")],
        &[("rds_superuser_role", "app@10.%")],
    );
    let closed = ["app@10.%", "ops@%"].map(str::to_owned);
    let desired = only(&[("devops_user", "ops")]).after_closing(closed.into());
    let locked: Vec<_> = locked_logins(&desired, &seen).map(ToString::to_string).collect();
    assert_eq!(locked, ["app@10.%"]);
    let note = "app@10.% was declared before masking, which locked it, and is declared no more: it stays locked";
    assert_eq!(notes(&desired, &seen), [note]);
    let changes = describe(&closing(&desired, &seen));
    assert_eq!(changes, ["lock the inherited login app@%", "revoke the role rds_superuser_role@% from app@10.%"]);
}

#[test]
fn report_and_keep_close_nothing() {
    let seen = server(&[("root", "sessions"), ("rdsreports", "")], &[]);
    let left =
        "login rdsreports@% was left alone: names that begin with rds, aws_, mysql. or mariadb. are the server's own";
    let report = declared(&[], InheritedLogins::Report, &[]);
    assert_eq!(words(&report, &seen), [""; 0]);
    assert_eq!(notes(&report, &seen), ["inherited login root@% can still log in", left]);
    let keep = declared(&[], InheritedLogins::Keep, &[]);
    assert_eq!((words(&keep, &seen), notes(&keep, &seen)), (vec![], vec![left.to_owned()]));
}

#[test]
fn the_masters_former_password_is_productions() {
    let mut seen = server(&[], &[]);
    seen.accounts.get_mut(&account("admin")).unwrap().has_former_password = true;
    assert_eq!(words(&only(&[]), &seen), ["discard the former password of admin@%"]);
}

#[test]
fn what_no_change_can_mend_is_told() {
    let desired = only(&[("devops_user", "ops")]);
    let mut seen = server(&[("@10.0.0.5", "locked marked"), ("ops", "declared")], &[]);
    seen.grantable.remove(&Privilege::parse("CONNECTION_ADMIN").unwrap());
    seen.mandatory_roles = Some("`team`@`%`".into());
    let seen = as_wanted(&desired, seen);
    assert_eq!(words(&desired, &seen), [""; 0]);
    assert_eq!(
        notes(&desired, &seen),
        [
            "everybody has the roles `team`@`%` (mandatory_roles), read-only users too",
            "ops lacks CONNECTION_ADMIN: the master may not grant it",
            "the anonymous account at host 10.0.0.5 comes before users from everywhere: clients from there cannot log in \
             while it is locked; drop it",
        ]
    );
}
