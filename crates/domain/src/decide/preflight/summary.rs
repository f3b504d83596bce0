//! The plan in sentences.

use crate::plan::{CopyPlan, Plan, PlannedInstance, SwapPlan};
use crate::request::{InstanceSpec, Request};

/// One for each thing that will happen, in the order in which it does.
pub(super) fn of(request: &Request, plan: &Plan) -> Vec<String> {
    let target = &request.target_cluster_id;
    let mut lines = vec![copy(request, plan)];
    if plan.swap.is_none() {
        lines.push(deletion(request, plan, target.as_str()));
    }
    let restored_as = plan.made_as(target);
    let classes: Vec<_> = plan
        .instances_in(restored_as.as_str())
        .iter()
        .map(|PlannedInstance { id, spec: InstanceSpec { db_instance_class, .. }, .. }| {
            format!("{id} ({db_instance_class})")
        })
        .collect();
    lines.push(format!("restore cluster {restored_as} with {}", classes.join(", ")));
    let by_token: Vec<&str> = request.token_users().collect();
    if !by_token.is_empty() {
        lines.push(format!("turn on IAM database authentication, with which {} will log in", by_token.join(", ")));
    }
    lines.push("reset the master password, set up the declared users, deal with inherited logins, verify".into());
    if let Some(swap) = &plan.swap {
        lines.extend(swapped(request, plan, swap));
    }
    if request.archive_snapshot && matches!(plan.copy, CopyPlan::Copy { .. }) {
        lines.push(format!("archive the copy and keep the newest {} of this source", request.retention.copies));
    }
    lines
}

fn copy(request: &Request, plan: &Plan) -> String {
    let Request { target_region, source_region, source_cluster_id: source, .. } = request;
    let taken = plan.snapshot.created_at.as_deref().unwrap_or("unknown");
    match &plan.copy {
        CopyPlan::SameRegion => {
            format!("use snapshot {} of {source} (taken {taken}) where it is", plan.snapshot.id)
        }
        CopyPlan::Copy { copy_id, kms_key_id } => {
            let key = kms_key_id.as_ref().map_or("unencrypted".to_owned(), |key| format!("encrypted with {key}"));
            format!(
                "copy snapshot {} of {source} (taken {taken}) from {source_region} to {target_region} as {copy_id}, {key}",
                plan.snapshot.id
            )
        }
    }
}

/// What becomes of the cluster that is replaced, under the name that it has by then.
fn deletion(request: &Request, plan: &Plan, id: &str) -> String {
    match (&plan.replaces, &plan.final_snapshot_id) {
        (None, _) => format!("no cluster {} exists, so none is deleted", request.target_cluster_id),
        (Some(_), Some(name)) => format!("delete cluster {id} with final snapshot {name}"),
        (Some(_), None) if request.skip_final_snapshot => {
            format!("delete cluster {id} WITHOUT a final snapshot, as asked")
        }
        (Some(_), None) => {
            format!("delete cluster {id}, left by a restore that failed before it came up, without a final snapshot")
        }
    }
}

fn swapped(request: &Request, plan: &Plan, swap: &SwapPlan) -> Vec<String> {
    let SwapPlan { scratch_id, retired_id } = swap;
    let target = &request.target_cluster_id;
    let grace = request.swap.unwrap_or_default().grace_period_minutes;
    match &plan.replaces {
        None => vec![
            format!("rename cluster {scratch_id} to {target}, with its instances, and log in there"),
            deletion(request, plan, target.as_str()),
        ],
        Some(_) => vec![
            format!(
                "rename cluster {target} to {retired_id} and {scratch_id} to {target}, with their instances, and log in there; if nobody can, rename them back"
            ),
            format!("wait {grace} min, then {}", deletion(request, plan, retired_id.as_str())),
        ],
    }
}
