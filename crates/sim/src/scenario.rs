//! What a simulation begins with: production, a target, keys, secrets, and the request.

use crate::cloud::model::{Cluster, Instance, Snapshot, Table};
use crate::cloud::{Cloud, Roles, World};
use crate::time::{SECOND, Time};
use aurora_restore_core::Context;
use aurora_restore_core::config::{Config, Env};
use aurora_restore_domain::failure::Failure;
use aurora_restore_steps::FakeDatabase;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state table.
pub const STATE: &str = "aurora-restore-state";
/// The audit table.
pub const AUDIT: &str = "aurora-restore-audit";
/// The table of calls to RDS that the deployments of a crowd share.
const CALLS: &str = "aurora-restore-rds-calls";

/// The situations that are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// An encrypted snapshot of another Region replaces a protected cluster of ours with two instances.
    Happy,
    /// Source and target are in one Region.
    SameRegion,
    /// Nothing is encrypted.
    Unencrypted,
    /// There is no target yet; the request says all.
    NoTarget,
    /// A restore over what an earlier restore made.
    SecondRun,
    /// Serverless v2, which accepts connections late.
    Serverless,
    /// Without a final snapshot, as asked.
    NoFinalSnapshot,
    /// The plan only.
    PlanOnly,
    /// The target is not ours.
    NotOurs,
    /// The Region's copy slots are taken for a while.
    SlotsTaken,
    /// Masking scripts run before any declared user gets in.
    Masked,
    /// The cluster is restored beside the living target, and names are swapped.
    Swap,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Happy,
        Self::SameRegion,
        Self::Unencrypted,
        Self::NoTarget,
        Self::SecondRun,
        Self::Serverless,
        Self::NoFinalSnapshot,
        Self::PlanOnly,
        Self::NotOurs,
        Self::SlotsTaken,
        Self::Masked,
        Self::Swap,
    ];

    /// Those that a seed draws from; the others have seeds of their own, so that what came before stays what it was.
    pub const DRAWN: usize = 10;

    /// Whether it ends well when nothing goes wrong.
    pub fn can_succeed(self) -> bool {
        self != Self::NotOurs
    }

    /// Whether it restores anything.
    pub fn restores(self) -> bool {
        self != Self::PlanOnly
    }
}

/// What a simulation is about.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The situation.
    pub scenario: Scenario,
    /// Region of production.
    pub source_region: String,
    /// Region of the target.
    pub target_region: String,
    /// Production's cluster.
    pub source_id: String,
    /// The cluster that is replaced.
    pub target_id: String,
    /// Where outcomes are told.
    pub topic_arn: String,
    /// The request, without an operation's id.
    pub request: Value,
    /// The declared users: role and password.
    pub declared: Vec<(String, String)>,
    /// The master's password as the secret has it.
    pub master_password: String,
    /// A cluster that somebody may make under the target's name.
    pub somebodys_cluster: Option<Cluster>,
    /// Whether calls are written into the log.
    pub keeps_log: bool,
    /// Whether the transcript shows what people are told.
    pub shows_messages: bool,
    /// Everything that nobody may change: by ARN.
    pub sacred: BTreeMap<String, String>,
    /// Masking scripts, in the order of their names.
    pub scripts: Vec<String>,
    /// Serial and looks of the target before the run.
    pub target_before: Option<Cluster>,
    /// Whether there are many targets; what is judged of one target is not judged then.
    pub is_crowd: bool,
}

const SOURCE_REGION: &str = "us-east-1";
const TARGET_REGION: &str = "us-west-2";

fn key_arn(region: &str) -> String {
    format!("arn:aws:kms:{region}:{}:key/key-1", crate::cloud::ACCOUNT)
}

