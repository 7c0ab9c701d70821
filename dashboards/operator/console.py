"""What every page has at hand: the surroundings, the templates, the market, the live streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from fastapi import Request
from jinja2 import Environment
from starlette.responses import HTMLResponse

from btcfi.adapters.store.prices.rounds import market_now
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.errors import BtcfiError
from btcfi.oracle.quote import Feed
from btcfi.surfaces.rest.turns import Turns
from btcfi.units import UnixSeconds
from dashboards.operator.accounts import Visitor
from dashboards.operator.deps import ConsoleDeps, WorkerHealth
from dashboards.operator.errors import SignInNeededError
from dashboards.operator.gate import visitor
from dashboards.operator.render import environment
from dashboards.shared.live import Live

WORKERS_SECONDS: Final = 5.0
"""Between two questions to the broker who is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersSeen:
    """What the broker last said about the workers."""

    known: bool
    """Whether anybody can be asked, and was."""
    workers: tuple[WorkerHealth, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Roster:
    """Asks who works, at most every few seconds, never twice at once, and never makes a page wait for the answer."""

    ask: Callable[[], Sequence[WorkerHealth]] | None
    seen: WorkersSeen = field(default_factory=lambda: WorkersSeen(known=False))
    asked_at: float = -1e9
    lock: Lock = field(default_factory=Lock)

    def refresh(self) -> WorkersSeen:
        """Return who works, asking anew when the last answer is old."""
        if (
            self.ask is None
            or time.monotonic() - self.asked_at < WORKERS_SECONDS
            or not self.lock.acquire(blocking=False)
        ):
            return self.seen
        try:
            found = tuple(sorted(self.ask(), key=lambda w: w.name))
            self.seen = WorkersSeen(known=True, workers=found)
        except BtcfiError as e:
            self.seen = WorkersSeen(known=True, problem=str(e))
        finally:
            self.asked_at = time.monotonic()
            self.lock.release()
        return self.seen


class Console:
    """The console's parts, made once an application."""

    def __init__(self, deps: ConsoleDeps) -> None:
        """``deps``: the application's."""
        self.deps = deps
        self.templates: Environment = environment()
        self.roster = Roster(ask=deps.workers)
        self.counting = Turns(each=1, most=4)
        """Whose turn it is to have a sign-in written down: one of an address, or they would fight for the database."""
        self.hashing = Turns(each=1, most=deps.limits.sign_ins_at_once)
        """Whose turn it is to have a password hashed."""
        self.live = Live(
            deps.api.store,
            limits=deps.limits,
            problem_html=lambda problem: self.draw("parts/problem.html", problem=problem),
            caller_of=_name_of,
            may_stay=_signed_in,
        )

    @property
    def store(self) -> Store:
        """The database."""
        return self.deps.api.store

    @property
    def feed(self) -> str:
        """The feed that everything is about."""
        return self.deps.api.feed

    def now(self) -> UnixSeconds:
        """Return the wall clock."""
        return self.deps.api.clock()

    def market_now(self, session: Session) -> UnixSeconds:
        """Return the market's clock: in a replay the end of the newest priced minute, else the wall clock."""
        return market_now(session, Feed(self.feed), replay=self.deps.api.replay_clock, now=self.now())

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a reading session. Raises StoreUnreachableError."""
        with self.store.reading() as session:
            yield session

    def draw(self, template: str, **context: Any) -> str:  # noqa: ANN401 - whatever a template shows
        """Return a fragment that shows no link of ours, or is given ``base`` for them."""
        return self.templates.get_template(template).render(deps=self.deps, **{"base": "", **context})

    def page(
        self,
        request: Request,
        who: Visitor | None,
        template: str,
        *,
        status: int = 200,
        **context: Any,  # noqa: ANN401
    ) -> HTMLResponse:
        """Return a page, or a fragment of one."""
        html = self.templates.get_template(template).render(
            deps=self.deps, base=base_of(request), who=who, here=request.url.path.removeprefix(base_of(request)),
            **context,
        )  # fmt: skip
        return HTMLResponse(html, status_code=status)


def base_of(request: Request) -> str:
    """Return the path under which the console is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _name_of(request: Request) -> str:
    """Return whose stream it is; the gate has noted who is signed in."""
    who: Visitor | None = getattr(request.state, "visitor", None)
    return "" if who is None else who.name


async def _signed_in(request: Request) -> bool:
    try:
        await visitor(request)
    except SignInNeededError:
        return False
    return True
