"""What every whole-flow test looks at: execution, state item, audit trail, RDS calls, roles, message, lock.

Plain functions that assert. They know the promises (names, order, hash rule) on their own account and share nothing with
the code under test.
"""

import hashlib
import json
import re
import time
from datetime import datetime
from pathlib import Path

from postgres import PRODUCTION_LOGINS
from seed import STATE_TABLE

ACCOUNT = "123456789012"
# The order of states in each scenario as the simulator's walker goes through the same definition (crates/sim/tests/walk.rs).
# Every execution here is compared with it, so that the two interpreters can be trusted alike.
WALKED = json.loads((Path(__file__).resolve().parent.parent / "golden" / "states.json").read_text())
HAPPY = WALKED["Happy"]
STEP_OF_STATE = {
    "Preflight": "preflight", "CopySnapshot": "copy-snapshot", "CheckCopy": "check-copy", "DeleteCluster": "delete-cluster",
    "RestoreCluster": "restore-cluster", "CheckRestore": "check-restore", "SetupDbUsers": "setup-db-users",
    "VerifyRestore": "verify-restore", "SwapCluster": "swap-cluster", "RetireCluster": "retire-cluster", "ArchiveSnapshot": "archive-snapshot", "Notify": "notify", "NotifyFailure": "notify",
}  # fmt: skip
# The object that a call is about, as the audit trail names it.
OBJECT_OF_CALL = {
    "CopyDBClusterSnapshot": "TargetDBClusterSnapshotIdentifier", "ModifyDBCluster": "DBClusterIdentifier", "ModifyDBInstance": "DBInstanceIdentifier",
    "DeleteDBInstance": "DBInstanceIdentifier", "DeleteDBCluster": "DBClusterIdentifier",
    "RestoreDBClusterFromSnapshot": "DBClusterIdentifier", "CreateDBInstance": "DBInstanceIdentifier",
    "AddTagsToResource": "ResourceName", "DeleteDBClusterSnapshot": "DBClusterSnapshotIdentifier", "Publish": "TopicArn",
}  # fmt: skip
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
INHERITED = sorted(["Bob O'Hara", "alice.dba", "prod_app", "prod_batch", "prod_etl", "prod_iam", "prod_reporting"])
DECLARED = {"app_user": "read-write", "readonly_user": "read-only", "devops_user": "devops"}


def short(operation_id):
    return hashlib.sha256(operation_id.encode()).hexdigest()[:10]


def copy_id(operation_id, target="staging"):
    return f"{target}-copy-{short(operation_id)}"


def final_id(operation_id, target="staging"):
    return f"{target}-final-{short(operation_id)}"


def instant(text):
    assert TIME.match(text), f"{text} is not RFC 3339 in UTC with milliseconds"
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def wait_for(holds, patience_seconds=20):
    """Until something holds in a world that moves by itself."""
    deadline = time.monotonic() + patience_seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


# The execution


def way(run):
    """The states in their order, each poll loop told once."""
    told, last = [], None
    for state in run.states:
        # Where nobody could be told whom to wake, the same wait goes on by time alone.
        if state.startswith("WaitFor") and state != f"{last}".removesuffix("Event"):
            assert told[-2:] in (["CopySnapshot", "IsCopyStarted"], ["CheckCopy", "IsCopyAvailable"], ["DeleteCluster", "IsClusterGone"], ["CheckRestore", "IsClusterReady"], ["SetupDbUsers", "AreUsersSetUp"], ["SwapCluster", "IsSwapped"], ["RetireCluster", "IsClusterRetired"])
            del told[-2:]
        elif not state.startswith("WaitFor"):
            told.append(state)
        last = state
    return told


def way_until(state):
    """The way of a run that fails in this state."""
    return WALKED[f"fails in {state}"]


def check_execution(run, states, error=None):
    assert (run.status, run.error) == (("FAILED", error) if error else ("SUCCEEDED", None)), run.cause
    assert way(run) == states
    ended = [event["type"] for event in run.events if event["type"].startswith("Execution")]
    assert ended == ["ExecutionStarted", "ExecutionFailed" if error else "ExecutionSucceeded"]
    if error:
        assert json.loads(run.cause)["errorType"] == error, "the cause is the failed step's own"


def retries(run):
    """The errors after which Step Functions tried a task again."""
    found, failed = [], None
    for event in run.events:
        if "taskFailedEventDetails" in event:
            failed = event["taskFailedEventDetails"]["error"]
        elif event["type"] == "TaskScheduled" and failed:
            found.append(failed)
        if event["type"] in ("TaskScheduled", "TaskStateExited", "TaskStateEntered"):
            failed = None
    return found


