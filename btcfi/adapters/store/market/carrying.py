"""What the exchange asks of letters, takes and accounts: each question is one statement, however many are under way."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, literal, or_, select
from sqlmodel import Session, col

from btcfi.adapters.store.market import takes
from btcfi.adapters.store.market.tables import (
    DESK,
    PENDING_TAKES,
    AccountRow,
    Carrier,
    FirmOfferRow,
    LetterRow,
    TakeRow,
    TakeState,
)
from btcfi.adapters.store.market.transfer_tables import TransferRow, TransferState
from btcfi.adapters.store.options.contract_tables import ContractRow, ContractState
from btcfi.adapters.store.options.tables import OptionRow, OptionState
from btcfi.contracts.messages import Role
from btcfi.units import UnixSeconds

EACH: Final = 32
"""Letters of one sender that one look takes: who floods is read in turn with the others."""

AT_ONCE: Final = 500
"""Rows of one answer; the rest comes with the next look."""

IN_CHUNKS: Final = 500
"""Values of one IN: SQLite takes 32,766 in a statement, and plans few better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A letter to the service that was not handled yet, without its body."""

    id: int
    sender: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Whose option it is."""

    writer: str | None
    holder: str | None
    take_id: str | None

    def of(self, role: Role) -> str | None:
        """Return the account of a role, None where it is a folder that was there before accounts."""
        return self.writer if role is Role.SELLER else self.holder

    def role_of(self, account: str | None) -> Role | None:
        """Return the role of an account, None where the option is none of its."""
        return next((role for role in Role if self.of(role) == account), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPart:
    """What both sides signed before a contract: JSON texts as they came."""

    offer: str
    take: str
    seller: str
    """Registration, as the next one."""
    buyer: str


STEPS: Final = (
    (ContractState.ORDERED, Role.SELLER, "proposal"),
    (ContractState.OFFERED, Role.BUYER, "offer"),
    (ContractState.ACCEPTED, Role.SELLER, "accept"),
    (ContractState.CHECKED, Role.BUYER, "sign"),
)
"""Whose turn it is in each state of a contract, and by which message it learns so."""


def turn_of(state: str) -> tuple[Role, str] | None:
    """Return whose turn it is in a contract's state and by which message, None where it is nobody's but ours."""
    return next(((role, kind) for at, role, kind in STEPS if at == state), None)


def owners_of(session: Session, option_id: str) -> Owners | None:
    """Return whose an option is, None where there is no such option."""
    query = select(col(OptionRow.writer), col(OptionRow.holder), col(OptionRow.take_id))
    row = session.execute(query.where(col(OptionRow.id) == option_id)).one_or_none()
    return None if row is None else Owners(writer=row[0], holder=row[1], take_id=row[2])


def folder_accounts(session: Session) -> list[AccountRow]:
    """Return the accounts whose messages lie in a folder of this machine."""
    query = select(AccountRow).where(col(AccountRow.carrier) == Carrier.FOLDER)
    return list(session.execute(query.order_by(col(AccountRow.id))).scalars())


def named_desks(session: Session, *, limit: int = 20) -> frozenset[str]:
    """Return the keys, hex, of the services that the newest registrations are for: ours alone, or it was exchanged."""
    query = select(col(AccountRow.registration)).order_by(col(AccountRow.joined_at_unix).desc(), col(AccountRow.id))
    return frozenset(json.loads(text)["desk"] for text in session.execute(query.limit(limit)).scalars())


# ---- letters


def waiting_in_turn(session: Session, *, each: int = EACH) -> list[Waiting]:
    """Return the letters to the service that wait: every sender's first one, then every sender's second one."""
    turn = func.row_number().over(partition_by=col(LetterRow.sender), order_by=col(LetterRow.id)).label("turn")
    inner = (
        select(col(LetterRow.id).label("id"), col(LetterRow.sender).label("sender"), col(LetterRow.name).label("name"),
               turn)
        .where(col(LetterRow.recipient) == DESK, col(LetterRow.handled_at_unix).is_(None))
        .subquery()
    )  # fmt: skip
    query = select(inner.c.id, inner.c.sender, inner.c.name).where(inner.c.turn <= each)
    rows = session.execute(query.order_by(inner.c.turn, inner.c.id)).all()
    return [Waiting(id=row[0], sender=row[1], name=row[2]) for row in rows]


def sealed_of(session: Session, letter_id: int) -> bytes | None:
    """Return a letter that waits, as it came; None where it was handled meanwhile."""
    query = select(col(LetterRow.sealed)).where(
        col(LetterRow.id) == letter_id, col(LetterRow.handled_at_unix).is_(None)
    )
    found: bytes | None = session.execute(query).scalar_one_or_none()
    return found


def has_work(session: Session) -> bool:
    """Return whether a letter to the service waits, or one of ours is to be written, or a contract to be ordered."""
    mail = exists().where(col(LetterRow.recipient) == DESK, col(LetterRow.handled_at_unix).is_(None))
    ordered = exists().where(
        col(OptionRow.state) == OptionState.CREATED, col(OptionRow.writer).is_not(None),
        ~exists().where(col(ContractRow.option_id) == col(OptionRow.id)),
    )  # fmt: skip
    if session.execute(select(or_(mail, ordered))).scalar_one():
        return True
    return bool(undelivered(session, limit=1))


def under_way(session: Session) -> bool:
    """Return whether a take or a transfer waits for signatures: then letters come soon."""
    waits = exists().where(col(TakeRow.state) == TakeState.TAKEN)
    moves = exists().where(col(TransferRow.state) == TransferState.TAKEN)
    return bool(session.execute(select(or_(waits, moves))).scalar_one())


def undelivered(session: Session, *, limit: int = AT_ONCE) -> list[ContractRow]:
    """Return the contracts whose next message goes by letter and was not written yet: those in no state that waits."""
    found: list[ContractRow] = []
    for state, role, kind in STEPS:
        query = (
            select(ContractRow)
            .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
            .join(AccountRow, col(AccountRow.id) == _owner(role))
            .where(
                col(ContractRow.state) == state,
                col(OptionRow.state) == OptionState.CREATED,
                col(AccountRow.carrier) == Carrier.LETTERS,
                ~_written(_owner(role), col(ContractRow.option_id) + literal(f".{kind}")),
            )
            .order_by(col(ContractRow.updated_at_unix), col(ContractRow.option_id))
        )
        found += session.execute(query.limit(limit)).scalars()
    return found[:limit]


def _owner(role: Role) -> Any:  # noqa: ANN401 - a column
    return col(OptionRow.writer) if role is Role.SELLER else col(OptionRow.holder)


def _written(recipient: Any, name: Any) -> ColumnElement[bool]:  # noqa: ANN401 - columns
    return exists().where(
        col(LetterRow.sender) == DESK, col(LetterRow.recipient) == recipient, col(LetterRow.name) == name
    )


def unwritten(session: Session, wanted: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return which of these letters of ours, by recipient and name, were never written."""
    left, names = set(wanted), sorted({name for _, name in wanted})
    for start in range(0, len(names), IN_CHUNKS):
        query = select(col(LetterRow.recipient), col(LetterRow.name)).where(
            col(LetterRow.sender) == DESK, col(LetterRow.name).in_(names[start : start + IN_CHUNKS]),
            col(LetterRow.recipient).in_({recipient for recipient, _ in wanted}),
        )  # fmt: skip
        left -= {(row[0], row[1]) for row in session.execute(query)}
    return left


def sent_at(session: Session, recipient: str, name: str) -> UnixSeconds | None:
    """Return when a letter of ours was written, None where it never was."""
    query = select(col(LetterRow.sent_at_unix)).where(
        col(LetterRow.sender) == DESK, col(LetterRow.recipient) == recipient, col(LetterRow.name) == name
    )
    found: UnixSeconds | None = session.execute(query).scalar_one_or_none()
    return found


ANSWERS: Final = {"proposal": "offer", "offer": "accept", "accept": "sign", "sign": "funded"}
"""What answers each message of STEPS; its refusal does, too."""


def has_answered(session: Session, sender: str, option_id: str, asked: str) -> bool:
    """Return whether an account's answer to one of our messages waits for us: then it is not the account that is late.

    asked: the kind of ours. Letters of other names are none: who sends them without an end would never be late.
    """
    names = (f"{option_id}.{ANSWERS[asked]}", f"{option_id}.{asked}.refused")
    query = exists().where(
        col(LetterRow.sender) == sender, col(LetterRow.recipient) == DESK, col(LetterRow.handled_at_unix).is_(None),
        col(LetterRow.name).in_(names),
    )  # fmt: skip
    return bool(session.execute(select(query)).scalar_one())


# ---- contracts


def new_options(session: Session, *, limit: int = 100) -> list[OptionRow]:
    """Return the options that no contract was ordered for yet: the first of every taker, then the second ones.

    A taker may choose its options' names and what its oracles are asked for; what is not a taker's counts as one's.
    """
    taker = func.coalesce(col(TakeRow.taker), "")
    oldest = col(OptionRow.created_at_unix), col(OptionRow.id)
    turn = func.row_number().over(partition_by=taker, order_by=oldest).label("turn")
    inner = (
        select(col(OptionRow.id).label("id"), turn)
        .outerjoin(TakeRow, col(TakeRow.option_id) == col(OptionRow.id))
        .where(
            col(OptionRow.state) == OptionState.CREATED,
            ~select(ContractRow).where(col(ContractRow.option_id) == OptionRow.id).exists(),
        )
        .subquery()
    )
    query = select(OptionRow).join(inner, inner.c.id == col(OptionRow.id)).order_by(inner.c.turn, *oldest)
    return list(session.execute(query.limit(limit)).scalars())


def market_part(session: Session, option_id: str) -> MarketPart | None:
    """Return the signed offer, take and registrations of which an option was made, None of one that none made."""
    query = (
        select(col(FirmOfferRow.body), col(TakeRow.body), col(OptionRow.writer), col(OptionRow.holder))
        .join(TakeRow, col(TakeRow.option_id) == col(OptionRow.id))
        .join(FirmOfferRow, col(FirmOfferRow.id) == col(TakeRow.offer_id))
        .where(col(OptionRow.id) == option_id)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    return MarketPart(
        offer=row[0], take=row[1], seller=session.get_one(AccountRow, row[2]).registration,
        buyer=session.get_one(AccountRow, row[3]).registration,
    )  # fmt: skip


def in_folders(session: Session, accounts: Collection[str]) -> list[ContractRow]:
    """Return the contracts that are not funded yet and of which a side's messages lie in a folder of this machine.

    accounts: those whose messages do; the sides without an account do so, too.
    """
    query = (
        select(ContractRow)
        .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
        .where(col(ContractRow.state).in_(ContractRow.__machine__.pending), _in_folder(accounts))
    )
    return list(session.execute(query.order_by(col(ContractRow.created_at_unix), col(ContractRow.option_id))).scalars())


def _in_folder(accounts: Collection[str]) -> ColumnElement[bool]:
    some = list(accounts)
    return or_(
        col(OptionRow.writer).is_(None), col(OptionRow.holder).is_(None), col(OptionRow.writer).in_(some),
        col(OptionRow.holder).in_(some),
    )  # fmt: skip


def owners_by_event(session: Session, events: Sequence[str]) -> dict[str, set[str | None]]:
    """Return, by event, the accounts that its attestations are for: the two sides of each contract that both signed.

    None among them: a folder that was there before accounts, to which every attestation goes of an event of its.
    """
    found: dict[str, set[str | None]] = {}
    for start in range(0, len(events), IN_CHUNKS):
        some = list(events[start : start + IN_CHUNKS])
        for owner in (col(OptionRow.writer), col(OptionRow.holder)):
            query = (
                select(col(ContractRow.event_id), owner)
                .join(OptionRow, col(OptionRow.id) == col(ContractRow.option_id))
                .where(
                    col(ContractRow.event_id).in_(some),
                    or_(owner.is_(None),
                        col(ContractRow.state).in_((ContractState.CHECKED, ContractState.FUNDED))),
                )
                .distinct()
            )  # fmt: skip
            for event, account in session.execute(query):
                found.setdefault(event, set()).add(account)
    return found


# ---- takes


def follow_funding(session: Session, option_id: str, *, now: UnixSeconds) -> None:
    """Have a take follow its contract, whose funding is signed by both."""
    contract = session.get(ContractRow, option_id)
    if (
        contract is not None
        and contract.state == ContractState.FUNDED
        and takes.take_of_option(session, option_id) is not None
    ):
        takes.mark_funded(session, option_id, now=now)


def come_to_nothing(session: Session, *, limit: int = AT_ONCE) -> list[str]:
    """Return the options of takes under way that somebody else has cancelled, such as the operator."""
    query = (
        select(col(TakeRow.option_id))
        .join(OptionRow, col(OptionRow.id) == col(TakeRow.option_id))
        .where(col(TakeRow.state).in_(PENDING_TAKES), col(OptionRow.state) == OptionState.CANCELLED)
    )
    return list(session.execute(query.limit(limit)).scalars())
