"""A market of owners in processes of their own over HTTP on loopback: how soon a take is checked, and a long trade.

``take.p95_s`` is of the whole way at one desk: the take is POSTed, both sides' processes sign, the service checks.
``python -m tests.benchmarks.market --makers 3 --takers 20 --options 500`` trades that many and asks all that must hold:
nothing lost, nothing doubled, nothing overheard, no process in another owner's folder. It ends with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from btcfi.adapters.store.market.tables import TakeState
from tests.benchmarks import Row
from tests.support.crowd import Market, Used, market, p95
from workers.machine.trading import Crowd

TAKES = 100
"""At least, of which the bench takes its figure."""
TAKE_SECONDS = 3.0
LIMIT_SECONDS = 600.0


def rows() -> list[Row]:
    """Return ``take.p95_s``, with two makers and three takers at their usual pace."""
    with TemporaryDirectory(prefix="btcfi-bench-") as folder:
        said = trade(Path(folder, "up"), Crowd(takes_per_minute=12.0, taker_coins=20), options=TAKES)
    value = said["take_p95_s"]
    return [
        Row(
            name="take.p95_s", value=value, against=f"target {TAKE_SECONDS:g} s", ratio=TAKE_SECONDS / value,
            unit=f"s, POST of a take to both pre-signatures checked, over HTTP; {said['checked']} takes, "
            f"{said['takes_per_s']:.2f}/s, median {said['take_median_s']:.2f}",
        )
    ]  # fmt: skip


def trade(
    folder: Path, size: Crowd, *, options: int, seconds: float = LIMIT_SECONDS, pace: float = 5.0, settled: int = 0
) -> dict[str, Any]:
    """Trade until so many takes are funded, end the trading, and return what was measured and what was broken.

    settled: options whose settlement is waited for, as long again at most.
    """
    started = time.monotonic()
    with market(folder, size, pace=pace) as running:
        before, began = running.used(), time.monotonic()
        print(f"{len(running.owners)} owners after {began - started:.0f} s", file=sys.stderr, flush=True)
        running.wait_funded(options, seconds)
        spent, states, worked = time.monotonic() - began, running.states(), running.used()
        print(f"{dict(states)} after {spent:.0f} s more", file=sys.stderr, flush=True)
        trespasses = running.trespasses()  # as they work
        pending = running.end_trading()
        running.wait_for(lambda: running.settled() >= settled, seconds)
        return _figures(running, spent, states[TakeState.FUNDED], before, worked) | {
            "pending": len(pending), "overheard": running.overheard(), "trespasses": trespasses,
            "broken": running.broken(), "miscounted": running.miscounted(),
        }  # fmt: skip


def _figures(
    running: Market, seconds: float, funded: int, before: Mapping[str, Used], worked: Mapping[str, Used]
) -> dict[str, Any]:
    waits, takes = running.seconds_to_check(), running.takes()
    cpu: dict[str, float] = {}
    for name, used in worked.items():
        spent = used.cpu_s - (before[name].cpu_s if name in before else 0.0)
        cpu[_kind(name)] = cpu.get(_kind(name), 0.0) + max(spent, 0.0)
    memory: dict[str, float] = {}
    for name, used in worked.items():
        memory[_kind(name)] = memory.get(_kind(name), 0.0) + used.pss_mb
    states = running.states()
    faults = [f"{one.fault}: {one.problem}" for one in takes if one.state == TakeState.FAILED]
    return {
        "owners": len(running.owners), "owner_processes": len(running.processes()), "seconds": round(seconds, 1),
        "takes": len(takes), "checked": len(waits), "funded": states[TakeState.FUNDED],
        "failed": states[TakeState.FAILED], "settled": running.settled(), "takes_per_s": round(funded / seconds, 3),
        "take_p95_s": round(p95(waits), 3), "take_median_s": round(statistics.median(waits), 3),
        "cpu_ms_per_take": {name: round(1e3 * spent / max(funded, 1)) for name, spent in sorted(cpu.items())},
        "pss_mb": {name: round(mb) for name, mb in sorted(memory.items())},
        "pss_mb_all": round(sum(memory.values())),
        "largest_owner_pss_mb": round(max(used.pss_mb for name, used in worked.items() if _is_owner(name))),
        "faults": faults[:20],
    }  # fmt: skip


def _is_owner(name: str) -> bool:
    return name.startswith(("maker-", "taker-"))


def _kind(name: str) -> str:
    if not _is_owner(name):
        return name
    kind = name.partition("-")[0]
    return f"{kind}s' quotes" if name.endswith("-quotes") else f"{kind}s"


def is_sound(said: Mapping[str, Any]) -> bool:
    """Return whether nothing was lost, doubled, overheard or left open."""
    return not any(said[name] for name in ("pending", "overheard", "trespasses", "broken", "miscounted"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Trade as asked, and print one JSON object."""
    parser = argparse.ArgumentParser(description="A market of simulated owners: what it does, and what must hold.")
    parser.add_argument("--makers", type=int, default=3)
    parser.add_argument("--takers", type=int, default=20)
    parser.add_argument("--options", type=int, default=500)
    parser.add_argument("--per-minute", type=float, default=4.0, help="takes of each taker")
    parser.add_argument("--settled", type=int, default=20, help="options whose settlement is waited for")
    parser.add_argument("--seconds", type=float, default=LIMIT_SECONDS)
    parser.add_argument("--pace", type=float, default=5.0)
    given = parser.parse_args(arguments)
    size = Crowd(
        makers=given.makers, takers=given.takers, maker_coins=40, taker_coins=12, takes_per_minute=given.per_minute
    )  # fmt: skip
    with TemporaryDirectory(prefix="btcfi-crowd-") as folder:
        said = trade(
            Path(folder, "up"), size, options=given.options, seconds=given.seconds, pace=given.pace,
            settled=given.settled,
        )  # fmt: skip
    print(json.dumps(said, indent=1))
    return int(not is_sound(said) or said["funded"] < given.options or said["settled"] < given.settled)


if __name__ == "__main__":
    sys.exit(main())
