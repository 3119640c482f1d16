"""What a tool may be told: nothing that writes or reads files, runs programs or changes pods, however it is spelt."""

import getopt
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps import filters
from steps.arguments import Getopt, NotAllowedError, Tool
from steps.campaign_input import InvalidInputError, campaign_input
from steps.tools import BPFTRACE, IPERF3, SS, TCPDUMP, TOOLS, command, file_named

REFUSED = {
    "tcpdump": [
        "-i nfqueue",
        "-ni nfqueue:3 -c 5",
        "-i 5",
        "--interface=nflog:1",
        "--interface usbmon0",
        "-i dbus-system",
        "-I",
        "-j adapter",
        "-w - --print",
        "-z id",
        "-nz id -i eth0",
        "tcp port 80 -z id",
        "-zid",
        "-w /etc/passwd",
        "-w - -w /etc/passwd",
        "-w /etc/passwd -w -",
        "-w/etc/passwd",
        "-Uw /etc/passwd",
        "-Uw/etc/passwd",
        "-w ''",
        "-w",
        "-r /etc/passwd",
        "-r-",
        "-F /etc/passwd",
        "-V files",
        "-E file /etc/passwd",
        "-G 1 -W 1 -w -",
        "-C 1 -w -",
        "-Z nobody",
        "--relinquish-privileges=nobody",
        "--relinquish=nobody",
        "-m module",
        "-i -w/etc/passwd",
        "-i eth0 -T -w/etc/passwd",
        "--interface -z",
        "--wri=x",
        "---",
        "-:",
    ],
    "iperf3": [
        "-c host --logfile /etc/passwd",
        "-c host --logf=/etc/passwd",
        "-c host --log /etc/passwd",
        "-c host -F /etc/passwd",
        "-c host -RF/etc/passwd",
        "--file=/etc/passwd",
        "--fil=/etc/passwd",
        "-sD",
        "-s --daemon",
        "-s --dae",
        "-s -I /run/pid",
        "-s --pidfile=/run/pid",
        "-s --rsa-private-key-path /k --authorized-users-path /u",
        "-c host --username me --rsa-public-key-path /k",
        "-c host --json=x",
        "-c host -t -F/etc/passwd",
    ],
    "iperf": [
        "-c host -o /etc/passwd",
        "-c host -eo/etc/passwd",
        "--output /etc/passwd",
        "--out=/etc/passwd",
        "-c host -F /etc/passwd",
        "--fileinput=/etc/passwd",
        "-c host -I",
        "--stdin",
        "-s -D",
        "-sD",
        "--daemon",
        "--tap-dev=tap0",
        "-z",
        "--realtime",
        "-c host -l -o/etc/passwd",
    ],
    "ping": [
        "-f 10.0.0.1",
        "-nf 10.0.0.1",
        "-A 10.0.0.1",
        "-l 1000 10.0.0.1",
        "-nl1000 10.0.0.1",
        "-i 0 10.0.0.1",
        "-i 0.0 10.0.0.1",
        "-i0.001 10.0.0.1",
        "-i .009 10.0.0.1",
        "-i 1e-9 10.0.0.1",
        "-i -1 10.0.0.1",
        "-c -f 10.0.0.1",
        "10.0.0.1 -f",
    ],
    "traceroute": [
        "-A host",
        "-nA host",
        "--as-path-lookups host",
        "-M /tmp/evil host",
        "--module=evil host",
        "-UL host",
        "-O help host",
        "--options=help",
        "--fir=2 host",
    ],
    "ss": [
        "-K dst 10.0.0.1",
        "-tK",
        "--kill",
        "--ki",
        "-D /tmp/dump",
        "-tD/tmp/dump",
        "--diag=/tmp/dump",
        "-F /etc/passwd",
        "-tF/etc/passwd",
        "--filter=/etc/passwd",
        "-N other",
        "-tNother",
        "--net=other",
        "--ne other",
        "-A -K",
    ],
    "nstat": [
        "-d 1",
        "-zd1",
        "--scan=1",
        "--sc 1",
        "-t 1",
        "--interval=1",
        "-n",
        "-zn",
        "--nooutput",
        "-r",
        "-rs",
        "--reset",
    ],
    "bpftrace": [
        "/etc/passwd",
        "program.bt",
        "-",
        "-- program.bt",
        "--unsafe -e 'BEGIN { system(\"id\") }'",
        "--unsa -e x",
        "-e x -o /etc/passwd",
        "-qo/etc/passwd -e x",
        "-c id -e x",
        "-cid -e x",
        "-e x -p 1",
        "-I /etc -e x",
        "--include /etc/passwd -e x",
        "--emit-elf /etc/passwd -e x",
        "--emit-llvm=x -e x",
        "--usdt-file-activation -e x",
        "-d -e x",
        "-k -e x",
        "-l program.bt",
        "-B -o/etc/passwd -e x",
    ],
    "ip": [
        "link s eth0 down",
        "link set eth0 down",
        "link se eth0 down",
        "-s link set eth0 down",
        "link add dummy0 type dummy",
        "l d eth0",
        "a a 10.0.0.1/8 dev eth0",
        "addr flush dev eth0",
        "addr f dev eth0",
        "addr save",
        "addr restore",
        "addr showdump",
        "route add default via 10.0.0.1",
        "route del default",
        "route r default",
        "route flush cache",
        "rule add from all",
        "neigh replace 10.0.0.1 dev eth0",
        "nexthop flush",
        "tuntap add mode tap",
        "tunnel prl",
        "netns exec other id",
        "netns",
        "net",
        "vrf exec red id",
        "vrf",
        "xfrm state",
        "x s",
        "macsec show",
        "mac",
        "l2tp show session",
        "-n other link",
        "-netns other link",
        "-net other link",
        "-b /etc/passwd",
        "-batch /etc/passwd",
        "--batch /etc/passwd",
        "-ba /etc/passwd",
        "-force -batch -",
        "-all netns exec id",
        "-a netns",
        "-l 1 addr",
        "-rc 1 addr",
        "-f inet addr",
        "-- link set eth0 down",
        "monitor file /etc/passwd",
        "monitor f /etc/passwd",
        "monitor all-nsid",
        "monitor link dev file",
        "mon file /etc/passwd",
        "''",
    ],
    "tc": [
        "qdisc add dev eth0 root netem loss 50%",
        "qdisc a dev eth0 root netem",
        "qdisc del dev eth0 root",
        "qdisc replace dev eth0 root pfifo",
        "q d dev eth0 root",
        "q show",
        "class change dev eth0",
        "filter add dev eth0 bpf object-file /tmp/x.o",
        "filter get dev eth0 parent 1: protocol ip pref 1 bpf object-file /tmp/x.o",
        "action add action drop",
        "action flush action gact",
        "exec bpf import /tmp/x",
        "e",
        "-b /etc/passwd",
        "-batch /etc/passwd",
        "-force -b -",
        "-n other qdisc",
        "-netns other qdisc",
        "-cf /etc/passwd qdisc",
        "-c /etc/passwd qdisc",
        "-conf /etc/passwd qdisc",
        "-nm qdisc",
        "monitor file /etc/passwd",
        "monitor f /etc/passwd",
        "-s monitor file /etc/passwd",
    ],
    "ethtool": [
        "-s eth0 speed 10",
        "--change eth0",
        "-A eth0 rx off",
        "-C eth0",
        "-G eth0",
        "-K eth0 tso off",
        "--offload eth0",
        "--features eth0",
        "-d eth0 file /etc/passwd",
        "-e eth0",
        "-E eth0 value 1",
        "-r eth0",
        "-p eth0",
        "-t eth0 offline",
        "-N eth0 delete 1",
        "-U eth0 delete 1",
        "-X eth0 default",
        "-f eth0 /etc/passwd",
        "-w eth0 data /etc/passwd",
        "-W eth0 1",
        "-L eth0",
        "--set-priv-flags eth0",
        "--reset eth0 all",
        "--cable-test eth0",
        "-Q eth0 --coalesce",
        "--json -K eth0 tso off",
        "eth0 -K",
        "-S eth0 -K",
        "-k -K eth0 tso off",
        "-n eth0 rx-flow-hash tcp4",
        "-S eth0 --groups rmon",
        "--debug 1 eth0",
        "--monitor",
        "-Sk eth0",
    ],
}
ALLOWED = {
    "tcpdump": [
        "",
        "-i eth0 -U -w -",
        "-w-",
        "-Uw -",
        "-Uw-",
        "-nn -c 10 'tcp[tcpflags] & tcp-syn != 0'",
        "-i lo '; id'",
        "-ni eth0 -- -z",
        "--interface=eth0 --count",
        "--interface eth0 --immediate-mode",
        "-y EN10MB -Q in -s0 -vvv -XX",
        "tcp port 80 -n",
    ],
    "iperf3": [
        "-c 10.0.0.7 -t 5 --bidir",
        "-s -1 -p 5202",
        "-c fd00::7 -u -b 10M --debug --debug=4 --timestamps --timestamps=%H",
        "-c 10.0.0.7 -O -1",
        "-c 10.0.0.7 --title=-x",
    ],
    "iperf": ["-s -i 1", "-c 10.0.0.7 -e -i1 -t 2 -P 4", "-c 10.0.0.7 --trip-times --connect-only=1", "-uc 10.0.0.7"],
    "ping": [
        "10.0.0.7",
        "-c 3 -i 0.2 10.0.0.7",
        "-nc3 -i.01 10.0.0.7",
        "-i 1. 10.0.0.7",
        "-i 00.09 x",
        "10.0.0.7 -c 1 -M do -s 1472 -W 1",
    ],
    "traceroute": ["-n 10.0.0.7", "-T -p 443 10.0.0.7 60", "--tcp --port=443 --mtu host", "-q1 -m 3 host"],
    "ss": [
        "",
        "-s",
        "-tanp",
        "-tin state established '( dport = :443 or sport = :443 )'",
        "--tcp --info",
        "-E",
        "-A inet",
        "-f inet6",
    ],
    "nstat": ["", "-z", "-azs", "-j Tcp*", "--json --zeros"],
    "bpftrace": [
        "-e 'kprobe:tcp_retransmit_skb { @[comm] = count(); }'",
        "-l",
        "-l 'tracepoint:tcp:*'",
        "-l '*:*tcp*'",
        "-q -f json -B none -e 'BEGIN { exit() }'",
        "--version",
    ],
    "ip": [
        "",
        "addr",
        "a",
        "-j -d link show eth0",
        "-br addr",
        "-4 route get 10.0.0.7",
        "r",
        "route show table all",
        "-s -s link ls",
        "neigh show",
        "rule list",
        "monitor",
        "-ts monitor link route label",
        "maddr sh",
        "link help",
        "-V",
    ],
    "tc": [
        "-s qdisc show dev eth0",
        "qdisc",
        "-j -s class ls dev eth0",
        "filter show dev eth0 ingress",
        "action list action gact",
        "monitor",
        "-ts monitor",
        "chain show dev eth0",
    ],
    "ethtool": ["eth0", "-S eth0", "--json -k eth0", "-I -a eth0", "--show-features eth0", "-i eth0", "--version"],
}


