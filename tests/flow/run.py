"""All whole-flow tests in two halves side by side, each with a stack of its own: most of their time is waiting.

    .local/venv/bin/python tests/flow/run.py [more options for pytest]

Plain pytest on this directory runs the same tests one after the other.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# About as long as each other.
HALVES = [
    ["test_failures.py", "test_happy.py", "test_by_hand.py", "test_together.py"],
    ["test_bad_input.py", "test_variants.py", "test_refusals.py", "test_secrecy.py"],
]


def main():
    named, present = sorted(sum(HALVES, [])), sorted(path.name for path in HERE.glob("test_*.py"))
    if named != present:
        raise SystemExit(f"{Path(__file__).name} names {named}, but the directory holds {present}")
    runs = []
    for half in HALVES:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:], *(HERE / name for name in half)]
        runs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for run in runs:
        print(run.communicate()[0], end="", flush=True)
    sys.exit(max(run.returncode for run in runs))


if __name__ == "__main__":
    main()
