"""The public market as pages show it: one look a second into the store for all visitors together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.offers import offer_of, price_now
from btcfi.adapters.store.market.tables import FirmOfferRow
from btcfi.adapters.store.options.premiums import counted_from
from btcfi.adapters.store.options.sales import Market, read_market
from btcfi.adapters.store.prices import rounds
from btcfi.errors import NotFoundError
from btcfi.market.book import Standing
from btcfi.market.chain import Best, Cell, Levels, Line, Smile, lines_of, priced_cells, smile_of
from btcfi.market.firm_offer import Side
from btcfi.market.instrument import Instrument, parse_instrument
from btcfi.market.positions import View, counting
from btcfi.market.request import Wanted
from btcfi.oracle.freshness import MarketStatus
from btcfi.pricing.surface import flat_surface
from btcfi.surfaces.rest.market_desk.listing import Listing
from btcfi.units import CentiBtc, Cents, Hash32, Sats, Slot, UnixSeconds
from dashboards.shared.render import btc
from dashboards.trader.deps import DeskDeps

LOOK_SECONDS: Final = 1.0
"""A chain is at most so old; whoever takes names the offer and its price, so an older one costs nobody anything."""

SMILE_SECONDS: Final = 5.0
"""A curve takes a quarter of a second to fit."""

KEPT: Final = 64
"""Looks in memory: one an expiry, and a few books."""

MOST_LEVELS: Final = 20_000
"""Volatilities in memory: of an hour's prices of every listed instrument."""

FORM_TIME: Final = "%Y-%m-%dT%H:%M"
"""As a browser's field of a minute has it; ours are UTC."""

NAMED: Final = 16
"""Digits of an offer's id in a table, as `btcfi market book` has it: who takes it is shown the whole offer first."""

T = TypeVar("T")


