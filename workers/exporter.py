"""The metrics of a deployment, collected at each scrape from the store, the broker and the node.

Each part is read in a thread of its own and within one deadline. A part that is down or slow costs its own figures and
sets ``btcfi_up{part}`` to 0; the others are served. ``metrics_of`` names everything there is: the dashboards, the alert
rules and docs/monitoring.md are tested against it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from btcfi.adapters.chain.relay import relay_problems
from btcfi.adapters.store.chain import views as chain_views
from btcfi.adapters.store.disputes import views as dispute_views
from btcfi.adapters.store.disputes.tables import DisputeRow
from btcfi.adapters.store.options import views as option_views
from btcfi.adapters.store.options.settled import TOTALS
from btcfi.adapters.store.options.tables import RequestState
from btcfi.adapters.store.prices.tables import RoundRow
from btcfi.adapters.store.reading import BUCKETS, SETTLED, Edge, EventLog, Histogram, Reading, read_store
from btcfi.adapters.store.spine import refusals, ticks
from btcfi.adapters.store.spine import views as spine_views
from btcfi.adapters.store.spine.database import DatabaseError, Session, Store
from btcfi.adapters.store.spine.machines import machines
from btcfi.adapters.store.spine.schema import load_tables
from btcfi.bitcoin.fees import FeeRule
from btcfi.documents import printable
from btcfi.oracle.quote import Feed
from btcfi.units import Height
from settings.deployment import Deployment
from settings.preset import load_preset
from workers.broker import BrokerReading, read_broker
from workers.deployed import node_of
from workers.roles import QUEUES
from workers.systems import SYSTEMS, DoublyClaimedError, System, resolve

DATABASE: Final = "database"
BROKER: Final = "broker"
NODE: Final = "node"

DEADLINE_SECONDS: Final = 4.0
"""For all parts of one scrape together; Prometheus itself gives up after 10 s."""

DUPLICATES: Final = (
    "duplicate_claims", "late_results", "stale_round_edges", "stale_option_edges", "stale_settlement_edges",
    "stale_chain_transaction_edges",
)  # fmt: skip
"""Counters of the store: work that came a second time and was stopped by a row."""

REPAIRS: Final = {"repairs": "settlement", "repaired_rounds": "round"}
"""Counters of the store: what the reconciler took up again, and what it was."""


LONGEST_LABEL: Final = 120
MOST_SAMPLES: Final = 1_000
"""Of one metric: what stands in a row may have come by a message, and a page must stay one."""

ALERTED: Final = ("outside_spends",)
"""Other counters that are 0 before their first event: a series that starts at 1 has no increase to alert on."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric."""

    kind: Literal["gauge", "counter", "histogram"]
    about: str
    labels: tuple[str, ...] = ()


_OF_THE_PARTS: Final[dict[str, Spec]] = {
    "btcfi_up": Spec("gauge", "1 when the part answered this scrape in time", ("part",)),
    "btcfi_scrape_seconds": Spec("gauge", "How long the part took to answer", ("part",)),
    "btcfi_build_info": Spec("gauge", "Always 1; what runs", ("version", "preset", "preset_sha256")),
    "btcfi_chain_height": Spec("gauge", "Of the node's newest block"),
    "btcfi_chain_tip_age_seconds": Spec("gauge", "Since the time in its header"),
    "btcfi_node_relays": Spec("gauge", "1 when the node relays what a settlement is made of (`btcfi doctor`: node)"),
    "btcfi_queue_messages": Spec("gauge", "Messages that wait", ("queue",)),
    "btcfi_queue_oldest_seconds": Spec("gauge", "Age of the message that is next; 0 when none waits", ("queue",)),
    "btcfi_unacked_messages": Spec("gauge", "Messages that workers hold"),
    "btcfi_unacked_oldest_seconds": Spec("gauge", "Since the first of them was handed out; 0 without one"),
    "btcfi_broker_aof_enabled": Spec("gauge", "1 when the broker writes down what it accepts"),
    "btcfi_broker_aof_ok": Spec("gauge", "1 when its last write succeeded"),
    "btcfi_broker_noeviction": Spec("gauge", "1 when it refuses rather than forget"),
    "btcfi_broker_memory_bytes": Spec("gauge", "Memory in use"),
    "btcfi_broker_clients": Spec("gauge", "Connections"),
}
"""What the exporter says itself: which part answered, what the node and the broker told."""

