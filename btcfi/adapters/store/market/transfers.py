"""Transfers of positions: what sellers consent to, holders offer, newcomers take, and what people read of it.

    consent   open -> withdrawn | expired | broken                 ``TransferConsentRow``, one contract each
    offer     open -> taken -> open again | withdrawn | expired | broken     ``TransferOfferRow``, the whole position
    transfer  taken -> signed -> done, or over                     ``TransferRow``: its id is the take's, hex

    post_consent(session, account, signed, at=Moment)   -> TransferConsentRow
    post_offer(session, account, signed, at=Moment)     -> TransferOfferRow
    take_position(session, account, signed, at=Moment)  -> TransferRow: firm, at the offer's price; no price of its own
    withdraw_consent(session, account_id, id, now=)     -> TransferConsentRow
    withdraw_offer(session, account_id, id, now=)       -> TransferOfferRow
    consents_of, offers_of, transfers_of(session, account_id | None, limit=, cursor=)  -> Page of rows, newest first
    consent_of, offer_of, transfer_of(session, account_id | None, id)                  -> row | None: another's is None
    open_transfer_offers(session, now, account=, instrument=, limit=, cursor=)         -> Page[OpenTransferOffer]

``account`` is the caller's row; each signature is checked here, so no door can forget it. The same text again is the
row that it made. ``signed_offer_of(row)`` is what a newcomer's process needs of an offer. An account speaks of a
contract by its id (``contract.contract_id``), which both sides' processes know; ``option_id`` is the service's name of
it. Who the newcomer's seller is nobody sees before it takes. Prices are satoshis of the whole position; there are no
dollars in a transfer. The rounds are in ``transfer_rounds.py``, the chain's part in ``transfer_chain.py``.

Locks are taken in one order: accounts, the option, its offer, its transfer, its consent, the counter of ranks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, delete, exists, func, literal_column, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, SQLModel, col, select

from btcfi import secp256k1
from btcfi.adapters.store.chain.walk import walked_to
from btcfi.adapters.store.market.accounts import account as account_of
from btcfi.adapters.store.market.accounts import held_account, registration_of
from btcfi.adapters.store.market.errors import OfferGoneError, SuspendedError
from btcfi.adapters.store.market.tables import AccountRow, AccountState, Carrier, CloseRow, CloseState
from btcfi.adapters.store.market.transfer_tables import (
    UNDER_WAY,
    ConsentState,
    TransferConsentRow,
    TransferOfferRow,
    TransferOfferState,
    TransferRow,
    TransferState,
)
from btcfi.adapters.store.options.contract_tables import ContractRow
from btcfi.adapters.store.options.contracts import agreed_terms
from btcfi.adapters.store.options.options import locked_option
from btcfi.adapters.store.options.settled import find_settlement
from btcfi.adapters.store.options.tables import OptionRow, OptionState
from btcfi.adapters.store.spine.edges import Crossing, Work, cross, cross_all, enqueue, record
from btcfi.adapters.store.spine.paging import Page, aside, either_page, newest_page
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.market.account import SignedRegistration, WrongSignatureError
from btcfi.market.transfer import (
    SignedTransferConsent,
    SignedTransferOffer,
    SignedTransferTake,
    TransferPart,
    check_part,
    check_terms_of,
    decode_signed_consent,
    decode_signed_offer,
    encode_consent,
    encode_offer,
    encode_part,
)
from btcfi.units import Hash32, UnixSeconds

LONGEST_SECONDS: Final = 30 * 86_400
"""Of a consent and of an offer, as a party's own process has it."""

MOST_OPEN: Final = 8
"""Consents to one contract, and offers of one, that stand at once."""

MOST_A_DAY: Final = 100
"""Of one contract, of each kind, within a day: whoever goes on does so tomorrow."""

MOST_OF_ONE: Final = 3
"""Transfers of one contract within a day that may come to nothing by one newcomer: the fourth take is refused."""

DAY_SECONDS: Final = 86_400

AT_ONCE: Final = 500
"""Rows that one transaction ends."""

R = TypeVar("R", bound=SQLModel)


