"""Looks whether a deployment is as the template says: a row for each thing, `ok` or what to do. Changes nothing.

Secrets' values are read to see whether they are filled, and never shown.
"""

import concurrent.futures
import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from cfn import Stack

# What a value looks like that nobody has filled in yet.
UNFILLED = re.compile(r"PLACEHOLDER|^(APP|READONLY|DEVOPS)_PASSWORD$|^$")


class Refused(Exception):
    """What AWS answered instead."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def aws(*arguments, environment=None):
    """The AWS CLI's answer as JSON."""
    beside = Path(sys.executable).parent / "aws"
    command = [str(beside) if beside.exists() else "aws", *map(str, arguments), "--output", "json", "--no-cli-pager"]
    # The CLI of the first generation has no pager.
    if beside.exists():
        command.remove("--no-cli-pager")
    # For SQS it also has no ear for the variable that the others hear.
    if arguments[0] == "sqs" and (endpoint := (environment or os.environ).get("AWS_ENDPOINT_URL")):
        command += ["--endpoint-url", endpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        found = re.search(r"An error occurred \((\w+)\)[^:]*: (.*)", done.stderr, re.DOTALL)
        raise Refused(found[1] if found else "", (found[2] if found else done.stderr).strip())
    return json.loads(done.stdout) if done.stdout.strip() else {}


class Verification:
    """Rows of (what, whether it is well, what is or what to do)."""

    def __init__(self, parameters, region, environment):
        self.region, self.environment = region, environment
        self.account = self.aws("sts", "get-caller-identity")["Account"]
        self.stack = Stack(parameters, account=self.account, region=region)
        self.made = self.stack.resources()
        self.rows = []

    def aws(self, *arguments):
        return aws(*arguments, "--region", self.region, environment=self.environment)

    def names(self, kind, field):
        return [made["Properties"][field] for made in self.made.values() if made["Type"] == kind]

    def row(self, what, well, is_so, to_do):
        self.rows.append((what, bool(well), is_so if well else to_do))

    def run(self, only):
        """All rows, in their order. Most of the time is the AWS CLI's start: several look at once."""

        def rows_of(name):
            look = copy.copy(self)
            look.rows = []
            try:
                CHECKS[name](look)
            except Refused as refused:
                look.row(name, False, "", f"could not look: {refused.code} {refused}")
            return look.rows

        with concurrent.futures.ThreadPoolExecutor(max_workers=6) as pool:
            return [row for rows in pool.map(rows_of, only or CHECKS) for row in rows]


def check_stack(look):
    status = look.aws("cloudformation", "describe-stacks", "--stack-name", look.stack.parameters["NamePrefix"])["Stacks"][0]["StackStatus"]
    look.row("stack", status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), status, f"is {status}: look at its events, then deploy again")


def check_key(look):
    alias = look.stack.parameters["KeyAlias"]
    try:
        key = look.aws("kms", "describe-key", "--key-id", alias)["KeyMetadata"]
    except Refused as refused:
        look.row(f"key {alias}", False, "", f"{refused.code}: deploy")
        return
    look.row(f"key {alias}", key["KeyState"] == "Enabled", "enabled", f"is {key['KeyState']}: aws kms enable-key, or cancel-key-deletion first")
    rotates = look.aws("kms", "get-key-rotation-status", "--key-id", key["KeyId"])["KeyRotationEnabled"]
    look.row("  rotation", rotates, "on", f"off: aws kms enable-key-rotation --key-id {key['KeyId']}")


def check_secrets(look):
    for made in (made["Properties"] for made in look.made.values() if made["Type"] == "AWS::SecretsManager::Secret"):
        name = made["Name"]
        try:
            found = look.aws("secretsmanager", "describe-secret", "--secret-id", name)
            value = look.aws("secretsmanager", "get-secret-value", "--secret-id", name)["SecretString"]
        except Refused as refused:
            look.row(f"secret {name}", False, "", "does not exist: deploy" if refused.code == "ResourceNotFoundException" else f"{refused.code}: {refused}")
            continue
        problems = unfilled(value, json.loads(made["SecretString"]))
        look.row(f"secret {name}", not problems, "filled", f"{', '.join(problems)}: aws secretsmanager put-secret-value --secret-id {name} --secret-string file://...")
        is_ours = "KmsKeyId" in found and "alias/aws/" not in found["KmsKeyId"]
        look.row("  its key", is_ours, "customer managed", "is Secrets Manager's own: deploy")


def unfilled(text, shape, where=""):
    """Names of fields that are missing or not filled; never a value."""
    if isinstance(text, str) and not where:
        try:
            text = json.loads(text)
        except ValueError:
            return ["is not JSON"]
    if isinstance(shape, dict):
        if not isinstance(text, dict):
            return [f"{where or 'the whole'} is not an object"]
        return [problem for name, part in shape.items() for problem in unfilled(text.get(name, ""), part, f"{where}.{name}".lstrip("."))]
    return [f"{where} is not filled"] if UNFILLED.search(str(text)) else []


