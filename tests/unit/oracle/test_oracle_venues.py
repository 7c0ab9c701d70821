from __future__ import annotations

import json

import pytest

from btcfi.errors import NotFoundError
from btcfi.hashes import sha256
from btcfi.oracle.quote import LegQuote, MissingReason, Quote, parse_venue
from btcfi.oracle.venues import EXCHANGES, exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.units import Slot, UnixSeconds

SLOT = Slot(1_700_000_040)
ROWS = {
    "binance": lambda t, c="60000.50", v="1.5": [
        t * 1000,
        "60000.00",
        "60010.00",
        "59990.00",
        c,
        v,
        0,
        "0",
        1,
        "0",
        "0",
        "0",
    ],
    "coinbaseexchange": lambda t, c="60000.50", v="1.5": [t, 59990.00, 60010.00, 60000.00, float(c), float(v)],
    "kraken": lambda t, c="60000.50", v="1.5": [t, "60000.00", "60010.00", "59990.00", c, "60000.1", v, 9],
    "bitstamp": lambda t, c="60000.50", v="1.5": {
        "timestamp": str(t), "open": "60000.00", "high": "60010.00", "low": "59990.00", "close": c, "volume": v,
    },
    "gemini": lambda t, c="60000.50", v="1.5": [t * 1000, 60000.00, 60010.00, 59990.00, float(c), float(v)],
    "bitfinex": lambda t, c="60000.50", v="1.5": [t * 1000, 60000, float(c), 60010, 59990, float(v)],
    "okx": lambda t, c="60000.50", v="1.5": [
        str(t * 1000), "60000.00", "60010.00", "59990.00", c, v, "9", "9", "1" if t <= SLOT else "0",
    ],
}  # fmt: skip
MARKET = {
    "binance": "BTC/USDT",
    "bitfinex": "BTC/USD",
    "bitstamp": "BTC/USD",
    "coinbaseexchange": "BTC/USD",
    "gemini": "BTC/USD",
    "kraken": "BTC/USD",
    "okx": "BTC/USD",
}
ENVELOPES = {
    "bitstamp": lambda rows: {"data": {"pair": "BTC/USD", "ohlc": rows}},
    "okx": lambda rows: {"code": "0", "msg": "", "data": rows},
    "kraken": lambda rows: {"error": [], "result": {"XXBTZUSD": rows, "last": 1}},
}
"""What the rows lie in; nothing where the response is the list itself."""


def document(exchange: str, rows: list) -> bytes:
    return json.dumps(ENVELOPES[exchange](rows) if exchange in ENVELOPES else rows).encode()


def cut(row):
    """Return the first three columns."""
    return dict(list(row.items())[:3]) if isinstance(row, dict) else row[:3]


def read(exchange: str, raw: bytes, *, now: int = SLOT + 62, market: str | None = None):
    venue = parse_venue(f"{exchange}:{market or MARKET[exchange]}")
    return read_response(exchange_of(exchange), raw, venue=venue, slot=SLOT, now=UnixSeconds(now), evidence=sha256(raw))


@pytest.mark.parametrize("exchange", ROWS)
def test_the_closed_candle_of_the_minute_is_read_whatever_the_order_of_columns_and_rows(exchange: str) -> None:
    row = ROWS[exchange]
    for rows in ([row(SLOT), row(SLOT + 60, "61000.00")], [row(SLOT + 60, "61000.00"), row(SLOT)]):
        seen = read(exchange, document(exchange, rows))
        assert isinstance(seen, Quote)
        assert (seen.open, seen.high, seen.low, seen.close) == (60_000_00, 60_010_00, 59_990_00, 60_000_50)
        assert seen.volume == 150_000_000


@pytest.mark.parametrize("exchange", ROWS)
@pytest.mark.parametrize(
    ("rows", "now", "reason"),
    [
        (lambda r: [r(SLOT)], SLOT + 59, MissingReason.NOT_CLOSED),
        (lambda r: [r(SLOT)], SLOT - 600, MissingReason.NOT_CLOSED),
        (lambda r: [r(SLOT - 60), r(SLOT + 60)], SLOT + 62, MissingReason.NO_CANDLE),
        (lambda r: [], SLOT + 62, MissingReason.NO_CANDLE),
        (lambda r: [r(SLOT, v="0.0")], SLOT + 62, MissingReason.NO_TRADES),
        (lambda r: [r(SLOT, v="1e30")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, v="-1")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, "0")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, "-5")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, "60011")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT), r(SLOT, "60001")], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [cut(r(SLOT))], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: ["row"], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [r(SLOT)] * 3000, SLOT + 62, MissingReason.MALFORMED),
    ],
)
def test_a_response_without_a_sane_closed_candle_is_missing_with_its_reason(exchange, rows, now, reason) -> None:
    assert read(exchange, document(exchange, rows(ROWS[exchange])), now=now).reason is reason


@pytest.mark.parametrize("exchange", ROWS)
@pytest.mark.parametrize(
    "raw", [b"", b"<html>busy</html>", b"null", b"{}", b"7", b'"x"', b'[[1,"2"', b"[NaN]", b"{}{}"]
)
def test_a_response_that_is_not_the_exchanges_candles_is_malformed_never_a_crash(exchange: str, raw: bytes) -> None:
    seen = read(exchange, raw)
    assert seen.reason is MissingReason.MALFORMED
    assert seen.evidence == sha256(raw)


def test_a_response_about_another_pair_is_malformed() -> None:
    raw = document("kraken", [ROWS["kraken"](SLOT)])
    seen = read_response(
        exchange_of("kraken"), raw, venue=parse_venue("kraken:BTC/USDC"), slot=SLOT, now=UnixSeconds(SLOT + 62),
        evidence=sha256(raw),
    )  # fmt: skip
    assert seen.reason is MissingReason.MALFORMED


def test_a_leg_is_read_as_a_rate_and_may_trade_more_coins_than_there_are_bitcoin() -> None:
    row = [SLOT, "0.9996", "0.9997", "0.9995", "0.99957", "0.9996", "250000000.0", 9]
    raw = document("kraken", [row]).replace(b"XXBTZUSD", b"USDTZUSD")
    seen = read("kraken", raw, market="USDT/USD")
    assert isinstance(seen, LegQuote)
    assert seen.rate == 99_957_000


def test_an_unknown_exchange_is_refused_by_name() -> None:
    with pytest.raises(NotFoundError, match="binance"):
        exchange_of("mtgox")
    assert {"binanceus", *ROWS} <= set(EXCHANGES)
