"""What an account holds, as its pages show it: marks, the profit with its explanation, Greeks, what-ifs, history."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.tables import CloseRow, CloseState, FirmOfferRow, OfferState, TakeRow
from btcfi.adapters.store.market.transfer_tables import TransferRow
from btcfi.adapters.store.market.transfers import transfers_by_option, transfers_of
from btcfi.adapters.store.options import views as options_views
from btcfi.adapters.store.options.options import condition_of_row, terms_of
from btcfi.adapters.store.options.premiums import counted_from
from btcfi.adapters.store.options.tables import SETTLED_OPTIONS, OptionRow, OptionState, SettlementRow
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices import views as prices_views
from btcfi.adapters.store.spine.database import Session
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.instrument import Instrument, instrument_of
from btcfi.market.positions import (
    Explanation,
    Mark,
    Position,
    View,
    counting,
    explain,
    greeks,
    greeks_by,
    marks,
    what_if,
)
from btcfi.oracle.quote import Feed
from btcfi.pricing.domain import FloatArray
from btcfi.pricing.portfolio import BookGreeks
from btcfi.pricing.surface import flat_surface
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Sats, Slot
from dashboards.shared.render import iso
from dashboards.trader.deps import DeskDeps
from dashboards.trader.market import PublicMarket, Seen

SHOWN: Final = 500
"""Positions that are looked at together: the newest."""

MOST_IN_A_FILE: Final = 20_000
"""Positions that go out as CSV: a file is added up elsewhere, so it has all of them."""

RECENT: Final = 20
"""Takes and offers of a page."""

SPOT_MOVES: Final = tuple(round(step * 0.05, 2) for step in range(-10, 11))
"""Relatively: what a what-if is drawn at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One position."""

    option: OptionRow
    instrument: Instrument
    position: Position
    take: TakeRow | None
    mark: Mark | None
    """None: it is being settled, its minutes are counted, no price is known, or both sides have closed it."""
    close: CloseRow | None
    """What both sides have signed to end it, until it is deep enough in the chain."""
    sold: TransferRow | None = None
    """The transfer that all three have signed and that moves it on, likewise."""
    taken: TransferRow | None = None
    """The one that it came from."""

    @property
    def cost_sats(self) -> int:
        """What was paid for it: by who took it from a holder, that price; else the premium."""
        return _cost_of(self.option, self.taken, bought=self.position.bought)

    @property
    def words(self) -> str:
        """The trader's own word for its side."""
        return "you bought" if self.position.bought else "you wrote"

    @property
    def closed_words(self) -> str:
        """What both sides have agreed on, for this account."""
        return _closed_words(bought=self.position.bought)

    @property
    def closed_sats(self) -> int | None:
        """What the close pays this account."""
        return _paid_of(self.close, bought=self.position.bought)

    @property
    def closed_profit_sats(self) -> int | None:
        """That against the premium, and for a writer the collateral."""
        return _profit_of(self.option, self.closed_sats, self.cost_sats, bought=self.position.bought)

    @property
    def sold_words(self) -> str:
        """What the transfer means for this account."""
        return _sold_words(self.sold, bought=self.position.bought)

    @property
    def closable(self) -> bool:
        """Whether an offer to close it, or of it, could be made: it is funded, and nothing that ends it is signed."""
        return self.option.state == OptionState.ACTIVE and self.close is None and self.sold is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profit:
    """Why all positions together are worth what they are, against what was paid for them; the parts sum to it."""

    whole: int
    """Cents, as all of them."""
    traded: int
    """What the premiums were better than the model when they were agreed, and roundings."""
    explained: Explanation
    knocked_out: int
    """What barriers took."""
    unknown: int
    """Of positions whose first minute has no price in the store any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One option that is over."""

    option: OptionRow
    instrument: Instrument
    bought: bool
    settlement: SettlementRow | None
    """What settled it; of a closed one nothing, or what came too late."""
    close: CloseRow | None = None
    """The transaction by which both sides have closed it."""
    sold: TransferRow | None = None
    """The transfer by which its holder changed: its writer's goes on, as another option."""
    taken: TransferRow | None = None
    """The one that it came from."""

    @property
    def paid_sats(self) -> int | None:
        """What its transaction pays this account; None before there is one, and of what goes on."""
        if self.sold is not None:
            return self.sold.price_sats if self.bought else None
        return _paid_of(self.close or self.settlement, bought=self.bought)

    @property
    def profit_sats(self) -> int | None:
        """That against the premium, and for a writer the collateral; the fees of the funding apart."""
        return _profit_of(self.option, self.paid_sats, self.cost_sats, bought=self.bought)

    @property
    def cost_sats(self) -> int:
        """What was paid for it: by who took it from a holder, that price; else the premium."""
        return _cost_of(self.option, self.taken, bought=self.bought)

    @property
    def txid(self) -> str | None:
        """Of its transaction."""
        ended = self.close or self.sold or self.settlement
        return None if ended is None else ended.txid

    @property
    def price_cents(self) -> int | None:
        """The price that settled it; None of one that was closed or sold."""
        if self.settlement is None or self.close is not None or self.sold is not None:
            return None
        return self.settlement.price_cents

    @property
    def outcome(self) -> str:
        """The option's state, or that both sides have closed it, or that its holder has changed."""
        if self.sold is not None:
            return "sold" if self.bought else "holder changed"
        return self.option.state.lower() if self.close is None else "closed"

    @property
    def words(self) -> str:
        """What became of it, for this account."""
        did = "you bought" if self.bought else "you wrote"
        if self.close is not None:
            return f"{did} it; {_closed_words(bought=self.bought)}"
        if self.sold is not None:
            return f"{did} it; {_sold_words(self.sold, bought=self.bought)}"
        if self.settlement is None or self.settlement.paid_sats is None:
            return f"{did} it; it is being paid out"
        return f"{did} it; it {'paid' if self.settlement.paid_sats else 'expired worthless'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToClose:
    """An offer to close an option of an account, for this account."""

    offered: views.OwnClose
    instrument: Instrument
    split: Split
    command: str
    """What its owner runs to agree to it, or to take its own word back."""

    @property
    def waits_for(self) -> str:
        """Whose turn it is."""
        if self.offered.row.state != CloseState.OFFERED:
            return "both say yes: it is being signed"
        return "the other side" if self.offered.own else "your word"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What a close at a price gives an account, before the transaction's fee, which is the writer's."""

    bought: bool
    holder_sats: int
    writer_sats: int
    profit_sats: int

    @property
    def yours_sats(self) -> int:
        """The account's part."""
        return self.holder_sats if self.bought else self.writer_sats

    @property
    def theirs_sats(self) -> int:
        """The other side's."""
        return self.writer_sats if self.bought else self.holder_sats


