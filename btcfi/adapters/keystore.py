"""Secrets on disk: an encrypted seed, and the ledger of attested outcomes.

The seed lies in a JSON file of mode 0600, encrypted by AES-256-GCM under a key that scrypt makes of a passphrase.
Nothing here prints, logs or returns a secret except to the caller that asked for it by name.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from btcfi.adapters.files import (
    UntrustedFileError,
    make_private,
    open_private,
    read_untrusted,
    sync_directory,
    write_private,
)
from btcfi.bitcoin.keys import HARDENED, TaprootKey, master_key, wallet_key
from btcfi.documents import parse_json
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.records import BASE64, Rule, hexadecimal, record, whole
from btcfi.units import Hash32

SCRYPT_N: Final = 1 << 17
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
"""128 MiB and about half a second a guess. Source: RFC 7914; the least of OWASP's password storage cheat sheet."""

LEAST_N: Final = 1 << 15
"""Of a file that is opened: what releases before wrote, and what tests write, since their passphrases guard nothing."""

_MOST_N: Final = 1 << 20
_MOST_R: Final = 32
_MOST_P: Final = 4
_MOST_BYTES: Final = 1 << 29
"""512 MiB, four times ours: a file that asks for more memory, or for more rounds, would only hold us up."""

_SALT_SIZE: Final = 16
_NONCE_SIZE: Final = 12
"""Bytes; of AES-GCM's nonce. Source: NIST SP 800-38D, section 8.2."""

_TAG_SIZE: Final = 16
_LEAST_SEED, _MOST_SEED = 16, 64
"""Bytes. Source: BIP32."""

MIN_PASSPHRASE: Final = 8

MAX_KEYSTORE_BYTES: Final = 1 << 16
"""Of a keystore, which has a few hundred."""

_VERSION: Final = 1
_TYPE: Final = "btcfi/keystore"
_CONTRACT_PURPOSE: Final = 2137
_IDENTITY_PURPOSE: Final = 2138
_REQUEST_PURPOSE: Final = 2139
"""Hardened first levels of contract keys, of an owner's identity and of the key that signs requests: apart from every
BIP43 purpose in use."""


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

    def identity_secret(self) -> bytes:
        """Return the secret by which an owner signs mandates: m/2138'."""
        return master_key(self._seed).child(_IDENTITY_PURPOSE + HARDENED).secret

    def request_secret(self) -> bytes:
        """Return the secret by which the running party signs requests, offers, takes and letters: m/2139'."""
        return master_key(self._seed).child(_REQUEST_PURPOSE + HARDENED).secret

    def letters_secret(self) -> bytes:
        """Return the X25519 secret that opens letters to this party."""
        return tagged_hash("BTCFi/keystore/letters/v1", self._seed)

    def box(self) -> AESGCM:
        """Return the cipher for small secrets of this keystore's owner."""
        return AESGCM(tagged_hash("BTCFi/keystore/box/v1", self._seed))

    def stream(self) -> AESGCM:
        """Return the cipher for one stream of this keystore, whose nonces are counted (``adapters.sealed``).

        It has a key of its own: what the box sealed is no block of a stream, and no block is anything of the box.
        """
        return AESGCM(tagged_hash("BTCFi/keystore/stream/v1", self._seed))

    def label(self, about: bytes) -> Hash32:
        """Return a name for something of this keystore's: it says nothing to others, and no other keystore has it."""
        return tagged_hash("BTCFi/keystore/label/v1", self._seed + about)


