import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi.bitcoin.block import merkle_root
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts import anchor
from btcfi.contracts.anchor import AnchorItem, AnchorKind, WrongAnchorError
from btcfi.errors import InvalidInputError
from btcfi.hashes import hash256, sha256
from btcfi.units import Sats
from tests.support.contracts import RATE, SELLER, coin


def items(count):
    return [AnchorItem(kind=AnchorKind(1 + n % 3), digest=sha256(bytes([n % 256, n // 256]))) for n in range(count)]


def mined(transaction, before=3, after=4):
    """(txids, header) of a block that holds the transaction."""
    txids = (
        [sha256(bytes([n])) for n in range(before)]
        + [transaction.txid]
        + [sha256(bytes([99, n])) for n in range(after)]
    )
    return txids, bytes(36) + merkle_root(txids) + bytes(12)


def proof_of(count=5, index=2, **shape):
    many = items(count)
    made = anchor.build_anchor(
        anchor.anchor_root(many), coin(1, 100_000, SELLER.script), change_script=SELLER.script, rate=RATE
    )
    signed = made.transaction.with_witness(0, [SELLER.sign_input(made.transaction, 0, [made.spent])])
    txids, header = mined(signed, **shape)
    return anchor.prove_anchor(many, index, transaction=signed, block_txids=txids, header=header)


@given(count=st.integers(1, 40), data=st.data(), before=st.integers(0, 9), after=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_item_leads_to_the_header_through_json(count, data, before, after):
    proof = proof_of(count, data.draw(st.integers(0, count - 1)), before=before, after=after)
    again = anchor.decode_anchor_proof(json.loads(json.dumps(anchor.encode_anchor_proof(proof))))
    assert again == proof
    assert anchor.check_anchor(again) == hash256(proof.header)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, item=replace(p.item, digest=sha256(b"other"))),
        lambda p: replace(p, item=replace(p.item, kind=AnchorKind.PRICE)),
        lambda p: replace(p, index=3),
        lambda p: replace(p, index=5),
        lambda p: replace(p, count=6),
        lambda p: replace(p, path=p.path[:-1]),
        lambda p: replace(p, path=(*p.path, p.path[0])),
        lambda p: replace(p, position=p.position ^ 1),
        lambda p: replace(p, position=p.position + 8),
        lambda p: replace(p, branch=p.branch[:-1]),
        lambda p: replace(p, header=p.header[:79]),
        lambda p: replace(p, header=bytes(80)),
        lambda p: replace(p, transaction=Transaction(version=2, inputs=p.transaction.inputs, outputs=())),
    ],
)
def test_a_proof_changed_in_one_thing_does_not_hold(change):
    with pytest.raises(WrongAnchorError):
        anchor.check_anchor(change(proof_of()))


def test_an_odd_last_item_is_never_paired_with_itself():
    three = items(3)
    assert anchor.anchor_root(three) != anchor.anchor_root([*three, three[-1]])


def test_items_of_another_kind_have_another_root_and_none_has_none():
    digest = sha256(b"x")
    roots = {anchor.anchor_root([AnchorItem(kind=kind, digest=digest)]) for kind in AnchorKind}
    assert len(roots) == 3
    with pytest.raises(InvalidInputError):
        anchor.anchor_root([])


def test_a_newer_anchor_replaces_the_older_by_the_same_coin_and_a_higher_fee():
    source = coin(1, 100_000, SELLER.script)
    arguments = {"change_script": SELLER.script}
    first = anchor.build_anchor(anchor.anchor_root(items(3)), source, rate=RATE, **arguments)
    second = anchor.build_anchor(anchor.anchor_root(items(4)), source, rate=RATE, replaces=first, **arguments)
    assert second.transaction.inputs[0].outpoint == first.transaction.inputs[0].outpoint
    assert second.fee >= first.fee + second.transaction.vsize
    assert first.fee + sum(o.value for o in first.transaction.outputs) == 100_000
    other = coin(2, 100_000, SELLER.script)
    with pytest.raises(InvalidInputError):
        anchor.build_anchor(anchor.anchor_root(items(4)), other, rate=RATE, replaces=first, **arguments)
    with pytest.raises(InsufficientFundsError):
        anchor.build_anchor(
            anchor.anchor_root(items(4)), coin(2, 500, SELLER.script), rate=SatsPerKvb(5_000), **arguments
        )


def test_a_block_without_the_anchor_proves_nothing():
    proof = proof_of()
    other = Transaction(
        version=2,
        inputs=(TxIn(outpoint=proof.transaction.inputs[0].outpoint),),
        outputs=(TxOut(value=Sats(1), script=b"\x51"),),
    )
    txids, header = mined(other)
    with pytest.raises(WrongAnchorError):
        anchor.prove_anchor(items(5), 0, transaction=proof.transaction, block_txids=txids, header=header)
    txids, header = mined(other)
    with pytest.raises(WrongAnchorError):
        anchor.prove_anchor(items(5), 0, transaction=other, block_txids=txids, header=header)


@pytest.mark.parametrize(
    "message", [None, [], {}, {"type": "btcfi/anchor-proof"}, {"type": "btcfi/anchor-proof", "version": 1}]
)
def test_another_file_is_named(message):
    with pytest.raises(InvalidInputError):
        anchor.decode_anchor_proof(message)
