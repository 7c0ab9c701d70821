"""Options: a list with filters, a form with a live quote, and one option's whole life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from btcfi.adapters.store.access.console_tables import audit
from btcfi.adapters.store.chain import views as chain
from btcfi.adapters.store.options import views
from btcfi.adapters.store.options.backlog import BacklogFullError
from btcfi.adapters.store.options.options import NoPriceYetError, find_option
from btcfi.adapters.store.options.tables import OptionState
from btcfi.adapters.store.options.views import WhichOptions
from btcfi.adapters.store.prices import views as prices
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.options.order import UNITS, refuse_twice
from btcfi.options.terms import OptionKind
from btcfi.surfaces.status import status_of
from dashboards.operator import drawing, orders, queries
from dashboards.operator.console import Console, base_of
from dashboards.operator.gate import Reader, Trader, TraderForm
from dashboards.operator.pages_contract import Id, add_contract_page
from dashboards.operator.render import path_segment, with_query

STATES: Final = tuple(map(str, OptionState))
KINDS: Final = tuple(kind.label for kind in OptionKind)
STYLES: Final = ("european", "american")

Word = Annotated[str, Query(max_length=128, pattern=r"^[^\x00]*$")]
Cursor = Annotated[str | None, Query(max_length=400)]

BLANK: Final = {
    "kind": "call", "strike": "", "quantity": "0.10", "barrier": "", "american": "", "expires": "60", "unit": "minutes",
    "fixing": "",
}  # fmt: skip

SAID: Final = (InvalidInputError, NoPriceYetError, BacklogFullError)
"""Refusals of a sale that tell their reader something; what else fails with a status of the server's stays inside."""


def router(console: Console) -> APIRouter:
    """Return the pages and the streams."""
    routes = APIRouter()
    _list(routes, console)
    _new(routes, console)
    _one(routes, console)
    add_contract_page(routes, console)
    return routes


def _list(routes: APIRouter, console: Console) -> None:
    @routes.get("/options")
    def options(  # noqa: PLR0917 - query parameters
        request: Request, who: Reader, state: Word = "", kind: Word = "", style: Word = "", id: Word = "",  # noqa: A002
        cursor: Cursor = None,
    ) -> HTMLResponse:  # fmt: skip
        chosen = {"state": state, "kind": kind, "style": style, "id": id.strip()}
        with console.reading() as session:
            wanted = which(state, kind, style, chosen["id"])
            page = views.option_page(session, console.feed, wanted, limit=console.deps.limits.page, cursor=cursor)
            premiums = views.premiums_of(session, (row.id for row in page.rows))
            counts = views.options_by_state(session)
        here = f"{base_of(request)}/options"
        return console.page(
            request, who, "options.html", rows=page.rows, premiums=premiums, chosen=chosen, states=STATES, kinds=KINDS,
            styles=STYLES, counts=counts, paged=cursor is not None,
            first=with_query(here, **chosen),
            following=with_query(here, **chosen, cursor=page.following) if page.following else None,
        )  # fmt: skip


def which(state: str, kind: str, style: str, prefix: str, *, expiry_to: int | None = None) -> WhichOptions:
    """Return the filter of some words. Raises InvalidInputError for a word that is none of the choices."""
    for name, word, known in (("state", state, STATES), ("type", kind, KINDS), ("style", style, STYLES)):
        if word and word not in known:
            raise InvalidInputError(name, repr(word[:40]), "one of " + ", ".join(known))
    return WhichOptions(
        state=state or None, kind=OptionKind.from_label(kind) if kind else None,
        american=style == "american" if style else None, expiry_to=expiry_to, id_prefix=prefix,
    )  # fmt: skip


