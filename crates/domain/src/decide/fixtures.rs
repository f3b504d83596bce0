//! Values that the decision tables share.

use crate::cloud::{Cluster, Instance, Member, Snapshot};
use crate::guards::{Ground, SecurityGroup};
use crate::ids::{ClusterId, OperationId, SnapshotId};
use crate::naming;
use crate::operation::{ClusterState, Replaced};
use crate::plan::{ClusterSettings, CopyPlan, Plan, PlannedInstance, Replaces, SnapshotRef, SwapPlan, settings_of};
use crate::request::{Defaults, InstanceSpec, Request, Swap, parse};
use std::collections::BTreeMap;
use time::macros::datetime;

pub(crate) const SOURCE_ARN: &str = "arn:aws:rds:us-east-1:123456789012:cluster:production";

pub(crate) fn operation_id() -> OperationId {
    OperationId::try_from("nightly-1").unwrap()
}

pub(crate) fn target() -> ClusterId {
    ClusterId::try_from("staging").unwrap()
}

fn tags(operation: &str, kind: naming::Kind) -> BTreeMap<String, String> {
    [
        (naming::TAG_MANAGED, "true"),
        (naming::TAG_OPERATION, operation),
        (naming::TAG_SOURCE, SOURCE_ARN),
        (naming::TAG_KIND, kind.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// A target of ours from an earlier operation: available, protected, a writer `…-1` and a reader `…-2`.
pub(crate) fn cluster(id: &str) -> Cluster {
    let member =
        |ordinal: usize| Member { id: format!("{id}-{ordinal}"), is_writer: ordinal == 1, promotion_tier: Some(1) };
    Cluster {
        id: id.into(),
        arn: format!("arn:aws:rds:us-west-2:123456789012:cluster:{id}"),
        status: "available".into(),
        engine: "aurora-postgresql".into(),
        engine_version: "15.4".into(),
        endpoint: Some(format!("{id}.cluster-abc.us-west-2.rds.amazonaws.com")),
        port: Some(5432),
        master_username: Some("master".into()),
        database_name: Some("app".into()),
        deletion_protection: true,
        storage_encrypted: true,
        kms_key_id: Some("arn:aws:kms:us-west-2:123456789012:key/old".into()),
        db_subnet_group_name: Some("staging-subnets".into()),
        vpc_security_group_ids: vec!["sg-1".into()],
        db_cluster_parameter_group_name: Some("default.aurora-postgresql15".into()),
        iam_database_authentication: false,
        cloudwatch_logs_exports: vec![],
        storage_type: None,
        serverless_v2: None,
        members: vec![member(2), member(1)],
        has_pending_master_password: false,
        master_user_secret: None,
        resource_id: "cluster-OLD".into(),
        replication_source: None,
        read_replicas: vec![],
        tags: tags("an-earlier-one", naming::Kind::Cluster),
    }
}

/// The cluster that this operation restored.
pub(crate) fn restored() -> Cluster {
    Cluster { tags: tags(operation_id().as_str(), naming::Kind::Cluster), ..cluster("staging") }
}

/// An instance of the restored cluster.
pub(crate) fn instance(id: &str) -> Instance {
    Instance {
        id: id.into(),
        status: "available".into(),
        class: "db.r6g.large".into(),
        promotion_tier: Some(1),
        cluster_id: Some("staging".into()),
        tags: tags(operation_id().as_str(), naming::Kind::Instance),
    }
}

/// A snapshot of the source in the source Region, encrypted.
pub(crate) fn snapshot(id: &str) -> Snapshot {
    Snapshot {
        id: id.into(),
        arn: format!("arn:aws:rds:us-east-1:123456789012:cluster-snapshot:{id}"),
        cluster_id: "production".into(),
        status: "available".into(),
        percent_progress: Some(100),
        created_at: Some(datetime!(2026-11-21 03:00 UTC)),
        encrypted: true,
        kms_key_id: Some("arn:aws:kms:us-east-1:123456789012:key/source".into()),
        engine: "aurora-postgresql".into(),
        engine_version: "15.4".into(),
        master_username: Some("master".into()),
        allocated_storage_gib: Some(100),
        tags: BTreeMap::new(),
    }
}

/// This operation's copy in the target Region.
pub(crate) fn copy() -> Snapshot {
    Snapshot {
        arn: "arn:aws:rds:us-west-2:123456789012:cluster-snapshot:staging-copy-1".into(),
        tags: tags(operation_id().as_str(), naming::Kind::Copy),
        ..snapshot("staging-copy-1")
    }
}

/// A request for a swap.
pub(crate) fn request_of_swap() -> Request {
    let input = serde_json::json!({ "source_region": "us-east-1", "source_cluster_id": "production",
        "target_region": "us-west-2", "target_cluster_id": "staging" });
    Request { swap: Some(Swap::default()), ..parse(&input, &Defaults::default()).unwrap() }
}

/// What is known of a restored cluster.
pub(crate) fn cluster_state() -> ClusterState {
    ClusterState { status: "available".into(), ..ClusterState::default() }
}

pub(crate) fn swap_plan() -> SwapPlan {
    SwapPlan {
        scratch_id: naming::scratch_id(&target(), &operation_id()),
        retired_id: naming::retired_id(&target(), &operation_id()),
    }
}

/// [`plan`] with a swap.
pub(crate) fn plan_of_swap() -> Plan {
    let swap = swap_plan();
    let mut plan = plan();
    for (index, planned) in plan.instances.iter_mut().enumerate() {
        planned.scratch_id = Some(naming::instance_id(&swap.scratch_id, index + 1));
    }
    Plan { swap: Some(swap), ..plan }
}

pub(crate) fn plan() -> Plan {
    let spec = InstanceSpec { db_instance_class: "db.r6g.large".into(), promotion_tier: Some(1) };
    let planned =
        |ordinal| PlannedInstance { id: naming::instance_id(&target(), ordinal), scratch_id: None, spec: spec.clone() };
    Plan {
        snapshot: SnapshotRef {
            id: "snap-1".into(),
            arn: snapshot("snap-1").arn,
            created_at: None,
            encrypted: true,
            kms_key_id: snapshot("snap-1").kms_key_id,
            engine: "aurora-postgresql".into(),
            engine_version: "15.4".into(),
            allocated_storage_gib: Some(100),
        },
        source_cluster_arn: SOURCE_ARN.into(),
        copy: CopyPlan::Copy {
            copy_id: SnapshotId::try_from("staging-copy-1").unwrap(),
            kms_key_id: Some("key-1".into()),
        },
        replaces: Some(Replaces { arn: cluster("staging").arn, resource_id: "cluster-OLD".into() }),
        swap: None,
        final_snapshot_id: Some(SnapshotId::try_from("staging-final-1").unwrap()),
        settings: ClusterSettings::default(),
        instances: vec![planned(1), planned(2)],
        tags: BTreeMap::new(),
        expected: BTreeMap::new(),
        summary: vec![],
    }
}

/// What [`plan`] and [`cluster`] rest on, as it should be.
pub(crate) fn ground() -> Ground {
    Ground {
        region: "us-west-2".into(),
        orderable_classes: ["db.r6g.large", "db.serverless"].map(str::to_owned).into(),
        subnet_group_vpc: Some("vpc-1".into()),
        security_groups: vec![SecurityGroup { id: "sg-1".into(), vpc_id: "vpc-1".into() }],
        parameter_group_family: Some("aurora-postgresql15".into()),
    }
}

/// What this operation remembers of [`cluster`]`("staging")`.
pub(crate) fn replaced() -> Replaced {
    let target = cluster("staging");
    Replaced {
        arn: target.arn.clone(),
        engine: target.engine.clone(),
        engine_version: target.engine_version.clone(),
        settings: settings_of(&target),
        instances: vec![],
        tags: target.tags,
        final_snapshot_id: Some("staging-final-1".into()),
        gone: false,
        resource_id: target.resource_id.clone(),
        protection_off_at: Some("2026-11-21T11:00:00.000Z".into()),
        deletion_called_at: None,
        down_since: None,
        protected_again: false,
    }
}
