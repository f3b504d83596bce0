use super::*;
use crate::decide::fixtures;
use crate::request::{Defaults, parse};
use serde_json::{Value, json};

fn request(mut input: Value) -> Request {
    let object = input.as_object_mut().unwrap();
    for (field, value) in [
        ("source_region", "us-east-1"),
        ("source_cluster_id", "production"),
        ("target_region", "us-west-2"),
        ("target_cluster_id", "staging"),
    ] {
        object.entry(field).or_insert(json!(value));
    }
    let defaults = Defaults { kms_key_id: Some("alias/default".into()), ..Defaults::default() };
    parse(&input, &defaults).unwrap()
}

/// A world in which the nightly restore works.
fn world() -> Observed {
    Observed {
        snapshots: vec![fixtures::snapshot("snap-1")],
        target: Some(fixtures::cluster("staging")),
        instances: vec![fixtures::instance("staging-1"), fixtures::instance("staging-2")],
        key: KeyLook::Found(Key { arn: "arn:aws:kms:us-west-2:1:key/k".into(), state: "Enabled".into() }),
        ground: Some(fixtures::ground()),
        master_username: Some("master".into()),
        ..Observed::default()
    }
}

fn run(input: Value, world: &Observed) -> Result<Plan, Failure> {
    decide(&request(input), &with_base(world), &fixtures::operation_id())
}

/// As the step makes it: the base follows from what was seen.
fn with_base(world: &Observed) -> Observed {
    Observed { base: plan::base(world.target.as_ref(), &world.instances, &[]), ..world.clone() }
}

#[test]
fn the_nightly_restore_takes_its_settings_from_the_replaced_cluster() {
    let plan = run(json!({}), &world()).unwrap();
    assert_eq!(plan.settings.db_subnet_group_name.as_deref(), Some("staging-subnets"));
    assert_eq!(plan.settings.vpc_security_group_ids, ["sg-1"]);
    assert_eq!(plan.settings.db_cluster_parameter_group_name, None, "a default group is not carried over");
    assert!(plan.settings.deletion_protection);
    assert_eq!(
        plan.instances.iter().map(|instance| instance.id.as_str()).collect::<Vec<_>>(),
        ["staging-1", "staging-2"]
    );
    assert!(matches!(&plan.copy, CopyPlan::Copy { kms_key_id: Some(key), .. } if key == "alias/default"));
    assert!(plan.final_snapshot_id.is_some());
}

fn swap() -> Value {
    json!({"replacement": "swap", "swap": {"grace_period_minutes": 30}})
}

#[test]
fn a_swap_restores_under_names_of_its_own() {
    let plan = run(swap(), &world()).unwrap();
    let names = plan.swap.as_ref().unwrap();
    let (new, old) = (names.scratch_id.as_str(), names.retired_id.as_str());
    assert_eq!(plan.instances[0].id.as_str(), "staging-1", "as it is called in the end");
    let beside: Vec<_> = plan.instances_in(new).iter().map(|planned| planned.id.to_string()).collect();
    assert_eq!(beside, [format!("{new}-1"), format!("{new}-2")]);
    assert_eq!(plan.instances_in("staging"), plan.instances);
    let target = fixtures::target();
    assert_eq!((plan.made_as(&target).as_str(), plan.deleted_as(&target).as_str()), (new, old));
    let told = plan.summary.join("\n");
    for words in [
        format!("restore cluster {new} with {new}-1 (db.r6g.large)"),
        format!("rename cluster staging to {old} and {new} to staging"),
        format!("wait 30 min, then delete cluster {old} with final snapshot staging-final-"),
    ] {
        assert!(told.contains(&words), "{words} in\n{told}");
    }
    let usual = run(json!({}), &world()).unwrap();
    assert_eq!((usual.made_as(&target), usual.deleted_as(&target)), (&target, &target));
    assert!(usual.swap.is_none() && usual.summary.iter().any(|line| line.starts_with("delete cluster staging with")));
    // Two clusters beside each other take room that a deletion makes first.
    let mut full = world();
    full.quotas.clusters = Some((40, 40));
    assert!(run(json!({}), &full).is_ok());
}

