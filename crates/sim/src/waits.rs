//! What waiting costs: the time between the end of a phase of RDS and the moment at which the next step takes notice, and the
//! calls made meanwhile. Beside it, the same restore with waits of a fixed length.

use crate::cloud::events::Delivery;
use crate::cloud::model::Pace;
use crate::machine::{Ended, Machine};
use crate::run::{Report, simulate_here};
use crate::scenario::Scenario;
use crate::setup::{Polls, Setup};
use crate::time::SECOND;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Restores of each size: their durations are drawn around the size's own.
const DRAWS: u64 = 20;

/// A way to wait.
#[derive(Debug, Clone, Copy)]
pub struct Strategy {
    /// For people.
    pub name: &'static str,
    /// How long.
    pub polls: Polls,
    /// How events arrive.
    pub events: Delivery,
    /// How many restores went before.
    pub nights: u64,
    /// What is restored, and how the target makes room for it.
    pub scenario: Scenario,
}

/// As it is shipped, and used every night.
const SHIPPED: Strategy = Strategy {
    name: "aurora-restore",
    polls: Polls::Shipped,
    events: Delivery::Usual,
    nights: 5,
    scenario: Scenario::Happy,
};

const FIXED: Strategy = Strategy { events: Delivery::Never, nights: 0, ..SHIPPED };

/// The ways that are compared. The first public pipeline waited 30 seconds between two looks at a deletion and 60 at all else.
pub const STRATEGIES: [Strategy; 9] = [
    SHIPPED,
    Strategy { name: "swap", scenario: Scenario::Swap, ..SHIPPED },
    Strategy { name: "the first time", nights: 0, ..SHIPPED },
    Strategy { name: "no events", events: Delivery::Never, ..SHIPPED },
    Strategy { name: "no events, the first time", ..FIXED },
    Strategy { name: "every 60 s", polls: Polls::Every(60), ..FIXED },
    Strategy { name: "swap, no events", scenario: Scenario::Swap, events: Delivery::Never, ..SHIPPED },
    Strategy { name: "swap, every 60 s", polls: Polls::Every(60), scenario: Scenario::Swap, ..FIXED },
    Strategy { name: "30 and 60 s", polls: Polls::Fixed { deletion: 30, others: 60 }, ..FIXED },
];

/// A size and what RDS needs for it, in minutes. A copy between Regions is always a full one: 100 to 300 GB an hour is
/// what people report; a restore attaches storage and hardly grows with size; a final snapshot is incremental.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// For people.
    pub name: &'static str,
    copy: f64,
    final_snapshot: f64,
    restore: f64,
    instance: f64,
    delete: f64,
}

/// The sizes that are simulated. The durations are estimates, not measurements: `docs/performance.md` says so.
pub const SIZES: [Size; 4] = [
    Size { name: "10 GB", copy: 6.0, final_snapshot: 2.0, restore: 6.0, instance: 6.0, delete: 4.0 },
    Size { name: "100 GB", copy: 25.0, final_snapshot: 3.0, restore: 8.0, instance: 7.0, delete: 4.0 },
    Size { name: "1 TB", copy: 200.0, final_snapshot: 5.0, restore: 12.0, instance: 8.0, delete: 5.0 },
    Size { name: "9 TB", copy: 1500.0, final_snapshot: 10.0, restore: 25.0, instance: 10.0, delete: 6.0 },
];

/// What one restore took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// From its begin to its end, in seconds.
    pub seconds: u64,
    /// How long nobody could log in under the target's name, in seconds.
    pub downtime: u64,
    /// Of the whole, lost by waiting too long, in seconds.
    pub lost: u64,
    /// Calls to RDS.
    pub rds_calls: u64,
    /// Of one Region, in the second that had most of them.
    pub peak_rds_calls: u64,
    /// Calls to AWS in all.
    pub calls: u64,
    /// Invocations of functions.
    pub invocations: u64,
    /// States entered.
    pub transitions: u64,
    /// Events in the history.
    pub events: u64,
    /// Transactions of DynamoDB.
    pub transactions: u64,
    /// Its other writes.
    pub writes: u64,
    /// Its reads, queries included.
    pub reads: u64,
    /// What the functions ran, in milliseconds; their calls take up to 40 each.
    pub function_ms: u64,
    /// Of that, setup-db-users, which has more memory than the others.
    pub setup_ms: u64,
}

