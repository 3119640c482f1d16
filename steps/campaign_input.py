"""What a campaign is asked for: the fields of its input, each checked, and what is wrong with one in a sentence."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from steps.fields import MIB, as_written, endpoint, interface_name, known_thresholds, owner, ports, within_a_day, words


class InvalidInputError(ValueError):
    """The campaign's input is wrong; the message is one sentence for the person who wrote it."""


Tool = Literal[
    "tcpdump", "iperf3", "iperf", "ping", "traceroute", "ss", "ip", "tc", "nstat", "ethtool",
    "tcpdump+iperf3", "tcpdump+iperf", "tcpdump+ping", "tcpdump+traceroute", "tcpdump+ss", "tcpdump+ip", "tcpdump+tc",
    "tcpdump+nstat", "tcpdump+ethtool",
]  # fmt: skip
#: Tools that only print their usage, or fail, without.
NEEDS_ARGUMENTS = {"iperf3", "iperf", "ping", "traceroute", "ip", "tc", "ethtool"}

PATTERNS = {
    "trend": "at most 63 of a-z, 0-9, . and - are allowed, with a letter or digit at either end",
}

Words = Annotated[list[str], BeforeValidator(words)]
Size = Annotated[ByteSize, PlainSerializer(as_written)]
Duration = Annotated[float, BeforeValidator(within_a_day), PlainSerializer(lambda value: f"{value:g}s")]


