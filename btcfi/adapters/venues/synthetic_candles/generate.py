"""Write the synthetic candles: ``python -m btcfi.adapters.venues.synthetic_candles.generate [FOLDER]``.

Ninety minutes from 2026-01-05T00:00Z: from $60,000 down 6 %, up to 4 % above the start, and back to it, so that calls
and puts end in and out of the money and barriers on both sides are hit. Five dollar markets, as close together as those
of the large exchanges are, and one of a stablecoin with its leg at two exchanges. Whole numbers and one seed: the same
bytes on every machine (a test compares).
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from btcfi.adapters.venues.candle_folder import COLUMNS
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES

SEED: Final = 20260105
FIRST_SLOT: Final = 1_767_571_200
"""2026-01-05T00:00:00Z."""
PATH_CENTS: Final = ((0, 6_000_000), (32, 5_640_000), (45, 5_760_000), (72, 6_240_000), (90, 6_030_000))
"""Minute and price of the corners; straight lines and noise in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Market:
    file: str
    bias_bps: int
    """How far this market stands from the common path, 1/10,000."""
    volume_sats: int
    """Typical volume of a minute."""


MARKETS: Final = (
    _Market(file="binance-BTC-USDT.csv", bias_bps=4, volume_sats=1_800_000_000),
    _Market(file="coinbaseexchange-BTC-USD.csv", bias_bps=1, volume_sats=900_000_000),
    _Market(file="kraken-BTC-USD.csv", bias_bps=-1, volume_sats=400_000_000),
)
LEG_FILES: Final = ("kraken-USDT-USD.csv", "coinbaseexchange-USDT-USD.csv")
MORE_MARKETS: Final = (
    _Market(file="bitstamp-BTC-USD.csv", bias_bps=0, volume_sats=300_000_000),
    _Market(file="binanceus-BTC-USD.csv", bias_bps=1, volume_sats=60_000_000),
    _Market(file="bitfinex-BTC-USD.csv", bias_bps=-1, volume_sats=200_000_000),
)
"""Drawn after the others, whose candles stay what they were before these came."""


def candle_files() -> dict[str, str]:
    """Return the text of every file by name."""
    draw = random.Random(SEED)
    path = [_corner_line(minute) + draw.randint(-4_000, 4_000) for minute in range(91)]
    files = {market.file: _market(market, path, draw) for market in MARKETS}
    files[LEG_FILES[0]] = _leg(draw)
    files |= {market.file: _market(market, path, draw) for market in MORE_MARKETS}
    files[LEG_FILES[1]] = _leg(draw)
    return files


def _corner_line(minute: int) -> int:
    for (m0, p0), (m1, p1) in pairwise(PATH_CENTS):
        if m0 <= minute <= m1:
            return p0 + (p1 - p0) * (minute - m0) // (m1 - m0)
    return PATH_CENTS[-1][1]


def _market(market: _Market, path: list[int], draw: random.Random) -> str:
    closes = [p + p * market.bias_bps // 10_000 + draw.randint(-900, 900) for p in path]
    rows = [",".join(COLUMNS)]
    for minute, (first, close) in enumerate(pairwise(closes)):
        high = max(first, close) + draw.randint(0, 2_500)
        low = min(first, close) - draw.randint(0, 2_500)
        volume = market.volume_sats * draw.randint(40, 220) // 100
        prices = ",".join(f"{cents // 100}.{cents % 100:02d}" for cents in (first, high, low, close))
        rows.append(f"{FIRST_SLOT + 60 * minute},{prices},{volume // 10**8}.{volume % 10**8:08d}")
    return "\n".join(rows) + "\n"


def _leg(draw: random.Random) -> str:
    # in 1e-5 dollars, Kraken's tick: a coin a few hundredths of a percent below its dollar
    closes = [99_960 + draw.randint(-6, 6) for _ in range(91)]
    rows = [",".join(COLUMNS)]
    for minute, (first, close) in enumerate(pairwise(closes)):
        prices = ",".join(f"0.{tick:05d}" for tick in (first, max(first, close) + 1, min(first, close) - 1, close))
        rows.append(f"{FIRST_SLOT + 60 * minute},{prices},{draw.randint(10_000, 400_000)}.00000000")
    return "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files into the folder given, or over the ones of the package."""
    folder = Path(arguments[0]) if arguments else SYNTHETIC_CANDLES
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in candle_files().items():
        (folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
