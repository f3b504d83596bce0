//! Step Functions: is an execution over? And what ends a wait of one.

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

    /// Ends the wait that `task_token` stands for; `false` when it was over before.
    ///
    /// # Errors
    /// Whatever else Step Functions says.
    pub async fn wake(&self, task_token: &str) -> Result<bool, AwsError> {
        let answer = self.0.send_task_success().task_token(task_token).output("{}").send().await;
        match answer.map_err(|error| aws_error("states:SendTaskSuccess", "the token of a wait", error)) {
            Ok(_) => Ok(true),
            Err(error) if ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"].iter().any(|code| error.is(code)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::replay::Wire;
    use aurora_restore_domain::failure::ErrorName;

    #[tokio::test]
    async fn a_wait_that_is_over_is_no_error_and_a_missing_right_is_one() {
        let error =
            |code: &str| format!(r#"{{"__type":"com.amazonaws.swf.service.v2.model#{code}","message":"said so"}}"#);
        let over = ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"].map(error);
        let denied = error("AccessDeniedException");
        let wire = Wire::new([
            (200, "{}"),
            (400, over[0].as_str()),
            (400, over[1].as_str()),
            (400, over[2].as_str()),
            (400, denied.as_str()),
        ]);
        let executions = Executions::new(&wire.config());
        assert!(executions.wake("token-1").await.unwrap());
        assert_eq!(wire.asked(), [r#"{"taskToken":"token-1","output":"{}"}"#]);
        for _ in over {
            assert!(!executions.wake("token-1").await.unwrap());
        }
        assert_eq!(executions.wake("token-1").await.unwrap_err().name, ErrorName::AccessDenied);
    }
}
