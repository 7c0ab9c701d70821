# ruff: noqa: PT012 - which of many steps shows the forgery is the point
"""Each forgery fails at the check that it should, in every depth that has the check."""

import json
from dataclasses import replace
from functools import cache

import pytest

from btcfi.proofs.errors import (
    ProofExecutionError,
    ProofFinalStateError,
    ProofFormatError,
    ProofInputError,
    ProofOutputError,
    ProofPathError,
    ProofProgramError,
    ProofRootError,
    ProofStepError,
    ProofVersionError,
)
from btcfi.proofs.merkle import height_of, leaf_levels, multi_path, node_in, trace_leaves
from btcfi.proofs.settlement_proof import (
    Depth,
    build_proof,
    examine,
    from_json,
    included_steps,
    inspect,
    last_stores,
    root_record_hash,
    sampled_steps,
    to_json,
    verify,
)
from btcfi.vm.interpreter import run
from btcfi.vm.program import load_program
from btcfi.vm.trace import Trace, final_state_hash
from tests.support.paths import VECTORS_FOLDER

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]


@cache
def program():
    return load_program("option_settlement")


@cache
def execution():
    return run(program(), bytes.fromhex(VECTORS[0]["input"]))


@cache
def proof():
    return build_proof(execution())


def reproved(rows, **changes):
    """An honest proof of a dishonest trace: what a cheating prover would send."""
    claimed = replace(execution(), trace=Trace(rows=rows), steps=len(rows), **changes)
    return build_proof(claimed)


@pytest.mark.parametrize("depth", list(Depth))
def test_an_honest_proof_passes_in_every_depth(depth):
    found = examine(proof(), program(), depth=depth)
    output = found.output if depth is Depth.EXECUTE else found.claimed_output
    assert output == execution().output


@pytest.mark.parametrize("depth", list(Depth))
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"program_hash": bytes(32)}, ProofProgramError),
        ({"input_bytes": b"\1" * 60}, ProofInputError),
        ({"final_pc": 0}, ProofFinalStateError),
        ({"output": b"\1" * 40}, ProofFinalStateError),
        ({"output": b""}, ProofOutputError),
        ({"steps": 490}, ProofFinalStateError),
        ({"proof_root": bytes(32)}, ProofRootError),
        ({"execution_trace_root": bytes(32)}, ProofRootError),
        ({"siblings": ()}, ProofPathError),
        ({"included": ()}, ProofPathError),
    ],
)
def test_a_changed_field_fails_its_own_check(change, error, depth):
    with pytest.raises(error):
        examine(replace(proof(), **change), program(), depth=depth)


def test_a_proof_about_one_program_does_not_pass_for_another():
    with pytest.raises(ProofProgramError):
        verify(proof(), load_program("vanilla_option"))


def test_swapping_the_trace_roots_of_two_settlements_is_noticed():
    other = build_proof(run(program(), bytes.fromhex(VECTORS[3]["input"])))
    with pytest.raises(ProofRootError):
        verify(replace(proof(), execution_trace_root=other.execution_trace_root), program())


@pytest.mark.parametrize("siblings", [proof().siblings[:-1], (*proof().siblings, bytes(32))])
def test_a_path_of_the_wrong_length_is_refused(siblings):
    with pytest.raises(ProofPathError):
        inspect(replace(proof(), siblings=siblings), program(), depth=Depth.PATHS)


def test_duplicated_or_reordered_steps_are_refused():
    steps = proof().included
    for changed in ((steps[0], *steps), steps[::-1]):
        with pytest.raises(ProofPathError):
            inspect(replace(proof(), included=changed), program(), depth=Depth.PATHS)


def test_a_step_beyond_the_trace_is_refused():
    beyond = replace(proof().included[-1], index=10_000)
    with pytest.raises(ProofPathError):
        inspect(replace(proof(), included=(*proof().included, beyond)), program(), depth=Depth.PATHS)


def test_a_forged_register_is_found_by_re_execution_whatever_the_prover_includes():
    rows = execution().trace.rows.copy()
    rows[50, 3 + 10] ^= 1
    with pytest.raises(ProofExecutionError):
        verify(reproved(rows), program())


def test_a_forged_register_in_a_sampled_step_is_found_by_executing_that_step_alone():
    rows = execution().trace.rows.copy()
    rows[2:-1, 3 + 28] ^= 1  # t3: nowhere an input of the first or last step
    forged = reproved(rows)
    inspect(forged, program(), depth=Depth.PATHS)  # hashes alone cannot tell
    rows[40:, 3 + 28] ^= 1
    with pytest.raises(ProofStepError):
        for step in range(2, 40):
            inspect(build_proof(replace(execution(), trace=Trace(rows=rows)), include=(step, step + 1)), program(),
                   depth=Depth.SAMPLE)  # fmt: skip


def test_leaving_out_a_step_that_the_root_picks_is_refused():
    picked = sampled_steps(proof().proof_root, proof().steps)[3]
    levels = leaf_levels(trace_leaves(execution().trace), height_of(proof().steps))
    kept = [s for s in proof().included if s.index != picked]
    siblings = multi_path(lambda a, b: node_in(levels, a, b), height_of(proof().steps), [s.index for s in kept])
    shortened = replace(proof(), included=tuple(kept), siblings=siblings)
    stores = last_stores(execution().trace, 40)
    if picked not in {0, proof().steps - 1, *stores.values()}:
        inspect(shortened, program(), depth=Depth.PATHS)
    with pytest.raises((ProofStepError, ProofOutputError)):
        inspect(shortened, program(), depth=Depth.SAMPLE)


def test_an_output_that_no_included_step_stored_is_refused():
    output = bytes(39) + b"\1"
    final = final_state_hash(steps=proof().steps, pc=proof().final_pc, registers=proof().final_registers, output=output)
    root = root_record_hash(
        steps=proof().steps, trace_root=proof().execution_trace_root, program_hash=proof().program_hash,
        input_commitment=proof().input_commitment, final_state_hash=final,
    )  # fmt: skip
    with pytest.raises(ProofOutputError):
        inspect(replace(proof(), output=output, final_state_hash=final, proof_root=root), program(), depth=Depth.PATHS)


def test_a_claim_of_more_steps_than_the_verifier_allows_is_refused_before_running():
    with pytest.raises(ProofExecutionError):
        verify(proof(), program(), max_steps=100)


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda t: t.replace('"version":1', '"version":2'), ProofVersionError),
        (lambda t: t[:1000], ProofFormatError),
        (lambda t: t + " ", ProofFormatError),
        (lambda t: t.replace('","', '" ,"', 1), ProofFormatError),
        (lambda t: t.replace('"steps":', '"steps":491,"steps":'), ProofFormatError),
        (lambda t: "[" * 100_000, ProofFormatError),
        (lambda t: t.replace(proof().proof_root.hex(), proof().proof_root.hex().upper()), ProofFormatError),
        (lambda t: "x" * (5 << 20), ProofFormatError),
    ],
)
def test_a_file_that_is_not_canonical_is_refused(edit, error):
    with pytest.raises(error):
        from_json(edit(to_json(proof())))


def test_the_sampled_steps_follow_from_the_root_alone():
    picked = sampled_steps(proof().proof_root, proof().steps)
    assert set(picked) <= set(included_steps(proof().proof_root, proof().steps, [], []))
    assert picked != sampled_steps(bytes(32), proof().steps)
