//! Looks at everything that can be known before anything is touched, takes the lock on the target and records the
//! plan. With `plan_only` it stops there.

use crate::database;
use crate::follow::{Answer, conclude};
use crate::ground;
use crate::mask;
use aurora_restore_core::aws::rds::Rds;
use aurora_restore_core::domain::accounts;
use aurora_restore_core::domain::cloud::{Cluster, Instance, Snapshot};
use aurora_restore_core::domain::decide::preflight::{
    KeyLook, Observed, beyond_the_plan, decide, draft, instances_to_create, key_to_look_at,
};
use aurora_restore_core::domain::engine::Engine;
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::guards::{Blueprint, unusable_key};
use aurora_restore_core::domain::ids::OperationId;
use aurora_restore_core::domain::lock::{self, Lock, Owner};
use aurora_restore_core::domain::naming;
use aurora_restore_core::domain::notification::left_behind;
use aurora_restore_core::domain::operation::{self, ClusterState, FailedStep, Operation, Status};
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::phase::expected;
use aurora_restore_core::domain::plan::{self, Base, Plan};
use aurora_restore_core::domain::request::{Request, SnapshotSelector, parse};
use aurora_restore_core::domain::roles::unfit;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::swap::SwapState;
use aurora_restore_core::domain::{parse_timestamp, seconds_between, timestamp};
use aurora_restore_core::secrets::{parse_app, parse_master};
use aurora_restore_core::{Context, StepError};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// Age of a lock from which an owner's execution that Step Functions does not know counts as over.
const UNKNOWN_EXECUTION_SECONDS: u64 = 3600;

/// Handles one invocation. The input is the request itself, or what the state machine makes of it:
/// `{"request": {…}, "execution_arn": "…", "execution_name": "…"}`.
///
/// # Errors
/// `InvalidRequest`, `SnapshotNotFound`, `ResourceConflict`, `KmsKeyUnusable`, `RefusedUnsafe`, `TargetLocked`, and
/// what AWS says. Nothing was touched then.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    context.audit.forget_end();
    let envelope = Envelope::of(&input);
    let invalid = |what: String| Failure::new(ErrorName::InvalidRequest, what).left("nothing was touched");
    let operation_id = operation::operation_id(envelope.request, envelope.execution_name).map_err(invalid)?;
    let request = parse(envelope.request, &context.config.defaults)
        .map_err(|problems| invalid(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;

    admit(context, step, &operation_id).await?;
    let mut operation = open(context, operation_id, &envelope, &request).await?;
    if operation.begin_step(step, context.clock.now()) {
        context.store.save(&mut operation, context.clock.now()).await?;
    }
    let answer = work(context, &mut operation, &request).await;
    conclude(context, step, operation, answer).await
}

/// Lets the invocation begin. An operation that has a plan goes on, and its target may be gone already: what only spares RDS
/// does not keep it from that.
async fn admit(context: &Context, step: Step, operation_id: &OperationId) -> Result<(), StepError> {
    let Err(error) = context.rds.admit_first(step.rds_calls()).await else { return Ok(()) };
    let known = if error.name().is_transient() { None } else { context.store.find(operation_id).await.ok().flatten() };
    match known.and_then(|known| known.plan) {
        Some(_) => Ok(context.rds.admit(step.rds_calls()).await?),
        None => Err(error),
    }
}

/// Input of preflight, and of notify on the failure path.
pub(crate) struct Envelope<'a> {
    pub(crate) request: &'a Value,
    pub(crate) execution_arn: Option<&'a str>,
    pub(crate) execution_name: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    /// `request` is no field of a request, so its presence tells the two shapes apart.
    pub(crate) fn of(input: &'a Value) -> Self {
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        match input.get("request") {
            Some(request) => {
                Self { request, execution_arn: text("execution_arn"), execution_name: text("execution_name") }
            }
            None => Self { request: input, execution_arn: None, execution_name: None },
        }
    }
}

