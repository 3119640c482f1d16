"""The controller as it runs, in a process of its own, on a Kubernetes API that the test can look into and break."""

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from kmock import KubernetesError

from tests.workflows.emulator import RESOURCES, Emulator, plain

CAMPAIGNS, HERE = "snoopy-operator", "default"
pytestmark = pytest.mark.kmock(cls=Emulator)


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(what: str, test: Callable[[], Any], seconds: float = 20) -> Any:
    """Give what the test gives, once that is true."""
    for _ in range(int(seconds / 0.05)):
        if found := test():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: not after {seconds:g} s")


class Api:
    """What the cluster holds, and a hand in it: Argo's, the user's and the one that pulls the plug."""

    def __init__(self, emulator: Emulator, user: aiohttp.ClientSession, kubeconfig: Path) -> None:
        self.emulator, self.user, self.kubeconfig = emulator, user, kubeconfig
        self.controller: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start a controller. It does not wait: the controller begins when it can."""
        self.ports = {"health": a_free_port(), "metrics": a_free_port()}
        ports = [f"--{name}-port={port}" for name, port in self.ports.items()]
        command = [sys.executable, "-m", "workflows.controller", *ports]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "SNOOPY_RESYNC": "2"}
        self.controller = await asyncio.create_subprocess_exec(*command, env=environment)

    async def stop(self) -> None:
        if self.controller.returncode is None:
            self.controller.kill()
        await self.controller.wait()

    async def ask(self, method: str, of: str, name: str = "", namespace: str = HERE, **body: Any) -> Any:
        """Do to an object what kubectl or Argo would."""
        version, _, plural = RESOURCES[of].rpartition("/")
        root = "/apis/" if "/" in version else "/api/"
        path = f"{root}{version}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")
        patch = {"Content-Type": "application/merge-patch+json"} if method == "patch" else {}
        async with self.user.request(method, path, json=body or None, headers=patch) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def apply(self, kind: str, name: str = "sample", **spec: Any) -> None:
        """Create a resource, or change its specification."""
        if self.one(kind, name):
            await self.ask("patch", kind, name, spec=spec)
            return
        version = RESOURCES[kind].rpartition("/")[0]
        meta = {"name": name, "namespace": HERE}
        await self.ask("post", kind, apiVersion=version, kind=kind, metadata=meta, spec=spec)

    def all(self, kind: str) -> list[dict[str, Any]]:
        group, version, plural = f"/{RESOURCES[kind]}".rsplit("/", 2)
        return [
            plain(each.raw)
            for (resource, _, _), each in list(self.emulator.objects.items())
            if (resource.group, resource.version, resource.plural) == (group.strip("/"), version, plural)
            and not each.deleted
        ]

    def one(self, kind: str, name: str = "sample") -> dict[str, Any]:
        return next((each for each in self.all(kind) if each["metadata"]["name"] == name), {})

    def status(self, kind: str = "Tcpdump") -> dict[str, Any]:
        return dict(self.one(kind).get("status", {}))

    def condition(self, of: str, kind: str = "Tcpdump") -> tuple[str, str]:
        found = {each["type"]: each for each in self.status(kind).get("conditions", ())}
        return (found[of]["status"], found[of]["reason"]) if of in found else ("", "")

    async def argo(self, workflow: dict[str, Any], phase: str, captures: str, join: str = "") -> None:
        """Write a Workflow's status as Argo does: a node per capture, and one of the join with its exit code."""
        pinned = [{"name": name, "value": f"cnf-telco/{name}"} for name in ("target", "uid", "node")]
        nodes = {
            f"c{number}": {"id": f"c{number}", "type": "Pod", "displayName": f"capture({number})", "phase": each}
            | {"inputs": {"parameters": pinned}, "message": "no such device" if each == "Failed" else ""}
            for number, each in enumerate(captures.split())
        }
        if join:
            ended = {"outputs": {"exitCode": join}, "finishedAt": "2026-11-26T00:01:00Z"}
            nodes["j"] = {"id": "j", "type": "Pod", "displayName": "join", "phase": "Succeeded", **ended}
        repository = {"artifactRepository": {"s3": {"bucket": "snoopy"}}}
        status = {"phase": phase, "nodes": nodes, "artifactRepositoryRef": repository}
        await self.ask("patch", "Workflow", workflow["metadata"]["name"], CAMPAIGNS, status=status)

    async def stopped(self, workflow: dict[str, Any]) -> None:
        """Wait until a Workflow was told to stop."""
        told = lambda: self.one("Workflow", workflow["metadata"]["name"])["spec"].get("shutdown") == "Stop"  # noqa: E731
        await eventually("it is told to stop", told, 60)

    async def due(self, cron: dict[str, Any], number: int) -> dict[str, Any]:
        """Create a Workflow of a schedule, as Argo does when it is due."""
        name, labels = cron["metadata"]["name"], cron["spec"]["workflowMetadata"]["labels"]
        meta = {"name": f"{name}-{number}", "namespace": CAMPAIGNS}
        meta["labels"] = {**labels, "workflows.argoproj.io/cron-workflow": name}
        about = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": meta, "spec": {}}
        return dict(await self.ask("post", "Workflow", namespace=CAMPAIGNS, **about))

    async def submitted(self) -> dict[str, Any]:
        """Wait for a Workflow that nothing is known of yet, and give it."""
        new = lambda: [each for each in self.all("Workflow") if not each.get("status")]  # noqa: E731
        return dict((await eventually("a Workflow is there", new, 60))[0])


