"""Mandates and identities of owners, for tests: what allows everything, and one change of it."""

import time
from dataclasses import replace

from btcfi.contracts.mandate import Authority, Bounds, Situation, sign_mandate
from btcfi.contracts.mandate_drafts import simulation_mandate
from btcfi.secp256k1 import public_key_xonly
from btcfi.units import Hash32, Height, Sats, UnixSeconds
from tests.support.contracts import ORACLES

IDENTITY_SECRET = b"\x21" * 32
IDENTITY = public_key_xonly(IDENTITY_SECRET)
PROGRAM = Hash32(b"\x01" * 32)
"""Of ``tests.support.contracts.event``."""


def mandate(*, oracles=ORACLES, threshold=1, programs=(PROGRAM,), **changes):
    """A mandate as wide as a simulation's, for these oracles' secrets, with changes."""
    wide = simulation_mandate(
        number=1, now=UnixSeconds(int(time.time())), network="regtest", programs=programs,
        oracle_keys=[public_key_xonly(secret) for secret in oracles], threshold=threshold,
        feeds=("BTC/USD", "BTC-USD"),
    )  # fmt: skip
    return replace(wide, **{"refund_delay": Bounds(least=1, most=65_535)} | changes)


def authority(given=None, *, height=100, now=1_739_999_000, exposure=0, network="regtest", **changes):
    """The right to sign under ``given``, or under ``mandate(**changes)``; the event of the scene is soon."""
    situation = Situation(network=network, height=Height(height), time=UnixSeconds(now), exposure=Sats(exposure))
    return Authority(
        signed=sign_mandate(given or mandate(**changes), IDENTITY_SECRET), identity=IDENTITY, situation=situation
    )


def give_mandate(desk, given, secret=IDENTITY_SECRET):
    """Have a desk know this owner, and put a mandate of hers in force, with the next number."""
    own(desk.owner, given, secret)


def own(owner, given, secret=IDENTITY_SECRET):
    """As ``give_mandate``, for a folder whose desk is another process's."""
    owner.adopt(public_key_xonly(secret))
    owner.install(sign_mandate(replace(given, number=owner.next_number()), secret))
