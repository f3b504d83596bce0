//! The two dialects, where they are two.

use super::hash::Scheme;
use super::quote::{quote_account, quote_bytes};
use crate::error::DatabaseError;
use aurora_restore_domain::accounts::{Account, Flavor};

/// The oldest of each: MySQL 8 (roles, `ALTER USER … ATTRIBUTE`; Aurora MySQL 3 begins with 8.0.23) and MariaDB 10.4
/// (accounts that can be locked).
const OLDEST: [(Flavor, [u32; 3]); 2] = [(Flavor::MySql8, [8, 0, 21]), (Flavor::MariaDb, [10, 4, 0])];

/// Whose server it is, from `VERSION()`: `8.0.39`, `10.11.6-MariaDB-0+deb12u1`.
pub(super) fn flavor_of(version: &str) -> Result<Flavor, DatabaseError> {
    let flavor = if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql8 };
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let seen: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    let oldest = OLDEST.iter().find(|(other, _)| *other == flavor).map_or([0; 3], |(_, oldest)| *oldest);
    if seen < oldest {
        let name = match flavor {
            Flavor::MySql8 => "MySQL",
            Flavor::MariaDb => "MariaDB",
        };
        let oldest = oldest.map(|number| number.to_string()).join(".");
        return Err(DatabaseError::Unsupported {
            what: format!("{name} {version} is too old; {oldest} or later is needed"),
        });
    }
    Ok(flavor)
}

/// What every session of ours sets. Names are quoted in a way that no mode changes; a mode that refuses old data would.
pub(super) fn session_settings(flavor: Flavor, statement_seconds: u64) -> String {
    // MySQL limits reads only: `max_execution_time` is not for other statements.
    let limit = match flavor {
        Flavor::MySql8 => format!("max_execution_time = {}", statement_seconds * 1000),
        Flavor::MariaDb => format!("max_statement_time = {statement_seconds}"),
    };
    format!("SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, {limit}")
}

/// What a session sets for a script besides: its own limits, and the server's own modes and time zone, which any client has.
pub(super) fn script_settings(flavor: Flavor, seconds: u64) -> String {
    // MySQL limits reads only; whoever runs the script ends it.
    let limit = match flavor {
        Flavor::MySql8 => "max_execution_time = 0".to_owned(),
        Flavor::MariaDb => format!("max_statement_time = {seconds}"),
    };
    format!(
        "SET SESSION lock_wait_timeout = 30, innodb_lock_wait_timeout = 30, sql_mode = @@GLOBAL.sql_mode, \
         time_zone = @@GLOBAL.time_zone, {limit}"
    )
}

/// How this server is to keep passwords. MySQL 8 knows `caching_sha2_password` always. That Aurora MySQL 3 does too, whose own
/// default is `mysql_native_password`, follows from AWS's guide, which lets one choose it as the default; it was not tried.
pub(super) fn scheme_of(flavor: Flavor) -> Scheme {
    match flavor {
        Flavor::MySql8 => Scheme::CachingSha2,
        Flavor::MariaDb => Scheme::Native,
    }
}

/// `IDENTIFIED …` with what the server keeps of a password. In hexadecimal digits for MySQL, so that every byte of the
/// salt survives (since 8.0.17); MariaDB takes a text, and this one is made of digits.
pub(super) fn identified(flavor: Flavor, kept: &[u8]) -> String {
    let plugin = scheme_of(flavor).plugin();
    match flavor {
        Flavor::MySql8 => format!("IDENTIFIED WITH {plugin} AS {}", quote_bytes(kept)),
        Flavor::MariaDb => {
            format!("IDENTIFIED VIA {plugin} USING '{}'", String::from_utf8_lossy(kept).replace(['\'', '\\'], ""))
        }
    }
}

/// RDS's plugin, which asks IAM about a token, and the method that an account names for it. RDS loads it where IAM database
/// authentication is on.
pub(super) const TOKEN_PLUGIN: &str = "AWSAuthenticationPlugin";
pub(super) const TOKEN_METHOD: &str = "RDS";

/// The option of an account that takes tokens and no password, and needs TLS: that of AWS's guide ("Creating a database account
/// using IAM authentication", Aurora), whose two statements are one here, so that the account is never without the second half.
pub(super) const TAKES_TOKENS: &str = "IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL";

/// Locks an account and leaves a mark where the server keeps one: `ATTRIBUTE` is merged into what is there.
pub(super) fn lock(flavor: Flavor, account: &Account) -> Result<String, DatabaseError> {
    let account = quote_account(account)?;
    Ok(match flavor {
        Flavor::MySql8 => format!("ALTER USER {account} ACCOUNT LOCK ATTRIBUTE '{{\"{MARK}\": \"locked\"}}'"),
        Flavor::MariaDb => format!("ALTER USER {account} ACCOUNT LOCK"),
    })
}

/// The name of our mark among an account's attributes.
pub(super) const MARK: &str = "aurora_restore";

