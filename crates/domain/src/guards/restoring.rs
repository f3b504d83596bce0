//! What has to hold in the target Region so that a restore can work: looked at by preflight, again by delete-cluster
//! before it takes anything away, and by restore-cluster right before it restores.

use super::{Refusal, refuse};
use crate::cloud::Key;
use crate::failure::{ErrorName, Failure};
use crate::plan::{CopyPlan, Plan};
use std::collections::BTreeSet;

/// What a restore will ask RDS for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blueprint {
    /// `aurora-postgresql`
    pub engine: String,
    /// The version that the cluster will have.
    pub engine_version: String,
    /// `db.r6g.large`, each once.
    pub instance_classes: BTreeSet<String>,
    /// `DBSubnetGroupName`
    pub subnet_group: Option<String>,
    /// `VpcSecurityGroupIds`
    pub security_groups: Vec<String>,
    /// `DBClusterParameterGroupName`; `None` takes the engine's default group.
    pub parameter_group: Option<String>,
    /// The key of copy or restore.
    pub kms_key_id: Option<String>,
}

impl Blueprint {
    /// Of a plan.
    pub fn of(plan: &Plan) -> Self {
        let copy_key = match &plan.copy {
            CopyPlan::Copy { kms_key_id, .. } => kms_key_id.clone(),
            CopyPlan::SameRegion => None,
        };
        let settings = &plan.settings;
        Self {
            engine: plan.snapshot.engine.clone(),
            engine_version: settings.engine_version.clone().unwrap_or_else(|| plan.snapshot.engine_version.clone()),
            instance_classes: plan.instances.iter().map(|planned| planned.spec.db_instance_class.clone()).collect(),
            subnet_group: settings.db_subnet_group_name.clone(),
            security_groups: settings.vpc_security_group_ids.clone(),
            parameter_group: settings.db_cluster_parameter_group_name.clone(),
            kms_key_id: copy_key.or_else(|| settings.kms_key_id.clone()),
        }
    }
}

/// What was found of a [`Blueprint`] in the target Region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    /// The Region.
    pub region: String,
    /// Those of the classes that can be ordered with this engine version.
    pub orderable_classes: BTreeSet<String>,
    /// The VPC of the subnet group; `None` when there is no such group.
    pub subnet_group_vpc: Option<String>,
    /// Those of the security groups that exist.
    pub security_groups: Vec<SecurityGroup>,
    /// `DBParameterGroupFamily` of the parameter group; `None` when there is no such group.
    pub parameter_group_family: Option<String>,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `sg-…`
    pub id: String,
    /// `vpc-…`
    pub vpc_id: String,
}

/// Every reason why the restore would fail.
pub fn against_restoring(blueprint: &Blueprint, ground: &Ground) -> Vec<Refusal> {
    [orderable, subnet_group, security_groups_exist, security_groups_fit, parameter_group]
        .into_iter()
        .filter_map(|guard| guard(blueprint, ground))
        .collect()
}

fn orderable(blueprint: &Blueprint, ground: &Ground) -> Option<Refusal> {
    let Blueprint { engine, engine_version, .. } = blueprint;
    let missing: Vec<_> = blueprint.instance_classes.difference(&ground.orderable_classes).cloned().collect();
    if missing.is_empty() {
        return None;
    }
    refuse(
        format!(
            "db_instance_class: {} cannot be ordered with {engine} {engine_version} in {}",
            missing.join(", "),
            ground.region
        ),
        format!(
            "choose a class of `aws rds describe-orderable-db-instance-options --engine {engine} --engine-version {engine_version} --region {}`",
            ground.region
        ),
    )
}

fn subnet_group(blueprint: &Blueprint, ground: &Ground) -> Option<Refusal> {
    let group = blueprint.subnet_group.as_ref().filter(|_| ground.subnet_group_vpc.is_none())?;
    refuse(
        format!("db_subnet_group_name: got {group}; takes a subnet group that exists in {}", ground.region),
        "name one that exists, or make it",
    )
}

fn security_groups_exist(blueprint: &Blueprint, ground: &Ground) -> Option<Refusal> {
    let is_there = |id: &&String| ground.security_groups.iter().any(|group| group.id == **id);
    let missing: Vec<_> = blueprint.security_groups.iter().filter(|id| !is_there(id)).cloned().collect();
    if missing.is_empty() {
        return None;
    }
    refuse(
        format!(
            "vpc_security_group_ids: got {}; takes security groups that exist in {}",
            missing.join(", "),
            ground.region
        ),
        "name groups that exist, or make them",
    )
}

fn security_groups_fit(blueprint: &Blueprint, ground: &Ground) -> Option<Refusal> {
    let name = blueprint.subnet_group.as_ref()?;
    let vpc = ground.subnet_group_vpc.as_ref()?;
    let elsewhere: Vec<_> = ground
        .security_groups
        .iter()
        .filter(|group| group.vpc_id != *vpc)
        .map(|group| format!("{} ({})", group.id, group.vpc_id))
        .collect();
    if elsewhere.is_empty() {
        return None;
    }
    refuse(
        format!(
            "vpc_security_group_ids: got {}; takes groups of {vpc}, where the subnet group {name} is",
            elsewhere.join(", ")
        ),
        "name security groups and a subnet group of one VPC",
    )
}

