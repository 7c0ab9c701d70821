"""Who looks at the desk as an account: a browser shows a code, the account's process answers it by its signature.

A session needs three things of three places: the cookie of the browser that asked, the account's signature over the
code, and the digits that its owner was given and typed into that browser. A code that somebody else saw, or talked an
owner into answering, opens nothing without the digits; digits open nothing in another browser.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Final

from sqlalchemy import delete, func, update
from sqlmodel import Session, col, select

from btcfi.adapters.store.access.console_tables import audit
from btcfi.adapters.store.market.tables import AccountRow
from btcfi.adapters.store.market.visitor_tables import DeskSessionRow, DeskSignInRow
from btcfi.errors import BtcfiError, ConflictError, NotFoundError, RetryableError
from btcfi.units import UnixSeconds

CODE_SECONDS: Final = 300
"""How long a code is good: time to read what is asked, and no more."""

MOST_TRIES: Final = 5
"""Digits that may be typed for one code: one in twenty million is guessed."""

MOST_ASKED: Final = 20_000
"""Codes that are good at once, of everybody together."""

GIVE_WAY: Final = 100
"""Codes that make room at once when all are out: whoever asks next finds some."""

MOST_SESSIONS: Final = 10
"""Of one account: another one ends the oldest."""

SEEN_SECONDS: Final = 60
"""A session's last request is written down at most so often: a page is a read, not a write."""

ANSWER_DIGITS: Final = 8


class CodeTakenError(ConflictError):
    """Another account has answered this code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"code {code} was answered by another account; have the page show a new one")
        self.code = code


class OtherBrowserError(ConflictError):
    """What was signed is not what the desk knows of the browser that asked."""

    def __init__(self, code: str) -> None:
        super().__init__(f"code {code} belongs to another browser than the one that you were shown; look again")
        self.code = code


class TooManyAskedError(RetryableError):
    """Too many browsers wait to be let in."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most:,} browsers wait to be let in; try again in some minutes")
        self.most = most


class WrongAnswerError(BtcfiError):
    """The digits are not those that the account was given for this browser's code, or nobody has answered it."""

    def __init__(self) -> None:
        super().__init__("these are not the digits of this page's code")


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """A browser that wants in."""

    cookie: str
    """Its own word."""
    words: str
    """What it says it is."""
    address: str


def digest(word: str) -> str:
    """Return what is kept of a word that a browser has."""
    return sha256(word.encode()).hexdigest()


