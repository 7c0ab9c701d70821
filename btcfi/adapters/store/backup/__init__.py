"""A deployment in one file: every table from one snapshot, and every key, as one authenticated whole.

A backup is a sealed stream (``adapters.sealed``) under a keystore of its own, which the passphrase opens:
``about.json`` (the migration, the moment), ``tables/NAME.jsonl`` (the store, evidence and proofs included),
``keys/NAME`` (wallet seed, oracle keys, the parties' folders), and at its end the list of all parts. Without the
passphrase nothing of it can be read, changed, left out, added or exchanged for a part of another backup, and a restore
writes nothing before it has gone through all of it.

Version 1, of releases before, authenticates its keys alone: ``version_1`` reads it.

Secret nonces are never put into a backup: one that was used since and comes back would give its key away.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote_to_bytes

from btcfi.adapters.files import UntrustedFileError, make_private, open_untrusted, writing_private
from btcfi.adapters.keystore import Keystore, seal_keystore, unseal_keystore
from btcfi.adapters.party.mailbox import FOLDERS
from btcfi.adapters.sealed import BLOCK_BYTES, BrokenStreamError, SealedReader, SealedWriter, read_head
from btcfi.adapters.store.backup import rows, version_1
from btcfi.adapters.store.backup.before_keys import BeforeKeys, Moment, held_since
from btcfi.adapters.store.backup.moved import (
    FORMAT,
    ORACLES,
    ClockBehindError,
    NotABackupError,
    NotEmptyError,
    Written,
    refuse_filled,
    target_of,
)
from btcfi.adapters.store.market.failing import stand_down
from btcfi.adapters.store.options.holds import hold_undecided
from btcfi.adapters.store.options.rules import RuleOf
from btcfi.adapters.store.spine.database import NewerStoreError, Store, known_revisions
from btcfi.documents import parse_json
from btcfi.errors import NotFoundError
from btcfi.units import UnixSeconds

__all__ = [
    "FORMAT", "VERSION", "ClockBehindError", "Moment", "NotABackupError", "NotEmptyError", "Written", "read_backup",
    "write_backup",
]  # fmt: skip

VERSION: Final = 2

MAGIC: Final = f"{FORMAT}/{VERSION}\n".encode()

ABOUT: Final = "about.json"
TABLES: Final = "tables/"
ROWS: Final = ".jsonl"
KEYS: Final = "keys/"

NONCES: Final = "nonces"
"""Folders of this name held one-time secrets, and may still in a party's folder that no release has opened since."""

FETCHED: Final = frozenset({"minutes", "lock"})
"""In an oracle's folder: what it fetches again from any aggregator, and what is nothing."""

MAX_BACKUP_BYTES: Final = 1 << 40
"""A file that is larger is not read: a terabyte."""

MAX_KEY_BYTES: Final = 1 << 32
"""Of one file of an oracle's or a party's folder; their ledgers have a line for each event."""


# ---- writing


def write_backup(
    store: Store, target: Path, *, secret_files: Mapping[str, Path], passphrase: str, now: UnixSeconds
) -> Written:
    """Write a backup file, all or nothing, readable by its owner alone; no part of it ever lies unsealed on the disk.

    secret_files: files and folders by the name under which they are sealed. Raises InvalidInputError for a short
    passphrase, KeystoreExistsError where something lies under the target's name, StoreUnreachableError.
    """
    document, keystore = seal_keystore(passphrase)
    with writing_private(target, fresh=True) as file:
        writer = SealedWriter(file, magic=MAGIC, keystore=document, opened=keystore)
        counted = _write_tables(writer, store, now)
        files = _write_keys(writer, secret_files)  # after the tables: the oracles' ledgers know all that these say
        writer.finish({"rows": counted, "files": files})
    return Written(rows=counted, files=files, taken_at_unix=now)


def _write_tables(writer: SealedWriter, store: Store, now: UnixSeconds) -> dict[str, int]:
    counted = {}
    with rows.snapshot(store) as connection:
        about = {
            "format": FORMAT, "version": VERSION, "taken_at": datetime.fromtimestamp(now, UTC).isoformat(),
            "taken_at_unix": now, "revision": rows.revision_of(connection),
        }  # fmt: skip
        with writer.part(ABOUT) as part:
            part.write(json.dumps(about).encode())
        for table in rows.tables_of(connection):
            many = 0
            with writer.part(f"{TABLES}{table.name}{ROWS}") as part:
                for line in rows.lines_of(connection, table):
                    part.write(line)
                    many += 1
            counted[table.name] = many
    return counted


