"""Every wrong request ends in InvalidRequest before anything is touched, with field, value and what is accepted."""

import json

import checks
import pytest
import whole

LONG = "a" * 61
# (what is wrong, the request, words of the message, the target that the message can name)
WRONG = [
    ("an unknown field", {"snapshot": "x"}, ['snapshot: got "x"', "no such field", "did you mean 'snapshot_id'?"], "staging"),
    ("an unknown field like no other", {"colour": 1}, ["colour: got 1", "the fields are operation_id, source_region"], "staging"),
    ("an unknown field inside", {"retention": {"copy": 1}}, ["retention.copy: got 1", "the fields are copies, days"], "staging"),
    ("a text for a flag", {"skip_final_snapshot": "yes"}, ['skip_final_snapshot: got "yes"', "takes true or false"], "staging"),
    ("a number for a text", {"snapshot_id": 7}, ["snapshot_id: got 7", "takes a text"], "staging"),
    ("a text for a number", {"port": "5432"}, ['port: got "5432"', "a whole number from 1150 to 65535"], "staging"),
    ("a list for an object", {"tags": ["a"]}, ['tags: got ["a"]', "takes an object of texts"], "staging"),
    ("an object for a list", {"instances": {}}, ["instances: got {}", "takes a list of objects"], "staging"),
    ("a target too long for RDS", {"target_cluster_id": "a" * 64}, ["target_cluster_id: got", "is 64 characters long", "1 to 63"], "-"),
    ("a target too long for its instances", {"target_cluster_id": LONG}, [f"target_cluster_id: got {LONG}", "at most 60 characters"], LONG),
    ("an automated snapshot's name as target", {"target_cluster_id": "rds:prod"}, ["got 'rds:prod'", "starts with 'rds:'"], "-"),
    ("a double hyphen", {"target_cluster_id": "a--b"}, ["got 'a--b'", "two hyphens in a row"], "-"),
    ("a digit first", {"source_cluster_id": "1a"}, ["source_cluster_id: got '1a'", "does not start with a letter"], "staging"),
    ("an underscore", {"target_cluster_id": "my_cluster"}, ["got 'my_cluster'", "'_'"], "-"),
    ("an empty text", {"target_cluster_id": ""}, ['target_cluster_id: got ""', "not empty"], "-"),
    ("an unknown Region", {"source_region": "eu-west-9"}, ["source_region: got 'eu-west-9'", "not a Region", "'eu-central-1'"], "staging"),
    ("a Region out of reach", {"source_region": "cn-north-1"}, ["source_region: got 'cn-north-1'", "China"], "staging"),
    ("a Region of another deployment", {"target_region": "eu-west-1"}, ["target_region: got eu-west-1", "takes us-west-2", "TARGET_REGION"], "staging"),
    ("the source as target", {"source_region": "us-west-2", "source_cluster_id": "staging"}, ["target_cluster_id: got staging", "other than the source"], "staging"),
    ("a key that does not exist", {"kms_key_id": "alias/none"}, ["kms_key_id: got 'alias/none'", "exists in the target Region us-west-2"], "staging"),
    ("another thing's ARN as key", {"kms_key_id": "arn:aws:s3:::bucket"}, ["kms_key_id: got arn:aws:s3:::bucket"], "staging"),
    ("serverless without scaling", {"db_instance_class": "db.serverless"}, ["serverless_v2: needs {min_acu, max_acu}", "db.serverless"], "staging"),
    ("scaling upside down", {"serverless_v2": {"min_acu": 8, "max_acu": 2}}, ["serverless_v2.min_acu: got 8", "at most max_acu (2)"], "staging"),
    ("scaling in thirds", {"serverless_v2": {"min_acu": 0.3, "max_acu": 2}}, ["serverless_v2.min_acu: got 0.3", "in halves"], "staging"),
    ("negative copies", {"retention": {"copies": -1}}, ["retention.copies: got -1", "from 1 to 100"], "staging"),
    ("no copies at all", {"retention": {"copies": 0}}, ["retention.copies: got 0", "from 1 to 100"], "staging"),
    ("negative days", {"retention": {"days": -7}}, ["retention.days: got -7", "from 0 to 3650"], "staging"),
    ("a date that does not exist", {"snapshot_date": "2026-02-30"}, ["snapshot_date: got 2026-02-30", "a day that exists, as YYYY-MM-DD"], "staging"),
    ("a date in words", {"snapshot_date": "yesterday"}, ["snapshot_date: got yesterday", "YYYY-MM-DD"], "staging"),
    ("a date beside a name", {"snapshot_id": "x", "snapshot_date": "2026-02-03"}, ["snapshot_date: got 2026-02-03", "'latest'"], "staging"),
    ("an illegal snapshot", {"snapshot_id": "a--b"}, ["snapshot_id: got a--b", "two hyphens"], "staging"),
    ("another cluster's snapshot", {"snapshot_id": "other-weekly"}, ["snapshot_id: got 'other-weekly'", "of cluster other", "source_cluster_id production"], "staging"),
    ("an illegal class", {"db_instance_class": "r6g.large"}, ["db_instance_class: got r6g.large", "'db.r6g.large'"], "staging"),
    ("too many instances", {"db_instance_class": "db.r6g.large", "instance_count": 16}, ["instance_count: got 16", "from 1 to 15"], "staging"),
    ("a security group by name", {"vpc_security_group_ids": ["web"]}, ["vpc_security_group_ids[0]: got web", "'sg-…'"], "staging"),
    ("a subnet group that is not there", {"db_subnet_group_name": "none"}, ["db_subnet_group_name: got none", "exists in us-west-2"], "staging"),
    ("a security group that is not there", {"vpc_security_group_ids": ["sg-0123456789abcdef0"]}, ["got sg-0123456789abcdef0; takes security groups that exist in us-west-2"], "staging"),
    ("a security group of another network", {"vpc_security_group_ids": ["ELSEWHERE"]}, ["takes groups of vpc-", "where the subnet group staging-subnets is"], "staging"),
    ("a class that cannot be ordered", {"db_instance_class": "db.m1.small"}, ["db_instance_class: db.m1.small cannot be ordered with aurora-postgresql 15.4 in us-west-2", "describe-orderable-db-instance-options"], "staging"),
    ("a parameter group that is not there", {"db_cluster_parameter_group_name": "none"}, ["db_cluster_parameter_group_name: got none", "exists in us-west-2"], "staging"),
    ("a parameter group of another version", {"db_cluster_parameter_group_name": "of-13"}, ["got of-13, whose family is aurora-postgresql13; takes one of family aurora-postgresql15"], "staging"),
    ("permission for another cluster", {"replace_unmanaged": "other"}, ["replace_unmanaged: got other", "'staging'"], "staging"),
    ("a way of replacing that there is not", {"replacement": "rename"}, ["replacement: got rename", "'delete_first' or 'swap'"], "staging"),
    ("a tag of ours", {"tags": {"aurora-restore:managed": "false"}}, ["tags: got aurora-restore:managed", "do not start with 'aws:'"], "staging"),
    ("an illegal operation_id", {"operation_id": "a b"}, ["operation_id: got a b", "1 to 80 letters"], "staging"),
    ("a check without a query", {"verify": {"checks": [{"name": "x"}]}}, ["verify.checks[0].query: needs"], "staging"),
    ("a list as input", [1], ["the request: got [1]", "takes a JSON object"], "staging"),
    ("a text as input", "x", ['the request: got "x"', "takes a JSON object"], "staging"),
    ("several things at once", {"port": 1, "retention": {"days": -1}, "kms": "k"}, ["port: got 1;", "retention.days: got -1", 'kms: got "k"'], "staging"),
]