/// The operation to run: a new one, the same one once more, or a failed one that goes on where it stopped.
async fn open(
    context: &Context,
    operation_id: OperationId,
    envelope: &Envelope<'_>,
    request: &Request,
) -> Result<Operation, StepError> {
    let execution_arn = envelope.execution_arn.map(str::to_owned);
    let now = context.clock.now();
    let mut fresh = Operation::new(operation_id.clone(), execution_arn.clone(), now);
    fresh.request = Some(request.clone());
    fresh.target = Some(operation::place(&request.target_region, &request.target_cluster_id));
    fresh.source = Some(operation::place(&request.source_region, &request.source_cluster_id));
    let Some(known) = context.store.find(&operation_id).await? else {
        context.store.create(&fresh).await?;
        return Ok(fresh);
    };

    let takes_new = |why: &str| {
        Failure::new(ErrorName::InvalidRequest, format!("operation_id: got '{operation_id}', {why}; takes a new one"))
            .left("nothing was touched")
    };
    match known.status {
        Status::Succeeded | Status::Planned => {
            return Err(takes_new(&format!("which has {} already", known.status.as_str())).into());
        }
        Status::Running | Status::Failed | Status::Aborted => {}
    }
    if known.request.as_ref().is_some_and(|asked| !asked.has_the_plan_of(request)) {
        return Err(takes_new(
            "which was started for another restore (only verify, users, logins, retention and archive may change, not masking, and with masking not the inherited logins)",
        )
        .into());
    }
    if known.status == Status::Running && known.execution_arn == execution_arn {
        // By hand, what may be mended may be mended between two invocations too.
        return Ok(Operation { request: Some(request.clone()), ..known });
    }
    if known.status == Status::Running && !is_over(context, known.execution_arn.as_deref()).await? {
        let driver = known.execution_arn.as_deref().unwrap_or("a person, step by step");
        return Err(Failure::new(
            ErrorName::TargetLocked,
            format!("operation {operation_id} is already driven by {driver}"),
        )
        .left("nothing was touched")
        .next("wait for it to end")
        .into());
    }
    // It goes on: what was made stays known, times and outcome begin anew.
    let again = Operation {
        version: known.version,
        former: known.executions_so_far(),
        plan: known.plan,
        copy: known.copy,
        replaced: known.replaced,
        // The secret may have changed since: the password is set once more, which changes nothing if it has not.
        cluster: known.cluster.map(|cluster| ClusterState {
            master_password_reset_at: None,
            ready_at: None,
            ..cluster
        }),
        swap: known.swap.map(SwapState::again),
        downtime_seconds: known.downtime_seconds,
        masking: known.masking,
        users: known.users,
        archive: known.archive,
        ..fresh
    };
    let detail = json!({ "former_status": known.status, "former_execution_arn": known.execution_arn, "execution_arn": execution_arn });
    context.record_event(&again, "aurora-restore:Resumed", operation_id.as_str(), detail).await?;
    Ok(again)
}

/// Whether the driver of an operation is over; one that is driven by hand is never known to be.
async fn is_over(context: &Context, execution_arn: Option<&str>) -> Result<bool, StepError> {
    match execution_arn {
        Some(arn) => Ok(context.executions().is_over(arn).await?.unwrap_or(false)),
        None => Ok(false),
    }
}

async fn work(context: &Context, operation: &mut Operation, request: &Request) -> Result<Answer, StepError> {
    // Before the plan, which looks at a target that nobody else may be changing; taken after it, over exactly what was
    // seen here, so that a plan that finds reasons against itself leaves no lock behind.
    let lock = if request.plan_only { None } else { Some(look_at_lock(context, operation).await?) };
    // A plan that was recorded stands: the names in it may have been made already.
    let plan = match &operation.plan {
        Some(plan) => {
            look_at_secrets_and_scripts_again(context, request, plan).await?;
            plan.clone()
        }
        None => make_plan(context, operation, request).await?,
    };
    let Some((seen, decision)) = lock else {
        operation.plan = Some(plan.clone());
        return Ok(Answer::skipped_with(json!({ "reason": "plan_only", "plan": plan.summary })));
    };
    take_lock(context, operation, seen, decision).await?;
    context
        .record_event(operation, "aurora-restore:Planned", request.target_cluster_id.as_str(), json!(plan.summary))
        .await?;
    let answer = Answer::done(json!({ "plan": plan.summary }));
    operation.plan = Some(plan);
    Ok(answer)
}

