//! The request: input of the state machine. [`parse`] is the only door; it reports every problem, not the first.

mod fields;
mod masking;
mod swap;
mod users;
mod verify;

use crate::ids::{ClusterId, Region};
use crate::naming::{TAG_PREFIX, TARGET_CLUSTER_ID_MAX};
use crate::roles::{Access, Authentication, InheritedLogins};
use fields::Fields;
pub use fields::Problem;
pub use masking::{Masking, Scripts};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
pub use swap::{Replacement, Swap};
pub use verify::{Freshness, RowCount, SchemaHash, SqlCheck, Verify};

/// A request whose every field was checked on its own. What the world must answer (does the snapshot exist?) is
/// preflight's to find out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Region of the source cluster and its snapshots.
    pub source_region: Region,
    /// The cluster whose snapshot is restored. It is only ever read.
    pub source_cluster_id: ClusterId,
    /// Which of its snapshots.
    pub snapshot: SnapshotSelector,
    /// Region of the restored cluster, which is the Region this tool runs in.
    pub target_region: Region,
    /// The cluster to make, in place of one of the same name if there is one.
    pub target_cluster_id: ClusterId,
    /// Settings of the restored cluster that the request names; the others come from the cluster being replaced.
    pub settings: RequestedSettings,
    /// Restore beside the living target and swap names, instead of deleting it first.
    #[serde(default)]
    pub swap: Option<Swap>,
    /// Delete the old cluster without a final snapshot.
    pub skip_final_snapshot: bool,
    /// Repeats the id of a cluster that is not tagged as ours, to allow its replacement.
    pub replace_unmanaged: Option<ClusterId>,
    /// Tag the copy and apply `retention`.
    pub archive_snapshot: bool,
    /// Which copies to keep.
    pub retention: Retention,
    /// Checks of the restored data.
    pub verify: Verify,
    /// Scripts that run before any declared user can log in.
    #[serde(default)]
    pub masking: Option<Masking>,
    /// RDS makes the master password and keeps it in a secret of its own, instead of ours being set.
    #[serde(default)]
    pub managed_master: Option<ManagedMaster>,
    /// What declared users may do, by their keys in the application secret; those not named keep the contract's.
    #[serde(default)]
    pub users: BTreeMap<String, Access>,
    /// What happens to logins that came with the snapshot and are not declared.
    #[serde(default)]
    pub inherited_logins: InheritedLogins,
    /// Inherited logins that stay as they are.
    #[serde(default)]
    pub keep_logins: Vec<String>,
    /// Tags for everything made.
    pub tags: BTreeMap<String, String>,
    /// Report what would happen and change nothing.
    pub plan_only: bool,
}

impl Request {
    /// How the target is replaced.
    pub fn replacement(&self) -> Replacement {
        if self.swap.is_some() { Replacement::Swap } else { Replacement::DeleteFirst }
    }

    /// The keys of the users who log in with tokens.
    pub fn token_users(&self) -> impl Iterator<Item = &str> {
        token_users(&self.users)
    }

    /// Whether `other` would be planned in the same way: checks, users, logins, retention and archive are looked at after the
    /// cluster is restored, and may be mended between two tries of one operation. Masking may not: a try without it would
    /// let people in to what the first was to hide.
    pub fn has_the_plan_of(&self, other: &Request) -> bool {
        let other = other.clone();
        // Who stays able to log in would see what is to be masked.
        let (inherited_logins, keep_logins) = match self.masking {
            Some(_) => (self.inherited_logins, self.keep_logins.clone()),
            None => (other.inherited_logins, other.keep_logins.clone()),
        };
        let mended = Request {
            verify: other.verify.clone(),
            users: other.users.clone(),
            inherited_logins,
            keep_logins,
            retention: other.retention,
            archive_snapshot: other.archive_snapshot,
            ..self.clone()
        };
        mended == other
    }
}

fn token_users(users: &BTreeMap<String, Access>) -> impl Iterator<Item = &str> {
    users.iter().filter(|(_, access)| access.login == Authentication::Iam).map(|(key, _)| key.as_str())
}

/// `ManageMasterUserPassword`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedMaster {
    /// `MasterUserSecretKmsKeyId`: key of the target Region for RDS's secret; `aws/secretsmanager` when not given.
    pub kms_key_id: Option<String>,
}

/// Which snapshot of the source cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotSelector {
    /// The newest that is available, on a day in UTC if one is given.
    Latest {
        /// `2026-11-21`
        date: Option<String>,
    },
    /// By its identifier; `rds:…` for an automated one.
    Id(String),
    /// By its ARN.
    Arn(String),
}

