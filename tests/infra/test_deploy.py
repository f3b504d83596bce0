"""What `make deploy` and its like say and do, with AWS and sam replaced at their two doors."""

import json

import deploy
import pytest
import verify

ACCOUNT = "123456789012"
PARAMETERS = {"NamePrefix": "aurora-restore-dev", "Environment": "dev", "SourceRegion": "us-east-1", "SourceClusterId": "production", "TargetClusterId": "copy"}


class Doors:
    """Notes what would be called, and answers."""

    def __init__(self):
        self.asked, self.ran, self.answers = [], [], {}

    def aws(self, *arguments, environment=None):
        words = [str(one) for one in arguments]
        self.asked.append((" ".join(words[:2]), words, environment))
        answer = self.answers.get(" ".join(words[:2]), {})
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, command, environment):
        self.ran.append([str(part) for part in command])

    def of(self, what):
        return [words for name, words, _ in self.asked if name == what]


@pytest.fixture
def doors(monkeypatch, tmp_path):
    doors = Doors()
    doors.answers = {"sts get-caller-identity": {"Account": ACCOUNT, "Arn": "arn:aws:iam::123456789012:role/me"}, "s3api get-bucket-versioning": verify.Refused("NoSuchBucket", "")}
    monkeypatch.setattr(verify, "aws", doors.aws)
    monkeypatch.setattr(deploy, "run", doors.run)
    monkeypatch.setattr(deploy, "tool", lambda name: name)
    monkeypatch.setattr(deploy, "BUILD", tmp_path)
    (tmp_path / "template.yaml").write_text("")
    settings = {"stack_name": "aurora-restore-dev", "region": "us-west-2", "parameters": dict(PARAMETERS)}
    monkeypatch.setattr(deploy, "settings_of", lambda environment: settings)
    for name in ("ROLE_ARN", "EXTERNAL_ID"):
        monkeypatch.delenv(name, raising=False)
    doors.settings = settings
    return doors


def call(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["deploy.py", *words])
    deploy.main()


def test_a_plan_executes_nothing(doors, monkeypatch, capsys):
    """A change set only; account, person, Region and parameters are said before."""
    call(monkeypatch, "plan", "dev")
    (command,) = doors.ran
    assert "--no-execute-changeset" in command and "--resolve-s3" in command
    text = capsys.readouterr().out
    for part in ("not executed", ACCOUNT, "role/me", "us-west-2", "TargetClusterId = copy"):
        assert part in text


def test_a_deployment_asks_unless_told_otherwise(doors, monkeypatch):
    """sam shows the change set and asks; code goes to the environment's bucket once there is one."""
    call(monkeypatch, "deploy", "dev")
    doors.answers["s3api get-bucket-versioning"] = {"Status": "Enabled"}
    call(monkeypatch, "deploy", "dev", "--yes")
    first, second = doors.ran
    assert "--no-confirm-changeset" not in first and "--no-execute-changeset" not in first
    assert "--no-confirm-changeset" in second and f"aurora-restore-dev-lambda-code-{ACCOUNT}-us-west-2" in second and "--no-resolve-s3" in second


def test_samples_are_not_deployed(doors, monkeypatch):
    """Settings that nobody has filled in are named, and nothing is asked of AWS but who one is."""
    doors.settings["parameters"]["VpcId"] = "<vpc-...>"
    with pytest.raises(SystemExit, match="VpcId=<vpc-"):
        call(monkeypatch, "deploy", "dev")
    assert doors.ran == []


def test_another_accounts_role_is_taken(doors, monkeypatch):
    """ROLE_ARN with its external id; everything after it runs with the role's keys."""
    monkeypatch.setenv("ROLE_ARN", "arn:aws:iam::210987654321:role/deploy")
    monkeypatch.setenv("EXTERNAL_ID", "0123456789abcdef")
    doors.answers["sts assume-role"] = {"Credentials": {"AccessKeyId": "AKIA", "SecretAccessKey": "hidden", "SessionToken": "token"}}
    call(monkeypatch, "plan", "dev")
    (words,) = doors.of("sts assume-role")
    assert words[words.index("--external-id") + 1] == "0123456789abcdef"
    assert [environment["AWS_ACCESS_KEY_ID"] for name, _, environment in doors.asked if name == "sts get-caller-identity"] == ["AKIA"]


