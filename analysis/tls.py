"""TLS: which handshakes were completed, refused or never answered, and how long they took.

Rules: RFC 8446 and RFC 5246. A handshake is complete when both sides have changed to the new keys: up to TLS 1.2 they
say so (ChangeCipherSpec); since TLS 1.3 the client's first encrypted record after the ServerHello holds its Finished,
unless it is as small as an alert is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.timestamps import NANOSECONDS
from analysis.tshark import SEPARATOR, value_names

CIPHER, ALERT = NAMED = ("tls.handshake.ciphersuite", "tls.alert_message.desc")
FIELDS = (  # Wireshark's; since TLS 1.3 an encrypted record's type is `opaque`
    *("tls.record.content_type", "tls.record.opaque_type", "tls.record.length", "tls.handshake.type"),
    *("tls.handshake.version", "tls.handshake.extensions.supported_version"),
    *("tls.handshake.extensions_server_name", "tls.handshake.extensions_alpn_str"),
    *NAMED,
)
VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
DRAFT = 0x7F  # of TLS 1.3, in the high byte
CHANGE_CIPHER_SPEC, APPLICATION_DATA = "20", "23"  # types of records
HELLOS = {"1": "client_hello", "2": "server_hello"}  # types of handshake messages
ALERT_LENGTHS = {"11", "19"}  # of an encrypted record since TLS 1.3: two bytes, their type, a tag of 8 or 16 bytes
GRACE = NANOSECONDS  # a handshake that went on this close to the capture's end may be completed yet
MESSAGES = {  # beside the columns of its packet (`analysis.dissect.PACKET`)
    "kind": "str",  # client_hello, server_hello, change_cipher_spec, encrypted, encrypted_alert, alert
    "version": "str",  # of a ServerHello: the negotiated one
    "cipher": "str",  # of a ServerHello
    "sni": "str",
    "alpn": "str",  # of a ServerHello, or what a ClientHello offers first
    "alert": "str",  # as RFC 8446 calls it
}
HANDSHAKE = {  # `handshakes` explains them
    "client": "str",
    "client_port": "int64",
    "server": "str",
    "server_port": "int64",
    "connection": "int64",
    "started": "int64",
    "version": "str",
    "cipher": "str",
    "sni": "str",
    "alpn": "str",
    "hello_ms": "float64",
    "handshake_ms": "float64",
    "alert": "str",
    "alert_by": "str",
    "outcome": "str",
    "frame": "int64",
    "proof": "int64",
}


def messages(values: Sequence[str]) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Read what one packet says about a handshake.

    Args:
        values: those of FIELDS, as `analysis.tshark.fields` gives them.

    Returns:
        The columns MESSAGES.

    """
    clear, opaque, lengths, types, versions, supported, sni, alpn, ciphers, alerts = (
        value.split(SEPARATOR) if value else [] for value in values
    )
    offered = alpn[0] if alpn else ""
    for kind in dict.fromkeys(HELLOS[number] for number in types if number in HELLOS):
        if kind == "client_hello":
            yield kind, "", "", sni[0] if sni else "", offered, ""
        else:
            cipher = ",".join(_name(CIPHER, number) for number in ciphers)
            yield kind, _version((supported or versions or ["0"])[0]), cipher, "", offered, ""
    if CHANGE_CIPHER_SPEC in clear:
        yield "change_cipher_spec", "", "", "", "", ""
    for alert in alerts:
        yield "alert", "", "", "", "", _name(ALERT, alert).lower().replace(" ", "_")
    if opaque and ALERT_LENGTHS.issuperset(lengths[-len(opaque) :]):
        yield "encrypted_alert", "", "", "", "", ""
    elif APPLICATION_DATA in clear + opaque:
        yield "encrypted", "", "", "", "", ""


def _name(field: str, number: str) -> str:
    """Give Wireshark's name for a number, or the number as Wireshark wrote it."""
    return value_names(*NAMED)[field].get(int(number, 0), number)


def _version(code: str) -> str:
    number = int(code, 0)
    if number >> 8 == DRAFT:
        return f"TLS 1.3 draft {number & 0xFF}"
    return VERSIONS.get(number, "")


