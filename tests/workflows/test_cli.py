"""The command, against a Kubernetes API and an S3 on loopback: what it prints, where, and how it exits."""

import json
import os
import pty
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from steps.campaign_input import CampaignInput
from workflows import follow
from workflows.cli import COMMANDS, main

NAMESPACE = "snoopy-operator"
WORKFLOWS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows"
CHOICE = ["--namespaces", "shop", "--selector", "app=web"]
INPUTS = [{"name": "target", "value": "shop/web-1"}, {"name": "uid", "value": "u"}, {"name": "node", "value": "node-1"}]


def snoopy(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def workflow(phase: str, **status: Any) -> dict[str, Any]:
    nodes = {
        "n-1": {
            "id": "n-1",
            "displayName": "capture(0)",
            "type": "Pod",
            "phase": phase,
            "inputs": {"parameters": INPUTS},
        }
    }
    meta = {"name": "c", "namespace": NAMESPACE, "creationTimestamp": "2026-11-23T22:00:00Z"}
    return {"metadata": meta, "status": {"phase": phase, "nodes": nodes, **status}}


def arguments_of(campaign: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in campaign["spec"]["arguments"]["parameters"]}


def test_submit_prints_the_name_alone_on_standard_output(api: Any, s3: Any) -> None:
    done = snoopy("submit", *CHOICE)
    assert done.exit_code == 0, done.output
    (name,) = done.stdout.split()
    assert f"{WORKFLOWS}/{name}" in api.objects
    assert f"reports/{NAMESPACE}/{name}/plan.json" in s3.objects
    assert "shop/web-2  node-2" in done.stderr
    assert "left out: shop/web-3: it is Pending" in done.stderr


def test_flags_win_over_the_file(api: Any, s3: Any, tmp_path: Path) -> None:  # noqa: ARG001
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump({"namespaces": ["shop"], "selector": "app=web", "duration": "1m", "loopback": True}))
    done = snoopy("submit", "-f", str(file), "--duration", "5m", "--no-loopback", "--name", "c")
    assert done.exit_code == 0, done.output
    given = arguments_of(api.objects[f"{WORKFLOWS}/c"])
    assert (given["selector"], given["duration"], given["loopback"]) == ("app=web", "300s", "false")


def test_a_list_may_be_several_flags_or_one_with_commas(api: Any, s3: Any) -> None:  # noqa: ARG001
    done = snoopy("submit", "--namespaces", "shop", "--pods", "web-1", "--pods", "web-2,web-*", "--name", "c")
    assert done.exit_code == 0, done.output
    assert arguments_of(api.objects[f"{WORKFLOWS}/c"])["pods"] == "web-1,web-2,web-*"


def test_a_users_own_file_is_submitted(api: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from hera.workflows import Workflow\nworkflow = Workflow(generate_name='mine-')\n")
    done = snoopy("submit", str(file))
    assert (done.exit_code, done.stdout) == (0, "mine-x7k2p\n")
    assert f"{WORKFLOWS}/mine-x7k2p" in api.objects


def test_resolve_shows_targets_and_reasons_and_creates_nothing(api: Any) -> None:
    done = snoopy("resolve", *CHOICE)
    assert "shop/web-1  node-1  10.0.0.1" in done.output
    assert "left out: shop/web-3: it is Pending" in done.output
    assert {path for method, path in api.asked if method != "GET"} == {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    }


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["submit"], 2, "selector, pods, owners or nodes must say which pods to capture"),
        (["submit", *CHOICE, "--duration", "soon"], 2, "duration: 'soon': a duration such as 30s"),
        (["submit", *CHOICE, "--filter", "-z id"], 2, "filter: '-z id' starts with '-'"),
        (["submit", *CHOICE, "--filter", "tcp port"], 2, "filter: 'tcp port'"),
        (["submit", *CHOICE, "--tool", "nc"], 2, "'nc' is not one of"),
        (["submit", "-f", "nosuch.yaml"], 2, "nosuch.yaml: no such file"),
        (["submit", "nosuch.py"], 2, "nosuch.py: no such Python file"),
        (["submit", "mine.py", "--selector", "a=b"], 2, "campaign flags do not go with it"),
        (["submit", "--namespaces", "nosuch", "--pods", "*"], 2, "'nosuch': no such namespace"),
        (["submit", *CHOICE, "-n", "elsewhere"], 3, "namespace elsewhere has no ConfigMap"),
        (["get", "nosuch"], 3, "no campaign 'nosuch' in namespace snoopy-operator"),
        (["wait", "nosuch"], 3, "no campaign 'nosuch' in namespace snoopy-operator"),
        (["stop", "nosuch"], 3, "no campaign 'nosuch' in namespace snoopy-operator"),
        (["logs", "nosuch"], 3, "no campaign 'nosuch' in namespace snoopy-operator"),
        (["fetch", "", "--out", "."], 2, "prefix: '': data/, pcaps/, reports/ or trends/ is needed"),
        (["fetch", "/", "--out", "."], 2, "prefix: '/': data/, pcaps/, reports/ or trends/ is needed"),
        (["report", "nosuch"], 3, "no campaign 'nosuch' in namespace snoopy-operator"),
    ],
)
def test_what_is_wrong_is_one_sentence(api: Any, s3: Any, arguments: list[str], code: int, sentence: str) -> None:  # noqa: ARG001
    done = snoopy(*arguments)
    assert (done.exit_code, sentence in done.output) == (code, True), done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "not YAML"),
        ("- a", "a campaign's fields are needed"),
        ("selektor: a", "selektor: no such field"),
        (
            "{apiVersion: x/v1, kind: Tcpdump}",
            "a campaign's fields are needed; a Tcpdump is for kubectl apply",
        ),
    ],
)
def test_a_campaign_file_that_is_none(tmp_path: Path, api: Any, text: str, sentence: str) -> None:  # noqa: ARG001
    (tmp_path / "campaign.yaml").write_text(text)
    done = snoopy("submit", "-f", str(tmp_path / "campaign.yaml"))
    assert (done.exit_code, sentence in done.output) == (2, True), done.output


