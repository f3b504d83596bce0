//! MySQL 8's own branches, on the wire: a script that answers as MySQL 8's manual says, in its protocol and over TLS. It is no
//! MySQL, and what it answers was written by hand; it shows what is sent to a MySQL 8 and how its answers are read.

mod wire;

use super::support::declare;
use crate::support::{as_login, name, other_trust};
use aurora_restore_database::{
    Changes, DatabaseError, Endpoint, ErrorClass, MaskScript, Passwords, Server, look, make, mask, mask_within,
    setup_users,
};
use aurora_restore_domain::accounts::{Account, AccountChange};
use aurora_restore_domain::roles::{Authentication, DeclaredUser, Desired, InheritedLogins};
use std::collections::BTreeSet;
use std::time::Duration;
use wire::{Answer, Script, rows};

/// The example of hashcat's mode 7401: what MySQL 8 keeps of the password "hashcat".
const OF_HASHCAT: &str = "\u{f9}\u{cc}\u{98}\u{ce}\u{08}\u{89}\u{29}\u{24}\u{f5}\u{0a}\u{21}\u{3b}\u{6b}\u{c5}\u{71}\u{a2}\u{c1}\u{17}\u{78}\u{c5}\
     bTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/";

fn kept() -> String {
    format!("$A$005${OF_HASHCAT}")
}

/// An Aurora MySQL 3 after a restore, as its catalogs tell it.
fn aurora(partial_revokes: &str) -> Vec<(&'static str, Answer)> {
    let kept = kept();
    let no = "0";
    let account = |user, host, locked, marked, former, plugin, kept| {
        let tls = if plugin == "AWSAuthenticationPlugin" { "1" } else { no };
        vec![user, host, no, locked, marked, no, no, former, plugin, kept, tls]
    };
    let accounts = vec![
        account("admin", "%", no, no, "1", "caching_sha2_password", kept.as_str()),
        account("app", "%", no, no, no, "caching_sha2_password", kept.as_str()),
        account("app", "10.%", no, no, "1", "mysql_native_password", "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4"),
        account("old", "%", "1", "1", no, "caching_sha2_password", kept.as_str()),
        account("prod", "10.%", no, no, no, "mysql_native_password", "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4"),
        account("rdsadmin", "localhost", no, no, no, "mysql_native_password", "*X"),
        account("rds_superuser_role", "%", "1", no, no, "caching_sha2_password", ""),
        account("AWS_LAMBDA_ACCESS", "%", "1", no, no, "caching_sha2_password", ""),
        account("team", "%", "1", no, no, "caching_sha2_password", ""),
        account(
            "mysql.sys",
            "localhost",
            "1",
            no,
            no,
            "caching_sha2_password",
            "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORD",
        ),
    ];
    let held = |names: &[&'static str]| {
        names.iter().map(|name| vec!["'rds_superuser_role'@'%'", *name, "YES"]).collect::<Vec<_>>()
    };
    let mut privileges = held(&[
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "CREATE",
        "DROP",
        "PROCESS",
        "REFERENCES",
        "INDEX",
        "ALTER",
        "SHOW DATABASES",
        "CREATE TEMPORARY TABLES",
        "LOCK TABLES",
        "EXECUTE",
        "REPLICATION CLIENT",
        "CREATE VIEW",
        "SHOW VIEW",
        "CREATE ROUTINE",
        "ALTER ROUTINE",
        "CREATE USER",
        "EVENT",
        "TRIGGER",
        "CONNECTION_ADMIN",
        "ROLE_ADMIN",
    ]);
    privileges.push(vec!["'app'@'%'", "SESSION_VARIABLES_ADMIN", "YES"]);
    privileges.push(vec!["'app'@'10.%'", "USAGE", "NO"]);
    vec![
        ("SELECT version()", rows(&["version()"], &[vec!["8.0.39"]])),
        ("SELECT current_user()", rows(&["current_user()"], &[vec!["admin@%"]])),
        ("FROM mysql.user u LEFT JOIN information_schema.user_attributes", rows(&["c"; 11], &accounts)),
        ("information_schema.processlist", rows(&["user"], &[vec!["prod"], vec!["rdsadmin"]])),
        (
            "mysql.role_edges",
            rows(
                &["c"; 4],
                &[
                    vec!["rds_superuser_role", "%", "admin", "%"],
                    vec!["AWS_LAMBDA_ACCESS", "%", "prod", "10.%"],
                    vec!["team", "%", "prod", "10.%"],
                    vec!["team", "%", "app", "%"],
                ],
            ),
        ),
        ("information_schema.user_privileges", rows(&["c"; 3], &privileges)),
        (
            "SHOW GLOBAL VARIABLES",
            rows(
                &["c"; 2],
                &[
                    vec!["general_log", "ON"],
                    vec!["mandatory_roles", ""],
                    vec!["partial_revokes", if partial_revokes == "ON" { "ON" } else { "OFF" }],
                ],
            ),
        ),
        (
            "information_schema.schemata",
            rows(
                &["c"],
                &[vec!["my_shop"], vec!["mysql"], vec!["sys"], vec!["performance_schema"], vec!["information_schema"]],
            ),
        ),
        (
            "FROM mysql.db",
            rows(
                &[
                    "Host",
                    "Db",
                    "User",
                    "Select_priv",
                    "Insert_priv",
                    "Create_tmp_table_priv",
                    "Grant_priv",
                    "Event_priv",
                ],
                &[
                    vec!["%", "my\\_shop", "app", "Y", "Y", "N", "N", "N"],
                    vec!["%", "my_shop", "app", "Y", "N", "Y", "Y", "N"],
                    vec!["%", "test", "", "N", "Y", "N", "N", "N"],
                ],
            ),
        ),
        ("mysql.tables_priv", rows(&["c"; 5], &[vec!["app", "%", "my_shop", "orders", "Select,Create View,Grant"]])),
        ("mysql.columns_priv", rows(&["c"; 6], &[vec!["app", "%", "my_shop", "orders", "id", "Update"]])),
        (
            "mysql.procs_priv",
            rows(&["c"; 6], &[vec!["app", "10.%", "my_shop", "p", "PROCEDURE", "Execute,Alter Routine"]]),
        ),
        ("mysql.proxies_priv", rows(&["c"; 4], &[])),
    ]
}

