"""What starting a function costs: each of the ten steps as it is deployed, and the same calls made by a Python function.

    cold.py [--build .aws-sam/build] [--rounds 30] [--only check-copy,notify] [--also NAME=DIRECTORY ...] [--page docs/performance.md]
    cold.py --counts [--build target/debug]     only how many calls to AWS each step makes; fails when they are more than below

The calls of each step are recorded in a restore on the local stack, then played back to fresh processes, ours and Python's in turn,
over plain HTTP and over TLS. `--also` measures other builds in the same run, to compare a choice before and after.
A benchmark and no test of speed: the exit status is 0 also when a target is missed, and the page says so. A function that ends with an
error ends the benchmark.
"""

import argparse
import fcntl
import io
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from copy import copy
from pathlib import Path

import cold_page
from stand_ins import Authority, Recorder, Replay, Runtime, Server, parameters, response

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "local"))

from functions import FUNCTIONS, STEPS  # noqa: E402
from seed import seed  # noqa: E402
from stack import Stack  # noqa: E402
from world import World  # noqa: E402

RUN_DIR = ROOT / ".local" / "bench"
EVENTS = ROOT / "tests" / "events"
RDS_AUTHORITIES = ROOT / "crates" / "database" / "certs" / "rds-global-bundle.pem"
SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Each has an endpoint of its own, as on AWS, so that each costs a connection; EC2 and S3 are at the common one.
SERVICES = ["DYNAMODB", "RDS", "SECRETS_MANAGER", "KMS", "SFN", "SNS"]
BOTO_NAMES = {"states": "stepfunctions"}
# Which of a step's invocations is played back: the one that ends it, but for these. A cluster is deleted by the first; users are
# set up once, and every process after the first finds them.
PLAYED = {"delete-cluster": "first", "setup-db-users": "again"}
LOGS_IN = ["check-restore", "setup-db-users", "verify-restore"]
# Calls to AWS of that invocation, at most. A step that needs more should say why here.
CALLS_AT_MOST = {
    "preflight": 22, "copy-snapshot": 8, "check-copy": 4, "delete-cluster": 45, "restore-cluster": 13,
    "check-restore": 5, "setup-db-users": 4, "verify-restore": 7, "archive-snapshot": 8, "notify": 9,
}  # fmt: skip
THREE_CALLS = "three calls"
# Invocations after the first; fewer where most of it is the database server's work.
WARM, WARM_LOGGING_IN, PATIENCE_SECONDS = 5, 1, 60


class Failed(Exception):
    pass


def say(text):
    print(text, file=sys.stderr, flush=True)


def binary(build, step):
    """A step's function: as sam builds it, or as cargo does."""
    packaged = build / f"{''.join(word.capitalize() for word in step.split('-'))}Function" / "bootstrap"
    found = packaged if packaged.exists() else build / step
    if not os.access(found, os.X_OK):
        raise SystemExit(f"There is no {step} in {build}. Build the functions first: make package ARCH={os.uname().machine}")
    return found


