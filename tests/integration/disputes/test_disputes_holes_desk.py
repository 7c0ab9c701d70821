"""What a lazy claim leaves open until it is challenged, and who must not be robbed by it: by two folders and a node."""

import base64
import random

import pytest

from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Barrier, Kind, Payoff
from btcfi.disputes.garbled.setup import Verdict
from btcfi.disputes.stages import Stage
from btcfi.errors import BtcfiError
from btcfi.units import Sats
from tests.property.disputes.test_disputes_holes_messages import changed_at, mutated, places_of
from tests.support.chain import chain
from tests.support.dispute_stage import BLOCKS, Table, lied, mailed

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


def spoilt(message, dice):
    """A message that is not the one that was sent, in any of its places."""
    while True:
        changed = changed_at(message, dice.choice(list(places_of(message))), dice)
        if isinstance(changed, dict) and "data" in changed and dice.random() < 0.7:
            part = dice.choice(["data", "more"])
            data = base64.b64decode(message[part])
            if data:
                changed = message | {part: base64.b64encode(mutated(data, dice)).decode()}
        if isinstance(changed, dict) and changed != message:
            return changed


def test_a_spoilt_message_of_any_step_is_refused_and_the_right_one_still_answered(wallet, tmp_path):
    """Nothing of it is kept: not as a message that was answered, not as a one-time row, not as a coin that is named."""
    table, dice, refused = Table(wallet, tmp_path, lazy=True), random.Random(20), 0
    for name, message in table.steps():
        if not name or message["type"] in {wire.PROPOSAL, wire.ACCEPTANCE}:
            continue  # another proposal, another acceptance: each is a contract of its own
        for _ in range(6):
            before = {path: path.read_bytes() for path in table.home(name).rglob("*") if path.is_file()}
            with pytest.raises(BtcfiError):
                table.desk(name).sign(spoilt(mailed(message), dice), identity_secret=table.identity)
            assert before == {path: path.read_bytes() for path in table.home(name).rglob("*") if path.is_file()}
            refused += 1
    assert refused == 30
    table.mined()
    assert table.look("p").position.stage is Stage.OPEN
