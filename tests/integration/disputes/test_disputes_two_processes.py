"""Two processes, each with its own folder and keys, play disputed contracts on a real bitcoind to three ends."""

import os

import pytest

from tests.support.chain import chain
from tests.support.dispute_process import Process
from tests.support.dispute_stage import BLOCKS, SIDES, shared_between

pytestmark = [pytest.mark.integration, pytest.mark.regtest]

SPOT, RIGHT = 67_890, 8


class Processes:
    """Both sides, and what carries their messages."""

    def __init__(self, wallet, folder):
        self.wallet, cookie = wallet, folder / "node" / "regtest" / ".cookie"
        self.sides = {one: Process(folder / role, wallet.node, cookie) for one, role in SIDES.items()}
        for side in self.sides.values():
            wallet.coins_for(bytes.fromhex(side("script")), [30_000_000, 2_000_000, 2_000_000, 2_000_000])

    def opened(self, premium):
        """Carry all messages of a contract, and mine its opening; return its name."""
        message = self.sides["v"]("accept", message=self.sides["p"]("propose", premium=premium))
        name = message["proposal_id"]
        for one in "pvpvpv":
            message = self.sides[one]("sign", message=message)
        self.wallet.mine()
        return name

    def attest(self, *sides):
        for one in sides:
            assert all(self.sides[one]("attest", outcomes=[SPOT]))

    def look(self, one, name):
        said = self.sides[one]("watch")[name]
        assert said["problem"] == ""
        return said


@pytest.fixture
def two(tmp_path):
    with chain("bitcoind", tmp_path / "node") as wallet:
        made = Processes(wallet, tmp_path)
        yield made
        for side in made.sides.values():
            side.end()
        assert len({os.getpid(), *(side.pid for side in made.sides.values())}) == len(SIDES) + 1
        folders = {SIDES[one]: side.folder for one, side in made.sides.items()}
        assert shared_between(folders, {SIDES[one]: side.keystore for one, side in made.sides.items()}) == []


def test_a_right_claim_is_paid_by_bitcoind(two):
    name = two.opened(300_000)
    two.attest("p", "v")
    assert two.look("p", name)["sent"] == "claim"
    two.wallet.mine()
    seen = two.look("v", name)
    assert (seen["number"], seen["verdict"], seen["sent"]) == (RIGHT, "right", "")
    two.wallet.mine(BLOCKS - 1)
    assert two.look("p", name)["sent"] == "payout"
    two.wallet.mine()
    assert two.look("v", name)["stage"] == "paid"


def test_a_false_claim_is_disproved_and_a_silent_claimant_loses_on_bitcoind(two):
    name = two.opened(300_000)
    silent = two.opened(300_001)
    two.attest("p")
    two.sides["p"]("lie", name=name, number=0)
    two.wallet.mine()
    two.attest("v")
    seen = two.look("v", name)
    assert (seen["verdict"], seen["sent"]) == ("convicted", "disproof")
    two.wallet.mine(10)
    said = two.sides["v"]("watch")
    assert (said[name]["stage"], said[silent]["sent"]) == ("disproved", "silence")
    two.wallet.mine(BLOCKS)
    assert two.look("v", silent)["sent"] == "silent end"
    two.wallet.mine()
    assert two.look("v", silent)["stage"] == "silence ended"
