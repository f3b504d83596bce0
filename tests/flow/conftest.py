"""Whole restores on the local stack: one stack for the session, a fresh scene for every test.

    @pytest.mark.seed(unencrypted=True)        options of seed.seed() for this test
    def test_something(world):
        run = world.run({"snapshot_id": "latest"})

A module whose tests look at one run from several sides lays out its scene itself, with `scene(**options)`.
"""

import functools
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "local"))

from functions import FUNCTIONS  # noqa: E402
from seed import seed  # noqa: E402
from stack import Stack  # noqa: E402
from world import World  # noqa: E402

pytest.register_assert_rewrite("checks")


def pytest_configure(config):
    config.addinivalue_line("markers", "seed(**options): how the scene of this test differs from the usual one (tests/local/seed.py)")


@pytest.fixture(scope="session")
def stack():
    fresh = Stack()
    try:
        fresh.start()
    except SystemExit as missing:  # binaries, PostgreSQL: say so once instead of failing every test
        pytest.exit(str(missing), returncode=3)
    yield fresh
    note_deeds(fresh)
    fresh.stop()


def note_deeds(stack):
    """For run.py, which compares what all files together did with tests/golden/calls.json."""
    if "AURORA_RESTORE_DEEDS" in os.environ:
        (Path(os.environ["AURORA_RESTORE_DEEDS"]) / f"{os.getpid()}.json").write_text(json.dumps(stack.deeds()))


def lay_out(stack, **options):
    stack.reset()
    seeded = seed(stack, **options)
    # Shorter than the wait before the next look, so that the number of looks is always the same.
    stack.rds(pace={"master_password": 0.3})
    return World(stack, seeded)


@pytest.fixture(scope="session")
def scene(stack):
    """Lays out a scene. It lasts until the next one is laid out."""
    return functools.partial(lay_out, stack)


@pytest.fixture
def world(scene, request):
    marker = request.node.get_closest_marker("seed")
    return scene(**(marker.kwargs if marker else {}))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the functions logged, below the traceback of a test that failed."""
    report = yield
    if report.when == "call" and report.failed and "stack" in item.funcargs:
        stack = item.funcargs["stack"]
        for step in FUNCTIONS:
            lines = stack.log(step).splitlines()[-15:]
            if lines:
                report.sections.append((f"log of {step}", "\n".join(lines)))
    return report
