"""A counterparty that errs or cheats: each is named, and nothing is signed after it."""

import hashlib
import json
from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.fees import DUST_P2TR, SatsPerKvb
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts import execution, option, setup
from btcfi.contracts.buckets import Rounding, StepRule, ToleranceRule
from btcfi.contracts.execution import check_presignatures, presign
from btcfi.contracts.messages import (
    CET_FEE,
    Offer,
    Role,
    contract_id,
    decode_accept,
    decode_offer,
    decode_sign,
    encode_accept,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.option import RefundTooEarlyError, WrongSignatureError
from btcfi.contracts.setup import SetupPolicy, WrongMessageError
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import WrongAnnouncementError, announce
from btcfi.units import BasisPoints, Height, Sats
from tests.support.contracts import (
    BUYER,
    BUYER_SECRET,
    COARSE,
    ORACLES,
    POLICY,
    SELLER,
    SELLER_SECRET,
    STRIKE,
    Scene,
    coin,
    event,
)
from tests.support.mandates import authority

RIGHT = authority(oracles=ORACLES[:1])


@pytest.fixture(scope="module")
def scene():
    return Scene(tolerance=COARSE)


@pytest.fixture(scope="module")
def messages(scene):
    offer, agreement = scene.offer(), scene.agreement()
    accepted = setup.accept(offer, agreement, scene.buyer, BUYER_SECRET, authority=RIGHT)
    signed = setup.sign(offer, accepted, agreement, SELLER_SECRET, {SELLER.script: SELLER}, authority=RIGHT)
    return offer, agreement, accepted, signed


SELLER_WALLET, BUYER_WALLET = {SELLER.script: SELLER}, {BUYER.script: BUYER}


def test_both_sides_build_byte_equal_transactions_from_messages_that_went_through_json(scene, messages):
    offer, agreement, accepted, signed = messages
    received = decode_offer(json.loads(json.dumps(encode_offer(offer))))
    theirs = setup.agree(received, scene.buyer, scene.payouts, event=scene.event, policy=POLICY)
    assert theirs.id == agreement.id
    assert theirs.funding.transaction.to_bytes() == agreement.funding.transaction.to_bytes()
    for bucket in range(len(agreement.plan.buckets)):
        assert theirs.plan.transaction(bucket).to_bytes() == agreement.plan.transaction(bucket).to_bytes()
    assert decode_accept(json.loads(json.dumps(encode_accept(accepted)))) == accepted
    assert decode_sign(json.loads(json.dumps(encode_sign(signed)))) == signed


@pytest.mark.parametrize("offering", list(Role))
def test_either_side_can_offer_and_the_funding_is_the_same_size(offering):
    agreement, _, _, funding = Scene(tolerance=COARSE, offering=offering).run()
    assert agreement.offering is offering
    assert funding.outputs[0].value == 10_000_000
    assert funding.outputs[1].value == 50_000
    spent = sum(output.value for output in agreement.funding.spent)
    assert spent == sum(output.value for output in funding.outputs) + agreement.funding.fee
    assert agreement.funding.fee * 1000 >= 2000 * funding.vsize


def test_signing_in_ranges_gives_the_same_bytes_as_signing_at_once(messages):
    _, agreement, accepted, _ = messages
    plan, count = agreement.plan, len(agreement.plan.buckets)
    parts = [presign(plan, BUYER_SECRET, start=a, stop=min(a + 7, count)) for a in range(0, count, 7)]
    assert b"".join(parts) == accepted.presignatures
    for number, start in enumerate(range(0, count, 7)):
        check_presignatures(plan, "buyer", parts[number], start=start, stop=min(start + 7, count))


@pytest.mark.parametrize("place", ["first", "last", "every"])
def test_one_flipped_bit_in_a_presignature_stops_the_seller_before_it_signs(scene, messages, place):
    offer, agreement, accepted, _ = messages
    raw = bytearray(accepted.presignatures)
    size = len(raw)
    for at in {"first": [40], "last": [size - 1], "every": range(0, size, 65)}[place]:
        raw[at] ^= 1
    wrong = replace(accepted, presignatures=bytes(raw))
    with pytest.raises(WrongAdaptorError):
        setup.sign(offer, wrong, agreement, SELLER_SECRET, SELLER_WALLET, authority=RIGHT)


def test_signatures_of_another_cet_in_the_wrong_order_or_missing_are_refused(scene, messages):
    offer, agreement, accepted, _ = messages
    blob = accepted.presignatures
    swapped = blob[65:130] + blob[:65] + blob[130:]
    for wrong in (swapped, blob[:-65], blob + blob[:65], b"", blob[:-1]):
        with pytest.raises(WrongAdaptorError):
            setup.sign(
                offer, replace(accepted, presignatures=wrong), agreement, SELLER_SECRET, SELLER_WALLET, authority=RIGHT
            )


def test_the_sellers_own_signatures_do_not_pass_for_the_buyers(scene, messages):
    offer, agreement, accepted, _ = messages
    wrong = replace(accepted, presignatures=presign(agreement.plan, SELLER_SECRET))
    with pytest.raises(WrongAdaptorError):
        setup.sign(offer, wrong, agreement, SELLER_SECRET, SELLER_WALLET, authority=RIGHT)


def test_the_buyer_checks_everything_before_it_signs_the_funding(messages):
    _, agreement, _, signed = messages
    raw = bytearray(signed.presignatures)
    raw[-1] ^= 1
    with pytest.raises(WrongAdaptorError):
        setup.complete(agreement, replace(signed, presignatures=bytes(raw)), BUYER_WALLET, authority=RIGHT)
    with pytest.raises(WrongSignatureError):
        setup.complete(agreement, replace(signed, witnesses={}), BUYER_WALLET, authority=RIGHT)
    with pytest.raises(WrongSignatureError):
        setup.complete(agreement, replace(signed, witnesses={0: (bytes(64),)}), BUYER_WALLET, authority=RIGHT)
    with pytest.raises(WrongMessageError):
        setup.complete(
            agreement, replace(signed, witnesses={**signed.witnesses, 1: (bytes(64),)}), BUYER_WALLET, authority=RIGHT
        )
    with pytest.raises(WrongMessageError):
        setup.complete(agreement, replace(signed, contract_id=bytes(32)), BUYER_WALLET, authority=RIGHT)


def test_a_signature_over_a_funding_with_one_output_changed_is_refused(scene, messages):
    offer, agreement, _, signed = messages
    cheaper = replace(offer, terms=replace(offer.terms, premium=Sats(40_000)))
    other = setup.agree(cheaper, scene.buyer, scene.payouts, event=scene.event, policy=POLICY)
    theirs = option.sign_funding(other.funding, SELLER_WALLET, inputs=setup.inputs_of(other, Role.SELLER))
    assert other.funding.transaction.outputs[0] == agreement.funding.transaction.outputs[0]
    with pytest.raises(WrongSignatureError):
        setup.complete(agreement, replace(signed, witnesses=theirs), BUYER_WALLET, authority=RIGHT)


BOTH = SELLER_WALLET | BUYER_WALLET
"""A wallet whose keys fit every input: what it may sign is the agreement's to say."""


@pytest.mark.parametrize("role", list(Role))
def test_a_side_signs_the_inputs_that_the_agreement_books_for_it_and_no_other_that_its_keys_fit(messages, role):
    _, agreement, _, _ = messages
    signed = option.sign_funding(agreement.funding, BOTH, inputs=setup.inputs_of(agreement, role))
    assert set(signed) == set(setup.inputs_of(agreement, role))
    assert set(setup.inputs_of(agreement, Role.BUYER)).isdisjoint(setup.inputs_of(agreement, Role.SELLER))


@pytest.mark.parametrize("offering", list(Role))
def test_a_coin_of_ours_that_the_other_side_names_as_its_own_is_refused_and_nothing_is_signed(offering):
    scene = Scene(tolerance=COARSE, offering=offering)
    offer, agreement = scene.offer(), scene.agreement()
    secret, other = (SELLER_SECRET, BUYER_SECRET) if offering is Role.SELLER else (BUYER_SECRET, SELLER_SECRET)
    party = scene.buyer if offering is Role.SELLER else scene.seller
    accepted = setup.accept(offer, agreement, party, other, authority=RIGHT)
    with pytest.raises(setup.CoinNotTheirsError):
        setup.sign(offer, accepted, agreement, secret, BOTH, authority=RIGHT)
    ours = SELLER_WALLET if offering is Role.SELLER else BUYER_WALLET
    signed = setup.sign(offer, accepted, agreement, secret, ours, authority=RIGHT)
    with pytest.raises(setup.CoinNotTheirsError):
        setup.complete(agreement, signed, BOTH, authority=RIGHT)


def test_a_witness_of_an_outside_wallet_for_an_input_that_is_not_ours_is_left_out(messages):
    offer, agreement, accepted, _ = messages
    theirs = next(iter(setup.inputs_of(agreement, Role.BUYER)))
    signed = setup.sign(
        offer, accepted, agreement, SELLER_SECRET, SELLER_WALLET, outside={theirs: (bytes(64),)}, authority=RIGHT
    )
    assert set(signed.witnesses) == set(setup.inputs_of(agreement, Role.SELLER))


def test_messages_of_another_offer_or_party_are_refused(scene, messages):
    offer, agreement, accepted, _ = messages
    with pytest.raises(WrongMessageError):
        setup.sign(
            offer, replace(accepted, offer_id=bytes(32)), agreement, SELLER_SECRET, SELLER_WALLET, authority=RIGHT
        )
    stranger = replace(accepted.party, change_script=SELLER.script)
    with pytest.raises(WrongMessageError):
        setup.sign(offer, replace(accepted, party=stranger), agreement, SELLER_SECRET, SELLER_WALLET, authority=RIGHT)
    with pytest.raises(InvalidInputError):
        setup.accept(offer, agreement, scene.buyer, SELLER_SECRET, authority=RIGHT)


def _announcements(change):
    return (change(announce(ORACLES[0], event())),)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: announce(ORACLES[0], event(minute=29_000_001)),
        lambda a: announce(ORACLES[0], event(digits=17)),
        lambda a: replace(a, nonces=a.nonces[:-1]),
        lambda a: replace(a, nonces=(a.nonces[1], *a.nonces[1:])),
        lambda a: replace(a, nonces=(bytes(32), *a.nonces[1:])),
        lambda a: replace(a, proofs=(bytes(64), *a.proofs[1:])),
        lambda a: replace(a, proofs=(*a.proofs[1:], a.proofs[0])),
        lambda a: replace(a, oracle_key=bytes(32)),
        lambda a: replace(a, signature=bytes(64)),
    ],
    ids=[
        "another minute", "other digits", "a nonce missing", "a nonce twice", "a nonce off the curve",
        "no proof of knowledge", "proofs swapped", "a key off the curve", "a wrong signature",
    ],
)  # fmt: skip
def test_an_announcement_that_is_wrong_in_one_thing_is_refused(change):
    scene = Scene(tolerance=COARSE)
    scene.with_terms(announcements=_announcements(change))
    with pytest.raises(WrongAnnouncementError):
        scene.agreement()


