"""Firm offers: posted in batches, withdrawn, expired, and their place in the order of time.

Whoever posts or loses its rank takes the one counter of ranks first and holds it to its commit: offers become visible
in the order of their ranks, and what a batch was checked against is still so when it is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, delete, func, insert, literal_column, or_, select, update
from sqlmodel import Session, col

from btcfi.adapters.store.market.errors import OfferGoneError
from btcfi.adapters.store.market.tables import (
    AccountRow,
    AccountState,
    FirmOfferRow,
    OfferState,
    QuoteRequestRow,
    RequestState,
    TakeRow,
)
from btcfi.adapters.store.spine.edges import Crossing, cross, cross_all, record_all, upsert
from btcfi.adapters.store.spine.tables import CounterRow, EventRow
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.market.firm_offer import FirmOffer, OfferRule, SignedOffer, decode_signed_offer, encode_signed_offer
from btcfi.market.request import decode_signed_request
from btcfi.options.terms import InvalidTermsError, validate_terms
from btcfi.units import Cents, UnixSeconds

if TYPE_CHECKING:
    from btcfi.adapters.store.options.sales import Market

RANKS: Final = "offer_ranks"
"""The counter that numbers offers in the order of their posting."""

AT_ONCE: Final = 5_000
"""Offers that one transaction expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What became of one offer of a batch."""

    offer_id: str
    state: str | None
    """Of the offer as it stands now; None where it was refused."""
    problem: str | None = None
    """Why it was refused, and what would be right; None where it was not."""
    field: str | None = None
    """Of the offer, which is wrong."""


def still_open(*, now: UnixSeconds | None = None) -> ColumnElement[bool]:
    """Return the condition that an offer is open, as the partial indexes have it.

    now: and that it has not lapsed; an auction, that it has begun.
    """
    # a literal: neither database takes a partial index for a parameter that it does not know yet
    is_open: ColumnElement[bool] = col(FirmOfferRow.state) == literal_column("'open'")
    if now is None:
        return is_open
    begun = or_(col(FirmOfferRow.begins_unix).is_(None), col(FirmOfferRow.begins_unix) <= now)
    return is_open & (col(FirmOfferRow.valid_until_unix) > now) & begun


def offer_of(row: FirmOfferRow) -> SignedOffer:
    """Return what the maker signed."""
    return decode_signed_offer(json.loads(row.body))


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceNow:
    """What an offer costs at a second, for one bitcoin."""

    price_sats: int
    price_cents: int
    step: int | None
    """Of an auction that has begun."""
    moves_at_unix: int | None
    """When the next step begins, the first one too; None where nothing moves any more."""


def price_now(row: FirmOfferRow, now: UnixSeconds) -> PriceNow:
    """Return what an offer costs: of an auction what its maker signed for this second, however late our tick is."""
    if row.begins_unix is None:
        return PriceNow(price_sats=row.price_sats, price_cents=row.price_cents, step=None, moves_at_unix=None)
    offer = offer_of(row).offer
    price, price_cents = offer.prices(_shown_step(offer, now))
    return PriceNow(
        price_sats=price, price_cents=price_cents, step=offer.step_at(now),
        moves_at_unix=None if offer.auction is None else offer.auction.moves_at(now),
    )  # fmt: skip


def known_offer(session: Session, offer_id: str) -> FirmOfferRow | None:
    """Return an offer; None where nobody has posted it."""
    row: FirmOfferRow | None = session.get(FirmOfferRow, offer_id)
    return row


def find_offer(session: Session, offer_id: str) -> FirmOfferRow:
    """Return an offer. Raises NotFoundError."""
    row = session.get(FirmOfferRow, offer_id)
    if row is None:
        raise NotFoundError("offer", offer_id[:64], "`btcfi market book INSTRUMENT` shows what stands")
    return row


def locked_offer(session: Session, offer_id: str) -> FirmOfferRow:
    """Return an offer as it is now, to this transaction alone. Raises NotFoundError."""
    find_offer(session, offer_id)
    query = select(FirmOfferRow).where(col(FirmOfferRow.id) == offer_id).with_for_update(key_share=True)
    row: FirmOfferRow = session.execute(query, execution_options={"populate_existing": True}).scalar_one()
    return row


# ---- posting


def post_offers(
    session: Session, account: AccountRow, offers: Sequence[SignedOffer], *, rule: OfferRule, market: Market,
    now: UnixSeconds,
) -> list[Posted]:  # fmt: skip
    """Store an account's offers, each refused or taken by itself, and return what became of them, in their order.

    The caller has checked their signatures. The same offer again changes nothing. now: the wall clock. market: whose
    price tells whether an offer's two prices are one, and whose minute whether its instrument is over.
    """
    ids = [one.offer.id.hex() for one in offers]
    desk = json.loads(account.registration)["desk"]
    refused: dict[int, InvalidInputError] = {}
    fit: dict[str, int] = {}
    asked = _asked(session, offers)
    for place, (name, one) in enumerate(zip(ids, offers, strict=True)):
        problem = _unfit(account, desk, one, rule, market=market, now=now) or _no_answer(one, asked, now=now)
        if problem is not None:
            refused[place] = problem
        else:
            fit.setdefault(name, place)
    states, refusals = _store(session, account, {name: offers[place] for name, place in fit.items()}, rule, now)
    return [
        _posted(name, states.get(name), refused.get(place) or refusals.get(name)) for place, name in enumerate(ids)
    ]  # fmt: skip


def _posted(name: str, state: str | None, problem: InvalidInputError | None) -> Posted:
    if problem is None:
        return Posted(offer_id=name, state=state)
    return Posted(offer_id=name, state=None, problem=str(problem), field=problem.field)


def _unfit(
    account: AccountRow, desk: str, signed: SignedOffer, rule: OfferRule, *, market: Market, now: UnixSeconds
) -> InvalidInputError | None:
    offer = signed.offer
    if offer.maker.hex() != account.id:
        return InvalidInputError("maker", offer.maker.hex()[:16], f"{account.id[:16]}, who posts it")
    if offer.desk.hex() != desk:
        return InvalidInputError("desk", offer.desk.hex()[:16], f"{desk[:16]}, this service's key")
    if account.state != AccountState.OPEN:
        return InvalidInputError("maker", f"the account {account.name} is {account.state}", "an open account")
    if offer.instrument.expiry <= market.slot:
        return InvalidInputError("instrument", f"{offer.instrument.name} is over", "an expiry in the future")
    return rule.refusal(offer, now=now, spot=market.spot) or _untakeable(offer, market)


def _untakeable(offer: FirmOffer, market: Market) -> InvalidInputError | None:
    """Return why nobody may take an offer, as far as its instrument says: it would stand before what can be taken."""
    try:
        validate_terms(offer.instrument.terms(offer.minimum, Cents(0)), now=UnixSeconds(market.slot), spot=market.spot)
    except InvalidTermsError as e:
        return InvalidInputError("instrument", f"{offer.instrument.name}: {e.field} {e.problem}", e.expected)
    return None


def _asked(session: Session, offers: Sequence[SignedOffer]) -> dict[str, QuoteRequestRow]:
    """Return the requests that offers name, held as they are until this transaction ends."""
    wanted = sorted({one.offer.request.hex() for one in offers if one.offer.request is not None})
    if not wanted:
        return {}
    query = select(QuoteRequestRow).where(col(QuoteRequestRow.id).in_(wanted)).order_by(col(QuoteRequestRow.id))
    held = query.with_for_update(read=True)
    return {row.id: row for row in session.execute(held, execution_options={"populate_existing": True}).scalars()}


def _no_answer(
    signed: SignedOffer, asked: Mapping[str, QuoteRequestRow], *, now: UnixSeconds
) -> InvalidInputError | None:
    """Return why an offer is no answer to the request that it names, None where it is one, or names none."""
    offer = signed.offer
    if offer.request is None:
        return None
    row = asked.get(offer.request.hex())
    if row is None or row.state != RequestState.OPEN or row.valid_until_unix <= now:
        problem = f"{offer.request.hex()[:16]} is {'not there' if row is None else 'over'}"
        return InvalidInputError("request", problem, "an open request: `btcfi market requests` lists them")
    return decode_signed_request(json.loads(row.body)).request.misses(offer)


def _store(
    session: Session, account: AccountRow, fit: Mapping[str, SignedOffer], rule: OfferRule, now: UnixSeconds
) -> tuple[dict[str, str], dict[str, InvalidInputError]]:
    """Insert what is new, and return the states of all that stand and why the others do not."""
    if not fit:
        return {}, {}
    last = take_ranks(session, len(fit))
    states, numbers = _known(session, account, fit)
    room = rule.most_open - open_offers(session, account.id)
    refusals: dict[str, InvalidInputError] = {}
    rows: list[dict[str, Any]] = []
    for place, (name, one) in enumerate(fit.items(), start=last - len(fit) + 1):
        if name in states:
            continue
        number = one.offer.number
        if number in numbers:
            expected = f"a number of its own: {numbers[number][:16]} has it"
            refusals[name] = InvalidInputError("number", str(number), expected)
        elif len(rows) >= room:
            problem = f"{rule.most_open:,} offers of yours stand"
            refusals[name] = InvalidInputError("offers", problem, f"at most {rule.most_open:,}: withdraw some")
        else:
            numbers[number] = name
            rows.append(_row(name, one, rank=place, now=now))
    if rows:
        session.execute(insert(FirmOfferRow), rows)
        born = {row["id"]: "" for row in rows}
        record_all(session, "firm_offer", born, OfferState.OPEN, now=now)
        states |= dict.fromkeys(born, OfferState.OPEN.value)
    return states, refusals


def _known(
    session: Session, account: AccountRow, fit: Mapping[str, SignedOffer]
) -> tuple[dict[str, str], dict[int, str]]:
    """Return the states of those that are there, and by number which of the account's offers has it."""
    column = col(FirmOfferRow.id), col(FirmOfferRow.number), col(FirmOfferRow.state)
    of_ours = col(FirmOfferRow.account_id) == account.id
    numbers = [one.offer.number for one in fit.values()]
    found = session.execute(select(*column).where(of_ours, col(FirmOfferRow.number).in_(numbers))).all()
    # an offer's number is part of its id, so whatever is there under one of these ids has one of these numbers
    return {name: state for name, _, state in found if name in fit}, {number: name for name, number, _ in found}


