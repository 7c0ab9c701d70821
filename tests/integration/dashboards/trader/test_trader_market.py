"""The public market's pages: chain, book, ticket and smile; what they show is what stands, and no account's name."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from html import unescape

import pytest
from sqlmodel import select

from btcfi.adapters.store.market import offers
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.market.auction import Auction
from btcfi.market.firm_offer import Side
from btcfi.market.instrument import parse_instrument
from btcfi.options.terms import OptionKind
from btcfi.pricing import premium
from dashboards.shared.render import usd
from tests.support.desk_world import FACTS, desk_world

PAGES = ("/", "/smile", "/verify", "/search", "/nowhere")


@pytest.fixture
def desk(tmp_path):
    with desk_world(tmp_path) as made:
        yield made


@pytest.fixture
def quoted(desk):
    """A desk whose first expiry is quoted on both sides by one maker."""
    first = desk.listed()[0].expiry
    desk.quoted(desk.join("maker-one"), [one for one in desk.listed() if one.expiry == first])
    desk.world.seconds += 60
    return desk


def words(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))


def near(desk, kind=OptionKind.CALL):
    """The listed instrument of the first expiry whose strike is the price."""
    return min((one for one in desk.listed(kind)), key=lambda one: (one.expiry, abs(one.strike - 7_000_000)))


def command_of(text: str) -> list[str]:
    return re.findall(r"btcfi market take \S+ --quantity [0-9.]+", words(text))


def test_a_chain_has_every_listed_strike_with_its_best_offers_and_says_which_marks_are_the_models(desk):
    one, maker = near(desk), desk.join("maker-one")
    empty = desk.get("/").text
    assert "no offer on both sides" in empty
    assert command_of(empty) == []
    strikes = {i.strike for i in desk.listed() if i.expiry == one.expiry}
    assert all(f"${strike // 100:,}<" in empty for strike in strikes)
    desk.offer(maker, one.name, Side.ASK, 1_500)
    desk.offer(maker, one.name, Side.ASK, 1_600)
    desk.offer(maker, one.name, Side.BID, 1_400)
    desk.world.seconds += 2
    row = re.search(rf'<tr id="s\d-{one.strike}".*?</tr>', desk.get("/").text, re.DOTALL)[0]
    assert f'href="/desk/ticket/{one.name}?do=buy&amp;quantity=0.10"' in row
    assert f'href="/desk/ticket/{one.name}?do=write&amp;quantity=0.10"' in row
    said = words(row)
    assert "$1,500" in said
    assert "$1,400" in said
    assert "$1,600" not in said, "only the best"
    assert "0.50 of 1.00" in said, "and how much stands behind it"
    assert "$1,450.05 0.50 $1,400" in said, "the mark is the middle"


def test_expiries_are_tabs_and_one_that_nobody_lists_or_offers_is_not_here(desk):
    page = desk.get("/").text
    every = sorted({one.expiry for one in desk.listed()})
    assert [int(at) for at in re.findall(r'href="/desk/\?expiry=(\d+)"', page)] == every
    assert desk.get(f"/?expiry={every[-1]}").status_code == 200
    assert desk.get(f"/?expiry={every[0] + 60}").status_code == 404
    assert desk.get("/?expiry=x").status_code == 422
    own = parse_instrument(near(desk).name.replace("-C", "-C-KO90000"))
    custom = own.name.split("-", 2)
    later = f"{custom[0]}-{custom[1]}T0900-{custom[2]}"
    desk.offer(desk.join("maker-one"), later, Side.ASK, 1_000)
    desk.world.seconds += 2
    found = desk.get(f"/?expiry={parse_instrument(later).expiry}").text
    assert "Other terms" in found
    assert later in found


def test_no_page_names_an_account_or_an_offer_that_is_for_one_taker(quoted):
    one, maker, taker = near(quoted), quoted.join("maker-one"), quoted.join("taker-one")
    alone = quoted.offer(maker, one.name, Side.ASK, 911.5, taker=taker.identity)
    price = usd(alone.offer.price_cents)
    quoted.world.seconds += 60
    for path in ("/", f"/book/{one.name}", f"/ticket/{one.name}", "/smile"):
        text = quoted.get(path).text
        for secret in (maker.identity.hex(), "maker-one", taker.identity.hex(), "taker-one", price):
            assert secret not in text, (path, secret)


def test_a_ticket_walks_the_book_and_gives_the_command_of_each_take(desk):
    one, maker = near(desk), desk.join("maker-one")
    dear = desk.offer(maker, one.name, Side.ASK, 1_600)
    cheap = desk.offer(maker, one.name, Side.ASK, 1_500, valid_until=desk.world.now + 300)
    desk.world.seconds += 2
    page = desk.get(f"/ticket/{one.name}?do=buy&quantity=0.70").text
    assert command_of(page) == [
        f"btcfi market take {one.name}/{cheap.offer.id.hex()} --quantity 0.50",
        f"btcfi market take {one.name}/{dear.offer.id.hex()} --quantity 0.20",
    ]
    said = words(page)
    parts = ((cheap, 50), (dear, 20))
    premium = sum(one.offer.price * many // 100 for one, many in parts)
    cents = sum(-(-one.offer.price_cents * many // 100) for one, many in parts)
    assert f"You pay ${cents // 100:,}.{cents % 100:02d}" in said
    assert f"Worst case {premium:,} sats the premium" in said
    assert "Collateral of the writer 70,000,000 sats" in said
    for part in ("mean of the 30 agreed minutes", *FACTS.oracle_urls, "2 of 3 oracles", "20 seconds", "144 blocks"):
        assert part in said, part
    assert page.count("<polyline") == 2, "at expiry and today"
    assert "btcfi market request" not in page
    more = words(desk.get(f"/ticket/{one.name}?quantity=1.30").text)
    assert "Of 1.30 BTC nobody offers 0.30;" in more
    assert f"btcfi market request {one.name} buy --quantity 0.30" in more


def test_a_writers_ticket_takes_the_bids_and_its_worst_case_is_the_collateral_less_the_premium(desk):
    one, maker = near(desk), desk.join("maker-one")
    bid = desk.offer(maker, one.name, Side.BID, 1_400)
    desk.world.seconds += 2
    page = desk.get(f"/ticket/{one.name}?do=write&quantity=0.10").text
    assert command_of(page) == [f"btcfi market take {one.name}/{bid.offer.id.hex()} --quantity 0.10"]
    assert "You are paid" in page
    assert f"Worst case {10_000_000 - bid.offer.price // 10:,} sats" in words(page)


def test_where_nobody_offers_the_ticket_is_the_marks_and_its_command_asks_makers_for_quotes(desk):
    one = near(desk, OptionKind.PUT)
    page = desk.get(f"/ticket/{one.name}?do=write&quantity=0.70").text
    assert f"btcfi market request {one.name} sell --quantity 0.70" in words(page)
    page = desk.get(f"/ticket/{one.name}").text
    assert "Nobody writes it now." in words(page)
    assert command_of(page) == []
    assert "<polyline" in page


def test_no_page_samples_a_median_however_many_are_named_offered_or_held(desk, monkeypatch):
    sampled = []
    monkeypatch.setattr(premium, "sample_medians", lambda *a, **_: sampled.append(a))  # a second each, if it were done
    alice, bob = desk.join("alice-1"), desk.join("bob-1")
    at = desk.world.now // 60 * 60 + 75 * 60
    when = datetime.fromtimestamp(at, UTC).strftime("%-d%b%yT%H%M").upper()
    names = [f"BTC-{when}-70000-{kind}-MEDIAN60" for kind in ("C", "P", "C-KO90000", "BC")]
    for name in names:
        desk.offer(alice, name, Side.ASK, 1_000, valid_until=desk.world.now + 7_200)
        desk.offer(bob, name, Side.BID, 900, valid_until=desk.world.now + 7_200)
    desk.trade(alice, bob, names[0], 1_000)
    desk.world.seconds += 10
    browser = desk.sign_in(bob)
    pages = ("/", f"/?expiry={at}", f"/book/{names[0]}", f"/ticket/{names[1]}", "/smile")
    for path in (*pages, "/positions", "/positions.csv", "/positions/what-if?days=1&spot=5"):
        assert browser.get(f"/desk{path}").status_code == 200, path
    desk.world.now += 40 * 60  # amid the window, of which no minute is priced
    desk.world.seconds += 100
    desk.world.price(desk.world.now // 60 * 60 - 60, 7_000_000)
    for path in (*pages, "/positions", "/positions/what-if"):
        assert browser.get(f"/desk{path}").status_code == 200, path
    assert "Its minutes are being counted." in words(browser.get(f"/desk/book/{names[0]}").text)
    assert sampled == []


def test_an_instrument_that_is_over_has_no_mark_at_the_price_of_now(desk):
    said = words(desk.get("/book/BTC-20SEP26-70000-C").text)
    assert "Mark" not in said
    assert "Implied volatility" not in said
    assert "It is over." in said
    assert "has expired" in words(desk.get("/ticket/BTC-20SEP26-70000-C").text)


@pytest.mark.parametrize("query", ["quantity=a lot", "quantity=0", "quantity=1e3", "quantity=-1", "quantity="])
def test_a_wrong_quantity_is_named_in_the_ticket(desk, query):
    page = desk.get(f"/ticket/{near(desk).name}?{query}")
    assert page.status_code == 200
    assert "No ticket." in words(page.text)
    assert "quantity" in words(page.text)


def test_an_instrument_that_is_none_and_one_that_is_over_are_refused(desk):
    for name in ("BTC-1JAN26-60000-X", "btc-1JAN26-60000-C", "BTC-01JAN26-60000-C"):
        for page in ("book", "ticket"):
            assert desk.get(f"/{page}/{name}").status_code == 422, name
    assert "has expired" in words(desk.get("/ticket/BTC-1JAN26-60000-C").text)
    assert desk.get("/book/BTC-1JAN26-60000-C").status_code == 200, "what was traded of it is still shown"


def test_a_book_shows_levels_and_what_was_withdrawn_is_gone(desk):
    one, maker = near(desk), desk.join("maker-one")
    for price in (1_500, 1_500, 1_600):
        desk.offer(maker, one.name, Side.ASK, price)
    page = words(desk.get(f"/book/{one.name}").text)
    assert "1.00 2" in page, "two offers of half a bitcoin at one price are one level"
    with desk.world.store.transaction() as session:
        offers.withdraw_offers(session, maker.identity.hex(), None, now=desk.world.now)
    assert "Nobody writes it now." in words(desk.get(f"/book/{one.name}").text)


def test_a_price_that_moves_stands_where_its_step_is_with_when_it_moves_next_and_where_it_ends(desk):
    one, maker = near(desk), desk.join("maker-one")
    still = desk.offer(maker, one.name, Side.ASK, 1_500)
    first, last = (desk.signed(maker, one.name, Side.ASK, price).offer for price in (1_600, 1_300))
    schedule = Auction(
        begins=desk.world.now - 95, step_seconds=30, steps=4, last=last.price, last_cents=last.price_cents
    )
    falling = desk.offer(maker, one.name, Side.ASK, 1_600, auction=schedule)
    price, cents = falling.offer.prices(3)
    assert price < still.offer.price < first.price
    page = desk.get(f"/book/{one.name}").text
    row = words(re.search(rf'<tr id="auction-{falling.offer.id.hex()[:16]}".*?</tr>', page, re.DOTALL)[0])
    assert f" buy 0.50 {usd(cents)} {usd(falling.offer.prices(4)[1])} in 25 s 3 of 4 {usd(last.price_cents)} " in row
    assert f"btcfi market take {one.name}/{falling.offer.id.hex()[:16]} --quantity 0.50" in row
    assert usd(last.price_cents) in words(page)
    desk.world.seconds += 2
    ticket = desk.get(f"/ticket/{one.name}?do=buy&quantity=0.10").text
    assert command_of(ticket) == [f"btcfi market take {one.name}/{falling.offer.id.hex()} --quantity 0.10"]
    with desk.world.store.transaction() as session:
        offers.withdraw_offers(session, maker.identity.hex(), [falling.offer.id.hex()], now=desk.world.now)
    assert "Prices that move" not in desk.get(f"/book/{one.name}").text


def test_a_smile_is_fitted_to_one_expiry_and_the_surface_has_only_what_is_offered(quoted):
    page = words(quoted.get("/smile").text)
    assert "at the forward" in page
    level = float(re.search(r"strikes, ([0-9.]+) % at the forward", page)[1])
    assert level == pytest.approx(70, abs=1.5), "what it was quoted at"
    assert "realised" in page
    empty = next(one for one in quoted.listed() if one.expiry != near(quoted).expiry).expiry
    assert "No offer to fit." not in words(quoted.get(f"/smile?expiry={empty}").text)
    assert quoted.get("/smile?expiry=60").status_code == 404


def test_before_the_first_price_the_pages_say_what_will_come(tmp_path):
    with desk_world(tmp_path, minutes=1) as desk:
        with desk.world.store.transaction() as session:
            for row in session.exec(select(RoundRow)).all():
                session.delete(row)
        for path, said in (("/", "Nothing is listed yet."), ("/smile", "No offer to fit."), ("/", "No price yet.")):
            assert said in words(desk.get(path).text), path
        assert "No ticket." in words(desk.get("/ticket/BTC-25SEP26-70000-C").text)


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_carries_the_policy_and_needs_no_inline_script_or_style(desk, path):
    answer = desk.get(path)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|\sstyle=|<style|\son[a-z]+=|javascript:", answer.text)
    assert "set-cookie" not in answer.headers, "nobody is known here, and nobody is followed"


def test_search_leads_to_an_instruments_book(desk):
    answer = desk.get("/search?q= BTC-25SEP26-70000-C ", follow_redirects=False)
    assert answer.headers["location"] == "/desk/book/BTC-25SEP26-70000-C"
    assert desk.get("/search?q=BTC-nonsense").status_code == 422


def test_a_thousand_readers_of_one_chain_are_one_look_into_the_store(quoted, monkeypatch):
    looks = []
    reading = type(quoted.world.store).reading

    def counted(store):
        looks.append(1)
        return reading(store)

    monkeypatch.setattr(type(quoted.world.store), "reading", counted)
    quoted.get("/")
    first = len(looks)
    for _ in range(20):
        assert quoted.get("/").status_code == 200
    assert len(looks) == first
    quoted.world.seconds += 2
    quoted.get("/")
    assert len(looks) > first


def test_a_chain_that_is_open_when_its_expiry_passes_ends_and_is_no_failure_of_ours(desk):
    at = desk.listed()[0].expiry
    live = desk.client.app.state.desk.live
    path = f"/desk/live/chain/{at}"
    assert desk.get("/", params={"expiry": at}).status_code == 200

    class Visitor:
        async def is_disconnected(self):
            return False

    async def looks_on():
        def draw():
            desk.client.app.state.desk.market.chain(at)
            return {"chain": str(desk.world.now)}

        said = []
        async for part in live._events(Visitor(), path, draw):
            said.append(part)
            if "event: chain" in part:
                desk.world.now = at + 120
                desk.world.seconds += 120
        return said

    assert any("event: chain" in part for part in asyncio.run(asyncio.wait_for(looks_on(), 30)))


def test_only_the_content_that_a_path_names_is_kept_for_good(desk):
    """Else whoever asks a proxy for the next release's name first has everybody keep this one's for a year."""
    named = re.search(r'src="/desk(/static/desk\.js\?v=\w+)"', desk.get("/").text)[1]
    assert "immutable" in desk.get(named).headers["cache-control"]
    for other in (named + "0", named.split("?")[0], named.replace("v=", "w=")):
        assert desk.get(other).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["BTC-31DEC99-60000-P-AM", "BTC-25SEP26-60000-C-KO65000"])
def test_there_is_no_ticket_of_what_no_take_may_be_of(desk, name):
    """The price has touched the one's barrier; the other's life is longer than an American option's may be."""
    said = words(desk.get(f"/ticket/{name}").text)
    assert "No ticket." in said
    assert "can be traded" not in said


def test_there_is_no_ticket_and_no_command_once_the_window_has_begun(desk):
    one, maker = near(desk), desk.join("maker-one")
    desk.offer(maker, one.name, Side.ASK, 1_500, valid_until=one.expiry)
    assert command_of(desk.get(f"/ticket/{one.name}").text)
    desk.world.now = one.expiry - 20 * 60
    desk.world.seconds += 60
    page = desk.get(f"/ticket/{one.name}").text
    assert "No ticket." in words(page)
    assert command_of(page) == []
