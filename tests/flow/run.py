"""All whole-flow tests, and the local stack's own, a few files side by side, each with a stack of its own: most of their
time is waiting.

    .local/venv/bin/python tests/flow/run.py [more options for pytest]

Plain pytest on the two directories runs the same tests one after the other.
"""

import concurrent.futures
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIDE_BY_SIDE = 4
# The longest first, so that none of them is left over at the end; files not named here come after.
LONGEST = ["test_failures.py", "test_killed.py", "test_bad_input.py", "test_variants.py", "test_happy.py"]


def files():
    found = [*HERE.glob("test_*.py"), *(HERE.parent / "local").glob("test_*.py")]
    return sorted(found, key=lambda path: (LONGEST.index(path.name) if path.name in LONGEST else len(LONGEST), path.name))


def run(path):
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:], path]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f"{path.parent.name}/{path.name} ({time.monotonic() - began:.0f} s)\n{done.stdout}", end="", flush=True)
    # pytest's 5 is "no test was run", which is no success either.
    return done.returncode


def main():
    with concurrent.futures.ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
        codes = list(pool.map(run, files()))
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