/// The request may declare other users than when the plan was made, the secrets may hold others, and the scripts may have
/// changed.
async fn look_at_secrets_and_scripts_again(context: &Context, request: &Request, plan: &Plan) -> Result<(), StepError> {
    let mut observed = Observed::default();
    if request.managed_master.is_some() {
        // The master's name is asked of the snapshot, since no secret says it yet.
        observed.snapshots = snapshots(context, request).await?;
    }
    credentials(context, request, &mut observed).await?;
    if let Some(masking) = &request.masking {
        let master_database = observed.master_database.as_deref();
        observed.mysql_script_problems = mask::preflight(context, request, masking, master_database).await?;
    }
    let mut problems = observed.secret_problems;
    let engine = Engine::of(&plan.snapshot.engine);
    if engine == Some(Engine::MySql) {
        problems.extend(observed.mysql_secret_problems);
        problems.extend(observed.mysql_script_problems);
    }
    problems.extend(engine.into_iter().flat_map(|engine| unfit(&request.users, engine)));
    problems.extend(beyond_the_plan(request, plan));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(ErrorName::InvalidRequest, problems.join("; "))
            .next("mend what is named, then start again under the same operation_id")
            .into()),
    }
}

async fn make_plan(context: &Context, operation: &Operation, request: &Request) -> Result<Plan, StepError> {
    let observed = observe(context, operation, request).await?;
    Ok(decide(request, &observed, &operation.operation_id)?)
}

async fn observe(context: &Context, operation: &Operation, request: &Request) -> Result<Observed, StepError> {
    let rds = &context.rds;
    let (snapshots, target, quotas) = tokio::try_join!(
        snapshots(context, request),
        async { rds.cluster(&request.target_cluster_id).await.map_err(StepError::from) },
        async { rds.quotas().await.map_err(StepError::from) },
    )?;
    let mut instances = match &target {
        Some(_) => rds.instances_of(&request.target_cluster_id).await?,
        None => vec![],
    };
    let earlier = earlier(context, operation).await?;
    let base = plan::base(target.as_ref(), &instances, &earlier);
    let (others, global_cluster, key, taken_snapshot_names) = tokio::try_join!(
        others_of_our_names(rds, request, &base, &instances),
        global_cluster(rds, target.as_ref()),
        key(context, request, &base),
        taken_snapshot_names(rds, request, &operation.operation_id),
    )?;
    instances.extend(others);
    let mut observed = Observed { snapshots, quotas, instances, base, ..Observed::default() };
    observed.expected = operation.source.as_deref().map(|source| expected(&earlier, source)).unwrap_or_default();
    observed.global_cluster = global_cluster;
    observed.key = key;
    observed.taken_snapshot_names = taken_snapshot_names;
    observed.taken_cluster_names = taken_cluster_names(rds, request, &operation.operation_id).await?;
    observed.target = target;
    if let Some(draft) = draft(request, &observed, &operation.operation_id) {
        observed.ground = Some(ground::look(context, &Blueprint::of(&draft)).await?);
    }
    credentials(context, request, &mut observed).await?;
    if let Some(id) = request.managed_master.as_ref().and_then(|managed| managed.kms_key_id.as_ref()) {
        let failure = match context.kms().key(id).await? {
            None => Some(format!("takes a key or alias that exists in {}", request.target_region)),
            Some(key) => unusable_key(id, Some(&key)).map(|failure| failure.what),
        };
        observed.secret_problems.extend(failure.map(|why| format!("master_user_secret_kms_key_id: got '{id}'; {why}")));
    }
    if let Some(masking) = &request.masking {
        // Read whole, as setup-db-users will: hours from now, with the old cluster gone, is too late to find them missing.
        match mask::preflight(context, request, masking, observed.master_database.as_deref()).await {
            Ok(of_mysql) => observed.mysql_script_problems = of_mysql,
            Err(error) if error.name() == ErrorName::InvalidRequest => {
                observed.script_problems.push(error.failure.what)
            }
            Err(error) => return Err(error),
        }
    }
    Ok(observed)
}

async fn snapshots(context: &Context, request: &Request) -> Result<Vec<Snapshot>, StepError> {
    let source = context.rds_in(&request.source_region);
    Ok(match &request.snapshot {
        SnapshotSelector::Latest { .. } => source.snapshots_of(&request.source_cluster_id).await?,
        SnapshotSelector::Id(id) | SnapshotSelector::Arn(id) => source.snapshot(id).await?.into_iter().collect(),
    })
}

