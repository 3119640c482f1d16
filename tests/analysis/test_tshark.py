"""What the installed Wireshark must know: our fields, and names for their values, for which it is asked once."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from analysis import tshark
from analysis.conversation import LAYERS, PREFERENCES, SUMMARY
from analysis.dissect import FIELDS, OPTIONS, dissect
from analysis.packets import read
from analysis.tls import ALERT, CIPHER
from tests.analysis.dialogue import Dialogue, client_hello, pcap, replace_tshark

REFUSAL = bytes.fromhex("15030300020228")  # fatal: handshake_failure


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Put a tshark before the real one that also does something else (shell) where it is asked for names."""

    def put(script: str) -> Path:
        asked = tmp_path / "asked"
        replace_tshark(tmp_path, monkeypatch, f'case "$*" in *values*) echo >>{asked}; {script};; esac; exec REAL "$@"')
        return asked

    tshark._value_names.cache_clear()
    yield put
    tshark._value_names.cache_clear()


def test_every_field_is_listed() -> None:
    listed = subprocess.run(["tshark", "-G", "fields"], capture_output=True, text=True, check=True).stdout
    known = {line.split("\t")[2] for line in listed.splitlines() if line.startswith("F\t")}
    columns = {name for name in SUMMARY if name.startswith("_ws.col.")}  # 4.0 lists none
    assert columns
    assert {*FIELDS, *SUMMARY} - columns - known == set()
    as_pyshark_writes = {name.replace(".", "_") for name in known}
    wanted = {f"{layer}_{name}" for layer, names in LAYERS.items() for name in names}
    assert wanted - as_pyshark_writes == set()


@pytest.mark.parametrize(("names", "options"), [(FIELDS, OPTIONS), (SUMMARY, PREFERENCES)], ids=["tables", "lines"])
def test_every_field_column_and_preference_is_accepted(names: Any, options: Any, tmp_path: Path) -> None:
    empty = pcap(tmp_path / "empty.pcap", [])
    assert list(tshark.fields(empty, names, options=options)) == []
    with pytest.raises(tshark.StoppedError):
        list(tshark.fields(empty, [*names, "tls.no_such_field"], options=options))


def test_names_of_values() -> None:
    found = tshark.value_names(CIPHER, ALERT, "tls.no_such_field")
    assert (found[CIPHER][0x1301], found[CIPHER][0xC02F]) == (
        "TLS_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    )
    assert (found[ALERT][0], found[ALERT][40]) == ("Close Notify", "Handshake Failure")
    assert found["tls.no_such_field"] == {}


def test_several_threads_ask_once(program: Any) -> None:
    asked = program("sleep 0.3")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: tshark.value_names(ALERT), range(4)))
    assert [names[ALERT][40] for names in found] == ["Handshake Failure"] * 4
    assert asked.read_text() == "\n"


@pytest.mark.parametrize(("answer", "times"), [(b"", 0), (REFUSAL, 1)], ids=["no number", "an alert"])
def test_only_numbers_are_asked_for(wire: Any, tmp_path: Path, program: Any, answer: bytes, times: int) -> None:
    asked = program(":")
    dialogue = Dialogue(wire, 443)
    dialogue.ask(client_hello("shop.example.com"))  # offers ciphers, which are not shown
    dialogue.answer(answer)
    pcap(tmp_path / "a.pcap", wire.packets)
    found = dissect(read(["a.pcap"], tmp_path, select=tmp_path / "selected.pcap"))
    assert list(found.tls["kind"]) == ["client_hello", *["alert"] * times]
    assert (asked.read_text() if asked.exists() else "") == "\n" * times


def test_names_that_do_not_come(wire: Any, tmp_path: Path, program: Any) -> None:
    program("exit 3")
    dialogue = Dialogue(wire, 443)
    dialogue.ask(client_hello("shop.example.com"))
    dialogue.answer(REFUSAL)
    pcap(tmp_path / "a.pcap", wire.packets)
    found = dissect(read(["a.pcap"], tmp_path, select=tmp_path / "selected.pcap"))
    assert found.problems == ("not all of its DNS, TLS and HTTP messages could be read: tshark ended with 3",)
    assert list(found.tls["kind"]) == ["client_hello"]
