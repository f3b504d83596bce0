//! The state table: one item per operation, every write conditional on the version that was read, and, while the
//! operation holds its target's lock, on that lock.

use crate::aws::{AwsError, aws_error};
use crate::error::StepError;
use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::ids::OperationId;
use aurora_restore_domain::operation::{Operation, Status};
use aurora_restore_domain::{Instant, timestamp};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::{ConditionCheckBuilder, PutBuilder};
use aws_sdk_dynamodb::types::{self, AttributeValue, TransactWriteItem};
use std::collections::HashMap;

/// Operations that [`Store::recent`] answers: a month of nights.
const RECENT: i32 = 31;

/// The state table.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl Store {
    /// The table `name`.
    pub fn new(config: &SdkConfig, name: &str) -> Self {
        Self { client: Client::new(config), table: name.to_owned() }
    }

    /// Another table, through the same client.
    pub(crate) fn beside(&self, name: &str) -> Self {
        Self { client: self.client.clone(), table: name.to_owned() }
    }

    /// Reads an operation, strongly consistent.
    ///
    /// # Errors
    /// What DynamoDB says; `Internal` when the item cannot be read by this version.
    pub async fn find(&self, id: &OperationId) -> Result<Option<Operation>, StepError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("operation_id", AttributeValue::S(id.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| aws_error("dynamodb:GetItem", self.item(id.as_str()), error))?;
        answer.item.map(|item| read(item, id.as_str())).transpose()
    }

    /// Reads an operation that must be there.
    ///
    /// # Errors
    /// `InvalidRequest` when it is not; else as [`Store::find`].
    pub async fn load(&self, id: &OperationId) -> Result<Operation, StepError> {
        self.find(id).await?.ok_or_else(|| {
            Failure::new(
                ErrorName::InvalidRequest,
                format!("operation_id: got '{id}'; there is no such operation in {}", self.table),
            )
            .left("nothing was touched")
            .next("run preflight first; it makes the operation")
            .into()
        })
    }

    /// The latest operations on `target` (`<region>#<cluster>`), newest first; at most [`RECENT`]. From an index, so a
    /// write of the last seconds may be missing.
    ///
    /// # Errors
    /// What DynamoDB says; `Internal` when an item cannot be read by this version.
    pub async fn recent(&self, target: &str) -> Result<Vec<Operation>, StepError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by-target")
            .key_condition_expression("#target = :target")
            .expression_attribute_names("#target", "target")
            .expression_attribute_values(":target", AttributeValue::S(target.to_owned()))
            .scan_index_forward(false)
            .limit(RECENT)
            .send()
            .await
            .map_err(|error| aws_error("dynamodb:Query", self.item(&format!("by-target/{target}")), error))?;
        answer.items.unwrap_or_default().into_iter().map(|item| read(item, target)).collect()
    }

    /// Writes an operation that must not be there yet.
    ///
    /// # Errors
    /// `StateConflict` when it is; else what DynamoDB says.
    pub async fn create(&self, operation: &Operation) -> Result<(), StepError> {
        self.put(operation, "attribute_not_exists(operation_id)", None).await
    }

    /// Writes an operation over the version that was read, and raises its version. While it runs and holds the lock on
    /// its target, the write is conditional on that lock too: an execution that was thought dead writes nothing.
    ///
    /// # Errors
    /// `StateConflict` when someone else wrote meanwhile; `TargetLocked` when the lock is another's; else what DynamoDB
    /// says.
    pub async fn save(&self, operation: &mut Operation, now: Instant) -> Result<(), StepError> {
        let read = operation.version;
        let mut next = operation.clone();
        next.version = read + 1;
        next.updated_at = timestamp(now);
        self.put(&next, "version = :read", Some(read)).await?;
        *operation = next;
        Ok(())
    }

    /// The write of an operation that has ended over the version that was read, for a transaction.
    pub(crate) fn closing(&self, operation: &Operation, now: Instant) -> Result<PutBuilder, StepError> {
        let next = Operation { version: operation.version + 1, updated_at: timestamp(now), ..operation.clone() };
        Ok(types::Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(&next)?))
            .condition_expression("version = :read")
            .expression_attribute_values(":read", AttributeValue::N(operation.version.to_string())))
    }

    async fn put(&self, operation: &Operation, condition: &str, read: Option<u64>) -> Result<(), StepError> {
        let id = operation.operation_id.as_str();
        let item = item(operation)?;
        let values = read.map(|read| HashMap::from([(":read".to_owned(), AttributeValue::N(read.to_string()))]));
        let holds_lock = operation.status == Status::Running && operation.fence.is_some();
        match self.lock_condition(operation).filter(|_| holds_lock) {
            None => {
                let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
                let call = call.condition_expression(condition).set_expression_attribute_values(values);
                call.send().await.map_err(|error| conflict(aws_error("dynamodb:PutItem", self.item(id), error)))?;
                Ok(())
            }
            Some(lock) => {
                let put = types::Put::builder().table_name(&self.table).set_item(Some(item));
                let put = put.condition_expression(condition).set_expression_attribute_values(values);
                self.put_under_lock(operation, put, lock).await
            }
        }
    }

    async fn put_under_lock(
        &self,
        operation: &Operation,
        put: PutBuilder,
        lock: ConditionCheckBuilder,
    ) -> Result<(), StepError> {
        let id = operation.operation_id.as_str();
        let incomplete = |error| StepError::caused_by(Failure::new(ErrorName::Internal, format!("item {id}")), error);
        let items = [
            TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build(),
            TransactWriteItem::builder().condition_check(lock.build().map_err(incomplete)?).build(),
        ];
        let Err(error) = self.client.transact_write_items().set_transact_items(Some(items.into())).send().await else {
            return Ok(());
        };
        let refused = error.as_service_error().map(refused_conditions).unwrap_or_default();
        // Says who has it; when it is back by now, the step is repeated.
        if refused.get(1) == Some(&true) {
            self.check_lock(operation).await?;
        }
        let error = aws_error("dynamodb:TransactWriteItems", self.item(id), error);
        match refused.contains(&true) {
            true => Err(changed_meanwhile(error)),
            false => Err(error.into()),
        }
    }

    pub(crate) fn item(&self, key: &str) -> String {
        format!("{}/{key}", self.table)
    }
}