/// Instances that are not the target's and bear a name which the restored instances will need.
async fn others_of_our_names(
    rds: &Rds,
    request: &Request,
    base: &Base,
    own: &[Instance],
) -> Result<Vec<Instance>, StepError> {
    let mut others = Vec::new();
    for planned in instances_to_create(request, base) {
        if !own.iter().any(|instance| instance.id == planned.id.as_str()) {
            others.extend(rds.instance(&planned.id).await?);
        }
    }
    Ok(others)
}

/// The latest operations on the same target, newest first, without this one.
async fn earlier(context: &Context, operation: &Operation) -> Result<Vec<Operation>, StepError> {
    let Some(target) = &operation.target else { return Ok(vec![]) };
    let mut earlier = context.store.recent(target).await?;
    earlier.retain(|other| other.operation_id != operation.operation_id);
    Ok(earlier)
}

async fn global_cluster(rds: &Rds, target: Option<&Cluster>) -> Result<Option<String>, StepError> {
    match target {
        Some(target) => Ok(rds.global_cluster_of(&target.arn).await?),
        None => Ok(None),
    }
}

async fn key(context: &Context, request: &Request, base: &Base) -> Result<KeyLook, StepError> {
    let Some(id) = key_to_look_at(request, base) else { return Ok(KeyLook::NotAsked) };
    Ok(context.kms().key(&id).await?.map_or(KeyLook::Missing, KeyLook::Found))
}

async fn taken_snapshot_names(
    rds: &Rds,
    request: &Request,
    operation_id: &OperationId,
) -> Result<Vec<String>, StepError> {
    let mut taken = Vec::new();
    let target = &request.target_cluster_id;
    for id in [naming::copy_id(target, operation_id), naming::final_snapshot_id(target, operation_id)] {
        // A copy with this operation's tag is ours from an attempt whose record was lost.
        let snapshot = rds.snapshot(id.as_str()).await?;
        taken.extend(snapshot.filter(|snapshot| !snapshot.belongs_to(operation_id)).map(|snapshot| snapshot.id));
    }
    Ok(taken)
}

/// Clusters that are not this operation's and bear a name which its swap will need.
async fn taken_cluster_names(
    rds: &Rds,
    request: &Request,
    operation_id: &OperationId,
) -> Result<Vec<String>, StepError> {
    let (target, mut taken) = (&request.target_cluster_id, Vec::new());
    if request.swap.is_some() {
        for id in [naming::scratch_id(target, operation_id), naming::retired_id(target, operation_id)] {
            let cluster = rds.cluster(&id).await?;
            taken.extend(cluster.filter(|cluster| !cluster.belongs_to(operation_id)).map(|cluster| cluster.id));
        }
    }
    Ok(taken)
}

/// RDS's limit for master passwords of MySQL.
const MYSQL_MASTER_PASSWORD_MAX: usize = 41;

/// What is wrong with the secrets; reading them must work, their values must be good.
async fn credentials(context: &Context, request: &Request, observed: &mut Observed) -> Result<(), StepError> {
    let (master_name, app_name) = (&context.config.master_secret, &context.config.app_secret);
    // Never from the cache: a person who mends a secret and starts again must be believed.
    context.secrets().forget(master_name);
    context.secrets().forget(app_name);
    let mut text = async |name: &str| match context.secrets().get(name).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is("ResourceNotFoundException") => {
            observed
                .secret_problems
                .push(format!("secret {name} does not exist or has no value in {}", context.config.target_region));
            Ok(None)
        }
        Err(error) => Err(StepError::from(error)),
    };
    let master = match &request.managed_master {
        // RDS's secret will be made with the cluster; ours is not read.
        Some(_) => Ok(None),
        None => text(master_name).await?.map(|text| parse_master(master_name, &text)).transpose(),
    };
    let app = text(app_name).await?.map(|text| parse_app(app_name, &text, &request.users)).transpose();
    if let Ok(Some(master)) = &master
        && master.login.password.expose_secret().len() > MYSQL_MASTER_PASSWORD_MAX
    {
        observed.mysql_secret_problems.push(format!(
            "secret {master_name}, field 'password': takes at most {MYSQL_MASTER_PASSWORD_MAX} characters for Aurora MySQL"
        ));
    }
    match master {
        Ok(Some(master)) => {
            observed.master_username = Some(master.login.username);
            observed.master_database = master.database;
        }
        Ok(None) => {}
        Err(problems) => observed.secret_problems.extend(problems),
    }
    let of_snapshot = || observed.snapshots.iter().find_map(|snapshot| snapshot.master_username.clone());
    match (observed.master_username.clone().or_else(of_snapshot), app) {
        (Some(master), Ok(Some(app))) => match database::desired(request, &master, &app) {
            Ok(desired) => {
                let problems = accounts::check(&desired).into_iter().map(|what| format!("secret {app_name}: {what}"));
                observed.mysql_secret_problems.extend(problems);
            }
            Err(problems) => {
                let problems = problems.iter().map(|problem| format!("secret {app_name}: {problem}"));
                observed.secret_problems.extend(problems);
            }
        },
        (_, Ok(_)) => {}
        (_, Err(problems)) => observed.secret_problems.extend(problems),
    }
    Ok(())
}