/// Settings of a cluster that a request may name, with RDS's own terms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestedSettings {
    /// `DBSubnetGroupName`
    pub db_subnet_group_name: Option<String>,
    /// `VpcSecurityGroupIds`
    pub vpc_security_group_ids: Option<Vec<String>>,
    /// KMS key of the target Region: id, alias or ARN.
    pub kms_key_id: Option<String>,
    /// Whether the key was named in the request itself, not by the environment.
    pub kms_key_is_explicit: bool,
    /// `EngineVersion`; the snapshot's own when not given.
    pub engine_version: Option<String>,
    /// `DBClusterParameterGroupName`
    pub db_cluster_parameter_group_name: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// The instances, writer first.
    pub instances: Option<Vec<InstanceSpec>>,
    /// `ServerlessV2ScalingConfiguration`
    pub serverless_v2: Option<ServerlessV2>,
    /// `DeletionProtection`
    pub deletion_protection: Option<bool>,
    /// `EnableIAMDatabaseAuthentication`
    pub enable_iam_database_authentication: Option<bool>,
}

/// One instance of the restored cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// `DBInstanceClass`, for instance `db.r6g.large` or `db.serverless`.
    pub db_instance_class: String,
    /// `PromotionTier`, 0 to 15.
    pub promotion_tier: Option<u8>,
}

/// `ServerlessV2ScalingConfiguration`, in Aurora capacity units (ACU).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ServerlessV2 {
    /// 0 to 256, in halves.
    pub min_acu: f64,
    /// 1 to 256, in halves, not below `min_acu`.
    pub max_acu: f64,
}

/// Which of our copies of a source stay in the target Region. A copy goes only if both rules let it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The newest that always stay, this operation's included; at least 1.
    pub copies: u32,
    /// Younger ones stay, in days.
    pub days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { copies: 7, days: 0 }
    }
}

/// What the environment says where the request is silent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// `SOURCE_REGION`
    pub source_region: Option<String>,
    /// `SOURCE_CLUSTER_ID`
    pub source_cluster_id: Option<String>,
    /// `TARGET_REGION`
    pub target_region: Option<String>,
    /// `TARGET_CLUSTER_ID`
    pub target_cluster_id: Option<String>,
    /// `MASKING_FOLDER`: where scripts may lie besides S3, for stacks without it.
    pub masking_folder: Option<String>,
    /// `KMS_KEY_ID`
    pub kms_key_id: Option<String>,
}

/// Tags besides our own: AWS allows 50 on a resource, and ours need five of them.
pub const TAGS_MAX: usize = 45;

/// Where a request wants to restore to, as `(Region, cluster)`, read on its own: the failure of a request that is wrong
/// in another field must still reach those who watch that cluster.
pub fn target_of(input: &Value, defaults: &Defaults) -> Option<(Region, ClusterId)> {
    let text = |field: &str, default: &Option<String>| {
        input.get(field).and_then(Value::as_str).map(str::to_owned).or_else(|| default.clone())
    };
    let region = Region::try_from(text("target_region", &defaults.target_region)?).ok()?;
    let cluster = ClusterId::try_from(text("target_cluster_id", &defaults.target_cluster_id)?).ok()?;
    Some((region, cluster))
}

/// Fields of a request, in the order in which the README explains them.
pub const FIELDS: &[&str] = &[
    "operation_id",
    "source_region",
    "source_cluster_id",
    "snapshot_id",
    "snapshot_date",
    "target_region",
    "target_cluster_id",
    "db_subnet_group_name",
    "vpc_security_group_ids",
    "kms_key_id",
    "engine_version",
    "db_cluster_parameter_group_name",
    "port",
    "instances",
    "db_instance_class",
    "instance_count",
    "serverless_v2",
    "deletion_protection",
    "enable_iam_database_authentication",
    "replacement",
    "swap",
    "skip_final_snapshot",
    "replace_unmanaged",
    "archive_snapshot",
    "retention",
    "verify",
    "masking",
    "manage_master_user_password",
    "master_user_secret_kms_key_id",
    "users",
    "inherited_logins",
    "keep_logins",
    "tags",
    "plan_only",
];

