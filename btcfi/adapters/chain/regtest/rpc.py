"""bitcoind's JSON-RPC methods over the embedded node's chain: the same names, parameters, shapes and error codes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from bitcoin.core import CBlock
from bitcoin.core.serialize import SerializationError

from btcfi.adapters.chain.regtest.chain import HEADER, BlockRefusedError, Chain
from btcfi.adapters.chain.regtest.policy import PoolEntry, RejectedError, burns, script_type
from btcfi.bitcoin.address import decode_address, encode_address
from btcfi.bitcoin.fees import INCREMENTAL_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.transaction import (
    OutPoint,
    Transaction,
    from_bitcoinlib,
    parse_transaction,
)
from btcfi.errors import InvalidInputError
from btcfi.hashes import hash256
from btcfi.units import MAX_MONEY_SATS, Hash32, Txid, display_txid, parse_txid

log = logging.getLogger(__name__)

RPC_MISC_ERROR: Final = -1
RPC_INVALID_ADDRESS_OR_KEY: Final = -5
RPC_INVALID_PARAMETER: Final = -8
RPC_DESERIALIZATION_ERROR: Final = -22
RPC_VERIFY_ERROR: Final = -25
RPC_TYPE_ERROR: Final = -3
RPC_METHOD_NOT_FOUND: Final = -32601
RPC_INVALID_REQUEST: Final = -32600
RPC_PARSE_ERROR: Final = -32700
RPC_INTERNAL_ERROR: Final = -32603
"""Error codes of bitcoind. Source: Bitcoin Core, src/rpc/protocol.h."""


_MAX_PACKAGE: Final = 25
"""Transactions in submitpackage; bitcoind's bound."""


