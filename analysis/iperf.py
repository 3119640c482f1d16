"""iperf3's own results, from its JSON: one, or of a server one per test."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from analysis.captures import IPERF, Capture

if TYPE_CHECKING:
    from analysis.names import Names  # with pandas, for which no capture waits


def results(capture: Capture, names: "Names") -> Iterator[dict[str, Any]]:
    """Give report.json's entries for one iperf3 run; `error` says what iperf3 said when it measured nothing.

    `bits_per_second` is what arrived (the sender's figure where the receiver gave none).
    """
    about: dict[str, Any] = {"capture": capture.name, "target": capture.target_name}
    measured = False
    try:
        text = (capture.root / capture.name / IPERF).read_text(errors="replace")
        outputs = list(documents(text))
        if not outputs:
            yield about | {"error": f"{IPERF} holds no result"}
        for output in outputs:
            if output.get("intervals"):
                yield about | _measured(output, names)
                measured = True
            elif not measured:  # a server's last words are an error: it was ended
                yield about | {"error": str(output.get("error") or "it measured nothing")}
    except FileNotFoundError:
        yield about | {"error": f"{IPERF} is not there"}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        yield about | {"error": f"{IPERF} is not iperf3's JSON: {error!r}"}


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Give the JSON objects that iperf3 wrote one after the other, up to what is none: it may have been cut off."""
    decoder, rest = json.JSONDecoder(), text.lstrip()
    with suppress(ValueError):
        while rest:
            document, end = decoder.raw_decode(rest)
            if not isinstance(document, dict):
                return
            yield document
            rest = rest[end:].lstrip()


def _measured(output: dict[str, Any], names: "Names") -> dict[str, Any]:
    socket, end = output["start"]["connected"][0], output["end"]
    client, server = ("remote", "local") if "accepted_connection" in output["start"] else ("local", "remote")
    sent = end.get("sum_sent") or end["sum"]
    received = end.get("sum_received") or sent
    return {
        "client": names.party(socket[f"{client}_host"]).json(),
        "server": names.party(socket[f"{server}_host"]).json(int(socket[f"{server}_port"])),
        "protocol": output["start"]["test_start"]["protocol"].lower(),
        "interval_s": round(float(received["seconds"]), 6),
        "bits_per_second": round(float(received.get("bits_per_second") or sent["bits_per_second"])),
        **({"retransmits": int(sent["retransmits"])} if "retransmits" in sent else {}),
        "intervals": [
            {"start_s": round(float(step["sum"]["start"]), 6), "bits_per_second": round(step["sum"]["bits_per_second"])}
            for step in output.get("intervals", ())
        ],
    }
