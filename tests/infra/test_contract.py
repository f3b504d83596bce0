"""The template, the variables that the code reads, and the names of the written contract (contract.json): none missing, none unused."""

import json
import re
import sys

import pytest
from cfn import ACCOUNT, REGION, ROOT, Stack, load

sys.path.insert(0, str(ROOT / "tests" / "local"))

from functions import FUNCTIONS  # noqa: E402
from seed import make_calls_table, make_tables  # noqa: E402

CONTRACT = json.loads((ROOT / "tests" / "infra" / "contract.json").read_text())
STACK = Stack({"DbaPrincipalArn": CONTRACT["dba_role"]["principal"]})
MADE = STACK.resources()
# Variables that are read and not set in AWS, and why.
NOT_SET = {
    "MAX_WAIT_SECONDS": "only for stacks whose RDS is quick", "DATABASE_CA_FILE": "RDS's own roots are built in",
    "MASKING_FOLDER": "scripts are in S3", "AWS_REGION": "Lambda's own", "AWS_LAMBDA_FUNCTION_NAME": "Lambda's own",
    "AWS_CA_BUNDLE": "Amazon's own roots are built in", "AWS_ENDPOINT_URL": "AWS's own", "AWS_SDK_UA_APP_ID": "only the local stack asks who calls",
}  # fmt: skip
# Kinds of resources that have names, with the property that holds it.
NAMED = {
    "AWS::DynamoDB::Table": "TableName", "AWS::SNS::Topic": "TopicName", "AWS::KMS::Alias": "AliasName", "AWS::SecretsManager::Secret": "Name",
    "AWS::S3::Bucket": "BucketName", "AWS::IAM::Role": "RoleName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName", "AWS::Serverless::Function": "FunctionName",
    "AWS::Serverless::StateMachine": "Name", "AWS::Logs::LogGroup": "LogGroupName", "AWS::SQS::Queue": "QueueName", "AWS::Scheduler::ScheduleGroup": "Name",
    "AWS::Scheduler::Schedule": "Name", "AWS::Events::Rule": "Name", "AWS::CloudWatch::Alarm": "AlarmName", "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::Logs::QueryDefinition": "Name",
}  # fmt: skip
NAMELESS = {
    "AWS::KMS::Key", "AWS::SNS::TopicPolicy", "AWS::SNS::Subscription", "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupIngress", "AWS::EC2::VPCEndpoint", "AWS::Logs::MetricFilter", "AWS::Lambda::Permission",
}  # fmt: skip


def names(stack, *kinds):
    """(kind, name) of everything that has one."""
    return {
        (made["Type"], made["Properties"][NAMED[made["Type"]]]) for made in stack.resources().values() if made["Type"] in NAMED and (not kinds or made["Type"] in kinds)
    }  # fmt: skip


def only(kind, name):
    """The one resource of this kind and name."""
    (found,) = [made for made in MADE.values() if made["Type"] == kind and made["Properties"][NAMED[kind]] == name]
    return found["Properties"]


def test_every_name_of_the_contract_is_made():
    """With the prefix `aurora-restore` and the environment `dev`, the contract's names are what the template makes, and no others of these kinds."""
    want = {("AWS::DynamoDB::Table", name) for name in CONTRACT["tables"]} | {("AWS::SecretsManager::Secret", name) for name in CONTRACT["secrets"]}
    want |= {("AWS::SNS::Topic", CONTRACT["topic"]), ("AWS::KMS::Alias", CONTRACT["key_alias"]), ("AWS::S3::Bucket", CONTRACT["bucket"])}
    assert names(STACK, *{kind for kind, _ in want}) == want


@pytest.mark.parametrize("table", CONTRACT["tables"])
def test_tables_have_the_contracts_keys(table):
    """Keys with their types, and every attribute that is declared is one of a key or an index."""
    made = only("AWS::DynamoDB::Table", table)
    types = {attribute["AttributeName"]: attribute["AttributeType"] for attribute in made["AttributeDefinitions"]}
    keys = {key["AttributeName"]: [key["KeyType"], types[key["AttributeName"]]] for key in made["KeySchema"]}
    assert keys == CONTRACT["tables"][table]


@pytest.mark.parametrize("secret", CONTRACT["secrets"])
def test_secrets_have_the_contracts_shape(secret):
    """Fields and tags are the contract's, and every password is a placeholder."""
    made = only("AWS::SecretsManager::Secret", secret)
    assert json.loads(made["SecretString"]) == CONTRACT["secrets"][secret]["shape"]
    tags = {tag["Key"]: tag["Value"] for tag in made["Tags"]}
    assert CONTRACT["secrets"][secret]["tags"].items() <= tags.items()
    assert made["KmsKeyId"] == STACK.attribute("Key", "Arn")


