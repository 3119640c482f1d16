"""snoopy-operator's resources in a campaign's words: from a Tcpdump's or a SnoopyJob's spec to what is to be run."""

import getopt
import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hera.workflows import Workflow
from hera.workflows.models import WorkflowTemplateRef

from steps import filters
from steps.campaign_input import CampaignInput, InvalidInputError, campaign_input
from steps.tools import TCPDUMP, command
from workflows.campaign import LABELS, TEMPLATE
from workflows.schedule import AROUND, LONGEST_NAME, Schedule, scheduled

#: How long a Tcpdump with a number of packets waits for them, where it does not say.
PATIENT = "1h"
#: What the labels begin with that say for which resource a Workflow runs.
OWNER = "snoopy.fennecproject.io/owner-"
OWNER_PARTS = ("kind", "namespace", "name", "uid")
DIGITS = 8

#: What a campaign's fields are called in a resource, so that its author finds them.
SCHEDULED = {
    "timezone": "timeZone",
    "concurrency": "concurrencyPolicy",
    "successful-runs": "successfulJobsHistoryLimit",
    "failed-runs": "failedJobsHistoryLimit",
}
NAMES = {
    "Tcpdump": {
        **SCHEDULED,
        "namespaces": "targetNamespace",
        "selector": "podLabel",
        "interface": "interfaceName",
        "packets": "packetCount",
    },
    "SnoopyJob": {
        **SCHEDULED,
        "namespaces": "targetNamespace",
        "selector": "labelSelector",
        "duration": "timer",
        "tool": "command",
        "destination": "dataServiceIP",
        **dict.fromkeys(("arguments", "interface", "packets", "snaplen", "buffer", "filter"), "args"),
    },
}
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

#: tcpdump's options that are fields of a campaign.
FIELDS = {
    "-i": "interface",
    "--interface": "interface",
    "-c": "packets",
    "-s": "snaplen",
    "--snapshot-length": "snaplen",
}
EVERYTHING = "262144"  # to tcpdump, -s 0 is that
#: Those that say how packets are printed, or how they are read from the kernel: they change no capture file.
BUFFER = {"-B", "--buffer-size"}
PRINTING = {f"-{letter}" for letter in "AbefHKlnNOpqStuUvwxX#"} | {
    *("--immediate-mode", "--no-promiscuous-mode", "--number", "--packet-buffered"),
}


@dataclass(frozen=True)
class Run:
    """What a resource asks for: a campaign, when there is a schedule again and again."""

    asked: CampaignInput
    schedule: Schedule | None


def run(resource: Mapping[str, Any]) -> Run:
    """Read a Tcpdump or a SnoopyJob, as the Kubernetes API gives it.

    Raises:
        InvalidInputError: its spec is wrong in a way that the API server could not see.

    """
    kind, spec = resource["kind"], resource["spec"]
    try:
        values = {"Tcpdump": _tcpdump, "SnoopyJob": _snoopy_job}[kind](spec)
        asked = campaign_input({"namespaces": [spec["targetNamespace"]], **values})
        filters.check_input(asked)
        return Run(asked, _schedule(spec))
    except InvalidInputError as error:
        field, colon, rest = str(error).partition(":")
        raise InvalidInputError(NAMES[kind].get(field, field) + colon + rest) from None


def _tcpdump(spec: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        "selector": _selector(spec["podLabel"]),
        "interface": spec.get("interfaceName"),
        "packets": spec.get("packetCount"),
        "duration": spec.get("duration") or (PATIENT if spec.get("packetCount") else None),
        "filter": spec.get("filter"),
        "print": True,  # its packets have always been in the logs of its pods
    }
    return {name: value for name, value in values.items() if value is not None}


def _snoopy_job(spec: Mapping[str, Any]) -> dict[str, Any]:
    tool, arguments = spec["command"], spec.get("args", "").strip()
    values = {"selector": _selector(spec["labelSelector"]), "tool": tool, "arguments": arguments}
    if tool == TCPDUMP.program:
        values |= _tcpdumps(arguments)
    if spec.get("timer"):
        values["duration"] = spec["timer"]
    if host := spec.get("dataServiceIP"):
        address = f"[{host}]" if ":" in host else host
        values["destination"] = f"{'tls://' if spec.get('dataServiceTLS') else ''}{address}:{spec['dataServicePort']}"
    return values


