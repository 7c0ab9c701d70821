"""Contracts that end in one transaction: what it pays, and every lie that a party is told and refuses."""

from dataclasses import replace

import pytest

from btcfi.bitcoin import taproot
from btcfi.bitcoin.fees import SatsPerKvb, dust_limit
from btcfi.bitcoin.musig import KeyAggregate, Session
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, TxOut
from btcfi.contracts.anchor import AnchorItem, AnchorKind, anchor_root
from btcfi.contracts.batch import (
    MAX_CONTRACTS,
    Ending,
    NotAskedError,
    Seat,
    Side,
    build_batch,
    check_proposal,
    divide,
    share_of,
)
from btcfi.contracts.execution import Split
from btcfi.contracts.mandate import Bounds, CloseRule, OutsideMandateError
from btcfi.contracts.messages import Role
from btcfi.contracts.metadata import RecordType, record_script
from btcfi.contracts.option import CollateralTooSmallError, WrongSignatureError
from btcfi.contracts.settle import complete_cet
from btcfi.contracts.splice import MAX_VSIZE
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.units import Hash32, Sats, Txid
from tests.support.batching import COLLATERAL, COSTS, RATE, Table, ending, name_of, pays, wallet_of
from tests.support.contracts import PROOF_ROOT, Scene
from tests.support.mandates import authority

A, B, C = map(name_of, range(3))
SEED = 1


def table_of(*endings, rate=RATE):
    table = Table(0, rate=rate)
    for number, one in enumerate(endings):
        table.add(one, number)
    table.begin()
    return table


@pytest.fixture(scope="module")
def table():
    made = Table(6, 4, seed=SEED)
    assert {one.role for one in made.holdings(A)} == set(Role)  # so that it looks at both kinds of dues
    return made


# ---- what it pays


def test_64_contracts_of_16_owners_take_at_most_70_virtual_bytes_each():
    table = Table(64, 16)
    signed = table.run().signed
    assert signed.version == TRUC_VERSION
    assert signed.vsize <= 70 * 64
    assert len(signed.outputs) == 16 + 1
    batch = table.batch()
    assert batch.fee * 1000 >= signed.vsize * RATE
    assert batch.fee < signed.vsize * RATE // 1000 + 64 + 2  # each share is rounded up, and no more


def test_128_contracts_of_16_owners_fit_a_transaction_of_version_3():
    batch = Table(MAX_CONTRACTS, 16).batch()
    assert batch.transaction.weight // 4 + MAX_CONTRACTS * 17 < MAX_VSIZE
    with pytest.raises(InvalidInputError) as error:
        Table(MAX_CONTRACTS + 1, 16).batch()
    assert error.value.field == "batch contracts"
    with pytest.raises(InvalidInputError):  # its outputs would be too many
        Table(MAX_CONTRACTS, 100).batch()


def test_a_buyer_has_what_its_cet_pays_and_a_seller_more_while_the_share_is_below_what_a_cet_costs(table):
    batch = table.batch()
    assert batch.share < COSTS
    for owner in table.owners:
        by_cet = sum(
            one.cet.buyer if one.buyer.owner == owner else one.cet.seller
            for one in table.endings if owner in one.owners
        )  # fmt: skip
        sold = sum(one.seller.owner == owner for one in table.endings)
        assert batch.paid[owner] == by_cet + sold * (COSTS - batch.share)


def test_a_contracts_end_is_taken_from_the_cet_that_its_owner_has_complete():
    scene = Scene()
    agreement, accepted, signed, _ = scene.run()
    cet = complete_cet(
        agreement.plan, **scene.presignatures(accepted, signed), attestations=scene.attestations(12_500_000)
    )
    sides = {"buyer": Side(owner=A, key=scene.buyer.key), "seller": Side(owner=B, key=scene.seller.key)}
    one = Ending.of(agreement.plan, cet.bucket, **sides, proof_root=PROOF_ROOT)
    outputs = cet.transaction.outputs
    assert (one.cet.buyer, one.cet.seller) == (outputs[0].value, outputs[1].value)
    assert one.costs == outputs[2].value + agreement.terms.cet_fee
    batch = build_batch([one], {A: wallet_of(A).script, B: wallet_of(B).script}, rate=RATE)
    assert batch.paid[A] == outputs[0].value
    assert batch.paid[B] > outputs[1].value


