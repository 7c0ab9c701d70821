"""/api/v1: options, settlements, proofs, prices, risk and health."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import Field

from btcfi.adapters.store.options.asking import ask_settlement
from btcfi.adapters.store.options.cancelling import cancel_sale
from btcfi.adapters.store.options.premiums import counted_from, open_book
from btcfi.adapters.store.options.sales import Market
from btcfi.adapters.store.options.tables import LOCKED_OPTIONS, OptionState, RequestState, SettlementState
from btcfi.adapters.store.options.views import Sight, WhichOptions, WhichSettlements
from btcfi.adapters.store.prices import views as prices_views
from btcfi.adapters.store.spine import views as spine_views
from btcfi.adapters.store.spine.database import StoreUnreachableError
from btcfi.errors import BtcfiError
from btcfi.options.terms import OptionKind
from btcfi.oracle.quote import Feed
from btcfi.pricing import portfolio
from btcfi.pricing.premium import to_cents
from btcfi.surfaces.rest import reads, schemas
from btcfi.surfaces.rest.auth import ROLE, Operator, Reader, Trader, sight_of
from btcfi.surfaces.rest.deps import OPERATE, READ, TRADE, Deps
from btcfi.surfaces.rest.disputes import add_disputes
from btcfi.surfaces.rest.idempotency import IdempotencyKey
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.minutes import add_minutes
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.published import create_once
from btcfi.surfaces.rest.read_once import ReadOnceRoute
from btcfi.surfaces.rest.streams import Id
from btcfi.surfaces.rest.turns import Turns

REFUSALS = documented(401, 403, 422, 429, 503)
MISSING = REFUSALS | documented(404)

Cursor = Annotated[
    str | None, Field(default=None, max_length=400, description="The next_cursor of the page before.")
]  # fmt: skip
SPOT_MOVES = (-0.30, -0.20, -0.10, -0.05, 0.0, 0.05, 0.10, 0.20, 0.30)
VOLATILITY_MOVES = (-0.25, 0.0, 0.25)


PROOF_FILE = {
    "required": True,
    "description": "A proof file, as downloaded.",
    "content": {"application/json": {"schema": {"type": "object", "title": "Proof file"}}},
}


class _Page(schemas.Request):
    limit: int = Field(default=100, ge=1, le=500)
    """Rows of the page."""
    cursor: Cursor


class OptionFilter(_Page):
    """Which options."""

    state: OptionState | None = None
    """Only those in this state."""
    type: schemas.OptionType | None = None
    """Only those of this payoff."""
    expiry_from: schemas.When | None = None
    """Only those that expire from then on: seconds since 1970, or ISO 8601 with a zone."""
    expiry_to: schemas.When | None = None
    """Only those that expire up to then, in the same forms."""


class SettlementFilter(_Page):
    """Which settlements."""

    state: SettlementState | None = None
    """Only those in this state."""
    option_id: str | None = Field(default=None, min_length=1, max_length=128, pattern=r"^[!-~]+$")
    """Only those of this option."""


class PriceFilter(_Page):
    """Which minutes: from ``start`` to before ``end``."""

    start: schemas.When = 0
    """From then on: seconds since 1970, or ISO 8601 with a zone."""
    end: schemas.When = schemas.MAX_UNIX
    """Before then, in the same forms."""


class Nothing(schemas.Request):
    """No query parameters."""


def router(deps: Deps, market: MarketReader) -> APIRouter:
    """Return the endpoints, without a prefix."""
    routes = APIRouter(route_class=ReadOnceRoute)
    _options(routes, deps)
    _settlements(routes, deps)
    _rest(routes, deps, market)
    add_minutes(routes, deps)
    add_disputes(routes, deps)
    return routes


def _options(routes: APIRouter, deps: Deps) -> None:
    @routes.get("/options", tags=["options"], responses=REFUSALS, openapi_extra={ROLE: READ})
    def options(caller: Reader, query: Annotated[OptionFilter, Query()]) -> schemas.OptionPage:
        """List options, newest first; those that takes made, to their two accounts and the operator alone."""
        which = _which(query, sight_of(caller))
        with deps.store.reading() as session:
            return reads.options(session, feed=deps.feed, which=which, limit=query.limit, cursor=query.cursor)

    @routes.post(
        "/options",
        tags=["options"],
        status_code=201,
        response_model=schemas.Created,
        responses=REFUSALS | documented(409, 413, 415),
        openapi_extra={ROLE: TRADE},
    )
    async def create_option(
        caller: Trader, request: Request, response: Response, body: schemas.CreateOption, key: IdempotencyKey = None
    ) -> Response | schemas.Created:
        """Create an option, as /option/create does, with the status of something new."""
        made = await run_in_threadpool(create_once, deps, caller, request.url.path, response, body, key, 201)
        _say_where(request, response, made)
        return made

    @routes.get("/options/{option_id}", tags=["options"], responses=MISSING, openapi_extra={ROLE: READ})
    def option(caller: Reader, option_id: Id) -> schemas.Option:
        """Return one option."""
        with deps.store.reading() as session:
            return reads.option_of(reads.option(session, option_id, sight_of(caller)))

    @routes.get("/options/{option_id}/premium", tags=["options"], responses=MISSING, openapi_extra={ROLE: READ})
    def stored_premium(caller: Reader, option_id: Id) -> schemas.StoredPremium:
        """Return the newest premium that was stored for an open option."""
        with deps.store.reading() as session:
            return reads.premium_of(reads.stored_premium(session, option_id, sight_of(caller)))

    @routes.post(
        "/options/{option_id}/settle",
        tags=["settlements"],
        status_code=202,
        responses=MISSING | documented(413, 415),
        openapi_extra={ROLE: OPERATE},
    )
    def settle(
        caller: Operator, at: Request, response: Response, option_id: Id
    ) -> schemas.SettlementRequested:  # fmt: skip
        """Ask for an option to be settled now; asking again changes nothing, or asks a refused request anew."""
        asked = request(deps, caller.id, option_id)
        response.headers["Location"] = at.url.path.removesuffix("/settle")
        if asked.state == RequestState.OPEN:
            deps.submit("settlement_request", option_id)
        return asked

    @routes.post(
        "/options/{option_id}/cancel",
        tags=["options"],
        responses=MISSING | documented(409, 413, 415),
        openapi_extra={ROLE: OPERATE},
    )
    def cancel(caller: Operator, option_id: Id) -> schemas.Option:
        """Cancel a sale that is not funded; asking again changes nothing."""
        with deps.store.transaction() as session:
            return reads.option_of(cancel_sale(session, option_id, by=f"api {caller.id}", now=deps.clock()))


def _say_where(request: Request, response: Response, made: Response | schemas.Created) -> None:
    """Name the new option's own path in the answer, in a repeated one too."""
    if isinstance(made, Response):
        made.headers["Location"] = f"{request.url.path}/{json.loads(bytes(made.body))['option_id']}"
    else:
        response.headers["Location"] = f"{request.url.path}/{made.option_id}"


