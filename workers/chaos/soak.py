"""``btcfi chaos --soak``: options sold and settled all the time, one fault a minute, and an audit of each at the end.

A wall minute replays four minutes of the market, so that an option lives for two minutes of ours. The recording is as
long as it has to be: the package's own, again and again.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import psutil

from btcfi.adapters.store.options import sales, settlements, views
from btcfi.adapters.store.options.backlog import BacklogFullError, backlog
from btcfi.adapters.store.options.sales import Order
from btcfi.adapters.store.options.tables import OptionState
from btcfi.adapters.store.prices import rounds
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.options.terms import OptionKind
from btcfi.oracle.fixing import MINUTE
from btcfi.units import SECONDS_PER_MINUTE, CentiBtc, CentsPerBtc, Slot, UnixSeconds
from workers import audit
from workers.chaos import points
from workers.chaos.cluster import ChaosCluster
from workers.chaos.matrix import (
    ANYWHERE,
    FUNDING,
    HISTORY_SLOTS,
    KINDS,
    Case,
    Fault,
    Run,
    all_cases,
    order_name,
    priced,
)
from workers.machine.part import Part

SLOT_SECONDS: Final = 15.0
"""Wall time of a market minute."""

SLOTS_A_MINUTE: Final = int(60 / SLOT_SECONDS)

LIFE_SLOTS: Final = 8
"""From the sale to the expiry: two wall minutes, in which both parties sign and the funding is confirmed."""

LONG_LIFE_SLOTS: Final = 60
"""Of the one American a minute, whose early exercise is a long run with a proof in parts."""

DRAIN_SLOT_SECONDS: Final = 3.0
"""Wall time of a market minute after the last sale."""

DRAIN_SECONDS: Final = 240.0
DRAIN_SECONDS_EACH: Final = 4.0
"""Patience with what is open at the end."""

MINE_SECONDS: Final = 2.0
UNDO_SECONDS: Final = 10.0
"""How long a stepped clock stays wrong."""

BEFORE_EXPIRY: Final = (*(f"{edge}:" for edge in sorted(FUNDING)), "round.", "task.oracle.fetch:", ANYWHERE)
"""What points begin with that are met before anything expires."""

EARLIEST, LATEST = 3.0, 25.0
"""Seconds of its minute within which a fault is armed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What there was to see at the end of one wall minute."""

    number: int
    fault: str
    struck: bool
    """Whether the fault's point was reached within the minute."""
    sold: int
    settled: int
    """Of all so far, as ``sold``."""
    backlog: int
    """What waits for us: fundings and settlements that no node has taken yet."""
    rss_mb: int
    """Of all processes of the cluster together."""

    def __str__(self) -> str:
        struck = "" if self.struck else " (not reached)"
        return (
            f"minute {self.number:3}: sold {self.sold:4}, settled {self.settled:4}, open {self.open:3}, "
            f"backlog {self.backlog:3}, {self.rss_mb:,} MB  {self.fault}{struck}"
        )

    @property
    def open(self) -> int:
        """Sold and not settled yet."""
        return self.sold - self.settled


@dataclass(slots=True, kw_only=True)
class Soak:
    """A soak, while it runs and afterwards."""

    minutes: list[Minute] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """Every option that was sold."""
    refused: int = 0
    """Sales that the backlog's limit refused, or whose minute had passed when the store answered again."""
    drained_seconds: float = 0.0
    broken: list[str] | None = None
    """What the audit found; None until it was made."""


def slots_needed(minutes: int) -> int:
    """Return how many minutes of the market a soak may take, its end included."""
    return HISTORY_SLOTS + (minutes + 2) * SLOTS_A_MINUTE + LIFE_SLOTS + 2 * LONG_LIFE_SLOTS


def run_soak(
    cluster: ChaosCluster, soak: Soak, *, minutes: int, per_minute: int, seed: int, said: Callable[[str], None]
) -> None:
    """Soak a started cluster and write into ``soak`` as it goes; ``said`` is told one line a minute.

    Raises StalledError when not even the first prices come.
    """
    if per_minute % SLOTS_A_MINUTE:
        raise InvalidInputError("--per-minute", str(per_minute), f"a multiple of {SLOTS_A_MINUTE}")
    _Soaking(cluster, soak, per_minute=per_minute, seed=seed, said=said).run(minutes)


