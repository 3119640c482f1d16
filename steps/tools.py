"""The tools that run in a pod's network namespace, and the arguments that each may be given.

An argument is allowed by name: what would write a file, read one, run a program or change the pod is on no list.
Arguments are split as a shell would quote them, and never reach one.

bpftrace is not confined like this: its programs read files of the node, with cat() or #include, and what the kernel
knows. It runs with the rights of whoever runs podtracer there, and campaigns do not have it.
"""

import shlex
from collections.abc import Sequence
from signal import SIGINT

from steps.arguments import Ethtool, Getopt, Iproute, NotAllowedError, Tool
from steps.campaign_input import InvalidInputError
from steps.fields import INTERFACE

TCPDUMP = Getopt(
    program="tcpdump",
    always=("-Z", "root", "-n"),  # it may not become another user; and looking names up would be the pod's packets
    short="AbB:c:defHi:JKlLnNOpqQ:s:StT:uUvw:xXy:#hD",
    long=(
        "buffer-size=", "count", "direction=", "dont-verify-checksums", "help", "immediate-mode", "interface=",
        "linktype=", "list-data-link-types", "list-interfaces", "list-time-stamp-types", "micro", "nano",
        "no-optimize", "no-promiscuous-mode", "number", "packet-buffered", "snapshot-length=", "time-stamp-precision=",
        "version",
    ),
    values={
        "-w": ("[^/]+", "-, standard output, or a file in this directory"),
        "-i": (INTERFACE.pattern, "an interface of the pod"),
        "--interface": (INTERFACE.pattern, "an interface of the pod"),
    },
)  # fmt: skip
IPERF3 = Getopt(
    program="iperf3",
    always=("--forceflush",),
    short="p:f:i:B:VJdvhs1c:ub:t:n:k:l:P:Rw:M:N46S:L:ZO:T:C:A:X:",
    long=(
        "affinity=", "bandwidth=", "bidir", "bind=", "bind-dev=", "bitrate=", "blockcount=", "bytes=", "client=",
        "congestion=", "connect-timeout=", "cport=", "debug[=]", "dont-fragment", "dscp=", "extra-data=", "flowlabel=",
        "forceflush", "format=", "fq-rate=", "get-server-output", "help", "idle-timeout=", "interval=", "json",
        "length=", "no-delay", "nstreams=", "omit=", "one-off", "pacing-timer=", "parallel=", "port=",
        "rcv-timeout=", "repeating-payload", "reverse", "sctp", "server", "server-bitrate-limit=", "set-mss=",
        "snd-timeout=", "time=", "timestamps[=]", "title=", "tos=", "udp", "udp-counters-64bit", "verbose", "version",
        "version4", "version6", "window=", "xbind=", "zerocopy",
    ),
)  # fmt: skip
IPERF = Getopt(
    program="iperf",
    short="146b:c:def:hi:l:mn:p:rst:uvw:x:y:B:CH:L:M:NP:RS:T:UVXZ:",
    long=(
        "bandwidth=", "bind=", "bounceback", "client=", "compatibility", "connect-only[=]", "connect-retries=",
        "dualtest", "enhanced", "format=", "fq-rate=", "full-duplex", "help", "hide-ips", "histograms[=]",
        "incr-dstip", "incr-dstport", "incr-srcip", "incr-srcport", "interval=", "ipg=", "ipv6_domain",
        "isochronous[=]", "len=", "listenport=", "local-only[=]", "mss=", "near-congestion[=]", "no-connect-sync",
        "no-udp-fin", "nodelay", "num=", "parallel=", "peer-detect", "port=", "print_mss", "reportexclude=",
        "reportstyle=", "reverse", "server", "single_udp", "singleclient", "ssm-host=", "sum-dstip", "sum-only",
        "tcp-congestion=", "tcp-quickack", "tcp-rx-window-clamp=", "tcp-write-prefetch=", "tcp-write-times", "time=",
        "tos=", "tradeoff", "trip-times", "ttl=", "txdelay-time=", "txstart-time=", "udp", "version", "window=",
    ),
)  # fmt: skip
PING = Getopt(
    program="ping",
    end=SIGINT,  # on which it sums up
    short="46aBbCDLnOqRrUVvdhc:e:F:I:i:M:m:N:p:Q:S:s:T:t:W:w:",
    values={"-i": (r"0*[1-9]\d*(\.\d*)?|0*\.0?[1-9]\d*", "0.01 or longer: less is a flood")},
)
TRACEROUTE = Getopt(
    program="traceroute",
    short="46dDeFInrTUVf:g:i:l:m:N:P:p:q:s:t:w:z:",
    long=(
        "back", "dccp", "debug", "dont-fragment", "extensions", "first=", "flowlabel=", "fwmark=", "gateway=", "help",
        "icmp", "interface=", "max-hops=", "mtu", "port=", "protocol=", "queries=", "sendwait=", "sim-queries=",
        "source=", "sport=", "tcp", "tos=", "udp", "version", "wait=",
    ),
)  # fmt: skip
SS = Getopt(
    program="ss",
    through=("stdbuf", "-oL"),  # or -E would keep its lines
    short="046abdEehHilmMnoOprsStTuVvwxZzA:f:",
    long=(
        "all", "bpf", "contexts", "context", "dccp", "events", "extended", "family=", "help", "inet-sockopt", "info",
        "ipv4", "ipv6", "listening", "memory", "mptcp", "no-header", "numeric", "oneline", "options", "packet",
        "processes", "query=", "raw", "resolve", "sctp", "socket=", "summary", "tcp", "threads", "tipc", "tipcinfo",
        "tos", "udp", "unix", "version", "vsock", "xdp",
    ),
)  # fmt: skip
NSTAT = Getopt(
    program="nstat",
    always=("-a", "-s"),  # neither reads nor writes the history that it would keep in a file
    short="ahjpsVz",
    long=("help", "ignore", "json", "noupdate", "pretty", "version", "zeros"),
)
BPFTRACE = Getopt(
    program="bpftrace",
    short="B:e:f:hlqVv",
    long=("help", "info", "no-warnings", "version"),
    words=r"[a-z*]+:.*",  # the probes that -l lists; any other word would name a program's file
    never="writes a file, runs a program or changes the pod",
)
IP = Iproute(
    program="ip",
    options=(
        "-0 -4 -6 -br -brief -c -color -d -details -h -help -human -human-readable -iec -j -json -N -Numeric -o "
        "-oneline -p -pretty -r -resolve -s -statistics -stats -t -timestamp -ts -tshort -V -Version"
    ),
    objects=(
        "a addr address addrlabel help l link maddr maddress monitor mroute mrule n neigh neighbor neighbour netconf "
        "nexthop ntable r ro route ru rule stats tcp_metrics tcpmetrics token tunnel tuntap"
    ),
    verbs="get help list ls lst sh show",
    monitored="address all label link mroute neigh netconf nexthop prefix route rule stats",
)
TC = Iproute(
    program="tc",
    options=(
        "-br -brief -color -d -details -g -graph -h -help -iec -j -json -N -Numeric -o -oneline -p -pretty -r -raw "
        "-s -statistics -stats -t -timestamp -ts -tshort -V -Version"
    ),
    objects="action actions chain class filter help monitor qdisc",
    verbs="help list ls lst sh show",  # get would load the program of a filter that is one
)
ETHTOOL = Ethtool(
    program="ethtool",
    flags="--json -I --include-statistics",
    options=(
        "-a -c -g -h -i -k -l -m -n -P -S -T -u -x --driver --help --module-info --phy-statistics --show-channels "
        "--show-coalesce --show-eee --show-features --show-fec --show-module --show-nfc --show-ntuple --show-offload "
        "--show-pause --show-permaddr --show-priv-flags --show-ring --show-rxfh --show-rxfh-indir "
        "--show-time-stamping --show-tunnels --statistics --version"
    ),
)
TOOLS: dict[str, Tool] = {
    tool.program: tool
    for tool in (TCPDUMP, IPERF3, IPERF, TC, IP, SS, PING, TRACEROUTE, NSTAT, ETHTOOL, BPFTRACE)
}  # fmt: skip


