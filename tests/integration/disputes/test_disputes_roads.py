"""A mean of agreed minutes, shown only when challenged, and a knock-out: every road to an end, on two folders.

The mean of thirty minutes, of a set-up that takes many seconds, is played at night, and one of three minutes in CI. The
messages are played once; each road goes on from a copy of both folders and of the chain as they stood then.
"""

import shutil

import pytest

from btcfi.adapters.party.dispute_sending import Due
from btcfi.disputes.garbled import presign
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.units import Sats
from tests.support.chain import Wallet, chain, embedded_node
from tests.support.dispute_stage import BLOCKS, Table, lied
from tests.support.disputing import RANGES

pytestmark = pytest.mark.integration

KNOCK_OUT = Payoff(kind=Kind.KNOCK_OUT, ranges=RANGES, barrier=Barrier(level=70_000, up=True, rebate=Sats(500_000)))


class Scene:
    """A contract that is opened, of which every road starts."""

    def __init__(self, folder, *, minutes, prices, **options):
        self.folder, self.prices = folder, prices
        with chain("embedded", folder / "node") as funded:
            self.table = Table(funded, folder, minutes=minutes, **options)
            self.name = self.table.opened()
        self.right = self.table.oracles.right(prices)


@pytest.fixture(scope="module")
def mean_of_3(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("mean"), minutes=3, prices=[67_000, 68_031, 67_802], lazy=True)


@pytest.fixture(scope="module")
def mean_of_30(tmp_path_factory):
    prices = [67_000 + 37 * minute for minute in range(30)]
    return Scene(tmp_path_factory.mktemp("means"), minutes=30, prices=prices, lazy=True)


@pytest.fixture(scope="module")
def knock_out(tmp_path_factory):
    prices = [67_000, 69_999, 70_001, 68_000]
    return Scene(tmp_path_factory.mktemp("knock-out"), minutes=4, prices=prices, payoff=KNOCK_OUT)


@pytest.fixture
def road(request, tmp_path):
    """Both folders and the chain of a scene, as they stood when it was opened; looked through when the road ends."""
    scene = request.getfixturevalue(request.param)
    folder = tmp_path / "road"
    shutil.copytree(scene.folder, folder)
    with embedded_node(folder / "node") as (node, _):
        table = scene.table.copied(Wallet(node), folder)
        table.name, table.prices, table.right = scene.name, scene.prices, scene.right
        yield table
        assert table.shared() == []


MEANS = ["mean_of_3", pytest.param("mean_of_30", marks=pytest.mark.slow)]

both = pytest.mark.parametrize("road", ["knock_out", *MEANS], indirect=True)
lazy = pytest.mark.parametrize("road", MEANS, indirect=True)


def attested(table):
    for one in "pv":
        table.attest(one, table.prices)
    table.mined(2)


@both
def test_what_is_right_is_claimed_and_paid(road):
    attested(road)
    assert road.look("p").sent == "claim"
    road.mined()
    seen = road.look("v")
    assert (seen.position.number, seen.verdict, seen.sent) == (road.right, Verdict.RIGHT, "")
    road.mined(BLOCKS - 1)
    assert road.look("p").sent == ("release" if road.lazy else "payout")
    road.mined()
    assert road.look("v").position.stage is (Stage.RELEASED if road.lazy else Stage.PAID)


@pytest.mark.parametrize("road", ["knock_out"], indirect=True)
def test_what_is_wrong_is_disproved(road):
    attested(road)
    lied(road, road.name, road.right - 1)
    seen = road.look("v")
    assert (seen.verdict, seen.sent) == (Verdict.CONVICTED, "disproof")
    road.mined()
    assert road.look("p").position.stage is Stage.DISPROVED


@both
def test_a_silent_claimant_is_answered_by_silence_and_then_claims_what_that_shows(road):
    road.attest("v", road.prices)
    assert road.look("p").sent == ""
    road.mined(10)
    assert road.look("v").sent == "silence"
    road.mined()
    assert road.look("p").sent == "claim"
    road.mined()
    seen = road.look("v")
    assert (seen.position.number, seen.position.silent, seen.verdict) == (road.right, True, Verdict.RIGHT)


@both
def test_what_nobody_attested_is_refunded(road):
    road.mined(20)
    assert road.look("v").sent == ""
    assert road.look("p").sent == "refund"
    road.mined()
    assert road.look("v").position.stage is Stage.REFUNDED


@both
def test_one_oracle_that_says_otherwise_to_one_side_changes_nothing(road):
    road.attest("v", [price - 3_000 for price in road.prices], oracles=[0])
    for one in "pv":
        road.attest(one, road.prices, oracles=[1, 2])
    road.attest("p", road.prices, oracles=[0])
    road.mined(2)
    assert road.look("p").sent == "claim"
    road.mined()
    seen = road.look("v")
    assert (seen.position.number, seen.verdict, seen.sent) == (road.right, Verdict.RIGHT, "")


@lazy
def test_a_needless_challenge_is_answered_with_the_digits_and_costs_its_bond(road):
    attested(road)
    assert road.look("p").sent == "claim"
    road.mined()
    needless(road)
    assert road.look("p").sent == "reveal"
    road.mined()
    seen = road.look("v")
    assert (seen.position.stage, seen.verdict, seen.sent) == (Stage.REVEALED, Verdict.RIGHT, "")
    road.mined(BLOCKS - 1)
    assert road.look("p").sent == "payout"
    road.mined()
    assert road.look("v").position.stage is Stage.PAID


@lazy
def test_a_challenged_lie_is_shown_and_disproved(road):
    attested(road)
    lied(road, road.name, road.right + 1)
    assert road.look("v").sent == "challenge"
    road.mined()
    assert road.look("p").sent == "reveal"  # the row of its claim was never written: it shows what is true
    road.mined()
    seen = road.look("v")
    assert (seen.verdict, seen.sent) == (Verdict.CONVICTED, "disproof")
    road.mined()
    assert road.look("p").position.stage is Stage.DISPROVED


def needless(table):
    """The verifier challenges what it knows to be right, with all of its folder's secrets."""
    desk = table.desk("v")
    room = desk.room
    _, graph = room.graph(table.name, room.deal(table.name))
    here = room.position(table.name, graph)
    challenge = presign.build_challenge(
        graph, room.silence(table.name, graph), (here.number, here.silent), both=room.own(table.name)["both"]
    )  # fmt: skip
    due = Due(
        what="challenge", transaction=challenge, fee=graph.terms.fee, stake=challenge.outputs[0].value, until=None
    )  # fmt: skip
    assert desk.sender.pay(table.name, due)
    table.mined()