def split_of(option: OptionRow, payout: int, *, bought: bool, cost: int | None = None) -> Split:
    """Return what closing an option at a payout to its holder gives one side.

    cost: what this side's holder paid for it; None: the premium. Raises InvalidInputError.
    """
    if not 0 <= payout <= option.collateral_sats:
        raise InvalidInputError("price", f"{payout:,} sats", f"0 to {option.collateral_sats:,}, the collateral")
    rest = option.collateral_sats - payout
    profit = _profit_of(
        option, payout if bought else rest, option.premium_sats if cost is None else cost, bought=bought
    )
    return Split(bought=bought, holder_sats=payout, writer_sats=rest, profit_sats=profit or 0)


def _to_close(one: views.OwnClose, taken: TransferRow | None) -> ToClose:
    bought = one.role == "holder"
    agrees = not one.own and one.row.state == CloseState.OFFERED
    return ToClose(
        offered=one, instrument=instrument_of(terms_of(one.option)),
        split=split_of(
            one.option, one.row.payout_sats, bought=bought, cost=_cost_of(one.option, taken, bought=bought)
        ),
        command=f"btcfi market close {'--accept' if agrees else '--withdraw'} {one.row.id[:16]}",
    )  # fmt: skip


def _closed_words(*, bought: bool) -> str:
    return "you sold it back" if bought else "you bought it back"