class NotTransferableError(ConflictError):
    """A contract whose other side cannot change now."""

    def __init__(self, option_id: str, problem: str) -> None:
        super().__init__(f"option {option_id[:40]} is not transferred: {problem}")
        self.option_id, self.problem = option_id, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something is asked."""

    now: UnixSeconds
    """The wall's, by which words hold."""
    market: UnixSeconds
    """The market's, by which an option expires."""
    last_blocks: int
    """Before the expiry height, in which nothing is transferred; 0 on a chain whose blocks somebody makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransferOffer:
    """An offer of a position that stands, with what it is of."""

    row: TransferOfferRow
    option: OptionRow
    consented_until: UnixSeconds | None
    """Until when its seller's consent stands; None: it has given none, and nobody can take it."""


def still_open(*, now: UnixSeconds | None = None) -> ColumnElement[bool]:
    """Return the condition that an offer is open, as the partial index has it. now: and that it has not lapsed."""
    # a literal: neither database takes a partial index for a parameter that it does not know yet
    is_open: ColumnElement[bool] = col(TransferOfferRow.state) == literal_column("'open'")
    return is_open if now is None else is_open & (col(TransferOfferRow.valid_until_unix) > now)


# ---- what is said


def post_consent(
    session: Session, account: AccountRow, signed: SignedTransferConsent, *, at: Moment
) -> TransferConsentRow:  # fmt: skip
    """Keep a seller's consent to a contract of its; the same again is the same row.

    Raises NotFoundError, NotTransferableError, SuspendedError, WrongSignatureError, InvalidInputError naming the field.
    """
    consent, name = signed.consent, signed.consent.id.hex()
    _check_said(account, "consent", by=consent.seller, desk=consent.desk, digest=consent.id, given=signed.signature)
    if (known := session.get(TransferConsentRow, name)) is not None:
        return known
    option = _own_option(session, consent.contract_id, account, role="writer", at=at)
    if (known := session.get(TransferConsentRow, name, populate_existing=True)) is not None:
        return known
    _check_time("consent.valid_until", consent.valid_until, at)
    _check_room(session, TransferConsentRow, option.id, at.now)
    _check_number(session, TransferConsentRow, col(TransferConsentRow.seller) == account.id, consent.number)
    row = TransferConsentRow(
        id=name, option_id=option.id, seller=account.id, number=consent.number, valid_until_unix=consent.valid_until,
        body=json.dumps(encode_consent(consent) | {"signature": signed.signature.hex()}), created_at_unix=at.now,
        updated_at_unix=at.now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "transfer_consent", name, ConsentState.OPEN, now=at.now, detail=f"option {option.id}")
    return row


def post_offer(
    session: Session, account: AccountRow, signed: SignedTransferOffer, *, at: Moment
) -> TransferOfferRow:  # fmt: skip
    """Keep a holder's firm offer of its position; the same again is the same row. Raises as ``post_consent``.

    Its terms are held against those that both sides of the contract have signed, to the last one.
    """
    offer, name = signed.offer, signed.offer.id.hex()
    _check_said(account, "offer", by=offer.holder, desk=offer.desk, digest=offer.id, given=signed.signature)
    if (known := session.get(TransferOfferRow, name)) is not None:
        return known
    option = _own_option(session, offer.contract_id, account, role="holder", at=at)
    if (known := session.get(TransferOfferRow, name, populate_existing=True)) is not None:
        return known
    _check_time("offer.valid_until", offer.valid_until, at)
    terms = agreed_terms(session, option.id)
    check_terms_of(offer, replace(terms, rate=offer.rate))
    if offer.price > terms.collateral:
        raise InvalidInputError("offer.price_sats", f"{offer.price:,}", f"at most {terms.collateral:,}, the collateral")
    if offer.taker is not None and offer.taker.hex() in (option.writer, option.holder):
        raise InvalidInputError("offer.taker", offer.taker.hex()[:16], "an account that is no side of it")
    _check_room(session, TransferOfferRow, option.id, at.now)
    _check_number(session, TransferOfferRow, col(TransferOfferRow.holder) == account.id, offer.number)
    row = TransferOfferRow(
        id=name, option_id=option.id, holder=account.id, instrument=offer.instrument.name, quantity=offer.quantity,
        price_sats=offer.price, sats_per_kvb=offer.rate, taker=None if offer.taker is None else offer.taker.hex(),
        number=offer.number, valid_until_unix=offer.valid_until,
        body=json.dumps(encode_offer(offer) | {"signature": signed.signature.hex()}), created_at_unix=at.now,
        updated_at_unix=at.now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "transfer_offer", name, TransferOfferState.OPEN, now=at.now, detail=f"option {option.id}")
    return row


