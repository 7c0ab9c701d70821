"""One party's folder: its keystore, its coins, and each contract's messages and chain state. Files of mode 0600."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import UntrustedFileError, read_untrusted, read_untrusted_json, write_private
from btcfi.bitcoin.keys import TaprootKey
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxOut, parse_transaction
from btcfi.bitcoin.wallet import COINBASE_MATURITY, Coin
from btcfi.contracts.buckets import Bucket
from btcfi.contracts.messages import (
    Accept,
    CloseRequest,
    Offer,
    Role,
    Sign,
    decode_accept,
    decode_close_request,
    decode_offer,
    decode_sign,
    encode_accept,
    encode_close_request,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.watch import Creation, Spend, WatchState
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.units import Hash32, Height, Txid, display_txid, hash32, height, parse_txid, sats

WALLET_KEYS: Final = 20
"""Keys of the party's wallet that are looked for in blocks: BIP44's gap limit."""

MAX_FILE_BYTES: Final = 1 << 28
"""Of one contract or of the coins: four times the largest message, since a contract's file keeps three of them."""

_MAX_COUNTER_BYTES: Final = 16

SCAN_BATCH: Final = 100
"""Blocks that are read in one round trip."""


@dataclass(kw_only=True)
class PartyContract:
    """One contract as this party has it on disk; fields are None until their step."""

    number: int
    """Which of the keystore's contract keys it uses."""
    role: Role
    offer: Offer
    accept: Accept | None = None
    sign: Sign | None = None
    funding: Transaction | None = None
    settlement: Transaction | None = None
    """The CET or refund that this party broadcasts."""
    child: Transaction | None = None
    watch: WatchState | None = None
    closing: CloseRequest | None = None
    """A close that this party asked for."""
    closes: tuple[Txid, ...] = ()
    """Closes that this party has signed."""
    order: str = ""
    """Which order of the owner's this offer answers: an order that is read twice is offered once."""
    buckets: Sequence[Bucket] | None = None
    """The payout buckets as this party computed them: thousands of runs of the guest, kept."""


@dataclass(kw_only=True)
class PartyCoins:
    """What the party's wallet owns, as far as blocks were read."""

    scanned: tuple[Height, Hash32] | None = None
    coins: dict[OutPoint, tuple[Coin, Height, bool]] = field(default_factory=dict)
    """Coin, height, whether it is a coinbase."""
    reserved: set[OutPoint] = field(default_factory=set)
    """Named in a message or a transaction of ours: never offered twice."""


class PartyStore:
    """Reads and writes one party's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keystore_path = folder / "keystore.json"
        self.nonces = folder / "nonces"
        self._contracts = folder / "contracts"
        self._coins = folder / "coins.json"
        self._counter = folder / "next-contract-key"
        self._loaded: dict[str, PartyContract] = {}
        """As last read or written; one process owns a folder."""

    # ---- contracts

    def names(self) -> list[str]:
        """Return the names of the contracts, which are their offers' ids."""
        return sorted(path.stem for path in self._contracts.glob("*.json"))

    def take_number(self) -> int:
        """Return the next contract key's number and count on, durably: a number is never given twice, crash or not."""
        number = self._next_number()
        write_private(self._counter, str(number + 1).encode())
        return number

    def _next_number(self) -> int:
        if not self._counter.exists():
            return 0
        what = "number of the next contract key"
        raw = read_untrusted(self._counter, at_most=_MAX_COUNTER_BYTES, what=what)
        if not raw.isdigit():
            raise UntrustedFileError(self._counter, repr(raw), f"the {what}, in digits")
        return int(raw)

    def load(self, name: str) -> PartyContract:
        """Return a contract, a copy that changes nothing until it is saved. Raises NotFoundError."""
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
        return replace(self._loaded[name])

    def keep_in_mind(self, contract: PartyContract) -> None:
        """Remember what a restart may find out again from the chain, without writing it down."""
        self._loaded[contract.offer.id.hex()] = replace(contract)

    def _read(self, name: str) -> PartyContract:
        path = self._contracts / f"{name}.json"
        try:
            stored = read_untrusted_json(path, at_most=MAX_FILE_BYTES, what="contract")
        except NotFoundError as e:
            raise NotFoundError("contract", name, "`btcfi party status` lists them") from e
        return PartyContract(
            number=stored["number"],
            role=Role(stored["role"]),
            offer=decode_offer(stored["offer"]),
            accept=_if(stored["accept"], decode_accept),
            sign=_if(stored["sign"], decode_sign),
            funding=_if(stored["funding"], _transaction),
            settlement=_if(stored["settlement"], _transaction),
            child=_if(stored["child"], _transaction),
            watch=_if(stored["watch"], _decode_watch),
            closing=_if(stored["closing"], decode_close_request),
            closes=tuple(parse_txid(text) for text in stored["closes"]),
            order=stored["order"],
            buckets=_if(stored.get("buckets"), _buckets),
        )

    def save(self, contract: PartyContract) -> str:
        """Write a contract and return its name."""
        name = contract.offer.id.hex()
        stored = {
            "number": contract.number,
            "role": contract.role.value,
            "offer": encode_offer(contract.offer),
            "accept": _if(contract.accept, encode_accept),
            "sign": _if(contract.sign, encode_sign),
            "funding": _if(contract.funding, _hex),
            "settlement": _if(contract.settlement, _hex),
            "child": _if(contract.child, _hex),
            "watch": _if(contract.watch, _encode_watch),
            "closing": _if(contract.closing, encode_close_request),
            "closes": [display_txid(txid) for txid in contract.closes],
            "order": contract.order,
            "buckets": _if(contract.buckets, lambda many: [[b.prefix, b.length, b.payout] for b in many]),
        }
        write_private(self._contracts / f"{name}.json", json.dumps(stored).encode())
        self._loaded[name] = replace(contract)
        return name

    # ---- coins

    def coins(self) -> PartyCoins:
        """Return the coins as they were last saved."""
        if not self._coins.exists():
            return PartyCoins()
        stored = read_untrusted_json(self._coins, at_most=MAX_FILE_BYTES, what="list of coins")
        coins = {}
        for row in stored["coins"]:
            outpoint = _outpoint(row["outpoint"])
            output = TxOut(value=sats(row["value_sats"]), script=bytes.fromhex(row["script"]))
            coin = Coin(outpoint=outpoint, output=output, key_index=row["key"])
            coins[outpoint] = (coin, height(row["height"]), bool(row["coinbase"]))
        at = stored["scanned"]
        return PartyCoins(
            scanned=None if at is None else (height(at[0]), hash32(bytes.fromhex(at[1]))),
            coins=coins,
            reserved={_outpoint(text) for text in stored["reserved"]},
        )

    def save_coins(self, coins: PartyCoins) -> None:
        """Write the coins."""
        stored = {
            "scanned": None if coins.scanned is None else [coins.scanned[0], coins.scanned[1].hex()],
            "coins": [
                {
                    "outpoint": str(outpoint),
                    "value_sats": coin.value,
                    "script": coin.output.script.hex(),
                    "key": coin.key_index,
                    "height": at,
                    "coinbase": coinbase,
                }
                for outpoint, (coin, at, coinbase) in coins.coins.items()
            ],
            "reserved": sorted(str(outpoint) for outpoint in coins.reserved),
        }
        write_private(self._coins, json.dumps(stored).encode())


