"""Names for addresses, from the plan and the captures' records: pod, service, node; anything else is external."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Party:
    """One end of a pair. `kind` is pod, service, node or external; `name` is namespace/name where it has one."""

    kind: str
    name: str
    address: str

    def json(self, port: int | None = None) -> dict[str, Any]:
        """Give it as report.json has it."""
        return {**vars(self), **({} if port is None else {"port": port})}


class Names:
    """Who has which address, in one campaign."""

    def __init__(self, plan: Mapping[str, Any], targets: Iterable[Mapping[str, Any]]) -> None:
        known: dict[str, tuple[str, str]] = {}
        self._backends: dict[str, set[str]] = {}
        everyone = [*plan.get("targets", ()), *targets]
        for target in everyone:
            known |= dict.fromkeys(target.get("node_addresses", ()), ("node", target.get("node", "")))
        for service in plan.get("services", ()):
            endpoints = service.get("endpoints", ())
            name = f"{service['namespace']}/{service['name']}"
            known |= dict.fromkeys(service["addresses"], ("service", name))
            known |= {
                end["address"]: ("pod", f"{service['namespace']}/{end['pod']}") for end in endpoints if end.get("pod")
            }
            for address in service["addresses"]:
                self._backends.setdefault(address, set()).update(end["address"] for end in endpoints)
        for target in everyone:
            name = f"{target['namespace']}/{target['pod']}"
            known |= dict.fromkeys(target.get("addresses", ()), ("pod", name))
        self._known = known

    def party(self, address: str, inside: str = "") -> Party:
        """Name an address as seen inside a target (namespace/pod), to which its loopback addresses belong."""
        if inside and ipaddress.ip_address(address).is_loopback:
            return Party("pod", inside, address)
        kind, name = self._known.get(address, ("external", address))
        return Party(kind, name, address)

    def is_backend(self, service: str, address: str) -> bool:
        """Say whether the service at this address sends its clients to that address."""
        return address in self._backends.get(service, ())
