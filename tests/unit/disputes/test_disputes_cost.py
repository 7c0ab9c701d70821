"""What a contract is said to cost, before anybody signs, is what it costs."""

import pytest

from btcfi.bitcoin.adaptor import ADAPTOR_SIZE
from btcfi.disputes.claims import Ranges, knock_out_claim, mean_claim, price_claim
from btcfi.disputes.garbled import messages as wire
from btcfi.disputes.garbled.chains import SIGNATURE_SIZE
from btcfi.disputes.garbled.cost import Rates, cost_of
from btcfi.disputes.garbled.presign import (
    build_challenge,
    build_disproof,
    build_payout,
    build_release,
    build_reveal,
    read_claim,
)
from btcfi.units import Sats, Txid
from tests.support.disputing import RANGES, Dispute, secret

SPOT = 67_890
FINE = Ranges(starts=(0, *range(60_000, 60_000 + 16 * 80, 16)), payouts=tuple(Sats(200_000 * at) for at in range(81)))

CLAIMS = {
    "call": (price_claim(RANGES), {}),
    "one of one, 81 ranges": (price_claim(FINE), {"oracles": 1, "threshold": 1}),
    "mean of three, lazy": (mean_claim(RANGES, 3), {"lazy": True}),
    "knock-out, lazy, one of two": (
        knock_out_claim(RANGES, 2, barrier=90_000, up=True, rebate=Sats(0)),
        {"lazy": True, "oracles": 2, "threshold": 1},
    ),
}  # fmt: skip


def made(claim, options):
    """The contract itself, with every signature."""
    given = {name: value for name, value in options.items() if name != "lazy"}
    dispute = Dispute(claim, claim_height=10 if options.get("lazy") else 0, **given)
    dispute.signed(Txid(bytes(range(32))))
    return dispute


@pytest.mark.parametrize("name", list(CLAIMS))
def test_the_cost_that_is_printed_is_the_one_of_the_contract_itself(name):
    claim, options = CLAIMS[name]
    found, dispute = cost_of(claim, **options), made(claim, options)
    opened = dispute.garbler.openings(dispute.cut)
    setup = [wire.encode_cut(dispute.cut), wire.encode_commitments(dispute.commitments), wire.encode_openings(opened)]
    signed = [wire.encode_claims(dispute.of_claims), wire.encode_silence(dispute.of_silence)]
    assert found.sent_bytes == sum(map(len, setup + signed))
    assert found.tables_bytes == sum(len(one.rows) for one in opened.kept.values())
    longest = sum(map(len, signed)) / SIGNATURE_SIZE
    assert sum(map(len, signed)) / ADAPTOR_SIZE <= found.work.presignatures <= longest
    outcomes = [SPOT] * claim.events
    attested, number = dispute.attested(outcomes), 1
    claimed = dispute.claimed(number, attested)
    assert found.claim_vb == claimed.vsize
    if options.get("lazy"):
        released = build_release(dispute.graph, dispute.of_claims, (number, False), both=dispute.p.both)
        challenge = build_challenge(dispute.graph, dispute.of_silence, (number, False), both=dispute.v.both)
        shown = build_reveal(
            dispute.graph, dispute.of_claims, dispute.garbler, (number, False), attested=attested,
            claim=dispute.p.claim, both=dispute.p.both,
        )  # fmt: skip
        assert found.end_vb == released.vsize
        assert found.challenge_vb == challenge.vsize + shown.vsize
        return
    script = dispute.p.wallet.script
    assert found.challenge_vb == 0
    assert found.end_vb == build_payout(
        dispute.graph, claimed, payout=dispute.p.payout, script=script, fee=Sats(400)
    ).vsize  # fmt: skip
    lie = dispute.claimed(0, attested)
    judged = dispute.kept.judge(*read_claim(dispute.graph, dispute.of_claims, lie).named(dispute.graph))
    assert found.disprove_vb == build_disproof(
        dispute.graph, lie, fault=judged.secret, escrow=dispute.v.escrow, script=dispute.v.wallet.script,
        fee=Sats(400), entropy=secret("one") + secret("other"),
    ).vsize  # fmt: skip


def test_a_call_of_two_of_three_oracles_is_what_the_findings_hold_it_to():
    found = cost_of(price_claim(RANGES))
    assert (found.ranges, found.ands) == (17, 66)
    assert found.happy_vb == found.opening_vb + found.claim_vb + found.end_vb <= 626
    assert found.sent_bytes < 1_500_000
    lazy = cost_of(mean_claim(RANGES, 3), lazy=True)
    assert lazy.happy_vb <= 600


def test_seconds_are_the_sum_of_what_is_computed_by_somebody_s_rates():
    found = cost_of(price_claim(RANGES), oracles=1, threshold=1)
    work = found.work
    rates = Rates(point=1.0, row=1_000.0, presignature=1_000_000.0)
    assert found.setup_seconds(rates) == work.points + 1_000 * work.rows + 1_000_000 * work.presignatures
    assert min(work.points, work.rows, work.presignatures) > 0
