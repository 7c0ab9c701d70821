"""bitcoind's JSON-RPC, typed: the one way to the chain, for the embedded node and for a real one.

A small client of our own over ``http.client``: python-bitcoinlib's proxy never recovers from a timed-out connection,
knows no batches and no ``submitpackage``, and reads its network from a process-wide global. Parsing stays its.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from bitcoin.core import CBlock

from btcfi.bitcoin.block import merkle_root
from btcfi.bitcoin.fees import MAX_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut, from_bitcoinlib, parse_transaction
from btcfi.bitcoin.wallet import COINBASE_MATURITY
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError, RetryableError, UnreachableError
from btcfi.hashes import hash256
from btcfi.units import Hash32, Height, Sats, Txid, UnixSeconds, display_txid, hash32, height, parse_txid, sats

MAX_BATCH: Final = 500
"""Requests in one HTTP body; more are sent in several, so that no answer grows without bound."""

NOTHING: Final = Sats(0)

_COIN_DECIMALS: Final = 8
_COIN: Final = 10**_COIN_DECIMALS
_ALREADY_IN_CHAIN: Final = -27
_VERIFY_ERROR: Final = -25
_VERIFY_REJECTED: Final = -26
_NOT_FOUND: Final = -5
_BAD_PARAMETER: Final = -8
_WARMING_UP: Final = -28
"""bitcoind's error codes (src/rpc/protocol.h)."""

_MISSING: Final = (
    "bad-txns-inputs-missingorspent",
    "missing-inputs",
    "Missing inputs",
    "package-not-child-with-unconfirmed-parents",  # an input of the child is neither confirmed nor of the package
)
_KNOWN: Final = ("txn-already-in-mempool", "txn-already-known", "already in block chain", "already in utxo set")

_EACH_BY_ITSELF: Final = ("success", "transaction failed")
"""submitpackage's words when the reasons stand with the transactions."""


class PortInUseError(BtcfiError):
    """Another program listens on the port."""

    def __init__(self, *, host: str, port: int, variable: str = "") -> None:
        """``variable``: what sets the port, where a setting does."""
        how = f" ({variable}; 0 picks a free one)" if variable else ""
        super().__init__(f"port {port} on {host} is in use; stop what listens there or choose another port{how}")
        self.host, self.port = host, port


class DatadirInUseError(BtcfiError):
    """Another node runs on the data directory."""

    def __init__(self, datadir: Path) -> None:
        super().__init__(f"data directory {datadir} is in use by another node; stop it or choose another directory")
        self.datadir = datadir


class NodeUnreachableError(UnreachableError):
    """The Bitcoin node does not answer, or not as a node does."""

    def __init__(self, where: str, problem: str) -> None:
        hint = "start one (`btcfi up`), or set NODE_URL (--node of btcfi party) to http://user:password@host:port"
        super().__init__("Bitcoin node", where, problem, hint)


class NodeRefusedError(UnreachableError):
    """The node answers, but not to us: wrong user or password."""

    def __init__(self, where: str) -> None:
        hint = "give its rpcuser and rpcpassword in the URL, or the path of its .cookie file"
        super().__init__("Bitcoin node", where, "credentials refused", hint)


class NodeAnswerError(RetryableError):
    """The node answers with an error that is not about our transaction."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: the node answers {code}: {message}")
        self.method, self.code, self.message = method, code, message


class NodeLiesError(RetryableError):
    """The node's bytes are not those of the hash that it was asked about. Nothing of the answer is used."""

    def __init__(self, kind: str, name: str, problem: str) -> None:
        super().__init__(f"the node's {kind} {name} is another: {problem}; ask a node that you run yourself")
        self.kind, self.name, self.problem = kind, name, problem


class TxRejectedError(BtcfiError):
    """The node refuses a transaction: by its rules it is wrong, or it is too early or too cheap."""

    def __init__(self, *, txid: Txid, code: int, reason: str) -> None:
        super().__init__(f"transaction {display_txid(txid)} rejected: {reason} (code {code})")
        self.txid, self.code, self.reason = txid, code, reason


class InputsSpentError(TxRejectedError):
    """An input does not exist or is spent: by this transaction's rival, or its parent is not there yet."""


class NotFinalError(TxRejectedError):
    """The transaction's lock time is not reached."""


