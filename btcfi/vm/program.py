"""A program ready to run: its bytes checked against the manifest, decoded once, its memory laid out."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from btcfi.documents import parse_toml
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError, NotHeldError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32, hash32
from btcfi.vm.elf import Elf, ElfError, parse_elf
from btcfi.vm.isa import decode_table
from btcfi.vm.machine import CODE_BASE, INPUT_BASE, MAX_MEMORY, OUTPUT_BASE, PAGE, GuestMismatchError

DEFAULT_PROGRAM: Final = "option_settlement"

_COMMITTED: Final = Path(__file__).resolve().parents[2] / "guest_programs"
"""Beside the package, in a checkout and in an installation alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Whole pages with one permission."""

    base: int
    size: int
    writable: bool
    executable: bool
    data: bytes
    """What it holds at the start, from its first byte; the rest is zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSize:
    """The one length in bytes that a program's input has: other lengths would be other roots of one settlement.

    The input page is zero beyond the input and no guest reads past its words, so bytes behind them change the input's
    commitment and nothing that was computed.
    """

    base: int
    """Bytes of every input."""
    per_count: int = 0
    """Further bytes for each of the count in the input's word 1; 0 for a program whose input is of one size."""

    def of(self, input_bytes: bytes) -> int:
        """Return the length that an input must have, by its own count; of one without that word, the base."""
        words = input_bytes[4:8]
        return self.base + self.per_count * (int.from_bytes(words, "little") if len(words) == 4 else 0)  # noqa: PLR2004 - a word


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A checked program. ``program_hash`` names it everywhere: for a program of the ABI, SHA-256 of its flat image."""

    name: str
    elf: Elf
    program_hash: Hash32
    regions: tuple[Region, ...]
    """Writable ones first, since programs touch them most."""
    output_size: int
    """Bytes at 0x8000_1000 that are its output; 0 when the program has no ABI windows."""
    input_size: InputSize | None = None
    """By its manifest; None for a program of none, and of a row that an earlier release retired: any input is taken."""

    def require_input(self, input_bytes: bytes) -> None:
        """Raise InvalidInputError unless the input has the one length that this program's manifest gives it."""
        if self.input_size is not None and len(input_bytes) != (size := self.input_size.of(input_bytes)):
            raise InvalidInputError("input", f"{len(input_bytes)} bytes", f"{size} bytes, as {self.name} reads")

    @cached_property
    def words(self) -> npt.NDArray[np.uint32]:
        """The code as u32 words."""
        return self.elf.words()

    @cached_property
    def decoded(self) -> npt.NDArray[np.int32]:
        """(words, 5): op, rd, rs1, rs2, immediate."""
        return decode_table(self.words)

    @cached_property
    def region_table(self) -> npt.NDArray[np.int64]:
        """(regions, 4): first address, end, index of its first word in memory, 2 executable | 1 writable."""
        rows, place = [], 0
        for region in self.regions:
            flags = 2 * region.executable + region.writable
            rows.append((region.base, region.base + region.size, place, flags))
            place += region.size // 4
        return np.array(rows, dtype=np.int64).reshape(-1, 4)

    @cached_property
    def initial_memory(self) -> npt.NDArray[np.uint32]:
        """All regions in the table's order, as words, as they are before the input is written."""
        memory = np.zeros(sum(region.size for region in self.regions) // 4, dtype=np.uint32)
        place = 0
        for region in self.regions:
            padded = region.data + bytes(-len(region.data) % 4)
            memory[place : place + len(padded) // 4] = np.frombuffer(padded, dtype="<u4")
            place += region.size // 4
        return memory

    @cached_property
    def places(self) -> dict[int, int]:
        """The index in memory of each region's first word, by the region's first address."""
        return {start: place for start, _, place, _ in self.region_table.tolist()}

    @cached_property
    def writable_words(self) -> int:
        """How many words of memory can be written; they come first."""
        return sum(region.size for region in self.regions if region.writable) // 4

    @cached_property
    def has_abi(self) -> bool:
        """Whether the input and output pages are mapped."""
        return self.output_size > 0 and any(
            region.base <= INPUT_BASE < region.base + region.size for region in self.regions
        )


def load_program(name: str, root: Path | None = None) -> Program:
    """Return the guest program ``name`` of the manifest under ``root`` (default: the committed ones).

    Its bytes are hashed before they are parsed. Raises NotFoundError, GuestMismatchError, ElfError, InvalidInputError.
    """
    folder = _COMMITTED if root is None else root
    return _checked(manifest_row(name, folder), folder)


def load_program_by_hash(program_hash: str, root: Path | None = None, *, name: str = "") -> Program:
    """Return the program whose flat image has this SHA-256 (hex), also one that was retired; checked as any other.

    A row, a proof and a contract name their program by it: what was sold by one program is settled by that one.
    name: what the row calls it, for the message. Raises NotHeldError, also where its file is missing or another one:
    what needs it waits, and nothing else does.
    """
    folder = _COMMITTED if root is None else root
    hint = "put its ELF file into guest_programs/retired and its row into the manifest (README.md there)"
    try:
        for table in _TABLES:
            for row in _manifest(folder, table):
                if row.get("image_sha256") == program_hash:
                    return _checked(_complete(row, retired=table == "retired"), folder)
    except BtcfiError as e:
        raise NotHeldError("guest program", program_hash, name=name, hint=f"{e}; {hint}") from e
    raise NotHeldError("guest program", program_hash, name=name, hint=hint)


def hashes_of(name: str, root: Path | None = None) -> list[Hash32]:
    """Return by which programs of this name something may have been sold: today's, then the retired ones.

    From the manifest alone, no file is read. Raises NotFoundError, InvalidInputError.
    """
    folder = _COMMITTED if root is None else root
    old = (_complete(row, retired=True) for row in _manifest(folder, "retired") if row.get("name") == name)
    return [hash32(bytes.fromhex(str(row["image_sha256"]))) for row in (manifest_row(name, folder), *old)]


def program_names(root: Path | None = None) -> list[str]:
    """Return the programs of the manifest that are not retired. Raises NotFoundError, InvalidInputError."""
    return sorted(str(row.get("name")) for row in _manifest(_COMMITTED if root is None else root, "program"))


def program_of_proof(name: str, program_hash: bytes, root: Path | None = None) -> Program:
    """Return the program that a proof names: of its hash, retired or not; if none has both, the newest of that name.

    The proof's own check then says what differs. Raises as ``load_program``.
    """
    with suppress(NotHeldError):
        found = load_program_by_hash(program_hash.hex(), root)
        if found.name == name:
            return found
    return load_program(name, root)


def _checked(row: dict[str, Any], folder: Path) -> Program:
    """Return a row's program, its file hashed before it is parsed."""
    name = str(row["name"])
    try:
        data = (folder / str(row["path"])).read_bytes()
    except OSError as e:
        raise NotFoundError("guest program file", str(row["path"]), "build it with `btcfi guest build`") from e
    found = sha256(data).hexdigest()
    if found != row["elf_sha256"]:
        raise GuestMismatchError(program=name, what="ELF file", expected=str(row["elf_sha256"]), found=found)
    program = program_from_elf(data, name=name, output_size=int(row["output_size"]), input_size=_input_size(row))
    if program.program_hash.hex() != row["image_sha256"]:
        raise GuestMismatchError(
            program=name, what="flat image", expected=str(row["image_sha256"]), found=program.program_hash.hex()
        )
    return program


_TABLES: Final = ("program", "retired")
"""Tables of the manifest: what new options are sold by, and what only old ones name."""


def _input_size(row: dict[str, Any]) -> InputSize | None:
    """Return a row's ``input_size`` and ``input_per_count`` (bytes), None without one. Raises InvalidInputError."""
    if "input_size" not in row:
        return None
    base, per_count = row["input_size"], row.get("input_per_count", 0)
    least = 8 if per_count else 0  # a count stands in word 1
    if type(base) is not int or type(per_count) is not int or not least <= base <= PAGE or not 0 <= per_count <= PAGE:
        found = f"input_size {base!r}, input_per_count {per_count!r}"
        right = f"bytes, up to {PAGE}; with a count in word 1 an input_size from 8"
        raise InvalidInputError(f"manifest.toml, program {row['name']}", found, right)
    return InputSize(base=base, per_count=per_count)


_MANIFEST_KEYS: Final = {
    "name": str, "path": str, "elf_sha256": str, "image_sha256": str, "output_size": int, "input_size": int,
}  # fmt: skip


def manifest_row(name: str, folder: Path) -> dict[str, Any]:
    """Return the manifest's row of a program. Raises NotFoundError, InvalidInputError for a malformed manifest."""
    rows = _manifest(folder, "program")
    for row in rows:
        if row.get("name") == name:
            return _complete(row)
    known = ", ".join(str(row.get("name")) for row in rows)
    raise NotFoundError("guest program", name, f"the manifest has {known or 'none'}")


def _manifest(folder: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of one of the manifest's tables. Raises NotFoundError, InvalidInputError."""
    try:
        text = (folder / "manifest.toml").read_text(encoding="utf-8")
    except OSError as e:
        raise NotFoundError("guest manifest", "manifest.toml", f"looked in {folder}") from e
    except UnicodeDecodeError as e:
        raise InvalidInputError("manifest.toml", str(e), "TOML with a [[program]] table a program") from e
    manifest = parse_toml(text, "manifest.toml")
    rows = manifest.get(table, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInputError("manifest.toml", f"`{table}` is no table", f"a [[{table}]] table a program")
    return rows


def _complete(row: dict[str, Any], *, retired: bool = False) -> dict[str, Any]:
    for key, kind in _MANIFEST_KEYS.items():
        if retired and key == "input_size" and key not in row:
            continue  # retired by an earlier release, whose rows have none: what was sold by it still settles
        if not isinstance(row.get(key), kind):
            what = "bad" if key in row else "no"
            right = "a complete row; `btcfi guest build` writes its hashes, you the size of input and output in bytes"
            raise InvalidInputError(f"manifest.toml, program {row.get('name')}", f"{what} {key}", right)
    return dict(row)


def program_from_elf(data: bytes, *, name: str, output_size: int, input_size: InputSize | None = None) -> Program:
    """Return a program from an ELF file with the ABI's input and output pages. Raises ElfError."""
    elf = parse_elf(data)
    if elf.entry != CODE_BASE or elf.segments[0].address != CODE_BASE:
        raise ElfError(
            "e_entry", f"0x{elf.entry:x}, image at 0x{elf.segments[0].address:x}",
            f"both at 0x{CODE_BASE:x}, so that the flat image alone names the program",
        )  # fmt: skip
    if not 0 < output_size <= PAGE or output_size % 4:
        raise InvalidInputError("output_size", str(output_size), f"a multiple of 4, up to {PAGE}")
    windows = (
        Region(base=INPUT_BASE, size=PAGE, writable=False, executable=False, data=b""),
        Region(base=OUTPUT_BASE, size=PAGE, writable=True, executable=False, data=b""),
    )
    program = _program(elf, name, windows, output_size, Hash32(sha256(elf.image()).digest()))
    return replace(program, input_size=input_size)


def bare_program(data: bytes, *, name: str, ram: tuple[int, int] | None = None) -> Program:
    """Return any RV32IM executable as a program without input and output pages. Raises ElfError.

    ram: base and size of further memory, whole pages, for a program that expects its stack somewhere.
    Wherever it lies in memory: so its hash is over entry, addresses, sizes, permissions and data of its segments.
    """
    elf = parse_elf(data)
    parts = [struct.pack("<I", elf.entry)]
    for s in elf.segments:
        parts += [struct.pack("<4I", s.address, s.size, 2 * s.executable + s.writable, len(s.data)), s.data]
    windows: tuple[Region, ...] = ()
    if ram is not None:
        base, size = ram
        if base % PAGE or size % PAGE or not 0 < size <= MAX_MEMORY or not 0 <= base <= (1 << 32) - size:
            raise ElfError("ram", f"0x{base:x}, {size} bytes", f"whole pages of {PAGE}, at most {MAX_MEMORY} bytes")
        windows = (Region(base=base, size=size, writable=True, executable=False, data=b""),)
        parts.append(struct.pack("<2I", base, size))
    return _program(elf, name, windows, 0, tagged_hash("BTCFi/program/bare", b"".join(parts)))


def any_program(data: bytes, *, name: str) -> Program:
    """Return an ELF file as a program of the ABI if it is linked like one, with 40 bytes of output, else as a bare one.

    Raises ElfError.
    """
    elf = parse_elf(data)
    like_ours = elf.entry == elf.segments[0].address == CODE_BASE
    free = all(s.end <= INPUT_BASE or s.address >= OUTPUT_BASE + PAGE for s in elf.segments)
    return program_from_elf(data, name=name, output_size=40) if like_ours and free else bare_program(data, name=name)


def _program(elf: Elf, name: str, windows: tuple[Region, ...], output_size: int, program_hash: Hash32) -> Program:
    regions = [*windows, *_regions(elf)]
    by_address = sorted(regions, key=lambda region: region.base)
    for low, high in pairwise(by_address):
        if high.base < low.base + low.size:
            raise ElfError(
                "segments", f"0x{high.base:x} overlaps another region", "no overlap with input, output or RAM"
            )
    if sum(region.size for region in regions) > MAX_MEMORY:
        raise ElfError("segments", "too much memory in all", f"at most {MAX_MEMORY} bytes")
    regions.sort(key=lambda region: (not region.writable, region.base))
    return Program(name=name, elf=elf, program_hash=program_hash, regions=tuple(regions), output_size=output_size)


def _regions(elf: Elf) -> list[Region]:
    """Return the segments rounded out to pages, those that share a page or touch with one permission merged."""
    merged: list[Region] = []
    for segment in elf.segments:
        base = segment.address // PAGE * PAGE
        size = -(-segment.end // PAGE) * PAGE - base
        data = bytes(segment.address - base) + segment.data
        last = merged[-1] if merged else None
        if last is not None and base < last.base + last.size:
            gap = segment.address - last.base
            data = last.data + bytes(gap - len(last.data)) + segment.data
            base, size = last.base, max(last.size, base + size - last.base)
            merged.pop()
        merged.append(Region(base=base, size=size, writable=segment.writable, executable=segment.executable, data=data))
    return merged


__all__ = [
    "DEFAULT_PROGRAM",
    "GuestMismatchError",
    "InputSize",
    "Program",
    "Region",
    "any_program",
    "bare_program",
    "load_program",
    "load_program_by_hash",
    "program_from_elf",
    "program_of_proof",
]