@pytest.fixture(scope="module")
def shared(scene):
    """One scene for all: a wrong request leaves nothing behind that the next could notice."""
    world = scene()
    other = world.stack.client("rds", "us-east-1")
    other.create_db_cluster(DBClusterIdentifier="other", Engine="aurora-postgresql", EngineVersion="15.4", MasterUsername="master", MasterUserPassword="not-used-here")
    other.create_db_cluster_snapshot(DBClusterSnapshotIdentifier="other-weekly", DBClusterIdentifier="other")
    ec2 = world.stack.client("ec2")
    elsewhere = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    world.elsewhere = ec2.create_security_group(GroupName="elsewhere", Description="of another network", VpcId=elsewhere)["GroupId"]
    world.stack.client("rds").create_db_cluster_parameter_group(DBClusterParameterGroupName="of-13", DBParameterGroupFamily="aurora-postgresql13", Description="old")
    world.before = {region: checks.look(world, region) for region in ("us-east-1", "us-west-2")}
    return world


def refuse(world, request, words, target="staging"):
    run = world.run(request if isinstance(request, dict) else json.dumps(request))
    whole.check_failure(world, run, "InvalidRequest", "Preflight", *words, "touched", target=target)
    assert "plan" not in run.item and world.locks() == []
    return run


@pytest.mark.parametrize(("request_", "words", "target"), [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in WRONG])
def test_a_wrong_request(shared, request_, words, target):
    """FAILED with InvalidRequest, naming field, value and what is accepted; no mutating call; told once; no lock."""
    shared.stack.forget_calls()
    if isinstance(request_, dict) and request_.get("vpc_security_group_ids") == ["ELSEWHERE"]:
        request_ = {"vpc_security_group_ids": [shared.elsewhere]}
    refuse(shared, request_, words, target)


def test_after_all_of_them_nothing_has_changed(shared):
    """Both Regions are exactly as before the wrong requests."""
    for region, things in shared.before.items():
        checks.check_untouched(things, checks.look(shared, region))


def test_a_key_of_the_wrong_region(shared):
    """A key of the source's Region cannot encrypt the copy: said before anything is copied."""
    shared.stack.forget_calls()
    key = shared.seeded.keys["us-east-1"]
    refuse(shared, {"kms_key_id": key}, [f"kms_key_id: got {key}", "a key of the target Region us-west-2; this one is in us-east-1"])


