"""The contract: adaptor signatures, signature hashes, and a covered call of 18 digits and a 10,000 sat step set up.

One core, one run. The adaptor rates stand against plain BIP340 signing and verifying through the same library; the
prepared signature hash against the general one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.adaptor import AdaptorKey, presignature_is_valid
from btcfi.contracts import leaves, setup
from btcfi.contracts.execution import CET_PATH
from btcfi.units import Sats
from tests.benchmarks import Row
from tests.support.contracts import BUYER_SECRET, SELLER, SELLER_SECRET, Scene

REPEATS = 5
COUNT = 1_000


def _seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    taken = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        taken.append(perf_counter() - start)
    return median(taken)


def _adaptor_rows() -> list[Row]:
    secret = bytes([7]) * 32
    key = AdaptorKey(secret)
    points = [secp256k1.generator_multiple((n + 1).to_bytes(32)) for n in range(COUNT)]
    messages = [n.to_bytes(32) for n in range(COUNT)]
    pairs = list(zip(messages, points, strict=True))
    made = [key.presign(message, point) for message, point in pairs]
    plain = [secp256k1.schnorr_sign(secret, message) for message in messages]
    sign = _seconds(lambda: [key.presign(message, point) for message, point in pairs])
    plain_sign = _seconds(lambda: [secp256k1.schnorr_sign(secret, message) for message in messages])
    verify = _seconds(
        lambda: [presignature_is_valid(key.public, m, p, s) for (m, p), s in zip(pairs, made, strict=True)]
    )
    plain_verify = _seconds(
        lambda: [secp256k1.schnorr_verify(key.public, m, s) for m, s in zip(messages, plain, strict=True)]
    )
    return [
        Row(
            name="adaptor.sign_per_s",
            value=round(COUNT / sign),
            unit="1/s",
            against=f"BIP340 signing by coincurve, {round(COUNT / plain_sign)}/s",
            ratio=round(plain_sign / sign, 2),
        ),
        Row(
            name="adaptor.verify_per_s",
            value=round(COUNT / verify),
            unit="1/s",
            against=f"BIP340 verifying by coincurve, {round(COUNT / plain_verify)}/s",
            ratio=round(plain_verify / verify, 2),
        ),
    ]


def _setup_rows() -> list[Row]:
    scene = Scene(step=10_000)
    scene.terms = replace(scene.terms, step=Sats(10_000))

    def accepting_side() -> None:
        # buckets from the payoff, transactions, points, both sides' pre-signatures made, one side's checked
        offer = scene.offer()
        agreement = scene.agreement(offer)
        accepted = setup.accept(offer, agreement, scene.buyer, BUYER_SECRET)
        setup.sign(offer, accepted, agreement, SELLER_SECRET, {SELLER.script: SELLER})

    agreement = scene.agreement()
    plan = agreement.plan
    both = _seconds(accepting_side, repeats=3)
    leaf = taproot.leaf_hash(leaves.leaf(CET_PATH, plan.contract.keys).script)
    spent = [plan.contract.funding_txout()]
    buckets = range(min(COUNT, len(plan.buckets)))
    prepared = _seconds(lambda: [plan.sighash(bucket) for bucket in buckets])
    general = _seconds(lambda: [taproot.sighash(plan.transaction(b), 0, spent, leaf=leaf) for b in buckets])
    return [
        Row(name="contract.signatures", value=plan.signature_count, unit="signatures a side"),
        # one run signs for both sides and checks one side: more than either side does alone
        Row(
            name="contract.setup_s",
            value=round(both, 3),
            unit="s",
            against="target 5 s a side",
            ratio=round(5 / both, 1),
        ),
        Row(
            name="sighash.per_s",
            value=round(len(buckets) / prepared),
            unit="1/s",
            against=f"building the transaction and BIP341's message whole, {round(len(buckets) / general)}/s",
            ratio=round(general / prepared, 1),
        ),
    ]


def rows() -> list[Row]:
    """Return the contract's rows."""
    return [*_adaptor_rows(), *_setup_rows()]