# The state item


def state_writes(world):
    """The puts into the state table that worked: alone, or in one transaction with a check of the target's lock."""
    puts = []
    for call in world.calls("dynamodb"):
        parameters = call["parameters"]
        if call["status"] == 200 and call["action"] == "PutItem":
            puts.append(parameters)
        if call["status"] == 200 and call["action"] == "TransactWriteItems":
            puts += [item["Put"] for item in parameters["TransactItems"] if "Put" in item]
    return [put for put in puts if put["TableName"] == STATE_TABLE]


def check_item(world, run, status, states):
    """What holds for every operation that is over, whatever its end."""
    item = run.item
    assert item["status"] == status and item["step"] == "notify" and item["execution_arn"] == run.arn
    writes = [put for put in state_writes(world) if put["Item"]["operation_id"] == {"S": run.operation_id}]
    assert item["version"] == len(writes) - 1, "every write raises the version by one"
    conditions = [put.get("ConditionExpression") for put in writes]
    assert all(conditions), "every write is conditional"
    started, finished, updated = (instant(item[name]) for name in ("started_at", "finished_at", "updated_at"))
    assert started <= finished <= updated
    assert item["expires_at"] == int(started.timestamp()) + 400 * 24 * 3600
    check_timings(run, [STEP_OF_STATE[state] for state in states if state in STEP_OF_STATE])
    check_notification_state(world, item, status)


def check_timings(run, steps):
    timings, item = run.item["timings"], run.item
    assert set(timings) == set(steps) and all(set(timing) >= {"started_at", "invocations"} for timing in timings.values())
    invoked = {step: 0 for step in timings}
    for event in run.events:
        if event["type"] == "TaskSucceeded":
            # A wait that an event has ended answers no step's payload.
            if payload := json.loads(event["taskSucceededEventDetails"]["output"]).get("Payload"):
                invoked[payload["step"]] += 1
    failed_step = item.get("error", {}).get("step")
    ends = []
    for step in steps:
        timing = timings[step]
        assert timing["invocations"] >= max(1, invoked[step]), step
        ends.append(instant(timing["started_at"]))
        if step == failed_step:
            assert timing.get("finished_at") is None or step == "notify", "a failed step has not finished"
        else:
            assert timing["outcome"] in ("done", "skipped"), step
            ends.append(instant(timing["finished_at"]))
    assert ends == sorted(ends), "one step after the other"


def check_notification_state(world, item, status):
    told = item["notification"]
    assert told["outcome"] == status and instant(told["begun_at"]) <= instant(told["published_at"]) and told["message_id"]


def check_error(run, name, step, *words):
    """The error is recorded as the step told it, and says everything a person needs."""
    error = run.item.get("error")
    assert error, "the state item keeps the error"
    assert (error["name"], error["step"]) == (name, step) and error["message"] == run.message
    for word in words:
        assert word in run.message, f"{word!r} in {run.message!r}"
    assert "Left behind: " in run.message


# The audit trail


