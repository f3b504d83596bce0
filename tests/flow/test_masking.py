"""Personal data is made unrecognisable before any declared user can log in; if that fails, nobody gets in."""

import checks
import pytest
import whole
from postgres import PRODUCTION_LOGINS
from test_users import put as put_users

BUCKET = "masking-scripts"
SCRIPTS = {
    "masks/app/010-customers.sql": "UPDATE public.customers SET name = 'Customer', email = 'masked-' || id || '@example.org'; ANALYZE public.customers; DO $$ BEGIN RAISE WARNING 'somebody@example.org'; END $$;",
    "masks/app/020-employees.sql": "UPDATE hr.employees SET full_name = 'E', email = 'e@example.org', phone = NULL, salary = 0",
    "masks/analytics/010-counts.sql": "DELETE FROM reports.daily_active_users WHERE users < 1001",
    "masks/README.md": "no script",
}
ORDER = ["analytics/010-counts.sql", "app/010-customers.sql", "app/020-employees.sql"]
REQUEST = {"masking": {"scripts": f"s3://{BUCKET}/masks/"}, "verify": {"schemas": [{"database": "app"}]}}


def put(world, scripts):
    s3 = world.stack.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    for key, text in scripts.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())


def count(world, query):
    (row,) = world.query(f"SELECT {query}")
    (value,) = row.values()
    return value


def unmasked(world):
    return count(world, "count(*) FROM public.customers WHERE email NOT LIKE 'masked-%'")


def kill_after_commit(world, request):
    """A restore whose function is killed between its one script's commit and its record; the next takes the mark's word for it."""
    # The writes before: the step begun and claimed, the logins' lock announced and done, the script claimed and announced.
    world.stack.fault(service="dynamodb", action="TransactWriteItems", caller="setup-db-users", delay=3, skip=6)
    arn = world.start(request, name="killed-mask")
    checks.wait_for(lambda: any(r["action"] == "database:Mask" and r["phase"] == "finished" for r in world.audit("killed-mask")), 60)
    world.stack.kill_function("setup-db-users")
    run = world.wait(arn)
    assert run.status == "SUCCEEDED", run.cause
    (script,) = run.item["masking"]["scripts"]
    assert "statements" not in script or script["statements"] is None, "an earlier function ran it"


def drop_a_declared_user(world, request):
    """A restore that fails in its script, after which a user of production's is declared no more."""
    put(world, {"masks/app/010-broken.sql": "SELECT nothing"})
    put_users(world, {"reporting": {"username": "prod_reporting", "password": "a declared password"}})
    request = {**request, "operation_id": "masked-8"}
    first = world.run({**request, "users": {"reporting": {"profile": "read-only"}}}, name="first")
    assert first.error == "DatabaseRejected", first.cause
    put_users(world, {"reporting": None})
    world.stack.client("s3").put_object(Bucket=BUCKET, Key="masks/app/010-broken.sql", Body=b"SELECT 1")
    second = world.run(request, name="second")
    assert second.status == "SUCCEEDED", second.cause
    return second


def test_scripts_run_before_anybody_gets_in(world):
    """In the order of their names, each once, in the database of its folder; recorded with its checksum; told."""
    put(world, SCRIPTS)
    run = world.run(REQUEST, name="masked-1")
    checks.check_execution(run, checks.HAPPY)
    state = run.item["masking"]
    assert state["done"] and [script["name"] for script in state["scripts"]] == ORDER
    assert [(script["database"], script["statements"]) for script in state["scripts"]] == [("analytics", 1), ("app", 3), ("app", 1)]
    assert unmasked(world) == 0
    checks.check_audit(world)
    trail = [(r["action"], r["resource"]) for r in run.audit if r["phase"] == "begun" and r["action"].startswith("database:")]
    assert [action for action, _ in trail[:4]] == ["database:LockLogins", *["database:Mask"] * 3] and [what for _, what in trail[1:4]] == ORDER
    assert "database:ChangeRoles" not in [action for action, _ in trail[:4]], "users come after the last script"
    whole.check_restored_item(world, run, "staging", True, True, [], None)
    checks.check_logins(world)
    checks.check_message(world, run.item, "SUCCEEDED", f"Masked by    {', '.join(ORDER)}")
    text = world.stack.log("setup-db-users") + run.history_text
    assert "example.org" not in text and "full_name" not in text, "no script is shown anywhere"


