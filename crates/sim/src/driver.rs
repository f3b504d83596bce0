//! One execution's view of the simulation: what the state machine asks of the world.

use crate::cloud::{Cloud, Function, Invocation, as_caller};
use crate::faults::InvocationFault;
use crate::invariants::Invariant;
use crate::machine::Host;
use crate::run::Simulation;
use crate::setup::Polls;
use crate::time::{SECOND, Time, join_all};
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::{Context, StepError};
use aurora_restore_steps as steps;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::Poll;

/// One execution's view of the simulation.
pub(crate) struct Driver<'s, 'm> {
    pub(crate) sim: &'s Simulation<'m>,
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) operation_id: String,
    /// Its functions' own, where those of different executions run side by side; else the simulation's.
    pub(crate) context: Option<Arc<Context>>,
    /// When its last invocation began.
    pub(crate) looked_us: Cell<u64>,
}

/// The function that the machine's substitution names.
fn function_of(name: &str) -> Option<Function> {
    if name == "Wake" {
        return Some(Function::Wake);
    }
    let pascal = |step: &Step| {
        let words = step.as_str().split('-');
        words.map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>()
    };
    Step::ALL.into_iter().find(|step| pascal(step) == name).map(Function::Step)
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
        Step::SwapCluster => Box::pin(steps::swap_cluster::run(context, step, payload)).await,
        Step::RetireCluster => Box::pin(steps::retire_cluster::run(context, step, payload)).await,
        Step::ArchiveSnapshot => Box::pin(steps::archive_snapshot::run(context, step, payload)).await,
        Step::Notify => Box::pin(steps::notify::run(context, step, payload)).await,
    }
}

/// What a function answers.
enum Answer {
    Step(StepOutput),
    Wake(Value),
}

async fn run_function(context: &Context, function: Function, payload: Value) -> Result<Answer, StepError> {
    match function {
        Function::Step(step) => run_step(context, step, payload).await.map(Answer::Step),
        Function::Wake => Box::pin(steps::wake::run(context, payload)).await.map(Answer::Wake),
    }
}

type TaskResult = Result<Value, (String, String)>;

/// Runs a function once.
async fn invoke_once(cloud: Cloud, context: Arc<Context>, invocation: Arc<Invocation>, payload: Value) -> TaskResult {
    let (number, function) = (invocation.number, invocation.function);
    let who = function.as_str();
    let began_us = cloud.time.now_us();
    let result = as_caller(&cloud.time, invocation, run_function(&context, function, payload)).await;
    let mut world = cloud.world();
    let ran_us = cloud.time.now_us() - began_us;
    world.function_us += ran_us;
    if who == Step::SetupDbUsers.as_str() {
        world.setup_us += ran_us;
    }
    let result = match result {
        None => {
            world.line(who, "   ** killed");
            let error = if number.is_multiple_of(2) { "Runtime.ExitError" } else { "Sandbox.Timedout" };
            Err((error.to_owned(), "RequestId: sim Error: the function was killed".to_owned()))
        }
        Some(Ok(Answer::Wake(answer))) => {
            world.line(who, &format!("= {answer}"));
            Ok(answer)
        }
        Some(Ok(Answer::Step(output))) => {
            let wait = output.wait_seconds.map(|seconds| format!(", wait {seconds} s")).unwrap_or_default();
            let progress = output.progress.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            world.line(who, &format!("= {:?}{wait}{progress}", output.outcome));
            Ok(serde_json::to_value(output).unwrap_or_default())
        }
        Some(Err(error)) => {
            let (name, message) = (error.name().to_string(), error.to_string());
            world.line(who, &format!("= {name}: {message}"));
            let cause = json!({ "errorType": name, "errorMessage": message }).to_string();
            Err((name, cause))
        }
    };
    let seen = match &result {
        Ok(value) => value.to_string(),
        Err((_, cause)) => cause.clone(),
    };
    if world.secret_values.iter().any(|secret| seen.contains(secret.as_str())) {
        world.violated(Invariant::Secret, format!("{who} answers a secret"));
    }
    result
}

