"""Names for addresses, from the plan and the captures' records: pod, service, node; anything else is external."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True, order=True, slots=True)
class Party:
    """One end of a pair. `kind` is pod, service, node or external; `name` is namespace/name where it has one."""

    kind: str
    name: str
    address: str

    def json(self, port: int | None = None) -> dict[str, Any]:
        """Give it as report.json has it."""
        about = {"kind": self.kind, "name": self.name, "address": self.address}
        return about if port is None else {**about, "port": port}


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

    def named(self, rows: pd.DataFrame, source: str, destination: str) -> pd.DataFrame:
        """Add who has the addresses in these two columns: `source` and `destination`, categories in parties' order.

        Each address is named once, however many rows have it. Rows that were seen inside a target have its name in
        the column `inside`.
        """
        address, addresses = pd.factorize(pd.concat([rows[source], rows[destination]], ignore_index=True))
        inside, insides = pd.factorize(rows["inside"])
        width = max(len(insides), 1)
        ends, end_of = np.unique(address * width + np.tile(inside, 2), return_inverse=True)
        texts, targets = addresses.tolist(), insides.tolist()
        parties = [self.party(texts[end // width], targets[end % width]) for end in ends.tolist()]
        ordered = sorted(set(parties), key=attrgetter("kind", "name", "address"))
        rank = {party: number for number, party in enumerate(ordered)}
        codes = np.array([rank[party] for party in parties], dtype=np.int64)[end_of]
        kind = pd.CategoricalDtype(pd.Index(ordered, dtype=object), ordered=True)
        halves = {"source": codes[: len(rows)], "destination": codes[len(rows) :]}
        return rows.assign(**{name: pd.Categorical.from_codes(half, dtype=kind) for name, half in halves.items()})
