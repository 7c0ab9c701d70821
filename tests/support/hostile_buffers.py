"""Every function that hands a buffer to libsecp256k1, called with every wrong one: run as a process of its own.

A buffer that is too short is read past its end, and what the library takes for misuse ends the process: neither is an
exception, so only another process can see it. Prints the functions and how many calls each refused.
"""

import json
import sys
from collections import Counter

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, keys, musig, taproot
from btcfi.errors import InvalidInputError

SECRET, OTHER, MESSAGE = bytes([1]) * 32, bytes([2]) * 32, bytes([9]) * 32
POINT, KEY = secp256k1.public_key_compressed(SECRET), secp256k1.public_key_xonly(SECRET)
PARSED = secp256k1.parse_point(POINT)
PRESIGNATURE = adaptor.AdaptorKey(SECRET).presign(MESSAGE, secp256k1.generator_multiple(OTHER))
SIGNATURE = adaptor.adapt(PRESIGNATURE, OTHER)
N = secp256k1.ORDER
BAD_SCALARS = [bytes(32), N.to_bytes(32), (N + 1).to_bytes(32), b"\xff" * 32]


def nonce(secret=SECRET, message=MESSAGE):
    return musig.SecretNonce(secret=secret, entropy=bytes([7]) * 32, message=message)


def session():
    one = nonce()
    return musig.Session(musig.KeyAggregate([POINT]), [one.public], MESSAGE), one


def sealed(start, value):
    """A sealed nonce of which one part is another, as long as it was."""
    raw = nonce().seal()
    return raw[:start] + value + raw[start + len(value) :]


SECRETS = {
    "public_key_xonly": secp256k1.public_key_xonly,
    "public_key_compressed": secp256k1.public_key_compressed,
    "even_secret": secp256k1.even_secret,
    "generator_multiple": secp256k1.generator_multiple,
    "schnorr_sign.secret": lambda b: secp256k1.schnorr_sign(b, MESSAGE),
    "scalar_negate": secp256k1.scalar_negate,
    "scalar_add.first": lambda b: secp256k1.scalar_add(b, OTHER),
    "scalar_multiply.first": lambda b: secp256k1.scalar_multiply(b, OTHER),
    "scalar_multiply.second": lambda b: secp256k1.scalar_multiply(OTHER, b),
    "point_multiply.scalar": lambda b: secp256k1.point_multiply(POINT, b),
    "AdaptorKey": adaptor.AdaptorKey,
    "adapt.secret": lambda b: adaptor.adapt(PRESIGNATURE, b),
    "SecretNonce.secret": lambda b: musig.SecretNonce(secret=b, entropy=MESSAGE),
    "Session.sign.secret": lambda b: session()[0].sign(b, nonce()),
    "TaprootKey.internal_key": lambda b: keys.TaprootKey(secret=b).internal_key,
    "ExtendedKey.child": lambda b: keys.ExtendedKey(secret=b, chain_code=MESSAGE).child(0),
    "ExtendedKey.child.hardened": lambda b: keys.ExtendedKey(secret=b, chain_code=MESSAGE).child(keys.HARDENED),
    "encode_wif": keys.encode_wif,
    "tweak_secret": taproot.tweak_secret,
}
"""What is a scalar above 0 and below n: 0 and n and more are refused, too."""

INSIDE = {
    "sealed nonce, first scalar": lambda b: musig.SecretNonce.from_sealed(sealed(4, b)),
    "sealed nonce, second scalar": lambda b: musig.SecretNonce.from_sealed(sealed(36, b)),
}
"""A scalar inside something longer, whose size is checked as a whole."""

SIZED = {
    "scalar_add.second": (32, lambda b: secp256k1.scalar_add(SECRET, b)),
    "schnorr_sign.message": (32, lambda b: secp256k1.schnorr_sign(SECRET, b)),
    "schnorr_sign.aux": (32, lambda b: secp256k1.schnorr_sign(SECRET, MESSAGE, b)),
    "xonly_tweak_add.key": (32, lambda b: secp256k1.xonly_tweak_add(b, MESSAGE)),
    "xonly_tweak_add.tweak": (32, lambda b: secp256k1.xonly_tweak_add(KEY, b)),
    "linear_combination": (32, lambda b: secp256k1.linear_combination(1, b, 1)),
    "parse_point": (33, secp256k1.parse_point),
    "point_negate": (33, secp256k1.point_negate),
    "point_add": (33, lambda b: secp256k1.point_add([b, POINT])),
    "point_multiply": (33, lambda b: secp256k1.point_multiply(b, SECRET)),
    "KeyAggregate": (33, lambda b: musig.KeyAggregate([POINT, b])),
    "KeyAggregate.tweak": (32, lambda b: musig.KeyAggregate([POINT]).tweak(b, xonly=True)),
    "KeyAggregate.tweak.plain": (32, lambda b: musig.KeyAggregate([POINT]).tweak(b, xonly=False)),
    "SecretNonce.entropy": (32, lambda b: musig.SecretNonce(secret=SECRET, entropy=b)),
    "SecretNonce.message": (32, lambda b: musig.SecretNonce(secret=SECRET, entropy=MESSAGE, message=b)),
    "Session.message": (32, lambda b: musig.Session(musig.KeyAggregate([POINT]), [nonce().public], b)),
    "Session.nonces": (66, lambda b: musig.Session(musig.KeyAggregate([POINT]), [b], MESSAGE)),
    "aggregate_nonces": (66, lambda b: musig.aggregate_nonces([b])),
    "Session.aggregate": (32, lambda b: session()[0].aggregate([b, b])),
    "AdaptorKey.aux": (32, lambda b: adaptor.AdaptorKey(SECRET, b)),
    "presign.message": (32, lambda b: adaptor.AdaptorKey(SECRET).presign(b, PARSED)),
    "adapt": (65, lambda b: adaptor.adapt(b, OTHER)),
    "extract.presignature": (65, lambda b: adaptor.extract(b, SIGNATURE)),
    "extract.signature": (64, lambda b: adaptor.extract(PRESIGNATURE, b)),
    "taproot_output": (32, taproot.taproot_output),
    "tweak_hash.key": (32, taproot.tweak_hash),
    "tweak_hash.root": (32, lambda b: taproot.tweak_hash(KEY, b or b"?")),
    "from_sealed": (None, musig.SecretNonce.from_sealed),
    "master_key.seed": (None, lambda b: keys.master_key(b[:15])),
}
"""What has one size, or (None) none of those that are tried."""

