"""The table of memory: honest runs pass, a lie about memory is a false step, and what a look may miss is a number."""

import json
from dataclasses import replace
from functools import cache

import pytest

from btcfi.proofs.errors import (
    ProofError,
    ProofInputSizeError,
    ProofOutputError,
    ProofPathError,
    ProofProgramError,
    ProofRootError,
    ProofStepError,
)
from btcfi.proofs.memory_table import NOWHERE, MemoryRow, build_table_proof, commit, look, table_of
from btcfi.vm.interpreter import run
from btcfi.vm.machine import OUTPUT_BASE
from btcfi.vm.program import load_program
from btcfi.vm.trace import MemoryKind
from tests.support.forgeries import RAM_BASE, lying_run
from tests.support.paths import VECTORS_FOLDER
from tests.support.vm_programs import ECALL, i_type, load_constant, program_of, s_type

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]


@cache
def settlement():
    return load_program("option_settlement")


@cache
def honest():
    return run(settlement(), bytes.fromhex(VECTORS[0]["input"]))


OVERWRITTEN, BETWEEN, LOAD = 7, 8, 9
"""The steps of the second store, of one without an access, and of the load."""


@cache
def twice():
    """Store 1, store 2 to the same word, load it, store it as output: whoever reads the stale word says 1."""
    words = [*load_constant(RAM_BASE, 5), *load_constant(OUTPUT_BASE, 6), i_type(1, 0, 0, 7), s_type(0, 7, 5, 2),
             s_type(0, 8, 5, 2), i_type(0, 0, 0, 0), i_type(0, 5, 2, 9, 0x03), s_type(0, 9, 6, 2), ECALL]  # fmt: skip
    words[5:5] = [i_type(2, 0, 0, 8)]
    return program_of(words, output_size=4)


@cache
def stale():
    """The run in which the load reads the overwritten word."""
    return lying_run(twice(), b"", lambda step: 1 if step.memory_address == RAM_BASE else None)


def everything(execution, rows, places):
    return commit(execution, rows, places, include=range(execution.steps))


@pytest.mark.parametrize("vector", VECTORS[:4], ids=lambda v: v["input"][:16])
def test_an_honest_run_passes_and_the_look_says_what_it_may_miss(vector):
    execution = run(settlement(), bytes.fromhex(vector["input"]))
    found = look(build_table_proof(execution, settlement()), settlement())
    assert found.claimed_output == execution.output
    assert found.chance_to_miss == pytest.approx((1 - 1 / (execution.steps - 1)) ** 16)
    assert "no verdict" in found.words
    assert len(found.steps_checked) < execution.steps


def test_each_step_of_an_honest_run_passes_its_check():
    rows, places = table_of(honest(), settlement())
    found = look(everything(honest(), rows, places), settlement())
    assert found.steps_checked == tuple(range(honest().steps))


def test_a_pointer_from_a_load_to_a_write_of_its_value_lets_a_stale_write_pass():
    """The rule that would be simpler: each load names an earlier store to its address of the value that it read."""
    trace = [stale().trace.step(n) for n in range(stale().steps)]
    assert stale().output != run(twice(), b"").output
    stores = [one for one in trace if one.memory_kind is MemoryKind.STORE]
    for load in (one for one in trace if one.memory_kind is MemoryKind.LOAD):
        assert any(
            one.index < load.index and one.memory_address == load.memory_address
            and one.memory_value == load.memory_value
            for one in stores
        )  # fmt: skip


def _in_order(rows, places):
    return rows, places


def _load_before_the_second_store(rows, places):
    at = places[LOAD]
    return [*rows[: at - 1], rows[at], rows[at - 1], *rows[at + 1 :]], _named(places, {LOAD: at - 1, OVERWRITTEN: at})


def _second_store_left_out(rows, places):
    at = places[OVERWRITTEN]
    moved = [place - 1 if place != NOWHERE and place > at else place for place in places]
    return [*rows[:at], *rows[at + 1 :]], _named(moved, {OVERWRITTEN: NOWHERE})


def _a_store_that_no_step_made(rows, places):
    at = places[LOAD]
    moved = [place + 1 if place != NOWHERE and place >= at else place for place in places]
    return [*rows[:at], MemoryRow(RAM_BASE, BETWEEN, 1), *rows[at:]], moved


