"""The local stack: the AWS APIs, the functions and the databases of one restore, on this machine, without an AWS account.

    stack.py start     starts it and lays out the scene (seed.py); says where it is when it runs already
    stack.py stop | status | reset
    stack.py env       `export` lines for a shell in which `aws` and `cargo lambda` talk to the stack

From Python:  with Stack() as stack: ...    a stack of its own, gone at the end, even if the caller is killed.

The functions are the debug builds in target; ARTEFACTS=.aws-sam/build takes those of `make package`, which are deployed.
"""

import argparse
import fcntl
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUN_DIR = ROOT / ".local" / "run"
BIN_DIR = Path(os.environ.get("ARTEFACTS") or Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug").resolve()

SOURCE_REGION, TARGET_REGION, ACCOUNT, ENVIRONMENT = "us-east-1", "us-west-2", "123456789012", "dev"
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_EC2_METADATA_DISABLED": "true"}


def client_environment(endpoint, ca_file):
    """What a function or a shell needs to talk to this stack and to nothing else."""
    return {
        **KEYS,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": TARGET_REGION,
        "AWS_DEFAULT_REGION": TARGET_REGION,
        "ENVIRONMENT": ENVIRONMENT,
        "SOURCE_REGION": SOURCE_REGION,
        "TARGET_REGION": TARGET_REGION,
        "LOG_LEVEL": "info",
        "MAX_WAIT_SECONDS": "1",  # moto waits in real time, so the steps' waits are kept short
        "DATABASE_CA_FILE": str(ca_file),
    }


class Stack:
    """A stack as its user sees it. Talks to a server process (`stack.py serve`) over HTTP."""

    def __init__(self, run_dir=None, bin_dir=None, port=0):
        self.own_directory = run_dir is None
        self.run_dir = Path(run_dir) if run_dir else None
        self.bin_dir, self.port = Path(bin_dir or BIN_DIR).resolve(), port
        self.server, self.info, self.clients = None, None, {}

    @classmethod
    def running(cls, run_dir=RUN_DIR):
        """The stack that runs with this run directory, or None."""
        stack = cls(run_dir)
        try:
            stack.info = json.loads((stack.run_dir / "stack.json").read_text())
            stack.request("GET", "health")
        except (FileNotFoundError, ValueError, OSError):
            return None
        return stack

    def start(self, detached=False):
        from functions import missing_programs

        missing = missing_programs(self.bin_dir)
        if missing:
            raise SystemExit(f"No function binaries in {self.bin_dir} (missing: {', '.join(missing)}). Build them first: {'make package' if os.environ.get('ARTEFACTS') else 'cargo build --workspace'}")
        if self.own_directory:
            self.run_dir = Path(tempfile.mkdtemp(prefix="aurora-restore-run-"))
        (self.run_dir / "logs").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, HERE / "stack.py", "serve", "--run-dir", self.run_dir, "--bin-dir", self.bin_dir, "--port", str(self.port)]
        log_path = self.run_dir / "logs" / "stack.log"
        (self.run_dir / "stack.json").unlink(missing_ok=True)
        with open(log_path, "ab") as log:
            # A stack that belongs to us ends when our end of this pipe closes, however we end.
            self.server = subprocess.Popen(
                command + ([] if detached else ["--until-eof"]),
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while not (self.run_dir / "stack.json").exists():
            if self.server.poll() is not None or time.monotonic() > deadline:
                text = log_path.read_text().strip()
                self.stop()
                raise SystemExit(f"The local stack did not start:\n{text[-3000:]}")
            time.sleep(0.02)
        self.info = json.loads((self.run_dir / "stack.json").read_text())
        return self

    def stop(self):
        if self.server is not None:
            if self.server.stdin:
                self.server.stdin.close()
            elif self.server.poll() is None:
                self.server.terminate()
            try:
                self.server.wait(30)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
            self.server = None
        elif self.info:
            os.kill(self.info["pid"], signal.SIGTERM)
            deadline = time.monotonic() + 30
            while (self.run_dir / "stack.json").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        if self.own_directory and self.run_dir:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def request(self, method, what, order=None):
        request = urllib.request.Request(f"{self.endpoint}/_stack/{what}", method=method, data=json.dumps(order).encode() if order is not None else None)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as refused:
            raise RuntimeError(f"{method} {what}: {refused.read().decode()}") from None

    @property
    def endpoint(self):
        return self.info["endpoint"]

    @property
    def ca_file(self):
        return self.info["ca_file"]

    def client(self, service, region=TARGET_REGION):
        """A boto3 client of this stack. `app/stack` in its name keeps our own calls apart from the functions'."""
        # Making one takes longer than most calls: they are kept.
        if (service, region) not in self.clients:
            import boto3
            from botocore.config import Config

            self.clients[service, region] = boto3.client(
                service, region_name=region, endpoint_url=self.endpoint, aws_access_key_id="local", aws_secret_access_key="local",
                config=Config(user_agent_extra="app/stack", retries={"total_max_attempts": 1}),
            )  # fmt: skip
        return self.clients[service, region]

    def calls(self):
        return self.request("GET", "calls")

    def forget_calls(self):
        self.request("DELETE", "calls")

    def deeds(self):
        return self.request("GET", "deeds")

    def fault(self, **order):
        self.request("POST", "faults", order)

    def forget_faults(self):
        self.request("DELETE", "faults")

    def rds(self, **order):
        self.request("POST", "rds", order)

    def functions(self, env):
        self.request("POST", "functions", {"env": env})

    def environment(self):
        return self.request("GET", "functions")["env"]

    def kill_function(self, name):
        """Ends a function's process in the middle of whatever it does; the stack starts it again."""
        self.request("POST", "functions", {"kill": name})

    def reset(self):
        self.request("POST", "reset")

    def log(self, name):
        path = self.run_dir / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


def serve(run_dir, bin_dir, port, until_eof):
    """The server process: everything lives as long as it does."""
    run_dir = Path(run_dir)
    (run_dir / "logs").mkdir(parents=True, exist_ok=True)
    lock = open(run_dir / "lock", "w")  # noqa: SIM115 held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another stack is running in {run_dir}") from None

    from pids import Ledger

    ledger = Ledger(run_dir / "processes")
    leftovers, directories = ledger.sweep()
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    if leftovers:
        print("ended what an earlier stack left behind:", ", ".join(sorted(entry["what"] for entry in leftovers)), flush=True)

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    if until_eof:
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), stopping.set()), daemon=True).start()

    # moto logs every failed task with its whole state machine; the execution's history says the same.
    logging.getLogger("moto.stepfunctions.parser").setLevel(logging.CRITICAL)
    # The port first: moto's interpreter looks for its Lambda service at MOTO_PORT, and functions need the address.
    from werkzeug.serving import make_server

    from postgres import Plane, free_port

    os.environ["MOTO_PORT"] = str(port or free_port())
    os.environ.update(KEYS, AWS_DEFAULT_REGION=TARGET_REGION)
    endpoint = f"http://127.0.0.1:{os.environ['MOTO_PORT']}"
    plane = Plane(run_dir, ledger)
    functions = server = cloud = None
    try:
        from functions import Functions

        functions = Functions(bin_dir, run_dir, ledger, client_environment(endpoint, plane.ca_file) | {"PATH": os.environ.get("PATH", "")})
        import mysql
        import rds
        from aws import Front
        from moto.moto_server.werkzeug_app import MotoRequestHandler

        cloud = rds.Cloud(plane, mysql.Plane(plane))
        rds.install(cloud)
        front = Front(cloud, functions, plane, run_dir)
        cloud.on_event = front.on_event
        plane.tokens.cluster_at, plane.tokens.note = cloud.cluster_at, front.note_login
        quiet = type("Handler", (MotoRequestHandler,), {"log_request": lambda *_: None})
        server = make_server("127.0.0.1", int(os.environ["MOTO_PORT"]), front, threaded=True, request_handler=quiet)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        functions.wait_ready()
        fresh = run_dir / "stack.new"
        fresh.write_text(
            json.dumps({
                "pid": os.getpid(), "endpoint": endpoint, "invoke_port": functions.port,
                "ca_file": str(plane.ca_file), "run_dir": str(run_dir), "bin_dir": str(bin_dir),
            }, indent=2) + "\n"
        )  # fmt: skip
        fresh.replace(run_dir / "stack.json")
        stopping.wait()
    finally:
        if server:
            server.shutdown()
        if functions:
            functions.close()
        if cloud:
            cloud.mysql.destroy_all()
        plane.close()
        (run_dir / "stack.json").unlink(missing_ok=True)
    # moto's interpreter may still wait in a thread of its own; nothing is left to lose.
    sys.stdout.flush()
    os._exit(0)


