from __future__ import annotations

from pathlib import Path

import pytest

from btcfi.adapters.venues.candle_folder import (
    BrokenCandleFileError,
    ReplayWindowError,
    read_candle_folder,
    venues_for_replay,
)
from btcfi.adapters.venues.price_study import study_folder
from btcfi.adapters.venues.recorder import BrokenRecordingError, read_recording, record, store_response
from btcfi.adapters.venues.replay_server import Replay, candle_target, load
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.adapters.venues.synthetic_candles.generate import candle_files
from btcfi.errors import NotFoundError
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule
from btcfi.oracle.quote import parse_venue
from btcfi.units import Minutes, Slot, UnixSeconds
from settings.deployment import Deployment
from tests.support.oracle_support import KRAKEN, SLOT, missing, quote

HEADER = "open_time_unix,open,high,low,close,volume"
GOOD = f"{SLOT},60000.00,60010.00,59990.00,60005.00,1.5"


def write(folder: Path, name: str, *rows: str) -> Path:
    (folder / name).write_text("\n".join((HEADER, *rows)) + "\n")
    return folder


def minutes(count: int, volume: str = "1.5") -> list[str]:
    return [f"{SLOT + 60 * i},60000.00,60010.00,59990.00,60005.00,{volume}" for i in range(count)]


def test_the_synthetic_candles_are_what_their_script_makes() -> None:
    for name, text in candle_files().items():
        assert (SYNTHETIC_CANDLES / name).read_text() == text


def test_the_synthetic_candles_register_what_the_deployment_does_by_default() -> None:
    venues = venues_for_replay(read_candle_folder(SYNTHETIC_CANDLES), None, None)
    assert {str(v) for v in venues.registered} == set(Deployment.model_fields["venues"].default)
    assert sum(v.quote == "USD" for v in venues.registered) == 5
    assert {str(v) for v in venues.legs} < set(Deployment.model_fields["legs"].default)


def test_no_synthetic_minute_is_void_or_thin() -> None:
    study = study_folder(SYNTHETIC_CANDLES, rule=ConsensusRule())
    assert [m.outcome.slot for m in study.minutes if not isinstance(m.outcome, AgreedPrice) or m.outcome.thin] == []


@pytest.mark.parametrize(
    ("row", "line", "column"),
    [
        (f"{SLOT},60000.00,60010.00,59990.00,sixty,1.5", 3, "close"),
        (f"{SLOT + 60},60000.00,60010.00,59990.00,60005.00", 3, "row"),
        (f"{SLOT + 60},NaN,60010.00,59990.00,60005.00,1.5", 3, "open"),
        (f"{SLOT + 60},60000.00,60010.00,-1,60005.00,1.5", 3, "low"),
        (f"{SLOT + 60},60000.00,59999.00,59990.00,60005.00,1.5", 3, "high"),
        (f"{SLOT + 60},60000.00,60010.00,59990.00,60005.00,1e30", 3, "volume"),
        (f"{SLOT + 61},60000.00,60010.00,59990.00,60005.00,1.5", 3, "open_time_unix"),
        (f"{SLOT},60000.00,60010.00,59990.00,60005.00,1.5", 3, "open_time_unix"),
        ("yesterday,60000.00,60010.00,59990.00,60005.00,1.5", 3, "open_time_unix"),
    ],
)
def test_a_broken_row_names_file_line_and_field(tmp_path: Path, row: str, line: int, column: str) -> None:
    write(tmp_path, "kraken-BTC-USD.csv", GOOD, row)
    with pytest.raises(BrokenCandleFileError) as caught:
        read_candle_folder(tmp_path)
    assert (caught.value.file, caught.value.line, caught.value.column) == ("kraken-BTC-USD.csv", line, column)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["kraken.csv", "mtgox-BTC-USD.csv", "kraken-btc-usd.csv", "kraken-BTC-USD-X.csv"])
def test_a_file_whose_name_is_no_venue_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BrokenCandleFileError):
        read_candle_folder(write(tmp_path, name, GOOD))


def test_an_empty_folder_a_headless_or_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_candle_folder(tmp_path)
    (tmp_path / "kraken-BTC-USD.csv").write_text(GOOD + "\n")
    with pytest.raises(BrokenCandleFileError):
        read_candle_folder(tmp_path)
    with pytest.raises(BrokenCandleFileError):
        read_candle_folder(write(tmp_path, "kraken-BTC-USD.csv"))


