//! Quoting, the one place where a name or a text becomes part of a statement.
//!
//! `GRANT` and `ALTER ROLE` take no parameters, so names must be quoted. Both functions answer a complete token that
//! is safe at any place of a statement where an identifier or a text may stand, whatever `standard_conforming_strings`
//! says, in a connection whose encoding is UTF-8. A NUL cannot be quoted and is refused.

use crate::error::DatabaseError;

/// An identifier in double quotes.
pub fn quote_identifier(name: &str) -> Result<String, DatabaseError> {
    refuse_nul(name)?;
    if name.is_empty() {
        return Err(DatabaseError::Invalid { what: "an identifier is empty".into() });
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A text in single quotes; with a backslash in it, as an escape string.
pub fn quote_literal(text: &str) -> Result<String, DatabaseError> {
    refuse_nul(text)?;
    let quoted = text.replace('\'', "''");
    Ok(match text.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    })
}

fn refuse_nul(text: &str) -> Result<(), DatabaseError> {
    match text.contains('\0') {
        true => Err(DatabaseError::Invalid { what: "a name or text holds a NUL character".into() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs_only(text: &str, quote: char) -> bool {
        text.split(|c| c != quote).all(|run| run.len() % 2 == 0)
    }

    #[test]
    fn examples() {
        let identifier = |name| quote_identifier(name).ok();
        assert_eq!(identifier("app_user").as_deref(), Some("\"app_user\""));
        assert_eq!(identifier("select").as_deref(), Some("\"select\""));
        assert_eq!(identifier("a\"; DROP ROLE b; --").as_deref(), Some("\"a\"\"; DROP ROLE b; --\""));
        assert_eq!(identifier("nul\0"), None);
        assert_eq!(identifier(""), None);
        let literal = |text| quote_literal(text).ok();
        assert_eq!(literal("it's").as_deref(), Some("'it''s'"));
        assert_eq!(literal("\\'; --").as_deref(), Some(" E'\\\\''; --'"));
        assert_eq!(literal("").as_deref(), Some("''"));
        assert_eq!(literal("\0"), None);
    }

    proptest! {
        #[test]
        fn an_identifier_never_ends_early(name in "[^\\x00]{1,80}") {
            let quoted = quote_identifier(&name).unwrap();
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert!(pairs_only(inner, '"'));
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }

        #[test]
        fn a_literal_never_ends_early(text in "[^\\x00]{0,80}") {
            let quoted = quote_literal(&text).unwrap();
            let escaped = quoted.starts_with(" E'");
            let inner = quoted.trim_start_matches(" E").strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
            prop_assert!(pairs_only(inner, '\''));
            let harmless = if escaped { pairs_only(inner, '\\') } else { !inner.contains('\\') };
            prop_assert!(harmless);
        }

        #[test]
        fn a_nul_is_refused_anywhere(before in "[^\\x00]{0,20}", after in "[^\\x00]{0,20}") {
            let text = format!("{before}\0{after}");
            prop_assert!(quote_identifier(&text).is_err() && quote_literal(&text).is_err());
        }
    }
}
