//! Step Functions: is an execution over?

use super::{AwsError, aws_error};
use aws_config::SdkConfig;
use aws_sdk_sfn::types::ExecutionStatus;

/// Executions of one Region.
#[derive(Debug, Clone)]
pub struct Executions(aws_sdk_sfn::Client);

impl Executions {
    /// Executions of the configuration's Region.
    pub fn new(config: &SdkConfig) -> Self {
        Self(aws_sdk_sfn::Client::new(config))
    }

    /// Whether the execution will do nothing more; `None` for one that Step Functions does not know: it ended over 90
    /// days ago, or began a moment ago.
    ///
    /// # Errors
    /// Whatever else Step Functions says.
    #[allow(clippy::wildcard_enum_match_arm, reason = "ExecutionStatus is non-exhaustive")]
    pub async fn is_over(&self, arn: &str) -> Result<Option<bool>, AwsError> {
        let answer = self.0.describe_execution().execution_arn(arn).send().await;
        match answer.map_err(|error| aws_error("states:DescribeExecution", arn, error)) {
            Ok(execution) => Ok(Some(match execution.status {
                ExecutionStatus::Aborted
                | ExecutionStatus::Failed
                | ExecutionStatus::Succeeded
                | ExecutionStatus::TimedOut => true,
                // Running, waiting for a redrive, or something newer than this code: not known to be over.
                _ => false,
            })),
            Err(error) if error.is("ExecutionDoesNotExist") => Ok(None),
            Err(error) => Err(error),
        }
    }
}
