//! A MariaDB server of a test's own, on a free port of 127.0.0.1, with TLS of the tests' authority and no connection without.
//!
//! `mariadbd` is looked for in `$MARIADB_DIR/sbin` and `/usr/sbin`, its texts and catalogs in `share/mysql` there.

use crate::support::{
    RUN_UNTIL_EOF, as_user, certificates, credentials, name, run, scratch_directory, text, write_private,
};
use aurora_restore_database::{Endpoint, Passwords, Server, Trust};
use aurora_restore_domain::engine::Engine;
use aurora_restore_domain::roles::{DeclaredUser, Desired, InheritedLogins};
use secrecy::SecretString;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

pub(crate) const SUPERUSER: (&str, &str) = ("rdsadmin", "rdsadmin's own");
pub(crate) const MASTER: (&str, &str) = ("admin", "master's new password");

/// What stands for RDS's plugin for IAM tokens, in each server's data directory. Loaded where a test says so.
pub(crate) const TOKEN_PLUGIN: &str = "aws_authentication_plugin.so";

/// A database with a name as unpleasant as names can be, as it is and quoted.
pub(crate) const LAGER: &str = "Lager_1 `Süd' 5%";
pub(crate) const LAGER_QUOTED: &str = "`Lager_1 ``Süd' 5%`";

const SETTINGS: [&str; 9] = [
    "--no-defaults",
    "--innodb-log-file-size=5M",
    "--innodb-buffer-pool-size=8M",
    "--aria-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--skip-log-bin",
    "--max-connections=40",
    "--character-set-server=utf8mb4",
];

pub(crate) struct MySqlServer {
    process: Child,
    directory: PathBuf,
    port: u16,
}

impl Drop for MySqlServer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl MySqlServer {
    /// Starts a server that holds production, with `settings` besides its own. Panics with what to install if there is none.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        Self::start_in(settings, &[]).await
    }

    /// The same with an environment of its own.
    pub(crate) async fn start_in(settings: &[&str], environment: &[(&str, &str)]) -> Self {
        static FILLED: OnceCell<Template> = OnceCell::const_new();
        let template = FILLED.get_or_init(fill_template).await;
        for _ in 0..3 {
            let directory = scratch_directory();
            run(&mut as_user("cp"), &["-a", &format!("{}/.", text(&template.directory)), text(&directory)]);
            let server = Self::run_in(directory, settings, environment, ["KILL", "remove"]);
            if server.is_up().await {
                return server;
            }
            eprintln!("{}", server.log());
        }
        panic!("MariaDB did not start three times; its log is above");
    }

    fn run_in(directory: PathBuf, settings: &[&str], environment: &[(&str, &str)], [signal, after]: [&str; 2]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = as_user("sh");
        command.args(["-c", RUN_UNTIL_EOF, "sh", signal, text(&directory), after]);
        command.arg(text(&installed().join("sbin/mariadbd"))).args(SETTINGS);
        command.args(own_places(&directory));
        command.arg(format!("--lc-messages-dir={}", text(&installed().join("share/mysql"))));
        command.arg(format!("--socket={}", text(&directory.join("socket"))));
        command.args(["--bind-address=127.0.0.1".to_owned(), format!("--port={port}")]);
        command.arg(format!("--plugin-dir={}", text(&directory)));
        for (setting, file) in [("ca", "ca.crt"), ("cert", "server.crt"), ("key", "server.key")] {
            command.arg(format!("--ssl-{setting}={}", text(&directory.join(file))));
        }
        command.arg("--require-secure-transport=ON").args(settings).envs(environment.iter().copied());
        let process = command.stdin(Stdio::piped()).spawn().expect("sh");
        Self { process, directory, port }
    }

    async fn is_up(&self) -> bool {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if self.log().contains("ready for connections") {
                return true;
            }
            if self.log().contains("[ERROR] Aborting") {
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

    /// A file of its data directory.
    pub(crate) fn file(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.directory.join(name)).unwrap_or_default()).into_owned()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { host: "localhost".into(), port: self.port }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::from_pem(certificates().0.clone()).unwrap()
    }

    pub(crate) fn server(&self) -> Server {
        Server {
            engine: Engine::MySql,
            endpoint: self.endpoint(),
            database: String::new(),
            master: credentials(MASTER.0, MASTER.1),
            trust: self.trust(),
        }
    }

    /// A plain session, as any client has it.
    pub(crate) async fn session(&self, user: (&str, &str)) -> Result<MySqlConnection, sqlx::Error> {
        self.session_with(user, MySqlSslMode::Required).await
    }

    async fn session_with(
        &self,
        (user, password): (&str, &str),
        mode: MySqlSslMode,
    ) -> Result<MySqlConnection, sqlx::Error> {
        let options = MySqlConnectOptions::new().host("localhost").port(self.port).ssl_mode(mode);
        let options = options.username(user).password(password).pipes_as_concat(false);
        options.disable_statement_logging().connect().await
    }

    pub(crate) async fn superuser(&self) -> MySqlConnection {
        self.session(SUPERUSER).await.unwrap()
    }

    /// Runs statements as the superuser.
    pub(crate) async fn run(&self, statements: &[&str]) {
        let mut session = self.superuser().await;
        for sql in statements {
            execute(&mut session, sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
        }
    }

    /// What a query answers, asked as the superuser: rows of one text.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        texts(self.superuser().await, query).await
    }

    pub(crate) async fn texts_without_tls(&self, query: &str) -> Vec<String> {
        texts(self.session_with(SUPERUSER, MySqlSslMode::Disabled).await.unwrap(), query).await
    }
}