def test_a_campaign_file_that_is_no_text(api: Any) -> None:  # noqa: ARG001
    done = snoopy("resolve", "-f", sys.executable)
    assert (done.exit_code, f"Error: {sys.executable}: not YAML: it is no text\n") == (2, done.output)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"- a", b"a: [", b"contexts: 5\ncurrent-context: a"])
def test_a_kubeconfig_that_is_none(api: Any, data: bytes) -> None:  # noqa: ARG001
    Path(os.environ["KUBECONFIG"]).write_bytes(data)
    done = snoopy("list")
    assert (done.exit_code, done.output.count("\n")) == (3, 1), done.output
    assert done.output.startswith(f"Error: KUBECONFIG: '{os.environ['KUBECONFIG']}': it cannot be read as a kubeconfig")


@pytest.mark.parametrize("command", ["analyse", "report", "manifests"])
def test_a_directory_that_cannot_be_made(api: Any, s3: Any, command: str, tmp_path: Path) -> None:  # noqa: ARG001
    s3.objects[f"reports/{NAMESPACE}/c/report.html"] = b"<html>"
    (tmp_path / "file").write_bytes(b"")
    argument = {"analyse": [str(tmp_path)], "report": ["c"], "manifests": []}[command]
    done = snoopy(command, *argument, "--out", str(tmp_path / "file/x"))
    assert (done.exit_code, done.output) == (2, f"Error: out: '{tmp_path}/file/x': not a directory\n")


def test_a_file_that_cannot_be_written_is_named(api: Any, s3: Any, tmp_path: Path) -> None:  # noqa: ARG001
    s3.objects[f"reports/{NAMESPACE}/c/report.html"] = b"<html>"
    (tmp_path / "report.html").mkdir()
    done = snoopy("report", "c", "--out", str(tmp_path))
    assert (done.exit_code, done.output) == (3, f"Error: {tmp_path}/report.html: Is a directory\n")


def test_what_is_left_behind_is_said_after_the_reason(api: Any, s3: Any) -> None:
    api.refusals["POST", "/workflows$"] = (403, "not for ann")
    s3.refused = {"DELETE"}
    done = snoopy("submit", *CHOICE)
    first, second = done.stderr.splitlines()
    assert (done.exit_code, "not for ann" in first, second.startswith("left behind: ")) == (3, True, True)


