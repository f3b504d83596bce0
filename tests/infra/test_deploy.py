"""What `make deploy` and its like say and do, with AWS and sam replaced at their two doors."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import artefacts
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
    monkeypatch.setattr(artefacts, "BUILD", tmp_path)
    packaged(tmp_path, "arm64")
    settings = {"stack_name": "aurora-restore-dev", "region": "us-west-2", "parameters": dict(PARAMETERS)}
    monkeypatch.setattr(deploy, "settings_of", lambda environment: settings)
    for name in ("ROLE_ARN", "EXTERNAL_ID"):
        monkeypatch.delenv(name, raising=False)
    doors.settings = settings
    return doors


def packaged(folder, architecture, symbols=b"GLIBC_2.34"):
    """Ten files that begin as programs for this machine do."""
    number = {name: number for number, name in artefacts.ELF_MACHINES.items()}[architecture]
    for name in artefacts.binaries():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "bootstrap").write_bytes(b"\x7fELF".ljust(18, b"\0") + number.to_bytes(2, "little") + symbols)


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


def test_only_what_lambda_can_run_is_deployed(doors, monkeypatch):
    """All functions, for the settings' architecture, with the C library that Lambda has."""
    packaged(artefacts.BUILD, "x86_64")
    with pytest.raises(SystemExit, match="PreflightFunction: is built for x86_64, not for arm64"):
        call(monkeypatch, "deploy", "dev")
    doors.settings["parameters"]["Architecture"] = "x86_64"
    call(monkeypatch, "plan", "dev")
    packaged(artefacts.BUILD, "x86_64", b"GLIBC_2.9 GLIBC_2.39 GLIBC_2.4")
    with pytest.raises(SystemExit, match=r"NotifyFunction: needs glibc 2\.39, Lambda has 2\.34"):
        call(monkeypatch, "plan", "dev")
    packaged(artefacts.BUILD, "x86_64")
    (artefacts.BUILD / "NotifyFunction" / "bootstrap").unlink()
    with pytest.raises(SystemExit, match="  NotifyFunction: is not packaged yet\nmake package ARCH=x86_64"):
        call(monkeypatch, "plan", "dev")
    assert len(doors.ran) == 1


def test_a_package_is_a_zip_for_each(doors, monkeypatch, tmp_path, capsys):
    """All functions compiled in one go, then taken by sam one by one, looked at, zipped."""
    build = tmp_path / "build"
    build.mkdir()
    packaged(build, "arm64")
    monkeypatch.setattr(artefacts, "BUILD", build)
    monkeypatch.setattr(artefacts, "build_environment", lambda architecture: {})
    call(monkeypatch, "package")
    compiled, built = doors.ran
    assert compiled[:3] == ["cargo", "lambda", "build"] and "--arm64" in compiled and compiled.count("--bin") == len(artefacts.binaries())
    assert built[:2] == ["sam", "build"] and "Architecture=arm64" in built
    archives = sorted(path.name for path in tmp_path.glob("*.zip"))
    assert archives == sorted(f"{name}.zip" for name in artefacts.binaries())
    assert all(zipfile.ZipFile(tmp_path / name).namelist() == ["bootstrap"] for name in archives)
    assert "NotifyFunction.zip: 0.0 MB" in capsys.readouterr().out


def test_what_building_for_another_machine_lacks_is_said(monkeypatch):
    """Rust's target and zig, with the commands that bring them, and what can be done without."""
    foreign = "mips"
    monkeypatch.setitem(artefacts.TARGETS, foreign, "mips-unknown-linux-gnu")
    monkeypatch.setattr(artefacts, "VENV", Path(sys.prefix))
    monkeypatch.setattr(artefacts.shutil, "which", lambda *_, **__: None)
    monkeypatch.delenv("CARGO_LAMBDA_COMPILER", raising=False)
    pytest.importorskip("tomllib")
    with pytest.raises(SystemExit, match="(?s)mips needs:.*rustup target add mips-unknown-linux-gnu.*pip install ziglang"):
        artefacts.build_environment(foreign)


def test_the_functions_are_built_with_the_profile_for_lambda(tmp_path):
    """What cargo-lambda makes of the environment: Cargo.toml's [profile.lambda], with nothing of its own laid over it."""
    pytest.importorskip("tomllib")  # Python 3.11; for 3.10 sam brings another, which is not here
    cargo = tmp_path / "cargo"
    cargo.write_text(f'#!/bin/sh\n[ "$1" = build ] || exec {shutil.which("cargo")} "$@"\n(echo "$@"; env) >{tmp_path}/asked\nexit 1\n')
    cargo.chmod(0o755)
    architecture = next((one for one in artefacts.TARGETS if artefacts.is_own(one)), None)
    if architecture is None:
        pytest.skip("this machine is not of a kind that Lambda has, and zig may be missing")
    environment = {**artefacts.build_environment(architecture), "CARGO": str(cargo)}
    command = [artefacts.VENV / "bin" / "cargo-lambda", "lambda", "build", "--release", "--bin", "preflight"]
    subprocess.run(command, cwd=artefacts.ROOT, env=environment, capture_output=True, check=False)
    asked, *variables = (tmp_path / "asked").read_text().splitlines()
    assert "--release" in asked and "profile" not in asked and "rustflags" not in asked.lower(), asked
    profile = {line.removeprefix("CARGO_PROFILE_RELEASE_") for line in variables if line.startswith("CARGO_PROFILE_RELEASE_")}
    assert profile == {"OPT_LEVEL=s", "LTO=fat", "CODEGEN_UNITS=1", "STRIP=true", "PANIC=unwind"}


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