fn item(operation: &Operation) -> Result<HashMap<String, AttributeValue>, StepError> {
    let mut item: HashMap<String, AttributeValue> = serde_dynamo::to_item(operation)
        .map_err(|error| unreadable(operation.operation_id.as_str(), "written", error))?;
    // A NULL key attribute of an index is refused by DynamoDB; an absent one leaves the item out of the index. Below the
    // top they only make the item longer, which every write pays for.
    without_nulls(&mut item);
    Ok(item)
}

fn without_nulls(item: &mut HashMap<String, AttributeValue>) {
    item.retain(|_, value| !matches!(value, AttributeValue::Null(_)));
    for value in item.values_mut() {
        if let AttributeValue::M(inner) = value {
            without_nulls(inner);
        }
    }
}

/// Which items of a cancelled transaction were refused by their condition, or by somebody's write at the same moment.
pub(crate) fn refused_conditions(error: &TransactWriteItemsError) -> Vec<bool> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else { return vec![] };
    let is_refused = |code: Option<&str>| matches!(code, Some("ConditionalCheckFailed" | "TransactionConflict"));
    cancelled.cancellation_reasons().iter().map(|reason| is_refused(reason.code())).collect()
}

/// Says what a failed condition means.
pub(crate) fn conflict(error: AwsError) -> StepError {
    match error.is("ConditionalCheckFailedException") {
        true => changed_meanwhile(error),
        false => error.into(),
    }
}

pub(crate) fn changed_meanwhile(error: AwsError) -> StepError {
    let what = format!("{} was changed by someone else meanwhile", error.resource);
    StepError::caused_by(Failure::new(ErrorName::StateConflict, what), error)
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(
    item: HashMap<String, AttributeValue>,
    key: &str,
) -> Result<T, StepError> {
    serde_dynamo::from_item(item).map_err(|error| unreadable(key, "read", error))
}

fn unreadable(key: &str, verb: &str, error: serde_dynamo::Error) -> StepError {
    let failure = Failure::new(ErrorName::Internal, format!("item {key} cannot be {verb} by this version"))
        .next("deploy the version that wrote it, or report this as a defect");
    StepError::caused_by(failure, error)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
