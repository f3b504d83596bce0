"""The main job: an encrypted snapshot from another Region replaces a protected cluster with two instances."""

import json
from types import SimpleNamespace

import checks
import pytest
import whole

CHECK = {"name": "orders", "database": "app", "query": "SELECT count(*) > 1000 FROM sales.orders"}
VERIFY = {
    "checks": [CHECK],
    "freshness": [{"database": "app", "table": "sales.orders", "column": "created_at", "max_age_hours": 1}],
    "row_counts": [{"database": "app", "table": "customers", "min": 1000, "max": 1000}],
    "schemas": [{"database": "app"}],
}
REQUEST = {"snapshot_id": "latest", "tags": {"purpose": "refresh"}, "verify": VERIFY}


# What `staging` bears besides our tags (seed.py): who pays for it stays.
KEPT = {"team": "platform", "cost-center": "1234"}


@pytest.fixture(scope="module")
def happy(scene):
    world = scene()
    before = {region: checks.look(world, region) for region in ("us-east-1", "us-west-2")}
    run = world.run(REQUEST, name="happy-1")
    return SimpleNamespace(world=world, run=run, before=before)


def test_the_restore_succeeds_on_every_side(happy):
    """Execution, state item, audit trail, RDS calls, logins, message and lock are those of a restore that went well."""
    body = whole.check_success(happy.world, happy.run)
    assert body["recovery_time_seconds"] <= happy.run.seconds + 1 and 700 < body["recovery_point_age_seconds"] < 900
    assert body["final_snapshot_id"] == checks.final_id("happy-1") and body["snapshot"]["id"] == happy.world.seeded.snapshots["automated"]


def test_the_states_are_entered_in_this_order(happy):
    """The loops included: created instances are waited for once, the new master password once."""
    loop, at = ["CheckRestore", "IsClusterReady", "WaitForRestoreEvent"], checks.HAPPY.index("CheckRestore")
    wanted = [*checks.HAPPY[:at], *loop, *loop, *checks.HAPPY[at:]]
    assert happy.run.states == wanted
    assert happy.run.item["timings"]["check-restore"]["invocations"] == 3 and checks.retries(happy.run) == []


def test_the_audit_trail_tells_every_step(happy):
    """Events and calls in the order in which they happened, each with its outcome."""
    ok = "ok"
    checks.check_trail(
        happy.run,
        ("preflight", "Planned", None), ("copy-snapshot", "CopyDBClusterSnapshot", ok), ("delete-cluster", "ModifyDBCluster", ok),
        ("delete-cluster", "DeleteDBInstance", ok), ("delete-cluster", "DeleteDBInstance", ok), ("delete-cluster", "DeleteDBCluster", ok),
        ("restore-cluster", "RestoreDBClusterFromSnapshot", ok), ("check-restore", "CreateDBInstance", ok), ("check-restore", "CreateDBInstance", ok),
        ("check-restore", "ModifyDBCluster", ok), ("setup-db-users", "ChangeRoles", ok), ("setup-db-users", "ChangeRoles", ok),
        ("verify-restore", "Verified", None), ("archive-snapshot", "AddTagsToResource", ok), ("notify", "Closed", None), ("notify", "Publish", ok),
    )  # fmt: skip


def test_the_chain_check_finds_a_changed_record(happy):
    """The check of the chain is one that can fail: a changed, a missing and an added record are all found."""
    trail = happy.run.audit
    checks.check_chain(trail)
    changed = [dict(record) for record in trail]
    changed[3] = {**changed[3], "resource": "production"}
    for broken in (changed, trail[:4] + trail[5:], trail[:4] + [trail[3]] + trail[4:]):
        with pytest.raises(AssertionError):
            checks.check_chain(broken)


def test_the_calls_carry_what_was_asked(happy):
    """The copy has a key of its own Region, members go without snapshots of their own, the cluster with a final one."""
    world = happy.world
    copy = checks.call(world, "CopyDBClusterSnapshot")
    assert copy["KmsKeyId"] == world.seeded.keys["us-west-2"] and copy["CopyTags"] == "false"
    assert copy["SourceDBClusterSnapshotIdentifier"].endswith(f":cluster-snapshot:{world.seeded.snapshots['automated']}")
    assert checks.tags_in(copy) == {**KEPT, **checks.our_tags(world, "happy-1", "copy"), "purpose": "refresh"}
    assert checks.call(world, "ModifyDBCluster", caller="delete-cluster")["DeletionProtection"] == "false"
    deleted = checks.call(world, "DeleteDBCluster")
    assert (deleted["SkipFinalSnapshot"], deleted["FinalDBSnapshotIdentifier"]) == ("false", checks.final_id("happy-1"))
    restored = checks.call(world, "RestoreDBClusterFromSnapshot")
    assert restored["SnapshotIdentifier"] == checks.copy_id("happy-1") and "KmsKeyId" not in restored, "the copy's key stays"
    assert (restored["DBSubnetGroupName"], restored["VpcSecurityGroupIds"], restored["Port"]) == ("staging-subnets", [world.seeded.security_group], "5433")
    assert restored["DeletionProtection"] == "true" and "EngineVersion" not in restored
    instances = world.calls("rds", action="CreateDBInstance")
    assert [(call["parameters"]["DBInstanceClass"], call["parameters"]["PromotionTier"]) for call in instances] == [("db.r6g.large", "1")] * 2
    regions = {call["region"] for call in world.rds_calls()}
    assert regions == {"us-west-2"}, "nothing is ever changed in the source's Region"