fn tag(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// Builds the world of a scenario.
pub fn build(time: Time, scenario: Scenario, seed: u64) -> Result<World, String> {
    let source_region = if scenario == Scenario::SameRegion { TARGET_REGION } else { SOURCE_REGION };
    let mut request = json!({
        "source_region": source_region,
        "source_cluster_id": "production",
        "snapshot_id": "latest",
        "target_region": TARGET_REGION,
        "target_cluster_id": "staging",
        "deletion_protection": true,
        "retention": { "copies": 2 },
    });
    match scenario {
        Scenario::NoTarget | Scenario::Serverless => {
            request["db_subnet_group_name"] = "private".into();
            request["vpc_security_group_ids"] = json!(["sg-1"]);
            request["db_instance_class"] = "db.r6g.large".into();
            if scenario == Scenario::Serverless {
                request["db_instance_class"] = "db.serverless".into();
                request["serverless_v2"] = json!({ "min_acu": 0.5, "max_acu": 8.0 });
            }
        }
        Scenario::NoFinalSnapshot => request["skip_final_snapshot"] = true.into(),
        Scenario::PlanOnly => request["plan_only"] = true.into(),
        Scenario::Masked => request["masking"] = json!({ "scripts": "s3://artefacts/masking/" }),
        Scenario::Swap => {
            request["replacement"] = "swap".into();
            request["swap"] = json!({ "grace_period_minutes": 10 });
        }
        Scenario::Happy
        | Scenario::SameRegion
        | Scenario::Unencrypted
        | Scenario::SecondRun
        | Scenario::NotOurs
        | Scenario::SlotsTaken => {}
    }
    let master_password = "MasterSecretOfTheTarget1".to_owned();
    let declared: Vec<(String, String)> = [
        ("app_user", "AppSecretOfTheTarget2"),
        ("readonly_user", "ReadSecretOfTheTarget3"),
        ("devops_user", "OpsSecretOfTheTarget4"),
    ]
    .into_iter()
    .map(|(role, password)| (role.to_owned(), password.to_owned()))
    .collect();
    let scene = Scene {
        scenario,
        source_region: source_region.to_owned(),
        target_region: TARGET_REGION.to_owned(),
        source_id: "production".into(),
        target_id: "staging".into(),
        topic_arn: format!("arn:aws:sns:{TARGET_REGION}:{}:aurora-restore", crate::cloud::ACCOUNT),
        request,
        declared,
        master_password,
        somebodys_cluster: None,
        keeps_log: false,
        shows_messages: false,
        sacred: BTreeMap::new(),
        scripts: vec![],
        target_before: None,
        is_crowd: false,
    };
    let mut world = World::new(time, scene, seed);
    furnish(&mut world)?;
    Ok(world)
}

fn furnish(world: &mut World) -> Result<(), String> {
    let scenario = world.scene.scenario;
    tables(world, "");
    let user = |index: usize| {
        let (role, password) = &world.scene.declared[index];
        json!({ "username": role, "password": password })
    };
    let app = json!({ "application_user": user(0), "readonly_user": user(1), "devops_user": user(2) });
    let master = json!({ "username": "master", "password": world.scene.master_password });
    world.secret_values = world.scene.declared.iter().map(|(_, password)| password.clone()).collect();
    world.secret_values.push(world.scene.master_password.clone());
    world.secrets.insert("aurora-restore/sim/master-credentials".into(), master.to_string());
    world.secrets.insert("aurora-restore/sim/app-credentials".into(), app.to_string());
    for region in [SOURCE_REGION, TARGET_REGION] {
        let place = world.region_mut(region);
        place.keys.insert(key_arn(region), "Enabled".into());
        place.subnet_groups = ["private", "default"].map(|name| (name.to_owned(), "vpc-1".to_owned())).into();
        place.security_groups = [("sg-1".to_owned(), "vpc-1".to_owned())].into();
        place.orderable_classes = ["db.r6g.large", "db.serverless"].map(str::to_owned).into();
    }
    let roles = Roles::of_production("of-production-master").ok_or("the simulated roles have wrong names")?;
    if scenario == Scenario::Masked {
        world.scene.scripts =
            ["app/010-customers.sql", "app/020-employees.sql", "app/030-cards.sql"].map(str::to_owned).into();
        for script in &world.scene.scripts {
            world.objects.insert(format!("artefacts/masking/{script}"), format!("SELECT '{script}'"));
        }
    }
    let encrypted = scenario != Scenario::Unencrypted;
    let source_region = world.scene.source_region.clone();
    let key = encrypted.then(|| key_arn(&source_region));
    cluster(world, &source_region, "production", "db.r6g.2xlarge", key.clone(), BTreeMap::new(), &roles);
    for (id, automated, days) in [
        ("production-before-migration", false, 9),
        ("production-weekly", false, 2),
        ("rds:production-2026-11-21-19-48", true, 0),
    ] {
        let snapshot = Snapshot {
            serial: world.serial(),
            id: id.into(),
            arn: world.arn(&source_region, "cluster-snapshot", id),
            cluster_id: "production".into(),
            status: "available".into(),
            automated,
            created_us: -(days * 24 * 3600 + 720) * 1_000_000,
            key: key.clone(),
            engine_version: "16.4".into(),
            making_us: (0, 1),
            tags: BTreeMap::new(),
            roles: roles.clone(),
        };
        world.region_mut(&source_region).snapshots.insert(id.into(), snapshot);
    }
    if source_region != TARGET_REGION {
        let id = "production-kept-by-hand";
        let snapshot = Snapshot {
            serial: world.serial(),
            id: id.into(),
            arn: world.arn(TARGET_REGION, "cluster-snapshot", id),
            cluster_id: "production".into(),
            status: "available".into(),
            automated: false,
            created_us: -90 * 24 * 3600 * 1_000_000,
            key: encrypted.then(|| key_arn(TARGET_REGION)),
            engine_version: "16.4".into(),
            making_us: (0, 1),
            tags: tag("team", "platform"),
            roles: roles.clone(),
        };
        world.region_mut(TARGET_REGION).snapshots.insert(id.into(), snapshot);
    }
    let target_key = encrypted.then(|| key_arn(TARGET_REGION));
    cluster(
        world,
        TARGET_REGION,
        "payments-legacy",
        "db.r6g.large",
        target_key.clone(),
        tag("team", "payments"),
        &roles,
    );
    if !matches!(scenario, Scenario::NoTarget | Scenario::Serverless) {
        let tags =
            if scenario == Scenario::NotOurs { tag("team", "platform") } else { tag("aurora-restore:managed", "true") };
        cluster(world, TARGET_REGION, "staging", "db.r6g.large", target_key, tags, &roles);
    }
    if scenario == Scenario::SlotsTaken {
        world.pace.others_copy_until_us = (1..=5).map(|number| number * 400 * SECOND).collect();
    }
    let foreign = world.region_mut(TARGET_REGION).clusters.get("payments-legacy").cloned();
    world.scene.somebodys_cluster = foreign.map(|cluster| Cluster { members: vec![], ..cluster });
    world.scene.sacred = sacred(world);
    world.scene.target_before = world.region_mut(TARGET_REGION).clusters.get("staging").cloned();
    Ok(())
}

/// What nobody may change: production, its snapshots, and what belongs to others.
pub fn sacred(world: &World) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for region in world.regions.values() {
        for cluster in region.clusters.values().filter(|cluster| cluster.id != world.scene.target_id) {
            found.insert(
                cluster.arn.clone(),
                format!("{} {} {:?} {:?}", cluster.status, cluster.protected, cluster.members, cluster.tags),
            );
        }
        for snapshot in
            region.snapshots.values().filter(|snapshot| !snapshot.tags.contains_key("aurora-restore:operation"))
        {
            if snapshot.cluster_id == world.scene.source_id {
                found.insert(snapshot.arn.clone(), format!("{} {:?}", snapshot.status, snapshot.tags));
            }
        }
    }
    found
}

