//! The edges to AWS: concrete SDK clients inside small structs that return domain values.

mod codes;
mod convert;
pub mod ec2;
mod error;
pub mod kms;
pub mod rds;
#[cfg(test)]
pub(crate) mod replay;
pub mod s3;
pub mod sfn;
mod signed;
pub mod sns;
mod token;

pub use error::{AwsError, aws_error};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use std::time::Duration;

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

/// The SDK's configuration: one TLS provider (ring), bounded waits, three attempts. Longer waits belong to the state
/// machine.
pub async fn sdk_config(region: &str) -> SdkConfig {
    let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(15))
        .operation_timeout(Duration::from_secs(50))
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .load()
        .await
}