Sample: TypeAlias = tuple[str, float | Histogram | None, tuple[str, ...]]
"""A metric's name, its value (None is left out: unknown is not zero) and its labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFigures:
    """What the store tells: the moment's reading, and the histograms of everything so far."""

    reading: Reading
    events: EventLog
    feed: Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is measured of one system (``metrics`` of its row in ``workers/systems.py``)."""

    specs: Mapping[str, Spec]
    read: Callable[[Session, StoreFigures], Iterable[Sample]]
    """Its samples, at each scrape: of its own tables by the session, or of the reading that is made once for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The node's newest block, and whether it is a node for us."""

    height: int
    age_seconds: float
    relays: bool
    """Whether nothing of ours is refused for its form."""


_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Source(Generic[_Answer]):
    """A part that is read at each scrape, by one thread at a time, however long it hangs."""

    name: str
    read: Callable[[], _Answer]
    _running: Future[_Answer] | None = None
    _began: float = 0.0
    took: float = 0.0
    """Seconds of the last reading that ended."""

    def begin(self) -> Future[_Answer]:
        """Start a reading, unless the last one still hangs."""
        if self._running is None or self._running.done():
            self._running, self._began = Future(), time.monotonic()
            threading.Thread(target=self._run, args=(self._running,), name=f"metrics-{self.name}", daemon=True).start()
        return self._running

    def _run(self, future: Future[_Answer]) -> None:
        try:
            answer = self.read()
        except Exception as e:  # noqa: BLE001 - whatever it is, the scrape says so and goes on
            future.set_exception(e)
        else:
            future.set_result(answer)
        self.took = time.monotonic() - self._began

    def waiting(self) -> float:
        """Return for how many seconds the reading has gone on."""
        return time.monotonic() - self._began


class _Page:
    """The families of one scrape, filled sample by sample."""

    def __init__(self, specs: Mapping[str, Spec]) -> None:
        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
        self._families: dict[str, Metric] = {
            name: kinds[spec.kind](name, spec.about, labels=spec.labels) for name, spec in specs.items()
        }

    def put(self, name: str, value: float | None, *labels: str) -> None:
        """Add a sample; None is left out: unknown is not zero."""
        family = self._families[name]
        if value is None or len(family.samples) >= MOST_SAMPLES:
            return
        if isinstance(family, GaugeMetricFamily | CounterMetricFamily):
            family.add_metric([printable(label, LONGEST_LABEL) for label in labels], float(value))

    def add(self, sample: Sample) -> None:
        """Add a sample of a system."""
        name, value, labels = sample
        if isinstance(value, Histogram):
            self._put_histogram(name, value, *labels)
        else:
            self.put(name, value, *labels)

    def _put_histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        """Add a histogram."""
        family = self._families[name]
        if isinstance(family, HistogramMetricFamily):
            below, buckets = 0, []
            for bound, count in zip((*map(str, map(float, BUCKETS)), "+Inf"), histogram.counts, strict=True):
                below += count
                buckets.append((bound, below))
            if len(family.samples) < MOST_SAMPLES * len(buckets):
                family.add_metric([printable(label, LONGEST_LABEL) for label in labels], buckets, histogram.total)

    def families(self) -> Iterator[Metric]:
        """Yield them in the order of the table."""
        yield from self._families.values()


