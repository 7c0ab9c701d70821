"""What older code left unfinished, today's code finishes: from a store, keys and a chain that the older code wrote.

The old options settle by the preset and the guest program that their rows name, also after both were replaced; where
one of them is missing they wait, and say which.
"""

import json
import shutil
from contextlib import suppress

import pytest
from sqlmodel import select

from btcfi.adapters.store.chain.tables import TransactionRow
from btcfi.adapters.store.options.contract_tables import ContractRow, OracleEventRow
from btcfi.adapters.store.options.options import event_of
from btcfi.adapters.store.options.settlements import proof_of
from btcfi.adapters.store.options.tables import OptionRow, SettlementRow
from btcfi.adapters.store.spine.views import counters
from btcfi.bitcoin.script import P2A_SCRIPT
from btcfi.bitcoin.transaction import parse_transaction
from btcfi.errors import NotHeldError
from btcfi.units import Slot
from btcfi.vm import program as programs
from guest_programs.build import ROOT
from settings import preset, preset_files
from tasks import chain, control, held, options, settlement
from tests.support.resumed_store import COMMITS, resumed_stage
from tests.support.retired import retire_preset, retire_program
from workers.audit import ChainView, audit
from workers.commands import doctor

pytestmark = pytest.mark.integration

PRICE = 6_000_000
FINISHED = {
    "settled": "EXERCISED", "outside": "EXERCISED", "sent": "EXERCISED", "proven": "EXERCISED",
    "claimed": "EXERCISED", "due": "EXERCISED", "early": "EXERCISED", "call": "EXERCISED",
    "put": "ABANDONED",  # $60,000 is above its strike
    "barrier": "ABANDONED",  # and beyond its barrier
}  # fmt: skip


@pytest.fixture(params=COMMITS)
def commit(request):
    return request.param


def finish(stage, said):
    """Let time pass: the minutes get their prices, leases end, the tasks run, blocks come."""
    for minute in sorted({said["options"][name]["expiry_unix"] for name in ("call", "barrier")}):
        stage.price(PRICE, Slot(minute))
    with stage.here.store.transaction() as session:
        for row in session.exec(select(SettlementRow).where(SettlementRow.state == "claimed")):
            row.lease_until_unix = 0  # its worker died long ago
    go_on(stage)


def go_on(stage):
    """What the queue would carry, each task by itself; then the parties and the blocks."""
    control.reconcile()
    options.expire_due("BTC/USD")
    stage.attest()
    with stage.here.store.reading() as session:
        rows = {row.id: row for row in session.exec(select(SettlementRow))}
    for name, row in rows.items():  # one by one: what was tried before is claimed alone
        if row.state in {"due", "claimed"}:
            settlement.execute_batch([name])
        elif row.state == "executed":
            with suppress(NotHeldError):
                settlement.close_proof([settlement.prove_part(name, 0, row.parts)], name)
    chain.settle()
    for _ in range(2):
        stage.talk()
        stage.mine(6)


def states(stage):
    with stage.here.store.reading() as session:
        return {row.id: row.state for row in session.exec(select(OptionRow))}


def events(stage):
    with stage.here.store.reading() as session:
        booked = {row.option_id: row.event_id for row in session.exec(select(ContractRow))}
        computed = {row.id: event_of(row).id.hex() for row in session.exec(select(OptionRow))}
    assert booked == computed
    return booked


def findings(stage, names):
    view = ChainView()
    view.follow(stage.node)
    found = audit(stage.here.store, view, names)
    return [one for one in found if not one.subject.startswith("round ")]  # the stage puts prices there by hand


def test_every_open_option_of_an_older_store_settles_and_its_event_is_the_same(commit, tmp_path):
    with resumed_stage(tmp_path, commit) as (stage, said):
        assert events(stage) == {name: row["event_id"] for name, row in said["options"].items()}
        finish(stage, said)
        assert states(stage) == FINISHED | {"signed": "ACTIVE", "ordered": "ACTIVE"}
        assert findings(stage, FINISHED) == []