def test_destroy_asks_and_says_what_stays(doors, monkeypatch, capsys):
    """Not while an execution runs, not without the stack's name; tables, key and bucket stay."""
    doors.answers["stepfunctions list-executions"] = [{"executions": [{"executionArn": "arn:running"}]}, {"executions": []}, {"executions": []}]
    with pytest.raises(SystemExit, match="arn:running"):
        call(monkeypatch, "destroy", "dev")
    monkeypatch.setattr("builtins.input", lambda _prompt: "yes")
    with pytest.raises(SystemExit, match="Nothing was deleted"):
        call(monkeypatch, "destroy", "dev")
    assert doors.of("cloudformation delete-stack") == []
    text = capsys.readouterr().out
    for kept in ("aurora-restore-dev-audit", "aurora-restore-dev-state", "Key", "aurora-restore-dev-lambda-code", "snapshots stay"):
        assert kept in text
    monkeypatch.setattr("builtins.input", lambda _prompt: "aurora-restore-dev")
    call(monkeypatch, "destroy", "dev")
    assert len(doors.of("cloudformation delete-stack")) == 1


def test_the_newest_snapshot_is_shared(doors, monkeypatch, capsys):
    """Copied under the sharing key, waited for, shared with this account and with nobody else."""
    with pytest.raises(SystemExit, match="ROLE_ARN"):
        call(monkeypatch, "share", "dev")
    monkeypatch.setenv("ROLE_ARN", "arn:aws:iam::210987654321:role/aurora-restore-dev-source")
    doors.answers["sts assume-role"] = {"Credentials": {"AccessKeyId": "AKIA", "SecretAccessKey": "hidden", "SessionToken": "token"}}

    def snapshot(name, time, status="available"):
        return {"DBClusterSnapshotIdentifier": name, "DBClusterSnapshotArn": f"arn:{name}", "SnapshotCreateTime": time, "Status": status, "StorageEncrypted": True}

    found = [snapshot("rds:production-1", "2026-11-20"), snapshot("rds:production-2", "2026-11-21"), snapshot("production-shared-1", "2026-11-22"), snapshot("rds:production-3", "2026-11-23", "creating")]
    doors.answers["rds describe-db-cluster-snapshots"] = [{"DBClusterSnapshots": found}, {"DBClusterSnapshots": [snapshot("x", "", "copying")]}, {"DBClusterSnapshots": [snapshot("x", "")]}]
    doors.answers["rds copy-db-cluster-snapshot"] = {"DBClusterSnapshot": {"DBClusterSnapshotArn": "arn:shared"}}
    call(monkeypatch, "share", "dev", "--poll-seconds", "0")
    (copy,) = doors.of("rds copy-db-cluster-snapshot")
    assert copy[copy.index("--source-db-cluster-snapshot-identifier") + 1] == "arn:rds:production-2"
    assert copy[copy.index("--kms-key-id") + 1] == "alias/aurora-restore-dev-shared-snapshots" and "Key=aurora-restore:shared,Value=true" in copy
    (shared,) = doors.of("rds modify-db-cluster-snapshot-attribute")
    assert shared[shared.index("--values-to-add") + 1] == ACCOUNT and shared[shared.index("--region") + 1] == "us-east-1"
    assert json.dumps({"snapshot_id": "arn:shared"}) in capsys.readouterr().out


def test_what_aws_refuses_is_told_as_it_is(doors, monkeypatch):
    """No traceback: AWS's own words."""
    doors.answers["sts get-caller-identity"] = verify.Refused("ExpiredToken", "The security token included in the request is expired")
    with pytest.raises(SystemExit, match="ExpiredToken: The security token"):
        call(monkeypatch, "plan", "dev")
