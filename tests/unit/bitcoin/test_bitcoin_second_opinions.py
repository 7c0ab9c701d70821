"""Two roads to one number: our primitives against wallycore, python-bitcoinlib and btclib's ecc."""

import random
from contextlib import suppress

import pytest
import wallycore
from bitcoin.core import CTransaction
from ecc.ecc import musig2
from hypothesis import given, settings
from hypothesis import strategies as st

from btcfi import secp256k1
from btcfi.bitcoin import keys, taproot
from btcfi.bitcoin.address import decode_address, encode_address
from btcfi.bitcoin.musig import KeyAggregate, SecretNonce, Session, aggregate_nonces, sort_keys
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from btcfi.errors import InvalidInputError
from btcfi.units import Sats, Txid

SEED = bytes(range(64))
outpoints = st.builds(
    lambda txid, index: OutPoint(txid=Txid(txid), index=index),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 2),
)
inputs = st.builds(
    lambda outpoint, sequence, script, witness: TxIn(
        outpoint=outpoint, sequence=sequence, script_sig=script, witness=tuple(witness)
    ),
    outpoints,
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
    st.lists(st.binary(max_size=300), max_size=3),
)
outputs = st.builds(
    lambda value, script: TxOut(value=Sats(value), script=script), st.integers(0, 21 * 10**14), st.binary(max_size=300)
)
transactions = st.builds(
    lambda version, ins, outs, lock: Transaction(
        version=version, inputs=tuple(ins), outputs=tuple(outs), lock_time=lock
    ),
    st.integers(0, 2**31 - 1),
    st.lists(inputs, min_size=1, max_size=4),
    st.lists(outputs, min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)


@given(transactions)
@settings(max_examples=100, deadline=None)
def test_a_transactions_bytes_id_and_weight_are_bitcoinlibs(transaction):
    parsed = CTransaction.deserialize(transaction.to_bytes())
    assert parsed.serialize() == transaction.to_bytes()
    assert parsed.GetTxid() == transaction.txid
    assert parsed.calc_weight() == transaction.weight
    assert parse_transaction(transaction.to_bytes()) == transaction


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_transaction_are_named(raw):
    with suppress(InvalidInputError):
        assert parse_transaction(raw).to_bytes() == raw


@pytest.mark.parametrize("path", ["0", "0'", "86'/1'/0'/0/7", "m/2147483647'/1/2147483647", "44h/0h/0h"])
def test_bip32_children_are_wallycores(path):
    ours = keys.master_key(SEED).derive(path)
    theirs = wallycore.bip32_key_from_seed(SEED, wallycore.BIP32_VER_TEST_PRIVATE, 0)
    numbers = [
        int(part.rstrip("'h")) + (1 << 31 if part[-1] in "'h" else 0) for part in path.removeprefix("m/").split("/")
    ]
    theirs = wallycore.bip32_key_from_parent_path(theirs, numbers, wallycore.BIP32_FLAG_KEY_PRIVATE)
    assert ours.secret == bytes(wallycore.bip32_key_get_priv_key(theirs))
    assert ours.chain_code == bytes(wallycore.bip32_key_get_chain_code(theirs))
    assert ours.secret.hex() not in repr(ours)


@pytest.mark.parametrize("path", ["", "x", "0'/-1", "2147483648", "1//2", "0''1"])
def test_a_malformed_path_is_refused(path):
    with pytest.raises(InvalidInputError):
        keys.master_key(SEED).derive(path)


@given(st.binary(min_size=32, max_size=32).filter(lambda b: 0 < int.from_bytes(b) < secp256k1.ORDER))
@settings(max_examples=30, deadline=None)
def test_wif_is_wallycores_both_ways(secret):
    text = keys.encode_wif(secret)
    assert text == wallycore.wif_from_bytes(secret, 0xEF, wallycore.WALLY_WIF_FLAG_COMPRESSED)
    assert keys.decode_wif(text) == secret


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "1", lambda t: "0" + t[1:], lambda t: t[:10] + "1" + t[11:]]
)
def test_a_wrong_wif_is_refused_without_being_repeated(change):
    text = change(keys.encode_wif(bytes([7]) * 32))
    with pytest.raises(InvalidInputError) as error:
        keys.decode_wif(text)
    assert text not in str(error.value)
    with pytest.raises(InvalidInputError):
        keys.decode_wif(keys.encode_wif(bytes([7]) * 32, "main"), "regtest")


