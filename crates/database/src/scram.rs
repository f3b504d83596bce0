//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677): what PostgreSQL stores instead of a password.

use crate::error::DatabaseError;
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{digest, hmac, pbkdf2, rand::SecureRandom, rand::SystemRandom};
use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretString};
use std::borrow::Cow;
use std::num::NonZeroU32;

/// PostgreSQL's own default (`scram_iterations`), so that a login costs what it costs for other users.
const ITERATIONS: NonZeroU32 = match NonZeroU32::new(4096) {
    Some(iterations) => iterations,
    None => NonZeroU32::MIN,
};

/// The password as both sides of a login prepare it. An error names the rule and shows nothing of the password.
///
/// PostgreSQL and libpq take a password that SASLprep prohibits (unassigned characters of Unicode 3.2, which are all
/// newer ones, emoji among them) as it is; sqlx refuses to log in with it, and so it is refused here.
pub(crate) fn prepare(password: &SecretString) -> Result<Cow<'_, str>, DatabaseError> {
    let invalid = |what: &str| DatabaseError::Invalid { what: what.to_owned() };
    match stringprep::saslprep(password.expose_secret()) {
        Ok(prepared) if prepared.is_empty() => Err(invalid("a password is empty")),
        Ok(prepared) => Ok(prepared),
        Err(_) => Err(invalid(
            "a password has characters that SASLprep (RFC 4013) prohibits, such as control characters or emoji",
        )),
    }
}

/// The verifier of `password` with a fresh salt, as `ALTER ROLE … PASSWORD` takes it.
///
/// Refused is what could not log in afterwards: an empty password, and one with characters that SASLprep prohibits.
pub fn scram_verifier(password: &SecretString) -> Result<SecretString, DatabaseError> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| DatabaseError::Unsupported {
        what: "the machine gives no random numbers for a password's salt".into(),
    })?;
    verifier(password, &salt)
}

fn verifier(password: &SecretString, salt: &[u8]) -> Result<SecretString, DatabaseError> {
    let prepared = prepare(password)?;
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, prepared.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    salted.zeroize();
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    Ok(SecretString::from(format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        encode(salt),
        encode(stored_key.as_ref()),
        encode(server_key.as_ref()),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677's example: user "user", password "pencil". The keys follow from its salt and iteration count.
    #[test]
    fn the_example_of_the_rfc() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let made = verifier(&SecretString::from("pencil"), &salt).unwrap();
        assert_eq!(
            made.expose_secret(),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
             $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn never_the_same_twice_and_never_the_password() {
        let password = SecretString::from("correct horse");
        let (one, two) = (scram_verifier(&password).unwrap(), scram_verifier(&password).unwrap());
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert!(!one.expose_secret().contains("correct horse"));
    }

    #[test]
    fn what_could_not_log_in_is_refused_without_being_shown() {
        for password in ["", "bell\u{7}", "\u{ad}", "bell 🔑"] {
            let error = scram_verifier(&SecretString::from(password)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("bell"), "{error}");
        }
    }
}
