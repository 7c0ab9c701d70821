"""What accounts say and read of positions that change hands, over HTTP: a consent, an offer, a take, a transfer."""

from __future__ import annotations

import json

import pytest
from sqlmodel import select

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.transfer_tables import TransferRow
from tests.support.held_contract import hold
from tests.support.market_world import market
from tests.support.sold_position import PRICE, move_on, said, selling

pytestmark = pytest.mark.integration


@pytest.fixture
def stand(tmp_path):
    with market(tmp_path, limits={"stream_seconds": 3.0}) as made:
        yield made


@pytest.fixture
def three(stand):
    """Who wrote, who holds, and who would have it."""
    return stand.join("alice-1"), stand.join("bob-1"), stand.join("carol-1")


@pytest.fixture
def sale(stand, three):
    """A funded contract that changes hands."""
    writer, holder, _ = three
    offer = stand.offer(writer)
    stand.post(writer, offer)
    held = hold(stand.world.store, stand.take(holder, offer).json()["option_id"], now=stand.world.now)
    return selling(held, now=stand.world.now)


def post(stand, one, where, word, status=201):
    answer = stand.ask(one, "POST", f"/transfers/{where}", json=said(word))
    assert answer.status_code == status, answer.text
    return answer.json()


def seen(stand, one, path, status=200):
    answer = stand.ask(one, "GET", path)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_position_is_for_sale_once_its_writer_consents_and_goes_to_who_takes_it_at_its_price(stand, three, sale):
    writer, holder, newcomer = three
    offer = sale.offer(holder)
    made = post(stand, holder, "offers", offer)
    assert post(stand, holder, "offers", offer) == made
    assert (made["state"], made["own"], made["option_id"]) == ("open", True, sale.held.option_id)
    assert (made["price_sats"], made["sats_per_kvb"], made["consented_until_unix"]) == (PRICE, 2_000, None)
    refused = post(stand, newcomer, "takes", sale.take(newcomer, offer), 409)
    assert "consent does not stand" in refused["detail"]

    consent = post(stand, writer, "consents", sale.consent(writer))
    assert (consent["state"], consent["option_id"]) == ("open", sale.held.option_id)
    (shown,) = seen(stand, newcomer, "/transfers/offers")["items"]
    assert shown["consented_until_unix"] == consent["valid_until_unix"] == stand.world.now + 600
    assert (shown["signed"], shown["own"], shown["option_id"]) == (said(offer), False, None)
    assert shown["collateral_sats"] == sale.held.agreement.terms.collateral

    take = sale.take(newcomer, offer)
    begun = post(stand, newcomer, "takes", take)
    assert post(stand, newcomer, "takes", take) == begun
    assert (begun["id"], begun["new_option_id"]) == (take.take.id.hex(), take.take.option_id)
    assert (begun["state"], begun["waits_for"], begun["price_sats"]) == ("taken", "half", PRICE)
    assert begun["until_unix"] == stand.world.now + 120
    for one, role in zip(three, ("seller", "holder", "newcomer"), strict=True):
        (row,) = seen(stand, one, "/transfers")["items"]
        assert row == seen(stand, one, f"/transfers/{begun['id']}") == begun | {"role": role}
    assert seen(stand, newcomer, "/transfers/offers")["items"] == []
    (own,) = seen(stand, holder, "/transfers/offers?own=true")["items"]
    assert own["state"] == "taken"
    eve = stand.join("eve-1")
    assert seen(stand, eve, "/transfers")["items"] == []
    seen(stand, eve, f"/transfers/{begun['id']}", 404)


def test_another_price_a_second_take_and_somebody_elses_word_are_refused_and_nothing_is_kept(stand, three, sale):
    writer, holder, newcomer = three
    eve = stand.join("eve-1")
    post(stand, writer, "consents", sale.consent(holder), 422)
    post(stand, holder, "consents", sale.consent(holder), 404)
    post(stand, eve, "offers", sale.offer(holder), 422)
    post(stand, eve, "offers", sale.offer(eve), 404)
    forged = said(sale.offer(holder)) | {"price_sats": 1_000}
    assert stand.ask(holder, "POST", "/transfers/offers", json=forged).status_code == 422
    null = said(sale.offer(holder)) | {"taker": None}
    assert stand.ask(holder, "POST", "/transfers/offers", json=null).status_code == 422
    assert seen(stand, holder, "/transfers/offers?own=true")["items"] == []
    assert seen(stand, writer, "/transfers/consents")["items"] == []

    post(stand, writer, "consents", sale.consent(writer))
    offer = sale.offer(holder)
    post(stand, holder, "offers", offer)
    post(stand, newcomer, "takes", sale.take(newcomer, offer, price=PRICE - 1), 422)
    post(stand, newcomer, "takes", sale.take(newcomer, offer))
    post(stand, eve, "takes", sale.take(eve, offer), 409)
    with stand.world.store.reading() as session:
        assert len(session.exec(select(TransferRow)).all()) == 1


