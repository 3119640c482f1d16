"""The numbers from which something is worth a finding: one dataclass, every one of them can be set."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any


class ThresholdError(ValueError):
    """A threshold that does not exist, or a value that it cannot have; the message is one sentence for a person."""


def _threshold(default: float, unit: str, description: str, source: str = "") -> Any:
    return field(default=default, metadata={"unit": unit, "description": description, "source": source})


@dataclass(frozen=True)
class Thresholds:
    """What counts as too much, too slow or too often; docs/report.md lists them from here."""

    connect_slow_ms: float = _threshold(500.0, "ms", "95th percentile of a pair's RTT above which connecting is slow")
    connect_retried: int = _threshold(
        1,
        "connections",
        "connections of a pair that succeeded only after their SYN was sent again",
        "RFC 6298 section 2: each waits a second or more",
    )
    half_open_tries: int = _threshold(
        2,
        "SYN-ACKs",
        "SYN-ACKs of one connection that nobody acknowledged",
        "RFC 9293 section 3.5: the third step of the handshake is missing",
    )
    reset_connections: int = _threshold(
        1, "connections", "connections of a pair that were reset while data flowed and neither side had closed"
    )
    retransmission_percent: float = _threshold(
        1.0,
        "%",
        "share of a pair's packets in one direction that were sent again",
        "Mathis et al. 1997: throughput falls with the root of the loss",
    )
    retransmission_packets: int = _threshold(10, "packets", "packets sent again below which that share says nothing")
    stuck_tries: int = _threshold(
        4,
        "times",
        "how often a segment is sent, and never acknowledged, until its connection hangs",
        "RFC 9293 section 3.8.3: R1, three retransmissions",
    )
    stuck_bytes: int = _threshold(
        536,
        "bytes",
        "payload above which a segment that hangs may be too large for the path",
        "RFC 9293 section 3.7.1: the default maximum segment size of IPv4",
    )
    zero_window_packets: int = _threshold(
        3,
        "packets",
        "packets of a pair that announce that no more can be received",
        "RFC 9293 section 3.8.6.1",
    )
    window_full_packets: int = _threshold(
        20, "packets", "packets of a pair that fill the receiver's window to the last byte"
    )
    one_way_packets: int = _threshold(
        5, "packets", "packets of one direction, data among them, while the other direction shows none"
    )
    skipped_percent: float = _threshold(20.0, "%", "share of a capture's packets that are in no connection")
    dns_slow_ms: float = _threshold(100.0, "ms", "95th percentile above which a client's lookups at a server are slow")
    tls_slow_ms: float = _threshold(1000.0, "ms", "95th percentile above which a pair's TLS handshakes are slow")
    http_slow_ms: float = _threshold(
        1000.0, "ms", "95th percentile of the time until a response begins above which a pair's requests are slow"
    )
    http_error_percent: float = _threshold(
        1.0, "%", "share of a pair's responses with status 5xx, or with a gRPC status other than 0"
    )

    def json(self) -> dict[str, float]:
        """Give them as report.json has them, by name; the name ends in the unit where it is not a count."""
        return asdict(self)


def thresholds(texts: Iterable[str]) -> Thresholds:
    """Give the thresholds that texts such as `dns_slow_ms=50` set; those that none of them names are the defaults.

    Raises:
        ThresholdError: no such threshold, or not a value for it: a number, not negative, whole where it counts.

    """
    kinds = {name: type(default) for name, default in Thresholds().json().items()}
    values: dict[str, float] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ThresholdError(f"{text!r} is no threshold: write NAME=VALUE, such as dns_slow_ms=50")
        if name not in kinds:
            raise ThresholdError(f"there is no threshold {name!r}: there are {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError:
            values[name] = math.nan
        if not 0 <= values[name] < math.inf:
            whole = "whole " if kinds[name] is int else ""
            raise ThresholdError(f"threshold {name} cannot be {value!r}: it takes a {whole}number that is not negative")
    return replace(Thresholds(), **values)  # type: ignore[arg-type]  # ints where ints are, by `kinds`
