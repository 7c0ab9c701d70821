"""The same curve as flat CETs: the product's own contracts, whose buckets are cut along the levels of a table.

A bet asks about each level; a flat contract anticipates the digits of one attested price. Both pay the row of the
highest level at or below the price. Levels are whole dollars here, as the digits are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from btcfi.clauses.risk_reversal import ONE_UNIT, Row
from btcfi.contracts.buckets import Bucket
from btcfi.errors import InvalidInputError
from btcfi.units import Sats


def flat_buckets(rows: Sequence[Row], digits: int) -> tuple[Bucket, ...]:
    """Return the buckets of a table, in the order of their outcomes: the fewest digit prefixes that cut at each level.

    rows: ascending levels in ten-thousandths of a dollar, each a whole dollar that ``digits`` binary digits can say.
    Raises InvalidInputError for others, and for a single row: every price would pay the same.
    """
    levels = [row.level // ONE_UNIT for row in rows]
    if len(rows) < 2 or any(row.level % ONE_UNIT for row in rows):  # noqa: PLR2004 - one row is no bet
        raise InvalidInputError("rows", f"{len(rows)}, or not at whole dollars", "at least two, at whole dollars")
    if any(before >= after for before, after in pairwise(levels)) or not 0 <= levels[0] <= levels[-1] < 1 << digits:
        raise InvalidInputError("rows", "not ascending, or beyond the digits", f"ascending, below {1 << digits}")
    starts = [0, *levels[1:], 1 << digits]
    made = []
    for row, (low, end) in zip(rows, pairwise(starts), strict=True):
        made += [Bucket(prefix=p, length=n, payout=Sats(row.user)) for p, n in _cover(low, end, digits)]
    return tuple(made)


def _cover(low: int, end: int, digits: int) -> Iterator[tuple[int, int]]:
    """Yield the (prefix, length) of the fewest dyadic ranges that make up ``low`` to ``end``, the latter excluded."""
    while low < end:
        # the largest range that begins here and fits; never the empty prefix, which no digit would sign
        size = min(low & -low or 1 << digits, 1 << (digits - 1))
        while size > end - low:
            size >>= 1
        yield low // size, digits - size.bit_length() + 1
        low += size
