"""Takes: one transaction each, from the offer's quantity to the option that both signed texts make.

Locks are taken in one order: the option, its contract, the take, a request, the counter of ranks, offers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, or_, select
from sqlmodel import Session, col

from btcfi.adapters.store.market.accounts import account
from btcfi.adapters.store.market.errors import OfferGoneError, StepAheadError, SuspendedError
from btcfi.adapters.store.market.offers import (
    find_offer,
    give_back,
    locked_offer,
    lose_rank,
    offer_of,
    reserve,
)
from btcfi.adapters.store.market.requests import fill, locked_request
from btcfi.adapters.store.market.tables import (
    PENDING_TAKES,
    AccountState,
    Fault,
    FirmOfferRow,
    OfferState,
    TakeRow,
    TakeState,
)
from btcfi.adapters.store.options.backlog import BacklogFullError, refuse_above
from btcfi.adapters.store.options.cancelling import cancel_sale
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.options import NoPriceYetError, Owners, store_option
from btcfi.adapters.store.options.tables import (
    LOCKED_OPTIONS,
    SETTLED_OPTIONS,
    OptionRow,
)
from btcfi.adapters.store.spine.database import clock_of
from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all, record
from btcfi.documents import printable
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.firm_offer import Deal, SignedTake, deal_of, early_by, encode_signed_take
from btcfi.options.terms import validate_terms
from btcfi.units import UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.store.options.sales import Market, SaleRule

MAX_PROBLEM: Final = 300
"""Characters of why a take failed, which may repeat what somebody else wrote."""


MOST_UNANSWERED: Final = 64
"""Takes of one account that nobody has signed yet: each fills the backlog of all, and costs its taker nothing."""


def take(
    session: Session, signed: SignedTake, *, rule: SaleRule, now: UnixSeconds, wall: UnixSeconds,
    before: Market | None = None,
) -> TakeRow:  # fmt: skip
    """Take a quantity of an offer, and make the option of it; the same take again is the one that it made.

    The caller has checked the signature. now: the market's clock. wall: the wall's, by which offers and takes hold.
    before: a market of this rule that was read a moment ago, as ``read_market`` has it. Raises NotFoundError,
    OfferGoneError, StepAheadError, SuspendedError, InvalidInputError and InvalidTermsError naming the field,
    NoPriceYetError, UnfitPriceError, BacklogFullError.
    """
    wanted, name = signed.take, signed.take.id.hex()
    if (known := session.get(TakeRow, name)) is not None:
        return known
    row = find_offer(session, wanted.offer_id.hex())
    offered = offer_of(row).offer
    deal = deal_of(offered, wanted)
    if early := early_by(offered, wanted, wall):
        raise StepAheadError(row.id, wanted.step or 0, early)
    if wanted.valid_until <= wall:
        raise InvalidInputError("take.valid_until", f"{wall - wanted.valid_until} s ago", "a second in the future")
    if (taker := account(session, wanted.taker.hex())).state != AccountState.OPEN:
        raise SuspendedError(taker.name)
    _refuse_flood(session, taker.id)
    market = _fit_market(session, deal, rule, now=now, wall=wall, before=before)
    refuse_above(session, rule.max_backlog)
    asked = None if row.request_id is None else locked_request(session, row.request_id)
    row = locked_offer(session, row.id)
    if (known := session.get(TakeRow, name, populate_existing=True)) is not None:
        return known  # the same one came by another door meanwhile
    if row.valid_until_unix <= wall:
        raise OfferGoneError(row.id, f"has lapsed {wall - row.valid_until_unix} s ago")
    reserve(session, row, wanted.quantity, now=wall)
    made = _store(session, signed, row, deal, market=market, rule=rule, now=now, wall=wall)
    if asked is not None:
        fill(session, asked, now=wall)
    return made


def _refuse_flood(session: Session, taker: str) -> None:
    query = select(func.count()).select_from(TakeRow)
    waiting = session.execute(query.where(col(TakeRow.taker) == taker, col(TakeRow.state) == TakeState.TAKEN))
    if (many := int(waiting.scalar_one())) >= MOST_UNANSWERED:
        raise BacklogFullError("takes of yours", many, MOST_UNANSWERED)


def _fit_market(
    session: Session, deal: Deal, rule: SaleRule, *, now: UnixSeconds, wall: UnixSeconds, before: Market | None
) -> Market:
    """Return the market that a deal may be made in, as any sale. Raises NoPriceYetError and as ``take``."""
    from btcfi.adapters.store.options.sales import read_market  # noqa: PLC0415 - numpy, which only taking needs

    market = read_market(session, rule, now=now, before=before)
    if market is None:
        raise NoPriceYetError(rule.feed)
    market.raise_if_unfit(now=now, wall=wall)
    validate_terms(deal.terms, now=now, spot=market.spot)
    if (refusal := rule.refusal(deal.terms)) is not None:
        raise refusal
    return market


def _store(
    session: Session, signed: SignedTake, offer: FirmOfferRow, deal: Deal, *, market: Market, rule: SaleRule,
    now: UnixSeconds, wall: UnixSeconds,
) -> TakeRow:  # fmt: skip
    wanted = signed.take
    name = wanted.id.hex()
    owners = Owners(writer=deal.seller.hex(), holder=deal.buyer.hex(), take_id=name)
    store_option(
        session, wanted.option_id, deal.terms, rule.feed, premium=deal.premium, volatility=market.volatility,
        rate=rule.rate_bps, preset=rule.preset, preset_sha256=rule.preset_sha256, program=rule.program,
        program_sha256=rule.program_sha256, listed=market.slot, now=now, owners=owners,
    )  # fmt: skip
    session.flush()
    row = TakeRow(
        id=name, option_id=wanted.option_id, offer_id=offer.id, maker=offer.account_id,
        taker=wanted.taker.hex(), quantity=wanted.quantity, instrument=offer.instrument, side=offer.side,
        price_sats=wanted.price, price_cents=wanted.price_cents, body=json.dumps(encode_signed_take(signed)),
        created_at_unix=wall, created_ms=_milliseconds(session), updated_at_unix=wall,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "take", row.id, TakeState.TAKEN, now=wall, detail=f"option {row.option_id}")
    return row


def _milliseconds(session: Session) -> int:
    return int(clock_of(session) * 1_000)


# ---- going on


def take_of_option(session: Session, option_id: str) -> TakeRow | None:
    """Return the take that made an option; None of an option that none made."""
    query = select(TakeRow).where(col(TakeRow.option_id) == option_id)
    row: TakeRow | None = session.execute(query).scalar_one_or_none()
    return row


def mark_checked(session: Session, option_id: str, *, now: UnixSeconds) -> bool:
    """Note that both sides' signatures of an option's take were checked, and return whether that is new."""
    row = take_of_option(session, option_id)
    if row is None or row.state != TakeState.TAKEN:
        return False
    changes = {"checked_at_unix": now, "checked_ms": _milliseconds(session)}
    return cross(session, row, TakeState.CHECKED, now=now, changes=changes)


def mark_funded(session: Session, option_id: str, *, now: UnixSeconds) -> bool:
    """Note that an option's take is funded, and return whether that is new."""
    row = take_of_option(session, option_id)
    return row is not None and row.state in PENDING_TAKES and cross(session, row, TakeState.FUNDED, now=now)


