"""Scripts of clauses through other people's code: btclib-wallet and bdkpython compile each to the same bytes."""

import random
from hashlib import sha256

import pytest

from btcfi.adapters.miniscript import CompilersDisagreeError, check_compiled, compilers
from btcfi.bitcoin.taproot import NUMS_KEY, Leaf, taproot_output
from btcfi.clauses.clause import SECONDS_FLAG, After, And, Hash, Key, Older, Or, Revealed, Threshold, means_of
from btcfi.clauses.script import balanced, descriptor, leaf_script, miniscript, satisfy, witness_sizes
from btcfi.errors import InvalidInputError
from btcfi.secp256k1 import public_key_xonly, schnorr_sign
from tests.support.trees import KINDS, TreeScene, kind_name

FOUND = compilers()
pytestmark = pytest.mark.skipif(
    len(FOUND) < 2, reason=f"needs btclib-wallet and bdkpython, found {', '.join(FOUND) or 'neither'}: `make check`"
)
KEYS = [public_key_xonly(bytes([n]) * 32) for n in range(1, 13)]
HASHES = [sha256(bytes([n])).digest() for n in range(6)]


def compiled(clause):
    """(descriptor, our script) of an output with the ways of a clause as its leaves."""
    means = means_of(clause)
    leaves = [Leaf(script=leaf_script(one)) for one in means]
    return descriptor(NUMS_KEY, means), taproot_output(NUMS_KEY, balanced(leaves)).script


def random_clause(rng, depth=3):
    """A clause over few keys, hashes and locks: many are unsound, and that is said by each of the three."""
    if depth == 0 or rng.random() < 0.25:
        return rng.choice([
            Key(rng.choice(KEYS)), Key(rng.choice(KEYS)), Revealed(rng.choice(KEYS)), Hash(rng.choice(HASHES)),
            After(rng.choice([1, 16, 17, 127, 128, 800_000, 499_999_999, 500_000_000, 2**31 - 1])),
            Older(rng.choice([1, 16, 17, 144, 65_535, SECONDS_FLAG | 1, SECONDS_FLAG | 65_535])),
        ])  # fmt: skip
    parts = tuple(random_clause(rng, depth - 1) for _ in range(rng.randint(1, 3)))
    kind = rng.randint(0, 2)
    return And(parts) if kind == 0 else Or(parts) if kind == 1 else Threshold(rng.randint(1, len(parts)), parts)


def test_two_kept_packages_make_the_same_script_of_every_clause_that_we_take():
    rng, taken, shapes = random.Random(18), 0, set()
    while taken < 150:
        clause = And((random_clause(rng), Key(public_key_xonly(b"\x77" * 32))))
        try:
            text, script = compiled(clause)
        except InvalidInputError:
            continue
        assert check_compiled(text, script, FOUND) == ("btclib-wallet", "bdkpython")
        taken += 1
        shapes |= {name for name in ("multi_a", "sha256", "after", "older", "{") if name in text}
    assert shapes == {"multi_a", "sha256", "after", "older", "{"}


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_two_kept_packages_make_the_same_script_of_every_output_of_a_tree(kind):
    outputs = list(TreeScene(9, kind).tree.descriptors())
    assert len(outputs) == 8
    for text, script in outputs:
        check_compiled(text, script, FOUND)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3]], ids=kind_name)
def test_two_kept_packages_make_the_same_script_of_a_flat_output(kind):
    ((text, script),) = TreeScene(50, kind, flat_form=True).tree.descriptors()
    assert text.count("sha256(" if kind[0] == "preimage" else "multi_a(") == 98
    check_compiled(text, script, FOUND)


A, B = KEYS[0], KEYS[1]
UNSOUND = {
    "no signature": (Hash(HASHES[0]), f"sha256({HASHES[0].hex()})"),
    "no signature in one of two ways": (Or((Key(A), After(5))), f"{{pk({A.hex()}),after(5)}}"),
    "absolute locks of both units": (
        And((After(5), After(500_000_001), Key(A))), f"and_v(v:after(5),and_v(v:after(500000001),pk({A.hex()})))",
    ),
    "relative locks of both units": (
        And((Older(5), Older(SECONDS_FLAG | 1), Key(A))),
        f"and_v(v:older(5),and_v(v:older({SECONDS_FLAG | 1}),pk({A.hex()})))",
    ),
    "a key inside and beside a threshold": (
        And((Threshold(1, (Key(A), Key(B))), Key(A))), f"and_v(v:multi_a(1,{A.hex()},{B.hex()}),pk({A.hex()}))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_what_is_unsound_is_refused_by_us_and_by_both_of_them(name):
    clause, text = UNSOUND[name]
    with pytest.raises(InvalidInputError):
        compiled(clause)
    for one in FOUND:
        with pytest.raises(InvalidInputError) as refused:
            check_compiled(f"tr({NUMS_KEY.hex()},{text})", b"", {one: FOUND[one]})
        assert one in refused.value.problem


def test_a_lock_beyond_a_script_s_four_bytes_is_refused_by_us_where_one_of_them_takes_it():
    text = f"tr({NUMS_KEY.hex()},and_v(v:after({2**31}),pk({A.hex()})))"
    with pytest.raises(InvalidInputError):
        After(2**31)
    with pytest.raises(InvalidInputError):
        check_compiled(text, b"", {"btclib-wallet": FOUND["btclib-wallet"]})
    assert len(FOUND["bdkpython"](text)) == 34


def test_another_script_than_ours_is_said_to_be_another():
    text, script = compiled(And((Hash(HASHES[0]), Key(A))))
    with pytest.raises(CompilersDisagreeError) as said:
        check_compiled(text, script[:-1] + bytes([script[-1] ^ 1]), FOUND)
    assert said.value.scripts["btclib-wallet"] == said.value.scripts["bdkpython"] == script.hex()


def test_a_witness_is_the_one_that_btclib_s_satisfier_finds():
    peer = pytest.importorskip("btclib_wallet.descriptors", reason="needs btclib-wallet")
    rng, taken = random.Random(5), 0
    preimages = {sha256(bytes([n]) * 32).digest(): bytes([n]) * 32 for n in range(3)}
    secrets = {public_key_xonly(bytes([n]) * 32): bytes([n]) * 32 for n in range(1, 13)}
    message = bytes(32)
    while taken < 60:
        atoms = [Hash(digest) for digest in rng.sample(list(preimages), rng.randint(0, 2))]
        keys = rng.sample(KEYS, 6)
        atoms += rng.sample([After(700_000), Older(12), Threshold(rng.randint(1, 3), tuple(map(Key, keys[:4])))], 2)
        (means,) = means_of(And((*atoms, Key(keys[4]), Revealed(keys[5]))))
        # some of a threshold's signers are away
        away = rng.sample(keys[:4], rng.randint(0, 1))
        signatures = {k: schnorr_sign(secret, message) for k, secret in secrets.items() if k not in away}
        leaf = peer.parse(f"tr({NUMS_KEY.hex()},{miniscript(means)})").tree
        spend = peer.SpendContext(sha256_preimages=preimages, locktime=means.lock_time, sequence=means.relative)
        theirs = leaf.satisfy(signatures, spend)
        ours = satisfy(means, signatures, preimages)
        # of a threshold each may leave out another signer: as many of them, and the sizes are the same
        assert sorted(map(len, ours)) == sorted(map(len, theirs)) == sorted(witness_sizes(means))
        assert [item for item in ours if len(item) == 32] == [item for item in theirs if len(item) == 32]
        taken += 1
