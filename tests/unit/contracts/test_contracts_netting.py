"""A contract that both sides put into: what is signed before the funding, and everything that stops it."""

from dataclasses import replace

import pytest

from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts import netting, option, setup
from btcfi.contracts.buckets import Bucket
from btcfi.contracts.leaves import NETTED, TREES, witness_weight
from btcfi.contracts.messages import Role, decode_offer, encode_offer
from btcfi.contracts.netting import NettedSignatures
from btcfi.contracts.option import OptionContract, RefundTooEarlyError, WrongSignatureError
from btcfi.contracts.setup import CoinNotTheirsError
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import Height, Sats
from tests.support.contracts import BUYER, BUYER_SECRET, RATE, SELLER, SELLER_SECRET, Scene, coin, party
from tests.support.net_books import NetScene, condors, event_of

HOLDER, WRITER = {BUYER.script: BUYER}, {SELLER.script: SELLER}


class NoError(BtcfiError):
    """An owner says no."""


class No:
    def check_netted(self, agreement, role):
        raise NoError(f"not as {role.value}, {agreement.terms.collateral} sats")


@pytest.fixture(scope="module")
def scene():
    return NetScene(oracles=3, threshold=2)


@pytest.fixture(scope="module")
def agreement(scene):
    return scene.agreement()


@pytest.fixture(scope="module")
def signed(scene, agreement):
    return scene.signatures(agreement)


def test_both_sides_compute_the_same_bytes_and_each_has_both_s_signatures_before_the_funding(scene, agreement, signed):
    again = scene.agreement()
    holder, writer = signed
    netting.check(again, Role.BUYER, writer)
    netting.check(again, Role.SELLER, holder)
    funding = scene.funded(again, holder, writer)
    assert funding.txid == agreement.funding.transaction.txid
    refund = netting.complete_refund(again, holder=holder, writer=writer)
    assert (refund.version, refund.lock_time) == (3, scene.refund_height)
    assert {role for _, role in scene.owner.asked} == {Role.BUYER, Role.SELLER}


def test_the_funding_takes_from_each_what_it_puts_in_the_premium_and_its_fees_and_nothing_is_lost(scene, agreement):
    funding, terms = agreement.funding, scene.terms
    collateral, writer, holder = funding.transaction.outputs
    assert collateral.value == terms.collateral == scene.contract.holder + scene.contract.writer
    assert sum(one.value for one in funding.spent) == collateral.value + writer.value + holder.value + funding.fee
    spent = {one.script: one.value for one in funding.spent}
    assert spent[SELLER.script] - writer.value == terms.writer - terms.premium + funding.seller_fee
    assert spent[BUYER.script] - holder.value == terms.holder + terms.premium + funding.fee - funding.seller_fee
    # half of what is common to each, rounded up once a side
    assert abs(funding.fee - 2 * funding.seller_fee) <= 1


def test_a_premium_below_zero_goes_the_other_way(scene):
    funding = scene.agreement(terms=replace(scene.terms, premium=-7_000)).funding
    there = scene.agreement(terms=replace(scene.terms, premium=7_000)).funding
    for place, gains in ((1, -14_000), (2, 14_000)):
        assert funding.transaction.outputs[place].value - there.transaction.outputs[place].value == gains
    assert funding.fee == there.fee


def test_every_cet_and_the_refund_divide_the_collateral_to_the_satoshi(agreement):
    plan = agreement.plan
    for place in range(len(plan.buckets)):
        amounts = plan.split_of(place)
        assert amounts.buyer + amounts.seller + 240 + plan.cet_fee == plan.contract.collateral
        assert all(one == 0 or one >= 330 for one in (amounts.buyer, amounts.seller))
    refund = agreement.refund
    assert (refund.payout, refund.seller_return) == (agreement.terms.holder, agreement.terms.writer - 540)


@pytest.mark.parametrize(
    ("holder", "writer", "back", "rest"),
    [
        (0, 100_000, 0, 99_460),  # who puts nothing in gets nothing
        (100_000, 0, 99_460, 0),  # and what the writer cannot pay, the holder does
        (100_000, 540, 100_000, 0),
        (100_000, 704, 100_164, 0),  # what is nearer to nothing goes to the other side
        (100_000, 705, 99_835, 330),
        (164, 100_000, 0, 99_624),
        (165, 100_000, 330, 99_295),
    ],
)
def test_what_is_dust_in_a_refund_becomes_the_nearer_of_nothing_and_the_limit(agreement, holder, writer, back, rest):
    contract = replace(agreement.plan.contract, collateral=Sats(holder + writer))
    refund = netting.build_refund(contract, agreement.plan.funding, holder=Sats(holder), cet_fee=Sats(300))
    assert (refund.payout, refund.seller_return) == (back, rest)
    assert back + rest + 540 == holder + writer
    assert sum(output.value for output in refund.transaction.outputs) + 300 == holder + writer


