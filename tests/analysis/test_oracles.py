"""Our tables of captures that nobody here wrote, beside what capinfos, tshark and Zeek's own tests say of them.

Every difference is in docs/accuracy.md, with its reason: SNOOPY_REGENERATE=1 writes its figures and keeps the reasons.
SNOOPY_PCAPS names the folder of captures; what tshark says of each is kept in pytest's cache.
"""

import json
import os
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.connections import connections
from analysis.packets import Packets, read
from tests.analysis.chatter import chatter
from tests.analysis.formats import Interface, pcap
from tests.analysis.scenes import every_kind
from tests.analysis.wireshark import COUNTERS, FIELDS, remarks, summary, tshark

PCAPS = Path(os.environ.get("SNOOPY_PCAPS", "../shared/pcaps"))
DOCUMENT = Path(__file__).parents[2] / "docs/accuracy.md"
TUNNELS = {"vxlan", "geneve", "gre", "gtp", "teredo", "mpls", "pppoes", "erspan", "ayiya", "etherip", "cfp", "vntag"}
ENOUGH = {"packets": 1.0, "streams": 0.98, **dict.fromkeys(COUNTERS, 0.99), "Community IDs": 0.97, "conn_state": 0.95}
HEADS = {  # of the tables in the document
    "Figures": "| compared with | what | of | equal | | at least |\n| --- | --- | ---: | ---: | ---: | ---: |\n",
    "Wireshark": "| capture | what | Wireshark | Snoopy | why |\n| --- | --- | ---: | ---: | --- |\n",
    "Zeek": "| capture | connection | Zeek | Snoopy | why |\n| --- | --- | --- | --- | --- |\n",
}


@dataclass
class Comparison:
    """What was compared how often, and what differs: (table, capture, what, theirs, ours)."""

    compared: Counter[tuple[str, str]] = field(default_factory=Counter)
    equal: Counter[tuple[str, str]] = field(default_factory=Counter)
    differences: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add(self, oracle: str, what: str, capture: str, theirs: object, ours: object, detail: str = "") -> None:
        self.compared[oracle, what] += 1
        self.equal[oracle, what] += theirs == ours
        if theirs != ours:
            self.differences.append((oracle, capture, detail or what, str(theirs), str(ours)))

    def figures(self) -> Iterator[str]:
        for (oracle, what), n in self.compared.items():
            share, least = self.equal[oracle, what] / n, ENOUGH.get(what)
            wanted = f"{least:.0%}" if least else ""
            yield f"| {oracle} | {what} | {n:,} | {self.equal[oracle, what]:,} | {share:.1%} | {wanted} |\n"


def look(name: str) -> tuple[Packets, pd.DataFrame]:
    packets = read([name], PCAPS)
    return packets, connections(packets, packets.last or 0)


def compare_with_tshark(name: str, theirs: dict[str, Any], table: pd.DataFrame, result: Comparison) -> None:
    """Streams, remarks and Community IDs; in a tunnel only streams: to Wireshark it has packets in packets."""
    tcp = table[table["proto"] == "tcp"]
    if not (len(tcp) or theirs["streams"] or theirs["ids"]):
        return
    if TUNNELS & set(theirs["protocols"]):
        result.add("Wireshark", "streams in tunnels", name, theirs["streams"], len(tcp))
        return
    ours = {"streams": len(tcp), **remarks(tcp)}
    for what, count in ours.items():
        result.add("Wireshark", what, name, theirs[what], count)
    identities = set(table.loc[table["proto"].isin(["tcp", "udp"]), "community_id"])
    missing, more = set(theirs["ids"]) - identities, identities - set(theirs["ids"])
    result.add("Wireshark", "Community IDs", name, len(theirs["ids"]), len(theirs["ids"]) - len(missing) + len(more))


def compare_with_zeek(name: str, log: str, table: pd.DataFrame, result: Comparison) -> None:
    """Match the rows of a conn.log by their ends; of several between the same ends, those that agree first."""
    lines = log.splitlines()
    names = next((line.split("\t")[1:] for line in lines if line.startswith("#fields")), [])
    if not {"conn_state", "id.orig_h"} <= set(names):
        return
    theirs = [dict(zip(names, line.split("\t"), strict=False)) for line in lines if not line.startswith("#")]
    ours: dict[Any, list[str]] = defaultdict(list)
    for our in table.itertuples():
        ours[our.proto, frozenset({(our.src, our.src_port), (our.dst, our.dst_port)})].append(str(our.conn_state))
    several: dict[Any, list[tuple[str, str]]] = defaultdict(list)
    for row in theirs:
        if row["proto"] in {"tcp", "udp"}:
            ends = [(row[f"id.{end}_h"], int(row[f"id.{end}_p"])) for end in ("orig", "resp")]
            what = f"{row['proto']} {ends[0][0]} {ends[0][1]} > {ends[1][0]} {ends[1][1]}"
            several[row["proto"], frozenset(ends)].append((row["conn_state"], what))
    for key, wanted in several.items():
        states = ours[key]
        for state, what in sorted(wanted, key=lambda row: row[0] not in states):
            result.add("Zeek", f"{key[0]} rows found", name, state, state if states else "no row", what)
            if states:
                found = states.pop(states.index(state) if state in states else 0)
                result.add("Zeek", "conn_state", name, state, found, what)


@pytest.fixture(scope="module")
def captures() -> list[str]:
    if not PCAPS.is_dir():
        pytest.skip("SNOOPY_PCAPS names no folder of captures")
    files = (path for path in PCAPS.rglob("*") if re.search(r"\.p?cap(ng)?(\.gz)?$", path.name))
    return sorted(str(path.relative_to(PCAPS)) for path in files)


