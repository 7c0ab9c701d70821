"""The clock of a market that is played: one minute after another is sent as beat would, in a process of its own.

What plays is a part like the others: it may meet a broker that is away or a database whose disk is full, ends, and is
started again where the store stands. The process that supervises all parts does no work, so nothing of that ends it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from btcfi.adapters.files import write_private
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.venues.candle_folder import read_candle_folder
from btcfi.oracle.venues.synthetic import FIRST_SLOT
from btcfi.units import SECONDS_PER_MINUTE, Slot
from settings.deployment import load_deployment
from tasks.context import Context, make_context
from workers.deployed import ticker

IDLE_SECONDS: Final = 60.0
"""Between two looks at nothing, once the recording is over."""

OVER_FILE: Final = "market.over"
"""In the data folder once the last recorded minute was sent: `btcfi up` says so."""


def newest(here: Context) -> Slot | None:
    """Return the newest minute that has a price. Raises StoreUnreachableError."""
    with here.store.reading() as session:
        last = rounds.latest_priced(session, here.feed)
    return None if last is None else Slot(last.slot)


def following(at: Slot | None) -> Iterator[Slot]:
    """Yield the minutes of a market without an end: after the newest one, or from where a new deployment begins."""
    slot = FIRST_SLOT if at is None else Slot(at + SECONDS_PER_MINUTE)
    while True:
        yield slot
        slot = Slot(slot + SECONDS_PER_MINUTE)


def play(
    slots: Iterable[Slot], tick: Callable[[int], None], *, pace: float, sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> None:  # fmt: skip
    """Send each minute's tick, ``pace`` seconds after the one before. Raises what the broker does.

    None that is not over by the wall clock: once it is there, a market goes on in real time.
    """
    for slot in slots:
        sleep(max(slot + SECONDS_PER_MINUTE - now(), 0.0))
        tick(slot)
        sleep(pace)


def main(argv: list[str] | None = None) -> None:
    """Play a recording until it is over, then stay: a part that ends is started again; or the market without an end."""
    parser = argparse.ArgumentParser(prog="python -m workers.market_process", description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="of a recording; without it the simulated market is played")
    parser.add_argument("--pace", type=float, required=True, help="seconds that a minute takes")
    arguments = parser.parse_args(argv)
    deployment = load_deployment()
    here = make_context(deployment)
    over = deployment.data_dir / OVER_FILE
    over.unlink(missing_ok=True)
    at = newest(here)
    here.store.close()
    if arguments.folder is None:
        play(following(at), ticker(here), pace=arguments.pace)
    recorded = read_candle_folder(arguments.folder).slots(None, None)
    play([slot for slot in recorded if at is None or slot > at], ticker(here), pace=arguments.pace)
    write_private(over, b"")
    while True:
        time.sleep(IDLE_SECONDS)


if __name__ == "__main__":
    main()
