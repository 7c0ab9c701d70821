"""Every kind of claim that a proposal can name: its right range passes, every other one yields the fault's secret."""

import json

import numpy as np
import pytest

from btcfi import secp256k1
from btcfi.disputes.circuit import digits_of
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.setup import Verdict
from btcfi.errors import InvalidInputError
from btcfi.units import Sats
from tests.support.disputing import RANGES, Dispute

MINUTES = {
    Kind.PRICE: [67_890],
    Kind.MEAN: [60_000, 61_500, 61_501],
    Kind.MEDIAN: [99_000, 64_000, 1],
    Kind.KNOCK_OUT: [67_000, 75_999, 66_500],
    Kind.AVERAGE_STRIKE_CALL: [1, 130_000, 200_000],
    Kind.AVERAGE_STRIKE_PUT: [200_000, 130_000, 3],
}
RIGHT = {
    Kind.PRICE: 8, Kind.MEAN: 2, Kind.MEDIAN: 5, Kind.KNOCK_OUT: 7, Kind.AVERAGE_STRIKE_CALL: 16,
    Kind.AVERAGE_STRIKE_PUT: 16,
}  # fmt: skip
"""Of a call from 60,000 dollars on, a range a thousand dollars."""


def payoff(kind):
    barrier = Barrier(level=76_000, up=True, rebate=Sats(4_000)) if kind is Kind.KNOCK_OUT else None
    return Payoff(kind=kind, ranges=RANGES, barrier=barrier)


@pytest.mark.parametrize("kind", list(Kind))
def test_of_each_kind_one_range_is_right_and_every_other_convicts(kind):
    outcomes = MINUTES[kind]
    claim = payoff(kind).claim(len(outcomes))
    assert claim.range_of(np.array(outcomes)[:, None]).tolist() == [RIGHT[kind]]
    dispute = Dispute(claim)
    kept, circuit = dispute.kept, claim.circuit
    attested = {}
    for event, outcome in enumerate(outcomes):
        attested |= digits_of(circuit, f"price{event}", outcome)
    for number in range(len(claim.payouts)):
        values = attested | digits_of(circuit, "range", number)
        secrets = [dispute.garbler.label(place, values[one.name]) for place, one in enumerate(circuit.digits)]
        found = kept.judge(values, secrets)
        if number == RIGHT[kind]:
            assert found.verdict is Verdict.RIGHT
            continue
        assert found.verdict is Verdict.CONVICTED
        assert secp256k1.public_key_compressed(found.secret) == kept.fault


@pytest.mark.parametrize("kind", list(Kind))
def test_a_payoff_of_each_kind_is_read_back_as_it_was_written(kind):
    one = payoff(kind)
    barrier = one.barrier and {"level_usd": one.barrier.level, "up": one.barrier.up, "rebate_sats": one.barrier.rebate}
    said = {
        "kind": kind.value, "barrier": barrier,
        "ranges": {"starts_usd": list(RANGES.starts), "payouts_sats": list(RANGES.payouts)},
    }  # fmt: skip
    assert wire.PAYOFF.read(json.loads(json.dumps(said)), "payoff") == one
    with pytest.raises(InvalidInputError):
        wire.PAYOFF.read(said | {"kind": kind.value + "s"}, "payoff")


def test_one_minute_is_its_own_mean_and_strikes_at_nothing():
    for events in (0, 1):
        with pytest.raises(InvalidInputError, match="events"):
            payoff(Kind.AVERAGE_STRIKE_CALL).claim(events)
