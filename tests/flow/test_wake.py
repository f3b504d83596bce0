"""Waits that events of RDS end: the state machine's token, the state table, the function wake. And what becomes of a restore
when events are lost, come twice, come late or are about something else: the same, later."""

import collections
import datetime

import checks
import pytest

WAITS = ("WaitForDeletionEvent", "WaitForRestoreEvent")
PACE = {"copy": 0.0, "restore": 2.0, "instance": 2.0, "delete": 2.0, "master_password": 2.0}


def event(resource, event_id="RDS-EVENT-0170"):
    return {"source": "aws.rds", "detail": {"SourceArn": f"arn:aws:rds:us-west-2:123456789012:{resource}", "EventID": event_id}}


def ends_of_waits(run, *waits):
    """How often a wait ended by an answer and by its time: {event type: count} of the tasks that wait with a token."""
    state, ends = None, collections.Counter()
    for happened in run.events:
        state = happened.get("stateEnteredEventDetails", {}).get("name", state)
        if state in (waits or WAITS) and happened["type"] in ("TaskSucceeded", "TaskTimedOut", "TaskFailed"):
            ends[happened["type"]] += 1
    return ends


def seconds_in(run, step):
    timing = run.item["timings"][step]
    began, ended = (datetime.datetime.fromisoformat(timing[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


def test_events_end_the_waits(world):
    """Where a look may be a minute away, the next one comes a moment after RDS is done: four waits, four events."""
    world.stack.functions({**world.seeded.environment, "MAX_WAIT_SECONDS": "60"})
    world.stack.rds(pace=PACE)
    run = world.run()
    assert run.status == "SUCCEEDED", run.cause
    ends = ends_of_waits(run)
    assert ends["TaskSucceeded"] >= 3 and ends["TaskFailed"] == 0, ends
    # By time alone the first looks would come 30 s after the deletion, the restore and the instances began.
    assert run.seconds < 45, run.seconds
    by_time = [state for state in run.states if state in ("WaitForDeletion", "WaitForRestore")]
    assert not by_time, "the waits by time alone are for what no event tells, for seconds, and for tokens that could not be kept"
    kept = {item["operation_id"] for item in world.items() if item["operation_id"].startswith("wake#")}
    assert {"wake#cluster:staging", "wake#db:staging-1"} <= kept
    assert run.item["phases"]["deletion"]["ended_at"] > run.item["phases"]["deletion"]["began_at"]
    checks.check_audit(world)
    checks.check_lock_free(world)


def test_events_end_the_waits_of_a_swap(world):
    """A rename is waited for as long as it took the night before, or until RDS tells that it is done; then the former cluster's deletion."""
    world.stack.functions({**world.seeded.environment, "MAX_WAIT_SECONDS": "60"})
    swap = {"replacement": "swap", "swap": {"grace_period_minutes": 0}}
    world.stack.rds(pace={**PACE, "rename": 9.0})
    slow = world.run(swap, name="night-1", patience_seconds=180)
    assert slow.status == "SUCCEEDED", slow.cause
    # Nothing is remembered: each look comes after five seconds, in which no event ends a wait.
    assert "WaitForSwapEvent" not in slow.states
    world.stack.rds(pace={**PACE, "rename": 5.5})
    run = world.run(swap, name="night-2", patience_seconds=180)
    assert run.status == "SUCCEEDED", run.cause
    ends = ends_of_waits(run, "WaitForSwapEvent")
    assert ends["TaskSucceeded"] >= 1 and ends["TaskFailed"] == 0, ends
    # By time alone the first look would come 30 s after the deletion began.
    assert ends_of_waits(run, "WaitForRetirementEvent")["TaskSucceeded"] >= 1 and seconds_in(run, "retire-cluster") < 20, run.item["timings"]
    assert "WaitForRetirement" not in run.states
    checks.check_lock_free(world)


def test_without_events_the_waits_end_by_time(world):
    world.stack.rds(pace=PACE, tell_events=False)
    run = world.run()
    assert run.status == "SUCCEEDED", run.cause
    ends = ends_of_waits(run)
    assert ends["TaskSucceeded"] == 0 and ends["TaskTimedOut"] >= 4, ends


def test_a_broken_wake_fails_no_restore(world):
    """Nobody can be told whom to wake: the waits by time take over."""
    world.stack.rds(pace=PACE)
    world.stack.fault(service="lambda", function="wake", times=100, function_error={"errorType": "AccessDenied", "errorMessage": "no"})
    run = world.run()
    assert run.status == "SUCCEEDED", run.cause
    assert {"WaitForDeletion", "WaitForRestore"} <= set(run.states) and ends_of_waits(run)["TaskFailed"] >= 2


@pytest.mark.parametrize("same_region", [False, True])
def test_what_comes_late_or_twice_or_for_others_changes_nothing(scene, same_region):
    world = scene(same_region=same_region)
    run = world.run({"source_region": "us-west-2"} if same_region else None)
    assert run.status == "SUCCEEDED", run.cause
    before = world.state_item(run.operation_id)
    for late in ("cluster:staging", "cluster:staging", "db:staging-1"):
        answer, error = world.invoke("wake", event(late))
        assert error is None and answer["woken"] is False, (answer, error)
    for others in ("cluster:somebody-elses", "db:x", "cluster-snapshot:rds:production-2026"):
        assert world.invoke("wake", event(others)) == ({"woken": False}, None)
    assert world.state_item(run.operation_id) == before
    answer, error = world.invoke("wake", {"detail": {}})
    assert answer is None and error["errorType"] == "InvalidRequest" and "takes an event of RDS" in error["errorMessage"]
