"""An oracle that lies, played through the ledger: what it takes home in coins, not in a formula.

The oracle is the provider of each book, its victims are the takers, all on one side. It posts true prices until a week
costs it more than ``stop``; then it posts the price that takes every margin, and ends the subcontracts. Its victims see
the true price, too: those that are rational burn what they would owe.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from btcfi.errors import InvalidInputError
from btcfi.pricing.domain import FloatArray
from btcfi.swaps.book import ORACLE, Event
from btcfi.swaps.contract import LOT, Rates, SwapContract, burn_fee
from btcfi.swaps.ledger import Key, SwapLedger
from btcfi.swaps.prices import DAY
from btcfi.swaps.returns import Prices, Side
from btcfi.swaps.settlement import SETTLE_SECONDS
from btcfi.units import Sats, UnixSeconds

START: Final = 1_600_000_000
FIRST_PRICE: Final = 10**13
"""Millionths: far from the largest price and from those so small that a millionth is more than a satoshi."""

RESERVE: Final = 60
"""Required margins that each side brings, so that nobody defaults before the lie."""

MAX_BOOKS: Final = 5_000
MAX_WEEKS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """How an oracle lies. Amounts of a week in its standard deviations, of the oracle's own profit."""

    stop: float = 0.0
    """It leaves at the first week below: its first loss."""
    deviation: Fraction = Fraction(1, 3)
    """A week's, as a part of the required margin."""
    victims: int = 4
    """Takers of a book, a lot each."""
    rational: int = 3
    """Of them, that burn."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for victims that there cannot be."""
        if not 1 <= self.victims <= RESERVE // 2 or not 0 <= self.rational <= self.victims:
            raise InvalidInputError(
                "victims", f"{self.rational} rational of {self.victims}", f"at most all, of 1 to {RESERVE // 2}"
            )

    @property
    def required(self) -> int:
        """All margins of a book, in satoshis."""
        return self.victims * LOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What the oracle took, book by book."""

    profits_sats: tuple[int, ...]
    """What was paid out to it less what it paid in."""
    weeks: tuple[int, ...]
    """That it played, the lie's among them."""
    true_sums: tuple[float, ...]
    """Its true profits of the weeks before the lie, each a margin at most, in standard deviations."""
    burned_sats: int
    """By the victims: their debits, and what a burn costs."""
    ledger: SwapLedger

    def in_deviations(self, lie: Lie) -> FloatArray:
        """Return the profits in standard deviations of a week's."""
        return np.array(self.profits_sats, dtype=float) / (lie.required * float(lie.deviation))


def play(lie: Lie, *, books: int, generator: np.random.Generator) -> Taken:
    """Return what a lying oracle takes home from so many books, each of a contract whose prices are its own.

    Raises InvalidInputError for more books than are played at once, and where the lie does not come in time.
    """
    if not 1 <= books <= MAX_BOOKS:
        raise InvalidInputError("books", f"{books}", f"1 to {MAX_BOOKS}")
    contracts = [
        SwapContract(name=f"A{n}BTC", asset=f"A{n}", quote="BTC", leverage_hundredths=250) for n in range(books)
    ]
    ledger, now = SwapLedger(), START
    level = dict.fromkeys((one.name for one in contracts), FIRST_PRICE)
    _post(ledger, level, now)
    keys: list[Key] = [(one.name, f"liar-{n}") for n, one in enumerate(contracts)]
    for one, key in zip(contracts, keys, strict=True):
        _open(ledger, one, key, lie, now)
    # the takes start with the next settlement's price, which settles nothing of theirs
    now = _week(ledger, level, keys, now)
    profits, weeks, sums = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0), dict.fromkeys(keys, 0.0)
    burned, alive, most = 0, keys, float(1 / lie.deviation)
    while alive:
        if weeks[alive[0]] == MAX_WEEKS:
            raise InvalidInputError("stop", f"{lie.stop}", f"one that comes within {MAX_WEEKS} weeks")
        drawn = dict(zip(alive, generator.standard_normal(len(alive)).tolist(), strict=True))
        liars = {key for key, true in drawn.items() if true < lie.stop}
        level |= {key[0]: _price(level[key[0]], lie, 1e9 if key in liars else true) for key, true in drawn.items()}
        posted = UnixSeconds(now + 7 * DAY - SETTLE_SECONDS)
        _post(ledger, level, posted)
        for key in liars:
            burned += _answer(ledger, key, lie)
        events = _settle(ledger, alive, UnixSeconds(posted + SETTLE_SECONDS))
        burned += sum(event.fields["burned_sats"] for event in events)
        now = posted + SETTLE_SECONDS
        for key, true in drawn.items():
            weeks[key] += 1
            if key in liars:
                profits[key] = _home(ledger, key) - RESERVE * lie.required
            else:
                sums[key] += min(true, most)
        alive = [key for key in alive if key not in liars]
    return Taken(
        profits_sats=tuple(profits.values()), weeks=tuple(weeks.values()), true_sums=tuple(sums.values()),
        burned_sats=burned, ledger=ledger,
    )  # fmt: skip


