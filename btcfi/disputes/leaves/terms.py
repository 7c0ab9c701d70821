"""What both sides of a contract that leaves judge sign up to: keys, one-time keys, oracles, money and heights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.script import is_known_program
from btcfi.contracts.execution import ANCHOR
from btcfi.disputes.leaves.judge import LeafClaim
from btcfi.disputes.leaves.program import OUTCOME_BITS
from btcfi.disputes.leaves.words import Word, digits_for
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import MAX_MONEY_SATS, Hash32, Height, Sats

MAX_SETS: Final = 10
"""Of oracles: three of five."""

PRICE_DIGITS: Final = digits_for((1 << OUTCOME_BITS) - 1)

MIN_BLOCKS: Final = 2
"""That a claim is open to dispute: with one, payout and disproof could be of the same block, and a miner chooses."""

MAX_BLOCKS: Final = 2_016
"""That a claim may be open to dispute: two weeks."""

FIRST_TIME: Final = 500_000_000
"""From here on a lock time is no height. Source: BIP65."""

_TERMS_TAG: Final = "BTCFi/dispute/leaf-terms/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafClaimant:
    """The side that claims: keys, each for one use."""

    open: bytes
    """Compressed: of the key path, by which both close together."""
    claim: bytes
    """x-only: signs claims, and what fixes the claim of silence."""
    payout: bytes
    """x-only: takes the escrow, and the refund."""
    words: Mapping[str, Word]
    """Its one-time key of each word of the claim."""
    script: bytes
    """Where it is paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafVerifier:
    """The side that is paid by a claim and watches it; all keys fresh in every attempt."""

    open: bytes
    """Compressed."""
    claim: bytes
    """x-only: fixes the outputs of claims, and signs the claim of silence."""
    escrow: bytes
    """x-only: fixes the outputs of what disproves."""
    silence: bytes
    """x-only: takes all after a claim of silence."""
    script: bytes
    """Where it is paid."""


@dataclass(frozen=True, kw_only=True)
class LeafTerms:
    """What both sides sign up to."""

    claim: LeafClaim
    oracles: tuple[tuple[Word, ...], ...]
    """The one-time key of each oracle for each price, by price."""
    threshold: int
    """How many oracles must have signed the same prices."""
    collateral: Sats
    bond: Sats
    """Of the claimant, lost with the escrow."""
    silence_height: Height
    refund_height: Height
    dispute_blocks: int
    fee: Sats
    """Of each transaction but the opening; children pay what is missing."""
    claimant: LeafClaimant
    verifier: LeafVerifier

    def __post_init__(self) -> None:
        """Raise InvalidInputError for terms that cannot be kept."""
        self._check_words()
        self._check_keys()
        if not MIN_BLOCKS <= self.dispute_blocks <= MAX_BLOCKS:
            raise InvalidInputError("dispute blocks", str(self.dispute_blocks), f"{MIN_BLOCKS} to {MAX_BLOCKS}")
        # the verifier has as long to claim silence as anybody has to answer a claim
        if self.silence_height < 1 or self.silence_height + self.dispute_blocks > self.refund_height:
            raise InvalidInputError("heights", f"{self.silence_height}, {self.refund_height}", "silence, then refund")
        if self.refund_height >= FIRST_TIME:
            raise InvalidInputError("refund height", str(self.refund_height), f"below {FIRST_TIME}")
        if not 0 < self.collateral <= MAX_MONEY_SATS or min(self.claim.payouts) < 0:
            raise InvalidInputError("collateral", f"{self.collateral} sats", "money that there is")
        if max(self.claim.payouts) > self.collateral:
            raise InvalidInputError("payout", f"{max(self.claim.payouts)} sats", f"at most {self.collateral}")
        if self.fee < 0 or not 3 * self.costs + DUST_P2TR <= self.bond <= MAX_MONEY_SATS:
            raise InvalidInputError("bond", f"{self.bond} sats", f"at least {3 * self.costs + DUST_P2TR}")

    def _check_keys(self) -> None:
        one, other = self.claimant, self.verifier
        xonly = [one.open[1:], one.claim, one.payout, other.open[1:], other.claim, other.escrow, other.silence]
        if len(set(xonly)) != len(xonly):
            raise InvalidInputError("keys", "one is used twice", "a key of its own for each use")
        if not all(secp256k1.is_xonly_key(key) for key in xonly):
            raise InvalidInputError("keys", "one is not on the curve", "keys of the curve")
        for script in (one.script, other.script):
            if not is_known_program(script):
                raise InvalidInputError("script", script.hex()[:40], "P2TR, P2WPKH or P2WSH")

    def _check_words(self) -> None:
        program = self.claim.program
        many = {len(one) for one in self.oracles}
        if len(self.oracles) != len(program.inputs) or len(many) != 1 or not 1 <= self.threshold <= min(many):
            raise InvalidInputError("oracles", f"{self.threshold} of {sorted(many)}", "a key each, a row each price")
        if len(self.sets) > MAX_SETS:
            raise InvalidInputError("sets of oracles", str(len(self.sets)), f"at most {MAX_SETS}")
        if tuple(self.claimant.words) != self.claim.words:
            raise InvalidInputError("words", str(tuple(self.claimant.words)), str(self.claim.words))
        wrong = [name for name in self.claim.words if self.claimant.words[name].digits != self.claim.digits(name)]
        if wrong or any(word.digits != PRICE_DIGITS for row in self.oracles for word in row):
            raise InvalidInputError("words", f"{wrong or 'an oracle'} of another length", "the digits of its bounds")
        everything = [end for row in self.oracles for word in row for end in word.ends]
        everything += [end for word in self.claimant.words.values() for end in word.ends]
        if len(set(everything)) != len(everything):
            raise InvalidInputError("words", "one chain in two of them", "chains of their own: each signs once")

    @property
    def costs(self) -> Sats:
        """What a transaction takes of what it moves: fee and anchor."""
        return Sats(self.fee + ANCHOR.value)

    @cached_property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """Every set of oracles that is enough."""
        return tuple(combinations(range(len(self.oracles[0])), self.threshold))

    @property
    def locked(self) -> Sats:
        """What the opening locks."""
        return Sats(self.collateral + self.bond)

    @property
    def challenge_bond(self) -> Sats:
        """What the verifier locks: nothing."""
        return Sats(0)

    @cached_property
    def id(self) -> Hash32:
        """What the opening is bound to: all of it, claim and keys and oracles among them."""
        one, other = self.claimant, self.verifier
        numbers = (
            self.threshold, self.collateral, self.bond, self.silence_height, self.refund_height, self.dispute_blocks,
            self.fee, len(self.oracles), len(self.oracles[0]),
        )  # fmt: skip
        keys = (
            one.open, one.claim, one.payout, one.script, other.open, other.claim, other.escrow, other.silence,
            other.script,
        )  # fmt: skip
        words = [word for row in self.oracles for word in row] + [one.words[name] for name in self.claim.words]
        parts = [self.claim.id, *keys, *(b"".join(word.ends) for word in words)]
        return tagged_hash(
            _TERMS_TAG,
            b"".join(number.to_bytes(8, "little") for number in numbers)
            + b"".join(len(part).to_bytes(4, "little") + part for part in parts),
        )  # fmt: skip
