"""Check what a campaign's tools are told, before anything is created for it."""

import shutil
import subprocess

from steps.campaign_input import CampaignInput, InvalidInputError
from steps.tools import TOOLS, command, writes_pcap


def check_input(asked: CampaignInput) -> bool:
    """Check a campaign's filter and its tool's arguments; False when the filter could not be checked here.

    Raises:
        InvalidInputError: one of them is wrong.

    """
    if asked.program and writes_pcap(command(TOOLS[asked.program], asked.arguments)):
        raise InvalidInputError(
            f"arguments: {asked.arguments!r}: with arguments, a campaign's tcpdump prints text, so -w is not allowed; "
            "without them it captures"
        )
    return not asked.filter or check(asked.filter)


def check(text: str) -> bool:
    """Compile a filter as tcpdump will for an Ethernet interface; False when there is no tcpdump here to ask.

    Raises:
        InvalidInputError: it is no filter; the message holds libpcap's reason.

    """
    if not shutil.which("tcpdump"):
        return False
    done = subprocess.run(["tcpdump", "-d", "-y", "EN10MB", "--", text], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1].removeprefix("tcpdump: ")
        raise InvalidInputError(f"filter: {text!r}: {reason}; see pcap-filter(7) for what is allowed")
    return True
