//! One operation: everything a restore knows of itself, as it stands in the state table.

use crate::failure::Failure;
use crate::ids::OperationId;
use crate::outcome::Outcome;
use crate::phase::{Phase, PhaseState, known_phases};
use crate::plan::{ClusterSettings, Plan};
use crate::request::{InstanceSpec, Request};
use crate::step::Step;
use crate::swap::SwapState;
use crate::{Instant, timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How long an operation stays in the state table after its start, in seconds: 400 days, so that an auditor finds a
/// year of them.
pub const EXPIRES_AFTER_SECONDS: i64 = 400 * 24 * 3600;

/// Executions that an operation remembers: a state item is read with every step.
const FORMER_EXECUTIONS_KEPT: usize = 5;

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Under way.
    Running,
    /// Restored and verified.
    Succeeded,
    /// Ended with `error`.
    Failed,
    /// Stopped by a person.
    Aborted,
    /// `plan_only`: planned, nothing touched.
    Planned,
}

impl Status {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Planned => "planned",
        }
    }
}

/// The state item. Times are RFC 3339 in UTC ([`timestamp`]). Fields added later must have a default: an execution
/// can outlive a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Partition key.
    pub operation_id: OperationId,
    /// Every write is conditional on the version that was read, and raises it by one.
    pub version: u64,
    /// Where it stands.
    pub status: Status,
    /// The step under way or ended last.
    pub step: Step,
    /// The execution that drives it; `None` when its steps are invoked by hand.
    pub execution_arn: Option<String>,
    /// Fencing number of the lock it holds.
    pub fence: Option<u64>,
    /// `<region>#<cluster>`; partition key of an index.
    pub target: Option<String>,
    /// `<region>#<cluster>`
    pub source: Option<String>,
    /// What was asked; `None` when the request could not be read.
    pub request: Option<Request>,
    /// What preflight decided.
    pub plan: Option<Plan>,
    /// The snapshot that is restored from.
    pub copy: Option<CopyState>,
    /// The cluster that was replaced.
    pub replaced: Option<Replaced>,
    /// The restored cluster.
    pub cluster: Option<ClusterState>,
    /// How far the swap of names has come; `None` as long as it has not been looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapState>,
    /// How long the target's name led to no cluster that lets its users in: until the restored one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_seconds: Option<u64>,
    /// The masking scripts that have run.
    #[serde(default)]
    pub masking: Option<MaskingState>,
    /// What setup-db-users did.
    pub users: Option<UsersState>,
    /// What verify-restore found.
    pub verification: Option<Verification>,
    /// What archive-snapshot did.
    pub archive: Option<ArchiveState>,
    /// How the outcome was told.
    pub notification: Option<NotificationState>,
    /// Why it failed.
    pub error: Option<FailedStep>,
    /// The executions that drove it before and failed, the latest last.
    #[serde(default)]
    pub former: Vec<FormerExecution>,
    /// Per step.
    #[serde(default)]
    pub timings: BTreeMap<String, Timing>,
    /// What RDS was at while it waited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "known_phases")]
    pub phases: BTreeMap<Phase, PhaseState>,
    /// First invocation of preflight.
    pub started_at: String,
    /// Last write.
    pub updated_at: String,
    /// When the outcome was known.
    pub finished_at: Option<String>,
    /// TTL, epoch seconds.
    pub expires_at: i64,
}

/// The snapshot in the target Region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyState {
    /// Identifier to restore from.
    pub snapshot_id: String,
    /// Its ARN.
    pub arn: String,
    /// Last status seen.
    pub status: String,
    /// Whether this operation made it; `false` for a restore within one Region.
    pub made_by_us: bool,
    /// Last `PercentProgress` seen.
    pub percent_progress: Option<u8>,
}

/// What is remembered of the replaced cluster, written before its deletion begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// ARN.
    pub arn: String,
    /// Engine and version, for a restore by hand.
    pub engine: String,
    /// Engine version.
    pub engine_version: String,
    /// Its settings.
    pub settings: ClusterSettings,
    /// Its instances, writer first.
    pub instances: Vec<InstanceSpec>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its final snapshot; `None` when declined.
    pub final_snapshot_id: Option<String>,
    /// Whether it was gone when last looked at.
    pub gone: bool,
    /// `DbClusterResourceId`.
    #[serde(default)]
    pub resource_id: String,
    /// When this operation turned deletion protection off, written before the call.
    #[serde(default)]
    pub protection_off_at: Option<String>,
    /// When this operation called `DeleteDBCluster`, written before the call.
    #[serde(default)]
    pub deletion_called_at: Option<String>,
    /// When this operation took the first thing away that serves its users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<String>,
    /// Whether its deletion protection was turned on again after that, because the operation stopped before deleting it.
    #[serde(default)]
    pub protected_again: bool,
}

