"""Every way to write packets: formats, byte orders, clocks, link types, tunnels and snaplens, and traffic to write."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from tests.analysis.formats import LINKS, MICROSECONDS, OUTER, TUNNELS, VERSIONS, Clock, File, Interface, pcap, pcapng
from tests.analysis.scenes import every_kind
from tests.analysis.traffic import SECOND, START, Packet, Traffic

OUTER6 = ("2001:db8::1", "2001:db8::2")


class Variant(NamedTuple):
    """A way to write packets, the versions of IP it can carry, and what columns say of its tunnel or tag."""

    write: Callable[[Sequence[Packet]], File]
    versions: tuple[int, ...] = (4, 6)
    columns: tuple[tuple[str, object], ...] = ()


def plain(order: str = "<", *, modified: bool = False, **options: Any) -> Callable[[Sequence[Packet]], File]:
    return lambda packets: pcap(packets, Interface(**options), order, modified=modified)


def sections(*several: tuple[str, Sequence[Interface]], kinds: Sequence[int] = (6,)) -> Callable[..., File]:
    return lambda packets: pcapng(packets, *several, kinds=kinds)


def tunnel(name: str, **options: Any) -> Variant:
    kind, number, _ = TUNNELS[name]
    src, dst = options.get("outer", OUTER)
    columns = {"tunnel": kind, "tunnel_id": number, "outer_src": src, "outer_dst": dst}
    return Variant(plain(tunnel=name, **options), VERSIONS.get(name, (4, 6)), tuple(columns.items()))


VARIANTS = {
    "pcap": Variant(plain()),
    "pcap, big-endian": Variant(plain(">")),
    "pcap of microseconds": Variant(plain(clock=MICROSECONDS)),
    "pcap of microseconds, big-endian": Variant(plain(">", clock=MICROSECONDS)),
    "modified pcap": Variant(plain(clock=MICROSECONDS, modified=True)),
    "modified pcap, big-endian": Variant(plain(">", clock=MICROSECONDS, modified=True)),
    **{f"link {link}": Variant(plain(link=link), VERSIONS.get(link, (4, 6))) for link in LINKS},
    **{f"link {link}, big-endian": Variant(plain(">", link=link)) for link in ("NULL", "LOOP", "SLL")},
    "link 802.1Q": Variant(plain(link="802.1Q"), columns=(("vlan", 7),)),
    "link QinQ": Variant(plain(link="QinQ"), columns=(("vlan", 9),)),
    **{f"tunnel {name}": tunnel(name) for name in TUNNELS},
    "tunnel VXLAN over IPv6": tunnel("VXLAN", outer=OUTER6),
    "tunnel GRE over IPv6": tunnel("GRE", outer=OUTER6),
    "tunnel Geneve, cooked": tunnel("Geneve", link="SLL2"),
    "tunnel VXLAN, cut": tunnel("VXLAN", snaplen=160),
    "cut by a snaplen": Variant(plain(snaplen=118)),
    "cut by a snaplen, cooked": Variant(plain(snaplen=118, link="SLL2")),
    "pcapng": Variant(sections(("<", [Interface()]))),
    "pcapng, big-endian": Variant(sections((">", [Interface()]))),
    "pcapng of microseconds": Variant(sections(("<", [Interface(clock=MICROSECONDS)]))),
    "pcapng, obsolete blocks": Variant(sections(("<", [Interface()]), (">", [Interface()]), kinds=(6, 2))),
    "pcapng, cut by a snaplen": Variant(sections(("<", [Interface(snaplen=113)]))),
    "pcapng of milliseconds": Variant(sections((">", [Interface(clock=Clock(10**3))]))),
    "pcapng of many clocks": Variant(
        sections(
            ("<", [Interface(clock=clock) for clock in (Clock(10**7), Clock(2**20), Clock(2**33, 5))]),
            (">", [Interface(clock=clock) for clock in (Clock(10**12, START // SECOND - 9), Clock(10**9, -3))]),
            ("<", [Interface(clock=MICROSECONDS)]),
        )
    ),
    "pcapng of many link types": Variant(
        sections(
            ("<", [Interface(link) for link in ("IPV4", "IPV6", "SLL", "ethernet")]),
            (">", [Interface(link) for link in ("RAW", "NULL", "SLL2", "LOOP")]),
        )
    ),
}


@cache
def traffic(versions: tuple[int, ...] = (4, 6)) -> Traffic:
    return every_kind(1, versions)
