"""What came by a message is short and printable wherever people see it: metrics, logs, lists."""

import io
import logging
import re

from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from btcfi.adapters.store.spine import canary, refusals
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.tables import CanaryRow, OutboxRow
from btcfi.adapters.store.spine.views import refused
from btcfi.documents import printable
from btcfi.units import UnixSeconds
from settings.deployment import Deployment
from workers.cli import build
from workers.exporter import Exporter
from workers.logs import MAX_LINE, configure_logging

HUGE = "\x1b]0;owned\x07\x1b[2J\u202e" + "x" * 1_000_000
ORDERS = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e]")


def test_a_name_is_cut_and_what_a_terminal_obeys_is_taken_out():
    assert printable("settle", 40) == "settle"
    assert printable("a\x1b[2Jb\nc", 40) == "a?[2Jb?c"
    assert printable("x" * 100, 10) == "x" * 9 + "…"
    assert printable(["x"], 40) == "['x']"


def deployed(tmp_path):
    deployment = Deployment(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/store.db")
    store = Store(deployment.database_url)
    store.migrate()
    with store.transaction() as session:
        canary.note_canary(session, HUGE, now=UnixSeconds(1))
        session.add(CanaryRow(queue=HUGE, seen_at_unix=1))  # what older code let in
        session.add(
            OutboxRow(id=HUGE[:500], flow=HUGE, arguments=HUGE, created_at_unix=1, problem="none", tried_at_unix=1)
        )
        refusals.refuse(session, [refusals.Refused(body=b"x", queue=HUGE, reason=HUGE)], more=41, now=UnixSeconds(1))
    return deployment, store


def test_the_metrics_page_stays_a_page(tmp_path):
    deployment, _ = deployed(tmp_path)
    registry = CollectorRegistry()
    registry.register(Exporter(deployment))
    page = generate_latest(registry).decode()
    assert len(page) < 300_000  # every edge of every machine has its lines; one name that is not cut has a million
    assert not ORDERS.search(page)
    assert "btcfi_refused_messages_total 42.0" in page
    assert "btcfi_outbox_set_aside 1.0" in page


def test_the_lists_of_what_was_refused_and_set_aside_say_nothing_to_a_terminal(tmp_path):
    deployment, store = deployed(tmp_path)
    for words in (["parked", "messages"], ["parked", "outbox"], ["parked", "list"]):
        done = CliRunner().invoke(build(), words, env=deployment.environment())
        assert done.exit_code == 0, done.output
        assert len(done.output) < 4_000
        assert not ORDERS.search(done.output)
    with store.reading() as session:
        (row,) = refused(session)
    assert len(row.queue) <= refusals.MAX_QUEUE
    assert len(row.reason) <= refusals.MAX_REASON


def test_a_log_line_is_bounded_and_gives_a_terminal_no_orders(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    kept = logging.getLogger().handlers[:]
    try:
        configure_logging("pretty")
        logging.getLogger("btcfi").warning("a task %s", HUGE)
    finally:
        logging.getLogger().handlers[:] = kept
    assert 0 < len(said.getvalue()) < MAX_LINE + 10
    assert not ORDERS.search(said.getvalue())
