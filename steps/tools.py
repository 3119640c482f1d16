"""The tools that run in a pod's network namespace, and the options that each may be given.

An option is allowed by name; whatever would write a file, read one or run a program is not on the list. Arguments are
split as a shell would quote them, and never reach one.
"""

import getopt
import shlex
from dataclasses import dataclass

from steps.campaign_input import InvalidInputError


@dataclass(frozen=True)
class Tool:
    """A program, the arguments it always gets, and the options it may get, in getopt's notation."""

    program: str
    always: tuple[str, ...]
    short: str
    long: tuple[str, ...]


TCPDUMP = Tool(
    "tcpdump",
    ("-Z", "root"),  # without CAP_SETUID it cannot become another user, and would end
    "AbB:c:defHi:IjJKlLM:nNOpqQ:s:StT:uUvw:xXy:#",
    (
        "buffer-size=", "count", "direction=", "dont-verify-checksums", "immediate-mode", "interface=",
        "linktype=", "list-data-link-types", "list-interfaces", "micro", "monitor-mode", "nano",
        "no-optimize", "no-promiscuous-mode", "number", "packet-buffered", "print", "snapshot-length=",
        "time-stamp-precision=", "version",
    ),
)  # fmt: skip
IPERF3 = Tool(
    "iperf3",
    (),
    "p:f:i:B:VJdvhs1c:ub:t:n:k:l:P:Rw:M:N46S:L:ZO:T:C:A:",
    (
        "affinity=", "bandwidth=", "bidir", "bind=", "bind-dev=", "bitrate=", "blockcount=", "bytes=", "client=",
        "congestion=", "connect-timeout=", "cport=", "debug", "dont-fragment", "dscp=", "extra-data=", "flowlabel=",
        "forceflush", "format=", "fq-rate=", "get-server-output", "help", "idle-timeout=", "interval=", "json",
        "length=", "no-delay", "nstreams=", "omit=", "one-off", "pacing-timer=", "parallel=", "port=",
        "rcv-timeout=", "repeating-payload", "reverse", "sctp", "server", "server-bitrate-limit=", "set-mss=",
        "snd-timeout=", "time=", "timestamps", "title=", "tos=", "udp", "udp-counters-64bit", "verbose", "version",
        "version4", "version6", "window=", "xbind=", "zerocopy",
    ),
)  # fmt: skip
TOOLS = {tool.program: tool for tool in (TCPDUMP, IPERF3)}


def command(tool: Tool, arguments: str) -> list[str]:
    """Give the command line of a tool from its arguments as a person types them.

    Raises:
        InvalidInputError: an unbalanced quote, or an option that is not allowed.

    """
    try:
        words = shlex.split(arguments)
        options, _ = getopt.gnu_getopt(words, tool.short, tool.long)
    except (ValueError, getopt.GetoptError) as error:
        raise InvalidInputError(
            f"arguments: {arguments!r}: {error}; allowed are those of {tool.program} that neither write nor read "
            "files nor run programs"
        ) from None
    if any(name == "-w" and value != "-" for name, value in options):
        raise InvalidInputError(f"arguments: {arguments!r}: -w may only be '-', standard output; name a file with -f")
    return [tool.program, *tool.always, *words]
