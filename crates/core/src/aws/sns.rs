//! SNS: tell the outcome.

use super::{AwsError, Called, aws_error, one_attempt};
use aurora_restore_domain::notification::Message;
use aws_config::SdkConfig;
use aws_sdk_sns::operation::RequestId;
use aws_sdk_sns::types::MessageAttributeValue;
use serde_json::json;

/// Publishes to topics.
#[derive(Debug, Clone)]
pub struct Topic(aws_sdk_sns::Client);

impl Topic {
    /// Topics of the configuration's Region.
    pub fn new(config: &SdkConfig) -> Self {
        let config = aws_sdk_sns::config::Builder::from(config).retry_config(one_attempt());
        Self(aws_sdk_sns::Client::from_conf(config.build()))
    }

    /// Publishes `message`: text to e-mail and SMS, JSON to programs (SQS, Lambda, HTTP). Returns the message id.
    ///
    /// # Errors
    /// Whatever SNS says.
    pub async fn publish(&self, arn: &str, environment: &str, message: &Message) -> Result<Called<String>, AwsError> {
        let machine = message.json.to_string();
        let body = json!({
            "default": message.text,
            "email": message.text,
            "sqs": machine,
            "lambda": machine,
            "http": machine,
            "https": machine,
        });
        let text = |value: &str| MessageAttributeValue::builder().data_type("String").string_value(value).build();
        let mut call = self.0.publish().topic_arn(arn).subject(&message.subject);
        call = call.message_structure("json").message(body.to_string());
        for (name, value) in [
            ("status", message.status.as_str()),
            ("environment", environment),
            ("target_cluster_id", message.target_cluster_id.as_str()),
        ] {
            // Both members are set, so the builder has nothing to refuse.
            if let Ok(value) = text(value) {
                call = call.message_attributes(name, value);
            }
        }
        let answer = call.send().await.map_err(|error| aws_error("sns:Publish", arn, error))?;
        let request_id = answer.request_id().map(str::to_owned);
        Ok(Called { value: answer.message_id.unwrap_or_default(), request_id })
    }
}
