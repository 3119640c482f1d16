"""Campaigns on this machine: the demo's report agrees with the demo's client, and bad targets are one sentence."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steps.campaign_input import CampaignInput

PROJECT = Path(__file__).parents[2]
SNOOPY = [sys.executable, "-m", "workflows.cli"]
COUNTED = {"versions", "skipped", "rcodes", "methods", "statuses", "grpc_statuses"}


def keys(report: Any) -> set[str]:
    """Give every key of a report, but those that are what was counted: a tool, a reason, a method."""
    if isinstance(report, list):
        return set().union(*map(keys, report))
    if not isinstance(report, dict):
        return set()
    inside = [keys(value) for key, value in report.items() if key not in COUNTED]
    return set(report).union(*inside)


def test_the_demos_report_says_what_its_client_counted(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / "examples/demo.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    counted = re.search(r"fetched (\d+) pages from web and was refused (\d+) times", done.stdout)
    assert counted
    report = json.loads((tmp_path / "report.json").read_text())
    pairs = {
        (pair["source"]["name"], pair["destination"]["name"], pair["destination"]["port"]): pair["connections"]
        for pair in report["pairs"]
        if pair.get("connections", {}).get("attempts")
    }
    fetched, refused = map(int, counted.groups())
    web = pairs["netns/demo-client", "netns/demo-web", 8080]
    closed = pairs["netns/demo-client", "netns/demo-closed", 8080]
    assert (web["attempts"], web["succeeded"], web["success_rate"]) == (fetched, fetched, 1)
    assert (closed["attempts"], closed["refused"], closed["success_rate"]) == (refused, refused, 0)
    assert {target["outcome"] for target in report["targets"]} == {"captured"}
    assert any("nobody.demo" in finding["text"] for finding in report["findings"])
    assert (tmp_path / "report.html").stat().st_size > 10_000
    documented = set(re.findall(r"`(\w+)`", (PROJECT / "docs/report.md").read_text())) | set(CampaignInput.model_fields)
    assert keys(report) - documented - {"port"} == set()


def test_a_process_is_a_target_too(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    with server.start("sleep", "30") as process:
        command = [*SNOOPY, "run", "--local", f"pid:{process.pid}", "--filter", "icmp", "--duration", "3s"]
        with subprocess.Popen([*command, "--out", str(tmp_path)], stdout=subprocess.PIPE) as campaign:
            while not list(tmp_path.rglob("capture.json")):
                assert campaign.poll() is None
            client.run("ping", "-q", "-c", "3", "-i", "0.1", server.address)
            assert campaign.communicate(timeout=60)[0].decode().strip() == str(tmp_path / "report.html")
        process.kill()
    (capture,) = json.loads((tmp_path / "report.json").read_text())["captures"]
    assert (capture["packets"], capture["kernel_dropped"]) == (6, 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["netns:no-such-host"], "target: 'netns:no-such-host': no such target here; allowed are netns:NAME"),
        (["pid:0"], "target: 'pid:0': no such target here"),
        (["container:abcdef012345"], "target: 'container:abcdef012345': no container here has an ID that begins so"),
        (["netns:"], "target: 'netns:': no such target here"),
        (["netns:../../etc/hostname"], "target: 'netns:../../etc/hostname': no such target here"),
        (["pid:1", "pid:1"], "target: 'pid:1': it is given 2 times"),
        (
            ["pid:1", "--tool", "iperf3", "--arguments", "-s --logfile x"],
            "arguments: '-s --logfile x': option --logfile",
        ),
        (["web"], "target: 'web': no such target here; allowed are netns:NAME"),
        (["pid:1", "--filter", "tcp prt"], "filter: 'tcp prt': can't parse filter expression: syntax error"),
        (["pid:1", "--selector", "app=web"], "selector: it chooses pods of a cluster"),
        (["pid:1", "--duration", "soon"], "duration: 'soon': a duration such as 30s"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_left(tmp_path: Path, words: list[str], sentence: str) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [*SNOOPY, "run", "--local", *words, "--out", out], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {sentence}")
    assert not out.exists()


def test_reports_never_mix(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("of another campaign")
    command = [*SNOOPY, "run", "--local", "pid:1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: out: '{tmp_path}': a new or empty directory is needed")


def test_ctrl_c_ends_the_captures_and_loses_nothing(tmp_path: Path, hosts: Any) -> None:
    client, server = hosts
    command = [*SNOOPY, "run", "--local", f"netns:{server.name}", "--filter", "icmp", "--duration", "1h"]
    with subprocess.Popen([*command, "--out", str(tmp_path)], process_group=0) as campaign:
        while not list(tmp_path.rglob("capture.json")):
            assert campaign.poll() is None
        client.run("ping", "-q", "-c", "20", "-i", "0.02", server.address)
        os.killpg(campaign.pid, signal.SIGINT)  # as a terminal does
        assert campaign.wait(60) == 0
    (capture,) = json.loads((tmp_path / "report.json").read_text())["captures"]
    assert capture["packets"] == 40
