//! One simulation from its setup to its report.

use crate::cloud::{Cloud, Invocation, as_caller};
use crate::faults::{Applied, CallFault, Chaos, InvocationFault, Plan};
use crate::invariants::{Invariant, Verdict, Violation, at_the_end, of_execution};
use crate::machine::{Ended, Execution, Host, Machine, walk};
use crate::scenario::{self, Scenario};
use crate::time::{SECOND, Time, join_all};
use crate::transcript::Line;
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::sabotage::Sabotage;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::{Context, StepError};
use aurora_restore_steps as steps;
use serde_json::{Value, json};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::Poll;
use std::thread::{Scope, ScopedJoinHandle};

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
        }
    }

    /// Whether nothing goes wrong but what passes by itself.
    pub fn must_succeed(&self) -> bool {
        let ends = [self.pace.copy_ends, self.pace.restore_ends, self.pace.instance_ends];
        self.scenario.can_succeed()
            && self.second.is_none()
            && self.plan.chaos.is_empty()
            && ends.iter().all(|end| *end == "available")
            && self.plan.calls.values().all(|fault| ![CallFault::Deny, CallFault::Zombie].contains(fault))
            && self.plan.named.values().all(|fault| *fault != CallFault::Deny)
    }

    /// The simulation of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Masking came last and takes every tenth seed, so that the others stay what they were.
        let drawn = Scenario::ALL[rng.usize(0..Scenario::ALL.len() - 1)];
        let scenario = if seed % 10 == 9 { Scenario::Masked } else { drawn };
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
        setup
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
    let most = if rng.u8(0..8) == 0 { most } else { most.min(0.5) };
    let seconds = 60.0 * least * (most / least).powf(rng.f64());
    std::time::Duration::try_from_secs_f64(seconds)
        .map_or(SECOND, |duration| u64::try_from(duration.as_micros()).unwrap_or(SECOND))
}

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
    let time = Time::default();
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
    let cloud = Cloud::new(world);
    let contexts = setup.skews_ms.iter().map(|skew| scenario::context(&cloud, time::Duration::milliseconds(*skew)));
    let contexts: Vec<Arc<Context>> = match contexts.collect::<Result<Vec<_>, _>>() {
        Ok(contexts) => contexts.into_iter().map(Arc::new).collect(),
        Err(failure) => return Report::broken(failure.to_string()),
    };
    let sim = Simulation { background: RefCell::new(vec![]), cloud, contexts, machine, setup };
    match time.run(sim.with_background(sim.all())) {
        Some(report) => report,
        None => {
            sim.cloud.world().violated(Invariant::NeverEnds, "everybody waits for something that never comes");
            sim.report(vec![], (0, 0))
        }
    }
}

/// A future that is at work beside the others.
type Task<T> = Pin<Box<dyn Future<Output = T>>>;

struct Simulation<'m> {
    /// Invocations: they go on when the execution that made them is stopped.
    background: RefCell<Vec<Task<()>>>,
    cloud: Cloud,
    contexts: Vec<Arc<Context>>,
    machine: &'m Machine,
    setup: &'m Setup,
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
        if self.setup.scenario == Scenario::SecondRun {
            let ends = self.good_ends();
            let before = self.execute("run-0", "run-0", false).await;
            if before.ended != Ended::Succeeded {
                return Report::broken(format!("the run before the run failed: {:?}", before.ended));
            }
            self.begin_anew();
            let pace = &mut self.cloud.world().pace;
            (pace.copy_ends, pace.restore_ends, pace.instance_ends) = ends;
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

    /// What came before is how the world is now.
    fn begin_anew(&self) {
        let mut world = self.cloud.world();
        (world.calls, world.invocations) = (0, 0);
        world.log.clear();
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
        let arn = arn_of(name);
        let mut input = self.cloud.world().scene.request.clone();
        if names_operation {
            input["operation_id"] = json!(operation_id);
        }
        {
            let mut world = self.cloud.world();
            // A new one does not always find the target as it was.
            world.executions.insert(arn.clone(), "RUNNING".into());
            world.line("Step Functions", &format!("execution {name} starts"));
        }
        let execution = Execution { arn: arn.clone(), name: name.to_owned(), input };
        let driver =
            Driver { sim: self, arn: arn.clone(), name: name.to_owned(), operation_id: operation_id.to_owned() };
        let (ended, events) = walk(self.machine, &driver, &execution).await;
        let ended_us = self.cloud.time.now_us();
        let verdict = Verdict { arn: arn.clone(), operation_id: operation_id.to_owned(), ended, events, ended_us };
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
        }
    }
}

