//! The audit table: append-only, one chain of records per operation. A write that fails fails the step.
//!
//! The end of each chain stands in the state table (`audit#<operation>`, the last record whole), and moves in one
//! transaction with the record that is appended: two functions at work at the same moment cannot append after the same
//! record, so a chain never forks. The audit table itself is only ever added to.

use crate::aws::{AwsError, aws_error};
use crate::clock::Clock;
use crate::error::StepError;
use crate::store::{Store, changed_meanwhile, read, refused_conditions};
use aurora_restore_domain::audit::{Entry, Record};
use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::ids::OperationId;
use aurora_restore_domain::operation::{EXPIRES_AFTER_SECONDS, Operation};
use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{self, AttributeValue, TransactWriteItem};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Tries to get a place in the chain; only another function writing for the same operation at the same time takes
/// one away.
const ATTEMPTS: usize = 8;

/// The audit table.
#[derive(Debug, Clone)]
pub struct Audit {
    store: Store,
    table: String,
    clock: Clock,
    /// The end of the chain that this function wrote to last: most often still its end, and a write says when not.
    end: Arc<Mutex<Option<Record>>>,
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
        Self { store, table: name.to_owned(), clock, end: Arc::default() }
    }

    /// Forgets the end of the chain, at the begin of an invocation: since the one before, others have written.
    pub fn forget_end(&self) {
        self.remember_end(None);
    }

    fn remember_end(&self, end: Option<Record>) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    fn known_end(&self, operation_id: &OperationId) -> Option<Record> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        end.filter(|end| end.operation_id == *operation_id)
    }

    /// Appends `entry` to the operation's chain. Returns the record.
    ///
    /// # Errors
    /// What DynamoDB says; `StateConflict` when others took the place every time.
    pub async fn append(&self, operation_id: &OperationId, entry: Entry) -> Result<Record, StepError> {
        self.write(operation_id, entry, Along::Nothing).await
    }

    /// Appends `entry` right after `last`, the end of the chain that the decision to append it rests on.
    ///
    /// # Errors
    /// `StateConflict` when something came in between; else as [`Audit::append`].
    pub async fn append_after(
        &self,
        operation_id: &OperationId,
        entry: Entry,
        last: Option<&Record>,
    ) -> Result<Record, StepError> {
        let record = self.next(operation_id, entry, last);
        match self.put(&record, last, Along::Nothing).await? {
            Put::Appended => {
                self.remember_end(Some(record.clone()));
                Ok(record)
            }
            Put::Taken => Err(written_by_others(operation_id)),
            Put::NotAlong(error) => Err(changed_meanwhile(error)),
        }
    }

    /// The record of `entry` after `last`.
    fn next(&self, operation_id: &OperationId, entry: Entry, last: Option<&Record>) -> Record {
        let previous = last.map(|record| (record.timestamp, record.hash.as_str()));
        let now = i64::try_from(self.clock.now().unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
        Record::chain(operation_id, entry, previous, now)
    }

    /// Appends `entry` to the operation's chain only while `operation` has the lock that it took, in one transaction
    /// with it.
    ///
    /// # Errors
    /// `TargetLocked` when it has not; else as [`Audit::append`].
    pub async fn append_under_lock(&self, operation: &Operation, entry: Entry) -> Result<Record, StepError> {
        self.write(&operation.operation_id, entry, Along::LockOf(operation)).await
    }

    /// Appends `entry` to the operation's chain in one transaction with `writes` to the state table: what is recorded
    /// is done, and what is done is recorded, once, wherever the function is killed.
    ///
    /// # Errors
    /// `StateConflict` when a condition of `writes` does not hold; else as [`Audit::append`].
    pub(crate) async fn append_with(
        &self,
        operation_id: &OperationId,
        entry: Entry,
        writes: Vec<PutBuilder>,
    ) -> Result<Record, StepError> {
        self.write(operation_id, entry, Along::Writes(&writes)).await
    }

    async fn write(&self, operation_id: &OperationId, entry: Entry, along: Along<'_>) -> Result<Record, StepError> {
        // Most often nothing came in between, and the end of the chain need not be read.
        let mut known = self.known_end(operation_id);
        for _ in 0..ATTEMPTS {
            let last = match known.take() {
                Some(known) => Some(known),
                None => self.last(operation_id).await?,
            };
            // A call whose end nobody recorded is closed first, so that every begun record has its finished one.
            let orphan = last.as_ref().and_then(|record| record.orphan(&entry));
            let is_orphan = orphan.is_some();
            let entry = orphan.unwrap_or_else(|| entry.clone());
            let record = self.next(operation_id, entry, last.as_ref());
            // The end of a call that nobody recorded brings nothing along that is written only once.
            let along = if is_orphan { along.of_orphan() } else { along };
            match self.put(&record, last.as_ref(), along).await? {
                Put::Appended if is_orphan => known = Some(record),
                Put::Appended => {
                    self.remember_end(Some(record.clone()));
                    return Ok(record);
                }
                // By others, also when they wrote the very same at the very same moment: DynamoDB knows a write of our own
                // whose answer was lost by the token that the SDK sends again with it.
                Put::Taken => {}
                Put::NotAlong(error) => match along {
                    // Says who has it; when it is back by now, the next attempt finds out.
                    Along::LockOf(owner) => self.store.check_lock(owner).await?,
                    Along::Nothing | Along::Writes(_) => return Err(changed_meanwhile(error)),
                },
            }
        }
        Err(written_by_others(operation_id))
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
        let end = head.map(|head| head.last);
        self.remember_end(end.clone());
        Ok(end)
    }

    /// Appends `record` after `last`.
    async fn put(&self, record: &Record, last: Option<&Record>, along: Along<'_>) -> Result<Put, StepError> {
        let key = head_key(&record.operation_id);
        let expires_at = self.clock.now().unix_timestamp() + EXPIRES_AFTER_SECONDS;
        let head = Head { operation_id: key.clone(), last: record.clone(), expires_at };
        let appended = types::Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(record)?))
            .condition_expression("attribute_not_exists(operation_id)");
        let mut moved = types::Put::builder().table_name(&self.store.table).set_item(Some(item(&head)?));
        moved = match last {
            None => moved.condition_expression("attribute_not_exists(operation_id)"),
            Some(last) => moved
                .condition_expression("#last.#hash = :hash")
                .expression_attribute_names("#last", "last")
                .expression_attribute_names("#hash", "hash")
                .expression_attribute_values(":hash", AttributeValue::S(last.hash.clone())),
        };
        let unwritable = |error| unwritable(&record.operation_id, error);
        let mut puts = vec![appended, moved];
        let mut check = None;
        match along {
            Along::Nothing => {}
            Along::LockOf(owner) => check = self.store.lock_condition(owner),
            Along::Writes(writes) => puts.extend(writes.iter().cloned()),
        }
        let mut items = Vec::with_capacity(4);
        for put in puts {
            items.push(TransactWriteItem::builder().put(put.build().map_err(unwritable)?).build());
        }
        if let Some(check) = check {
            items.push(TransactWriteItem::builder().condition_check(check.build().map_err(unwritable)?).build());
        }
        let Err(error) = self.store.client.transact_write_items().set_transact_items(Some(items)).send().await else {
            return Ok(Put::Appended);
        };
        let refused = error.as_service_error().map(refused_conditions).unwrap_or_default();
        let resource = format!("{}/{}", self.table, record.operation_id);
        let error = aws_error("dynamodb:TransactWriteItems", resource, error);
        match refused[..] {
            [_, _, ref along @ ..] if along.contains(&true) => Ok(Put::NotAlong(error)),
            [true, ..] | [_, true, ..] => Ok(Put::Taken),
            _ => Err(error.into()),
        }
    }
}

/// What goes along with a record, in its transaction.
#[derive(Debug, Clone, Copy)]
enum Along<'a> {
    Nothing,
    /// The condition that this operation has the lock that it took.
    LockOf(&'a Operation),
    /// Writes to the state table.
    Writes(&'a [PutBuilder]),
}

impl Along<'_> {
    /// What goes along with the end of a call that nobody recorded, before the record itself.
    fn of_orphan(self) -> Self {
        match self {
            Self::Nothing | Self::Writes(_) => Self::Nothing,
            Self::LockOf(owner) => Self::LockOf(owner),
        }
    }
}

/// How an attempt to append ended.
#[derive(Debug)]
enum Put {
    Appended,
    /// Someone else wrote at the same place.
    Taken,
    /// A condition of what goes along does not hold: the lock is not, or no longer, the operation's, or an item was
    /// changed meanwhile.
    NotAlong(AwsError),
}

fn written_by_others(operation_id: &OperationId) -> StepError {
    let what = format!("the audit trail of operation {operation_id} is being written by others");
    Failure::new(ErrorName::StateConflict, what).into()
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
