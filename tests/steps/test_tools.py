"""What a tool may be told: nothing that writes or reads files or runs programs, however it is spelt."""

import pytest

from steps import filters
from steps.campaign_input import InvalidInputError, campaign_input
from steps.tools import IPERF3, TCPDUMP, Tool, command


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (TCPDUMP, "-z id"),
        (TCPDUMP, "-nz id -i eth0"),
        (TCPDUMP, "tcp port 80 -z id"),
        (TCPDUMP, "-w /etc/passwd"),
        (TCPDUMP, "-w - -w /etc/passwd"),
        (TCPDUMP, "-w/etc/passwd"),
        (TCPDUMP, "-r /etc/passwd"),
        (TCPDUMP, "-F /etc/passwd"),
        (TCPDUMP, "-E file /etc/passwd"),
        (TCPDUMP, "-G 1 -W 1 -w -"),
        (TCPDUMP, "--relinquish-privileges=nobody"),
        (TCPDUMP, "'unbalanced"),
        (IPERF3, "-c host --logfile /etc/passwd"),
        (IPERF3, "-c host --logf=/etc/passwd"),
        (IPERF3, "-c host -F /etc/passwd"),
        (IPERF3, "-sD"),
        (IPERF3, "-s -I /run/pid"),
        (IPERF3, "-s --rsa-private-key-path /k --authorized-users-path /u"),
    ],
)
def test_dangerous_options_are_refused(tool: Tool, arguments: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^arguments: .*(allowed|-w may only be)"):
        command(tool, arguments)


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        (TCPDUMP, "-i eth0 -U -w -", ["-i", "eth0", "-U", "-w", "-"]),
        (TCPDUMP, "-nn -c 10 'tcp[tcpflags] & tcp-syn != 0'", ["-nn", "-c", "10", "tcp[tcpflags] & tcp-syn != 0"]),
        (TCPDUMP, "-i lo '; id'", ["-i", "lo", "; id"]),
        (IPERF3, "-c 10.0.0.7 -t 5 --bidir", ["-c", "10.0.0.7", "-t", "5", "--bidir"]),
    ],
)
def test_arguments_are_split_as_a_shell_quotes_them(tool: Tool, arguments: str, words: list[str]) -> None:
    assert command(tool, arguments) == [tool.program, *tool.always, *words]


def test_a_campaigns_tools_are_checked_before_anything_is_created() -> None:
    assert filters.check_input(campaign_input({"pods": "*", "filter": "udp"}))
    with pytest.raises(InvalidInputError, match=r"^filter: 'tcp prt': .*syntax error"):
        filters.check_input(campaign_input({"pods": "*", "filter": "tcp prt"}))
    with pytest.raises(InvalidInputError, match=r"^arguments: .*option --logfile not recognized"):
        filters.check_input(campaign_input({"pods": "*", "tool": "iperf3", "arguments": "-s --logfile /etc/x"}))


@pytest.mark.parametrize("text", ["", "tcp port 80", "portrange 8000-8010", "tcp[tcpflags] & tcp-syn != 0"])
def test_filters_that_tcpdump_compiles(text: str) -> None:
    assert filters.check(text)


@pytest.mark.parametrize("text", ["tcp prt 80", "; id", "-z id", "host"])
def test_a_filter_that_does_not_compile_says_why(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^filter: .*syntax error"):
        filters.check(text)


def test_without_tcpdump_the_filter_stays_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not filters.check("tcp prt 80")