class Exporter(Collector):
    """Collects everything at each scrape; never raises."""

    def __init__(
        self, deployment: Deployment, *, deadline: float = DEADLINE_SECONDS, systems: Iterable[System] = SYSTEMS
    ) -> None:
        self._deployment, self._deadline = deployment, deadline
        self._systems = figures_of(systems)
        self._specs = metrics_of(systems)
        self._preset = load_preset(deployment.preset)
        self._store = Store(deployment.database_url, busy_timeout_ms=int(deadline * 1000))
        self._node = node_of(deployment, timeout_seconds=deadline) if deployment.node_url is not None else None
        self._events = EventLog()
        self._up: dict[str, bool] = {}
        self._database = Source(DATABASE, self._read_store)
        self._broker = Source(BROKER, lambda: read_broker(deployment, QUEUES))
        self._chain = Source(NODE, self._read_node)
        self._one_at_a_time = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, so that registering asks nobody."""
        yield from _Page(self._specs).families()

    def collect(self) -> Iterator[Metric]:
        """Yield every family with what could be read before the deadline."""
        with self._one_at_a_time:
            yield from self._page().families()

    def catch_up(self, deadline: float = 60.0) -> bool:
        """Read the history once before the first scrape is due; return whether the database answered."""
        started = self._database.begin()
        wait_for([started], deadline)
        return started.done() and started.exception() is None

    def _page(self) -> _Page:
        page = _Page(self._specs)
        until = time.monotonic() + self._deadline
        database, broker = self._database.begin(), self._broker.begin()
        chain = self._chain.begin() if self._node is not None else None
        begun: list[Future[Any]] = [f for f in (database, broker, chain) if f is not None]
        wait_for(begun, max(until - time.monotonic(), 0))
        figures = self._answer(page, self._database, database)
        queues = self._answer(page, self._broker, broker)
        tip = self._answer(page, self._chain, chain) if chain is not None else None
        page.put("btcfi_build_info", 1, _version(), self._preset.name, self._preset.sha256)
        for sample in figures or ():
            page.add(sample)
        if queues is not None:
            _put_broker(page, queues)
        if tip is not None:
            page.put("btcfi_chain_height", tip.height)
            page.put("btcfi_chain_tip_age_seconds", tip.age_seconds)
            page.put("btcfi_node_relays", int(tip.relays))
        return page

    def _answer(self, page: _Page, source: Source[_Answer], running: Future[_Answer]) -> _Answer | None:
        """Return what the part said, or None; say on the page, and once in the log, whether it is up."""
        late = TimeoutError(f"no answer within {self._deadline:g} s")
        problem = running.exception() if running.done() else late
        up = problem is None
        page.put("btcfi_up", int(up), source.name)
        page.put("btcfi_scrape_seconds", source.took if running.done() else source.waiting(), source.name)
        if self._up.get(source.name) is not up:  # once a change, not once a scrape
            self._up[source.name] = up
            if up:
                log.info("part answers", part=source.name)
            else:
                log.warning("part does not answer", part=source.name, problem=str(problem)[:200])
        return running.result() if up else None

    def _read_store(self) -> list[Sample]:
        now = self._store.now()
        more = True
        while more:
            with self._store.reading() as session:
                more = self._events.read(session, now=now)
        load_tables()
        with self._store.reading() as session:
            reading = read_store(session, Feed(self._deployment.feed), now=now, replay=self._deployment.replay_clock)
            seen = StoreFigures(reading=reading, events=self._events, feed=Feed(self._deployment.feed))
            return [one for name, its in self._systems.items() for one in _samples(name, its, session, seen)]

    def _read_node(self) -> Tip:
        if self._node is None:
            raise RuntimeError("no node is configured")
        info = self._node.chain_info()
        header = self._node.block_header(info.best_hash)
        relays = next(relay_problems(self._node), None) is None
        return Tip(height=info.height, age_seconds=max(time.time() - header.time, 0.0), relays=relays)


def figures_of(systems: Iterable[System]) -> dict[str, Figures]:
    """Return what is measured of each system, by its name."""
    return {one.name: resolve(one.metrics) for one in systems if one.metrics is not None}


def metrics_of(systems: Iterable[System] = SYSTEMS) -> dict[str, Spec]:
    """Return every metric of these systems and of the parts, in the order of the output. Raises DoublyClaimedError."""
    found = dict(_OF_THE_PARTS)
    for figures in figures_of(systems).values():
        for name, spec in figures.specs.items():
            if name in found:
                raise DoublyClaimedError("metric", name)
            found[name] = spec
    return found


def _samples(name: str, figures: Figures, session: Session, seen: StoreFigures) -> list[Sample]:
    """Return one system's samples; what goes wrong in one costs the others nothing."""
    try:
        return list(figures.read(session, seen))
    except DatabaseError:
        raise  # the database itself: that is the part's to say
    except Exception as e:  # noqa: BLE001 - whatever it is, it is this system's
        log.warning("not measured", system=name, problem=str(e)[:200] or type(e).__name__)
        return []


def _by_state(name: str, entity: str, found: Mapping[str, int]) -> Iterator[Sample]:
    # a state without rows is 0, not absent: an alert on it must be able to clear
    for state in sorted({*map(str, machines()[entity][1].states), *found}):
        yield name, found.get(state, 0), (state,)