def take_position(
    session: Session, account: AccountRow, signed: SignedTransferTake, *, at: Moment
) -> TransferRow:  # fmt: skip
    """Take an offered position at its price, and have the three asked; the same take again is the transfer it made.

    Of one contract one transfer is under way at a time, and no close beside it. Raises NotFoundError, OfferGoneError,
    NotTransferableError, SuspendedError, WrongSignatureError, AnotherDeskError, InvalidInputError naming the field.
    """
    wanted, name = signed.take, signed.take.id.hex()
    if (known := session.get(TransferRow, name)) is not None:
        return known
    if wanted.newcomer.hex() != account.id:
        raise InvalidInputError("take.newcomer", wanted.newcomer.hex()[:16], f"{account.id[:16]}, who takes")
    found = session.get(TransferOfferRow, wanted.offer_id.hex())
    if found is None or found.taker not in (None, account.id):
        raise NotFoundError("offer of a position", wanted.offer_id.hex()[:16], "one that stands")
    sold = session.get_one(OptionRow, found.option_id)
    for one in sorted({account.id, sold.writer or account.id, sold.holder or account.id}):
        held_account(session, one)  # whose keys and state are what they are until this transaction ends
    option = locked_option(session, found.option_id)
    row = _locked(session, TransferOfferRow, found.id)
    if (known := session.get(TransferRow, name, populate_existing=True)) is not None:
        return known  # the same one came by another door meanwhile
    _check_open(account)
    _check_time("take.valid_until", wanted.valid_until, at)
    if row.state != TransferOfferState.OPEN or row.valid_until_unix <= at.now:
        lapsed = row.state == TransferOfferState.OPEN
        raise OfferGoneError(row.id, "has lapsed" if lapsed else f"is {row.state}")
    _check_transferable(session, option, at)
    if row.holder != option.holder:
        raise OfferGoneError(row.id, "is of another's position now")
    consent = _standing_consent(session, option, at.now)
    if consent is None:
        raise NotTransferableError(option.id, "its seller's consent does not stand")
    _refuse_again(session, option.id, account.id, at.now)
    part = TransferPart(
        consent=decode_signed_consent(json.loads(consent.body)), offer=signed_offer_of(row), take=signed,
        seller=_registration(session, option, consent.seller), holder=_registration(session, option, row.holder),
        newcomer=registration_of(account),
    )  # fmt: skip
    deal = check_part(part, desk=part.offer.offer.desk)
    transfer = TransferRow(
        id=name, option_id=option.id, new_option_id=wanted.option_id, consent_id=consent.id, offer_id=row.id,
        seller=consent.seller, holder=row.holder, newcomer=account.id, instrument=row.instrument,
        quantity=row.quantity, price_sats=row.price_sats, until_unix=deal.until, part=json.dumps(encode_part(part)),
        created_at_unix=at.now, updated_at_unix=at.now,
    )  # fmt: skip
    session.add(transfer)
    session.flush()
    record(session, "transfer", name, TransferState.TAKEN, now=at.now, detail=f"option {option.id}")
    cross(session, row, TransferOfferState.TAKEN, now=at.now, detail=f"transfer {name[:16]}")
    enqueue(session, [Work(flow="exchange")], now=at.now)
    return transfer


def withdraw_consent(session: Session, account: str, consent_id: str, *, now: UnixSeconds) -> TransferConsentRow:
    """Take a consent back; a transfer that is under way by it goes on. Again changes nothing. Raises NotFoundError."""
    row = consent_of(session, account, consent_id)
    if row is None:
        raise NotFoundError("transfer consent", consent_id[:16], "one of your own")
    if row.state == ConsentState.OPEN:
        cross(session, row, ConsentState.WITHDRAWN, now=now)
    return row


