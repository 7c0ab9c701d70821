"""What the games taught, by the desk itself: whom it challenges, when it is too late, whose attestations it shows."""

import pytest

from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import ConflictError
from btcfi.units import Sats
from tests.support.chain import chain
from tests.support.dispute_stage import BLOCKS, Table

pytestmark = pytest.mark.integration

SPOT, RIGHT = 67_890, 8
TWICE = Ranges(starts=(0, 60_000, 70_000), payouts=(Sats(1_000_000), Sats(8_000_000), Sats(1_000_000)))
"""Two of three ranges pay the same, as at both ends of a butterfly."""


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("embedded")) as funded:
        yield funded


def mined_to(table, height):
    while table.wallet.node.block_count() < height:
        table.mined()


def lazily(table, **changed):
    """A lazy contract that is opened, and the heights of its terms."""
    name = table.opened(**changed)
    room = table.desk("v").room
    return name, room.deal(name).terms


@pytest.mark.parametrize("spot", [50_000, 75_000])
def test_a_claim_that_pays_what_is_owed_is_not_challenged_whichever_of_two_equal_ranges_it_is(wallet, tmp_path, spot):
    table = Table(wallet, tmp_path, lazy=True, payoff=Payoff(kind=Kind.PRICE, ranges=TWICE))
    _, terms = lazily(table)
    for name in "pv":
        table.attest(name, [spot])
    mined_to(table, terms.claim_height)
    assert table.look("p").sent == "claim"
    table.mined()
    seen = table.look("v")
    assert (seen.sent, seen.verdict) == ("", Verdict.RIGHT)


def test_a_knock_out_without_a_rebate_is_not_challenged_either(wallet, tmp_path):
    payoff = Payoff(
        kind=Kind.KNOCK_OUT, ranges=Ranges(starts=(0, 60_000), payouts=(Sats(0), Sats(8_000_000))),
        barrier=Barrier(level=80_000, up=True, rebate=Sats(0)),
    )  # fmt: skip
    table = Table(wallet, tmp_path, lazy=True, minutes=2, payoff=payoff)
    _, terms = lazily(table)
    for name in "pv":
        table.attest(name, [61_000, 50_000])
    mined_to(table, terms.claim_height)
    assert table.look("p").sent == "claim"
    table.mined()
    assert (table.look("v").sent, table.look("v").verdict) == ("", Verdict.RIGHT)


def test_who_wakes_up_when_a_challenge_could_not_be_answered_any_more_takes_the_refund(wallet, tmp_path):
    table = Table(wallet, tmp_path, lazy=True)
    name, terms = lazily(table)
    table.attest("p", [SPOT])
    mined_to(table, terms.last_claim_height)
    with pytest.raises(ConflictError, match="refund"):
        table.desk("p").claim(name)
    assert table.look("p").sent == "refund"
    table.mined()
    assert table.look("v").position.stage is Stage.REFUNDED


def test_the_bond_comes_home_from_a_contract_that_the_claimant_never_ends(wallet, tmp_path):
    table = Table(wallet, tmp_path, lazy=True)
    _, terms = lazily(table)
    mined_to(table, terms.bond_height - 1)
    assert table.look("v").sent == ""
    table.mined()
    assert table.look("v").sent == "bond home"
    table.mined()
    assert table.look("v").position.stage is Stage.OPEN
    assert table.look("v").sent == ""


def test_what_another_set_attests_after_our_claim_does_not_keep_us_from_answering_its_challenge(wallet, tmp_path):
    """Two of four are corrupt, as many as settle: another price than the one that we claimed."""
    table = Table(wallet, tmp_path, lazy=True, oracles=4)
    _, terms = lazily(table)
    table.attest("p", [SPOT], [2, 3])
    mined_to(table, terms.claim_height)
    assert table.look("p").sent == "claim"
    for name in "pv":
        table.attest(name, [60_500], [0, 1])
    table.mined()
    assert table.look("v").sent == "challenge"
    table.mined()
    assert table.look("p").sent == "reveal"
    table.mined()
    seen = table.look("v")
    assert (seen.sent, seen.verdict, seen.position.number) == ("", Verdict.RIGHT, RIGHT)
    table.mined(BLOCKS)
    assert table.look("p").sent == "payout"
