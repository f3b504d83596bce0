//! A PostgreSQL server of a test's own, with a certificate authority of its own, on a free port of 127.0.0.1.
//!
//! The binaries are looked for in `$POSTGRES_BIN_DIR`, the newest `/usr/lib/postgresql/*/bin`, where `pg_config` says,
//! and on the `PATH`; one that was built without TLS gets a [`Front`]. A server ends with the process that started it, however that ends: it waits on a pipe.

use crate::front::Front;
use crate::production;
use aurora_restore_database::{Credentials, Endpoint, Passwords, Server, Trust};
use aurora_restore_domain::engine::Engine;
use aurora_restore_domain::roles::{
    Access, Authentication, DeclaredUser, Desired, Grant, InheritedLogins, Limits, ObjectKind, Privilege, Profile,
    RoleName, Scope,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use secrecy::SecretString;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// The bootstrap superuser is called as on RDS.
pub(crate) const SUPERUSER: &str = "rdsadmin";
pub(crate) const SUPERUSER_PASSWORD: &str = "rdsadmin's own";
pub(crate) const MASTER: &str = "master";
pub(crate) const MASTER_PASSWORD: &str = "master's new password";

/// Runs a server until standard input closes, which it does when this process ends, however that is. Then sends it the
/// signal in its first argument, and removes the directory in its second if the third says so.
pub(crate) const RUN_UNTIL_EOF: &str = "signal=$1; directory=$2; after=$3; shift 3; \"$@\" 2>>\"$directory/log\" & cat >/dev/null; \
    kill -$signal $! 2>/dev/null; wait $!; [ $after = keep ] || rm -rf \"$directory\"";

pub(crate) struct TestServer {
    process: Child,
    directory: PathBuf,
    port: u16,
    front: Option<Front>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl TestServer {
    /// Starts a server that holds [`production`], with `settings` besides its own. Panics with what to install if there
    /// is no PostgreSQL.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        static FILLED: OnceCell<Template> = OnceCell::const_new();
        let template = FILLED.get_or_init(fill_template).await;
        Self::start_copy(&template.directory, settings).await
    }

    /// One server for all tests that change nothing but what is theirs.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<TestServer> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::start(&[])).await
    }

    async fn start_copy(template: &Path, settings: &[&str]) -> Self {
        for _ in 0..3 {
            let directory = scratch_directory();
            run(&mut as_user("cp"), &["-a", &format!("{}/.", text(template)), text(&directory)]);
            // SIGQUIT: nobody wants what is in memory.
            let server = Self::run_in(directory, settings, ["QUIT", "remove"]);
            if server.is_up().await {
                return server;
            }
            eprintln!("{}", server.log());
        }
        panic!("PostgreSQL did not start three times; its log is above");
    }

    fn run_in(directory: PathBuf, settings: &[&str], [signal, after]: [&str; 2]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = as_user("sh");
        command.args(["-c", RUN_UNTIL_EOF, "sh", signal, text(&directory), after]);
        command.args([text(&binaries().join("postgres")), "-D", text(&directory)]);
        command.args(["-p", &port.to_string(), "-k", text(&directory)]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let process = command.stdin(Stdio::piped()).spawn().expect("sh");
        let (_, certificate, key) = certificates();
        let front = (!has_tls()).then(|| Front::before(port, certificate, key));
        Self { process, directory, port, front }
    }

    async fn is_up(&self) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self.log().contains("ready to accept connections")
            {
                return true;
            }
            if self.log().contains("FATAL") {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Everything that the server wrote down so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Who may log in, once the server reads it again.
    pub(crate) fn set_rules(&self, rules: &str) {
        write_private(&self.directory.join("pg_hba.conf"), rules);
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { host: "localhost".into(), port: self.front.as_ref().map_or(self.port, |front| front.port) }
    }

    /// Whether the server itself knows that its sessions are encrypted.
    pub(crate) fn knows_tls(&self) -> bool {
        self.front.is_none()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::from_pem(certificates().0.clone()).unwrap()
    }

    pub(crate) fn server(&self) -> Server {
        Server {
            engine: Engine::PostgreSql,
            endpoint: self.endpoint(),
            database: "postgres".into(),
            master: credentials(MASTER, MASTER_PASSWORD),
            trust: self.trust(),
        }
    }

    /// A plain session, as any client has it.
    pub(crate) async fn session(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass().host("localhost").port(self.endpoint().port);
        let options = options.username(user).password(password).database(database).ssl_mode(PgSslMode::Require);
        options.disable_statement_logging().connect().await
    }

    pub(crate) async fn superuser(&self, database: &str) -> PgConnection {
        self.session(SUPERUSER, SUPERUSER_PASSWORD, database).await.unwrap()
    }

    /// The one text that a query answers, asked as the superuser.
    pub(crate) async fn text(&self, database: &str, query: &str) -> String {
        let mut session = self.superuser(database).await;
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&mut session).await.unwrap()
    }

    /// Its major version.
    pub(crate) async fn major(&self) -> u32 {
        self.text("postgres", "SELECT current_setting('server_version_num')").await.parse::<u32>().unwrap() / 10_000
    }

    /// Runs statements as the superuser.
    pub(crate) async fn run(&self, database: &str, sql: &str) {
        let mut session = self.superuser(database).await;
        execute(&mut session, sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
}

/// Runs statements; the SQLSTATE if they are refused.
pub(crate) async fn execute(session: &mut PgConnection, sql: &str) -> Result<(), String> {
    let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await;
    result.map(drop).map_err(|error| match error.as_database_error() {
        Some(error) => error.code().unwrap_or_default().into_owned(),
        None => error.to_string(),
    })
}

pub(crate) fn name(text: &str) -> RoleName {
    RoleName::try_from(text).unwrap()
}

pub(crate) fn credentials(role: &str, password: &str) -> Credentials {
    Credentials::by_password(name(role), SecretString::from(password))
}

/// A declaration of (key, role, password), with `kept` logins.
pub(crate) fn declare(users: &[(&str, &str, &str)], kept: &[&str]) -> (Desired, Passwords) {
    let declared = users.iter().map(|(key, role, _)| DeclaredUser::from_secret(key, role).unwrap()).collect();
    let kept: BTreeSet<_> = kept.iter().map(|role| name(role)).collect();
    let desired = Desired::new(&name(MASTER), declared, InheritedLogins::Lock, kept).unwrap();
    let passwords = users.iter().map(|(_, role, password)| (name(role), SecretString::from(*password))).collect();
    (desired, passwords)
}

/// The same user, who logs in with tokens or with a password.
pub(crate) fn as_login(user: &DeclaredUser, by_token: bool) -> DeclaredUser {
    let login = if by_token { Authentication::Iam } else { Authentication::Password };
    DeclaredUser { login, ..user.clone() }
}

/// A user as a request declares it, in its words.
pub(crate) fn requested(
    key: &str,
    role: &str,
    profile: Profile,
    limits: [&[&str]; 2],
    grants: Vec<Grant>,
) -> DeclaredUser {
    let scope = |names: &[&str]| match names {
        [] => Scope::ALL,
        names => Scope::only(names.iter().map(|name| (*name).to_owned())),
    };
    let limits = Limits { databases: scope(limits[0]), schemas: scope(limits[1]) };
    DeclaredUser::new(key, role, Access { profile, login: Authentication::Password, grants, limits }).unwrap()
}

/// Rights of a custom user, in the schemas that are named, or in all.
pub(crate) fn grant(on: ObjectKind, schemas: &[&str], privileges: &[Privilege]) -> Grant {
    let only = || Scope::only(schemas.iter().map(|name| (*name).to_owned()));
    let schemas = if schemas.is_empty() { Scope::ALL } else { only() };
    let privileges = privileges.iter().copied().collect();
    Grant { on, schemas, databases: Scope::ALL, tables: Scope::ALL, privileges }
}

/// A data directory to copy.
struct Template {
    directory: PathBuf,
    /// Removes the directory when this process ends and the pipe closes.
    _remover: Child,
}

/// Makes an empty server, fills it as production, and stops it: once per test run.
async fn fill_template() -> Template {
    let directory = initialize();
    let server = TestServer::run_in(directory.clone(), &[], ["INT", "keep"]);
    assert!(server.is_up().await, "{}", server.log());
    production::fill(&server).await;
    drop(server);
    std::fs::remove_file(directory.join("log")).unwrap();
    let mut remover = as_user("sh");
    remover.args(["-c", "cat >/dev/null; rm -rf \"$1\"", "sh", text(&directory)]).stdin(Stdio::piped());
    Template { _remover: remover.spawn().expect("sh"), directory }
}

fn initialize() -> PathBuf {
    let directory = scratch_directory();
    let password = directory.with_extension("password");
    write_private(&password, SUPERUSER_PASSWORD);
    let password_file = format!("--pwfile={}", text(&password));
    let options = [
        "-A",
        "scram-sha-256",
        "--no-sync",
        "--wal-segsize=1",
        "-E",
        "UTF8",
        "--locale=C",
        "-U",
        SUPERUSER,
        &password_file,
    ];
    run(as_user(binaries().join("initdb")).args(["-D", text(&directory)]), &options);
    std::fs::remove_file(password).unwrap();
    let (_, certificate, key) = certificates();
    write_private(&directory.join("server.crt"), certificate);
    write_private(&directory.join("server.key"), key);
    let ssl = if has_tls() { "on" } else { "off" };
    write_private(&directory.join("pg_hba.conf"), &usual_rules());
    write_private(
        &directory.join("postgresql.auto.conf"),
        &format!(
            "listen_addresses = '127.0.0.1'\nssl = {ssl}\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\n\
         shared_buffers = 16MB\nmin_wal_size = 2MB\nmax_wal_size = 16MB\nmax_connections = 40\npassword_encryption = 'scram-sha-256'\n"
        ),
    );
    directory
}

/// Who may log in: everybody with a password, over TLS where the server has it.
pub(crate) fn usual_rules() -> String {
    format!("{} all all 127.0.0.1/32 scram-sha-256\n", if has_tls() { "hostssl" } else { "host" })
}

/// The authority that every server here comes from, and the certificate and key of one that is called `localhost` and
/// nothing else.
pub(crate) fn certificates() -> &'static (String, String, String) {
    static CERTIFICATES: OnceLock<(String, String, String)> = OnceLock::new();
    CERTIFICATES.get_or_init(|| {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority);
        (authority.pem(), certificate.unwrap().pem(), key.serialize_pem())
    })
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "aurora-restore test authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Trust in an authority of the same name that has signed nothing.
pub(crate) fn other_trust() -> Trust {
    Trust::from_pem(authority().pem()).unwrap()
}

/// Where PostgreSQL is.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let given = std::env::var_os("POSTGRES_BIN_DIR").map(PathBuf::from);
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut debian: Vec<_> = debian.map(|entry| entry.path()).collect();
        let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        debian.sort_by_key(|path| std::cmp::Reverse(version(path)));
        let configured = Command::new("pg_config").arg("--bindir").output().ok();
        let configured = configured.map(|output| String::from_utf8_lossy(&output.stdout).trim().into());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let candidates = debian.into_iter().map(|path| path.join("bin")).chain(configured);
        let mut candidates: Box<dyn Iterator<Item = PathBuf>> = match given {
            Some(given) => Box::new(std::iter::once(given)),
            None => Box::new(candidates.chain(std::env::split_paths(&path))),
        };
        candidates.find(|path| path.join("initdb").is_file() && path.join("postgres").is_file()).unwrap_or_else(|| {
            panic!(
                "these tests need a PostgreSQL server (13 to 18): install it, for instance with \
                 `apt-get install postgresql`, or let POSTGRES_BIN_DIR name the directory of initdb and postgres"
            )
        })
    })
}