def withdraw_offer(session: Session, account: str, offer_id: str, *, now: UnixSeconds) -> TransferOfferRow:
    """Take an offer back: nobody takes it any more, also where a transfer that is under way of it comes to nothing.

    Again changes nothing. Raises NotFoundError.
    """
    found = offer_of(session, account, offer_id)
    if found is None:
        raise NotFoundError("offer of a position", offer_id[:16], "one of your own")
    option = locked_option(session, found.option_id)
    row = _locked(session, TransferOfferRow, found.id)
    if row.state == TransferOfferState.OPEN or (
        row.state == TransferOfferState.TAKEN and under_way_of(session, option.id) is not None
    ):
        cross(session, row, TransferOfferState.WITHDRAWN, now=now)
    return row


def withdraw_words(session: Session, account: str | None, *, now: UnixSeconds) -> int:
    """Withdraw every open consent and offer of an account, or of all, and return how many.

    Of one that is suspended, that has registered other keys, or of which nobody knows what it has withdrawn since.
    """
    many = 0
    for table, owner, is_open, state in (
        (TransferConsentRow, col(TransferConsentRow.seller), ConsentState.OPEN, ConsentState.WITHDRAWN),
        (TransferOfferRow, col(TransferOfferRow.holder), TransferOfferState.OPEN, TransferOfferState.WITHDRAWN),
    ):
        query: Any = select_columns(table).where(col(table.state) == is_open)
        if account is not None:
            query = query.where(owner == account)
        many += _end_all(session, query, state, now)
    return many


def lapse_words(session: Session, *, now: UnixSeconds) -> int:
    """End consents and offers whose time is over, or whose contract is, and return how many."""
    over = ~exists().where(col(OptionRow.id) == col(TransferConsentRow.option_id),
                           col(OptionRow.state) == OptionState.ACTIVE)  # fmt: skip
    consents = select_columns(TransferConsentRow).where(
        col(TransferConsentRow.state) == ConsentState.OPEN, (col(TransferConsentRow.valid_until_unix) <= now) | over
    )
    over = ~exists().where(col(OptionRow.id) == col(TransferOfferRow.option_id),
                           col(OptionRow.state) == OptionState.ACTIVE)  # fmt: skip
    offers = select_columns(TransferOfferRow).where(
        still_open(), (col(TransferOfferRow.valid_until_unix) <= now) | over
    )
    return _end_all(session, consents, ConsentState.EXPIRED, now) + _end_all(
        session, offers, TransferOfferState.EXPIRED, now
    )


def prune_words(session: Session, *, before: UnixSeconds) -> int:
    """Forget consents and offers that ended and lapsed before a second and that no transfer came of; return how many.

    Their events go with them. None can come back: its time is over.
    """
    many = 0
    for table, of_it, states in (
        (TransferConsentRow, TransferRow.consent_id, (ConsentState.WITHDRAWN, ConsentState.EXPIRED)),
        (TransferOfferRow, TransferRow.offer_id, (TransferOfferState.WITHDRAWN, TransferOfferState.EXPIRED)),
    ):
        key = col(table.id)
        query = select_columns(key).where(
            col(table.created_at_unix) < before, col(table.valid_until_unix) < before, col(table.state).in_(states),
            ~exists().where(col(of_it) == key),
        )  # fmt: skip
        ids = list(session.execute(query.order_by(col(table.created_at_unix)).limit(AT_ONCE)).scalars())
        gone = col(EventRow.entity) == str(table.__tablename__), col(EventRow.entity_id).in_(ids)
        for statement in (delete(EventRow).where(*gone), delete(table).where(key.in_(ids))):
            session.execute(statement.execution_options(synchronize_session=False))
        many += len(ids)
    return many


def signed_offer_of(row: TransferOfferRow) -> SignedTransferOffer:
    """Return what the holder signed."""
    return decode_signed_offer(json.loads(row.body))


# ---- what is checked


def _check_said(account: AccountRow, what: str, *, by: bytes, desk: bytes, digest: Hash32, given: bytes) -> None:
    """Check that an account says something, to this service, by the key that it has registered."""
    ours = json.loads(account.registration)["desk"]
    if by.hex() != account.id:
        raise InvalidInputError(f"{what}.identity", by.hex()[:16], f"{account.id[:16]}, who says it")
    if desk.hex() != ours:
        raise InvalidInputError(f"{what}.desk", desk.hex()[:16], f"{ours[:16]}, this service's key")
    if not secp256k1.schnorr_verify(bytes.fromhex(account.request_key), digest, given):
        raise WrongSignatureError(f"transfer {what}", "not signed by its account", "its request key's signature")
    _check_open(account)


