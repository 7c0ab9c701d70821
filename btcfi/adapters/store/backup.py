"""A deployment in one file: every table from one snapshot, and every key under a passphrase of its own.

A backup is a gzipped tar: ``manifest.json`` (what is inside, each part with its SHA-256), ``NAME.jsonl`` (the
store, evidence and proofs included, the same from SQLite and PostgreSQL, so that one is restored onto the other),
``keystore.json`` and ``sealed.bin`` (wallet seed, oracle keys, the parties' folders: AES-256-GCM under the keystore
that the passphrase opens).

Secret nonces are never put into a backup: one that was used since and comes back would give its key away.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, MetaData, Table, func, insert, inspect, select, text, update
from sqlmodel import col

from btcfi.adapters.files import UntrustedFileError, open_untrusted, read_untrusted_json, sync_directory, write_private
from btcfi.adapters.keystore import Keystore, create_keystore, open_keystore
from btcfi.adapters.party.mailbox import FOLDERS
from btcfi.adapters.store.options.holds import hold_undecided
from btcfi.adapters.store.options.rules import RuleOf
from btcfi.adapters.store.spine.database import NewerStoreError, Store, known_revisions
from btcfi.adapters.store.spine.schema import load_tables
from btcfi.adapters.store.spine.tables import OutboxRow
from btcfi.errors import ConflictError, InvalidInputError
from btcfi.units import UnixSeconds

FORMAT: Final = "btcfi-backup"
VERSION: Final = 1

CHUNK_ROWS: Final = 500
MANIFEST: Final = "manifest.json"
KEYSTORE: Final = "keystore.json"
SEALED: Final = "sealed.bin"

MOMENTARY: Final = frozenset({"lease", "canary", "console_session"})
"""Tables about who runs now: a restored deployment starts without them."""

NONCES: Final = "nonces"
"""Folders of this name held one-time secrets, and may still in a party's folder that no release has opened since."""

ORACLES: Final = "oracles"
"""What the oracles' folders are called inside a backup."""

FETCHED: Final = frozenset({"minutes", "lock"})
"""In an oracle's folder: what it fetches again from any aggregator, and what is nothing."""

MAX_MANIFEST_BYTES: Final = 1 << 20
"""Of the list of parts, which has a line for each of some thirty tables."""

MAX_PART_BYTES: Final = 1 << 34
"""A part that claims to be larger is not read: 16 GB is decades of minutes."""


