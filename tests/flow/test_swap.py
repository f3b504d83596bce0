"""A restore beside the living target: names swapped, the former cluster deleted later; and what becomes of it when the new one does
not answer, or the plug is pulled half-way."""

import threading
import time
from types import SimpleNamespace

import checks
import pytest
import whole
from test_iam import FURTHER, USERS, put

SWAP = {"replacement": "swap", "swap": {"grace_period_minutes": 0}}


def new_id(operation_id):
    return f"staging-new-{checks.short(operation_id)}"


def old_id(operation_id):
    return f"staging-old-{checks.short(operation_id)}"


def calls_of_a_swap(operation_id, *, removed=()):
    """The mutating RDS calls, nothing else and in this order."""
    new, old = new_id(operation_id), old_id(operation_id)
    calls = [("copy-snapshot", "CopyDBClusterSnapshot", checks.copy_id(operation_id)), ("restore-cluster", "RestoreDBClusterFromSnapshot", new)]
    calls += [("check-restore", "CreateDBInstance", f"{new}-{number}") for number in (1, 2)] + [("check-restore", "ModifyDBCluster", new)]
    calls += [("swap-cluster", "ModifyDBInstance", name) for name in ("staging-2", "staging-1", f"{new}-2", f"{new}-1")]
    calls += [("swap-cluster", "ModifyDBCluster", "staging"), ("swap-cluster", "ModifyDBCluster", new), ("retire-cluster", "ModifyDBCluster", old)]
    calls += [("retire-cluster", "DeleteDBInstance", f"{old}-{number}") for number in (2, 1)] + [("retire-cluster", "DeleteDBCluster", old)]
    return calls + [("archive-snapshot", "AddTagsToResource", checks.copy_id(operation_id))]


def look(world):
    """As RDS describes it, with the members in the order of their names: the emulator's is that of their last change."""
    found = checks.look(world, "us-west-2")
    for thing in found.values():
        thing.get("DBClusterMembers", []).sort(key=lambda member: member["DBInstanceIdentifier"])
    return found


class Watch:
    """Logs in under the target's name all the time, and notes when nobody was let in."""

    def __init__(self, world):
        self.world, self.answers, self.closing = world, [], threading.Event()
        user = world.secret("app-credentials")["application_user"]
        self.login = (user["username"], user["password"])
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        while not self.closing.wait(0.1):
            try:
                refused = self.world.login(*self.login)
            except Exception as error:  # no cluster of this name, for a moment
                refused = str(error) or "no cluster"
            self.answers.append((time.monotonic(), refused))

    def close(self):
        self.closing.set()
        self.thread.join()

    def away_seconds(self):
        """From the first refused login to the last."""
        refused = [at for at, why in self.answers if why]
        return refused[-1] - refused[0] if refused else 0.0


def by_name(world):
    found = {cluster["DBClusterIdentifier"]: cluster["DbClusterResourceId"] for cluster in world.stack.client("rds").describe_db_clusters()["DBClusters"]}
    return {name: resource for name, resource in found.items() if name.startswith("staging")}


@pytest.fixture(scope="module")
def swapped(scene):
    """A first restore makes a target that serves; a swap takes its place."""
    world = scene()
    first = world.run({}, name="night-1")
    assert first.status == "SUCCEEDED", first.cause
    before, calls = look(world), len(world.rds_calls())
    world.stack.rds(pace={"rename": 0.6})
    watch = Watch(world)
    run = world.run(SWAP, name="night-2", patience_seconds=90)
    watch.close()
    return SimpleNamespace(world=world, first=first, run=run, before=before, since=calls, watch=watch)


def test_the_swap_succeeds_on_every_side(swapped):
    """Execution, state item, audit trail, RDS calls, logins, message and lock."""
    world, run = swapped.world, swapped.run
    checks.check_execution(run, checks.WALKED["Swap"])
    checks.check_item(world, run, "succeeded", checks.WALKED["Swap"])
    assert checks.made(world, swapped.since) == calls_of_a_swap("night-2")
    checks.check_audit(world)
    checks.check_logins(world)
    checks.check_roles(world)
    checks.check_lock_free(world)
    swap = run.item["swap"]
    assert (swap["former_as"], swap["restored_as"]) == (old_id("night-2"), "staging") and "back" not in swap
    assert checks.instant(swap["begun_at"]) < checks.instant(swap["answered_at"])
    assert {r["from"]: r["to"] for r in swap["former_instances"]} == {f"staging-{n}": f"{old_id('night-2')}-{n}" for n in (1, 2)}
    assert run.item["cluster"]["arn"] == world.cluster()["DBClusterArn"] and run.item["cluster"]["instances"] == ["staging-1", "staging-2"]