impl Size {
    /// What RDS needs for one source in one night: each phase up to a third more or less than the size's own for the
    /// source, and up to a tenth more or less than that in the night.
    pub(crate) fn pace(self, source: u64, night: u64) -> Pace {
        let mut of_source = fastrand::Rng::with_seed(source);
        let mut of_night = fastrand::Rng::with_seed((source << 16) + night);
        let mut around = |minutes: f64| {
            let seconds = minutes * 60.0 * (0.67 + 0.66 * of_source.f64()) * (0.9 + 0.2 * of_night.f64());
            std::time::Duration::try_from_secs_f64(seconds)
                .map_or(SECOND, |time| u64::try_from(time.as_micros()).unwrap_or(SECOND))
        };
        Pace {
            copy_us: around(self.copy),
            final_snapshot_us: around(self.final_snapshot),
            restore_us: around(self.restore),
            instance_us: around(self.instance),
            delete_us: around(self.delete),
            password_us: around(0.7),
            rename_us: around(0.5),
            ..Pace::default()
        }
    }
}

/// Runs one draw of a size with a strategy.
///
/// # Errors
/// When the restore does not succeed, or one that looks at the very moment is no sooner done: then "lost" would say nothing.
pub fn run(machine: &Machine, size: Size, strategy: Strategy, seed: u64) -> Result<Taken, String> {
    let taken = walked(machine, size, strategy, seed)?;
    let knowing = Strategy { polls: Polls::Knowing, nights: 0, ..strategy };
    let known = walked(machine, size, knowing, seed)?;
    let lost = taken.seconds.checked_sub(known.seconds).ok_or_else(|| {
        format!(
            "{}, draw {seed}: {} s with {strategy:?}, {} with looks at the very moment",
            size.name, taken.seconds, known.seconds
        )
    })?;
    Ok(Taken { lost, ..taken })
}

fn walked(machine: &Machine, size: Size, strategy: Strategy, seed: u64) -> Result<Taken, String> {
    let report = simulated(machine, size, strategy, seed)?;
    let first = report.verdicts.first().ok_or("there was no execution")?;
    let seconds = (first.ended_us - first.began_us) / SECOND;
    let transitions = report.states.get("run-1").map_or(0, Vec::len) as u64;
    Ok(Taken { seconds, transitions, events: first.events, ..used(&report) })
}

/// What all executions of a simulation used together.
pub(crate) fn used(report: &Report) -> Taken {
    let count = |is: &dyn Fn(&str) -> bool| report.log.iter().filter(|(_, name, _)| is(name)).count() as u64;
    Taken {
        seconds: report.verdicts.iter().map(|verdict| (verdict.ended_us - verdict.began_us) / SECOND).sum(),
        lost: 0,
        downtime: report.downtime_seconds.unwrap_or_default(),
        rds_calls: count(&|name| name.starts_with("rds:")),
        peak_rds_calls: u64::from(report.peak_rds_calls),
        calls: count(&|name| !name.starts_with("database:")),
        invocations: u64::from(report.invocations),
        transitions: report.states.values().map(Vec::len).sum::<usize>() as u64,
        events: report.verdicts.iter().map(|verdict| verdict.events).sum(),
        transactions: count(&|name| name == "dynamodb:TransactWriteItems"),
        writes: count(&|name| ["dynamodb:PutItem", "dynamodb:UpdateItem"].contains(&name)),
        reads: count(&|name| ["dynamodb:GetItem", "dynamodb:Query"].contains(&name)),
        function_ms: report.function_us / 1000,
        setup_ms: report.setup_us / 1000,
    }
}

/// The calls to AWS of a simulation, by kind: `rds:DescribeDBClusters`.
pub(crate) fn kinds(report: &Report) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for (_, name, _) in report.log.iter().filter(|(_, name, _)| !name.starts_with("database:")) {
        *kinds.entry(name.clone()).or_default() += 1;
    }
    kinds
}

