"""What somebody changed of a take, an offer or an option is found; a backup carries the market; old parties own."""

import json
from contextlib import closing

import pytest
from sqlalchemy import delete, text, update
from sqlmodel import col

from btcfi.adapters.desk_key import make_desk_key
from btcfi.adapters.store.backup import read_backup, write_backup
from btcfi.adapters.store.market import accounts, letters, takes
from btcfi.adapters.store.market import views as market
from btcfi.adapters.store.market.tables import FirmOfferRow, TakeRow
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.account import AnotherDeskError, encode_signed_registration
from btcfi.oracle.consensus import ConsensusRule
from btcfi.units import UnixSeconds
from tests.support.market_store import DESK, MAKER, NOW, OTHER, TAKER, Trader, filled, newer, post, take, traded
from tests.support.stores import store_on_sqlite
from workers.audit import LATE_SECONDS
from workers.audit import traded as audited
from workers.commands.migrate import What, migrate

LATER = UnixSeconds(NOW + LATE_SECONDS)


def found(store, *, now=None):
    with store.reading() as session:
        return [str(one) for one in audited(session, now=now)]


@pytest.fixture
def market_store(store):
    return filled(store)


@pytest.fixture
def on_sqlite(tmp_path):
    """Where many cases are tried of what no database decides."""
    with store_on_sqlite(tmp_path) as made:
        yield filled(made)


def change(store, table, **values):
    with store.transaction() as session:
        session.execute(update(table).values(**values))


def test_takes_that_stand_and_that_failed_are_as_both_have_signed_them(market_store):
    offer, _, first = traded(market_store)
    take(market_store, OTHER.take(offer, 20))
    with market_store.transaction() as session:
        takes.fail_take(session, first.option_id, fault="maker", problem="", now=NOW)
    assert found(market_store) == []
    with market_store.transaction() as session:
        accounts.register(session, newer(MAKER).registration(), now=LATER)
    assert found(market_store) == [], "older offers are not judged by newer keys"


@pytest.mark.parametrize(
    ("table", "values", "says"),
    [
        (OptionRow, {"premium_sats": 1}, "premium, sats"),
        (OptionRow, {"strike_cents": 1}, "terms"),
        (OptionRow, {"writer": TAKER.id}, "writer"),
        (OptionRow, {"holder": OTHER.id}, "holder"),
        (OptionRow, {"take_id": None}, "the option's take"),
        (OptionRow, {"take_id": "ff"}, "which there is not"),
        (TakeRow, {"quantity": 11}, "quantity"),
        (TakeRow, {"price_cents": 1}, "price, cents"),
        (TakeRow, {"taker": OTHER.id}, "taker"),
        (TakeRow, {"state": "failed"}, "failed, and its option is CREATED"),
        (FirmOfferRow, {"remaining": 91}, "10 of it taken, and 91 said to be left"),
        (FirmOfferRow, {"quantity": 99}, "quantity offered"),
    ],
)
def test_what_was_changed_after_both_had_signed_is_found(on_sqlite, table, values, says):
    traded(on_sqlite)
    change(on_sqlite, table, **values)
    assert any(says in one for one in found(on_sqlite)), found(on_sqlite)


def test_a_signature_that_is_not_the_account_s_is_found(market_store):
    _, _, row = traded(market_store)
    said = json.loads(row.body)
    change(market_store, TakeRow, body=json.dumps(said | {"signature": "00" * 64}))
    assert any("not signed by its taker" in one for one in found(market_store))


def test_an_option_that_names_another_s_take_is_doubled(market_store):
    _, _, first = traded(market_store)
    _, _, second = traded(market_store)
    with market_store.transaction() as session:
        session.execute(update(OptionRow).where(col(OptionRow.id) == second.option_id).values(take_id=first.id))
    assert any("doubled" in one for one in found(market_store))


def test_a_take_that_nothing_becomes_of_is_lost_after_a_while(market_store):
    traded(market_store)
    assert found(market_store, now=UnixSeconds(LATER - 1)) == []
    assert ["lost" in one for one in found(market_store, now=LATER)] == [True]


def test_a_take_that_is_gone_is_missed_by_its_option_and_by_its_offer(market_store):
    traded(market_store)
    with market_store.transaction() as session:
        session.execute(delete(TakeRow))
    assert len(found(market_store)) == 2


def test_a_backup_carries_accounts_letters_offers_and_takes(market_store, tmp_path):
    _, _, row = traded(market_store)
    with market_store.transaction() as session:
        first = letters.post(
            session, sender=None, recipient=MAKER.id, name="t1.proposal", sealed=b"\x00\xffsealed", now=NOW
        ).id
    write_backup(market_store, tmp_path / "backup", secret_files={}, passphrase="a passphrase of ours", now=NOW)
    with closing(Store(f"sqlite:///{tmp_path}/restored.db")) as restored:
        read_backup(
            tmp_path / "backup", restored, secret_files={}, passphrase="a passphrase of ours",
            rule_of=lambda _: ConsensusRule(), now=NOW,
        )  # fmt: skip
        assert found(restored) == []
        with restored.transaction() as session:
            (letter,) = letters.waiting(session, MAKER.id, after=first + 100)
            assert (letter.id, bytes(letter.sealed)) == (first, b"\x00\xffsealed")
            assert session.get_one(TakeRow, row.id).body == row.body
            assert accounts.registration_of(accounts.account(session, MAKER.id)) == MAKER.registration()


