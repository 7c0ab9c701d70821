"""Backups of releases before version 2: a gzipped tar, of which the keys alone are authenticated.

``manifest.json`` lists every part with its SHA-256, and nobody vouches for the list: who can write into the file can
change the tables. So nothing is decided by them. No event counts as decided by their prices: every one that is over is
held until an operator decides, but those that all their oracles have signed. What says that an oracle attested
something counts only with that oracle's signature. The operator is told what else to check.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any, BinaryIO, Final

from cryptography.exceptions import InvalidTag

from btcfi.adapters.files import write_private, writing_private
from btcfi.adapters.keystore import MAX_KEYSTORE_BYTES, Keystore, unseal_keystore
from btcfi.adapters.store.backup import rows
from btcfi.adapters.store.backup.before_keys import BeforeKeys, Moment, held_since
from btcfi.adapters.store.backup.moved import FORMAT, NotABackupError, Written, refuse_filled, target_of
from btcfi.adapters.store.options import holds
from btcfi.adapters.store.spine.database import NewerStoreError, Store, known_revisions
from btcfi.documents import parse_json
from btcfi.errors import InvalidInputError
from btcfi.units import UnixSeconds

VERSION: Final = 1
MAGIC: Final = b"\x1f\x8b"
"""Of gzip."""

MANIFEST: Final = "manifest.json"
KEYSTORE: Final = "keystore.json"
SEALED: Final = "sealed.bin"

MAX_MANIFEST_BYTES: Final = 1 << 20
"""Of the list of parts, which has a line for each of some thirty tables."""

MAX_SEALED_BYTES: Final = 1 << 30
"""Of all keys: they are opened in memory."""

MAX_PART_BYTES: Final = 1 << 34
"""A part that claims to be larger is not read: 16 GB is decades of minutes."""

MAX_PARTS: Final = 256

MAX_WHOLE_BYTES: Final = 1 << 36
"""Of all parts: what a restore may take of the disk on a list's word."""

_READ_BYTES: Final = 1 << 20
"""At a time: a header that says more of itself is no header of ours."""

_BROKEN: Final = (OSError, tarfile.TarError, EOFError, ValueError, KeyError, TypeError, zlib.error)


def read(
    source: Path, raw: BinaryIO, store: Store, *, secret_files: Mapping[str, Path], passphrase: str, moment: Moment
) -> Written:  # fmt: skip
    """Restore a backup of version 1, as ``read_backup`` does; nothing is unpacked before the passphrase opens it."""
    manifest, document, sealed = _looked_at(source, raw)
    if (at := str(manifest["revision"])) not in known_revisions():
        raise NewerStoreError(f"the backup {source.name}", at=at, newest=known_revisions()[0])
    files = _unsealed(source, sealed, unseal_keystore(document, passphrase, inside=source))
    taken_at = UnixSeconds(int(manifest["taken_at_unix"]))
    now = moment.after(taken_at)
    targets = {file: target_of(source, file, secret_files) for file in files}
    refuse_filled(secret_files)
    rows.refuse_used(store)
    with TemporaryDirectory(prefix="btcfi-restore-") as name:
        folder = Path(name)
        _unpack(source, raw, folder, manifest)
        _load(source, store, folder, manifest)
    with store.transaction() as session:
        rows.wait_from(session, now)
        dropped = holds.forget_unsigned(session)
        held = tuple(row.event_id for row in holds.hold_unattested(session, taken_at=taken_at, now=now))
        oracles_hold = held_since(session, moment, taken_at=taken_at, named=held, authentic=False)
    before = BeforeKeys(oracles_hold, secret_files)
    for file in sorted(files):  # an oracle's ledgers before its key
        before(targets[file])
        write_private(targets[file], files[file], fresh=True)
    return Written(
        rows=manifest["rows"], files=len(files), taken_at_unix=taken_at, held=held,
        warnings=warnings_of(len(held), dropped), oracles_hold=oracles_hold,
    )  # fmt: skip


def warnings_of(held: int, dropped: int) -> tuple[str, ...]:
    """Return what a person must know who restored a backup of version 1."""
    said = [
        "this backup is of version 1: its keys are authenticated, its tables are not: anybody may have changed them",
        f"its prices decide nothing: {held} events are held, those of the past that not every oracle has signed",
        "next: `btcfi oracle held`, then `btcfi oracle import` what was published",
        "before you start it, look for strange keys and accounts: `btcfi keys list`, `btcfi users list`",
        "compare open options with the parties' own contracts (`btcfi options list`), and run `btcfi audit`",
        "take a new backup with `btcfi backup`: one of version 2 is authenticated as a whole",
    ]
    if dropped:
        said.insert(2, f"{dropped} attestations in its tables bear no oracle's signature and were left out")
    return tuple(said)


class _Sips(io.RawIOBase):
    """What a tar is read from: refuses to hand out much at once, since the archive's headers name the amount."""

    def __init__(self, source: Path, inside: gzip.GzipFile) -> None:
        self._source, self._inside = source, inside

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _READ_BYTES:
            raise NotABackupError(self._source, f"a header of {size:,} bytes")
        return self._inside.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset > MAX_WHOLE_BYTES:
            raise NotABackupError(self._source, f"more than {MAX_WHOLE_BYTES:,} bytes unpacked")
        return self._inside.seek(offset, whence)

    def tell(self) -> int:
        return self._inside.tell()