def _paid_of(ended: CloseRow | SettlementRow | None, *, bought: bool) -> int | None:
    if ended is None:
        return None
    return ended.paid_sats if bought else ended.returned_sats


def _sold_words(sold: TransferRow | None, *, bought: bool) -> str:
    if bought:
        return "you sold it on"
    return f"its holder changed, and it goes on as {'' if sold is None else sold.new_option_id}"


def _cost_of(option: OptionRow, taken: TransferRow | None, *, bought: bool) -> int:
    return taken.price_sats if bought and taken is not None else option.premium_sats


def _profit_of(option: OptionRow, paid: int | None, cost: int, *, bought: bool) -> int | None:
    """Return what was paid against what it cost: a writer's premium is the first buyer's, whoever holds it since."""
    if paid is None:
        return None
    return paid - cost if bought else paid - option.collateral_sats + option.premium_sats


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Everything of an account at one moment."""

    account: str
    seen: Seen
    view: View | None
    rows: tuple[Row, ...]
    more: bool
    """Whether there are older ones that are not looked at."""
    profit: Profit | None
    greeks: BookGreeks | None
    by_expiry: tuple[tuple[int, BookGreeks], ...]
    by_strike: tuple[tuple[int, BookGreeks], ...]
    locked: int
    """Satoshis of collateral that this account's own contracts hold."""
    at_risk: int
    """The most that all of these deals can cost, in satoshis, premiums counted and fees apart."""
    closes: tuple[ToClose, ...]
    """Offers to close these positions that wait for a half, of either side."""
    settled: tuple[Settled, ...]
    following: str | None
    offers: tuple[FirmOfferRow, ...]
    takes: tuple[TakeRow, ...]
    transfers: tuple[TransferRow, ...] = ()
    """The newest that the account is one of the three of."""

    @property
    def alive(self) -> list[Position]:
        """The positions that have a mark."""
        return [row.position for row in self.rows if row.mark is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """A market that has moved."""

    spot: int = 0
    """Per cent, as the next one."""
    volatility: int = 0
    days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The profit of all positions under one moved market, and along the price."""

    chosen: Moves
    profit_cents: int
    moves: tuple[float, ...]
    then: tuple[float, ...]
    """Dollars at each move, with the volatility and the days."""
    now: tuple[float, ...]
    """Dollars at each move, with neither."""


class Holdings:
    """Reads an account's things; whose is the caller's to know."""

    def __init__(self, deps: DeskDeps, market: PublicMarket) -> None:
        """``deps``: the application's."""
        self._deps, self._market = deps, market

    def of(self, account: str, *, cursor: str | None = None, most: int = SHOWN) -> Holding:
        """Return what an account holds. cursor: of the history's page. most: positions. Raises NoSuchPageError."""
        seen = self._market.seen()
        view = seen.view(self._deps.api.rate)
        with self._deps.api.store.reading() as session:
            page = views.positions(session, account, limit=most)
            settled = views.positions(session, account, states=SETTLED_OPTIONS, limit=RECENT, cursor=cursor)
            history = tuple(settled_of(session, settled.rows))
            options = [one.option for one in page.rows]
            closed = views.agreed_closes(session, [one.id for one in options])
            asked = views.open_closes(session, account, options, self._deps.api.clock())
            offers = views.offers_of(session, account, state=OfferState.OPEN, limit=RECENT).rows
            takes = views.takes_of(session, account, limit=RECENT).rows
            transfers = transfers_of(session, account, limit=RECENT).rows
            ids = [one.id for one in options]
            sold, taken = (transfers_by_option(session, ids, old=old) for old in (True, False))
            held = [(one, position_of(session, one, seen, taken.get(one.option.id))) for one in page.rows]
            # of what was taken from a holder the first price is another's
            first = _first_views(
                session, [one for one in options if one.holder != account or one.id not in taken], seen
            )
        # what is signed away moves with no price any more; what comes of a sale has its own row
        kept = [(one, p) for one, p in held if one.option.id not in closed and one.option.id not in sold]
        alive = [] if view is None else [p for _, p in kept if has_mark(p, view)]
        marked = {} if view is None else {one.position.option_id: one for one in marks(alive, view)}
        rows = tuple(
            Row(
                option=one.option, instrument=instrument_of(position.terms), position=position, take=one.take,
                mark=marked.get(position.option_id), close=closed.get(one.option.id), sold=sold.get(one.option.id),
                taken=taken.get(one.option.id),
            )
            for one, position in held
        )  # fmt: skip
        funded = [row for row in rows if row.option.state != OptionState.CREATED]
        return Holding(
            account=account, seen=seen, view=view, rows=rows, more=page.following is not None,
            profit=None if view is None or not alive else _profit(marked.values(), first, view),
            greeks=None if view is None or not alive else greeks(alive, view),
            by_expiry=() if view is None else _sorted(greeks_by(alive, view, lambda one: int(one.terms.expiry))),
            by_strike=() if view is None else _sorted(greeks_by(alive, view, lambda one: int(one.terms.strike))),
            locked=sum(row.position.terms.collateral for row in funded if not row.position.bought),
            at_risk=sum(row.position.at_risk for row in rows if row.close is None and row.sold is None),
            closes=tuple(_to_close(one, taken.get(one.option.id)) for one in asked), settled=history,
            following=settled.following, offers=tuple(offers), takes=tuple(takes), transfers=tuple(transfers),
        )  # fmt: skip

    def one(self, account: str, option_id: str) -> tuple[Row, tuple[ToClose, ...]]:
        """Return one position of an account, and the offers to close it that wait. Raises NotFoundError."""
        seen = self._market.seen()
        view = seen.view(self._deps.api.rate)
        with self._deps.api.store.reading() as session:
            option = options_views.option(session, option_id)
            if option is None or account not in {option.writer, option.holder}:
                raise NotFoundError("option", option_id[:40], "one of your positions")
            held = views.Held(option=option, role="holder" if option.holder == account else "writer", take=None)
            closed = views.agreed_closes(session, [option_id])
            sold, taken = (transfers_by_option(session, [option_id], old=old).get(option_id) for old in (True, False))
            position = position_of(session, held, seen, taken)
            asked = views.open_closes(session, account, [option], self._deps.api.clock())
        alive = view is not None and not closed and sold is None and has_mark(position, view)
        row = Row(
            option=option, instrument=instrument_of(position.terms), position=position, take=None,
            mark=marks([position], view)[0] if view is not None and alive else None, close=closed.get(option_id),
            sold=sold, taken=taken,
        )  # fmt: skip
        return row, tuple(_to_close(one, taken) for one in asked)

    def history(self, account: str) -> Iterator[Settled]:
        """Give every option of an account that is over, the newest first."""
        cursor: str | None = None
        while True:
            with self._deps.api.store.reading() as session:
                page = views.positions(session, account, states=SETTLED_OPTIONS, limit=SHOWN, cursor=cursor)
                found, cursor = settled_of(session, page.rows), page.following
            yield from found
            if cursor is None:
                return

    def sizes(self, account: str, expiry: int) -> dict[str, int]:
        """Return what an account holds of each instrument of an expiry, hundredths: below 0 what it wrote."""
        with self._deps.api.store.reading() as session:
            page = views.positions(session, account, limit=SHOWN)
            ids = [one.option.id for one in page.rows]
            gone = {*views.agreed_closes(session, ids), *transfers_by_option(session, ids, old=True)}
        found: dict[str, int] = {}
        for one in page.rows:
            if one.option.expiry_unix == expiry and one.option.id not in gone:
                name = instrument_of(terms_of(one.option)).name
                sign = 1 if one.role == "holder" else -1
                found[name] = found.get(name, 0) + sign * one.option.quantity_centi_btc
        return found

    def what_if(self, account: str, chosen: Moves) -> WhatIf | None:
        """Return the profit if the market moved so.

        None where nothing is held, or no price is known.
        """
        holding = self.of(account)
        alive = holding.alive
        if holding.view is None or not alive:
            return None
        moves = sorted({*SPOT_MOVES, chosen.spot / 100})
        level, day = chosen.volatility / 100, float(chosen.days)
        grid = what_if(
            alive, holding.view, spot_moves=moves, volatility_moves=sorted({0.0, level}),
            days=sorted({0.0, day}),
        )  # fmt: skip
        then = _along(grid.profit, grid.days, grid.volatility_moves, day=day, level=level)
        now = _along(grid.profit, grid.days, grid.volatility_moves, day=0.0, level=0.0)
        return WhatIf(
            chosen=chosen, profit_cents=round(then[moves.index(chosen.spot / 100)] * 100), moves=tuple(moves),
            then=then, now=now,
        )  # fmt: skip


def has_mark(position: Position, view: View) -> bool:
    """Return whether a position is priced: one that is over is being settled, and a median's minutes are counted."""
    return position.terms.expiry > view.now and not counting(instrument_of(position.terms), view.now)


def _along(profit: FloatArray, days: FloatArray, levels: FloatArray, *, day: float, level: float) -> tuple[float, ...]:
    return tuple(profit[int(np.argmin(abs(days - day))), int(np.argmin(abs(levels - level)))].tolist())


def position_of(session: Session, held: views.Held, seen: Seen, taken: TransferRow | None = None) -> Position:
    """Return what is held as it is priced. taken: the transfer that it came from; then its holder paid that price.

    A transfer has no dollars: its price is worth what it was by the agreed price of the minute before its option was
    made, and where that is not kept, by the newest.
    """
    option, terms = held.option, terms_of(held.option)
    premium = Sats(option.premium_sats)
    if taken is not None and held.role == "holder":
        premium = Sats(taken.price_sats)
        at = prices_views.round_at(session, option.feed, option.created_at_unix // 60 * 60 - 60)
        newest = None if seen.market is None else seen.market.spot
        spot = newest if at is None or at.price_cents is None else at.price_cents
        if spot is not None:
            terms = replace(terms, premium=Cents(premium * spot // 100_000_000))
    knocked = False
    condition = condition_of_row(option)
    if condition.barrier is not None and seen.market is not None:
        until = min(seen.market.slot, terms.expiry)
        touched = rounds.observed_range(session, Feed(option.feed), after=condition.since, until=until)
        if touched is not None:
            knocked = touched[1] >= condition.barrier if condition.above else touched[0] <= condition.barrier
    return Position(
        option_id=option.id, terms=terms, bought=held.role == "holder", premium=premium,
        knocked_out=knocked,
    )  # fmt: skip


def _first_views(session: Session, options: Iterable[OptionRow], seen: Seen) -> dict[str, View]:
    """Return the market that each option was made in, by its id: the price of its minute, at its volatility.

    Options of one market have one View.
    """
    prices: dict[tuple[str, int], int | None] = {}
    made: dict[tuple[int, int, int], View] = {}
    found = {}
    for one in options:
        at = (one.feed, one.listed_slot)
        if at not in prices:
            row = prices_views.round_at(session, *at)
            prices[at] = None if row is None else row.price_cents
        price = prices[at]
        if price is None or seen.market is None or one.listed_slot > seen.market.slot:
            continue
        key = (one.listed_slot, one.volatility_bps, one.rate_bps)
        if key not in made:
            made[key] = View(
                spot=CentsPerBtc(price), surface=flat_surface(one.volatility_bps / 10_000), rate=one.rate_bps / 10_000,
                now=counted_from(Slot(one.listed_slot)), sampled=False,
            )  # fmt: skip
        found[one.id] = made[key]
    return found


def _profit(marked: Iterable[Mark], first: dict[str, View], view: View) -> Profit:
    whole = knocked = unknown = 0
    groups: dict[int, tuple[View, list[Position]]] = {}
    for one in marked:
        whole += one.profit_cents
        before = first.get(one.position.option_id)
        if one.position.knocked_out:
            knocked += one.profit_cents
        elif before is None:
            unknown += one.profit_cents
        else:
            groups.setdefault(id(before), (before, []))[1].append(one.position)
    parts = [explain(many, before, view) for before, many in groups.values()]
    total = Explanation(
        whole=sum(one.whole for one in parts), delta=sum(one.delta for one in parts),
        gamma=sum(one.gamma for one in parts), vega=sum(one.vega for one in parts),
        theta=sum(one.theta for one in parts), residual=sum(one.residual for one in parts),
    )  # fmt: skip
    return Profit(
        whole=whole, traded=whole - knocked - unknown - total.whole, explained=total, knocked_out=knocked,
        unknown=unknown,
    )  # fmt: skip


def settled_of(session: Session, many: Sequence[views.Held]) -> list[Settled]:
    """Return what became of some options of an account."""
    ids = [held.option.id for held in many]
    closed, settled = views.agreed_closes(session, ids), options_views.settlements_by_option(session, ids)
    sold, taken = (transfers_by_option(session, ids, old=old) for old in (True, False))
    return [
        Settled(
            option=held.option, instrument=instrument_of(terms_of(held.option)), bought=held.role == "holder",
            settlement=settled.get(held.option.id), close=closed.get(held.option.id), sold=sold.get(held.option.id),
            taken=taken.get(held.option.id),
        )
        for held in many
    ]  # fmt: skip


def _sorted(found: dict[int, BookGreeks]) -> tuple[tuple[int, BookGreeks], ...]:
    return tuple(sorted(found.items()))


# ---- files


def positions_csv(holding: Holding) -> str:
    """Return an account's positions as CSV: amounts in satoshis and dollars, times in UTC."""
    head = (
        "option", "instrument", "side", "state", "quantity_btc", "premium_sats", "premium_usd", "collateral_sats",
        "mark_usd", "profit_usd", "delta_btc", "gamma_btc", "vega_usd", "theta_usd", "expiry_utc", "created_utc",
        "closed_sats", "closed_profit_sats", "closed_txid",
    )  # fmt: skip
    return _csv(head, (_position_row(row) for row in holding.rows))


def _position_row(row: Row) -> tuple[Any, ...]:
    terms, mark = row.position.terms, row.mark
    told: tuple[Any, ...] = ("",) * 6
    if mark is not None:
        g = mark.greeks
        told = (
            _usd(mark.value_cents), _usd(mark.profit_cents), f"{g.delta_btc:.6f}", f"{g.gamma_btc:.6f}",
            f"{g.vega:.2f}", f"{g.theta:.2f}",
        )  # fmt: skip
    return (
        row.option.id, row.instrument.name, "bought" if row.position.bought else "wrote", row.option.state.lower(),
        _btc(terms.quantity), row.cost_sats, _usd(terms.premium), terms.collateral, *told,
        iso(terms.expiry), iso(row.option.created_at_unix), _or_empty(row.closed_sats),
        _or_empty(row.closed_profit_sats), (row.close and row.close.txid) or "",
    )  # fmt: skip


def history_csv(rows: Iterable[Settled]) -> str:
    """Return an account's settled options as CSV."""
    head = (
        "option", "instrument", "side", "outcome", "quantity_btc", "premium_sats", "collateral_sats", "paid_sats",
        "profit_sats", "price_usd", "txid", "expiry_utc",
    )  # fmt: skip
    return _csv(head, (_settled_row(one) for one in rows))


def _settled_row(one: Settled) -> tuple[Any, ...]:
    option = one.option
    return (
        option.id, one.instrument.name, "bought" if one.bought else "wrote", one.outcome,
        _btc(CentiBtc(option.quantity_centi_btc)), one.cost_sats, option.collateral_sats,
        _or_empty(one.paid_sats), _or_empty(one.profit_sats),
        "" if one.price_cents is None else _usd(one.price_cents), one.txid or "", iso(option.expiry_unix),
    )  # fmt: skip


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _or_empty(value: int | None) -> int | str:
    return "" if value is None else value


def _usd(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _btc(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}"