#[test]
fn users_who_log_in_with_tokens_turn_iam_authentication_on() {
    let by_token = json!({"users": {"devops_user": {"login": "iam"}}});
    let (usual, with_tokens) = (run(json!({}), &world()).unwrap(), run(by_token.clone(), &world()).unwrap());
    let is_on = |plan: &Plan| plan.settings.enable_iam_database_authentication;
    assert!(!is_on(&usual) && is_on(&with_tokens));
    let told = "turn on IAM database authentication, with which devops_user will log in";
    assert!(with_tokens.summary.iter().any(|line| line == told), "{:#?}", with_tokens.summary);
    // Mended later in the same operation: a cluster that was planned without it will not have it.
    assert_eq!(beyond_the_plan(&request(by_token.clone()), &with_tokens), None);
    assert_eq!(beyond_the_plan(&request(json!({})), &usual), None);
    let refused = beyond_the_plan(&request(by_token), &usual).unwrap();
    assert!(refused.starts_with("users: got login 'iam' for devops_user; takes 'password' in this operation"));
}

#[test]
fn the_request_goes_before_the_replaced_cluster() {
    let input = json!({"db_subnet_group_name": "other", "db_instance_class": "db.serverless", "deletion_protection": false,
        "serverless_v2": {"min_acu": 0.5, "max_acu": 4}, "kms_key_id": "alias/mine", "skip_final_snapshot": true, "port": 5433});
    let plan = run(input, &world()).unwrap();
    assert_eq!(plan.settings.db_subnet_group_name.as_deref(), Some("other"));
    assert_eq!((plan.settings.port, plan.settings.deletion_protection), (Some(5433), false));
    assert_eq!(plan.instances.len(), 1);
    assert!(matches!(&plan.copy, CopyPlan::Copy { kms_key_id: Some(key), .. } if key == "alias/mine"));
    assert_eq!(plan.final_snapshot_id, None);
}

#[test]
fn an_unencrypted_snapshot_is_copied_without_a_key() {
    let mut world = world();
    world.snapshots[0].encrypted = false;
    world.target = None;
    let input =
        json!({"db_subnet_group_name": "s", "vpc_security_group_ids": ["sg-1"], "db_instance_class": "db.r6g.large"});
    let plan = run(input.clone(), &world).unwrap();
    assert!(matches!(plan.copy, CopyPlan::Copy { kms_key_id: None, .. }));
    assert_eq!(plan.settings.kms_key_id, None, "the environment's key is for copies");
    let mut input = input;
    input["kms_key_id"] = json!("alias/mine");
    assert_eq!(
        run(input, &world).unwrap().settings.kms_key_id.as_deref(),
        Some("alias/mine"),
        "asked for, so encrypted on restore"
    );
}

#[test]
fn within_one_region_nothing_is_copied() {
    let plan = run(json!({"source_region": "us-west-2"}), &world()).unwrap();
    assert_eq!(plan.copy, CopyPlan::SameRegion);
}

#[test]
fn the_latest_available_snapshot_is_chosen_on_its_day() {
    let mut world = world();
    let mut newer = fixtures::snapshot("newer");
    newer.created_at = Some(time::macros::datetime!(2026-11-22 03:00 UTC));
    let mut creating = fixtures::snapshot("creating");
    creating.created_at = Some(time::macros::datetime!(2026-11-23 03:00 UTC));
    creating.status = "creating".into();
    world.snapshots.extend([newer, creating]);
    assert_eq!(run(json!({}), &world).unwrap().snapshot.id, "newer");
    assert_eq!(run(json!({"snapshot_date": "2026-11-21"}), &world).unwrap().snapshot.id, "snap-1");
    assert_eq!(run(json!({"snapshot_date": "2026-11-23"}), &world).unwrap_err().name, ErrorName::ResourceConflict);
    assert_eq!(run(json!({"snapshot_date": "2026-11-20"}), &world).unwrap_err().name, ErrorName::SnapshotNotFound);
}

fn mysql(world: &mut Observed) {
    let version = "8.0.mysql_aurora.3.08.0";
    for snapshot in &mut world.snapshots {
        snapshot.engine = "aurora-mysql".into();
        snapshot.engine_version = version.into();
    }
    let target = world.target.as_mut().unwrap();
    target.engine = "aurora-mysql".into();
    target.engine_version = version.into();
    target.db_cluster_parameter_group_name = Some("default.aurora-mysql8.0".into());
    world.ground.as_mut().unwrap().parameter_group_family = Some("aurora-mysql8.0".into());
}

