"""One contract of any payoff: what each side puts in, and the buckets by which it is paid.

Both sides lock their worst case and nothing more, so what the holder is paid is what it put in and what it gains. The
ranges of prices are those of decision 0054 (``btcfi.contracts.buckets``): a payout is half of the least and the most of
its range, and a range that gains neither mixes with one that does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from btcfi.contracts.buckets import Bucket, ToleranceRule, most_off, payout_at, payout_buckets
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, OracleEvent
from btcfi.oracle.quote import BTC_USD
from btcfi.payoffs.curve import Curve, Payoff
from btcfi.payoffs.turning import MOST_TURNS, TooManyTurnsError, check_turns, every_net, found_turns
from btcfi.payoffs.wave import Wave
from btcfi.units import MAX_MONEY_SATS, CentsPerBtc, Hash32, Sats, Slot

ANY_EVENT: Final = OracleEvent(
    feed=str(BTC_USD), expiry=Slot(0), program_hash=Hash32(bytes(32)), preset_hash=Hash32(bytes(32))
)
"""The prices that an oracle of ours can state, for who asks before there is an event; nothing is signed of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Netted:
    """A payoff at the prices of one event: where it turns, and the worst that can happen to each side."""

    payoff: Payoff
    event: OracleEvent
    turns: tuple[CentsPerBtc, ...]
    """Between neighbours the payoff runs in one direction."""
    holder: Sats
    """What the holder puts in: the most that it can lose."""
    writer: Sats
    """What the other side puts in: the most that the holder can gain."""

    @property
    def collateral(self) -> Sats:
        """What the contract locks."""
        return Sats(self.holder + self.writer)

    def payouts(self, prices: Sequence[CentsPerBtc]) -> list[Sats]:
        """Return what the holder is paid out of the collateral at each price; the rest is the other side's."""
        return [Sats(self.holder + net) for net in self.payoff.net(prices)]

    def buckets(self, rule: ToleranceRule, *, premium: Sats, limit: int = 50_000) -> tuple[Bucket, ...]:
        """Return what every range of prices pays the holder.

        premium: what a tolerance is of where the payoff gains and loses little: of a position whose premiums cancel,
        the sum of their sizes. Nobody pays it, so it is worth no more than the collateral here: whoever names more
        would have ranges that pay half of everything. Raises SingleOutcomeError, TooManyBucketsError.
        """
        return payout_buckets(
            self.event, self.payouts, rule=rule, premium=self._of(premium), collateral=self.collateral,
            breakpoints=self.turns, own=self.holder, limit=limit,
        )  # fmt: skip

    def payout_at(self, outcome: int, rule: ToleranceRule, *, premium: Sats) -> Sats:
        """Return what the range of one outcome pays the holder, without all the others. Raises InvalidInputError."""
        return payout_at(
            self.event, self.payouts, outcome, rule=rule, premium=self._of(premium), collateral=self.collateral,
            breakpoints=self.turns, own=self.holder,
        )  # fmt: skip

    def most_off(self, rule: ToleranceRule, buckets: Iterable[Bucket], *, premium: Sats) -> tuple[Sats, Sats]:
        """Return by how much a range pays the holder at most too little, and too much, dust apart."""
        return most_off(rule, buckets, premium=self._of(premium), collateral=self.collateral, own=self.holder)

    def _of(self, premium: Sats) -> Sats:
        """Return what a tolerance is of."""
        return Sats(min(premium, self.collateral))


def netted(payoff: Payoff, event: OracleEvent) -> Netted:
    """Return a payoff at the prices of an event, its turning points found or, where somebody claims them, checked.

    A curve and a wave turn where they are written to. Anything else is run at every price, once. The worst cases are
    those at the ends and the turning points, which are all that a payoff has between which it runs in one direction.
    Raises NotMonotoneError, TooManyTurnsError, InvalidInputError for an event with a condition or more than all
    bitcoin, and what running a guest raises.
    """
    if event.condition:
        # a knock-out is a second payoff, which only its terms name
        raise InvalidInputError("event.condition", repr(event.condition), "an event without a condition")
    turns = _turns(payoff, event)
    around = {price // CENTS_PER_DOLLAR + extra for price in turns for extra in (-1, 0, 1)} | {0, event.max_price}
    outcomes = sorted(at for at in around if 0 <= at <= event.max_price)
    nets = payoff.net([event.price_of(outcome) for outcome in outcomes])
    holder, writer = max(0, -min(nets)), max(0, *nets)
    if holder + writer > MAX_MONEY_SATS:
        raise InvalidInputError("quantity", f"{holder + writer} sats of collateral", f"at most {MAX_MONEY_SATS}")
    return Netted(payoff=payoff, event=event, turns=turns, holder=Sats(holder), writer=Sats(writer))


def _turns(payoff: Payoff, event: OracleEvent) -> tuple[CentsPerBtc, ...]:
    """Return where a payoff turns, ascending; of one that nobody wrote down, by a run at every price."""
    said = payoff.turning_points(event)
    if type(payoff) not in {Curve, Wave}:  # a class of somebody's own below one of these says what it likes
        every = every_net(payoff.net, event)
        if said is None:
            said = found_turns(every, event)
        else:
            check_turns(every, event, said)
    turns = tuple(sorted(set(said or ())))
    if len(turns) > MOST_TURNS:
        raise TooManyTurnsError(count=len(turns), limit=MOST_TURNS, price=turns[0])
    return turns