class FeeTooLowError(TxRejectedError):
    """The transaction pays too little to be relayed, or to replace what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainInfo:
    """Where the node's chain stands."""

    chain: str
    """main, test, signet or regtest."""
    height: Height
    best_hash: Hash32
    """Internal order, like every hash here."""
    median_time: UnixSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockHeader:
    """A block's header, with its place in the active chain."""

    hash: Hash32
    previous: Hash32
    """32 zero bytes for the genesis block."""
    height: Height
    time: UnixSeconds
    confirmations: int
    """-1 when it is not in the active chain."""
    raw: bytes
    """The 80 bytes that the hash commits to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block with its transactions."""

    header: BlockHeader
    transactions: tuple[Transaction, ...]

    @property
    def previous(self) -> Hash32:
        """The hash of the block that it builds on."""
        return self.header.previous


@dataclass(frozen=True, slots=True, kw_only=True)
class UnspentOutput:
    """An output that nothing spends yet."""

    output: TxOut
    confirmations: int
    """0 while its transaction waits in the pool."""
    coinbase: bool

    @property
    def is_spendable(self) -> bool:
        """Whether a block holds it and the next one may spend it: a coinbase has to be COINBASE_MATURITY deep."""
        return self.confirmations >= (COINBASE_MATURITY if self.coinbase else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTransaction:
    """A transaction that the node knows."""

    transaction: Transaction
    confirmations: int
    block_hash: Hash32 | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """What a waiting transaction pays, alone and with its relatives that wait too."""

    fee: Sats
    vsize: int
    ancestors_fee: Sats
    """Of it and of all that it builds on: what a miner looks at."""
    ancestors_vsize: int
    descendants_fee: Sats
    """Of it and of all that builds on it: what a replacement must outbid."""
    descendants_vsize: int
    descendants_count: int
    """At most 25 of them, itself counted: more are refused (bitcoind's -limitdescendantcount)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSize:
    """How much waits in the memory pool."""

    transactions: int
    vsize: int
    relay_fee: SatsPerKvb
    """Below it the node takes none: its setting, or more when the pool is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Whether the node would take a transaction."""

    txid: Txid
    allowed: bool
    reason: str
    """Empty when allowed."""


class _RpcError(Exception):
    """An error object in an answer."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(message)
        self.method, self.code, self.message = method, code, message


class Node:
    """A connection to a node; safe to share between threads, reconnects by itself, nothing is sent before a call.

    url: ``http://user:password@host:port``, or ``http://host:port`` with ``cookie_file`` (read at each connection,
    since a node writes a new one at each start). timeout: seconds for one answer.
    """

    def __init__(self, url: str, timeout: float, *, cookie_file: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.port is None:
            raise InvalidInputError("node URL", "not complete", "http://user:password@host:port")
        self._host, self._port, self._timeout = parts.hostname, parts.port, timeout
        self._path = parts.path or "/"
        self.where = f"http://{self._host}:{self._port}"
        """The URL without its password: fit for messages and logs."""
        self._userinfo = (
            f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username is not None else None
        )
        self._cookie_file = cookie_file
        self._connection: HTTPConnection | None = None
        self._headers: dict[str, str] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Node({self.where})"

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            self._drop()

    # ---- transport

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> HTTPConnection:
        if self._connection is None:
            credentials = self._userinfo
            if self._cookie_file is not None:
                try:
                    credentials = self._cookie_file.read_text().strip()
                except OSError as e:
                    raise NodeUnreachableError(self.where, f"no cookie file {self._cookie_file.name}") from e
            token = base64.b64encode((credentials or ":").encode()).decode()
            self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
            self._connection = HTTPConnection(self._host, self._port, timeout=self._timeout)
        return self._connection

    def _post(self, body: bytes) -> Any:  # noqa: ANN401 - JSON
        with self._lock:
            fresh = self._connection is None
            try:
                return self._exchange(body)
            except (ConnectionError, HTTPException) as e:
                self._drop()
                if fresh:
                    raise NodeUnreachableError(self.where, _problem(e)) from e
                # an idle connection that the node closed meanwhile. Every call is safe to repeat: broadcasting twice
                # is "already known", which counts as success
                try:
                    return self._exchange(body)
                except (OSError, HTTPException) as again:
                    self._drop()
                    raise NodeUnreachableError(self.where, _problem(again)) from again
            except OSError as e:
                self._drop()
                raise NodeUnreachableError(self.where, _problem(e)) from e

    def _exchange(self, body: bytes) -> Any:  # noqa: ANN401 - JSON
        connection = self._connect()
        connection.request("POST", self._path, body, self._headers)
        response = connection.getresponse()
        raw = response.read()
        if response.status in (401, 403):
            self._drop()
            raise NodeRefusedError(self.where)
        try:
            return json.loads(raw, parse_float=Decimal)
        except ValueError as e:
            self._drop()
            raise NodeUnreachableError(self.where, f"HTTP {response.status} without JSON") from e

    def _call(self, method: str, *params: object) -> Any:  # noqa: ANN401 - JSON
        request = {"jsonrpc": "1.0", "id": 0, "method": method, "params": params}
        return self._result(method, self._post(json.dumps(request).encode()))

    def _batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> Iterator[tuple[str, Any]]:
        """Yield (method, answer) in the order of the calls."""
        for start in range(0, len(calls), MAX_BATCH):
            part = calls[start : start + MAX_BATCH]
            requests = [
                {"jsonrpc": "1.0", "id": number, "method": method, "params": list(params)}
                for number, (method, params) in enumerate(part)
            ]
            answers = self._post(json.dumps(requests).encode())
            if not isinstance(answers, list) or len(answers) != len(part):
                raise NodeUnreachableError(self.where, "a batch was not answered as one")
            by_number = {answer["id"]: answer for answer in answers}
            for number, (method, _) in enumerate(part):
                yield method, by_number[number]

    def _result(self, method: str, answer: Any) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(answer, dict) or "result" not in answer:
            raise NodeUnreachableError(self.where, f"{method}: not a JSON-RPC answer")
        error = answer.get("error")
        if error:
            if error["code"] == _WARMING_UP:
                raise NodeUnreachableError(self.where, f"starting: {error['message']}")
            raise _RpcError(method, error["code"], error["message"])
        return answer["result"]

    @contextmanager
    def _translated(self, kind: str = "", name: str = "") -> Iterator[None]:
        try:
            yield
        except _RpcError as e:
            if kind and e.code in (_NOT_FOUND, _BAD_PARAMETER):
                raise NotFoundError(kind, name, e.message) from e
            raise NodeAnswerError(e.method, e.code, e.message) from e

    def call(self, method: str, *params: object) -> Any:  # noqa: ANN401 - JSON
        """Call any method; numbers with a point come back as Decimal. Raises NodeAnswerError, NodeUnreachableError."""
        with self._translated():
            return self._call(method, *params)

    # ---- chain

    def chain_info(self) -> ChainInfo:
        """Return where the chain stands. Raises NodeUnreachableError."""
        info = self.call("getblockchaininfo")
        return ChainInfo(
            chain=info["chain"],
            height=height(info["blocks"]),
            best_hash=_hash(info["bestblockhash"]),
            median_time=UnixSeconds(info["mediantime"]),
        )

    def block_count(self) -> Height:
        """Return the height of the tip."""
        return height(self.call("getblockcount"))

    def best_block_hash(self) -> Hash32:
        """Return the hash of the tip."""
        return _hash(self.call("getbestblockhash"))

    def block_hash(self, at: Height) -> Hash32:
        """Return the hash of the active chain's block at a height. Raises NotFoundError above the tip."""
        with self._translated("block at height", str(at)):
            return _hash(self._call("getblockhash", at))

    def block_header(self, name: Hash32) -> BlockHeader:
        """Return a header by hash. Raises NotFoundError."""
        with self._translated("block", _hex(name)):
            described = self._call("getblockheader", _hex(name), True)
            raw = bytes.fromhex(self._call("getblockheader", _hex(name), False))
        return _header(described, raw)

    def block(self, name: Hash32) -> Block:
        """Return a block with its transactions. Raises NotFoundError."""
        return self.blocks([name])[0]

    def blocks(self, names: Sequence[Hash32]) -> list[Block]:
        """Return blocks by hash in one round trip, their bytes checked against the hashes.

        Raises NotFoundError for the first that is missing, NodeLiesError.
        """
        calls: list[tuple[str, Sequence[object]]] = []
        for name in names:
            calls += [("getblockheader", (_hex(name), True)), ("getblock", (_hex(name), 0))]
        answers = list(self._batch(calls))
        found = []
        for number, name in enumerate(names):
            with self._translated("block", _hex(name)):
                described, raw_hex = (self._result(*answers[2 * number + i]) for i in (0, 1))
            raw = bytes.fromhex(raw_hex)
            block = Block(header=_header(described, raw[:80]), transactions=_block_transactions(raw))
            _check_block(block, name)
            found.append(block)
        return found

    # ---- transactions

    def unspent(self, outpoint: OutPoint, *, include_pool: bool = True) -> UnspentOutput | None:
        """Return an output that is still unspent, or None."""
        return self.unspent_many([outpoint], include_pool=include_pool)[0]

    def unspent_many(self, outpoints: Sequence[OutPoint], *, include_pool: bool = True) -> list[UnspentOutput | None]:
        """Return for each outpoint its unspent output or None, in one round trip."""
        calls = [("gettxout", (display_txid(o.txid), o.index, include_pool)) for o in outpoints]
        found: list[UnspentOutput | None] = []
        for method, answer in self._batch(calls):
            with self._translated():
                out = self._result(method, answer)
            found.append(
                None
                if out is None
                else UnspentOutput(
                    output=TxOut(value=_sats(out["value"]), script=bytes.fromhex(out["scriptPubKey"]["hex"])),
                    confirmations=out["confirmations"],
                    coinbase=out["coinbase"],
                )
            )
        return found

    def transaction(self, txid: Txid) -> SeenTransaction:
        """Return a transaction that waits or is confirmed (a real node needs txindex).

        Raises NotFoundError, NodeLiesError.
        """
        with self._translated("transaction", display_txid(txid)):
            found = self._call("getrawtransaction", display_txid(txid), 1)
        transaction = parse_transaction(bytes.fromhex(found["hex"]))
        if transaction.txid != txid:
            raise NodeLiesError("transaction", display_txid(txid), f"it hashes to {display_txid(transaction.txid)}")
        return SeenTransaction(
            transaction=transaction,
            confirmations=max(found.get("confirmations", 0), 0),
            block_hash=_hash(found["blockhash"]) if "blockhash" in found else None,
        )

    def pool(self) -> list[Txid]:
        """Return the txids that wait in the memory pool."""
        return [parse_txid(text) for text in self.call("getrawmempool")]

    def pool_entry(self, txid: Txid) -> PoolEntry:
        """Return what a waiting transaction pays. Raises NotFoundError when it does not wait."""
        with self._translated("waiting transaction", display_txid(txid)):
            found = self._call("getmempoolentry", display_txid(txid))
        return _pool_entry(found)

    def pool_entries_of(self, txids: Sequence[Txid]) -> list[PoolEntry | None]:
        """Return what each of some transactions pays, None where it does not wait, in one round trip."""
        found: list[PoolEntry | None] = []
        for method, answer in self._batch([("getmempoolentry", (display_txid(txid),)) for txid in txids]):
            try:
                with self._translated("waiting transaction", method):
                    found.append(_pool_entry(self._result(method, answer)))
            except NotFoundError:
                found.append(None)
        return found

    def pool_entries(self) -> list[PoolEntry]:
        """Return everything that waits: some 600 bytes of an answer each, so ask ``pool_size`` first."""
        return [_pool_entry(found) for found in self.call("getrawmempool", True).values()]

    def pool_size(self) -> PoolSize:
        """Return how much waits, and below which rate nothing is taken."""
        found = self.call("getmempoolinfo")
        return PoolSize(
            transactions=found["size"], vsize=found["bytes"], relay_fee=SatsPerKvb(_sats(found["mempoolminfee"]))
        )  # fmt: skip

    def pool_spenders(self, outpoints: Sequence[OutPoint]) -> list[Txid | None]:
        """Return for each outpoint the waiting transaction that spends it, or None, in one round trip."""
        if not outpoints:
            return []
        asked = [{"txid": display_txid(outpoint.txid), "vout": outpoint.index} for outpoint in outpoints]
        found = self.call("gettxspendingprevout", asked)
        return [parse_txid(one["spendingtxid"]) if "spendingtxid" in one else None for one in found]

    def relay_fee(self) -> SatsPerKvb:
        """Return the fee rate below which this node takes no transaction now: its setting, or more when it is full."""
        return SatsPerKvb(_sats(self.call("getmempoolinfo")["mempoolminfee"]))

    def send(self, transaction: Transaction, *, may_burn: Sats = NOTHING) -> Txid:
        """Broadcast a transaction; one that waits or is confirmed already is success. Raises TxRejectedError.

        may_burn: what one of its outputs may destroy, nothing unless it is said: a node refuses every other burn.
        """
        return self.send_many([transaction], may_burn=may_burn)[0]

    def send_many(self, transactions: Sequence[Transaction], *, may_burn: Sats = NOTHING) -> list[Txid]:
        """Broadcast transactions in one round trip, parents first; the first refusal raises after all were sent.

        may_burn: as for ``send``, of each. Raises TxRejectedError or its kind (InputsSpentError, NotFinalError,
        FeeTooLowError); NodeUnreachableError.
        """
        outcome = self.try_send_many(transactions, may_burn=may_burn)
        for one in outcome:
            if isinstance(one, TxRejectedError):
                raise one
        return [transaction.txid for transaction in transactions]

    def try_send_many(
        self, transactions: Sequence[Transaction], *, may_burn: Sats = NOTHING
    ) -> list[Txid | TxRejectedError]:
        """Broadcast transactions in one round trip and return, for each, its txid or why it was refused.

        may_burn: as for ``send``, of each.
        """
        burn = _burn_limit(may_burn)
        calls = [("sendrawtransaction", (transaction.to_bytes().hex(), *burn)) for transaction in transactions]
        outcome: list[Txid | TxRejectedError] = []
        for transaction, (method, answer) in zip(transactions, list(self._batch(calls)), strict=True):
            try:
                self._result(method, answer)
                outcome.append(transaction.txid)
            except _RpcError as e:
                outcome.append(self._judge(transaction.txid, e))
        return outcome

    def _judge(self, txid: Txid, fault: _RpcError) -> Txid | TxRejectedError:
        if fault.code == _ALREADY_IN_CHAIN or any(words in fault.message for words in _KNOWN):
            return txid
        if fault.code not in (_VERIFY_ERROR, _VERIFY_REJECTED):
            raise NodeAnswerError(fault.method, fault.code, fault.message) from fault
        if any(words in fault.message for words in _MISSING) and self._knows(txid):
            # confirmed, and all its outputs are spent: the node has forgotten that it knew it
            return txid
        return rejection(txid, fault.code, fault.message)

    def _knows(self, txid: Txid) -> bool:
        try:
            self.transaction(txid)
        except (NotFoundError, NodeAnswerError):
            return False
        return True

    def test_accept(self, transactions: Sequence[Transaction]) -> list[Acceptance]:
        """Ask whether the node would take these transactions, and send nothing."""
        answers = self.call("testmempoolaccept", [transaction.to_bytes().hex() for transaction in transactions])
        return [
            Acceptance(
                txid=parse_txid(answer["txid"]),
                allowed=bool(answer.get("allowed", False)),
                reason=answer.get("reject-reason", answer.get("package-error", "")),
            )
            for answer in answers
        ]

    def send_package(self, transactions: Sequence[Transaction], *, may_burn: Sats = NOTHING) -> list[Txid]:
        """Broadcast parents and the child that pays for them. Raises TxRejectedError for the one that is the reason.

        may_burn: as for ``send``, of each.
        """
        if (problem := self.try_send_packages([transactions], may_burn=may_burn)[0]) is not None:
            raise problem
        return [transaction.txid for transaction in transactions]

    def _package_problem(self, transactions: Sequence[Transaction], answer: Any) -> TxRejectedError | None:  # noqa: ANN401 - JSON
        results = {result["txid"]: result for result in answer["tx-results"].values()}
        whole = answer["package_msg"]
        problems: list[tuple[Transaction, str]] = []
        for transaction in transactions:
            problem = results.get(display_txid(transaction.txid), {"error": whole}).get("error")
            if problem and not any(words in problem for words in _KNOWN) and not self._knows(transaction.txid):
                problems.append((transaction, problem))
        if not problems:
            return None
        if whole not in _EACH_BY_ITSELF:  # a rule about all of them: what each is alone says less
            return rejection(problems[-1][0].txid, _VERIFY_REJECTED, whole)
        # a parent that waits for its child's fee, or a child for its parent, is not the reason: the other one is
        own = [one for one in problems if not any(words in one[1] for words in _MISSING)]
        transaction, problem = (own or problems)[-1]
        return rejection(transaction.txid, _VERIFY_REJECTED, problem)

    def try_send_packages(
        self, packages: Sequence[Sequence[Transaction]], *, may_burn: Sats = NOTHING
    ) -> list[TxRejectedError | None]:
        """Broadcast packages of parents and their child in one round trip; return, for each, why it was refused.

        may_burn: as for ``send``, of each transaction.
        """
        burn = _burn_limit(may_burn)
        calls = [("submitpackage", ([one.to_bytes().hex() for one in package], *burn)) for package in packages]
        outcome: list[TxRejectedError | None] = []
        for package, (method, answer) in zip(packages, list(self._batch(calls)), strict=True):
            try:
                outcome.append(self._package_problem(package, self._result(method, answer)))
            except _RpcError as e:
                judged = self._judge(package[0].txid, e)
                outcome.append(judged if isinstance(judged, TxRejectedError) else None)
        return outcome

    def fee_estimate(self, target_blocks: int) -> SatsPerKvb | None:
        """Return the node's fee rate estimate for a confirmation target, or None when it has no data."""
        rate = self.call("estimatesmartfee", target_blocks).get("feerate")
        return None if rate is None else SatsPerKvb(_sats(rate))

    # ---- regtest

    def generate(self, blocks: int, address: str) -> list[Hash32]:
        """Mine blocks to an address (regtest only)."""
        return [_hash(name) for name in self.call("generatetoaddress", blocks, address)]

    def generate_block(self, address: str, transactions: Sequence[Transaction]) -> Hash32:
        """Mine one block of exactly these transactions (regtest only). Raises NodeAnswerError when it is invalid."""
        raw = [transaction.to_bytes().hex() for transaction in transactions]
        return _hash(self.call("generateblock", address, raw)["hash"])

    def invalidate(self, name: Hash32) -> None:
        """Treat a block and its descendants as invalid: a reorganisation on purpose (regtest only)."""
        self.call("invalidateblock", _hex(name))

    def reconsider(self, name: Hash32) -> None:
        """Undo ``invalidate``."""
        self.call("reconsiderblock", _hex(name))

    def stop(self) -> None:
        """Ask the node to stop."""
        self.call("stop")


def rejection(txid: Txid, code: int, reason: str) -> TxRejectedError:
    """Return the kind of TxRejectedError that a node's reason stands for."""
    kind = TxRejectedError
    if any(words in reason for words in _MISSING):
        kind = InputsSpentError
    elif "non-final" in reason or "non-BIP68-final" in reason:
        kind = NotFinalError
    elif (
        "fee not met" in reason or "insufficient fee" in reason or ("package RBF failed" in reason and "fee" in reason)
    ):
        kind = FeeTooLowError
    return kind(txid=txid, code=code, reason=reason)


def _burn_limit(may_burn: Sats) -> tuple[str, ...]:
    # the parameter before it has to be said, too: its default stays, a rate above which nothing is sent
    return (_coins(MAX_FEE_RATE), _coins(may_burn)) if may_burn else ()


def _coins(amount: int) -> str:
    return f"{amount // _COIN}.{amount % _COIN:08d}"


def _problem(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _hex(name: Hash32) -> str:
    return name[::-1].hex()


def _hash(text: str) -> Hash32:
    return hash32(bytes.fromhex(text)[::-1])


def _pool_entry(found: Any) -> PoolEntry:  # noqa: ANN401 - JSON
    fees = found["fees"]
    return PoolEntry(
        fee=_sats(fees["base"]),
        vsize=found["vsize"],
        ancestors_fee=_sats(fees["ancestor"]),
        ancestors_vsize=found["ancestorsize"],
        descendants_fee=_sats(fees["descendant"]),
        descendants_vsize=found["descendantsize"],
        descendants_count=found["descendantcount"],
    )


def _sats(amount: Decimal | int) -> Sats:
    scaled = Decimal(amount).scaleb(_COIN_DECIMALS)
    if scaled != scaled.to_integral_value():
        raise InvalidInputError("amount from the node", str(amount), "at most 8 decimals")
    return sats(int(scaled))


def _header(described: dict[str, Any], raw: bytes) -> BlockHeader:
    return BlockHeader(
        hash=_hash(described["hash"]),
        previous=Hash32(raw[4:36]),
        height=height(described["height"]),
        time=UnixSeconds(described["time"]),
        confirmations=described["confirmations"],
        raw=raw,
    )


def _block_transactions(raw: bytes) -> tuple[Transaction, ...]:
    return tuple(from_bitcoinlib(transaction) for transaction in CBlock.deserialize(raw).vtx)


def _check_block(block: Block, name: Hash32) -> None:
    found = hash256(block.header.raw)
    if found != name or block.header.hash != name:
        raise NodeLiesError("block", _hex(name), f"its header hashes to {_hex(found)}")
    txids = [one.txid for one in block.transactions]
    # a list whose end is repeated has the same Merkle root (CVE-2012-2459)
    doubled = len(set(txids)) != len(txids)
    if doubled or not txids or merkle_root(txids) != block.header.raw[36:68]:
        raise NodeLiesError("block", _hex(name), "its transactions do not give its Merkle root")
