"""Things that go wrong on the way: retried where that helps, told where it does not, and never made twice."""

import json

import checks
import pytest
import whole


def told_left(operation_id, cluster):
    return (
        f"the former cluster staging was deleted; its final snapshot is {checks.final_id(operation_id)}",
        f"snapshot copy {checks.copy_id(operation_id)} (available)",
        *([f"restored cluster staging ({cluster})"] if cluster else []),
    )


def test_a_step_that_is_throttled_is_retried_by_the_machine(world):
    """A look fails in all of the SDK's own attempts, a call in its only one: Step Functions repeats the step, each call takes effect once."""
    world.stack.fault(service="rds", action="CopyDBClusterSnapshot", code="Throttling", message="Rate exceeded")
    world.stack.fault(service="rds", action="DescribeDBClusters", caller="restore-cluster", code="Throttling", message="Rate exceeded", times=3)
    run = world.run({})
    checks.check_execution(run, checks.HAPPY)
    assert checks.retries(run) == ["Throttled", "Throttled"]
    checks.check_item(world, run, "succeeded", checks.HAPPY)
    assert [run.item["timings"][step]["invocations"] for step in ("copy-snapshot", "restore-cluster")] == [2, 2]
    whole.check_restored_item(world, run, "staging", True, True, [], None)
    checks.check_audit(world)
    outcomes = [(r["action"], r["outcome"]) for r in run.audit if r["phase"] == "finished"]
    assert outcomes[:2] == [("rds:CopyDBClusterSnapshot", "Throttled"), ("rds:CopyDBClusterSnapshot", "ok")]
    worked = [(call["caller"], call["action"], checks.object_of(call)) for call in world.rds_calls() if call["status"] == 200]
    assert worked == checks.calls_of_a_restore(run.operation_id)
    checks.check_logins(world)
    checks.check_message(world, run.item, "SUCCEEDED")
    checks.check_lock_free(world)


def test_lambdas_own_errors_are_retried(world):
    """A function that Lambda could not run, or whose process died, is invoked again; nothing is made twice."""
    world.stack.fault(service="lambda", function="delete-cluster", code="TooManyRequestsException", status=429)
    world.stack.fault(service="lambda", function="restore-cluster", after_effect=True, function_error={"errorType": "Runtime.ExitError", "errorMessage": "died"})
    run = world.run({})
    assert run.status == "SUCCEEDED", run.cause
    assert checks.retries(run) == ["Lambda.TooManyRequestsException", "Runtime.ExitError"]
    assert checks.made(world) == checks.calls_of_a_restore(run.operation_id)
    checks.check_audit(world)
    checks.check_message(world, run.item, "SUCCEEDED")


def test_lost_answers_make_nothing_twice(world):
    """Calls that took effect although their answers were lost: the restore goes on with what was made, and each thing exists once."""
    lost = ["CopyDBClusterSnapshot", "ModifyDBCluster", "DeleteDBInstance", "DeleteDBCluster", "RestoreDBClusterFromSnapshot", "CreateDBInstance"]
    for action in lost:
        world.stack.fault(service="rds", action=action, code="InternalFailure", status=500, after_effect=True)
    run = world.run({})
    assert run.status == "SUCCEEDED", run.cause
    assert checks.way(run) == checks.HAPPY and checks.retries(run) == ["ServiceUnavailable"] * len(lost)
    operation_id = run.operation_id
    assert [s["DBClusterSnapshotIdentifier"] for s in world.snapshots()] == [checks.copy_id(operation_id), checks.final_id(operation_id)]
    assert [i["DBInstanceIdentifier"] for i in world.instances()] == ["staging-1", "staging-2"]
    assert world.tags(world.cluster())["aurora-restore:operation"] == operation_id
    checks.check_item(world, run, "succeeded", checks.HAPPY)
    whole.check_restored_item(world, run, "staging", True, True, [], None)
    assert checks.made(world) == checks.calls_of_a_restore(operation_id), "no call was made again"
    checks.check_audit(world)
    unavailable = [record["action"].split(":")[1] for record in run.audit if record["outcome"] == "ServiceUnavailable"]
    assert unavailable == lost, "what is not known to have worked is not told as if it had"
    checks.check_logins(world)
    checks.check_message(world, run.item, "SUCCEEDED")
    checks.check_lock_free(world)


def test_a_function_killed_during_a_call(world):
    """A function that dies between a call and its record: the trail says that nobody knows, the next one looks and goes on."""
    world.stack.fault(service="rds", action="RestoreDBClusterFromSnapshot", delay=3)
    arn = world.start({}, name="killed-1")
    checks.wait_for(lambda: "aurora-restore:operation" in world.tags(world.cluster() or {}))
    world.stack.kill_function("restore-cluster")
    run = world.wait(arn)
    assert run.status == "SUCCEEDED", run.cause
    assert checks.retries(run) == ["Runtime.ExitError"]
    # The journal notes a call when it is answered, and nobody took this answer.
    assert sorted(checks.made(world)) == sorted(checks.calls_of_a_restore("killed-1")), "restored once"
    checks.check_chain(run.audit)
    outcomes = [record["outcome"] for record in run.audit if record["action"] == "rds:RestoreDBClusterFromSnapshot" and record["phase"] == "finished"]
    assert outcomes == ["unknown"]
    checks.check_item(world, run, "succeeded", checks.HAPPY)
    checks.check_message(world, run.item, "SUCCEEDED")
    checks.check_lock_free(world)


