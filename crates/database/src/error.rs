//! What can go wrong with a database. The SQLSTATE decides, never the text of a message.

use crate::connect::Endpoint;
use aurora_restore_domain::roles::RoleName;

/// A failure, by what was being done. No variant can hold a password or a verifier: statements are never part of an
/// error, and `password` lets no error of the server carry one.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection: refused, no route, no such name, starting up, out of connections.
    #[error("the database server at {endpoint} cannot be reached")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// Nothing came back in time.
    #[error("the database server at {endpoint} did not answer within {seconds} s")]
    NoAnswer {
        /// Where.
        endpoint: Endpoint,
        /// The limit.
        seconds: u64,
    },
    /// The server has no TLS, or is not who it should be: wrong CA, wrong host name, expired.
    #[error("the database server at {endpoint} did not prove who it is")]
    TlsRefused {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// Wrong password, no such role, or a role that may not log in (SQLSTATE 28P01, 28000).
    #[error("the database server at {endpoint} refused the login of {role} (SQLSTATE {sqlstate})")]
    LoginRefused {
        /// Where.
        endpoint: Endpoint,
        /// Who.
        role: RoleName,
        /// The server's reason.
        sqlstate: String,
        /// The server's words.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The server said no to something else.
    #[error("the database server refused to {what} (SQLSTATE {sqlstate})")]
    Rejected {
        /// What was tried; follows "to".
        what: String,
        /// The server's reason.
        sqlstate: String,
        /// The server's words.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// A script of the team's own failed; nothing of it stays.
    #[error("script {name} failed at statement {statement}: {why}")]
    Script {
        /// Its name.
        name: String,
        /// Counted from 1.
        statement: u64,
        /// SQLSTATE, never the server's words: they may hold data.
        why: String,
    },
    /// A script of the team's own that cannot run on this data any more.
    #[error("script {name} {why}")]
    ScriptSpoiled {
        /// Its name.
        name: String,
        /// What is wrong; follows the name.
        why: String,
    },
    /// The connection broke in the middle of something; whether it happened is unknown, and repeating it is safe.
    #[error("the connection to the database server broke while it should {what}")]
    Lost {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// Somebody else is at work; it will end.
    #[error("the database server is busy: {what}")]
    Busy {
        /// With what.
        what: String,
    },
    /// Everything was accepted, and yet the next observation still misses it.
    #[error("the database is not as declared after all changes were made; still to do: {}", .changes.join("; "))]
    Incomplete {
        /// What is missing still.
        changes: Vec<String>,
    },
    /// Users are to log in with tokens, and the server does not know of any.
    #[error(
        "the database server has no {lacks}, without which {} cannot log in with IAM tokens: it is no RDS, or IAM database authentication was never on",
        .users.join(", ")
    )]
    NoTokens {
        /// What RDS has for them.
        lacks: &'static str,
        /// The keys of the users.
        users: Vec<String>,
    },
    /// The master could not log in once memberships had begun, and so they were ended again.
    #[error("the database server does not let {master} in any more once it is to {}; that was taken back", .changes.join(", "))]
    ShutOut {
        /// The master.
        master: RoleName,
        /// The memberships that began.
        changes: Vec<String>,
        /// What the server said to the master.
        #[source]
        source: Box<DatabaseError>,
    },
    /// A server or a machine that this tool cannot work with.
    #[error("{what}")]
    Unsupported {
        /// What is not supported.
        what: String,
    },
    /// Input that can never work.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
}

/// What the caller should make of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try again later: the server is away, starting, or busy.
    Unreachable,
    /// Read the secret again; if it is the same, a person must look.
    LoginRefused,
    /// The server understood and refused; trying again changes nothing.
    Rejected,
    /// The input or the trust must be mended.
    Invalid,
}

