"""What every page of the desk has at hand: its surroundings, the templates, the public market, live streams."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from jinja2 import Environment
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from btcfi.surfaces.addresses import who_counts
from btcfi.surfaces.rest.deps import READ
from btcfi.surfaces.rest.market_desk.hooks import CHANGES_PER_MINUTE
from btcfi.surfaces.rest.turns import Rates, Turns
from dashboards.shared import render
from dashboards.shared.live import Live
from dashboards.shared.shell import address_of
from dashboards.trader.deps import DeskDeps
from dashboards.trader.gate import COOKIE, Visitor, visitor_of
from dashboards.trader.holding import Holdings
from dashboards.trader.market import PublicMarket

HERE: Final = Path(__file__).parent


class Desk:
    """The desk's parts, made once an application."""

    def __init__(self, deps: DeskDeps) -> None:
        """``deps``: the application's."""
        self.deps = deps
        self.templates = templates()
        self.market = PublicMarket(deps)
        self.holdings = Holdings(deps, self.market)
        self.verifying = Turns(each=1, most=deps.limits.verifications_at_once)
        """Whose turn it is to have a contract rebuilt."""
        self.pricing = Turns(each=1, most=deps.limits.prices_at_once)
        """Whose turn it is to have a what-if computed."""
        self.codes = Rates(deps.api.monotonic, each_per_minute=deps.limits.codes_per_minute)
        """How many codes an address is shown."""
        self.hooks = Rates(deps.api.monotonic, each_per_minute=CHANGES_PER_MINUTE)
        """How often an account adds or tests a webhook."""
        self.live = Live(
            deps.api.store,
            limits=deps.limits,
            problem_html=lambda problem: self.draw("parts/problem.html", problem=problem),
            caller_of=caller_of,
            may_stay=self._may_stay,
        )

    def look(self, request: Request) -> None:
        """Note who is signed in as ``state.visitor``; a dependency of every page, so that it runs in a thread."""
        token = request.cookies.get(COOKIE)
        request.state.visitor = None if token is None else self._find(request, token)

    def _find(self, request: Request, token: str, *, asks: bool = True) -> Visitor | None:
        api, limits = self.deps.api, self.deps.limits
        return visitor_of(api.store, token, address=address_of(request), limits=limits, now=api.clock(), asks=asks)

    async def _may_stay(self, request: Request) -> bool:
        """Return whether who opened a stream would be shown the same now; an open tab keeps no session from idling."""
        visitor = visitor_in(request)
        if visitor is None:
            return True
        return await run_in_threadpool(partial(self._find, request, visitor.token, asks=False)) is not None

    @property
    def stored(self) -> bool:
        """Whether a stranger may look at what the store keeps of an option: as the API lets one without a key."""
        return READ in self.deps.api.anonymous_roles

    def draw(self, template: str, **context: Any) -> str:  # noqa: ANN401 - whatever a template shows
        """Return a fragment that shows no link of ours, or is given ``base`` for them."""
        return self.templates.get_template(template).render(deps=self.deps, **{"base": "", **context})

    def page(self, request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:  # noqa: ANN401
        """Return a page, or a fragment of one."""
        base = base_of(request)
        html = self.templates.get_template(template).render(
            deps=self.deps,
            base=base,
            here=request.url.path.removeprefix(base) or "/",
            visitor=visitor_in(request),
            searched=_searched(request),
            **context,
        )
        return HTMLResponse(html, status_code=status)


def templates() -> Environment:
    """Return the desk's templates with its own filters beside the shared ones."""
    found = render.environment(HERE)
    found.filters |= {
        "both": both,
        "volatility": volatility,
        "day": day,
        "usd0": whole_dollars,
        "coins": coins,
        "command": command,
    }
    return found


def both(at: int | None) -> Markup:
    """Return unix seconds as a <time> in UTC, beside which the browser puts its own zone's."""
    if at is None:
        return escape(render.NONE)
    when = datetime.fromtimestamp(at, UTC)
    return Markup('<time class="both" datetime="{}">{} UTC</time>').format(
        when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime("%Y-%m-%d %H:%M")
    )


def command(text: str) -> Markup:
    """Return a command whose lines break between its words: a browser would break at a hyphen of an option's name."""
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in text.split())


def day(at: int) -> str:
    """Return an expiry as its tab names it: the day, and the minute where it is not 08:00."""
    when = datetime.fromtimestamp(at, UTC)
    return when.strftime("%-d %b %y") + ("" if when.strftime("%H%M") == "0800" else when.strftime(" %H:%M"))


def volatility(level: float | None) -> str:
    """Return a volatility in per cent."""
    return render.NONE if level is None else f"{level * 100:.1f}"


def whole_dollars(cents: int | None) -> str:
    """Return cents as dollars, the cents left out where there are none."""
    return render.usd(cents).removesuffix(".00")


def coins(sats: int | None) -> str:
    """Return satoshis as bitcoin, five digits: a price's tick."""
    return render.NONE if sats is None else f"{sats // 1_000 / 100_000:.5f}"


def caller_of(request: Request) -> str:
    """Return whose share a request counts in: an address, whoever is signed in there."""
    return who_counts(address_of(request))


def base_of(request: Request) -> str:
    """Return the path under which the desk is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _searched(request: Request) -> str:
    return request.query_params.get("q", "")[:200]


def visitor_in(request: Request) -> Visitor | None:
    """Return who is signed in, as ``look`` has found it."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    return found
