//! What MySQL keeps of a password, made on our side, and compared with what it keeps.
//!
//! `caching_sha2_password` (MySQL 8) keeps `$A$005$`, a salt of 20 bytes and the SHA-256 crypt of both in 5000 rounds,
//! in which "005" is thousands of rounds. `mysql_native_password` keeps SHA-1 of SHA-1, without a salt: MariaDB's, and of
//! accounts that were made so.

use crate::error::DatabaseError;
use ring::digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// The longest password that `caching_sha2_password` takes.
const PASSWORD_BYTES_MAX: usize = 256;
const SALT_BYTES: usize = 20;
const ROUNDS_THOUSANDS: usize = 5;
/// Of SHA-256 crypt in its own base 64.
const CRYPT_CHARACTERS: usize = 43;

/// How a server keeps passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    CachingSha2,
    Native,
}

impl Scheme {
    /// The plugin that keeps passwords so.
    pub(crate) fn plugin(self) -> &'static str {
        match self {
            Self::CachingSha2 => "caching_sha2_password",
            Self::Native => "mysql_native_password",
        }
    }

    /// What the server keeps of `password`, with a fresh salt where there is one.
    pub(crate) fn hash(self, password: &SecretString) -> Result<Zeroizing<Vec<u8>>, DatabaseError> {
        let password = checked(password)?;
        Ok(Zeroizing::new(match self {
            Self::CachingSha2 => caching_sha2(password, &fresh_salt()?, ROUNDS_THOUSANDS),
            Self::Native => native(password),
        }))
    }

    /// Whether what a server keeps is of `password`. Anything that this scheme would not have written is not.
    pub(crate) fn is_of(self, kept: &[u8], password: &SecretString) -> bool {
        let Ok(password) = checked(password) else { return false };
        let made = match self {
            Self::Native => native(password),
            Self::CachingSha2 => {
                let Some((rounds, salt)) = parse(kept) else { return false };
                caching_sha2(password, salt, rounds)
            }
        };
        made == kept
    }
}

/// A password that can be set and can log in.
fn checked(password: &SecretString) -> Result<&str, DatabaseError> {
    let text = password.expose_secret();
    let what = match text.len() {
        0 => "a password is empty",
        // Clients send it with a NUL as its end.
        _ if text.contains('\0') => "a password holds a NUL character",
        bytes if bytes > PASSWORD_BYTES_MAX => "a password is longer than the 256 bytes that MySQL takes",
        _ => return Ok(text),
    };
    Err(DatabaseError::Invalid { what: what.into() })
}

/// Seven bits each, no NUL and no `$`, which ends the salt: as the server makes its own.
fn fresh_salt() -> Result<[u8; SALT_BYTES], DatabaseError> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| DatabaseError::Unsupported {
        what: "the machine gives no random numbers for a password's salt".into(),
    })?;
    Ok(salt.map(|byte| match byte & 0x7f {
        byte @ (0 | b'$') => byte + 1,
        byte => byte,
    }))
}

/// Thousands of rounds and salt of what a server keeps.
fn parse(kept: &[u8]) -> Option<(usize, &[u8])> {
    let rest = kept.strip_prefix(b"$A$")?;
    let (rounds, rest) = (rest.get(..3)?, rest.get(3..)?.strip_prefix(b"$")?);
    let rounds = usize::from_str_radix(std::str::from_utf8(rounds).ok()?, 16).ok()?;
    // MySQL's own limits.
    let usual = rest.len() == SALT_BYTES + CRYPT_CHARACTERS && (5..=0xfff).contains(&rounds);
    usual.then(|| (rounds, rest.get(..SALT_BYTES).unwrap_or_default()))
}

fn caching_sha2(password: &str, salt: &[u8], rounds_thousands: usize) -> Vec<u8> {
    let mut kept = format!("$A${rounds_thousands:03X}$").into_bytes();
    kept.extend_from_slice(salt);
    kept.extend_from_slice(&sha256_crypt(password.as_bytes(), salt, rounds_thousands * 1000));
    kept
}

fn native(password: &str) -> Vec<u8> {
    let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    let digits = twice.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    format!("*{digits}").into_bytes()
}

