"""The messages of a contract that leaves judge: JSON with exactly these fields, and signatures as bytes of one length.

Strict: what has another field, another length or another form is refused before it is looked at. What is in it is
checked by ``deal``, ``terms`` and ``graph``. A contract's identity is the hash of both halves, and every later message
names it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeVar

from btcfi import secp256k1
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.messages import COINS, canonical, encode_coin
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.garbled.deal import Payoff
from btcfi.disputes.garbled.deal_messages import PAYOFF, encode_payoff
from btcfi.disputes.leaves.deal import LeafAcceptance, LeafDraft, LeafProposal
from btcfi.disputes.leaves.graph import ClaimSignatures, LeafGraph
from btcfi.disputes.leaves.oracles import AnnouncedWord
from btcfi.disputes.leaves.program import ARGUMENTS, MAX_STEPS
from btcfi.disputes.leaves.terms import MAX_BLOCKS, LeafClaimant, LeafVerifier
from btcfi.disputes.leaves.words import LINK_SIZE, Word
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.records import BASE64, HASH, Rule, hexadecimal, listed, record, unhex, whole
from btcfi.units import MAX_MONEY_SATS, Hash32, Height, Sats, UnixSeconds

VERSION: Final = 1

PROPOSAL: Final = "btcfi/leaf-proposal"
ACCEPTANCE: Final = "btcfi/leaf-acceptance"
SILENCE: Final = "btcfi/leaf-silence"
CLAIMS: Final = "btcfi/leaf-claims"

_PROPOSAL_TAG: Final = "BTCFi/dispute/leaf-proposal/v1"
_CONTRACT_TAG: Final = "BTCFi/dispute/leaf-contract/v1"
_SIGNATURE_SIZE: Final = 64
_MAX_SCRIPT: Final = 42
"""Bytes of the longest witness program. Source: BIP141."""
_MAX_ORACLES: Final = 16
_MAX_NAME: Final = 16

Json = dict[str, Any]

T = TypeVar("T")

_VERSION: Final = whole(VERSION, VERSION)
_SCRIPT: Final = hexadecimal(at_most=_MAX_SCRIPT)
_XONLY: Final = hexadecimal(32)
_POINT: Final = hexadecimal(33)


# ---- the halves


def _word(text: Any) -> Word:  # noqa: ANN401 - JSON
    raw = unhex(text)
    if len(raw) % LINK_SIZE:
        raise InvalidInputError("word", f"{len(raw)} bytes", f"a multiple of {LINK_SIZE}")
    return Word(ends=tuple(raw[at : at + LINK_SIZE] for at in range(0, len(raw), LINK_SIZE)))


def _words(value: Any) -> Mapping[str, Word]:  # noqa: ANN401 - JSON
    if not isinstance(value, dict) or not 1 <= len(value) <= ARGUMENTS + MAX_STEPS:
        raise InvalidInputError("words", type(value).__name__, "an object of one-time keys by word")
    if any(len(name) > _MAX_NAME for name in value):
        raise InvalidInputError("words", "a long name", f"at most {_MAX_NAME} characters")
    return {name: _word(text) for name, text in value.items()}


_WORD: Final = Rule(_word, "the ends of its chains as hex, 20 bytes each")
_ANNOUNCED: Final = record(
    AnnouncedWord, exact=True, oracle_key=_XONLY, event=("event_id", HASH), word=_WORD, signature=hexadecimal(64)
)
_CLAIMANT: Final = record(
    LeafClaimant, exact=True, open=_POINT, claim=_XONLY, payout=_XONLY, words=Rule(_words, "one-time keys by word"),
    script=_SCRIPT,
)  # fmt: skip
_VERIFIER: Final = record(
    LeafVerifier, exact=True, open=_POINT, claim=_XONLY, escrow=_XONLY, silence=_XONLY, script=_SCRIPT
)


def _encode_announced(one: AnnouncedWord) -> Json:
    return {
        "oracle_key": one.oracle_key.hex(), "event_id": one.event.hex(), "word": b"".join(one.word.ends).hex(),
        "signature": one.signature.hex(),
    }  # fmt: skip


# ---- proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    """A proposal as it is written: flat."""

    type: str
    version: int
    payoff: Payoff
    events: tuple[tuple[AnnouncedWord, ...], ...]
    threshold: int
    collateral_sats: Sats
    bond_sats: Sats
    silence_height: Height
    refund_height: Height
    dispute_blocks: int
    fee_sats: Sats
    premium_sats: int
    opening_sats_per_kvb: int
    valid_until_unix: UnixSeconds
    keys: LeafClaimant
    coins: tuple[Coin, ...]
    change_script: bytes
    identity: bytes
    signature: bytes


_PROPOSAL: Final = record(
    _Proposal, exact=True, version=_VERSION, payoff=PAYOFF,
    events=listed(listed(_ANNOUNCED, _MAX_ORACLES), ARGUMENTS), threshold=whole(1, _MAX_ORACLES),
    dispute_blocks=whole(1, MAX_BLOCKS), premium_sats=whole(-MAX_MONEY_SATS, MAX_MONEY_SATS),
    opening_sats_per_kvb=whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE), keys=_CLAIMANT, coins=COINS, change_script=_SCRIPT,
    identity=_XONLY, signature=hexadecimal(64),
)  # fmt: skip


def encode_proposal(proposal: LeafProposal) -> Json:
    """Return a proposal as JSON."""
    return _unsigned(proposal) | {"signature": proposal.signature.hex()}


def _unsigned(proposal: LeafProposal) -> Json:
    draft, keys = proposal.draft, proposal.keys
    return {
        "type": PROPOSAL, "version": VERSION, "payoff": encode_payoff(draft.payoff),
        "events": [[_encode_announced(one) for one in event] for event in draft.events],
        "threshold": draft.threshold, "collateral_sats": draft.collateral, "bond_sats": draft.bond,
        "silence_height": draft.silence_height, "refund_height": draft.refund_height,
        "dispute_blocks": draft.dispute_blocks, "fee_sats": draft.fee, "premium_sats": draft.premium,
        "opening_sats_per_kvb": draft.rate, "valid_until_unix": draft.valid_until,
        "keys": {
            "open": keys.open.hex(), "claim": keys.claim.hex(), "payout": keys.payout.hex(),
            "words": {name: b"".join(word.ends).hex() for name, word in keys.words.items()},
            "script": keys.script.hex(),
        },
        "coins": [encode_coin(one) for one in proposal.coins], "change_script": proposal.change_script.hex(),
        "identity": proposal.identity.hex(),
    }  # fmt: skip


def proposal_id(proposal: LeafProposal) -> Hash32:
    """Return a proposal's identity: the hash of all of it but its signature."""
    return tagged_hash(_PROPOSAL_TAG, canonical(_unsigned(proposal)))