def test_a_rogue_oracle_cannot_choose_its_nonce_after_the_others():
    # R2 = r*G - S1 would let the second oracle settle alone; it cannot sign with a key it does not know
    first, second = announce(ORACLES[0], event()), announce(ORACLES[1], event())
    target = secp256k1.point_negate(secp256k1.point_add([b"\x02" + first.nonces[0], b"\x02" + second.nonces[0]]))
    rogue = replace(second, nonces=(target[1:], *second.nonces[1:]))
    scene = Scene(tolerance=COARSE).with_terms(announcements=(first, rogue), threshold=2)
    with pytest.raises(WrongAnnouncementError):
        scene.agreement()


def test_an_oracle_outside_the_preset_is_refused():
    policy = SetupPolicy(min_refund_delay=2, oracle_keys=frozenset({secp256k1.public_key_xonly(ORACLES[1])}))
    with pytest.raises(InvalidInputError):
        Scene(tolerance=COARSE).agreement(policy=policy)


def test_a_refund_height_before_or_too_near_the_expiry_is_refused():
    for refund_height in (0, 199, 200, 201):
        with pytest.raises(RefundTooEarlyError):
            Scene(tolerance=COARSE).with_terms(refund_height=Height(refund_height)).agreement()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"threshold": 2}, InvalidInputError),
        ({"threshold": 0}, InvalidInputError),
        ({"announcements": ()}, InvalidInputError),
        ({"collateral": Sats(240)}, InvalidInputError),
        ({"collateral": Sats(1_240)}, InvalidInputError),
        ({"cet_fee": Sats(299)}, InvalidInputError),
        ({"cet_fee": Sats(20_001)}, InvalidInputError),
        ({"premium": Sats(329)}, InvalidInputError),
        ({"premium": Sats(60_001)}, InsufficientFundsError),
        ({"rate": SatsPerKvb(1_000_000)}, InsufficientFundsError),
        ({"announcements": (announce(ORACLES[0], event()),) * 2, "threshold": 2}, InvalidInputError),
    ],
)
def test_terms_that_cannot_be_are_refused(changes, error):
    with pytest.raises(error):
        Scene(tolerance=COARSE).with_terms(**changes).agreement()


