//! KMS: is a key there and enabled?

use super::{AwsError, aws_error};
use aurora_restore_domain::cloud::Key;
use aws_config::SdkConfig;

/// Keys of one Region.
#[derive(Debug, Clone)]
pub struct Kms(aws_sdk_kms::Client);

impl Kms {
    /// Keys of the configuration's Region.
    pub fn new(config: &SdkConfig) -> Self {
        Self(aws_sdk_kms::Client::new(config))
    }

    /// The key, by id, alias or ARN; `None` when it does not exist in this Region.
    ///
    /// # Errors
    /// Whatever else KMS says.
    pub async fn key(&self, id: &str) -> Result<Option<Key>, AwsError> {
        let answer = self.0.describe_key().key_id(id).send().await;
        match answer.map_err(|error| aws_error("kms:DescribeKey", id, error)) {
            Ok(answer) => Ok(answer.key_metadata.map(|key| Key {
                arn: key.arn.unwrap_or_default(),
                state: key.key_state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
            })),
            Err(error) if error.is("NotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }
}
