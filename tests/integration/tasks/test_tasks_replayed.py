"""A message that was recorded and is sent again, whole and sealed: the database decides, and nothing changes."""

from importlib import import_module

import pytest
from celery import current_app
from sqlalchemy import text

from btcfi.adapters.store.options.tables import RequestState, SettlementRequestRow
from tasks import options, oracle
from tests.support.contract_stage import SLOT
from workers.systems import SYSTEMS, all_modules

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True, scope="module")
def _every_task():
    for module in all_modules(SYSTEMS):
        import_module(module)


def everything(store, *, but=()):
    """What stands in every table."""
    with store.reading() as session:
        names = [name for (name,) in session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))]
        return {
            name: session.execute(text(f'SELECT * FROM "{name}" ORDER BY 1')).all()
            for name in names if name not in but
        }  # fmt: skip


def replay(name, *args, message="recorded"):
    """Run a task as a worker does that takes this message."""
    return current_app.tasks[name].apply(args=args, task_id=message).get()


def test_an_order_to_settle_asks_once_however_often_its_message_comes(embedded):
    embedded.sell("one")
    embedded.fund("one")
    assert replay("options.settle", "one", "flower:me") == RequestState.OPEN
    options.answer_request("one")
    answered = embedded.row(SettlementRequestRow)
    assert answered.state == RequestState.REFUSED  # European, before its expiry
    before = everything(embedded.here.store)
    for _ in range(3):
        assert replay("options.settle", "one", "flower:me").startswith(RequestState.REFUSED)
    assert everything(embedded.here.store) == before
    # a person who asks anew sends another message
    assert replay("options.settle", "one", "flower:me", message="another") == RequestState.OPEN


ONCE = {
    "oracle.tick": (SLOT,), "oracle.aggregate": ([], "BTC/USD", SLOT), "options.expire_due": ("BTC/USD",),
    "options.settle": ("one", "flower:me"), "options.answer_request": ("one",), "contracts.check": ("one",),
    "contracts.check_accept": ("one",), "contracts.exchange": (), "market.carry": (), "market.tick": (),
    "market.prune": (), "webhooks.deliver": (), "oracle.attest": ("of nothing",),
    "settlement.execute_batch": (["st-one"],),
    "settlement.prove_part": ("st-one", 0, 4), "settlement.close_proof": ([], "st-one"), "chain.settle": (),
    "chain.watch": (), "chain.anchor": (), "disputes.watch": (),
    "swaps.tick": (), "swaps.settle_books": ("BTCUSD/1", []), "swaps.close_week": ([], "BTCUSD/1"),
    "pricing.refresh": (), "control.relay": (), "control.reconcile": (),
    "control.prune": (), "control.canary": ("settle",),
}  # fmt: skip
ELSEWHERE = {
    "oracle.fetch": "asks an exchange; its row is unique by venue and minute (test_tasks_prices.py)",
    "chain.mine": "mines a block of a regtest chain, whoever asks: a recording's `expires` ends it",
}
COUNTERS = ("canary", "counter", "outbox", "event", "premium", "lease")
"""Where a second run may say that it ran, or queue what is looked at again; no state and no money stands there."""


def test_every_task_is_here_or_says_where():
    names = {name for name in current_app.tasks if not name.startswith("celery.")}
    assert set(ONCE) | set(ELSEWHERE) >= {name for name in names if name.split(".")[0] not in {"toy", "tests"}}


def test_a_recording_of_every_message_of_a_settled_option_changes_no_row_of_any_state(embedded):
    embedded.sell("one")
    embedded.fund("one")
    embedded.price(6_000_000)
    embedded.settle()
    embedded.mine(6)
    assert embedded.state() == "EXERCISED"
    for _ in range(2):  # what a first run sets going, a second brings to its end
        for name, args in ONCE.items():
            _quietly(name, args)
    before, pool = everything(embedded.here.store, but=COUNTERS), embedded.node.pool()
    for name, args in ONCE.items():
        _quietly(name, args)
        now = everything(embedded.here.store, but=COUNTERS)
        assert {table: (before[table], rows) for table, rows in now.items() if rows != before[table]} == {}, name
    assert embedded.node.pool() == pool


def _quietly(name, args):
    result = current_app.tasks[name].apply(args=args, task_id=f"recorded-{name}")
    if name not in {"oracle.attest", "settlement.prove_part", "settlement.close_proof"}:  # of nothing that is there
        result.get()


def test_a_tick_of_long_ago_prices_nothing_again(embedded):
    before = everything(embedded.here.store)
    for _ in range(2):
        oracle.tick(SLOT)
    assert everything(embedded.here.store, but=("outbox",)) == {k: v for k, v in before.items() if k != "outbox"}