def test_the_new_cluster_bears_the_old_ones_names(swapped):
    """Cluster, endpoint and instances are called as before, and are other ones; nothing is left beside them."""
    world, was = swapped.world, swapped.before["cluster staging"]
    now = look(world)["cluster staging"]
    assert now["DbClusterResourceId"] != was["DbClusterResourceId"] and now["DeletionProtection"] and now["Status"] == "available"
    for name in ("DBSubnetGroup", "VpcSecurityGroups", "KmsKeyId", "DBClusterMembers"):
        assert now.get(name) == was.get(name), name
    assert {instance["DBInstanceIdentifier"] for instance in world.instances()} == {"staging-1", "staging-2"}
    assert set(by_name(world)) == {"staging"}
    assert world.tags(now)["aurora-restore:operation"] == "night-2"


def test_the_old_one_went_with_its_final_snapshot(swapped):
    """Deleted under the name that the swap gave it, with a final snapshot that bears the target's name."""
    world = swapped.world
    (deleted,) = [call for call in world.calls("rds", action="DeleteDBCluster") if call["caller"] == "retire-cluster"]
    assert deleted["parameters"]["DBClusterIdentifier"] == old_id("night-2")
    assert deleted["parameters"]["FinalDBSnapshotIdentifier"] == checks.final_id("night-2")
    assert checks.final_id("night-2") in {snapshot["DBClusterSnapshotIdentifier"] for snapshot in world.snapshots()}
    assert swapped.run.item["replaced"]["gone"] and swapped.run.item["replaced"]["resource_id"] == swapped.before["cluster staging"]["DbClusterResourceId"]


def test_the_downtime_is_told_as_it_was(swapped):
    """A user who logs in all the time is kept out no longer than the figure in state, trail and message says."""
    run, away = swapped.run, swapped.watch.away_seconds()
    told = run.item["downtime_seconds"]
    # Whole seconds, and the time of a login that began before the end.
    assert 0 < away <= told + 1.5, (away, told)
    (event,) = [record for record in run.audit if record["action"] == "aurora-restore:Swapped"]
    assert event["detail"] == {"cluster_id": "staging", "former": old_id("night-2"), "downtime_seconds": told}
    (message,) = [message["body"] for message in swapped.world.messages() if message["body"]["operation_id"] == "night-2"]
    assert message["downtime_seconds"] == told and message["recovery_time_seconds"] <= run.seconds
    assert "Downtime     " in swapped.world.published()[-1]["default"]
    # Deleting first keeps people out from the first deletion until the new one answers.
    first = swapped.first.item
    assert first["downtime_seconds"] >= int((checks.instant(first["cluster"]["ready_at"]) - checks.instant(first["replaced"]["down_since"])).total_seconds())


def test_a_new_cluster_that_does_not_answer_goes_back(scene):
    """Verified beside the target, silent under its name: the names go back, and the former cluster serves as before. Then the cause is
    mended, and the same operation goes on to its end."""
    world = scene()
    assert world.run({}, name="night-1").status == "SUCCEEDED"
    before, since, former = look(world), len(world.rds_calls()), by_name(world)["staging"]
    world.stack.rds(silent={"cluster_id": "staging", "but": former})
    request = {**SWAP, "operation_id": "night-2", "swap": {"grace_period_minutes": 0, "answer_within_minutes": 1}}
    run = world.run(request, name="try-1", patience_seconds=150)
    checks.check_execution(run, checks.WALKED["fails in SwapCluster"], "SwapFailed")
    new = new_id("night-2")
    for words in ("within 1 min 0 s", "the names were rolled back", f"cluster staging is the former one again, under all its names; the restored one is {new}", "Next: "):
        assert words in run.message, f"{words!r} in {run.message}"
    names = ["staging", "staging-1", "staging-2"]
    checks.check_untouched(before, look(world), *(f"{'cluster' if name == 'staging' else 'instance'} {name}" for name in names))
    assert by_name(world).keys() == {"staging", new} and by_name(world)["staging"] == former
    checks.check_logins(world)
    renames = [made for made in checks.made(world, since) if made[0] == "swap-cluster"]
    assert [what for _, _, what in renames[-6:]] == ["staging", old_id("night-2"), "staging-2", "staging-1", f"{old_id('night-2')}-2", f"{old_id('night-2')}-1"]
    assert "replaced" not in run.item and run.item["swap"]["rolled_back_at"] and run.item["error"]["step"] == "swap-cluster"
    checks.check_audit(world)
    checks.check_lock_free(world)
    text = world.published()[-1]["default"]
    assert "Reason       SwapFailed" in text and "staging is the former one again" in text

    world.stack.rds(silent={})
    again = world.run(request, name="try-2", patience_seconds=90)
    checks.check_execution(again, checks.WALKED["Swap"])
    assert set(by_name(world)) == {"staging"} and by_name(world)["staging"] != former
    made = [(who, action) for who, action, _ in checks.made(world, since)]
    assert made.count(("restore-cluster", "RestoreDBClusterFromSnapshot")) == 1, "it went on with what it had restored"
    checks.check_logins(world)
    checks.check_audit(world)
    checks.check_lock_free(world)


