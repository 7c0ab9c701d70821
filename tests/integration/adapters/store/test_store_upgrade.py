"""A store that older code wrote is taken up by today's: nothing in it is lost, and each id means one thing after."""

import json
import threading
import time
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, inspect, select, text

from btcfi.adapters.store.backup import read_backup, write_backup
from btcfi.adapters.store.chain.tables import TransactionRow, WalletOutpointRow
from btcfi.adapters.store.market.views import closes_of
from btcfi.adapters.store.options.on_chain import transaction_of
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import NewerStoreError, Store
from btcfi.adapters.store.spine.schema import load_tables
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.oracle.consensus import ConsensusRule
from btcfi.units import UnixSeconds
from tests.support.resumed_store import COMMITS, STORES, unpack
from tests.support.stores import store_on_postgresql
from workers.audit import replay_events

OLD = "01ec85b"
OLD_ROW = text(
    "INSERT INTO chain_transaction (txid, purpose, option_id, state, raw_hex, spends, fee_sats, created_at_unix, "
    f"updated_at_unix) VALUES ('{'aa' * 32}', 'settlement', 'one', 'built', '00', 'x:0', 1, 1, 1)"
)
PASSPHRASE = "an old backup's passphrase"


@pytest.fixture
def old(tmp_path):
    unpack(OLD, tmp_path)
    with closing(Store(f"sqlite:///{tmp_path}/data/btcfi.db")) as store:
        yield store


def broken(session):
    """Return what does not replay; the stage's own prices (BTC/USD) are rows without events, and stand aside."""
    by_hand = {f"round {n}" for n in session.execute(select(RoundRow.id).where(RoundRow.feed == "BTC/USD")).scalars()}
    return [one for one in replay_events(session) if one.subject not in by_hand]


def old_rows(store, query):
    with store.reading() as session:
        return [tuple(row) for row in session.execute(text(query))]


@pytest.mark.parametrize("commit", COMMITS)
def test_the_events_of_an_old_store_replay_to_its_states_after_the_upgrade(commit, tmp_path):
    said = unpack(commit, tmp_path)
    with closing(Store(f"sqlite:///{tmp_path}/data/btcfi.db")) as store:
        store.migrate()
        with store.reading() as session:
            assert [str(one) for one in broken(session)] == []
            count = session.execute(select(func.count()).select_from(OptionRow)).scalar_one()
    assert count == len(said["options"])


def test_a_child_whose_place_was_taken_is_a_child_that_names_the_transaction_which_took_it(old):
    before = old_rows(old, "SELECT txid, purpose, option_id FROM chain_transaction WHERE purpose LIKE 'child%'")
    assert any(purpose.startswith("child replaced by ") for _, purpose, _ in before)
    old.migrate()
    with old.reading() as session:
        rows = {row.txid: row for row in session.execute(select(TransactionRow)).scalars()}
        for txid, purpose, option_id in before:
            kept = purpose.removeprefix("child replaced by ") if purpose != "child" else None
            assert (rows[txid].purpose, rows[txid].subject, rows[txid].replaced_by) == ("child", option_id, kept)
        for option_id in {option_id for _, _, option_id in before}:
            assert transaction_of(session, option_id, "child").replaced_by is None


def test_a_split_and_an_anchor_have_no_subject_where_their_own_txid_stood(old):
    before = old_rows(old, "SELECT txid, purpose FROM chain_transaction WHERE option_id = txid")
    assert {purpose for _, purpose in before} == {"split", "anchor"}
    old.migrate()
    with old.reading() as session:
        assert all(session.get_one(TransactionRow, txid).subject is None for txid, _ in before)
        other = session.execute(select(TransactionRow).where(TransactionRow.subject.is_not(None))).scalars()
        assert all(session.get(OptionRow, row.subject) is not None for row in other)


def test_a_coin_that_is_kept_names_a_transaction_which_spends_it(old):
    old.migrate()
    with old.reading() as session:
        kept = session.execute(select(WalletOutpointRow).where(WalletOutpointRow.state == "reserved")).scalars().all()
        assert kept
        for coin in kept:
            row = session.get_one(TransactionRow, coin.reserved_by)
            txid, _, index = coin.outpoint.partition(":")
            assert f"{bytes.fromhex(txid)[::-1].hex()}{int(index).to_bytes(4, 'little').hex()}" in row.raw_hex


def test_every_event_of_a_round_has_the_round_s_number(old):
    first = old_rows(old, "SELECT entity_id FROM event WHERE entity = 'round' AND from_state = ''")
    assert first
    assert all("@" in name for (name,) in first)
    old.migrate()
    with old.reading() as session:
        numbers = {str(number) for number in session.execute(select(RoundRow.id)).scalars()}
        events = session.execute(select(EventRow).where(EventRow.entity == "round")).scalars().all()
        assert {row.entity_id for row in events} <= numbers
        assert {row.to_state for row in events} == {"open", "void"}
        assert len([row for row in events if not row.from_state]) == len(first)


def test_going_back_gives_the_old_names_again(old):
    columns = "txid, purpose, option_id, raw_hex, spends, state, fee_sats, height, block_hash, last_error"
    wanted = {
        "chain_transaction": old_rows(old, f"SELECT {columns} FROM chain_transaction ORDER BY txid"),
        "event": old_rows(old, "SELECT * FROM event ORDER BY id"),
    }
    old.migrate()
    old.downgrade("0009")
    assert old_rows(old, f"SELECT {columns} FROM chain_transaction ORDER BY txid") == wanted["chain_transaction"]
    assert old_rows(old, "SELECT * FROM event ORDER BY id") == wanted["event"]


