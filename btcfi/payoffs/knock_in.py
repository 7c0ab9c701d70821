"""Legs that begin when a barrier is touched: each is one that lives to the expiry, less one that ends by it.

The oracle's condition digit says whether the barrier was touched; no other statement is needed, and the book, its
guest and its one barrier stay what they are. A knock-in costs two of the book's legs, and one where the same leg
without a barrier stands in the book as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from btcfi.payoffs.book import Book, book_of
from btcfi.payoffs.curve import Leg
from btcfi.units import CentsPerBtc, Slot


def book_with(
    legs: Iterable[Leg] = (), *, knock_ins: Iterable[Leg], barrier: CentsPerBtc, expiry: Slot,
    knock_outs: Iterable[Leg] = (), floor: CentsPerBtc | None = None,
) -> Book:  # fmt: skip
    """Return the book in which ``knock_ins`` are worth nothing until the barrier is touched. Raises as ``Book``.

    Above their strikes the barrier is touched from below, below them from above, as of legs that end by it; one on both
    sides of it is refused. A settlement price beyond the barrier touches it.
    """
    begin = tuple(knock_ins)
    ends = (*knock_outs, *(replace(leg, quantity=-leg.quantity) for leg in begin))
    return book_of((*legs, *begin), knock_outs=ends, barrier=barrier, expiry=expiry, floor=floor)
