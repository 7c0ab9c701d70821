"""After a restore an oracle attests nothing twice: what it may have attested since the backup waits for an operator."""

import dataclasses
import json
import sqlite3
from contextlib import closing

import pytest
from sqlmodel import delete, select
from typer.testing import CliRunner

from btcfi.adapters.oracle.folder import OracleFolder
from btcfi.adapters.store.backup import NotABackupError, read_backup, write_backup
from btcfi.adapters.store.options import attesting, holds, options, settlements
from btcfi.adapters.store.options.contract_tables import AttestationRow, OracleEventRow
from btcfi.adapters.store.options.hold_tables import HeldEventRow, HoldState
from btcfi.adapters.store.options.tables import SettlementRow
from btcfi.adapters.store.prices.fixings import fixing_of
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Store
from btcfi.adapters.store.spine.edges import cross
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.contracts.messages import encode_attestation
from btcfi.errors import NotFoundError
from btcfi.options.expiry import SettlementInput
from btcfi.options.terms import OptionKind
from btcfi.oracle.announcement import announce
from btcfi.oracle.attestation import AlreadyAttestedError, EventHeldError, WrongAttestationError, attest
from btcfi.oracle.consensus import ConsensusRule
from btcfi.oracle.quote import Feed
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.status import status_of
from btcfi.units import BasisPoints, CentiBtc, Cents, CentsPerBtc, Slot, UnixSeconds
from settings.deployment import Deployment
from tests.support.backup_v1 import pack_v1, unpack_v1, write_v1
from tests.support.contracts import MemoryLedger
from tests.support.rounds import add_minute
from workers.cli import build
from workers.machine import oracles

FEED = Feed("BTC/USD")
NOW = UnixSeconds(1_700_000_040)


def rule_of(_sha256):
    return ConsensusRule()


SLOT = Slot(1_699_999_980)
EXPIRY = Slot(SLOT + 600)
RESTORED = UnixSeconds(EXPIRY + 3600)
SECRETS = tuple(bytes([n]) * 32 for n in (1, 2, 3))
PASSPHRASE = "correct horse battery"


def sold(store, name="one", expiry=EXPIRY):
    """An option that waits for its expiry, announced by three oracles; returns its event."""
    wanted = options.OptionOrder(
        option_id=name, kind=OptionKind.CALL, strike=CentsPerBtc(5_000_000), quantity=CentiBtc(5), barrier=None,
        american=False, expiry=expiry, premium=Cents(30_000), volatility=BasisPoints(6000), rate=BasisPoints(500),
    )  # fmt: skip
    with store.transaction() as session:
        row = options.create_option(
            session, wanted, feed=FEED, now=NOW, preset="standard", preset_sha256="00" * 32,
            program="option_settlement", program_sha256="00" * 32,
        )  # fmt: skip
        event = options.event_of(row)
        announced = [announce(secret, event) for secret in SECRETS]
        attesting.store_event(session, event, options.condition_of_row(row), announced, now=NOW)
        assert cross(session, row, "ACTIVE", now=NOW)
    return event


def price(store, slot, cents):
    with store.transaction() as session:
        add_minute(session, slot, cents)


def restored_from(store, tmp_path, *, now=RESTORED, name="restored"):
    """The store after a backup of it was restored onto another machine, without the file between; and what is held."""
    with closing(sqlite3.connect(store.engine.url.database)) as now_lost:
        now_lost.execute("VACUUM INTO ?", (f"{tmp_path}/{name}.db",))
    after = Store(f"sqlite:///{tmp_path}/{name}.db")
    with after.transaction() as session:
        return after, [row.event_id for row in holds.hold_undecided(session, rule_of, taken_at=NOW, now=now)]


def attested(store, event, secret=SECRETS[0]):
    """What the service asks of one oracle: nothing while it holds the event, then what that computes from the minutes.

    Raises EventHeldError where it asks for nothing.
    """
    with store.reading() as session:
        announced, _ = attesting.to_collect(session, event.id.hex())
        if not announced:
            raise EventHeldError(event.id)
        outcome = holds.imported_outcome(session, event)
        if outcome is None:
            outcome = event.outcome(fixing_of(session, FEED, event.fixing, event.expiry, rule_of("")).price)
    mine = next(one for one in announced if one.oracle_key == public_key_xonly(secret))
    return attest(secret, mine, outcome, MemoryLedger())


