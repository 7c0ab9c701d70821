"""Settlement: the guest is run on two executors, its trace is hashed, the proof is stored."""

from __future__ import annotations

import os
from typing import Final

from celery import shared_task

from btcfi.adapters.store.options import settlements
from btcfi.adapters.store.options.settlements import Claim
from btcfi.adapters.store.spine.edges import Work, enqueue
from btcfi.options.expiry import SettlementOutput
from btcfi.proofs.batch import SHORT, Run, proof_files
from btcfi.proofs.settlement_proof import ProofFile, build_proof, file_of
from btcfi.proofs.subtrees import (
    BLOCK_HEIGHT,
    execute_untraced,
    proof_from_subtrees,
    subtree_count,
    subtree_roots,
)
from btcfi.proofs.window import read_window
from btcfi.vm.agreement import execute
from btcfi.vm.program import Program
from settings.preset import Preset
from tasks.context import Context, context
from tasks.held import emulator_of, missing, preset_of, program_of

STORED_TOGETHER: Final = 64
"""Results that one transaction stores: a commit for each would cost more than its run, and writers wait for one another
while these are written, a tenth of a second at most."""

Outcome = ProofFile | int | str
"""The proof of a run; how many parts a long one's proof is built in; or why there is none."""


@shared_task(name="settlement.execute_batch")
def execute_batch(ids: list[str]) -> None:
    """Claim a batch, settle each in the machine, store what came out; a settlement that fails harms no other."""
    here = context()
    with here.store.transaction() as session:
        claims = settlements.claim(
            session, ids, owner=f"pid {os.getpid()}", now=here.now(), lease_seconds=here.deployment.lease_seconds,
            max_attempts=here.deployment.max_attempts, missing=missing,
        )  # fmt: skip
    for start in range(0, len(claims), STORED_TOGETHER):
        some = claims[start : start + STORED_TOGETHER]
        _store(here, list(zip(some, _prove([_run(claimed) for claimed in some]), strict=True)))


def _run(claimed: Claim) -> Run | Outcome:
    """Return a short run with its trace, still to be proved, or what else came of it."""
    bound, run_by = claimed.bound, claimed.bound.program_sha256
    try:
        preset, emulator = preset_of(bound.preset_sha256, bound.preset), emulator_of(os.getpid(), run_by)
        program = program_of(run_by)
        program.require_input(claimed.input_bytes)
        execution = execute(program, emulator, claimed.input_bytes, max_steps=preset.max_steps)
        if execution.steps > preset.parallel_proof_steps:
            return subtree_count(execution.steps, BLOCK_HEIGHT)
        SettlementOutput.from_bytes(execution.output).raise_if_refused()
        window = read_window(claimed.window)
        return (execution, window) if execution.steps <= SHORT else file_of(build_proof(execution, window=window))
    except Exception as e:  # noqa: BLE001 - whatever one settlement does, the others of its batch go on
        return str(e) or type(e).__name__


def _prove(outcomes: list[Run | Outcome]) -> list[Outcome]:
    """Prove the short runs together, each in its place."""
    files = proof_files(one for one in outcomes if isinstance(one, tuple))
    return [next(files) if isinstance(one, tuple) else one for one in outcomes]


def _store(here: Context, outcomes: list[tuple[Claim, Outcome]]) -> None:
    """Store what came of several runs in one transaction, start the proofs of the long ones, and have the rest sent."""
    proofs = {claimed: outcome for claimed, outcome in outcomes if isinstance(outcome, ProofFile)}
    with here.work() as session:
        settlements.finish(session, proofs, now=here.now())
        for claimed, outcome in outcomes:
            if isinstance(outcome, int):
                settlements.hand_over(session, claimed, parts=outcome, now=here.now())
            elif isinstance(outcome, str):
                settlements.note_error(session, claimed, outcome, now=here.now())
        enqueue(session, [Work(flow="send")] if proofs else [], now=here.now())


@shared_task(name="settlement.prove_part", ignore_result=False)
def prove_part(settlement_id: str, first: int, count: int) -> int:
    """Run the guest again up to a part of its trace and hash that part's subtrees."""
    here = context()
    program, _, input_bytes, _ = _run_by(here, settlement_id)
    roots = subtree_roots(program, input_bytes, first=first, count=count)
    with here.store.transaction() as session:
        for part, root in enumerate(roots, start=first):
            settlements.store_part(session, settlement_id, part, root)
    return len(roots)


@shared_task(name="settlement.close_proof")
def close_proof(_done: list[int], settlement_id: str) -> None:
    """Join the subtrees of a long trace; by the rows that are there, so a repeated close changes nothing."""
    here = context()
    program, preset, input_bytes, window = _run_by(here, settlement_id)
    with here.store.reading() as session:
        roots = settlements.parts_of(session, settlement_id)
    execution = execute_untraced(program, input_bytes, max_steps=preset.max_steps)
    proof = proof_from_subtrees(program, execution, roots, window=read_window(window))
    with here.work() as session:
        settlements.close_long(session, settlement_id, proof, now=here.now())
        enqueue(session, [Work(flow="send")], now=here.now())


def _run_by(here: Context, settlement_id: str) -> tuple[Program, Preset, bytes, str | None]:
    """Return what a long settlement is run by, its input, and the minutes behind its price.

    Raises NotHeldError, and keeps that beside it.
    """
    with here.store.reading() as session:
        bound, input_bytes, window = settlements.bound_of(session, settlement_id)
    if (lacking := missing(bound)) is not None:
        with here.store.transaction() as session:
            settlements.note_unheld(session, settlement_id, lacking)
    if bound.changed is not None:
        raise bound.changed
    return program_of(bound.program_sha256), preset_of(bound.preset_sha256, bound.preset), input_bytes, window
