# ruff: noqa: INP001 - a file beside its C program, loaded by path
"""PROGRAM in Python: the second road to its numbers. `btcfi guest check` compares both on random inputs."""

from __future__ import annotations

import random
import struct

INPUT = struct.Struct("<12IQI")
OUTPUT = struct.Struct("<QIIqQII")


def settle(data: bytes) -> bytes:
    """Return the 40 bytes that the guest writes for the 60 bytes ``data``."""
    words = INPUT.unpack(data)
    strike, spot, quantity, cap, version = words[1], words[2], words[3], words[4], words[13]
    for bad, error in ((version != 1, 1), (strike == 0, 3), (spot == 0, 4), (cap == 0, 6)):
        if bad:
            return OUTPUT.pack(0, 0, 0, 0, 0, 1, error)
    payout = min(max(spot - strike, 0), cap) * quantity // 100
    exercise_type = 1 if spot > strike else 2 if spot < strike else 3
    return OUTPUT.pack(payout, exercise_type, 0, 0, 0, 1, 0)


def random_input(rng: random.Random) -> bytes:
    """Return an input worth testing."""
    strike = rng.choice((0, 6_000_000, rng.getrandbits(32)))
    spot = rng.choice((0, strike, 6_543_210, rng.getrandbits(32)))
    words = [0, strike, spot, rng.getrandbits(32), rng.choice((0, 500_000, rng.getrandbits(32))), *[0] * 7]
    return INPUT.pack(*words, 10**8, rng.choice((1, 1, 1, 2)))
