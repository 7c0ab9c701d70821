"""What both sides of a disputed contract sign up to: keys, oracles, money and heights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import DUST_P2TR
from btcfi.bitcoin.script import is_known_program
from btcfi.contracts.execution import ANCHOR
from btcfi.disputes.claims import RANGE, Claim
from btcfi.disputes.garbled.setup import Copies
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement, check_together
from btcfi.units import MAX_MONEY_SATS, Hash32, Height, Sats

MIN_BLOCKS: Final = 2
"""That a claim is open to dispute: with one, payout and disproof could be of the same block, and a miner chooses."""

MAX_SIGNATURES: Final = 560
"""Of one claim or answer, two a priced digit: with more it has over 10,000 vB, which as version 3 no node relays."""

MAX_BLOCKS: Final = 2_016
"""That a claim may be open to dispute: two weeks."""

FIRST_TIME: Final = 500_000_000
"""From here on a lock time is no height. Source: BIP65."""

MAX_SETS: Final = 10
"""Of oracles: three of five."""

_TERMS_TAG: Final = "BTCFi/dispute/terms/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimantKeys:
    """The side that claims: the writer. Each key is for one use."""

    open: bytes
    """Compressed: of the opening's key path, by which both close together."""
    claim: bytes
    """x-only: signs claims and reveals."""
    both: bytes
    """x-only: signs what both sign."""
    payout: bytes
    """x-only: takes the escrow."""
    silence: tuple[bytes, ...]
    """x-only, one a set of oracles: its pre-signatures carry attestations into a claim of silence."""
    script: bytes
    """Where it is paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKeys:
    """The side that is paid by a claim and watches it: the holder. All fresh in every attempt."""

    open: bytes
    """Compressed."""
    claim: bytes
    """x-only: signs the claim of silence, and of lazy contracts pre-signs ranges."""
    both: bytes
    """x-only: signs what both sign."""
    overdue: bytes
    """x-only: takes what was challenged and not revealed."""
    bond: bytes
    """x-only: takes its own bond home."""
    escrow: bytes
    """Compressed: with the fault secret it takes the escrow."""
    digits: tuple[bytes, ...]
    """x-only, one a set of oracles: its pre-signatures carry labels into a claim."""
    script: bytes
    """Where it is paid."""


@dataclass(frozen=True, kw_only=True)
class DisputeTerms:
    """What both sides sign up to. Two equal terms have byte-equal transactions."""

    claim: Claim
    copies: Copies
    events: tuple[tuple[Announcement, ...], ...]
    """For each outcome that the claim is made of, the oracles' announcements, always in one order."""
    threshold: int
    collateral: Sats
    """The most that the verifier can be owed."""
    bond: Sats
    """The claimant's, lost to the verifier by a false claim."""
    challenge_bond: Sats
    """The verifier's, lost by a challenge of a right claim; nothing where digits are claimed at once."""
    claim_height: Height
    """From here on a range can be claimed: after the last event, where a claim shows no attestations; else 0."""
    silence_height: Height
    """From here on the verifier may claim silence."""
    refund_height: Height
    """From here on the claimant takes back what nobody claimed."""
    dispute_blocks: int
    """Between a claim and its payout, and between a claim of silence and its end: all but one are the other side's."""
    fee: Sats
    """What each of the transactions pays by itself."""
    claimant: ClaimantKeys
    verifier: VerifierKeys

    def __post_init__(self) -> None:
        """Raise InvalidInputError naming the first term that makes no contract."""
        claim = self.claim
        if len(self.events) != claim.events or not self.events:
            raise InvalidInputError("events", f"{len(self.events)}", f"{claim.events}, one an outcome")
        keys = {tuple(one.oracle_key for one in event) for event in self.events}
        if len(keys) != 1 or len(set(*keys)) != len(*keys):
            raise InvalidInputError(
                "oracles", "not the same in every event, or one twice", "different ones, in one order"
            )
        for event in self.events:
            if len({one.event for one in event}) != 1:
                raise InvalidInputError("announcements", "are of different events", "one event a place")
            check_together(event)
        if len({event[0].event.id for event in self.events}) != len(self.events):
            raise InvalidInputError("events", "one stands twice", "a minute of its own each")
        minutes = [event[0].event.expiry for event in self.events]
        if any(one > other for one, other in pairwise(minutes)):  # what is claimed of the last is of the latest
            raise InvalidInputError("events", "not in the order of their minutes", "the earliest first")
        if not 1 <= self.threshold <= len(self.events[0]) or len(self.sets) > MAX_SETS:
            raise InvalidInputError(
                "threshold", f"{self.threshold}", f"1 to {len(self.events[0])}, {MAX_SETS} sets at most"
            )
        self._check_digits()
        self._check_money()
        self._check_keys()

    def _check_digits(self) -> None:
        said = [digit for digit in self.claim.circuit.digits if digit.event is None]
        if [digit.values for digit in said] != [len(self.claim.payouts)]:
            raise InvalidInputError(
                "claim", f"{len(said)} digits of no event", "one that says the range: two could contradict each other"
            )
        signatures = 1 + 2 * (len(self.claim.circuit.digits) - 1)
        if signatures > MAX_SIGNATURES:
            raise InvalidInputError("claim", f"{signatures} signatures", f"{MAX_SIGNATURES} at most")
        for digit in self.claim.circuit.digits:
            if digit.event is None:
                if not digit.name.startswith(f"{RANGE}."):
                    raise InvalidInputError("claim", digit.name, "a range and attested outcomes alone")
            elif not 0 <= digit.low_bit <= self.events[digit.event][0].event.signed_digits - digit.width:
                raise InvalidInputError("claim", digit.name, "bits that its event has")
        for place, event in enumerate(self.events):
            bits = sum(digit.width for digit in self.claim.circuit.digits if digit.event == place)
            if bits != event[0].event.signed_digits or event[0].event.condition:
                raise InvalidInputError(
                    "events", f"{bits} bits of event {place}", "all of its digits, and no condition"
                )

    def _check_money(self) -> None:
        if not 0 < self.collateral <= MAX_MONEY_SATS or not max(self.claim.payouts) <= self.collateral:
            raise InvalidInputError("collateral", f"{self.collateral} sats", "at least the most that a range pays")
        least = 4 * self.costs + DUST_P2TR + len(self.claim.payouts)  # a satoshi for each range that pays like another
        if not 0 <= self.fee <= MAX_MONEY_SATS or not least < self.bond <= MAX_MONEY_SATS:
            raise InvalidInputError("bond", f"{self.bond} sats", f"more than {least} sats")
        least = max(DUST_P2TR, 2 * self.costs)  # challenge and answer are paid of what the claimant holds
        if self.challenge_bond and not least <= self.challenge_bond <= MAX_MONEY_SATS:
            raise InvalidInputError("challenge_bond", f"{self.challenge_bond} sats", f"{least} or more, or none")
        if (self.challenge_bond > 0) != (self.claim_height > 0):
            expected = "more than nothing, with a height for claims; or neither"
            raise InvalidInputError("challenge_bond", f"{self.challenge_bond} sats", expected)
        if not MIN_BLOCKS <= self.dispute_blocks <= MAX_BLOCKS:
            raise InvalidInputError("dispute_blocks", f"{self.dispute_blocks}", f"{MIN_BLOCKS} to {MAX_BLOCKS}")
        if not 0 <= self.claim_height < self.silence_height:
            raise InvalidInputError("silence_height", f"{self.silence_height}", f"above {self.claim_height}")
        earliest = self.silence_height + self.dispute_blocks
        latest = FIRST_TIME - 1 - 5 * self.dispute_blocks  # or the bond's height would be a time, long gone
        if not earliest <= self.refund_height <= latest:
            raise InvalidInputError("refund_height", f"{self.refund_height}", f"{earliest} to {latest}")

    def _check_keys(self) -> None:
        one, other = self.claimant, self.verifier
        if {len(one.silence), len(other.digits)} != {len(self.sets)}:
            raise InvalidInputError("keys", f"{len(other.digits)} for sets of oracles", f"{len(self.sets)}")
        xonly = [one.claim, one.both, one.payout, *one.silence, one.open[1:]]
        xonly += [other.claim, other.both, other.overdue, other.bond, *other.digits, other.open[1:], other.escrow[1:]]
        if len(set(xonly)) != len(xonly):
            raise InvalidInputError("keys", "one is used twice", "a key of its own for each use")
        if not all(secp256k1.is_xonly_key(key) for key in xonly):
            raise InvalidInputError("keys", "one is not on the curve", "keys of the curve")
        for script in (one.script, other.script):
            if not is_known_program(script):
                raise InvalidInputError("script", script.hex()[:40], "P2TR, P2WPKH or P2WSH")

    @property
    def costs(self) -> Sats:
        """What one of the transactions costs: its own fee and its anchor."""
        return Sats(self.fee + ANCHOR.value)

    @property
    def locked(self) -> Sats:
        """What the opening locks of the claimant's."""
        return Sats(self.collateral + self.bond)

    @property
    def bond_height(self) -> Height:
        """From here on the verifier takes its own bond home: later than the last answer to a challenge can be.

        A claim can be made until the refund's height or some blocks after a claim of silence before it, challenged and
        answered within as many blocks each.
        """
        return Height(self.refund_height + 5 * self.dispute_blocks)

    @property
    def last_claim_height(self) -> Height:
        """The last block that may hold a lazy claim whose digits can still be shown, whenever it is challenged.

        Its release may be some blocks late, and until then it can be challenged; without the verifier's bond there is
        no answer. Who comes later takes the refund.
        """
        return Height(self.bond_height - 3 * self.dispute_blocks)

    def is_late(self, following: Height) -> bool:
        """Return whether a claim in the next block could no longer be answered for. following: its height."""
        return self.is_lazy and following > self.last_claim_height

    @property
    def is_lazy(self) -> bool:
        """Whether a claim says its range alone, and the digits only once it is challenged."""
        return self.challenge_bond > 0

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of oracles, each enough to settle."""
        return tuple(combinations(range(len(self.events[0])), self.threshold))

    @cached_property
    def id(self) -> Hash32:
        """What a set-up is bound to: all of it, keys and circuit and oracles among them."""
        one, other = self.claimant, self.verifier
        keys = b"".join(
            len(part).to_bytes(2, "little") + part
            for part in (
                one.open, one.claim, one.both, one.payout, *one.silence, one.script,
                other.open, other.claim, other.both, other.overdue, other.bond, other.escrow, *other.digits,
                other.script,
            )
        )  # fmt: skip
        numbers = (
            self.threshold, self.collateral, self.bond, self.silence_height, self.refund_height, self.dispute_blocks,
            self.fee, self.challenge_bond, self.claim_height, self.copies.count, self.copies.opened,
            len(self.events), len(self.events[0]), len(self.claim.payouts), *self.claim.payouts,
        )  # fmt: skip
        announced = b"".join(one.oracle_key + one.digest() for event in self.events for one in event)
        return tagged_hash(
            _TERMS_TAG, self.claim.circuit.id + announced + b"".join(n.to_bytes(8, "little") for n in numbers) + keys
        )
