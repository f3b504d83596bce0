"""What every resource has to be, whatever it is for: encrypted, kept, bounded, explained."""

import re

import pytest
from cfn import ACCOUNT, REGION, ROOT, Stack, load
from costs import memory_gb

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/KEY"
CALLS = {"RdsCallsPerSecond": 10, "RdsCallsTableName": "aurora-restore-rds-calls"}
EVERYTHING = {"DbaPrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/dba", "CreateEndpoints": "true", "NotificationEmail": "a@example.com", "ScheduleState": "ENABLED", **CALLS}
STACK = Stack(EVERYTHING)
MADE = STACK.resources()


def of_type(kind):
    return {name: made["Properties"] for name, made in MADE.items() if made["Type"] == kind}


def one(kind):
    ((_, properties),) = of_type(kind).items()
    return properties


def test_every_resource_can_be_made():
    """What is looked at below is the whole template."""
    assert set(MADE) == set(load()["Resources"])


def test_what_a_restore_leaves_behind_is_kept():
    """Destroying or replacing the stack leaves key, tables and bucket, and nothing else."""
    kept = {name for name, resource in load()["Resources"].items() if resource.get("DeletionPolicy") == "Retain"}
    assert kept == {"Key", "StateTable", "AuditTable", "Bucket"}
    assert all(load()["Resources"][name]["UpdateReplacePolicy"] == "Retain" for name in kept)


