//! What a simulation is made of, given or drawn from a seed.

use crate::cloud::events::Delivery;
use crate::faults::{CallFault, Chaos, Plan};
use crate::scenario::Scenario;
use crate::time::SECOND;
use aurora_restore_core::domain::sabotage::Sabotage;

/// A second execution beside the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    /// How long after the first it begins.
    pub delay_us: u64,
    /// Whether it asks for the same operation.
    pub same_operation: bool,
    /// Whether it begins only when somebody has stopped the first, so long after that.
    pub after_stop: bool,
    /// A fault of one of its calls, counted from its begin.
    pub fault: Option<(u32, CallFault)>,
}

/// How long the machine waits between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Polls {
    /// As the steps say.
    #[default]
    Shipped,
    /// Until something happens that the steps wait for, as if they knew.
    Knowing,
    /// The same always, in seconds.
    Every(u64),
    /// One for the deletion, another for all else, in seconds.
    Fixed {
        /// For the deletion.
        deletion: u64,
        /// For the copy and the restore.
        others: u64,
    },
}

/// All that a simulation is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Seeds what the world draws: latencies, jitter, visibility.
    pub seed: u64,
    /// The situation.
    pub scenario: Scenario,
    /// What goes wrong.
    pub plan: Plan,
    /// How long things take and how they end.
    pub pace: crate::cloud::model::Pace,
    /// How far the functions' clocks are apart, in milliseconds.
    pub skews_ms: [i64; 2],
    /// A second execution.
    pub second: Option<Second>,
    /// Whether to write a transcript.
    pub records: bool,
    /// Whether the transcript shows what people are told.
    pub shows_messages: bool,
    /// Whether to write down every call.
    pub logs: bool,
    /// A deliberate defect of the product; only with the feature `sabotage`.
    pub sabotage: Option<Sabotage>,
    /// Whether a failed run is followed by another, with the fault gone.
    pub again: bool,
    /// How long the machine waits.
    pub polls: Polls,
    /// How the events of RDS get to it.
    pub events: Delivery,
    /// How long things took in earlier restores of the same source into the same target, one after the other.
    pub nights: Vec<crate::cloud::model::Pace>,
    /// Restores of as many targets that begin at the same moment, instead of the scenario's one; 0 for that one.
    pub crowd: usize,
}

impl Setup {
    /// A scenario in which nothing goes wrong.
    pub fn calm(scenario: Scenario) -> Self {
        Self {
            seed: 0,
            scenario,
            plan: Plan::default(),
            pace: crate::cloud::model::Pace::default(),
            skews_ms: [0, 0],
            second: None,
            records: false,
            shows_messages: false,
            logs: false,
            sabotage: None,
            again: true,
            polls: Polls::Shipped,
            events: Delivery::Usual,
            nights: vec![],
            crowd: 0,
        }
    }

    /// The same, and everything is quick, so that nearly every call is one that does something.
    pub fn quick(scenario: Scenario) -> Self {
        let mut setup = Self::calm(scenario);
        setup.pace.copy_us = 20 * SECOND;
        setup.pace.final_snapshot_us = 10 * SECOND;
        setup.pace.restore_us = 10 * SECOND;
        setup.pace.instance_us = 10 * SECOND;
        setup.pace.delete_us = 10 * SECOND;
        setup.pace.password_us = 6 * SECOND;
        setup.pace.rename_us = 6 * SECOND;
        setup
    }

    /// Whether nothing goes wrong but what passes by itself.
    pub fn must_succeed(&self) -> bool {
        let ends = [self.pace.copy_ends, self.pace.restore_ends, self.pace.instance_ends];
        self.scenario.can_succeed()
            && self.second.is_none()
            && self.plan.chaos.is_empty()
            && self.pace.swapped_answers
            && ends.iter().all(|end| *end == "available")
            && self.plan.calls.values().all(|fault| ![CallFault::Deny, CallFault::Zombie].contains(fault))
            && self.plan.named.values().all(|fault| *fault != CallFault::Deny)
    }

