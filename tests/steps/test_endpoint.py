"""The data endpoint as others reach it: a client made from endpoint.proto alone, real processes, broken on purpose."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steps import endpoint, outbox, wire
from steps.session import Session
from steps.uploads import Directory
from tests.steps.serving import HEADER, Relay, Server, packets, records, tcpdump, whole
from tests.waiting import eventually

PROTO = Path(wire.__file__).with_name("endpoint.proto")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    """The messages and the stub that protoc makes of endpoint.proto."""
    out = tmp_path_factory.mktemp("generated")
    words = [f"-I{PROTO.parent}", f"--python_out={out}", f"--grpc_python_out={out}", str(PROTO)]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *words], check=True)
    sys.path.insert(0, str(out))
    yield importlib.import_module("endpoint_pb2"), importlib.import_module("endpoint_pb2_grpc")
    sys.path.remove(str(out))


@pytest.fixture
def old_client(generated: Any) -> Iterator[Callable[..., Callable[[bytes], list[str]]]]:
    """The old podtracer: a stream per write on one connection, no metadata, and only the pod's name."""
    messages, stubs = generated
    channels = []

    def connect(address: str, pod: str = "web") -> Callable[[bytes], list[str]]:
        channels.append(grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]))
        stub = stubs.DataEndpointStub(channels[-1])

        def write(data: bytes) -> list[str]:
            answers = stub.ExportPodData(iter([messages.PodData(name=pod, data=data)]), timeout=20)
            return [answer.message for answer in answers]

        return write

    yield connect
    for channel in channels:
        channel.close()


def written(stream: bytes, size: int = 4096) -> Iterator[bytes]:
    """What a tool's writes are: blocks, whatever is in them."""
    for begin in range(0, len(stream), size):
        yield stream[begin : begin + size]