def _check_open(account: AccountRow) -> None:
    if account.state != AccountState.OPEN:
        raise SuspendedError(account.name)
    if account.carrier != Carrier.LETTERS:
        raise InvalidInputError("account", f"{account.name}'s messages lie in a folder", "one that has letters")


def _check_time(name: str, until: UnixSeconds, at: Moment) -> None:
    if not at.now < until <= at.now + LONGEST_SECONDS:
        raise InvalidInputError(name, f"{until - at.now} s from now", f"1 to {LONGEST_SECONDS} s")


def _own_option(session: Session, contract_id: Hash32, account: AccountRow, *, role: str, at: Moment) -> OptionRow:
    """Return the locked option of a contract of which an account is a side. Raises NotFoundError for any other."""
    query = select_columns(col(ContractRow.option_id)).where(col(ContractRow.contract_id) == contract_id.hex())
    name = session.execute(query).scalars().first()
    option = None if name is None else session.get(OptionRow, name)
    if option is None or getattr(option, role) != account.id:
        raise NotFoundError("contract", contract_id.hex()[:16], f"one of which {account.name} is the {role}")
    option = locked_option(session, option.id)
    _check_transferable(session, option, at, beside=False)
    return option


def _check_transferable(session: Session, option: OptionRow, at: Moment, *, beside: bool = True) -> None:
    """Refuse a contract that is over, or about to be. beside: and of which another end is under way."""
    name = option.id
    if (problem := over_by(session, option, at)) is not None:
        raise NotTransferableError(name, problem)
    for owner in (option.writer, option.holder):
        if owner is None or account_of(session, owner).carrier != Carrier.LETTERS:
            raise NotTransferableError(name, "a side of it has its messages in a folder of this machine")
    if beside and under_way_of(session, name) is not None:
        raise NotTransferableError(name, "another transfer of it is under way")
    if beside and _is_closing(session, name):
        raise NotTransferableError(name, "its two sides are about to close it")


def over_by(session: Session, option: OptionRow, at: Moment) -> str | None:
    """Return why an option is not transferred any more, by the chain and the market as we see them; None: it is."""
    if option.state != OptionState.ACTIVE:
        return f"it is {option.state}, and only what is funded and not over changes hands"
    if find_settlement(session, option.id) is not None:
        return "it is being settled"
    if at.market >= option.expiry_unix:
        return "its expiry has passed"
    if option.expiry_height is None:
        return "its contract is not known here"
    walked = walked_to(session)
    tip = 0 if walked is None else walked.height
    if at.last_blocks and tip + at.last_blocks > option.expiry_height:
        left = max(option.expiry_height - tip, 0)
        return f"block {tip:,} is {left} before the expiry's, and {at.last_blocks} are asked for"
    return None


def under_way_of(session: Session, option_id: str) -> TransferRow | None:
    """Return the transfer of an option that is under way; DONE is none: the option is over then."""
    query = select(TransferRow).where(TransferRow.option_id == option_id, col(TransferRow.state).in_(UNDER_WAY))
    return session.exec(query.limit(1)).first()


def _is_closing(session: Session, option_id: str) -> bool:
    going = (CloseState.ANSWERED, CloseState.SIGNED, CloseState.DONE)
    query = select(CloseRow.id).where(CloseRow.option_id == option_id, col(CloseRow.state).in_(going))
    return session.exec(query.limit(1)).first() is not None


def _standing_consent(session: Session, option: OptionRow, now: UnixSeconds) -> TransferConsentRow | None:
    """Return the consent of an option's seller that stands longest."""
    query = (
        select(TransferConsentRow)
        .where(
            TransferConsentRow.option_id == option.id, TransferConsentRow.state == ConsentState.OPEN.value,
            col(TransferConsentRow.valid_until_unix) > now, TransferConsentRow.seller == option.writer,
        )
        .order_by(col(TransferConsentRow.valid_until_unix).desc(), col(TransferConsentRow.id))
    )  # fmt: skip
    return session.exec(query.limit(1)).first()