def zipped_bytes(path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.write(path, "bootstrap")
    return len(archive.getvalue())


def peak_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise Failed("the process has no memory")


def invoke(runtime, command, environment, events, log):
    """A fresh process with these events: what it cost, in milliseconds and MiB, and what it answered."""
    runtime.expect(events)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    files = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    began = time.perf_counter_ns()
    # Not subprocess: what it does before the process runs would be counted.
    pid = runtime.pid = os.posix_spawn(command[0], command, environment, file_actions=files)
    os.close(output)
    try:
        if not runtime.over.wait(PATIENCE_SECONDS):
            raise Failed("no answer")
        sample = {
            "start": (runtime.first_poll - began) / 1e6,
            "first": runtime.spans[0] / 1e6,
            "warm": statistics.median(runtime.spans[1:]) / 1e6 if runtime.spans[1:] else None,
            "cpu": runtime.cpu / 1e6,
            "peak": peak_kib(pid) / 1024,
        }
        sample["cold"] = sample["start"] + sample["first"]
        answers = []
        for kind, body in runtime.answers:
            if kind != "response":
                raise Failed(f"{kind}: {body.decode(errors='replace')}")
            answers.append(json.loads(body))
        return sample, answers
    except (Failed, IndexError, TypeError) as failure:
        raise Failed(f"{command[0]}: {failure}\n{Path(log).read_text(errors='replace')[:2000]}") from None
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Bench:
    def __init__(self, directory, stack, build):
        self.directory, self.stack = directory, stack
        self.log = directory / "function.log"
        self.replay = Replay()
        self.runtime = Runtime(self.replay.begin)
        self.authority = Authority(directory)
        self.work = {}
        self.world = World(stack, seed(stack))
        authorities = directory / "database.pem"
        # The functions' own certificate authorities: reading them at each login is part of what it costs.
        authorities.write_bytes(RDS_AUTHORITIES.read_bytes() + Path(stack.ca_file).read_bytes())
        self.base = {
            **{name: value for name, value in stack.environment().items() if not name.startswith("AWS_ENDPOINT_URL")},
            "DATABASE_CA_FILE": str(authorities),
            "AWS_SESSION_TOKEN": "local",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/bench",
            "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
            "AWS_LAMBDA_RUNTIME_API": self.runtime.address,
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
        }
        self.record(build)

    # Recording

    def record(self, build):
        recorder = Recorder(self.stack.endpoint)
        server = Server(recorder)
        runtime = Runtime(recorder.begin)
        environment = {**self.base, "AWS_ENDPOINT_URL": server.url("127.0.0.1"), "AWS_LAMBDA_RUNTIME_API": runtime.address}
        for step in STEPS:
            event = json.loads((EVENTS / f"{step}.json").read_text())

            def once(step=step, event=event):
                before = self.logins()
                _, (answer,) = invoke(runtime, [str(binary(build, step))], environment, [event], self.log)
                return {"event": event, "outcome": answer["outcome"], "calls": recorder.calls, "logins": self.logins_since(before) if step in LOGS_IN else {}}

            deadline = time.monotonic() + PATIENCE_SECONDS
            done = [once()]
            while done[-1]["outcome"] == "waiting":
                if time.monotonic() > deadline:
                    raise Failed(f"{step} does not come to an end")
                time.sleep(0.3)
                done.append(once())
            if PLAYED.get(step) == "again":
                done.append(once())
            self.work[step] = done[0 if PLAYED.get(step) == "first" else -1]
            logins = sum(self.work[step]["logins"].values())
            say(f"  {step}: {self.work[step]['outcome']}, {len(self.work[step]['calls'])} calls" + (f", {logins} logins" if logins else ""))
        server.close()
        runtime.server.close()

    def logins(self):
        """Sessions that each database has seen; nothing before there is a server that lets us in."""
        import psycopg

        if not self.work.get("restore-cluster"):
            return {}
        try:
            rows = self.world.query("SELECT datname, sessions FROM pg_stat_database WHERE datname IS NOT NULL", "postgres")
        except (psycopg.Error, TypeError):
            return {}
        return {row["datname"]: row["sessions"] for row in rows}

    def logins_since(self, before):
        # PostgreSQL counts a session a moment after it ended. Asking is a session in `postgres` itself: three with the
        # attempts of world.query, counted by asking twice.
        time.sleep(1.5)
        first = self.logins()
        time.sleep(1.5)
        asking = self.logins().get("postgres", 0) - first.get("postgres", 0)
        made = {name: count - before.get(name, 0) - (asking if name == "postgres" else 0) for name, count in first.items()} if before else {}
        return {name: count for name, count in made.items() if count > 0 and not name.startswith("template")}

    # Playing back

    def endpoints(self, context):
        """A server for each service; the environment that leads to them."""
        servers = {name: Server(self.replay, context) for name in ["", *SERVICES]}
        return {"AWS_ENDPOINT_URL" + (f"_{name}" if name else ""): server.url() for name, server in servers.items()}

    def python_work(self, name, calls, logins):
        """The file that tells the Python function what to do."""
        from botocore.session import get_session

        session, clients, plan = get_session(), {}, []
        for call in calls:
            service, region, _ = call["call"]
            service = BOTO_NAMES.get(service, service)
            clients[f"{service}/{region}"] = {"service_name": service, "region_name": region}
            plan.append([f"{service}/{region}", *parameters(call, session.get_service_model(service))])
        cluster, (user, password) = self.world.cluster(), self.world.master()
        login = {
            "host": cluster["Endpoint"], "port": cluster["Port"], "user": user, "password": password,
            "sslmode": "verify-full", "sslrootcert": self.base["DATABASE_CA_FILE"],
        }  # fmt: skip
        path = self.directory / f"{name.replace(' ', '-')}.json"
        path.write_text(json.dumps({
            "clients": clients, "calls": plan,
            "logins": [{**login, "dbname": database} for database, count in logins.items() for _ in range(count)],
        }))  # fmt: skip
        return str(path)

    def three_calls(self):
        """The least that a step does: one describe, one conditional write of state, one of the audit trail."""
        calls = [call for step in STEPS for call in self.work[step]["calls"]]
        describe = next(call for call in calls if call["call"][2] == "DescribeDBClusterSnapshots")
        transactions = [(call, json.loads(call["request"].body)["TransactItems"]) for call in calls if call["call"][2] == "TransactWriteItems"]
        puts = [(call, item["Put"]) for call, items in transactions for item in items if "Put" in item]
        return [describe, *(put_alone(*next((call, put) for call, put in puts if table in put["TableName"])) for table in ("state", "audit"))]


def put_alone(call, put):
    """A write of a recorded transaction as a call of its own."""
    request = copy(call["request"])
    request.headers = {**request.headers, b"x-amz-target": b"DynamoDB_20120810.PutItem"}
    request.body = json.dumps(put).encode()
    answer = response(200, [("Content-Type", "application/x-amz-json-1.0")], b"{}")
    return {"call": (*call["call"][:2], "PutItem"), "asked": None, "request": request, "answer": answer}


def subjects(bench, build, also, only, python):
    """What is measured: (name of the step, who does it) with a command, its environment and the recording."""
    found = {}
    roots = bench.directory / "root.pem"
    roots.write_bytes(bench.authority.root)
    many = bench.directory / "roots.pem"
    # A build that reads the machine's own roots reads these; ours hold Amazon's, and are told of one more.
    many.write_bytes((SYSTEM_AUTHORITIES.read_bytes() if SYSTEM_AUTHORITIES.exists() else b"") + bench.authority.root)
    rust = {"AWS_EXECUTION_ENV": "AWS_Lambda_provided.al2023", "AWS_CA_BUNDLE": str(roots), "SSL_CERT_FILE": str(many), "PATH": "/usr/bin"}
    import botocore

    # What boto3 trusts by itself, and one more.
    pythons = bench.directory / "python.pem"
    pythons.write_bytes((Path(botocore.__file__).parent / "cacert.pem").read_bytes() + bench.authority.root)
    boto = {
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3", "AWS_CA_BUNDLE": str(pythons), "PATH": "/usr/bin",
        "LAMBDA_TASK_ROOT": str(HERE / "function"), "_HANDLER": "handler.handle",
    }  # fmt: skip
    command = [str(python), "-m", "awslambdaric", "handler.handle"]
    for step in only:
        work = bench.work[step]
        found[step, "ours"] = ([str(binary(build, step))], rust, work)
        for name, directory in also.items():
            found[step, name] = ([str(binary(directory, step))], rust, work)
        file = bench.python_work(step, work["calls"], work["logins"])
        found[step, "python"] = (command, {**boto, "WORK_FILE": file}, {**work, "outcome": "done"})
    three = bench.three_calls()
    work = {"event": {}, "outcome": "done", "calls": three, "logins": {}}
    found[THREE_CALLS, "python"] = (command, {**boto, "WORK_FILE": bench.python_work(THREE_CALLS, three, {})}, work)
    return found


def measure(bench, found, rounds, protocols):
    samples, calls = {}, {}
    order = random.Random(7)
    environments = {name: bench.endpoints(context) for name, context in protocols.items()}
    # A first round that does not count: files come into memory, Python writes its compiled modules.
    for number in range(rounds + 1):
        say(f"  round {number} of {rounds}" if number else "  warming up")
        turns = [(who, protocol) for who in found for protocol in protocols]
        order.shuffle(turns)
        for who, protocol in turns:
            command, environment, work = found[who]
            bench.replay.play(work["calls"])
            environment = {**bench.base, **environments[protocol], **environment}
            times = 1 + (WARM_LOGGING_IN if who[0] in LOGS_IN else WARM)
            try:
                sample, answers = invoke(bench.runtime, command, environment, [work["event"]] * times, bench.log)
            except Failed as failure:
                raise Failed(f"{who} over {protocol}: calls that are not in the recording: {bench.replay.strange[:3]}\n{failure}") from None
            wrong = [answer for answer in answers if answer.get("outcome") != work["outcome"]]
            if wrong or len(answers) != times or bench.replay.strange:
                raise Failed(f"{who} over {protocol}: {wrong} {len(answers)} answers, unknown calls {bench.replay.strange[:3]}")
            if number:
                samples.setdefault((*who, protocol), []).append(sample)
            made = [made for made in bench.replay.invocations if made]
            calls[who] = (len(made[0]), len(made[-1]))
    figures = {
        who: {name: statistics.median(sample[name] for sample in taken) for name in taken[0]} | {"worst": max(sample["cold"] for sample in taken)}
        for who, taken in samples.items()
    }
    return figures, calls


def counted(bench):
    made = {step: len(work["calls"]) for step, work in bench.work.items()}
    more = [f"{step} makes {made[step]} calls, not {most}" for step, most in CALLS_AT_MOST.items() if made[step] > most]
    if more:
        raise SystemExit("More calls to AWS than before: " + "; ".join(more) + ". Mend it, or say why in tests/bench/cold.py.")
    print(f"{sum(made.values())} calls to AWS in a restore step by step: no more than before.")


def main():
    parser = argparse.ArgumentParser(description="What starting a function costs.")
    parser.add_argument("--build", type=Path, default=ROOT / ".aws-sam" / "build")
    parser.add_argument("--python", type=Path, default=RUN_DIR / "python" / "bin" / "python")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default=",".join(STEPS), help="of the steps, with commas")
    parser.add_argument("--protocols", default="http,https")
    parser.add_argument("--also", action="append", default=[], help="NAME=DIRECTORY: another build, measured beside")
    parser.add_argument("--counts", action="store_true", help="only count the calls to AWS, and fail when they are more than they were")
    parser.add_argument("--page", type=Path, help="the page whose part on cold starts is written anew")
    arguments = parser.parse_args()
    build, only = arguments.build.resolve(), arguments.only.split(",")
    also = {name: Path(directory).resolve() for name, directory in (one.split("=", 1) for one in arguments.also)}
    page = arguments.page and arguments.page.resolve()
    python = arguments.python.absolute()
    if not sys.platform.startswith("linux"):
        raise SystemExit("This benchmark reads what a process used from Linux.")
    for name in FUNCTIONS:
        binary(build, name)

    RUN_DIR.mkdir(parents=True, exist_ok=True)
    lock = open(RUN_DIR / "lock", "w")  # noqa: SIM115 held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("another benchmark is running; two would measure each other") from None

    def stop(number, _):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    directory = Path(tempfile.mkdtemp(prefix="aurora-restore-cold-"))
    stack = None
    try:
        functions = directory / "functions"
        functions.mkdir()
        for name in FUNCTIONS:
            (functions / name).symlink_to(binary(build, name))
        # awslambdaric looks for the handler where it is started, and a process that is spawned starts where we are.
        os.chdir(HERE / "function")
        say("a restore on the local stack, step by step, to know the calls ...")
        stack = Stack(bin_dir=functions)
        stack.start()
        bench = Bench(directory, stack, build)
        if arguments.counts:
            return counted(bench)
        found = subjects(bench, build, also, only, python)
        protocols = {name: {"http": None, "https": bench.authority.context}[name] for name in arguments.protocols.split(",")}
        say(f"{len(found)} functions, {arguments.rounds} processes each over {' and '.join(protocols)} ...")
        figures, calls = measure(bench, found, arguments.rounds, protocols)
    except Failed as failure:
        raise SystemExit(f"The benchmark ended: {failure}") from None
    finally:
        if stack:
            stack.stop()
        shutil.rmtree(directory, ignore_errors=True)
    sizes = {(step, name): zipped_bytes(binary(where, step)) for step in only for name, where in {"ours": build, **also}.items()}
    result = cold_page.Result(figures, calls, sizes, only, list(protocols), list(also), arguments.rounds)
    if also:
        print(cold_page.comparison(result))
    else:
        print(cold_page.text(result))
    if page:
        cold_page.write(result, page)


if __name__ == "__main__":
    main()
