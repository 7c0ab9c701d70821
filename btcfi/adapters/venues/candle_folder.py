"""A folder of recorded candles, ``EXCHANGE-BASE-QUOTE.csv``: what a replay runs on, and which venues it registers.

Columns ``open_time_unix,open,high,low,close,volume``, one closed minute a row, times ascending, prices in the quote
currency, volume in the base currency. Numbers stay the text of the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from btcfi.adapters.files import open_untrusted
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.oracle.quote import DOLLAR, MalformedVenueError, VenueId, parse_venue, price_of, rate_of, volume_of
from btcfi.oracle.venues import EXCHANGES
from btcfi.oracle.venues.recorded import Candle
from btcfi.units import SECONDS_PER_MINUTE, Minutes, Sats, Slot, slot

MAX_FILE_BYTES: Final = 1 << 30
"""Of one venue's candles: twenty years of minutes, 80 bytes each."""

COLUMNS: Final = ("open_time_unix", "open", "high", "low", "close", "volume")


class BrokenCandleFileError(InvalidInputError):
    """One field of one row of a replay folder is wrong."""

    def __init__(self, *, file: str, line: int, field: str, problem: str, expected: str) -> None:
        super().__init__(f"{file} line {line}, {field}", problem, expected)
        self.file, self.line, self.column = file, line, field


class ReplayWindowError(InvalidInputError):
    """The asked minutes are not inside the recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayVenues:
    """Which venues a replay registers, and which markets convert stablecoins."""

    registered: tuple[VenueId, ...]
    legs: tuple[VenueId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleFolder:
    """Every candle of a folder, checked."""

    candles: Mapping[VenueId, Mapping[Slot, Candle]]

    @property
    def first(self) -> Slot:
        """The earliest minute of any venue."""
        return min(min(rows) for rows in self.candles.values())

    @property
    def last(self) -> Slot:
        """The latest minute of any venue."""
        return max(max(rows) for rows in self.candles.values())

    def slots(self, start: Slot | None, minutes: Minutes | None) -> list[Slot]:
        """Return the minutes of a replay: from ``start`` (or the beginning) on, ``minutes`` long (or to the end).

        Raises ReplayWindowError when they are not all inside the recording.
        """
        begin = self.first if start is None else start
        end = self.last + SECONDS_PER_MINUTE if minutes is None else begin + minutes * SECONDS_PER_MINUTE
        if not self.first <= begin < end <= self.last + SECONDS_PER_MINUTE:
            raise ReplayWindowError(
                "replay window",
                f"{begin} to {end} (unix seconds)",
                f"minutes between {self.first} and {self.last + SECONDS_PER_MINUTE}",
            )
        return [slot(s) for s in range(begin, end, SECONDS_PER_MINUTE)]


def read_candle_folder(folder: Path) -> CandleFolder:
    """Return the candles of every ``EXCHANGE-BASE-QUOTE.csv`` in ``folder``.

    Raises NotFoundError when there is none, BrokenCandleFileError with file, line and field for a wrong row.
    """
    files = sorted(folder.glob("*.csv")) if folder.is_dir() else []
    if not files:
        raise NotFoundError("candle folder", str(folder), "a folder of EXCHANGE-BASE-QUOTE.csv files")
    return CandleFolder(candles={_venue_of(file): _read(file, _venue_of(file)) for file in files})


def venues_for_replay(folder: CandleFolder, start: Slot | None, minutes: Minutes | None) -> ReplayVenues:
    """Return which venues of ``folder`` count as sources in these minutes.

    Every dollar market, and of each stablecoin the market that traded most in the window: all markets of one coin are
    one opinion, since they share what a coin is worth, and must not count as several towards the quorum. Every market
    of a coin in dollars is a leg. Raises ReplayWindowError.
    """
    window = folder.slots(start, minutes)
    legs = tuple(sorted(v for v in folder.candles if v.is_leg and v.quote == DOLLAR))
    bitcoin = [v for v in folder.candles if not v.is_leg]
    registered = [v for v in bitcoin if v.quote == DOLLAR]
    for coin in {v.quote for v in bitcoin} - {DOLLAR}:
        markets = sorted(v for v in bitcoin if v.quote == coin)
        registered.append(max(markets, key=lambda v: _traded(folder.candles[v], window)))
    return ReplayVenues(registered=tuple(sorted(registered)), legs=legs)


def _traded(rows: Mapping[Slot, Candle], window: list[Slot]) -> Sats:
    return Sats(sum(volume_of("volume", rows[s].volume) for s in window if s in rows))


def _venue_of(file: Path) -> VenueId:
    exchange, *market = file.stem.split("-")
    if len(market) == len(("BASE", "QUOTE")) and exchange in EXCHANGES:
        with suppress(MalformedVenueError):
            return parse_venue(f"{exchange}:{market[0]}/{market[1]}")
    raise BrokenCandleFileError(
        file=file.name,
        line=0,
        field="file name",
        problem=repr(file.stem),
        expected=f"EXCHANGE-BASE-QUOTE with EXCHANGE one of {', '.join(sorted(EXCHANGES))}",
    )


def _read(file: Path, venue: VenueId) -> dict[Slot, Candle]:
    rows: dict[Slot, Candle] = {}
    newest = -1
    for line, cells in _lines(file):
        candle = _candle(file, line, cells, venue)
        if candle.slot <= newest:
            raise _broken(file, line, "open_time_unix", f"{candle.slot} after {newest}", "ascending times")
        newest = candle.slot
        rows[candle.slot] = candle
    if not rows:
        raise _broken(file, 2, "row", "no candles", "at least one row")
    return rows


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with open_untrusted(file, at_most=MAX_FILE_BYTES, what="file of candles") as opened:
            # as open(newline="") would: csv looks at line ends itself
            reader = csv.reader(TextIOWrapper(opened, encoding="utf-8", newline=""), strict=True)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise _broken(file, 1, "header", ",".join(header)[:80], ",".join(COLUMNS))
            for cells in reader:
                yield reader.line_num, cells
    except (csv.Error, UnicodeDecodeError) as e:
        raise _broken(file, 1, "file", str(e), "UTF-8 text of comma-separated values") from e


def _candle(file: Path, line: int, cells: list[str], venue: VenueId) -> Candle:
    if len(cells) != len(COLUMNS):
        raise _broken(file, line, "row", f"{len(cells)} fields", f"{len(COLUMNS)} fields: {','.join(COLUMNS)}")
    if not (cells[0].isascii() and cells[0].isdigit()):
        raise _broken(file, line, "open_time_unix", repr(cells[0][:40]), "unix seconds, a multiple of 60")
    field = "open_time_unix"
    try:
        opened = slot(int(cells[0]))
        number = rate_of if venue.is_leg else price_of
        values = []
        for field, text in zip(COLUMNS[1:5], cells[1:5], strict=True):
            values.append(number(field, text))
        field = "volume"
        volume_of(field, cells[5]) if not venue.is_leg else None
    except (BtcfiError, ValueError) as e:
        problem = getattr(e, "problem", str(e))
        raise _broken(file, line, field, problem, getattr(e, "expected", "a number")) from e
    first, high, low, close = values
    if not low <= min(first, close) <= max(first, close) <= high:
        raise _broken(file, line, "high", "not the highest, or low not the lowest", "low <= open, close <= high")
    return Candle(slot=opened, open=cells[1], high=cells[2], low=cells[3], close=cells[4], volume=cells[5])


def _broken(file: Path, line: int, field: str, problem: str, expected: str) -> BrokenCandleFileError:
    return BrokenCandleFileError(file=file.name, line=line, field=field, problem=problem, expected=expected)
