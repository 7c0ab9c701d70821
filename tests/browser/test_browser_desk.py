"""The trader's desk in a real Chromium: chain to ticket to command, dropped files verified, both windows without fault.

Screenshots for docs/images are written when BTCFI_TEST_IMAGES is set.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from decimal import Decimal

import pytest
import uvicorn

from btcfi.contracts.messages import Role
from btcfi.market.firm_offer import Side
from btcfi.options.terms import OptionKind
from tests.browser.conftest import missing
from tests.browser.test_browser_console import faults, picture
from tests.support.desk_world import desk_world
from tests.support.sold_position import keep as keep_word
from tests.support.sold_position import move_on, selling
from tests.support.stored_contract import dealt, keep

LONG = "W" * 199

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.timeout(120)]


class Served:
    """A desk on a port of this machine."""

    def __init__(self, desk, url: str) -> None:
        self.desk, self.url = desk, url

    def near(self, kind: OptionKind = OptionKind.CALL):
        return min(self.desk.listed(kind), key=lambda one: (one.expiry, abs(one.strike - 7_000_000)))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    if reason := missing():
        pytest.skip(reason)
    with desk_world(tmp_path_factory.mktemp("desk")) as desk, socket.create_server(("127.0.0.1", 0)) as listening:
        desk.quoted(desk.join("maker-one"), desk.listed())
        keep(desk.world.store, dealt())

        async def site(scope, receive, send):
            # a clock that stands still would keep the first look for ever
            desk.world.seconds += 2
            await desk.client.app({**scope, "root_path": "/desk"}, receive, send)

        config = uvicorn.Config(
            site, log_config=None, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield Served(desk, f"http://127.0.0.1:{listening.getsockname()[1]}/desk")
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def reader(browser):
    """A stranger's page; the test fails when the page's scripts did."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme="light", timezone_id="Asia/Tokyo", locale="en-GB"
    )
    made = context.new_page()
    made.set_default_timeout(20_000)
    problems = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
    yield made
    context.close()
    assert problems == []


def test_a_trader_goes_from_the_chain_to_the_command_that_takes(reader, served):
    one = served.near()
    reader.goto(f"{served.url}/")
    reader.locator("#link[data-state=live]").wait_for()
    picture(reader, "desk-chain")
    reader.get_by_role("link", name=f"Buy {one.name} at").click()
    reader.get_by_role("heading", name="You buy 0.10 BTC of it").wait_for()
    picture(reader, "desk-ticket", full=True)
    before = reader.locator("#ticket .figure strong").inner_text()
    reader.get_by_label("Quantity, BTC").fill("0.30")
    reader.keyboard.press("Tab")
    reader.get_by_role("heading", name="You buy 0.30 BTC of it").wait_for()
    assert reader.locator("#ticket .figure strong").inner_text() != before
    reader.get_by_label("write", exact=True).check()
    reader.get_by_role("heading", name="You write 0.30 BTC of it").wait_for()
    assert reader.locator("#ticket svg.plot polyline").count() == 2
    command = reader.locator("#take-1").inner_text()
    assert command.startswith(f"btcfi market take {one.name}/")
    reader.get_by_role("button", name="Copy").click()
    reader.get_by_text("Copied.").or_(reader.get_by_text("Selected:")).wait_for()


def test_times_are_said_in_the_readers_zone_too_and_a_new_offer_comes_by_itself(reader, served):
    one = served.near(OptionKind.PUT)
    reader.goto(f"{served.url}/book/{one.name}")
    reader.locator("#link[data-state=live]").wait_for()
    told = reader.locator(".facts time.both")
    assert "08:00 UTC" in told.inner_text()
    assert "17:00" in told.get_attribute("data-local"), "Tokyo is nine hours ahead"
    rows = reader.locator("#book table").first.locator("tbody tr")
    held = rows.count()
    served.desk.offer(served.desk.join("maker-two"), one.name, Side.ASK, 9_000)
    reader.wait_for_function(
        "held => document.querySelector('#book table').tBodies[0].rows.length === held + 1", arg=held
    )
    assert "17:00" in told.get_attribute("data-local"), "after the change, too"


