"""Tests marked `slow` are left to `make test-all` (CONTRIBUTING.md names them): --slow runs them too, --only-slow them alone."""


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="tests that are marked slow too")
    parser.addoption("--only-slow", action="store_true", help="the tests that are marked slow alone")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left to make test-all")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    only = config.getoption("--only-slow")
    left_out = [item for item in items if (item.get_closest_marker("slow") is not None) != only]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