def _registration(session: Session, option: OptionRow, identity: str) -> SignedRegistration:
    """Return who a side of an option is. Raises NotTransferableError, which names it to nobody, for a suspended one."""
    row = account_of(session, identity)
    if row.state != AccountState.OPEN:
        raise NotTransferableError(option.id, "a side of it is suspended")
    return registration_of(row)


def _refuse_again(session: Session, option_id: str, newcomer: str, now: UnixSeconds) -> None:
    query = select(func.count()).select_from(TransferRow).where(
        TransferRow.option_id == option_id, TransferRow.newcomer == newcomer, TransferRow.fault == "newcomer",
        col(TransferRow.created_at_unix) > now - DAY_SECONDS,
    )  # fmt: skip
    if session.exec(query).one() >= MOST_OF_ONE:
        raise NotTransferableError(option_id, f"{MOST_OF_ONE} transfers came to nothing by you within a day; wait")


def _check_room(session: Session, table: Any, option_id: str, now: UnixSeconds) -> None:  # noqa: ANN401 - a table
    query = select(func.count()).select_from(table).where(table.option_id == option_id)
    if session.exec(query.where(table.state == str(ConsentState.OPEN))).one() >= MOST_OPEN:
        raise NotTransferableError(option_id, f"{MOST_OPEN} such words stand already; withdraw one, or let it lapse")
    if session.exec(query.where(table.created_at_unix > now - DAY_SECONDS)).one() >= MOST_A_DAY:
        raise NotTransferableError(option_id, f"{MOST_A_DAY} such words within a day; wait with the next")


def _check_number(session: Session, table: Any, of_ours: ColumnElement[bool], number: int) -> None:  # noqa: ANN401
    other = session.exec(select(table.id).where(of_ours, table.number == number)).first()
    if other is not None:
        raise InvalidInputError("number", str(number), f"a number of its own: {other[:16]} has it")


def _locked(session: Session, table: type[R], key: str) -> R:
    return session.get_one(table, key, with_for_update=True, populate_existing=True)


def _end_all(session: Session, query: Any, state: str, now: UnixSeconds) -> int:  # noqa: ANN401
    locked = query.order_by(query.selected_columns.id).limit(AT_ONCE).with_for_update(key_share=True)
    rows = session.execute(locked, execution_options={"populate_existing": True}).scalars()
    return len(cross_all(session, [Crossing(row=row) for row in rows], state, now=now))


# ---- what people read


def open_transfer_offers(
    session: Session, now: UnixSeconds, *, account: str | None = None, instrument: str | None = None, limit: int,
    cursor: str | None = None,
) -> Page[OpenTransferOffer]:  # fmt: skip
    """Return one page of the offers of positions that stand, newest first.

    account: who also sees its own and those that are for it alone. Raises NoSuchPageError.
    """
    for_all: ColumnElement[bool] = col(TransferOfferRow.taker).is_(None)
    if account is not None:
        for_all = or_(for_all, col(TransferOfferRow.taker) == account, col(TransferOfferRow.holder) == account)
    query = select(TransferOfferRow).where(still_open(now=now), for_all)
    if instrument is not None:
        query = query.where(TransferOfferRow.instrument == instrument)
    at, key = col(TransferOfferRow.created_at_unix), col(TransferOfferRow.id)
    page = newest_page(session, query, at, key, limit=limit, cursor=cursor)
    names = {row.option_id for row in page.rows}
    options = {one.id: one for one in session.exec(select(OptionRow).where(col(OptionRow.id).in_(names))).all()}
    until = consented_until(session, names, now)
    rows = [
        OpenTransferOffer(row=row, option=options[row.option_id], consented_until=until.get(row.option_id))
        for row in page.rows
    ]
    return Page(rows=rows, following=page.following)


def consented_until(session: Session, option_ids: Collection[str], now: UnixSeconds) -> Mapping[str, UnixSeconds]:
    """Return, by option, until when its seller's consent stands; an option without one is left out."""
    query = (
        select_columns(col(TransferConsentRow.option_id), func.max(TransferConsentRow.valid_until_unix))
        .where(
            col(TransferConsentRow.option_id).in_(list(option_ids)), col(TransferConsentRow.state) == ConsentState.OPEN,
            col(TransferConsentRow.valid_until_unix) > now,
        )
        .group_by(col(TransferConsentRow.option_id))
    )  # fmt: skip
    return {row[0]: UnixSeconds(row[1]) for row in session.execute(query)} if option_ids else {}


