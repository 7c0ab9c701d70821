"""Payout buckets: which prices pay the same, as few digit prefixes as possible, each with the guest's own payout.

The guest is run at both ends of every bucket, never in between: between two breakpoints its payout must be monotone
in the price, so equal rounded payouts at the ends mean equal ones inside. Tests hold this against a run of every price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import Final, overload

from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.announcement import CENTS_PER_DOLLAR, OracleEvent
from btcfi.units import CentsPerBtc, Sats

Payouts = Callable[[Sequence[CentsPerBtc]], Sequence[Sats]]
"""The guest, run at many settlement prices at once: the buyer's payout at each."""


NOTHING: Final = Sats(0)
"""What a knocked-out option pays unless its terms say otherwise."""


class Rounding(Enum):
    """Whom the rounding to a step favours."""

    DOWN = "down"
    """Payouts round down: the seller keeps the rest, less than one step."""
    UP = "up"
    """Payouts round up, at most to the collateral: the buyer gains less than one step."""


class SingleOutcomeError(InvalidInputError):
    """Every price pays the same: no oracle is needed for that, and a contract would only hide it."""

    def __init__(self, payout: Sats) -> None:
        super().__init__("payouts", f"{payout} sats at every price", "a payout that depends on the price")
        self.payout = payout


class TooManyBucketsError(BtcfiError):
    """More buckets than the preset allows: setting the contract up would take too long."""

    def __init__(self, *, count: int, limit: int) -> None:
        super().__init__(f"more than {limit} payout buckets ({count} so far); choose a larger sat step")
        self.count, self.limit = count, limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """All outcomes that begin with the same digits, and what they pay."""

    prefix: int
    length: int
    """Digits of the prefix, at least 1."""
    payout: Sats
    """The buyer's payout, rounded to the step."""


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
    if not 0 <= payout <= collateral:
        raise InvalidInputError("payout", f"{payout} sats", f"0 to the collateral, {collateral} sats")
    if payout == collateral or rounding is Rounding.DOWN:
        return payout if payout == collateral else Sats(payout - payout % step)
    return Sats(min(-(-payout // step) * step, collateral))


def payout_buckets(
    event: OracleEvent,
    payouts: Payouts,
    *,
    collateral: Sats,
    step: Sats,
    rounding: Rounding,
    breakpoints: Iterable[CentsPerBtc] = (),
    condition_payout: Sats = NOTHING,
    limit: int = 50_000,
) -> tuple[Bucket, ...]:
    """Return the buckets of an event, in the order of their outcomes; together they cover every outcome once.

    payouts: monotone in the price between ``breakpoints`` (strike, barrier, cap; cents). condition_payout: paid at
    every price when the event's condition came true. Raises SingleOutcomeError, TooManyBucketsError, InvalidInputError.
    """
    if step < 1:
        raise InvalidInputError("step", f"{step} sats", "at least 1 sat")
    turns = sorted({p // CENTS_PER_DOLLAR + extra for p in breakpoints for extra in (0, 1)})
    known: dict[int, Sats] = {}

    def learn(outcomes: list[int]) -> None:
        missing = sorted(set(outcomes) - known.keys())
        results = payouts([event.price_of(outcome) for outcome in missing])
        for outcome, payout in zip(missing, results, strict=True):
            known[outcome] = round_payout(payout, step=step, rounding=rounding, collateral=collateral)

    leaves: dict[tuple[int, int], Sats] = {}
    waiting = [(0, 1), (1, 1)]  # (prefix, length): never the empty prefix, which would need no digit at all
    while waiting:
        spans = [_span(prefix, length, event.digits) for prefix, length in waiting]
        learn([end for span in spans for end in span])
        split: list[tuple[int, int]] = []
        for (prefix, length), (low, high) in zip(waiting, spans, strict=True):
            if known[low] == known[high] and not any(low < turn <= high for turn in turns):
                leaves[prefix, length] = known[low]
            else:
                split += [(2 * prefix, length + 1), (2 * prefix + 1, length + 1)]
        waiting = split
        if len(leaves) + len(waiting) > limit:
            raise TooManyBucketsError(count=len(leaves) + len(waiting), limit=limit)
    _merge(leaves, event.digits)
    if event.condition:
        # the condition's digit stands first: 0 before every price, 1 alone
        leaves = {(prefix, length + 1): payout for (prefix, length), payout in leaves.items()}
        leaves[1, 1] = round_payout(condition_payout, step=step, rounding=rounding, collateral=collateral)
    if len(set(leaves.values())) == 1:
        raise SingleOutcomeError(next(iter(leaves.values())))
    total = event.signed_digits
    buckets = [Bucket(prefix=prefix, length=length, payout=payout) for (prefix, length), payout in leaves.items()]
    return tuple(sorted(buckets, key=lambda bucket: _span(bucket.prefix, bucket.length, total)[0]))


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
