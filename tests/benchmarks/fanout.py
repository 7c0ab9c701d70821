"""Weekly swaps on Bitcoin: what a week costs an owner of a fan-out that all close together."""

from __future__ import annotations

from fractions import Fraction

from btcfi.bitcoin.fees import SatsPerKvb
from tests.benchmarks import Row, row_of
from tests.support.fanning import Book, fan_terms, on_paper, positions

_TAKERS = range(2, 15)


def rows() -> list[Row]:
    """The row of the fan-out."""
    return [fanout()]


def fanout() -> Row:
    """Virtual bytes of the close of all, an owner, for books of 2 to 14 takers on both sides."""
    return row_of(
        "swaps.fanout_vb_per_owner", [close_size(takers) for takers in _TAKERS], unit="vB an owner",
        against="105 vB closed together", at_most=105,
    )  # fmt: skip


def close_size(takers: int) -> float:
    """Virtual bytes an owner with a margin of one signed close."""
    longs = takers // 2 + 1  # never flat: the provider has a margin, too
    book = Book(on_paper(fan_terms(positions(longs, takers - longs), digits=4)))
    close, signed = book.closed(Fraction(2, 7), SatsPerKvb(2_000))
    return signed.vsize / len(close.owners)
