"""Three small hosts on this machine, a campaign on all of them at once, and its report: what `make demo` runs.

A client fetches pages from `web`, asks `web` for names, one of which does not exist, and knocks at `closed`, where
nobody listens. Needs root. Everything lives in network namespaces that are gone afterwards.

    python examples/demo.py reports/demo
"""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

HOSTS = {"client": "10.78.0.1", "web": "10.78.0.2", "closed": "10.78.0.3"}
HTTP, DNS = 8080, 53
NETNS = Path("/run/netns")
#: How long a host may take to answer, in seconds: a busy machine is not what the demo is about.
PATIENCE = 10


def ip(*words: str) -> None:
    """Run iproute2's ip."""
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """Make the hosts, each a network namespace with an eth0, on one switch."""
    names = ["demo-switch", *(f"demo-{host}" for host in HOSTS)]
    for name in set(names) & {each.name for each in NETNS.glob("demo-*")}:
        ip("netns", "del", name)  # of a demo that was killed
    for name in names:
        ip("netns", "add", name)
    try:
        ip("-n", "demo-switch", "link", "add", "switch", "type", "bridge")
        ip("-n", "demo-switch", "link", "set", "switch", "up")
        for host, address in HOSTS.items():
            inside = ("-n", f"demo-{host}")
            peer = ("peer", "name", "eth0", "netns", f"demo-{host}")
            ip("-n", "demo-switch", "link", "add", host, "type", "veth", *peer)
            ip("-n", "demo-switch", "link", "set", host, "master", "switch", "up")
            ip(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
        yield
    finally:
        for name in names:
            ip("netns", "del", name)


def inside(host: str, *command: str) -> list[str]:
    """Give the command line that runs a command on a host."""
    return ["ip", "netns", "exec", f"demo-{host}", *command]


def fetch() -> bool:
    """Fetch a page from `web`; say whether it came."""
    with urllib.request.urlopen(f"http://{HOSTS['web']}:{HTTP}/", timeout=PATIENCE) as page:
        return bool(page.status == HTTPStatus.OK)


def ask(name: str, number: int = 0) -> None:
    """Ask `web` for a host's address, and wait for the answer (RFC 1035)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as questioner:
        questioner.settimeout(PATIENCE)
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question = labels + b"\0\0\1\0\1"
        questioner.connect((HOSTS["web"], DNS))
        questioner.send(bytes([0, number, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + question)
        questioner.recv(512)


def ready() -> None:
    """Wait until `web` serves, so that nothing of its start is in the captures."""
    deadline = time.monotonic() + 2 * PATIENCE
    for answers in (fetch, lambda: ask("web.demo")):
        while True:
            try:
                answers()
                break
            except OSError:  # refused: it does not listen yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def client() -> None:
    """Make the client's traffic, and print what became of it as the client saw it."""
    fetched = refused = 0
    for attempt in range(60):
        time.sleep(0.03)
        fetched += fetch()
        if attempt % 4 == 0:
            try:
                socket.create_connection((HOSTS["closed"], HTTP), timeout=PATIENCE)
            except ConnectionRefusedError:
                refused += 1
    for number, name in enumerate(("web.demo", "closed.demo", "nobody.demo")):
        ask(name, number)
    print(f"the client fetched {fetched} pages from web and was refused {refused} times by closed")


def dns() -> None:
    """Answer questions about the demo's hosts (RFC 1035): an address, or NXDOMAIN."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", DNS))
        while True:
            query, asker = server.recvfrom(512)
            address = HOSTS.get(query[13 : 13 + query[12]].decode())
            flags, answers = (b"\x81\x80", b"\0\1") if address else (b"\x81\x83", b"\0\0")
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4" + socket.inet_aton(address) if address else b""
            server.sendto(query[:2] + flags + b"\0\1" + answers + b"\0\0\0\0" + query[12:] + record, asker)


def main(out: Path) -> int:
    """Run the campaign while the client is busy; give the command's exit code."""
    with hosts(), contextlib.ExitStack() as running:
        for command in ([sys.executable, "-m", "http.server", str(HTTP)], [sys.executable, __file__, "dns"]):
            server = running.enter_context(
                subprocess.Popen(inside("web", *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            running.callback(server.kill)
        subprocess.run(inside("client", sys.executable, __file__, "ready"), check=True)
        snoopy = [sys.executable, "-m", "workflows.cli", "run", "--local", "--name", "demo", "--duration", "8s"]
        campaign = subprocess.Popen([*snoopy, "--out", str(out), *(f"netns:demo-{host}" for host in HOSTS)])
        while len(list(out.rglob("capture.json"))) < len(HOSTS) and campaign.poll() is None:
            time.sleep(0.1)  # until every capture listens
        if campaign.poll() is not None:
            return campaign.returncode
        subprocess.run(inside("client", sys.executable, __file__, "client"), check=True)
        return campaign.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ready"]:
            ready()
        case ["client"]:
            client()
        case ["dns"]:
            dns()
        case [directory]:
            sys.exit(main(Path(directory)))
        case _:
            sys.exit(__doc__)
