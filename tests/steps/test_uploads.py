"""Uploading: the form that S3 wants, patience with a store that fails, and sentences without credentials."""

import json
from pathlib import Path

import pytest

from steps.uploads import Directory, PresignedPost, UploadError
from tests.store import SIGNED, Store


def test_the_form_has_the_policy_the_key_and_last_the_file(store: Store) -> None:
    PresignedPost(store.policy).put("pcaps/ns/run/web/000001.pcap", b"\x00\xffpcap")
    (form,) = store.received
    places = [form.index(part) for part in (b'name="policy"', b'name="key"', b'name="file"; filename="000001.pcap"')]
    assert places == sorted(places)
    assert b"pcaps/ns/run/web/000001.pcap" in form
    assert form.rstrip(b"-\r\n").rpartition(b"\r\n")[0].endswith(b"\x00\xffpcap")


def test_a_store_that_is_busy_is_asked_again(store: Store) -> None:
    store.answers = [(503, b""), (503, b"")]
    PresignedPost(store.policy).put("key", b"data")
    assert len(store.received) == 3


def test_a_refusal_is_a_sentence_with_the_stores_code(store: Store) -> None:
    store.answers = [(403, b"<Error><Code>AccessDenied</Code><Message>deadbeef</Message></Error>")]
    with pytest.raises(UploadError) as error:
        PresignedPost(store.policy).put("elsewhere", b"data")
    assert str(error.value) == "elsewhere: the object store answered 403: AccessDenied"


def test_a_store_that_stays_busy(store: Store) -> None:
    store.answers = [(503, b"<Error><Code>SlowDown</Code></Error>")] * 9
    with pytest.raises(UploadError, match=r"^key: the object store answered 503: SlowDown$"):
        PresignedPost(store.policy).put("key", b"data")


def test_a_store_that_is_not_there_is_a_sentence_without_the_policy() -> None:
    policy = json.dumps({"url": "http://127.0.0.1:1/bucket", "fields": SIGNED})
    with pytest.raises(UploadError) as error:
        PresignedPost(policy).put("key", b"data")
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
