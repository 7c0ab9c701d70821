"""A taker that is nobody: now and then it takes a little of the best offer of some instrument, whichever side it is.

It gives a simulated market somebody to trade with, and nothing else; a real party's coins have no business with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from btcfi.adapters.party.market_ledger import MarketLedger
from btcfi.market.firm_offer import (
    Side,
    SignedOffer,
    Take,
    deal_of,
    decode_signed_offer,
    encode_signed_take,
    sign_take,
)
from btcfi.market.instrument import Instrument, parse_instrument
from btcfi.records import OBJECT, TEXT, WHOLE, Rule, listed, optional, record, whole
from btcfi.units import MAX_U32, CentiBtc, Sats, UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.party.market_maker import Http

TAKE_SECONDS: Final = 60
"""How long a take is good: two slow cores may run every party of a simulation."""

TRIES: Final = 4
"""Books of one expiry that are looked into: some offers' least amounts are more than it takes."""

PEACEFUL: Final = "trading"

FEES: Final = Sats(100_000)
"""Left beside what a take locks: of its funding, and of the child that settles it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was taken."""

    option_id: str
    instrument: str
    buys: bool
    quantity: CentiBtc


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    instrument: Instrument
    bid: dict[str, Any] | None
    ask: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    expiries_unix: tuple[int, ...]
    market_status: str | None
    lines: tuple[_Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offered:
    signed: SignedOffer
    quantity_centi_btc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    bids: tuple[_Offered, ...]
    asks: tuple[_Offered, ...]


_LINE: Final = record(
    _Line, instrument=Rule(parse_instrument, "an instrument's name"), bid=optional(OBJECT), ask=optional(OBJECT)
)
_CHAIN: Final = record(
    _Chain, expiries_unix=listed(WHOLE), market_status=optional(TEXT), lines=listed(Rule(_LINE, "a line"))
)
_OFFERED: Final = record(
    _Offered, signed=Rule(decode_signed_offer, "a signed offer"), quantity_centi_btc=whole(0, MAX_U32)
)
_SIDE: Final = listed(Rule(_OFFERED, "an offer"))
_BOOK: Final = record(_Book, bids=_SIDE, asks=_SIDE)


@dataclass(kw_only=True)
class SimulatedTaker:
    """One simulated taker at one desk."""

    http: Http
    identity: bytes
    """x-only: the account."""
    request_secret: bytes
    ledger: MarketLedger
    random: Random
    """Seeded: the same market and seed, the same wishes. It decides no key and no nonce."""
    most: CentiBtc = CentiBtc(5)  # noqa: RUF009 - a number
    """Of one take."""
    clock: Callable[[], float] = time.time
    free: Callable[[], Sats] | None = None
    """What its coins that nothing holds are worth: what it cannot fund it does not take. None: it does not look."""

    def take_one(self) -> Taken | None:
        """Take something, or nothing where nothing suits.

        Raises DeskAwayError, DeskRefusedError (somebody was faster, the market is not trading), InvalidInputError.
        """
        whole = _CHAIN.read(self.http.get("/chain"), "chain")
        if whole.market_status != PEACEFUL:
            return None
        free = None if self.free is None else self.free()
        for expiry in self.random.sample(whole.expiries_unix, len(whole.expiries_unix)):
            lines = _CHAIN.read(self.http.get("/chain", expiry=expiry), "chain").lines
            wishes = [(line.instrument.name, Side.ASK) for line in lines if line.ask]
            wishes += [(line.instrument.name, Side.BID) for line in lines if line.bid]
            for name, side in self.random.sample(wishes, min(len(wishes), TRIES)):
                book = _BOOK.read(self.http.get(f"/book/{name}"), "book")
                if (found := self._best(book.asks if side is Side.ASK else book.bids)) is not None:
                    return self._take(found, name, free)
        return None

    def _best(self, offers: tuple[_Offered, ...]) -> tuple[SignedOffer, int] | None:
        """Return the first offer of another that may be taken of in a small amount, and how much is left of it."""
        for one in offers:
            offer, left = one.signed.offer, one.quantity_centi_btc
            begun = offer.auction is None or offer.step_at(UnixSeconds(int(self.clock()))) is not None
            ours = offer.taker in (None, self.identity) and offer.maker != self.identity
            if ours and offer.minimum <= min(left, self.most) and offer.valid_until > self.clock() + 1 and begun:
                return one.signed, left
        return None

    def _take(self, found: tuple[SignedOffer, int], name: str, free: Sats | None) -> Taken | None:
        signed, left = found
        offer = signed.offer
        step = offer.step_at(UnixSeconds(int(self.clock())))
        price, price_cents = offer.prices(step)
        take = sign_take(
            Take(
                taker=self.identity, offer_id=offer.id,
                quantity=CentiBtc(self.random.randint(offer.minimum, min(left, self.most))),
                price=price, price_cents=price_cents, step=step,
                valid_until=UnixSeconds(int(self.clock()) + TAKE_SECONDS), number=self.ledger.next_number(),
            ),
            self.request_secret,
        )  # fmt: skip
        deal = deal_of(offer, take.take)
        locked = deal.premium if offer.side is Side.ASK else deal.terms.collateral
        if free is not None and free < locked + FEES:
            return None
        self.ledger.add_take(take, signed)
        self.http.post("/takes", encode_signed_take(take))
        return Taken(
            option_id=take.take.option_id, instrument=name, buys=offer.side is Side.ASK, quantity=take.take.quantity
        )