def test_a_key_that_refuses_the_copy(world):
    """RDS does not say which of the two keys of a copy it means: the error names both, with Region, permissions and the statement to add."""
    world.stack.fault(service="rds", action="CopyDBClusterSnapshot", code="KMSKeyNotAccessibleFault", message="The specified KMS key does not exist, is not enabled or you do not have permissions to access it.")
    run = world.run({}, name="no-key")
    words = [f"the {whose} key {world.seeded.keys[region]} in {region}" for whose, region in (("snapshot's", "us-east-1"), ("copy's", "us-west-2"))]
    words += ["kms:CreateGrant", "kms:Decrypt", '"Effect":"Allow"', "rds.us-west-2.amazonaws.com", "aws kms describe-key"]
    calls = checks.calls_of_a_restore("no-key")[:1]
    whole.check_failure(world, run, "KmsKeyUnusable", "CopySnapshot", *words, calls=calls, left=("target cluster staging was not touched",))


def test_a_taken_name_is_not_adopted(world):
    """`already exists` is not success: a copy of that name which is not this operation's ends the restore, and nothing is deleted."""
    name, rds = checks.copy_id("clash-1"), world.stack.client("rds")
    rds.create_db_cluster_snapshot(DBClusterSnapshotIdentifier=name, DBClusterIdentifier="payments-legacy")
    before = checks.look(world, "us-west-2")
    run = world.run({}, name="clash-1")
    whole.check_failure(world, run, "ResourceConflict", "Preflight", name, left=("target cluster staging was not touched",))
    checks.check_untouched(before, checks.look(world, "us-west-2"))


def test_a_copy_that_fails(world):
    """A copy that AWS gives up on ends the restore before the target is touched."""
    world.stack.rds(pace={"copy": 30})
    arn = world.start({}, name="copy-fails")
    checks.wait_for(lambda: world.calls("rds", action="CopyDBClusterSnapshot"))
    world.stack.rds(snapshot_id=checks.copy_id("copy-fails"), status="failed")
    run = world.wait(arn)
    calls = checks.calls_of_a_restore("copy-fails")[:1]
    whole.check_failure(world, run, "ResourceFailed", "CheckCopy", "failed", calls=calls, left=("target cluster staging was not touched",))
    assert world.cluster()["DeletionProtection"] and len(world.instances()) == 2


def test_protection_is_turned_on_again(world):
    """A deletion that is refused after protection was turned off: the failure path turns it on again, and the cluster stands."""
    world.stack.fault(service="rds", action="DeleteDBInstance", code="AccessDenied", status=403, message="not authorized")
    run = world.run({}, name="refused-1")
    assert (run.status, run.error) == ("FAILED", "AccessDenied"), run.cause
    assert checks.made(world) == [*checks.calls_of_a_restore("refused-1")[:3], ("notify", "ModifyDBCluster", "staging")]
    assert world.cluster()["DeletionProtection"] and len(world.instances()) == 2
    checks.check_audit(world)
    checks.check_lock_free(world)


def test_a_restore_that_fails(world):
    """RDS gives up on the restored cluster: the run fails with that, and says where the old data is."""
    world.stack.rds(next_restore_status="incompatible-restore")
    run = world.run({}, name="broken-1")
    left = told_left("broken-1", "incompatible-restore, not ready")
    body = whole.check_failure(
        world, run, "ResourceFailed", "CheckRestore", "cluster staging is incompatible-restore", *left,
        calls=checks.calls_of_a_restore("broken-1")[:6], left=left,
    )  # fmt: skip
    assert body["final_snapshot_id"] == checks.final_id("broken-1")
    assert {checks.final_id("broken-1"), checks.copy_id("broken-1")} == {s["DBClusterSnapshotIdentifier"] for s in world.snapshots()}
    assert world.cluster()["Status"] == "incompatible-restore", "what a person looks at stays"


def test_a_failure_is_told_as_it_is_when_its_message_does_not_go_out(world):
    """Protection is on again and the lock released when publishing fails once: the next attempt says the same, and tries nothing without the lock."""
    world.stack.fault(service="rds", action="DeleteDBInstance", code="AccessDenied", status=403, message="not authorized")
    world.stack.fault(service="sns", action="Publish", code="InternalFailure", status=500)
    run = world.run({}, name="denied-1")
    checks.check_execution(run, checks.way_until("DeleteCluster"), "AccessDenied")
    assert checks.retries(run) == ["ServiceUnavailable"], "of the message, and of nothing else"
    assert world.cluster()["DeletionProtection"] and run.item["replaced"]["protected_again"]
    modified = [call["parameters"]["DeletionProtection"] for call in world.calls("rds", action="ModifyDBCluster")]
    assert modified == ["false", "true"]
    (message,), published = world.messages(), world.published()[-1]
    text = published["default"]
    for words in ("This is a repeat", "Failed step  delete-cluster", "Reason       AccessDenied", "it is protected again"):
        assert words in text, f"{words!r} in\n{text}"
    assert "could NOT" not in text and message["body"]["is_repeat"]
    assert (run.item["error"]["step"], run.item["error"]["name"]) == ("delete-cluster", "AccessDenied")
    checks.check_audit(world)
    checks.check_lock_free(world)