def test_of_a_stablecoin_only_the_market_that_traded_most_in_the_window_counts(tmp_path: Path) -> None:
    write(tmp_path, "kraken-BTC-USD.csv", *minutes(4))
    write(tmp_path, "kraken-BTC-USDC.csv", *minutes(2, "9.0"), *minutes(4, "0.1")[2:])
    write(tmp_path, "binanceus-BTC-USDC.csv", *minutes(4, "1.0"))
    folder = read_candle_folder(tmp_path)
    early = venues_for_replay(folder, SLOT, Minutes(2))
    late = venues_for_replay(folder, Slot(SLOT + 120), Minutes(2))
    assert parse_venue("kraken:BTC/USDC") in early.registered
    assert parse_venue("binanceus:BTC/USDC") in late.registered
    assert len(early.registered) == len(late.registered) == 2
    write(tmp_path, "kraken-USDC-USD.csv", f"{SLOT},1.0,1.0,1.0,1.0,5")
    with_leg = venues_for_replay(read_candle_folder(tmp_path), SLOT, Minutes(2))
    assert with_leg.registered == early.registered
    assert with_leg.legs == (parse_venue("kraken:USDC/USD"),)


def test_a_window_outside_the_recording_is_refused(tmp_path: Path) -> None:
    folder = read_candle_folder(write(tmp_path, "kraken-BTC-USD.csv", *minutes(4)))
    assert folder.slots(None, None) == [SLOT, SLOT + 60, SLOT + 120, SLOT + 180]
    for start, length in ((Slot(SLOT - 60), None), (SLOT, Minutes(5)), (Slot(SLOT + 240), None)):
        with pytest.raises(ReplayWindowError):
            folder.slots(start, length)


class Scripted:
    venue = KRAKEN

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def fetch(self, slot, now):
        self.asked.append((slot, now))
        return (
            (quote(KRAKEN, 60_000_00, slot=slot), b'{"n":%d}' % slot)
            if len(self.asked) != 2
            else (missing(KRAKEN), b"")
        )


def test_a_recording_asks_each_closed_minute_once_and_is_replayed_byte_for_byte(tmp_path: Path) -> None:
    now = [float(SLOT + 10)]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    client = Scripted()
    done = record(tmp_path, [client], Minutes(3), clock=lambda: UnixSeconds(int(now[0])), sleep=sleep)
    assert done == (2, 1)
    assert [slot for slot, _ in client.asked] == [SLOT, SLOT + 60, SLOT + 120]
    assert all(at >= slot + 62 for slot, at in client.asked)
    replay = load(tmp_path)
    assert replay.answer(candle_target(KRAKEN, SLOT)) == (200, b'{"n":%d}' % SLOT)


def test_a_recording_whose_bytes_were_changed_is_refused(tmp_path: Path) -> None:
    store_response(tmp_path, quote(KRAKEN, 60_000_00), b"{}")
    (file,) = (tmp_path / "responses").iterdir()
    file.write_bytes(b"{ }")
    recording = read_recording(tmp_path)
    with pytest.raises(BrokenRecordingError):
        recording.response(KRAKEN, SLOT)
    (tmp_path / "index.jsonl").write_text("{}\n")
    with pytest.raises(BrokenRecordingError, match="line 1"):
        read_recording(tmp_path)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404), ("/mtgox/x", 404), ("/binance/api/v3/klines?symbol=NOPE&startTime=0", 400),
        ("/binance/api/v3/klines?symbol=BTCUSDT&startTime=x", 400), ("/binance/sapi/v1/x", 404),
        ("/coinbaseexchange/products/BTC-EUR/candles", 404),
        ("/coinbaseexchange/products/BTC-USD/candles?start=x", 400),
        ("/kraken/0/public/OHLC?pair=NOPE", 200), ("/kraken/0/public/Depth", 200), ("/binance/api/v3/time", 200),
        ("/coinbaseexchange/time", 200), ("/kraken/0/public/Time", 200), ("/kraken/0/public/Ticker?pair=XXBTZUSD", 200),
        ("/binance/api/v3/ticker/24hr?symbol=BTCUSDT", 200), ("/coinbaseexchange/products/BTC-USD/ticker", 200),
        ("//", 404), ("/kraken", 200),
    ],
)  # fmt: skip
def test_the_replay_answers_every_request_with_a_status_and_json(target: str, status: int) -> None:
    replay = Replay(read_candle_folder(SYNTHETIC_CANDLES).candles)
    code, body = replay.answer(target)
    assert code == status
    assert body[:1] in b"{["
