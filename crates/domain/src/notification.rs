//! The outcome as it is told: a message for people and one for programs.

use crate::operation::{DeclaredState, Operation, Status, UsersState};
use crate::step::Step;
use crate::{Instant, human_duration, parse_timestamp, seconds_between, shorten};
use serde_json::{Value, json};

/// What is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Subject line of an e-mail; at most 100 ASCII characters (SNS).
    pub subject: String,
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// Value of the attribute `status`.
    pub status: String,
    /// Value of the attribute `target_cluster_id`; `-` when the request did not name one.
    pub target_cluster_id: String,
}

/// Composes the message for an operation that has ended. `earlier` is the outcome of an earlier message that may have
/// been published: the same one makes this a repeat, another one a correction, and the message says so.
pub fn compose(operation: &Operation, environment: &str, earlier: Option<Status>, now: Instant) -> Message {
    let status = operation.status.as_str().to_uppercase();
    let target = target_of(operation);
    let mut subject = format!("[{environment}] Aurora restore {status}: {target} ({})", operation.operation_id);
    subject.retain(|c| c.is_ascii() && !c.is_ascii_control());
    subject.truncate(100);
    Message {
        text: text(operation, environment, earlier, now),
        json: machine(operation, environment, earlier, now),
        subject,
        status,
        target_cluster_id: target,
    }
}

fn target_of(operation: &Operation) -> String {
    let place = operation.target.as_deref().and_then(|target| target.split_once('#'));
    place.map_or_else(|| "-".into(), |(_, cluster)| cluster.to_owned())
}

/// Seconds from the start of the operation to its end: the measured recovery time. With a swap until people could log in
/// under the target's name: that the former cluster stays for a while keeps nobody from working.
fn recovery_time_seconds(operation: &Operation, now: Instant) -> Option<u64> {
    let started = parse_timestamp(&operation.started_at)?;
    let swapped = operation.swap.as_ref().and_then(|swap| parse_timestamp(swap.answered_at.as_deref()?));
    let ended = operation.finished_at.as_deref().and_then(parse_timestamp).unwrap_or(now);
    let ended = swapped.filter(|swapped| *swapped > started).unwrap_or(ended);
    Some(seconds_between(started, ended))
}

/// Seconds between the snapshot and the start of the operation: the data lost if the source had failed then.
fn recovery_point_age_seconds(operation: &Operation) -> Option<u64> {
    let taken = parse_timestamp(operation.plan.as_ref()?.snapshot.created_at.as_deref()?)?;
    Some(seconds_between(taken, parse_timestamp(&operation.started_at)?))
}

fn durations(operation: &Operation, now: Instant) -> Vec<(Step, u64)> {
    Step::ALL
        .into_iter()
        .filter_map(|step| {
            let timing = operation.timings.get(step.as_str())?;
            let started = parse_timestamp(&timing.started_at)?;
            let ended = timing.finished_at.as_deref().and_then(parse_timestamp).unwrap_or(now);
            Some((step, seconds_between(started, ended)))
        })
        .collect()
}

/// What the operation made, removed or left, in sentences: the part of a failure that a person acts on.
pub fn left_behind(operation: &Operation) -> Vec<String> {
    let mut lines = Vec::new();
    let target = target_of(operation);
    let restored = operation.cluster.is_some();
    let plan = operation.plan.as_ref();
    let swap = plan.and_then(|plan| plan.swap.as_ref());
    let names = operation.request.as_ref().map(|request| &request.target_cluster_id).zip(swap);
    let stands = names.zip(operation.swap.as_ref()).and_then(|((target, plan), state)| state.stands(target, plan));
    let former = swap.map_or_else(|| target.clone(), |swap| swap.retired_id.to_string());
    match &operation.replaced {
        None if stands.is_some() => {}
        None if restored && swap.is_none() => {}
        None => lines.push(match operation.plan.as_ref().map(|plan| plan.replaces.is_some()) {
            Some(false) => format!("no cluster {target} existed, and none was made"),
            Some(true) | None => format!("target cluster {target} was not touched"),
        }),
        Some(replaced) if replaced.gone => lines.push(match &replaced.final_snapshot_id {
            Some(snapshot) => format!("the former cluster {former} was deleted; its final snapshot is {snapshot}"),
            None => format!("the former cluster {former} was deleted without a final snapshot, as planned"),
        }),
        Some(replaced) if replaced.protected_again => lines.push(format!(
            "the deletion of cluster {former} had begun and was stopped: it is protected again, its instances may be gone, its data is there"
        )),
        Some(_) => lines.push(format!(
            "the deletion of cluster {former} had begun: deletion protection may be off and instances may be gone"
        )),
    }
    // What is deleted of a swap has its own line.
    let is_gone = operation.replaced.as_ref().is_some_and(|replaced| replaced.gone);
    lines.extend(stands.filter(|_| !is_gone));
    if let Some(copy) = operation.copy.as_ref().filter(|copy| copy.made_by_us) {
        lines.push(format!("snapshot copy {} ({})", copy.snapshot_id, copy.status));
    }
    if let Some(cluster) = &operation.cluster {
        let ready = if cluster.ready_at.is_some() { "accepts logins" } else { "not ready" };
        let name = operation.restored_name().unwrap_or(target);
        lines.push(format!("restored cluster {name} ({}, {ready})", cluster.status));
    }
    lines
}

