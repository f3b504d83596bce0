use super::*;
use crate::aws::replay::Wire;
use aurora_restore_domain::failure::ErrorName;
use aurora_restore_domain::request::{InstanceSpec, ServerlessV2};
use std::collections::BTreeMap;

fn rds(wire: &Wire) -> Rds {
    Rds::new(&wire.config(), "us-west-2")
}

fn staging() -> ClusterId {
    ClusterId::try_from("staging").unwrap()
}

fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>request-1</RequestId></ErrorResponse>"
    )
}

/// Shaped after the example of the RDS API reference, with what a replaced cluster's settings are read from.
const CLUSTER: &str = r#"<DescribeDBClustersResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><DescribeDBClustersResult><DBClusters><DBCluster>
  <DBClusterIdentifier>staging</DBClusterIdentifier><DBClusterArn>arn:aws:rds:us-west-2:123456789012:cluster:staging</DBClusterArn>
  <Status>available</Status><Engine>aurora-postgresql</Engine><EngineVersion>15.4</EngineVersion>
  <Endpoint>staging.cluster-abc.us-west-2.rds.amazonaws.com</Endpoint><Port>5432</Port><MasterUsername>master</MasterUsername>
  <DeletionProtection>true</DeletionProtection><StorageEncrypted>true</StorageEncrypted><KmsKeyId>arn:aws:kms:us-west-2:123456789012:key/k</KmsKeyId>
  <DBSubnetGroup>staging-subnets</DBSubnetGroup><DBClusterParameterGroup>mine</DBClusterParameterGroup>
  <VpcSecurityGroups><VpcSecurityGroupMembership><VpcSecurityGroupId>sg-1</VpcSecurityGroupId><Status>active</Status></VpcSecurityGroupMembership></VpcSecurityGroups>
  <IAMDatabaseAuthenticationEnabled>true</IAMDatabaseAuthenticationEnabled>
  <EnabledCloudwatchLogsExports><member>postgresql</member></EnabledCloudwatchLogsExports>
  <ServerlessV2ScalingConfiguration><MinCapacity>0.5</MinCapacity><MaxCapacity>8.0</MaxCapacity></ServerlessV2ScalingConfiguration>
  <DBClusterMembers>
    <DBClusterMember><DBInstanceIdentifier>staging-2</DBInstanceIdentifier><IsClusterWriter>false</IsClusterWriter><PromotionTier>1</PromotionTier></DBClusterMember>
    <DBClusterMember><DBInstanceIdentifier>staging-1</DBInstanceIdentifier><IsClusterWriter>true</IsClusterWriter><PromotionTier>0</PromotionTier></DBClusterMember>
  </DBClusterMembers>
  <PendingModifiedValues><MasterUserPassword>****</MasterUserPassword></PendingModifiedValues>
  <TagList><Tag><Key>aurora-restore:managed</Key><Value>true</Value></Tag><Tag><Key>aurora-restore:operation</Key><Value>op-1</Value></Tag></TagList>
</DBCluster></DBClusters></DescribeDBClustersResult></DescribeDBClustersResponse>"#;

#[tokio::test]
async fn a_cluster_is_read_with_all_that_its_replacement_needs() {
    let cluster = rds(&Wire::new([(200, CLUSTER)])).cluster(&staging()).await.unwrap().unwrap();
    assert_eq!(cluster.endpoint.as_deref(), Some("staging.cluster-abc.us-west-2.rds.amazonaws.com"));
    assert_eq!((cluster.port, cluster.serverless_v2), (Some(5432), Some((0.5, 8.0))));
    assert_eq!(cluster.db_subnet_group_name.as_deref(), Some("staging-subnets"));
    assert_eq!(cluster.vpc_security_group_ids, ["sg-1"]);
    assert_eq!(cluster.cloudwatch_logs_exports, ["postgresql"]);
    assert_eq!(
        cluster.members.iter().filter(|member| member.is_writer).map(|member| member.id.as_str()).collect::<Vec<_>>(),
        ["staging-1"]
    );
    assert!(cluster.deletion_protection && cluster.iam_database_authentication && cluster.has_pending_master_password);
    assert!(cluster.is_managed() && cluster.belongs_to(&"op-1".try_into().unwrap()));
}