def code(error: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    return str(error.value.code().name)


def test_the_contract_is_what_both_ends_speak(generated: Any) -> None:
    messages, _ = generated
    for ours, name in ((wire.PodData, "PodData"), (wire.Response, "Response")):
        theirs = getattr(messages, name).DESCRIPTOR
        described = [
            [(field.name, field.number, field.type) for field in each.fields] for each in (ours.DESCRIPTOR, theirs)
        ]
        assert described[0] == described[1]
    (method,) = messages.DESCRIPTOR.services_by_name["DataEndpoint"].methods
    assert f"{method.containing_service.full_name}/{method.name}" == f"{wire.SERVICE}/{wire.METHOD}"
    assert (method.client_streaming, method.server_streaming) == (True, True)


def test_equal_names_at_several_old_clients_do_not_mix(tmp_path: Path, old_client: Any) -> None:
    streams = [tcpdump(HEADER + records(100, mark=mark), "-U") for mark in (b"a", b"b", b"c")]
    with Server(tmp_path) as server, Relay(server.port) as relay, Relay(server.port) as second:
        clients = [old_client(address) for address in (server.address, relay.address, second.address)]
        for blocks in zip(*(written(stream) for stream in streams), strict=True):
            for write, block in zip(clients, blocks, strict=True):
                assert write(block)[-1].endswith("bytes are held")
        assert server.stop() == 0
    folders = server.folders("~127.0.0.1_web") + server.folders("~127.0.0.2_web")
    assert [whole(folder) for folder in folders] == streams


def test_a_new_capture_of_an_old_client_is_another_folder(tmp_path: Path, old_client: Any) -> None:
    with Server(tmp_path) as server:
        write = old_client(server.address)
        for count in (3, 5):
            for block in written(HEADER + records(count)):
                write(block)
        server.stop()
    first, second = server.folders("~127.0.0.1_web")
    assert (packets(first / "000001.pcap"), packets(second / "000001.pcap")) == (3, 5)
    assert "ended with 3072 bytes" in server.log


def test_a_packet_that_holds_a_pcap_begins_nothing(tmp_path: Path, old_client: Any) -> None:
    stream = HEADER + records(2, 240, mark=HEADER)
    with Server(tmp_path) as server:
        write = old_client(server.address)
        for block in (stream[: 24 + 16 + 48], stream[24 + 16 + 48 :]):
            write(block)
        assert server.stop() == 0
    (folder,) = server.folders("~127.0.0.1_web")
    assert (folder / "000001.pcap").read_bytes() == stream


def test_text_is_kept_as_it_came(tmp_path: Path, old_client: Any) -> None:
    with Server(tmp_path) as server:
        write = old_client(server.address)
        assert write(b"64 bytes from") == ["13 bytes are held"]
        assert write(b" 10.0.0.7: icmp_seq=1\n") == ["35 bytes are held"]
        server.stop()
    (folder,) = server.folders("~127.0.0.1_web")
    assert (folder / "000001.txt").read_bytes() == b"64 bytes from 10.0.0.7: icmp_seq=1\n"


def test_a_pcap_that_is_damaged_is_kept_from_there_on_as_it_came(tmp_path: Path, old_client: Any) -> None:
    damage = b"\xff" * 500
    with Server(tmp_path) as server:
        write = old_client(server.address)
        write(HEADER + records(3))
        (answer,) = write(records(2) + damage)
        assert "5604 bytes are held; a record of 4294967295 bytes is longer than any" in answer
        write(b"more")
        server.stop()
    (folder,) = server.folders("~127.0.0.1_web")
    assert packets(folder / "000001.pcap") == 5
    assert (folder / "000002.bin").read_bytes() == damage + b"more"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(st.data())
def test_however_a_session_is_cut_and_killed_its_chunks_are_what_came(tmp_path: Path, data: st.DataObject) -> None:
    folder = Path(tmp_path, os.urandom(4).hex())
    lengths = data.draw(st.lists(st.integers(0, 400), max_size=12))
    stream = data.draw(st.sampled_from([HEADER, b"text"])) + b"".join(records(1, length) for length in lengths)
    stream += data.draw(st.sampled_from([b"", b"\xff" * 40]))
    closed: list[Path] = []
    session, came = Session(folder, closed.append), 0
    for action in data.draw(st.lists(st.sampled_from(["cut", "kill", "append"]), max_size=30)):
        if action == "append":
            size = data.draw(st.integers(0, 600)) if came < len(stream) else 0
            session.append(stream[came : came + size])
            came += len(stream[came : came + size])
        elif action == "cut":
            session.cut()
        else:
            stored = [path.read_bytes() for path in closed]
            session, closed = Session(folder, (after := list[Path]()).append), after
            assert [path.read_bytes() for path in closed] == stored
        assert session.held == came
    files = sorted(folder.iterdir())
    pcaps = [path.read_bytes() for path in files if path.suffix == ".pcap"]
    others = [path.read_bytes() for path in files if path.suffix != ".pcap"]
    assert all(pcap.startswith(HEADER) for pcap in pcaps)
    assert HEADER * bool(pcaps) + b"".join(p.removeprefix(HEADER) for p in pcaps) + b"".join(others) == stream[:came]


def test_a_server_that_is_killed_between_two_chunks_keeps_each_byte_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    session = Session(tmp_path, lambda _: None)
    session.append(HEADER + records(2) + records(1)[:100])
    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", killed)
        with pytest.raises(KeyboardInterrupt):
            session.cut()
    (tmp_path / "000003-9.part").write_bytes(HEADER)  # or while it wrote a chunk
    closed: list[Path] = []
    session = Session(tmp_path, closed.append)
    session.append(records(1)[100:])
    session.cut()
    assert [path.read_bytes() for path in closed] == [HEADER + records(2), HEADER + records(1)]


@pytest.mark.parametrize(
    ("because", "idle", "patch"),
    [
        ("it is large", "1h", "session.SIZE, session.AGE = 50_000, 1000"),
        ("it is old", "1h", "session.AGE = 1"),
        ("its session is silent", "1s", "session.AGE = 1000"),
    ],
)
def test_a_chunk_is_stored_while_the_stream_goes_on(
    tmp_path: Path, old_client: Any, because: str, idle: str, patch: str
) -> None:
    with Server(tmp_path, "--idle", idle, patch=patch) as server:
        write = old_client(server.address)
        write(HEADER + records(60))
        (folder,) = eventually(because, lambda: server.folders("~127.0.0.1_web"))
        eventually("the chunk is stored", (folder / "000001.pcap").exists)
        if because == "its session is silent":
            eventually("its end", lambda: "ended with 60984 bytes" in server.log)
        else:
            assert "ended" not in server.log
        write(records(2) + records(1)[:500])  # and it goes on where it was
        write(records(1)[500:])
        assert server.stop() == 0
    assert whole(folder) == HEADER + records(60) + records(2) + records(1)


def test_a_stream_has_its_limit(tmp_path: Path, old_client: Any, generated: Any) -> None:
    messages, stubs = generated
    with Server(tmp_path, "--stream-limit", "1MiB") as server:
        write = old_client(server.address)
        with grpc.insecure_channel(server.address) as channel:
            parts = [messages.PodData(name="web", data=HEADER + records(600))] * 2
            with pytest.raises(
                grpc.RpcError, match="a stream may bring 1048576 bytes; the 609624 that came first"
            ) as e:
                list(stubs.DataEndpointStub(channel).ExportPodData(iter(parts), timeout=20))
        assert code(e) == "RESOURCE_EXHAUSTED"
        with pytest.raises(grpc.RpcError, match="larger than max") as error:
            write(bytes(2 * 2**20 + 1))
        assert code(error) == "RESOURCE_EXHAUSTED"
        assert server.stop() == 0
    (folder,) = server.folders("~127.0.0.1_web")
    assert packets(folder / "000001.pcap") == 600


def is_taken(write: Callable[[bytes], list[str]]) -> bool:
    try:
        return bool(write(b"data"))
    except grpc.RpcError:
        return False


def test_streams_at_a_time_have_a_limit(tmp_path: Path, generated: Any, old_client: Any) -> None:
    messages, stubs = generated
    over = threading.Event()

    def slowly() -> Iterator[Any]:
        yield messages.PodData(name="web", data=b"data")
        over.wait()

    with Server(tmp_path, patch="endpoint.STREAMS = 1") as server, grpc.insecure_channel(server.address) as channel:
        answers = stubs.DataEndpointStub(channel).ExportPodData(slowly())
        next(answers)
        with pytest.raises(grpc.RpcError) as error:
            old_client(server.address)(b"data")
        assert code(error) == "RESOURCE_EXHAUSTED"
        over.set()
        list(answers)
        eventually("it takes more", lambda: is_taken(old_client(server.address)))


def test_a_stream_that_is_silent_leaves_its_place_to_others(tmp_path: Path, generated: Any, old_client: Any) -> None:
    messages, stubs = generated
    over = threading.Event()

    def silently() -> Iterator[Any]:
        yield messages.PodData(name="web", data=b"data")
        over.wait()

    patch = "from steps import streams; endpoint.STREAMS, streams.SILENCE = 1, 3"
    with Server(tmp_path, patch=patch) as server, grpc.insecure_channel(server.address) as channel:
        answers = stubs.DataEndpointStub(channel).ExportPodData(silently(), timeout=20)
        next(answers)
        assert not is_taken(old_client(server.address))
        with pytest.raises(grpc.RpcError, match=r"the stream was silent for 3 seconds: begin another") as error:
            next(answers)
        assert code(error) == "ABORTED"
        over.set()
        assert is_taken(old_client(server.address))
        assert server.stop() == 0


def test_the_largest_messages_of_as_many_streams_as_there_may_be_fit_in_memory(tmp_path: Path, generated: Any) -> None:
    messages, stubs = generated
    data = bytes(endpoint.MESSAGE - 100)
    slow = "keep = endpoint.DataEndpoint._keep\n"
    slow += "endpoint.DataEndpoint._keep = lambda *them: (time.sleep(0.02), keep(*them))[1]"
    with Server(tmp_path, patch=slow) as server, grpc.insecure_channel(server.address) as channel:
        before, stub = server.memory(), stubs.DataEndpointStub(channel)
        messages_at_once = [iter([messages.PodData(name=f"web-{n}", data=data)]) for n in range(endpoint.STREAMS)]
        streams = [stub.ExportPodData(each, timeout=60) for each in messages_at_once]
        for stream in streams:
            list(stream)
        assert server.memory() - before < 512 * 2**20


def test_a_spool_that_cannot_be_written_is_said_and_what_was_held_still_is(tmp_path: Path, old_client: Any) -> None:
    patch = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))"
    with Server(tmp_path, patch=patch) as server:
        write = old_client(server.address)
        write(HEADER + records(20))
        with pytest.raises(grpc.RpcError, match="the spool cannot be written: File too large") as error:
            write(records(20))
        assert code(error) == "UNAVAILABLE"
        assert write(records(3)) == [f"{24 + 23 * 1016} bytes are held"]
        assert server.stop() == 0
    (folder,) = server.folders("~127.0.0.1_web")
    assert whole(folder) == HEADER + records(20) + records(3)