class CampaignInput(BaseModel):
    """What a person chooses: the same names as flags, in campaign.yaml and as the WorkflowTemplate's parameters.

    A pod is a target when it matches every criterion given; within one criterion, any value will do.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True)

    namespaces: Words = Field(["default"], description="Namespaces of the pods to capture")
    selector: str = Field("", description="Label selector, as kubectl's -l: app=web,tier!=cache")
    pods: Words = Field([], description="Pod names; * and ? match as in a shell: web-*")
    owners: Annotated[list[Annotated[str, AfterValidator(owner)]], BeforeValidator(words)] = Field(
        [], description="Owners of the pods: deploy/web, statefulset/db, daemonset/agent, job/import"
    )
    nodes: Words = Field([], description="Only pods on these nodes")
    interface: Annotated[str, AfterValidator(interface_name)] = Field(
        "eth0", description="The pod's interface to capture on"
    )
    loopback: bool = Field(False, description="Also capture the pod's loopback interface, as a second capture")
    filter: str = Field("", description="What to capture, in tcpdump's language (pcap-filter(7)); empty: everything")
    snaplen: int = Field(262144, ge=1, le=262144, description="Bytes kept of each packet")
    duration: Duration = Field(30.0, description="How long to capture: 30s, 5m, 1h30m")
    packets: int = Field(1_000_000, ge=1, le=1_000_000_000, description="Stop a capture after this many packets")
    bytes: Size = Field(
        ByteSize(256 * MIB), ge=1024, le=10_240 * MIB, description="Stop a capture after this many bytes: 64MiB, 1GiB"
    )
    buffer: Size = Field(
        ByteSize(16 * MIB),
        ge=65_536,
        le=256 * MIB,
        description="Kernel buffer per capture; packets that do not fit are dropped",
    )
    chunk: Size = Field(
        ByteSize(8 * MIB),
        ge=MIB,
        le=32 * MIB,
        description="A capture is uploaded in pieces of this size, while it runs",
    )
    tool: Tool = Field(
        "tcpdump", description="What runs in the pods' network namespaces; tcpdump+TOOL captures what TOOL does"
    )
    arguments: str = Field(
        "",
        description="The tool's arguments, as typed after its name: -c 10.0.0.7 -t 10; "
        "tcpdump with arguments prints text, and captures nothing",
    )
    print: bool = Field(False, description="Print every captured packet in its pod's log too, as tcpdump does")
    destination: Annotated[str, AfterValidator(endpoint)] = Field(
        "", description="A data endpoint that gets all output too: HOST:PORT, or tls://HOST:PORT"
    )
    thresholds: Annotated[list[str], AfterValidator(known_thresholds), BeforeValidator(words)] = Field(
        [],
        description="What is worth a finding in the report (docs/report.md): dns_slow_ms=50",
    )
    vxlan: Annotated[list[str], AfterValidator(ports), BeforeValidator(words)] = Field(
        ["4789", "8472"], description="UDP ports on which VXLAN is spoken: what it carries is analysed"
    )
    parallelism: int = Field(
        100, ge=1, le=1000, description="Pods that may be captured at once; a selection of more is refused"
    )
    trend: str = Field(
        "",
        pattern=r"^([a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)?$",
        description="The series this report continues: a schedule's name",
    )

    @model_validator(mode="after")
    def _says_which_pods(self) -> Self:
        if not (self.selector or self.pods or self.owners or self.nodes):
            raise ValueError("selector, pods, owners or nodes must say which pods to capture (pods: '*' for all)")
        return self

    @model_validator(mode="after")
    def _is_safe_text(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and ("{{" in text or "\0" in text):
                    raise ValueError(f"{name}: {text!r}: neither '{{{{', which Argo would expand, nor NUL is allowed")
        if self.filter.lstrip().startswith("-"):
            raise ValueError(f"filter: {self.filter!r} starts with '-', as an option would, not a filter")
        return self

    @model_validator(mode="after")
    def _tool_has_its_arguments(self) -> Self:
        if not self.arguments and self.program in NEEDS_ARGUMENTS:
            raise ValueError(f"arguments: '': {self.program} needs some, as they are typed after its name")
        if self.print and not self.captures:
            raise ValueError(f"print: 'true': only a capture's packets are printed, and tool {self.tool} captures none")
        return self

    @property
    def captures(self) -> bool:
        """Whether packets are captured."""
        return self.tool.startswith("tcpdump+") or (self.tool == "tcpdump" and not self.arguments)

    @property
    def program(self) -> str:
        """What runs besides the capture, with the arguments; empty when nothing does."""
        return "" if self.tool == "tcpdump" and not self.arguments else self.tool.removeprefix("tcpdump+")

    @classmethod
    def defaults(cls) -> dict[str, str]:
        """Give the parameters of a campaign that says nothing yet."""
        return {**campaign_input({"pods": "*"}).parameters(), "pods": ""}

    def parameters(self) -> dict[str, str]:
        """Give the input as Argo parameters: every value as the text that this model reads back."""
        dumped = self.model_dump(mode="json")
        return {name: ",".join(value) if isinstance(value, list) else _text(value) for name, value in dumped.items()}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def campaign_input(values: Mapping[str, Any]) -> CampaignInput:
    """Check what a person wrote.

    Raises:
        InvalidInputError: one sentence that names the field, the value and what is allowed.

    """
    try:
        return CampaignInput.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidInputError("; ".join(_sentence(dict(detail)) for detail in error.errors())) from None


def _sentence(detail: dict[str, Any]) -> str:
    field = ".".join(part for part in detail["loc"] if isinstance(part, str))  # without the number of a list's item
    message = _allowed(detail) or detail["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if not field:
        return message
    if detail["type"] == "extra_forbidden":
        return f"{field}: no such field; the fields are {', '.join(CampaignInput.model_fields)}"
    value = detail["input"]
    return f"{field}: {(','.join(map(str, value)) if isinstance(value, list) else value)!r}: {message}"


def _allowed(detail: dict[str, Any]) -> str:
    """Say what is allowed, where pydantic's own words are for programmers."""
    limits, is_size = detail.get("ctx", {}), detail["loc"] and detail["loc"][0] in {"bytes", "buffer", "chunk"}
    for word, limit in (("at least", limits.get("ge")), ("at most", limits.get("le"))):
        if limit is not None:
            return f"{word} {as_written(limit) if is_size else limit} is allowed"
    match detail["type"]:
        case "string_pattern_mismatch":
            return PATTERNS[str(detail["loc"][0])]
        case "int_parsing" | "int_type" | "int_from_float":
            return "a whole number is needed"
        case "byte_size" | "byte_size_unit":
            return "a size such as 512KiB, 64MiB or 1GiB is needed"
    return ""
