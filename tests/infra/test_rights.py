"""Rights and deeds: the policies of infra/template.yaml against everything that the functions did in the whole-flow tests.

What they did is tests/golden/calls.json (written by tests/flow/run.py, which also finds out when it is out of date), with
the resources and conditions that AWS decides on. No call without a right, no right without a call. What AWS's own services do
with a function's role stands in the role's `Metadata: Uncalled`, with the reason.
"""

import copy
import functools
import json

import pytest
from cfn import REGION, ROOT, Stack, load
from iam import allowed, applies, listed, matches, rights

DEEDS = json.loads((ROOT / "tests" / "golden" / "calls.json").read_text())
KEYS = {region: f"arn:aws:kms:{region}:123456789012:key/KEY" for region in ("us-east-1", "us-west-2")}
IAM_USERS = [f"arn:aws:rds-db:us-west-2:123456789012:dbuser:*/{user}" for user in ("devops_user", "prod_reporting", "Robo't & Söhne")]
COMMON = {"MaskingBucket": "masking-scripts", "MaskingPrefix": "masks/", "IamUserArns": IAM_USERS}
# How each scenario would have been deployed. One of them replaces a cluster that is not ours yet, which takes a parameter.
OVER_UNMANAGED = " over an unmanaged cluster"
DEPLOYMENTS = {
    "us-east-1 to us-west-2": {**COMMON, "SourceKmsKeyArn": KEYS["us-east-1"]},
    # Source and target are under one key there, which is the stack's.
    "us-west-2 to us-west-2": {**COMMON, "SourceRegion": "us-west-2"},
}
DEPLOYMENTS |= {name + OVER_UNMANAGED: {**base, "TargetClusterId": "payments-legacy", "MayReplaceUnmanaged": "true"} for name, base in DEPLOYMENTS.items()}
USUAL = "us-east-1 to us-west-2"
# RDS's own secret under a key that is not the stack's, which takes a parameter, too.
OTHER_KEY = "arn:aws:kms:us-west-2:123456789012:key/OTHER"
WITH_OTHER_KEY = " with another key for RDS's secret"
DEPLOYMENTS[USUAL + WITH_OTHER_KEY] = {**DEPLOYMENTS[USUAL], "MasterUserSecretKmsKeyArn": OTHER_KEY}
# A bound on RDS calls that deployments share, which takes two.
CALLS_TABLE = "arn:aws:dynamodb:us-west-2:123456789012:table/aurora-restore-rds-calls"
WITH_CALLS_TABLE = " with a shared table of RDS calls"
DEPLOYMENTS[USUAL + WITH_CALLS_TABLE] = {**DEPLOYMENTS[USUAL], "RdsCallsPerSecond": 10, "RdsCallsTableName": CALLS_TABLE.rpartition("/")[2]}
OVER = {OTHER_KEY: WITH_OTHER_KEY, CALLS_TABLE: WITH_CALLS_TABLE}
# Calls that were made and that the policies refuse, on purpose.
REFUSED = {("preflight", "kms:DescribeKey", "no key: alias/none"): "a key that a wrong request names; refused either way"}
ROLES = {step: f"{''.join(word.capitalize() for word in step.split('-'))}Role" for step in next(iter(DEEDS.values()))}
# One right for several AWS calls of the same kind; any other wildcard in an action would hide what it allows.
WILDCARDS = {"kms:GenerateDataKey*", "kms:ReEncrypt*"}
TEMPLATE = load()


@functools.cache
def deeds_of(who):
    """{deployment: [(action, resource, conditions)]} of everything that one did."""
    found = {deployment: [] for deployment in DEPLOYMENTS}
    for name, functions in DEEDS.items():
        for action, objects in functions.get(who, {}).items():
            for resource, conditions in objects:
                if (who, action, resource) not in REFUSED:
                    over = OVER_UNMANAGED if "payments-legacy" in resource else OVER.get(resource, "")
                    found[name + over].append((action, resource.replace(":function:", ":function:aurora-restore-"), conditions))
    return found


@functools.cache
def policies(who):
    """{deployment: {where: document}}"""
    return {deployment: Stack(parameters).policies(ROLES[who]) for deployment, parameters in DEPLOYMENTS.items()}


def excuses(who):
    return [one["Action"] for one in TEMPLATE["Resources"][ROLES[who]].get("Metadata", {}).get("Uncalled", [])]


