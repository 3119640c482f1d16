"""snoopy-operator's walk-through on real pods: its resources are applied, run, followed, changed and deleted."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.timestamps import nanoseconds
from tests.waiting import eventually
from workflows.progress import read_records

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "crds/examples"
NAMESPACE, TELCO = "snoopy-operator", "cnf-telco"
CRON = "workflows.argoproj.io/cron-workflow"


@pytest.fixture(scope="module")
def telco(kubectl: Any, installation: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """The pods of telco.yaml as the API has them, by name, once both are pinging."""
    with installation.pods(HERE / "telco.yaml", TELCO):
        pinging = lambda: all("ttl=" in kubectl("logs", "-n", TELCO, pod, "--tail=5") for pod in ("one", "two"))  # noqa: E731
        eventually("the pods ping each other", pinging)
        yield {pod["metadata"]["name"]: pod for pod in kubectl.items("pods", "-n", TELCO)}


class Resource:
    """A resource on the cluster, in the namespace `default`."""

    def __init__(self, kubectl: Any, manifest: dict[str, Any]) -> None:
        self._kubectl, self.manifest = kubectl, manifest
        self.names = (manifest["kind"].lower(), manifest["metadata"]["name"], "-n", "default")

    def apply(self, **spec: Any) -> None:
        self.manifest["spec"] |= spec
        self._kubectl("apply", "-n", "default", "-f", "-", input=json.dumps(self.manifest))

    @property
    def status(self) -> dict[str, Any]:
        return dict(self._kubectl.get(*self.names).get("status", {}))

    def condition(self, kind: str) -> dict[str, Any]:
        return next((each for each in self.status.get("conditions", ()) if each["type"] == kind), {"status": ""})

    def wait(self, kind: str, seconds: float = 90) -> dict[str, Any]:
        """Wait until a condition holds, and give the status."""
        eventually(f"{kind} holds: {self.names}", lambda: self.condition(kind)["status"] == "True", seconds)
        return self.status

    def workflows(self) -> list[dict[str, Any]]:
        kind, name = self.manifest["kind"], self.names[1]
        labels = f"snoopy.fennecproject.io/owner-kind={kind},snoopy.fennecproject.io/owner-name={name}"
        return list(self._kubectl.items("workflows", "-n", NAMESPACE, "-l", labels))

    def captures(self) -> dict[str, dict[str, Any]]:
        """Give the step pods of its campaign that capture, by the pod that they capture at."""
        label = f"workflows.argoproj.io/workflow={self.status['workflow']}"
        found = {}
        for pod in self._kubectl.items("pods", "-n", NAMESPACE, "-l", label):
            text = json.dumps(pod["spec"]["containers"])
            if match := re.search(rf"--target={TELCO}/(\w+)", text):
                found[match[1]] = pod
        return found


@pytest.fixture
def applied(kubectl: Any) -> Iterator[Callable[..., Resource]]:
    """Apply an example, with another spec where one is given; what is left of it goes at the end."""
    made = []

    def apply(example: str, **spec: Any) -> Resource:
        made.append(Resource(kubectl, yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())))
        made[-1].apply(**spec)
        return made[-1]

    yield apply
    for each in made:
        kubectl("delete", *each.names, "--ignore-not-found", "--timeout=120s")


def test_the_walk_through(kubectl: Any, snoopy: Any, telco: Any, applied: Any, tmp_path: Path) -> None:
    resource = applied("tcpdump")
    status = resource.wait("Complete")
    assert status["targets"] == {"planned": 2, "captured": 2, "failed": 0}
    assert status["workflow"].startswith("test-pcap-")
    captures = resource.captures()
    assert {pod: each["spec"]["nodeName"] for pod, each in captures.items()} == {
        pod: each["spec"]["nodeName"] for pod, each in telco.items()
    }, "a step pod per target pod, on its node"
    for pod, each in captures.items():
        log = kubectl("logs", "-n", NAMESPACE, each["metadata"]["name"], "-c", "main")
        lines = [line for line in log.splitlines() if re.match(r"\d\d:\d\d:\d\d\.\d+ (IP|ARP)", line)]
        assert len(lines) == 10, log
        assert any(f"{telco[pod]['status']['podIP']} > " in line and "ICMP echo" in line for line in lines), log

    report = snoopy.report(status["workflow"], tmp_path)
    assert {(each["target"]["pod"], each["packets"]) for each in report["captures"]} == {("one", 10), ("two", 10)}
    assert status["report"] == f"s3://snoopy/reports/{NAMESPACE}/{status['workflow']}/report.html"
    told = kubectl("describe", *resource.names)
    assert "snoopy report " in told
    assert {"WorkflowCreated", "Capturing", "Reported"} <= set(re.findall(r"Normal +(\w+)", told))
    shown = kubectl("get", *resource.names)
    assert re.search(rf"tcpdump-sample +{TELCO} +Complete +2 +0 +test-pcap-", shown), shown

    kubectl("delete", *resource.names)
    assert resource.workflows() == []
    assert snoopy("report", status["workflow"], "--out", str(tmp_path / "again")).returncode == 0


def kept(bucket: Any, keys: Iterable[str], directory: Path) -> dict[str, str]:
    """Give what tcpdump reads in captures of the object store, by pod."""
    read: dict[str, str] = {}
    for key in keys:
        if key.endswith(".pcap"):
            file = directory / key.replace("/", "_")
            file.write_bytes(bucket.get(key))
            shown = subprocess.run(["tcpdump", "-nr", file, "icmp"], capture_output=True, text=True, check=True).stdout
            pod = key.split("/")[3].split("_")[1]
            read[pod] = read.get(pod, "") + shown
    return read


def test_a_snoopyjob_and_a_data_endpoint(installation: Any, telco: Any, applied: Any, tmp_path: Path) -> None:
    endpoint = applied("snoopydataendpoint")
    status = endpoint.wait("Ready")
    assert status["address"] == f"snoopy-data-svc.{NAMESPACE}.svc:51001"
    bucket = installation.bucket
    before = set(bucket.keys(status["prefix"]))
    job = applied("snoopyjob-capture", timer="5s")
    campaign = job.wait("Complete")
    assert campaign["targets"] == {"planned": 2, "captured": 2, "failed": 0}

    def arrived() -> bool:  # the endpoint keeps what it has for ten seconds, so as to store it in large pieces
        keys = set(bucket.keys(status["prefix"])) - before
        return len({key.split("/")[3] for key in keys}) == 2

    eventually("each pod's capture is at the endpoint", arrived)
    at_endpoint = kept(bucket, sorted(set(bucket.keys(status["prefix"])) - before), tmp_path)
    in_store = kept(bucket, bucket.keys(f"pcaps/{NAMESPACE}/{campaign['workflow']}/"), tmp_path)
    for pod, other in (("one", "two"), ("two", "one")):
        there, here = telco[other]["status"]["podIP"], telco[pod]["status"]["podIP"]
        assert f"{here} > {there}: ICMP echo request" in at_endpoint[pod]
        assert at_endpoint[pod] == in_store[pod]


def test_a_tools_text_is_in_the_log_in_the_store_and_at_the_endpoint(
    kubectl: Any, installation: Any, telco: Any, applied: Any
) -> None:
    applied("snoopydataendpoint").wait("Ready")
    where = {"dataServiceIP": f"snoopy-data-svc.{NAMESPACE}", "dataServicePort": "51001"}
    job = applied("snoopyjob-capture", command="ip", args="-brief address show eth0", **where)
    status = job.wait("Complete")
    assert status["targets"]["captured"] == 2
    for pod, each in job.captures().items():
        assert telco[pod]["status"]["podIP"] in kubectl("logs", "-n", NAMESPACE, each["metadata"]["name"], "-c", "main")
    bucket = installation.bucket
    stored = [key for key in bucket.keys(f"pcaps/{NAMESPACE}/{status['workflow']}/") if key.endswith(".txt")]
    assert {key.split("/")[3].split("_")[1] for key in stored} == {"one", "two"}
    address = telco["one"]["status"]["podIP"].encode()

    def arrived() -> bool:
        keys = bucket.keys(f"data/{NAMESPACE}/snoopy-data-svc/")
        return any(address in bucket.get(key) for key in keys if key.endswith(".txt"))

    eventually("the text is at the endpoint", arrived)


@pytest.fixture
def certificates(kubectl: Any, tmp_path: Path) -> Iterator[str]:
    """Secrets with certificates of one authority, for a data endpoint and for campaigns; give the former's name."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(*new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    secrets = {"snoopy-tests-tls": f"subjectAltName=DNS:snoopy-tls.{NAMESPACE}.svc", "snoopy-endpoint-client": ""}
    for name, extension in secrets.items():
        (tmp_path / "extension").write_text(extension)
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extension")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
        files = {"tls.crt": f"{name}.crt", "tls.key": f"{name}.key", "ca.crt": "ca.crt"}
        literals = [f"--from-file={key}={tmp_path / file}" for key, file in files.items()]
        kubectl("delete", "secret", name, "-n", NAMESPACE, "--ignore-not-found")
        kubectl("create", "secret", "generic", name, "-n", NAMESPACE, *literals)
    yield "snoopy-tests-tls"
    kubectl("delete", "secret", *secrets, "-n", NAMESPACE)


