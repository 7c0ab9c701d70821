"""The messages between the two parties: offer, accept, sign. JSON with a type and a version; bytes as hex or base64.

They carry what the DLC protocol's messages of the same names carry, for our Taproot variant. A reader trusts nothing:
every field is parsed into its unit, and a wrong one is named.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from btcfi import secp256k1
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.transaction import OutPoint, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.buckets import MAX_TOLERANCE, PayoutRule, StepRule, ToleranceRule
from btcfi.contracts.leaves import TREES
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import EVENT_VERSIONS, OF_PATH, Announcement, OracleEvent
from btcfi.oracle.attestation import Attestation
from btcfi.oracle.fixing import EXPECTED
from btcfi.oracle.path import PATH
from btcfi.records import BASE64, HASH, TEXT, Refused, Rule, hexadecimal, listed, record, teach, unhex, whole
from btcfi.units import CentsPerBtc, Hash32, Height, Sats, Txid, cents_per_btc, display_txid

VERSION: Final = 3
"""Of contracts, and of the messages that set one up: since 2 a CET pays a fee of its own, since 3 payouts follow a
tolerance of premium and payout, and a part that is dust becomes the nearer of nothing and the dust limit."""

VERSIONS: Final = (1, 2, 3)
"""What is read: contracts of an earlier version are watched to their end, and no new one is made."""

CLOSE_VERSION: Final = 1
"""Of the messages of a close."""

ATTESTATION_VERSION: Final = 1

CET_FEE: Final = Sats(1_000)
"""What a CET pays by itself: about 5 sat/vB, so that any node takes it alone, whatever becomes of its child."""

MAX_MESSAGE_BYTES: Final = 64 << 20
"""Of one message: 50,000 buckets with three sets of oracles are 13 MB of base64."""

MAX_COINS: Final = 100
"""Inputs that one party may bring: more would make a funding that no node relays cheaply."""

SEALED_WITNESSES: Final = "sealed_witnesses"
"""Field of a sign message that goes by the service: the funding witnesses, sealed to the other side, as base64."""

MAX_SEALED_BYTES: Final = 1 << 20
"""Of these: MAX_COINS witnesses of P2WSH are a tenth of it."""

_OF_TOLERANCE: Final = 3
"""The first version whose payouts follow a tolerance; the ones before it have steps."""

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
    rule: PayoutRule
    """Steps in versions 1 and 2, a tolerance from version 3 on."""
    breakpoints: tuple[CentsPerBtc, ...]
    """Prices at which the payoff turns or jumps."""
    announcements: tuple[Announcement, ...]
    threshold: int = 1
    tree: str = "standard"
    release_hash: Hash32 | None = None
    cet_fee: Sats = CET_FEE
    """What each CET pays by itself; out of the seller's part, out of the buyer's only where that is all there is."""
    version: int = VERSION

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a CET fee in version 1, which has none, and for another version's rule."""
        if self.version == 1 and self.cet_fee:
            raise InvalidInputError("cet_fee_sats", f"{self.cet_fee} in version 1", f"version {VERSION}, or no fee")
        if self.version < _OF_TOLERANCE and isinstance(self.rule, ToleranceRule):
            raise InvalidInputError("tolerance_bps", f"in version {self.version}", "step_sats, or version 3")
        if self.version >= _OF_TOLERANCE and isinstance(self.rule, StepRule):
            raise InvalidInputError("step_sats", f"in version {self.version}", "tolerance_bps, or an earlier version")

    @property
    def nearest_dust(self) -> bool:
        """Whether a part that is dust becomes the nearer of nothing and the dust limit, and not always nothing."""
        return self.version >= _OF_TOLERANCE


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
    version: int = VERSION
    """The offer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Third message: the offering side's pre-signatures, and last of all its funding signatures."""

    contract_id: Hash32
    presignatures: bytes = field(repr=False)
    witnesses: Mapping[int, tuple[bytes, ...]]
    """By funding input."""
    version: int = VERSION
    """The offer's."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What the service says of a sale that has come to nothing: what was named for it is free again."""

    offer_id: str
    """Of the offer that was made for it, as hex; empty where the service has seen none."""


