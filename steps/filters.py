"""Check a capture filter before anything is created for it."""

import shutil
import subprocess

from steps.plan import InvalidInputError


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