def test_a_stranger_drops_the_files_of_a_contract_and_pastes_an_id(reader, served, tmp_path):
    files = []
    for n, one in enumerate([*dealt().files(), json.loads(dealt().proof)]):
        files.append(tmp_path / f"{n}.json")
        files[-1].write_text(json.dumps(one))
    reader.goto(f"{served.url}/verify")
    reader.locator("#files").set_input_files([str(file) for file in files])
    reader.get_by_text("It holds.").wait_for()
    assert reader.locator(".checks tbody tr").count() == 3
    files[0].write_text(json.dumps(dealt().files()[0] | {"premium_sats": 1}))
    reader.locator("#files").set_input_files([str(file) for file in files])
    reader.get_by_text("It does not hold.").wait_for()
    reader.get_by_label("Id, or the text of a file").fill("deal")
    reader.get_by_role("button", name="Verify", exact=True).click()
    reader.get_by_text("It paid: who bought it gets").wait_for()
    assert faults(reader) == []
    picture(reader, "desk-verify", full=True)


def let_in(page, served, name: str) -> None:
    """Sign a page in as an account, whose process answers the code that the page shows."""
    page.goto(f"{served.url}/sign-in")
    page.get_by_role("button", name=re.compile("Show a")).click()  # a code, or another one
    code = page.locator("#command").inner_text().split()[-1].replace("-", "")
    digits = served.desk.answered(served.desk.join(name), code)
    page.get_by_label("The eight digits").fill(f"{digits[:4]} {digits[4:]}")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Positions").wait_for()


def test_a_trader_signs_in_holds_asks_what_if_and_signs_out(reader, served):
    one = served.near()
    served.desk.trade(served.desk.join("maker-one"), served.desk.join("taker-one"), one.name, 1_500, 30)
    let_in(reader, served, "taker-one")
    reader.locator("#link[data-state=live]").wait_for()
    row = reader.locator("#held tbody tr", has_text=one.name).first
    assert "you bought" in row.inner_text()
    reader.get_by_text("gain").or_(reader.get_by_text("lose")).first.wait_for()
    picture(reader, "desk-positions", full=True)
    before = reader.locator("#what-if .big").inner_text()
    reader.get_by_label("Price, %").fill("20")
    reader.wait_for_function("before => document.querySelector('#what-if .big').innerText !== before", arg=before)
    assert "Price +20 %" in reader.locator("#what-if").inner_text()
    served.desk.trade(served.desk.join("maker-one"), served.desk.join("taker-one"), one.name, 1_500, 10)
    reader.wait_for_function("() => document.querySelectorAll('#held tr[id^=p-]').length === 2")
    with reader.expect_download() as caught:
        reader.get_by_role("link", name="Positions as CSV").click()
    assert "bought" in caught.value.path().read_text()
    reader.get_by_role("link", name="Chain", exact=True).click()
    reader.get_by_text("you hold 0.40 of the call").wait_for()
    reader.get_by_role("button", name="Sign out").click()
    reader.get_by_role("link", name="Sign in").wait_for()
    assert reader.get_by_text("you hold 0.40").count() == 0
    reader.goto(f"{served.url}/positions")
    reader.get_by_role("heading", name="Sign in").wait_for()


def taken_by(served, name: str, command: str) -> str:
    """Have an account's process run the command that a page shows; return the option's id."""
    *_, what, flag, quantity = command.split()
    assert flag == "--quantity"
    hundredths = int(Decimal(quantity) * 100)
    return served.desk.taken(served.desk.join(name), what.partition("/")[2], hundredths)


def test_a_trader_takes_what_a_ticket_says_holds_it_closes_it_and_verifies_both_ends(reader, served):
    one = served.near()
    reader.goto(f"{served.url}/ticket/{one.name}?do=buy&quantity=0.10")
    command = reader.locator("#take-1").inner_text()
    first, second = (served.desk.hold(taken_by(served, "closing", command)) for _ in range(2))
    let_in(reader, served, "closing")
    reader.locator("#link[data-state=live]").wait_for()
    assert "you bought" in reader.locator(f"#p-{first.option_id}").inner_text()
    reader.get_by_label("Days from now").fill("3")
    reader.get_by_text("3 days on: you").wait_for()
    reader.get_by_role("link", name=f"Close {first.option_id}").click()
    reader.get_by_role("heading", name="You sell it back at").wait_for()
    reader.get_by_label("The holder gets, sats").fill("150000")
    reader.get_by_role("heading", name="You sell it back at 150,000 sats").wait_for()
    said = reader.locator("#close-command").inner_text()
    assert said == f"btcfi market close {first.option_id} --price 150000sat"
    assert faults(reader) == []
    picture(reader, "desk-close", full=True)
    offered = first.offer_close(150_000, Role.BUYER, now=served.desk.world.now)
    reader.get_by_role("link", name="Positions", exact=True).first.click()
    asked = reader.locator(f"#c-{offered.id}")
    assert f"--withdraw {offered.id[:16]}" in asked.inner_text()
    reader.locator("#link[data-state=live]").wait_for()
    offered.agree()
    reader.locator(f"#p-{first.option_id}", has_text="you sold it back").wait_for()
    assert asked.count() == 0
    offered.confirm()
    second.expire(6_000_000, now=served.desk.world.now)
    reader.locator(f"#e-{first.option_id}", has_text="you sold it back").wait_for()
    reader.locator(f"#e-{second.option_id}", has_text="expired worthless").wait_for()
    for held, words in ((first, "Both sides have closed it:"), (second, "It expired worthless:")):
        reader.goto(f"{served.url}/positions")
        reader.get_by_role("link", name=f"Verify {held.option_id}").click()
        reader.get_by_text("It holds.").wait_for()
        reader.get_by_text(words).wait_for()


