import os

import pytest
from ecc.ecc import ssa

from btcfi import secp256k1
from btcfi.bitcoin import adaptor
from btcfi.bitcoin.adaptor import AdaptorKey
from btcfi.errors import InvalidInputError

SECRET, MESSAGE, T = bytes([7]) * 32, bytes([9]) * 32, bytes([3]) * 32


@pytest.fixture
def key():
    return AdaptorKey(SECRET)


def point(secret):
    return secp256k1.generator_multiple(secret)


@pytest.mark.parametrize("number", range(64))
def test_a_presignature_finishes_to_a_bip340_signature_and_gives_the_secret_back(key, number):
    # 64 messages: both parities of R' occur
    message, secret = bytes([number]) * 32, (number + 1).to_bytes(32)
    presignature = key.presign(message, point(secret))
    assert adaptor.presignature_is_valid(key.public, message, point(secret), presignature)
    assert not secp256k1.schnorr_verify(key.public, message, presignature[1:])
    signature = adaptor.adapt(presignature, secret)
    assert secp256k1.schnorr_verify(key.public, message, signature)
    assert adaptor.extract(presignature, signature) == secret


def test_both_parities_of_the_adapted_nonce_occur(key):
    firsts = {key.presign(bytes([n]) * 32, point(T))[0] for n in range(32)}
    assert firsts == {2, 3}


def test_a_presignature_is_refused_for_another_message_key_or_point(key):
    presignature = key.presign(MESSAGE, point(T))
    other = secp256k1.public_key_xonly(bytes([8]) * 32)
    assert not adaptor.presignature_is_valid(key.public, bytes(32), point(T), presignature)
    assert not adaptor.presignature_is_valid(other, MESSAGE, point(T), presignature)
    assert not adaptor.presignature_is_valid(key.public, MESSAGE, point(bytes([4]) * 32), presignature)


@pytest.mark.parametrize("position", [0, 1, 20, 32, 33, 50, 64])
def test_one_flipped_bit_makes_a_presignature_invalid(key, position):
    presignature = bytearray(key.presign(MESSAGE, point(T)))
    presignature[position] ^= 1
    assert not adaptor.presignature_is_valid(key.public, MESSAGE, point(T), bytes(presignature))


@pytest.mark.parametrize("malformed", [b"", bytes(65), b"\x02" + b"\xff" * 64, bytes(64), bytes(66)])
def test_malformed_presignatures_are_just_invalid(key, malformed):
    assert not adaptor.presignature_is_valid(key.public, MESSAGE, point(T), malformed)


def test_the_wrong_secret_does_not_finish_it(key):
    signature = adaptor.adapt(key.presign(MESSAGE, point(T)), bytes([5]) * 32)
    assert not secp256k1.schnorr_verify(key.public, MESSAGE, signature)


def test_nonces_differ_between_points_and_messages_and_repeat_for_the_same_call(key):
    assert key.presign(MESSAGE, point(T)) == key.presign(MESSAGE, point(T))
    one, two = key.presign(MESSAGE, point(T)), key.presign(MESSAGE, point(bytes([4]) * 32))
    assert one[1:33] != two[1:33]
    assert key.presign(bytes(32), point(T))[1:33] != one[1:33]


def test_a_signature_of_another_nonce_gives_no_secret(key):
    presignature = key.presign(MESSAGE, point(T))
    other = adaptor.adapt(key.presign(bytes(32), point(T)), T)
    with pytest.raises(InvalidInputError):
        adaptor.extract(presignature, other)


def test_an_independent_library_accepts_the_finished_signature(key):
    secret = os.urandom(31) + b"\x01"
    signature = adaptor.adapt(key.presign(MESSAGE, point(secret)), secret)
    ssa.assert_as_valid_(MESSAGE, key.public, signature)


def test_the_linear_combination_equals_two_multiplications_and_a_sum():
    public = secp256k1.public_key_xonly(SECRET)
    for a, b in ((1, 1), (5, secp256k1.ORDER - 3), (secp256k1.ORDER - 1, 2**200)):
        fast = secp256k1.serialize_point(secp256k1.linear_combination(a, public, b))
        slow = secp256k1.point_add(
            [
                secp256k1.public_key_compressed(a.to_bytes(32)),
                secp256k1.point_multiply(b"\x02" + public, b.to_bytes(32)),
            ]
        )
        assert fast == slow
    with pytest.raises(InvalidInputError):
        secp256k1.linear_combination(1, bytes(32), 1)


def test_an_adaptor_key_shows_no_secret(key):
    assert SECRET.hex() not in repr(key)
    assert SECRET not in repr(key).encode()
