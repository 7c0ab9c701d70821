"""What a backup or a restore moved, and how either is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from btcfi.errors import ConflictError, InvalidInputError, PreconditionError
from btcfi.units import UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.oracle.folder import Held

FORMAT: Final = "btcfi-backup"

ORACLES: Final = "oracles"
"""What the oracles' folders are called inside a backup."""


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


class ClockBehindError(PreconditionError):
    """A clock says that it is before the backup was taken: what is over by it is not all that is over."""

    def __init__(self, clock: str, *, said: UnixSeconds, taken_at: UnixSeconds) -> None:
        shown, then = (datetime.fromtimestamp(at, UTC).isoformat() for at in (said, taken_at))
        super().__init__(
            clock, f"it says {shown}, and the backup was taken at {then}; oracles restored by it could attest twice, "
            "and so give their keys away: nothing was restored",
            "set that clock and restore again; if it is right and the lost machine's was ahead, `--clocks-are-right`",
        )  # fmt: skip
        self.clock, self.at, self.taken_at = clock, said, taken_at


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
    oracles_hold: Held | None = None
    """After a restore: what every oracle of the deployment has to hold, as the restored folders do already."""

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