USERS = {name: {"username": name, "password": f"Hidden-{name}-1"} for name in ("application_user", "readonly_user", "devops_user")}
SECRETS = [
    ("a-placeholder-for-the-whole", {"master-credentials": "PLACEHOLDER"}, ["master-credentials says PLACEHOLDER; fill it"]),
    ("a-placeholder-password", {"master-credentials": '{"username": "master", "password": "PLACEHOLDER"}'}, ["master-credentials, field 'password'", "PLACEHOLDER"]),
    ("an-example-left-in", {"app-credentials": {**USERS, "readonly_user": {"username": "r", "password": "READONLY_PASSWORD"}}}, ["readonly_user.password", "fill it"]),
    ("a-user-missing", {"app-credentials": {key: USERS[key] for key in ("application_user", "readonly_user")}}, ["lacks the user 'devops_user'", '{"username": …']),
    ("a-user-too-many", {"app-credentials": {**USERS, "intern": {}}}, ["holds 'intern'", "takes the users application_user"]),
    ("a-field-missing", {"app-credentials": {**USERS, "devops_user": {"username": "d"}}}, ["'devops_user.password'", "needs a text"]),
    ("broken-json", {"app-credentials": '{"application_user": {"username": "a", "password": "Hidden-broken-1"'}, ["app-credentials is not a JSON object"]),
    ("a-password-rds-refuses", {"master-credentials": '{"username": "master", "password": "Hidden@master/1"}'}, ["field 'password'", "RDS's rule"]),
    ("another-master-user", {"master-credentials": '{"username": "admin", "password": "Hidden-admin-1"}'}, ["got admin", "takes master"]),
    ("the-master-as-a-user", {"app-credentials": {**USERS, "devops_user": {"username": "master", "password": "Hidden-master-1"}}}, ["app-credentials", "master"]),
    ("a-reserved-name", {"app-credentials": {**USERS, "devops_user": {"username": "rdsadmin", "password": "Hidden-reserved-1"}}}, ["app-credentials", "rdsadmin"]),
    ("no-secret", {"master-credentials": None}, ["master-credentials does not exist or has no value in us-west-2"]),
    ("both-wrong", {"master-credentials": "PLACEHOLDER", "app-credentials": "{}"}, ["says PLACEHOLDER", "lacks the user 'application_user'"]),
]


def put_secret(world, name, text):
    client, secret_id = world.stack.client("secretsmanager"), f"aurora-restore/dev/{name}"
    if text is None:
        client.delete_secret(SecretId=secret_id, ForceDeleteWithoutRecovery=True)
    elif secret_id in [secret["Name"] for secret in client.list_secrets()["SecretList"]]:
        client.put_secret_value(SecretId=secret_id, SecretString=text)
    else:
        client.create_secret(Name=secret_id, SecretString=text)


@pytest.mark.parametrize(("secrets", "words"), [pytest.param(*case[1:], id=case[0]) for case in SECRETS])
def test_a_wrong_secret(shared, secrets, words):
    """A secret that is not filled, lacks a user or is refused by RDS is found before anything is touched, and never quoted."""
    good = {"master-credentials": json.dumps(shared.seeded.master), "app-credentials": json.dumps(shared.seeded.users)}
    for name, text in {**good, **secrets}.items():
        put_secret(shared, name, text if text is None or isinstance(text, str) else json.dumps(text))
    shared.stack.forget_calls()
    run = refuse(shared, {}, words)
    assert "Hidden" not in run.history_text + json.dumps([run.item, run.audit]) + shared.logs()
    # What the template's PlaceholderFilter looks for.
    refusals = [line for line in map(json.loads, shared.logs("preflight").splitlines()) if line.get("level") == "ERROR" and line["operation_id"] == run.operation_id]
    assert any("PLACEHOLDER" in line["message"] for line in refusals) == ("PLACEHOLDER" in run.message)


# Last, because each lays out a scene of its own.


@pytest.mark.seed(existing_target=False, env={"KMS_KEY_ID": ""})
def test_nothing_to_take_missing_settings_from(world):
    """No key for an encrypted snapshot, no network and no class, with no cluster to take them from: all are named at once."""
    words = ["kms_key_id: needs a key of the target Region us-west-2", "is encrypted", "db_subnet_group_name: needs", "vpc_security_group_ids: needs", "db_instance_class: needs"]
    refuse(world, {}, words)


@pytest.mark.seed(env={"SOURCE_CLUSTER_ID": "", "TARGET_CLUSTER_ID": ""})
def test_a_schedule_without_its_environment(world):
    """`{}` with nothing in the environment names each missing field and the variable that could give it."""
    refuse(world, {}, ["source_cluster_id: needs", "SOURCE_CLUSTER_ID", "target_cluster_id: needs", "TARGET_CLUSTER_ID"], "-")
