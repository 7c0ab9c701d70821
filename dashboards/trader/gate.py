"""Who looks as an account: sessions by a cookie, and forms that belong to them. Nothing here signs or trades."""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request
from starlette.responses import Response

from btcfi.adapters.store.market import visitors
from btcfi.adapters.store.spine.database import Store, StoreUnreachableError
from btcfi.surfaces.rest.errors import UnauthenticatedError
from btcfi.units import UnixSeconds
from dashboards.shared.forms import fields_of, raise_if_forged

if TYPE_CHECKING:
    from dashboards.trader.deps import DeskLimits

COOKIE: Final = "btcfi_desk"
ASK_COOKIE: Final = "btcfi_desk_code"
"""The code that a browser shows, and the word that makes it this browser's."""

TOKEN_BYTES: Final = 32
_TOKEN: Final = 2 * TOKEN_BYTES

ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Of a code: nothing that is read as another."""

CODE_LETTERS: Final = 8

_BROWSERS: Final = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS: Final = (
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


class SignInNeededError(UnauthenticatedError):
    """Nobody is signed in, or the session has ended."""

    def __init__(self) -> None:
        super().__init__("nobody is signed in here, or the session has ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """An account, as a browser that it let in looks as it."""

    account: str
    """Identity, hex."""
    name: str
    number: str
    """Of the session: what its owner ends it by."""
    address: str
    token: str = field(repr=False)
    """The session's, as the cookie has it."""

    @property
    def csrf(self) -> str:
        """The word that every form of this session carries; who has not the cookie cannot know it."""
        return hmac.new(self.token.encode(), b"btcfi desk form", sha256).hexdigest()


def visitor_of(
    store: Store, token: str, *, address: str, limits: DeskLimits, now: UnixSeconds, asks: bool = True
) -> Visitor | None:  # fmt: skip
    """Return who holds a session; None where it is none, or has ended.

    asks: whether it is by a request of the browser, which keeps the session from being idle.
    """
    if len(token) != _TOKEN or not token.isascii():
        return None
    with store.reading() as session:
        found = visitors.session_of(session, token, now=now, idle_seconds=limits.idle_seconds)
        if found is None:
            return None
        row, account = found
        visitor = Visitor(account=account.id, name=account.name, number=row.id, token=token, address=address)
        seen = row.seen_at_unix
    if asks and seen + visitors.SEEN_SECONDS <= now:
        # on a full disk, or while somebody else writes for long, pages are read all the same
        with suppress(StoreUnreachableError), store.transaction() as session:
            visitors.note_seen(session, token, now=now)
    return visitor


async def signed_in(request: Request) -> Visitor:
    """Return who is signed in. Raises SignInNeededError."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    if found is None:
        raise SignInNeededError
    return found


async def form(request: Request, who: Annotated[Visitor, Depends(signed_in)]) -> dict[str, str]:
    """Return the fields of a form of this session, the first of each name. Raises ForgedFormError."""
    fields = dict(reversed(fields_of(request)))
    raise_if_forged(request, fields.pop("csrf", ""), who.csrf)
    return {name: value.strip() for name, value in fields.items()}


Signed = Annotated[Visitor, Depends(signed_in)]
Form = Annotated[dict[str, str], Depends(form)]


def new_code(entropy: bytes) -> str:
    """Return a code: 39 of the random bits, in letters that are read well."""
    number = int.from_bytes(entropy, "big")
    letters = []
    for _ in range(CODE_LETTERS):
        number, at = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[at])
    return "".join(letters)


def browser_in_words(agent: str) -> str:
    """Return what a browser says it is, in words of ours: its own would be shown to whoever is to let it in."""
    name = next((word for mark, word in _BROWSERS if mark in agent), "an unknown browser")
    system = next((word for mark, word in _SYSTEMS if mark in agent), "")
    return f"{name} on {system}" if system else name


def ask_token(cookie: str) -> str:
    """Return what the form for the digits carries for this browser's cookie."""
    return sha256(f"btcfi desk digits {cookie}".encode()).hexdigest()


def set_cookie(
    answer: Response, request: Request, *, name: str, value: str, seconds: int, path: str, secure: bool
) -> None:
    """Give a browser a cookie that no script reads and no other site's page sends."""
    answer.set_cookie(
        name, value, max_age=seconds, path=path or "/", httponly=True, samesite="strict",
        secure=secure or request.url.scheme == "https",
    )  # fmt: skip
