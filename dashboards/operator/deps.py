"""All that the console is given by the process that runs it: nothing here is looked up, imported late or global."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from btcfi.adapters.store.options.rules import RuleOf
from btcfi.adapters.store.prices.rounds import Register
from btcfi.surfaces.rest.deps import Deps
from dashboards.shared.limits import PageLimits

if TYPE_CHECKING:
    from fastapi import APIRouter

    from dashboards.operator.console import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """One worker process, as the broker knows it."""

    name: str
    """As it answers a ping, e.g. ``settle@host``; what ``drain`` and ``resume`` are given."""
    queues: tuple[str, ...]
    """What it consumes now; none while it is drained."""
    active: int
    """Tasks in hand."""
    answered: bool = True
    """Whether it answered; False for one that is expected and silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLimits(PageLimits):
    """Bounds on what one visitor may cost, and on how long a sign-in lasts."""

    session_seconds: int = 12 * 3_600
    """From signing in to signing in again: one working day."""
    idle_seconds: int = 3_600
    """Without a request the session ends earlier."""
    failures_per_name: int = 5
    """Refused sign-ins of one name from one address within ``failure_seconds``."""
    failures_per_address: int = 20
    """Refused sign-ins of one address, whatever the names."""
    failure_seconds: int = 300
    sign_ins_at_once: int = 2
    """Passwords that one process hashes at the same time, each with 64 MiB, one of an address; the others wait."""
    selection: int = 200
    """Options that one ad hoc request may name; a filter that finds more is taken in several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a system, with what lies below its path."""

    router: Callable[[Console], APIRouter]
    path: str
    title: str
    """In the navigation."""
    role: str = "read"
    """Who sees it there; the page itself checks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleDeps:
    """The console's surroundings.

    Serve the result of ``create_console`` at the root of a port of its own, or behind a dispatcher by path; not mounted
    inside the REST application, whose gate takes JSON bodies only. Works under a ``root_path``.
    """

    api: Deps
    """Store, feed, clock, ``create_option``, rate and limits, as the REST application has them. What the console
    asks for goes into the outbox in the transaction that notes it; ``submit`` is then called to publish it sooner."""
    entropy: Callable[[int], bytes]
    """So many random bytes from the system (``secrets.token_bytes``)."""
    register: Register
    """Who speaks for the feed and by which rule: names the venues, and replays a round from its evidence."""
    rule_of: RuleOf
    """The rule of a preset, by its hash: an option is settled by its own."""
    pages: tuple[Page, ...]
    """The systems' own, in the order of the navigation; the console brings sign-in, Now and Operate itself."""
    confirmations: int = 6
    """From how many on the preset takes a transaction for final."""
    network: str = "regtest"
    """Named on every page, so that nobody mistakes a test for the real thing."""
    workers: Callable[[], Sequence[WorkerHealth]] | None = None
    """Asks the broker who answers. May take a second (it is called in a thread, at most every few seconds) and may
    raise BtcfiError when the broker is away. None: only the canary rows speak for the queues."""
    drain: Callable[[str], None] | None = None
    """Makes the worker of this name take no new work; what it has in hand it finishes. None: not offered."""
    resume: Callable[[str], None] | None = None
    """Makes a drained worker consume its role's queues again. None: not offered."""
    flower_url: str | None = None
    """Linked, when Flower runs."""
    api_url: str | None = None
    """Linked: the API's own documentation."""
    desk_url: str | None = None
    """Linked: the trader's desk, where it is served."""
    canary_seconds: float = 30.0
    """How often the deployment sends a canary through each queue; three missed ones are a fault."""
    secure_cookies: bool = False
    """Set when the console is reached by https; on plain loopback a browser may refuse such cookies."""
    hosts: tuple[str, ...] = ()
    """Host names it answers to, without port; any when empty. Name them where the listener is not the loopback."""
    limits: ConsoleLimits = field(default_factory=ConsoleLimits)

    @property
    def links(self) -> tuple[tuple[str, str, str], ...]:
        """The navigation: path, title and who sees it."""
        own = [(page.path, page.title, page.role) for page in self.pages]
        return (("/", "Now", "read"), *own, ("/operate", "Operate", "operate"))