@pytest.fixture
async def api(kmock: Emulator, tmp_path: Path) -> AsyncIterator[Api]:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": str(kmock.url).rstrip("/")}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {"token": "not-a-secret"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    async with aiohttp.ClientSession(str(kmock.url)) as user:
        api = Api(kmock, user, tmp_path / "kubeconfig")
        await api.start()
        yield api
        await api.stop()


SERVING = {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 1}
TCPDUMP = {"targetNamespace": "cnf-telco", "podLabel": {"app": "web"}, "interfaceName": "eth0", "packetCount": 10}


async def test_a_resource_is_run_and_its_status_says_how_it_goes(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    workflow = await api.submitted()
    assert workflow["spec"]["workflowTemplateRef"] == {"name": "capture-campaign"}
    await eventually("it is submitted", lambda: api.condition("Submitted") == ("True", "WorkflowCreated"))
    await api.argo(workflow, "Running", "Running Running")
    await eventually("it runs", lambda: api.condition("Running") == ("True", "Capturing"))
    assert api.status()["targets"] == {"planned": 2, "captured": 0, "failed": 0}
    await api.argo(workflow, "Succeeded", "Succeeded Succeeded", join="0")
    await eventually("it is complete", lambda: api.condition("Complete") == ("True", "Reported"))
    name = workflow["metadata"]["name"]
    assert api.condition("Degraded") == ("False", "AsExpected")
    status = api.status()
    assert status["report"] == f"s3://snoopy/reports/{CAMPAIGNS}/{name}/report.html"
    assert (status["phase"], status["observedGeneration"], status["workflow"]) == ("Complete", 1, name)
    assert status["targets"] == {"planned": 2, "captured": 2, "failed": 0}
    told = lambda: [each["reason"] for each in api.all("Event")]  # noqa: E731
    await eventually("it was told", lambda: {"WorkflowCreated", "Capturing", "Reported"} <= set(told()))
    assert {each["involvedObject"]["kind"] for each in api.all("Event")} == {"Tcpdump"}
    api.controller.terminate()
    assert await api.controller.wait() == 0


async def test_a_target_that_was_not_captured_degrades_it(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    await api.argo(await api.submitted(), "Failed", "Succeeded Failed", join="3")
    await eventually("it is degraded", lambda: api.condition("Degraded") == ("True", "TargetsNotCaptured"))
    assert api.condition("Complete") == ("True", "Reported"), "there is a report all the same"
    assert api.status()["targets"] == {"planned": 2, "captured": 1, "failed": 1}
    (event,) = await eventually("a warning", lambda: [each for each in api.all("Event") if each["type"] == "Warning"])
    assert "no such device" in event["message"]


async def test_what_is_wrong_is_said_and_nothing_runs_until_it_is_mended(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP, filter="tcp prt 80")
    await eventually("it is invalid", lambda: api.condition("Degraded") == ("True", "InvalidSpec"))
    assert api.status()["phase"] == "Invalid"
    assert not api.all("Workflow")
    await api.apply("Tcpdump", filter="tcp port 80")
    workflow = await api.submitted()
    await eventually("it is submitted", lambda: api.status().get("observedGeneration") == 2)
    assert api.condition("Degraded") == ("False", "AsExpected")
    parameters = {each["name"]: each["value"] for each in workflow["spec"]["arguments"]["parameters"]}
    assert parameters["filter"] == "tcp port 80"


async def test_another_specification_stops_what_runs_and_follows_it(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    first = await api.submitted()
    await api.argo(first, "Running", "Running")
    await api.apply("Tcpdump", packetCount=20)
    await api.stopped(first)
    assert len(api.all("Workflow")) == 1, "the second waits for the first one's report"
    await asyncio.sleep(4)  # while it waits, the resource is looked at
    assert api.condition("Degraded") == ("False", "AsExpected"), "nobody deleted the first"
    await api.argo(first, "Failed", "Succeeded", join="0")
    second = await api.submitted()
    await eventually("the second is in the status", lambda: api.status()["workflow"] == second["metadata"]["name"])
    assert api.status()["observedGeneration"] == 2


async def test_a_specification_that_is_taken_back_runs_again(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    first = await api.submitted()
    await api.argo(first, "Running", "Running")
    await api.apply("Tcpdump", packetCount=20)
    await api.stopped(first)
    await api.apply("Tcpdump", packetCount=10)  # to kopf there is no difference
    await asyncio.sleep(1)  # who has read it before may still act on it: the second would run for a moment, too
    await api.argo(first, "Failed", "Succeeded", join="0")
    again = await api.submitted()
    await eventually("it is in the status", lambda: api.status()["workflow"] == again["metadata"]["name"])
    assert api.status()["observedGeneration"] == 3


async def test_what_the_cluster_refuses_is_said_and_tried_again(api: Api) -> None:
    def full(what: str, made: bool) -> None:
        if what == "post workflows" and not made:
            raise KubernetesError(status=403, reason="Forbidden", message="exceeded quota")

    api.emulator.change = full
    await api.apply("Tcpdump", **TCPDUMP)
    await eventually("it is said", lambda: api.condition("Degraded") == ("True", "Refused"))
    (event,) = await eventually("a warning", lambda: [each for each in api.all("Event") if each["type"] == "Warning"])
    assert "exceeded quota" in event["message"]
    api.emulator.change = lambda *_: None
    await api.submitted()
    await eventually("that is over", lambda: api.condition("Degraded") == ("False", "AsExpected"))


async def test_stopped_before_there_was_anything_to_report(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    workflow = await api.submitted()
    await api.ask("patch", "Workflow", workflow["metadata"]["name"], CAMPAIGNS, spec={"shutdown": "Stop"})
    await api.argo(workflow, "Failed", "")
    await eventually("it is stopped", lambda: api.status().get("phase") == "Stopped")
    assert api.condition("Complete") == ("False", "NoReport")


async def test_it_says_that_it_is_alive_and_counts(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    await eventually("it is told", lambda: api.condition("Submitted")[0] == "True")
    async with aiohttp.ClientSession() as asking:
        async with asking.get(f"http://127.0.0.1:{api.ports['health']}/healthz") as answer:
            assert answer.status == 200
        async with asking.get(f"http://127.0.0.1:{api.ports['metrics']}/metrics") as answer:
            assert 'snoopy_controller_events_total{kind="Tcpdump",reason="WorkflowCreated"} 1.0' in await answer.text()


async def test_deleted_in_mid_run_it_is_stopped_and_goes_when_it_has_reported(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    workflow = await api.submitted()
    await api.argo(workflow, "Running", "Running")
    await api.ask("delete", "Tcpdump", "sample")
    name = workflow["metadata"]["name"]
    await eventually("it is stopped", lambda: api.one("Workflow", name)["spec"].get("shutdown") == "Stop")
    assert api.one("Tcpdump"), "the resource stays until then"
    await api.argo(workflow, "Failed", "Succeeded", join="0")
    await eventually("it is gone", lambda: not api.one("Tcpdump"))
    assert not api.all("Workflow")


async def test_a_schedule_is_followed_changed_paused_and_given_up(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP, schedule="*/5 * * * *")
    (cron,) = await eventually("a CronWorkflow is there", lambda: api.all("CronWorkflow"))
    await eventually("it is scheduled", lambda: api.status().get("phase") == "Scheduled")
    assert api.status()["cronJobList"] == [cron["metadata"]["name"]]
    run = await api.due(cron, 1)
    await api.argo(run, "Succeeded", "Succeeded", join="0")
    await eventually("its run is reported", lambda: api.condition("Complete") == ("True", "Reported"))
    assert api.status()["workflow"] == run["metadata"]["name"]

    await api.apply("Tcpdump", schedule="*/9 * * * *", suspend=True)
    await eventually("it is paused", lambda: api.status()["phase"] == "Paused")
    (changed,) = api.all("CronWorkflow")
    assert (changed["spec"]["schedules"], changed["spec"]["suspend"]) == (["*/9 * * * *"], True)
    assert api.condition("Complete") == ("True", "Reported"), "what the last run said stays"

    await api.apply("Tcpdump", schedule=None, suspend=None)
    await eventually("it runs at once", lambda: [each for each in api.all("Workflow") if not each.get("status")])
    await eventually("the schedule is gone", lambda: not api.all("CronWorkflow"))
    await eventually("the status knows", lambda: api.status()["cronJobList"] == [])


async def test_a_schedule_that_argo_refuses_degrades_it(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP, schedule="*/5 * * * *")
    (cron,) = await eventually("a CronWorkflow is there", lambda: api.all("CronWorkflow"))
    await api.argo(await api.due(cron, 1), "Succeeded", "Succeeded", join="0")
    refused = {"type": "SpecError", "status": "True", "message": "cron schedule is malformed"}
    await api.ask("patch", "CronWorkflow", cron["metadata"]["name"], CAMPAIGNS, status={"conditions": [refused]})
    await eventually("it is invalid", lambda: api.condition("Degraded") == ("True", "InvalidSchedule"))
    await asyncio.sleep(4)  # it is looked at
    assert api.condition("Degraded") == ("True", "InvalidSchedule"), "Argo has not taken it since"


async def test_a_schedule_that_somebody_deletes_is_made_again(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP, schedule="*/5 * * * *")
    (cron,) = await eventually("a CronWorkflow is there", lambda: api.all("CronWorkflow"))
    await eventually("it is scheduled", lambda: api.status().get("phase") == "Scheduled")
    await api.ask("delete", "CronWorkflow", cron["metadata"]["name"], CAMPAIGNS)
    (again,) = await eventually("it is there again", lambda: api.all("CronWorkflow"))
    assert again["spec"] == cron["spec"]


async def test_the_status_is_about_the_last_run_even_when_that_is_gone(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP, schedule="*/5 * * * *", successfulJobsHistoryLimit=0)
    (cron,) = await eventually("a CronWorkflow is there", lambda: api.all("CronWorkflow"))
    await api.argo(await api.due(cron, 1), "Failed", "Failed", join="3")
    await eventually("the first failed", lambda: api.condition("Degraded") == ("True", "TargetsNotCaptured"))
    second = await api.due(cron, 2)
    await api.argo(second, "Succeeded", "Succeeded", join="0")
    await eventually("the second is reported", lambda: api.condition("Degraded")[0] == "False")
    await api.ask("delete", "Workflow", second["metadata"]["name"], CAMPAIGNS)
    await asyncio.sleep(4)  # it is looked at
    assert api.condition("Degraded") == ("False", "AsExpected")
    assert api.status()["workflow"] == second["metadata"]["name"]


async def test_a_specification_that_cannot_be_run_stops_what_ran(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    workflow = await api.submitted()
    await api.argo(workflow, "Running", "Running")
    await eventually("it runs", lambda: api.condition("Running")[0] == "True")
    await api.apply("Tcpdump", filter="tcp prt 80")
    name = workflow["metadata"]["name"]
    await eventually("it is stopped", lambda: api.one("Workflow", name)["spec"].get("shutdown") == "Stop")
    await api.argo(workflow, "Failed", "Succeeded", join="0")
    await asyncio.sleep(3)
    assert api.condition("Degraded") == ("True", "InvalidSpec")
    assert api.condition("Running") == ("False", "InvalidSpec")
    assert api.status()["phase"] == "Invalid"


async def test_a_workflow_that_somebody_deletes_is_missed(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    workflow = await api.submitted()
    await api.argo(workflow, "Running", "Running")
    await eventually("it runs", lambda: api.condition("Running")[0] == "True")
    await api.ask("delete", "Workflow", workflow["metadata"]["name"], CAMPAIGNS)
    await eventually("it is missed", lambda: api.condition("Degraded") == ("True", "WorkflowDeleted"))
    assert api.condition("Running")[0] == "False"
    assert not api.all("Workflow"), "it is not run again"


async def test_a_status_that_could_not_be_written_is_written_later(api: Api) -> None:
    await api.apply("Tcpdump", **TCPDUMP)
    workflow = await api.submitted()
    await api.argo(workflow, "Running", "Running")
    await eventually("it runs", lambda: api.condition("Running")[0] == "True")
    refused = 0

    def unavailable(what: str, made: bool) -> None:
        nonlocal refused
        if what == "patch tcpdumps/status" and not made:
            refused += 1
            raise KubernetesError(status=503, reason="Unavailable", message="try again")

    api.emulator.change = unavailable
    await api.argo(workflow, "Succeeded", "Succeeded", join="0")
    await eventually("nobody can say so", lambda: refused >= 2)
    api.emulator.change = lambda *_: None
    await eventually("it is complete", lambda: api.condition("Complete") == ("True", "Reported"))
    assert api.status()["phase"] == "Complete"


async def test_what_ran_for_a_resource_that_is_gone_is_ended_and_removed(api: Api) -> None:
    """Somebody took the finalizer away, and the API is not there when it is noticed."""
    failures = iter([503])

    def unavailable(what: str, made: bool) -> None:
        if what == "patch workflows" and not made and (status := next(failures, None)):
            raise KubernetesError(status=status, reason="Unavailable", message="try again")

    api.emulator.change = unavailable
    owner = {"kind": "Tcpdump", "namespace": HERE, "name": "gone", "uid": "of-before"}
    labels = {f"snoopy.fennecproject.io/owner-{part}": value for part, value in owner.items()}
    for kind, name in (("Workflow", "cron-1"), ("CronWorkflow", "cron")):
        meta = {"name": name, "namespace": CAMPAIGNS}
        meta["labels"] = {**labels, "workflows.argoproj.io/cron-workflow": "cron"}
        about = {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": meta, "spec": {}}
        await api.ask("post", kind, namespace=CAMPAIGNS, **about)
    await eventually("it is stopped", lambda: api.one("Workflow", "cron-1")["spec"].get("shutdown") == "Stop")
    await eventually("nothing more is due", lambda: api.one("CronWorkflow", "cron")["spec"].get("suspend"))
    await api.argo({"metadata": {"name": "cron-1"}}, "Failed", "Succeeded", join="0")
    await eventually("it is removed", lambda: not api.all("Workflow"))
    if api.all("CronWorkflow"):
        await api.ask("patch", "CronWorkflow", "cron", CAMPAIGNS, status={"active": []})  # as Argo does then
    await eventually("so is the schedule", lambda: not api.all("CronWorkflow"))


async def test_a_data_endpoint_is_served_named_once_and_withdrawn(api: Api) -> None:
    steps = [{"name": "join", "container": {"image": "registry.example.com/snoopy:1"}}]
    meta = {"name": "capture-campaign", "namespace": CAMPAIGNS}
    about = {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTemplate", "metadata": meta}
    await api.ask("post", "WorkflowTemplate", namespace=CAMPAIGNS, **about, spec={"templates": steps})
    spec = {"serviceName": "snoopy-data-svc", "servicePort": 51001, "streamLimit": "1GiB"}
    await api.apply("SnoopyDataEndpoint", **spec)
    (deployment,) = await eventually("a Deployment is there", lambda: api.all("Deployment"))
    (service,) = await eventually("a Service is there", lambda: api.all("Service"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/snoopy:1"
    assert [port["port"] for port in service["spec"]["ports"]] == [51001]

    def ready(name: str = "sample") -> tuple[str, str]:
        found = api.one("SnoopyDataEndpoint", name).get("status", {}).get("conditions", [{"status": "", "reason": ""}])
        return found[0]["status"], found[0]["reason"]

    await eventually("it starts", lambda: ready() == ("False", "Starting"))
    await api.ask("patch", "Deployment", "snoopy-data-svc", CAMPAIGNS, status=SERVING)
    await eventually("it serves", lambda: ready() == ("True", "Serving"))
    assert api.status("SnoopyDataEndpoint")["address"] == f"snoopy-data-svc.{CAMPAIGNS}.svc:51001"

    for kind in ("Deployment", "Service"):
        await api.ask("delete", kind, "snoopy-data-svc", CAMPAIGNS)
    await eventually("both are there again", lambda: api.all("Deployment") and api.all("Service"))
    await eventually("it does not serve yet", lambda: ready() == ("False", "Starting"))

    await api.apply("SnoopyDataEndpoint", "other", **spec)
    await eventually("the name is taken", lambda: ready("other") == ("False", "NameTaken"))
    await api.ask("delete", "SnoopyDataEndpoint", "sample")
    uid = api.one("SnoopyDataEndpoint", "other")["metadata"]["uid"]
    mark = "snoopy.fennecproject.io/owner-uid"
    own = lambda: [each for each in api.all("Deployment") if each["metadata"]["labels"][mark] == uid]  # noqa: E731
    await eventually("the name is free for the other", own)
    await api.ask("delete", "SnoopyDataEndpoint", "other")
    await eventually("nothing is left", lambda: not api.all("Deployment") and not api.all("Service"))


async def test_an_api_that_fails_for_a_while_loses_nothing(api: Api) -> None:
    failures = iter([503, 500])

    def unavailable(what: str, made: bool) -> None:
        if what == "post workflows" and not made and (status := next(failures, None)):
            raise KubernetesError(status=status, reason="Unavailable", message="try again")

    api.emulator.change = unavailable
    await api.apply("Tcpdump", **TCPDUMP)
    await eventually("a Workflow is there", lambda: api.all("Workflow"), 60)
    await eventually("it is submitted", lambda: api.condition("Submitted") == ("True", "WorkflowCreated"))


async def the_whole_life(api: Api) -> None:
    """Run a resource from its creation to its deletion, as user and Argo do."""
    await api.apply("Tcpdump", **TCPDUMP)
    workflow = await api.submitted()
    await eventually("it is submitted", lambda: api.status().get("observedGeneration") == 1, 60)
    await api.argo(workflow, "Running", "Running")
    await eventually("it runs", lambda: api.condition("Running")[0] == "True", 60)
    await api.argo(workflow, "Succeeded", "Succeeded", join="0")
    await eventually("it is complete", lambda: api.status().get("phase") == "Complete", 60)
    assert len(api.all("Workflow")) == 1
    await api.ask("delete", "Tcpdump", "sample")
    await eventually("it is gone", lambda: not api.one("Tcpdump"), 60)
    assert not api.all("Workflow")


async def a_life_with_changes(api: Api) -> None:
    """Run a resource that is changed while it runs, and deleted while it runs."""
    await api.apply("Tcpdump", **TCPDUMP)
    first = await api.submitted()
    await api.argo(first, "Running", "Running")
    await api.apply("Tcpdump", packetCount=20)
    await api.stopped(first)
    await api.argo(first, "Failed", "Succeeded", join="0")
    second = await api.submitted()
    await api.argo(second, "Running", "Running")
    await eventually("the second is known", lambda: api.status().get("observedGeneration") == 2, 60)
    await api.ask("delete", "Tcpdump", "sample")
    await api.stopped(second)
    await api.argo(second, "Failed", "Succeeded", join="0")
    await eventually("it is gone", lambda: not api.one("Tcpdump"), 60)
    assert not api.all("Workflow")


async def a_life_on_schedule(api: Api) -> None:
    """Run a resource again and again, paused in between."""
    await api.apply("Tcpdump", **TCPDUMP, schedule="*/5 * * * *")
    (cron,) = await eventually("a CronWorkflow is there", lambda: api.all("CronWorkflow"), 60)
    await api.argo(await api.due(cron, 1), "Succeeded", "Succeeded", join="0")
    await eventually("it is reported", lambda: api.condition("Complete") == ("True", "Reported"), 60)
    await api.apply("Tcpdump", suspend=True)
    await eventually("it is paused", lambda: api.status().get("phase") == "Paused", 60)
    assert len(api.all("CronWorkflow")) == 1
    await api.ask("delete", "Tcpdump", "sample")
    await eventually("it is gone", lambda: not api.one("Tcpdump"), 60)
    assert not api.all("CronWorkflow") + api.all("Workflow")


@pytest.mark.parametrize(
    ("life", "times", "workflows", "changes"),
    [
        (the_whole_life, 2, 1, {"post workflows", "delete workflows"}),
        (a_life_with_changes, 1, 2, {"post workflows", "patch workflows", "delete workflows"}),
        (a_life_on_schedule, 1, 0, {"patch cronworkflows", "delete cronworkflows", "delete workflows"}),
    ],
)
async def test_killed_at_any_step_nothing_is_doubled_or_lost(
    api: Api, life: Callable[[Api], Awaitable[None]], times: int, workflows: int, changes: set[str]
) -> None:
    """At every kind of change that the controller makes it is killed, so many times before it is made, and after."""
    kills, created = Counter[tuple[str, bool]](), 0

    def kill(what: str, made: bool) -> None:
        nonlocal created
        created += what == "post workflows" and made
        if what == "post events" or kills[what, made] == times:
            return
        kills[what, made] += 1
        api.controller.kill()
        if not made:
            raise KubernetesError(status=500, reason="killed", message="nobody hears this")

    async def restart() -> None:
        while True:
            await api.controller.wait()
            await api.start()

    api.emulator.change = kill
    restarting = asyncio.create_task(restart())
    try:
        await life(api)
    finally:
        restarting.cancel()
    assert created == workflows
    assert {"patch tcpdumps", "patch tcpdumps/status", *changes} <= {what for what, made in kills if made}
