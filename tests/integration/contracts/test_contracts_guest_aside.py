"""A party's guest in a child: the numbers of the party's own process, from a child that is there only for a while."""

import json
import os
import signal
import time

import pytest

from btcfi.adapters.party.guest import Guest, GuestAside, answer
from btcfi.contracts.payouts import price_input
from btcfi.errors import UnreachableError
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
