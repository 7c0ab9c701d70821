"""Witnesses of funding inputs: one key signs the whole transaction, or the witness is refused by name."""

import pytest
import wallycore
from coincurve import PrivateKey

from btcfi.bitcoin import psbt as psbts
from btcfi.bitcoin import taproot
from btcfi.bitcoin.keys import wallet_key
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.witness import (
    WrongWitnessError,
    check_witness,
    has_checkable_witness,
    sighash_name,
    wally_tx,
)
from btcfi.errors import InvalidInputError
from btcfi.secp256k1 import ORDER, public_key_compressed, schnorr_sign
from btcfi.units import Sats, Txid

KEY = wallet_key(bytes(range(32)), 0)
SECRET = bytes([7]) * 32
PUBLIC = public_key_compressed(SECRET)
V0 = bytes([0, 20]) + bytes(wallycore.hash160(PUBLIC))
SPENT = [TxOut(value=Sats(50_000), script=V0), TxOut(value=Sats(60_000), script=KEY.script)]
TRANSACTION = Transaction(
    version=2,
    inputs=tuple(TxIn(outpoint=OutPoint(txid=Txid(bytes([n]) * 32), index=0)) for n in (1, 2)),
    outputs=(TxOut(value=Sats(50_000), script=KEY.script), TxOut(value=Sats(50_000), script=V0)),
)
OTHER_TYPES = [0x02, 0x03, 0x81, 0x82, 0x83]


def ecdsa(hash_type=1, secret=SECRET, transaction=TRANSACTION, value=50_000):
    code = bytes.fromhex("76a914") + V0[2:] + bytes.fromhex("88ac")
    digest = wallycore.tx_get_btc_signature_hash(wally_tx(transaction), 0, code, value, hash_type, 1)
    return PrivateKey(secret).sign(bytes(digest), hasher=None) + bytes([hash_type])


def schnorr(hash_type=0):
    output = taproot.taproot_output(KEY.internal_key)
    digest = taproot.sighash(TRANSACTION, 1, SPENT, hash_type=hash_type)
    return schnorr_sign(output.tweak_secret(KEY.secret), digest) + (bytes([hash_type]) if hash_type else b"")


def high_s(signature):
    compact = bytes(wallycore.ec_sig_from_der(signature[:-1]))
    other = compact[:32] + (ORDER - int.from_bytes(compact[32:])).to_bytes(32)
    return bytes(wallycore.ec_sig_to_der(other)) + signature[-1:]


def test_a_key_hash_and_a_taproot_coin_are_spent_by_a_signature_of_everything():
    check_witness(TRANSACTION, 0, SPENT, (ecdsa(), PUBLIC))
    check_witness(TRANSACTION, 1, SPENT, (schnorr(),))
    check_witness(TRANSACTION, 1, SPENT, (schnorr(0x01),))


@pytest.mark.parametrize("hash_type", OTHER_TYPES)
def test_a_signature_of_less_than_everything_is_refused_by_the_name_of_its_type(hash_type):
    for index, witness in ((0, (ecdsa(hash_type), PUBLIC)), (1, (schnorr(hash_type),))):
        with pytest.raises(WrongWitnessError) as refused:
            check_witness(TRANSACTION, index, SPENT, witness)
        assert refused.value.index == index
        assert f"SIGHASH_{sighash_name(hash_type)}" in refused.value.problem


@pytest.mark.parametrize(
    "witness",
    [
        (),
        (b"",),
        (b"", PUBLIC),
        (b"\x01", PUBLIC),
        (b"rubbish" + b"\x01", PUBLIC),
        (ecdsa(), PUBLIC, b""),
        (ecdsa(), public_key_compressed(bytes([8]) * 32)),
        (ecdsa(), b"\x04" + PUBLIC[1:]),
        (ecdsa(secret=bytes([8]) * 32), PUBLIC),
        (ecdsa(value=50_001), PUBLIC),
        (high_s(ecdsa()), PUBLIC),
        (ecdsa()[:-1] + b"\x00\x01", PUBLIC),
    ],
)
def test_rubbish_for_a_segwit_v0_coin_is_refused_before_anything_is_sent(witness):
    """A counterparty's garbage was taken for a signature: the funding could not be mined, and the coins were named."""
    with pytest.raises(WrongWitnessError):
        check_witness(TRANSACTION, 0, SPENT, witness)