@pytest.mark.parametrize(
    ("payout", "share", "expected"),
    [
        (400_000, 140, (400_000, 599_860)),  # the seller's CET bears its costs, so what is left of them is the seller's
        (400_000, COSTS, (400_000, 598_760)),
        (400_000, COSTS + 1_000, (399_600, 598_160)),  # beyond them each by what it receives, in whole satoshis
        (0, COSTS + 1_000, (0, 997_760)),  # who gets nothing pays nothing
        (1_000_000, 140, (999_860, 0)),  # nothing is the seller's: the buyer's CET bears its costs
        (1_000_000, COSTS + 1_000, (997_760, 0)),
    ],
)
def test_a_contracts_share_of_the_fee_comes_from_what_its_cet_costs_then_by_value_received(payout, share, expected):
    dues = ending(0, A, B, payout).dues(Sats(share))
    assert (dues.buyer, dues.seller) == expected
    assert dues.buyer + dues.seller + share == COLLATERAL


def test_outputs_are_netted_by_owner_whichever_side_of_which_contract_it_is():
    batch = table_of(ending(0, A, B, 400_000), ending(1, B, A, 300_000), ending(2, A, B, 900_000)).batch()
    values = {one.script: one.value for one in batch.transaction.outputs[:-1]}
    spare = COSTS - batch.share
    assert values == {
        wallet_of(A).script: 400_000 + 700_000 - COSTS + spare + 900_000,
        wallet_of(B).script: 600_000 - COSTS + spare + 300_000 + 100_000 - COSTS + spare,
    }


def test_an_owner_below_dust_drops_out_to_the_fee_and_is_shown():
    poor = replace(ending(0, C, A, 0), cet=Split(buyer=Sats(329), seller=Sats(COLLATERAL - COSTS - 329)))
    batch = table_of(poor, ending(1, A, B, 300_000)).batch()
    assert batch.dropped == {C: 329}
    assert batch.fee == 2 * batch.share + 329
    assert wallet_of(C).script not in {one.script for one in batch.transaction.outputs}
    assert batch.owners == (A, B, C)  # it has to sign: its contract's key path is its own, too
    rich = replace(poor, cet=Split(buyer=Sats(330), seller=Sats(COLLATERAL - COSTS - 330)))
    assert table_of(rich, ending(1, A, B, 300_000)).batch().dropped == {}


def test_an_owner_of_dust_signs_for_nothing_and_one_above_it_does_not():
    poor = replace(ending(0, C, A, 0), cet=Split(buyer=Sats(329), seller=Sats(COLLATERAL - COSTS - 329)))
    assert table_of(poor, ending(1, A, B, 300_000)).run().signed
    due = table_of(ending(0, C, A, 330), ending(1, A, B, 300_000))
    batch = due.batch()
    left = tuple(one for one in batch.transaction.outputs if one.script != wallet_of(C).script)
    with pytest.raises(InvalidInputError) as error:
        due.consider(C, changed(batch.proposal(C, 1), outputs=left))
    assert error.value.field == "batch.output"


def test_an_owner_that_is_just_above_dust_is_paid_to_the_satoshi_though_one_more_output_would_drop_it():
    """Of what is below dust the rule says nothing: an output of ours that is there is ours whole."""

    def two(buyer):
        small = replace(ending(0, C, A, 0, collateral=2_500, costs=240), cet=Split(buyer=buyer, seller=2_260 - buyer))
        return [small, ending(1, A, B, 300_000, costs=240)]

    shares = share_of(2, 3, RATE), share_of(2, 4, RATE)

    def edges(buyer):
        paid, beside = (two(buyer)[0].dues(share).buyer for share in shares)
        return paid > 330 > beside

    buyer = next(filter(edges, range(300, 500)))
    edge = table_of(*two(buyer))
    proposal = edge.batch().proposal(C, 1)
    assert edge.consider(C, proposal)
    with pytest.raises(InvalidInputError) as error:
        edge.seat(C).consider(
            outputs_with(edge, proposal, C, -1), edge.secrets(C), ours=edge.ours(C), authority=edge.right,
            entropy=bytes([9]) * 32,
        )  # fmt: skip
    assert error.value.field == "batch.output"


