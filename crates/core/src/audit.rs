//! The audit table: append-only, one chain of records per operation. A write that fails fails the step.

use crate::aws::{AwsError, aws_error};
use crate::clock::Clock;
use crate::error::StepError;
use crate::store::read;
use aurora_restore_domain::audit::{Entry, Record};
use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::ids::OperationId;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

/// Tries to get a place in the chain; only another function writing for the same operation at the same time takes
/// one away.
const ATTEMPTS: usize = 8;

/// The audit table.
#[derive(Debug, Clone)]
pub struct Audit {
    client: Client,
    table: String,
    clock: Clock,
}

impl Audit {
    /// The table `name`.
    pub fn new(config: &SdkConfig, name: &str, clock: Clock) -> Self {
        Self { client: Client::new(config), table: name.to_owned(), clock }
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
            match self.put(&record).await? {
                true if is_orphan => continue,
                true => return Ok(()),
                false => attempted = Some(record.hash),
            }
        }
        Err(Failure::new(
            ErrorName::StateConflict,
            format!("the audit trail of operation {operation_id} is being written by others"),
        )
        .into())
    }

    async fn last(&self, operation_id: &OperationId) -> Result<Option<Record>, StepError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("operation_id = :id")
            .expression_attribute_values(":id", AttributeValue::S(operation_id.to_string()))
            .scan_index_forward(false)
            .limit(1)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| aws_error("dynamodb:Query", self.item(operation_id), error))?;
        let item = answer.items.unwrap_or_default().into_iter().next();
        item.map(|item| read(item, operation_id.as_str())).transpose()
    }

    /// `false` when the place is taken.
    async fn put(&self, record: &Record) -> Result<bool, StepError> {
        let item = serde_dynamo::to_item(record).map_err(|error| {
            StepError::caused_by(Failure::new(ErrorName::Internal, "an audit record cannot be written"), error)
        })?;
        let answer: Result<_, AwsError> = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(operation_id)")
            .send()
            .await
            .map_err(|error| aws_error("dynamodb:PutItem", self.item(&record.operation_id), error));
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.is("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn item(&self, operation_id: &OperationId) -> String {
        format!("{}/{operation_id}", self.table)
    }
}