def test_a_name_that_still_leads_to_the_former_cluster(scene):
    """Endpoints follow their cluster's name late: the former cluster lets the same master in, and that is no answer."""
    world = scene()
    assert world.run({}, name="night-1").status == "SUCCEEDED"
    former = by_name(world)["staging"]
    world.stack.rds(stale={"cluster_id": "staging", "leads_to": former})
    arn = world.start({**SWAP, "operation_id": "night-2"}, name="late-name")
    swap = {}

    def is_unanswered():
        swap.update((world.state_item("night-2") or {}).get("swap", {}))
        return "unanswered" in swap

    checks.wait_for(is_unanswered, patience_seconds=60)
    assert swap["unanswered"] == "its endpoint localhost still leads to the former cluster's address" and "answered_at" not in swap
    assert world.cluster(old_id("night-2")), "it is not deleted for that"
    world.stack.rds(stale={})
    run = world.wait(arn)
    assert run.status == "SUCCEEDED", run.cause
    assert set(by_name(world)) == {"staging"} and by_name(world)["staging"] != former
    checks.check_logins(world)
    checks.check_audit(world)


# The rename in whose middle the plug is pulled, and what shows that it has had its effect.
POINTS = [
    ("ModifyDBInstance", lambda world: f"{old_id('night-5')}-2" in {i["DBInstanceIdentifier"] for i in world.instances()}),
    ("ModifyDBCluster", lambda world: old_id("night-5") in by_name(world)),
    ("ModifyDBCluster", lambda world: by_name(world).keys() == {"staging", old_id("night-5")}),
]


def test_the_plug_pulled_between_renames(world):
    """Three times, in the middle of a rename, the function is killed and the execution stopped; the same operation is started again, and in
    the end each name is where it belongs, and nothing was made twice."""
    former = by_name(world)["staging"]
    request = {**SWAP, "operation_id": "night-5"}
    for number, (action, has_happened) in enumerate(POINTS, 1):
        world.stack.fault(service="rds", action=action, caller="swap-cluster", delay=2.5)
        arn = world.start(request, name=f"plug-{number}")
        checks.wait_for(lambda: has_happened(world), patience_seconds=40)
        world.stack.client("stepfunctions").stop_execution(executionArn=arn)
        world.stack.kill_function("swap-cluster")
        assert world.wait(arn).status in ("ABORTED", "FAILED")
        world.stack.forget_faults()
    run = world.run(request, name="plug-last", patience_seconds=90)
    checks.check_execution(run, checks.WALKED["Swap"])
    renames = [made for made in checks.made(world) if made[0] == "swap-cluster"]
    assert sorted(renames) == sorted(call for call in calls_of_a_swap("night-5") if call[0] == "swap-cluster"), "each name was given once"
    assert [action for _, action, _ in checks.made(world)].count("RestoreDBClusterFromSnapshot") == 1
    assert set(by_name(world)) == {"staging"} and by_name(world)["staging"] != former
    checks.check_chain(run.audit)
    assert run.item["downtime_seconds"] >= 5, "from the first rename, over all executions"
    checks.check_logins(world)
    checks.check_lock_free(world)