def request(deps: Deps, caller: str, option_id: str) -> schemas.SettlementRequested:
    """Note that a caller wants an option settled, and return where that stands. Raises NotFoundError."""
    asked = ask_settlement(deps.store, option_id, requested_by=f"api {caller}", now=deps.clock())
    return schemas.SettlementRequested(
        option_id=option_id, state=asked.state, answer=asked.answer, requested_at_unix=asked.requested_at
    )


def _which(query: OptionFilter, sight: Sight) -> WhichOptions:
    return WhichOptions(
        sight=sight,
        state=None if query.state is None else query.state.value,
        kind=None if query.type is None else OptionKind.from_label(query.type.value),
        expiry_from=query.expiry_from,
        expiry_to=query.expiry_to,
    )


def _settlements(routes: APIRouter, deps: Deps) -> None:
    @routes.get("/settlements", tags=["settlements"], responses=REFUSALS, openapi_extra={ROLE: READ})
    def settlements(caller: Reader, query: Annotated[SettlementFilter, Query()]) -> schemas.SettlementPage:
        """List settlements, newest first."""
        state = None if query.state is None else query.state.value
        which = WhichSettlements(state=state, option_id=query.option_id, sight=sight_of(caller))
        with deps.store.reading() as session:
            return reads.settlements(session, which=which, limit=query.limit, cursor=query.cursor)

    @routes.get("/settlements/{settlement_id}", tags=["settlements"], responses=MISSING, openapi_extra={ROLE: READ})
    def settlement(caller: Reader, settlement_id: Id) -> schemas.Settlement:
        """Return one settlement."""
        with deps.store.reading() as session:
            return reads.settlements_of(session, [reads.settlement(session, settlement_id, sight_of(caller))])[0]

    @routes.get(
        "/settlements/{settlement_id}/events", tags=["settlements"], responses=MISSING, openapi_extra={ROLE: READ}
    )
    def events(caller: Reader, settlement_id: Id) -> list[schemas.SettlementEvent]:
        """Return every edge that the settlement crossed, in order."""
        with deps.store.reading() as session:
            sight = sight_of(caller)
            reads.settlement(session, settlement_id, sight)
            rows = spine_views.events_of(session, {"settlement": [settlement_id]})
            return reads.settlement_events_of(session, rows, sight)

    @routes.get(
        "/settlements/{settlement_id}/proof",
        tags=["proofs"],
        response_class=Response,
        responses=MISSING
        | {200: {"description": "The proof file.", "content": {"application/json": {"schema": {"type": "object"}}}}},
        openapi_extra={ROLE: READ},
    )
    def proof(caller: Reader, settlement_id: Id) -> Response:
        """Download the proof file, byte for byte as it was built; its ETag is its SHA-256."""
        with deps.store.reading() as session:
            body, digest = reads.proof_bytes(session, settlement_id, sight_of(caller))
        headers = {"ETag": f'"{digest}"', "Content-Disposition": f'attachment; filename="{digest[:16]}.proof.json"'}
        return Response(content=body, media_type="application/json", headers=headers)

    turns = Turns(each=1, most=deps.limits.verifications_at_once)

    @routes.post(
        "/proofs/verify",
        tags=["proofs"],
        responses=REFUSALS | documented(413, 415),
        # read by the verifier alone, in its thread: four megabytes of JSON would hold up everybody
        openapi_extra={ROLE: READ, "requestBody": PROOF_FILE},
    )
    async def verify(
        caller: Reader,
        request: Request,
        depth: Annotated[
            Literal["execute", "sample", "paths"], Query(description="How much is done again.", examples=["execute"])
        ] = "execute",
    ) -> schemas.Check:
        """Check a proof file: run again, it holds or a check fails; any other depth gives no verdict."""
        async with turns.of(caller.counted, seconds=deps.limits.wait_seconds):
            return await run_in_threadpool(check_document, bytes(request.state.body), depth, deps)


