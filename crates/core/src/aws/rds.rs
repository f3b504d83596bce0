//! RDS in one Region: what is there, and the calls that change it. Reads return `None` for "not found"; any other
//! error is an error.

mod of_clusters;
mod rename;

use super::{AwsError, Called, Pace, aws_error, convert, one_attempt, token};
use crate::error::StepError;
use aurora_restore_domain::cloud::{Cluster, Instance, Quotas, Snapshot, Tags};
use aurora_restore_domain::failure::ErrorName;
use aurora_restore_domain::ids::{ClusterId, InstanceId, SnapshotId};
use aurora_restore_domain::plan::{ClusterSettings, PlannedInstance};
use aurora_restore_domain::request::ManagedMaster;
use aurora_restore_domain::sabotage::Sabotage;
use aws_config::{Region, SdkConfig};
use aws_sdk_rds::Client;
use aws_sdk_rds::operation::RequestId;
use aws_sdk_rds::types::{ServerlessV2ScalingConfiguration, Tag};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use secrecy::{ExposeSecret, SecretString};

/// RDS of one Region.
#[derive(Debug, Clone)]
pub struct Rds {
    /// For reads.
    client: Client,
    /// For calls that change something, see [`one_attempt`].
    changing: Client,
    region: String,
    /// For what is signed without a call.
    sdk: SdkConfig,
    pace: Pace,
}