fn arn_of(name: &str) -> String {
    format!("arn:aws:states:us-west-2:{}:execution:aurora-restore:{name}", crate::cloud::ACCOUNT)
}

/// One execution's view of the simulation.
struct Driver<'s, 'm> {
    sim: &'s Simulation<'m>,
    arn: String,
    name: String,
    operation_id: String,
}

/// The step that the machine's substitution names.
fn step_of(function: &str) -> Option<Step> {
    let pascal = |step: &Step| {
        let words = step.as_str().split('-');
        words.map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>()
    };
    Step::ALL.into_iter().find(|step| pascal(step) == function)
}

/// Boxed: together they are large, and every invocation would be moved about with room for the largest.
async fn run_step(context: &Context, step: Step, payload: Value) -> Result<StepOutput, StepError> {
    match step {
        Step::Preflight => Box::pin(steps::preflight::run(context, step, payload)).await,
        Step::CopySnapshot => Box::pin(steps::copy_snapshot::run(context, step, payload)).await,
        Step::CheckCopy => Box::pin(steps::check_copy::run(context, step, payload)).await,
        Step::DeleteCluster => Box::pin(steps::delete_cluster::run(context, step, payload)).await,
        Step::RestoreCluster => Box::pin(steps::restore_cluster::run(context, step, payload)).await,
        Step::CheckRestore => Box::pin(steps::check_restore::run(context, step, payload)).await,
        Step::SetupDbUsers => Box::pin(steps::setup_db_users::run(context, step, payload)).await,
        Step::VerifyRestore => Box::pin(steps::verify_restore::run(context, step, payload)).await,
        Step::ArchiveSnapshot => Box::pin(steps::archive_snapshot::run(context, step, payload)).await,
        Step::Notify => Box::pin(steps::notify::run(context, step, payload)).await,
    }
}

type TaskResult = Result<Value, (String, String)>;

/// Runs a function once.
async fn invoke_once(cloud: Cloud, context: Arc<Context>, invocation: Arc<Invocation>, payload: Value) -> TaskResult {
    let (number, step) = (invocation.number, invocation.step);
    let result = as_caller(&cloud.time, invocation, run_step(&context, step, payload)).await;
    let mut world = cloud.world();
    let result = match result {
        None => {
            world.line(step.as_str(), "   ** killed");
            let error = if number.is_multiple_of(2) { "Runtime.ExitError" } else { "Sandbox.Timedout" };
            Err((error.to_owned(), "RequestId: sim Error: the function was killed".to_owned()))
        }
        Some(Ok(output)) => {
            let wait = output.wait_seconds.map(|seconds| format!(", wait {seconds} s")).unwrap_or_default();
            let progress = output.progress.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            world.line(step.as_str(), &format!("= {:?}{wait}{progress}", output.outcome));
            Ok(serde_json::to_value(output).unwrap_or_default())
        }
        Some(Err(error)) => {
            let (name, message) = (error.name().to_string(), error.to_string());
            world.line(step.as_str(), &format!("= {name}: {message}"));
            let cause = json!({ "errorType": name, "errorMessage": message }).to_string();
            Err((name, cause))
        }
    };
    let seen = match &result {
        Ok(value) => value.to_string(),
        Err((_, cause)) => cause.clone(),
    };
    if world.secret_values.iter().any(|secret| seen.contains(secret.as_str())) {
        world.violated(Invariant::Secret, format!("{step} answers a secret"));
    }
    result
}

