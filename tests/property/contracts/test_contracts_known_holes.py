"""Holes that other stacks of contracts by oracles have had, as rows: each is refused by name, and nothing is signed."""

from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.bitcoin import adaptor
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.contracts import setup
from btcfi.contracts.execution import check_presignatures
from btcfi.contracts.settle import TooFewAttestationsError, complete_cet
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import WrongAnnouncementError, announce, check_announcement
from btcfi.oracle.attestation import WrongAttestationError, attest, check_attestation
from btcfi.secp256k1 import ORDER
from btcfi.units import CentsPerBtc
from tests.support.contracts import BUYER_SECRET, COARSE, ORACLES, SELLER, SELLER_SECRET, MemoryLedger, Scene, event

PRICE = CentsPerBtc(12_000_000)


@pytest.fixture(scope="module")
def ready():
    scene = Scene(tolerance=COARSE, oracles=3, threshold=2)
    agreement, accepted, signed, _ = scene.run()
    return scene, agreement, accepted, signed


def said(scene, price=PRICE):
    outcome = scene.event.outcome(price)
    return [
        attest(secret, announced, outcome, MemoryLedger())
        for secret, announced in zip(ORACLES, scene.announcements, strict=True)
    ]  # fmt: skip


def with_s(attestation, place, s):
    signatures = list(attestation.signatures)
    signatures[place] = signatures[place][:32] + s
    return replace(attestation, signatures=tuple(signatures))


# ---- attestations that are not bound to the combination of oracles


def the_same_oracle_twice(one, _two):
    return [one, one]


def the_same_oracle_twice_in_other_objects(one, _two):
    return [one, replace(one, signatures=tuple(bytes(each) for each in one.signatures))]


def one_oracle_under_the_other_s_name(one, two):
    return [one, replace(one, oracle_key=two.oracle_key)]


def one_oracle_s_signatures_in_the_other_s_attestation(one, two):
    return [one, replace(two, signatures=one.signatures)]


def none(_one, _two):
    return []


def one_alone(one, _two):
    return [one]


def a_digit_short(one, two):
    return [one, replace(two, signatures=two.signatures[:-1])]


def a_digit_too_many(one, two):
    return [one, replace(two, signatures=(*two.signatures, two.signatures[-1]))]


def no_digits(one, two):
    return [one, replace(two, signatures=())]


def a_zero_s(one, two):
    return [one, with_s(two, 0, bytes(32))]


def an_s_of_the_order(one, two):
    return [one, with_s(two, 0, ORDER.to_bytes(32))]


def an_s_above_the_order(one, two):
    return [one, with_s(two, 0, b"\xff" * 32)]


def the_same_s_plus_the_order(one, two):
    s = int.from_bytes(two.signatures[0][32:]) + ORDER
    return [one, with_s(two, 0, s.to_bytes(33)[-32:])]


def a_short_signature(one, two):
    return [one, replace(two, signatures=(two.signatures[0][:63], *two.signatures[1:]))]


def an_s_moved_from_one_digit_to_another(one, two):
    """The sum of both stays, and so does the secret of the prefix that holds them."""
    first, second = (int.from_bytes(two.signatures[place][32:]) for place in (0, 1))
    moved = with_s(two, 0, ((first + 5) % ORDER).to_bytes(32))
    return [one, with_s(moved, 1, ((second - 5) % ORDER).to_bytes(32))]


def digits_in_another_order(one, two):
    return [one, replace(two, signatures=two.signatures[::-1])]


COMBINATIONS = [
    the_same_oracle_twice, the_same_oracle_twice_in_other_objects, one_oracle_under_the_other_s_name,
    one_oracle_s_signatures_in_the_other_s_attestation, none, one_alone, a_digit_short, a_digit_too_many, no_digits,
    a_zero_s, an_s_of_the_order, an_s_above_the_order, the_same_s_plus_the_order, a_short_signature,
    an_s_moved_from_one_digit_to_another, digits_in_another_order,
]  # fmt: skip


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_less_than_the_threshold_of_different_oracles_whole_attestations_finishes_no_cet(ready, combine):
    scene, agreement, accepted, signed = ready
    one, two, _ = said(scene)
    given = combine(one, two)
    with pytest.raises((TooFewAttestationsError, WrongAttestationError)):
        complete_cet(agreement.plan, **scene.presignatures(accepted, signed), attestations=given)
    whole = complete_cet(agreement.plan, **scene.presignatures(accepted, signed), attestations=[one, two])
    assert whole.outcome == scene.event.outcome(PRICE)


