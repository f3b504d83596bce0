"""The stack's own tests."""


def pytest_configure(config):
    config.addinivalue_line("markers", "seed(**options): how the scene of this test differs from the usual one (seed.py)")
