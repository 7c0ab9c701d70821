"""What both sides of a contract that leaves judge compute alike, and who signs what first.

    claimant   proposal   terms, its keys and one-time keys, its coins; under its identity's signature
    verifier   acceptance its keys, its coins; all drawn for this attempt
    claimant   silence    its signatures of the claim of silence
    verifier   claims     its signatures of every claim, once it holds and has checked those
    claimant   funding    its witnesses of the opening, once it holds and has checked those
    verifier   opening    its own witnesses, last of all; it sends the opening

Nobody signs a coin before it holds everything that the other side signs, so a session that ends anywhere costs nobody
anything. What disproves is signed by the verifier alone, when it is needed, or before for a watcher. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from btcfi import secp256k1
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.wallet import Coin
from btcfi.disputes.garbled.deal import Payoff
from btcfi.disputes.garbled.opening import Opening, build_opening, contribution
from btcfi.disputes.leaves.graph import LeafGraph
from btcfi.disputes.leaves.judge import LeafClaim
from btcfi.disputes.leaves.oracles import AnnouncedWord, check_word
from btcfi.disputes.leaves.payoffs import claim_of
from btcfi.disputes.leaves.terms import LeafClaimant, LeafTerms, LeafVerifier
from btcfi.disputes.leaves.words import WordKey
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32, Height, Sats, UnixSeconds


@dataclass(frozen=True, kw_only=True)
class LeafDraft:
    """What both sides sign up to, apart from their keys and coins."""

    payoff: Payoff
    events: tuple[tuple[AnnouncedWord, ...], ...]
    """The one-time key of each oracle for each price, by price, the oracles always in one order."""
    threshold: int
    collateral: Sats
    bond: Sats
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

    @cached_property
    def claim(self) -> LeafClaim:
        """What is claimed. Raises InvalidInputError where there is no program for it."""
        return claim_of(self.payoff, len(self.events))

    def check_oracles(self) -> None:
        """Check every one-time key: signed by its oracle, each of which has one of each event.

        That they are the oracles and the events that were meant is the caller's to compare. Raises InvalidInputError.
        """
        oracles = {tuple(one.oracle_key for one in event) for event in self.events}
        if len(oracles) != 1 or len(set(*oracles)) != len(*oracles):
            raise InvalidInputError("oracles", "not the same in every event, or one twice", "one order, each once")
        if any(len({one.event for one in event}) != 1 for event in self.events):
            raise InvalidInputError("one-time keys", "are of different events", "one event a price")
        if len({event[0].event for event in self.events}) != len(self.events):
            raise InvalidInputError("events", "one stands twice", "a minute of its own each")
        for event in self.events:
            for one in event:
                check_word(one)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafProposal:
    """First message: the claimant's terms, keys and coins, under its identity's signature."""

    draft: LeafDraft
    keys: LeafClaimant
    coins: tuple[Coin, ...]
    change_script: bytes
    identity: bytes
    """x-only."""
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafAcceptance:
    """Second message: the verifier's half."""

    proposal_id: Hash32
    keys: LeafVerifier
    coins: tuple[Coin, ...]
    change_script: bytes


class LeafDeal:
    """What follows from a proposal and its acceptance."""

    def __init__(self, proposal: LeafProposal, acceptance: LeafAcceptance) -> None:
        """Make terms, opening and graph.

        Raises InvalidInputError for terms that make no contract, InsufficientFundsError for coins that do not suffice.
        """
        draft = proposal.draft
        draft.check_oracles()
        self.proposal, self.acceptance = proposal, acceptance
        self.terms = LeafTerms(
            claim=draft.claim, oracles=tuple(tuple(one.word for one in event) for event in draft.events),
            threshold=draft.threshold, collateral=draft.collateral, bond=draft.bond,
            silence_height=draft.silence_height, refund_height=draft.refund_height,
            dispute_blocks=draft.dispute_blocks, fee=draft.fee, claimant=proposal.keys, verifier=acceptance.keys,
        )  # fmt: skip
        self.opening: Opening = build_opening(
            LeafGraph(self.terms), premium=draft.premium, rate=draft.rate,
            claimant=contribution(proposal.coins, proposal.change_script),
            verifier=contribution(acceptance.coins, acceptance.change_script),
        )  # fmt: skip
        self.graph = LeafGraph(self.terms, self.opening.transaction.txid)


class LeafSecrets:
    """A side's secrets in one contract, each for one use: they follow from a seed that is drawn for this attempt alone.

    The seed is fresh randomness and not a number of a keystore, so that a folder that was restored from a copy, which
    counts on from an older number, never uses a key twice: of a one-time key that would be the end.
    """

    def __init__(self, seed: bytes) -> None:
        """seed: 32 fresh bytes."""
        secp256k1.check_size(seed, "seed")
        self._seed = seed

    def __repr__(self) -> str:
        return "LeafSecrets(…)"

    def __getitem__(self, use: str) -> bytes:
        """Return the secret of a use: open, claim, payout, escrow, silence."""
        return secp256k1.even_secret(self._drawn(f"key/{use}"))

    def _drawn(self, use: str) -> bytes:
        return tagged_hash(f"BTCFi/dispute/leaf-own/{use}/v1", self._seed)

    def words(self, claim: LeafClaim) -> dict[str, WordKey]:
        """Return the claimant's one-time key of each word of a claim."""
        return {name: WordKey(seed=self._drawn(f"word/{name}"), digits=claim.digits(name)) for name in claim.words}

    def claimant_keys(self, claim: LeafClaim, script: bytes) -> LeafClaimant:
        """Return the claimant's keys. script: where it is paid."""
        words: Mapping[str, WordKey] = self.words(claim)
        return LeafClaimant(
            open=secp256k1.public_key_compressed(self["open"]), claim=secp256k1.public_key_xonly(self["claim"]),
            payout=secp256k1.public_key_xonly(self["payout"]), words={name: key.word for name, key in words.items()},
            script=script,
        )  # fmt: skip

    def verifier_keys(self, script: bytes) -> LeafVerifier:
        """Return the verifier's keys. script: where it is paid."""
        xonly = secp256k1.public_key_xonly
        return LeafVerifier(
            open=secp256k1.public_key_compressed(self["open"]), claim=xonly(self["claim"]),
            escrow=xonly(self["escrow"]), silence=xonly(self["silence"]), script=script,
        )  # fmt: skip
