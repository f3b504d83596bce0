//! What a step works with: made once per process, before the first invocation.

use crate::audit::Audit;
use crate::aws::{self, Called, Pace, ec2::Ec2, kms::Kms, rds::Rds, s3::S3, sfn::Executions, sns::Topic};
use crate::clock::Clock;
use crate::config::{Config, Env};
use crate::error::StepError;
use crate::metrics::Metrics;
use crate::secrets::Secrets;
use crate::store::Store;
use aurora_restore_domain::audit::{Entry, Phase, Record};
use aurora_restore_domain::failure::Failure;
use aurora_restore_domain::ids::Region;
use aurora_restore_domain::lock::Lock;
use aurora_restore_domain::operation::Operation;
use aurora_restore_domain::sabotage::Sabotage;
use aws_config::SdkConfig;
use aws_smithy_async::rt::sleep::AsyncSleep;
use serde_json::{Value, json};
use std::any::Any;
use std::sync::{Arc, OnceLock};

/// Configuration, clock and clients.
#[derive(Debug)]
pub struct Context {
    /// Settings from the environment.
    pub config: Config,
    /// The clock.
    pub clock: Clock,
    /// State and locks.
    pub store: Store,
    /// Audit trail.
    pub audit: Audit,
    /// RDS of the target Region.
    pub rds: Rds,
    /// EC2 of the target Region.
    pub ec2: Ec2,
    /// S3 of the target Region.
    pub s3: S3,
    /// Figures for CloudWatch.
    pub metrics: Metrics,
    stand_in: Option<Arc<dyn Any + Send + Sync>>,
    sdk: SdkConfig,
    secrets: OnceLock<Secrets>,
    kms: OnceLock<Kms>,
    executions: OnceLock<Executions>,
    topic: OnceLock<Topic>,
}

/// RDS of a Region, at the pace that the configuration wants.
fn rds_of(sdk: &SdkConfig, store: &Store, clock: &Clock, config: &Config, region: &str) -> Rds {
    let calls = store.beside(&config.rds_calls_table);
    Rds::paced(sdk, region, Pace::of(sdk, &calls, clock, region, config.rds_calls_per_second))
}

impl Context {
    /// Builds the clients for the Region that `config` names.
    ///
    /// # Errors
    /// As [`aws::sdk_config`].
    pub fn new(config: Config, clock: Clock, env: &Env) -> Result<Self, Failure> {
        let sdk = aws::sdk_config(&config.target_region, env)?;
        let metrics = Metrics::of(&config.actor, &config.environment);
        Ok(Self { metrics, ..Self::with_sdk(config, clock, sdk) })
    }

    /// Builds the clients over a given SDK configuration; tells no figures.
    pub fn with_sdk(config: Config, clock: Clock, sdk: SdkConfig) -> Self {
        let store = Store::new(&sdk, &config.state_table);
        Self {
            audit: Audit::new(store.clone(), &config.audit_table, clock.clone()),
            rds: rds_of(&sdk, &store, &clock, &config, &config.target_region),
            store,
            ec2: Ec2::new(&sdk),
            s3: S3::new(&sdk),
            metrics: Metrics::off(),
            stand_in: None,
            config,
            clock,
            sdk,
            secrets: OnceLock::new(),
            kms: OnceLock::new(),
            executions: OnceLock::new(),
            topic: OnceLock::new(),
        }
    }

    // What not every step needs is made where it is asked for first: it takes microseconds, and the linker leaves a
    // client out of the functions that never ask.

    /// Credentials.
    pub fn secrets(&self) -> &Secrets {
        let make = || Secrets::new(&self.sdk, self.clock.clone(), self.config.secret_cache_seconds);
        self.secrets.get_or_init(make)
    }

    /// KMS of the target Region.
    pub fn kms(&self) -> &Kms {
        self.kms.get_or_init(|| Kms::new(&self.sdk))
    }

    /// Executions of the state machine.
    pub fn executions(&self) -> &Executions {
        self.executions.get_or_init(|| Executions::new(&self.sdk))
    }

    /// Where outcomes are told.
    pub fn topic(&self) -> &Topic {
        self.topic.get_or_init(|| Topic::new(&self.sdk))
    }

    /// Waits, by the SDK's time.
    pub async fn pause(&self, seconds: u64) {
        if let Some(sleep) = self.sdk.sleep_impl().filter(|_| seconds > 0) {
            sleep.sleep(std::time::Duration::from_secs(seconds)).await;
        }
    }

    /// Puts `stand_in` in the place of the restored database, for simulations. Only the steps know what it can be.
    pub fn with_stand_in(self, stand_in: impl Any + Send + Sync) -> Self {
        Self { stand_in: Some(Arc::new(stand_in)), ..self }
    }

    /// What stands for the restored database; `None` in production.
    pub fn stand_in<T: Any>(&self) -> Option<&T> {
        self.stand_in.as_ref()?.downcast_ref()
    }

    /// RDS of another Region, for reading the source.
    pub fn rds_in(&self, region: &Region) -> Rds {
        rds_of(&self.sdk, &self.store, &self.clock, &self.config, region.as_str())
    }

