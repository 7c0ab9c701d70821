"""What a block means for transfers of positions: the walk's part (``ChainHandler``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlmodel import Session, select

from btcfi.adapters.store.chain.handlers import BlockView, Purpose
from btcfi.adapters.store.chain.tables import TransactionRow, TransactionState
from btcfi.adapters.store.market.closes import CLOSES_ON_CHAIN
from btcfi.adapters.store.market.transfer_rounds import TRANSFER
from btcfi.adapters.store.market.transfer_tables import TransferRow, TransferState
from btcfi.adapters.store.options.on_chain import funded
from btcfi.adapters.store.options.reopened import bring_back, end_reopened
from btcfi.adapters.store.options.tables import OptionRow, OptionState
from btcfi.adapters.store.spine.edges import cross
from btcfi.units import UnixSeconds


class TransfersOnChain:
    """A transfer that is final changes the owner: the old option is over, and the newcomer's is active.

    One that waits is no transfer yet. A restored store, which does not know it, takes it for a spend outside, and
    ``transfer_rounds.adopt_mined`` for what it is.
    """

    purposes: tuple[Purpose, ...] = (Purpose(name=TRANSFER),)

    def final(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Change the owner of the positions whose transfers are deep enough."""
        for one in rows:
            row = _row_of(session, one)
            if row is None:
                continue
            if row.state == TransferState.OVER:
                changes = {"fault": None, "problem": None}
                cross(session, row, TransferState.SIGNED, now=now, changes=changes, detail="a block holds it")
            if row.state == TransferState.SIGNED and cross(session, row, TransferState.DONE, now=now):
                old = session.get_one(OptionRow, row.option_id)
                end_reopened(session, old, one, detail=f"its position is option {row.new_option_id} now", now=now)
                funded(session, [row.new_option_id], now)

    def undone(self, session: Session, row: TransactionRow, now: UnixSeconds) -> None:
        """Take back the change of owner of a transfer that a reorganisation took from under six blocks."""
        transfer = _row_of(session, row)
        if row.state != TransactionState.FINAL or transfer is None or transfer.state != TransferState.DONE:
            return
        cross(session, transfer, TransferState.SIGNED, now=now, detail="reorganised")
        new = session.get_one(OptionRow, transfer.new_option_id)
        if new.state == OptionState.ACTIVE:
            cross(session, new, OptionState.CREATED, now=now, detail="its transfer was reorganised")
        old = session.get_one(OptionRow, transfer.option_id)
        bring_back(session, old, detail="its transfer was reorganised", now=now)


TRANSFERS_ON_CHAIN: Final = TransfersOnChain()


def _row_of(session: Session, sent: TransactionRow) -> TransferRow | None:
    return session.exec(select(TransferRow).where(TransferRow.txid == sent.txid)).first()


class MarketOnChain:
    """The market's part in the walk: closes and transfers."""

    purposes: tuple[Purpose, ...] = (*CLOSES_ON_CHAIN.purposes, *TRANSFERS_ON_CHAIN.purposes)

    def view(self, session: Session, block: object) -> BlockView:
        """Look at nothing: neither has transactions that are not stored before they are sent."""
        return CLOSES_ON_CHAIN.view(session, block)

    def sent(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """Do nothing: what waits has changed nothing."""

    def final(self, session: Session, rows: Sequence[TransactionRow], now: UnixSeconds) -> None:
        """End and change over what is deep enough."""
        CLOSES_ON_CHAIN.final(session, [one for one in rows if one.purpose != TRANSFER], now)
        TRANSFERS_ON_CHAIN.final(session, [one for one in rows if one.purpose == TRANSFER], now)

    def undone(self, session: Session, row: TransactionRow, now: UnixSeconds) -> None:
        """Take back what followed from one whose block is gone."""
        handler = TRANSFERS_ON_CHAIN if row.purpose == TRANSFER else CLOSES_ON_CHAIN
        handler.undone(session, row, now)

    def coins_needed(self, session: Session) -> int:  # noqa: ARG002 - as the protocol has it
        """Return 0: each pays its own fee."""
        return 0


MARKET_ON_CHAIN: Final = MarketOnChain()