impl Driver<'_, '_> {
    /// Runs a function in the background and waits for its answer.
    fn invoke_in_background(
        &self,
        number: u32,
        function: Function,
        payload: Value,
        deployment: Option<&Arc<Context>>,
    ) -> impl Future<Output = TaskResult> + use<> {
        let invocation = Arc::new(Invocation {
            number,
            function,
            operation_id: self.operation_id.clone(),
            execution_arn: self.arn.clone(),
            killed: AtomicBool::new(false),
            frozen_until_us: AtomicU64::new(0),
        });
        // Functions are deployed apart: each has one of the clocks.
        let position = Step::ALL.iter().position(|known| Function::Step(*known) == function).unwrap_or_default();
        let shared = &self.sim.contexts[position % self.sim.contexts.len()];
        let context = Arc::clone(deployment.unwrap_or(shared));
        let (cloud, answer) = (self.sim.cloud.clone(), Rc::new(RefCell::new(None)));
        let place = Rc::clone(&answer);
        self.sim.background.borrow_mut().push(Box::pin(async move {
            let result = invoke_once(cloud, context, invocation, payload).await;
            *place.borrow_mut() = Some(result);
        }));
        poll_fn(move |_| answer.borrow_mut().take().map_or(Poll::Pending, Poll::Ready))
    }
}

impl Driver<'_, '_> {
    /// Invokes wake with each event that has arrived by now, as EventBridge does.
    fn deliver_events(&self) {
        let events = {
            let mut world = self.sim.cloud.world();
            world.tick();
            world.arrived_events()
        };
        for event in events {
            let number = {
                let mut world = self.sim.cloud.world();
                world.invocations += 1;
                world.line("EventBridge", &event);
                world.invocations
            };
            // A deployment's rule is for what begins with its target's name.
            let id = event.rsplit(':').next().unwrap_or_default();
            let deployments = self.sim.deployments.borrow();
            let whose =
                deployments.iter().find(|(target, _)| id.starts_with(target.as_str())).map(|(_, context)| context);
            let event = json!({ "source": "aws.rds", "detail": { "SourceArn": event, "EventID": "RDS-EVENT-SIM" } });
            // Nobody waits for its answer.
            drop(self.invoke_in_background(number, Function::Wake, event, whose));
        }
    }
}

impl Host for Driver<'_, '_> {
    fn wait_us(&self, state: &str, asked: u64) -> u64 {
        let seconds = match self.sim.setup.polls {
            Polls::Shipped => asked,
            Polls::Every(seconds) => seconds,
            Polls::Fixed { deletion, .. } if state.starts_with("WaitForDeletion") => deletion,
            Polls::Fixed { others, .. } => others,
            Polls::Knowing => {
                let next = self.sim.cloud.world().next_news_us(self.looked_us.get());
                return next.map_or(asked * SECOND, |in_us| in_us + 1000);
            }
        };
        seconds * SECOND
    }

    fn invoke<'h>(&'h self, function: &'h str, payload: Value) -> Pin<Box<dyn Future<Output = TaskResult> + 'h>> {
        Box::pin(async move {
            let Some(function) = function_of(function) else {
                return Err(("Lambda.ResourceNotFoundException".into(), format!("there is no function {function}")));
            };
            self.looked_us.set(self.time().now_us());
            let (number, fault) = {
                let mut world = self.sim.cloud.world();
                world.invocations += 1;
                let number = world.invocations;
                (number, world.plan.invocations.get(&number).copied())
            };
            if let Some(fault) = fault {
                self.sim.cloud.world().line(function.as_str(), &format!("   ** {fault:?}"));
            }
            let once = |payload: Value| self.invoke_in_background(number, function, payload, self.context.as_ref());
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

    fn takes_events(&self) -> bool {
        self.sim.setup.polls == Polls::Shipped
    }

    fn task_token(&self) -> String {
        self.sim.cloud.world().new_token()
    }

    fn answered<'h>(&'h self, token: Option<&'h str>, until_us: u64) -> Pin<Box<dyn Future<Output = bool> + 'h>> {
        Box::pin(async move {
            // Of a crowd somebody always waits with a token, and delivers: 200 who all do would take minutes for it.
            if token.is_none() && self.sim.setup.crowd > 0 {
                self.time().sleep_us(until_us.saturating_sub(self.time().now_us())).await;
                return false;
            }
            loop {
                self.deliver_events();
                let mut pause = {
                    let world = self.sim.cloud.world();
                    let moments = [world.next_due_us(), world.next_event_us()];
                    let next_us = moments.into_iter().flatten().fold(until_us, u64::min);
                    self.time().sleep_us(next_us.saturating_sub(self.time().now_us()).max(1))
                };
                let end = poll_fn(|context| {
                    let is_late = self.time().now_us() >= until_us;
                    let end = match token {
                        Some(token) => self.sim.cloud.world().end_of_token(token, is_late),
                        None => is_late.then_some(false),
                    };
                    match end {
                        None => Pin::new(&mut pause).poll(context).map(|()| None),
                        end => Poll::Ready(end),
                    }
                });
                if let Some(is_answered) = end.await {
                    return is_answered;
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
