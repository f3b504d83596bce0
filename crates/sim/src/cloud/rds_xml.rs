//! RDS's answers in XML.

use super::World;
use super::model::{Cluster, Instance, Snapshot};
use super::rds::ENGINE;
use super::wire::{Reply, Xml};
use crate::time::at;
use aurora_restore_domain::timestamp;
use std::collections::BTreeMap;

fn write_cluster(xml: &mut Xml, cluster: &Cluster, world: &World) {
    let writer = cluster.members.first();
    let region = cluster.arn.split(':').nth(3).and_then(|region| world.regions.get(region));
    xml.wrap("DBCluster", |xml| {
        xml.leaf("DBClusterIdentifier", &cluster.id)
            .leaf("DBClusterArn", &cluster.arn)
            .leaf("DbClusterResourceId", format!("cluster-{}", cluster.serial))
            .leaf("Status", &cluster.status)
            .leaf("Engine", ENGINE)
            .leaf("EngineVersion", &cluster.engine_version)
            .leaf("Endpoint", format!("{}.cluster-{}.simulated.internal", cluster.id, cluster.serial))
            .leaf("Port", cluster.port)
            .leaf("MasterUsername", "master")
            .leaf("DeletionProtection", cluster.protected)
            .leaf("StorageEncrypted", cluster.key.is_some())
            .maybe("KmsKeyId", cluster.key.as_ref())
            .leaf("DBSubnetGroup", &cluster.subnet_group)
            .leaf("DBClusterParameterGroup", &cluster.parameter_group)
            .leaf("IAMDatabaseAuthenticationEnabled", false);
        xml.wrap("VpcSecurityGroups", |xml| {
            for group in &cluster.security_groups {
                xml.wrap("VpcSecurityGroupMembership", |xml| {
                    xml.leaf("VpcSecurityGroupId", group).leaf("Status", "active");
                });
            }
        });
        if let Some((least, most)) = &cluster.serverless {
            xml.wrap("ServerlessV2ScalingConfiguration", |xml| {
                xml.leaf("MinCapacity", least).leaf("MaxCapacity", most);
            });
        }
        xml.wrap("DBClusterMembers", |xml| {
            for member in &cluster.members {
                let tier = region.and_then(|region| region.instances.get(member)?.tier.clone());
                xml.wrap("DBClusterMember", |xml| {
                    xml.leaf("DBInstanceIdentifier", member)
                        .leaf("IsClusterWriter", Some(member) == writer)
                        .leaf("PromotionTier", tier.unwrap_or_else(|| "1".into()));
                });
            }
        });
        if cluster.password_pending {
            xml.wrap("PendingModifiedValues", |xml| {
                xml.leaf("MasterUserPassword", "****");
            });
        }
        xml.tags(&cluster.tags);
    });
}

fn brief_of(cluster: &Cluster) -> String {
    let protected = if cluster.protected { ", protected" } else { "" };
    let pending = if cluster.password_pending { ", password pending" } else { "" };
    format!("{}{protected}{pending}, {} members", cluster.status, cluster.members.len())
}

/// The answer of a call that changes one cluster.
pub(super) fn cluster(cluster: &Cluster, world: &World) -> Reply {
    let mut xml = Xml::default();
    write_cluster(&mut xml, cluster, world);
    Reply::new(xml.0, brief_of(cluster))
}

/// The answer of `DescribeDBClusters`.
pub(super) fn clusters(clusters: &[Cluster], world: &World) -> Reply {
    let mut xml = Xml::default();
    xml.wrap("DBClusters", |xml| clusters.iter().for_each(|cluster| write_cluster(xml, cluster, world)));
    let told: Vec<String> = match clusters {
        [cluster] => vec![brief_of(cluster)],
        _ => clusters.iter().map(|cluster| format!("{} {}", cluster.id, brief_of(cluster))).collect(),
    };
    Reply::new(xml.0, if told.is_empty() { "none".to_owned() } else { told.join("; ") })
}

fn write_instance(xml: &mut Xml, instance: &Instance) {
    xml.wrap("DBInstance", |xml| {
        xml.leaf("DBInstanceIdentifier", &instance.id)
            .leaf("DBInstanceStatus", &instance.status)
            .leaf("DBInstanceClass", &instance.class)
            .leaf("Engine", ENGINE)
            .leaf("PromotionTier", instance.tier.as_deref().unwrap_or("1"))
            .leaf("DBClusterIdentifier", &instance.cluster_id)
            .tags(&instance.tags);
    });
}

