//! How long to wait before the next look. Too long loses the time between the end of what RDS does and the look that
//! finds it; too short makes calls that tell nothing new.

use crate::phase::{Expected, Phase};

/// The least wait for all but new names: an RDS call a few seconds after the last one tells nothing new.
pub const LEAST_SECONDS: u64 = 5;

/// The longest wait for what took as long before: this time it may be over sooner.
const MOST_SECONDS: u64 = 600;

/// The least wait for new names, once they may be there: the target is away meanwhile.
const LEAST_AWAY_SECONDS: u64 = 2;

/// The longest, however long they took before.
const MOST_AWAY_SECONDS: u64 = 60;

/// Looks between the soonest and the latest end that is remembered.
const LOOKS_WITHIN: u64 = 4;

/// How long something that was just made may be invisible to a describe: RDS answers from what it knew seconds ago.
/// Generous, since the alternative is to fail a restore whose cluster is about to show up.
pub const VISIBLE_SECONDS: u64 = 120;

/// Whether an event may end a wait of so many seconds: not in its first five, in which a describe may still show the world
/// before our own call (`wake` holds it back). Of a shorter one nobody need keep the token.
pub fn may_be_ended(seconds: u64) -> bool {
    seconds > LEAST_SECONDS
}

/// Seconds until `phase` is looked at again, which has been under way for `elapsed_seconds`: by how far RDS says it is, by
/// how long it took before, or by its usual shape.
pub fn seconds(phase: Phase, elapsed_seconds: u64, percent: Option<u8>, expected: Option<Expected>) -> u64 {
    match (phase, expected) {
        (Phase::Copy, Some(expected)) if elapsed_seconds < expected.least * 3 / 5 => {
            // Even if it were nearly twice as quick as ever. A copy that RDS says is further is looked at sooner.
            let usual = expected.least * 3 / 5 - elapsed_seconds;
            match percent {
                Some(percent @ 1..) => usual.min(copy_seconds(elapsed_seconds, Some(percent)).max(60)),
                _ => usual.min(3600),
            }
        }
        (Phase::Copy, _) => copy_seconds(elapsed_seconds, percent),
        // These are over within a minute: looks that are seconds apart cost few calls, and come before most events.
        (Phase::MasterPassword, Some(Expected { least, .. })) => closely(elapsed_seconds, least, LEAST_SECONDS),
        (Phase::InstanceRename | Phase::ClusterRename, Some(Expected { least, .. })) => {
            closely(elapsed_seconds, least, LEAST_AWAY_SECONDS)
        }
        (_, Some(expected)) => expected_seconds(elapsed_seconds, expected),
        (Phase::MasterPassword, None) => change_seconds(elapsed_seconds).max(10),
        (Phase::Change | Phase::InstanceRename | Phase::ClusterRename, None) => change_seconds(elapsed_seconds),
        (Phase::Settling | Phase::Deletion | Phase::Restore | Phase::Instances | Phase::Login, None) => {
            cluster_seconds(elapsed_seconds)
        }
    }
}

/// Until just when it was over at the soonest; from then on closely, until when it was over at the latest; then in
/// proportion to how late it is. Where events tell the end, they will again: then only until the latest end.
fn expected_seconds(elapsed_seconds: u64, Expected { least, most, is_told }: Expected) -> u64 {
    let until = if is_told { most + LEAST_SECONDS } else { least };
    if elapsed_seconds < until {
        return (until - elapsed_seconds).clamp(LEAST_SECONDS, MOST_SECONDS);
    }
    match elapsed_seconds.checked_sub(most) {
        None => ((most - least) / LOOKS_WITHIN).clamp(LEAST_SECONDS, 30),
        Some(late) => (late / 3).clamp(10, 60),
    }
}

/// Until just when it was over at the soonest; from then on every `at_least` seconds, or in proportion to how much later it
/// is. The same where events tell the end: those are under way longer.
fn closely(elapsed_seconds: u64, least: u64, at_least: u64) -> u64 {
    let usual = match elapsed_seconds.checked_sub(least) {
        None => least - elapsed_seconds,
        Some(since) => since / 10,
    };
    usual.clamp(at_least, MOST_AWAY_SECONDS)
}

/// Seconds until a copy is looked at again. With a known percentage most of what is left at the least, at the speed so far:
/// `99` may be anything up to 100, so the last percent is looked at in small parts of what went before. Without one the
/// wait grows with the time already spent. Never more than a third of that time, in case it becomes quicker.
fn copy_seconds(elapsed_seconds: u64, percent: Option<u8>) -> u64 {
    match percent {
        Some(percent @ 1..=99) => {
            let percent = u64::from(percent);
            let at_least = elapsed_seconds * (99 - percent) / (percent + 1);
            let at_most = (elapsed_seconds / 3).max(15);
            (at_least * 4 / 5).max((elapsed_seconds / 2400).min(10)).clamp(LEAST_SECONDS, at_most)
        }
        _ => (elapsed_seconds / 10).clamp(15, 300),
    }
}

/// Seconds until a cluster or an instance is looked at again of which nothing is remembered: these phases last minutes,
/// not hours, and an event may tell their end sooner.
fn cluster_seconds(elapsed_seconds: u64) -> u64 {
    (elapsed_seconds / 2).clamp(30, 60)
}