def test_the_signatures_of_one_pair_of_oracles_finish_no_pre_signature_of_another_pair(ready):
    scene, agreement, accepted, _ = ready
    plan, (one, two, three) = agreement.plan, said(scene)
    check_presignatures(plan, "buyer", accepted.presignatures)
    bucket = complete_cet(
        plan, buyer=accepted.presignatures, seller=ready[3].presignatures, attestations=[one, two]
    ).bucket
    length, digest = plan.buckets[bucket].length, plan.sighash(bucket)
    secrets = {
        subset: secp256k1.scalar_add(*(said_by.prefix_secret(length) for said_by in pair))
        for subset, pair in (((0, 1), (one, two)), ((0, 2), (one, three)), ((1, 2), (two, three)))
    }
    for place, subset in enumerate(plan.subsets):
        at = (bucket * len(plan.subsets) + place) * ADAPTOR_SIZE
        presignature = accepted.presignatures[at : at + ADAPTOR_SIZE]
        for other, secret in secrets.items():
            finished = adaptor.adapt(presignature, secret)
            assert secp256k1.schnorr_verify(plan.contract.buyer_key, digest, finished) == (other == subset)


# ---- lists of adaptor signatures that are cut or extended


LISTS = {
    "none": lambda raw: b"",
    "the last one lacks": lambda raw: raw[:-ADAPTOR_SIZE],
    "the first one lacks": lambda raw: raw[ADAPTOR_SIZE:],
    "a byte lacks": lambda raw: raw[:-1],
    "a byte more": lambda raw: raw + b"\0",
    "one more": lambda raw: raw + raw[:ADAPTOR_SIZE],
    "the first in every place": lambda raw: raw[:ADAPTOR_SIZE] * (len(raw) // ADAPTOR_SIZE),
    "two changed places": lambda raw: raw[65:130] + raw[:65] + raw[130:],
    "the last is zero": lambda raw: raw[:-ADAPTOR_SIZE] + bytes(ADAPTOR_SIZE),
    "a zero s": lambda raw: raw[:33] + bytes(32) + raw[65:],
    "an s of the order": lambda raw: raw[:33] + ORDER.to_bytes(32) + raw[65:],
    "an s above the order": lambda raw: raw[:33] + b"\xff" * 32 + raw[65:],
    "the other parity": lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
    "an uncompressed point": lambda raw: b"\x04" + raw[1:],
    "a point off the curve": lambda raw: b"\x02" + (5).to_bytes(32) + raw[33:],
}
"""What is done to the right list. The whole of it must be right, not the places that a settlement would look at."""


@pytest.mark.parametrize("how", LISTS)
def test_the_seller_signs_nothing_after_a_cut_extended_or_changed_list(ready, how):
    scene, agreement, accepted, _ = ready
    wrong = replace(accepted, presignatures=LISTS[how](accepted.presignatures))
    wallet = {SELLER.script: SELLER}
    with pytest.raises(WrongAdaptorError):
        setup.sign(scene.offer(), wrong, agreement, SELLER_SECRET, wallet, authority=scene.authority())


@pytest.mark.parametrize("how", LISTS)
def test_the_buyer_signs_nothing_after_a_cut_extended_or_changed_list(ready, how):
    scene, agreement, _, signed = ready
    wrong = replace(signed, presignatures=LISTS[how](signed.presignatures))
    wallet = scene.side(agreement.offering.other)[2]
    with pytest.raises(WrongAdaptorError):
        setup.complete(agreement, wrong, wallet, authority=scene.authority())


# ---- announcements whose nonces give something away


def changed_nonce(announcement, place, nonce):
    nonces = list(announcement.nonces)
    nonces[place] = nonce
    return signed_again(replace(announcement, nonces=tuple(nonces)))


def signed_again(announcement):
    """The oracle itself is hostile: its own signature is right."""
    return replace(announcement, signature=secp256k1.schnorr_sign(ORACLES[0], announcement.digest()))


ANNOUNCEMENTS = {
    "a zero nonce": lambda one: changed_nonce(one, 0, bytes(32)),
    "a nonce off the curve": lambda one: changed_nonce(one, 0, (5).to_bytes(32)),
    "a nonce above the field": lambda one: changed_nonce(one, 0, b"\xff" * 32),
    "a nonce twice": lambda one: changed_nonce(one, 1, one.nonces[0]),
    "all nonces the same": lambda one: signed_again(
        replace(one, nonces=one.nonces[:1] * len(one.nonces), proofs=one.proofs[:1] * len(one.proofs))
    ),
    "its own key as a nonce": lambda one: changed_nonce(one, 0, one.oracle_key),
    "another oracle's nonce": lambda one: changed_nonce(one, 0, announce(ORACLES[1], one.event).nonces[0]),
    "another oracle's nonces and proofs": lambda one: signed_again(
        replace(
            one, nonces=announce(ORACLES[1], event(minute=29_000_001)).nonces,
            proofs=announce(ORACLES[1], event(minute=29_000_001)).proofs,
        )
    ),
    "nonces of another event": lambda one: signed_again(
        replace(one, nonces=announce(ORACLES[0], event(minute=29_000_001)).nonces)
    ),
    "nonces in another order": lambda one: signed_again(replace(one, nonces=one.nonces[::-1])),
    "nonces and proofs in another order": lambda one: signed_again(
        replace(one, nonces=one.nonces[::-1], proofs=one.proofs[::-1])
    ),
    "a nonce short": lambda one: signed_again(replace(one, nonces=one.nonces[:-1])),
    "no nonces": lambda one: signed_again(replace(one, nonces=(), proofs=())),
    "a proof of zeros": lambda one: signed_again(replace(one, proofs=(bytes(64), *one.proofs[1:]))),
    "a signature of zeros": lambda one: replace(one, signature=bytes(64)),
    "an s of the order": lambda one: replace(one, signature=one.signature[:32] + ORDER.to_bytes(32)),
    "the key of zeros": lambda one: replace(one, oracle_key=bytes(32)),
}  # fmt: skip


@pytest.mark.parametrize("how", ANNOUNCEMENTS)
def test_nothing_is_built_on_an_announcement_with_a_wrong_nonce_proof_or_signature(how):
    scene = Scene(tolerance=COARSE)
    hostile = ANNOUNCEMENTS[how](scene.announcements[0])
    with pytest.raises(WrongAnnouncementError):
        check_announcement(hostile, expected=scene.event)
    with pytest.raises(WrongAnnouncementError):
        scene.with_terms(announcements=(hostile,)).agreement()


def test_one_oracle_announced_twice_makes_no_threshold():
    scene = Scene(tolerance=COARSE, oracles=2, threshold=2)
    with pytest.raises(InvalidInputError) as refused:
        scene.with_terms(announcements=scene.announcements[:1] * 2).agreement()
    assert refused.value.field == "oracles"


@pytest.mark.parametrize("threshold", [0, 3, -1, 1 << 40])
def test_a_threshold_that_no_oracles_or_nobody_meets_is_refused(threshold):
    scene = Scene(tolerance=COARSE, oracles=2, threshold=2)
    with pytest.raises(InvalidInputError) as refused:
        scene.with_terms(threshold=threshold).agreement()
    assert refused.value.field == "threshold"


# ---- sums of points, and scalars, at their edges


def test_points_whose_sum_is_infinity_sign_nothing():
    """Without proofs of knowledge an oracle could choose its nonce so that all points together cancel."""
    point = secp256k1.generator_multiple(BUYER_SECRET)
    with pytest.raises(InvalidInputError):
        secp256k1.sum_points([point, secp256k1.negate_point(point)])
    with pytest.raises(InvalidInputError):
        secp256k1.point_add([secp256k1.serialize_point(one) for one in (point, secp256k1.negate_point(point))])


def test_an_adaptor_point_that_cancels_the_nonce_signs_nothing(monkeypatch):
    """The pre-signer's nonce is a hash of the point: whoever wants the sum to vanish must invert the hash."""
    key, message = AdaptorKey(BUYER_SECRET), bytes([9]) * 32
    cancelling = []
    real = secp256k1.generator_multiple

    def remembered(secret):
        cancelling.append(secp256k1.negate_point(real(secret)))
        return real(secret)

    monkeypatch.setattr(secp256k1, "generator_multiple", remembered)
    key.presign(message, real(SELLER_SECRET))
    (point,) = cancelling
    monkeypatch.setattr(secp256k1, "generator_multiple", lambda _: secp256k1.negate_point(point))
    with pytest.raises(InvalidInputError):
        key.presign(message, point)


@pytest.mark.parametrize("s", [0, ORDER, ORDER + 1, (1 << 256) - 1])
def test_a_signature_with_s_out_of_range_is_no_signature(s):
    message, key = bytes([9]) * 32, secp256k1.public_key_xonly(BUYER_SECRET)
    signature = secp256k1.schnorr_sign(BUYER_SECRET, message)
    assert secp256k1.schnorr_verify(key, message, signature)
    assert not secp256k1.schnorr_verify(key, message, signature[:32] + s.to_bytes(32))


def test_an_attestation_whose_every_s_is_zero_finishes_nothing(ready):
    scene, *_ = ready
    one = said(scene)[0]
    zeros = replace(one, signatures=tuple(each[:32] + bytes(32) for each in one.signatures))
    with pytest.raises(WrongAttestationError):
        check_attestation(zeros, scene.announcements[0])
    with pytest.raises(InvalidInputError):
        zeros.prefix_secret(2)