fn text(operation: &Operation, environment: &str, earlier: Option<Status>, now: Instant) -> String {
    let mut lines = Vec::new();
    match earlier {
        None => {}
        Some(earlier) if earlier == operation.status => {
            lines.push("(This is a repeat: an earlier attempt to send it may have reached you.)".to_owned());
        }
        Some(earlier) => lines.push(format!(
            "(This corrects an earlier message, which may have reached you and said {}.)",
            earlier.as_str().to_uppercase()
        )),
    }
    let target = target_of(operation);
    let headline = match operation.status {
        Status::Succeeded => format!("Cluster {target} was restored and verified."),
        Status::Failed => format!("The restore of cluster {target} FAILED."),
        Status::Planned => format!("Plan for cluster {target}; nothing was changed."),
        Status::Aborted => format!("The restore of cluster {target} was stopped by a person."),
        Status::Running => format!("The restore of cluster {target} is under way."),
    };
    lines.push(headline);
    lines.push(String::new());
    lines.push(format!("Operation    {}", operation.operation_id));
    lines.push(format!("Environment  {environment}"));
    if let Some(request) = &operation.request {
        lines.push(format!("Source       {} in {}", request.source_cluster_id, request.source_region));
        lines.push(format!("Target       {target} in {}", request.target_region));
    }
    if let Some(plan) = &operation.plan {
        let taken = plan.snapshot.created_at.as_deref().unwrap_or("at an unknown time");
        lines.push(format!("Snapshot     {} of {taken}", plan.snapshot.id));
    }
    match operation.status {
        Status::Planned => {
            lines.push(String::new());
            lines.push("It would:".into());
            let steps = operation.plan.iter().flat_map(|plan| plan.summary.iter());
            lines.extend(steps.map(|line| format!("  - {line}")));
        }
        Status::Succeeded => success(operation, now, &mut lines),
        Status::Failed | Status::Aborted | Status::Running => failure(operation, &mut lines),
    }
    let durations = durations(operation, now);
    if !durations.is_empty() {
        lines.push(String::new());
        lines.push("Durations".into());
        lines.extend(
            durations.iter().map(|(step, seconds)| format!("  {:<17} {}", step.as_str(), human_duration(*seconds))),
        );
    }
    lines.join("\n")
}

fn success(operation: &Operation, now: Instant, lines: &mut Vec<String>) {
    if let Some(cluster) = &operation.cluster {
        let endpoint = cluster.endpoint.as_deref().unwrap_or("-");
        let port = cluster.port.map(|port| format!(":{port}")).unwrap_or_default();
        lines.push(format!("Endpoint     {endpoint}{port}"));
    }
    if let Some(seconds) = recovery_time_seconds(operation, now) {
        lines.push(format!("Restored in  {}", human_duration(seconds)));
    }
    if let Some(seconds) = recovery_point_age_seconds(operation) {
        lines.push(format!("Data age     {} at the start", human_duration(seconds)));
    }
    if let Some(seconds) = operation.downtime_seconds {
        lines.push(format!("Downtime     {}", human_duration(seconds)));
    }
    if let Some(masking) = &operation.masking {
        let scripts: Vec<String> = masking.scripts.iter().map(|script| script.name.clone()).collect();
        let state = if masking.done { "" } else { " (not all: only the master can log in)" };
        lines.push(format!("Masked by    {}{state}", names(&scripts).join(", ")));
    }
    if let Some(users) = &operation.users {
        let what = |user: &DeclaredState| {
            let limited = if user.limited { ", limited" } else { "" };
            let iam = if user.iam { ", IAM" } else { "" };
            format!("{} ({}{limited}{iam})", user.role, user.profile)
        };
        let declared: Vec<_> = users.declared.iter().map(what).collect();
        lines.push(format!("Users        {}", declared.join(", ")));
        if !users.locked.is_empty() {
            lines.push(format!("Locked       {}", names(&users.locked).join(", ")));
        }
        if !users.left.is_empty() {
            lines.push(format!("NOT locked   {} (as asked)", names(&users.left).join(", ")));
        }
        lines.extend(names(&users.notes).iter().map(|note| format!("Note         {note}")));
    }
    if let Some(verification) = &operation.verification {
        let passed = verification.checks.iter().filter(|check| check.passed).count();
        lines.push(format!("Checks       {passed} of {} passed", verification.checks.len()));
    }
    if let Some(replaced) = &operation.replaced {
        let snapshot = replaced.final_snapshot_id.as_deref().unwrap_or("none, as planned");
        lines.push(format!("Replaced     the former cluster; final snapshot {snapshot}"));
    }
    if let Some(archive) = &operation.archive {
        let removed = if archive.removed.is_empty() { "none".into() } else { archive.removed.join(", ") };
        lines.push(format!("Copies       {} kept, removed: {removed}", archive.kept.len()));
        lines.extend(names(&archive.failed).iter().map(|reason| format!("NOT removed  {reason}")));
    }
}

