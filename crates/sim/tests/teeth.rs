//! The simulator has teeth: each deliberate defect of the product is found within 1,000 seeds.
//! `cargo test -p aurora-restore-sim --features sabotage --release --test teeth -- --nocapture`
#![cfg(feature = "sabotage")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use aurora_restore_domain::sabotage::Sabotage;
use aurora_restore_sim::{Machine, Setup, simulate};
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 1000;

/// The first seed that finds it, and by what. What a seed finds without the defect does not count.
fn found_by(machine: &Machine, defect: Sabotage) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| {
        let mut setup = Setup::of_seed(seed);
        setup.sabotage = Some(defect);
        let violation = simulate(machine, &setup).violations.into_iter().next()?;
        setup.sabotage = None;
        simulate(machine, &setup).violations.is_empty().then(|| (seed, violation.to_string()))
    })
}

#[test]
fn every_defect_is_found() {
    let machine = Machine::shipped().unwrap();
    let (next, survived) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(defect) = Sabotage::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    match found_by(&machine, *defect) {
                        Some((seed, what)) => eprintln!("{defect:?}: found by seed {seed}: {what}"),
                        None => {
                            eprintln!("{defect:?}: SURVIVED {SEEDS} seeds");
                            survived.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(survived.into_inner(), 0, "defects survived");
}