/// The restored cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// ARN.
    pub arn: String,
    /// Last status seen.
    pub status: String,
    /// Writer endpoint.
    pub endpoint: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Instance ids, writer first.
    pub instances: Vec<String>,
    /// When the master password was set to the secret's value, or RDS was asked to make one.
    pub master_password_reset_at: Option<String>,
    /// Whether the master's sessions have ended that were opened before that, with the password that the snapshot brought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub former_sessions_ended: bool,
    /// ARN of RDS's secret, when RDS manages the master password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_user_secret_arn: Option<String>,
    /// When a login first worked.
    pub ready_at: Option<String>,
}

/// The masking scripts that have run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskingState {
    /// In the order in which they ran.
    pub scripts: Vec<MaskedScript>,
    /// Whether all of them have.
    pub done: bool,
    /// Declared logins that were locked for it, MySQL's as `user@host`: one that is declared no more has nobody else to tell of it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub closed: BTreeSet<String>,
}

/// A masking script that has run, in a transaction of its own that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedScript {
    /// Its path below where the scripts are.
    pub name: String,
    /// Of its text.
    pub sha256: String,
    /// Where it ran.
    pub database: String,
    /// How many it has; `None` when an earlier function ran it and could not tell.
    pub statements: Option<u64>,
    /// RFC 3339.
    pub finished_at: String,
}

/// What setup-db-users did. No passwords, no verifiers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsersState {
    /// Databases worked on.
    pub databases: Vec<String>,
    /// The declared users.
    pub declared: Vec<DeclaredState>,
    /// Inherited logins that can no longer log in.
    pub locked: Vec<String>,
    /// Inherited logins that were found and left, with `report` or `keep`.
    #[serde(default)]
    pub left: Vec<String>,
    /// Changes made by the last run, one sentence each.
    pub changes: Vec<String>,
    /// What could not be done as usual.
    pub notes: Vec<String>,
}

/// A declared user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredState {
    /// Key in the secret, for instance `readonly_user`.
    pub key: String,
    /// Role name in the database.
    pub role: String,
    /// `read-write`, `read-only`, `devops` or `custom`.
    pub profile: String,
    /// Whether the request limits it to databases or schemas, which stand there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
    /// Whether it logs in with IAM tokens and has no password.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub iam: bool,
}

/// What verify-restore found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether every check passed.
    pub passed: bool,
    /// Each check.
    pub checks: Vec<CheckState>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckState {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub passed: bool,
    /// What was seen; never row data but a check's own answer.
    pub value: String,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// What archive-snapshot did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveState {
    /// The copy tagged as archived; `None` when there is none of ours.
    pub archived: Option<String>,
    /// Copies removed by retention.
    pub removed: Vec<String>,
    /// Our copies of this source that stay.
    pub kept: Vec<String>,
    /// Copies that retention wanted to remove and could not, each with the reason: told with the success.
    #[serde(default)]
    pub failed: Vec<String>,
}

/// How the outcome was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationState {
    /// Written before publishing.
    pub begun_at: String,
    /// Written after publishing.
    pub published_at: Option<String>,
    /// Id of the SNS message.
    pub message_id: Option<String>,
    /// The outcome told.
    pub outcome: Status,
}

/// An execution that drove the operation before another went on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerExecution {
    /// Its ARN; `None` when the steps were invoked by hand.
    pub execution_arn: Option<String>,
    /// Why it failed.
    pub error: Option<FailedStep>,
    /// How its end was told: it may be about to tell it when another takes over.
    pub notification: Option<NotificationState>,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    /// The step.
    pub step: Step,
    /// The name, as the state machine saw it.
    pub name: String,
    /// What happened, what was left behind, what to do next.
    pub message: String,
}

/// When a step ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// First invocation.
    pub started_at: String,
    /// When it was done.
    pub finished_at: Option<String>,
    /// Invocations so far.
    pub invocations: u64,
    /// Last outcome.
    pub outcome: Option<Outcome>,
}

