"""Whether a node relays what a settlement is made of. One that does not stalls every settlement and looks well.

A contract's settlement pays no fee of its own, or a small one: it is a version-3 transaction with a pay-to-anchor
output (BIP431), whose child pays for both and comes as a package. Bitcoin Core takes that from 28.0 on; Bitcoin Knots
where it is told to, since its defaults are others. So the node is asked about transactions of that form whose inputs do
not exist: standardness is judged before inputs are looked up, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from btcfi.adapters.chain.node import Node, NodeAnswerError
from btcfi.bitcoin.transaction import SEQUENCE_RBF, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.contracts.execution import ANCHOR
from btcfi.contracts.metadata import RecordType, record_script
from btcfi.units import Hash32, Sats, Txid

ENFORCE: Final = "-mempooltruc=enforce"
"""Bitcoin Knots' flag; Bitcoin Core has no other policy."""

RECORDS: Final = "-datacarrier=1 -datacarriersize=83"
"""Both nodes' flags: a child carries its proof's root in an OP_RETURN output."""

OLDEST_CORE: Final = "Bitcoin Core 28.0"

_METHOD_NOT_FOUND: Final = -32601
"""Source: JSON-RPC; bitcoind, src/rpc/protocol.h."""

_MISSING: Final = "missing-inputs"
"""testmempoolaccept's word for a transaction whose form is fine and whose inputs are not there."""

_NOWHERE: Final = OutPoint(txid=Txid(b"\x11" * 32), index=0)
_TAPROOT: Final = b"\x51\x20" + b"\x22" * 32
_CHANGE: Final = TxOut(value=Sats(10_000), script=_TAPROOT)


def relay_problems(node: Node) -> Iterator[tuple[str, str]]:
    """Yield what the node would not relay of ours, and what would mend that. Raises NodeUnreachableError."""
    policy = node.call("getmempoolinfo").get("truc_policy")
    if policy not in {None, "enforce"}:
        yield (
            f"its truc_policy is {policy!r}: a settlement that pays little itself never enters its pool",
            f"restart it with {ENFORCE}",
        )
    else:
        for what, transaction in (("a settlement", _settlement()), ("its child", _child())):
            if (reason := _refused(node, transaction)) not in {None, _MISSING}:
                yield (
                    f"it refuses the form of {what} ({reason})",
                    f"restart it with {ENFORCE} {RECORDS}, or use {OLDEST_CORE} or newer",
                )
    if not _takes_packages(node):
        yield "it has no submitpackage: a child cannot pay for its settlement", f"use {OLDEST_CORE} or newer"


def _refused(node: Node, transaction: Transaction) -> str | None:
    (answer,) = node.call("testmempoolaccept", [transaction.to_bytes().hex()])
    return None if answer["allowed"] else str(answer["reject-reason"])


def _takes_packages(node: Node) -> bool:
    try:
        node.call("submitpackage", [])  # an empty one is refused by every node that knows the word
    except NodeAnswerError as e:
        return e.code != _METHOD_NOT_FOUND
    return True


def _settlement() -> Transaction:
    spends = TxIn(outpoint=_NOWHERE, sequence=SEQUENCE_RBF)
    return Transaction(version=TRUC_VERSION, inputs=(spends,), outputs=(_CHANGE, ANCHOR))


def _child() -> Transaction:
    record = TxOut(value=Sats(0), script=record_script(RecordType.SETTLEMENT_PROOF, Hash32(b"\x33" * 32)))
    spends = TxIn(outpoint=_NOWHERE, sequence=SEQUENCE_RBF)
    return Transaction(version=TRUC_VERSION, inputs=(spends,), outputs=(_CHANGE, record))