def check_proposer(proposal: LeafProposal) -> None:
    """Check that a proposal is its identity's. Raises WrongMessageError."""
    if not secp256k1.schnorr_verify(proposal.identity, proposal_id(proposal), proposal.signature):
        raise WrongMessageError("leaf proposal", f"is not signed by {proposal.identity.hex()[:16]}, its identity")


def decode_proposal(message: object) -> LeafProposal:
    """Return a proposal. Raises InvalidInputError naming the field; whose it is, ``check_proposer`` says.

    The order of the claimant's words is the claim's, whatever that of the JSON.
    """
    flat = _PROPOSAL.read(message, "proposal")
    _check_type(flat.type, PROPOSAL)
    draft = LeafDraft(
        payoff=flat.payoff, events=flat.events, threshold=flat.threshold, collateral=flat.collateral_sats,
        bond=flat.bond_sats, silence_height=flat.silence_height, refund_height=flat.refund_height,
        dispute_blocks=flat.dispute_blocks, fee=flat.fee_sats, premium=flat.premium_sats,
        rate=SatsPerKvb(flat.opening_sats_per_kvb), valid_until=flat.valid_until_unix,
    )  # fmt: skip
    names = draft.claim.words
    if set(flat.keys.words) != set(names):
        raise InvalidInputError("proposal.keys.words", ", ".join(sorted(flat.keys.words))[:80], ", ".join(names))
    words = {name: flat.keys.words[name] for name in names}
    keys = LeafClaimant(
        open=flat.keys.open, claim=flat.keys.claim, payout=flat.keys.payout, words=words, script=flat.keys.script
    )  # fmt: skip
    made = LeafProposal(
        draft=draft, keys=keys, coins=flat.coins, change_script=flat.change_script, identity=flat.identity,
        signature=flat.signature,
    )  # fmt: skip
    return _whole("proposal", message, encode_proposal(made), made)


# ---- acceptance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Acceptance:
    type: str
    version: int
    proposal_id: Hash32
    keys: LeafVerifier
    coins: tuple[Coin, ...]
    change_script: bytes


_ACCEPTANCE: Final = record(
    _Acceptance, exact=True, version=_VERSION, proposal_id=HASH, keys=_VERIFIER, coins=COINS, change_script=_SCRIPT
)