@pytest.mark.parametrize(("sessions", "memory", "forgotten"), [(2, 1000, 1), (1000, 2, 3)])
def test_sessions_are_forgotten_but_not_what_they_held(
    tmp_path: Path, old_client: Any, sessions: int, memory: int, forgotten: int
) -> None:
    patch = f"received.SESSIONS, received.MEMORY = {sessions}, {memory}"
    with Server(tmp_path, "--idle", "1h", patch=patch) as server:
        for number in range(3):
            old_client(server.address, f"web-{number}")(HEADER + records(number))
        left = 3 - forgotten
        eventually("the most silent are forgotten", lambda: len(list(server.spool.glob("*/*/*"))) == left)
        for number in range(forgotten):
            (folder,) = server.folders(f"~127.0.0.1_web-{number}")
            assert packets(folder / "000001.pcap") == number
        assert server.stop() == 0
    folders = [folder for number in range(3) for folder in server.folders(f"~127.0.0.1_web-{number}")]
    assert [packets(folder / "000001.pcap") for folder in folders] == [0, 1, 2]


def test_nobody_writes_into_the_session_of_a_client_that_says_no_names(tmp_path: Path, generated: Any) -> None:
    messages, stubs = generated
    with Server(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub, data = stubs.DataEndpointStub(channel), messages.PodData(name="web", data=b"mine ")
        list(stub.ExportPodData(iter([data]), timeout=20))
        (folder,) = server.spool.glob("*/web/*")
        claimed = [
            (wire.NAMESPACE, folder.parent.parent.name.lstrip("~")),
            (wire.SESSION, folder.name.partition("_")[2]),
            (wire.OFFSET, "0"),
        ]
        data.data = b"stolen and more"
        list(stub.ExportPodData(iter([data]), metadata=claimed, timeout=20))
        with pytest.raises(grpc.RpcError, match=r"namespace: '~127\.0\.0\.1': at most"):
            list(stub.ExportPodData(iter([data]), metadata=[(wire.NAMESPACE, "~127.0.0.1"), *claimed[1:]], timeout=20))
        assert server.stop() == 0
    assert (server.folders("~127.0.0.1_web")[0] / "000001.txt").read_bytes() == b"mine "


@pytest.mark.parametrize("pod", ["", "..", "../x", "a/b", "a..b", "-a", ".a", "a\n", "a\0b", "ä", "a" * 254, "a b"])
def test_a_name_that_could_leave_its_prefix_is_refused(old_client: Any, server: Server, pod: str) -> None:
    with pytest.raises(grpc.RpcError, match=r"pod: .*: at most 253 letters") as error:
        old_client(server.address, pod)(b"data")
    assert code(error) == "INVALID_ARGUMENT"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that lives on: for what it refuses."""
    with Server(tmp_path_factory.mktemp("endpoint")) as server:
        yield server
        assert list(server.spool.glob("**/*")) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({wire.NAMESPACE: "../up"}, "namespace: '../up': at most"),
        ({wire.NAMESPACE: "a_b"}, "namespace: 'a_b': at most"),
        ({wire.NAMESPACE: "a" * 64}, "namespace: "),
        ({wire.SESSION: "a/b"}, "session: 'a/b': at most"),
        ({wire.SESSION: None}, "session: '': at most"),
        ({wire.OFFSET: "-1"}, "snoopy-offset: '-1': a number of bytes is needed"),
        ({wire.OFFSET: "9" * 19}, "a number of bytes is needed"),
        ({wire.OFFSET: None}, "snoopy-offset: '': a number of bytes is needed"),
    ],
)
def test_metadata_is_checked(server: Server, generated: Any, changed: dict[str, str | None], sentence: str) -> None:
    messages, stubs = generated
    metadata = {wire.NAMESPACE: "shop", wire.SESSION: "run", wire.OFFSET: "0", **changed}
    said = [(name, value) for name, value in metadata.items() if value is not None]
    data = messages.PodData(name="web", data=b"data")
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError, match=sentence) as error:
        list(stubs.DataEndpointStub(channel).ExportPodData(iter([data]), metadata=said, timeout=20))
    assert code(error) == "INVALID_ARGUMENT"


def test_a_store_that_hangs_stops_the_sender_and_memory_stays_bounded(
    tmp_path: Path, generated: Any, old_client: Any
) -> None:
    messages, stubs = generated
    with Server(tmp_path, "--spool-limit", "24MiB", patch="store.put = lambda *_: threading.Event().wait()") as server:
        old_client(server.address)(HEADER)
        before, sent = server.memory(), 0
        block = records(1000)

        def requests() -> Iterator[Any]:
            nonlocal sent
            for number in range(100):
                yield messages.PodData(name=f"web-{number % 8}", data=HEADER + block)
                sent += len(block)

        def send() -> None:
            with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as error:
                list(stubs.DataEndpointStub(channel).ExportPodData(requests(), timeout=4))
            assert code(error) == "DEADLINE_EXCEEDED"

        senders = [threading.Thread(target=send) for _ in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert 20 * 2**20 < sent < 45 * 2**20
        assert sum(path.stat().st_size for path in server.spool.glob("**/*.*-*")) < 30 * 2**20
        assert server.memory() - before < 60 * 2**20
        assert b"snoopy_endpoint_spooled_bytes" in metrics(server)


def metrics(server: Server) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics") as answer:
        return bytes(answer.read())


def test_what_the_store_refuses_is_offered_again(tmp_path: Path, old_client: Any) -> None:
    patch = """
outbox.PAUSE, session.AGE, put, failures = 0.1, 0.5, store.put, iter(range(3))
def unwilling(key, data):
    if next(failures, None) is not None:
        raise UploadError("the object store answered 503: SlowDown")
    put(key, data)
store.put = unwilling
"""
    with Server(tmp_path, patch=patch) as server:
        old_client(server.address)(HEADER + records(4))
        (folder,) = eventually("it is begun", lambda: server.folders("~127.0.0.1_web"))
        assert packets(folder / "000001.pcap") == 4
        assert server.log.count("answered 503: SlowDown; it is kept, and offered again") == 1
        assert b"snoopy_endpoint_upload_failures_total 3.0" in metrics(server)
        assert b"snoopy_endpoint_messages_total 1.0" in metrics(server)
        assert b"snoopy_endpoint_received_bytes_total 4088.0" in metrics(server)
        assert b"snoopy_endpoint_sessions_open 1.0" in metrics(server)
        assert b"snoopy_endpoint_spooled_bytes 24.0" in metrics(server)  # the next chunk's header


def test_a_file_that_cannot_be_read_or_removed_is_tried_again_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PAUSE", 0.05)
    waiting = outbox.Outbox(Directory(tmp_path / "store"), lambda path: path.name)
    paths = [tmp_path / f"{number}.txt" for number in range(6)]
    for path in paths:
        path.mkdir()  # which can be neither read nor unlinked
        waiting.add(path)
    eventually("it says why", lambda: "Is a directory" in caplog.text)
    (tmp_path / "good.txt").write_text("good")
    waiting.add(tmp_path / "good.txt")
    eventually("it is stored", (tmp_path / "store/good.txt").exists)
    for number, path in enumerate(paths):
        path.rmdir()
        if number:
            path.write_text(path.name)
    assert waiting.drain(5) == 0
    assert "0.txt is gone, and cannot be stored" in caplog.text
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        *(f"{n}.txt" for n in range(1, 6)),
        "good.txt",
    ]


def test_what_could_not_be_stored_in_time_is_stored_by_the_next_server(tmp_path: Path, old_client: Any) -> None:
    hangs = "store.put = lambda *_: threading.Event().wait(); endpoint.STREAMS_GRACE, endpoint.GRACE = 0.5, 1"
    with Server(tmp_path, patch=hangs) as server:
        old_client(server.address)(HEADER + records(4) + records(1)[:500])
        assert server.stop() == 1
    assert f"endpoint: 1 files could not be stored in time, and are in {server.spool}" in server.log
    with Server(tmp_path) as server:
        (folder,) = eventually("it is begun", lambda: server.folders("~127.0.0.1_web"))
        eventually("a chunk is closed", (folder / "000001.pcap").exists)
        assert server.stop() == 0
    assert packets(folder / "000001.pcap") == 4


def test_what_a_killed_server_held_is_stored_by_the_next_one(tmp_path: Path, old_client: Any) -> None:
    with Server(tmp_path) as server:
        old_client(server.address)(HEADER + records(4) + records(1)[:500])
        server.kill()
    assert not server.store.exists()
    with Server(tmp_path) as server:
        (folder,) = eventually("it is begun", lambda: server.folders("~127.0.0.1_web"))
        eventually("a chunk is closed", (folder / "000001.pcap").exists)
    assert packets(folder / "000001.pcap") == 4


def test_a_port_in_use_and_an_environment_without_a_store_are_sentences(tmp_path: Path, server: Server) -> None:
    with Server(tmp_path, port=server.port) as second:
        assert second.process.wait(10) == 1
    assert second.log.splitlines()[-1] == f"endpoint: port: {server.port}: it is in use, or may not be listened on"
    assert "Traceback" not in second.log
    words = [sys.executable, "-m", "steps.endpoint", "--prefix", "data/"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (
        1,
        "endpoint: SNOOPY_ARTIFACT_REPOSITORY is not set: the object store is not configured\n",
    )


class Bucket(ThreadingHTTPServer):
    """As much of S3 as small objects need."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.server.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_command_stores_in_the_bucket_that_the_cluster_names(tmp_path: Path, old_client: Any) -> None:
    with Bucket() as bucket:
        threading.Thread(target=bucket.serve_forever, args=(0.01,)).start()
        repository = {"s3": {"endpoint": f"127.0.0.1:{bucket.server_port}", "bucket": "captures", "insecure": True}}
        environment = {
            **os.environ,
            "SNOOPY_ARTIFACT_REPOSITORY": json.dumps(repository),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        words = ["--prefix", "data/ns/svc/", "--spool", str(tmp_path), "--port", "0", "--metrics-port", "0"]
        with subprocess.Popen(
            [sys.executable, "-m", "steps.endpoint", *words], env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            port = next(line for line in process.stdout if line.startswith("listening")).split()[-1]
            old_client(f"127.0.0.1:{port}")(HEADER + records(2))
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        bucket.shutdown()
    ((key, content),) = bucket.objects.items()
    assert key.startswith("/captures/data/ns/svc/~127.0.0.1_web/")
    assert key.endswith("/000001.pcap")
    assert content == HEADER + records(2)