def _open(ledger: SwapLedger, contract: SwapContract, key: Key, lie: Lie, now: int) -> None:
    ledger.list_contract(contract, Rates(target_ppm=0, basis_ppm=0))
    ledger.create_book(
        contract.name, caller=key[1], amount=RESERVE * lie.required, minimum_take=LOT, now=UnixSeconds(now)
    )
    for number in range(lie.victims):
        ledger.take(
            key, caller=f"victim-{number}", side=Side.LONG, required=LOT, amount=RESERVE * LOT, now=UnixSeconds(now)
        )
    ledger.initialise(key, caller=ORACLE, taken_before=UnixSeconds(now + 1))


def _price(before: int, lie: Lie, profit: float) -> int:
    """Return the asset's price at which the oracle's side, the short, has a profit; at most its whole margin."""
    part = max(Fraction(-1), min(Fraction(1), Fraction(profit) * lie.deviation))
    return round(before * (1 - part * Fraction(100, 250)))


def _post(ledger: SwapLedger, level: dict[str, int], now: int) -> None:
    prices = {name: Prices(asset=asset, margin=FIRST_PRICE) for name, asset in level.items()}
    ledger.post(prices, settles=True, caller=ORACLE, now=UnixSeconds(now))


def _week(ledger: SwapLedger, level: dict[str, int], keys: list[Key], now: int) -> int:
    _post(ledger, level, now + 7 * DAY - SETTLE_SECONDS)
    _settle(ledger, keys, UnixSeconds(now + 7 * DAY))
    return now + 7 * DAY


def _settle(ledger: SwapLedger, keys: list[Key], now: UnixSeconds) -> list[Event]:
    events: list[Event] = []
    for key in keys:
        ledger.compute(key[0], caller=ORACLE, now=now)
        events += ledger.settle(key, caller=ORACLE, now=now)
    return events


def _answer(ledger: SwapLedger, key: Key, lie: Lie) -> int:
    """Have the victims burn that would; the oracle ends what the others leave. Returns what the burns cost."""
    burned = 0
    for number in range(1, lie.victims + 1):
        ledger.admin_cancel(key, number, caller=ORACLE)
        if number <= lie.rational:
            fee = burn_fee(Sats(LOT))
            ledger.burn(key, number, caller=f"victim-{number - 1}", paid=fee)
            burned += fee
    return burned


def _home(ledger: SwapLedger, key: Key) -> int:
    """Return what the oracle is paid once all is settled."""
    ledger.withdraw_provider(key, ledger.books[key].margin, caller=key[1])
    (event,) = ledger.withdraw_balance(caller=key[1])
    return int(event.fields["amount_sats"])
