"""Two executors, one answer: nothing leaves a worker unless the interpreter and Unicorn agree on all of it."""

from __future__ import annotations

from typing import Final

from btcfi.vm.emulator import Emulator
from btcfi.vm.interpreter import Result, fault_of, run, run_short, run_untraced
from btcfi.vm.machine import MAX_STEPS, ExecutorsDisagreeError, MachineFaultError, Stop
from btcfi.vm.program import Program
from btcfi.vm.trace import Execution

CHECKED_STEPS: Final = 200_000
"""Two seconds of Unicorn with every instruction checked."""


def execute(program: Program, emulator: Emulator, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> Execution:
    """Run on both executors and return the traced execution.

    Raises ExecutorsDisagreeError unless stop reason, steps, pc, registers, output and every writable byte are equal; a
    MachineFaultError when both agree that the program faults. A run that hits the step limit, or faults later than
    CHECKED_STEPS, settles nothing whatever Unicorn says, so it is not repeated there: a hostile
    program costs no minutes.
    """
    if (short := run_short(program, input_bytes, max_steps=max_steps)) is not None:
        mine, execution = short
        require_agreement(program, mine, emulator.run(input_bytes, max_steps=max_steps))
        return execution
    mine = run_untraced(program, input_bytes, max_steps=max_steps)
    if mine.stop:
        if mine.stop is not Stop.STEP_LIMIT and mine.steps <= CHECKED_STEPS:
            require_agreement(program, mine, emulator.run_checked(input_bytes, max_steps=max_steps))
        fault = fault_of(program, mine)
        if isinstance(fault, MachineFaultError):
            raise fault
    require_agreement(program, mine, emulator.run(input_bytes, max_steps=max_steps))
    return run(program, input_bytes, max_steps=max_steps)


def require_agreement(program: Program, mine: Result, other: Result) -> None:
    """Raise ExecutorsDisagreeError, which names the first field that differs."""
    for field in ("stop", "steps", "pc", "address", "registers", "output", "memory"):
        ours, theirs = getattr(mine, field), getattr(other, field)
        if ours != theirs:
            if field == "memory":
                place = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
                ours, theirs = f"byte {place} = {ours[place]}", f"{theirs[place]}"
            raise ExecutorsDisagreeError(program=program.name, field=field, interpreter=ours, emulator=theirs)


__all__ = ["Emulator", "ExecutorsDisagreeError", "execute", "require_agreement"]