impl DatabaseError {
    /// The class, for the caller's retry and error name.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::Lost { .. } | Self::Busy { .. } => {
                ErrorClass::Unreachable
            }
            Self::LoginRefused { .. } => ErrorClass::LoginRefused,
            Self::Rejected { sqlstate, .. } if is_transient(sqlstate) => ErrorClass::Unreachable,
            Self::Rejected { .. } | Self::Incomplete { .. } | Self::ShutOut { .. } => ErrorClass::Rejected,
            Self::Script { .. } | Self::ScriptSpoiled { .. } => ErrorClass::Rejected,
            Self::TlsRefused { .. } | Self::Unsupported { .. } | Self::Invalid { .. } | Self::NoTokens { .. } => {
                ErrorClass::Invalid
            }
        }
    }

    /// The server's reason, where it gave one. With MySQL, whose SQLSTATEs say little, its own number follows:
    /// `42000, MySQL error 1142`.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::LoginRefused { sqlstate, .. } | Self::Rejected { sqlstate, .. } => Some(sqlstate),
            Self::Unreachable { source, .. } => source.as_database_error().and_then(postgres_code),
            Self::Busy { .. }
            | Self::NoAnswer { .. }
            | Self::TlsRefused { .. }
            | Self::Lost { .. }
            | Self::Incomplete { .. }
            | Self::NoTokens { .. }
            | Self::ShutOut { .. }
            | Self::Script { .. }
            | Self::Unsupported { .. }
            | Self::ScriptSpoiled { .. }
            | Self::Invalid { .. } => None,
        }
    }

    /// A failure to log in.
    pub(crate) fn of_connect(endpoint: &Endpoint, role: &RoleName, database: &str, error: sqlx::Error) -> Self {
        let (endpoint, role) = (endpoint.clone(), role.clone());
        let what = || format!("open database {database} for {role}");
        match (sqlstate_of(&error), is_tls(&error)) {
            (Some(sqlstate), _) if is_login_refused(&sqlstate) => {
                Self::LoginRefused { endpoint, role, sqlstate, source: Box::new(error) }
            }
            (Some(sqlstate), _) if is_transient(&sqlstate) => Self::Unreachable { endpoint, source: Box::new(error) },
            (Some(sqlstate), _) => Self::Rejected { what: what(), sqlstate, source: Box::new(error) },
            (None, true) => Self::TlsRefused { endpoint, source: Box::new(error) },
            #[allow(clippy::wildcard_enum_match_arm, reason = "sqlx's list is open, and half of it is about its pool")]
            (None, false) => match error {
                // The server speaks, but not as this client expects: another authentication method, no PostgreSQL.
                sqlx::Error::Protocol(why) => Self::Unsupported { what: format!("cannot {}: {why}", what()) },
                // Configuration errors may quote what they were given, a password among it.
                sqlx::Error::Configuration(_) => {
                    Self::Invalid { what: format!("cannot {}: its name or password cannot be used", what()) }
                }
                error => Self::Unreachable { endpoint, source: Box::new(error) },
            },
        }
    }

    /// The same without the server's words, which may quote a statement.
    pub(crate) fn without_words(self) -> Self {
        let source = Box::new(sqlx::Error::Protocol("what the server said is not shown".into()));
        match self {
            Self::Rejected { what, sqlstate, .. } => Self::Rejected { what, sqlstate, source },
            Self::Lost { what, .. } => Self::Lost { what, source },
            Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::TlsRefused { .. }
            | Self::LoginRefused { .. }
            | Self::Script { .. }
            | Self::ScriptSpoiled { .. }
            | Self::Busy { .. }
            | Self::Incomplete { .. }
            | Self::NoTokens { .. }
            | Self::ShutOut { .. }
            | Self::Unsupported { .. }
            | Self::Invalid { .. } => self,
        }
    }

    /// A failure of a statement in an open session.
    pub(crate) fn of_statement(what: impl Into<String>, error: sqlx::Error) -> Self {
        let what = what.into();
        match sqlstate_of(&error) {
            Some(sqlstate) => Self::Rejected { what, sqlstate, source: Box::new(error) },
            None => Self::Lost { what, source: Box::new(error) },
        }
    }
}

/// Wrong password, no such user, not from here, locked, expired.
fn is_login_refused(sqlstate: &str) -> bool {
    /// invalid_password, invalid_authorization_specification.
    const POSTGRESQL: [&str; 2] = ["28P01", "28000"];
    /// Access denied, with and without a password; no account for our host; locked (MySQL, MariaDB); expired, at login and
    /// at the first statement; a way of authentication that the server has not.
    const MYSQL: [u16; 9] = [1045, 1698, 1130, 3118, 4151, 1862, 1820, 1524, 1275];
    match mysql_number(sqlstate) {
        Some(number) => MYSQL.contains(&number),
        None => POSTGRESQL.contains(&sqlstate),
    }
}

