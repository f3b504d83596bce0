//! One login to MySQL: where, who, and how the server proves who it is.

use super::flavor::{flavor_of, session_settings};
use crate::connect::{Credentials, Endpoint, Login, Trust};
use crate::error::DatabaseError;
use crate::relay::{self, Relay};
use aurora_restore_domain::accounts::Flavor;
use aurora_restore_domain::roles::Authentication;
use futures_util::TryStreamExt;
use secrecy::ExposeSecret;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Row};
use std::time::{Duration, Instant};

/// The longest that one attempt may take: name, connection, handshake and login together.
const CONNECT_SECONDS: u64 = 10;
/// The longest that closing politely may take.
const CLOSE_SECONDS: u64 = 1;
/// The longest that one query may take.
const STATEMENT_SECONDS: u64 = 120;
/// How much longer we wait for the server to say so itself.
const GRACE_SECONDS: u64 = 10;

/// Logs in over verified TLS, runs one query and leaves. No database is opened: being let in does not depend on one.
pub(crate) async fn try_login(
    endpoint: &Endpoint,
    credentials: &Credentials,
    trust: &Trust,
) -> Result<Login, DatabaseError> {
    let started = Instant::now();
    let mut session = Session::open(endpoint, None, credentials, trust).await?;
    let cipher = session.rows("tell its version", "SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
    let user = session.rows("tell its version", "SELECT current_user()").await?;
    let tls = cipher.first().is_some_and(|row| row.text(1).is_ok_and(|cipher| !cipher.is_empty()));
    let current_user = user.first().map_or_else(|| Ok(String::new()), |row| row.text(0))?;
    let (server_version, duration) = (session.version.clone(), started.elapsed());
    session.close().await;
    Ok(Login { server_version, current_user, tls, duration })
}

/// One connection.
pub(crate) struct Session {
    pub(crate) connection: MySqlConnection,
    relay: Relay,
    pub(crate) flavor: Flavor,
    pub(crate) version: String,
}

impl Session {
    /// Logs in, to a database if one is named.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        database: Option<&str>,
        credentials: &Credentials,
        trust: &Trust,
    ) -> Result<Self, DatabaseError> {
        let options = options(endpoint, database, credentials, trust);
        let what = database.unwrap_or("no database");
        let login =
            relay::connect::<MySqlConnection>(endpoint, options, |options, socket| options.socket(socket.path()));
        let login = tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS), login);
        let (mut connection, relay) = match login.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(DatabaseError::of_connect(endpoint, &credentials.role, what, error)),
            Err(_) => return Err(DatabaseError::NoAnswer { endpoint: endpoint.clone(), seconds: CONNECT_SECONDS }),
        };
        // A password that has expired lets one in and refuses the first statement.
        let failed = |error| DatabaseError::of_connect(endpoint, &credentials.role, what, error);
        let row = sqlx::raw_sql("SELECT version()").fetch_one(&mut connection).await.map_err(failed)?;
        let version = MySqlValues::of(&row)?.text(0)?;
        let flavor = flavor_of(&version)?;
        let settings = AssertSqlSafe(session_settings(flavor, STATEMENT_SECONDS));
        sqlx::raw_sql(settings).execute(&mut connection).await.map_err(failed)?;
        Ok(Self { connection, relay, flavor, version })
    }

    /// Says goodbye, so that the server does not count the session any longer than needed.
    pub(crate) async fn close(self) {
        let goodbye = relay::close(self.connection, self.relay);
        if !matches!(tokio::time::timeout(Duration::from_secs(CLOSE_SECONDS), goodbye).await, Ok(Ok(()))) {
            tracing::debug!("a finished database session could not be closed politely");
        }
    }

    /// All that a query answers. `what` it is for follows "refused to" in an error.
    pub(crate) async fn rows(
        &mut self,
        what: &str,
        query: impl Into<String>,
    ) -> Result<Vec<MySqlValues>, DatabaseError> {
        self.map_rows(what, query, Ok).await
    }

    /// What `each` makes of each row, and of a large answer no more than that.
    pub(crate) async fn map_rows<T>(
        &mut self,
        what: &str,
        query: impl Into<String>,
        each: impl Fn(MySqlValues) -> Result<T, DatabaseError>,
    ) -> Result<Vec<T>, DatabaseError> {
        let rows = sqlx::raw_sql(AssertSqlSafe(query.into())).fetch(&mut self.connection);
        let made = rows.map_ok(|row| MySqlValues::of(&row).and_then(&each)).try_collect::<Vec<_>>();
        in_time(what, made).await?.into_iter().collect()
    }

    /// Runs a statement for its effect.
    pub(crate) async fn run(&mut self, what: &str, sql: impl Into<String>) -> Result<(), DatabaseError> {
        in_time(what, sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(&mut self.connection)).await.map(drop)
    }
}