@given(version=st.integers(0, 16), program=st.binary(min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_addresses_are_wallycores_both_ways(version, program):
    if version == 0 and len(program) not in (20, 32):
        program = (program * 16)[:20]
    script = bytes([0 if version == 0 else 0x50 + version, len(program)]) + program
    for network, hrp in (("main", "bc"), ("regtest", "bcrt")):
        address = encode_address(script, network)
        assert decode_address(address, network) == script
        assert decode_address(address.upper(), network) == script
        if version <= 1 and len(program) in (20, 32) and not (version == 1 and len(program) != 32):
            assert address == wallycore.addr_segwit_from_bytes(script, hrp, 0)


@pytest.mark.parametrize(
    "address",
    [
        "", "bcrt1", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "bcrt1qAr0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        "bcrt1p" + "q" * 58, "2N" + "x" * 33, "bcrt1b" + "q" * 40,
    ],
)  # fmt: skip
def test_another_networks_or_a_mistyped_address_is_refused(address):
    with pytest.raises(InvalidInputError):
        decode_address(address, "regtest")


def test_one_mistyped_letter_never_passes():
    address = encode_address(keys.wallet_key(SEED[:32], 0).script)
    rng = random.Random(5)
    for _ in range(200):
        place = rng.randrange(5, len(address))
        letter = rng.choice([c for c in "qpzry9x8gf2tvdw0s3jn54khce6mua7l" if c != address[place]])
        with pytest.raises(InvalidInputError):
            decode_address(address[:place] + letter + address[place + 1 :])


@given(transactions, st.data())
@settings(max_examples=60, deadline=None)
def test_every_sighash_of_key_and_script_path_is_wallycores(transaction, data):
    spent = [
        TxOut(
            value=Sats(data.draw(st.integers(0, 10**12))),
            script=b"\x51\x20" + data.draw(st.binary(min_size=32, max_size=32)),
        )
        for _ in transaction.inputs
    ]
    index = data.draw(st.integers(0, len(spent) - 1))
    hash_type = data.draw(st.sampled_from(taproot.SIGHASH_TYPES))
    leaf_script = data.draw(st.one_of(st.none(), st.binary(min_size=1, max_size=100)))
    leaf = None if leaf_script is None else taproot.leaf_hash(leaf_script)
    if hash_type & 3 == taproot.SIGHASH_SINGLE and index >= len(transaction.outputs):
        with pytest.raises(InvalidInputError):
            taproot.sighash(transaction, index, spent, hash_type=hash_type, leaf=leaf)
        return
    scripts = wallycore.map_init(len(spent), None)
    for number, output in enumerate(spent):
        wallycore.map_add_integer(scripts, number, output.script)
    theirs = wallycore.tx_get_btc_taproot_signature_hash(
        wallycore.tx_from_bytes(transaction.to_bytes(), 0), index, scripts, [output.value for output in spent],
        leaf_script, 0, 0xFFFFFFFF, None, hash_type, 0,
    )  # fmt: skip
    assert taproot.sighash(transaction, index, spent, hash_type=hash_type, leaf=leaf) == bytes(theirs)
    if hash_type == taproot.SIGHASH_DEFAULT:
        joined = b"".join(output.to_bytes() for output in transaction.outputs)
        assert taproot.sighash_midstate(transaction, index, spent, leaf=leaf).sighash(joined) == bytes(theirs)


@pytest.mark.parametrize("hash_type", [0x04, 0x80, 0x84, 0xFF, 0x41])
def test_an_unknown_hash_type_is_refused(hash_type):
    output = TxOut(value=Sats(1), script=b"\x51")
    transaction = Transaction(
        version=2, inputs=(TxIn(outpoint=OutPoint(txid=Txid(bytes(32)), index=0)),), outputs=(output,)
    )
    with pytest.raises(InvalidInputError):
        taproot.sighash(transaction, 0, [output], hash_type=hash_type)
    with pytest.raises(InvalidInputError):
        taproot.sighash(transaction, 0, [], hash_type=0)


@pytest.mark.parametrize("root", [b"", bytes([6]) * 32])
def test_a_musig_session_of_our_signer_and_btclibs_gives_one_valid_signature(root):
    ours, theirs, message = bytes([3]) * 32, bytes([4]) * 32, bytes([9]) * 32
    pair = [secp256k1.public_key_compressed(ours), musig2.individual_pub_key(int.from_bytes(theirs))]
    aggregate = KeyAggregate(pair)
    plain = aggregate.xonly
    assert plain == musig2.key_agg_var(pair).x_only_pub_key
    tweak = taproot.tweak_hash(plain, root)
    aggregate.taproot_tweak(root)
    nonce = SecretNonce(secret=ours, entropy=bytes([5]) * 32, message=message, aggregate=aggregate)
    their_secret_nonce, their_nonce = musig2.nonce_gen(int.from_bytes(theirs), pair[1])
    context = musig2.SessionContext(
        musig2.nonce_agg_var([nonce.public, bytes(their_nonce)]), tuple(pair), (tweak,), (True,), message
    )
    assert aggregate_nonces([nonce.public, bytes(their_nonce)]) == context.agg_nonce
    session = Session(aggregate, [nonce.public, bytes(their_nonce)], message)
    partials = [session.sign(ours, nonce), bytes(musig2.sign(their_secret_nonce, int.from_bytes(theirs), context))]
    assert session.partial_is_valid(1, partials[1])
    signature = session.aggregate(partials)
    assert secp256k1.schnorr_verify(aggregate.xonly, message, signature)
    assert musig2.partial_sig_agg(partials, context).serialize() == signature


def test_keys_are_sorted_and_a_wrong_nonce_is_named():
    pair = [secp256k1.public_key_compressed(bytes([n]) * 32) for n in (3, 4, 5)]
    assert sort_keys(pair) == musig2.key_sort(pair)
    for wrong in ([], [bytes(66)], [b"\x02" * 65]):
        with pytest.raises(InvalidInputError):
            aggregate_nonces(wrong)


def test_a_seed_of_the_wrong_length_is_refused():
    for size in (0, 15, 65):
        with pytest.raises(InvalidInputError):
            keys.master_key(bytes(size))