fn failure(operation: &Operation, lines: &mut Vec<String>) {
    if let Some(error) = &operation.error {
        lines.push(format!("Failed step  {}", error.step));
        lines.push(format!("Reason       {}", error.name));
        lines.push(String::new());
        lines.push(error.message.clone());
    }
    if let Some(verification) = operation.verification.as_ref().filter(|verification| !verification.passed) {
        lines.push(String::new());
        lines.push("Failed checks".into());
        let failed = verification.checks.iter().filter(|check| !check.passed);
        lines.extend(failed.map(|check| format!("  - {}: {}", check.name, check.value)));
    }
    lines.push(String::new());
    lines.push("As it stands".into());
    lines.extend(left_behind(operation).into_iter().map(|line| format!("  - {line}")));
}

/// Names in a list before the rest is only counted: SNS takes 256 KiB, and the list stands in it several times.
const NAMES_MAX: usize = 50;

fn names(all: &[String]) -> Vec<String> {
    shorten(all, NAMES_MAX)
}

/// The users without the list of changes, which grows with the database; state and audit have it.
fn users(users: &UsersState) -> Value {
    json!({
        "declared": users.declared,
        "locked": names(&users.locked),
        "left": names(&users.left),
        "changes": users.changes.len(),
        "databases": users.databases.len(),
        "notes": names(&users.notes),
    })
}

