"""Fees, dust and sizes: rules of relay policy, as integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType

from btcfi.bitcoin.script import OP_RETURN, P2A_SCRIPT, is_p2tr, is_witness_program
from btcfi.errors import InvalidInputError
from btcfi.units import Sats

SatsPerKvb = NewType("SatsPerKvb", int)
"""A fee rate: satoshis per 1000 virtual bytes, the unit in which nodes keep it; 1 sat/vB = 1000."""

MIN_RELAY_FEE_RATE: Final = SatsPerKvb(1000)
"""Below it, nodes before Bitcoin Core 29.1 neither relay nor keep a transaction (default -minrelaytxfee)."""

INCREMENTAL_FEE_RATE: Final = SatsPerKvb(1000)
"""What a replacement pays for its own size on top of what it replaces. Source: BIP125, rule 4."""

MAX_FEE_RATE: Final = SatsPerKvb(10_000_000)
"""sendrawtransaction's default -maxfeerate, 0.1 BTC/kvB: above it a node refuses to broadcast."""

DUST_P2TR: Final = Sats(330)
"""Smallest relayed P2TR output: 43 bytes of output and 67 of its later spend at 3 sat/vB. Core: GetDustThreshold."""

DUST_P2A: Final = Sats(240)
"""Smallest relayed pay-to-anchor output that needs no ephemeral-dust rule. Source: BIP433."""

_DUST_WITNESS_SPEND: Final = 67
_DUST_LEGACY_SPEND: Final = 148
_DUST_RATE: Final = 3
"""sat/vB at which Core's -dustrelayfee asks whether spending an output is worth it."""

P2TR_INPUT_WEIGHT: Final = 4 * 41 + 66
"""A key-path input: outpoint, empty script, sequence; witness count, length, 64-byte signature."""

P2WPKH_INPUT_WEIGHT: Final = 4 * 41 + 108
"""The same of a segwit v0 key hash: count, two lengths, a signature of at most 72 bytes, a key. Source: BIP141."""

P2TR_OUTPUT_WEIGHT: Final = 4 * 43
"""Amount, script length, 34-byte script."""

OVERHEAD_WEIGHT: Final = 4 * 10 + 2
"""Version, two one-byte counts, lock time; segwit marker and flag."""


def dust_limit(script: bytes) -> Sats:
    """Return the least amount that relays with this output script; 0 for OP_RETURN, which carries no money."""
    if script[:1] == bytes([OP_RETURN]):
        return Sats(0)
    if script == P2A_SCRIPT:
        return DUST_P2A
    if is_p2tr(script):
        return DUST_P2TR
    spend = _DUST_WITNESS_SPEND if is_witness_program(script) else _DUST_LEGACY_SPEND
    return Sats(_DUST_RATE * (8 + 1 + len(script) + spend))


def fee_for(vsize: int, rate: SatsPerKvb) -> Sats:
    """Return the fee of ``vsize`` virtual bytes at ``rate``, rounded up: never below the rate."""
    return Sats(-(-vsize * rate // 1000))


def vsize_of(weight: int) -> int:
    """Return virtual bytes of a weight, rounded up."""
    return -(-weight // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeRule:
    """Bounds around what a node estimates; from a preset."""

    floor: SatsPerKvb = MIN_RELAY_FEE_RATE
    cap: SatsPerKvb = SatsPerKvb(200_000)
    """200 sat/vB: above it we wait instead of paying, until a deadline is near."""
    deadline_cap: SatsPerKvb = SatsPerKvb(1_000_000)
    """Cap in the last ``deadline_blocks`` before a refund height: losing the race costs the whole payout."""
    deadline_blocks: int = 36

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless floor <= cap <= deadline_cap <= what a node accepts at all."""
        if not MIN_RELAY_FEE_RATE <= self.floor <= self.cap <= self.deadline_cap <= MAX_FEE_RATE:
            raise InvalidInputError(
                "fee rule",
                f"{self.floor}, {self.cap}, {self.deadline_cap}",
                "1000 <= floor <= cap <= deadline cap <= 10^7",
            )


_MAX_DOUBLINGS: Final = 14
"""From 1 sat/vB past what a node accepts at all; the cap ends it earlier."""


def choose_rate(
    estimate: SatsPerKvb | None, rule: FeeRule, *, blocks_late: int = 0, blocks_left: int | None = None
) -> SatsPerKvb:
    """Return the rate to pay: the node's estimate (or the floor), doubled per 3 late blocks, within the rule's bounds.

    blocks_late: blocks since the first broadcast. blocks_left: blocks until the deadline, if there is one; within
    ``rule.deadline_blocks`` of it the higher cap holds, and the doublings are spread so that they reach it in time,
    also for a payer who came late: what waits at the deadline pays the cap.
    """
    base, doublings = max(rule.floor, estimate or rule.floor), blocks_late // 3
    if blocks_left is None or blocks_left > rule.deadline_blocks:
        return SatsPerKvb(min(base << min(doublings, _MAX_DOUBLINGS), rule.cap))
    if blocks_late:
        to_the_cap = (rule.deadline_cap // base).bit_length()
        doublings = max(doublings, blocks_late * to_the_cap // (blocks_late + max(0, blocks_left)))
    return SatsPerKvb(min(base << min(doublings, _MAX_DOUBLINGS), rule.deadline_cap))


def replacement_fee(*, old_fee: Sats, vsize: int, rate: SatsPerKvb) -> Sats:
    """Return the fee of a replacement of ``vsize``: the new rate, and at least BIP125's old fee plus its own relay."""
    return Sats(max(fee_for(vsize, rate), old_fee + fee_for(vsize, INCREMENTAL_FEE_RATE)))