def test_the_dba_role_is_the_contracts():
    """Its name, who takes it, and the master credentials and nothing else. Writing a value needs one right more than the contract says."""
    wanted = CONTRACT["dba_role"]
    made = only("AWS::IAM::Role", wanted["name"])
    assert made["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"AWS": wanted["principal"]}
    (policy,) = made["Policies"]
    assert policy["PolicyName"] == wanted["policy"]
    statements = policy["PolicyDocument"]["Statement"]
    actions = [action for statement in statements for action in (statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]])]
    assert sorted(actions) == sorted([*wanted["actions"], "kms:GenerateDataKey"])
    assert {statement["Resource"] for statement in statements} == {
        f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{wanted['secret']}-??????", STACK.attribute("Key", "Arn"),
    }  # fmt: skip


def read_variables():
    """Every environment variable that the functions' code names, tests aside."""
    found = set()
    for path in [*(ROOT / "crates").glob("core/src/**/*.rs"), *(ROOT / "crates").glob("steps/src/**/*.rs"), *(ROOT / "crates").glob("database/src/**/*.rs")]:
        code = re.split(r"#\[cfg\(test\)\]\s*mod ", path.read_text())[0]
        found |= set(re.findall(r'(?:\bget|required|number|secret|var|var_os)\(\s*"([A-Z][A-Z0-9_]+)"', code))
    return found


def test_every_variable_that_is_read_is_set():
    """The functions' environment is what the code reads; what it reads besides is Lambda's or the local stack's."""
    variables = set(STACK.template["Globals"]["Function"]["Environment"]["Variables"])
    read = read_variables()
    assert len(read) > 15, "the code is searched in the wrong place"
    assert variables == read - set(NOT_SET), "set and read differ"
    assert set(NOT_SET) <= read, "nobody reads these any more"
    assert set(CONTRACT["variables"]) <= variables
    for name, made in STACK.template["Resources"].items():
        assert "Environment" not in made["Properties"] or made["Type"] != "AWS::Serverless::Function", f"{name} has variables of its own"


def test_variables_name_what_is_made():
    """Tables, topic, key and secrets by the names that the template gives them."""
    values = STACK.resolve(STACK.template["Globals"]["Function"]["Environment"]["Variables"])
    assert values["STATE_TABLE_NAME"] in CONTRACT["tables"] and values["AUDIT_TABLE_NAME"] in CONTRACT["tables"]
    assert values["SNS_TOPIC_ARN"] == f"arn:aws:sns:{REGION}:{ACCOUNT}:{CONTRACT['topic']}"
    assert {values["MASTER_SECRET_NAME"], values["APP_SECRET_NAME"]} <= set(CONTRACT["secrets"])
    assert values["KMS_KEY_ID"] == STACK.attribute("Key", "Arn")
    assert (values["ENVIRONMENT"], values["SOURCE_REGION"], values["TARGET_REGION"]) == ("dev", "us-east-1", REGION)


def test_the_table_of_calls_is_the_state_table_unless_both_are_given():
    """A table without a bound would be named for nothing, a bound without a table is this deployment's own."""
    for calls, table, want in ((0, "", "aurora-restore-state"), (10, "", "aurora-restore-state"), (0, "shared", "aurora-restore-state"), (10, "shared", "shared")):
        stack = Stack({"RdsCallsPerSecond": calls, "RdsCallsTableName": table})
        values = stack.resolve(stack.template["Globals"]["Function"]["Environment"]["Variables"])
        assert (values["RDS_CALLS_PER_SECOND"], values["RDS_CALLS_TABLE_NAME"]) == (calls, want)
        assert stack.condition("HasCallsTable") == (want == "shared") == bool(stack.resource("CallsPolicy"))


