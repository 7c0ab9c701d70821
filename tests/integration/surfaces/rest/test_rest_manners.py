"""How the API answers around the answer: methods, places, ids, rates, times and words, and its own reference page."""

from __future__ import annotations

import re
from datetime import datetime
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from btcfi.surfaces.rest.app import create_app
from dashboards.operator.gate import COOKIE
from tests.support.rest_world import NOW, make_world

EXPIRY = NOW // 60 * 60 + 30 * 86_400
ORDER = {"type": "call", "strike": 70000, "expiry": EXPIRY, "quantity": 0.5}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_world(tmp_path_factory.mktemp("manners"))
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def api(world):
    with TestClient(create_app(world.deps)) as client:
        yield client


@pytest.fixture(scope="module")
def keyed(world):
    return {"Authorization": f"Bearer {world.key('trade', 'operate')}"}


@pytest.mark.parametrize("path", ["/api/market", "/api/v1/options", "/api/v1/prices/stream", "/api/docs"])
def test_a_head_is_its_get_without_the_body(api, path):
    got = api.head(path)
    assert got.status_code == 200
    assert not got.content
    assert got.headers["content-type"] != "application/problem+json"


def test_a_wrong_method_is_told_every_right_one(api):
    for path, methods in (("/api/v1/options", "GET, HEAD, POST"), ("/api/v1/options/x/settle", "POST")):
        refused = api.delete(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, methods)


def test_what_was_created_says_where_it_is_and_a_repetition_too(api, keyed):
    again = keyed | {"Idempotency-Key": "where"}
    for _ in range(2):
        made = api.post("/api/v1/options", json=ORDER, headers=again)
        assert made.status_code == 201
        assert made.headers["location"] == f"/api/v1/options/{made.json()['option_id']}"
        assert api.get(made.headers["location"]).status_code == 200
    asked = api.post(f"{made.headers['location']}/settle", headers=keyed)
    assert (asked.status_code, asked.headers["location"]) == (202, made.headers["location"])


def test_the_order_of_an_orders_keys_is_nothing_to_its_idempotency(api, keyed):
    again = keyed | {"Idempotency-Key": "order of keys"}
    again["Idempotency-Key"] = "order-of-keys"
    first = api.post("/api/v1/options", json=ORDER, headers=again)
    turned = api.post("/api/v1/options", json=dict(reversed(ORDER.items())), headers=again)
    assert turned.headers["Idempotent-Replayed"] == "true"
    assert turned.json() == first.json()