/// Reads a request. `operation_id` is read by [`crate::operation::operation_id`], which has to work for a request
/// that is wrong otherwise.
///
/// # Errors
/// Every problem found, each with field, value and what is accepted.
pub fn parse(input: &Value, defaults: &Defaults) -> Result<Request, Vec<Problem>> {
    let mut fields = Fields::new(input, FIELDS);

    let source_region = required_id(&mut fields, "source_region", &defaults.source_region, "SOURCE_REGION");
    let source_cluster_id =
        required_id(&mut fields, "source_cluster_id", &defaults.source_cluster_id, "SOURCE_CLUSTER_ID");
    let target_region: Option<Region> =
        required_id(&mut fields, "target_region", &defaults.target_region, "TARGET_REGION");
    let target_cluster_id: Option<ClusterId> =
        required_id(&mut fields, "target_cluster_id", &defaults.target_cluster_id, "TARGET_CLUSTER_ID");
    if let Some(id) = target_cluster_id.as_ref().filter(|id| id.as_str().len() > TARGET_CLUSTER_ID_MAX) {
        let takes = format!("at most {TARGET_CLUSTER_ID_MAX} characters, to leave room for the instances' numbers");
        fields.problem("target_cluster_id", &id.to_string(), &takes);
    }
    if let (Some(sr), Some(sc), Some(tr), Some(tc)) =
        (&source_region, &source_cluster_id, &target_region, &target_cluster_id)
        && (sr, sc) == (tr, tc)
    {
        fields.problem(
            "target_cluster_id",
            tc.as_str(),
            "a cluster other than the source: a restore replaces its target",
        );
    }
    // The machine and its steps act in the Region they are deployed in; a request for another one would look for the
    // target where it is not.
    if let (Some(asked), Some(here)) = (&target_region, &defaults.target_region)
        && asked.as_str() != here
    {
        let takes = format!("{here}, the Region this state machine is deployed for (TARGET_REGION)");
        fields.problem("target_region", asked.as_str(), &takes);
    }

    let snapshot = snapshot(&mut fields, source_region.as_ref());
    let settings = settings(&mut fields, defaults, target_region.as_ref());
    let swap = swap::read(&mut fields, target_cluster_id.as_ref());
    let skip_final_snapshot = fields.flag("skip_final_snapshot").unwrap_or(false);
    let replace_unmanaged: Option<ClusterId> = fields.id("replace_unmanaged");
    if let (Some(permitted), Some(target)) = (&replace_unmanaged, &target_cluster_id)
        && permitted != target
    {
        let takes = format!("the target's id once more ('{target}'), to allow that this cluster is replaced");
        fields.problem("replace_unmanaged", permitted.as_str(), &takes);
    }
    let archive_snapshot = fields.flag("archive_snapshot").unwrap_or(true);
    let retention = retention(&mut fields);
    let verify = verify::read(&mut fields);
    let masking = masking::read(&mut fields, defaults.masking_folder.as_deref());
    let managed_master = managed_master(&mut fields);
    let users = users::read(&mut fields);
    let by_token: Vec<&str> = token_users(&users).collect();
    if settings.enable_iam_database_authentication == Some(false) && !by_token.is_empty() {
        let takes = format!("true, or nothing, where users log in with tokens ({})", by_token.join(", "));
        fields.problem("enable_iam_database_authentication", "false", &takes);
    }
    let inherited_logins = match fields.text("inherited_logins").as_deref() {
        None | Some("lock") => InheritedLogins::Lock,
        Some("report") => InheritedLogins::Report,
        Some("keep") => InheritedLogins::Keep,
        Some(other) => {
            fields.problem("inherited_logins", other, "'lock', 'report' or 'keep'");
            InheritedLogins::Lock
        }
    };
    let keep_logins = fields.texts("keep_logins").unwrap_or_default();
    let tags = tags(&mut fields);
    let plan_only = fields.flag("plan_only").unwrap_or(false);
    if let Some(id) = fields.text("operation_id")
        && let Err(error) = crate::ids::OperationId::try_from(id.as_str())
    {
        fields.problem("operation_id", &id, &error.to_string());
    }

    fields.finish()?;
    // `finish` has reported each of these that is missing.
    let (Some(source_region), Some(source_cluster_id), Some(target_region), Some(target_cluster_id)) =
        (source_region, source_cluster_id, target_region, target_cluster_id)
    else {
        return Err(vec![]);
    };
    Ok(Request {
        source_region,
        source_cluster_id,
        snapshot,
        target_region,
        target_cluster_id,
        settings,
        swap,
        skip_final_snapshot,
        replace_unmanaged,
        archive_snapshot,
        retention,
        verify,
        masking,
        managed_master,
        users,
        inherited_logins,
        keep_logins,
        tags,
        plan_only,
    })
}