class _Soaking:
    """The loop: ticks, sales, blocks, requests and faults, each when it is due."""

    def __init__(
        self, cluster: ChaosCluster, soak: Soak, *, per_minute: int, seed: int, said: Callable[[str], None]
    ) -> None:
        from workers.deployed import sale_rule  # noqa: PLC0415 - imports what only sales need

        self._cluster, self._soak, self._said = cluster, soak, said
        self._each_slot = per_minute // SLOTS_A_MINUTE
        self._rng = random.Random(seed)
        self._run = Run(cluster=cluster)
        self._rule = sale_rule(cluster.here.deployment)
        self._slots = iter(cluster.slots)
        self._orders: list[Order] = []
        """Not sold yet: the store may be away for a moment."""
        self._early: set[str] = set()
        """Americans that nobody has asked to exercise yet."""
        self._mined = 0.0
        self._turn: _Turn | None = None

    def run(self, minutes: int) -> None:
        for _ in range(HISTORY_SLOTS):
            self._first_price(next(self._slots))
        began = time.monotonic()
        for number in range(minutes * SLOTS_A_MINUTE):
            minute, part = divmod(number, SLOTS_A_MINUTE)
            slot = next(self._slots)
            self._tick(slot)
            self._order(slot, minute, american=part == 0)
            if part == 0:
                expired = minute >= LIFE_SLOTS // SLOTS_A_MINUTE
                self._turn = _Turn(self._run, self._rng, Slot(slot), at=time.monotonic(), expired=expired)
            self._work_until(began + (number + 1) * SLOT_SECONDS)
            if part == SLOTS_A_MINUTE - 1:
                self._note(minute + 1)
        self._drain()
        self._audit()

    def _first_price(self, slot: int) -> None:
        self._cluster.tick(slot)
        self._cluster.wait(f"the price of {slot}", lambda: priced(self._run, slot), seconds=60)

    def _tick(self, slot: int) -> None:
        with contextlib.suppress(Exception):  # the broker may be away: the option waits for the next minute
            self._cluster.tick(slot)

    def _work_until(self, end: float) -> None:
        while time.monotonic() < end:
            if self._turn is not None:
                self._turn.look()
            self._sell()
            if time.monotonic() - self._mined > MINE_SECONDS:
                self._mined = time.monotonic()
                with contextlib.suppress(Exception):  # the store may be away, as in the next line
                    self._cluster.mine()
                    self._ask_early()
            time.sleep(0.1)

    def _order(self, slot: int, minute: int, *, american: bool) -> None:
        with self._cluster.store.reading() as session:
            last = rounds.latest_priced(session, self._cluster.here.feed)
        spot = int(last.price_cents or 0) if last is not None else 0
        for number in range(self._each_slot):
            early = american and number == 0
            strike = spot * (130 if early else self._rng.choice((85, 92, 97, 103, 108))) // 100
            self._orders.append(
                Order(
                    option_id=f"soak-{minute}-{slot}-{number}{'-early' if early else ''}",
                    kind=OptionKind.PUT if early else self._rng.choice(list(OptionKind)), strike=CentsPerBtc(strike),
                    quantity=CentiBtc(5), barrier=None, american=early, fixing=MINUTE,
                    expiry=Slot(slot + SECONDS_PER_MINUTE * (LONG_LIFE_SLOTS if early else LIFE_SLOTS)),
                )
            )  # fmt: skip

    def _sell(self) -> None:
        while self._orders:
            order = self._orders[0]
            try:
                with self._cluster.store.transaction() as session:
                    last = rounds.latest_priced(session, self._cluster.here.feed)
                    now = UnixSeconds((last.slot if last is not None else 0) + SECONDS_PER_MINUTE)
                    sales.sell(session, order, self._rule, now=now)
            except (BacklogFullError, InvalidInputError):
                self._soak.refused += 1
            except Exception:  # noqa: BLE001 - the store is away: the same order is placed again
                return
            else:
                self._soak.ids.append(order.option_id)
                if order.american:
                    self._early.add(order.option_id)
            self._orders.pop(0)

    def _ask_early(self) -> None:
        if not self._early:
            return
        with self._cluster.store.transaction() as session:
            found = views.of_these_in(session, self._early, [OptionState.ACTIVE])
            for one in found:
                settlements.request_settlement(session, one, requested_by="soak", now=UnixSeconds(int(time.time())))
        self._early -= set(found)

    def _note(self, number: int) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()
        with self._cluster.store.reading() as session:
            waiting = backlog(session)
        minute = Minute(
            number=number, fault=turn.name if turn is not None else "", struck=turn is not None and turn.struck,
            sold=len(self._soak.ids), settled=self._settled(), backlog=waiting, rss_mb=_rss_mb(self._cluster),
        )  # fmt: skip
        self._soak.minutes.append(minute)
        self._said(str(minute))

    def _settled(self) -> int:
        with self._cluster.store.reading() as session:
            return views.options_in(session, audit.SETTLED)

    def _drain(self) -> None:
        """Bring what is open to its end: minutes go on, nothing is sold, nothing is broken any more."""
        began = time.monotonic()
        patience = DRAIN_SECONDS + DRAIN_SECONDS_EACH * (len(self._soak.ids) - self._settled())
        while self._settled() < len(self._soak.ids) and time.monotonic() - began < patience:
            slot = next(self._slots, None)
            if slot is not None:
                self._tick(slot)
            self._work_until(time.monotonic() + DRAIN_SLOT_SECONDS)
        self._soak.drained_seconds = time.monotonic() - began
        self._said(f"drained in {self._soak.drained_seconds:.0f} s; auditing {len(self._soak.ids)} options")

    def _audit(self) -> None:
        self._run.view.follow(self._cluster.node)
        self._soak.broken = [str(one) for one in audit.audit(self._run.store, self._run.view, self._soak.ids)]


