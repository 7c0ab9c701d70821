"""What a witness of a funding input must be: one key's signature of the whole transaction, really verified.

Two scripts are spent so: Taproot by its key path (BIP341), and segwit v0 key hashes (BIP143). Any other has witnesses
that nobody can check without running scripts, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import wallycore

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.script import OP_0, is_p2tr
from btcfi.bitcoin.transaction import Transaction, TxOut
from btcfi.errors import InvalidInputError

_NAMES: Final = {0x00: "DEFAULT", 0x01: "ALL", 0x02: "NONE", 0x03: "SINGLE"}
_ANYONECANPAY: Final = 0x80
_SCHNORR_SIZE: Final = 64
_WHOLE: Final = "a signature of the whole transaction: SIGHASH_ALL, or DEFAULT for Taproot"


class WrongWitnessError(InvalidInputError):
    """A witness that does not sign the whole transaction with the key of the coin."""

    def __init__(self, index: int, problem: str, expected: str = _WHOLE) -> None:
        super().__init__(f"witness of input {index}", problem, expected)
        self.index = index


def sighash_name(hash_type: int) -> str:
    """Return the name of a signature hash type, such as ``SINGLE|ANYONECANPAY``; its number when it has none."""
    name = _NAMES.get(hash_type & ~_ANYONECANPAY)
    if name is None or hash_type == _ANYONECANPAY:
        return f"0x{hash_type:02x}"
    return f"{name}|ANYONECANPAY" if hash_type & _ANYONECANPAY else name


def is_p2wpkh(script: bytes) -> bool:
    """Return whether the script is a segwit v0 key hash. Source: BIP141."""
    return len(script) == 22 and script[:2] == bytes([OP_0, 20])  # noqa: PLR2004 - opcode, length, hash


def has_checkable_witness(script: bytes) -> bool:
    """Return whether a coin of this script can be a funding input: its witness can be checked before broadcasting."""
    return is_p2tr(script) or is_p2wpkh(script)


def check_witness(transaction: Transaction, index: int, spent: Sequence[TxOut], witness: Sequence[bytes]) -> None:
    """Check that a witness spends its coin by one key that signs all inputs and outputs.

    spent: the outputs that the inputs spend, in their order. Raises WrongWitnessError, which names the signature hash
    type where it is another one.
    """
    script = spent[index].script
    if not witness:
        raise WrongWitnessError(index, "missing")
    if is_p2tr(script):
        _check_taproot(transaction, index, spent, witness)
    elif is_p2wpkh(script):
        _check_key_hash(transaction, index, spent[index], witness)
    else:
        raise WrongWitnessError(index, "of a script that is not checked here", "a coin of type P2TR or P2WPKH")


def _check_taproot(transaction: Transaction, index: int, spent: Sequence[TxOut], witness: Sequence[bytes]) -> None:
    if len(witness) != 1 or len(witness[0]) not in (_SCHNORR_SIZE, _SCHNORR_SIZE + 1):
        raise WrongWitnessError(index, "not one Schnorr signature", "a key-path signature of 64 or 65 bytes")
    signature, hash_type = witness[0][:_SCHNORR_SIZE], taproot.SIGHASH_DEFAULT
    if len(witness[0]) > _SCHNORR_SIZE:
        hash_type = witness[0][_SCHNORR_SIZE]
        _require_all(index, hash_type)
    digest = taproot.sighash(transaction, index, spent, hash_type=hash_type)
    if not secp256k1.schnorr_verify(spent[index].script[2:], digest, signature):
        raise WrongWitnessError(index, "not valid for this transaction and coin")


def _check_key_hash(transaction: Transaction, index: int, coin: TxOut, witness: Sequence[bytes]) -> None:
    if len(witness) != 2 or not witness[0]:  # noqa: PLR2004 - signature and key. Source: BIP141
        raise WrongWitnessError(index, "not a signature and a key", "an ECDSA signature and the key of the coin")
    signature, key = witness[0][:-1], witness[1]
    if not secp256k1.is_point(key) or bytes(wallycore.hash160(key)) != coin.script[2:]:
        raise WrongWitnessError(index, "by another key than the coin's", "the compressed key that the coin pays to")
    _require_all(index, witness[0][-1])
    if not _ecdsa_is_valid(key, _digest_v0(transaction, index, coin), signature):
        raise WrongWitnessError(index, "not valid for this transaction and coin")


def _require_all(index: int, hash_type: int) -> None:
    if hash_type != taproot.SIGHASH_ALL:
        raise WrongWitnessError(index, f"signed with SIGHASH_{sighash_name(hash_type)}")


def _digest_v0(transaction: Transaction, index: int, coin: TxOut) -> bytes:
    """Return the signature hash of a P2WPKH input, SIGHASH_ALL. Source: BIP143."""
    code = bytes.fromhex("76a914") + coin.script[2:] + bytes.fromhex("88ac")
    flag = wallycore.WALLY_TX_FLAG_USE_WITNESS
    digest = wallycore.tx_get_btc_signature_hash(
        wally_tx(transaction), index, code, coin.value, taproot.SIGHASH_ALL, flag
    )
    return bytes(digest)


def _ecdsa_is_valid(key: bytes, digest: bytes, der: bytes) -> bool:
    """Return whether a signature is valid and in the one form that nodes relay: strict DER (BIP66), low s (BIP146)."""
    try:
        compact = wallycore.ec_sig_from_der(der)
        if bytes(wallycore.ec_sig_to_der(compact)) != der:
            return False
        wallycore.ec_sig_verify(key, digest, wallycore.EC_FLAG_ECDSA, compact)
    except ValueError:
        return False
    return True


def wally_tx(transaction: Transaction) -> Any:  # noqa: ANN401 - wallycore has no types
    """Return the unsigned transaction as wallycore has it."""
    return wallycore.tx_from_bytes(transaction.to_bytes(witness=False), wallycore.WALLY_TX_FLAG_USE_WITNESS)