/// Every account: user, host, is it a role, is it locked, our mark, expired or will, kind of certificate it must show,
/// whether another password works too, plugin, what is kept of the password, whether it must use TLS.
pub(super) fn accounts_query(flavor: Flavor) -> String {
    match flavor {
        // A password expires after its account's own number of days; 0 is never, NULL the server's default, which is never.
        // A user that must have a second factor cannot log in with a password.
        Flavor::MySql8 => format!(
            "SELECT u.User, u.Host, 0, u.account_locked = 'Y', \
             coalesce(json_contains_path(a.ATTRIBUTE, 'one', '$.{MARK}'), 0), \
             u.password_expired = 'Y' OR coalesce(u.password_lifetime, 0) > 0, \
             u.ssl_type IN ('X509', 'SPECIFIED'), \
             coalesce(json_contains_path(u.User_attributes, 'one', '$.additional_password'), 0), \
             u.plugin, u.authentication_string, u.ssl_type <> '' \
             FROM mysql.user u LEFT JOIN information_schema.user_attributes a ON a.USER = u.User AND a.HOST = u.Host"
        ),
        Flavor::MariaDb => "SELECT g.User, g.Host, coalesce(json_value(g.Priv, '$.is_role'), 0), \
             coalesce(json_value(g.Priv, '$.account_locked'), 0), 0, \
             coalesce(json_value(g.Priv, '$.password_last_changed'), 1) = 0 \
             OR coalesce(json_value(g.Priv, '$.password_lifetime'), -1) > 0, \
             coalesce(json_value(g.Priv, '$.ssl_type'), 0) IN (2, 3), 0, \
             IF(coalesce(json_length(g.Priv, '$.auth_or'), 0) > 1, 'several', json_value(g.Priv, '$.plugin')), \
             json_value(g.Priv, '$.authentication_string'), coalesce(json_value(g.Priv, '$.ssl_type'), 0) > 0 FROM mysql.global_priv g"
            .to_owned(),
    }
}

/// Every role that was granted: role and its host, member and its host.
pub(super) fn memberships_query(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql8 => "SELECT FROM_USER, FROM_HOST, TO_USER, TO_HOST FROM mysql.role_edges",
        Flavor::MariaDb => "SELECT Role, '', User, Host FROM mysql.roles_mapping",
    }
}

/// Takes the second password away. MariaDB knows none; where it has several ways to prove oneself, none of them is the
/// declared password alone, and setting that removes the others.
pub(super) fn discard_former_password(flavor: Flavor, account: &Account) -> Result<Option<String>, DatabaseError> {
    Ok(match flavor {
        Flavor::MySql8 => Some(format!("ALTER USER {} DISCARD OLD PASSWORD", quote_account(account)?)),
        Flavor::MariaDb => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_server_it_is() {
        assert_eq!(flavor_of("8.0.39").unwrap(), Flavor::MySql8);
        assert_eq!(flavor_of("8.4.7").unwrap(), Flavor::MySql8);
        assert_eq!(flavor_of("10.11.14-MariaDB-0+deb12u2").unwrap(), Flavor::MariaDb);
        let error = flavor_of("5.7.44-log").unwrap_err().to_string();
        assert_eq!(error, "MySQL 5.7.44-log is too old; 8.0.21 or later is needed");
        assert!(flavor_of("10.3.39-MariaDB").is_err() && flavor_of("x").is_err());
    }

    #[test]
    fn statements_of_mysql_8() {
        let account = Account::new("o'`b", "10.%");
        assert_eq!(
            lock(Flavor::MySql8, &account).unwrap(),
            "ALTER USER `o'``b`@`10.%` ACCOUNT LOCK ATTRIBUTE '{\"aurora_restore\": \"locked\"}'"
        );
        assert_eq!(
            identified(Flavor::MySql8, b"$A$005$\x01'"),
            "IDENTIFIED WITH caching_sha2_password AS 0x244124303035240127"
        );
        assert_eq!(
            discard_former_password(Flavor::MySql8, &account).unwrap().as_deref(),
            Some("ALTER USER `o'``b`@`10.%` DISCARD OLD PASSWORD")
        );
        assert_eq!(
            session_settings(Flavor::MySql8, 120),
            "SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, max_execution_time = 120000"
        );
        assert!(script_settings(Flavor::MySql8, 730).ends_with(", max_execution_time = 0"));
    }

    #[test]
    fn statements_of_mariadb() {
        let account = Account::new("app", "%");
        assert_eq!(lock(Flavor::MariaDb, &account).unwrap(), "ALTER USER `app`@`%` ACCOUNT LOCK");
        assert_eq!(identified(Flavor::MariaDb, b"*6C89"), "IDENTIFIED VIA mysql_native_password USING '*6C89'");
        assert_eq!(discard_former_password(Flavor::MariaDb, &account).unwrap(), None);
        assert!(script_settings(Flavor::MariaDb, 730).ends_with(", max_statement_time = 730"));
    }
}
