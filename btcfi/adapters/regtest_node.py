"""The embedded regtest node: Bitcoin Core's consensus engine behind bitcoind's JSON-RPC.

``python -m btcfi.adapters.regtest_node --datadir DIR --port N`` serves HTTP on the loopback, with the user and
password in ``DIR/.cookie`` (mode 0600), as bitcoind does. Blocks are validated by libbitcoinkernel
(``py-bitcoinkernel``), scripts in the memory pool by the same library. Ours are: the index of coins and transactions,
the memory pool with the relay rules that our transactions meet, and a miner.

What is on disk is one journal of blocks, transactions and invalidations, appended before an answer leaves. At start
it is replayed through the kernel, a torn last record is cut off, and the kernel's own files are rebuilt: nothing can
disagree with it. It survives SIGKILL, not a power cut (it is flushed to the system, not synced). A chain of a demo or
a test replays in a second; this is no node for a long chain.

Not here: peers, wallets, package RBF, descendant-count limits, and the bracketed detail of a script failure.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import fcntl
import hmac
import json
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from struct import Struct
from typing import IO, Any, Final

import pbk
from bitcoin.core import CBlock
from bitcoin.core.serialize import SerializationError
from pbk.script import PrecomputedTransactionData

from btcfi.adapters.node import DatadirInUseError, PortInUseError
from btcfi.bitcoin.address import decode_address, encode_address
from btcfi.bitcoin.fees import (
    INCREMENTAL_FEE_RATE,
    MIN_RELAY_FEE_RATE,
    SatsPerKvb,
    dust_limit,
    fee_for,
)
from btcfi.bitcoin.script import OP_RETURN, P2A_SCRIPT, is_p2tr, push_number
from btcfi.bitcoin.transaction import (
    SEQUENCE_FINAL,
    TRUC_VERSION,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
    compact_size,
    from_bitcoinlib,
    parse_transaction,
)
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import hash256
from btcfi.units import Hash32, Sats, Txid, display_txid, parse_txid

log = logging.getLogger(__name__)

RPC_MISC_ERROR: Final = -1
RPC_INVALID_ADDRESS_OR_KEY: Final = -5
RPC_INVALID_PARAMETER: Final = -8
RPC_DESERIALIZATION_ERROR: Final = -22
RPC_VERIFY_ERROR: Final = -25
RPC_VERIFY_REJECTED: Final = -26
RPC_VERIFY_ALREADY_IN_CHAIN: Final = -27
RPC_TYPE_ERROR: Final = -3
RPC_METHOD_NOT_FOUND: Final = -32601
RPC_INVALID_REQUEST: Final = -32600
RPC_PARSE_ERROR: Final = -32700
RPC_INTERNAL_ERROR: Final = -32603
"""Error codes of bitcoind. Source: Bitcoin Core, src/rpc/protocol.h."""

EXIT_PORT_IN_USE: Final = 71
EXIT_DATADIR_IN_USE: Final = 73
"""The rows of these errors in ``btcfi.surfaces.status``, which an adapter does not import; a test compares."""

MAX_BODY_BYTES: Final = 32 << 20
"""Largest request that is read; bitcoind's limit (MAX_SIZE)."""

_SUBSIDY: Final = 50 * 100_000_000
_HALVING: Final = 150
"""Blocks between halvings on regtest. Source: Bitcoin Core, CRegTestParams."""

_BITS: Final = 0x207FFFFF
_TARGET: Final = 0x7FFFFF << (8 * (0x20 - 3))
_MAX_BLOCK_WEIGHT: Final = 3_996_000
"""Bitcoin Core's default -blockmaxweight, less its reserve for the coinbase."""

_COINBASE_RESERVE: Final = 8_000
_MAX_STANDARD_WEIGHT: Final = 400_000
_MAX_OP_RETURN_SCRIPT: Final = 83
"""-datacarriersize before Bitcoin Core 30.0: the strictest of the nodes that our transactions must pass."""

_MAX_ANCESTORS: Final = 25
_MAX_REPLACED: Final = 100
_TRUC_MAX_VSIZE: Final = 10_000
_TRUC_CHILD_MAX_VSIZE: Final = 1_000
"""Source: BIP431, rules 4 and 5."""

_LOCKTIME_THRESHOLD: Final = 500_000_000
_MEDIAN_BLOCKS: Final = 11
_WITNESS_RESERVED: Final = bytes(32)
_MAX_PACKAGE: Final = 25
_HEADER: Final = Struct("<i32s32sIII")
_RECORD: Final = Struct("<cII")
"""A journal record: kind, length of the payload, CRC-32 of the payload."""


class RpcError(Exception):
    """An answer that is an error: bitcoind's code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class RejectedError(Exception):
    """The memory pool refuses a transaction, with bitcoind's reason."""

    def __init__(self, reason: str, *, code: int = RPC_VERIFY_REJECTED, detail: str = "") -> None:
        super().__init__(f"{reason}, {detail}" if detail else reason)
        self.reason, self.code = reason, code


@dataclass(frozen=True, slots=True, kw_only=True)
class Coin:
    """An unspent output on the chain or in the pool."""

    output: TxOut
    height: int
    """Height of its block; the next block's for an output in the pool."""
    coinbase: bool


@dataclass(slots=True, kw_only=True)
class IndexedBlock:
    """What we remember of a block of the active chain."""

    hash: bytes
    raw: bytes
    height: int
    time: int
    txids: list[Txid]
    transactions: list[Transaction]
    undo: list[tuple[OutPoint, Coin]]
    """The coins that it spent."""


@dataclass(slots=True, kw_only=True)
class PoolEntry:
    """A transaction in the memory pool."""

    transaction: Transaction
    raw: bytes
    fee: Sats
    vsize: int
    time: int
    height: int
    parents: set[Txid]
    children: set[Txid] = field(default_factory=set)


