"""A queue model of one Friday: stages in a row, a burst at the first, cores that all of them share. SIMULATED.

It is fed by measured times of stages (``tests.benchmarks.friday``, ``btcfi bench``) and says which stage is the first
bottleneck and how long a burst takes. What it claims is small: work is a fluid, a stage with n processes uses n cores
at the most, stages that want more cores than there are slow down alike, and what a settlement costs a stage depends on
nothing. So it knows no start-up, no lock, no cache and no wait for a queue: a short burst takes longer than it says.
``compare`` holds it against a measured run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from btcfi.contracts.schedule import SETTLEMENT_VSIZE, SHARE
from btcfi.errors import InvalidInputError

STEPS: Final = 4_000
"""Of the simulation, at least: a thousandth of the result."""

MOST_STEPS: Final = 400_000
BLOCK_SECONDS: Final = 600.0
MOST_OPTIONS: Final = 10_000_000
MOST_PROCESSES: Final = 1_000
MOST_SECONDS: Final = 3_600.0
SETTLE: Final = "settle"
"""The part whose processes run and prove (``workers.roles``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: so many processes, each so long at one settlement."""

    name: str
    processes: int
    seconds_each: float
    computes: bool = True
    """Whether it takes a core while it works; a chain of blocks does not."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what is no stage."""
        if not 1 <= self.processes <= MOST_PROCESSES or not 0 < self.seconds_each <= MOST_SECONDS:
            raise InvalidInputError(
                f"stage {self.name[:40]!r}", f"{self.processes} processes, {self.seconds_each} s each",
                f"1 to {MOST_PROCESSES} processes, more than 0 s and at most {MOST_SECONDS:.0f}",
            )  # fmt: skip

    @property
    def rate(self) -> float:
        """Settlements a second with a core for each process."""
        return self.processes / self.seconds_each


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """How a stage went."""

    name: str
    rate: float
    """Settlements a second that it could do with cores enough."""
    last_s: float
    """When it had done the last one."""
    utilisation: float
    """Of its processes' time up to ``last_s``, the part in which they worked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What the model says of a burst."""

    stages: tuple[Passed, ...]
    bottleneck: str
    """What is busiest, or ``cores``."""
    cores_utilisation: float
    seconds: float
    """Until the last stage has done the last one."""


def blocks(*, share: int = SHARE, vsize: int = SETTLEMENT_VSIZE) -> Stage:
    """Return the chain as a stage: so many virtual bytes of a block every ten minutes."""
    return Stage(name="blocks", processes=1, seconds_each=BLOCK_SECONDS / (share / vsize), computes=False)


def drain(
    stages: Sequence[Stage], many: int, *, cores: float, said: Callable[[float], None] = lambda _done: None
) -> Drained:  # fmt: skip
    """Return how long ``many`` settlements that are due at once take through every stage.

    cores: those that are free for us, also a part of one. said: is told which part of all work is done.
    """
    if not 1 <= many <= MOST_OPTIONS or not 0 < cores <= MOST_PROCESSES or not stages:
        raise InvalidInputError("queue", f"{many} options, {cores} cores, {len(stages)} stages", "some of each")
    work = many * sum(stage.seconds_each for stage in stages if stage.computes)
    step = max([many / stage.rate for stage in stages] + [work / cores]) / STEPS
    queues, last, busy = [float(many)] + [0.0] * len(stages), [0.0] * len(stages), [0.0] * len(stages)
    now, ended = 0.0, 1e-6 * many
    for _ in range(MOST_STEPS):
        if queues[-1] >= many - ended:
            break
        now += step
        wanted = [min(queues[place], stage.rate * step) for place, stage in enumerate(stages)]
        needed = sum(one * stage.seconds_each for one, stage in zip(wanted, stages, strict=True) if stage.computes)
        slow = min(1.0, cores * step / needed) if needed else 1.0
        for place, stage in enumerate(stages):
            done = wanted[place] * (slow if stage.computes else 1.0)
            queues[place] -= done
            queues[place + 1] += done
            busy[place] += done * stage.seconds_each
            last[place] = now if done > ended / STEPS else last[place]
        said(queues[-1] / many)
    used = [one / (stage.processes * max(at, step)) for one, stage, at in zip(busy, stages, last, strict=True)]
    passed = tuple(
        Passed(name=stage.name, rate=stage.rate, last_s=at, utilisation=min(1.0, part))
        for stage, at, part in zip(stages, last, used, strict=True)
    )  # fmt: skip
    computing = max([at for at, stage in zip(last, stages, strict=True) if stage.computes], default=now)
    of_cores = min(1.0, work / (cores * max(computing, step)))
    slowest = min(stages, key=lambda stage: stage.rate)
    narrow = cores * many / work if work else float("inf")
    bottleneck = "cores" if narrow < slowest.rate else slowest.name
    return Drained(stages=passed, bottleneck=bottleneck, cores_utilisation=of_cores, seconds=now)


# ---- a measured run


def stages_of(run: Mapping[str, Any], *, processes: int | None = None) -> tuple[Stage, ...]:
    """Return the stages of a run of ``tests.benchmarks.friday``: the processor time that each settlement took.

    processes: other than it had. Raises InvalidInputError where it is no such run.
    """
    try:
        done, spent = int(run["proven"]), {str(name): float(one) for name, one in run["cpu_s"].items()}
        settle = spent.pop(SETTLE) / done
        others = sum(spent.values()) / done
        many = int(run["settle_processes"]) if processes is None else processes
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as e:
        raise InvalidInputError("measured run", type(e).__name__, "what tests.benchmarks.friday prints") from e
    return (
        Stage(name="queue and relay", processes=1, seconds_each=max(others, 1e-6)),
        Stage(name="run and prove", processes=many, seconds_each=settle),
    )


def free_cores(run: Mapping[str, Any]) -> float:
    """Return the cores that nobody else's work took while a run went on. Raises InvalidInputError as ``stages_of``."""
    try:
        had, busy, seconds = (float(run[name]) for name in ("machine_had_s", "machine_busy_s", "due_to_proven_s"))
        return max(0.01, (had - busy + sum(float(one) for one in run["cpu_s"].values())) / seconds)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as e:
        raise InvalidInputError("measured run", type(e).__name__, "what tests.benchmarks.friday prints") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The model beside a measured run."""

    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """How far the model is off, as a part of what was measured: below 0 it says less."""
        return self.predicted_s / self.measured_s - 1.0


def compare(fed: Mapping[str, Any], against: Mapping[str, Any]) -> Compared:
    """Predict one measured run by the times of another, with the cores that were free in the one that is predicted."""
    stages = stages_of(fed, processes=int(against["settle_processes"]))
    found = drain(stages, int(against["proven"]), cores=free_cores(against))
    return Compared(predicted_s=found.seconds, measured_s=float(against["due_to_proven_s"]))
