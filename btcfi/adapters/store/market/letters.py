"""Letters on their way: put once by name, read in order until they are acknowledged, and kept a while after that.

An account is its identity as hex; None is the service. What lies here is sealed to its recipient, so the store knows
who wrote, to whom, when and how much.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import delete, func, select, text, update
from sqlmodel import Session, col

from btcfi.adapters.store.market.errors import MailboxFullError
from btcfi.adapters.store.market.tables import DESK, LetterRow
from btcfi.adapters.store.spine.edges import upsert
from btcfi.units import UnixSeconds

MAX_UNHANDLED: Final = 1_000
"""Letters of one account that the service has not read: who floods it fills this and no more."""

MAX_UNHANDLED_BYTES: Final = 64 << 20
"""Of them: a letter may be of megabytes."""

_IN_ORDER: Final = {True: 0x42540001, False: 0x42540002}
"""Advisory locks by whether the service writes: a transaction takes one of them, so no two wait for each other."""


def post(
    session: Session, *, sender: str | None, recipient: str | None, name: str, sealed: bytes, now: UnixSeconds
) -> LetterRow:  # fmt: skip
    """Put a letter on its way; of one sender, recipient and name the first one stays and is returned.

    Letters of one direction get their numbers in the order in which they become visible, so a cursor passes none by.
    Raises MailboxFullError for an account's.
    """
    if (sender is None) == (recipient is None):
        raise ValueError("a letter is between the service and an account")
    given, to = sender or DESK, recipient or DESK
    if (known := _letter(session, given, to, name)) is not None:
        return known
    if sender is not None:
        _refuse_flood(session, sender)
    if session.get_bind().dialect.name == "postgresql":  # its sequences hand numbers out before the commit
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _IN_ORDER[sender is None]})
    made = upsert(session, LetterRow).values(sender=given, recipient=to, name=name, sealed=sealed, sent_at_unix=now)
    # one that came meanwhile stays as it is, and is returned
    kept = made.on_conflict_do_update(index_elements=["sender", "recipient", "name"], set_={"name": name})
    return session.get_one(LetterRow, session.execute(kept.returning(LetterRow.id)).scalar_one())


def _letter(session: Session, sender: str, recipient: str, name: str) -> LetterRow | None:
    query = select(LetterRow).where(
        col(LetterRow.sender) == sender, col(LetterRow.recipient) == recipient, col(LetterRow.name) == name
    )
    row: LetterRow | None = session.execute(query).scalar_one_or_none()
    return row


def _refuse_flood(session: Session, sender: str) -> None:
    size = func.length(col(LetterRow.sealed)).label("size")
    some = select(size).where(col(LetterRow.sender) == sender, _unhandled()).limit(MAX_UNHANDLED).subquery()
    waiting, most = session.execute(
        select(func.count(), func.coalesce(func.sum(some.c.size), 0)).select_from(some)
    ).one()
    if waiting >= MAX_UNHANDLED or most >= MAX_UNHANDLED_BYTES:
        raise MailboxFullError(int(waiting), int(most))


def _unhandled() -> Any:  # noqa: ANN401 - a column expression, as the partial indexes have it
    return col(LetterRow.handled_at_unix).is_(None)


def waiting(
    session: Session, recipient: str | None, *, after: int = 0, limit: int = 50
) -> list[LetterRow]:  # fmt: skip
    """Return letters that are not acknowledged, of a number above ``after``, in order.

    A number that this store has not reached (it was restored) counts as 0; who acknowledges what it reads needs no
    other.
    """
    if after > newest(session):
        after = 0
    where = (col(LetterRow.recipient) == (recipient or DESK), _unhandled(), col(LetterRow.id) > after)
    query = select(LetterRow).where(*where)
    return list(session.execute(query.order_by(col(LetterRow.id)).limit(limit)).scalars())


def leaves_unread(session: Session, recipient: str) -> bool:
    """Return whether an account has left as many of the service's letters unread as it may have waiting itself.

    What it has a right to is written all the same; answers to what it sends without an end are not.
    """
    some = select(col(LetterRow.id)).where(
        col(LetterRow.sender) == DESK, col(LetterRow.recipient) == recipient, _unhandled()
    )
    many = select(func.count()).select_from(some.limit(MAX_UNHANDLED).subquery())
    return int(session.execute(many).scalar_one()) >= MAX_UNHANDLED


def acknowledge(session: Session, recipient: str | None, ids: Collection[int], *, now: UnixSeconds) -> int:
    """Note that the recipient has these, and return how many are new; what is not its own is left alone."""
    statement = (
        update(LetterRow)
        .where(col(LetterRow.id).in_(list(ids)), col(LetterRow.recipient) == (recipient or DESK), _unhandled())
        .values(handled_at_unix=now)
        .returning(col(LetterRow.id))
        .execution_options(synchronize_session=False)
    )
    return len(session.execute(statement).all())


def forget(session: Session, letter_id: int, *, now: UnixSeconds) -> None:
    """Note that the service has read a letter that says nothing to it, and keep no more of it than its name."""
    statement = update(LetterRow).where(col(LetterRow.id) == letter_id, col(LetterRow.recipient) == DESK, _unhandled())
    session.execute(
        statement.values(handled_at_unix=now, sealed=b"").execution_options(synchronize_session=False)
    )  # fmt: skip


def holds(session: Session, recipient: str, name: str) -> bool:
    """Return whether the service sent an account a letter of this name, acknowledged or not."""
    return _letter(session, DESK, recipient, name) is not None


def take_back(session: Session, recipient: str, name: str) -> bool:
    """Take a letter of the service back that its recipient has not acknowledged, and return whether there was one."""
    statement = (
        delete(LetterRow)
        .where(col(LetterRow.sender) == DESK, col(LetterRow.recipient) == recipient, col(LetterRow.name) == name,
               _unhandled())
        .returning(col(LetterRow.id))
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    return session.execute(statement).first() is not None


def said(session: Session, sender: str, name: str) -> LetterRow | None:
    """Return what an account wrote to the service under a name, read or not."""
    return _letter(session, sender, DESK, name)


def prune(session: Session, *, before: UnixSeconds) -> int:
    """Forget letters that were acknowledged before a second, and return how many."""
    statement = (
        delete(LetterRow)
        .where(col(LetterRow.handled_at_unix) < before)
        .returning(col(LetterRow.id))
        .execution_options(synchronize_session=False)
    )
    return len(session.execute(statement).all())


def come_since(session: Session, after: int | None) -> tuple[int, frozenset[str]]:
    """Return the number of the service's newest unread letter, and to whom those above ``after`` go.

    Never below ``after``. None: only the number.
    """
    ours = (col(LetterRow.sender) == DESK, _unhandled())
    if after is None:
        return int(session.execute(select(func.max(col(LetterRow.id))).where(*ours)).scalar_one() or 0), frozenset()
    query = select(col(LetterRow.id), col(LetterRow.recipient)).where(*ours, col(LetterRow.id) > after)
    rows = session.execute(query).all()
    return max((row[0] for row in rows), default=after), frozenset(row[1] for row in rows)


def newest(session: Session) -> int:
    """Return the number of the newest letter, 0 of none: it is another one whenever a letter came."""
    return int(session.execute(select(func.max(col(LetterRow.id)))).scalar_one() or 0)
