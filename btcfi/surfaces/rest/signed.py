"""Signed requests: what an account's process sends instead of a key, and how it is checked.

The header is ``Authorization: BTCFi-Signature account=IDENTITY,at=UNIX,signature=HEX``; what is signed, and by which
key, says ``btcfi.market.account``.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from btcfi import secp256k1
from btcfi.market.account import WrongSignatureError, check_time, request_digest
from btcfi.surfaces.api_keys import SIGNED_HEADER
from btcfi.surfaces.rest.errors import UnauthenticatedError
from btcfi.units import UnixSeconds

SCHEME: Final = "btcfi-signature"
"""As it is compared: schemes know no case."""

_SHOWN: Final = re.compile(
    r"(?i:btcfi-signature) account=([0-9a-f]{64}),at=([1-9][0-9]{0,9}),signature=([0-9a-f]{128})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A signature as a caller shows it."""

    account: str
    """Identity, hex."""
    at: UnixSeconds
    signature: bytes = field(repr=False)


def read_signature(header: str, *, now: UnixSeconds) -> Shown:
    """Return what a header shows. Raises UnauthenticatedError for another form, and for another time than ``now``."""
    parts = _SHOWN.fullmatch(header)
    if parts is None:
        raise UnauthenticatedError("the signature is malformed", SIGNED_HEADER)
    at = UnixSeconds(int(parts[2]))
    try:
        check_time("request", at, now)
    except WrongSignatureError as e:
        raise UnauthenticatedError(f"{e}", SIGNED_HEADER) from e
    return Shown(account=parts[1], at=at, signature=bytes.fromhex(parts[3]))


def target(scope: MutableMapping[str, Any]) -> str:
    """Return path and query as they were sent."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string", b"")
    return (path + (b"?" + query if query else b"")).decode("latin-1")


def holds(
    shown: Shown, request_key: str, *, desk: bytes, method: str, at: MutableMapping[str, Any], body: bytes
) -> bool:
    """Return whether ``request_key``, hex, has signed this request. at: its scope."""
    account = bytes.fromhex(shown.account)
    digest = request_digest(desk=desk, account=account, method=method, target=target(at), body=body, at=shown.at)
    return secp256k1.schnorr_verify(bytes.fromhex(request_key), digest, shown.signature)
