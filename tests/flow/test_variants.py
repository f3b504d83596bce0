"""Restores that differ from the usual one: again, same Region, unencrypted, without a target, with a target that is not ours."""

import checks
import pytest
import whole


def test_the_next_night_replaces_the_last(world):
    """A second run over the first: the same target once more, one more copy, and retention removes the older copy and nothing else."""
    first = world.run({}, name="night-1")
    assert first.status == "SUCCEEDED", first.cause
    foreign = {"DBClusterSnapshotIdentifier": "by-hand", "DBClusterIdentifier": "payments-legacy"}
    world.stack.client("rds").create_db_cluster_snapshot(**foreign)
    world.messages()
    before = {region: checks.look(world, region) for region in ("us-east-1", "us-west-2")}
    users, roles = world.secret("app-credentials"), world.roles()
    done = len(world.rds_calls())

    second = world.run({"retention": {"copies": 1}}, name="night-2")
    checks.check_execution(second, checks.WALKED["SecondRun"])
    checks.check_item(world, second, "succeeded", checks.HAPPY)
    old, new = checks.copy_id("night-1"), checks.copy_id("night-2")
    whole.check_restored_item(world, second, "staging", True, True, [old], [new])
    assert checks.made(world, done) == checks.calls_of_a_restore("night-2", removed=[old])
    checks.check_audit(world)
    checks.check_lock_free(world)
    assert [lock["fence"] for lock in world.locks()] == [2], "every owner has a number of its own"
    (message,) = world.messages()
    checks.check_told(message, world.published()[-1], second.item, "SUCCEEDED", f"Copies       1 kept, removed: {old}")

    after = checks.look(world, "us-west-2")
    checks.check_untouched(before["us-east-1"], checks.look(world, "us-east-1"))
    assert set(before["us-west-2"]) - set(after) == {f"snapshot {old}"}
    assert set(after) - set(before["us-west-2"]) == {f"snapshot {new}", f"snapshot {checks.final_id('night-2')}"}
    stay = [name for name in before["us-west-2"] if "payments" in name or name in ("snapshot by-hand", f"snapshot {checks.final_id('night-1')}")]
    checks.check_untouched(before["us-west-2"], after, *stay)
    assert before["us-west-2"]["cluster staging"]["DbClusterResourceId"] != after["cluster staging"]["DbClusterResourceId"]
    assert after["cluster staging"]["DeletionProtection"]
    assert users == world.secret("app-credentials")
    checks.check_logins(world)
    assert world.roles() == roles, "the same roles as after the first night"


@pytest.mark.seed(same_region=True)
def test_within_one_region_nothing_is_copied(world):
    """Source and target in one Region: the snapshot is restored where it is, never copied, tagged or removed."""
    before = checks.look(world, "us-west-2")
    run = world.run({"source_region": "us-west-2", "retention": {"copies": 1}})
    body = whole.check_success(world, run, copy=False)
    assert [run.item["timings"][step]["outcome"] for step in ("copy-snapshot", "check-copy", "archive-snapshot")] == ["skipped"] * 3
    snapshot = world.seeded.snapshots["automated"]
    restored = checks.call(world, "RestoreDBClusterFromSnapshot")
    assert restored["SnapshotIdentifier"] == snapshot and body["snapshot"]["id"] == snapshot and body["archive"] is None
    after = checks.look(world, "us-west-2")
    checks.check_untouched(before, after, *[name for name in before if "production" in name or "payments" in name])
    assert set(after) - set(before) == {f"snapshot {checks.final_id(run.operation_id)}"}


