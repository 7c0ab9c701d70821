"""The tracing executor: an RV32IM interpreter compiled by numba. It needs no emulator and no network.

A trace row is 38 little-endian u32 words: step, pc, instruction, x0..x31 before the step, memory operation
(kind | size << 8), its address, its value. ``btcfi.vm.trace`` turns rows into leaves.
"""

# ruff: noqa: ANN001, PLR0917, PLR1714, SIM109 - numba infers types, takes positions, and compiles `a == x or a == y` best
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from btcfi.errors import InvalidInputError
from btcfi.vm.isa import Op
from btcfi.vm.machine import FAULTS, INPUT_BASE, MAX_STEPS, OUTPUT_BASE, PAGE, Stop
from btcfi.vm.program import Program
from btcfi.vm.trace import ROW_WORDS, Execution, MemoryKind, Trace

U32 = npt.NDArray[np.uint32]

# numba folds module constants into the compiled code; an enum member would be an object to it.
_LUI, _AUIPC, _JAL, _JALR = int(Op.LUI), int(Op.AUIPC), int(Op.JAL), int(Op.JALR)
_BEQ, _BNE, _BLT, _BGE, _BLTU, _BGEU = (int(op) for op in (Op.BEQ, Op.BNE, Op.BLT, Op.BGE, Op.BLTU, Op.BGEU))
_LB, _LH, _LW, _LBU, _LHU = (int(op) for op in (Op.LB, Op.LH, Op.LW, Op.LBU, Op.LHU))
_SB, _SH, _SW = int(Op.SB), int(Op.SH), int(Op.SW)
_ADDI, _SLTI, _SLTIU, _XORI, _ORI, _ANDI = (
    int(op) for op in (Op.ADDI, Op.SLTI, Op.SLTIU, Op.XORI, Op.ORI, Op.ANDI)
)  # fmt: skip
_SLLI, _SRLI, _SRAI = int(Op.SLLI), int(Op.SRLI), int(Op.SRAI)
_ADD, _SUB, _SLL, _SLT, _SLTU = (int(op) for op in (Op.ADD, Op.SUB, Op.SLL, Op.SLT, Op.SLTU))
_XOR, _SRL, _SRA, _OR, _AND = (int(op) for op in (Op.XOR, Op.SRL, Op.SRA, Op.OR, Op.AND))
_FENCE, _ECALL, _EBREAK = int(Op.FENCE), int(Op.ECALL), int(Op.EBREAK)
_MUL, _MULH, _MULHSU, _MULHU = (int(op) for op in (Op.MUL, Op.MULH, Op.MULHSU, Op.MULHU))
_DIV, _DIVU, _REM, _REMU = (int(op) for op in (Op.DIV, Op.DIVU, Op.REM, Op.REMU))

_RUNNING: Final = -1
_HALTED, _STEP_LIMIT, _ILLEGAL, _BREAKPOINT = (
    int(stop) for stop in (Stop.HALTED, Stop.STEP_LIMIT, Stop.ILLEGAL_INSTRUCTION, Stop.BREAKPOINT)
)  # fmt: skip
_BAD_JUMP, _BAD_FETCH = int(Stop.MISALIGNED_JUMP), int(Stop.FETCH_OUTSIDE_CODE)
_BAD_LOAD, _BAD_STORE = int(Stop.MISALIGNED_LOAD), int(Stop.MISALIGNED_STORE)
_NO_LOAD, _NO_STORE = int(Stop.LOAD_UNMAPPED), int(Stop.STORE_UNMAPPED)
_READ_ONLY, _TO_CODE = int(Stop.STORE_READ_ONLY), int(Stop.STORE_TO_CODE)

_LOAD_KIND, _STORE_KIND = int(MemoryKind.LOAD), int(MemoryKind.STORE)
_ROW: Final = ROW_WORDS
_M32: Final = 0xFFFF_FFFF

# Places in the state vector (int64): what a run needs besides registers and memory, and can be resumed from.
PC, STEPS, STOP, ADDRESS, STATE_SIZE = 0, 1, 2, 3, 4


