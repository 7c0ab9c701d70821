"""Step by step against machines that others wrote: Unicorn with a hook on every instruction, qemu-riscv32 when found.

qemu-user runs Linux programs: the random programs start by clearing the registers and end by exit(0). Compared per
instruction: pc and all registers; so loads are compared by what they load, stores by what is later loaded.
"""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from unicorn import UC_ARCH_RISCV, UC_HOOK_CODE, UC_MODE_RISCV32, Uc
from unicorn.riscv_const import UC_RISCV_REG_X0

from btcfi.vm.interpreter import run
from btcfi.vm.machine import INPUT_BASE
from btcfi.vm.program import load_program
from tests.support.vm_programs import ECALL, Segment, bare_program_of, code_segment, elf_file, i_type, random_words

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "settlement_v1.json").read_text())["tests"]
QEMU = os.environ.get("BTCFI_TEST_QEMU_RISCV32") or shutil.which("qemu-riscv32")


def traced_by_unicorn(program, data):
    seen: list[tuple[int, tuple[int, ...]]] = []

    def hook(machine: Any, address: int, _size: int, _data: Any) -> None:
        seen.append((address, (0, *(machine.reg_read(UC_RISCV_REG_X0 + n) for n in range(1, 32)))))

    uc: Any = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
    for region in program.regions:
        uc.mem_map(region.base, region.size)
        uc.mem_write(region.base, region.data)
    if data:
        uc.mem_write(INPUT_BASE, data)
    uc.hook_add(UC_HOOK_CODE, hook)
    last = run(program, data).final_pc
    uc.emu_start(program.elf.entry, last)
    return seen


@pytest.mark.parametrize("place", [0, 5, 8, 13, 15])
def test_every_step_of_a_settlement_is_unicorns(place):
    program = load_program("option_settlement")
    data = bytes.fromhex(VECTORS[place]["input"])
    trace = run(program, data).trace
    mine = [(step.pc, step.registers) for step in map(trace.step, range(len(trace) - 1))]
    assert mine == traced_by_unicorn(program, data)


def test_every_step_of_random_programs_is_unicorns():
    rng = random.Random(77)
    for _ in range(50):
        program = bare_program_of(random_words(rng))
        trace = run(program, b"").trace
        seen = traced_by_unicorn(program, b"")
        # `until` stops at the ecall's address, which a branch may pass only at the end.
        assert [(s.pc, s.registers) for s in map(trace.step, range(len(trace) - 1))] == seen


@pytest.mark.skipif(not QEMU, reason="qemu-riscv32 is not installed (Debian: qemu-user); set BTCFI_TEST_QEMU_RISCV32")
def test_every_step_of_random_programs_is_qemus(tmp_path):
    rng = random.Random(78)
    clear = [i_type(0, 0, 0, register) for register in range(1, 32)]
    for number in range(40):
        words = [*clear, *random_words(rng)[:-1], i_type(93, 0, 0, 17), i_type(0, 0, 0, 10), ECALL]
        path, log = tmp_path / f"{number}.elf", tmp_path / f"{number}.log"
        path.write_bytes(elf_file([code_segment(words), Segment(0x8000_2000, b"", 6, 4096)]))
        path.chmod(0o755)
        command = [QEMU, "-singlestep", "-d", "exec,cpu,nochain", "-D", str(log), str(path)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        trace = run(bare_program_of(words), b"").trace
        mine = [(step.pc, step.registers) for step in map(trace.step, range(len(trace)))]
        assert mine[len(clear) :] == states_in(log.read_text())[len(clear) :]


def states_in(log):
    states = []
    for block in log.split("Trace ")[1:]:
        fields = block[block.index("\n") :].split()
        values = dict(zip(fields[::2], fields[1::2], strict=False))
        registers = {name.split("/")[0]: int(v, 16) for name, v in values.items() if name.startswith("x")}
        states.append((int(values["pc"], 16), tuple(registers[f"x{n}"] for n in range(32))))
    return states