def test_one_coin_cannot_be_brought_twice():
    shared = coin(5, 20_000_000, SELLER.script)
    with pytest.raises(InvalidInputError):
        Scene(tolerance=COARSE, seller_coins=[shared], buyer_coins=[shared]).agreement()


def test_a_legacy_coin_or_payout_script_is_refused():
    legacy = b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"
    with pytest.raises(InvalidInputError):
        Scene(tolerance=COARSE, buyer_coins=[coin(5, 60_000, legacy)]).agreement()


def test_both_parties_under_one_key_is_no_contract(scene):
    same = replace(scene.buyer, key=scene.seller.key)
    with pytest.raises(InvalidInputError):
        setup.agree(scene.offer(), same, scene.payouts, event=scene.event, policy=POLICY)


def _offer_json():
    return encode_offer(Scene(tolerance=COARSE).offer())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("type",), "btcfi/accept"),
        (("version",), 4),
        (("collateral_sats",), -1),
        (("collateral_sats",), 1.5),
        (("collateral_sats",), "100"),
        (("premium_sats",), 21_000_000 * 10**8 + 1),
        (("refund_height",), 500_000_000),
        (("funding_sats_per_kvb",), 0),
        (("tolerance_bps",), 0),
        (("tolerance_bps",), 10_001),
        (("tolerance_bps",), True),
        (("tolerance_bps",), None),
        (("role",), "broker"),
        (("tree",), "none"),
        (("threshold",), True),
        (("oracles",), {}),
        (("oracles", 0, "event", "expiry_unix"), 61),
        (("oracles", 0, "event", "digits"), 26),
        (("oracles", 0, "oracle_key"), "00"),
        (("oracles", 0, "nonces"), "zz"),
        (("party", "key"), "02" + "00" * 32),
        (("party", "key"), "04" + "11" * 32),
        (("party", "coins", 0, "txid"), "12"),
        (("party", "coins", 0, "vout"), -1),
        (("party", "coins"), [{}] * 101),
        (("option",), []),
        (("release_hash",), "00"),
    ],
)
def test_a_wrong_field_of_an_offer_is_named(path, value):
    message = _offer_json()
    place = message
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(InvalidInputError) as error:
        decode_offer(message)
    if path[0] not in ("type", "version"):
        assert str(path[-1]) in str(error.value) or str(path[0]) in str(error.value)


