"""Build guest programs with the pinned compiler, byte for byte the same anywhere, and keep the manifest.

python -m guest_programs.build            rebuild all, fail if a byte differs from the manifest
python -m guest_programs.build --update   rebuild all and write the new hashes
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.vm.elf import parse_elf

ROOT: Final = Path(__file__).parent

ZIG_VERSION: Final = "0.17.0"
"""Another version gives other bytes (measured: 0.15.2, 0.16.0 and 0.17.0 all differ)."""

FLAGS: Final = (
    *("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m"),
    *("-O2", "-std=c11", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-fomit-frame-pointer", "-g0"),
    *("-Wall", "-Wextra", "-Werror", "-nostdlib", "-Wl,--build-id=none"),
)
"""-march/-mabi are refused by zig cc; the frame pointer would only lengthen the trace."""

COMMON: Final = ("start.S", "wide.c")


class CompilerError(BtcfiError):
    """The compiler is missing, has another version, or refused the sources."""


LINKER_SCRIPT: Final = "link.ld"
"""Of programs whose row names none: the committed ones, whose bytes stay."""

GUARDED_SCRIPT: Final = "guarded.ld"
"""Of new programs: nothing is mapped below the stack."""


def build(
    name: str, sources: list[str], *, root: Path, common: Path = ROOT / "common", script: str = LINKER_SCRIPT
) -> bytes:
    """Return the ELF file made of ``sources`` (relative to ``root``) and the common start code.

    script: one of ours, by its name in ``common``.

    Raises CompilerError with the compiler's own words, NotFoundError for a missing source.
    """
    check_compiler()
    if script not in (LINKER_SCRIPT, GUARDED_SCRIPT):
        raise InvalidInputError(f"manifest.toml, program {name}", f"linker_script {script!r}", GUARDED_SCRIPT)
    for source in sources:
        if not (root / source).is_file():
            raise NotFoundError("source file", source, f"named in the manifest row of {name}")
    folders = sorted({str(Path(source).parent) for source in sources})
    with tempfile.TemporaryDirectory(prefix="btcfi-guest-") as temporary:
        out = Path(temporary) / "program.elf"
        command = [
            *(sys.executable, "-m", "ziglang", "cc", *FLAGS),
            *(f"-I{folder}" for folder in folders),
            f"-I{common}",
            f"-Wl,-T,{common / script}",
            *("-o", str(out)),
            *(str(common / part) for part in COMMON),
            *sources,
            "-lcompiler_rt",
        ]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=_environment())  # noqa: S603 - our own arguments
        if done.returncode:
            raise CompilerError(f"guest program {name} does not compile: {first_error(done.stderr)}")
        return out.read_bytes()


def script_of(row: dict[str, Any]) -> str:
    """Return the linker script that a manifest row is built by."""
    return str(row.get("linker_script", LINKER_SCRIPT))


def first_error(said: str) -> str:
    """Return the compiler's first error and how many follow it: the one to mend first."""
    errors = [line for line in said.splitlines() if "error: " in line]
    if not errors:
        return said.strip()[-500:]
    return errors[0] + (f" (and {len(errors) - 1} more)" if errors[1:] else "")


def check_compiler() -> None:
    """Raise CompilerError unless the pinned ziglang is installed."""
    try:
        found = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError as e:
        raise CompilerError(f"ziglang is not installed; install ziglang=={ZIG_VERSION} to build guest programs") from e
    if found != ZIG_VERSION:
        raise CompilerError(f"ziglang {found} is installed; guest programs are built by {ZIG_VERSION}")


def _environment() -> dict[str, str]:
    # Compiler wrappers read these; a build must not depend on them.
    return {k: v for k, v in os.environ.items() if k not in {"CFLAGS", "CPATH", "C_INCLUDE_PATH", "LDFLAGS"}}


def read_manifest(root: Path) -> dict[str, Any]:
    """Return the manifest of ``root``. Raises NotFoundError, InvalidInputError."""
    path = root / "manifest.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise NotFoundError("guest manifest", str(path)) from e
    except tomllib.TOMLDecodeError as e:
        raise InvalidInputError(str(path), str(e), "TOML") from e


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest: hand-made, since the standard library only reads TOML."""
    lines = [
        "# What the machine may run. Hashes are checked before a byte is mapped; see README.md.",
        f'zig_version = "{manifest["zig_version"]}"',
    ]
    for table in ("program", "retired"):
        for row in manifest.get(table, []):
            lines += ["", f"[[{table}]]"]
            lines += [f"{key} = {_toml(value)}" for key, value in row.items()]
    (root / "manifest.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return str(value) if isinstance(value, int) else f'"{value}"'


def build_row(row: dict[str, Any], *, root: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the built ELF file of a manifest row, and the row with its hashes and entry."""
    sources = row.get("sources")
    if not isinstance(sources, list) or not sources or not isinstance(row.get("path"), str):
        raise InvalidInputError(f"manifest.toml, program {row.get('name')}", "no sources or no path", "a complete row")
    data = build(row["name"], sources, root=root, script=script_of(row))
    elf = parse_elf(data)
    hashes = {
        "elf_sha256": sha256(data).hexdigest(),
        "image_sha256": sha256(elf.image()).hexdigest(),
        "entry": elf.entry,
    }
    return data, {**row, **hashes}


def main(arguments: list[str]) -> int:
    """Rebuild every program of the committed manifest; see the module's first lines."""
    update = "--update" in arguments
    manifest = read_manifest(ROOT)
    status = 0
    for place, row in enumerate(manifest["program"]):
        data, built = build_row(row, root=ROOT)
        if update:
            (ROOT / row["path"]).write_bytes(data)
            manifest["program"][place] = built
        elif built != row:
            print(f"{row['name']}: {built['elf_sha256']} built, {row.get('elf_sha256')} in the manifest")  # noqa: T201 - a command
            status = 1
    if update:
        manifest["zig_version"] = ZIG_VERSION
        write_manifest(ROOT, manifest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