class _Turn:
    """The fault of one minute: armed at a random moment, at a random point."""

    def __init__(self, run: Run, rng: random.Random, slot: Slot, *, at: float, expired: bool) -> None:
        every = all_cases(postgresql=run.cluster.is_postgresql)
        # nothing settles before the first options expire
        point, kind = rng.choice([one for one in every if expired or one[0].startswith(BEFORE_EXPIRY)])
        self._run, self._kind = run, KINDS[kind]
        self._case = Case(point=point, kind=kind, slot=slot, seed=rng.randrange(1 << 30))
        self._arm_at = at + rng.uniform(EARLIEST, LATEST)
        self._fault: Fault | None = None
        self._undo_at: float | None = None
        self._beat: Part | None = None
        self.struck = False

    @property
    def name(self) -> str:
        return self._case.kind if self._case.point == ANYWHERE else self._case.name

    def look(self) -> None:
        """Do what is due of it; a fault whose target has just died of itself changes nothing."""
        now = time.monotonic()
        if self._fault is None and now >= self._arm_at:
            self._arm()
        if self._fault is not None and not self.struck:
            with contextlib.suppress(BtcfiError, StopIteration, OSError, psutil.Error):
                self._fault.look()
            self.struck = self._fault.done
            if self.struck:
                self._undo_at = time.monotonic() + UNDO_SECONDS
        if self._undo_at is not None and now >= self._undo_at:
            self._undo()

    def _arm(self) -> None:
        self._fault = Fault(self._run, self._case, self._kind)
        if not self._kind.pointless:
            order = points.Order(name=order_name(self._case), point=self._case.point, action=self._kind.action)
            self._run.cluster.orders.arm(order)
            return
        self._beat = self._run.cluster.add_beat(f"beat-{self._case.slot}")
        with contextlib.suppress(Exception):
            for slot in (self._case.slot, self._case.slot, self._case.slot - SECONDS_PER_MINUTE):
                self._run.cluster.tick(slot)

    def _undo(self) -> None:
        self._undo_at = None
        if self._kind.undo is not None:
            self._kind.undo(self._run)

    def end(self) -> None:
        """Take back what nobody came by, and put right what is still wrong."""
        self._run.cluster.orders.disarm(order_name(self._case))
        self._undo()
        if self._beat is not None:
            self._beat.command = ["true"]  # the supervisor has nothing to start again
            self._beat.kill()


def _rss_mb(cluster: ChaosCluster) -> int:
    total = 0
    for part in cluster.parts():
        with contextlib.suppress(psutil.Error):
            if part.process is not None:
                top = psutil.Process(part.process.pid)
                total += sum(one.memory_info().rss for one in (top, *top.children(recursive=True)))
    return total // 1_000_000
