"""A strict ELF loader: it maps what it understands completely and refuses everything else.

32-bit little-endian RISC-V executables, soft-float, uncompressed, static; one executable segment, never writable; whole
pages with one permission each. Every word of code must be RV32IM. Sizes are checked before anything is allocated, so
time and memory are bounded by the file. Source: System V ABI (ELF), RISC-V ELF psABI chapter 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.vm.isa import BRANCHES, UNIMP, Op, decode_table
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
_STT_OBJECT, _STT_FUNC = 1, 2
_MAX_HEADERS: Final = 64

MAX_SYMBOLS: Final = 1 << 16
"""Symbols that are read, the first ones of the file's one table: programs have a few dozen."""

MAX_SYMBOL_NAME: Final = 255
"""Bytes; a longer name is not read. Names may overlap, so without it n bytes of file are n**2 bytes of names."""

_SYMBOL: Final = struct.Struct("<IIIBBH")


class ElfError(InvalidInputError):
    """A program file that the machine does not load: which field, what it held, what would be right."""


class InstructionRefusedError(ElfError):
    """The code holds a word that is not RV32IM: a foreign instruction, the compiler's trap, or a constant."""

    def __init__(self, *, address: int, word: int, within: str = "", is_constant: bool = False) -> None:
        """Name the word. within: the function or object around it; is_constant: it is there to be read, not run."""
        where = f"0x{word:08x} at 0x{address:08x}" + (f" in {within}" if within else "")
        problem, right = f"{where} is not an RV32IM instruction", "no C, A, F, D, CSR or fence.i"
        if word == UNIMP:
            problem = f"{where} is unimp, the compiler's trap"
            right = "no __builtin_trap, and no path whose behaviour C leaves undefined (a division by 0, no return)"
        elif is_constant:
            problem = f"{where} is a constant in .text"
            right = "constants in .rodata: const, without a section attribute"
        super().__init__("code", problem, right)
        self.address, self.word, self.within, self.is_constant = address, word, within, is_constant


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
class Symbol:
    """A name of the file's symbol table, which no hash commits to: for people and tests, never for execution."""

    name: str
    address: int
    size: int
    is_object: bool
    """Data by the compiler's word, not a function or a label."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Elf:
    """A program file, checked."""

    entry: int
    segments: tuple[Segment, ...]
    """By address."""
    symbol_table: bytes
    """Entries of 16 bytes, at most MAX_SYMBOLS, unread until somebody asks for names."""
    symbol_names: bytes
    """What they point into."""

    @cached_property
    def named(self) -> tuple[Symbol, ...]:
        """Return functions, objects and labels with a name of 1 to MAX_SYMBOL_NAME bytes, in the file's order."""
        found = []
        for name, address, size, info, _, _ in _SYMBOL.iter_unpack(self.symbol_table):
            if info & 15 > _STT_FUNC:
                continue
            text, end, _ = self.symbol_names[name : name + MAX_SYMBOL_NAME + 1].partition(b"\0")
            if text and end:
                is_object = info & 15 == _STT_OBJECT
                found.append(
                    Symbol(name=text.decode("ascii", "replace"), address=address, size=size, is_object=is_object)
                )
        return tuple(found)

    @cached_property
    def symbols(self) -> dict[str, tuple[int, int]]:
        """Name -> address and size; of two with one name the later."""
        return {symbol.name: (symbol.address, symbol.size) for symbol in self.named}

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
    table, names = _symbols(data, sections)
    elf = Elf(entry=entry, segments=segments, symbol_table=table, symbol_names=names)
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


def _symbols(data: bytes, sections: list[tuple[int, ...]]) -> tuple[bytes, bytes]:
    """Return the bytes of the first symbol table and of its names (the ELF standard allows one); empty without."""
    for section in sections:
        kind, offset, size, link = section[1], section[4], section[5], section[6]
        if kind == _SHT_SYMTAB and link < len(sections) and offset + size <= len(data):
            whole = min(size // _SYMBOL.size, MAX_SYMBOLS) * _SYMBOL.size
            return data[offset : offset + whole], data[sections[link][4] : sections[link][4] + sections[link][5]]
    return b"", b""


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
    table = decode_table(words)
    refused = np.flatnonzero((table[:, 0] == Op.ILLEGAL) & _code_mask(code, sections, len(words)))
    if not len(refused):
        return
    first = int(refused[0])
    around = _symbol_around(elf, code.address + 4 * first)
    raise InstructionRefusedError(
        address=code.address + 4 * first,
        word=int(words[first]),
        within=around.name if around else "",
        is_constant=(around is not None and around.is_object) or not _is_reached(table, first),
    )


def _symbol_around(elf: Elf, address: int) -> Symbol | None:
    return next((one for one in elf.named if one.address <= address < one.address + one.size), None)


def _is_reached(table: npt.NDArray[np.int32], index: int) -> bool:
    """Return whether the word at ``index`` is the entry's, follows an instruction that goes on, or is a jump's target.

    Targets in registers are unknown: a function that is only called through a pointer counts as not reached.
    """
    ops, places = table[:, 0], np.arange(len(table))
    jumps = (ops == Op.JAL) | np.isin(ops, list(BRANCHES))
    targets = 4 * places[jumps] + table[jumps, 4]
    if index == 0 or bool(np.any(targets == 4 * index)):
        return True
    op, rd = int(ops[index - 1]), int(table[index - 1, 1])
    leaves = op in (Op.ILLEGAL, Op.ECALL, Op.EBREAK) or (op in (Op.JAL, Op.JALR) and rd == 0)
    return not leaves


def _code_mask(code: Segment, sections: list[tuple[int, ...]], words: int) -> npt.NDArray[np.bool_]:
    """Return which words are instructions: in sections marked executable if there are any, else in the whole segment.

    Constants that a linker put between them are not scanned; executing one is a fault all the same. Sections may
    overlap: their ends are counted, so that the time is the words plus the sections and not their product.
    """
    marked = [(s[3], s[3] + s[5]) for s in sections if s[2] & _SHF_EXECINSTR and s[1] != _SHT_NOBITS and s[5]]
    inside = [span for span in marked if code.address <= span[0] and span[1] <= code.end]
    if not inside:
        return np.ones(words, dtype=np.bool_)
    edges = np.zeros(words + 1, dtype=np.int32)
    for low, high in inside:
        edges[-(-(low - code.address) // 4)] += 1
        edges[-(-(high - code.address) // 4)] -= 1
    return np.cumsum(edges[:-1]) > 0