def test_a_contract_whose_seller_could_take_all_by_a_leaf_has_no_split_refund(agreement):
    standard = replace(agreement.plan.contract, tree="standard")
    with pytest.raises(InvalidInputError) as refused:
        netting.build_refund(standard, agreement.plan.funding, holder=Sats(1_000), cet_fee=Sats(300))
    assert refused.value.field == "tree"


def test_nobody_takes_the_collateral_of_both_back_alone(agreement):
    contract = agreement.plan.contract
    assert contract.tree == NETTED
    assert len(contract.output().paths) == 1
    with pytest.raises(BtcfiError):
        witness_weight("refund", contract.keys, contract.output())
    with pytest.raises(BtcfiError):
        option.build_refund(contract, agreement.plan.funding, rate=RATE)


def test_no_offer_names_the_tree_whose_refund_its_messages_do_not_sign():
    assert NETTED not in TREES
    scene = Scene()
    said = encode_offer(scene.offer())
    assert decode_offer(said).terms.tree == "standard"
    with pytest.raises(InvalidInputError, match="tree"):
        decode_offer(said | {"tree": NETTED})
    with pytest.raises(InvalidInputError) as refused:
        setup.propose(replace(scene.terms, tree=NETTED), role=Role.SELLER, party=scene.seller)
    assert refused.value.field == "tree"


def wrong_signatures(theirs, other):
    flipped = bytearray(theirs.presignatures)
    flipped[-1] ^= 1
    refund = bytearray(theirs.refund)
    refund[40] ^= 1
    return {
        "a refund's byte": replace(theirs, refund=bytes(refund)),
        "no refund": replace(theirs, refund=b""),
        "a byte more": replace(theirs, refund=theirs.refund + b"\x01"),
        "our own refund signature": replace(theirs, refund=other.refund),
        "the last CET's byte": replace(theirs, presignatures=bytes(flipped)),
        "a CET less": replace(theirs, presignatures=theirs.presignatures[65:]),
        "nothing": NettedSignatures(presignatures=b"", refund=b""),
    }


SOME = NettedSignatures(presignatures=bytes(65), refund=bytes(64))


@pytest.mark.parametrize("name", wrong_signatures(SOME, SOME))
def test_nothing_is_paid_in_before_every_signature_of_the_other_side_is_right(scene, agreement, signed, name):
    holder, writer = signed
    for role, theirs, ours, wallet in ((Role.BUYER, writer, holder, HOLDER), (Role.SELLER, holder, writer, WRITER)):
        wrong = wrong_signatures(theirs, ours)[name]
        with pytest.raises((WrongSignatureError, WrongAdaptorError)):
            netting.sign_funding(agreement, role, wrong, wallet, owner=scene.owner)
        with pytest.raises((WrongSignatureError, WrongAdaptorError)):
            netting.complete_funding(agreement, role, wrong, {}, {})


def test_a_signature_of_another_refund_is_none_of_this_one(scene, agreement, signed):
    later = scene.agreement(terms=replace(scene.terms, refund_height=Height(scene.refund_height + 1)))
    wrong = netting.presign(later, Role.SELLER, SELLER_SECRET, owner=scene.owner)
    assert wrong.presignatures == signed[1].presignatures  # the CETs are the same: only the refund differs
    with pytest.raises(WrongSignatureError, match="refund"):
        netting.sign_funding(agreement, Role.BUYER, wrong, HOLDER, owner=scene.owner)


def test_an_owner_who_says_no_is_asked_before_the_first_signature(agreement, signed):
    with pytest.raises(NoError, match="buyer"):
        netting.presign(agreement, Role.BUYER, BUYER_SECRET, owner=No())
    with pytest.raises(NoError, match="seller"):
        netting.sign_funding(agreement, Role.SELLER, signed[0], WRITER, owner=No())