def expire(store):
    with store.transaction() as session:
        return options.expire_due(session, FEED, rule_of, now=RESTORED, batch_size=64)


def log_of(store, event):
    with store.reading() as session:
        rows = session.exec(select(EventRow).where(EventRow.entity == "held_event").order_by(EventRow.id)).all()
    return [(row.to_state, row.detail) for row in rows if row.entity_id == event.id.hex()]


@pytest.fixture
def origin(tmp_path):
    """The machine that is going to be lost."""
    made = Store(f"sqlite:///{tmp_path}/origin.db")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def lost(origin, tmp_path):
    """A machine that attested $61,000 after its backup; the restored one sees $70,000 in the next minute."""
    price(origin, SLOT, 5_000_000)
    event = sold(origin)
    after, held = restored_from(origin, tmp_path)
    price(origin, EXPIRY, 6_100_000)
    published = attested(origin, event)
    price(after, EXPIRY + 3660, 7_000_000)
    yield after, event, published, held
    after.close()


def test_an_event_whose_minute_the_backup_has_not_priced_is_held_and_no_oracle_attests_it(lost):
    after, event, _, held = lost
    assert held == [event.id.hex()]
    for secret in SECRETS:
        with pytest.raises(EventHeldError, match=rf"{event.id.hex()} .*btcfi oracle import"):
            attested(after, event, secret)
    with after.reading() as session:
        assert session.exec(select(AttestationRow)).all() == []
    assert log_of(after, event) == [("held", f"restored from a backup of {NOW}")]


def test_nothing_is_settled_by_a_held_event_and_whoever_asks_is_told_why(lost):
    after, event, _, _ = lost
    assert expire(after) == 0
    with after.transaction() as session:
        settlements.request_settlement(session, "one", requested_by="test", now=RESTORED)
        assert event.id.hex() in settlements.answer_request(session, "one", rule_of, now=RESTORED)


def test_an_imported_attestation_releases_its_event_with_exactly_its_outcome(lost):
    after, event, published, _ = lost
    with after.transaction() as session:
        assert holds.import_attestation(session, published, now=RESTORED, by="test")
        assert not holds.import_attestation(session, published, now=RESTORED, by="test")
    assert attested(after, event) == published
    assert {attested(after, event, secret).outcome for secret in SECRETS} == {61_000}
    with after.reading() as session:
        kept = attesting.attestations_of(session, event.id.hex())
    assert kept == [published]
    assert expire(after) == 1
    with after.reading() as session:
        row = session.exec(select(SettlementRow)).one()
        assert SettlementInput.from_bytes(bytes.fromhex(row.input_hex)).spot == 6_100_000
    assert [state for state, _ in log_of(after, event)] == ["held", "imported"]


def test_what_is_imported_stands_in_the_ledger_of_our_own_oracle_too_which_then_attests_nothing_else(lost, tmp_path):
    after, event, published, _ = lost
    deployment = Deployment(data_dir=tmp_path / "data")
    folder = oracles.folder_of(deployment, 0)
    folder.create(SECRETS[0])
    folder.hold(taken_at=NOW, now=RESTORED)
    with pytest.raises(EventHeldError):
        folder.ledger().allow(event.id, event.expiry, published.oracle_key)
    file = tmp_path / "published.json"
    file.write_text(json.dumps(encode_attestation(published)))
    place = {**operator_environment(after), "BTCFI_DATA_DIR": str(deployment.data_dir)}
    assert CliRunner().invoke(build(), ["oracle", "import", str(file)], env=place).exit_code == 0
    folder.ledger().allow(event.id, event.expiry, published.oracle_key)
    with pytest.raises(AlreadyAttestedError):
        attest(SECRETS[0], announce(SECRETS[0], event), 70_000, folder.ledger())


def test_a_forged_attestation_is_refused_and_releases_nothing(lost):
    after, event, published, _ = lost
    stranger = attest(b"\x09" * 32, announce(b"\x09" * 32, event), 61_000, MemoryLedger())
    forged = (
        dataclasses.replace(published, outcome=published.outcome ^ 1),
        dataclasses.replace(published, signatures=published.signatures[:-1]),
        dataclasses.replace(published, oracle_key=public_key_xonly(SECRETS[1])),
        stranger,
    )
    for one in forged:
        with pytest.raises(WrongAttestationError) as caught, after.transaction() as session:
            holds.import_attestation(session, one, now=RESTORED, by="test")
        assert status_of(caught.value).exit_code == 76
    with pytest.raises(EventHeldError):
        attested(after, event)


