"""This machine: where the cluster's state lives, and how commands run on it."""

import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("SNOOPY_CLUSTER_HOME", "/var/lib/snoopy-cluster"))
BIN, IMAGES, STATE = HOME / "bin", HOME / "images", HOME / "state"
LOGS, KUBECONFIG = STATE / "logs", HOME / "kubeconfig"

GATEWAY = "172.30.0.1"
NODES = {"node-1": 11, "node-2": 12}  # name: the last number of its address, and the third of its pods'


def run(*command: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command that must succeed.

    Raises:
        subprocess.CalledProcessError: it did not.

    """
    return subprocess.run([str(part) for part in command], check=True, text=True, **options)


def answer(*command: str | Path) -> str | None:
    """Give a command's standard output; None if it failed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def kubectl(*arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run our own kubectl on our own cluster, its chatter left out.

    Raises:
        subprocess.CalledProcessError: it failed.

    """
    quiet = {} if options.get("capture_output") else {"stdout": subprocess.DEVNULL}
    return run(BIN / "kubectl", f"--kubeconfig={KUBECONFIG}", *arguments, **(quiet | options))


def ask(*arguments: str) -> str:
    """Ask the cluster with kubectl; an empty text if it does not answer."""
    return answer(BIN / "kubectl", f"--kubeconfig={KUBECONFIG}", *arguments) or ""


def say(*words: object) -> None:
    """Tell the person at the terminal, at once."""
    print(*words, flush=True)  # noqa: T201 - what a program of the command line is for
