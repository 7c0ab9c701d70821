"""Disputes enforced by Bitcoin: what a contract weighs on the chain, and what its set-up costs. Machine: this one.

Sizes are of the transactions as they are signed, without the children that pay for them; an opening is counted with one
input of each side that puts something in, and no change. Two of three oracles, 17 ranges unless said.
"""

from __future__ import annotations

import time

from btcfi.bitcoin.fees import OVERHEAD_WEIGHT, P2TR_INPUT_WEIGHT, P2TR_OUTPUT_WEIGHT, vsize_of
from btcfi.disputes.claims import Ranges, mean_claim, price_claim
from btcfi.disputes.garbled.messages import (
    encode_claims,
    encode_commitments,
    encode_cut,
    encode_openings,
    encode_silence,
)
from btcfi.disputes.garbled.presign import (
    build_disproof,
    build_payout,
    build_release,
    check_claims,
    check_silence,
    read_claim,
)
from btcfi.disputes.garbled.setup import Garbler, Verdict, kept_of
from btcfi.units import Sats, Txid
from tests.benchmarks import Row
from tests.support.disputing import RANGES, Dispute, secret

SPOT = 67_890
FINE = Ranges(
    starts=(0, *range(60_000, 60_000 + 64 * 256, 64)), payouts=tuple(Sats(62_500 * at) for at in range(257))
)  # fmt: skip


def rows() -> list[Row]:
    """Return the rows of disputes, in about 15 s."""
    return [*_happy(), *_lazy(), *_setup("call", price_claim(RANGES)), *_setup("call257", price_claim(FINE))]


def _made(claim, **options) -> Dispute:  # type: ignore[no-untyped-def]  # the stage of tests
    dispute = Dispute(claim, **options)
    dispute.signed(Txid(bytes(range(32))))
    return dispute


def _opening(inputs: int, outputs: int) -> int:
    return vsize_of(OVERHEAD_WEIGHT + inputs * P2TR_INPUT_WEIGHT + outputs * P2TR_OUTPUT_WEIGHT)


def _happy() -> list[Row]:
    found = []
    for name, claim, outcomes in (
        ("call", price_claim(RANGES), [SPOT]),
        ("mean8", mean_claim(RANGES, 8), [SPOT] * 8),
    ):
        dispute = _made(claim)
        made = dispute.claimed(dispute.right(outcomes), dispute.attested(outcomes))
        payout = build_payout(
            dispute.graph, made, payout=dispute.p.payout, script=dispute.p.wallet.script, fee=Sats(400)
        )  # fmt: skip
        total = _opening(1, 1) + made.vsize + payout.vsize
        found.append(Row(name=f"dispute.{name}.happy_vb", value=total, unit="vB: opening, claim, payout"))
        if name == "call":
            lie = dispute.claimed(0, dispute.attested(outcomes))
            read = read_claim(dispute.graph, dispute.of_claims, lie)
            named = read.named(dispute.graph)
            began = time.perf_counter()
            judgement = dispute.kept.judge(*named)
            took = 1_000 * (time.perf_counter() - began)
            if judgement.verdict is not Verdict.CONVICTED or judgement.secret is None:
                raise AssertionError(judgement)
            disproof = build_disproof(
                dispute.graph, lie, fault=judgement.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
                fee=Sats(400), entropy=secret("one") + secret("other"),
            )  # fmt: skip
            found += [
                Row(name="dispute.disprove_vb", value=disproof.vsize, unit="vB"),
                Row(name="dispute.evaluate_ms", value=took, unit="ms, from what the chain shows to the secret"),
            ]
    return found


def _lazy() -> list[Row]:
    outcomes = [67_000 + 37 * minute for minute in range(30)]
    dispute = _made(mean_claim(RANGES, 30), claim_height=10)
    number = dispute.right(outcomes)
    made = dispute.claimed(number, dispute.attested(outcomes))
    release = build_release(dispute.graph, dispute.of_claims, (number, False), both=dispute.p.both)
    total = _opening(2, 2) + made.vsize + release.vsize
    return [Row(name="dispute.mean30.lazy_vb", value=total, unit="vB: opening, claim, release")]


def _setup(name: str, claim) -> list[Row]:  # type: ignore[no-untyped-def]  # a claim
    dispute = Dispute(claim)
    subject = dispute.garbler.subject
    began = time.perf_counter()
    garbler = Garbler(subject, secret("another"))
    first = garbler.commitments()
    second = garbler.openings(dispute.cut)
    kept_of(subject, first, dispute.cut, second, coins=secret("coins"))
    dispute.garbler, dispute.commitments = garbler, first
    dispute.signed(Txid(bytes(range(32))))  # signs all, and checks all, of both sides
    check_claims(dispute.graph, dispute.of_claims)
    check_silence(dispute.graph, dispute.of_silence)
    took = time.perf_counter() - began
    sent = [encode_cut(dispute.cut), encode_commitments(first), encode_openings(second)]
    sent += [encode_claims(dispute.of_claims), encode_silence(dispute.of_silence)]
    return [
        Row(name=f"dispute.{name}.setup_s", value=took, unit="s, both sides, one process, checked twice"),
        Row(name=f"dispute.{name}.setup_kb", value=sum(map(len, sent)) / 1_000, unit="kB, sent by both"),
    ]
