"""Many rows cross an edge in one statement: each on its own conditions, each with its own event."""

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.chain.transactions import Signed, put_transactions
from btcfi.adapters.store.spine.edges import Crossing, cross_all
from btcfi.adapters.store.spine.machines import UnknownEdgeError
from btcfi.adapters.store.spine.tables import CounterRow, EventRow
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.units import Sats, Txid, UnixSeconds

NOW = UnixSeconds(1_700_000_000)
MANY = 40


def signed(number):
    spends = OutPoint(txid=Txid(bytes([number]) * 32), index=0)
    made = Transaction(version=2, inputs=(TxIn(outpoint=spends),), outputs=(TxOut(value=Sats(1_000), script=b"\x51"),))
    return Signed(transaction=made, purpose="split", subject=f"o{number}", spends=spends, fee=Sats(0))


@pytest.fixture
def rows(store):
    with store.transaction() as session:
        return put_transactions(session, [signed(number) for number in range(1, MANY + 1)], now=NOW)


def stored(store):
    with store.reading() as session:
        return {row.txid: row for row in session.execute(select(TransactionRow)).scalars()}


def events(store, to_state):
    with store.reading() as session:
        query = select(EventRow).where(col(EventRow.to_state) == to_state).order_by(col(EventRow.id))
        return list(session.execute(query).scalars())


def test_all_move_and_every_one_has_its_event_and_its_own_changes(store, rows):
    crossings = [Crossing(row=row, changes={"fee_sats": n}, detail=f"number {n}") for n, row in enumerate(rows)]
    with store.transaction() as session:
        assert cross_all(session, crossings, "broadcast", now=UnixSeconds(NOW + 1)) == crossings
    found = stored(store)
    assert [found[row.txid].fee_sats for row in rows] == list(range(MANY))
    assert {row.state for row in found.values()} == {"broadcast"}
    assert {row.updated_at_unix for row in found.values()} == {NOW + 1}
    assert [(e.entity_id, e.from_state, e.detail) for e in events(store, "broadcast")] == [
        (row.txid, "built", f"number {n}") for n, row in enumerate(rows)
    ]
    assert [(row.state, row.fee_sats) for row in rows] == [("broadcast", n) for n in range(MANY)], "the caller's copies"


def test_what_somebody_else_has_moved_stays_as_it_is_and_is_counted(store, rows):
    theirs = {row.txid for row in rows[::3]}
    with store.transaction() as session:
        statement = update(TransactionRow).where(col(TransactionRow.txid).in_(theirs)).values(state="conflicted")
        session.execute(statement.execution_options(synchronize_session=False))
    with store.transaction() as session:
        moved = cross_all(session, [Crossing(row=row, changes={"fee_sats": 7}) for row in rows], "broadcast", now=NOW)
    found = stored(store)
    assert {one.row.txid for one in moved} == set(found) - theirs
    assert {(found[txid].state, found[txid].fee_sats) for txid in theirs} == {("conflicted", 0)}
    assert len(events(store, "broadcast")) == MANY - len(theirs)
    with store.reading() as session:
        assert session.get_one(CounterRow, "stale_chain_transaction_edges").value == len(theirs)


def test_rows_may_come_from_different_states(store, rows):
    with store.transaction() as session:
        cross_all(session, [Crossing(row=row) for row in rows[:5]], "broadcast", now=NOW)
        moved = cross_all(session, [Crossing(row=row) for row in rows], "conflicted", now=NOW)
    assert len(moved) == MANY
    assert sorted(e.from_state for e in events(store, "conflicted")) == ["broadcast"] * 5 + ["built"] * (MANY - 5)


def test_one_row_without_the_edge_refuses_the_whole_transaction(store, rows):
    with store.transaction() as session:
        cross_all(session, [Crossing(row=rows[0])], "conflicted", now=NOW)
    with pytest.raises(UnknownEdgeError), store.transaction() as session:
        cross_all(session, [Crossing(row=row) for row in rows], "confirmed", now=NOW)
    assert not events(store, "confirmed")
    assert {row.state for row in stored(store).values()} == {"built", "conflicted"}


def test_nothing_to_move_is_nothing(store, rows):
    with store.transaction() as session:
        assert cross_all(session, [], "broadcast", now=NOW) == []
        assert put_transactions(session, [], now=NOW) == []
    assert len(events(store, "built")) == len(rows)