#[test]
fn a_mysql_is_restored_as_a_postgresql_is() {
    let mut world = world();
    mysql(&mut world);
    let plan = run(json!({}), &world).unwrap();
    assert_eq!(
        (plan.snapshot.engine.as_str(), plan.snapshot.engine_version.as_str()),
        ("aurora-mysql", "8.0.mysql_aurora.3.08.0")
    );
    // What is wrong for MySQL alone is no problem of a PostgreSQL.
    let mut world = self::world();
    world.mysql_secret_problems.push("a name too long".into());
    assert!(run(json!({}), &world).is_ok());
}

#[test]
fn each_wrong_world_has_its_own_words() {
    type Change = fn(&mut Observed);
    let table: &[(Value, Change, ErrorName, &str)] = &[
        (json!({"snapshot_id": "s"}), |w| w.snapshots.clear(), ErrorName::SnapshotNotFound, "does not exist"),
        (
            json!({"snapshot_id": "s"}),
            |w| w.snapshots[0].status = "creating".into(),
            ErrorName::ResourceConflict,
            "creating, 100 %, not available",
        ),
        (
            json!({"snapshot_id": "s"}),
            |w| w.snapshots[0].cluster_id = "other".into(),
            ErrorName::InvalidRequest,
            "a snapshot of cluster other",
        ),
        (json!({}), |w| w.key = KeyLook::Missing, ErrorName::InvalidRequest, "kms_key_id: got 'alias/default'"),
        (
            json!({}),
            |w| w.key = KeyLook::Found(Key { arn: "a".into(), state: "Disabled".into() }),
            ErrorName::KmsKeyUnusable,
            "is Disabled",
        ),
        (json!({}), |w| w.target = None, ErrorName::InvalidRequest, "db_instance_class: needs"),
        (json!({}), |w| w.target = None, ErrorName::InvalidRequest, "db_subnet_group_name: needs"),
        (
            json!({}),
            |w| w.ground.as_mut().unwrap().subnet_group_vpc = None,
            ErrorName::InvalidRequest,
            "got staging-subnets",
        ),
        (json!({"db_instance_class": "db.serverless"}), |_| {}, ErrorName::InvalidRequest, "serverless_v2: needs"),
        (
            json!({}),
            |w| w.snapshots[0].engine = "docdb".into(),
            ErrorName::InvalidRequest,
            "whose engine is docdb; takes a cluster of engine aurora-postgresql or aurora-mysql",
        ),
        (
            json!({}),
            |w| {
                mysql(w);
                w.snapshots[0].engine_version = "5.7.mysql_aurora.2.11.2".into();
            },
            ErrorName::InvalidRequest,
            "whose engine version is 5.7.mysql_aurora.2.11.2; takes Aurora MySQL version 3 or later",
        ),
        (
            json!({"masking": {"scripts": "s3://bucket/mask/"}}),
            |w| {
                mysql(w);
                w.mysql_script_problems.push("masking.scripts: DELIMITER".into());
            },
            ErrorName::InvalidRequest,
            "masking.scripts: DELIMITER",
        ),
        (
            json!({}),
            |w| {
                mysql(w);
                w.mysql_secret_problems.push("a name too long".into());
            },
            ErrorName::InvalidRequest,
            "a name too long",
        ),
        (json!({}), |w| w.master_username = Some("admin".into()), ErrorName::InvalidRequest, "got admin; takes master"),
        (
            json!({}),
            |w| w.secret_problems.push("secret x says PLACEHOLDER".into()),
            ErrorName::InvalidRequest,
            "PLACEHOLDER",
        ),
        (json!({}), |w| w.quotas.manual_snapshots = Some((99, 100)), ErrorName::InvalidRequest, "99 of 100"),
        (
            swap(),
            |w| w.quotas.clusters = Some((40, 40)),
            ErrorName::InvalidRequest,
            "limit of clusters in us-west-2: 40 of 40",
        ),
        (swap(), |w| w.quotas.instances = Some((39, 40)), ErrorName::InvalidRequest, "this restore makes 2 more"),
        (
            swap(),
            |w| w.taken_cluster_names.push("staging-old-1".into()),
            ErrorName::ResourceConflict,
            "a cluster staging-old-1 exists",
        ),
        (
            swap(),
            |w| w.target.as_mut().unwrap().status = "restore-error".into(),
            ErrorName::RefusedUnsafe,
            "cannot be renamed",
        ),
        (json!({}), |w| w.instances[1].cluster_id = Some("other".into()), ErrorName::ResourceConflict, "staging-2"),
        (json!({}), |w| w.target.as_mut().unwrap().tags.clear(), ErrorName::RefusedUnsafe, "not made by this tool"),
        (json!({}), |w| w.global_cluster = Some("world".into()), ErrorName::RefusedUnsafe, "global cluster world"),
        (
            json!({}),
            |w| {
                let target = w.target.as_mut().unwrap();
                target.db_cluster_parameter_group_name = Some("mine".into());
                target.engine_version = "14.9".into();
                w.ground.as_mut().unwrap().parameter_group_family = Some("aurora-postgresql14".into());
            },
            ErrorName::InvalidRequest,
            "db_cluster_parameter_group_name: got mine, whose family is aurora-postgresql14; takes one of family aurora-postgresql15",
        ),
    ];
    for (input, change, name, words) in table {
        let mut world = world();
        change(&mut world);
        let failure = run(input.clone(), &world).unwrap_err();
        assert_eq!(failure.name, *name, "{failure}");
        assert!(failure.to_string().contains(words), "{words:?} is missing in {failure}");
    }
}

