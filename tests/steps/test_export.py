"""Exporting to a data endpoint: everything once and in order, whatever breaks; certificates; and beside the store."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from steps import wire
from steps.export import Export, Exported
from steps.uploads import Directory, UploadError
from tests.steps.serving import HEADER, Relay, Server, packets, records, whole
from tests.waiting import eventually

PACKETS = 20_000  # in 20 MB


def export(address: str, pod: str = "web", **options: Any) -> Export:
    return Export(address, namespace="shop", pod=pod, session="run", **options)


@pytest.fixture
def exporting() -> Iterator[Any]:
    """Make an Export that is closed in the end."""
    made: list[Export] = []

    def make(*words: Any, **options: Any) -> Export:
        made.append(export(*words, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_capture_arrives_in_order_and_once(tmp_path: Path, exporting: Any) -> None:
    with Server(tmp_path) as server:
        web = exporting(server.address)
        for part in (HEADER + records(9000), records(1), b"", records(2)):
            web.put(part)
        assert server.stop() == 0
    (folder,) = server.folders("shop_web")
    assert folder.name.partition("_")[2].startswith("run.")
    assert whole(folder) == HEADER + records(9000) + records(1) + records(2)


def test_fifty_pods_at_once_are_kept_apart(tmp_path: Path) -> None:
    def send(number: int) -> None:
        pod = Export(server.address, namespace=f"shop-{number % 2}", pod=f"web-{number // 2}", session="run")
        pod.put(HEADER)
        for part in range(20):
            pod.put(records(50, mark=b"%3d %3d " % (number, part)))
        pod.close()

    with Server(tmp_path) as server:
        with ThreadPoolExecutor(50) as pods:
            list(pods.map(send, range(50)))
        assert server.stop() == 0
    for number in range(50):
        (folder,) = server.folders(f"shop-{number % 2}_web-{number // 2}")
        sent = [records(50, mark=b"%3d %3d " % (number, part)) for part in range(20)]
        assert whole(folder) == HEADER + b"".join(sent)


def test_after_a_broken_connection_the_same_bytes_are_kept_once(tmp_path: Path, exporting: Any) -> None:
    with Server(tmp_path) as server, Relay(server.port, breaks_after=5_000_000) as relay:
        web = exporting(relay.address)
        sent = HEADER + records(PACKETS)
        with pytest.raises(UploadError, match=rf"^the data endpoint {relay.address} did not take it: UNAVAILABLE: "):
            web.put(sent)
        web.put(sent)
        web.put(records(3))
        assert server.stop() == 0
    (folder,) = server.folders("shop_web")
    assert whole(folder) == sent + records(3)


SLOWLY = """
keep = endpoint.DataEndpoint._keep
endpoint.DataEndpoint._keep = lambda *them: (time.sleep(0.05), keep(*them))[1]
"""


def test_a_server_that_is_killed_in_mid_stream_goes_on_where_it_was(tmp_path: Path, exporting: Any) -> None:
    sent = HEADER + records(PACKETS)
    with Server(tmp_path, patch=SLOWLY) as server:
        web = exporting(server.address)
        web.put(sent)
        with ThreadPoolExecutor(1) as sending:
            put = sending.submit(web.put, records(PACKETS, mark=b"more"))
            eventually("it waits for the store", lambda: spooled(server) > 25_000_000)
            server.kill()
        assert isinstance(put.exception(), UploadError)
        assert spooled(server) < 40_000_000
    with Server(tmp_path, port=server.port) as server:
        eventually("all is stored", lambda: stored(web, records(PACKETS, mark=b"more")))
        web.put(records(3))
        assert server.stop() == 0
    (folder,) = server.folders("shop_web")
    assert whole(folder) == sent + records(PACKETS, mark=b"more") + records(3)


def test_a_server_that_is_stopped_takes_what_is_on_its_way(tmp_path: Path, exporting: Any) -> None:
    with Server(tmp_path, patch=SLOWLY) as server:
        web = exporting(server.address)
        with ThreadPoolExecutor(1) as sending:
            put = sending.submit(web.put, HEADER + records(PACKETS))
            eventually("it waits for the store", lambda: spooled(server) > 5_000_000)
            assert server.stop() == 0
        put.result()
    (folder,) = server.folders("shop_web")
    assert whole(folder) == HEADER + records(PACKETS)


def spooled(server: Server) -> int:
    """All that a server has, in the store or on its way there."""
    files = [*server.spool.glob("*/*/*/*-*"), *server.store.glob("data/**/*.pcap")]
    return sum(path.stat().st_size for path in files if path.exists())


def stored(export: Export, data: bytes) -> bool:
    try:
        export.put(data)
    except UploadError:
        return False
    return True


def test_a_server_that_lost_everything_gets_a_readable_capture_again(tmp_path: Path, exporting: Any) -> None:
    with Server(tmp_path) as server:
        web, log = exporting(server.address), exporting(server.address, "log")
        web.put(HEADER + records(5) + records(1)[:500])
        log.put(b"one ")
        assert server.stop() == 0
    with Server(tmp_path, port=server.port, spool="another") as server:
        for data in (records(1)[500:] + records(3), records(2)):
            eventually("all is stored", lambda data=data: stored(web, data))
        log.put(b"two ")
        log.put(b"three")
        assert server.stop() == 0
    first, second = server.folders("shop_web")
    assert (whole(first), whole(second)) == (HEADER + records(5), HEADER + records(1) + records(3) + records(2))
    assert [(each / "000001.txt").read_bytes() for each in server.folders("shop_log")] == [b"one ", b"two three"]


def test_each_export_is_a_session_of_its_own(tmp_path: Path, exporting: Any) -> None:
    with Server(tmp_path) as server:
        for count in (4, 2):
            exporting(server.address).put(HEADER + records(count))
        assert server.stop() == 0
    assert [packets(each / "000001.pcap") for each in server.folders("shop_web")] == [4, 2]


class Plain:
    """A server that knows endpoint.proto, and nothing of metadata or of sessions."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 2**21)])
        method = grpc.stream_stream_rpc_method_handler(
            self._export, wire.PodData.FromString, wire.Response.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(wire.SERVICE, {wire.METHOD: method}),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.refuses = ""
        self._server.start()

    def _export(self, messages: Iterator[Any], context: Any) -> Iterator[Any]:
        for message in messages:
            if self.refuses:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self.refuses)
            self.received.append((message.name, message.data))
            yield wire.Response(message="thanks")

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.received)

    def stop(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def plain() -> Iterator[Plain]:
    server = Plain()
    yield server
    server.stop()


def test_a_server_that_ignores_metadata_gets_it_all(plain: Plain, exporting: Any) -> None:
    web = exporting(plain.address)
    for part in (HEADER + records(3000), records(2)):
        web.put(part)
    assert plain.data == HEADER + records(3000) + records(2)
    assert {name for name, _ in plain.received} == {"web"}
    assert max(len(data) for _, data in plain.received) == 2**20


def test_a_refusal_and_an_endpoint_that_is_not_there_are_sentences(plain: Plain, exporting: Any) -> None:
    plain.refuses = "there is\nno room"
    with pytest.raises(UploadError) as error:
        exporting(plain.address).put(b"data")
    assert (
        str(error.value) == f"the data endpoint {plain.address} did not take it: RESOURCE_EXHAUSTED: there is no room"
    )
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(
        UploadError, match=rf"^the data endpoint 127.0.0.1:{port} did not take it: UNAVAILABLE: .*refused"
    ):
        exporting(f"127.0.0.1:{port}").put(b"data")


class Store(Directory):
    """A directory that counts, and that can fail."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.keys: list[str] = []
        self.fails = False

    def put(self, key: str, data: bytes) -> None:
        if self.fails:
            raise UploadError(f"{key}: the object store answered 503")
        self.keys.append(key)
        super().put(key, data)


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[Any]:
    """Make an Exported for an address that is closed in the end."""
    made: list[Exported] = []

    def make(store: Store, address: str, **options: Any) -> Exported:
        made.append(Exported(store, tmp_path / "waiting", partial(export, address, **options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def after(seconds: float) -> Callable[[], bool]:
    """Tell whether it is that much later."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def test_a_captures_files_are_one_stream(tmp_path: Path, plain: Plain, exported: Any) -> None:
    store = Store(tmp_path)
    both = exported(store, plain.address)
    both.put("run/eth0/capture.json", b"{}")
    for number in (1, 2, 3):
        both.put(f"run/eth0/{number:06d}.pcap", HEADER + records(number))
    both.put("run/eth0/capture.json", b"{ }")
    assert both.missing(after(10)) == ""
    assert not list((tmp_path / "waiting").iterdir())
    assert plain.data == HEADER + records(1) + records(2) + records(3)
    assert len(store.keys) == 5
    assert (tmp_path / "run/eth0/000003.pcap").read_bytes() == HEADER + records(3)


@pytest.mark.parametrize("name", ["000001.txt", "iperf3.json"])
def test_other_output_is_exported_as_it_is(tmp_path: Path, plain: Plain, exported: Any, name: str) -> None:
    exported(Store(tmp_path), plain.address).put(f"run/ping/{name}", b"output")
    eventually("it came", lambda: plain.data == b"output")


def test_what_an_endpoint_refuses_is_stored_at_once_and_offered_again_in_order(
    tmp_path: Path, plain: Plain, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.export.PAUSE", 0.05)
    store = Store(tmp_path)
    both = exported(store, plain.address)
    store.fails, plain.refuses = True, "full"
    with pytest.raises(UploadError, match=r"^a/000001.pcap: the object store answered 503$"):
        both.put("a/000001.pcap", HEADER + records(1))
    store.fails = False
    for number in (1, 2, 3, 4):
        both.put(f"a/{number:06d}.pcap", HEADER + records(number))
    assert store.keys == [f"a/{number:06d}.pcap" for number in (1, 2, 3, 4)]
    assert both.missing(after(1)) == (
        f"4 of 4 files did not reach the data endpoint: the data endpoint {plain.address} did not take it: "
        "RESOURCE_EXHAUSTED: full"
    )
    assert plain.data == b""
    plain.refuses = ""
    assert both.missing(after(10)) == ""
    assert plain.data == HEADER + records(1) + records(2) + records(3) + records(4)
    assert len(store.keys) == 4


def test_an_endpoint_that_never_answers_holds_up_neither_the_store_nor_the_end(tmp_path: Path, exported: Any) -> None:
    store, begun = Store(tmp_path), time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        both = exported(store, f"127.0.0.1:{silent.getsockname()[1]}")
        for number in (1, 2, 3):
            both.put(f"a/{number:06d}.txt", b"text")
        assert store.keys == [f"a/{number:06d}.txt" for number in (1, 2, 3)]
        missing = both.missing(after(0.5))
        assert missing == "3 of 3 files did not reach the data endpoint: it gave no answer in time"
        both.close()
    assert time.monotonic() - begun < 5


def test_certificates_that_come_late_are_used(tmp_path: Path, ours: Path, exported: Any) -> None:
    with Server(tmp_path, "--tls-dir", str(ours / "server")) as server:
        both = exported(Store(tmp_path), f"tls://{server.address}", tls_directory=tmp_path / "late")
        both.put("a/000001.txt", b"text")
        assert both.missing(after(0.5)).endswith("late/ca.crt: cannot be read: No such file or directory")
        (ours / "client").rename(tmp_path / "late")
        assert both.missing(after(10)) == ""
        assert server.stop() == 0


def test_what_cannot_wait_is_said(tmp_path: Path, exported: Any) -> None:
    store = Store(tmp_path)
    both = exported(store, "127.0.0.1:1")
    (tmp_path / "waiting").rmdir()
    for number in (1, 2):
        both.put(f"a/{number:06d}.txt", b"text")
    assert len(store.keys) == 2
    assert both.missing(after(1)) == (
        "2 of 2 files did not reach the data endpoint: "
        "what it has not taken yet could not be kept: No such file or directory"
    )


@pytest.mark.parametrize("what", ["eth0:1", "net1@if5", "a..b", "eth0."])
def test_an_interface_that_is_no_name_for_an_endpoint(tmp_path: Path, what: str) -> None:
    with Server(tmp_path) as server:
        run = Export(server.address, namespace="shop", pod=f"web_{what}", session=f"run_{what}")
        run.put(b"data")
        run.close()
        assert server.stop() == 0
    (stored,) = server.store.rglob("*.txt")
    assert stored.read_bytes() == b"data"


def authority(directory: Path, name: str) -> None:
    """Make a CA of this name, and certificates of it: `server` for 127.0.0.1, and `client`."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", f"/CN={name}")
    for end in ("server", "client"):
        (directory / end).mkdir()
        request = (*key, "-keyout", f"{end}/tls.key", "-subj", f"/CN={end}", "-addext", "subjectAltName=IP:127.0.0.1")
        openssl("req", "-x509", *request, "-CA", "ca.crt", "-CAkey", "ca.key", "-out", f"{end}/tls.crt")
        (directory / end / "ca.crt").write_bytes((directory / "ca.crt").read_bytes())


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Certificates of one CA, and in `other` of another."""
    for name in ("ours", "ours/other"):
        (tmp_path / name).mkdir()
        authority(tmp_path / name, Path(name).name)
    return tmp_path / "ours"


def test_with_certificates_both_ends_are_known(tmp_path: Path, ours: Path, exporting: Any) -> None:
    with Server(tmp_path, "--tls-dir", str(ours / "server")) as server:
        exporting(f"tls://{server.address}", tls_directory=ours / "client").put(HEADER + records(2))
        stranger = tmp_path / "stranger"  # trusts the server, which does not trust its certificate
        stranger.mkdir()
        (stranger / "ca.crt").write_bytes((ours / "ca.crt").read_bytes())
        for name in ("tls.key", "tls.crt"):
            (stranger / name).write_bytes((ours / "other/client" / name).read_bytes())
        for refused in (
            exporting(server.address, "without-tls"),
            exporting(f"tls://{server.address}", "stranger", tls_directory=stranger),
            exporting(f"tls://{server.address}", "other-ca", tls_directory=ours / "other/client"),
        ):
            with pytest.raises(UploadError, match="did not take it: UNAVAILABLE"):
                refused.put(b"data")
        without = grpc.ssl_channel_credentials((ours / "ca.crt").read_bytes())
        with grpc.secure_channel(server.address, without) as channel, pytest.raises(grpc.RpcError):
            list(channel.stream_stream(f"/{wire.SERVICE}/{wire.METHOD}")(iter([b""]), timeout=5))
        for name in ("ca.crt", "tls.key", "tls.crt"):  # renewed, as Kubernetes does it below the running server
            (ours / "server" / name).write_bytes((ours / "other/server" / name).read_bytes())
        exporting(f"tls://{server.address}", "renewed", tls_directory=ours / "other/client").put(b"data")
        assert server.stop() == 0
    stored = sorted(path.name for path in (server.store / "data/snoopy-operator/snoopy-data-svc").iterdir())
    assert stored == ["shop_renewed", "shop_web"]


def test_certificates_that_cannot_be_read_are_a_sentence(tmp_path: Path, ours: Path) -> None:
    (ours / "server/tls.key").unlink()
    (ours / "client/tls.key").write_bytes((ours / "other/client/tls.key").read_bytes())
    with pytest.raises(
        UploadError, match=r"client: ca.crt, tls.crt and tls.key must .* together: KEY_VALUES_MISMATCH$"
    ):
        export("tls://127.0.0.1:1", tls_directory=ours / "client")
    (ours / "client/tls.crt").write_text("not PEM")
    with pytest.raises(UploadError, match=r"client: ca.crt, tls.crt and tls.key must be PEM"):
        export("tls://127.0.0.1:1", tls_directory=ours / "client")
    with Server(tmp_path, "--tls-dir", str(ours / "server")) as server:
        assert server.process.wait(10) == 2
    assert server.log == f"endpoint: {ours}/server/tls.key: cannot be read: No such file or directory\n"


def test_exporting_needs_no_more_than_a_capture_pod_has() -> None:
    script = "import sys, steps.export; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"kubernetes", "hera", "minio", "prometheus_client", "numpy", "yaml"} & set(loaded)
