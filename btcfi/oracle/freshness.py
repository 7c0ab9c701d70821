"""Whether a published price may still be used: alive, thin, stale or halted, and until when. Pure; ``now`` is given."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from btcfi.oracle.consensus import Thin
from btcfi.units import SECONDS_PER_MINUTE, Slot, UnixSeconds

LIFE_SECONDS: Final = 120
"""After its minute's end a price is good for so long: the next minute's is due after one, and may take its time."""


class MarketStatus(StrEnum):
    """What a consumer may do with the newest price, the worst that holds."""

    TRADING = "trading"
    """Fresh, and nobody alone could have bent it."""
    THIN = "thin"
    """Fresh, and too few markets stand behind it: look, do not settle."""
    STALE = "stale"
    """Newer minutes are due and have no price: venues are away or disagree, or nobody asks them."""
    HALTED = "halted"
    """An operator has paused the feed: no newer price will come until it is resumed."""


def expires_at(slot: Slot) -> UnixSeconds:
    """Return the second from which the price of ``slot`` is stale."""
    return UnixSeconds(slot + SECONDS_PER_MINUTE + LIFE_SECONDS)


def market_status(
    slot: Slot,
    *,
    thin: Collection[Thin | str],
    halted: bool,
    now: UnixSeconds,
    closed_at: int | None = None,
    wall: UnixSeconds | None = None,
) -> MarketStatus:
    """Return the status of the newest price, that of ``slot``, at ``now``.

    thin: why it is too thin to settle on; empty where it is not. halted: whether the feed is paused.
    closed_at, wall: when it was agreed, and now, by the wall's clock. A recording's market keeps its own time, ``now``,
    which stands still with it when the recording ends; the wall's does not.
    """
    if halted:
        return MarketStatus.HALTED
    if now >= expires_at(slot) or (wall is not None and closed_at is not None and wall >= closed_at + LIFE_SECONDS):
        return MarketStatus.STALE
    return MarketStatus.THIN if thin else MarketStatus.TRADING
