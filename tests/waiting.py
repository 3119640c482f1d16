"""Waiting in tests: for what is to happen, and not for a time in which it mostly has."""

import time
from collections.abc import Callable
from typing import Any


def eventually(what: str, test: Callable[[], Any], seconds: float = 90) -> Any:
    """Give what the test gives, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < deadline, f"{what}: not after {seconds:g} s"
        time.sleep(0.05)
    return found
