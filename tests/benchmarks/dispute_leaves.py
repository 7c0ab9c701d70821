"""What a contract that leaves judge weighs on the chain: rows for ``dispute.py`` beside those of garbled circuits.

As there: two of three oracles, 17 ranges, an opening of one input and no change, no children.
"""

from __future__ import annotations

from btcfi.bitcoin.fees import OVERHEAD_WEIGHT, P2TR_INPUT_WEIGHT, P2TR_OUTPUT_WEIGHT, vsize_of
from btcfi.disputes.leaves.graph import build_payout, read_claim
from btcfi.disputes.leaves.judge import LeafClaim
from btcfi.disputes.leaves.payoffs import mean_claim, step_claim
from btcfi.units import Sats
from tests.benchmarks import Row
from tests.support.leaving import RANGES, LeafDispute


def call(reads: int | None = None) -> LeafClaim:
    """Return a capped call of 16 steps above 60,000 dollars."""
    return step_claim(
        "capped_call", strike=60_000, steps=16, payout=lambda one: Sats(1_000_000 * one), reads=reads
    )  # fmt: skip


def weighed(claim: LeafClaim, outcomes: list[int], **options: int) -> tuple[int, int]:
    """Return the virtual bytes of opening, claim and payout, and of the largest disproof."""
    dispute = LeafDispute(claim, **options).signed()
    number = dispute.right(outcomes)
    made = dispute.claimed(number, outcomes)
    payout = build_payout(
        dispute.graph, number, secret=dispute.p["payout"], script=dispute.p_wallet.script, fee=Sats(400)
    )  # fmt: skip
    opening = vsize_of(OVERHEAD_WEIGHT + P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT)
    read = read_claim(dispute.graph, made)
    disproofs = [dispute.disproof(read, place).vsize for place in range(len(claim.groups))]
    return opening + made.vsize + payout.vsize, max(disproofs)


def leaves_rows() -> list[Row]:
    """Return the rows of leaves, in about a second."""
    happy, disproof = weighed(call(), [60_500])
    apart, _ = weighed(call(reads=0), [60_500])
    mean, mean_disproof = weighed(mean_claim(RANGES, 8), [60_500] * 8)
    return [
        Row(name="dispute.leaves.happy_vb", value=happy, unit="vB: opening, claim, payout; a capped call, fused"),
        Row(name="dispute.leaves.steps.happy_vb", value=apart, unit="vB: the same, a leaf a step"),
        Row(name="dispute.leaves.mean8.happy_vb", value=mean, unit="vB: opening, claim, payout"),
        Row(name="dispute.leaves.disprove_vb", value=disproof, unit="vB, of the call"),
        Row(name="dispute.leaves.mean8.disprove_vb", value=mean_disproof, unit="vB, the largest"),
    ]