def check_tables(look):
    for made in (made["Properties"] for made in look.made.values() if made["Type"] == "AWS::DynamoDB::Table"):
        name = made["TableName"]
        try:
            table = look.aws("dynamodb", "describe-table", "--table-name", name)["Table"]
        except Refused as refused:
            look.row(f"table {name}", False, "", "does not exist: deploy" if refused.code == "ResourceNotFoundException" else f"{refused.code}: {refused}")
            continue
        keys = [{key["AttributeName"]: key["KeyType"] for key in one["KeySchema"]} for one in (table, made)]
        indexes = [sorted(index["IndexName"] for index in one.get("GlobalSecondaryIndexes", [])) for one in (table, made)]
        is_right = table["TableStatus"] == "ACTIVE" and keys[0] == keys[1] and indexes[0] == indexes[1]
        look.row(f"table {name}", is_right, "active, keys and indexes right", f"is {table['TableStatus']} with keys {keys[0]} and indexes {indexes[0]}: deploy")
        look.row("  deletion protection", table.get("DeletionProtectionEnabled"), "on", f"off: aws dynamodb update-table --table-name {name} --deletion-protection-enabled")
        encrypted = table.get("SSEDescription", {}).get("SSEType") == "KMS"
        look.row("  encryption", encrypted, "under our key", "not under our key: deploy")
        backups = look.aws("dynamodb", "describe-continuous-backups", "--table-name", name)["ContinuousBackupsDescription"]
        recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
        to_do = f"off: aws dynamodb update-continuous-backups --table-name {name} --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
        look.row("  point-in-time recovery", recovery == "ENABLED", "on", to_do)
        if "TimeToLiveSpecification" in made:
            ttl = look.aws("dynamodb", "describe-time-to-live", "--table-name", name)["TimeToLiveDescription"]
            is_on = (ttl.get("TimeToLiveStatus"), ttl.get("AttributeName")) == ("ENABLED", made["TimeToLiveSpecification"]["AttributeName"])
            look.row("  time to live", is_on, f"on {ttl.get('AttributeName')}", "off: deploy")
    if look.stack.condition("HasCallsTable"):
        check_calls_table(look, look.stack.parameters["RdsCallsTableName"])


def check_calls_table(look, name):
    """The one that deployments share. Of another stack: no restore begins without it."""
    to_do = "deploy infra/rds-calls.yaml in this account and Region, or set RdsCallsTableName to the table that is there"
    try:
        table = look.aws("dynamodb", "describe-table", "--table-name", name)["Table"]
    except Refused as refused:
        look.row(f"table {name}", False, "", f"{refused.code}: {to_do}")
        return
    keys = {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]}
    is_right = table["TableStatus"] == "ACTIVE" and keys == {"operation_id": "HASH"}
    look.row(f"table {name}", is_right, "active, its key right", f"is {table['TableStatus']} with key {keys}: {to_do}")


def check_topic(look):
    arn = look.stack.attribute("Topic", "Arn")
    try:
        attributes = look.aws("sns", "get-topic-attributes", "--topic-arn", arn)["Attributes"]
    except Refused as refused:
        look.row(f"topic {arn.rpartition(':')[2]}", False, "", f"{refused.code}: deploy")
        return
    look.row(f"topic {arn.rpartition(':')[2]}", attributes.get("KmsMasterKeyId"), "encrypted", "is not encrypted: deploy")
    subscriptions = look.aws("sns", "list-subscriptions-by-topic", "--topic-arn", arn)["Subscriptions"]
    pending = [one["Endpoint"] for one in subscriptions if not one["SubscriptionArn"].startswith("arn:")]
    look.row("  subscriptions", subscriptions and not pending, f"{len(subscriptions)}, all confirmed", f"{', '.join(pending)} not confirmed: follow the link in AWS's mail" if pending else "nobody is told: set NotificationEmail, or subscribe by hand")


def check_bucket(look):
    (name,) = look.names("AWS::S3::Bucket", "BucketName")
    try:
        versions = look.aws("s3api", "get-bucket-versioning", "--bucket", name).get("Status")
    except Refused as refused:
        look.row(f"bucket {name}", False, "", f"{refused.code or refused}: deploy")
        return
    look.row(f"bucket {name}", versions == "Enabled", "versioned", "is not versioned: deploy")
    try:
        block = look.aws("s3api", "get-public-access-block", "--bucket", name)["PublicAccessBlockConfiguration"]
    except Refused:
        block = {"any": False}
    look.row("  public access", all(block.values()), "blocked", "not blocked: deploy")


def check_dba(look):
    for role in (made["Properties"]["RoleName"] for name, made in look.made.items() if name == "DbaRole"):
        try:
            found = look.aws("iam", "get-role", "--role-name", role)["Role"]
        except Refused as refused:
            look.row(f"role {role}", False, "", f"{refused.code}: deploy")
            continue
        who = [one["Principal"] for one in found["AssumeRolePolicyDocument"]["Statement"]]
        wanted = look.stack.parameters["DbaPrincipalArn"]
        look.row(f"role {role}", who == [{"AWS": wanted}], f"for {wanted}", f"is for {who}, not for {wanted}: deploy")


