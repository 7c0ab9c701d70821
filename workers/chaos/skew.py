"""The wall clock of one role of a fleet, wrong by as many seconds as one likes, while every other clock is right.

``skew.c`` is loaded into each process of the fleet; a worker says which file its clock goes by (``points.install``).
The database's clock is another: a server's, or for SQLite the kernel's, which is not shifted.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

from workers.chaos.power_cut import NoPowerCutError, build

SOURCE: Final = Path(__file__).with_suffix(".c")

NAMES: Final = ("prices", "settle", "chain", "control", "beat")
"""Of roles; a file each."""

_SECONDS: Final = struct.Struct("=q")


class Skew:
    """The clocks of a fleet's roles; all right until one is set."""

    def __init__(self, folder: Path) -> None:
        """folder: a new one, which nobody else writes to. Without a compiler no clock can be set."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._library = folder / "skew.so"
        try:
            build(SOURCE, self._library)
        except NoPowerCutError:
            self._library.unlink(missing_ok=True)
        for name in NAMES:
            (folder / name).write_bytes(_SECONDS.pack(0))

    @property
    def preload(self) -> tuple[str, ...]:
        """Return what every process is to load before libc."""
        return (str(self._library),) if self._library.exists() else ()

    def set(self, name: str, seconds: int) -> None:
        """Have the clock of a role go ``seconds`` ahead. Raises NoPowerCutError where no library could be built."""
        if not self.preload:
            raise NoPowerCutError("no clock can be set")
        with (self._folder / name).open("r+b") as file:
            file.write(_SECONDS.pack(seconds))

    def right(self) -> None:
        """Set every clock right."""
        for name in NAMES:
            (self._folder / name).write_bytes(_SECONDS.pack(0))


def go_by(file: Path) -> bool:
    """Have this process's wall clock go by a file; return whether the library is loaded."""
    found = getattr(ctypes.CDLL(None), "btcfi_clock_of", None)
    return found is not None and found(os.fsencode(file)) == 0
