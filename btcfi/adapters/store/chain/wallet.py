"""The service's coins: split, picked, kept for one transaction."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Select, func, select
from sqlmodel import Session, col

from btcfi.adapters.store.chain.tables import UNMINED, CoinState, TransactionRow, WalletOutpointRow
from btcfi.adapters.store.chain.transactions import Signed, put_transaction
from btcfi.bitcoin.fees import (
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    SatsPerKvb,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut, parse_outpoint, parse_transaction
from btcfi.errors import RetryableError
from btcfi.units import Height, Sats, UnixSeconds

SERVICE: Final = "service"
"""Whose coins the wallet's are: they pay the fees of settlements, and belong to no party."""

SPLIT: Final = "split"
"""The purpose of a transaction that makes many of the service's coins out of one."""

CHILD_COIN: Final = Sats(20_000)
"""A coin of at least this size pays for a settlement: 50 sat/vB for the CET and its child."""

SPLIT_COIN: Final = Sats(50_000)
"""What a large coin is split into, so that many settlements of one minute have a confirmed coin each."""

MAX_SPLIT: Final = 2_000
"""Coins of one split: 86 kvB, and nodes relay 100."""


class NoCoinError(RetryableError):
    """The service's wallet has no confirmed coin for a settlement's fee."""

    def __init__(self, needed: Sats) -> None:
        super().__init__(f"the service's wallet has no confirmed coin of {needed} sats; send some to its address")
        self.needed = needed


def split_coins(
    session: Session, wallet: TaprootKey, *, want: int, at_once: int, rate: SatsPerKvb, tip: Height, now: UnixSeconds
) -> bool:
    """Split a large coin when fewer than half of ``want`` are there, or fewer than the systems will want ``at_once``.

    A settlement needs a confirmed coin of its own. False when nothing was split: no need, or no coin is large enough.
    """
    waiting = select(func.count()).select_from(TransactionRow)
    if session.execute(
        waiting.where(col(TransactionRow.purpose) == SPLIT, col(TransactionRow.state).in_(UNMINED))
    ).scalar_one():
        return False
    ready, busiest = mature_coins(session, tip=tip), min(MAX_SPLIT, at_once)
    if ready * 2 >= want and ready >= busiest:
        return False
    for wanted in (max(want, busiest), want):
        fee = fee_for(vsize_of(OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + (wanted + 1) * P2TR_OUTPUT_WEIGHT), rate)
        large = pick_coin(session, Sats(SPLIT_COIN * (wanted + 1) + fee), tip=tip)
        if large is not None:
            _split(session, wallet, large, wanted, fee, now=now)
            return True
    return False


def _split(
    session: Session, wallet: TaprootKey, large: WalletOutpointRow, many: int, fee: Sats, *, now: UnixSeconds
) -> None:
    spent = TxOut(value=Sats(large.value_sats), script=wallet.script)
    rest = Sats(large.value_sats - many * SPLIT_COIN - fee)
    outputs = [*[TxOut(value=SPLIT_COIN, script=wallet.script)] * many, TxOut(value=rest, script=wallet.script)]
    plain = Transaction(version=2, inputs=(TxIn(outpoint=parse_outpoint(large.outpoint)),), outputs=tuple(outputs))
    signed = plain.with_witness(0, [wallet.sign_input(plain, 0, [spent])])
    split = Signed(
        transaction=signed, purpose=SPLIT, subject=None, spends=parse_outpoint(large.outpoint), fee=fee
    )  # fmt: skip
    reserve_coin(large, split.txid)
    put_transaction(session, split, now=now)


def mature_coins(session: Session, *, tip: Height) -> int:
    """Return how many coins of the service can pay for a settlement in the next block."""
    query = select(func.count()).select_from(WalletOutpointRow).where(
        col(WalletOutpointRow.party) == SERVICE, col(WalletOutpointRow.state) == CoinState.AVAILABLE,
        col(WalletOutpointRow.mature_height) <= tip + 1, col(WalletOutpointRow.value_sats) >= CHILD_COIN,
    )  # fmt: skip
    return int(session.execute(query).scalar_one())


def pick_coin(session: Session, least: Sats, *, tip: Height) -> WalletOutpointRow | None:
    """Return the smallest coin that is large enough and may be spent in the block after ``tip``."""
    return next(iter(pick_coins(session, least, tip=tip, many=1)), None)


def pick_coins(session: Session, least: Sats, *, tip: Height, many: int) -> list[WalletOutpointRow]:
    """Return up to ``many`` coins that are large enough and may be spent in the block after ``tip``, smallest first."""
    ordered = _spendable(least, tip).order_by(col(WalletOutpointRow.value_sats), col(WalletOutpointRow.outpoint))
    return list(session.execute(ordered.limit(many)).scalars())


def largest_coin(session: Session, least: Sats, *, tip: Height) -> WalletOutpointRow | None:
    """Return the largest coin, if it is large enough and may be spent in the block after ``tip``."""
    ordered = _spendable(least, tip).order_by(col(WalletOutpointRow.value_sats).desc(), col(WalletOutpointRow.outpoint))
    return session.execute(ordered.limit(1)).scalar_one_or_none()


def _spendable(least: Sats, tip: Height) -> Select[WalletOutpointRow]:
    return select(WalletOutpointRow).where(
        col(WalletOutpointRow.party) == SERVICE, col(WalletOutpointRow.state) == CoinState.AVAILABLE,
        col(WalletOutpointRow.mature_height) <= tip + 1, col(WalletOutpointRow.value_sats) >= least,
    )  # fmt: skip


def reserve_coin(coin: WalletOutpointRow, txid: str) -> None:
    """Keep a coin for one transaction, by its txid in display order."""
    coin.state, coin.reserved_by = CoinState.RESERVED.value, txid


def free_coins(session: Session, txid: str) -> None:
    """Give back the coins that were kept for a transaction whose place another one took."""
    kept = select(WalletOutpointRow).where(
        col(WalletOutpointRow.reserved_by) == txid, col(WalletOutpointRow.state) == CoinState.RESERVED
    )
    for coin in session.execute(kept).scalars():
        coin.state, coin.reserved_by = CoinState.AVAILABLE.value, None
    session.flush()


LOOKED_AT: Final = 8
"""Coins whose scripts tell whose the wallet is: they are all of one key."""


def coin_scripts(session: Session) -> dict[str, bytes | None]:
    """Return by outpoint the script of a few coins of the service that it can spend; None where another paid it."""
    query = select(col(WalletOutpointRow.outpoint)).where(
        col(WalletOutpointRow.party) == SERVICE, col(WalletOutpointRow.state) != CoinState.SPENT
    )
    newest = col(WalletOutpointRow.height).desc()
    found: dict[str, bytes | None] = {}
    for outpoint in session.execute(query.order_by(newest, col(WalletOutpointRow.outpoint)).limit(LOOKED_AT)).scalars():
        txid, _, index = outpoint.partition(":")
        row = session.get(TransactionRow, txid)
        outputs = () if row is None else parse_transaction(bytes.fromhex(row.raw_hex)).outputs
        found[outpoint] = outputs[int(index)].script if outputs else None
    return found
