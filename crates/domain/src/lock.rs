//! The lock on a target: one operation at a time, taken over only from an owner that is over.

use crate::failure::{ErrorName, Failure};
use crate::ids::OperationId;
use crate::operation::{Operation, lock_key};
use crate::sabotage::Sabotage;
use crate::{Instant, parse_timestamp, seconds_between, timestamp};
use serde::{Deserialize, Serialize};

/// How long a lock of steps invoked by hand holds without an execution that could be asked, in seconds.
pub const BY_HAND_SECONDS: u64 = 24 * 3600;

/// The lock item. It stays when released, so that the fencing number keeps rising.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Partition key, see [`crate::operation::lock_key`].
    pub operation_id: String,
    /// The operation that has, or had, the lock.
    pub owner: OperationId,
    /// Its execution; `None` when its steps are invoked by hand.
    pub owner_execution_arn: Option<String>,
    /// Rises with every owner. A write that carries an older number comes from an owner that was replaced.
    pub fence: u64,
    /// Whether it is held now.
    pub held: bool,
    /// RFC 3339.
    pub taken_at: String,
}

impl Lock {
    /// The lock on `target` (`<region>#<cluster>`) as `operation` takes it over what was `seen`.
    pub fn taken(target: &str, operation: &Operation, seen: Option<&Self>, now: Instant) -> Self {
        Self {
            operation_id: lock_key(target),
            owner: operation.operation_id.clone(),
            owner_execution_arn: operation.execution_arn.clone(),
            fence: seen.map_or(1, |lock| lock.fence + 1),
            held: true,
            taken_at: timestamp(now),
        }
    }
}

/// What is known of a lock's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Whether the owner's operation has ended, which is the last thing it does before the release.
    pub operation_ended: bool,
    /// Whether its execution has ended; `None` when it has none.
    pub execution_ended: Option<bool>,
}

/// What to do about a lock.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Held by this operation in this execution already.
    Mine,
    /// Free: take it.
    Take,
    /// Its owner is over: take it, and say so in the audit trail.
    TakeOver,
    /// Someone is at work.
    Refuse(Failure),
}

/// Decides for `operation_id`, driven by `execution_arn`; `owner` is asked for only when someone else holds it.
pub fn decide(
    lock: Option<&Lock>,
    owner: Option<Owner>,
    operation_id: &OperationId,
    execution_arn: Option<&str>,
    now: Instant,
) -> Decision {
    let Some(lock) = lock.filter(|lock| lock.held) else { return Decision::Take };
    if is_mine(lock, operation_id, execution_arn) {
        return Decision::Mine;
    }
    let held_seconds = parse_timestamp(&lock.taken_at).map_or(0, |taken| seconds_between(taken, now));
    let over = owner.is_some_and(|owner| match owner.execution_ended {
        Some(ended) => ended,
        None => owner.operation_ended || held_seconds > BY_HAND_SECONDS,
    });
    if over || Sabotage::TakeLiveLock.is_on() {
        return Decision::TakeOver;
    }
    let by = lock
        .owner_execution_arn
        .as_deref()
        .map_or("steps invoked by hand".to_owned(), |arn| format!("execution {arn}"));
    let target = lock.operation_id.trim_start_matches("lock#").replace('#', " ");
    Decision::Refuse(
        Failure::new(
            ErrorName::TargetLocked,
            format!("target {target} is being restored by operation {} ({by}, since {})", lock.owner, lock.taken_at),
        )
        .left("nothing was touched")
        .next("wait for it to end, or stop that execution, then start again"),
    )
}

/// Whether the lock is held by this operation in this execution.
pub fn is_mine(lock: &Lock, operation_id: &OperationId, execution_arn: Option<&str>) -> bool {
    lock.held && lock.owner == *operation_id && lock.owner_execution_arn.as_deref() == execution_arn
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: Instant = datetime!(2026-11-21 12:00 UTC);

    fn lock(owner: &str, execution: Option<&str>, held: bool) -> Lock {
        Lock {
            operation_id: "lock#us-west-2#staging".into(),
            owner: OperationId::try_from(owner).unwrap(),
            owner_execution_arn: execution.map(str::to_owned),
            fence: 3,
            held,
            taken_at: "2026-11-21T11:00:00.000Z".into(),
        }
    }

    fn run(lock: Option<&Lock>, owner: Option<Owner>, now: Instant) -> Decision {
        decide(lock, owner, &OperationId::try_from("me").unwrap(), Some("arn:me"), now)
    }

    #[test]
    fn free_mine_or_taken() {
        assert_eq!(run(None, None, NOW), Decision::Take);
        assert_eq!(run(Some(&lock("other", Some("arn:x"), false)), None, NOW), Decision::Take);
        assert_eq!(run(Some(&lock("me", Some("arn:me"), true)), None, NOW), Decision::Mine);
        let busy = Owner { operation_ended: false, execution_ended: Some(false) };
        let held = lock("other", Some("arn:x"), true);
        assert!(
            matches!(run(Some(&held), Some(busy), NOW), Decision::Refuse(f) if f.name == ErrorName::TargetLocked && f.what.contains("arn:x"))
        );
        assert!(
            matches!(run(Some(&held), None, NOW), Decision::Refuse(_)),
            "an owner that could not be asked is at work"
        );
    }

    #[test]
    fn only_an_owner_that_is_over_is_replaced() {
        let ended = Owner { operation_ended: false, execution_ended: Some(true) };
        assert_eq!(run(Some(&lock("other", Some("arn:x"), true)), Some(ended), NOW), Decision::TakeOver);
        // An operation that is closed but whose execution still notifies is not over.
        let closing = Owner { operation_ended: true, execution_ended: Some(false) };
        assert!(matches!(run(Some(&lock("other", Some("arn:x"), true)), Some(closing), NOW), Decision::Refuse(_)));
        // The same operation in another execution is another owner.
        let running = Owner { operation_ended: false, execution_ended: Some(false) };
        assert!(matches!(run(Some(&lock("me", Some("arn:old"), true)), Some(running), NOW), Decision::Refuse(_)));
    }

    #[test]
    fn a_lock_of_steps_by_hand_ends_with_the_operation_or_a_day() {
        let by_hand = Owner { operation_ended: false, execution_ended: None };
        let held = lock("other", None, true);
        assert!(matches!(run(Some(&held), Some(by_hand), NOW), Decision::Refuse(_)));
        assert_eq!(run(Some(&held), Some(by_hand), NOW + time::Duration::hours(25)), Decision::TakeOver);
        assert_eq!(
            run(Some(&held), Some(Owner { operation_ended: true, execution_ended: None }), NOW),
            Decision::TakeOver
        );
    }
}
