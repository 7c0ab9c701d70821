"""Verify, for somebody without an account, and search by id, transaction, address or instrument."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from btcfi.adapters.store.options import views
from btcfi.adapters.store.options.tables import OptionRow
from btcfi.bitcoin.address import decode_address
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.market.instrument import UNDERLYING, parse_instrument
from btcfi.surfaces.rest.errors import RequestRefusedError
from dashboards.shared.shell import FORM
from dashboards.trader.desk import Desk, base_of, caller_of, visitor_in
from dashboards.trader.verifying import Verdict, Verifier, documents_in, may_see, read_option

Text = Annotated[str, Query(max_length=200)]


class ForeignFormError(RequestRefusedError):
    """A form that another site's page sends."""

    def __init__(self, origin: str) -> None:
        super().__init__(f"the form comes from {origin[:80]!r}; expected one of this desk's pages")


def router(desk: Desk) -> APIRouter:
    """Return the pages."""
    routes = APIRouter()
    verifier = Verifier(desk.deps.api)

    @routes.get("/verify")
    async def show(request: Request, id: Text = "") -> HTMLResponse:  # noqa: A002 - the word of the form
        if not id.strip():
            return desk.page(
                request, "verify.html", verdict=None, problem="", text="", stored=desk.stored, missing=False
            )
        return await _answer(request, id)

    @routes.post("/verify")
    async def verify(request: Request) -> HTMLResponse:
        return await _answer(request, _text_of(request))

    async def _answer(request: Request, text: str | bytes) -> HTMLResponse:
        """Answer with the verdict; what is wrong with what was pasted is an answer too."""
        verdict, problem, status = None, "", 200
        try:
            async with desk.verifying.of(caller_of(request), seconds=desk.deps.limits.wait_seconds):
                verdict = await run_in_threadpool(_verdict, desk, verifier, text, _account(request))
        except (InvalidInputError, NotFoundError) as e:
            problem, status = f"{e}", 404 if isinstance(e, NotFoundError) else 422
        part = "parts/verdict.html" if request.headers.get("hx-request") == "true" else "verify.html"
        shown = text.strip() if isinstance(text, str) and len(text) <= 200 else ""  # noqa: PLR2004 - an id
        return desk.page(
            request, part, status=status, verdict=verdict, problem=problem, text=shown, stored=desk.stored,
            missing=status == 404,  # noqa: PLR2004 - as above
        )  # fmt: skip

    @routes.get("/search")
    async def search(request: Request, q: Text = "") -> Response:
        text = q.strip()
        if text.upper().startswith(f"{UNDERLYING}-"):
            return RedirectResponse(f"{base_of(request)}/book/{parse_instrument(text).name}", 303)
        async with desk.verifying.of(caller_of(request), seconds=desk.deps.limits.wait_seconds):
            found = await run_in_threadpool(_find, desk, text, _account(request))
        if found is not None:
            return RedirectResponse(f"{base_of(request)}/verify?id={quote(found.id, safe='')}", 303)
        return desk.page(request, "search.html", status=404 if text else 200, text=text, stored=desk.stored)

    return routes


def _text_of(request: Request) -> str | bytes:
    """Return what was pasted, or the bytes of files. Raises what the shell refused, ForeignFormError."""
    refused = getattr(request.state, "refused", None)
    if refused is not None:
        raise refused
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise ForeignFormError(origin)
    body: bytes = getattr(request.state, "body", b"")
    if getattr(request.state, "kind", "") != FORM:
        return body
    try:
        fields = dict(reversed(parse_qsl(body.decode("ascii"), max_num_fields=4, errors="strict")))
    except ValueError as e:
        raise InvalidInputError("form", "cannot be read", "at most 4 fields in UTF-8") from e
    return fields.get("text", "")


def _account(request: Request) -> str | None:
    visitor = visitor_in(request)
    return None if visitor is None else visitor.account


def _verdict(desk: Desk, verifier: Verifier, text: str | bytes, account: str | None) -> Verdict:
    if isinstance(text, str) and not text.lstrip().startswith(("{", "[")):
        name = text.strip()
        if not name:
            raise InvalidInputError("text", "empty", "an option's or a transaction's id, or a file's text")
        if not desk.stored and account is None:
            raise InvalidInputError("text", "an id, and options are not shown here without a key", "the files")
        with desk.deps.api.store.reading() as session:
            kept = read_option(session, name, account=account, anybodys=desk.stored)
        return verifier.of_option(kept)
    raw = text if isinstance(text, bytes) else text.strip().encode()
    return verifier.of_documents(documents_in(raw, most=desk.deps.limits.most_documents))


def _find(desk: Desk, text: str, account: str | None) -> OptionRow | None:
    """Return the option of a whole id, a transaction or an address; no part of an id finds any."""
    if not text or not (desk.stored or account):
        return None
    with desk.deps.api.store.reading() as session:
        found = views.option(session, text) or views.option_of_transaction(session, text.lower())
        if found is not None:
            return found if may_see(found, account, anybodys=desk.stored) else None
        try:
            decode_address(text.lower(), desk.deps.network)
        except BtcfiError:
            return None
        rows = views.options_at_address(session, text.lower())
        return next((row for row in rows if may_see(row, account, anybodys=desk.stored)), None)
