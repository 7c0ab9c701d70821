"""The desk's pages of positions that change hands: for sale, sold, taken and consented to, for each of the three."""

from __future__ import annotations

import csv
import io

import pytest

from tests.support.desk_world import desk_world
from tests.support.sold_position import keep, move_on, selling

pytestmark = pytest.mark.integration


@pytest.fixture
def desk(tmp_path):
    with desk_world(tmp_path) as made:
        yield made


@pytest.fixture
def three(desk):
    """Who wrote, who holds, and who would have it."""
    return desk.join("alice-1"), desk.join("bob-1"), desk.join("carol-1")


@pytest.fixture
def sale(desk, three):
    writer, holder, _ = three
    held = desk.hold(desk.trade(writer, holder, desk.listed()[40].name, 1_500, 20))
    return selling(held, now=desk.world.now)


def said(desk, one, word):
    return keep(desk.world.store, one, word, now=desk.world.now)


def test_everybody_sees_what_is_for_sale_with_its_fair_value_and_its_command_once_its_writer_consents(
    desk, three, sale
):
    writer, holder, _ = three
    assert "Nobody sells a position now." in desk.get("/for-sale").text
    offer = sale.offer(holder)
    said(desk, holder, offer)
    name = offer.offer.id.hex()[:16]
    page = desk.get("/for-sale").text
    assert f'id="s-{name}"' in page
    assert "its writer has not consented" in page
    assert "market transfer take" not in page
    said(desk, writer, sale.consent(writer))
    page = desk.get("/for-sale").text
    assert f"<span>take</span> <span>{name}</span>" in page
    assert "700,000" in page
    assert sale.held.option_id not in page, "whose it was stands in an option's id"
    cells = page.partition(f'id="s-{name}"')[2].partition("</tr>")[0]
    assert 'data-label="Fair value">$' in cells
    assert "it costs +" in cells
    own = desk.sign_in(holder).get("/desk/for-sale").text
    assert f"<span>withdraw</span> <span>{name}</span>" in own
    assert ">yours<" in own


def test_an_offer_for_one_account_alone_is_on_no_other_page(desk, three, sale):
    writer, holder, newcomer = three
    said(desk, writer, sale.consent(writer))
    offer = sale.offer(holder, taker=newcomer.identity)
    said(desk, holder, offer)
    name = offer.offer.id.hex()[:16]
    assert name not in desk.get("/for-sale").text
    assert name not in desk.sign_in(writer).get("/desk/for-sale").text
    assert name in desk.sign_in(newcomer).get("/desk/for-sale").text


def test_a_holder_is_shown_what_a_price_gives_it_and_the_command_and_what_it_has_said(desk, three, sale):
    writer, holder, newcomer = three
    browser, where = desk.sign_in(holder), f"/desk/sell/{sale.held.option_id}"
    page = browser.get(f"{where}?price=700000").text
    assert "You sell it for 700,000 sats" in page
    assert f"btcfi market transfer offer {sale.held.option_id} --price 700000sat" in page
    assert "Its writer has not consented" in page
    for wrong, problem in (("1", "330 to"), ("nonsense", "whole number"), ("99999999999", "the collateral")):
        assert problem in browser.get(f"{where}?price={wrong}").text
    offer = sale.offer(holder)
    said(desk, holder, offer)
    said(desk, writer, sale.consent(writer))
    page = browser.get(where).text
    assert f"<span>withdraw</span> <span>{offer.offer.id.hex()[:16]}</span>" in page
    assert "lets it be sold until" in page
    assert desk.sign_in(newcomer).get(where).status_code == 404
    away = desk.browser().get(where, follow_redirects=False)
    assert (away.status_code, away.headers["location"]) == (303, "/desk/sign-in")


def test_a_writer_is_shown_the_command_that_consents_and_those_that_take_it_back(desk, three, sale):
    writer, _, _ = three
    browser, where = desk.sign_in(writer), f"/desk/sell/{sale.held.option_id}"
    page = browser.get(where).text
    assert f"btcfi market consent {sale.held.option_id}" in page
    assert "market transfer offer" not in page
    consent = said(desk, writer, sale.consent(writer))
    assert f"<span>--withdraw</span> <span>{consent.id[:16]}</span>" in browser.get(where).text


def test_a_transfer_is_a_sale_of_its_holder_a_purchase_of_the_newcomer_and_goes_on_for_the_writer(desk, three, sale):
    writer, holder, newcomer = three
    said(desk, writer, sale.consent(writer))
    offer = sale.offer(holder)
    said(desk, holder, offer)
    take = sale.take(newcomer, offer)
    begun = said(desk, newcomer, take)
    new, old = begun.new_option_id, sale.held.option_id
    seen = {one.name: desk.sign_in(one) for one in three}
    pages = {name: browser.get("/desk/positions").text for name, browser in seen.items()}
    for name, words in (("alice-1", "its writer"), ("bob-1", "who sells it"), ("carol-1", "who takes it")):
        assert words in pages[name].partition(f'id="t-{begun.id}"')[2].partition("</tr>")[0]
    move_on(desk.world.store, take, now=desk.world.now, final=False)
    pages = {name: browser.get("/desk/positions").text for name, browser in seen.items()}
    assert "you sold it on; you get 700,000 sats" in pages["bob-1"].partition(f'id="p-{old}"')[2].partition("</tr>")[0]
    assert f"it goes on as {new}" in pages["alice-1"].partition(f'id="p-{old}"')[2].partition("</tr>")[0]
    assert "taken from its holder for 700,000 sats" in pages["carol-1"]
    assert f"/sell/{old}" not in pages["bob-1"]
    assert "It cannot change hands." in seen["bob-1"].get(f"/desk/sell/{old}").text

    move_on(desk.world.store, take, now=desk.world.now, final=True)
    rows = {
        name: list(csv.DictReader(io.StringIO(browser.get("/desk/history.csv").text))) for name, browser in seen.items()
    }
    (sold,) = rows["bob-1"]
    assert (sold["outcome"], sold["paid_sats"]) == ("sold", "700000")
    assert int(sold["profit_sats"]) == 700_000 - int(sold["premium_sats"])
    (changed,) = rows["alice-1"]
    assert (changed["outcome"], changed["paid_sats"], changed["profit_sats"]) == ("holder changed", "", "")
    assert rows["carol-1"] == []
    held = {
        name: list(csv.DictReader(io.StringIO(browser.get("/desk/positions.csv").text)))
        for name, browser in seen.items()
    }
    assert held["bob-1"] == []
    assert [(row["option"], row["side"], row["premium_sats"]) for row in held["carol-1"]] == [(new, "bought", "700000")]
    assert [(row["option"], row["side"], row["premium_sats"]) for row in held["alice-1"]] == [
        (new, "wrote", sold["premium_sats"])
    ]
    expiry = sale.held.scene.event.expiry
    assert "you hold 0.20" in seen["carol-1"].get(f"/desk/?expiry={expiry}").text
    assert "you hold" not in seen["bob-1"].get(f"/desk/?expiry={expiry}").text
