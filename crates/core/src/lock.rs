//! The lock on a target, an item of the state table.

use crate::aws::aws_error;
use crate::error::StepError;
use crate::store::{Store, conflict, read};
use aurora_restore_domain::Instant;
use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::lock::{Lock, is_mine};
use aurora_restore_domain::operation::{Operation, lock_key};
use aurora_restore_domain::sabotage::Sabotage;
use aws_sdk_dynamodb::types::builders::{ConditionCheckBuilder, PutBuilder};
use aws_sdk_dynamodb::types::{self, AttributeValue, ConditionCheck};
use std::collections::HashMap;

impl Store {
    /// Reads the lock on `target` (`<region>#<cluster>`).
    ///
    /// # Errors
    /// What DynamoDB says.
    pub async fn lock(&self, target: &str) -> Result<Option<Lock>, StepError> {
        let key = lock_key(target);
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("operation_id", AttributeValue::S(key.clone()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| aws_error("dynamodb:GetItem", self.item(&key), error))?;
        answer.item.map(|item| read(item, &key)).transpose()
    }

    /// Takes the free lock on `target` for `operation`, over exactly the lock that was `seen`. Returns the new fencing
    /// number.
    ///
    /// # Errors
    /// `StateConflict` when someone else took it meanwhile; else what DynamoDB says.
    pub async fn take_lock(
        &self,
        target: &str,
        operation: &Operation,
        seen: Option<&Lock>,
        now: Instant,
    ) -> Result<u64, StepError> {
        let lock = Lock::taken(target, operation, seen, now);
        let mut call = self.client.put_item().table_name(&self.table).set_item(Some(lock_item(&lock)?));
        call = match seen {
            None => call.condition_expression("attribute_not_exists(operation_id)"),
            Some(seen) => call
                .condition_expression("fence = :fence")
                .expression_attribute_values(":fence", AttributeValue::N(seen.fence.to_string())),
        };
        call.send()
            .await
            .map_err(|error| conflict(aws_error("dynamodb:PutItem", self.item(&lock.operation_id), error)))?;
        Ok(lock.fence)
    }

    /// The write that takes a held lock over, over exactly the lock that was `seen`, for a transaction.
    pub(crate) fn taking_over(&self, lock: &Lock, seen: &Lock) -> Result<PutBuilder, StepError> {
        Ok(types::Put::builder()
            .table_name(&self.table)
            .set_item(Some(lock_item(lock)?))
            .condition_expression("fence = :fence AND held = :held")
            .expression_attribute_values(":fence", AttributeValue::N(seen.fence.to_string()))
            .expression_attribute_values(":held", AttributeValue::Bool(true)))
    }

    /// Checks that `operation` still has the lock that it took: an execution that was thought dead must not act.
    ///
    /// # Errors
    /// `TargetLocked` when it has not; else what DynamoDB says.
    pub async fn check_lock(&self, operation: &Operation) -> Result<(), StepError> {
        if Sabotage::ForgetFence.is_on() {
            return Ok(());
        }
        let Some(target) = &operation.target else { return Ok(()) };
        let lock = self.lock(target).await?;
        let mine = lock.as_ref().is_some_and(|lock| {
            is_mine(lock, &operation.operation_id, operation.execution_arn.as_deref())
                && Some(lock.fence) == operation.fence
        });
        if mine {
            return Ok(());
        }
        let owner = match lock.filter(|lock| lock.held) {
            Some(lock) => format!("operation {} holds it since {}", lock.owner, lock.taken_at),
            None => "nobody holds it".into(),
        };
        Err(Failure::new(
            ErrorName::TargetLocked,
            format!(
                "operation {} no longer has the lock on {}: {owner}",
                operation.operation_id,
                target.replace('#', " ")
            ),
        )
        .next("let the other operation end, then start again")
        .into())
    }

    /// The condition of a transaction that `operation` still has the lock that it took: its number is nobody else's.
    /// `None` for an operation that needs none.
    pub(crate) fn lock_condition(&self, operation: &Operation) -> Option<ConditionCheckBuilder> {
        if Sabotage::ForgetFence.is_on() {
            return None;
        }
        let target = operation.target.as_ref()?;
        // Numbers begin with 1: an operation that never took the lock has none.
        let fence = operation.fence.unwrap_or(0);
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .key("operation_id", AttributeValue::S(lock_key(target)))
            .condition_expression("fence = :fence AND held = :held")
            .expression_attribute_values(":fence", AttributeValue::N(fence.to_string()))
            .expression_attribute_values(":held", AttributeValue::Bool(true));
        Some(check)
    }

    /// Releases the lock that `operation` took, and nobody else's: by owner and execution, since a function that was killed
    /// after taking it could not record its number. The item stays, for the fencing number.
    ///
    /// # Errors
    /// What DynamoDB says.
    pub async fn release_lock(&self, operation: &Operation) -> Result<(), StepError> {
        if Sabotage::KeepLock.is_on() {
            return Ok(());
        }
        let Some(target) = &operation.target else { return Ok(()) };
        let key = lock_key(target);
        let call = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("operation_id", AttributeValue::S(key.clone()))
            .update_expression("SET held = :free")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":free", AttributeValue::Bool(false))
            .expression_attribute_values(":owner", AttributeValue::S(operation.operation_id.to_string()));
        let call = match (&operation.execution_arn, operation.fence) {
            (Some(arn), _) => call
                .condition_expression("#owner = :owner AND owner_execution_arn = :execution")
                .expression_attribute_values(":execution", AttributeValue::S(arn.clone())),
            (None, Some(fence)) => call
                .condition_expression("#owner = :owner AND fence = :fence")
                .expression_attribute_values(":fence", AttributeValue::N(fence.to_string())),
            (None, None) => return Ok(()),
        };
        let answer = call.send().await.map_err(|error| aws_error("dynamodb:UpdateItem", self.item(&key), error));
        match answer {
            Ok(_) => Ok(()),
            // Someone took it over: it is theirs now, which is what a release wants.
            Err(error) if error.is("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn lock_item(lock: &Lock) -> Result<HashMap<String, AttributeValue>, StepError> {
    serde_dynamo::to_item(lock)
        .map_err(|error| StepError::caused_by(Failure::new(ErrorName::Internal, "the lock cannot be written"), error))
}
