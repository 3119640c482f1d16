"""Runs in the shop's client: makes connections, counts each as the client itself saw it, prints the counts as JSON.

Its argument is JSON: {"connect": {"ADDRESS:PORT": how many, ...}, "look_up": {NAME: how many, ...}}.
What listens on 127.0.0.1 for as long as it runs is its own, on port 8088.
"""

import http.client
import http.server
import json
import socket
import sys
import threading
from collections import Counter


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def connect(address: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timed out"
    finally:
        connection.close()
    return "succeeded" if answer.status == http.HTTPStatus.OK else str(answer.status)


asked = json.loads(sys.argv[1])
threading.Thread(target=http.server.HTTPServer(("127.0.0.1", 8088), Quiet).serve_forever, daemon=True).start()
counts = {address: Counter(connect(address) for _ in range(times)) for address, times in asked["connect"].items()}
for name, times in asked["look_up"].items():
    counts[name] = Counter(socket.gethostbyname(name) and "answered" for _ in range(times))
print(json.dumps(counts))  # noqa: T201 - its answer
