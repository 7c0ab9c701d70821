"""What the two parties of an option agree on, and the one place that says whether it makes sense.

Economics: a vanilla option pays ``floor(intrinsic * quantity / 100)`` cents; a binary option is cash-or-nothing and
pays ``floor(strike * quantity / 100)`` cents when strictly in the money. A barrier knocks out: above the strike it is
up-and-out (hit when the observed high reaches it), below the strike down-and-out (hit when the observed low reaches
it), both inclusive.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.oracle.fixing import MINUTE, Fixing
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
    UnixSeconds,
)

SATS_PER_CENTIBTC: Final = 1_000_000
"""1/100 BTC in satoshis."""

MAX_QUANTITY: Final = CentiBtc(MAX_MONEY_SATS // SATS_PER_CENTIBTC)
"""21 million BTC. With it price * quantity stays below 2**63, so no 64-bit sum in the guest can wrap."""

MAX_AMERICAN_LIFE: Final = Minutes(365 * 24 * 60)
"""The guest's exercise tree takes at most one year: rate * minutes must fit a 32-bit word (exercise_tree.c)."""

MAX_VOLATILITY: Final = BasisPoints(100_000)
"""1,000 % a year: above it the guest refuses rather than guess."""

MAX_RATE: Final = BasisPoints(5_000)
"""50 % a year, the guest's limit for the exercise tree."""


class OptionKind(IntEnum):
    """The four payoffs; the number is the guest ABI's ``option_type``."""

    CALL = 0
    PUT = 1
    BINARY_CALL = 2
    BINARY_PUT = 3

    @property
    def label(self) -> str:
        """The name in commands, tables and JSON: ``call``, ``put``, ``binary_call``, ``binary_put``."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> OptionKind:
        """Return the kind of that label. Raises InvalidTermsError."""
        for kind in cls:
            if kind.label == label:
                return kind
        raise InvalidTermsError("kind", repr(label), "one of " + ", ".join(kind.label for kind in cls))

    @property
    def is_put(self) -> bool:
        """Whether it pays below the strike."""
        return bool(self & 1)

    @property
    def is_binary(self) -> bool:
        """Whether it pays cash-or-nothing."""
        return bool(self & 2)


class InvalidTermsError(InvalidInputError):
    """Terms that cannot become an option: the field, what it was, what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionTerms:
    """Everything that both parties sign, and nothing that the market decides."""

    kind: OptionKind
    strike: CentsPerBtc
    quantity: CentiBtc
    barrier: CentsPerBtc | None
    """Knock-out level; above the strike up-and-out, below it down-and-out; None: no barrier."""
    american: bool
    """Whether the buyer may exercise before expiry."""
    expiry: Slot
    """The minute whose price settles the option; the last one of a window."""
    premium: Cents
    """What the buyer pays the seller at funding."""
    collateral: Sats
    """What the seller locks; no payout exceeds it."""
    fixing: Fixing | None = None
    """What settles it at its expiry. None: an earlier release's option, its minute's price rounded down."""

    @property
    def window(self) -> Fixing:
        """The fixing, also of an earlier release's option."""
        return self.fixing or MINUTE


def required_collateral(kind: OptionKind, quantity: CentiBtc) -> Sats:
    """Return the satoshis that the seller locks for ``quantity`` hundredths of a bitcoin.

    Calls and binary calls never owe more than the quantity in bitcoin (the intrinsic value, or the strike, is below the
    price when they pay). A put owes strike - spot dollars, and a binary put the strike; in bitcoin both grow without
    bound as the price falls, so both are capped: a put is covered down to half the strike with 1x the quantity, a
    binary put down to half the strike with 2x. Below that the payout is the collateral.
    Raises InvalidTermsError when the quantity is out of range.
    """
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InvalidTermsError("quantity", str(quantity), f"1 to {MAX_QUANTITY} hundredths of a bitcoin")
    multiple = 2 if kind is OptionKind.BINARY_PUT else 1
    collateral = multiple * quantity * SATS_PER_CENTIBTC
    if collateral > MAX_MONEY_SATS:
        raise InvalidTermsError("quantity", str(quantity), f"a collateral of at most {MAX_MONEY_SATS} sats")
    return Sats(collateral)


