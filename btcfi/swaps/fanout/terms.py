"""What the owners of a fan-out agree on, and what each of them gets at every return that can be attested."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import (
    MIN_RELAY_FEE_RATE,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.script import is_p2tr
from btcfi.bitcoin.transaction import TxOut
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import Announcement, OracleEvent, check_announcement, check_together
from btcfi.swaps.contract import LOT, Rates, SwapContract
from btcfi.swaps.onchain import BURN_SCRIPT, SETTLE_FEE, MarginOutput, ReturnGrid
from btcfi.swaps.returns import Side, taker_profit
from btcfi.units import Sats, UnixSeconds

MAX_TAKERS: Final = 14
"""15 signers: at 21 a node may refuse the witness for its size ("bad-witness-witness-size", Knots 29)."""

PROVIDER: Final = 0
"""The provider's place among the owners; the takers' follow, from 1."""

FEE_CAP: Final = SatsPerKvb(300_000)
"""300 sat/vB: up to which a burn is promised unless the terms say otherwise."""

_FEE_SHARE: Final = 4 * 10
"""At the cap a burn's fee is at most a tenth of the quarter of the margin that it costs anyway."""

_ANCHOR_SIZE: Final = 13
"""Bytes of a pay-to-anchor output."""
_SIGNATURE: Final = 65
"""Of one signer in a witness, with its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOwner:
    """Who signs, and where its money goes."""

    key: bytes
    """Compressed, 33 bytes: signs by script (x-only) and in the MuSig2 key path."""
    script: bytes
    """P2TR."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a key or a script of another kind."""
        secp256k1.parse_point(self.key)
        if not is_p2tr(self.script):
            raise InvalidInputError("payout script", self.script.hex()[:80], "P2TR: every size is then known before")


@dataclass(frozen=True, slots=True, kw_only=True)
class FanTaker(FanOwner):
    """A taker and its position."""

    side: Side
    required: Sats