def test_a_trader_sells_a_position_to_a_third_account_which_holds_it_and_whose_writer_let_it(reader, browser, served):
    desk, one = served.desk, served.near()
    writer, holder, newcomer = (desk.join(name) for name in ("wrote-it", "sells-it", "takes-it"))
    sale = selling(desk.hold(desk.trade(writer, holder, one.name, 1_500, 20)), now=desk.world.now)
    option = sale.held.option_id

    def said(who, word):
        return keep_word(desk.world.store, who, word, now=desk.world.now)

    let_in(reader, served, "sells-it")
    reader.get_by_role("link", name=f"Sell {option}").click()
    reader.get_by_text("has not consented").first.wait_for()
    reader.get_by_label("You get, sats").fill("700000")
    reader.get_by_role("heading", name="You sell it for 700,000 sats").wait_for()
    assert reader.locator("#sell-command").inner_text() == f"btcfi market transfer offer {option} --price 700000sat"
    assert faults(reader) == []
    picture(reader, "desk-sell", full=True)
    offer = sale.offer(holder)
    said(holder, offer)

    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    other = context.new_page()
    let_in(other, served, "takes-it")
    other.get_by_role("link", name="For sale").click()
    other.locator("#link[data-state=live]").wait_for()
    row = other.locator(f"#s-{offer.offer.id.hex()[:16]}")
    row.get_by_text("nobody can take it yet").wait_for()
    said(writer, sale.consent(writer))  # and the command comes by itself
    row.get_by_text("btcfi market transfer take").wait_for()
    assert "$" in row.locator("[data-label='Fair value']").inner_text()
    assert faults(other) == []
    picture(other, "desk-for-sale", full=True)
    take = sale.take(newcomer, offer)
    begun = said(newcomer, take)
    row.wait_for(state="detached")
    other.get_by_role("link", name="Positions", exact=True).first.click()
    other.locator(f"#t-{begun.id}", has_text="who takes it").wait_for()
    other.locator("#link[data-state=live]").wait_for()
    move_on(desk.world.store, take, now=desk.world.now, final=True)
    other.locator(f"#p-{begun.new_option_id}", has_text="taken from its holder for 700,000 sats").wait_for()
    reader.goto(f"{served.url}/positions")
    reader.locator(f"#e-{option}", has_text="you sold it on").wait_for()
    assert faults(reader) == []
    context.close()


def test_a_trader_asks_for_a_quote_sees_the_answers_come_and_takes_the_best(reader, served):
    let_in(reader, served, "asking")
    reader.get_by_role("link", name="Quotes").click()
    reader.locator("#link[data-state=live]").wait_for()
    reader.get_by_label("put", exact=True).check()
    reader.get_by_label("Strike, USD").fill("66,600")
    reader.get_by_label("Quantity, BTC").fill("0.20")
    reader.get_by_role("heading", name="-66600-P").wait_for()
    reader.locator("#ask-command", has_text="buy --quantity 0.20").wait_for()
    name = reader.locator("#ask-command").inner_text().split()[3]
    asked = served.desk.ask(served.desk.join("asking"), name, quantity=20)
    own = reader.locator(f"#r-{asked.request.id.hex()}")
    own.get_by_text("No answer yet.").wait_for()
    worse = served.desk.answer(served.desk.join("maker-one"), asked, Side.ASK, 1_500)
    own.locator("tbody tr").first.wait_for()
    better = served.desk.answer(served.desk.join("maker-two"), asked, Side.ASK, 900)
    best = own.locator("tbody tr").first
    reader.wait_for_function(
        "id => document.querySelector('.asked tbody tr').id === id", arg=f"a-{better.offer.id.hex()[:16]}"
    )
    falling = served.desk.auction(served.desk.join("maker-two"), served.near().name, 2_500, 1_500)
    price = reader.locator(f"#auction-{falling.offer.id.hex()[:16]} strong")
    price.wait_for()
    assert faults(reader) == []
    picture(reader, "desk-quotes", full=True)
    before = price.inner_text()
    served.desk.world.now += 60
    reader.wait_for_function(
        "([id, before]) => document.querySelector(`#${id} strong`).innerText !== before",
        arg=[f"auction-{falling.offer.id.hex()[:16]}", before],
    )
    made = taken_by(served, "asking", best.locator("code").inner_text())
    reader.locator(f"#g-{asked.request.id.hex()[:16]}", has_text="filled").wait_for()
    assert reader.locator(f"#a-{worse.offer.id.hex()[:16]}").count() == 0
    reader.get_by_role("link", name="Positions", exact=True).first.click()
    assert name in reader.locator(f"#p-{made}").inner_text()