def problems(who, change=lambda documents: None):
    """What is wrong with a function's rights, in words. `change` changes its policies first.

    A right is needed when it is the only one that allows some call.
    """
    missing, had, needed = [], set(), set()
    for deployment, documents in copy.deepcopy(policies(who)).items():
        change(documents)
        single = {}
        for where, document in documents.items():
            for statement, action, resource in rights(document):
                name = (where, statement["Sid"], action, kind_of(resource))
                single.setdefault(name, []).append({**statement, "Action": action, "Resource": resource})
                if not any(matches(pattern, action) for pattern in excuses(who)):
                    had.add(name)
        for deed in deeds_of(who)[deployment]:
            allowing = [name for name, statements in single.items() if any(applies(one, *deed) for one in statements)]
            if not allowed(documents.values(), *deed):
                missing.append(f"{who} calls {deed[0]} on {deed[1]} with {deed[2]} and may not")
            elif len(allowing) == 1:
                needed.add(allowing[0])
    return missing + [f"{who} may {action} on {kind} ({where}, {sid}), and no call needs it" for where, sid, action, kind in sorted(had - needed)]


def kind_of(resource):
    """A resource without what differs between deployments."""
    return resource.replace(":payments-legacy", ":TARGET").replace(":staging", ":TARGET").replace("us-east-1", "SOURCE")


@pytest.mark.parametrize("who", ROLES)
def test_rights_are_deeds(who):
    """No call without a right, no right without a call."""
    assert problems(who) == []


def test_a_key_of_its_own_for_the_database():
    """DatabaseKmsKeyArn: what RDS does with a key goes to that one, and the stack's own is no longer for RDS."""
    database_key, own = "arn:aws:kms:us-west-2:123456789012:key/DATABASE", KEYS[REGION]
    stack = Stack({**DEPLOYMENTS[USUAL], "DatabaseKmsKeyArn": database_key, "MasterUserSecretKmsKeyArn": OTHER_KEY})
    through_rds = {"kms:ViaService": f"rds.{REGION}.amazonaws.com", "kms:GrantIsForAWSResource": "true"}
    seen = set()
    for who, role in ROLES.items():
        documents = stack.policies(role).values()
        for action, resource, conditions in deeds_of(who)[USUAL]:
            if resource == own and conditions.get("kms:ViaService") == f"rds.{REGION}.amazonaws.com":
                seen.add(who)
                assert allowed(documents, action, database_key, conditions), f"{who}: {action}"
        for action in ("kms:Decrypt", "kms:CreateGrant", "kms:GenerateDataKey"):
            assert not allowed(documents, action, own, through_rds), f"{who}: {action} with the stack's key"
    assert seen == {"copy-snapshot", "restore-cluster", "check-restore"}
    for key in (database_key, OTHER_KEY):
        assert allowed(stack.policies("PreflightRole").values(), "kms:DescribeKey", key, {})


def test_everyone_is_here():
    """Every function and the state machine; every role of the template that is a function's is one of them."""
    functions = {name.removesuffix("Function") for name, resource in TEMPLATE["Resources"].items() if resource["Type"] == "AWS::Serverless::Function"}
    assert {role.removesuffix("Role") for role in ROLES.values()} == functions | {"StateMachine"}
    for name in functions:
        assert TEMPLATE["Resources"][f"{name}Function"]["Properties"]["Role"] == {"Fn::GetAtt": f"{name}Role.Arn"}


def test_exceptions_have_reasons_and_are_needed():
    """Every `Uncalled` says why, and names something that the role has; every refused call was made."""
    for name, resource in TEMPLATE["Resources"].items():
        for one in resource.get("Metadata", {}).get("Uncalled", []):
            assert set(one) == {"Action", "Reason"} and len(one["Reason"]) > 20, name
            documents = Stack(DEPLOYMENTS[USUAL]).policies(name).values()
            assert any(matches(one["Action"], action) for document in documents for _, action, _ in rights(document)), f"{name}: {one['Action']}"
    made = {(who, action, resource) for functions in DEEDS.values() for who, actions in functions.items() for action, objects in actions.items() for resource, _ in objects}
    assert set(REFUSED) <= made
    for who, action, resource in REFUSED:
        assert not allowed(policies(who)[USUAL].values(), action, resource, {})


def test_no_wildcard_hides_a_right():
    """Actions are named one by one."""
    for who in ROLES:
        for document in policies(who)[USUAL].values():
            assert {action for _, action, _ in rights(document) if "*" in action} <= WILDCARDS, who


# Teeth


@pytest.mark.parametrize("who", ROLES)
def test_a_right_that_is_removed_is_missed(who):
    """Taking away any single right leaves a call without one."""
    usual, shared = ([(where, *right) for where, document in policies(who)[deployment].items() for right in rights(document)] for deployment in (USUAL, USUAL + WITH_CALLS_TABLE))
    for where, statement, removed, resource in usual + [one for one in shared if one not in usual]:
        if any(matches(pattern, removed) for pattern in excuses(who)):
            continue

        def take(documents, where=where, sid=statement["Sid"], removed=removed):
            for one in documents.get(where, {}).get("Statement", []):
                if one["Sid"] == sid and one["Effect"] == "Allow":
                    one["Action"] = [action for action in listed(one["Action"]) if action != removed]

        assert any("may not" in problem for problem in problems(who, take)), f"{who} without {removed} on {resource} ({where})"


