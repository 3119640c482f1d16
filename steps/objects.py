"""The object store as S3, through MinIO's client: what resolve, join and the snoopy command read and write."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import ParseError  # minio raises it for an answer that was cut off

import urllib3
import yaml
from minio import Minio
from minio.datatypes import PostPolicy
from minio.error import InvalidResponseError, MinioException, S3Error
from minio.helpers import check_bucket_name
from urllib3.util import Retry, Timeout

from steps.plan import Plan, pcaps_prefix
from steps.uploads import TYPES

#: How long after its planned end a campaign may still upload: pods wait to be scheduled, stores come back.
POLICY_MARGIN = timedelta(hours=1)
MAX_OBJECT = 1024**3
#: MinIO's Retry-After is two minutes, which nobody would wait without a word.
RETRIES = Retry(
    total=2,
    backoff_factor=0.3,
    status_forcelist=(502, 503),
    raise_on_status=False,
    respect_retry_after_header=False,
)


class ObjectStoreError(Exception):
    """The object store refused, or could not be reached; the message is one sentence that holds no credential."""


@dataclass(frozen=True)
class Repository:
    """Where objects are kept, and the keys to it. `endpoint` is HOST:PORT, as pods reach it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    insecure: bool = False

    def client(self, http: urllib3.PoolManager | None = None) -> Minio:
        """Give a client. The region is given, so that signing asks nobody.

        Raises:
            ObjectStoreError: the endpoint or the bucket's name cannot be one.

        """
        patient = urllib3.PoolManager(
            maxsize=10,
            timeout=Timeout(connect=5, read=60),
            retries=RETRIES,
        )
        try:
            check_bucket_name(self.bucket)
            return Minio(
                self.endpoint,
                access_key=self.access_key,
                secret_key=self.secret_key,
                region=self.region,
                secure=not self.insecure,
                http_client=http or patient,
            )
        except ValueError as error:
            raise ObjectStoreError(
                f"endpoint: {self.endpoint!r}, bucket: {self.bucket!r}: {error}; the artifact repository needs"
                " HOST or HOST:PORT without a scheme (insecure: true is http), and S3's name of a bucket"
            ) from None


def repository(text: str, access_key: str, secret_key: str) -> Repository:
    """Read an Argo artifact repository, the YAML with `s3:`, with the two keys it names.

    Raises:
        ObjectStoreError: it is no S3 repository with an endpoint and a bucket.

    """
    try:
        s3 = yaml.safe_load(text)["s3"]
        return Repository(
            endpoint=str(s3["endpoint"]),
            bucket=str(s3["bucket"]),
            access_key=access_key,
            secret_key=secret_key,
            region=s3.get("region") or "us-east-1",
            insecure=bool(s3.get("insecure", False)),
        )
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ObjectStoreError(
            f"the artifact repository is not {{s3: {{endpoint: HOST:PORT, bucket: NAME}}}}: {error!r}"
        ) from None


def repository_from_environment() -> Repository:
    """Read what the cluster hands to a step: the artifact repository and its keys. Raises ObjectStoreError."""
    try:
        return repository(
            os.environ["SNOOPY_ARTIFACT_REPOSITORY"],
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
        )
    except KeyError as error:
        raise ObjectStoreError(f"{error.args[0]} is not set: the object store is not configured") from None


class Bucket:
    """One bucket of an object store."""

    def __init__(self, where: Repository, http_client: urllib3.PoolManager | None = None) -> None:
        self.where = where
        self._client = where.client(http_client)

    def check(self) -> None:
        """Make sure that the bucket is there and may be listed. Raises ObjectStoreError."""
        with self._explained():
            next(iter(self._client.list_objects(self.where.bucket, prefix="reports/")), None)

    def put(self, key: str, data: bytes) -> None:
        """Store an object, replacing what had its key. Raises ObjectStoreError."""
        kind = TYPES.get(Path(key).suffix, "application/octet-stream")
        with self._explained():
            self._client.put_object(self.where.bucket, key, BytesIO(data), len(data), content_type=kind)

    def get(self, key: str) -> bytes:
        """Give an object. Raises ObjectStoreError; KeyError when there is none."""
        with self._explained():
            try:
                answer = self._client.get_object(self.where.bucket, key)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    raise KeyError(key) from None
                raise
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

    def remove(self, key: str) -> None:
        """Remove an object, if it is there. Raises ObjectStoreError."""
        with self._explained():
            self._client.remove_object(self.where.bucket, key)

    def keys(self, prefix: str) -> list[str]:
        """List the keys below a prefix, in order. Raises ObjectStoreError."""
        with self._explained():
            listed = self._client.list_objects(self.where.bucket, prefix=prefix, recursive=True)
            return sorted(str(item.object_name) for item in listed)

    def download(self, prefix: str, directory: Path) -> list[Path]:
        """Fetch every object below a prefix; the files keep their whole keys as paths below `directory`.

        Raises:
            ObjectStoreError: what had been fetched stays.

        """
        files = []
        for key in self.keys(prefix):
            path = directory / key
            if not path.resolve().is_relative_to(directory.resolve()):
                raise ObjectStoreError(f"{key}: the key leads out of {directory}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._explained():
                self._client.fget_object(self.where.bucket, key, str(path))
            files.append(path)
        return files

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise ObjectStoreError(self._sentence(error.code or "no code")) from None
        except (InvalidResponseError, ParseError) as error:
            what, _, _ = str(error).partition(", Content-Type")
            raise ObjectStoreError(
                f"the object store at {self.where.endpoint} did not answer as S3 does: {what}"
            ) from None
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
            raise ObjectStoreError(
                f"the object store at {self.where.endpoint} cannot be reached: {_reason(error)}"
            ) from None

    def _sentence(self, code: str) -> str:
        where = self.where
        match code:
            case "NoSuchBucket":
                return f"bucket: {where.bucket!r}: no such bucket at {where.endpoint}"
            case "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied":
                return f"the object store at {where.endpoint} refuses the keys of Secret snoopy-s3: {code}"
        return f"the object store at {where.endpoint} answered {code}"


def _reason(error: BaseException) -> str:
    """Give the operating system's words, where it is the cause: other messages hold addresses of objects in memory."""
    failed = getattr(error, "reason", None) or error  # what urllib3 gave up on, after its tries
    cause = failed.__cause__ or failed
    said = (cause.strerror or str(cause)) if isinstance(cause, OSError) else ""
    return said or type(failed).__name__


def upload_policies(where: Repository, plan: Plan) -> dict[str, str]:
    """Sign one upload policy per target, for the target's own prefix; by UID, as PresignedPost reads them."""
    client = where.client()
    expires = datetime.now(UTC) + timedelta(seconds=plan.input.duration) + POLICY_MARGIN
    policies = {}
    for target in plan.targets:
        policy = PostPolicy(where.bucket, expires)
        policy.add_starts_with_condition("$key", f"{pcaps_prefix(plan.namespace, plan.campaign)}{target.directory}_")
        policy.add_content_length_range_condition(0, MAX_OBJECT)
        scheme = "http" if where.insecure else "https"
        url = f"{scheme}://{where.endpoint}/{where.bucket}"
        policies[target.uid] = json.dumps({"url": url, "fields": client.presigned_post_policy(policy)})
    return policies
