from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts.buckets import bucket_of
from btcfi.contracts.cooperative import Closing, build_close
from btcfi.contracts.mandate import CloseRule
from btcfi.contracts.messages import Offer, Role
from btcfi.contracts.metadata import (
    OptionMetadata,
    RecordType,
    parse_option_metadata,
    read_record,
    record_script,
)
from btcfi.contracts.option import (
    CollateralTooSmallError,
    PayoutOutOfRangeError,
    WrongSignatureError,
    build_refund,
    build_release,
    complete_settlement,
    sign_settlement,
    split,
)
from btcfi.contracts.settle import TooFewAttestationsError, attested_secret, build_child, complete_cet
from btcfi.errors import InvalidInputError
from btcfi.hashes import sha256
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import WrongAttestationError, attest
from btcfi.secp256k1 import public_key_compressed
from btcfi.units import CentsPerBtc, Hash32, Height, Sats
from tests.support.contracts import (
    BUYER_SECRET,
    COARSE,
    COLLATERAL,
    ORACLES,
    PROOF_ROOT,
    RATE,
    SELLER,
    SELLER_SECRET,
    MemoryLedger,
    Scene,
    coin,
    event,
)
from tests.support.mandates import authority

AGREED = authority(close=CloseRule.AGREED)


@pytest.fixture(scope="module")
def ready():
    scene = Scene(tolerance=COARSE, oracles=3, threshold=2)
    agreement, accepted, signed, _ = scene.run()
    return scene, agreement.plan, scene.presignatures(accepted, signed)


def attestations(scene, price, count=3):
    ledger, outcome = MemoryLedger(), scene.event.outcome(CentsPerBtc(price))
    pairs = list(zip(ORACLES, scene.announcements, strict=True))[:count]
    return [attest(secret, announcement, outcome, ledger) for secret, announcement in pairs]


def test_any_two_of_three_oracles_finish_the_same_transaction(ready):
    scene, plan, signatures = ready
    many = attestations(scene, 12_000_000)
    txids = {
        complete_cet(plan, **signatures, attestations=pair).transaction.txid
        for pair in ([many[0], many[1]], [many[2], many[0]], [many[1], many[2]], many)
    }
    assert len(txids) == 1


def test_one_oracle_twice_or_two_that_disagree_are_too_few(ready):
    scene, plan, signatures = ready
    one = attestations(scene, 12_000_000)
    other = attestations(scene, 13_000_000)
    for few in ([], [one[0]], [one[0], one[0]], [one[0], other[1]]):
        with pytest.raises(TooFewAttestationsError):
            complete_cet(plan, **signatures, attestations=few)


def test_the_majority_counts_when_one_oracle_attests_another_price(ready):
    scene, plan, signatures = ready
    one, other = attestations(scene, 12_000_000), attestations(scene, 13_000_000)
    cet = complete_cet(plan, **signatures, attestations=[other[0], one[1], one[2]])
    assert cet.outcome == scene.event.outcome(CentsPerBtc(12_000_000))


def test_a_strangers_attestation_is_ignored_and_a_forged_one_refused(ready):
    scene, plan, signatures = ready
    many = attestations(scene, 12_000_000)
    stranger = bytes([77]) * 32
    foreign = attest(stranger, announce(stranger, scene.event), many[0].outcome, MemoryLedger())
    with pytest.raises(TooFewAttestationsError):
        complete_cet(plan, **signatures, attestations=[foreign, many[0]])
    for forged in (
        replace(many[1], outcome=many[1].outcome + 1),
        replace(many[1], signatures=many[1].signatures[:-1]),
        replace(many[1], signatures=(bytes(64), *many[1].signatures[1:])),
        replace(many[1], event=event(minute=29_000_009).id),
        replace(many[1], outcome=1 << 18),
    ):
        with pytest.raises(WrongAttestationError):
            complete_cet(plan, **signatures, attestations=[many[0], forged])


