"""Which market a store's prices are of: noted by who plays one, and told from the minutes where nobody noted it.

It reads stores of every earlier migration, before they are migrated: only columns that the first one had.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from btcfi.adapters.store.prices.observations import observations_of
from btcfi.adapters.store.prices.source_tables import MarketSourceRow
from btcfi.adapters.store.prices.tables import RoundRow, RoundState
from btcfi.adapters.store.spine.views import has_table
from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import Feed, Quote, VenueId
from btcfi.oracle.venues.recorded import Candle
from btcfi.units import Slot, UnixSeconds

LIVE: Final = "live"
RECORDED: Final = "recorded"

PROMPT_SECONDS: Final = 86_400
"""After its minute, that a live round is opened at most, missed ones too: a played market's minutes are years old."""

Shelf = Callable[[VenueId, Slot], Candle | None]
"""A venue's candle of a minute in some market."""


def simulated(seed: int) -> str:
    """Return what the market of a seed is called."""
    return f"simulated seed {seed}"


def source_of(session: Session, feed: Feed) -> str | None:
    """Return which market the feed's prices are of; None where nobody noted it, as in stores of earlier releases."""
    if not has_table(session, "market_source"):
        return None
    row = session.get(MarketSourceRow, feed)
    return None if row is None else row.source


def note_source(session: Session, feed: Feed, source: str, *, now: UnixSeconds) -> None:
    """Note which market the feed's prices are of; who calls it has refused another's prices."""
    if source_of(session, feed) != source:
        session.merge(MarketSourceRow(feed=feed, source=source, since_unix=now))


def priced_ends(session: Session, feed: Feed) -> tuple[Slot, Slot] | None:
    """Return the first and the newest minute that have a price; None where none has."""
    if not has_table(session, "round"):
        return None
    query = select(func.min(col(RoundRow.slot)), func.max(col(RoundRow.slot))).where(
        col(RoundRow.feed) == feed, col(RoundRow.state) == RoundState.PRICED
    )
    first, newest = session.execute(query).one()
    return None if first is None else (Slot(first), Slot(newest))


def are_printed_by(session: Session, feed: Feed, slots: tuple[Slot, ...], shelf: Shelf) -> bool:
    """Return whether every bitcoin candle that venues said for these minutes is the market's own, and there is one."""
    return all(_is_printed_by(session, feed, slot, shelf) for slot in slots)


def _is_printed_by(session: Session, feed: Feed, slot: Slot, shelf: Shelf) -> bool:
    try:
        quotes = [one for one in observations_of(session, feed, slot) if isinstance(one, Quote)]
    except InvalidInputError:  # what cannot be read is no evidence
        return False
    candles = [(quote, shelf(quote.venue, slot)) for quote in quotes]
    return bool(candles) and all(
        candle is not None and quote.close == int(Decimal(candle.close).scaleb(2).to_integral_value(ROUND_HALF_EVEN))
        for quote, candle in candles
    )


def are_prompt(session: Session, feed: Feed, slots: tuple[Slot, ...]) -> bool:
    """Return whether these minutes were opened soon after they were over by the wall clock, as live ones are."""
    query = select(col(RoundRow.slot), col(RoundRow.opened_at_unix)).where(
        col(RoundRow.feed) == feed, col(RoundRow.slot).in_(slots)
    )
    return all(0 <= opened - slot <= PROMPT_SECONDS for slot, opened in session.execute(query))
