"""An expired (or early exercised) option becomes the machine's input; the machine's output becomes numbers.

Guest ABI version 1 (design: docs/proofs.md). Input: 15 little-endian u32 words at 0x8000_0000, words 0-7 as published,
the rest ours. Output: 40 bytes at 0x8000_1000 in the published order, payout and profit_loss widened to 64 bits because
42.9 million dollars are not enough for cents in 32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar, Final

from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.options.terms import OptionTerms
from btcfi.units import (
    MAX_MONEY_SATS,
    MAX_U32,
    SECONDS_PER_MINUTE,
    BasisPoints,
    CentiBtc,
    Cents,
    CentsPerBtc,
    Minutes,
    Sats,
    Slot,
)

ABI_VERSION: Final = 1
"""Word 14 of the input and word 8 of the output; a guest refuses any other."""


class ExerciseType(IntEnum):
    """How the option ended. 0-3 are published; we add 4 and 5 for American options before expiry."""

    NO_EXERCISE = 0
    """Knocked out by its barrier, or the input was refused."""
    IN_THE_MONEY = 1
    OUT_OF_THE_MONEY = 2
    AT_THE_MONEY = 3
    EARLY_EXERCISE = 4
    """American, before expiry, and exercising is worth at least as much as holding."""
    HOLD = 5
    """Before expiry, and the option is worth more alive (or is European): nothing is paid now."""


class GuestError(IntEnum):
    """The output's error word: which input word the guest refused."""

    NONE = 0
    ABI_VERSION = 1
    OPTION_TYPE = 2
    STRIKE = 3
    SPOT = 4
    QUANTITY = 5
    BARRIER = 6
    EARLY_EXERCISE = 7
    TIME_TO_EXPIRY = 8
    VOLATILITY = 9
    """Above 1,000 %, or volatility * sqrt(years) above 1.5, where the exercise tree loses its precision."""
    OBSERVED_RANGE = 10
    RATE = 11
    COLLATERAL = 12


