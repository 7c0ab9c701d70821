"""Webhooks of accounts: who waits to be told of what, one attempt after another, each by one process at a time.

Nothing is copied per hook. One look goes through everybody's events, in their order, and notes on the hooks of the
accounts concerned that something waits; a hook that waits reads its own events from where its receiver stands. An
attempt is written down as failed before it begins, with the rest that follows: who dies in it leaves nothing to undo,
and the same message goes out again under the same id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, case, func, or_, text, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from btcfi.adapters.store.market import views
from btcfi.adapters.store.market.events import EVENTFUL, AccountEdge, edges_with_owners
from btcfi.adapters.store.market.tables import AccountRow
from btcfi.adapters.store.market.webhook_tables import WAITING, HookState, WebhookLookRow, WebhookRow
from btcfi.adapters.store.spine.edges import cross, record, upsert
from btcfi.adapters.store.spine.tables import EventRow
from btcfi.adapters.store.spine.times import LONGEST_SECONDS
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.market.webhook import MOST_TRIES
from btcfi.units import UnixSeconds

MOST_HOOKS: Final = 4
"""Of one account."""

KINDS: Final = EVENTFUL
"""Entities that a hook may be for."""

LEASE_SECONDS: Final = 60
"""How long who tells a hook may be silent: one attempt is over in ten."""

LOOKED_AT: Final = 500
"""Events that one look, or one reading for a hook, goes through."""

GAP_MS: Final = 10_000
"""How long a missing number of an event is waited for: PostgreSQL gives numbers out before transactions commit."""

READ_AT_ONCE: Final = 8
"""Readings for a hook in one transaction: of a busy desk, 4,000 events of others."""

_LOOK: Final = "events"


class TooManyHooksError(ConflictError):
    """An account has as many hooks as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} webhooks; remove one first")
        self.most = most


class HookThereError(ConflictError):
    """An account has a hook for this URL."""

    def __init__(self, hook_id: str) -> None:
        super().__init__(
            f"webhook {hook_id} is for this URL; its secret was shown when it was added: remove it, and add it anew"
        )
        self.hook_id = hook_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One process's turn to tell a hook."""

    hook_id: str
    fence: int
    account: str
    url: str
    secret_sealed: bytes
    tries: int
    """With this one."""


# ---- by its owner


def add(
    session: Session, hook_id: str, account: AccountRow, *, url: str, kinds: Collection[str], secret_sealed: bytes,
    now: UnixSeconds,
) -> WebhookRow:  # fmt: skip
    """Add a hook, which is told of what happens from now on; that it is there is its first event.

    url: one that was checked. Raises TooManyHooksError, HookThereError, InvalidInputError for an unknown kind.
    """
    chosen = [kind for kind in KINDS if kind in kinds]
    if not chosen or len(chosen) != len(kinds):
        raise InvalidInputError("kinds", ", ".join(map(repr, kinds))[:60] or "none", "some of " + ", ".join(KINDS))
    session.get(AccountRow, account.id, with_for_update={"key_share": True})  # two at once are one after another
    there = hooks_of(session, account.id)
    if (same := next((row for row in there if row.url == url), None)) is not None:
        raise HookThereError(same.id)
    if len(there) >= MOST_HOOKS:
        raise TooManyHooksError(MOST_HOOKS)
    at = _looked(session).event_id
    row = WebhookRow(
        id=hook_id, account_id=account.id, url=url, kinds=",".join(chosen), secret_sealed=secret_sealed, told_event=at,
        newest_event=at, created_at_unix=now, updated_at_unix=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, "webhook", row.id, row.state, now=now)
    return row


def hooks_of(session: Session, account: str) -> Sequence[WebhookRow]:
    """Return an account's hooks, the oldest first."""
    query = select(WebhookRow).where(WebhookRow.account_id == account)
    return session.exec(query.order_by(col(WebhookRow.created_at_unix), col(WebhookRow.id))).all()


def hook_of(session: Session, account: str, hook_id: str) -> WebhookRow:
    """Return a hook of an account. Raises NotFoundError, for another's too."""
    row = session.get(WebhookRow, hook_id)
    if row is None or row.account_id != account:
        raise NotFoundError("webhook", hook_id[:64])
    return row


def remove(session: Session, account: str, hook_id: str) -> None:
    """Remove a hook; what is on its way to it may still arrive. Raises NotFoundError."""
    session.delete(hook_of(session, account, hook_id))
    session.flush()