async fn texts(mut session: MySqlConnection, query: &str) -> Vec<String> {
    let rows = sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_all(&mut session).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    rows.iter().map(|row| text(row.get_unchecked::<Option<Vec<u8>>, _>(0).unwrap_or_default())).collect()
}

/// Runs one statement; the server's number if it is refused.
pub(crate) async fn execute(session: &mut MySqlConnection, sql: &str) -> Result<(), String> {
    let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await;
    result.map(drop).map_err(|error| match error.as_database_error() {
        Some(refused) => refused.downcast_ref::<sqlx::mysql::MySqlDatabaseError>().number().to_string(),
        None => error.to_string(),
    })
}

/// A declaration of (key, user, password), with `kept` logins.
pub(crate) fn declare(users: &[(&str, &str, &str)], kept: &[&str]) -> (Desired, Passwords) {
    let declared = users.iter().map(|(key, role, _)| DeclaredUser::from_secret(key, role).unwrap()).collect();
    let kept = kept.iter().map(|role| name(role)).collect();
    let desired = Desired::new(&name(MASTER.0), declared, InheritedLogins::Lock, kept).unwrap();
    let passwords = users.iter().map(|(_, role, password)| (name(role), SecretString::from(*password))).collect();
    (desired, passwords)
}

/// A data directory to copy.
struct Template {
    directory: PathBuf,
    /// Removes the directory when this process ends and the pipe closes.
    _remover: Child,
}

async fn fill_template() -> Template {
    let directory = initialize();
    let first = directory.join("first.sql");
    // The catalogs come with accounts without passwords.
    let superuser = format!("'{}'@'localhost' IDENTIFIED BY '{}'", SUPERUSER.0, SUPERUSER.1.replace('\'', "''"));
    write_private(
        &first,
        &format!(
            "CREATE USER {superuser};\nGRANT ALL ON *.* TO {user}@localhost WITH GRANT OPTION;\n\
             DELETE FROM mysql.global_priv WHERE User = 'root';\n\
             DELETE FROM mysql.proxies_priv;\nINSERT INTO mysql.proxies_priv (Host, User, With_grant, Grantor) VALUES \
             ('localhost', '{user}', 1, ''), ('%', '{master}', 1, '');\nFLUSH PRIVILEGES;\n",
            master = MASTER.0,
            user = SUPERUSER.0
        ),
    );
    let server =
        MySqlServer::run_in(directory.clone(), &[&format!("--init-file={}", text(&first))], &[], ["TERM", "keep"]);
    assert!(server.is_up().await, "{}", server.log());
    fill(&server).await;
    drop(server);
    std::fs::remove_file(directory.join("log")).unwrap();
    std::fs::remove_file(first).unwrap();
    let mut remover = as_user("sh");
    remover.args(["-c", "cat >/dev/null; rm -rf \"$1\"", "sh", text(&directory)]).stdin(Stdio::piped());
    Template { _remover: remover.spawn().expect("sh"), directory }
}

