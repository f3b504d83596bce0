use super::*;
use serde_json::json;

fn defaults() -> Defaults {
    Defaults {
        source_region: Some("us-east-1".into()),
        source_cluster_id: Some("production".into()),
        target_region: Some("us-west-2".into()),
        target_cluster_id: Some("staging".into()),
        kms_key_id: Some("alias/aurora-restore-secrets".into()),
        masking_folder: None,
    }
}

fn refused(input: serde_json::Value) -> String {
    let problems = parse(&input, &defaults()).expect_err("should be refused");
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_empty_request_takes_everything_from_the_environment() {
    let request = parse(&json!({}), &defaults()).unwrap();
    assert_eq!(request.source_cluster_id.as_str(), "production");
    assert_eq!(request.snapshot, SnapshotSelector::Latest { date: None });
    assert_eq!(request.retention, Retention { copies: 7, days: 0 });
    assert!(request.archive_snapshot && !request.skip_final_snapshot && !request.plan_only);
    assert!(!request.settings.kms_key_is_explicit);
}

#[test]
fn a_swap_has_a_grace_period_that_is_an_hour_unless_it_says_so() {
    let of = |input| parse(&input, &defaults()).unwrap();
    assert_eq!(of(json!({})).swap, None);
    assert_eq!(of(json!({"replacement": "delete_first"})).replacement(), Replacement::DeleteFirst);
    assert_eq!(
        of(json!({"replacement": "swap"})).swap,
        Some(Swap { grace_period_minutes: 60, answer_within_minutes: 30 })
    );
    let short = of(json!({"replacement": "swap", "swap": {"grace_period_minutes": 5}}));
    assert_eq!((short.replacement(), short.swap.unwrap().grace_seconds()), (Replacement::Swap, 300));
    // An item of an earlier version.
    let mut old = serde_json::to_value(of(json!({}))).unwrap();
    old.as_object_mut().unwrap().remove("swap");
    assert_eq!(serde_json::from_value::<Request>(old).unwrap(), of(json!({})));
    assert!(!of(json!({})).has_the_plan_of(&short), "it belongs to the plan");
}

#[test]
fn an_empty_environment_is_told_what_is_missing() {
    let problems = parse(&json!({}), &Defaults::default()).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["source_region", "source_cluster_id", "target_region", "target_cluster_id"]);
    assert!(problems[3].to_string().contains("TARGET_CLUSTER_ID"));
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = refused(json!({"source_region": "us-east-9", "port": "x", "tags": {"aws:a": "b"}}));
    for field in ["source_region: got 'us-east-9'", "port: got \"x\"", "tags: got aws:a"] {
        assert!(text.contains(field), "{field} in\n{text}");
    }
}

/// The list of bad input, each with the words that a person needs to see.
#[test]
fn wrong_fields_are_named_with_value_and_what_is_accepted() {
    for (input, wanted) in [
        (json!({"target_cluster": "x"}), vec!["target_cluster", "no such field"]),
        (json!({"targetClusterId": "x"}), vec!["targetClusterId", "did you mean 'target_cluster_id'"]),
        (json!({"plan_only": "yes"}), vec!["plan_only", "\"yes\"", "true or false"]),
        (json!({"target_cluster_id": "a".repeat(61)}), vec!["target_cluster_id", "at most 60"]),
        (json!({"target_cluster_id": "a".repeat(64)}), vec!["target_cluster_id", "64 characters long"]),
        (json!({"target_cluster_id": "rds:staging"}), vec!["target_cluster_id", "automated snapshots"]),
        (json!({"target_cluster_id": "a--b"}), vec!["target_cluster_id", "two hyphens"]),
        (
            json!({"enable_iam_database_authentication": false, "users": {"devops_user": {"login": "iam"}, "readonly_user": {}}}),
            vec![
                "enable_iam_database_authentication: got false; takes true, or nothing, where users log in with tokens (devops_user)",
            ],
        ),
        (json!({"source_region": "mars-1"}), vec!["source_region", "mars-1", "not a Region"]),
        (
            json!({"source_region": "us-west-2", "source_cluster_id": "Staging"}),
            vec!["target_cluster_id", "other than the source"],
        ),
        (json!({"target_region": "eu-west-1"}), vec!["target_region", "us-west-2"]),
        (
            json!({"kms_key_id": "arn:aws:kms:us-east-1:1:key/k"}),
            vec!["kms_key_id", "target Region us-west-2", "us-east-1"],
        ),
        (json!({"retention": {"copies": -1}}), vec!["retention.copies", "-1", "from 1 to"]),
        (json!({"retention": {"copies": 0}}), vec!["retention.copies", "0", "from 1 to"]),
        (json!({"snapshot_date": "2026-02-30"}), vec!["snapshot_date", "2026-02-30", "day that exists"]),
        (json!({"snapshot_id": "a_b"}), vec!["snapshot_id", "a_b", "'latest'"]),
        (json!({"snapshot_id": "snap", "snapshot_date": "2026-02-03"}), vec!["snapshot_date", "names a snapshot"]),
        (json!({"snapshot_id": "arn:aws:rds:eu-west-1:1:cluster-snapshot:s"}), vec!["snapshot_id", "in source_region"]),
        (json!({"serverless_v2": {"min_acu": 4, "max_acu": 2}}), vec!["serverless_v2.min_acu", "at most max_acu (2)"]),
        (json!({"serverless_v2": {"min_acu": 0.3}}), vec!["serverless_v2.min_acu", "serverless_v2.max_acu"]),
        (
            json!({"instances": [{"db_instance_class": "r6g.large"}]}),
            vec!["instances[0].db_instance_class", "r6g.large"],
        ),
        (json!({"instances": []}), vec!["instances", "1 to 15"]),
        (json!({"instance_count": 2}), vec!["instance_count", "db_instance_class"]),
        (json!({"port": 80}), vec!["port", "80", "1150"]),
        (json!({"replacement": "rename"}), vec!["replacement", "rename", "'delete_first' or 'swap'"]),
        (json!({"swap": {"grace_period_minutes": 5}}), vec!["swap", "\"replacement\": \"swap\""]),
        (
            json!({"replacement": "swap", "swap": {"grace_period_minutes": 1441}}),
            vec!["swap.grace_period_minutes", "0 to 1440"],
        ),
        (
            json!({"replacement": "swap", "swap": {"answer_within_minutes": 0}}),
            vec!["swap.answer_within_minutes", "1 to 120"],
        ),
        (json!({"replacement": "swap", "swap": {"grace": 1}}), vec!["swap.grace", "grace_period_minutes"]),
        (json!({"replacement": "swap", "target_cluster_id": "a".repeat(46)}), vec!["target_cluster_id", "at most 45"]),
        (json!({"replace_unmanaged": "other"}), vec!["replace_unmanaged", "'staging'"]),
        (json!({"vpc_security_group_ids": ["vpc-1"]}), vec!["vpc_security_group_ids[0]", "vpc-1", "sg-"]),
        (json!({"tags": {"aurora-restore:managed": "false"}}), vec!["tags", "aurora-restore:"]),
        (json!({"verify": {"checks": [{"name": "x"}]}}), vec!["verify.checks[0].query"]),
        (
            json!({"verify": {"freshness": [{"table": "t"}], "row_counts": [{"min": 3, "max": 2}], "schemas": [{"sha256": "x"}]}}),
            vec![
                "verify.freshness[0].column",
                "verify.freshness[0].max_age_hours",
                "verify.row_counts[0].min",
                "verify.row_counts[0].table",
                "verify.schemas[0].sha256",
            ],
        ),
        (json!({"verify": {"row_counts": [{"table": "t"}]}}), vec!["verify.row_counts[0].min"]),
        (json!({"inherited_logins": "ignore"}), vec!["inherited_logins", "'lock'"]),
        (json!({"operation_id": "a b"}), vec!["operation_id", "a b"]),
        (json!([1]), vec!["the request", "[1]", "JSON object"]),
    ] {
        let text = refused(input.clone());
        for words in wanted {
            assert!(text.contains(words), "{input}: {words:?} is missing in\n{text}");
        }
    }
}