# ---- the file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kdf:
    """How a passphrase becomes a key: scrypt's parameters, bounded before any of its memory is taken."""

    name: str
    n: int
    """Cost, a power of two."""
    r: int
    """Block size; 128 * n * r bytes are taken."""
    p: int
    """How often that work is done."""
    salt: bytes

    def __post_init__(self) -> None:
        """Raise InvalidInputError for more memory than a keystore may ask for."""
        if (wanted := 128 * self.n * self.r) > _MOST_BYTES:
            raise InvalidInputError("memory", f"128 * n * r is {wanted:,} bytes", f"at most {_MOST_BYTES:,} bytes")

    def stretch(self, passphrase: str) -> bytes:
        """Return the 32-byte key of a passphrase."""
        return Scrypt(salt=self.salt, length=32, n=self.n, r=self.r, p=self.p).derive(passphrase.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A keystore as it lies on the disk; all but the ciphertext is authenticated with the secret."""

    type: str
    version: int
    kdf: _Kdf
    nonce: bytes
    ciphertext: bytes


def _exactly(wanted: str | int) -> Rule[Any]:
    def parse(value: object) -> object:
        if type(value) is not type(wanted) or value != wanted:
            raise ValueError
        return value

    return Rule(parse, repr(wanted))


def _cost(value: object) -> int:
    n = whole(LEAST_N, _MOST_N).parse(value)
    if n & (n - 1):
        raise InvalidInputError("n", f"{n} is no power of two", "a power of two")
    return n


def _sealed_seed(value: str) -> bytes:
    raw = BASE64.parse(value)
    if not _LEAST_SEED + _TAG_SIZE <= len(raw) <= _MOST_SEED + _TAG_SIZE:
        raise InvalidInputError("ciphertext", f"{len(raw)} bytes", "a seed of 16 to 64 bytes and a tag of 16")
    return raw


_COST: Final = Rule(_cost, f"a power of two from {LEAST_N} to {_MOST_N}")
_KDF: Final = record(
    _Kdf, exact=True, name=_exactly("scrypt"), n=_COST, r=whole(SCRYPT_R, _MOST_R), p=whole(SCRYPT_P, _MOST_P),
    salt=hexadecimal(_SALT_SIZE),
)  # fmt: skip
_FILE: Final = record(
    _File, exact=True, type=_exactly(_TYPE), version=_exactly(_VERSION), kdf=_KDF, nonce=hexadecimal(_NONCE_SIZE),
    ciphertext=Rule(_sealed_seed, "a sealed seed, base64"),
)  # fmt: skip


def create_keystore(path: Path, passphrase: str, seed: bytes | None = None, *, cost: int | None = None) -> Keystore:
    """Write a new keystore, mode 0600, and return it opened; without ``seed`` it gets 32 random bytes.

    Raises KeystoreExistsError, and InvalidInputError as ``seal_keystore`` does.
    """
    document, keystore = seal_keystore(passphrase, seed, cost=cost)
    write_private(path, document, fresh=True)
    return keystore


def seal_keystore(passphrase: str, seed: bytes | None = None, *, cost: int | None = None) -> tuple[bytes, Keystore]:
    """Return a new keystore as its file's bytes, and opened; without ``seed`` it gets 32 random bytes.

    cost: scrypt's n, SCRYPT_N unless a test wants it cheap. Raises InvalidInputError for a passphrase below 8
    characters, a seed that is not of 16 to 64 bytes, or a cost that no keystore may have.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise InvalidInputError("passphrase", f"{len(passphrase)} characters", f"at least {MIN_PASSPHRASE}")
    secret = secrets.token_bytes(32) if seed is None else seed
    if not _LEAST_SEED <= len(secret) <= _MOST_SEED:
        raise InvalidInputError("seed", f"{len(secret)} bytes", f"{_LEAST_SEED} to {_MOST_SEED} bytes")
    n, salt = _COST.read(SCRYPT_N if cost is None else cost, "cost"), secrets.token_bytes(_SALT_SIZE)
    kdf, nonce = _Kdf(name="scrypt", n=n, r=SCRYPT_R, p=SCRYPT_P, salt=salt), secrets.token_bytes(_NONCE_SIZE)
    header = {
        "type": _TYPE,
        "version": _VERSION,
        "kdf": {"name": kdf.name, "n": kdf.n, "r": kdf.r, "p": kdf.p, "salt": salt.hex()},
        "nonce": nonce.hex(),
    }
    sealed = AESGCM(kdf.stretch(passphrase)).encrypt(nonce, secret, _bound(header))
    return json.dumps(header | {"ciphertext": b64encode(sealed).decode()}, indent=1).encode(), Keystore(secret)


def open_keystore(path: Path, passphrase: str) -> Keystore:
    """Return the keystore of a file.

    Raises NotFoundError; InvalidInputError naming the field that no keystore has, before anything is computed of it;
    WrongPassphraseError for another passphrase, and for a field that was changed to what another keystore may have.
    """
    hint = "create it with `btcfi party init`"
    raw = read_untrusted(path, at_most=MAX_KEYSTORE_BYTES, what="keystore", hint=hint, named=True)
    try:
        stored = parse_json(raw, "keystore")
    except InvalidInputError as e:
        raise UntrustedFileError(path, e.problem, e.expected) from e
    return _opened(stored, passphrase, path, path.name)


def unseal_keystore(document: bytes, passphrase: str, *, inside: Path) -> Keystore:
    """Return the keystore whose file's bytes these are, found ``inside`` another file. Raises as ``open_keystore``."""
    return _opened(parse_json(document, "keystore"), passphrase, inside, "keystore.json")


def _opened(stored: Any, passphrase: str, path: Path, name: str) -> Keystore:  # noqa: ANN401 - JSON
    found = _FILE.read(stored, name)
    header = {field: value for field, value in stored.items() if field != "ciphertext"}
    try:
        box = AESGCM(found.kdf.stretch(passphrase))
        return Keystore(box.decrypt(found.nonce, found.ciphertext, _bound(header)))
    except InvalidTag as e:
        raise WrongPassphraseError(path) from e


def _bound(header: dict[str, Any]) -> bytes:
    # the header is authenticated with the secret: weaker parameters cannot be slipped in
    return json.dumps(header, sort_keys=True).encode()


class FileLedger:
    """An oracle's ledger of first outcomes, a file of JSON lines: written and synced before anything is signed.

    Processes may share it: each claim holds the file's lock. What was read is remembered, and only what was added
    since is read again; another file in its place, or a shorter one, is read anew. Satisfies
    ``oracle.attestation.AttestationLedger``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[tuple[str, str], int] = {}
        self._end, self._of = 0, (0, 0)
        self._lock = threading.Lock()

    def claim(self, *, oracle_key: bytes, event: Hash32, outcome: int) -> int:
        """Record the outcome unless one stands there; return the one that stands there now."""
        with self._lock, self._locked() as file:
            self._catch_up(file)
            wanted = (oracle_key.hex(), event.hex())
            if (known := self._read.get(wanted)) is not None:
                return known
            # a torn last line is a claim that never returned: nothing was signed on it, and it is cut off
            file.truncate(self._end)
            file.seek(self._end)
            file.write(json.dumps([*wanted, outcome]).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if not self._end:
                sync_directory(self._path.parent)
            return outcome  # it is read with the next look, as every other line

    def known(self, *, oracle_key: bytes, event: Hash32) -> int | None:
        """Return the outcome that stands there, None of an event that was never claimed."""
        if not self._path.exists():
            return None
        with self._lock, self._locked() as file:
            self._catch_up(file)
            return self._read.get((oracle_key.hex(), event.hex()))

    def _catch_up(self, file: IO[bytes]) -> None:
        """Read what was added since the last look. Raises InvalidInputError naming the line that is none."""
        found = os.fstat(file.fileno())
        if self._of != (found.st_dev, found.st_ino) or found.st_size < self._end:
            self._read, self._end, self._of = {}, 0, (found.st_dev, found.st_ino)
        file.seek(self._end)
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                key, event, outcome = json.loads(line)
                self._read.setdefault((str(key), str(event)), int(outcome))
            except (ValueError, TypeError) as e:
                problem = f"byte {self._end}: {line[:40]!r}"
                raise InvalidInputError(str(self._path), problem, "a ledger's line: [key, event, outcome]") from e
            self._end += len(line)

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        make_private(self._path.parent, named=True)
        with open_private(self._path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
