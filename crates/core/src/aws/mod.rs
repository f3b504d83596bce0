//! The edges to AWS: concrete SDK clients inside small structs that return domain values.

mod codes;
mod convert;
pub mod ec2;
mod error;
pub mod kms;
mod pace;
pub mod rds;
#[cfg(test)]
pub(crate) mod replay;
pub mod s3;
mod sdk;
pub mod sfn;
mod signed;
pub mod sns;
mod token;

pub use error::{AwsError, aws_error};
pub use pace::Pace;
pub use sdk::sdk_config;

use aws_smithy_types::retry::RetryConfig;

/// What a mutating call answered: the value and AWS's id of the request, for the audit trail.
#[derive(Debug)]
pub struct Called<T> {
    /// The answer.
    pub value: T,
    /// `x-amzn-RequestId`.
    pub request_id: Option<String>,
}

/// The configuration for calls that change something: one attempt. When an answer is lost, the SDK's second attempt would
/// meet the effect of its first ("already exists", "not found") and take it for somebody else's; a step that is repeated
/// by the state machine looks first, and takes over what is its own.
pub(crate) fn one_attempt() -> RetryConfig {
    RetryConfig::disabled()
}
