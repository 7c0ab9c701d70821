"""PSBT: a funding transaction goes to an outside wallet and comes back signed. Parsing and writing are wallycore's.

Version 0 (BIP174) with witness outputs and Taproot internal keys (BIP371): what bitcoind's ``walletprocesspsbt`` reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import wallycore
from bitcoin.core.script import CScriptWitness

from btcfi.bitcoin.transaction import Transaction, TxOut
from btcfi.bitcoin.witness import check_witness, wally_tx
from btcfi.errors import InvalidInputError

MAX_PSBT_BYTES: Final = 1 << 20
"""Of base64: 200 inputs with their outputs, keys and signatures take a tenth of it."""


class StrangerSignedError(InvalidInputError):
    """The outside wallet has signed an input that the other side names as its own: they try to take a coin of ours."""

    def __init__(self, index: int, outpoint: str) -> None:
        super().__init__(
            f"PSBT input {index}, coin {outpoint}",
            "is named by the OTHER side as its own, and your wallet has signed it: they try to take this coin of yours",
            "no signature there; delete the signed PSBT and give it to nobody",
        )
        self.index, self.outpoint = index, outpoint


def export_psbt(
    transaction: Transaction, spent: Sequence[TxOut], *, internal_keys: Mapping[int, bytes] | None = None
) -> str:
    """Return the unsigned transaction as base64.

    spent: the outputs that its inputs spend, all of them: a Taproot signature commits to every one. internal_keys:
    x-only, by input index, where known. Raises InvalidInputError when the numbers do not match.
    """
    if len(spent) != len(transaction.inputs):
        raise InvalidInputError("spent outputs", f"{len(spent)}", f"one per input, {len(transaction.inputs)}")
    psbt = wallycore.psbt_from_tx(wally_tx(transaction), wallycore.WALLY_PSBT_VERSION_0, 0)
    for index, output in enumerate(spent):
        wallycore.psbt_set_input_witness_utxo(psbt, index, wallycore.tx_output_init(output.value, output.script))
    for index, key in (internal_keys or {}).items():
        wallycore.psbt_set_input_taproot_internal_key(psbt, index, key)
    text: str = wallycore.psbt_to_base64(psbt, 0)
    return text


def import_witnesses(
    text: str, transaction: Transaction, spent: Sequence[TxOut], *, inputs: Collection[int], others: Collection[int]
) -> dict[int, tuple[bytes, ...]]:
    """Return the witnesses that a wallet has put into a PSBT of ``transaction``: those of ``inputs``, each verified.

    inputs: what the agreement books for us and the wallet has to sign; every one must be there. others: what it books
    for the other side; a signature there is refused. Finalized inputs and bare signatures are both taken. Raises
    StrangerSignedError; WrongWitnessError, which names another signature hash type than ALL; InvalidInputError when
    the PSBT cannot be read or is of another transaction: not one byte may differ.
    """
    psbt = _parsed(text, transaction)
    for index in others:
        if _is_signed(psbt, index):
            raise StrangerSignedError(index, str(transaction.inputs[index].outpoint))
    # bare signatures become witnesses; what cannot is left as it is, and is missing below
    wallycore.psbt_finalize(psbt, 0)
    found = {index: _witness(psbt, index) for index in inputs}
    for index, witness in found.items():
        check_witness(transaction, index, spent, witness)
    return found


def _parsed(text: str, transaction: Transaction) -> Any:  # noqa: ANN401 - wallycore has no types
    if len(text) > MAX_PSBT_BYTES:
        raise InvalidInputError("PSBT", f"{len(text):,} characters", f"at most {MAX_PSBT_BYTES:,}")
    try:
        psbt = wallycore.psbt_from_base64(text.strip(), wallycore.WALLY_PSBT_PARSE_FLAG_STRICT)
        inside = wallycore.tx_to_bytes(wallycore.psbt_get_global_tx(psbt), 0)
    except ValueError as e:
        raise InvalidInputError("PSBT", "cannot be read", "base64 of a version 0 PSBT") from e
    if bytes(inside) != transaction.to_bytes(witness=False):
        raise InvalidInputError("PSBT", "is of another transaction", "the exported transaction, not changed")
    return psbt


def _is_signed(psbt: Any, index: int) -> bool:  # noqa: ANN401 - wallycore has no types
    return bool(
        wallycore.psbt_get_input_final_witness(psbt, index) is not None
        or wallycore.psbt_get_input_taproot_signature_len(psbt, index)
        or wallycore.psbt_get_input_signatures_size(psbt, index)
        or wallycore.psbt_get_input_final_scriptsig_len(psbt, index)
    )


def _witness(psbt: Any, index: int) -> tuple[bytes, ...]:  # noqa: ANN401 - wallycore has no types
    stack = wallycore.psbt_get_input_final_witness(psbt, index)
    if stack is not None:
        raw = bytes(wallycore.tx_witness_stack_to_bytes(stack))
        return tuple(bytes(item) for item in CScriptWitness.deserialize(raw).stack)
    if wallycore.psbt_get_input_taproot_signature_len(psbt, index):
        return (bytes(wallycore.psbt_get_input_taproot_signature(psbt, index)),)
    return ()
