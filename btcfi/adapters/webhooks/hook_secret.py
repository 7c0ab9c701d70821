"""A webhook's secret: made and shown once by whoever serves the API, which keeps only what the desk's key opens."""

from __future__ import annotations

from typing import Final

from btcfi.adapters.sealed_letters import seal, unseal
from btcfi.market.webhook import SECRET_BYTES, encode_secret

ENTROPY: Final = SECRET_BYTES + 8
"""Random bytes that a hook is made of: its id's and its secret's."""

_ABOUT: Final = b"BTCFi/webhook/v1"


def make(entropy: bytes, *, box_key: bytes) -> tuple[str, str, bytes]:
    """Return a new hook's id, its secret as its owner is shown it, and the secret sealed to the desk's box key."""
    hook_id, secret = entropy[:8].hex(), entropy[8:]
    return hook_id, encode_secret(secret), seal(secret, to=box_key, about=_about(hook_id))


def opened(hook_id: str, sealed: bytes, box_secret: bytes) -> bytes:
    """Return a hook's secret. Raises SealedToAnotherError."""
    return unseal(sealed, secret=box_secret, about=_about(hook_id))


def _about(hook_id: str) -> bytes:
    return _ABOUT + hook_id.encode()
