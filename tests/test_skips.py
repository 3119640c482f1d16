"""Tests that are skipped say why; where a cluster is required, they fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cluster/test_installation.py"]


@pytest.mark.parametrize(("required", "code", "outcome"), [("", 0, "1 skipped"), ("1", 1, "1 error")])
def test_without_a_cluster(required: str, code: int, outcome: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run(
        [*COMMAND, "-k", "test_nothing_is_left"],
        cwd=Path(__file__).parents[1],
        env={**environment, "SNOOPY_REQUIRE_CLUSTER": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, outcome in done.stdout) == (code, True), done.stdout
    assert not required or "KUBECONFIG names no cluster" in done.stdout