def contract_id(offer: Offer, party: Party) -> Hash32:
    """Return the identity of a contract: the offer and the accepting side's half."""
    return tagged_hash(_CONTRACT_TAG, offer.id + canonical(encode_party(party)))


def canonical(message: Json) -> bytes:
    """Return the one byte form of a JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(message, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


# ---- encoding


def encode_offer(offer: Offer) -> Json:
    """Return the offer as JSON."""
    head = {"type": "btcfi/offer", "role": offer.role.value}
    return head | {"party": encode_party(offer.party)} | _encode_terms(offer.terms)


def encode_order(order: Order) -> Json:
    """Return an order as JSON: an offer without its party."""
    return {"type": "btcfi/order", "role": order.role.value} | _encode_terms(order.terms)


def _encode_terms(terms: ContractTerms) -> Json:
    fee = {"cet_fee_sats": terms.cet_fee} if terms.version > 1 else {}
    return {
        "version": terms.version,
        "option": terms.option,
        "collateral_sats": terms.collateral,
        "premium_sats": terms.premium,
        "expiry_height": terms.expiry_height,
        "refund_height": terms.refund_height,
        "funding_sats_per_kvb": terms.rate,
        **_encode_rule(terms.rule),
        "breakpoint_cents": list(terms.breakpoints),
        "oracles": [encode_announcement(one) for one in terms.announcements],
        "threshold": terms.threshold,
        "tree": terms.tree,
        "release_hash": terms.release_hash.hex() if terms.release_hash else None,
    } | fee


def _encode_rule(rule: PayoutRule) -> Json:
    if isinstance(rule, ToleranceRule):
        return {"tolerance_bps": rule.tolerance}
    return {"step_sats": rule.step, "rounding": rule.rounding.value}


def encode_accept(accept: Accept) -> Json:
    """Return the accept message as JSON."""
    return {
        "type": "btcfi/accept",
        "version": accept.version,
        "offer_id": accept.offer_id.hex(),
        "party": encode_party(accept.party),
        "cet_adaptor_signatures": b64encode(accept.presignatures).decode(),
    }


def encode_sign(sign: Sign) -> Json:
    """Return the sign message as JSON."""
    return {
        "type": "btcfi/sign",
        "version": sign.version,
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
        "version": CLOSE_VERSION,
        "offer_id": order.offer_id.hex(),
        "payout_sats": order.payout,
        "sats_per_kvb": order.rate,
        "guest_input": order.guest_input.hex(),
    }


def encode_proposal(proposal: Order) -> Json:
    """Return as JSON what the service asks one side to offer: an order that nobody but the owner's mandate backs."""
    return encode_order(proposal) | {"type": "btcfi/proposal"}


def encode_close_proposal(proposal: CloseOrder) -> Json:
    """Return as JSON what the service asks one side to close."""
    return encode_close_order(proposal) | {"type": "btcfi/close-proposal"}


def encode_withdrawal(withdrawal: Withdrawal) -> Json:
    """Return as JSON that a sale has come to nothing."""
    return {"type": "btcfi/withdrawal", "version": CLOSE_VERSION, "offer_id": withdrawal.offer_id}


def encode_close_request(request: CloseRequest) -> Json:
    """Return the close request as JSON."""
    return {
        "type": "btcfi/close-request",
        "version": CLOSE_VERSION,
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
        "version": CLOSE_VERSION,
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
            **({} if event.version == 1 else {"version": event.version, "fixing": str(event.fixing)}),
            **({"dlc_event": event.dlc_event.hex()} if event.dlc_event else {}),
            **({} if event.path is None else {"path": str(event.path)}),
        },
        "nonces": [nonce.hex() for nonce in announcement.nonces],
        "proofs": [proof.hex() for proof in announcement.proofs],
        "signature": announcement.signature.hex(),
    }


