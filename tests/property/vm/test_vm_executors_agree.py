"""Random RV32IM programs on four implementations: interpreter, Unicorn, tinyrv, and the verifier's single step.

Sizes: 20,000 random programs, ten after another in a run, on the interpreter and Unicorn (registers, memory, steps,
stop reason); 150 others also on tinyrv and on the single-step verifier, per instruction (pc, registers, stores); 1,500
faulting ones on the interpreter and Unicorn with every instruction checked. BTCFI_TEST_PROGRAMS multiplies all of them,
BTCFI_TEST_SEED makes them others.
"""

import os
import random

import pytest
import tinyrv

from btcfi.vm.agreement import require_agreement
from btcfi.vm.emulator import Emulator
from btcfi.vm.interpreter import run, run_untraced
from btcfi.vm.machine import Stop
from btcfi.vm.step import after
from btcfi.vm.trace import MemoryKind
from tests.support.vm_programs import bare_program_of, random_faulting_words, random_words

MANY = int(os.environ.get("BTCFI_TEST_PROGRAMS", "1"))
SEED = int(os.environ.get("BTCFI_TEST_SEED", "0"))
BATCHES = 20
STEPS = 5000


def programs(seed, count, make):
    rng = random.Random(seed + 1000 * SEED)
    return [make(rng) for _ in range(count)]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_interpreter_and_unicorn_agree_on_random_programs(batch):
    ten = lambda rng: [word for _ in range(9) for word in random_words(rng)[:-1]] + random_words(rng)  # noqa: E731 - a generator
    for words in programs(batch, 100 * MANY, ten):
        program = bare_program_of(words)
        mine = run_untraced(program, b"", max_steps=STEPS)
        assert mine.stop is Stop.HALTED
        require_agreement(program, mine, Emulator(program).run(b"", max_steps=STEPS))


def test_both_give_the_same_reason_for_every_fault():
    reasons = set()
    for words in programs(99, 1500 * MANY, random_faulting_words):
        program = bare_program_of(words)
        mine = run_untraced(program, b"", max_steps=300)
        reasons.add(mine.stop)
        require_agreement(program, mine, Emulator(program).run_checked(b"", max_steps=300))
    missing = set(Stop) - reasons - {Stop.ILLEGAL_INSTRUCTION, Stop.STORE_READ_ONLY, Stop.STORE_TO_CODE}
    assert not missing, f"the generator never reached {missing}"


def test_tinyrv_and_the_single_step_agree_per_instruction():
    for words in programs(0, 150 * MANY, random_words):
        program = bare_program_of(words)
        execution = run(program, b"")
        machine = tinyrv.sim(xlen=32)
        machine.trace_log = None
        for index, word in enumerate(words):
            machine.store("I", 0x10000 + 4 * index, word, notify=False)
        machine.pc = 0x10000
        previous = None
        for index in range(execution.steps - 1):
            step = execution.trace.step(index)
            assert step.pc == machine.pc & 0xFFFF_FFFF
            assert step.registers == tuple(x & 0xFFFF_FFFF for x in machine.x._x)
            if previous is not None:
                assert (previous.pc, previous.registers) == (step.pc, step.registers)
            previous = after(step)
            machine.step(trace=False)
            if step.memory_kind is MemoryKind.STORE:
                stored = machine.load("_BH_I"[step.memory_size], step.memory_address, notify=False)
                assert stored == step.memory_value
