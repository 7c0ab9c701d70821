"""Browsers that want to look as an account: the account's own process answers, by its signature on the request."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final

from fastapi import APIRouter, Path

from btcfi.adapters.store.market import visitors
from btcfi.adapters.store.market.visitor_tables import DeskSignInRow
from btcfi.surfaces.rest.auth import ROLE, Signer, signing
from btcfi.surfaces.rest.deps import SIGNED, Deps
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.turns import Rates

REFUSALS: Final = documented(401, 403, 404, 422, 429, 503)

ASKED_PER_MINUTE: Final = 60
"""Codes that one account may ask for: a tenth at once, so that nobody looks for those of others."""

Code = Annotated[str, Path(pattern=r"^[0-9A-Z]{8}$", description="As the desk's page shows it, without its dash.")]


def add_visitors(routes: APIRouter, deps: Deps) -> None:
    """Add the routes."""
    rates = Rates(deps.monotonic, each_per_minute=ASKED_PER_MINUTE)

    @routes.get("/sign-ins/{code}", responses=REFUSALS, openapi_extra={ROLE: SIGNED})
    def asked(caller: Signer, code: Code) -> shapes.SignInAsked:
        """Return which browser shows this code, for its owner to look at before saying yes."""
        rates.take(caller.counted)
        with deps.store.reading() as session:
            return _asked(visitors.asked(session, code, now=deps.clock()))

    @routes.post("/sign-ins/{code}", responses=REFUSALS | documented(409, 413, 415), openapi_extra={ROLE: SIGNED})
    def answer(caller: Signer, code: Code, body: shapes.SignInAnswer) -> shapes.SignInAnswered:
        """Let the browser of this code look as this account, once the digits are typed there; again gives others."""
        rates.take(caller.counted)
        digits = _digits(deps)
        with deps.store.transaction() as session:
            row = visitors.answer(
                session, code, signing(session, caller), browser=body.browser,
                address=body.address, digits=digits, now=deps.clock(),
            )  # fmt: skip
            return shapes.SignInAnswered(code=row.code, digits=digits, expires_at_unix=row.expires_at_unix)


def _digits(deps: Deps) -> str:
    number = int.from_bytes(sha256(deps.new_id().encode()).digest(), "big")
    return f"{number % 10**visitors.ANSWER_DIGITS:0{visitors.ANSWER_DIGITS}d}"


def _asked(row: DeskSignInRow) -> shapes.SignInAsked:
    return shapes.SignInAsked(
        code=row.code, browser=row.browser, address=row.address, created_at_unix=row.created_at_unix,
        expires_at_unix=row.expires_at_unix,
    )  # fmt: skip
