"""Requests for quotes: asked by an account, seen by accounts alone, answered by offers that only who asked sees."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from btcfi.adapters.store.market import requests, views
from btcfi.adapters.store.market.errors import SuspendedError
from btcfi.adapters.store.market.tables import QuoteRequestRow, RequestState
from btcfi.adapters.store.options.sales import Market
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.request import Wanted, check_request, decode_signed_request
from btcfi.surfaces.rest.auth import ROLE, Caller, Owner, Signer, signing
from btcfi.surfaces.rest.deps import ACCOUNT, SIGNED, Deps
from btcfi.surfaces.rest.errors import NoDeskError
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.market_desk.own import MISSING, whose
from btcfi.surfaces.rest.market_desk.public import asks_of, bids_of
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.streams import Id


def add_requests(routes: APIRouter, deps: Deps, market: MarketReader) -> None:
    """Add the routes of requests."""

    @routes.post(
        "/requests", status_code=201, responses=MISSING | documented(409, 413, 415), openapi_extra={ROLE: SIGNED}
    )
    async def post_request(
        caller: Signer, body: shapes.SignedQuoteRequest, response: Response
    ) -> shapes.QuoteRequest:  # fmt: skip
        """Ask makers for quotes of any instrument; the same request again is the same one."""
        seen = await market.newest()
        made = await run_in_threadpool(_ask, deps, caller, seen, body)
        response.headers["Location"] = f"/api/v1/requests/{made.id}"
        return made

    @routes.get("/requests", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def open_requests(
        caller: Owner, query: Annotated[shapes.RequestsQuery, Query()]
    ) -> shapes.QuoteRequestPage:  # fmt: skip
        """List requests that can be answered, whoever asks, newest first; or the account's own."""
        with deps.store.reading() as session:
            if query.own or query.account is not None:
                account = whose(caller, query.account)
                page = views.requests_of(session, account, limit=query.limit, cursor=query.cursor)
            else:
                page = views.open_requests(session, deps.clock(), limit=query.limit, cursor=query.cursor)
        return shapes.QuoteRequestPage(items=[_request(row) for row in page.rows], next_cursor=page.following)

    @routes.get("/requests/{request_id}", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def one_request(caller: Owner, request_id: Id) -> shapes.QuoteAnswers:
        """Return a request of the account and the open answers to it, the best first."""
        now = deps.clock()
        with deps.store.reading() as session:
            row = views.request_of(session, whose(caller, None), request_id)
            if row is None:
                raise NotFoundError("request", request_id[:64])
            sides = views.answers(session, row.id, now)
        return shapes.QuoteAnswers(request=_request(row), bids=bids_of(sides, now), asks=asks_of(sides, now))

    @routes.delete("/requests/{request_id}", responses=MISSING, openapi_extra={ROLE: SIGNED})
    def withdraw_request(caller: Signer, request_id: Id) -> shapes.RequestWithdrawn:
        """Withdraw a request of the account, and the open answers to it; again changes nothing."""
        with deps.store.transaction() as session:
            many = requests.withdraw_request(session, caller.account or "", request_id, now=deps.clock())
        return shapes.RequestWithdrawn(id=request_id, withdrawn=many)


def _ask(deps: Deps, caller: Caller, seen: Market, body: shapes.SignedQuoteRequest) -> shapes.QuoteRequest:
    if deps.market_rules is None:
        raise NoDeskError
    if caller.suspended:
        raise SuspendedError((caller.account or "")[:16])
    signed = decode_signed_request(body.model_dump(mode="json"))
    if signed.request.taker.hex() != caller.account:
        raise InvalidInputError("taker", signed.request.taker.hex()[:16], f"{caller.account}, the caller")
    check_request(signed, bytes.fromhex(caller.request_key))
    with deps.store.transaction() as session:
        row = signing(session, caller, alone=True)
        return _request(
            requests.post_request(
                session, row, signed, rule=deps.market_rules.offers, market=seen, now=deps.clock()
            )
        )  # fmt: skip


def _request(row: QuoteRequestRow) -> shapes.QuoteRequest:
    return shapes.QuoteRequest(
        id=row.id, taker=row.account_id, instrument=row.instrument, wanted=Wanted(row.wanted),
        quantity_centi_btc=row.quantity, valid_until_unix=row.valid_until_unix, state=RequestState(row.state),
        created_at_unix=row.created_at_unix, signed=json.loads(row.body),
    )  # fmt: skip
