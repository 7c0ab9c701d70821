"""The files of presets: a folder a system, found by name for what is sold today, by hash for what was sold before.

``presets/SYSTEM/NAME.toml`` are the ones to choose from, each hashed apart, so that one system's numbers never change
another's events. ``presets/retired/SYSTEM/NAME-XXXXXXXX.toml`` were chosen once: rows that name them may still be open,
and are settled by them. X: the beginning of the file's SHA-256.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from btcfi.errors import NotFoundError, NotHeldError

PRESETS: Final = Path(__file__).parent / "presets"

RETIRED: Final = "retired"
"""Folder beside the systems' own; no system has this name."""

HASH_DIGITS: Final = 8
"""Of the file's hash at the end of a retired file's name: two of one name lie side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetFile:
    """One preset as it lies on the disk."""

    system: str
    name: str
    """By which a deployment chooses it, or chose it."""
    raw: bytes

    @property
    def sha256(self) -> str:
        """Of the bytes, hex: what rows and events name it by."""
        return hashlib.sha256(self.raw).hexdigest()


def preset_file(choice: str, *, system: str, folder: Path | None = None) -> PresetFile:
    """Return the preset that a deployment chooses: ``NAME``, or ``SYSTEM/NAME`` with the same system.

    folder: instead of the committed ones. Raises NotFoundError that says which there are.
    """
    found = {path.stem: path for path in ((folder or PRESETS) / system).glob("*.toml")}
    name = choice.removeprefix(f"{system}/")
    if name not in found:
        raise NotFoundError("preset", choice, f"there are: {', '.join(sorted(found)) or 'none'}")
    return PresetFile(system=system, name=name, raw=found[name].read_bytes())


def every_preset_file(*, system: str, folder: Path | None = None) -> list[PresetFile]:
    """Return the presets of a system that can be chosen, then its retired ones, each by name."""
    root = folder or PRESETS
    chosen = [(path.stem, path) for path in sorted((root / system).glob("*.toml"))]
    retired = [(path.stem.rpartition("-")[0], path) for path in sorted((root / RETIRED / system).glob("*.toml"))]
    return [PresetFile(system=system, name=name, raw=path.read_bytes()) for name, path in chosen + retired]


def preset_file_by_hash(sha256: str, *, system: str, name: str = "", folder: Path | None = None) -> PresetFile:
    """Return the preset whose bytes have this hash (hex), also one that was retired.

    name: what the row calls it, for the message. Raises NotHeldError, which names the retired files that are not what
    their names say: they stand for no preset, and keep nobody from another one.
    """
    root, wrong = folder or PRESETS, []
    for path in sorted((root / system).glob("*.toml")):
        held = PresetFile(system=system, name=path.stem, raw=path.read_bytes())
        if held.sha256 == sha256:
            return held
    for path in sorted((root / RETIRED / system).glob("*.toml")):
        was, _, digits = path.stem.rpartition("-")
        try:
            held = PresetFile(system=system, name=was, raw=path.read_bytes())
        except OSError as e:
            wrong.append(f"{path.name} cannot be read: {e.strerror}")
            continue
        if not was or held.sha256[:HASH_DIGITS] != digits:
            wrong.append(f"{path.name} was edited: its SHA-256 begins {held.sha256[:HASH_DIGITS]}")
        elif held.sha256 == sha256:
            return held
    hint = f"put its file into settings/presets/{RETIRED}/{system} (settings/README.md)"
    raise NotHeldError("preset", sha256, name=name, hint="; ".join([*wrong, hint]))