#[tokio::test]
async fn an_empty_pending_element_is_no_pending_change() {
    let body = CLUSTER.replace(
        "<PendingModifiedValues><MasterUserPassword>****</MasterUserPassword></PendingModifiedValues>",
        "<PendingModifiedValues/>",
    );
    assert!(!rds(&Wire::new([(200, &body)])).cluster(&staging()).await.unwrap().unwrap().has_pending_master_password);
}

#[tokio::test]
async fn several_clusters_are_one_call() {
    let wire = Wire::new([(200, CLUSTER)]);
    let ids = ["staging", "staging-new-1"].map(|id| ClusterId::try_from(id).unwrap());
    let clusters = rds(&wire).clusters(&ids.each_ref()).await.unwrap();
    assert_eq!(clusters.iter().map(|cluster| cluster.id.as_str()).collect::<Vec<_>>(), ["staging"]);
    let [asked] = wire.asked().try_into().unwrap();
    for value in ["Name=db-cluster-id", "Value.1=staging&", "Value.2=staging-new-1"] {
        assert!(asked.contains(value), "{asked}");
    }
}

#[tokio::test]
async fn no_cluster_passes_for_missing_because_another_is() {
    let gone = error("DBClusterNotFoundFault", "DBCluster staging-new-1 not found.");
    let wire = Wire::new([(404, &gone), (404, &gone), (200, CLUSTER)]);
    let ids = ["staging-new-1", "staging"].map(|id| ClusterId::try_from(id).unwrap());
    let clusters = rds(&wire).clusters(&ids.each_ref()).await.unwrap();
    assert_eq!((clusters.len(), wire.asked().len()), (1, 3));
    let failed = rds(&Wire::new([(400, &error("Throttling", "said so"))])).clusters(&ids.each_ref()).await;
    assert_eq!(failed.unwrap_err().name, ErrorName::Throttled);
}

