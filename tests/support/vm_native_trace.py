"""Unicorn's own trace of a run, by callbacks that numba compiles: no Python per instruction, so that whole settlements
and hundreds of random programs are compared step by step.

Nothing of it comes from our decoder: pc and registers are read from Unicorn before each instruction, memory operations
are what Unicorn reports to have done.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba import carray, cfunc, types
from unicorn import (
    UC_ARCH_RISCV,
    UC_HOOK_CODE,
    UC_HOOK_MEM_READ_AFTER,
    UC_HOOK_MEM_WRITE,
    UC_MEM_WRITE,
    UC_MODE_RISCV32,
    Uc,
)
from unicorn.riscv_const import UC_RISCV_REG_X0
from unicorn.unicorn_py3.unicorn import uclib

from btcfi.vm.machine import INPUT_BASE
from btcfi.vm.program import Program

ROW = 37
"""u32 words a step: pc, x0..x31, memory kind (0 none, 1 load, 2 store), size, address, value."""

# One u32 buffer is all that the callbacks see: steps done, its own address (two words), register numbers, where Unicorn
# shall put the registers (32 addresses of two words), and the rows.
_DONE, _LOW, _HIGH, _NUMBERS, _PLACES, _ROWS = 0, 1, 2, 4, 36, 100

_reg_read_batch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)(
    ctypes.cast(uclib.uc_reg_read_batch, ctypes.c_void_p).value
)
_U32S = types.CPointer(types.uint32)


@cfunc(types.void(types.uint64, types.uint64, types.uint32, _U32S))
def _on_instruction(engine, address, _size, user):
    head = carray(user, (_ROWS,))
    base = np.uint64(head[_LOW]) | np.uint64(head[_HIGH]) << np.uint64(32)
    first = _ROWS + np.int64(head[_DONE]) * ROW
    for n in range(32):  # Unicorn writes each register straight into the row
        place = base + np.uint64(4 * (first + 1 + n))
        head[_PLACES + 2 * n] = np.uint32(place & np.uint64(0xFFFF_FFFF))
        head[_PLACES + 2 * n + 1] = np.uint32(place >> np.uint64(32))
    _reg_read_batch(engine, base + np.uint64(4 * _NUMBERS), base + np.uint64(4 * _PLACES), 32)
    carray(user, (first + ROW,))[first] = np.uint32(address)
    head[_DONE] += np.uint32(1)


@cfunc(types.void(types.uint64, types.int32, types.uint64, types.int32, types.int64, _U32S))
def _on_memory(_engine, kind, address, size, value, user):
    first = _ROWS + (np.int64(carray(user, (1,))[_DONE]) - 1) * ROW
    row = carray(user, (first + ROW,))
    row[first + 33] = np.uint32(2 if kind == UC_MEM_WRITE else 1)
    row[first + 34] = np.uint32(size)
    row[first + 35] = np.uint32(address)
    row[first + 36] = np.uint32(value & ((np.int64(1) << np.int64(8 * size)) - 1))


def traced_by_unicorn(program: Program, data: bytes, *, steps: int) -> np.ndarray:
    """Return (steps, 37) rows of the first ``steps`` instructions; the ``ecall`` must come later."""
    uc: Any = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
    for region in program.regions:
        uc.mem_map(region.base, region.size)
        uc.mem_write(region.base, region.data)
    if data:
        uc.mem_write(INPUT_BASE, data)
    buffer = np.zeros(_ROWS + (steps + 1) * ROW, dtype=np.uint32)  # one spare: `count` stops after the hook
    buffer[_LOW], buffer[_HIGH] = buffer.ctypes.data & 0xFFFF_FFFF, buffer.ctypes.data >> 32
    buffer[_NUMBERS : _NUMBERS + 32] = range(UC_RISCV_REG_X0, UC_RISCV_REG_X0 + 32)
    for kind, hook in ((UC_HOOK_CODE, _on_instruction), (UC_HOOK_MEM_READ_AFTER | UC_HOOK_MEM_WRITE, _on_memory)):
        handle = ctypes.c_size_t()  # Unicorn's Python binding knows no native callback and no MEM_READ_AFTER
        every = (ctypes.c_uint64(1), ctypes.c_uint64(0))
        error = uclib.uc_hook_add(uc._uch, ctypes.byref(handle), kind, hook.address, buffer.ctypes.data, *every)
        assert error == 0, error
    uc.emu_start(program.elf.entry, 0xFFFF_FFFE, count=steps)
    assert buffer[_DONE] == steps, f"{buffer[_DONE]} steps seen"
    return buffer[_ROWS : _ROWS + steps * ROW].reshape(steps, ROW)