def test_what_an_older_release_had_settled_says_after_the_migration_what_was_paid_and_the_anchor_is_no_fee(
    commit, tmp_path
):
    with resumed_stage(tmp_path, commit) as (stage, _):
        rows = {name: stage.row(SettlementRow, option_id=name) for name in ("settled", "sent", "due")}
        for name in ("settled", "sent"):
            row, option = rows[name], stage.row(OptionRow, id=name)
            sent = stage.row(TransactionRow, txid=row.txid)
            *parties, anchor = parse_transaction(bytes.fromhex(sent.raw_hex)).outputs
            assert (anchor.script, anchor.value) == (P2A_SCRIPT, 240)
            assert row.paid_sats + row.returned_sats == sum(one.value for one in parties)
            assert row.paid_sats + row.returned_sats + 240 + row.fee_sats == option.collateral_sats
            assert sent.fee_sats == row.fee_sats
            assert 0 <= row.payout_sats - row.paid_sats < 50_000  # the preset's step
        assert rows["due"].paid_sats is None
        with stage.here.store.reading() as session:
            kept = counters(session)
        assert kept["settled_paid_sats"] == rows["settled"].paid_sats  # alone confirmed
        assert kept["settled_payout_sats"] == rows["settled"].payout_sats


@pytest.fixture
def replaced(tmp_path, monkeypatch):
    """Presets and programs of a deployment that has replaced both: (retired preset, folder of the programs)."""
    presets = shutil.copytree(preset_files.PRESETS, tmp_path / "presets")
    guests = shutil.copytree(ROOT, tmp_path / "guests", ignore=shutil.ignore_patterns("__pycache__"))
    retired, _ = retire_preset(
        presets, "standard",
        # what would pay, wait, run or confirm otherwise
        rule=("tolerance_bps = 200", "tolerance_bps = 1000"),
        steps=("max_steps = 1048576", "max_steps = 20000"), depth=("confirmations = 6", "confirmations = 1"),
    )  # fmt: skip
    retire_program(guests, "option_settlement", by="vanilla_option")
    monkeypatch.setattr(preset_files, "PRESETS", presets)
    monkeypatch.setattr(programs, "_COMMITTED", guests)
    forget()
    yield retired, guests
    monkeypatch.undo()
    forget()


def forget():
    for known in (preset.load_preset_by_hash, held.program_of, held.emulator_of):
        known.cache_clear()


def test_after_preset_and_program_were_replaced_old_options_settle_by_their_own_and_new_ones_by_the_new(
    commit, replaced, tmp_path
):
    with resumed_stage(tmp_path / "store", commit) as (stage, said):
        assert stage.here.preset.payouts.tolerance == 1_000
        stage.mine(1)  # one confirmation is enough for the new preset, and not for the old options
        finish(stage, said)
        assert {name: state for name, state in states(stage).items() if name in FINISHED} == FINISHED
        assert events(stage) == {name: row["event_id"] for name, row in said["options"].items()}
        assert findings(stage, FINISHED) == []  # payouts in whole steps of 50,000 sats, by the old program
        with stage.here.store.reading() as session:
            for row in session.exec(select(SettlementRow)):
                proof = json.loads(proof_of(session, row))
                assert proof["program_hash"] == said["options"][row.option_id]["program_sha256"]


def test_without_its_preset_an_option_waits_with_the_hash_that_is_missing_until_the_file_is_there(
    commit, replaced, tmp_path
):
    with resumed_stage(tmp_path / "store", commit) as (stage, said):
        sold_by = said["options"]["call"]["preset_sha256"]
        retired = preset_files.PRESETS / "retired" / "options" / f"standard-{sold_by[:8]}.toml"
        text = retired.read_bytes()
        retired.unlink()
        forget()
        finish(stage, said)
        missing = said["options"]["call"]["preset_sha256"]
        before = {name: row["state"] for name, row in said["options"].items()}
        # complete before, or about to be signed by parties that hold the retired guest and whose mandate names it
        assert states(stage) == before | {"sent": "EXERCISED", "signed": "ACTIVE", "ordered": "ACTIVE"}
        assert missing in stage.row(OptionRow, id="call").last_error
        doctor_says = [finding.said for finding in doctor.database(stage.deployment) if finding.name == "open options"]
        assert [missing in said for said in doctor_says] == [True]
        due = stage.row(SettlementRow, option_id="due")
        assert (due.state, due.attempts, missing in due.last_error) == ("due", 0, True)
        retired.write_bytes(text)
        go_on(stage)
        assert {name: state for name, state in states(stage).items() if name in FINISHED} == FINISHED
        with stage.here.store.reading() as session:
            assert [row.last_error for row in session.exec(select(OptionRow)) if row.id in FINISHED] == [None] * 10


