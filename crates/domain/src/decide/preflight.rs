//! Everything that can be known before anything is touched: the plan, or all reasons against it together.

mod room;
mod summary;

use crate::cloud::{Cluster, Instance, Key, Quotas, Snapshot};
use crate::engine::Engine;
use crate::failure::{ErrorName, Failure};
use crate::guards::{self, Blueprint, Ground};
use crate::ids::{OperationId, SnapshotId};
use crate::naming;
use crate::phase::{Expected, Phase};
use crate::plan::{self, Base, ClusterSettings, CopyPlan, Plan, PlannedInstance, Replaces, SnapshotRef, SwapPlan};
use crate::request::{InstanceSpec, Request, SnapshotSelector};
use crate::roles::{Access, Privilege, unfit};
use crate::status;
use crate::timestamp;
use std::collections::BTreeMap;

/// What preflight saw.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Snapshots that the selector may mean: those of the source cluster, or the one asked for by id or ARN.
    pub snapshots: Vec<Snapshot>,
    /// The target, if there is one.
    pub target: Option<Cluster>,
    /// What settings come from that the request does not give.
    pub base: Base,
    /// How long RDS took when this source was restored before.
    pub expected: BTreeMap<Phase, Expected>,
    /// The target's instances, and any other instance that bears a name we will need.
    pub instances: Vec<Instance>,
    /// The global cluster that the target is a member of.
    pub global_cluster: Option<String>,
    /// The KMS key of [`key_to_look_at`].
    pub key: KeyLook,
    /// Names that exist already among those that the operation will make.
    pub taken_snapshot_names: Vec<String>,
    /// What the restore of [`draft`] rests on; `None` when there is no draft.
    pub ground: Option<Ground>,
    /// Clusters that bear a name which a swap needs.
    pub taken_cluster_names: Vec<String>,
    /// The account's limits in the target Region, and what is used of them.
    pub quotas: Quotas,
    /// Master user name in the secret.
    pub master_username: Option<String>,
    /// The database that the master's secret names.
    pub master_database: Option<String>,
    /// What is wrong with the secrets, each with secret, field and what is needed.
    pub secret_problems: Vec<String>,
    /// What is wrong with them if it is a MySQL that is restored.
    pub mysql_secret_problems: Vec<String>,
    /// What is wrong with the masking scripts.
    pub script_problems: Vec<String>,
    /// What is wrong with them if it is a MySQL that is restored.
    pub mysql_script_problems: Vec<String>,
}

/// What KMS says of the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyLook {
    /// Nobody asked for one.
    #[default]
    NotAsked,
    /// Found.
    Found(Key),
    /// `NotFoundException` in the target Region.
    Missing,
}

/// The key that copy or restore will use, if they need one: the request's, else the environment's, else that of the
/// cluster being replaced.
pub fn key_to_look_at(request: &Request, base: &Base) -> Option<String> {
    request.settings.kms_key_id.clone().or_else(|| base.settings.as_ref()?.kms_key_id.clone())
}

/// The instances that the restore will create: the request's, else those of the cluster being replaced.
pub fn instances_to_create(request: &Request, base: &Base) -> Vec<PlannedInstance> {
    let specs = request.settings.instances.as_ref().unwrap_or(&base.instances);
    let id = |index: usize| naming::instance_id(&request.target_cluster_id, index + 1);
    let planned =
        |(index, spec): (usize, &InstanceSpec)| PlannedInstance { id: id(index), scratch_id: None, spec: spec.clone() };
    specs.iter().enumerate().map(planned).collect()
}