def ask(
    session: Session, code: str, browser: Browser, *, now: UnixSeconds, old: str | None = None
) -> DeskSignInRow:  # fmt: skip
    """Show a browser a new code. old: the one that it showed, which is no more.

    When MOST_ASKED are out, the oldest of the block of addresses that has most of them make room: who asks without an
    end shuts nobody out but itself. What an account has answered stays. Raises TooManyAskedError where all are.
    """
    session.execute(delete(DeskSignInRow).where(col(DeskSignInRow.expires_at_unix) <= now))
    if old is not None:
        session.execute(delete(DeskSignInRow).where(col(DeskSignInRow.code) == old))
    if session.exec(select(func.count()).select_from(DeskSignInRow)).one() >= MOST_ASKED:
        _make_room(session)
    row = DeskSignInRow(
        code=code, browser_sha256=digest(browser.cookie), browser=browser.words, address=browser.address,
        created_at_unix=now, expires_at_unix=now + CODE_SECONDS,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def _make_room(session: Session) -> None:
    unanswered = select(DeskSignInRow.code, DeskSignInRow.address).where(col(DeskSignInRow.account_id).is_(None))
    oldest = unanswered.order_by(col(DeskSignInRow.created_at_unix), col(DeskSignInRow.code))
    by_block: dict[str, list[str]] = {}
    for code, address in session.exec(oldest).all():
        by_block.setdefault(block_of(address), []).append(code)
    if not by_block:
        raise TooManyAskedError(MOST_ASKED)
    most = max(by_block.values(), key=len)
    gone = most[: min(GIVE_WAY, (len(most) + 1) // 2)]
    session.execute(delete(DeskSignInRow).where(col(DeskSignInRow.code).in_(gone)))


def block_of(address: str) -> str:
    """Return the block that an address is of, which somebody may have the whole of: IPv4's /24, IPv6's /48."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip_network((found, 24 if found.version == 4 else 48), strict=False))  # noqa: PLR2004 - IPv4


def asked(session: Session, code: str, *, now: UnixSeconds) -> DeskSignInRow:
    """Return a code that is still good. Raises NotFoundError."""
    row = session.get(DeskSignInRow, code)
    if row is None or row.expires_at_unix <= now:
        raise NotFoundError("code", code, "the one that the desk's page shows; a new one if it is older than minutes")
    return row


def asked_by(session: Session, code: str, cookie: str, *, now: UnixSeconds) -> DeskSignInRow | None:
    """Return the good code of a browser, to the browser itself and to be kept after the session; None: it has none."""
    row = session.get(DeskSignInRow, code)
    if row is None or row.expires_at_unix <= now or not hmac.compare_digest(row.browser_sha256, digest(cookie)):
        return None
    session.expunge(row)
    return row


def answer(
    session: Session, code: str, account: AccountRow, *, browser: str, address: str, digits: str, now: UnixSeconds
) -> DeskSignInRow:  # fmt: skip
    """Note that an account lets a browser in, once ``digits`` are typed there; again gives other digits.

    browser, address: what the account's owner was shown, and signed. Raises NotFoundError, OtherBrowserError,
    CodeTakenError.
    """
    row = asked(session, code, now=now)
    if (row.browser, row.address) != (browser, address):
        raise OtherBrowserError(code)
    free = col(DeskSignInRow.account_id).is_(None) | (col(DeskSignInRow.account_id) == account.id)
    done = session.execute(
        update(DeskSignInRow)
        .where(col(DeskSignInRow.code) == code, free)
        .values(account_id=account.id, request_key=account.request_key, answer_sha256=digest(f"{code} {digits}"))
        .returning(col(DeskSignInRow.code))
        .execution_options(synchronize_session=False)
    ).first()
    if done is None:
        raise CodeTakenError(code)
    session.refresh(row)
    return row


def count_try(session: Session, code: str) -> bool:
    """Count that digits were typed, before they are looked at: many at once are no more than one after another.

    Return whether they may be looked at.
    """
    counted = update(DeskSignInRow).where(col(DeskSignInRow.code) == code, col(DeskSignInRow.tries) < MOST_TRIES)
    done = session.execute(
        counted.values(tries=col(DeskSignInRow.tries) + 1)
        .returning(col(DeskSignInRow.code))
        .execution_options(synchronize_session=False)
    ).first()
    return done is not None


def let_in(
    session: Session, code: str, cookie: str, digits: str, *, token: str, number: str, now: UnixSeconds, seconds: int
) -> AccountRow:  # fmt: skip
    """Open the session of a browser whose code an account has answered, and return the account.

    The code is used up. token: the new cookie's. number: what the session is ended by. Raises WrongAnswerError.
    """
    row = session.get(DeskSignInRow, code, with_for_update=True, populate_existing=True)
    mine = row is not None and row.expires_at_unix > now and hmac.compare_digest(row.browser_sha256, digest(cookie))
    right = mine and row is not None and hmac.compare_digest(row.answer_sha256 or "", digest(f"{code} {digits}"))
    account = session.get(AccountRow, row.account_id) if right and row is not None and row.account_id else None
    if row is None or account is None or account.request_key != row.request_key:
        raise WrongAnswerError
    session.delete(row)
    session.execute(delete(DeskSessionRow).where(col(DeskSessionRow.expires_at_unix) <= now))
    oldest_last = select(DeskSessionRow).where(DeskSessionRow.account_id == account.id)
    newest = oldest_last.order_by(col(DeskSessionRow.created_at_unix).desc(), col(DeskSessionRow.token_sha256))
    for old in session.exec(newest.offset(MOST_SESSIONS - 1)).all():
        session.delete(old)
    session.add(
        DeskSessionRow(
            token_sha256=digest(token), id=number, account_id=account.id, request_key=account.request_key,
            browser=row.browser, address=row.address, created_at_unix=now, expires_at_unix=now + seconds,
            seen_at_unix=now,
        )
    )  # fmt: skip
    _note(session, account, "desk sign-in", row.address, now=now, target=number, detail=row.browser)
    session.flush()
    return account


def session_of(
    session: Session, token: str, *, now: UnixSeconds, idle_seconds: int
) -> tuple[DeskSessionRow, AccountRow] | None:  # fmt: skip
    """Return who holds a session; None where it is none, has ended, or the account has other keys since."""
    row = session.get(DeskSessionRow, digest(token))
    if row is None or row.expires_at_unix <= now or row.seen_at_unix + idle_seconds <= now:
        return None
    account = session.get(AccountRow, row.account_id)
    return None if account is None or account.request_key != row.request_key else (row, account)


def note_seen(session: Session, token: str, *, now: UnixSeconds) -> None:
    """Note that a session was used, if it is still there."""
    row = session.get(DeskSessionRow, digest(token))
    if row is not None:
        row.seen_at_unix = now


def sessions_of(session: Session, account_id: str, *, now: UnixSeconds) -> Sequence[DeskSessionRow]:
    """Return an account's sessions, the newest first."""
    query = select(DeskSessionRow).where(
        DeskSessionRow.account_id == account_id, col(DeskSessionRow.expires_at_unix) > now
    )
    return session.exec(query.order_by(col(DeskSessionRow.created_at_unix).desc(), col(DeskSessionRow.id))).all()


def end_session(session: Session, account: AccountRow, number: str, *, address: str, now: UnixSeconds) -> bool:
    """End a session of an account by its number, and return whether there was one."""
    ours = col(DeskSessionRow.account_id) == account.id, col(DeskSessionRow.id) == number
    ended = session.execute(delete(DeskSessionRow).where(*ours).returning(col(DeskSessionRow.id))).first()
    if ended is not None:
        _note(session, account, "desk sign-out", address, now=now, target=number)
    return ended is not None


def _note(
    session: Session, account: AccountRow, action: str, address: str, *, now: UnixSeconds, target: str, detail: str = ""
) -> None:
    whose = f"account {account.name}"  # no name of a person at the console has a space
    audit(session, now=now, account=whose, address=address, action=action, target=target, detail=detail)
