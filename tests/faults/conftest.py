from contextlib import contextmanager
from pathlib import Path

import pytest

from btcfi.adapters.store.options import sales
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.prices import rounds
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.units import CentiBtc, CentsPerBtc, UnixSeconds
from workers import audit
from workers.chaos.cluster import ChaosCluster
from workers.deployed import sale_rule

HERE = Path(__file__).parent


class World:
    """One cluster for the tests of a module, or of two: sells, prices, waits, audits."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.slots = iter(cluster.slots)
        self.view = audit.ChainView()
        self.sold = []

    def price(self):
        slot = next(self.slots)
        self.cluster.tick(slot)
        self.cluster.wait("a price", lambda: self.closed(slot))
        return slot

    def closed(self, slot):
        with self.cluster.store.reading() as session:
            row = rounds.find_round(session, self.cluster.here.feed, slot)
            return row is not None and row.state != "open"

    def sell(self, *names):
        """Sell calls that end in the money at the next minute, and wait until they are funded."""
        expiry = self.order(*names)
        self.until("ACTIVE", *names)
        return expiry

    def order(self, *names):
        """Sell calls that end in the money at the next minute; nobody has funded them yet."""
        here = self.cluster.here
        expiry = self.future()
        with here.store.transaction() as session:
            last = rounds.latest_priced(session, here.feed)
            for name in names:
                order = sales.Order(
                    option_id=name, kind=OptionKind.CALL, strike=CentsPerBtc(last.price_cents * 85 // 100),
                    quantity=CentiBtc(5), barrier=None, american=False, expiry=expiry, fixing=MINUTE,
                )  # fmt: skip
                sales.sell(session, order, sale_rule(here.deployment), now=UnixSeconds(last.slot + 60))
        self.sold += names
        return expiry

    def future(self):
        """Take the minute after the next: one that is not over yet. ``expire`` prices both."""
        next(self.slots)
        return next(self.slots)

    def expire(self, slot):
        self.cluster.tick(slot - 60)
        self.cluster.tick(slot)

    def option_states(self, *names):
        with self.cluster.store.reading() as session:
            return [session.get(OptionRow, name).state for name in names]

    def settlement(self, name):
        with self.cluster.store.reading() as session:
            return session.get(SettlementRow, f"st-{name}")

    def mined_until(self, what, done, seconds=90):
        """Mine until something is so."""
        self.cluster.wait(what, lambda: (self.cluster.mine(), done())[1], seconds, pause=0.3)

    def until(self, state, *names, seconds=90):
        def there():
            self.cluster.mine()
            return all(found == state for found in self.option_states(*names))

        self.cluster.wait(f"{names} to be {state}", there, seconds, pause=0.3)

    def broken(self, *names):
        self.view.follow(self.cluster.node)
        return [str(finding) for finding in audit.audit(self.cluster.store, self.view, names or self.sold)]


FIRST = ("matrix", "poison", "fleet", "power_cut", "disaster")
"""The three longest units first, one for each process of `make faults-ci`; poison before the fleet, whose drained
workers stay away."""


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.path.stem.removeprefix("test_faults_")
        return FIRST.index(name) if name in FIRST else len(FIRST)

    ours = [item for item in items if item.path.parent == HERE]
    ordered = iter(sorted(ours, key=place))
    items[:] = [next(ordered) if item.path.parent == HERE else item for item in items]


@contextmanager
def started(folder):
    """A cluster of its own with three priced minutes."""
    with ChaosCluster(folder) as cluster:
        cluster.start()
        made = World(cluster)
        for _ in range(3):
            made.price()
        yield made


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    with started(tmp_path_factory.mktemp("chaos")) as made:
        yield made
