"""A SIMULATED market without an end: candles of several venues, made from a seed, the same on every machine.

No market ever printed them. The common price is a Brownian bridge in the logarithm, so that any minute is known without
those before it: each dyadic midpoint lies between its neighbours, plus a normal step that a hash decides (Lévy's
construction). After 2**20 minutes, two years, it is back where it began, and goes round again without a jump: so it
stays far below what an oracle can attest. Whole numbers, and the decimal module's exponential, which is rounded
correctly everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache
from hashlib import sha256
from math import isqrt
from typing import Final

from btcfi.oracle.quote import VenueId, parse_venue
from btcfi.oracle.venues.recorded import Candle
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Slot

LEVELS: Final = 20
"""Binary digits of a round trip in minutes: two years."""

FIRST_SLOT: Final = Slot(1_577_836_800)
"""2020-01-01T00:00:00Z: where a round trip and a new deployment begin, so far back that a faster clock does not reach
the wall's soon."""

CENTRE_CENTS: Final = 6_000_000
"""$60,000: where the bridge begins and ends."""

STEP_NANOS: Final = 690_000
"""Standard deviation of a minute's logarithmic return, 1e-9: 50 % a year."""

NANO: Final = 1_000_000_000
_UNIFORMS: Final = 12
"""Uniform numbers whose sum is nearly normal, with the variance 1 (Irwin and Hall)."""

_DECIMAL: Final = Context(prec=28)
_SHELF: Final = 1_000
"""Minutes that a request without a window may see: as many as an exchange sends at most."""

_TICKS: Final = 100_000
"""Of a stablecoin's market, 1e-5 dollars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One venue of the simulation."""

    venue: VenueId
    bias_bps: int
    """How far it stands from the common price, 1/10,000."""
    volume_sats: int
    """Typical volume of a minute."""


MARKETS: Final = tuple(
    Market(venue=parse_venue(name), bias_bps=bias, volume_sats=volume)
    for name, bias, volume in (
        ("binance:BTC/USDT", 4, 1_800_000_000), ("binanceus:BTC/USD", 1, 60_000_000),
        ("bitfinex:BTC/USD", -1, 200_000_000), ("bitstamp:BTC/USD", 0, 300_000_000),
        ("coinbaseexchange:BTC/USD", 1, 900_000_000), ("kraken:BTC/USD", -1, 400_000_000),
    )
)  # fmt: skip
"""As close together as the dollar markets of the large exchanges are, and one of a stablecoin."""

LEGS: Final = tuple(map(parse_venue, ("coinbaseexchange:USDT/USD", "kraken:USDT/USD")))


def common_price(seed: int, minute: int) -> CentsPerBtc:
    """Return the common price at the beginning of a minute, counted from 1970. seed: any number from 0 on."""
    place = (minute - FIRST_SLOT // SECONDS_PER_MINUTE) % (1 << LEVELS)
    cents = Decimal(CENTRE_CENTS) * _DECIMAL.exp(Decimal(_logarithm(seed, place)) / NANO)
    return CentsPerBtc(int(cents.to_integral_value()))


def _logarithm(seed: int, place: int) -> int:
    """Return the bridge at a place from 0 to 2**LEVELS, 1e-9."""
    low, high, at_low, at_high = 0, 1 << LEVELS, 0, 0
    while low < place:
        middle = (low + high) // 2
        at_middle = (at_low + at_high) // 2 + _midpoint(seed, low, high)
        if place < middle:
            high, at_high = middle, at_middle
        else:
            low, at_low = middle, at_middle
    return at_low


@lru_cache(maxsize=1 << 12)
def _midpoint(seed: int, low: int, high: int) -> int:
    """Return how far a midpoint lies from the mean of its neighbours: normal, of half the root of their distance."""
    return _normal(f"{seed} path {low} {high}") * isqrt((high - low) * STEP_NANOS * STEP_NANOS) // (2 * NANO)


def _normal(what: str) -> int:
    """Return a number of mean 0 and variance 1, 1e-9, that the text decides."""
    raw = sha256(what.encode()).digest()
    total = sum(int.from_bytes(raw[2 * n : 2 * n + 2]) for n in range(_UNIFORMS))
    return (2 * total - _UNIFORMS * 0xFFFF) * NANO // (2 * 0x10000)


def _drawn(what: str, low: int, high: int) -> int:
    """Return a number from ``low`` to ``high``, both included, that the text decides."""
    return low + int.from_bytes(sha256(what.encode()).digest()[:8]) % (high - low + 1)


class SimulatedCandles(Mapping[Slot, Candle]):
    """One venue's candles, of every minute from 1970 on; what is iterated over are the newest ones."""

    def __init__(self, seed: int, market: Market, newest: Callable[[], Slot]) -> None:
        """newest: the last minute that is over, for a request that names no window."""
        self._seed, self._market, self._newest = seed, market, newest

    def __getitem__(self, slot: Slot) -> Candle:
        """Return a minute's candle. Raises KeyError for what is no minute."""
        if slot < 0 or slot % SECONDS_PER_MINUTE:
            raise KeyError(slot)
        market, minute = self._market, slot // SECONDS_PER_MINUTE
        first, close = (self._level(at) for at in (minute, minute + 1))
        reach = max(first // 2_400, 1)
        name = f"{self._seed} {market.venue} {minute}"
        high = max(first, close) + _drawn(f"{name} high", 0, reach)
        low = min(first, close) - _drawn(f"{name} low", 0, reach)
        volume = market.volume_sats * _drawn(f"{name} volume", 40, 220) // 100
        digits = 5 if market.venue.is_leg else 2
        prices = (f"{at // 10**digits}.{at % 10**digits:0{digits}d}" for at in (first, high, low, close))
        opened, highest, lowest, closed = prices
        return Candle(
            slot=slot, open=opened, high=highest, low=lowest, close=closed,
            volume=f"{volume // 10**8}.{volume % 10**8:08d}",
        )  # fmt: skip

    def _level(self, minute: int) -> int:
        """Return where the venue stands at the beginning of a minute: cents, or ticks of a stablecoin."""
        market, name = self._market, f"{self._seed} {self._market.venue} at {minute}"
        if market.venue.is_leg:
            return _TICKS - 40 + _drawn(name, -6, 6)
        price = common_price(self._seed, minute)
        return price + price * market.bias_bps // 10_000 + _drawn(name, -price // 6_600, price // 6_600)

    def __contains__(self, slot: object) -> bool:
        return isinstance(slot, int) and slot >= 0 and not slot % SECONDS_PER_MINUTE

    def __iter__(self) -> Iterator[Slot]:
        newest = self._newest()
        return (Slot(newest - SECONDS_PER_MINUTE * back) for back in reversed(range(len(self))))

    def __len__(self) -> int:
        return _SHELF


def simulated_market(seed: int, newest: Callable[[], Slot]) -> dict[VenueId, SimulatedCandles]:
    """Return the candles of every simulated venue and leg. newest: as ``SimulatedCandles`` asks for it."""
    legs = tuple(Market(venue=leg, bias_bps=0, volume_sats=200_000 * 10**8) for leg in LEGS)
    return {market.venue: SimulatedCandles(seed, market, newest) for market in (*MARKETS, *legs)}
