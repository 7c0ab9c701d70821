"""Many minutes at once: the numbers of ``agreed_price``, from the stored text of what the venues said.

The same rule over arrays, a row a minute and a column a venue; equal to ``agreed_price`` minute by minute (a property
test holds one against the other). Whatever is not plain, such as a venue twice, a stranger, or a text that the strict
reader would refuse, goes through ``agreed_price`` itself, so that there is one rule and one refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from btcfi.oracle.consensus import ALONE, AgreedPrice, ConsensusRule, Method, agreed_price
from btcfi.oracle.quote import (
    DOLLAR,
    HIGHEST_PRICE,
    HIGHEST_RATE,
    LEAST_LEG_VOLUME,
    LOWEST_PRICE,
    LOWEST_RATE,
    MAX_LEG_VOLUME,
    PAR,
    VenueId,
    read_observation,
)
from btcfi.units import MAX_MONEY_SATS, MAX_U32, SECONDS_PER_MINUTE, Slot

Numbers = NDArray[np.int64]
Marks = NDArray[np.bool_]

_NONE: Final = np.iinfo(np.int64).max
"""Sorts behind every price."""

_ONE: Final = 10_000

_HEAD: Final = ("venue", "slot", "observed_at_unix", "evidence")
_QUOTE: Final = itemgetter(*_HEAD, "open_cents", "high_cents", "low_cents", "close_cents", "volume_sats")
_LEG: Final = itemgetter(*_HEAD, "open_e8", "high_e8", "low_e8", "rate_e8", "volume_e8")
_HEX: Final = 64
"""Digits of a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedMinutes:
    """The numbers of many minutes, each an array with a place a minute; prices in cents, 0 where a minute is void."""

    slots: Numbers
    price: Numbers
    low: Numbers
    high: Numbers
    confidence: Numbers
    dollar_markets: Numbers
    reach: Numbers

    @property
    def priced(self) -> Marks:
        """Where the venues agreed on a price."""
        return np.asarray(self.price > 0)

    def fit(self, rule: ConsensusRule) -> Marks:
        """Where money may move on the price by ``rule``: ``consensus.fit_to_settle`` of each."""
        wide = self.confidence * _ONE > rule.settle_confidence_bps * self.price
        few = self.dollar_markets < rule.least_dollar_markets
        thin = (self.reach * _ONE > rule.thin_bps * self.price) if rule.thin_bps else np.zeros_like(wide)
        return np.asarray(self.priced & ~wide & ~few & ~thin)


class _NotPlainError(Exception):
    """A text that the strict reader has to look at; it may refuse it."""


def agreed_minutes(
    minutes: Sequence[tuple[Slot, Sequence[str]]],
    *,
    registered: Collection[VenueId],
    legs: Collection[VenueId],
    rule: ConsensusRule,
) -> AgreedMinutes:
    """Return the prices of many minutes.

    minutes: each with the stored texts of its observations, in any order. registered, legs, rule: as of
    ``agreed_price``. Raises InvalidInputError for a text that is no observation, as ``read_observation`` does.
    """
    slots = np.fromiter((at for at, _ in minutes), np.int64, len(minutes))
    venues, markets = sorted(registered), sorted(legs)
    numbers, odd = np.zeros((6, len(minutes)), np.int64), np.ones(len(minutes), bool)
    if rule.method is Method.MEDIAN:
        with suppress(_NotPlainError):
            said = _read(minutes, slots, venues, markets)
            numbers, odd = _agree(said, venues, markets, rule), said.odd
    for place in np.flatnonzero(odd):
        at, texts = minutes[int(place)]
        outcome = agreed_price(map(read_observation, texts), registered=registered, legs=legs, rule=rule, slot=at)
        numbers[:, place] = _numbers_of(outcome) if isinstance(outcome, AgreedPrice) else 0
    price, low, high, confidence, dollar_markets, reach = numbers
    return AgreedMinutes(
        slots=slots, price=price, low=low, high=high, confidence=confidence, dollar_markets=dollar_markets, reach=reach
    )


