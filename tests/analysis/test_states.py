"""conn_state is Zeek's: what each end did, in Zeek's letters (capitals are the originator's), and what that makes."""

from pathlib import Path

import pytest

from analysis.connections import connections
from analysis.packets import read
from tests.analysis.formats import Interface, pcap
from tests.analysis.traffic import ACK, FIN, RST, START, SYN, Tcp, Traffic

FLAGS = {"S": SYN, "H": SYN | ACK, "A": ACK, "D": ACK, "F": FIN | ACK, "R": RST | ACK}
STATES = {
    "S0": ("S", "SSS", "Sa"),
    "S1": ("Sh", "ShA", "ShADdAa", "hA", "hADd"),
    "S2": ("ShAF", "ShAFa", "hAF"),
    "S3": ("ShAf", "ShADdfA"),
    "SF": ("ShAFf", "ShAfFa", "DdFf", "ShAFRf", "ShAFfR", "ShAFfr"),
    "REJ": ("Sr", "Sar", "SSr", "ShRr"),
    "RSTO": ("ShAR", "ShADR", "ShR", "ShAFdR", "DdfR"),
    "RSTR": ("ShAr", "ShADdr", "ShADRr", "ShADrR", "DFr"),
    "RSTOS0": ("SR", "SaR"),
    "RSTRH": ("hr", "Ddr", "dr"),
    "SH": ("SF", "SAF", "SADF", "DF", "DdF"),
    "SHR": ("hf", "Ddf", "hdf"),
    "OTH": ("DdAa", "d", "h", "SAR", "DdR", "Sd"),
}


@pytest.mark.parametrize("state", STATES)
def test_what_the_ends_did_makes_the_state(state: str, tmp_path: Path) -> None:
    wire = Traffic(1)
    for number, letters in enumerate(STATES[state]):
        tcp = Tcp(wire, START + number * 10**9, 80)
        for letter in letters:
            up = letter.isupper()
            again = letter == "S" and tcp.row.packets
            tcp.send(up, FLAGS[letter.upper()], b"data" if letter in "Dd" else b"", seq=tcp.row.isn if again else -1)
    (tmp_path / "states.pcap").write_bytes(pcap(wire.in_order(), Interface()).data)
    packets = read(["states.pcap"], tmp_path)
    table = connections(packets, packets.last or 0).set_index("src")
    found = {letters: table.loc[row.src, "conn_state"] for letters, row in zip(STATES[state], wire.rows, strict=True)}
    assert found == dict.fromkeys(STATES[state], state)
    assert set(table["src_port"]) == {row.src_port for row in wire.rows}