def _write_keys(writer: SealedWriter, secret_files: Mapping[str, Path]) -> int:
    many = 0
    for name, top in sorted(secret_files.items()):
        for file, ours in sorted(_files(top)):
            inside = PurePosixPath(name, *(file.relative_to(top).parts if top.is_dir() else ()))
            again = name == ORACLES and not FETCHED.isdisjoint(inside.parts)
            if NONCES in inside.parts or file.name.startswith(".") or again:
                continue
            many += _write_key(writer, f"{KEYS}{quote(os.fsencode(str(inside)))}", file, ours=ours)
    return many


def _write_key(writer: SealedWriter, name: str, file: Path, *, ours: bool) -> int:
    with ExitStack() as stack:
        try:
            # a key may lie behind a link, as a mounted secret does: the key is kept, a link would be worth nothing
            raw = stack.enter_context(open_untrusted(file, at_most=MAX_KEY_BYTES, what="key file", named=ours))
        except NotFoundError:
            return 0  # mail that was taken meanwhile
        except UntrustedFileError:
            if ours:
                raise
            return 0  # what others leave where mail belongs must not keep the keys from being kept
        with writer.part(name) as part:
            while piece := raw.read(BLOCK_BYTES):
                part.write(piece)
    return 1


def _files(top: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the files of a folder, or the file itself, and whether only we write there.

    Links are followed, but not in mail, where others put them. What is no file is passed over: a socket holds nothing.
    """
    waiting, seen = [top], {top.resolve()}
    while waiting:
        one = waiting.pop()
        mail = not set(one.relative_to(top).parts).isdisjoint(FOLDERS)
        if not one.is_dir():
            if one.is_file():
                yield one, not mail
            continue
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
    now: UnixSeconds | Moment,
) -> Written:
    """Restore a backup onto an empty store and into folders that do not exist yet; all is checked before.

    rule_of: a preset's rule, by its hash; it tells which events the backup's prices decide. The others that expired
    before ``now`` are held, in the store and in each oracle's folder, before any key is written; of a backup whose
    tables nobody vouches for, all that are not attested by their oracles' own signatures. Raises NotABackupError,
    NewerStoreError, WrongPassphraseError, NotEmptyError, NotFoundError, StoreUnreachableError, and ClockBehindError
    where ``now`` is before the backup.
    """
    moment = now if isinstance(now, Moment) else Moment(now=now)
    with _named(source), _opened(source) as file:
        magic = file.read(len(MAGIC))
        file.seek(0)
        if magic.startswith(version_1.MAGIC):
            return version_1.read(
                source, file, store, secret_files=secret_files, passphrase=passphrase, moment=moment
            )  # fmt: skip
        if magic != MAGIC:
            told = magic.startswith(f"{FORMAT}/".encode())
            raise NotABackupError(
                source, f"is of version {magic[13:-1].decode(errors='replace')}" if told else "is none"
            )
        return _restore(
            source, file, store, secret_files=secret_files, passphrase=passphrase, rule_of=rule_of, moment=moment
        )  # fmt: skip


@contextmanager
def _named(source: Path) -> Iterator[None]:
    """Say of what is wrong with a part of a backup, in which file."""
    try:
        yield
    except BrokenStreamError as e:
        raise NotABackupError(source, f"{e.part} {e.problem}") from e


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    """Give the file to read twice; what comes by a pipe is kept aside, sealed as it is."""
    try:
        with open_untrusted(source, at_most=MAX_BACKUP_BYTES, what="backup", named=True) as file:
            if file.seekable():
                yield file
                return
            with tempfile.TemporaryFile() as aside:  # it has no name, and goes with us
                many = 0
                while piece := file.read(BLOCK_BYTES):
                    many += len(piece)
                    if many > MAX_BACKUP_BYTES:
                        raise NotABackupError(source, f"more than {MAX_BACKUP_BYTES:,} bytes")
                    aside.write(piece)
                aside.seek(0)
                yield aside
    except UntrustedFileError as e:
        if e.path != source:
            raise
        raise NotABackupError(source, e.problem) from e


def _restore(
    source: Path, file: BinaryIO, store: Store, *, secret_files: Mapping[str, Path], passphrase: str, rule_of: RuleOf,
    moment: Moment,
) -> Written:  # fmt: skip
    file.seek(len(MAGIC))
    document = read_head(file)
    keystore = unseal_keystore(document, passphrase, inside=source)
    about, facts = _checked(source, file, document, keystore, secret_files)
    taken_at = UnixSeconds(int(about["taken_at_unix"]))
    now = moment.after(taken_at)
    refuse_filled(secret_files)
    rows.refuse_used(store)
    store.migrate(str(about["revision"]))
    parts = _again(file, document, keystore).parts()
    first = _load_tables(source, store, parts, facts["rows"])
    store.migrate()
    with store.transaction() as session:
        rows.wait_from(session, now)
        stand_down(session, now=now)
        held = tuple(row.event_id for row in hold_undecided(session, rule_of, taken_at=taken_at, now=now))
        oracles_hold = held_since(session, moment, taken_at=taken_at, named=held, authentic=True)
    if first is not None:
        before = BeforeKeys(oracles_hold, secret_files)
        _put_keys(source, chain([first], parts), secret_files, before)
    return Written(
        rows=facts["rows"], files=int(facts["files"]), taken_at_unix=taken_at, held=held, oracles_hold=oracles_hold
    )


def _again(file: BinaryIO, document: bytes, keystore: Keystore) -> SealedReader:
    file.seek(len(MAGIC))
    read_head(file)
    return SealedReader(file, magic=MAGIC, keystore=document, opened=keystore)


def _checked(
    source: Path, file: BinaryIO, document: bytes, keystore: Keystore, secret_files: Mapping[str, Path]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Go through all of it, and return what it says of itself, at its beginning and at its end."""
    reader, about, keys = _again(file, document, keystore), dict[str, Any](), 0
    for number, (name, pieces) in enumerate(reader.parts()):
        if (number == 0) != (name == ABOUT):
            raise NotABackupError(
                source, f"{name} stands where {ABOUT} belongs" if not number else f"{name} stands late"
            )
        if name == ABOUT:
            about = parse_json(b"".join(pieces), ABOUT)
            if (said := (about["format"], about["version"])) != (FORMAT, VERSION):
                raise NotABackupError(source, f"{said[0]} version {said[1]}")
            if (at := str(about["revision"])) not in known_revisions():
                raise NewerStoreError(f"the backup {source.name}", at=at, newest=known_revisions()[0])
        elif name.startswith(KEYS):
            target_of(source, _key_file(name), secret_files)
            keys += 1
        elif keys or not name.startswith(TABLES) or not name.endswith(ROWS):
            raise NotABackupError(source, f"{name} is no part of a backup")
    if not about or keys != reader.facts["files"]:
        raise NotABackupError(source, f"it has {keys} key files")
    return about, reader.facts


def _key_file(name: str) -> PurePosixPath:
    return PurePosixPath(os.fsdecode(unquote_to_bytes(name.removeprefix(KEYS))))


def _load_tables(
    source: Path, store: Store, parts: Iterator[tuple[str, Iterator[bytes]]], counted: Mapping[str, int]
) -> tuple[str, Iterator[bytes]] | None:
    """Insert every table, all or nothing, and return the first part that is none."""
    loaded = {}
    with store.engine.begin() as connection:
        then = rows.tables_then(connection)
        for name, pieces in parts:
            if name.startswith(KEYS):
                break
            if name == ABOUT:
                continue
            table = name.removeprefix(TABLES).removesuffix(ROWS)
            if table not in then:
                raise NotABackupError(source, f"it holds the table {table!r}")
            loaded[table] = rows.load(connection, then[table], pieces)
        else:
            name, pieces = "", iter(())
        if loaded != dict(counted):
            raise NotABackupError(source, f"it holds {loaded}, and says {dict(counted)}")
    return (name, pieces) if name else None


def _put_keys(
    source: Path, parts: Iterator[tuple[str, Iterator[bytes]]], secret_files: Mapping[str, Path], before: BeforeKeys
) -> None:  # fmt: skip
    for name, pieces in parts:
        target = target_of(source, _key_file(name), secret_files)
        before(target)
        make_private(target.parent, named=target in secret_files.values())
        with writing_private(target, fresh=True) as file:
            for piece in pieces:
                file.write(piece)
