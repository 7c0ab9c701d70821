"""What an oracle asks of an aggregator: the signed submissions of minutes, exactly as they were signed.

Read-only. The raw responses behind them are blobs by their hash; ``btcfi prices export`` has them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from btcfi.oracle.quote import Feed
from btcfi.surfaces.rest import schemas
from btcfi.surfaces.rest.auth import ROLE, Reader
from btcfi.surfaces.rest.deps import READ, Deps
from btcfi.surfaces.rest.problems import documented

MOST_MINUTES = 60
"""Of one page: an hour, as ``btcfi.surfaces.minutes`` has it."""

REFUSALS = documented(401, 403, 422, 429, 503)


class MinuteFilter(schemas.Request):
    """Which minutes."""

    start: schemas.When | None = Field(
        default=None,
        description="The first minute's opening second, since 1970 or in ISO 8601 with a zone; without it, the newest.",
    )
    minutes: int = Field(default=MOST_MINUTES, ge=1, le=MOST_MINUTES)
    """How many."""


def add_minutes(routes: APIRouter, deps: Deps) -> None:
    """Add the endpoints."""

    @routes.get("/rounds/submissions", tags=["prices"], responses=REFUSALS, openapi_extra={ROLE: READ})
    def page(_caller: Reader, query: Annotated[MinuteFilter, Query()]) -> schemas.SubmissionsPage:
        """Return what oracle nodes signed of some minutes, with where each minute's round stands."""
        from btcfi.surfaces import minutes  # noqa: PLC0415 - protobuf: only who serves minutes

        found = minutes.page_of(deps.store, Feed(deps.feed), start=query.start, minutes=query.minutes)
        return schemas.SubmissionsPage.model_validate(found)

    @routes.get("/rounds/{slot}/submissions", tags=["prices"], responses=REFUSALS, openapi_extra={ROLE: READ})
    def one(_caller: Reader, slot: schemas.UnixTime) -> schemas.MinuteSubmissions:
        """Return what oracle nodes signed of one minute: each message with its signature, ready to be checked."""
        from btcfi.surfaces import minutes  # noqa: PLC0415 - as above

        return schemas.MinuteSubmissions.model_validate(minutes.minute_of(deps.store, Feed(deps.feed), slot))