@pytest.mark.parametrize("message", [None, [], "x", 5, {}, {"type": "btcfi/offer", "version": 1}])
def test_anything_else_than_an_offer_is_refused(message):
    with pytest.raises(InvalidInputError):
        decode_offer(message)


def test_every_missing_field_of_an_offer_is_named():
    for name in _offer_json():
        message = _offer_json()
        del message[name]
        with pytest.raises(InvalidInputError):
            decode_offer(message)


def test_no_secret_stands_in_a_message_or_a_repr(messages):
    offer, agreement, accepted, signed = messages
    texts = [json.dumps(encode_offer(offer)), json.dumps(encode_accept(accepted)), json.dumps(encode_sign(signed))]
    texts += [repr(one) for one in (offer, agreement, accepted, signed, SELLER, BUYER)]
    for secret in (SELLER_SECRET, BUYER_SECRET, SELLER.secret, BUYER.secret):
        assert not any(secret.hex() in text or repr(secret)[2:-1] in text for text in texts)


def test_a_plan_of_oracles_on_different_events_is_refused(messages):
    plan = messages[1].plan
    other = announce(ORACLES[1], event(minute=29_000_001))
    with pytest.raises(InvalidInputError):
        execution.ExecutionPlan(
            contract=plan.contract,
            funding=plan.funding,
            buckets=plan.buckets,
            announcements=(*plan.announcements, other),
            cet_fee=plan.cet_fee,
        )


