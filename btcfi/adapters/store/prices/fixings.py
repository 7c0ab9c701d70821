"""Fixings of the store: the price that settles a window, every minute of it agreed again from what venues said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.evidence import venues_of
from btcfi.adapters.store.prices.rounds import latest_priced
from btcfi.adapters.store.prices.tables import QuoteRow, RoundRow, RoundState
from btcfi.oracle.batch import agreed_minutes
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, decode_outcome, fit_to_settle
from btcfi.oracle.fixing import MINUTES_AFTER, MOST_MINUTES, Fixed, Fixing, LeftOut, Said, fix
from btcfi.oracle.quote import Feed, VenueId, parse_venue
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Slot

AT_ONCE: Final = MOST_MINUTES
"""Minutes that are agreed again together: a whole window, and of a long way to the first price no more."""


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


class _Minutes(Mapping[Slot, Said]):
    """The closed minutes from ``first`` to ``until``, agreed again as they are asked for, AT_ONCE together."""

    def __init__(
        self, session: Session, feed: Feed, rule: ConsensusRule, *, first: Slot, until: Slot, end: Slot
    ) -> None:  # fmt: skip
        self._session, self._feed, self._rule, self._first = session, feed, rule, first
        self._last = min(until, Slot(end + MINUTES_AFTER * SECONDS_PER_MINUTE))
        newest = latest_priced(session, feed)
        # a minute before one that has a price can not be opened any more (``rounds.open_round``)
        self._passed = Slot(0) if newest is None else Slot(newest.slot)
        self._read: dict[Slot, Said | None] = {}

    def __getitem__(self, at: Slot) -> Said:
        if not self._first <= at <= self._last:
            raise KeyError(at)
        if at not in self._read:
            self._agree_from(at)
        said = self._read[at]
        if said is None and at < self._passed:
            return LeftOut.NEVER_ASKED
        if said is None:
            raise KeyError(at)
        return said

    def _agree_from(self, first: Slot) -> None:
        """Agree again on the minutes from ``first`` on, from their observations: no stored price is believed.

        A round that an earlier release agreed stays as that agreed it, for its arithmetic is not here; no rule that
        asks how far one venue could move a price settles on it.
        """
        last = min(self._last, Slot(first + (AT_ONCE - 1) * SECONDS_PER_MINUTE))
        self._read |= dict.fromkeys(map(Slot, range(first, last + 1, SECONDS_PER_MINUTE)))
        texts = _texts(self._session, self._feed, first, last)
        asked: dict[frozenset[VenueId], list[Slot]] = {}
        for at, report in _reports(self._session, self._feed, first, last):
            said = decode_outcome(json.loads(report or "{}"))
            if isinstance(said, AgreedPrice) and said.dollar_markets is None:
                self._read[at] = self._fit(said)
            else:
                asked.setdefault(venues_of(said), []).append(at)
        for registered, slots in asked.items():
            minutes = [(at, [body for _, body in texts.get(at, [])]) for at in slots]
            legs = {venue for at in slots for venue, _ in texts.get(at, []) if venue.is_leg}
            agreed = agreed_minutes(minutes, registered=registered, legs=legs, rule=self._rule)
            for at, price, fit in zip(slots, agreed.price.tolist(), agreed.fit(self._rule).tolist(), strict=True):
                self._read[at] = CentsPerBtc(price) if fit else LeftOut.THIN if price else LeftOut.VOID

    def _fit(self, agreed: AgreedPrice) -> Said:
        return agreed.price if fit_to_settle(agreed, self._rule) else LeftOut.THIN

    def __iter__(self) -> Iterator[Slot]:
        return (Slot(at) for at in range(self._first, self._last + 1, SECONDS_PER_MINUTE) if at in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _reports(session: Session, feed: Feed, first: Slot, last: Slot) -> list[tuple[Slot, str | None]]:
    query = select(col(RoundRow.slot), col(RoundRow.report)).where(
        col(RoundRow.feed) == feed, col(RoundRow.slot) >= first, col(RoundRow.slot) <= last
    )
    return [(Slot(at), report) for at, report in session.execute(query)]


def _texts(session: Session, feed: Feed, first: Slot, last: Slot) -> dict[Slot, list[tuple[VenueId, str]]]:
    query = select(col(QuoteRow.slot), col(QuoteRow.venue), col(QuoteRow.body)).where(
        col(QuoteRow.feed) == feed, col(QuoteRow.slot) >= first, col(QuoteRow.slot) <= last
    )
    found: dict[Slot, list[tuple[VenueId, str]]] = {}
    for at, venue, body in session.execute(query):
        found.setdefault(Slot(at), []).append((parse_venue(venue), body))
    return found
