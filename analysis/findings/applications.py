"""Findings about what runs on connections: DNS, TLS, HTTP and gRPC."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.findings.attempts import between
from analysis.findings.kinds import EVIDENCE, Finding, figure, finding, listed, many, slowness, tallied, told
from analysis.groups import Groups
from analysis.places import Places
from analysis.thresholds import Thresholds

PAIR = ["source", "destination", "server_port"]
FAREWELLS = ("", "close_notify", "user_canceled")  # alerts that are no failure (RFC 8446 section 6.1)
SLOW = {  # by finding: whose 95th percentile, and of what; the threshold has the finding's name
    "dns_slow": ("latency_ms", "DNS lookups"),
    "tls_slow": ("handshake_ms", "TLS handshakes"),
    "http_slow": ("first_byte_ms", "HTTP responses"),
}
ERRORS = {  # by finding: which status, of what, from where on there is one, and it is an error (RFC 9110, gRPC)
    "http_errors": ("status", "HTTP response", 100, 500),
    "grpc_errors": ("grpc_status", "gRPC call", 0, 1),
}


def of_dns(lookups: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    """Find DNS lookups, of those that count, that failed, had no answer or took long."""
    yield from _dns_failed(lookups, places)
    silent = Groups(lookups[(lookups["rcode"] == "") & ~lookups["undecided"]], PAIR)

    def tell(group: int) -> Finding:
        rows, (client, server, _) = silent.of(group), silent.keys[group]
        count = many(len(rows), "DNS lookup")
        text = f"{client.name}: {count} had no answer from {server.name}: {_asked(rows)}."
        return finding("dns_unanswered", text, places.evidence(rows, "proof", EVIDENCE))

    yield from told("dns_unanswered", silent.counts, tell)
    yield from _slow("dns_slow", lookups, places, thresholds)


def _dns_failed(lookups: pd.DataFrame, places: Places) -> Iterator[Finding]:
    bad = lookups[~lookups["rcode"].isin(["", "NOERROR"]) & ~lookups["search_step"]]
    groups, all_of = Groups(bad, ["source", "rcode"]), Groups(lookups, ["source"])
    asked = {source: count for (source,), count in zip(all_of.keys, all_of.counts.tolist(), strict=True)}

    def tell(group: int) -> Finding:
        rows, (client, rcode) = groups.of(group), groups.keys[group]
        text = f"{client.name}: {len(rows)} of {many(asked[client], 'DNS lookup')} ended in {rcode}: {_asked(rows)}."
        return finding("dns_failed", text, places.evidence(rows, "proof", EVIDENCE))

    return told("dns_failed", groups.counts, tell)


def _asked(lookups: pd.DataFrame) -> str:
    return listed("", sorted(set(lookups["name"])))


def of_tls(handshakes: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    """Find TLS handshakes that ended in an alert, had no answer or took long."""
    groups = Groups(handshakes, PAIR)
    alerted = ~handshakes["alert"].isin(FAREWELLS)
    silent = handshakes["outcome"] == "unanswered"

    def tell_alert(group: int) -> Finding:
        every = groups.of(group)
        rows = every[alerted[every.index]]
        alerts = (rows["alert"] + " from the " + rows["alert_by"]).value_counts()
        said = {str(alert): int(count) for alert, count in alerts.items()}
        text = f"{len(rows)} of {many(len(every), 'TLS handshake')} ended in an alert, {tallied(said)}"
        return finding("tls_alert", _of_names(groups, group, text, rows), places.evidence(rows, "proof", EVIDENCE))

    def tell_silent(group: int) -> Finding:
        every = groups.of(group)
        rows = every[silent[every.index]]
        text = f"{len(rows)} of {many(len(every), 'ClientHello')} had no answer"
        return finding("tls_unanswered", _of_names(groups, group, text, rows), places.evidence(rows, "frame", EVIDENCE))

    yield from told("tls_alert", groups.total(alerted), tell_alert)
    yield from told("tls_unanswered", groups.total(silent), tell_silent)
    yield from _slow("tls_slow", handshakes, places, thresholds)


def _of_names(groups: Groups, group: int, text: str, rows: pd.DataFrame) -> str:
    names = sorted(set(rows["sni"]) - {""})
    asked = f"; the server was called {listed('', names)}" if names else ""
    return f"{between(groups.keys[group])}: {text}{asked}."


def of_http(requests: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    """Find HTTP requests and gRPC calls that failed, had no response or took long."""
    for code in ERRORS:
        yield from _errors(code, requests, places, thresholds)
    silent = Groups(requests[requests["outcome"] == "unanswered"], PAIR)

    def tell(group: int) -> Finding:
        rows = silent.of(group)
        text = f"{between(silent.keys[group])}: {many(len(rows), 'HTTP request')} had no response: {_paths(rows)}."
        return finding("http_unanswered", text, places.evidence(rows, "frame", EVIDENCE))

    yield from told("http_unanswered", silent.counts, tell)
    yield from _slow("http_slow", requests, places, thresholds)


def _errors(code: str, requests: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    column, what, least, worst = ERRORS[code]
    status = requests[column].astype("float64")  # NaN where there is none
    bad = status >= worst
    groups, limit = Groups(requests, PAIR), thresholds.http_error_percent
    of, counts = groups.total(status >= least), groups.total(bad)
    share = 100 * counts / np.maximum(of, 1)

    def tell(group: int) -> Finding:
        every = groups.of(group)
        rows = every[bad[every.index]]
        said = {str(value): int(count) for value, count in rows[column].astype("Int64").value_counts().items()}
        text = (
            f"{between(groups.keys[group])}: {counts[group]} of {many(int(of[group]), what)} failed, "
            f"{figure(share[group])} %, more than {limit:g} %: {tallied(said)}; {_paths(rows)}."
        )
        return finding(code, text, places.evidence(rows, "proof", EVIDENCE))

    return told(code, np.where(share > limit, counts, 0), tell)


def _paths(requests: pd.DataFrame) -> str:
    return listed("", sorted(set(requests["method"] + " " + requests["host"] + requests["path"])))


def _slow(code: str, rows: pd.DataFrame, places: Places, thresholds: Thresholds) -> Iterator[Finding]:
    column, what = SLOW[code]
    groups, limit = Groups(rows, PAIR), getattr(thresholds, f"{code}_ms")
    p95 = groups.quantile(rows[column], 95)

    def tell(group: int) -> Finding:
        rows = groups.of(group)
        text = f"{between(groups.keys[group])}: {what} take long: {slowness(rows[column], p95[group], limit)}."
        late = rows[rows[column] > limit].nlargest(EVIDENCE, column)
        return finding(code, text, places.evidence(late, "proof", EVIDENCE))

    return told(code, np.where(p95 > limit, p95, 0), tell)
