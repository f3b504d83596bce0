//! One login: where, who, and how the server proves who it is.

use crate::error::DatabaseError;
use crate::relay::{self, Relay};
use crate::scram::prepare;
use aurora_restore_domain::roles::{Authentication, RoleName};
use secrecy::{ExposeSecret, SecretString};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The longest that one attempt may take: name, connection, handshake and login together.
const CONNECT_SECONDS: u64 = 10;
/// The longest that closing politely may take.
const CLOSE_SECONDS: u64 = 1;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, which its certificate must carry.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A role and its password or token. `Debug` shows neither.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Who logs in.
    pub role: RoleName,
    /// With what.
    pub password: SecretString,
    /// Whether that is a token, which a server of RDS takes in clear and nothing else so.
    pub login: Authentication,
}

impl Credentials {
    /// `role` with its password.
    pub fn by_password(role: RoleName, password: SecretString) -> Self {
        Self { role, password, login: Authentication::Password }
    }
}

/// The certificate authorities that a server may prove itself with.
///
/// sqlx trusts the public web authorities beside them, with the host name checked as for these.
#[derive(Clone)]
pub struct Trust {
    pem: Arc<[u8]>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} bytes of certificates)", self.pem.len())
    }
}

impl Trust {
    /// Certificates in PEM. They are read at each login; here only their presence is checked.
    pub fn from_pem(pem: impl Into<Vec<u8>>) -> Result<Self, DatabaseError> {
        const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
        let pem = pem.into();
        match pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
            true => Ok(Self { pem: pem.into() }),
            false => Err(DatabaseError::Invalid {
                what: "the file of certificate authorities holds no certificate in PEM".into(),
            }),
        }
    }

    /// Amazon's own authorities for RDS, shipped with this crate; `certs/README.md` says where they come from.
    pub fn rds() -> Result<Self, DatabaseError> {
        // Copied once for a whole process.
        static SHIPPED: OnceLock<Trust> = OnceLock::new();
        if let Some(shipped) = SHIPPED.get() {
            return Ok(shipped.clone());
        }
        let trust = Self::from_pem(&include_bytes!("../certs/rds-global-bundle.pem")[..])?;
        Ok(SHIPPED.get_or_init(|| trust).clone())
    }

    /// The certificates.
    pub(crate) fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// Certificates in a PEM file.
    pub fn from_file(path: &Path) -> Result<Self, DatabaseError> {
        let pem = std::fs::read(path).map_err(|error| DatabaseError::Invalid {
            what: format!("the file of certificate authorities {} cannot be read: {error}", path.display()),
        })?;
        Self::from_pem(pem)
    }
}

/// A login that worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The server's version, for instance `16.4`.
    pub server_version: String,
    /// Who the server says we are.
    pub current_user: String,
    /// Whether the server says that the connection is encrypted.
    pub tls: bool,
    /// How long it took, the handshake included.
    pub duration: Duration,
}

/// Logs in to PostgreSQL over verified TLS, runs one query and leaves.
pub async fn try_login(
    endpoint: &Endpoint,
    database: &str,
    credentials: &Credentials,
    trust: &Trust,
) -> Result<Login, DatabaseError> {
    const QUERY: &str = "SELECT current_setting('server_version'), current_user::text, \
        coalesce((SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid()), false)";
    let started = Instant::now();
    let mut session = Session::open(endpoint, database, credentials, trust, Purpose::Use).await?;
    let (server_version, current_user, tls) = sqlx::query_as(QUERY)
        .fetch_one(&mut session.connection)
        .await
        .map_err(|error| DatabaseError::of_statement("tell its version", error))?;
    let duration = started.elapsed();
    session.close().await;
    Ok(Login { server_version, current_user, tls, duration })
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Our own statements over the catalogs: nothing that a user of the source made can stand in for a function or
    /// an operator of the server.
    Manage,
    /// Somebody's own statements, in the database's own surroundings.
    Use,
}

/// One connection to one database.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    relay: Relay,
}

impl Session {
    pub(crate) async fn open(
        endpoint: &Endpoint,
        database: &str,
        credentials: &Credentials,
        trust: &Trust,
        purpose: Purpose,
    ) -> Result<Self, DatabaseError> {
        // sqlx takes a path for the server's own local socket.
        if endpoint.host.is_empty() || endpoint.host.starts_with('/') {
            return Err(DatabaseError::Invalid {
                what: format!("{:?} is not the name of a database server", endpoint.host),
            });
        }
        prepare(&credentials.password)?;
        let options = options(endpoint, database, credentials, trust, purpose);
        let login =
            relay::connect::<PgConnection>(endpoint, options, |options, socket| options.socket(socket.directory()));
        match tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS), login).await {
            Ok(Ok((connection, relay))) => Ok(Self { connection, relay }),
            Ok(Err(error)) => Err(DatabaseError::of_connect(endpoint, &credentials.role, database, error)),
            Err(_) => Err(DatabaseError::NoAnswer { endpoint: endpoint.clone(), seconds: CONNECT_SECONDS }),
        }
    }

    /// Says goodbye, so that the server does not count the session any longer than needed.
    pub(crate) async fn close(self) {
        let goodbye = relay::close(self.connection, self.relay);
        if !matches!(tokio::time::timeout(Duration::from_secs(CLOSE_SECONDS), goodbye).await, Ok(Ok(()))) {
            tracing::debug!("a finished database session could not be closed politely");
        }
    }
}

fn options(
    endpoint: &Endpoint,
    database: &str,
    credentials: &Credentials,
    trust: &Trust,
    purpose: Purpose,
) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(credentials.role.as_str())
        .password(credentials.password.expose_secret())
        .database(database)
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert_from_pem(trust.pem.to_vec())
        .application_name("aurora-restore")
        .options([
            ("statement_timeout", "120s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        // sqlx would log each statement, those with names and verifiers among them.
        .disable_statement_logging();
    match purpose {
        Purpose::Manage => options.options([("search_path", "pg_catalog"), ("default_transaction_read_only", "off")]),
        Purpose::Use => options,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_password() {
        let credentials = Credentials::by_password(RoleName::try_from("app").unwrap(), SecretString::from("hunter2"));
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[test]
    fn trust_needs_a_certificate() {
        assert!(Trust::from_pem("-----BEGIN CERTIFICATE-----\n").is_ok());
        let error = Trust::from_pem("PLACEHOLDER").unwrap_err();
        assert_eq!(error.to_string(), "the file of certificate authorities holds no certificate in PEM");
        let error = Trust::from_file(Path::new("/no/such/file.pem")).unwrap_err();
        assert!(error.to_string().starts_with("the file of certificate authorities /no/such/file.pem cannot be read"));
    }
}
