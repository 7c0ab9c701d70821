"""The second executor: Unicorn (QEMU's translator), which shares no execution code with the interpreter.

Two ways to run. ``run`` is fast: one reused instance, one callback a basic block, which counts steps exactly. It trusts
the code to be RV32IM, which the loader has checked. ``run_checked`` is for faults: it looks at every instruction before
Unicorn executes it, since Unicorn alone would also run compressed, atomic and CSR instructions and misaligned accesses.
"""

# ruff: noqa: ANN401 - Unicorn's hooks have no types
from __future__ import annotations

from typing import Any, Final

from unicorn import (  # type: ignore[attr-defined]
    UC_ARCH_RISCV,
    UC_ERR_EXCEPTION,
    UC_ERR_FETCH_PROT,
    UC_ERR_FETCH_UNMAPPED,
    UC_ERR_INSN_INVALID,
    UC_ERR_OK,
    UC_ERR_READ_UNMAPPED,
    UC_ERR_WRITE_PROT,
    UC_ERR_WRITE_UNMAPPED,
    UC_HOOK_BLOCK,
    UC_HOOK_CODE,
    UC_HOOK_INTR,
    UC_HOOK_MEM_INVALID,
    UC_MODE_RISCV32,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
    Uc,
    UcError,
)
from unicorn.riscv_const import UC_RISCV_REG_PC, UC_RISCV_REG_X0

from btcfi.errors import InvalidInputError
from btcfi.vm.interpreter import Result
from btcfi.vm.isa import ACCESS_SIZE, BRANCHES, LOADS, STORES, Instruction, Op, decode
from btcfi.vm.machine import INPUT_BASE, MAX_STEPS, OUTPUT_BASE, PAGE, Stop
from btcfi.vm.program import Program

_ECALL_TRAP: Final = 8
"""RISC-V's exception code of an environment call from U-mode; Unicorn reports it with the pc already advanced."""

_NOWHERE: Final = 0xFFFF_FFFE
"""An ``until`` address that no aligned program counter reaches."""

_REGISTERS: Final = tuple(range(UC_RISCV_REG_X0, UC_RISCV_REG_X0 + 32))

_STOPS: Final[dict[int, Stop]] = {
    UC_ERR_FETCH_UNMAPPED: Stop.FETCH_OUTSIDE_CODE,
    UC_ERR_FETCH_PROT: Stop.FETCH_OUTSIDE_CODE,
    UC_ERR_READ_UNMAPPED: Stop.LOAD_UNMAPPED,
    UC_ERR_WRITE_UNMAPPED: Stop.STORE_UNMAPPED,
    UC_ERR_WRITE_PROT: Stop.STORE_READ_ONLY,
    UC_ERR_INSN_INVALID: Stop.ILLEGAL_INSTRUCTION,
    UC_ERR_EXCEPTION: Stop.ILLEGAL_INSTRUCTION,
}


class Emulator:
    """A reusable Unicorn instance for one program. Not for use by two threads at once."""

    def __init__(self, program: Program) -> None:
        """Map ``program``; the first run translates its blocks, later ones reuse them."""
        self._program = program
        self._fast = _Instance(program, checked=False)
        self._checked: _Instance | None = None

    def run(self, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> Result:
        """Run to whatever stop comes first; only the reason of a *halt* or a step limit is exact (see run_checked)."""
        return self._fast.run(input_bytes, max_steps)

    def run_checked(self, input_bytes: bytes, *, max_steps: int = MAX_STEPS) -> Result:
        """Run with every instruction checked first, about 100,000 steps a second; every stop reason is exact."""
        if self._checked is None:
            self._checked = _Instance(self._program, checked=True)
        return self._checked.run(input_bytes, max_steps)


def _new_uc() -> Any:
    return Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)  # type: ignore[no-untyped-call]


