"""Proofs made side by side are those that are made one by one, whatever lies beside them."""

import json
import random
from dataclasses import replace

import pytest

from btcfi.errors import InvalidInputError
from btcfi.proofs import batch
from btcfi.proofs.batch import LEAVES_AT_ONCE, proof_files, proof_roots
from btcfi.proofs.settlement_proof import build_proof, file_of, from_json, to_json, verify
from btcfi.vm.agreement import Emulator, ExecutorsDisagreeError, execute
from btcfi.vm.interpreter import run, run_short
from btcfi.vm.machine import MachineFaultError
from btcfi.vm.program import load_program
from tests.support.paths import VECTORS_FOLDER
from tests.support.vm_programs import counting_program
from tests.unit.proofs.test_proofs_window import window

PROGRAM = load_program("option_settlement")
INPUTS = [
    bytes.fromhex(one["input"])
    for one in json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]
    if "input" in one
]


def settled():
    """Runs of the settlement program that lie in trees of several heights."""
    found = []
    for given in INPUTS:
        try:
            found.append(run(PROGRAM, given, max_steps=4_000))
        except MachineFaultError:
            continue
    return found


def counted():
    """Runs of every length around the powers of two, down to a few steps."""
    return [run(counting_program(steps), b"") for steps in (8, 16, 17, 31, 32, 33, 64, 65, 127, 128, 129, 500, 1_025)]


def test_a_batch_gives_the_very_files_that_single_proofs_are():
    runs = [*settled(), *counted()]
    random.Random(7).shuffle(runs)
    assert len({one.steps for one in runs}) > 10
    made = list(proof_files((one, None) for one in runs))
    assert made == [file_of(build_proof(one)) for one in runs]
    assert list(proof_roots(runs)) == [one.proof_root for one in made]


def test_a_file_of_a_batch_is_canonical_and_verifies():
    (made,) = proof_files([(run(PROGRAM, INPUTS[0]), None)])
    proof = from_json(made.text)
    assert to_json(proof) == made.text
    assert verify(proof, PROGRAM).output == made.output


def test_the_text_is_what_jsons_own_encoder_writes():
    for of in (None, window()):
        text = to_json(build_proof(run(PROGRAM, INPUTS[0]), window=of))
        assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n"


def test_windows_go_into_the_files_of_those_that_have_one():
    of = window()
    runs = [(run(PROGRAM, INPUTS[n]), of if n % 2 else None) for n in range(4)]
    assert [one.text for one in proof_files(runs)] == [to_json(build_proof(one, window=its)) for one, its in runs]


def test_a_generator_of_runs_is_taken_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(batch, "LEAVES_AT_ONCE", 1_000)
    begun = []

    def runs():
        for number in range(9):
            begun.append(number)
            yield run(PROGRAM, INPUTS[0])

    roots = proof_roots(runs())
    assert next(roots) == build_proof(run(PROGRAM, INPUTS[0])).proof_root
    assert len(begun) == -(-1_000 // run(PROGRAM, INPUTS[0]).steps)
    assert len(list(roots)) == 8
    assert LEAVES_AT_ONCE > 1_000


def test_a_run_without_its_whole_trace_is_refused():
    whole = run(PROGRAM, INPUTS[0])
    for wrong in (replace(whole, trace=None), replace(whole, steps=whole.steps + 1)):
        with pytest.raises(InvalidInputError):
            list(proof_roots([whole, wrong]))
        with pytest.raises(InvalidInputError):
            list(proof_files([(wrong, None)]))


def test_a_short_run_is_compared_as_it_was_traced_and_a_long_one_as_before():
    emulator = Emulator(PROGRAM)
    for one in settled()[:6]:
        both = execute(PROGRAM, emulator, one.input_bytes)
        assert file_of(build_proof(both)) == file_of(build_proof(one))
    assert run_short(counting_program(2_000), b"") is None
    assert run_short(PROGRAM, INPUTS[0], max_steps=100) is None


def test_an_emulator_that_says_otherwise_of_a_short_run_stops_it():
    class Liar(Emulator):
        def run(self, input_bytes, *, max_steps=1 << 20):
            said = super().run(input_bytes, max_steps=max_steps)
            return replace(said, memory=said.memory[:-1] + b"\x01")

    with pytest.raises(ExecutorsDisagreeError):
        execute(PROGRAM, Liar(PROGRAM), INPUTS[0])
