"""Check what a campaign's tools are told, before anything is created for it."""

import shutil
import subprocess
from functools import lru_cache

from steps.campaign_input import CampaignInput, InvalidInputError
from steps.tools import TOOLS, command, writes_pcap

#: How long a filter may take to be compiled, in seconds.
PATIENCE = 5
#: How libpcap's complaint begins where a name could not be resolved.
UNRESOLVED = ("unknown host", "unknown ether host", "unknown network")


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
    """Compile a filter as tcpdump will for an Ethernet interface; False when that cannot be known here.

    That is so without tcpdump, and of a host's name: what resolves it where the packets are may not do so here.

    Raises:
        InvalidInputError: it is no filter; the message holds libpcap's reason.

    """
    if not shutil.which("tcpdump"):
        return False
    reason = _complaint(text)
    if reason.startswith(UNRESOLVED):
        return False
    if reason:
        raise InvalidInputError(f"filter: {text!r}: {reason}; see pcap-filter(7) for what is allowed")
    return True


@lru_cache(maxsize=1024)
def _complaint(text: str) -> str:
    command = ["tcpdump", "-d", "-y", "EN10MB", "--", text]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:  # who would resolve a name does not answer
        return UNRESOLVED[0]
    return done.stderr.strip().splitlines()[-1].removeprefix("tcpdump: ") if done.returncode else ""