def encode_acceptance(half: LeafAcceptance) -> Json:
    """Return an acceptance as JSON."""
    keys = half.keys
    return {
        "type": ACCEPTANCE, "version": VERSION, "proposal_id": half.proposal_id.hex(),
        "keys": {
            "open": keys.open.hex(), "claim": keys.claim.hex(), "escrow": keys.escrow.hex(),
            "silence": keys.silence.hex(), "script": keys.script.hex(),
        },
        "coins": [encode_coin(one) for one in half.coins], "change_script": half.change_script.hex(),
    }  # fmt: skip


def decode_acceptance(message: object) -> LeafAcceptance:
    """Return an acceptance. Raises InvalidInputError naming the field."""
    flat = _ACCEPTANCE.read(message, "acceptance")
    _check_type(flat.type, ACCEPTANCE)
    made = LeafAcceptance(
        proposal_id=flat.proposal_id, keys=flat.keys, coins=flat.coins, change_script=flat.change_script
    )  # fmt: skip
    return _whole("acceptance", message, encode_acceptance(made), made)


def contract_id(proposal: LeafProposal, acceptance: LeafAcceptance) -> Hash32:
    """Return a contract's identity: both halves."""
    return tagged_hash(_CONTRACT_TAG, proposal_id(proposal) + canonical(encode_acceptance(acceptance)))


# ---- letters: what is signed before the opening


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafLetter:
    """A message of a contract that both know: its bytes are of a form that is known there."""

    kind: str
    contract: Hash32
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    type: str
    version: int
    contract_id: Hash32
    data: bytes


_LETTER: Final = record(_Letter, exact=True, version=_VERSION, contract_id=HASH, data=BASE64)


def encode_letter(letter: LeafLetter) -> Json:
    """Return a letter as JSON."""
    return {
        "type": letter.kind, "version": VERSION, "contract_id": letter.contract.hex(),
        "data": b64encode(letter.data).decode(),
    }  # fmt: skip


def decode_letter(message: object) -> LeafLetter:
    """Return silence or claims. Raises InvalidInputError naming the field."""
    flat = _LETTER.read(message, "letter")
    _check_type(flat.type, SILENCE, CLAIMS)
    return LeafLetter(kind=flat.type, contract=flat.contract_id, data=flat.data)


def encode_silence(signatures: list[bytes]) -> bytes:
    """Return the claimant's signatures of the claim of silence, in the order of the sets of oracles."""
    return b"".join(signatures)


def decode_silence(graph: LeafGraph, data: bytes) -> list[bytes]:
    """Return them. Raises InvalidInputError for another length; ``graph.check_silence`` says whether they are right."""
    return _signatures("silence", data, len(graph.terms.sets))


def encode_claims(graph: LeafGraph, signatures: ClaimSignatures) -> bytes:
    """Return the verifier's signatures of claims: by range, of the opening's before those of silence's, by set."""
    return b"".join(signatures[key] for key in _claim_keys(graph))


def decode_claims(graph: LeafGraph, data: bytes) -> ClaimSignatures:
    """Return them. Raises InvalidInputError for another length; ``graph.check_claims`` says whether they are right."""
    keys = _claim_keys(graph)
    return dict(zip(keys, _signatures("claims", data, len(keys)), strict=True))


def _claim_keys(graph: LeafGraph) -> list[tuple[int, bool, int]]:
    numbers = range(len(graph.terms.claim.payouts))
    return [(number, silent, which) for number, (silent, which) in product(numbers, list(graph.parents))]


def _signatures(what: str, data: bytes, count: int) -> list[bytes]:
    if len(data) != _SIGNATURE_SIZE * count:
        raise InvalidInputError(what, f"{len(data)} bytes", f"{_SIGNATURE_SIZE * count} bytes")
    return [data[at : at + _SIGNATURE_SIZE] for at in range(0, len(data), _SIGNATURE_SIZE)]


def _whole(what: str, message: object, again: Json, made: T) -> T:
    """Return what was read of a message, if it says nothing else: a coin's record takes fields that it does not know.

    What both halves hash to would not tell the difference. Raises InvalidInputError.
    """
    if canonical(dict(message) if isinstance(message, dict) else {}) != canonical(again):
        raise InvalidInputError(what, "says more than is read of it", "exactly its fields")
    return made


def _check_type(said: str, *kinds: str) -> None:
    if said not in kinds:
        raise InvalidInputError("type", said[:40], " or ".join(kinds))
