"""Attack a guest program: inputs that its author did not choose, and a watch over every instruction that it executes.

``check_program`` takes nobody's word. The twin's ``random_input`` says what an input looks like; what is tested is made
here: each word of several inputs alone, set to every edge and to every other word's neighbours; bytes appended; words
at random. Each run is on both executors, and its trace says where it loaded, stored and jumped.
"""

from __future__ import annotations

import importlib.util
import random
import struct
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from btcfi.errors import InvalidInputError
from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.elf import Symbol
from btcfi.vm.isa import BRANCHES, Op
from btcfi.vm.machine import INPUT_BASE, OUTPUT_BASE, PAGE, MachineFaultError
from btcfi.vm.program import Program, load_program
from btcfi.vm.trace import Execution, MemoryKind
from guest_programs.build import build, read_manifest, script_of

RANDOM_INPUTS: Final = 200
"""Made by the twin, or words at random without one."""

VARIED_INPUTS: Final = 4
"""Inputs of which each word alone is varied; one more is a plain settlement where the size is one's."""

MOST_WORDS: Final = 64
"""Words of an input that are varied, spread over it: more would take minutes."""

EDGES: Final = (
    0, 1, 2, 3, 4, 5, 99, 100, 101, 0xFFFF, 0x1_0000, 999_999, 1_000_000, 2_100_000_000, 2_100_000_001,
    0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF,
)  # fmt: skip
"""Signs, carries, the codes of the ABI and the number after them, and what money is divided and bounded by."""

_REGISTERS: Final = 3
"""A trace row's first register word; the stack pointer is the third register."""
_SP: Final = _REGISTERS + 2
_RET: Final = 0x0000_8067
"""``jalr x0, 0(ra)``: back to who called, and nowhere else."""
_M32: Final = 0xFFFF_FFFF


class GuestCheckError(InvalidInputError):
    """A guest program fails its check: which one, and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check found to be true."""

    name: str
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """The author's Python: the same payoff, and inputs that are worth testing."""

    settle: Callable[[bytes], bytes]
    random_input: Callable[[random.Random], bytes]


def check_program(
    name: str, root: Path, *, without_twin: bool = False, branching_payoff: bool = False, runs: int = RANDOM_INPUTS
) -> Checked:
    """Attack the program ``name`` of ``root`` and return what held.

    without_twin: it has none, and only halting, agreement of executors and memory are checked. branching_payoff: its
    payoff may branch, or have no function of its own. runs: random inputs. Raises GuestMismatchError, ElfError,
    CompilerError, ExecutorsDisagreeError, or GuestCheckError with the input that shows it.
    """
    program = load_program(name, root)
    row = next(row for row in read_manifest(root)["program"] if row["name"] == name)
    if build(name, list(row["sources"]), root=root, script=script_of(row)) != (root / row["path"]).read_bytes():
        raise GuestCheckError(name, "a rebuild gives other bytes", "`btcfi guest build` after each change")
    checks = [
        "bytes are the manifest's", f"{len(program.words)} instructions, all RV32IM; no writable code; one entry",
        "a rebuild gives the same bytes",
    ]  # fmt: skip
    _refuse_constants_in_code(program)
    twin = read_twin(root / name / "twin.py")
    if twin is None and not without_twin:
        raise GuestCheckError(str(root / name / "twin.py"), "missing", "the payoff in Python too, or --without-twin")
    attack = Attack(program=program, settle=None if twin is None else twin.settle)
    rng = random.Random(name)
    samples = [_sample(twin, rng, row) for _ in range(runs)]
    for data in samples if twin is not None else ():
        program.require_input(data)  # of another length nothing is proved: it would hide what the program reads
    plain = [_PLAIN] if all(len(one) == len(_PLAIN) for one in samples) else []
    for data in samples:
        attack.run(data)
    for data in [*plain, *samples[:VARIED_INPUTS]]:
        for varied in one_field_variations(data):
            attack.run(varied)
    for data in [*plain, *samples[: 4 * VARIED_INPUTS]]:
        attack.append_bytes(data, rng)
    checks += attack.found()
    checks += _payoff(program, branching_payoff=branching_payoff)
    if not branching_payoff and not attack.executed[_payoff_words(program)].all():
        if twin is not None:
            raise GuestCheckError(name, "`payoff` was never executed to its end", "a payoff that is what pays")
        checks.append("payoff was never executed to its end: without a twin nobody says which inputs pay")
    return Checked(name=name, checks=tuple(checks))