def test_missing_or_foreign_presignatures_are_named(ready):
    scene, plan, signatures = ready
    many = attestations(scene, 12_000_000)
    with pytest.raises(WrongAdaptorError):
        complete_cet(plan, buyer=b"", seller=signatures["seller"], attestations=many)
    with pytest.raises(WrongSignatureError) as error:
        complete_cet(plan, buyer=signatures["seller"], seller=signatures["seller"], attestations=many)
    assert error.value.party == "buyer"


def test_a_cet_on_the_chain_reveals_the_oracles_secret(ready):
    scene, plan, signatures = ready
    cet = complete_cet(plan, **signatures, attestations=attestations(scene, 12_000_000))
    place = cet.bucket * len(plan.subsets)
    witness = cet.transaction.inputs[0].witness
    revealed = attested_secret(plan, cet.bucket, signatures["buyer"][place * 65 : place * 65 + 65], witness[1])
    assert secp256k1.public_key_compressed(revealed) == secp256k1.serialize_point(plan.point(cet.bucket, (0, 1)))
    with pytest.raises(InvalidInputError):
        attested_secret(plan, cet.bucket, signatures["buyer"][:65], witness[1])


def test_a_child_needs_a_coin_above_the_fee_and_a_replacement_pays_more(ready):
    scene, plan, signatures = ready
    cet = complete_cet(plan, **signatures, attestations=attestations(scene, 12_000_000))
    arguments = {"change_script": SELLER.script, "proof_root": PROOF_ROOT}
    with pytest.raises(InsufficientFundsError):
        build_child(cet, coin(9, 450, SELLER.script), rate=RATE, **arguments)
    first = build_child(cet, coin(9, 50_000, SELLER.script), rate=RATE, **arguments)
    again = build_child(cet, coin(9, 50_000, SELLER.script), rate=RATE, replaces=first, **arguments)
    assert again.fee >= first.fee + 200
    dear = build_child(cet, coin(9, 50_000, SELLER.script), rate=SatsPerKvb(20_000), replaces=first, **arguments)
    assert dear.fee > again.fee


# ---- by a leaf


def test_a_settlement_signed_by_the_wrong_party_never_leaves(ready):
    _, plan, _ = ready
    secret = bytes([0x5A]) * 32
    contract = replace(plan.contract, tree="proof_required", release_hash=sha256(secret))
    settlement = build_release(contract, plan.funding, payout=Sats(5), proof_root=PROOF_ROOT, rate=RATE)
    buyer = sign_settlement(settlement, BUYER_SECRET, party="buyer")
    seller = sign_settlement(settlement, SELLER_SECRET, party="seller")
    assert settlement.payout == 0  # dust goes to the other side
    complete = complete_settlement(settlement, buyer=buyer, seller=seller, secret=secret)
    assert complete.inputs[0].witness[:3] == (seller, buyer, secret)
    for wrong in ({"buyer": seller, "seller": seller}, {"buyer": buyer, "seller": buyer}, {"seller": seller}):
        with pytest.raises(WrongSignatureError):
            complete_settlement(settlement, **wrong, secret=secret)
    refund = build_refund(plan.contract, plan.funding, rate=RATE)
    assert refund.transaction.lock_time == plan.contract.refund_height
    with pytest.raises(WrongSignatureError):
        complete_settlement(refund, seller=seller)


def test_a_side_signs_for_the_role_that_it_has_and_only_what_that_role_signs(ready):
    _, plan, _ = ready
    contract = replace(plan.contract, tree="proof_required", release_hash=sha256(bytes(32)))
    release = build_release(contract, plan.funding, payout=Sats(5), proof_root=PROOF_ROOT, rate=RATE)
    refund = build_refund(plan.contract, plan.funding, rate=RATE)
    refused = [
        (release, BUYER_SECRET, "seller"), (release, SELLER_SECRET, "buyer"), (release, bytes([9]) * 32, "buyer"),
        (release, SELLER_SECRET, "oracle"), (refund, BUYER_SECRET, "buyer"), (refund, BUYER_SECRET, "seller"),
        (refund, SELLER_SECRET, "buyer"),
    ]  # fmt: skip
    for settlement, secret, party in refused:
        with pytest.raises(InvalidInputError):
            sign_settlement(settlement, secret, party=party)


