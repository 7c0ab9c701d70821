"""Disputes enforced by Bitcoin: what a contract weighs on the chain, and what its set-up costs. Machine: this one.

The same contracts as in the tables of docs/disputes.md (``dispute_costs``): sizes are of the transactions as they are
signed, without the children that pay for them. Two of three oracles, 17 ranges unless said.
"""

from __future__ import annotations

import time

from btcfi.disputes.claims import price_claim
from btcfi.disputes.garbled.presign import read_claim
from btcfi.disputes.garbled.setup import Verdict
from btcfi.units import Txid
from tests.benchmarks import Row, row_of
from tests.support.dispute_templates import SPOT, Contract, contract
from tests.support.disputing import RANGES, Dispute

REPEATS = 5


def rows() -> list[Row]:
    """Return the rows of disputes, in about 15 s."""
    call, fine = _of("G, a call"), _of("G, a call of 257 ranges")
    fused, mean = _of("A, a call, fused"), _of("A, a mean of 8, fused")
    paid, released = "vB: opening, claim, payout", "vB: opening, claim, release"
    return [
        _happy("call", call, paid),
        _happy("mean8", _of("G, a mean of 8"), paid),
        Row(name="dispute.disprove_vb", value=call.made["disproof"].vsize, unit="vB"),
        _evaluate(),
        _lazy("mean30", _of("G, a mean of 30, lazy"), released),
        *_setup("call", call),
        *_setup("call257", fine),
        _happy("leaves", fused, f"{paid}; a capped call, fused"),
        _happy("leaves.steps", _of("A, a call, step by step"), f"{paid}; the same, a leaf a step"),
        _happy("leaves.mean8", mean, paid),
        Row(name="dispute.leaves.disprove_vb", value=fused.made["disproof"].vsize, unit="vB, of the call"),
        Row(name="dispute.leaves.mean8.disprove_vb", value=mean.made["disproof"].vsize, unit="vB, the largest"),
    ]


def _of(name: str) -> Contract:
    made: Contract = contract(name)
    return made


def _happy(name: str, one: Contract, unit: str) -> Row:
    return Row(name=f"dispute.{name}.happy_vb", value=one.vsize(one.happy), unit=unit)


def _lazy(name: str, one: Contract, unit: str) -> Row:
    return Row(name=f"dispute.{name}.lazy_vb", value=one.vsize(one.happy), unit=unit)


def _setup(name: str, one: Contract) -> list[Row]:
    unit = "s of a processor, for both sides, each having checked the other's"
    return [
        Row(name=f"dispute.{name}.setup_s", value=one.seconds, unit=unit),
        Row(name=f"dispute.{name}.setup_kb", value=one.sent / 1_000, unit="kB, sent by both"),
    ]


def _evaluate() -> Row:
    dispute = Dispute(price_claim(RANGES))
    dispute.signed(Txid(bytes(range(32))))
    lie = dispute.claimed(0, dispute.attested([SPOT]))
    named = read_claim(dispute.graph, dispute.of_claims, lie).named(dispute.graph)
    samples = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        judgement = dispute.kept.judge(*named)
        samples.append(1_000 * (time.perf_counter() - began))
        if judgement.verdict is not Verdict.CONVICTED or judgement.secret is None:
            raise AssertionError(judgement)
    return row_of("dispute.evaluate_ms", samples, unit="ms, from what the chain shows to the secret")
