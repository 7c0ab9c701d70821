"""Files of two kinds: private ones, which only we write, and ones that somebody else may have written.

Every file and folder of the project is made here (``tests/unit/adapters/test_adapters_one_writer.py``).

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
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from btcfi.documents import parse_json
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
"""Modes: their owner's alone, whatever the shell's mask says."""

PUBLIC_FILE: Final = 0o644
"""Of a file of ours that other users' processes read: public keys, never a secret."""

OTHERS: Final = 0o077
"""The umask of what we start: programs of others make files too, and they hold what ours do."""

_REGULAR: Final = "a regular file of ours: remove what lies there"

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


def make_private(folder: Path, *, named: bool = False) -> None:
    """Make a folder that its owner alone may enter, and every folder above it that is not there yet in the same way.

    named: a person named this very folder, so it may be a link of theirs or of root's. Otherwise a link in its place is
    refused: what is written into it would lie elsewhere. ``mkdir(parents=True, mode=0o700)`` gives its mode to the last
    one only, and none that the umask takes away. Raises UntrustedFileError for a link or what is no folder.
    """
    if not folder.parent.is_dir():
        make_private(folder.parent, named=True)  # above it lies what the machine's owner has made
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER)
        _set_mode(folder, PRIVATE_FOLDER)
        sync_directory(folder.parent)  # what is synced inside is worth nothing in a folder that a power cut takes away
        return
    if folder.is_symlink() and not (named and folder.lstat().st_uid in {0, os.geteuid()}):
        raise UntrustedFileError(folder, "is a link", "a folder; mount one there, or name where the link leads")
    if not folder.is_dir():
        raise UntrustedFileError(folder, "is no folder", "a folder, or nothing yet")


def _set_mode(folder: Path, mode: int) -> None:
    """Give a folder that we have just made its mode, where the umask took some of it; never one that a link names."""
    # O_PATH asks for no permission of the folder itself, which may have none yet
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            os.chmod(f"/proc/self/fd/{descriptor}", mode)  # noqa: PTH101 - a descriptor of O_PATH takes no fchmod
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes, *, fresh: bool = False) -> None:
    """Write a file of mode 0600, durably and all or nothing. Raises KeystoreExistsError if ``fresh`` and it exists."""
    make_private(path.parent, named=True)
    with writing_private(path, fresh=fresh) as file:
        file.write(data)


def write_public(path: Path, data: bytes) -> None:
    """Write a file of ours that others may read, durably and all or nothing. Never for a secret."""
    make_private(path.parent, named=True)
    with writing_private(path) as file:
        os.fchmod(file.fileno(), PUBLIC_FILE)
        file.write(data)


@contextmanager
def writing_private(path: Path, *, fresh: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write that takes its name when all is written and synced; its mode is 0600 under any umask.

    What lay under the name is replaced, a link too, and what that led to stays as it is. Raises KeystoreExistsError if
    ``fresh`` and something lies there.
    """
    # a new file of a name that nobody can foresee: where others write too, a link of theirs may lie under any other
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)  # O_EXCL and O_NOFOLLOW
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, PRIVATE_FILE)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            _take_name(temporary, path)
        else:
            temporary.replace(path)
    except FileExistsError as e:
        raise KeystoreExistsError(path) from e
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def _take_name(temporary: Path, path: Path) -> None:
    """Give a file its name, and fail when that is taken: no gap between asking and writing."""
    try:
        path.hardlink_to(temporary)
    except OSError as e:
        if e.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        # a file system without hard links, as on a stick: the name is claimed by an empty file, then that is replaced
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE))
        temporary.replace(path)


def open_private(path: Path, *, append: bool = False, fresh: bool = False) -> BinaryIO:
    """Open a file of ours for reading and writing, made with mode 0600 under any umask where it is missing.

    For what stays open or grows in its place: ledgers, locks, logs. append: every write goes to the end. fresh: it
    must not be there yet. Its bytes are on the disk when its caller has synced them. Raises UntrustedFileError for a
    link or what is no regular file in its place, FileExistsError.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_APPEND if append else 0)
    return os.fdopen(_opened(path, flags, fresh=fresh), "ab" if append else "r+b")


def _opened(path: Path, flags: int, *, fresh: bool) -> int:
    try:
        descriptor, made = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), True
    except FileExistsError:
        if fresh:
            raise
        descriptor, made = _opened_there(path, flags), False
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UntrustedFileError(path, "is no regular file", _REGULAR)
    if made:
        os.fchmod(descriptor, PRIVATE_FILE)
    os.set_blocking(descriptor, True)  # not to wait was for the opening alone
    return descriptor


def _opened_there(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CREAT, PRIVATE_FILE)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise UntrustedFileError(path, "is a link", _REGULAR) from e
        if e.errno in {errno.EISDIR, errno.ENXIO}:
            raise UntrustedFileError(path, "is no regular file", _REGULAR) from e
        raise


def private_folder(path: Path) -> Path:
    """Return a folder that is ours alone, made with mode 0700 where it is missing. Raises UntrustedFileError.

    For a place into which others write, as the temporary folder: what lies there under our name may be theirs.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=PRIVATE_FOLDER)
        _set_mode(path, PRIVATE_FOLDER)
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


def new_private(prefix: str, parent: Path | None = None) -> Path:
    """Return a new folder of a name that nobody can foresee, mode 0700 under any umask; by default a temporary one."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    _set_mode(folder, PRIVATE_FOLDER)
    return folder


def remade_private(folder: Path) -> None:
    """Make a folder of ours anew, empty, for what is worth nothing after this process; a link's target stays whole."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    make_private(folder)


# ---- what a person asked for


def write_named(path: Path, data: bytes | str) -> None:
    """Write what a person asked for into the file that they named: a link, a pipe or a terminal too, of their mode.

    Never for a secret, nor for anything that we read back as ours.
    """
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def replace_named(path: Path, data: bytes) -> None:
    """Write what a person asked for under the name that they gave, whole or not at all, in the place of what lay there.

    Its mode is of their umask: a message for the other side is read by another user. Never for a secret.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(part, flags, 0o666), "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def open_named(path: Path, *, append: bool = False) -> BinaryIO:
    """Open the file that a person named for writing, as ``write_named``; append: behind what is there."""
    return path.open("ab" if append else "wb")


def make_named(folder: Path) -> None:
    """Make the folder that a person named for what is no secret, such as a recording or proof files."""
    folder.mkdir(parents=True, exist_ok=True)


# ----


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
                os.mkdir(room, mode=PRIVATE_FOLDER, dir_fd=descriptor)
                # by way of the descriptor: the folder may be replaced meanwhile, and its link is not followed
                _set_mode(Path(f"/proc/self/fd/{descriptor}/{room}"), PRIVATE_FOLDER)
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
