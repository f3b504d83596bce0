//! Whether the account has room for what a restore makes, beside what is there.

use super::{Observed, is_same_region};
use crate::request::Request;

/// Limits that would be exceeded, each with what is used, what is needed and what helps.
pub(super) fn missing(request: &Request, observed: &Observed, instances: usize) -> Vec<String> {
    let replaces = observed.target.is_some();
    let snapshots = i64::from(!is_same_region(request)) + i64::from(replaces && !request.skip_final_snapshot);
    let quotas = &observed.quotas;
    let mut needs = vec![("manual cluster snapshots", quotas.manual_snapshots, snapshots)];
    // What is deleted first makes room for what is restored.
    if request.swap.is_some() {
        needs.push(("clusters", quotas.clusters, 1));
        needs.push(("instances", quotas.instances, i64::try_from(instances).unwrap_or(i64::MAX)));
    }
    let exceeded = |(what, quota, needed): (&str, Option<(i64, i64)>, i64)| {
        let (used, limit) = quota?;
        (used + needed > limit).then(|| {
            format!(
                "the account's limit of {what} in {}: {used} of {limit} are used and this restore makes {needed} more; delete old ones or have the limit raised",
                request.target_region
            )
        })
    };
    needs.into_iter().filter_map(exceeded).collect()
}
