"""The service watches disputed contracts: their rows follow the chain in both directions, whenever a worker dies."""

from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlmodel import select

from btcfi.adapters.store.disputes import views, watching
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.bitcoin.transaction import parse_outpoint
from btcfi.disputes.stages import Stage
from btcfi.disputes.states import EDGES
from btcfi.disputes.watching import Seen, advance, begin, positions
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32, Height, UnixSeconds
from tasks import disputes as tasks
from tests.support.disputed import BLOCKS, SILENCE, SINCE, ListChain, next_moves, public, taken
from tests.support.stores import store_on_sqlite

pytestmark = pytest.mark.integration

NOW = UnixSeconds(1_700_000_000)


class Died(BaseException):
    """The worker is gone."""


def row_coin(row):
    return parse_outpoint(row.coin)


class Watcher:
    """A store, a chain of lists, and the task called by hand."""

    def __init__(self, store, monkeypatch):
        self.real, self.chain, self.dies = store, ListChain(), ""
        self.here = self
        self.store = self
        monkeypatch.setattr(tasks, "context", lambda: self)
        monkeypatch.setattr(tasks, "node", lambda _pid: self.chain)

    def now(self):
        return NOW

    def reading(self):
        return self.real.reading()

    @contextmanager
    def transaction(self):
        with self.real.transaction() as session:
            yield session
            if self.dies == "before the commit":
                raise Died
        if self.dies == "after the commit":
            raise Died

    def register(self, *disputes):
        with self.real.transaction() as session:
            for one in disputes:
                watching.register(session, one, by="operator", now=NOW)
        self.look()

    def look(self, dies=""):
        self.dies = dies
        try:
            tasks.watch()
        except Died:
            assert dies
        finally:
            self.dies = ""

    def row(self, dispute):
        with self.real.reading() as session:
            return views.dispute(session, dispute.id.hex())

    def watch_of(self, dispute):
        with self.real.reading() as session:
            (group,) = watching.watched(session)
        return group[dispute.id.hex()]

    def rows(self):
        with self.real.reading() as session:
            return [
                session.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2")).all()
                for name in ("dispute", "dispute_step", "event", "counter")
            ]

    def steps(self, dispute):
        with self.real.reading() as session:
            return views.steps(session, dispute.id.hex())

    def figures(self):
        """What metrics, and so alerts, are made of."""
        with self.real.reading() as session:
            return [(one.state, one.blocks_left, one.late, one.overdue) for one in views.pressing(session)]

    def way(self, dispute):
        """The edges that were written down, in order."""
        with self.real.reading() as session:
            every = session.exec(select(EventRow).where(EventRow.entity_id == dispute.id.hex()).order_by(EventRow.id))
            return [(one.from_state, one.to_state) for one in every if one.from_state]


@pytest.fixture
def watcher(tmp_path, monkeypatch):
    with store_on_sqlite(tmp_path) as store:
        yield Watcher(store, monkeypatch)


def test_a_registered_contract_is_followed_from_its_opening_to_its_end(watcher):
    dispute = public()
    watcher.register(dispute)
    assert (watcher.row(dispute).state, watcher.row(dispute).deadline_height) == (Stage.UNOPENED, None)
    watcher.chain.mine(dispute.opening)
    watcher.look()
    assert (watcher.row(dispute).state, watcher.row(dispute).deadline_height) == (Stage.OPEN, SILENCE)
    claim = dispute.graph.claim(3)
    watcher.chain.mine(claim)
    watcher.look()
    row = watcher.row(dispute)
    assert (row.state, row.claimed_range, row.moved_height) == (Stage.CLAIMED, 3, SINCE + 1)
    assert (row.deadline_height, row.overdue_height) == (SINCE + BLOCKS, SINCE + 1 + BLOCKS)
    watcher.chain.mine(taken(row_coin(row), bytes(64)))
    watcher.look()
    row = watcher.row(dispute)
    assert (row.state, row.deadline_height, row.overdue_height, row.coin) == (Stage.DISPROVED, None, None, None)
    assert [one.state for one in watcher.steps(dispute)] == [Stage.OPEN, Stage.CLAIMED, Stage.DISPROVED]


