"""Users who log in with IAM tokens, on Aurora MySQL: what test_iam.py shows of PostgreSQL, and one way of login and back. The
MariaDB behind the cluster has a plugin of the name of RDS's, which has tests/local/tokens.py look at every token."""

import checks
import pytest
import test_iam
import whole
from mysql import PRODUCTION_ACCOUNTS, ask
from seed import MYSQL
from test_iam import ODD, check_found, everything, put, token

pytestmark = pytest.mark.seed(engine=MYSQL)

# As there, but for the rights of one; production's prod_reporting is from one host only.
USERS = {
    **test_iam.USERS,
    "robot": {"profile": "custom", "login": "iam", "databases": ["app"], "grants": [{"on": "tables", "tables": ["orders"], "privileges": ["select"]}]},
}
REPORTING = {"username": "prod_reporting", "password": "a declared password"}
FURTHER = {"reporting": REPORTING, "robot": {"username": ODD}}
TOKENS = "let {} log in with IAM tokens and no password"


def answer(world, user, proof, statement="SELECT 1"):
    return ask(world.cluster(), world.stack.ca_file, user, proof, statement)


def is_refused(world, user, proof):
    said = answer(world, user, proof)
    return "ERROR 1045" in said or "ERROR 4151" in said


def test_tokens_and_nothing_else_let_them_in(world):
    put(world, FURTHER)
    run = world.run({"users": USERS})
    assert run.status == "SUCCEEDED", run.cause
    checks.check_audit(world)
    checks.check_lock_free(world)
    assert checks.call(world, "RestoreDBClusterFromSnapshot")["EnableIAMDatabaseAuthentication"] == "true"
    assert "turn on IAM database authentication, with which devops_user, reporting, robot will log in" in run.item["plan"]["summary"]

    shown = {"devops_user": "devops_user@%", "reporting": "prod_reporting@localhost", "robot": f"{ODD}@%"}
    check_found(world, run, shown, "orders in database app")
    for change in ("create the user devops_user@%, who logs in with IAM tokens", TOKENS.format("prod_reporting@localhost")):
        assert change in run.item["users"]["changes"]
    assert "prod_iam@%" in run.item["users"]["locked"]

    for user in ("devops_user", "prod_reporting", ODD):
        assert answer(world, user, token(world, user)) == [["1"]], user
    assert answer(world, ODD, token(world, ODD), "SELECT count(*) FROM app.orders") == [["2000"]]
    assert "ERROR 1142" in answer(world, ODD, token(world, ODD), "DELETE FROM app.orders WHERE false")

    # Everything else is refused; why a token is, test_iam.py and tests/local/test_tokens.py show in full.
    reporting, secret = "prod_reporting", world.secret("app-credentials")
    good = token(world, reporting)
    bad = {
        "production's password": PRODUCTION_ACCOUNTS[reporting, "localhost"],
        "the secret's": REPORTING["password"],
        "another user's token": token(world, "devops_user"),
        "another port": token(world, reporting, Port=world.cluster()["Port"] + 1),
        "another Region": token(world, reporting, region="us-east-1"),
        "another signature": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "longer than it was signed for": good.replace("X-Amz-Expires=900", "X-Amz-Expires=899"),
    }
    for what, text in bad.items():
        assert is_refused(world, reporting, text), what
    assert is_refused(world, "devops_user", secret["devops_user"]["password"]), "a password in the secret is not set"
    assert is_refused(world, "app_user", token(world, "app_user")), "who has a password takes no token"
    assert answer(world, "app_user", secret["application_user"]["password"]) == [["1"]]
    assert is_refused(world, "prod_iam", token(world, "prod_iam")), "production's own token user is locked"

    texts = everything(world, run)
    assert "ready for connections" in texts, "the database's own log is among them"
    assert not any(word in texts for word in ("X-Amz-Credential", "X-Amz-Signature", "Action=connect"))


def test_one_way_of_login_and_back(world):
    """IAM refuses one login, and between the tries of one operation the users change their ways; what was done is not done again."""
    put(world, FURTHER)
    world.stack.rds(deny_tokens_of=["prod_reporting"])
    first = world.run({"operation_id": "iam-1", "users": USERS}, name="first")
    words = ("3 of ", "login of reporting", "refused the login of prod_reporting (SQLSTATE 28000, MySQL error 1045)", "takes rds-db:connect for this user")
    calls = checks.calls_of_a_restore("iam-1", archive=False)
    left = ("restored cluster staging (available, accepts logins)",)
    whole.check_failure(world, first, "VerificationFailed", "VerifyRestore", *words, calls=calls, left=left)

    # Meanwhile devops is to have a password.
    by_password = {**USERS, "devops_user": {}}
    second = world.run({"operation_id": "iam-1", "users": by_password}, name="second")
    assert second.error == "VerificationFailed" and "3 of " in second.message, second.cause
    assert second.item["users"]["changes"] == ["set the password of devops_user@%"]
    assert is_refused(world, "devops_user", token(world, "devops_user"))
    assert answer(world, "devops_user", world.secret("app-credentials")["devops_user"]["password"]) == [["1"]]

    world.stack.rds(deny_tokens_of=[])
    third = world.run({"operation_id": "iam-1", "users": by_password}, name="third")
    assert third.status == "SUCCEEDED", third.cause
    assert third.item["users"]["changes"] == []
    assert answer(world, "prod_reporting", token(world, "prod_reporting")) == [["1"]]