def test_a_script_that_fails_keeps_everybody_out(world):
    """Named with file, statement and SQLSTATE; nothing of it stays, the ones before do; mended, the same operation goes on with it."""
    broken = {**SCRIPTS, "masks/app/020-employees.sql": "UPDATE hr.employees SET salary = 0; UPDATE hr.employees SET shoe_size = 1"}
    put(world, broken)
    first = world.run({**REQUEST, "operation_id": "masked-2"}, name="first")
    left = ("restored cluster staging (available, accepts logins)",)
    words = ("script app/020-employees.sql failed at statement 2", "SQLSTATE 42703", "only the master can log in")
    calls = checks.calls_of_a_restore("masked-2", archive=False)
    whole.check_failure(world, first, "DatabaseRejected", "SetupDbUsers", *words, calls=calls, left=left)
    assert [script["name"] for script in first.item["masking"]["scripts"]] == ORDER[:2] and not first.item["masking"]["done"]
    logins = [(user["username"], user["password"]) for user in world.secret("app-credentials").values()]
    for user, password in [*logins, *PRODUCTION_LOGINS.items()]:
        assert world.login(user, password) is not None, f"{user} is kept out"
    assert count(world, "count(*) FROM hr.employees WHERE salary = 0") == 0

    world.stack.client("s3").put_object(Bucket=BUCKET, Key="masks/app/020-employees.sql", Body=SCRIPTS["masks/app/020-employees.sql"].encode())
    second = world.run({**REQUEST, "operation_id": "masked-2"}, name="second")
    assert second.status == "SUCCEEDED", second.cause
    ran = [record["resource"] for record in second.audit if record["action"] == "database:Mask" and record["phase"] == "begun"]
    assert ran == [*ORDER, ORDER[2]], "what had run did not run again"
    assert unmasked(world) == 0
    checks.check_logins(world)


def test_a_user_that_is_declared_no_more_is_told(world):
    """Locked before a script that fails and, once mended, not declared: it stays locked as production's other logins, and is told like them."""
    second = drop_a_declared_user(world, REQUEST)
    assert second.item["users"]["locked"] == checks.INHERITED
    note = "prod_reporting was declared before masking, which locked it, and is declared no more: it stays locked"
    assert note in second.item["users"]["notes"]
    told = world.published()[-1]["default"]
    assert f"Locked       {', '.join(checks.INHERITED)}" in told and note in told
    checks.check_logins(world)


def test_a_function_killed_after_a_commit_masks_once(world):
    """Killed between the script's commit and its record: the mark in the database says that it has run."""
    put(world, {"masks/app/010-twice.sql": "UPDATE hr.employees SET salary = salary * 2"})
    kill_after_commit(world, REQUEST)
    assert count(world, "salary FROM hr.employees WHERE id = 1") == 2 * (40000 + 111), "doubled once"


def test_a_script_that_commits_never_runs_again(world):
    """What it left makes the data unfit: the operation is refused until a new one restores it as it was."""
    twice = "UPDATE hr.employees SET salary = salary * 2; COMMIT; SELECT nothing"
    put(world, {"masks/app/010-twice.sql": twice})
    request = {**REQUEST, "operation_id": "masked-4"}
    first = world.run(request, name="first")
    assert first.error == "DatabaseRejected", first.cause
    for words in ("script app/010-twice.sql ended its transaction itself: part of it has stayed", "statement 3 failed", "start a new operation"):
        assert words in first.message, words
    world.stack.client("s3").put_object(Bucket=BUCKET, Key="masks/app/010-twice.sql", Body=twice.replace("COMMIT; SELECT nothing", "").encode())
    second = world.run(request, name="second")
    assert second.error == "DatabaseRejected" and "in an earlier try: part of it has stayed" in second.message, second.cause
    assert count(world, "salary FROM hr.employees WHERE id = 1") == 2 * (40000 + 111), "not on top of itself"
    third = world.run({**REQUEST, "operation_id": "masked-5"}, name="third")
    assert third.status == "SUCCEEDED", third.cause
    assert count(world, "salary FROM hr.employees WHERE id = 1") == 2 * (40000 + 111)


