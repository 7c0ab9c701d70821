"""Contract execution transactions (CETs): one per payout bucket, signed by both parties before the funding.

Each is a version 3 transaction without a fee, minable after the expiry height, with a 240-sat pay-to-anchor output
that its fee-paying child spends. Both parties pre-sign every one under the sum of the oracles' anticipation points of
its bucket: only the attestation of an outcome in that bucket finishes the signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from struct import pack
from typing import Any, Final

from btcfi import secp256k1
from btcfi.bitcoin import adaptor, taproot
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, AdaptorKey, WrongAdaptorError
from btcfi.bitcoin.fees import (
    DUST_P2A,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    SatsPerKvb,
    dust_limit,
    fee_for,
    replacement_fee,
    vsize_of,
)
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import (
    SEQUENCE_LOCKTIME,
    SEQUENCE_RBF,
    TRUC_VERSION,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
)
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts import leaves
from btcfi.contracts.buckets import Bucket, bucket_of
from btcfi.contracts.metadata import RecordType, record_script
from btcfi.contracts.option import OptionContract, WrongSignatureError, split
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.oracle.announcement import Announcement, DigitPoints
from btcfi.oracle.attestation import Attestation, check_attestation
from btcfi.units import Hash32, Sats

CET_PATH: Final = "settle"
"""The leaf that CETs spend."""

ANCHOR: Final = TxOut(value=DUST_P2A, script=P2A_SCRIPT)

_ANCHOR_INPUT_WEIGHT: Final = 4 * 41 + 1
"""Outpoint, empty script, sequence; an empty witness."""


class TooFewAttestationsError(BtcfiError):
    """Fewer oracles than the threshold attest the same outcome."""

    def __init__(self, *, agreeing: int, threshold: int) -> None:
        super().__init__(f"{agreeing} oracles attest the same outcome, the contract needs {threshold}")
        self.agreeing, self.threshold = agreeing, threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How one CET divides the collateral; buyer + seller + 240 = collateral."""

    buyer: Sats
    seller: Sats


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """Everything that fixes a contract's CETs. Two equal plans have byte-equal transactions and points."""

    contract: OptionContract
    funding: OutPoint
    buckets: tuple[Bucket, ...]
    announcements: tuple[Announcement, ...]
    """The oracles, in the order that both parties use."""
    threshold: int = 1
    """How many of them must attest the same outcome."""
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
        buyer, seller = split(self.contract.collateral, self.buckets[bucket].payout, ANCHOR.value)
        return Split(buyer=buyer, seller=seller)

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

    def point(self, bucket: int, subset: Sequence[int]) -> Any:  # noqa: ANN401 - cffi has no types
        """Return a bucket's adaptor point for a set of oracles, in libsecp256k1's form."""
        chosen = self.buckets[bucket]
        points = [self._state.digit_points[oracle].of_prefix(chosen.prefix, chosen.length) for oracle in subset]
        return points[0] if len(points) == 1 else secp256k1.sum_points(points)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What all CETs of a plan share, computed once."""

    digit_points: tuple[DigitPoints, ...]
    midstate: taproot.SighashMidstate
    buyer_tail: bytes
    seller_tail: bytes
    anchor: bytes

    @classmethod
    def of(cls, plan: ExecutionPlan) -> _State:
        leaf = leaves.leaf(CET_PATH, plan.contract.keys)
        return cls(
            digit_points=plan.shared_points or tuple(DigitPoints(announcement=a) for a in plan.announcements),
            midstate=taproot.sighash_midstate(
                plan.transaction(0), 0, [plan.contract.funding_txout()], leaf=taproot.leaf_hash(leaf.script)
            ),
            buyer_tail=TxOut(value=Sats(0), script=plan.contract.buyer_script).to_bytes()[8:],
            seller_tail=TxOut(value=Sats(0), script=plan.contract.seller_script).to_bytes()[8:],
            anchor=ANCHOR.to_bytes(),
        )


# ---- before the funding


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
                raise WrongAdaptorError(f"{party}, bucket {bucket}, oracles {subset}")
            at += ADAPTOR_SIZE


# ---- at expiry


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedCet:
    """A CET that the oracle's attestation finished."""

    transaction: Transaction
    bucket: int
    outcome: int
    payout: Sats
    """The buyer's output; 0 when there is none."""
    seller_return: Sats
    anchor: Sats = DUST_P2A
    """payout + seller_return + anchor = collateral; the anchor pays towards the child's fee."""

    @property
    def anchor_outpoint(self) -> OutPoint:
        """The output that the child spends: the last one."""
        return self.transaction.outpoint(len(self.transaction.outputs) - 1)


