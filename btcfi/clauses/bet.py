"""The bet on a level: outcomes in order, settled by asking down a binary tree, or at once by a way for each.

``GenericBet`` is Rubin's: at each node the middle outcome's level is asked; "at least" leads to the upper half, "less"
to the lower, a single outcome is paid. Added to the published code: the no-show that it leaves out, by which a silent
oracle at any depth ends in a split that both agreed on; and outcomes that do not pay the whole amount are refused.
``FlatBet`` is the same curve with one way an outcome. Source: Rubin (2021), ``GenericBet``, ``GenericBetArguments``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from btcfi.bitcoin.transaction import TxOut
from btcfi.clauses.clause import LOCKTIME_THRESHOLD, MAX_RELATIVE, After, And, Clause, Older
from btcfi.clauses.contract import Way, total
from btcfi.clauses.oracle import Oracle
from btcfi.contracts.option import split
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats

Answers = Mapping[int, tuple[Clause, Clause]]
"""By level: (less than, at least)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is paid from a level on, up to the next one's."""

    level: int
    """In the oracle's unit; below the lowest level the lowest outcome is paid."""
    pays: tuple[TxOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoShow:
    """What happens when the oracle stays silent: a split, not before a height, and later at every depth.

    The first transaction of a tree waits for the height alone. One that an answer led to waits for ``delay`` blocks
    on top of its own confirmation: whoever was answered always has that long to take the next step.
    """

    pays: tuple[TxOut, ...]
    after: Height
    delay: int
    """Blocks, 1 to 65,535."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a height or a delay that is none."""
        if not 1 <= self.after < LOCKTIME_THRESHOLD:
            raise InvalidInputError("no-show height", str(self.after), f"1 to {LOCKTIME_THRESHOLD - 1}")
        if not 1 <= self.delay <= MAX_RELATIVE:
            raise InvalidInputError("no-show delay", f"{self.delay} blocks", f"1 to {MAX_RELATIVE} blocks")

    def guard(self, *, inner: bool) -> Clause:
        """Return the condition; ``inner``: an answer led here."""
        return And((After(self.after), Older(self.delay))) if inner else After(self.after)


def divided(amount: Sats, share: Sats, *, script: bytes, rest_script: bytes) -> tuple[TxOut, ...]:
    """Return outputs of a share of the amount, and of the rest; dust as in every contract (``option.split``).

    Raises as ``option.split`` does: a share that is not 0 to the amount, an amount below dust.
    """
    one, other = split(amount, share, Sats(0), nearest=True)
    outputs = ((one, script), (other, rest_script))
    return tuple(TxOut(value=value, script=to) for value, to in outputs if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericBet:
    """A bet, settled level by level."""

    amount: Sats
    outcomes: tuple[Outcome, ...]
    """Ascending by level."""
    answers: Answers
    no_show: NoShow
    inner: bool = False
    """Whether an answer led here."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless levels ascend, no answer has another's clause and outcomes pay all."""
        _check(self)

    @property
    def middle(self) -> int:
        """Which outcome's level is asked."""
        return len(self.outcomes) // 2

    def ways(self) -> tuple[Way, ...]:
        """Return what an answer leads to, and the no-show. Of a single outcome nothing is below: only "at least"."""
        below, at_least = self.answers[self.outcomes[self.middle].level]
        lower, upper = self.outcomes[: self.middle], self.outcomes[self.middle :]
        ways = [self._way("pay_gte", at_least, upper)]
        ways += [self._way("pay_lt", below, lower)] if lower else []
        guard = self.no_show.guard(inner=self.inner)
        return (*ways, Way(name="oracle_no_show", guard=guard, pays=self.no_show.pays))

    def path_of(self, price: int) -> tuple[str, ...]:
        """Return the names of the ways that a price leads along. Raises InvalidInputError where one leads nowhere."""
        names: list[str] = []
        part = self.outcomes
        while len(part) > 1 or not names:
            middle = len(part) // 2
            upper = price >= part[middle].level
            names.append("pay_gte" if upper else "pay_lt")
            part = part[middle:] if upper else part[:middle]
            if not part:
                raise InvalidInputError("price", str(price), "a price that a way is for; the no-show is left")
        return tuple(names)

    def _way(self, name: str, guard: Clause, part: tuple[Outcome, ...]) -> Way:
        if len(part) == 1:
            return Way(name=name, guard=guard, pays=part[0].pays)
        return Way(name=name, guard=guard, into=replace(self, outcomes=part, inner=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatBet:
    """The same bet in one transaction: a way an outcome, which needs both the answers around it."""

    amount: Sats
    outcomes: tuple[Outcome, ...]
    answers: Answers
    no_show: NoShow

    def __post_init__(self) -> None:
        """Raise InvalidInputError as ``GenericBet``, and for a single outcome, which needs no answer at all."""
        _check(self)
        if len(self.outcomes) == 1:
            raise InvalidInputError("outcomes", "one", "at least two")

    def ways(self) -> tuple[Way, ...]:
        """Return a way for each outcome, and the no-show."""
        last = len(self.outcomes) - 1
        ways = []
        for place, outcome in enumerate(self.outcomes):
            around = [self.answers[outcome.level][1]] if place else []
            around += [self.answers[self.outcomes[place + 1].level][0]] if place < last else []
            ways.append(Way(name=_flat_name(outcome.level), guard=And(tuple(around)), pays=outcome.pays))
        return (*ways, Way(name="oracle_no_show", guard=self.no_show.guard(inner=False), pays=self.no_show.pays))

    def path_of(self, price: int) -> tuple[str, ...]:
        """Return the one name of the way that a price leads along."""
        return (_flat_name(outcome_at(self.outcomes, price).level),)


def outcome_at(outcomes: Sequence[Outcome], price: int) -> Outcome:
    """Return the outcome of a price: the highest level at or below it, or the lowest."""
    return max((one for one in outcomes if one.level <= price), key=lambda one: one.level, default=outcomes[0])


def bet(
    *, amount: Sats, outcomes: Iterable[Outcome], oracle: Oracle, symbol: str, no_show: NoShow
) -> GenericBet:  # fmt: skip
    """Return the bet of outcomes in any order, having asked the oracle for each of their levels once.

    Raises InvalidInputError: none, a level twice, an outcome or no-show that does not pay the whole amount; and what
    the oracle raises.
    """
    ordered = tuple(sorted(outcomes, key=lambda one: one.level))
    answers = {one.level: oracle.lt_gte(symbol, one.level) for one in ordered}
    return GenericBet(amount=amount, outcomes=ordered, answers=answers, no_show=no_show)


def flat(one: GenericBet) -> FlatBet:
    """Return a bet's curve as one transaction. Raises InvalidInputError for a single outcome."""
    return FlatBet(amount=one.amount, outcomes=one.outcomes, answers=one.answers, no_show=one.no_show)


def _flat_name(level: int) -> str:
    return f"pay_{level}"


def _check(one: GenericBet | FlatBet) -> None:
    if not one.outcomes:
        raise InvalidInputError("outcomes", "none", "at least one")
    for before, after in pairwise(one.outcomes):
        if before.level >= after.level:
            raise InvalidInputError("outcomes", f"{after.level} after {before.level}", "levels that ascend")
    for outcome in one.outcomes:
        if outcome.level not in one.answers:
            raise InvalidInputError("answers", f"none at {outcome.level}", "a pair of clauses for each level")
        _check_pays(f"outcome at {outcome.level}", outcome.pays, one.amount)
    said = [clause for outcome in one.outcomes for clause in one.answers[outcome.level]]
    if len(set(said)) != len(said):  # what is shown for one price would open the way of another
        raise InvalidInputError("answers", "one clause for two answers", "a clause of its own for each answer")
    _check_pays("no-show", one.no_show.pays, one.amount)


def _check_pays(what: str, pays: Sequence[TxOut], amount: Sats) -> None:
    if total(pays) != amount:
        raise InvalidInputError(what, f"pays {total(pays)} sats", f"{amount} sats, the whole amount")