def encode_attestation(attestation: Attestation) -> Json:
    """Return an attestation as JSON."""
    return {
        "type": "btcfi/attestation",
        "version": ATTESTATION_VERSION,
        "oracle_key": attestation.oracle_key.hex(),
        "event_id": attestation.event.hex(),
        "outcome": attestation.outcome,
        "signatures": [signature.hex() for signature in attestation.signatures],
    }


def encode_party(party: Party) -> Json:
    """Return one side's half as JSON."""
    return {
        "key": party.key.hex(),
        "payout_script": party.payout_script.hex(),
        "change_script": party.change_script.hex(),
        "coins": [encode_coin(coin) for coin in party.coins],
    }


def encode_coin(coin: Coin) -> Json:
    """Return a coin as JSON."""
    return {
        "txid": display_txid(coin.outpoint.txid),
        "vout": coin.outpoint.index,
        "value_sats": coin.value,
        "script": coin.output.script.hex(),
    }


# ---- decoding

_RATE: Final = whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE)
_HEX: Final = hexadecimal()
_MAX_INDEX: Final = 0xFFFFFFFF


def _point(text: object) -> bytes:
    key = hexadecimal(33)(text)
    if not secp256k1.is_point(key):
        raise Refused("", "is not on the curve", "a compressed point, 33 bytes")
    return key


def _coin(value: object) -> Coin:
    wire = _COIN(value)
    return Coin(outpoint=OutPoint(txid=wire.txid, index=wire.vout), output=TxOut(value=wire.value, script=wire.script))


def _tree(name: object) -> str:
    if not isinstance(name, str) or name not in TREES:
        raise ValueError(name)
    return name


def _offer_name(text: str) -> str:
    if text != "" and len(unhex(text)) != len(Hash32(bytes(32))):
        raise ValueError(text)
    return text


def _witnesses(value: Mapping[str, list[str]]) -> dict[int, tuple[bytes, ...]]:
    if not all(isinstance(witness, list) for witness in value.values()):  # text and objects have items, too
        raise ValueError("a witness is no list")
    found = {int(index): tuple(unhex(item) for item in witness) for index, witness in value.items()}
    if [str(index) for index in found] != list(value) or not all(0 <= index <= _MAX_INDEX for index in found):
        raise ValueError("an input's number is in other digits than 0-9, or no transaction has so many inputs")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _WireCoin:
    """A coin as a message names it: flat."""

    txid: Txid
    vout: int
    value: Sats
    script: bytes


_COIN: Final = record(_WireCoin, vout=whole(0, 0xFFFFFFFF), value="value_sats", script=_HEX)

COIN: Final = Rule(_coin, "a coin")
"""A coin in a message."""

COINS: Final = listed(COIN, MAX_COINS)

PARTY: Final = record(
    Party,
    key=Rule(_point, "33 bytes as hex"),
    payout_script=_HEX,
    change_script=_HEX,
    coins=COINS,
)
"""One side's half in a message."""

_EVENT: Final = record(
    OracleEvent,
    feed=TEXT,
    expiry="expiry_unix",
    digits=whole(1, 25),
    version=whole(EVENT_VERSIONS[0], EVENT_VERSIONS[-1]),
    dlc_event=_HEX,
    path=PATH,  # never null: an event of another version has none
    may_lack=("version", "fixing", "dlc_event", "path"),
)


def _event(value: Json) -> OracleEvent:
    """Return the event of a JSON object: one of version 1 names neither version nor fixing, versions 2 and 4 both."""
    if isinstance(value, dict) and value.get("version") == OF_PATH and "path" not in value:
        raise Refused(".path", "missing", PATH.expected)
    event = _EVENT(value)
    if event.version in {2, OF_PATH} and "fixing" not in value:
        raise Refused(".fixing", "missing", EXPECTED)
    if event.version == 1 and "version" in value:
        raise Refused(".version", "1, which is left out", "no version, or 2 with a fixing")
    return event


teach(OracleEvent, Rule(_event, "a JSON object"))

_ANNOUNCEMENT: Final = record(
    Announcement,
    oracle_key=hexadecimal(32),
    nonces=listed(_HEX, 64),
    proofs=listed(_HEX, 64),
    signature=hexadecimal(64),
)

