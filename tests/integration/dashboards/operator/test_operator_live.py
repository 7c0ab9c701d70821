"""Live pages, and pages while the database is away: what changes arrives, what is lost is said, and all recovers."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from pathlib import Path

import pytest

from btcfi.adapters.store.chain.tables import BlockRow
from dashboards.operator.app import create_console
from dashboards.shared import live
from tests.support.console_world import csrf_of


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Notice sooner that a reader has hung up."""
    monkeypatch.setattr(live, "REDRAW_SECONDS", 0.3)


class Stream:
    """One event stream of the application, read as it is written; ``async with`` hangs up at the end."""

    def __init__(self, world, client, path, app=None):
        self._app, self._path = app or world.app, path
        self._cookie = f"btcfi_session={client.cookies['btcfi_session']}"
        self.events = asyncio.Queue()
        self.status = None

    async def __aenter__(self):
        self._gone = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_):
        self._gone.set()
        await asyncio.wait_for(self._task, 10)

    async def _run(self):
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": self._path, "raw_path": self._path.encode(), "query_string": b"",
            "root_path": "", "headers": [(b"host", b"console.test"), (b"cookie", self._cookie.encode())],
            "client": ("testclient", 1), "server": ("console.test", 80),
        }  # fmt: skip
        asked = False

        async def receive():
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                self.status = message["status"]
                return
            for block in message.get("body", b"").decode().split("\n\n"):
                if found := re.match(r"event: (\w+)\ndata: (.*)", block, re.DOTALL):
                    await self.events.put((found[1], found[2].replace("\ndata: ", "\n")))

        await self._app(scope, receive, send)
        await self.events.put(("end", ""))

    async def until(self, name, text, seconds=5.0):
        """Return how long the event took to come."""
        begun = time.monotonic()
        async with asyncio.timeout(seconds):
            while True:
                found, data = await self.events.get()
                if found == name and text in data:
                    return time.monotonic() - begun


def test_what_happens_in_the_store_reaches_the_page(world):
    client = world.signed_in()
    world.sell("one")

    async def watch():
        async with Stream(world, client, "/live/now") as stream:
            await stream.until("pipeline", "Funding")
            await asyncio.to_thread(world.fund, "one")
            await stream.until("pipeline", 'class="count">1</span><span class="note">funded options')
            await stream.until("events", "funded")
        async with Stream(world, client, "/live/options/one") as stream:
            await stream.until("life", "active")
            await asyncio.to_thread(world.settle, "one")
            await stream.until("life", "proof file")
        async with Stream(world, client, "/live/settlements/st-one") as stream:
            await stream.until("progress", "6 <small>of 6")

            def mine():
                with world.store.transaction() as session:
                    session.add(BlockRow(height=101, hash="11" * 32))

            await asyncio.to_thread(mine)
            await stream.until("progress", "7 <small>of 6")
            await stream.until("graph", "7 deep")

    asyncio.run(watch())


def test_unknown_ids_have_no_stream_and_places_are_limited(world):
    limits = dataclasses.replace(world.deps.limits, streams=1)
    world.app = create_console(dataclasses.replace(world.deps, limits=limits))
    client = world.signed_in()
    assert client.get("/live/options/none").status_code == 404

    async def watch():
        async with Stream(world, client, "/live/now") as one:
            await one.until("pipeline", "Funding")
            async with Stream(world, client, "/live/now") as two:
                await two.until("end", "")
                assert two.status == 503
        async with Stream(world, client, "/live/now") as again:
            await again.until("pipeline", "Funding")

    asyncio.run(watch())


def test_an_account_has_so_many_streams_and_another_still_gets_one(world):
    limits = dataclasses.replace(world.deps.limits, streams=3, streams_per_visitor=1)
    world.app = create_console(dataclasses.replace(world.deps, limits=limits))
    ada, rita = world.signed_in("ada"), world.signed_in("rita")

    async def watch():
        async with Stream(world, ada, "/live/now") as one:
            await one.until("pipeline", "Funding")
            async with Stream(world, ada, "/live/now") as two:
                await two.until("end", "")
                assert two.status == 503
            async with Stream(world, rita, "/live/now") as other:
                await other.until("pipeline", "Funding")

    asyncio.run(watch())


def test_a_stream_ends_after_its_time_and_when_its_session_ends(world, monkeypatch):
    monkeypatch.setattr(live, "SESSION_CHECK_SECONDS", 0.2)
    client = world.signed_in()

    async def watch():
        async with Stream(world, client, "/live/now") as stream:
            await stream.until("pipeline", "Funding")
            token = await asyncio.to_thread(csrf_of, client)
            await asyncio.to_thread(client.post, "/sign-out", data={"csrf": token})
            await stream.until("end", "")

    asyncio.run(watch())
    brief = create_console(
        dataclasses.replace(world.deps, limits=dataclasses.replace(world.deps.limits, stream_seconds=0.3))
    )
    again = world.signed_in()

    async def wait():
        async with Stream(world, again, "/live/now", app=brief) as stream:
            await stream.until("end", "")

    asyncio.run(wait())


@pytest.fixture
def away(world):
    """Take the database away, and give it back."""
    file = world.store.engine.url.database
    hidden = file + ".hidden"

    def switch(*, gone: bool) -> None:
        world.store.close()
        if gone:
            Path(file).rename(hidden)
            Path(file).mkdir()
        else:
            Path(file).rmdir()
            Path(hidden).rename(file)

    return switch


def test_while_the_database_is_away_a_page_says_so_leaks_nothing_and_recovers(world, away):
    client = world.signed_in()
    token = csrf_of(client)
    away(gone=True)
    for path in ("/", "/options", "/prices/data", "/settlements/x/proof"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == 503
        assert "The database does not answer" in answer.text
        assert 'http-equiv="refresh"' in answer.text
        assert answer.headers["retry-after"] == "3"
        assert "console.db" not in answer.text
    assert client.post("/operate/feed", data={"csrf": token, "do": "pause"}).status_code == 503
    assert client.get("/static/console.css").status_code == 200
    away(gone=False)
    assert client.get("/").status_code == 200


def test_a_live_page_says_that_the_database_is_away_and_goes_on_when_it_is_back(world, away):
    client = world.signed_in()

    async def watch():
        async with Stream(world, client, "/live/now") as stream:
            await stream.until("pipeline", "Funding")
            await asyncio.to_thread(away, gone=True)
            await stream.until("problem", "does not answer")
            await asyncio.to_thread(away, gone=False)
            await asyncio.to_thread(world.sell, "late")
            await stream.until("pipeline", 'class="count">1</span><span class="note">created')

    asyncio.run(watch())
