"""Backups as releases before version 2 wrote them, and what somebody without the passphrase makes of one."""

import hashlib
import io
import json
import secrets
import tarfile

from sqlalchemy import inspect

from btcfi.adapters.keystore import seal_keystore
from btcfi.adapters.store.backup import rows


def write_v1(store, target, *, secret_files, passphrase, now):
    """Write what commit baf76ab wrote: a gzipped tar, whose list of digests nobody signs."""
    document, keystore = seal_keystore(passphrase)
    parts, counted = {"keystore.json": document, "sealed.bin": _sealed(keystore, secret_files)}, {}
    with rows.snapshot(store) as connection:
        assert inspect(connection).get_table_names()
        for table in rows.tables_of(connection):
            lines = list(rows.lines_of(connection, table))
            parts[f"{table.name}.jsonl"], counted[table.name] = b"".join(lines), len(lines)
        revision = rows.revision_of(connection)
    manifest = {
        "format": "btcfi-backup", "version": 1, "taken_at_unix": now, "revision": revision, "rows": counted,
        "files": len(secret_files), "sha256": {},
    }  # fmt: skip
    return pack_v1(target, manifest, parts)


def _sealed(keystore, secret_files):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as tar:
        for name, path in secret_files.items():
            for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
                inside = "/".join((name, *(file.relative_to(path).parts if path.is_dir() else ())))
                tar.add(file, arcname=inside, recursive=False)
    nonce = secrets.token_bytes(12)
    return nonce + keystore.box().encrypt(nonce, raw.getvalue(), b"btcfi-backup")


def unpack_v1(file):
    """Return a backup's manifest and its parts."""
    with tarfile.open(file) as tar:
        parts = {member.name: tar.extractfile(member).read() for member in tar}
    return json.loads(parts.pop("manifest.json")), parts


def pack_v1(target, manifest, parts, *, listed=True, twice=()):
    """Write a backup of these parts, with their digests in its list, which takes no passphrase."""
    if listed:
        manifest = manifest | {"sha256": {name: hashlib.sha256(body).hexdigest() for name, body in parts.items()}}
    with tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, body in [("manifest.json", json.dumps(manifest).encode()), *sorted(parts.items()), *twice]:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(body), 1_700_000_000.25
            tar.addfile(member, io.BytesIO(body))
    return target
