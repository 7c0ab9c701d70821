"""Letters between accounts and the desk: sealed, kept until they are acknowledged, waited for without a thread."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from btcfi.adapters.sealed_letters import OVERHEAD
from btcfi.adapters.store.market import letters
from btcfi.adapters.store.market.tables import LetterRow
from btcfi.errors import InvalidInputError
from btcfi.market.letter import LETTER_NAME
from btcfi.options.order import read_body
from btcfi.records import BASE64, record
from btcfi.surfaces.rest.auth import ROLE, Signer
from btcfi.surfaces.rest.deps import SIGNED, Deps
from btcfi.surfaces.rest.errors import TooManyWaitingError
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.market_desk.waiting import Bell
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.turns import Places

REFUSALS: Final = documented(401, 403, 422, 429, 503)

AT_A_TIME: Final = 8
"""Letters that one query reads: each may be of megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posted:
    name: str
    sealed: bytes


_POSTED: Final = record(_Posted, exact=True, name=LETTER_NAME, sealed=BASE64)


def add_letters(routes: APIRouter, deps: Deps, bell: Bell) -> None:
    """Add the routes. The exchange looks for letters by itself, four times a second."""
    limits = deps.limits
    places = Places(each=limits.waiting_per_account, most=limits.waiting)

    @routes.post(
        "/letters",
        status_code=202,
        responses=REFUSALS | documented(409, 413, 415),
        # read in a thread: megabytes of JSON would hold up everybody
        openapi_extra={ROLE: SIGNED, "requestBody": shapes.body_of(shapes.PostLetter)},
    )
    async def post_letter(caller: Signer, request: Request) -> shapes.LetterPosted:
        """Hand the desk a letter that is sealed to it; the first one of a name stays, and is answered again."""
        return await run_in_threadpool(_post, deps, caller.account or "", bytes(request.state.body))

    @routes.get("/letters", responses=REFUSALS, openapi_extra={ROLE: SIGNED})
    async def letters_waiting(
        caller: Signer, request: Request, query: Annotated[shapes.LetterQuery, Query()]
    ) -> shapes.Letters:
        """Return letters of the desk to the account that it has not acknowledged, oldest first; wait for one."""
        account = caller.account or ""

        def read() -> shapes.Letters:
            return _waiting(deps, account, after=query.after, limit=query.limit)

        if not query.wait:
            return await run_in_threadpool(read)
        if places.refusal(account) is not None:
            # what lies there needs no place: who fills all of them keeps no letter from anybody
            if (lies := await run_in_threadpool(read)).letters:
                return lies
            of_account = places.held(account) >= places.each
            raise TooManyWaitingError(places.each if of_account else places.most, of_account=of_account)
        ends = asyncio.get_running_loop().time() + query.wait
        with ExitStack() as held:
            held.enter_context(places.place(account))
            held.enter_context(bell.heard())
            while True:
                rung = bell.next(account)
                found = await run_in_threadpool(read)
                left = ends - asyncio.get_running_loop().time()
                if found.letters or left <= 0 or bell.closing or await request.is_disconnected():
                    return found
                await bell.wait(rung, left)

    @routes.post("/letters/acknowledge", responses=REFUSALS | documented(413, 415), openapi_extra={ROLE: SIGNED})
    def acknowledge(caller: Signer, body: shapes.Acknowledge) -> shapes.Acknowledged:
        """Note that letters are kept by their recipient: they are not sent again. Twice changes nothing."""
        with deps.store.transaction() as session:
            letters.acknowledge(session, caller.account, body.ids, now=deps.clock())
        return shapes.Acknowledged(ids=body.ids)


def _post(deps: Deps, account: str, raw: bytes) -> shapes.LetterPosted:
    posted = _POSTED.read(read_body(raw), "")
    if len(posted.sealed) <= OVERHEAD:
        raise InvalidInputError("sealed", f"{len(posted.sealed)} bytes", f"a sealed letter, above {OVERHEAD} bytes")
    with deps.store.transaction() as session:
        row = letters.post(
            session, sender=account, recipient=None, name=posted.name, sealed=posted.sealed, now=deps.clock()
        )  # fmt: skip
        return shapes.LetterPosted(name=row.name, sent_at_unix=row.sent_at_unix)


def _waiting(deps: Deps, account: str, *, after: int, limit: int) -> shapes.Letters:
    """Return letters up to a number and a size, and at least one where there is one."""
    found: list[shapes.WaitingLetter] = []
    size, cursor, more = 0, after, True
    with deps.store.reading() as session:
        while more and len(found) < limit and size < deps.limits.letters_bytes:
            wanted = min(AT_A_TIME, limit - len(found))
            rows: Sequence[LetterRow] = letters.waiting(session, account, after=cursor, limit=wanted)
            more = len(rows) == wanted
            for row in rows:
                if found and size + len(row.sealed) > deps.limits.letters_bytes:
                    return shapes.Letters(letters=found, cursor=cursor)
                found.append(_letter(row))
                size, cursor = size + len(row.sealed), row.id or 0
    return shapes.Letters(letters=found, cursor=cursor)


def _letter(row: LetterRow) -> shapes.WaitingLetter:
    return shapes.WaitingLetter(
        id=row.id or 0, name=row.name, sealed=b64encode(row.sealed).decode(), sent_at_unix=row.sent_at_unix
    )  # fmt: skip
