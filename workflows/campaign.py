"""The campaign in Argo's words: the WorkflowTemplate `capture-campaign`, and the Workflow that runs a plan.

Everything a step needs is on its own template, nothing on the Workflow: another Workflow can then call the
template `campaign` through a templateRef and get the same pods (see examples/).
"""

import json
from typing import Any, get_args

from hera.workflows import (
    DAG,
    ConfigMapEnv,
    Container,
    EmptyDirVolume,
    Env,
    HostPathVolume,
    NoneArchiveStrategy,
    Parameter,
    Resources,
    S3Artifact,
    SecretEnv,
    SecretVolume,
    Step,
    Steps,
    Task,
    TaskResult,
    Workflow,
    WorkflowTemplate,
)
from hera.workflows.models import (
    Capabilities,
    ExecutorConfig,
    PodGC,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    Toleration,
    TTLStrategy,
    ValueFrom,
    WorkflowTemplateRef,
)
from pydantic.fields import FieldInfo

from steps.campaign_input import CampaignInput
from steps.fields import DAY
from steps.handover import items
from steps.plan import Plan, reports_prefix

TEMPLATE = "capture-campaign"
NAMESPACE = "snoopy-operator"
LABELS = {"app.kubernetes.io/part-of": "snoopy"}
IMAGE = "localhost/snoopy:dev"
CAPTURE_IMAGE = "localhost/snoopy-capture:dev"
SCRATCH = "/tmp/snoopy"  # noqa: S108 -- an emptyDir of the pod's own: the one place it can write

#: The certificate for data endpoints that want one, and where it is mounted when there is one.
ENDPOINT_CLIENT, TLS = "snoopy-endpoint-client", "/etc/snoopy/endpoint-tls"

CAMPAIGN = ["--campaign={{workflow.name}}", "--namespace={{workflow.namespace}}"]
INPUT = [f"--{name}={{{{workflow.parameters.{name}}}}}" for name in CampaignInput.model_fields]
PINNED = ["target", "uid", "node"]

#: However the captures ended (none, some or all of them well), the report is written.
ENDED = TaskResult.succeeded | TaskResult.failed | TaskResult.errored | TaskResult.skipped

#: The scheduler places the pod as it places a DaemonSet's: `nodeName` would bypass its accounting.
_NODE = {"key": "metadata.name", "operator": "In", "values": ["{{inputs.parameters.node}}"]}
ON_THE_TARGETS_NODE = {
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [_NODE]}]}
        }
    },
    "terminationGracePeriodSeconds": 60,  # the last chunk goes up after SIGTERM
}


def _secret(variable: str, name: str, key: str) -> SecretEnv:
    return SecretEnv(name=variable, secret_name=name, secret_key=key)


STORE = [
    ConfigMapEnv(name="SNOOPY_ARTIFACT_REPOSITORY", config_map_name="artifact-repositories", config_map_key="snoopy"),
    _secret("AWS_ACCESS_KEY_ID", "snoopy-s3", "accesskey"),
    _secret("AWS_SECRET_ACCESS_KEY", "snoopy-s3", "secretkey"),
]


def _parameter(name: str, field: FieldInfo, default: str) -> Parameter:
    choices = ("false", "true") if field.annotation is bool else get_args(field.annotation)
    enum = [str(choice) for choice in choices] if default in choices else None
    return Parameter(name=name, value=default, description=field.description, enum=enum)


def _parameters() -> list[Parameter]:
    """Give the input's fields as the Argo UI's submit form shows them."""
    defaults = CampaignInput.defaults()
    return [_parameter(name, field, defaults[name]) for name, field in CampaignInput.model_fields.items()]


def _security(uid: int, *capabilities: str) -> SecurityContext:
    return SecurityContext(
        run_as_user=uid,
        run_as_non_root=uid != 0,
        read_only_root_filesystem=True,
        allow_privilege_escalation=False,
        capabilities=Capabilities(drop=["ALL"], add=list(capabilities) or None),
    )


def _step(name: str, *, module: str = "", **how: Any) -> Container:
    """Give a step's pod: no service-account token, one writable directory, its last words as its message."""
    settings: dict[str, Any] = {
        "image": IMAGE,
        "command": ["python", "-m", module or f"steps.{name}"],
        "volumes": [EmptyDirVolume(name="scratch", mount_path=SCRATCH)],
        "security_context": _security(65532),
        "automount_service_account_token": False,
        "service_account_name": "snoopy-workflow",
        **how,
    }
    settings["env"] = [*(Env(name=name, value=SCRATCH) for name in ("HOME", "TMPDIR")), *settings.get("env", [])]
    return Container(
        name=name,
        labels=LABELS,
        executor=ExecutorConfig(service_account_name="snoopy-workflow"),
        pod_security_context=PodSecurityContext(seccomp_profile=SeccompProfile(type="RuntimeDefault")),
        termination_message_policy="FallbackToLogsOnError",
        **settings,
    )


