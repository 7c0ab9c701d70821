"""What a payoff means for both sides: the worst of each, what each puts in, where it turns from loss to gain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from btcfi.errors import InvalidInputError
from btcfi.payoffs.curve import NetSats
from btcfi.payoffs.netted import Netted
from btcfi.units import MAX_MONEY_SATS, CentsPerBtc, Sats

MOST_SHOWN: Final = 1_000
"""Prices that one report is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """What each side has at one price."""

    price: CentsPerBtc
    net: NetSats
    """What the holder gains by the payoff; its premium is not in it."""
    profit: int
    """The same in satoshis, its premium paid."""
    holder: Sats
    """What the contract pays the holder."""
    writer: Sats
    """What the contract pays the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Neighbouring prices at which the holder ends alike: with a profit, a loss, or neither."""

    first: CentsPerBtc
    last: CentsPerBtc
    sign: int
    """1: a profit, -1: a loss, 0: neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Both sides of one payoff at one premium, at the prices of its event."""

    premium: int
    """Satoshis that the holder pays at the start; below zero: is paid."""
    holder_collateral: Sats
    writer_collateral: Sats
    most: At
    """Where the holder gains most: the worst case of the other side."""
    least: At
    """Where the holder gains least: its worst case."""
    stretches: tuple[Stretch, ...]
    """In ascending order, together every price of the event; neighbours differ in their sign."""
    at: tuple[At, ...]

    @property
    def break_evens(self) -> tuple[CentsPerBtc, ...]:
        """The first price of every stretch but the lowest: there a profit begins or ends.

        A single price with neither profit nor loss is one break-even, and what follows it is none of its own.
        """
        return tuple(
            one.first for before, one in pairwise(self.stretches) if before.sign != 0 or before.first != before.last
        )


def report(one: Netted, *, premium: int, prices: Iterable[CentsPerBtc] = ()) -> Report:
    """Return what both sides gain and risk, and what each has at some prices in cents.

    The event attests whole dollars: stretches begin and end at them. Raises InvalidInputError for a premium of more
    than all bitcoin, too many prices, or one that the event cannot state.
    """
    if abs(premium) > MAX_MONEY_SATS:
        raise InvalidInputError("premium", f"{premium} sats", f"at most {MAX_MONEY_SATS}, negative if received")
    asked = tuple(prices)
    if len(asked) > MOST_SHOWN:
        raise InvalidInputError("prices", f"{len(asked)} of them", f"at most {MOST_SHOWN}")
    highest = one.event.price_of(one.event.max_price)
    for price in asked:
        if not 1 <= price <= highest:
            raise InvalidInputError("at_price", f"{price} cents", f"1 to {highest} cents, what the oracle can state")
    outcomes = _turning_outcomes(one)
    known = dict(zip(outcomes, _profits(one, outcomes, premium), strict=True))
    # of a flat extreme the price in the midst of the strikes says most: a floor, not the cent far below it
    midst = outcomes[len(outcomes) // 2]
    nearest = sorted(outcomes, key=lambda outcome: abs(outcome - midst))
    most, least = max(nearest, key=known.__getitem__), min(nearest, key=known.__getitem__)
    return Report(
        premium=premium, holder_collateral=one.holder, writer_collateral=one.writer,
        most=_at(one, one.event.price_of(most), premium), least=_at(one, one.event.price_of(least), premium),
        stretches=_stretches(one, outcomes, known, premium), at=tuple(_at(one, price, premium) for price in asked),
    )  # fmt: skip


def _at(one: Netted, price: CentsPerBtc, premium: int) -> At:
    net = one.payoff.net([price])[0]
    held = min(max(one.holder + net, 0), one.collateral)
    return At(price=price, net=net, profit=net - premium, holder=Sats(held), writer=Sats(one.collateral - held))


def _turning_outcomes(one: Netted) -> list[int]:
    around = {price // 100 + extra for price in one.turns for extra in (-1, 0, 1)} | {0, one.event.max_price}
    return sorted(at for at in around if 0 <= at <= one.event.max_price)


def _profits(one: Netted, outcomes: Sequence[int], premium: int) -> list[int]:
    return [net - premium for net in one.payoff.net([one.event.price_of(at) for at in outcomes])]


def _sign(profit: int) -> int:
    return (profit > 0) - (profit < 0)


def _stretches(one: Netted, outcomes: Sequence[int], known: dict[int, int], premium: int) -> tuple[Stretch, ...]:
    """Return the stretches: between two turning points the payoff runs one way, so its sign changes twice at most."""
    borders = [(outcomes[0], _sign(known[outcomes[0]]))]
    for low, high in pairwise(outcomes):
        at = low
        while _sign(known[high]) != borders[-1][1]:
            at = _first_other(one, at, high, borders[-1][1], premium)
            borders.append((at, _sign(_profits(one, [at], premium)[0])))
    ends = [at - 1 for at, _ in borders[1:]] + [one.event.max_price]
    return tuple(
        Stretch(first=one.event.price_of(at), last=one.event.price_of(end), sign=sign)
        for (at, sign), end in zip(borders, ends, strict=True)
    )


def _first_other(one: Netted, low: int, high: int, sign: int, premium: int) -> int:
    """Return the first outcome above ``low`` whose profit has another sign than ``low``'s; ``high``'s has."""
    while high - low > 1:
        middle = (low + high) // 2
        if _sign(_profits(one, [middle], premium)[0]) == sign:
            low = middle
        else:
            high = middle
    return high
