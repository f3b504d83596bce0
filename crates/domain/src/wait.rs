//! How long to wait before the next look.

/// The least wait: an RDS call a few seconds after the last one tells nothing new.
const LEAST_SECONDS: u64 = 5;

/// How long something that was just made may be invisible to a describe: RDS answers from what it knew seconds ago.
/// Generous, since the alternative is to fail a restore whose cluster is about to show up.
pub const VISIBLE_SECONDS: u64 = 120;

/// Seconds until a copy is looked at again. With a known percentage most of what is left at the least, at the speed so far:
/// `99` may be anything up to 100, so the last percent is looked at in small parts of what went before. Without one the
/// wait grows with the time already spent. Never more than a third of that time, in case it becomes quicker.
pub fn copy_seconds(elapsed_seconds: u64, percent: Option<u8>) -> u64 {
    match percent {
        Some(percent @ 1..=99) => {
            let percent = u64::from(percent);
            let at_least = elapsed_seconds * (99 - percent) / (percent + 1);
            let at_most = (elapsed_seconds / 3).max(15);
            (at_least * 4 / 5).max((elapsed_seconds / 400).min(45)).clamp(15, at_most)
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
        assert_eq!(copy_seconds(600, Some(50)), 200, "a third of the time so far");
        assert_eq!(copy_seconds(600, Some(90)), 47, "most of nine percent");
        assert_eq!(copy_seconds(600, Some(99)), 15);
        assert_eq!(copy_seconds(36_000, Some(10)), 12_000);
        assert_eq!(copy_seconds(86_400, Some(99)), 45);
    }

    #[test]
    fn looks_at_a_copy_that_goes_on_evenly() {
        for (hours, most_looks, most_lost) in [(0.1, 14, 15), (0.5, 22, 15), (3.0, 34, 30), (25.0, 66, 50)] {
            let takes = (hours * 3600.0) as u64;
            let (mut elapsed, mut looks) = (0, 0);
            while elapsed < takes {
                let percent = u8::try_from(elapsed * 100 / takes).ok();
                elapsed += copy_seconds(elapsed, percent);
                looks += 1;
            }
            let lost = elapsed - takes;
            assert!(looks <= most_looks && lost <= most_lost, "{hours} h: {looks} looks, {lost} s lost");
        }
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
