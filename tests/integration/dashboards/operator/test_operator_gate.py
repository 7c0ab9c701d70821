"""Who comes into the console, with which form, and what everybody else is told."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
import time

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlmodel import select

from btcfi.adapters.store.access.console_tables import ConsoleSessionRow
from btcfi.adapters.store.options.tables import SettlementRequestRow
from btcfi.adapters.store.prices.pause_tables import PausedFeedRow
from dashboards.operator import accounts
from dashboards.operator.app import create_console
from dashboards.operator.errors import TooManySignInsError
from tests.support.console_world import csrf_of, sign_in

PAGES = (
    "/", "/prices", "/options", "/options/new", "/settlements", "/risk", "/fees", "/disputes", "/operate",
    "/prices/data",
)  # fmt: skip
STREAMS = ("/live/now", "/live/prices", "/live/options/x", "/live/settlements/x")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_sends_a_stranger_to_the_sign_in_and_back(world, path):
    answer = world.client().get(path, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")
    entered = world.client()
    to = path if path != "/" else ""
    assert sign_in(entered, to=to or "/").headers["location"] == path


def test_a_stranger_at_a_stream_has_a_share_and_a_rate_of_its_address_and_no_page_is_drawn(world):
    limits = dataclasses.replace(world.deps.limits, requests_per_minute=100)
    world.app = create_console(dataclasses.replace(world.deps, limits=limits))
    stranger = world.client()
    stranger.cookies.set("btcfi_session", "a" * 64)
    answers = [stranger.get("/live/now") for _ in range(12)]
    assert [a.status_code for a in answers] == [401] * 10 + [429] * 2
    assert "<" not in answers[0].text
    assert answers[-1].headers["retry-after"] == "1"
    world.now += 60
    assert stranger.get("/live/now").status_code == 401


@pytest.mark.parametrize("path", ["/sign-in%0A", "/static/x%00"])
def test_a_path_with_a_control_character_is_refused(world, path):
    assert world.client().get(path).status_code == 400


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_tells_a_stranger_nothing(world, path):
    assert world.client().get(path).status_code == 401


def test_a_wrong_password_an_unknown_name_and_a_closed_account_hear_the_same(world):
    accounts.disable_account(world.store, "rita", now=world.now, by="test")
    said = set()
    for name, password in (("ada", "wrong horse battery"), ("nobody", "x"), ("rita", "correct horse battery")):
        answer = sign_in(world.client(), name, password)
        assert answer.status_code == 401
        said.add(re.sub(r'(value|name)="[^"]*"', "", answer.text))
    assert len(said) == 1
    assert world.audited()[-3:] == [(n, "sign-in", "refused") for n in ("ada", "nobody", "rita")]


def test_guessing_is_slowed_down_and_the_right_password_waits_too(world):
    for _ in range(5):
        assert sign_in(world.client(), "ada", "guess").status_code == 401
    refused = sign_in(world.client(), "ada")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "300"
    assert sign_in(world.client(), "rita").status_code == 303
    world.now += 301
    assert sign_in(world.client(), "ada").status_code == 303


def test_the_cookie_is_unreadable_by_scripts_and_stays_on_this_site(world):
    client = world.client()
    cookie = next(c for c in sign_in(client).headers.get_list("set-cookie") if c.startswith("btcfi_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    token = cookie.split("=", 1)[1].split(";")[0]
    with world.store.reading() as session:
        assert token not in str(session.exec(select(ConsoleSessionRow)).all())


def test_a_session_ends_when_it_is_old_idle_signed_out_or_its_account_closed(world):
    client = world.signed_in()
    world.now += 3_500
    assert client.get("/").status_code == 200
    world.now += 3_500
    assert client.get("/").status_code == 200, "it is not idle"
    world.now += 3_700
    assert client.get("/", follow_redirects=False).status_code == 303

    again = world.signed_in()
    for _ in range(12):
        world.now += 3_500
        again.get("/")
    world.now += 3_500
    assert again.get("/", follow_redirects=False).status_code == 303, "twelve hours are over"

    left = world.signed_in()
    token = left.cookies["btcfi_session"]
    left.post("/sign-out", data={"csrf": csrf_of(left)})
    left.cookies.set("btcfi_session", token)
    assert left.get("/", follow_redirects=False).status_code == 303

    closed = world.signed_in("rita")
    accounts.disable_account(world.store, "rita", now=world.now, by="test")
    assert closed.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize("token", ["", "0" * 64, "x" * 5_000, "é" * 32])
def test_an_invented_session_is_none(world, token):
    answer = world.client().get("/", headers={"cookie": f"btcfi_session={token}".encode()}, follow_redirects=False)
    assert answer.status_code == 303


def forms(client):
    own = csrf_of(client)
    return [
        {},
        {"csrf": ""},
        {"csrf": own[:-1] + ("0" if own[-1] != "0" else "1")},
        {"csrf": "0" * 64},
        {"csrf": "é"},
    ]


def test_a_form_without_the_sessions_own_token_does_nothing_and_is_written_down(world):
    client, other = world.signed_in(), world.signed_in()
    for form in [*forms(client), {"csrf": csrf_of(other)}]:
        answer = client.post("/operate/feed", data={**form, "do": "pause", "confirm": "pause BTC/USD"})
        assert answer.status_code == 403
        assert world.audited()[-1] == ("ada", "forged form", "refused")
    with world.store.reading() as session:
        assert session.exec(select(PausedFeedRow)).all() == []


def test_another_sites_page_cannot_send_our_forms_even_with_the_token(world):
    client = world.signed_in()
    form = {"csrf": csrf_of(client), "do": "pause", "confirm": "pause BTC/USD"}
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert client.post("/operate/feed", data=form, headers=headers).status_code == 403
    own = {"origin": "http://console.test", "sec-fetch-site": "same-origin"}
    assert client.post("/operate/feed", data=form, headers=own, follow_redirects=False).status_code == 303


def test_the_sign_in_form_is_bound_to_the_browser_that_loaded_it(world):
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', world.client().get("/sign-in").text)[1]
    form = {"csrf": token, "name": "ada", "password": "correct horse battery"}
    assert world.client().post("/sign-in", data=form).status_code == 403


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/sign-out", "\r\nx: y"]
)
def test_signing_in_leads_to_a_page_of_ours_only(world, to):
    assert sign_in(world.client(), to=to).headers["location"] == "/"


def test_a_reader_sees_no_lever_and_reaches_none(world):
    world.sell("one")
    client = world.signed_in("rita")
    page = client.get("/options").text
    assert "checkbox" not in page
    assert "/operate" not in re.sub(r'action="[^"]*"', "", page)
    token = csrf_of(client)
    for path in ("/operate", "/risk", "/fees", "/options/new"):
        assert client.get(path).status_code == 403
    for path in ("/operate/settle/try", "/operate/settle", "/operate/requeue", "/operate/feed", "/operate/worker"):
        assert client.post(path, data={"csrf": token, "id": "one", "one": "one", "by": "ids"}).status_code == 403
    assert client.post("/options", data={"csrf": token}).status_code == 403
    assert world.audited()[-1] == ("rita", "role missing", "refused")
    with world.store.reading() as session:
        assert session.exec(select(SettlementRequestRow)).all() == []


def test_ten_megabytes_of_form_are_turned_away(world):
    client = world.signed_in()
    body = b"csrf=" + b"a" * (10 << 20)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/operate/feed", content=body, headers=kind).status_code == 413

    def pieces():
        for _ in range(100):
            yield b"a" * 100_000

    assert client.post("/operate/feed", content=pieces(), headers=kind).status_code == 413


def test_a_body_that_is_no_form_and_a_form_of_a_thousand_fields_are_refused(world):
    client = world.signed_in()
    assert client.post("/operate/feed", json={"do": "pause"}).status_code == 415
    many = "&".join(f"id={n}" for n in range(1_000))
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/operate/feed", content=many, headers=kind).status_code == 422
    assert client.post("/operate/feed", content=b"csrf=%ff\x00", headers=kind).status_code in {403, 422}


def test_every_answer_carries_the_headers_that_keep_scripts_and_frames_out(world):
    client = world.signed_in()
    for path in ("/", "/nope", "/static/console.css", "/sign-in"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert client.get("/").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES[:-1])
def test_no_page_needs_an_inline_script_or_style(world, path):
    page = world.signed_in().get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", page)
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", page)
    assert not re.search(r'(src|href)="(https?:)?//', page), "nothing comes from elsewhere"


def test_a_name_that_is_not_ours_is_not_served(world):
    deps = dataclasses.replace(world.deps, hosts=("localhost",))

    app = create_console(deps)
    assert TestClient(app, base_url="http://rebound.example").get("/sign-in").status_code == 421
    assert TestClient(app, base_url="http://localhost:8000").get("/sign-in").status_code == 200


def test_behind_a_path_every_link_stays_behind_it(world):

    outer = FastAPI()
    outer.mount("/console", world.app)
    client = TestClient(outer, base_url="http://console.test")
    first = client.get("/console/options", follow_redirects=False)
    assert first.headers["location"] == "/console/sign-in?to=%2Foptions"
    page = client.get(first.headers["location"]).text
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', page)[1]
    form = {"csrf": token, "to": "/options", "name": "ada", "password": "correct horse battery"}
    answer = client.post("/console/sign-in", data=form)
    assert answer.status_code == 200
    assert str(answer.url).endswith("/console/options")
    assert all(link.startswith("/console/") for link in re.findall(r'(?:href|src|action)="(/[^"]*)"', answer.text))


def test_thirty_sign_ins_at_once_are_no_more_than_one_after_another_and_few_are_hashed_together(world, monkeypatch):
    now, most, hashed, lock = 0, 0, 0, threading.Lock()
    plain = accounts.weigh

    def weigh(attempt, password):
        nonlocal now, most, hashed
        with lock:
            now, hashed = now + 1, hashed + 1
            most = max(most, now)
        time.sleep(0.01)
        try:
            return plain(attempt, password)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(accounts, "weigh", weigh)
    codes = asyncio.run(_sign_ins(world, [("198.51.100.1", "ada", "guess")] * 30))
    assert hashed == codes.count(401) <= world.deps.limits.failures_per_name
    assert codes.count(429) == 30 - hashed
    # many addresses at once are many, but not together
    hashed = 0
    codes = asyncio.run(_sign_ins(world, [(f"198.51.100.{n}", f"name-{n}", "guess") for n in range(2, 10)]))
    assert (codes, hashed) == ([401] * 8, 8)
    assert most <= world.deps.limits.sign_ins_at_once


def test_a_sign_in_that_nobody_finishes_counts_and_one_that_succeeds_does_not(world):
    for _ in range(7):
        assert sign_in(world.client(), "ada").status_code == 303
    now, limits = world.now, world.deps.limits
    for _ in range(5):  # their process dies while it hashes
        accounts.begin_sign_in(world.store, "ada", address="192.0.2.1", limits=limits, now=now)
    with pytest.raises(TooManySignInsError):
        accounts.begin_sign_in(world.store, "ada", address="192.0.2.1", limits=limits, now=now)
    assert world.audited()[-6:] == [("ada", "sign-in", "done")] + [("ada", "sign-in", "refused")] * 5
    accounts.begin_sign_in(world.store, "ada", address="192.0.2.2", limits=limits, now=now)


async def _sign_ins(world, attempts):
    """Send the forms of these sign-ins, each from its address, all at once; return the statuses."""

    async def one(address, name, password):
        transport = httpx.ASGITransport(world.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
            token = re.search(r'name="csrf" value="([^"]+)"', (await client.get("/sign-in")).text)[1]
            form = {"csrf": token, "name": name, "password": password}
            return (await client.post("/sign-in", data=form)).status_code

    return await asyncio.gather(*(one(*attempt) for attempt in attempts))


def test_a_form_that_stops_is_refused_after_its_time(world):
    limits = dataclasses.replace(world.deps.limits, body_seconds=0.1)
    app = create_console(dataclasses.replace(world.deps, limits=limits))

    async def slowly():
        yield b"name="
        await asyncio.sleep(60)

    async def send():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return await client.post("/sign-in", content=slowly(), headers=headers)

    assert asyncio.run(send()).status_code == 408


def test_a_page_has_a_head_and_an_id_and_one_length(world):
    client = world.signed_in()
    got = client.head("/", headers={"X-Request-Id": "page-1"})
    assert (got.status_code, got.content, got.headers["x-request-id"]) == (200, b"", "page-1")
    both = client.get("/", headers={"Content-Length": "3", "Transfer-Encoding": "chunked"})
    assert (both.status_code, both.headers["connection"]) == (400, "close")


def test_over_a_proxys_tls_the_cookie_is_secure(world):
    client = TestClient(world.app, base_url="https://console.test")
    cookies = client.get("/sign-in").headers.get_list("set-cookie")
    assert all("Secure" in cookie for cookie in cookies)
    assert not any("Secure" in cookie for cookie in world.client().get("/sign-in").headers.get_list("set-cookie"))