BY_BLOCKS: Final = frozenset({"dispute"})
"""Entities that move when a block does: what they wait for is told in blocks, and seconds a state would be a third of
the page."""


def _spine(session: Session, seen: StoreFigures) -> Iterator[Sample]:
    reading = seen.reading
    for queue, age in reading.canaries.items():
        yield "btcfi_canary_age_seconds", age, (queue,)
    if reading.schema_current:  # while a fleet is upgraded the table may not be there yet
        for worker, seconds in ticks.clocks(session, now_ms=reading.at * 1_000).items():
            yield "btcfi_clock_ahead_seconds", seconds, (worker,)
    for status, count in reading.api_keys.items():
        yield "btcfi_api_keys", count, (status,)
    yield "btcfi_outbox_waiting", reading.outbox_waiting, ()
    yield "btcfi_outbox_lag_seconds", reading.outbox_lag, ()
    yield "btcfi_outbox_set_aside", reading.outbox_set_aside, ()
    yield "btcfi_schema_current", int(reading.schema_current), ()
    yield "btcfi_database_bytes", reading.database_bytes, ()
    yield from _counters(reading.counters)
    every = [
        Edge(entity=entity, from_state=str(start), to_state=str(to))
        for entity, (_, machine) in machines().items()
        for start, to in sorted(machine.edges)
    ]
    for edge in dict.fromkeys([*every, *seen.events.edges]):
        if edge.entity in BY_BLOCKS:
            continue
        histogram = seen.events.edges.get(edge, Histogram())
        yield "btcfi_stage_seconds", histogram, (edge.entity, edge.from_state, edge.to_state)
    created = dict.fromkeys(machines(), 0)
    for (entity, _), count in seen.events.born.items():
        created[entity] = created.get(entity, 0) + count
    for entity, count in created.items():
        yield "btcfi_created_total", count, (entity,)


def _counters(counters: Mapping[str, int]) -> Iterator[Sample]:
    for kind in DUPLICATES:
        yield "btcfi_duplicates_prevented_total", counters.get(kind, 0), (kind,)
    for kind, what in REPAIRS.items():
        yield "btcfi_repairs_total", counters.get(kind, 0), (what,)
    yield "btcfi_refused_messages_total", counters.get(refusals.COUNTER, 0), ()
    shown = {*DUPLICATES, *REPAIRS, refusals.COUNTER, *(f"settled_{name}_sats" for name in TOTALS)}
    for name, value in {**dict.fromkeys(ALERTED, 0), **counters}.items():
        if name not in shown:
            yield "btcfi_store_counter_total", value, (name,)


def _prices(_session: Session, seen: StoreFigures) -> Iterator[Sample]:
    feed, price = str(seen.feed), seen.reading.price
    yield "btcfi_feed_paused", int(seen.reading.feed_paused), (feed,)
    yield "btcfi_rounds_open", seen.reading.open_rounds, ()
    closed = {str(end): 0 for end in RoundRow.__machine__.ends}
    for edge, histogram in seen.events.edges.items():
        if edge.entity == "round":
            closed[edge.to_state] = histogram.count
    for state, count in closed.items():
        yield "btcfi_rounds_total", count, (state,)
    if price is None:
        return
    yield "btcfi_price_usd", price.cents / 100, (feed,)
    yield "btcfi_price_age_seconds", price.age_seconds, (feed,)
    yield "btcfi_price_confidence_bps", price.confidence_bps, (feed,)
    yield "btcfi_price_range_bps", price.range_bps, (feed,)
    yield "btcfi_price_quorum", price.quorum, (feed,)
    for status, count in (("used", price.used), ("dropped", price.dropped), ("absent", price.absent)):
        yield "btcfi_price_venues", count, (feed, status)


def _chain(_session: Session, seen: StoreFigures) -> Iterator[Sample]:
    yield from _by_state("btcfi_transactions", "chain_transaction", seen.reading.transactions)
    yield "btcfi_chain_walked_height", seen.reading.walked_height, ()


