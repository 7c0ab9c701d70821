"""What the API says of the store's rows; what is found, and by which index, stands in the store's views."""

from __future__ import annotations

from collections.abc import Sequence

from btcfi.adapters.store.options import views as options_views
from btcfi.adapters.store.options.tables import OptionRow, OptionState, PremiumRow, SettlementRow, SettlementState
from btcfi.adapters.store.options.views import Sight, WhichOptions, WhichSettlements
from btcfi.adapters.store.prices import views as prices_views
from btcfi.adapters.store.prices.pauses import pause_of
from btcfi.adapters.store.prices.rounds import market_time
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.spine.database import Session
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.errors import NotFoundError
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.oracle.freshness import expires_at, market_status
from btcfi.surfaces.fee_view import FeeView, fee_view
from btcfi.surfaces.rest import schemas
from btcfi.surfaces.rest.deps import Deps
from btcfi.surfaces.rest.errors import NotProvenError
from btcfi.units import Slot, UnixSeconds


def option_of(row: OptionRow) -> schemas.Option:
    """Return the outside's view of an option."""
    return schemas.Option(
        id=row.id,
        state=OptionState(row.state),
        type=schemas.OptionType(OptionKind(row.kind).label),
        strike_cents=row.strike_cents,
        quantity_centi_btc=row.quantity_centi_btc,
        barrier_cents=row.barrier_cents,
        american=row.american,
        expiry_unix=row.expiry_unix,
        fixing=row.fixing or str(MINUTE),
        premium_cents=row.premium_cents,
        premium_sats=row.premium_sats,
        collateral_sats=row.collateral_sats,
        taproot_address=row.address,
        funding_txid=row.funding_txid,
        created_at_unix=row.created_at_unix,
    )


def settlement_of(row: SettlementRow, *, option: OptionRow, child_fee: int | None) -> schemas.Settlement:
    """Return the outside's view of a settlement of ``option``; child_fee: of the service's child that stands."""
    return schemas.Settlement(
        id=row.id,
        option_id=row.option_id,
        state=SettlementState(row.state),
        reason=row.reason,
        slot_unix=row.slot,
        price_cents=row.price_cents,
        payout_cents=row.payout_cents,
        payout_sats=row.payout_sats,
        steps=row.steps,
        proof_root=row.proof_root,
        txid=row.txid,
        attempts=row.attempts,
        last_error=row.last_error,
        updated_at_unix=row.updated_at_unix,
        paid_sats=row.paid_sats,
        returned_sats=row.returned_sats,
        anchor_sats=options_views.anchor_of(row, option),
        fee_sats=row.fee_sats,
        child_fee_sats=child_fee,
    )


def settlements_of(session: Session, rows: Sequence[SettlementRow]) -> list[schemas.Settlement]:
    """Return the outside's view of settlements, each with what its child costs."""
    ids = [row.option_id for row in rows]
    options, fees = options_views.options_of(session, ids), options_views.child_fees(session, ids)
    return [settlement_of(row, option=options[row.option_id], child_fee=fees.get(row.option_id)) for row in rows]


def premium_of(row: PremiumRow) -> schemas.StoredPremium:
    """Return the outside's view of a stored premium."""
    return schemas.StoredPremium(slot_unix=row.slot, **row.model_dump(exclude={"slot"}))


def price_of(row: RoundRow) -> schemas.Price:
    """Return the outside's view of a priced round."""
    report = prices_views.report_of(row)
    return schemas.Price(
        slot_unix=row.slot, price_cents=row.price_cents or 0, low_cents=row.low_cents, high_cents=row.high_cents,
        confidence_cents=report.get("confidence"), publishers=len(report.get("used", ())),
        dollar_markets=report.get("dollar_markets"), reach_cents=report.get("reach"),
        thin=list(report.get("thin", ())), expires_at_unix=expires_at(Slot(row.slot)),
    )  # fmt: skip


def latest_price(session: Session, feed: str, *, replay: bool, now: UnixSeconds) -> schemas.LatestPrice:
    """Return the newest priced round, and whether it may still be used at ``now``. Raises NotFoundError before any."""
    newest = prices_views.newest_priced(session, feed)
    if newest is None:
        raise NotFoundError("price of feed", feed, "no minute has been priced")
    shown, at = price_of(newest), Slot(newest.slot)
    status = market_status(
        at, thin=shown.thin, halted=pause_of(session, feed) is not None, now=market_time(at, replay=replay, now=now),
        closed_at=newest.closed_at_unix, wall=now,
    )  # fmt: skip
    return schemas.LatestPrice(**shown.model_dump(), market_status=status.value)


