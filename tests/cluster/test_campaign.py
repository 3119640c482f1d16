"""Campaigns on real pods of two nodes, through Argo and S3: the report says what the client itself counted."""

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

NAMESPACE = "snoopy-operator"


def attempts(report: dict[str, Any], source: str) -> dict[tuple[str, int], dict[str, int]]:
    """Give what a report says of one pod's TCP attempts, by destination (its name) and port."""
    return {
        (pair["destination"]["name"], pair["destination"]["port"]): {
            kind: pair["connections"][kind]
            for kind in ("attempts", "succeeded", "refused", "timed_out", "unreachable", "aborted", "undecided")
            if pair["connections"][kind]
        }
        for pair in report["pairs"]
        if pair["source"]["name"] == source and pair["protocol"] == "tcp"
    }


def every_attempt(report: dict[str, Any]) -> dict[str, int]:
    """Give a report's TCP attempts by who made them: nobody but the client does, and nothing may count twice.

    What was open before the capture began (the fixture's own first connections) is in `total`, and is no attempt.
    """
    made: Counter[str] = Counter()
    for pair in report["pairs"]:
        made[pair["source"]["name"]] += pair["connections"].get("attempts", 0)
    return {source: attempts for source, attempts in made.items() if attempts}


def as_reported(counted: dict[str, int]) -> dict[str, int]:
    return {"attempts": sum(counted.values()), **counted}


def capture_pods(kubectl: Any, campaign: str) -> dict[str, dict[str, Any]]:
    """Give a campaign's capture pods, by the target they were asked to capture."""
    pods = kubectl.items("pods", "-n", NAMESPACE, "-l", f"workflows.argoproj.io/workflow={campaign}")
    found = {}
    for pod in pods:
        main = next(container for container in pod["spec"]["containers"] if container["name"] == "main")
        for argument in main.get("args", []):
            if argument.startswith("--target="):
                found[argument.removeprefix("--target=")] = pod
    return found


def test_three_pods_at_once(kubectl: Any, snoopy: Any, shop: Any, tmp_path: Path) -> None:
    before, address = shop.pods(), shop.addresses()
    name = snoopy.submit(
        *("--namespaces", shop.namespace, "--selector", "part=shop", "--loopback", "--duration", "12s")
    )
    web, stock, closed = f"{address['web']}:8080", f"{address['stock']}:8080", f"{address['web']}:9090"
    service, own, host = f"{shop.service()}:80", "127.0.0.1:8088", f"web.{shop.namespace}.svc.cluster.local."
    asked = {web: 7, stock: 5, closed: 4, service: 3, own: 6}
    counted = shop.talk(asked, {host: 8})
    assert counted == {
        web: {"succeeded": 7},
        stock: {"succeeded": 5},
        closed: {"refused": 4},
        service: {"succeeded": 3},
        own: {"succeeded": 6},
        host: {"answered": 8},
    }
    waited = snoopy("wait", name)
    assert waited.returncode == 0, waited.stderr

    report = snoopy.report(name, tmp_path)
    assert {(target["pod"], target["outcome"]) for target in report["targets"]} == {
        ("client", "captured"),
        ("stock", "captured"),
        ("web", "captured"),
    }
    inside = f"{shop.namespace}/"
    assert attempts(report, f"{inside}client") == {
        (f"{inside}web", 8080): as_reported(counted[web]),
        (f"{inside}web", 9090): as_reported(counted[closed]),
        (f"{inside}web", 80): as_reported(counted[service]),
        (f"{inside}stock", 8080): as_reported(counted[stock]),
        (f"{inside}client", 8088): as_reported(counted[own]),
    }
    connected = sum(sum(counted[each].values()) for each in asked)
    assert every_attempt(report) == {f"{inside}client": connected}
    through = [entry for entry in report["translations"] if entry["service"] == f"{inside}web"]
    assert sum(entry["connections"] for entry in through) == asked[service]
    assert {(entry["client"]["name"], entry["client_view"]["port"]) for entry in through} == {(f"{inside}client", 80)}
    assert {tuple(entry["server_view"][key] for key in ("name", "address", "port")) for entry in through} == {
        (f"{inside}web", address["web"], 8080)
    }
    assert {target["pod"]: target["addresses"] for target in report["targets"]} == {
        pod: [each["ip"] for each in seen["status"]["podIPs"]] for pod, seen in before.items()
    }
    assert "capture_unreadable" not in {finding["code"] for finding in report["findings"]}
    assert sum(entry["lookups"] for entry in report["dns"]) == 8, "the image's Wireshark reads them"
    asked_dns = [pair for pair in report["pairs"] if pair["destination"].get("port") == 53]
    assert [(pair["source"]["name"], pair["connections"]["total"]) for pair in asked_dns] == [(f"{inside}client", 8)]

    interfaces = {(capture["target"]["pod"], capture["interface"]) for capture in report["captures"]}
    assert interfaces == {(pod, interface) for pod in before for interface in ("eth0", "lo")}
    captures = capture_pods(kubectl, name)
    assert {target: pod["spec"]["nodeName"] for target, pod in captures.items()} == {
        f"{inside}{pod}": before[pod]["spec"]["nodeName"] for pod in before
    }
    assert len({pod["spec"]["nodeName"] for pod in captures.values()}) == len(kubectl.items("nodes")[:2])
    # Not even the status of a captured pod was written: its UID, its containers and its specification are the same.
    assert {pod: seen["metadata"]["resourceVersion"] for pod, seen in shop.pods().items()} == {
        pod: seen["metadata"]["resourceVersion"] for pod, seen in before.items()
    }


