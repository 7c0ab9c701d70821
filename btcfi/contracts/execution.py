"""Contract execution transactions (CETs): one per payout bucket, signed by both parties before the funding.

Each is a version 3 transaction, minable after the expiry height, that pays a small fee of its own (none in contracts of
version 1), with a 240-sat pay-to-anchor output that a child spends to pay more. Both parties pre-sign every one under
the sum of the oracles' anticipation points of its bucket: only the attestation of an outcome in that bucket finishes
the signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from struct import pack
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, taproot
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.fees import (
    DUST_P2A,
)
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import (
    SEQUENCE_LOCKTIME,
    TRUC_VERSION,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
)
from btcfi.contracts import leaves
from btcfi.contracts.buckets import Bucket
from btcfi.contracts.option import OptionContract, split
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import Announcement, DigitPoints, check_together
from btcfi.units import Hash32, Sats

CET_PATH: Final = "settle"
"""The leaf that CETs spend."""

ANCHOR: Final = TxOut(value=DUST_P2A, script=P2A_SCRIPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How one CET divides the collateral; buyer + seller + 240 + its own fee = collateral."""

    buyer: Sats
    seller: Sats


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """Everything that fixes a contract's CETs. Two equal plans have byte-equal transactions and points."""

    contract: OptionContract
    funding: OutPoint
    buckets: Sequence[Bucket]
    announcements: tuple[Announcement, ...]
    """The oracles, in the order that both parties use."""
    threshold: int = 1
    """How many of them must attest the same outcome."""
    cet_fee: Sats
    """What each CET pays by itself; 0 in contracts of version 1."""
    shared_points: tuple[DigitPoints, ...] | None = field(default=None, repr=False, compare=False)
    """Anticipation points computed already, for contracts on the same event."""
    _state: _State = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare what all CETs share. Raises InvalidInputError for a threshold that no oracles can meet."""
        if not 1 <= self.threshold <= len(self.announcements):
            raise InvalidInputError("threshold", str(self.threshold), f"1 to {len(self.announcements)} oracles")
        if len({a.oracle_key for a in self.announcements}) != len(self.announcements):
            raise InvalidInputError("oracles", "one key stands twice", "different oracles")
        if any(a.event != self.announcements[0].event for a in self.announcements):
            raise InvalidInputError("announcements", "are of different events", "one event")
        check_together(self.announcements)
        object.__setattr__(self, "_state", _State.of(self))

    @property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of oracles that can settle, in the order of their signatures."""
        return tuple(combinations(range(len(self.announcements)), self.threshold))

    @property
    def signature_count(self) -> int:
        """How many pre-signatures each party gives: buckets times sets of oracles."""
        return len(self.buckets) * len(self.subsets)

    def split_of(self, bucket: int) -> Split:
        """Return the amounts of a bucket's CET."""
        chain, payout = self.contract, self.buckets[bucket].payout
        costs = Sats(ANCHOR.value + self.cet_fee)
        buyer, seller = split(chain.collateral, payout, costs, nearest=chain.nearest_dust)
        return Split(buyer=buyer, seller=seller)

    def has(self, transaction: Transaction) -> bool:
        """Whether a transaction is one of the CETs, signed or not."""
        paying = {bucket.payout: place for place, bucket in enumerate(self.buckets)}
        return any(self.transaction(place).txid == transaction.txid for place in paying.values())

    def transaction(self, bucket: int) -> Transaction:
        """Return a bucket's CET, not signed."""
        amounts = self.split_of(bucket)
        outputs = [TxOut(value=amounts.buyer, script=self.contract.buyer_script)] if amounts.buyer else []
        outputs += [TxOut(value=amounts.seller, script=self.contract.seller_script)] if amounts.seller else []
        return Transaction(
            version=TRUC_VERSION,
            inputs=(TxIn(outpoint=self.funding, sequence=SEQUENCE_LOCKTIME),),
            outputs=(*outputs, ANCHOR),
            lock_time=self.contract.expiry_height,
        )

    def sighash(self, bucket: int) -> Hash32:
        """Return what both parties pre-sign for a bucket; the fast road to ``taproot.sighash`` of its transaction."""
        amounts, state = self.split_of(bucket), self._state
        outputs = b"".join(
            (
                pack("<q", amounts.buyer) + state.buyer_tail if amounts.buyer else b"",
                pack("<q", amounts.seller) + state.seller_tail if amounts.seller else b"",
                state.anchor,
            )
        )
        return state.midstate.sighash(outputs)

    @cached_property
    def points(self) -> tuple[DigitPoints, ...]:
        """The anticipation points of each oracle's digits; settling needs none of them, signing and checking do."""
        return self.shared_points or tuple(DigitPoints(announcement=a) for a in self.announcements)

    def point(self, bucket: int, subset: Sequence[int]) -> Any:  # noqa: ANN401 - cffi has no types
        """Return a bucket's adaptor point for a set of oracles, in libsecp256k1's form."""
        chosen = self.buckets[bucket]
        points = [self.points[oracle].of_prefix(chosen.prefix, chosen.length) for oracle in subset]
        return points[0] if len(points) == 1 else secp256k1.sum_points(points)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What all CETs of a plan share, computed once."""

    midstate: taproot.SighashMidstate
    buyer_tail: bytes
    seller_tail: bytes
    anchor: bytes

    @classmethod
    def of(cls, plan: ExecutionPlan) -> _State:
        leaf = leaves.leaf(CET_PATH, plan.contract.keys)
        return cls(
            midstate=taproot.sighash_midstate(
                plan.transaction(0), 0, [plan.contract.funding_txout()], leaf=taproot.leaf_hash(leaf.script)
            ),
            buyer_tail=TxOut(value=Sats(0), script=plan.contract.buyer_script).to_bytes()[8:],
            seller_tail=TxOut(value=Sats(0), script=plan.contract.seller_script).to_bytes()[8:],
            anchor=ANCHOR.to_bytes(),
        )


def presign(plan: ExecutionPlan, secret: bytes, *, start: int = 0, stop: int | None = None) -> bytes:
    """Return one party's pre-signatures of buckets ``start`` to ``stop``, 65 bytes each, concatenated.

    Per bucket one for each set of oracles, in the order of ``plan.subsets``; ranges can be signed by different
    workers and joined. Raises InvalidInputError when the secret is neither party's.
    """
    key = AdaptorKey(secret)
    if key.public not in (plan.contract.buyer_key, plan.contract.seller_key):
        raise InvalidInputError("secret key", "belongs to neither party of the contract", "the buyer's or the seller's")
    parts = []
    for bucket in range(start, len(plan.buckets) if stop is None else stop):
        digest = plan.sighash(bucket)
        parts += [key.presign(digest, plan.point(bucket, subset)) for subset in plan.subsets]
    return b"".join(parts)


def check_presignatures(
    plan: ExecutionPlan, party: str, presignatures: bytes, *, start: int = 0, stop: int | None = None
) -> None:
    """Check a party's pre-signatures of buckets ``start`` to ``stop``, as ``presign`` returns them.

    party: "buyer" or "seller". Raises WrongAdaptorError naming the first bad bucket.
    """
    public = {"buyer": plan.contract.buyer_key, "seller": plan.contract.seller_key}[party]
    buckets = range(start, len(plan.buckets) if stop is None else stop)
    expected = len(buckets) * len(plan.subsets)
    if len(presignatures) != expected * ADAPTOR_SIZE:
        have = len(presignatures) / ADAPTOR_SIZE
        raise WrongAdaptorError(f"{party}: {have:g} signatures instead of {expected}, as a set")
    at = 0
    for bucket in buckets:
        digest = plan.sighash(bucket)
        for subset in plan.subsets:
            one = presignatures[at : at + ADAPTOR_SIZE]
            if not adaptor.presignature_is_valid(public, digest, plan.point(bucket, subset), one):
                raise WrongAdaptorError(f"{party}, {_range(plan, bucket)}, oracles {subset}")
            at += ADAPTOR_SIZE


def _range(plan: ExecutionPlan, bucket: int) -> str:
    """Return the name of a bucket: its number, what it pays, and at which digits of the attestation."""
    one = plan.buckets[bucket]
    return f"bucket {bucket} ({one.payout:,} sats at the digits {one.prefix:0{one.length}b})"
