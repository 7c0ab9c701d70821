"""What the walk along the blocks asks of a system: which outputs are its own, and what follows when one is spent.

The walk names no system. Each brings a ``ChainHandler`` for the purposes that its transactions have; the process hands
them over together (``Handlers``). A purpose that no handler claims has states and nothing that follows from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from sqlmodel import Session

from btcfi.adapters.chain.node import Block
from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.chain.transactions import Signed
from btcfi.bitcoin.transaction import Transaction
from btcfi.errors import BtcfiError
from btcfi.units import UnixSeconds


class PurposeTakenError(BtcfiError):
    """Two systems claim transactions of one purpose."""

    def __init__(self, purpose: str) -> None:
        super().__init__(f"two systems claim the purpose {purpose!r}: each needs words of its own")
        self.purpose = purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What transactions are for, as the column ``purpose`` has it, and how the walk treats them."""

    name: str
    ours: bool = True
    """False: somebody else's spend of an output that we watch; never sent, and forgotten with its block."""
    gives_way: bool = False
    """True: whoever spends its input takes its place for good, as a fee-paying child's; its coin is free again."""
    watches_all: bool = False
    """True: whoever spends any of its inputs overtakes it, not only the outpoint that its row names."""
    pays_for_parent: bool = False
    """True: it pays the fee of the transaction that it spends, and is sent together with it."""


class BlockView(Protocol):
    """One block as a system sees it; made once, so that the store is asked a few times and not per transaction."""

    def known(self, txid: str) -> Signed | None:
        """Return a transaction of the system's own, by its txid in display order, that we have not stored yet."""

    def foreign(self, session: Session, transaction: Transaction) -> Signed | None:
        """Return a transaction that is not stored as it is kept, if it spends outputs of the system's; None if not.

        It is kept once, for one subject, however many of them it spends: what it ends, its inputs say when it is final.
        """


class ChainHandler(Protocol):
    """One system's part in the walk. Every method changes only what is of its system."""

    purposes: tuple[Purpose, ...]

    def view(self, session: Session, block: Block) -> BlockView:
        """Look at a block before its transactions are taken in."""

    def sent(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Move on what waits for these: the node has just taken them."""

    def final(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Move on what waits for these: they are as deep as the preset asks."""

    def undone(self, session: Session, row: TransactionRow, now: UnixSeconds) -> None:
        """Take back what followed from a transaction whose block was reorganised away; ``row`` is as it was before."""

    def coins_needed(self, session: Session) -> int:
        """Return how many fee coins the system will want at once."""


@dataclass(frozen=True)
class Handlers:
    """The handlers of all systems. Raises PurposeTakenError at the first use when two claim one purpose."""

    each: tuple[ChainHandler, ...]

    @cached_property
    def _by_purpose(self) -> dict[str, tuple[ChainHandler, Purpose]]:
        found: dict[str, tuple[ChainHandler, Purpose]] = {}
        for handler in self.each:
            for purpose in handler.purposes:
                if purpose.name in found:
                    raise PurposeTakenError(purpose.name)
                found[purpose.name] = (handler, purpose)
        return found

    def purpose(self, name: str) -> Purpose:
        """Return what is known of a purpose; one that nobody claims is ours and keeps its place."""
        return self._by_purpose[name][1] if name in self._by_purpose else Purpose(name=name)

    @property
    def not_ours(self) -> tuple[str, ...]:
        """The purposes of somebody else's spends."""
        return tuple(name for name, (_, purpose) in self._by_purpose.items() if not purpose.ours)

    def view(self, session: Session, block: Block) -> list[BlockView]:
        """Return every system's view of a block."""
        return [handler.view(session, block) for handler in self.each]

    def sent(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Tell each system which of its transactions the node has taken."""
        for handler, some in self._shares(rows):
            handler.sent(session, some, now)

    def final(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Tell each system which of its transactions are deep enough."""
        for handler, some in self._shares(rows):
            handler.final(session, some, now)

    def undone(self, session: Session, row: TransactionRow, now: UnixSeconds) -> None:
        """Tell a system that its transaction's block is gone."""
        for handler, _ in self._shares([row]):
            handler.undone(session, row, now)

    def coins_needed(self, session: Session) -> int:
        """Return how many fee coins all systems will want at once."""
        return sum(handler.coins_needed(session) for handler in self.each)

    def _shares(self, rows: Sequence[TransactionRow]) -> Iterable[tuple[ChainHandler, list[TransactionRow]]]:
        for handler in self.each:
            names = {purpose.name for purpose in handler.purposes}
            if some := [row for row in rows if row.purpose in names]:
                yield handler, some
