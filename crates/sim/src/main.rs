//! Runs simulations by seed on all cores and says what became of them.
//!
//! `sim --seeds 10000` runs that many; `sim --seed 17` shows one as a person reads it; `sim --scenario happy` shows a
//! scenario in which nothing goes wrong.
#![allow(clippy::print_stdout, reason = "a program for people")]

use aurora_restore_sim::run::{simulate_here, spawn};
use aurora_restore_sim::transcript::in_short;
use aurora_restore_sim::{Invariant, Machine, Report, Scenario, Setup, simulate};
use aurora_restore_sim::{crowd, waits};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The SDK allocates a lot for every call; this takes a third off a simulation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Broken seeds that are shown in full; the others are counted.
const SHOWN_AT_MOST: usize = 3;

const USAGE: &str = "usage: sim [--seeds N] [--from SEED] [--jobs N] [--lag-ms N] | [--every-call] --seed N | [--every-call] --scenario NAME | --waits | --crowd";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<bool, String> {
    let machine = Machine::shipped()?;
    let (mut seeds, mut from, mut jobs) = (1000, 0, std::thread::available_parallelism().map_or(1, usize::from));
    let (mut lag_ms, mut every_call) = (None, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--crowd" {
            crowd::lines(&machine)?.iter().for_each(|line| println!("{line}"));
            return Ok(true);
        }
        if word == "--waits" {
            waits::lines(&machine)?.iter().for_each(|line| println!("{line}"));
            return Ok(true);
        }
        if word == "--every-call" {
            every_call = true;
            continue;
        }
        let value = words.next().ok_or_else(|| USAGE.to_owned())?;
        let number = || value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--seeds" => seeds = number()?,
            "--from" => from = number()?,
            "--jobs" => jobs = usize::try_from(number()?).unwrap_or(1).max(1),
            "--lag-ms" => lag_ms = Some(number()?),
            "--seed" => return Ok(show(&machine, drawn(number()?, lag_ms), every_call)),
            "--scenario" => {
                let known = |scenario: &&Scenario| format!("{scenario:?}").eq_ignore_ascii_case(value);
                let scenario = Scenario::ALL.iter().find(known);
                let scenario = scenario.ok_or_else(|| format!("there are {:?}", Scenario::ALL))?;
                return Ok(show(&machine, Setup::calm(*scenario), every_call));
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(many(&machine, from, seeds, jobs, lag_ms))
}

/// The simulation of a seed, with another lag until describe calls show a change.
fn drawn(seed: u64, lag_ms: Option<u64>) -> Setup {
    let mut setup = Setup::of_seed(seed);
    setup.pace.visible_us = lag_ms.map_or(setup.pace.visible_us, |lag_ms| lag_ms * 1000);
    setup
}

/// Shows one simulation.
fn show(machine: &Machine, mut setup: Setup, every_call: bool) -> bool {
    setup.records = true;
    let report = simulate(machine, &setup);
    println!("seed {}: {:?}; faults: {}", setup.seed, setup.scenario, setup.plan);
    if let Some(second) = setup.second {
        println!(
            "a second execution {} s after {}, same operation: {}, its fault: {:?}",
            second.delay_us / 1_000_000,
            if second.after_stop { "the first was stopped" } else { "the first" },
            second.same_operation,
            second.fault
        );
    }
    let lines = if every_call { report.lines.iter().collect() } else { in_short(&report.lines) };
    for line in lines {
        println!("{line}");
    }
    for verdict in &report.verdicts {
        println!("{}: {:?}, {} events", verdict.arn, verdict.ended, verdict.events);
    }
    for violation in &report.violations {
        println!("BROKEN {violation}");
    }
    report.violations.is_empty()
}

#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, u64>,
    ends: BTreeMap<String, u64>,
    broken: BTreeMap<Invariant, Vec<(u64, String)>>,
    faults: u64,
    calls: u64,
    virtual_seconds: u64,
}

impl Tally {
    fn add(&mut self, seed: u64, setup: &Setup, report: &Report) {
        *self.outcomes.entry(format!("{:?} {}", setup.scenario, report.outcome())).or_default() += 1;
        let last = report
            .verdicts
            .last()
            .map_or_else(|| "-".to_owned(), |last| last.arn.rsplit(':').next().unwrap_or("-").to_owned());
        *self.ends.entry(last).or_default() += 1;
        self.faults += u64::try_from(report.applied.len()).unwrap_or_default();
        self.calls += u64::from(report.all_calls);
        self.virtual_seconds += report.took_us / 1_000_000;
        for violation in &report.violations {
            self.broken.entry(violation.invariant).or_default().push((seed, violation.what.clone()));
        }
    }

    fn merge(&mut self, other: Self) {
        for (name, count) in other.outcomes {
            *self.outcomes.entry(name).or_default() += count;
        }
        for (name, count) in other.ends {
            *self.ends.entry(name).or_default() += count;
        }
        for (invariant, seeds) in other.broken {
            self.broken.entry(invariant).or_default().extend(seeds);
        }
        self.faults += other.faults;
        self.calls += other.calls;
        self.virtual_seconds += other.virtual_seconds;
    }
}

fn many(machine: &Machine, from: u64, seeds: u64, jobs: usize, lag_ms: Option<u64>) -> bool {
    let (began, next, all) = (Instant::now(), AtomicU64::new(from), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let job = spawn(scope, || {
                let mut tally = Tally::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        break;
                    }
                    let setup = drawn(seed, lag_ms);
                    tally.add(seed, &setup, &simulate_here(machine, &setup));
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).merge(tally);
            });
            if let Err(error) = job {
                println!("a thread could not be started: {error}");
            }
        }
    });
    let tally = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let simulated: u64 = tally.outcomes.values().sum();
    if simulated != seeds {
        println!("only {simulated} of {seeds} seeds were simulated");
        return false;
    }
    summary(&tally, seeds, began.elapsed().as_secs_f64());
    let mut broken: Vec<u64> = tally.broken.values().flatten().map(|(seed, _)| *seed).collect();
    broken.sort_unstable();
    broken.dedup();
    for seed in broken.iter().take(SHOWN_AT_MOST) {
        println!("\n==== seed {seed}; replay it with: cargo run -p aurora-restore-sim --release -- --seed {seed}");
        show(machine, drawn(*seed, lag_ms), false);
    }
    println!("\n{} of {seeds} seeds broke a promise", broken.len());
    broken.is_empty()
}

fn summary(tally: &Tally, seeds: u64, seconds: f64) {
    println!(
        "{seeds} seeds in {seconds:.1} s: {} calls, {} faults, {} virtual hours",
        tally.calls,
        tally.faults,
        tally.virtual_seconds / 3600
    );
    println!("how the faulted run ended:");
    for (outcome, count) in &tally.outcomes {
        println!("  {count:>6}  {outcome}");
    }
    println!("the last execution:");
    for (last, count) in &tally.ends {
        println!("  {count:>6}  {last}");
    }
    for (invariant, seeds) in &tally.broken {
        let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (seed, what) in seeds {
            let kind = kinds.entry(what.as_str()).or_insert((0, *seed));
            kind.0 += 1;
        }
        println!("BROKEN {invariant:?}: {} times", seeds.len());
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (what, (count, seed)) in kinds.iter().take(12) {
            let what: String = what.chars().take(400).collect();
            println!("  {count:>6}  (seed {seed}) {what}");
        }
    }
}