def test(session: Session, account: str, hook_id: str, *, now: UnixSeconds) -> WebhookRow:
    """Have a message sent that says nothing but that it is a test; what waits goes first, without another rest.

    A disabled hook is active again, and hears what it missed. Raises NotFoundError.
    """
    row = hook_of(session, account, hook_id)
    again: dict[str, object] = {"rest_seconds": 0, "tries": 0}
    if row.state == HookState.DISABLED:  # what came meanwhile was noted on no hook: all of it is read once more
        again |= {"newest_event": _looked(session).event_id}
    cross(session, row, HookState.ACTIVE, now=now, changes=again, detail="test")
    return row


# ---- the look


def look(session: Session, *, now_ms: int) -> bool:
    """Go on through everybody's events, note what waits for whom, and return whether there are more.

    now_ms: by the database's clock. A number that is missing is waited for, since its event may commit later.
    """
    at = _looked(session, locked=True)
    rows = session.exec(
        select(EventRow).where(col(EventRow.id) > at.event_id).order_by(col(EventRow.id)).limit(LOOKED_AT)
    ).all()
    settled = _settled(at, rows, now_ms)
    if not settled:
        session.add(at)
        return False
    if _any_active(session):
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for edge in edges_with_owners(session, settled):
            for account in edge.accounts:
                first.setdefault(account, edge.event.id or 0)
                last[account] = edge.event.id or 0
        for account, newest in last.items():
            _note(session, account, first[account], newest)
    at.event_id = settled[-1].id or at.event_id
    session.add(at)
    session.flush()
    return len(settled) == LOOKED_AT


def _settled(at: WebhookLookRow, rows: Sequence[EventRow], now_ms: int) -> Sequence[EventRow]:
    """Return the events before the first missing number that is still waited for, and note since when it is."""
    waited = at.gap_since_ms is not None and now_ms - at.gap_since_ms >= GAP_MS
    for_good = at.gap_upto or 0 if waited else 0
    expected = at.event_id + 1
    for n, row in enumerate(rows):
        number = row.id or 0
        if number != expected and number > for_good:
            known = at.gap_since_ms is not None and at.gap_since_ms <= now_ms and number <= (at.gap_upto or 0)
            if not known:
                at.gap_upto, at.gap_since_ms = rows[-1].id, now_ms
            return rows[:n]
        expected = number + 1
    return rows


def _looked(session: Session, *, locked: bool = False) -> WebhookLookRow:
    """Return how far the events were looked through: of a store that never did, all of them."""
    row = session.get(WebhookLookRow, _LOOK, with_for_update=locked or None, populate_existing=True)
    if row is None:
        newest = session.execute(select_columns(func.max(col(EventRow.id)))).scalar_one() or 0
        first = upsert(session, WebhookLookRow).values(name=_LOOK, event_id=newest)
        session.execute(first.on_conflict_do_nothing(index_elements=["name"]))
        row = session.get_one(WebhookLookRow, _LOOK, with_for_update=locked or None)
    return row


def _any_active(session: Session) -> bool:
    query = select_columns(col(WebhookRow.id)).where(col(WebhookRow.state) == HookState.ACTIVE.value).limit(1)
    return session.execute(query).first() is not None


def _note(session: Session, account: str, first: int, newest: int) -> None:
    """Note that something of an account waits. One that waited for nothing begins just before it."""
    idle = col(WebhookRow.told_event) >= col(WebhookRow.newest_event)
    session.execute(
        update(WebhookRow)
        .where(col(WebhookRow.account_id) == account, col(WebhookRow.state) == HookState.ACTIVE.value)
        .where(col(WebhookRow.newest_event) < newest)
        .values(newest_event=newest, told_event=case((idle, first - 1), else_=col(WebhookRow.told_event)))
        .execution_options(synchronize_session=False)
    )


# ---- attempts


def begin(session: Session, *, slow: bool, most: int, now: UnixSeconds) -> list[Attempt]:
    """Take turns at hooks that something waits for, the longest untried first; each is written down as failed.

    slow: whether of those that answer late or never, or of the others. most: turns.
    """
    if most <= 0:
        return []
    late = or_(col(WebhookRow.slow).is_(True), col(WebhookRow.tries) > 0)
    query = (
        select(WebhookRow)
        .where(text(WAITING), _rested(now), late if slow else ~late)
        .order_by(col(WebhookRow.tried_at_unix), col(WebhookRow.id))
        .limit(most)
    )
    begun = []
    for row in session.exec(query).all():
        mine = _of_attempt(row.id, row.fence)
        values = {
            "fence": row.fence + 1, "tries": row.tries + 1, "tried_at_unix": now, "rest_seconds": LEASE_SECONDS,
        }  # fmt: skip
        if _changed(session, mine, values):
            begun.append(
                Attempt(
                    hook_id=row.id, fence=row.fence + 1, account=row.account_id, url=row.url,
                    secret_sealed=row.secret_sealed, tries=row.tries + 1,
                )
            )  # fmt: skip
    return begun


