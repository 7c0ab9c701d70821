"""BIP340 and BIP341's own vectors, read from the shared folder beside the repository."""

import csv
import json

import pytest

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.address import decode_address, encode_address
from btcfi.bitcoin.transaction import TxOut, parse_transaction
from btcfi.units import Sats
from tests.support.paths import SHARED

BIPS = SHARED / "bips"
pytestmark = pytest.mark.skipif(not BIPS.is_dir(), reason=f"needs the BIP vectors in {BIPS}")


def _bip341():
    return json.loads((BIPS / "bip341-wallet-test-vectors.json").read_text())


def test_every_row_of_bip340_verifies_or_fails_as_stated():
    rows = list(csv.DictReader((BIPS / "bip340-test-vectors.csv").open()))
    assert len(rows) == 19
    for row in rows:
        key, message = bytes.fromhex(row["public key"]), bytes.fromhex(row["message"])
        signature = bytes.fromhex(row["signature"])
        expected = row["verification result"] == "TRUE"
        assert secp256k1.schnorr_verify(key, message, signature) is expected, row
        if row["secret key"] and len(message) == 32:
            secret, aux = bytes.fromhex(row["secret key"]), bytes.fromhex(row["aux_rand"])
            assert secp256k1.schnorr_sign(secret, message, aux) == signature, row


def test_script_trees_give_bip341s_roots_output_keys_addresses_and_control_blocks():
    rows = _bip341()["scriptPubKey"]
    assert len(rows) == 7
    for row in rows:
        leaves = []

        def convert(node, leaves=leaves):
            if node is None:
                return None
            if isinstance(node, list):
                return (convert(node[0]), convert(node[1]))
            leaf = taproot.Leaf(script=bytes.fromhex(node["script"]), version=node["leafVersion"])
            leaves.append((node["id"], leaf))
            return leaf

        tree = convert(row["given"]["scriptTree"])
        output = taproot.taproot_output(bytes.fromhex(row["given"]["internalPubkey"]), tree)
        between, expected = row["intermediary"], row["expected"]
        assert output.root.hex() == (between["merkleRoot"] or "")
        assert output.output_key.hex() == between["tweakedPubkey"]
        assert output.script.hex() == expected["scriptPubKey"]
        assert encode_address(output.script, "main") == expected["bip350Address"]
        assert decode_address(expected["bip350Address"], "main") == output.script
        for number, leaf in leaves:
            assert taproot.leaf_hash(leaf.script, leaf.version).hex() == between["leafHashes"][number]
            assert output.control_block(leaf).hex() == expected["scriptPathControlBlocks"][number]


def test_key_path_spending_gives_bip341s_sighashes_and_signatures_for_every_hash_type():
    (row,) = _bip341()["keyPathSpending"]
    transaction = parse_transaction(bytes.fromhex(row["given"]["rawUnsignedTx"]))
    spent = [
        TxOut(value=Sats(out["amountSats"]), script=bytes.fromhex(out["scriptPubKey"]))
        for out in row["given"]["utxosSpent"]
    ]
    assert len(row["inputSpending"]) == 7
    for case in row["inputSpending"]:
        given, between = case["given"], case["intermediary"]
        index, hash_type = given["txinIndex"], given["hashType"]
        assert taproot.sighash(transaction, index, spent, hash_type=hash_type).hex() == between["sigHash"]
        secret = bytes.fromhex(given["internalPrivkey"])
        root = bytes.fromhex(given["merkleRoot"] or "")
        tweaked = taproot.tweak_secret(secret, root)
        assert tweaked.hex() == between["tweakedPrivkey"]
        signature = secp256k1.schnorr_sign(tweaked, bytes.fromhex(between["sigHash"]))
        suffix = bytes([hash_type]) if hash_type else b""
        assert (signature + suffix).hex() == case["expected"]["witness"][0]
        transaction = transaction.with_witness(index, [signature + suffix])
    signed = parse_transaction(bytes.fromhex(row["auxiliary"]["fullySignedTx"]))
    for case in row["inputSpending"]:
        index = case["given"]["txinIndex"]
        assert transaction.inputs[index].witness == signed.inputs[index].witness
