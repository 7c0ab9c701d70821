"""The messages by which two parties deal a net book: proposal, answer, signatures. JSON; bytes as hex or base64.

    who proposes    proposal: book, oracles, net premium, heights, its coins, signed by its identity
    who answers     answer: its half, pre-signatures of every CET, its signature of the refund
    who proposed    signatures: the same of its own, and last of all its witnesses of the funding

They carry what a contract's offer, accept and sign messages carry; what the book pays is in none of them: each side
computes it from the book's one form in bytes. A reader trusts nothing, and a field that it does not know is refused.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.contracts.buckets import MAX_TOLERANCE, ToleranceRule
from btcfi.contracts.messages import (
    PARTY,
    Party,
    Role,
    canonical,
    encode_announcement,
    encode_party,
    read_announcements,
    read_witnesses,
)
from btcfi.contracts.netting import NettedSignatures
from btcfi.contracts.setup import WrongMessageError
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement
from btcfi.payoffs.book import LEG_BYTES, Book
from btcfi.payoffs.curve import MAX_LEGS
from btcfi.records import BASE64, HASH, Rule, hexadecimal, record, whole
from btcfi.units import MAX_MONEY_SATS, BasisPoints, Hash32, Height, Sats, UnixSeconds

VERSION: Final = 1

PROPOSAL: Final = "btcfi/book-proposal"
ANSWER: Final = "btcfi/book-answer"
SIGNATURES: Final = "btcfi/book-signatures"

MAX_BOOK_BYTES: Final = 64 + LEG_BYTES.size * MAX_LEGS

_PROPOSAL_TAG: Final = "BTCFi/book/proposal/v1"
_CONTRACT_TAG: Final = "BTCFi/book/contract/v1"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookTerms:
    """What both sides sign up to, apart from their keys and coins; what each puts in follows from the book."""

    book: Book
    announcements: tuple[Announcement, ...]
    threshold: int
    premium: int
    """Satoshis that the holder pays the writer, net; below zero: the writer pays."""
    legs_premium: Sats
    """What the tolerance is of: the sum of the sizes of the legs' premiums."""
    tolerance: BasisPoints
    expiry_height: Height
    refund_height: Height
    rate: SatsPerKvb
    """Of the funding."""
    cet_fee: Sats
    """Of each CET and of the refund, by itself."""
    valid_until: UnixSeconds
    """From this second of one's own clock on nothing of it is signed that was not signed before."""

    @property
    def rule(self) -> ToleranceRule:
        """By which ranges of prices are made."""
        return ToleranceRule(tolerance=self.tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """First message: one side's terms and coins, under its identity's signature."""

    terms: BookTerms
    role: Role
    """Of the side that proposes: the holder signs as buyer, the writer as seller."""
    party: Party
    identity: bytes
    """By which the other side knows it, x-only."""
    signature: bytes = field(repr=False)
    """BIP340 of the id, by the identity."""

    @property
    def id(self) -> Hash32:
        """Hash of all of it but the signature."""
        return tagged_hash(_PROPOSAL_TAG, canonical(_unsigned(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Second message: the other side's half and what it signs before the funding."""

    proposal_id: Hash32
    party: Party
    signatures: NettedSignatures = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """Third message: what the proposing side signs before the funding, and last of all its funding inputs."""

    contract_id: Hash32
    signatures: NettedSignatures = field(repr=False)
    witnesses: Mapping[int, tuple[bytes, ...]] = field(repr=False)
    """By funding input."""


def contract_id(proposal: Proposal, answering: Party) -> Hash32:
    """Return the identity of a book's contract: the proposal and the answering side's half."""
    return tagged_hash(_CONTRACT_TAG, proposal.id + canonical(encode_party(answering)))


def propose(terms: BookTerms, *, role: Role, party: Party, identity_secret: bytes, aux: bytes) -> Proposal:
    """Return a proposal signed by an identity. aux: 32 fresh random bytes."""
    identity = secp256k1.public_key_xonly(identity_secret)
    unsigned = Proposal(terms=terms, role=role, party=party, identity=identity, signature=bytes(64))
    return replace(unsigned, signature=secp256k1.schnorr_sign(identity_secret, unsigned.id, aux))


def check_proposer(proposal: Proposal) -> None:
    """Check that a proposal is its identity's. Raises WrongMessageError."""
    if not secp256k1.schnorr_verify(proposal.identity, proposal.id, proposal.signature):
        raise WrongMessageError("book proposal", f"is not signed by {proposal.identity.hex()[:16]}, its identity")


# ---- encoding


def encode_proposal(proposal: Proposal) -> Json:
    """Return a proposal as JSON."""
    return _unsigned(proposal) | {"signature": proposal.signature.hex()}


def _unsigned(proposal: Proposal) -> Json:
    terms = proposal.terms
    return {
        "type": PROPOSAL,
        "version": VERSION,
        "role": proposal.role.value,
        "party": encode_party(proposal.party),
        "identity": proposal.identity.hex(),
        "book": terms.book.to_bytes().hex(),
        "oracles": [encode_announcement(one) for one in terms.announcements],
        "threshold": terms.threshold,
        "premium_sats": terms.premium,
        "legs_premium_sats": terms.legs_premium,
        "tolerance_bps": terms.tolerance,
        "expiry_height": terms.expiry_height,
        "refund_height": terms.refund_height,
        "funding_sats_per_kvb": terms.rate,
        "cet_fee_sats": terms.cet_fee,
        "valid_until_unix": terms.valid_until,
    }


def encode_answer(answer: Answer) -> Json:
    """Return an answer as JSON."""
    return {
        "type": ANSWER,
        "version": VERSION,
        "proposal_id": answer.proposal_id.hex(),
        "party": encode_party(answer.party),
        **_encode_signed(answer.signatures),
    }


def encode_signatures(message: Signatures) -> Json:
    """Return the signatures of the side that proposed as JSON."""
    return {
        "type": SIGNATURES,
        "version": VERSION,
        "contract_id": message.contract_id.hex(),
        **_encode_signed(message.signatures),
        "funding_witnesses": {
            str(index): [item.hex() for item in witness] for index, witness in sorted(message.witnesses.items())
        },
    }


def _encode_signed(signed: NettedSignatures) -> Json:
    return {
        "cet_adaptor_signatures": b64encode(signed.presignatures).decode(),
        "refund_signature": signed.refund.hex(),
    }


# ---- decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    """A proposal as it is written: flat."""

    type: str
    version: int
    role: Role
    party: Party
    identity: bytes
    book: bytes
    oracles: tuple[Announcement, ...]
    threshold: int
    premium_sats: int
    legs_premium_sats: Sats
    tolerance_bps: int
    expiry_height: Height
    refund_height: Height
    funding_sats_per_kvb: int
    cet_fee_sats: Sats
    valid_until_unix: UnixSeconds
    signature: bytes


_PROPOSAL: Final = record(
    _Proposal, exact=True, version=whole(VERSION, VERSION), party=PARTY, identity=hexadecimal(32),
    book=hexadecimal(at_most=MAX_BOOK_BYTES), oracles=Rule(read_announcements, "a list of announcements"),
    threshold=whole(1, 16), premium_sats=whole(-MAX_MONEY_SATS, MAX_MONEY_SATS), tolerance_bps=whole(1, MAX_TOLERANCE),
    funding_sats_per_kvb=whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE), signature=hexadecimal(64),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    type: str
    version: int
    proposal_id: Hash32
    party: Party
    cet_adaptor_signatures: bytes
    refund_signature: bytes


_ANSWER: Final = record(
    _Answer, exact=True, version=whole(VERSION, VERSION), proposal_id=HASH, party=PARTY, cet_adaptor_signatures=BASE64,
    refund_signature=hexadecimal(64),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signatures:
    type: str
    version: int
    contract_id: Hash32
    cet_adaptor_signatures: bytes
    refund_signature: bytes
    funding_witnesses: dict[int, tuple[bytes, ...]]


_SIGNATURES: Final = record(
    _Signatures, exact=True, version=whole(VERSION, VERSION), contract_id=HASH, cet_adaptor_signatures=BASE64,
    refund_signature=hexadecimal(64), funding_witnesses=Rule(read_witnesses, "input numbers with lists of hex"),
)  # fmt: skip


def _check_type(said: str, kind: str) -> None:
    if said != kind:
        raise InvalidInputError("message", repr(said[:40]), repr(kind))


def decode_proposal(message: object) -> Proposal:
    """Return the proposal of a JSON value, its signature unchecked. Raises InvalidInputError naming the field."""
    wire = _PROPOSAL.read(message, PROPOSAL)
    _check_type(wire.type, PROPOSAL)
    terms = BookTerms(
        book=Book.from_bytes(wire.book), announcements=wire.oracles, threshold=wire.threshold,
        premium=wire.premium_sats, legs_premium=wire.legs_premium_sats, tolerance=BasisPoints(wire.tolerance_bps),
        expiry_height=wire.expiry_height, refund_height=wire.refund_height, rate=SatsPerKvb(wire.funding_sats_per_kvb),
        cet_fee=wire.cet_fee_sats, valid_until=wire.valid_until_unix,
    )  # fmt: skip
    return Proposal(terms=terms, role=wire.role, party=wire.party, identity=wire.identity, signature=wire.signature)


def decode_answer(message: object) -> Answer:
    """Return the answer of a JSON value. Raises InvalidInputError naming the field."""
    wire = _ANSWER.read(message, ANSWER)
    _check_type(wire.type, ANSWER)
    signed = NettedSignatures(presignatures=wire.cet_adaptor_signatures, refund=wire.refund_signature)
    return Answer(proposal_id=wire.proposal_id, party=wire.party, signatures=signed)


def decode_signatures(message: object) -> Signatures:
    """Return the signatures of a JSON value. Raises InvalidInputError naming the field."""
    wire = _SIGNATURES.read(message, SIGNATURES)
    _check_type(wire.type, SIGNATURES)
    signed = NettedSignatures(presignatures=wire.cet_adaptor_signatures, refund=wire.refund_signature)
    return Signatures(contract_id=wire.contract_id, signatures=signed, witnesses=wire.funding_witnesses)