    /// The simulation of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Masking and the swap came last and take every tenth and every twentieth seed, so that the others stay what they were.
        let drawn = Scenario::ALL[rng.usize(0..Scenario::DRAWN)];
        let scenario = match seed % 20 {
            9 | 19 => Scenario::Masked,
            4 => Scenario::Swap,
            _ => drawn,
        };
        let mut setup = Self::calm(scenario);
        setup.seed = seed;
        setup.pace.copy_us = minutes(&mut rng, 0.1, 40.0);
        setup.pace.final_snapshot_us = minutes(&mut rng, 0.1, 6.0);
        setup.pace.restore_us = minutes(&mut rng, 0.1, 10.0);
        setup.pace.instance_us = minutes(&mut rng, 0.1, 8.0);
        setup.pace.delete_us = minutes(&mut rng, 0.1, 5.0);
        setup.pace.password_us = minutes(&mut rng, 0.1, 2.0);
        if scenario == Scenario::Serverless {
            setup.pace.accepts_us = minutes(&mut rng, 0.1, 25.0);
        }
        if rng.bool() {
            setup.pace.visible_us = 2 * SECOND;
        }
        if rng.u8(0..4) == 0 {
            setup.skews_ms = [rng.i64(-3000..=3000), rng.i64(-120_000..=120_000)];
        }
        if rng.u8(0..12) == 0 {
            match rng.u8(0..3) {
                0 => setup.pace.copy_ends = "failed",
                1 => setup.pace.restore_ends = "incompatible-restore",
                _ => setup.pace.instance_ends = "incompatible-network",
            }
        }
        if rng.u8(0..8) == 0 {
            let (delay_us, same_operation) = (minutes(&mut rng, 0.001, 30.0), rng.bool());
            setup.second = Some(Second { delay_us, same_operation, ..Second::default() });
        }
        setup.plan = Plan::draw(&mut rng, 170);
        match rng.u8(0..20) {
            0 => setup.plan.draw_denial(&mut rng),
            1 => setup.draw_heir(&mut rng),
            _ => {}
        }
        if scenario == Scenario::Swap {
            setup.draw_swap(&mut rng);
        }
        // Drawn apart, so that what else a seed means stays what it was.
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x0E7E);
        setup.events = [Delivery::Usual, Delivery::Usual, Delivery::Never, Delivery::Messy][rng.usize(0..4)];
        // What is remembered of a night in which all was quicker or slower.
        if [Scenario::Happy, Scenario::Swap].contains(&scenario) && rng.u8(0..4) == 0 {
            let around = |usual_us: u64, rng: &mut fastrand::Rng| (usual_us as f64 * (0.2 + 2.0 * rng.f64())) as u64;
            let pace = &setup.pace;
            setup.nights.push(crate::cloud::model::Pace {
                copy_us: around(pace.copy_us, &mut rng),
                final_snapshot_us: around(pace.final_snapshot_us, &mut rng),
                restore_us: around(pace.restore_us, &mut rng),
                instance_us: around(pace.instance_us, &mut rng),
                delete_us: around(pace.delete_us, &mut rng),
                password_us: around(pace.password_us, &mut rng),
                rename_us: around(pace.rename_us, &mut rng),
                ..crate::cloud::model::Pace::default()
            });
        }
        setup
    }

    /// Draws what can go wrong with names.
    fn draw_swap(&mut self, rng: &mut fastrand::Rng) {
        self.pace.rename_us = minutes(rng, 0.05, 4.0);
        self.pace.swapped_answers = rng.u8(0..5) > 0;
        // It makes more calls than the others; the later ones shall be met too.
        if rng.bool() {
            self.plan = Plan::draw(rng, 330);
        }
        if rng.u8(0..6) == 0 {
            let name = ["rds:ModifyDBInstance", "rds:ModifyDBCluster", "rds:DescribeDBClusters"][rng.usize(0..3)];
            self.plan.named.insert((name, rng.u32(1..=8)), CallFault::Deny);
        }
    }

    /// Draws a run that somebody stops and another that takes its place, and does not come through at once either.
    fn draw_heir(&mut self, rng: &mut fastrand::Rng) {
        self.plan.chaos.insert(rng.u32(25..=120), Chaos::StopExecution);
        let faults = [CallFault::KillBefore, CallFault::KillAfter, CallFault::TimeoutAfter, CallFault::FailAfter];
        self.second = Some(Second {
            delay_us: rng.u64(0..=30) * SECOND,
            same_operation: rng.u8(0..4) == 0,
            after_stop: true,
            fault: Some((rng.u32(1..=40), faults[rng.usize(0..faults.len())])),
        });
    }
}

/// Microseconds. Most things are quick, since looking at what takes its time shows nothing new; some are not: each
/// factor of ten is as likely as the next.
fn minutes(rng: &mut fastrand::Rng, least: f64, most: f64) -> u64 {
    let most = if rng.u8(0..16) == 0 { most } else { most.min(0.5) };
    let seconds = 60.0 * least * (most / least).powf(rng.f64());
    std::time::Duration::try_from_secs_f64(seconds)
        .map_or(SECOND, |duration| u64::try_from(duration.as_micros()).unwrap_or(SECOND))
}