def test_a_retirement_that_is_refused_leaves_both(world):
    """The restored cluster serves; the former one, whose deletion is denied, is protected again under its new name. Then the right is given."""
    world.stack.fault(service="rds", action="DeleteDBInstance", caller="retire-cluster", code="AccessDenied", status=403, message="not authorized")
    request, old = {**SWAP, "operation_id": "night-3"}, old_id("night-3")
    run = world.run(request, name="try-1", patience_seconds=60)
    checks.check_execution(run, checks.WALKED["fails in RetireCluster"], "AccessDenied")
    assert world.cluster(old)["DeletionProtection"] and len(world.instances(old)) == 2
    assert checks.made(world)[-1] == ("notify", "ModifyDBCluster", old)
    for words in (f"the deletion of cluster {old} had begun", f"cluster staging is the restored one; the former one was renamed to {old}"):
        assert words in run.message, f"{words!r} in {run.message}"
    checks.check_logins(world)
    checks.check_audit(world)
    answered = run.item["swap"]["answered_at"]
    again = world.run(request, name="try-2", patience_seconds=60)
    assert again.status == "SUCCEEDED", again.cause
    assert set(by_name(world)) == {"staging"} and again.item["swap"]["answered_at"] == answered
    assert len([call for call in checks.made(world) if call[0] == "swap-cluster"]) == 6, "nothing was renamed again"
    checks.check_lock_free(world)


def test_a_swap_of_a_cluster_that_is_not_ours(world):
    """With `replace_unmanaged` repeating its id, under whatever name it goes."""
    target = {"target_cluster_id": "payments-legacy", "replace_unmanaged": "payments-legacy"}
    run = world.run({**SWAP, **target}, name="taken-over", patience_seconds=60)
    assert run.status == "SUCCEEDED", run.cause
    assert world.tags(world.cluster("payments-legacy"))["aurora-restore:managed"] == "true"
    assert checks.final_id("taken-over", "payments-legacy") in {snapshot["DBClusterSnapshotIdentifier"] for snapshot in world.snapshots()}
    checks.check_logins(world, "payments-legacy")
    checks.check_audit(world)


@pytest.mark.parametrize("alias", ["alias/aurora-restore-secrets", "alias/other-key"])
def test_rds_own_password_and_tokens_go_with_the_name(world, alias):
    """A master password that RDS keeps, and users who log in with tokens: all are tried under the target's name."""
    if not world.stack.request("GET", "health")["tokens"]:
        pytest.skip("this PostgreSQL was built without LDAP and cannot ask about tokens")
    if alias == "alias/other-key":
        kms = world.stack.client("kms")
        kms.create_alias(AliasName=alias, TargetKeyId=kms.create_key(Description="another team's")["KeyMetadata"]["KeyId"])
    put(world, FURTHER)
    run = world.run(
        {**SWAP, "manage_master_user_password": True, "master_user_secret_kms_key_id": alias, "users": USERS},
        name="managed", patience_seconds=60,
    )  # fmt: skip
    assert run.status == "SUCCEEDED", run.cause
    assert run.item["cluster"]["master_user_secret_arn"] == world.cluster()["MasterUserSecret"]["SecretArn"]
    assert set(by_name(world)) == {"staging"}
    checks.check_audit(world)
    checks.check_lock_free(world)


@pytest.mark.seed(existing_target=False)
def test_a_name_that_is_free_is_just_taken(world):
    """Without a target there is nothing to be away, nothing to go back to, and nothing to delete."""
    group = {"db_subnet_group_name": "staging-subnets", "vpc_security_group_ids": [world.seeded.security_group], "db_instance_class": "db.r6g.large"}
    run = world.run({**SWAP, **group}, name="first-ever")
    assert run.status == "SUCCEEDED", run.cause
    assert "downtime_seconds" not in run.item and "replaced" not in run.item
    assert run.item["timings"]["retire-cluster"]["outcome"] == "skipped" and set(by_name(world)) == {"staging"}
    checks.check_logins(world)
    checks.check_audit(world)


@pytest.mark.seed(target_tagged=False)
def test_a_swap_that_could_never_end_is_refused_first(world):
    """The guards of the deletion that comes last are asked before anything is made."""
    before = checks.look(world, "us-west-2")
    run = world.run(SWAP, name="not-ours")
    whole.check_failure(world, run, "RefusedUnsafe", "Preflight", "not tagged aurora-restore:managed", left=("target cluster staging was not touched",))
    checks.check_untouched(before, checks.look(world, "us-west-2"))


def test_the_plan_of_a_swap(world):
    """plan_only tells the names, and changes nothing."""
    run = world.run({**SWAP, "plan_only": True}, name="plan-1")
    assert run.status == "SUCCEEDED", run.cause
    told = "\n".join(run.item["plan"]["summary"])
    for words in (f"restore cluster {new_id('plan-1')} with", f"rename cluster staging to {old_id('plan-1')}", f"delete cluster {old_id('plan-1')} with final snapshot"):
        assert words in told, f"{words!r} in\n{told}"
    assert checks.made(world) == []