def audit_hash(record):
    """SHA-256 over the record's fields as compact JSON, maps sorted by key."""
    names = ("operation_id", "timestamp", "phase", "step", "action", "resource", "actor", "outcome", "request_id", "detail", "previous_hash")
    text = json.dumps([record[name] for name in names], separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_chain(records):
    previous = {"hash": "", "timestamp": 0}
    for number, record in enumerate(records):
        assert record["previous_hash"] == previous["hash"], f"record {number} follows another one"
        assert record["timestamp"] > previous["timestamp"]
        assert record["hash"] == audit_hash(record), f"record {number} is not what was written: {record}"
        assert record["actor"] == record["step"], "on this stack a function bears the name of its step"
        assert (record["outcome"] is None) == (record["phase"] != "finished")
        previous = record


def windows(records):
    """(begun, finished) of every mutating call, in the order in which they began."""
    found, open_ = [], {}
    for record in records:
        key = (record["action"], record["resource"], record["actor"])
        if record["phase"] == "begun":
            assert key not in open_, f"{key} began twice"
            open_[key] = record
            found.append([record])
        elif record["phase"] == "finished":
            begun = open_.pop(key, None)
            assert begun, f"{key} finished twice, or never began"
            next(pair for pair in found if pair[0] is begun).append(record)
    assert not open_, f"never finished: {list(open_)}"
    return found


def object_of(call):
    value = call["parameters"][OBJECT_OF_CALL[call["action"]]]
    return value.rpartition(":")[2] if call["action"] == "AddTagsToResource" else value


def microseconds(text):
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


def check_audit(world):
    """Every chain holds, and RDS and SNS calls stand between their begun and finished records, all of them."""
    trails = {}
    for record in world.audit():
        trails.setdefault(record["operation_id"], []).append(record)
    journal_begins = microseconds(world.stack.calls()[0]["time"])
    pairs = []
    for records in trails.values():
        check_chain(records)
        pairs += windows(records) if records[0]["timestamp"] >= journal_begins else []
    pairs = sorted((pair for pair in pairs if pair[0]["action"].split(":")[0] in ("rds", "sns")), key=lambda pair: pair[0]["timestamp"])
    calls = [call for call in world.calls(mutating=True) if call["service"] in ("rds", "sns")]
    taken = []
    for begun, finished in pairs:
        inside = [
            call for call in calls
            if (f"{call['service']}:{call['action']}", object_of(call), call["caller"]) == (begun["action"], begun["resource"], begun["actor"])
            and begun["timestamp"] - 1000 <= microseconds(call["time"]) <= finished["timestamp"]
        ]  # fmt: skip
        assert inside, f"{begun['action']} is in the audit trail but was not made"
        last = inside[-1]
        assert (finished["outcome"] == "ok") == (last["status"] < 400), f"{finished['outcome']} for {last}"
        assert finished["request_id"] == last["request_id"], "AWS's own id of the request"
        taken += inside
    # Records do not overlap unless two functions were at work, so that each call in its window is also the same order.
    assert sorted(calls.index(call) for call in taken) == list(range(len(calls))), "every mutating call is in the audit trail exactly once"


def check_trail(run, *actions):
    """What the operation's trail says happened: events and finished calls, as (step, action, outcome)."""
    told = [(r["step"], r["action"].split(":")[1], r["outcome"]) for r in run.audit if r["phase"] != "begun"]
    assert told == list(actions), told


# The RDS calls


def made(world, since=0):
    """The mutating RDS calls in their order: (who, what, of what)."""
    return [(call["caller"], call["action"], object_of(call)) for call in world.rds_calls()[since:]]


def calls_of_a_restore(operation_id, target="staging", *, copy=True, replaced=("staging-2", "staging-1"), protected=True, instances=2, archive=True, removed=()):
    """The mutating RDS calls of a restore, nothing else and in this order."""
    calls = [("copy-snapshot", "CopyDBClusterSnapshot", copy_id(operation_id, target))] if copy else []
    if replaced:
        calls += [("delete-cluster", "ModifyDBCluster", target)] if protected else []
        calls += [("delete-cluster", "DeleteDBInstance", instance) for instance in replaced]
        calls += [("delete-cluster", "DeleteDBCluster", target)]
    calls += [("restore-cluster", "RestoreDBClusterFromSnapshot", target)]
    calls += [("check-restore", "CreateDBInstance", f"{target}-{number}") for number in range(1, instances + 1)]
    calls += [("check-restore", "ModifyDBCluster", target)]
    calls += [("archive-snapshot", "AddTagsToResource", copy_id(operation_id, target))] if copy and archive else []
    return calls + [("archive-snapshot", "DeleteDBClusterSnapshot", name) for name in removed]


def call(world, action, caller=None):
    """The parameters of the only such call that succeeded."""
    (found,) = [call for call in world.calls("rds", action=action, caller=caller) if call["status"] == 200]
    return found["parameters"]


def tags_in(parameters):
    return {tag["Key"]: tag["Value"] for tag in parameters["Tags"]}


def our_tags(world, operation_id, kind):
    source = f"arn:aws:rds:{world.seeded.source_region}:{ACCOUNT}:cluster:production"
    made_for = {"aurora-restore:target": "staging"} if kind == "copy" else {}
    return {
        "aurora-restore:managed": "true", "aurora-restore:operation": operation_id,
        "aurora-restore:source": source, "aurora-restore:kind": kind, **made_for,
    }  # fmt: skip


# The database


def attempt(world, user, password, statement, database="app", **where):
    """None when the statement works as this user, over TLS; else the server's word for it."""
    import psycopg

    try:
        with world.connect(user, password, database, **where) as connection:
            connection.execute(statement)
        return None
    except psycopg.Error as refused:
        return type(refused).__name__ if refused.sqlstate else str(refused).strip().splitlines()[-1]


def check_logins(world, target="staging"):
    """Declared users log in and can do what they are for, and no more; nobody else of production's can."""
    where = {"cluster_id": target}
    users = {user["username"]: user["password"] for user in world.secret("app-credentials").values()}
    assert set(users) == set(DECLARED)
    read, write = "SELECT count(*) FROM sales.orders", "UPDATE public.settings SET value = value"
    add, ddl = "INSERT INTO sales.orders (customer_id, amount, created_at) VALUES (1, 1, now())", "CREATE TABLE sales.check_{} (x int)"
    for user, password in users.items():
        allowed = {
            read: True, 'SELECT * FROM "Sales Archive 2024"."Orders 2024"': True, "SELECT * FROM hr.employees": True,
            write: user != "readonly_user", add: user != "readonly_user", ddl.format(user): user == "devops_user",
            "CREATE ROLE intruder": False, "DROP TABLE public.customers": False,
        }  # fmt: skip
        for statement, works in allowed.items():
            refused = attempt(world, user, password, statement, **where)
            assert refused == (None if works else "InsufficientPrivilege"), f"{user}: {statement}: {refused}"
        assert attempt(world, user, password, "SELECT * FROM reports.last_week", "analytics", **where) is None
        assert world.login(user, password + "x", **where) is not None
    master = world.master_secret()
    assert world.login(master["username"], master["password"], **where) is None
    for user, password in PRODUCTION_LOGINS.items():
        assert world.login(user, password, **where) is not None, f"production's {user} still logs in"


def check_roles(world):
    """Production's own roles are locked, not removed; the declared ones are plain logins."""
    roles = world.roles()
    assert set(INHERITED) <= set(roles) and not any(roles[name]["login"] for name in INHERITED)
    assert {"app_owner", "sales_owner", "readers", "writers", "prod_retired"} <= set(roles), "owners and groups stay"
    for name in DECLARED:
        role = roles[name]
        assert role["login"] and not (role["superuser"] or role["createrole"] or role["createdb"]), name
        assert "rds_superuser" not in role["member_of"]
    assert "rds_iam" not in roles["prod_iam"]["member_of"], "a token would log in without the password"
    assert "rds_superuser" not in roles["alice.dba"]["member_of"]


# Message and lock


def check_message(world, item, status, *lines, target="staging", execution_arn=None):
    """Exactly one message: published once, arrived once, with the same content for people and for programs. Returns its body."""
    (message,) = world.messages()
    (published,) = world.published()
    check_told(message, published, item, status, *lines, target=target, execution_arn=execution_arn)
    return message["body"]


def check_told(message, published, item, status, *lines, target="staging", execution_arn=None):
    operation_id, body, text = item["operation_id"], message["body"], published["default"]
    assert message["attributes"] == {"status": status, "environment": "dev", "target_cluster_id": target}
    assert message["subject"] == f"[dev] Aurora restore {status}: {target} ({operation_id})"[:100]
    assert published["email"] == text and body == json.loads(published["sqs"])
    for name in ("operation_id", "started_at", "finished_at"):
        assert body[name] == item[name]
    assert (body["status"], body["target_cluster_id"], body["environment"], body["is_repeat"]) == (status, target, "dev", False)
    assert body["execution_arn"] == (execution_arn or item.get("execution_arn"))
    assert body["error"] == item.get("error") and body["verification"] == item.get("verification") and body["archive"] == item.get("archive")
    assert set(body["durations_seconds"]) <= set(item["timings"])
    for line in (f"Operation    {operation_id}", "Environment  dev", *lines):
        assert line in text, f"{line!r} in\n{text}"


def check_lock_free(world):
    held = [lock for lock in world.locks() if lock["held"]]
    assert not held, f"still locked: {held}"


def check_untouched(before, after, *names):
    """These things, or all, are exactly as they were. What grows by itself is left out."""
    volatile = {"LatestRestorableTime", "EarliestRestorableTime"}
    for name in names or sorted(set(before) | set(after)):
        was, now = ({k: v for k, v in things.get(name, {"is": "missing"}).items() if k not in volatile} for things in (before, after))
        assert now == was, name


def look(world, region):
    """Clusters, instances and cluster snapshots of a Region by name, as RDS describes them."""
    rds = world.stack.client("rds", region)
    found = {f"cluster {thing['DBClusterIdentifier']}": thing for thing in rds.describe_db_clusters()["DBClusters"]}
    found |= {f"instance {thing['DBInstanceIdentifier']}": thing for thing in rds.describe_db_instances()["DBInstances"]}
    return found | {f"snapshot {thing['DBClusterSnapshotIdentifier']}": thing for thing in world.snapshots(region)}
