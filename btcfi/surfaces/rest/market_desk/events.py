"""What happens to an account, as it happens: takes, options, settlements, closes and webhooks of its own."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.events import AccountEdge, say_json
from btcfi.adapters.store.spine import views as spine_views
from btcfi.adapters.store.spine.database import Session
from btcfi.errors import NotFoundError
from btcfi.surfaces.rest.auth import ROLE, Owner
from btcfi.surfaces.rest.deps import ACCOUNT, Deps
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.streams import ROWS, STREAMED, Count, EventLog, Item, LastEventId, Streams


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
        """Stream every edge that a take, option, settlement, close or webhook of the account crosses, from now on."""
        if caller.account is None:
            raise NotFoundError("account", "of the caller", "this caller acts for none")
        account = caller.account

        def newest() -> int:
            with deps.store.reading() as session:
                return spine_views.newest_event_id(session)

        def read(session: Session, after: int, until: int) -> tuple[list[Item], int]:
            found, reached = views.edges_of(session, account, after=after, until=until, limit=ROWS)
            return [_item(one, account) for one in found], reached

        start = last_event_id or str(await run_in_threadpool(newest))
        return places.stream(request, caller, EventLog(deps.store, read), start, count)

    return routes


def _item(edge: AccountEdge, account: str) -> Item:
    return (str(edge.event.id), edge.event.entity, say_json(edge, account))