def test_an_offer_for_one_account_is_that_accounts_and_its_holders_to_see(stand, three, sale):
    writer, holder, newcomer = three
    post(stand, writer, "consents", sale.consent(writer))
    offer = sale.offer(holder, taker=newcomer.identity)
    post(stand, holder, "offers", offer)
    eve = stand.join("eve-1")
    assert [len(seen(stand, one, "/transfers/offers")["items"]) for one in (newcomer, holder, eve)] == [1, 1, 0]
    assert stand.api.get("/api/v1/transfers/offers").json()["items"] == []
    post(stand, eve, "takes", sale.take(eve, offer), 404)
    other = seen(stand, newcomer, "/transfers/offers?instrument=BTC-25SEP26-71000-C")["items"]
    assert other == []


def test_what_is_withdrawn_can_be_taken_no_more_and_withdrawing_again_changes_nothing(stand, three, sale):
    writer, holder, newcomer = three
    consent = post(stand, writer, "consents", sale.consent(writer))
    offer = sale.offer(holder)
    made = post(stand, holder, "offers", offer)
    for _ in range(2):
        answer = stand.ask(holder, "DELETE", f"/transfers/offers/{made['id']}")
        assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
        answer = stand.ask(writer, "DELETE", f"/transfers/consents/{consent['id']}")
        assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
    post(stand, newcomer, "takes", sale.take(newcomer, offer), 409)
    assert stand.ask(writer, "DELETE", f"/transfers/offers/{made['id']}").status_code == 404
    assert stand.ask(holder, "DELETE", f"/transfers/consents/{consent['id']}").status_code == 404


def test_each_of_the_three_hears_of_what_is_its_own_and_the_newcomer_of_its_new_option(stand, three, sale):
    writer, holder, newcomer = three
    with stand.world.store.reading() as session:
        _, start = views.edges_of(session, writer.identity.hex(), after=0)
    post(stand, writer, "consents", sale.consent(writer))
    offer = sale.offer(holder)
    post(stand, holder, "offers", offer)
    made = post(stand, newcomer, "takes", sale.take(newcomer, offer))
    wanted = {
        writer: [("transfer_consent", "open"), ("transfer", "taken")],
        holder: [("transfer_offer", "open"), ("transfer", "taken"), ("transfer_offer", "taken")],
        newcomer: [("transfer", "taken")],
    }
    for one, edges in wanted.items():
        given = {"headers": {"Last-Event-ID": str(start)}}
        answer = stand.ask(one, "GET", f"/me/events?limit={len(edges)}", **given)
        lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        assert [(line["entity"], line["to_state"]) for line in lines] == edges
        new = one is newcomer
        about = made["new_option_id"] if new else sale.held.option_id
        assert {(line["option_id"], line["role"]) for line in lines} == {
            (about, "writer" if one is writer else "holder")
        }
        assert {line["paid_sats"] for line in lines} == {None}
    eve = stand.join("eve-1")
    with stand.world.store.reading() as session:
        assert views.edges_of(session, eve.identity.hex(), after=start)[0] == []


def test_a_position_that_changed_hands_is_over_for_who_sold_it_and_names_its_transfer_for_who_holds_it(
    stand, three, sale
):
    writer, holder, newcomer = three
    post(stand, writer, "consents", sale.consent(writer))
    offer = sale.offer(holder)
    post(stand, holder, "offers", offer)
    take = sale.take(newcomer, offer)
    made = post(stand, newcomer, "takes", take)
    for final, where in ((False, "/positions"), (True, "/positions?over=true")):
        txid = move_on(stand.world.store, take, now=stand.world.now, final=final)
        for one in (writer, holder):
            ends = {row["option"]["id"]: row["end"] for row in seen(stand, one, where)["items"]}
            end = ends[sale.held.option_id]
            assert (end["how"], end["txid"], end["final"]) == ("transferred", txid, final)
            assert (end["paid_sats"], end["returned_sats"]) == (PRICE, None)
    for one, role in ((writer, "writer"), (newcomer, "holder")):
        (row,) = seen(stand, one, "/positions")["items"]
        assert (row["option"]["id"], row["role"], row["end"]) == (made["new_option_id"], role, None)
        assert (row["transfer_id"], row["take_id"]) == (made["id"], None)
    assert seen(stand, holder, "/positions")["items"] == []