@pytest.mark.usefixtures("telco")
def test_a_data_endpoint_that_wants_certificates(installation: Any, applied: Any, certificates: str) -> None:
    endpoint = applied("snoopydataendpoint", serviceName="snoopy-tls", tlsSecretName=certificates)
    prefix = endpoint.wait("Ready")["prefix"]
    where = {"dataServiceIP": f"snoopy-tls.{NAMESPACE}.svc", "dataServicePort": "51001", "dataServiceTLS": True}
    status = applied("snoopyjob-capture", timer="3s", **where).wait("Complete")
    assert status["targets"] == {"planned": 2, "captured": 2, "failed": 0}
    eventually("both captures are there", lambda: len(installation.bucket.keys(prefix)) >= 2)


@pytest.mark.usefixtures("telco")
def test_a_schedule_of_a_minute_runs_twice_and_is_paused(kubectl: Any, installation: Any, applied: Any) -> None:
    job = applied("snoopyjob-capture", schedule="* * * * *", timer="3s", dataServiceIP=None, dataServicePort=None)
    name = eventually("it is scheduled", lambda: job.status.get("cronJobList"))[0]
    ended = lambda: [each for each in job.workflows() if each["status"].get("phase") == "Succeeded"]  # noqa: E731
    eventually("two runs have ended", lambda: len(ended()) >= 2, 180)
    status = job.status
    assert status["conditions"]
    assert job.condition("Complete")["status"] == "True"
    runs = {each["metadata"]["name"]: each["metadata"]["labels"][CRON] for each in job.workflows()}
    assert set(runs.values()) == {name}
    for run in runs:
        for record in read_records(installation.bucket, NAMESPACE, run):
            if record.listening and record.ended:
                assert (nanoseconds(record.ended) - nanoseconds(record.listening)) / 1e9 < 10, "the timer ended it"
    job.apply(suspend=True)
    eventually("it is paused", lambda: job.status["phase"] == "Paused")
    assert kubectl.get("cronworkflow", name, "-n", NAMESPACE)["spec"]["suspend"] is True  # test_cron waits for that


