"""A party's guest in a child: the numbers of the party's own process, from a child that is there only for a while."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from btcfi.adapters.party import guest as guest_module
from btcfi.adapters.party.guest import Guest, GuestAside, answer, guest_here_or_aside
from btcfi.contracts.payouts import price_input
from btcfi.errors import InvalidInputError, UnreachableError
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Slot
from btcfi.vm.machine import MachineFaultError
from btcfi.vm.program import load_program
from tests.support.vm_programs import EBREAK, program_of

pytestmark = pytest.mark.integration

PROGRAM = load_program("option_settlement")
PRICES = [CentsPerBtc(price) for price in (1, 4_999_999, 5_000_000, 5_000_100, 9_000_000)]
CALL = OptionTerms(
    kind=OptionKind.CALL, strike=CentsPerBtc(5_000_000), quantity=CentiBtc(2), barrier=None, american=False,
    expiry=Slot(1_700_000_040), premium=Cents(1), collateral=required_collateral(OptionKind.CALL, CentiBtc(2)),
)  # fmt: skip


@pytest.fixture
def aside():
    guest = GuestAside(PROGRAM)
    yield guest
    guest.close()
    assert not guest.warm


def test_the_child_computes_what_the_party_itself_would_and_is_asked_again_while_it_is_warm(aside):
    given = price_input(CALL, PRICES[-1]).to_bytes()
    assert not aside.warm
    assert aside.payouts(CALL)(PRICES) == Guest(PROGRAM).payouts(CALL)(PRICES)
    child = aside.pid
    assert aside.prove(given) == Guest(PROGRAM).prove(given)
    assert aside.pid == child


def test_a_child_that_nobody_asks_ends_itself_and_the_next_question_starts_another():
    guest = GuestAside(PROGRAM, warm_seconds=0.2)
    first = guest.payouts(CALL)(PRICES)
    child, deadline = guest.pid, time.monotonic() + 20
    while guest.warm:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert guest.payouts(CALL)(PRICES) == first
    assert guest.pid != child
    guest.close()


def test_a_child_that_was_killed_is_replaced_once_and_a_guest_that_cannot_run_is_named(aside, monkeypatch):
    aside.payouts(CALL)(PRICES)
    os.kill(aside.pid, signal.SIGKILL)
    assert aside.payouts(CALL)(PRICES) == Guest(PROGRAM).payouts(CALL)(PRICES)
    aside.close()
    monkeypatch.setattr(aside, "_warm_seconds", "no number")
    with pytest.raises(UnreachableError):
        aside.payouts(CALL)(PRICES)


def test_a_fault_of_the_guest_reaches_the_party_as_what_it_is(aside, monkeypatch):
    broken = Guest(program_of([EBREAK]))
    monkeypatch.setattr(aside, "_said", lambda line: json.dumps(answer(broken, json.loads(line))))
    for ask in (aside, broken):
        with pytest.raises(MachineFaultError) as caught:
            ask.prove(b"")
        assert (caught.value.stop.name, caught.value.steps) == ("BREAKPOINT", 0)


@pytest.mark.parametrize("length", [0, 59, 5_000])
def test_an_input_that_the_machine_refuses_is_refused_by_the_child_too_and_not_asked_for_ever(aside, length):
    said = []
    for ask in (aside, Guest(PROGRAM)):
        with pytest.raises(InvalidInputError) as caught:
            ask.outputs([b"x" * length])
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert aside.warm


def test_a_child_that_is_killed_in_the_middle_of_its_answer_has_answered_nothing(aside, monkeypatch):
    expected = Guest(PROGRAM).payouts(CALL)(PRICES)
    half = 'import sys; sys.stdin.readline(); sys.stdout.write(\'{"outputs": ["00\'); sys.stdout.flush()'
    start, starts = subprocess.Popen, []

    def started(command, **options):
        starts.append(command)
        return start([sys.executable, "-c", half] if len(starts) == 1 else command, **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    assert aside.payouts(CALL)(PRICES) == expected
    assert len(starts) == 2


def test_a_child_that_says_nothing_is_given_up_and_killed(aside, monkeypatch):
    monkeypatch.setattr(guest_module, "ANSWER_SECONDS", 0.5, raising=False)
    start, made = subprocess.Popen, []

    def started(_command, **options):
        made.append(start([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(UnreachableError):
        aside.payouts(CALL)(PRICES)
    assert [one.wait(10) for one in made] == [-signal.SIGKILL] * 2


def test_a_child_takes_no_code_from_the_folder_in_which_its_party_happens_to_run(tmp_path):
    for name in ("json.py", "select.py", "btcfi.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'taken')!r}, 'w').close()\nraise SystemExit\n")
    program = (
        "from btcfi.adapters.party.guest import GuestAside\nfrom btcfi.vm.program import load_program\n"
        "guest = GuestAside(load_program('option_settlement'))\n"
        "print(len(guest.prove(bytes(guest.program.input_size.base))[1]))\nguest.close()\n"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": root},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not (tmp_path / "taken").exists()
    assert done.stdout == "32\n"


def test_contracts_of_one_retired_program_share_one_child(aside, monkeypatch):
    other = program_of([EBREAK])
    monkeypatch.setattr(guest_module, "load_program_by_hash", lambda _: other)
    first = aside.of(other.program_hash)
    assert aside.of(other.program_hash) is first
    assert first.of(PROGRAM.program_hash) is not None
    first._child = first._start()
    aside.close()
    assert not first.warm


def test_a_party_runs_the_guest_itself_only_where_the_interpreter_is_loaded_already(monkeypatch):
    monkeypatch.setitem(sys.modules, "btcfi.vm.interpreter", object())
    assert type(guest_here_or_aside(PROGRAM)) is Guest
    monkeypatch.delitem(sys.modules, "btcfi.vm.interpreter")
    assert type(guest_here_or_aside(PROGRAM)) is GuestAside
