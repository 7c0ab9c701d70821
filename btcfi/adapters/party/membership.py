"""The desk that a party has joined: whose letters and deals count, sealed so that the folder's writer cannot change it.

It lies beside ``owner.sealed`` and under the same cipher: whoever can write into the folder, but has no passphrase, can
put no other desk there.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from btcfi import secp256k1
from btcfi.adapters.files import read_untrusted, write_private
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.sealed_letters import box_key
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.market.account import (
    BOX_KEY,
    Registration,
    SignedRegistration,
    decode_signed_registration,
    encode_signed_registration,
)
from btcfi.records import TEXT, Rule, record

FILE: Final = "desk.sealed"
_PURPOSE: Final = b"BTCFi/party/desk/v1"
_NONCE: Final = 12
_MAX_BYTES: Final = 1 << 16

JOIN: Final = "`btcfi party join URL --name NAME` joins one"


class OtherDeskJoinedError(ConflictError):
    """The folder has joined another desk, with which its contracts are."""

    def __init__(self, url: str, desk: bytes) -> None:
        super().__init__(
            f"this folder has joined the desk {desk.hex()[:16]} at {url}, and answers no other; use another folder"
        )
        self.url, self.desk = url, desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A desk, and as whom we have joined it."""

    url: str
    network: str
    """Of the desk's contracts."""
    desk_box: bytes
    """X25519: letters to the desk are sealed to it."""
    registered: SignedRegistration

    @property
    def registration(self) -> Registration:
        """What the identity has signed."""
        return self.registered.registration

    @property
    def desk(self) -> bytes:
        """x-only key of the desk."""
        return self.registration.desk

    @property
    def identity(self) -> bytes:
        """x-only: our account."""
        return self.registration.identity

    def is_of(self, keystore: Keystore) -> bool:
        """Return whether the registration vouches for this keystore's keys."""
        keys = (secp256k1.public_key_xonly(keystore.request_secret()), box_key(keystore.letters_secret()))
        return keys == (self.registration.request_key, self.registration.box_key)


def joined(folder: Path, keystore: Keystore) -> Membership | None:
    """Return the desk that a party's folder has joined, None before. Raises InvalidInputError for another's file."""
    path = folder / FILE
    try:
        raw = read_untrusted(path, at_most=_MAX_BYTES, what="joined desk")
    except NotFoundError:
        return None
    try:
        said = json.loads(keystore.box().decrypt(raw[:_NONCE], raw[_NONCE:], _PURPOSE))
    except (InvalidTag, ValueError) as e:
        expected = "the file that `btcfi party join` wrote under this keystore"
        raise InvalidInputError(path.name, "was changed, or is another keystore's", expected) from e
    return _MEMBERSHIP.read(said, FILE)


def require_joined(folder: Path, keystore: Keystore) -> Membership:
    """Return the desk that a folder has joined. Raises NotFoundError with the next step, InvalidInputError."""
    if (member := joined(folder, keystore)) is None:
        raise NotFoundError("joined desk in", str(folder), JOIN)
    return member


def keep(folder: Path, keystore: Keystore, member: Membership) -> None:
    """Pin a desk."""
    said: dict[str, Any] = {
        "url": member.url,
        "network": member.network,
        "desk_box": member.desk_box.hex(),
        "registered": encode_signed_registration(member.registered),
    }
    random = secrets.token_bytes(_NONCE)
    write_private(folder / FILE, random + keystore.box().encrypt(random, json.dumps(said).encode(), _PURPOSE))


def forget(folder: Path) -> None:
    """Let a desk go that has refused us at once."""
    (folder / FILE).unlink(missing_ok=True)


_MEMBERSHIP: Final = record(
    Membership, exact=True, url=TEXT, network=TEXT, desk_box=BOX_KEY,
    registered=Rule(decode_signed_registration, "a signed registration"),
)  # fmt: skip
