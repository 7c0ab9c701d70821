"""What happens to an account, as it happens: takes, options and settlements of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from btcfi.adapters.store.market import views
from btcfi.adapters.store.spine import views as spine_views
from btcfi.errors import NotFoundError
from btcfi.surfaces.rest.auth import ROLE, Owner
from btcfi.surfaces.rest.deps import ACCOUNT, Deps
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.streams import STREAMED, Count, Item, LastEventId, Streams

LOOKED_AT: Final = 500
"""Edges of everybody's that are looked through at a time; so many are looked at again the next time, for PostgreSQL
commits out of the order of numbers: what comes late is said late, and not left out."""


def router(deps: Deps, places: Streams) -> APIRouter:
    """Return the endpoint, without a prefix."""
    routes = APIRouter(tags=["market"])

    @routes.get(
        "/me/events", response_class=StreamingResponse,
        responses=STREAMED | documented(401, 403, 404, 422, 429, 503), openapi_extra={ROLE: ACCOUNT},
    )  # fmt: skip
    async def stream_my_events(
        caller: Owner, request: Request, last_event_id: LastEventId = None, count: Count = None
    ) -> StreamingResponse:
        """Stream every edge that a take, an option or a settlement of the account crosses, from now on."""
        if caller.account is None:
            raise NotFoundError("account", "of the caller", "this caller acts for none")
        account = caller.account

        def newest() -> int:
            with deps.store.reading() as session:
                return spine_views.newest_event_id(session)

        start = last_event_id or str(await run_in_threadpool(newest))
        looked = begun = highest = int(start)
        sent: set[int] = set()

        def after(_last: str) -> Sequence[Item]:
            nonlocal looked, highest, sent
            at = since = max(begun, looked - LOOKED_AT)
            with deps.store.reading() as session:
                while True:
                    found, reached = views.edges_of(session, account, after=at, limit=LOOKED_AT)
                    looked = max(looked, reached)
                    if new := [one for one in found if one.event.id not in sent]:
                        ids = [one.event.id or 0 for one in new]
                        sent = {known for known in sent if known > since} | set(ids)
                        upto = list(accumulate(ids, max, initial=highest))[1:]
                        highest = upto[-1]
                        return [_item(one, account, last=last) for one, last in zip(new, upto, strict=True)]
                    if reached == at:
                        return []
                    at = reached  # nothing of these is this account's, or new to it: what comes after them may be

        return places.stream(request, caller, after, start, count)

    return routes


def _item(edge: views.AccountEdge, account: str, *, last: int) -> Item:
    """Return an edge as it is sent. last: the highest number of those sent until then: after it the stream resumes."""
    event, settled = edge.event, edge.settlement or edge.close
    said = shapes.AccountEvent(
        id=event.id or 0, entity=shapes.Eventful(event.entity), entity_id=event.entity_id, option_id=edge.option.id,
        role="holder" if edge.option.holder == account else "writer", from_state=event.from_state,
        to_state=event.to_state, at_unix=event.at_unix, paid_sats=None if settled is None else settled.paid_sats,
        returned_sats=None if settled is None else settled.returned_sats,
    )  # fmt: skip
    return (str(last), event.entity, said.model_dump_json())