/// Makes the plan.
///
/// # Errors
/// One failure that names everything found, under the name of the gravest: wrong input first, then the snapshot, the
/// key, names that are taken, and the guards of the target.
pub fn decide(request: &Request, observed: &Observed, operation_id: &OperationId) -> Result<Plan, Failure> {
    let snapshot = choose_snapshot(request, &observed.snapshots);
    let mut failures = invalid(request, observed, snapshot.as_ref().ok().copied());
    if let Err(failure) = &snapshot {
        failures.push(failure.clone());
    }
    failures.extend(key_failure(request, observed, snapshot.as_ref().ok().copied()));
    failures.extend(taken_names(request, observed, operation_id));

    failures.extend(unfit_ground(request, observed, operation_id));

    let source_arn = snapshot.as_ref().ok().map(|snapshot| source_cluster_arn(request, snapshot)).unwrap_or_default();
    let final_snapshot_id = final_snapshot_id(request, observed, operation_id);
    if let Some(target) = &observed.target {
        let guard = if request.swap.is_some() { guards::against_swapping } else { guards::against_deleting };
        let refusals = guard(&guards::Facts {
            target,
            target_id: &request.target_cluster_id,
            source_arn: &source_arn,
            replace_unmanaged: request.replace_unmanaged.as_ref(),
            global_cluster: observed.global_cluster.as_deref(),
            final_snapshot_id: final_snapshot_id.as_ref(),
            final_snapshot_exists: final_snapshot_id
                .as_ref()
                .is_some_and(|id| observed.taken_snapshot_names.iter().any(|taken| taken == id.as_str())),
        });
        failures.extend(guards::as_failure(
            ErrorName::RefusedUnsafe,
            "refused to delete the target: ",
            &refusals,
            "nothing was touched",
        ));
    }
    match (snapshot, together(failures)) {
        (_, Some(failure)) => Err(failure),
        (Err(failure), None) => Err(failure),
        (Ok(snapshot), None) => Ok(planned(request, observed, snapshot, operation_id)),
    }
}

/// The plan as far as it can be made before its ground was looked at; `None` without a snapshot to restore.
pub fn draft(request: &Request, observed: &Observed, operation_id: &OperationId) -> Option<Plan> {
    let snapshot = choose_snapshot(request, &observed.snapshots).ok()?;
    Some(planned(request, observed, snapshot, operation_id))
}

/// What a request that was mended since its plan was recorded asks of the cluster that it no longer can.
pub fn beyond_the_plan(request: &Request, plan: &Plan) -> Option<String> {
    let by_token: Vec<&str> = request.token_users().collect();
    (!by_token.is_empty() && !plan.settings.enable_iam_database_authentication).then(|| {
        format!(
            "users: got login 'iam' for {}; takes 'password' in this operation, whose cluster is planned without IAM database authentication, or a new operation",
            by_token.join(", ")
        )
    })
}

/// Why the restore would fail where it is to be made.
fn unfit_ground(request: &Request, observed: &Observed, operation_id: &OperationId) -> Option<Failure> {
    let (draft, ground) = (draft(request, observed, operation_id)?, observed.ground.as_ref()?);
    let refusals = guards::against_restoring(&Blueprint::of(&draft), ground);
    guards::as_failure(ErrorName::InvalidRequest, "", &refusals, "nothing was touched")
}

/// The name of the replaced cluster's final snapshot; `None` when it needs none.
fn final_snapshot_id(request: &Request, observed: &Observed, operation_id: &OperationId) -> Option<SnapshotId> {
    let wants_one = !request.skip_final_snapshot
        && observed.target.as_ref().is_some_and(|target| !(target.is_managed() && target.never_came_up()));
    wants_one.then(|| naming::final_snapshot_id(&request.target_cluster_id, operation_id))
}

/// ARN of the source cluster, which may no longer exist while its snapshots do.
fn source_cluster_arn(request: &Request, snapshot: &Snapshot) -> String {
    let account = crate::ids::Arn::parse(&snapshot.arn).map(|arn| arn.account.to_owned()).unwrap_or_default();
    format!("arn:aws:rds:{}:{account}:cluster:{}", request.source_region, request.source_cluster_id)
}

