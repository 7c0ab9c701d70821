"""What a transaction that ends a contract pays to whom: the chain's word, beside the payout that the guest computed.

    buyer + seller + anchor + fee = collateral, to the satoshi

The anchor is no fee of the transaction: it is an output that lies there until a child spends it, and is then a part of
the child's inputs. What a settlement costs is its own fee and its child's, and each satoshi stands in one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.metadata import read_record
from btcfi.contracts.option import split
from btcfi.errors import InvalidInputError
from btcfi.units import Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """How a settlement's transaction divides the collateral that it spends."""

    buyer: Sats
    """What the chain pays the buyer; the guest's payout less rounding and what the seller's part cannot cover."""
    seller: Sats
    anchor: Sats
    """In its pay-to-anchor output; 0 without one."""
    fee: Sats
    """The transaction's own: its input less all its outputs."""


def paid_by(transaction: Transaction, *, collateral: Sats, buyer_script: bytes, seller_script: bytes) -> Paid:
    """Return what a CET or a close pays to whom.

    collateral: of the contract, which is the transaction's only input. Raises InvalidInputError for another number of
    inputs, for an output that is neither party's, an anchor or a record, and where both parties are paid to one script
    and one output does not say whose it is.
    """
    if len(transaction.inputs) != 1:
        raise InvalidInputError("settlement", f"{len(transaction.inputs)} inputs", "the collateral alone")
    to_parties = [out for out in transaction.outputs if out.script in {buyer_script, seller_script}]
    anchors = [out.value for out in transaction.outputs if out.script == P2A_SCRIPT]
    records = [out for out in transaction.outputs if read_record(out.script) is not None]
    if len(to_parties) + len(anchors) + len(records) != len(transaction.outputs):
        raise InvalidInputError("settlement", "pays somebody else", "outputs to its parties, an anchor, a record")
    if buyer_script == seller_script:  # then the buyer's stands first, as in every CET and close
        if len(to_parties) != len(("buyer", "seller")):
            raise InvalidInputError("settlement", "pays one script that is both parties'", "an output for each")
        buyer, seller = (out.value for out in to_parties)
    else:
        buyer = Sats(sum(out.value for out in to_parties if out.script == buyer_script))
        seller = Sats(sum(out.value for out in to_parties if out.script == seller_script))
    fee = collateral - sum(out.value for out in transaction.outputs)
    if fee < 0:
        raise InvalidInputError("settlement", f"pays {-fee} sats more than the collateral", f"{collateral} at most")
    return Paid(buyer=buyer, seller=seller, anchor=Sats(sum(anchors)), fee=Sats(fee))


def check_close_pays(
    closed: Transaction, *, payout: Sats, collateral: Sats, nearest: bool, buyer_script: bytes, seller_script: bytes
) -> Sats:
    """Return the fee of a close that pays the buyer what ``option.split`` does at that fee, and refuse any other.

    payout: what the guest computed. nearest: the contract's dust rule. A part that is dust counts as what the rule
    makes of it, on either side. Raises InvalidInputError.
    """
    fee = Sats(collateral - sum(output.value for output in closed.outputs))
    if fee < 0:
        raise InvalidInputError("closed.transaction", f"pays {-fee} sats more than the collateral", f"{collateral}")
    buyer, seller = split(collateral, payout, fee, nearest=nearest)
    owed = buyer + seller if buyer_script == seller_script else buyer
    paid = sum(output.value for output in closed.outputs if output.script == buyer_script)
    if paid != owed:
        raise InvalidInputError("closed.transaction", f"pays {paid:,} sats", f"{owed:,}, for a payout of {payout:,}")
    return fee