def test_each_answer_has_an_id_the_callers_own_where_it_gave_one(api):
    assert api.get("/api/market", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    refused = api.get("/api/v1/options/none", headers={"X-Request-Id": "mine-2"})
    assert refused.json()["request_id"] == refused.headers["X-Request-Id"] == "mine-2"
    forged = api.get("/api/market", headers={"X-Request-Id": 'x" onload="y'})
    assert re.fullmatch("[0-9a-f]{32}", forged.headers["X-Request-Id"])


def test_a_caller_sees_what_is_left_of_its_rate(tmp_path):
    world = make_world(tmp_path)
    slow = {"Authorization": f"Bearer {world.key('read', requests_per_minute=30)}"}
    with TestClient(create_app(world.deps)) as api:
        answers = [api.get("/api/market", headers=slow).headers for _ in range(4)]
    left = [(h["RateLimit-Limit"], h["RateLimit-Remaining"]) for h in answers]
    assert left == [("30", "2"), ("30", "1"), ("30", "0"), ("30", "0")]
    assert [h["RateLimit-Reset"] for h in answers] == ["2", "4", "6", "2"]
    world.store.close()


def test_a_time_is_asked_and_answered_in_iso_8601_too(api, world, keyed):
    iso = datetime.fromtimestamp(EXPIRY).astimezone().isoformat()
    made = api.post("/api/v1/options", json=ORDER | {"expiry": iso}, headers=keyed)
    seen = api.get(made.headers["location"]).json()
    assert seen["expiry_unix"] == EXPIRY
    assert datetime.fromisoformat(seen["expiry"]).timestamp() == EXPIRY
    found = api.get("/api/v1/options", params={"expiry_from": iso, "expiry_to": seen["expiry"]}).json()["items"]
    assert seen["id"] in {one["id"] for one in found}
    (price,) = api.get("/api/v1/prices", params={"start": "2026-01-01T00:00:00Z", "limit": 1}).json()["items"]
    assert datetime.fromisoformat(price["slot_at"]).timestamp() == price["slot_unix"]
    refused = api.get("/api/v1/prices", params={"start": "2026-01-01T00:00:00"})
    assert (refused.status_code, refused.json()["field"]) == (422, "start")


def test_what_was_asked_for_has_the_same_name_and_unit_in_the_answer(api, keyed):
    order = ORDER | {"strike": 65000.5, "barrier": 90000, "quantity": 0.25}
    seen = api.get(api.post("/api/v1/options", json=order, headers=keyed).headers["location"]).json()
    assert {name: seen[name] for name in ("strike", "barrier", "quantity", "type")} == {
        name: order[name] for name in ("strike", "barrier", "quantity", "type")
    }
    assert seen["strike_cents"] == 6_500_050


def test_every_time_in_seconds_stands_beside_the_same_in_iso_8601(api):
    schemas = api.get("/api/v1/openapi.json").json()["components"]["schemas"]
    for name, schema in schemas.items():
        for field in schema.get("properties", {}):
            # an order gives back what its quote said, and what is signed has each time once
            if field.endswith("_unix") and name != "CreateOption" and not name.startswith("Signed"):
                twin = field.removesuffix("_unix")
                assert {twin, f"{twin}_at"} & schema["properties"].keys(), f"{name}.{field}"


def test_every_field_and_parameter_has_a_description_and_an_example(api):
    document = api.get("/api/v1/openapi.json").json()
    for record, schema in document["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            assert field.get("description"), f"{record}.{name} has no description"
            assert field.get("examples"), f"{record}.{name} has no example"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for one in operation.get("parameters", ()):
                where = f"{method} {path} {one['name']}"
                assert one.get("description"), f"{where} has no description"
                assert one["schema"].get("examples"), f"{where} has no example"


class Loaded(HTMLParser):
    """What a page runs, loads and links."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.loads, self.links, self.ids, self.inline = set(), [], [], set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.tags.add(tag)
        self.ids.add(known.get("id"))
        self.loads += [v for k, v in attrs if k == "src" or (k == "href" and tag == "link")]
        self.links += [v for k, v in attrs if k == "href" and tag == "a"]
        self.inline += [k for k, _ in attrs if k.startswith("on") or k == "style"]


def test_the_reference_page_loads_nothing_from_elsewhere_and_runs_no_script(api):
    answer = api.get("/api/docs")
    page = Loaded(answer.text)
    assert not page.tags & {"script", "style", "iframe", "object", "base", "form"}
    assert not page.inline
    assert page.loads == ["/api/docs/reference.css"]
    assert api.get(page.loads[0]).headers["content-type"].startswith("text/css")
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_reference_page_shows_every_operation_and_every_field(api):
    html, document = api.get("/api/docs").text, api.get("/api/v1/openapi.json").json()
    for path in document["paths"]:
        assert f"<code>{path}</code>" in html
    for record, schema in document["components"]["schemas"].items():
        for name in schema.get("properties", {}):
            assert f"<code>{name}</code>" in html, f"{record}.{name}"


def test_what_a_document_says_is_text_on_the_page_and_never_markup():
    from btcfi.surfaces.rest.reference import draw  # noqa: PLC0415 - this test's own

    evil = "<script>alert(1)</script>"
    document = {
        "info": {"title": evil, "version": "1", "description": evil},
        "paths": {
            "/x": {"get": {"operationId": "x", "description": evil, "responses": {"200": {"description": evil}}}}
        },
        "components": {"schemas": {"R": {"description": evil, "properties": {"f": {"description": evil}}}}},
    }
    assert "script" not in Loaded(draw(document)).tags


@pytest.mark.parametrize("path", ["/api/market", "/api/docs", "/api/v1/openapi.json", "/api/none", "/api/v1/risk"])
def test_every_answer_of_the_api_has_the_consoles_policy(api, path):
    headers = api.get(path, headers={"Cookie": f"{COOKIE}=x"}).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"


def test_an_answer_to_what_nobody_foresaw_has_the_policy_and_the_id_too(tmp_path):
    def broken(_order):
        raise RuntimeError

    world = make_world(tmp_path, create_option=broken)
    with TestClient(create_app(world.deps), raise_server_exceptions=False) as api:
        got = api.post(
            "/api/v1/options", json=ORDER,
            headers={"Authorization": f"Bearer {world.key('trade')}", "X-Request-Id": "lost-1"},
        )  # fmt: skip
    assert (got.status_code, got.json()["request_id"]) == (500, "lost-1")
    assert got.headers["x-frame-options"] == "DENY"
    world.store.close()
