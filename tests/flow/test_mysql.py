"""A restore of an Aurora MySQL cluster: the same state machine and functions, a MariaDB behind the restored cluster."""

from types import SimpleNamespace

import checks
import pytest
import whole
from mysql import PRODUCTION_ACCOUNTS, ask
from test_masking import BUCKET, REQUEST, drop_a_declared_user, kill_after_commit
from test_masking import put as put_scripts
from test_users import put as put_users
from seed import MYSQL

VERIFY = {
    "checks": [{"name": "orders", "database": "app", "query": "SELECT count(*) > 1000 FROM orders"}],
    "freshness": [{"database": "app", "table": "orders", "column": "created_at", "max_age_hours": 1}],
    "row_counts": [{"database": "app", "table": "app.customers", "min": 1000, "max": 1000}],
    "schemas": [{"database": "order_archive"}],
}
LOCKED = ["Bob O'Hara@%", "alice.dba@%", "prod_app@%", "prod_iam@%", "prod_reporting@localhost"]


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


FURTHER = {"reporting": {"username": "Report'er", "password": "reads a little"}, "loader": {"username": "loader", "password": "adds a little"}}


@pytest.mark.seed(engine=MYSQL)
def test_what_mysql_does_not_know_is_refused(world):
    """Users' places and rights, and scripts, held against the engine before anything is touched."""
    put_users(world, FURTHER)
    put_scripts(world, {"masks/app/010-customers.sql": "SELECT 1;\nDELIMITER //", "masks/020-top.sql": "SELECT 1"})
    of_postgresql = {**USERS, "reporting": {**USERS["reporting"], "schemas": ["public"]}}
    words = (
        "users.reporting.schemas: got public; takes nothing for Aurora MySQL, whose schemas are its databases",
        "app/010-customers.sql, line 2: DELIMITER is a command of the mysql client",
        "020-top.sql is in no folder, and the master's secret names no database for it",
    )
    run = world.run({**REQUEST, "users": of_postgresql})
    whole.check_failure(world, run, "InvalidRequest", "Preflight", *words, "nothing was touched", left=("target cluster staging was not touched",))


@pytest.mark.seed(engine=MYSQL)
def test_declared_users_have_what_the_request_says(world):
    """A table that is not there fails the restore before a user is made; mended, the same operation goes on; each user may what it is to."""
    put_users(world, FURTHER)
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
def test_a_second_night(world):
    """The next restore replaces the last one and changes its users anew."""
    first = world.run({}, name="night-1")
    assert first.status == "SUCCEEDED", first.cause
    second = world.run({}, name="night-2")
    assert second.status == "SUCCEEDED", second.cause
    assert second.item["users"]["locked"] == first.item["users"]["locked"] == LOCKED
    assert second.item["replaced"]["final_snapshot_id"] == checks.final_id("night-2")


SCRIPTS = {
    "masks/app/010-customers.sql": "UPDATE customers SET name = 'Customer', email = concat('masked-', id, '@example.org'); SELECT email FROM customers;",
    # Commits at once, and the server knows where the routine ends.
    "masks/app/020-orders.sql": "ALTER TABLE orders ADD COLUMN masked int; UPDATE orders SET masked = 1; CREATE PROCEDURE masked() BEGIN SELECT 1; SELECT 2; END",
    "masks/order_archive/010-orders.sql": "TRUNCATE orders",
}
ORDER = ["app/010-customers.sql", "app/020-orders.sql", "order_archive/010-orders.sql"]


def as_master(world, statement):
    master = world.secret("master-credentials")
    return ask(world.cluster(), world.stack.ca_file, master["username"], master["password"], statement)


def check_nobody_is_let_in(world):
    logins = [(user["username"], user["password"]) for user in world.secret("app-credentials").values()]
    for user, password in [*logins, *((user, password) for (user, _), password in PRODUCTION_ACCOUNTS.items())]:
        refused = ask(world.cluster(), world.stack.ca_file, user, password, "SELECT 1")
        assert "ERROR 1045" in refused or "ERROR 4151" in refused, (user, refused)