/// Seconds until the next try for one of the Region's slots for copies. Those who wait come at different moments, so that
/// a slot is not idle for long, and nobody is always the last to ask; `who` tells them and their tries apart.
pub fn slot_seconds(elapsed_seconds: u64, who: &str) -> u64 {
    let usual = (elapsed_seconds / 10).clamp(60, 300);
    let share = who.bytes().fold(7_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1009);
    usual / 2 + usual * share / 1009
}

/// Seconds until a change that RDS makes at once, but asynchronously, is looked at again.
pub fn change_seconds(elapsed_seconds: u64) -> u64 {
    (elapsed_seconds / 6).clamp(LEAST_SECONDS, 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(phase: Phase, expected: Option<Expected>, takes: u64) -> (u64, u64) {
        let (mut elapsed, mut looks) = (0, 0);
        while elapsed < takes {
            elapsed += seconds(phase, elapsed, None, expected);
            looks += 1;
        }
        (looks, elapsed - takes)
    }

    #[test]
    fn what_took_as_long_before_is_looked_at_when_it_is_about_to_end() {
        let expected = Some(Expected { least: 400, most: 460, is_told: false });
        for takes in [250, 300, 390, 400, 401, 430, 460, 470, 600] {
            let (looks, lost) = looks(Phase::Instances, expected, takes);
            let most_lost = if takes < 400 { 150 } else { 35 };
            assert!(looks <= 17 && lost <= most_lost, "{takes} s: {looks} looks, {lost} s lost");
        }
        assert!(looks(Phase::Instances, expected, 430).0 <= 6);
        assert!(looks(Phase::Instances, expected, 430).1 <= 15);
        assert!(looks(Phase::Instances, None, 430).0 <= 9, "hardly more than once a minute");
    }

    #[test]
    fn what_events_tell_is_left_to_them() {
        let expected = Some(Expected { least: 400, most: 460, is_told: true });
        assert_eq!(seconds(Phase::Instances, 0, None, expected), 465);
        assert_eq!(looks(Phase::Instances, expected, 430), (1, 35), "an event that is lost costs no more than that");
        assert!(looks(Phase::Instances, expected, 600).0 <= 10 && looks(Phase::Instances, expected, 600).1 <= 60);
    }

    #[test]
    fn what_is_over_within_a_minute_is_looked_at_closely_from_its_soonest_end_on() {
        for (phase, apart) in [(Phase::InstanceRename, 2), (Phase::ClusterRename, 2), (Phase::MasterPassword, 5)] {
            let wide = Some(Expected { least: 400, most: 460, is_told: true });
            assert!((0..9000).all(|elapsed| (apart..=60).contains(&seconds(phase, elapsed, None, wide))));
            for is_told in [false, true] {
                let usual = Some(Expected { least: 25, most: 33, is_told });
                assert_eq!(looks(phase, usual, 25), (1, 0));
                assert_eq!(looks(phase, usual, 25 + 2 * apart), (3, 0));
                assert_eq!(looks(phase, usual, 26 + 2 * apart), (4, apart - 1));
            }
            let (looks, lost) = looks(phase, Some(Expected { least: 25, most: 1800, is_told: true }), 1800);
            assert!(
                looks <= 75 && lost <= 60,
                "{looks} looks, {lost} s lost: what varies so much is looked at less often"
            );
        }
        assert_eq!(looks(Phase::ClusterRename, None, 30), (6, 0));
    }

    #[test]
    fn a_copy_that_takes_long_every_night_is_left_alone_at_first() {
        let expected = Some(Expected { least: 6000, most: 6600, is_told: false });
        assert_eq!(seconds(Phase::Copy, 0, None, expected), 3600);
        assert_eq!(seconds(Phase::Copy, 600, Some(9), expected), 200, "a third of the time so far: it may be quicker");
        assert_eq!(seconds(Phase::Copy, 3600, Some(55), expected), copy_seconds(3600, Some(55)));
    }

    #[test]
    fn those_who_wait_for_a_slot_do_not_come_together() {
        let all: Vec<u64> = (0..200).map(|number| slot_seconds(3600, &format!("nightly-{number} 3"))).collect();
        assert!(all.iter().all(|seconds| (150..=450).contains(seconds)), "{all:?}");
        let (early, late) = (all.iter().filter(|s| **s < 225).count(), all.iter().filter(|s| **s > 375).count());
        assert!((30..70).contains(&early) && (30..70).contains(&late), "{early} {late}");
        assert!((30..=90).contains(&slot_seconds(0, "a")));
    }

    #[test]
    fn a_copy_is_looked_at_in_proportion_to_what_is_left() {
        assert_eq!(copy_seconds(0, None), 15);
        assert_eq!(copy_seconds(600, Some(0)), 60);
        assert_eq!(copy_seconds(600, Some(50)), 200, "a third of the time so far");
        assert_eq!(copy_seconds(600, Some(90)), 47, "most of nine percent");
        assert_eq!(copy_seconds(600, Some(99)), 5);
        assert_eq!(copy_seconds(36_000, Some(10)), 12_000);
        assert_eq!(copy_seconds(86_400, Some(99)), 10, "the last percent is a quarter of an hour here");
    }

    #[test]
    fn looks_at_a_copy_that_goes_on_evenly() {
        for (hours, most_looks, most_lost) in [(0.1, 16, 6), (0.5, 26, 6), (3.0, 40, 6), (25.0, 135, 11)] {
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
