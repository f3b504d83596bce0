//! Users who log in with IAM tokens, on a MariaDB with a plugin of the name of RDS's (`tests/local/aws_authentication_plugin.c`): what is
//! said to the server, what it keeps and how it is logged in to are as on Aurora. Here a token is any text that the test allows
//! a user; on the local stack its signature is checked.

use super::support::{MASTER, MySqlServer, TOKEN_PLUGIN, declare, execute};
use crate::support::{as_login, credentials, name, other_trust};
use aurora_restore_database::{
    Changes, Checks, Credentials, DatabaseError, Endpoint, ErrorClass, Passwords, Server, SetupReport, Verdict, look,
    make, setup_users, verify,
};
use aurora_restore_domain::roles::{Authentication, Desired, InheritedLogins};
use secrecy::SecretString;
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const APP: (&str, &str, &str) = ("application_user", "app_user", "declared app");
const DEVOPS: (&str, &str, &str) = ("devops_user", "devops", "declared devops");
const READER: (&str, &str, &str) = ("readonly_user", "O'Brien `the\\ reader\"; --", "declared reader");
const TAKES_TOKENS: &str = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL";

/// What the plugin asks: who it asked for and with what, and who is let in.
#[derive(Default)]
struct Asked {
    allowed: Vec<(String, String)>,
    seen: Vec<(String, String)>,
}

/// A server with the plugin, and what stands for IAM.
struct Rds {
    server: MySqlServer,
    asked: Arc<Mutex<Asked>>,
}

impl Rds {
    async fn start(settings: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port().to_string(), Arc::<Mutex<Asked>>::default());
        let answering = Arc::clone(&asked);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| answer(client, &answering)));
        let plugin = format!("--plugin-load-add={TOKEN_PLUGIN}");
        let environment = [("TOKENS_HOST", "here"), ("TOKENS_PORT", port.as_str())];
        Self { server: MySqlServer::start_in(&[&[plugin.as_str()], settings].concat(), &environment).await, asked }
    }

    fn allow(&self, user: &str, token: &str) {
        self.asked.lock().unwrap().allowed.push((format!("here/{user}"), token.into()));
    }

    /// What the plugin was given since the last time.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap().seen).into_iter().map(|(_, token)| token).collect()
    }

    /// Logs in as any client of another make does that was told to send its password in clear.
    async fn login(&self, user: &str, token: &str, mode: MySqlSslMode) -> Result<(), String> {
        let options = MySqlConnectOptions::new().host("localhost").port(self.server.endpoint().port).ssl_mode(mode);
        let options = options.username(user).password(token).pipes_as_concat(false).enable_cleartext_plugin(true);
        match options.disable_statement_logging().connect().await {
            Ok(mut session) => execute(&mut session, "SELECT 1").await,
            Err(error) => Err(match error.as_database_error() {
                Some(error) => error.downcast_ref::<sqlx::mysql::MySqlDatabaseError>().number().to_string(),
                None => error.to_string(),
            }),
        }
    }
}

/// A simple bind: who (name), with what (token).
fn answer(mut client: TcpStream, asked: &Mutex<Asked>) {
    fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
        let length = u32::from_be_bytes(bytes[2..6].try_into().unwrap()) as usize;
        bytes[6..].split_at(length)
    }
    let mut head = [0; 6];
    if client.read_exact(&mut head).is_err() {
        return;
    }
    let mut message = vec![0; u32::from_be_bytes(head[2..].try_into().unwrap()) as usize];
    client.read_exact(&mut message).unwrap();
    let (_number, rest) = element(&message);
    let (bind, _) = element(rest);
    let (_version, rest) = element(bind);
    let (name, rest) = element(rest);
    let (token, _) = element(rest);
    let [name, token] = [name, token].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    let mut asked = asked.lock().unwrap();
    let result = if asked.allowed.contains(&(name.clone(), token.clone())) { 0 } else { 49 };
    asked.seen.push((name, token));
    client.write_all(&[0x30, 12, 2, 1, 1, 0x61, 7, 10, 1, result, 4, 0, 4, 0]).unwrap();
}

