"""Which conversation each packet belongs to, and who began it: arrays over one capture's packets."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

FIN, SYN, RST, ACK = 1, 2, 4, 16
EPHEMERAL = 32768  # where Linux's client ports begin (net.ipv4.ip_local_port_range)


class Conversations:
    """Packets as arrays, with the connection of each (`number`) and whether its originator sent it (`up`)."""

    def __init__(self, packets: pd.DataFrame) -> None:
        codes, addresses = pd.factorize(pd.concat([packets["src"], packets["dst"]]))
        self.addresses = addresses.to_numpy(object)
        src, dst = np.split(codes.astype(np.int64), 2)
        src_port, dst_port = packets["src_port"].to_numpy(np.int64), packets["dst_port"].to_numpy(np.int64)
        self.proto, self.kind = packets["proto"].to_numpy(object), packets["kind"].to_numpy(object)
        self.time, self.frame = packets["time"].to_numpy(np.int64), packets["frame"].to_numpy(np.int64)
        self.seq, self.ack = packets["seq"].to_numpy(np.int64), packets["ack"].to_numpy(np.int64)
        self.payload = packets["payload"].to_numpy(np.int64)
        self.tcp = self.proto == "tcp"
        self.flags = np.where(self.tcp, packets["flags"].to_numpy(np.int64), 0)
        self.every = np.ones(len(packets), dtype=bool)
        sender, receiver = src << 16 | src_port, dst << 16 | dst_port
        # TCP by tshark's stream, which a SYN with another initial sequence number begins; others by their ends
        ends = pd.DataFrame(
            {
                "proto": self.proto,
                "low": np.minimum(sender, receiver),
                "high": np.maximum(sender, receiver),
                "stream": packets["stream"].to_numpy(),
            }
        )
        self.number = ends.groupby(list(ends), sort=False).ngroup().to_numpy(np.int64)
        self.size = int(self.number.max(initial=-1)) + 1
        self._orient(sender, receiver, src_port, dst_port)

    def _orient(self, sender: Numbers, receiver: Numbers, src_port: Numbers, dst_port: Numbers) -> None:
        """Find who opened each connection: the SYN's sender; the SYN-ACK's receiver; else by the ports.

        Of a conversation that began before the capture did, the end with a client's port is taken to have opened
        it where the other end's port is no client's; otherwise the one that is seen first.
        """
        syn, answer = self.has(SYN, without=ACK), self.has(SYN | ACK)
        chosen = self.first(self.every)
        for better in (answer, syn):
            row = self.first(better)
            chosen = np.where(row < len(self.number), row, chosen)
        by_port = ~syn[chosen] & ~answer[chosen] & (src_port[chosen] < EPHEMERAL) & (dst_port[chosen] >= EPHEMERAL)
        swap = answer[chosen] | by_port
        self.flipped = swap & (chosen == self.first(self.every))
        self.opener = np.where(swap, receiver[chosen], sender[chosen])
        self.responder = np.where(swap, sender[chosen], receiver[chosen])
        self.up = sender == self.opener[self.number]

    def opened(self) -> pd.DataFrame:
        """Give each connection's protocol and ends."""
        table = pd.DataFrame({"proto": self.proto[self.first(self.every)]}, dtype="str")
        for name, end in (("src", self.opener), ("dst", self.responder)):
            table[name] = pd.Series(self.addresses[end >> 16], dtype="str")
            table[f"{name}_port"] = end & 0xFFFF
        return table

    def has(self, flags: int, without: int = 0) -> Mask:
        """Say which packets are TCP's with all of these flags, and none of those without."""
        matching: Mask = (self.flags & (flags | without) == flags) & self.tcp
        return matching

    def count(self, mask: Mask) -> Numbers:
        """Count each connection's packets in the mask."""
        return np.bincount(self.number[mask], minlength=self.size)

    def total(self, mask: Mask, values: pd.Series) -> Numbers:
        """Add up the values of each connection's packets in the mask."""
        sums = np.bincount(self.number[mask], values.to_numpy()[mask], minlength=self.size)
        return sums.astype(np.int64)

    def first(self, mask: Mask) -> Numbers:
        """Give the row of each connection's first packet in the mask; the number of rows where there is none."""
        rows = np.full(self.size, len(self.number))
        found = np.flatnonzero(mask)[::-1]
        rows[self.number[found]] = found
        return rows

    def last(self, mask: Mask) -> Numbers:
        """Give the row of each connection's last packet in the mask; -1 where there is none."""
        rows = np.full(self.size, -1)
        found = np.flatnonzero(mask)
        rows[self.number[found]] = found
        return rows
