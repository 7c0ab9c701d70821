"""Who registers contracts that are not as they say, or never open, takes no other contract's watch away."""

import pytest
from sqlalchemy import delete
from sqlmodel import col

from btcfi.adapters.store.disputes import watching
from btcfi.adapters.store.disputes.watching import TooManyDisputesError
from btcfi.adapters.store.spine.tables import BlobRow
from btcfi.disputes.garbled.game import Stage
from btcfi.errors import InvalidInputError
from tests.integration.tasks.test_tasks_disputes import Watcher
from tests.support.disputed import BLOCKS, REFUND, SINCE, public
from tests.support.stores import store_on_sqlite

pytestmark = pytest.mark.integration


@pytest.fixture
def watcher(tmp_path, monkeypatch):
    with store_on_sqlite(tmp_path) as store:
        yield Watcher(store, monkeypatch)


@pytest.mark.parametrize("later", [1_000, 90_000])
def test_a_contract_registered_with_a_block_after_its_opening_is_watched_once_its_own_block_is_told(watcher, later):
    """The block from which it is looked for is nobody's signed word: a counterparty's file may name a late one."""
    forged, honest = public(since=SINCE + later, refund=100_000), public(refund=100_000)
    assert forged.id == honest.id
    watcher.register(forged)
    watcher.chain.mine(honest.opening)
    watcher.chain.mine(honest.graph.claim(3))
    for _ in range(200):
        watcher.chain.mine()
    watcher.look()
    assert watcher.row(honest).state == Stage.UNOPENED
    watcher.register(honest)
    assert watcher.row(honest).state == Stage.CLAIMED
    way = watcher.way(honest)
    watcher.register(forged)  # a later block takes nothing back, and no more does an earlier one what was seen
    watcher.register(public(since=1, refund=100_000))
    assert (watcher.row(honest).walked_height, watcher.way(honest)) == (watcher.chain.top, way)


def test_a_contract_whose_public_part_is_lost_stops_no_other(watcher):
    """As after a restore without its blob."""
    lost, other = public(name="lost"), public()
    watcher.register(lost, other)
    with watcher.real.transaction() as session:
        gone = watcher.row(lost).body_sha256
        session.execute(delete(BlobRow).where(col(BlobRow.sha256) == gone))
    watching._decoded.cache_clear()
    watcher.chain.mine(lost.opening, other.opening)
    watcher.look()
    watcher.look()
    assert watcher.row(other).state == Stage.OPEN
    assert watcher.row(lost).state == Stage.UNOPENED
    watcher.register(lost)
    assert watcher.row(lost).state == Stage.OPEN


def test_contracts_that_were_never_opened_leave_their_places_to_others(watcher, monkeypatch):
    """A deal that fell through has no end on the chain; a thousand of them are not watched for ever."""
    monkeypatch.setattr(watching, "MAX_WATCHED", 2)
    never, also = public(name="never"), public(name="also")
    watcher.register(never, also)
    with pytest.raises(TooManyDisputesError):
        watcher.register(public())
    last = never.terms.bond_height + watching.FINAL
    while watcher.chain.top < last:
        watcher.chain.mine()
    watcher.look()
    later = public(name="later", since=last, silence=last + 30, refund=last + 60)
    watcher.register(later)
    watcher.chain.mine(later.opening)
    watcher.look()
    assert [watcher.row(one).state for one in (never, later)] == [Stage.UNOPENED, Stage.OPEN]
    assert [state for state, *_ in watcher.figures()] == [Stage.OPEN]


def test_a_contract_is_not_registered_as_opened_after_all_of_it_is_over():
    with pytest.raises(InvalidInputError, match="since_height"):
        public(since=REFUND + 5 * BLOCKS + 1)
