"""What two parties agree on before a week begins: the contract, the margin, the times, the oracles, the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin.fees import MAX_FEE_RATE, MIN_RELAY_FEE_RATE, SatsPerKvb, fee_for
from btcfi.bitcoin.script import is_known_program
from btcfi.contracts.settle import agreeing_of
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import NO_PROGRAM, Announcement, OracleEvent, check_announcement
from btcfi.oracle.attestation import Attestation
from btcfi.swaps.bilateral.grid import STANDARD_DIGITS, return_event
from btcfi.swaps.contract import LOT, Rates, SwapContract
from btcfi.swaps.errors import Guard, SwapRefusedError
from btcfi.swaps.onchain import MarginOutput, ReturnGrid
from btcfi.swaps.returns import Side
from btcfi.units import Hash32, Sats, Slot, UnixSeconds

LEAST_WINDOW: Final = 4 * 3_600
"""Seconds from the price to the settlement time. The chain's median time lags: it opens about an hour later still."""

FEE_CAP: Final = SatsPerKvb(1_000_000)
"""Up to which a burn is promised unless the terms say otherwise: what the pipeline pays near a deadline at most."""

BURN_VSIZE: Final = 240
"""Virtual bytes of a burn with a coin of the burner's own and change."""

_SHARE: Final = 4 * 10
"""A burn's fee at the cap is at most a tenth of the quarter of the margin that it costs anyway."""

MAX_SETS: Final = 35
"""Sets of oracles that can settle, 4 of 7: each is a signature a bucket, 50,000 in all at ten digits."""

_KEY_SIZE: Final = 33


class Owner(StrEnum):
    """Whose a margin is."""

    TAKER = "taker"
    PROVIDER = "provider"

    @property
    def other(self) -> Owner:
        """Return the counterparty."""
        return Owner.PROVIDER if self is Owner.TAKER else Owner.TAKER


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One side's key and where its money goes."""

    key: bytes
    """Compressed, 33 bytes; of this contract alone."""
    script: bytes

    def __post_init__(self) -> None:
        """Raise InvalidInputError for no key, or a script that not every node relays."""
        if len(self.key) != _KEY_SIZE or not secp256k1.is_point(self.key):
            raise InvalidInputError("key", "is not on the curve", "a compressed point, 33 bytes")
        if not is_known_program(self.script):
            raise InvalidInputError("payout script", self.script.hex()[:80], "P2WPKH, P2WSH or P2TR")

    @property
    def xonly(self) -> bytes:
        """The key as scripts name it."""
        return self.key[1:]


