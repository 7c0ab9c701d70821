"""A strict ELF loader: it maps what it understands completely and refuses everything else.

32-bit little-endian RISC-V executables, soft-float, uncompressed, static; one executable segment, never writable; whole
pages with one permission each. Every word of code must be RV32IM. Sizes are checked before anything is allocated, so
time and memory are bounded by the file. Source: System V ABI (ELF), RISC-V ELF psABI chapter 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.vm.isa import Op, decode_table
from btcfi.vm.machine import MAX_MEMORY, PAGE

MAX_ELF_BYTES: Final = 16 << 20
"""Larger files are refused unread: a settlement program is kilobytes."""

_HEADER: Final = struct.Struct("<16sHHIIIIIHHHHHH")
_SEGMENT: Final = struct.Struct("<8I")
_SECTION: Final = struct.Struct("<10I")
_IDENT: Final = b"\x7fELF\x01\x01\x01"
_ET_EXEC, _EM_RISCV = 2, 243
_PT_NULL, _PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_TLS = 0, 1, 2, 3, 7
_PF_X, _PF_W, _PF_R = 1, 2, 4
_SHT_NOBITS, _SHF_EXECINSTR, _SHT_SYMTAB = 8, 4, 2
_STT_FUNC: Final = 2
_MAX_HEADERS: Final = 64


class ElfError(InvalidInputError):
    """A program file that the machine does not load: which field, what it held, what would be right."""


class InstructionRefusedError(ElfError):
    """The code holds a word that is not RV32IM."""

    def __init__(self, *, address: int, word: int) -> None:
        super().__init__(
            "code", f"0x{word:08x} at 0x{address:08x} is not an RV32IM instruction", "no C, A, F, D, CSR or fence.i"
        )
        self.address, self.word = address, word


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A loadable part of the file."""

    address: int
    size: int
    """Bytes in memory; beyond ``data`` they are zero."""
    data: bytes
    readable: bool
    writable: bool
    executable: bool

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """A program file, checked."""

    entry: int
    segments: tuple[Segment, ...]
    """By address."""
    symbols: dict[str, tuple[int, int]]
    """Name -> address and size of functions, objects and labels, for people and tests; execution does not read it."""

    @property
    def code(self) -> Segment:
        """The one executable segment."""
        return next(segment for segment in self.segments if segment.executable)

    def words(self) -> npt.NDArray[np.uint32]:
        """Return the code as u32 words; constants at its end may leave the last one padded with zeros."""
        padded = self.code.data + bytes(-self.code.size % 4)
        return np.frombuffer(padded, dtype="<u4").astype(np.uint32)

    def image(self) -> bytes:
        """Return the flat image: file-backed bytes from the lowest address on, gaps as zeros (objcopy -O binary).

        Raises ElfError when they are spread so far that the zeros would be most of memory.
        """
        backed = [segment for segment in self.segments if segment.data]
        base = backed[0].address
        size = backed[-1].address + len(backed[-1].data) - base
        if size > MAX_MEMORY:
            raise ElfError("segments", f"data spread over {size} bytes", f"a flat image of at most {MAX_MEMORY}")
        flat = bytearray(size)
        for segment in backed:
            flat[segment.address - base : segment.address - base + len(segment.data)] = segment.data
        return bytes(flat)


def parse_elf(data: bytes) -> Elf:
    """Return the program in ``data``. Raises ElfError for whatever it does not know."""
    if len(data) > MAX_ELF_BYTES:
        raise ElfError("file size", f"{len(data)} bytes", f"at most {MAX_ELF_BYTES}")
    if len(data) < _HEADER.size:
        raise ElfError("file size", f"{len(data)} bytes", f"an ELF header of {_HEADER.size} bytes")
    ident, kind, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, shentsize, shnum, _ = (
        _HEADER.unpack_from(data)
    )
    if ident[: len(_IDENT)] != _IDENT:
        raise ElfError("e_ident", ident[:8].hex(), "7f454c46010101: ELF, 32-bit, little-endian, version 1")
    _expect("e_type", kind, _ET_EXEC, "2: a static executable")
    _expect("e_machine", machine, _EM_RISCV, "243: RISC-V")
    _expect("e_version", version, 1, "1")
    _expect("e_flags", flags, 0, "0: soft-float, not compressed, not RVE")
    _expect("e_ehsize", ehsize, _HEADER.size, str(_HEADER.size))
    _expect("e_phentsize", phentsize, _SEGMENT.size, str(_SEGMENT.size))
    if not 1 <= phnum <= _MAX_HEADERS:
        raise ElfError("e_phnum", str(phnum), f"1 to {_MAX_HEADERS} program headers")
    if phoff + phnum * _SEGMENT.size > len(data):
        raise ElfError("e_phoff", f"headers end at {phoff + phnum * _SEGMENT.size}", f"within {len(data)} bytes")
    segments = _segments(data, phoff, phnum)
    sections = _sections(data, shoff, shentsize, shnum)
    elf = Elf(entry=entry, segments=segments, symbols=_symbols(data, sections))
    _check_code(elf, sections)
    return elf


def _expect(field: str, value: int, wanted: int, meaning: str) -> None:
    if value != wanted:
        raise ElfError(field, f"{value:#x}", meaning)


