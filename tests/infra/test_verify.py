"""`make verify` against the local stack, for what that has: a true table, also with things broken on purpose.

Needs the AWS CLI (`make infra-tools`); `make lint-infra` runs it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "local"))

from cfn import Stack as Template  # noqa: E402
from functions import FUNCTIONS  # noqa: E402
from seed import make_calls_table, make_tables, seed  # noqa: E402
from stack import Stack  # noqa: E402

PYTHON = Path(os.environ.get("INFRA_BIN", ROOT / ".local" / "infra" / "bin")) / "python"
# All but stack and functions, which the local stack has in its own way.
ONLY = "key,secrets,tables,topic,bucket,dba,logs,machine,schedule,alarms"
DBA = "arn:aws:iam::123456789012:user/dba-team"
CALLS = "aurora-restore-rds-calls"
PARAMETERS = {"NamePrefix": "aurora-restore", "DbaPrincipalArn": DBA, "ScheduleState": "ENABLED", "RdsCallsPerSecond": "10", "RdsCallsTableName": CALLS}
BUCKET = "aurora-restore-lambda-code-123456789012-us-west-2"
ALL_WELL = [
    "key alias/aurora-restore-secrets", "rotation", "secret aurora-restore/dev/master-credentials", "its key", "secret aurora-restore/dev/app-credentials",
    "its key", "secret aurora-restore/dev/kms-key", "its key", "table aurora-restore-state", "deletion protection", "encryption", "point-in-time recovery",
    "time to live", "table aurora-restore-audit", "deletion protection", "encryption", "point-in-time recovery", f"table {CALLS}", "topic aurora-restore-notifications",
    "subscriptions", f"bucket {BUCKET}", "public access", "role aurora-restore-dba-role", "logs", "state machine aurora-restore", "logging",
    "schedule aurora-restore-nightly", "dead letters", "alarms",
]  # fmt: skip
# Who says where the tools are means to use them.
pytestmark = pytest.mark.skipif(not PYTHON.exists() and "INFRA_BIN" not in os.environ, reason="make infra-tools")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    bin_dir = tmp_path_factory.mktemp("bin")
    for step in FUNCTIONS:  # nothing runs here
        (bin_dir / step).write_text("#!/bin/sh\nexec sleep 600\n")
        (bin_dir / step).chmod(0o755)
    with Stack(bin_dir=bin_dir) as stack:
        stack.made = seed(stack)
        yield stack


def verify(stack, only=ONLY, **environment):
    """The command's table as [(ok, what, text)], its exit code, and all that it printed."""
    command = [PYTHON, ROOT / "infra" / "deploy.py", "verify", "dev", "--only", only, "--region", "us-west-2"]
    command += [word for name, value in PARAMETERS.items() for word in ("--parameter", f"{name}={value}")]
    names = {"AWS_ENDPOINT_URL": stack.endpoint, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_EC2_METADATA_DISABLED": "true"}
    base = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") and name not in ("ROLE_ARN", "EXTERNAL_ID")}
    done = subprocess.run([str(part) for part in command], env={**base, **names, **environment}, capture_output=True, text=True, timeout=600, check=False)
    rows = [(match[1] == "ok   ", match[2].strip(), match[3]) for match in re.finditer(r"^(ok   |TO DO)  (.+?)  +(\S.*)$", done.stdout, re.MULTILINE)]
    return rows, done.returncode, done.stdout + done.stderr


class Encrypted:
    """Makes the stack's tables as they are, under a key."""

    def __init__(self, dynamodb, key):
        self.dynamodb, self.key = dynamodb, key

    def client(self, _service):
        return self

    def create_table(self, **table):
        self.dynamodb.create_table(SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": self.key}, **table)

    def update_time_to_live(self, **order):
        self.dynamodb.update_time_to_live(**order)


def make_the_rest(world, key):
    """What the local stack does without, as the template says: the DBA team's role, log groups, schedule, alarms."""
    made = Template({**PARAMETERS, "SubnetIds": []}).resources()
    trust = made["DbaRole"]["Properties"]["AssumeRolePolicyDocument"]
    world.client("iam").create_role(RoleName="aurora-restore-dba-role", AssumeRolePolicyDocument=json.dumps(trust))
    for properties in (one["Properties"] for one in made.values() if one["Type"] == "AWS::Logs::LogGroup"):
        world.client("logs").create_log_group(logGroupName=properties["LogGroupName"], kmsKeyId=key)
        world.client("logs").put_retention_policy(logGroupName=properties["LogGroupName"], retentionInDays=30)  # dev's, in samconfig.toml
    for properties in (one["Properties"] for one in made.values() if one["Type"] == "AWS::CloudWatch::Alarm"):
        alarm = {"MetricName": "x", "Namespace": "x", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "LessThanThreshold", "Statistic": "Sum"}
        world.client("cloudwatch").put_metric_alarm(AlarmName=properties["AlarmName"], **alarm)
    url = world.client("sqs").create_queue(QueueName="aurora-restore-schedule-dead-letters")["QueueUrl"]
    scheduler = world.client("scheduler")
    scheduler.create_schedule_group(Name="aurora-restore")
    target = {"Arn": world.made.state_machine_arn, "RoleArn": "arn:aws:iam::123456789012:role/schedule"}
    schedule = {"Name": "aurora-restore-nightly", "GroupName": "aurora-restore", "ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}
    scheduler.create_schedule(**schedule, State="ENABLED")
    return url, schedule


def to_do(rows):
    return [what for is_ok, what, _ in rows if not is_ok]


def test_a_true_table(world):
    """As the local stack is laid out, then as it should be, then with three things broken: each time exactly what is so."""
    kms, dynamodb, sns, s3, states = (world.client(name) for name in ("kms", "dynamodb", "sns", "s3", "stepfunctions"))
    secrets, key = world.client("secretsmanager"), world.made.keys["us-west-2"]

    rows, code, text = verify(world)
    bare = ["rotation", *["deletion protection", "encryption", "point-in-time recovery"] * 2, f"table {CALLS}", "topic aurora-restore-notifications", f"bucket {BUCKET}", "role aurora-restore-dba-role", "logs", "logging", "schedule", "alarms"]
    assert (to_do(rows), code) == (bare, 1), text
    assert all(remedy in text for remedy in ("enable-key-rotation", "--deletion-protection-enabled", "update-continuous-backups", "ResourceNotFoundException: deploy infra/rds-calls.yaml"))

    kms.enable_key_rotation(KeyId=key)
    for table in ("aurora-restore-state", "aurora-restore-audit"):
        dynamodb.delete_table(TableName=table)  # moto cannot encrypt one that is there
    make_tables(Encrypted(dynamodb, key))
    make_calls_table(world)
    for table in ("aurora-restore-state", "aurora-restore-audit"):
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=True)
        dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    sns.set_topic_attributes(TopicArn=world.made.topic_arn, AttributeName="KmsMasterKeyId", AttributeValue=key)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=block)
    group = "arn:aws:logs:us-west-2:123456789012:log-group:/aws/vendedlogs/states/aurora-restore:*"
    logging = {"level": "ALL", "includeExecutionData": False, "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}]}
    states.update_state_machine(stateMachineArn=world.made.state_machine_arn, loggingConfiguration=logging)
    queue, schedule = make_the_rest(world, key)
    rows, code, text = verify(world)
    assert (to_do(rows), code) == ([], 0), text
    assert [what for _, what, _ in rows] == ALL_WELL

    kms.disable_key_rotation(KeyId=key)
    dynamodb.update_continuous_backups(TableName="aurora-restore-audit", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False})
    users = {**world.made.users, "readonly_user": {"username": "readonly_user", "password": "PLACEHOLDER"}}
    secrets.put_secret_value(SecretId="aurora-restore/dev/app-credentials", SecretString=json.dumps(users))
    rows, code, text = verify(world, "key,secrets,tables")
    assert (to_do(rows), code) == (["rotation", "secret aurora-restore/dev/app-credentials", "point-in-time recovery"], 1), text
    assert "readonly_user.password is not filled" in text
    assert [what for _, what, _ in rows] == ALL_WELL[: ALL_WELL.index("topic aurora-restore-notifications")], "nothing is left out because something else is wrong"
    for user in [*world.made.users.values(), world.made.master]:
        assert user["password"] not in text and json.dumps(user["password"])[1:-1] not in text, "no secret is shown"


    other = Template({**PARAMETERS, "DbaPrincipalArn": "arn:aws:iam::123456789012:user/somebody", "SubnetIds": []}).resource("DbaRole")["Properties"]
    world.client("iam").update_assume_role_policy(RoleName="aurora-restore-dba-role", PolicyDocument=json.dumps(other["AssumeRolePolicyDocument"]))
    world.client("logs").delete_retention_policy(logGroupName="/aws/lambda/aurora-restore-notify")
    world.client("scheduler").update_schedule(**schedule, State="DISABLED")
    world.client("sqs").send_message(QueueUrl=queue, MessageBody="a night")
    world.client("cloudwatch").delete_alarms(AlarmNames=["aurora-restore-missing"])
    world.client("cloudwatch").set_alarm_state(AlarmName="aurora-restore-failed", StateValue="ALARM", StateReason="x")
    rows, code, text = verify(world, "dba,logs,schedule,alarms")
    others = ["role aurora-restore-dba-role", "logs", "schedule aurora-restore-nightly", "dead letters", "alarms"]
    assert (to_do(rows), code) == (others, 1) and len(rows) == len(others), text
    for part in ("or not under our key: /aws/lambda/aurora-restore-notify:", "1 starts were not delivered", "missing: aurora-restore-missing; ringing: aurora-restore-failed"):
        assert part in text


def test_another_account_is_looked_at_through_its_role(world):
    """ROLE_ARN: another account, in which none of it exists; told so, thing by thing."""
    rows, code, text = verify(world, "key,tables,topic", ROLE_ARN="arn:aws:iam::222222222222:role/deploy", EXTERNAL_ID="0123456789abcdef")
    assert "acting as arn:aws:iam::222222222222:role/deploy" in text
    assert code == 1 and len(to_do(rows)) == len(rows) == 5, text
