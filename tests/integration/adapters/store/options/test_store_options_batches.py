"""Which settlements wait for a batch: those of which both sides have said yes, for seconds, far from their refund."""

from functools import partial

import pytest
from sqlmodel import select

from btcfi.adapters.store.options import batches
from btcfi.adapters.store.options.batch_tables import BatchPartRow, BatchRow
from btcfi.adapters.store.options.building import to_settle
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.bitcoin.fees import FeeRule, SatsPerKvb
from btcfi.contracts import batching
from btcfi.contracts.batch import NotAskedError
from btcfi.contracts.batching import advance, take_nonces
from btcfi.contracts.messages import Role
from btcfi.units import Height, UnixSeconds
from tests.support.batching import Table, name_of

NOW = UnixSeconds(1_740_000_000)
TIP = Height(100)
RATE = SatsPerKvb(2_000)


def add(session, name, *, refund_height=1_000, since=NOW, writer="ann", holder="bob"):
    session.add(
        OptionRow(
            id=name, feed="BTC/USD", state="EXPIRED", kind=0, strike_cents=1, quantity_centi_btc=1, expiry_unix=60,
            premium_cents=1, premium_sats=1, collateral_sats=1_000_000, volatility_bps=1, rate_bps=1, preset="p",
            preset_sha256="00", program="g", program_sha256="00", created_at_unix=NOW, updated_at_unix=NOW,
            listed_slot=0, refund_height=refund_height, writer=writer, holder=holder,
        )
    )  # fmt: skip
    session.flush()
    session.add(
        SettlementRow(
            id=f"st-{name}", option_id=name, state="proven", reason="expiry", slot=60, price_cents=1, input_hex="00",
            proof_root="00" * 32, created_at_unix=since, updated_at_unix=since,
        )
    )  # fmt: skip
    session.flush()


def agree(session, name, *roles):
    for role in roles:
        batches.consent(session, name, role, now=NOW)


def sent(session, *, gathering=True, now=NOW):
    held = batches.held_back(gathering=gathering, now=now)
    return to_settle(session, tip=Height(1), rule=FeeRule(), held_back=held)


def test_one_yes_holds_nothing_back_and_two_do_for_seconds_where_batches_are_made(store):
    with store.transaction() as session:
        for name in ("none", "one", "both"):
            add(session, name)
        agree(session, "one", Role.BUYER)
        agree(session, "both", Role.BUYER, Role.SELLER, Role.SELLER)
        assert sorted(sent(session)) == ["st-none", "st-one"]
        assert len(sent(session, gathering=False)) == 3
        assert len(sent(session, now=UnixSeconds(NOW + batches.HOLD_SECONDS))) == 3
        assert not batches.waits(session, now=NOW)
        assert batches.waits(session, now=UnixSeconds(NOW + batches.GATHER_SECONDS))
        # without a contract that is checked it stays what it is, and its CET will say why
        gathered = batches.gather(session, tip=TIP, rate=RATE, now=UnixSeconds(NOW + batches.GATHER_SECONDS))
        assert gathered == []
        assert session.get_one(BatchPartRow, "both").why is None
        assert not batches.is_anything(session)


def begun(session, table, *, now=NOW):
    """A batch of a table's contracts, as ``gather`` begins one."""
    names = {one: f"option-{place}" for place, one in enumerate(table.endings)}
    for ending, name in names.items():
        add(session, name, writer=ending.seller.owner, holder=ending.buyer.owner)
        session.get_one(SettlementRow, f"st-{name}").proof_root = ending.proof_root.hex()
        agree(session, name, *Role)
    return batches._begin(session, table.endings, names, table.scripts, rate=table.rate, now=now)


def test_a_batch_on_its_way_is_a_row_that_holds_its_settlements_back_until_its_time_is_over(store):
    table = Table(contracts=4, parties=3)
    with store.transaction() as session:
        batch = begun(session, table)
    with store.transaction() as session:
        assert batches.is_owner(session, batch, name_of(0))
        assert not batches.is_owner(session, batch, "dan")
        assert sent(session, gathering=False) == []
        assert len(sent(session, now=UnixSeconds(NOW + batches.PATIENCE_SECONDS))) == 4
        with pytest.raises(NotAskedError):
            batches.move(session, "00" * 16, partial(advance, now=NOW), now=NOW)


def test_rounds_that_several_processes_move_end_in_one_transaction_with_a_row_for_each_contract(store):
    table = Table(contracts=4, parties=3)
    with store.transaction() as session:
        batch = begun(session, table)
    with store.transaction() as session:
        state = batches._read(session.get_one(BatchRow, batch))[0]
    for owner, proposal in state.proposals().items():  # each answer in a transaction of its own
        said = table.consider(owner, proposal)
        with store.transaction() as session:
            batches.move(session, batch, partial(take_nonces, owner=owner, number=1, nonces=said, now=NOW), now=NOW)
    with store.transaction() as session:
        state = batches._read(session.get_one(BatchRow, batch))[0]
    for owner in state.batch.owners:
        said = table.sign(owner, 1, state.nonces_for(owner))
        step = partial(batching.take_partials, owner=owner, number=1, partials=said, now=NOW)
        with store.transaction() as session:
            batches.move(session, batch, step, now=NOW)
    with store.transaction() as session:
        row = session.get_one(BatchRow, batch)
        ends = batches.ends_of(session, [row.txid])
        rows = {one.option_id: one for one in session.exec(select(SettlementRow)).all()}
        assert row.state == "signed"
        assert {one.state for one in rows.values()} == {"built"}
        assert [one.paid_sats + one.returned_sats + one.fee_sats for one in ends] == [1_000_000] * 4
        assert [(rows[one.option_id].paid_sats, rows[one.option_id].txid) for one in ends] == [
            (one.paid_sats, row.txid) for one in ends
        ]  # fmt: skip
        assert batches.stuck(session, tip=TIP) == []
        batches.give_up(session, batch, {table.endings[0].funding}, "a test", now=NOW)
        assert session.get_one(BatchRow, batch).state == "asking"  # the others, anew
        assert {one.state for one in session.exec(select(SettlementRow)).all()} == {"proven"}
        gone = [one.option_id for one in session.exec(select(BatchPartRow)).all() if one.why is not None]
        assert gone == ["option-0"]
        assert sent(session, gathering=False) == ["st-option-0"]


def test_a_settlement_that_goes_its_own_way_while_its_batch_asks_drops_out_of_it(store):
    table = Table(contracts=4, parties=3)
    with store.transaction() as session:
        batch = begun(session, table)
        batches.advance_all(session, now=UnixSeconds(NOW + 19))
        assert session.get_one(BatchRow, batch).state == "asking"
        batches.advance_all(session, now=UnixSeconds(NOW + 20))  # nobody has said anything
        assert session.get_one(BatchRow, batch).state == "over"
        whys = {one.why for one in session.exec(select(BatchPartRow)).all()}
        assert whys == {"said no nonces in time"}
        assert len(sent(session)) == 4
