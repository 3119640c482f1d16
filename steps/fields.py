"""What each field of a campaign's input may be: texts that people write, read and checked one by one.

What is not allowed is a ValueError that says what is.
"""

import re

from analysis.thresholds import thresholds

DAY, MIB = 86_400, 1024**2
SHORTEST, HIGHEST_PORT = 0.1, 65535
UNITS = {"d": DAY, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
#: No number, which stands for any capture device, and none of the devices that are no interface of the pod: whoever
#: listens on nfqueue lets packets pass.
INTERFACE = re.compile(r"(?!\d+$|nflog|nfqueue|dbus-|usbmon|bluetooth)[\w.@:-]{1,15}", re.ASCII)
KINDS = {
    "Deployment": ("deploy", "deployment", "deployments"),
    "StatefulSet": ("sts", "statefulset", "statefulsets"),
    "DaemonSet": ("ds", "daemonset", "daemonsets"),
    "ReplicaSet": ("rs", "replicaset", "replicasets"),
    "Job": ("job", "jobs"),
}


def seconds(text: object) -> float:
    """Read a duration such as `90s`, `1m30s`, `1.5h` or `2d` (Go's notation, and days); a bare number is seconds."""
    if isinstance(text, int | float):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[dhms])", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != text:
        if re.fullmatch(r"\d+(\.\d+)?", str(text)):
            return float(str(text))
        raise ValueError("a duration such as 30s, 1m30s, 2h or 1d is needed")
    return float(sum(float(number) * UNITS[unit] for number, unit in parts))


def within_a_day(text: object) -> float:
    """Read a duration that is long enough to see a packet, and at most a day."""
    duration = seconds(text)
    if not SHORTEST <= duration <= DAY:
        raise ValueError("at least 100ms and at most 1d is allowed")
    return duration


def words(value: object) -> object:
    """Read words with commas or spaces between them, each once; anything else is left for the model to check."""
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    return [each for place, each in enumerate(value) if each not in value[:place]] if isinstance(value, list) else value


def interface_name(text: str) -> str:
    """Read the name of an interface."""
    if not INTERFACE.fullmatch(text):
        raise ValueError("at most 15 letters, digits and . _ @ : - are allowed, and no number or other capture device")
    return text


def owner(text: str) -> str:
    """Read KIND/NAME as kubectl takes it, such as deploy/web; give the kind as Kubernetes spells it: Deployment/web."""
    kind, _, name = text.partition("/")
    for spelled, short in KINDS.items():
        if kind.lower() in short and name:
            return f"{spelled}/{name}"
    raise ValueError(f"KIND/NAME is needed, with one of the kinds {', '.join(KINDS)}: deploy/web")


def known_thresholds(texts: list[str]) -> list[str]:
    """Check NAME=VALUE texts."""
    thresholds(texts)
    return texts


def ports(texts: list[str]) -> list[str]:
    """Check numbers of UDP ports."""
    for text in texts:
        if not text.isascii() or not text.isdigit() or not 0 < int(text) <= HIGHEST_PORT:
            raise ValueError("whole numbers from 1 to 65535 are needed")
    return texts


def endpoint(text: str) -> str:
    """Check where a data endpoint is: HOST:PORT or tls://HOST:PORT; HOST may be an IPv6 address in brackets."""
    match = re.fullmatch(r"(?:tls://)?(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", text)
    if text and not (match and 0 < int(match[1]) <= HIGHEST_PORT):
        raise ValueError("HOST:PORT or tls://HOST:PORT is needed")
    return text


def as_written(size: int) -> str:
    """Give a size in bytes with the largest unit that leaves a whole number: 256MiB."""
    for unit, factor in (("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", 1024)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
