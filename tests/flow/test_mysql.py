"""A restore of an Aurora MySQL cluster: the same state machine and functions, a MariaDB behind the restored cluster."""

from types import SimpleNamespace

import checks
import pytest
import whole
from mysql import PRODUCTION_ACCOUNTS, ask
from test_users import put as put_users
from seed import MYSQL

VERIFY = {
    "checks": [{"name": "orders", "database": "app", "query": "SELECT count(*) > 1000 FROM orders"}],
    "freshness": [{"database": "app", "table": "orders", "column": "created_at", "max_age_hours": 1}],
    "row_counts": [{"database": "app", "table": "app.customers", "min": 1000, "max": 1000}],
    "schemas": [{"database": "order_archive"}],
}
LOCKED = ["Bob O'Hara@%", "alice.dba@%", "prod_app@%", "prod_reporting@localhost"]


@pytest.fixture(scope="module")
def done(scene):
    world = scene(engine=MYSQL)
    return SimpleNamespace(world=world, run=world.run({"verify": VERIFY}, name="mysql-1"))


def as_user(world, kind, statement):
    user = world.secret("app-credentials")[kind]
    return ask(world.cluster(), world.stack.ca_file, user["username"], user["password"], statement)


def test_the_restore_succeeds_on_every_side(done):
    """Execution, state item, audit trail, RDS calls, message and lock are those of a restore that went well."""
    world, run = done.world, done.run
    checks.check_execution(run, checks.HAPPY)
    checks.check_item(world, run, "succeeded", checks.HAPPY)
    checks.check_audit(world)
    checks.check_lock_free(world)
    assert checks.made(world) == checks.calls_of_a_restore(run.operation_id)
    assert checks.call(world, "RestoreDBClusterFromSnapshot")["Engine"] == "aurora-mysql"
    assert {call["parameters"]["Engine"] for call in world.calls("rds", action="CreateDBInstance")} == {"aurora-mysql"}
    users = run.item["users"]
    assert {user["role"]: user["profile"] for user in users["declared"]} == checks.DECLARED
    assert (users["locked"], users["left"], users["databases"]) == (LOCKED, [], ["app", "order_archive"])
    found = {check["name"]: check["passed"] for check in run.item["verification"]["checks"]}
    assert all(found.values()) and {"orders", "rows of app.customers", "schema of order_archive", "no write of readonly_user"} <= set(found)
    body = checks.check_message(world, run.item, "SUCCEEDED", "Cluster staging was restored and verified.", f"Locked       {', '.join(LOCKED)}")
    assert body["snapshot"]["id"] == world.seeded.snapshots["automated"]


def test_the_right_people_get_in_and_nobody_else(done):
    """Declared users with their rights; production's passwords, the shadowing account's and the master's among them, no more."""
    world, cluster = done.world, done.world.cluster()
    for (user, _), password in PRODUCTION_ACCOUNTS.items():
        refused = ask(cluster, world.stack.ca_file, user, password, "SELECT 1")
        assert "ERROR 1045" in refused or "ERROR 4151" in refused, (user, refused)
    master = world.secret("master-credentials")
    assert ask(cluster, world.stack.ca_file, master["username"], master["password"], "SELECT 1") == [["1"]]
    for kind in ("application_user", "readonly_user", "devops_user"):
        assert as_user(world, kind, "SELECT count(*) FROM app.customers") == [["1000"]], kind
    assert as_user(world, "application_user", "UPDATE app.customers SET name = name WHERE id = 1") == []
    assert "ERROR 1142" in as_user(world, "readonly_user", "UPDATE app.customers SET name = name WHERE id = 1")
    assert "ERROR 1142" in as_user(world, "application_user", "CREATE TABLE app.more (x int)")
    assert as_user(world, "devops_user", "CREATE TABLE app.more (x int)") == []
    assert as_user(world, "readonly_user", "SELECT * FROM app.more") == []
    # The server is who it should be, or nothing is said to it.
    assert "TLS" in as_user(world, "readonly_user", "SHOW STATUS LIKE 'Ssl_version'")[0][1]


