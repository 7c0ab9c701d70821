"""What a visitor without a key can't do to others: hang up in line, write odd paths, take all the room."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.deps import Limits
from tests.integration.surfaces.rest.test_rest_limits import connected, heard, post, said_of, served
from tests.support.rest_world import make_world

GET = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
    "scheme": "http", "query_string": b"", "root_path": "", "headers": [(b"host", b"localhost")],
    "client": ("192.0.2.1", 1), "server": ("localhost", 80),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/api/v1/rounds/submissions", "/api/v1/health"])
def test_who_has_hung_up_while_in_line_is_no_failure_and_no_work(tmp_path, path):
    """Each was a failure inside, whose traceback with all its values was drawn in the event loop."""
    world, asked, said = make_world(tmp_path), [], []
    event.listen(world.store.engine, "before_cursor_execute", lambda *_: asked.append(1))

    async def hung_up():
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            said.append(message)

        await create_app(world.deps)({**GET, "path": path, "raw_path": path.encode()}, receive, send)

    asyncio.run(hung_up())
    assert (asked, said) == ([], [])
    world.store.close()


def test_a_failure_is_written_down_once_by_whoever_serves_with_the_request_s_id(tmp_path, caplog):
    world = make_world(tmp_path)
    app = create_app(world.deps)

    @app.get("/api/broken")
    def broken() -> None:
        raise AttributeError

    client = TestClient(app, base_url="http://localhost")
    with caplog.at_level(logging.WARNING), pytest.raises(AttributeError) as caught:
        client.get("/api/broken", headers={"X-Request-Id": "lost-2"})
    assert "'/api/broken' failed inside, request id lost-2" in caught.value.__notes__[0]
    assert not [r for r in caplog.records if r.name.startswith("btcfi")]
    world.store.close()


def test_a_path_with_a_control_character_is_refused_and_its_body_is_not_read(tmp_path):
    """The router's ``$`` matches before a line feed at the end, admission's table did not know that path."""
    world = make_world(tmp_path, limits=Limits(body_bytes=1000))
    try:
        with served(world.deps) as port:
            for path in ("/api/v1/options%0A", "/api/v1/proofs/verify%0D%0A", "/api/v1/options/x/settle%00"):
                with connected(port) as line:
                    line.sendall(post(path, length=8 << 20) + b'"' + b"x" * 2000)
                    status, problem = said_of(heard(line))
                    assert (status, problem["type"]) == (400, "urn:btcfi:error:unprintable-path"), path
    finally:
        world.store.close()


def test_where_nothing_is_found_the_body_is_not_read_whatever_stands_behind(tmp_path):
    world = make_world(tmp_path)
    app, read = create_app(world.deps), []

    @app.post("/api/undocumented", include_in_schema=False)
    async def reading(request_body: dict) -> None:
        read.append(request_body)

    with TestClient(app, base_url="http://localhost") as client:
        assert client.post("/api/undocumented", json={"a": "b"}).status_code == 422
    assert not read
    world.store.close()


def test_bodies_of_four_addresses_leave_room_for_the_order_of_a_caller_with_a_key(tmp_path):
    limits = Limits(room_bytes=4000, room_bytes_per_caller=1000, body_seconds=30, proof_bytes=1000)
    world = make_world(tmp_path, limits=limits)
    order = b'{"strike":70000,"expiry":1790086440,"type":"call","quantity":0.05}'
    try:
        key = world.key("trade")
        with served(world.deps) as port, ExitStack() as lines:
            for n in range(3):
                line = lines.enter_context(connected(port, address=f"127.0.0.{n + 2}"))
                line.sendall(post("/api/v1/proofs/verify", length=1000) + b"1" * 999)
            with connected(port, address="127.0.0.5") as fourth:
                threading.Event().wait(0.3)
                fourth.sendall(post("/api/v1/proofs/verify", length=1000))
                status, problem = said_of(heard(fourth))
            with connected(port) as line:
                line.sendall(post("/api/v1/options", length=len(order), key=key, more="Connection: close\r\n") + order)
                assert said_of(heard(line))[0] == 201
            assert (status, problem["type"]) == (503, "urn:btcfi:error:no-room")
            assert "all callers" in problem["detail"]
    finally:
        world.store.close()
