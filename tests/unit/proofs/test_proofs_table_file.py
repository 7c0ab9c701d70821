"""Proof files with a table of memory: read as written, run again for a verdict, looked at with a chance that holds."""

import json
from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest
from typer.testing import CliRunner

from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError
from btcfi.proofs.errors import ProofError, ProofExecutionError, ProofStepError, ProofVersionError
from btcfi.proofs.explain import diff_runs
from btcfi.proofs.memory_table import (
    MAX_OPENED,
    TABLE_STEPS,
    build_table_proof,
    chance_to_miss,
    commit,
    look,
    table_of,
)
from btcfi.proofs.settlement_proof import Depth, Inspected, Verified, build_proof, from_json, inspect, to_json, verify
from btcfi.proofs.table_file import (
    examine_any,
    proof_in,
    prove_with_table,
    table_from_json,
    table_to_json,
    verify_table,
)
from btcfi.surfaces import vm_cli
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.v1 import check
from btcfi.units import UnixSeconds
from btcfi.vm.interpreter import run
from btcfi.vm.machine import OUTPUT_BASE
from btcfi.vm.program import load_program
from btcfi.vm.trace import MemoryKind
from tests.support.forgeries import RAM_BASE, lying_run, without_store
from tests.support.paths import VECTORS_FOLDER
from tests.support.vm_programs import ECALL, counting_program, i_type, load_constant, program_of, s_type