def test_what_a_block_holds_one_after_the_other_is_followed_through_it(watcher):
    dispute = public()
    watcher.register(dispute)
    watcher.chain.mine(dispute.opening, dispute.graph.claim(3))
    watcher.look()
    assert watcher.row(dispute).state == Stage.CLAIMED
    assert watcher.way(dispute) == [(Stage.UNOPENED, Stage.OPEN), (Stage.OPEN, Stage.CLAIMED)]


def test_a_contract_that_is_registered_late_is_followed_from_its_own_height_and_holds_up_no_other(watcher, monkeypatch):
    early, late = public(), public(name="late")
    watcher.register(early)
    watcher.chain.mine(late.opening)
    for _ in range(40):
        watcher.chain.mine()
    watcher.look()
    monkeypatch.setattr(tasks, "MAX_BLOCKS_PER_WALK", 50)
    watcher.register(late)  # a day before its height it begins
    watcher.chain.mine(early.opening)
    watcher.look()
    assert (watcher.row(early).state, watcher.row(late).state) == (Stage.OPEN, Stage.UNOPENED)
    for _ in range(3):
        watcher.look()
    assert watcher.row(late).state == Stage.OPEN
    assert watcher.row(late).walked_height == watcher.chain.top == watcher.row(early).walked_height


def test_registering_again_changes_nothing_and_the_thousandth_and_first_is_refused(watcher, monkeypatch):
    dispute = public()
    watcher.register(dispute)
    watcher.chain.mine(dispute.opening)
    watcher.look()
    before = watcher.rows()
    watcher.register(dispute)
    assert watcher.rows() == before
    monkeypatch.setattr(watching, "MAX_WATCHED", 1)
    with pytest.raises(watching.TooManyDisputesError):
        watcher.register(public(name="other"))


def edges_by_a_walk():
    """For each edge, the transactions that lead to it and over it: (lazy, transactions)."""
    for lazy in (False, True):
        dispute, waiting, done = public(lazy=lazy), [()], set()
        while waiting:
            way = waiting.pop(0)
            seen = [Seen(transaction=one, height=Height(SINCE), block=Hash32(bytes(32))) for one in way]
            here = positions(dispute, seen)[-1]
            for _, transaction in next_moves(dispute, here):
                after = positions(
                    dispute, [*seen, Seen(transaction=transaction, height=Height(SINCE), block=Hash32(bytes(32)))]
                )[-1]
                if (here.stage, after.stage) not in done:
                    done.add((here.stage, after.stage))
                    waiting.append((*way, transaction))
                    yield lazy, here.stage, after.stage, (*way, transaction)


WALKS = list(edges_by_a_walk())


def test_the_walks_take_every_edge_of_the_table():
    assert {(source, target) for _, source, target, _ in WALKS} == {(one.source, one.target) for one in EDGES}


@pytest.mark.parametrize(
    ("lazy", "source", "target", "way"), WALKS,
    ids=[f"{'lazy' if lazy else 'eager'}-{source}-{target}" for lazy, source, target, _ in WALKS],
)  # fmt: skip
def test_over_each_edge_a_death_a_replay_and_a_reorganisation_end_as_if_there_was_none(
    watcher, lazy, source, target, way
):  # fmt: skip
    dispute = public(lazy=lazy)
    watcher.register(dispute)
    for one in way[:-1]:
        watcher.chain.mine(one)
    watcher.look()
    assert watcher.row(dispute).state == source
    before = watcher.rows()
    watcher.chain.mine(way[-1])
    watcher.look(dies="before the commit")
    assert watcher.rows() == before
    watcher.look(dies="after the commit")
    assert watcher.row(dispute).state == target
    stands, figures = watcher.rows(), watcher.figures()
    watcher.look()  # its message comes again
    assert watcher.rows() == stands
    assert watcher.figures() == figures
    assert watcher.way(dispute)[-1] == (source, target)
    watcher.chain.undo(1)
    watcher.chain.mine()  # another block of the same height, without it
    watcher.look()
    row = watcher.row(dispute)
    assert (row.state, len(watcher.steps(dispute))) == (source, len(way) - 1)
    assert watcher.way(dispute)[-1] == (target, source)
    watcher.chain.mine(way[-1])
    watcher.look()
    assert watcher.row(dispute).state == target
    fresh = public(lazy=lazy)  # what a store that knew nothing of it would say
    newcomer, _ = advance({"new": begin(fresh)}, lambda _: fresh, watcher.chain, limit=1_000)
    assert newcomer["new"].seen == watcher.watch_of(dispute).seen