def test_a_filter_that_cannot_be_checked_here_is_said_on_standard_error(
    api: Any,  # noqa: ARG001
    s3: Any,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for arguments in (["resolve", *CHOICE], ["submit", *CHOICE]):
        done = snoopy(*arguments, "--filter", "tcp")
        assert (done.exit_code, "the filter is checked by the capture pods" in done.stderr) == (0, True), done.output


def test_a_cluster_that_is_not_there(api: Any) -> None:
    config = Path(os.environ["KUBECONFIG"])
    config.write_text(config.read_text().replace(api.address, "127.0.0.1:9"))
    done = snoopy("list")
    assert (done.exit_code, "cannot be reached" in done.output) == (3, True), done.output
    config.unlink()
    done = snoopy("list")
    assert (done.exit_code, "no Kubernetes cluster is configured" in done.output) == (3, True), done.output


def test_a_permission_that_is_missing_is_named(api: Any, s3: Any) -> None:  # noqa: ARG001
    api.refusals["POST", "/workflows$"] = (403, 'User "ann" cannot create resource "workflows"')
    done = snoopy("submit", *CHOICE)
    assert (done.exit_code, 'User "ann" cannot create resource "workflows"' in done.output) == (3, True), done.output


@pytest.mark.parametrize(("phase", "code"), [("Succeeded", 0), ("Failed", 1), ("Error", 1)])
def test_wait_exits_as_the_campaign_ended(api: Any, s3: Any, phase: str, code: int) -> None:
    api.objects[f"{WORKFLOWS}/c"] = workflow(phase)
    s3.objects[f"reports/{NAMESPACE}/c/report.html"] = b""
    done = snoopy("wait", "c")
    assert (done.exit_code, f"c: {phase}; its report: snoopy report c" in done.stderr) == (code, True), done.output


def test_a_workflow_that_is_no_campaign_has_no_report_to_miss(api: Any, s3: Any) -> None:  # noqa: ARG001
    api.objects[f"{WORKFLOWS}/c"] = workflow("Succeeded")
    assert snoopy("wait", "c").stderr.splitlines()[-1] == "c: Succeeded"


def test_wait_says_so_when_there_is_no_report(api: Any, s3: Any) -> None:  # noqa: ARG001
    api.objects[f"{WORKFLOWS}/c"] = workflow("Failed", message="no target")
    done = snoopy("wait", "c")
    assert (done.exit_code, "c ended without a report: no target" in done.stderr) == (1, True), done.output


def test_a_campaign_that_succeeded_has_succeeded_when_the_store_is_gone(
    api: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.objects[f"{WORKFLOWS}/c"] = workflow("Running")

    def meanwhile(_: float) -> None:
        api.objects[f"{WORKFLOWS}/c"] = workflow("Succeeded")
        s3.refused = {"GET"}

    monkeypatch.setattr(follow.time, "sleep", meanwhile)
    done = snoopy("wait", "c")
    assert done.exit_code == 0, done.output
    assert "c: Succeeded; whether there is a report is not known: the object store" in done.stderr


def test_stop_asks_argo_to_stop(api: Any) -> None:
    api.objects[f"{WORKFLOWS}/c"] = workflow("Running")
    assert snoopy("stop", "c").exit_code == 0
    assert api.objects[f"{WORKFLOWS}/c"]["spec"] == {"shutdown": "Stop"}


def test_list_and_get_show_what_there_is(api: Any, s3: Any) -> None:
    api.objects[f"{WORKFLOWS}/c"] = workflow("Failed", message="child failed")
    s3.objects |= {f"pcaps/{NAMESPACE}/c/shop_web-1_u_eth0/capture.json": b"{", f"reports/{NAMESPACE}/c/plan.json": b""}
    assert snoopy("list").output.splitlines()[1].split()[:3] == ["c", "Failed", "1"]
    shown = snoopy("get", "c").output
    assert "Failed: child failed" in shown
    assert "shop/web-1  node-1" in shown


def test_logs_are_those_of_all_pods_or_of_one_target(api: Any) -> None:
    api.objects[f"{WORKFLOWS}/c"] = workflow("Succeeded")
    for name, node in (("c-capture-1", "n-1"), ("c-join-2", "n-2")):
        meta = {"name": name, "labels": {"workflows.argoproj.io/workflow": "c"}}
        meta["annotations"] = {"workflows.argoproj.io/node-id": node}
        api.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"] = {"metadata": meta}
        api.logs[name] = f"from {node}\n"
    assert snoopy("logs", "c").output == "shop/web-1: from n-1\nc-join-2: from n-2\n"
    assert snoopy("logs", "c", "shop/web-1").output == "shop/web-1: from n-1\n"
    refused = snoopy("logs", "c", "shop/web-9")
    assert (refused.exit_code, "the campaign's pods are shop/web-1" in refused.output) == (2, True)


def test_report_fetches_reports_and_when_asked_captures(api: Any, s3: Any, tmp_path: Path) -> None:  # noqa: ARG001
    capture = f"pcaps/{NAMESPACE}/c/shop_web-1_u_eth0/000001.pcap"
    s3.objects = {
        f"reports/{NAMESPACE}/c/report.html": b"<html>",
        f"reports/{NAMESPACE}/c/plan.json": b"{}",
        capture: b"p",
    }
    done = snoopy("report", "c", "--out", str(tmp_path / "out"))
    assert done.output == f"{tmp_path}/out/report.html\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "plan.json"}
    snoopy("report", "c", "--out", str(tmp_path / "out"), "--captures")
    assert (tmp_path / "out" / capture).read_bytes() == b"p"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [("Running", "has no report yet: snoopy wait c"), ("Failed", "ended without a report: no target")],
)
def test_without_a_report_it_says_why(api: Any, s3: Any, status: str, sentence: str) -> None:  # noqa: ARG001
    api.objects[f"{WORKFLOWS}/c"] = workflow(status, message="no target")
    done = snoopy("report", "c")
    assert (done.exit_code, sentence in done.output) == (3, True), done.output


def test_manifests_writes_the_template(tmp_path: Path) -> None:
    done = snoopy("manifests", "--out", str(tmp_path))
    assert done.output == f"{tmp_path}/capture-campaign.yaml\n"
    written = (tmp_path / "capture-campaign.yaml").read_text()
    assert yaml.safe_load(written)["kind"] == "WorkflowTemplate"
    assert snoopy("manifests", "--out", "-").output == written


def test_every_field_of_the_input_is_a_flag_with_its_description_and_default() -> None:
    text = " ".join(CliRunner().invoke(main, ["submit", "--help"], terminal_width=1000).output.split())
    for name, field in CampaignInput.model_fields.items():
        assert f"--{name}" in text
        assert str(field.description) in text
    assert "[default: 30s]" in text
    assert "[default: 256MiB]" in text


def test_every_command_explains_itself_and_the_exit_codes_are_said() -> None:
    assert "130  interrupted" in snoopy("--help").output
    for command in (main.get_command(click.Context(main), name) for name in COMMANDS):
        assert command is not None
        assert command.help, command.name


def test_interrupted_without_a_terminal_the_campaign_runs_on(
    api: Any,
    s3: Any,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api.objects[f"{WORKFLOWS}/c"] = workflow("Running")
    monkeypatch.setattr(follow.time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    done = snoopy("wait", "c")
    assert (done.exit_code, "c runs on: snoopy wait c" in done.stderr) == (130, True), done.output
    assert "spec" not in api.objects[f"{WORKFLOWS}/c"]


@pytest.mark.parametrize(("answer", "code"), [("stop", 0), ("leave", 130)])
def test_interrupted_at_a_terminal_one_is_asked(api: Any, s3: Any, answer: str, code: int) -> None:  # noqa: ARG001
    api.objects[f"{WORKFLOWS}/c"] = workflow("Running")
    child, terminal = pty.fork()  # a process with a terminal of its own, where Ctrl-C is a key
    if not child:
        os.execv(sys.executable, [sys.executable, "-m", "workflows.cli", "wait", "c"])
    _expect(terminal, "starting")
    os.write(terminal, b"\x03")
    _expect(terminal, "stop c, or leave it running?")
    os.write(terminal, f"{answer}\n".encode())
    if answer == "stop":
        while "spec" not in api.objects[f"{WORKFLOWS}/c"]:
            time.sleep(0.01)
        api.objects[f"{WORKFLOWS}/c"] |= workflow("Failed")
    _expect(terminal, "without a report" if answer == "stop" else "runs on")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    os.close(terminal)


def _expect(terminal: int, text: str) -> None:
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 1024).decode()


def test_analyse_reports_on_a_file_of_ones_own(tmp_path: Path) -> None:
    pcap = tmp_path / "empty.pcap"
    pcap.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    done = snoopy("analyse", str(pcap), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out/report.json").read_text())["schema"] == "snoopy.report/v1"


@pytest.mark.skipif(os.geteuid() != 0, reason="entering network namespaces needs root")
def test_on_this_machine_a_target_that_was_not_captured_is_an_exit_code(tmp_path: Path) -> None:
    target = f"pid:{os.getpid()}"
    done = snoopy("run", "--local", target, "--interface", "nosuch0", "--duration", "1s", "--out", str(tmp_path))
    assert done.exit_code == 1, done.output
    assert f"not captured: pid/{os.getpid()}: capture_failed: " in done.stderr
    assert done.stdout == f"{tmp_path}/report.html\n"