INPUT = bytes.fromhex(json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"][0]["input"])


@cache
def settlement():
    return load_program("option_settlement")


@cache
def proof():
    return prove_with_table(settlement(), INPUT)


@cache
def overwriting():
    """Store 1, then 2, to one word; load it, store it as output. Its input is not read: each makes another root."""
    words = [*load_constant(RAM_BASE, 5), *load_constant(OUTPUT_BASE, 6), i_type(1, 0, 0, 7), i_type(2, 0, 0, 8),
             s_type(0, 7, 5, 2), s_type(0, 8, 5, 2), i_type(0, 5, 2, 9, 0x03), s_type(0, 9, 6, 2), ECALL]  # fmt: skip
    return program_of(words, output_size=4)


def stale(data):
    return lying_run(overwriting(), data, lambda one: 1 if one.memory_address == RAM_BASE else None)


def looked_at(execution, **more):
    """The rows that its own steps say, in order: the best table that a liar has."""
    return commit(execution, *table_of(execution, overwriting()), **more)


def test_a_file_is_read_as_it_was_written_and_is_the_program_run_again():
    text = table_to_json(proof())
    assert table_from_json(text) == proof() == proof_in(text.encode())
    found = examine_any(proof_in(text), settlement(), depth=Depth.EXECUTE)
    assert isinstance(found, Verified)
    assert (found.output, found.steps) == (proof().output, proof().steps)
    assert proof_in(to_json(build_proof(run(settlement(), INPUT)))).version == 1


def test_a_root_follows_from_the_written_format_and_hashlib_alone():
    """Section 10 of docs/proofs.md, written out with nothing of ours but the interpreter's rows."""

    def tagged(tag, data):
        key = sha256(tag.encode()).digest()
        return sha256(key + key + data).digest()

    def tree(leaves):
        while len(leaves) & (len(leaves) - 1):
            leaves.append(tagged("BTCFi/trace/leaf", b""))
        while len(leaves) > 1:
            leaves = [tagged("BTCFi/trace/node", a + b) for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
        return leaves[0]

    def u32(*numbers):
        return b"".join(number.to_bytes(4, "little") for number in numbers)

    execution = run(settlement(), INPUT)
    memory, table = {}, []
    for region in settlement().regions:
        memory.update(enumerate(INPUT if region.base == 0x8000_0000 else region.data, region.base))
    packed = execution.trace.leaves()
    for number, row in enumerate(packed):
        kind, size, address = row[140], row[141], int.from_bytes(row[142:146], "little")
        if kind == 2:
            memory.update(enumerate(row[146 : 146 + size], address))
        if kind:
            word = address & ~3
            table.append((word, number, bytes(memory.get(word + n, 0) for n in range(4))))
    places = {number: place for place, (_, number, _) in enumerate(sorted(table))}
    steps = tree([tagged("BTCFi/trace/v2/leaf", row + u32(places.get(n, 0xFFFF_FFFF))) for n, row in enumerate(packed)])
    rows = tree([tagged("BTCFi/trace/v2/memory", u32(*row[:2]) + row[2]) for row in sorted(table)])
    assert (steps, rows) == (proof().execution_trace_root, proof().memory_root)
    record = u32(len(packed), len(table), 16) + steps + rows + sha256(settlement().elf.image()).digest()
    record += tagged("BTCFi/trace/input", INPUT) + u32(len(execution.output)) + sha256(execution.output).digest()
    assert tagged("BTCFi/trace/v2/root", record) == proof().proof_root


def test_a_stale_write_passes_the_look_at_trace_format_1_and_is_missed_in_2_as_often_as_is_said():
    truth = run(overwriting(), b"")
    pairs, samples, tries, missed = truth.steps - 1, 5, 300, 0
    chance = chance_to_miss(truth.steps, samples)
    assert chance == pytest.approx((1 - 1 / pairs) ** samples)
    for number in range(tries):
        lied = stale(number.to_bytes(4, "little"))
        assert lied.output != truth.output
        if number < 20:
            assert isinstance(inspect(build_proof(lied), overwriting(), depth=Depth.SAMPLE), Inspected)
        try:
            found = look(looked_at(lied, samples=samples), overwriting())
        except ProofStepError:
            continue
        missed += 1
        assert found.chance_to_miss == chance
    # three standard deviations; what else is opened can be checked too, so it may be found more often
    assert 0 < missed <= tries * (chance + 3 * (chance * (1 - chance) / tries) ** 0.5)


def test_more_samples_find_what_sixteen_miss():
    lied = next(forged for forged in (stale(n.to_bytes(4, "little")) for n in range(100)) if _passes(looked_at(forged)))
    assert not _passes(looked_at(lied, samples=1024))
    assert chance_to_miss(lied.steps, 1024) < 1e-40


def _passes(forged):
    try:
        look(forged, overwriting())
    except ProofError:
        return False
    return True


def test_a_load_that_lies_passes_at_format_1_whatever_the_root_and_is_one_false_step_at_2():
    honest = run(settlement(), INPUT)
    target = next(
        step for step in map(honest.trace.step, range(honest.steps))
        if step.memory_kind is MemoryKind.LOAD and step.memory_address >= RAM_BASE
    )  # fmt: skip
    lied = lying_run(settlement(), INPUT, lambda one: target.memory_value ^ 1 if one.index == target.index else None)
    assert isinstance(inspect(build_proof(lied, include=[target.index]), settlement(), depth=Depth.SAMPLE), Inspected)
    with pytest.raises(ProofStepError, match=f"step {target.index} reads"):
        look(build_table_proof(lied, settlement(), include=[target.index]), settlement())


def test_a_store_that_is_not_shown_passes_at_format_1_and_has_no_table_at_2():
    honest = run(settlement(), INPUT)
    passing = [without_store(honest, offset) for offset in (24, 0, 16, 8)]
    found = []
    for forged in passing:
        try:
            inspect(forged, settlement(), depth=Depth.SAMPLE)
        except ProofError:
            continue
        found.append(forged)
    claimed = next(replace(honest, output=forged.output) for forged in found if forged.output != honest.output)
    for samples in range(1, 20):
        with pytest.raises(ProofError, match="memory holds"):
            look(commit(claimed, *table_of(honest, settlement()), samples=samples), settlement())


def test_a_run_again_refuses_whatever_a_look_may_miss():
    lied = next(forged for forged in (looked_at(stale(n.to_bytes(4, "little"))) for n in range(100)) if _passes(forged))
    with pytest.raises(ProofExecutionError):
        verify_table(lied, overwriting())
    honest = build_table_proof(run(overwriting(), b""), overwriting())
    assert verify_table(honest, overwriting()).output == (2).to_bytes(4, "little")
    with pytest.raises(ProofExecutionError, match="at most 5"):
        verify_table(honest, overwriting(), max_steps=5)
    rows, places = table_of(run(overwriting(), b""), overwriting())
    other = commit(run(overwriting(), b""), [*rows[:-1], replace(rows[-1], word=3)], places)
    with pytest.raises(ProofError):
        verify_table(other, overwriting())


def test_what_would_be_too_large_is_refused_before_its_tables_are_made():
    with pytest.raises(InvalidInputError, match=str(TABLE_STEPS)):
        prove_with_table(counting_program(2 * TABLE_STEPS), b"")
    for samples in (0, 1025):
        with pytest.raises(InvalidInputError, match="samples"):
            prove_with_table(settlement(), INPUT, samples=samples)
    with pytest.raises(InvalidInputError, match="60 bytes"):
        prove_with_table(settlement(), INPUT + b"\0")
    long = counting_program(MAX_OPENED + 100)
    execution = run(long, b"")
    with pytest.raises(InvalidInputError, match=str(MAX_OPENED)):
        build_table_proof(execution, long, include=range(execution.steps))


def test_a_reader_of_settlements_says_who_reads_a_file_with_a_table():
    with pytest.raises(ProofVersionError, match="`btcfi verify`"):
        from_json(table_to_json(proof()))


def test_the_command_makes_looks_at_and_runs_again_a_proof_with_a_table(tmp_path):
    out = str(tmp_path / "proof.json")
    made = ["prove", "--hex", INPUT.hex(), "--out", out, "--trace-format", "2", "--samples", "400", "--json"]
    told = CliRunner().invoke(vm_cli.app, made)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["steps"] == proof().steps
    looked = CliRunner().invoke(vm_cli.app, ["verify", out, "--depth", "sample", "--json"])
    said = json.loads(looked.stdout)
    assert (looked.exit_code, said["verified"]) == (80, None)
    assert said["chance_to_miss"] == pytest.approx((1 - 1 / (proof().steps - 1)) ** 400)
    assert len(said["steps_checked"]) > 200
    plain = CliRunner().invoke(vm_cli.app, ["verify", out, "--depth", "sample"]).stdout
    assert plain.startswith("no_verdict: no verdict: of ")
    for word in ("verified", "valid", "  ok  ", "has no bound"):
        assert word not in plain
    paths = json.loads(CliRunner().invoke(vm_cli.app, ["verify", out, "--depth", "paths", "--json"]).stdout)
    assert (paths["verified"], paths["steps_checked"], paths["chance_to_miss"]) == (None, [], None)
    again = CliRunner().invoke(vm_cli.app, ["verify", out, "--json"])
    assert (again.exit_code, json.loads(again.stdout)["verified"]) == (0, True)
    assert "ecall" in CliRunner().invoke(vm_cli.app, ["trace", "show", out]).stdout
    one = CliRunner().invoke(vm_cli.app, ["prove", "--hex", INPUT.hex(), "--out", out, "--samples", "5"])
    assert isinstance(one.exception, InvalidInputError)


def test_the_api_looks_at_a_proof_with_a_table_and_runs_it_again(tmp_path):
    deps = Deps(
        store=Store(f"sqlite:///{tmp_path}/none.sqlite"), clock=lambda: UnixSeconds(0), monotonic=lambda: 0.0,
        new_id=lambda: "", feed="BTC/USD", create_option=lambda *_: None, submit=lambda *_: None,
    )  # fmt: skip
    body = table_to_json(proof()).encode()
    found = check(body, "sample", deps)
    assert (found.valid, found.output_hex) == (None, None)
    assert found.chance_to_miss == chance_to_miss(proof().steps, 16)
    assert check(body, "execute", deps).valid is True


def test_a_claim_of_more_steps_than_any_machine_has_room_for_is_refused_before_its_rows_are_reserved():
    huge = replace(build_proof(run(settlement(), INPUT)), steps=(1 << 32) - 1)
    with pytest.raises(ProofExecutionError):
        diff_runs((settlement(), huge), (settlement(), huge))
    with pytest.raises(ProofError):
        verify(huge, settlement())
