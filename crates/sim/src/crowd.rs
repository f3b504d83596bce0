//! Many restores at once in one account and Region, each by a deployment of its own that shares the bound on RDS calls: how long
//! the last one takes, and what RDS is asked meanwhile.

use crate::machine::{Ended, Machine};
use crate::run::simulate_here;
use crate::scenario::Scenario;
use crate::setup::Setup;
use crate::time::SECOND;
use crate::waits::{SIZES, STRATEGIES, Size, Strategy};
use serde_json::json;

/// Restores that begin at once.
const CROWD: usize = 200;

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Restores that began at once.
    pub restores: usize,
    /// Those that ended well.
    pub succeeded: usize,
    /// Copies in progress at once, at the most.
    pub most_copies: usize,
    /// Calls to RDS of one Region in the second that had most of them.
    pub peak_rds_calls: u32,
    /// Calls to RDS in all.
    pub rds_calls: usize,
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
    Ok(Crowd {
        restores,
        succeeded: report.verdicts.iter().filter(|verdict| verdict.ended == Ended::Succeeded).count(),
        most_copies: report.most_copies,
        peak_rds_calls: report.peak_rds_calls,
        rds_calls: report.log.iter().filter(|(_, name, _)| name.starts_with("rds:")).count(),
        ended_seconds: (ended.clone().min().unwrap_or_default(), ended.max().unwrap_or_default()),
        most_transitions: report.states.values().map(Vec::len).max().unwrap_or_default(),
    })
}

/// Simulates 200 restores of each of two sizes at once, and answers each as a line of JSON.
///
/// # Errors
/// What went wrong.
pub fn lines(machine: &Machine) -> Result<Vec<String>, String> {
    let mut lines = vec![];
    for (sizes, strategy) in [(&SIZES[..2], STRATEGIES[0]), (&SIZES[..1], STRATEGIES[5])] {
        for size in sizes.iter().copied() {
            let crowd = run(machine, size, strategy, CROWD)?;
            let figures = json!({
                "restores": crowd.restores, "succeeded": crowd.succeeded, "most_copies": crowd.most_copies,
                "peak_rds_calls": crowd.peak_rds_calls, "rds_calls": crowd.rds_calls,
                "first": crowd.ended_seconds.0, "last": crowd.ended_seconds.1, "most_transitions": crowd.most_transitions,
            });
            lines.push(json!({ "size": size.name, "waiting": strategy.name, "crowd": figures }).to_string());
        }
    }
    Ok(lines)
}