# ---- versions: an offer of the last release keeps its identity, and nobody makes a new one


EARLIER = {
    1: (  # as commit 1d91409 computed them
        "2024cc97999b87e4675f15b832d36b55b086fde8baa44c10ad050328a4fc4d73",
        "a3e34cc25ee5bb30a3d5c5faad87afc25e2747c65dffebdb021657ffa63277bb",
    ),
    2: (  # as commit baf76ab computed them
        "7df8e18cffbe5ecfd6ac0562714940b003283a52e8ca520dc54ff0c025ad113d",
        "680669ebf864627c3a3d781a328895a665c2e316c7a628ebd0978296bde6f38d",
    ),
}
"""By version the ids of the scene's offer and contract."""


def _earlier(version, step=10_000):
    return Scene(option={"kind": "call", "strike_cents": STRIKE}).of_version(version, step)


def _offer_of(scene):
    return Offer(terms=scene.terms, role=Role.SELLER, party=scene.seller)


@pytest.mark.parametrize("version", EARLIER)
def test_a_contract_of_an_earlier_version_keeps_the_identity_that_its_release_gave_it(version):
    scene = _earlier(version)
    offer = _offer_of(scene)
    assert (offer.id.hex(), contract_id(offer, scene.buyer).hex()) == EARLIER[version]
    assert ("cet_fee_sats" in encode_offer(offer)) is (version > 1)
    assert decode_offer(encode_offer(offer)) == offer


@pytest.mark.parametrize(
    ("version", "name", "value"),
    [(1, "cet_fee_sats", 1_000), (1, "tolerance_bps", 200), (2, "tolerance_bps", 200)],
)
def test_a_field_of_a_later_version_is_refused_in_an_earlier_one(version, name, value):
    with pytest.raises(InvalidInputError) as refused:
        decode_offer(encode_offer(_offer_of(_earlier(version))) | {name: value})
    assert refused.value.field == f"btcfi/offer.{name}"


@pytest.mark.parametrize(("name", "value"), [("step_sats", 50_000), ("rounding", "down")])
def test_a_step_in_version_3_is_refused_since_it_would_say_nothing(name, value):
    with pytest.raises(InvalidInputError) as refused:
        decode_offer(_offer_json() | {name: value})
    assert refused.value.field == f"btcfi/offer.{name}"


def test_terms_of_one_version_with_the_rule_of_another_cannot_be():
    steps = StepRule(step=Sats(10_000), rounding=Rounding.DOWN)
    for changes in ({"version": 2}, {"version": 1, "cet_fee": Sats(0)}, {"rule": steps}):
        with pytest.raises(InvalidInputError):
            Scene().with_terms(**changes)


PLANS = {
    10_000: (4_870, "469e608a2e018464545a22497ad2046032012b25c37bec8a08559b292ef2ff9e"),
    50_000: (1_215, "d7eea39c6748fe4c7d97e9343ce869312c87c5fd676259f6545d865357d15701"),
}
"""By step how many CETs the scene has, and the hash of all of them, as commit baf76ab made them."""


@pytest.mark.parametrize("step", PLANS)
def test_a_contract_of_version_2_has_the_cets_that_its_release_made_to_the_byte(step):
    scene = _earlier(2, step)
    plan = scene.agreement(_offer_of(scene)).plan
    made = b"".join(plan.transaction(place).to_bytes() for place in range(len(plan.buckets)))
    assert (len(plan.buckets), hashlib.sha256(made).hexdigest()) == PLANS[step]


