//! Users who log in with IAM tokens.

use super::*;
use crate::roles::{Access, Limits, Profile};

/// Users of these keys, which are their names; those in `by_token` log in so.
fn desired(users: &[&str], by_token: &[&str]) -> Desired {
    let user = |key: &&str| {
        let login = if by_token.contains(key) { Authentication::Iam } else { Authentication::Password };
        let access = Access { profile: Profile::ReadOnly, login, grants: vec![], limits: Limits::default() };
        DeclaredUser::new(key, key, access).unwrap()
    };
    let name = RoleName::try_from("admin").unwrap();
    Desired::new(&name, users.iter().map(user).collect(), InheritedLogins::Lock, BTreeSet::new()).unwrap()
}

#[test]
fn a_user_without_a_password() {
    let app = desired(&["app"], &["app"]);
    assert_eq!(
        words(&app, &server(&[], &[])),
        [
            "create the user app@%, who logs in with IAM tokens",
            "grant SELECT, SHOW VIEW on database my\\_shop to app@%"
        ]
    );
    let tokens = "let app@% log in with IAM tokens and no password";
    for (seen, changes) in [
        ("tokens tls", &[][..]),
        // Production's password, and the one that is declared no more.
        ("", &[tokens]),
        ("declared tls", &[tokens]),
        // The second password ends with the first; one that did not shows in the next observation.
        ("declared former", &[tokens]),
        ("tokens tls former", &["discard the former password of app@%"]),
        ("locked expires", &[tokens, "make app@% PASSWORD EXPIRE NEVER, ACCOUNT UNLOCK"]),
        ("tokens", &["make app@% REQUIRE SSL"]),
        ("tokens certificate", &["make app@% REQUIRE SSL"]),
        ("tokens tls locked", &["make app@% ACCOUNT UNLOCK"]),
    ] {
        assert_eq!(words(&app, &as_wanted(&app, server(&[("app", seen)], &[]))), changes, "{seen}");
    }
}

#[test]
fn a_user_with_a_password_takes_no_tokens_any_more() {
    let app = desired(&["app"], &[]);
    // That it must use TLS stays as it is.
    let seen = as_wanted(&app, server(&[("app", "tokens tls"), ("app@10.%", "declared tls")], &[]));
    assert_eq!(words(&app, &seen), ["set the password of app@%"]);
}

#[test]
fn every_account_of_the_name_takes_tokens() {
    let both = desired(&["app", "ops"], &["ops"]);
    let seen = server(&[("app", "declared"), ("ops@10.%", ""), ("ops@localhost", "tokens tls")], &[]);
    let changes = words(&both, &as_wanted(&both, seen));
    assert_eq!(
        changes,
        ["create the user ops@%, who logs in with IAM tokens", "let ops@10.% log in with IAM tokens and no password"]
    );
}

#[test]
fn production_s_own_token_users_are_locked_like_all_others() {
    let seen = server(&[("etl", "tokens tls sessions")], &[("rds_superuser_role", "etl")]);
    let locked = [
        "lock the inherited login etl@%",
        "revoke the role rds_superuser_role@% from etl@%",
        "end the sessions of etl",
    ];
    assert_eq!(words(&desired(&[], &[]), &seen), locked);
}
