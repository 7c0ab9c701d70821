"""A position changes hands at a desk: the deal of three signed texts, the rounds, and by whose fault it fails."""

from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.transaction import OutPoint
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts.option import WrongSignatureError
from btcfi.contracts.reopen import Leaving, check_word
from btcfi.contracts.splice import Owner
from btcfi.errors import InvalidInputError
from btcfi.market import account, transfer_letters
from btcfi.market.account import AnotherDeskError
from btcfi.market.transfer import check_part, check_terms_of, decode_part, encode_part
from btcfi.market.transferring import (
    OWED,
    Failure,
    OutOfTurnError,
    Ready,
    Round,
    refused,
    silent,
    undone,
)
from btcfi.units import Hash32, Sats, Txid, UnixSeconds
from tests.support.contracts import BUYER, SELLER, coin
from tests.support.reopening import NEWCOMER, NOW, PRICE, UNTIL, Found, Reopens, half
from tests.support.transferring import DESK, REQUESTS, ThreeParties, identity, registered, through_json

SECONDS = 20


@pytest.fixture(scope="module")
def three():
    scene = Reopens(
        holder_coins=(coin(22, 50_000, BUYER.script),), seller_coins=(coin(23, 40_000, SELLER.script),)
    )  # fmt: skip
    return ThreeParties(scene)


@pytest.fixture(scope="module")
def stages(three):
    """The desk before each round, and when all is said."""
    found, desk = {}, three.desk()
    for said in (*Round, None):
        desk = three.until(said, desk)
        found[said] = desk
    return found


# ---- the deal


def test_three_strangers_words_travel_as_json_and_the_desk_makes_one_transaction_of_them(three, stages):
    done = stages[None]
    assert done.owed() is None
    signed = done.finish()
    assert signed.txid == done.reopened.splice.transaction.txid
    assert all(txin.witness for txin in signed.inputs)
    assert [done.reopened.splice.net(owner) >= three.word_of(owner, done.statement()).least for owner in Owner] == [
        True
    ] * 3
    take_id, transaction = transfer_letters.decode_done(
        through_json(transfer_letters.encode_done(done.deal.take_id, signed))
    )
    assert (take_id, transaction) == (done.deal.take_id, signed)


@pytest.mark.parametrize("scene", [Reopens(), Reopens(holder_coins=(coin(22, 50_000, BUYER.script),))])
def test_it_takes_no_coin_but_the_newcomers_and_any_of_the_others(scene):
    done = ThreeParties(scene).run()
    assert done.reopened.splice.net(Owner.HOLDER) in (PRICE, PRICE - done.reopened.splice.fees[Owner.HOLDER])
    done.finish()


def test_a_deal_is_over_when_the_first_of_its_three_words_is():
    for who in ("consent", "offer", "take"):
        three = ThreeParties(**{who: {"valid_until": UnixSeconds(UNTIL - 7)}})
        assert three.deal().until == UNTIL - 7


def resigned(three, **changes):
    return replace(three.part, **changes)


OTHER = Hash32(b"\x66" * 32)