@dataclass(frozen=True, kw_only=True)
class FanTerms:
    """One provider's book of one week. Two equal terms have byte-equal outputs, transactions and points.

    The oracles attest one number: the long return of the price, ``leverage x exchange x (end/start - 1)``. What a week
    costs is fixed beforehand, at the exchange rate of the start, so that one number settles both sides; it differs from
    the published formula by the rate times the week's change of that exchange rate. All positions have one start: one
    that was taken later is bilateral until the next week.
    """

    contract: SwapContract
    rates: Rates
    provider: FanOwner
    takers: tuple[FanTaker, ...]
    announcements: tuple[Announcement, ...]
    """The oracles, in the order that all owners use."""
    threshold: int
    """How many of them must attest the same outcome."""
    lock: UnixSeconds
    """From when a SETTLE may be mined, in median time, which is about an hour behind."""
    fee_cap: SatsPerKvb = FEE_CAP
    """Up to which a burn's fee is small beside what it costs: it sets the least margin of a taker. A provider's netted
    one may be less, and its burn then costs more of it."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a book that can't be one, WrongAnnouncementError for an oracle's promise."""
        if not 1 <= len(self.takers) <= MAX_TAKERS:
            raise InvalidInputError("takers", str(len(self.takers)), f"1 to {MAX_TAKERS}")
        for taker in self.takers:
            if taker.required < self.least_required or taker.required % LOT:
                expected = f"a multiple of {LOT}, at least {self.least_required} at this fee cap"
                raise InvalidInputError("required margin", f"{taker.required} sats", expected)
        if len({owner.key[1:] for owner in self.owners}) != len(self.owners):
            raise InvalidInputError("owners", "one key stands twice", "a key each")
        if len({owner.script for owner in self.owners}) != len(self.owners):
            raise InvalidInputError("owners", "one payout script stands twice", "a script each")
        if not 1 <= self.threshold <= len(self.announcements):
            raise InvalidInputError("threshold", str(self.threshold), f"1 to {len(self.announcements)} oracles")
        if len({one.oracle_key for one in self.announcements}) != len(self.announcements):
            raise InvalidInputError("oracles", "one key stands twice", "different oracles")
        for one in self.announcements:
            check_announcement(one, expected=self.event)
        check_together(self.announcements)
        if self.event.condition or self.event.expiry >= self.lock:
            raise InvalidInputError("event", f"at {self.event.expiry}, or conditional", f"before the lock, {self.lock}")
        _ = self.grid, self.margins  # their own bounds

    @property
    def event(self) -> OracleEvent:
        """What is attested."""
        return self.announcements[0].event

    @cached_property
    def grid(self) -> ReturnGrid:
        """The returns that can be."""
        return ReturnGrid(digits=self.event.digits)

    @cached_property
    def owners(self) -> tuple[FanOwner, ...]:
        """Provider, then takers: every one signs, one without a margin too, since it may win."""
        return (self.provider, *self.takers)

    @cached_property
    def required(self) -> tuple[Sats, ...]:
        """Each owner's required margin: the provider's is netted, 0 when its book is flat."""
        netted = abs(sum(taker.side * taker.required for taker in self.takers))
        return (Sats(netted), *(taker.required for taker in self.takers))

    @cached_property
    def settle_fee(self) -> Sats:
        """What each SETTLE pays by itself: at least the relay fee of the largest that there can be."""
        weight = self._spend_weight + len(self.owners) * P2TR_OUTPUT_WEIGHT + 4 * _ANCHOR_SIZE
        return Sats(max(SETTLE_FEE, fee_for(vsize_of(weight), MIN_RELAY_FEE_RATE)))

    @property
    def burn_size(self) -> int:
        """Virtual bytes of a BURN with one coin of the burner's own and change."""
        types = len(self.owners) - 1  # the others' signatures have a byte of their own for their hash type
        burned = 4 * len(TxOut(value=Sats(0), script=BURN_SCRIPT).to_bytes())
        return vsize_of(self._spend_weight + types + burned + P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT)

    @property
    def least_required(self) -> Sats:
        """The least required margin of a taker, in whole lots."""
        return Sats(-(-_FEE_SHARE * fee_for(self.burn_size, self.fee_cap) // LOT) * LOT)

    @property
    def _spend_weight(self) -> int:
        """Weight units of a transaction that spends one margin by the leaf of all, without outputs."""
        count = len(self.owners)
        witness = 1 + _SIGNATURE * count + 3 + 34 * count + 66  # script with its length, control block with its own
        return OVERHEAD_WEIGHT + 4 * 41 + witness

    @cached_property
    def margins(self) -> dict[int, MarginOutput]:
        """The outputs by their owners' places, in the order in which the funding has them."""
        keys = tuple(owner.key for owner in self.owners)
        return {
            place: MarginOutput(
                keys=keys, owner=place, required=required, settle_fee=self.settle_fee, lock=self.lock
            )
            for place, required in enumerate(self.required)
            if required
        }  # fmt: skip

    def profits(self, outcome: int) -> tuple[int, ...]:
        """Return what each owner wins at an outcome, in satoshis; they sum to 0.

        A taker's is rounded down and at most its margin; the provider's the exact opposite of all, which is never more
        than its netted margin: long and short of one size together never win.
        """
        part, leverage = self.grid.part(outcome), self.contract.leverage
        taken = []
        for taker in self.takers:
            rate = self.rates.funding(long=taker.side is Side.LONG)
            earned = max(Fraction(-1), min(Fraction(1), taker.side * part - leverage * rate))
            taken.append(taker_profit(taker.required, earned))
        return (-sum(taken), *taken)

    def without(self, absent: Collection[int]) -> FanTerms:
        """Return the terms of those that are there: the absent takers' places left out, the provider netted anew.

        Every output, and so every signature, is another one: what was signed for the larger set spends nothing here.
        Raises InvalidInputError when the provider is absent, or all takers are.
        """
        if PROVIDER in absent:
            raise InvalidInputError("absent", "the provider", "takers: without its provider there is no book")
        unknown = [place for place in absent if not 0 < place < len(self.owners)]
        if unknown:
            raise InvalidInputError("absent", f"places {unknown}", f"1 to {len(self.takers)}")
        return replace(self, takers=tuple(one for place, one in enumerate(self.takers, 1) if place not in absent))