def _members(source: Path, raw: BinaryIO) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield name, size and content of each part, once it is plain that it may be one."""
    raw.seek(0)
    names, whole = set[str](), 0
    try:
        with (
            gzip.GzipFile(fileobj=raw, mode="rb") as inside,
            tarfile.open(fileobj=_Sips(source, inside), mode="r:") as tar,
        ):
            for member in tar:
                plain = member.isfile() and "/" not in member.name and not member.name.startswith(".")
                if not plain or member.size > MAX_PART_BYTES or member.sparse is not None:
                    raise NotABackupError(source, f"it holds {member.name[:80]!r}")
                whole += member.size
                if member.name in names or len(names) >= MAX_PARTS or whole > MAX_WHOLE_BYTES:
                    raise NotABackupError(source, f"{member.name[:80]!r} is in it twice, or one too many")
                names.add(member.name)
                content = tar.extractfile(member)
                if content is not None:
                    yield member.name, member.size, content
    except _BROKEN as e:
        if isinstance(e, InvalidInputError):
            raise
        raise NotABackupError(source, str(e)[:200] or type(e).__name__) from e


def _looked_at(source: Path, raw: BinaryIO) -> tuple[dict[str, Any], bytes, bytes]:
    """Go through the archive, unpacking nothing, and return the list of its parts, its keystore and its sealed keys."""
    kept = {MANIFEST: MAX_MANIFEST_BYTES, KEYSTORE: MAX_KEYSTORE_BYTES, SEALED: MAX_SEALED_BYTES}
    digests, held = dict[str, str](), dict[str, bytes]()
    for name, size, content in _members(source, raw):
        if size > kept.get(name, size):
            raise NotABackupError(source, f"{name} has {size:,} bytes")
        digest, pieces = hashlib.sha256(), []
        while piece := content.read(_READ_BYTES):
            digest.update(piece)
            if name in kept:
                pieces.append(piece)
        digests[name] = digest.hexdigest()
        if name in kept:
            held[name] = b"".join(pieces)
    if missing := sorted(set(kept) - set(held)):
        raise NotABackupError(source, f"it holds no {missing[0]}")
    manifest = _manifest(source, held[MANIFEST])
    del digests[MANIFEST]
    for name in sorted({*digests, *manifest["sha256"]}):
        if name not in manifest["sha256"]:
            raise NotABackupError(source, f"{name} is in it and in no list")
        if digests.get(name) != manifest["sha256"][name]:
            raise NotABackupError(source, f"{name} is not what was backed up")
    return manifest, held[KEYSTORE], held[SEALED]


def _manifest(source: Path, document: bytes) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = parse_json(document, "manifest of a backup")
        known = (manifest["format"], manifest["version"]) == (FORMAT, VERSION)
        listed, counted = dict(manifest["sha256"]), {str(name): int(many) for name, many in manifest["rows"].items()}
        taken_at, revision = int(manifest["taken_at_unix"]), str(manifest["revision"])
    except InvalidInputError as e:
        raise NotABackupError(source, e.problem) from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise NotABackupError(source, f"{MANIFEST}: {e}") from e
    if not known:
        raise NotABackupError(source, f"{manifest['format']} version {manifest['version']}")
    tables = {f"{name}.jsonl" for name in counted}
    if (unlisted := sorted(set(listed) ^ {*tables, KEYSTORE, SEALED})) != []:
        raise NotABackupError(source, f"{unlisted[0]} is in one of its two lists")
    return {"sha256": listed, "rows": counted, "taken_at_unix": taken_at, "revision": revision}


def _unpack(source: Path, raw: BinaryIO, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Unpack the tables, which were looked at before; whoever changes the file meanwhile is told."""
    for name, _, content in _members(source, raw):
        if not name.endswith(".jsonl"):
            continue
        digest = hashlib.sha256()
        with writing_private(folder / name, fresh=True) as file:
            while piece := content.read(_READ_BYTES):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != manifest["sha256"].get(name):
            raise NotABackupError(source, f"{name} was changed meanwhile")


def _unsealed(source: Path, sealed: bytes, keystore: Keystore) -> dict[PurePosixPath, bytes]:
    try:
        raw = keystore.box().decrypt(sealed[:12], sealed[12:], FORMAT.encode())
    except (InvalidTag, ValueError) as e:  # the cipher says the second of too few bytes
        raise NotABackupError(source, "its keys were changed") from e
    files = {}
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
        for member in tar:
            # a link, of a release before there were none: what it led to is not here, and must not keep the rest away
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                files[PurePosixPath(member.name)] = content.read()
    return files


def _load(source: Path, store: Store, folder: Path, manifest: Mapping[str, Any]) -> None:
    store.migrate(str(manifest["revision"]))
    with store.engine.begin() as connection:
        for name, table in rows.tables_then(connection).items():
            if name not in manifest["rows"]:
                continue
            with (folder / f"{name}.jsonl").open("rb") as file:
                loaded = rows.load(connection, table, _pieces(file))
            if loaded != manifest["rows"][name]:
                raise NotABackupError(source, f"{name} has {loaded} rows")
    store.migrate()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_READ_BYTES):
        yield piece
