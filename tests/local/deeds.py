"""What each function did, as IAM sees it: the rights that its calls need, on which resources, with which conditions.

The front keeps the deeds of the functions and of the state machine; tests/flow/run.py gathers them from all tests into
tests/golden/calls.json, which tests/infra compares with the template's policies. A call is more than its name: RDS asks for rights on every resource that a call uses, and services use KMS in
the caller's name. Which ones follows AWS's Service Authorization Reference (resource types and dependent actions).
"""

import re

ACCOUNT = "123456789012"
# What differs from run to run, and what stands for it. In this order.
VARIABLE = [
    (re.compile(r"(-copy-|-final-)[0-9a-f]{10}$"), r"\1OPERATION"),
    (re.compile(r"(-new-|-old-)[0-9a-f]{10}(-\d+)?$"), r"\1OPERATION\2"),
    (re.compile(r"(:execution:[^:]+:).*"), r"\1EXECUTION"),
    (re.compile(r"(:key/)(?!OTHER$).*"), r"\1KEY"),
    (re.compile(r"(:rds:[a-z-]+)-\d{4}-\d\d-\d\d-\d\d-\d\d$"), r"\1-NIGHT"),
    (re.compile(r"^(arn:aws:s3:::[^/]+/[^/]+/).+"), r"\1SCRIPT"),
    (re.compile(r"(:dbuser:)[^/]+/"), r"\1CLUSTER/"),
    # A second deployment's tables, with the rights that it has itself.
    (re.compile(r"(:table/aurora-restore)-other(-state|-audit)"), r"\1\2"),
]
# The same within a condition.
VARIABLE_CLUSTER = re.compile(r"(-new-|-old-)[0-9a-f]{10}$")
# What RDS does with a key in the caller's name: with that of a snapshot that it reads, and with that which it encrypts with.
READ_KEY = ("DescribeKey", "Decrypt", "CreateGrant")
WRITE_KEY = ("DescribeKey", "CreateGrant", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo")
# The one key that is not the stack's own; tests that need such a key give it this alias.
OTHER_KEY = "alias/other-key"
# The table of infra/rds-calls.yaml; tests in which deployments share one make it.
CALLS_TABLE = "aurora-restore-rds-calls"
OUR_TAGS = ("aurora-restore:managed", "aurora-restore:kind")
# What RDS asks EC2 in the caller's name before it makes something in a VPC (AWS's "least privileges for RDS").
NETWORK = (
    "DescribeAccountAttributes", "DescribeAvailabilityZones", "DescribeInternetGateways", "DescribeSecurityGroups", "DescribeSubnets",
    "DescribeVpcAttribute", "DescribeVpcs",
)  # fmt: skip


def of_login(who, region, resource_id, user):
    """The deed of whoever signed the token of a login, which AWS decides without a call of ours."""
    if who:
        yield deed(who, "rds-db:connect", f"arn:aws:rds-db:{region}:{ACCOUNT}:dbuser:{resource_id}/{user}", {})


def deed(who, action, resource, conditions):
    for pattern, name in VARIABLE:
        resource = pattern.sub(name, resource)
    return who, action, resource, tuple(sorted((name, value) for name, value in conditions.items() if value is not None))


def of(call, world):
    """A call's deeds, as (who, action, resource, conditions); none for calls of the stack's user."""
    who = call.caller or ("state-machine" if call.service == "lambda" else None)
    if who in (None, "stack"):
        return
    service = NEEDS.get(call.service, other)
    other_key = world.key_arn(call.region, OTHER_KEY)
    for action, resource, conditions in service(call, call.parameters, world):
        resource = resource.rpartition("/")[0] + "/OTHER" if resource == other_key else resource
        yield deed(who, action, resource, conditions)


def other(call, _asked, _world):
    yield f"{call.service}:{call.action}", "*", {}


def rds_arn(call, kind, name):
    return name if name.startswith("arn:") else f"arn:aws:rds:{call.region}:{ACCOUNT}:{kind}:{name}"


def tags_in(parameters):
    """The tags that a request sets, as conditions know them; of the keys only whether they are all ours."""
    tags = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])}
    conditions = {f"aws:RequestTag/{name}": tags[name] for name in OUR_TAGS if name in tags}
    if tags:
        conditions["aws:TagKeys"] = ",".join(sorted(name for name in tags if name.startswith("aurora-restore:")))
    return conditions


