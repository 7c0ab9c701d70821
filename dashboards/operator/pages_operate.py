"""Operate: the few things an operator may do. Each is tried dry first, confirmed in words and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from btcfi.adapters.store.access import views as access
from btcfi.adapters.store.access.console_tables import audit
from btcfi.adapters.store.options import asking, settlements, views
from btcfi.adapters.store.options.cancelling import cancel_sale
from btcfi.adapters.store.options.tables import OptionState, RequestState, SettlementState
from btcfi.adapters.store.prices.pauses import pause, pause_of, resume
from btcfi.adapters.store.spine.database import Session
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError
from dashboards.operator.console import Console, base_of
from dashboards.operator.errors import WrongConfirmationError
from dashboards.operator.gate import Form, Operator, OperatorForm
from dashboards.operator.pages_options import KINDS, STATES, STYLES, which

REQUEUE_WORD: Final = "requeue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one option's request would be answered now."""

    option_id: str
    state: str
    """Of the option."""
    verdict: str
    """accepted, held or refused."""
    answer: str


def router(console: Console) -> APIRouter:
    """Return the page and its actions."""
    routes = APIRouter()

    @routes.get("/operate")
    def operate(
        request: Request, who: Operator, before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
        done: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> HTMLResponse:  # fmt: skip
        return console.page(request, who, "operate.html", **_overview(console, who.name, before, done))

    _settle(routes, console)
    _requeue(routes, console)
    _cancel(routes, console)
    _feed_and_workers(routes, console)
    return routes


def _overview(console: Console, name: str, before: int | None, done: int | None) -> dict[str, Any]:
    with console.reading() as session:
        entries, following = access.audit_page(session, limit=20, before=before)
        said = access.audit_entry(session, done) if done is not None else None
        return {
            "parked": views.parked(session, limit=console.deps.limits.page),
            "paused": pause_of(session, console.feed),
            "roster": console.roster.refresh(),
            "entries": entries,
            "following": following,
            "paged": before is not None,
            "said": said if said is not None and said.account == name else None,
            "states": STATES,
            "kinds": KINDS,
            "styles": STYLES,
            "now": console.now(),
            "requeue_word": REQUEUE_WORD,
        }


def _settle(routes: APIRouter, console: Console) -> None:
    @routes.post("/operate/settle/try")
    def dry_run(request: Request, form: OperatorForm) -> HTMLResponse:
        ids = _chosen(console, form)
        return _tried(console, request, form, ids)

    @routes.post("/operate/settle")
    def settle(request: Request, form: OperatorForm) -> Response:
        if not form.chosen:
            raise InvalidInputError("options", "none", "at least one option")
        _check_many(form.chosen, console)
        try:
            _confirm(console, form, _words(form.chosen), "settle")
        except WrongConfirmationError as e:
            return _tried(console, request, form, form.chosen, refused=str(e))

        def work(session: Session) -> None:
            who = f"console {form.visitor.name}"
            asked = asking.ask_each(session, form.chosen, requested_by=who, now=console.now())
            if all(one.state == RequestState.REFUSED for one in asked):
                raise InvalidInputError("options", str(asked[0].answer), "one that has not ended")

        return _do(console, request, form, "settle", " ".join(form.chosen), f"{len(form.chosen)} options", work)


def _chosen(console: Console, form: Form) -> tuple[str, ...]:
    """Return the options that a form names: one, a selection, or what a filter finds. Raises InvalidInputError."""
    if form["by"] != "filter":
        ids = form.chosen
        if form["one"]:
            ids = tuple(dict.fromkeys(form["one"].replace(",", " ").split()))
        if not ids:
            raise InvalidInputError("options", "none was named", "the id of at least one option")
        _check_many(ids, console)
        return ids
    with console.reading() as session:
        wanted = which(
            form["state"] or OptionState.ACTIVE, form["kind"], form["style"], form["prefix"],
            expiry_to=console.market_now(session) if form["due"] else None,
        )  # fmt: skip
        found = views.soonest(session, wanted, feed=console.feed, limit=console.deps.limits.selection)
    return tuple(row.id for row in found)


def _check_many(ids: Sequence[str], console: Console) -> None:
    if len(ids) > console.deps.limits.selection:
        raise InvalidInputError("options", f"{len(ids)} of them", f"at most {console.deps.limits.selection} at once")


def _try(console: Console, option_id: str) -> Trial:
    """Return what a request would be answered, by asking it for real in a transaction that is then taken back."""
    with console.store.transaction() as session:
        option = views.option(session, option_id)
        if option is None:
            return Trial(option_id=option_id, state="", verdict=RequestState.REFUSED, answer="there is no such option")
        state, now = option.state, console.now()
        asked = asking.ask(session, option_id, requested_by="dry run", now=now)
        verdict, answer = str(asked.state), asked.answer or ""
        if asked.state == RequestState.OPEN:
            answer = settlements.answer_request(session, option_id, console.deps.rule_of, now=now)
            row = views.request(session, option_id)
            verdict = verdict if row is None else row.state
        elif asked.state == RequestState.ACCEPTED:
            verdict, answer = RequestState.HELD, "was accepted before"
        trial = Trial(option_id=option_id, state=state, verdict=verdict, answer=answer)
        session.rollback()
    return trial


def _words(ids: Sequence[str]) -> str:
    return f"settle {ids[0]}" if len(ids) == 1 else f"settle {len(ids)} options"


def _confirm(console: Console, form: Form, words: str, action: str) -> None:
    """Return when the words were typed; raises WrongConfirmationError, having written it down."""
    if form["confirm"].lower() == words.lower():
        return
    with console.store.transaction() as session:
        audit(
            session, now=console.now(), account=form.visitor.name, address=form.visitor.address, action=action,
            target=" ".join(form.chosen), outcome="refused", detail=f"typed {form['confirm'][:60]!r}",
        )  # fmt: skip
    raise WrongConfirmationError(asked_for=words, typed=form["confirm"])


def _tried(console: Console, request: Request, form: Form, ids: Sequence[str], *, refused: str = "") -> HTMLResponse:
    """Return the page of a dry run; ``refused``: what was wrong with its confirmation."""
    trials = [_try(console, option_id) for option_id in ids]
    useful = [trial.option_id for trial in trials if trial.verdict == RequestState.ACCEPTED]
    return console.page(
        request, form.visitor, "settle.html", status=422 if refused else 200, trials=trials, useful=useful,
        words=_words(useful) if useful else "", limit=console.deps.limits.selection, refused=refused,
    )  # fmt: skip


def _requeue(routes: APIRouter, console: Console) -> None:
    @routes.post("/operate/requeue")
    def requeue(request: Request, form: OperatorForm) -> RedirectResponse:
        if not form.chosen:
            raise InvalidInputError("settlements", "none was chosen", "at least one parked settlement")
        _confirm(console, form, REQUEUE_WORD, "requeue")
        moved: list[str] = []

        def work(session: Session) -> None:
            for settlement_id in form.chosen:
                row = views.settlement(session, settlement_id)
                parked = row is not None and row.state == SettlementState.PARKED
                if row is not None and parked and settlements.requeue(session, row, now=console.now()):
                    moved.append(settlement_id)
            if not moved:
                raise InvalidInputError("settlements", "none of them is parked any more", "parked ones")

        return _do(console, request, form, "requeue", " ".join(form.chosen), f"{len(form.chosen)} settlements", work)


def _cancel(routes: APIRouter, console: Console) -> None:
    @routes.post("/operate/cancel")
    def cancel(request: Request, form: OperatorForm) -> RedirectResponse:
        option_id = form["one"]
        _confirm(console, form, f"cancel {option_id}", "cancel")

        def work(session: Session) -> None:
            cancel_sale(session, option_id, by=f"console {form.visitor.name}", now=console.now())

        return _do(console, request, form, "cancel", option_id[:80], "", work)


def _feed_and_workers(routes: APIRouter, console: Console) -> None:
    @routes.post("/operate/feed")
    def feed(request: Request, form: OperatorForm) -> RedirectResponse:
        pausing = form["do"] == "pause"
        if pausing:
            _confirm(console, form, f"pause {console.feed}", "feed.pause")

        def work(session: Session) -> None:
            if pausing:
                pause(session, console.feed, by=form.visitor.name, now=console.now())
            else:
                resume(session, console.feed, now=console.now())

        return _do(console, request, form, "feed.pause" if pausing else "feed.resume", console.feed, "", work)

    @routes.post("/operate/worker")
    def worker(request: Request, form: OperatorForm) -> RedirectResponse:
        draining, name = form["do"] == "drain", form["worker"]
        action = console.deps.drain if draining else console.deps.resume
        if action is None or name not in {worker.name for worker in console.roster.refresh().workers}:
            raise NotFoundError("worker", name[:80], "the broker knows the ones of the list")
        problem = ""
        try:
            action(name)
        except BtcfiError as e:
            problem = str(e)
        console.roster.asked_at = -1e9  # the next page asks anew
        return _do(
            console, request, form, "worker.drain" if draining else "worker.resume", name, problem, lambda _: None,
            outcome="failed" if problem else "done",
        )  # fmt: skip


def _do(  # noqa: PLR0917 - one line a call
    console: Console, request: Request, form: Form, action: str, target: str, detail: str,
    work: Callable[[Session], None], *, outcome: str = "done",
) -> RedirectResponse:  # fmt: skip
    """Do ``work`` and write it down in one transaction, then send the browser back to read about it."""
    now, who = console.now(), form.visitor
    try:
        with console.store.transaction() as session:
            work(session)
            entry = audit(
                session, now=now, account=who.name, address=who.address, action=action, target=target,
                outcome=outcome, detail=detail,
            )  # fmt: skip
    except (ConflictError, InvalidInputError, NotFoundError) as e:
        with console.store.transaction() as session:
            audit(
                session, now=now, account=who.name, address=who.address, action=action, target=target,
                outcome="refused", detail=str(e),
            )  # fmt: skip
        raise
    console.deps.api.submit(action)  # the relay would publish it too, a little later
    return RedirectResponse(f"{base_of(request)}/operate?done={entry.id}", status_code=303)
