"""Packages, plans, deploys, verifies and removes one environment of samconfig.toml. `make` calls it:

    deploy.py package
    deploy.py plan | deploy | verify | destroy | share  ENVIRONMENT [options]

Says what it will do before it does it. With ROLE_ARN (and EXTERNAL_ID, if the role asks for one) it acts as that role, for instance
in another account. The AWS CLI and sam are its clients; the credentials are the caller's own.
"""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import artefacts
import verify
from artefacts import say
from cfn import ROOT, Stack, load, read_toml


def settings_of(environment):
    """An environment's table of samconfig.toml, with its parameters as a dictionary."""
    config = read_toml(ROOT / "samconfig.toml")
    if environment not in config or "deploy" not in config[environment]:
        known = ", ".join(name for name, table in config.items() if isinstance(table, dict) and "deploy" in table)
        raise SystemExit(f"ENV={environment or ''}: samconfig.toml knows {known}")
    settings = dict(config[environment]["deploy"]["parameters"])
    settings["parameters"] = dict(override.split("=", 1) for override in settings["parameter_overrides"])
    return settings


def filled(settings):
    """Refuses a deployment whose settings are still samples."""
    open_ones = [f"{name}={value}" for name, value in settings["parameters"].items() if "<" in value]
    if open_ones:
        raise SystemExit("Fill in samconfig.toml first (docs/deploy.md says where each comes from):\n  " + "\n  ".join(open_ones))


def tool(name):
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is not here: make infra-tools")
    return found