/// The snapshot that the selector means.
fn choose_snapshot<'s>(request: &Request, snapshots: &'s [Snapshot]) -> Result<&'s Snapshot, Failure> {
    let Request { source_cluster_id: cluster, source_region: region, .. } = request;
    let not_found = |what: String, next: &str| {
        Err(Failure::new(ErrorName::SnapshotNotFound, what).left("nothing was touched").next(next))
    };
    match &request.snapshot {
        SnapshotSelector::Latest { date } => {
            let on_day = |snapshot: &&Snapshot| match (date, snapshot.created_at) {
                (None, _) => true,
                (Some(day), Some(created)) => timestamp(created).starts_with(day.as_str()),
                (Some(_), None) => false,
            };
            let candidates: Vec<_> = snapshots.iter().filter(on_day).collect();
            let newest = candidates
                .iter()
                .filter(|snapshot| status::snapshot(&snapshot.status) == status::Class::Settled)
                .max_by_key(|snapshot| snapshot.created_at);
            if let Some(newest) = newest {
                return Ok(newest);
            }
            let of_day = date.as_ref().map(|day| format!(" of {day} (UTC)")).unwrap_or_default();
            match candidates.first() {
                None => not_found(
                    format!("cluster {cluster} has no snapshot{of_day} in {region}"),
                    "check source_cluster_id and source_region, or make a snapshot of it",
                ),
                Some(pending) => Err(not_available(pending)),
            }
        }
        SnapshotSelector::Id(id) | SnapshotSelector::Arn(id) => {
            let Some(snapshot) = snapshots.first() else {
                return not_found(
                    format!("snapshot {id} does not exist in {region}"),
                    "check snapshot_id and source_region; 'latest' takes the newest of the source cluster",
                );
            };
            if snapshot.cluster_id != cluster.as_str() {
                return Err(Failure::new(
                    ErrorName::InvalidRequest,
                    format!(
                        "snapshot_id: got '{id}', a snapshot of cluster {}; takes one of source_cluster_id {cluster}",
                        snapshot.cluster_id
                    ),
                ));
            }
            match status::snapshot(&snapshot.status) {
                status::Class::Settled => Ok(snapshot),
                status::Class::InProgress
                | status::Class::Failed
                | status::Class::Deleting
                | status::Class::Unknown => Err(not_available(snapshot)),
            }
        }
    }
}

fn not_available(snapshot: &Snapshot) -> Failure {
    let percent = snapshot.percent_progress.map(|percent| format!(", {percent} %")).unwrap_or_default();
    Failure::new(
        ErrorName::ResourceConflict,
        format!("snapshot {} exists but is {}{percent}, not available", snapshot.id, snapshot.status),
    )
    .left("nothing was touched")
    .next("start again when it is available, or name another snapshot")
}

/// What stands against restoring this engine, or against asking this of it.
fn of_engine(request: &Request, observed: &Observed, snapshot: &Snapshot) -> Vec<String> {
    let Snapshot { engine, engine_version, .. } = snapshot;
    let source = &request.source_cluster_id;
    let mut problems = vec![];
    match Engine::of(engine) {
        Some(Engine::PostgreSql) => {}
        Some(Engine::MySql) => {
            if engine_version.starts_with("5.") {
                problems.push(format!(
                    "source_cluster_id: got {source}, whose engine version is {engine_version}; takes Aurora MySQL version 3 or later (MySQL 8)"
                ));
            }
            problems.extend(observed.mysql_secret_problems.iter().chain(&observed.mysql_script_problems).cloned());
        }
        None => {
            let engines = Engine::ALL.map(Engine::as_str).join(" or ");
            problems.push(format!(
                "source_cluster_id: got {source}, whose engine is {engine}; takes a cluster of engine {engines}"
            ));
        }
    }
    problems.extend(Engine::of(engine).into_iter().flat_map(|engine| unfit(&request.users, engine)));
    problems
}

