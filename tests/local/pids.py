"""A ledger of the processes that a stack started, so that a later start can clean up after a killed one.

A process id alone proves nothing: the system reuses ids. Each entry therefore holds the time at which the process
started too, and only a process that still has both is ended. Nothing is ever ended by name.
"""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path


def started(pid):
    """When the process started, as an opaque string; None if there is no such process (or only its corpse)."""
    try:
        # The command in parentheses may hold spaces: count fields after the last parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    listing = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip() or None


def end(process, signal_number=signal.SIGTERM, patience_seconds=5.0):
    """Ends a child of ours and reaps it; by force when it does not listen."""
    if process.poll() is None:
        process.send_signal(signal_number)
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Ledger:
    """One JSON object a line: what a process is, its id, when it started and the signal that ends it."""

    def __init__(self, path):
        self.path = Path(path)
        self.lock = threading.Lock()

    def _read(self):
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines() if line]

    def _write(self, entries):
        # Replaced as a whole: a reader after a crash sees the old ledger or the new one, never half of one.
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        fresh.replace(self.path)

    def add(self, pid, what, signal_number=signal.SIGTERM, directory=None):
        entry = {"pid": pid, "what": what, "started": started(pid), "signal": int(signal_number), "directory": directory}
        with self.lock:
            self._write(self._read() + [entry])

    def remove(self, pid):
        with self.lock:
            self._write([entry for entry in self._read() if entry["pid"] != pid])

    def sweep(self):
        """Ends what is left of an earlier stack. Returns what was ended and the directories it leaves behind."""
        with self.lock:
            entries = self._read()
            ended = []
            for entry in entries:
                if entry["started"] and started(entry["pid"]) == entry["started"]:
                    os.kill(entry["pid"], entry["signal"])
                    ended.append(entry)
            deadline = time.monotonic() + 5
            for entry in ended:
                while started(entry["pid"]) == entry["started"] and time.monotonic() < deadline:
                    time.sleep(0.02)
                if started(entry["pid"]) == entry["started"]:
                    os.kill(entry["pid"], signal.SIGKILL)
            self._write([])
        return ended, sorted({entry["directory"] for entry in entries if entry["directory"]})