def complete_cet(
    plan: ExecutionPlan, *, buyer: bytes, seller: bytes, attestations: Sequence[Attestation]
) -> CompletedCet:
    """Return the CET of the attested outcome, fully signed.

    buyer, seller: all pre-signatures of each party. attestations: checked against the plan's announcements; the
    outcome that most oracles attest counts, and the threshold of them is used. Raises TooFewAttestationsError,
    WrongAttestationError, WrongAdaptorError, WrongSignatureError.
    """
    outcome, subset, chosen = _agreeing(plan, attestations)
    digits = plan.announcements[0].event.signed_digits
    bucket = bucket_of(plan.buckets, outcome, digits)
    length = plan.buckets[bucket].length
    secret = chosen[0].prefix_secret(length)
    for attestation in chosen[1:]:
        secret = secp256k1.scalar_add(secret, attestation.prefix_secret(length))
    place = bucket * len(plan.subsets) + plan.subsets.index(subset)
    digest, parts = plan.sighash(bucket), {}
    keys = {"buyer": plan.contract.buyer_key, "seller": plan.contract.seller_key}
    for party, presignatures in (("buyer", buyer), ("seller", seller)):
        one = presignatures[place * ADAPTOR_SIZE : (place + 1) * ADAPTOR_SIZE]
        if len(one) != ADAPTOR_SIZE:
            raise WrongAdaptorError(f"{party}, bucket {bucket}")
        parts[party] = adaptor.adapt(one, secret)
        if not secp256k1.schnorr_verify(keys[party], digest, parts[party]):
            raise WrongSignatureError(party=party, what=f"the CET of outcome {outcome}")
    witness = leaves.witness_of(CET_PATH, plan.contract.keys, plan.contract.output(), parts)
    amounts = plan.split_of(bucket)
    return CompletedCet(
        transaction=plan.transaction(bucket).with_witness(0, witness),
        bucket=bucket,
        outcome=outcome,
        payout=amounts.buyer,
        seller_return=amounts.seller,
    )


def _agreeing(
    plan: ExecutionPlan, attestations: Sequence[Attestation]
) -> tuple[int, tuple[int, ...], list[Attestation]]:
    places = {announcement.oracle_key: place for place, announcement in enumerate(plan.announcements)}
    by_outcome: dict[int, dict[int, Attestation]] = {}
    for attestation in attestations:
        place = places.get(attestation.oracle_key)
        if place is None:
            continue  # an oracle of somebody else's contract
        check_attestation(attestation, plan.announcements[place])
        by_outcome.setdefault(attestation.outcome, {})[place] = attestation
    outcome, agreeing = max(by_outcome.items(), key=lambda item: len(item[1]), default=(0, {}))
    if len(agreeing) < plan.threshold:
        raise TooFewAttestationsError(agreeing=len(agreeing), threshold=plan.threshold)
    subset = tuple(sorted(agreeing)[: plan.threshold])
    return outcome, subset, [agreeing[place] for place in subset]


def attested_secret(plan: ExecutionPlan, bucket: int, presignature: bytes, finished: bytes) -> bytes:
    """Return the oracles' secret that a CET on the chain reveals: proof of which outcome was used.

    Raises InvalidInputError when the signature does not finish this pre-signature.
    """
    secret = adaptor.extract(presignature, finished)
    revealed = secp256k1.public_key_compressed(secret)
    if all(secp256k1.serialize_point(plan.point(bucket, subset)) != revealed for subset in plan.subsets):
        raise InvalidInputError("signature", "reveals another secret", f"the secret of bucket {bucket}")
    return secret


# ---- the child that pays


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """The transaction that pays for a CET and carries the proof root. Not signed; input 0 is the anchor."""

    transaction: Transaction
    spent: tuple[TxOut, ...]
    fee: Sats


def build_child(
    cet: CompletedCet,
    coin: Coin,
    *,
    change_script: bytes,
    rate: SatsPerKvb,
    proof_root: Hash32,
    replaces: Child | None = None,
) -> Child:
    """Return the child of a CET: it spends the anchor and one confirmed coin, and pays for both at ``rate``.

    replaces: an earlier child that waits; the new one then pays what a replacement must. The change must stay above
    dust. Raises InsufficientFundsError, InvalidInputError.
    """
    record = TxOut(value=Sats(0), script=record_script(RecordType.SETTLEMENT_PROOF, proof_root))
    change_size = len(TxOut(value=Sats(0), script=change_script).to_bytes())
    weight = OVERHEAD_WEIGHT + _ANCHOR_INPUT_WEIGHT + P2TR_INPUT_WEIGHT + 4 * (change_size + len(record.to_bytes()))
    child_vsize = vsize_of(weight)
    fee = fee_for(child_vsize + cet.transaction.vsize, rate)
    if replaces is not None:
        fee = Sats(max(fee, replacement_fee(old_fee=replaces.fee, vsize=child_vsize, rate=rate)))
    change = cet.anchor + coin.value - fee
    if change < dust_limit(change_script):
        raise InsufficientFundsError(
            available=Sats(coin.value), needed=Sats(fee - cet.anchor + dust_limit(change_script))
        )
    transaction = Transaction(
        version=TRUC_VERSION,
        inputs=(
            TxIn(outpoint=cet.anchor_outpoint, sequence=SEQUENCE_RBF),
            TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF),
        ),
        outputs=(TxOut(value=Sats(change), script=change_script), record),
    )
    return Child(transaction=transaction, spent=(ANCHOR, coin.output), fee=fee)
