"""The book of one instrument: what stands, at which price, and which takes an order becomes.

Price and time: the better price first; of one price who came first. Prices are satoshis for one bitcoin, which is what
is paid; the cents beside them are what the deal is called in dollars. Pure: the caller reads the offers that stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from btcfi.errors import InvalidInputError
from btcfi.market.firm_offer import Side, least_takeable
from btcfi.options.terms import MAX_QUANTITY
from btcfi.units import CentiBtc, Cents, Hash32, Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An offer as it stands in the book."""

    id: Hash32
    maker: bytes
    """x-only identity."""
    side: Side
    price: Sats
    """For one bitcoin."""
    price_cents: Cents
    """For one bitcoin."""
    remaining: CentiBtc
    """Not taken yet; 0 of one that is used up."""
    minimum: CentiBtc
    """The least that one take may be of."""
    rank: int
    """Of two at one price the lower one is first."""

    @property
    def least(self) -> CentiBtc:
        """The least that can be taken of it: its own minimum, and a premium that the chain pays."""
        return CentiBtc(max(self.minimum, least_takeable(self.price)))

    @property
    def takeable(self) -> bool:
        """Whether anything can be taken of it: a rest below its minimum is nobody's."""
        return self.remaining >= self.least


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """All that stands at one price."""

    price: Sats
    """For one bitcoin."""
    price_cents: Cents
    """Of the first in rank."""
    quantity: CentiBtc
    offers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One take of what an order becomes."""

    offer_id: Hash32
    quantity: CentiBtc
    price: Sats
    """The offer's, for one bitcoin."""
    price_cents: Cents

    @property
    def premium(self) -> Sats:
        """What its funding pays."""
        return Sats(self.price * self.quantity // 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Which takes an order becomes."""

    parts: tuple[Part, ...]
    """Best first."""
    left: CentiBtc
    """What nobody offers within the limit, in sizes that fit; 0: all of it is taken."""

    @property
    def quantity(self) -> CentiBtc:
        """Of all parts."""
        return CentiBtc(sum(part.quantity for part in self.parts))

    @property
    def premium(self) -> Sats:
        """Of all parts, as their fundings pay it."""
        return Sats(sum(part.premium for part in self.parts))


def ordered(offers: Iterable[Standing], side: Side) -> tuple[Standing, ...]:
    """Return what can be taken of one side, in the order in which it is: best price, then rank."""
    sign = 1 if side is Side.ASK else -1
    standing = [one for one in offers if one.side is side and one.takeable]
    return tuple(sorted(standing, key=lambda one: (sign * one.price, one.rank, one.id)))


def depth(offers: Iterable[Standing], side: Side) -> tuple[Level, ...]:
    """Return the levels of one side, best first."""
    levels = []
    for price, group in groupby(ordered(offers, side), key=lambda one: one.price):
        many = list(group)
        quantity = CentiBtc(sum(one.remaining for one in many))
        levels.append(Level(price=price, price_cents=many[0].price_cents, quantity=quantity, offers=len(many)))
    return tuple(levels)


def best(offers: Iterable[Standing], side: Side) -> Level | None:
    """Return the best level of one side, None where nothing stands."""
    return next(iter(depth(offers, side)), None)


def walk(
    offers: Iterable[Standing], side: Side, quantity: CentiBtc, limit: Sats, *, but: bytes | None = None
) -> Walk:  # fmt: skip
    """Return the takes that an order of ``quantity`` at ``limit`` or better becomes; each is of one offer.

    side: whose offers are taken: asks by who buys, bids by who writes. limit: for one bitcoin. but: x-only identity of
    who orders, whose own offers are passed over. An offer is passed over too when what is left of the order is below
    its minimum. Raises InvalidInputError for a quantity or a limit that is none.
    """
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InvalidInputError("quantity", f"{quantity}", f"1 to {MAX_QUANTITY} hundredths of a bitcoin")
    if limit < 1:
        raise InvalidInputError("limit", f"{limit}", "a price above 0")
    parts: list[Part] = []
    left = quantity
    for one in ordered(offers, side):
        beyond = one.price > limit if side is Side.ASK else one.price < limit
        if beyond or not left:
            break
        taken = CentiBtc(min(left, one.remaining))
        if one.maker == but or taken < one.least:
            continue
        parts.append(Part(offer_id=one.id, quantity=taken, price=one.price, price_cents=one.price_cents))
        left = CentiBtc(left - taken)
    return Walk(parts=tuple(parts), left=left)
