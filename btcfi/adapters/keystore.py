"""Secrets on disk: an encrypted seed, and the ledger of attested outcomes.

The seed lies in a JSON file of mode 0600, encrypted by AES-256-GCM under a key that scrypt makes of a passphrase.
Nothing here prints, logs or returns a secret except to the caller that asked for it by name.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from btcfi.adapters.files import (
    read_untrusted_json,
    write_private,
)
from btcfi.bitcoin.keys import HARDENED, TaprootKey, master_key, wallet_key
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32

SCRYPT_N: Final = 1 << 15
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
"""32 MiB and about a tenth of a second a guess. Source: RFC 7914, and OWASP's advice for scrypt."""

MIN_PASSPHRASE: Final = 8
_MAX_SCRYPT_N: Final = 1 << 20
"""A file that asks for more would only exhaust our memory."""

_MAX_FILE_BYTES: Final = 1 << 16
"""Of a keystore, which has a few hundred."""

_VERSION: Final = 1
_TYPE: Final = "btcfi/keystore"
_CONTRACT_PURPOSE: Final = 2137
"""Hardened first level of contract keys: apart from every BIP43 purpose in use."""


class WrongPassphraseError(BtcfiError):
    """The passphrase does not open the keystore, or the file was changed."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"keystore {path.name} does not open: wrong passphrase, or the file was changed")
        self.path = path


class Keystore:
    """An opened keystore. Its repr shows nothing."""

    __slots__ = ("_seed",)

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def __repr__(self) -> str:
        return "Keystore(…)"

    def wallet_key(self, index: int) -> TaprootKey:
        """Return key ``index`` of the party's own wallet (BIP86)."""
        return wallet_key(self._seed, index)

    def contract_secret(self, index: int) -> bytes:
        """Return the secret of contract ``index``: m/2137'/index', a key of its own for each contract."""
        return master_key(self._seed).child(_CONTRACT_PURPOSE + HARDENED).child(index + HARDENED).secret

    def box(self) -> AESGCM:
        """Return the cipher for small secrets of this keystore's owner."""
        return AESGCM(tagged_hash("BTCFi/keystore/box/v1", self._seed))

    def label(self, about: bytes) -> Hash32:
        """Return a name for something of this keystore's: it says nothing to others, and no other keystore has it."""
        return tagged_hash("BTCFi/keystore/label/v1", self._seed + about)


def create_keystore(path: Path, passphrase: str, seed: bytes | None = None) -> Keystore:
    """Write a new keystore, mode 0600, and return it opened; without ``seed`` it gets 32 random bytes.

    Raises KeystoreExistsError, InvalidInputError for a passphrase below 8 characters.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise InvalidInputError("passphrase", f"{len(passphrase)} characters", f"at least {MIN_PASSPHRASE}")
    secret = secrets.token_bytes(32) if seed is None else seed
    header = {
        "type": _TYPE,
        "version": _VERSION,
        "kdf": {"name": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": secrets.token_hex(16)},
        "nonce": secrets.token_hex(12),
    }
    box = AESGCM(_stretch(passphrase, header["kdf"]))
    sealed = box.encrypt(bytes.fromhex(str(header["nonce"])), secret, _bound(header))
    write_private(path, json.dumps(header | {"ciphertext": b64encode(sealed).decode()}, indent=1).encode(), fresh=True)
    return Keystore(secret)


def open_keystore(path: Path, passphrase: str) -> Keystore:
    """Return the keystore of a file. Raises NotFoundError, WrongPassphraseError, InvalidInputError for another file."""
    hint = "create it with `btcfi party init`"
    stored = read_untrusted_json(path, at_most=_MAX_FILE_BYTES, what="keystore", hint=hint, named=True)
    try:
        sealed = b64decode(stored.pop("ciphertext"))
        known = stored["type"] == _TYPE and stored["version"] == _VERSION and stored["kdf"]["n"] <= _MAX_SCRYPT_N
        if not known:
            raise ValueError(stored["type"])  # noqa: TRY301 - one message for every unreadable file
        box = AESGCM(_stretch(passphrase, stored["kdf"]))
        nonce = bytes.fromhex(stored["nonce"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InvalidInputError("keystore", f"{path.name} cannot be read", f"a {_TYPE} file, version 1") from e
    try:
        return Keystore(box.decrypt(nonce, sealed, _bound(stored)))
    except InvalidTag as e:
        raise WrongPassphraseError(path) from e


def _stretch(passphrase: str, kdf: Any) -> bytes:  # noqa: ANN401 - JSON
    salt = bytes.fromhex(str(kdf["salt"]))
    return Scrypt(salt=salt, length=32, n=int(kdf["n"]), r=int(kdf["r"]), p=int(kdf["p"])).derive(passphrase.encode())


def _bound(header: Any) -> bytes:  # noqa: ANN401 - JSON
    # the header is authenticated with the secret: weaker parameters cannot be slipped in
    return json.dumps(header, sort_keys=True).encode()


class FileLedger:
    """An oracle's ledger of first outcomes, a file of JSON lines: written and synced before anything is signed.

    Processes may share it: each claim holds the file's lock. Satisfies ``oracle.attestation.AttestationLedger``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def claim(self, *, oracle_key: bytes, event: Hash32, outcome: int) -> int:
        """Record the outcome unless one stands there; return the one that stands there now."""
        with self._locked() as file:
            # a torn last line is a claim that never returned: nothing was signed on it, and it is cut off
            whole = file.read()
            good = whole[: whole.rfind(b"\n") + 1]
            if len(good) != len(whole):
                file.truncate(len(good))
            wanted = [oracle_key.hex(), event.hex()]
            for line in good.splitlines():
                row = json.loads(line)
                if row[:2] == wanted:
                    return int(row[2])
            file.seek(0, os.SEEK_END)
            file.write(json.dumps([*wanted, outcome]).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            return outcome

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
