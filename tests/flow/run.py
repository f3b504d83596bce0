"""All whole-flow tests, and the local stack's own, a few files side by side, each with a stack of its own: most of their
time is waiting.

    .local/venv/bin/python tests/flow/run.py [more options for pytest]

Plain pytest on the two directories runs the same tests one after the other. Only here is what all of them together did
(tests/local/deeds.py) compared with tests/golden/calls.json, on which the test of the functions' rights rests
(tests/infra/test_rights.py). UPDATE_GOLDEN=1 writes that file.
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden" / "calls.json"
SIDE_BY_SIDE = 4
# The longest first, so that none of them is left over at the end; files not named here come after.
LONGEST = ["test_swap.py", "test_failures.py", "test_killed.py", "test_masking.py", "test_bad_input.py", "test_variants.py", "test_mysql.py", "test_happy.py"]


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


def gathered(folder):
    """What all stacks noted: {deployment: {function: {action: [[resource, conditions], ...]}}}."""
    notes = {json.dumps(note, sort_keys=True) for path in folder.glob("*.json") for note in json.loads(path.read_text())}
    deeds = {}
    for deployment, who, action, resource, conditions in map(json.loads, sorted(notes)):
        deeds.setdefault(deployment, {}).setdefault(who, {}).setdefault(action, []).append([resource, conditions])
    return deeds


def as_text(thing, depth=0):
    """JSON with a line for each deed, so that a diff reads well."""
    inner = "  " * (depth + 1)
    if isinstance(thing, dict) and depth < 3:
        return "{\n" + ",\n".join(f"{inner}{json.dumps(key)}: {as_text(value, depth + 1)}" for key, value in thing.items()) + "\n" + "  " * depth + "}"
    return "[\n" + ",\n".join(inner + json.dumps(one) for one in thing) + "\n" + "  " * depth + "]"


def flat(deeds):
    return {
        (deployment, who, action, json.dumps(one, sort_keys=True))
        for deployment, functions in deeds.items() for who, actions in functions.items() for action, objects in actions.items() for one in objects
    }  # fmt: skip


def compare(deeds):
    """Both ways: a call that is new needs a look at its right, one that is gone has a right too many."""
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(as_text(deeds) + "\n")
        return 0
    known, seen = flat(json.loads(GOLDEN.read_text())), flat(deeds)
    for sign, deed in [("+", deed) for deed in sorted(seen - known)] + [("-", deed) for deed in sorted(known - seen)]:
        print(f"{sign} {' '.join(deed)}")
    if known != seen:
        print(f"What the functions did is not what {GOLDEN.name} says (+ new, - gone). If it is meant: UPDATE_GOLDEN=1, then tests/infra says which right to change.")
    return int(known != seen)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = os.environ.setdefault("AURORA_RESTORE_DEEDS", folder)
        with concurrent.futures.ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as pool:
            code = max(pool.map(run, files()))
        # Some of the tests, or failed ones, do not do everything.
        if code == 0 and not sys.argv[1:]:
            code = compare(gathered(Path(folder)))
    sys.exit(code)


if __name__ == "__main__":
    main()
