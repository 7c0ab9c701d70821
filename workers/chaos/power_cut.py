"""A power cut on paper: what a folder would hold if the machine had gone dark, its unsynced pages lost.

SIGKILL loses nothing that a process has written: the kernel still has it. So each process that writes into the folder
is started with a small library (``power_cut.c``) that keeps a copy of every file at the moment of its last sync, made
before that sync returns. What is left after the cut is made of those copies.

Of names (creations, renames, removals) the newest are taken, as a journalling file system may have them by then; a file
that nobody has ever synced is there and empty, which is what such a file system leaves. SQLite's ``-shm`` files are
made anew from the log, and are left out. What a disk promises and does not do is not played.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from btcfi.errors import BtcfiError

SOURCE: Final = Path(__file__).with_suffix(".c")

_LIBRARY: Final = "power_cut.so"
_LOG: Final = "log"
_LOCK: Final = "lock"

_AT_EMPTY_PATH, _STATX_ALL = 0x1000, 0xFFF
_STATX_BYTES: Final = 256
_BIRTH: Final = 80
"""Where the time of birth stands in ``struct statx``. Source: statx(2), linux/stat.h."""

_DEVICE: Final = 136
"""Where ``stx_dev_major`` stands; the minor follows."""


class NoPowerCutError(BtcfiError):
    """The library that keeps what was synced cannot be built."""

    def __init__(self, said: str, source: Path = SOURCE) -> None:
        super().__init__(f"{source.name} does not compile: {said.strip()[-500:] or 'no compiler'}")


class PowerCut:
    """What was synced of one folder, from ``begin`` on."""

    def __init__(self, folder: Path, kept: Path) -> None:
        """folder: what the power is cut of. kept: a new folder elsewhere. Raises NoPowerCutError."""
        self.folder, self._kept = folder.resolve(), kept.resolve()
        self._kept.mkdir(parents=True, mode=0o700)
        self._library = self._kept / _LIBRARY
        build(SOURCE, self._library)

    def environment(self) -> dict[str, str]:
        """Return the variables with which every process that writes into the folder must be started."""
        return {
            "LD_PRELOAD": str(self._library), "BTCFI_POWER_CUT_OF": str(self.folder),
            "BTCFI_POWER_CUT_KEPT": str(self._kept),
        }  # fmt: skip

    def begin(self) -> None:
        """Take what lies in the folder now as synced. No process may write into it meanwhile."""
        with self._locked():
            for path in _files(self.folder):
                if stat.S_ISREG(path.lstat().st_mode):
                    shutil.copyfile(path, self._kept / _identity(path))

    def syncs(self) -> Counter[str]:
        """Return how often each path was synced so far, relative to the folder."""
        log = self._kept / _LOG
        lines = log.read_text().splitlines() if log.exists() else []
        return Counter(os.path.relpath(line, self.folder) for line in lines)

    def leave(self, target: Path) -> None:
        """Make ``target`` what the folder would be after a cut at this moment. Its processes should be dead by now."""
        with self._locked():
            target.mkdir(mode=stat.S_IMODE(self.folder.stat().st_mode))
            for path in _files(self.folder, folders=True):
                self._leave(path, target / path.relative_to(self.folder))

    def _leave(self, path: Path, there: Path) -> None:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            there.mkdir()
        elif stat.S_ISLNK(mode):
            there.symlink_to(path.readlink())
        elif stat.S_ISREG(mode) and not path.name.endswith("-shm"):
            kept = self._kept / _identity(path)
            if kept.exists():
                shutil.copyfile(kept, there)
            else:
                there.touch()
        else:
            return  # a socket or a pipe is no data
        if not stat.S_ISLNK(mode):
            there.chmod(stat.S_IMODE(mode))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._kept / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _files(top: Path, *, folders: bool = False) -> Iterator[Path]:
    for here, inside, names in os.walk(top):
        links = [name for name in inside if (Path(here) / name).is_symlink()]
        yield from (Path(here) / name for name in (inside if folders else links))
        yield from (Path(here) / name for name in names)


def _identity(path: Path) -> str:
    """Return what tells a file from another one that had its inode before: its birth; as the library names it."""
    found = ctypes.create_string_buffer(_STATX_BYTES)
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_ALL, found):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        inode = os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
    raw = found.raw
    seconds = int.from_bytes(raw[_BIRTH : _BIRTH + 8], sys.byteorder, signed=True)
    nanoseconds = int.from_bytes(raw[_BIRTH + 8 : _BIRTH + 12], sys.byteorder)
    major, minor = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (_DEVICE, _DEVICE + 4))
    return f"{major:x}:{minor:x}-{inode:x}-{seconds:x}.{nanoseconds:x}"


def build(source: Path, out: Path) -> None:
    """Compile what is loaded before libc: by the machine's compiler, else by the pinned one, which is slower."""
    cc = shutil.which("cc")
    compiler = [cc] if cc else [sys.executable, "-m", "ziglang", "cc"]
    command = [*compiler, "-shared", "-fPIC", "-O1", "-o", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode:
        raise NoPowerCutError(done.stderr, source)
