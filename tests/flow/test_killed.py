"""The plug pulled: every function's process ended with SIGKILL in the middle of a call, again and again."""

import collections

import checks
import whole
from functions import FUNCTIONS

OPERATION = "night-5"


def was_copied(world):
    return checks.copy_id(OPERATION) in {snapshot["DBClusterSnapshotIdentifier"] for snapshot in world.snapshots()}


def lost_a_reader(world):
    return "staging-2" not in {instance["DBInstanceIdentifier"] for instance in world.instances()}


def is_restored(world):
    return world.tags(world.cluster() or {}).get("aurora-restore:operation") == OPERATION


def has_an_instance(world):
    return is_restored(world) and world.instances() != []


def changes_roles(world):
    return any(record["action"] == "database:ChangeRoles" for record in world.audit(OPERATION))


# The call in whose middle the plug is pulled, and what shows that it has had its effect. Its answer comes late, so that nobody reads it.
POINTS = [
    ({"service": "rds", "action": "CopyDBClusterSnapshot"}, was_copied),
    ({"service": "rds", "action": "DeleteDBInstance"}, lost_a_reader),
    ({"service": "rds", "action": "RestoreDBClusterFromSnapshot"}, is_restored),
    ({"service": "rds", "action": "CreateDBInstance"}, has_an_instance),
    ({"service": "dynamodb", "action": "TransactWriteItems", "caller": "setup-db-users"}, changes_roles),
]


def begun_and_finished(records):
    """How often each call was begun, and how the trail says that it ended."""
    begun = collections.Counter((r["action"], r["resource"]) for r in records if r["phase"] == "begun")
    ends = collections.defaultdict(list)
    for record in records:
        if record["phase"] == "finished":
            ends[(record["action"], record["resource"])].append(record["outcome"])
    assert {key: len(outcomes) for key, outcomes in ends.items()} == begun, "every begun call has one end"
    return begun, ends


def test_the_plug_pulled_five_times(world):
    """At five points all processes are killed and the execution stopped; each time the same operation is started again, and in the end all is
    as if nothing had been: nothing made twice, nothing lost, one message."""
    stopped = []
    for number, (call, has_happened) in enumerate(POINTS, 1):
        world.stack.fault(**call, delay=2.5)
        arn = world.start({"operation_id": OPERATION}, name=f"plug-{number}")
        checks.wait_for(lambda: has_happened(world))
        world.stack.client("stepfunctions").stop_execution(executionArn=arn)
        for step in FUNCTIONS:
            world.stack.kill_function(step)
        # The emulator may tell the function's death as the end of an execution that is being stopped; AWS says ABORTED.
        assert world.wait(arn).status in ("ABORTED", "FAILED")
        stopped.append(arn)
        world.stack.forget_faults()
    run = world.run({"operation_id": OPERATION}, name="plug-last")

    checks.check_execution(run, checks.HAPPY)
    whole.check_restored_item(world, run, "staging", True, True, [], None)
    assert [former["execution_arn"] for former in run.item["former"]] == stopped
    # The password is set anew by every execution, since the secret may have changed meanwhile.
    once = collections.Counter(checks.made(world))
    reset = ("check-restore", "ModifyDBCluster", "staging")
    assert once.pop(reset) <= 3 and set(once) | {reset} == set(checks.calls_of_a_restore(OPERATION))
    assert set(once.values()) == {1}, "no other call of RDS was made twice"
    checks.check_chain(run.audit)
    begun, ends = begun_and_finished(run.audit)
    cut_short = [key for key, outcomes in ends.items() if "unknown" in outcomes]
    assert [action for action, _ in cut_short] == [
        "rds:CopyDBClusterSnapshot", "rds:DeleteDBInstance", "rds:RestoreDBClusterFromSnapshot", "rds:CreateDBInstance", "database:ChangeRoles",
    ]  # fmt: skip
    assert all(begun[key] == 1 for key in cut_short if key[0].startswith("rds:")), "the next execution looked, and found it done"
    checks.check_logins(world)
    checks.check_roles(world)
    checks.check_lock_free(world)
    assert [lock["fence"] for lock in world.locks()] == [len(POINTS) + 1]
    checks.check_message(world, run.item, "SUCCEEDED")


def test_functions_killed_five_times_in_one_execution(world):
    """The same five points, and only the function at work is killed: Step Functions repeats it, and the execution goes on to its end."""
    killed = ["copy-snapshot", "delete-cluster", "restore-cluster", "check-restore", "setup-db-users"]
    for call, _ in POINTS:
        world.stack.fault(**call, delay=2.5)
    arn = world.start({"operation_id": OPERATION}, name="killed-5")
    for step, (_, has_happened) in zip(killed, POINTS, strict=True):
        checks.wait_for(lambda: has_happened(world))
        world.stack.kill_function(step)
    run = world.wait(arn)
    checks.check_execution(run, checks.HAPPY)
    assert checks.retries(run) == ["Runtime.ExitError"] * len(POINTS)
    assert sorted(checks.made(world)) == sorted(checks.calls_of_a_restore(OPERATION)), "each once"
    checks.check_chain(run.audit)
    begun_and_finished(run.audit)
    whole.check_restored_item(world, run, "staging", True, True, [], None)
    checks.check_message(world, run.item, "SUCCEEDED")
    checks.check_lock_free(world)