_PLAIN: Final = struct.pack(
    "<12IQI", 0, 6_000_000, 6_543_210, 100, 500_000, 0, 0, 5000, 6_543_210, 6_543_210, 120_000, 500, 100_000_000, 1
)
"""A SettlementInput that pays: a call at $60,000 on 1 BTC, at $65,432.10."""


def _sample(twin: Twin | None, rng: random.Random, row: dict[str, Any]) -> bytes:
    if twin is not None:
        return twin.random_input(rng)
    size = int(row.get("input_size", len(_PLAIN)))
    return rng.randbytes(size) if size != len(_PLAIN) or rng.random() < 0.5 else _scattered(_PLAIN, rng)  # noqa: PLR2004 - half


def _scattered(data: bytes, rng: random.Random) -> bytes:
    words = list(struct.unpack(f"<{len(data) // 4}I", data))
    for place in rng.sample(range(len(words)), 2):
        words[place] = rng.choice((*EDGES, *words))
    return struct.pack(f"<{len(words)}I", *words)


def one_field_variations(data: bytes) -> Iterator[bytes]:
    """Yield ``data`` with one word changed: to every edge, and to each other word and its two neighbours.

    So a comparison of two fields is met below, at and above equality without knowing what the fields mean. At most
    MOST_WORDS words, spread over the input; the bytes after the last whole word stay.
    """
    count = len(data) // 4
    words = struct.unpack_from(f"<{count}I", data)
    near = {(word + step) & _M32 for word in words[:MOST_WORDS] for step in (-1, 0, 1)}
    values = sorted({*EDGES, *near})
    for place in sorted({n * count // min(count, MOST_WORDS) for n in range(min(count, MOST_WORDS))}):
        for value in values:
            if value != words[place]:
                yield data[: 4 * place] + struct.pack("<I", value) + data[4 * place + 4 :]


@dataclass(kw_only=True)
class Attack:
    """Runs of one program and what they showed."""

    program: Program
    settle: Callable[[bytes], bytes] | None
    runs: int = 0
    appended: int = 0
    longest: int = 0
    lowest_stack: int = 1 << 32
    paths: set[int] = field(default_factory=set)
    executed: npt.NDArray[np.bool_] = field(init=False)
    taken: npt.NDArray[np.bool_] = field(init=False)
    passed: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing executed; branches are counted on both their sides."""
        self.emulator = Emulator(self.program)
        count = len(self.program.words)
        self.executed, self.taken, self.passed = (np.zeros(count, dtype=np.bool_) for _ in range(3))

    def run(self, data: bytes) -> bytes:
        """Run on ``data``, hold it against the twin and every access against the rules; return the output."""
        execution = self._executed(data)
        self.runs += 1
        if self.settle is not None and (wanted := self.settle(data)) != execution.output:
            raise GuestCheckError(
                self.program.name, f"{self._which(data)} gives {execution.output.hex()}, the twin {wanted.hex()}",
                "equality",
            )  # fmt: skip
        return execution.output

    def append_bytes(self, data: bytes, rng: random.Random) -> None:
        """Refuse a program whose output depends on what follows its input in the page, zeros or not."""
        wanted = self._executed(data).output
        for more in (b"\0", b"\1", b"\xff" * 4, rng.randbytes(60), b"\xff" * (PAGE - len(data))):
            longer = (data + more)[:PAGE]
            self.appended += 1
            # its accesses are held to the input proper: reading on is what must not happen
            if self._executed(longer, size=len(data)).output != wanted:
                found = f"{self._which(data)} gives another output with {len(more)} bytes after it"
                raise GuestCheckError(self.program.name, found, "an output of the input alone")

    def _which(self, data: bytes) -> str:
        return f"input {self.runs} ({data.hex()})"

    def _executed(self, data: bytes, *, size: int | None = None) -> Execution:
        try:
            execution = execute(self.program, self.emulator, data)
        except MachineFaultError as e:
            raise GuestCheckError(self.program.name, f"{self._which(data)}: {e}", "a halt on every input") from e
        self.longest = max(self.longest, execution.steps)
        if execution.trace is not None:
            self._watch(execution.trace.rows, data, len(data) if size is None else size)
        return execution

    def _watch(self, rows: npt.NDArray[np.uint32], data: bytes, size: int) -> None:
        places = (rows[:, 1].astype(np.int64) - self.program.elf.code.address) // 4
        self.executed[places] = True
        went_on = rows[1:, 1] == rows[:-1, 1] + 4
        self.passed[places[:-1][went_on]] = True
        self.taken[places[:-1][~went_on]] = True
        touching = rows[rows[:, 35] != 0]
        kinds, sizes = touching[:, 35] & 0xFF, (touching[:, 35] >> 8).astype(np.int64)
        addresses = touching[:, 36].astype(np.int64)
        allowed = np.zeros(len(touching), dtype=np.bool_)
        for low, high, writable in self._allowed(size):
            inside = (addresses >= low) & (addresses + sizes <= high)
            allowed |= inside & (writable | (kinds == MemoryKind.LOAD))
        if not allowed.all():
            self._refuse(touching[int(np.flatnonzero(~allowed)[0])], data)
        self._watch_stack(rows, data)
        stack = rows[:, _SP][rows[:, _SP] != 0]
        if len(stack):
            self.lowest_stack = min(self.lowest_stack, int(stack.min()))
        if self.lowest_stack < self._stack_bottom():
            found = f"{self._which(data)}: the stack grows to 0x{self.lowest_stack:08x}"
            raise GuestCheckError(self.program.name, found, f"at least 0x{self._stack_bottom():08x}: less on the stack")

    def _watch_stack(self, rows: npt.NDArray[np.uint32], data: bytes) -> None:
        """Refuse a load of a word of the stack that its frame has not stored: what is there, an earlier call left.

        A store of a part counts as one of its word. Below the stack pointer nothing is anybody's any more. Runs with
        the same instructions, addresses and stack pointers are looked at once.
        """
        path = hash(rows[:, (1, _SP, 35, 36)].tobytes())
        if path in self.paths:
            return
        self.paths.add(path)
        bottom, top = self._stack_bottom(), self.program.elf.symbols.get("__stack_top", (0, 0))[0]
        words = rows[:, 36].astype(np.int64) & ~3
        kinds = np.where((words >= bottom) & (words < top), rows[:, 35] & 0xFF, 0) if bottom else np.zeros(len(rows))
        loads = np.flatnonzero(kinds == MemoryKind.LOAD)
        for word in np.unique(words[loads]).tolist():
            of_word = words == word
            stores = np.flatnonzero(of_word & (kinds == MemoryKind.STORE))
            gone = np.flatnonzero(rows[:, _SP] > word)
            read = loads[of_word[loads]]
            stored, popped = (_last_before(read, times) for times in (stores, gone))
            if (wrong := read[stored <= popped]).size:
                where = place_of(self.program, int(rows[wrong[0], 1]))
                found = f"{self._which(data)}: {where} loads at 0x{word:08x}, a place of the stack that it never stored"
                raise GuestCheckError(self.program.name, found, "variables that are set before they are read")

    def _allowed(self, size: int) -> list[tuple[int, int, bool]]:
        # whole words of the input: a program reads words, and one that ends within a word is padded with zeros
        spans = [(INPUT_BASE, INPUT_BASE + -(-size // 4) * 4, False)]
        spans.append((OUTPUT_BASE, OUTPUT_BASE + self.program.output_size, True))
        own = [segment for segment in self.program.elf.segments if not segment.executable]
        return spans + [(segment.address, segment.end, segment.writable) for segment in own]

    def _refuse(self, row: npt.NDArray[np.uint32], data: bytes) -> None:
        pc, address = int(row[1]), int(row[36])
        verb = "stores" if int(row[35]) & 0xFF == MemoryKind.STORE else "loads"
        code = self.program.elf.code
        what, right = "outside input and output", "only the input's own bytes read, only the output's written"
        if code.address <= address < code.end:
            what, right = "a constant in .text", "constants in .rodata: const, without a section attribute"
        elif OUTPUT_BASE <= address < OUTPUT_BASE + PAGE:
            what = f"beyond the {self.program.output_size} bytes of output"
        elif INPUT_BASE <= address < INPUT_BASE + PAGE:
            what = "beyond its input"
        found = f"{self._which(data)}: {place_of(self.program, pc)} {verb} at 0x{address:08x}, {what}"
        raise GuestCheckError(self.program.name, found, right)

    def _stack_bottom(self) -> int:
        symbols = self.program.elf.symbols
        top, lowest = symbols.get("__stack_top", (0, 0))[0], symbols.get("__stack_size", (0, 0))[0]
        return top - lowest if top and lowest else 0

    def found(self) -> list[str]:
        """Return what held, coverage with what never ran, and how the stack stands."""
        lines = [
            f"interpreter and Unicorn agree on {self.runs} inputs, each word varied alone; at most {self.longest} steps"
        ]
        if self.settle is not None:
            lines.append(f"the Python twin agrees on all {self.runs}")
        lines.append(f"{self.appended} times bytes after the input, never another output")
        lines.append("no load or store outside input, output, constants and its own memory")
        lines.append(self._stack())
        never = np.flatnonzero(~self.executed)
        lines.append(f"{self.executed.sum()} of {len(self.executed)} instructions were executed")
        lines += [f"never executed: {one}" for one in _spans(self.program, never)]
        branching = np.isin(self.program.decoded[:, 0], list(BRANCHES)) & self.executed
        both = branching & self.taken & self.passed
        lines.append(f"{both.sum()} of {branching.sum()} branches went both ways")
        for name, sides in (("taken", self.taken), ("passed", self.passed)):
            places = np.flatnonzero(branching & ~sides)
            lines += [f"never {name}: the branch at {place_of(self.program, self._pc(n))}" for n in places.tolist()]
        return lines

    def _pc(self, index: int) -> int:
        return self.program.elf.code.address + 4 * index

    def _stack(self) -> str:
        bottom = self._stack_bottom()
        if not bottom or self.lowest_stack >> 32:
            return "it uses no stack that is known by its symbols"
        left = self.lowest_stack - bottom
        page = bottom // PAGE * PAGE - PAGE
        guarded = bottom % PAGE == 0 and not any(r.base <= page < r.base + r.size for r in self.program.regions)
        if guarded:
            return f"the page below the stack is not mapped; {left} bytes of stack were never used"
        return f"NO guard page below the stack (build with linker_script = guarded.ld); {left} bytes were never used"


def _last_before(places: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each place the last of ``times`` before it, -1 without one."""
    return np.concatenate([[-1], times])[np.searchsorted(times, places)]


def _spans(program: Program, places: npt.NDArray[np.int64]) -> list[str]:
    """Return never-executed instructions as runs of neighbours, by function."""
    runs: list[list[int]] = []
    for index in places.tolist():
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    base = program.elf.code.address
    return [
        f"0x{base + 4 * run[0]:08x} to 0x{base + 4 * run[-1]:08x}, {len(run)} in {place_of(program, base + 4 * run[0])}"
        for run in runs
    ]


def place_of(program: Program, pc: int) -> str:
    """Return ``pc`` as function + offset by the symbol table, or as an address."""
    around = _around(program, pc)
    return f"{around.name}+{pc - around.address}" if around else f"0x{pc:08x}"


def _around(program: Program, pc: int) -> Symbol | None:
    return next((one for one in program.elf.named if one.address <= pc < one.address + one.size), None)


def _refuse_constants_in_code(program: Program) -> None:
    """Refuse data among the instructions that the loader took, since it happens to decode."""
    code = program.elf.code
    for one in program.elf.named:
        if one.is_object and code.address <= one.address < code.end:
            found = f"constant {one.name} of {one.size} bytes at 0x{one.address:08x} in .text"
            raise GuestCheckError(program.name, found, "constants in .rodata: const, without a section attribute")


def _payoff(program: Program, *, branching_payoff: bool) -> list[str]:
    """Scan the function ``payoff`` for branches, jumps and calls: a dispute replays it, and Script cannot jump.

    It ends by ``ret`` alone, since a jump to another function would be the payoff's rest.
    """
    right = "masks instead of if, noinline, no call inside; or --branching-payoff"
    if branching_payoff:
        return ["the payoff was not scanned for branches, as asked: no dispute can replay it"]
    named = {(one.address, one.size) for one in program.elf.named if one.name == "payoff"}
    if len(named) != 1:
        found = f"it has {len(named)} functions `payoff`" if named else "it has no function `payoff` of its own"
        raise GuestCheckError(program.name, found, right)
    words = _payoff_words(program)
    first, last, address = words.start, words.stop, program.elf.symbols["payoff"][0]
    if not 0 <= first < last <= len(program.words):
        raise GuestCheckError(program.name, f"`payoff` at 0x{address:x} is not in the code", right)
    ops = program.decoded[words, 0]
    jumps = np.flatnonzero(np.isin(ops, [*BRANCHES, Op.JAL, Op.JALR])).tolist()
    if jumps != [len(ops) - 1] or program.words[last - 1] != _RET:
        places = [address + 4 * place for place in jumps if program.words[first + place] != _RET]
        found = f"payoff jumps at {', '.join(f'0x{one:08x}' for one in places) or 'no return'}"
        raise GuestCheckError(program.name, found, right)
    return [f"payoff is {len(ops)} instructions without a branch"]


def _payoff_words(program: Program) -> slice:
    """Return which words of the code are ``payoff``."""
    address, size = program.elf.symbols["payoff"]
    first = (address - program.elf.code.address) // 4
    return slice(first, first + size // 4)


def read_twin(path: Path) -> Twin | None:
    """Return the twin in ``path``, None without the file.

    A twin is its author's program: whatever goes wrong in it is a failed check that names its line.
    """
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"twin_of_{path.parent.name}", path)
    if spec is None or spec.loader is None:
        raise GuestCheckError(str(path), "cannot be loaded", "a Python file")
    module = importlib.util.module_from_spec(spec)
    _called(path, spec.loader.exec_module, module)
    settle, random_input = (getattr(module, name, None) for name in ("settle", "random_input"))
    if not callable(settle) or not callable(random_input):
        raise GuestCheckError(str(path), "lacks settle or random_input", "both functions, as in the template")
    return Twin(
        settle=lambda data: _bytes(path, "settle", _called(path, settle, data)),
        random_input=lambda rng: _bytes(path, "random_input", _called(path, random_input, rng)),
    )


def _called(path: Path, function: Callable[..., Any], argument: object) -> object:
    try:
        return function(argument)
    except Exception as e:
        frames = traceback.extract_tb(e.__traceback__)
        own = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
        line = own[-1] if own else getattr(e, "lineno", 0)
        raise GuestCheckError(f"{path}:{line}", f"{type(e).__name__}: {e}", "a twin that runs") from e


def _bytes(path: Path, function: str, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise GuestCheckError(str(path), f"{function} returns {type(value).__name__}", "bytes")
    return value