def test_the_restored_cluster_is_like_the_replaced_one(happy):
    """Settings, key, protection and instances are those of the cluster that was replaced."""
    before = happy.before["us-west-2"]["cluster staging"]
    after = happy.world.cluster()
    for name in (
        "Engine", "EngineVersion", "DBSubnetGroup", "VpcSecurityGroups", "DBClusterParameterGroup", "KmsKeyId", "StorageEncrypted", "DeletionProtection",
        "CopyTagsToSnapshot", "IAMDatabaseAuthenticationEnabled", "MasterUsername", "BackupRetentionPeriod", "DBClusterMembers", "EnabledCloudwatchLogsExports",
    ):  # fmt: skip
        assert after.get(name) == before.get(name), name
    assert after["DeletionProtection"] and after["DbClusterResourceId"] != before["DbClusterResourceId"]
    for now in happy.world.instances():
        was = happy.before["us-west-2"][f"instance {now['DBInstanceIdentifier']}"]
        for name in ("DBInstanceIdentifier", "DBInstanceClass", "PromotionTier", "DBParameterGroups"):
            assert now.get(name) == was.get(name), name
        assert not now.get("PubliclyAccessible")
    remembered = happy.run.item["replaced"]
    assert remembered["settings"]["port"] == 5433 and len(remembered["instances"]) == 2 and remembered["tags"]["team"] == "platform"


def test_tags_say_whose_it_is(happy):
    """Everything made carries our tags and the request's; the cluster keeps the tags of the one it replaces."""
    world = happy.world
    assert world.tags(world.cluster()) == {**KEPT, **checks.our_tags(world, "happy-1", "cluster"), "purpose": "refresh"}
    for instance in world.instances():
        assert world.tags(instance).items() >= {**KEPT, **checks.our_tags(world, "happy-1", "instance"), "purpose": "refresh"}.items()
    snapshots = {snapshot["DBClusterSnapshotIdentifier"]: snapshot for snapshot in world.snapshots()}
    assert set(snapshots) == {checks.copy_id("happy-1"), checks.final_id("happy-1")}
    copy = snapshots[checks.copy_id("happy-1")]
    assert copy["KmsKeyId"] == world.seeded.keys["us-west-2"] and copy["SnapshotType"] == "manual"
    archived = {"aurora-restore:archived": happy.run.item["finished_at"][:10]}
    assert world.tags(copy) == {**KEPT, **checks.our_tags(world, "happy-1", "copy"), "purpose": "refresh", **archived}
    assert world.tags(snapshots[checks.final_id("happy-1")])["team"] == "platform", "the final snapshot is the old cluster's"


def test_nothing_else_was_touched(happy):
    """The source's cluster, instances and snapshots and the neighbour in the target Region are exactly as before."""
    checks.check_untouched(happy.before["us-east-1"], checks.look(happy.world, "us-east-1"))
    neighbours = [f"{kind} payments-legacy{number}" for kind, number in (("cluster", ""), ("instance", "-1"), ("instance", "-2"))]
    checks.check_untouched(happy.before["us-west-2"], checks.look(happy.world, "us-west-2"), *neighbours)


def test_the_message_stays_small(happy):
    """SNS takes 256 KiB for all protocols together; what grows with a database's schemas is not part of the message."""
    (published,) = happy.world.published()
    assert len(json.dumps(published)) < 32_000


def test_logins_need_tls(happy):
    """Without TLS nobody gets in, so that the logins above were over TLS; the server's certificate was verified."""
    import psycopg

    world, user = happy.world, happy.world.secret("app-credentials")["application_user"]
    where = {"port": world.cluster()["Port"], "user": user["username"], "password": user["password"], "dbname": "app", "connect_timeout": 5}
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(host="localhost", sslmode="disable", **where)
    with world.connect(user["username"], user["password"]) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)


def test_the_teams_own_check_ran(happy):
    """A query of the request is asked, and its answer is in state, audit trail and message."""
    (orders,) = [check for check in happy.run.item["verification"]["checks"] if check["name"] == "orders"]
    assert orders["passed"] and orders["value"] == "true"
    (event,) = [record for record in happy.run.audit if record["action"] == "aurora-restore:Verified"]
    assert event["detail"] == happy.run.item["verification"]


def test_a_schedule_needs_no_request(scene):
    """`{}` is a whole request when the environment names source and target: what is missing comes from there."""
    world = scene()
    run = world.run({})
    whole.check_success(world, run)
    asked = run.item["request"]
    assert (asked["source_region"], asked["source_cluster_id"], asked["target_region"], asked["target_cluster_id"]) == (
        "us-east-1", "production", "us-west-2", "staging",
    )  # fmt: skip
    assert asked["settings"]["kms_key_id"] == world.seeded.keys["us-west-2"] and run.input == {}
