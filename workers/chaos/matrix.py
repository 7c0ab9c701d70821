"""Which faults are injected where, and one case from its options' sale to the audit of what came out.

A case is a point, a kind and a batch of options of its own; its name and the seed say everything about it. A cluster
is used for many cases, one after another: each audits its own options and the whole event log.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from btcfi.adapters.store.options import sales, settlements, views
from btcfi.adapters.store.options.sales import Order
from btcfi.adapters.store.options.tables import OptionState, SettlementState
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.store.prices.tables import RoundState
from btcfi.errors import BtcfiError, InvalidInputError, UnreachableError
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.units import CentiBtc, CentsPerBtc, Slot, UnixSeconds
from workers import audit, liveness
from workers.chaos import points, told
from workers.chaos.cluster import LEASE_SECONDS, ChaosCluster
from workers.chaos.points import KILL_CHILD, KILL_WORKER, PAUSE
from workers.seal import make_key

HISTORY_SLOTS: Final = 3
"""Minutes priced before the first option is sold."""

CASES_A_LOT: Final = 24
"""Whose options are sold together. They can be refunded some thousand blocks after the sale, and each case mines:
of more cases, the last ones would find their options refunded."""

CASE_SECONDS: Final = 150.0
"""After which a case counts as stalled: leases, backoffs and restarts take 20 s together at the worst."""

LAST_SECONDS: Final = 5.0
"""For the last wait of a case that has used up its time."""

FUNDING_SECONDS: Final = 120.0
FUNDING_SECONDS_EACH: Final = 3.0
"""Patience with the funding of a lot: both parties sign for each option, on cores shared with others."""

FUNDING_PAUSE_SECONDS: Final = 0.6
"""Between two looks, and blocks, meanwhile."""

TOLD_SECONDS: Final = 60.0
"""For those who must tell of a fault: a scrape takes 4 s on an idle machine, and this must hold on a busy one too."""

SKEW_SECONDS: Final = 8
SKEW_MINUTES: Final = 7
"""By which the clock of one role is wrong."""

NEXT_MINUTE_SECONDS: Final = 12.0
"""After which a case's minute is over and the next one is ticked, as beat would: a tick can be lost with its worker."""

NODE_SECONDS: Final = 30.0
"""For a node that was killed to answer again."""

CLOCK_STEP_SECONDS: Final = 7_200

EDGE_POINTS: Final = tuple(
    f"{edge}:{moment}"
    for edge in (
        "round.open", "round.priced", "option.expired", "settlement.due", "settlement.claimed", "settlement.executed",
        "settlement.proven", "settlement.built", "settlement.broadcast", "chain_transaction.built",
        "chain_transaction.broadcast", "chain_transaction.confirmed", "chain_transaction.final",
        "settlement.confirmed", "option.exercised", "contract.signed", "contract.checked", "contract.funded",
        "option.active",
    )
    for moment in ("before", "after")
)  # fmt: skip
"""Every edge that an option's life crosses: before its transaction commits, and after it but before the message is
acknowledged."""

MESSAGE_POINTS: Final = (
    "node.send:before", "node.send:after",
    "publish.settlement.execute_batch:after", "publish.chain.settle:after", "publish.options.expire_due:after",
    "publish.oracle.attest:after", "task.oracle.attest:before", "task.oracle.attest:after",
    "task.oracle.fetch:before", "task.oracle.fetch:after", "task.settlement.execute_batch:before",
    "task.settlement.prove_part:after", "task.chain.settle:before", "task.chain.settle:after",
)  # fmt: skip
"""Between broadcast and record, between publishing and marking, between delivery and work."""

POINTS: Final = EDGE_POINTS + MESSAGE_POINTS

ANYWHERE: Final = "-"
"""Of the kinds that are about the whole case, not one point."""

EARLY: Final = frozenset({"settlement.executed", "task.settlement.prove_part"})
"""Points that only a long run reaches: an American put that is exercised early."""

