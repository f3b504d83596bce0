//! How many calls a second RDS gets from all functions that share a table (the state table, or one that deployments share): an
//! item of that table for each Region, which gives out moments, one after the other. RDS throttles an account and Region as a
//! whole; where hundreds of restores begin at once, they would keep each other, and everybody else, from being served.
//!
//! A table that cannot be asked (missing, denied) ends a restore before it has touched anything, and not afterwards: the bound
//! only keeps RDS from throttling, which is repeated anyway, and a target that is gone already is worth more, also when its
//! operation is started again. From there on each invocation keeps the bound by itself. The next restore says what is wrong.
//! What passes, an outage, is repeated as everywhere.

use super::{AwsError, aws_error};
use crate::clock::Clock;
use crate::error::StepError;
use crate::store::Store;
use aurora_restore_domain::failure::{ErrorName, Failure};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An invocation begins only if its first call can be made within so many milliseconds: it waits in the state machine.
const ADMITTED_WITHIN_MS: u64 = 8_000;
/// A later call waits so long at the most, within the time that an attempt may take.
const TURN_WITHIN_MS: u64 = 12_000;
/// No function with a right clock has given out a moment so far ahead: it counts for nothing, or nobody would ask RDS until then.
const NONSENSE_MS: u64 = 60_000;
/// Attempts to take moments that others want too.
const TRIES: u32 = 4;
/// Moments that are taken at once when those of the admission are used up.
const MORE: u64 = 4;

/// The calls of one invocation to RDS of one Region. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pace(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    store: Store,
    key: String,
    clock: Clock,
    sleep: SharedAsyncSleep,
    gap_ms: u64,
    /// Moments that are ours, in milliseconds since 1970.
    moments: Mutex<VecDeque<u64>>,
}

impl Pace {
    /// `calls_per_second` in `region`, given out by `store`; `None` for as many as there are.
    pub fn of(config: &SdkConfig, store: &Store, clock: &Clock, region: &str, calls_per_second: Option<u64>) -> Self {
        let shared = calls_per_second.zip(config.sleep_impl()).map(|(calls_per_second, sleep)| Shared {
            store: store.clone(),
            key: format!("calls#rds#{region}"),
            clock: clock.clone(),
            sleep,
            // A little more than its share: a call arrives some time after its moment, and two may arrive together.
            gap_ms: 1250 / calls_per_second.clamp(1, 1000),
            moments: Mutex::default(),
        });
        Self(shared.map(Arc::new))
    }

    /// Lets an invocation begin that makes about so many calls.
    ///
    /// # Errors
    /// `Throttled` when others have taken the next seconds, and what else passes; nothing is taken then.
    pub async fn admit(&self, calls: u64) -> Result<(), AwsError> {
        match self.afresh(calls) {
            Some(shared) => shared.take_or_go_on(calls, ADMITTED_WITHIN_MS).await,
            None => Ok(()),
        }
    }

    /// The same before anything was touched: a table that cannot be asked is an error then.
    ///
    /// # Errors
    /// As [`Pace::admit`]; besides, whatever the table says, with what to do about it.
    pub async fn admit_first(&self, calls: u64) -> Result<(), StepError> {
        match self.afresh(calls) {
            Some(shared) => shared.take(calls, ADMITTED_WITHIN_MS).await.map_err(|error| shared.cannot_begin(error)),
            None => Ok(()),
        }
    }

    fn afresh(&self, calls: u64) -> Option<&Shared> {
        let shared = self.0.as_ref().filter(|_| calls > 0)?;
        // Moments of an earlier invocation are over.
        shared.moments().clear();
        Some(shared)
    }

    /// `config` with an HTTP client whose calls wait for their turn.
    pub(super) fn over(&self, config: &SdkConfig) -> SdkConfig {
        let (Some(shared), Some(client)) = (&self.0, config.http_client()) else { return config.clone() };
        config.to_builder().http_client(paced(client, Arc::clone(shared))).build()
    }
}

