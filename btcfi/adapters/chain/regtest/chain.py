"""The embedded node's chain: the kernel's blocks, our index of coins and transactions, the memory pool, a miner.

Blocks are validated by libbitcoinkernel, scripts in the pool by the same library. What is on disk is one journal of
blocks, transactions and invalidations, appended before an answer leaves. At start it is replayed through the kernel, a
torn last record is cut off, and the kernel's own files are rebuilt: nothing can disagree with it. It survives SIGKILL,
not a power cut (it is flushed to the system, not synced).
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import IO, Any, Final

import pbk
from bitcoin.core import CBlock
from pbk.script import PrecomputedTransactionData

from btcfi.adapters.chain.regtest import template
from btcfi.adapters.chain.regtest.policy import (
    ALREADY_KNOWN,
    MAX_RELATIVES,
    MAX_RELATIVES_VSIZE,
    MAX_REPLACED,
    MISSING_OR_SPENT,
    TRUC_CHILD_MAX_VSIZE,
    TRUC_MAX_VSIZE,
    Chunk,
    Door,
    Policy,
    PoolEntry,
    RejectedError,
    Truc,
    check_package_form,
    check_standard,
    check_witnesses,
    feerate,
    improves,
)
from btcfi.adapters.files import open_private, remade_private
from btcfi.bitcoin.block import merkle_root
from btcfi.bitcoin.fees import (
    INCREMENTAL_FEE_RATE,
    SatsPerKvb,
    fee_for,
)
from btcfi.bitcoin.script import OP_RETURN, push_number
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
from btcfi.hashes import hash256
from btcfi.units import Sats, Txid, display_txid

log = logging.getLogger(__name__)

_SUBSIDY: Final = 50 * 100_000_000
_HALVING: Final = 150
"""Blocks between halvings on regtest. Source: Bitcoin Core, CRegTestParams."""

_BITS: Final = 0x207FFFFF
_TARGET: Final = 0x7FFFFF << (8 * (0x20 - 3))
_LOCKTIME_THRESHOLD: Final = 500_000_000
_MEDIAN_BLOCKS: Final = 11
_WITNESS_RESERVED: Final = bytes(32)
HEADER: Final = Struct("<i32s32sIII")
"""A block header: version, previous hash, Merkle root, time, bits, nonce."""

_RECORD: Final = Struct("<cII")
"""A journal record: kind, length of the payload, CRC-32 of the payload."""


class BlockRefusedError(Exception):
    """The kernel refuses a block of our own making."""


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
        self._file = open_private(self._path)
        self._file.truncate(good)
        self._file.seek(good)

    def append(self, *records: tuple[bytes, bytes]) -> None:
        """Write records, each a kind and its payload, and hand them to the system together."""
        if self._file is not None:
            self._file.write(
                b"".join(_RECORD.pack(kind, len(payload), zlib.crc32(payload)) + payload for kind, payload in records)
            )
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

    def __init__(self, datadir: Path, *, clock: Callable[[], int], policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
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
        remade_private(self._kernel_dir)
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
            elif kind == b"X":
                pending.pop(Txid(payload), None)
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
        self._journal.append((b"B", raw))
        self._follow()
        return None if self.tip.hash == name else "inconclusive"

    def invalidate(self, name: bytes) -> None:
        """Treat a block and all that builds on it as invalid."""
        self._invalid.add(name)
        self._journal.append((b"I", name))
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
            self._journal.append((b"R", known))
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
            self._enter_pool(self.check(transaction, Door.AGAIN))
        except RejectedError as e:
            log.info("transaction %s left the pool: %s", display_txid(transaction.txid), e)

    def admit(self, transaction: Transaction, limit: SatsPerKvb) -> PoolEntry:
        """Check a transaction and take it into the pool. Raises RejectedError.

        limit: the highest fee rate that the caller accepts, 0 for any.
        """
        entry = self._check_rate(self.check(transaction), limit)
        self._keep([entry])
        return entry

    def admit_package(
        self, transactions: list[Transaction], limit: SatsPerKvb
    ) -> tuple[dict[Txid, PoolEntry | str], str]:
        """Take parents and their child: each alone if it holds alone, the rest by their common fee rate.

        Returns an entry or a reason for each, and bitcoind's word for the whole: nothing and a reason for a package
        that is not looked at. Source: Bitcoin Core 29, AcceptPackage.
        """
        try:
            self._check_package(transactions)
        except RejectedError as e:
            return {}, str(e)
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
                if self._may_hold_together(transaction, e):
                    waiting.append(transaction)
        failed = [txid for txid, one in outcome.items() if isinstance(one, str)]
        if not failed:
            return outcome, "success"
        if len(waiting) < len(failed) or len(waiting) == 1:
            return outcome, "transaction failed"
        together, message = self._admit_together(waiting, limit)
        return outcome | together, message

    def _check_package(self, transactions: list[Transaction]) -> None:
        check_package_form(transactions)
        inside = {transaction.txid for transaction in transactions}
        if len(transactions) > 1 and not all(
            txin.outpoint.txid in inside or txin.outpoint in self.coins for txin in transactions[-1].inputs
        ):
            raise RejectedError("package-not-child-with-unconfirmed-parents")

    def _may_hold_together(self, transaction: Transaction, refusal: RejectedError) -> bool:
        if refusal.reason == "min relay fee not met":
            return self.policy.exempts(transaction)
        return refusal.reason.startswith(("bad-txns-inputs-missingorspent", "insufficient fee"))

    def _admit_together(self, waiting: list[Transaction], limit: SatsPerKvb) -> tuple[dict[Txid, PoolEntry | str], str]:
        entered: list[PoolEntry] = []
        refused = waiting[-1]
        try:
            for refused in waiting:
                entered.append(self._check_rate(self.check(refused, Door.PACKAGE), limit))
                self._insert(entered[-1])
            self._check_package_fee(entered)
            self._check_package_replacement(entered)
        except RejectedError as e:
            for entry in reversed(entered):
                self._take_back(entry)
            if self._concerns_all(e, refused, entered):
                return {}, str(e)
            return {refused.txid: str(e)}, "transaction failed"
        self._keep(entered)
        return {entry.transaction.txid: entry for entry in entered}, "success"

    @staticmethod
    def _concerns_all(refusal: RejectedError, refused: Transaction, others: list[PoolEntry]) -> bool:
        # bitcoind holds version 3's rules against the pool for each, against the package for all of it
        inside = {entry.transaction.txid for entry in others} & {txin.outpoint.txid for txin in refused.inputs}
        return refusal.reason.startswith("package") or (refusal.reason == "TRUC-violation" and bool(inside))

    def _check_package_fee(self, entries: list[PoolEntry]) -> None:
        fee, vsize = sum(entry.fee for entry in entries), sum(entry.vsize for entry in entries)
        needed = fee_for(vsize, self.policy.relay_fee)
        if fee < needed:
            raise RejectedError("min relay fee not met", detail=f"{fee} < {needed}")

    def _keep(self, entries: list[PoolEntry]) -> None:
        """Write what enters and what falls to the journal, then change the pool."""
        # what falls is written too: a restart would ask a parent alone to replace what its package did
        falling = [(b"X", bytes(txid)) for txid in self._falling(entries)]
        self._journal.append(*[(b"T", entry.raw) for entry in entries], *falling)
        self._enter_pool(*entries)

    def try_all(self, transactions: list[Transaction], limit: SatsPerKvb) -> list[PoolEntry | RejectedError]:
        """Check transactions, each as if those before it were in the pool, and keep none.

        Only one that is asked about alone may replace others, as in bitcoind.
        """
        outcome: list[PoolEntry | RejectedError] = []
        entered: list[Txid] = []
        door = Door.ALONE if len(transactions) == 1 else Door.LIST
        for transaction in transactions:
            try:
                entry = self._check_rate(self.check(transaction, door), limit)
                if entry.conflicts and door is Door.LIST:
                    raise RejectedError("bip125-replacement-disallowed")  # noqa: TRY301
            except RejectedError as e:
                outcome.append(e)
                continue
            if door is Door.LIST:
                self._insert(entry)
                entered.append(transaction.txid)
            outcome.append(entry)
        for txid in reversed(entered):
            self._evict(txid)
        return outcome

    @staticmethod
    def _check_rate(entry: PoolEntry, limit: SatsPerKvb) -> PoolEntry:
        if limit and entry.fee > fee_for(entry.vsize, limit):
            raise RejectedError("max-fee-exceeded", code=MISSING_OR_SPENT)
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

    def check(self, transaction: Transaction, door: Door = Door.ALONE) -> PoolEntry:
        """Check a transaction against the chain, the pool and the relay rules. Raises RejectedError.

        door: how it comes in. What a list or a package replaces is its caller's to judge.
        """
        raw = transaction.to_bytes()
        check_standard(transaction, self.policy)
        self._check_new(transaction)
        self._check_locks(transaction)
        spent = self._coins_of(transaction)
        self._check_relative_locks(transaction, spent)
        fee = sum(coin.output.value for coin in spent) - sum(output.value for output in transaction.outputs)
        if fee < 0:
            raise RejectedError("bad-txns-in-belowout")
        check_witnesses(transaction, [coin.output for coin in spent])
        vsize = transaction.vsize
        needed = fee_for(vsize, self.policy.relay_fee)
        free = door is Door.AGAIN or (door is Door.PACKAGE and self.policy.exempts(transaction))
        if fee < needed and not free:
            raise RejectedError("min relay fee not met", detail=f"{fee} < {needed}")
        entry = PoolEntry(
            transaction=transaction,
            raw=raw,
            fee=Sats(fee),
            vsize=vsize,
            time=self._clock(),
            height=len(self.active) - 1,
            parents={txin.outpoint.txid for txin in transaction.inputs if txin.outpoint.txid in self.pool},
            conflicts={self.spenders[i.outpoint] for i in transaction.inputs if i.outpoint in self.spenders},
        )
        if door is not Door.AGAIN:
            self._check_relatives(entry)
            self._check_truc(entry, may_evict=door is Door.ALONE)
        if not entry.conflicts.isdisjoint(self._ancestors(entry.parents)):
            raise RejectedError("bad-txns-spends-conflicting-tx")
        if door in (Door.ALONE, Door.AGAIN):
            self._check_replacement(entry)
        _check_scripts(raw, [coin.output for coin in spent])
        return entry

    def _check_new(self, transaction: Transaction) -> None:
        if transaction.txid in self.pool:
            raise RejectedError("txn-already-in-mempool", code=ALREADY_KNOWN)
        if any(transaction.outpoint(index) in self.coins for index in range(len(transaction.outputs))):
            raise RejectedError("txn-already-known", code=ALREADY_KNOWN)
        if len({txin.outpoint for txin in transaction.inputs}) != len(transaction.inputs):
            raise RejectedError("bad-txns-inputs-duplicate")

    def _coins_of(self, transaction: Transaction) -> list[Coin]:
        spent: list[Coin] = []
        for txin in transaction.inputs:
            coin = self._source(txin.outpoint)
            if coin is None:
                raise RejectedError("bad-txns-inputs-missingorspent", code=MISSING_OR_SPENT)
            if coin.coinbase and len(self.active) - coin.height < COINBASE_MATURITY:
                depth = len(self.active) - coin.height
                raise RejectedError("bad-txns-premature-spend-of-coinbase", detail=f"tried to spend at depth {depth}")
            spent.append(coin)
        return spent

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

    def _check_relatives(self, entry: PoolEntry) -> None:
        # Core: CalculateMemPoolAncestors; one direct rival is taken for gone already, by count and size
        rivals = [self._descendants(txid) for txid in entry.conflicts] if len(entry.conflicts) == 1 else []
        spare = sum(self.pool[txid].vsize for rival in rivals for txid in rival)
        ancestors = self._ancestors(entry.parents)
        self._check_line(ancestors, entry.vsize, 1, 0, "ancestors")
        for ancestor in ancestors:
            self._check_line(self._descendants(ancestor), entry.vsize, 1 - len(rivals), spare, "descendants")

    def _check_line(self, relatives: set[Txid], vsize: int, more: int, spare: int, kind: str) -> None:
        if len(relatives) + more > MAX_RELATIVES:
            raise RejectedError(
                "too-long-mempool-chain", detail=f"too many unconfirmed {kind} [limit: {MAX_RELATIVES}]"
            )
        if sum(self.pool[txid].vsize for txid in relatives) + vsize - spare > MAX_RELATIVES_VSIZE:
            raise RejectedError("too-long-mempool-chain", detail=f"{kind} exceed {MAX_RELATIVES_VSIZE} vB")

    def _check_truc(self, entry: PoolEntry, *, may_evict: bool) -> None:
        # BIP431: one unconfirmed parent, one unconfirmed child, all of version 3, bounded sizes
        if self.policy.truc is not Truc.ENFORCE:
            return
        version = entry.transaction.version
        for parent in entry.parents:
            if (self.pool[parent].transaction.version == TRUC_VERSION) != (version == TRUC_VERSION):
                raise RejectedError("TRUC-violation", detail="an unconfirmed version 3 and another version are related")
        if version != TRUC_VERSION:
            return
        if entry.vsize > TRUC_MAX_VSIZE:
            raise RejectedError("TRUC-violation", detail=f"{entry.vsize} vB, at most {TRUC_MAX_VSIZE}")
        if len(self._ancestors(entry.parents)) > 1:
            raise RejectedError("TRUC-violation", detail="more than one unconfirmed ancestor")
        if entry.parents and entry.vsize > TRUC_CHILD_MAX_VSIZE:
            raise RejectedError("TRUC-violation", detail=f"child of {entry.vsize} vB, at most {TRUC_CHILD_MAX_VSIZE}")
        for parent in entry.parents:
            self._check_siblings(entry, parent, may_evict=may_evict)

    def _check_siblings(self, entry: PoolEntry, parent: Txid, *, may_evict: bool) -> None:
        siblings = self.pool[parent].children
        if not siblings or not siblings.isdisjoint(entry.conflicts):
            return
        # more than one child, or a grandchild, is a reorganisation's doing: which one would leave?
        lonely = len(self._descendants(parent)) == 2 and all(len(self.pool[one].parents) == 1 for one in siblings)  # noqa: PLR2004
        if not may_evict or not lonely:
            raise RejectedError("TRUC-violation", detail="its parent has an unconfirmed child")
        entry.conflicts |= siblings

    def _check_replacement(self, entry: PoolEntry) -> None:
        # BIP125's rules, in bitcoind's order: the rate of direct rivals, how many fall, new inputs, all their fees
        if not entry.conflicts:
            return
        sibling = any(self.spenders.get(i.outpoint) in entry.conflicts for i in entry.transaction.inputs)
        words = "insufficient fee" if sibling else "insufficient fee (including sibling eviction)"
        for txid in entry.conflicts:
            rival = self.pool[txid]
            if feerate(entry.fee, entry.vsize) <= feerate(rival.fee, rival.vsize):
                raise RejectedError(words, detail="rejecting replacement; new feerate is not higher")
        self._check_fall(entry.conflicts, "too many potential replacements")
        known = {i.outpoint.txid for txid in entry.conflicts for i in self.pool[txid].transaction.inputs}
        if not entry.parents <= known:
            raise RejectedError("replacement-adds-unconfirmed")
        old, relay = self._fee_of(self._falling([entry])), fee_for(entry.vsize, INCREMENTAL_FEE_RATE)
        if entry.fee < old + relay:
            raise RejectedError(words, detail=f"rejecting replacement; {entry.fee} < {old} + {relay}")

    def _check_package_replacement(self, entries: list[PoolEntry]) -> None:
        # Source: Bitcoin Core 29, PackageRBFChecks
        conflicts = set().union(*(entry.conflicts for entry in entries))
        if not conflicts:
            return
        failed = "package RBF failed: "
        if len(entries) != 2:  # noqa: PLR2004 - a parent and its child
            raise RejectedError(failed + "package must be 1-parent-1-child")
        if any(entry.parents - {entries[0].transaction.txid} for entry in entries):
            raise RejectedError(failed + "new transaction cannot have mempool ancestors")
        self._check_fall(conflicts, failed + "too many potential replacements")
        fee, vsize = sum(entry.fee for entry in entries), sum(entry.vsize for entry in entries)
        old, relay = self._fee_of(self._falling(entries)), fee_for(vsize, INCREMENTAL_FEE_RATE)
        if fee < old + relay:
            raise RejectedError(failed + "insufficient anti-DoS fees", detail=f"{fee} < {old} + {relay}")
        if feerate(fee, vsize) <= feerate(entries[0].fee, entries[0].vsize):
            raise RejectedError(failed + "package feerate is less than or equal to parent feerate")
        before, after = self._chunks_around(conflicts)
        if not improves([*after, (fee, vsize)], before):
            raise RejectedError(failed + "insufficient feerate: does not improve feerate diagram")

    def _chunks_around(self, conflicts: set[Txid]) -> tuple[list[Chunk], list[Chunk]]:
        """Return what a miner takes together, of the conflicts and their kin, before and after they fall.

        Raises RejectedError for more than a parent and its child. Source: Bitcoin Core 29, CalculateChunksForRBF.
        """
        before: list[Chunk] = []
        after: list[Chunk] = []
        falling = set().union(*(self._descendants(txid) for txid in conflicts))
        for txid in falling:
            line = self._closure({txid}, lambda one: self.pool[one].parents | self.pool[one].children)
            if len(line) > 2:  # noqa: PLR2004 - a parent and its child
                raise RejectedError(f"package RBF failed: {display_txid(txid)} has too many relatives")
            entry = self.pool[txid]
            if entry.children:
                continue  # counted with its child
            own = (int(entry.fee), entry.vsize)
            above = [(int(self.pool[one].fee), self.pool[one].vsize) for one in entry.parents]
            if above and own[0] * above[0][1] > above[0][0] * own[1]:
                before.append((own[0] + above[0][0], own[1] + above[0][1]))
            else:
                before += [own, *above]
            after += above if entry.parents.isdisjoint(falling) else []
        return before, after

    def _check_fall(self, conflicts: set[Txid], words: str) -> None:
        # one that falls with two rivals counts twice: bitcoind looks no closer
        if sum(len(self._descendants(txid)) for txid in conflicts) > MAX_REPLACED:
            raise RejectedError(words)

    def _falling(self, entries: list[PoolEntry]) -> set[Txid]:
        """Return what leaves the pool when ``entries`` enter."""
        return {txid for entry in entries for one in entry.conflicts for txid in self._descendants(one)}

    def _fee_of(self, txids: set[Txid]) -> int:
        return sum(self.pool[txid].fee for txid in txids)

    def _enter_pool(self, *entries: PoolEntry) -> None:
        for txid in self._falling(list(entries)):
            self._leave_pool(txid)
        for entry in entries:
            self._insert(entry)

    def _insert(self, entry: PoolEntry) -> None:
        txid = entry.transaction.txid
        self.pool[txid] = entry
        for txin in entry.transaction.inputs:
            self.spenders[txin.outpoint] = txid
        for parent in entry.parents:
            self.pool[parent].children.add(txid)

    def _take_back(self, entry: PoolEntry) -> None:
        """Undo ``_insert`` of an entry without children, before what it conflicts with has left."""
        self._leave_pool(entry.transaction.txid)
        for rival in entry.conflicts:
            for txin in self.pool[rival].transaction.inputs:
                self.spenders[txin.outpoint] = rival

    def _leave_pool(self, txid: Txid) -> None:
        entry = self.pool.pop(txid, None)
        if entry is None:
            return
        for txin in entry.transaction.inputs:
            if self.spenders.get(txin.outpoint) == txid:  # a rival may hold it already
                del self.spenders[txin.outpoint]
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

    def relatives(self, entry: PoolEntry) -> tuple[list[PoolEntry], list[PoolEntry]]:
        """Return a waiting entry's ancestors and its descendants, each with the entry itself."""
        ancestors = self._ancestors(entry.parents) | {entry.transaction.txid}
        descendants = self._descendants(entry.transaction.txid)
        return [self.pool[txid] for txid in ancestors], [self.pool[txid] for txid in descendants]

    # ---- miner

    def mine(self, script: bytes, transactions: Iterable[Transaction] | None = None) -> bytes:
        """Mine one block that pays ``script``, of the pool by fee rate or of exactly the given transactions.

        The fees of given ones are burnt, as by bitcoind's generateblock. Returns its hash. Raises BlockRefusedError
        when the kernel refuses it.
        """
        entries = template.choose(self.pool, self.policy) if transactions is None else []
        chosen = [entry.transaction for entry in entries] if transactions is None else list(transactions)
        fees = sum(entry.fee for entry in entries)
        raw = self._assemble(script, chosen, fees)
        refused = self.accept_block(raw)
        if refused is not None:
            raise BlockRefusedError(refused)
        return block_hash(raw)

    def _assemble(self, script: bytes, transactions: list[Transaction], fees: int) -> bytes:
        at = len(self.active)
        commitment = hash256(merkle_root([bytes(32), *(hash256(tx.to_bytes()) for tx in transactions)]) + bytes(32))
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
        root = merkle_root([tx.txid for tx in every])
        now = max(self._clock(), self.median_time(at - 1) + 1)
        nonce = 0
        while True:
            header = HEADER.pack(0x20000000, self.tip.hash, root, now, _BITS, nonce)
            if int.from_bytes(hash256(header), "little") <= _TARGET:
                return header + compact_size(len(every)) + b"".join(tx.to_bytes() for tx in every)
            nonce += 1


def block_hash(raw: bytes) -> bytes:
    """Return the hash of a block or header, internal order."""
    return hash256(raw[: HEADER.size])


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