def scan_coins(coins: PartyCoins, node: Node, keys: Sequence[TaprootKey]) -> PartyCoins:
    """Return the coins after reading every block since the last scan; after a reorganisation, from the start.

    For regtest and short chains; on a long one let an outside wallet bring the coins (PSBT).
    """
    scripts = {key.script: index for index, key in enumerate(keys)}
    top = node.block_count()
    known = coins.scanned
    if known is not None and (known[0] > top or node.block_hash(known[0]) != known[1]):
        known = None
    found = dict(coins.coins) if known is not None else {}
    position = known[0] if known is not None else Height(0)
    while position < top:
        heights = [Height(h) for h in range(position + 1, min(position + SCAN_BATCH, top) + 1)]
        for block in node.blocks([node.block_hash(h) for h in heights]):
            for number, transaction in enumerate(block.transactions):
                for txin in transaction.inputs:
                    found.pop(txin.outpoint, None)
                for index, output in enumerate(transaction.outputs):
                    if output.script in scripts:
                        coin = Coin(
                            outpoint=transaction.outpoint(index), output=output, key_index=scripts[output.script]
                        )
                        found[coin.outpoint] = (coin, block.header.height, number == 0)
        position = heights[-1]
    return PartyCoins(scanned=(position, node.block_hash(position)), coins=found, reserved=set(coins.reserved))


def spendable(coins: PartyCoins, tip: Height) -> Iterator[Coin]:
    """Yield the coins that are mature and in no message or transaction of ours yet."""
    for outpoint, (coin, at, coinbase) in coins.coins.items():
        if outpoint not in coins.reserved and (not coinbase or tip - at + 1 >= COINBASE_MATURITY):
            yield coin


def _if(value: Any, convert: Any) -> Any:  # noqa: ANN401 - JSON on one side
    return None if value is None else convert(value)


def _buckets(rows: list[list[int]]) -> tuple[Bucket, ...]:
    return tuple(Bucket(prefix=prefix, length=length, payout=sats(payout)) for prefix, length, payout in rows)


def _transaction(text: str) -> Transaction:
    return parse_transaction(bytes.fromhex(text))


def _hex(transaction: Transaction) -> str:
    return transaction.to_bytes().hex()


def _outpoint(text: str) -> OutPoint:
    txid, separator, index = text.rpartition(":")
    if not separator or not index.isdecimal():
        raise InvalidInputError("outpoint", repr(text), "txid:index")
    return OutPoint(txid=parse_txid(txid), index=int(index))


def _encode_watch(state: WatchState) -> dict[str, Any]:
    return {
        "blocks": [[at, name.hex()] for at, name in state.blocks],
        "spends": [[str(s.outpoint), _hex(s.transaction), s.height, s.block.hex()] for s in state.spends],
        "creations": [
            [f"{display_txid(c.outpoint.txid)}:{c.outpoint.index}", c.height, c.block.hex()] for c in state.creations
        ],
    }


def _decode_watch(stored: dict[str, Any]) -> WatchState:
    return WatchState(
        blocks=tuple((height(at), hash32(bytes.fromhex(name))) for at, name in stored["blocks"]),
        spends=tuple(
            Spend(
                outpoint=_outpoint(outpoint),
                transaction=_transaction(raw),
                height=height(at),
                block=hash32(bytes.fromhex(name)),
            )
            for outpoint, raw, at, name in stored["spends"]
        ),
        creations=tuple(
            Creation(outpoint=_outpoint(outpoint), height=height(at), block=hash32(bytes.fromhex(name)))
            for outpoint, at, name in stored["creations"]
        ),
    )
