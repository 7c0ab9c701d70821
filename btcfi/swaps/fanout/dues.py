"""Who pays whom in a book's week: every loser to all winners, in proportion to what they won, to the satoshi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.errors import InvalidInputError
from btcfi.units import Sats


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Return whole parts of ``total`` in proportion to the weights, by largest remainder; equal ones, the first first.

    Their sum is the total; none is above its weight where the total is not above the sum. Raises InvalidInputError
    for weights of nothing. Source: Hamilton's method.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0 or total < 0:
        raise InvalidInputError("weights", f"{total} among a sum of {whole}", "none below 0, some above")
    parts = [total * weight // whole for weight in weights]
    behind = sorted(range(len(weights)), key=lambda place: -(total * weights[place] % whole))
    for place in behind[: total - sum(parts)]:
        parts[place] += 1
    return parts


def debits_of(profits: Sequence[int]) -> dict[int, Sats]:
    """Return what each owner owes, by its place. What no output can carry, below 330 sat, is owed by nobody."""
    return {place: Sats(-profit) for place, profit in enumerate(profits) if -profit >= DUST_P2TR}


def dues(profits: Sequence[int]) -> dict[int, Mapping[int, Sats]]:
    """Return for each loser what it owes to each winner, by their places; profits sum to 0.

    Each loser's parts are exactly its debit. A later loser's are in proportion to what the winners still miss, so that
    each of them gets exactly what it won when nobody burns and no debit is below dust. A part below dust can't be paid:
    it goes to the winner of the same debit's largest part. Raises InvalidInputError for another sum.
    """
    if sum(profits):
        raise InvalidInputError("profits", f"they sum to {sum(profits)}", "0")
    missing = {place: profit for place, profit in enumerate(profits) if profit > 0}
    owed: dict[int, Mapping[int, Sats]] = {}
    for loser, debit in debits_of(profits).items():
        parts = dict(zip(missing, apportion(debit, list(missing.values())), strict=True))
        missing = {winner: left - parts[winner] for winner, left in missing.items()}
        owed[loser] = _payable(parts)
    return owed


def _payable(parts: Mapping[int, int]) -> dict[int, Sats]:
    largest = max(parts, key=lambda winner: parts[winner])
    kept = {winner: Sats(part) for winner, part in parts.items() if part >= DUST_P2TR or winner == largest}
    kept[largest] = Sats(kept[largest] + sum(parts.values()) - sum(kept.values()))
    return kept