def pairs(of: dict[str, list[str]]) -> list[object]:
    return [pytest.param(TOOLS[name], text, id=f"{name} {text}") for name, texts in of.items() for text in texts]


def test_the_tools() -> None:
    assert TOOLS.keys() == REFUSED.keys() == ALLOWED.keys()


@pytest.mark.parametrize(("tool", "arguments"), pairs(REFUSED))
def test_what_is_dangerous_is_refused_in_one_sentence(tool: Tool, arguments: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        command(tool, arguments)
    assert str(error.value).startswith(f"arguments: {arguments!r}: ")
    reads = "" if tool is BPFTRACE else "or reads "  # its programs may, with cat() or #include
    assert str(error.value).endswith(
        f"; {tool.program} may only be told what never writes {reads}a file, runs a program or changes the pod"
    )


@pytest.mark.parametrize(("tool", "arguments"), pairs(ALLOWED))
def test_what_is_harmless_is_passed_on_as_a_shell_would_quote_it(tool: Tool, arguments: str) -> None:
    program, *words = command(tool, arguments)
    shell = ["sh", "-fc", f"for word in {arguments}; do printf '%s\\0' \"$word\"; done"]
    quoted = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    assert program == tool.program
    assert words[len(words) - len(quoted) :] == quoted


def test_an_unbalanced_quote() -> None:
    with pytest.raises(InvalidInputError, match=r"^arguments: \"'unbalanced\": No closing quotation: they are quoted"):
        command(TCPDUMP, "'unbalanced")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "-w ../x",
            "option -w may only be -, standard output, or a file in this directory, and '../x' is not",
        ),
        ("-i", "option -i needs a value"),
        ("-i -n", "option -i needs a value, and '-n' looks like an option"),
        ("--count=3", "option --count takes no value"),
        ("--interfac=eth0", "option --interfac is not allowed"),
    ],
)
def test_what_is_wrong_is_said(arguments: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(f"arguments: {arguments!r}: {sentence}; ")):
        command(TCPDUMP, arguments)


