"""The scene: what an account holds before a restore. Made through the AWS APIs, as a person would set it up.

Source Region us-east-1: the Aurora cluster `production` with two instances and snapshots. Target Region us-west-2: the
tables, topic, key, secrets and state machine of aurora-restore, the cluster `staging` that a restore may replace, and
`payments-legacy`, which is not ours.
"""

import datetime
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from deeds import CALLS_TABLE
from stack import ACCOUNT, ENVIRONMENT, ROOT, SOURCE_REGION, TARGET_REGION

STATE_TABLE, AUDIT_TABLE, TOPIC, MACHINE = "aurora-restore-state", "aurora-restore-audit", "aurora-restore-notifications", "aurora-restore"
KEY_ALIAS = "alias/aurora-restore-secrets"
SOURCE_CLUSTER, TARGET_CLUSTER, FOREIGN_CLUSTER, SUBNET_GROUP = "production", "staging", "payments-legacy", "staging-subnets"
ENGINE, MYSQL = "aurora-postgresql", "aurora-mysql"
ENGINE_VERSIONS = {ENGINE: "15.4", MYSQL: "8.0.mysql_aurora.3.08.0"}
DEFINITION = Path(os.environ.get("AURORA_RESTORE_DEFINITION", ROOT / "statemachine" / "restore.asl.json"))


@dataclass
class Seeded:
    """What was made, for those who assert on it."""

    source_region: str = SOURCE_REGION
    target_region: str = TARGET_REGION
    engine: str = ENGINE
    keys: dict = field(default_factory=dict)  # Region -> ARN
    topic_arn: str = ""
    queue_url: str = ""
    state_machine_arn: str = ""
    snapshots: dict = field(default_factory=dict)  # older | newer | automated -> identifier
    subnets: list = field(default_factory=list)
    security_group: str = ""
    master: dict = field(default_factory=dict)
    users: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)


def seed(
    stack, *, unencrypted=False, existing_target=True, target_tagged=True, target_protected=True, same_region=False,
    source_snapshots=True, definition=DEFINITION, env=None, secrets_override=None, foreign_cluster=True, engine=ENGINE,
):  # fmt: skip
    """Lays out the scene on a fresh stack and starts the functions.

    unencrypted: source cluster and snapshots without a key. existing_target, target_tagged, target_protected: the cluster
    `staging`. same_region: production lives in the target Region. source_snapshots: False for none. env: more environment
    for the functions. secrets_override: name's last part -> the secret's text instead of ours. engine: of all clusters.
    """
    made = Seeded(source_region=TARGET_REGION if same_region else SOURCE_REGION, engine=engine)
    for region in {made.source_region, made.target_region}:
        made.keys[region] = make_key(stack, region)
    make_tables(stack)
    make_topic(stack, made)
    make_secrets(stack, made, secrets_override or {})
    make_network(stack, made)
    make_source(stack, made, encrypted=not unencrypted, snapshots=source_snapshots)
    if existing_target:
        tags = [{"Key": "aurora-restore:managed", "Value": "true"}] if target_tagged else []
        make_target(stack, made, TARGET_CLUSTER, tags, target_protected)
    if foreign_cluster:
        make_target(stack, made, FOREIGN_CLUSTER, [], True)
    make_machine(stack, made, definition)
    made.environment = {
        "STATE_TABLE_NAME": STATE_TABLE,
        "AUDIT_TABLE_NAME": AUDIT_TABLE,
        "SNS_TOPIC_ARN": made.topic_arn,
        "KMS_KEY_ID": made.keys[made.target_region],
        "MASTER_SECRET_NAME": f"aurora-restore/{ENVIRONMENT}/master-credentials",
        "APP_SECRET_NAME": f"aurora-restore/{ENVIRONMENT}/app-credentials",
        "SECRET_CACHE_TTL": "300",
        "SOURCE_REGION": made.source_region,
        "SOURCE_CLUSTER_ID": SOURCE_CLUSTER,
        "TARGET_CLUSTER_ID": TARGET_CLUSTER,
        **(env or {}),
    }
    stack.functions(made.environment)
    stack.forget_calls()
    return made


def make_key(stack, region):
    kms = stack.client("kms", region)
    arn = kms.create_key(Description="Aurora Restore Secrets Encryption Key")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName=KEY_ALIAS, TargetKeyId=arn)
    return arn


def make_tables(stack, state=STATE_TABLE, audit=AUDIT_TABLE):
    """A deployment's two tables."""
    dynamodb = stack.client("dynamodb")

    def index(name, hash_key):
        schema = [{"AttributeName": hash_key, "KeyType": "HASH"}, {"AttributeName": "started_at", "KeyType": "RANGE"}]
        return {"IndexName": name, "KeySchema": schema, "Projection": {"ProjectionType": "ALL"}}

    dynamodb.create_table(
        TableName=state,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("operation_id", "target", "status", "started_at")],
        KeySchema=[{"AttributeName": "operation_id", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[index("by-target", "target"), index("by-status", "status")],
    )
    dynamodb.update_time_to_live(TableName=state, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"})
    dynamodb.create_table(
        TableName=audit,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "operation_id", "AttributeType": "S"}, {"AttributeName": "timestamp", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "operation_id", "KeyType": "HASH"}, {"AttributeName": "timestamp", "KeyType": "RANGE"}],
    )


def make_calls_table(stack):
    """The table of infra/rds-calls.yaml, which deployments share."""
    stack.client("dynamodb").create_table(
        TableName=CALLS_TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "operation_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "operation_id", "KeyType": "HASH"}],
    )