@pytest.mark.parametrize(
    ("collateral", "payout", "fee", "expected"),
    [
        (10_000, 4_000, 240, (4_000, 5_760)),
        (10_000, 10_000, 240, (9_760, 0)),
        (10_000, 9_800, 240, (9_760, 0)),
        (10_000, 9_500, 240, (9_760, 0)),
        (10_000, 9_430, 240, (9_430, 330)),
        (10_000, 330, 240, (330, 9_430)),
        (10_000, 329, 240, (0, 9_760)),
        (10_000, 0, 240, (0, 9_760)),
    ],
)
def test_the_fee_is_the_sellers_and_dust_goes_to_the_other_side(collateral, payout, fee, expected):
    assert split(Sats(collateral), Sats(payout), Sats(fee)) == expected


@pytest.mark.parametrize(
    ("collateral", "payout", "expected"),
    [
        (10_000, 0, (0, 9_760)), (10_000, 164, (0, 9_760)), (10_000, 165, (330, 9_430)), (10_000, 329, (330, 9_430)),
        (10_000, 330, (330, 9_430)), (10_000, 9_430, (9_430, 330)), (10_000, 9_431, (9_430, 330)),
        (10_000, 9_595, (9_430, 330)), (10_000, 9_596, (9_760, 0)), (10_000, 10_000, (9_760, 0)),
        (900, 165, (330, 330)), (899, 165, (0, 659)), (899, 495, (659, 0)),
    ],
)  # fmt: skip
def test_dust_becomes_the_nearer_of_nothing_and_330_sats_where_the_collateral_has_both(collateral, payout, expected):
    assert split(Sats(collateral), Sats(payout), Sats(240), nearest=True) == expected


def test_a_contract_of_version_3_pays_dust_to_the_nearer_and_earlier_ones_give_it_away():
    """At $100,001 and $100,002, by 0.1 BTC: 99 and 199 sats."""
    scene = Scene()
    buckets = scene.agreement().plan.buckets
    outcomes = [scene.event.outcome(CentsPerBtc(price)) for price in (10_000_100, 10_000_200)]
    for made, expected in ((scene, [0, 330]), (Scene().of_version(2), [0, 0])):
        offer = Offer(terms=made.terms, role=Role.SELLER, party=made.seller)
        plan = made.agreement(offer, buckets=buckets).plan
        assert [plan.split_of(bucket_of(buckets, one, 18)).buyer for one in outcomes] == expected


def test_a_payout_above_the_collateral_or_a_collateral_below_its_fee_is_refused():
    with pytest.raises(PayoutOutOfRangeError):
        split(Sats(1_000), Sats(1_001), Sats(1))
    with pytest.raises(PayoutOutOfRangeError):
        split(Sats(1_000), Sats(-1), Sats(1))
    with pytest.raises(CollateralTooSmallError):
        split(Sats(569), Sats(0), Sats(240))


# ---- together


KEYS = {"buyer_key": public_key_compressed(BUYER_SECRET), "seller_key": public_key_compressed(SELLER_SECRET)}


def test_a_cooperative_close_is_one_signature_and_conserves_the_collateral(ready):
    _, plan, _ = ready
    close = build_close(plan.contract, plan.funding, payout=Sats(1_234_567), rate=RATE, proof_root=PROOF_ROOT)
    assert close.payout + close.seller_return + close.fee == COLLATERAL
    closing = Closing(close, **KEYS)
    nonces = [closing.nonce(BUYER_SECRET, bytes([1]) * 32), closing.nonce(SELLER_SECRET, bytes([2]) * 32)]
    public = [nonce.public for nonce in nonces]
    partials = [
        closing.sign(s, n, public, authority=AGREED) for s, n in zip((BUYER_SECRET, SELLER_SECRET), nonces, strict=True)
    ]
    signed = closing.finish(public, partials)
    (signature,) = signed.inputs[0].witness
    assert secp256k1.schnorr_verify(plan.contract.output().output_key, close.sighash(), signature)
    with pytest.raises(WrongSignatureError) as error:
        closing.finish(public, [partials[0], partials[0]])
    assert error.value.party == "seller"


