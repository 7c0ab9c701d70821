"""PSBT: a funding transaction goes to an outside wallet and comes back signed. Parsing and writing are wallycore's.

Version 0 (BIP174) with witness outputs and Taproot internal keys (BIP371): what bitcoind's ``walletprocesspsbt`` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import wallycore
from bitcoin.core.script import CScriptWitness

from btcfi.bitcoin.transaction import Transaction, TxOut
from btcfi.errors import InvalidInputError


def export_psbt(
    transaction: Transaction, spent: Sequence[TxOut], *, internal_keys: Mapping[int, bytes] | None = None
) -> str:
    """Return the unsigned transaction as base64.

    spent: the outputs that its inputs spend, all of them: a Taproot signature commits to every one. internal_keys:
    x-only, by input index, where known. Raises InvalidInputError when the numbers do not match.
    """
    if len(spent) != len(transaction.inputs):
        raise InvalidInputError("spent outputs", f"{len(spent)}", f"one per input, {len(transaction.inputs)}")
    raw = wallycore.tx_from_bytes(transaction.to_bytes(witness=False), wallycore.WALLY_TX_FLAG_USE_WITNESS)
    psbt = wallycore.psbt_from_tx(raw, wallycore.WALLY_PSBT_VERSION_0, 0)
    for index, output in enumerate(spent):
        wallycore.psbt_set_input_witness_utxo(psbt, index, wallycore.tx_output_init(output.value, output.script))
    for index, key in (internal_keys or {}).items():
        wallycore.psbt_set_input_taproot_internal_key(psbt, index, key)
    text: str = wallycore.psbt_to_base64(psbt, 0)
    return text


def import_witnesses(text: str, transaction: Transaction) -> dict[int, tuple[bytes, ...]]:
    """Return the witnesses that a wallet has put into a PSBT of ``transaction``, by input index.

    Finalized inputs give their witness, others their Taproot key-path signature; inputs without either are left out.
    Raises InvalidInputError when it cannot be read, or is of another transaction: not one byte may differ.
    """
    try:
        psbt = wallycore.psbt_from_base64(text.strip(), wallycore.WALLY_PSBT_PARSE_FLAG_STRICT)
        inside = wallycore.tx_to_bytes(wallycore.psbt_get_global_tx(psbt), 0)
    except ValueError as e:
        raise InvalidInputError("PSBT", "cannot be read", "base64 of a version 0 PSBT") from e
    if bytes(inside) != transaction.to_bytes(witness=False):
        raise InvalidInputError("PSBT", "is of another transaction", "the exported transaction, not changed")
    found = {}
    for index in range(len(transaction.inputs)):
        witness = _witness(psbt, index)
        if witness:
            found[index] = witness
    return found


def _witness(psbt: Any, index: int) -> tuple[bytes, ...]:  # noqa: ANN401 - wallycore has no types
    stack = wallycore.psbt_get_input_final_witness(psbt, index)
    if stack is not None:
        raw = bytes(wallycore.tx_witness_stack_to_bytes(stack))
        return tuple(bytes(item) for item in CScriptWitness.deserialize(raw).stack)
    if wallycore.psbt_get_input_taproot_signature_len(psbt, index):
        return (bytes(wallycore.psbt_get_input_taproot_signature(psbt, index)),)
    return ()