/// The server's own limit is on reads only, and a server that is gone without a word keeps no limit.
async fn in_time<T>(what: &str, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, DatabaseError> {
    match tokio::time::timeout(Duration::from_secs(STATEMENT_SECONDS + GRACE_SECONDS), work).await {
        Ok(done) => done.map_err(|error| DatabaseError::of_statement(what, error)),
        Err(_) => Err(DatabaseError::Busy { what: format!("it took longer than {STATEMENT_SECONDS} s to {what}") }),
    }
}

/// A row as the server sends it: texts. What type a column of a catalog has differs between versions.
pub(crate) struct MySqlValues {
    columns: Vec<String>,
    values: Vec<Option<Vec<u8>>>,
}

impl MySqlValues {
    pub(crate) fn of(row: &MySqlRow) -> Result<Self, DatabaseError> {
        let columns = row.columns().iter().map(|column| column.name().to_owned()).collect();
        let values = (0..row.len()).map(|position| row.try_get_unchecked::<Option<Vec<u8>>, _>(position));
        let values = values.collect::<Result<_, _>>();
        values.map(|values| Self { columns, values }).map_err(|_| unexpected("a value that is no text".into()))
    }

    /// Bytes; none for NULL.
    pub(crate) fn bytes(&self, position: usize) -> &[u8] {
        self.values.get(position).and_then(Option::as_deref).unwrap_or_default()
    }

    /// A text; empty for NULL.
    pub(crate) fn text(&self, position: usize) -> Result<String, DatabaseError> {
        String::from_utf8(self.bytes(position).to_vec())
            .map_err(|_| unexpected(format!("a text in column {position} that is not UTF-8")))
    }

    /// A truth: anything but NULL and 0.
    pub(crate) fn flag(&self, position: usize) -> bool {
        !matches!(self.bytes(position), b"" | b"0")
    }

    /// Whether it is NULL.
    pub(crate) fn is_null(&self, position: usize) -> bool {
        !matches!(self.values.get(position), Some(Some(_)))
    }

    /// How many columns there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Columns by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.columns
            .iter()
            .map(String::as_str)
            .zip(self.values.iter().map(|value| value.as_deref().unwrap_or_default()))
    }
}

pub(super) fn unexpected(what: String) -> DatabaseError {
    DatabaseError::Unsupported { what: format!("the database server's catalogs hold {what}") }
}

fn options(
    endpoint: &Endpoint,
    database: Option<&str>,
    credentials: &Credentials,
    trust: &Trust,
) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(credentials.role.as_str())
        .password(credentials.password.expose_secret())
        .ssl_mode(MySqlSslMode::VerifyIdentity)
        .ssl_ca_from_pem(trust.pem().to_vec())
        // RDS asks for a token by `mysql_clear_password`. A password of a secret is sent so to nobody, whoever asks.
        .enable_cleartext_plugin(credentials.login == Authentication::Iam)
        // The server's own modes stay: the team's queries are to mean what they mean to the team.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        // sqlx would log each statement, those with names and hashes among them.
        .disable_statement_logging();
    match database {
        Some(database) => options.database(database),
        None => options,
    }
}