def test_owners_agree_to_a_share_that_takes_the_whole_of_a_contract_though_one_more_output_would_cost_more():
    tiny = ending(0, A, B, 1_100, collateral=1_340, costs=240)
    rate = next(SatsPerKvb(n) for n in range(1_000, 90_000) if share_of(3, 3, SatsPerKvb(n)) == 1_340)
    edge = table_of(tiny, ending(1, B, C, 300_000), ending(2, C, A, 300_000), rate=rate)
    assert share_of(3, 4, rate) > 1_340
    assert edge.run().signed


def test_hashes_of_many_inputs_at_once_are_those_of_each_by_itself(table):
    batch = table.batch()
    many = taproot.key_path_sighashes(batch.transaction, batch.spent, range(6))
    assert many == {index: taproot.sighash(batch.transaction, index, batch.spent) for index in range(6)}


def test_equal_contracts_in_any_order_make_equal_bytes(table):
    again = build_batch(table.endings[::-1], dict(reversed(table.scripts.items())), rate=RATE)
    assert again.transaction.to_bytes() == table.batch().transaction.to_bytes()


def test_contracts_that_pay_nobody_or_cannot_pay_their_share_are_refused():
    with pytest.raises(CollateralTooSmallError):
        table_of(ending(0, A, B, 0, collateral=1_000, costs=240), rate=SatsPerKvb(9_000)).batch()
    with pytest.raises(CollateralTooSmallError):
        table_of(ending(0, A, B, 0, collateral=660, costs=240), rate=SatsPerKvb(2_100)).batch()


@pytest.mark.parametrize(
    ("endings", "scripts", "field"),
    [
        ([], {}, "batch contracts"),
        ([ending(0, A, B, 5), ending(0, A, B, 5)], {}, "batch contracts"),
        ([replace(ending(0, A, B, 5), seller=Side(owner=A, key=ending(0, A, B, 5).seller.key))], {}, "batch contracts"),
        ([ending(0, A, B, 5)], {B: b""}, "batch scripts"),
        ([ending(0, A, B, 5)], {B: b"\x51"}, "batch scripts"),
    ],
)
def test_what_cannot_be_one_batch_is_refused_by_name(endings, scripts, field):
    with pytest.raises(InvalidInputError) as error:
        build_batch(endings, {A: wallet_of(A).script, B: wallet_of(B).script} | scripts, rate=RATE)
    assert error.value.field == field


def test_more_contracts_than_fit_are_divided_with_each_in_exactly_one_batch_that_fits():
    endings = Table(300, 90).endings
    parts = divide(endings)
    assert sorted(one.funding for part in parts for one in part) == sorted(one.funding for one in endings)
    for part in parts:
        build_batch(part, {owner: wallet_of(owner).script for one in part for owner in one.owners}, rate=RATE)
    assert [len(part) for part in divide(Table(128, 16).endings)] == [128]
    assert divide([]) == []


# ---- lies


def changed(proposal, *, number=None, rate=None, spent=None, branches=None, **transaction):
    said = {"number": number, "rate": rate, "spent": spent, "branches": branches}
    made = replace(proposal.transaction, **transaction)
    return replace(proposal, transaction=made, **{name: one for name, one in said.items() if one is not None})


def outputs_with(table, proposal, owner, more=0, script=None):
    """The proposal with an owner's output changed, and who sits first in the order otherwise bearing the difference."""
    own, found = wallet_of(owner).script, []
    taker = next(one.script for one in proposal.transaction.outputs if one.script != own)
    for one in proposal.transaction.outputs:
        if one.script == own:
            found.append(TxOut(value=Sats(one.value + more), script=script or own))
        elif one.script == taker:
            found.append(TxOut(value=Sats(one.value - more), script=taker))
        else:
            found.append(one)
    return changed(proposal, outputs=tuple(found))


