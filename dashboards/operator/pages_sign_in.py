"""Signing in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from btcfi.surfaces.addresses import who_counts
from dashboards.operator import accounts
from dashboards.operator.console import Console, base_of
from dashboards.operator.errors import SignInNeededError
from dashboards.operator.gate import (
    COOKIE,
    SIGN_IN_COOKIE,
    ReaderForm,
    sign_in_token,
)
from dashboards.shared.errors import ForgedFormError
from dashboards.shared.forms import fields_of, raise_if_forged
from dashboards.shared.shell import address_of


def router(console: Console) -> APIRouter:
    """Return the sign-in page and the two actions."""
    routes = APIRouter()

    @routes.get("/sign-in")
    def form(request: Request, to: Annotated[str, Query(max_length=400)] = "") -> Response:
        return _form(console, request, to=local(to))

    @routes.post("/sign-in")
    async def enter(request: Request) -> Response:
        fields = dict(fields_of(request))
        cookie = request.cookies.get(SIGN_IN_COOKIE)
        if cookie is None:
            raise ForgedFormError("the browser sent no cookie; from another machine it keeps ours over TLS only")
        raise_if_forged(request, fields.get("csrf", ""), sign_in_token(cookie))
        to, name = local(fields.get("to", "")), fields.get("name", "")[:80]
        deps, address = console.deps, address_of(request)
        # counted first, then in line for the hasher, whose 64 MiB are the dearest thing a stranger can ask for
        counted, seconds = who_counts(address), deps.limits.wait_seconds
        async with console.counting.of(counted, seconds=seconds):
            attempt = await run_in_threadpool(
                accounts.begin_sign_in, console.store, name, address=address, limits=deps.limits, now=console.now()
            )
        async with console.hashing.of(counted, seconds=seconds):
            verdict = await run_in_threadpool(accounts.weigh, attempt, fields.get("password", ""))
        try:
            token = await run_in_threadpool(
                accounts.finish_sign_in, console.store, attempt, verdict,
                entropy=deps.entropy(accounts.TOKEN_BYTES), limits=deps.limits, now=console.now(),
            )  # fmt: skip
        except SignInNeededError as e:
            return _form(console, request, to=to, name=name, problem=f"{e.why}.", status=401)
        answer = RedirectResponse(base_of(request) + to, status_code=303)
        _set(
            answer, console, request, name=COOKIE, value=token, seconds=console.deps.limits.session_seconds
        )  # fmt: skip
        answer.delete_cookie(SIGN_IN_COOKIE, path=base_of(request) or "/")
        return answer

    @routes.post("/sign-out")
    def leave(request: Request, form: ReaderForm) -> RedirectResponse:
        accounts.sign_out(console.store, form.visitor, now=console.now())
        answer = RedirectResponse(f"{base_of(request)}/sign-in", status_code=303)
        answer.delete_cookie(COOKIE, path=base_of(request) or "/")
        return answer

    return routes


def _form(
    console: Console, request: Request, *, to: str, name: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    cookie = request.cookies.get(SIGN_IN_COOKIE) or console.deps.entropy(16).hex()
    answer = console.page(
        request, None, "sign_in.html", status=status, to=to, name=name, problem=problem, token=sign_in_token(cookie)
    )  # fmt: skip
    _set(answer, console, request, name=SIGN_IN_COOKIE, value=cookie, seconds=3_600)
    return answer


def _set(answer: Response, console: Console, request: Request, *, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(
        name, value, max_age=seconds, path=base_of(request) or "/", httponly=True, samesite="strict",
        secure=console.deps.secure_cookies or request.url.scheme == "https",
    )  # fmt: skip


def local(to: str) -> str:
    """Return ``to`` when it is a path of ours, else the first page: never another site."""
    safe = to.startswith("/") and not to.startswith(("//", "/\\", "/sign-")) and to.isprintable() and "\\" not in to
    return to if safe else "/"
