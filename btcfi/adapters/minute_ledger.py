"""An oracle's ledger of its minute events, on the disk: what it said of a day's minutes, and how far older ones go."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from btcfi.adapters.files import make_private, open_private, read_untrusted, write_private
from btcfi.errors import InvalidInputError
from btcfi.oracle.fixing import LeftOut, Said
from btcfi.oracle.minute_event import MinuteBook
from btcfi.units import SECONDS_PER_MINUTE, CentsPerBtc, Hash32, Slot

KEPT_MINUTES: Final = 1_440
"""A day: a retry, or a restart after a night, finds its price again. Older minutes are refused, whatever the price."""

_SPARE: Final = 256
"""Rows beyond that before the file is written anew."""

_MAX_FILE_BYTES: Final = 1 << 20
"""A day has 40 kB."""


class FileMinuteLedger:
    """A file for each oracle and series, of JSON lines: the mark, then a line a minute, its price or why not.

    Written and synced before anything is signed; processes may share it. Satisfies
    ``oracle.minute_event.MinuteLedger``.
    """

    def __init__(self, folder: Path, *, kept: int = KEPT_MINUTES) -> None:
        """Take the folder; it is made at the first claim. kept: minutes that are kept by what was said of them."""
        self._folder, self._kept = folder, kept

    def book(self, *, oracle_key: bytes, series: Hash32, begins_after: Slot) -> MinuteBook:
        """Return what is written; a book that is not there is begun, and no minute up to ``begins_after`` is its own.

        Raises InvalidInputError for a file that is not ours.
        """
        path = self._file(oracle_key, series)
        with self._locked(path):
            if not path.exists():
                _write_whole(path, MinuteBook(mark=begins_after))
            return _read(path)

    def claim(self, *, oracle_key: bytes, series: Hash32, slot: Slot, said: Said) -> Said:
        """Record the word unless one stands there; return the one that stands there now.

        Raises MinuteForgottenError, and InvalidInputError for a file that is not ours: then nothing may be signed.
        """
        path = self._file(oracle_key, series)
        with self._locked(path):
            # of what a file that is gone may have said, nothing is signed again
            book = _read(path) if path.exists() else MinuteBook(mark=Slot(max(0, slot - SECONDS_PER_MINUTE)))
            claimed, standing = book.claim(slot, said)
            if claimed is not book:
                self._write(path, claimed, slot)
            return standing

    def forget_up_to(self, slot: Slot) -> None:
        """Raise every mark in the folder to ``slot``: after a restore, what was signed since the backup is unknown."""
        for path in sorted(self._folder.glob("*.minutes")):
            with self._locked(path):
                _write_whole(path, _read(path).pruned(slot))

    def _file(self, oracle_key: bytes, series: Hash32) -> Path:
        return self._folder / f"{oracle_key.hex()[:16]}-{series.hex()[:16]}.minutes"

    def _write(self, path: Path, book: MinuteBook, slot: Slot) -> None:
        if not path.exists() or len(book.said) > self._kept + _SPARE:
            oldest = max(book.said) - self._kept * SECONDS_PER_MINUTE
            # what is claimed now is written, however late it is
            _write_whole(path, book.pruned(Slot(max(0, min(oldest, slot - SECONDS_PER_MINUTE)))))
            return
        with open_private(path, append=True) as file:
            file.write(json.dumps([slot, book.said[slot]]).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        make_private(self._folder, named=True)
        # beside the file, which is replaced when it is written anew
        with open_private(path.with_suffix(".lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _write_whole(path: Path, book: MinuteBook) -> None:
    rows = [[book.mark], *([at, said] for at, said in sorted(book.said.items()))]
    write_private(path, b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def _read(path: Path) -> MinuteBook:
    raw = read_untrusted(path, at_most=_MAX_FILE_BYTES, what="ledger of minutes")
    # a torn last line is a claim that never returned: nothing was signed on it, and it is cut off
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) != len(raw):
        with open_private(path) as file:
            file.truncate(len(whole))
            os.fsync(file.fileno())
    try:
        (mark,), *rows = map(json.loads, whole.splitlines())
        return MinuteBook(mark=Slot(mark), said={Slot(at): _word(said) for at, said in rows})
    except (ValueError, TypeError) as e:
        raise InvalidInputError(str(path), "is no ledger of minutes", "the file as it was written") from e


def _word(said: object) -> Said:
    if isinstance(said, str):
        return LeftOut(said)
    if isinstance(said, int) and not isinstance(said, bool):
        return CentsPerBtc(said)
    raise TypeError(said)
