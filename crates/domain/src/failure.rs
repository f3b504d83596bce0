//! The names a failure can have, and what it tells the person who reads it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The `errorType` that the state machine's Retry and Catch match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorName {
    /// AWS asked us to slow down.
    Throttled,
    /// AWS or the network did not answer properly.
    ServiceUnavailable,
    /// Another writer changed the operation or the lock meanwhile, or the resource is busy for now.
    StateConflict,
    /// The database did not accept a connection.
    DatabaseUnreachable,
    /// A limit of the account is reached; it frees itself or has to be raised.
    QuotaExceeded,
    /// The request, the settings or the secrets are wrong.
    InvalidRequest,
    /// No such snapshot.
    SnapshotNotFound,
    /// Another operation holds the target.
    TargetLocked,
    /// A guard refused, because going on could lose something.
    RefusedUnsafe,
    /// A right is missing.
    AccessDenied,
    /// A KMS key is disabled, gone or out of reach.
    KmsKeyUnusable,
    /// Something that is not ours has a name that we need, or a resource is not in the state it must be in.
    ResourceConflict,
    /// AWS gave up on a resource, or someone removed it under us.
    ResourceFailed,
    /// A step took longer than its bound.
    DeadlineExceeded,
    /// A secret changed to something unusable after preflight had read it.
    SecretInvalid,
    /// The database refused a login or a statement.
    DatabaseRejected,
    /// A check of the restored database did not pass.
    VerificationFailed,
    /// The restored cluster could not take the target's name.
    SwapFailed,
    /// A defect of this tool or of its deployment.
    Internal,
}

impl ErrorName {
    /// Every name, transient ones first.
    pub const ALL: [ErrorName; 19] = [
        ErrorName::Throttled,
        ErrorName::ServiceUnavailable,
        ErrorName::StateConflict,
        ErrorName::DatabaseUnreachable,
        ErrorName::QuotaExceeded,
        ErrorName::InvalidRequest,
        ErrorName::SnapshotNotFound,
        ErrorName::TargetLocked,
        ErrorName::RefusedUnsafe,
        ErrorName::AccessDenied,
        ErrorName::KmsKeyUnusable,
        ErrorName::ResourceConflict,
        ErrorName::ResourceFailed,
        ErrorName::DeadlineExceeded,
        ErrorName::SecretInvalid,
        ErrorName::DatabaseRejected,
        ErrorName::VerificationFailed,
        ErrorName::SwapFailed,
        ErrorName::Internal,
    ];

    /// Whether the state machine repeats the step by itself.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Throttled
            | Self::ServiceUnavailable
            | Self::StateConflict
            | Self::DatabaseUnreachable
            | Self::QuotaExceeded => true,
            Self::InvalidRequest
            | Self::SnapshotNotFound
            | Self::TargetLocked
            | Self::RefusedUnsafe
            | Self::AccessDenied
            | Self::KmsKeyUnusable
            | Self::ResourceConflict
            | Self::ResourceFailed
            | Self::DeadlineExceeded
            | Self::SecretInvalid
            | Self::DatabaseRejected
            | Self::VerificationFailed
            | Self::SwapFailed
            | Self::Internal => false,
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A failure as a person reads it: what happened to which object, what was left behind, what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The name that the state machine matches.
    pub name: ErrorName,
    /// What happened to which object; a sentence without its full stop.
    pub what: String,
    /// What is left behind because of it; `None` when the step's own position says it.
    pub left_behind: Option<String>,
    /// What a person can do; `None` when repeating is all there is to do.
    pub next: Option<String>,
}

impl Failure {
    /// A failure that says what happened.
    pub fn new(name: ErrorName, what: impl Into<String>) -> Self {
        Self { name, what: what.into(), left_behind: None, next: None }
    }

    /// Adds what is left behind.
    pub fn left(mut self, left_behind: impl Into<String>) -> Self {
        self.left_behind = Some(left_behind.into());
        self
    }

    /// Adds what to do next.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what.trim_end_matches('.'))?;
        f.write_str(".")?;
        if let Some(left) = &self.left_behind {
            write!(f, " Left behind: {}.", left.trim_end_matches('.'))?;
        }
        if let Some(next) = &self.next {
            write!(f, " Next: {}.", next.trim_end_matches('.'))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_sentences() {
        let failure = Failure::new(ErrorName::ResourceFailed, "snapshot copy c-1 is failed")
            .left("the target cluster was not touched")
            .next("delete the copy and start again");
        assert_eq!(
            failure.to_string(),
            "snapshot copy c-1 is failed. Left behind: the target cluster was not touched. Next: delete the copy and start again."
        );
    }

    #[test]
    fn names_serialise_as_the_state_machine_matches_them() {
        for name in ErrorName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.to_string());
        }
    }
}
