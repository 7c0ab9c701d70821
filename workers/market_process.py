"""The replayed market's clock: one recorded minute after another is sent as beat would, in a process of its own.

What plays is a part like the others: it may meet a broker that is away or a database whose disk is full, ends, and is
started again where the store stands. The process that supervises all parts does no work, so nothing of that ends it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from btcfi.adapters.files import write_private
from btcfi.adapters.store.prices import rounds
from btcfi.adapters.venues.candle_folder import read_candle_folder
from btcfi.units import Slot
from settings.deployment import load_deployment
from tasks.context import Context, make_context
from workers.deployed import ticker

IDLE_SECONDS: Final = 60.0
"""Between two looks at nothing, once the recording is over."""

OVER_FILE: Final = "market.over"
"""In the data folder once the last recorded minute was sent: `btcfi up` says so."""


def left_to_play(here: Context, slots: list[Slot]) -> list[Slot]:
    """Return the recorded minutes behind the newest that has a price. Raises StoreUnreachableError."""
    with here.store.reading() as session:
        last = rounds.latest_priced(session, here.feed)
    return [slot for slot in slots if last is None or slot > last.slot]


def play(
    slots: list[Slot], tick: Callable[[int], None], *, pace: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Send each minute's tick, ``pace`` seconds after the one before. Raises what the broker does."""
    for slot in slots:
        tick(slot)
        sleep(pace)


def main(argv: list[str] | None = None) -> None:
    """Play a recording until it is over, then stay: a part that ends is started again."""
    parser = argparse.ArgumentParser(prog="python -m workers.market_process", description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="the recording")
    parser.add_argument("--pace", type=float, required=True, help="seconds that a recorded minute takes")
    arguments = parser.parse_args(argv)
    deployment = load_deployment()
    here = make_context(deployment)
    over = deployment.data_dir / OVER_FILE
    over.unlink(missing_ok=True)
    slots = left_to_play(here, read_candle_folder(arguments.folder).slots(None, None))
    here.store.close()
    play(slots, ticker(here), pace=arguments.pace)
    write_private(over, b"")
    while True:
        time.sleep(IDLE_SECONDS)


if __name__ == "__main__":
    main()