FUNDING: Final = frozenset({"contract.signed", "contract.checked", "contract.funded", "option.active"})
"""Points of the funding, not of the settlement."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault."""

    name: str
    about: str
    action: str = PAUSE
    fault: Callable[[Run, Case, int], None] | None = None
    """Done by the harness while the process that reached the point stands still; given its pid."""
    undo: Callable[[Run], None] | None = None
    told: tuple[told.Witness, ...] = ()
    """Who must say so, while it is on: each is looked for, and one that is silent breaks the case."""
    untold: str = ""
    """Of a kind that nobody tells of: why, and what would if it lasted."""
    pointless: bool = False
    postgresql_only: bool = False
    sqlite_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault at one point."""

    point: str
    kind: str
    slot: int
    seed: int

    @property
    def name(self) -> str:
        """What the matrix calls it."""
        return f"{self.kind} at {self.point}"

    @property
    def edge(self) -> str:
        """The point without its moment."""
        return self.point.rpartition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a case ended."""

    case: Case
    seconds: float
    problems: tuple[str, ...]
    reached: bool
    told: tuple[str, ...] = ()
    """Who said so, by name."""

    @property
    def ok(self) -> bool:
        """Whether the fault happened and every promise held."""
        return self.reached and not self.problems


@dataclass(slots=True)
class Run:
    """One cluster and the cases that it has seen."""

    cluster: ChaosCluster
    view: audit.ChainView = field(default_factory=audit.ChainView)
    ticked: int = 0
    """The newest minute whose tick was sent."""
    heard: set[str] = field(default_factory=set)
    """Who has told of the case's fault so far."""
    _listener: told.Listener | None = None

    @property
    def listener(self) -> told.Listener:
        """Return who listens to this cluster."""
        if self._listener is None:
            self._listener = told.Listener(self.cluster.fleet.deployment)
        return self._listener

    def listen(self, kind: Kind) -> bool:
        """Return whether everybody who must tell of a kind has told."""
        wanted = {one.name for one in kind.told}
        if wanted - self.heard:
            self.heard |= self.listener.hears([one for one in kind.told if one.name not in self.heard])
        return wanted <= self.heard

    @property
    def store(self) -> Any:  # noqa: ANN401 - the cluster's store
        """The store of the cluster."""
        return self.cluster.store


# ---- what each kind does


