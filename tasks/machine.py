"""What a worker that computes keeps warm: the program, the emulator, and compiled code, loaded before it forks."""

from __future__ import annotations

from typing import Final

from celery import current_app

from btcfi.contracts.payouts import price_input
from btcfi.options.terms import OptionKind, OptionTerms, required_collateral
from btcfi.pricing import kernel_cache, premium
from btcfi.proofs.settlement_proof import build_proof, to_json
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Slot
from btcfi.vm.interpreter import run, run_many, run_untraced
from btcfi.vm.program import load_program
from btcfi.vm.warmup import compiled_before
from tasks.held import program_of


def before_fork() -> None:
    """Run the guest once on every path that a worker takes, and price once, if the machine was ever compiled here.

    What was not is left to the first task that needs it: compiling would keep the worker from answering.
    """
    if compiled_before():
        given = price_input(_ANY_TERMS, _ANY_TERMS.strike).to_bytes()
        # what is sold today; what only old options name is loaded by the first that needs it
        program = program_of(load_program(current_app.conf.deployment.program).program_hash.hex())
        run_untraced(program, given)
        run_many(program, [given])
        to_json(build_proof(run(program, given)))
    if kernel_cache.compiled_before():
        premium.warm_up()


_ANY_TERMS: Final = OptionTerms(
    kind=OptionKind.CALL, strike=CentsPerBtc(5_000_000), quantity=CentiBtc(1), barrier=None, american=False,
    expiry=Slot(60), premium=Cents(1), collateral=required_collateral(OptionKind.CALL, CentiBtc(1)),
)  # fmt: skip
