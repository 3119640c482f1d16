"""podtracer's outputs: patience with a store or an endpoint that comes back, and one sentence where it does not."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from steps import outputs
from steps.campaign_input import InvalidInputError
from steps.export import Export
from steps.outputs import OutputError
from tests.steps.serving import Server
from tests.store import Store


@pytest.mark.parametrize(
    ("host", "port", "where"),
    [
        (None, None, ""),
        ("data", None, "data:51001"),
        ("data.ns.svc", 1, "data.ns.svc:1"),
        ("10.0.0.7", 80, "10.0.0.7:80"),
        ("fd00::7", None, "[fd00::7]:51001"),
        ("[fd00::7]", 9, "[fd00::7]:9"),
        ("tls://data", 9, "tls://data:9"),
        ("tls://fd00::7", 9, "tls://[fd00::7]:9"),
    ],
)
def test_where_a_data_endpoint_is(host: str | None, port: int | None, where: str) -> None:
    assert outputs.destination(host, port) == where


@pytest.mark.parametrize("host", ["a b", "tls://", "http://data", "data/x", "a:1", "10.0.0.7:80"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^destination: .*: a host's name or address is needed"):
        outputs.destination(host, None)


def test_a_store_that_comes_back_gets_everything(tmp_path: Path, store: Store) -> None:
    store.answers = [(403, b"")] * 2
    to = outputs.to_store("a/b", store.policy, tmp_path / "spool", threading.Event(), pcap=False)
    to.write(b"text")
    assert store.objects == {}
    to.close()
    assert store.objects == {"a/b/000001.txt": b"text"}


def test_a_store_that_stays_away_is_given_up_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.outputs.PATIENCE", 2)
    monkeypatch.setattr("steps.outputs.PIECE", 4)
    store.answers = [(403, b"")] * 1000
    to = outputs.to_store("a/b/", store.policy, tmp_path / "spool", threading.Event(), pcap=False)
    with pytest.raises(OutputError, match=r"^a/b/000001.txt: the object store answered 403: no reason given$"):
        to.write(b"texts")
    asked = len(store.received)
    to.close()
    assert len(store.received) == asked


@pytest.mark.parametrize("policy", [None, "", "{}", "[]", '{"url": 1}', "secret"])
def test_a_policy_that_is_none_is_not_shown(tmp_path: Path, policy: str | None) -> None:
    with pytest.raises(InvalidInputError) as error:
        outputs.to_store("a/b", policy, tmp_path / "spool", threading.Event(), pcap=False)
    assert str(error.value) == "upload: 'a/b': $SNOOPY_UPLOAD holds no presigned policy"


def test_what_is_no_pcap_is_said(tmp_path: Path, store: Store) -> None:
    to = outputs.to_store("a/b", store.policy, tmp_path / "spool", threading.Event(), pcap=True)
    with pytest.raises(OutputError, match=r"^the object store's pieces could not be made: the stream begins with"):
        to.write(b"IP 10.0.0.1 > 10.0.0.2: ICMP echo request")


def test_an_endpoint_that_comes_back_gets_everything_once(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        to = outputs.to_endpoint(server.address, "shop", "web", threading.Event())
        to.write(b"before\n")
        server.kill()
        with_it = threading.Thread(target=to.write, args=(b"after\n",))
        with_it.start()
        time.sleep(0.5)
        with Server(tmp_path, port=server.port) as again:
            with_it.join(20)
            assert not with_it.is_alive()
            to.close()
            assert again.stop() == 0
            texts = [path.read_text() for folder in again.folders("shop_web") for path in sorted(folder.glob("*.txt"))]
    assert "".join(texts) == "before\nafter\n"


def test_an_endpoint_that_is_not_there_is_noticed_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.outputs.REACHED", 0.2)
    with pytest.raises(OutputError, match=r"^the data endpoint 127.0.0.1:1 cannot be reached: Connection refused$"):
        outputs.to_endpoint("127.0.0.1:1", "shop", "web", threading.Event())


def test_an_endpoint_that_goes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.outputs.PATIENCE", 1)
    monkeypatch.setattr(Export, "check", lambda *_: None)  # it was there
    to = outputs.to_endpoint("127.0.0.1:1", "shop", "web", threading.Event())
    with pytest.raises(OutputError, match=r"^the data endpoint 127.0.0.1:1 did not take it: UNAVAILABLE"):
        to.write(b"text")
    to.write(b"")
    to.close()


def test_a_file_and_what_writes_nothing(tmp_path: Path) -> None:
    to: Any = outputs.to_file(tmp_path / "out", threading.Event())
    for data in (b"a", b"", b"b" * 200_000):
        to.write(data)
    assert (tmp_path / "out").read_bytes() == b"a" + b"b" * 200_000
    to.close()


def test_a_reader_may_take_its_time_until_the_tool_is_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.outputs.READER", 0.5)
    monkeypatch.setattr("steps.outputs.TICK", 0.1)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    ending, failed = threading.Event(), list[OutputError]()
    to = outputs.to_file(tmp_path / "pipe", ending)

    def write() -> None:
        try:
            to.write(b"a" * 300_000)
        except OutputError as error:
            failed.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    writing.join(1)
    assert len(os.read(reader, 65_536)) == 65_536
    writing.join(1)
    assert writing.is_alive()
    ending.set()
    writing.join(3)
    assert [str(error) for error in failed] == [f"{tmp_path / 'pipe'}: nobody reads it"]
    to.close()
    os.close(reader)