def _the_second_store_without_effect(rows, places):
    at = places[OVERWRITTEN]
    return [*rows[:at], replace(rows[at], word=1), *rows[at + 1 :]], places


def _named(places, changes):
    return [changes.get(step, place) for step, place in enumerate(places)]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (_in_order, "step 9 reads 0x1, memory holds 0x00000002 there"),
        (_load_before_the_second_store, "not sorted"),
        (_second_store_left_out, "step 7 has a place in memory's table and no access, or an access and no place"),
        (_a_store_that_no_step_made, "step 9: the row before its own is no step's"),
        (_the_second_store_without_effect, "step 7: memory does not hold 0x00000001 after it"),
    ],
)
def test_a_stale_write_is_a_false_step_however_the_table_is_made(table, why):
    rows, places = table_of(stale(), twice())
    assert stale().trace.step(LOAD).memory_kind is MemoryKind.LOAD
    rows = [replace(row, word=1) if row.step == LOAD else row for row in rows]
    with pytest.raises(ProofStepError, match=why):
        look(everything(stale(), *table(rows, places)), twice())


def test_a_store_cannot_be_left_out_of_the_output_whichever_steps_the_root_picks():
    claimed = replace(honest(), output=bytes(24) + bytes(8) + honest().output[32:])
    assert claimed.output != honest().output
    with pytest.raises(ProofOutputError):
        look(commit(claimed, *table_of(honest(), settlement())), settlement())
    address = OUTPUT_BASE + 24
    rows, places = table_of(honest(), settlement())
    dropped = [place for place, row in enumerate(rows) if row.address == address and row.step]
    assert dropped
    kept = [row for place, row in enumerate(rows) if place not in dropped]
    by_step = {row.step: place for place, row in enumerate(kept)}
    places = [by_step.get(step, NOWHERE) for step in range(honest().steps)]
    with pytest.raises(ProofError):
        look(everything(claimed, kept, places), settlement())


def test_one_lying_load_from_memory_is_one_false_step():
    target = next(
        step for step in map(honest().trace.step, range(honest().steps))
        if step.memory_kind is MemoryKind.LOAD and step.memory_address >= RAM_BASE
    )  # fmt: skip
    lied = lying_run(
        settlement(), honest().input_bytes, lambda one: target.memory_value ^ 1 if one.index == target.index else None
    )
    rows, places = table_of(lied, settlement())
    with pytest.raises(ProofStepError, match=f"step {target.index} reads"):
        look(everything(lied, rows, places), settlement())


def test_words_that_were_never_written_are_zero_by_two_neighbours_or_by_an_empty_table():
    nothing = program_of([ECALL], output_size=8)
    assert look(build_table_proof(run(nothing, b""), nothing), nothing).chance_to_miss == 0
    with pytest.raises(ProofOutputError):
        look(build_table_proof(replace(run(nothing, b""), output=b"\1" + bytes(7)), nothing), nothing)
    last = program_of([*load_constant(OUTPUT_BASE, 6), i_type(7, 0, 0, 7), s_type(4, 7, 6, 0), ECALL], output_size=12)
    found = look(build_table_proof(run(last, b""), last), last)
    assert found.claimed_output == bytes(4) + b"\7" + bytes(7)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"program_hash": bytes(32)}, ProofProgramError),
        ({"output": bytes(4)}, ProofProgramError),
        ({"input_bytes": bytes(61)}, ProofInputSizeError),
        ({"input_bytes": bytes(60)}, ProofRootError),
        ({"accesses": 1}, ProofRootError),
        ({"memory_root": bytes(32)}, ProofRootError),
        ({"opened": ()}, ProofPathError),
        ({"rows": ()}, ProofPathError),
        ({"row_siblings": ()}, ProofPathError),
        ({"step_siblings": ()}, ProofPathError),
    ],
)
def test_a_changed_field_is_refused(change, error):
    with pytest.raises(error):
        look(replace(build_table_proof(honest(), settlement()), **change), settlement())


def test_a_row_that_is_not_opened_is_refused():
    proof = build_table_proof(honest(), settlement())
    for place in range(len(proof.rows)):
        with pytest.raises(ProofError):
            look(replace(proof, rows=proof.rows[:place] + proof.rows[place + 1 :]), settlement())