impl Operation {
    /// A new operation that is about to run preflight.
    pub fn new(operation_id: OperationId, execution_arn: Option<String>, now: Instant) -> Self {
        Self {
            operation_id,
            version: 0,
            status: Status::Running,
            step: Step::Preflight,
            execution_arn,
            fence: None,
            target: None,
            source: None,
            request: None,
            plan: None,
            copy: None,
            replaced: None,
            cluster: None,
            swap: None,
            downtime_seconds: None,
            masking: None,
            users: None,
            verification: None,
            archive: None,
            notification: None,
            error: None,
            former: vec![],
            timings: BTreeMap::new(),
            phases: BTreeMap::new(),
            started_at: timestamp(now),
            updated_at: timestamp(now),
            finished_at: None,
            expires_at: now.unix_timestamp() + EXPIRES_AFTER_SECONDS,
        }
    }

    /// The executions that drove it so far, this one last; those of long ago are in the audit trail.
    pub fn executions_so_far(&self) -> Vec<FormerExecution> {
        let this = FormerExecution {
            execution_arn: self.execution_arn.clone(),
            error: self.error.clone(),
            notification: self.notification.clone(),
        };
        let mut all: Vec<_> = self.former.iter().cloned().chain([this]).collect();
        all.drain(..all.len().saturating_sub(FORMER_EXECUTIONS_KEPT));
        all
    }

    /// The request and the plan, which every step after preflight needs.
    ///
    /// # Errors
    /// `ResourceConflict` when preflight has not recorded them.
    pub fn planned(&self) -> Result<(&Request, &Plan), Failure> {
        match (&self.request, &self.plan) {
            (Some(request), Some(plan)) => Ok((request, plan)),
            _ => Err(Failure::new(
                crate::failure::ErrorName::ResourceConflict,
                format!("operation {} has no recorded plan", self.operation_id),
            )
            .next("run preflight for it first")),
        }
    }

    /// Name of the restored cluster as far as is known: names move in a swap.
    pub fn restored_name(&self) -> Option<String> {
        let seen = self.cluster.as_ref().and_then(|state| Some(state.arn.rsplit_once(":cluster:")?.1.to_owned()));
        seen.or_else(|| {
            let (request, plan) = (self.request.as_ref()?, self.plan.as_ref()?);
            Some(plan.made_as(&request.target_cluster_id).to_string())
        })
    }

    /// Notes how long the target was away: from `since` until now, when it lets people in again.
    pub fn is_up_again(&mut self, since: Option<&str>, now: Instant) {
        let since = since.and_then(crate::parse_timestamp);
        self.downtime_seconds = self.downtime_seconds.or(since.map(|since| crate::seconds_between(since, now)));
    }

    /// Marks the begin of `step`; `true` when this is its first invocation or the first after another step.
    pub fn begin_step(&mut self, step: Step, now: Instant) -> bool {
        let first = !self.timings.contains_key(step.as_str()) || self.step != step;
        self.step = step;
        let timing = self.timings.entry(step.as_str().to_owned()).or_insert_with(|| Timing {
            started_at: timestamp(now),
            finished_at: None,
            invocations: 0,
            outcome: None,
        });
        timing.invocations += 1;
        if first {
            // Also when a person repeats it: what it came to before is not how it stands now.
            (timing.outcome, timing.finished_at) = (None, None);
        }
        first
    }

    /// The step that fails when one fails that wrote nothing of its own: the recorded one, or the one after it when that
    /// was done. A step that may not even read this item cannot say that it began.
    pub fn step_under_way(&self) -> Step {
        let is_over = |timing: &Timing| matches!(timing.outcome, Some(Outcome::Done | Outcome::Skipped));
        match self.timings.get(self.step.as_str()).is_some_and(is_over) {
            true => self.step.next(self.request.as_ref().is_some_and(|request| request.swap.is_some())),
            false => self.step,
        }
    }

    /// Marks how `step` stands after an invocation.
    pub fn end_step(&mut self, step: Step, outcome: Outcome, now: Instant) {
        if let Some(timing) = self.timings.get_mut(step.as_str()) {
            timing.outcome = Some(outcome);
            timing.finished_at = match outcome {
                Outcome::Done | Outcome::Skipped => Some(timestamp(now)),
                Outcome::Waiting => None,
            };
        }
    }

    /// Seconds since the first invocation of `step`; 0 when it has not begun.
    pub fn seconds_in(&self, step: Step, now: Instant) -> u64 {
        self.timings
            .get(step.as_str())
            .and_then(|timing| crate::parse_timestamp(&timing.started_at))
            .map_or(0, |started| crate::seconds_between(started, now))
    }
}

