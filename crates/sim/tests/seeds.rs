//! Different disasters by seed: 1,000 when optimised, a few otherwise.
#![allow(clippy::panic, reason = "tests")]

use aurora_restore_sim::{Machine, Setup, simulate};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn no_seed_breaks_a_promise() {
    let machine = Machine::shipped().unwrap();
    let seeds = if cfg!(debug_assertions) { 40 } else { 1000 };
    let (next, broken) = (AtomicU64::new(0), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if let Some(violation) = simulate(&machine, &Setup::of_seed(seed)).violations.first() {
                        let replay = "cargo run -p aurora-restore-sim --release -- --seed";
                        broken.lock().unwrap().push(format!("{replay} {seed}: {violation}"));
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{} of {seeds} seeds:\n{}", broken.len(), broken[..broken.len().min(10)].join("\n"));
}
