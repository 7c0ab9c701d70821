"""The console in a real browser over a real cluster: the journeys of an operator, and every page as it is seen.

Run by `make browser`; the screenshots of the documents are written when BTCFI_TEST_IMAGES is set.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.database import Store
from tests.browser.conftest import AXE, ROOT, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.timeout(120)]

IMAGES = ROOT / "docs" / "images"
SERIOUS = {"moderate", "serious", "critical"}
"""Impacts, in axe-core's words: all but `minor`."""
XSS = "<img src=x onerror=\"document.title='broken into'\"><script>document.title='broken into'</script>"
LONG = 60_000


def picture(page, name: str, *, full: bool = False) -> None:
    """Write a screenshot for the documents, when they are asked for."""
    if os.environ.get("BTCFI_TEST_IMAGES"):
        IMAGES.mkdir(exist_ok=True)
        page.screenshot(path=str(IMAGES / f"{name}.png"), full_page=full)


def faults(page) -> list[str]:
    """Return what axe-core finds wrong on the page, landmarks of one name among it."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['nodes'][0]['target']} {one['help']}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]


def write_option(page, console, *, kind: str, strike: str, minutes: int, american: bool = False) -> str:
    """Write an option through the form and return its id: again where the price has left the quote that was shown."""
    for _ in range(10):
        page.goto(f"{console.url}/options/new")
        page.get_by_label(kind, exact=True).check()
        page.get_by_label("Strike, USD").fill(strike)
        page.get_by_label("Quantity").fill("0.05")
        if american:
            page.get_by_label("American").check()
        # the button sells what the page has shown: the quote of these very terms
        with page.expect_response(lambda one: "/options/quote?" in one.url and f"expires={minutes}" in one.url):
            page.get_by_label("Expires in").fill(str(minutes))
        page.wait_for_function("() => document.querySelector('.htmx-request') === null")
        page.locator("#quote .figure strong").wait_for()
        page.get_by_role("button", name="Write and fund this option").click()
        # here a minute takes less than a second, and a premium that has risen above what was shown sells nothing
        page.wait_for_function(
            "() => /options.[0-9a-f]{32}$/.test(location.href) || document.body.innerText.includes('Not created.')"
        )
        if re.search(r"/options/[0-9a-f]{32}$", page.url):
            return page.url.rsplit("/", 1)[1]
        assert "moved" in page.inner_text("main") or "quote" in page.inner_text("main")
    pytest.fail("ten quotes in a row were left by the price")


@pytest.fixture(scope="module")
def written(browser, console, signed_in):
    """Two options, written through the page as soon as there is a price: one to expire, one to exercise early."""
    context = browser.new_context(storage_state=signed_in)
    page = context.new_page()
    page.goto(f"{console.url}/prices")
    page.locator("#rounds tbody tr .state.done").first.wait_for(timeout=LONG)
    call = write_option(page, console, kind="call", strike="50000", minutes=30)
    binary = write_option(page, console, kind="binary call", strike="45000", minutes=80, american=True)
    page.goto(f"{console.url}/risk")
    page.get_by_text("2 funded options at").wait_for(timeout=LONG)
    picture(page, "risk")
    context.close()
    return call, binary


def test_a_stranger_is_turned_away_and_a_wrong_password_is_refused(browser, console):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{console.url}/options")
    assert "/sign-in" in page.url
    assert faults(page) == []
    sign_in(page, console, password="a wrong password, this")
    assert page.get_by_role("alert").inner_text().endswith("Name or password is wrong.")
    page.get_by_label("Password").fill("a password for the tests")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Now").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{console.url}/")
    assert "/sign-in" in page.url
    context.close()


def test_the_quote_follows_the_form_and_names_a_wrong_field(page, console, written):
    page.goto(f"{console.url}/options/new")
    before = page.locator("#quote .figure strong").inner_text()
    page.get_by_label("Quantity").fill("0.50")
    page.wait_for_function("before => document.querySelector('#quote .figure strong').innerText !== before", arg=before)
    page.get_by_label("Strike, USD").fill("a lot")
    page.get_by_text("No quote.").wait_for()
    assert "strike" in page.locator("#quote").inner_text()
    page.get_by_label("Strike, USD").fill("58000")
    page.get_by_label("put", exact=True).check()
    page.locator("#quote polyline").wait_for()
    picture(page, "new-option")


def test_an_ad_hoc_settlement_is_tried_confirmed_in_words_and_done(page, console, written):
    _, binary = written
    page.goto(f"{console.url}/options/{binary}")
    page.locator("#life .big .state", has_text="active").wait_for(timeout=LONG)
    page.goto(f"{console.url}/operate")
    page.get_by_label("Ids of options").fill(binary)
    page.get_by_role("button", name="Try these").click()
    page.get_by_text("1 of 1 would be settled").wait_for()
    picture(page, "dry-run")
    words = page.get_by_label("Settling pays out collateral")
    words.fill("yes")
    page.get_by_role("button", name="Settle", exact=True).click()
    page.get_by_text("nothing was done").wait_for()
    words.fill(f"settle {binary}")
    page.get_by_role("button", name="Settle", exact=True).click()
    page.get_by_text("settle: done").wait_for()
    page.goto(f"{console.url}/options/{binary}")
    page.locator("#life .note", has_text="accepted").wait_for()
    page.locator("#life .event.settlement", has_text="proven").wait_for(timeout=LONG)


def test_an_option_is_written_expires_is_settled_and_verified_through_the_page(page, console, written):
    call, _ = written
    page.goto(f"{console.url}/options/{call}")
    page.locator("#life .big .state", has_text="exercised").wait_for(timeout=LONG)
    said = page.locator("#life").inner_text()
    for part in ("quoted and sold", "active", "proven", "attested", "final"):
        assert part in said, part
    picture(page, "option", full=True)
    page.get_by_role("link", name="Settlement and proof").click()
    page.get_by_role("button", name="Verify: run it again").click()
    page.locator("#verified .fine").wait_for(timeout=LONG)
    assert "It holds" in page.locator("#verified").inner_text()
    page.get_by_role("button", name="Show").click()
    page.get_by_text("It ends in the trace root of the proof").wait_for(timeout=LONG)
    assert page.locator("#step .asm .chosen").count() == 1
    assert faults(page) == []
    picture(page, "settlement", full=True)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the proof file").click()
    file = Path(downloading.value.path())
    proven = console.cli("verify", str(file))
    assert page.locator(".record .sum .hash").inner_text() in proven


def test_a_trader_reads_what_a_contract_is_and_takes_its_messages_home(page, console, written, tmp_path):
    call, _ = written
    page.goto(f"{console.url}/options/{call}")
    page.locator("#life .big .state", has_text=re.compile("active|expired|exercised")).wait_for(timeout=LONG)
    page.get_by_role("link", name="Contract", exact=True).click()
    page.get_by_text("It holds.").wait_for(timeout=LONG)
    said = page.locator("main").inner_text()
    for part in ("Signed by both sides", "What each side gets", "the seller alone takes it all back", "NOT guaranteed"):
        assert part in said, part
    assert faults(page) == []
    files = []
    for kind in ("offer", "accept", "sign"):
        with page.expect_download() as downloading:
            page.get_by_role("link", name=f"{kind}.json").click()
        files.append(tmp_path / f"{kind}.json")
        downloading.value.save_as(files[-1])
    assert "It holds, signed by both." in console.cli("party", "verify", *map(str, files))


def test_a_minute_is_replayed_from_its_evidence_through_the_page(page, console, written):
    page.goto(f"{console.url}/prices")
    page.locator("#chart .u-legend").wait_for()
    picture(page, "prices")
    page.locator("#rounds tbody tr", has_text="priced").first.get_by_role("link").click()
    page.get_by_role("button", name="Recompute from evidence").click()
    page.get_by_text("The same, byte for byte").wait_for()


def test_a_live_page_moves_by_itself(page, console, written):
    page.goto(f"{console.url}/")
    page.locator("#link[data-state=live]").wait_for()
    height = int(page.locator("#health .card", has_text="Chain tip").locator(".big").inner_text().replace(",", ""))
    page.wait_for_function(
        "height => [...document.querySelectorAll('#health .card')].some(card => card.innerText.includes('Chain tip')"
        " && parseInt(card.querySelector('.big').innerText.replace(',', '')) > height)",
        arg=height,
    )
    picture(page, "now")


def test_stored_text_is_shown_as_text_and_runs_nothing(page, console, written):
    call, _ = written
    store = Store(f"sqlite:///{console.data_dir / 'btcfi.db'}")
    with store.transaction() as session:
        known = session.get_one(OptionRow, call).model_dump()
        known |= {"id": "<b>x", "state": "ABANDONED", "last_error": XSS, "preset": XSS, "program": XSS}
        session.add(OptionRow(**known))
    store.close()
    for path in ("/options", "/options/%3Cb%3Ex"):
        page.goto(console.url + path)
        page.wait_for_load_state("load")
        assert "broken into" not in page.title()
        assert page.locator("img, main b").count() == 0
    assert XSS in page.locator("main").inner_text()
    for field, path in (("Id begins with", "/options"), ("Option begins with", "/settlements")):
        page.goto(console.url + path)
        page.get_by_label(field).fill(XSS)
        page.keyboard.press("Enter")
        page.get_by_text("matches").wait_for()
        assert page.get_by_label(field).input_value() == XSS
        assert "broken into" not in page.title()
    page.goto(f"{console.url}/options/new")
    page.get_by_label("Strike, USD").fill(XSS)
    page.get_by_text("No quote.").wait_for()
    assert page.locator("img").count() == 0
    assert "broken into" not in page.title()


PAGES = (
    "/", "/prices", "/options", "/options/new", "/settlements", "/fees", "/risk", "/disputes", "/operate", "/nowhere",
)  # fmt: skip


@pytest.mark.parametrize("window", [("light", 1280), ("dark", 390)], ids=["desktop-light", "phone-dark"])
def test_every_page_has_no_serious_fault_and_fits_its_window(browser, console, signed_in, written, window):
    scheme, width = window
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, storage_state=signed_in
    )
    page = context.new_page()
    for path in (*PAGES, f"/options/{written[0]}", f"/options/{written[0]}/contract"):
        page.goto(console.url + path)
        if path == "/prices":
            page.locator("#chart .u-legend").wait_for()
        assert faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        # nobody scrolls a list sideways with a thumb: each row is a card
        wide = "[...document.querySelectorAll('.scroll:has(> .rows)')].filter(one => one.scrollWidth > one.clientWidth)"
        assert width > 760 or page.evaluate(f"{wide}.length") == 0, path
        if path in {"/", "/prices", "/operate"} and width < 500:
            picture(page, f"{path.strip('/') or 'now'}-phone-dark")
    context.close()


def test_the_console_is_used_without_a_mouse(page, console, written):
    page.goto(f"{console.url}/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Options", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Options").wait_for()
    page.get_by_label("State").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type(written[0][:6])
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("id="))
    assert page.locator("tbody tr").count() == 1


def test_a_live_update_leaves_focus_selection_and_scrolling_where_they_are(browser, console, signed_in, written):
    context = browser.new_context(viewport={"width": 765, "height": 700}, storage_state=signed_in)
    page = context.new_page()
    page.goto(f"{console.url}/prices")
    page.locator("#link[data-state=live]").wait_for()
    page.evaluate(HELD)
    page.wait_for_function(
        "() => [...document.querySelectorAll('#rounds tbody tr')].slice(2).some(row => row.contains(window.held))",
        timeout=LONG,
    )
    assert page.evaluate("document.activeElement === window.held && window.held.isConnected")
    assert page.evaluate("window.held.getAttribute('href') === window.address")
    assert page.evaluate("getSelection().toString()") == page.evaluate("window.words")
    assert page.evaluate("document.querySelector('#rounds .scroll').scrollLeft") == page.evaluate("window.left") > 0
    # the list is full, and what has the focus is its oldest row: it goes, and the reader stays at the list
    page.evaluate("document.querySelector('#rounds tbody tr:last-child a').focus({preventScroll: true})")
    page.wait_for_function("() => document.activeElement.tagName !== 'A'", timeout=LONG)
    assert page.evaluate("document.activeElement.matches('#rounds .scroll')")
    context.close()


HELD = """() => {
  const row = document.querySelector('#rounds tbody tr:has(.state.done)');
  window.held = row.querySelector('a');
  window.address = window.held.getAttribute('href');
  const area = document.querySelector('#rounds .scroll');
  area.scrollLeft = 20;
  window.left = area.scrollLeft;
  getSelection().selectAllChildren(row.cells[2]);
  window.words = getSelection().toString();
  window.held.focus({ preventScroll: true });
}"""
"""What a reader holds in the newest row that has a price: its link, a selected price, the table scrolled sideways."""


def test_a_live_fragment_does_not_shift_the_page(page, console, written):
    page.goto(f"{console.url}/")
    page.evaluate(
        "window.shifted = 0; new PerformanceObserver(list => { for (const one of list.getEntries()) "
        "window.shifted += one.value; }).observe({type: 'layout-shift', buffered: true})"
    )
    page.wait_for_timeout(2_500)
    assert page.evaluate("window.shifted") < 0.1
