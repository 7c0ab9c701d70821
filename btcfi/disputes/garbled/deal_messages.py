"""The messages of a disputed contract as JSON, versioned; a field that a reader does not know is refused.

Their order is in ``deal``. Bytes are hex, long ones base64: those of the set-up are ``messages``' own forms, whose
lengths follow from what both sides know, and are decoded where that is known.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb
from btcfi.bitcoin.musig import PARTIAL_SIZE, PUBLIC_NONCE_SIZE
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.messages import (
    COINS,
    canonical,
    encode_announcement,
    encode_coin,
    read_announcements,
    read_witnesses,
)
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.claims import MAX_EVENTS, MAX_RANGES, Ranges
from btcfi.disputes.garbled.deal import Acceptance, Barrier, Draft, Payoff, Proposal
from btcfi.disputes.garbled.terms import MAX_BLOCKS, MAX_SETS, ClaimantKeys, VerifierKeys
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement
from btcfi.records import BASE64, HASH, Rule, hexadecimal, listed, optional, record, whole
from btcfi.units import MAX_MONEY_SATS, Hash32, Height, Sats, UnixSeconds

VERSION: Final = 1

PROPOSAL: Final = "btcfi/dispute-proposal"
ACCEPTANCE: Final = "btcfi/dispute-acceptance"
COMMITMENTS: Final = "btcfi/dispute-commitments"
CUT: Final = "btcfi/dispute-cut"
OPENINGS: Final = "btcfi/dispute-openings"
CLAIMS: Final = "btcfi/dispute-claims"
FUNDING: Final = "btcfi/dispute-funding"
CLOSE: Final = "btcfi/dispute-close"
CLOSE_ANSWER: Final = "btcfi/dispute-close-answer"

_PROPOSAL_TAG: Final = "BTCFi/dispute/proposal/v1"
_CONTRACT_TAG: Final = "BTCFi/dispute/contract/v1"
_MAX_SCRIPT: Final = 42
"""Bytes of the longest witness program. Source: BIP141."""

Json = dict[str, Any]

_VERSION: Final = whole(VERSION, VERSION)
_SCRIPT: Final = hexadecimal(at_most=_MAX_SCRIPT)
_XONLY: Final = hexadecimal(32)
_POINT: Final = hexadecimal(33)
_SATS: Final = whole(0, MAX_MONEY_SATS)


# ---- the halves

_RANGES: Final = record(
    Ranges, exact=True, starts=("starts_usd", listed(whole(0, 1 << 40), MAX_RANGES)),
    payouts=("payouts_sats", listed(_SATS, MAX_RANGES)),
)  # fmt: skip
_BARRIER: Final = record(
    Barrier, exact=True, level=("level_usd", whole(1, 1 << 40)), rebate=("rebate_sats", _SATS),
)  # fmt: skip
PAYOFF: Final = record(Payoff, exact=True, ranges=_RANGES, barrier=optional(_BARRIER))
"""What is claimed, as a proposal and a person's file say it."""

_CLAIMANT: Final = record(
    ClaimantKeys, exact=True, open=_POINT, claim=_XONLY, both=_XONLY, payout=_XONLY,
    silence=listed(_XONLY, MAX_SETS), script=_SCRIPT,
)  # fmt: skip
_VERIFIER: Final = record(
    VerifierKeys, exact=True, open=_POINT, claim=_XONLY, both=_XONLY, overdue=_XONLY, bond=_XONLY, escrow=_POINT,
    digits=listed(_XONLY, MAX_SETS), script=_SCRIPT,
)  # fmt: skip


def _encode_claimant(keys: ClaimantKeys) -> Json:
    return {
        "open": keys.open.hex(), "claim": keys.claim.hex(), "both": keys.both.hex(), "payout": keys.payout.hex(),
        "silence": [one.hex() for one in keys.silence], "script": keys.script.hex(),
    }  # fmt: skip