/// A declaration of these users, of whom those in `by_token` log in so; `partner` is kept.
fn declared(users: &[(&str, &str, &str)], by_token: &[&str]) -> (Desired, Passwords) {
    let (desired, _) = declare(users, &[]);
    let with_password = users.iter().filter(|(key, ..)| !by_token.contains(key));
    let passwords = with_password.map(|(_, role, password)| (name(role), SecretString::from(*password))).collect();
    let users = desired.declared().iter().map(|user| as_login(user, by_token.contains(&user.key.as_str()))).collect();
    let kept = BTreeSet::from([name("partner")]);
    (Desired::new(&name(MASTER.0), users, InheritedLogins::Lock, kept).unwrap(), passwords)
}

async fn set_up(rds: &Rds, users: &[(&str, &str, &str)], by_token: &[&str]) -> Result<SetupReport, DatabaseError> {
    let (desired, passwords) = declared(users, by_token);
    setup_users(&rds.server.server(), &desired, &passwords).await
}

fn as_user(rds: &Rds, user: &str, password: &str, login: Authentication) -> Server {
    Server { master: Credentials { login, ..credentials(user, password) }, ..rds.server.server() }
}

const REFUSED: &str = "1045";
const LOCKED: &str = "4151";

#[tokio::test]
async fn tokens_and_nothing_else_let_them_in() {
    let rds = Rds::start(&["--general-log", "--general-log-file=general.log", "--require-secure-transport=OFF"]).await;
    let users = [APP, DEVOPS, READER];
    let by_token = ["application_user", "readonly_user"];
    let report = set_up(&rds, &users, &by_token).await.unwrap();
    for change in [
        "create the user app_user@%, who logs in with IAM tokens",
        "let app_user@localhost log in with IAM tokens and no password",
        "create the user O'Brien `the\\ reader\"; --@%, who logs in with IAM tokens",
        "create the user devops@%",
    ] {
        assert!(report.changes.iter().any(|made| made == change), "{change} is not among {:#?}", report.changes);
    }
    let told: Vec<_> = report.declared.iter().map(|user| (user.created, user.password_set)).collect();
    assert_eq!(told, [(true, false), (true, true), (true, false)]);
    let kept = "SELECT concat_ws(' ', plugin, authentication_string, ssl_type) FROM mysql.user \
        WHERE User LIKE 'app%' OR User LIKE 'O%'";
    assert_eq!(rds.server.texts(kept).await, ["AWSAuthenticationPlugin RDS ANY"; 3]);
    assert_eq!(set_up(&rds, &users, &by_token).await.unwrap().changes, [""; 0]);

    // verify-restore's own way in, and its reads and writes with the rights of each.
    let (desired, mut tokens) = declared(&users, &by_token);
    for (_, user, _) in [APP, READER] {
        let token = format!("the token of {user}");
        rds.allow(user, &token);
        tokens.add_token(name(user), token.into());
    }
    let found = verify(&rds.server.server(), &desired, &tokens, &Checks::default()).await.unwrap();
    assert!(found.iter().all(|check| check.verdict == Verdict::Passed), "{found:#?}");
    assert_eq!(found.iter().filter(|check| check.name.starts_with("login of ")).count(), 3);
    assert!(rds.seen().iter().all(|token| token.starts_with("the token of ")));

    // Production's password, the secret's and another user's token, from a client that sends whatever it has.
    let tls = MySqlSslMode::Required;
    assert_eq!(rds.login(APP.1, "the token of app_user", tls).await, Ok(()));
    for wrong in ["production app", APP.2, &format!("the token of {}", READER.1), ""] {
        assert_eq!(rds.login(APP.1, wrong, tls).await, Err(REFUSED.into()), "{wrong}");
    }
    assert_eq!(rds.login(APP.1, "the token of app_user", MySqlSslMode::Disabled).await, Err(REFUSED.into()));
    // Ours sends no password so: it is not even asked about.
    rds.seen();
    let error = as_user(&rds, APP.1, "production app", Authentication::Password).try_master().await.unwrap_err();
    assert_eq!((error.class(), rds.seen()), (ErrorClass::Invalid, vec![]), "{error}");
    let error = as_user(&rds, APP.1, "another token", Authentication::Iam).try_master().await.unwrap_err();
    assert_eq!((error.sqlstate(), rds.seen()), (Some("28000, MySQL error 1045"), vec!["another token".into()]));
    // Nor a token to who cannot prove who it is.
    let good = as_user(&rds, APP.1, "the token of app_user", Authentication::Iam);
    good.try_master().await.unwrap();
    rds.seen();
    let by_address = Endpoint { host: "127.0.0.1".into(), ..good.endpoint.clone() };
    for server in [Server { endpoint: by_address, ..good.clone() }, Server { trust: other_trust(), ..good }] {
        let error = server.try_master().await.unwrap_err();
        assert!(matches!(error, DatabaseError::TlsRefused { .. }), "{error:?}");
    }
    assert_eq!(rds.seen(), [""; 0]);

    let log = rds.server.file("general.log");
    assert!(log.contains(TAKES_TOKENS), "{log}");
    for (place, text) in
        [("general log", log), ("error log", rds.server.log()), ("found", format!("{found:?} {tokens:?}"))]
    {
        assert!(!text.contains("the token of") && !text.contains("another token"), "{place}: {text}");
    }
}