@pytest.mark.parametrize("witness", [(), (bytes(64),), (schnorr(), b""), (schnorr()[:63],), (schnorr() + b"\x00",)])
def test_rubbish_for_a_taproot_coin_is_refused(witness):
    with pytest.raises(WrongWitnessError):
        check_witness(TRANSACTION, 1, SPENT, witness)


def test_only_coins_whose_witness_can_be_checked_can_be_inputs():
    assert [has_checkable_witness(output.script) for output in SPENT] == [True, True]
    for script in (bytes([0, 32]) + bytes(32), b"\x51", bytes.fromhex("51024e73"), bytes([0x52, 32]) + bytes(32)):
        assert not has_checkable_witness(script)
        with pytest.raises(WrongWitnessError):
            check_witness(TRANSACTION, 0, [TxOut(value=Sats(1), script=script), SPENT[1]], (b"\x01",))


def signed_psbt(**signatures):
    psbt = wallycore.psbt_from_base64(psbts.export_psbt(TRANSACTION, SPENT), 0)
    if "v0" in signatures:
        wallycore.psbt_add_input_signature(psbt, 0, PUBLIC, signatures["v0"])
    if "taproot" in signatures:
        wallycore.psbt_set_input_taproot_signature(psbt, 1, signatures["taproot"])
    return wallycore.psbt_to_base64(psbt, 0)


def take(text, *, inputs=(0, 1), others=()):
    return psbts.import_witnesses(text, TRANSACTION, SPENT, inputs=inputs, others=others)


def test_signatures_that_the_wallet_did_not_finalize_become_witnesses():
    assert take(signed_psbt(v0=ecdsa(), taproot=schnorr())) == {0: (ecdsa(), PUBLIC), 1: (schnorr(),)}
    assert set(take(signed_psbt(v0=ecdsa()), inputs=[0], others=[1])) == {0}


@pytest.mark.parametrize("signed", [{"v0": ecdsa()}, {"taproot": schnorr()}])
def test_a_signature_for_an_input_of_the_other_side_is_refused_loudly(signed):
    """Their message names a coin of our outside wallet: its signature would give the coin away."""
    other = 0 if "v0" in signed else 1
    with pytest.raises(psbts.StrangerSignedError) as refused:
        take(signed_psbt(**{"v0": ecdsa(), "taproot": schnorr()} | signed), inputs=[1 - other], others=[other])
    assert refused.value.index == other
    assert refused.value.outpoint == str(TRANSACTION.inputs[other].outpoint)


@pytest.mark.parametrize("hash_type", OTHER_TYPES)
def test_a_psbt_that_is_signed_for_less_than_everything_is_refused_by_name(hash_type):
    with pytest.raises(WrongWitnessError, match=sighash_name(hash_type).replace("|", r"\|")):
        take(signed_psbt(v0=ecdsa(hash_type)), inputs=[0])
    with pytest.raises(WrongWitnessError, match=sighash_name(hash_type).replace("|", r"\|")):
        take(signed_psbt(taproot=schnorr(hash_type)), inputs=[1])


def test_a_psbt_without_our_signature_or_that_is_none_is_refused():
    with pytest.raises(WrongWitnessError, match="missing"):
        take(signed_psbt(v0=ecdsa()))
    for text in ("", "cHNidP8=", "x" * 50, "x" * (psbts.MAX_PSBT_BYTES + 1)):
        with pytest.raises(InvalidInputError):
            take(text)