def rds(call, asked, world):
    def tags_on(arn):
        return {f"aws:ResourceTag/{name}": world.tag(arn, name) for name in OUR_TAGS}

    def key(names, arn, region):
        if arn:
            for name in names:
                yield f"kms:{name}", arn, {"kms:ViaService": f"rds.{region}.amazonaws.com"} | ({"kms:GrantIsForAWSResource": "true"} if name == "CreateGrant" else {})

    def network():
        for name in NETWORK:
            yield f"ec2:{name}", "*", {"aws:RequestedRegion": call.region}

    def made(kind, name, tags):
        yield f"rds:{call.action}", rds_arn(call, kind, name), tags
        yield "rds:AddTagsToResource", rds_arn(call, kind, name), tags

    action = f"rds:{call.action}"
    cluster = rds_arn(call, "cluster", asked.get("DBClusterIdentifier") or "*")
    instance = rds_arn(call, "db", asked.get("DBInstanceIdentifier") or "*")
    if call.action == "DescribeDBClusters":
        yield action, cluster, {}
    elif call.action == "DescribeDBInstances":
        yield action, instance, {}
    elif call.action == "DescribeDBClusterSnapshots":
        if "DBClusterIdentifier" in asked:
            yield action, cluster, {}
        yield action, rds_arn(call, "cluster-snapshot", asked.get("DBClusterSnapshotIdentifier") or "*"), {}
    elif call.action == "DescribeGlobalClusters":
        yield action, f"arn:aws:rds::{ACCOUNT}:global-cluster:*", {}
    elif call.action == "DescribeDBSubnetGroups":
        yield action, rds_arn(call, "subgrp", asked["DBSubnetGroupName"]), {}
    elif call.action == "DescribeDBClusterParameterGroups":
        yield action, rds_arn(call, "cluster-pg", asked["DBClusterParameterGroupName"]), {}
    elif call.action in ("DescribeOrderableDBInstanceOptions", "DescribeAccountAttributes"):
        yield action, "*", {"aws:RequestedRegion": call.region}
    elif call.action == "CopyDBClusterSnapshot":
        source = rds_arn(call, "cluster-snapshot", asked["SourceDBClusterSnapshotIdentifier"])
        tags = tags_in(asked)
        yield action, source, tags
        yield from made("cluster-snapshot", asked["TargetDBClusterSnapshotIdentifier"], tags)
        yield from key(READ_KEY, world.key_of(source), source.split(":")[3])
        yield from key(WRITE_KEY, asked.get("KmsKeyId"), call.region)
    elif call.action == "AddTagsToResource":
        yield action, asked["ResourceName"], tags_in(asked) | tags_on(asked["ResourceName"])
    elif call.action == "ModifyDBCluster":
        yield action, cluster, tags_on(cluster)
        if asked.get("ManageMasterUserPassword"):
            # RDS makes its secret, and opens the key for it, in the caller's name: itself or through Secrets Manager.
            for name in ("CreateSecret", "TagResource"):
                yield f"secretsmanager:{name}", rds_secret(call), {}
            if asked.get("MasterUserSecretKmsKeyId"):
                names, arn = ("DescribeKey", "GenerateDataKey", "Decrypt", "CreateGrant"), world.key_arn(call.region, asked["MasterUserSecretKmsKeyId"])
                yield from secret_key(call, arn, *names)
                yield from key(names, arn, call.region)
    elif call.action == "ModifyDBInstance":
        yield action, instance, tags_on(instance)
    elif call.action == "DeleteDBInstance":
        yield action, instance, tags_on(instance)
    elif call.action == "DeleteDBCluster":
        yield action, cluster, tags_on(cluster)
        if "FinalDBSnapshotIdentifier" in asked:
            final = rds_arn(call, "cluster-snapshot", asked["FinalDBSnapshotIdentifier"])
            yield action, final, {}
            yield "rds:CreateDBClusterSnapshot", cluster, tags_on(cluster)
            yield "rds:CreateDBClusterSnapshot", final, {}
            yield "rds:AddTagsToResource", final, {}
    elif call.action == "RestoreDBClusterFromSnapshot":
        tags = tags_in(asked)
        yield from made("cluster", asked["DBClusterIdentifier"], tags)
        snapshot = rds_arn(call, "cluster-snapshot", asked["SnapshotIdentifier"])
        # The groups that a request does not name are the defaults, and are asked about too.
        for kind, name in (
            ("cluster-pg", asked.get("DBClusterParameterGroupName", "default.aurora-postgresql15")),
            ("subgrp", asked.get("DBSubnetGroupName", "default")), ("og", "default:aurora-postgresql-15"),
        ):  # fmt: skip
            yield action, rds_arn(call, kind, name), tags
        yield action, snapshot, tags
        yield from network()
        yield from key(READ_KEY, world.key_of(snapshot), call.region)
        yield from key(WRITE_KEY, asked.get("KmsKeyId"), call.region)
    elif call.action == "CreateDBInstance":
        tags = tags_in(asked)
        yield from made("db", asked["DBInstanceIdentifier"], tags)
        group = world.subnet_group_of(cluster)
        for kind, name in (("cluster", cluster), ("pg", "default.aurora-postgresql15"), ("og", "default:aurora-postgresql-15"), ("subgrp", group or "default")):
            yield action, rds_arn(call, kind, name), tags
        yield from network()
        yield from key(("DescribeKey", "Decrypt", "CreateGrant", "GenerateDataKey"), world.key_of(cluster), call.region)
    elif call.action == "DeleteDBClusterSnapshot":
        snapshot = rds_arn(call, "cluster-snapshot", asked["DBClusterSnapshotIdentifier"])
        yield action, snapshot, tags_on(snapshot)
    else:
        yield action, "*", {}


