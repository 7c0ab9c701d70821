"""An option that both sides have closed early at a price of theirs, kept in a store as the chain's walk leaves it."""

from __future__ import annotations

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.market.closes import CLOSE, CLOSES_ON_CHAIN
from btcfi.adapters.store.market.tables import CloseRow
from btcfi.adapters.store.options.contracts import funding_outpoint
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.database import Store
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.units import Sats, UnixSeconds

FEE = 300


def close_early(store: Store, option_id: str, *, paid: int, now: int, txid: str = "ee" * 32, raw: bytes = b"") -> None:
    """End a funded option by a close that pays its holder so many satoshis."""
    with store.transaction() as session:
        option = session.get_one(OptionRow, option_id)
        if not raw:
            returned = TxOut(value=Sats(option.collateral_sats - paid - FEE), script=b"")
            raw = Transaction(
                version=2, inputs=(TxIn(outpoint=funding_outpoint(option)),),
                outputs=(TxOut(value=Sats(paid), script=b""), returned),
            ).to_bytes()  # fmt: skip
        row = CloseRow(
            id=txid, option_id=option_id, by="buyer", state="signed", body="{}", payout_sats=paid, txid=txid,
            paid_sats=paid, fee_sats=FEE, returned_sats=option.collateral_sats - paid - FEE,
            valid_until_unix=now + 60, created_at_unix=now, updated_at_unix=now,
        )  # fmt: skip
        sent = TransactionRow(
            txid=txid, purpose=CLOSE, subject=option_id, state="final", raw_hex=raw.hex(), spends="", fee_sats=FEE,
            height=205, created_at_unix=now, updated_at_unix=now,
        )  # fmt: skip
        session.add_all([row, sent])
        session.flush()
        CLOSES_ON_CHAIN.final(session, [sent], UnixSeconds(now))
