"""Asking for quotes in the browser: the command, what is refused, and answers that only who asked sees."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from html import unescape

import pytest

from btcfi.market.firm_offer import Side
from btcfi.market.instrument import parse_instrument
from btcfi.market.request import Wanted
from btcfi.options.terms import OptionKind
from dashboards.shared.render import usd
from tests.support.desk_world import desk_world

pytestmark = pytest.mark.integration

USUAL = {
    "wanted": "buy", "kind": "call", "strike": "71,500", "expiry": "2026-09-25T08:00", "quantity": "0.25",
    "barrier": "", "fixing": "", "valid": "5m",
}  # fmt: skip


@pytest.fixture
def desk(tmp_path):
    with desk_world(tmp_path) as made:
        yield made


def words(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))


def near(desk, kind=OptionKind.CALL):
    return min(desk.listed(kind), key=lambda one: (one.expiry, abs(one.strike - 7_000_000)))


def command(page: str) -> list[str]:
    return shlex.split(re.search(r'id="ask-command">([^<]+)<', page)[1])


@pytest.mark.parametrize(
    ("typed", "name", "wanted", "more"),
    [
        ({}, "BTC-25SEP26-71500-C", "buy", []),
        ({"wanted": "sell", "kind": "put", "strike": "68000.50"}, "BTC-25SEP26-68000d50-P", "sell", []),
        ({"kind": "binary_call", "wanted": "both", "valid": "1h"}, "BTC-25SEP26-71500-BC", "both", ["--valid", "1h"]),
        ({"kind": "binary_put", "strike": "60000", "expiry": "2026-09-26T12:30"}, "BTC-26SEP26T1230-60000-BP", "buy",
         []),
        ({"barrier": "75000"}, "BTC-25SEP26-71500-C-KO75000", "buy", []),
        ({"american": "yes"}, "BTC-25SEP26-71500-C-AM", "buy", []),
        ({"fixing": "median:30", "expiry": "2026-09-25T08:00Z"}, "BTC-25SEP26-71500-C-MEDIAN30", "buy", []),
    ],
)  # fmt: skip
def test_the_form_gives_the_command_that_asks_for_exactly_what_it_says(desk, typed, name, wanted, more):
    page = desk.get("/quotes", params=USUAL | typed)
    assert page.status_code == 200
    assert command(page.text) == ["btcfi", "market", "request", name, wanted, "--quantity", "0.25", *more]
    assert parse_instrument(name).name in words(page.text)
    assert desk.get("/quotes").text.count("btcfi market request") == 1, "and something listed where nothing is typed"


@pytest.mark.parametrize(
    "name",
    ["BTC-25SEP26-71500-C", "BTC-26SEP26T1230-60000-BP", "BTC-25SEP26-68000d50-P-AM", "BTC-25SEP26-71500-C-KO75000"],
)  # fmt: skip
def test_a_ticket_of_what_nobody_offers_leads_to_the_form_that_says_the_same(desk, name):
    ticket = desk.get(f"/ticket/{name}?do=write&quantity=0.35").text
    link = unescape(re.search(r'href="/desk(/quotes\?[^"]+)"', ticket)[1])
    assert command(desk.get(link).text) == ["btcfi", "market", "request", name, "sell", "--quantity", "0.35"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"strike": "71_500"}, "strike"), ({"strike": ""}, None), ({"strike": "0"}, "strike"),
        ({"quantity": "0.001"}, "quantity"), ({"quantity": "0"}, "quantity"), ({"quantity": "100000"}, "quantity"),
        ({"expiry": "2020-01-01T08:00"}, "expiry"), ({"expiry": "2026-09-25T08:00:30"}, "expiry"),
        ({"expiry": "tomorrow"}, "expiry"), ({"barrier": "71500"}, "barrier"), ({"barrier": "65000"}, None),
        ({"american": "yes", "fixing": "twap:30"}, "fixing"), ({"fixing": "twap:99"}, "fixing"),
        ({"kind": "straddle"}, "kind"), ({"strike": "<img src=x>"}, "strike"),
    ],
)  # fmt: skip
def test_what_no_maker_could_answer_is_refused_by_its_field_and_has_no_command(desk, typed, said):
    answer = desk.get("/quotes", params=USUAL | typed, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert "<img" not in answer.text
    if said is None:
        assert "btcfi market request" in answer.text
        return
    assert "Nothing to ask." in answer.text
    assert "btcfi market request" not in answer.text
    field = {"expiry": r"expiry|instrument", "barrier": "barrier|instrument", "kind": "kind|type"}.get(said, said)
    assert re.search(field, words(answer.text))


def test_the_page_refuses_what_the_service_refuses_of_a_request_word_for_word(desk):
    one = near(desk)
    rules = desk.world.deps.market_rules
    most = replace(rules.offers, most_quantity=15)
    desk.world.deps = replace(desk.world.deps, market_rules=replace(rules, offers=most))
    state = desk.client.app.state.desk
    state.deps = replace(state.deps, api=desk.world.deps)
    typed = USUAL | {"strike": str(one.strike // 100)}
    page = words(desk.get("/quotes", params=typed, headers={"HX-Request": "true"}).text)
    with pytest.raises(Exception, match="hundredths of a bitcoin") as refused:
        desk.ask(desk.join("alice-1"), one.name, quantity=25)
    assert str(refused.value) in page


def test_answers_come_to_who_asked_alone_with_the_best_first_and_the_command_that_takes_each(desk):
    asker, dear, cheap = (desk.join(name) for name in ("asker", "dear-maker", "cheap-maker"))
    one = near(desk)
    asked = desk.ask(asker, one.name, quantity=20)
    mine = desk.sign_in(asker)
    assert "No answer yet." in mine.get("/desk/quotes").text
    worse, better = desk.answer(dear, asked, Side.ASK, 1_900), desk.answer(cheap, asked, Side.ASK, 1_400)
    page = mine.get("/desk/quotes").text
    rows = re.findall(r'<tr id="a-([0-9a-f]{16})".*?</tr>', page, re.DOTALL)
    assert rows == [one.offer.id.hex()[:16] for one in (better, worse)]
    cents = better.offer.price_cents
    assert f" buy {usd(cents)} 0.20 {usd(-(-cents * 20 // 100))} " in words(page)
    assert f"btcfi market take {one.name}/{better.offer.id.hex()[:16]} --quantity 0.20" in words(page)
    assert f"btcfi market withdraw-request {asked.request.id.hex()[:16]}" in page
    for other in (desk.sign_in(dear), desk.browser()):
        seen = other.get("/desk/quotes").text
        assert better.offer.id.hex()[:16] not in seen
    others = words(desk.sign_in(dear).get("/desk/quotes").text)
    assert (
        f"btcfi market offer {one.name} ask --quantity 0.20 --price-usd PRICE --request {asked.request.id.hex()[:16]}"
        in others
    )
    assert asked.request.id.hex()[:16] not in desk.get("/quotes").text, "a stranger does not see who asks for what"
    desk.world.now += 301
    over = mine.get("/desk/quotes").text
    assert better.offer.id.hex()[:16] not in over
    assert "expired" in words(over)


def test_against_the_mark_is_what_the_taker_loses_on_either_side(desk):
    asker, maker = desk.join("asker"), desk.join("maker-one")
    one = near(desk)
    asked = desk.ask(asker, one.name, wanted=Wanted.BOTH)
    desk.answer(maker, asked, Side.ASK, 9_000)
    desk.answer(maker, asked, Side.BID, 300)
    page = desk.sign_in(asker).get("/desk/quotes").text
    shares = re.findall(r'data-label="Against the mark">([+-][0-9.,]+) %', page)
    assert [float(one.replace(",", "")) > 0 for one in shares] == [True, True], "both are bad prices for the taker"


def test_every_auction_is_shown_with_the_price_of_its_second_and_the_next_one(desk):
    maker, one = desk.join("maker-one"), near(desk, OptionKind.PUT)
    falling = desk.auction(maker, one.name, 1_600, 1_100)
    desk.offer(maker, one.name, Side.ASK, 2_000)
    begun = desk.world.now
    for step in (0, 1, 7):
        desk.world.now = begun + 60 * step
        page = words(desk.get("/quotes").text)
        now, after = (usd(falling.offer.prices(n)[1]) for n in (step, step + 1))
        assert f" buy 0.50 {now} {after} in 60 s {step} of 10 {usd(falling.offer.auction.last_cents)} " in page
    hidden = desk.offer(maker, one.name, Side.ASK, 1_500, taker=desk.join("bob-1").identity)
    assert hidden.offer.id.hex()[:16] not in desk.get("/quotes").text


def test_no_live_drawing_of_requests_is_shared_between_two_who_look(desk):
    asker = desk.join("asker")
    desk.ask(asker, near(desk).name)
    live = desk.client.app.state.desk.live
    topics: list[str] = []
    sent = live.stream
    live.stream = lambda request, topic, draw: (topics.append(topic), draw(), sent(request, topic, draw))[2]
    live._limits = type(live._limits)(stream_seconds=0.0)
    for browser in (desk.sign_in(asker), desk.sign_in(desk.join("bob-1")), desk.browser()):
        browser.get("/desk/live/quotes")
    assert len(set(topics)) == 3
    assert asker.identity.hex() in topics[0]
