"""The letters of contracts that end together, as JSON: a yes for each contract, then two rounds between desk and owner.

    owner -> desk   batch-yes       it may end together with others, once its price is attested
    desk  -> owner  batch-proposal  the transaction, what it spends, the way of each proof root to the Merkle root
    owner -> desk   batch-nonces    a public nonce for each of its inputs
    desk  -> owner  batch-all       both nonces of each of its inputs
    owner -> desk   batch-partials  a partial signature for each
    desk  -> owner  batch-done      the signed transaction, which the desk has sent

``OPTION.batch-yes`` is a yes' name, ``bBATCH~NUMBER.KIND`` that of every other one. Source: docs/decisions/0076.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.transaction import Transaction, TxOut, parse_transaction
from btcfi.contracts.batch import MAX_CONTRACTS, MAX_PROPOSALS, Proposal
from btcfi.errors import InvalidInputError
from btcfi.records import HASH, OBJECT, TEXT, Rule, hexadecimal, listed, record, unhex, whole
from btcfi.units import MAX_MONEY_SATS, Hash32, Sats

VERSION: Final = 1
MARK: Final = "~"

YES: Final = "batch-yes"
PROPOSAL: Final = "batch-proposal"
NONCES: Final = "batch-nonces"
ALL: Final = "batch-all"
PARTIALS: Final = "batch-partials"
DONE: Final = "batch-done"

OF_THE_DESK: Final = frozenset({PROPOSAL, ALL, DONE})
"""Kinds that only the desk writes."""

MOST_NUMBER: Final = 2 * MAX_PROPOSALS
"""Of a proposal."""

_FIRST: Final = "b"
_NAME: Final = re.compile(r"b([0-9a-f]{32})~([1-9][0-9]?)")
_ID_DIGITS: Final = 32
_NONCE_SIZE: Final = 66
_PARTIAL_SIZE: Final = 32
_MAX_PATH: Final = 8
"""Steps from one of 128 leaves to the root, and one."""


def letter_name(batch: str, number: int, kind: str) -> str:
    """Return the name of a letter about a batch's proposal."""
    return f"{_FIRST}{batch}{MARK}{number}.{kind}"


def parse_name(name: str) -> tuple[str, int]:
    """Return batch and number in a letter's name without its kind. Raises InvalidInputError."""
    found = _NAME.fullmatch(name)
    if found is None or not 1 <= int(found[2]) <= MOST_NUMBER:
        raise InvalidInputError("letter", f"is named {name[:60]!a}", "b, a batch's id, ~, a number")
    return found[1], int(found[2])


