"""Users besides the three of the contract: what the request declares, with the secret's passwords, and not one right more."""

import json

import checks
import psycopg
import pytest
import whole
from postgres import PRODUCTION_LOGINS

FURTHER = {
    "reporting": {"username": "Report'er", "password": "reads a little"},
    "loader": {"username": "loader", "password": "adds a little"},
}
USERS = {
    "reporting": {"profile": "read-only", "databases": ["app"], "schemas": ["sales", "public"]},
    "loader": {
        "profile": "custom", "databases": ["app", "analytics"],
        "grants": [{"on": "tables", "schemas": ["reports"], "privileges": ["insert"]}, {"on": "tables", "schemas": ["hr"], "privileges": ["select"]}],
    },
    "application_user": {"databases": ["app"]},
}  # fmt: skip


def put(world, users):
    """Into the secret, beside who is there; None takes a user out."""
    secret = {key: user for key, user in {**world.secret("app-credentials"), **users}.items() if user}
    world.stack.client("secretsmanager").put_secret_value(SecretId="aurora-restore/dev/app-credentials", SecretString=json.dumps(secret))


def test_request_and_secret_that_name_other_users_are_refused(world):
    """A declared user without a password and a password without a declaration: both told, nothing touched."""
    put(world, {"spare": {"username": "spare", "password": "nobody's"}, "loader": FURTHER["loader"]})
    before = checks.look(world, "us-west-2")
    run = world.run({"users": USERS})
    words = ("lacks the user 'reporting', which the request declares", "holds 'spare'", "nothing was touched")
    whole.check_failure(world, run, "InvalidRequest", "Preflight", *words, left=("target cluster staging was not touched",))
    checks.check_untouched(before, checks.look(world, "us-west-2"))


def test_declared_users_have_what_the_request_says(world):
    """A place that is not there fails the restore before a user is made; mended, the same operation goes on; each user may what it is to."""
    put(world, FURTHER)
    mistyped = {**USERS, "reporting": {**USERS["reporting"], "databases": ["application"]}}
    first = world.run({"operation_id": "users-1", "users": mistyped}, name="first")
    words = ("users.reporting.databases: got 'application'; takes databases that can be connected to: analytics, app, postgres", "mend 'users'")
    left = ("restored cluster staging (available, accepts logins)",)
    whole.check_failure(world, first, "InvalidRequest", "SetupDbUsers", *words, calls=checks.calls_of_a_restore("users-1", archive=False), left=left)
    assert not {"loader", "Report'er", "app_user"} & set(world.roles()), "nobody was made"

    second = world.run({"operation_id": "users-1", "users": USERS}, name="second")
    assert second.status == "SUCCEEDED", second.cause
    checks.check_audit(world)
    checks.check_roles(world)
    declared = {user["role"]: (user["profile"], user.get("limited", False)) for user in second.item["users"]["declared"]}
    assert declared == {
        "app_user": ("read-write", True), "readonly_user": ("read-only", False), "devops_user": ("devops", False),
        "Report'er": ("read-only", True), "loader": ("custom", True),
    }  # fmt: skip
    assert "everybody may connect to database postgres, app_user, loader, Report'er too: that cannot be taken from one role" in second.item["users"]["notes"]

    app, report, loader = world.secret("app-credentials")["application_user"], FURTHER["reporting"], FURTHER["loader"]
    for user, database, statement, works in [
        (report, "app", "SELECT count(*) FROM sales.orders", True),
        (report, "app", "SELECT count(*) FROM hr.employees", False),
        (report, "app", "UPDATE public.settings SET value = value", False),
        (report, "analytics", "SELECT * FROM reports.last_week", None),
        (loader, "app", "SELECT count(*) FROM hr.employees", True),
        (loader, "app", "SELECT count(*) FROM sales.orders", False),
        (loader, "app", "UPDATE hr.employees SET salary = 0", False),
        (loader, "analytics", "INSERT INTO reports.daily_active_users VALUES ('2001-01-01', 1)", True),
        (loader, "analytics", "SELECT * FROM reports.last_week", False),
        (app, "app", "UPDATE public.settings SET value = value", True),
        (app, "analytics", "SELECT * FROM reports.last_week", None),
    ]:
        refused = checks.attempt(world, user["username"], user["password"], statement, database)
        # None: it is not even let in, since everybody is not.
        words = {True: lambda: refused is None, False: lambda: refused == "InsufficientPrivilege", None: lambda: "CONNECT" in (refused or "")}
        assert words[works](), f"{user['username']} in {database}: {statement}: {refused}"
    for user, password in PRODUCTION_LOGINS.items():
        assert world.login(user, password) is not None, f"production's {user} still logs in"

    found = {check["name"]: check for check in second.item["verification"]["checks"]}
    assert found["login of reporting"]["passed"] and found["login of loader"]["passed"]
    assert found["read of reporting"]["value"] == "public.customers in database app" and found["read of loader"]["value"] == "hr.employees in database app"
    assert found["no write of reporting"]["passed"] and "no write of loader" not in found
    told = world.published()[-1]["default"]
    assert "Report'er (read-only, limited)" in told and "loader (custom, limited)" in told
    everything = json.dumps(world.published()) + second.history_text + world.logs() + json.dumps(world.items(), default=str) + json.dumps(world.audit(), default=str)
    assert not any(password in everything for password in ("reads a little", "adds a little"))


def test_a_session_of_productions_master_ends(world):
    """Opened with the password that the snapshot brought, before it was reset: nobody stays in with it."""
    world.stack.rds(pace={"master_password": 3})
    request = {"operation_id": "users-2", "verify": {"checks": [{"name": "no", "query": "SELECT false"}]}}
    arn = world.start(request, name="first")
    held = []

    def is_in():
        try:
            held.append(world.connect("master", PRODUCTION_LOGINS["master"]))
        except (psycopg.Error, TypeError, KeyError):  # no cluster yet, no server yet
            return False
        return True

    checks.wait_for(is_in, 60)
    first = world.wait(arn)
    assert first.error == "VerificationFailed", first.cause
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        held[0].execute("SELECT 1")

    # A person with the new password, who looks into what failed, stays.
    with world.connect("master", world.secret("master-credentials")["password"]) as person:
        second = world.run({**request, "verify": {}}, name="second")
        assert second.status == "SUCCEEDED", second.cause
        assert person.execute("SELECT 1").fetchone() == (1,)
    ended = [r["detail"] for r in second.audit if r["action"] == "database:EndSessions" and r["phase"] == "begun"]
    assert ended == [["end the sessions of master"]]
    checks.check_audit(world)