class _Instance:
    """One Uc with its hooks, which must all be in place before the first block is translated."""

    def __init__(self, program: Program, *, checked: bool) -> None:
        self._program = program
        self._checked = checked
        self._uc = _new_uc()
        for region in program.regions:
            permissions = UC_PROT_READ
            permissions |= UC_PROT_WRITE if region.writable else 0
            permissions |= UC_PROT_EXEC if region.executable else 0
            self._uc.mem_map(region.base, region.size, permissions)
            self._uc.mem_write(region.base, region.data)
        self._uc.hook_add(UC_HOOK_INTR, self._on_trap)
        self._uc.hook_add(UC_HOOK_MEM_INVALID, self._on_bad_access)
        if checked:
            self._uc.hook_add(UC_HOOK_CODE, self._on_instruction)
        else:
            self._uc.hook_add(UC_HOOK_BLOCK, self._on_block)
        self._fresh = self._uc.context_save()
        self._decoded: dict[int, Instruction] = {}
        self._begin(0)

    def _begin(self, max_steps: int) -> None:
        self._max_steps = max_steps
        self._steps = 0
        self._block_address = self._program.elf.entry
        self._block_steps = 0
        self._stop: Stop | None = None
        self._stop_pc = 0
        self._address = 0

    def run(self, input_bytes: bytes, max_steps: int) -> Result:
        if len(input_bytes) > PAGE or (input_bytes and not self._program.has_abi):
            raise InvalidInputError("input", f"{len(input_bytes)} bytes", f"at most {PAGE}, for a program of the ABI")
        uc = self._uc
        uc.context_restore(self._fresh)
        for region in self._program.regions:
            if region.writable:
                uc.mem_write(region.base, region.data + bytes(region.size - len(region.data)))
        if self._program.has_abi:
            uc.mem_write(INPUT_BASE, input_bytes + bytes(PAGE - len(input_bytes)))
        self._begin(max_steps)
        error = UC_ERR_OK
        try:
            uc.emu_start(self._program.elf.entry, _NOWHERE)
        except UcError as e:
            error = e.errno
        return self._result(error)

    def _result(self, error: int) -> Result:
        uc, program = self._uc, self._program
        pc = uc.reg_read(UC_RISCV_REG_PC)
        if self._stop is None:
            self._stop, self._stop_pc = _STOPS.get(error, Stop.ILLEGAL_INSTRUCTION), pc
            if self._stop is Stop.ILLEGAL_INSTRUCTION:
                self._classify_illegal(pc)
            elif self._stop is Stop.STORE_READ_ONLY and self._is_code(self._address):
                self._stop = Stop.STORE_TO_CODE
            elif self._stop is Stop.FETCH_OUTSIDE_CODE:
                self._address = pc
        if not self._checked:
            self._steps += self._partial_block()
        # The host may have written x0; in the machine it is 0.
        registers = (0, *uc.reg_read_batch(_REGISTERS[1:]))
        output = bytes(uc.mem_read(OUTPUT_BASE, program.output_size)) if program.output_size else b""
        memory = b"".join(bytes(uc.mem_read(r.base, r.size)) for r in program.regions if r.writable)
        return Result(
            stop=self._stop,
            steps=self._steps,
            pc=self._stop_pc,
            address=self._address,
            registers=registers,
            output=output,
            memory=memory,
        )

    def _partial_block(self) -> int:
        """Return how many instructions of the last block took effect; the ``ecall`` of a halt is one of them."""
        if self._stop is Stop.HALTED:
            return (self._stop_pc - self._block_address) // 4 + 1
        if self._stop is Stop.FETCH_OUTSIDE_CODE:
            return self._block_steps  # the block ran whole, and jumped
        if self._stop is Stop.STEP_LIMIT:
            return 0
        return (self._stop_pc - self._block_address) // 4

    def _classify_illegal(self, pc: int) -> None:
        word = self._word_at(pc)
        self._stop = Stop.BREAKPOINT if word is not None and decode(word).op is Op.EBREAK else Stop.ILLEGAL_INSTRUCTION

    def _word_at(self, pc: int) -> int | None:
        code = self._program.elf.code
        offset = pc - code.address
        if offset % 4 or not 0 <= offset < code.size:
            return None
        return int.from_bytes(code.data[offset : offset + 4], "little")

    def _is_code(self, address: int) -> bool:
        return any(r.executable and r.base <= address < r.base + r.size for r in self._program.regions)

    def _end(self, stop: Stop, pc: int, address: int = 0) -> None:
        self._stop, self._stop_pc, self._address = stop, pc, address
        self._uc.emu_stop()

    def _on_block(self, _uc: Any, address: int, size: int, _data: Any) -> None:
        self._steps += self._block_steps
        self._block_address, self._block_steps = address, size // 4
        if self._steps >= self._max_steps:
            self._end(Stop.STEP_LIMIT, address)

    def _on_trap(self, uc: Any, number: int, _data: Any) -> None:
        pc = (uc.reg_read(UC_RISCV_REG_PC) - 4) & 0xFFFF_FFFF
        word = self._word_at(pc)
        if number == _ECALL_TRAP:
            if self._checked:
                self._steps += 1
            self._end(Stop.HALTED, pc)
        else:
            is_break = word is not None and decode(word).op is Op.EBREAK
            self._end(Stop.BREAKPOINT if is_break else Stop.ILLEGAL_INSTRUCTION, pc)

    def _on_bad_access(self, _uc: Any, _kind: int, address: int, _size: int, _value: int, _data: Any) -> bool:
        self._address = address
        return False

    def _on_instruction(self, uc: Any, address: int, _size: int, _data: Any) -> None:
        """Stop before anything that the machine refuses; otherwise count it. The last instruction may still trap."""
        word = self._word_at(address)
        if word is None:
            self._end(Stop.FETCH_OUTSIDE_CODE, address, address)
            return
        if self._steps >= self._max_steps:
            self._end(Stop.STEP_LIMIT, address)
            return
        instruction = self._decoded.get(word) or self._decoded.setdefault(word, decode(word))
        stop, target = self._refusal(uc, instruction, address)
        if stop is not None:
            self._end(stop, address, target)
        elif instruction.op is not Op.ECALL:
            self._steps += 1

    def _refusal(self, uc: Any, i: Instruction, pc: int) -> tuple[Stop | None, int]:
        if i.op is Op.ILLEGAL:
            return Stop.ILLEGAL_INSTRUCTION, 0
        if i.op is Op.EBREAK:
            return Stop.BREAKPOINT, 0
        if i.op in LOADS or i.op in STORES:
            return self._bad_data_access(uc, i)
        if i.op is Op.JALR:
            target = (self._register(uc, i.rs1) + i.immediate) & 0xFFFF_FFFE
        elif i.op is Op.JAL or (i.op in BRANCHES and self._taken(uc, i)):
            target = (pc + i.immediate) & 0xFFFF_FFFF
        else:
            return None, 0
        return (Stop.MISALIGNED_JUMP, target) if target & 3 else (None, 0)

    def _bad_data_access(self, uc: Any, i: Instruction) -> tuple[Stop | None, int]:
        address = (self._register(uc, i.rs1) + i.immediate) & 0xFFFF_FFFF
        store = i.op in STORES
        if address % ACCESS_SIZE[i.op]:
            return Stop.MISALIGNED_STORE if store else Stop.MISALIGNED_LOAD, address
        region = next((r for r in self._program.regions if r.base <= address < r.base + r.size), None)
        if region is None:
            return Stop.STORE_UNMAPPED if store else Stop.LOAD_UNMAPPED, address
        if store and not region.writable:
            return Stop.STORE_TO_CODE if region.executable else Stop.STORE_READ_ONLY, address
        return None, 0

    @staticmethod
    def _register(uc: Any, number: int) -> int:
        return int(uc.reg_read(UC_RISCV_REG_X0 + number)) if number else 0

    def _taken(self, uc: Any, i: Instruction) -> bool:
        a, b = self._register(uc, i.rs1), self._register(uc, i.rs2)
        if i.op in (Op.BLT, Op.BGE):
            a, b = a ^ 0x8000_0000, b ^ 0x8000_0000
        less, equal = a < b, a == b
        return {
            Op.BEQ: equal, Op.BNE: not equal, Op.BLT: less, Op.BLTU: less, Op.BGE: not less, Op.BGEU: not less,
        }[i.op]  # fmt: skip
