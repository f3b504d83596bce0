"""The Lambda service of the local stack: cargo-lambda's runtime API and one process per function.

The programs are prebuilt, by cargo (`cargo build --workspace`) or by sam (`make package`); cargo-lambda only passes invocations
on. A function that exits is started again, as Lambda does, and the front learns of it so that the caller gets Lambda's own error.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pids
from postgres import free_port

STEPS = [
    "preflight", "copy-snapshot", "check-copy", "delete-cluster", "restore-cluster",
    "check-restore", "setup-db-users", "verify-restore", "archive-snapshot", "notify",
]  # fmt: skip
# Those that only a swap goes through.
OF_A_SWAP = ["swap-cluster", "retire-cluster"]
# And the one that ends waits.
FUNCTIONS = [*STEPS, *OF_A_SWAP, "wake"]
# A function that cannot stay up is started ever more slowly, up to this pause.
SLOWEST_RESTART_SECONDS = 2.0


def program(bin_dir, step):
    """cargo puts it there under its name, sam into a folder named after the template's function."""
    if (bin_dir / "template.yaml").exists():
        return bin_dir / ("".join(word.capitalize() for word in step.split("-")) + "Function") / "bootstrap"
    return bin_dir / step


def missing_programs(bin_dir):
    return [name for name in FUNCTIONS if not os.access(program(bin_dir, name), os.X_OK)]


class Functions:
    def __init__(self, bin_dir, run_dir, ledger, base_environment):
        self.bin_dir, self.run_dir, self.ledger = Path(bin_dir), Path(run_dir), ledger
        self.base, self.extra = base_environment, {}
        self.names = set(FUNCTIONS)
        self.lock = threading.RLock()
        self.processes, self.exit_counts, self.exit_texts, self.pauses, self.due = {}, {}, {}, {}, {}
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.service = self._start_service()
        self.closing = threading.Event()
        threading.Thread(target=self._watch, name="functions", daemon=True).start()

    def _start_service(self):
        """cargo-lambda insists on a Cargo manifest that knows the functions. One of its own, so that neither a workspace that
        is being edited nor a running build can hold the stack up."""
        stub = self.run_dir / "functions"
        stub.mkdir(exist_ok=True)
        toolchain = Path(__file__).resolve().parents[2] / "rust-toolchain.toml"
        if toolchain.exists():
            # The run directory may be outside the checkout, where rustup may have no toolchain to offer.
            shutil.copy(toolchain, stub)
        (stub / "main.rs").write_text("fn main() {}\n")
        bins = "".join(f'[[bin]]\nname = "{step}"\npath = "main.rs"\n' for step in FUNCTIONS)
        (stub / "Cargo.toml").write_text(f'[package]\nname = "local-functions"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n{bins}')
        command = Path(sys.executable).parent / "cargo-lambda"
        with open(self.run_dir / "logs" / "cargo-lambda.log", "ab") as log:
            process = subprocess.Popen(
                [command, "lambda", "watch", "-A", "127.0.0.1", "-P", str(self.port), "--only-lambda-apis", "--ignore-changes"],
                cwd=stub, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.ledger.add(process.pid, "cargo-lambda", signal.SIGKILL)
        return process

    def wait_ready(self, patience_seconds=20):
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline and self.service.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        log = (self.run_dir / "logs" / "cargo-lambda.log").read_text()[-2000:]
        raise RuntimeError(f"cargo-lambda did not start:\n{log}")

    def environment(self):
        """What every function sees. Made from nothing: the user's AWS profile must not leak into the stack."""
        return {**self.base, **self.extra}

    def start(self, extra):
        """(Re)starts all functions with this environment besides the stack's own: like a deployment, nothing is cached."""
        with self.lock:
            self.stop()
            self.extra = extra
            for name in FUNCTIONS:
                self._start(name)

    def _start(self, name):
        environment = {
            **self.environment(),
            "AWS_LAMBDA_RUNTIME_API": f"{self.endpoint}/.rt/{name}",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            # Both tell the front who calls.
            "AWS_SDK_UA_APP_ID": name,
            "AWS_ACCESS_KEY_ID": f"local.{name}",
        }
        with open(self.run_dir / "logs" / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [program(self.bin_dir, name)], cwd=self.run_dir, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.ledger.add(process.pid, name)
        self.processes[name] = process

    def stop(self):
        """Ends all functions, without counting it as their failure."""
        with self.lock:
            processes, self.processes = self.processes, {}
            self.due.clear()
            self.pauses.clear()
            for process in processes.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for name, process in processes.items():
                pids.end(process, patience_seconds=2)
                self.ledger.remove(process.pid)
                self.exit_counts[name] = self.exits(name) + 1
                self.exit_texts[name] = "stopped by the stack"

    def forget_logs(self):
        """Only while the functions are stopped: they append."""
        for name in FUNCTIONS:
            (self.run_dir / "logs" / f"{name}.log").unlink(missing_ok=True)

    def kill(self, name):
        with self.lock:
            if name in self.processes:
                self.processes[name].kill()

    def exits(self, name):
        return self.exit_counts.get(name, 0)

    def last_exit(self, name):
        return self.exit_texts.get(name, "")

    def state(self):
        with self.lock:
            return {name: ("running" if name in self.processes and self.processes[name].poll() is None else "stopped") for name in FUNCTIONS}

    def _watch(self):
        while not self.closing.wait(0.05):
            with self.lock:
                for name, process in list(self.processes.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del self.processes[name]
                    self.ledger.remove(process.pid)
                    self.exit_texts[name] = f"exit status: {code}" if code >= 0 else f"signal: {-code}"
                    self.exit_counts[name] = self.exits(name) + 1
                    self.pauses[name] = min(SLOWEST_RESTART_SECONDS, 2 * self.pauses.get(name, 0.025))
                    self.due[name] = time.monotonic() + self.pauses[name]
                for name, when in list(self.due.items()):
                    if time.monotonic() >= when:
                        del self.due[name]
                        self._start(name)

    def close(self):
        self.closing.set()
        self.stop()
        pids.end(self.service, signal.SIGINT, 1)
        self.ledger.remove(self.service.pid)