/// The lock on the target and what to do about it.
///
/// # Errors
/// `TargetLocked` when someone is at work.
async fn look_at_lock(context: &Context, operation: &Operation) -> Result<(Option<Lock>, lock::Decision), StepError> {
    let (id, execution_arn) = (&operation.operation_id, operation.execution_arn.as_deref());
    let target = operation.target.as_deref().unwrap_or_default();
    let seen = context.store.lock(target).await?;
    let others = seen.as_ref().filter(|seen| seen.held && !lock::is_mine(seen, id, execution_arn));
    let owner = match others {
        Some(lock) => Some(owner(context, lock).await?),
        None => None,
    };
    match lock::decide(seen.as_ref(), owner, id, execution_arn, context.clock.now()) {
        lock::Decision::Refuse(failure) => Err(failure.into()),
        decision @ (lock::Decision::Mine | lock::Decision::Take | lock::Decision::TakeOver) => Ok((seen, decision)),
    }
}

async fn take_lock(
    context: &Context,
    operation: &mut Operation,
    seen: Option<Lock>,
    decision: lock::Decision,
) -> Result<(), StepError> {
    let target = operation.target.clone().unwrap_or_default();
    operation.fence = match (decision, seen) {
        (lock::Decision::Mine, seen) => seen.map(|lock| lock.fence),
        (lock::Decision::TakeOver, Some(seen)) => {
            let closed = former_closed(context, operation, &seen).await?;
            Some(context.take_lock_over(operation, &target, &seen, closed.as_ref()).await?)
        }
        (lock::Decision::Take | lock::Decision::TakeOver | lock::Decision::Refuse(_), seen) => {
            Some(context.store.take_lock(&target, operation, seen.as_ref(), context.clock.now()).await?)
        }
    };
    Ok(())
}

/// The operation whose execution is over without having closed it (stopped by a person, or timed out), closed. `None`
/// when there is nothing to close: it ended by itself, it is this one, or another execution goes on with it.
async fn former_closed(context: &Context, operation: &Operation, lock: &Lock) -> Result<Option<Operation>, StepError> {
    if lock.owner == operation.operation_id {
        return Ok(None);
    }
    let Some(mut former) = context.store.find(&lock.owner).await? else { return Ok(None) };
    if former.status != Status::Running {
        return Ok(None);
    }
    // That the lock's owner is over says nothing of an execution that has gone on with its operation since.
    let is_the_owners = former.execution_arn == lock.owner_execution_arn;
    if !is_the_owners && !is_over(context, former.execution_arn.as_deref()).await? {
        return Ok(None);
    }
    let now = context.clock.now();
    let message = format!(
        "its execution ended without closing it; operation {} took over. As it stood: {}",
        operation.operation_id,
        left_behind(&former).join("; ")
    );
    former.error = Some(FailedStep { step: former.step_under_way(), name: "Aborted".into(), message });
    former.status = Status::Aborted;
    former.finished_at = Some(timestamp(now));
    Ok(Some(former))
}

async fn owner(context: &Context, lock: &Lock) -> Result<Owner, StepError> {
    let operation = context.store.find(&lock.owner).await?;
    let execution_ended = match lock.owner_execution_arn.as_deref() {
        Some(arn) => Some(match context.executions().is_over(arn).await? {
            Some(over) => over,
            // Unknown: ended over 90 days ago, or begun a moment ago and not visible yet.
            None => parse_timestamp(&lock.taken_at)
                .is_some_and(|taken| seconds_between(taken, context.clock.now()) > UNKNOWN_EXECUTION_SECONDS),
        }),
        None => None,
    };
    let operation_ended = operation.is_none_or(|operation| operation.status != Status::Running);
    Ok(Owner { operation_ended, execution_ended })
}