#[tokio::test]
async fn the_catalogs_of_a_mysql_8_are_read_and_judged() {
    let script = Script::start(aurora("OFF"));
    let (desired, passwords) = declare(&[("application_user", "app", "hashcat")], &[]);
    let server = script.server("admin", "hashcat");
    let seen = look(&server, &desired, &passwords).await.unwrap();
    assert_eq!(
        seen.changes(&desired).describe(),
        [
            "lock the inherited login prod@10.%",
            "revoke the role AWS_LAMBDA_ACCESS@% from prod@10.%",
            "revoke the role team@% from app@%",
            "end the sessions of prod",
            "set the password of app@10.%",
            "discard the former password of admin@%",
            "discard the former password of app@10.%",
            // SESSION_VARIABLES_ADMIN is not the master's to take away alone.
            "revoke all rights from app@%",
            "revoke ALTER ROUTINE, EXECUTE on procedure my_shop.p from app@10.%",
            "grant CREATE TEMPORARY TABLES, DELETE, EXECUTE, INSERT, LOCK TABLES, SELECT, SHOW VIEW, UPDATE on database \
             my\\_shop to app@%",
            "grant CREATE TEMPORARY TABLES, DELETE, EXECUTE, INSERT, LOCK TABLES, SELECT, SHOW VIEW, UPDATE on database \
             my\\_shop to app@10.%",
        ]
    );
    let report = seen.report(&desired, &seen.changes(&desired));
    assert_eq!(report.locked, ["old@%"]);
    let logged =
        "the general log is on and the master may not keep out of it: it shows hashes of passwords that are set";
    assert_eq!(report.notes, [logged, "everybody has INSERT on database test"]);

    // With partial revokes, the same names mean other databases.
    let script = Script::start(aurora("ON"));
    let changes = look(&script.server("admin", "hashcat"), &desired, &passwords).await.unwrap().changes(&desired);
    assert!(
        changes.describe().last().unwrap().ends_with("on database my_shop to app@10.%"),
        "{:?}",
        changes.describe()
    );
}