@pytest.fixture(scope="module")
def counted(captures: list[str]) -> dict[str, int]:
    """Count each file's packets, where capinfos can."""
    command = ["capinfos", "-c", "-T", "-M", "-r", *captures]
    lines = subprocess.run(command, cwd=PCAPS, capture_output=True, text=True, check=False).stdout.splitlines()
    return {name: int(count) for name, count in (line.split("\t") for line in lines)}


@pytest.fixture(scope="module")
def answers(captures: list[str], request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Ask tshark once for each file, whatever asks for it again."""
    version = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    folder = request.config.cache.mkdir("tshark") if request.config.cache else None

    def ask(name: str) -> dict[str, Any]:
        digest = sha256(repr((version, FIELDS)).encode() + (PCAPS / name).read_bytes()).hexdigest()
        known = folder / digest if folder else None
        if known and known.exists():
            return dict(json.loads(known.read_text()))
        said = summary(tshark(PCAPS / name))
        if known:
            known.write_text(json.dumps(said))
        return said

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(captures, pool.map(ask, captures), strict=True))


@pytest.fixture(scope="module")
def result(captures: list[str], counted: dict[str, int], answers: dict[str, dict[str, Any]]) -> Comparison:
    found = Comparison()
    for name in captures:
        packets, table = look(name)
        if name in counted:
            found.add("capinfos", "packets", name, counted[name], packets.packets)
        compare_with_tshark(name, answers[name], table, found)
        log = PCAPS / "zeek-conn-logs" / f"{Path(name).name}.conn.log"
        if name.startswith("zeek/") and log.exists():
            compare_with_zeek(name, log.read_text(), table, found)
    return found


def rows(heading: str) -> list[str]:
    """Give the rows of the document's table under that heading."""
    text = DOCUMENT.read_text()
    head = HEADS[heading]
    return re.findall(r"^\|.*\n", text.partition(head)[2].partition("\n\n")[0] + "\n", re.MULTILINE)


def write(heading: str, made: list[str]) -> None:
    before, head, rest = DOCUMENT.read_text().partition(HEADS[heading])
    DOCUMENT.write_text(before + head + "".join(made) + rest[len("".join(rows(heading))) :])


def test_the_figures_are_those_of_the_document(result: Comparison) -> None:
    if os.environ.get("SNOOPY_REGENERATE"):
        write("Figures", list(result.figures()))
    assert rows("Figures") == list(result.figures())


@pytest.mark.parametrize("what", ENOUGH)
def test_enough_is_equal(what: str, result: Comparison) -> None:
    shares = [result.equal[key] / count for key, count in result.compared.items() if key[1] == what]
    assert shares
    assert min(shares) >= ENOUGH[what]


@pytest.mark.parametrize("oracle", ["Wireshark", "Zeek"])
def test_every_difference_is_in_the_document_with_its_reason(oracle: str, result: Comparison) -> None:
    found = [f"| {' | '.join(found)} | " for table, *found in result.differences if table == oracle]
    if os.environ.get("SNOOPY_REGENERATE"):
        reasons = {row[: row.rindex("| ", 0, -3) + 2]: row for row in rows(oracle)}
        write(oracle, [reasons.get(row, f"{row}? |\n") for row in found])
    listed = rows(oracle)
    assert [row for row in listed if re.search(r"\| \??\s*\|$", row)] == []
    assert [row[: row.rindex("| ", 0, -3) + 2] for row in listed] == found


def test_every_packet_is_in_a_connection_or_counted_as_skipped(captures: list[str]) -> None:
    for name in captures:
        packets, table = look(name)
        assert int(table[["orig_packets", "resp_packets"]].to_numpy().sum()) + sum(packets.skipped.values()) == (
            packets.packets
        ), name


def test_the_truth_of_our_own_traffic_is_wiresharks(tmp_path: Path) -> None:
    wire = every_kind()
    (tmp_path / "own.pcap").write_bytes(pcap(wire.in_order(), Interface()).data)
    said = summary(tshark(tmp_path / "own.pcap"))
    truth = pd.DataFrame(
        [{column: row.counts[column] for columns in COUNTERS.values() for column in columns} for row in wire.rows]
    )
    assert {name: said[name] for name in COUNTERS} == remarks(truth)
    assert said["streams"] == sum(row.proto == "tcp" for row in wire.rows)


def test_conversations_without_sense_are_what_wireshark_says(tmp_path: Path) -> None:
    """Lost, repeated, swapped, probed, half seen: 3,000 conversations, and every remark on them."""
    file = tmp_path / "chatter.pcap"
    file.write_bytes(pcap(chatter(int(os.environ.get("SNOOPY_FUZZ", "1")), 3000).in_order(), Interface()).data)
    theirs: dict[str, Counter[str]] = defaultdict(Counter)
    for _, _, _, identity, *said in tshark(file):
        theirs[identity].update(name for name, remark in zip(COUNTERS, said, strict=True) if remark)
    packets = read([file.name], tmp_path)
    table = connections(packets, packets.last or 0).set_index("community_id")
    ours = {name: table[list(columns)].sum(axis=1).to_dict() for name, columns in COUNTERS.items()}
    differing = [
        f"{name} of {identity}: {theirs[str(identity)][name]} and not {count}"
        for name, counts in ours.items()
        for identity, count in counts.items()
        if theirs[str(identity)][name] != count
    ]
    assert len(table) == len(theirs) == 3000
    assert differing == []
