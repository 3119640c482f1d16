"""A Kubernetes API and an S3 on loopback: each speaks what the command needs, and remembers what it was asked."""

import base64
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import kube_config

from workflows.cluster import Cluster

NAMESPACE = "snoopy-operator"
ARGO = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}"
CORE = "/api/v1/namespaces"
COLLECTIONS = {"pods", "services", "secrets", "configmaps", "workflows", "cronworkflows", "endpointslices"}

Answer = tuple[int, bytes]
Body = dict[str, Any]


class Server:
    """An HTTP server on a free port of loopback; `answer` gives (status, body)."""

    content_type = "application/json"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        handler = type("Handler", (BaseHTTPRequestHandler,), {"protocol_version": "HTTP/1.1"})
        handler.log_message = lambda *_: None
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            setattr(handler, f"do_{method}", lambda request, method=method: self._serve(request, method))
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.address = f"127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, method: str, path: str, query: dict[str, str], data: bytes) -> Answer:
        raise NotImplementedError

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, request: BaseHTTPRequestHandler, method: str) -> None:
        data = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        url = urlsplit(request.path)
        self.asked.append((method, url.path))
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        status, body = self.answer(method, unquote(url.path), query, data)
        request.send_response(status)
        request.send_header("Content-Type", "text/plain" if url.path.endswith("/log") else self.content_type)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", '"0"')
        request.send_header("Last-Modified", "Mon, 23 Nov 2026 22:00:00 GMT")
        request.end_headers()
        if method != "HEAD":
            request.wfile.write(body)


class KubernetesApi(Server):
    """Objects by path.

    `refusals` maps (method, regular expression of the path) to (status, message); `scripts` holds what an object
    becomes each time it is read; `logs` are by pod.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, Body] = {}
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        self.scripts: dict[str, list[Body]] = {}
        self.logs: dict[str, str] = {}
        self.may_exec = True

    def client(self) -> ApiClient:
        configuration = Configuration()
        configuration.host = f"http://{self.address}"
        return ApiClient(configuration)

    def answer(self, method: str, path: str, query: dict[str, str], data: bytes) -> Answer:
        for (refused, pattern), (status, message) in self.refusals.items():
            if method == refused and re.search(pattern, path):
                return status, _status(message)
        if self.scripts.get(path):
            self.objects[path] = self.scripts[path].pop(0)
        body = json.loads(data) if data else {}
        if path.endswith("/selfsubjectaccessreviews"):
            return 201, json.dumps({**body, "status": {"allowed": self.may_exec}}).encode()
        if path.endswith("/log"):
            return 200, self.logs[path.split("/")[-2]].encode()
        if method != "POST" and path not in self.objects and path.rpartition("/")[2] not in COLLECTIONS:
            kind, name = path.split("/")[-2:]
            return 404, _status(f'{kind} "{name}" not found')
        return {"GET": self._get, "POST": self._post, "PATCH": self._patch, "DELETE": self._delete}[method](
            path, query, body
        )

    def _get(self, path: str, query: dict[str, str], _: Body) -> Answer:
        if path in self.objects:
            return 200, json.dumps(self.objects[path]).encode()
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part).items()
        inside = [each for key, each in self.objects.items() if key.rpartition("/")[0] == path]
        items = [each for each in inside if wanted <= each["metadata"].get("labels", {}).items()]
        return 200, json.dumps({"kind": "List", "items": items}).encode()

    def _post(self, path: str, _: dict[str, str], body: Body) -> Answer:
        meta = body["metadata"]
        meta["name"] = meta.get("name") or f"{meta['generateName']}x7k2p"
        if f"{path}/{meta['name']}" in self.objects:
            return 409, _status(f'{path.rpartition("/")[2]} "{meta["name"]}" already exists')
        meta |= {"uid": "uid-1", "creationTimestamp": "2026-11-23T22:00:00Z"}
        self.objects[f"{path}/{meta['name']}"] = body
        return 201, json.dumps(body).encode()

    def _patch(self, path: str, _: dict[str, str], body: Body) -> Answer:
        for key, value in body.items():
            self.objects[path].setdefault(key, {}).update(value)
        return 200, json.dumps(self.objects[path]).encode()

    def _delete(self, path: str, _: dict[str, str], __: Body) -> Answer:
        del self.objects[path]
        return 200, json.dumps({"kind": "Status", "status": "Success"}).encode()


def _status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message}).encode()


class ObjectStore(Server):
    """One bucket, `snoopy`, as S3 serves it with the bucket's name in the path."""

    content_type = "application/xml"

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.refused = set[str]()  # methods

    def answer(self, method: str, path: str, query: dict[str, str], data: bytes) -> Answer:
        bucket, _, key = path.strip("/").partition("/")
        if bucket != "snoopy":
            return 404, b"<Error><Code>NoSuchBucket</Code></Error>"
        if method in self.refused:
            return 403, b"<Error><Code>AccessDenied</Code></Error>"
        if method == "PUT":
            self.objects[key] = data
        elif method == "DELETE":
            self.objects.pop(key, None)
        elif not key:
            return 200, self._listing(query.get("prefix", ""))
        elif key not in self.objects:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        return 200, self.objects.get(key, b"") if method in {"GET", "HEAD"} else b""

    def _listing(self, prefix: str) -> bytes:
        keys = [key for key in sorted(self.objects) if key.startswith(prefix)]
        contents = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
        return f"<ListBucketResult><Name>snoopy</Name>{contents}</ListBucketResult>".encode()