#[tokio::test]
async fn what_is_said_to_a_mysql_8() {
    let mut answers = aurora("OFF");
    // RDS's master may not end the sessions of everybody; after the procedure, nobody is connected.
    answers.insert(0, ("get_lock", rows(&["c"], &[vec!["1"]])));
    answers.insert(0, ("SELECT id FROM information_schema.processlist", rows(&["id"], &[vec!["77"]]).once()));
    answers.insert(1, ("SELECT id FROM information_schema.processlist", rows(&["id"], &[])));
    answers.insert(0, ("KILL 77", Answer::refused(1095, "HY000")));
    let script = Script::start(answers);
    let (desired, passwords) =
        declare(&[("application_user", "app", "hashcat"), ("devops_user", "o'`ps", "second secret")], &[]);
    let server = script.server("admin", "hashcat");
    let changes = look(&server, &desired, &passwords).await.unwrap().changes(&desired);
    let looked = script.statements().len();
    make(&server, &changes, &passwords).await.unwrap();
    let said: Vec<String> =
        script.statements().split_off(looked).iter().map(|statement| without_hashes(statement)).collect();
    let app = "CREATE TEMPORARY TABLES, DELETE, EXECUTE, INSERT, LOCK TABLES, SELECT, SHOW VIEW, UPDATE";
    assert_eq!(
        said,
        [
            "SET time_zone='+00:00',NAMES utf8mb4;",
            "SELECT version()",
            "SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, max_execution_time = 120000",
            "SET ROLE ALL",
            "SELECT get_lock('aurora-restore', 10)",
            "SET SESSION sql_log_off = ON",
            "SET SESSION slow_query_log = OFF",
            "SET SESSION long_query_time = 3600",
            "ALTER USER `prod`@`10.%` ACCOUNT LOCK ATTRIBUTE '{\"aurora_restore\": \"locked\"}'",
            "REVOKE `AWS_LAMBDA_ACCESS`@`%` FROM `prod`@`10.%`",
            "REVOKE `team`@`%` FROM `app`@`%`",
            "SELECT id FROM information_schema.processlist WHERE user = _utf8mb4 0x70726F64 AND id <> connection_id()",
            "KILL 77",
            "CALL mysql.rds_kill(77)",
            "SELECT id FROM information_schema.processlist WHERE user = _utf8mb4 0x70726F64 AND id <> connection_id()",
            "CREATE USER IF NOT EXISTS `o'``ps`@`%` IDENTIFIED WITH caching_sha2_password AS <70 bytes>",
            "ALTER USER `app`@`10.%` IDENTIFIED WITH caching_sha2_password AS <70 bytes>",
            "ALTER USER `admin`@`%` DISCARD OLD PASSWORD",
            "ALTER USER `app`@`10.%` DISCARD OLD PASSWORD",
            "REVOKE ALL PRIVILEGES, GRANT OPTION FROM `app`@`%`",
            "REVOKE ALTER ROUTINE, EXECUTE ON PROCEDURE `my_shop`.`p` FROM `app`@`10.%`",
            &format!("GRANT {app} ON `my\\_shop`.* TO `app`@`%`"),
            &format!("GRANT {app} ON `my\\_shop`.* TO `app`@`10.%`"),
            "GRANT CONNECTION_ADMIN, PROCESS, REPLICATION CLIENT ON *.* TO `o'``ps`@`%`",
            "GRANT ALTER, ALTER ROUTINE, CREATE, CREATE ROUTINE, CREATE TEMPORARY TABLES, CREATE VIEW, DELETE, DROP, EVENT, \
             EXECUTE, INDEX, INSERT, LOCK TABLES, REFERENCES, SELECT, SHOW VIEW, TRIGGER, UPDATE ON `my\\_shop`.* TO `o'``ps`@`%`",
            "GRANT SELECT ON `performance\\_schema`.* TO `o'``ps`@`%`",
            "GRANT EXECUTE, SELECT ON `sys`.* TO `o'``ps`@`%`",
        ]
    );
    assert!(
        script.statements().iter().all(|statement| !statement.contains("secret") && !statement.contains("hashcat"))
    );
}

/// What is kept of a password, by its length: its salt is another each time. It begins as MySQL writes it.
fn without_hashes(statement: &str) -> String {
    match statement.split_once("0x2441243030352") {
        Some((before, digits)) => format!("{before}<{} bytes>", ("2441243030352".len() + digits.len()) / 2),
        None => statement.to_owned(),
    }
}

