"""A POST that is repeated with its Idempotency-Key is answered again, not done again."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Header, Response
from pydantic import BaseModel

from btcfi.adapters.store.access import idempotency as answers
from btcfi.surfaces.rest.auth import Caller
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.errors import IdempotencyKeyError, IdempotencyMismatchError, RequestUnderWayError
from btcfi.units import UnixSeconds

MAX_KEY: Final = 128

ABANDONED_SECONDS: Final = 60
"""An answer that has been under way this long died with its process; the order's id makes doing it again harmless."""

KEPT_SECONDS: Final = 24 * 3_600

REPLAYED: Final = "Idempotent-Replayed"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Any text of the caller's, new for every order: a repetition with the same key and body gets the "
        "first answer again, for a day.",
        min_length=1,
        max_length=MAX_KEY,
        pattern=r"^[!-~]+$",
    ),
]


def order_id(caller: Caller, key: str) -> str:
    """Return the id of the order that ``caller`` names ``key``: the same on every attempt."""
    return sha256(f"BTCFi/order\n{caller.id}\n{key}".encode()).hexdigest()[:32]


def once(
    deps: Deps, caller: Caller, key: str | None, *, request: str, status: int, response: Response,
    work: Callable[[], BaseModel],
) -> Response | BaseModel:  # fmt: skip
    """Return the result of ``work``, or, when this ``request`` was answered under ``key`` before, that answer.

    request: method, path and body as one text. status: of a success. Failures are not kept: they may be tried again.
    Raises IdempotencyKeyError, IdempotencyMismatchError, RequestUnderWayError, and whatever ``work`` raises.
    """
    response.status_code = status
    if key is None:
        return work()
    if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise IdempotencyKeyError(len(key))
    fingerprint = sha256(request.encode()).hexdigest()
    kept = _begin(deps, caller, key, fingerprint)
    if kept is not None:
        return Response(
            content=kept, status_code=status, media_type="application/json", headers={REPLAYED: "true"}
        )  # fmt: skip
    try:
        result = work()
    except BaseException:
        _forget(deps, caller, key)
        raise
    _finish(deps, caller, key, status, result.model_dump_json().encode())
    return result


def _begin(deps: Deps, caller: Caller, key: str, fingerprint: str) -> bytes | None:
    """Take the key, or return the answer that it already has."""
    now = deps.clock()
    with deps.store.transaction() as session:
        answers.forget(session, before=UnixSeconds(now - KEPT_SECONDS))
        row = answers.take(session, caller.id, key, fingerprint, now=now)
        if row is None:
            return None
        if row.fingerprint != fingerprint:
            raise IdempotencyMismatchError(key)
        if row.body is not None:
            return bytes(row.body)
        if row.created_at_unix > now - ABANDONED_SECONDS:
            raise RequestUnderWayError(key)
        row.created_at_unix = now
        return None


def _finish(deps: Deps, caller: Caller, key: str, status: int, body: bytes) -> None:
    with deps.store.transaction() as session:
        answers.finish(session, caller.id, key, status=status, body=body)


def _forget(deps: Deps, caller: Caller, key: str) -> None:
    with deps.store.transaction() as session:
        answers.give_back(session, caller.id, key)
