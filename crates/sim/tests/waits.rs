//! Bounds of what a restore loses and uses, by counts: whatever makes it ask more shows here.
#![allow(clippy::unwrap_used, reason = "tests")]

use aurora_restore_sim::waits::{SIZES, STRATEGIES, Strategy, Taken, median};
use aurora_restore_sim::{Machine, crowd};

/// Draws of each size: fewer than the benchmark's.
const DRAWS: u64 = 5;

fn strategy(name: &str) -> Strategy {
    STRATEGIES.into_iter().find(|strategy| strategy.name == name).unwrap()
}

fn taken(size: usize, name: &str) -> Taken {
    median(&Machine::shipped().unwrap(), SIZES[size], strategy(name), DRAWS).unwrap()
}

#[test]
fn what_a_restore_loses_and_uses_is_bounded() {
    // 10 GB, and 100 GB: the better part of an hour.
    for (size, most) in [(0, 70), (1, 75)] {
        let (ours, each_minute) = (taken(size, "aurora-restore"), taken(size, "every 60 s"));
        assert!(ours.lost <= 20 && ours.lost * 4 <= each_minute.lost, "{ours:?} {each_minute:?}");
        assert!(ours.calls <= each_minute.calls && ours.rds_calls <= each_minute.rds_calls, "{ours:?} {each_minute:?}");
        assert!(ours.rds_calls <= most && ours.calls <= most * 3 && ours.transitions <= most, "{ours:?}");
        assert!(ours.events <= 250, "{ours:?}");
    }
}

#[test]
fn a_swap_is_bounded_too() {
    let (ours, each_minute) = (taken(1, "swap"), taken(1, "swap, every 60 s"));
    assert!(ours.lost <= 20 && ours.lost * 4 <= each_minute.lost, "{ours:?} {each_minute:?}");
    assert!(ours.calls <= each_minute.calls && ours.rds_calls <= each_minute.rds_calls, "{ours:?} {each_minute:?}");
    assert!(ours.rds_calls <= 130 && ours.calls <= 340 && ours.transitions <= 110, "{ours:?}");
    // Four renames of half a minute, and what is lost between them.
    assert!(ours.downtime <= 145, "{ours:?}");
}

#[test]
fn the_first_restore_of_a_source_is_bounded_too() {
    let ours = taken(1, "the first time");
    assert!(ours.lost <= 25 && ours.transitions <= 180 && ours.calls <= 380, "{ours:?}");
}

#[test]
fn without_events_it_takes_longer_and_no_more() {
    let (ours, each_minute) = (taken(1, "no events"), taken(1, "every 60 s"));
    assert!(ours.lost * 2 <= each_minute.lost && ours.calls <= 260, "{ours:?} {each_minute:?}");
}

/// Each restore has a state table of its own; what joins them is the table of calls.
#[test]
fn a_crowd_comes_through() {
    let crowd = crowd::run(&Machine::shipped().unwrap(), SIZES[0], strategy("aurora-restore"), 12).unwrap();
    assert_eq!((crowd.succeeded, crowd.most_copies), (12, 5), "{crowd:?}");
    assert!(crowd.peak_rds_calls <= 10, "{crowd:?}");
}