def start(arguments):
    running = Stack.running(arguments.run_dir)
    if running:
        print(f"The local stack is running already: {running.endpoint} (run directory {running.run_dir}).")
        return
    began = time.monotonic()
    stack = Stack(arguments.run_dir, arguments.bin_dir, arguments.port).start(detached=True)
    from seed import seed

    seed(stack)
    command = f"{os.path.relpath(sys.executable)} {os.path.relpath(__file__)}"
    print(f"The local stack runs at {stack.endpoint} ({time.monotonic() - began:.1f} s). For a shell that talks to it: eval \"$({command} env)\"")


def print_environment(stack):
    environment = stack.environment()
    environment.pop("PATH", None)
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")
    # The shell's own profile would win over the keys above.
    print("unset AWS_PROFILE AWS_SESSION_TOKEN")
    print(f"# The stack's own functions: cargo lambda invoke --invoke-address 127.0.0.1 --invoke-port {stack.info['invoke_port']} preflight --data-file ...")


def main():
    parser = argparse.ArgumentParser(description="The local stack of aurora-restore.")
    parser.add_argument("command", choices=["start", "stop", "status", "env", "reset", "serve"])
    parser.add_argument("--run-dir", type=Path, default=RUN_DIR)
    parser.add_argument("--bin-dir", type=Path, default=BIN_DIR)
    parser.add_argument("--port", type=int, default=0, help="port of the AWS APIs; any free one when left out")
    parser.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.command == "serve":
        return serve(arguments.run_dir, arguments.bin_dir, arguments.port, arguments.until_eof)
    if arguments.command == "start":
        return start(arguments)
    stack = Stack.running(arguments.run_dir)
    if stack is None:
        if arguments.command == "stop":
            return print("No local stack is running.")
        raise SystemExit("No local stack is running. Start one: stack.py start")
    if arguments.command == "stop":
        stack.stop()
        print("The local stack is stopped.")
    elif arguments.command == "env":
        print_environment(stack)
    elif arguments.command == "reset":
        from seed import seed

        stack.reset()
        seed(stack)
        print("The local stack is as new.")
    else:
        state = stack.request("GET", "health")["functions"]
        print(f"endpoint   {stack.endpoint}\nlogs       {stack.run_dir}/logs\nfunctions  " + ", ".join(f"{name} {what}" for name, what in state.items()))
    return None


if __name__ == "__main__":
    main()
