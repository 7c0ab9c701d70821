"""Start a guest program from the template and build it into its folder's manifest; ``check`` attacks it.

A folder of programs has the shape of this one: ``manifest.toml`` and a folder a program. The common start code, linker
script and headers are used from here, so a new program is one C file and, if its author likes, a Python twin.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from btcfi.errors import InvalidInputError, NotFoundError
from guest_programs.build import GUARDED_SCRIPT, ROOT, ZIG_VERSION, build_row, read_manifest, write_manifest

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,40}")


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
        "output_size": 40, "linker_script": GUARDED_SCRIPT,
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