/// A MySQL 8 with marks, and how a script of `text` ends there.
fn with_marks(text: &'static str, ending: Answer) -> Script {
    let mut answers = aurora("OFF");
    for (question, answer) in [
        ("get_lock", "1"),
        ("SELECT connection_id()", "77"),
        ("trigger_schema = 'aurora_restore_masking'", "1"),
        ("processlist WHERE id = 77", "0"),
    ] {
        answers.insert(0, (question, rows(&["c"], &[vec![answer]])));
    }
    answers.insert(0, ("SELECT sha256, done", rows(&["c"; 2], &[])));
    answers.insert(0, ("FROM information_schema.tables WHERE table_type = 'BASE TABLE'", rows(&["c"], &[])));
    answers.insert(0, ("UPDATE aurora_restore_masking.marks", Answer::changed(1)));
    answers.insert(0, (text, ending));
    Script::start(answers)
}

fn mask_script(sql: &str) -> MaskScript {
    MaskScript { name: "a.sql".into(), database: "my_shop".into(), sha256: "ab".into(), sql: sql.into() }
}

#[tokio::test]
async fn masking_on_a_mysql_8() {
    let is_of_a_look = |said: &String| said.contains("information_schema") || said.contains("version()");
    for (sql, marked_first) in [("UPDATE a SET b = 'o''x'; DELETE FROM c", false), ("CALL mask()", true)] {
        let script = with_marks("no such", Answer::changed(1));
        assert_eq!(mask(&script.server("admin", "hashcat"), "op", &mask_script(sql)).await.unwrap(), Some(1));
        let said: Vec<String> = script.statements().into_iter().filter(|said| !is_of_a_look(said)).collect();
        let key = "operation_id = _utf8mb4 0x6F70 AND name = _utf8mb4 0x612E73716C";
        let mark = format!("SELECT sha256, done FROM aurora_restore_masking.marks WHERE {key}");
        let done = format!("UPDATE aurora_restore_masking.marks SET done = 1 WHERE {key}");
        let mut wanted = vec![
            "SET time_zone='+00:00',NAMES utf8mb4;",
            "SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, max_execution_time = 120000",
            "SET ROLE ALL",
            "USE `my_shop`",
            "SET SESSION lock_wait_timeout = 30, innodb_lock_wait_timeout = 30, sql_mode = @@GLOBAL.sql_mode, \
             time_zone = @@GLOBAL.time_zone, max_execution_time = 0",
            "SELECT connection_id()",
            "SELECT get_lock('aurora-restore-masking', 10)",
            "CREATE DATABASE IF NOT EXISTS aurora_restore_masking",
            "CREATE TABLE IF NOT EXISTS aurora_restore_masking.marks (operation_id varbinary(100), name varbinary(1024), \
             sha256 varbinary(64) NOT NULL, done tinyint NOT NULL, PRIMARY KEY (operation_id, name)) \
             ENGINE = InnoDB, COMMENT = 'masking scripts of aurora-restore'",
            &mark,
            "SET SESSION autocommit = 0",
            "START TRANSACTION READ WRITE",
            "INSERT INTO aurora_restore_masking.marks VALUES (_utf8mb4 0x6F70, _utf8mb4 0x612E73716C, _utf8mb4 0x6162, 0)",
        ];
        wanted.extend(marked_first.then_some("COMMIT"));
        wanted.extend([sql, "UNLOCK TABLES", &done, "COMMIT"]);
        assert_eq!(said, wanted);
    }
}

#[tokio::test]
async fn a_masking_script_that_a_mysql_8_refuses_or_never_ends() {
    let script = with_marks("DROP TABLE a", Answer::refused(1051, "42S02"));
    let error = mask(&script.server("admin", "hashcat"), "op", &mask_script("DROP TABLE a")).await.unwrap_err();
    let refused =
        "script a.sql failed at statement 1: the database server refused it (SQLSTATE 42S02, MySQL error 1051)";
    assert_eq!(error.to_string(), refused);
    assert!(!format!("{error:?}").contains("what the script said"));
    let said = script.statements();
    assert!(said[said.len() - 3..].starts_with(&["ROLLBACK".to_owned(), "UNLOCK TABLES".to_owned()]), "{said:?}");

    let script = with_marks("DO sleep", Answer::silent());
    let server = script.server("admin", "hashcat");
    let error = mask_within(&server, "op", &mask_script("DO sleep(60)"), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "script a.sql failed at statement 1: the script did not end within 1 s; split it");
    assert!(script.statements().iter().any(|said| said == "KILL 77"), "{:?}", script.statements());
}

