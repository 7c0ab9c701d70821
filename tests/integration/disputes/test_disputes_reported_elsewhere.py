"""Faults that others' contracts were reported to have, tried on ours: reserves for fees, bonds below costs, pins."""

import pytest

from btcfi.disputes.garbled.deal import Kind, Payoff
from btcfi.disputes.garbled.game import Stage
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.units import Sats
from tests.support.chain import chain
from tests.support.dispute_stage import BLOCKS, Table
from tests.support.disputing import RANGES

pytestmark = pytest.mark.integration

SPOT = 67_890


@pytest.fixture(scope="module")
def wallet(tmp_path_factory):
    with chain("embedded", tmp_path_factory.mktemp("reported")) as funded:
        yield funded


def leaving(table, left):
    """A draft after which the claimant has so many satoshis, and no coin beside."""
    return table.draft(bond=Sats(36_000_000 - 16_000_000 + 300_000 - left))


@pytest.fixture(scope="module")
def thirty(wallet, tmp_path_factory):
    """A mean of thirty minutes whose digits are shown when challenged: the answer has 4,400 vB."""
    return Table(wallet, tmp_path_factory.mktemp("thirty"), lazy=True, minutes=30)


def test_a_claimant_that_could_not_pay_for_the_digits_of_thirty_minutes_proposes_nothing(wallet, thirty, tmp_path):
    """Who cannot send the answer to a challenge loses all. Reported of anchors: lnd's issue 4808."""
    with pytest.raises(NotFoundError, match="pays for what must be sent in time"):
        thirty.desk("p").propose(leaving(thirty, 15_000), identity_secret=thirty.identity)
    assert thirty.desk("p").files.names() == []
    short = Table(wallet, tmp_path, lazy=True)
    short.desk("p").propose(leaving(short, 15_000), identity_secret=short.identity)
    assert len(short.desk("p").files.names()) == 1


def test_a_bond_below_what_the_answer_costs_is_not_proposed(thirty):
    """Or whoever likes to challenges a right claim of thirty minutes, and it costs the claimant more than itself."""
    with pytest.raises(InvalidInputError, match="challenge_bond"):
        thirty.desk("p").propose(thirty.draft(challenge_bond=Sats(5_000)), identity_secret=thirty.identity)
    thirty.desk("p").propose(thirty.draft(challenge_bond=Sats(12_000)), identity_secret=thirty.identity)


def test_a_refund_is_not_held_up_for_ever_by_a_silence_that_no_block_takes(wallet, tmp_path):
    """A verifier lets its claim of silence wait, too cheap for any block, and the claimant's coins with it."""
    table = Table(wallet, tmp_path)
    name = table.opened()
    table.attest("v", [SPOT])
    table.mined(19)

    def passed_by(blocks):
        for _ in range(blocks):
            wallet.node.generate_block(wallet.address, [])

    assert table.look("v").sent == "silence"
    passed_by(1)
    assert table.look("p").sent == ""
    passed_by(BLOCKS)
    assert table.look("p").sent == "refund"
    table.mined()
    assert table.desk("v").show(name).position.stage is Stage.REFUNDED


def test_minutes_that_no_one_set_of_oracles_attested_whole_settle_nothing(wallet, tmp_path):
    """Each minute has two oracles of three, and no two have every minute."""
    table = Table(wallet, tmp_path, payoff=Payoff(kind=Kind.MEDIAN, ranges=RANGES), minutes=3)
    name = table.opened()
    for one in "pv":
        desk = table.desk(one)
        for absent, event in enumerate(table.oracles.attestations([SPOT] * 3)):
            assert all(desk.keep(said) for oracle, said in event.items() if oracle != absent)
    assert table.look("p").sent == ""
    table.mined(10)
    assert table.look("v").sent == ""
    table.mined(10)
    assert table.look("p").sent == "refund"
    table.mined()
    assert table.desk("v").show(name).position.stage is Stage.REFUNDED