def inputs_with(proposal, **changes):
    first, *others = proposal.transaction.inputs
    return changed(proposal, inputs=(replace(first, **changes), *others))


OTHER_ROOT = TxOut(value=Sats(0), script=record_script(RecordType.ANCHOR, Hash32(sha256(b"another"))))
PROOF = TxOut(value=Sats(0), script=record_script(RecordType.SETTLEMENT_PROOF, PROOF_ROOT))
THIEF = wallet_of(name_of(77)).script
STRANGER = OutPoint(txid=Txid(b"\x55" * 32), index=0)


def without_ours(table, p):
    ours = {one.ending.funding for one in table.holdings(A)}
    strangers = (replace(one, outpoint=replace(STRANGER, index=n)) if one.outpoint in ours else one
                 for n, one in enumerate(p.transaction.inputs))  # fmt: skip
    return changed(p, inputs=tuple(strangers))


def first_of_ours(table, p):
    ours = {one.ending.funding for one in table.holdings(A)}
    return next(n for n, one in enumerate(p.transaction.inputs) if one.outpoint in ours)


def at_others_cost(p, *outputs):
    """The proposal with these outputs instead of its record; somebody who is not us pays for what is more."""
    taker = max((one for one in p.transaction.outputs if one.script != wallet_of(A).script), key=lambda one: one.value)
    kept = [TxOut(value=Sats(one.value - 5_000), script=one.script) if one is taker else one
            for one in p.transaction.outputs[:-1]]  # fmt: skip
    return changed(p, outputs=(*kept, *outputs))


def said_to_hold(table, p):
    at = first_of_ours(table, p)
    spent = list(p.spent)
    spent[at] = TxOut(value=Sats(spent[at].value + 5_000), script=spent[at].script)
    return changed(p, spent=tuple(spent))