def _tcpdumps(arguments: str) -> dict[str, Any]:
    """Read tcpdump's arguments: with -w they are a campaign's capture; without it text is printed, as they say.

    What file -w names is of no account: its bytes go to the object store as they come.
    """
    try:
        options, rest = getopt.gnu_getopt(shlex.split(arguments), TCPDUMP.short, TCPDUMP.long)
    except (ValueError, getopt.GetoptError) as error:
        command(TCPDUMP, arguments)  # which says what is allowed
        raise InvalidInputError(f"arguments: {arguments!r}: {error}") from None
    if not any(name == "-w" for name, _ in options):
        return {"arguments": arguments or "-n"}
    values: dict[str, Any] = {"arguments": ""}
    for name, value in options:
        if field := FIELDS.get(name):
            values[field] = EVERYTHING if (field, value) == ("snaplen", "0") else value
        elif name in BUFFER:
            values["buffer"] = f"{value}KiB"
        elif name not in PRINTING:
            raise InvalidInputError(
                f"arguments: {arguments!r}: {name}: with -w, -i, -c, -s, -B and a filter are allowed"
            )
    return values | ({"filter": " ".join(rest)} if rest else {})


def _selector(labels: Mapping[str, str]) -> str:
    for key, value in labels.items():
        if not (LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(value)):
            raise InvalidInputError(f"selector: {key + '=' + value!r}: no label of a pod can be that")
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _schedule(spec: Mapping[str, Any]) -> Schedule | None:
    if not spec.get("schedule"):
        return None
    return Schedule(
        expression=spec["schedule"],
        timezone=spec.get("timeZone", ""),
        concurrency=spec.get("concurrencyPolicy", "Forbid"),
        suspend=spec.get("suspend", False),
        successful_runs=spec.get("successfulJobsHistoryLimit", 3),
        failed_runs=spec.get("failedJobsHistoryLimit", 3),
    )


def owned_by(resource: Mapping[str, Any]) -> dict[str, str]:
    """Give the labels by which a resource's Workflows are found, and it by them: in whatever namespace it is."""
    known = {"kind": resource["kind"], **resource["metadata"]}
    return {OWNER + part: known[part] for part in OWNER_PARTS}


def name(resource: Mapping[str, Any]) -> str:
    """Give the name of what runs for a resource: always the same for the same specification, so nothing runs twice.

    A schedule keeps its name whatever becomes of its specification.
    """
    meta, spec = resource["metadata"], resource["spec"]
    begins = spec.get("name") or str(meta["name"]).replace(".", "-")
    identity = meta["uid"] + ("" if spec.get("schedule") else f" {meta['generation']}")
    digits = hashlib.sha256(identity.encode()).hexdigest()[:DIGITS]
    return f"{begins[: LONGEST_NAME - DIGITS - 1].rstrip('-')}-{digits}"


def manifest(resource: Mapping[str, Any], what: Run, namespace: str) -> dict[str, Any]:
    """Give the Workflow that runs a resource once, or the CronWorkflow of its schedule, in the campaigns' namespace."""
    labels = owned_by(resource)
    made: Workflow
    if what.schedule:
        made = scheduled(what.asked, name=name(resource), namespace=namespace, schedule=what.schedule, labels=labels)
    else:
        made = Workflow(
            name=name(resource),
            namespace=namespace,
            labels=LABELS | labels,
            workflow_template_ref=WorkflowTemplateRef(name=TEMPLATE),
            arguments=what.asked.parameters(),
            active_deadline_seconds=int(what.asked.duration) + AROUND,
        )
    built: dict[str, Any] = made.to_dict()
    built["metadata"]["ownerReferences"] = owner_references(resource, namespace)
    return built


def owner_references(resource: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """Give the reference of an object in `namespace` to the resource it is made for: none to another namespace."""
    meta = resource["metadata"]
    if meta["namespace"] != namespace:
        return []
    of = {"apiVersion": resource["apiVersion"], "kind": resource["kind"], "name": meta["name"], "uid": meta["uid"]}
    return [of | {"controller": True}]
