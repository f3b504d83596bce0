//! One simulation from its begin to its report.

use crate::cloud::Cloud;
use crate::cloud::model::Pace;
use crate::driver::Driver;
use crate::faults::{Applied, Plan};
use crate::invariants::{Invariant, Verdict, Violation, at_the_end, of_execution};
use crate::machine::{Ended, Execution, Machine, walk};
use crate::scenario::{self, Scenario};
use crate::setup::{Second, Setup};
use crate::time::{SECOND, join_all};
use crate::told;
use crate::transcript::Line;
use aurora_restore_core::Context;
#[cfg(feature = "sabotage")]
use aurora_restore_core::domain::sabotage::Sabotage;
use aurora_restore_domain::phase::Phase;
use serde_json::{Value, json};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::thread::{Scope, ScopedJoinHandle};

/// What became of a simulation.
#[derive(Debug, Clone)]
pub struct Report {
    /// The executions, the first first.
    pub verdicts: Vec<Verdict>,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// The transcript, when one was wanted.
    pub lines: Vec<Line>,
    /// States that each execution entered, by its name.
    pub states: BTreeMap<String, Vec<String>>,
    /// Every call, when that was wanted.
    pub log: Vec<(String, String, String)>,
    /// Faults that were injected.
    pub applied: Vec<Applied>,
    /// Locks that were taken over.
    pub takeovers: usize,
    /// Calls of the faulted part.
    pub calls: u32,
    /// Calls in all.
    pub all_calls: u32,
    /// Invocations of the faulted part, with their functions.
    pub invocations: u32,
    /// Virtual microseconds from begin to end.
    pub took_us: u64,
    /// Calls to RDS of one Region in the second that had most of them, when calls were wanted.
    pub peak_rds_calls: u32,
    /// What functions ran, in microseconds.
    pub function_us: u64,
    /// Of that, setup-db-users.
    pub setup_us: u64,
    /// How long the first execution's target was away, as its operation tells.
    pub downtime_seconds: Option<u64>,
    /// How long the first execution's operation remembers that each phase of RDS took, in seconds.
    pub phase_seconds: BTreeMap<Phase, u64>,
    /// Copies that were in progress at once, at the most.
    pub most_copies: usize,
}

impl Report {
    fn broken(why: String) -> Self {
        let violation = Violation { invariant: Invariant::Strange, what: why, at_us: 0 };
        Self {
            verdicts: vec![],
            violations: vec![violation],
            lines: vec![],
            states: BTreeMap::new(),
            log: vec![],
            applied: vec![],
            takeovers: 0,
            calls: 0,
            all_calls: 0,
            invocations: 0,
            took_us: 0,
            peak_rds_calls: 0,
            function_us: 0,
            setup_us: 0,
            downtime_seconds: None,
            phase_seconds: BTreeMap::new(),
            most_copies: 0,
        }
    }

    /// How the first execution ended, in a word.
    pub fn outcome(&self) -> String {
        match self.verdicts.first().map(|verdict| &verdict.ended) {
            Some(Ended::Succeeded) => "Succeeded".into(),
            Some(Ended::Failed { error, .. }) => error.clone(),
            Some(Ended::TimedOut) => "TimedOut".into(),
            Some(Ended::Aborted) => "Aborted".into(),
            Some(Ended::Broken(_)) | None => "Broken".into(),
        }
    }
}

/// What an invocation needs of stack without optimisation: the SDK's futures are large.
const STACK_BYTES: usize = 32 << 20;

/// Runs a simulation on a thread of its own.
pub fn simulate(machine: &Machine, setup: &Setup) -> Report {
    std::thread::scope(|scope| {
        let running = spawn(scope, || simulate_here(machine, setup));
        running.map_err(|error| error.to_string()).and_then(|running| running.join().map_err(said))
    })
    .unwrap_or_else(Report::broken)
}

/// Starts a thread with enough stack for simulations.
///
/// # Errors
/// The system's.
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> std::io::Result<ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)
}

/// Runs a simulation on this thread, whose memory is warm from the one before.
pub fn simulate_here(machine: &Machine, setup: &Setup) -> Report {
    // Nothing of a simulation that panicked is looked at again.
    catch_unwind(AssertUnwindSafe(|| here(machine, setup))).unwrap_or_else(|panic| Report::broken(said(panic)))
}

fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    format!("it panicked: {}", text.unwrap_or_default())
}