fn initialize() -> PathBuf {
    let directory = scratch_directory();
    let (authority, certificate, key) = certificates();
    write_private(&directory.join("ca.crt"), authority);
    write_private(&directory.join("server.crt"), certificate);
    write_private(&directory.join("server.key"), key);
    build_token_plugin(&directory.join(TOKEN_PLUGIN));
    let share = installed().join("share/mysql");
    let mut sql =
        "create database mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\nSET @skip_auth_anonymous=1;\n".to_owned();
    for script in ["mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"] {
        sql += &std::fs::read_to_string(share.join(script)).unwrap();
    }
    let file = directory.join("bootstrap.sql");
    write_private(&file, &sql);
    let mut bootstrap = as_user(installed().join("sbin/mariadbd"));
    bootstrap.args(SETTINGS).arg("--bootstrap").stdin(File::open(&file).unwrap());
    bootstrap.args(own_places(&directory));
    run(&mut bootstrap, &[&format!("--lc-messages-dir={}", text(&share))]);
    std::fs::remove_file(file).unwrap();
    directory
}

/// Where a server keeps what it has, also for a moment: one that starts removes all temporary tables that it finds, and in the
/// system's directory for such it finds those of every other server of the machine.
fn own_places(directory: &Path) -> [String; 2] {
    ["datadir", "tmpdir"].map(|place| format!("--{place}={}", text(directory)))
}

/// By the compiler that Rust links with.
fn build_token_plugin(object: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/local/aws_authentication_plugin.c");
    run(&mut Command::new("cc"), &["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", text(object), source]);
}

/// What a snapshot of production brings: accounts, databases, rows.
async fn fill(server: &MySqlServer) {
    let password = MASTER.1.replace('\'', "''");
    let master = format!("CREATE USER admin@'%' IDENTIFIED BY '{password}'");
    server
        .run(&[
            // As on Aurora MySQL: no SUPER and no FILE; may read `mysql`, hand on what it has, end sessions.
            &master,
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, \
             CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW, \
             CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, CONNECTION ADMIN ON *.* TO admin@'%' WITH GRANT OPTION",
            "CREATE ROLE rds_superuser_role",
            "GRANT rds_superuser_role TO admin@'%' WITH ADMIN OPTION",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE USER ON *.* TO rds_superuser_role",
            "CREATE ROLE reading",
            "GRANT reading TO admin@'%' WITH ADMIN OPTION",
            "CREATE DATABASE my_shop",
            &format!("CREATE DATABASE {LAGER_QUOTED}"),
            "GRANT SELECT ON my_shop.* TO reading",
            // The application's account of production is from some hosts only: `localhost` is where tests come from.
            "CREATE USER app_user@localhost IDENTIFIED BY 'production app'",
            "GRANT ALL ON `my_shop`.* TO app_user@localhost WITH GRANT OPTION",
            "CREATE USER prod_admin@'%' IDENTIFIED BY 'production admin'",
            "GRANT rds_superuser_role TO prod_admin@'%'",
            "GRANT reading TO prod_admin@'%'",
            "CREATE USER prod_report@'127.0.0.1' IDENTIFIED BY 'production report'",
            "CREATE USER prod_report@localhost IDENTIFIED BY 'production report'",
            "CREATE USER partner@'%' IDENTIFIED BY 'partner'",
            "GRANT SELECT ON my_shop.* TO partner@'%'",
            "CREATE USER rdsrepladmin@'%' IDENTIFIED BY 'aws'",
        ])
        .await;
    for database in ["my_shop", LAGER_QUOTED] {
        server
            .run(&[
                &format!("CREATE TABLE {database}.orders (id int AUTO_INCREMENT PRIMARY KEY, total decimal(9,2))"),
                &format!("INSERT INTO {database}.orders (total) VALUES (1), (2), (3)"),
            ])
            .await;
    }
}

/// Where MariaDB is installed.
pub(crate) fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let candidates = std::env::var_os("MARIADB_DIR").map(PathBuf::from).into_iter().chain(["/usr".into()]);
        let mut candidates = candidates.chain(["/opt/homebrew".into(), "/usr/local".into()]);
        candidates.find(|path| path.join("sbin/mariadbd").is_file()).unwrap_or_else(|| {
            panic!(
                "these tests need a MariaDB server (10.4 or later, with TLS): install it, for instance with \
                 `apt-get install mariadb-server-core`, or let MARIADB_DIR name the directory of sbin/mariadbd and share/mysql"
            )
        })
    })
}

#[tokio::test]
async fn servers_of_other_tests_leave_temporary_tables_alone() {
    let server = MySqlServer::start(&[]).await;
    let mut session = server.superuser().await;
    execute(&mut session, "CREATE TEMPORARY TABLE my_shop.kept (x int) ENGINE = Aria").await.unwrap();
    let _other = MySqlServer::start(&[]).await;
    execute(&mut session, "DROP TEMPORARY TABLE my_shop.kept").await.unwrap();
}