def command(tool: Tool, arguments: str) -> list[str]:
    """Give the command line of a tool from its arguments as a person types them; what it writes, it writes at once.

    All of it goes to standard output, whatever file tcpdump's -w names.

    Raises:
        InvalidInputError: an unbalanced quote, or an argument that is not allowed.

    """
    words, options = _read(tool, arguments)
    if tool is not TCPDUMP:
        return [tool.program, *tool.always, *words]
    if options.get("-w", "-") != "-":  # of two, tcpdump takes the last
        end = words.index("--") if "--" in words else len(words)
        words[end:end] = ["-w", "-"]
    return [tool.program, *tool.always, "-U" if "-w" in options else "-l", *words]


def file_named(tool: Tool, arguments: str) -> str:
    """Give the file that tcpdump's -w names, in the working directory; empty for none. Raises as `command` does."""
    _, options = _read(tool, arguments)
    name = options.get("-w", "-") if tool is TCPDUMP else "-"
    return "" if name == "-" else name


def _read(tool: Tool, arguments: str) -> tuple[list[str], dict[str, str]]:
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise InvalidInputError(f"arguments: {arguments!r}: {error}: they are quoted as in a shell") from None
    try:
        return words, tool.read(words)
    except NotAllowedError as error:
        raise InvalidInputError(
            f"arguments: {arguments!r}: {error}; {tool.program} may only be told what never {tool.never}"
        ) from None


def writes_pcap(command: Sequence[str]) -> bool:
    """Tell whether a command line that `command` gave writes packets, not text."""
    program, *words = command
    return program == TCPDUMP.program and "-w" in TCPDUMP.read(words[len(TCPDUMP.always) :])