#[test]
fn what_a_failed_restore_of_ours_left_is_replaced_without_a_final_snapshot() {
    let mut world = world();
    let target = world.target.as_mut().unwrap();
    target.status = "incompatible-restore".into();
    assert_eq!(run(json!({}), &world).unwrap().final_snapshot_id, None);
    // A cluster that came up once and failed later has data of its own.
    world.target.as_mut().unwrap().status = "inaccessible-encryption-credentials".into();
    assert!(run(json!({}), &world).unwrap().final_snapshot_id.is_some());
}

#[test]
fn everything_wrong_is_reported_together() {
    let mut world = world();
    world.target.as_mut().unwrap().tags.clear();
    world.key = KeyLook::Found(Key { arn: "a".into(), state: "PendingDeletion".into() });
    world.secret_problems.push("secret x lacks devops_user".into());
    let failure = run(json!({}), &world).unwrap_err();
    assert_eq!(failure.name, ErrorName::InvalidRequest);
    for words in ["devops_user", "PendingDeletion", "aurora-restore:managed"] {
        assert!(failure.to_string().contains(words), "{words} in {failure}");
    }
}

#[test]
fn without_a_key_anywhere_an_encrypted_snapshot_is_refused() {
    let mut request = request(json!({}));
    request.settings.kms_key_id = None;
    let mut world = world();
    world.target.as_mut().unwrap().kms_key_id = None;
    let failure = decide(&request, &with_base(&world), &fixtures::operation_id()).unwrap_err();
    assert!(failure.to_string().contains("kms_key_id: needs a key of the target Region us-west-2"), "{failure}");
}

#[test]
fn rights_and_places_that_the_engine_does_not_know_are_found_now() {
    let of_postgresql =
        json!({"x": {"profile": "custom", "grants": [{"on": "sequences", "schemas": ["a"], "privileges": ["usage"]}]}});
    let of_mysql = json!({"x": {"profile": "custom", "grants": [{"on": "tables", "databases": ["a"], "tables": ["t"], "privileges": ["drop"]}]}});
    let mut other = world();
    mysql(&mut other);
    for (users, world, words) in [
        (
            &of_postgresql,
            &other,
            "users.x.grants[0].on: got sequences; takes 'databases', 'tables', 'routines' for Aurora MySQL",
        ),
        (&of_mysql, &world(), "users.x.grants[0].tables: got t; takes nothing for Aurora PostgreSQL"),
    ] {
        let told = run(json!({"users": users}), world).unwrap_err();
        assert!(told.name == ErrorName::InvalidRequest && told.what.contains(words), "{words:?} is missing in {told}");
    }
    assert!(run(json!({"users": of_postgresql}), &world()).is_ok() && run(json!({"users": of_mysql}), &other).is_ok());
}

#[test]
fn a_right_that_the_version_does_not_know_is_found_now() {
    let users = json!({"keeper": {"profile": "custom", "grants": [{"on": "tables", "privileges": ["maintain"]}]}});
    let told = run(json!({"users": users.clone()}), &world()).unwrap_err().what;
    let words = "users.keeper.grants: got maintain; takes it from engine version 17 on, not with ";
    assert!(told.contains(words), "{told}");
    let mut newer = world();
    newer.snapshots[0].engine_version = "17.4".into();
    let told = run(json!({"users": users}), &newer).map_or_else(|failure| failure.what, |_| String::new());
    assert!(!told.contains("maintain"), "{told}");
}
