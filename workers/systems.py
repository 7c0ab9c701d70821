"""The table of systems: what each brings to the processes, in one record. Everything else is found from here.

A system is a folder in each layer (its library, its tables below ``btcfi/adapters/store``, its tasks, its presets, its
pages) and one row of ``SYSTEMS``. Nothing below ``workers`` names a system: the processes hand down what they need of
this table when they start (``app.conf`` to the tasks, ``ConsoleDeps`` to the console).

What is imported late is named, ``module`` or ``module:ATTRIBUTE``: beat and a worker read this table and import only
what their role needs. A long-lived process that is the single writer of something (an engine) is a module of
``workers/engines``, a command that runs it and a row in the embedded cluster's table of parts; it talks to its system's
tables like any worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from btcfi.errors import ConflictError
from settings.deployment import Deployment
from workers.entries import Entry, canaries, each_minute, every
from workers.roles import CHAIN, CONTROL, PRICES, SETTLE

if TYPE_CHECKING:
    from dashboards.operator.deps import Page

FLOWER: Final = "flower"
"""No role of a worker: what an operator may start by hand from Flower, which must know those tasks."""


class DoublyClaimedError(ConflictError):
    """Two systems claim one name."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"two systems have the {what} {name!r}: each needs names of its own")
        self.what, self.name = what, name


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAt:
    """A page of the operator console, by the module that has its ``router(console)``."""

    module: str
    path: str
    title: str
    role: str = "read"
    """Who sees it in the navigation; the page itself checks again."""


def _nothing(_deployment: Deployment) -> Mapping[str, Entry]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system."""

    name: str
    store: tuple[str, ...] = ()
    """Its folders below ``btcfi/adapters/store``: its tables, each with the state machine that it declares."""
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By role: the modules that a worker of it imports, in this order."""
    routes: tuple[tuple[str, str], ...] = ()
    """Prefix of a task's name, and its queue. Whatever no system claims is control's."""
    beat: Callable[[Deployment], Mapping[str, Entry]] = _nothing
    """What happens by the clock, by name."""
    flows: Mapping[str, str] = field(default_factory=dict)
    """What an outbox row can name, and what builds its canvas: ``module:FUNCTION``."""
    repairs: tuple[str, ...] = ()
    """What the reconciler calls to take up lost work: ``module:FUNCTION`` of a context and a session."""
    said: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    """By task: what its positional arguments are called in the logs. Ids, never secrets; None is left out."""
    quiet: tuple[str, ...] = ()
    """Prefixes of tasks that run by the clock whether there is work or not: their normal end is not logged."""
    on_chain: str | None = None
    """What it does with chain outputs of its own: a ``ChainHandler``, ``module:ATTRIBUTE``."""
    metrics: str | None = None
    """What the exporter reads for it: ``Figures``, ``module:ATTRIBUTE``."""
    presets: str | None = None
    """Its folder below ``settings/presets``."""
    pages: tuple[PageAt, ...] = ()
    """Its part of the console, in the order of the navigation."""


def _spine_beat(deployment: Deployment) -> Mapping[str, Entry]:
    return {
        "control.relay": every("control.relay", deployment.relay_seconds),
        "control.reconcile": every("control.reconcile", deployment.reconcile_seconds),
        **canaries(deployment),
    }


SPINE: Final = System(
    name="spine",
    store=("spine", "access"),
    tasks=dict.fromkeys((PRICES, SETTLE, CHAIN), ("tasks.canary",)) | {CONTROL: ("tasks.canary", "tasks.control")},
    beat=_spine_beat,
    said={"control.canary": ("queue_checked",)},
    quiet=("control.",),
    metrics="workers.exporter:SPINE_FIGURES",
)
"""The outbox, the queues and who may do what: what every other system stands on."""


def _prices_beat(deployment: Deployment) -> Mapping[str, Entry]:
    tick = {"oracle.tick": each_minute("oracle.tick")} if deployment.tick else {}
    return {**tick, "control.prune": every("control.prune", 3_600.0)}


PRICES_SYSTEM: Final = System(
    name="prices",
    store=("prices",),
    tasks={PRICES: ("tasks.venues",), CONTROL: ("tasks.oracle",)},
    routes=(("oracle.fetch", PRICES),),
    beat=_prices_beat,
    flows={"price_round": "tasks.pipeline:price_round"},
    repairs=("tasks.oracle:repair",),
    said={
        "oracle.tick": ("slot",),
        "oracle.fetch": ("feed", "slot", "venue"),
        "oracle.aggregate": (None, "feed", "slot"),
    },
    metrics="workers.exporter:PRICES_FIGURES",
    pages=(PageAt(module="dashboards.operator.pages_prices", path="/prices", title="Prices"),),
)
"""Venues, minutes and the agreed price."""