#[tokio::test]
async fn limits_and_single_tables_on_a_mysql_8() {
    use aurora_restore_domain::roles::{Access, Grant, Limits, ObjectKind, Privilege, Profile, Scope};
    let only = |name: &str| Scope::only([name.to_owned()]);
    let grant = |tables, privileges: &[Privilege]| {
        let privileges = privileges.iter().copied().collect();
        Grant { on: ObjectKind::Table, schemas: Scope::ALL, databases: only("my_shop"), tables, privileges }
    };
    let grants = vec![
        grant(only("o`rders"), &[Privilege::Select, Privilege::CreateView]),
        grant(Scope::ALL, &[Privilege::Insert, Privilege::ShowView]),
    ];
    let limits = Limits { databases: only("my_shop"), schemas: Scope::ALL };
    let user = DeclaredUser::new(
        "loader",
        "app",
        Access { profile: Profile::Custom, login: Default::default(), grants, limits },
    )
    .unwrap();
    let desired = Desired::new(&name("admin"), vec![user], InheritedLogins::Keep, BTreeSet::new()).unwrap();
    let (_, passwords) = declare(&[("application_user", "app", "hashcat")], &[]);
    let mut answers = aurora("OFF");
    answers.insert(0, ("get_lock", rows(&["c"], &[vec!["1"]])));
    // The server compares as it likes.
    let tables = [vec!["my_shop", "o`rders"], vec!["other", "o`rders"], vec!["my_shop", "O`RDERS"]];
    answers.insert(0, ("table_name IN (_utf8mb4 0x6F6072646572", rows(&["c"; 2], &tables)));
    let script = Script::start(answers);
    let server = script.server("admin", "hashcat");
    let seen = look(&server, &desired, &passwords).await.unwrap();
    assert_eq!(seen.missing_places(&desired), [""; 0]);
    make(&server, &seen.changes(&desired), &passwords).await.unwrap();
    let said = script.statements();
    let grants: Vec<_> = said.iter().filter(|said| said.starts_with("GRANT") && said.ends_with("`app`@`%`")).collect();
    assert_eq!(
        grants,
        [
            "GRANT INSERT, SHOW VIEW ON `my\\_shop`.* TO `app`@`%`",
            "GRANT CREATE VIEW, SELECT ON `my_shop`.`o``rders` TO `app`@`%`",
        ]
    );
}

#[tokio::test]
async fn a_login_by_caching_sha2_and_its_refusal() {
    let script = Script::start(aurora("OFF"));
    assert_eq!(script.server("admin", "hashcat").try_master().await.unwrap().server_version, "8.0.39");
    let error = script.server("admin", "wrong").try_master().await.unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("28000, MySQL error 1045"), ErrorClass::LoginRefused));
}

#[tokio::test]
async fn token_users_on_a_mysql_8() {
    let mut answers = aurora("OFF");
    let position = answers.iter().position(|(question, _)| question.starts_with("FROM mysql.user u")).unwrap();
    let account = |user, host, plugin, method, tls| vec![user, host, "0", "0", "0", "0", "0", "1", plugin, method, tls];
    answers[position].1 = rows(
        &["c"; 11],
        &[
            account("admin", "%", "caching_sha2_password", "", "0"),
            account("app", "%", "mysql_native_password", "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4", "0"),
            account("app", "10.%", "AWSAuthenticationPlugin", "RDS", "0"),
            account("ops", "%", "AWSAuthenticationPlugin", "RDS", "1"),
            account("etl", "%", "AWSAuthenticationPlugin", "RDS", "1"),
        ],
    );
    answers.insert(0, ("information_schema.processlist", rows(&["user"], &[])));
    answers.insert(0, ("get_lock", rows(&["c"], &[vec!["1"]])));
    let users = [("application_user", "app", ""), ("readonly_user", "o'`new", ""), ("devops_user", "ops", "hashcat")];
    let (declared, passwords) = declare(&users, &[]);
    let by_token = |user: &DeclaredUser| as_login(user, user.key != "devops_user");
    let users = declared.declared().iter().map(by_token).collect();
    let desired = Desired::new(&name("admin"), users, InheritedLogins::Lock, BTreeSet::new()).unwrap();

    let script = Script::start(answers.clone());
    let error = look(&script.server("admin", "hashcat"), &desired, &passwords).await.unwrap_err();
    assert!(
        error.to_string().starts_with("the database server has no plugin AWSAuthenticationPlugin, without which application_user, readonly_user cannot"),
        "{error}"
    );

    answers.insert(
        0,
        ("FROM information_schema.plugins WHERE plugin_name = _utf8mb4 0x41575341", rows(&["1"], &[vec!["1"]])),
    );
    let script = Script::start(answers);
    let server = script.server("admin", "hashcat");
    let changes = look(&server, &desired, &passwords).await.unwrap().changes(&desired);
    make(&server, &changes, &passwords).await.unwrap();
    let said: Vec<String> = script.statements().iter().map(|statement| without_hashes(statement)).collect();
    let said: Vec<_> = said.iter().filter(|said| said.contains(" USER ")).collect();
    let tokens = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL";
    assert_eq!(
        said,
        [
            "ALTER USER `etl`@`%` ACCOUNT LOCK ATTRIBUTE '{\"aurora_restore\": \"locked\"}'",
            &format!("CREATE USER IF NOT EXISTS `o'``new`@`%` {tokens}"),
            "ALTER USER `ops`@`%` IDENTIFIED WITH caching_sha2_password AS <70 bytes>",
            &format!("ALTER USER `app`@`%` {tokens}"),
            "ALTER USER `admin`@`%` DISCARD OLD PASSWORD",
            "ALTER USER `app`@`10.%` DISCARD OLD PASSWORD",
            "ALTER USER `ops`@`%` DISCARD OLD PASSWORD",
            "ALTER USER `app`@`10.%` REQUIRE SSL",
        ]
    );
}