#[tokio::test]
async fn one_way_of_login_and_back() {
    let rds = Rds::start(&[]).await;
    let tls = MySqlSslMode::Required;
    set_up(&rds, &[APP, DEVOPS], &[]).await.unwrap();
    let report = set_up(&rds, &[APP, DEVOPS], &["devops_user"]).await.unwrap();
    assert_eq!(report.changes, ["let devops@% log in with IAM tokens and no password"]);
    rds.allow(DEVOPS.1, "a token");
    assert_eq!(rds.login(DEVOPS.1, "a token", tls).await, Ok(()));
    assert_eq!(rds.login(DEVOPS.1, DEVOPS.2, tls).await, Err(REFUSED.into()));
    assert_eq!(set_up(&rds, &[APP, DEVOPS], &["devops_user"]).await.unwrap().changes, [""; 0]);

    let report = set_up(&rds, &[APP, DEVOPS], &[]).await.unwrap();
    assert_eq!(report.changes, ["set the password of devops@%"]);
    assert_eq!(rds.login(DEVOPS.1, "a token", tls).await, Err(REFUSED.into()));
    assert!(rds.server.session((DEVOPS.1, DEVOPS.2)).await.is_ok());
    assert_eq!(set_up(&rds, &[APP, DEVOPS], &[]).await.unwrap().changes, [""; 0]);
}

#[tokio::test]
async fn productions_own_token_users() {
    let rds = Rds::start(&[]).await;
    for user in ["prod_etl@'%'", "devops@'10.%'"] {
        rds.server.run(&[&format!("CREATE USER {user} {TAKES_TOKENS}")]).await;
    }
    rds.allow("prod_etl", "a token");
    let tls = MySqlSslMode::Required;
    assert_eq!(rds.login("prod_etl", "a token", tls).await, Ok(()));
    let report = set_up(&rds, &[APP, DEVOPS], &[]).await.unwrap();
    for change in ["lock the inherited login prod_etl@%", "set the password of devops@10.%"] {
        assert!(report.changes.iter().any(|made| made == change), "{change} is not among {:#?}", report.changes);
    }
    assert!(report.locked.contains(&"prod_etl@%".to_owned()), "{:?}", report.locked);
    assert_eq!(rds.login("prod_etl", "a token", tls).await, Err(LOCKED.into()));
}