def test_a_key_is_made_in_the_page_and_shown_once(reader, served):
    let_in(reader, served, "taker-two")
    reader.get_by_role("link", name="taker-two").click()
    reader.get_by_label("What it is for").fill("my bot")
    reader.get_by_role("button", name="Make a key").click()
    assert reader.locator("#made").inner_text().startswith("btcfi_")
    assert faults(reader) == []
    reader.goto(f"{served.url}/account")
    assert reader.locator("#made").count() == 0
    reader.get_by_role("button", name="End the key taker-two: my bot").click()
    reader.get_by_text("ended").first.wait_for()


@pytest.mark.parametrize("window", [("light", 1440), ("dark", 390)], ids=["desktop-light", "phone-dark"])
def test_every_page_of_an_account_has_no_serious_fault_and_fits_its_window(browser, served, window):
    scheme, width = window
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    name = f"taker-{width}"
    made = served.desk.trade(served.desk.join("maker-one"), served.desk.join(name), served.near().name, 1_500, 20)
    served.desk.offer(served.desk.join(name), served.near().name, Side.BID, 900)
    served.desk.hold(made).offer_close(50_000, Role.SELLER, now=served.desk.world.now)
    asked = served.desk.ask(served.desk.join(name), served.near().name)
    served.desk.answer(served.desk.join("maker-one"), asked, Side.ASK, 1_500)
    served.desk.ask(served.desk.join("maker-one"), served.near().name)
    served.desk.auction(served.desk.join("maker-one"), served.near().name, 2_500, 1_500)
    page.goto(f"{served.url}/sign-in")
    assert faults(page) == []
    page.get_by_role("button", name="Show a code").click()
    page.locator("#command").wait_for()
    assert faults(page) == []
    let_in(page, served, name)
    for path in (f"/close/{made}", f"/sell/{made}", "/for-sale", "/positions", "/quotes", "/account", "/"):
        page.goto(served.url + path)
        assert faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if width < 500 and path == "/quotes":
            picture(page, "desk-quotes-phone-dark")
    assert page.get_by_text(made).count() == 0
    context.close()


@pytest.mark.parametrize("window", [("light", 1440), ("dark", 390)], ids=["desktop-light", "phone-dark"])
def test_every_desk_page_has_no_serious_fault_and_fits_its_window(browser, served, window):
    scheme, width = window
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    name = served.near().name
    for path in (
        "/",
        "/smile",
        "/verify?id=deal",
        "/search?q=none",
        f"/search?q={LONG}",
        "/quotes",
        "/quotes?strike=nonsense",
        "/for-sale",
        f"/book/{name}",
        f"/ticket/{name}",
        "/nowhere",
    ):
        page.goto(served.url + path)
        assert faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if path == "/smile":
            picture(page, f"desk-smile{'-phone-dark' if width < 500 else ''}")
        if path == "/" and width < 500:
            picture(page, "desk-chain-phone-dark")
    context.close()


def test_the_desk_is_used_without_a_mouse(reader, served):
    reader.goto(f"{served.url}/")
    reader.keyboard.press("Tab")
    assert reader.evaluate("document.activeElement.innerText") == "Skip to content"
    reader.get_by_label("Search by instrument").focus()
    reader.keyboard.type(served.near().name)
    reader.keyboard.press("Enter")
    reader.get_by_role("heading", name=served.near().name).wait_for()