def _row(name: str, signed: SignedOffer, *, rank: int, now: UnixSeconds) -> dict[str, Any]:
    offer = signed.offer
    price, price_cents = offer.prices(_shown_step(offer, now))
    return {
        "id": name, "account_id": offer.maker.hex(), "instrument": offer.instrument.name,
        "expiry_unix": offer.instrument.expiry, "side": offer.side.value, "price_sats": price,
        "price_cents": price_cents, "request_id": None if offer.request is None else offer.request.hex(),
        "begins_unix": None if offer.auction is None else offer.auction.begins,
        "moves_at_unix": None if offer.auction is None else offer.auction.moves_at(now),
        "quantity": offer.quantity, "minimum": offer.minimum,
        "remaining": offer.quantity, "valid_until_unix": offer.valid_until,
        "taker": None if offer.taker is None else offer.taker.hex(), "number": offer.number,
        "body": json.dumps(encode_signed_offer(signed)), "state": OfferState.OPEN.value, "rank": rank,
        "created_at_unix": now, "updated_at_unix": now,
    }  # fmt: skip


def _shown_step(offer: FirmOffer, now: UnixSeconds) -> int | None:
    return None if offer.auction is None else offer.auction.step_at(now) or 0


def move_prices(session: Session, *, now: UnixSeconds) -> int:
    """Give open auctions the prices of the steps that have begun, AT_ONCE at most, and return how many moved.

    What a take pays does not depend on it: that is the step which the take names, from what the maker signed.
    """
    due = select(FirmOfferRow).where(still_open(), col(FirmOfferRow.moves_at_unix) <= now).limit(AT_ONCE)
    held = due.order_by(col(FirmOfferRow.id)).with_for_update(key_share=True, skip_locked=True)
    rows = list(session.execute(held, execution_options={"populate_existing": True}).scalars())
    for row in rows:
        offer = offer_of(row).offer
        row.price_sats, row.price_cents = offer.prices(_shown_step(offer, now))
        row.moves_at_unix = None if offer.auction is None else offer.auction.moves_at(now)
    session.flush()
    return len(rows)


