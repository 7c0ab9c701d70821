"""What beat sends is stale by the database's clock: no worker's clock, and no beat's, makes the chain stand still."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from celery.contrib.testing.worker import start_worker
from sqlmodel import select

from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine import leases, ticks
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.fleet_tables import LeaseRow
from btcfi.adapters.store.spine.tables import CanaryRow
from btcfi.units import UnixSeconds
from settings.deployment import Deployment
from tasks import canary, oracle
from tasks.context import context, make_context
from tests.support.stores import store_on_postgresql
from workers import preconditions
from workers.app import create_app
from workers.findings import Status
from workers.systems import schedule


@pytest.fixture
def deployment(tmp_path):
    made = Deployment(data_dir=tmp_path, broker_url="memory://", venues=("kraken:BTC/USD",), legs=())
    store = Store(made.database_url)
    store.migrate()
    store.close()
    return made


@pytest.fixture
def app(deployment):
    made = create_app(deployment, modules=("tasks.canary", "tasks.oracle", "tasks.control"))
    made.conf.worker_soft_shutdown_timeout = 0.0
    return made


def canaries(store):
    with store.reading() as session:
        return {row.queue: row.seen_at_unix for row in session.execute(select(CanaryRow)).scalars()}


def eventually(look, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def as_tick(task, *args, **kwargs):
    """Run a task as a worker runs what beat has sent."""
    task.push_request(expires="2001-01-01T00:00:00+00:00", hostname="chain@here", args=args, kwargs=kwargs)
    try:
        return task(*args, **kwargs)
    finally:
        task.pop_request()


def test_a_worker_whose_clock_is_ahead_of_beat_s_runs_what_beat_sends(app, deployment):
    # Beat writes when a message expires by its own clock; to a worker that is ahead, that is past
    entry = schedule(deployment)["canary.chain"]
    expired = datetime.now(UTC) + timedelta(seconds=entry["options"]["expires"] - 38)
    store = Store(deployment.database_url)
    with start_worker(app, pool="solo", perform_ping_check=False, queues=["chain"], shutdown_timeout=20):
        app.send_task("control.canary", args=["chain"], queue="chain", expires=expired)
        assert eventually(lambda: canaries(store)).keys() == {"chain"}
    store.close()


def test_ticks_that_piled_up_are_one_run(app, deployment):
    here = make_context(deployment)
    runs = []
    relay = app.tasks["control.relay"]
    real, relay.run = relay.run, lambda: runs.append(1)
    try:
        for _ in range(50):
            as_tick(relay)
        assert len(runs) == 1
        with here.store.transaction() as session:  # an interval later
            ticks.note_end(session, "control.relay", now_ms=1, ahead_ms=0, worker="w")
        as_tick(relay)
        assert len(runs) == 2
        relay()  # sent by hand, or by the outbox: it means something of its own
        assert len(runs) == 3
    finally:
        relay.run = real


def test_a_database_s_clock_that_was_set_back_holds_no_tick_up(app, deployment):
    here = make_context(deployment)
    with here.store.transaction() as session:
        ticks.note_end(
            session, "control.canary chain", now_ms=int((time.time() + 86_400) * 1000), ahead_ms=0, worker="w"
        )
    as_tick(canary.canary, "chain")
    assert "chain" in canaries(here.store)


def test_a_failed_tick_counts_as_ended_and_its_error_is_its_own(app, deployment):
    def broken():
        raise ZeroDivisionError

    relay = app.tasks["control.relay"]
    real, relay.run = relay.run, broken
    try:
        with pytest.raises(ZeroDivisionError):
            as_tick(relay)
    finally:
        relay.run = real
    with make_context(deployment).store.reading() as session:
        assert [row.name for row in ticks.ticks(session)] == ["control.relay"]


def rounds_of(store):
    with store.reading() as session:
        return sorted(session.execute(select(RoundRow.slot)).scalars())


@pytest.mark.parametrize("off", [8, -8, 180, -180, 86_400])
def test_a_beat_by_a_wrong_clock_opens_the_minute_that_is_over_and_no_other(app, deployment, monkeypatch, off):
    here = make_context(deployment)
    minute = int(time.time()) // 60 * 60
    monkeypatch.setattr(Store, "clock", lambda _: minute + 40.0)
    monkeypatch.setattr("btcfi.adapters.store.spine.database.clock_of", lambda _: minute + 40.0)
    monkeypatch.setattr("tasks.pipeline.publish_pending", lambda *_: 0)
    from workers.beat import closed_slot  # noqa: PLC0415 - what beat computes

    as_tick(oracle.tick, slot=closed_slot(minute + 40 + off))
    with here.store.transaction() as session:
        oracle.repair(context(), session)
    assert rounds_of(here.store) == [minute - 60]


def test_a_lease_is_judged_by_the_database_s_clock(app, deployment, monkeypatch):
    here = make_context(deployment)
    with here.signing():
        pass
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 3_600)  # this worker is an hour ahead
    monkeypatch.setattr("tasks.context.WORKER", "another")
    with pytest.raises(leases.LeaseHeldError), here.signing():
        pass
    with here.store.reading() as session:
        assert session.execute(select(LeaseRow.until_unix)).scalar_one() < real + 60


def test_a_worker_whose_clock_is_off_is_told_of_by_the_doctor(app, deployment, monkeypatch):
    assert [one.status for one in preconditions.clocks(deployment)] == [Status.OK]
    real = time.time
    monkeypatch.setattr("workers.ticks.time.time", lambda: real() + 8)
    as_tick(canary.canary, "chain")
    monkeypatch.undo()
    (told,) = preconditions.clocks(deployment)
    assert told.status is Status.FAIL
    assert "chain@here +8.0 s" in told.said
    # what the line says to do: the machine's clock is set, and its next word is heard
    assert "set that machine's clock" in told.do
    with make_context(deployment).store.transaction() as session:
        ticks.note_end(session, "control.canary chain", now_ms=1, ahead_ms=0, worker="chain@here")
    as_tick(canary.canary, "chain")
    assert [one.status for one in preconditions.clocks(deployment)] == [Status.OK]


def test_ticks_are_noted_on_postgresql_too():
    with store_on_postgresql() as store:
        now = store.now() * 1000
        for at in (now - 9_000, now):
            with store.transaction() as session:
                ticks.note_end(session, "chain.watch", now_ms=at, ahead_ms=3, worker="w")
        with store.reading() as session:
            assert not ticks.is_due(session, "chain.watch", now_ms=now + 1_000, rest_ms=2_500)
            assert ticks.is_due(session, "chain.watch", now_ms=now + 2_500, rest_ms=2_500)
            assert ticks.is_due(session, "other", now_ms=now, rest_ms=2_500)
            assert [(one.ended_ms, one.ahead_ms) for one in ticks.ticks(session)] == [(now, 3)]
        with store.transaction() as session:
            leases.prove_writable(session)
        with store.reading() as session:
            assert session.execute(select(LeaseRow)).first() is None
        assert UnixSeconds(store.now()) >= now // 1000