def test_an_attestation_that_contradicts_the_ledger_is_refused(lost):
    after, event, published, _ = lost
    with after.transaction() as session:
        holds.release(session, event.id.hex(), now=RESTORED, by="test")
    with after.transaction() as session:
        attesting.publish(session, event.id.hex(), [attested(after, event)], [], now=RESTORED)
    assert attested(after, event).outcome == 70_000
    with pytest.raises(AlreadyAttestedError), after.transaction() as session:
        holds.import_attestation(session, published, now=RESTORED, by="test")


def test_an_operators_word_that_nothing_was_published_releases_an_event_and_is_written_down(lost):
    after, event, _, _ = lost
    with after.transaction() as session:
        holds.release(session, event.id.hex(), now=RESTORED, by="alice")
    assert log_of(after, event)[-1] == ("released", "alice says that none was published")
    assert attested(after, event).outcome == 70_000
    assert expire(after) == 1
    with pytest.raises(NotFoundError), after.transaction() as session:
        holds.release(session, event.id.hex(), now=RESTORED, by="alice")


def test_what_the_backup_priced_is_not_held_and_is_attested_as_before(origin, tmp_path):
    price(origin, SLOT, 5_000_000)
    event = sold(origin)
    price(origin, EXPIRY, 6_100_000)
    after, held = restored_from(origin, tmp_path)
    assert held == []
    assert attested(after, event) == attested(origin, event)
    after.close()


def test_what_expires_after_the_restore_is_not_held(origin, tmp_path):
    price(origin, SLOT, 5_000_000)
    event = sold(origin)
    after, held = restored_from(origin, tmp_path, now=UnixSeconds(EXPIRY - 1))
    assert held == []
    price(after, EXPIRY, 6_100_000)
    assert attested(after, event).outcome == 61_000
    after.close()


def test_a_release_does_not_outlive_the_next_restore_and_an_import_does(origin, tmp_path):
    price(origin, SLOT, 5_000_000)
    released, imported = sold(origin), sold(origin, "two", Slot(EXPIRY + 60))
    after, _ = restored_from(origin, tmp_path)
    price(origin, EXPIRY + 60, 6_200_000)
    published = attested(origin, imported)
    with after.transaction() as session:
        holds.release(session, released.id.hex(), now=RESTORED, by="test")
        holds.import_attestation(session, published, now=RESTORED, by="test")
    again, held = restored_from(after, tmp_path, name="again")
    assert held == [released.id.hex()]
    price(again, EXPIRY + 3660, 7_000_000)
    assert attested(again, imported) == published
    after.close()
    again.close()


def test_restoring_a_file_holds_and_a_backup_of_that_store_holds_on(origin, tmp_path):
    price(origin, SLOT, 5_000_000)
    event = sold(origin)
    stores = [origin]
    for name in ("first", "second"):
        file = tmp_path / name
        write_backup(stores[-1], file, secret_files={}, passphrase=PASSPHRASE, now=NOW)
        stores.append(Store(f"sqlite:///{tmp_path}/{name}.db"))
        written = read_backup(file, stores[-1], secret_files={}, passphrase=PASSPHRASE, rule_of=rule_of, now=RESTORED)
        assert written.held == (event.id.hex(),)
        price(stores[-1], EXPIRY + 3660, 7_000_000)
        with pytest.raises(EventHeldError):
            attested(stores[-1], event)
        with stores[-1].transaction() as session:
            session.exec(delete(RoundRow).where(RoundRow.slot == EXPIRY + 3660))
    for one in stores[1:]:
        one.close()


def test_either_database_holds_imports_and_releases(store):
    price(store, SLOT, 5_000_000)
    event, other = sold(store), sold(store, "two", Slot(EXPIRY + 60))
    with store.transaction() as session:
        held = holds.hold_undecided(session, rule_of, taken_at=NOW, now=RESTORED)
        assert [row.event_id for row in held] == [event.id.hex(), other.id.hex()]
    price(store, EXPIRY + 3660, 7_000_000)
    with pytest.raises(EventHeldError):
        attested(store, event)
    with store.transaction() as session:
        published = attest(SECRETS[0], announce(SECRETS[0], event), 61_000, MemoryLedger())
        holds.import_attestation(session, published, now=RESTORED, by="test")
        holds.release(session, other.id.hex(), now=RESTORED, by="test")
    assert (attested(store, event).outcome, attested(store, other).outcome) == (61_000, 70_000)