@pytest.mark.usefixtures("telco")
def test_deleted_in_mid_run_what_was_captured_is_kept_and_reported(
    kubectl: Any, snoopy: Any, applied: Any, tmp_path: Path
) -> None:
    resource = applied("tcpdump", packetCount=1_000_000, duration="10m")
    name = resource.wait("Running")["workflow"]
    eventually("both are listened to", lambda: resource.status["targets"]["planned"] == 2)
    snoopy.listening(name)
    time.sleep(3)
    kubectl("delete", *resource.names, "--timeout=120s")
    report = snoopy.report(name, tmp_path)
    assert {each["target"]["pod"]: each["packets"] > 10 for each in report["captures"]} == {"one": True, "two": True}
    assert resource.workflows() == []


@pytest.mark.usefixtures("telco")
def test_another_specification_stops_what_runs_and_follows_it(applied: Any) -> None:
    resource = applied("tcpdump", packetCount=1_000_000, duration="10m")
    first = resource.wait("Running")["workflow"]
    resource.apply(packetCount=5, duration="30s")
    eventually("the second has run", lambda: resource.status["observedGeneration"] == 2)
    eventually("and is reported", lambda: resource.condition("Complete")["status"] == "True")
    assert resource.status["workflow"] != first
    phases = {each["metadata"]["name"]: each["status"]["phase"] for each in resource.workflows()}
    assert len(phases) == 2
    assert phases[resource.status["workflow"]] == "Succeeded"


@pytest.mark.usefixtures("telco")
def test_the_controller_is_killed_while_it_works(kubectl: Any, applied: Any) -> None:
    label = ("-n", NAMESPACE, "-l", "app.kubernetes.io/name=snoopy-controller")
    resource = applied("tcpdump", packetCount=20)
    for pause in (0.0, 2.0, 4.0):
        time.sleep(pause)
        kubectl("delete", "pod", *label, "--grace-period=0", "--force")
    resource.wait("Complete", 150)
    assert len(resource.workflows()) == 1
    assert resource.status["targets"] == {"planned": 2, "captured": 2, "failed": 0}
    kubectl("delete", "pod", *label, "--grace-period=0", "--force")
    kubectl("delete", *resource.names, "--timeout=120s")
    assert resource.workflows() == []