def _rest(routes: APIRouter, deps: Deps, market: MarketReader) -> None:
    @routes.get("/prices", tags=["prices"], responses=REFUSALS, openapi_extra={ROLE: READ})
    def prices(_caller: Reader, query: Annotated[PriceFilter, Query()]) -> schemas.PricePage:
        """List agreed minutes, newest first."""
        with deps.store.reading() as session:
            return reads.prices(
                session, feed=deps.feed, start=query.start, end=query.end, limit=query.limit, cursor=query.cursor
            )

    @routes.get("/prices/latest", tags=["prices"], responses=MISSING, openapi_extra={ROLE: READ})
    def latest(_caller: Reader) -> schemas.LatestPrice:
        """Return the newest agreed minute, and whether it may still be used: trading, thin, stale or halted."""
        with deps.store.reading() as session:
            return reads.latest_price(session, deps.feed, replay=deps.replay_clock, now=deps.clock())

    @routes.get("/risk", tags=["risk"], responses=REFUSALS, openapi_extra={ROLE: OPERATE})
    async def risk(_caller: Operator) -> schemas.BookRisk:
        """Return the risk of the writer's book, priced now."""
        seen = await market.snapshot()
        return await run_in_threadpool(book_risk, deps, seen)

    @routes.get("/fees", tags=["fees"], responses=REFUSALS, openapi_extra={ROLE: OPERATE})
    def fees(_caller: Operator) -> schemas.Fees:
        """Return what the next blocks would hold, what of ours waits for one, deadline first, and when its turn is."""
        return reads.fees(deps)

    @routes.get("/health", tags=["health"], responses={503: {"model": schemas.Health, "description": "Degraded"}})
    def health(response: Response) -> schemas.Health:
        """Return whether prices come and the database answers; needs no key."""
        age = None
        database: Literal["ok", "unreachable"] = "ok"
        try:
            with deps.store.reading() as session:
                age = prices_views.price_age(session, deps.feed, replay=deps.replay_clock, now=deps.clock())
        except StoreUnreachableError:
            database = "unreachable"
        fine = database == "ok" and age is not None and age <= deps.limits.stale_price_seconds
        response.status_code = 200 if fine else 503
        return schemas.Health(
            status="ok" if fine else "degraded", database=database, last_price_age_seconds=age,
            market="simulated" if deps.replay_clock else "live",
        )  # fmt: skip