def validate_terms(terms: OptionTerms, *, now: UnixSeconds, spot: CentsPerBtc | None) -> None:
    """Check that ``terms`` can be sold at ``now``, with the last agreed price ``spot`` when one is known.

    Raises InvalidTermsError, which names the first wrong field.
    """
    _check_amounts(terms)
    _check_expiry(terms, now)
    _check_barrier(terms, spot)


def _check_amounts(terms: OptionTerms) -> None:
    if terms.kind not in tuple(OptionKind):
        raise InvalidTermsError("kind", repr(terms.kind), "one of " + ", ".join(kind.label for kind in OptionKind))
    if not 1 <= terms.strike <= MAX_U32:
        raise InvalidTermsError("strike", f"{terms.strike} cents", f"1 to {MAX_U32} cents per bitcoin")
    needed = required_collateral(terms.kind, terms.quantity)
    if not 0 <= terms.premium <= MAX_U32:
        raise InvalidTermsError("premium", f"{terms.premium} cents", f"0 to {MAX_U32} cents")
    if terms.collateral < needed:
        raise InvalidTermsError(
            "collateral", f"{terms.collateral} sats", f"at least {needed} sats for {terms.quantity}/100 BTC"
        )
    if terms.collateral > MAX_MONEY_SATS:
        raise InvalidTermsError("collateral", f"{terms.collateral} sats", f"at most {MAX_MONEY_SATS} sats")


def _check_expiry(terms: OptionTerms, now: UnixSeconds) -> None:
    if terms.expiry % SECONDS_PER_MINUTE:
        raise InvalidTermsError("expiry", f"{terms.expiry} is not on a minute", "a multiple of 60 seconds")
    if terms.expiry <= now:
        raise InvalidTermsError("expiry", f"{terms.expiry} is not after now ({now})", "a minute in the future")
    if terms.expiry > MAX_U32:
        raise InvalidTermsError("expiry", str(terms.expiry), f"at most {MAX_U32} (year 2106)")
    if terms.american and terms.expiry - now > MAX_AMERICAN_LIFE * SECONDS_PER_MINUTE:
        raise InvalidTermsError(
            "expiry",
            f"{(terms.expiry - now) // SECONDS_PER_MINUTE} minutes away",
            f"at most {MAX_AMERICAN_LIFE} minutes for an American option",
        )
    check_style(terms.window, american=terms.american)
    check_window(terms.window, terms.expiry, now)


def fixing_for(named: Fixing | None, *, american: bool, preset: Fixing) -> Fixing:
    """Return what settles an option: what its order names, else the preset's; of an American one its minute."""
    return named or (MINUTE if american else preset)


def check_style(fixing: Fixing, *, american: bool) -> None:
    """Check that an American option settles on one minute. Raises InvalidTermsError.

    A window's mean lags: who exercises just after the price has turned is paid at a price that is gone. That is worth
    several per cent of the premium, which no premium of ours has in it (docs/decisions/0053).
    """
    if american and fixing != MINUTE:
        raise InvalidTermsError("fixing", f"{fixing}, of an American option", "minute, or a European option")


def check_window(fixing: Fixing, expiry: int, now: UnixSeconds) -> None:
    """Check that a life is no shorter than its window; one minute has none. Raises InvalidTermsError."""
    if fixing != MINUTE and expiry - now < fixing.minutes * SECONDS_PER_MINUTE:
        raise InvalidTermsError(
            "expiry",
            f"{(expiry - now) // SECONDS_PER_MINUTE} minutes away",
            f"at least {fixing.minutes}, the window of {fixing} (or the fixing minute)",
        )


def _check_barrier(terms: OptionTerms, spot: CentsPerBtc | None) -> None:
    barrier = terms.barrier
    if barrier is None:
        return
    if not 1 <= barrier <= MAX_U32:
        raise InvalidTermsError("barrier", f"{barrier} cents", f"1 to {MAX_U32} cents per bitcoin, or none")
    if barrier == terms.strike:
        raise InvalidTermsError(
            "barrier", f"{barrier} cents equals the strike", "above it (up-and-out) or below it (down-and-out)"
        )
    if spot is None:
        return
    if barrier > terms.strike and spot >= barrier:
        raise InvalidTermsError(
            "barrier", f"{barrier} cents is already reached from below (spot {spot})", "a level above the spot"
        )
    if barrier < terms.strike and spot <= barrier:
        raise InvalidTermsError(
            "barrier", f"{barrier} cents is already reached from above (spot {spot})", "a level below the spot"
        )