def test_what_writes_into_a_pipe_late_is_told_to_write_at_once() -> None:
    assert command(TCPDUMP, "-e")[1:] == ["-Z", "root", "-n", "-l", "-e"]
    assert command(TCPDUMP, "-nw -")[1:] == ["-Z", "root", "-n", "-U", "-nw", "-"]
    assert command(IPERF3, "-s")[1:] == ["--forceflush", "-s"]


@pytest.mark.parametrize("typed", ["-nw out.pcap", "-w - -w out.pcap", "-wout.pcap"])
def test_a_file_that_tcpdump_is_told_to_write_is_podtracers_to_write(typed: str) -> None:
    assert file_named(TCPDUMP, f"{typed} -- tcp") == "out.pcap"
    assert command(TCPDUMP, f"{typed} -- tcp")[-4:] == ["-w", "-", "--", "tcp"]
    assert command(TCPDUMP, f"{typed} tcp")[-3:] == ["tcp", "-w", "-"]
    assert not file_named(TCPDUMP, "-w - tcp")
    assert not file_named(SS, "-w")  # raw sockets


#: Where a program says which options it has, and which of them take a value: in getopt's notation, which holds this.
SPELT = {
    "tcpdump": "aAb", "iperf": "146b:", "ping": "aABc:", "ss": "dhal", "nstat": r"h\?vVz", "bpftrace": "bB:f:e:hl",
}  # fmt: skip


