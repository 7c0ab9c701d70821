"""Settling a contract: the attestation finishes one CET, and a child pays its fee and carries the proof root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from btcfi import secp256k1
from btcfi.bitcoin import adaptor
from btcfi.bitcoin.adaptor import ADAPTOR_SIZE, WrongAdaptorError
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
from btcfi.bitcoin.transaction import SEQUENCE_RBF, TRUC_VERSION, OutPoint, Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts import leaves
from btcfi.contracts.buckets import bucket_of
from btcfi.contracts.execution import ANCHOR, CET_PATH, ExecutionPlan
from btcfi.contracts.metadata import RecordType, record_script
from btcfi.contracts.option import WrongSignatureError
from btcfi.errors import InvalidInputError, RetryableError
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation, check_attestation
from btcfi.units import Hash32, Sats

_ANCHOR_INPUT_WEIGHT: Final = 4 * 41 + 1
"""Outpoint, empty script, sequence; an empty witness."""


_RECORD_SIZE: Final = len(
    TxOut(value=Sats(0), script=record_script(RecordType.SETTLEMENT_PROOF, Hash32(bytes(32)))).to_bytes()
)

_check_once = lru_cache(maxsize=256)(check_attestation)
"""Options of one expiry share an attestation: its 18 signatures are checked once a process; failures are not kept."""


class TooFewAttestationsError(RetryableError):
    """Fewer oracles than the threshold attest the same outcome, so far."""

    def __init__(self, *, agreeing: int, threshold: int) -> None:
        super().__init__(f"{agreeing} oracles attest the same outcome, the contract needs {threshold}")
        self.agreeing, self.threshold = agreeing, threshold


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
    fee: Sats
    """Its own. payout + seller_return + anchor + fee = collateral; the anchor pays towards the child's fee."""

    @property
    def anchor_outpoint(self) -> OutPoint:
        """The output that the child spends: the last one."""
        return self.transaction.outpoint(len(self.transaction.outputs) - 1)

    @property
    def outpoints(self) -> tuple[OutPoint, ...]:
        """All its outputs, the anchor last: a version 3 transaction has one child in the pool, whichever it spends."""
        return tuple(self.transaction.outpoint(index) for index in range(len(self.transaction.outputs)))


def complete_cet(
    plan: ExecutionPlan, *, buyer: bytes, seller: bytes, attestations: Sequence[Attestation]
) -> CompletedCet:
    """Return the CET of the attested outcome, fully signed.

    buyer, seller: all pre-signatures of each party. attestations: checked against the plan's announcements; the
    outcome that most oracles attest counts, and the threshold of them is used. Raises TooFewAttestationsError,
    WrongAttestationError, WrongAdaptorError, WrongSignatureError.
    """
    outcome, subset, chosen = agreeing_of(plan.announcements, plan.threshold, attestations)
    digits = plan.announcements[0].event.signed_digits
    bucket = bucket_of(plan.buckets, outcome, digits)
    length = plan.buckets[bucket].length
    secret = secret_of(chosen, length)
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
        fee=plan.cet_fee,
    )


def agreeing_of(
    announcements: Sequence[Announcement], threshold: int, attestations: Sequence[Attestation]
) -> tuple[int, tuple[int, ...], tuple[Attestation, ...]]:
    """Return the outcome that most oracles attest, the places of ``threshold`` of them, and their attestations.

    Raises TooFewAttestationsError; WrongAttestationError for one that is not its oracle's.
    """
    places = {announcement.oracle_key: place for place, announcement in enumerate(announcements)}
    by_outcome: dict[int, dict[int, Attestation]] = {}
    for attestation in attestations:
        place = places.get(attestation.oracle_key)
        if place is None:
            continue  # an oracle of somebody else's contract
        _check_once(attestation, announcements[place])
        by_outcome.setdefault(attestation.outcome, {})[place] = attestation
    outcome, agreeing = max(by_outcome.items(), key=lambda item: len(item[1]), default=(0, {}))
    if len(agreeing) < threshold:
        raise TooFewAttestationsError(agreeing=len(agreeing), threshold=threshold)
    subset = tuple(sorted(agreeing)[:threshold])
    return outcome, subset, tuple(agreeing[place] for place in subset)


@lru_cache(maxsize=256)
def secret_of(chosen: tuple[Attestation, ...], length: int) -> bytes:
    """Return the sum of what these oracles have published of a prefix; options of one expiry share it."""
    secret = chosen[0].prefix_secret(length)
    for attestation in chosen[1:]:
        secret = secp256k1.scalar_add(secret, attestation.prefix_secret(length))
    return secret


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


def child_vsize(change_script: bytes) -> int:
    """Return the virtual size of a signed child: anchor, one coin, change and the record."""
    change_size = len(TxOut(value=Sats(0), script=change_script).to_bytes())
    weight = OVERHEAD_WEIGHT + _ANCHOR_INPUT_WEIGHT + P2TR_INPUT_WEIGHT + 4 * (change_size + _RECORD_SIZE)
    return vsize_of(weight)


def child_fee(cet: CompletedCet, rate: SatsPerKvb, change_script: bytes) -> Sats:
    """Return what a child pays so that it and its CET pay ``rate`` together: at least that for its own size."""
    vsize = child_vsize(change_script)
    return Sats(max(fee_for(vsize + cet.transaction.vsize, rate) - cet.fee, fee_for(vsize, rate)))


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
    fee = child_fee(cet, rate, change_script)
    if replaces is not None:
        vsize = child_vsize(change_script)
        fee = Sats(max(fee, replacement_fee(old_fee=replaces.fee, vsize=vsize, rate=rate)))
    return child_paying(cet, coin, fee=fee, change_script=change_script, proof_root=proof_root)


def child_paying(
    cet: CompletedCet, coin: Coin, *, fee: Sats, change_script: bytes, proof_root: Hash32
) -> Child:  # fmt: skip
    """Return the child of a CET that pays exactly ``fee``. Raises InsufficientFundsError, InvalidInputError."""
    change = cet.anchor + coin.value - fee
    if change < dust_limit(change_script):
        raise InsufficientFundsError(
            available=Sats(coin.value), needed=Sats(fee - cet.anchor + dust_limit(change_script))
        )
    record = TxOut(value=Sats(0), script=record_script(RecordType.SETTLEMENT_PROOF, proof_root))
    transaction = Transaction(
        version=TRUC_VERSION,
        inputs=(
            TxIn(outpoint=cet.anchor_outpoint, sequence=SEQUENCE_RBF),
            TxIn(outpoint=coin.outpoint, sequence=SEQUENCE_RBF),
        ),
        outputs=(TxOut(value=Sats(change), script=change_script), record),
    )
    return Child(transaction=transaction, spent=(ANCHOR, coin.output), fee=fee)