def _chain_beat(deployment: Deployment) -> Mapping[str, Entry]:
    found = {"chain.watch": every("chain.watch", deployment.watch_seconds)}
    for name, seconds in (("chain.mine", deployment.mine_seconds), ("chain.anchor", deployment.anchor_seconds)):
        if seconds > 0:
            found[name] = every(name, seconds)
    return found


CHAIN_SYSTEM: Final = System(
    name="chain",
    store=("chain",),
    tasks={CHAIN: ("tasks.chain",)},
    routes=(("chain.", CHAIN),),
    beat=_chain_beat,
    flows={"send": "tasks.pipeline:send"},
    quiet=("chain.watch", "chain.mine"),
    metrics="workers.exporter:CHAIN_FIGURES",
)
"""The service's wallet, what it sends, and the walk along the blocks."""


def _options_beat(deployment: Deployment) -> Mapping[str, Entry]:
    return {
        "pricing.refresh": every("pricing.refresh", deployment.premium_seconds),
        "contracts.exchange": every("contracts.exchange", deployment.exchange_seconds),
    }


OPTIONS: Final = System(
    name="options",
    store=("options",),
    tasks={
        SETTLE: ("tasks.machine", "tasks.settlement", "tasks.checks", "tasks.pricing"),
        CONTROL: ("tasks.attest", "tasks.options", "tasks.contracts"),
        FLOWER: ("tasks.options",),
    },
    routes=(("settlement.", SETTLE), ("contracts.check", SETTLE), ("pricing.", SETTLE)),
    beat=_options_beat,
    flows={
        "exchange": "tasks.pipeline:exchange",
        "check_contract": "tasks.pipeline:check_contract",
        "expire_due": "tasks.pipeline:expire_due",
        "answer_request": "tasks.pipeline:answer_request",
        "attest": "tasks.pipeline:attest",
        "settle": "tasks.pipeline:settle",
        "prove_long": "tasks.pipeline:prove_long",
    },
    repairs=("tasks.options:repair",),
    said={
        "oracle.attest": ("event_id",),
        "options.expire_due": ("feed",),
        "options.answer_request": ("option_id",),
        "options.settle": ("option_id",),
        "contracts.check": ("option_id",),
        "settlement.execute_batch": ("settlements",),
        "settlement.prove_part": ("settlement_id", "first"),
        "settlement.close_proof": (None, "settlement_id"),
    },
    quiet=("contracts.exchange", "pricing.refresh"),
    on_chain="btcfi.adapters.store.options.on_chain:OPTIONS_ON_CHAIN",
    metrics="workers.exporter:OPTIONS_FIGURES",
    presets="options",
    pages=(
        PageAt(module="dashboards.operator.pages_options", path="/options", title="Options"),
        PageAt(module="dashboards.operator.pages_settlements", path="/settlements", title="Settlements"),
        PageAt(module="dashboards.operator.pages_fees", path="/fees", title="Fees", role="operate"),
        PageAt(module="dashboards.operator.pages_risk", path="/risk", title="Risk", role="operate"),
    ),
)
"""Options: sold, set up between two parties, expired, run, proven, settled."""

CARRY_SECONDS: Final = 1.0
"""Between two looks whether a letter waits; a look goes on while a take is under way (``tasks/market.py``)."""

HOOKS_SECONDS: Final = 2.0
"""Between two looks whom to tell of what has happened."""

LATE_SECONDS: Final = 2.0
"""Between two looks who has let its time pass."""


def _market_beat(deployment: Deployment) -> Mapping[str, Entry]:
    hooks = {"webhooks.deliver": every("webhooks.deliver", HOOKS_SECONDS)} if deployment.webhooks else {}
    return {
        **hooks,
        "market.carry": every("market.carry", CARRY_SECONDS),
        "market.tick": every("market.tick", LATE_SECONDS),
        "market.prune": every("market.prune", 3_600.0),
    }


