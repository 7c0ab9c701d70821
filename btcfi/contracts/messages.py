"""The messages between the two parties: offer, accept, sign. JSON with a type and a version; bytes as hex or base64.

They carry what the DLC protocol's messages of the same names carry, for our Taproot variant. A reader trusts nothing:
every field is parsed into its unit, and a wrong one is named.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as BinasciiError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from btcfi import secp256k1
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.buckets import Rounding
from btcfi.contracts.leaves import TREES
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement, OracleEvent
from btcfi.oracle.attestation import Attestation
from btcfi.units import (
    CentsPerBtc,
    Hash32,
    Height,
    Sats,
    cents_per_btc,
    display_txid,
    hash32,
    height,
    parse_txid,
    sats,
    slot,
)

VERSION: Final = 1
"""Of all three messages; another one is refused."""

MAX_MESSAGE_BYTES: Final = 64 << 20
"""Of one message: 50,000 buckets with three sets of oracles are 13 MB of base64."""

MAX_COINS: Final = 100
"""Inputs that one party may bring: more would make a funding that no node relays cheaply."""

_OFFER_TAG: Final = "BTCFi/contract/offer/v1"
_CONTRACT_TAG: Final = "BTCFi/contract/id/v1"

Json = dict[str, Any]
T = TypeVar("T")


class Role(Enum):
    """Which side of the option."""

    BUYER = "buyer"
    SELLER = "seller"

    @property
    def other(self) -> Role:
        """The counterparty."""
        return Role.SELLER if self is Role.BUYER else Role.BUYER


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """What one side tells the other about itself."""

    key: bytes
    """Compressed key, 33 bytes: signs CETs by script (x-only) and takes part in the MuSig2 key path."""
    payout_script: bytes
    change_script: bytes
    coins: tuple[Coin, ...]
    """The outpoints that it will spend, reserved."""

    @property
    def xonly(self) -> bytes:
        """The key as scripts name it."""
        return self.key[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractTerms:
    """What both sides sign up to, apart from their keys and coins."""

    option: Json
    """The option's terms (kind, strike, quantity...), as the guest's input is made of; hashed, not interpreted here."""
    collateral: Sats
    premium: Sats
    expiry_height: Height
    refund_height: Height
    rate: SatsPerKvb
    """Fee rate of the funding transaction."""
    step: Sats
    rounding: Rounding
    breakpoints: tuple[CentsPerBtc, ...]
    """Prices at which the payoff turns or jumps."""
    announcements: tuple[Announcement, ...]
    threshold: int = 1
    tree: str = "standard"
    release_hash: Hash32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """First message: one side's terms and coins."""

    terms: ContractTerms
    role: Role
    """The offering side."""
    party: Party

    @property
    def id(self) -> Hash32:
        """Hash of the canonical message."""
        return tagged_hash(_OFFER_TAG, canonical(encode_offer(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a party's owner tells its own desk: make this offer. It never goes to the other side."""

    terms: ContractTerms
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Second message: the other side's coins and its pre-signatures of every CET."""

    offer_id: Hash32
    party: Party
    presignatures: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Third message: the offering side's pre-signatures, and last of all its funding signatures."""

    contract_id: Hash32
    presignatures: bytes = field(repr=False)
    witnesses: Mapping[int, tuple[bytes, ...]]
    """By funding input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequest:
    """One side asks to close together now, at a payout, and gives its public nonce."""

    contract_id: Hash32
    payout: Sats
    rate: SatsPerKvb
    guest_input: bytes
    """The input on which the guest computes that payout (an early exercise); empty: the parties just agree on it."""
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAnswer:
    """The other side's nonce and partial signature of the same close."""

    contract_id: Hash32
    nonce: bytes
    partial: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOrder:
    """What a party's owner tells its own desk: close this contract at this payout. It never goes to the other side."""

    offer_id: bytes
    payout: Sats
    rate: SatsPerKvb
    guest_input: bytes


def contract_id(offer: Offer, party: Party) -> Hash32:
    """Return the identity of a contract: the offer and the accepting side's half."""
    return tagged_hash(_CONTRACT_TAG, offer.id + canonical(_encode_party(party)))


def canonical(message: Json) -> bytes:
    """Return the one byte form of a JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(message, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


# ---- encoding


def encode_offer(offer: Offer) -> Json:
    """Return the offer as JSON."""
    head = {"type": "btcfi/offer", "version": VERSION, "role": offer.role.value}
    return head | {"party": _encode_party(offer.party)} | _encode_terms(offer.terms)


def encode_order(order: Order) -> Json:
    """Return an order as JSON: an offer without its party."""
    return {"type": "btcfi/order", "version": VERSION, "role": order.role.value} | _encode_terms(order.terms)


def _encode_terms(terms: ContractTerms) -> Json:
    return {
        "option": terms.option,
        "collateral_sats": terms.collateral,
        "premium_sats": terms.premium,
        "expiry_height": terms.expiry_height,
        "refund_height": terms.refund_height,
        "funding_sats_per_kvb": terms.rate,
        "step_sats": terms.step,
        "rounding": terms.rounding.value,
        "breakpoint_cents": list(terms.breakpoints),
        "oracles": [encode_announcement(one) for one in terms.announcements],
        "threshold": terms.threshold,
        "tree": terms.tree,
        "release_hash": terms.release_hash.hex() if terms.release_hash else None,
    }


def encode_accept(accept: Accept) -> Json:
    """Return the accept message as JSON."""
    return {
        "type": "btcfi/accept",
        "version": VERSION,
        "offer_id": accept.offer_id.hex(),
        "party": _encode_party(accept.party),
        "cet_adaptor_signatures": b64encode(accept.presignatures).decode(),
    }


def encode_sign(sign: Sign) -> Json:
    """Return the sign message as JSON."""
    return {
        "type": "btcfi/sign",
        "version": VERSION,
        "contract_id": sign.contract_id.hex(),
        "cet_adaptor_signatures": b64encode(sign.presignatures).decode(),
        "funding_witnesses": {
            str(index): [item.hex() for item in witness] for index, witness in sorted(sign.witnesses.items())
        },
    }


def encode_close_order(order: CloseOrder) -> Json:
    """Return an order to close as JSON."""
    return {
        "type": "btcfi/close-order",
        "version": VERSION,
        "offer_id": order.offer_id.hex(),
        "payout_sats": order.payout,
        "sats_per_kvb": order.rate,
        "guest_input": order.guest_input.hex(),
    }


def encode_close_request(request: CloseRequest) -> Json:
    """Return the close request as JSON."""
    return {
        "type": "btcfi/close-request",
        "version": VERSION,
        "contract_id": request.contract_id.hex(),
        "payout_sats": request.payout,
        "sats_per_kvb": request.rate,
        "guest_input": request.guest_input.hex(),
        "nonce": request.nonce.hex(),
    }


def encode_close_answer(answer: CloseAnswer) -> Json:
    """Return the answer to a close request as JSON."""
    return {
        "type": "btcfi/close-answer",
        "version": VERSION,
        "contract_id": answer.contract_id.hex(),
        "nonce": answer.nonce.hex(),
        "partial": answer.partial.hex(),
    }


def encode_announcement(announcement: Announcement) -> Json:
    """Return an announcement as JSON."""
    event = announcement.event
    return {
        "oracle_key": announcement.oracle_key.hex(),
        "event": {
            "feed": event.feed,
            "expiry_unix": event.expiry,
            "program_hash": event.program_hash.hex(),
            "preset_hash": event.preset_hash.hex(),
            "digits": event.digits,
            "condition": event.condition,
        },
        "nonces": [nonce.hex() for nonce in announcement.nonces],
        "proofs": [proof.hex() for proof in announcement.proofs],
        "signature": announcement.signature.hex(),
    }


def encode_attestation(attestation: Attestation) -> Json:
    """Return an attestation as JSON."""
    return {
        "type": "btcfi/attestation",
        "version": VERSION,
        "oracle_key": attestation.oracle_key.hex(),
        "event_id": attestation.event.hex(),
        "outcome": attestation.outcome,
        "signatures": [signature.hex() for signature in attestation.signatures],
    }


def _encode_party(party: Party) -> Json:
    return {
        "key": party.key.hex(),
        "payout_script": party.payout_script.hex(),
        "change_script": party.change_script.hex(),
        "coins": [
            {
                "txid": display_txid(coin.outpoint.txid),
                "vout": coin.outpoint.index,
                "value_sats": coin.value,
                "script": coin.output.script.hex(),
            }
            for coin in party.coins
        ],
    }


# ---- decoding


class _Reader:
    """Takes fields out of a JSON object, once each, and names the wrong one."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInputError(where, "not an object", "a JSON object")
        self._value, self._where = value, where

    def take(self, name: str, parse: Callable[[Any], T], expected: str) -> T:
        """Return a parsed field."""
        where = f"{self._where}.{name}"
        if name not in self._value:
            raise InvalidInputError(where, "missing", expected)
        try:
            return parse(self._value[name])
        except InvalidInputError as e:
            raise InvalidInputError(where, str(e), expected) from e
        except (ValueError, TypeError, KeyError, AttributeError, BinasciiError) as e:
            raise InvalidInputError(where, "cannot be read", expected) from e

    def sats(self, name: str) -> Sats:
        return self.take(name, sats, "whole satoshis")

    def height(self, name: str) -> Height:
        return self.take(name, height, "a block height")

    def hash(self, name: str) -> Hash32:
        return self.take(name, lambda text: hash32(bytes.fromhex(text)), "32 bytes as hex")

    def raw(self, name: str, size: int | None = None) -> bytes:
        def parse(text: str) -> bytes:
            value = bytes.fromhex(text)
            if size is not None and len(value) != size:
                raise ValueError(len(value))
            return value

        return self.take(name, parse, f"{size} bytes as hex" if size else "hex")

    def whole(self, name: str, low: int, high: int) -> int:
        def parse(value: object) -> int:
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(value)
            return value

        return self.take(name, parse, f"a whole number from {low} to {high}")

    def text(self, name: str) -> str:
        def parse(value: object) -> str:
            if not isinstance(value, str):
                raise TypeError(type(value))
            return value

        return self.take(name, parse, "text")

    def items(self, name: str, most: int) -> list[Any]:
        def parse(value: object) -> list[Any]:
            if not isinstance(value, list) or len(value) > most:
                raise TypeError(type(value))
            return value

        return self.take(name, parse, f"a list of at most {most}")


def _typed(message: object, kind: str) -> _Reader:
    reader = _Reader(message, kind)
    found, version = reader.text("type"), reader.whole("version", 0, 1 << 16)
    if found != kind or version != VERSION:
        raise InvalidInputError("message", f"{found!r} version {version}", f"{kind!r} version {VERSION}")
    return reader


def decode_offer(message: object) -> Offer:
    """Return the offer of a JSON value. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/offer")
    terms, role = _decode_terms(reader), reader.take("role", Role, "'buyer' or 'seller'")
    return Offer(terms=terms, role=role, party=reader.take("party", _decode_party, "a party"))


def decode_order(message: object) -> Order:
    """Return the order of a JSON value. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/order")
    return Order(terms=_decode_terms(reader), role=reader.take("role", Role, "'buyer' or 'seller'"))


def _decode_terms(reader: _Reader) -> ContractTerms:
    release = reader.take("release_hash", lambda v: None if v is None else hash32(bytes.fromhex(v)), "hex or null")
    return ContractTerms(
        option=reader.take("option", lambda value: dict(value.items()), "the option's terms, an object"),
        collateral=reader.sats("collateral_sats"),
        premium=reader.sats("premium_sats"),
        expiry_height=reader.height("expiry_height"),
        refund_height=reader.height("refund_height"),
        rate=SatsPerKvb(reader.whole("funding_sats_per_kvb", MIN_RELAY_FEE_RATE, MAX_FEE_RATE)),
        step=reader.sats("step_sats"),
        rounding=reader.take("rounding", Rounding, "'down' or 'up'"),
        breakpoints=tuple(cents_per_btc(price) for price in reader.items("breakpoint_cents", 16)),
        announcements=tuple(decode_announcement(one) for one in reader.items("oracles", 16)),
        threshold=reader.whole("threshold", 1, 16),
        tree=reader.take("tree", _tree, "one of " + ", ".join(TREES)),
        release_hash=release,
    )


def decode_accept(message: object) -> Accept:
    """Return the accept message of a JSON value. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/accept")
    return Accept(
        offer_id=reader.hash("offer_id"),
        party=reader.take("party", _decode_party, "a party"),
        presignatures=reader.take("cet_adaptor_signatures", _base64, "base64"),
    )


def decode_sign(message: object) -> Sign:
    """Return the sign message of a JSON value. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/sign")
    return Sign(
        contract_id=reader.hash("contract_id"),
        presignatures=reader.take("cet_adaptor_signatures", _base64, "base64"),
        witnesses=reader.take("funding_witnesses", _decode_witnesses, "input numbers with lists of hex"),
    )


def decode_close_order(message: object) -> CloseOrder:
    """Return the order to close of a JSON value. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/close-order")
    return CloseOrder(
        offer_id=reader.hash("offer_id"),
        payout=reader.sats("payout_sats"),
        rate=SatsPerKvb(reader.whole("sats_per_kvb", MIN_RELAY_FEE_RATE, MAX_FEE_RATE)),
        guest_input=reader.raw("guest_input"),
    )


def decode_close_request(message: object) -> CloseRequest:
    """Return the close request of a JSON value. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/close-request")
    return CloseRequest(
        contract_id=reader.hash("contract_id"),
        payout=reader.sats("payout_sats"),
        rate=SatsPerKvb(reader.whole("sats_per_kvb", MIN_RELAY_FEE_RATE, MAX_FEE_RATE)),
        guest_input=reader.raw("guest_input"),
        nonce=reader.raw("nonce", 66),
    )


def decode_close_answer(message: object) -> CloseAnswer:
    """Return the answer of a JSON value. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/close-answer")
    return CloseAnswer(
        contract_id=reader.hash("contract_id"), nonce=reader.raw("nonce", 66), partial=reader.raw("partial", 32)
    )


def decode_announcement(message: object) -> Announcement:
    """Return the announcement of a JSON value, unchecked. Raises InvalidInputError naming the field."""
    reader = _Reader(message, "oracle")
    event = _Reader(reader.take("event", lambda value: value, "an object"), "oracle.event")
    return Announcement(
        oracle_key=reader.raw("oracle_key", 32),
        event=OracleEvent(
            feed=event.text("feed"),
            expiry=event.take("expiry_unix", slot, "a minute, in unix seconds"),
            program_hash=event.hash("program_hash"),
            preset_hash=event.hash("preset_hash"),
            digits=event.whole("digits", 1, 25),
            condition=event.text("condition"),
        ),
        nonces=tuple(bytes.fromhex(nonce) for nonce in reader.items("nonces", 64)),
        proofs=tuple(bytes.fromhex(proof) for proof in reader.items("proofs", 64)),
        signature=reader.raw("signature", 64),
    )


def decode_attestation(message: object) -> Attestation:
    """Return the attestation of a JSON value, unchecked. Raises InvalidInputError naming the field."""
    reader = _typed(message, "btcfi/attestation")
    return Attestation(
        oracle_key=reader.raw("oracle_key", 32),
        event=reader.hash("event_id"),
        outcome=reader.whole("outcome", 0, 1 << 26),
        signatures=reader.take(
            "signatures", lambda many: tuple(bytes.fromhex(one) for one in many), "a list of 64-byte hex"
        ),
    )


def _decode_party(message: object) -> Party:
    reader = _Reader(message, "party")
    key = reader.raw("key", 33)
    if not secp256k1.is_point(key):
        raise InvalidInputError("party.key", "is not on the curve", "a compressed point, 33 bytes")
    return Party(
        key=key,
        payout_script=reader.raw("payout_script"),
        change_script=reader.raw("change_script"),
        coins=tuple(_decode_coin(coin) for coin in reader.items("coins", MAX_COINS)),
    )


def _decode_coin(message: object) -> Coin:
    reader = _Reader(message, "coin")
    txid = reader.take("txid", parse_txid, "a txid, 64 hex digits")
    return Coin(
        outpoint=OutPoint(txid=txid, index=reader.whole("vout", 0, 0xFFFFFFFF)),
        output=TxOut(value=reader.sats("value_sats"), script=reader.raw("script")),
    )


def _decode_witnesses(value: Mapping[str, list[str]]) -> dict[int, tuple[bytes, ...]]:
    return {int(index): tuple(bytes.fromhex(item) for item in witness) for index, witness in value.items()}


def _tree(name: object) -> str:
    if not isinstance(name, str) or name not in TREES:
        raise ValueError(name)
    return name


def _base64(text: str) -> bytes:
    return b64decode(text, validate=True)
