"""An account's own pages: what it holds, why it is worth that, what if; and nobody else's."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape

import pytest

from btcfi.adapters.store.options.tables import OptionRow
from btcfi.market.firm_offer import Side
from btcfi.options.terms import OptionKind
from dashboards.trader.holding import Moves
from tests.support.desk_world import desk_world
from tests.support.early_close import close_early
from tests.support.stored_contract import dealt, keep

pytestmark = pytest.mark.integration

LATER = 600


@pytest.fixture
def desk(tmp_path):
    with desk_world(tmp_path) as made:
        yield made


@pytest.fixture
def alice(desk):
    return desk.join("alice-1")


@pytest.fixture
def bob(desk):
    return desk.join("bob-1")


def words(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))


def near(desk, kind=OptionKind.CALL):
    return min((one for one in desk.listed(kind)), key=lambda one: (one.expiry, abs(one.strike - 7_000_000)))


def later(desk, price: int) -> None:
    """Let minutes pass and the market move."""
    desk.world.now += LATER
    desk.world.seconds += LATER
    desk.world.price(desk.world.now // 60 * 60 - 60, price)


def holding(desk, one):
    return desk.client.app.state.desk.holdings.of(one.identity.hex())


def test_each_side_sees_its_own_half_in_a_traders_words_and_a_third_sees_nothing(desk, alice, bob):
    made = desk.trade(alice, bob, near(desk).name, 1_500)
    wrote, bought = desk.sign_in(alice).get("/desk/positions").text, desk.sign_in(bob).get("/desk/positions").text
    assert "you wrote" in words(re.search(rf'<tr id="p-{made}".*?</tr>', wrote, re.DOTALL)[0])
    assert "you bought" in words(re.search(rf'<tr id="p-{made}".*?</tr>', bought, re.DOTALL)[0])
    third = desk.sign_in(desk.join("carol-1"))
    assert "You hold nothing." in third.get("/desk/positions").text
    for path in ("/positions", "/positions.csv", "/history.csv", "/positions/what-if", "/"):
        assert made not in third.get(f"/desk{path}").text, path
    for path in (f"/contract/{made}", f"/verify?id={made}", f"/search?q={made}"):
        assert third.get(f"/desk{path}").status_code == 404, path
    for path in ("/positions.csv", "/history.csv", "/positions/what-if", "/live/positions", f"/contract/{made}"):
        assert desk.get(path).status_code == 401, path
    assert desk.get("/positions", follow_redirects=False).headers["location"] == "/desk/sign-in"


def test_what_a_buyer_gains_its_writer_loses_and_the_parts_of_either_profit_sum_to_it(desk, alice, bob):
    for kind, usd, quantity in ((OptionKind.CALL, 1_500, 10), (OptionKind.PUT, 900, 30)):
        desk.trade(alice, bob, near(desk, kind).name, usd, quantity)
    later(desk, 7_150_000)
    later(desk, 7_000_000)
    desk.trade(alice, bob, near(desk).name, 2_000)
    later(desk, 7_100_000)
    wrote, bought = holding(desk, alice), holding(desk, bob)
    assert wrote.profit.whole == -bought.profit.whole != 0
    for held in (wrote, bought):
        why = held.profit.explained
        parts = why.delta, why.gamma, why.vega, why.theta, why.residual
        assert held.profit.traded + sum(parts) == held.profit.whole
        assert held.profit.whole == sum(row.mark.profit_cents for row in held.rows)
        assert why.delta != 0
        assert held.profit.unknown == held.profit.knocked_out == 0
        assert abs(sum(g.delta_btc for _, g in held.by_strike) - held.greeks.delta_btc) < 1e-9
        assert abs(sum(g.vega for _, g in held.by_expiry) - held.greeks.vega) < 1e-6
    assert wrote.profit.explained.theta > 0 > bought.profit.explained.theta, "time is the writer's"
    assert wrote.locked == sum(row.position.terms.collateral for row in wrote.rows)
    assert bought.locked == 0
    assert bought.at_risk == sum(row.option.premium_sats for row in bought.rows), "a buyer's premium and no more"


def test_a_what_if_is_nothing_where_nothing_moves_and_pays_both_sides_alike(desk, alice, bob):
    desk.trade(alice, bob, near(desk).name, 1_500, 30)
    holdings = desk.client.app.state.desk.holdings
    still = holdings.what_if(bob.identity.hex(), Moves())
    assert still.profit_cents == 0
    up = Moves(spot=20, volatility=10, days=2)
    gained, lost = (holdings.what_if(one.identity.hex(), up) for one in (bob, alice))
    assert gained.profit_cents == -lost.profit_cents > 0
    assert gained.then == tuple(-value for value in lost.then)
    over = holdings.what_if(bob.identity.hex(), Moves(spot=-50, days=90))
    mark = holding(desk, bob).rows[0].mark.value_cents
    assert over.profit_cents == -mark, "long past its expiry, below its strike, it is worth nothing"
    browser = desk.sign_in(bob)
    part = browser.get("/desk/positions/what-if?spot=20&vol=10&days=2", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert f"${gained.profit_cents // 100:,}" in words(part)
    whole = browser.get("/desk/positions?spot=20&vol=10&days=2").text
    assert f"${gained.profit_cents // 100:,}" in words(whole), "the same without a script"
    assert browser.get("/desk/positions/what-if?spot=51").status_code == 422
    assert browser.get("/desk/positions/what-if?days=91").status_code == 422
    assert browser.get("/desk/positions?cursor=none").status_code in {404, 422}


def test_what_a_barrier_took_is_said_and_is_no_move_of_any_greek(desk, alice, bob):
    plain = near(desk)
    made = desk.trade(alice, bob, f"{plain.name}-KO72000", 600)
    later(desk, 7_300_000)
    later(desk, 7_000_000)
    held = holding(desk, bob)
    row = next(one for one in held.rows if one.option.id == made)
    assert row.position.knocked_out
    assert row.mark.value_cents == 0
    assert held.profit.knocked_out == held.profit.whole == -row.option.premium_cents
    assert (held.at_risk, holding(desk, alice).at_risk) == (row.option.premium_sats, 0), "its writer owes nothing more"
    assert "knocked out" in desk.sign_in(bob).get("/desk/positions").text


def test_past_its_expiry_a_position_is_being_settled_and_has_no_mark(desk, alice, bob):
    one = near(desk)
    desk.trade(alice, bob, one.name, 1_500)
    desk.world.now = one.expiry + 120
    desk.world.seconds += 10
    desk.world.price(one.expiry + 60, 7_000_000)
    held = holding(desk, bob)
    assert [row.mark for row in held.rows] == [None]
    assert held.profit is None
    page = words(desk.sign_in(bob).get("/desk/positions").text)
    assert "being settled" in page


def test_the_history_says_what_was_paid_to_this_side_and_goes_out_as_csv(desk, alice, bob):
    made = desk.trade(alice, bob, near(desk).name, 1_500)
    desk.world.settle(made, 7_200_000)
    with desk.world.store.reading() as session:
        option = session.get_one(OptionRow, made)
        premium, collateral = option.premium_sats, option.collateral_sats
    for one, paid, profit in (
        (bob, 900, 900 - premium), (alice, collateral - 1_200, premium - 1_200),
    ):  # fmt: skip
        browser = desk.sign_in(one)
        page = words(browser.get("/desk/positions").text)
        assert f"{paid:,} {profit:,}" in page
        answer = browser.get("/desk/history.csv")
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["cache-control"] == "no-store"
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert (int(row["paid_sats"]), int(row["profit_sats"]), row["option"]) == (paid, profit, made)
    assert "you bought it; it paid" in words(desk.sign_in(bob).get("/desk/positions").text)


def test_an_option_that_both_closed_early_has_ended_with_what_the_close_pays_each(desk, alice, bob):
    made = desk.trade(alice, bob, near(desk).name, 1_500)
    close_early(desk.world.store, made, paid=250_000, now=desk.world.now)
    with desk.world.store.reading() as session:
        option = session.get_one(OptionRow, made)
        premium, collateral = option.premium_sats, option.collateral_sats
    for one, paid, profit, did in (
        (bob, 250_000, 250_000 - premium, "you sold it back"),
        (alice, collateral - 250_300, premium - 250_300, "you bought it back"),
    ):
        browser = desk.sign_in(one)
        page = words(browser.get("/desk/positions").text)
        assert f"{paid:,} {profit:,}" in page
        assert did in page
        assert "being paid out" not in page
        (row,) = csv.DictReader(io.StringIO(browser.get("/desk/history.csv").text))
        assert (int(row["paid_sats"]), int(row["profit_sats"]), row["txid"]) == (paid, profit, "ee" * 32)
        assert (row["outcome"], row["price_usd"]) == ("closed", ""), "no price settled it"


def test_a_file_has_every_position_and_all_that_is_over_however_many_a_page_shows(desk, alice, bob, monkeypatch):
    monkeypatch.setattr("dashboards.trader.holding.SHOWN", 2)
    monkeypatch.setattr("dashboards.trader.pages_positions.SHOWN", 2, raising=False)
    monkeypatch.setattr(type(desk.client.app.state.desk.holdings).of, "__kwdefaults__", {"cursor": None, "most": 2})
    over = {desk.trade(alice, bob, near(desk).name, 1_500) for _ in range(3)}
    for n, made in enumerate(over):
        desk.world.settle(made, 7_200_000 + 100 * n)
    held = {desk.trade(alice, bob, near(desk).name, 1_500) for _ in range(3)}
    browser = desk.sign_in(bob)
    assert "The newest 2 are counted here" in words(browser.get("/desk/positions").text)
    for name, wanted in (("history", over), ("positions", held)):
        rows = csv.DictReader(io.StringIO(browser.get(f"/desk/{name}.csv").text))
        assert sorted(row["option"] for row in rows) == sorted(wanted), name


def test_positions_go_out_as_csv_with_the_numbers_of_the_page(desk, alice, bob):
    desk.trade(alice, bob, near(desk).name, 1_500, 30)
    (row,) = csv.DictReader(io.StringIO(desk.sign_in(bob).get("/desk/positions.csv").text))
    mark = holding(desk, bob).rows[0].mark
    assert row["mark_usd"] == f"{mark.value_cents / 100:.2f}"
    assert (row["side"], row["quantity_btc"], row["instrument"]) == ("bought", "0.30", near(desk).name)


def test_the_chain_marks_the_own_size_for_its_owner_alone(desk, alice, bob):
    one = near(desk)
    desk.trade(alice, bob, one.name, 1_500, 30)
    desk.world.seconds += 10
    assert "you hold 0.30 of the call" in words(desk.sign_in(bob).get("/desk/").text)
    assert "you wrote 0.30 of the call" in words(desk.sign_in(alice).get("/desk/").text)
    assert "0.30 of the" not in words(desk.sign_in(desk.join("carol-1")).get("/desk/").text)
    assert "0.30 of the" not in words(desk.get("/").text)


def test_a_ticket_gives_nobody_the_command_to_take_an_offer_of_its_own(desk, alice, bob):
    cheap, dear = (desk.offer(one, near(desk).name, Side.ASK, usd) for one, usd in ((alice, 1_400), (bob, 1_500)))
    for one, wanted in ((alice, dear), (bob, cheap)):
        page = desk.sign_in(one).get(f"/desk/ticket/{near(desk).name}?quantity=0.10").text
        assert re.findall(r"market take [^/]+/([0-9a-f]{64})", page) == [wanted.offer.id.hex()]


def test_no_live_drawing_of_one_account_is_ever_sent_to_another_or_to_a_stranger(desk, alice, bob):
    one = near(desk)
    desk.trade(alice, bob, one.name, 1_500, 30)
    live = desk.client.app.state.desk.live
    topics: list[str] = []
    sent = live.stream
    live.stream = lambda request, topic, draw: (topics.append(topic), draw(), sent(request, topic, draw))[2]
    browsers = [desk.sign_in(alice), desk.sign_in(bob), desk.browser()]
    drawn = []
    for browser in browsers:
        taken = len(topics)
        live._limits = type(live._limits)(stream_seconds=0.0)
        browser.get(f"/desk/live/chain/{one.expiry}")
        drawn.append(topics[taken])
    assert len(set(drawn)) == 3
    assert alice.identity.hex() in drawn[0]


def test_own_offers_and_takes_have_their_state_and_the_command_that_takes_an_offer_back(desk, alice, bob):
    offer = desk.offer(alice, near(desk).name, Side.ASK, 1_500)
    desk.trade(alice, bob, near(desk).name, 1_500)
    page = desk.sign_in(alice).get("/desk/positions").text
    assert f"btcfi market withdraw {offer.offer.id.hex()[:16]}" in page
    assert "0.50 of 0.50" in words(page)
    takes = words(page.split('id="own-takes"')[1])
    assert " wrote 0.10 " in takes
    assert " bought 0.10 " in words(desk.sign_in(bob).get("/desk/positions").text.split('id="own-takes"')[1])


def test_the_files_of_an_own_contract_are_what_verify_takes_from_anybody(desk, alice, bob):
    keep(desk.world.store, dealt())
    with desk.world.store.transaction() as session:
        option = session.get_one(OptionRow, "deal")
        option.writer, option.holder, option.take_id = alice.identity.hex(), bob.identity.hex(), "aa" * 32
    assert desk.get("/verify?id=deal").status_code == 404, "a deal between two accounts is theirs"
    mine = desk.sign_in(bob)
    verdict = words(mine.get("/desk/verify?id=deal").text)
    assert "It holds." in verdict
    answer = mine.get("/desk/contract/deal")
    assert "attachment" in answer.headers["content-disposition"]
    checked = desk.client.post(
        "/desk/verify", content=answer.content, headers={"Content-Type": "application/json", "HX-Request": "true"}
    )  # fmt: skip
    assert "It holds." in checked.text
    assert len(json.loads(answer.text)) >= 4
