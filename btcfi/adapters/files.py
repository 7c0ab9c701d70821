"""Files of two kinds: private ones, which only we write, and ones that somebody else may have written.

A private file has mode 0600 and is there whole or not at all. A file from outside is read by one function: it must be a
regular one, its size is looked at before its bytes, and whatever is wrong becomes one refusal that names the file and
says what would be right. In a folder into which others write, a link is refused too: it would make us read a file of
our own as if it were theirs; so is a link in the place of that folder, since what we move or remove there would be
ours. A file that a person names may be a link or a pipe, since that person chose it.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from btcfi.documents import parse_json
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError

_REAL_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class KeystoreExistsError(ConflictError):
    """A keystore stands there already; it is never overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"keystore {path} exists already; choose another directory, it is never overwritten")
        self.path = path


class UntrustedFileError(InvalidInputError):
    """A file from outside is not what it should be."""

    def __init__(self, path: Path, problem: str, expected: str) -> None:
        super().__init__(str(path), problem, expected)
        self.path = path


# ---- private files


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone may enter, and every folder above it that is not there yet in the same way.

    ``mkdir(parents=True, mode=0o700)`` gives its mode to the last one only.
    """
    if not folder.parent.is_dir():
        make_private(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        sync_directory(folder.parent)  # what is synced inside is worth nothing in a folder that a power cut takes away


def write_private(path: Path, data: bytes, *, fresh: bool = False) -> None:
    """Write a file of mode 0600, durably and all or nothing. Raises KeystoreExistsError if ``fresh`` and it exists."""
    make_private(path.parent)
    # a new file of a name that nobody can foresee: where others write too, a link of theirs may lie under any other
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            path.hardlink_to(temporary)  # fails when the name is taken: no gap between asking and writing
        else:
            temporary.replace(path)
    except FileExistsError as e:
        raise KeystoreExistsError(path) from e
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def private_folder(path: Path) -> Path:
    """Return a folder that is ours alone, made with mode 0700 where it is missing. Raises UntrustedFileError.

    For a place into which others write, as the temporary folder: what lies there under our name may be theirs.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    expected = "a folder of ours of mode 0700, no link: remove it, or have its owner do so"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        raise UntrustedFileError(path, "is a link or no folder", expected) from e
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        problem = f"belongs to user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
        raise UntrustedFileError(path, problem, expected)
    return path


def sync_directory(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- folders and files from outside


@contextmanager
def real_folder(path: Path, *, rooms: Sequence[str] = ()) -> Iterator[int]:
    """Give the descriptor of a folder that others may rename or replace, its rooms made where they are missing.

    A link in the place of either is refused, since it would lead us to files of our own. Raises OSError.
    """
    descriptor = os.open(path, _REAL_FOLDER)
    try:
        for room in rooms:
            with suppress(FileExistsError):
                os.mkdir(room, mode=0o700, dir_fd=descriptor)
            os.close(os.open(room, _REAL_FOLDER, dir_fd=descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def move_within(path: Path, room: str) -> None:
    """Move a file to a room of its folder, as ``real_folder`` knows both, whatever they are replaced by meanwhile."""
    with real_folder(path.parent) as folder:
        target = os.open(room, _REAL_FOLDER, dir_fd=folder)
        try:
            os.rename(path.name, path.name, src_dir_fd=folder, dst_dir_fd=target)
        finally:
            os.close(target)


def remove_within(path: Path) -> None:
    """Remove a file of a folder, as ``real_folder`` knows it. Raises OSError."""
    with real_folder(path.parent) as folder:
        os.unlink(path.name, dir_fd=folder)


@contextmanager
def open_untrusted(path: Path, *, at_most: int, what: str, hint: str = "", named: bool = False) -> Iterator[BinaryIO]:
    """Open a file from outside for reading, once its kind and its size have been looked at.

    at_most: bytes. what: the kind of file, in words, for the refusal. named: a person named this very file, so links
    are followed and a pipe is read; a pipe has no size, so its reader counts. Raises NotFoundError with ``hint``,
    UntrustedFileError.
    """
    # a pipe that nobody writes into must not hold us up, nor a terminal become ours
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (0 if named else os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as e:
        raise NotFoundError(what, str(path), hint) from e
    except (OSError, ValueError) as e:
        if not named and getattr(e, "errno", None) == errno.ELOOP:
            raise UntrustedFileError(path, "is a link", f"{what} itself, a regular file") from e
        raise UntrustedFileError(path, f"cannot be opened: {getattr(e, 'strerror', None) or e}", what) from e
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) and not (named and stat.S_ISFIFO(found.st_mode)):
            raise UntrustedFileError(path, "is no regular file", f"{what}, a regular file")
        if found.st_size > at_most:
            raise UntrustedFileError(path, f"{found.st_size:,} bytes", f"{what} of at most {at_most:,} bytes")
        file = os.fdopen(descriptor, "rb", closefd=False)
        with file:
            yield file
    finally:
        os.close(descriptor)


def read_untrusted(path: Path, *, at_most: int, what: str, hint: str = "", named: bool = False) -> bytes:
    """Return the bytes of a file from outside, as ``open_untrusted`` gives it, and not one more than ``at_most``."""
    with open_untrusted(path, at_most=at_most, what=what, hint=hint, named=named) as file:
        try:
            data = file.read(at_most + 1)  # it may have grown since, and a pipe has no size
        except OSError as e:
            raise UntrustedFileError(path, f"cannot be read: {e.strerror}", what) from e
    if len(data) > at_most:
        raise UntrustedFileError(path, f"more than {at_most:,} bytes", f"{what} of at most {at_most:,} bytes")
    return data


def read_untrusted_text(path: Path, *, at_most: int, what: str, hint: str = "", named: bool = False) -> str:
    """Return a text file from outside, UTF-8, its line ends as they are on this system."""
    data = read_untrusted(path, at_most=at_most, what=what, hint=hint, named=named)
    try:
        return io.IncrementalNewlineDecoder(None, translate=True).decode(data.decode("utf-8"), final=True)
    except UnicodeDecodeError as e:
        raise UntrustedFileError(path, f"is no text: {e.reason} at byte {e.start}", f"{what}, UTF-8") from e


def read_untrusted_json(path: Path, *, at_most: int, what: str, hint: str = "", named: bool = False) -> Any:  # noqa: ANN401 - JSON
    """Return the value of a JSON file from outside, as ``documents.parse_json`` reads it; its fields are unchecked."""
    data = read_untrusted(path, at_most=at_most, what=what, hint=hint, named=named)
    try:
        return parse_json(data, what)
    except InvalidInputError as e:
        raise UntrustedFileError(path, e.problem, e.expected) from e
