"""The real object store: what it refuses is said in one sentence, and an upload policy opens one prefix only."""

from dataclasses import replace
from typing import Any

import pytest

from steps.campaign_input import campaign_input
from steps.objects import Bucket, ObjectStoreError, Repository, upload_policies
from steps.plan import Plan, Target, pcaps_prefix
from steps.uploads import PresignedPost, UploadError


@pytest.fixture
def where(installation: Any) -> Repository:
    return replace(installation.bucket.where, endpoint=installation.outside())


def test_what_was_put_is_got_and_listed(where: Repository) -> None:
    bucket = Bucket(where)
    bucket.check()
    bucket.put("tests/objects/a.json", b"{}")
    bucket.put("tests/objects/b/c.pcap", b"\x00" * 10)
    assert bucket.keys("tests/objects/") == ["tests/objects/a.json", "tests/objects/b/c.pcap"]
    assert bucket.get("tests/objects/b/c.pcap") == b"\x00" * 10
    with pytest.raises(KeyError):
        bucket.get("tests/objects/none")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bucket": "no-such-bucket"}, "bucket: 'no-such-bucket': no such bucket at "),
        ({"secret_key": "not the key"}, "refuses the keys of Secret snoopy-s3: SignatureDoesNotMatch"),
        ({"access_key": "nobody"}, "refuses the keys of Secret snoopy-s3: InvalidAccessKeyId"),
        ({"endpoint": "127.0.0.1:1"}, "the object store at 127.0.0.1:1 cannot be reached: "),
    ],
)
def test_a_store_that_cannot_be_used(where: Repository, change: dict[str, str], sentence: str) -> None:
    with pytest.raises(ObjectStoreError) as refusal:
        Bucket(replace(where, **change)).check()
    assert sentence in str(refusal.value)
    assert "not the key" not in str(refusal.value)


def test_a_policy_opens_its_own_targets_prefix_only(where: Repository) -> None:
    one, other = (Target(namespace="shop", pod=pod, uid=pod * 8, node="n") for pod in ("one", "two"))
    plan = Plan(
        campaign="policy",
        namespace="tests",
        submitted="2026-01-01T00:00:00Z",
        input=campaign_input({"pods": "*"}),
        targets=[one, other],
    )
    uploads = PresignedPost(upload_policies(where, plan)[one.uid])
    prefix = pcaps_prefix("tests", "policy")
    own = f"{prefix}{one.directory}_eth0/000001.pcap"
    uploads.put(own, b"captured")
    assert Bucket(where).get(own) == b"captured"
    for elsewhere in (f"{prefix}{other.directory}_eth0/000001.pcap", "reports/tests/policy/report.json"):
        with pytest.raises(UploadError, match="answered 403"):
            uploads.put(elsewhere, b"forged")
        assert elsewhere not in Bucket(where).keys("")