/// The answer of a call that changes one instance.
pub(super) fn instance(instance: &Instance) -> Reply {
    let mut xml = Xml::default();
    write_instance(&mut xml, instance);
    Reply::new(xml.0, instance.status.clone())
}

/// The answer of `DescribeDBInstances`.
pub(super) fn instances(instances: &[Instance]) -> Reply {
    let mut xml = Xml::default();
    xml.wrap("DBInstances", |xml| instances.iter().for_each(|instance| write_instance(xml, instance)));
    let told: Vec<String> = instances.iter().map(|instance| format!("{} {}", instance.id, instance.status)).collect();
    Reply::new(xml.0, if told.is_empty() { "none".to_owned() } else { told.join(", ") })
}

fn percent(snapshot: &Snapshot, now_us: u64) -> u64 {
    let (began, duration) = snapshot.making_us;
    match snapshot.status.as_str() {
        "copying" | "creating" => (now_us.saturating_sub(began) * 100 / duration.max(1)).min(99),
        _ => 100,
    }
}

fn write_snapshot(xml: &mut Xml, snapshot: &Snapshot, now_us: u64) {
    let created = at(0) + time::Duration::microseconds(snapshot.created_us);
    xml.wrap("DBClusterSnapshot", |xml| {
        xml.leaf("DBClusterSnapshotIdentifier", &snapshot.id)
            .leaf("DBClusterSnapshotArn", &snapshot.arn)
            .leaf("DBClusterIdentifier", &snapshot.cluster_id)
            .leaf("Status", &snapshot.status)
            .leaf("PercentProgress", percent(snapshot, now_us))
            .leaf("SnapshotCreateTime", timestamp(created))
            .leaf("SnapshotType", if snapshot.automated { "automated" } else { "manual" })
            .leaf("StorageEncrypted", snapshot.key.is_some())
            .maybe("KmsKeyId", snapshot.key.as_ref())
            .leaf("Engine", ENGINE)
            .leaf("EngineVersion", &snapshot.engine_version)
            .leaf("MasterUsername", "master")
            .leaf("AllocatedStorage", 400)
            .tags(&snapshot.tags);
    });
}

/// The answer of a call that changes one snapshot.
pub(super) fn snapshot(snapshot: &Snapshot, now_us: u64) -> Reply {
    let mut xml = Xml::default();
    write_snapshot(&mut xml, snapshot, now_us);
    Reply::new(xml.0, format!("{} {} %", snapshot.status, percent(snapshot, now_us)))
}

/// The answer of `DescribeDBClusterSnapshots`.
pub(super) fn snapshots(snapshots: &[Snapshot], now_us: u64) -> Reply {
    let mut xml = Xml::default();
    xml.wrap("DBClusterSnapshots", |xml| snapshots.iter().for_each(|snapshot| write_snapshot(xml, snapshot, now_us)));
    let brief = match snapshots {
        [one] => format!("{} {} %", one.status, percent(one, now_us)),
        many => format!("{} snapshots", many.len()),
    };
    Reply::new(xml.0, brief)
}

/// The answer of `DescribeGlobalClusters`.
pub(super) fn global_clusters(clusters: &BTreeMap<String, Vec<String>>) -> Reply {
    let mut xml = Xml::default();
    xml.wrap("GlobalClusters", |xml| {
        for (name, members) in clusters {
            xml.wrap("GlobalClusterMember", |xml| {
                xml.leaf("GlobalClusterIdentifier", name);
                xml.wrap("GlobalClusterMembers", |xml| {
                    for member in members {
                        xml.wrap("GlobalClusterMember", |xml| {
                            xml.leaf("DBClusterArn", member).leaf("IsWriter", true);
                        });
                    }
                });
            });
        }
    });
    Reply::new(xml.0, format!("{} global clusters", clusters.len()))
}

/// The answer of `DescribeAccountAttributes`.
pub(super) fn quotas(used: usize, limit: usize, others: [(&str, usize); 2]) -> Reply {
    let mut xml = Xml::default();
    xml.wrap("AccountQuotas", |xml| {
        xml.wrap("AccountQuota", |xml| {
            xml.leaf("AccountQuotaName", "ManualClusterSnapshots").leaf("Used", used).leaf("Max", limit);
        });
        for (name, used) in others {
            xml.wrap("AccountQuota", |xml| {
                xml.leaf("AccountQuotaName", name).leaf("Used", used).leaf("Max", 40);
            });
        }
    });
    Reply::new(xml.0, format!("{used} of {limit} manual snapshots"))
}
