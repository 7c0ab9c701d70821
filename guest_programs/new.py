"""Start a guest program from the template, build it into its folder's manifest, and check it.

A folder of programs has the shape of this one: ``manifest.toml`` and a folder a program. The common start code, linker
script and headers are used from here, so a new program is one C file and, if its author likes, a Python twin.
"""

from __future__ import annotations

import importlib.util
import random
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.vm.agreement import Emulator, execute
from btcfi.vm.machine import MachineFaultError
from btcfi.vm.program import load_program
from guest_programs.build import ROOT, ZIG_VERSION, build, build_row, read_manifest, write_manifest

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,40}")

CHECK_RUNS: Final = 200
"""Random inputs on which a program must agree with its twin, and the two executors with each other."""


class GuestCheckError(InvalidInputError):
    """A guest program fails its check: which one, and how."""


def new_program(name: str, root: Path) -> list[Path]:
    """Write ``name``'s folder, C file, twin and manifest row under ``root``; return the files written.

    Raises InvalidInputError for a bad name or one that is taken.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError("name", repr(name), "a lower-case C identifier, for example capped_call")
    folder = root / name
    if folder.exists():
        raise InvalidInputError("name", f"{folder} exists", "a name that is not taken")
    folder.mkdir(parents=True)
    written = []
    for template in sorted((ROOT / "template").iterdir()):
        if template.suffix in {".c", ".py"}:
            target = folder / template.name
            target.write_text(template.read_text(encoding="utf-8").replace("PROGRAM", name), encoding="utf-8")
            written.append(target)
    try:
        manifest = read_manifest(root)
    except NotFoundError:
        manifest = {"zig_version": ZIG_VERSION, "program": []}
    row = {
        "name": name, "path": f"{name}/{name}.elf", "sources": [f"{name}/main.c"], "abi_version": 1, "input_size": 60,
        "output_size": 40,
    }  # fmt: skip
    write_manifest(root, {**manifest, "program": [*manifest.get("program", []), row]})
    return [*written, root / "manifest.toml"]


def build_program(name: str, root: Path) -> dict[str, Any]:
    """Build ``name``, write its ELF file and its hashes into the manifest; return the row."""
    manifest = read_manifest(root)
    rows = manifest.get("program", [])
    for place, row in enumerate(rows):
        if row.get("name") == name:
            data, built = build_row(row, root=root)
            (root / row["path"]).write_bytes(data)
            rows[place] = built
            write_manifest(root, {**manifest, "zig_version": ZIG_VERSION, "program": rows})
            return built
    raise NotFoundError("guest program", name, "`btcfi guest new` makes one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check found to be true."""

    name: str
    checks: tuple[str, ...]


def check_program(name: str, root: Path) -> Checked:
    """Check manifest hashes, instruction whitelist, a rebuild, both executors on random inputs, and the Python twin.

    Raises GuestMismatchError, ElfError, CompilerError, ExecutorsDisagreeError or GuestCheckError.
    """
    program = load_program(name, root)
    checks = [
        "bytes are the manifest's", f"{len(program.words)} instructions, all RV32IM; no writable code; one entry",
    ]  # fmt: skip
    row = next(row for row in read_manifest(root)["program"] if row["name"] == name)
    if build(name, list(row["sources"]), root=root) != (root / row["path"]).read_bytes():
        raise GuestCheckError(name, "a rebuild gives other bytes", "`btcfi guest build` after each change")
    checks.append("a rebuild gives the same bytes")
    twin, make_input = _twin(root / name / "twin.py")
    emulator = Emulator(program)
    rng = random.Random(name)
    longest = 0
    for number in range(CHECK_RUNS):
        data = make_input(rng)
        try:
            execution = execute(program, emulator, data)
        except MachineFaultError as e:
            raise GuestCheckError(name, f"input {number} ({data.hex()}): {e}", "a halt on every input") from e
        longest = max(longest, execution.steps)
        wanted = execution.output if twin is None else twin(data)
        if wanted != execution.output:
            found = f"input {number} ({data.hex()}) gives {execution.output.hex()}, the twin {wanted.hex()}"
            raise GuestCheckError(name, found, "equality")
    checks.append(f"interpreter and Unicorn agree on {CHECK_RUNS} random inputs, at most {longest} steps")
    if twin is not None:
        checks.append(f"the Python twin agrees on all {CHECK_RUNS}")
    return Checked(name=name, checks=tuple(checks))


def _twin(path: Path) -> tuple[Callable[[bytes], bytes] | None, Callable[[random.Random], bytes]]:
    """Return the twin's ``settle`` (None without a twin) and ``random_input`` (60 random bytes without one).

    A twin is its author's program: whatever goes wrong in it is a failed check that names its line.
    """
    if not path.is_file():
        return None, lambda rng: rng.randbytes(60)
    spec = importlib.util.spec_from_file_location(f"twin_of_{path.parent.name}", path)
    if spec is None or spec.loader is None:
        raise GuestCheckError(str(path), "cannot be loaded", "a Python file")
    module = importlib.util.module_from_spec(spec)
    _called(path, spec.loader.exec_module, module)
    settle, random_input = (getattr(module, name, None) for name in ("settle", "random_input"))
    if not callable(settle) or not callable(random_input):
        raise GuestCheckError(str(path), "lacks settle or random_input", "both functions, as in the template")
    return (
        lambda data: _bytes(path, "settle", _called(path, settle, data)),
        lambda rng: _bytes(path, "random_input", _called(path, random_input, rng)),
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