/// Runs a simulation on this thread.
fn here(machine: &Machine, setup: &Setup) -> Report {
    // The SDK draws the jitter of its retries from this thread's generator.
    fastrand::seed(setup.seed);
    #[cfg(feature = "sabotage")]
    Sabotage::switch(setup.sabotage);
    let time = crate::time::Time::default();
    let mut world = match scenario::build(time.clone(), setup.scenario, setup.seed) {
        Ok(world) => world,
        Err(why) => return Report::broken(why),
    };
    let others = std::mem::take(&mut world.pace.others_copy_until_us);
    world.pace = setup.pace.clone();
    world.pace.others_copy_until_us = others;
    world.lines = setup.records.then(Vec::new);
    world.scene.keeps_log = setup.logs;
    world.scene.shows_messages = setup.shows_messages;
    world.delivery = setup.events;
    world.scene.is_crowd = setup.crowd > 0;
    let cloud = Cloud::new(world);
    let contexts =
        setup.skews_ms.iter().map(|skew| scenario::context(&cloud, time::Duration::milliseconds(*skew), None));
    let contexts: Vec<Arc<Context>> = match contexts.collect::<Result<Vec<_>, _>>() {
        Ok(contexts) => contexts.into_iter().map(Arc::new).collect(),
        Err(failure) => return Report::broken(failure.to_string()),
    };
    let (background, deployments) = (RefCell::new(vec![]), RefCell::default());
    let sim = Simulation { background, cloud, contexts, deployments, machine, setup };
    let work: Task<'_, Report> = if setup.crowd > 0 { Box::pin(sim.crowd()) } else { Box::pin(sim.all()) };
    match time.run(sim.with_background(work)) {
        Some(report) => report,
        None => {
            sim.cloud.world().violated(Invariant::NeverEnds, "everybody waits for something that never comes");
            sim.report(vec![], (0, 0))
        }
    }
}

/// A future that is at work beside the others.
type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

pub(crate) struct Simulation<'m> {
    /// Invocations: they go on when the execution that made them is stopped.
    pub(crate) background: RefCell<Vec<Task<'static, ()>>>,
    pub(crate) cloud: Cloud,
    pub(crate) contexts: Vec<Arc<Context>>,
    /// The functions of a crowd's deployments, by their targets.
    pub(crate) deployments: RefCell<BTreeMap<String, Arc<Context>>>,
    machine: &'m Machine,
    pub(crate) setup: &'m Setup,
}

