//! What a step ends with when it does not end well, and how it becomes the `errorType` that the state machine sees.

use crate::aws::AwsError;
use aurora_restore_domain::failure::{ErrorName, Failure};
use std::error::Error;

/// A failure with its cause. `Display` is the whole message for people: the failure's sentences, then the causes.
#[derive(Debug)]
pub struct StepError {
    /// Name, what happened, what was left behind, what to do.
    pub failure: Failure,
    /// AWS's id of the request that failed.
    pub request_id: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StepError {
    /// A failure with the error that caused it.
    pub fn caused_by(failure: Failure, source: impl Error + Send + Sync + 'static) -> Self {
        Self { failure, request_id: None, source: Some(Box::new(source)) }
    }

    /// The name that Retry and Catch match.
    pub fn name(&self) -> ErrorName {
        self.failure.name
    }
}

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        Self { failure, request_id: None, source: None }
    }
}

impl From<AwsError> for StepError {
    fn from(error: AwsError) -> Self {
        let mut failure = Failure::new(error.name, error.to_string());
        failure.next = error.advice();
        Self { failure, request_id: error.request_id, source: None }
    }
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.failure.fmt(f)?;
        match &self.source {
            Some(source) => write!(f, " Cause: {}.", chain(source.as_ref())),
            None => Ok(()),
        }
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<StepError> for lambda_runtime::Diagnostic {
    fn from(error: StepError) -> Self {
        Self { error_type: error.name().to_string(), error_message: error.to_string() }
    }
}

/// An error and its causes, outermost first, joined by colons.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