/// The operation that an input belongs to: the request's own id, else the execution's name. Preflight and the
/// failure path must agree on it, also for a request that is wrong in every other way.
///
/// # Errors
/// What is missing, when neither gives a legal id.
pub fn operation_id(request: &Value, execution_name: Option<&str>) -> Result<OperationId, String> {
    let asked = request.get("operation_id").and_then(Value::as_str);
    // A legal id is used; an illegal one is parse's to report, under the execution's name.
    if let Some(id) = asked.and_then(|id| OperationId::try_from(id).ok()) {
        return Ok(id);
    }
    match (execution_name, asked) {
        (Some(name), _) => OperationId::try_from(name).map_err(|error| format!("execution name '{name}' {error}")),
        (None, Some(id)) => match OperationId::try_from(id) {
            Ok(id) => Ok(id),
            Err(error) => Err(format!("operation_id: got '{id}'; {error}")),
        },
        (None, None) => Err("operation_id: needs a value when the step is invoked by hand (the state machine takes the execution's name)".into()),
    }
}

/// Partition key of the lock on a target.
pub fn lock_key(target: &str) -> String {
    format!("lock#{target}")
}

/// `<region>#<cluster>`, the key by which operations on one cluster are found.
pub fn place(region: &crate::ids::Region, cluster: &crate::ids::ClusterId) -> String {
    format!("{region}#{cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    #[test]
    fn the_operation_is_the_requests_else_the_executions() {
        assert_eq!(operation_id(&json!({"operation_id": "a"}), Some("run-1")).unwrap().as_str(), "a");
        assert_eq!(operation_id(&json!({}), Some("run-1")).unwrap().as_str(), "run-1");
        assert_eq!(operation_id(&json!({"operation_id": "a b"}), Some("run-1")).unwrap().as_str(), "run-1");
        assert!(operation_id(&json!({"operation_id": "a b"}), None).unwrap_err().contains("'a b'"));
        assert!(operation_id(&json!({}), None).is_err());
    }

    #[test]
    fn a_step_keeps_its_first_start_over_repeats() {
        let now = datetime!(2026-11-21 20:00 UTC);
        let mut operation = Operation::new(OperationId::try_from("op").unwrap(), None, now);
        assert!(operation.begin_step(Step::CheckCopy, now));
        operation.end_step(Step::CheckCopy, Outcome::Waiting, now);
        assert!(!operation.begin_step(Step::CheckCopy, now + time::Duration::minutes(5)));
        assert_eq!(operation.seconds_in(Step::CheckCopy, now + time::Duration::minutes(7)), 420);
        operation.end_step(Step::CheckCopy, Outcome::Done, now + time::Duration::minutes(8));
        let timing = &operation.timings["check-copy"];
        assert_eq!((timing.invocations, timing.finished_at.as_deref()), (2, Some("2026-11-21T20:08:00.000Z")));
    }

    #[test]
    fn a_step_that_could_write_nothing_is_the_one_after_what_is_done() {
        let now = datetime!(2026-11-21 20:00 UTC);
        let mut operation = Operation::new(OperationId::try_from("op").unwrap(), None, now);
        assert_eq!(operation.step_under_way(), Step::Preflight);
        operation.begin_step(Step::CheckCopy, now);
        assert_eq!(operation.step_under_way(), Step::CheckCopy);
        operation.end_step(Step::CheckCopy, Outcome::Waiting, now);
        assert_eq!(operation.step_under_way(), Step::CheckCopy);
        operation.end_step(Step::CheckCopy, Outcome::Done, now);
        assert_eq!(operation.step_under_way(), Step::DeleteCluster);
        // Repeated by hand, or by another path of the machine, it is under way again.
        operation.begin_step(Step::DeleteCluster, now);
        operation.begin_step(Step::CheckCopy, now);
        assert_eq!(operation.step_under_way(), Step::CheckCopy);
        operation.begin_step(Step::Notify, now);
        operation.end_step(Step::Notify, Outcome::Done, now);
        assert_eq!(operation.step_under_way(), Step::Notify);
    }

    #[test]
    fn an_item_of_today_is_read_tomorrow() {
        let operation = Operation::new(OperationId::try_from("op").unwrap(), None, datetime!(2026-11-21 20:00 UTC));
        let stored = serde_json::to_value(&operation).unwrap();
        assert_eq!(serde_json::from_value::<Operation>(stored).unwrap(), operation);
    }
}
