"""CETs, coins, views and terms for tests of the settlement engine: nothing is signed, the sizes are real."""

from btcfi.bitcoin.fees import FeeRule
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.settle import CompletedCet, child_paying
from btcfi.contracts.settling import COIN_INPUT, Fresh, Terms, Version, View
from btcfi.units import Height, Sats, Txid
from tests.support.contracts import BUYER, PROOF_ROOT, SELLER

WITNESS = (bytes(64), bytes(64), bytes(68), bytes(65))
"""As large as that of a CET: two signatures, the leaf, the control block."""
EXPIRY, REFUND = Height(1_000), Height(2_000)
RULE = FeeRule()


def outpoint(number):
    return OutPoint(txid=Txid(number.to_bytes(32, "big")), index=0)


def cet(*, payout=2_000_000, rest=8_000_000, fee=1_000):
    """A CET of two payouts; fee 0 is what version 1 had."""
    outputs = [TxOut(value=Sats(payout), script=BUYER.script), TxOut(value=Sats(rest), script=SELLER.script)]
    transaction = Transaction(
        version=TRUC_VERSION, inputs=(TxIn(outpoint=outpoint(1), witness=WITNESS),),
        outputs=(*(one for one in outputs if one.value), TxOut(value=Sats(240), script=P2A_SCRIPT)), lock_time=EXPIRY,
    )  # fmt: skip
    return CompletedCet(
        transaction=transaction, bucket=0, outcome=0, payout=Sats(payout), seller_return=Sats(rest), fee=Sats(fee)
    )  # fmt: skip


def coin(number, value=1_000_000):
    return Coin(outpoint=outpoint(number), output=TxOut(value=Sats(value), script=BUYER.script))


def terms(*, stake=2_000_000, refund=REFUND, rule=RULE):
    return Terms(expiry_height=EXPIRY, refund_height=Height(refund), stake=Sats(stake), rule=rule)


def view(tip=EXPIRY, **more):
    return View(tip=Height(tip), estimate=None, **more)


def version(settled, step, *, tip=EXPIRY):
    """The child of a step as if it had been signed and sent."""
    assert isinstance(step, Fresh)
    child = child_paying(settled, step.coin, fee=step.fee, change_script=BUYER.script, proof_root=PROOF_ROOT)
    signed = child.transaction.with_witness(COIN_INPUT, [bytes(64)])
    return Version(transaction=signed, fee=child.fee, height=Height(tip))
