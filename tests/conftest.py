"""What every test has: an object store, and under SNOOPY_REQUIRE_CLUSTER a failure for each test that was skipped.

So `make cluster-test` is not green for having run nothing.
"""

import os
from collections.abc import Generator, Iterator
from signal import SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGQUIT, default_int_handler, getsignal, signal

import pytest
from hypothesis import settings

from tests.store import Store, serving

# A shell's background job ignores these, and so would the programs under test.
for number, handler in ((SIGHUP, SIG_DFL), (SIGINT, default_int_handler), (SIGQUIT, SIG_DFL)):
    if getsignal(number) is SIG_IGN:
        signal(number, handler)

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
