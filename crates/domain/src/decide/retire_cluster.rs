//! Whether the former cluster of a swap may go now: after its grace period, and only while the restored one serves in its
//! place.

use crate::cloud::Cluster;
use crate::guards::Refusal;
use crate::ids::{ClusterId, OperationId};
use crate::status::{Class, cluster as cluster_class};
use crate::swap::SwapState;
use crate::{Instant, parse_timestamp, seconds_between};

/// Seconds of the grace period that are left; `None` when nobody has logged in to the restored cluster under the target's
/// name, from when on it counts.
pub fn grace_left_seconds(state: Option<&SwapState>, grace_seconds: u64, now: Instant) -> Option<u64> {
    let answered = parse_timestamp(state?.answered_at.as_deref()?)?;
    Some(grace_seconds.saturating_sub(seconds_between(answered, now)))
}

/// Why the former cluster must stay: what took its place is not there as it was when somebody could log in.
pub fn against_retiring(
    target_id: &ClusterId,
    target: Option<&Cluster>,
    state: Option<&SwapState>,
    operation_id: &OperationId,
) -> Option<Refusal> {
    let known = state.and_then(|state| state.restored_resource_id.as_deref());
    let reason = match target {
        None => format!("there is no cluster {target_id} that would serve without it"),
        Some(target) if !target.belongs_to(operation_id) || known != Some(target.resource_id.as_str()) => {
            format!("cluster {target_id} ({}) is not the one that was swapped in", target.resource_id)
        }
        Some(target) => match cluster_class(&target.status) {
            Class::Settled if target.status != "stopped" => return None,
            Class::InProgress | Class::Unknown => return None,
            Class::Settled | Class::Failed | Class::Deleting => {
                format!("cluster {target_id}, which was swapped in, is {}", target.status)
            }
        },
    };
    let remedy = "look who changed it; when it serves again, start again under the same operation_id".to_owned();
    Some(Refusal { reason, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;
    use time::macros::datetime;

    fn state() -> SwapState {
        SwapState {
            answered_at: Some("2026-11-21T12:00:00.000Z".into()),
            restored_resource_id: Some("cluster-OLD".into()),
            ..SwapState::default()
        }
    }

    #[test]
    fn the_grace_period_counts_from_the_first_login() {
        let at = |minutes: i64| datetime!(2026-11-21 12:00 UTC) + time::Duration::minutes(minutes);
        assert_eq!(grace_left_seconds(Some(&state()), 3600, at(20)), Some(2400));
        assert_eq!(grace_left_seconds(Some(&state()), 3600, at(70)), Some(0));
        assert_eq!(grace_left_seconds(Some(&SwapState::default()), 3600, at(70)), None);
        assert_eq!(grace_left_seconds(None, 0, at(70)), None);
    }

    #[test]
    fn it_stays_unless_the_restored_one_serves_in_its_place() {
        let (target, id) = (fixtures::target(), fixtures::operation_id());
        let against = |cluster: Option<&Cluster>| against_retiring(&target, cluster, Some(&state()), &id);
        assert_eq!(against(Some(&fixtures::restored())), None);
        assert!(against(None).unwrap().reason.contains("no cluster staging"));
        assert!(against(Some(&fixtures::cluster("staging"))).is_some(), "another's");
        let renewed = Cluster { resource_id: "cluster-NEW".into(), ..fixtures::restored() };
        assert!(against(Some(&renewed)).unwrap().reason.contains("cluster-NEW"));
        for (status, may) in
            [("available", true), ("modifying", true), ("stopped", false), ("failed", false), ("deleting", false)]
        {
            let seen = Cluster { status: status.into(), ..fixtures::restored() };
            assert_eq!(against(Some(&seen)).is_none(), may, "{status}");
        }
        assert!(against_retiring(&target, Some(&fixtures::restored()), None, &id).is_some());
    }
}