def test_a_reorganisation_that_replaces_a_claim_by_another_goes_back_and_on_over_both_edges(watcher):
    dispute = public()
    watcher.register(dispute)
    watcher.chain.mine(dispute.opening)
    watcher.chain.mine(dispute.graph.claim(3))
    watcher.chain.mine()
    watcher.look()
    watcher.chain.undo(2)
    watcher.chain.mine(dispute.graph.silence)
    watcher.chain.mine(dispute.graph.claim(7, silent=True))
    watcher.look()
    assert watcher.way(dispute) == [
        (Stage.UNOPENED, Stage.OPEN), (Stage.OPEN, Stage.CLAIMED), (Stage.CLAIMED, Stage.OPEN),
        (Stage.OPEN, Stage.SILENT), (Stage.SILENT, Stage.CLAIMED),
    ]  # fmt: skip
    assert watcher.row(dispute).claimed_range == 7


def test_two_watchers_that_read_the_same_rows_write_one_walk(watcher):
    dispute = public()
    watcher.register(dispute)
    with watcher.reading() as session:
        (some,) = watching.watched(session)
    watcher.chain.mine(dispute.opening)
    after, _ = advance(some, lambda _: dispute, watcher.chain, limit=9)
    for expected in ([dispute.id.hex()], []):
        with watcher.real.transaction() as session:
            assert watching.write(session, some, after, now=NOW) == expected
    assert watcher.way(dispute) == [(Stage.UNOPENED, Stage.OPEN)]


def test_a_public_part_that_cannot_be_read_any_more_stops_no_other_contract(watcher, monkeypatch):
    good, bad = public(), public(name="bad")
    watcher.register(good, bad)
    real = watching.public_part

    def unread(session, name):
        if name == bad.id.hex():
            raise InvalidInputError("dispute", "of a later version", "this one")
        return real(session, name)

    monkeypatch.setattr(watching, "public_part", unread)
    watcher.chain.mine(good.opening, bad.opening)
    watcher.look()
    assert (watcher.row(good).state, watcher.row(bad).state) == (Stage.OPEN, Stage.UNOPENED)
    monkeypatch.undo()


def test_a_node_that_loads_its_blocks_anew_takes_nothing_back(watcher):
    dispute = public()
    watcher.register(dispute)
    watcher.chain.mine(dispute.opening)
    for _ in range(150):
        watcher.chain.mine()
    watcher.look()
    before, blocks = watcher.rows(), watcher.chain.blocks
    watcher.chain.blocks = blocks[:50]
    watcher.look()
    assert watcher.rows() == before
    watcher.chain.blocks = blocks
    watcher.look()
    assert watcher.rows() == before


def test_an_end_a_day_deep_is_looked_at_no_more(watcher):
    dispute = public()
    watcher.register(dispute)
    watcher.chain.mine(dispute.opening)
    watcher.chain.mine(dispute.graph.refund)
    for _ in range(watching.FINAL - 1):
        watcher.chain.mine()
    watcher.look()
    assert watcher.row(dispute).final_height is None
    watcher.chain.mine()
    watcher.look()
    assert watcher.row(dispute).final_height == SINCE + 1
    with watcher.reading() as session:
        assert watching.watched(session) == []


def test_what_presses_is_counted_by_blocks_from_the_rows_alone(watcher):
    dispute = public()
    watcher.register(dispute)
    watcher.chain.mine(dispute.opening)
    watcher.chain.mine(dispute.graph.claim(3))
    watcher.look()
    assert watcher.figures() == [("claimed", BLOCKS - 1, 0, 0)]
    for _ in range(BLOCKS - 1):
        watcher.chain.mine()
    watcher.look()
    assert watcher.figures() == [("claimed", 0, 0, 0)]
    watcher.chain.mine()
    watcher.look()
    assert watcher.figures() == [("claimed", None, 1, 0)]
    watcher.chain.mine()
    watcher.look()
    assert watcher.figures() == [("claimed", None, 1, 1)]