read_announcements: Final = listed(_ANNOUNCEMENT, 16).parse
"""Reads the announcements of a contract's oracles, for messages of other kinds of contract; unchecked."""

read_witnesses: Final = _witnesses
"""Reads witnesses by funding input, for the same."""

_VERSION: Final = whole(VERSIONS[0], VERSIONS[-1])

_STEP: Final = record(StepRule, step="step_sats")

_TOLERANCE: Final = record(
    ToleranceRule, tolerance=("tolerance_bps", Rule(whole(1, MAX_TOLERANCE).parse, "1 to 10000 basis points"))
)

_RULE: Final = "payout rule"
"""Where ``_terms_of`` puts the rule that it has read: no field of a message has this name."""

_TERMS: Final = record(
    ContractTerms,
    option=Rule(lambda value: dict(value.items()), "the option's terms, an object"),
    collateral="collateral_sats",
    premium="premium_sats",
    rate=("funding_sats_per_kvb", _RATE),
    rule=(_RULE, Rule(lambda rule: rule, "a payout rule")),
    breakpoints=("breakpoint_cents", listed(Rule(cents_per_btc, "a price in cents"), 16)),
    announcements=("oracles", listed(_ANNOUNCEMENT, 16)),
    threshold=whole(1, 16),
    tree=Rule(_tree, "one of " + ", ".join(TREES)),
    cet_fee="cet_fee_sats",
    version=_VERSION,
)

_ACCEPT: Final = record(Accept, presignatures=("cet_adaptor_signatures", BASE64), version=_VERSION)

_SIGN: Final = record(
    Sign,
    presignatures=("cet_adaptor_signatures", BASE64),
    witnesses=("funding_witnesses", Rule(_witnesses, "input numbers with lists of hex")),
    version=_VERSION,
)

_CLOSE_ORDER: Final = record(
    CloseOrder, offer_id=HASH, payout="payout_sats", rate=("sats_per_kvb", _RATE), guest_input=_HEX
)

_WITHDRAWAL: Final = record(Withdrawal, offer_id=Rule(_offer_name, "an offer's id, 64 hex digits, or nothing"))

_CLOSE_REQUEST: Final = record(
    CloseRequest, payout="payout_sats", rate=("sats_per_kvb", _RATE), guest_input=_HEX, nonce=hexadecimal(66)
)

_CLOSE_ANSWER: Final = record(CloseAnswer, nonce=hexadecimal(66), partial=hexadecimal(32))