def acting(region):
    """The environment in which everything runs: the caller's, or that of the role in ROLE_ARN."""
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0"}
    role = os.environ.get("ROLE_ARN")
    if role:
        say(f"acting as {role}")
        external = ["--external-id", os.environ["EXTERNAL_ID"]] if os.environ.get("EXTERNAL_ID") else []
        keys = verify.aws("sts", "assume-role", "--role-arn", role, "--role-session-name", "aurora-restore-deploy", "--region", region, *external)["Credentials"]
        environment |= {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"], "AWS_SESSION_TOKEN": keys["SessionToken"]}
        environment.pop("AWS_PROFILE", None)
    return environment


def run(command, environment):
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


# Package


def package(arguments):
    say(f"{len(artefacts.binaries())} functions for {arguments.architecture}, optimised for size with fat LTO: about 12 minutes on 2 cores; into {artefacts.BUILD.parent.name}")
    artefacts.build(arguments.architecture, tool("sam"), run)


# Deploy


def sam_deploy(arguments, *options):
    settings = settings_of(arguments.environment)
    environment = acting(settings["region"])
    filled(settings)
    artefacts.check(settings["parameters"].get("Architecture", load()["Parameters"]["Architecture"]["Default"]))
    who = verify.aws("sts", "get-caller-identity", "--region", settings["region"], environment=environment)
    say(f"stack {settings['stack_name']} in {settings['region']} of account {who['Account']}, as {who['Arn']}")
    for name, value in settings["parameters"].items():
        say(f"  {name} = {value}")
    # Code goes to the environment's own bucket once there is one.
    bucket = Stack(settings["parameters"] | {"SubnetIds": []}, account=who["Account"], region=settings["region"]).name("Bucket")
    where = ["--resolve-s3"]
    try:
        verify.aws("s3api", "get-bucket-versioning", "--bucket", bucket, environment=environment)
        where = ["--no-resolve-s3", "--s3-bucket", bucket, "--s3-prefix", "code"]
        say(f"code goes to s3://{bucket}/code")
    except verify.Refused:
        say("code goes to a bucket that sam makes; from the next time on to the environment's own")
    command = [tool("sam"), "deploy", "--template-file", artefacts.BUILD / "template.yaml", "--config-file", ROOT / "samconfig.toml", "--config-env", arguments.environment]
    run([*command, *where, *options], environment)


def plan(arguments):
    say("a change set is made and shown, and not executed")
    sam_deploy(arguments, "--no-execute-changeset", "--no-confirm-changeset")


def deploy(arguments):
    say("a change set is made, shown and, after a yes, executed; running executions go on with the new functions")
    sam_deploy(arguments, *(["--no-confirm-changeset"] if arguments.yes else []))
    say("next: make verify ENV=" + arguments.environment)


# Verify


def check(arguments):
    settings = settings_of(arguments.environment)
    environment = acting(settings["region"])
    parameters = settings["parameters"] | dict(one.split("=", 1) for one in arguments.parameter)
    region = arguments.region or settings["region"]
    only = [name for name in arguments.only.split(",") if name]
    unknown = set(only) - set(verify.CHECKS)
    if unknown:
        raise SystemExit(f"ONLY knows {', '.join(verify.CHECKS)}")
    say(f"looking at {parameters['NamePrefix']} in {region}; nothing is changed, no secret is shown\n")
    rows = verify.Verification({**parameters, "SubnetIds": []}, region, environment).run(only)
    sys.exit(min(1, verify.show(rows)))


# Destroy


def destroy(arguments):
    settings = settings_of(arguments.environment)
    environment = acting(settings["region"])
    name, region = settings["stack_name"], settings["region"]
    who = verify.aws("sts", "get-caller-identity", "--region", settings["region"], environment=environment)
    stack = Stack(settings["parameters"] | {"SubnetIds": []}, account=who["Account"], region=region)
    kept = [resource for resource, made in stack.template["Resources"].items() if made.get("DeletionPolicy") == "Retain" and stack.resource(resource)]
    say(f"stack {name} in {region} of account {who['Account']} is deleted: functions, state machine, schedule, topic, alarms, logs, roles")
    say("its secrets are deleted, and can be restored for 30 days")
    say(f"these stay, and have to be removed by hand if they are to go: {', '.join(f'{one} ({stack.name(one)})' for one in kept)}")
    say("clusters and snapshots stay: final snapshots, copies, the restored cluster")

    def aws(*what):
        return verify.aws(*what, "--region", region, environment=environment)

    running = aws("stepfunctions", "list-executions", "--state-machine-arn", stack.attribute("StateMachine", "Arn"), "--status-filter", "RUNNING")["executions"]
    if running:
        raise SystemExit(f"{len(running)} executions run: wait for them or stop them first ({running[0]['executionArn']})")
    if input("Type the stack's name to delete it: ").strip() != name:
        raise SystemExit("Nothing was deleted.")
    aws("cloudformation", "delete-stack", "--stack-name", name)
    say("waiting until it is gone")
    aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", name)
    say("gone")


# Share, in the account of the source


def share(arguments):
    """Copies the newest snapshot into one under the sharing key, and lets the restoring account use it."""
    settings = settings_of(arguments.environment)
    parameters = settings["parameters"]
    if not os.environ.get("ROLE_ARN"):
        raise SystemExit("ROLE_ARN (and EXTERNAL_ID) of infra/source-account.yaml are needed; its outputs name them")
    restoring = verify.aws("sts", "get-caller-identity", "--region", settings["region"])["Account"]
    cluster, region = parameters["SourceClusterId"], parameters["SourceRegion"]
    environment = acting(region)

    def aws(*what):
        return verify.aws("rds", *what, "--region", region, environment=environment)

    found = aws("describe-db-cluster-snapshots", "--db-cluster-identifier", cluster)["DBClusterSnapshots"]
    usable = [one for one in found if one["Status"] == "available" and f"{cluster}-shared-" not in one["DBClusterSnapshotIdentifier"]]
    if not usable:
        raise SystemExit(f"{cluster} has no available snapshot in {region}")
    newest = max(usable, key=lambda one: one["SnapshotCreateTime"])
    name = f"{cluster}-shared-{datetime.datetime.now(datetime.timezone.utc):%Y%m%d-%H%M%S}"
    say(f"{newest['DBClusterSnapshotIdentifier']} of {newest['SnapshotCreateTime']} is copied to {name} and shared with account {restoring}")
    key = ["--kms-key-id", f"alias/{parameters['NamePrefix']}-shared-snapshots"] if newest.get("StorageEncrypted") else []
    source, tags = newest["DBClusterSnapshotArn"], "Key=aurora-restore:shared,Value=true"
    copy = aws("copy-db-cluster-snapshot", "--source-db-cluster-snapshot-identifier", source, "--target-db-cluster-snapshot-identifier", name, "--tags", tags, *key)
    arn = copy["DBClusterSnapshot"]["DBClusterSnapshotArn"]
    while (status := aws("describe-db-cluster-snapshots", "--db-cluster-snapshot-identifier", name)["DBClusterSnapshots"][0]["Status"]) != "available":
        if status not in ("creating", "copying"):
            raise SystemExit(f"{name} is {status}")
        time.sleep(arguments.poll_seconds)
    aws("modify-db-cluster-snapshot-attribute", "--db-cluster-snapshot-identifier", name, "--attribute-name", "restore", "--values-to-add", restoring)
    say(f'shared. Start the restore with {{"snapshot_id": "{arn}"}}; afterwards delete {name}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("package")
    one.add_argument("--architecture", choices=artefacts.TARGETS, default="arm64")
    one.set_defaults(call=package)
    for name, call in (("plan", plan), ("deploy", deploy), ("verify", check), ("destroy", destroy), ("share", share)):
        one = commands.add_parser(name)
        one.add_argument("environment")
        one.set_defaults(call=call)
        if name == "deploy":
            one.add_argument("--yes", action="store_true", help="without asking, for pipelines")
        if name == "verify":
            one.add_argument("--only", default="", help=f"some of {','.join(verify.CHECKS)}")
            one.add_argument("--region", default="")
            one.add_argument("--parameter", action="append", default=[], help="NAME=VALUE instead of samconfig.toml's")
        if name == "share":
            one.add_argument("--poll-seconds", type=float, default=30)
    arguments = parser.parse_args()
    try:
        arguments.call(arguments)
    except verify.Refused as refused:
        raise SystemExit(f"{refused.code}: {refused}") from None


if __name__ == "__main__":
    main()