def _broker_restart(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.kill_broker(wipe=False)


def _broker_wipe(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.kill_broker(wipe=True)


def _flush(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.flush_broker()


def _node(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.kill_node()


def _database(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.cut_database()


def _again(run: Run, case: Case, _pid: int) -> None:
    if case.point.endswith(":before"):  # it stands inside its transaction, and SQLite has one writer
        run.cluster.orders.release(order_name(case))
    run.cluster.deliver_again(int(time.time()) - 30, random.Random(case.seed))


def _clock_forward(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.orders.step_clock(CLOCK_STEP_SECONDS)


def _clock_back(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.orders.step_clock(-CLOCK_STEP_SECONDS)


def _clock_right(run: Run) -> None:
    run.cluster.orders.step_clock(0)


def _full(fill: Callable[..., None], seconds: float) -> Callable[[Run, Case, int], None]:
    """Return the fault of a disk that is full for a while. fill: ``ChaosCluster.fill_disk``, or ``fill_disks``."""

    def full(run: Run, case: Case, _pid: int) -> None:
        fill(run.cluster, full=True)
        run.cluster.orders.release(order_name(case))
        time.sleep(seconds)
        fill(run.cluster, full=False)

    return full


def _free(fill: Callable[..., None]) -> Callable[[Run], None]:
    return lambda run: fill(run.cluster, full=False)


def _slow(run: Run, _case: Case, _pid: int) -> None:
    run.cluster.slow_node(seconds=5.0)


def _freeze(run: Run, case: Case, pid: int) -> None:
    part = run.cluster.part_of(pid)
    run.cluster.freeze(part)
    run.cluster.orders.release(order_name(case))
    time.sleep(LEASE_SECONDS + 2.5)
    run.cluster.thaw(part)


def _main(run: Run, case: Case, pid: int) -> None:
    """Kill the worker's main process alone: its child works on with nobody to acknowledge for it."""
    part = run.cluster.part_of(pid)
    run.cluster.orders.release(order_name(case))
    part.failures = 0
    if part.process is not None:
        part.process.kill()


def _party(run: Run, case: Case, _pid: int) -> None:
    chosen = random.Random(case.seed).choice((("seller",), ("buyer",), ("seller", "buyer")))
    for name in chosen:
        run.cluster.kill_part(name)


def _forged(run: Run, _case: Case, _pid: int) -> None:
    """Write what somebody can who reaches the broker without our keys: unsealed, or sealed with a key of his."""
    cluster, key = run.cluster, run.cluster.folder / "stranger.key"
    make_key(key)
    for queue, task, args in _ORDINARY:
        cluster.push_raw(
            queue, json.dumps(cluster.envelope(queue, task, *args)).encode(),
            cluster.sealed(cluster.envelope(queue, task, *args), queue, key=key), b"not an envelope",
        )  # fmt: skip


def _poisoned(run: Run, _case: Case, _pid: int) -> None:
    """Write messages under our own seal whose headers and properties end a consumer that trusts them."""
    cluster = run.cluster
    for queue, task, args in _ORDINARY:
        for place, name, value in _ODD:
            envelope = cluster.envelope(queue, task, *args)
            envelope[place][name] = value
            cluster.push_raw(queue, cluster.sealed(envelope, queue))


def _replayed(run: Run, case: Case, _pid: int) -> None:
    """Write everything that lies in the broker again, as it was sealed, five times each and in another order."""
    recorded = run.cluster.held() * 5
    random.Random(case.seed).shuffle(recorded)
    for queue, raw in recorded:
        run.cluster.push_raw(queue, raw)


def _control(run: Run, case: Case, _pid: int) -> None:
    """Order by remote control: a stranger, a process with the deployment's key, and for a moment the operator."""
    from celery import Celery  # noqa: PLC0415 - as in ``tick``: only a started cluster has a broker

    from workers.app import configuration, create_app  # noqa: PLC0415 - as above

    deployment = run.cluster.fleet.deployment
    stranger = Celery("stranger", set_as_current=False)
    stranger.conf.update(configuration(deployment))
    ours = create_app(deployment, modules=())
    for queue in ("prices", "settle", "chain", "control"):
        stranger.control.cancel_consumer(queue)
    for app in (stranger, ours):
        app.control.broadcast("shutdown")
        app.control.broadcast("pool_restart", arguments={"reload": True})
    run.cluster.orders.release(order_name(case))
    ours.control.cancel_consumer("settle")  # with the operator's key: it is followed
    time.sleep(1.5)
    for name in ("settle", "settle-2"):
        ours.control.add_consumer("settle", destination=[liveness.node_name(name)])
    stranger.close()
    ours.close()


def _skewed(seconds: int) -> Callable[[Run, Case, int], None]:
    def skew(run: Run, case: Case, _pid: int) -> None:
        rng = random.Random(case.seed)
        run.cluster.skew(rng.choice(("chain", "control")), rng.choice((-seconds, seconds)))

    return skew


def _clocks_right(run: Run) -> None:
    run.cluster.clocks_right()


def _policy(run: Run, case: Case, _pid: int) -> None:
    """Keep another policy until it is told: settlements wait meanwhile."""
    run.cluster.orders.release(order_name(case))
    with run.cluster.node_of_another_policy():
        run.cluster.wait("the node's policy to be told", lambda: run.listen(KINDS[case.kind]), NODE_SECONDS)


_ORDINARY: Final = (
    ("settle", "settlement.execute_batch", ()), ("chain", "chain.settle", ()),
    ("control", "control.canary", ("prices",)), ("prices", "control.canary", ("settle",)),
)  # fmt: skip
"""What is worth forging: a queue, a task of ours, its arguments."""

_ODD: Final[tuple[tuple[str, str, object], ...]] = (
    ("headers", "expires", {}), ("headers", "id", [1]), ("properties", "body_encoding", "rot13"),
    ("headers", "eta", [2]), ("headers", "retries", "many"), ("headers", "timelimit", "soon"),
)  # fmt: skip

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(name="kill-child", about="SIGKILL to the prefork child that works", action=KILL_CHILD,
             untold="over within seconds; `BtcfiQueueUnconsumed` if no child comes again"),
        Kind(name="kill-worker", about="SIGKILL to the worker and all its children", action=KILL_WORKER,
             untold="over within seconds; `BtcfiQueueUnconsumed` if it stays away"),
        Kind(name="kill-main", about="SIGKILL to the worker's main process alone", fault=_main,
             untold="over within seconds; `BtcfiQueueUnconsumed` if it stays away"),
        Kind(name="broker-restart", about="SIGKILL to the broker, started again on its file", fault=_broker_restart,
             untold="over within seconds; `BtcfiPartDown` if it stays away"),
        Kind(name="broker-wipe", about="SIGKILL to the broker, started again empty", fault=_broker_wipe,
             untold="the restart as above; that messages are gone, `BtcfiRepairsFrequent` when it happens often"),
        Kind(name="flushall", about="FLUSHALL on the running broker", fault=_flush,
             untold="repaired within seconds; `BtcfiRepairsFrequent` when it happens often"),
        Kind(name="node-restart", about="SIGKILL to the node, started again without its mempool", fault=_node,
             untold="over within seconds; `BtcfiPartDown` if it stays away"),
        Kind(name="database-cut", about="every connection ended by the server", fault=_database, postgresql_only=True,
             untold="over at the next connection; `BtcfiPartDown` if it stays away"),
        Kind(name="deliver-again", about="every message again, queues doubled and shuffled", fault=_again,
             untold="a second delivery is ordinary and changes nothing"),
        Kind(name="clock-forward", about="the workers' clock two hours ahead, then right", fault=_clock_forward,
             undo=_clock_right,
             untold="the one clock itself is wrong, and nothing is there to hold it against"),
        Kind(name="clock-back", about="the workers' clock two hours behind, then right", fault=_clock_back,
             undo=_clock_right,
             untold="the one clock itself is wrong, and nothing is there to hold it against"),
        Kind(name="disk-full", about="no file may grow for 1.5 s", fault=_full(ChaosCluster.fill_disk, 1.5),
             undo=_free(ChaosCluster.fill_disk), sqlite_only=True,
             untold="over within seconds; `BtcfiSettlementLate` if it lasts"),
        Kind(name="slow-node", about="every answer of the node 1.5 s late, for 5 s", fault=_slow,
             untold="over within seconds; `BtcfiPaymentLate` if it lasts"),
        Kind(name="frozen", about="SIGSTOP beyond the lease, then SIGCONT", fault=_freeze,
             untold="over within seconds; `BtcfiQueueUnconsumed` if it lasts"),
        Kind(name="party-killed", about="SIGKILL to seller, buyer or both, started again", fault=_party,
             untold="over within seconds; `BtcfiContractStuck` if one stays away"),
        Kind(name="forged", about="unsealed messages, and sealed ones of a strange key, in every queue", fault=_forged,
             told=(told.FOREIGN,)),
        Kind(name="poisoned", about="odd headers and properties under our own seal", fault=_poisoned,
             told=(told.FOREIGN,)),
        Kind(name="replayed", about="what lies in the broker, recorded, five times again", fault=_replayed,
             untold="a recording is what redelivery is: it is taken and changes nothing"),
        Kind(name="remote-control", about="cancel_consumer, shutdown, pool_restart by a stranger and by ours; an "
             "operator's cancel_consumer, taken back", fault=_control, told=(told.FOREIGN,)),
        Kind(name="skew-seconds", about=f"the clock of one role {SKEW_SECONDS} s ahead or behind",
             fault=_skewed(SKEW_SECONDS), undo=_clocks_right, told=(told.SKEW, told.CLOCKS)),
        Kind(name="skew-minutes", about=f"the clock of one role {SKEW_MINUTES} minutes ahead or behind",
             fault=_skewed(60 * SKEW_MINUTES), undo=_clocks_right, told=(told.SKEW, told.CLOCKS)),
        Kind(name="disks-full", about="no file of any process of the fleet may grow for 3 s",
             fault=_full(ChaosCluster.fill_disks, 3.0),
             undo=_free(ChaosCluster.fill_disks),
             untold="over within seconds; `BtcfiSettlementLate` or `BtcfiPartDown` if it lasts"),
        Kind(name="node-policy", about="the node starts again without TRUC, until somebody tells", fault=_policy,
             told=(told.POLICY, told.NODE)),
        Kind(name="two-beats", about="a second beat, ticks of other minutes, each twice", pointless=True,
             untold="harmless, and nobody counts beats"),
    )
}  # fmt: skip


def order_name(case: Case) -> str:
    """Return the file name of a case's order."""
    return f"{case.slot}-{case.kind}"


# ---- choosing cases


def all_cases(*, postgresql: bool) -> list[tuple[str, str]]:
    """Return every (point, kind) of the matrix."""
    kinds = [k for k in KINDS.values() if not (k.sqlite_only if postgresql else k.postgresql_only)]
    return [(ANYWHERE if kind.pointless else point, kind.name) for kind in kinds
            for point in ([ANYWHERE] if kind.pointless else POINTS)]  # fmt: skip


def choose(seed: int, many: int, *, postgresql: bool) -> list[tuple[str, str]]:
    """Return a seeded subset: every kind and every point as evenly as ``many`` allows."""
    return _evenly(random.Random(seed), all_cases(postgresql=postgresql), many)


def choose_for_both(seed: int, many: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return ``many`` cases cut in two, for SQLite and for PostgreSQL, which has each kind of one of them alone.

    Every kind is there where ``many`` allows, on one of the two; which one, the seed decides.
    """
    rng = random.Random(seed)
    every = [*all_cases(postgresql=False)]
    every += [one for one in all_cases(postgresql=True) if one not in every]
    on_sqlite: list[tuple[str, str]] = []
    on_postgresql: list[tuple[str, str]] = []
    for number, cell in enumerate(_evenly(rng, every, many)):
        kind = KINDS[cell[1]]
        there = kind.postgresql_only or (not kind.sqlite_only and number % 2 == 1)
        (on_postgresql if there else on_sqlite).append(cell)
    return on_sqlite, on_postgresql


def _evenly(rng: random.Random, every: list[tuple[str, str]], many: int) -> list[tuple[str, str]]:
    rng.shuffle(every)
    seen: dict[str, int] = {}
    chosen = []
    for _ in range(min(many, len(every))):
        best = min(every, key=lambda one: 2 * seen.get(one[0], 0) + seen.get(one[1], 0))
        every.remove(best)
        chosen.append(best)
        for part in best:
            seen[part] = seen.get(part, 0) + 1
    return chosen


# ---- running them


def run_cases(
    cluster: ChaosCluster, wanted: Sequence[tuple[str, str]], *, seed: int, said: Callable[[Outcome], None],
    options_each: int = 2, begins: Callable[[str, int], None] = lambda *_: None,
) -> list[Outcome]:  # fmt: skip
    """Run cases one after another on a started cluster; ``said`` is told each as it ends.

    begins: is told what comes next, and how many options are sold for it at once: 0 for a case.
    """
    run = Run(cluster=cluster)
    for slot in cluster.slots[:HISTORY_SLOTS]:
        _price(run, slot)
    outcomes = []
    for lot in _lots(_scheduled(wanted, cluster.slots[HISTORY_SLOTS:], seed)):
        together = [case for case in lot if case.edge not in FUNDING]
        begins(f"the sale and funding of {len(together) * options_each} options", len(together) * options_each)
        ids = {case.slot: sell(run, case, options_each) for case in together}
        _fund(run, [one for many in ids.values() for one in many])
        for case in lot:
            begins(case.name, 0)
            outcome = _case(run, case, ids.get(case.slot), options_each)
            outcomes.append(outcome)
            said(outcome)
    return outcomes


def _lots(cases: Sequence[T]) -> list[Sequence[T]]:
    return [cases[first : first + CASES_A_LOT] for first in range(0, len(cases), CASES_A_LOT)]


def minutes_needed(wanted: Sequence[tuple[str, str]]) -> int:
    """Return how many minutes of the recording the cases take: two each, and one before each sale.

    A lot is sold together, before its first case; a case about the funding has a sale of its own.
    """
    return max(_places(wanted), default=-2) + 2


def _places(wanted: Sequence[tuple[str, str]]) -> list[int]:
    """Return which minute of the recording each case's options expire in."""
    found, place = [], 0
    for number, (point, _) in enumerate(wanted):
        # the minute of a sale is over when it is made
        place += (number % CASES_A_LOT == 0) + (point.rpartition(":")[0] in FUNDING)
        found.append(place)
        place += 2
    return found


def _scheduled(wanted: Sequence[tuple[str, str]], slots: Sequence[Slot], seed: int) -> list[Case]:
    """Give each case its expiry minute, one that is in the future when its options are sold, and a minute after it."""
    if minutes_needed(wanted) > len(slots):
        raise InvalidInputError("cases", str(len(wanted)), f"what the recording's {len(slots)} minutes allow")
    return [
        Case(point=point, kind=kind, slot=slots[place], seed=seed + number)
        for number, ((point, kind), place) in enumerate(zip(wanted, _places(wanted), strict=True))
    ]


def sell(run: Run, case: Case, many: int) -> list[str]:
    """Sell a case's options: European ones that expire at its slot, one American for the points of long runs."""
    from workers.deployed import sale_rule  # noqa: PLC0415 - the demo's imports only where options are sold

    here = run.cluster.here
    rule = sale_rule(here.deployment)
    rng = random.Random(case.seed)
    ids = []
    with here.store.transaction() as session:
        last = rounds.latest_priced(session, here.feed)
        spot = int(last.price_cents or 0) if last is not None else 0
        now = UnixSeconds((last.slot if last is not None else 0) + 60)
        for number in range(many):
            american = case.edge in EARLY and number == 0
            # the first of each case ends in the money, whatever the recording does
            sure = OptionKind.PUT if american else OptionKind.CALL
            kind = rng.choice(list(OptionKind)) if number else sure
            strike = spot * (rng.choice((92, 97, 103, 108)) if number else 130 if american else 85) // 100
            order = Order(
                option_id=f"{case.kind}-{case.slot}-{number}", kind=kind, strike=CentsPerBtc(strike),
                quantity=CentiBtc(5), barrier=None, american=american, fixing=MINUTE,
                # an American is exercised before it expires, so it must live beyond the case's own minute
                expiry=Slot(case.slot + (3_600 if american else 0)),
            )  # fmt: skip
            ids.append(sales.sell(session, order, rule, now=now).id)
    return ids


def _fund(run: Run, ids: Iterable[str]) -> None:
    wanted = set(ids)

    def active() -> bool:
        run.cluster.mine()
        return wanted <= set(_states(run, wanted, OptionState.ACTIVE))

    seconds = FUNDING_SECONDS + FUNDING_SECONDS_EACH * len(wanted)
    run.cluster.wait(f"the funding of {len(wanted)} options", active, seconds=seconds, pause=FUNDING_PAUSE_SECONDS)


def _states(run: Run, ids: Iterable[str], *states: str) -> Sequence[str]:
    with run.store.reading() as session:
        return views.of_these_in(session, ids, states)


def _tick_until(run: Run, slot: int) -> None:
    """Send the ticks of every minute up to ``slot`` that were not sent yet."""
    for one in run.cluster.slots:
        if run.ticked < one <= slot:
            run.cluster.tick(one)
    run.ticked = max(run.ticked, slot)


def _price(run: Run, slot: int) -> None:
    _tick_until(run, slot)
    run.cluster.wait(f"the price of {slot}", lambda: priced(run, slot), seconds=60)


def priced(run: Run, slot: int) -> bool:
    """Return whether the round of a minute is closed."""
    with run.store.reading() as session:
        row = rounds.find_round(session, run.cluster.here.feed, Slot(slot))
        return row is not None and row.state != RoundState.OPEN


def _case(run: Run, case: Case, ids: list[str] | None, options_each: int) -> Outcome:
    began = time.monotonic()
    kind = KINDS[case.kind]
    reached, problems = False, []
    try:
        # so that the fault meets the case's own minute; one that sells must do it a minute before
        _price(run, case.slot - 60 * (1 + (case.edge in FUNDING)))
        if not kind.pointless:
            run.cluster.orders.arm(points.Order(name=order_name(case), point=case.point, action=kind.action))
        run.heard = set()
        if kind.told:
            run.listener.remember()
        reached = _drive(run, case, kind, ids, options_each)
        if reached:
            _hear(run, kind)
    except Exception as e:  # noqa: BLE001 - one case's failure must not take the ones after it along
        problems.append(str(e) if isinstance(e, BtcfiError) else f"{type(e).__name__}: {e}")
        reached = run.cluster.orders.reached(order_name(case)) is not None
    finally:
        run.cluster.orders.disarm(order_name(case))
        if kind.undo is not None:
            kind.undo(run)
    sold = ids or [f"{case.kind}-{case.slot}-{number}" for number in range(options_each)]
    try:
        run.cluster.wait("the node", lambda: _answers(run), NODE_SECONDS)  # the fault may have struck at the very end
        run.view.follow(run.cluster.node)
        problems += [str(finding) for finding in audit.audit(run.store, run.view, sold)]
    except Exception as e:  # noqa: BLE001 - as above
        problems.append(f"no audit: {type(e).__name__}: {e}")
    if not reached and not kind.pointless:
        problems.append("the point was never reached: nothing was tested")
    return Outcome(case=case, seconds=time.monotonic() - began, problems=tuple(problems), reached=reached,
                   told=tuple(sorted(run.heard)))  # fmt: skip


def _hear(run: Run, kind: Kind) -> None:
    """Wait until everybody who must tell of a kind has told, while it is on."""
    if kind.told:
        names = " and ".join(one.name for one in kind.told)
        run.cluster.wait(f"{names} to tell of it", lambda: run.listen(kind), TOLD_SECONDS)


def _answers(run: Run) -> bool:
    with suppress(UnreachableError):
        return run.cluster.node.block_count() >= 0
    return False


def _drive(run: Run, case: Case, kind: Kind, ids: list[str] | None, options_each: int) -> bool:
    """Take a case's options to their end, with its fault on the way; return whether the fault happened."""
    cluster, over_at = run.cluster, time.monotonic() + CASE_SECONDS
    fault = Fault(run, case, kind)

    def left() -> float:
        """Return what remains of the case's time: its waits share it."""
        return max(over_at - time.monotonic(), LAST_SECONDS)

    if ids is None:  # the fault is about the funding
        ids = sell(run, case, options_each)
        sold = ids
        cluster.wait(
            "the funding",
            lambda: _mined(run, fault) and len(_states(run, sold, OptionState.ACTIVE)) == len(sold),
            left(),
        )
    second = cluster.add_beat("beat-2") if case.kind == "two-beats" else None
    try:
        if fault.done and kind.undo is not None:
            _hear(run, kind)
            kind.undo(run)  # it met the funding: oracles take no minute that prices workers date two hours ahead
        _tick_until(run, case.slot)
        if second is not None:
            for slot in (case.slot - 60, case.slot, case.slot - 120):
                cluster.tick(slot)
        over = time.monotonic() + NEXT_MINUTE_SECONDS
        if case.edge in EARLY:
            _ask_early(run, ids, case)
        cluster.wait("the settlements", lambda: _settled(run, fault, ids or (), case, over), left())
        cluster.wait("the price", lambda: priced(run, case.slot), left())
        _last_look(fault)
    finally:
        if second is not None:
            second.command = ["true"]  # the supervisor has nothing to start again
            second.kill()
            cluster.wait("the second beat's end", lambda: second.exit_code is not None, 5)
    return fault.done or kind.pointless


class Fault:
    """The fault of a case, done once when its point is reached."""

    def __init__(self, run: Run, case: Case, kind: Kind) -> None:
        self._run, self._case, self._kind = run, case, kind
        self.done = False

    def look(self) -> None:
        """Do it if it is time."""
        if self.done:
            return
        if self._kind.pointless:
            self.done = True
            return
        pid = self._run.cluster.orders.reached(order_name(self._case))
        if pid is None:
            return
        self.done = True
        for part in self._run.cluster.fleet.parts:
            part.failures = 0  # a killed worker starts again at once, however often a run kills it
        if self._kind.fault is not None:
            try:
                self._kind.fault(self._run, self._case, pid)
            finally:
                self._run.cluster.orders.release(order_name(self._case))


def _last_look(fault: Fault) -> None:
    """Give a point of the very last edge time to be seen."""
    deadline = time.monotonic() + 2.0
    while not fault.done and time.monotonic() < deadline:
        fault.look()
        time.sleep(0.05)


def _mined(run: Run, fault: Fault) -> bool:
    fault.look()
    run.cluster.mine()
    return True


def _settled(run: Run, fault: Fault, ids: Iterable[str], case: Case, over: float) -> bool:
    fault.look()
    if time.monotonic() > over:
        _tick_until(run, case.slot + 60)
    ids = list(ids)
    with run.store.reading() as session:
        states = views.states_of(session, ids)
    if (
        states
        and all(state in {SettlementState.BROADCAST, SettlementState.CONFIRMED} for state in states)
        and len(states) == len(ids)
    ):
        run.cluster.mine()
        time.sleep(0.1)
    return len(_states(run, ids, *audit.SETTLED)) == len(ids)


def _ask_early(run: Run, ids: Sequence[str], case: Case) -> None:
    run.cluster.wait("the price", lambda: priced(run, case.slot), CASE_SECONDS)
    with run.store.transaction() as session:
        settlements.request_settlement(session, ids[0], requested_by="chaos", now=UnixSeconds(int(time.time())))