def test_nothing_shows_a_secret(done):
    """State, audit trail, message, history and the functions' logs."""
    world, run = done.world, done.run
    values = [world.secret("master-credentials")["password"], *PRODUCTION_ACCOUNTS.values()]
    values += [user["password"] for user in world.secret("app-credentials").values()]
    places = {"item": run.item, "audit": run.audit, "history": run.events, "published": world.published()}
    texts = {name: str(thing) for name, thing in places.items()}
    texts |= {f"log of {step}": world.stack.log(step) for step in checks.STEP_OF_STATE.values()}
    texts["log of the server"] = (world.stack.run_dir / "logs" / "mysql-staging.log").read_text()
    for place, text in texts.items():
        for value in values:
            assert value not in text and repr(value)[1:-1] not in text, place


USERS = {
    "reporting": {"profile": "read-only", "databases": ["order_archive"]},
    "loader": {
        "profile": "custom", "databases": ["app"],
        "grants": [{"on": "tables", "tables": ["orders"], "privileges": ["select", "insert"]}, {"on": "databases", "privileges": ["lock tables"]}],
    },
}  # fmt: skip


@pytest.mark.seed(engine=MYSQL)
def test_declared_users_have_what_the_request_says(world):
    """What MySQL does not know is refused before anything is touched; a table that is not there before a user is made; each user may what it is to."""
    put_users(world, {"reporting": {"username": "Report'er", "password": "reads a little"}, "loader": {"username": "loader", "password": "adds a little"}})
    of_postgresql = {**USERS, "reporting": {**USERS["reporting"], "schemas": ["public"]}}
    words = ("users.reporting.schemas: got public; takes nothing for Aurora MySQL, whose schemas are its databases", "nothing was touched")
    whole.check_failure(world, world.run({"users": of_postgresql}), "InvalidRequest", "Preflight", *words, left=("target cluster staging was not touched",))

    grants = [{"on": "tables", "tables": ["oders"], "privileges": ["select"]}]
    mistyped = {**USERS, "loader": {**USERS["loader"], "grants": grants}}
    first = world.run({"operation_id": "users-1", "users": mistyped}, name="first")
    words = ("users.loader.grants[0].tables: got 'oders'; takes tables that one of its databases has", "mend 'users'")
    left = ("restored cluster staging (available, accepts logins)",)
    whole.check_failure(world, first, "InvalidRequest", "SetupDbUsers", *words, calls=checks.calls_of_a_restore("users-1", archive=False), left=left)

    second = world.run({"operation_id": "users-1", "users": USERS}, name="second")
    assert second.status == "SUCCEEDED", second.cause
    declared = {user["role"]: (user["profile"], user.get("limited", False)) for user in second.item["users"]["declared"]}
    assert declared["Report'er"] == ("read-only", True) and declared["loader"] == ("custom", True)
    for kind, statement, refused in [
        ("reporting", "SELECT count(*) FROM order_archive.orders", None),
        ("reporting", "SELECT count(*) FROM app.orders", "ERROR 1142"),
        ("reporting", "DELETE FROM order_archive.orders", "ERROR 1142"),
        ("loader", "LOCK TABLES app.orders READ", None),
        ("loader", "INSERT INTO app.orders (customer, created_at) VALUES (1, utc_timestamp())", None),
        ("loader", "DELETE FROM app.orders", "ERROR 1142"),
        ("loader", "SELECT count(*) FROM app.customers", "ERROR 1142"),
        ("loader", "SELECT count(*) FROM order_archive.orders", "ERROR 1142"),
    ]:
        answer = as_user(world, kind, statement)
        assert isinstance(answer, list) if refused is None else refused in answer, (kind, statement, answer)
    found = {check["name"]: check for check in second.item["verification"]["checks"]}
    assert found["read of reporting"]["value"] == "orders in database order_archive" and found["read of loader"]["value"] == "orders in database app"
    assert found["no write of reporting"]["passed"] and "no write of loader" not in found


@pytest.mark.seed(engine=MYSQL)
def test_a_second_night_and_what_is_refused(world):
    """Masking is refused before anything is touched; the next restore replaces the last one and changes its users anew."""
    refused = world.run({"masking": {"scripts": "s3://masking-scripts/masks/"}}, name="masked")
    whole.check_failure(world, refused, "InvalidRequest", "Preflight", "masking: takes an Aurora PostgreSQL cluster")
    first = world.run({}, name="night-1")
    assert first.status == "SUCCEEDED", first.cause
    second = world.run({}, name="night-2")
    assert second.status == "SUCCEEDED", second.cause
    assert second.item["users"]["locked"] == first.item["users"]["locked"] == LOCKED
    assert second.item["replaced"]["final_snapshot_id"] == checks.final_id("night-2")