def dynamodb(call, asked, _world):
    def table(name):
        return f"arn:aws:dynamodb:{call.region}:{ACCOUNT}:table/{name}"

    if call.action == "TransactWriteItems":
        rights = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
        for item in asked["TransactItems"]:
            for kind, what in item.items():
                yield f"dynamodb:{rights[kind]}", table(what["TableName"]), {}
    elif asked["TableName"] == CALLS_TABLE:
        # Not under our key.
        leading = (asked.get("Key") or asked["Item"])["operation_id"]["S"]
        yield f"dynamodb:{call.action}", table(CALLS_TABLE), {"dynamodb:LeadingKeys": leading}
        return
    else:
        name = asked["TableName"]
        yield f"dynamodb:{call.action}", table(name) + (f"/index/{asked['IndexName']}" if "IndexName" in asked else ""), {}
    # The tables are under our key, which DynamoDB opens in the caller's name.
    yield "kms:Decrypt", own_key(call), {"kms:ViaService": f"dynamodb.{call.region}.amazonaws.com"}


def own_key(call):
    return f"arn:aws:kms:{call.region}:{ACCOUNT}:key/KEY"


def rds_secret(call):
    """A secret of RDS's own; its name is random."""
    return f"arn:aws:secretsmanager:{call.region}:{ACCOUNT}:secret:rds!cluster-UUID-??????"


def secret_key(call, arn, *names):
    for name in names:
        yield f"kms:{name}", arn, {"kms:ViaService": f"secretsmanager.{call.region}.amazonaws.com"}


def secretsmanager(call, asked, world):
    if ":secret:rds!cluster-" in asked["SecretId"]:
        of = VARIABLE_CLUSTER.sub(r"\1OPERATION", world.cluster_of_secret(call.region, asked["SecretId"]))
        yield f"secretsmanager:{call.action}", rds_secret(call), {"aws:ResourceTag/aws:rds:primaryDBClusterArn": of}
        # Without a key it is under Secrets Manager's own, which lets everybody of the account in by its policy.
        if key := world.key_of_secret(call.region, asked["SecretId"]):
            yield from secret_key(call, world.key_arn(call.region, key), "Decrypt")
        return
    yield f"secretsmanager:{call.action}", f"arn:aws:secretsmanager:{call.region}:{ACCOUNT}:secret:{asked['SecretId']}-??????", {}
    yield "kms:Decrypt", own_key(call), {"kms:ViaService": f"secretsmanager.{call.region}.amazonaws.com"}


def sns(call, asked, _world):
    yield f"sns:{call.action}", asked["TopicArn"], {}
    for name in ("GenerateDataKey", "Decrypt"):
        yield f"kms:{name}", own_key(call), {"kms:ViaService": f"sns.{call.region}.amazonaws.com"}


def kms(call, asked, world):
    yield f"kms:{call.action}", world.key_arn(call.region, asked["KeyId"]), {}


def states(call, asked, _world):
    # A token says which task it is for: AWS knows no resources for it.
    yield f"states:{call.action}", asked.get("executionArn", "*"), {}


def ec2(call, _asked, _world):
    yield f"ec2:{call.action}", "*", {"aws:RequestedRegion": call.region}


def s3(call, _asked, _world):
    bucket, _, name = call.path.lstrip("/").partition("/")
    if name:
        yield "s3:GetObject", f"arn:aws:s3:::{bucket}/{name}", {}
        yield "kms:Decrypt", own_key(call), {"kms:ViaService": f"s3.{call.region}.amazonaws.com"}
    else:
        yield "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": call.query.get("prefix", "")}


def lambda_(call, asked, _world):
    yield "lambda:InvokeFunction", f"arn:aws:lambda:{call.region}:{ACCOUNT}:function:{asked['FunctionName']}", {}


NEEDS = {
    "rds": rds, "dynamodb": dynamodb, "secretsmanager": secretsmanager, "sns": sns, "kms": kms, "states": states, "ec2": ec2, "s3": s3, "lambda": lambda_,
}  # fmt: skip
