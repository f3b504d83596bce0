//! Users who log in with IAM tokens. That a token lets them in is tested on the local stack, which can check one; here a
//! member of `rds_iam` is let in with nothing, as RDS takes no password from it.

use crate::support::{MASTER, TestServer, as_login, credentials, declare, execute, name, usual_rules};
use aurora_restore_database::{DatabaseError, ErrorClass, Passwords, SetupReport, setup_users, try_login};
use aurora_restore_domain::roles::{Desired, InheritedLogins};
use std::collections::BTreeSet;
use std::time::Duration;

const APP: (&str, &str, &str) = ("application_user", "app_user", "declared app");
const DEVOPS: (&str, &str, &str) = ("devops_user", "devops", "declared devops");
const READER: (&str, &str, &str) = ("readonly_user", "reader", "declared reader");

/// A server of RDS's kind, filled as production and with `more` of it, and whether it asks who is a member of `rds_iam`,
/// over any number of memberships, and lets nobody of them in with a password.
///
/// It does so before PostgreSQL 16. From then on the master is a member, without the rights, of all that it may grant and
/// change, and a stock server takes that for a membership in `rds_iam` too; on RDS it must be otherwise.
async fn rds(more: &str) -> (TestServer, bool) {
    let server = TestServer::start(&[]).await;
    server.run("postgres", "CREATE ROLE rds_iam").await;
    let is_strict = server.major().await < 16;
    if is_strict {
        server.set_rules(&format!("hostssl all +rds_iam 127.0.0.1/32 reject\n{}", usual_rules()));
        let loaded = server.text("postgres", "SELECT pg_conf_load_time()::text").await;
        server.run("postgres", "SELECT pg_reload_conf()").await;
        while server.text("postgres", "SELECT pg_conf_load_time()::text").await == loaded {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    } else {
        server.run("postgres", "GRANT rds_iam TO master WITH ADMIN TRUE, INHERIT FALSE, SET FALSE").await;
    }
    server.run("shop", more).await;
    (server, is_strict)
}

/// A declaration of these users, of whom those in `by_token` log in so; `partner` is kept.
fn declared(users: &[(&str, &str, &str)], by_token: &[&str]) -> (Desired, Passwords) {
    let (desired, passwords) = declare(users, &[]);
    let users = desired.declared().iter().map(|user| as_login(user, by_token.contains(&user.key.as_str()))).collect();
    let kept = BTreeSet::from([name("partner")]);
    (Desired::new(&name(MASTER), users, InheritedLogins::Lock, kept).unwrap(), passwords)
}

async fn set_up(
    server: &TestServer,
    users: &[(&str, &str, &str)],
    by_token: &[&str],
) -> Result<SetupReport, DatabaseError> {
    let (desired, passwords) = declared(users, by_token);
    setup_users(&server.server(), &desired, &passwords).await
}

async fn login(server: &TestServer, (_, role, password): (&str, &str, &str)) -> Result<(), ErrorClass> {
    let login = try_login(&server.endpoint(), "postgres", &credentials(role, password), &server.trust()).await;
    login.map(drop).map_err(|error| error.class())
}

const IS_MEMBER: &str = "SELECT pg_has_role('app_user', 'rds_iam', 'MEMBER')::text";

#[tokio::test]
async fn production_s_password_is_gone_for_good() {
    // A server that does not ask who is a member: only the password counts.
    let server = TestServer::start(&[]).await;
    let may_grant = if server.major().await < 16 { "" } else { "GRANT rds_iam TO master WITH ADMIN OPTION" };
    server.run("postgres", &format!("CREATE ROLE rds_iam; {may_grant}")).await;
    let production = ("", "app_user", "production app");
    assert_eq!(login(&server, production).await, Ok(()));
    let report = set_up(&server, &[APP, READER], &["application_user"]).await.unwrap();
    for change in
        ["remove app_user from shop_owner", "remove the password of app_user", "make app_user a member of rds_iam"]
    {
        assert!(report.changes.iter().any(|made| made == change), "{change} is not among {:#?}", report.changes);
    }
    assert!(!report.declared[0].password_set && report.declared[1].password_set);
    let password = "SELECT (rolpassword IS NULL)::text FROM pg_authid WHERE rolname = 'app_user'";
    assert_eq!(server.text("postgres", password).await, "true");
    assert_eq!(login(&server, production).await, Err(ErrorClass::LoginRefused));
    assert_eq!(login(&server, APP).await, Err(ErrorClass::LoginRefused), "the secret's is not set");
    assert_eq!(set_up(&server, &[APP, READER], &["application_user"]).await.unwrap().changes, [""; 0]);

    // Not even one that is set by hand, or by itself, lets it in when the membership is lost.
    server
        .run(
            "postgres",
            "SET ROLE master; REVOKE rds_iam FROM app_user; RESET ROLE; ALTER ROLE app_user PASSWORD 'production app'",
        )
        .await;
    assert_eq!(login(&server, production).await, Err(ErrorClass::LoginRefused));
    let mended = set_up(&server, &[APP, READER], &["application_user"]).await.unwrap();
    assert_eq!(mended.changes, ["make app_user a member of rds_iam"]);
}

#[tokio::test]
async fn who_is_to_have_a_password_is_freed_of_rds_iam() {
    for memberships in [
        "SET ROLE master; GRANT rds_iam TO app_user",
        "SET ROLE master; CREATE ROLE team; GRANT rds_iam TO team; GRANT team TO app_user",
    ] {
        let (server, is_strict) = rds(memberships).await;
        let before = login(&server, ("", "app_user", "production app")).await;
        assert_eq!(before, if is_strict { Err(ErrorClass::LoginRefused) } else { Ok(()) });
        set_up(&server, &[APP, READER], &[]).await.unwrap();
        assert_eq!((login(&server, APP).await, server.text("postgres", IS_MEMBER).await), (Ok(()), "false".into()));
        assert_eq!(set_up(&server, &[APP, READER], &[]).await.unwrap().changes, [""; 0]);
    }
}

#[tokio::test]
async fn one_way_of_login_and_back() {
    let (server, _) = rds("SELECT").await;
    // Devops makes objects, for which the master becomes a member of it, as long as it may.
    set_up(&server, &[APP, DEVOPS], &[]).await.unwrap();
    let report = set_up(&server, &[APP, DEVOPS], &["devops_user"]).await.unwrap();
    assert_eq!(
        report.changes,
        ["remove master from devops", "remove the password of devops", "make devops a member of rds_iam"]
    );
    assert_eq!(set_up(&server, &[APP, DEVOPS], &["devops_user"]).await.unwrap().changes, [""; 0]);
    let report = set_up(&server, &[APP, DEVOPS], &[]).await.unwrap();
    assert_eq!(
        report.changes,
        [
            "remove devops from rds_iam",
            "make devops VALID UNTIL 'infinity'",
            "set the password of devops",
            "make master a member of devops",
        ]
    );
    assert_eq!(login(&server, DEVOPS).await, Ok(()));
}

/// Owners and makers of objects that log in with tokens: rights on what is theirs are set, and the master can log in.
#[tokio::test]
async fn the_master_acts_for_who_takes_tokens_and_is_not_shut_out() {
    let (server, _) = rds("SET ROLE master; GRANT rds_iam TO partner; CREATE ROLE reader LOGIN; RESET ROLE;
         GRANT USAGE, CREATE ON SCHEMA sales TO partner; SET ROLE partner;
         CREATE TABLE sales.partners (x int); GRANT DELETE ON sales.partners TO reader")
    .await;
    let users = [APP, DEVOPS, READER];
    let report = set_up(&server, &users, &["devops_user"]).await.unwrap();
    for change in [
        "act for devops in one transaction (database shop)",
        "act for partner in one transaction (database shop)",
        "revoke DELETE on all tables in schema sales from reader (database shop)",
        "grant SELECT on each table that devops makes later to reader (database shop)",
    ] {
        assert!(report.changes.iter().any(|made| made == change), "{change} is not among {:#?}", report.changes);
    }
    assert!(!report.changes.iter().any(|made| made == "make master a member of devops"), "{:#?}", report.changes);
    let of_master = "SELECT string_agg(g.rolname, ', ') FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid \
        WHERE m.member = 'master'::regrole AND g.rolname IN ('devops', 'partner') \
        AND pg_has_role(m.member, m.roleid, 'USAGE')";
    assert_eq!(server.text("postgres", &format!("SELECT coalesce(({of_master}), 'none')")).await, "none");
    let mut reader = server.session(READER.1, READER.2, "shop").await.unwrap();
    assert_eq!(execute(&mut reader, "SELECT * FROM sales.partners").await, Ok(()));
    assert_eq!(execute(&mut reader, "DELETE FROM sales.partners").await, Err("42501".into()));
    server.run("shop", "SET ROLE devops; CREATE TABLE sales.later (x int)").await;
    assert_eq!(execute(&mut reader, "SELECT * FROM sales.later").await, Ok(()));
    assert_eq!(set_up(&server, &users, &["devops_user"]).await.unwrap().changes, [""; 0]);
}

#[tokio::test]
async fn what_would_shut_the_master_out_is_taken_back_and_said() {
    let (server, is_strict) = rds("CREATE ROLE friends; GRANT app_user TO friends; GRANT friends TO master").await;
    if !is_strict {
        return;
    }
    let error = set_up(&server, &[APP, READER], &["application_user"]).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Rejected);
    let said = "the database server does not let master in any more once it is to ";
    let words = error.to_string();
    assert!(
        words.starts_with(said) && words.ends_with("make app_user a member of rds_iam; that was taken back"),
        "{words}"
    );
    server.server().try_master().await.unwrap();
    assert_eq!(server.text("postgres", IS_MEMBER).await, "false");
    assert_eq!(login(&server, ("", "app_user", "production app")).await, Err(ErrorClass::LoginRefused));
}

#[tokio::test]
async fn a_server_that_knows_no_tokens_says_so_before_anything_changes() {
    let server = TestServer::start(&[]).await;
    let error = set_up(&server, &[APP, DEVOPS, READER], &["devops_user", "application_user"]).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    let said = "the database server has no role rds_iam, without which application_user, devops_user cannot log in with IAM tokens";
    assert!(error.to_string().starts_with(said), "{error}");
    assert_eq!(login(&server, ("", "prod_admin", "production admin")).await, Ok(()), "nothing was changed");
}

#[tokio::test]
async fn a_master_that_may_not_grant_rds_iam_is_told() {
    let server = TestServer::start(&[]).await;
    server.run("postgres", "CREATE ROLE rds_iam SUPERUSER").await;
    let error = set_up(&server, &[APP, READER], &["application_user"]).await.unwrap_err();
    let said = "the database server refused to make app_user a member of rds_iam (SQLSTATE 42501)";
    assert_eq!(error.to_string(), said);
    assert_eq!(login(&server, ("", "app_user", "production app")).await, Ok(()), "nothing of the transaction remains");
}
