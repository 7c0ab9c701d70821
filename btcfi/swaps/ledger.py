"""All books of an operator, their prices and everybody's withdrawal balance: who may do what, and that sums agree.

**This is custody**: the operator holds the coins, and this is its record of whose they are. What Bitcoin enforces of a
swap is in ``btcfi.swaps.bilateral`` and ``btcfi.swaps.fanout``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from btcfi.swaps import book as books
from btcfi.swaps.book import ORACLE, Book, Event, Outcome
from btcfi.swaps.contract import NOTHING, Rates, SwapContract
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.prices import PriceBoard
from btcfi.swaps.returns import Prices, Side
from btcfi.swaps.settlement import check_settle, settle
from btcfi.swaps.swap import AssetSwap
from btcfi.units import Sats, UnixSeconds

Key = tuple[str, str]
"""Of a book: contract and provider."""


@dataclass(slots=True, kw_only=True)
class SwapLedger:
    """A ledger in memory. Every method either returns its events or raises SwapRefusedError and has changed nothing."""

    board: PriceBoard = field(default_factory=PriceBoard)
    swaps: dict[str, AssetSwap] = field(default_factory=dict)
    books: dict[Key, Book] = field(default_factory=dict)
    balances: dict[str, Sats] = field(default_factory=dict)
    """To withdraw, by owner; the oracle's are its fees."""
    paid_in: Sats = NOTHING
    paid_out: Sats = NOTHING
    burned: Sats = NOTHING

    @property
    def held(self) -> Sats:
        """What the ledger owes to somebody: margins and balances."""
        margins = sum(one.margin + sum(sub.margin for sub in one.subcontracts.values()) for one in self.books.values())
        return Sats(margins + sum(self.balances.values()))

    # ---- the oracle's and the operator's

    def list_contract(self, contract: SwapContract, rates: Rates) -> tuple[Event, ...]:
        """List a contract with its first rates."""
        if contract.name in self.swaps:
            raise SwapRefusedError(Guard.BOOK_EXISTS, f"{contract.name} is listed", "a new contract")
        self.swaps[contract.name] = AssetSwap(contract=contract, rates=rates)
        return _event("listed", contract=contract.name)

    def post(
        self, prices: Mapping[str, Prices], *, settles: bool, caller: str, now: UnixSeconds
    ) -> tuple[Event, ...]:  # fmt: skip
        """Post a day's prices."""
        _oracle(caller)
        self.board = self.board.posted(prices, settles=settles, now=now)
        return _event("posted", week=self.board.week, slot=len(self.board.slots) - 1, settles=settles)

    def correct(self, prices: Mapping[str, Prices], *, caller: str, now: UnixSeconds) -> tuple[Event, ...]:
        """Correct the latest day's prices."""
        _oracle(caller)
        self.board = self.board.corrected(prices, now=now)
        return _event("corrected", week=self.board.week, slot=len(self.board.slots) - 1)

    def propose(self, contract: str, rates: Rates, *, caller: str) -> tuple[Event, ...]:
        """Propose rates for the week after this."""
        _oracle(caller)
        self.swaps[contract] = self._swap(contract).propose(rates)
        return _event("rates-proposed", contract=contract, target_ppm=rates.target_ppm, basis_ppm=rates.basis_ppm)

    def compute(self, contract: str, *, caller: str, now: UnixSeconds) -> tuple[Event, ...]:
        """Compute the ten data points of a week."""
        _oracle(caller)
        self.swaps[contract] = after = self._swap(contract).compute(self.board, now=now)
        return _event("returns-computed", contract=contract, week=after.returns.week if after.returns else 0)

    def pause(self, contract: str, *, paused: bool, caller: str) -> tuple[Event, ...]:
        """Let no takes in, or again."""
        _oracle(caller)
        self.swaps[contract] = replace(self._swap(contract), paused=paused)
        return _event("paused" if paused else "resumed", contract=contract)

    def initialise(self, key: Key, *, caller: str, taken_before: UnixSeconds) -> tuple[Event, ...]:
        """Give each take that is in time for the next post its start."""
        _oracle(caller)
        return self._done(key, books.initialise(self._book(key), self.board, taken_before=taken_before))

    def settle(self, key: Key, *, caller: str, now: UnixSeconds) -> tuple[Event, ...]:
        """Settle a book's week."""
        _oracle(caller)
        returns = check_settle(self._book(key), self.board, self._swap(key[0]).returns, now=now)
        events = self._done(key, settle(self._book(key), returns, now=now))
        self.swaps[key[0]] = self._swap(key[0]).settled(now=now)
        return events

    def admin_cancel(self, key: Key, number: int, *, caller: str) -> tuple[Event, ...]:
        """End a subcontract at the next settlement, without fees."""
        _oracle(caller)
        return self._done(key, books.admin_cancel(self._book(key), number))

    # ---- everybody's

    def create_book(
        self, contract: str, *, caller: str, amount: int, minimum_take: int, now: UnixSeconds
    ) -> tuple[Event, ...]:  # fmt: skip
        """Open a book."""
        self._swap(contract)
        if (contract, caller) in self.books:
            raise SwapRefusedError(Guard.BOOK_EXISTS, f"{caller} has one of {contract}", "one book a provider")
        return self._done((contract, caller), books.create_book(contract, caller, amount, minimum_take, now=now))

    def fund_provider(self, key: Key, amount: int) -> tuple[Event, ...]:
        """Add to a provider's margin."""
        return self._done(key, books.fund_provider(self._book(key), amount))

    def fund_taker(self, key: Key, number: int, amount: int) -> tuple[Event, ...]:
        """Add to a taker's margin."""
        return self._done(key, books.fund_taker(self._book(key), number, amount))

    def take(
        self, key: Key, *, caller: str, side: Side, required: int, amount: int, now: UnixSeconds
    ) -> tuple[Event, ...]:  # fmt: skip
        """Take a position."""
        paused = self._swap(key[0]).paused
        outcome = books.take(
            self._book(key), self.board, taker=caller, side=side, required=required, amount=amount, paused=paused,
            now=now,
        )  # fmt: skip
        return self._done(key, outcome)

    def cancel(self, key: Key, number: int, *, caller: str, paid: int) -> tuple[Event, ...]:
        """End a subcontract at the next settlement."""
        return self._done(key, books.cancel(self._book(key), self.board, number, caller=caller, paid=paid))

    def burn(self, key: Key, number: int, *, caller: str, paid: int) -> tuple[Event, ...]:
        """Burn this week's debit."""
        return self._done(key, books.burn(self._book(key), self.board, number, caller=caller, paid=paid))

    def withdraw_provider(self, key: Key, amount: int, *, caller: str) -> tuple[Event, ...]:
        """Move excess margin of a provider to its balance."""
        if caller != key[1]:
            raise SwapRefusedError(Guard.NOT_A_SIDE, f"{caller} is not the provider", key[1])
        return self._done(key, books.withdraw_provider(self._book(key), self.board, amount))

    def withdraw_taker(self, key: Key, number: int, amount: int, *, caller: str) -> tuple[Event, ...]:
        """Move excess margin of a taker to its balance."""
        return self._done(key, books.withdraw_taker(self._book(key), self.board, number, amount, caller=caller))

    def redeem(self, key: Key, number: int) -> tuple[Event, ...]:
        """Move a subcontract's margin that is over to its taker's balance."""
        return self._done(key, books.redeem(self._book(key), number))

    def declare_inactive(self, key: Key, *, now: UnixSeconds) -> tuple[Event, ...]:
        """End a book that the oracle has left."""
        return self._done(key, books.declare_inactive(self._book(key), now=now))

    def withdraw_balance(self, *, caller: str) -> tuple[Event, ...]:
        """Pay a balance out, whole."""
        if not (amount := self.balances.get(caller, Sats(0))):
            raise SwapRefusedError(Guard.BALANCE, f"{caller} has none", "a balance above 0")
        del self.balances[caller]
        self.paid_out = Sats(self.paid_out + amount)
        return _event("paid-out", owner=caller, amount_sats=amount)

    # ---- the rest

    def _swap(self, contract: str) -> AssetSwap:
        if contract not in self.swaps:
            raise SwapRefusedError(Guard.NO_BOOK, f"no contract {contract}", f"one of {sorted(self.swaps)}")
        return self.swaps[contract]

    def _book(self, key: Key) -> Book:
        if key not in self.books:
            raise SwapRefusedError(Guard.NO_BOOK, f"{key[1]} has no book of {key[0]}", "a provider's")
        return self.books[key]

    def _done(self, key: Key, outcome: Outcome) -> tuple[Event, ...]:
        self.books[key] = outcome.book
        self.paid_in = Sats(self.paid_in + outcome.paid_in)
        self.burned = Sats(self.burned + outcome.burned)
        for owner, amount in outcome.credits:
            self.balances[owner] = Sats(self.balances.get(owner, 0) + amount)
        return outcome.events


def _oracle(caller: str) -> None:
    if caller != ORACLE:
        raise SwapRefusedError(Guard.NOT_THE_ORACLE, f"{caller} is not", ORACLE)


def _event(name: str, **fields: object) -> tuple[Event, ...]:
    return (Event(name=name, fields=fields),)
