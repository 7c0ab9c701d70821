"""What one caller may cost the API, on a real server and its sockets: connection, gate, body, work, in that order."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import event

from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.auth import revoke_key
from btcfi.surfaces.rest.connections import ConnectionLimits, guarded
from btcfi.surfaces.rest.deps import Limits
from tests.support.rest_world import make_world

MARKET = b"GET /api/market HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def served(deps, *, connections=None, proxies=()):
    """Serve the API as ``btcfi serve`` does, and give its port."""
    http = guarded(connections or ConnectionLimits(), proxies=map(ipaddress.ip_network, proxies))
    config = uvicorn.Config(
        create_app(deps), log_config=None, log_level="critical", timeout_graceful_shutdown=1, http=http, ws="none",
        proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
    )  # fmt: skip
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


@contextmanager
def connected(port, *, address="127.0.0.1"):
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0)) as line:
        yield line


def heard(line, size=1 << 20):
    """Return all that comes until the other side closes."""
    said = b""
    with suppress(ConnectionResetError):
        while part := line.recv(size):
            said += part
    return said


def answer(line):
    """Return one answer with a body of known length, as it came."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += line.recv(1)
    length = int(said.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while length:
        part = line.recv(length)
        said, length = said + part, length - len(part)
    return said


def said_of(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body or b"null")


def post(path, *, length, key="", more=""):
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{auth}{more}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


@pytest.fixture
def world(tmp_path):
    made = make_world(
        tmp_path, limits=Limits(body_seconds=0.2, anonymous_requests_per_minute=30, room_bytes_per_caller=1000)
    )
    yield made
    made.store.close()


def test_a_body_that_stops_and_a_head_that_never_ends_hold_no_connection(world):
    with served(world.deps, connections=ConnectionLimits(head_seconds=0.5)) as port:
        with connected(port) as line:
            line.sendall(post("/api/v1/proofs/verify", length=100) + b'{"half')
            status, problem = said_of(heard(line))
            assert (status, problem["type"]) == (408, "urn:btcfi:error:slow-body")
        with connected(port) as silent, connected(port) as line:
            line.sendall(MARKET)
            assert answer(line).startswith(b"HTTP/1.1 200")
            line.sendall(b"GET /api/market HTTP/1.1\r\nX-Slow: ")
            assert heard(line).startswith(b"HTTP/1.1 408")
            assert heard(silent).startswith(b"HTTP/1.1 408")


def test_an_address_has_so_many_connections_and_another_still_comes_in(world):
    few = ConnectionLimits(each=2, most=5)
    with served(world.deps, connections=few) as port, connected(port), connected(port):
        with connected(port) as third:
            assert heard(third).startswith(b"HTTP/1.1 503")
        with connected(port, address="127.0.0.2") as other:
            other.sendall(MARKET)
            assert answer(other).startswith(b"HTTP/1.1 200")


def test_a_trusted_proxy_brings_many_connections_but_not_more_than_there_are(world):
    few = ConnectionLimits(each=1, most=3)
    with (
        served(world.deps, connections=few, proxies=("127.0.0.1",)) as port,
        connected(port), connected(port), connected(port) as third,
    ):  # fmt: skip
        third.sendall(MARKET)
        assert answer(third).startswith(b"HTTP/1.1 200")
        with connected(port, address="127.0.0.2") as other:
            assert heard(other).startswith(b"HTTP/1.1 503")


def test_an_answer_that_nobody_takes_is_cut(world):
    asked = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(world.deps, connections=ConnectionLimits(stall_seconds=0.2)) as port:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(20)
        with line:
            line.connect(("127.0.0.1", port))
            line.sendall(asked * 200)
            threading.Event().wait(1)
            assert heard(line).count(b"HTTP/1.1 200") < 200


def test_a_length_said_in_two_ways_is_refused_and_what_follows_is_no_request(world):
    smuggled = b"0\r\n\r\n" + MARKET
    with served(world.deps) as port, connected(port) as line:
        line.sendall(
            post("/api/v1/proofs/verify", length=len(smuggled), more="Transfer-Encoding: chunked\r\n") + smuggled
        )
        said = heard(line)
    assert said.count(b"HTTP/1.1 ") == 1
    assert said_of(said)[1]["type"] == "urn:btcfi:error:ambiguous-length"


def test_who_may_not_come_in_hears_it_before_the_body_is_asked_for(world):
    waiting = "Expect: 100-continue\r\n"
    with served(world.deps) as port:
        for key, status in (("", 401), (world.key("read"), 403), (f"btcfi_{'0' * 16}_{'0' * 64}", 401)):
            with connected(port) as line:
                line.sendall(post("/api/v1/options", length=60_000, key=key, more=waiting))
                assert said_of(heard(line))[0] == status


def test_a_refusal_reaches_a_caller_that_is_still_sending(world):
    with served(world.deps) as port, connected(port) as line:
        line.sendall(post("/api/v1/options", length=40_000))
        line.sendall(b" " * 40_000)
        assert said_of(answer(line))[0] == 401
        line.sendall(MARKET)
        assert said_of(answer(line))[0] == 200


def test_bodies_of_one_caller_that_are_still_coming_leave_room_for_anothers(world):
    with served(world.deps) as port, connected(port) as first, connected(port) as second:
        first.sendall(post("/api/v1/proofs/verify", length=900) + b" " * 800)
        threading.Event().wait(0.05)
        second.sendall(post("/api/v1/proofs/verify", length=900))
        assert said_of(heard(second))[1]["type"] == "urn:btcfi:error:no-room"
        with connected(port, address="127.0.0.2") as other:
            other.sendall(post("/api/v1/proofs/verify", length=2) + b"{}")
            assert said_of(answer(other))[1]["valid"] is False


def test_behind_a_trusted_proxy_each_visitor_has_limits_of_its_own_and_nobody_else_may_claim_one(world):
    def ask(port, visitor, *, address="127.0.0.1"):
        with connected(port, address=address) as line:
            line.sendall(MARKET[:-2] + f"X-Forwarded-For: {visitor}\r\n\r\n".encode())
            return said_of(answer(line))[0]

    with served(world.deps, proxies=("127.0.0.1",)) as port:
        assert [ask(port, "198.51.100.1") for _ in range(4)] == [200, 200, 200, 429]
        assert ask(port, "198.51.100.2") == 200
        # who is in front of the proxy may write what it likes: the proxy's own word stands last
        assert ask(port, "203.0.113.9, 198.51.100.1") == 429
        claimed = [ask(port, f"203.0.113.{n}", address="127.0.0.2") for n in range(4)]
        assert claimed == [200, 200, 200, 429]


def test_many_guesses_of_a_key_at_once_are_no_more_than_one_by_one(world):
    asked = []
    event.listen(
        world.store.engine, "before_cursor_execute",
        lambda _c, _cur, sql, *_: asked.append(sql) if "FROM api_key" in sql else None,
    )  # fmt: skip
    app = create_app(world.deps)

    async def guess():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            keys = [{"Authorization": f"Bearer btcfi_{n:016x}_{'0' * 64}"} for n in range(30)]
            return [a.status_code for a in await asyncio.gather(*(client.get("/api/market", headers=k) for k in keys))]

    codes = asyncio.run(guess())
    assert (codes.count(401), codes.count(429)) == (3, 27)
    assert len(asked) == 3


def test_a_good_key_costs_its_address_no_guess_and_works_beside_a_guesser(world):
    good = {"Authorization": f"Bearer {world.key('read')}"}
    with TestClient(create_app(world.deps)) as api:
        for _ in range(10):
            assert api.get("/api/market", headers=good).status_code == 200
        for n in range(5):
            api.get("/api/market", headers={"Authorization": f"Bearer btcfi_{n:016x}_{'0' * 64}"})
        assert api.get("/api/market", headers=good).status_code == 200


def test_a_stream_ends_with_its_key_and_after_its_time(world):
    key = world.key("read")
    app = create_app(world.deps)
    with TestClient(app) as api, ThreadPoolExecutor(2) as pool:
        keyed = pool.submit(api.get, "/api/v1/settlements/stream", headers={"Authorization": f"Bearer {key}"})
        stranger = pool.submit(api.get, "/api/v1/settlements/stream")
        threading.Event().wait(0.2)
        assert not keyed.done()
        revoke_key(world.store, key.split("_")[1], now=world.now)
        world.seconds += 6  # no key is believed longer
        assert keyed.result(5).text == ": connected\n\n"
        assert not stranger.done()
        world.seconds += 86_400
        assert stranger.result(5).text.endswith(": resume\n\n")


def test_a_caller_has_so_many_streams_and_another_still_gets_one(tmp_path):
    world = make_world(tmp_path, limits=Limits(streams=2, streams_per_caller=1))
    app = create_app(world.deps)
    keys = [{"Authorization": f"Bearer {world.key('read', seed=bytes([n]))}"} for n in range(3)]
    with TestClient(app) as api, ThreadPoolExecutor(2) as pool:
        first = pool.submit(api.get, "/api/v1/settlements/stream", headers=keys[0])
        threading.Event().wait(0.2)
        refused = api.get("/api/v1/prices/stream?limit=1", headers=keys[0])
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:btcfi:error:too-many-streams")
        assert api.get("/api/v1/prices/stream?limit=1", headers=keys[1]).status_code == 200
        second = pool.submit(api.get, "/api/v1/settlements/stream", headers=keys[1])
        threading.Event().wait(0.2)
        assert "all 2 streams are taken" in api.get("/api/v1/prices/stream?limit=1", headers=keys[2]).json()["detail"]
        app.state.closing.set()
        assert first.result(5).status_code == second.result(5).status_code == 200
    with TestClient(create_app(world.deps)) as api:
        assert api.get("/api/v1/prices/stream?limit=1", headers=keys[0]).status_code == 200
    world.store.close()


def test_another_name_than_the_served_ones_is_told_nothing(tmp_path):
    world = make_world(tmp_path, hosts=("127.0.0.1", "localhost", "::1", "api.example"))
    with TestClient(create_app(world.deps)) as api:
        for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "API.example:443"):
            assert api.get("/api/v1/health", headers={"Host": host}).status_code == 200
        for host in ("rebound.example", "localhost.rebound.example", "", "[::1", "evil.example:8000:80"):
            refused = api.get("/api/docs", headers={"Host": host})
            assert (refused.status_code, refused.json()["type"]) == (421, "urn:btcfi:error:wrong-host")
    world.store.close()
