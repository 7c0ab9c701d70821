"""The service's own key at the market: it signs and opens letters by it, and parties pin its public half.

32 random bytes in a private file; two keys are made of them. The public half lies beside it in ``desk.json``, which is
all that the API reads: only the process that carries letters opens the secret.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from btcfi import secp256k1
from btcfi.adapters.files import KeystoreExistsError, read_untrusted, read_untrusted_json, write_private, write_public
from btcfi.adapters.sealed_letters import box_key
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.market.account import XONLY
from btcfi.records import hexadecimal, record

PUBLIC_NAME: Final = "desk.json"
"""Of the public half, in the secret's folder."""

HINT: Final = "`btcfi up` and `btcfi prepare` make one; put a lost one back from your backup"

_SIZE: Final = 32
_REQUEST_TAG: Final = "BTCFi/desk/request/v1"
_BOX_TAG: Final = "BTCFi/desk/letters/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskPublic:
    """What parties know of the service."""

    desk_key: bytes
    """x-only: letters of the service are signed by it."""
    box_key: bytes
    """X25519: letters to the service are sealed to it."""


@dataclass(frozen=True, slots=True)
class DeskKey:
    """The service's key; its repr shows nothing of it."""

    secret: bytes = field(repr=False)
    """32 bytes."""

    @property
    def request_secret(self) -> bytes:
        """Signs the service's letters (BIP340)."""
        return tagged_hash(_REQUEST_TAG, self.secret)

    @property
    def box_secret(self) -> bytes:
        """Opens letters to the service (X25519)."""
        return tagged_hash(_BOX_TAG, self.secret)

    @property
    def public(self) -> DeskPublic:
        """What parties know."""
        return DeskPublic(
            desk_key=secp256k1.public_key_xonly(self.request_secret), box_key=box_key(self.box_secret)
        )  # fmt: skip


def make_desk_key(path: Path) -> DeskKey:
    """Return the key of a file, made where there is none, with its public half beside it.

    Raises InvalidInputError for a file that is none.
    """
    with suppress(KeystoreExistsError):  # it stays what parties have pinned
        write_private(path, secrets.token_bytes(_SIZE), fresh=True)
    key = load_desk_key(path)
    public = json.dumps(encode_desk(key.public)).encode()
    if not (beside := public_path(path)).exists() or beside.read_bytes() != public:
        write_public(beside, public)
    return key


def load_desk_key(path: Path) -> DeskKey:
    """Return the key of a file. Raises NotFoundError, InvalidInputError."""
    raw = read_untrusted(path, at_most=_SIZE, what="desk key", hint=HINT, named=True)
    if len(raw) != _SIZE:
        raise InvalidInputError(str(path), f"{len(raw)} bytes", f"{_SIZE}")
    return DeskKey(raw)


def load_desk(path: Path) -> DeskPublic:
    """Return the public half beside a key's file. Raises NotFoundError, InvalidInputError naming the field."""
    return _DESK.read(read_untrusted_json(public_path(path), at_most=1 << 12, what="desk", named=True), "desk")


def public_path(path: Path) -> Path:
    """Return where the public half of a key's file lies."""
    return path.with_name(PUBLIC_NAME)


def encode_desk(desk: DeskPublic) -> dict[str, str]:
    """Return the public half as JSON."""
    return {"desk_key": desk.desk_key.hex(), "box_key": desk.box_key.hex()}


_DESK: Final = record(DeskPublic, desk_key=XONLY, box_key=hexadecimal(32))
