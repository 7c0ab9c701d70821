"""Transfer and roll in one transaction: what each side compares before it signs, and who can do what to whom."""

import json
from dataclasses import fields, replace

import pytest

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.fees import DUST_P2TR, SatsPerKvb
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.musig import NonceUsedError
from btcfi.bitcoin.transaction import TRUC_VERSION, OutPoint, TxOut
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts import reopen
from btcfi.contracts.buckets import ToleranceRule
from btcfi.contracts.mandate import Bounds, CloseRule, OutsideMandateError
from btcfi.contracts.messages import ContractTerms, Role, contract_id
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.reopen import (
    Held,
    Leaving,
    NotSecuredError,
    Reopening,
    Stage,
    TooLateToReopenError,
    Word,
    check_word,
    stage_of,
    undone_by,
)
from btcfi.contracts.setup import CoinNotTheirsError
from btcfi.contracts.splice import CoinMissingError, Owner, build_splice, coin_fee, most_fee
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import WrongAnnouncementError
from btcfi.units import BasisPoints, Hash32, Height, Sats, Txid, UnixSeconds
from tests.support.contracts import BUYER, BUYER_SECRET, COLLATERAL, SEED, SELLER, SELLER_SECRET, Scene, coin
from tests.support.reopening import NEWCOMER, NOW, OLD_KEYS, PRICE, UNTIL, WALLETS, Found, Reopens, Signing, half

HOLDER_COIN, SELLER_COIN = coin(22, 50_000, BUYER.script), coin(23, 40_000, SELLER.script)


@pytest.fixture(scope="module")
def transfer():
    return Reopens().transfer()


@pytest.fixture(scope="module")
def all_bring():
    return Reopens(holder_coins=(HOLDER_COIN,), seller_coins=(SELLER_COIN,)).transfer()


def signed_by_all(transaction, spent):
    for index, txin in enumerate(transaction.inputs):
        (signature,) = txin.witness
        digest = taproot.sighash(transaction, index, spent)
        assert secp256k1.schnorr_verify(spent[index].script[2:], digest, signature)


# ---- what comes of it


def test_a_transfer_pays_the_holder_its_price_to_the_satoshi_and_the_newcomer_price_and_fee(transfer):
    reopened, _, signed = transfer.run()
    splice = reopened.splice
    assert signed.txid == splice.transaction.txid  # known before anybody signed
    assert signed.version == TRUC_VERSION
    assert signed.outputs[:2] == (
        TxOut(value=COLLATERAL, script=reopened.plan.contract.funding_txout().script),
        TxOut(value=PRICE, script=BUYER.script),
    )
    nets = {owner: splice.net(owner) for owner in Owner}
    assert nets == {Owner.SELLER: 0, Owner.HOLDER: PRICE, Owner.NEWCOMER: -PRICE - splice.fee}
    signed_by_all(signed, splice.spent)
    assert splice.fee * 1000 >= signed.vsize * reopened.terms.rate


def test_after_a_transfer_every_settlement_pays_the_seller_what_it_would_have_been_paid(transfer):
    reopened = transfer.agreed()
    old, new = transfer.old.plan, reopened.plan
    assert new.buckets == old.buckets
    assert [new.split_of(n) for n in range(len(new.buckets))] == [old.split_of(n) for n in range(len(old.buckets))]
    assert new.contract.refund_height == old.contract.refund_height
    assert new.contract.seller_script == old.contract.seller_script


def test_a_roll_takes_at_most_200_virtual_bytes_and_pays_both_by_what_the_two_contracts_cost():
    scene = Reopens().roll(payout=500_000)
    reopened, _, signed = scene.run()
    assert signed.vsize <= 200
    assert reopened.splice.net(Owner.HOLDER) == 500_000 - 50_000  # the old leg's worth less the new premium
    returned = COLLATERAL - 500_000 - 9_000_000 + 50_000
    assert reopened.splice.net(Owner.SELLER) == returned - reopened.splice.fee
    signed_by_all(signed, reopened.splice.spent)


def test_a_roll_into_a_larger_contract_takes_the_sellers_coins_and_a_dearer_one_the_holders():
    seller_coin, holder_coin = coin(24, 3_000_000, SELLER.script), coin(25, 90_000, BUYER.script)
    scene = Reopens(seller_coins=(seller_coin,), holder_coins=(holder_coin,)).roll(payout=10_000, quantity=12)
    reopened, _, signed = scene.run()
    assert signed.outputs[0].value == 12_000_000
    assert reopened.splice.net(Owner.HOLDER) == 10_000 - 50_000 - reopened.splice.fees[Owner.HOLDER]
    signed_by_all(signed, reopened.splice.spent)
    with pytest.raises(InsufficientFundsError):
        Reopens(holder_coins=(holder_coin,)).roll(payout=10_000, quantity=12).agreed()