@njit(cache=True, nogil=True, boundscheck=False)
def _advance(  # type: ignore[no-untyped-def]  # noqa: ANN202, C901, PLR0912, PLR0915 - one loop is what the JIT makes fast
    decoded, words, code_base, regions, memory, regs, state, rows, tracing, budget
):
    """Run until a stop or until ``budget`` more steps are done; return how many were done.

    decoded (n, 5) int32, words (n,) u32, regions (r, 4) int64, memory u32, regs (32,) u32, state (4,) int64,
    rows (>= budget, 38) u32 when ``tracing``. All sums are int64, wrapped to 32 bits on writing a register.
    """
    pc = state[PC]
    step = state[STEPS]
    code_size = 4 * len(words)
    done = 0
    stop = -1
    fault_address = np.int64(0)
    while done < budget:
        offset = pc - code_base
        if offset < 0 or offset >= code_size:
            stop = _BAD_FETCH
            fault_address = pc
            break
        index = offset >> 2
        op = decoded[index, 0]
        rd = decoded[index, 1]
        a = np.int64(regs[decoded[index, 2]])
        b = np.int64(regs[decoded[index, 3]])
        imm = np.int64(decoded[index, 4])
        next_pc = (pc + 4) & _M32
        value = np.int64(0)
        if tracing:
            row = rows[done]
            row[0] = np.uint32(step)
            row[1] = np.uint32(pc)
            row[2] = words[index]
            for n in range(32):
                row[3 + n] = regs[n]
            row[35] = 0
            row[36] = 0
            row[37] = 0
        if _LB <= op <= _SW:
            address = (a + imm) & _M32
            if op >= _SB:
                size = np.int64(1) << (op - _SB)
            elif op == _LW:
                size = np.int64(4)
            else:
                size = np.int64(1) << ((op - _LB) & 1 if op < _LW else op - _LBU)
            if address & (size - 1):
                stop = _BAD_STORE if op >= _SB else _BAD_LOAD
                fault_address = address
                break
            place = np.int64(-1)
            permission = np.int64(0)
            for r in range(len(regions)):
                if regions[r, 0] <= address < regions[r, 1]:
                    place = regions[r, 2] + ((address - regions[r, 0]) >> 2)
                    permission = regions[r, 3]
                    break
            if place < 0:
                stop = _NO_STORE if op >= _SB else _NO_LOAD
                fault_address = address
                break
            shift = (address & 3) << 3
            mask = (np.int64(1) << (size << 3)) - 1
            word = np.int64(memory[place])
            if op >= _SB:
                if permission != 1:
                    stop = _TO_CODE if permission == 2 else _READ_ONLY  # noqa: PLR2004 - the table's flag
                    fault_address = address
                    break
                raw = b & mask
                memory[place] = np.uint32((word & ~(mask << shift)) | (raw << shift))
                rd = 0
            else:
                raw = (word >> shift) & mask
                value = raw
                if op == _LB:
                    value = raw - ((raw & 0x80) << 1)
                elif op == _LH:
                    value = raw - ((raw & 0x8000) << 1)
            if tracing:
                row[35] = np.uint32((_STORE_KIND if op >= _SB else _LOAD_KIND) | (size << 8))
                row[36] = np.uint32(address)
                row[37] = np.uint32(raw)
        elif op == _ADDI:
            value = a + imm
        elif op == _ADD:
            value = a + b
        elif op == _SUB:
            value = a - b
        elif op == _LUI:
            value = imm
        elif op == _AUIPC:
            value = pc + imm
        elif _BEQ <= op <= _BGEU:
            rd = 0
            if op == _BEQ:
                taken = a == b
            elif op == _BNE:
                taken = a != b
            elif op == _BLTU:
                taken = a < b
            elif op == _BGEU:
                taken = a >= b
            else:
                sa = a - ((a & 0x8000_0000) << 1)
                sb = b - ((b & 0x8000_0000) << 1)
                taken = sa < sb if op == _BLT else sa >= sb
            if taken:
                next_pc = (pc + imm) & _M32
                if next_pc & 3:
                    stop = _BAD_JUMP
                    fault_address = next_pc
                    break
        elif op == _JAL or op == _JALR:
            value = next_pc
            next_pc = (pc + imm) & _M32 if op == _JAL else (a + imm) & 0xFFFF_FFFE
            if next_pc & 3:
                stop = _BAD_JUMP
                fault_address = next_pc
                break
        elif op == _SLTI:
            value = np.int64((a - ((a & 0x8000_0000) << 1)) < imm)
        elif op == _SLTIU:
            value = np.int64(a < (imm & _M32))
        elif op == _XORI:
            value = a ^ imm
        elif op == _ORI:
            value = a | imm
        elif op == _ANDI:
            value = a & imm
        elif op == _SLLI:
            value = a << imm
        elif op == _SRLI:
            value = a >> imm
        elif op == _SRAI:
            value = (a - ((a & 0x8000_0000) << 1)) >> imm
        elif op == _SLL:
            value = a << (b & 31)
        elif op == _SLT:
            value = np.int64((a - ((a & 0x8000_0000) << 1)) < (b - ((b & 0x8000_0000) << 1)))
        elif op == _SLTU:
            value = np.int64(a < b)
        elif op == _XOR:
            value = a ^ b
        elif op == _SRL:
            value = a >> (b & 31)
        elif op == _SRA:
            value = (a - ((a & 0x8000_0000) << 1)) >> (b & 31)
        elif op == _OR:
            value = a | b
        elif op == _AND:
            value = a & b
        elif op == _MUL:
            value = np.int64(np.uint64(a) * np.uint64(b) & np.uint64(_M32))
        elif op == _MULHU:
            value = np.int64((np.uint64(a) * np.uint64(b)) >> np.uint64(32))
        elif op == _MULH:
            value = ((a - ((a & 0x8000_0000) << 1)) * (b - ((b & 0x8000_0000) << 1))) >> 32
        elif op == _MULHSU:
            value = ((a - ((a & 0x8000_0000) << 1)) * b) >> 32
        elif op == _DIVU:
            value = a // b if b else np.int64(_M32)
        elif op == _REMU:
            value = a % b if b else a
        elif op == _DIV or op == _REM:
            # Truncation toward zero; int64 holds -2**31 / -1, which wraps to the manual's -2**31 on writing.
            sa = a - ((a & 0x8000_0000) << 1)
            sb = b - ((b & 0x8000_0000) << 1)
            if sb == 0:
                value = np.int64(-1) if op == _DIV else sa
            else:
                quotient = abs(sa) // abs(sb)
                if (sa < 0) != (sb < 0):
                    quotient = -quotient
                value = quotient if op == _DIV else sa - quotient * sb
        elif op == _ECALL:
            stop = _HALTED
            done += 1
            step += 1
            break
        elif op == _FENCE:
            rd = 0
        else:
            stop = _BREAKPOINT if op == _EBREAK else _ILLEGAL
            break
        if rd:
            regs[rd] = np.uint32(value & _M32)
        pc = next_pc
        done += 1
        step += 1
    state[PC] = pc
    state[STEPS] = step
    state[STOP] = stop
    state[ADDRESS] = fault_address
    return done


