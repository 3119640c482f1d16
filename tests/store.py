"""An object store that takes S3's browser-based uploads, and answers what a test wants it to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIGNED = {"policy": "c2VjcmV0", "x-amz-signature": "deadbeef"}


class Store(ThreadingHTTPServer):
    """It gives the prepared `answers` first, and keeps what it took: `objects` by key, every form in `received`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.received: list[bytes] = []
        self.objects: dict[str, bytes] = {}
        self.policy = json.dumps({"url": f"http://127.0.0.1:{self.server_port}/bucket", "fields": SIGNED})


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        self._answer(*(self.server.answers.pop(0) if self.server.answers else (404, b"")))

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(form)
        status, body = self.server.answers.pop(0) if self.server.answers else (204, b"")
        if status == 204:
            fields = self._fields(form)
            self.server.objects[fields[b"key"].decode()] = fields[b"file"]
        self._answer(status, body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        if status == 503:
            self.send_header("Retry-After", "120")  # as MinIO says it
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fields(self, form: bytes) -> dict[bytes, bytes]:
        boundary = b"--" + self.headers["Content-Type"].partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n") for part in form.split(boundary)]
        return {head.split(b'"')[1]: body.removesuffix(b"\r\n") for head, _, body in parts if b'"' in head}

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Store]:
    """Serve on a free port of 127.0.0.1."""
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
