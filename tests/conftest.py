"""What every test has: an object store, and under SNOOPY_REQUIRE_CLUSTER a failure for each test that was skipped.

So `make cluster-test` is not green for having run nothing.
"""

import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.store import Store, serving

settings.register_profile("busy machines", deadline=None)
settings.load_profile("busy machines")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("SNOOPY_REQUIRE_CLUSTER"):
        report.outcome = "failed"
        report.longrepr = f"SNOOPY_REQUIRE_CLUSTER is set, and this test was skipped: {report.longrepr}"
    return report


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as server:
        yield server