fn simulated(machine: &Machine, size: Size, strategy: Strategy, seed: u64) -> Result<Report, String> {
    let Strategy { polls, events, nights, .. } = strategy;
    let nights = (1..=nights).map(|night| size.pace(seed, night)).collect();
    let (pace, calm) = (size.pace(seed, 0), Setup::calm(strategy.scenario));
    let setup = Setup { seed, pace, polls, events, nights, logs: true, again: false, ..calm };
    let report = simulate_here(machine, &setup);
    let first = report.verdicts.first().ok_or("there was no execution")?;
    if first.ended != Ended::Succeeded || !report.violations.is_empty() {
        return Err(format!("{} with {strategy:?}, draw {seed}: {:?} {:?}", size.name, first.ended, report.violations));
    }
    Ok(report)
}

/// Simulates every size with every strategy, and answers each with its medians, and the first draw's calls by kind, as a line of JSON.
///
/// # Errors
/// When a restore does not succeed.
pub fn lines(machine: &Machine) -> Result<Vec<String>, String> {
    let mut lines = vec![];
    for size in SIZES {
        for strategy in STRATEGIES {
            let taken = median(machine, size, strategy, DRAWS)?.figures();
            let kinds = kinds(&simulated(machine, size, strategy, 0)?);
            let line = json!({ "size": size.name, "waiting": strategy.name, "taken": taken, "calls_by_kind": kinds });
            lines.push(line.to_string());
        }
    }
    Ok(lines)
}

/// The median of so many draws, of each figure by itself.
///
/// # Errors
/// When a restore does not succeed.
pub fn median(machine: &Machine, size: Size, strategy: Strategy, draws: u64) -> Result<Taken, String> {
    let all = (0..draws).map(|seed| run(machine, size, strategy, seed)).collect::<Result<Vec<_>, _>>()?;
    let of = |figure: fn(&Taken) -> u64| {
        let mut figures: Vec<u64> = all.iter().map(figure).collect();
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Ok(Taken {
        seconds: of(|taken| taken.seconds),
        lost: of(|taken| taken.lost),
        downtime: of(|taken| taken.downtime),
        rds_calls: of(|taken| taken.rds_calls),
        peak_rds_calls: of(|taken| taken.peak_rds_calls),
        calls: of(|taken| taken.calls),
        invocations: of(|taken| taken.invocations),
        transitions: of(|taken| taken.transitions),
        events: of(|taken| taken.events),
        transactions: of(|taken| taken.transactions),
        writes: of(|taken| taken.writes),
        reads: of(|taken| taken.reads),
        function_ms: of(|taken| taken.function_ms),
        setup_ms: of(|taken| taken.setup_ms),
    })
}

impl Taken {
    /// The share of each of so many, of all that adds up.
    pub(crate) fn each_of(self, many: u64) -> Self {
        let each = |all: u64| all / many.max(1);
        Self {
            seconds: each(self.seconds),
            lost: each(self.lost),
            rds_calls: each(self.rds_calls),
            calls: each(self.calls),
            invocations: each(self.invocations),
            transitions: each(self.transitions),
            events: each(self.events),
            transactions: each(self.transactions),
            writes: each(self.writes),
            reads: each(self.reads),
            function_ms: each(self.function_ms),
            setup_ms: each(self.setup_ms),
            downtime: self.downtime,
            peak_rds_calls: self.peak_rds_calls,
        }
    }

    pub(crate) fn figures(&self) -> Value {
        json!({
            "seconds": self.seconds, "downtime": self.downtime, "lost": self.lost, "rds_calls": self.rds_calls,
            "peak_rds_calls": self.peak_rds_calls, "calls": self.calls,
            "invocations": self.invocations, "transitions": self.transitions, "events": self.events,
            "transactions": self.transactions, "writes": self.writes, "reads": self.reads,
            "function_ms": self.function_ms, "setup_ms": self.setup_ms,
        })
    }
}
