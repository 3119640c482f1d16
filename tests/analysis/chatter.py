"""TCP conversations without sense: lost, repeated, swapped, probed and half seen, to compare analysts of TCP on."""

import struct
from random import Random

from tests.analysis.traffic import ACK, FIN, MS, PSH, RST, START, SYN, Row, Traffic

PAUSES = (1_000, 50_000, 400_000, 2_900_000, 3_100_000, 19 * MS, 21 * MS, 200 * MS, 1200 * MS)  # about every threshold
WINDOWS = (0, 1, 100, 1448, 2896, 64240)
SIZES = (1, 1, 2, 10, 100, 1448, 1448)
URG = 32


class Chat:
    """Two ends who say anything; `up` is the one that began."""

    def __init__(self, wire: Traffic, number: int) -> None:
        self.wire, self.chance, self.at = wire, Random(number), START + number * MS
        client = f"10.{number >> 14 & 255}.{number >> 7 & 127}.{number & 127}"
        self.row = wire.add(Row("tcp", client, 40000, f"10.200.0.{number % 200 + 1}", 80))
        chance = self.chance
        starts = (1, 2**32 - 2001, chance.randrange(2**32))
        self.next = {True: chance.choice(starts), False: chance.choice(starts)}
        self.window = {True: chance.choice((5, 100, 2896, 64240)), False: chance.choice((100, 2896, 64240))}
        self.sent: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self.acked = {True: 0, False: 0}

    def send(self, up: bool, flags: int, seq: int, size: int = 0, *, options: bytes = b"") -> None:
        self.at += self.chance.choice(PAUSES)
        ports = (40000, 80) if up else (80, 40000)
        ack = self.acked[up] if flags & ACK else 0
        numbers = (seq % 2**32, ack % 2**32, 5 + len(options) // 4 << 4, flags, self.window[up], 0, 0)
        self.wire.send(
            self.row, up, self.at, 6, struct.pack("!HHIIBBHHH", *ports, *numbers) + options + bytes(size), size
        )

    def open(self) -> None:
        """Shake hands: with window scaling or without, some SYNs twice, some unanswered, some not seen at all."""
        shifts = self.chance.choice(((), (0, 7), (7, 2), (2,)))
        options = [b"\3\3" + bytes([shift]) + b"\1" for shift in shifts] + [b"", b""]
        if self.chance.random() < 0.7:
            for _ in range(self.chance.choice((1, 1, 1, 2))):
                self.send(True, SYN, self.next[True], options=options[0])
            self.next[True] += 1
            self.acked[False] = self.next[True]
            if self.chance.random() < 0.9:
                for _ in range(self.chance.choice((1, 1, 1, 2))):
                    self.send(False, SYN | ACK, self.next[False], options=options[1])
                self.next[False] += 1
                self.acked[True] = self.next[False]
                self.send(True, ACK, self.next[True])
        self.acked = {True: self.next[False], False: self.next[True]}

    def say(self, up: bool) -> None:
        """Do one of the things that TCP does."""
        chance, seq, size = self.chance, self.next[up], self.chance.choice(SIZES)
        data = PSH | ACK
        match chance.choices(range(9), (30, 6, 14, 5, 20, 6, 3, 3, 5))[0]:
            case 0:
                self.sent[up].append((seq, size))
                self.send(up, data, seq, size)
                self.next[up] += size
            case 1:  # lost before it is seen
                self.sent[up].append((seq, size))
                self.next[up] += size
            case 2 if self.sent[up]:
                before, length = chance.choice(self.sent[up][-4:])
                self.send(up, data, before, chance.choice((length, length, length, length, 1, 2 * length, length + 5)))
            case 3:
                self.send(up, ACK, seq - 1, chance.choice((0, 1)))
            case 4:
                places = [at + length for at, length in self.sent[not up][-3:]]
                theirs = self.next[not up]
                self.acked[up] = chance.choice((theirs, self.acked[up], self.acked[up], theirs + 1000, *places))
                for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
                    self.send(up, ACK, seq)
            case 5:
                self.window[up], self.acked[up] = chance.choice(WINDOWS), self.next[not up]
                self.send(up, ACK, seq)
            case 6:
                self.send(up, FIN | ACK, seq, chance.choice((0, 0, 10)))
            case 7:
                self.send(up, chance.choice((RST | ACK, ACK | URG)), seq + chance.choice((0, 0, 5)))
            case _:
                self.send(up, data, seq + size, size)
                self.send(up, data, seq, size)
                self.next[up] += 2 * size


def chatter(seed: int, conversations: int) -> Traffic:
    """Make that many conversations, at the same time."""
    wire = Traffic(seed)
    for number in range(conversations):
        chat = Chat(wire, seed * conversations + number)
        chat.open()
        for _ in range(chat.chance.randrange(3, 25)):
            chat.say(chat.chance.random() < 0.5)
    return wire
