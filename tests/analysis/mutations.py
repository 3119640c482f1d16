"""Damage of every kind to the bytes of a file or a message."""

import os
import random
import struct

EFFORT = int(os.environ.get("SNOOPY_FUZZ", "1"))  # SNOOPY_FUZZ=20 tries 20 times as much
NUMBERS = (0, 1, 3, 15, 16, 17, 0x7F, 0x80, 0xFF, 0xFFFF, 0x40000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)


def mutated(data: bytes, seed: int, times: int) -> bytes:
    """Change bytes, write numbers that are lengths to somebody, leave out and repeat parts."""
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(times):
        at = chance.randrange(len(changed) + 1)
        other = min(len(changed), at + chance.randrange(1, 64))
        match chance.randrange(6):
            case 0 | 1:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 2 | 3:
                number = struct.pack(chance.choice("<>") + "I", chance.choice(NUMBERS))
                changed[at : at + 4] = number[: chance.choice((2, 4))]
            case 4:
                del changed[at:other]
            case _:
                changed[at:at] = changed[at:other]
    return bytes(changed)
