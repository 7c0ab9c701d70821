"""The endpoints that the whitepaper published (Appendix A), at their published paths and under /api/v1."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from btcfi.options.order import Order, parse_time, refuse_twice
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import parse_fixing
from btcfi.pricing.premium import CENTS_PER_USD
from btcfi.surfaces.rest import schemas
from btcfi.surfaces.rest.auth import ROLE, Caller, Reader, Trader
from btcfi.surfaces.rest.deps import READ, TRADE, Deps
from btcfi.surfaces.rest.idempotency import IdempotencyKey, once, order_id
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.read_once import ReadOnceRoute
from btcfi.surfaces.rest.times import iso
from btcfi.units import CentiBtc, Cents, CentsPerBtc, Slot, UnixSeconds

LATER: Final = ("fixing", "max_premium_cents", "quoted_at_unix")
"""Fields of an order that came after the first release."""

REFUSALS = documented(401, 403, 422, 429, 503)


def router(deps: Deps, market: MarketReader) -> APIRouter:
    """Return the published endpoints, without a prefix."""
    routes = APIRouter(tags=["published"], route_class=ReadOnceRoute)

    @routes.get("/premium", responses=REFUSALS, openapi_extra={ROLE: READ})
    async def premium(
        _caller: Reader, request: Request, query: Annotated[schemas.PremiumQuery, Query()]
    ) -> schemas.Premium:  # fmt: skip
        """Quote one option as a sale would charge it now: refused where the sale would be."""
        refuse_twice(Counter(name for name, _ in request.query_params.multi_items()))
        order = Order(
            option_id="",
            kind=OptionKind.from_label(query.type.value),
            strike=CentsPerBtc(hundredths(query.strike)),
            quantity=CentiBtc(hundredths(query.quantity)),
            barrier=None if query.barrier is None else CentsPerBtc(hundredths(query.barrier)),
            american=query.american,
            expiry=Slot(parse_time(query.expiry, "expiry")),
            fixing=None if query.fixing is None else parse_fixing(query.fixing),
        )
        quoted = await market.quote(order)
        priced, seen = quoted.priced, quoted.market
        return schemas.Premium(
            premium_btc=float(priced.premium[0]) / (seen.spot / CENTS_PER_USD),
            delta=float(priced.delta[0]),
            gamma=float(priced.gamma[0]),
            theta=float(priced.theta[0]) + 0.0,  # no negative zero
            vega=float(priced.vega[0]),
            rho=float(priced.rho[0]),
            premium_cents=int(priced.premium_cents()[0]),
            spot_cents=seen.spot,
            volatility=seen.volatility / 10_000,
            priced_at_unix=market.now(seen),
            total_cents=quoted.premium,
            total_sats=quoted.premium_sats,
            collateral_sats=quoted.terms.collateral,
            quoted_at_unix=quoted.at,
            valid_until_unix=quoted.valid_until,
        )

    @routes.get("/market", responses=REFUSALS, openapi_extra={ROLE: READ})
    async def market_now(_caller: Reader) -> schemas.Market:
        """Return the last agreed price and the realised volatility."""
        seen = await market.snapshot()
        return schemas.Market(
            spot_price=seen.spot / CENTS_PER_USD,
            volatility_30d=seen.volatility / 10_000,
            last_update=iso(seen.slot),
            spot_cents=seen.spot,
            slot_unix=seen.slot,
            samples=seen.samples,
            market_status=market.status(seen).value,
        )

    @routes.post(
        "/option/create",
        response_model=schemas.Created,
        responses=REFUSALS | documented(409, 413, 415),
        openapi_extra={ROLE: TRADE},
    )
    async def create(
        caller: Trader, request: Request, response: Response, body: schemas.CreateOption, key: IdempotencyKey = None
    ) -> Response | schemas.Created:
        """Create an option at the premium of the moment, not above max_premium_cents if that is given.

        The answer says where its contract is funded.
        """
        return await run_in_threadpool(create_once, deps, caller, request.url.path, response, body, key, 200)

    return routes


def create_once(  # noqa: PLR0917 - handed over by position to the thread
    deps: Deps, caller: Caller, path: str, response: Response, body: schemas.CreateOption, key: str | None, status: int
) -> Response | schemas.Created:
    """Create the option of ``body``, once per Idempotency-Key. Raises what the creator and ``once`` raise."""
    order = Order(
        option_id=order_id(caller, key) if key is not None else deps.new_id(),
        kind=OptionKind.from_label(body.type.value),
        strike=CentsPerBtc(hundredths(body.strike)),
        quantity=CentiBtc(hundredths(body.quantity)),
        barrier=CentsPerBtc(hundredths(body.barrier)) if body.barrier is not None else None,
        american=body.american,
        expiry=Slot(body.expiry),
        fixing=None if body.fixing is None else parse_fixing(body.fixing),
        max_premium=None if body.max_premium_cents is None else Cents(body.max_premium_cents),
        quoted_at=None if body.quoted_at_unix is None else UnixSeconds(body.quoted_at_unix),
    )

    def work() -> schemas.Created:
        made = deps.create_option(order)
        return schemas.Created(
            option_id=made.option_id,
            premium=made.premium_cents / CENTS_PER_USD,
            taproot_address=made.taproot_address,
            premium_cents=made.premium_cents,
            premium_sats=made.premium_sats,
            collateral_sats=made.collateral_sats,
        )

    done = once(deps, caller, key, request=asked_as(path, body), status=status, response=response, work=work)
    return done if isinstance(done, Response) else schemas.Created.model_validate(done, from_attributes=True)


def asked_as(path: str, body: schemas.CreateOption) -> str:
    """Return what tells one request under an Idempotency-Key from another: the same text as in earlier releases.

    A field that came later and is not there is left out, as a client of an earlier release asked it.
    """
    absent = {name for name in LATER if getattr(body, name) is None}
    return f"POST {path}\n{body.model_dump_json(exclude=absent)}"


def hundredths(amount: Decimal) -> int:
    """Return dollars or bitcoin of at most two decimals as cents or hundredths, exactly."""
    return int(amount * 100)
