"""Coins and their choice: which outputs pay for a transaction, and what comes back as change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from btcfi.bitcoin.fees import (
    DUST_P2TR,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.errors import BtcfiError
from btcfi.units import Sats

COINBASE_MATURITY = 100
"""Confirmations before a coinbase output may be spent. Source: consensus (COINBASE_MATURITY)."""


class InsufficientFundsError(BtcfiError):
    """The wallet's coins do not cover the amount and the fee."""

    def __init__(self, *, available: Sats, needed: Sats) -> None:
        super().__init__(f"coins: {available} sats; needed {needed} sats including the fee")
        self.available, self.needed = available, needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Coin:
    """A spendable output of a wallet."""

    outpoint: OutPoint
    output: TxOut
    key_index: int = 0
    """Which of the wallet's keys guards it."""

    @property
    def value(self) -> Sats:
        """The output's amount."""
        return self.output.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Chosen coins; their sum = amount + fee + change, to the satoshi."""

    coins: tuple[Coin, ...]
    fee: Sats
    change: Sats
    """0: none, the rest went to the fee because an output of it would be dust."""


def select_coins(coins: Iterable[Coin], *, amount: Sats, rate: SatsPerKvb, other_weight: int = 0) -> Selection:
    """Return coins that pay ``amount`` and the fee at ``rate``: one exact fit without change, else largest first.

    other_weight: weight of everything but these inputs, the change output and the fixed overhead. All coins are
    counted as P2TR key-path inputs. Raises InsufficientFundsError. Deterministic: equal values are ordered by outpoint.
    """
    ordered = sorted(coins, key=lambda coin: (-coin.value, coin.outpoint))

    def fee_of(count: int, *, change: bool) -> Sats:
        weight = OVERHEAD_WEIGHT + other_weight + count * P2TR_INPUT_WEIGHT + (P2TR_OUTPUT_WEIGHT if change else 0)
        return fee_for(vsize_of(weight), rate)

    bare = amount + fee_of(1, change=False)
    exact = [coin for coin in ordered if bare <= coin.value < bare + DUST_P2TR]
    if exact:
        coin = exact[-1]
        return Selection(coins=(coin,), fee=Sats(coin.value - amount), change=Sats(0))
    total = 0
    for count, coin in enumerate(ordered, start=1):
        total += coin.value
        with_change = fee_of(count, change=True)
        if total >= amount + with_change + DUST_P2TR:
            return Selection(coins=tuple(ordered[:count]), fee=with_change, change=Sats(total - amount - with_change))
        if total >= amount + fee_of(count, change=False):
            return Selection(coins=tuple(ordered[:count]), fee=Sats(total - amount), change=Sats(0))
    raise InsufficientFundsError(available=Sats(total), needed=Sats(amount + fee_of(len(ordered) + 1, change=False)))