/// Connection exceptions, resources, operator intervention, conflicts with somebody else's work. Not 57014: a
/// statement that ran into its own timeout does so again.
pub(crate) fn is_transient(sqlstate: &str) -> bool {
    const CODES: [&str; 9] = ["40001", "40P01", "53300", "53400", "55006", "55P03", "57P01", "57P02", "57P03"];
    /// Too many connections, of all and of this user; shutting down; our host had too many broken connections; waited too
    /// long for a lock, deadlock.
    const MYSQL: [u16; 7] = [1040, 1203, 1226, 1053, 1129, 1205, 1213];
    match mysql_number(sqlstate) {
        Some(number) => MYSQL.contains(&number) || sqlstate.starts_with("08"),
        None => sqlstate.starts_with("08") || CODES.contains(&sqlstate),
    }
}

pub(crate) fn sqlstate_of(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    postgres_code(error).map(str::to_owned).or_else(|| mysql_code(error))
}

fn postgres_code<'a>(error: &'a (dyn sqlx::error::DatabaseError + 'static)) -> Option<&'a str> {
    error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().map(|error| error.code())
}

const MYSQL_NUMBER: &str = ", MySQL error ";

fn mysql_code(error: &(dyn sqlx::error::DatabaseError + 'static)) -> Option<String> {
    let error = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(format!("{}{MYSQL_NUMBER}{}", error.code().unwrap_or("HY000"), error.number()))
}

/// MySQL's own number in what [`DatabaseError::sqlstate`] answers; `None` for PostgreSQL's.
pub(crate) fn mysql_number(sqlstate: &str) -> Option<u16> {
    sqlstate.split_once(MYSQL_NUMBER)?.1.parse().ok()
}

/// Whether the handshake failed: rustls reports what it refuses as invalid data of the stream.
#[allow(clippy::wildcard_enum_match_arm, reason = "sqlx's list is open, and the rest of it is not about TLS")]
pub(crate) fn is_tls(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint { host: "db.example".into(), port: 5432 }
    }

    fn connect(error: sqlx::Error) -> DatabaseError {
        DatabaseError::of_connect(&endpoint(), &RoleName::try_from("app").unwrap(), "shop", error)
    }

    #[test]
    fn failures_to_connect_by_kind() {
        let io = |kind| sqlx::Error::Io(std::io::Error::from(kind));
        assert_eq!(connect(io(std::io::ErrorKind::ConnectionRefused)).class(), ErrorClass::Unreachable);
        assert_eq!(connect(io(std::io::ErrorKind::InvalidData)).class(), ErrorClass::Invalid);
        assert_eq!(connect(sqlx::Error::Tls("no".into())).class(), ErrorClass::Invalid);
        assert_eq!(connect(sqlx::Error::Protocol("SASL?".into())).class(), ErrorClass::Invalid);
    }

    #[test]
    fn a_configuration_error_is_never_shown() {
        let error = connect(sqlx::Error::Configuration("password hunter2".into()));
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn mysqls_numbers_decide_where_its_sqlstate_says_little() {
        let with = |sqlstate: &str, number| format!("{sqlstate}, MySQL error {number}");
        assert_eq!(mysql_number(&with("42000", 1142)), Some(1142));
        assert_eq!(mysql_number("42000"), None);
        for (sqlstate, number) in [("28000", 1045), ("HY000", 3118), ("HY000", 4151), ("HY000", 1862), ("HY000", 1820)]
        {
            assert!(is_login_refused(&with(sqlstate, number)), "{number}");
        }
        for (sqlstate, number) in [("08004", 1040), ("HY000", 1205), ("40001", 1213), ("42000", 1203), ("08S01", 1053)]
        {
            assert!(is_transient(&with(sqlstate, number)), "{number}");
        }
        // 42000 is a mistake in a statement, a right that is lacking, a database that is not there.
        for number in [1044, 1049, 1064, 1142] {
            assert!(!is_transient(&with("42000", number)) && !is_login_refused(&with("42000", number)), "{number}");
        }
    }

    #[test]
    fn what_is_worth_another_try() {
        for sqlstate in ["08006", "53300", "57P03", "40P01", "55P03"] {
            assert!(is_transient(sqlstate), "{sqlstate}");
        }
        for sqlstate in ["42501", "3D000", "57014", "28P01", "XX000"] {
            assert!(!is_transient(sqlstate), "{sqlstate}");
        }
    }
}