def _encode_verifier(keys: VerifierKeys) -> Json:
    return {
        "open": keys.open.hex(), "claim": keys.claim.hex(), "both": keys.both.hex(), "overdue": keys.overdue.hex(),
        "bond": keys.bond.hex(), "escrow": keys.escrow.hex(), "digits": [one.hex() for one in keys.digits],
        "script": keys.script.hex(),
    }  # fmt: skip


def encode_payoff(payoff: Payoff) -> Json:
    """Return a payoff as JSON."""
    ranges, barrier = payoff.ranges, payoff.barrier
    return {
        "kind": payoff.kind.value,
        "ranges": {"starts_usd": list(ranges.starts), "payouts_sats": list(ranges.payouts)},
        "barrier": None if barrier is None else {
            "level_usd": barrier.level, "up": barrier.up, "rebate_sats": barrier.rebate
        },
    }  # fmt: skip


# ---- proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    """A proposal as it is written: flat."""

    type: str
    version: int
    payoff: Payoff
    events: tuple[tuple[Announcement, ...], ...]
    threshold: int
    collateral_sats: Sats
    bond_sats: Sats
    challenge_bond_sats: Sats
    claim_height: Height
    silence_height: Height
    refund_height: Height
    dispute_blocks: int
    fee_sats: Sats
    premium_sats: int
    opening_sats_per_kvb: int
    valid_until_unix: UnixSeconds
    keys: ClaimantKeys
    coins: tuple[Coin, ...]
    change_script: bytes
    identity: bytes
    signature: bytes


_PROPOSAL: Final = record(
    _Proposal, exact=True, version=_VERSION, payoff=PAYOFF,
    events=listed(Rule(read_announcements, "a list of announcements"), MAX_EVENTS), threshold=whole(1, 16),
    dispute_blocks=whole(1, MAX_BLOCKS), premium_sats=whole(-MAX_MONEY_SATS, MAX_MONEY_SATS),
    opening_sats_per_kvb=whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE), keys=_CLAIMANT, coins=COINS, change_script=_SCRIPT,
    identity=_XONLY, signature=hexadecimal(64),
)  # fmt: skip


def encode_proposal(proposal: Proposal) -> Json:
    """Return a proposal as JSON."""
    return _unsigned(proposal) | {"signature": proposal.signature.hex()}


def _unsigned(proposal: Proposal) -> Json:
    draft = proposal.draft
    return {
        "type": PROPOSAL, "version": VERSION,
        "payoff": encode_payoff(draft.payoff),
        "events": [[encode_announcement(one) for one in event] for event in draft.events],
        "threshold": draft.threshold, "collateral_sats": draft.collateral, "bond_sats": draft.bond,
        "challenge_bond_sats": draft.challenge_bond, "claim_height": draft.claim_height,
        "silence_height": draft.silence_height, "refund_height": draft.refund_height,
        "dispute_blocks": draft.dispute_blocks, "fee_sats": draft.fee, "premium_sats": draft.premium,
        "opening_sats_per_kvb": draft.rate, "valid_until_unix": draft.valid_until,
        "keys": _encode_claimant(proposal.keys), "coins": [encode_coin(one) for one in proposal.coins],
        "change_script": proposal.change_script.hex(), "identity": proposal.identity.hex(),
    }  # fmt: skip


def proposal_id(proposal: Proposal) -> Hash32:
    """Return a proposal's identity: the hash of all of it but its signature."""
    return tagged_hash(_PROPOSAL_TAG, canonical(_unsigned(proposal)))


def check_proposer(proposal: Proposal) -> None:
    """Check that a proposal is its identity's. Raises WrongMessageError."""
    if not secp256k1.schnorr_verify(proposal.identity, proposal_id(proposal), proposal.signature):
        raise WrongMessageError("dispute proposal", f"is not signed by {proposal.identity.hex()[:16]}, its identity")