#: What those say elsewhere: iperf 3.12 in its library's iperf_api.c, traceroute 2.1.2 in a table of traceroute.c.
SHORT = {
    "iperf3": "p:f:i:D1VJvsc:ub:t:n:k:l:P:Rw:B:M:N46S:L:ZO:F:A:T:C:dI:hX:",
    "traceroute": "46dFf:g:ITi:m:N:np:t:l:w:q:rs:z:eAM:O:UDP:Vh",
}
#: The programs' long options that are on no list, of tcpdump 4.99's tcpdump.c and iperf 2.1's Settings.cpp, and of
#: --help of iperf 3.12, traceroute 2.1.2, iproute2 6.1 (ss, nstat) and bpftrace 0.17.
NOT_LISTED = {
    "tcpdump": ["absolute-tcp-sequence-numbers", "fp-type", "relinquish-privileges="],
    "iperf3": [
        "authorized-users-path=", "daemon", "file=", "logfile=", "pidfile=", "rsa-private-key-path=",
        "rsa-public-key-path=", "time-skew-threshold=", "username=",
    ],
    "iperf": ["daemon", "fileinput=", "output=", "realtime", "stdin", "tap-dev="],
    "ping": [],
    "traceroute": ["as-path-lookups", "module=", "options="],
    "ss": ["cgroup", "diag=", "filter=", "kill", "net="],
    "nstat": ["interval=", "nooutput", "reset", "scan="],
    "bpftrace": ["emit-elf=", "emit-llvm=", "include=", "unsafe", "usdt-file-activation"],
}  # fmt: skip


@cache
def options_of(name: str) -> str:
    if name in SHORT:
        return SHORT[name]
    program = shutil.which(name)
    assert program
    found = re.search(rf"[\w#?:]*{SPELT[name]}[\w#?:]*", Path(program).read_bytes().decode("latin-1"), re.ASCII)
    assert found
    return found[0]


@pytest.mark.parametrize("name", [*SPELT, *SHORT])
def test_options_take_values_where_the_program_says_so(name: str) -> None:
    tool = TOOLS[name]
    assert isinstance(tool, Getopt)
    theirs, ours = (dict(re.findall("([^:])(:*)", text)) for text in (options_of(name), tool.short))
    assert {letter: takes for letter, takes in ours.items() if theirs[letter] != takes} == {}


