"""Secret MuSig2 nonces between two runs of a program: on this machine, until it is switched off, and in no copy.

A nonce that signs twice gives its key away, so it must not come back: not from a backup, not in a copy of a party's
folder. Therefore it never lies in that folder, but in a folder of this user's for running programs, under a name that
is another one after the next boot and in a copy of that folder; encrypted, and gone before it signs. Source: BIP327,
"Nonce Generation".
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag

from btcfi.adapters.files import UntrustedFileError, private_folder, read_untrusted, sync_directory, write_private
from btcfi.adapters.keystore import Keystore
from btcfi.bitcoin.musig import SecretNonce
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.units import Hash32

_MAX_FILE_BYTES: Final = 1 << 12
"""Of a sealed nonce, which has three hundred."""

_RANDOM_SIZE: Final = 12
"""Bytes of AES-GCM's own nonce, before what it encrypted."""

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
"""Another text after each boot. Source: random(4)."""


class NonceGoneError(ConflictError):
    """The secret nonce of a close is not on this machine, or has signed already."""

    def __init__(self) -> None:
        super().__init__(
            "the secret nonce of this close is used, or was made on another machine, before the last boot or for a "
            "later request; ask for the close again (`btcfi party close`)"
        )


def runtime_folder() -> Path:
    """Return this user's folder for what must not outlive the machine's run, made where it is missing.

    It is in XDG_RUNTIME_DIR, else in /run/user/UID, else in the temporary folder. Raises UntrustedFileError where it is
    another user's, open to others, or a link.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    for parent in (given, f"/run/user/{os.geteuid()}"):
        if parent and Path(parent).is_absolute() and os.access(parent, os.W_OK | os.X_OK):
            return private_folder(Path(parent) / "btcfi")
    return private_folder(Path(tempfile.gettempdir()) / f"btcfi-{os.geteuid()}")


def run_id(folder: Path) -> bytes:
    """Return what tells this run of the machine, and this folder, from any other: for the names of what lies in it.

    The boot and the folder's own identity: a copy of the folder, or one that outlived a boot, holds no such name.
    """
    here = folder.stat()
    boot = _BOOT.read_bytes() if _BOOT.exists() else b""
    return f"{here.st_dev}:{here.st_ino}:".encode() + boot


class NonceVault:
    """One keystore's nonces. ``session`` says what a nonce is kept for, by 32 bytes; one nonce a session."""

    def __init__(self, keystore: Keystore, folder: Path | None = None) -> None:
        """Use ``folder``, which must be ours alone; without one, ``runtime_folder``. Raises UntrustedFileError."""
        self._keystore, self._box = keystore, keystore.box()
        self._folder = runtime_folder() if folder is None else private_folder(folder)

    def put(self, session: Hash32, nonce: SecretNonce) -> None:
        """Store a session's nonce; the one that it had is destroyed first."""
        path = self._path(session)
        path.unlink(missing_ok=True)
        sync_directory(self._folder)
        random = secrets.token_bytes(_RANDOM_SIZE)
        write_private(path, random + self._box.encrypt(random, nonce.seal(), path.name.encode()), fresh=True)

    def drop(self, session: Hash32) -> None:
        """Destroy a session's nonce, if there is one: nothing that was offered with it can be finished."""
        self._path(session).unlink(missing_ok=True)
        sync_directory(self._folder)

    def take(self, session: Hash32, public: bytes) -> SecretNonce:
        """Return the session's nonce with this public half (66 bytes), and destroy the stored one first.

        Raises NonceGoneError the second time, for another public half and in every copy; UntrustedFileError for a file
        that was changed.
        """
        path = self._path(session)
        try:
            nonce = self._open(path)
            if nonce.public != public:
                raise NonceGoneError  # a later request has taken its place, and keeps it
            path.unlink()  # one process alone gets past this line
        except (NotFoundError, FileNotFoundError) as e:
            raise NonceGoneError from e
        sync_directory(self._folder)
        return nonce

    def _open(self, path: Path) -> SecretNonce:
        raw = read_untrusted(path, at_most=_MAX_FILE_BYTES, what="nonce of a session")
        try:
            return SecretNonce.from_sealed(
                self._box.decrypt(raw[:_RANDOM_SIZE], raw[_RANDOM_SIZE:], path.name.encode())
            )
        except (InvalidTag, InvalidInputError, ValueError) as e:
            problem = "was changed, or is another keystore's"
            raise UntrustedFileError(path, problem, "a nonce as it was stored; ask for the close again") from e

    def _path(self, session: Hash32) -> Path:
        return self._folder / f"{self._keystore.label(session + run_id(self._folder)).hex()}.nonce"
