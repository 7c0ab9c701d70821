"""What an account reads of offers to close its options, and of options that both sides have closed."""

from __future__ import annotations

import json

import pytest

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.tables import CloseRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.contracts.messages import Role
from btcfi.market.closing import encode_offer
from tests.support.held_contract import hold
from tests.support.market_world import market

pytestmark = pytest.mark.integration

PRICE = 20_000
"""Of the collateral, to the holder."""


@pytest.fixture
def stand(tmp_path):
    with market(tmp_path, limits={"stream_seconds": 3.0}) as made:
        yield made


@pytest.fixture
def sides(stand):
    """Who wrote, and who holds."""
    return stand.join("alice-1"), stand.join("bob-1")


@pytest.fixture
def held(stand, sides):
    writer, holder = sides
    offer = stand.offer(writer)
    stand.post(writer, offer)
    return hold(stand.world.store, stand.take(holder, offer).json()["option_id"], now=stand.world.now)


def seen(stand, one, path="/closes"):
    answer = stand.ask(one, "GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_both_sides_list_an_offer_to_close_and_each_is_told_whose_word_it_waits_for(stand, sides, held):
    writer, holder = sides
    offered = held.offer_close(PRICE, Role.BUYER, now=stand.world.now)
    for one, role, own in ((writer, "writer", False), (holder, "holder", True)):
        (close,) = seen(stand, one)["items"]
        assert (close["id"], close["option_id"], close["state"]) == (offered.id, held.option_id, "offered")
        assert (close["role"], close["offered_by"], close["own"]) == (role, "holder", own)
        assert (close["payout_sats"], close["sats_per_kvb"]) == (PRICE, 2_000)
        assert close["valid_until_unix"] == stand.world.now + 600
        assert [close[name] for name in ("paid_sats", "returned_sats", "fee_sats", "txid")] == [None] * 4
        assert seen(stand, one, f"/closes/{offered.id}") == close
        assert "partial" not in json.dumps(close)
        assert "nonce" not in json.dumps(close)
    third = stand.join("carol-1")
    assert seen(stand, third)["items"] == []
    assert stand.ask(third, "GET", f"/closes/{offered.id}").status_code == 404


def test_an_option_that_both_have_closed_says_what_each_side_got_and_goes_to_those_that_are_over(stand, sides, held):
    offered = held.offer_close(PRICE, Role.SELLER, now=stand.world.now)
    for one in sides:
        (position,) = seen(stand, one, "/positions")["items"]
        assert position["end"] is None, "an offer ends nothing"
    txid = offered.agree()
    with stand.world.store.reading() as session:
        collateral = session.get_one(OptionRow, held.option_id).collateral_sats
    for final, where, elsewhere in ((False, "/positions", "/positions?over=true"),
                                    (True, "/positions?over=true", "/positions")):  # fmt: skip
        if final:
            offered.confirm()
        for one in sides:
            (position,) = seen(stand, one, where)["items"]
            end = position["end"]
            assert (end["how"], end["txid"], end["paid_sats"], end["final"]) == ("closed", txid, PRICE, final)
            assert end["paid_sats"] + end["returned_sats"] + end["fee_sats"] == collateral
            assert seen(stand, one, elsewhere)["items"] == []
            (close,) = seen(stand, one)["items"]
            assert (close["txid"], close["returned_sats"]) == (txid, end["returned_sats"])


def test_an_account_hears_of_its_closes_from_either_side_with_the_amounts_once_both_have_signed(stand, sides, held):
    with stand.world.store.reading() as session:
        _, start = views.edges_of(session, sides[0].identity.hex(), after=0)
    offered = held.offer_close(PRICE, Role.BUYER, now=stand.world.now)
    offered.agree()
    offered.confirm()
    for one, role in zip(sides, ("writer", "holder"), strict=True):
        answer = stand.ask(one, "GET", "/me/events?limit=4", headers={"Last-Event-ID": str(start)})
        lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        heard = [said for said in lines if said["entity"] == "market_close"]
        assert [said["to_state"] for said in heard] == ["offered", "answered", "signed", "done"]
        assert {(said["entity_id"], said["option_id"], said["role"]) for said in heard} == {
            (offered.id, held.option_id, role)
        }
        assert {said["paid_sats"] for said in heard} == {PRICE}
    with stand.world.store.reading() as session:
        assert views.edges_of(session, stand.join("carol-1").identity.hex(), after=start)[0] == []


def test_closes_are_paged_newest_first_with_every_one_once_and_by_state(stand, sides, held):
    writer, holder = (one.identity.hex() for one in sides)
    body = held.offer_close(PRICE, Role.BUYER, now=stand.world.now).offer
    with stand.world.store.transaction() as session:
        for n in range(7):
            session.add(
                CloseRow(
                    id=f"{n:064x}", option_id=held.option_id, by="seller", writer=writer, holder=holder, state="over",
                    body=json.dumps(encode_offer(body)), payout_sats=n, valid_until_unix=1, problem="it has lapsed",
                    created_at_unix=stand.world.now - n, updated_at_unix=stand.world.now,
                )
            )  # fmt: skip
    found, cursor = [], ""
    while True:
        page = seen(stand, sides[1], f"/closes?limit=3{cursor}")
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len({one["id"] for one in found}) == len(found) == 8
    assert [one["created_at_unix"] for one in found] == sorted((one["created_at_unix"] for one in found), reverse=True)
    assert len(seen(stand, sides[0], "/closes?state=offered")["items"]) == 1
    assert stand.ask(sides[0], "GET", "/closes?state=nothing").status_code == 422
    assert stand.ask(sides[0], "GET", "/closes?cursor=none").status_code in {404, 422}