fn managed_master(fields: &mut Fields<'_>) -> Option<ManagedMaster> {
    let managed = fields.flag("manage_master_user_password").unwrap_or(false);
    let kms_key_id = fields.text("master_user_secret_kms_key_id");
    if let Some(key) = kms_key_id.as_ref().filter(|_| !managed) {
        fields.problem(
            "master_user_secret_kms_key_id",
            key,
            "a key only together with manage_master_user_password: true",
        );
    }
    managed.then_some(ManagedMaster { kms_key_id })
}

fn required_id<T: for<'a> TryFrom<&'a str, Error = crate::ids::IdError>>(
    fields: &mut Fields<'_>,
    name: &str,
    default: &Option<String>,
    variable: &str,
) -> Option<T> {
    if fields.has(name) {
        return fields.id(name);
    }
    let Some(text) = default else {
        fields.problem_missing(name, &format!("a value, here or in the environment variable {variable}"));
        return None;
    };
    match T::try_from(text.as_str()) {
        Ok(id) => Some(id),
        Err(error) => {
            fields.problem(&format!("{name} (from the environment variable {variable})"), text, &error.to_string());
            None
        }
    }
}

fn snapshot(fields: &mut Fields<'_>, region: Option<&Region>) -> SnapshotSelector {
    let date = fields.text("snapshot_date");
    if let Some(date) = &date
        && !is_date(date)
    {
        fields.problem("snapshot_date", date, "a day that exists, as YYYY-MM-DD in UTC");
    }
    let id = fields.text("snapshot_id").unwrap_or_else(|| "latest".to_owned());
    if id == "latest" {
        return SnapshotSelector::Latest { date };
    }
    if let Some(date) = &date {
        fields.problem(
            "snapshot_date",
            date,
            "nothing when snapshot_id names a snapshot: the day picks among 'latest'",
        );
    }
    if id.starts_with("arn:") {
        let takes = "an ARN arn:aws:rds:<source Region>:<account>:cluster-snapshot:<id>";
        match crate::ids::Arn::parse(&id) {
            Some(arn) if arn.service == "rds" && arn.resource.starts_with("cluster-snapshot:") => {
                if region.is_some_and(|region| region.as_str() != arn.region) {
                    fields.problem("snapshot_id", &id, "an ARN in source_region");
                }
            }
            _ => fields.problem("snapshot_id", &id, takes),
        }
        return SnapshotSelector::Arn(id);
    }
    let plain = id.strip_prefix("rds:").unwrap_or(&id);
    if let Err(error) = crate::ids::SnapshotId::try_from(plain) {
        fields.problem("snapshot_id", &id, &format!("'latest', an id, an ARN or 'rds:…'; the id {error}"));
    }
    SnapshotSelector::Id(id)
}

fn is_date(text: &str) -> bool {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    time::Date::parse(text, format).is_ok()
}

fn settings(fields: &mut Fields<'_>, defaults: &Defaults, target_region: Option<&Region>) -> RequestedSettings {
    let asked_key = fields.text("kms_key_id");
    let kms_key_is_explicit = asked_key.is_some();
    let kms_key_id = asked_key.or_else(|| defaults.kms_key_id.clone());
    if let (Some(key), Some(region)) = (&kms_key_id, target_region)
        && key.starts_with("arn:")
    {
        match crate::ids::Arn::parse(key) {
            Some(arn) if arn.service != "kms" => fields.problem("kms_key_id", key, "the ARN of a KMS key or alias"),
            Some(arn) if arn.region != region.as_str() => {
                let takes = format!("a key of the target Region {region}; this one is in {}", arn.region);
                fields.problem("kms_key_id", key, &takes);
            }
            Some(_) => {}
            None => fields.problem("kms_key_id", key, "a key id, an alias ('alias/…') or an ARN"),
        }
    }
    let vpc_security_group_ids = fields.texts("vpc_security_group_ids");
    if let Some(groups) = &vpc_security_group_ids {
        for (index, group) in groups.iter().enumerate().filter(|(_, group)| !group.starts_with("sg-")) {
            fields.problem(&format!("vpc_security_group_ids[{index}]"), group, "a security group id, 'sg-…'");
        }
    }
    let serverless_v2 = serverless(fields);
    let instances = instances(fields);
    RequestedSettings {
        db_subnet_group_name: fields.text("db_subnet_group_name"),
        vpc_security_group_ids,
        kms_key_id,
        kms_key_is_explicit,
        engine_version: fields.text("engine_version"),
        db_cluster_parameter_group_name: fields.text("db_cluster_parameter_group_name"),
        // RDS takes 1150 to 65535.
        port: fields.whole("port", 1150, 65535).and_then(|port| u16::try_from(port).ok()),
        instances,
        serverless_v2,
        deletion_protection: fields.flag("deletion_protection"),
        enable_iam_database_authentication: fields.flag("enable_iam_database_authentication"),
    }
}

