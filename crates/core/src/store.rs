//! The state table: one item per operation, every write conditional on the version that was read.

use crate::aws::{AwsError, aws_error};
use crate::error::StepError;
use aurora_restore_domain::failure::{ErrorName, Failure};
use aurora_restore_domain::ids::OperationId;
use aurora_restore_domain::operation::Operation;
use aurora_restore_domain::{Instant, timestamp};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

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

    /// Writes an operation over the version that was read, and raises its version.
    ///
    /// # Errors
    /// `StateConflict` when someone else wrote meanwhile; else what DynamoDB says.
    pub async fn save(&self, operation: &mut Operation, now: Instant) -> Result<(), StepError> {
        let read = operation.version;
        let mut next = operation.clone();
        next.version = read + 1;
        next.updated_at = timestamp(now);
        self.put(&next, "version = :read", Some(read)).await?;
        *operation = next;
        Ok(())
    }

    async fn put(&self, operation: &Operation, condition: &str, read: Option<u64>) -> Result<(), StepError> {
        let id = operation.operation_id.as_str();
        let mut item: std::collections::HashMap<String, AttributeValue> =
            serde_dynamo::to_item(operation).map_err(|error| unreadable(id, "written", error))?;
        // A NULL key attribute of an index is refused by DynamoDB; an absent one leaves the item out of the index.
        item.retain(|_, value| !matches!(value, AttributeValue::Null(_)));
        let mut call =
            self.client.put_item().table_name(&self.table).set_item(Some(item)).condition_expression(condition);
        if let Some(read) = read {
            call = call.expression_attribute_values(":read", AttributeValue::N(read.to_string()));
        }
        call.send().await.map_err(|error| conflict(aws_error("dynamodb:PutItem", self.item(id), error)))?;
        Ok(())
    }

    pub(crate) fn item(&self, key: &str) -> String {
        format!("{}/{key}", self.table)
    }
}

/// Says what a failed condition means.
pub(crate) fn conflict(error: AwsError) -> StepError {
    if !error.is("ConditionalCheckFailedException") {
        return error.into();
    }
    let what = format!("{} was changed by someone else meanwhile", error.resource);
    StepError::caused_by(Failure::new(ErrorName::StateConflict, what), error)
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(
    item: std::collections::HashMap<String, AttributeValue>,
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