def check_document(body: bytes, depth: Literal["execute", "sample", "paths"], deps: Deps) -> schemas.Check:
    """Return what a verifier says of a body. Raises RequestValidationError for one that is no JSON object."""
    try:
        is_object = isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        problem = {"type": "dict_type", "loc": ("body", "body"), "msg": "Input should be a JSON object", "input": None}
        raise RequestValidationError([problem])
    return check(body, depth, deps)


def check(body: bytes, depth: Literal["execute", "sample", "paths"], deps: Deps) -> schemas.Check:
    """Return what a verifier says of a proof file."""
    from btcfi.proofs import settlement_proof, table_file  # noqa: PLC0415 - the interpreter compiles at first import
    from btcfi.vm.program import program_of_proof  # noqa: PLC0415 - as above

    try:
        proof = table_file.proof_in(body)
        program = program_of_proof(proof.program_name, proof.program_hash, deps.programs)
        found = table_file.examine_any(proof, program, depth=settlement_proof.Depth(depth))
    except BtcfiError as e:
        # whatever is wrong with the file is the answer to the question that was asked
        return schemas.Check(
            valid=False, depth=depth, proof_root=None, program=None, steps=None, output_hex=None, checks=[],
            failed_check=f"{type(e).__name__}: {e}", no_verdict=None, steps_checked=None, chance_to_miss=None,
        )  # fmt: skip
    if isinstance(found, settlement_proof.Inspected):
        return schemas.Check(
            valid=None, depth=depth, proof_root=found.proof_root.hex(), program=found.program_name, steps=None,
            output_hex=None, checks=list(found.checks), failed_check=None, no_verdict=found.words,
            steps_checked=list(found.steps_checked), chance_to_miss=found.chance_to_miss,
        )  # fmt: skip
    return schemas.Check(
        valid=True, depth=depth, proof_root=found.proof_root.hex(), program=found.program_name, steps=found.steps,
        output_hex=found.output.hex(), checks=list(found.checks), failed_check=None, no_verdict=None,
        steps_checked=None, chance_to_miss=None,
    )  # fmt: skip


def book_risk(deps: Deps, seen: Market) -> schemas.BookRisk:
    """Return the risk of all funded options that are not settled, which the writer is short of."""
    with deps.store.reading() as session:
        written = open_book(session, Feed(deps.feed), LOCKED_OPTIONS)
    # what is knocked out owes nothing any more, but its collateral is locked until it is settled
    quantity = np.where(written.knocked_out, 0, -written.quantity_centi_btc)
    positions = portfolio.Positions(
        book=written.book, quantity_centi_btc=quantity, collateral_sats=written.collateral_sats
    )  # fmt: skip
    at = portfolio.Market(
        spot=seen.spot, volatility=seen.volatility / 10_000, rate=deps.rate, now=counted_from(seen.slot),
        sampled=False,  # in each scenario anew: a few medians would take minutes
    )  # fmt: skip
    greeks = portfolio.aggregate(positions, at)
    margin = portfolio.margin(positions, at)
    grid = portfolio.scenarios(positions, at, spot_moves=SPOT_MOVES, volatility_moves=VOLATILITY_MOVES)
    return schemas.BookRisk(
        options=len(written),
        spot_cents=seen.spot,
        volatility=seen.volatility / 10_000,
        value_cents=int(to_cents(greeks.value)),
        delta_btc=greeks.delta_btc,
        gamma_btc=greeks.gamma_btc,
        vega=greeks.vega,
        theta=greeks.theta,
        rho=greeks.rho,
        required_margin_cents=margin.required_cents,
        collateral_cents=margin.collateral_cents,
        liability_cents=margin.liability_cents,
        utilisation=margin.utilisation if math.isfinite(margin.utilisation) else None,
        spot_moves=list(SPOT_MOVES),
        volatility_moves=list(VOLATILITY_MOVES),
        profit_cents=[to_cents(row).tolist() for row in grid.profit[0]],
    )