    /// Makes a call that changes the target or what belongs to it: between a begun and a finished audit record, and only
    /// while `operation` holds its lock. The begun record is written in one transaction with a check of the lock, right
    /// before the call: a function can outlive its execution by a Lambda's 15 minutes, in which another operation may
    /// have taken over.
    ///
    /// # Errors
    /// `TargetLocked` when the lock is another's; else as [`Context::audited`].
    pub async fn mutate<T, E: Into<StepError>>(
        &self,
        operation: &Operation,
        action: &str,
        resource: &str,
        detail: Value,
        call: impl Future<Output = Result<Called<T>, E>>,
    ) -> Result<T, StepError> {
        let entry = self.entry(Phase::Begun, operation, action, resource, detail);
        if !Sabotage::NoBegunRecord.is_on() {
            self.audit.append_under_lock(operation, entry.clone()).await?;
        }
        self.finish(operation, entry, call).await
    }

    /// Makes a call between a begun and a finished audit record.
    ///
    /// # Errors
    /// The call's own, after it was recorded; or the audit trail's, in which case the call was not made (begun) or
    /// was made and the repeated step will find its effect (finished).
    pub async fn audited<T, E: Into<StepError>>(
        &self,
        operation: &Operation,
        action: &str,
        resource: &str,
        detail: Value,
        call: impl Future<Output = Result<Called<T>, E>>,
    ) -> Result<T, StepError> {
        let entry = self.entry(Phase::Begun, operation, action, resource, detail);
        if !Sabotage::NoBegunRecord.is_on() {
            self.audit.append(&operation.operation_id, entry.clone()).await?;
        }
        self.finish(operation, entry, call).await
    }

    /// The same, only if nothing was appended to the trail since `last` was seen to be its end: of two functions that find
    /// that a call is due, one makes it.
    ///
    /// # Errors
    /// `StateConflict` when something was; else as [`Context::audited`].
    pub async fn audited_after<T, E: Into<StepError>>(
        &self,
        operation: &Operation,
        last: Option<&Record>,
        action: &str,
        resource: &str,
        detail: Value,
        call: impl Future<Output = Result<Called<T>, E>>,
    ) -> Result<T, StepError> {
        let entry = self.entry(Phase::Begun, operation, action, resource, detail);
        self.audit.append_after(&operation.operation_id, entry.clone(), last).await?;
        self.finish(operation, entry, call).await
    }

    /// Makes the call that `entry` announced, and records how it ended.
    async fn finish<T, E: Into<StepError>>(
        &self,
        operation: &Operation,
        entry: Entry,
        call: impl Future<Output = Result<Called<T>, E>>,
    ) -> Result<T, StepError> {
        let (operation_id, step) = (&operation.operation_id, operation.step);
        let Entry { action, resource, .. } = &entry;
        tracing::info!(%operation_id, %step, action, resource, "calling {action} for {resource}");
        let result: Result<Called<T>, StepError> = call.await.map_err(Into::into);
        let (outcome, request_id, detail) = match &result {
            Ok(called) => ("ok".to_owned(), called.request_id.clone(), Value::Null),
            Err(error) => (error.name().to_string(), error.request_id.clone(), Value::String(error.to_string())),
        };
        let finished = Entry { phase: Phase::Finished, outcome: Some(outcome), request_id, detail, ..entry };
        self.audit.append(operation_id, finished).await?;
        Ok(result?.value)
    }

    /// Records something that is no call.
    ///
    /// # Errors
    /// The audit trail's.
    pub async fn record_event(
        &self,
        operation: &Operation,
        action: &str,
        resource: &str,
        detail: Value,
    ) -> Result<(), StepError> {
        let entry = self.entry(Phase::Event, operation, action, resource, detail);
        self.audit.append(&operation.operation_id, entry).await.map(drop)
    }

    /// Takes over the lock that was `seen`, whose owner is over, in one transaction with the record of it and, where it is
    /// still open, the end of the operation that had it (`closed`). Returns the new fencing number.
    ///
    /// # Errors
    /// `StateConflict` when the lock or that operation was changed meanwhile; else the audit trail's.
    pub async fn take_lock_over(
        &self,
        operation: &Operation,
        target: &str,
        seen: &Lock,
        closed: Option<&Operation>,
    ) -> Result<u64, StepError> {
        let now = self.clock.now();
        let lock = Lock::taken(target, operation, Some(seen), now);
        if Sabotage::TakeLockBeforeRecording.is_on() {
            self.store.take_lock(target, operation, Some(seen), now).await?;
        }
        let mut writes = match Sabotage::TakeLockBeforeRecording.is_on() {
            true => vec![],
            false => vec![self.store.taking_over(&lock, seen)?],
        };
        if let Some(closed) = closed.filter(|_| !Sabotage::LeaveFormerRunning.is_on()) {
            writes.push(self.store.closing(closed, now)?);
        }
        let detail = json!({ "former": seen, "fence": lock.fence });
        let entry = self.entry(Phase::Event, operation, "aurora-restore:LockTakenOver", target, detail);
        self.audit.append_with(&operation.operation_id, entry, writes).await?;
        Ok(lock.fence)
    }

    fn entry(&self, phase: Phase, operation: &Operation, action: &str, resource: &str, detail: Value) -> Entry {
        Entry {
            phase,
            step: operation.step,
            action: action.to_owned(),
            resource: resource.to_owned(),
            actor: self.config.actor.clone(),
            outcome: None,
            request_id: None,
            detail,
        }
    }
}