def _new(routes: APIRouter, console: Console) -> None:
    @routes.get("/options/new")
    def form(request: Request, who: Trader) -> HTMLResponse:
        fields = dict(BLANK)
        with console.reading() as session:
            newest = prices.newest_close(session, console.feed)
        if newest is not None:
            fields["strike"] = f"{round(newest.price_cents, -4) / 100:.2f}"
        shown = _quote(console, fields)
        return console.page(
            request, who, "new_option.html", fields=fields, kinds=KINDS, units=list(UNITS),
            order_id=console.deps.entropy(16).hex(), refused=None, default_fixing=str(console.deps.api.fixing),
            valid_seconds=console.deps.api.quote_seconds, **shown,
        )  # fmt: skip

    @routes.get("/options/quote")
    def live_quote(request: Request, who: Trader) -> HTMLResponse:
        fields = {name: request.query_params.get(name, "") for name in BLANK}
        twice = Counter(name for name, _ in request.query_params.multi_items())
        return console.page(request, who, "parts/quote.html", **_quote(console, fields, twice))

    @routes.post("/options")
    def create(request: Request, form: TraderForm) -> Response:
        fields = {name: form.fields.get(name, "") for name in BLANK}
        try:
            refuse_twice(form.counts)
            order = orders.order_of(orders.wanted_of(fields), form["order"], form["quote"])
            made = console.deps.api.create_option(order)
        except BtcfiError as e:
            shown = _quote(console, fields)
            fields = {name: value[:80] for name, value in fields.items()}
            # of an order without a quote the reason why there is none
            why = shown["error"] or e if isinstance(e, orders.NotShownError) else e
            status = status_of(why).http
            return console.page(
                request, form.visitor, "new_option.html", status=status, fields=fields, kinds=KINDS,
                units=list(UNITS), order_id=console.deps.entropy(16).hex(),
                default_fixing=str(console.deps.api.fixing), valid_seconds=console.deps.api.quote_seconds,
                refused=str(why) if status < 500 or isinstance(why, SAID) else "the sale failed inside",  # noqa: PLR2004
                **shown,
            )  # fmt: skip
        with console.store.transaction() as session:
            audit(
                session, now=console.now(), account=form.visitor.name, address=form.visitor.address,
                action="option.create", target=made.option_id,
                detail=f"{order.kind.label}, premium {made.premium_cents} cents",
            )  # fmt: skip
        return RedirectResponse(f"{base_of(request)}/options/{path_segment(made.option_id)}", status_code=303)


def _quote(console: Console, fields: Mapping[str, str], twice: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the quote of the form's fields with its diagram, or what is wrong with them."""
    try:
        refuse_twice(twice or {})
        with console.reading() as session:
            if prices.newest_close(session, console.feed) is None:  # said before the fields, which the page fills by it
                raise NoPriceYetError(console.feed)
            wanted = orders.wanted_of(fields)
            quoted = orders.quote(session, console.deps, wanted, now=console.market_now(session))
    except InvalidInputError as e:
        return {"quoted": None, "diagram": None, "problem": str(e), "wrong": e.field, "error": e}
    except BtcfiError as e:
        if status_of(e).http >= 500 and not hasattr(e, "feed"):  # noqa: PLR2004 - the store is away, not the price
            raise
        return {"quoted": None, "diagram": None, "problem": str(e), "wrong": "", "error": e}
    shown = drawing.diagram(
        quoted.payoff, spot=quoted.spot, strike=wanted.strike, barrier=wanted.barrier
    )  # fmt: skip
    return {"quoted": quoted, "diagram": shown, "problem": "", "wrong": "", "error": None}


def _one(routes: APIRouter, console: Console) -> None:
    @routes.get("/options/{option_id}")
    def option(request: Request, who: Reader, option_id: Id) -> HTMLResponse:
        return console.page(request, who, "option.html", **_life(console, option_id))

    @routes.get("/options/{option_id}/attestation/{oracle_key}")
    def attestation(
        _who: Reader, option_id: Id, oracle_key: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
    ) -> Response:
        with console.reading() as session:
            many = views.attestations_of(session, find_option(session, option_id).id)
        body = next((one.body for one in many if one.oracle_key == oracle_key), None)
        if body is None:
            raise NotFoundError("attestation", oracle_key[:16], "it is there when the oracle has signed")
        headers = {"Content-Disposition": f'attachment; filename="{oracle_key[:16]}.attestation.json"'}
        return Response(body, media_type="application/json", headers=headers)

    @routes.get("/transactions/{txid}")
    def transaction(_who: Reader, txid: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> PlainTextResponse:
        with console.reading() as session:
            row = chain.transaction(session, txid)
        if row is None:
            raise NotFoundError("transaction of ours", txid[:16], "any other is a node's to show")
        return PlainTextResponse(row.raw_hex + "\n")

    @routes.get("/live/options/{option_id}")
    def live(request: Request, _who: Reader, option_id: Id) -> StreamingResponse:
        base = base_of(request)
        with console.reading() as session:
            find_option(session, option_id)

        def draw() -> Mapping[str, str]:
            return {"life": console.draw("parts/option_life.html", base=base, **_life(console, option_id))}

        return console.live.stream(request, f"option {option_id}", draw)


def _life(console: Console, option_id: str) -> dict[str, Any]:
    with console.reading() as session:
        row = find_option(session, option_id)
        transactions = views.transactions_of(session, option_id)
        tip = chain.tip(session)
        found: dict[str, Any] = {
            "option": row,
            "premium": views.premium(session, option_id),
            "settlement": views.settlement_of(session, option_id),
            "asked": views.request(session, option_id),
            "contract": views.contract(session, option_id),
            "story": queries.story_of(session, option_id),
            "now": console.market_now(session),
        }
    return found | {
        "transactions": transactions,
        "by_txid": {tx.txid: tx for tx in transactions},
        "depth": {tx.txid: chain.confirmations(tx, tip) for tx in transactions},
        "tip": tip,
        "graph": drawing.graph(row, transactions, tip),
    }