class GuestRefusedError(BtcfiError):
    """The guest program refused its input: an explicit code, never a number."""

    def __init__(self, error: GuestError) -> None:
        super().__init__(f"the settlement program refused {error.name.lower()} (error {int(error)})")
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementInput:
    """What the guest reads. Any u32 may stand in a word: the guest, not this record, says what it refuses."""

    _WORDS: ClassVar[struct.Struct] = struct.Struct("<12IQI")
    SIZE: ClassVar[int] = 60

    option_type: int
    """OptionKind's number."""
    strike: CentsPerBtc
    spot: CentsPerBtc
    """The settlement price."""
    quantity: CentiBtc
    barrier_level: CentsPerBtc
    """0: no barrier."""
    early_exercise: int
    """0 European, 1 American."""
    time_to_expiry: Minutes
    volatility: BasisPoints
    observed_low: CentsPerBtc
    """Lowest price over the option's life, the settlement price included."""
    observed_high: CentsPerBtc
    premium: Cents
    """At most 2**32 - 1 cents."""
    rate: BasisPoints
    """Risk-free, continuously compounded, a year of 365 days."""
    collateral: Sats
    abi_version: int = ABI_VERSION

    def to_bytes(self) -> bytes:
        """Return the 60 bytes at 0x8000_0000. Raises InvalidInputError when a value does not fit its word."""
        words = (
            self.option_type,
            self.strike,
            self.spot,
            self.quantity,
            self.barrier_level,
            self.early_exercise,
            self.time_to_expiry,
            self.volatility,
            self.observed_low,
            self.observed_high,
            self.premium,
            self.rate,
            self.collateral,
            self.abi_version,
        )
        try:
            return self._WORDS.pack(*words)
        except struct.error as e:
            for field in fields(self):
                value, bits = getattr(self, field.name), 64 if field.name == "collateral" else 32
                if not isinstance(value, int) or not 0 <= value < 1 << bits:
                    raise InvalidInputError(field.name, repr(value), f"0 to {(1 << bits) - 1}, whole") from e
            raise  # not reached: one of them did not fit

    @classmethod
    def from_bytes(cls, data: bytes) -> SettlementInput:
        """Return the input that ``to_bytes`` gave. Raises InvalidInputError unless there are exactly 60 bytes."""
        if len(data) != cls.SIZE:
            raise InvalidInputError("settlement input", f"{len(data)} bytes", f"{cls.SIZE} bytes (15 words)")
        words = cls._WORDS.unpack(data)
        return cls(
            option_type=words[0],
            strike=CentsPerBtc(words[1]),
            spot=CentsPerBtc(words[2]),
            quantity=CentiBtc(words[3]),
            barrier_level=CentsPerBtc(words[4]),
            early_exercise=words[5],
            time_to_expiry=Minutes(words[6]),
            volatility=BasisPoints(words[7]),
            observed_low=CentsPerBtc(words[8]),
            observed_high=CentsPerBtc(words[9]),
            premium=Cents(words[10]),
            rate=BasisPoints(words[11]),
            collateral=Sats(words[12]),
            abi_version=words[13],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementOutput:
    """What the guest wrote."""

    _WORDS: ClassVar[struct.Struct] = struct.Struct("<QIIqQII")
    SIZE: ClassVar[int] = 40

    payout: Cents
    """Not capped by the collateral."""
    exercise_type: ExerciseType
    barrier_hit: bool
    profit_loss: Cents
    """The buyer's payout - premium; negative for a loss."""
    payout_sats: Sats
    """floor(payout * 10**8 / spot), capped by the collateral: what the buyer gets on chain."""
    abi_version: int
    error: GuestError

    def to_bytes(self) -> bytes:
        """Return the 40 bytes at 0x8000_1000. Raises InvalidInputError when a value does not fit its word."""
        words = (
            self.payout,
            self.exercise_type,
            int(self.barrier_hit),
            self.profit_loss,
            self.payout_sats,
            self.abi_version,
            self.error,
        )
        try:
            return self._WORDS.pack(*words)
        except struct.error as e:
            raise InvalidInputError("settlement output", str(e), "payouts below 2**64, words of 32 bits") from e

    @classmethod
    def from_bytes(cls, data: bytes) -> SettlementOutput:
        """Return the output in those 40 bytes. Raises InvalidInputError on another length or an unknown code."""
        if len(data) != cls.SIZE:
            raise InvalidInputError("settlement output", f"{len(data)} bytes", f"{cls.SIZE} bytes (10 words)")
        payout, exercise_type, barrier_hit, profit_loss, payout_sats, abi_version, error = cls._WORDS.unpack(data)
        if exercise_type not in tuple(ExerciseType):
            raise InvalidInputError("exercise_type", str(exercise_type), "0 to 5")
        if error not in tuple(GuestError):
            raise InvalidInputError("error", str(error), "0 to 12")
        if barrier_hit not in (0, 1):
            raise InvalidInputError("barrier_hit", str(barrier_hit), "0 or 1")
        if payout_sats > MAX_MONEY_SATS:
            raise InvalidInputError("payout_sats", str(payout_sats), f"at most {MAX_MONEY_SATS}")
        return cls(
            payout=Cents(payout),
            exercise_type=ExerciseType(exercise_type),
            barrier_hit=bool(barrier_hit),
            profit_loss=Cents(profit_loss),
            payout_sats=Sats(payout_sats),
            abi_version=abi_version,
            error=GuestError(error),
        )

    def raise_if_refused(self) -> None:
        """Raise GuestRefusedError when the guest refused its input."""
        if self.error is not GuestError.NONE:
            raise GuestRefusedError(self.error)


def settlement_input(
    terms: OptionTerms,
    *,
    price: CentsPerBtc,
    low: CentsPerBtc,
    high: CentsPerBtc,
    at: Slot,
    volatility: BasisPoints,
    rate: BasisPoints,
) -> SettlementInput:
    """Return the machine's input for settling ``terms`` at slot ``at`` and the agreed ``price``.

    low, high: the extremes of the agreed prices over the option's life up to ``at``; the price itself is included here,
    so a caller that has seen nothing else passes the price. Time to expiry is whole minutes, 0 from the expiry on.
    Raises InvalidInputError for a price of 0 or above u32.
    """
    if not 1 <= price <= MAX_U32:
        raise InvalidInputError("settlement price", f"{price} cents", f"1 to {MAX_U32} cents per bitcoin")
    return SettlementInput(
        option_type=int(terms.kind),
        strike=terms.strike,
        spot=price,
        quantity=terms.quantity,
        barrier_level=CentsPerBtc(0) if terms.barrier is None else terms.barrier,
        early_exercise=int(terms.american),
        time_to_expiry=Minutes(max(0, (terms.expiry - at) // SECONDS_PER_MINUTE)),
        volatility=volatility,
        observed_low=CentsPerBtc(min(low, price)),
        observed_high=CentsPerBtc(max(high, price)),
        premium=terms.premium,
        rate=rate,
        collateral=terms.collateral,
    )