@pytest.mark.parametrize("name", NOT_LISTED)
@settings(deadline=None)
@given(data=st.data())
def test_no_spelling_gets_past_the_list(name: str, data: st.DataObject) -> None:
    """What is allowed, the program itself reads as nothing but options of the list, with values that they may have."""
    theirs, tool = options_of(name), TOOLS[name]
    assert isinstance(tool, Getopt)
    listed = [each.removesuffix("[=]") for each in tool.long]
    names = [f"--{each.rstrip('=')}" for each in listed + NOT_LISTED[name]]
    short = st.text(st.sampled_from("-" * 20 + theirs + "= /x0"), min_size=1, max_size=5)
    flags = sorted(set(theirs) - set(":#?"))
    cluster = st.builds(
        "-{}{}".format, st.text(st.sampled_from(flags), min_size=1, max_size=4), st.sampled_from(["", "0", "x"])
    )
    abbreviated = st.builds(lambda name, end: name[:end], st.sampled_from(names or ["--"]), st.integers(3, 30))
    words = data.draw(st.lists(short | cluster | abbreviated, max_size=5))
    try:
        ours = tool.read(words)
        read, rest = getopt.gnu_getopt(words, theirs, listed + NOT_LISTED[name])
    except (NotAllowedError, getopt.GetoptError):
        return
    assert dict(read) == ours
    allowed = {f"-{letter}" for letter in tool.short} | {f"--{each.rstrip('=')}" for each in listed}
    assert {option for option, _ in read} <= allowed
    for option, value in read:
        assert re.fullmatch(tool.values.get(option, (".*", ""))[0], value)
    assert all(re.fullmatch(tool.words, word) for word in rest)


@pytest.mark.parametrize("tool", [tool for tool in TOOLS.values() if isinstance(tool, Getopt)], ids=lambda t: t.program)
def test_lists_are_in_getopts_notation(tool: Getopt) -> None:
    letters = [letter for letter in tool.short if letter != ":"]
    assert len(letters) == len(set(letters))
    assert len(tool.long) == len(set(tool.long))


def test_a_campaigns_tools_are_checked_before_anything_is_created() -> None:
    assert filters.check_input(campaign_input({"pods": "*", "filter": "udp"}))
    with pytest.raises(InvalidInputError, match=r"^filter: 'tcp prt': .*syntax error"):
        filters.check_input(campaign_input({"pods": "*", "filter": "tcp prt"}))
    for tool, arguments in (
        ("iperf3", "-s --logfile x"),
        ("ss", "-K"),
        ("tcpdump+ip", "link s lo"),
        ("tcpdump", "-zx"),
    ):
        with pytest.raises(InvalidInputError, match=r"^arguments: .*may only be told what never"):
            filters.check_input(campaign_input({"pods": "*", "tool": tool, "arguments": arguments}))
    with pytest.raises(
        InvalidInputError, match=r"^arguments: '-Uw-': with arguments, a campaign's tcpdump prints text"
    ):
        filters.check_input(campaign_input({"pods": "*", "tool": "tcpdump", "arguments": "-Uw-"}))
    for tool, arguments in (("ss", ""), ("tcpdump+ping", "10.0.0.7"), ("tcpdump", "-nn -c 1")):
        assert filters.check_input(campaign_input({"pods": "*", "tool": tool, "arguments": arguments}))


@pytest.mark.parametrize("text", ["", "tcp port 80", "portrange 8000-8010", "tcp[tcpflags] & tcp-syn != 0"])
def test_filters_that_tcpdump_compiles(text: str) -> None:
    assert filters.check(text)


@pytest.mark.parametrize("text", ["tcp prt 80", "; id", "-z id", "host"])
def test_a_filter_that_does_not_compile_says_why(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^filter: .*syntax error"):
        filters.check(text)


def test_a_name_that_does_not_resolve_here_may_do_so_where_the_packets_are() -> None:
    assert not filters.check("host nosuch.invalid")


def test_without_tcpdump_the_filter_stays_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not filters.check("tcp prt 80")