def test_only_what_the_agreement_books_for_a_side_is_signed_by_it(scene, signed):
    holder, writer = signed
    ours = netting.sign_funding(scene.agreement(), Role.BUYER, writer, {**HOLDER}, owner=scene.owner)
    assert set(ours) == {1}
    # the writer names a coin of the holder's as its own
    lying = NetScene(oracles=3, threshold=2)
    lying.writer = party(
        SELLER, SELLER_SECRET, [*scene.writer_coins, coin(9, 70_000, BUYER.script)]
    )  # fmt: skip
    with_ours = lying.agreement()
    _, theirs = lying.signatures(with_ours)
    with pytest.raises(CoinNotTheirsError):
        netting.sign_funding(with_ours, Role.BUYER, theirs, HOLDER, owner=scene.owner)
    assert holder.refund


def test_the_key_of_the_other_side_signs_nothing(scene, agreement):
    with pytest.raises(InvalidInputError) as refused:
        netting.presign(agreement, Role.BUYER, SELLER_SECRET, owner=scene.owner)
    assert refused.value.field == "secret key"


def test_a_funding_without_the_other_side_s_witness_is_not_sent(scene, agreement, signed):
    holder, writer = signed
    ours = netting.sign_funding(agreement, Role.BUYER, writer, HOLDER, owner=scene.owner)
    with pytest.raises(WrongSignatureError, match="seller"):
        netting.complete_funding(agreement, Role.BUYER, writer, {}, ours)
    with pytest.raises(WrongSignatureError, match="seller"):
        netting.complete_funding(agreement, Role.BUYER, writer, {0: ours[1]}, ours)
    assert holder.refund


def changed_buckets(scene):
    first, second, *rest = scene.buckets
    most = scene.terms.collateral
    return {
        "none": (),
        "one less at the end": scene.buckets[:-1],
        "one less at the start": scene.buckets[1:],
        "two exchanged": (second, first, *rest),
        "one twice": (first, first, second, *rest),
        "one of no digit": (Bucket(prefix=0, length=0, payout=Sats(1)),),
        "one of too many digits": (replace(first, prefix=0, length=19), *scene.buckets[1:]),
        "more than there is": (replace(first, payout=Sats(most + 1)), second, *rest),
        "less than nothing": (replace(first, payout=Sats(-1)), second, *rest),
    }


@pytest.mark.parametrize("name", changed_buckets(NetScene()))
def test_every_outcome_lies_in_exactly_one_range_or_there_is_no_contract(scene, name):
    with pytest.raises(InvalidInputError, match="buckets"):
        scene.agreement(buckets=changed_buckets(scene)[name])


def test_terms_that_make_no_contract_are_refused_by_their_name(scene):
    for field, changes in {
        "holder": {"holder": Sats(-1)}, "writer": {"writer": Sats(21 * 10**14 + 1)},
        "premium": {"premium": 22 * 10**14},
        "cet_fee_sats": {"cet_fee": Sats(299)}, "oracles": {"announcements": ()},
        "collateral": {"holder": Sats(540), "writer": Sats(0)}, "rate": {"rate": SatsPerKvb(999)},
        "block height": {"refund_height": Height(500_000_000)},  # 1985: open at once
    }.items():  # fmt: skip
        with pytest.raises(InvalidInputError) as refused:
            replace(scene.terms, **changes)
        assert field in {refused.value.field, getattr(refused.value, "unit", "")}


def test_a_side_without_a_coin_a_coin_twice_and_too_few_are_refused(scene):
    nobody = party(BUYER, BUYER_SECRET, [])
    with pytest.raises(InvalidInputError, match="no coin"):
        scene.agreement(holder=nobody)
    both = party(BUYER, BUYER_SECRET, scene.writer_coins)
    with pytest.raises(InvalidInputError, match="twice"):
        scene.agreement(holder=both)
    poor = party(BUYER, BUYER_SECRET, [coin(2, scene.contract.holder, BUYER.script)])
    with pytest.raises(InsufficientFundsError):
        scene.agreement(holder=poor)


def test_an_event_of_another_book_and_a_refund_too_early_are_refused(scene):
    other = event_of(condors(), since=0)
    with pytest.raises(BtcfiError):
        scene.agreement(event=replace(other, expiry=other.expiry + 60))
    with pytest.raises(RefundTooEarlyError):
        scene.agreement(terms=replace(scene.terms, refund_height=Height(scene.expiry_height + 1)))
    assert isinstance(scene.agreement().plan.contract, OptionContract)