impl Simulation<'_> {
    /// Runs `work` with the invocations beside it.
    async fn with_background<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(value);
            }
            let mut tasks = self.background.borrow_mut();
            let before = tasks.len();
            tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
            if tasks.len() < before {
                // Somebody may have waited for it.
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until no function is at work any more.
    async fn settle(&self) {
        while !self.background.borrow().is_empty() {
            self.cloud.time.sleep_us(60 * SECOND).await;
        }
    }

    async fn all(&self) -> Report {
        let mut verdicts = Vec::new();
        let mut nights = self.setup.nights.clone();
        if self.setup.scenario == Scenario::SecondRun {
            nights.push(self.setup.pace.clone());
        }
        for (number, pace) in nights.into_iter().enumerate() {
            if let Err(why) = self.night(&format!("run-0-{number}"), pace).await {
                return Report::broken(why);
            }
        }
        self.cloud.world().plan = self.setup.plan.clone();
        let mut running: Vec<Pin<Box<dyn Future<Output = Option<Verdict>> + '_>>> =
            vec![Box::pin(async { Some(self.execute("run-1", "run-1", false).await) })];
        if let Some(second) = self.setup.second {
            running.push(Box::pin(self.second(second)));
        }
        verdicts.extend(join_all(running).await.into_iter().flatten());
        let (calls, invocations) = {
            let world = self.cloud.world();
            (world.calls, world.invocations)
        };
        at_the_end(&mut self.cloud.world(), &verdicts, false);
        if self.setup.again {
            self.go_on(&mut verdicts).await;
        }
        self.settle().await;
        at_the_end(&mut self.cloud.world(), &verdicts, true);
        self.report(verdicts, (calls, invocations))
    }

    /// The second execution; none when it waits for the first to be stopped, and nobody stops it.
    async fn second(&self, second: Second) -> Option<Verdict> {
        if second.after_stop && !self.is_first_stopped().await {
            return None;
        }
        self.cloud.time.sleep_us(second.delay_us).await;
        if let Some((number, fault)) = second.fault {
            let mut world = self.cloud.world();
            let number = world.calls + number;
            world.plan.calls.insert(number, fault);
        }
        let operation_id = if second.same_operation { "run-1" } else { "run-1b" };
        Some(self.execute("run-1b", operation_id, second.same_operation).await)
    }

    /// Whether somebody stops the first execution before it ends by itself.
    async fn is_first_stopped(&self) -> bool {
        loop {
            let status = self.cloud.world().executions.get(&arn_of("run-1")).cloned();
            match status.as_deref() {
                Some("ABORTED") => return true,
                None | Some("RUNNING") => self.cloud.time.sleep_us(10 * SECOND).await,
                Some(_) => return false,
            }
        }
    }

    /// As many restores as the setup says, each of a target of its own, all at once.
    async fn crowd(&self) -> Report {
        let names = scenario::crowd(&mut self.cloud.world(), self.setup.crowd);
        let sacred = self.cloud.world().scene.sacred.clone();
        let request = self.cloud.world().scene.request.clone();
        let restore = |name: String| -> Task<'_, Verdict> {
            let mut input = request.clone();
            input["target_cluster_id"] = json!(name);
            Box::pin(async move { self.execute_with(&name, &name, input).await })
        };
        let verdicts = join_all(names.iter().cloned().map(restore).collect()).await;
        self.settle().await;
        for (name, verdict) in names.iter().zip(&verdicts) {
            let mut world = self.cloud.world();
            let region = world.scene.target_region.clone();
            let restored = world.region_mut(&region).clusters.get(name).cloned();
            let is_its = |tags: &BTreeMap<String, String>| tags.get("aurora-restore:operation") == Some(name);
            if verdict.ended != Ended::Succeeded || !restored.is_some_and(|cluster| is_its(&cluster.tags)) {
                world.violated(Invariant::FalseSuccess, format!("the restore of {name} ended as {:?}", verdict.ended));
            }
        }
        let now = scenario::sacred(&self.cloud.world());
        if sacred.iter().any(|(arn, looks)| arn.contains("production") && now.get(arn) != Some(looks)) {
            self.cloud.world().violated(Invariant::NotOurs, "production is not what it was");
        }
        let counts = {
            let world = self.cloud.world();
            (world.calls, world.invocations)
        };
        self.report(verdicts, counts)
    }

    /// A restore before the one that matters.
    async fn night(&self, name: &str, pace: Pace) -> Result<(), String> {
        let meant = std::mem::replace(&mut self.cloud.world().pace, pace);
        self.good_ends();
        let before = self.execute(name, name, false).await;
        if before.ended != Ended::Succeeded {
            return Err(format!("the run before the run failed: {:?}", before.ended));
        }
        self.begin_anew();
        self.cloud.world().pace = meant;
        Ok(())
    }

    /// What came before is how the world is now.
    fn begin_anew(&self) {
        let mut world = self.cloud.world();
        (world.calls, world.invocations) = (0, 0);
        world.log.clear();
        (world.function_us, world.setup_us) = (0, 0);
        world.tempo.clear();
        world.published.clear();
        if let Some(lines) = &mut world.lines {
            lines.clear();
        }
        world.scene.sacred = scenario::sacred(&world);
        let target = world.scene.target_id.clone();
        let region = world.scene.target_region.clone();
        world.scene.target_before = world.region_mut(&region).clusters.get(&target).cloned();
    }

    /// The fault is gone: a run that did not succeed is started again, and must.
    async fn go_on(&self, verdicts: &mut Vec<Verdict>) {
        let Some(first) = verdicts.first().cloned() else { return };
        let second_succeeded = verdicts.iter().skip(1).any(|verdict| verdict.ended == Ended::Succeeded);
        if self.setup.must_succeed() && first.ended != Ended::Succeeded {
            self.cloud.world().violated(Invariant::Fragile, format!("it ended as {:?}", first.ended));
        }
        let is_over = first.ended == Ended::Succeeded
            || (second_succeeded && self.setup.second.is_some_and(|s| s.same_operation));
        if is_over || !self.setup.scenario.can_succeed() {
            return;
        }
        self.heal();
        self.cloud.world().line("-----", "the fault is gone; the same operation is started again");
        let again = self.execute("run-2", &first.operation_id, true).await;
        let ended = again.ended.clone();
        verdicts.push(again);
        let Ended::Failed { error, cause } = ended else {
            if ended != Ended::Succeeded {
                self.cloud.world().violated(Invariant::NotAgain, format!("started again, it ended as {ended:?}"));
            }
            return;
        };
        if !cause.contains("new operation") && !cause.contains("takes a new one") {
            self.cloud.world().violated(
                Invariant::NotAgain,
                format!("started again under the same id, it failed with {error} and did not say that a new one is needed: {cause}"),
            );
        }
        self.heal();
        self.cloud.world().line("-----", "a new operation is started");
        let fresh = self.execute("run-3", "run-3", false).await;
        if fresh.ended != Ended::Succeeded {
            self.cloud.world().violated(Invariant::NotAgain, format!("a new operation ended as {:?}", fresh.ended));
        }
        verdicts.push(fresh);
    }

    /// Everything ends well from now on; answers how it would have ended.
    fn good_ends(&self) -> (&'static str, &'static str, &'static str) {
        let pace = &mut self.cloud.world().pace;
        pace.swapped_answers = true;
        let ends = (pace.copy_ends, pace.restore_ends, pace.instance_ends);
        (pace.copy_ends, pace.restore_ends, pace.instance_ends) = ("available", "available", "available");
        ends
    }

    /// Takes the fault out of the world; what it has broken stays.
    fn heal(&self) {
        self.good_ends();
        let mut world = self.cloud.world();
        world.tick();
        world.plan = Plan::default();
        world.sticky.clear();
        world.tampered = false;
        (world.name_wanted, world.zombie_wanted) = (false, false);
        let (region, target) = (world.scene.target_region.clone(), world.scene.target_id.clone());
        let place = world.region_mut(&region);
        place.keys.values_mut().for_each(|state| *state = "Enabled".into());
        let somebodys = place
            .clusters
            .get(&target)
            .is_some_and(|cluster| cluster.tags.get("aurora-restore:managed").is_none_or(|value| value != "true"));
        if somebodys {
            place.clusters.remove(&target);
        }
        crate::chaos::give_back(&mut world);
        world.made.clear();
        world.scene.target_before = world.region_mut(&region).clusters.get(&target).cloned();
    }

    /// Starts an execution and waits for its end.
    async fn execute(&self, name: &str, operation_id: &str, names_operation: bool) -> Verdict {
        let mut input = self.cloud.world().scene.request.clone();
        if names_operation {
            input["operation_id"] = json!(operation_id);
        }
        self.execute_with(name, operation_id, input).await
    }

    async fn execute_with(&self, name: &str, operation_id: &str, input: Value) -> Verdict {
        let arn = arn_of(name);
        {
            let mut world = self.cloud.world();
            // A new one does not always find the target as it was.
            world.executions.insert(arn.clone(), "RUNNING".into());
            world.line("Step Functions", &format!("execution {name} starts"));
        }
        let began_us = self.cloud.time.now_us();
        let execution = Execution { arn: arn.clone(), name: name.to_owned(), input };
        let own = || {
            let context = Arc::new(scenario::context(&self.cloud, time::Duration::ZERO, Some(name)).ok()?);
            self.deployments.borrow_mut().insert(name.to_owned(), Arc::clone(&context));
            Some(context)
        };
        let driver = Driver {
            sim: self,
            arn: arn.clone(),
            name: name.to_owned(),
            operation_id: operation_id.to_owned(),
            context: if self.setup.crowd > 0 { own() } else { None },
            looked_us: Cell::new(0),
        };
        let (ended, events) = walk(self.machine, &driver, &execution).await;
        let ended_us = self.cloud.time.now_us();
        let verdict =
            Verdict { arn: arn.clone(), operation_id: operation_id.to_owned(), ended, events, ended_us, began_us };
        let mut world = self.cloud.world();
        let status = match &verdict.ended {
            Ended::Succeeded => "SUCCEEDED",
            Ended::Failed { .. } | Ended::Broken(_) => "FAILED",
            Ended::TimedOut => "TIMED_OUT",
            Ended::Aborted => "ABORTED",
        };
        world.executions.insert(arn, status.into());
        world.line("Step Functions", &format!("execution {name} ends: {status}"));
        of_execution(&mut world, &verdict);
        verdict
    }

    fn report(&self, verdicts: Vec<Verdict>, (calls, invocations): (u32, u32)) -> Report {
        let mut world = self.cloud.world();
        Report {
            verdicts,
            violations: std::mem::take(&mut world.violations),
            lines: world.lines.take().unwrap_or_default(),
            states: std::mem::take(&mut world.states),
            log: std::mem::take(&mut world.log),
            applied: std::mem::take(&mut world.applied),
            takeovers: world.takeovers.len(),
            calls,
            all_calls: world.calls,
            invocations,
            took_us: self.cloud.time.now_us(),
            peak_rds_calls: world.tempo.values().copied().max().unwrap_or_default(),
            function_us: world.function_us,
            setup_us: world.setup_us,
            downtime_seconds: told::downtime(&world),
            phase_seconds: told::phases(&world),
            most_copies: world.most_copies,
        }
    }
}

fn arn_of(name: &str) -> String {
    format!("arn:aws:states:us-west-2:{}:execution:aurora-restore:{name}", crate::cloud::ACCOUNT)
}
