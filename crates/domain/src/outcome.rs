//! What a step answers to the state machine.

use crate::{ids::OperationId, request::Replacement, step::Step};
use serde::{Deserialize, Serialize};

/// The one field that a Choice of the state machine compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The step's goal holds.
    Done,
    /// Not yet; invoke again after `wait_seconds`.
    Waiting,
    /// Nothing had to be done.
    Skipped,
}

impl Outcome {
    /// As it is serialised.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Skipped => "skipped",
        }
    }
}

/// Output of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutput {
    /// The operation, input of the next step.
    pub operation_id: OperationId,
    /// The step that answered.
    pub step: Step,
    /// Where it stands.
    pub outcome: Outcome,
    /// Seconds until the next look; only with [`Outcome::Waiting`].
    pub wait_seconds: Option<u64>,
    /// What is being waited for, and how far it is.
    pub progress: Option<String>,
    /// Whose events may end the wait sooner, as the last part of an ARN: `cluster:staging`.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// How the target is replaced: a Choice leads around the swap. Always there, since Step Functions ends an execution
    /// whose Choice looks for what is not.
    #[serde(default)]
    pub replacement: Replacement,
    /// Facts for people; no step reads them.
    pub detail: serde_json::Value,
}