def _disputes(session: Session, seen: StoreFigures) -> Iterator[Sample]:
    if not seen.reading.schema_current:  # as of canaries
        return
    yield from _by_state("btcfi_disputes", "dispute", spine_views.by_state(session, DisputeRow))
    found = {one.state: one for one in dispute_views.pressing(session)}
    for state in map(str, machines()["dispute"][1].pending):
        one = found.get(state)
        yield "btcfi_dispute_blocks_left", None if one is None else one.blocks_left, (state,)
        yield "btcfi_disputes_late", 0 if one is None else one.late, (state,)
        yield "btcfi_disputes_overdue", 0 if one is None else one.overdue, (state,)
    yield "btcfi_disputes_behind_blocks", dispute_views.behind(session), ()


def _options(session: Session, seen: StoreFigures) -> Iterator[Sample]:
    reading = seen.reading
    yield from _by_state("btcfi_options", "option", reading.options)
    yield from _by_state("btcfi_settlements", "settlement", reading.settlements)
    yield from _by_state("btcfi_contracts", "contract", reading.contracts)
    for state, age in reading.oldest_settlement.items():
        yield "btcfi_settlement_oldest_seconds", age, (state,)
    for state, age in reading.oldest_contract.items():
        yield "btcfi_contract_oldest_seconds", age, (state,)
    for state in sorted({*map(str, RequestState), *reading.requests}):
        yield "btcfi_settlement_requests", reading.requests.get(state, 0), (state,)
    for until in SETTLED:
        yield "btcfi_settlement_seconds", seen.events.settled.get(until, Histogram()), (until,)
    yield "btcfi_options_overdue", reading.overdue_options, ()
    yield "btcfi_options_unpriced", reading.unpriced_options, ()
    yield "btcfi_premiums_age_seconds", reading.premiums_age, ()
    yield "btcfi_collateral_sats", reading.collateral_sats, ()
    yield "btcfi_premium_usd", reading.premium_cents / 100, ()
    newest = chain_views.tip(session)
    waiting = option_views.payments(session, tip=Height(newest.height if newest else 0), rule=FeeRule()).deadlines
    yield "btcfi_settlements_put_off", sum(one.put_off for one in waiting), ()
    yield "btcfi_settlements_too_late", sum(one.late for one in waiting), ()
    for name in TOTALS:
        yield "btcfi_settled_sats", reading.counters.get(f"settled_{name}_sats", 0), (name,)


def _put_broker(page: _Page, broker: BrokerReading) -> None:
    for queue, reading in broker.queues.items():
        page.put("btcfi_queue_messages", reading.waiting, queue)
        # a message that does not say when it was sent has an unknown age, an empty queue has none
        page.put("btcfi_queue_oldest_seconds", reading.oldest_seconds if reading.waiting else 0, queue)
    page.put("btcfi_unacked_messages", broker.unacked)
    page.put("btcfi_unacked_oldest_seconds", broker.oldest_unacked_seconds or 0)
    page.put("btcfi_broker_aof_enabled", int(broker.aof_enabled))
    page.put("btcfi_broker_aof_ok", int(broker.aof_ok))
    page.put("btcfi_broker_noeviction", int(broker.eviction_policy == "noeviction"))
    page.put("btcfi_broker_memory_bytes", broker.memory_bytes)
    page.put("btcfi_broker_clients", broker.clients)


def _version() -> str:
    try:
        return version("btcfi-oracle-vm")
    except PackageNotFoundError:
        return "unknown"


