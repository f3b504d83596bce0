"""Every policy of the templates' roles, as deployed, through parliament: actions that do not exist, resources and conditions
that an action does not know, rights that lead to more rights.

    python infra/lint_policies.py
    python infra/lint_policies.py --write FOLDER    the same policies as templates without conditions, for checkov, which does not
                                                    judge a policy with an Fn::If among its statements, and does not say so

A finding that is meant stands in `Metadata: parliament: skip` of the role or policy, with its reason. parliament's list of
actions is of April 2025; cfn-lint, which reads the same policies, brings a newer one.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="pkg_resources")

import parliament  # noqa: E402
from cfn import ROOT, Stack, load  # noqa: E402

KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
USER = "arn:aws:iam::123456789012:user/dba-team"
# Every condition of the templates is true in one of these and false in another.
VARIANTS = {
    "template.yaml": [
        {},
        {
            "SourceKmsKeyArn": KEY, "DatabaseKmsKeyArn": KEY, "MasterUserSecretKmsKeyArn": KEY, "SourceAccountId": "210987654321", "MayReplaceUnmanaged": "true", "DbaPrincipalArn": USER,
            "MaskingBucket": "scripts", "IamUserArns": ["arn:aws:rds-db:us-west-2:123456789012:dbuser:*/devops_user"],
            "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary", "RdsCallsPerSecond": 10, "RdsCallsTableName": "aurora-restore-rds-calls",
        },
        {"SourceRegion": "us-west-2", "SourceKmsKeyArn": KEY, "RdsCallsPerSecond": 10, "RdsCallsTableName": "aurora-restore-rds-calls"},
    ],
    "rds-calls.yaml": [{}],
    "source-account.yaml": [
        {"SourceKmsKeyArn": key, "RestoringAccountId": "210987654321", "OrchestratorPrincipalArn": USER, "ExternalId": "0123456789abcdef"} for key in ("", KEY)
    ],
}  # fmt: skip
QUIET = {"INFO"}


def variants():
    """(file, number, stack) of all variants."""
    for file, parameters in VARIANTS.items():
        for number, variant in enumerate(parameters):
            yield file, number, Stack(variant, load(ROOT / "infra" / file))


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for former in folder.glob("*.json"):
        former.unlink()
    for file, number, stack in variants():
        made = {name: resource for name, resource in stack.resources().items() if resource["Type"].startswith("AWS::IAM::")}
        (folder / f"{Path(file).stem}-{number}.json").write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": made}, indent=1))


def findings(stack):
    for name, made in stack.resources().items():
        own = made["Properties"].get("Policies", []) if made["Type"] == "AWS::IAM::Role" else []
        documents = [policy["PolicyDocument"] for policy in own]
        if made["Type"] == "AWS::IAM::ManagedPolicy":
            documents.append(made["Properties"]["PolicyDocument"])
        for document in documents:
            for finding in parliament.analyze_policy_string(json.dumps(document)).findings:
                if parliament.enhance_finding(finding).severity not in QUIET:
                    yield name, finding.issue, f"{finding.detail}"


def main():
    unexplained, excused, needed = [], {}, set()
    for file in VARIANTS:
        for name, resource in load(ROOT / "infra" / file)["Resources"].items():
            for one in resource.get("Metadata", {}).get("parliament", {}).get("skip", []):
                excused[file, name, one["id"]] = one["comment"]
    for file, _, stack in variants():
        for name, issue, detail in findings(stack):
            if (file, name, issue) in excused:
                needed.add((file, name, issue))
            else:
                unexplained.append(f"{file}: {name}: {issue}: {detail}")
    unexplained += [f"{file}: {name}: the exception {issue} is not needed" for file, name, issue in excused if (file, name, issue) not in needed]
    for line in sorted(set(unexplained)):
        print(line)
    if not unexplained:
        print(f"parliament: nothing unexplained ({len(excused)} exceptions, each beside its resource)")
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]))
    else:
        main()
