"""What is listed now, made once a minute: thousands of names are not written for each caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from btcfi.adapters.store.prices import views as prices_views
from btcfi.adapters.store.prices.rounds import market_now
from btcfi.market.instrument import Instrument
from btcfi.market.listing import day_start, listed
from btcfi.oracle.quote import Feed
from btcfi.surfaces.rest.deps import Deps
from btcfi.units import CentsPerBtc

REFRESH_SECONDS: Final = 1.0
"""Between two looks at the day's prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list as it stood at a time; by expiry, strike and kind."""

    by_name: Mapping[str, Instrument]
    by_expiry: Mapping[int, Mapping[str, Instrument]]


NOTHING: Final = Listed(by_name={}, by_expiry={})


class Listing:
    """The list of one process. Its ladders stand around every price of the day, so that none of its strikes goes."""

    def __init__(self, deps: Deps) -> None:
        """``deps``: the application's."""
        self._deps = deps
        self._key: tuple[int, CentsPerBtc, CentsPerBtc] | None = None
        self._made = NOTHING
        self._looked_at = -1e9

    def current(self) -> Listed:
        """Return what is listed; nothing before the first price, or without a market's rules. Reads the store."""
        rules, at = self._deps.market_rules, self._deps.monotonic()
        if rules is None or at - self._looked_at < REFRESH_SECONDS:
            return self._made
        with self._deps.store.reading() as session:
            feed = Feed(self._deps.feed)
            now = market_now(session, feed, replay=self._deps.replay_clock, now=self._deps.clock())
            newest = prices_views.newest_close(session, feed)
            seen = prices_views.price_range(session, feed, since=day_start(now))
        if newest is None:
            return NOTHING
        low, high = seen or (newest.price_cents, newest.price_cents)
        key = (now // 60, low, high)
        if key != self._key:
            names: dict[str, Instrument] = {}
            expiries: dict[int, dict[str, Instrument]] = {}
            for one in listed(rules.listing, now, newest.price_cents, low=low, high=high):
                names[one.name] = one
                expiries.setdefault(one.expiry, {})[one.name] = one
            self._made, self._key = Listed(by_name=names, by_expiry=expiries), key
        self._looked_at = at
        return self._made
