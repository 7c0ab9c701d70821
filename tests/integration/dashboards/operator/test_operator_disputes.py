"""The console's pages of disputed contracts: the list, and one with the game's clock."""

import html
import re

import pytest

from btcfi.adapters.store.disputes import watching as rows
from btcfi.disputes.watching import advance
from tests.support.disputed import BLOCKS, SINCE, ListChain, public

pytestmark = pytest.mark.integration


def words(page):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture
def client(world):
    return world.signed_in()


def watched(world, dispute, *mined, blocks=0):
    """Put a contract under watch on a chain whose blocks hold these transactions, each one of them, and some more."""
    chain = ListChain()
    for one in mined:
        chain.mine(one)
    for _ in range(blocks):
        chain.mine()
    with world.store.transaction() as session:
        rows.register(session, dispute, by="operator", now=world.now)
    with world.store.transaction() as session:
        (some,) = rows.watched(session)
        after, _ = advance(some, lambda _: dispute, chain, limit=1_000)
        rows.write(session, some, after, now=world.now)
    return f"/disputes/{dispute.id.hex()}"


def test_a_claimed_contract_says_who_must_be_online_until_which_block(world, client):
    dispute = public()
    path = watched(world, dispute, dispute.opening, dispute.graph.claim(3), blocks=1)
    page = words(client.get(path).text)
    last = SINCE + BLOCKS
    assert "Range 3 is claimed: it pays the verifier 3,000,000 sats. The verifier is to move." in page
    assert f"verifier: disproof, from {SINCE + 2} to {last}" in page
    assert f"claimant: payout, from {last + 1}" in page
    assert f"now, {SINCE + 2}" in page
    listed = words(client.get("/disputes?state=claimed").text)
    assert dispute.id.hex()[:16] in listed
    assert f" {last} {last - SINCE - 2} " in listed  # the deadline, and the blocks left to it


@pytest.mark.parametrize("move", ["refund", "silence"])
def test_an_end_has_no_clock_and_a_silence_has_one(world, client, move):
    dispute = public()
    page = client.get(watched(world, dispute, dispute.opening, getattr(dispute.graph, move))).text
    assert ('<svg class="graph"' in page) is (move == "silence")
    assert ("Nothing of it can be played any more" in words(page)) is (move == "refund")


def test_a_contract_without_its_opening_names_it(world, client):
    dispute = public()
    page = words(client.get(watched(world, dispute)).text)
    assert "Its opening is in no block yet" in page
    assert dispute.opening.txid[::-1].hex() in page


def test_a_state_and_a_contract_that_there_are_not_are_refused(client):
    assert client.get("/disputes?state=nonsense").status_code == 422
    assert client.get("/disputes/nothing").status_code == 404
