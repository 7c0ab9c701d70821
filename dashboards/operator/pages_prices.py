"""Prices: what the venues said, what was agreed, who was left out and why; a round computed again from its evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from btcfi.adapters.store.access.console_tables import audit
from btcfi.adapters.store.prices import views
from btcfi.adapters.store.prices.evidence import replay_round
from btcfi.adapters.store.prices.pauses import pause_of
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.oracle.consensus import AgreedPrice
from btcfi.oracle.quote import Feed
from btcfi.units import Slot
from dashboards.operator import queries
from dashboards.operator.console import Console, base_of
from dashboards.operator.gate import Reader, ReaderForm

SPANS: Final = {"1h": 60, "6h": 360, "24h": 1_440}
SlotPath = Annotated[int, Path(ge=0, le=2**32 - 1)]
Span = Annotated[str, Query(pattern="^(1h|6h|24h)$")]


def router(console: Console) -> APIRouter:
    """Return the pages, the chart's data, the evidence and the stream."""
    routes = APIRouter()

    @routes.get("/prices")
    def prices(request: Request, who: Reader, span: Span = "1h") -> HTMLResponse:
        return console.page(request, who, "prices.html", span=span, spans=list(SPANS), **_list(console))

    @routes.get("/prices/data")
    def data(_who: Reader, span: Span = "1h") -> JSONResponse:
        with console.reading() as session:
            rows = views.recent_rounds(session, console.feed, SPANS[span])
        return JSONResponse(series(rows[::-1]))

    @routes.get("/live/prices")
    def live(request: Request, _who: Reader) -> StreamingResponse:
        base = base_of(request)

        def draw() -> Mapping[str, str]:
            seen = _list(console)
            return {
                "price": console.draw("parts/price.html", base=base, **seen),
                "rounds": console.draw("parts/rounds.html", base=base, **seen),
            }

        return console.live.stream(request, "prices", draw)

    _round(routes, console)
    return routes


def _round(routes: APIRouter, console: Console) -> None:
    @routes.get("/prices/{slot}")
    def one_round(request: Request, who: Reader, slot: SlotPath) -> HTMLResponse:
        with console.reading() as session:
            row = queries.round_at(session, console.feed, slot)
            quotes = views.quotes_of(session, console.feed, slot)
        said = {quote.venue: json.loads(quote.body) for quote in quotes}
        return console.page(
            request, who, "round.html", row=row, report=views.report_of(row), quotes=quotes, said=said,
            venues=venues(views.report_of(row)),
        )  # fmt: skip

    @routes.get("/prices/{slot}/evidence/{digest}")
    def evidence(
        _who: Reader, slot: SlotPath, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
    ) -> Response:  # fmt: skip
        with console.reading() as session:
            blob = views.evidence(session, console.feed, slot, digest)
        if blob is None:
            raise NotFoundError("evidence", digest[:16], "it is not of this minute, or its retention is over")
        # bytes of an exchange: given away to be saved, never shown in this origin
        headers = {"Content-Disposition": f'attachment; filename="{digest[:16]}.response"'}
        return Response(bytes(blob.body), media_type="application/octet-stream", headers=headers)

    @routes.post("/prices/{slot}/replay")
    def replay(request: Request, form: ReaderForm, slot: SlotPath) -> HTMLResponse:
        register = console.deps.register
        problem, replayed = "", None
        with console.reading() as session:
            queries.round_at(session, console.feed, slot)
            try:
                replayed = replay_round(session, Feed(console.feed), Slot(slot), rule=register.rule)
            except BtcfiError as e:
                problem = str(e)
        with console.store.transaction() as session:
            audit(
                session, now=console.now(), account=form.visitor.name, address=form.visitor.address,
                action="round.replay", target=str(slot), outcome="failed" if problem else "done", detail=problem,
            )  # fmt: skip
        price = replayed.outcome.price if replayed and isinstance(replayed.outcome, AgreedPrice) else None
        return console.page(
            request, form.visitor, "parts/replayed.html", replayed=replayed, problem=problem, price=price
        )  # fmt: skip


def _list(console: Console) -> dict[str, Any]:
    with console.reading() as session:
        rows = views.recent_rounds(session, console.feed, 30)
        newest = views.newest_priced(session, console.feed)
        paused = pause_of(session, console.feed)
    reports = {row.slot: views.report_of(row) for row in rows}
    return {
        "rounds": rows,
        "reports": reports,
        "newest": newest,
        "newest_report": views.report_of(newest) if newest else {},
        "paused": paused,
        "now": console.now(),
    }


def venues(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one line a venue of a round's report: what it said, what it counted for, or why it did not."""
    total = sum(int(u["weight"]) for u in report.get("used", ())) or 1
    used = [
        _line(
            u["venue"], "used", close=u["close"], dollars=u["dollars"], basis=u["basis"],
            weight=int(u["weight"]) / total, evidence=u["evidence"],
        )
        for u in (*report.get("used", ()), *report.get("left", ()))
    ]  # fmt: skip
    dropped = [
        _line(
            d["venue"], "dropped", close=d["close"], dollars=d["dollars"], why=str(d["reason"]).replace("_", " "),
            evidence=d["evidence"], deviation=d["deviation_bps"], limit=d["limit_bps"],
        )
        for d in report.get("dropped", ())
    ]  # fmt: skip
    absent = [
        _line(a["venue"], "absent", why=": ".join(filter(None, (str(a["reason"]).replace("_", " "), a["detail"]))))
        for a in report.get("absent", ())
    ]
    return sorted(used + dropped + absent, key=lambda line: str(line["venue"]))


def _line(venue: str, status: str, **known: object) -> dict[str, Any]:
    blank = dict.fromkeys(("close", "dollars", "weight", "evidence", "deviation", "limit"))
    return {"venue": venue, "status": status, "basis": "", "why": ""} | blank | known


def series(rows: Sequence[RoundRow]) -> dict[str, Any]:
    """Return the chart's columns, oldest first: times, agreed price with its band, one column a venue; USD."""
    reports = [views.report_of(row) for row in rows]
    lines = [{line["venue"]: line for line in venues(report)} for report in reports]
    names = sorted({name for found in lines for name, line in found.items() if line["dollars"] is not None})
    agreed = [_dollars(row.price_cents) for row in rows]
    band = [report.get("confidence") for report in reports]
    return {
        "slots": [row.slot for row in rows],
        "agreed": agreed,
        "low": [_around(row.price_cents, b, -1) for row, b in zip(rows, band, strict=True)],
        "high": [_around(row.price_cents, b, 1) for row, b in zip(rows, band, strict=True)],
        "venues": [
            {
                "name": name,
                "usd": [_dollars(found[name]["dollars"]) if name in found else None for found in lines],
                "dropped": [found[name]["why"] if name in found else "" for found in lines],
            }
            for name in names
        ],
    }


def _dollars(cents: int | None) -> float | None:
    return None if cents is None else cents / 100


def _around(cents: int | None, confidence: int | None, sign: int) -> float | None:
    return None if cents is None or confidence is None else (cents + sign * confidence) / 100