fn parameter_group(blueprint: &Blueprint, ground: &Ground) -> Option<Refusal> {
    let group = blueprint.parameter_group.as_ref()?;
    let wanted = parameter_group_family(&blueprint.engine, &blueprint.engine_version)?;
    let remedy = format!("name a cluster parameter group of family {wanted}");
    match &ground.parameter_group_family {
        Some(family) if *family == wanted => None,
        Some(family) => refuse(
            format!(
                "db_cluster_parameter_group_name: got {group}, whose family is {family}; takes one of family {wanted}"
            ),
            remedy,
        ),
        None => refuse(
            format!("db_cluster_parameter_group_name: got {group}; takes a group that exists in {}", ground.region),
            remedy,
        ),
    }
}

/// `DBParameterGroupFamily` of an engine version: `aurora-postgresql15` for 15.4, `aurora-mysql8.0` for
/// 8.0.mysql_aurora.3.04.0. Source: the families that `describe-db-engine-versions` lists.
pub fn parameter_group_family(engine: &str, engine_version: &str) -> Option<String> {
    let mut parts = engine_version.split('.');
    let (major, minor) = (parts.next()?, parts.next());
    match engine {
        "aurora-postgresql" if major.parse::<u32>().is_ok_and(|major| major >= 10) => Some(format!("{engine}{major}")),
        "aurora-postgresql" | "aurora-mysql" => Some(format!("{engine}{major}.{}", minor?)),
        _ => None,
    }
}

/// What is wrong with the key that copy or restore need; `key` as KMS of the target Region knows it.
pub fn unusable_key(id: &str, key: Option<&Key>) -> Option<Failure> {
    let what = match key {
        Some(key) if key.state == "Enabled" => return None,
        Some(key) => format!("KMS key {id} ({}) is {}, not Enabled", key.arn, key.state),
        None => format!("KMS key {id} does not exist in the target Region"),
    };
    Some(
        Failure::new(ErrorName::KmsKeyUnusable, what)
            .next("enable the key or cancel its deletion, or name another one as kms_key_id"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fixtures;

    fn blueprint() -> Blueprint {
        let mut plan = fixtures::plan();
        plan.settings = crate::plan::settings_of(&fixtures::cluster("staging"));
        plan.settings.db_cluster_parameter_group_name = Some("ours".into());
        Blueprint::of(&plan)
    }

    #[test]
    fn a_ground_that_bears_the_restore() {
        assert_eq!(against_restoring(&blueprint(), &fixtures::ground()), []);
    }

    #[test]
    fn all_reasons_are_reported_together() {
        let ground = Ground { region: "us-west-2".into(), ..Ground::default() };
        let refusals = against_restoring(&blueprint(), &ground);
        let reasons: Vec<_> = refusals.iter().map(|refusal| refusal.reason.as_str()).collect();
        for (reason, word) in reasons.iter().zip(["db.r6g.large", "staging-subnets", "sg-1", "got ours;"]) {
            assert!(reason.contains(word), "{word} in {reason}");
        }
        assert_eq!(reasons.len(), 4);
    }

    #[test]
    fn groups_that_do_not_belong_together() {
        let mut ground = fixtures::ground();
        ground.subnet_group_vpc = Some("vpc-2".into());
        ground.parameter_group_family = Some("aurora-postgresql14".into());
        let refusals = against_restoring(&blueprint(), &ground);
        assert!(refusals[0].reason.contains("sg-1 (vpc-1); takes groups of vpc-2"), "{refusals:?}");
        assert!(refusals[1].reason.contains("aurora-postgresql14; takes one of family aurora-postgresql15"));
    }

    #[test]
    fn families_of_engine_versions() {
        for (engine, version, family) in [
            ("aurora-postgresql", "15.4", Some("aurora-postgresql15")),
            ("aurora-postgresql", "9.6.22", Some("aurora-postgresql9.6")),
            ("aurora-mysql", "8.0.mysql_aurora.3.04.0", Some("aurora-mysql8.0")),
            ("mysql", "8.0", None),
        ] {
            assert_eq!(parameter_group_family(engine, version).as_deref(), family, "{engine} {version}");
        }
    }

    #[test]
    fn a_key_is_usable_only_when_enabled() {
        let key = |state: &str| Key { arn: "arn:key".into(), state: state.into() };
        assert_eq!(unusable_key("k", Some(&key("Enabled"))), None);
        for seen in [Some(key("Disabled")), Some(key("PendingDeletion")), None] {
            assert_eq!(unusable_key("k", seen.as_ref()).unwrap().name, ErrorName::KmsKeyUnusable);
        }
    }
}
