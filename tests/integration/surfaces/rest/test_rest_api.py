"""The REST API over a real store: what each endpoint answers, and how it refuses."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select, update

from btcfi.adapters.chain.node import NodeUnreachableError, PoolSize
from btcfi.adapters.chain.pool import MOST_READ, FeeMarket
from btcfi.adapters.oracle_network.node_keys import read_node_key
from btcfi.adapters.store.options.premiums import refresh_premiums
from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow
from btcfi.adapters.store.prices import pauses
from btcfi.adapters.store.prices import views as prices_views
from btcfi.adapters.store.prices.network import Submission as Stored
from btcfi.adapters.store.prices.network import add_submissions
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.next_blocks import InPool, next_blocks
from btcfi.options.order import read_body
from btcfi.oracle.submission import signature_valid
from btcfi.oracle.submission_json import decode_signed
from btcfi.pricing import black_scholes
from btcfi.surfaces.grpc.messages import write_submission
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.auth import revoke_key
from btcfi.surfaces.rest.deps import Limits
from btcfi.surfaces.rest.published import asked_as
from btcfi.surfaces.rest.schemas import CreateOption
from btcfi.units import Height
from tests.support.oracle_support import quote
from tests.support.oracles import DOLLARS, nodes, sign
from tests.support.rest_world import FEED, NOW, SPOT, make_world

EXPIRY = NOW // 60 * 60 + 30 * 86_400
ORDER = {"type": "call", "strike": 70000, "expiry": EXPIRY, "quantity": 0.5}
ASKED = {"type": "call", "strike": 70000, "expiry": str(EXPIRY), "quantity": "0.5"}
PROBLEM = "application/problem+json"


@pytest.fixture
def world(tmp_path):
    made = make_world(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def api(world):
    with TestClient(create_app(world.deps), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def trader(world):
    return {"Authorization": f"Bearer {world.key('trade')}"}


@pytest.fixture
def operator(world):
    return {"Authorization": f"Bearer {world.key('operate')}"}


def refused(response, status, kind):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    body = response.json()
    assert body["type"] == f"urn:btcfi:error:{kind}"
    assert body["status"] == status
    return body


@pytest.mark.parametrize("base", ["/api", "/api/v1"])
def test_the_published_premium_request_works_as_printed(api, base):
    asked = {"strike": 70000, "expiry": "2027-01-01T08:00:00Z", "type": "call"}
    got = api.get(f"{base}/premium", params=asked).json()
    assert {"premium_btc", "delta", "gamma", "theta", "vega"} <= got.keys()
    # from one close to the other: each is a minute after what names it
    tau = (1_798_790_400 - api.get(f"{base}/market").json()["slot_unix"]) / 31_536_000
    exact = black_scholes.call(
        spot=got["spot_cents"] / 100, strike=70000.0, tau_years=tau, volatility=got["volatility"], rate=0.03
    )
    assert got["premium_btc"] == pytest.approx(exact / (got["spot_cents"] / 100), rel=1e-12)
    assert got["premium_cents"] == round(exact * 100)


@pytest.mark.parametrize("base", ["/api", "/api/v1"])
def test_the_published_market_request_works_as_printed(api, base):
    got = api.get(f"{base}/market").json()
    assert got["spot_price"] == SPOT / 100
    assert got["last_update"].endswith("Z")
    assert got["volatility_30d"] == pytest.approx(0.6, rel=0.3)
    assert got["samples"] == 119


@pytest.mark.parametrize("base", ["/api", "/api/v1"])
def test_the_published_create_request_works_as_printed(api, trader, base):
    got = api.post(f"{base}/option/create", json=ORDER, headers=trader)
    assert got.status_code == 200
    made = got.json()
    assert made["taproot_address"].startswith("bcrt1p")
    assert made["premium"] == made["premium_cents"] / 100
    seen = api.get(f"/api/v1/options/{made['option_id']}").json()
    assert seen["strike_cents"] == 7_000_000
    assert seen["quantity_centi_btc"] == 50
    assert seen["state"] == "CREATED"


def test_expiry_may_also_be_seconds_and_binary_barrier_and_american_are_priced(api):
    asked = {"strike": "65000.50", "expiry": str(EXPIRY), "type": "binary_put", "barrier": 90000, "american": True}
    assert api.get("/api/premium", params=asked).json()["premium_cents"] > 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"strike": "nan"}, "strike"),
        ({"strike": "inf"}, "strike"),
        ({"strike": -1}, "strike"),
        ({"strike": "70000.001"}, "strike"),
        ({"expiry": "2027-01-01T08:00:00"}, "expiry"),
        ({"expiry": "2001-01-01T08:00:00Z"}, "expiry"),
        ({"expiry": "soon"}, "expiry"),
        ({"expiry": "9999-12-31T23:59:59Z"}, "expiry"),
        ({"type": "straddle"}, "type"),
        ({"barrier": "70000"}, "barrier"),
        ({"color": "red"}, "color"),
        ({"fixing": "twap:61"}, "fixing"),
        ({"fixing": "twap"}, "fixing"),
        ({"expiry": str(NOW + 300), "fixing": "twap:30"}, "expiry"),
    ],
)
def test_a_wrong_premium_query_names_the_field(api, change, field):
    asked = {"strike": 70000, "expiry": "2027-01-01T08:00:00Z", "type": "call"} | change
    got = api.get("/api/premium", params=asked)
    assert got.status_code == 422
    assert got.headers["content-type"] == PROBLEM
    assert field in got.json()["field"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"strike": "70000.001"}, "strike"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": 1e9}, "quantity"),
        ({"expiry": EXPIRY + 1}, "expiry"),
        ({"expiry": NOW // 60 * 60 - 60}, "expiry"),
        ({"barrier": 70000}, "barrier"),
        ({"barrier": 60000, "strike": 80000, "type": "call", "american": "maybe"}, "american"),
        ({"note": "hi"}, "note"),
        ({"fixing": "vwap:30"}, "fixing"),
        ({"fixing": "median:1"}, "fixing"),
        ({"expiry": NOW // 60 * 60 + 600, "fixing": "twap:30"}, "expiry"),
    ],
)
def test_a_wrong_order_names_the_field_and_creates_nothing(api, world, trader, change, field):
    got = api.post("/api/option/create", json=ORDER | change, headers=trader)
    assert got.status_code == 422
    assert got.headers["content-type"] == PROBLEM
    assert field in got.json()["field"]
    assert api.get("/api/v1/options").json()["items"] == []


def test_an_order_may_name_what_settles_it_and_the_option_says_it(api, trader):
    made = api.post("/api/option/create", json=ORDER | {"fixing": "median:30"}, headers=trader).json()
    assert api.get(f"/api/v1/options/{made['option_id']}").json()["fixing"] == "median:30"


def test_a_premium_knows_its_fixing(api):
    asked = {"strike": 70000, "expiry": str(NOW + 45 * 60), "type": "binary_call"}
    minute, mean = (
        api.get("/api/premium", params=asked | {"fixing": fixing}).json()["premium_cents"]
        for fixing in ("minute", "twap:30")
    )
    assert minute != mean


def test_a_repeated_order_with_its_key_is_one_option_and_gets_the_same_answer(api, world, trader):
    headers = trader | {"Idempotency-Key": "order-1"}
    first = api.post("/api/v1/options", json=ORDER, headers=headers)
    again = api.post("/api/v1/options", json=ORDER, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert world.orders == 1


def test_the_same_key_with_another_order_is_refused(api, trader):
    headers = trader | {"Idempotency-Key": "order-1"}
    api.post("/api/v1/options", json=ORDER, headers=headers)
    other = api.post("/api/v1/options", json=ORDER | {"quantity": 1}, headers=headers)
    refused(other, 409, "idempotency-mismatch")


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (
            '{"type":"call","strike":70000,"expiry":1798790400,"quantity":0.5}',
            '{"type":"call","strike":"70000","expiry":1798790400,"quantity":"0.5","barrier":null,"american":false}',
        ),
        (
            '{"type":"call","strike":70000.50,"expiry":1798790400,"quantity":"0.50","barrier":"80000.0","american":true}',
            '{"type":"call","strike":"70000.5","expiry":1798790400,"quantity":"0.50","barrier":"80000.0","american":true}',
        ),
        (
            '{"type":"put","strike":"70000.5","expiry":1798790400,"quantity":1.0,"fixing":"twap:30"}',
            (
                '{"type":"put","strike":"70000.5","expiry":1798790400,"quantity":"1.0","barrier":null,"american":false,'
                '"fixing":"twap:30"}'
            ),
        ),
    ],
)
def test_an_order_that_an_earlier_release_answered_is_the_same_request_today(body, kept):
    # what the release of baf76ab made of the same bodies
    assert asked_as("/p", CreateOption.model_validate(read_body(body.encode()))) == f"POST /p\n{kept}"


def test_two_callers_may_use_the_same_idempotency_key(api, world):
    one, two = ({"Authorization": f"Bearer {world.key('trade', seed=s)}", "Idempotency-Key": "k"} for s in (b"1", b"2"))
    ids = {api.post("/api/v1/options", json=ORDER, headers=h).json()["option_id"] for h in (one, two)}
    assert len(ids) == 2


def test_a_failed_order_may_be_tried_again_with_its_key(api, world, trader):
    headers = trader | {"Idempotency-Key": "order-1"}
    past = ORDER | {"expiry": NOW // 60 * 60 - 60}
    assert api.post("/api/v1/options", json=past, headers=headers).status_code == 422
    assert api.post("/api/v1/options", json=ORDER, headers=headers).status_code == 201


def test_twenty_threads_with_one_key_create_one_option(api, world, trader):
    headers = trader | {"Idempotency-Key": "storm"}
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda _: api.post("/api/v1/options", json=ORDER, headers=headers), range(20)))
    assert {one.status_code for one in many} <= {201, 409}
    assert len({one.json()["option_id"] for one in many if one.status_code == 201}) == 1
    assert world.orders == 1


def test_trading_needs_the_trade_role(api, world):
    missing = refused(api.post("/api/option/create", json=ORDER), 401, "unauthenticated")
    assert "the role trade" in missing["detail"]
    reader = {"Authorization": f"Bearer {world.key('read')}"}
    refused(api.post("/api/option/create", json=ORDER, headers=reader), 403, "role-missing")
    for path in ("risk", "fees"):
        refused(api.get(f"/api/v1/{path}", headers=reader), 403, "role-missing")


def test_wrong_expired_and_revoked_keys_are_refused_alike(api, world):
    key = world.key("read", expires_at=NOW + 100)
    good = {"Authorization": f"Bearer {key}"}
    assert api.get("/api/market", headers=good).status_code == 200
    wrong = {"Authorization": "Bearer " + key[:-1] + ("0" if key[-1] != "0" else "1")}
    body = refused(api.get("/api/market", headers=wrong), 401, "unauthenticated")
    assert body["detail"].startswith("the API key is not valid")
    refused(api.get("/api/market", headers={"Authorization": "Bearer nonsense"}), 401, "unauthenticated")
    refused(api.get("/api/market", headers={"Authorization": "Basic YTpi"}), 401, "unauthenticated")
    revoke_key(world.store, key.split("_")[1], now=NOW)
    world.seconds += 6
    refused(api.get("/api/market", headers=good), 401, "unauthenticated")
    other = {"Authorization": f"Bearer {world.key('read', expires_at=NOW + 100, seed=b'x')}"}
    world.now += 101
    refused(api.get("/api/market", headers=other), 401, "unauthenticated")


def test_a_caller_over_its_rate_is_told_when_to_come_back(api, world):
    slow = {"Authorization": f"Bearer {world.key('read', requests_per_minute=30)}"}
    codes = [api.get("/api/market", headers=slow).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    late = api.get("/api/market", headers=slow)
    refused(late, 429, "rate-limited")
    assert late.headers["Retry-After"] == "2"
    world.seconds += 2
    assert api.get("/api/market", headers=slow).status_code == 200


def test_guessing_keys_is_limited_by_address(tmp_path):
    world = make_world(tmp_path, limits=Limits(anonymous_requests_per_minute=30))
    with TestClient(create_app(world.deps)) as api:
        guesses = [{"Authorization": f"Bearer btcfi_{i:016x}_{'0' * 64}"} for i in range(4)]
        codes = [api.get("/api/market", headers=guess).status_code for guess in guesses]
    assert codes == [401, 401, 401, 429]
    world.store.close()


def test_bodies_over_the_limit_and_of_other_types_are_refused(api, trader):
    huge = json.dumps(ORDER | {"note": "x" * 70_000})
    headers = trader | {"Content-Type": "application/json"}
    refused(api.post("/api/option/create", content=huge, headers=headers), 413, "body-too-large")
    refused(
        api.post("/api/option/create", content="a=1", headers=trader | {"Content-Type": "text/plain"}),
        415, "wrong-content-type",
    )  # fmt: skip
    refused(api.post("/api/option/create", content="{", headers=headers), 422, "invalid-request")
    for odd in ('{"strike": NaN}', "[]", "null", '"x"'):
        refused(api.post("/api/option/create", content=odd, headers=headers), 422, "invalid-request")


def test_unknown_paths_and_methods_are_problems_too(api):
    refused(api.get("/api/v1/nothing"), 404, "not-found")
    refused(api.delete("/api/market"), 405, "method-not-allowed")
    refused(api.get("/api/v1/options/unknown"), 404, "not-found")


def test_pages_follow_each_other_without_gap_or_repetition(api, world, trader):
    made = []
    for i in range(7):
        world.now += i % 2
        headers = trader | {"Idempotency-Key": f"k{i}"}
        made.append(api.post("/api/v1/options", json=ORDER, headers=headers).json()["option_id"])
    seen, cursor = [], None
    while True:
        page = api.get("/api/v1/options", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)
    assert len(seen) == 7
    assert api.get("/api/v1/options", params={"type": "put"}).json()["items"] == []
    assert len(api.get("/api/v1/options", params={"expiry_to": EXPIRY, "state": "CREATED"}).json()["items"]) == 7


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 10**9}, {"cursor": "zzz"}, {"cursor": ""}, {"colour": "x"}])
def test_an_enormous_page_and_a_made_up_cursor_are_refused(api, asked):
    assert api.get("/api/v1/options", params=asked).status_code == 422


def test_price_history_is_newest_first_and_bounded(api):
    page = api.get("/api/v1/prices", params={"limit": 50}).json()
    slots = [one["slot_unix"] for one in page["items"]]
    assert slots == sorted(slots, reverse=True)
    rest = api.get("/api/v1/prices", params={"limit": 500, "cursor": page["next_cursor"]}).json()
    assert len(rest["items"]) == 70
    assert rest["next_cursor"] is None
    some = api.get("/api/v1/prices", params={"start": slots[9], "end": slots[4]}).json()["items"]
    assert [one["slot_unix"] for one in some] == slots[5:10]
    assert api.get("/api/v1/prices/latest").json()["slot_unix"] == slots[0]


def test_what_nodes_signed_of_a_minute_is_served_as_it_was_signed_and_of_no_other_time(world, api, tmp_path):
    slot = NOW // 60 * 60 - 600
    registry = nodes(tmp_path)
    (venue, *_) = DOLLARS
    signed = sign(quote(venue, 7_000_000, slot=slot), read_node_key(tmp_path, venue), feed=FEED)
    message = write_submission(signed).SerializeToString()
    stored = Stored(slot=slot, node_id=signed.submission.node_id, message=message, received_at=NOW)
    with world.store.transaction() as session:
        add_submissions(session, FEED, [stored])
    said = api.get(f"/api/v1/rounds/{slot}/submissions").json()
    assert said["state"] == "closed"
    (one,) = said["submissions"]
    assert decode_signed(one) == signed
    assert signature_valid(decode_signed(one), registry.nodes[one["node_id"]].public_key)
    page = api.get("/api/v1/rounds/submissions", params={"start": slot, "minutes": 2}).json()
    assert said in page["minutes"]
    for wrong in (f"/api/v1/rounds/{slot + 1}/submissions", "/api/v1/rounds/9223372036854775807/submissions",
                  "/api/v1/rounds/submissions?minutes=61", f"/api/v1/rounds/submissions?start={slot + 1}"):  # fmt: skip
        assert api.get(wrong).status_code == 422
    assert api.get(f"/api/v1/rounds/{slot - 60 * 10_000}/submissions").json()["state"] == "never_asked"
    assert api.get(f"/api/v1/rounds/{slot + 60 * 10_000}/submissions").json()["state"] == "unknown"


def test_the_newest_price_says_whether_it_may_be_used_and_until_when(api, world):
    latest = api.get("/api/v1/prices/latest").json()
    assert latest["market_status"] == "trading"
    assert latest["expires_at_unix"] == latest["slot_unix"] + 180
    world.now = latest["expires_at_unix"]
    assert api.get("/api/v1/prices/latest").json()["market_status"] == "stale"


def test_a_price_that_one_market_could_have_bent_is_thin_and_a_paused_feed_is_halted(api, world):
    with world.store.transaction() as session:
        newest = prices_views.newest_priced(session, FEED)
        newest.report = json.dumps(
            {"kind": "price", "used": [{}, {}], "dollar_markets": 2, "reach": 500_00, "confidence": 12_00,
             "thin": ["few_dollar_markets", "one_can_move_it"]}
        )  # fmt: skip
    thin = api.get("/api/v1/prices/latest").json()
    assert thin["market_status"] == "thin"
    assert thin["thin"] == ["few_dollar_markets", "one_can_move_it"]
    assert (thin["publishers"], thin["dollar_markets"], thin["reach_cents"]) == (2, 2, 500_00)
    with world.store.transaction() as session:
        pauses.pause(session, FEED, by="a test", now=world.now)
    assert api.get("/api/v1/prices/latest").json()["market_status"] == "halted"


def test_a_recording_that_is_over_is_unhealthy_however_new_its_last_minute_is_by_its_own_clock(world):
    with world.store.reading() as session:
        closed = max(session.exec(select(RoundRow.closed_at_unix)).all())
    with TestClient(create_app(replace(world.deps, replay_clock=True))) as replayed:
        world.now = closed + 300
        fine = replayed.get("/api/v1/health")
        assert (fine.status_code, fine.json()["market"]) == (200, "simulated")
        world.now = closed + 301
        degraded = replayed.get("/api/v1/health")
    assert (degraded.status_code, degraded.json()["last_price_age_seconds"]) == (503, 301)


def test_an_old_price_is_no_price_to_trade_on_but_health_still_answers(api, world, trader):
    assert api.get("/api/v1/health").json() == {
        "status": "ok", "database": "ok", "last_price_age_seconds": NOW - (NOW // 60 * 60 - 60), "market": "live",
    }  # fmt: skip
    world.now += 400
    world.seconds += 2
    refused(api.get("/api/market"), 503, "no-price")
    refused(api.post("/api/option/create", json=ORDER, headers=trader), 503, "unfit-price")
    refused(api.get("/api/premium", params=ASKED), 503, "unfit-price")
    degraded = api.get("/api/v1/health")
    assert degraded.status_code == 503
    assert degraded.json()["status"] == "degraded"


def test_a_settlement_is_asked_for_by_one_row_however_often(api, world, trader, operator):
    option = api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"]
    for _ in range(2):
        got = api.post(f"/api/v1/options/{option}/settle", headers=operator)
        assert got.status_code == 202
        assert got.json()["state"] == "open"
    assert set(world.submitted) == {("settlement_request", option)}
    with world.store.reading() as session:
        (row,) = session.exec(select(SettlementRequestRow)).all()
        flows = {(one.flow, one.arguments) for one in session.exec(select(OutboxRow)).all()}
    assert row.requested_by.startswith("api ")
    assert flows - {("exchange", "[]")} == {("answer_request", json.dumps([option]))}
    refused(api.post("/api/v1/options/unknown/settle", headers=operator), 404, "not-found")


def test_a_proof_is_downloaded_byte_for_byte_and_verified(api, world, trader):
    option = api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"]
    settlement = world.settle(option, 8_000_000)
    got = api.get(f"/api/v1/settlements/{settlement}").json()
    assert got["option_id"] == option
    assert (got["payout_sats"], got["paid_sats"]) == (1_000, 900)
    parts = [got[f"{name}_sats"] for name in ("paid", "returned", "anchor", "fee")]
    assert (sum(parts), parts[2:]) == (api.get(f"/api/v1/options/{option}").json()["collateral_sats"], [240, 60])
    assert got["child_fee_sats"] is None
    (listed,) = api.get("/api/v1/settlements", params={"option_id": option}).json()["items"]
    assert listed == got
    events = api.get(f"/api/v1/settlements/{settlement}/events").json()
    assert {(one["payout_sats"], one["paid_sats"]) for one in events} == {(1_000, 900)}
    states = [one["to_state"] for one in events]
    assert states[0] == "due"
    assert states[-1] == "confirmed"
    proof = api.get(f"/api/v1/settlements/{settlement}/proof")
    assert proof.headers["content-type"] == "application/json"
    headers = {"Content-Type": "application/json"}
    for depth in ("execute", "sample", "paths"):
        held = api.post("/api/v1/proofs/verify", params={"depth": depth}, content=proof.content, headers=headers).json()
        assert held["valid"] is (True if depth == "execute" else None), held
        assert (held["no_verdict"] is None) == (held["output_hex"] is not None) == (depth == "execute")
        assert held["proof_root"] == got["proof_root"]
    broken = proof.content.replace(got["proof_root"].encode(), b"00" * 32)
    failed = api.post("/api/v1/proofs/verify", content=broken, headers=headers).json()
    assert not failed["valid"]
    assert "Root" in failed["failed_check"]
    nothing = api.post("/api/v1/proofs/verify", content=b"{}", headers=headers).json()
    assert not nothing["valid"]


def test_a_settlement_without_a_proof_says_so(api, world):
    refused(api.get("/api/v1/settlements/none/proof"), 404, "not-found")


def test_an_operator_cancels_a_sale_that_is_not_funded_and_no_other(api, world, trader, operator):
    sold = api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"]
    refused(api.post(f"/api/v1/options/{sold}/cancel", headers=trader), 403, "role-missing")
    for _ in range(2):
        assert api.post(f"/api/v1/options/{sold}/cancel", headers=operator).json()["state"] == "CANCELLED"
    other = api.post("/api/v1/options", json=ORDER | {"strike": 71000}, headers=trader).json()["option_id"]
    world.fund(other)
    refused(api.post(f"/api/v1/options/{other}/cancel", headers=operator), 409, "not-cancellable")
    refused(api.post("/api/v1/options/none/cancel", headers=operator), 404, "not-found")


def test_the_risk_of_the_book_is_that_of_its_writer_and_counts_nothing_that_is_not_funded(api, world, trader, operator):
    empty = api.get("/api/v1/risk", headers=operator).json()
    assert empty["options"] == 0
    assert empty["utilisation"] == 0
    sold = api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"]
    assert api.get("/api/v1/risk", headers=operator).json() == empty
    world.fund(sold)
    got = api.get("/api/v1/risk", headers=operator).json()
    assert got["options"] == 1
    assert got["value_cents"] < 0
    assert got["delta_btc"] < 0
    assert got["collateral_cents"] == 3_500_000
    assert 0 < got["utilisation"] < 1


def test_the_fee_market_shows_the_next_blocks_where_a_node_answers_and_says_why_where_none_does(world, operator):
    silent = NodeUnreachableError("http://127.0.0.1:1", "it does not answer")

    def ask(pool):
        with TestClient(create_app(replace(world.deps, pool=pool))) as api:
            return api.get("/api/v1/fees", headers=operator).json()

    def dead():
        raise silent

    market = FeeMarket(
        tip=Height(9), size=PoolSize(transactions=3, vsize=900, relay_fee=SatsPerKvb(1_000)),
        estimates={2: SatsPerKvb(5_000), 6: None},
        blocks=next_blocks([InPool(vsize=300, rate=SatsPerKvb(rate)) for rate in (3_000, 9_000, 5_000)], space=600),
    )  # fmt: skip
    seen = ask(lambda: market)
    assert [(one["number"], one["transactions"], one["full"]) for one in seen["next_blocks"]] == [
        (1, 2, True), (2, 1, False),
    ]  # fmt: skip
    assert seen["next_blocks"][0]["lowest_sats_per_kvb"] == 5_000
    assert (seen["pool_vbytes"], seen["relay_sats_per_kvb"], seen["pool_problem"]) == (900, 1_000, None)
    assert seen["estimates"] == [{"blocks": 2, "sats_per_kvb": 5_000}, {"blocks": 6, "sats_per_kvb": None}]
    crowded = replace(market, size=PoolSize(transactions=MOST_READ + 1, vsize=1, relay_fee=SatsPerKvb(0)), blocks=())
    assert "not read" in ask(lambda: crowded)["pool_problem"]
    without = ask(dead)
    assert (without["next_blocks"], without["pool_problem"]) == ([], str(silent))
    assert ask(None)["pool_problem"] == "no node is set: NODE_URL"


def test_new_prices_are_streamed_and_a_stream_resumes_after_its_last_event(api, world):
    events = _events(api, "/api/v1/prices/stream", 1)
    assert events[0]["event"] == "price"
    slot = int(events[0]["id"])
    world.price(slot + 60, 7_100_000)
    more = _events(api, "/api/v1/prices/stream", 1, {"Last-Event-ID": str(slot)})
    assert json.loads(more[0]["data"])["price_cents"] == 7_100_000


def test_settlement_progress_is_streamed(api, world, trader):
    option = api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"]
    world.settle(option, 8_000_000)
    events = _events(api, "/api/v1/settlements/stream", 7, {"Last-Event-ID": "0"})
    last = json.loads(events[-1]["data"])
    assert (last["to_state"], last["payout_sats"], last["paid_sats"]) == ("confirmed", 1_000, 900)


def test_an_options_premium_is_stored_and_streamed(api, world, trader):
    option = api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"]
    refused(api.get(f"/api/v1/options/{option}/premium"), 404, "not-found")
    world.settle(option, 8_000_000)
    stored = api.get(f"/api/v1/options/{option}/premium").json()
    assert stored["delta"] == 0.5
    (event,) = _events(api, f"/api/v1/options/{option}/premium/stream", 1)
    assert json.loads(event["data"]) == stored
    refused(api.get("/api/v1/options/unknown/premium/stream?limit=1"), 404, "not-found")


def test_streams_are_limited(tmp_path):
    world = make_world(tmp_path, limits=Limits(streams=0))
    with TestClient(create_app(world.deps)) as api:
        refused(api.get("/api/v1/prices/stream?limit=1"), 503, "too-many-streams")
    world.store.close()


def test_cors_is_off_unless_an_origin_is_named(tmp_path, api):
    asked = {"Origin": "https://desk.example", "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in api.get("/api/market", headers=asked).headers
    (tmp_path / "cors").mkdir()
    world = make_world(tmp_path / "cors", cors_origins=("https://desk.example",))
    with TestClient(create_app(world.deps)) as open_api:
        got = open_api.get("/api/market", headers=asked).headers
    assert got["access-control-allow-origin"] == "https://desk.example"
    world.store.close()


def test_an_unforeseen_failure_tells_nothing_about_itself(tmp_path):
    def broken(_order):
        message = "the password is hunter2"
        raise RuntimeError(message)

    world = make_world(tmp_path, create_option=broken)
    with TestClient(create_app(world.deps), raise_server_exceptions=False) as api:
        got = api.post("/api/option/create", json=ORDER, headers={"Authorization": f"Bearer {world.key('trade')}"})
    refused(got, 500, "internal")
    assert "hunter2" not in got.text
    world.store.close()


def test_a_market_without_history_uses_the_presets_volatility(tmp_path):
    world = make_world(tmp_path, minutes=5, fallback_volatility=0.55)
    with TestClient(create_app(world.deps)) as api:
        got = api.get("/api/market").json()
        assert (got["volatility_30d"], got["samples"]) == (0.55, 0)
        assert api.get("/api/premium", params=ASKED).json()["volatility"] == 0.55
    world.store.close()


def _events(api, path, count, headers=None):
    with api.stream("GET", path, params={"limit": count}, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(response.iter_text()).split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if block.startswith("id: ")]
    assert len(events) == count
    assert math.isfinite(float(events[0]["id"]))
    return events


def test_in_a_replay_the_markets_time_is_that_of_the_newest_minute(tmp_path):
    world = make_world(tmp_path, replay_clock=True)
    slot = NOW // 60 * 60 - 60
    world.now += 400 * 86_400  # the recording is a year old, and played today
    with world.store.transaction() as session:
        session.exec(update(RoundRow).values(closed_at_unix=world.now))
    with TestClient(create_app(world.deps)) as api:
        assert api.get("/api/v1/market").json()["slot_unix"] == slot
        soon = {"strike": 70000, "expiry": str(slot + 120), "type": "call"}
        assert api.get("/api/v1/premium", params=soon).json()["priced_at_unix"] == slot + 60
        over = api.get("/api/v1/premium", params=soon | {"expiry": str(slot + 60)})
        refused(over, 422, "invalid-terms")
        assert api.get("/api/v1/health").json()["status"] == "ok"
        world.now += 120  # the recording is over
        world.seconds += 2
        refused(api.get("/api/v1/premium", params=soon), 503, "unfit-price")
        assert api.get("/api/v1/prices/latest").json()["market_status"] == "stale"
        assert api.get("/api/v1/market").json()["market_status"] == "stale"
        world.now += 300
        world.seconds += 2
        assert api.get("/api/v1/health").json()["status"] == "degraded"  # nobody has agreed on a price for minutes
    world.store.close()


def refresh(world):
    with world.store.transaction() as session:
        return refresh_premiums(session, FEED, now=world.now, rate_bps=300, fallback_volatility_bps=6_000)


def test_every_stored_premium_is_streamed_and_a_stream_resumes_within_a_refresh(api, world, trader):
    ids = sorted(api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"] for _ in range(3))
    assert refresh(world) == 3

    def seen(last, count):
        got = api.get("/api/v1/premiums/stream", params={"limit": count}, headers=last).text
        return [line.removeprefix("id: ") for line in got.splitlines() if line.startswith("id: ")]

    first = seen({}, 2)
    assert [one.partition("-")[2] for one in first] == ids[:2]
    assert [one.partition("-")[2] for one in seen({"Last-Event-ID": first[-1]}, 1)] == ids[2:]
    world.now += 30
    refresh(world)
    again = seen({"Last-Event-ID": f"{world.now - 30}-{ids[2]}"}, 3)
    assert again == [f"{world.now}-{one}" for one in ids]


def test_a_quote_is_what_the_refresh_stores_for_the_same_terms(api, world, trader):
    option = api.post("/api/v1/options", json=ORDER, headers=trader).json()["option_id"]
    refresh(world)
    quoted = api.get("/api/premium", params=ASKED).json()["total_cents"]
    assert api.get(f"/api/v1/options/{option}/premium").json()["premium_cents"] == quoted


def test_a_sale_just_after_a_new_minute_charges_what_was_quoted_a_moment_before(api, world, trader):
    for minutes in range(3):
        quoted = api.get("/api/premium", params=ASKED).json()
        made = api.post("/api/v1/options", json=ORDER, headers=trader).json()
        assert (made["premium_cents"], made["premium_sats"]) == (quoted["total_cents"], quoted["total_sats"])
        option = api.get(f"/api/v1/options/{made['option_id']}").json()
        assert option["premium_cents"] == quoted["total_cents"]
        with world.store.reading() as session:
            sold = session.get_one(OptionRow, made["option_id"])
        assert sold.volatility_bps == round(quoted["volatility"] * 10_000) == round(10_000 * _volatility(api))
        # a jump: the volatility is another one at once, at the quote as at the sale
        world.price(NOW // 60 * 60 + 60 * minutes, SPOT + 100_000 * (minutes + 1))
        world.now += 60
        world.seconds += 2


def _volatility(api):
    return api.get("/api/v1/market").json()["volatility_30d"]


def test_a_premium_is_what_a_sale_of_its_quantity_asks_and_says_until_when(api, world):
    got = api.get("/api/premium", params=ASKED).json()
    assert got["total_cents"] == math.ceil(round(got["premium_btc"] * got["spot_cents"] * 0.5, 6))
    assert got["total_sats"] == math.ceil(got["total_cents"] * 10**8 / got["spot_cents"])
    assert (got["quoted_at_unix"], got["valid_until_unix"]) == (world.now, world.now + 30)
    whole = api.get("/api/premium", params={k: v for k, v in ASKED.items() if k != "quantity"}).json()
    assert whole["collateral_sats"] == 2 * got["collateral_sats"] == 10**8


def test_a_client_of_an_earlier_release_buys_at_the_premium_of_the_moment(api, world, trader):
    quoted = api.get("/api/premium", params=ASKED).json()["total_cents"]
    world.price(NOW // 60 * 60, SPOT + 200_000)
    world.now += 60
    made = api.post("/api/option/create", json=ORDER, headers=trader)
    assert made.status_code == 200
    assert made.json()["premium_cents"] > quoted


def test_a_barrier_that_was_touched_once_leaves_a_premium_of_nothing(api, world, trader):
    high = ORDER | {"barrier": 71000, "strike": 65000}
    option = api.post("/api/v1/options", json=high, headers=trader).json()["option_id"]
    refresh(world)
    assert api.get(f"/api/v1/options/{option}/premium").json()["premium_cents"] > 0
    for minute, cents in enumerate((7_100_000, SPOT)):  # up to the barrier and back again
        world.price(world.now // 60 * 60 + 60 * minute, cents)
    with world.store.transaction() as session:
        row = session.exec(select(OptionRow)).one()
        row.listed_slot = NOW // 60 * 60 - 60
        session.add(row)
    refresh(world)
    left = api.get(f"/api/v1/options/{option}/premium").json()
    assert left["premium_cents"] == 0
    assert left["delta"] == 0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"strike": "nan"}, "number, above 0, to 42949672.95: USD per BTC, at most two decimals"),
        ({"type": "straddle"}, "one of call, put, binary_call, binary_put"),
        ({"barrier": "-1"}, "number, above 0, to 42949672.95: Knock-out level"),
    ],
)
def test_a_refusal_says_which_values_the_document_allows(api, asked, expected):
    query = {"strike": 70000, "expiry": "2027-01-01T08:00:00Z", "type": "call"} | asked
    body = refused(api.get("/api/premium", params=query), 422, "invalid-request")
    assert body["expected"].startswith(expected)
    assert body["errors"][0]["expected"] == body["expected"]


def test_a_refused_page_and_a_refused_body_say_their_range_too(api, trader):
    body = refused(api.get("/api/v1/options", params={"limit": 10**9}), 422, "invalid-request")
    assert body["expected"] == "integer, from 1, to 500: Rows of the page"
    body = refused(api.post("/api/v1/options", json=ORDER | {"quantity": -1}, headers=trader), 422, "invalid-request")
    assert body["expected"] == "number, above 0, to 21000000: BTC, in hundredths"


def test_an_open_stream_ends_when_the_server_stops(world):
    app = create_app(world.deps)
    with TestClient(app) as api, ThreadPoolExecutor(1) as pool:
        stream = pool.submit(api.get, "/api/v1/settlements/stream")
        time.sleep(0.3)
        assert not stream.done()
        app.state.closing.set()
        assert stream.result(5).status_code == 200
