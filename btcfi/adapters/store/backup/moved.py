"""What a backup or a restore moved, and how either is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from btcfi.errors import ConflictError, InvalidInputError
from btcfi.units import UnixSeconds

FORMAT: Final = "btcfi-backup"


class NotABackupError(InvalidInputError):
    """A file that is no backup, or one that is not what was written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__("backup", f"{path.name}: {problem}", "a file that `btcfi backup` wrote, version 1 or 2")
        self.path = path


class NotEmptyError(ConflictError):
    """A backup is restored onto nothing, never over something."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not empty; restore into a new folder and a new database")
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a backup or a restore moved."""

    rows: Mapping[str, int]
    """By table."""
    files: int
    taken_at_unix: UnixSeconds
    held: tuple[str, ...] = ()
    """Events that a restore holds, for they may have been attested after the backup."""
    warnings: tuple[str, ...] = ()
    """What nobody vouches for in a backup of version 1, and what to check; none of one that is sealed as a whole."""

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.rows.values())

    @property
    def authentic(self) -> bool:
        """Whether the tables are what was backed up, so that something may be decided by them."""
        return not self.warnings


def target_of(source: Path, file: PurePosixPath, secret_files: Mapping[str, Path]) -> Path:
    """Return where a backup's key file belongs. Raises NotABackupError for one that belongs nowhere."""
    top, *rest = file.parts or ("",)
    if file.is_absolute() or ".." in file.parts or top not in secret_files:
        raise NotABackupError(source, f"it holds the key file {file}")
    return secret_files[top].joinpath(*rest)


def refuse_filled(secret_files: Mapping[str, Path]) -> None:
    """Raise NotEmptyError where a key file, or anything in its folder, is there."""
    for path in secret_files.values():
        if path.is_symlink() and not path.exists():
            raise NotEmptyError(f"{path} (a link)")
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise NotEmptyError(str(path))
