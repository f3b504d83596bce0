"""What the tests and the demo rely on: where the stack must behave like AWS although moto alone does not.

Needs no binaries of ours: the functions are stand-ins.
"""

import datetime
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

sys.path.insert(0, str(Path(__file__).resolve().parent))

from functions import FUNCTIONS  # noqa: E402
from postgres import PRODUCTION_LOGINS  # noqa: E402
from seed import seed  # noqa: E402
from stack import Stack  # noqa: E402
from world import World  # noqa: E402

# A function in a few lines: answers with what it was asked; `exit` ends it, `error` is an error.
STAND_IN = f"""#!{sys.executable}
import json, os, urllib.request
api = os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as order:
        event, request = json.loads(order.read()), order.headers["Lambda-Runtime-Aws-Request-Id"]
    if "exit" in event:
        os._exit(3)
    kind, answer = ("error", {{"errorType": event["error"], "errorMessage": "as asked"}}) if "error" in event else ("response", event)
    urllib.request.urlopen(urllib.request.Request(api + request + "/" + kind, data=json.dumps(answer).encode(), method="POST")).read()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    bin_dir = tmp_path_factory.mktemp("bin")
    for step in FUNCTIONS:
        (bin_dir / step).write_text(STAND_IN)
        (bin_dir / step).chmod(0o755)
    with Stack(bin_dir=bin_dir) as running:
        yield running


def test_packaged_functions_run_from_where_sam_puts_them(tmp_path):
    """ARTEFACTS: these programs and no others answer, and one that was not packaged is named."""
    (tmp_path / "template.yaml").touch()
    for step in FUNCTIONS:
        (tmp_path / step).write_text("#!/bin/sh\nexit 1\n")  # what cargo's layout would offer
        (tmp_path / step).chmod(0o755)
        folder = tmp_path / ("".join(word.capitalize() for word in step.split("-")) + "Function")
        folder.mkdir()
        (folder / "bootstrap").write_text(STAND_IN)
        (folder / "bootstrap").chmod(0o755)
    with Stack(bin_dir=tmp_path) as stack:
        stack.functions({})
        answer = stack.client("lambda").invoke(FunctionName="copy-snapshot", Payload='{"asked": 1}')
        assert json.loads(answer["Payload"].read()) == {"asked": 1} and "FunctionError" not in answer
    (tmp_path / "NotifyFunction" / "bootstrap").unlink()
    with pytest.raises(SystemExit, match="missing: notify"):
        Stack(bin_dir=tmp_path).start()


@pytest.fixture
def world(stack, request):
    stack.reset()
    marker = request.node.get_closest_marker("seed")
    return World(stack, seed(stack, **(marker.kwargs if marker else {})))


@pytest.fixture
def rds(stack):
    return stack.client("rds")


def refused(call, **parameters):
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return error.value.response["Error"]["Code"]


def source_arn(world, kind="newer"):
    return f"arn:aws:rds:{world.seeded.source_region}:123456789012:cluster-snapshot:{world.seeded.snapshots[kind]}"


def copy(world, rds, name="staging-copy", **more):
    return rds.copy_db_cluster_snapshot(
        SourceDBClusterSnapshotIdentifier=source_arn(world),
        TargetDBClusterSnapshotIdentifier=name,
        **{"KmsKeyId": world.seeded.keys["us-west-2"], "Tags": [{"Key": "a", "Value": "b"}], **more},
    )["DBClusterSnapshot"]


def restore(world, rds, name="fresh", **more):
    copy(world, rds)
    return rds.restore_db_cluster_from_snapshot(DBClusterIdentifier=name, SnapshotIdentifier="staging-copy", Engine="aurora-postgresql", **more)["DBCluster"]


def add_instance(rds, cluster="fresh"):
    rds.create_db_instance(DBInstanceIdentifier=f"{cluster}-1", DBClusterIdentifier=cluster, DBInstanceClass="db.r6g.large", Engine="aurora-postgresql")


def test_the_scene(world, rds):
    source = world.stack.client("rds", "us-east-1")
    snapshots = {s["DBClusterSnapshotIdentifier"]: s for s in source.describe_db_cluster_snapshots(DBClusterIdentifier="production")["DBClusterSnapshots"]}
    assert set(snapshots) == set(world.seeded.snapshots.values())
    automated = snapshots[world.seeded.snapshots["automated"]]
    assert automated["SnapshotType"] == "automated" and automated["StorageEncrypted"]
    assert max(snapshots.values(), key=lambda s: s["SnapshotCreateTime"]) is automated
    assert automated["SnapshotCreateTime"].utcoffset().total_seconds() == 0 or automated["SnapshotCreateTime"].tzinfo is not None
    staging = world.cluster("staging")
    assert staging["DeletionProtection"] and len(staging["DBClusterMembers"]) == 2
    assert world.tags(staging)["aurora-restore:managed"] == "true"
    assert "aurora-restore:managed" not in world.tags(world.cluster("payments-legacy"))
    group = rds.describe_db_subnet_groups(DBSubnetGroupName="staging-subnets")["DBSubnetGroups"][0]
    assert len(group["Subnets"]) == 3
    key = world.stack.client("kms").describe_key(KeyId=world.seeded.environment["KMS_KEY_ID"])["KeyMetadata"]
    assert key["KeyState"] == "Enabled" and key["KeyManager"] == "CUSTOMER"
    assert rds.describe_global_clusters()["GlobalClusters"] == []


def test_snapshot_copies(world, rds):
    made = copy(world, rds)
    assert made["SourceDBClusterSnapshotArn"] == source_arn(world)
    found = rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=made["DBClusterSnapshotArn"])["DBClusterSnapshots"][0]
    assert found["TagList"] == [{"Key": "a", "Value": "b"}] and found["KmsKeyId"] == world.seeded.keys["us-west-2"]
    arn, key = source_arn(world), world.seeded.keys["us-west-2"]
    copying = rds.copy_db_cluster_snapshot
    assert refused(copying, SourceDBClusterSnapshotIdentifier=arn, TargetDBClusterSnapshotIdentifier="b") == "KMSKeyNotAccessibleFault"
    for wrong in (world.seeded.keys["us-east-1"], "alias/none", "no-such-key"):
        assert refused(copying, SourceDBClusterSnapshotIdentifier=arn, TargetDBClusterSnapshotIdentifier="b", KmsKeyId=wrong) == "KMSKeyNotAccessibleFault"
    for name in ("rds:x", "a--b", "1a", "a-"):
        assert refused(copying, SourceDBClusterSnapshotIdentifier=arn, TargetDBClusterSnapshotIdentifier=name, KmsKeyId=key) == "InvalidParameterValue"
    assert refused(copying, SourceDBClusterSnapshotIdentifier=arn, TargetDBClusterSnapshotIdentifier="staging-copy", KmsKeyId=key) == "DBClusterSnapshotAlreadyExistsFault"
    assert refused(rds.describe_db_cluster_snapshots, DBClusterSnapshotIdentifier="none") == "DBClusterSnapshotNotFoundFault"
    world.stack.rds(pace={"copy": 1})
    assert copy(world, rds, "slow")["Status"] == "copying"
    assert refused(rds.restore_db_cluster_from_snapshot, DBClusterIdentifier="x", SnapshotIdentifier="slow", Engine="aurora-postgresql") == "InvalidDBClusterSnapshotStateFault"
    time.sleep(1.05)
    assert rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier="slow")["DBClusterSnapshots"][0]["PercentProgress"] == 100


@pytest.mark.seed(unencrypted=True)
def test_an_unencrypted_snapshot_refuses_a_key(world, rds):
    arn = source_arn(world)
    assert "KmsKeyId" not in rds.copy_db_cluster_snapshot(SourceDBClusterSnapshotIdentifier=arn, TargetDBClusterSnapshotIdentifier="b")["DBClusterSnapshot"]
    wrong = {"SourceDBClusterSnapshotIdentifier": arn, "TargetDBClusterSnapshotIdentifier": "c", "KmsKeyId": world.seeded.keys["us-west-2"]}
    assert refused(rds.copy_db_cluster_snapshot, **wrong) == "InvalidParameterCombination"


def test_a_restore_takes_the_request_and_not_the_source(world, rds):
    rds.create_db_cluster_parameter_group(DBClusterParameterGroupName="ours", DBParameterGroupFamily="aurora-postgresql15", Description="x")
    wanted = {
        "DBSubnetGroupName": "staging-subnets", "VpcSecurityGroupIds": [world.seeded.security_group], "KmsKeyId": world.seeded.keys["us-west-2"],
        "DBClusterParameterGroupName": "ours", "Port": 5439, "DeletionProtection": True, "CopyTagsToSnapshot": True,
        "EnableIAMDatabaseAuthentication": True, "Tags": [{"Key": "k", "Value": "v"}], "ServerlessV2ScalingConfiguration": {"MinCapacity": 0.5, "MaxCapacity": 4},
    }  # fmt: skip
    assert restore(world, rds, **wanted)["Status"] == "creating"
    cluster = world.cluster("fresh")
    assert cluster["Status"] == "available" and cluster["DBClusterMembers"] == []
    assert (cluster["DBSubnetGroup"], cluster["Port"], cluster["DBClusterParameterGroup"]) == ("staging-subnets", 5439, "ours")
    assert cluster["KmsKeyId"] == wanted["KmsKeyId"] and cluster["StorageEncrypted"] and cluster["DeletionProtection"] and cluster["CopyTagsToSnapshot"]
    assert cluster["IAMDatabaseAuthenticationEnabled"] and cluster["TagList"] == wanted["Tags"]
    assert cluster["VpcSecurityGroups"][0]["VpcSecurityGroupId"] == world.seeded.security_group
    assert cluster["ServerlessV2ScalingConfiguration"]["MaxCapacity"] == 4
    # The source is protected; silence is not.
    rds.restore_db_cluster_from_snapshot(DBClusterIdentifier="plain", SnapshotIdentifier="staging-copy", Engine="aurora-postgresql")
    plain = world.cluster("plain")
    assert (plain["DeletionProtection"], plain["DBSubnetGroup"], plain["DBClusterParameterGroup"]) == (False, "default", "default.aurora-postgresql15")
    again = {"DBClusterIdentifier": "fresh", "SnapshotIdentifier": "staging-copy", "Engine": "aurora-postgresql"}
    assert refused(rds.restore_db_cluster_from_snapshot, **again) == "DBClusterAlreadyExistsFault"
    assert refused(rds.restore_db_cluster_from_snapshot, **{**again, "DBClusterIdentifier": "n", "DBSubnetGroupName": "none"}) == "DBSubnetGroupNotFoundFault"


def test_the_database_behind_a_restored_cluster(world, rds):
    restore(world, rds)
    assert world.cluster("fresh")["Endpoint"] != "localhost", "nothing to connect to without an instance"
    add_instance(rds)
    assert world.login("master", PRODUCTION_LOGINS["master"], cluster_id="fresh") is None
    assert world.login("prod_app", PRODUCTION_LOGINS["prod_app"], cluster_id="fresh") is None
    rds.modify_db_cluster(DBClusterIdentifier="fresh", MasterUserPassword="a-new-password", ApplyImmediately=True)
    assert world.cluster("fresh")["PendingModifiedValues"] == {"MasterUserPassword": "****"}
    assert world.login("master", "a-new-password", cluster_id="fresh") is not None, "not yet"
    deadline = time.monotonic() + 10
    while world.cluster("fresh").get("PendingModifiedValues") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert world.login("master", "a-new-password", cluster_id="fresh") is None
    assert world.login("master", PRODUCTION_LOGINS["master"], cluster_id="fresh") is not None
    assert world.login("master", "a-new-password", "rdsadmin", cluster_id="fresh") is not None
    assert "a-new-password" not in str(world.stack.calls())


def test_deleting(world, rds):
    final = {"DBClusterIdentifier": "staging", "FinalDBSnapshotIdentifier": "last"}
    assert refused(rds.delete_db_cluster, DBClusterIdentifier="staging") == "InvalidParameterCombination"
    assert refused(rds.delete_db_cluster, **final) == "InvalidParameterCombination"
    rds.modify_db_cluster(DBClusterIdentifier="staging", DeletionProtection=False)
    assert refused(rds.delete_db_cluster, **final) == "InvalidDBClusterStateFault"
    world.stack.rds(pace={"delete": 0.4})
    for number in (1, 2):
        rds.delete_db_instance(DBInstanceIdentifier=f"staging-{number}")
    assert refused(rds.delete_db_instance, DBInstanceIdentifier="staging-1") == "InvalidDBInstanceState"
    rds.delete_db_cluster(**final)
    assert world.cluster("staging")["Status"] == "deleting"
    assert refused(rds.delete_db_cluster, **final) == "InvalidDBClusterStateFault"
    time.sleep(0.8)
    assert world.cluster("staging") is None and [s["DBClusterSnapshotIdentifier"] for s in world.snapshots()] == ["last"]
    assert refused(rds.modify_db_cluster, DBClusterIdentifier="staging", DeletionProtection=False) == "DBClusterNotFoundFault"
    rds.create_global_cluster(GlobalClusterIdentifier="world", SourceDBClusterIdentifier=world.cluster("payments-legacy")["DBClusterArn"])
    rds.modify_db_cluster(DBClusterIdentifier="payments-legacy", DeletionProtection=False)
    assert refused(rds.delete_db_cluster, DBClusterIdentifier="payments-legacy", SkipFinalSnapshot=True) == "InvalidDBClusterStateFault"
    members = rds.describe_global_clusters()["GlobalClusters"][0]["GlobalClusterMembers"]
    assert members[0]["DBClusterArn"].endswith(":payments-legacy") and members[0]["IsWriter"]
    rds.remove_from_global_cluster(GlobalClusterIdentifier="world", DbClusterIdentifier=members[0]["DBClusterArn"])
    assert rds.describe_global_clusters()["GlobalClusters"][0]["GlobalClusterMembers"] == []


def test_faults_and_states_on_order(world, rds):
    world.stack.fault(service="rds", action="DescribeDBClusters", times=2, code="Throttling", message="Rate exceeded")
    assert [refused(rds.describe_db_clusters) for _ in range(2)] == ["Throttling"] * 2
    assert rds.describe_db_clusters()["DBClusters"]
    world.stack.fault(service="rds", action="CopyDBClusterSnapshot", code="InternalFailure", status=500, after_effect=True)
    assert refused(copy, world=world, rds=rds, name="twice") == "InternalFailure"
    assert [s["DBClusterSnapshotIdentifier"] for s in world.snapshots()] == ["twice"], "it happened all the same"
    dynamodb = world.stack.client("dynamodb")
    world.stack.fault(service="dynamodb", action="GetItem", code="ProvisionedThroughputExceededException")
    item = {"TableName": "aurora-restore-state", "Key": {"operation_id": {"S": "x"}}}
    assert refused(dynamodb.get_item, **item) == "ProvisionedThroughputExceededException"
    world.stack.rds(cluster_id="staging", status="incompatible-parameters")
    assert world.cluster("staging")["Status"] == "incompatible-parameters"
    world.stack.rds(next_restore_status="incompatible-restore", pace={"restore": 0.3})
    restore(world, rds)
    assert world.cluster("fresh")["Status"] == "creating"
    time.sleep(0.5)
    assert world.cluster("fresh")["Status"] == "incompatible-restore"


def test_an_execution_that_was_stopped_does_not_fail_afterwards():
    from aws import make_stops_final
    from moto.stepfunctions.parser.asl.eval.environment import Environment
    from moto.stepfunctions.parser.asl.eval.program_state import ProgramError, ProgramRunning, ProgramStopped

    def running():
        # As its constructor leaves it, of what concerns its end.
        environment = Environment.__new__(Environment)
        environment._state_mutex, environment.program_state_event = threading.RLock(), threading.Event()
        environment._program_state, environment._frames = ProgramRunning(), []
        return environment

    make_stops_final()
    failed, stopped = running(), running()
    stopped.set_stop(datetime.datetime.now(), None, None)
    for environment in (failed, stopped):
        environment.set_error({"error": "States.Runtime", "cause": "what was under way found itself stopped"})
    assert isinstance(failed.program_state(), ProgramError) and isinstance(stopped.program_state(), ProgramStopped)


def test_functions_fail_as_on_aws(world):
    assert world.invoke("preflight", {"a": 1}) == ({"a": 1}, None)
    assert world.invoke("preflight", {"error": "Refused"})[1] == {"errorType": "Refused", "errorMessage": "as asked"}
    assert world.invoke("preflight", {"exit": True})[1]["errorType"] == "Runtime.ExitError"
    assert world.invoke("preflight", {"a": 2}) == ({"a": 2}, None), "started again"
    world.stack.fault(service="lambda", function="notify", function_error={"errorType": "Throttled", "errorMessage": "x"})
    assert world.invoke("notify", {})[1]["errorType"] == "Throttled"
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda n: world.invoke("preflight", {"n": n})[0]["n"], range(8))) == list(range(8))
    assert refused(world.stack.client("lambda").invoke, FunctionName="nobody") == "ResourceNotFoundException"


def test_news_arrives_in_the_queue(world):
    sns = world.stack.client("sns")
    message = '{"default": "for people", "sqs": "{\\"for\\": \\"programs\\"}"}'
    sns.publish(
        TopicArn=world.seeded.topic_arn, Subject="s", Message=message, MessageStructure="json",
        MessageAttributes={"status": {"DataType": "String", "StringValue": "FAILED"}},
    )  # fmt: skip
    (found,) = world.messages()
    assert (found["subject"], found["body"], found["attributes"]) == ("s", {"for": "programs"}, {"status": "FAILED"})


def test_a_reset_leaves_nothing(world, rds):
    restore(world, rds)
    add_instance(rds)
    port = world.cluster("fresh")["Port"]
    world.stack.reset()
    assert rds.describe_db_clusters()["DBClusters"] == []
    assert os.system(f"{sys.executable} -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 1)' 2>/dev/null") != 0
