"""What an oracle asks of an aggregator: the signed submissions of minutes, exactly as they were signed.

Read-only. The raw responses behind them are blobs by their hash; ``btcfi prices evidence`` has them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from btcfi.adapters.store.prices import served
from btcfi.adapters.store.prices.served import ServedMinute
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import Feed
from btcfi.oracle.submission_json import encode_signed
from btcfi.surfaces.rest import schemas
from btcfi.surfaces.rest.auth import ROLE, Reader
from btcfi.surfaces.rest.deps import READ, Deps
from btcfi.surfaces.rest.problems import documented
from btcfi.units import SECONDS_PER_MINUTE

MOST_MINUTES = 60
"""Of one page: an hour."""


class MinuteFilter(schemas.Request):
    """Which minutes."""

    start: schemas.UnixTime | None = Field(
        default=None, description="The first minute's opening second; without it, the newest minutes."
    )  # fmt: skip
    minutes: int = Field(default=MOST_MINUTES, ge=1, le=MOST_MINUTES)


def add_minutes(routes: APIRouter, deps: Deps) -> None:
    """Add the endpoints."""

    @routes.get(
        "/rounds/submissions", tags=["prices"], responses=documented(401, 403, 422, 429, 503),
        openapi_extra={ROLE: READ},
    )  # fmt: skip
    def page(_caller: Reader, query: Annotated[MinuteFilter, Query()]) -> schemas.SubmissionsPage:
        """Return what oracle nodes signed of some minutes, with where each minute's round stands."""
        return page_of(deps.store, Feed(deps.feed), start=query.start, minutes=query.minutes)

    @routes.get(
        "/rounds/{slot}/submissions", tags=["prices"], responses=documented(401, 403, 422, 429, 503),
        openapi_extra={ROLE: READ},
    )  # fmt: skip
    def one(_caller: Reader, slot: schemas.UnixTime) -> schemas.MinuteSubmissions:
        """Return what oracle nodes signed of one minute: each message with its signature, ready to be checked."""
        _check_slot(slot)
        with deps.store.reading() as session:
            (found,) = served.served_minutes(session, Feed(deps.feed), [slot])
        return _minute(found)


def page_of(store: Store, feed: Feed, *, start: int | None, minutes: int) -> schemas.SubmissionsPage:
    """Return the minutes of a page. Raises InvalidInputError for a start that is no minute."""
    if start is not None:
        _check_slot(start)
    with store.reading() as session:
        newest = served.newest_round(session, feed)
        found = served.page_of(session, feed, start=start, minutes=minutes)
    return schemas.SubmissionsPage(feed=feed, newest_slot=newest, minutes=[_minute(one) for one in found])


def _check_slot(at: int) -> None:
    if at % SECONDS_PER_MINUTE:
        raise InvalidInputError("slot", str(at), "a minute's opening second")


def _minute(found: ServedMinute) -> schemas.MinuteSubmissions:
    from btcfi.surfaces.grpc.messages import read_submission  # noqa: PLC0415 - protobuf: only who serves minutes
    from btcfi.surfaces.protos import oracle_pb2 as pb  # noqa: PLC0415 - as above

    signed = []
    for message in found.messages:
        try:
            signed.append(encode_signed(read_submission(pb.PriceSubmission.FromString(message))))
        except InvalidInputError:
            continue  # an earlier release's, which none of today's would accept: it counts for nobody
    return schemas.MinuteSubmissions.model_validate(
        {"slot": found.slot, "state": found.state, "submissions": signed, "report": found.report}
    )
