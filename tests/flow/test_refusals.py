"""Snapshots that cannot be restored, and plans that change nothing."""

import checks
import pytest
import whole

UNTOUCHED = ("target cluster staging was not touched",)


def refuse(world, request, error, *words):
    before = {region: checks.look(world, region) for region in ("us-east-1", "us-west-2")}
    run = world.run(request)
    body = whole.check_failure(world, run, error, "Preflight", *words, left=UNTOUCHED)
    for region, things in before.items():
        checks.check_untouched(things, checks.look(world, region))
    return run, body


def test_snapshot_missing(world):
    """A snapshot that does not exist: SnapshotNotFound, naming snapshot and Region."""
    refuse(world, {"snapshot_id": "production-gone"}, "SnapshotNotFound", "snapshot production-gone does not exist in us-east-1", "check snapshot_id")


@pytest.mark.seed(source_snapshots=False)
def test_no_snapshot_at_all(world):
    """`latest` of a cluster without snapshots: SnapshotNotFound, naming cluster and Region."""
    refuse(world, {}, "SnapshotNotFound", "cluster production has no snapshot in us-east-1")


def test_no_snapshot_of_that_day(world):
    """`snapshot_date` picks a day; without a snapshot of that day nothing else is taken instead."""
    refuse(world, {"snapshot_date": "2020-02-29"}, "SnapshotNotFound", "has no snapshot of 2020-02-29 (UTC)")


def test_snapshot_not_available(world):
    """A snapshot that is still being made: another error, with its status and percentage."""
    world.stack.rds(region="us-east-1", snapshot_id="production-weekly", status="creating", percent_progress=40)
    refuse(world, {"snapshot_id": "production-weekly"}, "ResourceConflict", "production-weekly exists but is creating, 40 %, not available")


def test_snapshot_hidden(world):
    """Missing rights in the source Region are not taken for a missing snapshot: a third error, naming right and Region."""
    world.stack.fault(
        service="rds", action="DescribeDBClusterSnapshots", region="us-east-1", caller="preflight", code="AccessDenied", status=403, message="User is not authorized"
    )
    refuse(world, {}, "AccessDenied", "rds:DescribeDBClusterSnapshots", "User is not authorized", "allow rds:DescribeDBClusterSnapshots", "us-east-1")


def test_key_disabled(world):
    """A key that cannot be used is found before anything is made."""
    world.stack.client("kms").disable_key(KeyId=world.seeded.keys["us-west-2"].rpartition("/")[2])
    refuse(world, {}, "KmsKeyUnusable", "is Disabled, not Enabled", "enable the key")


def disable_key(world):
    world.stack.client("kms").disable_key(KeyId=world.seeded.keys["us-west-2"].rpartition("/")[2])


def delete_security_group(world):
    world.stack.client("ec2").delete_security_group(GroupId=world.seeded.security_group)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (disable_key, "KmsKeyUnusable", ("is Disabled, not Enabled", "enable the key")),
        (delete_security_group, "RefusedUnsafe", ("refused to delete the target: vpc_security_group_ids: got sg-", "exist in us-west-2")),
    ],
)
def test_the_world_moves_during_the_copy(world, change, error, words):
    """What preflight saw is looked at again before anything is taken away: a cluster that could not be put back stays as it is."""
    before = checks.look(world, "us-west-2")
    world.stack.rds(pace={"copy": 4})
    arn = world.start({}, name="moved-1")
    checks.wait_for(lambda: world.calls("rds", action="CopyDBClusterSnapshot"))
    change(world)
    run = world.wait(arn)
    left = (*UNTOUCHED, f"snapshot copy {checks.copy_id('moved-1')} (available)")
    whole.check_failure(world, run, error, "DeleteCluster", *words, calls=checks.calls_of_a_restore("moved-1")[:1], left=left)
    checks.check_untouched(before, checks.look(world, "us-west-2"), *[name for name in before if "staging" in name])


def test_plan_only_changes_nothing(world):
    """`plan_only` tells in full what would happen: no mutating call in RDS, one message, state and audit as the only writes, no lock."""
    before = {region: checks.look(world, region) for region in ("us-east-1", "us-west-2")}
    run = world.run({"plan_only": True}, name="plan-1")
    states = checks.WALKED["PlanOnly"]
    checks.check_execution(run, states)
    checks.check_item(world, run, "planned", states)
    checks.check_audit(world)
    checks.check_trail(run, ("notify", "Closed", None), ("notify", "Publish", "ok"))
    written = {(call["service"], call["action"]) for call in world.calls(mutating=True) if call["service"] != "lambda"}
    assert written <= {("dynamodb", "PutItem"), ("dynamodb", "UpdateItem"), ("dynamodb", "TransactWriteItems"), ("sns", "Publish"), ("states", "StartExecution")}, written
    for region, things in before.items():
        checks.check_untouched(things, checks.look(world, region))
    assert world.locks() == [], "a plan takes no lock"
    summary = run.item["plan"]["summary"]
    for line, word in zip(summary, (checks.copy_id("plan-1"), checks.final_id("plan-1"), "staging-1 (db.r6g.large), staging-2", "users", "newest 7"), strict=True):
        assert word in line
    body = checks.check_message(world, run.item, "PLANNED", "Plan for cluster staging; nothing was changed.", "It would:", *(f"  - {line}" for line in summary))
    assert body["plan"] == summary and body["users"] is None


def test_a_plan_names_what_stands_against_it(world):
    """`plan_only` refuses what a restore would refuse, so that a plan can be trusted."""
    run = world.run({"plan_only": True, "target_cluster_id": "payments-legacy"})
    whole.check_failure(world, run, "RefusedUnsafe", "Preflight", "not tagged", target="payments-legacy")
