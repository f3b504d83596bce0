"""No secret value is anywhere but in Secrets Manager and in the call that sets it: not in state, audit, logs, messages or history."""

import base64
import json
import re
import subprocess
import urllib.parse
from pathlib import Path

import checks
import pytest
from functions import FUNCTIONS, STEPS

VERIFIER = re.compile(r"SCRAM-SHA-256\$\d+:|md5[0-9a-f]{32}\b")


def forms(value):
    """A value as it could stand somewhere: plain, in JSON once or twice, in SQL, in a URL, in base64, and its unquoted head."""
    once = json.dumps(value)[1:-1]
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    head = re.match(r"[\w-]+", value)[0]
    return {value, once, json.dumps(once)[1:-1], value.replace("'", "''"), urllib.parse.quote(value), urllib.parse.quote_plus(value), encoded[: len(encoded) // 4 * 4], head}


def leaks(places, values):
    """(where, the beginning of what) for every value or password verifier that is found."""
    found = [(where, value[:4]) for where, text in places.items() for value in values if any(form in text for form in forms(value))]
    return found + [(where, match[0]) for where, text in places.items() for match in [VERIFIER.search(text)] if match]


def processes(world):
    """Command line and environment of everything that the stack started."""
    found = {}
    for line in (world.stack.run_dir / "processes").read_text().splitlines():
        process = json.loads(line)
        directory = Path("/proc") / str(process["pid"])
        if directory.exists():
            text = "\n".join((directory / name).read_bytes().replace(b"\0", b"\n").decode(errors="replace") for name in ("cmdline", "environ"))
        else:
            text = subprocess.run(["ps", "eww", "-p", str(process["pid"])], capture_output=True, text=True, check=False).stdout
        found[f"process {process['what']} {process['pid']}"] = text
    return found


def places(world, runs):
    """Everything that a restore leaves behind or shows, as text."""
    dynamodb = world.stack.client("dynamodb")
    found = {f"table {name}": json.dumps(dynamodb.scan(TableName=name)["Items"], default=str) for name in dynamodb.list_tables()["TableNames"]}
    found |= {f"history of {run.name}": run.history_text + json.dumps([run.input, run.output, run.error, run.cause]) for run in runs}
    found |= {f"log {path.name}": path.read_text(errors="replace") for path in (world.stack.run_dir / "logs").iterdir()}
    found |= {"published": json.dumps([call["parameters"] for call in world.calls("sns")]), "arrived": json.dumps(world.messages())}
    found |= {"calls of the machine": json.dumps(world.calls("lambda")), "calls": json.dumps([call for call in world.calls() if call["service"] != "sns"])}
    for snapshot in world.snapshots():
        found[f"tags of {snapshot['DBClusterSnapshotIdentifier']}"] = json.dumps(snapshot, default=str)
    cluster = world.cluster()
    found["tags of staging"] = json.dumps(cluster, default=str) if cluster else ""
    return found | processes(world)


def check_nothing_leaks(world, runs, values):
    found = places(world, runs)
    for kind in ("table", "history", "log", "process"):
        assert any(where.startswith(kind) and len(text) > 100 for where, text in found.items()), f"no {kind} was looked at"
    assert {f"log {step}.log" for step in STEPS} <= set(found) and any("postgres" in where for where in found)
    assert leaks(found, values) == []


def test_the_search_finds_what_is_planted(world, tmp_path):
    """The search can fail: a value is found in a table, in a log, in a process's environment and inside JSON inside JSON."""
    password = world.secret_values()[-1]
    assert {"'", '"', "\\", " ", "$"} <= set(password), "the passwords are awkward on purpose"
    item = {"operation_id": {"S": "planted"}, "note": {"S": json.dumps({"cause": json.dumps({"password": password})})}}
    world.stack.client("dynamodb").put_item(TableName="aurora-restore-state", Item=item)
    (world.stack.run_dir / "logs" / "planted.log").write_text(f"ALTER ROLE app_user PASSWORD '{password.replace(chr(39), chr(39) * 2)}'")
    (world.stack.run_dir / "logs" / "verifier.log").write_text("PASSWORD 'SCRAM-SHA-256$4096:salt$stored:server'")
    world.stack.functions({**world.seeded.environment, "PLANTED": password})
    try:
        found = {where for where, _ in leaks(places(world, []), [password])}
        assert {"table aurora-restore-state", "log planted.log", "log verifier.log"} <= found
        assert len([where for where in found if where.startswith("process ")]) == len(FUNCTIONS)
    finally:
        for name in ("planted.log", "verifier.log"):
            (world.stack.run_dir / "logs" / name).unlink()


@pytest.mark.seed(env={"LOG_LEVEL": "trace", "RUST_LOG": "trace"})
def test_nothing_leaks_at_the_loudest(world):
    """A restore that succeeds and one that fails after it, with everything logged that can be: no value anywhere."""
    first = world.run({}, name="loud-1")
    assert first.status == "SUCCEEDED", first.cause
    values = world.secret_values()
    second = world.run({"verify": {"checks": [{"name": "false", "query": "SELECT false"}]}}, name="loud-2")
    assert second.error == "VerificationFailed"
    check_nothing_leaks(world, [first, second], values)


@pytest.mark.seed(env={"SECRET_CACHE_TTL": "0"})
def test_nothing_leaks_when_secrets_go_bad_on_the_way(world):
    """Secrets that are broken after preflight has read them end the restore without a word of what they hold."""
    values = world.secret_values()
    world.stack.rds(pace={"copy": 2})
    arn = world.start({}, name="spoilt-1")
    checks.wait_for(lambda: world.calls("rds", action="CopyDBClusterSnapshot"))
    broken = json.dumps(world.seeded.users)[:-2]
    put = world.stack.client("secretsmanager").put_secret_value
    put(SecretId="aurora-restore/dev/app-credentials", SecretString=broken)
    run = world.wait(arn)
    assert (run.status, run.error) == ("FAILED", "SecretInvalid"), run.cause
    checks.check_error(run, "SecretInvalid", "setup-db-users", "app-credentials is not a JSON object", "mend the secret")
    check_nothing_leaks(world, [run], values)

    # Mended, the operation goes on.
    put(SecretId="aurora-restore/dev/app-credentials", SecretString=json.dumps(world.seeded.users))
    again = world.run({"operation_id": "spoilt-1"}, name="spoilt-2")
    assert again.status == "SUCCEEDED", again.cause
    checks.check_logins(world)
    check_nothing_leaks(world, [run, again], values)


def test_the_functions_are_told_names_not_values(world):
    """The environment of every function is what the reference lists: names and places, no credentials but the SDK's own."""
    ours = set(world.stack.environment())
    known = {
        "ENVIRONMENT", "STATE_TABLE_NAME", "AUDIT_TABLE_NAME", "SNS_TOPIC_ARN", "SOURCE_REGION", "TARGET_REGION", "KMS_KEY_ID", "MASTER_SECRET_NAME",
        "APP_SECRET_NAME", "SECRET_CACHE_TTL", "LOG_LEVEL", "SOURCE_CLUSTER_ID", "TARGET_CLUSTER_ID", "MAX_WAIT_SECONDS", "DATABASE_CA_FILE", "PATH",
    }  # fmt: skip
    assert {name for name in ours if not name.startswith("AWS_")} == known
    assert leaks(processes(world), world.secret_values()) == []
