"""One step at a time, as a developer does it: `cargo lambda invoke <step> --data-file tests/events/<step>.json` against the stack."""

import json
import subprocess
import sys
import time
from pathlib import Path

import checks
import pytest
import whole
from functions import OF_A_SWAP, STEPS

EVENTS = Path(__file__).resolve().parent.parent / "events"
CARGO_LAMBDA = Path(sys.executable).parent / "cargo-lambda"
BY_HAND = "by-hand-1"


def invoke(world, step, data_file=None):
    """What the command printed, as JSON, and whether it succeeded."""
    where = ["--invoke-address", "127.0.0.1", "--invoke-port", str(world.stack.info["invoke_port"])]
    command = [CARGO_LAMBDA, "lambda", "invoke", step, *where, "--data-file", data_file or EVENTS / f"{step}.json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=90, check=False)
    try:
        return json.loads(done.stdout), done
    except ValueError:
        return None, done


def invoke_until_done(world, step):
    """Repeats a step that answers `waiting`, as the state machine does."""
    deadline = time.monotonic() + 60
    while True:
        answer, done = invoke(world, step)
        assert done.returncode == 0 and answer, f"{step}: {done.stdout}{done.stderr}"
        if answer["outcome"] != "waiting":
            return answer
        assert time.monotonic() < deadline, answer
        assert answer["progress"] and answer["wait_seconds"] >= 0
        time.sleep(0.3)


def test_every_step_has_its_event():
    """Preflight's is a whole request, the others name its operation."""
    assert sorted(path.stem for path in EVENTS.glob("*.json")) == sorted(STEPS + OF_A_SWAP)
    for step in STEPS + OF_A_SWAP:
        event = json.loads((EVENTS / f"{step}.json").read_text())
        assert event["operation_id"] == BY_HAND and (step == "preflight" or len(event) == 1)


def test_a_restore_step_by_step(world):
    """The ten steps in their order, without a state machine, are a whole restore."""
    answers = {step: invoke_until_done(world, step) for step in STEPS}
    assert {step: answer["outcome"] for step, answer in answers.items()} == dict.fromkeys(STEPS, "done")
    for step, answer in answers.items():
        assert set(answer) == {"operation_id", "step", "outcome", "wait_seconds", "progress", "waits_for", "replacement", "detail"}
        assert (answer["operation_id"], answer["step"]) == (BY_HAND, step)
    item = world.state_item(BY_HAND)
    assert (item["status"], item["step"], item.get("execution_arn")) == ("succeeded", "notify", None)
    whole.check_restored_item(world, by_hand(item), "staging", True, True, [], None)
    assert checks.made(world) == checks.calls_of_a_restore(BY_HAND)
    checks.check_audit(world)
    checks.check_logins(world)
    checks.check_lock_free(world)
    checks.check_message(world, item, "SUCCEEDED", "Cluster staging was restored and verified.")
    again, _ = invoke(world, "notify")
    assert again["outcome"] == "skipped" and len(world.published()) == 1, "told once"


def by_hand(item):
    class Run:
        operation_id = BY_HAND

    Run.item = item
    return Run


def test_notify_before_the_end_is_refused(world):
    """A restore that has not been verified cannot be told as a success, and the operation goes on afterwards."""
    assert invoke_until_done(world, "preflight")["outcome"] == "done"
    for step in ("copy-snapshot", "check-copy"):
        assert invoke_until_done(world, step)["outcome"] == "done"
    before = world.state_item(BY_HAND)
    _, error = world.invoke("notify", {"operation_id": BY_HAND})
    assert error["errorType"] == "ResourceConflict" and "verify-restore has not passed" in error["errorMessage"]
    answer, done = invoke(world, "notify")
    assert answer is None or done.returncode != 0 or "errorType" in answer, done.stdout
    item = world.state_item(BY_HAND)
    assert item["status"] == "running" and world.published() == [] and world.messages() == []
    assert {name: item.get(name) for name in ("plan", "copy", "request")} == {name: before.get(name) for name in ("plan", "copy", "request")}
    assert [lock["held"] for lock in world.locks()] == [True], "the lock stays with the operation"
    assert invoke_until_done(world, "delete-cluster")["outcome"] == "done"


@pytest.mark.parametrize(
    ("event", "words"),
    [({}, "operation_id"), ({"operation_id": "a b"}, "takes 1 to 80 letters"), ({"operation_id": "unknown-1"}, "there is no such operation"), ([], "operation_id")],
    ids=["nothing", "illegal", "unknown", "a-list"],
)
def test_a_wrong_event_is_refused(scene, event, words):
    """An event without a known operation is InvalidRequest for every step, and nothing is called but the state table."""
    world = scene()
    for step in STEPS[1:]:
        answer, error = world.invoke(step, event)
        assert answer is None and error["errorType"] == "InvalidRequest" and words in error["errorMessage"], f"{step}: {error}"
    assert {call["action"] for call in world.calls() if call["service"] != "lambda"} <= {"GetItem"}


def test_steps_out_of_order_are_refused(world):
    """A step whose predecessor has not run says which one to run, and changes nothing."""
    assert invoke_until_done(world, "preflight")["outcome"] == "done"
    done = len(world.rds_calls())
    missing = {"restore-cluster": "copy-snapshot", "check-restore": "restore-cluster", "setup-db-users": "check-restore", "verify-restore": "check-restore"}
    for step, first in missing.items():
        _, error = world.invoke(step, {"operation_id": BY_HAND})
        assert error["errorType"] == "ResourceConflict" and f"run {first}" in error["errorMessage"], f"{step}: {error}"
    assert world.invoke("delete-cluster", {"operation_id": BY_HAND})[1]["errorType"] == "ResourceFailed", "without a copy nothing is deleted"
    assert len(world.rds_calls()) == done
