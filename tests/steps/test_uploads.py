"""Uploading: the form that S3 wants, patience with a store that fails, and sentences without credentials."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from urllib3.util import Retry

from steps.uploads import Directory, PresignedPost, UploadError

SIGNED = {"policy": "c2VjcmV0", "x-amz-signature": "deadbeef"}


class Store(HTTPServer):
    """An object store that gives prepared answers and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.received: list[bytes] = []

    def upload(self, retries: int = 3) -> PresignedPost:
        policy = {"url": f"http://127.0.0.1:{self.server_port}/bucket", "fields": SIGNED}
        forcelist = (503,)
        return PresignedPost(
            json.dumps(policy), Retry(total=retries, status_forcelist=forcelist, allowed_methods=None, backoff_factor=0)
        )


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_POST(self) -> None:
        self.server.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        status, body = self.server.answers.pop(0) if self.server.answers else (204, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_form_has_the_policy_the_key_and_last_the_file(store: Store) -> None:
    store.upload().put("pcaps/ns/run/web/000001.pcap", b"\x00\xffpcap")
    (form,) = store.received
    places = [form.index(part) for part in (b'name="policy"', b'name="key"', b'name="file"; filename="000001.pcap"')]
    assert places == sorted(places)
    assert b"pcaps/ns/run/web/000001.pcap" in form
    assert form.rstrip(b"-\r\n").rpartition(b"\r\n")[0].endswith(b"\x00\xffpcap")


def test_a_store_that_is_busy_is_asked_again(store: Store) -> None:
    store.answers = [(503, b""), (503, b"")]
    store.upload().put("key", b"data")
    assert len(store.received) == 3


def test_a_refusal_is_a_sentence_with_the_stores_code(store: Store) -> None:
    store.answers = [(403, b"<Error><Code>AccessDenied</Code><Message>deadbeef</Message></Error>")]
    with pytest.raises(UploadError) as error:
        store.upload().put("elsewhere", b"data")
    assert str(error.value) == "elsewhere: the object store answered 403: AccessDenied"


def test_a_store_that_stays_busy(store: Store) -> None:
    store.answers = [(503, b"")] * 9
    with pytest.raises(UploadError, match=r"^key: the object store cannot be reached: "):
        store.upload(retries=2).put("key", b"data")


def test_a_store_that_is_not_there_is_a_sentence_without_the_policy() -> None:
    policy = json.dumps({"url": "http://127.0.0.1:1/bucket", "fields": SIGNED})
    with pytest.raises(UploadError) as error:
        PresignedPost(policy, Retry(0)).put("key", b"data")
    assert str(error.value) == "key: the object store cannot be reached: NewConnectionError"


def test_a_directory_never_shows_half_an_object(tmp_path: Path) -> None:
    store = Directory(tmp_path)
    store.put("a/b/capture.json", b"old")
    store.put("a/b/capture.json", b"new")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["capture.json"]
    assert (tmp_path / "a/b/capture.json").read_bytes() == b"new"


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UploadError, match=r"cannot be written: (Not a directory|File exists)"):
        Directory(tmp_path / "file").put("a/b", b"")