#[tokio::test]
async fn what_was_undone_by_hand_is_mended() {
    let rds = Rds::start(&[]).await;
    let by_token = ["application_user", "devops_user"];
    set_up(&rds, &[APP, DEVOPS], &by_token).await.unwrap();
    let tokens = "let devops@% log in with IAM tokens and no password";
    for (undone, changes) in [
        ("ALTER USER devops@'%' IDENTIFIED BY 'by hand'", &[tokens][..]),
        (
            "ALTER USER devops@'%' IDENTIFIED BY 'by hand' PASSWORD EXPIRE ACCOUNT LOCK",
            &[tokens, "make devops@% PASSWORD EXPIRE NEVER, ACCOUNT UNLOCK"],
        ),
        ("ALTER USER devops@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'other'", &[tokens]),
        (
            "ALTER USER devops@'%' IDENTIFIED VIA AWSAuthenticationPlugin USING 'RDS' OR mysql_native_password USING PASSWORD('by hand')",
            &[tokens],
        ),
        ("ALTER USER devops@'%' REQUIRE NONE", &["make devops@% REQUIRE SSL"]),
        ("ALTER USER devops@'%' REQUIRE X509", &["make devops@% REQUIRE SSL"]),
    ] {
        rds.server.run(&[undone]).await;
        assert_eq!(set_up(&rds, &[APP, DEVOPS], &by_token).await.unwrap().changes, changes, "{undone}");
        assert_eq!(set_up(&rds, &[APP, DEVOPS], &by_token).await.unwrap().changes, [""; 0], "{undone}");
    }
}

#[tokio::test]
async fn before_masking_no_token_lets_anybody_in() {
    let rds = Rds::start(&[]).await;
    let (desired, passwords) = declared(&[APP, DEVOPS], &["devops_user"]);
    let server = rds.server.server();
    setup_users(&server, &desired, &passwords).await.unwrap();
    rds.allow(DEVOPS.1, "a token");
    let tls = MySqlSslMode::Required;
    assert_eq!(rds.login(DEVOPS.1, "a token", tls).await, Ok(()));
    let closing = look(&server, &desired, &passwords).await.unwrap().closing(&desired);
    assert!(closing.describe().contains(&"lock devops@% until it is set up".to_owned()), "{:?}", closing.describe());
    make(&server, &closing, &passwords).await.unwrap();
    assert_eq!(rds.login(DEVOPS.1, "a token", tls).await, Err(LOCKED.into()));
    setup_users(&server, &desired, &passwords).await.unwrap();
    assert_eq!(rds.login(DEVOPS.1, "a token", tls).await, Ok(()));
}

#[tokio::test]
async fn a_server_that_knows_no_tokens_says_so_before_anything_changes() {
    let server = MySqlServer::start(&[]).await;
    let (desired, passwords) = declared(&[APP, DEVOPS, READER], &["devops_user", "application_user"]);
    let error = setup_users(&server.server(), &desired, &passwords).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    let said = "the database server has no plugin AWSAuthenticationPlugin, without which application_user, devops_user cannot log in with IAM tokens";
    assert!(error.to_string().starts_with(said), "{error}");
    assert!(server.session(("prod_admin", "production admin")).await.is_ok(), "nothing was changed");
}

#[tokio::test]
async fn half_of_the_work_lets_nobody_in_with_a_password() {
    let rds = Rds::start(&[]).await;
    let (desired, passwords) = declared(&[APP, DEVOPS], &["application_user", "devops_user"]);
    let server = rds.server.server();
    let Changes::MySql(all) = look(&server, &desired, &passwords).await.unwrap().changes(&desired) else {
        panic!("another engine")
    };
    for count in 0..=all.len() {
        make(&server, &Changes::MySql(all[..count].to_vec()), &passwords).await.unwrap();
        // Who has a right that is new has lost the old password before.
        let has_rights = all[..count].iter().any(|change| change.to_string().contains("to app_user@localhost"));
        assert!(!has_rights || rds.server.session(("app_user", "production app")).await.is_err(), "after {count}");
    }
    assert!(look(&server, &desired, &passwords).await.unwrap().changes(&desired).is_empty());
}