fn cluster(
    world: &mut World,
    region: &str,
    id: &str,
    class: &str,
    key: Option<String>,
    tags: BTreeMap<String, String>,
    roles: &Roles,
) {
    let members: Vec<String> = (1..=2).map(|number| format!("{id}-{number}")).collect();
    let made = Cluster {
        serial: world.serial(),
        id: id.into(),
        arn: world.arn(region, "cluster", id),
        status: "available".into(),
        engine_version: "16.4".into(),
        port: 5432,
        protected: true,
        key,
        subnet_group: "private".into(),
        security_groups: vec!["sg-1".into()],
        parameter_group: "default.aurora-postgresql16".into(),
        serverless: None,
        members: members.clone(),
        password_pending: false,
        copies_tags: true,
        tags: tags.clone(),
        roles: roles.clone(),
        masked: vec![],
        marks: BTreeSet::new(),
        accepts_from_us: 0,
    };
    for member in members {
        let instance = Instance {
            serial: world.serial(),
            id: member.clone(),
            cluster_id: id.into(),
            status: "available".into(),
            class: class.into(),
            tier: Some("1".into()),
            tags: tags.clone(),
        };
        world.region_mut(region).instances.insert(member, instance);
    }
    world.region_mut(region).clusters.insert(id.into(), made);
}

