//! What aurora-restore decides, as synchronous functions over plain values.
//!
//! No AWS, no runtime, no environment and no clock: `now` is an argument. The steps observe the world, hand it to a
//! function of this crate, and carry out the answer.

use sha2::Digest;

pub mod accounts;
pub mod audit;
pub mod cloud;
pub mod decide;
pub mod engine;
pub mod failure;
pub mod guards;
pub mod ids;
pub mod kms;
pub mod lock;
pub mod naming;
pub mod notification;
pub mod operation;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod request;
pub mod roles;
pub mod sabotage;
pub mod status;
pub mod step;
pub mod swap;
pub mod wait;

/// An instant in UTC.
pub type Instant = time::OffsetDateTime;

/// RFC 3339 in UTC with milliseconds: `2026-11-21T23:04:05.123Z`. Sorts as text, so it can be an index's sort key.
pub fn timestamp(at: Instant) -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_else(|_| at.unix_timestamp().to_string())
}

/// Reads what [`timestamp`] wrote; `None` for anything else.
pub fn parse_timestamp(text: &str) -> Option<Instant> {
    Instant::parse(text, &time::format_description::well_known::Rfc3339).ok()
}

/// Whole seconds from `earlier` to `later`; 0 when the clocks disagree about the order.
pub fn seconds_between(earlier: Instant, later: Instant) -> u64 {
    u64::try_from((later - earlier).whole_seconds()).unwrap_or(0)
}

/// A duration as people read it: `45 s`, `12 min 5 s`, `3 h 20 min`.
pub fn human_duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// SHA-256 in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}

/// The first `most` of a list that may be long, and how many more there are.
pub fn shorten(all: &[String], most: usize) -> Vec<String> {
    let mut shown: Vec<String> = all.iter().take(most).cloned().collect();
    if all.len() > most {
        shown.push(format!("and {} more", all.len() - most));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn timestamps_sort_as_text_and_come_back() {
        let earlier = datetime!(2026-11-21 23:04:05.009 UTC);
        let later = datetime!(2026-11-21 23:04:05.010 UTC);
        assert_eq!(timestamp(earlier), "2026-11-21T23:04:05.009Z");
        assert!(timestamp(earlier) < timestamp(later));
        assert_eq!(parse_timestamp(&timestamp(later)), Some(later));
        assert_eq!(parse_timestamp("yesterday"), None);
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(human_duration(45), "45 s");
        assert_eq!(human_duration(725), "12 min 5 s");
        assert_eq!(human_duration(12_000), "3 h 20 min");
        assert_eq!(seconds_between(datetime!(2026-01-02 0:00 UTC), datetime!(2026-01-01 0:00 UTC)), 0);
    }
}
