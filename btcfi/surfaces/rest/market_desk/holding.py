"""What an account holds, what it held, and what is offered to end it: read here, signed by its own process alone."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from btcfi.adapters.store.market import closes, views
from btcfi.adapters.store.market.tables import CloseRow, CloseState
from btcfi.adapters.store.market.transfer_tables import TransferRow, TransferState
from btcfi.adapters.store.market.transfers import transfers_by_option
from btcfi.adapters.store.options import views as options_views
from btcfi.adapters.store.options.options import terms_of
from btcfi.adapters.store.options.tables import SETTLED_OPTIONS, SettlementRow, SettlementState
from btcfi.errors import NotFoundError
from btcfi.market.instrument import instrument_of
from btcfi.surfaces.rest import reads
from btcfi.surfaces.rest.auth import ROLE, Owner
from btcfi.surfaces.rest.deps import ACCOUNT, Deps
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.market_desk.own import MISSING, whose
from btcfi.surfaces.rest.streams import Id


def add_positions(routes: APIRouter, deps: Deps) -> None:
    """Add the routes of positions."""

    @routes.get("/positions", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_positions(caller: Owner, query: Annotated[shapes.OwnPositions, Query()]) -> shapes.PositionPage:
        """List options that the account wrote or holds, newest first; or those that are over."""
        account, states = whose(caller, query.account), SETTLED_OPTIONS if query.over else views.STANDING
        with deps.store.reading() as session:
            page = views.positions(session, account, states=states, limit=query.limit, cursor=query.cursor)
            ids = [held.option.id for held in page.rows]
            closed, settled = views.agreed_closes(session, ids), options_views.settlements_by_option(session, ids)
            sold, made = (transfers_by_option(session, ids, old=old) for old in (True, False))
        items = [
            _position(
                held, _end(closed.get(held.option.id), sold.get(held.option.id), settled.get(held.option.id)),
                made.get(held.option.id),
            )
            for held in page.rows
        ]  # fmt: skip
        return shapes.PositionPage(items=items, next_cursor=page.following)


def add_closes(routes: APIRouter, deps: Deps) -> None:
    """Add the routes of offers to close."""

    @routes.get("/closes", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_closes(caller: Owner, query: Annotated[shapes.OwnCloses, Query()]) -> shapes.ClosePage:
        """List offers to close options of the account, its own and the other side's, newest first."""
        account, state = whose(caller, query.account), None if query.state is None else query.state.value
        with deps.store.reading() as session:
            page = views.closes_of(session, account, state=state, limit=query.limit, cursor=query.cursor)
            return shapes.ClosePage(items=[_close(one) for one in page.rows], next_cursor=page.following)

    @routes.get("/closes/{close_id}", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_close(caller: Owner, close_id: Id) -> shapes.Close:
        """Return an offer to close an option of the account."""
        with deps.store.reading() as session:
            found = views.close_of(session, whose(caller, None), close_id)
            if found is None:
                raise NotFoundError("offer to close", close_id[:64])
            return _close(found)


def _close(one: views.OwnClose) -> shapes.Close:
    row, offer = one.row, closes.offer_of(one.row)
    return shapes.Close(
        id=row.id, option_id=row.option_id, instrument=instrument_of(terms_of(one.option)).name,
        quantity_centi_btc=one.option.quantity_centi_btc, role=_role(one.role), offered_by=_role(one.offered_by),
        own=one.own, payout_sats=row.payout_sats, sats_per_kvb=offer.rate, valid_until_unix=row.valid_until_unix,
        state=CloseState(row.state), paid_sats=row.paid_sats, returned_sats=row.returned_sats, fee_sats=row.fee_sats,
        txid=row.txid, problem=row.problem, created_at_unix=row.created_at_unix,
    )  # fmt: skip


def _role(word: str) -> Literal["writer", "holder"]:
    return "holder" if word == "holder" else "writer"


def _position(held: views.Held, end: shapes.PositionEnd | None, made: TransferRow | None) -> shapes.Position:
    return shapes.Position(
        instrument=instrument_of(terms_of(held.option)).name, role=_role(held.role),
        take_id=None if held.take is None else held.take.id, transfer_id=None if made is None else made.id,
        option=reads.option_of(held.option), end=end,
    )  # fmt: skip


def _end(
    close: CloseRow | None, sold: TransferRow | None, settlement: SettlementRow | None
) -> shapes.PositionEnd | None:  # fmt: skip
    if close is not None:
        return shapes.PositionEnd(
            how="closed", txid=close.txid, paid_sats=close.paid_sats, returned_sats=close.returned_sats,
            fee_sats=close.fee_sats, final=close.state == CloseState.DONE,
        )  # fmt: skip
    if sold is not None:  # the writer's collateral goes on into the newcomer's option
        return shapes.PositionEnd(
            how="transferred", txid=sold.txid, paid_sats=sold.price_sats, returned_sats=None, fee_sats=sold.fee_sats,
            final=sold.state == TransferState.DONE,
        )  # fmt: skip
    if settlement is None:
        return None
    return shapes.PositionEnd(
        how="settled" if settlement.reason == "expiry" else "exercised", txid=settlement.txid,
        paid_sats=settlement.paid_sats, returned_sats=settlement.returned_sats, fee_sats=settlement.fee_sats,
        final=settlement.state == SettlementState.CONFIRMED,
    )  # fmt: skip