def settlement_events_of(
    session: Session, rows: Sequence[EventRow], sight: Sight
) -> list[schemas.SettlementEvent]:  # fmt: skip
    """Return the outside's view of edges of settlements, of those alone that somebody may see."""
    known = options_views.settlements_of(session, {row.entity_id for row in rows})
    options = options_views.options_of(session, {row.option_id for row in known.values()})
    found = []
    for row in rows:
        at = known.get(row.entity_id)
        if not sight.everything and (at is None or not sight.sees(options[at.option_id])):
            continue
        payout, paid = (None, None) if at is None else (at.payout_sats, at.paid_sats)
        event = row.model_dump(exclude={"fence"})
        found.append(schemas.SettlementEvent(**event, payout_sats=payout, paid_sats=paid))
    return found


def option(session: Session, option_id: str, sight: Sight) -> OptionRow:
    """Return an option's row. Raises NotFoundError, also for one that is not to be seen."""
    row = options_views.option(session, option_id)
    if row is None or not sight.sees(row):
        raise NotFoundError("option", option_id)
    return row


def settlement(session: Session, settlement_id: str, sight: Sight) -> SettlementRow:
    """Return a settlement's row. Raises NotFoundError, also for one that is not to be seen."""
    row = options_views.settlement(session, settlement_id)
    if row is None or not sight.sees(options_views.options_of(session, [row.option_id])[row.option_id]):
        raise NotFoundError("settlement", settlement_id)
    return row


def stored_premium(session: Session, option_id: str, sight: Sight) -> PremiumRow:
    """Return the newest stored premium of an option. Raises NotFoundError."""
    option(session, option_id, sight)
    row = options_views.premium(session, option_id)
    if row is None:
        raise NotFoundError("premium of option", option_id, "it is stored with the next priced minute")
    return row


def proof_bytes(session: Session, settlement_id: str, sight: Sight) -> tuple[bytes, str]:
    """Return a settlement's proof file and its SHA-256. Raises NotFoundError, NotProvenError."""
    row = settlement(session, settlement_id, sight)
    blob = options_views.proof_file(session, row)
    if blob is None:
        raise NotProvenError(settlement_id, row.state)
    return bytes(blob.body), blob.sha256


def options(
    session: Session, *, feed: str, which: WhichOptions, limit: int, cursor: str | None
) -> schemas.OptionPage:  # fmt: skip
    """Return one page of options, newest first. Raises NoSuchPageError."""
    page = options_views.option_page(session, feed, which, limit=limit, cursor=cursor)
    return schemas.OptionPage(items=[option_of(row) for row in page.rows], next_cursor=page.following)


def settlements(
    session: Session, *, which: WhichSettlements, limit: int, cursor: str | None
) -> schemas.SettlementPage:  # fmt: skip
    """Return one page of settlements, newest first. Raises NoSuchPageError."""
    page = options_views.settlement_page(session, which, limit=limit, cursor=cursor)
    return schemas.SettlementPage(items=settlements_of(session, page.rows), next_cursor=page.following)


def prices(
    session: Session, *, feed: str, start: int, end: int, limit: int, cursor: str | None
) -> schemas.PricePage:  # fmt: skip
    """Return one page of agreed minutes from ``start`` to before ``end``, newest first. Raises NoSuchPageError."""
    page = prices_views.price_page(session, feed, start=start, end=end, limit=limit, cursor=cursor)
    return schemas.PricePage(items=[price_of(row) for row in page.rows], next_cursor=page.following)


def fees(deps: Deps) -> schemas.Fees:
    """Return the fee market and what of ours waits for it."""
    return fees_of(fee_view(deps.store, deps.pool, deps.fee_rule))


def fees_of(seen: FeeView) -> schemas.Fees:
    """Return a view of the fee market as it is answered, by the command line too."""
    market = seen.market
    return schemas.Fees(
        tip_height=seen.tip,
        pool_problem=seen.problem or None,
        pool_transactions=None if market is None else market.size.transactions,
        pool_vbytes=None if market is None else market.size.vsize,
        relay_sats_per_kvb=None if market is None else market.size.relay_fee,
        estimates=[
            schemas.FeeEstimate(blocks=blocks, sats_per_kvb=rate)
            for blocks, rate in (() if market is None else market.estimates.items())
        ],
        next_blocks=[
            schemas.NextBlock(
                number=one.number, transactions=one.transactions, vbytes=one.vsize, lowest_sats_per_kvb=one.lowest,
                middle_sats_per_kvb=one.middle, highest_sats_per_kvb=one.highest, full=one.full,
            )
            for one in (() if market is None else market.blocks)
        ],
        share_vbytes=seen.payments.share,
        settlements_in_flight=seen.payments.in_flight,
        deadlines=[
            schemas.DeadlinePayments(
                refund_height=one.refund_height, waiting=one.waiting, in_flight=one.in_flight, put_off=one.put_off,
                last_turn=one.last_turn, late=one.late, collateral_sats=one.collateral_sats,
            )
            for one in seen.payments.deadlines
        ],
    )  # fmt: skip