def _segments(data: bytes, phoff: int, phnum: int) -> tuple[Segment, ...]:  # noqa: C901 - a list of refusals
    found: list[Segment] = []
    total = 0
    for index in range(phnum):
        kind, offset, vaddr, _, filesz, memsz, flags, _ = _SEGMENT.unpack_from(data, phoff + index * _SEGMENT.size)
        name = f"segment {index}"
        if kind in (_PT_DYNAMIC, _PT_INTERP, _PT_TLS):
            raise ElfError(f"{name} p_type", str(kind), "a static program without dynamic, interpreter or TLS segments")
        if kind != _PT_LOAD or memsz == 0:
            continue  # notes, stack flags and attributes map nothing
        if filesz > memsz:
            raise ElfError(f"{name} p_filesz", f"{filesz} above p_memsz {memsz}", "at most p_memsz")
        if offset + filesz > len(data):
            raise ElfError(f"{name} p_offset", f"data ends at {offset + filesz}", f"within {len(data)} bytes of file")
        if vaddr + memsz > 1 << 32:
            raise ElfError(f"{name} p_memsz", f"ends at {vaddr + memsz:#x}", "an end below 2**32")
        total += memsz + PAGE
        if total > MAX_MEMORY:
            raise ElfError(f"{name} p_memsz", f"{total} bytes mapped in all", f"at most {MAX_MEMORY}")
        if flags & ~7:
            raise ElfError(f"{name} p_flags", f"{flags:#x}", "R, W and X only")
        if not flags & _PF_R:
            raise ElfError(f"{name} p_flags", f"{flags:#x}", "a readable segment")
        if flags & _PF_W and flags & _PF_X:
            raise ElfError(f"{name} p_flags", f"{flags:#x}, writable and executable", "one or the other")
        found.append(
            Segment(
                address=vaddr,
                size=memsz,
                data=data[offset : offset + filesz],
                readable=True,
                writable=bool(flags & _PF_W),
                executable=bool(flags & _PF_X),
            )
        )
    if sum(segment.executable for segment in found) != 1:
        count = sum(segment.executable for segment in found)
        raise ElfError("segments", f"{count} executable segments", "exactly one")
    found.sort(key=lambda segment: segment.address)
    for low, high in pairwise(found):
        _check_apart(low, high)
    return tuple(found)


def _check_apart(low: Segment, high: Segment) -> None:
    if high.address < low.end:
        raise ElfError("segments", f"0x{high.address:x} overlaps the one that ends at 0x{low.end:x}", "no overlap")
    same = (low.writable, low.executable) == (high.writable, high.executable)
    if not same and high.address // PAGE <= (low.end - 1) // PAGE:
        raise ElfError(
            "segments", f"page 0x{high.address // PAGE * PAGE:x} has two permissions", "permissions by whole pages"
        )


def _sections(data: bytes, shoff: int, shentsize: int, shnum: int) -> list[tuple[int, ...]]:
    if shnum == 0 or shoff == 0:
        return []
    _expect("e_shentsize", shentsize, _SECTION.size, str(_SECTION.size))
    if shnum > _MAX_HEADERS * 16 or shoff + shnum * _SECTION.size > len(data):
        raise ElfError("e_shoff", f"{shnum} headers at {shoff}", f"headers within {len(data)} bytes")
    return [_SECTION.unpack_from(data, shoff + index * _SECTION.size) for index in range(shnum)]


def _symbols(data: bytes, sections: list[tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    symbols: dict[str, tuple[int, int]] = {}
    for section in sections:
        kind, offset, size, link = section[1], section[4], section[5], section[6]
        if kind != _SHT_SYMTAB or link >= len(sections) or offset + size > len(data):
            continue
        names = data[sections[link][4] : sections[link][4] + sections[link][5]]
        for place in range(offset, offset + size - 15, 16):
            name, value, length, info = struct.unpack_from("<IIIB", data, place)
            if info & 15 <= _STT_FUNC and name < len(names):
                text = names[name : names.find(b"\x00", name)].decode("ascii", "replace")
                if text:
                    symbols[text] = (value, length)
    return symbols


def _check_code(elf: Elf, sections: list[tuple[int, ...]]) -> None:
    code = elf.code
    if code.address % 4 or len(code.data) != code.size:
        raise ElfError(
            "code segment", f"0x{code.address:x}, {code.size} bytes, {len(code.data)} of them in the file",
            "an address of a word, and all of it in the file",
        )  # fmt: skip
    if elf.entry % 4 or not code.address <= elf.entry < code.end:
        raise ElfError("e_entry", f"0x{elf.entry:x}", f"a word of code, 0x{code.address:x} to 0x{code.end:x}")
    words = elf.words()
    illegal = np.flatnonzero(decode_table(words)[:, 0] == Op.ILLEGAL)
    spans = _code_spans(code, sections)
    for index in illegal.tolist():
        address = code.address + 4 * index
        if any(low <= address < high for low, high in spans):
            raise InstructionRefusedError(address=address, word=int(words[index]))


def _code_spans(code: Segment, sections: list[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Return where instructions stand: sections marked executable if there are any, else the whole segment.

    Constants that a linker put between them are not scanned; executing one is a fault all the same.
    """
    marked = [(s[3], s[3] + s[5]) for s in sections if s[2] & _SHF_EXECINSTR and s[1] != _SHT_NOBITS and s[5]]
    inside = [span for span in marked if code.address <= span[0] and span[1] <= code.end]
    return inside or [(code.address, code.end)]