def test_what_a_restored_store_has_under_way_is_over_by_nobody_s_fault(market_store, tmp_path):
    offer, _, row = traded(market_store)
    _, _, signed = traded(market_store, minimum=10)
    with market_store.transaction() as session:
        takes.mark_checked(session, signed.option_id, now=NOW)
    write_backup(market_store, tmp_path / "backup", secret_files={}, passphrase="a passphrase of ours", now=NOW)
    with closing(Store(f"sqlite:///{tmp_path}/restored.db")) as restored:
        read_backup(
            tmp_path / "backup", restored, secret_files={}, passphrase="a passphrase of ours",
            rule_of=lambda _: ConsensusRule(), now=NOW,
        )  # fmt: skip
        with restored.reading() as session:
            gone, stands = (session.get_one(TakeRow, one.id) for one in (row, signed))
            assert (gone.state, gone.fault, stands.state) == ("failed", "desk", "checked")
        # its maker may have withdrawn it since, or signed what was taken of it since
        assert post(restored, MAKER, offer)[0].state == "withdrawn"
        assert found(restored) == []


# ---- migrate parties


@pytest.fixture
def data(tmp_path, monkeypatch, market_store):
    url = market_store.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("BTCFI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATABASE_URL", url)
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path / "data"


def leave(data, trader, desk, *, role=None):
    folder = data / "parties" / (role or trader.name)
    folder.mkdir(parents=True, exist_ok=True)
    said = encode_signed_registration(trader.registration(desk=desk))
    (folder / "registration.json").write_text(json.dumps(said))


SELLER, BUYER = Trader(name="seller"), Trader(name="buyer")


def old_option(store, name):
    """Store an option as every release before had it: nobody's."""
    with store.transaction() as session:
        session.add(
            OptionRow(
                id=name, feed="BTC/USD", kind=0, strike_cents=1, quantity_centi_btc=1, expiry_unix=NOW,
                premium_cents=1, premium_sats=1, collateral_sats=1, volatility_bps=1, rate_bps=1, preset="p",
                preset_sha256="", program="g", program_sha256="", created_at_unix=NOW, listed_slot=NOW,
                updated_at_unix=NOW,
            )
        )  # fmt: skip


def test_the_two_parties_of_the_folders_become_accounts_and_own_what_was_nobody_s(market_store, data, capsys):
    desk = make_desk_key(data / "desk.key").public.desk_key
    for trader in (SELLER, BUYER):
        leave(data, trader, desk)
    _, _, theirs = traded(market_store)
    old_option(market_store, "old")
    said = []
    for _ in range(2):
        migrate(What.PARTIES, as_json=True)
        said.append(json.loads(capsys.readouterr().out))
    assert [one["options"] for one in said] == [1, 0]
    assert said[0]["accounts"] == said[1]["accounts"] == {
        role: {"account": trader.id, "name": role, "carrier": "folder"}
        for role, trader in (("seller", SELLER), ("buyer", BUYER))
    }  # fmt: skip
    old_option(market_store, "sold meanwhile")
    migrate(What.PARTIES)
    assert "1 options" in capsys.readouterr().out
    with market_store.reading() as session:
        rows = {
            held.option.id: (held.option.writer, held.option.holder)
            for held in market.positions(session, None, limit=9).rows
        }  # fmt: skip
    ours = (SELLER.id, BUYER.id)
    assert rows == {"old": ours, "sold meanwhile": ours, theirs.option_id: (MAKER.id, TAKER.id)}


def test_a_party_that_left_no_registration_or_one_for_another_service_stays_what_it_was(market_store, data):
    desk = make_desk_key(data / "desk.key").public.desk_key
    leave(data, SELLER, desk)
    old_option(market_store, "old")
    with pytest.raises(NotFoundError):
        migrate(What.PARTIES)
    leave(data, BUYER, DESK)
    with pytest.raises(AnotherDeskError):
        migrate(What.PARTIES)
    leave(data, MAKER, desk, role="buyer")
    with pytest.raises(InvalidInputError, match="its messages lie in that folder"):
        migrate(What.PARTIES)
    with market_store.reading() as session:
        assert session.execute(text("SELECT count(*) FROM option WHERE writer IS NOT NULL")).scalar_one() == 0
        with pytest.raises(NotFoundError):
            accounts.account(session, SELLER.id)
