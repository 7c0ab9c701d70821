"""Signing in at the desk: a code, an account's own signature, digits for one browser; and what no thief of any gets."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select
from starlette.requests import Request

from btcfi.adapters.store.access.console_tables import AuditRow
from btcfi.adapters.store.market import accounts, visitors
from btcfi.adapters.store.market.visitor_tables import DeskSessionRow, DeskSignInRow
from btcfi.adapters.store.market.visitors import CODE_SECONDS, MOST_SESSIONS, MOST_TRIES, SEEN_SECONDS
from btcfi.adapters.store.market.webhook_tables import WebhookRow
from btcfi.adapters.store.spine.database import Store
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.rest.app import create_app
from dashboards.trader.deps import DeskLimits
from dashboards.trader.gate import ASK_COOKIE, COOKIE, visitor_of
from tests.support.accounts import trader
from tests.support.desk_world import csrf_of, desk_world
from tests.support.market_world import Stand

pytestmark = pytest.mark.integration


@pytest.fixture
def desk(tmp_path):
    with desk_world(tmp_path) as made:
        yield made


@pytest.fixture
def alice(desk):
    return desk.join("alice-1")


def is_in(desk, browser) -> bool:
    return browser.get("/desk/positions", follow_redirects=False).status_code == 200


def test_a_code_that_the_account_s_process_signs_opens_the_browser_that_shows_it(desk, alice):
    browser = desk.browser()
    code = desk.code(browser)
    with TestClient(create_app(desk.world.deps)) as api:
        stand = Stand(world=desk.world, api=api)
        assert api.get(f"/api/v1/sign-ins/{code}").status_code == 401, "a code is shown to no stranger"
        asked = stand.ask(alice, "GET", f"/sign-ins/{code}").json()
        assert asked["browser"] == "Firefox on Linux"
        said = {name: asked[name] for name in ("browser", "address")}
        other = stand.ask(alice, "POST", f"/sign-ins/{code}", json=said | {"browser": "Safari on iPhone"})
        assert other.status_code == 409, "what was signed is not the browser that asks"
        answered = stand.ask(alice, "POST", f"/sign-ins/{code}", json=said).json()
        assert stand.ask(alice, "GET", "/sign-ins/AAAAAAAA").status_code == 404
    assert not is_in(desk, browser), "a signature alone opens nothing"
    answer = desk.typed(browser, f"{answered['digits'][:4]} {answered['digits'][4:]}")
    assert answer.url.path == "/desk/positions"
    assert "alice-1" in answer.text
    assert is_in(desk, browser)
    with desk.world.store.reading() as session:
        assert session.exec(select(DeskSignInRow)).all() == [], "the code is used up"
        entry = session.exec(select(AuditRow).where(AuditRow.action == "desk sign-in")).one()
    assert (entry.account, entry.detail) == ("account alice-1", "Firefox on Linux")


def test_a_stolen_code_and_even_its_digits_open_nothing_in_another_browser(desk, alice):
    mine, thief = desk.browser(), desk.browser()
    code = desk.code(mine)
    digits = desk.answered(alice, code)
    desk.code(thief)
    assert "not the digits" in desk.typed(thief, digits).text
    thief.cookies.set(ASK_COOKIE, f"{code}.{'00' * 32}", domain="desk.test", path="/desk")
    page = thief.get("/desk/sign-in").text
    assert code[:4] not in page, "who only read the code is shown nothing of it"
    assert not is_in(desk, thief)
    assert desk.typed(mine, digits).url.path == "/desk/positions"


def test_who_lures_an_owner_into_signing_a_code_still_lacks_the_digits(desk, alice):
    thief = desk.browser()
    desk.answered(alice, desk.code(thief), digits="48217730")
    for guess in range(MOST_TRIES):
        assert "not the digits" in desk.typed(thief, f"{guess:08d}").text
    assert "Too many digits" in desk.typed(thief, "48217730").text, "the right ones come too late"
    assert not is_in(desk, thief)


def test_a_stream_of_who_has_signed_out_does_not_stay_and_a_stranger_s_does(desk, alice):
    made, browser = desk.client.app.state.desk, desk.sign_in(alice)
    request = Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={browser.cookies[COOKIE]}".encode())]})
    stranger = Request({"type": "http", "headers": []})
    for one in (request, stranger):
        made.look(one)
        assert asyncio.run(made._may_stay(one))
    browser.post("/desk/sign-out", data={"csrf": csrf_of(browser.get("/desk/account").text)})
    assert not asyncio.run(made._may_stay(request))
    assert asyncio.run(made._may_stay(stranger))


def test_a_suspended_account_still_looks_at_what_it_owns(desk, alice):
    browser = desk.sign_in(alice)
    with desk.world.store.transaction() as session:
        accounts.suspend(session, alice.identity.hex(), now=desk.world.now)
    assert is_in(desk, browser)
    assert "suspended" in browser.get("/desk/account").text
    assert is_in(desk, desk.sign_in(alice))


def test_replaced_keys_let_no_browser_in_though_this_process_believed_them_a_second_ago(desk, alice):
    newer = trader("alice's next").registered().registration
    browser = desk.browser()
    code = desk.code(browser)
    with TestClient(create_app(desk.world.deps)) as api:
        stand = Stand(world=desk.world, api=api)
        asked = stand.ask(alice, "GET", f"/sign-ins/{code}").json()
        with desk.world.store.transaction() as session:  # by another process of the service: a thief has the old keys
            changed = alice.registered(
                at=desk.world.now, number=2, request_key=newer.request_key, box_key=newer.box_key
            )
            accounts.register(session, changed, now=desk.world.now)
        said = {name: asked[name] for name in ("browser", "address")}
        answered = stand.ask(alice, "POST", f"/sign-ins/{code}", json=said)
        assert answered.status_code == 401, "its session would be the new keys', and outlive the old ones"
        assert stand.ask(alice, "DELETE", "/offers").status_code == 401, "nothing is done by keys that are no more"
    with desk.world.store.reading() as session:
        assert session.get(DeskSignInRow, code).account_id is None


def test_an_open_tab_keeps_nobody_signed_in_who_asks_for_nothing(desk, alice):
    made, browser = desk.client.app.state.desk, desk.sign_in(alice)
    request = Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={browser.cookies[COOKIE]}".encode())]})
    made.look(request)
    idle = made.deps.limits.idle_seconds
    for _ in range(2 * idle // SEEN_SECONDS // 10):
        desk.world.now += 10 * SEEN_SECONDS
        asyncio.run(made._may_stay(request))
    assert not is_in(desk, browser), "two hours without a request end a session"


def test_who_is_signed_in_reads_on_while_nothing_can_be_written(desk, alice):
    browser = desk.sign_in(alice)
    desk.world.now += SEEN_SECONDS
    token = browser.cookies[COOKIE]
    hasty = Store(desk.world.store.url, busy_timeout_ms=50)
    with desk.world.store.transaction() as session:  # somebody writes for long; a full disk would refuse it at once
        session.execute(select(DeskSessionRow))
        found = visitor_of(hasty, token, address="192.0.2.7", limits=DeskLimits(), now=desk.world.now)
    hasty.close()
    assert found is not None, "a page is a read"
    assert found.account == alice.identity.hex()


def test_a_stranger_who_signs_your_code_does_not_put_his_account_into_your_browser(desk, alice):
    mallory, mine = desk.join("mallory-1"), desk.browser()
    code = desk.code(mine)
    desk.answered(mallory, code, digits="00000001")
    with pytest.raises(visitors.CodeTakenError):
        desk.answered(alice, code)
    assert not is_in(desk, mine), "his digits are his: who types none stays out"


def test_a_code_is_old_after_some_minutes_and_new_digits_replace_the_ones_before(desk, alice):
    browser = desk.browser()
    code = desk.code(browser)
    desk.answered(alice, code, digits="11111111")
    desk.answered(alice, code, digits="22222222")
    assert "not the digits" in desk.typed(browser, "11111111").text
    desk.world.now += CODE_SECONDS
    token = csrf_of(desk.sign_in(alice).get("/desk/account").text)
    assert token
    assert "Show a code" in browser.get("/desk/sign-in").text
    assert not is_in(desk, browser)


def test_the_cookie_is_for_this_site_s_pages_alone_and_the_store_has_only_its_hash(desk, alice):
    browser = desk.browser()
    desk.answered(alice, desk.code(browser))
    page = browser.get("/desk/sign-in").text
    answer = browser.post(
        "/desk/sign-in", data={"csrf": csrf_of(page), "digits": "12345678"}, follow_redirects=False
    )  # fmt: skip
    told = next(one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{COOKIE}="))
    assert "HttpOnly" in told
    assert "SameSite=strict" in told
    assert "Path=/desk" in told
    token = told.split(";")[0].partition("=")[2]
    with desk.world.store.reading() as session:
        assert token not in str([session.exec(select(t)).all() for t in (DeskSessionRow, DeskSignInRow, AuditRow)])
    secure = browser.post("https://desk.test/desk/sign-in/code", follow_redirects=False).headers["set-cookie"]
    assert "Secure" in secure


@pytest.mark.parametrize(
    "path",
    [
        "/sign-out", "/account/keys", "/account/keys/end", "/account/sessions/end", "/account/webhooks",
        "/account/webhooks/test", "/account/webhooks/remove",
    ],
)  # fmt: skip
def test_no_form_of_another_site_or_session_does_anything(desk, alice, path):
    browser = desk.sign_in(alice)
    word = csrf_of(browser.get("/desk/account").text)
    good = {"csrf": word, "name": "bot", "days": "30"}
    for data, headers in (
        ({**good, "csrf": "00" * 32}, {}), ({"name": "bot", "days": "30"}, {}),
        (good, {"Origin": "http://evil.test"}), (good, {"Sec-Fetch-Site": "cross-site"}),
    ):  # fmt: skip
        assert browser.post(f"/desk{path}", data=data, headers=headers).status_code == 403
    assert is_in(desk, browser)
    assert desk.browser().post(f"/desk{path}", data=good).status_code == 401
    asked = desk.browser().post("/desk/sign-in/code", headers={"Origin": "http://evil.test"})
    assert asked.status_code == 403, "no other site has a code shown here"


def test_a_session_ends_by_its_page_by_another_browser_by_time_and_by_newer_keys(desk, alice):
    first, second, third = desk.sign_in(alice), desk.sign_in(alice), desk.sign_in(alice)
    page = first.get("/desk/account").text
    first.post("/desk/sign-out", data={"csrf": csrf_of(page)})
    assert not is_in(desk, first)
    page = second.get("/desk/account").text
    row = next(one for one in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if "number" in one and "this one" not in one)
    number = re.search(r'name="number" value="([0-9a-f]{16})"', row)[1]
    mallory = desk.sign_in(desk.join("mallory-1"))
    foreign = {"csrf": csrf_of(mallory.get("/desk/account").text), "number": number}
    assert mallory.post("/desk/account/sessions/end", data=foreign).status_code == 404, "another account's session"
    assert is_in(desk, third)
    second.post("/desk/account/sessions/end", data={"csrf": csrf_of(page), "number": number})
    assert not is_in(desk, third)
    assert is_in(desk, second)
    newer = trader("alice-2")
    with desk.world.store.transaction() as session:
        changed = alice.registered(
            at=desk.world.now, number=2, request_key=public_key_xonly(newer.keystore.request_secret())
        )  # fmt: skip
        accounts.register(session, changed, now=desk.world.now)
    assert not is_in(desk, second), "what an old key has opened ends with it"
    assert is_in(desk, mallory)
    desk.world.now += 2 * 3_600
    assert not is_in(desk, mallory), "idle"


def test_an_account_has_so_many_sessions_at_most_and_the_oldest_ends(desk, alice):
    first = desk.sign_in(alice)
    for _ in range(MOST_SESSIONS):
        desk.world.now += 1
        desk.sign_in(alice)
    assert not is_in(desk, first)
    with desk.world.store.reading() as session:
        assert len(session.exec(select(DeskSessionRow)).all()) == MOST_SESSIONS


def test_an_address_is_shown_few_codes_at_once(tmp_path):
    with desk_world(tmp_path, limits=DeskLimits(codes_per_minute=20)) as desk:
        found = [desk.browser().post("/desk/sign-in/code", follow_redirects=False).status_code for _ in range(3)]
    assert found == [303, 303, 429]


def test_a_key_that_is_made_in_the_page_is_shown_once_and_reads_this_account_alone(desk, alice):
    browser, bob = desk.sign_in(alice), desk.join("bob-1")
    mine = desk.trade(alice, bob, desk.listed()[0].name, 1_500)
    theirs = desk.trade(bob, desk.join("carol-1"), desk.listed()[0].name, 1_500)
    word = csrf_of(browser.get("/desk/account").text)
    page = browser.post("/desk/account/keys", data={"csrf": word, "name": "my <bot>", "days": "30"})
    assert page.status_code == 201
    key = re.search(r"btcfi_[0-9a-f]{16}_[0-9a-f]{64}", page.text)[0]
    assert key not in browser.get("/desk/account").text
    with TestClient(create_app(desk.world.deps)) as api:
        shown = api.get("/api/v1/positions", headers={"Authorization": f"Bearer {key}"}).json()["items"]
        assert [one["option"]["id"] for one in shown] == [mine]
        assert theirs not in str(shown)
        for method, path in (("DELETE", "/offers"), ("POST", "/takes"), ("GET", "/accounts")):
            refused = api.request(method, f"/api/v1{path}", headers={"Authorization": f"Bearer {key}"}, json=None)
            assert refused.status_code in {401, 403, 422}, path
        other = desk.sign_in(bob)
        foreign = {"csrf": csrf_of(other.get("/desk/account").text), "id": key.split("_")[1]}
        assert other.post("/desk/account/keys/end", data=foreign).status_code == 404
        browser.post("/desk/account/keys/end", data={"csrf": word, "id": key.split("_")[1]})
        api.app.state.gate._keys.clear()  # a server believes a key for five seconds
        assert api.get("/api/v1/positions", headers={"Authorization": f"Bearer {key}"}).status_code == 401


def test_an_account_has_so_many_keys_at_most(tmp_path):
    with desk_world(tmp_path, limits=replace(DeskLimits(), api_keys=1)) as desk:
        browser = desk.sign_in(desk.join("alice-1"))
        data = {"csrf": csrf_of(browser.get("/desk/account").text), "name": "bot", "days": "30"}
        assert browser.post("/desk/account/keys", data=data).status_code == 201
        assert browser.post("/desk/account/keys", data=data).status_code == 409
        assert browser.post("/desk/account/keys", data=data | {"days": "9999"}).status_code == 422


def test_a_webhook_that_is_added_in_the_page_shows_its_secret_once_and_is_this_account_s_alone(desk, alice):
    browser, other = desk.sign_in(alice), desk.sign_in(desk.join("mallory-1"))
    word, foreign = (csrf_of(one.get("/desk/account").text) for one in (browser, other))
    for url in ("http://hooks.example.com/", "https://10.0.0.1/", "https://me:it@hooks.example.com/", ""):
        assert browser.post("/desk/account/webhooks", data={"csrf": word, "url": url}).status_code == 422
    page = browser.post("/desk/account/webhooks", data={"csrf": word, "url": "https://hooks.example.com/<b>"})
    assert page.status_code == 201
    secret = re.search(r"whsec_[A-Za-z0-9+/]{43}=", page.text)[0]
    assert "/<b>" not in page.text
    shown = browser.get("/desk/account").text
    assert secret not in shown
    hook_id = re.search(r'action="/desk/account/webhooks/test">.*?name="id" value="([0-9a-f]{16})"', shown)[1]
    for act in ("test", "remove"):
        data = {"csrf": foreign, "id": hook_id}
        assert other.post(f"/desk/account/webhooks/{act}", data=data).status_code == 404
    assert hook_id not in other.get("/desk/account").text
    with desk.world.store.transaction() as session:
        row = session.get_one(WebhookRow, hook_id)
        row.state, row.problem = "disabled", "status 410"
    assert "Turn on" in browser.get("/desk/account").text
    browser.post("/desk/account/webhooks/test", data={"csrf": word, "id": hook_id})
    with desk.world.store.reading() as session:
        assert session.get_one(WebhookRow, hook_id).state == "active"
        assert secret.removeprefix("whsec_") not in str([session.exec(select(t)).all() for t in (WebhookRow, AuditRow)])
    browser.post("/desk/account/webhooks/remove", data={"csrf": word, "id": hook_id})
    assert hook_id not in browser.get("/desk/account").text