def test_without_its_program_a_settlement_waits_with_the_hash_that_is_missing_and_no_other_runs_it(
    commit, replaced, tmp_path
):
    _, guests = replaced
    manifest = guests / "manifest.toml"
    whole = manifest.read_text()
    with resumed_stage(tmp_path / "store", commit) as (stage, said):
        manifest.write_text(whole[: whole.index("[[retired]]")])
        forget()
        finish(stage, said)
        missing = said["options"]["call"]["program_sha256"]
        for name in ("due", "call", "put"):
            row = stage.row(SettlementRow, option_id=name)
            assert (row.state, row.attempts, missing in row.last_error, row.proof_root) == ("due", 0, True, None)
        assert missing in stage.row(SettlementRow, option_id="early").last_error
        assert missing in stage.row(OptionRow, id="signed").last_error
        assert stage.row(ContractRow, option_id="signed").state == "signed"
        manifest.write_text(whole)
        go_on(stage)
        assert {name: state for name, state in states(stage).items() if name in FINISHED} == FINISHED
        assert stage.row(ContractRow, option_id="signed").state == "funded"
        assert findings(stage, FINISHED) == []


def change(stage, name, **columns):
    """What an operator with a database client does; returns what stood there."""
    with stage.here.store.transaction() as session:
        row = session.get_one(OptionRow, name)
        before = {column: getattr(row, column) for column in columns}
        for column, value in columns.items():
            setattr(row, column, value)
    return before


OTHER_RULES = {
    "call": {"preset_sha256": preset.load_preset("replay-study").sha256},  # it is running
    "due": {"preset_sha256": "ab" * 32},  # nobody has run it
    "early": {"program_sha256": programs.load_program("vanilla_option").program_hash.hex()},  # its proof is missing
    "proven": {"preset_sha256": preset.load_preset("replay-study").sha256},  # its oracles have not attested
}


def test_an_option_whose_row_was_given_another_rule_after_the_sale_settles_by_neither_until_it_is_put_back(
    commit, tmp_path
):
    touched = tuple(OTHER_RULES)
    with resumed_stage(tmp_path / "store", commit) as (stage, said):
        before = {name: change(stage, name, **columns) for name, columns in OTHER_RULES.items()}
        was = {name: states(stage)[name] for name in touched}
        finish(stage, said)
        settled = {name: state for name, state in states(stage).items() if name in FINISHED}
        assert settled == {name: state for name, state in FINISHED.items() if name not in touched} | was
        for name in touched:
            row = stage.row(OptionRow, id=name) if name == "call" else stage.row(SettlementRow, option_id=name)
            assert "was changed after the sale" in row.last_error, name
        assert stage.row(SettlementRow, option_id="due").attempts == 0
        assert {one.subject for one in findings(stage, touched) if "was changed after" in one.what} == set(touched)
        told = [one.said for one in doctor.database(stage.deployment) if "was changed after" in one.said]
        assert len(told) == len(touched)
        for name in touched:
            change(stage, name, **before[name])
        go_on(stage)
        assert {name: state for name, state in states(stage).items() if name in FINISHED} == FINISHED
        assert findings(stage, FINISHED) == []
        assert stage.row(OptionRow, id="call").last_error is None


def test_announcements_of_another_event_in_an_event_s_row_attest_and_settle_nothing(commit, tmp_path):
    with resumed_stage(tmp_path / "store", commit) as (stage, said):
        event, other = (said["options"][name]["event_id"] for name in ("call", "put"))
        with stage.here.store.transaction() as session:
            mine, theirs = session.get_one(OracleEventRow, event), session.get_one(OracleEventRow, other)
            assert event != other
            kept, mine.announcements = mine.announcements, theirs.announcements
        finish(stage, said)
        assert states(stage)["call"] == "EXPIRED"
        assert "announcements of" in stage.row(OptionRow, id="call").last_error
        with stage.here.store.transaction() as session:
            session.get_one(OracleEventRow, event).announcements = kept
        go_on(stage)
        assert states(stage)["call"] == "EXERCISED"
