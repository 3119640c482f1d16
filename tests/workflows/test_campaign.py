"""The WorkflowTemplate: current, accepted by Argo, consistent in itself, and within the security policy."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.campaign_input import CampaignInput, campaign_input
from steps.plan import Plan, Target
from workflows import campaign

COMMITTED = Path(__file__).parents[2] / "deploy/components/campaign-namespace/capture-campaign.yaml"
BUILT = yaml.safe_load(campaign.manifest())
TEMPLATES = {template["name"]: template for template in BUILT["spec"]["templates"]}
PODS = {name: template for name, template in TEMPLATES.items() if "container" in template}
TASKS = [
    task
    for template in TEMPLATES.values()
    for group in [template.get("dag", {}).get("tasks", ()), *template.get("steps", ())]
    for task in group
]


def plan() -> Plan:
    targets = [Target(namespace="shop", pod=f"web-{n}", uid=f"uid-{n}", node=f"node-{n}") for n in (1, 2)]
    asked = campaign_input({"selector": "app=web", "duration": "1m"})
    return Plan(
        campaign="c", namespace="n", submitted="2026-11-23T22:00:00Z", input=asked, targets=targets, left_out=[]
    )


def test_the_committed_manifest_is_current() -> None:
    assert COMMITTED.read_text() == campaign.manifest(), "run: make manifests"


def test_argo_accepts_the_template_and_the_workflow_of_a_plan(argo: str, tmp_path: Path) -> None:
    workflow = campaign.planned(plan())
    workflow.namespace = None  # or argo's offline lint would look for the template in that namespace
    (tmp_path / "workflow.yaml").write_text(str(workflow.to_yaml()))
    subprocess.run([argo, "lint", "--offline", COMMITTED, tmp_path / "workflow.yaml"], check=True)


def test_every_field_of_the_input_is_a_parameter_that_explains_itself() -> None:
    parameters = {each["name"]: each for each in BUILT["spec"]["arguments"]["parameters"]}
    assert list(parameters) == list(CampaignInput.model_fields)
    assert all(each["description"] for each in parameters.values())
    tools = {"iperf3", "iperf", "ping", "traceroute", "ss", "ip", "tc", "nstat", "ethtool"}
    assert set(parameters["tool"]["enum"]) == {"tcpdump"} | tools | {f"tcpdump+{tool}" for tool in tools}
    assert parameters["loopback"]["enum"] == ["false", "true"]


def test_the_defaults_and_a_selection_are_a_campaign() -> None:
    defaults = {each["name"]: each["value"] for each in BUILT["spec"]["arguments"]["parameters"]}
    assert campaign_input(defaults | {"selector": "app=web"}) == campaign_input({"selector": "app=web"})


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["name"])
def test_a_task_gives_its_template_each_of_its_inputs_and_nothing_else(task: dict[str, Any]) -> None:
    given = {each["name"] for each in task.get("arguments", {}).get("parameters", ())}
    inputs = TEMPLATES[task["template"]].get("inputs", {}).get("parameters", ())
    assert given <= {each["name"] for each in inputs}
    assert given >= {each["name"] for each in inputs if "value" not in each and "default" not in each}


def test_every_reference_to_a_parameter_names_one() -> None:
    names = set(CampaignInput.model_fields)
    assert set(re.findall(r"\{\{workflow\.parameters\.([^}]*)\}\}", campaign.manifest())) == names
    for template in TEMPLATES.values():
        own = {each["name"] for each in template.get("inputs", {}).get("parameters", ())}
        assert set(re.findall(r"\{\{inputs\.parameters\.([^}]*)\}\}", json.dumps(template))) == own


def test_what_a_person_writes_is_one_argument_each_and_no_shell_reads_it() -> None:
    for template in PODS.values():
        container = template["container"]
        assert container["command"][:2] == ["python", "-m"]
        assert all(arg.count("{{workflow.parameters.") <= 1 and arg.startswith("--") for arg in container["args"])


@pytest.mark.parametrize("template", PODS.values(), ids=PODS)
def test_a_pod_is_within_the_policy(template: dict[str, Any]) -> None:
    container = template["container"]
    security = container["securityContext"]
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    assert set(container["resources"]) == {"requests", "limits"}
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == ["/tmp/snoopy"]
    for word in ("privileged", "hostPID", "hostNetwork", "hostIPC", "nodeName"):
        assert word not in json.dumps(template)


@pytest.mark.parametrize("name", PODS)
def test_only_the_capture_has_capabilities_and_it_has_no_keys(name: str) -> None:
    container = PODS[name]["container"]
    security, text = container["securityContext"], json.dumps(PODS[name])
    if name == "capture":
        assert security["capabilities"]["add"] == ["SYS_ADMIN", "SYS_PTRACE", "NET_RAW", "NET_ADMIN"]
        assert "snoopy-s3" not in text
    else:
        assert "add" not in security["capabilities"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 65532)
        assert "hostPath" not in text


def test_only_resolving_has_a_token_of_the_kubernetes_api() -> None:
    tokens = {name: template["automountServiceAccountToken"] for name, template in PODS.items()}
    assert {name for name, has in tokens.items() if has} == {"resolve"}
    assert {template["executor"]["serviceAccountName"] for template in PODS.values()} == {"snoopy-workflow"}


def test_secrets_reach_pods_by_reference_only() -> None:
    secret = re.compile("KEY|UPLOAD|SECRET|TOKEN|PASSWORD", re.IGNORECASE)
    for template in PODS.values():
        for variable in template["container"]["env"]:
            if secret.search(variable["name"]):
                assert set(variable["valueFrom"]) == {"secretKeyRef"}
        assert not any(secret.search(arg) for arg in template["container"]["args"])


def test_a_capture_is_pinned_by_the_scheduler_and_has_time_to_upload() -> None:
    patch = json.loads(PODS["capture"]["podSpecPatch"])
    terms = patch["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    node = {"key": "metadata.name", "operator": "In", "values": ["{{inputs.parameters.node}}"]}
    assert terms == {"nodeSelectorTerms": [{"matchFields": [node]}]}
    assert patch["terminationGracePeriodSeconds"] >= 60
    assert PODS["capture"]["tolerations"] == [{"operator": "Exists"}]


def test_the_workflow_of_a_plan_starts_with_the_captures_and_is_bounded() -> None:
    spec = campaign.planned(plan()).to_dict()["spec"]
    arguments = {each["name"]: each["value"] for each in spec["arguments"]["parameters"]}
    assert spec["entrypoint"] == "capture-and-join"
    assert json.loads(arguments.pop("targets"))[1] == {"id": "uid-2", "node": "node-2", "target": "shop/web-2"}
    assert campaign_input(arguments) == plan().input
    assert 60 < spec["activeDeadlineSeconds"] <= 60 + 600


def test_the_workflow_of_a_plan_changes_only_what_a_strict_controller_allows() -> None:
    spec = campaign.planned(plan()).to_dict()["spec"]
    assert set(spec) == {"activeDeadlineSeconds", "arguments", "entrypoint", "workflowTemplateRef"}