def test_keys_of_other_teams():
    """Each key that can be named instead of the stack's own is where it belongs, and its parameter makes nothing new."""
    database, secret = (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}" for name in ("DATABASE", "SECRET"))
    stack = Stack({"DbaPrincipalArn": CONTRACT["dba_role"]["principal"], "DatabaseKmsKeyArn": database, "MasterUserSecretKmsKeyArn": secret})
    assert names(stack) == names(STACK)
    values = stack.resolve(stack.template["Globals"]["Function"]["Environment"]["Variables"])
    assert values["KMS_KEY_ID"] == database
    named = {key: {name for name, made in stack.resources().items() if key in json.dumps(made["Properties"])} for key in (database, secret)}
    assert named[database] == {"PreflightRole", "CopySnapshotRole", "DeleteClusterRole", "RestoreClusterRole", "CheckRestoreRole"}
    assert named[secret] == {"PreflightRole", "CheckRestoreRole", "SetupDbUsersRole", "VerifyRestoreRole", "SwapClusterRole"}
    # The request's own example is the key that is taken when nothing is said.
    example = re.search(r"\| `master_user_secret_kms_key_id` \|.*`\"([^`\"]+)\"` \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert example[1] == CONTRACT["key_alias"]


def test_a_function_for_every_step():
    """The binaries, each with its function, and the definition's placeholders filled with them."""
    binaries = sorted(path.stem for path in (ROOT / "crates" / "steps" / "src" / "bin").glob("*.rs"))
    functions = {made["Properties"]["FunctionName"]: made["Metadata"] for made in MADE.values() if made["Type"] == "AWS::Serverless::Function"}
    assert sorted(functions) == [f"aurora-restore-{step}" for step in binaries] and binaries == sorted(FUNCTIONS)
    for name, metadata in functions.items():
        assert metadata["BuildProperties"]["Binary"] == name.removeprefix("aurora-restore-"), name
    definition = (ROOT / "statemachine" / "restore.asl.json").read_text()
    substitutions = MADE["StateMachine"]["Properties"]["DefinitionSubstitutions"]
    assert set(re.findall(r"\$\{(\w+)\}", definition)) == set(substitutions)
    for name, arn in substitutions.items():
        step = re.sub(r"(?<!^)([A-Z])", r"-\1", name.removesuffix("FunctionArn")).lower()
        assert arn.endswith(f":function:aurora-restore-{step}"), name


def test_the_local_stacks_tables_are_the_templates():
    """What the whole-flow tests run on has the keys, indexes and TTL that are deployed."""
    asked = {}

    class Recorder:
        def client(self, _service):
            return self

        def create_table(self, **table):
            asked[table["TableName"]] = table

        def update_time_to_live(self, TableName, TimeToLiveSpecification):  # noqa: N803 boto3's
            asked[TableName]["TimeToLiveSpecification"] = TimeToLiveSpecification

    make_tables(Recorder())
    make_calls_table(Recorder())
    shared = Stack({}, load(ROOT / "infra" / "rds-calls.yaml")).resource("CallsTable")["Properties"]
    assert shared["TableName"] in asked and len(asked) == 3
    for name, local in asked.items():
        made = shared if name == shared["TableName"] else only("AWS::DynamoDB::Table", name)
        for field, value in local.items():
            if field == "AttributeDefinitions":
                assert sorted(map(str, value)) == sorted(map(str, made[field])), name
            else:
                assert made[field] == value, f"{name}: {field}"
        assert set(made) - set(local) <= {"PointInTimeRecoverySpecification", "SSESpecification", "DeletionProtectionEnabled", "ResourcePolicy", "Tags"}


def test_nothing_is_made_that_nobody_knows_of():
    """Every resource is of a kind that is named by the prefix, or has no name."""
    for name, made in MADE.items():
        assert made["Type"] in NAMED or made["Type"] in NAMELESS, f"{name} is a {made['Type']}: say here how it is named"
        if made["Type"] in NAMED:
            physical = made["Properties"][NAMED[made["Type"]]]
            assert re.search(r"(^|/)aurora-restore([-/]|$)", physical), f"{name} is called {physical}"


def test_environments_and_tenants_side_by_side():
    """Two environments, and two tenants, of one account and Region share no name."""
    prod = {"NamePrefix": "aurora-restore-prod", "Environment": "prod", "KeyAlias": "alias/aurora-restore-prod-secrets"}
    tenant = {"NamePrefix": "acme-restore-prod", "Environment": "prod", "SecretPrefix": "acme", "KeyAlias": "alias/acme-restore-prod-secrets"}
    stacks = [names(Stack(parameters)) for parameters in ({}, prod, tenant)]
    assert not stacks[0] & stacks[1] and not stacks[0] & stacks[2] and not stacks[1] & stacks[2]
    assert {len(stack) for stack in stacks} == {len(stacks[0])}


def test_the_environments_of_samconfig():
    """dev, staging and prod: parameters that exist, names of their own, tags, nothing of the schedule before a first restore."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    seen = set()
    for environment in ("dev", "staging", "prod"):
        settings = config[environment]["deploy"]["parameters"]
        given = dict(override.split("=", 1) for override in settings["parameter_overrides"])
        assert set(given) <= set(load()["Parameters"]), environment
        needed = {name for name, parameter in load()["Parameters"].items() if "Default" not in parameter}
        assert needed <= set(given), f"{environment} lacks {needed - set(given)}"
        assert given["Environment"] == environment and given["ScheduleState"] == "DISABLED"
        assert settings["tags"] == f"Application={given['NamePrefix']} Environment={environment}"
        seen |= {given["NamePrefix"], given["KeyAlias"], settings["stack_name"]}
        made = names(Stack({**given, "SubnetIds": ["subnet-1"], "SourceKmsKeyArn": ""}))
        assert ("AWS::DynamoDB::Table", f"aurora-restore-{environment}-state") in made
    assert len(seen) == 3 + 3, "stack and prefix are the same; no two environments share anything"


def test_tags_everywhere():
    """Everything that can have tags says whose it is."""
    untaggable = {"AWS::KMS::Alias", "AWS::IAM::ManagedPolicy", "AWS::Scheduler::Schedule", "AWS::CloudWatch::Dashboard", "AWS::Logs::QueryDefinition"}
    for name, made in Stack({"DbaPrincipalArn": CONTRACT["dba_role"]["principal"], "CreateEndpoints": "true"}).resources().items():
        if made["Type"] not in (NAMELESS - {"AWS::KMS::Key", "AWS::EC2::SecurityGroup", "AWS::EC2::VPCEndpoint"}) | untaggable | {"AWS::Serverless::Function"}:
            tags = made["Properties"].get("Tags")
            assert tags, name
            tags = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
            assert {"Application": "aurora-restore", "Environment": "dev"}.items() <= tags.items(), name
