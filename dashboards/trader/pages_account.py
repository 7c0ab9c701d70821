"""An account's sessions, its API keys, which read, and its webhooks, which are told what those read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from btcfi.adapters.store.access import keys
from btcfi.adapters.store.access.console_tables import audit
from btcfi.adapters.store.market import views, visitors, webhooks
from btcfi.adapters.store.market.accounts import account
from btcfi.errors import InvalidInputError, NotFoundError
from btcfi.surfaces.rest.auth import create_key
from btcfi.surfaces.rest.deps import READ
from btcfi.surfaces.rest.market_desk import hooks
from btcfi.units import UnixSeconds
from dashboards.trader.desk import Desk, base_of
from dashboards.trader.gate import COOKIE, Form, Signed, Visitor

KEY_DAYS = (7, 30, 90, 365)
"""That a key may live."""

KEY_REQUESTS_PER_MINUTE = 600
LONGEST_NAME = 60


def router(desk: Desk) -> APIRouter:
    """Return the page and its actions; all of them of who is signed in."""
    routes = APIRouter()
    api = desk.deps.api

    @routes.get("/account")
    def show(request: Request, who: Signed) -> HTMLResponse:
        return _page(desk, request, who)

    @routes.post("/account/sessions/end")
    def end_session(request: Request, who: Signed, form: Form) -> Response:
        number = form.get("number", "")[:16]
        with api.store.transaction() as session:
            owner = account(session, who.account)
            if not visitors.end_session(session, owner, number, address=who.address, now=api.clock()):
                raise NotFoundError("session", number, "one of this page's")
        answer = RedirectResponse(f"{base_of(request)}/account", 303)
        if number == who.number:
            answer.delete_cookie(COOKIE, path=base_of(request) or "/")
        return answer

    _keys(routes, desk)
    _hooks(routes, desk)
    return routes


def _keys(routes: APIRouter, desk: Desk) -> None:
    api = desk.deps.api

    @routes.post("/account/keys")
    def make_key(request: Request, who: Signed, form: Form) -> HTMLResponse:
        name, days = form.get("name", ""), form.get("days", "")
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidInputError("name", f"{len(name)} characters", f"1 to {LONGEST_NAME} printable characters")
        if days not in map(str, KEY_DAYS):
            raise InvalidInputError("days", repr(days[:20]), "one of " + ", ".join(map(str, KEY_DAYS)))
        now = api.clock()
        made = create_key(
            api.store, name=f"{who.name}: {name}", roles=(READ,), entropy=desk.deps.entropy(40), now=now,
            expires_at=UnixSeconds(now + int(days) * 86_400), requests_per_minute=KEY_REQUESTS_PER_MINUTE,
            account_id=who.account, most=desk.deps.limits.api_keys,
        )  # fmt: skip
        _note(desk, who, "desk key made", made.split("_")[1])
        return _page(desk, request, who, made=made, status=201)

    @routes.post("/account/keys/end")
    def end_key(request: Request, who: Signed, form: Form) -> Response:
        number = form.get("id", "")[:16]
        with api.store.transaction() as session:
            if number not in {row.id for row in views.api_keys_of(session, who.account)}:
                raise NotFoundError("API key", number, "one of this page's")
            keys.end_key(session, number, now=api.clock())
        _note(desk, who, "desk key ended", number)
        return RedirectResponse(f"{base_of(request)}/account", 303)


def _hooks(routes: APIRouter, desk: Desk) -> None:
    api = desk.deps.api

    @routes.post("/account/webhooks")
    def add_hook(request: Request, who: Signed, form: Form) -> HTMLResponse:
        desk.hooks.take(who.account)
        row, secret = hooks.add(api, who.account, form.get("url", ""), list(webhooks.KINDS))
        _note(desk, who, "webhook added", row.id)
        return _page(desk, request, who, secret=secret, status=201)

    @routes.post("/account/webhooks/test")
    def test_hook(request: Request, who: Signed, form: Form) -> Response:
        desk.hooks.take(who.account)
        hooks.rule_of(api)
        with api.store.transaction() as session:
            webhooks.test(session, who.account, form.get("id", "")[:16], now=api.clock())
        return RedirectResponse(f"{base_of(request)}/account", 303)

    @routes.post("/account/webhooks/remove")
    def remove_hook(request: Request, who: Signed, form: Form) -> Response:
        number = form.get("id", "")[:16]
        with api.store.transaction() as session:
            webhooks.remove(session, who.account, number)
        _note(desk, who, "webhook removed", number)
        return RedirectResponse(f"{base_of(request)}/account", 303)


def _page(
    desk: Desk, request: Request, who: Visitor, *, made: str = "", secret: str = "", status: int = 200
) -> HTMLResponse:  # fmt: skip
    now = desk.deps.api.clock()
    with desk.deps.api.store.reading() as session:
        shown: dict[str, Any] = {
            "account": account(session, who.account), "sessions": visitors.sessions_of(session, who.account, now=now),
            "keys": views.api_keys_of(session, who.account), "hooks": webhooks.hooks_of(session, who.account),
        }  # fmt: skip
        return desk.page(
            request, "account.html", status=status, made=made, secret=secret, days=KEY_DAYS, now=now,
            most_hooks=webhooks.MOST_HOOKS, **shown,
        )  # fmt: skip


def _note(desk: Desk, who: Visitor, action: str, target: str) -> None:
    api = desk.deps.api
    with api.store.transaction() as session:
        audit(
            session, now=api.clock(), account=f"account {who.name}", address=who.address, action=action, target=target
        )  # fmt: skip
