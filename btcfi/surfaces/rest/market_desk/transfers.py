"""Positions that change hands: consents, offers and takes, signed by their accounts' processes, and what came of them.

The words of the rounds are letters between those processes and the desk; nothing of them is asked or answered here.
"""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal, cast

from fastapi import APIRouter, Query, Response

from btcfi.adapters.store.market import transfers
from btcfi.adapters.store.market.transfer_tables import (
    ConsentState,
    TransferConsentRow,
    TransferOfferRow,
    TransferOfferState,
    TransferRow,
    TransferState,
)
from btcfi.adapters.store.market.transfers import Moment
from btcfi.adapters.store.options.views import options_of
from btcfi.adapters.store.prices.rounds import market_now
from btcfi.adapters.store.spine.database import Session
from btcfi.errors import NotFoundError
from btcfi.market.instrument import parse_instrument
from btcfi.market.transfer import decode_signed_consent, decode_signed_offer, decode_signed_take
from btcfi.surfaces.rest.auth import ROLE, Owner, Reader, Signer, signing
from btcfi.surfaces.rest.deps import ACCOUNT, READ, SIGNED, Deps
from btcfi.surfaces.rest.errors import NoDeskError
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.market_desk.own import MISSING, REFUSALS, whose
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.streams import Id

POSTED: Final = MISSING | documented(409, 413, 415)
REGTEST: Final = "regtest"
"""Where blocks come when somebody makes them: a number of them is no time."""