/// The two tables of a deployment.
fn tables(world: &mut World, suffix: &str) {
    let table = |keys| Table { keys, ..Table::default() };
    world.tables.insert(format!("{STATE}{suffix}"), table(vec!["operation_id"]));
    world.tables.insert(format!("{AUDIT}{suffix}"), table(vec!["operation_id", "timestamp"]));
}

/// Makes the world one of many targets like the scenario's, each with a deployment of its own; answers their names.
pub fn crowd(world: &mut World, size: usize) -> Vec<String> {
    let names: Vec<String> = (1..=size).map(|number| format!("staging-{number:03}")).collect();
    let roles = world.region_mut(TARGET_REGION).clusters.get("staging").map(|cluster| cluster.roles.clone());
    world.tables.insert(CALLS.into(), Table { keys: vec!["operation_id"], ..Table::default() });
    for name in &names {
        tables(world, &format!("-{name}"));
        let tags = tag("aurora-restore:managed", "true");
        if let Some(roles) = &roles {
            cluster(world, TARGET_REGION, name, "db.r6g.large", Some(key_arn(TARGET_REGION)), tags, roles);
        }
    }
    names
}

/// A function's context over a cloud; its clock is `skew` apart. `of_crowd` is whose deployment of a crowd's it belongs to.
pub fn context(cloud: &Cloud, skew: time::Duration, of_crowd: Option<&str>) -> Result<Context, Failure> {
    let (source_region, target_region, topic_arn) = {
        let world = cloud.world();
        let scene = &world.scene;
        (scene.source_region.clone(), scene.target_region.clone(), scene.topic_arn.clone())
    };
    let suffix = of_crowd.map(|name| format!("-{name}")).unwrap_or_default();
    let (calls_per_second, calls_table) = if of_crowd.is_some() { ("10", CALLS) } else { ("", "") };
    let config = Config::from_env(&Env::fake([
        ("ENVIRONMENT", "sim"),
        ("STATE_TABLE_NAME", &format!("{STATE}{suffix}")),
        ("AUDIT_TABLE_NAME", &format!("{AUDIT}{suffix}")),
        ("SNS_TOPIC_ARN", &topic_arn),
        ("SOURCE_REGION", &source_region),
        ("TARGET_REGION", &target_region),
        ("KMS_KEY_ID", &key_arn(&target_region)),
        ("AWS_LAMBDA_FUNCTION_NAME", "sim"),
        ("RDS_CALLS_PER_SECOND", calls_per_second),
        ("RDS_CALLS_TABLE_NAME", calls_table),
    ]))?;
    let sdk = cloud.sdk_config(&target_region);
    let database: Arc<dyn FakeDatabase> = Arc::new(cloud.clone());
    Ok(Context::with_sdk(config, cloud.time.clock(skew), sdk).with_stand_in(database))
}
