"""What both put into an opening, and by what each says yes: coins counted here, not by the code that builds it."""

from dataclasses import replace

import pytest

from btcfi.bitcoin.fees import SatsPerKvb, fee_for
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.setup import CoinNotTheirsError
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.opening import (
    Side,
    build_close,
    build_opening,
    check_opening,
    complete_opening,
    contribution,
    sign_opening,
)
from btcfi.errors import InvalidInputError
from btcfi.units import Sats, Txid
from tests.support.disputing import Dispute, secret

P, V = wallet_key(secret("p"), 0), wallet_key(secret("v"), 0)
RATE = SatsPerKvb(2_000)


def coin(key, number, value):
    outpoint = OutPoint(txid=Txid(secret("coin", number)), index=number)
    return Coin(outpoint=outpoint, output=TxOut(value=Sats(value), script=key.script))


@pytest.fixture(scope="module", params=["eager", "lazy"])
def dispute(request):
    return Dispute(claim_height=0 if request.param == "eager" else 10)


def opening(dispute, *, premium=300_000, p=(20_000_000,), v=(2_000_000,), graph=None):
    ours = contribution([coin(P, at, one) for at, one in enumerate(p)], P.script)
    theirs = contribution([coin(V, 10 + at, one) for at, one in enumerate(v)], V.script)
    graph = graph or Graph(dispute.terms, dispute.commitments)
    return build_opening(graph, premium=premium, rate=RATE, claimant=ours, verifier=theirs)


@pytest.mark.parametrize("premium", [300_000, 0, -200_000])
def test_each_side_puts_in_its_own_the_premium_passes_between_the_changes_and_each_pays_its_fee(dispute, premium):
    made = opening(dispute, premium=premium)
    change = {key.script: one.value for one in made.transaction.outputs for key in (P, V) if one.script == key.script}
    assert change[P.script] == 20_000_000 - dispute.locked + premium - made.fees[Side.CLAIMANT]
    assert change[V.script] == 2_000_000 - dispute.challenge_bond - premium - made.fees[Side.VERIFIER]
    assert made.transaction.outputs[:-2] == Graph(dispute.terms, dispute.commitments).open_txouts
    signed = complete_opening(
        made, claimant=sign_opening(made, Side.CLAIMANT, {P.script: P}),
        verifier=sign_opening(made, Side.VERIFIER, {V.script: V}),
    )  # fmt: skip
    least = fee_for(signed.vsize, RATE)
    assert least <= sum(made.fees.values()) <= least + 20


def test_a_side_without_enough_or_without_any_coin_makes_no_opening(dispute):
    with pytest.raises(InsufficientFundsError):
        opening(dispute, p=(dispute.locked - 300_000,))
    with pytest.raises(InvalidInputError, match="verifier's coins"):
        opening(dispute, premium=0, v=())


def test_a_coin_that_both_name_is_refused(dispute):
    same = coin(P, 0, 20_000_000)
    with pytest.raises(InvalidInputError, match="twice"):
        build_opening(
            Graph(dispute.terms, dispute.commitments), premium=0, rate=RATE, claimant=contribution([same], P.script),
            verifier=contribution([same], V.script),
        )  # fmt: skip


def test_an_input_that_is_booked_for_the_other_side_is_never_signed_by_us(dispute):
    made = opening(dispute)
    with pytest.raises(CoinNotTheirsError):
        sign_opening(made, Side.VERIFIER, {V.script: V, P.script: P})


def test_witnesses_that_are_missing_foreign_or_of_another_opening_are_refused(dispute):
    made, other = opening(dispute), opening(dispute, premium=300_001)
    good = sign_opening(made, Side.CLAIMANT, {P.script: P})
    check_opening(made, Side.CLAIMANT, good)
    for wrong in (
        {},
        {0: (bytes(64),)},
        {1: good[0]},
        good | {1: good[0]},
        {0: ()},
        sign_opening(other, Side.CLAIMANT, {P.script: P}),
    ):
        with pytest.raises(WrongSignatureError, match="claimant"):
            check_opening(made, Side.CLAIMANT, wrong)


def closing(dispute, payout):
    made = opening(dispute)
    graph = Graph(dispute.terms, dispute.commitments, made.transaction.txid)
    return build_close(graph, payout=Sats(payout), rate=RATE)


def played(dispute, close):
    nonces = {
        Side.CLAIMANT: close.nonces(dispute.p.open, [secret("a", at) for at in range(len(close.outputs))]),
        Side.VERIFIER: close.nonces(dispute.v.open, [secret("b", at) for at in range(len(close.outputs))]),
    }
    public = {side: [one.public for one in some] for side, some in nonces.items()}
    own = {Side.CLAIMANT: dispute.p.open, Side.VERIFIER: dispute.v.open}
    return public, {
        side: close.sign(own[side], nonces[side], public[Side.CLAIMANT], public[Side.VERIFIER]) for side in Side
    }


def test_a_close_needs_both_and_names_the_side_whose_part_is_wrong(dispute):
    close = closing(dispute, 5_000_000)
    public, partials = played(dispute, close)
    closed = close.finish(public, partials)
    assert closed.outputs[0].value == 5_000_000 + dispute.challenge_bond
    fee = sum(one.value for one in close.graph.open_txouts) - sum(one.value for one in closed.outputs)
    assert fee_for(closed.vsize, RATE) <= fee <= fee_for(closed.vsize, RATE) + 20
    for side in Side:
        wrong = [*partials[side][:-1], bytes(31) + b"\x01"]
        with pytest.raises(WrongSignatureError, match=side.value):
            close.finish(public, partials | {side: wrong})


def test_a_close_never_pays_more_than_is_locked(dispute):
    with pytest.raises(InvalidInputError, match="payout_sats"):
        closing(dispute, dispute.locked + 1)
    with pytest.raises(InvalidInputError, match="fee"):
        closing(dispute, dispute.locked)


def test_a_coin_whose_witness_could_change_the_txid_is_refused(dispute):
    strange = coin(P, 0, 20_000_000)
    strange = replace(strange, output=TxOut(value=strange.value, script=b"\x00\x20" + bytes(32)))
    with pytest.raises(InvalidInputError, match="another type"):
        build_opening(
            Graph(dispute.terms, dispute.commitments), premium=0, rate=RATE,
            claimant=contribution([strange], P.script), verifier=contribution([coin(V, 1, 900_000)], V.script),
        )  # fmt: skip