def _numbers_of(agreed: AgreedPrice) -> tuple[int, ...]:
    return (
        agreed.price, agreed.low, agreed.high, agreed.confidence, agreed.dollar_markets or 0, agreed.reach or 0
    )  # fmt: skip


# ---- reading


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the venues said: a row a minute, a column a venue, in the order of the sorted venues."""

    here: Marks
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    leg_here: Marks
    rate: Numbers
    odd: Marks
    """Minutes that the arrays cannot say."""


@dataclass(frozen=True, slots=True)
class _Words:
    """The fields of many texts of one kind, and the minute's row of each."""

    found: list[tuple[Any, ...]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def take(self, fields: tuple[Any, ...], row: int) -> None:
        self.found.append(fields)
        self.rows.append(row)


def _read(
    minutes: Sequence[tuple[Slot, Sequence[str]]], slots: Numbers, venues: Sequence[VenueId], legs: Sequence[VenueId]
) -> _Said:
    quotes, rates = _Words(), _Words()
    odd = np.zeros(len(minutes), bool)
    loads = orjson.loads
    try:
        for row, (_, texts) in enumerate(minutes):
            for text in texts:
                raw = loads(text)
                kind = raw["kind"]
                if kind == "quote":
                    quotes.take(_QUOTE(raw), row)
                elif kind == "leg" and "volume_e8" in raw:
                    rates.take(_LEG(raw), row)
                else:
                    odd[row] |= kind != "missing"
                    read_observation(text)
    except (ValueError, KeyError, TypeError) as e:
        raise _NotPlainError from e
    shape, leg_shape = (len(minutes), len(venues)), (len(minutes), len(legs))
    here, quoted = _columns(quotes, slots, venues, odd, _check_quotes)
    leg_here, said = _columns(rates, slots, legs, odd, _check_legs)
    return _Said(
        here=here.reshape(shape), open=quoted[0].reshape(shape), high=quoted[1].reshape(shape),
        low=quoted[2].reshape(shape), close=quoted[3].reshape(shape), leg_here=leg_here.reshape(leg_shape),
        rate=said[3].reshape(leg_shape), odd=odd,
    )  # fmt: skip


def _columns(
    words: _Words, slots: Numbers, venues: Sequence[VenueId], odd: Marks, check: Callable[..., Marks]
) -> tuple[Marks, list[Numbers]]:
    """Return where somebody spoke, and open, high, low and close there; marks the minutes that are not plain."""
    size = len(slots) * len(venues)
    here, placed = np.zeros(size, bool), [np.full(size, _NONE) for _ in range(4)]
    if not words.found:
        return here, placed
    names, at, seen, evidence, *rest = zip(*words.found, strict=True)
    if any(set(map(type, column)) != {int} for column in (at, seen, *rest)):
        raise _NotPlainError
    if set(map(type, evidence)) != {str} or set(map(len, evidence)) != {_HEX}:
        raise _NotPlainError
    try:
        if len(bytes.fromhex("".join(evidence))) * 2 != _HEX * len(evidence):
            raise _NotPlainError
        opened, times = np.array(at, np.int64), np.array(seen, np.int64)
        numbers = [np.array(column, np.int64) for column in rest]
    except (ValueError, OverflowError) as e:
        raise _NotPlainError from e
    bounded = (opened >= 0) & (opened <= MAX_U32) & (opened % SECONDS_PER_MINUTE == 0)
    if not (bounded & (times >= 0) & (times <= MAX_U32) & check(*numbers)).all():
        raise _NotPlainError
    places = {str(venue): place for place, venue in enumerate(venues)}
    row, column = np.array(words.rows), np.array([places.get(name, -1) for name in names])
    odd[row[(column < 0) | (opened != slots[row])]] = True
    plain = np.flatnonzero(column >= 0)
    cell = row[plain] * len(venues) + column[plain]
    here[cell] = True
    if np.count_nonzero(here) != len(cell):  # a venue spoke twice: the latest word counts, which is not ours to find
        twice, counts = np.unique(cell, return_counts=True)
        odd[twice[counts > 1] // len(venues)] = True
    for target, values in zip(placed, numbers, strict=False):
        target[cell] = values[plain]
    return here, placed


def _check_quotes(first: Numbers, high: Numbers, low: Numbers, close: Numbers, volume: Numbers) -> Marks:
    ordered = (low >= LOWEST_PRICE) & (low <= first) & (first <= high) & (low <= close) & (close <= high)
    return np.asarray(ordered & (high <= HIGHEST_PRICE) & (volume >= 1) & (volume <= MAX_MONEY_SATS))


def _check_legs(first: Numbers, high: Numbers, low: Numbers, close: Numbers, volume: Numbers) -> Marks:
    ordered = (low >= LOWEST_RATE) & (low <= first) & (first <= high) & (low <= close) & (close <= high)
    return np.asarray(ordered & (high <= HIGHEST_RATE) & (volume >= LEAST_LEG_VOLUME) & (volume <= MAX_LEG_VOLUME))


# ---- agreeing


def _agree(said: _Said, venues: Sequence[VenueId], legs: Sequence[VenueId], rule: ConsensusRule) -> Numbers:
    """Return price, low, high, confidence, dollar markets and reach of every minute; zeros where it is void."""
    dollar = np.array([venue.quote == DOLLAR for venue in venues], bool)
    here, close = said.here[:, dollar], said.close[:, dollar]
    median_twice = _median_twice(close, here)
    kept = here & (np.abs(2 * np.where(here, close, 0) - median_twice[:, None]) * _ONE
                   <= rule.outlier_bps * median_twice[:, None])  # fmt: skip
    present = here.sum(axis=1)
    alone = (present >= ALONE)[:, None]
    voting = np.asarray(np.where(alone, here, kept), bool)  # of three or more an outlier keeps its vote
    low, high = said.low[:, dollar], said.high[:, dollar]
    markets = (close, low, high, voting)
    paid = _paid(said.open[:, dollar], (close, low, high, voting & np.asarray(kept.any(axis=1))[:, None]), rule)
    coins, confirming = _coins(said, venues, legs, paid, rule)
    alone = (voting.sum(axis=1) >= ALONE)[:, None]
    value, lows, highs, counts = _join([markets] + [(c, lo, hi, ok & ~alone) for c, lo, hi, ok in coins])
    lowest = np.where(voting, close, _NONE).min(axis=1, initial=_NONE)
    highest = np.where(voting, close, 0).max(axis=1, initial=0)
    price = np.clip(_half_even(_median_twice(value, counts), 2), lowest, np.maximum(highest, lowest))
    reached_low, reached_high = _range(lows, highs, counts)
    reached_low = np.maximum(reached_low, np.where(voting, low, _NONE).min(axis=1, initial=_NONE))
    reached_high = np.minimum(reached_high, np.where(voting, high, 0).max(axis=1, initial=0))
    band = np.abs(np.where(counts, value, 0) - price[:, None])
    confidence = _at(np.sort(np.where(counts, band, _NONE), axis=1), counts.sum(axis=1) // 2)
    agreeing = kept.sum(axis=1) + sum(ok.sum(axis=1) for _, _, _, ok in confirming)
    quorum = rule.quorum(len(venues))
    good = voting.any(axis=1) & (said.here.sum(axis=1) >= quorum) & (agreeing >= quorum)
    columns = (
        price, np.minimum(reached_low, price), np.maximum(reached_high, price), confidence, present,
        _reach(close, voting, price),
    )  # fmt: skip
    return np.where(good, np.stack(columns), 0)


_Opinions = tuple[Numbers, Numbers, Numbers, Marks]
"""Values, lows and highs, and which of them count: a row a minute."""


def _coins(
    said: _Said, venues: Sequence[VenueId], legs: Sequence[VenueId], paid: tuple[Numbers, Numbers], rule: ConsensusRule
) -> tuple[list[_Opinions], list[_Opinions]]:
    """Return one opinion a stablecoin, and its markets one by one, of those within the band of what dollars paid."""
    opinions, markets = [], []
    from_, to = paid
    for coin in sorted({venue.quote for venue in venues} - {DOLLAR}):
        ours = np.array([venue.quote == coin for venue in venues], bool)
        converts = np.array([leg.base == coin and leg.quote == DOLLAR for leg in legs], bool)
        told = said.leg_here[:, converts]
        rate = np.where(told.any(axis=1), _half_even(_median_twice(said.rate[:, converts], told), 2), PAR)[:, None]
        here = said.here[:, ours]
        close, low, high = (
            _half_even(np.where(here, raw[:, ours], 0) * rate, PAR) for raw in (said.close, said.low, said.high)
        )
        inside = np.asarray((low >= LOWEST_PRICE) & (high <= HIGHEST_PRICE))
        near = ((from_[:, None] - close) * _ONE <= rule.par_band_bps * from_[:, None]) & (
            (close - to[:, None]) * _ONE <= rule.par_band_bps * to[:, None]
        )
        kept = here & inside & near & (to[:, None] > 0)
        middle = [_half_even(_median_twice(values, kept), 2)[:, None] for values in (close, low, high)]
        opinions.append((middle[0], middle[1], middle[2], np.asarray(kept.any(axis=1))[:, None]))
        markets.append((close, low, high, kept))
    return opinions, markets


def _paid(first: Numbers, dollars: _Opinions, rule: ConsensusRule) -> tuple[Numbers, Numbers]:
    """Return what dollars paid, from and to: see ``consensus._paid``; zeros where nobody did."""
    close, low, high, counts = dollars
    count = counts.sum(axis=1)
    reached = np.sort(np.stack(_range(low, high, counts)), axis=0)
    lower, upper = np.minimum(first, close), np.maximum(first, close)
    lower, upper = np.where(counts, lower, 0), np.where(counts, upper, 0)
    from_ = np.maximum(np.where(counts, low, 0), lower - lower * rule.par_band_bps // _ONE).sum(axis=1)
    to = np.minimum(np.where(counts, high, 0), upper + upper * rule.par_band_bps // _ONE).sum(axis=1)
    from_, to = np.where(count > 1, reached[0], from_), np.where(count > 1, reached[1], to)
    return np.where(count > 0, from_, 0), np.where(count > 0, to, 0)


def _join(parts: list[_Opinions]) -> _Opinions:
    value, low, high, counts = (np.concatenate(same, axis=1) for same in zip(*parts, strict=True))
    return value, low, high, np.asarray(counts, bool)


def _range(low: Numbers, high: Numbers, counts: Marks) -> tuple[Numbers, Numbers]:
    need = counts.sum(axis=1) // 2
    lows = _at(np.sort(np.where(counts, low, _NONE), axis=1), need)
    highs = -_at(np.sort(np.where(counts, -high, _NONE), axis=1), need)
    return lows, highs


def _reach(close: Numbers, voting: Marks, price: Numbers) -> Numbers:
    count = voting.sum(axis=1)
    ordered, middle = np.sort(np.where(voting, close, _NONE), axis=1), count // 2
    upper = _at(ordered, middle + 1)
    odd, even = upper - _at(ordered, middle - 1), -((_at(ordered, middle - 2) - upper) // 2)
    return np.where(count < ALONE, price, np.where(count % 2 == 1, odd, even))


def _median_twice(values: Numbers, counts: Marks) -> Numbers:
    """Return twice the median of each row's values that count; 0 of none."""
    n = counts.sum(axis=1)
    ordered = np.sort(np.where(counts, values, _NONE), axis=1)
    lower, upper = (np.where(n > 0, _at(ordered, place), 0) for place in ((n - 1) // 2, n // 2))
    return lower + upper


def _at(ordered: Numbers, place: Numbers) -> Numbers:
    """Return of each row the value at its own place; of a place outside the row, the nearest one inside."""
    if not ordered.shape[1]:
        return np.zeros(len(ordered), np.int64)
    inside = np.clip(place, 0, ordered.shape[1] - 1)
    return np.asarray(np.take_along_axis(ordered, inside[:, None], axis=1)[:, 0])


def _half_even(numerator: Numbers, denominator: int) -> Numbers:
    quotient, rest = numerator // denominator, numerator % denominator
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (quotient & 1 == 1))
    return np.asarray(quotient + up)