def test_a_failed_restore_goes_on_where_it_stopped(world):
    """Started again under its operation_id, a failed operation makes no second copy, deletes nothing again and succeeds."""
    request = {"operation_id": "night-7"}
    world.stack.fault(service="rds", action="RestoreDBClusterFromSnapshot", code="AccessDenied", status=403, message="not authorized")
    first = world.run(request, name="first-try")
    every = checks.calls_of_a_restore("night-7")
    left = told_left("night-7", None)
    whole.check_failure(world, first, "AccessDenied", "RestoreCluster", "rds:RestoreDBClusterFromSnapshot for staging", "allow rds:", calls=every[:6], left=left)
    assert first.operation_id == "night-7" and world.cluster() is None

    second = world.run(request, name="second-try")
    checks.check_execution(second, checks.HAPPY)
    assert checks.made(world) == every[:6] + every[5:], "only what was missing"
    assert second.operation_id == "night-7" and "error" not in second.item
    checks.check_item(world, second, "succeeded", checks.HAPPY)
    whole.check_restored_item(world, second, "staging", True, True, [], None)
    checks.check_audit(world)
    (resumed,) = [record for record in second.audit if record["action"] == "aurora-restore:Resumed"]
    assert resumed["detail"] == {"former_status": "failed", "former_execution_arn": first.arn, "execution_arn": second.arn}
    checks.check_logins(world)
    checks.check_lock_free(world)
    (message,) = world.messages()
    checks.check_told(message, world.published()[-1], second.item, "SUCCEEDED", f"final snapshot {checks.final_id('night-7')}")


def test_an_operation_that_is_over_is_not_repeated(world):
    """A finished operation_id, or the same one with another request, takes a new one: nothing is touched."""
    world.stack.fault(service="rds", action="CopyDBClusterSnapshot", code="AccessDenied", status=403, message="no")
    assert world.run({"operation_id": "once"}).error == "AccessDenied"
    done, item = len(world.rds_calls()), world.state_item("once")
    run = world.run({"operation_id": "once", "deletion_protection": False})
    assert run.error == "InvalidRequest" and "operation_id: got 'once'" in run.message and "takes a new one" in run.message
    assert len(world.rds_calls()) == done and world.state_item("once") == item
    checks.check_audit(world)
    checks.check_lock_free(world)
    assert [message["attributes"]["status"] for message in world.messages()] == ["FAILED", "FAILED"]


def test_a_verification_that_fails(world):
    """A check that answers false fails the restore; the restored cluster stays to be looked at, and the message lists the check."""
    query = "SELECT count(*) < 10 FROM public.customers"
    asked = [{"name": "few customers", "database": "app", "query": query}, {"name": "broken", "query": "SELECT nothing"}]
    run = world.run({"verify": {"checks": asked}}, name="bad-data")
    left = told_left("bad-data", "available, accepts logins")
    body = whole.check_failure(
        world, run, "VerificationFailed", "VerifyRestore", "2 of 10 checks", "few customers", "broken",
        calls=checks.calls_of_a_restore("bad-data", archive=False), left=left,
    )  # fmt: skip
    verdicts = {check["name"]: check["passed"] for check in run.item["verification"]["checks"]}
    assert not run.item["verification"]["passed"] and [name for name, passed in verdicts.items() if not passed] == ["few customers", "broken"]
    assert body["verification"] == run.item["verification"]
    text = world.published()[0]["default"]
    assert "Failed checks" in text and "  - few customers: " in text
    assert world.cluster()["Status"] == "available" and "archive" not in run.item, "a copy that did not pass is not archived"
    checks.check_logins(world)


@pytest.mark.seed(env={"SECRET_CACHE_TTL": "0"})
def test_a_master_password_changed_between_two_tries(world):
    """An operation that goes on sets the password that the secret holds now, although it had set an earlier one."""
    query = "SELECT EXISTS (SELECT FROM pg_tables WHERE tablename = 'mended')"
    request = {"operation_id": "rotated", "verify": {"checks": [{"name": "mended", "database": "app", "query": query}]}}
    assert world.run(request).error == "VerificationFailed"
    user = world.secret("master-credentials")
    assert checks.attempt(world, user["username"], user["password"], "CREATE TABLE public.mended (x int)") is None
    new = {"username": "master", "password": "Another-Master-Password-1"}
    world.stack.client("secretsmanager").put_secret_value(SecretId="aurora-restore/dev/master-credentials", SecretString=json.dumps(new))
    run = world.run(request, patience_seconds=45)
    assert run.status == "SUCCEEDED", run.cause
    checks.check_logins(world)
    checks.check_audit(world)