class Journal:
    """The append-only file that is the node's truth."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def replay(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (kind, payload), then open the file for appending, cut off after the last whole record."""
        good = 0
        raw = self._path.read_bytes() if self._path.exists() else b""
        while good + _RECORD.size <= len(raw):
            kind, size, checksum = _RECORD.unpack_from(raw, good)
            payload = raw[good + _RECORD.size : good + _RECORD.size + size]
            if len(payload) != size or zlib.crc32(payload) != checksum:
                break
            good += _RECORD.size + size
            yield kind, payload
        if good < len(raw):
            log.warning("journal %s: %d bytes after the last whole record cut off", self._path.name, len(raw) - good)
        # kept open for the node's life
        self._file = self._path.open("r+b" if self._path.exists() else "w+b")
        self._file.truncate(good)
        self._file.seek(good)

    def append(self, kind: bytes, payload: bytes) -> None:
        """Write one record and hand it to the system."""
        if self._file is not None:
            self._file.write(_RECORD.pack(kind, len(payload), zlib.crc32(payload)) + payload)
            self._file.flush()

    def close(self) -> None:
        """Sync and close the file."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


class Chain:
    """The active chain as the kernel has it, with our index of coins and transactions; and the memory pool."""

    def __init__(self, datadir: Path, *, clock: Callable[[], int]) -> None:
        self._kernel_dir = datadir / "kernel"
        self._clock = clock
        self._blocks: dict[bytes, bytes] = {}
        """Every block ever accepted, by hash, in the order of arrival: what an invalidation rebuilds from."""
        self._invalid: set[bytes] = set()
        self.active: list[IndexedBlock] = []
        self.by_hash: dict[bytes, IndexedBlock] = {}
        self.coins: dict[OutPoint, Coin] = {}
        self.where: dict[Txid, IndexedBlock] = {}
        self.pool: dict[Txid, PoolEntry] = {}
        self.spenders: dict[OutPoint, Txid] = {}
        self._journal = Journal(datadir / "chain.journal")
        self._kernel: Any = None
        self._load()

    # ---- kernel and journal

    def _new_kernel(self) -> Any:  # noqa: ANN401 - pbk has no types
        shutil.rmtree(self._kernel_dir, ignore_errors=True)
        self._kernel_dir.mkdir(parents=True)
        context = pbk.make_context(pbk.ChainType.REGTEST)
        options = pbk.ChainstateManagerOptions(context, str(self._kernel_dir), str(self._kernel_dir / "blocks"))
        options.set_worker_threads_num(0)  # scripts of a regtest block are few; threads would cost more
        options.update_block_tree_db_in_memory(True)
        options.update_chainstate_db_in_memory(True)
        kernel = pbk.ChainstateManager(options)
        kernel.import_blocks([])  # activates the genesis block
        return kernel

    def _load(self) -> None:
        pending: dict[Txid, bytes] = {}
        for kind, payload in self._journal.replay():
            if kind == b"B":
                self._blocks[block_hash(payload)] = payload
            elif kind == b"T":
                transaction = parse_transaction(payload)
                pending.pop(transaction.txid, None)
                pending[transaction.txid] = payload
            elif kind == b"I":
                self._invalid.add(payload)
            elif kind == b"R":
                self._invalid.discard(payload)
        self._rebuild()
        for raw in pending.values():
            self._readmit(parse_transaction(raw))

    def _rebuild(self) -> None:
        self._kernel = None  # the old one lets go of its files first
        self._kernel = self._new_kernel()
        barred: set[bytes] = set()
        for known, raw in self._blocks.items():
            if known in self._invalid or raw[4:36] in barred:
                barred.add(known)
                continue
            self._kernel.process_block(pbk.Block(raw))
        self._follow()

    def close(self) -> None:
        """Write everything out; the kernel's own files are scratch and go."""
        self._journal.close()
        self._kernel = None
        shutil.rmtree(self._kernel_dir, ignore_errors=True)

    def accept_block(self, raw: bytes) -> str | None:
        """Give a block to the kernel; return None when it was accepted, else the reason in submitblock's words."""
        name = block_hash(raw)
        if name in self._blocks:
            return "duplicate-invalid" if name in self._invalid else "duplicate"
        if raw[4:36] in self._invalid:
            return "bad-prevblk"
        tip = self.tip.hash
        try:
            self._kernel.process_block(pbk.Block(raw))
        except (pbk.ProcessBlockException, RuntimeError):
            return "rejected"
        if raw[4:36] == tip and self._kernel_tip() != name:
            return "rejected"
        self._blocks[name] = raw
        self._journal.append(b"B", raw)
        self._follow()
        return None if self.tip.hash == name else "inconclusive"

    def invalidate(self, name: bytes) -> None:
        """Treat a block and all that builds on it as invalid."""
        self._invalid.add(name)
        self._journal.append(b"I", name)
        self._rebuild()

    def reconsider(self, name: bytes) -> None:
        """Undo ``invalidate`` of a block and of its ancestors and descendants, as bitcoind does."""
        related = {name}
        while name in self._blocks:
            name = self._blocks[name][4:36]
            related.add(name)
        for known, raw in self._blocks.items():
            if raw[4:36] in related:
                related.add(known)
        for known in self._invalid & related:
            self._invalid.discard(known)
            self._journal.append(b"R", known)
        self._rebuild()

    def _kernel_tip(self) -> bytes:
        chain = self._kernel.get_active_chain()
        return bytes(chain.block_tree_entries[chain.height].block_hash)

    # ---- index

    @property
    def tip(self) -> IndexedBlock:
        """The last block of the active chain."""
        return self.active[-1]

    def median_time(self, at: int) -> int:
        """Return the median time of the 11 blocks up to height ``at``. Source: BIP113."""
        times = sorted(block.time for block in self.active[max(0, at - _MEDIAN_BLOCKS + 1) : at + 1])
        return times[len(times) // 2]

    def has_block(self, name: bytes) -> bool:
        """Return whether the block was ever accepted, on whatever branch."""
        return name in self._blocks or (bool(self.active) and name == self.active[0].hash)

    def raw_block(self, name: bytes) -> bytes:
        """Return the bytes of an accepted block."""
        return self._blocks[name] if name in self._blocks else self.by_hash[name].raw

    def _follow(self) -> None:
        """Bring the index and the pool from their last tip to the kernel's."""
        entries = self._kernel.get_active_chain().block_tree_entries
        top = len(entries) - 1
        fork = min(top, len(self.active) - 1)
        while fork >= 0 and bytes(entries[fork].block_hash) != self.active[fork].hash:
            fork -= 1
        undone: list[Transaction] = []
        while len(self.active) - 1 > fork:
            undone = self._disconnect() + undone
        for at in range(fork + 1, top + 1):
            entry = entries[at]
            name = bytes(entry.block_hash)
            raw = self._blocks[name] if name in self._blocks else bytes(self._kernel.blocks[entry])
            self._connect(raw, name, at)
        if undone:
            waiting = undone + [entry.transaction for entry in self.pool.values()]
            self.pool.clear()
            self.spenders.clear()
            for transaction in waiting:
                self._readmit(transaction)

    def _connect(self, raw: bytes, name: bytes, at: int) -> None:
        parsed = CBlock.deserialize(raw)
        transactions = [from_bitcoinlib(tx) for tx in parsed.vtx]
        block = IndexedBlock(
            hash=name,
            raw=raw,
            height=at,
            time=parsed.nTime,
            txids=[tx.txid for tx in transactions],
            transactions=transactions,
            undo=[],
        )
        for number, transaction in enumerate(transactions):
            if number:
                for txin in transaction.inputs:
                    block.undo.append((txin.outpoint, self.coins.pop(txin.outpoint)))
            if at:  # the genesis block's output is not spendable
                for index, output in enumerate(transaction.outputs):
                    if output.script[:1] != bytes([OP_RETURN]):
                        coin = Coin(output=output, height=at, coinbase=number == 0)
                        self.coins[transaction.outpoint(index)] = coin
            self.where[transaction.txid] = block
        self.active.append(block)
        self.by_hash[name] = block
        self._confirm(transactions[1:])

    def _confirm(self, transactions: list[Transaction]) -> None:
        for transaction in transactions:
            self._leave_pool(transaction.txid)
            for txin in transaction.inputs:
                if txin.outpoint in self.spenders:
                    self._evict(self.spenders[txin.outpoint])

    def _disconnect(self) -> list[Transaction]:
        block = self.active.pop()
        del self.by_hash[block.hash]
        for transaction in block.transactions:
            for index in range(len(transaction.outputs)):
                self.coins.pop(transaction.outpoint(index), None)
            self.where.pop(transaction.txid, None)
        created = set(block.txids)
        self.coins.update((outpoint, coin) for outpoint, coin in block.undo if outpoint.txid not in created)
        return block.transactions[1:]

    # ---- memory pool

    def _readmit(self, transaction: Transaction) -> None:
        if transaction.txid in self.where or transaction.txid in self.pool:
            return
        try:
            self._enter_pool(self.check(transaction, floor=SatsPerKvb(0)))
        except RejectedError as e:
            log.info("transaction %s left the pool: %s", display_txid(transaction.txid), e)

    def admit(self, transaction: Transaction, limit: SatsPerKvb) -> PoolEntry:
        """Check a transaction and take it into the pool. Raises RejectedError.

        limit: the highest fee rate that the caller accepts, 0 for any.
        """
        entry = self._check_rate(self.check(transaction), limit)
        self._journal.append(b"T", entry.raw)
        self._enter_pool(entry)
        return entry

    def admit_package(
        self, transactions: list[Transaction], limit: SatsPerKvb
    ) -> tuple[dict[Txid, PoolEntry | str], str]:
        """Take parents and their child: each alone if it holds alone, the rest by their common fee rate.

        Returns an entry or a reason for each, and bitcoind's word for the whole. Only version 3 may stay below the
        relay fee on its own; a package that would replace others is refused.
        """
        outcome: dict[Txid, PoolEntry | str] = {}
        waiting: list[Transaction] = []
        for transaction in transactions:
            if transaction.txid in self.pool:
                outcome[transaction.txid] = self.pool[transaction.txid]
                continue
            try:
                outcome[transaction.txid] = self.admit(transaction, limit)
            except RejectedError as e:
                outcome[transaction.txid] = str(e)
                unlucky = {tx.txid for tx in waiting} & {txin.outpoint.txid for txin in transaction.inputs}
                if e.reason == "min relay fee not met" or (e.code == RPC_VERIFY_ERROR and unlucky):
                    waiting.append(transaction)
        if all(isinstance(one, PoolEntry) for one in outcome.values()):
            return outcome, "success"
        if waiting and len(waiting) == sum(isinstance(one, str) for one in outcome.values()):
            outcome |= self._admit_together(waiting, limit)
        whole = all(isinstance(one, PoolEntry) for one in outcome.values())
        return outcome, "success" if whole else "transaction failed"

    def _admit_together(self, waiting: list[Transaction], limit: SatsPerKvb) -> dict[Txid, PoolEntry | str]:
        entered: list[PoolEntry] = []
        try:
            for transaction in waiting:
                if self.replaced_by(transaction):
                    raise RejectedError("package RBF failed", detail="a package replaces nothing here")  # noqa: TRY301
                floor = SatsPerKvb(0) if transaction.version == TRUC_VERSION else MIN_RELAY_FEE_RATE
                entry = self._check_rate(self.check(transaction, floor=floor), limit)
                self._enter_pool(entry)
                entered.append(entry)
            fee, vsize = sum(entry.fee for entry in entered), sum(entry.vsize for entry in entered)
            if fee < fee_for(vsize, MIN_RELAY_FEE_RATE):
                needed = fee_for(vsize, MIN_RELAY_FEE_RATE)
                raise RejectedError("min relay fee not met", detail=f"package {fee} < {needed}")  # noqa: TRY301
        except RejectedError as e:
            for entry in entered:
                self.forget(entry.transaction.txid)
            return {tx.txid: str(e) for tx in waiting}
        for entry in entered:
            self._journal.append(b"T", entry.raw)
        return {entry.transaction.txid: entry for entry in entered}

    def try_all(self, transactions: list[Transaction], limit: SatsPerKvb) -> list[PoolEntry | RejectedError]:
        """Check transactions, each as if those before it were in the pool, and keep none."""
        outcome: list[PoolEntry | RejectedError] = []
        entered: list[Txid] = []
        for transaction in transactions:
            try:
                entry = self._check_rate(self.check(transaction), limit)
                if len(transactions) > 1 and not self.replaced_by(transaction):
                    self._enter_pool(entry)
                    entered.append(transaction.txid)
                outcome.append(entry)
            except RejectedError as e:
                outcome.append(e)
        for txid in entered:
            self.forget(txid)
        return outcome

    @staticmethod
    def _check_rate(entry: PoolEntry, limit: SatsPerKvb) -> PoolEntry:
        if limit and entry.fee > fee_for(entry.vsize, limit):
            raise RejectedError("max-fee-exceeded", code=RPC_VERIFY_ERROR)
        return entry

    def coin(self, outpoint: OutPoint, *, pool: bool = True) -> Coin | None:
        """Return an unspent coin, with ``pool`` as the memory pool sees it."""
        if not pool:
            return self.coins.get(outpoint)
        if outpoint in self.spenders:
            return None
        return self._source(outpoint)

    def _source(self, outpoint: OutPoint) -> Coin | None:
        coin = self.coins.get(outpoint)
        if coin is None and (parent := self.pool.get(outpoint.txid)) is not None:
            outputs = parent.transaction.outputs
            if outpoint.index < len(outputs):
                coin = Coin(output=outputs[outpoint.index], height=len(self.active), coinbase=False)
        return coin

    def check(self, transaction: Transaction, *, floor: SatsPerKvb = MIN_RELAY_FEE_RATE) -> PoolEntry:
        """Check a transaction against the chain, the pool and the relay rules. Raises RejectedError."""
        raw = transaction.to_bytes()
        txid = transaction.txid
        _check_standard(transaction)
        if txid in self.pool:
            raise RejectedError("txn-already-in-mempool", code=RPC_VERIFY_ALREADY_IN_CHAIN)
        if any(transaction.outpoint(index) in self.coins for index in range(len(transaction.outputs))):
            raise RejectedError("txn-already-known", code=RPC_VERIFY_ALREADY_IN_CHAIN)
        if len({txin.outpoint for txin in transaction.inputs}) != len(transaction.inputs):
            raise RejectedError("bad-txns-inputs-duplicate")
        self._check_locks(transaction)
        spent: list[Coin] = []
        for txin in transaction.inputs:
            coin = self._source(txin.outpoint)
            if coin is None:
                raise RejectedError("bad-txns-inputs-missingorspent", code=RPC_VERIFY_ERROR)
            if coin.coinbase and len(self.active) - coin.height < COINBASE_MATURITY:
                depth = len(self.active) - coin.height
                raise RejectedError("bad-txns-premature-spend-of-coinbase", detail=f"tried to spend at depth {depth}")
            spent.append(coin)
        self._check_relative_locks(transaction, spent)
        fee = sum(coin.output.value for coin in spent) - sum(output.value for output in transaction.outputs)
        if fee < 0:
            raise RejectedError("bad-txns-in-belowout")
        vsize = transaction.vsize
        if fee < fee_for(vsize, floor):
            raise RejectedError("min relay fee not met", detail=f"{fee} < {fee_for(vsize, floor)}")
        parents = {txin.outpoint.txid for txin in transaction.inputs if txin.outpoint.txid in self.pool}
        if len(self._ancestors(parents)) + 1 > _MAX_ANCESTORS:
            raise RejectedError("too-long-mempool-chain", detail=f"more than {_MAX_ANCESTORS} unconfirmed ancestors")
        entry = PoolEntry(
            transaction=transaction,
            raw=raw,
            fee=Sats(fee),
            vsize=vsize,
            time=self._clock(),
            height=len(self.active) - 1,
            parents=parents,
        )
        self._check_truc(entry)
        self._check_replacement(entry)
        _check_scripts(raw, [coin.output for coin in spent])
        return entry

    def _check_locks(self, transaction: Transaction) -> None:
        next_height = len(self.active)
        lock = transaction.lock_time
        reached = next_height if lock < _LOCKTIME_THRESHOLD else self.median_time(self.tip.height)
        if lock >= reached and any(txin.sequence != SEQUENCE_FINAL for txin in transaction.inputs) and lock:
            raise RejectedError("non-final")

    def _check_relative_locks(self, transaction: Transaction, spent: list[Coin]) -> None:
        # BIP68: version 2 and above; bit 31 switches it off, bit 22 chooses 512-second units
        if transaction.version < 2:  # noqa: PLR2004
            return
        for txin, coin in zip(transaction.inputs, spent, strict=True):
            if txin.sequence & (1 << 31):
                continue
            value = txin.sequence & 0xFFFF
            if txin.sequence & (1 << 22):
                since = self.median_time(max(coin.height - 1, 0))
                late_enough = since + (value << 9) <= self.median_time(self.tip.height)
            else:
                late_enough = coin.height + value <= len(self.active)
            if not late_enough:
                raise RejectedError("non-BIP68-final")

    def replaced_by(self, transaction: Transaction) -> set[Txid]:
        """Return what leaves the pool when ``transaction`` enters: conflicts, and a version-3 child's sibling."""
        direct = {self.spenders[i.outpoint] for i in transaction.inputs if i.outpoint in self.spenders}
        if transaction.version == TRUC_VERSION:
            for txin in transaction.inputs:
                if txin.outpoint.txid in self.pool:
                    direct |= self.pool[txin.outpoint.txid].children  # sibling eviction
        return {txid for one in direct for txid in self._descendants(one)}

    def _check_truc(self, entry: PoolEntry) -> None:
        # BIP431: one unconfirmed parent, one unconfirmed child, all of version 3, bounded sizes
        version = entry.transaction.version
        for parent in entry.parents:
            if (self.pool[parent].transaction.version == TRUC_VERSION) != (version == TRUC_VERSION):
                raise RejectedError("TRUC-violation", detail="an unconfirmed version 3 and another version are related")
        if version != TRUC_VERSION:
            return
        if entry.vsize > _TRUC_MAX_VSIZE:
            raise RejectedError("TRUC-violation", detail=f"{entry.vsize} vB, at most {_TRUC_MAX_VSIZE}")
        if len(self._ancestors(entry.parents)) > 1:
            raise RejectedError("TRUC-violation", detail="more than one unconfirmed ancestor")
        if entry.parents and entry.vsize > _TRUC_CHILD_MAX_VSIZE:
            raise RejectedError("TRUC-violation", detail=f"child of {entry.vsize} vB, at most {_TRUC_CHILD_MAX_VSIZE}")

    def _check_replacement(self, entry: PoolEntry) -> None:
        replaced = self.replaced_by(entry.transaction)
        if not replaced:
            return
        if len(replaced) > _MAX_REPLACED:
            raise RejectedError("too many potential replacements")
        if replaced & self._ancestors(entry.parents):
            raise RejectedError("bad-txns-spends-conflicting-tx")
        old = sum(self.pool[txid].fee for txid in replaced)
        relay = fee_for(entry.vsize, INCREMENTAL_FEE_RATE)
        if entry.fee < old + relay:
            raise RejectedError("insufficient fee", detail=f"rejecting replacement; {entry.fee} < {old} + {relay}")
        for txid in replaced:
            other = self.pool[txid]
            if entry.fee * other.vsize <= other.fee * entry.vsize:
                raise RejectedError("insufficient fee", detail="rejecting replacement; new feerate is not higher")

    def _enter_pool(self, entry: PoolEntry) -> None:
        for txid in self.replaced_by(entry.transaction):
            self._leave_pool(txid)
        txid = entry.transaction.txid
        self.pool[txid] = entry
        for txin in entry.transaction.inputs:
            self.spenders[txin.outpoint] = txid
        for parent in entry.parents:
            self.pool[parent].children.add(txid)

    def _leave_pool(self, txid: Txid) -> None:
        entry = self.pool.pop(txid, None)
        if entry is None:
            return
        for txin in entry.transaction.inputs:
            self.spenders.pop(txin.outpoint, None)
        for parent in entry.parents & self.pool.keys():
            self.pool[parent].children.discard(txid)
        for child in entry.children & self.pool.keys():
            self.pool[child].parents.discard(txid)

    def _evict(self, txid: Txid) -> None:
        for descendant in self._descendants(txid):
            self._leave_pool(descendant)

    def _descendants(self, txid: Txid) -> set[Txid]:
        return self._closure({txid}, lambda one: self.pool[one].children)

    def _ancestors(self, parents: set[Txid]) -> set[Txid]:
        return self._closure(parents, lambda one: self.pool[one].parents)

    @staticmethod
    def _closure(start: set[Txid], step: Callable[[Txid], set[Txid]]) -> set[Txid]:
        found, waiting = set(start), list(start)
        while waiting:
            new = step(waiting.pop()) - found
            found |= new
            waiting.extend(new)
        return found

    def forget(self, txid: Txid) -> None:
        """Take a transaction and its descendants out of the pool: the undo of a package that did not hold."""
        if txid in self.pool:
            self._evict(txid)

    # ---- miner

    def mine(self, script: bytes, transactions: Iterable[Transaction] | None = None) -> bytes:
        """Mine one block that pays ``script``, of the pool (parents first) or of the given transactions.

        Returns its hash. Raises RpcError when the kernel refuses it.
        """
        chosen: list[Transaction] = []
        fees = 0
        if transactions is None:
            weight = _COINBASE_RESERVE
            left_out: set[Txid] = set()
            for txid, entry in self.pool.items():  # insertion order: parents stand before children
                if entry.parents & left_out or weight + entry.transaction.weight > _MAX_BLOCK_WEIGHT:
                    left_out.add(txid)
                    continue
                weight += entry.transaction.weight
                fees += entry.fee
                chosen.append(entry.transaction)
        else:
            chosen = list(transactions)
            made: dict[OutPoint, TxOut] = {}
            for transaction in chosen:
                for txin in transaction.inputs:
                    coin = self.coins.get(txin.outpoint)
                    output = coin.output if coin else made.get(txin.outpoint)
                    fees += output.value if output else 0
                fees -= sum(output.value for output in transaction.outputs)
                made.update((transaction.outpoint(index), output) for index, output in enumerate(transaction.outputs))
            fees = max(fees, 0)
        raw = self._assemble(script, chosen, fees)
        refused = self.accept_block(raw)
        if refused is not None:
            raise RpcError(RPC_VERIFY_ERROR, f"TestBlockValidity failed: {refused}")
        return block_hash(raw)

    def _assemble(self, script: bytes, transactions: list[Transaction], fees: int) -> bytes:
        at = len(self.active)
        commitment = hash256(_merkle_root([bytes(32), *(hash256(tx.to_bytes()) for tx in transactions)]) + bytes(32))
        coinbase = Transaction(
            version=2,
            inputs=(
                TxIn(
                    outpoint=OutPoint(txid=Txid(bytes(32)), index=0xFFFFFFFF),
                    sequence=SEQUENCE_FINAL,
                    # the height (BIP34) and a number that keeps forks' coinbases apart
                    script_sig=push_number(at) + b"\x04" + secrets.token_bytes(4),
                    witness=(_WITNESS_RESERVED,),
                ),
            ),
            outputs=(
                TxOut(value=Sats((_SUBSIDY >> (at // _HALVING)) + fees), script=script),
                TxOut(value=Sats(0), script=b"\x6a\x24\xaa\x21\xa9\xed" + commitment),
            ),
        )
        every = [coinbase, *transactions]
        root = _merkle_root([tx.txid for tx in every])
        now = max(self._clock(), self.median_time(at - 1) + 1)
        nonce = 0
        while True:
            header = _HEADER.pack(0x20000000, self.tip.hash, root, now, _BITS, nonce)
            if int.from_bytes(hash256(header), "little") <= _TARGET:
                return header + compact_size(len(every)) + b"".join(tx.to_bytes() for tx in every)
            nonce += 1


def block_hash(raw: bytes) -> bytes:
    """Return the hash of a block or header, internal order."""
    return hash256(raw[: _HEADER.size])


def _merkle_root(hashes: list[bytes]) -> bytes:
    level = hashes
    while len(level) > 1:
        if len(level) % 2:
            level = [*level, level[-1]]  # Bitcoin's rule; our own trees never do this
        level = [hash256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def _check_standard(transaction: Transaction) -> None:  # noqa: C901 - a list of rules, one line each
    if not 1 <= transaction.version <= TRUC_VERSION:
        raise RejectedError("version")
    if not transaction.inputs:
        raise RejectedError("bad-txns-vin-empty")
    if not transaction.outputs:
        raise RejectedError("bad-txns-vout-empty")
    if transaction.inputs[0].outpoint.index == 0xFFFFFFFF:  # noqa: PLR2004 - the null outpoint
        raise RejectedError("coinbase")
    if transaction.weight > _MAX_STANDARD_WEIGHT:
        raise RejectedError("tx-size")
    if len(transaction.to_bytes(witness=False)) < 65:  # noqa: PLR2004 - a 64-byte one could pass for a Merkle node
        raise RejectedError("tx-size-small")
    carriers = 0
    for output in transaction.outputs:
        if output.script[:1] == bytes([OP_RETURN]):
            carriers += 1
            if len(output.script) > _MAX_OP_RETURN_SCRIPT:
                raise RejectedError("scriptpubkey")
        elif _script_type(output.script) == "nonstandard":
            raise RejectedError("scriptpubkey")
        elif output.value < dust_limit(output.script):
            raise RejectedError("dust")
    if carriers > 1:
        raise RejectedError("multi-op-return")


def _check_scripts(raw: bytes, spent: list[TxOut]) -> None:
    kernel_tx = pbk.Transaction(raw)
    outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(output.script), output.value) for output in spent]
    precomputed = PrecomputedTransactionData(kernel_tx, outputs)
    for index, output in enumerate(spent):
        script = outputs[index].script_pubkey
        try:
            valid = script.verify(output.value, kernel_tx, precomputed, index, pbk.ScriptVerificationFlags.ALL)
        except pbk.ScriptVerifyException:
            valid = False
        if not valid:
            raise RejectedError("mandatory-script-verify-flag-failed", detail=f"input {index}")


def _script_type(script: bytes) -> str:
    kind = "nonstandard"
    if script[:1] == bytes([OP_RETURN]):
        kind = "nulldata"
    elif script == P2A_SCRIPT:
        kind = "anchor"
    elif is_p2tr(script):
        kind = "witness_v1_taproot"
    elif script[:2] == b"\x00\x14" and len(script) == 22:  # noqa: PLR2004 - P2WPKH
        kind = "witness_v0_keyhash"
    elif script[:2] == b"\x00\x20" and len(script) == 34:  # noqa: PLR2004 - P2WSH
        kind = "witness_v0_scripthash"
    elif script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        kind = "pubkeyhash"
    elif script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        kind = "scripthash"
    return kind


# ---- JSON-RPC


class _Amount(str):
    """An amount in BTC that goes out as a JSON number with 8 decimals, without ever being a float."""

    __slots__ = ()


_AMOUNT_MARK: Final = "\u20bf"
_AMOUNT_PATTERN: Final = re.compile(rb'"\\u20bf(-?[0-9]+\.[0-9]{8})"')


def _btc(value: int) -> _Amount:
    sign, whole = ("-", -value) if value < 0 else ("", value)
    return _Amount(f"{_AMOUNT_MARK}{sign}{whole // 100_000_000}.{whole % 100_000_000:08d}")


def _encode(answer: object) -> bytes:
    return _AMOUNT_PATTERN.sub(rb"\1", json.dumps(answer, separators=(",", ":")).encode())


def _rate_of(value: object) -> SatsPerKvb:
    try:
        rate = Decimal(str(value)).scaleb(8)
    except InvalidOperation as e:
        raise RpcError(RPC_TYPE_ERROR, "Amount is not a number or string") from e
    if rate != rate.to_integral_value() or not 0 <= rate <= 100_000_000:  # noqa: PLR2004 - 1 BTC/kvB, bitcoind's bound
        raise RpcError(RPC_INVALID_PARAMETER, "Fee rates larger than or equal to 1BTC/kvB are not accepted")
    return SatsPerKvb(int(rate))


def _hash_param(value: object, name: str) -> Hash32:
    text = str(value)
    try:
        return Hash32(parse_txid(text))
    except InvalidInputError as e:
        problem = f"must be of length 64 (not {len(text)}, for '{text[:80]}')"
        if len(text) == 64:  # noqa: PLR2004
            problem = f"must be hexadecimal string (not '{text}')"
        raise RpcError(RPC_INVALID_PARAMETER, f"{name} {problem}") from e


def _transaction_param(value: object) -> Transaction:
    try:
        return parse_transaction(bytes.fromhex(str(value)))
    except (ValueError, InvalidInputError) as e:
        message = "TX decode failed. Make sure the tx has at least one input."
        raise RpcError(RPC_DESERIALIZATION_ERROR, message) from e


class Rpc:
    """bitcoind's methods over a chain. Each public method is one RPC: names, parameters and results are bitcoind's."""

    def __init__(self, chain: Chain, *, stop: Callable[[], None]) -> None:
        self._chain, self._stop = chain, stop
        self._methods: dict[str, Callable[..., object]] = {
            name: getattr(self, name) for name in dir(type(self)) if not name.startswith("_") and name.islower()
        }
        del self._methods["call"]

    def call(self, request: object) -> dict[str, object]:
        """Answer one JSON-RPC request object."""
        number = request.get("id") if isinstance(request, dict) else None
        try:
            if not isinstance(request, dict) or not isinstance(request.get("method"), str):
                raise RpcError(RPC_INVALID_REQUEST, "Missing method")  # noqa: TRY301 - one place makes answers
            method = self._methods.get(request["method"])
            if method is None:
                raise RpcError(RPC_METHOD_NOT_FOUND, "Method not found")  # noqa: TRY301
            params = request.get("params") or []
            result = method(**params) if isinstance(params, dict) else method(*params)
        except RpcError as e:
            return {"result": None, "error": {"code": e.code, "message": e.message}, "id": number}
        except (TypeError, InvalidInputError) as e:
            return {"result": None, "error": {"code": RPC_MISC_ERROR, "message": str(e)}, "id": number}
        except Exception:  # the border of the process: one bad request must not end the others
            log.exception("method %s failed", request.get("method") if isinstance(request, dict) else None)
            return {"result": None, "error": {"code": RPC_INTERNAL_ERROR, "message": "internal error"}, "id": number}
        return {"result": result, "error": None, "id": number}

    # ---- chain

    def getblockchaininfo(self) -> dict[str, object]:
        """Describe the chain."""
        tip = self._chain.tip
        return {
            "chain": "regtest",
            "blocks": tip.height,
            "headers": tip.height,
            "bestblockhash": _hex(tip.hash),
            "difficulty": 4.656542373906925e-10,
            "time": tip.time,
            "mediantime": self._chain.median_time(tip.height),
            "verificationprogress": 1,
            "initialblockdownload": False,
            "chainwork": f"{2 * (tip.height + 1):064x}",
            "size_on_disk": sum(len(block.raw) for block in self._chain.active),
            "pruned": False,
            "warnings": [],
        }

    def getnetworkinfo(self) -> dict[str, object]:
        """Describe the node: no peers, loopback RPC only."""
        return {
            "version": 299900,
            "subversion": "/btcfi-regtest:0.1.0/",
            "protocolversion": 70016,
            "localservices": "0000000000000009",
            "localrelay": True,
            "timeoffset": 0,
            "networkactive": False,
            "connections": 0,
            "networks": [],
            "relayfee": _btc(MIN_RELAY_FEE_RATE),
            "incrementalfee": _btc(INCREMENTAL_FEE_RATE),
            "localaddresses": [],
            "warnings": [],
        }

    def getblockcount(self) -> int:
        """Return the height of the tip."""
        return self._chain.tip.height

    def getbestblockhash(self) -> str:
        """Return the hash of the tip."""
        return _hex(self._chain.tip.hash)

    def getblockhash(self, height: int) -> str:
        """Return the hash of the block at a height of the active chain."""
        if not isinstance(height, int) or not 0 <= height < len(self._chain.active):
            raise RpcError(RPC_INVALID_PARAMETER, "Block height out of range")
        return _hex(self._chain.active[height].hash)

    def getblockheader(self, blockhash: str, verbose: bool = True) -> object:  # noqa: FBT001, FBT002 - bitcoind's
        """Return a header, as hex or described."""
        name = self._known_block(blockhash)
        raw = self._chain.raw_block(name)
        return self._header(name, raw) if verbose else raw[: _HEADER.size].hex()

    def getblock(self, blockhash: str, verbosity: int = 1) -> object:
        """Return a block: 0 hex, 1 with txids, 2 with transactions."""
        name = self._known_block(blockhash)
        raw = self._chain.raw_block(name)
        if not verbosity:
            return raw.hex()
        transactions = [from_bitcoinlib(tx) for tx in CBlock.deserialize(raw).vtx]
        described = self._header(name, raw, len(transactions))
        described |= {
            "size": len(raw),
            "strippedsize": sum(len(tx.to_bytes(witness=False)) for tx in transactions) + 81,
            "weight": sum(tx.weight for tx in transactions) + 4 * 81,
            "tx": [display_txid(tx.txid) if verbosity == 1 else self._describe(tx) for tx in transactions],
        }
        return described

    def getrawtransaction(self, txid: str, verbosity: int = 0, blockhash: str | None = None) -> object:
        """Return a transaction of the pool or the active chain (all of it is indexed)."""
        name = Txid(_hash_param(txid, "parameter 1"))
        block = self._chain.where.get(name)
        if blockhash is not None and (block is None or _hex(block.hash) != blockhash):
            raise RpcError(RPC_INVALID_ADDRESS_OR_KEY, "No such transaction found in the provided block.")
        if block is not None:
            transaction = block.transactions[block.txids.index(name)]
        elif name in self._chain.pool:
            transaction = self._chain.pool[name].transaction
        else:
            message = "No such mempool or blockchain transaction. Use gettransaction for wallet transactions."
            raise RpcError(RPC_INVALID_ADDRESS_OR_KEY, message)
        if not verbosity:
            return transaction.to_bytes().hex()
        described = self._describe(transaction)
        if block is not None:
            described |= {
                "blockhash": _hex(block.hash),
                "confirmations": len(self._chain.active) - block.height,
                "time": block.time,
                "blocktime": block.time,
            }
        return described

    def gettxout(self, txid: str, n: int, include_mempool: bool = True) -> object:  # noqa: FBT001, FBT002 - bitcoind's
        """Return an unspent output, or null."""
        outpoint = OutPoint(txid=Txid(_hash_param(txid, "txid")), index=n)
        coin = self._chain.coin(outpoint, pool=include_mempool)
        if coin is None:
            return None
        return {
            "bestblock": _hex(self._chain.tip.hash),
            "confirmations": len(self._chain.active) - coin.height,
            "value": _btc(coin.output.value),
            "scriptPubKey": _describe_script(coin.output.script),
            "coinbase": coin.coinbase,
        }

    def submitblock(self, hexdata: str, dummy: str | None = None) -> str | None:  # noqa: ARG002 - bitcoind has it
        """Take a block; null when it became the tip, else a reason."""
        try:
            raw = bytes.fromhex(hexdata)
            CBlock.deserialize(raw)
        except (ValueError, SerializationError) as e:
            raise RpcError(RPC_DESERIALIZATION_ERROR, "Block decode failed") from e
        if not self._chain.has_block(raw[4:36]):
            return "prev-blk-not-found"
        return self._chain.accept_block(raw)

    def invalidateblock(self, blockhash: str) -> None:
        """Treat a block as invalid."""
        name = self._known_block(blockhash)
        if name == self._chain.active[0].hash:
            raise RpcError(RPC_INVALID_PARAMETER, "The genesis block cannot be invalidated")
        self._chain.invalidate(name)

    def reconsiderblock(self, blockhash: str) -> None:
        """Undo invalidateblock."""
        self._chain.reconsider(self._known_block(blockhash))

    # ---- mining

    def generatetoaddress(self, nblocks: int, address: str, maxtries: int = 0) -> list[str]:  # noqa: ARG002 - bitcoind's
        """Mine blocks of the pool to an address."""
        script = self._address(address)
        return [_hex(self._chain.mine(script)) for _ in range(nblocks)]

    def generateblock(self, output: str, transactions: list[str], submit: bool = True) -> dict[str, str]:  # noqa: FBT001, FBT002
        """Mine one block of exactly these transactions (txids of the pool, or hex)."""
        if not submit:
            raise RpcError(RPC_INVALID_PARAMETER, "submit=false is not offered here")
        chosen = []
        for text in transactions:
            if len(text) == 64:  # noqa: PLR2004 - a txid
                entry = self._chain.pool.get(Txid(_hash_param(text, "txid")))
                if entry is None:
                    raise RpcError(RPC_INVALID_ADDRESS_OR_KEY, f"Transaction {text} not in mempool.")
                chosen.append(entry.transaction)
            else:
                chosen.append(_transaction_param(text))
        return {"hash": _hex(self._chain.mine(self._address(output), chosen))}

    def estimatesmartfee(self, conf_target: int, estimate_mode: str = "economical") -> dict[str, object]:  # noqa: ARG002
        """Return what a fresh regtest node does: no data, no rate."""
        return {"errors": ["Insufficient data or no feerate found"], "blocks": conf_target}

    # ---- pool

    def getrawmempool(self, verbose: bool = False) -> object:  # noqa: FBT001, FBT002 - bitcoind's
        """Return the pool's txids, or their entries."""
        if verbose:
            return {display_txid(txid): self._entry(entry) for txid, entry in self._chain.pool.items()}
        return [display_txid(txid) for txid in self._chain.pool]

    def getmempoolentry(self, txid: str) -> dict[str, object]:
        """Return one pool entry."""
        entry = self._chain.pool.get(Txid(_hash_param(txid, "txid")))
        if entry is None:
            raise RpcError(RPC_INVALID_ADDRESS_OR_KEY, "Transaction not in mempool")
        return self._entry(entry)

    def getmempoolinfo(self) -> dict[str, object]:
        """Describe the pool."""
        pool = self._chain.pool.values()
        return {
            "loaded": True,
            "size": len(pool),
            "bytes": sum(entry.vsize for entry in pool),
            "total_fee": _btc(sum(entry.fee for entry in pool)),
            "mempoolminfee": _btc(MIN_RELAY_FEE_RATE),
            "minrelaytxfee": _btc(MIN_RELAY_FEE_RATE),
            "incrementalrelayfee": _btc(INCREMENTAL_FEE_RATE),
            "fullrbf": True,
        }

    def sendrawtransaction(self, hexstring: str, maxfeerate: object = "0.10", maxburnamount: object = 0) -> str:  # noqa: ARG002
        """Take a transaction into the pool and return its txid; one that is there already is no error."""
        transaction = _transaction_param(hexstring)
        name = display_txid(transaction.txid)
        if transaction.txid in self._chain.pool:
            return name
        try:
            self._chain.admit(transaction, _rate_of(maxfeerate))
        except RejectedError as e:
            message = {
                "txn-already-known": "Transaction outputs already in utxo set",
                "max-fee-exceeded": "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
            }.get(e.reason, str(e))
            raise RpcError(e.code, message) from e
        return name

    def testmempoolaccept(self, rawtxs: list[str], maxfeerate: object = "0.10") -> list[dict[str, object]]:
        """Check transactions, each after those before it, and keep none."""
        transactions = [_transaction_param(text) for text in rawtxs]
        results: list[dict[str, object]] = []
        for transaction, one in zip(transactions, self._chain.try_all(transactions, _rate_of(maxfeerate)), strict=True):
            result: dict[str, object] = {"txid": display_txid(transaction.txid), "wtxid": _wtxid(transaction)}
            if isinstance(one, PoolEntry):
                result |= {"allowed": True, "vsize": one.vsize, "fees": {"base": _btc(one.fee)}}
            else:
                reason = "missing-inputs" if one.reason == "bad-txns-inputs-missingorspent" else one.reason
                result |= {"allowed": False, "reject-reason": reason, "reject-details": str(one)}
            results.append(result)
        return results

    def submitpackage(self, package: list[str], maxfeerate: object = "0.10") -> dict[str, object]:
        """Take parents and their child together: the child's fee counts for all of them."""
        if not 2 <= len(package) <= _MAX_PACKAGE:  # noqa: PLR2004 - bitcoind's bounds
            raise RpcError(RPC_INVALID_PARAMETER, f"Array must contain between 2 and {_MAX_PACKAGE} transactions.")
        limit = _rate_of(maxfeerate)
        transactions = [_transaction_param(text) for text in package]
        child = transactions[-1]
        parents = {tx.txid for tx in transactions[:-1]}
        if not parents <= {txin.outpoint.txid for txin in child.inputs}:
            raise RpcError(RPC_VERIFY_ERROR, "package topology disallowed. not child-with-parents")
        outcome, message = self._chain.admit_package(transactions, limit)
        results: dict[str, dict[str, object]] = {}
        for transaction in transactions:
            one = outcome[transaction.txid]
            result: dict[str, object] = {"txid": display_txid(transaction.txid)}
            if isinstance(one, PoolEntry):
                result |= {"vsize": one.vsize, "fees": {"base": _btc(one.fee)}}
            else:
                result["error"] = one
            results[_wtxid(transaction)] = result
        return {"package_msg": message, "tx-results": results, "replaced-transactions": []}

    def stop(self) -> str:
        """Stop the node after this answer."""
        self._stop()
        return "btcfi regtest node stopping"

    # ---- shapes

    def _address(self, address: str) -> bytes:
        try:
            return decode_address(address)
        except InvalidInputError as e:
            raise RpcError(RPC_INVALID_ADDRESS_OR_KEY, f"Error: Invalid address ({e})") from e

    def _known_block(self, text: str) -> bytes:
        name = _hash_param(text, "blockhash")
        if not self._chain.has_block(name):
            raise RpcError(RPC_INVALID_ADDRESS_OR_KEY, "Block not found")
        return name

    def _header(self, name: bytes, raw: bytes, n_tx: int | None = None) -> dict[str, object]:
        version, previous, root, when, bits, nonce = _HEADER.unpack_from(raw)
        block = self._chain.by_hash.get(name)
        if block is not None:
            at, confirmations = block.height, len(self._chain.active) - block.height
        else:
            at, confirmations = self._branch_height(name), -1
        described: dict[str, object] = {
            "hash": _hex(name),
            "confirmations": confirmations,
            "height": at,
            "version": version,
            "versionHex": f"{version:08x}",
            "merkleroot": _hex(root),
            "time": when,
            "mediantime": self._chain.median_time(at) if block is not None else when,
            "nonce": nonce,
            "bits": f"{bits:08x}",
            "difficulty": 4.656542373906925e-10,
            "chainwork": f"{2 * (at + 1):064x}",
            "nTx": n_tx if n_tx is not None else len(CBlock.deserialize(raw).vtx),
        }
        if at:
            described["previousblockhash"] = _hex(previous)
        if block is not None and at + 1 < len(self._chain.active):
            described["nextblockhash"] = _hex(self._chain.active[at + 1].hash)
        return described

    def _branch_height(self, name: bytes) -> int:
        steps = 0
        while name not in self._chain.by_hash:
            name = self._chain.raw_block(name)[4:36]
            steps += 1
        return self._chain.by_hash[name].height + steps

    def _entry(self, entry: PoolEntry) -> dict[str, object]:
        return {
            "vsize": entry.vsize,
            "weight": entry.transaction.weight,
            "time": entry.time,
            "height": entry.height,
            "descendantcount": 1 + len(entry.children),
            "ancestorcount": 1 + len(entry.parents),
            "wtxid": _wtxid(entry.transaction),
            "fees": {"base": _btc(entry.fee), "modified": _btc(entry.fee)},
            "depends": [display_txid(txid) for txid in entry.parents],
            "spentby": [display_txid(txid) for txid in entry.children],
            "bip125-replaceable": True,
        }

    def _describe(self, transaction: Transaction) -> dict[str, Any]:
        raw = transaction.to_bytes()
        inputs: list[dict[str, object]] = []
        for txin in transaction.inputs:
            if txin.outpoint.index == 0xFFFFFFFF:  # noqa: PLR2004 - a coinbase
                one: dict[str, object] = {"coinbase": txin.script_sig.hex()}
            else:
                one = {
                    "txid": display_txid(txin.outpoint.txid),
                    "vout": txin.outpoint.index,
                    "scriptSig": {"asm": "", "hex": txin.script_sig.hex()},
                }
            if txin.witness:
                one["txinwitness"] = [item.hex() for item in txin.witness]
            inputs.append(one | {"sequence": txin.sequence})
        return {
            "txid": display_txid(transaction.txid),
            "hash": _wtxid(transaction),
            "version": transaction.version,
            "size": len(raw),
            "vsize": transaction.vsize,
            "weight": transaction.weight,
            "locktime": transaction.lock_time,
            "vin": inputs,
            "vout": [
                {"value": _btc(output.value), "n": n, "scriptPubKey": _describe_script(output.script)}
                for n, output in enumerate(transaction.outputs)
            ],
            "hex": raw.hex(),
        }


def _hex(name: bytes) -> str:
    return name[::-1].hex()


def _wtxid(transaction: Transaction) -> str:
    return hash256(transaction.to_bytes())[::-1].hex()


def _describe_script(script: bytes) -> dict[str, object]:
    described: dict[str, object] = {"hex": script.hex(), "type": _script_type(script)}
    with suppress(InvalidInputError):  # a script without an address
        described["address"] = encode_address(script)
    return described


# ---- HTTP


class Server:
    """HTTP/1.1 with keep-alive on the loopback; one request at a time, so the chain needs no lock."""

    def __init__(self, rpc: Rpc, *, credentials: str) -> None:
        self._rpc = rpc
        self._authorization = b"Basic " + base64.b64encode(credentials.encode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it closes."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request, _, rest = head.partition(b"\r\n")
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (line.partition(b":") for line in rest.split(b"\r\n") if line)
                }
                size = int(headers.get(b"content-length", b"0"))
                if size > MAX_BODY_BYTES:
                    writer.write(_http(413, b"", close=True))
                    break
                body = await reader.readexactly(size)
                close = headers.get(b"connection", b"").lower() == b"close"
                writer.write(self._respond(request, headers, body, close=close))
                await writer.drain()
                if close:
                    break
        except asyncio.CancelledError:
            pass  # the node stops
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass  # the client went away or does not speak HTTP: nothing to answer
        finally:
            writer.close()

    def _respond(self, request: bytes, headers: dict[bytes, bytes], body: bytes, *, close: bool) -> bytes:
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
            return _http(401, b"", close=close)
        if not request.startswith(b"POST "):
            return _http(405, b"JSONRPC server handles only POST requests", close=close)
        try:
            parsed = json.loads(body)
        except ValueError:
            error = {"code": RPC_PARSE_ERROR, "message": "Parse error"}
            return _http(500, _encode({"result": None, "error": error, "id": None}), close=close)
        if isinstance(parsed, list):
            return _http(200, _encode([self._rpc.call(one) for one in parsed]), close=close)
        answer = self._rpc.call(parsed)
        fault = answer["error"]
        status = 200
        if isinstance(fault, dict):
            status = {RPC_METHOD_NOT_FOUND: 404, RPC_INVALID_REQUEST: 400}.get(fault["code"], 500)
        return _http(status, _encode(answer), close=close)


_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
}


def _http(status: int, body: bytes, *, close: bool) -> bytes:
    extra = 'WWW-Authenticate: Basic realm="jsonrpc"\r\n' if status == 401 else ""  # noqa: PLR2004
    extra += "Connection: close\r\n" if close else ""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + extra + "\r\n").encode() + body


def write_cookie(datadir: Path) -> str:
    """Write ``user:password`` with a fresh random password to ``datadir/.cookie``, mode 0600, and return it."""
    credentials = f"__cookie__:{secrets.token_hex(32)}"
    path = datadir / ".cookie"
    fresh = path.with_name(".cookie.tmp")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(credentials)
    fresh.replace(path)
    return credentials


def _lock(datadir: Path) -> IO[bytes]:
    file = (datadir / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        file.close()
        raise DatadirInUseError(datadir) from e
    return file


async def _run(datadir: Path, host: str, port: int) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    chain = Chain(datadir, clock=lambda: int(time.time()))
    try:
        server = Server(Rpc(chain, stop=stopping.set), credentials=write_cookie(datadir))
        try:
            listener = await asyncio.start_server(server.serve, host, port, limit=1 << 16)
        except OSError as e:
            raise PortInUseError(host=host, port=port) from e
        bound = listener.sockets[0].getsockname()[1]
        print(f"btcfi regtest node: http://{host}:{bound} height {chain.tip.height}", flush=True)  # noqa: T201
        await stopping.wait()
        listener.close()
    finally:
        chain.close()
        (datadir / ".cookie").unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGTERM, SIGINT or the RPC ``stop``; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m btcfi.adapters.regtest_node", description=__doc__.split("\n")[0])
    parser.add_argument("--datadir", type=Path, required=True, help="directory of the chain and of the .cookie file")
    parser.add_argument("--port", type=int, required=True, help="TCP port; 0 lets the system choose and prints it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (the loopback by default)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        arguments.datadir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _lock(arguments.datadir):
            asyncio.run(_run(arguments.datadir, arguments.host, arguments.port))
    except (BtcfiError, OSError) as e:
        print(f"btcfi regtest node: {e}", file=sys.stderr)  # noqa: T201 - this process's error line
        return {PortInUseError: EXIT_PORT_IN_USE, DatadirInUseError: EXIT_DATADIR_IN_USE}.get(type(e), 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
