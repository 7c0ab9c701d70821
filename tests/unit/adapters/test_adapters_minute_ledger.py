"""The ledger of minutes on the disk: one price a minute, across restarts, torn lines, pruning, loss and a restore."""

import multiprocessing

import pytest

from btcfi.adapters.minute_ledger import FileMinuteLedger
from btcfi.errors import InvalidInputError
from btcfi.oracle.attestation import AlreadyAttestedError
from btcfi.oracle.fixing import LeftOut
from btcfi.oracle.minute_event import MinuteForgottenError, MinuteUnsignedError, announce_minute, attest_minute
from btcfi.units import CentsPerBtc, Hash32, Slot
from tests.support.contracts import ORACLES
from tests.support.minutes import EVENT

KEY, SERIES = b"\x01" * 32, Hash32(b"\x02" * 32)


def claim(ledger, minute, price, series=SERIES):
    return ledger.claim(oracle_key=KEY, series=series, slot=Slot(60 * minute), said=CentsPerBtc(price))


def the_file(folder):
    (found,) = folder.glob("*.minutes")
    return found


def test_the_first_price_of_a_minute_stands_after_a_restart(tmp_path):
    assert claim(FileMinuteLedger(tmp_path), 100, 5_000) == 5_000
    assert claim(FileMinuteLedger(tmp_path), 100, 6_000) == 5_000
    assert claim(FileMinuteLedger(tmp_path), 101, 6_000) == 6_000
    assert claim(FileMinuteLedger(tmp_path), 100, 6_000, series=Hash32(b"\x03" * 32)) == 6_000


def test_a_torn_line_is_a_claim_that_never_returned(tmp_path):
    claim(FileMinuteLedger(tmp_path), 100, 5_000)
    claim(FileMinuteLedger(tmp_path), 101, 5_000)
    path = the_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-3])
    assert claim(FileMinuteLedger(tmp_path), 101, 7_000) == 7_000
    assert claim(FileMinuteLedger(tmp_path), 100, 7_000) == 5_000


def test_old_minutes_leave_their_mark_and_are_signed_no_more(tmp_path):
    ledger = FileMinuteLedger(tmp_path, kept=10)
    for minute in range(1_000, 1_400):
        claim(ledger, minute, minute)
    rows = the_file(tmp_path).read_text().splitlines()
    assert len(rows) < 300
    with pytest.raises(MinuteForgottenError):
        claim(FileMinuteLedger(tmp_path), 1_000, 1_000)
    assert claim(FileMinuteLedger(tmp_path), 1_399, 1) == 1_399


def test_a_ledger_that_was_lost_signs_nothing_before_its_first_minute(tmp_path):
    ledger = FileMinuteLedger(tmp_path)
    claim(ledger, 100, 5_000)
    the_file(tmp_path).unlink()
    claim(ledger, 101, 5_000)
    with pytest.raises(MinuteForgottenError):
        claim(ledger, 100, 6_000)


def test_after_a_restore_no_minute_up_to_now_is_signed_again(tmp_path):
    ledger = FileMinuteLedger(tmp_path)
    claim(ledger, 100, 5_000)
    ledger.forget_up_to(Slot(60 * 200))
    for minute in (100, 150, 200):
        with pytest.raises(MinuteForgottenError):
            claim(FileMinuteLedger(tmp_path), minute, 5_000)
    assert claim(FileMinuteLedger(tmp_path), 201, 5_000) == 5_000


@pytest.mark.parametrize(
    "text", ["", "rubbish\n", '[0]\n[60, "cheap"]\n', "[0]\n[60, true]\n", "[0]\n[60]\n", "{}\n", '["a", "b", "c"]\n']
)
def test_a_file_that_is_no_ledger_stops_the_oracle(tmp_path, text):
    claim(FileMinuteLedger(tmp_path), 100, 5_000)
    the_file(tmp_path).write_text(text)
    with pytest.raises(InvalidInputError):
        claim(FileMinuteLedger(tmp_path), 101, 5_000)


def race(folder, price, told):
    told.put(claim(FileMinuteLedger(folder), 100, price))


def test_of_processes_that_ask_at_once_one_price_stands(tmp_path):
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    processes = [context.Process(target=race, args=(tmp_path, price, told)) for price in range(1, 6)]
    for process in processes:
        process.start()
    found = {told.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1


def test_an_oracle_on_this_ledger_signs_one_price_a_minute(tmp_path):
    announced = announce_minute(ORACLES[0], EVENT)
    said = attest_minute(ORACLES[0], announced, CentsPerBtc(6_523_000), FileMinuteLedger(tmp_path))
    assert attest_minute(ORACLES[0], announced, CentsPerBtc(6_523_000), FileMinuteLedger(tmp_path)) == said
    with pytest.raises(AlreadyAttestedError):
        attest_minute(ORACLES[0], announced, CentsPerBtc(6_523_001), FileMinuteLedger(tmp_path))


@pytest.mark.parametrize("why", [LeftOut.VOID, LeftOut.THIN])
def test_a_minute_that_stands_there_as_unfit_is_signed_for_no_price(tmp_path, why):
    announced = announce_minute(ORACLES[0], EVENT)
    said = FileMinuteLedger(tmp_path).claim(
        oracle_key=announced.oracle_key, series=EVENT.series, slot=EVENT.slot, said=why
    )  # fmt: skip
    assert said is why
    with pytest.raises(MinuteUnsignedError, match=why.value):
        attest_minute(ORACLES[0], announced, CentsPerBtc(6_523_000), FileMinuteLedger(tmp_path))


def test_a_ledger_begins_after_the_moment_it_is_given_and_at_no_other_later(tmp_path):
    for begins in (200, 100, 300):
        book = FileMinuteLedger(tmp_path).book(oracle_key=KEY, series=SERIES, begins_after=Slot(60 * begins))
        assert book.mark == 60 * 200
    with pytest.raises(MinuteForgottenError):
        claim(FileMinuteLedger(tmp_path), 200, 5_000)
    assert claim(FileMinuteLedger(tmp_path), 201, 5_000) == 5_000
