"""Signing in without a password: a code for the account's own process, and the digits that it gives back."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from btcfi.adapters.store.market import visitors
from btcfi.adapters.store.market.accounts import account
from btcfi.adapters.store.market.visitor_tables import DeskSignInRow
from btcfi.adapters.store.market.visitors import ANSWER_DIGITS, CODE_SECONDS, Browser, WrongAnswerError
from btcfi.surfaces.rest.errors import NoDeskError
from dashboards.shared.forms import fields_of, raise_if_forged
from dashboards.shared.shell import address_of
from dashboards.trader.desk import Desk, base_of, caller_of, visitor_in
from dashboards.trader.gate import (
    ASK_COOKIE,
    COOKIE,
    TOKEN_BYTES,
    Form,
    Signed,
    ask_token,
    browser_in_words,
    new_code,
    set_cookie,
)

WRONG = "These are not the digits of this page's code"


def router(desk: Desk) -> APIRouter:
    """Return the page and its actions."""
    routes = APIRouter()

    @routes.get("/sign-in")
    def show(request: Request) -> Response:
        if visitor_in(request) is not None:
            return RedirectResponse(f"{base_of(request)}/positions", 303)
        return _page(desk, request)

    @routes.post("/sign-in/code")
    def ask(request: Request) -> Response:
        fields_of(request)
        raise_if_forged(request, "", "")  # of this site, by where it comes from: there is no session to tie it to yet
        if not desk.deps.accounts:
            raise NoDeskError
        desk.codes.take(caller_of(request))
        code, word = new_code(desk.deps.entropy(8)), desk.deps.entropy(TOKEN_BYTES).hex()
        words = browser_in_words(request.headers.get("user-agent", "")[:500])
        browser = Browser(cookie=word, words=words, address=address_of(request)[:80])
        old = _asked(desk, request)
        with desk.deps.api.store.transaction() as session:
            visitors.ask(session, code, browser, now=desk.deps.api.clock(), old=None if old is None else old.code)
        answer = RedirectResponse(f"{base_of(request)}/sign-in", 303)
        _give(desk, answer, request, name=ASK_COOKIE, value=f"{code}.{word}", seconds=CODE_SECONDS)
        return answer

    @routes.post("/sign-in")
    def enter(request: Request) -> Response:
        fields = dict(reversed(fields_of(request)))
        cookie = request.cookies.get(ASK_COOKIE, "")
        raise_if_forged(request, fields.get("csrf", ""), ask_token(cookie))
        asked = _asked(desk, request)
        if asked is None:
            return _page(desk, request, problem="The code is too old: have a new one shown", status=401)
        digits = "".join(one for one in fields.get("digits", "")[:40] if one in "0123456789")
        token, now = desk.deps.entropy(TOKEN_BYTES).hex(), desk.deps.api.clock()
        store, seconds = desk.deps.api.store, desk.deps.limits.session_seconds
        with store.transaction() as session:
            counted = len(digits) == ANSWER_DIGITS and visitors.count_try(session, asked.code)
        if not counted:
            spent = len(digits) == ANSWER_DIGITS
            said = "Too many digits were tried: have a new code shown" if spent else f"It is {ANSWER_DIGITS} digits"
            return _page(desk, request, problem=said, status=401)
        try:
            with store.transaction() as session:
                visitors.let_in(
                    session, asked.code, cookie.partition(".")[2], digits, token=token,
                    number=desk.deps.entropy(8).hex(), now=now, seconds=seconds,
                )  # fmt: skip
        except WrongAnswerError:
            return _page(desk, request, problem=WRONG, status=401)
        answer = RedirectResponse(f"{base_of(request)}/positions", 303)
        _give(desk, answer, request, name=COOKIE, value=token, seconds=seconds)
        answer.delete_cookie(ASK_COOKIE, path=base_of(request) or "/")
        return answer

    @routes.post("/sign-out")
    def leave(request: Request, who: Signed, _form: Form) -> Response:
        with desk.deps.api.store.transaction() as session:
            owner = account(session, who.account)
            visitors.end_session(session, owner, who.number, address=who.address, now=desk.deps.api.clock())
        answer = RedirectResponse(f"{base_of(request)}/", 303)
        answer.delete_cookie(COOKIE, path=base_of(request) or "/")
        return answer

    return routes


def _asked(desk: Desk, request: Request) -> DeskSignInRow | None:
    """Return the code that this browser shows, if it is good."""
    code, _, word = request.cookies.get(ASK_COOKIE, "").partition(".")
    if not code or not word:
        return None
    with desk.deps.api.store.reading() as session:
        return visitors.asked_by(session, code[:40], word[:200], now=desk.deps.api.clock())


def _page(desk: Desk, request: Request, *, problem: str = "", status: int = 200) -> HTMLResponse:
    asked = _asked(desk, request)
    return desk.page(
        request, "sign_in.html", status=status, problem=problem, asked=asked,
        token=ask_token(request.cookies.get(ASK_COOKIE, "")), minutes=CODE_SECONDS // 60,
        hours=desk.deps.limits.session_seconds // 3_600,
    )  # fmt: skip


def _give(desk: Desk, answer: Response, request: Request, *, name: str, value: str, seconds: int) -> None:
    secure, path = desk.deps.secure_cookies, base_of(request)
    set_cookie(answer, request, name=name, value=value, seconds=seconds, path=path, secure=secure)