const CLASS_TAKES: &str = "an instance class such as 'db.r6g.large' or 'db.serverless'";

fn is_instance_class(text: &str) -> bool {
    let mut parts = text.split('.');
    let legal =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    parts.next() == Some("db") && parts.clone().count() >= 1 && parts.all(legal)
}

fn instances(fields: &mut Fields<'_>) -> Option<Vec<InstanceSpec>> {
    let class = fields.text("db_instance_class");
    let count = fields.whole("instance_count", 1, 15);
    if let Some(class) = &class
        && !is_instance_class(class)
    {
        fields.problem("db_instance_class", class, CLASS_TAKES);
    }
    if let Some(list) = fields.objects("instances", &["db_instance_class", "promotion_tier"]) {
        if class.is_some() || count.is_some() {
            fields.problem_missing(
                "instances",
                "either 'instances' or 'db_instance_class' with 'instance_count', not both",
            );
        }
        if list.is_empty() || list.len() > 15 {
            fields.problem("instances", &format!("{} entries", list.len()), "1 to 15 entries, the writer first");
        }
        let mut specs = Vec::new();
        for mut item in list {
            let class = item.text("db_instance_class");
            match &class {
                Some(class) if is_instance_class(class) => {}
                Some(class) => item.problem("db_instance_class", class, CLASS_TAKES),
                None => item.problem_if_absent("db_instance_class", CLASS_TAKES),
            }
            let tier = item.whole("promotion_tier", 0, 15).and_then(|tier| u8::try_from(tier).ok());
            specs.push(InstanceSpec { db_instance_class: class.unwrap_or_default(), promotion_tier: tier });
            fields.absorb(item);
        }
        return Some(specs);
    }
    if class.is_none() && count.is_some() {
        fields.problem_missing("instance_count", "a 'db_instance_class' beside it");
    }
    let count = usize::try_from(count.unwrap_or(1)).unwrap_or(1);
    class.map(|class| vec![InstanceSpec { db_instance_class: class, promotion_tier: None }; count])
}

fn serverless(fields: &mut Fields<'_>) -> Option<ServerlessV2> {
    let mut object = fields.object("serverless_v2", &["min_acu", "max_acu"])?;
    const TAKES: &str = "Aurora capacity units in halves, min_acu 0 to 256, max_acu 1 to 256";
    let mut acu = |name: &str, least: f64| {
        let value = object.number(name);
        match value {
            Some(value) if value >= least && value <= 256.0 && (value * 2.0).fract() == 0.0 => Some(value),
            Some(value) => {
                object.problem(name, &value.to_string(), TAKES);
                None
            }
            None => {
                object.problem_if_absent(name, TAKES);
                None
            }
        }
    };
    let (min, max) = (acu("min_acu", 0.0), acu("max_acu", 1.0));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        object.problem("min_acu", &min.to_string(), &format!("at most max_acu ({max})"));
    }
    fields.absorb(object);
    Some(ServerlessV2 { min_acu: min?, max_acu: max? })
}

fn retention(fields: &mut Fields<'_>) -> Retention {
    let default = Retention::default();
    let Some(mut object) = fields.object("retention", &["copies", "days"]) else { return default };
    let whole = |value: Option<i64>, default: u32| value.and_then(|n| u32::try_from(n).ok()).unwrap_or(default);
    let copies = whole(object.whole("copies", 1, 100), default.copies);
    let days = whole(object.whole("days", 0, 3650), default.days);
    fields.absorb(object);
    Retention { copies, days }
}

fn tags(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let tags = fields.text_map("tags").unwrap_or_default();
    if tags.len() > TAGS_MAX {
        fields.problem("tags", &format!("{} tags", tags.len()), &format!("at most {TAGS_MAX} tags"));
    }
    for (key, value) in &tags {
        if key.is_empty() || key.len() > 128 || key.starts_with("aws:") || key.starts_with(TAG_PREFIX) {
            let takes = format!("keys of 1 to 128 characters that do not start with 'aws:' or '{TAG_PREFIX}'");
            fields.problem("tags", key, &takes);
        }
        if value.len() > 256 {
            fields.problem(&format!("tags.{key}"), &format!("{} characters", value.len()), "at most 256 characters");
        }
    }
    tags
}

#[cfg(test)]
mod tests;