/// A server that asks for a password in clear gets a token, over verified TLS, and never a password.
#[tokio::test]
async fn only_a_token_is_sent_in_clear() {
    let script = Script::start_asking_for_tokens(aurora("OFF"));
    let by_password = script.server("admin", "hashcat");
    let error = by_password.try_master().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid, "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hashcat"));
    assert_eq!(script.statements(), [""; 0], "nothing was sent");

    let token = "db:3306/?Action=connect&DBUser=admin&X-Amz-Signature=12";
    let mut tokens = Passwords::default();
    tokens.add_token(name("admin"), token.into());
    let master = tokens.credentials(&name("admin")).unwrap();
    assert_eq!(master.login, Authentication::Iam);
    let by_token = Server { master: master.clone(), ..by_password.clone() };
    by_token.try_master().await.unwrap();
    assert_eq!(script.statements()[0], format!("in clear: {token}\0"));

    // Nor a token to who is not who it should be.
    let script = Script::start_asking_for_tokens(aurora("OFF"));
    let endpoint = script.server("admin", "").endpoint;
    for server in [
        Server { endpoint: endpoint.clone(), trust: other_trust(), ..by_token.clone() },
        Server { endpoint: Endpoint { host: "127.0.0.1".into(), ..endpoint }, ..by_token },
    ] {
        let error = server.try_master().await.unwrap_err();
        assert!(matches!(error, DatabaseError::TlsRefused { .. }), "{error:?}");
    }
    assert_eq!(script.statements(), [""; 0]);
    assert!(!format!("{master:?} {tokens:?}").contains("X-Amz"));
}

#[tokio::test]
async fn too_old_and_refused_are_told() {
    let mut answers = aurora("OFF");
    answers[0] = ("SELECT version()", rows(&["version()"], &[vec!["5.7.44"]]));
    let script = Script::start(answers);
    let (desired, passwords) = declare(&[("application_user", "app", "hashcat")], &[]);
    let error = setup_users(&script.server("admin", "hashcat"), &desired, &passwords).await.unwrap_err();
    assert_eq!(error.to_string(), "MySQL 5.7.44 is too old; 8.0.21 or later is needed");

    let mut answers = aurora("OFF");
    answers.insert(0, ("get_lock", rows(&["c"], &[vec!["1"]])));
    answers.insert(0, ("ALTER USER", Answer::refused(1064, "42000")));
    let script = Script::start(answers);
    let set = Changes::MySql(vec![AccountChange::SetPassword { account: Account::everywhere("app") }]);
    let error = make(&script.server("admin", "hashcat"), &set, &passwords).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database server refused to set the password of app@% (SQLSTATE 42000, MySQL error 1064)"
    );
    assert!(
        !format!("{error:?}").contains("what the script said"),
        "a server quotes the statement that it does not understand"
    );
}
