"""What a party's folder has of a contract that another one's collateral funds: both are kept, and the chain decides.

The new contract has a file like any, with the pre-signatures of both sides and from what it came; it is written, and
watched, before anything that could move the old collateral is signed. The old contract's file keeps every signature
that it has, and knows the transaction as one of its ends: so whichever a block holds, the watch settles the other no
more, and a reorganisation brings it back.
"""

from __future__ import annotations

from collections.abc import Collection

from btcfi.adapters.chain.node import Node
from btcfi.adapters.party.store import PartyContract, PartyStore
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts import watch
from btcfi.contracts.messages import Accept, Role, Sign
from btcfi.contracts.reopen import Reopened, check_signed
from btcfi.contracts.setup import SetupPolicy
from btcfi.errors import ConflictError
from btcfi.units import Txid, display_txid


class AnotherEndError(ConflictError):
    """A second end of a contract, a close or a transfer, while a first one that we have signed may be finished."""

    def __init__(self, contract: str, txid: Txid) -> None:
        super().__init__(
            f"contract {contract[:16]}: we have signed another end of it, {display_txid(txid)}; that one counts"
        )
        self.contract, self.txid = contract, txid


class AnotherHalfError(ConflictError):
    """A transfer whose seller's half is that of another contract of ours: the two would have one file."""

    def __init__(self, contract: str) -> None:
        super().__init__(f"contract {contract[:16]} is in this folder, with another buyer or of another transfer")
        self.contract = contract


def keep_new(
    store: PartyStore, node: Node, reopened: Reopened, *, number: int, role: Role, seller_presigned: bytes,
    buyer_presigned: bytes, policy: SetupPolicy, order: str = "", offer_id: str = "",
) -> PartyContract:  # fmt: skip
    """Write the new contract down, once both sides' pre-signatures were checked; the same again changes nothing.

    number: of our key in it. order: its name in letters. offer_id: of the market's offer, as hex; with one, our coins
    go home by themselves when its time is over and no block has it. Raises AnotherHalfError where the seller's half is
    that of another contract of ours.
    """
    said = reopened.statement
    offer = said.offer
    with store.alone():
        if offer.id.hex() in store.names():
            kept = store.load(offer.id.hex())
            if kept.accept is None or (kept.accept.party, kept.reopened) != (said.buyer, said.origin):
                raise AnotherHalfError(offer.id.hex())
            return kept
        contract = PartyContract(
            number=number, role=role, offer=offer,
            accept=Accept(offer_id=offer.id, party=said.buyer, presignatures=buyer_presigned),
            sign=Sign(contract_id=reopened.id, presignatures=seller_presigned, witnesses={}),
            watch=watch.start(node, node.block_count()), reopened=said.origin, policy=policy,
            buckets=reopened.plan.buckets, order=order, firm_offer=offer_id, sign_by=said.valid_until,
        )  # fmt: skip
        store.save(contract)
        return contract


def note_end(
    store: PartyStore, name: str, reopened: Reopened, *, over: Collection[Txid] = ()
) -> PartyContract:  # fmt: skip
    """Have the old contract know this transaction as an end of its own, before its key path is signed.

    name: of the old contract. Nothing of it is dropped: until a block has that transaction it is settled as ever. From
    here on our desk signs no close of it. over: ends that we have signed and nobody can finish any more. Raises
    AnotherEndError while there is any other: whoever has two signed ends of one contract chooses between them.
    """
    with store.alone():
        contract = store.load(name)
        txid = reopened.splice.transaction.txid
        if others := {*contract.closes, *contract.reopenings} - {txid, *over}:
            raise AnotherEndError(name, min(others))
        if txid not in contract.reopenings:
            contract.reopenings = (*contract.reopenings, txid)
            store.save(contract)
        return contract


def check_not_reopened(contract: PartyContract, *, over: Collection[Txid] = ()) -> None:
    """Refuse another end of a contract of which we have signed a part of a reopening. Raises AnotherEndError.

    over: reopenings that nobody can finish any more.
    """
    if live := [one for one in contract.reopenings if one not in over]:
        raise AnotherEndError(contract.offer.id.hex(), live[-1])


def keep_signed(store: PartyStore, reopened: Reopened, transaction: Transaction) -> PartyContract:
    """Keep the signed transaction in the new contract's file: after a reorganisation our watch sends it again.

    Raises InvalidInputError, WrongSignatureError for another one, or one that is not signed by all.
    """
    check_signed(reopened, transaction)
    with store.alone():
        contract = store.load(reopened.statement.offer.id.hex())
        if contract.funding is None:
            contract.funding = transaction
            store.save(contract)
        return contract