SPINE_FIGURES: Final = Figures(
    read=_spine,
    specs={
        "btcfi_stage_seconds": Spec(
            "histogram", "How long a row stayed in a state before it went on", ("entity", "from_state", "to_state")
        ),
        "btcfi_created_total": Spec("counter", "Rows that came into being", ("entity",)),
        "btcfi_duplicates_prevented_total": Spec("counter", "Repeated work stopped by the store", ("kind",)),
        "btcfi_repairs_total": Spec("counter", "Work taken up again by the reconciler", ("kind",)),
        "btcfi_refused_messages_total": Spec("counter", "Messages that were not ours, refused unread"),
        "btcfi_store_counter_total": Spec("counter", "Every other counter of the store", ("name",)),
        "btcfi_outbox_waiting": Spec("gauge", "Messages not published yet"),
        "btcfi_outbox_lag_seconds": Spec("gauge", "Age of the oldest message not published; 0 when none waits"),
        "btcfi_outbox_set_aside": Spec("gauge", "Rows that could not be started; `btcfi parked outbox` lists them"),
        "btcfi_canary_age_seconds": Spec("gauge", "Since the queue last proved that it is consumed", ("queue",)),
        "btcfi_clock_ahead_seconds": Spec("gauge", "A worker's clock minus the database's", ("worker",)),
        "btcfi_schema_current": Spec("gauge", "1 when the database is at this code's newest migration"),
        "btcfi_database_bytes": Spec("gauge", "Size of the database"),
        "btcfi_api_keys": Spec("gauge", "API keys: usable, expired, revoked", ("status",)),
    },
)
PRICES_FIGURES: Final = Figures(
    read=_prices,
    specs={
        "btcfi_price_usd": Spec("gauge", "Newest agreed price, USD per BTC", ("feed",)),
        "btcfi_price_age_seconds": Spec("gauge", "Since the end of the newest priced minute", ("feed",)),
        "btcfi_price_confidence_bps": Spec("gauge", "Half width of the venues' band, 1/100 % of the price", ("feed",)),
        "btcfi_price_range_bps": Spec("gauge", "Highest minus lowest level of the minute, 1/100 %", ("feed",)),
        "btcfi_price_venues": Spec("gauge", "Venues of the newest price: used, dropped, absent", ("feed", "status")),
        "btcfi_price_quorum": Spec("gauge", "Venues that a price needs", ("feed",)),
        "btcfi_feed_paused": Spec("gauge", "1 while an operator has stopped the feed", ("feed",)),
        "btcfi_rounds_total": Spec("counter", "Minutes closed, priced or void", ("state",)),
        "btcfi_rounds_open": Spec("gauge", "Minutes that are being fetched"),
    },
)
CHAIN_FIGURES: Final = Figures(
    read=_chain,
    specs={
        "btcfi_transactions": Spec("gauge", "Our transactions by state", ("state",)),
        "btcfi_chain_walked_height": Spec("gauge", "Of the newest block that the watcher took in"),
    },
)
DISPUTES_FIGURES: Final = Figures(
    read=_disputes,
    specs={
        "btcfi_disputes": Spec("gauge", "Disputed contracts by state, as the chain shows it", ("state",)),
        "btcfi_dispute_blocks_left": Spec(
            "gauge", "To the nearest deadline in the state: the last block that is safe for who is to move", ("state",)
        ),
        "btcfi_disputes_late": Spec("gauge", "In the state, with a deadline that is over: the other side may move",
                                    ("state",)),
        "btcfi_disputes_overdue": Spec("gauge", "In the state, although somebody could have ended it by now",
                                       ("state",)),
        "btcfi_disputes_behind_blocks": Spec("gauge", "Walked blocks that one of them was not looked at in"),
    },
)  # fmt: skip
OPTIONS_FIGURES: Final = Figures(
    read=_options,
    specs={
        "btcfi_options": Spec("gauge", "Options by state", ("state",)),
        "btcfi_options_overdue": Spec("gauge", "Active options more than a minute past their expiry minute"),
        "btcfi_options_unpriced": Spec("gauge", "Open options without a premium"),
        "btcfi_premiums_age_seconds": Spec("gauge", "Of the oldest premium of an open option"),
        "btcfi_collateral_sats": Spec("gauge", "Locked on the chain, over the funded options that are not settled"),
        "btcfi_premium_usd": Spec("gauge", "Sold premium of the open options"),
        "btcfi_settled_sats": Spec(
            "gauge",
            "Over the confirmed settlements: computed (payout), paid and returned on the chain, fees",
            ("what",),
        ),
        "btcfi_contracts": Spec("gauge", "Contracts by state, until both parties' funding is on the chain", ("state",)),
        "btcfi_contract_oldest_seconds": Spec("gauge", "Since the oldest one in the state was ordered", ("state",)),
        "btcfi_settlements": Spec("gauge", "Settlements by state", ("state",)),
        "btcfi_settlement_oldest_seconds": Spec("gauge", "Since the oldest one in the state became due", ("state",)),
        "btcfi_settlements_put_off": Spec("gauge", "Proven settlements whose turn is in a later block"),
        "btcfi_settlements_too_late": Spec("gauge", "Proven settlements whose turn is after their refund height"),
        "btcfi_settlement_requests": Spec("gauge", "Operators' ad hoc requests by state", ("state",)),
        "btcfi_settlement_seconds": Spec("histogram", "From due until proven, broadcast, confirmed", ("until",)),
    },
)
