//! The audit table: append-only, one chain of records per operation. A write that fails fails the step.
//!
//! The end of each chain stands in the state table (`audit#<operation>`, the last record whole), and moves in one
//! transaction with the record that is appended: two functions at work at the same moment cannot append after the same
//! record, so a chain never forks. The audit table itself is only ever added to.

use crate::aws::aws_error;
use crate::clock::Clock;
use crate::error::StepError;
use crate::store::{Store, read};
use aurora_restore_domain::audit::{Entry, Record};
use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::ids::OperationId;
use aurora_restore_domain::operation::EXPIRES_AFTER_SECONDS;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Tries to get a place in the chain; only another function writing for the same operation at the same time takes
/// one away.
const ATTEMPTS: usize = 8;

/// The audit table.
#[derive(Debug, Clone)]
pub struct Audit {
    store: Store,
    table: String,
    clock: Clock,
}

/// The end of a chain, an item of the state table.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// Partition key, `audit#<operation>`.
    operation_id: String,
    last: Record,
    /// TTL, as the operation's own.
    expires_at: i64,
}

impl Audit {
    /// The table `name`, with the ends of its chains in `store`.
    pub fn new(store: Store, name: &str, clock: Clock) -> Self {
        Self { store, table: name.to_owned(), clock }
    }

    /// Appends `entry` to the operation's chain.
    ///
    /// # Errors
    /// What DynamoDB says; `StateConflict` when others took the place every time.
    pub async fn append(&self, operation_id: &OperationId, entry: Entry) -> Result<(), StepError> {
        let mut attempted: Option<String> = None;
        for _ in 0..ATTEMPTS {
            let last = self.last(operation_id).await?;
            // The place was taken by our own write, whose answer was lost.
            if last.as_ref().is_some_and(|record| Some(&record.hash) == attempted.as_ref()) {
                return Ok(());
            }
            // A call whose end nobody recorded is closed first, so that every begun record has its finished one.
            let orphan = last.as_ref().and_then(|record| record.orphan(&entry));
            let is_orphan = orphan.is_some();
            let entry = orphan.unwrap_or_else(|| entry.clone());
            let previous = last.as_ref().map(|record| (record.timestamp, record.hash.as_str()));
            let now = i64::try_from(self.clock.now().unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
            let record = Record::chain(operation_id, entry, previous, now);
            match self.put(&record, last.as_ref()).await? {
                true if is_orphan => continue,
                true => return Ok(()),
                false if is_orphan => continue,
                false => attempted = Some(record.hash),
            }
        }
        Err(Failure::new(
            ErrorName::StateConflict,
            format!("the audit trail of operation {operation_id} is being written by others"),
        )
        .into())
    }

    /// The end of the operation's chain.
    ///
    /// # Errors
    /// What DynamoDB says.
    pub async fn last(&self, operation_id: &OperationId) -> Result<Option<Record>, StepError> {
        let key = head_key(operation_id);
        let answer = self
            .store
            .client
            .get_item()
            .table_name(&self.store.table)
            .key("operation_id", AttributeValue::S(key.clone()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| aws_error("dynamodb:GetItem", self.store.item(&key), error))?;
        let head: Option<Head> = answer.item.map(|item| read(item, &key)).transpose()?;
        Ok(head.map(|head| head.last))
    }

    /// Appends `record` after `last`; `false` when something else stands there meanwhile.
    async fn put(&self, record: &Record, last: Option<&Record>) -> Result<bool, StepError> {
        let key = head_key(&record.operation_id);
        let expires_at = self.clock.now().unix_timestamp() + EXPIRES_AFTER_SECONDS;
        let head = Head { operation_id: key.clone(), last: record.clone(), expires_at };
        let appended = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(record)?))
            .condition_expression("attribute_not_exists(operation_id)");
        let mut moved = Put::builder().table_name(&self.store.table).set_item(Some(item(&head)?));
        moved = match last {
            None => moved.condition_expression("attribute_not_exists(operation_id)"),
            Some(last) => moved
                .condition_expression("#last.#hash = :hash")
                .expression_attribute_names("#last", "last")
                .expression_attribute_names("#hash", "hash")
                .expression_attribute_values(":hash", AttributeValue::S(last.hash.clone())),
        };
        let mut call = self.store.client.transact_write_items();
        for put in [appended, moved] {
            let put = put.build().map_err(|error| unwritable(&record.operation_id, error))?;
            call = call.transact_items(TransactWriteItem::builder().put(put).build());
        }
        match call.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(is_taken) => Ok(false),
            Err(error) => {
                let resource = format!("{}/{}", self.table, record.operation_id);
                Err(aws_error("dynamodb:TransactWriteItems", resource, error).into())
            }
        }
    }
}

/// Whether a transaction was cancelled because someone else wrote at the same place.
fn is_taken(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else { return false };
    let mut reasons = cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code());
    reasons.any(|code| matches!(code, "ConditionalCheckFailed" | "TransactionConflict"))
}

fn head_key(operation_id: &OperationId) -> String {
    format!("audit#{operation_id}")
}

fn item<T: Serialize>(value: &T) -> Result<HashMap<String, AttributeValue>, StepError> {
    serde_dynamo::to_item(value).map_err(|error| {
        StepError::caused_by(Failure::new(ErrorName::Internal, "an audit record cannot be written"), error)
    })
}

fn unwritable(operation_id: &OperationId, error: impl std::error::Error + Send + Sync + 'static) -> StepError {
    let what = format!("an audit record of operation {operation_id} cannot be written");
    StepError::caused_by(Failure::new(ErrorName::Internal, what), error)
}