VERDICTS = {
    "schnorr_verify.key": lambda b: secp256k1.schnorr_verify(b, MESSAGE, SIGNATURE),
    "schnorr_verify.signature": lambda b: secp256k1.schnorr_verify(KEY, MESSAGE, b),
    "schnorr_verify.message": lambda b: secp256k1.schnorr_verify(KEY, b, bytes(64)),
    "is_xonly_key": lambda b: len(b) != 32 and secp256k1.is_xonly_key(b),
    "is_point": lambda b: len(b) != 33 and secp256k1.is_point(b),
    "presignature_is_valid.key": lambda b: adaptor.presignature_is_valid(b, MESSAGE, PARSED, PRESIGNATURE),
    "presignature_is_valid": lambda b: adaptor.presignature_is_valid(KEY, MESSAGE, PARSED, b),
    "partial_is_valid": lambda b: session()[0].partial_is_valid(0, b),
}
"""What answers false for anything malformed."""

MISUSE = {
    "no points": lambda: secp256k1.sum_points([]),
    "no points to add": lambda: secp256k1.point_add([]),
    "no keys": lambda: musig.KeyAggregate([]),
    "no nonces": lambda: musig.aggregate_nonces([]),
    "no partials": lambda: session()[0].aggregate([]),
    "an empty sealed nonce": lambda: musig.SecretNonce.from_sealed(bytes(len(nonce().seal()))),
    "an empty secret in a sealed nonce": lambda: musig.SecretNonce.from_sealed(sealed(0, bytes(132))),
    "both scalars zero in a sealed nonce": lambda: musig.SecretNonce.from_sealed(sealed(4, bytes(64))),
    "another key in a sealed nonce": lambda: musig.SecretNonce.from_sealed(sealed(198, nonce(OTHER).key)),
    "another point in a sealed nonce": lambda: musig.SecretNonce.from_sealed(sealed(68, bytes(64))),
    "another public half in a sealed nonce": lambda: musig.SecretNonce.from_sealed(sealed(132, nonce(OTHER).public)),
    "another message in a sealed nonce": lambda: session()[0].sign(
        SECRET, musig.SecretNonce.from_sealed(sealed(231, OTHER))
    ),
    "a nonce of another key": lambda: session()[0].sign(SECRET, nonce(OTHER)),
    "a key that is no signer": lambda: session()[0].sign(OTHER, nonce(OTHER)),
    "a nonce of another message": lambda: session()[0].sign(SECRET, nonce(message=OTHER)),
    "a nonce that the session does not name": lambda: session()[0].sign(
        SECRET, musig.SecretNonce(secret=SECRET, entropy=OTHER, message=MESSAGE)
    ),
    "an index that is no index": lambda: keys.ExtendedKey(secret=SECRET, chain_code=MESSAGE).child(1 << 32),
    "an index below none": lambda: keys.ExtendedKey(secret=SECRET, chain_code=MESSAGE).child(-1),
    "a path of five thousand digits": lambda: keys.master_key(MESSAGE).derive("9" * 5_000),
}
"""What the library, or Python, would end with something else than a refusal."""


def refused(name, call):
    """Call it, and say whether it refused; anything else than a refusal or a result is an error of its own."""
    sys.stdout.write(f"{name}\n")  # the last line names what ended the process
    sys.stdout.flush()
    try:
        call()
    except InvalidInputError:
        return True
    return False


def main(lengths, fillings):
    """Try every function with every length of every filling; return what took something that it should not have."""
    wrong, tried = [], Counter()
    for size in lengths:
        for filling in fillings:
            buffer = bytes([filling]) * size
            cases = [(name, call) for name, call in SECRETS.items() if size != 32]
            cases += [(name, call) for name, (right, call) in SIZED.items() if size != right]
            for name, call in cases:
                tried[name] += 1
                if not refused(name, lambda call=call, buffer=buffer: call(buffer)):
                    wrong.append(f"{name}: {size} bytes of {filling:#x}")
            for name, call in VERDICTS.items():
                tried[name] += 1
                if call(buffer):
                    wrong.append(f"{name}: {size} bytes of {filling:#x} are valid")
    for name, call in (SECRETS | INSIDE).items():
        wrong += [f"{name}: {one.hex()}" for one in BAD_SCALARS if not refused(name, lambda c=call, s=one: c(s))]
    last = (N - 1).to_bytes(32)
    wrong += [f"{name}: n - 1 is a scalar" for name, call in SECRETS.items()
              if name != "Session.sign.secret" and refused(name, lambda call=call: call(last))]  # fmt: skip
    wrong += [name for name, call in MISUSE.items() if not refused(name, call)]
    return {"wrong": wrong, "tried": tried}


if __name__ == "__main__":
    lengths, fillings = (json.loads(one) for one in sys.argv[1:])
    found = main(lengths, fillings)
    sys.stdout.write(json.dumps(found) + "\n")
