"""What a campaign plans, and what each capture did: the models behind the JSON files, and where those are kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steps.campaign_input import CampaignInput

#: The one directory that a step's pod can write: an emptyDir of its own.
SCRATCH = Path("/tmp/snoopy")  # noqa: S108 - as said
#: What the join step exits with when its report is saved and a target was not captured.
INCOMPLETE = 3


class Target(BaseModel):
    """One incarnation of a pod: a pod that restarts with another UID is another target."""

    namespace: str
    pod: str
    uid: str
    node: str
    addresses: list[str] = []
    node_addresses: list[str] = []
    owner: str = ""
    labels: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The target's name in messages: namespace/pod."""
        return f"{self.namespace}/{self.pod}"

    @property
    def directory(self) -> str:
        """What the target's directories in the object store begin with; `_` is no character of a Kubernetes name."""
        return f"{self.namespace}_{self.pod}_{self.uid[:8]}"


class LeftOut(BaseModel):
    """A pod that was chosen and cannot be captured."""

    namespace: str
    pod: str
    reason: str


class Endpoint(BaseModel):
    """Where a service sends its clients."""

    address: str
    pod: str = ""


class Service(BaseModel):
    """A service of the targets' namespaces, so that a report can name addresses."""

    namespace: str
    name: str
    addresses: list[str]
    ports: list[int]
    endpoints: list[Endpoint] = []


class Plan(BaseModel):
    """What a campaign will do: plan.json."""

    schema_: Literal["snoopy.plan/v1"] = Field("snoopy.plan/v1", alias="schema")
    campaign: str
    namespace: str
    submitted: str
    input: CampaignInput
    targets: Sequence[Target]
    left_out: Sequence[LeftOut] = ()
    services: Sequence[Service] = ()

    model_config = ConfigDict(populate_by_name=True)


class CapturedFile(BaseModel):
    """One chunk of a capture: a whole, readable pcap file."""

    name: str
    sha256: str
    bytes: int
    packets: int


Outcome = Literal["capturing", "captured", "no_traffic", "pod_deleted", "capture_failed", "upload_failed", "missing"]


class CaptureRecord(BaseModel):
    """What one capture did: capture.json, beside its files. Written when it listens, and again when it ends.

    `capturing` is the outcome of a capture that has not ended: what is found long after it was cut off.
    Times are RFC 3339 in UTC.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["snoopy.capture/v1"] = Field("snoopy.capture/v1", alias="schema")
    target: Target
    interface: str
    tool: str
    arguments: list[str]
    outcome: Outcome
    reason: str = ""
    linktype: int | None = None
    files: list[CapturedFile] = []
    packets: int = 0
    first: str | None = None
    last: str | None = None
    listening: str | None = None
    ended: str | None = None
    kernel_dropped: int | None = None
    interface_dropped: int | None = None
    exit_code: int | None = None


def pcaps_prefix(namespace: str, campaign: str) -> str:
    """Where a campaign's captures are in the object store; apart from reports, so that retention can differ."""
    return f"pcaps/{namespace}/{campaign}/"


def reports_prefix(namespace: str, campaign: str) -> str:
    """Where a campaign's plan and reports are in the object store."""
    return f"reports/{namespace}/{campaign}/"


def trends_prefix(namespace: str, trend: str) -> str:
    """Where the points of a trend are in the object store: one for each of its campaigns."""
    return f"trends/{namespace}/{trend}/"