def consents_of(
    session: Session, account: str | None, *, state: str | None = None, limit: int, cursor: str | None = None
) -> Page[TransferConsentRow]:  # fmt: skip
    """Return one page of an account's consents, newest first. account: None: of all. Raises NoSuchPageError."""
    query = select(TransferConsentRow)
    if account is not None:
        query = query.where(TransferConsentRow.seller == account)
    if state is not None:
        query = query.where(aside(TransferConsentRow.state) == state)
    at, key = col(TransferConsentRow.created_at_unix), col(TransferConsentRow.id)
    return newest_page(session, query, at, key, limit=limit, cursor=cursor)


def consent_of(session: Session, account: str | None, consent_id: str) -> TransferConsentRow | None:
    """Return a consent of an account. account: None: of any."""
    row = session.get(TransferConsentRow, consent_id)
    return row if row is not None and account in (None, row.seller) else None


def offers_of(
    session: Session, account: str | None, *, state: str | None = None, limit: int, cursor: str | None = None
) -> Page[TransferOfferRow]:  # fmt: skip
    """Return one page of the offers of an account's positions, newest first.

    account: None: of all. Raises NoSuchPageError.
    """
    query = select(TransferOfferRow)
    if account is not None:
        query = query.where(TransferOfferRow.holder == account)
    if state is not None:
        query = query.where(aside(TransferOfferRow.state) == state)
    at, key = col(TransferOfferRow.created_at_unix), col(TransferOfferRow.id)
    return newest_page(session, query, at, key, limit=limit, cursor=cursor)


def offer_of(session: Session, account: str | None, offer_id: str) -> TransferOfferRow | None:
    """Return an offer of an account's position. account: None: of any."""
    row = session.get(TransferOfferRow, offer_id)
    return row if row is not None and account in (None, row.holder) else None


def transfers_of(
    session: Session, account: str | None, *, state: str | None = None, limit: int, cursor: str | None = None
) -> Page[TransferRow]:  # fmt: skip
    """Return one page of the transfers that an account is one of the three in, newest first.

    account: None: of all. Raises NoSuchPageError.
    """
    query = select(TransferRow)
    if state is not None:
        query = query.where(aside(TransferRow.state) == state)
    at, key = col(TransferRow.created_at_unix), col(TransferRow.id)
    if account is None:
        return newest_page(session, query, at, key, limit=limit, cursor=cursor)
    owners = (col(TransferRow.seller), col(TransferRow.holder), col(TransferRow.newcomer))
    each = [query.where(owner == account) for owner in owners]
    return either_page(session, each, at, key, limit=limit, cursor=cursor)


def transfer_of(session: Session, account: str | None, transfer_id: str) -> TransferRow | None:
    """Return a transfer that an account is one of the three in. account: None: any."""
    row = session.get(TransferRow, transfer_id)
    return row if row is not None and account in (None, row.seller, row.holder, row.newcomer) else None


def role_in(row: TransferRow, account: str) -> str | None:
    """Return what an account is in a transfer: ``seller``, ``holder`` or ``newcomer``; None: no part of it."""
    return next((name for name in ("seller", "holder", "newcomer") if getattr(row, name) == account), None)


STANDING: Final = (TransferState.SIGNED, TransferState.DONE)
"""States of a transfer that all three have signed: an option has one at the most that ends it."""


def transfers_by_option(
    session: Session, option_ids: Collection[str], *, old: bool, states: Collection[str] = STANDING
) -> dict[str, TransferRow]:  # fmt: skip
    """Return the transfer that ends each of some options (``old``), or that began it, by the option's id."""
    column = col(TransferRow.option_id if old else TransferRow.new_option_id)
    query = select(TransferRow).where(column.in_(list(option_ids)), col(TransferRow.state).in_(list(states)))
    found = session.exec(query).all() if option_ids else ()
    return {row.option_id if old else row.new_option_id: row for row in found}