class RpcError(Exception):
    """An answer that is an error: bitcoind's code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _Amount(str):
    """An amount in BTC that goes out as a JSON number with 8 decimals, without ever being a float."""

    __slots__ = ()


_AMOUNT_MARK: Final = "\u20bf"
_AMOUNT_PATTERN: Final = re.compile(rb'"\\u20bf(-?[0-9]+\.[0-9]{8})"')


def _btc(value: int) -> _Amount:
    sign, whole = ("-", -value) if value < 0 else ("", value)
    return _Amount(f"{_AMOUNT_MARK}{sign}{whole // 100_000_000}.{whole % 100_000_000:08d}")


def encode(answer: object) -> bytes:
    """Return an answer as JSON, amounts as numbers."""
    return _AMOUNT_PATTERN.sub(rb"\1", json.dumps(answer, separators=(",", ":")).encode())


def _amount_of(value: object) -> int:
    try:
        amount = Decimal(str(value)).scaleb(8)
    except InvalidOperation as e:
        raise RpcError(RPC_TYPE_ERROR, "Amount is not a number or string") from e
    if not amount.is_finite() or amount != amount.to_integral_value() or not 0 <= amount <= MAX_MONEY_SATS:
        raise RpcError(RPC_TYPE_ERROR, "Invalid amount")
    return int(amount)


def _rate_of(value: object) -> SatsPerKvb:
    rate = _amount_of(value)
    if rate >= 100_000_000:  # noqa: PLR2004 - 1 BTC/kvB, bitcoind's bound
        raise RpcError(RPC_INVALID_PARAMETER, "Fee rates larger than or equal to 1BTC/kvB are not accepted")
    return SatsPerKvb(rate)


def _check_burn(transactions: list[Transaction], limit: object) -> None:
    most = _amount_of(limit)
    if any(burns(output) and output.value > most for one in transactions for output in one.outputs):
        raise RpcError(RPC_VERIFY_ERROR, "Unspendable output exceeds maximum configured by user (maxburnamount)")


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
            "relayfee": _btc(self._chain.policy.relay_fee),
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
        return self._header(name, raw) if verbose else raw[: HEADER.size].hex()

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
        """Mine blocks of the pool, by fee rate, to an address."""
        script = self._address(address)
        return [_hex(self._mine(script)) for _ in range(nblocks)]

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
        return {"hash": _hex(self._mine(self._address(output), chosen))}

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

    def gettxspendingprevout(self, outputs: list[dict[str, object]]) -> list[dict[str, object]]:
        """Return for each output the waiting transaction that spends it."""
        if not outputs:
            raise RpcError(RPC_INVALID_PARAMETER, "Invalid parameter, outputs are missing")
        answers: list[dict[str, object]] = []
        for asked in outputs:
            for name in ("txid", "vout"):
                if name not in asked:
                    raise RpcError(RPC_TYPE_ERROR, f"Missing {name}")
            txid, vout = Txid(_hash_param(asked["txid"], "txid")), asked["vout"]
            if not isinstance(vout, int) or vout < 0:
                raise RpcError(RPC_INVALID_PARAMETER, "Invalid parameter, vout cannot be negative")
            spender = self._chain.spenders.get(OutPoint(txid=txid, index=vout))
            answer: dict[str, object] = {"txid": display_txid(txid), "vout": vout}
            answers.append(answer if spender is None else answer | {"spendingtxid": display_txid(spender)})
        return answers

    def getmempoolinfo(self) -> dict[str, object]:
        """Describe the pool."""
        pool = self._chain.pool.values()
        return {
            "loaded": True,
            "size": len(pool),
            "bytes": sum(entry.vsize for entry in pool),
            "total_fee": _btc(sum(entry.fee for entry in pool)),
            "mempoolminfee": _btc(self._chain.policy.relay_fee),
            "minrelaytxfee": _btc(self._chain.policy.relay_fee),
            "incrementalrelayfee": _btc(INCREMENTAL_FEE_RATE),
            "fullrbf": True,
            "truc_policy": str(self._chain.policy.truc),  # Knots' word; Core, which has one policy, says nothing
        }

    def sendrawtransaction(self, hexstring: str, maxfeerate: object = "0.10", maxburnamount: object = 0) -> str:
        """Take a transaction into the pool and return its txid; one that is there already is no error."""
        transaction = _transaction_param(hexstring)
        _check_burn([transaction], maxburnamount)
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

    def submitpackage(
        self, package: list[str], maxfeerate: object = "0.10", maxburnamount: object = 0
    ) -> dict[str, object]:
        """Take parents and their child together: the child's fee counts for all of them."""
        if not 1 <= len(package) <= _MAX_PACKAGE:
            raise RpcError(RPC_INVALID_PARAMETER, f"Array must contain between 1 and {_MAX_PACKAGE} transactions.")
        limit = _rate_of(maxfeerate)
        transactions = [_transaction_param(text) for text in package]
        _check_burn(transactions, maxburnamount)
        *parents, child = transactions
        names = {tx.txid for tx in parents}
        related = any(txin.outpoint.txid in names for tx in parents for txin in tx.inputs)
        if related or not names <= {txin.outpoint.txid for txin in child.inputs}:
            message = "package topology disallowed. not child-with-parents or parents depend on each other."
            raise RpcError(RPC_VERIFY_ERROR, message)
        before = set(self._chain.pool)
        outcome, message = self._chain.admit_package(transactions, limit)
        results: dict[str, dict[str, object]] = {}
        for transaction in transactions if outcome else []:
            one = outcome[transaction.txid]
            result: dict[str, object] = {"txid": display_txid(transaction.txid)}
            if isinstance(one, PoolEntry):
                result |= {"vsize": one.vsize, "fees": {"base": _btc(one.fee)}}
            else:
                result["error"] = one
            results[_wtxid(transaction)] = result
        replaced = [display_txid(txid) for txid in before - self._chain.pool.keys()]
        return {"package_msg": message, "tx-results": results, "replaced-transactions": replaced}

    def stop(self) -> str:
        """Stop the node after this answer."""
        self._stop()
        return "btcfi regtest node stopping"

    # ---- shapes

    def _mine(self, script: bytes, transactions: list[Transaction] | None = None) -> bytes:
        try:
            return self._chain.mine(script, transactions)
        except BlockRefusedError as e:
            raise RpcError(RPC_VERIFY_ERROR, f"TestBlockValidity failed: {e}") from e

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
        version, previous, root, when, bits, nonce = HEADER.unpack_from(raw)
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
        ancestors, descendants = self._chain.relatives(entry)
        return {
            "vsize": entry.vsize,
            "weight": entry.transaction.weight,
            "time": entry.time,
            "height": entry.height,
            "descendantcount": len(descendants),
            "descendantsize": sum(one.vsize for one in descendants),
            "ancestorcount": len(ancestors),
            "ancestorsize": sum(one.vsize for one in ancestors),
            "wtxid": _wtxid(entry.transaction),
            "fees": {
                "base": _btc(entry.fee),
                "modified": _btc(entry.fee),
                "ancestor": _btc(sum(one.fee for one in ancestors)),
                "descendant": _btc(sum(one.fee for one in descendants)),
            },
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
    described: dict[str, object] = {"hex": script.hex(), "type": script_type(script)}
    with suppress(InvalidInputError):  # a script without an address
        described["address"] = encode_address(script)
    return described
