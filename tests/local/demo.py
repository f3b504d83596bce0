"""Watch one restore: each step as it happens, then what it left behind, tried for real.

    demo.py [INPUT.json] [--twice] [--expect-failure] [--run-dir DIR] [--bin-dir DIR]

Uses the stack that is running, else one of its own for as long as it takes. The exit status says whether the restore
succeeded; with --expect-failure, whether it failed and left everything as it was.
"""

import argparse
import datetime
import json
import re
import sys
import time
from pathlib import Path

from postgres import PRODUCTION_LOGINS
from progress import phases
from screen import Screen
from seed import SOURCE_CLUSTER, TARGET_CLUSTER, seed
from stack import BIN_DIR, ROOT, RUN_DIR, SOURCE_REGION, TARGET_REGION, Stack
from world import World

# On AWS these are minutes to hours. Long enough here to see the waiting.
PACE = {"copy": 4.0, "restore": 3.0, "instance": 3.0, "delete": 2.0, "master_password": 2.0}


class Demo:
    def __init__(self, world, screen, request, shown):
        self.world, self.screen, self.request, self.shown = world, screen, request, shown
        self.target = request.get("target_cluster_id", TARGET_CLUSTER)
        self.target_region = request.get("target_region", TARGET_REGION)
        self.source = request.get("source_cluster_id", SOURCE_CLUSTER)
        self.source_region = request.get("source_region", SOURCE_REGION)

    def go(self, title):
        screen = self.screen
        before = self.look()
        self.world.messages()  # what earlier runs sent
        earlier_calls = len(self.world.stack.calls())
        name = f"demo-{datetime.datetime.now():%Y%m%d-%H%M%S}-{time.monotonic_ns() % 1000:03}"
        screen.heading(title)
        screen.line(f"  {self.source} ({self.source_region}) {screen.arrow} {self.target} ({self.target_region})")
        screen.line(screen.dim(f"  input {self.shown}, execution {name}"))
        screen.line()
        arn = self.world.start(json.dumps(self.request), name)
        self.follow(arn)
        run = self.world.wait(arn)
        calls = self.world.stack.calls()[earlier_calls:]
        self.timeline(run)
        if run.status != "SUCCEEDED":
            self.failure(run)
            untouched = self.untouched(before, calls)
        self.audit(run)
        people_right = self.people() if run.status == "SUCCEEDED" and not self.request.get("plan_only") else True
        self.notification(calls)
        self.verdict(run, people_right)
        if run.status == "SUCCEEDED":
            return people_right, False
        return False, untouched

    def follow(self, arn):
        """One line per step, once it is over; on a terminal also while it lasts."""
        screen, shown = self.screen, 0
        began = None
        while True:
            status = self.world.describe(arn)["status"]
            events = self.world.events(arn)
            if began is None and events:
                began = events[0]["timestamp"]
            found = phases(events)
            over = status != "RUNNING"
            for phase in found[shown:]:
                if phase.ended is None and not over:
                    elapsed = (datetime.datetime.now(datetime.timezone.utc) - began).total_seconds()
                    screen.update(f"  {elapsed:6.1f} s  {phase.step:<17} {screen.cut(phase.progress or '...', screen.width - 32)}")
                    break
                self.step_line(phase, began)
                shown += 1
            if over:
                return
            time.sleep(0.15)

    def step_line(self, phase, began):
        screen = self.screen
        end = phase.ended or phase.began
        took = (end - phase.began).total_seconds()
        word = phase.outcome or "ended"
        paint = screen.bad if phase.error or word == "failed" else screen.dim if word == "skipped" else screen.good
        asked = f", asked {phase.asked} times" if phase.asked > 1 else ""
        note = f"  {phase.error}" if phase.error else ""
        screen.line(f"  {(end - began).total_seconds():6.1f} s  {phase.step:<17} {paint(f'{word:<8}')} {screen.dim(f'took {took:.1f} s{asked}')}{screen.bad(note) if note else ''}")

    def timeline(self, run):
        screen, found = self.screen, phases(run.events)
        if not found:
            return
        screen.heading("Timeline")
        began = run.events[0]["timestamp"]
        total = max(run.seconds, 0.001)
        room = screen.width - 32
        for phase in found:
            end = phase.ended or phase.began
            left = int(room * (phase.began - began).total_seconds() / total)
            length = max(1, round(room * (end - phase.began).total_seconds() / total))
            length = min(length, room - left) or 1
            bar = " " * left + screen.bar * length
            paint = screen.bad if phase.error else screen.good
            screen.line(f"  {phase.step:<17} {paint(f'{bar:<{room}}')} {(end - phase.began).total_seconds():6.1f} s")
        screen.line(f"  {'in all':<17} {'':<{room}} {run.seconds:6.1f} s")

    def audit(self, run):
        screen = self.screen
        screen.heading("Audit trail")
        if not run.audit:
            screen.line("  no record: nothing was changed")
            return
        began = run.audit[0]["timestamp"]
        ends = {}
        for record in run.audit:
            if record["phase"] == "finished":
                ends.setdefault((record["step"], record["action"], record.get("resource")), []).append(record)
        changes = 0
        for record in run.audit:
            if record["phase"] == "finished":
                continue
            outcome = ""
            if record["phase"] == "begun":
                changes += 1
                matching = ends.get((record["step"], record["action"], record.get("resource")), [])
                outcome = matching.pop(0).get("outcome", "finished") if matching else "no end recorded"
            paint = screen.good if outcome in ("ok", "", "finished") else screen.bad
            resource = str(record.get("resource", "")).rpartition(":")[2] if str(record.get("resource", "")).startswith("arn:") else record.get("resource", "")
            screen.line(
                f"  {(record['timestamp'] - began) / 1e6:6.1f} s  {record['step']:<17} {screen.cut(record['action'], 32):<32} "
                f"{screen.cut(resource, screen.width - 72):<{screen.width - 72}} {paint(outcome)}"
            )
        screen.line(screen.dim(f"  {len(run.audit)} records, {changes} changes announced before they were made"))

    def people(self):
        """Logins over TLS with the stack's authority, as an application would: the declared ones must work, production's not."""
        screen, world = self.screen, self.world
        cluster = world.cluster(self.target, self.target_region)
        screen.heading("Who can log in now")
        screen.line(screen.dim(f"  tried at {cluster['Endpoint']}:{cluster['Port']}, database app, TLS with the server's certificate verified"))
        right = True
        master = world.secret("master-credentials")
        trials = [(user["username"], user["password"], "as the secret says", True) for user in world.secret("app-credentials").values()]
        trials.append((master["username"], master["password"], "master user, the secret's password", True))
        trials += [(user, password, "production's password", False) for user, password in PRODUCTION_LOGINS.items()]
        for user, password, what, wanted in trials:
            refused = world.login(user, password, cluster_id=self.target, region=self.target_region)
            as_wanted = (refused is None) == wanted
            right &= as_wanted
            word = "yes" if refused is None else "no"
            paint = screen.good if as_wanted else screen.bad
            note = "" if as_wanted else screen.bad("  <- this should not be")
            # The user's name is in the row already.
            reason = re.sub(r'^role "[^"]*" is ', "", re.sub(r' for user "[^"]*"$', "", refused)) if refused else ""
            screen.line(f"  {paint(f'{word:<4}')} {user:<16} {what:<35} {screen.dim(screen.cut(reason, screen.width - 60))}{note}")
        return right

    def notification(self, calls):
        screen = self.screen
        screen.heading("Notification")
        messages = self.world.messages()
        if not messages:
            screen.line(screen.bad("  none arrived in the queue that is subscribed to the topic"))
        for message in messages:
            attributes = ", ".join(f"{name}={value}" for name, value in message["attributes"].items())
            screen.line(f"  Subject: {message['subject']}")
            screen.line(screen.dim(f"  Attributes: {attributes or 'none'}"))
        # The queue gets the part for programs; people get the other one of the same message.
        for call in calls:
            if (call["service"], call["action"], call["status"]) == ("sns", "Publish", 200):
                text = call["parameters"]["Message"]
                if call["parameters"].get("MessageStructure") == "json":
                    parts = json.loads(text)
                    text = parts.get("email", parts.get("default"))
                screen.line()
                screen.paragraph(text, indent="    ")

    def failure(self, run):
        self.screen.heading("What went wrong")
        self.screen.line(f"  {self.screen.bad(run.error or run.status)}")
        self.screen.paragraph(run.message or "no cause given")

    def look(self):
        """What a failed restore must leave alone."""
        world = self.world
        cluster = world.cluster(self.target, self.target_region)
        seen = {}
        if cluster:
            members = {instance["DBInstanceIdentifier"]: instance["DBInstanceStatus"] for instance in world.instances(self.target, self.target_region)}
            seen[f"cluster {self.target}"] = f"{cluster['Status']}, made {cluster['ClusterCreateTime']:%H:%M:%S}"
            seen["its instances"] = ", ".join(f"{name} {status}" for name, status in members.items()) or "none"
            seen["deletion protection"] = "on" if cluster["DeletionProtection"] else "off"
        else:
            seen[f"cluster {self.target}"] = "does not exist"
        for region in dict.fromkeys((self.source_region, self.target_region)):
            names = [snapshot["DBClusterSnapshotIdentifier"] for snapshot in world.snapshots(region)]
            seen[f"snapshots, {region}"] = f"{len(names)}" + (f": {', '.join(names)}" if names else "")
        return seen

    def untouched(self, before, calls):
        screen, after = self.screen, self.look()
        screen.heading("What was left untouched")
        same = True
        for what in before | after:
            unchanged = before.get(what) == after.get(what)
            same &= unchanged
            if unchanged:
                screen.line(f"  {screen.good('same   ')} {what:<26} {screen.cut(after[what], screen.width - 38)}")
            else:
                screen.line(f"  {screen.bad('changed')} {what:<26} {screen.cut(before.get(what, 'not there'), screen.width - 38)}")
                screen.line(f"  {'':<7} {'':<26} {screen.arrow} {screen.cut(after.get(what, 'gone'), screen.width - 41)}")
        changing = [call["action"] for call in calls if call["service"] == "rds" and call["caller"] != "stack" and not call["action"].startswith(("Describe", "List"))]
        screen.line(f"  calls to RDS that change something: {', '.join(changing) if changing else 'none'}")
        return same and not changing

    def verdict(self, run, people_right):
        screen = self.screen
        screen.line()
        if run.status == "SUCCEEDED" and people_right:
            screen.line(screen.good(f"The restore succeeded in {run.seconds:.1f} s."))
        elif run.status == "SUCCEEDED":
            screen.line(screen.bad("The execution succeeded, but the logins are not as they should be."))
        else:
            screen.line(screen.bad(f"The restore failed ({run.error or run.status}) after {run.seconds:.1f} s."))