# ---- what is said


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A proposal, and of which batch it is."""

    batch: str
    proposal: Proposal = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllNonces:
    """Both nonces of each of an owner's inputs, the buyer's first."""

    batch: str
    number: int
    nonces: Mapping[int, tuple[bytes, bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An owner's nonces, or its partial signatures, by input."""

    batch: str
    number: int
    parts: Mapping[int, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The transaction that all have signed."""

    batch: str
    number: int
    transaction: Transaction


def encode_yes() -> dict[str, Any]:
    """Return a yes as JSON: the letter's name says to which contract."""
    return {"type": f"btcfi/{YES}", "version": VERSION}


def encode_proposal(batch: str, proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as JSON."""
    return _head(PROPOSAL, batch, proposal.number) | {
        "transaction": proposal.transaction.to_bytes().hex(), "sats_per_kvb": proposal.rate,
        "spent": [{"value_sats": one.value, "script": one.script.hex()} for one in proposal.spent],
        "branches": {str(index): [one.hex() for one in path] for index, path in proposal.branches.items()},
    }  # fmt: skip


def encode_nonces(said: Said) -> dict[str, Any]:
    """Return an owner's nonces as JSON."""
    return _head(NONCES, said.batch, said.number) | {"nonces": _hexed(said.parts)}


def encode_all(batch: str, number: int, nonces: Mapping[int, tuple[bytes, bytes]]) -> dict[str, Any]:
    """Return both nonces of each of an owner's inputs as JSON."""
    return _head(ALL, batch, number) | {
        "nonces": {str(index): [one.hex() for one in both] for index, both in nonces.items()}
    }  # fmt: skip


def encode_partials(said: Said) -> dict[str, Any]:
    """Return an owner's partial signatures as JSON."""
    return _head(PARTIALS, said.batch, said.number) | {"partials": _hexed(said.parts)}


def encode_done(done: Done) -> dict[str, Any]:
    """Return the signed transaction as JSON."""
    return _head(DONE, done.batch, done.number) | {"transaction": done.transaction.to_bytes().hex()}


def _head(kind: str, batch: str, number: int) -> dict[str, Any]:
    return {"type": f"btcfi/{kind}", "version": VERSION, "batch": batch, "number": number}


def _hexed(parts: Mapping[int, bytes]) -> dict[str, str]:
    return {str(index): one.hex() for index, one in parts.items()}


# ---- reading


def _check_id(text: Any) -> str:  # noqa: ANN401 - JSON
    if len(unhex(TEXT.parse(text)).hex()) != _ID_DIGITS:
        raise ValueError(text)
    return str(text)


_NUMBER: Final = whole(1, MOST_NUMBER)
_ID: Final = Rule(_check_id, f"a batch's id, {_ID_DIGITS} hex digits")
_RATE: Final = Rule(
    lambda value: SatsPerKvb(whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE)(value)), "a fee rate that nodes relay, sat/kvB"
)


def _transaction(text: Any) -> Transaction:  # noqa: ANN401 - JSON
    return parse_transaction(unhex(TEXT.parse(text)))


_TRANSACTION: Final = Rule(_transaction, "a transaction, as hex")


def _by_input(item: Rule[Any]) -> Rule[dict[int, Any]]:
    """Return the rule of an object whose names are inputs, each in the one way that we write its number."""

    def parse(value: Any) -> dict[int, Any]:  # noqa: ANN401 - JSON
        found = OBJECT.parse(value)
        if len(found) > MAX_CONTRACTS or any(str(int(name)) != name or not 0 <= int(name) < MAX_CONTRACTS
                                             for name in found):  # fmt: skip
            raise ValueError(len(found))
        return {int(name): item.parse(one) for name, one in found.items()}

    return Rule(parse, f"an object of inputs, 0 to {MAX_CONTRACTS - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    value: int
    script: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    batch: str
    number: int
    transaction: Transaction
    rate: SatsPerKvb
    spent: tuple[_Spent, ...]
    branches: Mapping[int, tuple[Hash32, ...]]


_SPENT: Final = record(
    _Spent, exact=True, value=("value_sats", whole(0, MAX_MONEY_SATS)), script=hexadecimal(at_most=34)
)  # fmt: skip
_ASKED: Final = record(
    _Proposal, batch=_ID, number=_NUMBER, transaction=_TRANSACTION, rate=("sats_per_kvb", _RATE),
    spent=listed(_SPENT, MAX_CONTRACTS), branches=_by_input(listed(HASH, _MAX_PATH)),
)  # fmt: skip
_NONCE: Final = hexadecimal(_NONCE_SIZE)


def _pair(value: Any) -> tuple[bytes, bytes]:  # noqa: ANN401 - JSON
    first, second = listed(_NONCE, 2).parse(value)
    return first, second


_BOTH: Final[Rule[Any]] = Rule(_pair, "the buyer's nonce and the seller's")

_ALL: Final = record(AllNonces, batch=_ID, number=_NUMBER, nonces=_by_input(_BOTH))
_NONCES: Final = record(Said, batch=_ID, number=_NUMBER, parts=("nonces", _by_input(_NONCE)))
_PARTIALS: Final = record(Said, batch=_ID, number=_NUMBER, parts=("partials", _by_input(hexadecimal(_PARTIAL_SIZE))))
_DONE: Final = record(Done, batch=_ID, number=_NUMBER, transaction=_TRANSACTION)


def _read(rule: Any, message: object, kind: str, name: str) -> Any:  # noqa: ANN401 - a record's rule and what it makes
    if not isinstance(message, dict) or (message.get("type"), message.get("version")) != (f"btcfi/{kind}", VERSION):
        raise InvalidInputError("message", "of another kind or version", f"btcfi/{kind} version {VERSION}")
    found = rule.read(message, kind)
    if (found.batch, found.number) != parse_name(name):
        raise InvalidInputError(f"{kind}.batch", f"{found.batch}, {found.number}", f"{name}, as the letter's name")
    return found


def decode_proposal(message: object, name: str) -> Asked:
    """Return a proposal. name: the letter's, without its kind. Raises InvalidInputError, as the ones below."""
    said: _Proposal = _read(_ASKED, message, PROPOSAL, name)
    spent = tuple(TxOut(value=Sats(one.value), script=one.script) for one in said.spent)
    proposal = Proposal(
        number=said.number, transaction=said.transaction, spent=spent, rate=said.rate, branches=said.branches
    )
    return Asked(batch=said.batch, proposal=proposal)


def decode_nonces(message: object, name: str) -> Said:
    """Return an owner's nonces."""
    said: Said = _read(_NONCES, message, NONCES, name)
    return said


def decode_all(message: object, name: str) -> AllNonces:
    """Return both nonces of each of an owner's inputs."""
    said: AllNonces = _read(_ALL, message, ALL, name)
    return said


def decode_partials(message: object, name: str) -> Said:
    """Return an owner's partial signatures."""
    said: Said = _read(_PARTIALS, message, PARTIALS, name)
    return said


def decode_done(message: object, name: str) -> Done:
    """Return the transaction that all have signed."""
    said: Done = _read(_DONE, message, DONE, name)
    return said
