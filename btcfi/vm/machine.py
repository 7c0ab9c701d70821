"""The machine that a settlement program runs on: its memory map, and every reason why a run can stop.

RV32IM, little-endian, 32-bit addresses, no privileged part. Registers and RAM start at zero, the program counter at the
entry. ``ecall`` halts; everything else that would trap is a fault. Same program, same input: same bytes out.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from btcfi.errors import BtcfiError, InvalidInputError

PAGE: Final = 4096
"""Permissions hold for whole pages: what Unicorn can enforce, so what both executors enforce."""

CODE_BASE: Final = 0x0001_0000
"""Where an ABI program's image starts, and its entry."""

INPUT_BASE: Final = 0x8000_0000
"""One read-only page: the published address of the input."""

OUTPUT_BASE: Final = 0x8000_1000
"""One writable page: the output."""

MAX_STEPS: Final = 1 << 24
"""Steps before a run is refused, unless the caller says otherwise: 24 Merkle levels, so 24 challenge rounds."""

MAX_MEMORY: Final = 16 << 20
"""Bytes that one program may map; a 4 GiB segment is refused before anything is allocated."""


class Stop(IntEnum):
    """Why a run ended. Both executors must give the same reason."""

    HALTED = 0
    STEP_LIMIT = 1
    ILLEGAL_INSTRUCTION = 2
    BREAKPOINT = 3
    MISALIGNED_JUMP = 4
    FETCH_OUTSIDE_CODE = 5
    MISALIGNED_LOAD = 6
    MISALIGNED_STORE = 7
    LOAD_UNMAPPED = 8
    STORE_UNMAPPED = 9
    STORE_READ_ONLY = 10
    STORE_TO_CODE = 11


class MachineFaultError(BtcfiError):
    """The program did what the machine refuses."""

    stop: Stop

    def __init__(self, *, pc: int, instruction: int, address: int, steps: int) -> None:
        what = self.stop.name.lower().replace("_", " ")
        super().__init__(
            f"machine fault: {what} at pc 0x{pc:08x} (instruction 0x{instruction:08x}, address 0x{address:08x}) "
            f"after {steps} steps"
        )
        self.pc, self.instruction, self.address, self.steps = pc, instruction, address, steps


class StepLimitError(MachineFaultError):
    """The program did not halt within the allowed steps."""

    stop = Stop.STEP_LIMIT


class IllegalInstructionError(MachineFaultError):
    """A word that is not RV32IM was executed: compressed, atomic, floating point, CSR or nothing at all."""

    stop = Stop.ILLEGAL_INSTRUCTION


class BreakpointError(MachineFaultError):
    """``ebreak`` was executed."""

    stop = Stop.BREAKPOINT


class MisalignedJumpError(MachineFaultError):
    """A jump or taken branch to an address that is not a multiple of 4; ``pc`` is the jump, ``address`` its target."""

    stop = Stop.MISALIGNED_JUMP


class FetchOutsideCodeError(MachineFaultError):
    """Execution left the code segment; ``pc`` is where it went."""

    stop = Stop.FETCH_OUTSIDE_CODE


class MisalignedLoadError(MachineFaultError):
    """A load from an address that is not a multiple of its size."""

    stop = Stop.MISALIGNED_LOAD


class MisalignedStoreError(MachineFaultError):
    """A store to an address that is not a multiple of its size."""

    stop = Stop.MISALIGNED_STORE


class LoadUnmappedError(MachineFaultError):
    """A load from an address where nothing is mapped."""

    stop = Stop.LOAD_UNMAPPED


class StoreUnmappedError(MachineFaultError):
    """A store to an address where nothing is mapped."""

    stop = Stop.STORE_UNMAPPED


class StoreReadOnlyError(MachineFaultError):
    """A store to constants or to the input."""

    stop = Stop.STORE_READ_ONLY


class StoreToCodeError(MachineFaultError):
    """A store to the program's own code."""

    stop = Stop.STORE_TO_CODE


FAULTS: Final[dict[Stop, type[MachineFaultError]]] = {
    kind.stop: kind
    for kind in (
        StepLimitError,
        IllegalInstructionError,
        BreakpointError,
        MisalignedJumpError,
        FetchOutsideCodeError,
        MisalignedLoadError,
        MisalignedStoreError,
        LoadUnmappedError,
        StoreUnmappedError,
        StoreReadOnlyError,
        StoreToCodeError,
    )
}


class GuestMismatchError(InvalidInputError):
    """The program's bytes are not the ones that the manifest promises."""

    def __init__(self, *, program: str, what: str, expected: str, found: str) -> None:
        super().__init__(f"guest program {program}", f"SHA-256 of its {what} is {found}", f"{expected} (manifest.toml)")
        self.program, self.expected_hash, self.found_hash = program, expected, found


class ExecutorsDisagreeError(BtcfiError):
    """The interpreter and Unicorn differ: a defect of one of them, so nothing is settled."""

    def __init__(self, *, program: str, field: str, interpreter: object, emulator: object) -> None:
        super().__init__(f"executors disagree on {field} of {program}: interpreter {interpreter}, Unicorn {emulator}")
        self.program, self.field, self.interpreter, self.emulator = program, field, interpreter, emulator
