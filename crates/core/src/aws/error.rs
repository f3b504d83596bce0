//! One error type for all AWS calls: it names the call, the object and AWS's own words.

use super::codes;
use crate::error::chain;
use aurora_restore_domain::failure::ErrorName;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::fmt;

/// A call to AWS that failed.
#[derive(Debug)]
pub struct AwsError {
    /// What it means to the state machine.
    pub name: ErrorName,
    /// `service:Action`, as in a policy.
    pub action: &'static str,
    /// The object it was about.
    pub resource: String,
    /// AWS's error code; `None` when no answer came.
    pub code: Option<String>,
    /// AWS's message, or what went wrong on the way.
    pub message: String,
    /// AWS's id of the request.
    pub request_id: Option<String>,
}

impl AwsError {
    /// Whether AWS answered with exactly this code. "Not found" and "already exists" are observations for a decision,
    /// never successes by themselves.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// An answer that is not what the service's documentation says.
    pub(crate) fn unreadable(action: &'static str, resource: String, error: &dyn std::error::Error) -> Self {
        let message = format!("the answer cannot be read: {}", chain(error));
        Self { name: ErrorName::ServiceUnavailable, action, resource, code: None, message, request_id: None }
    }

    /// What a person can do about it, where the code says that.
    pub fn advice(&self) -> Option<String> {
        let Self { action, resource, .. } = self;
        match self.name {
            ErrorName::AccessDenied => {
                Some(format!("allow {action} on {resource} for the role of this function, then start again"))
            }
            ErrorName::KmsKeyUnusable => Some(
                "check that the KMS key is enabled and that its policy lets this function's role use it \
                 (kms:DescribeKey, kms:CreateGrant, kms:Decrypt, kms:GenerateDataKey*), in its own Region"
                    .into(),
            ),
            ErrorName::QuotaExceeded => {
                Some("wait until others are done, remove what is no longer needed, or have the limit raised".into())
            }
            ErrorName::Throttled
            | ErrorName::ServiceUnavailable
            | ErrorName::StateConflict
            | ErrorName::DatabaseUnreachable
            | ErrorName::InvalidRequest
            | ErrorName::SnapshotNotFound
            | ErrorName::TargetLocked
            | ErrorName::RefusedUnsafe
            | ErrorName::ResourceConflict
            | ErrorName::ResourceFailed
            | ErrorName::DeadlineExceeded
            | ErrorName::SecretInvalid
            | ErrorName::DatabaseRejected
            | ErrorName::VerificationFailed
            | ErrorName::SwapFailed
            | ErrorName::Internal => None,
        }
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} failed: ", self.action, self.resource)?;
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(self.message.trim_end_matches('.'))?;
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AwsError {}

/// Turns an SDK error of `action` on `resource` into ours.
#[allow(clippy::wildcard_enum_match_arm, reason = "SdkError is non-exhaustive")]
pub fn aws_error<E>(action: &'static str, resource: impl Into<String>, error: SdkError<E, HttpResponse>) -> AwsError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let request_id = error.raw_response().and_then(|raw| raw.headers().get("x-amzn-requestid")).map(str::to_owned);
    let (name, code, message) = match &error {
        SdkError::ServiceError(service) => {
            let meta = service.err();
            let code = meta.code().unwrap_or("unknown").to_owned();
            let name = match (codes::name_of(&code), service.raw().status().as_u16()) {
                // A server-side error with a code that we do not know is still the server's.
                (ErrorName::Internal, 500..=599) => ErrorName::ServiceUnavailable,
                (name, _) => name,
            };
            (name, Some(code), meta.message().unwrap_or("no message").to_owned())
        }
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            (ErrorName::ServiceUnavailable, None, chain(&error))
        }
        // What is left are requests that could not be made.
        _ => (ErrorName::Internal, None, chain(&error)),
    };
    AwsError { name, action, resource: resource.into(), code, message, request_id }
}