def add_transfers(routes: APIRouter, deps: Deps) -> None:
    """Add the routes."""
    _add_consents(routes, deps)
    _add_offers(routes, deps)

    @routes.post("/transfers/takes", status_code=201, responses=POSTED, openapi_extra={ROLE: SIGNED})
    def take_position(caller: Signer, body: shapes.SignedTransferTake, response: Response) -> shapes.Transfer:
        """Take a position that is for sale at its price, or not at all; the same take again is the same one."""
        signed = decode_signed_take(body.model_dump(mode="json"))
        with deps.store.transaction() as session:
            row = transfers.take_position(session, signing(session, caller), signed, at=_moment(session, deps))
            made = _transfer(row, caller.account)
        response.headers["Location"] = f"/api/v1/transfers/{made.id}"
        deps.submit("exchange", made.option_id)
        return made

    @routes.get("/transfers", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_transfers(caller: Owner, query: Annotated[shapes.OwnTransfers, Query()]) -> shapes.TransferPage:
        """List transfers that the account is one of the three of, newest first."""
        account, state = whose(caller, query.account), None if query.state is None else query.state.value
        with deps.store.reading() as session:
            page = transfers.transfers_of(session, account, state=state, limit=query.limit, cursor=query.cursor)
        return shapes.TransferPage(items=[_transfer(row, account) for row in page.rows], next_cursor=page.following)

    @routes.get("/transfers/{transfer_id}", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_transfer(caller: Owner, transfer_id: Id) -> shapes.Transfer:
        """Return a transfer that the account is one of the three of."""
        account = whose(caller, None)
        with deps.store.reading() as session:
            row = transfers.transfer_of(session, account, transfer_id)
        if row is None:
            raise NotFoundError("transfer", transfer_id[:64])
        return _transfer(row, account)


def _add_consents(routes: APIRouter, deps: Deps) -> None:
    @routes.post("/transfers/consents", status_code=201, responses=POSTED, openapi_extra={ROLE: SIGNED})
    def consent(caller: Signer, body: shapes.SignedTransferConsent) -> shapes.TransferConsent:
        """Let the other side of an option that the account wrote change; the same consent again is the same one."""
        signed = decode_signed_consent(body.model_dump(mode="json"))
        with deps.store.transaction() as session:
            row = transfers.post_consent(session, signing(session, caller), signed, at=_moment(session, deps))
            return _consent(row)

    @routes.get("/transfers/consents", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_consents(caller: Owner, query: Annotated[shapes.OwnConsents, Query()]) -> shapes.TransferConsentPage:
        """List the account's consents, newest first."""
        account, state = whose(caller, query.account), None if query.state is None else query.state.value
        with deps.store.reading() as session:
            page = transfers.consents_of(session, account, state=state, limit=query.limit, cursor=query.cursor)
        return shapes.TransferConsentPage(items=[_consent(row) for row in page.rows], next_cursor=page.following)

    @routes.delete("/transfers/consents/{consent_id}", responses=MISSING, openapi_extra={ROLE: SIGNED})
    def withdraw_consent(caller: Signer, consent_id: Id) -> shapes.TransferConsent:
        """Take a consent of the account back; again changes nothing, and what is under way by it goes on."""
        with deps.store.transaction() as session:
            row = transfers.withdraw_consent(session, caller.account or "", consent_id, now=deps.clock())
            return _consent(row)


def _add_offers(routes: APIRouter, deps: Deps) -> None:
    @routes.post("/transfers/offers", status_code=201, responses=POSTED, openapi_extra={ROLE: SIGNED})
    def offer_position(caller: Signer, body: shapes.SignedTransferOffer) -> shapes.TransferOffer:
        """Offer a position of the account, whole, at a firm price; the same offer again is the same one."""
        signed = decode_signed_offer(
            body.model_dump(mode="json", exclude_unset=True)
        )  # as it was sent: null is not absent
        with deps.store.transaction() as session:
            row = transfers.post_offer(session, signing(session, caller), signed, at=_moment(session, deps))
            return _offers(session, [row], caller.account, deps)[0]

    @routes.get("/transfers/offers", responses=REFUSALS | documented(404), openapi_extra={ROLE: READ})
    def positions_for_sale(
        caller: Reader, query: Annotated[shapes.PositionsForSale, Query()]
    ) -> shapes.TransferOfferPage:  # fmt: skip
        """List positions that are for sale, newest first; those for one account alone are that account's to see.

        Or the account's own offers, whatever became of them.
        """
        name = None if query.instrument is None else parse_instrument(query.instrument).name
        with deps.store.reading() as session:
            if query.own:
                own = transfers.offers_of(session, whose(caller, None), limit=query.limit, cursor=query.cursor)
                rows, following = [row for row in own.rows if name in (None, row.instrument)], own.following
            else:
                page = transfers.open_transfer_offers(
                    session, deps.clock(), account=caller.account, instrument=name, limit=query.limit,
                    cursor=query.cursor,
                )  # fmt: skip
                rows, following = [one.row for one in page.rows], page.following
            return shapes.TransferOfferPage(
                items=_offers(session, rows, caller.account, deps), next_cursor=following
            )  # fmt: skip

    @routes.delete("/transfers/offers/{offer_id}", responses=MISSING, openapi_extra={ROLE: SIGNED})
    def withdraw_position(caller: Signer, offer_id: Id) -> shapes.TransferOffer:
        """Take an offer of a position back; again changes nothing, and what is under way of it goes on."""
        with deps.store.transaction() as session:
            row = transfers.withdraw_offer(session, caller.account or "", offer_id, now=deps.clock())
            return _offers(session, [row], caller.account, deps)[0]


# ---- work


def _moment(session: Session, deps: Deps) -> Moment:
    rules, desk, now = deps.market_rules, deps.desk, deps.clock()
    if rules is None or desk is None:
        raise NoDeskError
    return Moment(
        now=now, market=market_now(session, rules.sales.feed, replay=deps.replay_clock, now=now),
        last_blocks=0 if desk.network == REGTEST else rules.offers.last_blocks,
    )  # fmt: skip


# ---- rows as they are answered


def _consent(row: TransferConsentRow) -> shapes.TransferConsent:
    return shapes.TransferConsent(
        id=row.id, option_id=row.option_id, valid_until_unix=row.valid_until_unix, number=row.number,
        state=ConsentState(row.state), created_at_unix=row.created_at_unix,
    )  # fmt: skip


def _offers(
    session: Session, rows: list[TransferOfferRow], account: str | None, deps: Deps
) -> list[shapes.TransferOffer]:  # fmt: skip
    """Return offers as an account sees them. An option's id has in it who once took what: it is its sides' alone."""
    names = {row.option_id for row in rows}
    options, until = options_of(session, names), transfers.consented_until(session, names, deps.clock())
    return [
        shapes.TransferOffer(
            id=row.id, own=row.holder == account, option_id=row.option_id if row.holder == account else None,
            instrument=row.instrument, quantity_centi_btc=row.quantity,
            collateral_sats=options[row.option_id].collateral_sats, price_sats=row.price_sats,
            sats_per_kvb=row.sats_per_kvb, valid_until_unix=row.valid_until_unix,
            consented_until_unix=until.get(row.option_id), taker=row.taker, state=TransferOfferState(row.state),
            created_at_unix=row.created_at_unix, signed=json.loads(row.body),
        )
        for row in rows
    ]  # fmt: skip


_Owner = Literal["seller", "holder", "newcomer"]


def _transfer(row: TransferRow, account: str | None) -> shapes.Transfer:
    role = None if account is None else transfers.role_in(row, account)
    return shapes.Transfer(
        id=row.id, role=cast("_Owner | None", role), option_id=row.option_id, new_option_id=row.new_option_id,
        offer_id=row.offer_id, instrument=row.instrument, quantity_centi_btc=row.quantity, price_sats=row.price_sats,
        until_unix=row.until_unix, state=TransferState(row.state), waits_for=row.said,
        fault=cast("_Owner | None", row.fault), problem=row.problem, txid=row.txid, fee_sats=row.fee_sats,
        created_at_unix=row.created_at_unix,
    )  # fmt: skip