def decode_proposal(message: object) -> Proposal:
    """Return a proposal. Raises InvalidInputError naming the field; whose it is, ``check_proposer`` says."""
    flat = _PROPOSAL.read(message, "proposal")
    _check_type(flat.type, PROPOSAL)
    draft = Draft(
        payoff=flat.payoff, events=flat.events, threshold=flat.threshold, collateral=flat.collateral_sats,
        bond=flat.bond_sats, challenge_bond=flat.challenge_bond_sats, claim_height=flat.claim_height,
        silence_height=flat.silence_height, refund_height=flat.refund_height, dispute_blocks=flat.dispute_blocks,
        fee=flat.fee_sats, premium=flat.premium_sats, rate=SatsPerKvb(flat.opening_sats_per_kvb),
        valid_until=flat.valid_until_unix,
    )  # fmt: skip
    return Proposal(
        draft=draft, keys=flat.keys, coins=flat.coins, change_script=flat.change_script, identity=flat.identity,
        signature=flat.signature,
    )  # fmt: skip


# ---- acceptance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Acceptance:
    type: str
    version: int
    proposal_id: Hash32
    keys: VerifierKeys
    coins: tuple[Coin, ...]
    change_script: bytes
    cut: Hash32


_ACCEPTANCE: Final = record(
    _Acceptance, exact=True, version=_VERSION, proposal_id=HASH, keys=_VERIFIER, coins=COINS, change_script=_SCRIPT,
    cut=HASH,
)  # fmt: skip


def encode_acceptance(half: Acceptance) -> Json:
    """Return an acceptance as JSON."""
    return {
        "type": ACCEPTANCE, "version": VERSION, "proposal_id": half.proposal_id.hex(),
        "keys": _encode_verifier(half.keys), "coins": [encode_coin(one) for one in half.coins],
        "change_script": half.change_script.hex(), "cut": half.cut.hex(),
    }  # fmt: skip


def decode_acceptance(message: object) -> Acceptance:
    """Return an acceptance. Raises InvalidInputError naming the field."""
    flat = _ACCEPTANCE.read(message, "acceptance")
    _check_type(flat.type, ACCEPTANCE)
    return Acceptance(
        proposal_id=flat.proposal_id, keys=flat.keys, coins=flat.coins, change_script=flat.change_script, cut=flat.cut
    )  # fmt: skip


def contract_id(proposal: Proposal, acceptance: Acceptance) -> Hash32:
    """Return a contract's identity: both halves."""
    return tagged_hash(_CONTRACT_TAG, proposal_id(proposal) + canonical(encode_acceptance(acceptance)))


# ---- of the set-up and the opening


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message of a contract that both know: its bytes are of a form that is known there."""

    kind: str
    contract: Hash32
    data: bytes
    """Commitments, cut, openings or claims."""
    more: bytes = field(default=b"", repr=False)
    """With commitments the identity's signature, with openings what the claimant signs."""


