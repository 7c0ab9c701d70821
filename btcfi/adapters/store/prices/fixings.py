"""Fixings of the store: the price that settles a window, every minute of it agreed again from what venues said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.evidence import venues_of
from btcfi.adapters.store.prices.observations import observations_of
from btcfi.adapters.store.prices.rounds import latest_priced
from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, Outcome, agreed_price, decode_outcome, fit_to_settle
from btcfi.oracle.fixing import MINUTES_AFTER, Fixed, Fixing, LeftOut, Said, fix
from btcfi.oracle.quote import Feed
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Slot


def fixing_of(session: Session, feed: Feed, fixing: Fixing, end: Slot, rule: ConsensusRule) -> Fixed | None:
    """Return the fixing of the window that ends with the minute ``end`` by ``rule``; None while it cannot be known.

    rule: the option's own, whatever minutes are agreed by today: each is agreed again from its stored observations, and
    one that is void or unfit by it does not count. A round that is still open, also before the window, is waited for: a
    barrier watches every minute.
    """
    until = closed_until(session, feed)
    if until is None or until < end:
        return None
    minutes = _Minutes(session, feed, rule, first=Slot(fixing.window(end)[0]), until=until, end=end)
    return fix(fixing, end, minutes)


def closed_until(session: Session, feed: Feed) -> Slot | None:
    """Return the newest closed minute before which no round is open."""
    first_open = select(func.min(RoundRow.slot)).where(
        col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.OPEN
    )
    opened = session.execute(first_open).scalar_one()
    query = select(func.max(RoundRow.slot)).where(col(RoundRow.feed) == feed, col(RoundRow.state) != RoundState.OPEN)
    if opened is not None:
        query = query.where(col(RoundRow.slot) < opened)
    found = session.execute(query).scalar_one()
    return None if found is None else Slot(found)


def said_since(session: Session, feed: Feed, first: Slot) -> dict[Slot, Said]:
    """Return what the closed minutes from ``first`` on say to the windows that are open now, for their premiums."""
    query = select(col(RoundRow.slot), col(RoundRow.price_cents)).where(
        col(RoundRow.feed) == feed, col(RoundRow.state) != RoundState.OPEN, col(RoundRow.slot) >= first
    )
    return {Slot(at): LeftOut.VOID if cents is None else CentsPerBtc(cents) for at, cents in session.execute(query)}


def agreed_again(session: Session, row: RoundRow, rule: ConsensusRule) -> Outcome:
    """Return what the observations of a closed round give by ``rule``; its stored price is not believed.

    One that an earlier release agreed stays as that agreed it, for its arithmetic is not here; no rule that asks how
    far one venue could move a price settles on it.
    """
    said = decode_outcome(json.loads(row.report or "{}"))
    if isinstance(said, AgreedPrice) and said.dollar_markets is None:
        return said
    observations = observations_of(session, Feed(row.feed), Slot(row.slot))
    legs = {one.venue for one in observations if one.venue.is_leg}
    return agreed_price(observations, registered=venues_of(said), legs=legs, rule=rule, slot=Slot(row.slot))


class _Minutes(Mapping[Slot, Said]):
    """The closed minutes from ``first`` to ``until``, agreed again as they are asked for."""

    def __init__(
        self, session: Session, feed: Feed, rule: ConsensusRule, *, first: Slot, until: Slot, end: Slot
    ) -> None:  # fmt: skip
        last = min(until, Slot(end + MINUTES_AFTER * SECONDS_PER_MINUTE))
        query = select(RoundRow).where(
            col(RoundRow.feed) == feed, col(RoundRow.slot) >= first, col(RoundRow.slot) <= last
        )
        # without the reports of a long way to the first price: they are read one by one
        states = session.execute(query.with_only_columns(col(RoundRow.slot), col(RoundRow.id)))
        self._rows: dict[Slot, int] = {Slot(at): number for at, number in states}
        self._session, self._rule, self._first, self._last = session, rule, first, last
        newest = latest_priced(session, feed)
        # a minute before one that has a price can not be opened any more (``rounds.open_round``)
        self._passed = Slot(0) if newest is None else Slot(newest.slot)

    def __getitem__(self, at: Slot) -> Said:
        if at in self._rows:
            return self._said(self._session.get_one(RoundRow, self._rows[at]))
        if self._first <= at <= self._last and at < self._passed:
            return LeftOut.NEVER_ASKED
        raise KeyError(at)

    def _said(self, row: RoundRow) -> Said:
        agreed = agreed_again(self._session, row, self._rule)
        if not isinstance(agreed, AgreedPrice):
            return LeftOut.VOID
        return agreed.price if fit_to_settle(agreed, self._rule) else LeftOut.THIN

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