fn paced(client: SharedHttpClient, shared: Arc<Shared>) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        let (inner, shared) = (client.http_connector(settings, components), Arc::clone(&shared));
        SharedHttpConnector::new(Paced { inner, shared })
    })
}

impl Shared {
    fn moments(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
    }

    /// Takes the next moments that nobody has.
    async fn take(&self, calls: u64, within_ms: u64) -> Result<(), AwsError> {
        for _ in 0..TRIES {
            let (seen, now) = (self.next().await?, self.now_ms());
            let first = seen.filter(|seen| *seen <= now + NONSENSE_MS).unwrap_or_default().max(now);
            if first > now + within_ms {
                break;
            }
            if self.put(seen, first + calls * self.gap_ms).await? {
                self.moments().extend((0..calls).map(|number| first + number * self.gap_ms));
                return Ok(());
            }
        }
        let seconds = within_ms / 1000;
        Err(AwsError {
            name: ErrorName::Throttled,
            action: "rds:*",
            resource: self.key.clone(),
            code: None,
            message: format!(
                "other restores have taken the next {seconds} s of what RDS_CALLS_PER_SECOND allows; raise it, or begin fewer at once"
            ),
            request_id: None,
        })
    }

    /// The same for a restore that has begun: when the table cannot be asked, moments that are ours alone.
    async fn take_or_go_on(&self, calls: u64, within_ms: u64) -> Result<(), AwsError> {
        let Err(error) = self.take(calls, within_ms).await else { return Ok(()) };
        if error.name.is_transient() {
            return Err(error);
        }
        tracing::warn!(
            "RDS_CALLS_PER_SECOND is kept without regard to others, who keep it in table {}: {error}",
            self.store.table
        );
        let now = self.now_ms();
        self.moments().extend((0..calls).map(|number| now + number * self.gap_ms));
        Ok(())
    }

    /// What ends a restore that has not begun.
    fn cannot_begin(&self, error: AwsError) -> StepError {
        if error.name.is_transient() {
            return error.into();
        }
        let what = format!("calls to RDS cannot be bounded (RDS_CALLS_PER_SECOND): {error}");
        let next = format!(
            "look whether table {} is there (infra/rds-calls.yaml makes one, for each account and Region; RdsCallsTableName names it) and whether \
             this function's role may dynamodb:GetItem and dynamodb:PutItem its item {}, then start again; or deploy with RdsCallsPerSecond=0",
            self.store.table, self.key
        );
        let failure = Failure::new(error.name, what).left("nothing was touched").next(next);
        let mut failed = StepError::from(error);
        failed.failure = failure;
        failed
    }

    /// The moment after the last that was given out, in milliseconds since 1970.
    async fn next(&self) -> Result<Option<u64>, AwsError> {
        let call = self.store.client.get_item().table_name(&self.store.table).consistent_read(true);
        let call = call.key("operation_id", AttributeValue::S(self.key.clone()));
        let failed = |error| aws_error("dynamodb:GetItem", self.store.item(&self.key), error);
        let item = call.send().await.map_err(failed)?.item;
        Ok(item.and_then(|item| item.get("next_ms")?.as_n().ok()?.parse().ok()))
    }