#[test]
fn instances_by_class_and_count() {
    let request = parse(&json!({"db_instance_class": "db.r6g.large", "instance_count": 3}), &defaults()).unwrap();
    let instances = request.settings.instances.unwrap();
    assert_eq!(instances.len(), 3);
    assert_eq!(instances[2].db_instance_class, "db.r6g.large");
}

#[test]
fn a_request_survives_the_state_table() {
    let request = parse(
        &json!({"serverless_v2": {"min_acu": 0.5, "max_acu": 8}, "tags": {"team": "a"}, "users": users()}),
        &defaults(),
    )
    .unwrap();
    let stored = serde_json::to_value(&request).unwrap();
    assert_eq!(serde_json::from_value::<Request>(stored).unwrap(), request);
}

fn users() -> serde_json::Value {
    json!({
        "reporting": {"profile": "read-only", "databases": ["app"]},
        "loader": {"profile": "custom", "grants": [{"on": "tables", "schemas": ["staging"], "privileges": ["insert"]}]},
    })
}

#[test]
fn what_comes_after_the_restore_may_be_mended_between_two_tries() {
    let of = |input: serde_json::Value| {
        parse(&input, &Defaults { masking_folder: Some("/x".into()), ..defaults() }).unwrap()
    };
    let first = of(json!({}));
    for mended in [
        json!({"users": users()}),
        json!({"verify": {"row_counts": [{"table": "t", "min": 1}]}, "inherited_logins": "keep", "keep_logins": ["a"]}),
        json!({"retention": {"copies": 2}, "archive_snapshot": false}),
    ] {
        assert!(first.has_the_plan_of(&of(mended.clone())) && of(mended.clone()).has_the_plan_of(&first), "{mended}");
    }
    for other in [json!({"masking": {"scripts": "file:a"}}), json!({"port": 5433})] {
        assert!(!first.has_the_plan_of(&of(other.clone())), "{other}");
    }
}

#[test]
fn what_may_change_between_two_tries() {
    let of = |input: serde_json::Value| parse(&input, &defaults()).unwrap();
    let plain = of(json!({}));
    for mended in [
        json!({ "keep_logins": ["monitoring"] }),
        json!({ "inherited_logins": "report" }),
        json!({ "users": { "application_user": { "databases": ["app"] } } }),
        json!({ "retention": { "copies": 2 }, "archive_snapshot": false }),
        json!({ "verify": { "schemas": [{ "database": "app" }] } }),
    ] {
        assert!(plain.has_the_plan_of(&of(mended.clone())), "{mended}");
    }
    let masking = json!({ "scripts": "s3://bucket/masks/" });
    let masked = of(json!({ "masking": masking }));
    for another in [
        json!({}),
        json!({ "masking": { "scripts": "s3://bucket/others/" } }),
        // Who stays able to log in would see what is to be masked.
        json!({ "masking": masking, "keep_logins": ["monitoring"] }),
        json!({ "masking": masking, "inherited_logins": "keep" }),
    ] {
        assert!(!masked.has_the_plan_of(&of(another.clone())), "{another}");
    }
    assert!(masked.has_the_plan_of(&of(json!({ "masking": masking, "archive_snapshot": false }))));
    assert!(!plain.has_the_plan_of(&of(json!({ "manage_master_user_password": true }))));
}
