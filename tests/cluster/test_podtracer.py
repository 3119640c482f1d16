"""podtracer by a pod's name: the API gives its UID; where the pod's node is this machine, it is captured."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PODTRACER = [sys.executable, "-m", "steps.podtracer", "run", "tcpdump"]


def test_a_pod_of_this_node(shop: Any, tmp_path: Path) -> None:
    target = ("--pod", "web", "-n", shop.namespace, "-f", str(tmp_path / "web.pcap"), "-t", "30s")
    command = [*PODTRACER, "-a", "-i eth0 -c 6 -w - tcp port 8080", *target]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr
        said = tracer.stderr.readline()
        if "has no process on this node" in said:
            pytest.skip(f"the nodes are other machines: {said}")
        assert "listening on eth0" in said
        shop.talk({f"{shop.addresses()['web']}:8080": 2})
        tracer.stderr.read()
    assert tracer.returncode == 0
    read = ["tcpdump", "-nr", tmp_path / "web.pcap", "host", shop.addresses()["web"]]
    assert len(subprocess.run(read, capture_output=True, text=True, check=True).stdout.splitlines()) == 6


def test_a_pod_that_does_not_exist(shop: Any) -> None:
    command = [*PODTRACER, "--pod", "gone", "-n", shop.namespace]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == f"podtracer: pod {shop.namespace}/gone does not exist: it is gone, or its name is wrong\n"