def read_input(path):
    try:
        request = json.loads(path.read_text())
    except FileNotFoundError:
        raise SystemExit(f"{path}: no such file") from None
    except ValueError as wrong:
        raise SystemExit(f"{path} is not JSON: {wrong}") from None
    if not isinstance(request, dict):
        raise SystemExit(f"{path} must hold one JSON object")
    return request


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", nargs="?", type=Path, default=ROOT / "statemachine" / "input.json")
    parser.add_argument("--twice", action="store_true", help="a second restore over the first: the nightly case")
    parser.add_argument("--expect-failure", action="store_true", help="succeed when the restore failed and touched nothing")
    parser.add_argument("--run-dir", type=Path, default=RUN_DIR)
    parser.add_argument("--bin-dir", type=Path, default=BIN_DIR)
    arguments = parser.parse_args()
    request, screen = read_input(arguments.input), Screen()
    path = arguments.input.resolve()
    shown = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)

    running = Stack.running(arguments.run_dir)
    stack = running
    try:
        if running:
            screen.line(f"Using the local stack that is running at {running.endpoint}.")
        else:
            began = time.monotonic()
            screen.update("Starting the local stack...")
            stack = Stack(bin_dir=arguments.bin_dir).start()
            seed(stack)
            stack.rds(pace=PACE)
            screen.line(f"Started the local stack in {time.monotonic() - began:.1f} s: AWS's APIs, the functions, PostgreSQL. No AWS account.")
        demo = Demo(World(stack), screen, request, shown)
        succeeded, untouched = demo.go("Restore")
        if arguments.twice and succeeded:
            succeeded, untouched = demo.go("The same again, over the first result")
    except KeyboardInterrupt:
        screen.line()
        return 130
    finally:
        if stack and not running:
            screen.update("Stopping the local stack...")
            stack.stop()
            screen.update("")
    if arguments.expect_failure:
        return 0 if untouched and not succeeded else 1
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