# ---- a backup of version 1, whose tables nobody vouches for


def forged(origin, tmp_path, *, secret_files=None):
    """A backup of version 1 of a store, into whose tables somebody wrote a minute of their own afterwards."""
    true = tmp_path / "true.backup"
    manifest, parts = unpack_v1(
        write_v1(origin, true, secret_files=secret_files or {}, passphrase=PASSPHRASE, now=NOW)
    )  # fmt: skip
    price(origin, EXPIRY, 7_000_000)
    changed, theirs = unpack_v1(
        write_v1(origin, tmp_path / "theirs", secret_files={}, passphrase="another's own", now=NOW)
    )  # fmt: skip
    kept = {name: parts[name] for name in ("keystore.json", "sealed.bin")}
    return pack_v1(true, manifest | {"rows": changed["rows"]}, theirs | kept)


def restored(file, tmp_path, now=RESTORED):
    after = Store(f"sqlite:///{tmp_path}/after.db")
    return after, read_backup(file, after, secret_files={}, passphrase=PASSPHRASE, rule_of=rule_of, now=now)


def test_a_minute_that_somebody_wrote_into_a_backup_of_version_1_decides_nothing(origin, tmp_path):
    price(origin, SLOT, 5_000_000)
    event = sold(origin)
    after, written = restored(forged(origin, tmp_path), tmp_path)
    assert written.held == (event.id.hex(),)
    with pytest.raises(EventHeldError):
        attested(after, event)
    after.close()


def test_of_a_backup_of_version_1_what_every_oracle_has_signed_is_not_held(origin, tmp_path):
    price(origin, SLOT, 5_000_000)
    price(origin, EXPIRY, 6_100_000)
    event, later, alone = (
        sold(origin),
        sold(origin, "late", Slot(RESTORED + 660)),
        sold(origin, "two", Slot(EXPIRY + 60)),
    )
    said = [attest(secret, announce(secret, event), 61_000, MemoryLedger()) for secret in SECRETS]
    said.append(attest(SECRETS[0], announce(SECRETS[0], alone), 61_000, MemoryLedger()))
    with origin.transaction() as session:
        for one in said:
            attesting.publish(session, one.event.hex(), [one], [], now=NOW)
    file = write_v1(origin, tmp_path / "old", secret_files={}, passphrase=PASSPHRASE, now=NOW)
    after, written = restored(file, tmp_path)
    assert written.held == (alone.id.hex(),)
    assert later.id.hex() not in written.held
    after.close()


@pytest.mark.parametrize("how", ["another outcome", "claimed and not signed", "another's signature"])
def test_of_a_backup_of_version_1_an_attestation_without_its_oracle_s_signature_is_left_out(origin, tmp_path, how):
    price(origin, SLOT, 5_000_000)
    event = sold(origin)
    said = [attest(secret, announce(secret, event), 61_000, MemoryLedger()) for secret in SECRETS]
    with origin.transaction() as session:
        attesting.publish(session, event.id.hex(), said, [], now=NOW)
        row = session.get(AttestationRow, (said[0].oracle_key.hex(), event.id.hex()))
        row.outcome = 70_000 if how == "another outcome" else row.outcome
        row.body = {"claimed and not signed": None, "another's signature": json.dumps(encode_attestation(said[1]))}.get(
            how, row.body
        )
    file = write_v1(origin, tmp_path / "old", secret_files={}, passphrase=PASSPHRASE, now=NOW)
    after, written = restored(file, tmp_path)
    assert written.held == (event.id.hex(),)
    with after.reading() as session:
        assert session.get(AttestationRow, (said[0].oracle_key.hex(), event.id.hex())) is None
        assert attesting.claimed_by(session, said[1].oracle_key.hex()) == [(event.id, 61_000)]
    after.close()


def test_an_event_that_a_backup_of_version_1_calls_imported_or_of_another_day_is_held(origin, tmp_path):
    price(origin, SLOT, 5_000_000)
    imported, moved = sold(origin), sold(origin, "two", Slot(EXPIRY + 60))
    with origin.transaction() as session:
        session.add(HeldEventRow(event_id=imported.id.hex(), state=HoldState.IMPORTED, outcome=70_000))
        session.get(OracleEventRow, moved.id.hex()).expiry_unix = RESTORED + 86_400
    file = write_v1(origin, tmp_path / "old", secret_files={}, passphrase=PASSPHRASE, now=NOW)
    after, written = restored(file, tmp_path)
    assert set(written.held) == {imported.id.hex(), moved.id.hex()}
    with after.reading() as session:
        assert holds.imported_outcome(session, imported) is None
    after.close()


