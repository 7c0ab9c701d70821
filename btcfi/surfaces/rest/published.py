"""The endpoints that the whitepaper published (Appendix A), at their published paths and under /api/v1."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from btcfi.errors import InvalidInputError
from btcfi.options.terms import OptionKind, check_style, check_window, fixing_for, required_collateral
from btcfi.oracle.fixing import parse_fixing
from btcfi.pricing.premium import CENTS_PER_USD, Book, collateral_ratio, fixing_codes, premiums
from btcfi.surfaces.rest import schemas
from btcfi.surfaces.rest.auth import ROLE, Caller, Reader, Trader
from btcfi.surfaces.rest.deps import READ, TRADE, Deps, OptionOrder
from btcfi.surfaces.rest.idempotency import IdempotencyKey, once, order_id
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.times import iso, parse_time
from btcfi.units import CentiBtc, CentsPerBtc, Slot

WHOLE_BTC = CentiBtc(100)
REFUSALS = documented(401, 403, 422, 429, 503)


def router(deps: Deps, market: MarketReader) -> APIRouter:
    """Return the published endpoints, without a prefix."""
    routes = APIRouter(tags=["published"])

    @routes.get("/premium", responses=REFUSALS, openapi_extra={ROLE: READ})
    async def premium(_caller: Reader, query: Annotated[schemas.PremiumQuery, Query()]) -> schemas.Premium:
        """Price one option at the last agreed price and the realised volatility."""
        expiry = parse_time(query.expiry, "expiry")
        seen = await market.snapshot()
        now = market.now(seen)
        if expiry <= now:
            raise InvalidInputError("expiry", f"{query.expiry} is not after now", f"a time after {iso(now)}")
        named = None if query.fixing is None else parse_fixing(query.fixing)
        fixing = fixing_for(named, american=query.american, preset=deps.fixing)
        check_style(fixing, american=query.american)
        check_window(fixing, expiry, now)
        kind = OptionKind.from_label(query.type.value)
        book = Book(
            kind=np.array([kind], dtype=np.int8),
            strike_cents=np.array([cents(query.strike)]),
            expiry_unix=np.array([expiry]),
            barrier_cents=np.array([cents(query.barrier) if query.barrier is not None else 0]),
            american=np.array([query.american]),
            # the payout is in bitcoin and stops at the collateral, which a put can outgrow
            collateral_ratio=collateral_ratio([WHOLE_BTC], [required_collateral(kind, WHOLE_BTC)]),
            fixing=fixing_codes([fixing]),
        )
        priced = premiums(book, spot=seen.spot, volatility=seen.volatility, rate=deps.rate, now=now)
        return schemas.Premium(
            premium_btc=float(priced.premium[0]) / (seen.spot / CENTS_PER_USD),
            delta=float(priced.delta[0]),
            gamma=float(priced.gamma[0]),
            theta=float(priced.theta[0]) + 0.0,  # no negative zero
            vega=float(priced.vega[0]),
            rho=float(priced.rho[0]),
            premium_cents=int(priced.premium_cents()[0]),
            spot_cents=seen.spot,
            volatility=seen.volatility,
            priced_at_unix=now,
        )

    @routes.get("/market", responses=REFUSALS, openapi_extra={ROLE: READ})
    async def market_now(_caller: Reader) -> schemas.Market:
        """Return the last agreed price and the realised volatility."""
        seen = await market.snapshot()
        return schemas.Market(
            spot_price=seen.spot / CENTS_PER_USD,
            volatility_30d=seen.volatility,
            last_update=iso(seen.slot),
            spot_cents=seen.spot,
            slot_unix=seen.slot,
            samples=seen.samples,
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
        """Create an option at today's premium; the answer says where its contract is funded."""
        await market.snapshot()  # no price, no sale
        return await run_in_threadpool(create_once, deps, caller, request.url.path, response, body, key, 200)

    return routes


def create_once(  # noqa: PLR0917 - handed over by position to the thread
    deps: Deps, caller: Caller, path: str, response: Response, body: schemas.CreateOption, key: str | None, status: int
) -> Response | schemas.Created:
    """Create the option of ``body``, once per Idempotency-Key. Raises what the creator and ``once`` raise."""
    order = OptionOrder(
        order_id=order_id(caller, key) if key is not None else deps.new_id(),
        kind=OptionKind.from_label(body.type.value),
        strike=CentsPerBtc(cents(body.strike)),
        quantity=CentiBtc(int(body.quantity * 100)),
        barrier=CentsPerBtc(cents(body.barrier)) if body.barrier is not None else None,
        american=body.american,
        expiry=Slot(body.expiry),
        fixing=None if body.fixing is None else parse_fixing(body.fixing),
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

    # without a field that is not there, as a client of an earlier release asked it
    asked = f"POST {path}\n{body.model_dump_json(exclude={'fixing'} if body.fixing is None else None)}"
    done = once(deps, caller, key, request=asked, status=status, response=response, work=work)
    return done if isinstance(done, Response) else schemas.Created.model_validate(done, from_attributes=True)


def cents(usd: Decimal) -> int:
    """Return dollars of at most two decimals as cents, exactly."""
    return int(usd * CENTS_PER_USD)