/// SHA-256 crypt (Drepper, 2007) over a salt of any length, without its prefix.
fn sha256_crypt(password: &[u8], salt: &[u8], rounds: usize) -> Vec<u8> {
    let alternate = sha256(&[password, salt, password]);
    let mut context = Context::new(&SHA256);
    context.update(password);
    context.update(salt);
    context.update(&cycle(alternate.as_ref(), password.len()));
    let mut bits = password.len();
    while bits > 0 {
        context.update(if bits & 1 == 1 { alternate.as_ref() } else { password });
        bits >>= 1;
    }
    let mut mixed = context.finish();

    let p = Zeroizing::new(cycle(sha256(&vec![password; password.len()]).as_ref(), password.len()));
    let repeats = 16 + mixed.as_ref().first().copied().map_or(0, usize::from);
    let s = cycle(sha256(&vec![salt; repeats]).as_ref(), salt.len());
    for round in 0..rounds {
        let mut context = Context::new(&SHA256);
        let odd = round % 2 == 1;
        context.update(if odd { &p } else { mixed.as_ref() });
        if round % 3 != 0 {
            context.update(&s);
        }
        if round % 7 != 0 {
            context.update(&p);
        }
        context.update(if odd { mixed.as_ref() } else { &p });
        mixed = context.finish();
    }
    in_base_64(mixed.as_ref())
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

/// `bytes` again and again, up to `length`.
fn cycle(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(length).collect()
}

/// crypt's base 64: other letters, and three bytes that are ten places apart at a time.
fn in_base_64(digest: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[Option<usize>; 3]; 11] = [
        [Some(0), Some(10), Some(20)],
        [Some(21), Some(1), Some(11)],
        [Some(12), Some(22), Some(2)],
        [Some(3), Some(13), Some(23)],
        [Some(24), Some(4), Some(14)],
        [Some(15), Some(25), Some(5)],
        [Some(6), Some(16), Some(26)],
        [Some(27), Some(7), Some(17)],
        [Some(18), Some(28), Some(8)],
        [Some(9), Some(19), Some(29)],
        [None, Some(31), Some(30)],
    ];
    let byte = |place: Option<usize>| place.and_then(|place| digest.get(place)).copied().map_or(0, u32::from);
    let groups = ORDER.iter().flat_map(|[high, middle, low]| {
        let group = byte(*high) << 16 | byte(*middle) << 8 | byte(*low);
        (0..4).map(move |letter| (group >> (6 * letter) & 0x3f) as usize)
    });
    groups.take(CRYPT_CHARACTERS).filter_map(|letter| LETTERS.get(letter).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    /// Examples of the algorithm's specification (Drepper, "Unix crypt using SHA-256 and SHA-512"), as OpenSSL's `passwd -5`
    /// and glibc's `crypt` answer them.
    #[test]
    fn the_examples_of_the_specification() {
        let crypt = |password: &str, salt: &str, rounds| {
            String::from_utf8(sha256_crypt(password.as_bytes(), salt.as_bytes(), rounds)).unwrap()
        };
        assert_eq!(crypt("Hello world!", "saltstring", 5000), "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5");
        assert_eq!(crypt("Hello world!", "saltstringsaltst", 10000), "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA");
    }

    /// The example of hashcat's mode 7401 ("MySQL $A$ (sha256crypt)"): a salt of 20 bytes, as MySQL has it.
    #[test]
    fn the_example_of_hashcat() {
        let bytes = |digits: &str| -> Vec<u8> {
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
        };
        let salt = bytes("F9CC98CE08892924F50A213B6BC571A2C11778C5");
        let crypt = bytes("625479393559393965414D45316477456B484F41316E64484742577A2E3162785353526B7554584647562F");
        let kept = [b"$A$005$", salt.as_slice(), crypt.as_slice()].concat();
        assert!(Scheme::CachingSha2.is_of(&kept, &secret("hashcat")));
        assert!(!Scheme::CachingSha2.is_of(&kept, &secret("hashcaT")));
    }

    #[test]
    fn the_example_of_the_manual() {
        // MySQL 5.7's manual, on hashing: PASSWORD('mypass').
        assert_eq!(native("mypass"), b"*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4");
    }

    #[test]
    fn what_is_made_is_known_again_and_never_the_same() {
        let password = secret("correct horse");
        let (one, two) = (Scheme::CachingSha2.hash(&password).unwrap(), Scheme::CachingSha2.hash(&password).unwrap());
        assert_ne!(*one, *two);
        assert_eq!((one.len(), &one[..7]), (70, &b"$A$005$"[..]));
        assert!(one[7..27].iter().all(|byte| (1..0x80).contains(byte) && *byte != b'$'));
        for (scheme, kept) in [(Scheme::CachingSha2, &one), (Scheme::Native, &Scheme::Native.hash(&password).unwrap())]
        {
            assert!(scheme.is_of(kept, &password) && !scheme.is_of(kept, &secret("wrong horse")));
        }
        for kept in [&b""[..], b"$A$005$", b"$A$000$", &[b'x'; 70], b"THISISNOTAVALIDPASSWORDTHATCANBEUSEDHERE"] {
            assert!(!Scheme::CachingSha2.is_of(kept, &password) && !Scheme::Native.is_of(kept, &password));
        }
    }

    #[test]
    fn what_could_not_log_in_is_refused_without_being_shown() {
        for password in ["".to_owned(), "bell\0".to_owned(), "bell".repeat(65)] {
            let error = Scheme::CachingSha2.hash(&secret(&password)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("bell"), "{error}");
        }
        assert!(Scheme::CachingSha2.hash(&secret(&"x".repeat(256))).is_ok());
    }
}
