"""Community ID v1: one name for a connection that Zeek, Suricata, Wireshark and snoopy share.

Specification: https://github.com/corelight/community-id-spec
"""

from binascii import b2a_base64
from hashlib import sha1

import numpy as np
import numpy.typing as npt

ICMP = (1, 58)
TWO_WAY = {1: (0, 8, 9, 10, 13, 14, 15, 16, 17, 18), 58: (128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145)}

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.integer]


def community_ids(
    low: Bytes, low_port: Numbers, high: Bytes, high_port: Numbers, protocol: Numbers
) -> npt.NDArray[np.bytes_]:
    """Give the Community ID, with seed 0, of each connection.

    Args:
        low: addresses, a row of 4 or of 16 bytes each; those of the ends that are smaller, by address and then by port
            (of ICMP messages that have no answer: those of their senders).
        low_port: their ports; of ICMP the type, and as the other's port the type of its answer, or the code.
        high: the other ends.
        high_port: their ports.
        protocol: the protocols' numbers.

    """
    rows = np.zeros((len(low), 2 + 2 * low.shape[1] + 6), np.uint8)  # a seed of two zero bytes, and a byte of padding
    width = low.shape[1]
    rows[:, 2 : 2 + width], rows[:, 2 + width : 2 + 2 * width] = low, high
    rows[:, -6] = protocol
    rows[:, -4:-2] = low_port.astype(">u2").view(np.uint8).reshape(-1, 2)
    rows[:, -2:] = high_port.astype(">u2").view(np.uint8).reshape(-1, 2)
    flows, size = rows.tobytes(), rows.shape[1]
    digests = [sha1(flows[at : at + size], usedforsecurity=False).digest() for at in range(0, len(flows), size)]
    # with a zero byte after each digest of 20 bytes, all are encoded at once; the character that it adds is the padding
    text = np.frombuffer(b2a_base64(b"".join(digest + b"\0" for digest in digests), newline=False), np.uint8)
    found = np.empty((len(low), 30), np.uint8)
    found[:, :2], found[:, 2:], found[:, -1] = (ord("1"), ord(":")), text.reshape(-1, 28), ord("=")
    return found.view("S30").ravel()