def test_a_backup_that_the_code_before_wrote_is_restored_onto_either_database(store, tmp_path):
    store.downgrade("base")
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    written = read_backup(
        STORES / OLD / "backup.btcfi", store, secret_files={"wallet.seed": tmp_path / "wallet.seed"},
        passphrase=PASSPHRASE, rule_of=lambda _sha256: ConsensusRule(), now=UnixSeconds(1_795_749_147),
    )  # fmt: skip
    said = json.loads((STORES / OLD / "summary.json").read_text())
    assert written.rows["option"] == len(said["options"])
    with store.reading() as session:
        assert [str(one) for one in broken(session)] == []
        purposes = {purpose for (purpose,) in session.execute(select(TransactionRow.purpose))}
        assert not any(purpose.startswith("child ") for purpose in purposes)
    again = tmp_path / "again.btcfi"
    write_backup(store, again, secret_files={}, passphrase=PASSPHRASE, now=UnixSeconds(1_795_749_148))
    assert again.stat().st_size > 0


def test_the_tables_that_the_code_declares_are_the_migrated_ones(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, load_tables()) == []
        assert set(inspect(connection).get_table_names()) == {*load_tables().tables, "alembic_version"}


def test_states_are_text_in_the_database_and_no_native_enum(store):
    with store.engine.connect() as connection:
        look = inspect(connection)
        for table in load_tables().tables:
            for column in look.get_columns(table):
                if column["name"] == "state":
                    assert str(column["type"]).startswith(("VARCHAR", "TEXT"))


@pytest.mark.postgres
def test_a_transaction_that_an_old_worker_stores_while_the_tables_change_is_not_lost():
    with store_on_postgresql() as store:
        store.downgrade("0009")
        started = threading.Event()
        with store.engine.connect() as worker:
            worker.execute(OLD_ROW)  # of a worker that nobody stopped, not committed yet
            migration = threading.Thread(target=lambda: (started.set(), store.migrate()))
            migration.start()
            started.wait()
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database "
            waiting += "WHERE datname = current_database())"
            with store.engine.connect() as looking:
                while not looking.execute(text(waiting)).scalar_one():
                    time.sleep(0.02)
            worker.commit()
        migration.join()
        with store.reading() as session:
            assert session.get(TransactionRow, "aa" * 32) is not None


def test_a_store_of_newer_code_is_refused_in_one_line_and_stays_as_it_is(store):
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(NewerStoreError, match="0099"):
        store.migrate()
    assert old_rows(store, "SELECT version_num FROM alembic_version") == [("0099",)]


def test_a_close_that_stands_while_the_tables_change_is_listed_by_both_of_its_sides_after(store):
    store.downgrade("0022")
    columns = {
        "id": "'o1'", "feed": "'BTC/USD'", "state": "'ACTIVE'", "preset": "'p'", "preset_sha256": "'00'",
        "program": "'g'", "program_sha256": "'00'", "american": "false", "writer": f"'{'aa' * 32}'",
        "holder": f"'{'bb' * 32}'",
    } | dict.fromkeys(
        ("kind", "strike_cents", "quantity_centi_btc", "expiry_unix", "premium_cents", "premium_sats",
         "collateral_sats", "volatility_bps", "rate_bps", "created_at_unix", "listed_slot", "updated_at_unix"), "1"
    )  # fmt: skip
    with store.engine.begin() as connection:
        values = f"({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
        connection.execute(text(f'INSERT INTO "option" {values}'))
        connection.execute(
            text(
                "INSERT INTO market_close (id, option_id, by, state, body, payout_sats, valid_until_unix, "
                "created_at_unix, updated_at_unix) VALUES ('c1', 'o1', 'buyer', 'offered', '{}', 1, 9, 1, 1)"
            )
        )
    store.migrate()
    with store.reading() as session:
        for account, role, own in (("bb" * 32, "holder", True), ("aa" * 32, "writer", False)):
            (found,) = closes_of(session, account, limit=5).rows
            assert (found.row.id, found.role, found.own) == ("c1", role, own)
        assert closes_of(session, "cc" * 32, limit=5).rows == []


def test_the_coins_of_a_year_of_anchors_are_named_in_seconds(store):
    store.downgrade("0009")
    many = 8_760
    with store.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO chain_transaction (txid, purpose, option_id, state, raw_hex, spends, fee_sats, "
                "created_at_unix, updated_at_unix) VALUES (:txid, 'anchor', :txid, :state, '00', :spends, 1, 1, 1)"
            ),
            [
                {"txid": f"{2 * n + v:064x}", "state": state, "spends": f"{n:064x}:0"}
                for n in range(many)
                for v, state in enumerate(("replaced", "final"))
            ],
        )
        connection.execute(
            text(
                "INSERT INTO wallet_outpoint (outpoint, party, value_sats, mature_height, state, reserved_by) "
                "VALUES (:outpoint, 'service', 50000, 1, 'spent', :batch)"
            ),
            [{"outpoint": f"{n:064x}:0", "batch": f"anchor {n}"} for n in range(many)],
        )
    began = time.monotonic()
    store.migrate("0010")
    assert time.monotonic() - began < 20  # asked coin by coin it was minutes
    with store.reading() as session:
        coins = session.execute(select(WalletOutpointRow.outpoint, WalletOutpointRow.reserved_by)).all()
    assert all(int(by, 16) == 2 * int(outpoint[:64], 16) + 1 for outpoint, by in coins)