def follow(session: Session, *, now: UnixSeconds) -> int:
    """Note of takes that are pending what the chain or the buyer's message has funded; return how many.

    A buyer may send its funding by itself, and tell nobody.
    """
    on_chain = col(OptionRow.state).in_((*LOCKED_OPTIONS, *SETTLED_OPTIONS))
    query = (
        select(TakeRow)
        .join(OptionRow, col(OptionRow.id) == col(TakeRow.option_id))
        .outerjoin(ContractRow, col(ContractRow.option_id) == col(TakeRow.option_id))
        .where(col(TakeRow.state).in_(PENDING_TAKES), or_(on_chain, col(ContractRow.state) == ContractState.FUNDED))
    )
    crossings = [Crossing(row=row) for row in session.execute(query.order_by(col(TakeRow.id))).scalars()]
    return len(cross_all(session, crossings, TakeState.FUNDED, now=now))


def follow_given_up(session: Session, *, now: UnixSeconds) -> int:
    """Note that takes are funded which have failed, and whose contract a block holds after all; return how many.

    What had spent a coin of them was reorganised away. What the failure cost its maker stays.
    """
    query = (
        select(TakeRow)
        .join(ContractRow, col(ContractRow.option_id) == col(TakeRow.option_id))
        .where(col(TakeRow.state) == TakeState.FAILED, col(ContractRow.state) == ContractState.FUNDED)
    )
    rows = session.execute(query.order_by(col(TakeRow.id))).scalars()
    crossings = [Crossing(row=row, changes={"fault": None, "problem": None}) for row in rows]
    return len(cross_all(session, crossings, TakeState.FUNDED, now=now))


def fail_take(
    session: Session, option_id: str, *, fault: str, problem: str, now: UnixSeconds, dead: bool = False
) -> TakeRow:  # fmt: skip
    """Take a take back: its sale is cancelled, its quantity is the offer's again; again changes nothing.

    fault: whose it is. A maker's offer is broken by it, and all its others stand behind everybody's. dead: that the
    caller has seen on the chain that the funding can confirm no more; then also what both have signed is taken back.
    Raises NotFoundError for an option that no take made, NotCancellableError.
    """
    found = take_of_option(session, option_id)
    if found is None:
        raise NotFoundError("take", f"of option {option_id}", "`btcfi market takes` shows them")
    if found.state == TakeState.FAILED:
        return found
    by = Fault(fault)
    cancel_sale(session, option_id, by=f"the {by} of its take", now=now, dead=dead)
    row = session.get_one(TakeRow, found.id, with_for_update=True, populate_existing=True)
    changes = {"fault": by.value, "problem": printable(problem, MAX_PROBLEM)}
    if row.state == TakeState.FAILED or not cross(session, row, TakeState.FAILED, now=now, changes=changes):
        return row
    if by is Fault.MAKER:
        lose_rank(session, row.maker, now=now)
    offer = locked_offer(session, row.offer_id)
    if by is Fault.MAKER and offer.state != OfferState.BROKEN:
        cross(session, offer, OfferState.BROKEN, now=now, detail=f"take {row.id[:16]}")
    give_back(session, offer, row.quantity, now=now)
    return row