EXTRA = [
    ("rds:StopDBCluster", f"arn:aws:rds:{REGION}:123456789012:cluster:staging"), ("rds:DeleteDBCluster", "*"), ("rds:DescribeDBClusterSnapshots", "*"),
    ("dynamodb:DeleteItem", "*"), ("dynamodb:GetItem", "*"), ("dynamodb:UpdateItem", f"arn:aws:dynamodb:{REGION}:123456789012:table/aurora-restore-audit"),
    ("dynamodb:UpdateItem", CALLS_TABLE), ("dynamodb:GetItem", CALLS_TABLE), ("iam:PassRole", "*"), ("secretsmanager:*", "*"), ("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:123456789012:function:other"),
]  # fmt: skip


@pytest.mark.parametrize("who", ROLES)
def test_a_right_that_is_added_is_found(who):
    """One right more than the calls need: a new one, or a wider one for calls that are allowed already."""
    for action, resource in EXTRA:

        def add(documents, action=action, resource=resource):
            next(iter(documents.values()))["Statement"].append({"Sid": "Extra", "Effect": "Allow", "Action": action, "Resource": resource})

        assert any("Extra" in problem for problem in problems(who, add)), f"{who} with {action} on {resource}"


def test_a_call_that_is_new_is_found(monkeypatch):
    """A function that learns a call without getting the right is found before AWS finds it."""
    for who in ROLES:
        deeds = {deployment: [*deeds, ("rds:FailoverDBCluster", f"{RDS}:cluster:staging", {})] for deployment, deeds in deeds_of(who).items()}
        monkeypatch.setattr("test_rights.deeds_of", lambda _who, deeds=deeds: deeds)
        assert any(f"{who} calls rds:FailoverDBCluster" in problem and "may not" in problem for problem in problems(who))
        monkeypatch.undo()


# What none of them may do, whatever the calls of today look like


OURS = {"aws:ResourceTag/aurora-restore:managed": "true", "aws:RequestTag/aurora-restore:managed": "true", "aws:ResourceTag/aurora-restore:kind": "copy"}
RDS = f"arn:aws:rds:{REGION}:123456789012"
CHANGES = [
    "rds:DeleteDBCluster", "rds:ModifyDBCluster", "rds:ModifyDBInstance", "rds:DeleteDBInstance", "rds:CreateDBInstance", "rds:RestoreDBClusterFromSnapshot", "rds:CopyDBClusterSnapshot",
    "rds:DeleteDBClusterSnapshot", "rds:CreateDBClusterSnapshot", "rds:AddTagsToResource", "rds:StopDBCluster", "rds:RemoveFromGlobalCluster",
]  # fmt: skip


@pytest.mark.parametrize("deployment", ["us-east-1 to us-west-2", "us-west-2 to us-west-2", "over an unmanaged target"])
def test_what_is_out_of_reach(deployment):
    """The source, other people's clusters, instances and snapshots, and, untagged, even the target."""
    parameters = DEPLOYMENTS.get(deployment) or DEPLOYMENTS[USUAL] | {"MayReplaceUnmanaged": "true"}
    stack = Stack(parameters)
    source_region = stack.parameters["SourceRegion"]
    source = f"arn:aws:rds:{source_region}:123456789012:cluster:production"
    foreign = [source, f"{RDS}:cluster:production", f"{RDS}:cluster:payments-legacy", f"{RDS}:cluster:staging-2", f"{RDS}:db:payments-1", f"{RDS}:db:production-1"]
    for who, role in ROLES.items():
        documents = stack.policies(role).values()
        for action in CHANGES:
            for resource in foreign:
                assert not allowed(documents, action, resource, OURS), f"{who}: {action} on {resource}"
        for action, resource in (("rds:DeleteDBCluster", f"{RDS}:cluster:staging"), ("rds:DeleteDBInstance", f"{RDS}:db:staging-1"), ("rds:ModifyDBCluster", f"{RDS}:cluster:staging")):
            if deployment != "over an unmanaged target" or who not in ("delete-cluster", "notify", "swap-cluster"):
                assert not allowed(documents, action, resource, {}), f"{who}: {action} on an untagged {resource}"
        for snapshot in (f"{RDS}:cluster-snapshot:by-hand", f"{RDS}:cluster-snapshot:staging-final-0123456789", f"{RDS}:cluster-snapshot:rds:production-1"):
            assert not allowed(documents, "rds:DeleteDBClusterSnapshot", snapshot, OURS), f"{who}: deletes {snapshot}"
        assert not allowed(documents, "rds:DeleteDBClusterSnapshot", f"{RDS}:cluster-snapshot:staging-copy-0123456789", {"aws:ResourceTag/aurora-restore:managed": "true"}), who
        audit = stack.attribute("AuditTable", "Arn")
        for action in ("UpdateItem", "DeleteItem", "BatchWriteItem", "DeleteTable", "UpdateTable", "PartiQLUpdate", "PartiQLDelete"):
            assert not allowed(documents, f"dynamodb:{action}", audit, {}), f"{who}: {action} on the audit table"
        for action in ("iam:PassRole", "sts:AssumeRole"):
            assert not allowed(documents, action, f"arn:aws:iam::123456789012:role/{who}", {}), f"{who}: {action}"
        for action in ("kms:Decrypt", "kms:GenerateDataKey"):
            assert not allowed(documents, action, KEYS[REGION], {}), f"{who}: {action} not through a service"


