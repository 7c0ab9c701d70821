"""A simulated fee market: blocks that others fill too, and settlements that are sent, bumped and mined among them.

SIMULATED: no node is asked, and others' demand is a formula. Real are the two functions that decide about ours,
``schedule.schedule`` and ``fees.choose_rate``: the tasks call the same. Of the others:

    arrivals   a block's interval is exponential, 600 s on average; with it come ``load`` blocks' worth of transactions
    rates      log-normal around ``rate``; they never leave the pool but into a block, and never bump
    estimate   the highest of the last three blocks' lowest rates, where those blocks were full: a node's word for two
    blocks     take the highest rates; of one rate others' before ours
    end        others go on as long as ours are not all mined; ours that are not are said

What is not in it: others who bid against us, other services' Fridays, miners who leave blocks empty, blocks of another
size. Randomness is an argument, so equal arguments give equal runs. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from random import Random
from typing import Final

from btcfi.bitcoin.fees import MIN_RELAY_FEE_RATE, FeeRule, SatsPerKvb, choose_rate, fee_for
from btcfi.bitcoin.next_blocks import BLOCK_VSIZE
from btcfi.contracts.schedule import PASSED_BY_BLOCKS, SHARE, Due, Space, schedule
from btcfi.contracts.settling import BUMP_AFTER_BLOCKS
from btcfi.errors import InvalidInputError
from btcfi.units import Height, Sats

BINS: Final = 240
BIN_GROWTH: Final = 1.04
"""Others' rates are kept in bins, each 4 % above the last: from 1 sat/vB to more than 10,000."""

DRAWS: Final = 400
"""Transactions that stand for one block's worth of others': enough for a smooth pool, cheap to draw."""

MEMORY_BLOCKS: Final = 3
WARM_BLOCKS: Final = 50
"""Blocks before ours come: the pool has its shape."""

MAX_BLOCKS: Final = 20_000

TODAY: Final = SatsPerKvb(2_000)
"""What others pay when nobody says otherwise, the median: 2 sat/vB."""

MOST_RATE: Final = 1_000_000
MOST_SPREAD: Final = 3.0
MOST_LOAD: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Everybody else's demand, a formula."""

    rate: SatsPerKvb = TODAY
    """The median of what they pay."""
    spread: float = 0.7
    """Standard deviation of the logarithm of their rates."""
    load: float = 0.9
    """Virtual bytes that come in 600 s, as a part of a block: above 1 their pool grows without end."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError outside of what the bins hold."""
        rate, spread, load = self.rate, self.spread, self.load
        if not (MIN_RELAY_FEE_RATE <= rate <= MOST_RATE and 0 < spread <= MOST_SPREAD and 0 <= load <= MOST_LOAD):
            raise InvalidInputError(
                "simulated demand", f"{rate} sat/kvB, a spread of {spread}, a load of {load}",
                f"{MIN_RELAY_FEE_RATE} to {MOST_RATE} sat/kvB, a spread up to {MOST_SPREAD}, a load up to {MOST_LOAD}",
            )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Ours:
    """One transaction of ours that waits, or several alike."""

    due: Due
    rate: SatsPerKvb
    sent: int
    """The tip when it was sent first."""
    bumps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of what was due. Every number is of a simulation."""

    blocks: int
    """From the first that could hold one of ours to the last that did."""
    mined: int
    """How many of what was due."""
    unmined: tuple[str, ...]
    missed: tuple[str, ...]
    """What a block held after its deadline, or none."""
    least_spare: int | None
    """Blocks that were left between the latest one's block and its deadline; None when nothing was mined."""
    fees: Sats
    highest_rate: SatsPerKvb
    mean_rate: SatsPerKvb
    """Fees by size."""
    bumps: int
    peak_in_flight: int
    """The most virtual bytes of ours in the pool at once."""
    peak_others: int
    others_rate: SatsPerKvb
    """The highest estimate while ours were there."""


@dataclass(slots=True)
class _Pool:
    """Others' virtual bytes by bin of their rate, lowest first."""

    bins: list[float] = field(default_factory=lambda: [0.0] * BINS)
    lowest: list[SatsPerKvb] = field(default_factory=list)
    """Of the newest blocks: the lowest rate of each, 0 where it was not full."""

    @property
    def estimate(self) -> SatsPerKvb | None:
        """What a node would say."""
        return SatsPerKvb(max(self.lowest[-MEMORY_BLOCKS:], default=0)) or None


def bin_of(rate: float) -> int:
    """Return the bin of a rate in sat/kvB."""
    return min(BINS - 1, max(0, int(log(max(rate, 1_000) / 1_000) / log(BIN_GROWTH))))


def rate_of(number: int) -> SatsPerKvb:
    """Return the highest rate of a bin: who pays it stands before all that it holds."""
    return SatsPerKvb(int(1_000 * BIN_GROWTH ** (number + 1)))


