"""The typed clients against a served API: both kinds, over a real socket."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
import time
from decimal import Decimal

import httpx
import pytest
import uvicorn

from btcfi.adapters.store.options.premiums import refresh_premiums
from btcfi.surfaces.client import ApiError, ApiUnreachableError, AsyncClient, Client
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.deps import Limits
from tests.support.rest_world import FEED, NOW, SPOT, make_world

pytestmark = pytest.mark.integration
EXPIRY = NOW // 60 * 60 + 30 * 86_400


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("client"))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(world.deps), log_config=None, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield world, f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    world.store.close()


def order(**changes):
    return {"type": "put", "strike": Decimal(65_000), "expiry_unix": EXPIRY, "quantity": Decimal("0.25")} | changes


def test_an_option_is_priced_created_settled_and_verified_through_the_client_alone(served):
    world, url = served
    with Client(url, key=world.key("trade", "operate", seed=b"all")) as btcfi:
        assert btcfi.health().status == "ok"
        assert btcfi.market().spot_cents == SPOT
        quote = btcfi.premium(type="put", strike=Decimal(65_000), expiry=str(EXPIRY))
        made = btcfi.create_option(**order())
        assert made.premium_cents == pytest.approx(quote.premium_cents * 0.25, rel=0.5)
        assert btcfi.option(made.option_id).strike_cents == 6_500_000
        assert made.option_id in {one.id for one in btcfi.options(type="put").items}
        assert btcfi.settle(made.option_id).state == "open"
        settlement = world.settle(made.option_id, 5_000_000)  # the pipeline's part
        seen = btcfi.settlements(option_id=made.option_id).items
        assert [one.id for one in seen] == [settlement]
        proof = btcfi.proof(settlement)
        held = btcfi.verify(proof)
        assert held.valid
        looked = btcfi.verify(proof, depth="sample")
        assert (looked.valid, looked.chance_to_miss, looked.steps_checked[0]) == (None, None, 0)
        assert held.proof_root == btcfi.settlement(settlement).proof_root
        assert btcfi.prices(limit=5).next_cursor is not None
        assert [one.price_cents for one in btcfi.stream_prices(limit=1)] == [SPOT]
        edges = list(btcfi.stream_settlements(after_event=0, limit=3))
        assert [one.to_state for one in edges] == ["due", "claimed", "executed"]
        with world.store.transaction() as session:
            refresh_premiums(session, FEED, now=world.now, rate_bps=300, fallback_volatility_bps=6_000)
        another = btcfi.create_option(**order())
        with world.store.transaction() as session:
            refresh_premiums(session, FEED, now=world.now, rate_bps=300, fallback_volatility_bps=6_000)
        stored = btcfi.stored_premium(another.option_id)
        assert stored in list(btcfi.stream_premiums(limit=1))
        world.fund(another.option_id)
        risk = btcfi.risk()
        assert risk.options == 1
        assert len(risk.profit_cents) == len(risk.volatility_moves)
        fees = btcfi.fees()
        assert (fees.pool_problem, fees.next_blocks) == ("no node is set: NODE_URL", ())


def test_the_asynchronous_client_answers_the_same(served):
    world, url = served

    async def ask():
        async with AsyncClient(url, key=world.key("trade", "operate", seed=b"async")) as btcfi:
            market, quote = await asyncio.gather(
                btcfi.market(), btcfi.premium(type="call", strike=Decimal(70_000), expiry=str(EXPIRY))
            )
            made = await btcfi.create_option(**order(), idempotency_key="again")
            same = await btcfi.create_option(**order(), idempotency_key="again")
            prices = [one async for one in btcfi.stream_prices(limit=1)]
            return market, quote, made, same, prices

    market, quote, made, same, prices = asyncio.run(ask())
    with Client(url) as btcfi:
        assert btcfi.market() == market
        assert btcfi.premium(type="call", strike=Decimal(70_000), expiry=str(EXPIRY)) == quote
        assert list(btcfi.stream_prices(limit=1)) == prices
    assert made == same


def test_a_refusal_is_an_error_with_the_problems_fields(served):
    world, url = served
    with Client(url, key=world.key("trade", seed=b"refused")) as btcfi:
        with pytest.raises(ApiError) as caught:
            btcfi.create_option(**order(expiry_unix=NOW // 60 * 60 - 60))
        assert caught.value.status == 422
        assert caught.value.field == "expiry"
        with pytest.raises(ApiError) as caught:
            btcfi.option("a/../b?c")
        assert caught.value.status == 404
        btcfi.create_option(**order(), idempotency_key="one")
        with pytest.raises(ApiError) as caught:
            btcfi.create_option(**order(quantity=Decimal(1)), idempotency_key="one")
        assert caught.value.status == 409
    with Client(url) as stranger, pytest.raises(ApiError) as caught:
        stranger.create_option(**order())
    assert caught.value.status == 401


def test_a_server_that_is_not_there_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{free}") as btcfi, pytest.raises(ApiUnreachableError) as caught:
        btcfi.market()
    assert str(free) in caught.value.where


def test_a_busy_server_is_asked_again_after_the_time_it_names():
    good = {"status": "ok", "database": "ok", "last_price_age_seconds": 1}
    answers = [httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(200, json=good)]
    with Client("http://127.0.0.1:1") as btcfi:
        btcfi._http = httpx.Client(base_url=btcfi.url, transport=httpx.MockTransport(lambda _request: answers.pop(0)))
        assert btcfi.health().last_price_age_seconds == 1
    assert not answers


def test_an_earlier_release_that_calls_a_proof_valid_without_running_it_is_not_repeated():
    said = {"valid": True, "proof_root": "00" * 32, "program": "p", "steps": 9, "output_hex": "00", "checks": ["paths"]}
    with Client("http://127.0.0.1:1") as btcfi:
        for depth, valid in (("execute", True), ("sample", None), ("paths", None)):
            answer = httpx.Response(200, json=said | {"depth": depth, "failed_check": None})
            transport = httpx.MockTransport(lambda _request, answer=answer: answer)
            btcfi._http = httpx.Client(base_url=btcfi.url, transport=transport)
            found = btcfi.verify(b"{}", depth=depth)
            assert (found.valid, found.output_hex) == (valid, "00" if valid else None)


def test_both_clients_have_the_same_methods_with_the_same_arguments_and_a_sentence_each():
    blocking, asynchronous = Client("http://127.0.0.1:1"), AsyncClient("http://127.0.0.1:1")
    shared = [name for name in dir(Client) if not name.startswith("_") and name not in {"ask", "follow", "close"}]
    assert len(shared) == 60
    for name in shared:
        one, other = getattr(blocking, name), getattr(asynchronous, name)
        assert str(inspect.signature(one)) == str(inspect.signature(other))
        assert one.__name__ == other.__name__ == name
        assert one.__doc__ == other.__doc__ == getattr(Client, name).__doc__
        assert one.__doc__.rstrip().endswith(".")
    blocking.close()
    asyncio.run(asynchronous.close())


def test_a_wrong_argument_is_refused_before_anything_is_sent():
    with Client("http://127.0.0.1:1") as btcfi:
        with pytest.raises(TypeError):
            btcfi.option()
        with pytest.raises(TypeError):
            btcfi.options(colour="red")


def test_a_stream_that_is_ended_for_its_age_goes_on_after_its_last_event(tmp_path):
    world = make_world(tmp_path, monotonic=time.monotonic, limits=Limits(stream_seconds=0.2))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(world.deps), log_config=None, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    opened = []
    with Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
        client._http.event_hooks["request"].append(lambda request: opened.append(request.headers.get("Last-Event-ID")))
        slots = []
        for price in client.stream_prices(limit=4):
            slots.append(price.slot_unix)
            world.price(price.slot_unix + 60, 7_000_000)
            time.sleep(0.3)
    assert slots == [slots[0] + 60 * n for n in range(4)]
    assert len(opened) > 1
    assert opened[-1] in {str(slot) for slot in slots}
    server.should_exit = True
    thread.join(10)
    world.store.close()
