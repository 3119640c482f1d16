"""A data endpoint as a process of its own, what stands between it and its clients, and what captures send."""

import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.waiting import eventually

#: The command, on a directory as the object store; `PATCH` changes what would take a test too long.
RUN = """
import sys, threading, time
from pathlib import Path
from steps import endpoint, outbox, received, session
from steps.uploads import Directory, UploadError
store = Directory(Path(sys.argv.pop(1)))
endpoint.repository_from_environment = lambda: None
endpoint.Bucket = lambda _: store
exec(sys.argv.pop(1))
endpoint.main()
"""
PREFIX = "data/snoopy-operator/snoopy-data-svc"


class Server:
    """`python -m steps.endpoint`; a second one on the same directory finds the first one's spool and store."""

    def __init__(self, directory: Path, *words: str, port: int = 0, patch: str = "", spool: str = "spool") -> None:
        self.store, self.spool = directory / "store", directory / spool
        self._log = directory / f"log-{time.monotonic_ns()}"
        options = ["--prefix", PREFIX, "--spool", str(self.spool), "--port", str(port), "--metrics-port", "0", *words]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, self.store, patch, *options], stdout=log, stderr=subprocess.STDOUT
            )
        eventually("it listens", lambda: self.process.poll() is not None or "listening on port" in self.log)
        self.port = self._number("listening on port ")
        self.metrics = self._number("metrics on port ")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> int:
        """End it as Kubernetes does; give its exit code."""
        self.process.terminate()
        return self.process.wait(35)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def folders(self, owner: str) -> list[Path]:
        """The sessions of a pod, NAMESPACE_POD, the oldest first."""
        return sorted((self.store / PREFIX / owner).glob("*"))

    def memory(self) -> int:
        """The most that it held in memory so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def _number(self, after: str) -> int:
        return int(self.log.partition(after)[2].split()[0]) if after in self.log else 0


class Relay:
    """A way to a port that has another address for its end: 127.0.0.2 to the server. It can break after some bytes."""

    def __init__(self, port: int, source: str = "127.0.0.2", breaks_after: int | None = None) -> None:
        self.breaks_after = breaks_after
        self._to, self._source = ("127.0.0.1", port), source
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._to, source_address=(self._source, 0))
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
                passed += len(data)
                if self.breaks_after is not None and passed > self.breaks_after:
                    self.breaks_after = None
                    break
        for each in (source, to):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def records(count: int, length: int = 1000, mark: bytes = b"x") -> bytes:
    """Packets without meaning, each with `mark` in it."""
    packet = mark * (length // len(mark))
    return b"".join(
        struct.pack("<IIII", 1_700_000_000 + number, 0, len(packet), len(packet)) + packet for number in range(count)
    )


def tcpdump(stream: bytes, *options: str) -> bytes:
    """What tcpdump writes of a pcap."""
    return subprocess.run(
        ["tcpdump", "-r", "-", "-w", "-", *options], input=stream, capture_output=True, check=True
    ).stdout


def packets(file: Path) -> int:
    """Let tcpdump count; it fails when the file is damaged."""
    done = subprocess.run(["tcpdump", "-r", file, "--count"], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def whole(folder: Path) -> bytes:
    """A capture again, from its chunks: each is read by tcpdump, too."""
    chunks = sorted(folder.glob("*.pcap"))
    assert [chunk.name for chunk in chunks] == [f"{number:06d}.pcap" for number in range(1, len(chunks) + 1)]
    for chunk in chunks:
        packets(chunk)
    return HEADER + b"".join(chunk.read_bytes().removeprefix(HEADER) for chunk in chunks)