def check_logs(look):
    """How long logs are kept, and under which key; a group that a function made by itself has neither."""
    wanted = [made["Properties"] for made in look.made.values() if made["Type"] == "AWS::Logs::LogGroup"]
    prefixes = sorted({group["LogGroupName"].partition(look.stack.parameters["NamePrefix"])[0] + look.stack.parameters["NamePrefix"] for group in wanted})
    found = {group["logGroupName"]: group for prefix in prefixes for group in look.aws("logs", "describe-log-groups", "--log-group-name-prefix", prefix)["logGroups"]}
    missing = sorted(group["LogGroupName"] for group in wanted if group["LogGroupName"] not in found)
    loose = sorted(
        group["LogGroupName"] for group in wanted if group["LogGroupName"] in found
        and not (found[group["LogGroupName"]].get("retentionInDays") == int(group["RetentionInDays"]) and found[group["LogGroupName"]].get("kmsKeyId"))
    )  # fmt: skip
    to_do = f"missing: {', '.join(missing) or 'none'}; not kept for so long, or not under our key: {', '.join(loose) or 'none'}: deploy"
    look.row("logs", not missing and not loose, f"{len(wanted)} groups, kept {wanted[0]['RetentionInDays']} days, under our key", to_do)


def check_functions(look):
    for key, made in ((key, made["Properties"]) for key, made in look.made.items() if made["Type"] == "AWS::Serverless::Function"):
        name = made["FunctionName"]
        try:
            found = look.aws("lambda", "get-function-configuration", "--function-name", name)
        except Refused as refused:
            look.row(f"function {name}", False, "", f"{refused.code}: deploy")
            continue
        variables = found.get("Environment", {}).get("Variables", {})
        wanted = set(look.stack.template["Globals"]["Function"]["Environment"]["Variables"])
        well = found.get("State", "Active") == "Active" and set(variables) == wanted and found["Role"] == look.stack.attribute(key.replace("Function", "Role"), "Arn")
        look.row(f"function {name}", well, "active, its own role and variables", f"is {found.get('State')}, or not with the template's role and variables: deploy")


def check_machine(look):
    arn = look.stack.attribute("StateMachine", "Arn")
    try:
        found = look.aws("stepfunctions", "describe-state-machine", "--state-machine-arn", arn)
    except Refused as refused:
        look.row(f"state machine {arn.rpartition(':')[2]}", False, "", f"{refused.code}: deploy")
        return
    look.row(f"state machine {arn.rpartition(':')[2]}", found.get("status", "ACTIVE") == "ACTIVE", "active", f"is {found.get('status')}")
    logging = found.get("loggingConfiguration", {})
    look.row("  logging", logging.get("level") == "ALL" and not logging.get("includeExecutionData"), "on, without data", "off, or with data: deploy")


def check_schedule(look):
    (name,), (group,) = look.names("AWS::Scheduler::Schedule", "Name"), look.names("AWS::Scheduler::ScheduleGroup", "Name")
    state = look.aws("scheduler", "get-schedule", "--name", name, "--group-name", group)["State"]
    look.row(f"schedule {name}", state == "ENABLED", "enabled", "disabled: after a first restore by hand, ScheduleState=ENABLED and deploy")
    (queue,) = look.names("AWS::SQS::Queue", "QueueName")
    url = look.aws("sqs", "get-queue-url", "--queue-name", queue)["QueueUrl"]
    waiting = look.aws("sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "ApproximateNumberOfMessages")["Attributes"]["ApproximateNumberOfMessages"]
    look.row("  dead letters", waiting == "0", "none", f"{waiting} starts were not delivered: start by hand, then aws sqs purge-queue --queue-url {url}")


def check_alarms(look):
    wanted = set(look.names("AWS::CloudWatch::Alarm", "AlarmName"))
    prefix = f"{look.stack.parameters['NamePrefix']}-"
    found = {alarm["AlarmName"]: alarm["StateValue"] for alarm in look.aws("cloudwatch", "describe-alarms", "--alarm-name-prefix", prefix)["MetricAlarms"]}
    missing, ringing = sorted(wanted - set(found)), sorted(name for name, state in found.items() if name in wanted and state == "ALARM")
    look.row("alarms", not missing and not ringing, f"{len(wanted)}, none rings", f"missing: {', '.join(missing) or 'none'}; ringing: {', '.join(ringing) or 'none'}")


CHECKS = {
    "stack": check_stack, "key": check_key, "secrets": check_secrets, "tables": check_tables, "topic": check_topic, "bucket": check_bucket,
    "dba": check_dba, "logs": check_logs, "functions": check_functions, "machine": check_machine, "schedule": check_schedule, "alarms": check_alarms,
}  # fmt: skip


def show(rows):
    width = max(len(what) for what, _, _ in rows)
    for what, well, text in rows:
        print(f"{'ok   ' if well else 'TO DO'}  {what.ljust(width)}  {text}")
    to_do = sum(not well for _, well, _ in rows)
    print(f"\n{len(rows) - to_do} ok, {to_do} to do")
    return to_do