def following(session: Session, attempt: Attempt) -> AccountEdge | None:
    """Return the next event that a hook's receiver is to be told of, None where there is none, or not yet.

    What is not for it is passed over, and not read again.
    """
    row = _held(session, attempt)
    if row is None:
        return None
    at, kinds = row.told_event, row.kinds.split(",")
    for _ in range(READ_AT_ONCE):
        edges, reached = views.edges_of(session, row.account_id, after=at, limit=LOOKED_AT)
        upto = [edge for edge in edges if (edge.event.id or 0) <= row.newest_event]
        wanted = next((edge for edge in upto if _is_for(row, kinds, edge.event)), None)
        if wanted is not None or reached >= row.newest_event or reached == at:
            at = (wanted.event.id or 1) - 1 if wanted is not None else row.newest_event
            break
        at = reached
    else:
        wanted = None
    if at != row.told_event:
        _changed(session, _of_attempt(row.id, attempt.fence), {"told_event": at})
    return wanted


def _is_for(row: WebhookRow, kinds: Collection[str], event: EventRow) -> bool:
    if event.entity == "webhook" and event.to_state == HookState.ACTIVE:
        # a test is for the one that is tested; of one that was added the others hear, too
        return event.entity_id == row.id or (not event.from_state and event.entity in kinds)
    return event.entity in kinds


def note_taken(
    session: Session, attempt: Attempt, event_id: int, *, status: int | None, slow: bool, now: UnixSeconds
) -> bool:
    """Note that a hook's receiver has an event, and that the next is tried; return whether the turn is still ours."""
    values = {
        "told_event": event_id, "tries": 0, "slow": slow, "last_status": status, "problem": None, "told_at_unix": now,
        "tried_at_unix": now, "updated_at_unix": now,
    }  # fmt: skip
    return _changed(session, _of_attempt(attempt.hook_id, attempt.fence), values)


def end(session: Session, attempt: Attempt) -> None:
    """End a turn in which nothing failed: what waits may be tried at once."""
    values = {"rest_seconds": 0, "tries": 0}
    _changed(session, _of_attempt(attempt.hook_id, attempt.fence), values)


def put_off(session: Session, attempt: Attempt, *, rest: int, problem: str) -> None:
    """End a turn in which nothing could be tried, for want of something here: it counts for nothing."""
    values = {"rest_seconds": rest, "tries": max(attempt.tries - 1, 0), "problem": problem}
    _changed(session, _of_attempt(attempt.hook_id, attempt.fence), values)


def note_failed(
    session: Session, attempt: Attempt, *, status: int | None, problem: str, rest: int, gone: bool, now: UnixSeconds
) -> bool:  # fmt: skip
    """Note why a message was not taken; return whether the hook is given up.

    rest: seconds to the next attempt. gone: the receiver says that it wants none any more.
    """
    row = _held(session, attempt)
    if row is None:
        return False
    said = {"last_status": status, "problem": problem, "slow": True}
    if gone or row.tries >= MOST_TRIES:
        return cross(
            session, row, HookState.DISABLED, now=now, changes=said | {"rest_seconds": 0}, fence=attempt.fence,
            detail=problem,
        )  # fmt: skip
    _changed(
        session, _of_attempt(row.id, attempt.fence), said | {"rest_seconds": rest, "updated_at_unix": now}
    )  # fmt: skip
    return False


def _held(session: Session, attempt: Attempt) -> WebhookRow | None:
    """Return a hook whose turn is still ours."""
    row = session.get(WebhookRow, attempt.hook_id, populate_existing=True)
    ours = row is not None and row.fence == attempt.fence and row.state == HookState.ACTIVE
    return row if ours else None


def _rested(now: UnixSeconds) -> ColumnElement[bool]:
    """Return the condition that a hook may be tried. One that a wrong clock tried in the future may be, too."""
    tried = col(WebhookRow.tried_at_unix)
    return or_(tried + col(WebhookRow.rest_seconds) <= now, tried > now + LONGEST_SECONDS)


def _of_attempt(hook_id: str, fence: int) -> ColumnElement[bool]:
    return and_(
        col(WebhookRow.id) == hook_id, col(WebhookRow.fence) == fence,
        col(WebhookRow.state) == HookState.ACTIVE.value,
    )  # fmt: skip


def _changed(session: Session, which: ColumnElement[bool], values: Mapping[str, object]) -> bool:
    done = session.execute(
        update(WebhookRow)
        .where(which)
        .values(**values)
        .returning(col(WebhookRow.id))
        .execution_options(synchronize_session=False)
    ).first()
    return done is not None