def _resolve() -> Container:
    return _step(
        "resolve",
        args=[*CAMPAIGN, "--workflow-uid={{workflow.uid}}", *INPUT],
        env=STORE,
        service_account_name="snoopy-resolve",
        automount_service_account_token=True,
        resources=Resources(cpu_request="50m", cpu_limit=1, memory_request="128Mi", memory_limit="512Mi"),
        outputs=[Parameter(name="targets", value_from=ValueFrom(path=f"{SCRATCH}/targets"))],
    )


def _capture() -> Container:
    """Give the step that captures at one target.

    It is not retried: a second try would capture another moment than the others, and replace its files.
    """
    return _step(
        "capture",
        image=CAPTURE_IMAGE,
        inputs=[Parameter(name=name) for name in PINNED],
        args=[*CAMPAIGN, *(f"--{name}={{{{inputs.parameters.{name}}}}}" for name in PINNED), *INPUT],
        env=[_secret("SNOOPY_UPLOAD", "{{workflow.name}}", "{{inputs.parameters.uid}}")],
        volumes=[
            EmptyDirVolume(name="scratch", mount_path=SCRATCH),
            HostPathVolume(name="host-proc", path="/proc", mount_path="/host/proc", read_only=True),
            SecretVolume(
                name="endpoint-tls", secret_name=ENDPOINT_CLIENT, mount_path=TLS, read_only=True, optional=True
            ),
        ],
        security_context=_security(0, "SYS_ADMIN", "SYS_PTRACE", "NET_RAW", "NET_ADMIN"),
        tolerations=[Toleration(operator="Exists")],
        pod_spec_patch=json.dumps(ON_THE_TARGETS_NODE),
        resources=Resources(cpu_request="50m", cpu_limit=2, memory_request="64Mi", memory_limit="512Mi"),
    )


def _join(name: str, *arguments: str) -> Container:
    """Give the step that writes the report.

    Its artifact is optional, so that when it fails, its own message is the one that Argo shows.
    """
    return _step(
        name,
        module="steps.join",
        args=[*CAMPAIGN, *arguments],
        env=STORE,
        resources=Resources(cpu_request="100m", cpu_limit=2, memory_request="256Mi", memory_limit="4Gi"),
        outputs=[
            S3Artifact(
                name="report",
                path=f"{SCRATCH}/report.html",
                key=reports_prefix("{{workflow.namespace}}", "{{workflow.name}}") + "report.html",
                archive=NoneArchiveStrategy(),  # or the Argo UI would offer a download, not show the page
                optional=True,
            )
        ],
    )


def template() -> WorkflowTemplate:
    """Build the WorkflowTemplate `capture-campaign`."""
    with WorkflowTemplate(
        name=TEMPLATE,
        labels=LABELS,
        entrypoint="campaign",
        on_exit="exit",
        arguments=_parameters(),
        active_deadline_seconds=DAY + 3600,  # the longest capture, and time around it
        ttl_strategy=TTLStrategy(seconds_after_completion=7 * DAY),
        # What failed keeps its pods, and so its logs, as long as the Workflow; reports are kept elsewhere.
        pod_gc=PodGC(strategy="OnWorkflowSuccess", delete_delay_duration="1h"),
    ) as campaign:
        resolve, capture, join = _resolve(), _capture(), _join("join")
        salvage = _join("salvage", "--unless-reported")

        with DAG(name="capture-and-join", inputs=[Parameter(name="targets")], fail_fast=False) as both:
            item = {"target": "{{item.target}}", "uid": "{{item.id}}", "node": "{{item.node}}"}
            every = "{{inputs.parameters.targets}}"
            captures = Task(name="capture", template=capture, with_param=every, arguments=item)
            captures.next(Task(name="join", template=join), on=ENDED)

        with DAG(name="campaign"):
            resolved = Task(name="resolve", template=resolve)
            targets = {"targets": "{{tasks.resolve.outputs.parameters.targets}}"}
            resolved.next(Task(name="capture-and-join", template=both, arguments=targets))

        with Steps(name="exit"):
            Step(name="salvage", template=salvage, when="{{workflow.status}} != Succeeded")

    return campaign


def manifest() -> str:
    """Give the WorkflowTemplate as deploy/components/campaign-namespace holds it."""
    return "# Generated by `snoopy manifests` from workflows/campaign.py.\n" + str(template().to_yaml())


def planned(plan: Plan) -> Workflow:
    """Build the Workflow that runs a plan: it starts with the captures, since the targets are known.

    Its deadline leaves ten minutes around the captures, for nodes that pull the image and for the join.
    """
    return Workflow(
        name=plan.campaign,
        namespace=plan.namespace,
        labels=LABELS,
        entrypoint="capture-and-join",
        workflow_template_ref=WorkflowTemplateRef(name=TEMPLATE),
        arguments={**plan.input.parameters(), "targets": items(plan)},
        active_deadline_seconds=int(plan.input.duration) + 600,
    )