def test_a_target_deleted_during_the_capture(kubectl: Any, snoopy: Any, shop: Any, tmp_path: Path) -> None:
    name = snoopy.submit("--namespaces", shop.namespace, "--selector", "part=shop", "--duration", "15s")
    address = shop.addresses()
    counted = shop.talk({f"{address['web']}:8080": 5, f"{address['stock']}:8080": 6})
    kubectl("delete", "pod", "web", "-n", shop.namespace, "--wait=true")

    assert snoopy("wait", name).returncode == 1
    report = snoopy.report(name, tmp_path)
    assert {target["pod"]: target["outcome"] for target in report["targets"]} == {
        "client": "captured",
        "stock": "captured",
        "web": "pod_deleted",
    }
    kept = {capture["target"]["pod"]: capture["packets"] for capture in report["captures"]}
    assert kept["web"] >= 5 * 6, "five HTTP connections are more packets than that"
    assert attempts(report, f"{shop.namespace}/client") == {
        (f"{shop.namespace}/web", 8080): as_reported(counted[f"{address['web']}:8080"]),
        (f"{shop.namespace}/stock", 8080): as_reported(counted[f"{address['stock']}:8080"]),
    }
    assert every_attempt(report) == {f"{shop.namespace}/client": 11}


def test_stopped_in_the_middle(installation: Any, snoopy: Any, shop: Any, tmp_path: Path) -> None:
    name = snoopy.submit("--namespaces", shop.namespace, "--selector", "part=shop", "--duration", "10m")
    address = shop.addresses()
    counted = shop.talk({f"{address['web']}:8080": 9, f"{address['stock']}:9090": 2})
    assert snoopy("stop", name).returncode == 0
    waited = snoopy("wait", name)
    assert waited.returncode == 0, waited.stderr
    assert f"{name}: Stopped; its report" in waited.stderr
    assert "has already ended: Stopped" in snoopy("stop", name).stderr

    stored = installation.bucket.keys(f"pcaps/{NAMESPACE}/{name}/")
    records = [json.loads(installation.bucket.get(key)) for key in stored if key.endswith("capture.json")]
    assert {record["target"]["pod"] for record in records} == {"client", "stock", "web"}
    report = snoopy.report(name, tmp_path)
    for record in records:
        files = [tmp_path / key for key in stored if f"_{record['target']['pod']}_" in key and key.endswith(".pcap")]
        read = [
            subprocess.run(["tcpdump", "--count", "-r", file], capture_output=True, text=True, check=True)
            for file in files
        ]
        assert sum(int(each.stdout.split()[0]) for each in read) == record["packets"] > 0
    assert attempts(report, f"{shop.namespace}/client") == {
        (f"{shop.namespace}/web", 8080): as_reported(counted[f"{address['web']}:8080"]),
        (f"{shop.namespace}/stock", 9090): as_reported(counted[f"{address['stock']}:9090"]),
    }
    assert every_attempt(report) == {f"{shop.namespace}/client": 11}
