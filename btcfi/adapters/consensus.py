"""Bitcoin Core's own script interpreter, asked about one transaction: libbitcoinkernel, no chain and no node."""

from __future__ import annotations

from collections.abc import Sequence

import pbk
from pbk.script import PrecomputedTransactionData

from btcfi.bitcoin.transaction import Transaction, TxOut


def scripts_hold(transaction: Transaction, spent: Sequence[TxOut]) -> bool:
    """Return whether every input's witness meets the script of what it spends, by all consensus rules.

    spent: the outputs that the inputs spend, in their order. Locks are checked against the transaction's own fields
    alone: whether they have passed is a chain's to say.
    """
    asked = pbk.Transaction(transaction.to_bytes())
    outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(output.script), output.value) for output in spent]
    precomputed = PrecomputedTransactionData(asked, outputs)
    for index, output in enumerate(spent):
        script = pbk.ScriptPubkey(output.script)
        try:
            if not script.verify(output.value, asked, precomputed, index, pbk.ScriptVerificationFlags.ALL):
                return False
        except pbk.ScriptVerifyException:
            return False
    return True
