"""What waits to be published: one row that cannot be started holds up no other and no task."""

import pytest
from sqlmodel import select

from btcfi.adapters.store.spine import outbox, views
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.units import UnixSeconds
from tasks import pipeline

pytestmark = pytest.mark.integration


def a_row(name, flow, arguments, at):
    return OutboxRow(id=name, flow=flow, arguments=arguments, created_at_unix=at)


@pytest.mark.parametrize(
    ("flow", "arguments"),
    [
        ("settle", "[]"), ("settle", '["a", "b", "c"]'), ("settle", "[[1]"), ("settle", "{}"), ("settle", "7"),
        ("exchange", '["what newer code says"]'), ("price_round", '["BTC-USD"]'), ("prove_long", '["st", "many"]'),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_started_is_set_aside_and_holds_nothing_up(embedded, monkeypatch, flow, arguments):
    sent = []
    monkeypatch.setattr(
        "celery.canvas.Signature.apply_async", lambda self, **more: sent.append((self.task, more["task_id"]))
    )
    with embedded.here.store.transaction() as session:
        for row in session.exec(select(OutboxRow)).all():
            session.delete(row)
        session.add(a_row("a-bad", flow, arguments, 1))
        session.add(a_row("b-good", "attest", '["event"]', 2))
    for _ in range(2):
        pipeline.publish_pending(embedded.here.store, UnixSeconds(100))
    assert sent == [("oracle.attest", "b-good")]
    with embedded.here.store.reading() as session:
        waiting = session.exec(select(OutboxRow).where(OutboxRow.published_at_unix == None)).all()  # noqa: E711
    assert [row.id for row in waiting] == ["a-bad"]
    assert waiting[0].problem
    with embedded.here.work() as session:
        session.add(a_row("c-good", "attest", '["another"]', 3))
    assert sent[-1] == ("oracle.attest", "c-good")


@pytest.fixture
def sent(embedded, monkeypatch):
    """The ids of what was published, the outbox empty at first."""
    found = []
    monkeypatch.setattr("celery.canvas.Signature.apply_async", lambda _, **more: found.append(more["task_id"]))
    with embedded.here.store.transaction() as session:
        for row in session.exec(select(OutboxRow)).all():
            session.delete(row)
    return found


def aside(here):
    with here.store.reading() as session:
        return {row.id: row.problem for row in views.set_aside(session)}


def test_a_thousand_rows_that_cannot_be_started_keep_none_from_its_turn(embedded, sent):
    store = embedded.here.store
    with store.transaction() as session:
        session.add_all(a_row(f"a-{n:04}", "settle", "{}", 1) for n in range(1_000))
        session.add(a_row("z-good", "attest", '["event"]', 2))
    for _ in range(6):
        pipeline.publish_pending(store, UnixSeconds(100))
    assert sent == ["z-good"]
    assert len(aside(embedded.here)) == 100  # as many as are shown
    with store.reading() as session:
        assert views.count_set_aside(session) == 1_000
        assert views.waiting(session).count == 0
        assert len(outbox.unpublished(session, pipeline.flows(), now=UnixSeconds(1_000))) == outbox.AGAIN_AT_ONCE


def test_a_flow_that_nobody_has_is_set_aside_and_shown_short_and_started_by_code_that_has_it(
    embedded, sent, monkeypatch
):
    store = embedded.here.store
    name = "\x1b[2J" + "x" * 8_000_000
    with store.transaction() as session:
        session.add(a_row("new", "of_newer_code", '["event"]', 1))
        session.add(a_row("huge", name, "[]", 1))
        session.add(a_row("good", "attest", '["event"]', 2))
    pipeline.publish_pending(store, UnixSeconds(100))
    pipeline.set_unknown_aside(store, UnixSeconds(100))
    assert sent == ["good"]
    shown = aside(embedded.here)
    assert set(shown) == {"new", "huge"}
    assert "of_newer_code" in shown["new"]
    assert all(problem.isprintable() and len(problem) <= outbox.MAX_PROBLEM for problem in shown.values())
    with store.reading() as session:
        assert views.waiting(session).count == 0
    # the worker that knows it
    monkeypatch.setattr(pipeline, "flows", lambda: {"of_newer_code": "tasks.pipeline:attest"})
    pipeline.publish_pending(store, UnixSeconds(101))
    assert sent == ["good"], "not before its time"
    pipeline.publish_pending(store, UnixSeconds(100 + outbox.AGAIN_SECONDS))
    assert sent == ["good", "new"]
    assert set(aside(embedded.here)) == {"huge"}