def withdraw_answers(session: Session, request_id: str, *, now: UnixSeconds) -> int:
    """Withdraw the open answers to a request that is over, and return how many.

    One that somebody else holds at this moment is left to lapse by itself: nobody waits for it.
    """
    query = select(FirmOfferRow).where(col(FirmOfferRow.request_id) == request_id, still_open())
    return len(_end(session, query, OfferState.WITHDRAWN, now, skip_locked=True))


def take_ranks(session: Session, many: int) -> int:
    """Return the last of ``many`` new ranks; nobody else gets one before this transaction ends."""
    statement = upsert(session, CounterRow).values(name=RANKS, value=many)
    more = statement.on_conflict_do_update(index_elements=["name"], set_={"value": CounterRow.value + many})
    return int(session.execute(more.returning(CounterRow.value)).scalar_one())


def open_offers(session: Session, account_id: str) -> int:
    """Return how many offers of an account are open, lapsed ones that nobody has expired yet among them."""
    query = select(func.count()).select_from(FirmOfferRow).where(col(FirmOfferRow.account_id) == account_id)
    return int(session.execute(query.where(still_open())).scalar_one())


# ---- ending


def withdraw_offers(
    session: Session, account_id: str, ids: Sequence[str] | None, *, now: UnixSeconds, up_to: int | None = None
) -> int:
    """Withdraw open offers of an account, those of these ids or all; return how many. Others' are left alone.

    up_to: only those whose number, which their maker gave them, is at most this one: said again later, it ends nothing
    newer. What was taken of them before stays taken; what is taken whole does not open again if its take fails.
    """
    query = select(FirmOfferRow).where(col(FirmOfferRow.account_id) == account_id)
    if ids is not None:
        query = query.where(col(FirmOfferRow.id).in_(list(ids)))
    if up_to is not None:
        query = query.where(col(FirmOfferRow.number) <= up_to)
    many = len(_end(session, query.where(still_open()), OfferState.WITHDRAWN, now))
    whole = col(FirmOfferRow.state) == literal_column("'taken'"), col(FirmOfferRow.valid_until_unix) > now
    return many + len(_end(session, query.where(*whole), OfferState.WITHDRAWN, now))


