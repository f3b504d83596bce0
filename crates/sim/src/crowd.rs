//! Many restores at once in one account and Region, each by a deployment of its own that shares the bound on RDS calls: how long
//! the last one takes, and what RDS is asked meanwhile.

use crate::machine::{Ended, Machine};
use crate::run::simulate_here;
use crate::scenario::Scenario;
use crate::setup::{Polls, Setup};
use crate::time::SECOND;
use crate::waits::{self, SIZES, STRATEGIES, Size, Strategy, Taken};
use serde_json::json;
use std::collections::BTreeMap;

/// Ways to wait that are compared.
const COMPARED: [&str; 3] = ["aurora-restore", "every 60 s", "30 and 60 s"];

/// Restores that begin at once.
const CROWD: usize = 200;

/// Copies that RDS makes at once for an account and Region.
const SLOTS: u64 = 5;

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowd {
    /// Restores that began at once.
    pub restores: usize,
    /// Those that ended well.
    pub succeeded: usize,
    /// Copies in progress at once, at the most.
    pub most_copies: usize,
    /// Calls to RDS of one Region in the second that had most of them.
    pub peak_rds_calls: u32,
    /// What each of them took, of all the mean. Lost is what it ended later than it could have: the copies five by five, and
    /// each phase taken notice of at the very moment.
    pub taken: Taken,
    /// The calls to AWS of all together, by kind.
    pub calls_by_kind: BTreeMap<String, u64>,
    /// The first and the last of them to end, in seconds.
    pub ended_seconds: (u64, u64),
    /// States entered by the one that entered most.
    pub most_transitions: usize,
}

/// Simulates as many restores of one size, all begun in the same moment.
///
/// # Errors
/// What went wrong.
pub fn run(machine: &Machine, size: Size, strategy: Strategy, restores: usize) -> Result<Crowd, String> {
    let Strategy { polls, events, .. } = strategy;
    let calm = Setup::calm(Scenario::Happy);
    let setup = Setup { pace: size.pace(0, 0), polls, events, logs: true, again: false, crowd: restores, ..calm };
    let report = simulate_here(machine, &setup);
    if let Some(violation) = report.violations.first() {
        return Err(format!("{} of {restores} and more: {violation}", report.violations.len()));
    }
    let ended = report.verdicts.iter().map(|verdict| verdict.ended_us / SECOND);
    let knowing = Strategy { polls: Polls::Knowing, nights: 0, ..strategy };
    let alone = waits::run(machine, size, knowing, 0)?.seconds;
    let copy = size.pace(0, 0).copy_us / SECOND;
    let ideal: u64 = (0..restores as u64).map(|number| number / SLOTS * copy + alone).sum();
    let lost = ended.clone().sum::<u64>().saturating_sub(ideal);
    let taken = Taken { lost, ..waits::used(&report) }.each_of(restores as u64);
    Ok(Crowd {
        restores,
        succeeded: report.verdicts.iter().filter(|verdict| verdict.ended == Ended::Succeeded).count(),
        most_copies: report.most_copies,
        peak_rds_calls: report.peak_rds_calls,
        taken,
        calls_by_kind: waits::kinds(&report),
        ended_seconds: (ended.clone().min().unwrap_or_default(), ended.max().unwrap_or_default()),
        most_transitions: report.states.values().map(Vec::len).max().unwrap_or_default(),
    })
}

/// Simulates 200 restores at once, of two sizes and in some ways to wait, and answers each as a line of JSON.
///
/// # Errors
/// What went wrong.
pub fn lines(machine: &Machine) -> Result<Vec<String>, String> {
    let mut lines = vec![];
    let named = |name: &&str| STRATEGIES.into_iter().find(|strategy| strategy.name == *name);
    let of_10_gb = COMPARED.iter().filter_map(named).map(|strategy| (SIZES[0], strategy));
    for (size, strategy) in of_10_gb.chain([(SIZES[1], STRATEGIES[0])]) {
        let crowd = run(machine, size, strategy, CROWD)?;
        let figures = json!({
            "restores": crowd.restores, "succeeded": crowd.succeeded, "most_copies": crowd.most_copies,
            "peak_rds_calls": crowd.peak_rds_calls, "taken": crowd.taken.figures(),
            "first": crowd.ended_seconds.0, "last": crowd.ended_seconds.1, "most_transitions": crowd.most_transitions,
        });
        lines.push(json!({ "size": size.name, "waiting": strategy.name, "crowd": figures, "calls_by_kind": crowd.calls_by_kind }).to_string());
    }
    Ok(lines)
}