class NotABackupError(InvalidInputError):
    """A file that is no backup, or a damaged one."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__("backup", f"{path.name}: {problem}", f"a file that `btcfi backup` wrote, version {VERSION}")
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

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.rows.values())


# ---- writing


def write_backup(
    store: Store, target: Path, *, secret_files: Mapping[str, Path], passphrase: str, now: UnixSeconds
) -> Written:
    """Write a backup file, all or nothing, readable by its owner alone.

    secret_files: files and folders by the name under which they are sealed. Raises InvalidInputError for a short
    passphrase, StoreUnreachableError.
    """
    with TemporaryDirectory(prefix=".btcfi-backup-", dir=target.resolve().parent) as name:
        folder = Path(name)
        rows, revision = _dump(store, folder)
        keystore = create_keystore(folder / KEYSTORE, passphrase)
        sealed, files = _seal(keystore, secret_files)
        (folder / SEALED).write_bytes(sealed)
        parts = sorted(path for path in folder.iterdir() if path.is_file())
        manifest = {
            "format": FORMAT, "version": VERSION, "taken_at": datetime.fromtimestamp(now, UTC).isoformat(),
            "taken_at_unix": now, "revision": revision, "rows": rows, "files": files,
            "sha256": {path.name: _digest(path) for path in parts},
        }  # fmt: skip
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
        whole = folder / "backup"
        with tarfile.open(whole, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
            for path in [folder / MANIFEST, *parts]:
                tar.add(path, arcname=path.name, recursive=False)
        whole.chmod(0o600)
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.rename(target)
    sync_directory(target.resolve().parent)  # who is told that there is a backup may lose the machine now
    return Written(rows=rows, files=files, taken_at_unix=now)


def _dump(store: Store, folder: Path) -> tuple[dict[str, int], str]:
    options: dict[str, Any] = {"btcfi_reading": True}
    if store.engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"  # one snapshot for all tables; SQLite's reader has that anyway
    rows = {}
    with store.engine.execution_options(**options).connect() as connection:
        revision = str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
        there = set(inspect(connection).get_table_names())
        for table in load_tables().sorted_tables:
            if table.name in there and table.name not in MOMENTARY:
                rows[table.name] = _dump_table(connection, table, folder / f"{table.name}.jsonl")
    return rows, revision


def _dump_table(connection: Connection, table: Table, path: Path) -> int:
    many = 0
    query = select(table).order_by(*table.primary_key.columns)
    with path.open("w") as file:
        for row in connection.execution_options(yield_per=CHUNK_ROWS).execute(query).mappings():
            file.write(json.dumps({name: _plain(value) for name, value in row.items()}, separators=(",", ":")) + "\n")
            many += 1
    return many


def _plain(value: object) -> object:
    return {"hex": value.hex()} if isinstance(value, bytes | memoryview) else value


def _seal(keystore: Keystore, secret_files: Mapping[str, Path]) -> tuple[bytes, int]:
    raw, many = io.BytesIO(), 0
    # a key may lie behind a link, as a mounted secret does: the key is kept, a link would be worth nothing
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as tar:
        for name, path in sorted(secret_files.items()):
            for file in sorted(_files(path)):
                inside = PurePosixPath(name, *(file.relative_to(path).parts if path.is_dir() else ()))
                again = name == ORACLES and not FETCHED.isdisjoint(inside.parts)
                if file.is_file() and NONCES not in inside.parts and not file.name.startswith(".") and not again:
                    tar.add(file, arcname=str(inside), recursive=False)
                    many += 1
    nonce = secrets.token_bytes(12)
    return nonce + keystore.box().encrypt(nonce, raw.getvalue(), FORMAT.encode()), many


def _files(top: Path) -> Iterator[Path]:
    """Yield the files of a folder, or the file itself; links followed but in mail, where others put them."""
    waiting, seen = [top], {top.resolve()}
    while waiting:
        one = waiting.pop()
        if not one.is_dir():
            yield one
            continue
        mail = not set(one.relative_to(top).parts).isdisjoint(FOLDERS)
        inside = [path for path in one.iterdir() if not (mail and path.is_symlink())]
        waiting += [path for path in inside if not path.is_dir() or path.resolve() not in seen]
        seen |= {path.resolve() for path in inside if path.is_dir()}


# ---- reading


def read_backup(
    source: Path,
    store: Store,
    *,
    secret_files: Mapping[str, Path],
    passphrase: str,
    rule_of: RuleOf,
    now: UnixSeconds,
) -> Written:
    """Restore a backup onto an empty store and into folders that do not exist yet; all is checked before.

    rule_of: a preset's rule, by its hash; it tells which events the backup's prices decide. The others that expired
    before ``now`` are held, before any key is written. Raises NotABackupError, NewerStoreError, WrongPassphraseError,
    NotEmptyError, NotFoundError, StoreUnreachableError.
    """
    with TemporaryDirectory(prefix="btcfi-restore-") as name:
        folder = Path(name)
        manifest = _unpack(source, folder)
        if (at := str(manifest.get("revision"))) not in known_revisions():
            raise NewerStoreError(f"the backup {source.name}", at=at, newest=known_revisions()[0])
        files = _unseal(source, folder, passphrase)
        targets = {file: _target(source, file, secret_files) for file in files}
        for path in secret_files.values():
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise NotEmptyError(str(path))
        _load(source, store, folder, manifest)
        taken_at = UnixSeconds(manifest["taken_at_unix"])
        with store.transaction() as session:
            waiting = col(OutboxRow.published_at_unix).is_(None)  # since now, and not since the machine was lost
            session.execute(update(OutboxRow).where(waiting).values(created_at_unix=now))
            held = [row.event_id for row in hold_undecided(session, rule_of, taken_at=taken_at, now=now)]
        for file, content in files.items():
            write_private(targets[file], content)
    return Written(rows=manifest["rows"], files=len(files), taken_at_unix=taken_at, held=tuple(held))


def _unpack(source: Path, folder: Path) -> dict[str, Any]:
    try:
        with (
            open_untrusted(source, at_most=MAX_PART_BYTES, what="backup", named=True) as raw,
            tarfile.open(fileobj=raw, mode="r:gz") as tar,
        ):
            for member in tar:
                plain = member.isfile() and "/" not in member.name and not member.name.startswith(".")
                if not plain or member.size > MAX_PART_BYTES:
                    raise NotABackupError(source, f"it holds {member.name!r}")
                tar.extract(member, folder, filter="data")
        if not (folder / MANIFEST).is_file():
            raise NotABackupError(source, f"it holds no {MANIFEST}")
        manifest: dict[str, Any] = read_untrusted_json(
            folder / MANIFEST, at_most=MAX_MANIFEST_BYTES, what="manifest of a backup"
        )
        known = (manifest["format"], manifest["version"]) == (FORMAT, VERSION)
        parts = dict(manifest["sha256"])
    except UntrustedFileError as e:
        raise NotABackupError(source, e.problem) from e
    except (OSError, tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as e:
        raise NotABackupError(source, str(e) or type(e).__name__) from e
    if not known:
        raise NotABackupError(source, f"{manifest['format']} version {manifest['version']}")
    for name, expected in parts.items():
        if not (folder / name).is_file() or _digest(folder / name) != expected:
            raise NotABackupError(source, f"{name} is not what was backed up")
    return manifest


def _unseal(source: Path, folder: Path, passphrase: str) -> dict[PurePosixPath, bytes]:
    keystore = open_keystore(folder / KEYSTORE, passphrase)
    sealed = (folder / SEALED).read_bytes()
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


def _target(source: Path, file: PurePosixPath, secret_files: Mapping[str, Path]) -> Path:
    top, *rest = file.parts
    if file.is_absolute() or ".." in file.parts or top not in secret_files:
        raise NotABackupError(source, f"it holds the key file {file}")
    return secret_files[top].joinpath(*rest)


def _load(source: Path, store: Store, folder: Path, manifest: Mapping[str, Any]) -> None:
    if set(inspect(store.engine).get_table_names()) - {"alembic_version"}:
        raise NotEmptyError(f"the database {store.where}")
    store.migrate(str(manifest["revision"]))
    with store.engine.begin() as connection:
        # the tables as they were at the backup's revision, which today's code may call otherwise
        then = MetaData()
        then.reflect(bind=connection)
        for table in then.sorted_tables:
            if table.name in manifest["rows"]:
                loaded = _load_table(connection, table, folder / f"{table.name}.jsonl")
                if loaded != manifest["rows"][table.name]:
                    raise NotABackupError(source, f"{table.name} has {loaded} rows")
    store.migrate()


def _load_table(connection: Connection, table: Table, path: Path) -> int:
    many = 0
    for chunk in _chunks(path):
        connection.execute(insert(table), chunk)
        many += len(chunk)
    number = table.autoincrement_column
    if many and number is not None and connection.dialect.name == "postgresql":
        last = connection.execute(select(func.max(number))).scalar_one()
        sequence = func.pg_get_serial_sequence(f'"{table.name}"', number.name)
        connection.execute(select(func.setval(sequence, last)))
    return many


def _chunks(path: Path) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    with path.open() as file:
        for line in file:
            chunk.append({name: _value(value) for name, value in json.loads(line).items()})
            if len(chunk) == CHUNK_ROWS:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _value(value: Any) -> Any:  # noqa: ANN401 - JSON
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