fn machine(operation: &Operation, environment: &str, earlier: Option<Status>, now: Instant) -> Value {
    let durations: serde_json::Map<String, Value> = durations(operation, now)
        .into_iter()
        .map(|(step, seconds)| (step.as_str().to_owned(), json!(seconds)))
        .collect();
    json!({
        "operation_id": operation.operation_id,
        "status": operation.status.as_str().to_uppercase(),
        "environment": environment,
        "is_repeat": earlier == Some(operation.status),
        "corrects": earlier.filter(|earlier| *earlier != operation.status).map(|earlier| earlier.as_str().to_uppercase()),
        "execution_arn": operation.execution_arn,
        "source": operation.source,
        "target": operation.target,
        "target_cluster_id": target_of(operation),
        "snapshot": operation.plan.as_ref().map(|plan| &plan.snapshot),
        "plan": operation.plan.as_ref().filter(|_| operation.status == Status::Planned).map(|plan| &plan.summary),
        "endpoint": operation.cluster.as_ref().and_then(|cluster| cluster.endpoint.clone()),
        "port": operation.cluster.as_ref().and_then(|cluster| cluster.port),
        "started_at": operation.started_at,
        "finished_at": operation.finished_at,
        "durations_seconds": durations,
        "recovery_time_seconds": recovery_time_seconds(operation, now).filter(|_| operation.status == Status::Succeeded),
        "downtime_seconds": operation.downtime_seconds,
        "recovery_point_age_seconds": recovery_point_age_seconds(operation),
        "users": operation.users.as_ref().map(users),
        "verification": operation.verification,
        "final_snapshot_id": operation.replaced.as_ref().and_then(|replaced| replaced.final_snapshot_id.clone()),
        "archive": operation.archive,
        "error": operation.error,
        "left_behind": left_behind(operation),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;
    use crate::operation::{ClusterState, FailedStep, Replaced};
    use time::macros::datetime;

    fn operation(status: Status) -> Operation {
        let started = datetime!(2026-11-21 04:00 UTC);
        let mut operation = Operation::new(fixtures::operation_id(), None, started);
        operation.status = status;
        operation.plan = Some(fixtures::plan());
        operation.finished_at = Some("2026-11-21T05:10:00.000Z".into());
        operation.begin_step(Step::Preflight, started);
        operation
    }

    const NOW: Instant = datetime!(2026-11-21 05:10 UTC);

    #[test]
    fn a_success_carries_recovery_time() {
        let message = compose(&operation(Status::Succeeded), "dev", None, NOW);
        assert!(message.text.contains("Restored in  1 h 10 min"), "{}", message.text);
        assert_eq!(message.json["recovery_time_seconds"], 4200);
        assert!(message.subject.contains("SUCCEEDED"));
    }

    #[test]
    fn a_failure_says_what_stands() {
        let mut failed = operation(Status::Failed);
        failed.error =
            Some(FailedStep { step: Step::RestoreCluster, name: "AccessDenied".into(), message: "why".into() });
        let text = compose(&failed, "dev", Some(Status::Failed), NOW).text;
        for words in ["FAILED", "restore-cluster", "AccessDenied", "was not touched", "repeat"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        failed.replaced = Some(Replaced { gone: true, ..fixtures::replaced() });
        failed.cluster =
            Some(ClusterState { arn: String::new(), status: "creating".into(), ..fixtures::cluster_state() });
        let text = left_behind(&failed).join("\n");
        assert!(text.contains("staging-final-1") && text.contains("creating, not ready"), "{text}");
    }

    #[test]
    fn a_swap_tells_which_name_is_whose() {
        let mut failed = operation(Status::Failed);
        failed.plan = Some(fixtures::plan_of_swap());
        failed.request = Some(fixtures::request_of_swap());
        failed.target = Some("us-west-2#staging".into());
        let (new, old) = (fixtures::swap_plan().scratch_id, fixtures::swap_plan().retired_id);
        let told = |operation: &Operation| left_behind(operation).join("\n");
        assert_eq!(told(&failed), "target cluster staging was not touched");
        let arn = format!("arn:aws:rds:us-west-2:1:cluster:{new}");
        failed.cluster = Some(ClusterState { arn, ..fixtures::cluster_state() });
        assert!(told(&failed).contains(&format!("restored cluster {new} (available")), "{}", told(&failed));
        assert!(told(&failed).contains("was not touched"), "{}", told(&failed));
        let mut swap = crate::swap::SwapState { former_as: Some("staging".into()), ..Default::default() };
        swap.ask("rename cluster staging to another name".into(), None, NOW);
        failed.swap = Some(swap.clone());
        assert!(told(&failed).contains("staging may not answer") && !told(&failed).contains("not touched"));
        swap.answered_at = Some("2026-11-21T04:50:00.000Z".into());
        failed.swap = Some(swap);
        failed.replaced = Some(fixtures::replaced());
        assert!(told(&failed).contains(&format!("the deletion of cluster {old} had begun")), "{}", told(&failed));
        assert!(told(&failed).contains("cluster staging is the restored one"));
        failed.replaced = Some(Replaced { gone: true, ..fixtures::replaced() });
        assert!(
            told(&failed).contains(&format!("the former cluster {old} was deleted"))
                && !told(&failed).contains("renamed")
        );

        // It has served since minute 50, whatever the grace period of the former.
        failed.status = Status::Succeeded;
        failed.is_up_again(Some("2026-11-21T04:45:00.000Z"), datetime!(2026-11-21 04:50 UTC));
        let message = compose(&failed, "dev", None, NOW);
        assert_eq!(
            (&message.json["recovery_time_seconds"], &message.json["downtime_seconds"]),
            (&json!(3000), &json!(300))
        );
        assert!(message.text.contains("Downtime     5 min 0 s"), "{}", message.text);
    }

    #[test]
    fn another_outcome_than_the_one_told_is_a_correction() {
        let message = compose(&operation(Status::Failed), "dev", Some(Status::Succeeded), NOW);
        assert!(
            message
                .text
                .starts_with("(This corrects an earlier message, which may have reached you and said SUCCEEDED.)")
        );
        assert_eq!((&message.json["corrects"], &message.json["is_repeat"]), (&json!("SUCCEEDED"), &json!(false)));
    }

    #[test]
    fn a_subject_fits_sns() {
        let mut long = operation(Status::Failed);
        long.operation_id = "x".repeat(80).as_str().try_into().unwrap();
        let subject = compose(&long, "a-very-long-environment-name-é", None, NOW).subject;
        assert!(subject.len() <= 100 && subject.is_ascii());
    }
}