class Kept:
    """What was computed lately, by key: computed once for all who ask at the same time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """monotonic: seconds that never go back."""
        self._monotonic = monotonic
        self._lock = Lock()
        self._known: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._busy: dict[Hashable, Lock] = {}

    def of(self, key: Hashable, seconds: float, make: Callable[[], T]) -> T:
        """Return what ``make`` gives, at most ``seconds`` old."""
        with self._lock:
            mine = self._busy.setdefault(key, Lock())
        with mine:
            with self._lock:
                known = self._known.get(key)
            if known is not None and self._monotonic() - known[0] < seconds:
                found: T = known[1]
                return found
            at, made = self._monotonic(), make()
            with self._lock:
                self._known[key] = (at, made)
                self._known.move_to_end(key)
                while len(self._known) > KEPT:
                    old, _ = self._known.popitem(last=False)
                    self._busy.pop(old, None)
            return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The market, and what is listed in it."""

    market: Market | None
    """None before the first priced minute."""
    status: MarketStatus | None
    now: UnixSeconds
    """The market's clock."""
    instruments: tuple[Instrument, ...]
    expiries: tuple[Slot, ...]
    """Listed, or with an open offer."""

    def view(self, rate: float) -> View | None:
        """Return what everything is priced under.

        Nothing is sampled: whoever names a median, or offers some thousand, would hold a thread for as many seconds.
        """
        if self.market is None:
            return None
        return View(
            spot=self.market.spot, surface=flat_surface(self.market.volatility / 10_000), rate=rate,
            now=counted_from(self.market.slot), known=self.market.said, sampled=False,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One expiry."""

    seen: Seen
    expiry: Slot | None
    """None where nothing is listed and nothing offered."""
    cells: tuple[Cell, ...] = ()
    lines: tuple[Line, ...] = ()


class PublicMarket:
    """Reads for the pages; keeps nothing that is not everybody's to see."""

    def __init__(self, deps: DeskDeps) -> None:
        """``deps``: the application's."""
        self._deps = deps
        self._kept = Kept(deps.api.monotonic)
        self._listing = Listing(deps.api)
        self._last: Market | None = None
        self._levels: tuple[View | None, Levels] = (None, {})

    def seen(self) -> Seen:
        """Return the market now."""
        return self._kept.of("market", LOOK_SECONDS, self._see)

    def chain(self, expiry: int | None) -> Chain:
        """Return an expiry's chain; None: the next one's. Raises NotFoundError for one that nobody lists or offers."""
        seen = self.seen()
        if expiry is None:
            if not seen.expiries:
                return Chain(seen=seen, expiry=None)
            at = next((one for one in seen.expiries if one > seen.now), seen.expiries[0])
        elif expiry not in seen.expiries:
            raise NotFoundError("expiry", str(expiry), "one of the chain's")
        else:
            at = Slot(expiry)
        return self._kept.of(("chain", at), LOOK_SECONDS, lambda: self._chain(seen, at))

    def smiles(self) -> tuple[Smile, ...]:
        """Return the smile of every expiry, the next one first, without curves."""
        return self._kept.of("smiles", SMILE_SECONDS, self._smiles)

    def smile(self, expiry: Slot) -> Smile | None:
        """Return the smile of an expiry with its curve; None at its end. Raises NotFoundError as ``chain`` does."""
        chain = self.chain(expiry)
        view = chain.seen.view(self._deps.api.rate)
        if view is None:
            return None
        return self._kept.of(("smile", expiry), SMILE_SECONDS, lambda: smile_of(expiry, chain.cells, view))

    def offers(self, instrument: Instrument, *, limit: int) -> views.BookSides:
        """Return the open offers of an instrument that anybody may take, the best first."""
        with self._deps.api.store.reading() as session:
            return views.book(session, instrument.name, self._deps.api.clock(), limit=limit)

    def auctions(self, *, limit: int) -> Sequence[FirmOfferRow]:
        """Return the offers whose price is on its way, of every instrument."""
        now = self._deps.api.clock()
        with self._deps.api.store.reading() as session:
            return views.auctions(session, now, limit=limit)

    def trades(self, instrument: Instrument, *, limit: int) -> Sequence[views.Trade]:
        """Return what was taken lately, newest first: no account."""
        with self._deps.api.store.reading() as session:
            return views.trades(session, instrument=instrument.name, limit=limit).rows

    def _see(self) -> Seen:
        api = self._deps.api
        wall = api.clock()
        with api.store.reading() as session:
            now = rounds.market_now(session, api.quote_rule.feed, replay=api.replay_clock, now=wall)
            market = read_market(session, api.quote_rule, now=now, before=self._last)
            offered = views.expiries(session, wall)
        self._last = market
        instruments = tuple(self._listing.current().by_name.values())
        expiries = {one.expiry for one in instruments} | {Slot(one) for one in offered if one > now}
        return Seen(
            market=market, status=None if market is None else market.status(now=now, wall=wall), now=now,
            instruments=instruments, expiries=tuple(sorted(expiries)),
        )  # fmt: skip

    def _chain(self, seen: Seen, expiry: Slot) -> Chain:
        with self._deps.api.store.reading() as session:
            rows = views.chain(session, expiry, self._deps.api.clock())
        tops = {row.instrument: (_best(row.bid), _best(row.ask)) for row in rows}
        named = {one.name: one for one in seen.instruments if one.expiry == expiry}
        named |= {name: parse_instrument(name) for name in tops if name not in named}
        view = seen.view(self._deps.api.rate)
        if view is None:
            return Chain(seen=seen, expiry=expiry)
        # of what is being taken a median of nothing is sold any more, and no page samples it
        priced = [one for one in named.values() if not counting(one, view.now)]
        cells = priced_cells(priced, tops, view, told=self._levels_of(view))
        return Chain(seen=seen, expiry=expiry, cells=cells, lines=lines_of(cells))

    def _levels_of(self, view: View) -> Levels:
        """Return the volatilities that were found under this very view: the next priced minute has others."""
        if self._levels[0] != view or len(self._levels[1]) > MOST_LEVELS:
            self._levels = (view, {})
        return self._levels[1]

    def _smiles(self) -> tuple[Smile, ...]:
        seen = self.seen()
        view = seen.view(self._deps.api.rate)
        if view is None:
            return ()
        found = (smile_of(expiry, self.chain(expiry).cells, view, fitted=False) for expiry in seen.expiries)
        return tuple(one for one in found if one is not None)


def standing(rows: Sequence[FirmOfferRow], now: UnixSeconds) -> list[Standing]:
    """Return offers as the book's own functions take them, at the prices of ``now``."""
    return [
        Standing(
            id=Hash32(bytes.fromhex(row.id)), maker=bytes.fromhex(row.account_id), side=Side(row.side),
            price=Sats(at.price_sats), price_cents=Cents(at.price_cents), remaining=CentiBtc(row.remaining),
            minimum=CentiBtc(row.minimum), rank=row.rank,
        )
        for row, at in ((row, price_now(row, now)) for row in rows)
    ]  # fmt: skip


def quotes_query(one: Instrument, quantity: CentiBtc, wanted: Wanted) -> str:
    """Return what the page of quotes is asked so that its form says this."""
    fields = {
        "wanted": wanted.value, "kind": one.kind.label, "strike": _dollars(one.strike), "quantity": btc(quantity),
        "expiry": datetime.fromtimestamp(one.expiry, UTC).strftime(FORM_TIME), "fixing": str(one.fixing),
    }  # fmt: skip
    if one.barrier is not None:
        fields["barrier"] = _dollars(one.barrier)
    return urlencode(fields | ({"american": "yes"} if one.american else {}))


def _dollars(cents: int) -> str:
    return f"{cents // 100}" + (f".{cents % 100:02d}" if cents % 100 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """An auction as it stands."""

    offer_id: str
    instrument: str
    buys: bool
    """What its taker does."""
    remaining: int
    """Hundredths of a bitcoin."""
    price_cents: int
    step: int
    steps: int
    next_cents: int
    """From ``moves_at`` on."""
    moves_at: int
    """When the next step begins."""
    moves_in: int
    """Seconds until then."""
    last_cents: int
    """Where it ends."""
    command: str
    """What takes all of it now: its process signs the price of the step, and no other."""


def moving(rows: Sequence[FirmOfferRow], now: UnixSeconds) -> list[Moving]:
    """Return the offers whose price is still on its way, the next to move first."""
    found = []
    for row in rows:
        at = price_now(row, now)
        offer = None if at.moves_at_unix is None else offer_of(row).offer
        if at.moves_at_unix is None or offer is None or offer.auction is None:
            continue
        step = at.step or 0
        found.append(
            Moving(
                offer_id=row.id, instrument=row.instrument, buys=row.side == Side.ASK, remaining=row.remaining,
                price_cents=at.price_cents, step=step, steps=offer.auction.steps,
                next_cents=offer.prices(step + 1)[1], moves_at=at.moves_at_unix, moves_in=at.moves_at_unix - now,
                last_cents=offer.auction.last_cents,
                command=take_command(row.instrument, row.id[:NAMED], CentiBtc(row.remaining)),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: one.moves_at)


def take_command(instrument: str, offer_id: str, quantity: CentiBtc) -> str:
    """Return what takes an offer: its price is in the offer, and no other is ever signed."""
    return f"btcfi market take {instrument}/{offer_id} --quantity {btc(quantity)}"


def request_command(instrument: str, quantity: CentiBtc, wanted: Wanted, *, valid: str = "") -> str:
    """Return what asks makers for quotes of a quantity. valid: as ``--valid`` takes it; else its default."""
    held = f" --valid {valid}" if valid else ""
    return f"btcfi market request {instrument} {wanted.value} --quantity {btc(quantity)}{held}"


def _best(top: views.Top | None) -> Best | None:
    if top is None:
        return None
    return Best(
        price=Sats(top.price_sats), price_cents=Cents(top.price_cents), quantity=CentiBtc(top.quantity),
        depth=CentiBtc(top.depth), offers=top.offers,
    )  # fmt: skip
