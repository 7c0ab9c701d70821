"""Step by step against machines that others wrote: Unicorn always, qemu-riscv32 and Spike when found.

Unicorn's trace is made by native callbacks (tests/support/vm_native_trace.py); compared: pc, registers, memory
operations. qemu-user runs Linux programs, so its random programs start by clearing the registers and end by exit(0);
compared: pc and registers. Spike logs what each instruction wrote; compared: pc, word, the register written and that no
other changed, memory addresses, values stored.
"""

import json
import os
import random
import re
import shutil
import struct
import subprocess

import pytest

from btcfi.vm.interpreter import run
from btcfi.vm.program import bare_program, load_program
from tests.support.paths import VECTORS_FOLDER
from tests.support.vm_native_trace import traced_by_unicorn
from tests.support.vm_programs import (
    ECALL,
    Segment,
    bare_program_of,
    code_segment,
    counting_program,
    elf_file,
    i_type,
    random_words,
)

VECTORS = json.loads((VECTORS_FOLDER / "settlement_v2.json").read_text())["tests"]
QEMU = os.environ.get("BTCFI_TEST_QEMU_RISCV32") or shutil.which("qemu-riscv32")
SPIKE = os.environ.get("BTCFI_TEST_SPIKE") or shutil.which("spike")
CLEAR = [i_type(0, 0, 0, register) for register in range(1, 32)]


def assert_unicorn_did_the_same(program, data):
    rows = run(program, data).trace.rows[:-1]  # Unicorn traps at the ecall
    theirs = traced_by_unicorn(program, data, steps=len(rows))
    assert (rows[:, 1] == theirs[:, 0]).all()
    assert (rows[:, 3:35] == theirs[:, 1:33]).all()
    assert (rows[:, 35] == (theirs[:, 33] | theirs[:, 34] << 8)).all()
    assert (rows[:, 36:] == theirs[:, 35:]).all()


@pytest.mark.parametrize("place", range(len(VECTORS)))
def test_every_step_and_memory_operation_of_a_settlement_is_unicorns(place):
    assert_unicorn_did_the_same(load_program("option_settlement"), bytes.fromhex(VECTORS[place]["input"]))


def test_every_step_and_memory_operation_of_random_programs_is_unicorns():
    rng = random.Random(77)
    for _ in range(300):
        assert_unicorn_did_the_same(bare_program_of(random_words(rng)), b"")


def test_every_step_of_a_long_run_is_unicorns():
    assert_unicorn_did_the_same(counting_program(200_000), b"")


@pytest.mark.skipif(not QEMU, reason="qemu-riscv32 is not installed (Debian: qemu-user); set BTCFI_TEST_QEMU_RISCV32")
def test_every_step_of_random_programs_is_qemus(tmp_path):
    rng = random.Random(78)
    for number in range(40):
        words = [*CLEAR, *random_words(rng)[:-1], i_type(93, 0, 0, 17), i_type(0, 0, 0, 10), ECALL]
        path, log = tmp_path / f"{number}.elf", tmp_path / f"{number}.log"
        path.write_bytes(elf_file([code_segment(words), Segment(0x8000_2000, b"", 6, 4096)]))
        path.chmod(0o755)
        command = [QEMU, "-singlestep", "-d", "exec,cpu,nochain", "-D", str(log), str(path)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        trace = run(bare_program_of(words), b"").trace
        mine = [(step.pc, step.registers) for step in map(trace.step, range(len(trace)))]
        assert mine[len(CLEAR) :] == states_in(log.read_text())[len(CLEAR) :]


def states_in(log):
    states = []
    for block in log.split("Trace ")[1:]:
        fields = block[block.index("\n") :].split()
        values = dict(zip(fields[::2], fields[1::2], strict=False))
        registers = {name.split("/")[0]: int(v, 16) for name, v in values.items() if name.startswith("x")}
        states.append((int(values["pc"], 16), tuple(registers[f"x{n}"] for n in range(32))))
    return states


COMMIT = re.compile(r"core +0: 3 0x(\w+) \(0x(\w+)\)(?: x(\d+) +0x(\w+))?(?: mem 0x(\w+)(?: 0x(\w+))?)?$")


@pytest.mark.skipif(not SPIKE, reason="Spike is not installed (PyPI: spike, with Debian's device-tree-compiler)")
def test_every_step_of_random_programs_is_spikes(tmp_path):
    rng = random.Random(79)
    for number in range(100):
        words = [*CLEAR, *random_words(rng)]
        segments = [Segment(0x8000_2000, b"", 6, 4096), code_segment(words, 0x8001_0000)]
        elf = with_section_names(elf_file(segments, entry=0x8001_0000))
        path, log = tmp_path / f"{number}.elf", tmp_path / f"{number}.log"
        path.write_bytes(elf)
        trace = run(bare_program(elf, name="spike"), b"").trace
        command = [SPIKE, "--isa=rv32im", "--priv=m", "--pc=0x80010000", "-m0x80000000:0x100000"]
        command += ["--log-commits", f"--log={log}", f"--instructions={len(trace) + 4}", str(path)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        commits = [COMMIT.match(line).groups() for line in log.read_text().splitlines()]
        commits = [one for one in commits if int(one[0], 16) >= 0x8000_0000]  # the rest is Spike's boot code
        assert len(commits) == len(trace) - 1  # the ecall traps, so it is not committed
        for index, (pc, word, register, value, address, stored) in enumerate(commits[len(CLEAR) :], len(CLEAR)):
            step, following = trace.step(index), trace.step(index + 1)
            assert (step.pc, step.instruction) == (int(pc, 16), int(word, 16))
            registers = list(step.registers)
            if register is not None:
                registers[int(register)] = int(value, 16)
            assert following.registers == tuple(registers)
            assert step.memory_address == (int(address, 16) if address else 0)
            if stored is not None:
                assert step.memory_value == int(stored, 16)


def with_section_names(elf):
    """Spike's loader wants a table of section names."""
    names = b"\0.shstrtab\0".ljust(12, b"\0")
    elf += bytes(-len(elf) % 4)
    table = bytes(40) + struct.pack("<10I", 1, 3, 0, 0, len(elf), len(names), 0, 0, 1, 0)
    header = bytearray(elf[:52])
    struct.pack_into("<I", header, 32, len(elf) + len(names))
    struct.pack_into("<3H", header, 46, 40, 2, 1)
    return bytes(header) + elf[52:] + names + table