def test_a_contract_that_was_transferred_is_transferred_again():
    first = Reopens().transfer()
    reopened, _, _ = first.run()
    again, key = Reopens(), wallet_key(SEED, 0, account=4)
    fourth = half(key, wallet_key(SEED, 2, account=4).secret, [coin(26, 800_000, key.script)])
    again.held = Held.of(reopened)
    again.transfer(leaving=Leaving(script=NEWCOMER.script), newcomer=fourth)
    other = again.agreed()
    assert other.statement.old.outpoint == reopened.splice.outpoint
    assert other.splice.paid[Owner.HOLDER] == PRICE
    assert other.id != reopened.id


def test_whoever_brings_a_coin_pays_for_that_coin_alone(transfer, all_bring):
    plain, full = transfer.agreed().splice, all_bring.agreed().splice
    assert full.net(Owner.HOLDER) == PRICE - full.fees[Owner.HOLDER]
    assert full.net(Owner.SELLER) == -full.fees[Owner.SELLER]
    assert full.fees[Owner.NEWCOMER] < plain.fees[Owner.NEWCOMER]  # the holder's output is the holder's to pay
    _, _, signed = all_bring.run()
    signed_by_all(signed, full.spent)
    assert full.fee * 1000 >= signed.vsize * full.rate


@pytest.mark.parametrize("price", [0, DUST_P2TR - 1, COLLATERAL + 1])
def test_a_price_below_dust_or_above_what_the_contract_can_pay_is_refused(price):
    with pytest.raises(InvalidInputError) as error:
        Reopens().transfer(price=Sats(price))
    assert error.value.field == "price_sats"


def test_a_contract_of_an_earlier_version_is_watched_to_its_end_and_not_reopened():
    scene = Reopens()
    old = Scene().of_version(2)
    scene.held = replace(scene.held, terms=old.terms)
    with pytest.raises(InvalidInputError) as error:
        scene.transfer().agreed()
    assert error.value.field == "offer.version"


# ---- lies


def attempts(scene, reopened, victim, **changes):
    """Every signature that an owner can be asked for, by its own word."""
    word, right = scene.word(victim), changes.get("right") or scene.right()
    moment = changes.get("moment") or scene.moment(reopened)
    secured = reopen.Secured.of(reopened, victim)
    tries = []
    if not word.leaves:
        tries.append(
            lambda: reopen.presign_new(reopened, word, scene.new_secret(victim), authority=right, moment=moment)
        )
    tries.append(
        lambda: reopen.sign_coins(
            reopened, word, WALLETS[victim], secured=secured, authority=right, moment=moment
        )
    )  # fmt: skip
    if word.held is not None and reopened.statement.old == scene.statement.old:
        path = Reopening(reopened, scene.held, **OLD_KEYS)
        secret = SELLER_SECRET if victim is Owner.SELLER else BUYER_SECRET
        nonces = [path.nonce(BUYER_SECRET, bytes([1]) * 32), path.nonce(SELLER_SECRET, bytes([2]) * 32)]
        own = nonces[victim is Owner.SELLER]
        public = [one.public for one in nonces]
        tries.append(lambda: path.sign(word, secret, own, public, secured=secured, authority=right, moment=moment))
    return tries


def dues(statement, **changes):
    named = {Owner(name): amount for name, amount in changes.items()}
    return replace(statement, dues={owner: amount + named.get(owner, 0) for owner, amount in statement.dues.items()})


def terms(statement, **changes):
    return replace(statement, terms=replace(statement.terms, **changes))


THIEF = NEWCOMER.script[:-1] + b"\x01"
ANOTHER_KEY = secp256k1.public_key_compressed(b"\x07" * 32)

