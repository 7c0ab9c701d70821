"""The letters of a transfer as JSON: what the desk asks each of the three, and what each says to the desk alone.

    desk -> owner   ask        the deal's part, and which word is owed; with it what that word needs
    owner -> desk   word       its half, its pre-signatures, its witnesses and nonce, or its part of the key path
    desk -> all     done       the signed transaction, which it has sent;  or over, and why

``OPTION~TAKE.transfer-ROUND`` is a word's name, ``OPTION~TAKE.transfer-ask-ROUND`` that of what asks for it: the old
option's, and the first digits of the take's id.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from btcfi.bitcoin.transaction import Transaction, parse_transaction
from btcfi.contracts.messages import (
    COIN,
    PARTY,
    Order,
    Party,
    Role,
    decode_order,
    encode_coin,
    encode_order,
    encode_party,
)
from btcfi.contracts.reopen import LEAVING, Leaving, Statement, encode_leaving, transfer_of
from btcfi.errors import InvalidInputError
from btcfi.market.transfer import TransferDeal, TransferPart, decode_part, encode_part
from btcfi.market.transferring import Ready, Round, Said
from btcfi.records import BASE64, HASH, OBJECT, TEXT, Rule, hexadecimal, listed, optional, record, unhex
from btcfi.units import Hash32

VERSION: Final = 1
MARK: Final = "~"

PART: Final = "transfer"
"""Where the three signed texts stand in what the desk asks."""

DONE: Final = "transfer-done"
OVER: Final = "transfer-over"

_NAME_DIGITS: Final = 16
_MAX_INDEX: Final = 400
"""More inputs than a version 3 transaction can have."""


def letter_name(option_id: str, take_id: Hash32, kind: str) -> str:
    """Return the name of a letter. kind: a round's ``transfer-ROUND``, DONE or OVER."""
    return f"{option_id}{MARK}{take_id.hex()[:_NAME_DIGITS]}.{kind}"


def kind_of(said: Round) -> str:
    """Return the kind of a round's words."""
    return f"transfer-{said.value}"


def ask_of(said: Round) -> str:
    """Return the kind of what asks for a round's word."""
    return f"transfer-ask-{said.value}"


ASKS: Final = {ask_of(one): one for one in Round}
"""Rounds by the kind of letter that asks for their words."""


def check_named(name: str, take_id: Hash32) -> str:
    """Return the option in a letter's name without its kind. Raises InvalidInputError where it is of another take."""
    option, _, digits = name.partition(MARK)
    if digits != take_id.hex()[:_NAME_DIGITS]:
        raise InvalidInputError("transfer.take_id", take_id.hex()[:_NAME_DIGITS], f"{digits[:40]!a}, as the letter's")
    return option


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A word with what it is about."""

    take_id: Hash32
    said: Round
    word: Said = field(repr=False)


# ---- what an owner says


def encode_word(take_id: Hash32, said: Round, word: Said) -> dict[str, Any]:
    """Return an owner's word as JSON."""
    head = {"type": f"btcfi/{kind_of(said)}", "version": VERSION, "take_id": take_id.hex()}
    if isinstance(word, Party):
        return head | {"party": encode_party(word)}
    if isinstance(word, Leaving):
        return head | {"leaving": encode_leaving(word)}
    if isinstance(word, Ready):
        witnesses = {str(index): [one.hex() for one in items] for index, items in sorted(word.witnesses.items())}
        return head | {"witnesses": witnesses, "nonce": None if word.nonce is None else word.nonce.hex()}
    if said is Round.PRESIGNED:
        return head | {"cet_adaptor_signatures": b64encode(word).decode()}
    return head | {"partial": word.hex()}


_ITEMS: Final = listed(hexadecimal(), 2)
"""Of one witness: a signature, or one and its key."""


def _witnesses(value: Mapping[str, list[str]]) -> dict[int, tuple[bytes, ...]]:
    found = {int(index): _ITEMS(items) for index, items in value.items()}
    if [str(index) for index in found] != list(value) or not all(0 <= index <= _MAX_INDEX for index in found):
        raise ValueError("an input's number is in other digits than 0-9, or no transaction has so many inputs")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    type: str
    version: int
    take_id: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    party: Party | None = None
    leaving: Leaving | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Presigned:
    presignatures: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partial:
    partial: bytes


_HEAD: Final = record(_Head, take_id=HASH)
_HALF: Final = record(_Half, party=PARTY, leaving=LEAVING, may_lack=("party", "leaving"))
_PRESIGNED: Final = record(_Presigned, presignatures=("cet_adaptor_signatures", BASE64))
_READY: Final = record(
    Ready, witnesses=Rule(_witnesses, "input numbers with lists of hex"), nonce=optional(hexadecimal(66))
)
_PARTIAL: Final = record(_Partial, partial=hexadecimal(32))


def decode_word(said: Round, message: object) -> Worded:
    """Return an owner's word of a round, unchecked. Raises InvalidInputError naming the field."""
    kind = f"btcfi/{kind_of(said)}"
    head = _HEAD.read(message, kind)
    if (head.type, head.version) != (kind, VERSION):
        raise InvalidInputError("message", f"{head.type!r} version {head.version}", f"{kind!r} version {VERSION}")
    word: Said
    if said is Round.HALF:
        half = _HALF.read(message, kind)
        if (half.party is None) is (half.leaving is None):
            raise InvalidInputError(f"{kind}.party", "missing, or both kinds are there", "party, or leaving")
        word = half.party or half.leaving or Leaving(script=b"")
    elif said is Round.PRESIGNED:
        word = _PRESIGNED.read(message, kind).presignatures
    elif said is Round.READY:
        word = _READY.read(message, kind)
    else:
        word = _PARTIAL.read(message, kind).partial
    return Worded(take_id=head.take_id, said=said, word=word)


