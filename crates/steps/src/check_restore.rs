//! Makes the restored cluster reachable: creates its instances once it is available, sets the master password to the
//! secret's, and is done when a login works.

use crate::database;
use crate::follow::{Answer, follow, planned, tags};
use crate::restored;
use aurora_restore_core::domain::decide::check_restore::{Decision, Password, decide, has_settled};
use aurora_restore_core::domain::failure::{ErrorName, Failure};
use aurora_restore_core::domain::ids::ClusterId;
use aurora_restore_core::domain::naming::Kind;
use aurora_restore_core::domain::operation::Operation;
use aurora_restore_core::domain::outcome::StepOutput;
use aurora_restore_core::domain::phase::{Phase, Waiting};
use aurora_restore_core::domain::plan::{Plan, PlannedInstance};
use aurora_restore_core::domain::request::Request;
use aurora_restore_core::domain::sabotage::Sabotage;
use aurora_restore_core::domain::step::Step;
use aurora_restore_core::domain::{human_duration, parse_timestamp, seconds_between, timestamp};
use aurora_restore_core::secrets::MasterCredentials;
use aurora_restore_core::{Context, StepError};
use aurora_restore_database::{DatabaseError, ErrorClass};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// How long a login may be refused after the reset: RDS applies it in seconds, a big cluster in minutes.
const REFUSED_SECONDS: u64 = 15 * 60;
/// How long an available cluster may be out of reach: serverless v2 takes up to 25 minutes to accept connections.
const UNREACHABLE_SECONDS: u64 = 60 * 60;

/// Handles one invocation.
///
/// # Errors
/// `ResourceFailed` when cluster or instances end in a failed status, `SecretInvalid` when the reset master password
/// is refused, `DeadlineExceeded`, and what AWS says.
pub async fn run(context: &Context, step: Step, input: Value) -> Result<StepOutput, StepError> {
    follow(context, step, input, work).await
}

async fn work(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let (request, plan) = planned(operation)?;
    let (id, cluster) = restored::find(context, operation, &request, &plan).await?;
    let id = &id;
    let mut instances = vec![];
    if cluster.as_ref().is_some_and(has_settled) {
        instances = context.rds.instances_of(id).await?;
        // A name that is missing among the members may be somebody else's.
        for (planned, named) in plan.instances.iter().zip(plan.instances_in(id.as_str())) {
            if !instances.iter().any(|instance| planned.is_called(&instance.id)) {
                instances.extend(context.rds.instance(&named.id).await?);
            }
        }
    }
    let is_managed = request.managed_master.is_some();
    let state = restored::record(operation, cluster.as_ref(), &plan, is_managed)?;
    let password = Password { is_managed, is_reset: state.master_password_reset_at.is_some() };
    let elapsed_seconds = operation.seconds_in(Step::CheckRestore, context.clock.now());
    match decide(&plan, cluster.as_ref(), &instances, &operation.operation_id, password, elapsed_seconds) {
        Decision::Wait(waiting) => Ok(Answer::waiting_for(waiting)),
        Decision::Fail(failure) => Err(failure.into()),
        Decision::CreateInstances(missing) => create(context, operation, id, &plan, &missing).await,
        Decision::ResetMasterPassword => reset_master_password(context, operation, id, &request).await,
        Decision::Protect => {
            let call = context.rds.set_deletion_protection(id, true);
            let detail = json!({ "deletion_protection": true });
            context.mutate(operation, "rds:ModifyDBCluster", id.as_str(), detail, call).await?;
            let progress = format!("deletion protection of cluster {id} is being turned on");
            Ok(Answer::waiting_for(Waiting::of(Phase::Change, progress)))
        }
        Decision::TryLogin => try_login(context, operation).await,
    }
}

async fn create(
    context: &Context,
    operation: &Operation,
    id: &ClusterId,
    plan: &Plan,
    missing: &[PlannedInstance],
) -> Result<Answer, StepError> {
    let tags = tags(operation, plan, Kind::Instance);
    for instance in missing {
        let detail = json!({ "cluster": id, "class": instance.spec.db_instance_class });
        let call = context.rds.create_instance(id, &plan.snapshot.engine, instance, &tags);
        context.mutate(operation, "rds:CreateDBInstance", instance.id.as_str(), detail, call).await?;
    }
    let names: Vec<_> = missing.iter().map(|instance| instance.id.as_str()).collect();
    let progress = format!("instances {} are being created", names.join(", "));
    Ok(Answer::waiting_for(Waiting::of(Phase::Instances, progress).for_instances(names)))
}