LIES = {
    "the price is a satoshi less": (Owner.HOLDER, "reopening.net", lambda s: dues(s, holder=-1, newcomer=1)),
    "the price is a satoshi more": (Owner.NEWCOMER, "reopening.net", lambda s: dues(s, holder=1, newcomer=-1)),
    "the price goes elsewhere": (
        Owner.HOLDER, "reopening.holder.script", lambda s: replace(s, leaving=replace(s.leaving, script=THIEF))),
    "the holder's coin is left out": (
        Owner.HOLDER, "reopening.holder.coins", lambda s: replace(s, leaving=replace(s.leaving, coins=()))),
    "the seller's coin is left out": (
        Owner.SELLER, "reopening.seller.coins", lambda s: replace(s, seller=replace(s.seller, coins=()))),
    "the seller pays the fee": (Owner.SELLER, "reopening.net", lambda s: replace(s, payer=Owner.SELLER)),
    "the holder pays the fee": (Owner.HOLDER, "reopening.net", lambda s: replace(s, payer=Owner.HOLDER)),
    "a part of the collateral goes to the holder": (
        Owner.SELLER, "reopening.terms.collateral",
        lambda s: dues(terms(s, collateral=Sats(COLLATERAL - 1_000)), holder=1_000)),
    "a part of the collateral goes to the newcomer": (
        Owner.SELLER, "reopening.terms.collateral",
        lambda s: dues(terms(s, collateral=Sats(COLLATERAL - 1_000)), newcomer=1_000)),
    "the seller's key is another": (
        Owner.SELLER, "reopening.seller.key", lambda s: replace(s, seller=replace(s.seller, key=ANOTHER_KEY))),
    "the seller's settlement goes elsewhere": (
        Owner.SELLER, "reopening.seller.payout_script",
        lambda s: replace(s, seller=replace(s.seller, payout_script=THIEF))),
    "the seller's change goes elsewhere": (
        Owner.SELLER, "reopening.seller.change_script",
        lambda s: replace(s, seller=replace(s.seller, change_script=THIEF))),
    "the newcomer's key is another": (
        Owner.NEWCOMER, "reopening.newcomer.key", lambda s: replace(s, buyer=replace(s.buyer, key=ANOTHER_KEY))),
    "the newcomer's payout goes elsewhere": (
        Owner.NEWCOMER, "reopening.newcomer.payout_script",
        lambda s: replace(s, buyer=replace(s.buyer, payout_script=THIEF))),
    "the newcomer's change goes elsewhere": (
        Owner.NEWCOMER, "reopening.newcomer.change_script",
        lambda s: replace(s, buyer=replace(s.buyer, change_script=THIEF))),
    "the newcomer brings one more coin": (
        Owner.NEWCOMER, "reopening.newcomer.coins",
        lambda s: replace(s, buyer=replace(s.buyer, coins=(*s.buyer.coins, coin(30, 9_000, NEWCOMER.script))))),
    "the word stands longer, to the holder": (
        Owner.HOLDER, "reopening.valid_until", lambda s: replace(s, valid_until=UnixSeconds(UNTIL + 1))),
    "the word stands longer, to the seller": (
        Owner.SELLER, "reopening.valid_until", lambda s: replace(s, valid_until=UnixSeconds(UNTIL + 1))),
    "the word stands longer, to the newcomer": (
        Owner.NEWCOMER, "reopening.valid_until", lambda s: replace(s, valid_until=UnixSeconds(UNTIL + 1))),
    "another contract of the holder's is spent": (
        Owner.HOLDER, "reopening.old.outpoint",
        lambda s: replace(s, old=replace(s.old, outpoint=OutPoint(txid=Txid(b"\x55" * 32), index=0)))),
    "another contract of the seller's is spent": (
        Owner.SELLER, "reopening.old.outpoint",
        lambda s: replace(s, old=replace(s.old, outpoint=OutPoint(txid=Txid(b"\x55" * 32), index=0)))),
    "the old collateral is said to be less": (
        Owner.SELLER, "reopening.old.output",
        lambda s: dues(replace(s, old=coin_of(s.old, -1_000)), holder=-1_000)),
    "the holder is said to stay": (
        Owner.HOLDER, "reopening.leaving",
        lambda s: replace(s, leaving=None, dues={Owner.HOLDER: 0}, payer=Owner.HOLDER)),
    "the newcomer is said to have been the holder": (
        Owner.NEWCOMER, "reopening.leaving",
        lambda s: replace(s, leaving=None, dues={Owner.HOLDER: 0}, payer=Owner.HOLDER)),
}  # fmt: skip


def coin_of(old, change):
    return replace(old, output=replace(old.output, value=Sats(old.value + change)))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_by_its_name_by_whom_it_harms_and_nothing_is_signed(all_bring, lie):
    victim, field, change = LIES[lie]
    reopened = all_bring.agreed(change(all_bring.statement))
    tries = attempts(all_bring, reopened, victim)
    assert tries
    for one in tries:
        with pytest.raises(InvalidInputError) as error:
            one()
        assert error.value.field == field


