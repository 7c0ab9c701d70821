"""Weekly swaps in the store: how soon the books of a week are settled. Machine: this one.

``swaps.settle_2000_s`` is from the message that starts a week's settlements to the last book's commit and the week's
close, by one process on SQLite: forty books of fifty takers each, a transaction a book.
"""

from __future__ import annotations

import shutil
import time
from datetime import date
from datetime import time as at
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from btcfi.adapters.store.swaps.tables import SwapWeekRow, WeekState
from tests.benchmarks import Row, row_of
from tests.support.stores import store_on_sqlite
from tests.support.swap_world import SwapWorld, business_days

BOOKS, TAKERS = 40, 50
REPEATS = 5
SECONDS = 2.0
FIRST, LAST = date(2024, 11, 13), date(2024, 11, 20)


def rows() -> list[Row]:
    """Return ``swaps.settle_2000_s``, in about a minute: most of it is taking."""
    with TemporaryDirectory(prefix="btcfi-bench-") as folder, pytest.MonkeyPatch.context() as patch:
        with store_on_sqlite(folder) as store:
            world = SwapWorld(store, patch)
            _until_the_settlement(world)
        times = [_settled(Path(folder), world.time, number) for number in range(REPEATS)]
    unit = f"s, {BOOKS * TAKERS:,} subcontracts in {BOOKS} books, one process, SQLite"
    return [row_of("swaps.settle_2000_s", times, unit=unit, against=f"target {SECONDS:g} s", at_most=SECONDS)]


def _until_the_settlement(world: SwapWorld) -> None:
    world.at(FIRST, at(12, 0))
    world.list()
    world.price(FIRST, 90_000)
    world.at(FIRST, at(16, 15))
    world.tick()
    for book in range(BOOKS):
        world.create(f"p{book}", TAKERS + 10)
        for taker in range(TAKERS):
            world.take(f"p{book}", f"t{book}-{taker}", "long" if taker % 2 else "short", 1)
    for day in business_days(FIRST, LAST)[1:]:
        world.price(day, 91_000)
        for hour, minute in ((15, 46), (16, 15)):
            world.at(day, at(hour, minute))
            world.tick()
    world.at(LAST, at(16, 46))
    world.tick()
    world.at(LAST, at(21, 30))
    world.tick()


def _settled(folder: Path, now: int, number: int) -> float:
    copy = folder / f"{number}"
    copy.mkdir()
    shutil.copyfile(folder / "store.db", copy / "store.db")
    with store_on_sqlite(copy) as store, pytest.MonkeyPatch.context() as patch:
        world = SwapWorld(store, patch)
        world.time = now
        started = time.perf_counter()
        done = world.deliver()
        taken = time.perf_counter() - started
        week = world.row(SwapWeekRow, "BTCUSD/1")
        if done != BOOKS or week.state != WeekState.SETTLED:
            raise AssertionError(f"{done} of {BOOKS} books were settled")
    return taken