LIES = {
    "we are paid a satoshi less": ("batch.output", lambda t, p: outputs_with(t, p, A, -1)),
    "we are paid a satoshi more, which is another's": ("batch.output", lambda t, p: outputs_with(t, p, A, 1)),
    "our output goes elsewhere": ("batch.output", lambda t, p: outputs_with(t, p, A, script=THIEF)),
    "the fee rate is said to be more": ("batch.fee", lambda t, p: changed(p, rate=SatsPerKvb(2_100))),
    "the fee rate is said to be less": ("batch.output", lambda t, p: changed(p, rate=SatsPerKvb(1_900))),
    "somebody else is paid out of the fee": (
        "batch.fee", lambda t, p: changed(p, outputs=(TxOut(value=Sats(330), script=THIEF), *p.transaction.outputs)),
    ),
    "somebody else is paid, too": ("batch.output", lambda t, p: at_others_cost(
        p, TxOut(value=Sats(330), script=THIEF), p.transaction.outputs[-1])),
    "none of ours is in it": ("batch.inputs", without_ours),
    "our collateral is said to be more": ("batch.spent.", said_to_hold),
    "an input is another than was spent": ("batch.output", lambda t, p: changed(
        p, inputs=tuple(replace(one, outpoint=STRANGER) if n == first_of_ours(t, p) else one
                        for n, one in enumerate(p.transaction.inputs)))),
    "the root is another": (
        "batch.root.", lambda t, p: changed(p, outputs=(*p.transaction.outputs[:-1], OTHER_ROOT))),
    "the record is of one proof alone": (
        "batch.root", lambda t, p: changed(p, outputs=(*p.transaction.outputs[:-1], PROOF))),
    "there is no root": ("batch.root", lambda t, p: at_others_cost(p, TxOut(value=Sats(330), script=THIEF))),
    "two roots": ("batch.outputs", lambda t, p: changed(p, outputs=(*p.transaction.outputs, OTHER_ROOT))),
    "our branch is missing": ("batch.root.", lambda t, p: changed(p, branches={})),
    "our branch is another's": ("batch.root.", lambda t, p: changed(
        p, branches={n: one[::-1] for n, one in p.branches.items()})),
    "version 2, which can be pinned": ("batch.version", lambda t, p: changed(p, version=2)),
    "it cannot be mined for years": ("batch.lock_time", lambda t, p: changed(p, lock_time=2_000_000)),
    "an input has a lock of its own": ("batch.inputs", lambda t, p: inputs_with(p, sequence=4_000)),
    "an input has a script": ("batch.inputs", lambda t, p: inputs_with(p, script_sig=b"\x51")),
    "an input has a witness": ("batch.inputs", lambda t, p: inputs_with(p, witness=(b"\x01",))),
    "an input stands twice": (
        "batch.inputs", lambda t, p: changed(p, inputs=p.transaction.inputs[:-1] + p.transaction.inputs[:1])),
    "an output cannot be relayed": (
        "batch.outputs", lambda t, p: changed(p, outputs=(TxOut(value=Sats(1), script=THIEF), *p.transaction.outputs))),
    "an output is of no known type": (
        "batch.outputs",
        lambda t, p: changed(p, outputs=(TxOut(value=Sats(900), script=b"\x51"), *p.transaction.outputs))),
    "there are more outputs than owners can be": ("batch.outputs", lambda t, p: changed(
        p, outputs=(*[TxOut(value=Sats(330), script=THIEF)] * 12, *p.transaction.outputs))),
    "what is spent is said of fewer inputs": ("batch.spent", lambda t, p: changed(p, spent=p.spent[:-1])),
    "it has no outputs": ("batch.outputs", lambda t, p: changed(p, outputs=())),
    "it has no inputs": ("batch.inputs", lambda t, p: changed(p, inputs=(), spent=())),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_about_a_batch_is_refused_by_name_before_a_nonce_is_given(table, lie):
    field, make = LIES[lie]
    honest = table.batch().proposal(A, 1)
    holdings = {one.ending.funding: one for one in table.holdings(A)}
    assert check_proposal(honest, holdings, wallet_of(A).script, ours=table.ours(A))
    with pytest.raises(InvalidInputError) as error:
        table.seat(A).consider(
            make(table, honest),
            table.secrets(A),
            ours=table.ours(A),
            authority=table.right,
            entropy=sha256(lie.encode()),
        )
    assert error.value.field.startswith(field)


def equal_pair():
    """A table of two contracts of A and B that pay the same, and the batch of both that pays A for one alone."""
    table = Table(0)
    for number in (0, 1):
        table.add(ending(number, A, B, 400_000), number)
    table.begin()
    batch = table.batch()
    due = next(one.due(batch.share) for one in table.holdings(A))
    assert batch.paid[A] == 2 * due
    outputs = [TxOut(value=due, script=one.script) if one.script == wallet_of(A).script
               else replace(one, value=Sats(one.value + due)) if one.script == wallet_of(B).script else one
               for one in batch.transaction.outputs]  # fmt: skip
    return table, changed(batch.proposal(A, 1), outputs=tuple(outputs))


@pytest.mark.parametrize("held", [0, 1])
def test_two_equal_contracts_of_ours_that_are_shown_one_at_a_time_are_not_signed_for_one_output(held):
    """Each of two seats would find its due in the one output, and the counterparty have the other's."""
    table, theft = equal_pair()
    seat = Seat([table.holdings(A)[held]], script=wallet_of(A).script)
    with pytest.raises(InvalidInputError) as error:
        seat.consider(theft, table.secrets(A), ours=table.ours(A), authority=table.right, entropy=sha256(b"%d" % held))
    assert error.value.field == "batch.inputs"
    assert str(table.holdings(A)[1 - held].ending.funding) in str(error.value)
    with pytest.raises(InvalidInputError) as error:
        table.consider(A, theft)
    assert error.value.field == "batch.output"


def test_a_payout_that_is_not_its_cets_is_refused_by_both_sides_of_that_contract_and_by_nobody_else(table):
    """The coordinator knows another outcome than the oracles attested."""
    other = table.endings[0]
    moved = replace(other, cet=pays(other.cet.buyer + 5_000 if other.cet.buyer < 500_000 else other.cet.buyer - 5_000))
    batch = build_batch([moved, *table.endings[1:]], table.scripts, rate=RATE)
    refused = []
    for owner in table.owners:
        holdings = {one.ending.funding: one for one in table.holdings(owner)}
        try:
            check_proposal(batch.proposal(owner, 1), holdings, wallet_of(owner).script, ours=holdings)
        except InvalidInputError as e:
            refused.append((owner, e.field))
    assert sorted(refused) == [(owner, "batch.output") for owner in sorted(other.owners)]


def test_a_coordinator_that_shows_each_party_what_it_wants_to_see_gets_parts_that_do_not_add_up(table):
    """To everybody but A it shows A's money as its own; A sees the honest one."""
    table.begin()
    batch = table.batch()
    stolen = outputs_with(table, batch.proposal(A, 1), A, script=THIEF).transaction
    nonces = {}
    for owner in table.owners:
        honest = batch.proposal(owner, 1)
        shown = honest if owner == A else replace(honest, transaction=stolen)
        nonces[owner] = table.consider(owner, shown)
    partials = {}
    for owner in table.owners:
        both = {index: tuple(nonces[one][index] for one in batch.endings[index].owners)
                for index in batch.inputs_of(owner)}  # fmt: skip
        partials[owner] = table.sign(owner, 1, both)
    whole, shared = 0, 0
    for index, one in enumerate(batch.endings):
        both = [nonces[owner][index] for owner in one.owners]
        parts = [partials[owner][index] for owner in one.owners]
        for transaction in (batch.transaction, stolen):
            path = replace(batch, transaction=transaction).paths([index])[index]
            try:
                path.finish(both, parts)
            except WrongSignatureError:
                continue
            whole += transaction is stolen
            shared += A in one.owners
    assert shared == 0  # no input of A's can be spent, so neither transaction can be
    assert whole == sum(A not in one.owners for one in batch.endings)


# ---- nonces


def test_a_seat_signs_one_proposal_once_and_a_new_seat_knows_no_nonce_of_the_old(table):
    table.begin()
    batch = table.batch()
    nonces = {owner: table.consider(owner, batch.proposal(owner, 1)) for owner in table.owners}
    both = {index: tuple(nonces[one][index] for one in batch.endings[index].owners) for index in batch.inputs_of(A)}
    killed = table.seat(A)  # kill -9 between the rounds: its memory is gone
    for seat, number in ((killed, 1), (table.seats[A], 2), (table.seats[A], 0)):
        with pytest.raises(NotAskedError):
            seat.sign(number, both, table.secrets(A), authority=table.right)
    assert table.sign(A, 1, both)
    with pytest.raises(NotAskedError):
        table.sign(A, 1, both)


def test_a_later_proposal_forgets_the_nonces_of_the_one_before_and_an_earlier_one_is_refused(table):
    table.begin()
    batch = table.batch()
    first = {owner: table.consider(owner, batch.proposal(owner, 1)) for owner in table.owners}
    second = {owner: table.consider(owner, batch.proposal(owner, 2)) for owner in table.owners}
    assert not {one for said in first.values() for one in said.values()} & {
        one for said in second.values() for one in said.values()
    }
    for stale in (1, 2):
        with pytest.raises(NotAskedError):
            table.consider(A, batch.proposal(A, stale))
    both = {index: tuple(first[one][index] for one in batch.endings[index].owners) for index in batch.inputs_of(A)}
    with pytest.raises(NotAskedError):
        table.sign(A, 1, both)
    with pytest.raises(InvalidInputError):  # the old nonces as the new proposal's
        table.sign(A, 2, both)


def test_entropy_that_was_used_is_refused_and_gives_no_second_nonce(table):
    seat, batch = table.seat(A), table.batch()
    given = {"ours": table.ours(A), "authority": table.right}
    seat.consider(batch.proposal(A, 1), table.secrets(A), **given, entropy=b"\x07" * 32)
    for entropy in (b"\x07" * 32, b"", b"\x08" * 31):
        with pytest.raises(InvalidInputError) as error:
            seat.consider(batch.proposal(A, 2), table.secrets(A), **given, entropy=entropy)
        assert error.value.field == "nonce entropy"


def test_nonces_that_are_missing_or_none_or_not_ours_leave_all_of_ours_unused(table):
    table.begin()
    batch = table.batch()
    nonces = {owner: table.consider(owner, batch.proposal(owner, 1)) for owner in table.owners}
    both = {index: tuple(nonces[one][index] for one in batch.endings[index].owners) for index in batch.inputs_of(A)}
    last = max(both)
    for wrong in (
        {index: one for index, one in both.items() if index != last},
        both | {last: tuple(one if one == nonces[A][last] else bytes(66) for one in both[last])},
        both | {last: both[last][::-1]},
    ):
        with pytest.raises(InvalidInputError):
            table.sign(A, 1, wrong)
    assert table.sign(A, 1, both)  # none was used up


def test_a_partial_signature_holds_for_its_own_input_and_transaction_alone(table):
    table.begin()
    batch = table.batch()
    nonces = {owner: table.consider(owner, batch.proposal(owner, 1)) for owner in table.owners}
    index = batch.inputs_of(A)[0]
    both = {i: tuple(nonces[one][i] for one in batch.endings[i].owners) for i in batch.inputs_of(A)}
    partial = table.sign(A, 1, both)[index]
    one = batch.endings[index]
    aggregate = KeyAggregate([one.buyer.key, one.seller.key])
    aggregate.taproot_tweak(one.contract.output().root)
    signer = one.owners.index(A)
    other = build_batch(
        [each for each in table.endings if each is one or A not in each.owners], table.scripts, rate=RATE
    )
    digests = [taproot.sighash(batch.transaction, n, batch.spent) for n in range(len(batch.endings))]
    digests.append(taproot.sighash(other.transaction, 0, other.spent))
    holds = [Session(aggregate, both[index], digest).partial_is_valid(signer, partial) for digest in digests]
    assert holds == [n == index for n in range(len(digests))]


# ---- the owner's mandate


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"close": CloseRule.NEVER}, "close"),
        ({"close": CloseRule.GUEST}, "close.guest_input"),
        ({"close_rate": Bounds(least=1, most=1_999)}, "close.sats_per_kvb"),
        ({"close_fee": Sats(10)}, "close.fee_sats"),
    ],
)
def test_nothing_is_answered_that_the_owners_mandate_does_not_allow(table, changes, field):
    table.begin()
    right = authority(**({"close": CloseRule.AGREED} | changes))
    with pytest.raises(OutsideMandateError) as error:
        table.consider(A, table.batch().proposal(A, 1), authority=right)
    assert error.value.field == field
    batch = table.batch()
    nonces = {owner: table.consider(owner, batch.proposal(owner, 1)) for owner in table.owners}
    both = {i: tuple(nonces[one][i] for one in batch.endings[i].owners) for i in batch.inputs_of(A)}
    with pytest.raises(OutsideMandateError):  # it was changed between the rounds
        table.sign(A, 1, both, authority=right)


def test_the_root_of_a_batch_is_one_of_an_anchor_so_each_contract_is_proved_from_its_block(table):
    batch = table.batch()
    items = [AnchorItem(kind=AnchorKind.PROOF_ROOT, digest=one.proof_root) for one in batch.endings]
    assert batch.transaction.outputs[-1].script == record_script(RecordType.ANCHOR, anchor_root(items))


def test_a_share_is_known_from_the_numbers_of_inputs_and_outputs_alone(table):
    batch = table.batch()
    assert batch.share == share_of(len(batch.transaction.inputs), len(batch.transaction.outputs) - 1, RATE)
    assert all(one.value >= dust_limit(one.script) for one in batch.transaction.outputs)
