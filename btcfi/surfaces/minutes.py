"""What an aggregator serves to oracles, as plain JSON values: by the REST API, or by a small process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from btcfi.adapters.store.prices import served
from btcfi.adapters.store.prices.served import ServedMinute
from btcfi.adapters.store.spine.database import Store
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.oracle.quote import Feed
from btcfi.oracle.submission_json import encode_signed
from btcfi.surfaces.grpc.messages import read_submission
from btcfi.surfaces.oracle_http import slot_of_text
from btcfi.surfaces.protos import oracle_pb2 as pb
from btcfi.surfaces.questions import Answer
from btcfi.units import SECONDS_PER_MINUTE

MOST_MINUTES: Final = 60
"""Of one page: an hour."""


def page_of(store: Store, feed: Feed, *, start: int | None, minutes: int) -> dict[str, Any]:
    """Return the minutes of a page, from ``start`` or the newest. Raises InvalidInputError for a start that is none."""
    if start is not None:
        _check_slot(start)
    with store.reading() as session:
        newest = served.newest_round(session, feed)
        found = served.page_of(session, feed, start=start, minutes=minutes)
    return {"feed": feed, "newest_slot": newest, "minutes": [_minute(one) for one in found]}


def minute_of(store: Store, feed: Feed, at: int) -> dict[str, Any]:
    """Return one minute. Raises InvalidInputError for a time that is no minute."""
    _check_slot(at)
    with store.reading() as session:
        (found,) = served.served_minutes(session, feed, [at])
    return _minute(found)


def answers_of(store: Store, feed: Feed) -> Answer:
    """Return what answers an oracle's questions, as the REST API does at the same paths."""

    def answer(path: str, query: Mapping[str, str]) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["api", "v1", "rounds", "submissions"]:
                start = slot_of_text(query["start"]) if "start" in query else None
                return page_of(store, feed, start=start, minutes=_many(query.get("minutes", str(MOST_MINUTES))))
            case ["api", "v1", "rounds", text, "submissions"]:
                return minute_of(store, feed, slot_of_text(text))
        raise NotFoundError("answer at", path[:80], "/api/v1/rounds/submissions")

    return answer


def _many(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MOST_MINUTES):  # noqa: PLR2004 - digits
        raise InvalidInputError("minutes", repr(text[:20]), f"1 to {MOST_MINUTES}")
    return int(text)


def _check_slot(at: int) -> None:
    if at % SECONDS_PER_MINUTE:
        raise InvalidInputError("slot", str(at), "a minute's opening second")


def _minute(found: ServedMinute) -> dict[str, Any]:
    signed = []
    for message in found.messages:
        try:
            signed.append(encode_signed(read_submission(pb.PriceSubmission.FromString(message))))
        except InvalidInputError:
            continue  # an earlier release's, which none of today's would accept: it counts for nobody
    return {"slot": found.slot, "state": found.state, "submissions": signed, "report": found.report}