def simulate(
    due: Iterable[Due], others: Others, rule: FeeRule, random: Random, *, tip: Height, share: int = SHARE,
    all_at_once: bool = False, said: Callable[[int, int], None] = lambda _mined, _of: None,
) -> Run:  # fmt: skip
    """Return what becomes of what is due at ``tip``.

    all_at_once: everything is sent at the first tip and no schedule asked, to compare. said: is told after each block
    how many are mined, of how many. Blocks are mined until none is left, at most ``MAX_BLOCKS``.
    """
    waiting = {one.name: one for one in due}
    many, pool, run = len(waiting), _Pool(), _Tally()
    for _ in range(WARM_BLOCKS):
        _arrive(pool, others, random)
        _mine(pool, [])
    flying: list[_Ours] = []
    at = int(tip)
    while (waiting or flying) and at - tip < MAX_BLOCKS:
        _bump(flying, pool.estimate, rule, at, run)
        for one in _now(waiting, flying, pool.estimate, rule, at, share, all_at_once=all_at_once):
            del waiting[one.name]
            rate = choose_rate(pool.estimate, rule, blocks_left=one.deadline - at)
            flying.append(_Ours(due=one, rate=rate, sent=at))
        run.look(flying, pool)
        _arrive(pool, others, random)
        at += 1
        mined = _mine(pool, flying)
        run.take(mined, at)
        taken = {one.due.name for one in mined}
        flying = [one for one in flying if one.due.name not in taken]
        said(many - len(waiting) - len(flying), many)
    return run.end([*waiting.values(), *(one.due for one in flying)], tip)


def _now(  # noqa: PLR0917 - called once, right above
    waiting: dict[str, Due], flying: Sequence[_Ours], estimate: SatsPerKvb | None, rule: FeeRule, at: int, share: int,
    *, all_at_once: bool,
) -> tuple[Due, ...]:  # fmt: skip
    if all_at_once or not waiting:
        return tuple(waiting.values())
    in_flight = sum(one.due.vsize for one in flying if at - one.sent < PASSED_BY_BLOCKS)
    space = Space(tip=Height(at), estimate=estimate, in_flight=in_flight, share=share)
    return schedule(waiting.values(), space, rule).now


def _bump(flying: Sequence[_Ours], estimate: SatsPerKvb | None, rule: FeeRule, at: int, run: _Tally) -> None:
    """Have what waits too long pay more, as ``settling.next_step`` decides it: late, or near the deadline."""
    for one in flying:
        late, left = at - one.sent, one.due.deadline - at
        if late < BUMP_AFTER_BLOCKS and not (left <= rule.deadline_blocks and late):
            continue
        goal = choose_rate(estimate, rule, blocks_late=late, blocks_left=left)
        if goal >= one.rate + 1_000:
            one.rate = goal
            one.bumps += 1
            run.bumps += 1


def _arrive(pool: _Pool, others: Others, random: Random) -> None:
    """Add what others send until the next block."""
    worth = others.load * BLOCK_VSIZE * random.expovariate(1.0)
    each = worth / DRAWS
    for _ in range(DRAWS):
        pool.bins[bin_of(others.rate * exp(random.gauss(0.0, others.spread)))] += each


def _mine(pool: _Pool, flying: Sequence[_Ours]) -> list[_Ours]:
    """Take the highest rates into one block; return ours that it holds."""
    room, lowest, mined = float(BLOCK_VSIZE), 0, []
    ours: dict[int, list[_Ours]] = {}
    for one in flying:
        ours.setdefault(bin_of(one.rate), []).append(one)
    for number in range(BINS - 1, -1, -1):
        taken = min(room, pool.bins[number])
        pool.bins[number] -= taken
        room -= taken
        for one in sorted(ours.get(number, ()), key=lambda one: (-one.rate, one.sent, one.due.name)):
            if one.due.vsize <= room:
                room -= one.due.vsize
                mined.append(one)
        lowest = rate_of(number) if taken or number in ours else lowest
        if room < 1:
            break
    pool.lowest.append(SatsPerKvb(lowest if room < 1 or _left(pool) else 0))
    del pool.lowest[:-MEMORY_BLOCKS]
    return mined


def _left(pool: _Pool) -> bool:
    return sum(pool.bins) >= 1


@dataclass(slots=True)
class _Tally:
    mined: list[tuple[_Ours, int]] = field(default_factory=list)
    bumps: int = 0
    peak: int = 0
    peak_others: int = 0
    estimate: int = 0

    def look(self, flying: Sequence[_Ours], pool: _Pool) -> None:
        self.peak = max(self.peak, sum(one.due.vsize for one in flying))
        self.peak_others = max(self.peak_others, int(sum(pool.bins)))
        self.estimate = max(self.estimate, pool.estimate or 0)

    def take(self, mined: Iterable[_Ours], at: int) -> None:
        self.mined += [(one, at) for one in mined]

    def end(self, left: Sequence[Due], tip: Height) -> Run:
        fees = sum(fee_for(one.due.vsize, one.rate) for one, _ in self.mined)
        size = sum(one.due.vsize for one, _ in self.mined)
        spare = [one.due.deadline - at for one, at in self.mined]
        return Run(
            blocks=max((at for _, at in self.mined), default=tip) - tip, mined=len(self.mined),
            unmined=tuple(sorted(one.name for one in left)),
            missed=tuple(sorted(
                [one.name for one in left] + [one.due.name for one, at in self.mined if at > one.due.deadline]
            )),
            least_spare=min(spare, default=None), fees=Sats(fees),
            highest_rate=SatsPerKvb(max((one.rate for one, _ in self.mined), default=0)),
            mean_rate=SatsPerKvb(fees * 1_000 // size if size else 0), bumps=self.bumps, peak_in_flight=self.peak,
            peak_others=self.peak_others, others_rate=SatsPerKvb(self.estimate),
        )  # fmt: skip