# ---- what the desk asks


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the desk asks an owner for, with what its word needs; nothing of it is believed."""

    said: Round
    part: TransferPart
    statement: Mapping[str, Any] | None = field(default=None, repr=False)
    """Once all halves are there, as ``encode_statement`` has it."""
    presignatures: bytes | None = field(default=None, repr=False)
    """Of the new contract's other side, once both have pre-signed."""
    nonces: tuple[bytes, ...] = ()
    """Both public nonces, the old buyer's first, for a part of the key path."""


def encode_ask(ask: Ask) -> dict[str, Any]:
    """Return what the desk asks as JSON."""
    return {
        "type": f"btcfi/{ask_of(ask.said)}",
        "version": VERSION,
        PART: encode_part(ask.part),
        "statement": None if ask.statement is None else dict(ask.statement),
        "cet_adaptor_signatures": None if ask.presignatures is None else b64encode(ask.presignatures).decode(),
        "nonces": [one.hex() for one in ask.nonces],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    type: str
    version: int
    part: TransferPart
    statement: dict[str, Any] | None
    presignatures: bytes | None
    nonces: tuple[bytes, ...]


_ASK: Final = record(
    _Ask, part=(PART, Rule(decode_part, "the three signed texts")), statement=optional(OBJECT),
    presignatures=("cet_adaptor_signatures", optional(BASE64)), nonces=listed(hexadecimal(66), 2),
)  # fmt: skip


def decode_ask(said: Round, message: object) -> Ask:
    """Return what the desk asks in a round, unchecked. Raises InvalidInputError naming the field."""
    kind = f"btcfi/{ask_of(said)}"
    found = _ASK.read(message, kind)
    if (found.type, found.version) != (kind, VERSION):
        raise InvalidInputError("message", f"{found.type!r} version {found.version}", f"{kind!r} version {VERSION}")
    return Ask(
        said=said, part=found.part, statement=found.statement, presignatures=found.presignatures, nonces=found.nonces
    )


# ---- what the desk tells all three


def encode_statement(statement: Statement) -> dict[str, Any]:
    """Return as JSON what a transfer's statement has beyond its deal: the contract, and the three halves."""
    if statement.leaving is None:
        raise InvalidInputError("statement", "of a roll", "a transfer's")
    return {
        "type": "btcfi/transfer-statement",
        "version": VERSION,
        "old": encode_coin(statement.old),
        "terms": encode_order(Order(terms=statement.terms, role=Role.SELLER)),
        "seller": encode_party(statement.seller),
        "newcomer": encode_party(statement.buyer),
        "leaving": encode_leaving(statement.leaving),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    type: str
    version: int
    old: Any
    terms: dict[str, Any]
    seller: Party
    newcomer: Party
    leaving: Leaving


_STATEMENT: Final = record(
    _Statement, exact=True, old=COIN, terms=OBJECT, seller=PARTY, newcomer=PARTY, leaving=LEAVING
)


def decode_statement(message: object, deal: TransferDeal) -> Statement:
    """Return the statement of a deal and a JSON value: price, rate and time are the deal's, whatever it says.

    Each of the three compares it with its own word (``reopen.check_word``). Raises InvalidInputError naming the field.
    """
    kind = "btcfi/transfer-statement"
    found = _STATEMENT.read(message, kind)
    if (found.type, found.version) != (kind, VERSION):
        raise InvalidInputError("message", f"{found.type!r} version {found.version}", f"{kind!r} version {VERSION}")
    return transfer_of(
        found.old, decode_order(found.terms).terms, price=deal.price, rate=deal.rate, seller=found.seller,
        newcomer=found.newcomer, leaving=found.leaving, valid_until=deal.until,
    )  # fmt: skip


def encode_done(take_id: Hash32, transaction: Transaction) -> dict[str, Any]:
    """Return the signed transaction as JSON."""
    head = {"type": f"btcfi/{DONE}", "version": VERSION, "take_id": take_id.hex()}
    return head | {"transaction": transaction.to_bytes().hex()}


def encode_over(take_id: Hash32, problem: str) -> dict[str, Any]:
    """Return as JSON that it came to nothing: each owner of a coin takes it home, unless its node has the transfer."""
    return {"type": f"btcfi/{OVER}", "version": VERSION, "take_id": take_id.hex(), "problem": problem}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    transaction: Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Over:
    problem: str


def _transaction(value: object) -> Transaction:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - what a rule raises
    return parse_transaction(unhex(value))


_DONE: Final = record(_Done, transaction=Rule(_transaction, "a transaction, as hex"))
_OVER: Final = record(_Over, problem=TEXT)


def decode_done(message: object) -> tuple[Hash32, Transaction]:
    """Return the take's id and the signed transaction. Raises InvalidInputError naming the field."""
    head = _told(message, DONE)
    return head.take_id, _DONE.read(message, f"btcfi/{DONE}").transaction


def decode_over(message: object) -> tuple[Hash32, str]:
    """Return the take's id and why it came to nothing. Raises InvalidInputError naming the field."""
    head = _told(message, OVER)
    return head.take_id, _OVER.read(message, f"btcfi/{OVER}").problem


def _told(message: object, kind: str) -> _Head:
    head = _HEAD.read(message, f"btcfi/{kind}")
    if (head.type, head.version) != (f"btcfi/{kind}", VERSION):
        raise InvalidInputError("message", f"{head.type!r} version {head.version}", f"btcfi/{kind} version {VERSION}")
    return head
