"""Users who log in with IAM tokens: no password lets them in any more, verify-restore signs in as them, and who else tries
is refused. The PostgreSQL behind the cluster asks tests/local/tokens.py about every token."""

import datetime
import json

import botocore.auth
import checks
import pytest
import whole
from deeds import ACCOUNT
from postgres import PRODUCTION_LOGINS
from stack import TARGET_REGION
from test_users import put

# One of the contract, whose password in the secret is not read; one that production has a password for; one with any name.
ODD = "Robo't & Söhne"
USERS = {
    "devops_user": {"login": "iam"},
    "reporting": {"profile": "read-only", "login": "iam"},
    "robot": {"profile": "custom", "login": "iam", "databases": ["app"], "grants": [{"on": "tables", "schemas": ["sales"], "privileges": ["select"]}]},
}
FURTHER = {"reporting": {"username": "prod_reporting"}, "robot": {"username": ODD}}


@pytest.fixture(autouse=True)
def needs_ldap(stack):
    if not stack.request("GET", "health")["tokens"]:
        pytest.skip("this PostgreSQL was built without LDAP and cannot ask about tokens")


def token(world, user, region=TARGET_REGION, **other):
    """As a client of another make signs it; the stack's own key says nothing of who it is."""
    where = {"DBHostname": "localhost", "Port": world.cluster()["Port"], "DBUsername": user} | other
    return world.stack.client("rds", region).generate_db_auth_token(Region=region, **where)


def everything(world, run):
    """All that a restore leaves behind for people to read, and the database's own logs."""
    logs = "".join(path.read_text(errors="replace") for path in (world.stack.run_dir / "logs").glob("*.log"))
    kept = [world.items(), world.audit(), world.published(), world.messages(), run.output, world.stack.calls()]
    return logs + run.history_text + json.dumps(kept, default=str)


def check_found(world, run, shown, read_of_robot):
    """What verify-restore found of each user, and whom it asked in whose name; `shown` is how the server calls them."""
    found = {check["name"]: check for check in run.item["verification"]["checks"]}
    for key, user in shown.items():
        assert found[f"login of {key}"]["passed"] and found[f"login of {key}"]["value"] == user
    assert found["read of robot"]["value"] == read_of_robot
    assert found["no write of reporting"]["passed"] and found["no write of robot"]["passed"]
    of_logins = [deed[1:] for deed in world.stack.deeds() if deed[2] == "rds-db:connect"]
    users = f"arn:aws:rds-db:us-west-2:{ACCOUNT}:dbuser:CLUSTER"
    assert of_logins == [["verify-restore", "rds-db:connect", f"{users}/{user}", {}] for user in (ODD, "devops_user", "prod_reporting")]
    declared = {user["key"]: user.get("iam", False) for user in run.item["users"]["declared"]}
    assert declared == {"application_user": False, "readonly_user": False, "devops_user": True, "reporting": True, "robot": True}
    assert f"{ODD} (custom, limited, IAM)" in world.published()[-1]["default"]


def test_tokens_and_nothing_else_let_them_in(world, monkeypatch):
    put(world, FURTHER)
    run = world.run({"users": USERS})
    assert run.status == "SUCCEEDED", run.cause
    checks.check_audit(world)
    checks.check_lock_free(world)
    assert checks.call(world, "RestoreDBClusterFromSnapshot")["EnableIAMDatabaseAuthentication"] == "true"
    assert world.cluster()["IAMDatabaseAuthenticationEnabled"]
    assert "turn on IAM database authentication, with which devops_user, reporting, robot will log in" in run.item["plan"]["summary"]

    check_found(world, run, {"devops_user": "devops_user", "reporting": "prod_reporting", "robot": ODD}, "sales.orders in database app")

    roles = world.roles()
    for user in ("devops_user", "prod_reporting", ODD):
        assert "rds_iam" in roles[user]["member_of"], user
        assert world.login(user, token(world, user)) is None, user
    assert "devops_user" not in roles["master"]["member_of"], "RDS would take no password from the master any more"
    assert "rds_iam" not in roles["app_user"]["member_of"] and "rds_iam" not in roles["prod_iam"]["member_of"]
    assert checks.attempt(world, ODD, token(world, ODD), "SELECT count(*) FROM sales.orders") is None
    assert checks.attempt(world, ODD, token(world, ODD), "DELETE FROM sales.orders WHERE false") == "InsufficientPrivilege"

    # Everything else is refused.
    reporting, secret = "prod_reporting", world.secret("app-credentials")
    good = token(world, reporting)
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    bad = {
        "production's password": PRODUCTION_LOGINS[reporting],
        "another user's token": token(world, "devops_user"),
        "another port": token(world, reporting, Port=world.cluster()["Port"] + 1),
        "another host": token(world, reporting, DBHostname="localhost.example"),
        "another Region": token(world, reporting, region="us-east-1"),
        "another signature": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "another user after it was signed": token(world, "devops_user").replace("DBUser=devops_user", f"DBUser={reporting}"),
        "longer than it was signed for": good.replace("X-Amz-Expires=900", "X-Amz-Expires=899"),
        "for a week": good.replace("X-Amz-Expires=900", "X-Amz-Expires=604800"),
    }
    for what, minutes in (("too old", -16), ("from the future", 6)):
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda minutes=minutes: now + datetime.timedelta(minutes=minutes))
        bad[what] = token(world, reporting)
    monkeypatch.undo()
    for what, text in bad.items():
        assert world.login(reporting, text) == 'LDAP authentication failed for user "prod_reporting"', what
    assert world.login("devops_user", secret["devops_user"]["password"]) is not None, "a password in the secret is not set"
    assert world.login("app_user", token(world, "app_user")) is not None, "who has a password takes no token"
    assert world.login("app_user", secret["application_user"]["password"]) is None
    assert world.login("prod_iam", token(world, "prod_iam")) is not None, "production's own token user is locked"

    assert not any(word in everything(world, run) for word in ("X-Amz-Credential", "X-Amz-Signature", "Action=connect"))


def test_a_right_that_is_missing_fails_the_verification(world):
    """IAM decides at the login; the check says which right it takes. With it, the same operation goes on."""
    put(world, FURTHER)
    world.stack.rds(deny_tokens_of=["prod_reporting"])
    request = {"operation_id": "iam-1", "users": USERS}
    first = world.run(request, name="first")
    words = ("3 of ", "login of reporting", "refused the login of prod_reporting (SQLSTATE 28000)", "takes rds-db:connect for this user")
    calls = checks.calls_of_a_restore("iam-1", archive=False)
    left = ("restored cluster staging (available, accepts logins)",)
    whole.check_failure(world, first, "VerificationFailed", "VerifyRestore", *words, calls=calls, left=left)
    world.stack.rds(deny_tokens_of=[])
    second = world.run(request, name="second")
    assert second.status == "SUCCEEDED", second.cause
    assert second.item["users"]["changes"] == [], "what was done is not done again"


def test_a_cluster_that_was_planned_without_tokens_gets_none(world):
    """`users` may be mended within an operation, and the cluster's settings may not."""
    first = world.run({"operation_id": "iam-2", "users": {"application_user": {"databases": ["nowhere"]}}}, name="first")
    assert (first.status, first.error) == ("FAILED", "InvalidRequest")
    put(world, FURTHER)
    second = world.run({"operation_id": "iam-2", "users": USERS}, name="second")
    assert (second.status, second.error) == ("FAILED", "InvalidRequest")
    assert "users: got login 'iam' for devops_user, reporting, robot; takes 'password' in this operation" in second.message
    assert second.states[0] == "Preflight" and "SetupDbUsers" not in second.states
