"""API keys at every door: what the text of a key is, and what a stored key lets its holder do."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from btcfi.adapters.store.access.api_tables import ApiKeyRow
from btcfi.surfaces.rest.deps import SIGNED
from btcfi.surfaces.rest.errors import RoleMissingError, UnauthenticatedError
from btcfi.units import UnixSeconds

SIGNED_HEADER: Final = "Authorization: BTCFi-Signature account=IDENTITY,at=UNIX,signature=HEX of a registered account"
"""What is expected where an account's own signature is."""

KEY: Final = re.compile(r"btcfi_([0-9a-f]{16})_([0-9a-f]{64})")
"""The text of a key: its public id and 256 random bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyText:
    """A key as a caller shows it."""

    id: str
    secret_sha256: str = field(repr=False)


def read_key(text: str) -> KeyText:
    """Return the key of a text. Raises UnauthenticatedError."""
    parts = KEY.fullmatch(text)
    if parts is None:
        raise UnauthenticatedError("the API key is malformed")
    return KeyText(id=parts[1], secret_sha256=sha256(parts[2].encode()).hexdigest())


def holds_secret(shown: KeyText, row: ApiKeyRow | None, *, now: UnixSeconds) -> bool:
    """Return whether a key is the stored one and has not ended. row: the stored key of its id."""
    if row is None or not hmac.compare_digest(shown.secret_sha256, row.secret_sha256):
        return False
    return row.revoked_at_unix is None and (row.expires_at_unix is None or row.expires_at_unix > now)


def roles_of(shown: KeyText, row: ApiKeyRow | None, *, now: UnixSeconds) -> frozenset[str]:
    """Return what the holder of a key may do. row: the stored key of its id. Raises UnauthenticatedError."""
    if row is None or not hmac.compare_digest(shown.secret_sha256, row.secret_sha256):
        raise UnauthenticatedError("the API key is not valid")
    if not holds_secret(shown, row, now=now):
        raise UnauthenticatedError("the API key is not valid any more")
    return frozenset(row.roles.split())


def raise_without(role: str, held: frozenset[str], *, anonymous: bool) -> None:
    """Raise UnauthenticatedError for a caller with neither key nor ``role``, RoleMissingError for one with a key.

    No key is a signature: who needs one is told so, with a key or without.
    """
    if role not in held and role == SIGNED:
        raise UnauthenticatedError("this needs a request that an account has signed", SIGNED_HEADER)
    if role not in held and anonymous:
        raise UnauthenticatedError(f"this needs a key with the role {role}, and none came")
    if role not in held:
        raise RoleMissingError(needed=role, held=tuple(sorted(held)))
