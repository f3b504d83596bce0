"""Several executions at once."""

import checks
import pytest
import whole


def test_two_restores_of_one_target(world):
    """One works, the other is told that the target is locked, has touched nothing and released nothing."""
    arns = [world.start({}, name=f"both-{number}") for number in (1, 2)]
    runs = sorted((world.wait(arn) for arn in arns), key=lambda run: run.status)
    refused, worked = runs
    assert (refused.status, worked.status) == ("FAILED", "SUCCEEDED"), [run.cause for run in runs]
    checks.check_execution(refused, checks.WALKED["two at once: run-1b"], "TargetLocked")
    checks.check_error(refused, "TargetLocked", "preflight", f"operation {worked.operation_id}", "nothing was touched", "wait for it to end")
    checks.check_item(world, refused, "failed", ["Preflight", "NotifyFailure"])
    checks.check_execution(worked, checks.WALKED["two at once: run-1"])
    checks.check_item(world, worked, "succeeded", checks.HAPPY)
    whole.check_restored_item(world, worked, "staging", True, True, [], None)
    assert checks.made(world) == checks.calls_of_a_restore(worked.operation_id)
    checks.check_audit(world)
    checks.check_logins(world)
    checks.check_lock_free(world)
    told = {message["body"]["operation_id"]: message["attributes"]["status"] for message in world.messages()}
    assert told == {refused.operation_id: "FAILED", worked.operation_id: "SUCCEEDED"} and len(world.published()) == 2


def test_one_operation_started_twice(world):
    """The second start under a running operation_id is refused; the running one is not disturbed."""
    request = {"operation_id": "night-9"}
    # So that the second one is refused, and told of, while the first one is in the middle of a call.
    world.stack.fault(service="rds", action="CopyDBClusterSnapshot", delay=3)
    first = world.start(request, name="first")
    wait_until_planned(world, "night-9")
    second = world.run(request, name="second")
    checks.check_execution(second, checks.way_until("Preflight"), "TargetLocked")
    assert f"operation night-9 is already driven by {first}" in second.message
    assert world.item_of(second.arn) is None, "the operation stays the first execution's"
    run = world.wait(first)
    checks.check_execution(run, checks.HAPPY)
    checks.check_item(world, run, "succeeded", checks.HAPPY)
    whole.check_restored_item(world, run, "staging", True, True, [], None)
    assert checks.made(world) == checks.calls_of_a_restore("night-9")
    checks.check_audit(world)
    checks.check_lock_free(world)
    messages = world.messages()
    assert [message["attributes"]["status"] for message in messages] == ["FAILED", "SUCCEEDED"]
    assert [message["body"]["execution_arn"] for message in messages] == [second.arn, first]


def wait_until_planned(world, operation_id):
    checks.wait_for(lambda: (world.state_item(operation_id) or {}).get("plan"))


def test_a_stopped_execution_does_not_hold_its_lock(world):
    """The lock of an execution that was stopped is taken over by the next one, which says so in its trail."""
    world.stack.rds(pace={"copy": 60})
    arn = world.start({}, name="stopped-1")
    wait_until_planned(world, "stopped-1")
    stopped = world.stop(arn)
    assert stopped.status == "ABORTED", stopped.cause
    world.stack.rds(pace={"copy": 0})
    run = world.run({}, name="next-1")
    assert run.status == "SUCCEEDED", run.cause
    (taken,) = [record for record in run.audit if record["action"] == "aurora-restore:LockTakenOver"]
    assert taken["detail"]["former"]["owner"] == "stopped-1" and taken["detail"]["former"]["owner_execution_arn"] == arn
    assert taken["detail"]["fence"] == 2 and [lock["fence"] for lock in world.locks()] == [2]
    stopped = world.state_item("stopped-1")
    assert (stopped["status"], stopped["error"]["name"]) == ("aborted", "Aborted") and "next-1" in stopped["error"]["message"]
    checks.check_lock_free(world)


@pytest.mark.parametrize("step", ["copy-snapshot", "delete-cluster", "restore-cluster", "archive-snapshot"])
def test_a_step_without_its_lock_does_nothing(world, step):
    """A step invoked for an operation that never got a lock, is over or is unknown refuses and changes nothing."""
    planned = world.run({"plan_only": True}, name="only-planned")
    assert planned.status == "SUCCEEDED"
    for operation_id, name in (("only-planned", "ResourceConflict"), ("nobody", "InvalidRequest")):
        answer, error = world.invoke(step, {"operation_id": operation_id})
        assert answer is None and error["errorType"] == name and "nothing was touched" in error["errorMessage"], error
    assert world.rds_calls() == []