async fn reset_master_password(
    context: &Context,
    operation: &mut Operation,
    id: &ClusterId,
    request: &Request,
) -> Result<Answer, StepError> {
    match &request.managed_master {
        Some(managed) => {
            let detail =
                json!({ "manage_master_user_password": true, "master_user_secret_kms_key_id": managed.kms_key_id });
            let call = context.rds.manage_master_password(id, managed);
            context.mutate(operation, "rds:ModifyDBCluster", id.as_str(), detail, call).await?;
        }
        None => {
            // Never from the cache: what is set now is what everybody else will read.
            context.secrets().forget(&context.config.master_secret);
            let master = database::master(context, operation).await?;
            let mut detail =
                json!({ "master_user_password": format!("as in secret {}", context.config.master_secret) });
            if Sabotage::SecretInAudit.is_on() {
                detail = json!(master.login.password.expose_secret());
            }
            let call = context.rds.set_master_password(id, &master.login.password);
            context.mutate(operation, "rds:ModifyDBCluster", id.as_str(), detail, call).await?;
        }
    }
    if let Some(state) = &mut operation.cluster {
        state.master_password_reset_at = Some(timestamp(context.clock.now()));
    }
    let progress = format!("the master password of cluster {id} is being reset");
    Ok(Answer::waiting_for(Waiting::of(Phase::MasterPassword, progress).for_cluster(id.as_str())))
}

async fn try_login(context: &Context, operation: &mut Operation) -> Result<Answer, StepError> {
    let master = database::master(context, operation).await?;
    let error = match database::server(context, operation, &master)?.try_master().await {
        Ok(login) => {
            let now = context.clock.now();
            let down_since = operation.replaced.as_ref().and_then(|replaced| replaced.down_since.clone());
            // With a swap it is somebody else who serves until then.
            if operation.swap.is_none() {
                operation.is_up_again(down_since.as_deref(), now);
            }
            let endpoint = operation.cluster.as_mut().and_then(|state| {
                state.ready_at = Some(timestamp(now));
                state.endpoint.clone()
            });
            let detail = json!({ "endpoint": endpoint, "server_version": login.server_version, "tls": login.tls });
            return Ok(Answer::done(detail));
        }
        Err(error) => error,
    };
    let since =
        operation.cluster.as_ref().and_then(|state| parse_timestamp(state.master_password_reset_at.as_deref()?));
    let waited = since.map_or(0, |since| seconds_between(since, context.clock.now()));
    match error.class() {
        ErrorClass::LoginRefused => refused(context, operation, &master, error, waited).await,
        ErrorClass::Unreachable if waited <= UNREACHABLE_SECONDS => {
            Ok(Answer::waiting_for(Waiting::of(Phase::Login, format!("cluster is available, but {error}"))))
        }
        ErrorClass::Unreachable => Err(StepError::caused_by(
            Failure::new(ErrorName::DeadlineExceeded, format!("the restored cluster is available for {}, but cannot be reached", human_duration(waited)))
                .next("check that this function is in the cluster's VPC and that the security group lets it in on the port, then start again under the same operation_id"),
            error,
        )),
        ErrorClass::Rejected | ErrorClass::Invalid => Err(database::failed("log in as the master user", error)),
    }
}

/// Refused although reset: not applied yet, or the secret was changed since, in which case it is reset once more.
async fn refused(
    context: &Context,
    operation: &mut Operation,
    used: &MasterCredentials,
    error: DatabaseError,
    waited: u64,
) -> Result<Answer, StepError> {
    let secret = &database::master_secret(context, operation).to_owned();
    context.secrets().forget(secret);
    let current = database::master(context, operation).await?;
    let is_managed = secret != &context.config.master_secret;
    if !is_managed && current.login.password.expose_secret() != used.login.password.expose_secret() {
        if let Some(state) = &mut operation.cluster {
            state.master_password_reset_at = None;
        }
        let progress = format!("secret {secret} has changed; the password is reset again");
        return Ok(Answer::waiting_for(Waiting::of(Phase::Change, progress)));
    }
    if waited <= REFUSED_SECONDS {
        let progress = "the new master password is not accepted yet".to_owned();
        return Ok(Answer::waiting_for(Waiting::of(Phase::MasterPassword, progress)));
    }
    Err(StepError::caused_by(
        Failure::new(
            ErrorName::SecretInvalid,
            format!("the login of the master user is refused {} after its password was reset to that of secret {secret}", human_duration(waited)),
        )
        .next(format!("check that 'username' in {secret} is the cluster's master user, then start again under the same operation_id")),
        error,
    ))
}