    /// Moves it on from what was seen; `false` when somebody else did.
    async fn put(&self, seen: Option<u64>, next: u64) -> Result<bool, AwsError> {
        let call = self.store.client.put_item().table_name(&self.store.table);
        let call = call.item("operation_id", AttributeValue::S(self.key.clone()));
        let call = call.item("next_ms", AttributeValue::N(next.to_string()));
        let call = match seen {
            None => call.condition_expression("attribute_not_exists(operation_id)"),
            Some(seen) => call
                .condition_expression("next_ms = :seen")
                .expression_attribute_values(":seen", AttributeValue::N(seen.to_string())),
        };
        let answer = call.send().await;
        match answer.map_err(|error| aws_error("dynamodb:PutItem", self.store.item(&self.key), error)) {
            Ok(_) => Ok(true),
            Err(error) if error.is("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for this call's moment.
    async fn turn(&self) -> Result<(), AwsError> {
        let mine = self.moments().pop_front();
        let moment = match mine {
            Some(moment) => Some(moment),
            None => {
                self.take_or_go_on(MORE, TURN_WITHIN_MS).await?;
                self.moments().pop_front()
            }
        };
        let wait_ms = moment.unwrap_or_default().saturating_sub(self.now_ms());
        if wait_ms > 0 {
            self.sleep.sleep(Duration::from_millis(wait_ms)).await;
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Paced {
    inner: SharedHttpConnector,
    shared: Arc<Shared>,
}

impl HttpConnector for Paced {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { inner, shared } = self.clone();
        HttpConnectorFuture::new(async move {
            shared.turn().await.map_err(|error| ConnectorError::timeout(error.into()))?;
            inner.call(request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::rds::Rds;
    use crate::aws::replay::Wire;
    use crate::config::{Config, Env};
    use crate::context::Context;
    use aurora_restore_domain::ids::{ClusterId, Region};
    use time::macros::datetime;

    const NOW_MS: u64 = 1_795_291_200_000;

    const DENIED: &str = r#"{"__type":"AccessDeniedException","message":"no identity-based policy allows the action"}"#;
    const MISSING: &str = r#"{"__type":"ResourceNotFoundException","message":"Requested resource not found"}"#;
    const BUSY: &str = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;

    fn config(wire: &Wire) -> SdkConfig {
        wire.config().to_builder().sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new()).build()
    }

    fn now() -> Clock {
        Clock::fixed(datetime!(2026-11-21 20:00 UTC))
    }

    fn pace(wire: &Wire) -> Pace {
        let config = config(wire);
        Pace::of(&config, &Store::new(&config, "state"), &now(), "us-west-2", Some(10))
    }

    fn given_out_until(ms: u64) -> String {
        format!(r#"{{"Item":{{"operation_id":{{"S":"calls#rds#us-west-2"}},"next_ms":{{"N":"{ms}"}}}}}}"#)
    }

    #[tokio::test]
    async fn moments_follow_those_of_others() {
        let others = given_out_until(NOW_MS + 500);
        let wire = Wire::new([(200, others.as_str()), (200, "{}")]);
        let pace = pace(&wire);
        pace.admit(3).await.unwrap();
        let shared = pace.0.unwrap();
        assert_eq!(*shared.moments(), [500, 625, 750].map(|after| NOW_MS + after));
        assert!(wire.asked()[1].contains(&format!(r#"{{"N":"{}"}}"#, NOW_MS + 875)), "{:?}", wire.asked());
        assert!(wire.asked()[1].contains("next_ms = :seen"));
    }

    #[tokio::test]
    async fn what_was_given_out_long_ago_is_no_debt_and_a_race_is_tried_again() {
        let refused = r#"{"__type":"ConditionalCheckFailedException","message":"The conditional request failed"}"#;
        let (before, after) = (given_out_until(NOW_MS - 99_000), given_out_until(NOW_MS + 100));
        let wire = Wire::new([(200, before.as_str()), (400, refused), (200, after.as_str()), (200, "{}")]);
        let pace = pace(&wire);
        pace.admit(1).await.unwrap();
        assert_eq!(*pace.0.unwrap().moments(), [NOW_MS + 100]);
    }

    #[tokio::test]
    async fn a_moment_of_a_wrong_clock_holds_nobody_up() {
        let tomorrow = given_out_until(NOW_MS + 86_400_000);
        let wire = Wire::new([(200, tomorrow.as_str()), (200, "{}")]);
        let pace = pace(&wire);
        pace.admit(2).await.unwrap();
        assert_eq!(*pace.0.unwrap().moments(), [NOW_MS, NOW_MS + 125]);
    }

    #[tokio::test]
    async fn who_would_wait_long_does_not_begin_and_takes_nothing() {
        let full = given_out_until(NOW_MS + ADMITTED_WITHIN_MS + 1);
        let wire = Wire::new([(200, full.as_str())]);
        let error = pace(&wire).admit(12).await.unwrap_err();
        assert_eq!((error.name, wire.asked().len()), (ErrorName::Throttled, 1));
    }

    #[tokio::test]
    async fn without_a_bound_nobody_is_asked() {
        let wire = Wire::new([]);
        let config = wire.config();
        let clock = Clock::system();
        let pace = Pace::of(&config, &Store::new(&config, "state"), &clock, "us-west-2", None);
        pace.admit(12).await.unwrap();
        assert!(pace.0.is_none() && wire.asked().is_empty());
    }

    #[tokio::test]
    async fn calls_are_given_out_by_the_table_that_is_named() {
        let wire = Wire::new([(200, "{}"), (200, "{}"), (200, "{}"), (200, "{}"), (200, "<x/>")]);
        let config_of_functions = Config::from_env(&Env::fake([
            ("ENVIRONMENT", "dev"),
            ("STATE_TABLE_NAME", "state"),
            ("AUDIT_TABLE_NAME", "audit"),
            ("SNS_TOPIC_ARN", "topic"),
            ("TARGET_REGION", "us-west-2"),
            ("RDS_CALLS_PER_SECOND", "10"),
            ("RDS_CALLS_TABLE_NAME", "shared"),
        ]));
        let context = Context::with_sdk(config_of_functions.unwrap(), now(), config(&wire));
        context.rds.admit(2).await.unwrap();
        let source = context.rds_in(&Region::try_from("us-east-1").unwrap());
        let _ = source.cluster(&ClusterId::try_from("production").unwrap()).await;
        let asked = wire.asked();
        assert_eq!(asked.len(), 5, "{asked:?}");
        for (body, region) in asked.iter().zip(["us-west-2", "us-west-2", "us-east-1", "us-east-1"]) {
            let item = format!(r#""operation_id":{{"S":"calls#rds#{region}"}}"#);
            assert!(body.contains(r#""TableName":"shared""#) && body.contains(&item), "{body}");
        }
    }

    #[tokio::test]
    async fn a_restore_does_not_begin_when_the_table_cannot_be_asked() {
        for (answer, name) in [(DENIED, ErrorName::AccessDenied), (MISSING, ErrorName::InvalidRequest)] {
            let wire = Wire::new([(400, answer)]);
            let error = pace(&wire).admit_first(12).await.unwrap_err();
            let text = error.to_string();
            assert_eq!((error.name(), error.request_id.as_deref()), (name, Some("request-1")), "{text}");
            for part in
                ["state/calls#rds#us-west-2", "nothing was touched", "infra/rds-calls.yaml", "RdsCallsTableName"]
            {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        let error = pace(&Wire::new([(400, BUSY)])).admit_first(12).await.unwrap_err();
        assert_eq!((error.name(), error.failure.next), (ErrorName::Throttled, None), "repeated, nothing is to be done");
    }

    #[tokio::test]
    async fn a_restore_that_has_begun_goes_on_when_the_table_cannot_be_asked() {
        for answer in [DENIED, MISSING] {
            let pace = pace(&Wire::new([(400, answer)]));
            pace.admit(3).await.unwrap();
            assert_eq!(
                *pace.0.unwrap().moments(),
                [0, 125, 250].map(|after| NOW_MS + after),
                "by itself it keeps the bound"
            );
        }
        let error = pace(&Wire::new([(400, BUSY)])).admit(3).await.unwrap_err();
        assert_eq!(error.name, ErrorName::Throttled, "what passes is repeated");
    }

    #[tokio::test]
    async fn a_call_of_a_restore_that_has_begun_is_made_when_the_table_cannot_be_asked() {
        let none = "<DescribeDBClustersResponse><DescribeDBClustersResult><DBClusters/></DescribeDBClustersResult></DescribeDBClustersResponse>";
        let wire = Wire::new([(400, MISSING), (200, none)]);
        let rds = Rds::paced(&config(&wire), "us-west-2", pace(&wire));
        assert!(rds.cluster(&ClusterId::try_from("staging").unwrap()).await.unwrap().is_none());
        assert!(wire.asked()[1].contains("Action=DescribeDBClusters"), "{:?}", wire.asked());
    }
}
