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

from functions import STEPS  # noqa: E402
from seed import make_tables, seed  # noqa: E402
from stack import Stack  # noqa: E402

PYTHON = Path(os.environ.get("INFRA_BIN", ROOT / ".local" / "infra" / "bin")) / "python"
ONLY = "key,secrets,tables,topic,bucket,machine"
BUCKET = "aurora-restore-lambda-code-123456789012-us-west-2"
ALL_WELL = [
    "key alias/aurora-restore-secrets", "rotation", "secret aurora-restore/dev/master-credentials", "its key", "secret aurora-restore/dev/app-credentials",
    "its key", "secret aurora-restore/dev/kms-key", "its key", "table aurora-restore-state", "deletion protection", "encryption", "point-in-time recovery",
    "time to live", "table aurora-restore-audit", "deletion protection", "encryption", "point-in-time recovery", "topic aurora-restore-notifications",
    "subscriptions", f"bucket {BUCKET}", "public access", "state machine aurora-restore", "logging",
]  # fmt: skip
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make infra-tools")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    bin_dir = tmp_path_factory.mktemp("bin")
    for step in STEPS:  # nothing runs here
        (bin_dir / step).write_text("#!/bin/sh\nexec sleep 600\n")
        (bin_dir / step).chmod(0o755)
    with Stack(bin_dir=bin_dir) as stack:
        stack.made = seed(stack)
        yield stack


def verify(stack, only=ONLY, **environment):
    """The command's table as [(ok, what, text)], its exit code, and all that it printed."""
    command = [PYTHON, ROOT / "infra" / "deploy.py", "verify", "dev", "--only", only, "--region", "us-west-2", "--parameter", "NamePrefix=aurora-restore"]
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


def to_do(rows):
    return [what for is_ok, what, _ in rows if not is_ok]


def test_a_true_table(world):
    """As the local stack is laid out, then as it should be, then with three things broken: each time exactly what is so."""
    kms, dynamodb, sns, s3, states = (world.client(name) for name in ("kms", "dynamodb", "sns", "s3", "stepfunctions"))
    secrets, key = world.client("secretsmanager"), world.made.keys["us-west-2"]

    rows, code, text = verify(world)
    bare = ["rotation", *["deletion protection", "encryption", "point-in-time recovery"] * 2, "topic aurora-restore-notifications", f"bucket {BUCKET}", "logging"]
    assert (to_do(rows), code) == (bare, 1), text
    assert all(remedy in text for remedy in ("enable-key-rotation", "--deletion-protection-enabled", "update-continuous-backups"))

    kms.enable_key_rotation(KeyId=key)
    for table in ("aurora-restore-state", "aurora-restore-audit"):
        dynamodb.delete_table(TableName=table)  # moto cannot encrypt one that is there
    make_tables(Encrypted(dynamodb, key))
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
    rows, code, text = verify(world)
    assert (to_do(rows), code) == ([], 0), text
    assert [what for _, what, _ in rows] == ALL_WELL

    kms.disable_key_rotation(KeyId=key)
    dynamodb.update_continuous_backups(TableName="aurora-restore-audit", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False})
    users = {**world.made.users, "readonly_user": {"username": "readonly_user", "password": "PLACEHOLDER"}}
    secrets.put_secret_value(SecretId="aurora-restore/dev/app-credentials", SecretString=json.dumps(users))
    rows, code, text = verify(world)
    assert (to_do(rows), code) == (["rotation", "secret aurora-restore/dev/app-credentials", "point-in-time recovery"], 1), text
    assert "readonly_user.password is not filled" in text
    assert [what for _, what, _ in rows] == ALL_WELL, "nothing is left out because something else is wrong"
    for user in [*world.made.users.values(), world.made.master]:
        assert user["password"] not in text and json.dumps(user["password"])[1:-1] not in text, "no secret is shown"


def test_another_account_is_looked_at_through_its_role(world):
    """ROLE_ARN: another account, in which none of it exists; told so, thing by thing."""
    rows, code, text = verify(world, "key,tables,topic", ROLE_ARN="arn:aws:iam::222222222222:role/deploy", EXTERNAL_ID="0123456789abcdef")
    assert "acting as arn:aws:iam::222222222222:role/deploy" in text
    assert code == 1 and len(to_do(rows)) == len(rows) == 4, text