CHANGED = {
    "option": {"kind": "put"}, "premium": Sats(50_001), "expiry_height": Height(199), "refund_height": Height(351),
    "rate": SatsPerKvb(2_001), "rule": ToleranceRule(tolerance=BasisPoints(1)), "breakpoints": (), "cet_fee": Sats(999),
    "collateral": Sats(COLLATERAL - 2), "announcements": None, "threshold": 2, "tree": "proof_required",
    "release_hash": Hash32(b"\x03" * 32), "version": 2,
}  # fmt: skip
"""Every term of a contract, and another value of it. Of two announcements the second is a stranger's."""


def test_the_changed_terms_are_all_that_a_contract_has():
    assert set(CHANGED) == {one.name for one in fields(ContractTerms)}


@pytest.mark.parametrize("owner", [Owner.SELLER, Owner.NEWCOMER])
@pytest.mark.parametrize("name", CHANGED)
def test_every_term_of_the_new_contract_is_compared_by_both_its_sides(transfer, owner, name):
    reopened = transfer.agreed()
    value = CHANGED[name] if name != "announcements" else reopened.terms.announcements * 2
    said = reopened.terms
    changed = object.__new__(ContractTerms)  # some of these no message could say: here they come as they are
    for one in fields(ContractTerms):
        object.__setattr__(changed, one.name, value if one.name == name else getattr(said, one.name))
    lying = replace(reopened, statement=replace(reopened.statement, terms=changed))
    with pytest.raises(InvalidInputError) as error:
        check_word(lying, transfer.word(owner))
    assert error.value.field == f"reopening.terms.{name}"


@pytest.mark.parametrize("victim", [Owner.HOLDER, Owner.SELLER])
def test_a_coin_of_ours_that_another_names_as_its_own_is_refused_and_nothing_is_signed(all_bring, victim):
    script = next(iter(WALLETS[victim]))
    stolen = replace(all_bring.statement.buyer, coins=(coin(21, 800_000, NEWCOMER.script), coin(31, 70_000, script)))
    reopened = all_bring.agreed(replace(all_bring.statement, buyer=stolen))
    for one in attempts(all_bring, reopened, victim):
        with pytest.raises(CoinNotTheirsError) as error:
            one()
        assert error.value.party == "newcomer"


def test_a_side_signs_its_own_coins_and_no_other_that_its_keys_fit(all_bring):
    signing = Signing(all_bring)
    signing.presign()
    signing.secure()
    splice = signing.reopened.splice
    every = {script: key for wallet in WALLETS.values() for script, key in wallet.items()}
    for owner, own in splice.inputs.items():
        made = reopen.sign_coins(
            signing.reopened, all_bring.word(owner), every, secured=signing.secured.get(owner),
            authority=signing.right, moment=signing.moment,
        )  # fmt: skip
        assert set(made) == set(own)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (None, "is spent, or was never there"),
        (lambda output: Found(output, is_spendable=False), "is in no block yet"),
        (lambda output: Found(replace(output, value=Sats(output.value - 1))), "is another amount or script"),
    ],
)
@pytest.mark.parametrize("owner", Owner)
def test_nobody_signs_for_an_input_that_its_own_node_does_not_have_in_a_block_as_it_was_said(
    transfer, owner, index, found, problem
):
    reopened = transfer.agreed()
    txin, output = reopened.splice.transaction.inputs[index], reopened.splice.spent[index]
    seen = dict(transfer.moment(reopened).seen)
    if found is None:
        del seen[txin.outpoint]
    else:
        seen[txin.outpoint] = found(output)
    for one in attempts(transfer, reopened, owner, moment=transfer.moment(reopened, seen=seen)):
        with pytest.raises(CoinMissingError) as error:
            one()
        assert error.value.owner == ("newcomer" if index else "the contract")
        assert problem in str(error.value)


# ---- time


