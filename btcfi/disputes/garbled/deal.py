"""A disputed contract between two parties, from its messages to what each side signs: computed, nothing received.

    claimant   proposal     what is claimed, oracles, money, heights, its keys and coins, signed by its identity
    verifier   acceptance   fresh keys, coins, the commitment to its cut
    claimant   commitments  signed by its identity: the mined labels and the kept tables convict it before anybody
    verifier   cut
    claimant   openings     and all that it signs before the opening (``presign.presign_silence``)
    verifier   claims       all that it signs (``presign.presign_claims``)
    claimant   funding      its witnesses; the verifier signs last, and broadcasts

Both sides make the terms from the first two, so nothing that is computed stands in a message. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from math import comb
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts.mandate import DisputeFacts
from btcfi.contracts.messages import Role
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.claims import (
    Claim,
    Ranges,
    average_strike_claim,
    knock_out_claim,
    mean_claim,
    median_claim,
    price_claim,
)
from btcfi.disputes.garbled.chains import FaultPoint
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.opening import Opening, Side, build_opening, contribution
from btcfi.disputes.garbled.setup import BY_HASH, CONSERVATIVE, PUBLIC, Commitments, Copies, Subject
from btcfi.disputes.garbled.terms import ClaimantKeys, DisputeTerms, VerifierKeys
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement
from btcfi.units import Hash32, Height, Sats, UnixSeconds

_SETUP_SIGNED_TAG: Final = "BTCFi/dispute/first-message/v1"


ROLES: Final = {Side.CLAIMANT: Role.SELLER, Side.VERIFIER: Role.BUYER}
"""What each side is to its mandate: the claimant writes what the verifier buys."""


class Kind(StrEnum):
    """What is computed of the attested outcomes."""

    PRICE = "price"
    MEAN = "mean"
    MEDIAN = "median"
    KNOCK_OUT = "knock-out"
    AVERAGE_STRIKE_CALL = "average-strike-call"
    """What the last outcome is above the mean of all, in whole dollars."""
    AVERAGE_STRIKE_PUT = "average-strike-put"
    """What it is below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """What ends a knock-out."""

    level: int
    """Whole dollars, inclusive."""
    up: bool
    rebate: Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class Payoff:
    """What is claimed, as both sides build it: the circuit follows from it alone."""

    kind: Kind
    ranges: Ranges
    barrier: Barrier | None = None

    def __post_init__(self) -> None:
        """Raise InvalidInputError for a knock-out without its barrier, and for a barrier of anything else."""
        if (self.barrier is not None) != (self.kind is Kind.KNOCK_OUT):
            problem = "none" if self.barrier is None else f"of a {self.kind}"
            raise InvalidInputError("barrier", problem, "one of a knock-out, and of nothing else")

    def claim(self, events: int) -> Claim:
        """Return the claim over so many outcomes. Raises InvalidInputError."""
        if self.barrier is not None:
            one = self.barrier
            return knock_out_claim(self.ranges, events, barrier=one.level, up=one.up, rebate=one.rebate)
        if self.kind is Kind.MEAN:
            return mean_claim(self.ranges, events)
        if self.kind is Kind.MEDIAN:
            return median_claim(self.ranges, events)
        if self.kind in {Kind.AVERAGE_STRIKE_CALL, Kind.AVERAGE_STRIKE_PUT}:
            return average_strike_claim(self.ranges, events, call=self.kind is Kind.AVERAGE_STRIKE_CALL)
        if events != 1:
            raise InvalidInputError("events", f"{events} of a price", "one")
        return price_claim(self.ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What both sides sign up to, apart from their keys and coins."""

    payoff: Payoff
    events: tuple[tuple[Announcement, ...], ...]
    threshold: int
    collateral: Sats
    bond: Sats
    challenge_bond: Sats
    """0 where digits are claimed at once."""
    claim_height: Height
    silence_height: Height
    refund_height: Height
    dispute_blocks: int
    fee: Sats
    """Of each transaction but the opening, by itself."""
    premium: int
    """Satoshis that the verifier pays the claimant in the opening; below zero: the other way."""
    rate: SatsPerKvb
    """Of the opening."""
    valid_until: UnixSeconds
    """From this second of one's own clock on nothing of it is signed that was not signed before."""

    def puts_in(self, side: Side) -> Sats:
        """Return what a side puts in, which is all that it can lose, the opening's fee apart; at least nothing."""
        own = self.collateral + self.bond if side is Side.CLAIMANT else self.challenge_bond
        return Sats(max(0, own - self.premium if side is Side.CLAIMANT else own + self.premium))

    @property
    def sets(self) -> int:
        """How many sets of oracles there are. Raises InvalidInputError where no set is enough."""
        oracles = len(self.events[0]) if self.events else 0
        if not 1 <= self.threshold <= oracles:
            raise InvalidInputError("threshold", f"{self.threshold}", "1 to as many as there are oracles")
        return comb(oracles, self.threshold)

    def terms(self, claimant: ClaimantKeys, verifier: VerifierKeys, copies: Copies) -> DisputeTerms:
        """Return what both sign up to by these keys. Raises InvalidInputError naming what makes no contract."""
        return DisputeTerms(
            claim=self.payoff.claim(len(self.events)), copies=copies, events=self.events, threshold=self.threshold,
            collateral=self.collateral, bond=self.bond, challenge_bond=self.challenge_bond,
            claim_height=self.claim_height, silence_height=self.silence_height, refund_height=self.refund_height,
            dispute_blocks=self.dispute_blocks, fee=self.fee, claimant=claimant, verifier=verifier,
        )  # fmt: skip

    def facts(self, side: Side, *, proposer: bytes | None) -> DisputeFacts:
        """Return what a side's mandate judges. proposer: None where the proposal is our own."""
        return DisputeFacts(
            role=ROLES[side], proposer=proposer, kind=self.payoff.kind.value, events=self.events,
            threshold=self.threshold, collateral=self.collateral, bond=self.bond, challenge_bond=self.challenge_bond,
            premium=self.premium, stake=self.puts_in(side), rate=self.rate, fee=self.fee,
            dispute_blocks=self.dispute_blocks, claim_height=self.claim_height, silence_height=self.silence_height,
            refund_height=self.refund_height,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """First message: the claimant's terms, keys and coins, under its identity's signature."""

    draft: Draft
    keys: ClaimantKeys
    coins: tuple[Coin, ...]
    change_script: bytes
    identity: bytes
    """By which the verifier counts what it has drawn, x-only."""
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Second message: the verifier's half, with its commitment to the one cut of this attempt."""

    proposal_id: Hash32
    keys: VerifierKeys
    coins: tuple[Coin, ...]
    change_script: bytes
    cut: Hash32
    """Its commitment to its cut, or ``setup.BY_HASH``: then anybody can check the set-up."""


class Deal:
    """What both sides compute alike of a proposal and its acceptance."""

    def __init__(self, proposal: Proposal, acceptance: Acceptance, *, id: Hash32) -> None:  # noqa: A002 - its name
        """Make the terms. id: of the contract (``deal_messages.contract_id``). Raises InvalidInputError."""
        self.proposal, self.acceptance, self.id = proposal, acceptance, id
        copies = PUBLIC if acceptance.cut == BY_HASH else CONSERVATIVE
        self.terms = proposal.draft.terms(proposal.keys, acceptance.keys, copies)

    @cached_property
    def subject(self) -> Subject:
        """What the set-up is about."""
        terms = self.terms
        return Subject(circuit=terms.claim.circuit, copies=terms.copies, terms=terms.id, cut=self.acceptance.cut)

    def opened(self, commitments: Commitments | FaultPoint) -> tuple[Opening, Graph]:
        """Return the opening and, with its txid, every transaction. Raises as ``build_opening``."""
        draft, half = self.proposal.draft, self.acceptance
        opening = build_opening(
            Graph(self.terms, commitments), premium=draft.premium, rate=draft.rate,
            claimant=contribution(self.proposal.coins, self.proposal.change_script),
            verifier=contribution(half.coins, half.change_script),
        )  # fmt: skip
        return opening, Graph(self.terms, commitments, opening.transaction.txid)


def sign_first(subject: Subject, commitments: bytes, identity_secret: bytes, aux: bytes) -> bytes:
    """Return the claimant's signature of its first message: who cheated at the set-up is shown to anybody by it."""
    return secp256k1.schnorr_sign(identity_secret, _first_digest(subject, commitments), aux)


def check_first(subject: Subject, commitments: bytes, identity: bytes, signature: bytes) -> None:
    """Check it. Raises WrongMessageError."""
    if not secp256k1.schnorr_verify(identity, _first_digest(subject, commitments), signature):
        raise WrongMessageError("dispute commitments", f"is not signed by {identity.hex()[:16]}, its identity")


def _first_digest(subject: Subject, commitments: bytes) -> Hash32:
    return tagged_hash(_SETUP_SIGNED_TAG, subject.id + commitments)


# ---- one side's secrets


class OwnSecrets:
    """A side's secrets in one contract, each for one use: they follow from a seed that is drawn for this attempt alone.

    The seed is fresh randomness and not a number of a keystore, so that a folder that was restored from a copy, which
    counts on from an older number, never uses a key twice.
    """

    def __init__(self, seed: bytes, sets: int) -> None:
        """seed: 32 fresh bytes. sets: of oracles."""
        secp256k1.check_size(seed, "seed")
        self._seed = seed
        names = ("open", "claim", "both", "payout", "overdue", "bond", "escrow")
        self._of = {name: secp256k1.even_secret(self.drawn(name)) for name in names}
        self.digits = tuple(secp256k1.even_secret(self.drawn(f"digits/{which}")) for which in range(sets))
        """Of each set of oracles: the verifier's of digits, the claimant's of silence."""

    def __repr__(self) -> str:
        return "OwnSecrets(…)"

    def __getitem__(self, use: str) -> bytes:
        """Return the secret of a use."""
        return self._of[use]

    def drawn(self, use: str) -> bytes:
        """Return 32 bytes for another use: the garbler's seed, a cut."""
        return tagged_hash(f"BTCFi/dispute/own/{use}/v1", self._seed)

    def claimant_keys(self, script: bytes) -> ClaimantKeys:
        """Return the claimant's keys. script: where it is paid."""
        xonly, point = secp256k1.public_key_xonly, secp256k1.public_key_compressed
        return ClaimantKeys(
            open=point(self["open"]), claim=xonly(self["claim"]), both=xonly(self["both"]),
            payout=xonly(self["payout"]), silence=tuple(xonly(one) for one in self.digits), script=script,
        )  # fmt: skip

    def verifier_keys(self, script: bytes) -> VerifierKeys:
        """Return the verifier's keys. script: where it is paid."""
        xonly, point = secp256k1.public_key_xonly, secp256k1.public_key_compressed
        return VerifierKeys(
            open=point(self["open"]), claim=xonly(self["claim"]), both=xonly(self["both"]),
            overdue=xonly(self["overdue"]), bond=xonly(self["bond"]), escrow=point(self["escrow"]),
            digits=tuple(xonly(one) for one in self.digits), script=script,
        )  # fmt: skip


def signed(proposal: Proposal, digest: Hash32, identity_secret: bytes, aux: bytes) -> Proposal:
    """Return a proposal with its identity's signature. digest: its id. aux: 32 fresh random bytes."""
    return replace(proposal, signature=secp256k1.schnorr_sign(identity_secret, digest, aux))