@pytest.mark.seed(unencrypted=True)
def test_an_unencrypted_source_is_copied_without_a_key(world):
    """The environment names a key, but an unencrypted snapshot takes none; the restored cluster is encrypted as its predecessor
    was, and keeps its parameter group."""
    rds = world.stack.client("rds")
    rds.create_db_cluster_parameter_group(DBClusterParameterGroupName="ours", DBParameterGroupFamily="aurora-postgresql15", Description="x")
    rds.modify_db_cluster(DBClusterIdentifier="staging", DBClusterParameterGroupName="ours")
    run = world.run({})
    whole.check_success(world, run)
    assert checks.way(run) == checks.WALKED["Unencrypted"]
    assert "KmsKeyId" not in checks.call(world, "CopyDBClusterSnapshot") and "kms_key_id" not in run.item["plan"]["copy"]["copy"]
    assert not {s["DBClusterSnapshotIdentifier"]: s for s in world.snapshots()}[checks.copy_id(run.operation_id)]["StorageEncrypted"]
    cluster, key = world.cluster(), world.seeded.keys["us-west-2"]
    restored = checks.call(world, "RestoreDBClusterFromSnapshot")
    assert (restored["KmsKeyId"], restored["DBClusterParameterGroupName"]) == (key, "ours")
    assert (cluster["StorageEncrypted"], cluster["KmsKeyId"]) == (True, key)


@pytest.mark.seed(existing_target=False)
def test_without_a_target_the_request_says_everything(world):
    """Nothing to replace: settings come from the request, protection is on unless declined, the deletion is skipped."""
    world.stack.client("rds").create_db_cluster_parameter_group(
        DBClusterParameterGroupName="ours", DBParameterGroupFamily="aurora-postgresql15", Description="x"
    )
    request = {
        "snapshot_id": world.seeded.snapshots["newer"], "db_subnet_group_name": "staging-subnets", "vpc_security_group_ids": [world.seeded.security_group],
        "port": 5439, "db_cluster_parameter_group_name": "ours", "enable_iam_database_authentication": True, "serverless_v2": {"min_acu": 0.5, "max_acu": 4},
        "instances": [
            {"db_instance_class": "db.r6g.xlarge", "promotion_tier": 0}, {"db_instance_class": "db.serverless"},
            {"db_instance_class": "db.r6g.large", "promotion_tier": 15},
        ],
    }  # fmt: skip
    run = world.run(request)
    body = whole.check_success(world, run, replaced=(), instances=3)
    assert run.item["timings"]["delete-cluster"]["outcome"] == "skipped" and body["final_snapshot_id"] is None
    restored = checks.call(world, "RestoreDBClusterFromSnapshot")
    assert (restored["Port"], restored["DBClusterParameterGroupName"], restored["EnableIAMDatabaseAuthentication"]) == ("5439", "ours", "true")
    assert {name: float(value) for name, value in restored["ServerlessV2ScalingConfiguration"].items()} == {"MinCapacity": 0.5, "MaxCapacity": 4}
    assert restored["DeletionProtection"] == "true" and world.cluster()["DeletionProtection"]
    made = [call["parameters"] for call in world.calls("rds", action="CreateDBInstance")]
    assert [(one["DBInstanceClass"], one.get("PromotionTier")) for one in made] == [("db.r6g.xlarge", "0"), ("db.serverless", None), ("db.r6g.large", "15")]
    assert body["snapshot"]["id"] == "production-weekly"
    assert "no cluster staging exists, so none is deleted" in run.item["plan"]["summary"]


def test_a_target_that_is_not_ours_is_refused(world):
    """A cluster without our tag is refused before anything is made: protection on, members there, no copy."""
    before = {region: checks.look(world, region) for region in ("us-east-1", "us-west-2")}
    run = world.run({"target_cluster_id": "payments-legacy"})
    words = ("payments-legacy is not tagged aurora-restore:managed=true", "nothing was touched", '"replace_unmanaged": "payments-legacy"')
    whole.check_failure(world, run, "RefusedUnsafe", "Preflight", *words, target="payments-legacy")
    assert checks.way(run) == checks.WALKED["NotOurs"]
    checks.check_trail(run, ("notify", "Closed", None), ("notify", "Publish", "ok"))
    for region, things in before.items():
        checks.check_untouched(things, checks.look(world, region))
    assert world.cluster("payments-legacy")["DeletionProtection"]


