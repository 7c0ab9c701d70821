"""What waits to be published: one row that cannot be started holds up no other and no task."""

import pytest
from sqlmodel import select

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
def test_a_row_that_cannot_be_started_waits_and_holds_nothing_up(embedded, monkeypatch, flow, arguments):
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
    with embedded.here.work() as session:
        session.add(a_row("c-good", "attest", '["another"]', 3))
    assert sent[-1] == ("oracle.attest", "c-good")
