"""tcpdump for a campaign: its command line, and what it says on standard error."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from steps.campaign_input import CampaignInput
from steps.tools import TCPDUMP

#: tcpdump gets packets from the kernel up to a second late (its read timeout), and would end without them, in seconds.
FLUSH = 1.2


def command(asked: CampaignInput, interface: str) -> list[str]:
    """Give the command line that writes a pcap with nanoseconds to standard output, packet by packet.

    The filter is one argument after `--`: whatever it holds, it is read as a filter.
    """
    return [
        TCPDUMP.program, *TCPDUMP.always, "-U", "-w", "-", "-i", interface,
        "--time-stamp-precision=nano", "-s", str(asked.snaplen), "-c", str(asked.packets),
        "-B", str(asked.buffer // 1024), "--", asked.filter,
    ]  # fmt: skip


def printing(file: Path) -> list[str]:
    """Give the command line that prints a capture's packets, without asking anybody for names."""
    return [TCPDUMP.program, *TCPDUMP.always, "-r", str(file)]


@dataclass
class Messages:
    """What tcpdump has said so far."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> bool:
        """Keep a line; tell whether it says that tcpdump now listens."""
        self.lines.append(line.strip())
        return "listening on" in line

    def dropped(self, by: str) -> int | None:
        """Give the packets dropped by the `kernel` or the `interface`; None when tcpdump did not get to say it."""
        counts = [re.match(rf"(\d+) packets? dropped by {by}", line) for line in self.lines]
        found = [int(match[1]) for match in counts if match]
        captured = any(re.match(r"\d+ packets? captured", line) for line in self.lines)
        # tcpdump says nothing of an interface that dropped nothing.
        return found[0] if found else 0 if captured and by == "interface" else None

    def reason(self) -> str:
        """Give what tcpdump complained of, or nsenter before it."""
        programs = ("tcpdump: ", "nsenter: ")
        complaints = [line for line in self.lines if line.startswith(programs) and "listening on" not in line]
        return complaints[-1] if complaints else "tcpdump ended and did not say why"