def test_masking_is_part_of_the_plan(world):
    """An operation that began with masking does not go on without it, nor without its scripts."""
    put(world, SCRIPTS)
    request = {**REQUEST, "operation_id": "masked-6", "verify": {"checks": [{"name": "no", "query": "SELECT false"}]}}
    assert world.run(request, name="first").error == "VerificationFailed"
    before = world.rds_calls()
    second = world.run({"operation_id": "masked-6"}, name="second")
    assert second.error == "InvalidRequest" and "not masking" in second.message, second.cause
    for key in SCRIPTS:
        world.stack.client("s3").delete_object(Bucket=BUCKET, Key=key)
    third = world.run(request, name="third")
    assert third.error == "InvalidRequest" and f"s3://{BUCKET}/masks/ holds no .sql file" in third.message, third.cause
    assert world.rds_calls() == before, "nothing was touched"


def test_another_cluster_is_masked_again(world):
    """The restored cluster is deleted by somebody, restored again, and the answer of that call is lost: its data is production's."""
    put(world, SCRIPTS)
    request = {**REQUEST, "operation_id": "masked-7", "verify": {"checks": [{"name": "no", "query": "SELECT false"}]}}
    assert world.run(request, name="first").error == "VerificationFailed"
    rds = world.stack.client("rds")
    rds.modify_db_cluster(DBClusterIdentifier="staging", DeletionProtection=False)
    for instance in world.instances():
        rds.delete_db_instance(DBInstanceIdentifier=instance["DBInstanceIdentifier"])
    rds.delete_db_cluster(DBClusterIdentifier="staging", SkipFinalSnapshot=True)
    checks.wait_for(lambda: world.cluster() is None)
    world.stack.fault(service="rds", action="RestoreDBClusterFromSnapshot", delay=3)
    arn = world.start({**request, "verify": {}}, name="second")
    checks.wait_for(lambda: world.cluster() is not None)
    world.stack.kill_function("restore-cluster")
    second = world.wait(arn)
    assert second.status == "SUCCEEDED", second.cause
    ran = [record["resource"] for record in second.audit if record["action"] == "database:Mask" and record["phase"] == "begun"]
    assert ran == ORDER * 2 and unmasked(world) == 0, "all of it again"


def test_a_script_added_later_closes_the_database_again(world):
    """After a failed verification users are there already; a script that is added for the next try runs with all of them out."""
    put(world, SCRIPTS)
    request = {**REQUEST, "operation_id": "masked-3", "verify": {"checks": [{"name": "no", "query": "SELECT false"}]}}
    assert world.run(request, name="first").error == "VerificationFailed"
    user = world.secret("app-credentials")["application_user"]
    assert world.login(user["username"], user["password"]) is None
    world.stack.client("s3").put_object(Bucket=BUCKET, Key="masks/app/030-more.sql", Body=b"SELECT nothing")
    second = world.run(request, name="second")
    assert second.error == "DatabaseRejected" and "script app/030-more.sql failed at statement 1" in second.message, second.cause
    assert world.login(user["username"], user["password"]) is not None
    assert not second.item["masking"]["done"] and [script["name"] for script in second.item["masking"]["scripts"]] == ORDER


def test_a_script_without_a_database(world):
    """RDS's own secret names no database: a script at the top would run where nothing is."""
    put(world, {"masks/010-top.sql": "SELECT 1"})
    run = world.run({**REQUEST, "manage_master_user_password": True}, name="top")
    words = ("010-top.sql is in no folder", "takes DATABASE/010-top.sql")
    whole.check_failure(world, run, "InvalidRequest", "Preflight", *words, left=("target cluster staging was not touched",))


@pytest.mark.parametrize(
    ("scripts", "words"),
    [
        ({"masks/README.md": "x"}, ("masking.scripts: s3://masking-scripts/masks/ holds no .sql file",)),
        ({"masks/app/1.sql": "\udcff"}, ("app/1.sql is not UTF-8",)),
    ],
)
def test_what_is_no_script(world, scripts, words):
    """A mistake in where the scripts are is found before anything is touched."""
    put(world, {})
    for key, text in scripts.items():
        world.stack.client("s3").put_object(Bucket=BUCKET, Key=key, Body=text.encode("utf-8", "surrogateescape"))
    run = world.run(REQUEST, name="no-scripts")
    whole.check_failure(world, run, "InvalidRequest", "Preflight", *words, left=("target cluster staging was not touched",))


def test_a_bucket_that_is_not_there(world):
    """Said by preflight, with the bucket's name."""
    run = world.run(REQUEST, name="no-bucket")
    whole.check_failure(world, run, "InvalidRequest", "Preflight", f"s3:ListBucket for {BUCKET}/masks/", "NoSuchBucket", left=("target cluster staging was not touched",))