def handshakes(found: pd.DataFrame, end: int) -> pd.DataFrame:
    """Give one row per connection on which a ClientHello was seen.

    Args:
        found: TLS messages (`analysis.dissect.Messages.tls`).
        end: when the capture ended, ns since the epoch.

    Returns:
        Columns client, client_port, server, server_port, connection (row of the connection table), started (ns),
        version (negotiated; empty: unknown), cipher, sni, alpn (negotiated in clear text, else the first offered),
        hello_ms (first ClientHello to first ServerHello or HelloRetryRequest), handshake_ms (to its completion), alert
        (the first one in clear text that is no farewell; empty: none), alert_by (client, server), outcome (completed;
        alerted; unanswered: the other side said nothing more; undecided: nor in the capture's last second), frame
        (of the ClientHello) and proof (of what the outcome is seen by, or of the last message).

    """
    shakes: dict[int, _Handshake] = {}
    message: Any
    for message in found.sort_values("time", kind="stable").itertuples(index=False):
        shake = shakes.get(message.connection)
        if shake:
            shake.see(message)
        elif message.kind == "client_hello":
            shakes[message.connection] = _Handshake(message)
    rows = [shake.row(end) for shake in shakes.values()]
    return pd.DataFrame(rows, columns=list(HANDSHAKE)).astype(HANDSHAKE)


class _Handshake:
    """What was seen of one, message by message; nothing after its completion."""

    def __init__(self, hello: Any) -> None:
        self.hello = self.last = hello
        self.answer: Any = None
        self.alert: Any = None
        self.refusal: Any = None  # an alert, in clear text or not
        self.completion: Any = None
        self.changed: set[str] = set()  # sides that use the new keys
        self.is_heard = False  # by the client: what it sent was no hello

    def side(self, message: Any) -> str:
        ends = (self.hello.src, self.hello.src_port)
        return "client" if (message.src, message.src_port) == ends else "server"

    def see(self, message: Any) -> None:
        if self.completion:
            return
        side, kind, self.last = self.side(message), message.kind, message
        if kind == "server_hello":
            self.answer = self.answer or message
        elif kind == "alert" and message.alert != "close_notify":
            self.alert = self.alert or message
            self.refusal = self.refusal or message
        elif kind == "encrypted_alert":
            self.refusal = self.refusal or message
        elif kind in {"change_cipher_spec", "encrypted"}:
            self.is_heard |= side == "client"
            self.changed |= {side} if kind == "change_cipher_spec" else set()
            self.completion = message if self.is_proof(message, side) else None

    def is_proof(self, message: Any, side: str) -> bool:
        """Say whether this record shows that the handshake is complete."""
        if not self.answer:
            return False
        if self.answer.version.startswith("TLS 1.3"):
            return side == "client" and message.kind == "encrypted"
        return message.kind == "encrypted" or self.changed == {"client", "server"}

    def row(self, end: int) -> dict[str, Any]:
        hello, answer, completion = self.hello, self.answer, self.completion
        is_late = self.last.time > end - GRACE or (self.is_heard and not answer)  # the answer was not captured
        outcomes = {"completed": completion, "alerted": self.refusal, "undecided": is_late and self.last}
        outcome, proof = next(((name, by) for name, by in outcomes.items() if by), ("unanswered", self.last))
        by = self.refusal if outcome == "alerted" else self.alert
        return {
            "client": hello.src,
            "client_port": hello.src_port,
            "server": hello.dst,
            "server_port": hello.dst_port,
            "connection": hello.connection,
            "started": hello.time,
            "version": answer.version if answer else "",
            "cipher": answer.cipher if answer else "",
            "sni": hello.sni,
            "alpn": (answer.alpn if answer else "") or hello.alpn,
            "hello_ms": (answer.time - hello.time) / 1e6 if answer else None,
            "handshake_ms": (completion.time - hello.time) / 1e6 if completion else None,
            "alert": self.alert.alert if self.alert else "",
            "alert_by": self.side(by) if by else "",
            "outcome": outcome,
            "frame": hello.frame,
            "proof": proof.frame,
        }