@pytest.mark.parametrize("version", EARLIER)
def test_no_new_contract_is_made_of_an_earlier_version_and_the_answer_says_what_to_speak(version):
    scene = _earlier(version)
    with pytest.raises(InvalidInputError, match="speak version 3"):
        setup.propose(scene.terms, role=Role.SELLER, party=scene.seller)
    offer = _offer_of(scene)
    with pytest.raises(InvalidInputError, match="speak version 3"):
        setup.accept(offer, scene.agreement(offer), scene.buyer, BUYER_SECRET, authority=RIGHT)


# ---- the partition is computed by each side, and a foreign range is refused by its name


def _signs_over(agreement, buckets, secret):
    """The pre-signatures of a side that has other buckets."""
    return presign(replace(agreement.plan, buckets=buckets), secret)


def _foreign(buckets, place):
    """Other buckets of the same number: one that pays a satoshi more; two whose border lies elsewhere."""
    one = buckets[place]
    more = (*buckets[:place], replace(one, payout=Sats(one.payout + 1)), *buckets[place + 1 :])
    deeper = (*buckets[:place], replace(one, prefix=2 * one.prefix, length=one.length + 1), *buckets[place + 1 :])
    return {"another payout": more, "another prefix": deeper}


@pytest.mark.parametrize("change", ["another payout", "another prefix"])
def test_one_foreign_range_among_all_is_refused_by_its_name(scene, messages, change):
    offer, agreement, accepted, _ = messages
    place = len(agreement.plan.buckets) // 2
    one = agreement.plan.buckets[place]
    theirs = _foreign(agreement.plan.buckets, place)[change]
    wrong = replace(accepted, presignatures=_signs_over(agreement, theirs, BUYER_SECRET))
    with pytest.raises(WrongAdaptorError) as refused:
        setup.sign(offer, wrong, agreement, SELLER_SECRET, SELLER_WALLET, authority=RIGHT)
    assert f"bucket {place} ({one.payout:,} sats at the digits {one.prefix:0{one.length}b})" in refused.value.what


def test_one_range_split_in_two_is_a_signature_too_many(scene, messages):
    offer, agreement, accepted, _ = messages
    one, rest = agreement.plan.buckets[0], agreement.plan.buckets[1:]
    halves = [replace(one, prefix=2 * one.prefix + half, length=one.length + 1) for half in (0, 1)]
    wrong = replace(accepted, presignatures=_signs_over(agreement, (*halves, *rest), BUYER_SECRET))
    with pytest.raises(WrongAdaptorError, match=f"{len(rest) + 2} signatures instead of {len(rest) + 1}"):
        setup.sign(offer, wrong, agreement, SELLER_SECRET, SELLER_WALLET, authority=RIGHT)


@pytest.mark.parametrize("changes", [{"premium": Sats(49_999)}, {"rule": ToleranceRule(tolerance=BasisPoints(9_999))}])
def test_premium_and_tolerance_are_under_both_signatures(scene, messages, changes):
    """Whoever computes the partition by another premium or tolerance has another contract."""
    offer, agreement, accepted, _ = messages
    other = replace(offer, terms=replace(offer.terms, **changes))
    assert other.id != offer.id
    theirs = setup.agree(other, scene.buyer, scene.payouts, event=scene.event, policy=POLICY)
    assert theirs.id != agreement.id
    with pytest.raises(WrongMessageError):
        setup.sign(other, accepted, theirs, SELLER_SECRET, SELLER_WALLET, authority=RIGHT)


def test_an_answer_of_another_version_than_the_offers_is_refused(messages):
    offer, agreement, accepted, _ = messages
    with pytest.raises(WrongMessageError, match="version"):
        setup.sign(
            offer, replace(accepted, version=1), agreement, SELLER_SECRET, {SELLER.script: SELLER}, authority=RIGHT
        )


def test_every_cet_pays_its_own_fee_and_the_buyer_pays_it_only_where_the_seller_gets_nothing(messages):
    plan = messages[1].plan
    for place, bucket in enumerate(plan.buckets):
        amounts, paid = plan.split_of(place), sum(output.value for output in plan.transaction(place).outputs)
        assert plan.contract.collateral - paid == CET_FEE
        if amounts.seller:
            assert amounts.buyer in (bucket.payout, 0, DUST_P2TR)
