"""Payout buckets: which prices share one payout, as few digit prefixes as the rule of the contract needs.

The guest is run at both ends of every candidate range and at the turning points inside, never in between: from one
turning point to the next its payout must be monotone in the price, so these few runs know the least and the most that
the range pays. Tests hold this against a run of every price.

The rule is a term under both signatures. ``ToleranceRule`` (version 3): a range pays half of its least and its most,
and is small enough that this is close. ``StepRule`` (versions 1 and 2): whole steps of satoshis.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import Final, overload

from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, OracleEvent
from btcfi.units import BasisPoints, CentsPerBtc, Sats

Payouts = Callable[[Sequence[CentsPerBtc]], Sequence[Sats]]
"""The guest, run at many settlement prices at once: the buyer's payout at each."""


_BASIS: Final = 10_000

NOTHING: Final = Sats(0)
"""What a knocked-out option pays unless its terms say otherwise."""


class Rounding(Enum):
    """Whom the rounding to a step favours."""

    DOWN = "down"
    """Payouts round down: the seller keeps the rest, less than one step."""
    UP = "up"
    """Payouts round up, at most to the collateral: the buyer gains less than one step."""


MAX_TOLERANCE: Final = 10_000
"""Basis points: more than the whole of what is paid would be no tolerance."""

STANDARD_TOLERANCE: Final = BasisPoints(200)
"""2 %, of which a payout is off by half at most: with it a premium loses less than 0.05 % on average, and one contract
1 % of it as a root mean square (docs/decisions/0054)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule:
    """Payouts are whole steps, except the whole collateral: the rule of contracts of versions 1 and 2."""

    step: Sats
    rounding: Rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class ToleranceRule:
    """A range of prices pays half of the least and the most that the guest computes in it, rounded down to a satoshi.

    A range is a digit prefix. It is split while its most and least differ by more than a satoshi and by more than the
    tolerance of the premium, or of its least where that is larger. One that holds both a price that pays nothing and
    one that pays something is always split, and so is one that holds both a price that pays the whole collateral and
    one that pays less: who is out of the money gets nothing, and who is owed all of it gets all of it.
    """

    tolerance: BasisPoints
    """Of the premium or the payout, whichever is more; a payout is off by at most half of it."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a tolerance of nothing, or of more than the whole."""
        if not 1 <= self.tolerance <= MAX_TOLERANCE:
            raise InvalidInputError("tolerance_bps", f"{self.tolerance}", f"1 to {MAX_TOLERANCE} basis points")

    def paid(self, least: Sats, most: Sats, *, premium: Sats, collateral: Sats, own: Sats) -> Sats | None:
        """Return what a range pays that computes from ``least`` to ``most``; None where it is split.

        A part of a range that is not split is not, either. own: as for ``payout_buckets``.
        """
        if least == most:
            return least
        if least == 0 or most == collateral or least <= own <= most:
            return None
        gained = least - own if least > own else own - most
        close = most - least <= 1 or (most - least) * _BASIS <= self.tolerance * max(premium, gained)
        return Sats((least + most) // 2) if close else None


PayoutRule = StepRule | ToleranceRule
"""How what the guest computes becomes what a contract pays."""


class SingleOutcomeError(InvalidInputError):
    """Every price pays the same: no oracle is needed for that, and a contract would only hide it."""

    def __init__(self, payout: Sats) -> None:
        super().__init__("payouts", f"{payout} sats at every price", "a payout that depends on the price")
        self.payout = payout


class TooManyBucketsError(BtcfiError):
    """More buckets than the preset allows: setting the contract up would take too long."""

    def __init__(self, *, count: int, limit: int) -> None:
        super().__init__(f"more than {limit} payout buckets ({count} so far); choose a larger tolerance")
        self.count, self.limit = count, limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """All outcomes that begin with the same digits, and what they pay."""

    prefix: int
    length: int
    """Digits of the prefix, at least 1."""
    payout: Sats
    """The buyer's payout by the contract's rule."""


class PackedBuckets(Sequence[Bucket]):
    """Buckets in their stored form, 13 bytes each, read one at a time: settling looks at a dozen of a thousand."""

    _ROW: Final = Struct("<IBq")

    def __init__(self, raw: bytes) -> None:
        """Take the bytes of ``pack``. Raises InvalidInputError for another length."""
        if len(raw) % self._ROW.size:
            raise InvalidInputError("buckets", f"{len(raw)} bytes", f"a multiple of {self._ROW.size}")
        self._raw = raw

    @classmethod
    def pack(cls, buckets: Iterable[Bucket]) -> bytes:
        """Return the bytes of buckets."""
        return b"".join(cls._ROW.pack(one.prefix, one.length, one.payout) for one in buckets)

    def __len__(self) -> int:
        return len(self._raw) // self._ROW.size

    @overload
    def __getitem__(self, at: int) -> Bucket: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Bucket]: ...
    def __getitem__(self, at: int | slice) -> Bucket | Sequence[Bucket]:
        """Return a bucket, or a list of some."""
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        place = range(len(self))[at] * self._ROW.size
        prefix, length, payout = self._ROW.unpack_from(self._raw, place)
        return Bucket(prefix=prefix, length=length, payout=Sats(payout))


