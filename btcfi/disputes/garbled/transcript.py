"""All that was said until a set-up stood, in one file without a secret: who has it checks the set-up for itself.

Proposal and acceptance say what the set-up is about; the garbler's two messages and the cut are the set-up. Whose word
the proposal and the first message are, their signatures say. Of a cut by hash (``setup.BY_HASH``) a stranger learns
that the garbler could not have known it; of a cut that the verifier drew it learns that only if it trusts the verifier,
so ``check_public`` refuses those. A package for watchers (``watchtower``) holds one of either kind.

Whatever the bytes are, reading and checking end with a set-up, an InvalidInputError or a WrongMessageError. Pure: the
coins are passed in.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Acceptance, Deal, Proposal, check_first
from btcfi.disputes.garbled.messages import decode_commitments, decode_cut, decode_openings
from btcfi.disputes.garbled.setup import BY_HASH, Commitments, Kept, kept_of
from btcfi.errors import InvalidInputError
from btcfi.records import BASE64, OBJECT, hexadecimal, record, whole

TRANSCRIPT: Final = "btcfi/dispute-setup"
VERSION: Final = 1

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said, as bytes of the forms that ``messages`` has."""

    proposal: Proposal
    acceptance: Acceptance
    commitments: bytes
    signature: bytes
    """The proposer's identity's, of the commitments."""
    cut: bytes
    openings: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A set-up that was checked: the contract that it is of, and what convicts."""

    deal: Deal
    commitments: Commitments
    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transcript:
    type: str
    version: int
    proposal: Json
    acceptance: Json
    commitments: bytes
    signature: bytes
    cut: bytes
    openings: bytes


_TRANSCRIPT: Final = record(
    _Transcript, exact=True, version=whole(VERSION, VERSION), proposal=OBJECT, acceptance=OBJECT, commitments=BASE64,
    signature=hexadecimal(64), cut=BASE64, openings=BASE64,
)  # fmt: skip


def encode_transcript(said: Transcript) -> Json:
    """Return a transcript as JSON."""
    return {
        "type": TRANSCRIPT, "version": VERSION, "proposal": wire.encode_proposal(said.proposal),
        "acceptance": wire.encode_acceptance(said.acceptance), "commitments": b64encode(said.commitments).decode(),
        "signature": said.signature.hex(), "cut": b64encode(said.cut).decode(),
        "openings": b64encode(said.openings).decode(),
    }  # fmt: skip


def decode_transcript(message: object) -> Transcript:
    """Return a transcript. Raises InvalidInputError naming the field; whether it holds, ``check`` says."""
    flat = _TRANSCRIPT.read(message, "set-up")
    if flat.type != TRANSCRIPT:
        raise InvalidInputError("type", repr(flat.type[:40]), TRANSCRIPT)
    return Transcript(
        proposal=wire.decode_proposal(flat.proposal), acceptance=wire.decode_acceptance(flat.acceptance),
        commitments=flat.commitments, signature=flat.signature, cut=flat.cut, openings=flat.openings,
    )  # fmt: skip


def deal_of(said: Transcript) -> Deal:
    """Return the contract that a set-up is of. Raises InvalidInputError for terms that make none."""
    return Deal(said.proposal, said.acceptance, id=wire.contract_id(said.proposal, said.acceptance))


def check(said: Transcript, *, coins: bytes, begins: Callable[[str], None] = lambda _: None) -> Checked:
    """Check a whole set-up from its terms on.

    coins: 32 fresh bytes of one's own. begins: is told each of ``setup.PARTS`` before it is checked. Raises
    InvalidInputError for terms that make no contract, WrongMessageError for a signature of somebody else's, and
    CheatedError for a set-up that an honest garbler does not make.
    """
    wire.check_proposer(said.proposal)
    if said.acceptance.proposal_id != wire.proposal_id(said.proposal):
        raise InvalidInputError("acceptance", "is of another proposal", "the acceptance of this one")
    deal = deal_of(said)
    subject = deal.subject
    # before any of it is parsed: whose word it is
    check_first(subject, said.commitments, said.proposal.identity, said.signature)
    first = decode_commitments(subject, said.commitments)
    cut = decode_cut(subject, said.cut)
    second = decode_openings(subject, cut, said.openings)
    return Checked(
        deal=deal, commitments=first, kept=kept_of(subject, first, cut, second, coins=coins, begins=begins)
    )  # fmt: skip


def check_public(said: Transcript, *, coins: bytes, begins: Callable[[str], None] = lambda _: None) -> Checked:
    """Check a set-up as a stranger, who trusts neither side. Raises as ``check``, and for a cut that no hash drew."""
    if said.acceptance.cut != BY_HASH:
        raise InvalidInputError(
            "acceptance.cut", "the verifier drew it, and who else can know that the garbler did not know it before?",
            "a cut by hash, which anybody can check",
        )  # fmt: skip
    return check(said, coins=coins, begins=begins)