LATE = {
    "its deadline": {"now": UNTIL},
    "an attestation": {"attested": True},
    "the expiry": {"expired": True},
    "the last blocks": {"tip": Height(200 - reopen.LAST_BLOCKS + 1)},
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("owner", Owner)
def test_nobody_signs_after_the_deadline_an_attestation_or_in_the_last_twelve_blocks(transfer, owner, late):
    reopened = transfer.agreed()
    for one in attempts(transfer, reopened, owner, moment=transfer.moment(reopened, **LATE[late])):
        with pytest.raises(TooLateToReopenError):
            one()


@pytest.mark.parametrize("owner", Owner)
def test_twelve_blocks_before_the_expiry_and_a_second_before_the_deadline_it_is_still_signed(transfer, owner):
    reopened = transfer.agreed()
    moment = transfer.moment(reopened, tip=Height(200 - reopen.LAST_BLOCKS), now=UnixSeconds(UNTIL - 1))
    for one in attempts(transfer, reopened, owner, moment=moment):
        assert one() is not None


def test_of_a_roll_the_earlier_expiry_counts_so_the_old_contracts_settlement_cannot_overtake_it():
    scene = Reopens(height=185).roll()
    reopened = scene.agreed()
    assert reopened.terms.expiry_height > scene.held.terms.expiry_height
    for owner in (Owner.SELLER, Owner.HOLDER):
        with pytest.raises(TooLateToReopenError):
            reopen.check_moment(reopened, scene.word(owner), scene.moment(reopened, tip=Height(189)))


def test_ones_own_word_may_end_before_the_statement_does_not(transfer):
    reopened = transfer.agreed()
    word = transfer.word(Owner.HOLDER, valid_until=UnixSeconds(UNTIL + 60))
    with pytest.raises(TooLateToReopenError):
        reopen.check_moment(reopened, word, transfer.moment(reopened, now=UNTIL))


# ---- the owner's mandate


@pytest.mark.parametrize("owner", [Owner.SELLER, Owner.HOLDER])
def test_who_may_close_at_no_agreed_price_transfers_nothing(transfer, owner):
    reopened = transfer.agreed()
    for rule in (CloseRule.NEVER, CloseRule.GUEST):
        with pytest.raises(OutsideMandateError):
            reopen.ask(reopened, transfer.word(owner), transfer.right(close=rule))


def test_a_newcomer_is_asked_for_the_contract_at_its_price_as_the_premium(transfer):
    reopened, word = transfer.agreed(), transfer.word(Owner.NEWCOMER)
    reopen.ask(reopened, word, transfer.right(premium=Bounds(least=PRICE, most=PRICE)))
    with pytest.raises(OutsideMandateError) as error:
        reopen.ask(reopened, word, transfer.right(premium=Bounds(least=0, most=PRICE - 1)))
    assert error.value.field == "premium_sats"


def test_a_seller_whose_terms_stay_what_they_are_is_not_asked_for_a_new_contract_and_of_a_roll_it_is(transfer):
    reopen.ask(transfer.agreed(), transfer.word(Owner.SELLER), transfer.right(collateral=Bounds(least=0, most=0)))
    scene = Reopens().roll()
    for owner in (Owner.SELLER, Owner.HOLDER):
        with pytest.raises(OutsideMandateError) as error:
            reopen.ask(scene.agreed(), scene.word(owner), scene.right(collateral=Bounds(least=0, most=1)))
        assert error.value.field == "collateral_sats"


def test_the_fee_rate_is_inside_what_the_mandate_allows_of_a_close(transfer):
    with pytest.raises(OutsideMandateError) as error:
        reopen.ask(
            transfer.agreed(), transfer.word(Owner.HOLDER), transfer.right(close_rate=Bounds(least=0, most=1_999))
        )  # fmt: skip
    assert error.value.field == "close.sats_per_kvb"


@pytest.mark.parametrize("owner", Owner)
def test_every_signature_asks_the_mandate(all_bring, owner):
    reopened = all_bring.agreed()
    for one in attempts(all_bring, reopened, owner, right=all_bring.right(networks=("main",), unbidden=False)):
        with pytest.raises(OutsideMandateError) as error:
            one()
        assert error.value.field == "network"


def test_a_party_of_a_script_that_no_node_relays_or_an_announcement_of_nobodys_is_refused(transfer):
    statement = transfer.statement
    for odd in (
        replace(statement, buyer=replace(statement.buyer, payout_script=b"\x6a\x01\x00")),
        replace(statement, seller=replace(statement.seller, payout_script=b"\x51")),
    ):
        with pytest.raises(InvalidInputError):
            transfer.agreed(odd)
    (announcement,) = statement.terms.announcements
    forged = replace(announcement, signature=bytes(64))
    with pytest.raises(WrongAnnouncementError):
        transfer.agreed(terms(statement, announcements=(forged,)))


def test_two_transfers_have_two_transactions_and_two_contracts_two_names(transfer):
    first, statement = transfer.agreed(), transfer.statement
    dearer = transfer.agreed(dues(statement, holder=1, newcomer=-1))
    elsewhere = transfer.agreed(replace(statement, buyer=replace(statement.buyer, payout_script=SELLER.script)))
    assert elsewhere.splice.transaction.txid == first.splice.transaction.txid
    assert elsewhere.id != first.id
    assert dearer.splice.transaction.txid != first.splice.transaction.txid
    made = {reopen.Secured.of(one, Owner.SELLER) for one in (first, dearer, elsewhere)}
    assert len(made) == 3  # what was checked of one secures nobody in another


def test_a_contract_that_came_from_a_reopening_is_computed_from_its_offer_its_answer_and_its_origin(all_bring):
    for scene in (all_bring, Reopens().roll()):
        reopened, statement = scene.agreed(), scene.statement
        origin = reopen.decode_origin(json.loads(json.dumps(reopen.encode_origin(statement.origin))))
        assert origin == statement.origin
        again = scene.agreed(origin.statement(statement.offer, statement.buyer))
        assert (again.id, again.splice.transaction) == (reopened.id, reopened.splice.transaction)
        agreement = reopened.agreement()
        assert agreement.funding.outpoint == reopened.plan.funding
        assert agreement.id == contract_id(statement.offer, statement.buyer)
        with pytest.raises(InvalidInputError):
            origin.statement(replace(statement.offer, role=Role.BUYER), statement.buyer)
    good = reopen.encode_origin(all_bring.statement.origin)
    for bad in ({**good, "payer": "desk"}, {**good, "dues": {"desk": 1}}, {**good, "more": 1}, {**good, "old": {}}):
        with pytest.raises(InvalidInputError):
            reopen.decode_origin(bad)


def test_more_coins_than_a_version_3_transaction_holds_or_a_party_may_bring_are_refused():
    many = [replace(HOLDER_COIN, outpoint=OutPoint(txid=Txid(b"\x66" * 32), index=n)) for n in range(101)]
    for count, field in ((101, "holder's coins"), (100, "splice inputs")):
        others = [replace(SELLER_COIN, outpoint=OutPoint(txid=Txid(b"\x67" * 32), index=n)) for n in range(80)]
        scene = Reopens(holder_coins=tuple(many[:count]), seller_coins=tuple(others)).transfer()
        with pytest.raises(InvalidInputError) as error:
            scene.agreed()
        assert error.value.field == field


def test_who_pays_the_fee_has_a_part_in_it(transfer):
    splice = transfer.agreed().splice
    with pytest.raises(InvalidInputError) as error:
        build_splice(
            transfer.held.coin, transfer.agreed().plan.contract, stakes=splice.stakes, payer=Owner.SELLER,
            rate=splice.rate,
        )  # fmt: skip
    assert error.value.field == "payer"


def spliced(transfer, **changes):
    splice = transfer.agreed().splice
    stakes = dict(splice.stakes) | {Owner(name): replace(splice.stakes[Owner(name)], **given)
                                    for name, given in changes.items()}  # fmt: skip
    return build_splice(
        transfer.held.coin, transfer.agreed().plan.contract, stakes=stakes, payer=Owner.NEWCOMER, rate=splice.rate
    )


def test_what_no_node_would_relay_or_nobody_could_check_is_no_splice(transfer):
    (own,) = transfer.newcomer_coins
    for changes, field in (
        ({"holder": {"script": b"\x51"}}, "splice outputs"),
        ({"newcomer": {"coins": (replace(own, output=replace(own.output, script=b"\x51")),)}}, "splice inputs"),
        ({"newcomer": {"coins": (own, own)}}, "splice inputs"),
        ({"newcomer": {"coins": (own, transfer.held.coin)}}, "splice inputs"),
        ({"holder": {"due": 329}, "newcomer": {"due": -329}}, "holder's due"),
    ):
        with pytest.raises(InvalidInputError) as error:
            spliced(transfer, **changes)
        assert error.value.field == field


def test_an_owner_is_never_paid_less_than_dust_of_what_it_is_owed_because_it_brought_a_coin(transfer):
    tiny = coin(22, 150, BUYER.script)  # worth less than its own input
    with pytest.raises(InvalidInputError) as error:
        spliced(transfer, holder={"due": 340, "coins": (tiny,)}, newcomer={"due": -340})
    assert error.value.field == "holder's due"


def test_dues_of_somebody_who_has_no_part_in_it_are_refused():
    statement = Reopens().roll().statement
    with pytest.raises(InvalidInputError) as error:
        replace(statement, dues={**statement.dues, Owner.NEWCOMER: 0}).stakes()
    assert error.value.field == "dues"


def test_a_roll_of_more_than_the_contract_is_worth_is_refused():
    for payout in (-1, COLLATERAL + 1):
        with pytest.raises(InvalidInputError) as error:
            Reopens().roll(payout=payout)
        assert error.value.field == "payout_sats"


def test_the_fee_that_an_owner_foresees_is_the_one_that_it_pays(transfer, all_bring):
    for scene in (transfer, all_bring):
        splice = scene.agreed().splice
        stakes = splice.stakes
        for owner, stake in stakes.items():
            if owner is not Owner.NEWCOMER:
                assert splice.fees[owner] == coin_fee(stake, splice.rate)
        others = [stake for owner, stake in stakes.items() if owner is not Owner.NEWCOMER]
        most = most_fee(stakes[Owner.NEWCOMER], others, splice.rate)
        assert splice.fees[Owner.NEWCOMER] == most - DUST_P2TR


# ---- the order


def test_nobody_signs_money_away_before_the_other_sides_signatures_are_checked(all_bring):
    signing = Signing(all_bring)
    signing.presign()
    for owner in (Owner.SELLER, Owner.NEWCOMER):
        with pytest.raises(NotSecuredError) as error:
            reopen.sign_coins(
                signing.reopened, all_bring.word(owner), WALLETS[owner], secured=None, authority=signing.right,
                moment=signing.moment,
            )  # fmt: skip
        assert error.value.owner is owner
    signing.secure()
    signing.coins()
    kept, signing.secured = signing.secured, {}
    with pytest.raises(NotSecuredError):
        signing.key_path()
    signing.secured = kept
    signing.key_path()
    signing.secured = {Owner.SELLER: kept[Owner.SELLER]}
    with pytest.raises(NotSecuredError) as error:
        signing.finish()
    assert error.value.owner is Owner.NEWCOMER


def test_what_was_checked_of_another_reopening_or_by_another_owner_secures_nobody(transfer, all_bring):
    first, other = Signing(transfer), Signing(all_bring)
    for one in (first, other):
        one.presign()
        one.secure()
    first.secured[Owner.SELLER] = other.secured[Owner.SELLER]
    with pytest.raises(NotSecuredError):
        first.key_path()
    first.secured[Owner.SELLER] = first.secured[Owner.NEWCOMER]
    with pytest.raises(NotSecuredError):
        first.key_path()


@pytest.mark.parametrize("owner", [Owner.SELLER, Owner.NEWCOMER])
def test_one_flipped_bit_in_a_presignature_or_the_old_contracts_secures_nobody(transfer, owner):
    signing = Signing(transfer)
    signing.presign()
    role = "buyer" if owner is Owner.SELLER else "seller"
    good = signing.presignatures[role]
    old = transfer.scene.presignatures(transfer.old_accept, transfer.old_sign)[role]
    for bad in (good[:100] + bytes([good[100] ^ 1]) + good[101:], good[:-65], old):
        with pytest.raises(WrongAdaptorError):
            reopen.secure(signing.reopened, owner, bad)


def test_who_leaves_pre_signs_nothing_and_a_newcomer_signs_no_key_path(transfer):
    signing = Signing(transfer)
    with pytest.raises(InvalidInputError):
        reopen.presign_new(
            signing.reopened, transfer.word(Owner.HOLDER), BUYER_SECRET, authority=signing.right, moment=signing.moment
        )  # fmt: skip
    with pytest.raises(InvalidInputError):
        reopen.secure(signing.reopened, Owner.HOLDER, b"")
    with pytest.raises(InvalidInputError) as error:  # the other side's key would fit the contract too
        reopen.presign_new(
            signing.reopened, transfer.word(Owner.NEWCOMER), transfer.new_secret(Owner.SELLER),
            authority=signing.right, moment=signing.moment,
        )  # fmt: skip
    assert error.value.field == "secret key"
    signing.presign()
    signing.secure()
    signing.key_path()
    nonce = signing.path.nonce(BUYER_SECRET, bytes([9]) * 32)
    with pytest.raises(InvalidInputError):
        signing.path.sign(
            transfer.word(Owner.NEWCOMER), BUYER_SECRET, nonce, [nonce.public, signing.public[1]],
            secured=signing.secured[Owner.NEWCOMER], authority=signing.right, moment=signing.moment,
        )  # fmt: skip


def test_a_wrong_part_is_named_and_nothing_is_made_of_the_rest(all_bring):
    signing = Signing(all_bring)
    for step in (signing.presign, signing.secure, signing.coins, signing.key_path):
        step()
    signing.finish()
    good = signing.partials
    for place, party in ((0, "buyer"), (1, "seller")):
        signing.partials = [bytes(31) + b"\x01" if n == place else one for n, one in enumerate(good)]
        with pytest.raises(WrongSignatureError) as error:
            signing.finish()
        assert error.value.party == party
    signing.partials = good
    every = dict(signing.witnesses)
    for owner, own in signing.reopened.splice.inputs.items():
        for bad in ((), (bytes(64),), (every[own[0]][0][:-1] + b"\x00",)):
            signing.witnesses = every | {own[0]: bad}
            with pytest.raises(WrongSignatureError) as error:
                signing.finish()
            assert error.value.party == owner.value


def test_a_partial_of_one_transfer_finishes_no_other(transfer):
    first, dearer = Signing(transfer), Signing(Reopens().transfer(price=Sats(PRICE + 1)))
    for one in (first, dearer):
        for step in (one.presign, one.secure, one.coins, one.key_path):
            step()
    first.partials = dearer.partials
    with pytest.raises(WrongSignatureError):
        first.finish()


def test_a_nonce_signs_one_reopening_once_and_a_refusal_leaves_it_unused(transfer):
    signing, dearer = Signing(transfer), Signing(Reopens().transfer(price=Sats(PRICE + 1)))
    for one in (signing, dearer):
        one.presign()
        one.secure()
    ours = signing.path.nonce(BUYER_SECRET, bytes([1]) * 32)
    theirs = signing.path.nonce(SELLER_SECRET, bytes([2]) * 32)
    signing.public = dearer.public = [ours.public, theirs.public]
    with pytest.raises(InvalidInputError):  # made for this transaction
        dearer.sign(Owner.HOLDER, ours)
    with pytest.raises(TooLateToReopenError):
        signing.sign(Owner.HOLDER, ours, moment=transfer.moment(now=UNTIL))
    assert len(signing.sign(Owner.HOLDER, ours)) == 32
    with pytest.raises(NonceUsedError):
        signing.sign(Owner.HOLDER, ours)


def test_keys_that_are_not_the_old_contracts_sign_nothing(transfer):
    reopened = transfer.agreed()
    with pytest.raises(InvalidInputError):
        Reopening(reopened, transfer.held, buyer_key=OLD_KEYS["seller_key"], seller_key=OLD_KEYS["buyer_key"])
    elsewhere = replace(transfer.held, funding=OutPoint(txid=Txid(b"\x55" * 32), index=0))
    smaller = replace(transfer.held, contract=replace(transfer.held.contract, collateral=Sats(COLLATERAL - 1)))
    for held, field in ((elsewhere, "reopening.old.outpoint"), (smaller, "reopening.old.output")):
        with pytest.raises(InvalidInputError) as error:
            Reopening(reopened, held, **OLD_KEYS)
        assert error.value.field == field


# ---- words and stages


def test_a_word_that_no_owner_can_have_given_is_none(transfer):
    good = transfer.word(Owner.SELLER)
    for changes in (
        {"held": None}, {"terms": None}, {"half": Leaving(script=SELLER.script)}, {"owner": Owner.NEWCOMER},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            replace(good, **changes)
    with pytest.raises(InvalidInputError):
        Word(
            owner=Owner.HOLDER, held=transfer.held, half=transfer.leaving, terms=transfer.statement.terms, least=0,
            valid_until=NOW,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("confirmations", "spent_otherwise", "stage"),
    [
        (0, False, Stage.WAITS), (0, True, Stage.VOID), (1, False, Stage.FRESH), (5, False, Stage.FRESH),
        (6, False, Stage.FINAL), (100, False, Stage.FINAL),
    ],
)  # fmt: skip
def test_the_new_contract_counts_from_its_first_block_and_the_old_one_is_kept_until_the_sixth(
    confirmations, spent_otherwise, stage
):
    assert stage_of(confirmations=confirmations, spent_otherwise=spent_otherwise) is stage


def test_the_chain_says_whose_coin_undid_it_and_of_the_collateral_it_says_nothing(all_bring):
    splice = all_bring.agreed().splice
    points = [txin.outpoint for txin in splice.transaction.inputs]
    assert undone_by(splice, points[:1]) == frozenset()
    assert [undone_by(splice, [one]) for one in points[1:]] == [{Owner.SELLER}, {Owner.HOLDER}, {Owner.NEWCOMER}]
    assert undone_by(splice, points) == {Owner.SELLER, Owner.HOLDER, Owner.NEWCOMER}