def make_topic(stack, made):
    sns, sqs = stack.client("sns"), stack.client("sqs")
    made.topic_arn = sns.create_topic(Name=TOPIC)["TopicArn"]
    made.queue_url = sqs.create_queue(QueueName=f"{TOPIC}-inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=made.queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    # Raw delivery off: the envelope keeps the message attributes and the subject.
    sns.subscribe(TopicArn=made.topic_arn, Protocol="sqs", Endpoint=arn)


def make_secrets(stack, made, override):
    """Random passwords, with characters that a careless quoting would trip over."""

    def password():
        return f"{secrets.token_urlsafe(15)}'\"\\ $1%@"

    client, key = stack.client("secretsmanager"), made.keys[made.target_region]
    made.master = {"username": "master", "password": secrets.token_urlsafe(24)}
    names = {"application_user": "app_user", "readonly_user": "readonly_user", "devops_user": "devops_user"}
    made.users = {kind: {"username": name, "password": password()} for kind, name in names.items()}
    texts = {
        "master-credentials": json.dumps(made.master),
        "app-credentials": json.dumps(made.users),
        "kms-key": json.dumps({"key_id": key.rpartition("/")[2]}),
        **override,
    }
    for name, text in texts.items():
        if text is not None:
            client.create_secret(Name=f"aurora-restore/{ENVIRONMENT}/{name}", SecretString=text, KmsKeyId=key)


def make_network(stack, made):
    ec2, rds = stack.client("ec2"), stack.client("rds")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    made.subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{number}.0/24", AvailabilityZone=f"{made.target_region}{zone}")["Subnet"]["SubnetId"]
        for number, zone in enumerate("abc")
    ]
    made.security_group = ec2.create_security_group(GroupName="staging-database", Description="staging database", VpcId=vpc)["GroupId"]
    rds.create_db_subnet_group(DBSubnetGroupName=SUBNET_GROUP, DBSubnetGroupDescription="staging", SubnetIds=made.subnets)


def make_source(stack, made, encrypted, snapshots):
    rds = stack.client("rds", made.source_region)
    key = {"StorageEncrypted": True, "KmsKeyId": made.keys[made.source_region]} if encrypted else {}
    rds.create_db_cluster(
        DBClusterIdentifier=SOURCE_CLUSTER, Engine=made.engine, EngineVersion=ENGINE_VERSIONS[made.engine], MasterUsername="master", MasterUserPassword="not-used-here",
        DatabaseName="app", Port=5432, DeletionProtection=True, Tags=[{"Key": "team", "Value": "platform"}], **key,
    )  # fmt: skip
    for number in (1, 2):
        rds.create_db_instance(
            DBInstanceIdentifier=f"{SOURCE_CLUSTER}-{number}", DBClusterIdentifier=SOURCE_CLUSTER, DBInstanceClass="db.r6g.2xlarge", Engine=made.engine
        )
    if not snapshots:
        return
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    automated = now - datetime.timedelta(minutes=12)
    plan = {
        "older": ("production-before-migration", None, now - datetime.timedelta(days=9)),
        "newer": ("production-weekly", None, now - datetime.timedelta(hours=26)),
        "automated": ("production-nightly", f"rds:production-{automated:%Y-%m-%d-%H-%M}", automated),
    }
    for kind, (name, automated_name, created) in plan.items():
        rds.create_db_cluster_snapshot(DBClusterSnapshotIdentifier=name, DBClusterIdentifier=SOURCE_CLUSTER)
        # moto dates a snapshot now, and only RDS itself makes automated ones.
        order = {"region": made.source_region, "snapshot_id": name, "created_at": created.isoformat()}
        if automated_name:
            order |= {"rename": automated_name, "snapshot_type": "automated"}
        stack.rds(**order)
        made.snapshots[kind] = automated_name or name


def make_target(stack, made, name, tags, protected):
    rds = stack.client("rds", made.target_region)
    rds.create_db_cluster(
        DBClusterIdentifier=name, Engine=made.engine, EngineVersion=ENGINE_VERSIONS[made.engine], MasterUsername="master", MasterUserPassword="not-used-here",
        DBSubnetGroupName=SUBNET_GROUP, VpcSecurityGroupIds=[made.security_group], Port=5433, DeletionProtection=protected,
        StorageEncrypted=True, KmsKeyId=made.keys[made.target_region], CopyTagsToSnapshot=True,
        Tags=[*tags, {"Key": "team", "Value": "platform"}, {"Key": "cost-center", "Value": "1234"}],
    )  # fmt: skip
    for number in (1, 2):
        rds.create_db_instance(DBInstanceIdentifier=f"{name}-{number}", DBClusterIdentifier=name, DBInstanceClass="db.r6g.large", Engine=made.engine, Tags=tags)


def make_machine(stack, made, definition):
    if not definition.exists():
        return  # nothing to run yet; the steps can still be called one by one
    from functions import FUNCTIONS

    text = definition.read_text()
    for step in FUNCTIONS:
        name = "".join(word.capitalize() for word in step.split("-"))
        text = text.replace(f"${{{name}FunctionArn}}", f"arn:aws:lambda:{made.target_region}:{ACCOUNT}:function:{step}")
    states = stack.client("stepfunctions", made.target_region)
    role = f"arn:aws:iam::{ACCOUNT}:role/aurora-restore-state-machine"
    made.state_machine_arn = states.create_state_machine(name=MACHINE, definition=text, roleArn=role)["stateMachineArn"]


if __name__ == "__main__":
    from stack import Stack

    running = Stack.running()
    if running is None:
        raise SystemExit("No local stack is running. Start one: stack.py start")
    began = time.monotonic()
    running.reset()
    seed(running)
    print(f"seeded {running.endpoint} in {time.monotonic() - began:.1f} s")