def least_required(cap: SatsPerKvb = FEE_CAP) -> Sats:
    """Return the least required margin at which a burn's fee stays a tenth of RM/4 up to a fee rate, in whole lots.

    Below it the burn is no threat: whoever burns loses RM/4 and the fee, and a fee above RM/4 would decide.
    """
    return Sats(-(-_SHARE * fee_for(BURN_VSIZE, cap) // LOT) * LOT)


@dataclass(frozen=True, kw_only=True)
class SwapTerms:
    """Everything that fixes a bilateral swap, its funding's txid apart. Equal terms have byte-equal transactions."""

    contract: SwapContract
    side: Side
    """The taker's."""
    rates: Rates
    required: Sats
    """RM, of each side."""
    start: Slot
    """The minute of the start price: nothing is signed from then on."""
    end: Slot
    """The minute of the settlement price."""
    lock: UnixSeconds
    """The settlement time, in the chain's median time; until then the debtor may burn and nobody may settle."""
    taker: Party
    provider: Party
    announcements: tuple[Announcement, ...]
    """The oracles, in the order that both use."""
    threshold: int
    """How many must attest the same return."""
    price_rule: Hash32
    """Hash of the preset by which the oracles agree on prices."""
    program: Hash32 = NO_PROGRAM
    digits: int = STANDARD_DIGITS
    fee_cap: SatsPerKvb = FEE_CAP
    """Fee rate up to which a burn is promised to be cheap beside what it costs anyway."""
    least_window: int = LEAST_WINDOW
    """Seconds to burn in; a demo that mines its own blocks may take fewer."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for terms that nobody should sign, WrongAnnouncementError for another event's."""
        if not MIN_RELAY_FEE_RATE <= self.fee_cap <= MAX_FEE_RATE:
            raise InvalidInputError("fee cap", f"{self.fee_cap}", f"{MIN_RELAY_FEE_RATE} to {MAX_FEE_RATE} sat/kvB")
        least = least_required(self.fee_cap)
        if self.required % LOT or self.required < least:
            expected = f"whole lots of {LOT}, at least {least} for a fee cap of {self.fee_cap} sat/kvB"
            raise InvalidInputError("required margin", f"{self.required} sats", expected)
        if self.lock < self.end + self.least_window:
            raise InvalidInputError(
                "settlement time", f"{self.lock}", f"at least {self.least_window} s after the price of {self.end}"
            )
        self._check_oracles()
        _ = self.margins  # their own bounds

    def _check_oracles(self) -> None:
        count = len(self.announcements)
        if not 1 <= self.threshold <= count or comb(count, self.threshold) > MAX_SETS:
            raise InvalidInputError("oracles", f"{self.threshold} of {count}", f"at most {MAX_SETS} sets that settle")
        if len({one.oracle_key for one in self.announcements}) != count:
            raise InvalidInputError("oracles", "one key stands twice", "different oracles")
        for one in self.announcements:
            check_announcement(one, expected=self.event)

    @cached_property
    def event(self) -> OracleEvent:
        """The return that is attested."""
        return return_event(
            self.contract, self.side, self.rates, start=self.start, end=self.end, price_rule=self.price_rule,
            program=self.program, digits=self.digits,
        )  # fmt: skip

    @cached_property
    def grid(self) -> ReturnGrid:
        """The returns that can be attested."""
        return ReturnGrid(digits=self.digits)

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of oracles that can settle, in the order of their signatures."""
        return tuple(combinations(range(len(self.announcements)), self.threshold))

    @cached_property
    def margins(self) -> dict[Owner, MarginOutput]:
        """Each side's margin as an output; the taker's key comes first in both."""
        keys = (self.taker.key, self.provider.key)
        return {
            owner: MarginOutput(keys=keys, owner=place, required=self.required, lock=self.lock)
            for place, owner in enumerate(Owner)
        }

    def party(self, owner: Owner) -> Party:
        """Return one side."""
        return self.taker if owner is Owner.TAKER else self.provider

    def owner_of(self, secret: bytes) -> Owner:
        """Return whose contract key a secret is. Raises InvalidInputError for neither's."""
        public = secp256k1.public_key_compressed(secret)
        for owner in Owner:
            if self.party(owner).key == public:
                return owner
        raise InvalidInputError("secret key", "belongs to neither party of the swap", "the taker's or the provider's")

    def check_in_time(self, now: UnixSeconds) -> None:
        """Check that the start price does not exist yet: who signs after it has given away an option.

        Raises SwapRefusedError.
        """
        if now >= self.start:
            raise SwapRefusedError(Guard.TOO_LATE, f"signed at {now}", f"before the start price of {self.start}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What enough oracles have attested."""

    number: int
    oracles: tuple[int, ...]
    """Their places: one of ``SwapTerms.sets``."""
    attestations: tuple[Attestation, ...]
    """Theirs."""


def read_outcome(terms: SwapTerms, attested: Sequence[Attestation]) -> Outcome:
    """Return the outcome that most oracles attest, once enough do.

    Raises TooFewAttestationsError, WrongAttestationError for one that is not its oracle's.
    """
    number, oracles, agreeing = agreeing_of(terms.announcements, terms.threshold, attested)
    return Outcome(number=number, oracles=oracles, attestations=agreeing)
