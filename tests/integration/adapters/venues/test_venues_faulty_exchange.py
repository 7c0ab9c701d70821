"""The real ccxt clients against a local server that misbehaves like exchanges and what stands before them."""

from __future__ import annotations

import datetime as dt
import json
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep, time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from btcfi.adapters.venues.candle_folder import read_candle_folder, venues_for_replay
from btcfi.adapters.venues.replay_server import Replay, ReplayServer, candle_target
from btcfi.adapters.venues.rest import LONGEST_WAIT, MAX_RESPONSE_BYTES, Backoff, VenueClient, venue_client
from btcfi.adapters.venues.synthetic_candles import SYNTHETIC_CANDLES
from btcfi.adapters.venues.synthetic_candles.generate import FIRST_SLOT
from btcfi.hashes import sha256
from btcfi.oracle.consensus import AgreedPrice, ConsensusRule, agreed_price
from btcfi.oracle.quote import LegQuote, Missing, MissingReason, Quote, parse_venue
from btcfi.oracle.venues import exchange_of
from btcfi.oracle.venues.candle import read_response
from btcfi.oracle.venues.recorded import iso8601
from btcfi.units import Minutes, Slot, UnixSeconds
from tests.support.paths import SHARED

pytestmark = pytest.mark.integration

SLOT = Slot(FIRST_SLOT + 600)
NOW = UnixSeconds(SLOT + 62)
VENUES = [parse_venue(t) for t in ("binance:BTC/USDT", "coinbaseexchange:BTC/USD", "kraken:BTC/USD", "kraken:USDT/USD")]
DEPEG = SHARED / "depeg-2023-03"
CANDLES = ("klines", "candles", "OHLC")


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay(read_candle_folder(SYNTHETIC_CANDLES).candles)


@contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Faulty:
    """Answers like the replay server, except that candles get ``fault(handler)``."""

    def __init__(self, replay: Replay, fault, *, first_times: int = 10**9) -> None:
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if any(word in self.path for word in CANDLES):
                    outer.asked += 1
                    if outer.asked <= first_times:
                        fault(self)
                        return
                reply(self, *replay.answer(self.path))

            def log_message(self, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self.server.server_address[1]}"


