//! Between the SDK and the world: the HTTP client, and who is calling.

use super::World;
use super::wire::{Call, Fault, Reply, respond};
use crate::faults::{Arrival, CallFault, arrive};
use crate::invariants::Invariant;
use crate::time::{Sleeper, Time};
use aurora_restore_domain::step::Step;
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// That of a step.
    Step(Step),
    /// The one that ends waits.
    Wake,
}

impl Function {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Step(step) => step.as_str(),
            Self::Wake => "wake",
        }
    }
}

/// One invocation of a function.
#[derive(Debug)]
pub struct Invocation {
    /// Counts all invocations of the simulation.
    pub number: u32,
    /// Which function.
    pub function: Function,
    /// The operation that it works for.
    pub operation_id: String,
    /// The execution that invoked it.
    pub execution_arn: String,
    /// Whether it has been killed.
    pub killed: AtomicBool,
    /// Until when it is frozen, in microseconds.
    pub frozen_until_us: AtomicU64,
}

thread_local! {
    static CALLER: RefCell<Option<Arc<Invocation>>> = const { RefCell::new(None) };
}

/// Runs `work` as the body of `invocation`; `None` when it is killed on the way.
pub async fn as_caller<T>(time: &Time, invocation: Arc<Invocation>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut thaw: Option<Pin<Box<Sleeper>>> = None;
    poll_fn(move |context| {
        // Nothing runs in a frozen function, not even its timers.
        if let Some(frozen) = &mut thaw {
            if frozen.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            thaw = None;
        }
        CALLER.with(|caller| caller.replace(Some(Arc::clone(&invocation))));
        let polled = work.as_mut().poll(context);
        CALLER.with(|caller| caller.replace(None));
        match polled {
            _ if invocation.killed.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => {
                let until_us = invocation.frozen_until_us.swap(0, Ordering::Relaxed);
                if until_us > time.now_us() {
                    let mut frozen = Box::pin(time.sleep_us(until_us - time.now_us()));
                    if frozen.as_mut().poll(context).is_pending() {
                        thaw = Some(frozen);
                    }
                }
                Poll::Pending
            }
        }
    })
    .await
}

/// The simulated cloud as the SDK reaches it. Clones share the world.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// Its time.
    pub time: Time,
    world: Arc<Mutex<World>>,
}

impl Cloud {
    /// A cloud over a world.
    pub fn new(world: World) -> Self {
        Self { time: world.time.clone(), world: Arc::new(Mutex::new(world)) }
    }

    /// The world, to look at or to change.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SDK's configuration: like the product's own, over this cloud and its time.
    pub fn sdk_config(&self, region: &str) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(15))
            .operation_timeout(Duration::from_secs(50))
            .build();
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .http_client(self.http_client())
            .sleep_impl(self.time.clone())
            .time_source(self.time.clone())
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("sim", "sim", None, None, "sim")))
            .identity_cache(IdentityCache::no_cache())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts)
            .build()
    }

    fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// Who is calling right now.
    pub(super) fn current() -> Option<Arc<Invocation>> {
        CALLER.with(|caller| caller.borrow().clone())
    }

    /// A call on its way: after its latency it has arrived, is refused, is lost, or its caller is killed.
    pub(super) async fn travel(&self, call: &Call, caller: Option<&Arc<Invocation>>) -> Arrival {
        let latency = {
            let mut world = self.world();
            let most = world.pace.latency_us;
            world.rng.u64(most / 8..=most)
        };
        self.time.sleep_us(latency).await;
        let mut world = self.world();
        world.tick();
        arrive(&mut world, call, caller)
    }

    /// Runs `effect` on the world as this caller.
    pub(super) fn with_caller<T>(&self, caller: Option<&Arc<Invocation>>, effect: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world();
        world.caller = caller.cloned();
        let value = effect(&mut world);
        world.caller = None;
        value
    }

    async fn serve(
        self,
        request: HttpRequest,
        caller: Option<Arc<Invocation>>,
    ) -> Result<HttpResponse, ConnectorError> {
        let mut call = match Call::read(&request) {
            Ok(call) => call,
            Err(error) => {
                self.world().violated(Invariant::Strange, error.clone());
                return Err(ConnectorError::user(error.into()));
            }
        };
        let caller = caller.as_ref();
        let after = match self.travel(&call, caller).await {
            Arrival::Lost => return pending().await,
            Arrival::Refused(fault) => {
                let refused: Result<Reply, Fault> = Err(fault);
                return Ok(self.tell(&call, &refused, caller, None));
            }
            Arrival::Arrived(after) => after,
        };
        // Written down as it came: what it puts into a table is taken out of it.
        if self.world().lines.is_some() {
            call.about = Some(call.resource());
        }
        let reply = self.with_caller(caller, |world| world.answer(&mut call));
        if let Err(fault) = &reply
            && ["UnknownOperationException", "InvalidAction", "MissingParameter"].contains(&fault.code)
        {
            self.world().violated(Invariant::Strange, format!("{}: {}", call.name(), fault.message));
        }
        let response = self.tell(&call, &reply, caller, after);
        match after {
            None => Ok(response),
            Some(CallFault::FailAfter) => {
                let lost: Result<Reply, Fault> =
                    Err(Fault { status: 500, code: "InternalFailure", message: "the answer was lost".into() });
                Ok(respond(&call, &lost, "00000000-lost"))
            }
            Some(CallFault::KillAfter) => {
                if let Some(caller) = caller {
                    caller.killed.store(true, Ordering::Relaxed);
                }
                pending().await
            }
            Some(_) => pending().await,
        }
    }

    /// Writes the call down and puts its answer on the wire.
    fn tell(
        &self,
        call: &Call,
        reply: &Result<Reply, Fault>,
        caller: Option<&Arc<Invocation>>,
        after: Option<CallFault>,
    ) -> HttpResponse {
        let mut world = self.world();
        let request_id = format!("{:08x}-sim", world.calls);
        write_down(
            &mut world,
            call,
            caller,
            match reply {
                Ok(reply) => &reply.brief,
                Err(fault) => fault.code,
            },
            after,
        );
        respond(call, reply, &request_id)
    }
}

/// A call in the transcript.
pub(super) fn write_down(
    world: &mut World,
    call: &Call,
    caller: Option<&Arc<Invocation>>,
    brief: &str,
    after: Option<CallFault>,
) {
    if world.lines.is_none() {
        return;
    }
    let who = caller.map_or("?".to_owned(), |caller| caller.function.as_str().to_owned());
    let name = call.name();
    let mut text = format!("{name} {} -> {brief}", call.resource());
    if let Some(after) = after {
        text.push_str(&format!("   ** {after:?}: the caller never learns it"));
    }
    let is_detail = ["Describe", "Get", "Query", "Login", "Observe"].iter().any(|verb| call.action.starts_with(verb))
        || call.service == "dynamodb";
    world.write(&who, &text, is_detail && after.is_none());
}

impl HttpConnector for Cloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().serve(request, Self::current()))
    }
}