MARKET: Final = System(
    name="market",
    store=("market",),
    tasks={CONTROL: ("tasks.market", "tasks.webhooks")},
    beat=_market_beat,
    flows={"check_accept": "tasks.pipeline:check_accept"},
    said={"contracts.check_accept": ("option_id",)},
    quiet=("market.", "webhooks."),
    on_chain="btcfi.adapters.store.market.transfer_chain:MARKET_ON_CHAIN",
    presets="market",
)
"""Accounts, their letters, firm offers and takes: what two strangers agree on before there is an option."""


def _disputes_beat(deployment: Deployment) -> Mapping[str, Entry]:
    return {"disputes.watch": every("disputes.watch", deployment.watch_seconds)}


DISPUTES: Final = System(
    name="disputes",
    store=("disputes",),
    tasks={CHAIN: ("tasks.disputes",)},
    routes=(("disputes.", CHAIN),),
    beat=_disputes_beat,
    quiet=("disputes.",),
    metrics="workers.exporter:DISPUTES_FIGURES",
    pages=(PageAt(module="dashboards.operator.pages_disputes", path="/disputes", title="Disputes"),),
)
"""Disputed contracts: watched from the chain alone, by their public parts; the service has no secret of any."""

SWAPS_SECONDS: Final = 15.0
"""Between two looks what New York's clock makes due: of the hours between a post and its settlement, nothing."""


def _swaps_beat(_deployment: Deployment) -> Mapping[str, Entry]:
    return {"swaps.tick": every("swaps.tick", SWAPS_SECONDS)}


SWAPS: Final = System(
    name="swaps",
    store=("swaps",),
    tasks={CONTROL: ("tasks.swaps",), SETTLE: ("tasks.swaps",)},
    routes=(("swaps.settle_books", SETTLE),),
    beat=_swaps_beat,
    flows={"settle_swaps": "tasks.pipeline:settle_swaps"},
    said={"swaps.settle_books": ("week", "books"), "swaps.close_week": (None, "week")},
    quiet=("swaps.tick",),
)
"""Weekly swaps of the operator's ledger: prices, returns and settlements by the exchange's days."""

SYSTEMS: Final = (SPINE, PRICES_SYSTEM, CHAIN_SYSTEM, OPTIONS, MARKET, DISPUTES, SWAPS)
"""The one table: a system more is one row more."""


def resolve(name: str) -> Any:  # noqa: ANN401 - whatever stands there
    """Return what ``module:ATTRIBUTE`` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def modules_of(role: str, systems: Iterable[System] = SYSTEMS) -> tuple[str, ...]:
    """Return the task modules of a role, and so what its processes import."""
    return tuple(dict.fromkeys(module for system in systems for module in system.tasks.get(role, ())))


def all_modules(systems: Iterable[System] = SYSTEMS) -> tuple[str, ...]:
    """Return every task module."""
    return tuple(dict.fromkeys(module for system in systems for some in system.tasks.values() for module in some))


def route_of(name: str, systems: Iterable[System] = SYSTEMS) -> str:
    """Return the queue of a task by the first matching prefix of its name."""
    routes = (route for system in systems for route in system.routes)
    return next((queue for prefix, queue in routes if name.startswith(prefix)), CONTROL)


def flows(systems: Iterable[System] = SYSTEMS) -> dict[str, str]:
    """Return every flow with its builder. Raises DoublyClaimedError."""
    return _merged("flow", ((name, to) for system in systems for name, to in system.flows.items()))


def schedule(deployment: Deployment, systems: Iterable[System] = SYSTEMS) -> dict[str, Entry]:
    """Return Celery's ``beat_schedule``. Raises DoublyClaimedError."""
    return _merged("beat entry", (entry for system in systems for entry in system.beat(deployment).items()))


def said(systems: Iterable[System] = SYSTEMS) -> dict[str, tuple[str | None, ...]]:
    """Return, by task, what its arguments are called in the logs. Raises DoublyClaimedError."""
    return _merged("task", (one for system in systems for one in system.said.items()))


def quiet(systems: Iterable[System] = SYSTEMS) -> tuple[str, ...]:
    """Return the prefixes of tasks whose normal end is not logged."""
    return tuple(prefix for system in systems for prefix in system.quiet)


def console_pages(systems: Iterable[System] = SYSTEMS) -> tuple[Page, ...]:
    """Return the systems' pages of the console, imported."""
    from dashboards.operator.deps import Page  # noqa: PLC0415 - FastAPI; only the console needs it

    return tuple(
        Page(router=resolve(f"{one.module}:router"), path=one.path, title=one.title, role=one.role)
        for system in systems
        for one in system.pages
    )


def _merged(what: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DoublyClaimedError(what, name)
        found[name] = value
    return found
