"""An owner's identity key: in a keystore of its own, which the running party never opens.

Its owner may keep the file elsewhere: it is needed to sign a mandate, and for nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from btcfi import secp256k1
from btcfi.adapters.files import sync_directory
from btcfi.adapters.keystore import create_keystore, open_keystore
from btcfi.adapters.party.owner import Owner
from btcfi.errors import NotFoundError

IDENTITY_FILE: Final = "identity.json"
_FOLLOWING: Final = "identity-next.json"


def identity_secret(path: Path, passphrase: str) -> bytes:
    """Return the secret of an identity's file. Raises NotFoundError, WrongPassphraseError, InvalidInputError."""
    if not path.exists():
        raise NotFoundError(
            "identity", str(path), "kept elsewhere: --identity FILE; lost: `btcfi party identity rotate`"
        )
    return open_keystore(path, passphrase).identity_secret()


def make_identity(folder: Path, passphrase: str) -> bytes:
    """Return the identity of a folder that knows no owner yet, made if it is not there: an x-only key.

    One that is there was made by a command that ended before its owner was known: with its passphrase it goes on.
    """
    return _key_of(folder / IDENTITY_FILE, passphrase)


def rotate_identity(owner: Owner, folder: Path, passphrase: str) -> tuple[bytes, Path | None]:
    """Give an owner another identity: mandates of the one before no longer count. Open contracts need neither.

    passphrase: of the new file. Returns the new x-only key, and where the old file lies now, None if it was not here.
    After a crash at any step the same call goes on, to the same key.
    """
    current, following, kept = folder / IDENTITY_FILE, folder / _FOLLOWING, None
    key = _key_of(following, passphrase)
    owner.adopt(key)
    if current.exists():
        kept = _unused(folder)
        current.rename(kept)
    following.rename(current)
    sync_directory(folder)
    return key, kept


def _key_of(path: Path, passphrase: str) -> bytes:
    opened = open_keystore(path, passphrase) if path.exists() else create_keystore(path, passphrase)
    return secp256k1.public_key_xonly(opened.identity_secret())


def _unused(folder: Path) -> Path:
    number = 1
    while (kept := folder / f"identity-{number}.json").exists():
        number += 1
    return kept
