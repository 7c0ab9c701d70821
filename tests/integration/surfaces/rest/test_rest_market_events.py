"""An account's own stream of events: its takes, options and settlements, in order, and nobody else's."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.event import listen

from btcfi.adapters.store.market import views
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.edges import record
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.adapters.store.spine.views import newest_event_id
from btcfi.surfaces.rest.auth import create_key
from tests.support.early_close import close_early
from tests.support.market_world import market

pytestmark = pytest.mark.integration


@pytest.fixture
def stand(tmp_path):
    with market(tmp_path, limits={"stream_seconds": 3.0}) as made:
        yield made


def traded(stand, maker: str, taker: str) -> str:
    """Have one account take of another's offer, and return the option's id."""
    offer = stand.offer(stand.join(maker))
    stand.post(stand.join(maker), offer)
    answer = stand.take(stand.join(taker), offer)
    assert answer.status_code == 201, answer.text
    return answer.json()["option_id"]


def events(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_an_account_hears_of_its_own_things_from_either_side_and_of_nobody_else_s(stand):
    stand.join("carol-1")
    first = traded(stand, "alice-1", "bob-1")
    other = traded(stand, "dave-1", "erin-1")
    stand.world.fund(first)
    stand.world.settle(first, 7_200_000)
    start = {"Last-Event-ID": "0"}
    heard = {}
    for name in ("alice-1", "bob-1"):
        heard[name] = events(stand.ask(stand.join(name), "GET", "/me/events?limit=9", headers=start))
        assert {one["option_id"] for one in heard[name]} == {first}
        assert [one["id"] for one in heard[name]] == sorted(one["id"] for one in heard[name])
        assert [one["to_state"] for one in heard[name] if one["entity"] == "take"] == ["taken"]
        assert heard[name][-1]["entity"] == "settlement"
        assert heard[name][-1]["to_state"] == "confirmed"
        assert heard[name][-1]["paid_sats"] == 900
    assert {one["role"] for one in heard["alice-1"]} == {"writer"}
    assert {one["role"] for one in heard["bob-1"]} == {"holder"}
    with stand.world.store.reading() as session:
        nothing, _ = views.edges_of(session, stand.join("carol-1").identity.hex(), after=0)
    assert nothing == []
    assert other not in str(heard)


def test_the_end_of_an_option_that_was_closed_early_says_what_the_close_pays_each_side(stand):
    made = traded(stand, "alice-1", "bob-1")
    stand.world.fund(made)
    with stand.world.store.reading() as session:
        collateral = session.get_one(OptionRow, made).collateral_sats
    close_early(stand.world.store, made, paid=250_000, now=stand.world.now)
    heard = events(stand.ask(stand.join("bob-1"), "GET", "/me/events?limit=5", headers={"Last-Event-ID": "0"}))
    ends = [one for one in heard if one["paid_sats"] is not None]
    assert [(one["entity"], one["to_state"]) for one in ends] == [("market_close", "done"), ("option", "ABANDONED")]
    assert {(one["paid_sats"], one["returned_sats"]) for one in ends} == {(250_000, collateral - 250_300)}


def test_a_stream_resumes_after_its_last_event_and_passes_over_what_is_others(stand, monkeypatch):
    monkeypatch.setattr("btcfi.surfaces.rest.streams.STRETCH", 5)
    monkeypatch.setattr("btcfi.surfaces.rest.streams.OVERLAP", 3)
    traded(stand, "alice-1", "bob-1")
    alice = stand.join("alice-1")
    before = events(stand.ask(alice, "GET", "/me/events?limit=2", headers={"Last-Event-ID": "0"}))
    with stand.world.store.transaction() as session:
        for n in range(20):
            record(session, "take", f"someone's-{n}", "taken", now=stand.world.now)
    again = traded(stand, "alice-1", "bob-1")
    after = events(stand.ask(alice, "GET", "/me/events?limit=2", headers={"Last-Event-ID": str(before[-1]["id"])}))
    assert {one["option_id"] for one in after} == {again}
    assert after[0]["id"] > before[-1]["id"] + 20


def test_an_event_whose_number_comes_after_a_higher_one_as_databases_commit_is_heard_late_and_not_left_out(stand):
    made, alice = traded(stand, "alice-1", "bob-1"), stand.join("alice-1")
    looks, answers = itertools.count(), []
    told = {"now": 0}
    listen(
        stand.world.store.engine, "after_cursor_execute",
        lambda _c, _k, said, *_: told.update(now=next(looks)) if "FROM event" in said and "LIMIT" in said else None,
    )  # fmt: skip

    def wait_for_looks(many: int) -> None:
        ends, wanted = time.monotonic() + 20, told["now"] + many
        while told["now"] < wanted and reader.is_alive() and time.monotonic() < ends:
            time.sleep(0.02)

    def edge(number: int) -> None:
        with stand.world.store.transaction() as session:
            session.add(
                EventRow(
                    id=number, entity="option", entity_id=made, from_state="CREATED", to_state="ACTIVE", fence=0,
                    at_unix=stand.world.now, detail="",
                )
            )  # fmt: skip

    reader = threading.Thread(
        target=lambda: answers.append(stand.ask(alice, "GET", "/me/events?limit=2", headers={"Last-Event-ID": "900"}))
    )
    reader.start()
    wait_for_looks(2)
    edge(1_002)
    wait_for_looks(3)
    edge(1_001)
    wait_for_looks(3)
    stand.world.seconds += 100  # the stream's time is over
    reader.join(30)
    assert [one["id"] for one in events(answers[0])] == [1_002, 1_001]
    assert re.findall("(?m)^id: (.*)$", answers[0].text) == ["1002", "1002"], "it resumes after the highest"


def test_no_stranger_and_no_key_of_nobody_has_such_a_stream_and_a_bound_key_hears_its_account(stand):
    first = traded(stand, "alice-1", "bob-1")
    assert stand.api.get("/api/v1/me/events").status_code in {401, 403}
    free = {"Authorization": f"Bearer {stand.world.key('operate', 'read')}"}
    assert stand.api.get("/api/v1/me/events", headers=free).status_code == 404
    bound = create_key(
        stand.world.store, name="bot", roles=("read",), entropy=bytes(range(40)), now=stand.world.now,
        account_id=stand.join("bob-1").identity.hex(),
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {bound}", "Last-Event-ID": "0"}
    assert events(stand.api.get("/api/v1/me/events?limit=1", headers=headers))[0]["option_id"] == first


@contextmanager
def looks(store, begun):
    """Count the questions to the log of events that begin at an event."""
    asked = []

    def note(_connection, _cursor, statement, parameters, *_):
        if "coalesce(event.entity" in statement and begun in tuple(parameters):
            asked.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    yield asked
    event.remove(store.engine, "before_cursor_execute", note)


def test_a_stranger_s_stream_does_not_read_at_each_look_again_what_is_between_two_accounts(stand, monkeypatch):
    monkeypatch.setattr("btcfi.surfaces.rest.streams.OVERLAP", 3)
    option = traded(stand, "alice-1", "bob-1")
    stand.world.fund(option)
    stand.world.settle(option, 7_200_000)
    with stand.world.store.transaction() as session:
        for _ in range(20):
            record(session, "settlement", f"st-{option}", "due", now=stand.world.now)
    with looks(stand.world.store, 1) as asked:
        assert events(stand.api.get("/api/v1/settlements/stream", headers={"Last-Event-ID": "1"})) == []
    assert len(asked) <= 1, "a thread of the service would be held for as long as the log is, twice a second"


@pytest.mark.parametrize("path", ["/me/events", "/settlements/stream"])
def test_no_stream_reads_at_each_look_again_what_makers_offered(stand, monkeypatch, path):
    monkeypatch.setattr("btcfi.surfaces.rest.streams.OVERLAP", 3)
    traded(stand, "alice-1", "bob-1")
    with stand.world.store.transaction() as session:
        begun = newest_event_id(session)
        for n in range(20):
            record(session, "firm_offer", f"offer-{n}", "open", now=stand.world.now)
    with looks(stand.world.store, begun) as asked:
        assert events(stand.ask(stand.join("alice-1"), "GET", path, headers={"Last-Event-ID": str(begun)})) == []
    assert len(asked) <= 1


def test_a_look_is_short_however_long_the_log_is_and_what_is_at_its_end_is_heard_soon(stand, monkeypatch):
    monkeypatch.setattr("btcfi.surfaces.rest.streams.STRETCH", 5)
    monkeypatch.setattr("btcfi.surfaces.rest.streams.OVERLAP", 3)
    with stand.world.store.transaction() as session:
        for n in range(60):
            record(session, "take", f"someone's-{n}", "taken", now=stand.world.now)
    option = traded(stand, "alice-1", "bob-1")
    with looks(stand.world.store, 1) as asked:
        heard = events(stand.ask(stand.join("alice-1"), "GET", "/me/events?limit=1", headers={"Last-Event-ID": "1"}))
    assert {one["option_id"] for one in heard} == {option}
    assert len(asked) == 1
    assert "event.id <=" in asked[0], "no more of the log than a stretch is read at once"
