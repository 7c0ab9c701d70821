"""Forms that pages take: read within bounds, and only from a page of the same site and session."""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from btcfi.errors import InvalidInputError
from dashboards.shared.errors import ForgedFormError

MAX_FIELDS: Final = 500
"""Of one form: a selection of options and a few fields beside."""


def fields_of(request: Request) -> list[tuple[str, str]]:
    """Return the pairs of the body that the shell has read. Raises what the shell refused, and InvalidInputError."""
    refused = getattr(request.state, "refused", None)
    if refused is not None:
        raise refused
    body: bytes = getattr(request.state, "body", b"")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as e:
        raise InvalidInputError("form", "cannot be read", f"at most {MAX_FIELDS} fields in UTF-8") from e
    if any("\x00" in value for _, value in pairs):
        raise InvalidInputError("form", "holds a null character", "text")
    return pairs


def raise_if_forged(request: Request, token: str, expected: str) -> None:
    """Refuse a form that another site's page sends, or that has not its page's token. Raises ForgedFormError."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise ForgedFormError(f"the form comes from {origin[:80]!r}")
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise ForgedFormError("the form comes from another site")
    if not hmac.compare_digest(token.encode(), expected.encode()):
        raise ForgedFormError("the form's token is missing or wrong")