@njit(cache=True, nogil=True, boundscheck=False)
def _run_batch(  # type: ignore[no-untyped-def]  # noqa: ANN202 - compiled
    decoded, words, code_base, entry, regions, initial, inputs, input_place, output_place, outputs, stops, max_steps
):
    """Run once a row of ``inputs`` (u32 words), untraced; fill ``outputs`` and ``stops`` (n, 4) int64."""
    memory = initial.copy()
    no_rows = np.empty((1, _ROW), dtype=np.uint32)
    regs = np.zeros(32, dtype=np.uint32)
    state = np.zeros(STATE_SIZE, dtype=np.int64)
    for n in range(len(inputs)):
        if n:
            memory[:] = initial
        regs[:] = 0
        state[:] = 0
        state[PC] = entry
        for k in range(inputs.shape[1]):
            memory[input_place + k] = inputs[n, k]
        _advance(decoded, words, code_base, regions, memory, regs, state, no_rows, False, max_steps)
        for k in range(outputs.shape[1]):
            outputs[n, k] = memory[output_place + k]
        stops[n, :] = state


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Where a run ended, fault or not."""

    stop: Stop
    steps: int
    """Instructions that took effect, the final ``ecall`` included; a faulting one is not."""
    pc: int
    """The instruction that stopped the run: the ``ecall``, or the faulting one."""
    address: int
    """What the fault was about: a data address or a jump target; 0 otherwise."""
    registers: tuple[int, ...]
    output: bytes
    memory: bytes
    """All writable pages, in region order."""


class Machine:
    """One run in progress: memory, registers and program counter, advanced block by block."""

    def __init__(self, program: Program, input_bytes: bytes) -> None:
        """Start at the entry with fresh memory. Raises InvalidInputError when the input does not fit its page."""
        self._program = program
        self._memory = program.initial_memory.copy()
        self._registers = np.zeros(32, dtype=np.uint32)
        self._state = np.zeros(STATE_SIZE, dtype=np.int64)
        self._state[PC] = program.elf.entry
        self._state[STOP] = _RUNNING
        words = input_words(program, input_bytes)
        if len(words):
            place = window_place(program, INPUT_BASE)
            self._memory[place : place + len(words)] = words

    @property
    def stopped(self) -> bool:
        """Whether the run has ended, well or not."""
        return int(self._state[STOP]) != _RUNNING

    @property
    def steps(self) -> int:
        """Steps done so far."""
        return int(self._state[STEPS])

    def advance(self, budget: int, rows: U32 | None = None) -> int:
        """Do at most ``budget`` steps, writing a row of ``rows`` for each when given; return how many were done."""
        if self.stopped:
            return 0
        program = self._program
        return int(
            _advance(
                program.decoded,
                program.words,
                program.elf.code.address,
                program.region_table,
                self._memory,
                self._registers,
                self._state,
                _NO_ROWS if rows is None else rows,
                rows is not None,
                budget,
            )
        )

    def words_at(self, place: int, count: int) -> list[int]:
        """Return ``count`` words of memory from index ``place`` on, in region order."""
        words: list[int] = self._memory[place : place + count].tolist()
        return words

    def result(self) -> Result:
        """Return where the machine stands; a run that was cut short stopped at the step limit."""
        program = self._program
        stop = int(self._state[STOP])
        output = b""
        if program.output_size:
            place = window_place(program, OUTPUT_BASE)
            output = self._memory[place : place + program.output_size // 4].astype("<u4").tobytes()
        return Result(
            stop=Stop.STEP_LIMIT if stop == _RUNNING else Stop(stop),
            steps=self.steps,
            pc=int(self._state[PC]),
            address=int(self._state[ADDRESS]),
            registers=tuple(self._registers.tolist()),
            output=output,
            memory=self._memory[: program.writable_words].astype("<u4").tobytes(),
        )


_NO_ROWS: Final[U32] = np.empty((1, ROW_WORDS), dtype=np.uint32)


def window_place(program: Program, base: int) -> int:
    """Return the index in memory of the first word of the region at ``base``."""
    if (place := program.places.get(base)) is not None:
        return place
    raise InvalidInputError("program", f"{program.name} has no page at 0x{base:08x}", "a program of the guest ABI")


def input_words(program: Program, input_bytes: bytes) -> U32:
    """Return the input as the words that memory holds. Raises InvalidInputError when it does not fit its page."""
    if len(input_bytes) > PAGE:
        raise InvalidInputError("input", f"{len(input_bytes)} bytes", f"at most {PAGE}")
    if input_bytes and not program.has_abi:
        raise InvalidInputError("input", f"program {program.name} has no input page", "no input")
    padded = input_bytes + bytes(-len(input_bytes) % 4)
    return np.frombuffer(padded, dtype="<u4").astype(np.uint32)


def fault_of(program: Program, result: Result) -> Exception:
    """Return the typed error for a run that did not halt."""
    offset = result.pc - program.elf.code.address
    inside = 0 <= offset < program.elf.code.size and offset % 4 == 0
    instruction = int(program.words[offset // 4]) if inside else 0
    return FAULTS[result.stop](pc=result.pc, instruction=instruction, address=result.address, steps=result.steps)


def run_untraced(program: Program, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> Result:
    """Run to whatever stop comes first, without a trace. Raises nothing for a fault."""
    machine = Machine(program, input_bytes)
    machine.advance(max_steps)
    return machine.result()


def run(program: Program, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> Execution:
    """Run ``program`` on ``input_bytes`` and return the execution with its full trace, 152 bytes a step in memory.

    Longer runs than about a million steps are proved in bounded memory by ``btcfi.proofs.subtrees.prove``.
    Raises a MachineFaultError unless it halts within ``max_steps``, InvalidInputError for an oversized input.
    """
    machine = Machine(program, input_bytes)
    blocks: list[U32] = []
    size = _FIRST_BLOCK
    while not machine.stopped and machine.steps < max_steps:
        rows = np.empty((min(size, max_steps - machine.steps), ROW_WORDS), dtype=np.uint32)
        done = machine.advance(len(rows), rows)
        blocks.append(rows[:done])
        size = min(size * 4, _LARGEST_BLOCK)
    result = machine.result()
    if result.stop is not Stop.HALTED:
        raise fault_of(program, result)
    rows = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return execution_of(program, input_bytes, result, Trace(rows=rows))


def run_short(program: Program, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> tuple[Result, Execution] | None:
    """Run once and return where it ended and its whole trace; None unless it halts within the first block of rows.

    What is compared with another executor is then the very run that was traced. Raises InvalidInputError for an
    oversized input.
    """
    machine = Machine(program, input_bytes)
    rows = np.empty((min(_FIRST_BLOCK, max_steps), ROW_WORDS), dtype=np.uint32)
    done = machine.advance(len(rows), rows)
    if not machine.stopped:
        return None
    result = machine.result()
    if result.stop is not Stop.HALTED:
        return None
    return result, execution_of(program, input_bytes, result, Trace(rows=rows[:done]))


_FIRST_BLOCK: Final = 1024
_LARGEST_BLOCK: Final = 1 << 16
"""Rows allocated at a time: 152 bytes each, so 10 MB."""


def execution_of(program: Program, input_bytes: bytes, result: Result, trace: Trace | None) -> Execution:
    """Return the record of a run that halted."""
    return Execution(
        program_name=program.name,
        program_hash=program.program_hash,
        input_bytes=input_bytes,
        output=result.output,
        steps=result.steps,
        final_pc=result.pc,
        final_registers=result.registers,
        trace=trace,
    )


def stream(program: Program, input_bytes: bytes, *, block: int, max_steps: int = MAX_STEPS) -> Iterator[U32]:
    """Yield the trace's rows ``block`` at a time, holding one block; the array is reused between yields.

    Raises a MachineFaultError after the last good block unless the program halts.
    """
    machine = Machine(program, input_bytes)
    rows = np.empty((block, ROW_WORDS), dtype=np.uint32)
    while not machine.stopped and machine.steps < max_steps:
        done = machine.advance(min(block, max_steps - machine.steps), rows)
        if done:
            yield rows[:done]
    result = machine.result()
    if result.stop is not Stop.HALTED:
        raise fault_of(program, result)


def trace_part(program: Program, input_bytes: bytes, *, first: int, count: int) -> Trace:
    """Return rows ``first`` to ``first + count`` (fewer at the end) by running from the start, untraced up to there."""
    machine = Machine(program, input_bytes)
    machine.advance(first)
    rows = np.empty((count, ROW_WORDS), dtype=np.uint32)
    done = machine.advance(count, rows)
    return Trace(rows=rows[:done])


def run_many(program: Program, inputs: Sequence[bytes], *, max_steps: int = MAX_STEPS) -> list[bytes]:
    """Return the output of every input, all of one length, run without traces in one compiled loop.

    Raises a MachineFaultError for the first input whose run does not halt, InvalidInputError for unequal lengths.
    """
    if not inputs:
        return []
    length = len(inputs[0])
    if any(len(one) != length for one in inputs) or length % 4 or not 0 < length <= PAGE:
        raise InvalidInputError("inputs", "different or odd lengths", f"one length, a multiple of 4 up to {PAGE}")
    words = np.frombuffer(b"".join(inputs), dtype="<u4").astype(np.uint32).reshape(len(inputs), -1)
    outputs = np.empty((len(inputs), program.output_size // 4), dtype=np.uint32)
    stops = np.empty((len(inputs), STATE_SIZE), dtype=np.int64)
    _run_batch(
        program.decoded, program.words, program.elf.code.address, program.elf.entry, program.region_table,
        program.initial_memory, words, window_place(program, INPUT_BASE), window_place(program, OUTPUT_BASE),
        outputs, stops, max_steps,
    )  # fmt: skip
    for index in np.flatnonzero(stops[:, STOP] != _HALTED).tolist():
        raise fault_of(program, run_untraced(program, inputs[index], max_steps=max_steps))
    packed = outputs.astype("<u4").tobytes()
    size = program.output_size
    return [packed[k * size : (k + 1) * size] for k in range(len(inputs))]


def constant_at(program: Program, input_bytes: bytes, address: int, size: int) -> int | None:
    """Return the value that a load of ``size`` bytes finds where nothing can be stored; None for writable memory."""
    for region in program.regions:
        if region.base <= address and address + size <= region.base + region.size:
            if region.writable:
                return None
            data = input_bytes if region.base == INPUT_BASE and program.has_abi else region.data
            offset = address - region.base
            return int.from_bytes(data[offset : offset + size], "little")
    return None


def signature_of(program: Program, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> list[int]:
    """Return the words from symbol begin_signature to end_signature after a run: what RISC-V's own tests compare.

    Raises InvalidInputError unless both symbols stand in one mapped region.
    """
    symbols = program.elf.symbols
    first, end = (symbols.get(name, (0, 0))[0] for name in ("begin_signature", "end_signature"))
    machine = Machine(program, input_bytes)
    machine.advance(max_steps)
    for low, high, place, _ in program.region_table.tolist():
        if low <= first < end <= high and not (first | end) % 4:
            return machine.words_at(place + (first - low) // 4, (end - first) // 4)
    raise InvalidInputError(
        "symbols",
        f"begin_signature 0x{first:x}, end_signature 0x{end:x}",
        "whole words of mapped memory, in that order",
    )