# ---- the commands


def operator_environment(after):
    return Deployment(database_url=after.engine.url.render_as_string(hide_password=False)).environment()


def operator(after, *words):
    return CliRunner().invoke(build(), words, env=operator_environment(after))


def test_the_operator_sees_what_is_held_and_imports_what_a_party_has(lost, tmp_path):
    after, event, published, _ = lost
    shown = json.loads(operator(after, "oracle", "held", "--json").stdout)["held"]
    assert [(one["event_id"], one["expiry_unix"]) for one in shown] == [(event.id.hex(), EXPIRY)]
    assert "btcfi oracle import" in operator(after, "oracle", "held").stderr
    file, stray = tmp_path / "one.attestation.json", tmp_path / "stray.attestation.json"
    file.write_text(json.dumps(encode_attestation(published)))
    stray.write_text(json.dumps(encode_attestation(published) | {"event_id": "77" * 32}))
    done = operator(after, "oracle", "import", str(file), str(stray))
    assert (done.exit_code, done.stdout) == (0, "1 imported, 0 known, 1 of unknown events\n")
    assert json.loads(operator(after, "oracle", "held", "--json").stdout) == {"held": []}
    assert attested(after, event).outcome == 61_000


def test_of_several_files_one_forged_imports_none(lost, tmp_path):
    after, event, published, _ = lost
    good, bad = encode_attestation(published), encode_attestation(published) | {"outcome": published.outcome ^ 1}
    for name, body in (("a", good), ("b", bad)):
        (tmp_path / name).write_text(json.dumps(body))
    refused = operator(after, "oracle", "import", str(tmp_path / "a"), str(tmp_path / "b"))
    assert isinstance(refused.exception, WrongAttestationError)
    with pytest.raises(EventHeldError):
        attested(after, event)


def test_a_release_needs_the_operators_word(lost):
    after, event, _, _ = lost
    assert operator(after, "oracle", "release", event.id.hex()).exit_code != 0
    assert operator(after, "oracle", "release", "--none-published").exit_code != 0
    with pytest.raises(EventHeldError):
        attested(after, event)
    assert operator(after, "oracle", "release", "--all", "--none-published").stdout == "1 released\n"
    assert attested(after, event).outcome == 70_000


def restored_by_command(tmp_path, file, *more):
    there = Deployment(data_dir=tmp_path / "data", database_url=f"sqlite:///{tmp_path}/data/btcfi.db")
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    words = ("restore", str(file), "--passphrase-file", str(tmp_path / "passphrase"), *more)
    return there, CliRunner().invoke(build(), words, env=there.environment(), catch_exceptions=False)


@pytest.mark.parametrize("version", [1, 2])
def test_after_a_restore_no_oracle_signs_by_a_table_that_somebody_changed_in_the_backup(origin, tmp_path, version):
    price(origin, SLOT, 5_000_000)
    event = sold(origin)
    for number, secret in enumerate(SECRETS):
        OracleFolder(tmp_path / "lost" / f"oracle-{number}").create(secret)
    secret_files = {"oracles": tmp_path / "lost"}
    file = tmp_path / "sealed.backup"
    if version == 1:
        file = forged(origin, tmp_path, secret_files=secret_files)
    else:
        write_backup(origin, file, secret_files=secret_files, passphrase=PASSPHRASE, now=NOW)
        price(origin, EXPIRY, 7_000_000)
        write_backup(origin, tmp_path / "theirs", secret_files={}, passphrase="another's own", now=NOW)
        whole, theirs = file.read_bytes(), (tmp_path / "theirs").read_bytes()
        file.write_bytes(whole[: len(whole) // 2] + theirs[len(whole) // 2 :])
        with pytest.raises(NotABackupError):
            restored_by_command(tmp_path, file)
        assert not (tmp_path / "data" / "oracles").exists()
        return
    there, done = restored_by_command(tmp_path, file)
    assert "its tables are not" in done.stderr
    for folder in oracles.folders_of(there):
        assert folder.public_key() in {public_key_xonly(secret) for secret in SECRETS}
        with pytest.raises(EventHeldError):
            folder.ledger().allow(event.id, event.expiry, folder.public_key())
