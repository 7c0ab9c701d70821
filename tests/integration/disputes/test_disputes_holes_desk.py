"""What a lazy claim leaves open until it is challenged, and who must not be robbed by it: by two folders and a node."""

import pytest

from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.game import Stage
from btcfi.disputes.garbled.setup import Verdict
from btcfi.units import Sats
from tests.support.chain import chain
from tests.support.dispute_stage import BLOCKS, Table, lied

pytestmark = pytest.mark.integration

SPOT = 67_890


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("embedded")) as funded:
        yield funded


def test_a_lazy_lie_before_any_attestation_is_challenged_in_time(wallet, tmp_path):
    """Nobody has attested anything: who waited for it would let the lie be released."""
    table = Table(wallet, tmp_path, lazy=True)
    name = table.opened()
    table.mined(2)
    lied(table, name, 0)
    (waiting,) = table.desk("v").watch()
    assert (waiting.sent, waiting.verdict) == ("", None)
    assert "attestations" in waiting.problem
    table.mined()
    assert table.look("v").sent == "challenge"
    table.mined()
    (stuck,) = table.desk("p").watch()
    assert stuck.sent == ""
    table.mined(BLOCKS - 1)
    assert table.look("v").sent == "overdue"
    table.mined()
    assert table.look("v").position.stage is Stage.OVERDUE


def test_a_right_lazy_claim_is_let_alone_by_who_learns_the_attestations_while_it_waits(wallet, tmp_path):
    table = Table(wallet, tmp_path, lazy=True)
    table.opened()
    table.attest("p", [SPOT])
    table.mined(2)
    assert table.look("p").sent == "claim"
    table.mined()
    (waiting,) = table.desk("v").watch()
    assert waiting.sent == ""
    table.attest("v", [SPOT])
    for _ in range(BLOCKS - 1):
        seen = table.look("v")
        assert (seen.sent, seen.verdict) == ("", Verdict.RIGHT)
        table.mined()
    assert table.look("p").sent == "release"


def test_a_right_claim_that_pays_what_another_range_pays_is_not_challenged(wallet, tmp_path):
    """Below the strike and knocked out the holder gets nothing: the two claims are told apart by their txids."""
    ranges = Ranges(starts=(0, 60_000, 70_000), payouts=(Sats(0), Sats(1_000_000), Sats(2_000_000)))
    payoff = Payoff(
        kind=Kind.KNOCK_OUT, ranges=ranges, barrier=Barrier(level=80_000, up=True, rebate=Sats(0))
    )  # fmt: skip
    table = Table(wallet, tmp_path, lazy=True, minutes=2, payoff=payoff)
    table.opened()
    for one in "pv":
        table.attest(one, [SPOT, 59_000])
    table.mined(2)
    assert table.look("p").sent == "claim"
    table.mined()
    seen = table.look("v")
    assert (seen.position.number, seen.verdict, seen.sent) == (0, Verdict.RIGHT, "")
