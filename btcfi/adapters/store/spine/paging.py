"""Pages by key: where the last one ended, not how many rows came before it, so page 1,000 costs what page 1 does.

One helper for every list that somebody pages or streams through, since the condition decides whether an index answers:
``(a, b) < (x, y)`` begins at its place in an index over ``(a, b)``; the same written with ``or`` reads every row before
it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import func, tuple_
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from btcfi.errors import InvalidInputError

R = TypeVar("R")

MAX_INTEGER: Final = 2**63 - 1
"""What a column of 64 bits holds: a cursor beyond it is none of ours, and drivers refuse it each in its own way."""


class NoSuchPageError(InvalidInputError):
    """A cursor that we did not hand out."""

    def __init__(self) -> None:
        super().__init__("cursor", "not one of ours", "the next_cursor of the page before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[R]):
    """One page of rows."""

    rows: Sequence[R]
    following: str | None
    """The next page's cursor; None for the last page."""


def encode_cursor(at: int, key: str) -> str:
    """Return the cursor of the row with this time and key: opaque to callers."""
    return base64.urlsafe_b64encode(f"{at}:{key}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Return the time and key of a cursor. Raises NoSuchPageError."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("utf-8")
        at, key = text.split(":", 1)
        place = int(at)
    except (ValueError, binascii.Error, UnicodeDecodeError) as e:
        raise NoSuchPageError from e
    if not 0 <= place <= MAX_INTEGER or "\x00" in key or encode_cursor(place, key) != cursor:
        raise NoSuchPageError
    return place, key


def newest_page(
    session: Session, query: SelectOfScalar[R], at: Any, key: Any = None, *, limit: int, cursor: str | None,  # noqa: ANN401
    shortened: bool = False,
) -> Page[R]:  # fmt: skip
    """Return one page of ``query``'s rows, newest first.

    query: a SELECT of one table without order. at, key: its columns of time and, where a time is not unique, of the
    key; an index over both answers. limit: rows. cursor: where the page before ended. shortened: the
    cursor has no more of the key than tells its row from the next one: keys are hashes, in lower-case hex, that are not
    everybody's to know. Raises NoSuchPageError.
    """
    columns = (at,) if key is None else (at, key)
    beyond = None if cursor is None else decode_cursor(cursor)[: len(columns)]
    rows = stretch(session, query, *columns, beyond=beyond, limit=limit + 1, newest_first=True)
    return _page(rows, at, key, limit, shortened=shortened)


def either_page(
    session: Session, queries: Sequence[SelectOfScalar[R]], at: Any, key: Any, *, limit: int, cursor: str | None  # noqa: ANN401
) -> Page[R]:  # fmt: skip
    """Return one page of the rows that one of several queries has, as ``newest_page`` would of all of them.

    No index answers an ``or`` of two columns in order: each query is read by its own, as far as one page goes, and a
    row that several have is shown once.
    """
    beyond = None if cursor is None else decode_cursor(cursor)
    found: dict[tuple[int, str], R] = {}
    for query in queries:
        some = stretch(session, query, at, key, beyond=beyond, limit=limit + 1, newest_first=True)
        found |= {_place(row, at, key): row for row in some}
    return _page([found[place] for place in sorted(found, reverse=True)[: limit + 1]], at, key, limit)


def _page(
    rows: Sequence[R], at: Any, key: Any, limit: int, *, shortened: bool = False  # noqa: ANN401 - columns
) -> Page[R]:  # fmt: skip
    shown, last = rows[:limit], rows[limit - 1] if len(rows) > limit else None
    if last is None:
        return Page(rows=shown, following=None)
    time, name = _place(last, at, key)
    if shortened:
        following = _place(rows[limit], at, key)
        name = "" if following[0] != time else _apart(name, following[1])
    return Page(rows=shown, following=encode_cursor(time, name))


def _apart(name: str, lower: str) -> str:
    """Return the shortest beginning of a name that is above a lower one."""
    return next((name[:n] for n in range(1, len(name)) if name[:n] > lower), name)


def stretch(
    session: Session, query: SelectOfScalar[R], *columns: Any, beyond: Sequence[object] | None, limit: int,  # noqa: ANN401
    newest_first: bool = False,
) -> Sequence[R]:  # fmt: skip
    """Return the first ``limit`` rows of ``query`` in the order of ``columns`` that lie beyond a place in it.

    beyond: values of the columns, exclusive; None for the beginning.
    """
    if beyond is not None:
        here: Any = columns[0] if len(columns) == 1 else tuple_(*columns)
        place: Any = beyond[0] if len(columns) == 1 else tuple_(*beyond)
        query = query.where(here < place if newest_first else here > place)
    ordered = query.order_by(*(column.desc() if newest_first else column.asc() for column in columns))
    return session.exec(ordered.limit(limit)).all()


def aside(column: Any) -> Any:  # noqa: ANN401 - a mapped column, and an expression of it
    """Return the column as an expression that no index answers, so that the planner takes another condition's.

    Without statistics, as SQLite is here, it takes an equality for rarer than a range: it would read every row of a
    state to find the few whose id begins with something, or sort every event of a kind to find those of this second.
    """
    return func.coalesce(column, column)


def _place(row: Any, at: Any, key: Any) -> tuple[int, str]:  # noqa: ANN401 - a row and its columns
    return int(getattr(row, at.key)), "" if key is None else str(getattr(row, key.key))