WRONG = {
    "the consent is of another contract": ({"consent": {"contract_id": OTHER}}, "consent.contract_id"),
    "the take is of another offer": ({"take": {"offer_id": OTHER}}, "take.offer_id"),
    "the take is at another price": ({"take": {"price": Sats(PRICE - 1)}}, "take.price_sats"),
    "the offer is for somebody else": ({"offer": {"taker": identity(Owner.SELLER)}}, "take.newcomer"),
    "the seller takes it itself": ({"take": {"newcomer": identity(Owner.SELLER)}}, "transfer"),
    "the holder takes it itself": ({"take": {"newcomer": identity(Owner.HOLDER)}}, "transfer"),
    "the seller is another": ({"consent": {"seller": secp256k1.public_key_xonly(b"\x77" * 32)}}, "transfer.seller"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_texts_that_make_no_deal_are_refused_by_name(wrong):
    changes, field = WRONG[wrong]
    with pytest.raises(InvalidInputError) as error:
        ThreeParties(**changes).deal()
    assert error.value.field == field


def test_a_text_for_another_desk_or_of_another_signature_is_no_word(three):
    for who in ("consent", "offer"):
        with pytest.raises(AnotherDeskError):
            ThreeParties(**{who: {"desk": identity(Owner.SELLER)}}).deal()
    for name in ("consent", "offer", "take"):
        signed = getattr(three.part, name)
        forged = replace(signed, signature=signed.signature[:-1] + bytes([signed.signature[-1] ^ 1]))
        with pytest.raises(account.WrongSignatureError) as error:
            check_part(replace(three.part, **{name: forged}), desk=DESK)
        assert name in error.value.what
    with pytest.raises(AnotherDeskError):
        check_part(replace(three.part, holder=registered(Owner.HOLDER, desk=identity(Owner.SELLER))), desk=DESK)
    assert len(set(REQUESTS.values())) == 3


def test_every_field_of_the_texts_is_under_a_signature(three):
    """One changed value in the JSON of the part, wherever it stands, makes it no deal."""
    good = through_json(encode_part(three.part))
    check_part(decode_part(good), desk=DESK)
    changed = 0
    for text in ("consent", "offer", "take", "seller", "holder", "newcomer"):
        for name, value in good[text].items():
            other = value + 1 if isinstance(value, int) else ("0" if value[0] != "0" else "1") + value[1:]
            if name == "name":
                other = value + "x"
            if name == "instrument":
                other = value.replace("-C", "-P")
            with pytest.raises(Exception) as error:
                check_part(decode_part(good | {text: good[text] | {name: other}}), desk=DESK)
            assert type(error.value).__name__ in (
                "InvalidInputError", "UnitOutOfRangeError", "WrongSignatureError", "WrongRegistrationError",
                "AnotherDeskError", "UnknownInstrumentError",
            )  # fmt: skip
            changed += 1
        with pytest.raises(InvalidInputError):
            decode_part(good | {text: good[text] | {"more": 1}})
    assert changed > 50


def test_a_newcomer_takes_the_terms_of_the_offer_to_the_last_one(three):
    offer = three.part.offer.offer
    check_terms_of(offer, three.terms)
    for changes, field in (
        ({"rate": 1_999}, "transfer.sats_per_kvb"), ({"refund_height": 351}, "transfer.terms_hash"),
        ({"option": three.terms.option | {"strike_cents": 10_000_100}}, "transfer.instrument"),
        ({"option": three.terms.option | {"quantity_centibtc": 9, "collateral_sats": 9_000_000}},
         "transfer.quantity_centi_btc"),
        ({"cet_fee": 999}, "transfer.terms_hash"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError) as error:
            check_terms_of(offer, replace(three.terms, **changes))
        assert error.value.field == field


def test_each_word_is_as_narrow_as_its_deal(three, stages):
    """To the satoshi for who is paid or keeps what it has; for who pays, the fee of this transaction and dust."""
    done = stages[None]
    splice, words = done.reopened.splice, {owner: three.word_of(owner, done.statement()) for owner in Owner}
    for owner in (Owner.SELLER, Owner.HOLDER):
        assert words[owner].least == splice.net(owner)
    assert 0 <= splice.net(Owner.NEWCOMER) - words[Owner.NEWCOMER].least <= 330


# ---- the desk lies to one of the three


STATED = {
    "another collateral is spent": (
        (Owner.SELLER, Owner.HOLDER), lambda s: s | {"old": s["old"] | {"vout": 1}}),
    "the collateral is said to be less": (
        tuple(Owner), lambda s: s | {"old": s["old"] | {"value_sats": s["old"]["value_sats"] - 1}}),
    "the holder's money goes elsewhere": (
        (Owner.HOLDER,), lambda s: s | {"leaving": s["leaving"] | {"script": NEWCOMER.script.hex()}}),
    "the newcomer is a friend of the desk's": (
        (Owner.NEWCOMER,), lambda s: s | {"newcomer": s["newcomer"] | {"key": "02" + identity(Owner.SELLER).hex()}}),
    "the seller is a friend of the desk's": (
        (Owner.SELLER,), lambda s: s | {"seller": s["seller"] | {"key": "02" + identity(Owner.SELLER).hex()}}),
    "the contract ends sooner": (
        (Owner.SELLER, Owner.NEWCOMER), lambda s: s | {"terms": s["terms"] | {"expiry_height": 199}}),
    "it is rounded otherwise": (
        (Owner.SELLER, Owner.NEWCOMER), lambda s: s | {"terms": s["terms"] | {"tolerance_bps": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("lie", STATED)
def test_a_desk_that_states_another_transfer_gets_no_word_from_whom_it_harms(three, stages, lie):
    victims, change = STATED[lie]
    honest = transfer_letters.encode_statement(stages[Round.PRESIGNED].statement())
    statement = transfer_letters.decode_statement(change(through_json(honest)), three.deal())

    def look(victim):
        check_word(three.compute(statement), three.word_of(victim, statement))

    for victim in victims:
        with pytest.raises(InvalidInputError):
            look(victim)
    for other in set(Owner) - set(victims):  # whom it does not harm it need not stop
        look(other)


# ---- the rounds


@pytest.mark.parametrize("said", Round)
def test_a_word_out_of_turn_is_not_heard_and_the_same_again_changes_nothing(three, stages, said):
    before, after = stages[said], stages[None]
    assert before.owed() == (said, frozenset(OWED[said]))
    for later in Round:
        for owner in OWED[later]:
            word = after.said[later, owner]
            if later is said or (later, owner) in before.said:
                continue
            with pytest.raises(OutOfTurnError):
                before.hear(owner, later, word)
    for owner in OWED[said]:
        word = after.said[said, owner]
        heard = before.hear(owner, said, word)
        assert heard.hear(owner, said, word) is heard
        other = (
            replace(word, coins=())
            if said is Round.HALF
            else Ready(witnesses={})
            if said is Round.READY
            else b"\x01" * 32
        )
        with pytest.raises(OutOfTurnError):
            heard.hear(owner, said, other)
    for stranger in set(Owner) - set(OWED[said]):
        with pytest.raises(OutOfTurnError):
            before.hear(stranger, said, b"")


def test_what_is_no_word_is_refused_in_every_round_and_its_owner_may_say_it_right(three, stages):
    for said in Round:
        before = stages[said]
        for owner in OWED[said]:
            good = stages[None].said[said, owner]
            for bad in lies(owner, said, good, stages[None]):
                with pytest.raises(
                    (InvalidInputError, WrongAdaptorError, WrongSignatureError, InsufficientFundsError)
                ):  # fmt: skip
                    before.hear(owner, said, bad)
            assert (said, owner) in before.hear(owner, said, good).said


def lies(owner, said, good, done):
    """Words of every kind that are not this one's: changed, another's, of another kind, of too little."""
    if said is Round.HALF:
        strangers = [coin(50 + n, 1_000, NEWCOMER.script) for n in range(21)]
        yield replace(good, coins=(*good.coins, good.coins[0]))
        yield replace(good, coins=(replace(good.coins[0], outpoint=done.held.funding),))
        yield replace(good, coins=tuple(strangers))
        yield (
            replace(good, coins=(replace(good.coins[0], output=replace(good.coins[0].output, value=Sats(100))),))
            if owner is not Owner.HOLDER
            else replace(good, script=SELLER.script)
        )
        yield Leaving(script=BUYER.script) if owner is not Owner.HOLDER else half(BUYER, b"\x05" * 32)
        if owner is not Owner.HOLDER:
            yield replace(good, payout_script=b"\x51")
        yield b"\x01" * 32
        return
    if said is Round.READY:
        yield Ready(witnesses={}, nonce=good.nonce)
        yield Ready(witnesses=good.witnesses, nonce=None if good.nonce else b"\x02" * 66)
        yield Ready(witnesses=done.said[said, Owner.SELLER if owner is not Owner.SELLER else Owner.HOLDER].witnesses,
                    nonce=good.nonce)  # fmt: skip
        yield Ready(witnesses={index: (bytes(64),) for index in good.witnesses}, nonce=good.nonce)
        yield Ready(witnesses=good.witnesses | {0: (bytes(64),)}, nonce=good.nonce)
        if good.nonce:
            yield replace(good, nonce=bytes(66))
        yield b"\x01" * 32
        return
    yield good[:-1] + bytes([good[-1] ^ 1])
    yield good[:-1]
    yield b""
    yield Ready(witnesses={})
    if said is Round.PRESIGNED:
        yield done.said[said, Owner.NEWCOMER if owner is Owner.SELLER else Owner.SELLER]
    else:
        yield done.said[Round.SELLER if said is Round.HOLDER else Round.HOLDER,
                        Owner.SELLER if said is Round.HOLDER else Owner.HOLDER]  # fmt: skip


def test_a_coin_is_named_once_and_a_key_by_one_side(three):
    desk = three.desk().hear(Owner.SELLER, Round.HALF, three.halves[Owner.SELLER])
    newcomer, seller = three.halves[Owner.NEWCOMER], three.halves[Owner.SELLER]
    with pytest.raises(InvalidInputError) as error:
        desk.hear(Owner.NEWCOMER, Round.HALF, replace(newcomer, coins=(*newcomer.coins, *seller.coins)))
    assert error.value.field == "newcomer's half.coins"
    with pytest.raises(InvalidInputError) as error:
        desk.hear(Owner.NEWCOMER, Round.HALF, replace(newcomer, key=seller.key))
    assert error.value.field == "newcomer's half.key"


def test_a_newcomer_whose_coins_pay_the_price_and_not_the_fee_is_refused_before_anybody_signs(three):
    short = replace(three.halves[Owner.NEWCOMER], coins=(coin(21, PRICE + 500, NEWCOMER.script),))
    with pytest.raises(InsufficientFundsError):
        three.desk().hear(Owner.NEWCOMER, Round.HALF, short)


def test_a_word_in_another_form_is_refused_by_its_field(three, stages):
    done = stages[None]
    for said in Round:
        owner = OWED[said][0]
        wire = through_json(transfer_letters.encode_word(done.deal.take_id, said, done.said[said, owner]))
        assert transfer_letters.decode_word(said, wire).word == done.said[said, owner]
        for broken in ({**wire, "type": "btcfi/take"}, {**wire, "version": 2}, {"type": wire["type"]}, [], None):
            with pytest.raises(InvalidInputError):
                transfer_letters.decode_word(said, broken)
        for name in set(wire) - {"type", "version"}:
            with pytest.raises(InvalidInputError):
                transfer_letters.decode_word(said, {**wire, name: 5})


# ---- by whose fault


@pytest.mark.parametrize(("said", "owner"), [(said, owner) for said, owners in OWED.items() for owner in owners])
def test_whoever_is_silent_in_its_turn_is_at_fault_after_its_seconds_and_not_before(three, stages, said, owner):
    desk = stages[said]
    for other in OWED[said]:
        if other is not owner:
            desk = three.step(desk, other, said) if (said, other) not in desk.said else desk
    asked = dict.fromkeys(OWED[said], NOW)
    assert silent(desk, asked, now=UnixSeconds(NOW + SECONDS - 1), seconds=SECONDS) is None
    late = silent(desk, asked, now=UnixSeconds(NOW + SECONDS), seconds=SECONDS)
    assert late.blamed is owner
    assert (late.offer_stands, late.consent_stands) == (owner is not Owner.HOLDER, owner is not Owner.SELLER)


def test_nobody_is_late_that_was_not_asked_or_when_all_is_said(three, stages):
    later = UnixSeconds(NOW + 60)
    assert silent(stages[Round.READY], {}, now=later, seconds=SECONDS) is None
    assert silent(stages[None], dict.fromkeys(Owner, NOW), now=later, seconds=SECONDS) is None


def test_at_the_deals_end_only_who_had_its_share_of_the_time_is_at_fault(three, stages):
    desk = stages[Round.HOLDER]
    for before_end, blamed in ((3, None), (10, Owner.HOLDER)):
        asked = {Owner.HOLDER: UnixSeconds(UNTIL - before_end)}
        assert silent(desk, asked, now=UnixSeconds(UNTIL - 1), seconds=SECONDS) is None
        assert silent(desk, asked, now=UNTIL, seconds=SECONDS).blamed is blamed


def refusal(stages, owner, *, gone=None, asked=NOW, over=""):
    desk = stages[Round.READY]
    splice = desk.reopened.splice
    seen = {txin.outpoint: Found(output) for txin, output in zip(splice.transaction.inputs, splice.spent, strict=True)}
    if gone is not None:
        del seen[splice.transaction.inputs[gone].outpoint]
    return refused(desk, owner, "I will not", asked=asked, seen=seen, over=over)


def test_who_refuses_without_a_reason_that_we_can_see_is_at_fault(stages):
    for owner in Owner:
        assert refusal(stages, owner).blamed is owner


def test_who_refuses_because_a_coin_of_another_is_gone_is_not_at_fault_and_that_one_is(stages):
    for gone, blamed in ((1, Owner.SELLER), (2, Owner.HOLDER), (3, Owner.NEWCOMER), (0, None)):
        for owner in Owner:
            assert refusal(stages, owner, gone=gone).blamed is blamed


def test_nobody_is_at_fault_for_refusing_what_is_too_late(stages):
    for owner in Owner:
        assert refusal(stages, owner, asked=UnixSeconds(UNTIL - 4)).blamed is None
        assert refusal(stages, owner, over="an oracle has attested the price").blamed is None


def test_of_a_transfer_that_a_block_overtook_the_one_whose_coin_it_spent_is_at_fault(stages):
    done = stages[None]
    points = [txin.outpoint for txin in done.reopened.splice.transaction.inputs]
    assert undone(done, points[:1]).blamed is None
    assert undone(done, [OutPoint(txid=Txid(b"\x01" * 32), index=0)]).blamed is None
    assert [undone(done, [one]).blamed for one in points[1:]] == [Owner.SELLER, Owner.HOLDER, Owner.NEWCOMER]
    assert undone(done, points[1:3]).blamed is None  # nobody knows whose went first


def test_a_failure_of_nobodys_leaves_offer_and_consent_where_they_were():
    failure = Failure(blamed=None, problem="the desk was restored")
    assert failure.offer_stands
    assert failure.consent_stands