def expire_offers(session: Session, *, now: UnixSeconds) -> int:
    """Expire open offers whose second has come, AT_ONCE at most, and return how many."""
    lapsed = select(FirmOfferRow).where(still_open(), col(FirmOfferRow.valid_until_unix) <= now)
    return len(_end(session, lapsed.limit(AT_ONCE), OfferState.EXPIRED, now))


def _end(
    session: Session, query: Any, state: OfferState, now: UnixSeconds, *, skip_locked: bool = False  # noqa: ANN401
) -> list[FirmOfferRow]:  # fmt: skip
    # in one order, so that two that end the same offers wait for each other in one direction
    locked = query.order_by(col(FirmOfferRow.id)).with_for_update(key_share=True, skip_locked=skip_locked)
    rows = session.execute(locked, execution_options={"populate_existing": True}).scalars()
    return [one.row for one in cross_all(session, [Crossing(row=row) for row in rows], state, now=now)]


def prune_offers(session: Session, *, before: UnixSeconds, most: int = AT_ONCE) -> int:
    """Forget offers that ended and lapsed before a second and of which nothing was ever taken; return how many.

    Their events go with them, so that the log still replays to the rows. None can come back: its time is over.
    """
    of_it = select(col(TakeRow.id)).where(col(TakeRow.offer_id) == col(FirmOfferRow.id))
    query = select(col(FirmOfferRow.id)).where(
        col(FirmOfferRow.created_at_unix) < before, col(FirmOfferRow.valid_until_unix) < before,
        col(FirmOfferRow.state).in_((OfferState.WITHDRAWN, OfferState.EXPIRED)), ~of_it.exists(),
    )  # fmt: skip
    ids = list(session.execute(query.order_by(col(FirmOfferRow.created_at_unix)).limit(most)).scalars())
    gone = col(EventRow.entity) == "firm_offer", col(EventRow.entity_id).in_(ids)
    for statement in (delete(EventRow).where(*gone), delete(FirmOfferRow).where(col(FirmOfferRow.id).in_(ids))):
        session.execute(statement.execution_options(synchronize_session=False))
    return len(ids)


# ---- what takes do to offers


def reserve(session: Session, row: FirmOfferRow, quantity: int, *, now: UnixSeconds) -> None:
    """Take a quantity from an open offer that this transaction has locked. Raises OfferGoneError."""
    statement = (
        update(FirmOfferRow)
        .where(col(FirmOfferRow.id) == row.id, still_open(), col(FirmOfferRow.remaining) >= quantity)
        .values(remaining=col(FirmOfferRow.remaining) - quantity, updated_at_unix=now)
        .returning(col(FirmOfferRow.remaining))
        .execution_options(synchronize_session=False)
    )
    left = session.execute(statement).scalar_one_or_none()
    if left is None:
        raise OfferGoneError(row.id, f"is {row.state}, and {row.remaining}/100 BTC is left of it")
    session.refresh(row)
    if left < row.minimum:
        cross(session, row, OfferState.TAKEN, now=now)


def give_back(session: Session, row: FirmOfferRow, quantity: int, *, now: UnixSeconds) -> None:
    """Give a quantity back to an offer that this transaction has locked, and open it again where it can be taken."""
    row.remaining += quantity
    row.updated_at_unix = now
    session.flush()
    if row.state == OfferState.TAKEN and row.remaining >= row.minimum:
        lapsed = row.valid_until_unix <= now
        cross(session, row, OfferState.EXPIRED if lapsed else OfferState.OPEN, now=now)


def lose_rank(session: Session, account_id: str, *, now: UnixSeconds) -> int:
    """Put every open offer of an account behind all others of its price, and return how many.

    Takes the counter of ranks: call it before an offer is locked.
    """
    take_ranks(session, 0)  # nobody posts meanwhile
    query = select(col(FirmOfferRow.rank), col(FirmOfferRow.id)).where(col(FirmOfferRow.account_id) == account_id)
    locked = query.where(still_open()).order_by(col(FirmOfferRow.id)).with_for_update(key_share=True)
    ids = [name for _, name in sorted(session.execute(locked).all())]
    if ids:
        first = take_ranks(session, len(ids)) - len(ids) + 1
        rows = [{"id": name, "rank": rank, "updated_at_unix": now} for rank, name in enumerate(ids, start=first)]
        session.execute(update(FirmOfferRow), rows, execution_options={"synchronize_session": False})
        session.expire_all()
    return len(ids)
