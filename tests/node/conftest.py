"""Two hosts in network namespaces of their own, on one link: what a capture sees is real."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import eventually


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/node/" in item.nodeid or "/node/" in str(item.path):
            item.add_marker(pytest.mark.node)
            if os.geteuid():
                item.add_marker(pytest.mark.skip(reason="network namespaces need root"))


@dataclass(frozen=True)
class Host:
    """A network namespace with one address on eth0."""

    name: str
    address: str

    def run(self, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command], text=True, check=True, capture_output=True, **options
        )

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], stdout=subprocess.DEVNULL)

    def serve(self, port: int, *command: str) -> subprocess.Popen[bytes]:
        """Start a server, and wait until it listens."""
        process = self.start(*command)
        self.listens(port)
        return process

    def listens(self, port: int) -> None:
        """Wait until somebody listens on a TCP port."""
        eventually(f"port {port} is served", lambda: self.run("ss", "-Hltn", f"sport = :{port}").stdout)


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script in a program's place."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def put(program: str, script: str) -> None:
        (programs / program).write_text(f"#!/bin/sh\n{script}\n")
        (programs / program).chmod(0o755)

    return put


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """A client, 10.77.0.1, and a server, 10.77.0.2."""
    here = os.getpid()
    client, server = Host(f"client-{here}", "10.77.0.1"), Host(f"server-{here}", "10.77.0.2")
    for host in (client, server):
        subprocess.run(["ip", "netns", "add", host.name], check=True)
    try:
        client.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", server.name)
        for host in (client, server):
            host.run("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
            host.run("ip", "link", "set", "lo", "up")
        yield client, server
    finally:
        for host in (client, server):
            subprocess.run(["ip", "netns", "del", host.name], check=True)
