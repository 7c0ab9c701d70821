"""What an account does and sees: itself, its offers, its takes, its positions; another's is not there."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from btcfi.adapters.store.market import accounts, failing, offers, takes, views
from btcfi.adapters.store.market.errors import SuspendedError
from btcfi.adapters.store.market.offers import Posted
from btcfi.adapters.store.market.tables import (
    AccountRow,
    AccountState,
    Carrier,
    Fault,
    FirmOfferRow,
    OfferState,
    TakeRow,
    TakeState,
)
from btcfi.adapters.store.options.sales import Market
from btcfi.adapters.store.prices.rounds import market_now
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.market.account import WrongSignatureError, check_registration, decode_signed_registration
from btcfi.market.firm_offer import Side, SignedOffer, check_offer, check_take, decode_signed_offer, decode_signed_take
from btcfi.options.order import read_body
from btcfi.surfaces.rest.auth import ROLE, Caller, Gate, Operator, Owner, Reader, Signer, signing
from btcfi.surfaces.rest.deps import ACCOUNT, OPERATE, READ, SIGNED, Deps
from btcfi.surfaces.rest.errors import NoDeskError
from btcfi.surfaces.rest.market import MarketReader
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.streams import Id
from btcfi.surfaces.rest.turns import Rates
from btcfi.units import UnixSeconds

REFUSALS: Final = documented(401, 403, 422, 429, 503)
MISSING: Final = REFUSALS | documented(404)


def whose(caller: Caller, asked: str | None) -> str | None:
    """Return whose things are shown; None: everybody's, to an operator. Raises NotFoundError for another's.

    asked: an account that the caller names.
    """
    if OPERATE in caller.roles:
        return asked or caller.account
    if caller.account is None or asked not in {None, caller.account}:
        raise NotFoundError("account", (asked or "of the caller")[:64], "an account's own things are its own")
    return caller.account


def add_accounts(routes: APIRouter, deps: Deps, gate: Gate) -> None:
    """Add the routes of accounts."""
    rates = Rates(deps.monotonic, each_per_minute=deps.limits.registrations_per_minute)

    @routes.post(
        "/accounts", status_code=201, responses=REFUSALS | documented(409, 413, 415), openapi_extra={ROLE: READ}
    )
    def register(caller: Reader, body: shapes.SignedRegistration, response: Response) -> shapes.Account:
        """Register an account, or the newer keys of one; the same registration again changes nothing."""
        rates.take(caller.counted)
        signed = decode_signed_registration(body.model_dump(mode="json"))
        check_registration(signed, desk=_desk_key(deps))
        with deps.store.transaction() as session:
            made = _account(accounts.register(session, signed, now=deps.clock()))
        gate.forget_account(made.identity)
        response.headers["Location"] = "/api/v1/accounts/me"
        return made

    @routes.get("/accounts", responses=REFUSALS, openapi_extra={ROLE: OPERATE})
    def all_accounts(_caller: Operator, query: Annotated[shapes.AccountQuery, Query()]) -> shapes.AccountPage:
        """List accounts, newest first."""
        with deps.store.reading() as session:
            page = views.accounts(session, limit=query.limit, cursor=query.cursor)
            return shapes.AccountPage(items=[_account(row) for row in page.rows], next_cursor=page.following)

    @routes.get("/accounts/me", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_account(caller: Owner) -> shapes.Account:
        """Return the caller's own account."""
        if caller.account is None:
            raise NotFoundError("account", "of the caller", "this caller acts for none")
        with deps.store.reading() as session:
            return _account(accounts.account(session, caller.account))