def test_a_side_signs_this_close_of_this_contract_and_no_other_and_a_refusal_leaves_its_nonce_unused(ready):
    _, plan, _ = ready
    close, dearer = (
        build_close(plan.contract, plan.funding, payout=Sats(n), rate=RATE) for n in (1_000_000, 2_000_000)
    )
    closing, other = Closing(close, **KEYS), Closing(dearer, **KEYS)
    ours, theirs = closing.nonce(BUYER_SECRET, bytes([1]) * 32), closing.nonce(SELLER_SECRET, bytes([2]) * 32)
    public = [ours.public, theirs.public]
    refused = [
        lambda: other.sign(BUYER_SECRET, ours, public, authority=AGREED),  # another payout of the same contract
        lambda: closing.sign(BUYER_SECRET, ours, public[::-1], authority=AGREED),  # our nonce in the other side's place
        lambda: closing.sign(SELLER_SECRET, ours, public, authority=AGREED),  # the other side's key
        lambda: closing.sign(bytes([9]) * 32, ours, public, authority=AGREED),  # nobody's key
        lambda: closing.sign(
            BUYER_SECRET, ours, [theirs.public, theirs.public], authority=AGREED
        ),  # a session without our nonce
    ]
    for sign in refused:
        with pytest.raises(InvalidInputError):
            sign()
    partial = closing.sign(BUYER_SECRET, ours, public, authority=AGREED)
    closing.check("buyer", public, partial)
    with pytest.raises(WrongSignatureError) as error:
        closing.check("seller", public, partial)
    assert error.value.party == "seller"


def test_a_roll_pays_the_next_contract_out_of_the_sellers_part(ready):
    _, plan, _ = ready
    rolled = replace(
        plan.contract, expiry_height=Height(1_000), refund_height=Height(1_200), collateral=Sats(8_000_000)
    )
    close = build_close(plan.contract, plan.funding, payout=Sats(500_000), rate=RATE, roll_into=rolled.funding_txout())
    assert rolled.funding_txout() in close.transaction.outputs
    assert sum(output.value for output in close.transaction.outputs) + close.fee == COLLATERAL
    with pytest.raises(InvalidInputError):
        build_close(plan.contract, plan.funding, payout=Sats(5_000_000), rate=RATE, roll_into=rolled.funding_txout())


def test_keys_in_the_wrong_order_are_not_the_key_path(ready):
    _, plan, _ = ready
    close = build_close(plan.contract, plan.funding, payout=Sats(0), rate=RATE)
    with pytest.raises(InvalidInputError):
        Closing(close, buyer_key=KEYS["seller_key"], seller_key=KEYS["buyer_key"])


# ---- what is written on the chain


def test_metadata_has_the_published_offsets_and_80_bytes():
    metadata = OptionMetadata(
        option_type=3, strike=CentsPerBtc(0x01020304), expiry_height=Height(0x050607), oracle_commitment=PROOF_ROOT
    )
    raw = metadata.to_bytes()
    assert len(raw) == 80
    assert (raw[0], raw[1]) == (1, 3)
    assert raw[2:6] == bytes([4, 3, 2, 1])
    assert raw[6:10] == bytes([7, 6, 5, 0])
    assert raw[10:42] == PROOF_ROOT
    assert raw[42:] == bytes(38)
    assert parse_option_metadata(raw) == metadata


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b"\x02" + b[1:], lambda b: b[:-1] + b"\x01"])
def test_metadata_of_another_shape_is_refused(change):
    raw = OptionMetadata(
        option_type=0, strike=CentsPerBtc(1), expiry_height=Height(1), oracle_commitment=Hash32(bytes(32))
    ).to_bytes()
    with pytest.raises(InvalidInputError):
        parse_option_metadata(change(raw))


def test_a_record_is_read_back_and_other_scripts_are_none():
    script = record_script(RecordType.ANCHOR, PROOF_ROOT)
    assert len(script) == 40
    assert read_record(script) == (RecordType.ANCHOR, PROOF_ROOT)
    for other in (b"", b"\x6a", script[:-1], script + b"\x00", script.replace(b"BFVM", b"XXXX"), SELLER.script):
        assert read_record(other) is None
    assert read_record(script[:7] + b"\x09" + script[8:]) is None