def test_a_target_that_is_not_ours_is_replaced_when_named_twice(world):
    """With `replace_unmanaged` repeating its id it is replaced like any other, and is ours from then on."""
    before = checks.look(world, "us-west-2")
    run = world.run({"target_cluster_id": "payments-legacy", "replace_unmanaged": "payments-legacy"})
    whole.check_success(world, run, "payments-legacy", replaced=("payments-legacy-2", "payments-legacy-1"))
    assert world.tags(world.cluster("payments-legacy"))["aurora-restore:managed"] == "true"
    staging = [name for name in before if "staging" in name]
    assert len(staging) == 3
    checks.check_untouched(before, checks.look(world, "us-west-2"), *staging)


def test_a_member_of_a_global_cluster_is_refused(world):
    """Ours by tag, but the cluster serves a global one: refused, and nothing was touched."""
    world.stack.client("rds").create_global_cluster(GlobalClusterIdentifier="world", SourceDBClusterIdentifier=world.cluster()["DBClusterArn"])
    before = checks.look(world, "us-west-2")
    run = world.run({})
    whole.check_failure(world, run, "RefusedUnsafe", "Preflight", "member of the global cluster world", left=("target cluster staging was not touched",))
    checks.check_untouched(before, checks.look(world, "us-west-2"))


@pytest.mark.parametrize("alias", ["alias/aurora-restore-secrets", "alias/other-key"])
def test_rds_makes_the_master_password(world, alias):
    """`manage_master_user_password`: RDS's secret under the named key, the stack's or another; ours is not read, and may be missing."""
    if alias == "alias/other-key":
        kms = world.stack.client("kms")
        kms.create_alias(AliasName=alias, TargetKeyId=kms.create_key(Description="another team's")["KeyMetadata"]["KeyId"])
    world.stack.client("secretsmanager").delete_secret(SecretId="aurora-restore/dev/master-credentials", ForceDeleteWithoutRecovery=True)
    run = world.run({"manage_master_user_password": True, "master_user_secret_kms_key_id": alias})
    checks.check_execution(run, checks.HAPPY)
    checks.check_audit(world)
    managed = world.cluster()["MasterUserSecret"]
    assert run.item["cluster"]["master_user_secret_arn"] == managed["SecretArn"] and managed["SecretStatus"] == "active"
    assert len([c for c in world.rds_calls() if "ManageMasterUserPassword" in c["parameters"]]) == 1
    (modify,) = [r["detail"] for r in run.audit if r["phase"] == "begun" and "manage_master_user_password" in str(r.get("detail"))]
    assert modify == {"manage_master_user_password": True, "master_user_secret_kms_key_id": alias}
    assert not [c for c in world.rds_calls() if "MasterUserPassword" in c["parameters"]]
    checks.check_logins(world)
    password = world.master_secret()["password"]
    for text in (run.history_text, str(run.item), str(run.audit), str(world.published()), world.logs()):
        assert password not in text


def test_a_key_for_rds_secret_that_is_not_there(world):
    """Found out before the old cluster is gone."""
    run = world.run({"manage_master_user_password": True, "master_user_secret_kms_key_id": "alias/none"})
    words = ("master_user_secret_kms_key_id: got 'alias/none'; takes a key or alias that exists in us-west-2",)
    whole.check_failure(world, run, "InvalidRequest", "Preflight", *words, left=("target cluster staging was not touched",))


def test_the_final_snapshot_is_declined_in_words(world):
    """`skip_final_snapshot` deletes without one; protection can be declined too, and archiving switched off."""
    run = world.run({"skip_final_snapshot": True, "deletion_protection": False, "archive_snapshot": False})
    checks.check_execution(run, checks.WALKED["NoFinalSnapshot"])
    assert checks.made(world) == checks.calls_of_a_restore(run.operation_id, archive=False)
    checks.check_audit(world)
    deleted = checks.call(world, "DeleteDBCluster")
    assert deleted["SkipFinalSnapshot"] == "true" and "FinalDBSnapshotIdentifier" not in deleted
    assert [s["DBClusterSnapshotIdentifier"] for s in world.snapshots()] == [checks.copy_id(run.operation_id)]
    assert "aurora-restore:archived" not in world.tags(world.snapshots()[0]) and not world.cluster()["DeletionProtection"]
    checks.check_message(world, run.item, "SUCCEEDED", "Replaced     the former cluster; final snapshot none")
    checks.check_lock_free(world)
