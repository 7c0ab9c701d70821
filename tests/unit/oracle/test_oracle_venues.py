from __future__ import annotations

import json
from contextlib import suppress
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btcfi.errors import NotFoundError
from btcfi.hashes import sha256
from btcfi.oracle.quote import LegQuote, Missing, MissingReason, Quote, parse_venue
from btcfi.oracle.venues import EXCHANGES, exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.oracle.venues.evidence import MalformedEvidenceError, Response, envelope, opened, time_of_header
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


def opening(row, at):
    """Return the row with another opening."""
    return {**row, "timestamp": at} if isinstance(row, dict) else [at, *row[1:]]


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
        (lambda r: [], SLOT + 62, MissingReason.NOT_YET),
        (lambda r: [r(SLOT - 60)], SLOT + 62, MissingReason.NOT_YET),
        (lambda r: [], SLOT + 900, MissingReason.NO_CANDLE),
        (lambda r: [r(SLOT, v="0.0")], SLOT + 62, MissingReason.NO_TRADES),
        (lambda r: [r(SLOT, v="1e30")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, v="-1")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, "0")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, "-5")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT, "60011")], SLOT + 62, MissingReason.OUT_OF_RANGE),
        (lambda r: [r(SLOT), r(SLOT, "60001")], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [cut(r(SLOT))], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [opening(r(SLOT), "")], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [opening(r(SLOT), SLOT + 0.5)], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [opening(r(SLOT), SLOT * 1000.0)], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [opening(r(SLOT), True)], SLOT + 62, MissingReason.MALFORMED),
        (lambda r: [opening(r(SLOT), 10**30)], SLOT + 62, MissingReason.MALFORMED),
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


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["0.9996", "0.9995", "0.9997", "0.9996", "0.9996", "250000.0"], MissingReason.OUT_OF_RANGE),
        (["0.9996", "0.9997", "0.9995", "0.9999", "0.9996", "250000.0"], MissingReason.OUT_OF_RANGE),
        (["0.9996", "0.9997", "0.0500", "0.9996", "0.9996", "250000.0"], MissingReason.OUT_OF_RANGE),
        (["0.9996", "0.9997", "0.9995", "0.9996", "0.9996", "0.0001"], MissingReason.NO_TRADES),
        (["0.9996", "0.9997", "0.9995", "0.9996", "0.9996", "99.99999999"], MissingReason.NO_TRADES),
    ],
    ids=["high below low", "close above high", "low out of range", "a volume of 0.0001", "less than 100 coins"],
)
def test_a_leg_is_a_whole_candle_and_what_nobody_traded_is_no_rate(row, reason) -> None:
    raw = document("kraken", [[SLOT, *row, 9]]).replace(b"XXBTZUSD", b"USDTZUSD")
    seen = read("kraken", raw, market="USDT/USD")
    assert isinstance(seen, Missing)
    assert seen.reason is reason


def test_an_unknown_exchange_is_refused_by_name() -> None:
    with pytest.raises(NotFoundError, match="binance"):
        exchange_of("mtgox")
    assert {"binanceus", *ROWS} <= set(EXCHANGES)


def asked(exchange: str, rows: list, *, date: str | None = None, target: str | None = None, status: int = 200) -> bytes:
    """Return what is kept of a fetch of the minute."""
    known = exchange_of(exchange)
    market = known.market_names(parse_venue(f"{exchange}:{MARKET[exchange]}"))[0]
    sent = known.target(market, SLOT) if target is None else target
    return envelope(Response(target=sent, status=status, date=date, body=document(exchange, rows)))


@pytest.mark.parametrize("exchange", ROWS)
def test_a_candle_counts_as_closed_by_a_later_row_or_by_the_exchanges_own_clock_not_by_ours_alone(exchange) -> None:
    row = ROWS[exchange]
    for rows, at, kind in (
        ([row(SLOT), row(SLOT + 60)], None, Quote),
        ([row(SLOT)], SLOT + 60, Quote),
        ([row(SLOT), row(SLOT + 60)], SLOT + 59, Quote),
        ([row(SLOT)], SLOT + 59, Missing),
        ([row(SLOT)], None, Missing),
    ):
        date = formatdate(at, usegmt=True) if at is not None else None
        seen = read(exchange, asked(exchange, rows, date=date))
        if exchange == "okx":  # says itself which candle has closed
            assert isinstance(seen, Quote)
        else:
            assert isinstance(seen, kind), (rows, at)
            assert isinstance(seen, Quote) or seen.reason is MissingReason.NOT_CLOSED


def test_okx_says_itself_that_a_candle_is_in_progress_and_is_believed_whatever_the_clocks_say() -> None:
    row = [*ROWS["okx"](SLOT)[:-1], "0"]
    date = formatdate(SLOT + 100, usegmt=True)
    assert read("okx", asked("okx", [row], date=date)).reason is MissingReason.NOT_CLOSED