fn wire(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn called(answer: &impl RequestId) -> Called<()> {
    Called { value: (), request_id: answer.request_id().map(str::to_owned) }
}

/// A deletion or a new name that the thing's state forbids: it is gone, perhaps by our own earlier call, or protected. Worth another
/// look, never a success by itself.
fn look_again(mut error: AwsError) -> AwsError {
    // The last one: deletion protection that was seen off is on after all.
    if ["DBInstanceNotFound", "DBClusterNotFoundFault", "DBClusterSnapshotNotFoundFault", "InvalidParameterCombination"]
        .iter()
        .any(|code| error.is(code))
    {
        error.name = ErrorName::StateConflict;
    }
    error
}

fn found<T>(answer: Result<T, AwsError>, not_found: &str) -> Result<Option<T>, AwsError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is(not_found) || Sabotage::SwallowThrottle.is_on() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Rds {
    /// RDS of `region`, with the other settings of `config`.
    pub fn new(config: &SdkConfig, region: &str) -> Self {
        Self::paced(config, region, Pace::default())
    }

    /// The same, each call in its turn.
    pub fn paced(config: &SdkConfig, region: &str, pace: Pace) -> Self {
        let sdk = config.clone();
        let config = aws_sdk_rds::config::Builder::from(&pace.over(config)).region(Region::new(region.to_owned()));
        let changing = config.clone().retry_config(one_attempt());
        Self {
            client: Client::from_conf(config.build()),
            changing: Client::from_conf(changing.build()),
            region: region.to_owned(),
            sdk,
            pace,
        }
    }

    /// Lets an invocation begin that makes about so many calls.
    ///
    /// # Errors
    /// As [`Pace::admit`].
    pub async fn admit(&self, calls: u64) -> Result<(), AwsError> {
        self.pace.admit(calls).await
    }

    /// The same for the first invocation of a restore.
    ///
    /// # Errors
    /// As [`Pace::admit_first`].
    pub async fn admit_first(&self, calls: u64) -> Result<(), StepError> {
        self.pace.admit_first(calls).await
    }

    /// A token with which `user` logs in to a database of this Region, in the function's own name (IAM database
    /// authentication). It is good for 15 minutes, longer than any invocation. No call: nobody asks IAM before the login.
    ///
    /// # Errors
    /// Credentials that cannot be had.
    pub async fn login_token(&self, host: &str, port: u16, user: &str) -> Result<SecretString, AwsError> {
        token::login_token(&self.sdk, &self.region, host, port, user).await
    }

    /// An error of this Region: source and target are easily mistaken for each other.
    fn error<E>(&self, action: &'static str, resource: &str, error: SdkError<E, HttpResponse>) -> AwsError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        aws_error(action, format!("{resource} in {}", self.region), error)
    }

    /// The Region's code.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// A cluster by id; `None` on `DBClusterNotFoundFault`.
    ///
    /// # Errors
    /// Whatever else RDS says.
    pub async fn cluster(&self, id: &ClusterId) -> Result<Option<Cluster>, AwsError> {
        let answer = self.client.describe_db_clusters().db_cluster_identifier(id.as_str()).send().await;
        let answer = answer.map_err(|error| self.error("rds:DescribeDBClusters", id.as_str(), error));
        let clusters = found(answer, "DBClusterNotFoundFault")?.and_then(|answer| answer.db_clusters);
        Ok(clusters.unwrap_or_default().into_iter().next().map(convert::cluster))
    }

    /// An instance by id; `None` on `DBInstanceNotFound`.
    ///
    /// # Errors
    /// Whatever else RDS says.
    pub async fn instance(&self, id: &InstanceId) -> Result<Option<Instance>, AwsError> {
        let answer = self.client.describe_db_instances().db_instance_identifier(id.as_str()).send().await;
        let answer = answer.map_err(|error| self.error("rds:DescribeDBInstances", id.as_str(), error));
        let instances = found(answer, "DBInstanceNotFound")?.and_then(|answer| answer.db_instances);
        Ok(instances.unwrap_or_default().into_iter().next().map(convert::instance))
    }

    /// A cluster snapshot by id or ARN; `None` on `DBClusterSnapshotNotFoundFault`.
    ///
    /// # Errors
    /// Whatever else RDS says.
    pub async fn snapshot(&self, id: &str) -> Result<Option<Snapshot>, AwsError> {
        // A snapshot that another account shares with us is described by its ARN only when it is asked for as shared.
        let answer = self
            .client
            .describe_db_cluster_snapshots()
            .db_cluster_snapshot_identifier(id)
            .include_shared(true)
            .send()
            .await;
        let answer = answer.map_err(|error| self.error("rds:DescribeDBClusterSnapshots", id, error));
        let snapshots = found(answer, "DBClusterSnapshotNotFoundFault")?.and_then(|answer| answer.db_cluster_snapshots);
        Ok(snapshots.unwrap_or_default().into_iter().next().map(convert::snapshot))
    }

    /// All snapshots of a cluster, automated and manual, copies included.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn snapshots_of(&self, id: &ClusterId) -> Result<Vec<Snapshot>, AwsError> {
        let call = self.client.describe_db_cluster_snapshots().db_cluster_identifier(id.as_str());
        let mut pages = call.into_paginator().items().send();
        let mut snapshots = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.error("rds:DescribeDBClusterSnapshots", id.as_str(), error))?;
            snapshots.push(convert::snapshot(item));
        }
        Ok(snapshots)
    }

    /// The VPC of a subnet group; `None` on `DBSubnetGroupNotFoundFault`.
    ///
    /// # Errors
    /// Whatever else RDS says.
    pub async fn vpc_of_subnet_group(&self, name: &str) -> Result<Option<String>, AwsError> {
        let answer = self.client.describe_db_subnet_groups().db_subnet_group_name(name).send().await;
        let answer = answer.map_err(|error| self.error("rds:DescribeDBSubnetGroups", name, error));
        let groups = found(answer, "DBSubnetGroupNotFoundFault")?.and_then(|answer| answer.db_subnet_groups);
        Ok(groups.unwrap_or_default().into_iter().next().map(|group| group.vpc_id.unwrap_or_default()))
    }

    /// `DBParameterGroupFamily` of a cluster parameter group; `None` on `DBParameterGroupNotFound`.
    ///
    /// # Errors
    /// Whatever else RDS says.
    pub async fn family_of_parameter_group(&self, name: &str) -> Result<Option<String>, AwsError> {
        let call = self.client.describe_db_cluster_parameter_groups().db_cluster_parameter_group_name(name);
        let answer = call.send().await;
        let answer = answer.map_err(|error| self.error("rds:DescribeDBClusterParameterGroups", name, error));
        let groups = found(answer, "DBParameterGroupNotFound")?.and_then(|answer| answer.db_cluster_parameter_groups);
        let group = groups.unwrap_or_default().into_iter().next();
        Ok(group.map(|group| group.db_parameter_group_family.unwrap_or_default()))
    }

    /// Whether instances of `class` can be ordered with this engine version.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn is_orderable(&self, engine: &str, engine_version: &str, class: &str) -> Result<bool, AwsError> {
        let call = self.client.describe_orderable_db_instance_options();
        let call = call.engine(engine).engine_version(engine_version).db_instance_class(class);
        let answer = call.send().await;
        let answer = answer.map_err(|error| self.error("rds:DescribeOrderableDBInstanceOptions", class, error))?;
        Ok(answer.orderable_db_instance_options().iter().any(|option| option.db_instance_class() == Some(class)))
    }

    /// The global cluster that a cluster is a member of.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn global_cluster_of(&self, cluster_arn: &str) -> Result<Option<String>, AwsError> {
        let mut pages = self.client.describe_global_clusters().into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let global = item.map_err(|error| self.error("rds:DescribeGlobalClusters", cluster_arn, error))?;
            let is_member = global.global_cluster_members().iter().any(|member| {
                member.db_cluster_arn() == Some(cluster_arn)
                    || member.readers().iter().any(|reader| reader == cluster_arn)
            });
            if is_member {
                return Ok(global.global_cluster_identifier);
            }
        }
        Ok(None)
    }

    /// The account's limits in the Region, and what is used of them.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn quotas(&self) -> Result<Quotas, AwsError> {
        let answer = self.client.describe_account_attributes().send().await;
        let answer = answer.map_err(|error| self.error("rds:DescribeAccountAttributes", "the account", error))?;
        let quota = |name: &str| {
            let quota = answer.account_quotas().iter().find(|quota| quota.account_quota_name() == Some(name))?;
            Some((quota.used?, quota.max?))
        };
        Ok(Quotas {
            manual_snapshots: quota("ManualClusterSnapshots"),
            clusters: quota("DBClusters"),
            instances: quota("DBInstances"),
        })
    }

    /// `CopyDBClusterSnapshot` into this Region. `kms_key_id` if and only if the source is encrypted.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn copy_snapshot(
        &self,
        source_arn: &str,
        copy_id: &SnapshotId,
        kms_key_id: Option<&str>,
        tags: &Tags,
    ) -> Result<Called<()>, AwsError> {
        self.changing
            .copy_db_cluster_snapshot()
            .source_db_cluster_snapshot_identifier(source_arn)
            .target_db_cluster_snapshot_identifier(copy_id.as_str())
            .set_kms_key_id(kms_key_id.map(str::to_owned))
            .copy_tags(false)
            .set_tags(Some(wire(tags)))
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| self.error("rds:CopyDBClusterSnapshot", copy_id.as_str(), error))
    }

    /// Turns a cluster's deletion protection on or off.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn set_deletion_protection(&self, id: &ClusterId, on: bool) -> Result<Called<()>, AwsError> {
        self.changing
            .modify_db_cluster()
            .db_cluster_identifier(id.as_str())
            .deletion_protection(on)
            .apply_immediately(true)
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| self.error("rds:ModifyDBCluster", id.as_str(), error))
    }

    /// Sets a cluster's master password; asynchronous on RDS's side.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn set_master_password(&self, id: &ClusterId, password: &SecretString) -> Result<Called<()>, AwsError> {
        self.changing
            .modify_db_cluster()
            .db_cluster_identifier(id.as_str())
            .master_user_password(password.expose_secret())
            .apply_immediately(true)
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| self.error("rds:ModifyDBCluster", id.as_str(), error))
    }

    /// Lets RDS make a cluster's master password and keep it in a secret of its own; asynchronous on RDS's side.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn manage_master_password(
        &self,
        id: &ClusterId,
        managed: &ManagedMaster,
    ) -> Result<Called<()>, AwsError> {
        self.changing
            .modify_db_cluster()
            .db_cluster_identifier(id.as_str())
            .manage_master_user_password(true)
            .set_master_user_secret_kms_key_id(managed.kms_key_id.clone())
            .apply_immediately(true)
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| self.error("rds:ModifyDBCluster", id.as_str(), error))
    }

    /// Deletes an instance of a cluster; the data stays with the cluster.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn delete_instance(&self, id: &str) -> Result<Called<()>, AwsError> {
        self.changing
            .delete_db_instance()
            .db_instance_identifier(id)
            .skip_final_snapshot(true)
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| look_again(self.error("rds:DeleteDBInstance", id, error)))
    }

    /// Deletes a cluster, with a final snapshot unless there is no name for one.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn delete_cluster(
        &self,
        id: &ClusterId,
        final_snapshot: Option<&SnapshotId>,
    ) -> Result<Called<()>, AwsError> {
        self.changing
            .delete_db_cluster()
            .db_cluster_identifier(id.as_str())
            .skip_final_snapshot(final_snapshot.is_none())
            .set_final_db_snapshot_identifier(final_snapshot.map(|id| id.as_str().to_owned()))
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| look_again(self.error("rds:DeleteDBCluster", id.as_str(), error)))
    }

    /// `RestoreDBClusterFromSnapshot`. Makes the cluster only; instances follow.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn restore_cluster(
        &self,
        id: &ClusterId,
        snapshot: &str,
        engine: &str,
        settings: &ClusterSettings,
        tags: &Tags,
    ) -> Result<Called<()>, AwsError> {
        let scaling = settings.serverless_v2.map(|scaling| {
            ServerlessV2ScalingConfiguration::builder()
                .min_capacity(scaling.min_acu)
                .max_capacity(scaling.max_acu)
                .build()
        });
        let logs = &settings.cloudwatch_logs_exports;
        self.changing
            .restore_db_cluster_from_snapshot()
            .db_cluster_identifier(id.as_str())
            .snapshot_identifier(snapshot)
            .engine(engine)
            .set_engine_version(settings.engine_version.clone())
            .set_kms_key_id(settings.kms_key_id.clone())
            .set_db_subnet_group_name(settings.db_subnet_group_name.clone())
            .set_vpc_security_group_ids(Some(settings.vpc_security_group_ids.clone()))
            .set_db_cluster_parameter_group_name(settings.db_cluster_parameter_group_name.clone())
            .set_port(settings.port.map(i32::from))
            .deletion_protection(settings.deletion_protection)
            .enable_iam_database_authentication(settings.enable_iam_database_authentication)
            .set_enable_cloudwatch_logs_exports((!logs.is_empty()).then(|| logs.clone()))
            .set_serverless_v2_scaling_configuration(scaling)
            .set_storage_type(settings.storage_type.clone())
            // So that a final snapshot of this cluster tells where it came from.
            .copy_tags_to_snapshot(true)
            .set_tags(Some(wire(tags)))
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| self.error("rds:RestoreDBClusterFromSnapshot", id.as_str(), error))
    }

    /// Creates an instance in a cluster.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn create_instance(
        &self,
        cluster: &ClusterId,
        engine: &str,
        instance: &PlannedInstance,
        tags: &Tags,
    ) -> Result<Called<()>, AwsError> {
        self.changing
            .create_db_instance()
            .db_cluster_identifier(cluster.as_str())
            .db_instance_identifier(instance.id.as_str())
            .db_instance_class(&instance.spec.db_instance_class)
            .engine(engine)
            // AWS's default depends on the VPC; a copy of production must not.
            .publicly_accessible(false)
            .set_promotion_tier(instance.spec.promotion_tier.map(i32::from))
            .set_tags(Some(wire(tags)))
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| self.error("rds:CreateDBInstance", instance.id.as_str(), error))
    }

    /// Adds tags to a resource.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn add_tags(&self, arn: &str, tags: &Tags) -> Result<Called<()>, AwsError> {
        self.changing
            .add_tags_to_resource()
            .resource_name(arn)
            .set_tags(Some(wire(tags)))
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| self.error("rds:AddTagsToResource", arn, error))
    }

    /// Deletes a manual cluster snapshot.
    ///
    /// # Errors
    /// Whatever RDS says.
    pub async fn delete_snapshot(&self, id: &str) -> Result<Called<()>, AwsError> {
        self.changing
            .delete_db_cluster_snapshot()
            .db_cluster_snapshot_identifier(id)
            .send()
            .await
            .map(|answer| called(&answer))
            .map_err(|error| look_again(self.error("rds:DeleteDBClusterSnapshot", id, error)))
    }
}

#[cfg(test)]
#[path = "rds_tests.rs"]
mod tests;