/// What is wrong with the request in the light of what was found.
fn invalid(request: &Request, observed: &Observed, snapshot: Option<&Snapshot>) -> Vec<Failure> {
    let mut problems: Vec<String> = observed.secret_problems.iter().chain(&observed.script_problems).cloned().collect();
    let base = &observed.base;
    let settings = plan::merge(&request.settings, base.settings.as_ref());
    let instances = instances_to_create(request, base);
    let target = &request.target_cluster_id;

    if let Some(snapshot) = snapshot {
        problems.extend(of_engine(request, observed, snapshot));
        if snapshot.encrypted && !is_same_region(request) && key_to_look_at(request, base).is_none() {
            problems.push(format!(
                "kms_key_id: needs a key of the target Region {}, because snapshot {} is encrypted",
                request.target_region, snapshot.id
            ));
        }
        let version = request.settings.engine_version.as_ref().unwrap_or(&snapshot.engine_version);
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let maintains =
            |access: &Access| access.grants.iter().any(|grant| grant.privileges.contains(&Privilege::Maintain));
        for (key, _) in request.users.iter().filter(|(_, access)| maintains(access)) {
            if major.is_some_and(|major| major < 17) {
                problems.push(format!(
                    "users.{key}.grants: got maintain; takes it from engine version 17 on, not with {version}"
                ));
            }
        }
        if let (Some(in_secret), Some(in_snapshot)) = (&observed.master_username, &snapshot.master_username)
            && in_secret != in_snapshot
        {
            problems.push(format!(
                "master secret, field 'username': got {in_secret}; takes {in_snapshot}, the master user of snapshot {}, which the restored cluster keeps",
                snapshot.id
            ));
        }
    }
    if settings.db_subnet_group_name.is_none() {
        problems.push(format!(
            "db_subnet_group_name: needs a value, because there is no cluster {target} to take it from (AWS would use the default VPC)"
        ));
    }
    if settings.vpc_security_group_ids.is_empty() {
        problems.push(format!(
            "vpc_security_group_ids: needs at least one, because there is no cluster {target} to take them from (AWS would use the default group)"
        ));
    }
    if instances.is_empty() {
        problems.push(format!(
            "db_instance_class: needs a value, because there is no cluster {target} with instances to take it from"
        ));
    }
    if settings.serverless_v2.is_none()
        && instances.iter().any(|instance| instance.spec.db_instance_class == "db.serverless")
    {
        problems.push("serverless_v2: needs {min_acu, max_acu}, because an instance is of class db.serverless".into());
    }
    let tags = plan::merge_tags(&request.tags, base).len();
    if tags > crate::request::TAGS_MAX {
        problems.push(format!(
            "tags: got {tags} together with those of the cluster being replaced; takes at most {}",
            crate::request::TAGS_MAX
        ));
    }
    problems.extend(room::missing(request, observed, instances.len()));
    if problems.is_empty() {
        return vec![];
    }
    vec![Failure::new(ErrorName::InvalidRequest, problems.join("; ")).left("nothing was touched")]
}

fn is_same_region(request: &Request) -> bool {
    request.source_region == request.target_region
}

/// The keys of copy and restore. `kms_key_id` of a copy is given if and only if the snapshot is encrypted; a restore
/// re-encrypts only where the snapshot at hand does not have the wanted key already.
fn keys(request: &Request, base: &Base, snapshot: &Snapshot) -> (Option<String>, Option<String>) {
    let wanted = key_to_look_at(request, base);
    if snapshot.encrypted && !is_same_region(request) {
        return (wanted, None);
    }
    // The environment's key exists for copies; a restore without one is encrypted with a key only if somebody asked,
    // or if the cluster being replaced had one.
    let restore_key = match request.settings.kms_key_is_explicit {
        true => request.settings.kms_key_id.clone(),
        false => base.settings.as_ref().and_then(|settings| settings.kms_key_id.clone()),
    };
    (None, restore_key)
}

fn key_failure(request: &Request, observed: &Observed, snapshot: Option<&Snapshot>) -> Option<Failure> {
    let (copy_key, restore_key) = keys(request, &observed.base, snapshot?);
    let used = copy_key.or(restore_key)?;
    let region = &request.target_region;
    match &observed.key {
        KeyLook::NotAsked => None,
        KeyLook::Found(key) => {
            guards::unusable_key(&used, Some(key)).map(|failure| failure.left("nothing was touched"))
        }
        KeyLook::Missing => Some(
            Failure::new(
                ErrorName::InvalidRequest,
                format!("kms_key_id: got '{used}'; takes a key or alias that exists in the target Region {region}"),
            )
            .left("nothing was touched"),
        ),
    }
}

