"""The bound on calls to RDS that deployments share, by one table beside their own; and what becomes of restores when that is wrong."""

import time
from datetime import datetime

import checks
import pytest
import whole
from deeds import CALLS_TABLE
from seed import STATE_TABLE, make_calls_table, make_tables
from test_swap import SWAP, calls_of_a_swap

# More than a deployment would say, so that little time goes by.
BOUND = {"RDS_CALLS_PER_SECOND": "50", "RDS_CALLS_TABLE_NAME": CALLS_TABLE}
# Of the second deployment; all else of it is as the first one's.
OTHER_STATE, OTHER_AUDIT = "aurora-restore-other-state", "aurora-restore-other-audit"


def given_out(world, table=CALLS_TABLE):
    """{item: the moment after the last that it gave out, in seconds since 1970}"""
    return {item["operation_id"]: item["next_ms"] / 1000 for item in world.items(table) if item["operation_id"].startswith("calls#")}


def made_at(call):
    """When a call of the journal arrived, in seconds since 1970."""
    return datetime.fromisoformat(call["time"]).timestamp() - call["milliseconds"] / 1000


@pytest.mark.seed(env=BOUND)
def test_two_deployments_share_the_bound(world):
    """Each has a state table of its own; what one has given out the other waits for."""
    make_calls_table(world.stack)
    began = time.time()
    first = world.run({}, name="night-1")
    whole.check_success(world, first)
    moments = given_out(world)
    assert set(moments) == {"calls#rds#us-east-1", "calls#rds#us-west-2"} and min(moments.values()) > began
    assert given_out(world, STATE_TABLE) == {}

    make_tables(world.stack, OTHER_STATE, OTHER_AUDIT)
    world.stack.functions({**world.seeded.environment, "STATE_TABLE_NAME": OTHER_STATE, "AUDIT_TABLE_NAME": OTHER_AUDIT})
    taken_until, done, made = time.time() + 5, len(world.calls("rds")), len(world.rds_calls())
    item = {"operation_id": {"S": "calls#rds#us-west-2"}, "next_ms": {"N": str(round(1000 * taken_until))}}
    world.stack.client("dynamodb").put_item(TableName=CALLS_TABLE, Item=item)
    second = world.run(SWAP, name="night-2")
    assert second.status == "SUCCEEDED", second.cause
    calls = world.calls("rds")[done:]
    assert min(made_at(call) for call in calls if call["region"] == "us-west-2") >= taken_until - 0.002
    assert min(made_at(call) for call in calls if call["region"] == "us-east-1") < taken_until, "another Region has a bound of its own"
    assert checks.made(world, made) == calls_of_a_swap("night-2")
    assert given_out(world)["calls#rds#us-west-2"] > taken_until
    assert given_out(world, STATE_TABLE) == given_out(world, OTHER_STATE) == {}
    assert "night-2" in {item["operation_id"] for item in world.items(OTHER_STATE)} and world.state_item("night-2") is None


@pytest.mark.seed(env={"RDS_CALLS_PER_SECOND": "50"})
def test_a_deployment_alone_has_a_bound_of_its_own(world):
    """Nothing is named: the items are in the state table, as ever."""
    assert world.run({"plan_only": True}).status == "SUCCEEDED"
    assert set(given_out(world, STATE_TABLE)) == {"calls#rds#us-east-1", "calls#rds#us-west-2"}


@pytest.mark.seed(env=BOUND)
def test_the_failure_path_asks_for_its_share(world):
    """notify, which turns protection on again, is bounded too."""
    make_calls_table(world.stack)
    world.stack.fault(service="rds", action="DeleteDBInstance", code="AccessDenied", status=403, message="not authorized")
    run = world.run({})
    assert (run.status, run.error) == ("FAILED", "AccessDenied") and world.cluster()["DeletionProtection"]
    asked = [call["action"] for call in world.calls("dynamodb", caller="notify") if call["parameters"].get("TableName") == CALLS_TABLE]
    assert asked[:2] == ["GetItem", "PutItem"]


@pytest.mark.seed(env=BOUND)
def test_a_table_that_is_not_there_ends_a_restore_before_anything(world):
    """Missing, and denied: told with the table's name, before RDS is asked anything; and a plan finds it, too."""
    run = world.run({}, name="night-1")
    checks.check_execution(run, checks.way_until("Preflight"), "InvalidRequest")
    for words in ("dynamodb:GetItem", f"{CALLS_TABLE}/calls#rds#us-west-2", "Left behind: nothing was touched", "infra/rds-calls.yaml", "RdsCallsTableName"):
        assert words in run.message, run.message
    make_calls_table(world.stack)
    world.stack.fault(service="dynamodb", action="PutItem", match={"TableName": CALLS_TABLE}, code="AccessDeniedException", message="not authorized")
    run = world.run({"plan_only": True}, name="look-1")
    checks.check_execution(run, checks.way_until("Preflight"), "AccessDenied")
    assert f"dynamodb:PutItem for {CALLS_TABLE}" in run.message and "nothing was touched" in run.message
    assert world.calls("rds") == [] and world.locks() == []
    again = world.run({"operation_id": "look-1", "plan_only": True}, name="look-1-again")
    assert again.status == "SUCCEEDED", again.cause


@pytest.mark.seed(env=BOUND)
def test_a_table_that_goes_away_costs_no_restore(world):
    """The target may be gone by then: the restore goes on without regard to others, and the log says so. The next one does not begin."""
    make_calls_table(world.stack)
    world.stack.rds(pace={"copy": 3})
    arn = world.start({}, name="night-1")
    checks.wait_for(lambda: (world.state_item("night-1") or {}).get("plan"))
    world.stack.client("dynamodb").delete_table(TableName=CALLS_TABLE)
    run = world.wait(arn)
    whole.check_success(world, run)
    assert f"without regard to others, who keep it in table {CALLS_TABLE}" in world.logs("restore-cluster")
    assert checks.retries(run) == []
    done = len(world.calls("rds"))
    assert world.run({}, name="night-2").error == "InvalidRequest"
    assert world.calls("rds")[done:] == [] and world.cluster()["DeletionProtection"]


@pytest.mark.seed(env=BOUND)
def test_a_table_that_goes_away_keeps_no_restore_from_going_on(world):
    """The target of a failed restore is gone: what only spares RDS is no reason to leave it so."""
    make_calls_table(world.stack)
    world.stack.fault(service="rds", action="RestoreDBClusterFromSnapshot", code="AccessDenied", status=403, message="not authorized")
    assert world.run({}, name="night-1").error == "AccessDenied" and world.cluster() is None
    world.stack.client("dynamodb").delete_table(TableName=CALLS_TABLE)
    again = world.run({"operation_id": "night-1"}, name="night-1-again")
    assert again.status == "SUCCEEDED", again.cause
    assert world.cluster() and f"without regard to others, who keep it in table {CALLS_TABLE}" in world.logs("preflight")
