"""Whole restores on the local stack: one stack for the session, a fresh scene for every test.

    @pytest.mark.seed(unencrypted=True)        options of seed.seed() for this test
    def test_something(world):
        run = world.run({"snapshot_id": "latest"})
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "local"))

from functions import STEPS  # noqa: E402
from seed import seed  # noqa: E402
from stack import Stack  # noqa: E402
from world import World  # noqa: E402


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
    fresh.stop()


@pytest.fixture
def world(stack, request):
    stack.reset()
    marker = request.node.get_closest_marker("seed")
    return World(stack, seed(stack, **(marker.kwargs if marker else {})))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the functions logged, below the traceback of a test that failed."""
    report = yield
    if report.when == "call" and report.failed and "world" in item.funcargs:
        stack = item.funcargs["world"].stack
        for step in STEPS:
            lines = stack.log(step).splitlines()[-15:]
            if lines:
                report.sections.append((f"log of {step}", "\n".join(lines)))
    return report