def test_of_the_shared_table_only_ones_own_items():
    """The item of the Region that one calls, nobody else's, and nothing but to read and write it; nothing at all without the parameters."""
    shared = Stack(DEPLOYMENTS[USUAL + WITH_CALLS_TABLE])
    own, source, other = ({"dynamodb:LeadingKeys": f"calls#rds#{region}"} for region in (REGION, "us-east-1", "eu-west-1"))
    for who, role in ROLES.items():
        may = who not in ("setup-db-users", "verify-restore", "wake", "state-machine")
        documents = shared.policies(role).values()
        for action in ("dynamodb:GetItem", "dynamodb:PutItem"):
            assert allowed(documents, action, CALLS_TABLE, own) == may, f"{who}: {action}"
            assert allowed(documents, action, CALLS_TABLE, source) == (who == "preflight"), f"{who}: {action} for the source's Region"
            assert not allowed(documents, action, CALLS_TABLE, other), f"{who}: {action} for another Region"
            assert not allowed(documents, action, CALLS_TABLE, {"dynamodb:LeadingKeys": "night-1"}), who
            for parameters in ({"RdsCallsPerSecond": 0}, {"RdsCallsTableName": ""}):
                without = Stack({**DEPLOYMENTS[USUAL + WITH_CALLS_TABLE], **parameters}).policies(role).values()
                assert not allowed(without, action, CALLS_TABLE, own), f"{who}: {action} with {parameters}"
        for action in ("UpdateItem", "DeleteItem", "Query", "Scan", "BatchWriteItem", "ConditionCheckItem", "DescribeTable", "DeleteTable"):
            assert not allowed(documents, f"dynamodb:{action}", CALLS_TABLE, own), f"{who}: {action}"
    within_one_region = Stack({**DEPLOYMENTS["us-west-2 to us-west-2"], "RdsCallsPerSecond": 10, "RdsCallsTableName": CALLS_TABLE.rpartition("/")[2]})
    sids = [statement["Sid"] for document in within_one_region.policies("PreflightRole").values() for statement, _, resource in rights(document) if resource == CALLS_TABLE]
    assert set(sids) == {"ShareOfTheCalls"}


def test_nobody_logs_in_as_a_user_that_was_not_named():
    """Only who tries logins, only as the users of the parameter, and as nobody where it names none."""
    users = "arn:aws:rds-db:us-west-2:123456789012:dbuser:cluster-ABC"
    for parameters, may in ((DEPLOYMENTS[USUAL], True), ({**DEPLOYMENTS[USUAL], "IamUserArns": ""}, False)):
        for who, role in ROLES.items():
            documents = Stack(parameters).policies(role).values()
            for user in ("devops_user", "master", "rdsadmin", "*"):
                assert allowed(documents, "rds-db:connect", f"{users}/{user}", {}) == (may and who in ("verify-restore", "swap-cluster") and user == "devops_user"), (who, user)


def test_the_source_is_denied_whoever_allows_it():
    """An allowance that somebody adds one day does not reach the source cluster."""
    stack = Stack(DEPLOYMENTS[USUAL])
    anything = {"Statement": [{"Sid": "Anything", "Effect": "Allow", "Action": "*", "Resource": "*"}]}
    for who, role in ROLES.items():
        if who != "state-machine":
            documents = [*stack.policies(role).values(), anything]
            for action in CHANGES:
                assert not allowed(documents, action, "arn:aws:rds:us-east-1:123456789012:cluster:production", OURS), f"{who}: {action}"