def add_offers(routes: APIRouter, deps: Deps, market: MarketReader) -> None:
    """Add the routes of offers."""

    @routes.post(
        "/offers",
        responses=REFUSALS | documented(409, 413, 415),
        # read in a thread: half a megabyte of JSON and 500 signatures would hold up everybody
        openapi_extra={ROLE: SIGNED, "requestBody": shapes.body_of(shapes.PostOffers)},
    )
    async def post_offers(caller: Signer, request: Request) -> shapes.OffersPosted:
        """Post firm offers, each of which is taken or refused for itself; the same offer again changes nothing."""
        seen = await market.newest()
        return await run_in_threadpool(_post_offers, deps, caller, seen, bytes(request.state.body))

    @routes.get("/offers", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_offers(caller: Owner, query: Annotated[shapes.OwnOffers, Query()]) -> shapes.OfferPage:
        """List the account's offers, newest first."""
        account, state = whose(caller, query.account), None if query.state is None else query.state.value
        with deps.store.reading() as session:
            page = views.offers_of(session, account, state=state, limit=query.limit, cursor=query.cursor)
        return shapes.OfferPage(items=[_offer(row, deps.clock()) for row in page.rows], next_cursor=page.following)

    @routes.delete("/offers", responses=REFUSALS, openapi_extra={ROLE: SIGNED})
    def withdraw_all(caller: Signer, query: Annotated[shapes.WhichOffers, Query()]) -> shapes.OffersWithdrawn:
        """Withdraw every offer of the account that is open; what was taken of them stays taken.

        With `up_to_number` a repeat of the request ends nothing that was posted since.
        """
        with deps.store.transaction() as session:
            withdrawn = offers.withdraw_offers(
                session, caller.account or "", None, now=deps.clock(), up_to=query.up_to_number
            )
        return shapes.OffersWithdrawn(withdrawn=withdrawn)

    @routes.delete("/offers/{offer_id}", responses=MISSING, openapi_extra={ROLE: SIGNED})
    def withdraw_one(caller: Signer, offer_id: Id) -> shapes.OffersWithdrawn:
        """Withdraw an offer of the account; again changes nothing, and what was taken of it stays taken."""
        with deps.store.transaction() as session:
            row = offers.known_offer(session, offer_id)
            if row is None or row.account_id != caller.account:  # one answer for both: whose it is is nobody's business
                raise NotFoundError("offer", offer_id[:64], "GET /api/v1/offers lists the account's own")
            withdrawn = offers.withdraw_offers(session, caller.account, [offer_id], now=deps.clock())
        return shapes.OffersWithdrawn(withdrawn=withdrawn)


def add_takes(routes: APIRouter, deps: Deps, market: MarketReader) -> None:
    """Add the routes of takes, and of what became of them."""

    @routes.post("/takes", status_code=201, responses=MISSING | documented(409, 413, 415), openapi_extra={ROLE: SIGNED})
    async def post_take(caller: Signer, body: shapes.SignedTake, response: Response) -> shapes.Take:
        """Take an offer at its price, or not at all; the same take again is the same one."""
        seen = await market.newest()
        made = await run_in_threadpool(_take, deps, caller, seen, body)
        response.headers["Location"] = f"/api/v1/takes/{made.id}"
        deps.submit("exchange", made.option_id)
        return made

    @routes.get("/takes", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_takes(caller: Owner, query: Annotated[shapes.OwnQuery, Query()]) -> shapes.TakePage:
        """List takes that the account made, or that were made of its offers, newest first."""
        account = whose(caller, query.account)
        with deps.store.reading() as session:
            page = views.takes_of(session, account, limit=query.limit, cursor=query.cursor)
        return shapes.TakePage(items=[_taken(row) for row in page.rows], next_cursor=page.following)

    @routes.get("/takes/{take_id}", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_take(caller: Owner, take_id: Id) -> shapes.Take:
        """Return a take that the account made, or that was made of an offer of its own."""
        with deps.store.reading() as session:
            row = views.take_of(session, whose(caller, None), take_id)
        if row is None:
            raise NotFoundError("take", take_id[:64])
        return _taken(row)

    @routes.delete("/takes/{take_id}", responses=MISSING | documented(409), openapi_extra={ROLE: SIGNED})
    def cancel_take(caller: Signer, take_id: Id) -> shapes.Take:
        """Cancel a take of the account, or of an offer of its, before both have signed; again changes nothing.

        It fails by the fault of who cancels it.
        """
        with deps.store.transaction() as session:
            row = views.take_of(session, caller.account or "", take_id)
            if row is None:
                raise NotFoundError("take", take_id[:64])
            cancelled = _taken(failing.cancel(session, row, caller.account or "", now=deps.clock()))
        deps.submit("exchange", cancelled.option_id)
        return cancelled

    @routes.get("/fills", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_fills(caller: Owner, query: Annotated[shapes.OwnQuery, Query()]) -> shapes.TakePage:
        """List takes of the account that have not failed, newest first."""
        account = whose(caller, query.account)
        with deps.store.reading() as session:
            page = views.fills(session, account, limit=query.limit, cursor=query.cursor)
        return shapes.TakePage(items=[_taken(row) for row in page.rows], next_cursor=page.following)


# ---- work


def _desk_key(deps: Deps) -> bytes:
    if deps.desk is None:
        raise NoDeskError
    return deps.desk.public.desk_key


def _post_offers(deps: Deps, caller: Caller, seen: Market, raw: bytes) -> shapes.OffersPosted:
    """Check every signature, then store what is left in one transaction. Raises BtcfiError for the whole."""
    if deps.market_rules is None:
        raise NoDeskError
    if caller.suspended:
        raise SuspendedError((caller.account or "")[:16])
    given = _given(read_body(raw))
    desk, maker, key = _desk_key(deps), bytes.fromhex(caller.account or ""), bytes.fromhex(caller.request_key)
    results: list[shapes.OfferPosted | None] = []
    good: list[SignedOffer] = []
    for one in given:
        offer = _checked(one, desk=desk, maker=maker, key=key)
        if isinstance(offer, SignedOffer):
            good.append(offer)
            results.append(None)
        else:
            results.append(offer)
    posted: list[Posted] = []
    if good:
        with deps.store.transaction() as session:
            row = signing(session, caller)
            posted = offers.post_offers(
                session, row, good, rule=deps.market_rules.offers, market=seen, now=deps.clock()
            )  # fmt: skip
    rest = iter(posted)
    return shapes.OffersPosted(results=[one if one is not None else _posted(next(rest)) for one in results])


def _given(body: object) -> list[object]:
    expected = f"a list of 1 to {shapes.MOST_OFFERS} signed offers, and nothing beside it"
    given = body.get("offers") if isinstance(body, dict) and body.keys() == {"offers"} else None
    if not isinstance(given, list):
        raise InvalidInputError("offers", "missing, or something beside it", expected)
    if not 1 <= len(given) <= shapes.MOST_OFFERS:
        raise InvalidInputError("offers", f"{len(given)} offers", expected)
    return given


def _checked(one: object, *, desk: bytes, maker: bytes, key: bytes) -> SignedOffer | shapes.OfferPosted:
    """Return an offer that this account has signed for this desk, or why it is none."""
    name: str | None = None
    try:
        signed = decode_signed_offer(one)
        name = signed.offer.id.hex()
        if signed.offer.maker != maker:
            raise InvalidInputError("maker", signed.offer.maker.hex()[:16], f"{maker.hex()}, the caller")  # noqa: TRY301
        if signed.offer.desk != desk:
            raise InvalidInputError("desk", signed.offer.desk.hex()[:16], f"{desk.hex()}, this service's key")  # noqa: TRY301
        check_offer(signed, key)
    except InvalidInputError as e:
        return shapes.OfferPosted(id=name, state=None, problem=str(e), field=e.field)
    except WrongSignatureError as e:
        return shapes.OfferPosted(id=name, state=None, problem=str(e), field="signature")
    except BtcfiError as e:  # one offer's trouble is no other's
        return shapes.OfferPosted(id=name, state=None, problem=str(e), field=None)
    return signed


def _take(deps: Deps, caller: Caller, seen: Market, body: shapes.SignedTake) -> shapes.Take:
    if deps.market_rules is None:
        raise NoDeskError
    if caller.suspended:
        raise SuspendedError((caller.account or "")[:16])
    signed = decode_signed_take(body.model_dump(mode="json", exclude_unset=True))  # as it was sent: null is not absent
    if signed.take.taker.hex() != caller.account:
        raise InvalidInputError("taker", signed.take.taker.hex()[:16], f"{caller.account}, the caller")
    check_take(signed, bytes.fromhex(caller.request_key))
    wall = deps.clock()
    rule = deps.market_rules.sales
    with deps.store.transaction() as session:
        signing(session, caller)
        now = market_now(session, rule.feed, replay=deps.replay_clock, now=wall)
        return _taken(takes.take(session, signed, rule=rule, now=now, wall=wall, before=seen))


# ---- rows as they are answered


def _account(row: AccountRow) -> shapes.Account:
    return shapes.Account(
        identity=row.id, name=row.name, request_key=row.request_key, box_key=row.box_key, number=row.number,
        carrier=Carrier(row.carrier), state=AccountState(row.state), requests_per_minute=row.requests_per_minute,
        joined_at_unix=row.joined_at_unix,
    )  # fmt: skip


def _posted(one: Posted) -> shapes.OfferPosted:
    state = None if one.state is None else OfferState(one.state)
    return shapes.OfferPosted(id=one.offer_id, state=state, problem=one.problem, field=one.field)


def _offer(row: FirmOfferRow, now: UnixSeconds) -> shapes.OwnOffer:
    at = offers.price_now(row, now)
    return shapes.OwnOffer(
        id=row.id, account=row.account_id, instrument=row.instrument, side=Side(row.side), price_sats=at.price_sats,
        price_cents=at.price_cents, request_id=row.request_id, step=at.step, moves_at_unix=at.moves_at_unix,
        quantity_centi_btc=row.quantity, remaining_centi_btc=row.remaining,
        minimum_centi_btc=row.minimum, valid_until_unix=row.valid_until_unix, taker=row.taker, number=row.number,
        state=OfferState(row.state), created_at_unix=row.created_at_unix,
    )  # fmt: skip


def _taken(row: TakeRow) -> shapes.Take:
    return shapes.Take(
        id=row.id, option_id=row.option_id, offer_id=row.offer_id, maker=row.maker, taker=row.taker,
        instrument=row.instrument, side=Side(row.side), quantity_centi_btc=row.quantity, price_sats=row.price_sats,
        price_cents=row.price_cents, state=TakeState(row.state), fault=None if row.fault is None else Fault(row.fault),
        problem=row.problem, created_at_unix=row.created_at_unix, checked_at_unix=row.checked_at_unix,
    )  # fmt: skip
