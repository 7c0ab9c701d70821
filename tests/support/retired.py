"""A preset or a guest program replaced as an operator does it, in a copy of the folders."""

import hashlib

from guest_programs.build import read_manifest, write_manifest


def retire_preset(presets, name, **changes):
    """Retire ``options/NAME.toml`` and put one with other lines in its place; return (retired file, new file)."""
    file = presets / "options" / f"{name}.toml"
    text = file.read_text()
    retired = presets / "retired" / "options" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"
    retired.parent.mkdir(parents=True, exist_ok=True)
    file.rename(retired)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return retired, file


def retire_program(programs, name, *, by):
    """Retire a program of the manifest; the bytes of another one take its name. Returns the folder."""
    manifest = read_manifest(programs)
    rows = {row["name"]: row for row in manifest["program"]}
    old, new = dict(rows[name]), rows[by]
    path = f"retired/{name}-{old['image_sha256'][:8]}.elf"
    (programs / "retired").mkdir(exist_ok=True)
    (programs / path).write_bytes((programs / old["path"]).read_bytes())
    (programs / old["path"]).write_bytes((programs / new["path"]).read_bytes())
    rows[name].pop("input_per_count", None)
    same = ("elf_sha256", "image_sha256", "input_size", "input_per_count", "output_size", "entry")
    rows[name].update({key: new[key] for key in same if key in new})
    del old["sources"]
    manifest.setdefault("retired", []).append({**old, "path": path})
    write_manifest(programs, manifest)
    return programs
