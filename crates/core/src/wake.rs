//! Task tokens of waits that an event of RDS may end, in the state table: an item for each resource that is waited for.
//! A later wait for the same resource takes the item's place.

use crate::aws::aws_error;
use crate::error::StepError;
use crate::store::{Store, read};
use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::wait::LEAST_SECONDS;
use aurora_restore_domain::{Instant, parse_timestamp, seconds_between, timestamp};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

/// How long a token stays after its wait's last moment, in seconds. Step Functions does not care for old ones.
const KEPT_SECONDS: i64 = 24 * 3600;

/// How long after a wait's last moment we hold it for over, in seconds: clocks differ.
const OVER_SECONDS: i64 = 60;

/// A wait for a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Partition key: `wake#cluster:staging`.
    pub operation_id: String,
    /// Whose wait it is.
    pub waiting_operation: String,
    /// Answers the waiting task of the state machine.
    pub task_token: String,
    /// Since when, RFC 3339.
    pub began_at: String,
    /// TTL, epoch seconds.
    pub expires_at: i64,
}

impl Wait {
    fn new(key: String, operation: &str, task_token: &str, wait_seconds: u64, now: Instant) -> Self {
        Self {
            operation_id: key,
            waiting_operation: operation.to_owned(),
            task_token: task_token.to_owned(),
            began_at: timestamp(now),
            expires_at: now.unix_timestamp() + i64::try_from(wait_seconds).unwrap_or(0) + KEPT_SECONDS,
        }
    }

    /// Whether its time is long up. Step Functions knows better, but asking costs a call.
    pub fn is_over(&self, now: Instant) -> bool {
        now.unix_timestamp() > self.expires_at - KEPT_SECONDS + OVER_SECONDS
    }

    /// How many seconds are left until it may end: a look right after a call may see the world before that call.
    pub fn seconds_too_early(&self, now: Instant) -> u64 {
        let elapsed = parse_timestamp(&self.began_at).map_or(0, |began| seconds_between(began, now));
        LEAST_SECONDS.saturating_sub(elapsed)
    }
}

impl Store {
    /// Keeps the token of `operation`'s wait of `wait_seconds` for `resource` (the last part of an ARN).
    ///
    /// # Errors
    /// What DynamoDB says.
    pub async fn keep_wait(
        &self,
        resource: &str,
        operation: &str,
        task_token: &str,
        wait_seconds: u64,
        now: Instant,
    ) -> Result<(), StepError> {
        let key = key(resource);
        let wait = Wait::new(key.clone(), operation, task_token, wait_seconds, now);
        let item = serde_dynamo::to_item(&wait).map_err(|error| {
            StepError::caused_by(Failure::new(ErrorName::Internal, format!("item {key} cannot be written")), error)
        })?;
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        call.send().await.map_err(|error| aws_error("dynamodb:PutItem", self.item(&key), error))?;
        Ok(())
    }

    /// The last wait for `resource`, which may be over.
    ///
    /// # Errors
    /// What DynamoDB says.
    pub async fn wait_for(&self, resource: &str) -> Result<Option<Wait>, StepError> {
        let key = key(resource);
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let call = call.key("operation_id", AttributeValue::S(key.clone()));
        let answer = call.send().await.map_err(|error| aws_error("dynamodb:GetItem", self.item(&key), error))?;
        answer.item.map(|item| read(item, &key)).transpose()
    }
}

fn key(resource: &str) -> String {
    format!("wake#{resource}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    fn wait(began: Instant, seconds: u64) -> Wait {
        Wait::new(key("cluster:staging"), "nightly-1", "token", seconds, began)
    }

    #[test]
    fn a_wait_is_over_a_minute_after_its_last_moment() {
        let began = datetime!(2026-11-21 20:00 UTC);
        let wait = wait(began, 300);
        for (after, is_over) in [(0, false), (300, false), (359, false), (361, true), (90_000, true)] {
            assert_eq!(wait.is_over(began + Duration::seconds(after)), is_over, "{after} s later");
        }
    }

    #[test]
    fn no_event_ends_a_wait_that_has_hardly_begun() {
        let began = datetime!(2026-11-21 20:00 UTC);
        let wait = wait(began, 300);
        for (after, left) in [(0, 5), (2, 3), (5, 0), (600, 0), (-3, 5)] {
            assert_eq!(wait.seconds_too_early(began + Duration::seconds(after)), left, "{after} s later");
        }
    }
}
