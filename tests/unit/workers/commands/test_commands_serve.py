"""``btcfi serve``: where it listens, and what it does to the deployment's store."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlmodel import col, select

from btcfi.adapters.chain.node import PortInUseError
from btcfi.adapters.store.options.sales import Order, OrderMismatchError, sell
from btcfi.adapters.store.options.tables import OptionRow, SettlementRequestRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import EventRow, OutboxRow
from btcfi.errors import InvalidInputError
from btcfi.options.terms import InvalidTermsError, OptionKind
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.auth import create_key
from btcfi.surfaces.status import status_of
from settings.deployment import Deployment
from workers.commands.serve import LOOPBACK, Publisher, Site, hosts_of, listen, make_deps, server_config
from workers.deployed import sale_rule

SLOT = 1_767_571_200
"""A recording of the past: the market's time is its newest minute's."""


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(data_dir=tmp_path, replay_clock=True)


@pytest.fixture
def store(deployment):
    made = Store(deployment.database_url)
    made.migrate()
    with made.transaction() as session:
        session.add(
            RoundRow(
                feed="BTC/USD", slot=SLOT, state="priced", price_cents=5_700_000, low_cents=5_690_000,
                high_cents=5_710_000, deadline_unix=SLOT, opened_at_unix=SLOT, closed_at_unix=int(time.time()),
            )
        )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def woken():
    return []


@pytest.fixture
def api(deployment, store, woken):
    with TestClient(create_app(make_deps(deployment, store, lambda: woken.append(1)))) as client:
        key = create_key(
            store, name="t", roles=("trade", "operate"), entropy=bytes(range(40)), now=int(time.time()),
            expires_at=int(time.time()) + 600,
        )  # fmt: skip
        client.headers["Authorization"] = f"Bearer {key}"
        yield client


ORDER = {"type": "call", "strike": 55000, "expiry": SLOT + 3600, "quantity": 0.05}


def test_the_published_create_makes_the_option_of_the_command_line_and_queues_its_contract(api, store, woken):
    made = api.post("/api/option/create", json=ORDER).json()
    assert made["taproot_address"] is None
    with store.reading() as session:
        row = session.exec(select(OptionRow)).one()
        created = session.exec(select(EventRow).where(col(EventRow.entity) == "option")).one()
        assert session.exec(select(OutboxRow)).all()
    assert (row.id, row.premium_cents, row.premium_sats) == (
        made["option_id"], made["premium_cents"], made["premium_sats"],
    )  # fmt: skip
    assert row.created_at_unix == created.at_unix == SLOT + 60
    assert row.volatility_bps == 6_000  # the preset's, since one minute says nothing
    assert woken
    asked = {"strike": 55000, "expiry": str(SLOT + 3600), "type": "call", "quantity": "0.05"}
    quoted = api.get("/api/premium", params=asked).json()
    assert (made["premium_cents"], made["premium_sats"]) == (quoted["total_cents"], quoted["total_sats"])


def test_a_settlement_asked_for_is_the_row_that_the_command_line_writes(api, store):
    option = api.post("/api/option/create", json=ORDER).json()["option_id"]
    assert api.post(f"/api/v1/options/{option}/settle").status_code == 202
    with store.reading() as session:
        row = session.exec(select(SettlementRequestRow)).one()
        work = session.exec(select(OutboxRow).where(col(OutboxRow.flow) == "answer_request")).one()
    assert row.state == "open"
    assert json.loads(work.arguments) == [option]


def test_an_order_that_comes_again_is_the_same_option_and_with_other_terms_a_conflict(deployment, store):
    rule = sale_rule(deployment)
    order = {
        "option_id": "one", "kind": OptionKind.CALL, "strike": 5_500_000, "quantity": 5, "barrier": None,
        "american": False, "expiry": SLOT + 3600,
    }  # fmt: skip
    with store.transaction() as session:
        first = sell(session, Order(**order), rule, now=SLOT + 60)
    with store.transaction() as session:
        again = sell(session, Order(**order), rule, now=SLOT + 100_000)
        with pytest.raises(OrderMismatchError) as caught:
            sell(session, Order(**order | {"quantity": 6}), rule, now=SLOT + 60)
        with pytest.raises(InvalidTermsError):
            sell(session, Order(**order | {"option_id": "two", "expiry": SLOT}), rule, now=SLOT + 60)
    assert again.id == first.id
    assert caught.value.field == "quantity"
    assert status_of(caught.value).http == 409


def test_a_port_in_use_and_an_address_of_somebody_else_are_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUseError, match="BTCFI_API_PORT"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InvalidInputError, match="BTCFI_API_HOST"):
        listen("192.0.2.1", 0)
    with pytest.raises(InvalidInputError, match="BTCFI_API_HOST"):
        listen("no such host.invalid", 0)


def test_a_broker_that_is_away_costs_a_request_nothing_and_the_next_wake_tries_again():
    tries, done = [], threading.Event()

    def publish():
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        done.set()

    publisher = Publisher(publish)
    publisher.wake()
    while not tries:
        time.sleep(0.01)
    publisher.wake()
    assert done.wait(5)
    publisher.stop()


def test_without_a_broker_waking_is_harmless():
    publisher = Publisher(None)
    publisher.wake()
    publisher.stop()


def test_the_api_is_under_its_path_and_the_console_elsewhere(api):
    async def console(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"console"})

    with TestClient(Site(api=api.app, console=console)) as site:
        assert site.get("/").text == "console"
        assert site.post("/sign-in", data={"name": "x"}).text == "console"
        assert site.get("/apiary").text == "console"
        assert site.get("/api/market").json()["spot_cents"] == 5_700_000


def test_the_desk_is_under_its_path_and_nothing_else_is(api):
    def says(name):
        async def page(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": f"{name} {scope['root_path']}".encode()})

        return page

    with TestClient(Site(api=api.app, console=says("console"), desk=says("desk"))) as site:
        assert [site.get(path).text for path in ("/desk", "/desk/", "/desk/book/x")] == ["desk /desk"] * 3
        assert [site.get(path).text for path in ("/desktop", "/x/desk", "/Desk")] == ["console "] * 3
        assert site.get("/api/market").status_code == 200


@pytest.mark.parametrize(
    ("named", "local", "served"),
    [
        ((), True, LOOPBACK),
        (("api.example",), True, (*LOOPBACK, "api.example")),
        (("api.example",), False, (*LOOPBACK, "api.example")),
        ((), False, ()),
    ],
)
def test_the_served_names_are_the_loopbacks_and_those_that_are_set_and_any_only_beyond_it(named, local, served):
    assert hosts_of(Deployment(api_hosts=named), local=local) == served


@pytest.mark.parametrize(
    ("trusted", "peer", "said", "seen"),
    [
        ((), "127.0.0.1", "198.51.100.1", ("127.0.0.1", "http")),
        (("127.0.0.1",), "127.0.0.1", "198.51.100.1", ("198.51.100.1", "https")),
        (("127.0.0.1",), "192.0.2.9", "198.51.100.1", ("192.0.2.9", "http")),
        (("127.0.0.1", "10.0.0.0/24"), "127.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.7", ("198.51.100.1", "https")),
    ],
)
def test_where_a_visitor_comes_from_is_told_by_trusted_proxies_alone(trusted, peer, said, seen):
    found = []

    async def site(scope, _receive, send):
        found.append((scope["client"][0], scope["scheme"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = server_config(site, Deployment(trusted_proxies=trusted))
    config.load()

    async def ask():
        transport = httpx.ASGITransport(config.loaded_app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.get("/", headers={"X-Forwarded-For": said, "X-Forwarded-Proto": "https"})

    asyncio.run(ask())
    assert found == [seen]
