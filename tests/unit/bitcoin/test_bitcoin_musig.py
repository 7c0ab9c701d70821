import pytest

from btcfi import secp256k1
from btcfi.bitcoin import musig, taproot
from btcfi.errors import InvalidInputError

SECRETS = [bytes([n]) * 32 for n in (1, 2, 3)]
KEYS = [secp256k1.public_key_compressed(secret) for secret in SECRETS]
MESSAGE = bytes([9]) * 32


def session(count=3, root=None, message=MESSAGE):
    aggregate = musig.KeyAggregate(KEYS[:count])
    if root is not None:
        aggregate.taproot_tweak(root)
    nonces = [
        musig.SecretNonce(secret=secret, entropy=bytes([40 + n]) * 32, message=message, aggregate=aggregate)
        for n, secret in enumerate(SECRETS[:count])
    ]
    return aggregate, nonces, musig.Session(aggregate, [nonce.public for nonce in nonces], message)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("root", [None, b"", bytes([5]) * 32])
def test_the_aggregate_signature_is_bip340_valid_with_and_without_a_tree(count, root):
    aggregate, nonces, run = session(count, root)
    partials = [run.sign(secret, nonce) for secret, nonce in zip(SECRETS, nonces, strict=False)]
    assert secp256k1.schnorr_verify(aggregate.xonly, MESSAGE, run.aggregate(partials))


def test_the_taproot_tweak_equals_the_outputs_key():
    aggregate = musig.KeyAggregate(KEYS[:2])
    internal = aggregate.xonly
    leaf = taproot.Leaf(script=b"\x51")
    output = taproot.taproot_output(internal, leaf)
    aggregate.taproot_tweak(output.root)
    assert aggregate.xonly == output.output_key


def test_a_nonce_signs_once():
    _, nonces, run = session()
    run.sign(SECRETS[0], nonces[0])
    with pytest.raises(musig.NonceUsedError):
        run.sign(SECRETS[0], nonces[0])


def test_a_sealed_nonce_leaves_its_object_and_signs_once_from_its_bytes():
    aggregate, nonces, run = session()
    sealed = nonces[0].seal()
    with pytest.raises(musig.NonceUsedError):
        run.sign(SECRETS[0], nonces[0])
    partials = [run.sign(SECRETS[0], musig.SecretNonce.from_sealed(sealed))]
    partials += [run.sign(SECRETS[n], nonces[n]) for n in (1, 2)]
    assert secp256k1.schnorr_verify(aggregate.xonly, MESSAGE, run.aggregate(partials))


def test_a_wrong_partial_signature_names_its_signer():
    _, nonces, run = session()
    partials = [run.sign(secret, nonce) for secret, nonce in zip(SECRETS, nonces, strict=True)]
    partials[1] = bytes(31) + b"\x07"
    with pytest.raises(musig.WrongPartialError) as error:
        run.aggregate(partials)
    assert error.value.signer == 1


def test_the_order_of_keys_matters():
    assert musig.KeyAggregate(KEYS).xonly != musig.KeyAggregate(KEYS[::-1]).xonly


@pytest.mark.parametrize(
    "make",
    [
        lambda: musig.KeyAggregate([]),
        lambda: musig.KeyAggregate([bytes(33)]),
        lambda: musig.SecretNonce(secret=SECRETS[0], entropy=bytes(32)),
        lambda: musig.SecretNonce(secret=bytes(32), entropy=bytes([1]) * 32),
        lambda: musig.Session(musig.KeyAggregate(KEYS), [bytes(66)] * 3, MESSAGE),
        lambda: musig.Session(musig.KeyAggregate(KEYS), [], MESSAGE),
        lambda: musig.Session(musig.KeyAggregate(KEYS), [bytes(66)] * 3, b"short"),
        lambda: musig.SecretNonce.from_sealed(b"short"),
    ],
)
def test_bad_input_is_named(make):
    with pytest.raises(InvalidInputError):
        make()