@pytest.fixture(scope="session")
def argo() -> str:
    """The argo command: on PATH, or among the programs of the test cluster."""
    home = os.environ.get("SNOOPY_CLUSTER_HOME", "/var/lib/snoopy-cluster")
    found = shutil.which("argo") or shutil.which("argo", path=f"{home}/bin")
    return found or pytest.skip("the argo command is neither on PATH nor in SNOOPY_CLUSTER_HOME")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An object store, which the command finds instead of the cluster's address for it."""
    server = ObjectStore()
    monkeypatch.setenv("SNOOPY_S3_ENDPOINT", f"http://{server.address}")
    yield server
    server.close()


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    """A cluster with snoopy installed and three pods, of which two run; the command's kubeconfig names it."""
    server = KubernetesApi()
    config = tmp_path / "kubeconfig"
    config.write_text(_kubeconfig(server.address))
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(config))  # read when it was imported
    repository = {"s3": {"endpoint": "minio:9000", "bucket": "snoopy", "insecure": True}}
    keys = {key: base64.b64encode(b"not a secret").decode() for key in ("accesskey", "secretkey")}
    server.objects |= {
        f"{ARGO}/workflowtemplates/capture-campaign": {"metadata": {"name": "capture-campaign"}},
        f"{CORE}/{NAMESPACE}/configmaps/artifact-repositories": {
            "metadata": {"name": "artifact-repositories"},
            "data": {"snoopy": yaml.safe_dump(repository)},
        },
        f"{CORE}/{NAMESPACE}/secrets/snoopy-s3": {"metadata": {"name": "snoopy-s3"}, "data": keys},
        f"{CORE}/shop": {"metadata": {"name": "shop"}},
        f"{CORE}/shop/pods/web-1": _pod("web-1", "10.0.0.1", "node-1"),
        f"{CORE}/shop/pods/web-2": _pod("web-2", "10.0.0.2", "node-2"),
        f"{CORE}/shop/pods/web-3": _pod("web-3", "10.0.0.3", "node-2", phase="Pending"),
    }
    yield server
    server.close()


@pytest.fixture
def cluster(api: KubernetesApi) -> Cluster:
    """The cluster, as the code sees it."""
    return Cluster(api.client(), NAMESPACE)


def _kubeconfig(address: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": f"http://{address}"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {"token": "not-a-secret"}}],
    }
    return yaml.safe_dump(config)


def _pod(name: str, address: str, node: str, phase: str = "Running") -> Body:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"{name}-0000-0000", "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase, "podIPs": [{"ip": address}], "hostIP": "172.30.0.11"},
    }
