"""Disputed contracts under watch: where each stands, and the game's clock: who must be online, until which block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.disputes import views
from btcfi.adapters.store.disputes.tables import DisputeRow
from btcfi.adapters.store.spine import views as spine_views
from btcfi.disputes.stages import Stage
from btcfi.errors import InvalidInputError
from btcfi.surfaces.dispute_view import DisputeView, dispute_view
from dashboards.operator.console import Console, base_of
from dashboards.operator.gate import Reader
from dashboards.operator.pages_contract import Id
from dashboards.operator.pages_options import Cursor, Word
from dashboards.operator.render import with_query

STATES: Final = tuple(map(str, Stage))

WIDTH: Final = 640.0
LANE: Final = 34.0
LEFT: Final = 12.0
TOP: Final = 26.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One move in the picture: from the first block that can hold it to the last that is safe."""

    y: float
    x: float
    width: float
    words: str
    tone: str
    """``gain`` while the next block can hold it and it is safe, ``loss`` where it is not safe any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The game's clock, in the coordinates of its picture."""

    height: float
    now: float
    """Where the newest block is."""
    lanes: tuple[Lane, ...]
    blocks: tuple[tuple[float, str], ...]
    words: str


def router(console: Console) -> APIRouter:
    """Return the pages."""
    routes = APIRouter()

    @routes.get("/disputes")
    def disputes(request: Request, who: Reader, state: Word = "", cursor: Cursor = None) -> HTMLResponse:
        if state and state not in STATES:
            raise InvalidInputError("state", repr(state[:40]), "one of " + ", ".join(STATES))
        with console.reading() as session:
            page = views.disputes(session, state=state or None, limit=console.deps.limits.page, cursor=cursor)
            counts = spine_views.by_state(session, DisputeRow)
            tip = chain.tip(session)
        here = f"{base_of(request)}/disputes"
        return console.page(
            request, who, "disputes.html", rows=page.rows, chosen=state, states=STATES, counts=counts,
            tip=0 if tip is None else tip.height, paged=cursor is not None, first=with_query(here, state=state),
            following=with_query(here, state=state, cursor=page.following) if page.following else None,
        )  # fmt: skip

    @routes.get("/disputes/{dispute_id}")
    def dispute(request: Request, who: Reader, dispute_id: Id) -> HTMLResponse:
        with console.reading() as session:
            seen = dispute_view(session, dispute_id, now=console.now())
        return console.page(
            request, who, "dispute.html", seen=seen, clock=drawn(seen), ended=Stage(seen.row.state).ended
        )

    return routes


def drawn(seen: DisputeView) -> Clock | None:
    """Return the picture of a contract's clock; None where nobody has a move."""
    if not seen.moves or seen.row.moved_height is None:
        return None
    first = min(seen.row.moved_height, seen.tip)
    known = [seen.tip, *(one.since for one in seen.moves), *(one.until for one in seen.moves if one.until is not None)]
    last = max(known) + max(2, (max(known) - first) // 8)

    def x(height: int) -> float:
        return round(LEFT + (height - first) / (last - first) * (WIDTH - 2 * LEFT), 1)

    lanes = []
    for at, one in enumerate(seen.moves):
        end = last if one.until is None else one.until
        until = "" if one.until is None else f" to {one.until:,}"
        over = one.until is not None and one.until <= seen.tip
        lanes.append(
            Lane(
                y=TOP + at * LANE, x=x(one.since - 1), width=round(max(2.0, x(end) - x(one.since - 1)), 1),
                words=f"{one.side.value}: {one.by.value}, from {one.since:,}{until}", tone="loss" if over else "gain",
            )
        )  # fmt: skip
    marks = sorted({one.since for one in seen.moves} | {seen.row.moved_height})
    return Clock(
        height=TOP + len(lanes) * LANE + 22, now=x(seen.tip), lanes=tuple(lanes),
        blocks=tuple((x(one), f"{one:,}") for one in marks),
        words="; ".join(lane.words for lane in lanes) + f"; the newest block is {seen.tip:,}",
    )  # fmt: skip