@pytest.mark.parametrize("exchange", ROWS)
def test_evidence_for_another_pair_interval_or_minute_is_malformed_although_its_rows_are_the_same(exchange) -> None:
    rows = [ROWS[exchange](SLOT), ROWS[exchange](SLOT + 60)]
    known = exchange_of(exchange)
    mine = known.market_names(parse_venue(f"{exchange}:{MARKET[exchange]}"))[0]
    other = known.market_names(parse_venue(f"{exchange}:BTC/USDC"))[0]
    right = known.target(mine, SLOT)
    wrong = {known.target(other, SLOT), known.target(mine, Slot(SLOT - 60)) if exchange != "gemini" else "/"}
    wrong |= {right.replace(one, five) for one, five in (("1m", "5m"), ("interval=1&", "interval=5&"))}
    wrong |= {right.replace(one, five) for one, five in (("=60", "=300"),)}
    for target in wrong - {right}:
        assert read(exchange, asked(exchange, rows, target=target)).reason is MissingReason.MALFORMED
    assert isinstance(read(exchange, asked(exchange, rows)), Quote)
    assert read(exchange, asked(exchange, rows, status=500)).reason is MissingReason.MALFORMED


def test_krakens_answer_names_its_pair_and_another_pair_is_refused_also_when_it_is_read_again_later() -> None:
    rows = [ROWS["kraken"](SLOT), ROWS["kraken"](SLOT + 60)]
    for name, kind in (("XXBTZUSD", Quote), ("XBTUSD", Quote), ("XBTUSDC", Missing), ("XXBTZEUR", Missing)):
        raw = json.dumps({"error": [], "result": {name: rows, "last": 1}}).encode()
        assert isinstance(read("kraken", raw), kind)
    two = json.dumps({"error": [], "result": {"XXBTZUSD": rows, "XBTUSDC": rows, "last": 1}}).encode()
    assert read("kraken", two).reason is MissingReason.MALFORMED


def test_bitstamps_answer_names_its_pair() -> None:
    raw = document("bitstamp", [ROWS["bitstamp"](SLOT)]).replace(b"BTC/USD", b"BTC/EUR")
    assert read("bitstamp", raw).reason is MissingReason.MALFORMED


@given(st.text(max_size=60), st.integers(100, 599), st.none() | st.text(max_size=64), st.binary(max_size=80))
def test_an_envelope_gives_back_what_was_put_into_it(target, status, date, body) -> None:
    said = Response(target=target, status=status, date=date, body=body)
    assert opened(envelope(said)) == said


@given(st.binary(max_size=80))
def test_bytes_of_an_earlier_release_are_a_body_and_a_broken_line_is_no_evidence(body) -> None:
    if not body.startswith(b'{"btcfi_evidence":1,'):
        assert opened(body) == Response(target=None, status=200, date=None, body=body)
    with suppress(MalformedEvidenceError):
        found = opened(b'{"btcfi_evidence":1,' + body)
        assert envelope(found) == b'{"btcfi_evidence":1,' + body


@pytest.mark.parametrize("at", [0, 951782399, 1709164800, 1_700_000_102, 4_294_967_295])
def test_the_date_of_an_answer_is_read_as_the_standard_writes_it(at) -> None:
    assert time_of_header(formatdate(at, usegmt=True)) == at


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "Tue, 14 Nov 2023 22:15:02", "Tue, 14 Nov 2023 22:15:02 +0000", "Tue, 31 Feb 2023 22:15:02 GMT",
        "Tue, 14 Nov 2023 24:15:02 GMT", "Tue, 14 Nov 9999 22:15:02 GMT", "Tue, 14 Nov 1969 22:15:02 GMT",
        "Tue, 14 \u0661\u0661\u0661 2023 22:15:02 GMT", "Tue, \u0661\u0664 Nov 2023 22:15:02 GMT",
        "Tue, 14 Nov 2023 22:15:02 GMT\n", "Tuesday, 14-Nov-23 22:15:02 GMT", "Tue Nov 14 22:15:02 2023",
    ],
)  # fmt: skip
def test_any_other_date_says_nothing(text) -> None:
    assert time_of_header(text) is None


@pytest.mark.parametrize("name", sorted(ROWS))
@pytest.mark.parametrize("ahead", [61, 3_600, 86_400, 30 * 86_400])
def test_a_minute_that_by_the_exchange_s_clock_lies_ahead_is_in_progress_and_never_late_or_without_trades(
    name, ahead
) -> None:
    now = SLOT + 62  # by our clock, which is ``ahead`` seconds fast
    said = read(name, asked(name, [], date=formatdate(now - ahead, usegmt=True)), now=now)
    assert said.reason is MissingReason.NOT_CLOSED