@pytest.mark.seed(engine=MYSQL)
def test_scripts_run_before_anybody_gets_in(world):
    """In the order of their names, each once, in the database of its folder; recorded with its checksum; told; shown nowhere."""
    put_scripts(world, SCRIPTS)
    run = world.run({"masking": REQUEST["masking"]}, name="masked-1")
    assert run.status == "SUCCEEDED", run.cause
    state = run.item["masking"]
    assert state["done"] and [(script["name"], script["database"], script["statements"]) for script in state["scripts"]] == [
        (ORDER[0], "app", 2), (ORDER[1], "app", 3), (ORDER[2], "order_archive", 1),
    ]  # fmt: skip
    assert as_user(world, "readonly_user", "SELECT count(*) FROM app.customers WHERE email NOT LIKE 'masked-%'") == [["0"]]
    assert as_user(world, "readonly_user", "SELECT min(masked) FROM app.orders") == [["1"]]
    assert as_master(world, "SHOW DATABASES LIKE 'aurora%'") == [], "nothing of ours stays"
    checks.check_audit(world)
    trail = [(r["action"], r["resource"]) for r in run.audit if r["phase"] == "begun" and r["action"].startswith("database:")]
    assert [action for action, _ in trail[:4]] == ["database:LockLogins", *["database:Mask"] * 3] and [what for _, what in trail[1:4]] == ORDER
    assert "database:ChangeRoles" not in [action for action, _ in trail[:4]], "users come after the last script"
    checks.check_message(world, run.item, "SUCCEEDED", f"Masked by    {', '.join(ORDER)}")
    text = world.stack.log("setup-db-users") + run.history_text
    assert "example.org" not in text and "ADD COLUMN" not in text, "no script is shown anywhere"


@pytest.mark.seed(engine=MYSQL)
def test_a_script_that_fails_keeps_everybody_out(world):
    """Rolled back and mended, it runs again; failed after something of it was committed, it never does on that data: a new operation restores it."""
    put_scripts(world, {"masks/app/010-twice.sql": "UPDATE orders SET id = id + 10000; UPDATE customers SET shoe_size = 1"})
    request = {"masking": REQUEST["masking"], "operation_id": "masked-2"}
    first = world.run(request, name="first")
    words = ("script app/010-twice.sql failed at statement 2", "SQLSTATE 42S22, MySQL error 1054", "only the master can log in")
    whole.check_failure(
        world, first, "DatabaseRejected", "SetupDbUsers", *words, calls=checks.calls_of_a_restore("masked-2", archive=False),
        left=("restored cluster staging (available, accepts logins)",),
    )  # fmt: skip
    check_nobody_is_let_in(world)
    assert as_master(world, "SELECT min(id) FROM app.orders") == [["1"]], "nothing of it has stayed"

    s3 = world.stack.client("s3")
    spoiling = "UPDATE orders SET id = id + 10000; ALTER TABLE orders ADD COLUMN masked int; UPDATE customers SET shoe_size = 1"
    s3.put_object(Bucket=BUCKET, Key="masks/app/010-twice.sql", Body=spoiling.encode())
    second = world.run(request, name="second")
    for words in ("script app/010-twice.sql failed at statement 3", "what it had committed has stayed", "start a new operation"):
        assert second.error == "DatabaseRejected" and words in second.message, second.cause
    s3.put_object(Bucket=BUCKET, Key="masks/app/010-twice.sql", Body=b"UPDATE orders SET id = id + 10000")
    third = world.run(request, name="third")
    assert third.error == "DatabaseRejected" and "was begun in an earlier try and did not end" in third.message, third.cause
    check_nobody_is_let_in(world)
    assert as_master(world, "SELECT min(id) FROM app.orders") == [["10001"]], "not on top of itself"

    fourth = world.run({"masking": REQUEST["masking"]}, name="masked-3")
    assert fourth.status == "SUCCEEDED", fourth.cause
    assert as_user(world, "readonly_user", "SELECT min(id) FROM app.orders") == [["10001"]]


@pytest.mark.seed(engine=MYSQL)
def test_a_user_that_is_declared_no_more_is_told(world):
    """As with PostgreSQL."""
    second = drop_a_declared_user(world, {"masking": REQUEST["masking"]})
    assert second.item["users"]["locked"] == LOCKED
    note = "prod_reporting@localhost was declared before masking, which locked it, and is declared no more: it stays locked"
    assert note in second.item["users"]["notes"]


@pytest.mark.seed(engine=MYSQL)
def test_a_function_killed_after_a_commit_masks_once(world):
    """Killed between the script's commit and its record: the mark in the database says that it has run."""
    put_scripts(world, {"masks/app/010-twice.sql": "UPDATE orders SET id = id + 10000; ALTER TABLE orders ADD COLUMN masked int"})
    kill_after_commit(world, {"masking": REQUEST["masking"]})
    assert as_master(world, "SELECT min(id) FROM app.orders") == [["10001"]], "once"
