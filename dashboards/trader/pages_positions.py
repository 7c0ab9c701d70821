"""An account's own: positions with their marks and why they changed, what-ifs, offers and takes, history, files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response, StreamingResponse

from btcfi.contracts.messages import encode_announcement, encode_attestation
from dashboards.trader import drawing
from dashboards.trader.desk import Desk, base_of
from dashboards.trader.gate import Signed
from dashboards.trader.holding import MOST_IN_A_FILE, Moves, WhatIf, history_csv, positions_csv
from dashboards.trader.verifying import Kept, read_option

MOST_DAYS = 90
"""That a what-if goes ahead."""

Spot = Annotated[int, Query(ge=-50, le=50)]
Level = Annotated[int, Query(ge=-50, le=100)]
Days = Annotated[int, Query(ge=0, le=MOST_DAYS)]
Cursor = Annotated[str | None, Query(max_length=200)]
OptionId = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[!-~]+$")]


async def _moves(spot: Spot = 0, vol: Level = 0, days: Days = 0) -> Moves:
    return Moves(spot=spot, volatility=vol, days=days)


def router(desk: Desk) -> APIRouter:
    """Return the pages, their stream and their files; all of them of who is signed in."""
    routes = APIRouter()
    _files(routes, desk)

    @routes.get("/positions")
    async def show(
        request: Request, who: Signed, moves: Annotated[Moves, Depends(_moves)], cursor: Cursor = None
    ) -> HTMLResponse:  # fmt: skip
        async with desk.pricing.of(who.account, seconds=desk.deps.limits.wait_seconds):
            holding = await run_in_threadpool(desk.holdings.of, who.account, cursor=cursor)
            moved = await run_in_threadpool(desk.holdings.what_if, who.account, moves)
        return desk.page(request, "positions.html", holding=holding, newest=cursor is None, **_moved(moved))

    @routes.get("/positions/what-if")
    async def what_if(request: Request, who: Signed, moves: Annotated[Moves, Depends(_moves)]) -> HTMLResponse:
        async with desk.pricing.of(who.account, seconds=desk.deps.limits.wait_seconds):
            moved = await run_in_threadpool(desk.holdings.what_if, who.account, moves)
        return desk.page(request, "parts/what_if.html", **_moved(moved))

    @routes.get("/live/positions")
    def live(request: Request, who: Signed) -> StreamingResponse:
        base = base_of(request)

        def draw() -> Mapping[str, str]:
            holding = desk.holdings.of(who.account)
            return {
                "held": desk.draw("parts/held.html", base=base, holding=holding),
                "settled": desk.draw("parts/settled.html", base=base, holding=holding),
            }

        # whose it is stands in the topic: a drawing is shared by all who ask for one topic
        return desk.live.stream(request, f"positions {who.account}", draw)

    return routes


def _files(routes: APIRouter, desk: Desk) -> None:
    @routes.get("/positions.csv")
    def positions(who: Signed) -> Response:
        held = desk.holdings.of(who.account, most=MOST_IN_A_FILE)
        return _file(positions_csv(held), "positions.csv", "text/csv; charset=utf-8")

    @routes.get("/history.csv")
    def history(who: Signed) -> Response:
        return _file(history_csv(desk.holdings.history(who.account)), "history.csv", "text/csv; charset=utf-8")

    @routes.get("/contract/{option_id}")
    def contract(who: Signed, option_id: OptionId) -> Response:
        with desk.deps.api.store.reading() as session:
            kept = read_option(session, option_id, account=who.account, anybodys=False)
        return _file(json.dumps(_documents(kept)), f"contract-{option_id[:40]}.json", "application/json")


def _documents(kept: Kept) -> list[Any]:
    """Return a contract's files as one list, which Verify takes here and anywhere else."""
    said = [kept.said[name] for name in ("offer", "accept", "sign") if name in kept.said]
    oracles = [*map(encode_announcement, kept.announced), *map(encode_attestation, kept.attested)]
    return [*said, *oracles, *([] if kept.proof is None else [json.loads(kept.proof)])]


def _file(text: str, name: str, kind: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=kind, headers=headers)


def _moved(moved: WhatIf | None) -> dict[str, Any]:
    return {
        "moved": moved, "picture": None if moved is None else drawing.moved(moved), "most_days": MOST_DAYS,
    }  # fmt: skip
