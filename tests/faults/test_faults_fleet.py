"""Several workers of a role, started, drained and replaced while options settle: nothing is lost, nothing twice."""

import contextlib
import os
import signal

import psutil
import pytest
from sqlalchemy import select

from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.spine.fleet_tables import LeaseRow
from btcfi.options.expiry import SettlementInput
from btcfi.oracle.announcement import PriceRounding, attested_price
from workers.chaos.points import KILL_WORKER, Order

pytestmark = [
    pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("one cluster")
]  # fmt: skip


def drain(world, name):
    """Stop a worker softly, as an operator would, and keep the supervisor from starting it again."""
    part = world.cluster.part(name)
    pid = part.process.pid
    part.command = ["true"]
    os.kill(pid, signal.SIGTERM)
    return pid


def gone(pid):
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_fleet_grows_and_shrinks_while_options_settle(world):
    names = [f"scaled-{number}" for number in range(8)]
    expiry = world.sell(*names)
    world.cluster.add_worker("settle", "settle-3")
    world.expire(expiry)
    pid = drain(world, "settle-2")
    world.until("EXERCISED", *names)
    world.cluster.wait("the drained worker's end", lambda: gone(pid), 30)
    assert world.broken(*names) == []


def test_every_worker_is_replaced_one_by_one_while_options_settle(world):
    names = [f"rolled-{number}" for number in range(6)]
    expiry = world.sell(*names)
    world.expire(expiry)
    for role in ("settle", "chain", "control"):
        old = drain(world, role)
        world.cluster.add_worker(role, f"{role}-new")
        world.cluster.wait(f"the end of the old {role} worker", lambda pid=old: gone(pid), 40)
    world.until("EXERCISED", *names)
    assert world.broken(*names) == []


def test_a_minute_whose_tick_died_with_its_worker_is_priced_by_the_next_tick_and_settles_its_options(world):
    cluster = world.cluster
    expiry = world.sell("lost-tick")
    cluster.tick(expiry - 60)
    cluster.wait("the minute before", lambda: world.closed(expiry - 60))
    cluster.orders.arm(Order(name="lost-tick", point="round.open:before", action=KILL_WORKER))
    cluster.tick(expiry)
    cluster.wait("the kill", lambda: cluster.orders.reached("lost-tick") is not None)
    cluster.orders.disarm("lost-tick")
    world.price()  # the next minute
    world.until("EXERCISED", "lost-tick")
    given = SettlementInput.from_bytes(bytes.fromhex(world.settlement("lost-tick").input_hex))
    with cluster.store.reading() as session:
        own = rounds.find_round(session, cluster.here.feed, expiry)
        following = rounds.find_round(session, cluster.here.feed, expiry + 60)
    dollars = [attested_price(row.price_cents, PriceRounding.NEAREST, digits=18) for row in (own, following)]
    assert given.spot == dollars[0] != dollars[1]
    assert world.broken("lost-tick") == []


def test_of_two_chain_workers_one_holds_the_wallet_and_the_other_takes_over_when_it_dies(world):
    def lease():
        with world.cluster.store.reading() as session:
            row = session.execute(select(LeaseRow)).scalar_one()
            return row.holder, row.fence

    (holder, fence) = lease()
    names = [f"lease-{number}" for number in range(2)]
    expiry = world.sell(*names)
    for part in [p for p in world.cluster.workers() if "chain" in p.name and p.command != ["true"]]:
        part.failures = 0
        os.killpg(part.process.pid, signal.SIGKILL)
    world.expire(expiry)
    world.until("EXERCISED", *names)
    assert lease()[0] != holder
    assert lease()[1] > fence
    assert world.broken() == []
