//! How long to wait before the next look.

/// The least wait: an RDS call a few seconds after the last one tells nothing new.
const LEAST_SECONDS: u64 = 5;

/// How long something that was just made may be invisible to a describe: RDS answers from what it knew seconds ago.
/// Generous, since the alternative is to fail a restore whose cluster is about to show up.
pub const VISIBLE_SECONDS: u64 = 120;

/// Seconds until a copy is looked at again. With a known percentage the wait is a quarter of what is left at the
/// speed so far; without one it grows with the time already spent. Long copies end up at five minutes between looks:
/// the machine's history holds 25,000 events.
pub fn copy_seconds(elapsed_seconds: u64, percent: Option<u8>) -> u64 {
    match percent {
        Some(percent @ 1..=99) => {
            let left = elapsed_seconds * u64::from(100 - percent) / u64::from(percent);
            (left / 4).clamp(15, 300)
        }
        _ => (elapsed_seconds / 10).clamp(15, 300),
    }
}

/// Seconds until a cluster or an instance is looked at again: these phases last minutes, not hours.
pub fn cluster_seconds(elapsed_seconds: u64) -> u64 {
    (elapsed_seconds / 6).clamp(15, 60)
}

/// Seconds until a change that RDS makes at once, but asynchronously, is looked at again.
pub fn change_seconds(elapsed_seconds: u64) -> u64 {
    (elapsed_seconds / 6).clamp(LEAST_SECONDS, 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_looked_at_in_proportion_to_what_is_left() {
        assert_eq!(copy_seconds(0, None), 15);
        assert_eq!(copy_seconds(600, Some(0)), 60);
        assert_eq!(copy_seconds(600, Some(50)), 150);
        assert_eq!(copy_seconds(600, Some(99)), 15);
        assert_eq!(copy_seconds(36_000, Some(10)), 300);
    }

    #[test]
    fn a_day_of_copying_stays_far_from_the_history_limit() {
        let (mut elapsed, mut looks) = (0, 0);
        while elapsed < 36 * 3600 {
            elapsed += copy_seconds(elapsed, Some(0));
            looks += 1;
        }
        // A look is about 9 events.
        assert!(looks * 9 < 25_000 / 2, "{looks} looks");
    }
}
