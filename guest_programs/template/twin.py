# ruff: noqa: INP001 - a file beside its C program, loaded by path
"""PROGRAM in Python: the second road to its numbers. `btcfi guest check` compares both, on inputs of its own too.

Written from what the payoff should be and not from the C: a mistake that is copied is not found.
"""

from __future__ import annotations

import random
import struct

INPUT = struct.Struct("<12IQI")
OUTPUT = struct.Struct("<QIIqQII")

MOST_QUANTITY, MOST_COLLATERAL = 2_100_000_000, 2_100_000_000_000_000
SATS_PER_CENTIBTC = 1_000_000


def settle(data: bytes) -> bytes:
    """Return the 40 bytes that the guest writes for the 60 bytes ``data``."""
    kind, strike, spot, quantity, cap, early, minutes, _, _, _, premium, _, collateral, version = INPUT.unpack(data)
    checks = (
        (version == 1, 1), (kind == 0, 2), (strike > 0, 3), (spot > 0, 4), (0 < quantity <= MOST_QUANTITY, 5),
        (cap > 0, 6), (early == 0, 7), (minutes == 0, 8), (0 < collateral <= MOST_COLLATERAL, 12),
    )  # fmt: skip
    for holds, error in checks:
        if not holds:
            return OUTPUT.pack(0, 0, 0, 0, 0, 1, error)
    value = min(max(spot - strike, 0), cap) * quantity  # cents times 1/100 BTC, exact
    cents, sats = value // 100, min(value * SATS_PER_CENTIBTC // spot, collateral)
    exercise_type = 1 if spot > strike else 2 if spot < strike else 3
    return OUTPUT.pack(cents, exercise_type, 0, cents - premium, sats, 1, 0)


def random_input(rng: random.Random) -> bytes:
    """Return an input worth testing; `guest check` varies each of its words."""
    strike = rng.choice((6_000_000, 1 + rng.getrandbits(31)))
    spot = rng.choice((strike, 6_543_210, 1 + rng.getrandbits(31)))
    quantity, cap = 1 + rng.randrange(MOST_QUANTITY), rng.choice((500_000, 1 + rng.getrandbits(31)))
    words = [0, strike, spot, quantity, cap, 0, 0, 5000, spot, spot, rng.getrandbits(32), 500]
    return INPUT.pack(*words, 1 + rng.randrange(MOST_COLLATERAL), 1)