def test_tables():
    """On demand, recoverable to any point in time, under our key, protected; only the state has an end."""
    for name, table in of_type("AWS::DynamoDB::Table").items():
        assert table["BillingMode"] == "PAY_PER_REQUEST" and table["DeletionProtectionEnabled"], name
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, name
        assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}, name
    assert MADE["StateTable"]["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert "TimeToLiveSpecification" not in MADE["AuditTable"]["Properties"], "an audit trail has no end"


def test_the_table_that_deployments_share():
    """On demand, under AWS's own key, so that no right on a key is needed; keyed as a state table is, since either holds the items; protected."""
    shared = Stack({}, load(ROOT / "infra" / "rds-calls.yaml"))
    (table,) = (made["Properties"] for made in shared.resources().values())
    assert table["BillingMode"] == "PAY_PER_REQUEST" and table["DeletionProtectionEnabled"] and "SSESpecification" not in table
    assert table["KeySchema"] == MADE["StateTable"]["Properties"]["KeySchema"]
    assert not {"TimeToLiveSpecification", "PointInTimeRecoverySpecification"} & set(table), "points in time, as many as Regions"
    (output,) = shared.template["Outputs"]
    assert output in load()["Parameters"] and shared.resolve(shared.template["Outputs"][output]["Value"]) == table["TableName"]
    for file, parameter in (("template.yaml", "RdsCallsTableName"), ("rds-calls.yaml", "TableName")):
        pattern = load(ROOT / "infra" / file)["Parameters"][parameter]["AllowedPattern"]
        assert re.fullmatch(pattern, table["TableName"]) and not re.fullmatch(pattern, "arn:aws:dynamodb:x") and bool(re.fullmatch(pattern, "")) == (file == "template.yaml")


def test_endpoints_let_every_table_and_bucket_through():
    """Without a policy of its own an endpoint lets all through: the table that deployments share, too. With one it would have to name that."""
    endpoints = of_type("AWS::EC2::VPCEndpoint")
    assert len(endpoints) == 4 and not any("PolicyDocument" in endpoint for endpoint in endpoints.values())


def test_the_key_is_used_through_services_only():
    """It rotates; nobody but services on our behalf decrypts with it, and each service only for itself."""
    key = one("AWS::KMS::Key")
    assert key["EnableKeyRotation"] is True
    for statement in key["KeyPolicy"]["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        uses = [action for action in actions if re.match(r"kms:(\*|Decrypt|Encrypt|ReEncrypt|GenerateDataKey|CreateGrant)", action)]
        if uses and "AWS" in statement["Principal"]:
            assert statement["Condition"]["StringEquals"]["kms:ViaService"], statement["Sid"]
        if "kms:CreateGrant" in uses:
            assert statement["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}, statement["Sid"]


def test_the_bucket():
    """Versioned, encrypted, over TLS only, not public, and it does not grow for ever."""
    bucket = one("AWS::S3::Bucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"} and all(bucket["PublicAccessBlockConfiguration"].values())
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert {rule["Id"] for rule in bucket["LifecycleConfiguration"]["Rules"] if rule["Status"] == "Enabled"} >= {"unfinished-uploads", "former-versions"}
    (policy,) = one("AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    assert (policy["Effect"], policy["Principal"], policy["Action"]) == ("Deny", "*", "s3:*") and policy["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_topic_and_queue_are_encrypted_and_over_tls():
    """Nothing is published or put in without TLS."""
    assert one("AWS::SNS::Topic")["KmsMasterKeyId"] == KEY and one("AWS::SQS::Queue")["SqsManagedSseEnabled"] is True
    for policy in (one("AWS::SNS::TopicPolicy"), one("AWS::SQS::QueuePolicy")):
        denied = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
        assert [one["Condition"] for one in denied] == [{"Bool": {"aws:SecureTransport": "false"}}]


def test_logs_end_and_hold_no_payload():
    """Every function and the state machine log into a group that is there before them, with an end, under our key."""
    groups = of_type("AWS::Logs::LogGroup")
    for name, group in groups.items():
        assert group["RetentionInDays"] == 90 and group["KmsKeyId"] == KEY, name
    names = {group["LogGroupName"] for group in groups.values()}
    for name, function in of_type("AWS::Serverless::Function").items():
        assert f"/aws/lambda/{function['FunctionName']}" in names and load()["Resources"][name]["DependsOn"] == name.replace("Function", "LogGroup")
    machine = one("AWS::Serverless::StateMachine")
    assert machine["Logging"]["IncludeExecutionData"] is False and machine["Logging"]["Level"] == "ALL" and machine["Tracing"] == {"Enabled": True}
    assert (ROOT / "infra" / machine["DefinitionUri"]).resolve() == ROOT / "statemachine" / "restore.asl.json"


def test_a_late_start_is_dropped():
    """The schedule tries for an hour at most, within its window, then the start goes into the queue that is watched."""
    target = one("AWS::Scheduler::Schedule")["Target"]
    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == 3600 and target["RetryPolicy"]["MaximumRetryAttempts"] <= 10
    assert target["DeadLetterConfig"]["Arn"] == STACK.attribute("ScheduleDeadLetters", "Arn")
    assert one("AWS::Scheduler::Schedule")["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}
    assert Stack().resource("Schedule")["Properties"]["State"] == "DISABLED"


def test_functions_are_chosen_and_explained():
    """arm64 unless told otherwise; each timeout has its reason beside it; concurrency is reserved only where an account has some."""
    text = (ROOT / "infra" / "template.yaml").read_text()
    assert len(re.findall(r"^      Timeout: \d+ # \w.*$", text, re.MULTILINE)) == len(of_type("AWS::Serverless::Function"))
    common = load()["Globals"]["Function"]
    assert STACK.resolve(common["Architectures"]) == ["arm64"] and Stack({"Architecture": "x86_64"}).resolve(common["Architectures"]) == ["x86_64"]
    assert "ReservedConcurrentExecutions" not in STACK.resolve(common)
    assert Stack({"ReservedConcurrency": 5}).resolve(common)["ReservedConcurrentExecutions"] == 5
    in_vpc = {name for name, function in of_type("AWS::Serverless::Function").items() if "VpcConfig" in function}
    assert in_vpc == {"CheckRestoreFunction", "SetupDbUsersFunction", "VerifyRestoreFunction", "SwapClusterFunction"}


def test_memory_is_what_the_page_says():
    """Who has more than the least has its reason beside it and in docs/performance.md."""
    text = (ROOT / "infra" / "template.yaml").read_text()
    page = (ROOT / "docs" / "performance.md").read_text().split("\n## Memory\n")[1].split("\n## ")[0]
    more, usual = memory_gb()
    assert set(re.findall(r"^\| `([a-z-]+)` \| (\d+) \| \w", page, re.MULTILINE)) == {(step, str(int(gb * 1024))) for step, gb in more.items()}
    assert re.search(rf"^\| all others \| {usual * 1024:.0f} \|", page, re.MULTILINE)
    assert len(re.findall(r"^      MemorySize: \d+ # \w.*$", text, re.MULTILINE)) == len(more)


def test_no_password_in_the_template():
    """What stands for one says PLACEHOLDER, which preflight refuses."""
    for name, secret in of_type("AWS::SecretsManager::Secret").items():
        assert set(re.findall(r'"password":"([^"]*)"', secret["SecretString"])) <= {"PLACEHOLDER"}, name


@pytest.mark.parametrize("file", ["template.yaml", "source-account.yaml", "rds-calls.yaml"])
def test_exceptions_have_their_reasons_beside_them(file):
    """Each finding of a linter that is not followed names the finding and says why."""
    for name, resource in load(ROOT / "infra" / file)["Resources"].items():
        for linter in ("checkov", "parliament", "cfn-lint"):
            for exception in resource.get("Metadata", {}).get(linter, {}).get("skip", []):
                assert set(exception) == {"id", "comment"} and len(exception["comment"]) > 20, f"{name}: {exception}"
        assert "cfn-lint" not in resource.get("Metadata", {}), "its exceptions would have no reason"
    # Anywhere else an exception would stand apart from its resource.
    for path in [ROOT / "Makefile", *ROOT.glob(".cfnlintrc*"), *ROOT.glob(".checkov*")]:
        assert not re.search(r"--ignore-checks|--skip-check|--soft-fail|ignore_checks|skip-check", path.read_text()), path


def test_nobody_shares_a_snapshot_without_the_external_id():
    """The role in production's account: for one principal with the external id, for snapshots that are shared, never for the cluster."""
    given = {"RestoringAccountId": "210987654321", "OrchestratorPrincipalArn": "arn:aws:iam::210987654321:role/deploy", "ExternalId": "0123456789abcdef", "SourceClusterId": "production"}
    role = Stack(given, load(ROOT / "infra" / "source-account.yaml")).resource("SharingRole")["Properties"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"AWS": given["OrchestratorPrincipalArn"]} and trust["Condition"] == {"StringEquals": {"sts:ExternalId": given["ExternalId"]}}
    (policy,) = role["Policies"]
    changing = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow" and "rds:DeleteDBClusterSnapshot" in one["Action"]]
    assert [one["Condition"] for one in changing] == [{"StringEquals": {"aws:ResourceTag/aurora-restore:shared": "true"}}]
    (denied,) = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
    assert (denied["NotAction"], denied["Resource"].rpartition(":cluster:")[2]) == ("rds:Describe*", "production")