#[tokio::test]
async fn only_not_found_is_nothing() {
    let gone = error("DBClusterNotFoundFault", "DBCluster staging not found.");
    assert_eq!(rds(&Wire::new([(404, &gone)])).cluster(&staging()).await.unwrap(), None);
    for (status, code, name) in [
        (400, "Throttling", ErrorName::Throttled),
        (403, "AccessDenied", ErrorName::AccessDenied),
        (400, "InvalidDBClusterStateFault", ErrorName::StateConflict),
        (500, "InternalFailure", ErrorName::ServiceUnavailable),
        (503, "SomethingServerSide", ErrorName::ServiceUnavailable),
        (400, "SomethingNew", ErrorName::Internal),
    ] {
        let body = error(code, "said so");
        let failed = rds(&Wire::new([(status, &body)])).cluster(&staging()).await.unwrap_err();
        assert_eq!(failed.name, name, "{code}");
        for words in ["rds:DescribeDBClusters", "staging", code, "said so", "request-1"] {
            assert!(failed.to_string().contains(words), "{words} in {failed}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_worth_a_repeat() {
    let failed = rds(&Wire::new([(200, "<html>proxy</html>")])).cluster(&staging()).await;
    assert!(failed.is_err(), "never taken for an absent cluster: {failed:?}");
    let failed = rds(&Wire::new([(502, "bad gateway")])).cluster(&staging()).await.unwrap_err();
    assert!(failed.name.is_transient());
}

#[tokio::test]
async fn a_missing_right_says_which() {
    let body = error("AccessDenied", "User is not authorized");
    let failed = rds(&Wire::new([(403, &body)])).delete_cluster(&staging(), None).await.unwrap_err();
    assert!(failed.advice().unwrap().contains("allow rds:DeleteDBCluster on staging"));
}

#[tokio::test]
async fn copy_percent_and_date_are_read() {
    let body = r#"<DescribeDBClusterSnapshotsResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><DescribeDBClusterSnapshotsResult><DBClusterSnapshots><DBClusterSnapshot>
      <DBClusterSnapshotIdentifier>c</DBClusterSnapshotIdentifier><DBClusterIdentifier>production</DBClusterIdentifier><Status>copying</Status><PercentProgress>42</PercentProgress>
      <SnapshotCreateTime>2026-11-21T03:00:00.5Z</SnapshotCreateTime><StorageEncrypted>true</StorageEncrypted><AllocatedStorage>120</AllocatedStorage><Engine>aurora-postgresql</Engine>
    </DBClusterSnapshot></DBClusterSnapshots></DescribeDBClusterSnapshotsResult></DescribeDBClusterSnapshotsResponse>"#;
    let snapshot = rds(&Wire::new([(200, body)])).snapshot("c").await.unwrap().unwrap();
    assert_eq!(
        (snapshot.percent_progress, snapshot.allocated_storage_gib, snapshot.encrypted),
        (Some(42), Some(120), true)
    );
    assert_eq!(aurora_restore_domain::timestamp(snapshot.created_at.unwrap()), "2026-11-21T03:00:00.500Z");
    let gone = error("DBClusterSnapshotNotFoundFault", "gone");
    assert_eq!(rds(&Wire::new([(404, &gone)])).snapshot("c").await.unwrap(), None);
}

#[tokio::test]
async fn pages_are_read_to_the_end() {
    let page = |id: &str, marker: &str| {
        format!(
            "<DescribeDBInstancesResponse xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><DescribeDBInstancesResult>{marker}<DBInstances><DBInstance>\
             <DBInstanceIdentifier>{id}</DBInstanceIdentifier><DBInstanceStatus>available</DBInstanceStatus></DBInstance></DBInstances></DescribeDBInstancesResult></DescribeDBInstancesResponse>"
        )
    };
    let wire = Wire::new([(200, &page("a", "<Marker>next</Marker>")), (200, &page("b", ""))]);
    let instances = rds(&wire).instances_of(&staging()).await.unwrap();
    assert_eq!(instances.iter().map(|instance| instance.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(wire.asked()[1].contains("Marker=next"));
}

fn done(action: &str) -> String {
    format!(
        "<{action}Response xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><{action}Result></{action}Result><ResponseMetadata><RequestId>request-1</RequestId></ResponseMetadata></{action}Response>"
    )
}

#[tokio::test]
async fn a_copy_is_asked_with_a_key_or_without() {
    let answer = done("CopyDBClusterSnapshot");
    let wire = Wire::new([(200, &answer), (200, &answer)]);
    let (rds, copy) = (rds(&wire), SnapshotId::try_from("copy-1").unwrap());
    let tags = BTreeMap::from([("aurora-restore:managed".to_owned(), "true".to_owned())]);
    rds.copy_snapshot("arn:aws:rds:us-east-1:1:cluster-snapshot:s", &copy, Some("alias/k"), &tags).await.unwrap();
    let called = rds.copy_snapshot("arn:aws:rds:us-east-1:1:cluster-snapshot:s", &copy, None, &tags).await.unwrap();
    assert_eq!(called.request_id.as_deref(), Some("request-1"));
    let asked = wire.asked();
    assert!(asked[0].contains("KmsKeyId=alias%2Fk") && asked[0].contains("aurora-restore%3Amanaged"));
    assert!(!asked[1].contains("KmsKeyId"), "a key for an unencrypted snapshot is an error: {}", asked[1]);
    assert!(asked.iter().all(|body| !body.contains("PreSignedUrl") && body.contains("CopyTags=false")));
}

#[tokio::test]
async fn a_cluster_is_deleted_with_its_final_snapshot_unless_declined() {
    let answer = done("DeleteDBCluster");
    let wire = Wire::new([(200, &answer), (200, &answer)]);
    let name = SnapshotId::try_from("staging-final-1").unwrap();
    rds(&wire).delete_cluster(&staging(), Some(&name)).await.unwrap();
    rds(&wire).delete_cluster(&staging(), None).await.unwrap();
    let asked = wire.asked();
    assert!(
        asked[0].contains("SkipFinalSnapshot=false") && asked[0].contains("FinalDBSnapshotIdentifier=staging-final-1")
    );
    assert!(asked[1].contains("SkipFinalSnapshot=true") && !asked[1].contains("FinalDBSnapshotIdentifier"));
}

#[tokio::test]
async fn a_restore_carries_the_settings_and_nothing_that_the_call_does_not_know() {
    let answer = done("RestoreDBClusterFromSnapshot");
    let wire = Wire::new([(200, &answer)]);
    let settings = ClusterSettings {
        db_subnet_group_name: Some("subnets".into()),
        vpc_security_group_ids: vec!["sg-1".into()],
        deletion_protection: true,
        serverless_v2: Some(ServerlessV2 { min_acu: 0.5, max_acu: 8.0 }),
        ..ClusterSettings::default()
    };
    rds(&wire).restore_cluster(&staging(), "copy-1", "aurora-postgresql", &settings, &BTreeMap::new()).await.unwrap();
    let asked = &wire.asked()[0];
    for words in [
        "SnapshotIdentifier=copy-1",
        "DBSubnetGroupName=subnets",
        "DeletionProtection=true",
        "MinCapacity=0.5",
        "CopyTagsToSnapshot=true",
    ] {
        assert!(asked.contains(words), "{words} in {asked}");
    }
    for words in [
        "StorageEncrypted",
        "MasterUserPassword",
        "BackupRetentionPeriod",
        "KmsKeyId",
        "EngineVersion",
        "EnableCloudwatchLogsExports",
    ] {
        assert!(!asked.contains(words), "{words} in {asked}");
    }
}

#[tokio::test]
async fn an_instance_takes_class_and_tier() {
    let wire = Wire::new([(200, &done("CreateDBInstance"))]);
    let instance = PlannedInstance {
        id: InstanceId::try_from("staging-1").unwrap(),
        scratch_id: None,
        spec: InstanceSpec { db_instance_class: "db.serverless".into(), promotion_tier: Some(0) },
    };
    rds(&wire).create_instance(&staging(), "aurora-postgresql", &instance, &BTreeMap::new()).await.unwrap();
    let asked = &wire.asked()[0];
    assert!(asked.contains("DBInstanceClass=db.serverless") && asked.contains("PromotionTier=0"), "{asked}");
    assert!(asked.contains("PubliclyAccessible=false"), "{asked}");
}

#[tokio::test]
async fn names_change_at_once_and_one_that_is_gone_is_worth_a_look() {
    let (cluster, instance) = (done("ModifyDBCluster"), done("ModifyDBInstance"));
    let gone =
        ["DBClusterNotFoundFault", "DBInstanceNotFound", "DBClusterAlreadyExistsFault", "DBInstanceAlreadyExists"];
    let gone = gone.map(|code| error(code, "said so"));
    let wire = Wire::new([
        (200, cluster.as_str()),
        (200, instance.as_str()),
        (404, gone[0].as_str()),
        (404, gone[1].as_str()),
        (400, gone[2].as_str()),
        (400, gone[3].as_str()),
    ]);
    let rds = rds(&wire);
    rds.rename_cluster("staging", "staging-old-1").await.unwrap();
    rds.rename_instance("staging-1", "staging-old-1-1").await.unwrap();
    let asked = wire.asked();
    for (body, words) in asked.iter().zip([
        ["DBClusterIdentifier=staging&", "NewDBClusterIdentifier=staging-old-1", "ApplyImmediately=true"],
        ["DBInstanceIdentifier=staging-1&", "NewDBInstanceIdentifier=staging-old-1-1", "ApplyImmediately=true"],
    ]) {
        assert!(words.iter().all(|words| body.contains(words)), "{words:?} in {body}");
    }
    // Renamed by our own earlier call, or by somebody: the repeated step looks.
    for renamed in [true, false, true, false] {
        let failed = match renamed {
            true => rds.rename_cluster("staging", "x").await,
            false => rds.rename_instance("staging-1", "x").await,
        };
        assert_eq!(failed.unwrap_err().name, ErrorName::StateConflict);
    }
}

#[tokio::test]
async fn the_limits_of_the_account_are_told_or_unknown() {
    let body = "<DescribeAccountAttributesResponse xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><DescribeAccountAttributesResult><AccountQuotas>\
        <AccountQuota><AccountQuotaName>DBClusters</AccountQuotaName><Used>1</Used><Max>40</Max></AccountQuota>\
        <AccountQuota><AccountQuotaName>ManualClusterSnapshots</AccountQuotaName><Used>98</Used><Max>100</Max></AccountQuota>\
        </AccountQuotas></DescribeAccountAttributesResult></DescribeAccountAttributesResponse>";
    let wire = Wire::new([(200, body), (200, &done("DescribeAccountAttributes"))]);
    let quotas = Quotas { manual_snapshots: Some((98, 100)), clusters: Some((1, 40)), instances: None };
    assert_eq!(rds(&wire).quotas().await.unwrap(), quotas);
    assert_eq!(rds(&wire).quotas().await.unwrap(), Quotas::default());
}