_ATTESTATION: Final = record(
    Attestation,
    oracle_key=hexadecimal(32),
    event=("event_id", HASH),
    outcome=whole(0, 1 << 26),
    signatures=listed(_HEX),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What every message starts with."""

    type: str
    version: int


_HEAD: Final = record(_Head, version=whole(0, 1 << 16))


def _body(rule: Rule[T], message: object, kind: str, versions: tuple[int, ...] = (CLOSE_VERSION,)) -> T:
    """Return the record of a message of this kind, and of a version that is read."""
    head = _HEAD.read(message, kind)
    if head.type != kind or head.version not in versions:
        raise InvalidInputError("message", f"{head.type!r} version {head.version}", f"{kind!r} version {versions[-1]}")
    return rule.read(message, kind)


def _terms_of(message: object, kind: str) -> ContractTerms:
    """Return the terms in an offer or an order.

    Version 1 knows no fee of a CET, later ones must say it; versions 1 and 2 pay in steps, later ones by a tolerance.
    A field of another version is refused: its writer would think that it says something.
    """
    head = _HEAD.read(message, kind)
    if head.type == kind and head.version in VERSIONS and isinstance(message, dict):
        foreign = ("tolerance_bps",) if head.version < _OF_TOLERANCE else ("step_sats", "rounding")
        for name in ("cet_fee_sats",) * (head.version == 1) + foreign:
            if name in message:
                raise InvalidInputError(f"{kind}.{name}", f"in version {head.version}", "a version that has it")
        rule = _STEP if head.version < _OF_TOLERANCE else _TOLERANCE
        message = message | {_RULE: rule.read(message, kind)} | ({"cet_fee_sats": 0} if head.version == 1 else {})
    return _body(_TERMS, message, kind, VERSIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """Of an offer or an order, what stands beside its terms."""

    role: Role


_SIDE: Final = record(_Side)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfferSide:
    role: Role
    party: Party


_OFFER_SIDE: Final = record(_OfferSide)


def decode_offer(message: object) -> Offer:
    """Return the offer of a JSON value. Raises InvalidInputError naming the field."""
    terms, side = _terms_of(message, "btcfi/offer"), _OFFER_SIDE.read(message, "btcfi/offer")
    return Offer(terms=terms, role=side.role, party=side.party)


def decode_order(message: object) -> Order:
    """Return the order of a JSON value. Raises InvalidInputError naming the field."""
    terms, side = _terms_of(message, "btcfi/order"), _SIDE.read(message, "btcfi/order")
    return Order(terms=terms, role=side.role)


def decode_proposal(message: object) -> Order:
    """Return what the service proposes to offer. Raises InvalidInputError naming the field."""
    terms, side = _terms_of(message, "btcfi/proposal"), _SIDE.read(message, "btcfi/proposal")
    return Order(terms=terms, role=side.role)


def decode_close_proposal(message: object) -> CloseOrder:
    """Return what the service proposes to close. Raises InvalidInputError naming the field."""
    return _body(_CLOSE_ORDER, message, "btcfi/close-proposal")


def decode_withdrawal(message: object) -> Withdrawal:
    """Return what the service says of a sale that has come to nothing. Raises InvalidInputError naming the field."""
    return _body(_WITHDRAWAL, message, "btcfi/withdrawal")


def decode_accept(message: object) -> Accept:
    """Return the accept message of a JSON value. Raises InvalidInputError naming the field."""
    return _body(_ACCEPT, message, "btcfi/accept", VERSIONS)


def decode_sign(message: object) -> Sign:
    """Return the sign message of a JSON value. Raises InvalidInputError naming the field."""
    return _body(_SIGN, message, "btcfi/sign", VERSIONS)


def check_sealed(message: Json) -> None:
    """Check that a sign message has its funding witnesses sealed and none plain. Raises InvalidInputError.

    With a plain one the carrier, or whoever reads its store, could fund the contract in the other side's place.
    """
    if decode_sign(message).witnesses:
        raise InvalidInputError("sign.funding_witnesses", "plain", f"none: they are sealed in {SEALED_WITNESSES}")
    sealed = BASE64.read(message.get(SEALED_WITNESSES), f"sign.{SEALED_WITNESSES}")
    if not 0 < len(sealed) <= MAX_SEALED_BYTES:
        expected = f"1 to {MAX_SEALED_BYTES:,} bytes"
        raise InvalidInputError(f"sign.{SEALED_WITNESSES}", f"{len(sealed):,} bytes", expected)


def decode_close_order(message: object) -> CloseOrder:
    """Return the order to close of a JSON value. Raises InvalidInputError naming the field."""
    return _body(_CLOSE_ORDER, message, "btcfi/close-order")


def decode_close_request(message: object) -> CloseRequest:
    """Return the close request of a JSON value. Raises InvalidInputError naming the field."""
    return _body(_CLOSE_REQUEST, message, "btcfi/close-request")


def decode_close_answer(message: object) -> CloseAnswer:
    """Return the answer of a JSON value. Raises InvalidInputError naming the field."""
    return _body(_CLOSE_ANSWER, message, "btcfi/close-answer")


def decode_announcement(message: object) -> Announcement:
    """Return the announcement of a JSON value, unchecked. Raises InvalidInputError naming the field."""
    return _ANNOUNCEMENT.read(message, "oracle")


def decode_attestation(message: object) -> Attestation:
    """Return the attestation of a JSON value, unchecked. Raises InvalidInputError naming the field."""
    return _body(_ATTESTATION, message, "btcfi/attestation")
