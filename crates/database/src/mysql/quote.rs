//! Quoting for MySQL, the one place where a name or a text becomes part of a statement.
//!
//! Statements about accounts take no parameters. Names stand in backticks, account names too, where a backslash is a
//! backslash whatever `sql_mode` says; texts stand as hexadecimal digits. A NUL cannot be part of a name and is refused.

use crate::error::DatabaseError;
use aurora_restore_domain::accounts::Account;
use std::fmt::Write;

/// An identifier in backticks.
pub fn quote_identifier(name: &str) -> Result<String, DatabaseError> {
    match name {
        "" => Err(DatabaseError::Invalid { what: "an identifier is empty".into() }),
        _ => quote(name),
    }
}

/// `` `user`@`host` ``; for MariaDB's roles, which have no host, the name alone. The anonymous user's name is empty.
pub fn quote_account(account: &Account) -> Result<String, DatabaseError> {
    match account.host.as_str() {
        "" => quote_identifier(&account.user),
        host => Ok(format!("{}@{}", quote(&account.user)?, quote(host)?)),
    }
}

/// A text as the server's `utf8mb4`.
pub fn quote_text(text: &str) -> String {
    match text {
        "" => "''".to_owned(),
        _ => format!("_utf8mb4 {}", quote_bytes(text.as_bytes())),
    }
}

/// Bytes, at least one.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut digits, byte| {
        // Writing to a text cannot fail.
        let _ = write!(digits, "{byte:02X}");
        digits
    })
}

fn quote(name: &str) -> Result<String, DatabaseError> {
    match name.contains('\0') {
        true => Err(DatabaseError::Invalid { what: "a name holds a NUL character".into() }),
        false => Ok(format!("`{}`", name.replace('`', "``"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inner(quoted: &str) -> Option<String> {
        let inner = quoted.strip_prefix('`')?.strip_suffix('`')?;
        // Every backtick inside is one of a pair.
        inner.split(|c| c != '`').all(|run| run.len() % 2 == 0).then(|| inner.replace("``", "`"))
    }

    #[test]
    fn examples() {
        assert_eq!(quote_identifier("a`; DROP USER b; -- ").unwrap(), "`a``; DROP USER b; -- `");
        assert!(quote_identifier("").is_err() && quote_identifier("a\0").is_err());
        assert_eq!(quote_account(&Account::new("o'`b", "10.%")).unwrap(), "`o'``b`@`10.%`");
        assert_eq!(quote_account(&Account::new("", "localhost")).unwrap(), "``@`localhost`");
        assert_eq!(quote_account(&Account::new("team", "")).unwrap(), "`team`");
        assert_eq!(quote_text("it's"), "_utf8mb4 0x69742773");
        assert_eq!(quote_text(""), "''");
    }

    proptest! {
        #[test]
        fn an_identifier_never_ends_early(name in "[^\\x00]{1,70}|[`\\\\'\"]{1,20}") {
            prop_assert_eq!(inner(&quote_identifier(&name).unwrap()), Some(name));
        }

        #[test]
        fn an_account_is_two_names(user in "[^\\x00]{0,32}|[`@]{0,9}", host in "[^\\x00]{1,60}|[`@]{1,9}") {
            let quoted = quote_account(&Account::new(user.as_str(), host.as_str())).unwrap();
            prop_assert_eq!(quoted, format!("`{}`@`{}`", user.replace('`', "``"), host.replace('`', "``")));
        }

        #[test]
        fn a_text_is_digits(text in ".{0,60}") {
            let quoted = quote_text(&text);
            let digits = quoted.strip_prefix("_utf8mb4 0x").unwrap_or("");
            prop_assert!(digits.chars().all(|c| c.is_ascii_hexdigit()) && digits.len() == 2 * text.len());
        }
    }
}