def reply(handler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def cut_short(handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'[[1,"2"')
    handler.wfile.flush()
    handler.connection.close()
    handler.close_connection = True


def stall(handler) -> None:
    sleep(0.6)
    handler.close_connection = True


def drip(handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with suppress(OSError):
        for _ in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            sleep(0.05)
    handler.close_connection = True


def dripping(begin: bytes, filler: bytes):
    """Return a fault that never comes to the end of what ``begin`` starts; a socket's timeout sees a byte each time."""

    def fault(handler) -> None:
        with suppress(OSError):
            handler.wfile.write(begin)
            for _ in range(200):
                handler.wfile.write(filler)
                handler.wfile.flush()
                sleep(0.05)
        handler.close_connection = True

    return fault


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
DRIPS = {
    "status line": dripping(b"HTTP/1.1 200 ", b"O"),
    "header": dripping(b"HTTP/1.1 200 OK\r\nServer: ", b"a"),
    "headers": dripping(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "interim answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "length of a chunk": dripping(CHUNKED + b"\r\n1;", b"a"),
    "trailer": dripping(CHUNKED + b"\r\n2\r\n{}\r\n0\r\n", b"A: b\r\n"),
    "name in a gzip header": dripping(
        CHUNKED + b"Content-Encoding: gzip\r\n\r\na\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0\r\n", b"1\r\na\r\n"
    ),
}


@pytest.mark.parametrize("fault", DRIPS.values(), ids=DRIPS)
def test_no_part_of_an_answer_that_comes_byte_by_byte_holds_a_thread_longer_than_an_answer_may_take(
    replay, fault
) -> None:
    faulty = Faulty(replay, fault)
    with serving(faulty.server):
        mine, started = client(faulty.base_url), monotonic()
        observation, raw = mine.fetch(SLOT, NOW)
        took = monotonic() - started
    assert (observation.reason, faulty.asked, raw) == (MissingReason.TIMEOUT, 3, b"")
    assert took < 3 * 2 * 0.3 + 1.5


def test_an_exchange_that_never_ends_its_list_of_markets_keeps_no_other_exchange_waiting(replay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(ReplayServer(replay.answer)) as server:
        endless = VenueClient(
            parse_venue("bitstamp:BTC/USD"), base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=5,
            rate_limit=False, backoff=Backoff(attempts=1),
        )  # fmt: skip
        held = threading.Thread(target=endless.fetch, args=(SLOT, NOW), daemon=True)
        held.start()
        connection, _ = silent.accept()
        with connection:
            started = monotonic()
            observation, _ = client(server.base_url).fetch(SLOT, NOW)
            assert isinstance(observation, Quote)
            assert monotonic() - started < 2
            assert held.is_alive()
    held.join(10)


def client(base_url: str, venue=VENUES[2], **more) -> VenueClient:
    quick = Backoff(attempts=3, first_seconds=0.001, most_seconds=0.002)
    return VenueClient(venue, base_url=base_url, rate_limit=False, timeout=0.3, backoff=quick, **more)


@pytest.mark.parametrize("venue", VENUES, ids=str)
def test_every_exchange_gives_its_closed_candle_and_the_bytes_behind_it(replay, venue) -> None:
    with serving(ReplayServer(replay.answer)) as server:
        observation, raw = client(server.base_url, venue).fetch(SLOT, NOW)
    assert isinstance(observation, LegQuote if venue.is_leg else Quote)
    assert observation.slot == SLOT
    assert observation.evidence == sha256(raw)


@pytest.mark.skipif(not DEPEG.is_dir(), reason=f"the recording is not here: {DEPEG}")
def test_the_worst_two_hours_of_the_depeg_go_through_server_and_clients_and_every_minute_is_priced() -> None:
    recording = read_candle_folder(DEPEG)
    start, minutes = Slot(1_678_514_400), Minutes(120)
    venues = venues_for_replay(recording, start, minutes)
    with serving(ReplayServer(Replay(recording.candles).answer)) as server:
        clients = [client(server.base_url, v) for v in venues.registered]
        for at in recording.slots(start, minutes):
            said = [c.fetch(at, UnixSeconds(at + 62))[0] for c in clients]
            price = agreed_price(said, registered=venues.registered, legs=venues.legs, rule=ConsensusRule(), slot=at)
            assert isinstance(price, AgreedPrice)
            assert [str(d.venue) for d in price.dropped] == ["kraken:BTC/USDC"]
            dollar = recording.candles[parse_venue("binanceus:BTC/USD")][at]
            assert float(dollar.low) * 99 <= price.price <= float(dollar.high) * 101


def test_a_minute_that_is_still_open_is_missing_although_the_exchange_sends_it(replay) -> None:
    with serving(ReplayServer(replay.answer)) as server:
        observation, raw = client(server.base_url).fetch(SLOT, UnixSeconds(SLOT + 59))
    assert observation.reason is MissingReason.NOT_CLOSED
    assert raw


FAULTS = [
    ("403", lambda h: reply(h, 403, b"<html>no</html>"), MissingReason.FORBIDDEN, 1),
    ("451", lambda h: reply(h, 451, b'{"code":0,"msg":"restricted location"}'), MissingReason.FORBIDDEN, 1),
    ("404", lambda h: reply(h, 404, b"{}"), MissingReason.CLIENT_ERROR, 1),
    ("302", lambda h: reply(h, 302, b"", Location="http://127.0.0.1:9/"), MissingReason.REDIRECTED, 1),
    ("418", lambda h: reply(h, 418, b"{}"), MissingReason.RATE_LIMITED, 1),
    ("429", lambda h: reply(h, 429, b"{}"), MissingReason.RATE_LIMITED, 1),
    ("500", lambda h: reply(h, 500, b"oops"), MissingReason.SERVER_ERROR, 3),
    ("503", lambda h: reply(h, 503, b""), MissingReason.SERVER_ERROR, 3),
    ("html", lambda h: reply(h, 200, b"<html>maintenance</html>"), MissingReason.MALFORMED, 1),
    ("empty", lambda h: reply(h, 200, b""), MissingReason.MALFORMED, 1),
    ("truncated json", lambda h: reply(h, 200, b'[[1700,"60000'), MissingReason.MALFORMED, 1),
    ("null", lambda h: reply(h, 200, b"null"), MissingReason.MALFORMED, 1),
    ("nan", lambda h: reply(h, 200, b"[[NaN, NaN]]"), MissingReason.MALFORMED, 1),
    ("not utf-8", lambda h: reply(h, 200, b"\xff\xfe\x00"), MissingReason.MALFORMED, 1),
    ("too large", lambda h: reply(h, 200, b"[" + b" " * MAX_RESPONSE_BYTES + b"]"), MissingReason.TOO_LARGE, 1),
    ("padded", lambda h: reply(h, 200, b"[]" + b" " * 96 * 1024), MissingReason.TOO_LARGE, 1),
    ("cut connection", cut_short, MissingReason.UNREACHABLE, 3),
]


@pytest.mark.parametrize("venue", VENUES[:3], ids=str)
@pytest.mark.parametrize(("fault", "reason", "asked"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_misbehaving_exchange_is_missing_with_its_reason_after_bounded_retries(
    replay, venue, fault, reason, asked
) -> None:
    faulty = Faulty(replay, fault)
    with serving(faulty.server):
        observation, _ = client(faulty.base_url, venue).fetch(SLOT, NOW)
    assert isinstance(observation, Missing)
    assert (observation.reason, faulty.asked) == (reason, asked)
    assert "\n" not in observation.detail


@pytest.mark.parametrize("fault", [stall, drip])
def test_an_exchange_that_keeps_us_waiting_is_a_timeout_also_when_it_sends_a_byte_now_and_then(replay, fault) -> None:
    faulty = Faulty(replay, fault)
    with serving(faulty.server):
        observation, _ = client(faulty.base_url).fetch(SLOT, NOW)
    assert (observation.reason, faulty.asked) == (MissingReason.TIMEOUT, 3)


def test_a_second_server_on_the_port_and_a_broken_folder_end_with_one_line_and_their_codes(replay, tmp_path) -> None:
    (tmp_path / "kraken-BTC-USD.csv").write_text("no header")
    command = [sys.executable, "-m", "btcfi.adapters.venues.replay_server", "--folder"]
    with serving(ReplayServer(replay.answer)) as server:
        taken = subprocess.run(
            [*command, str(SYNTHETIC_CANDLES), "--port", str(server.server_port)], check=False, capture_output=True
        )
    broken = subprocess.run([*command, str(tmp_path)], check=False, capture_output=True)
    assert (taken.returncode, broken.returncode) == (71, 2)
    assert taken.stderr.count(b"\n") == broken.stderr.count(b"\n") == 1


def test_what_passes_is_asked_again_and_the_quote_comes(replay) -> None:
    faulty = Faulty(replay, lambda h: reply(h, 503, b""), first_times=2)
    with serving(faulty.server):
        observation, _ = client(faulty.base_url).fetch(SLOT, NOW)
    assert isinstance(observation, Quote)
    assert faulty.asked == 3


def test_an_exchange_that_is_down_is_unreachable_and_comes_back_with_the_same_client(replay) -> None:
    with serving(ReplayServer(replay.answer)) as server:
        port, venue = server.server_port, client(server.base_url)
        assert isinstance(venue.fetch(SLOT, NOW)[0], Quote)
    venue.close()
    observation, raw = venue.fetch(SLOT, NOW)
    assert (observation.reason, raw) == (MissingReason.UNREACHABLE, b"")
    with serving(ReplayServer(replay.answer, port=port)):
        assert isinstance(venue.fetch(SLOT, NOW)[0], Quote)


def test_a_market_that_the_exchange_does_not_have_is_named_so(replay) -> None:
    with serving(ReplayServer(replay.answer)) as server:
        observation, _ = client(server.base_url, parse_venue("kraken:BTC/USDC")).fetch(SLOT, NOW)
    assert observation.reason is MissingReason.UNKNOWN_MARKET


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(replay, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(start).not_valid_after(start + dt.timedelta(days=36500)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ReplayServer(replay.answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        observation, _ = client(f"https://127.0.0.1:{server.server_port}").fetch(SLOT, NOW)
    assert observation.reason is MissingReason.TLS


def test_threads_have_their_own_clients_and_share_what_was_loaded(replay) -> None:
    seen: dict[int, VenueClient] = {}
    with serving(ReplayServer(replay.answer)) as server:

        def work(i: int) -> None:
            mine = venue_client(VENUES[2], base_url=server.base_url, rate_limit=False)
            assert mine is venue_client(VENUES[2], base_url=server.base_url, rate_limit=False)
            assert isinstance(mine.fetch(SLOT, NOW)[0], Quote)
            seen[i] = mine

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert len({id(c) for c in seen.values()}) == 4


def http_date(at: int) -> str:
    return formatdate(at, usegmt=True)


def reply_at(handler, at: int, body: bytes) -> None:
    """Answer as an exchange whose clock says ``at``."""
    handler.send_response_only(200)
    for name, value in (("Date", http_date(at)), ("Content-Length", str(len(body)))):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


NOTHING_YET = b'{"error":[],"result":{"XXBTZUSD":[],"last":0}}'


def candles_of(replay: Replay, venue) -> bytes:
    return replay.answer(candle_target(venue, SLOT), SLOT)[1]


def test_a_minute_that_the_exchange_publishes_late_is_asked_for_again_and_comes(replay) -> None:
    faulty = Faulty(replay, lambda h: reply_at(h, SLOT + 63, NOTHING_YET), first_times=2)
    with serving(faulty.server):
        observation, _ = client(faulty.base_url).fetch(SLOT, NOW)
    assert isinstance(observation, Quote)
    assert faulty.asked == 3


def test_a_minute_that_stays_away_is_not_yet_there_and_the_asking_has_an_end(replay) -> None:
    faulty = Faulty(replay, lambda h: reply_at(h, SLOT + 63, NOTHING_YET))
    with serving(faulty.server):
        observation, raw = client(faulty.base_url).fetch(SLOT, NOW)
    assert (observation.reason, faulty.asked) == (MissingReason.NOT_YET, 3)
    assert observation.evidence == sha256(raw)


@pytest.mark.parametrize("status", [418, 429])
@pytest.mark.parametrize("header", [lambda now: "150", lambda now: http_date(now + 150)], ids=["seconds", "date"])
def test_an_exchange_that_says_wait_is_asked_nothing_before_then_also_not_for_later_minutes(
    replay, status, header
) -> None:
    told = Faulty(replay, lambda h: reply(h, status, b"{}", **{"Retry-After": header(int(time()))}), first_times=1)
    with serving(told.server):
        mine = client(told.base_url)
        first, _ = mine.fetch(SLOT, NOW)
        until = mine.waits_until
        assert (first.reason, told.asked) == (MissingReason.ASKED_TO_WAIT, 1)
        assert until - NOW in range(148, 152)
        assert first.detail.endswith(iso8601(until))
        others = client(told.base_url)  # another thread's
        for minute in (1, 2):
            again, raw = others.fetch(Slot(SLOT + 60 * minute), UnixSeconds(until - 1))
            assert (again.reason, raw, told.asked) == (MissingReason.ASKED_TO_WAIT, b"", 1)
        assert isinstance(mine.fetch(SLOT, until)[0], Quote)


@pytest.mark.parametrize("text", ["", "-1", "soon", "1.5", "²", "Thu, 99 Zzz 9999"])
def test_a_retry_after_that_nobody_can_read_is_no_time_and_the_next_minute_is_asked(replay, text) -> None:
    faulty = Faulty(replay, lambda h: reply(h, 429, b"{}", **{"Retry-After": text}), first_times=1)
    with serving(faulty.server):
        mine = client(faulty.base_url)
        assert mine.fetch(SLOT, NOW)[0].reason is MissingReason.RATE_LIMITED
        assert isinstance(mine.fetch(SLOT, NOW)[0], Quote)


def test_no_header_silences_us_for_longer_than_the_longest_ban(replay) -> None:
    faulty = Faulty(replay, lambda h: reply(h, 429, b"{}", **{"Retry-After": "9" * 300}), first_times=1)
    with serving(faulty.server):
        mine = client(faulty.base_url)
        mine.fetch(SLOT, NOW)
        assert mine.waits_until == NOW + LONGEST_WAIT


def test_a_cluster_whose_clock_is_fast_does_not_take_the_open_candle(replay) -> None:
    row = json.loads(candles_of(replay, VENUES[2]))["result"]["XXBTZUSD"][0]
    alone = json.dumps({"error": [], "result": {"XXBTZUSD": [row], "last": 0}}).encode()

    faulty = Faulty(replay, lambda h: reply_at(h, SLOT + 52, alone))
    with serving(faulty.server):
        observation, raw = client(faulty.base_url).fetch(SLOT, NOW)
    assert observation.reason is MissingReason.NOT_CLOSED
    assert "8 s" in observation.detail
    # neither does who reads the evidence later, whatever time it claims
    later = read_response(
        exchange_of("kraken"), raw, venue=VENUES[2], slot=SLOT, now=UnixSeconds(SLOT + 600), evidence=sha256(raw)
    )
    assert later.reason is MissingReason.NOT_CLOSED


def test_a_warning_of_kraken_does_not_discard_its_good_rows_and_an_error_does(replay) -> None:
    document = json.loads(candles_of(replay, VENUES[2]))
    for lines, kind in ((["WGeneral:Deprecated"], Quote), (["WGeneral:Deprecated", "EService:Busy"], Missing)):
        body = json.dumps({**document, "error": lines}).encode()
        faulty = Faulty(replay, lambda h, body=body: reply(h, 200, body))
        with serving(faulty.server):
            assert isinstance(client(faulty.base_url).fetch(SLOT, NOW)[0], kind)