/// Names that we need and that others have.
fn taken_names(request: &Request, observed: &Observed, operation_id: &OperationId) -> Option<Failure> {
    let target = request.target_cluster_id.as_str();
    let mut taken: Vec<String> = instances_to_create(request, &observed.base)
        .iter()
        .filter_map(|planned| {
            let instance = observed.instances.iter().find(|instance| instance.id == planned.id.as_str())?;
            (instance.cluster_id.as_deref() != Some(target))
                .then(|| format!("instance {} exists and is not a member of cluster {target}", planned.id))
        })
        .collect();
    let copy_id = naming::copy_id(&request.target_cluster_id, operation_id);
    if !is_same_region(request) && observed.taken_snapshot_names.iter().any(|name| name == copy_id.as_str()) {
        taken.push(format!("a snapshot {copy_id} exists in the target Region"));
    }
    taken.extend(observed.taken_cluster_names.iter().map(|name| format!("a cluster {name} exists")));
    if taken.is_empty() {
        return None;
    }
    Some(
        Failure::new(
            ErrorName::ResourceConflict,
            format!("names that this restore needs are taken: {}", taken.join("; ")),
        )
        .left("nothing was touched")
        .next("delete or rename what bears them, or choose another target_cluster_id or operation_id"),
    )
}

/// All failures as one, under the first one's name.
fn together(failures: Vec<Failure>) -> Option<Failure> {
    let mut failures = failures.into_iter();
    let mut all = failures.next()?;
    for failure in failures {
        all.what = format!("{}; {}", all.what.trim_end_matches('.'), failure.what);
        all.next = match (all.next, failure.next) {
            (Some(one), Some(two)) => Some(format!("{one}; {two}")),
            (one, two) => one.or(two),
        };
    }
    Some(all)
}

fn planned(request: &Request, observed: &Observed, snapshot: &Snapshot, operation_id: &OperationId) -> Plan {
    let (target, base) = (observed.target.as_ref(), &observed.base);
    let (copy_key, restore_key) = keys(request, base, snapshot);
    let copy = if is_same_region(request) {
        CopyPlan::SameRegion
    } else {
        CopyPlan::Copy { copy_id: naming::copy_id(&request.target_cluster_id, operation_id), kms_key_id: copy_key }
    };
    let mut settings =
        ClusterSettings { kms_key_id: restore_key, ..plan::merge(&request.settings, base.settings.as_ref()) };
    settings.enable_iam_database_authentication |= request.token_users().next().is_some();
    let swap = request.swap.map(|_| SwapPlan {
        scratch_id: naming::scratch_id(&request.target_cluster_id, operation_id),
        retired_id: naming::retired_id(&request.target_cluster_id, operation_id),
    });
    let mut instances = instances_to_create(request, base);
    if let Some(swap) = &swap {
        for (index, planned) in instances.iter_mut().enumerate() {
            planned.scratch_id = Some(naming::instance_id(&swap.scratch_id, index + 1));
        }
    }
    let mut plan = Plan {
        snapshot: SnapshotRef {
            id: snapshot.id.clone(),
            arn: snapshot.arn.clone(),
            created_at: snapshot.created_at.map(timestamp),
            encrypted: snapshot.encrypted,
            kms_key_id: snapshot.kms_key_id.clone(),
            engine: snapshot.engine.clone(),
            engine_version: snapshot.engine_version.clone(),
            allocated_storage_gib: snapshot.allocated_storage_gib,
        },
        source_cluster_arn: source_cluster_arn(request, snapshot),
        copy,
        replaces: target.map(|target| Replaces { arn: target.arn.clone(), resource_id: target.resource_id.clone() }),
        final_snapshot_id: final_snapshot_id(request, observed, operation_id),
        settings,
        swap,
        instances,
        tags: plan::merge_tags(&request.tags, base),
        expected: observed.expected.clone(),
        summary: vec![],
    };
    plan.summary = summary::of(request, &plan);
    if let Some(earlier) = &base.remembered_by {
        plan.summary.push(format!("settings that the request does not give come from what operation {earlier} remembered of the cluster that it deleted"));
    }
    plan
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