def round_payout(payout: Sats, *, step: Sats, rounding: Rounding, collateral: Sats) -> Sats:
    """Return the payout as a whole number of steps; the collateral itself is always allowed."""
    _checked(payout, collateral)
    if payout == collateral or rounding is Rounding.DOWN:
        return payout if payout == collateral else Sats(payout - payout % step)
    return Sats(min(-(-payout // step) * step, collateral))


def payout_buckets(
    event: OracleEvent,
    payouts: Payouts,
    *,
    rule: PayoutRule,
    premium: Sats,
    collateral: Sats,
    breakpoints: Iterable[CentsPerBtc] = (),
    condition_payout: Sats = NOTHING,
    own: Sats = NOTHING,
    limit: int = 50_000,
) -> tuple[Bucket, ...]:
    """Return the buckets of an event, in the order of their outcomes; together they cover every outcome once.

    payouts: monotone in the price between ``breakpoints`` (strike, barrier; cents). premium: what a tolerance is of.
    condition_payout: paid at every price when the event's condition came true. own: what the buyer itself put in, of
    contracts where both sides do: a tolerance is of what is gained or lost beyond it, and a range that gains nothing
    never mixes with one that does. Pure, in whole numbers: equal arguments give equal buckets on both sides.
    Raises SingleOutcomeError, TooManyBucketsError, InvalidInputError.
    """
    runs = _Runs(event, payouts, rule=rule, premium=premium, collateral=collateral, breakpoints=breakpoints, own=own)
    leaves: dict[tuple[int, int], Sats] = {}
    waiting = [(0, 1), (1, 1)]  # (prefix, length): never the empty prefix, which would need no digit at all
    while waiting:
        spans = [_span(prefix, length, event.digits) for prefix, length in waiting]
        runs.learn(spans)
        split: list[tuple[int, int]] = []
        for (prefix, length), (low, high) in zip(waiting, spans, strict=True):
            if (paid := runs.paid(low, high)) is not None:
                leaves[prefix, length] = paid
            else:
                split += [(2 * prefix, length + 1), (2 * prefix + 1, length + 1)]
        waiting = split
        if len(leaves) + len(waiting) > limit:
            raise TooManyBucketsError(count=len(leaves) + len(waiting), limit=limit)
    if isinstance(rule, StepRule):
        _merge(leaves, event.digits)
    if event.condition:
        # the condition's digit stands first: 0 before every price, 1 alone
        leaves = {(prefix, length + 1): payout for (prefix, length), payout in leaves.items()}
        leaves[1, 1] = runs.alone(condition_payout)
    if len(set(leaves.values())) == 1:
        raise SingleOutcomeError(next(iter(leaves.values())))
    total = event.signed_digits
    buckets = [Bucket(prefix=prefix, length=length, payout=payout) for (prefix, length), payout in leaves.items()]
    return tuple(sorted(buckets, key=lambda bucket: _span(bucket.prefix, bucket.length, total)[0]))


def payout_at(
    event: OracleEvent,
    payouts: Payouts,
    outcome: int,
    *,
    rule: PayoutRule,
    premium: Sats,
    collateral: Sats,
    breakpoints: Iterable[CentsPerBtc] = (),
    condition_payout: Sats = NOTHING,
    own: Sats = NOTHING,
) -> Sats:
    """Return what the bucket of one outcome pays: as ``payout_buckets`` has it, by some forty runs of the guest.

    The ranges that hold the outcome are one a digit; the largest that the rule does not split is its bucket. Arguments
    and errors as there, but for a single outcome and a limit. Raises InvalidInputError for an outcome of more digits.
    """
    if not 0 <= outcome < 1 << event.signed_digits:
        raise InvalidInputError("outcome", str(outcome), f"0 to {(1 << event.signed_digits) - 1}")
    runs = _Runs(event, payouts, rule=rule, premium=premium, collateral=collateral, breakpoints=breakpoints, own=own)
    if outcome >> event.digits:
        return runs.alone(condition_payout)
    spans = [_span(outcome >> (event.digits - n), n, event.digits) for n in range(1, event.digits + 1)]
    runs.learn(spans)
    return next(paid for paid in (runs.paid(low, high) for low, high in spans) if paid is not None)


def check_outcomes(event: OracleEvent, payouts: Payouts, breakpoints: Iterable[CentsPerBtc]) -> None:
    """Check that the price decides anything, by a dozen runs of the guest. Raises SingleOutcomeError."""
    levels = {p // CENTS_PER_DOLLAR + extra for p in breakpoints for extra in (-1, 0, 1)} | {0, event.max_price}
    wanted = sorted(level for level in levels if 0 <= level <= event.max_price)
    found = set(payouts([event.price_of(outcome) for outcome in wanted]))
    if len(found) == 1:
        raise SingleOutcomeError(found.pop())


class _Runs:
    """What the guest has said so far, and what the rule makes of a range of outcomes."""

    def __init__(
        self, event: OracleEvent, payouts: Payouts, *, rule: PayoutRule, premium: Sats, collateral: Sats,
        breakpoints: Iterable[CentsPerBtc], own: Sats = NOTHING,
    ) -> None:  # fmt: skip
        if isinstance(rule, StepRule) and rule.step < 1:
            raise InvalidInputError("step", f"{rule.step} sats", "at least 1 sat")
        if not 0 <= own <= collateral:
            raise InvalidInputError("own", f"{own} sats", f"0 to the collateral, {collateral} sats")
        self._event, self._payouts, self._rule = event, payouts, rule
        self._premium, self._collateral, self._own = premium, collateral, own
        # the payoff turns or jumps at the whole dollar of a breakpoint, or at the one after it
        steps = isinstance(rule, StepRule)
        around = {p // CENTS_PER_DOLLAR + extra for p in breakpoints for extra in ((0, 1) if steps else (-1, 0, 1))}
        self._turns = sorted(turn for turn in around if steps or 0 <= turn <= event.max_price)
        self._known: dict[int, Sats] = {}

    def learn(self, spans: Sequence[tuple[int, int]]) -> None:
        """Run the guest at the ends of these ranges, and for a tolerance at every turning point, too; once each."""
        wanted = {end for span in spans for end in span}
        if isinstance(self._rule, ToleranceRule):
            wanted |= set(self._turns)
        missing = sorted(wanted - self._known.keys())
        results = self._payouts([self._event.price_of(outcome) for outcome in missing])
        for outcome, payout in zip(missing, results, strict=True):
            self._known[outcome] = _checked(payout, self._collateral)

    def alone(self, payout: Sats) -> Sats:
        """Return what is paid where the guest's payout is one number."""
        payout, rule = _checked(payout, self._collateral), self._rule
        if isinstance(rule, ToleranceRule):
            return payout
        return round_payout(payout, step=rule.step, rounding=rule.rounding, collateral=self._collateral)

    def paid(self, low: int, high: int) -> Sats | None:
        """Return what the outcomes ``low`` to ``high`` are paid, or None where the rule splits them."""
        first, last = self._known[low], self._known[high]
        if isinstance(self._rule, ToleranceRule):
            inside = self._turns[bisect_left(self._turns, low) : bisect_right(self._turns, high)]
            every = (first, last, *(self._known[turn] for turn in inside))
            return self._rule.paid(
                min(every), max(every), premium=self._premium, collateral=self._collateral, own=self._own
            )
        ends = self.alone(first), self.alone(last)
        return ends[0] if ends[0] == ends[1] and not any(low < turn <= high for turn in self._turns) else None


def most_off(
    rule: PayoutRule, buckets: Iterable[Bucket], *, premium: Sats, collateral: Sats, own: Sats = NOTHING
) -> tuple[Sats, Sats]:
    """Return by how many satoshis a payout is at most below what the guest computes, and at most above it.

    Over all buckets of a contract; dust apart. What pays nothing or the whole collateral is exact under a tolerance.
    own: as for ``payout_buckets``.
    """
    if isinstance(rule, StepRule):
        rest = Sats(rule.step - 1)
        return (rest, NOTHING) if rule.rounding is Rounding.DOWN else (NOTHING, rest)
    largest = max((abs(one.payout - own) for one in buckets if 0 < one.payout < collateral), default=NOTHING)
    # what a range gains at least is at most what it pays beyond what was put in
    width = max(1, rule.tolerance * max(premium, largest) // _BASIS)
    return Sats(width - width // 2), Sats(width // 2)


def _checked(payout: Sats, collateral: Sats) -> Sats:
    if not 0 <= payout <= collateral:
        raise InvalidInputError("payout", f"{payout} sats", f"0 to the collateral, {collateral} sats")
    return payout


def _span(prefix: int, length: int, digits: int) -> tuple[int, int]:
    low = prefix << (digits - length)
    return low, low + (1 << (digits - length)) - 1


def _merge(leaves: dict[tuple[int, int], Sats], digits: int) -> None:
    # a breakpoint splits down to single outcomes; halves that pay the same become one again
    for length in range(digits, 1, -1):
        for prefix, level in [key for key in leaves if key[1] == length and not key[0] & 1]:
            sibling = (prefix | 1, level)
            if leaves.get(sibling) == leaves[prefix, level]:
                leaves[prefix >> 1, level - 1] = leaves.pop(sibling)
                del leaves[prefix, level]


def bucket_of(buckets: Sequence[Bucket], outcome: int, digits: int) -> int:
    """Return the index of the bucket that holds an outcome of ``digits`` digits. Raises InvalidInputError."""
    low, high = 0, len(buckets)
    while high - low > 1:
        middle = (low + high) // 2
        if _span(buckets[middle].prefix, buckets[middle].length, digits)[0] <= outcome:
            low = middle
        else:
            high = middle
    if low < len(buckets):
        first, last = _span(buckets[low].prefix, buckets[low].length, digits)
        if first <= outcome <= last:
            return low
    raise InvalidInputError("outcome", str(outcome), "an outcome that a bucket covers")