_KINDS: Final = (COMMITMENTS, CUT, OPENINGS, CLAIMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    type: str
    version: int
    contract_id: Hash32
    data: bytes
    more: bytes


_LETTER: Final = record(_Letter, exact=True, version=_VERSION, contract_id=HASH, data=BASE64, more=BASE64)


def encode_letter(letter: Letter) -> Json:
    """Return a letter as JSON."""
    return {
        "type": letter.kind, "version": VERSION, "contract_id": letter.contract.hex(),
        "data": b64encode(letter.data).decode(), "more": b64encode(letter.more).decode(),
    }  # fmt: skip


def decode_letter(message: object) -> Letter:
    """Return commitments, a cut, openings or claims. Raises InvalidInputError naming the field."""
    flat = _LETTER.read(message, "letter")
    _check_type(flat.type, *_KINDS)
    return Letter(kind=flat.type, contract=flat.contract_id, data=flat.data, more=flat.more)


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingWitnesses:
    """The claimant's witnesses of the opening, sent once it holds all that the verifier signs."""

    contract: Hash32
    witnesses: dict[int, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Funding:
    type: str
    version: int
    contract_id: Hash32
    witnesses: dict[int, tuple[bytes, ...]]


_FUNDING: Final = record(
    _Funding, exact=True, version=_VERSION, contract_id=HASH, witnesses=Rule(read_witnesses, "witnesses by input")
)  # fmt: skip


def encode_funding(message: FundingWitnesses) -> Json:
    """Return the witnesses as JSON."""
    return {
        "type": FUNDING, "version": VERSION, "contract_id": message.contract.hex(),
        "witnesses": {str(at): [one.hex() for one in stack] for at, stack in sorted(message.witnesses.items())},
    }  # fmt: skip


def decode_funding(message: object) -> FundingWitnesses:
    """Return the witnesses. Raises InvalidInputError naming the field."""
    flat = _FUNDING.read(message, "funding")
    _check_type(flat.type, FUNDING)
    return FundingWitnesses(contract=flat.contract_id, witnesses=flat.witnesses)


# ---- closing together


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequest:
    """One side's wish to close now."""

    contract: Hash32
    payout: Sats
    """The verifier's, besides its own bond."""
    rate: SatsPerKvb
    nonces: tuple[bytes, ...]
    """Public, one an input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAnswer:
    """The other side's yes."""

    contract: Hash32
    nonces: tuple[bytes, ...]
    partials: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Close:
    type: str
    version: int
    contract_id: Hash32
    payout_sats: Sats
    sats_per_kvb: int
    nonces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _CloseAnswer:
    type: str
    version: int
    contract_id: Hash32
    nonces: tuple[bytes, ...]
    partials: tuple[bytes, ...]


_NONCES: Final = listed(hexadecimal(PUBLIC_NONCE_SIZE), 2)
_CLOSE: Final = record(
    _Close, exact=True, version=_VERSION, contract_id=HASH, nonces=_NONCES,
    sats_per_kvb=whole(MIN_RELAY_FEE_RATE, MAX_FEE_RATE),
)  # fmt: skip
_CLOSE_ANSWER: Final = record(
    _CloseAnswer, exact=True, version=_VERSION, contract_id=HASH, nonces=_NONCES,
    partials=listed(hexadecimal(PARTIAL_SIZE), 2),
)  # fmt: skip


def encode_close(request: CloseRequest) -> Json:
    """Return a request to close as JSON."""
    return {
        "type": CLOSE, "version": VERSION, "contract_id": request.contract.hex(), "payout_sats": request.payout,
        "sats_per_kvb": request.rate, "nonces": [one.hex() for one in request.nonces],
    }  # fmt: skip


def decode_close(message: object) -> CloseRequest:
    """Return a request to close. Raises InvalidInputError naming the field."""
    flat = _CLOSE.read(message, "close")
    _check_type(flat.type, CLOSE)
    rate = SatsPerKvb(flat.sats_per_kvb)
    return CloseRequest(contract=flat.contract_id, payout=flat.payout_sats, rate=rate, nonces=flat.nonces)


def encode_close_answer(answer: CloseAnswer) -> Json:
    """Return the answer to a request as JSON."""
    return {
        "type": CLOSE_ANSWER, "version": VERSION, "contract_id": answer.contract.hex(),
        "nonces": [one.hex() for one in answer.nonces], "partials": [one.hex() for one in answer.partials],
    }  # fmt: skip


def decode_close_answer(message: object) -> CloseAnswer:
    """Return the answer to a request. Raises InvalidInputError naming the field."""
    flat = _CLOSE_ANSWER.read(message, "close answer")
    _check_type(flat.type, CLOSE_ANSWER)
    return CloseAnswer(contract=flat.contract_id, nonces=flat.nonces, partials=flat.partials)


def _check_type(said: str, *kinds: str) -> None:
    if said not in kinds:
        raise InvalidInputError("type", repr(said[:40]), " or ".join(kinds))
