"""What Tcpdumps and SnoopyJobs ask for, in a campaign's words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.campaign_input import InvalidInputError
from workflows import translate

EXAMPLES = sorted((Path(__file__).parents[2] / "crds/examples").glob("*.yaml"))
NAMESPACE = "snoopy-operator"


def resource(kind: str, namespace: str = "default", generation: int = 1, **spec: Any) -> dict[str, Any]:
    group = {"Tcpdump": "pcap", "SnoopyJob": "job"}[kind]
    labels = "podLabel" if kind == "Tcpdump" else "labelSelector"
    return {
        "apiVersion": f"{group}.fennecproject.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "sample", "namespace": namespace, "uid": "0b5e-11", "generation": generation},
        "spec": {"targetNamespace": "cnf-telco", labels: {"app": "web"}, **spec},
    }


def changed(what: dict[str, Any]) -> dict[str, str]:
    """Give what a resource asks of a campaign, without what is as it is by default."""
    asked = translate.run(what).asked
    default = asked.defaults()
    return {name: value for name, value in asked.parameters().items() if value != default[name]}


CHOSEN = {"namespaces": "cnf-telco", "selector": "app=web"}


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({}, {"print": "true"}),
        ({"packetCount": 10}, {"packets": "10", "duration": "3600s", "print": "true"}),
        ({"packetCount": 10, "duration": "5s"}, {"packets": "10", "duration": "5s", "print": "true"}),
        (
            {"interfaceName": "net1", "filter": "udp port 53", "pcapFilePath": "/pcap-data/test.pcap", "name": "x"},
            {"interface": "net1", "filter": "udp port 53", "print": "true"},
        ),
    ],
)
def test_a_tcpdump_is_a_capture_that_is_printed(spec: dict[str, Any], asked: dict[str, str]) -> None:
    assert changed(resource("Tcpdump", **spec)) == CHOSEN | asked


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ("-i eth0 -U -w -", {}),
        ("-U -w- -i net1 -c 5 -s 96 -B 4096 tcp port 80",
         {"interface": "net1", "packets": "5", "snaplen": "96", "buffer": "4MiB", "filter": "tcp port 80"}),
        ("-nn -w /pcap-data/test.pcap 'tcp[tcpflags] & tcp-syn != 0'", {"filter": "tcp[tcpflags] & tcp-syn != 0"}),
        ("-i eth0 -p -s 0 --immediate-mode -w -", {}),
        ("-Uw out.pcap --interface=net1 --snapshot-length 64", {"interface": "net1", "snaplen": "64"}),
        ("-i eth0 -c 3 -nn icmp", {"arguments": "-i eth0 -c 3 -nn icmp"}),
        ("", {"arguments": "-n"}),
    ],
)  # fmt: skip
def test_tcpdump_with_w_is_a_capture_and_without_it_prints_text(args: str, asked: dict[str, str]) -> None:
    assert changed(resource("SnoopyJob", command="tcpdump", args=args)) == CHOSEN | asked


def test_a_snoopyjob_runs_a_tool_for_a_time_and_sends_what_it_says_to_an_endpoint() -> None:
    where = {"dataServiceIP": "snoopy-data-svc.snoopy-operator.svc", "dataServicePort": "51001"}
    job = resource("SnoopyJob", command="ping", args="-c 3 10.0.0.1", timer="2m", **where)
    assert changed(job) == CHOSEN | {
        "tool": "ping",
        "arguments": "-c 3 10.0.0.1",
        "duration": "120s",
        "destination": "snoopy-data-svc.snoopy-operator.svc:51001",
    }
    job["spec"] |= {"dataServiceIP": "fd00::7", "dataServiceTLS": True}
    assert changed(job)["destination"] == "tls://[fd00::7]:51001"


@pytest.mark.parametrize(
    ("kind", "spec", "sentence"),
    [
        ("Tcpdump", {"duration": "2d"}, r"^duration: '2d': at least 100ms and at most 1d"),
        ("Tcpdump", {"filter": "tcp prt 80"}, r"^filter: 'tcp prt 80': .*syntax error"),
        ("Tcpdump", {"podLabel": {"app": "web,tier=cache"}}, r"^podLabel: 'app=web,tier=cache': no label"),
        ("Tcpdump", {"podLabel": {"app in (a, b)": ""}}, r"^podLabel: .*no label"),
        ("Tcpdump", {"schedule": "* * * * 9"}, r"^schedule: .*day of week"),
        ("SnoopyJob", {"command": "ping"}, r"^args: '': ping needs some"),
        ("SnoopyJob", {"command": "ss", "timer": "2d"}, r"^timer: '2d'"),
        ("SnoopyJob", {"command": "tcpdump", "args": "-z id"}, r"^args: '-z id': option -z is not allowed"),
        ("SnoopyJob", {"command": "tcpdump", "args": "-w - -Q in"}, r"^args: .*-Q: with -w, -i, -c, -s, -B and a"),
        ("SnoopyJob", {"command": "tcpdump", "args": "-w - -c many"}, r"^args: 'many': a whole number"),
        ("SnoopyJob", {"command": "tcpdump", "args": "-w - prt 80"}, r"^args: 'prt 80': .*syntax error"),
        ("SnoopyJob", {"command": "tcpdump", "args": "'unbalanced"}, r"^args: .*No closing quotation"),
        ("SnoopyJob", {"command": "iperf3", "args": "-s --logfile /x"}, r"^args: .*--logfile"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_the_resources_own_words(kind: str, spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        translate.run(resource(kind, **spec))


def test_names_are_the_same_for_the_same_specification_only() -> None:
    one, next_one = resource("Tcpdump"), resource("Tcpdump", generation=2)
    assert translate.name(one) == translate.name(resource("Tcpdump")) != translate.name(next_one)
    daily = resource("Tcpdump", schedule="@daily"), resource("Tcpdump", schedule="@hourly", generation=2)
    assert translate.name(daily[0]) == translate.name(daily[1])
    assert translate.name(resource("Tcpdump", name="test-pcap")).startswith("test-pcap-")
    long = resource("Tcpdump")
    long["metadata"]["name"] = "a.b" * 21
    assert len(translate.name(long)) <= 52
    assert "." not in translate.name(long)


def test_a_workflow_leads_to_its_resource_by_labels_and_in_the_same_namespace_by_ownership() -> None:
    for namespace, owners in (("default", []), (NAMESPACE, ["0b5e-11"])):
        made = translate.manifest(what := resource("Tcpdump", namespace), translate.run(what), NAMESPACE)
        labels = made["metadata"]["labels"]
        assert labels.items() >= translate.owned_by(what).items()
        assert [each["uid"] for each in made["metadata"]["ownerReferences"]] == owners
        assert (made["kind"], made["metadata"]["namespace"]) == ("Workflow", NAMESPACE)


def test_a_schedule_is_a_cronworkflow_whose_runs_lead_to_the_resource_too() -> None:
    what = resource("SnoopyJob", command="ss", schedule="*/5 * * * *", timeZone="Europe/Rome", suspend=True,
                    concurrencyPolicy="Replace", successfulJobsHistoryLimit=7, failedJobsHistoryLimit=0)  # fmt: skip
    made = translate.manifest(what, translate.run(what), NAMESPACE)
    spec = made["spec"]
    assert made["kind"] == "CronWorkflow"
    assert {key: spec[key] for key in ("schedules", "timezone", "suspend", "concurrencyPolicy")} == {
        "schedules": ["*/5 * * * *"],
        "timezone": "Europe/Rome",
        "suspend": True,
        "concurrencyPolicy": "Replace",
    }
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (7, 0)
    for labels in (made["metadata"]["labels"], spec["workflowMetadata"]["labels"]):
        assert labels.items() >= translate.owned_by(what).items()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_can_be_run(example: Path) -> None:
    what = yaml.safe_load(example.read_text())
    if what["kind"] == "SnoopyDataEndpoint":
        return
    what["metadata"] |= {"namespace": "default", "uid": "u", "generation": 1}
    assert translate.manifest(what, translate.run(what), NAMESPACE)["metadata"]["name"]