impl Driver<'_, '_> {
    /// Runs a function in the background and waits for its answer.
    fn invoke_in_background(
        &self,
        number: u32,
        step: Step,
        payload: Value,
    ) -> impl Future<Output = TaskResult> + use<> {
        let invocation = Arc::new(Invocation {
            number,
            step,
            operation_id: self.operation_id.clone(),
            execution_arn: self.arn.clone(),
            killed: AtomicBool::new(false),
            frozen_until_us: AtomicU64::new(0),
        });
        // Functions are deployed apart: each has one of the clocks.
        let position = Step::ALL.iter().position(|known| *known == step).unwrap_or_default();
        let context = Arc::clone(&self.sim.contexts[position % self.sim.contexts.len()]);
        let (cloud, answer) = (self.sim.cloud.clone(), Rc::new(RefCell::new(None)));
        let place = Rc::clone(&answer);
        self.sim.background.borrow_mut().push(Box::pin(async move {
            let result = invoke_once(cloud, context, invocation, payload).await;
            *place.borrow_mut() = Some(result);
        }));
        poll_fn(move |_| answer.borrow_mut().take().map_or(Poll::Pending, Poll::Ready))
    }
}

impl Host for Driver<'_, '_> {
    fn wait_us(&self, state: &str, asked: u64) -> u64 {
        let seconds = match self.sim.setup.polls {
            Polls::Shipped => asked,
            Polls::Every(seconds) => seconds,
            Polls::Fixed { deletion, .. } if state == "WaitForDeletion" => deletion,
            Polls::Fixed { others, .. } => others,
            Polls::Knowing => {
                let next = self.sim.cloud.world().next_due_us();
                return next.map_or(asked * SECOND, |at_us| at_us.saturating_sub(self.sim.cloud.time.now_us()) + 1000);
            }
        };
        seconds * SECOND
    }

    fn invoke<'h>(&'h self, function: &'h str, payload: Value) -> Pin<Box<dyn Future<Output = TaskResult> + 'h>> {
        Box::pin(async move {
            let Some(step) = step_of(function) else {
                return Err(("Lambda.ResourceNotFoundException".into(), format!("there is no function {function}")));
            };
            let (number, fault) = {
                let mut world = self.sim.cloud.world();
                world.invocations += 1;
                let number = world.invocations;
                (number, world.plan.invocations.get(&number).copied())
            };
            if let Some(fault) = fault {
                self.sim.cloud.world().line(step.as_str(), &format!("   ** {fault:?}"));
            }
            let once = |payload: Value| self.invoke_in_background(number, step, payload);
            match fault {
                None => once(payload).await,
                Some(InvocationFault::Refused) => {
                    Err(("Lambda.TooManyRequestsException".into(), "Rate Exceeded.".into()))
                }
                Some(InvocationFault::AnswerLost) => {
                    let _ = once(payload).await;
                    Err(("Lambda.Unknown".into(), "The cause could not be determined".into()))
                }
                Some(InvocationFault::TwiceInTurn) => {
                    let _ = once(payload.clone()).await;
                    once(payload).await
                }
                Some(InvocationFault::TwiceAtOnce) => {
                    let both: Vec<Pin<Box<dyn Future<Output = TaskResult> + '_>>> =
                        vec![Box::pin(once(payload.clone())), Box::pin(once(payload))];
                    let mut results = join_all(both).await;
                    results.swap_remove(0)
                }
            }
        })
    }

    fn share(&self) -> f64 {
        self.sim.cloud.world().jitter.f64()
    }

    fn entered(&self, state: &str) {
        let mut world = self.sim.cloud.world();
        world.states.entry(self.name.clone()).or_default().push(state.to_owned());
    }

    fn told(&self, state: &str, detail: &str) {
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        self.sim.cloud.world().line("Step Functions", &format!("[{}] {state}{detail}", self.name));
    }

    fn is_stopped(&self) -> bool {
        self.sim.cloud.world().executions.get(&self.arn).is_some_and(|status| status == "ABORTED")
    }

    fn time(&self) -> &Time {
        &self.sim.cloud.time
    }
}
