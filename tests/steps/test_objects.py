"""The object store's settings and its client: what cannot work is one sentence, and holds no key."""

import pytest

from steps.objects import Bucket, ObjectStoreError, Repository, repository
from tests.store import Store


@pytest.mark.parametrize(
    ("endpoint", "bucket", "sentence"),
    [
        ("http://minio:9000", "snoopy", "endpoint: 'http://minio:9000', bucket: 'snoopy': path in endpoint"),
        ("minio:port", "snoopy", "endpoint: 'minio:port', .*invalid port"),
        ("minio:9000", "no bucket", "bucket: 'no bucket': invalid bucket name"),
        ("minio:9000", "12", "bucket: '12': invalid bucket name"),
    ],
)
def test_an_artifact_repository_that_cannot_be_used(endpoint: str, bucket: str, sentence: str) -> None:
    found = repository(f"s3: {{endpoint: '{endpoint}', bucket: {bucket}}}", "key", "not-a-secret")
    with pytest.raises(ObjectStoreError, match=sentence) as refusal:
        Bucket(found)
    assert "not-a-secret" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "s3: {}", "s3: {bucket: b}", "- a", "s3: [", "gcs: {bucket: b}"])
def test_an_artifact_repository_that_is_none(text: str) -> None:
    with pytest.raises(ObjectStoreError, match="the artifact repository is not"):
        repository(text, "key", "not-a-secret")


def test_a_store_that_is_not_there_is_said_in_the_systems_words() -> None:
    where = Repository("127.0.0.1:9", "snoopy", "key", "not-a-secret", insecure=True)
    for ask in (lambda bucket: bucket.keys(""), lambda bucket: bucket.remove("key")):
        with pytest.raises(ObjectStoreError, match=r"127\.0\.0\.1:9 cannot be reached: Connection refused$"):
            ask(Bucket(where))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"<Error><Code>SlowDown</Code></Error>", "answered SlowDown"),
        (502, b"", "did not answer as S3 does: non-XML response from server; Response code: 502"),
        (200, b"<ListBucketResult><Name>", "did not answer as S3 does: no element found: line 1, column 24"),
    ],
)
def test_what_a_store_answers_in_the_end_is_the_reason(store: Store, status: int, body: bytes, said: str) -> None:
    store.answers = [(status, body)] * 9
    where = Repository(f"127.0.0.1:{store.server_port}", "snoopy", "key", "not-a-secret", insecure=True)
    with pytest.raises(ObjectStoreError, match=f"^the object store at {where.endpoint} {said}$"):
        Bucket(where).keys("")
