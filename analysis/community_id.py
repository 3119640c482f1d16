"""Community ID v1: one name for a connection that Zeek, Suricata, Wireshark and snoopy share.

Specification: https://github.com/corelight/community-id-spec
"""

import base64
import hashlib
import ipaddress
import struct

SEED = bytes(2)
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


def community_id(proto: str, src: str, src_port: int, dst: str, dst_port: int) -> str:
    """Give the Community ID, with seed 0, of a TCP, UDP or SCTP connection: the same one for both directions."""
    (low, low_port), (high, high_port) = sorted(
        (ipaddress.ip_address(address).packed, struct.pack("!H", port))
        for address, port in ((src, src_port), (dst, dst_port))
    )
    flow = low + high + struct.pack("!BB", PROTOCOLS[proto], 0) + low_port + high_port
    digest = hashlib.sha1(SEED + flow, usedforsecurity=False).digest()
    return "1:" + base64.b64encode(digest).decode()