/// Whether that PostgreSQL was built with TLS.
fn has_tls() -> bool {
    static HAS_TLS: OnceLock<bool> = OnceLock::new();
    *HAS_TLS.get_or_init(|| {
        let directory = scratch_directory();
        write_private(&directory.join("postgresql.conf"), "");
        let mut ask = as_user(binaries().join("postgres"));
        let answer = ask.args(["-D", text(&directory), "-C", "ssl_library"]).output().expect("postgres");
        let _ = std::fs::remove_dir_all(&directory);
        !String::from_utf8_lossy(&answer.stdout).trim().is_empty()
    })
}

/// The user that servers run as; `None` for our own. PostgreSQL refuses to run as root.
fn user() -> Option<(&'static str, u32, u32)> {
    static USER: OnceLock<Option<(&'static str, u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let id = |arguments: &[&str]| {
            let output = Command::new("id").args(arguments).output().expect("id");
            String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
        };
        if id(&["-u"]) != Some(0) {
            return None;
        }
        let found =
            ["postgres", "nobody"].iter().find_map(|user| Some((*user, id(&["-u", user])?, id(&["-g", user])?)));
        Some(found.expect("these tests run as root and need a user `postgres` or `nobody` for the server"))
    })
}

pub(crate) fn as_user(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    let mut command = match user() {
        None => Command::new(program),
        Some((_, uid, gid)) => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--", text(program)]);
            command
        }
    };
    command.current_dir(std::env::temp_dir());
    command
}

pub(crate) fn run(command: &mut Command, arguments: &[&str]) {
    let output = command.args(arguments).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A directory that was not there before, whatever earlier runs left behind; a server's is removed by what runs it.
pub(crate) fn scratch_directory() -> PathBuf {
    let private = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix("aurora-restore-test-").permissions(private).tempdir().unwrap();
    let directory = made.keep();
    give_away(&directory);
    directory
}

pub(crate) fn write_private(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    give_away(path);
}

fn give_away(path: &Path) {
    if let Some((_, uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().uid(), uid);
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
