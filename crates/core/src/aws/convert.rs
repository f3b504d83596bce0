//! From RDS's wire types to domain values.

use aurora_restore_domain::Instant;
use aurora_restore_domain::cloud::{Cluster, Instance, MasterUserSecret, Member, Snapshot, Tags};
use aws_sdk_rds::types as rds;

pub(super) fn tags(list: Option<Vec<rds::Tag>>) -> Tags {
    list.unwrap_or_default().into_iter().filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()
}

pub(super) fn instant(at: Option<aws_smithy_types::DateTime>) -> Option<Instant> {
    Instant::from_unix_timestamp_nanos(at?.as_nanos()).ok()
}

fn port(port: Option<i32>) -> Option<u16> {
    port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

fn tier(tier: Option<i32>) -> Option<u8> {
    tier.and_then(|tier| u8::try_from(tier).ok())
}

pub(super) fn cluster(cluster: rds::DbCluster) -> Cluster {
    // Only what we changed: another pending change may wait for a maintenance window.
    let has_pending_master_password =
        cluster.pending_modified_values.as_ref().is_some_and(|pending| pending.master_user_password.is_some());
    Cluster {
        id: cluster.db_cluster_identifier.unwrap_or_default(),
        arn: cluster.db_cluster_arn.unwrap_or_default(),
        status: cluster.status.unwrap_or_default(),
        engine: cluster.engine.unwrap_or_default(),
        engine_version: cluster.engine_version.unwrap_or_default(),
        endpoint: cluster.endpoint,
        port: port(cluster.port),
        master_username: cluster.master_username,
        database_name: cluster.database_name,
        deletion_protection: cluster.deletion_protection.unwrap_or(false),
        storage_encrypted: cluster.storage_encrypted.unwrap_or(false),
        kms_key_id: cluster.kms_key_id,
        db_subnet_group_name: cluster.db_subnet_group,
        vpc_security_group_ids: cluster
            .vpc_security_groups
            .unwrap_or_default()
            .into_iter()
            .filter_map(|group| group.vpc_security_group_id)
            .collect(),
        db_cluster_parameter_group_name: cluster.db_cluster_parameter_group,
        iam_database_authentication: cluster.iam_database_authentication_enabled.unwrap_or(false),
        cloudwatch_logs_exports: cluster.enabled_cloudwatch_logs_exports.unwrap_or_default(),
        storage_type: cluster.storage_type,
        serverless_v2: cluster
            .serverless_v2_scaling_configuration
            .and_then(|scaling| Some((scaling.min_capacity?, scaling.max_capacity?))),
        members: cluster
            .db_cluster_members
            .unwrap_or_default()
            .into_iter()
            .filter_map(|member| {
                Some(Member {
                    id: member.db_instance_identifier?,
                    is_writer: member.is_cluster_writer.unwrap_or(false),
                    promotion_tier: tier(member.promotion_tier),
                })
            })
            .collect(),
        has_pending_master_password,
        master_user_secret: cluster.master_user_secret.and_then(|secret| {
            Some(MasterUserSecret { arn: secret.secret_arn?, status: secret.secret_status.unwrap_or_default() })
        }),
        resource_id: cluster.db_cluster_resource_id.unwrap_or_default(),
        replication_source: cluster.replication_source_identifier.filter(|source| !source.is_empty()),
        read_replicas: cluster.read_replica_identifiers.unwrap_or_default(),
        tags: tags(cluster.tag_list),
    }
}

pub(super) fn instance(instance: rds::DbInstance) -> Instance {
    Instance {
        id: instance.db_instance_identifier.unwrap_or_default(),
        status: instance.db_instance_status.unwrap_or_default(),
        class: instance.db_instance_class.unwrap_or_default(),
        promotion_tier: tier(instance.promotion_tier),
        cluster_id: instance.db_cluster_identifier,
        tags: tags(instance.tag_list),
    }
}

pub(super) fn snapshot(snapshot: rds::DbClusterSnapshot) -> Snapshot {
    Snapshot {
        id: snapshot.db_cluster_snapshot_identifier.unwrap_or_default(),
        arn: snapshot.db_cluster_snapshot_arn.unwrap_or_default(),
        cluster_id: snapshot.db_cluster_identifier.unwrap_or_default(),
        status: snapshot.status.unwrap_or_default(),
        percent_progress: snapshot.percent_progress.and_then(|percent| u8::try_from(percent).ok()),
        created_at: instant(snapshot.snapshot_create_time),
        encrypted: snapshot.storage_encrypted.unwrap_or(false),
        kms_key_id: snapshot.kms_key_id,
        engine: snapshot.engine.unwrap_or_default(),
        engine_version: snapshot.engine_version.unwrap_or_default(),
        master_username: snapshot.master_username,
        allocated_storage_gib: snapshot.allocated_storage,
        tags: tags(snapshot.tag_list),
    }
}
