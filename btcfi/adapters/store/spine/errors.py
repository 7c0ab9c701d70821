"""What a store can fail with, one class for each thing that an operator would do about it. It needs no database."""

from __future__ import annotations

from typing import ClassVar

from btcfi.errors import ConflictError, UnreachableError


class StoreUnreachableError(UnreachableError):
    """The database does not answer."""

    HINT: ClassVar[str] = "check DATABASE_URL and that the server runs"
    HINT_FOR_A_FILE: ClassVar[str] = "check BTCFI_DATA_DIR and DATABASE_URL"

    def __init__(self, where: str, problem: str) -> None:
        hint = self.HINT_FOR_A_FILE if where.startswith("sqlite") else self.HINT
        super().__init__("database", where, problem, hint)


class StoreDamagedError(StoreUnreachableError):
    """The database is there, and what it holds cannot be read: no database of ours, or pages that are not whole."""

    HINT = HINT_FOR_A_FILE = (
        "stop everything, keep the damaged database, and restore a backup into an empty "
        "folder: BTCFI_DATA_DIR=FOLDER btcfi restore FILE"
    )


class StoreFullError(StoreUnreachableError):
    """The database has no room to write; what was committed is there."""

    HINT = "make room on the disk of the database"
    HINT_FOR_A_FILE = "make room on the disk of BTCFI_DATA_DIR"


class StoreReadOnlyError(StoreUnreachableError):
    """The database answers and takes nothing: a standby, a file or a folder that this user may only read."""

    HINT = "name the primary in DATABASE_URL, and let its user write"
    HINT_FOR_A_FILE = "give this user the database's file and its folder: chmod u+w"


class StoreBusyError(StoreUnreachableError):
    """Somebody holds what this transaction needs, for longer than it waits; the same again may succeed."""

    HINT = HINT_FOR_A_FILE = "try again; if it stays so, look who holds it"


class NewerStoreError(ConflictError):
    """A store, or a backup of one, is at a migration that this code does not have."""

    def __init__(self, where: str, *, at: str, newest: str) -> None:
        super().__init__(f"{where} is at migration {at}, this code ends at {newest}; use code that is as new")
        self.where, self.at, self.newest = where, at, newest
